/* Matrix products as large as tiles are counted: more than 4,096 columns and 768 rows, sums longer
 * than a chunk. Two dimensions are large at a time and the third is small, so that plain loops in
 * double can say what comes out. */
#include "core/rng.h"
#include "ops/ops.h"
#include "tests/ops/op_kinds.h"
#include "tests/support/test.h"

typedef struct Shape {
    int64_t rows, outs, ins;
} Shape;

/* Forward's, the input's gradient and the weight's each have the large sides once; the last is a
 * sum over many rows in chunks and a tail. */
static const Shape SHAPES[] = {{803, 4217, 6}, {803, 6, 4217}, {6, 803, 4217}, {2115, 37, 35}};

typedef struct Matrix {
    Tensor t;
    double *value; /* what the tensor holds */
} Matrix;

static Matrix matrix_new(DType dtype, int64_t rows, int64_t cols, uint64_t stream) {
    size_t count = (size_t)(rows * cols);
    Matrix m = {tensor(calloc(count, sizeof(float)), dtype, rows, cols),
                calloc(count, sizeof(double))};
    ASSERT_TRUE(m.t.data && m.value);
    Rng rng;
    rng_open(&rng, 17, RNG_TEST, stream);
    for (int64_t i = 0; i < rows * cols; i++) {
        tensor_set(m.t, i / cols, i % cols, 2 * rng_uniform(&rng) - 1);
        m.value[i] = tensor_get(m.t, i / cols, i % cols);
    }
    return m;
}

static void matrix_free(Matrix *m) {
    free(m->t.data);
    free(m->value);
}

/* Σ_k a[r, k] b[k, c], with what a and b move by from row to row, from column to column, from k to
 * k. */
typedef struct Sum {
    const double *a, *b;
    int64_t length, a_row, a_k, b_col, b_k;
} Sum;

static void check(const char *what, Tensor found, double start, const double *bias, const Sum *s) {
    /* Sums in f32 of terms that may cancel; bf16 is rounded once, to 8 bits. */
    double of_terms = found.dtype == DT_F32 ? 1e-6 : 1e-5,
           of_sum = found.dtype == DT_F32 ? 0 : 0x1p-8;
    for (int64_t r = 0; r < found.rows; r++)
        for (int64_t c = 0; c < found.cols; c++) {
            double sum = start + (bias ? bias[c] : 0), size = 1;
            for (int64_t k = 0; k < s->length; k++) {
                double term = s->a[r * s->a_row + k * s->a_k] * s->b[c * s->b_col + k * s->b_k];
                sum += term;
                size += fabs(term);
            }
            double got = tensor_get(found, r, c), room = of_terms * size + of_sum * fabs(sum);
            ASSERT(fabs(got - sum) <= room, "%s[%ld, %ld] is %.9g, the loops give %.9g", what,
                   (long)r, (long)c, got, sum);
        }
}

static void check_shape(Exec *ex, const Shape *shape, DType dtype) {
    int64_t rows = shape->rows, outs = shape->outs, ins = shape->ins;
    Matrix x = matrix_new(dtype, rows, ins, 1), w = matrix_new(dtype, outs, ins, 2),
           bias = matrix_new(dtype, 1, outs, 3), y = matrix_new(dtype, rows, outs, 4),
           dy = matrix_new(dtype, rows, outs, 5), dx = matrix_new(dtype, rows, ins, 6),
           dw = matrix_new(DT_F32, outs, ins, 7), db = matrix_new(DT_F32, 1, outs, 8);
    tensor_fill(dw.t, 0.5);
    tensor_fill(db.t, 0.25);
    op_linear_fwd(ex, y.t, x.t, w.t, bias.t);
    op_linear_bwd_x(ex, dx.t, dy.t, w.t, false);
    op_linear_bwd_w(ex, dw.t, db.t, dy.t, x.t);
    ASSERT_OK(exec_status(ex));
    check("y", y.t, 0, bias.value, &(Sum){x.value, w.value, ins, ins, 1, ins, 1});
    check("dx", dx.t, 0, NULL, &(Sum){dy.value, w.value, outs, outs, 1, 1, ins});
    check("dw", dw.t, 0.5, NULL, &(Sum){dy.value, x.value, rows, 1, outs, 1, ins});
    double *ones = malloc((size_t)rows * sizeof *ones);
    for (int64_t i = 0; i < rows; i++) ones[i] = 1;
    check("dbias", db.t, 0.25, NULL, &(Sum){ones, dy.value, rows, 0, 1, 1, outs});
    free(ones);
    Matrix *all[] = {&x, &w, &bias, &y, &dy, &dx, &dw, &db};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) matrix_free(all[i]);
}

/* With what `isa` allows of the processor; false where it then lacks the type. */
static bool check_on(const char *isa, DType dtype) {
    Exec *ex;
    setenv("CADVLM_CPU_ISA", isa, 1);
    ASSERT_OK(exec_open(&ex, EXEC_CPU, 2));
    bool there = exec_has_dtype(ex, dtype);
    for (size_t i = 0; i < sizeof SHAPES / sizeof SHAPES[0] && there; i++)
        check_shape(ex, &SHAPES[i], dtype);
    printf("%s in %s%s\n", exec_description(ex), dtype_name(dtype), there ? "" : ": not there");
    exec_close(&ex);
    return there;
}

TEST(products_of_many_tiles_are_those_of_the_loops_in_f32) {
    ASSERT_TRUE(check_on("avx2", DT_F32));
}

TEST(products_of_many_tiles_are_those_of_the_loops_in_bf16) {
    if (!check_on("avx512", DT_BF16)) test_skip("this processor does not multiply bf16");
    ASSERT_TRUE(check_on("amx", DT_BF16)); /* where it has tile registers, our own product */
}
