/* The plain loops: what every operation means, in double. */
#include "tests/op_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"

enum { GUARD = 64 }; /* elements before and after every tensor */
static const double GUARD_VALUE = -7777;

/* ---- building ---- */

static Operand *add(OpTest *t, const char *name, Role role, int64_t rows, int64_t cols) {
    CHECK(t->operand_count < OPERANDS_MAX, "operands of %s", t->kind->name);
    Operand *o = &t->operands[t->operand_count++];
    *o = (Operand){.name = name, .role = role, .rows = rows, .cols = cols, .low = -1, .high = 1};
    return o;
}

static Operand *add_f32(OpTest *t, const char *name, Role role, int64_t rows, int64_t cols) {
    Operand *o = add(t, name, role, rows, cols);
    o->f32 = true;
    return o;
}

static int32_t *add_ints(OpTest *t, int slot, int64_t count) {
    t->ints[slot] = calloc((size_t)count + 1, sizeof(int32_t));
    CHECK(t->ints[slot], "out of memory");
    return t->ints[slot];
}

double tensor_get(Tensor t, int64_t row, int64_t col) {
    int64_t at = row * t.stride + col;
    if (t.dtype == DT_F32) return (double)((const float *)t.data)[at];
    uint32_t bits = (uint32_t)((const uint16_t *)t.data)[at] << 16;
    float x;
    memcpy(&x, &bits, 4);
    return (double)x;
}

void tensor_set(Tensor t, int64_t row, int64_t col, double value) {
    int64_t at = row * t.stride + col;
    float x = (float)value;
    if (t.dtype == DT_F32) {
        ((float *)t.data)[at] = x;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = isnan(x) ? 0x7FC00000u : bits + 0x7FFF + (bits >> 16 & 1);
    ((uint16_t *)t.data)[at] = (uint16_t)(bits >> 16);
}

static Tensor guarded(int64_t rows, int64_t cols, DType dtype) {
    size_t bytes = (size_t)(rows * cols + 2 * GUARD) * dtype_size(dtype);
    char *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    CHECK(memory, "out of memory: a tensor");
    Tensor all = tensor(memory, dtype, 1, rows * cols + 2 * GUARD);
    for (int64_t i = 0; i < all.cols; i++) tensor_set(all, 0, i, GUARD_VALUE);
    return tensor(memory + GUARD * dtype_size(dtype), dtype, rows, cols);
}

static void fill(Tensor t, double value) {
    for (int64_t r = 0; r < t.rows; r++)
        for (int64_t c = 0; c < t.cols; c++) tensor_set(t, r, c, value);
}

static bool is_given(const Operand *o) {
    return o->role == ROLE_INPUT || o->role == ROLE_PARAM || o->role == ROLE_FIXED;
}

void op_test_open(OpTest *test, const OpKind *kind, const int64_t *dim, DType dtype,
                  uint64_t seed) {
    *test = (OpTest){.kind = kind, .dtype = dtype};
    memcpy(test->dim, dim, sizeof test->dim);
    kind->setup(test);
    Rng rng;
    rng_open(&rng, seed, RNG_TEST, 0);
    for (int i = 0; i < test->operand_count; i++) {
        Operand *o = &test->operands[i];
        DType own = o->f32 || o->role == ROLE_SAVED ? DT_F32 : dtype;
        o->t = guarded(o->rows, o->cols, own);
        o->grad = guarded(o->rows, o->cols, o->role == ROLE_PARAM ? DT_F32 : own);
        o->value = calloc((size_t)(o->rows * o->cols) + 1, sizeof *o->value);
        CHECK(o->value, "out of memory");
        for (int64_t r = 0; r < o->rows && is_given(o); r++)
            for (int64_t c = 0; c < o->cols; c++) {
                tensor_set(o->t, r, c, o->low + (o->high - o->low) * rng_uniform(&rng));
                o->value[r * o->cols + c] = tensor_get(o->t, r, c);
            }
    }
}

void op_test_forward(Exec *ex, OpTest *test) {
    if (test->kind->prepare) test->kind->prepare(test, false);
    test->kind->forward(ex, test);
}

void op_test_backward(Exec *ex, OpTest *test) {
    if (test->kind->prepare) test->kind->prepare(test, true);
    test->kind->backward(ex, test);
    if (test->kind->finish) test->kind->finish(test);
}

void op_test_close(OpTest *test) {
    for (int i = 0; i < test->operand_count; i++) {
        Operand *o = &test->operands[i];
        free((char *)o->t.data - GUARD * dtype_size(o->t.dtype));
        free((char *)o->grad.data - GUARD * dtype_size(o->grad.dtype));
        free(o->value);
    }
    for (int i = 0; i < 4; i++) free(test->ints[i]);
    free(test->bytes);
    free(test->table);
}

void op_test_spoil(OpTest *test) {
    for (int i = 0; i < test->operand_count; i++) {
        Operand *o = &test->operands[i];
        if (!is_given(o)) fill(o->t, NAN);
        if (o->role != ROLE_OUTPUT)
            fill(o->grad, o->role == ROLE_PARAM || test->accumulate ? 1 : NAN);
    }
}

bool op_test_guard_broken(const OpTest *test, char what[128]) {
    for (int i = 0; i < test->operand_count; i++) {
        const Operand *o = &test->operands[i];
        for (int which = 0; which < 2; which++) {
            Tensor t = which ? o->grad : o->t;
            Tensor all = tensor((char *)t.data - GUARD * dtype_size(t.dtype), t.dtype, 1,
                                t.rows * t.cols + 2 * GUARD);
            double expected = tensor_get(tensor((float[]){(float)GUARD_VALUE}, DT_F32, 1, 1), 0, 0);
            if (t.dtype == DT_BF16) {
                uint16_t narrow;
                Tensor one = tensor(&narrow, DT_BF16, 1, 1);
                tensor_set(one, 0, 0, GUARD_VALUE);
                expected = tensor_get(one, 0, 0);
            }
            for (int64_t k = 0; k < GUARD; k++)
                for (int side = 0; side < 2; side++) {
                    int64_t at = side ? all.cols - 1 - k : k;
                    if (tensor_get(all, 0, at) == expected) continue;
                    snprintf(what, 128, "%s%s %s its end", which ? "gradient of " : "", o->name,
                             side ? "behind" : "before");
                    return true;
                }
        }
    }
    return false;
}

void op_test_name(const OpTest *test, char out[128]) {
    int used = snprintf(out, 128, "%s", test->kind->name);
    for (int i = 0; i < CASE_DIMS; i++)
        used += snprintf(out + used, 128 - (size_t)used, " %ld", (long)test->dim[i]);
    snprintf(out + used, 128 - (size_t)used, " %s", dtype_name(test->dtype));
}

#define V(i) (t->operands[i].value)
#define T(i) (t->operands[i].t)
#define G(i) (t->operands[i].grad)
#define D(i) (t->dim[i])

/* ---- linear: T N K bias? ---- */

static void linear_setup(OpTest *t) {
    add(t, "x", ROLE_INPUT, D(0), D(2));
    add(t, "w", ROLE_PARAM, D(1), D(2));
    add(t, "y", ROLE_OUTPUT, D(0), D(1));
    if (D(3)) add(t, "bias", ROLE_PARAM, 1, D(1));
}

static void linear_reference(OpTest *t) {
    for (int64_t r = 0; r < D(0); r++)
        for (int64_t n = 0; n < D(1); n++) {
            double sum = D(3) ? V(3)[n] : 0;
            for (int64_t k = 0; k < D(2); k++) sum += V(0)[r * D(2) + k] * V(1)[n * D(2) + k];
            V(2)[r * D(1) + n] = sum;
        }
}

static void linear_forward(Exec *ex, OpTest *t) {
    op_linear_fwd(ex, T(2), T(0), T(1), D(3) ? T(3) : tensor_none());
}

static void linear_backward(Exec *ex, OpTest *t) {
    op_linear_bwd_x(ex, G(0), G(2), T(1), t->accumulate);
    op_linear_bwd_w(ex, G(1), D(3) ? G(3) : tensor_none(), G(2), T(0));
}

static void linear_accumulate_setup(OpTest *t) {
    linear_setup(t);
    t->accumulate = true;
}

static double linear_flops(const OpTest *t) {
    return 2.0 * (double)D(0) * (double)D(1) * (double)D(2);
}

/* ---- lora: T N K r dropout% ---- */

static const float LORA_SCALE = 2.0f;

static Dropout lora_dropout(const OpTest *t) {
    return (Dropout){.p = (float)D(4) / 100.0f, .key = 99};
}

static void lora_setup(OpTest *t) {
    add(t, "x", ROLE_INPUT, D(0), D(2));
    add(t, "a", ROLE_PARAM, D(3), D(2));
    add(t, "b", ROLE_PARAM, D(1), D(3));
    add(t, "y", ROLE_OUTPUT, D(0), D(1));
    add(t, "xa", ROLE_SAVED, D(0), D(3));
    t->accumulate = true; /* y and dx both */
}

static void lora_reference(OpTest *t) {
    Dropout dropout = lora_dropout(t);
    uint32_t threshold = (uint32_t)((double)dropout.p * 4294967296.0);
    double *dropped = calloc((size_t)D(2), sizeof *dropped), *xa = calloc((size_t)D(3), sizeof *xa);
    CHECK(dropped && xa, "out of memory");
    for (int64_t r = 0; r < D(0); r++) {
        for (int64_t k = 0; k < D(2); k++) {
            uint32_t words[4];
            rng_block(words, dropout.key, (uint64_t)r, (uint64_t)(k / 4));
            dropped[k] =
                words[k % 4] < threshold ? 0 : V(0)[r * D(2) + k] / (1.0 - (double)dropout.p);
        }
        for (int64_t i = 0; i < D(3); i++) {
            xa[i] = 0;
            for (int64_t k = 0; k < D(2); k++) xa[i] += dropped[k] * V(1)[i * D(2) + k];
        }
        for (int64_t n = 0; n < D(1); n++) {
            double sum = 0;
            for (int64_t i = 0; i < D(3); i++) sum += xa[i] * V(2)[n * D(3) + i];
            V(3)[r * D(1) + n] = (double)LORA_SCALE * sum;
        }
    }
    free(dropped);
    free(xa);
}

/* xa has the compute type; the case keeps it f32 in f32 and builds it over the same memory in bf16.
 */
static Tensor lora_xa(OpTest *t) {
    Tensor xa = T(4);
    xa.dtype = t->dtype;
    return xa;
}

static void lora_prepare(OpTest *t, bool backward) {
    if (!backward) fill(T(3), 0);
}

static void lora_forward(Exec *ex, OpTest *t) {
    op_lora_fwd(ex, T(3), lora_xa(t), T(0), T(1), T(2), LORA_SCALE, lora_dropout(t));
}

static void lora_backward(Exec *ex, OpTest *t) {
    op_lora_bwd(ex, G(0), G(1), G(2), G(3), lora_xa(t), T(0), T(1), T(2), LORA_SCALE,
                lora_dropout(t));
}

static double lora_flops(const OpTest *t) {
    return 2.0 * (double)D(0) * (double)D(3) * (double)(D(1) + D(2));
}

/* ---- norms: T C delta? ---- */

static const float EPS = 1e-5f;

static void norm_setup(OpTest *t, bool bias) {
    add(t, "h", ROLE_INPUT, D(0), D(1));
    add(t, "w", ROLE_PARAM, 1, D(1));
    add(t, "out", ROLE_OUTPUT, D(0), D(1));
    add(t, "stats", ROLE_SAVED, D(0), bias ? 2 : 1);
    add(t, "sum", D(2) ? ROLE_OUTPUT : ROLE_FIXED, D(0), D(1));
    add(t, "delta", D(2) ? ROLE_INPUT : ROLE_FIXED, D(0), D(1));
    if (bias) add(t, "bias", ROLE_PARAM, 1, D(1));
}

static void rmsnorm_setup(OpTest *t) {
    norm_setup(t, false);
}

static void layernorm_setup(OpTest *t) {
    norm_setup(t, true);
}

/* The stored sum is rounded to the compute type before it is normalised. */
static double rounded(const OpTest *t, double x) {
    uint16_t memory;
    if (t->dtype == DT_F32) return x;
    Tensor one = tensor(&memory, DT_BF16, 1, 1);
    tensor_set(one, 0, 0, x);
    return tensor_get(one, 0, 0);
}

static void norm_reference(OpTest *t, bool centred) {
    int64_t n = D(1);
    for (int64_t r = 0; r < D(0); r++) {
        double *x = V(4) + r * n, mean = 0, squares = 0;
        for (int64_t i = 0; i < n; i++) {
            x[i] = D(2) ? V(0)[r * n + i] + V(5)[r * n + i] : V(0)[r * n + i];
            mean += centred ? x[i] / (double)n : 0;
        }
        for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean) / (double)n;
        double scale = 1 / sqrt(squares + (double)EPS);
        for (int64_t i = 0; i < n; i++)
            V(2)[r * n + i] = (x[i] - mean) * scale * V(1)[i] + (centred ? V(6)[i] : 0);
    }
}

static void rmsnorm_reference(OpTest *t) {
    norm_reference(t, false);
}

static void layernorm_reference(OpTest *t) {
    norm_reference(t, true);
}

static void rmsnorm_forward(Exec *ex, OpTest *t) {
    op_rmsnorm_fwd(ex, T(2), D(2) ? T(4) : tensor_none(), T(3), T(0), D(2) ? T(5) : tensor_none(),
                   T(1), EPS);
}

static void layernorm_forward(Exec *ex, OpTest *t) {
    op_layernorm_fwd(ex, T(2), D(2) ? T(4) : tensor_none(), T(3), T(0), D(2) ? T(5) : tensor_none(),
                     T(1), T(6), EPS);
}

static void copy_values(Tensor to, Tensor from) {
    for (int64_t r = 0; r < to.rows; r++)
        for (int64_t c = 0; c < to.cols; c++) tensor_set(to, r, c, tensor_get(from, r, c));
}

/* With delta, the gradient of sum arrives from above and both h and delta get the total. */
static void norm_prepare(OpTest *t, bool backward) {
    if (backward && D(2)) copy_values(G(0), G(4));
}

static void norm_finish(OpTest *t) {
    if (D(2)) copy_values(G(5), G(0));
}

static void rmsnorm_backward(Exec *ex, OpTest *t) {
    op_rmsnorm_bwd(ex, G(0), D(2) != 0, G(1), G(2), D(2) ? T(4) : T(0), T(3), T(1));
}

static void layernorm_backward(Exec *ex, OpTest *t) {
    op_layernorm_bwd(ex, G(0), D(2) != 0, G(1), G(6), G(2), D(2) ? T(4) : T(0), T(3), T(1));
}

/* ---- add: T C ---- */

static void add_setup(OpTest *t) {
    add(t, "a", ROLE_FIXED, D(0), D(1));
    add(t, "b", ROLE_FIXED, D(0), D(1));
    add(t, "out", ROLE_OUTPUT, D(0), D(1));
}

static void add_reference(OpTest *t) {
    for (int64_t i = 0; i < D(0) * D(1); i++) V(2)[i] = V(0)[i] + V(1)[i];
}

static void add_forward(Exec *ex, OpTest *t) {
    op_add(ex, T(2), T(0), T(1));
}

/* ---- qk_rope: T Hq Hk D rotary norm? ---- */

static RopeSpec rope_spec(const OpTest *t) {
    return (RopeSpec){.heads_q = (int)D(1),
                      .heads_k = (int)D(2),
                      .head_dim = (int)D(3),
                      .rotary_dim = (int)D(4),
                      .table = t->table,
                      .positions = t->ints[0],
                      .eps = EPS};
}

static void qk_rope_setup(OpTest *t) {
    int64_t width = (D(1) + D(2)) * D(3);
    add(t, "qkv", ROLE_INPUT, D(0), width);
    add(t, "qk", ROLE_OUTPUT, D(0), width);
    add(t, "rstd", ROLE_SAVED, D(0), D(1) + D(2));
    add(t, "wq", D(5) ? ROLE_PARAM : ROLE_FIXED, 1, D(3));
    add(t, "wk", D(5) ? ROLE_PARAM : ROLE_FIXED, 1, D(3));
    int32_t *positions = add_ints(t, 0, D(0));
    for (int64_t r = 0; r < D(0); r++) positions[r] = (int32_t)(r % 7);
    t->table = calloc(7 * (size_t)(D(4) + 1), sizeof(float));
    CHECK(t->table, "out of memory");
    rope_table(t->table, 7, (int)D(4), 100);
}

static void qk_rope_reference(OpTest *t) {
    int64_t n = D(3), half = D(4) / 2, heads = D(1) + D(2);
    for (int64_t r = 0; r < D(0); r++)
        for (int64_t h = 0; h < heads; h++) {
            const double *x = V(0) + (r * heads + h) * n, *w = h < D(1) ? V(3) : V(4);
            double *y = V(1) + (r * heads + h) * n, squares = 0;
            for (int64_t i = 0; i < n; i++) squares += x[i] * x[i] / (double)n;
            double scale = 1 / sqrt(squares + (double)EPS);
            for (int64_t i = 0; i < n; i++) y[i] = D(5) ? x[i] * scale * w[i] : x[i];
            for (int64_t i = 0; i < half; i++) {
                double angle = (double)t->ints[0][r] * pow(100, -2.0 * (double)i / (double)D(4));
                double a = y[i], b = y[half + i];
                y[i] = a * cos(angle) - b * sin(angle);
                y[half + i] = b * cos(angle) + a * sin(angle);
            }
        }
}

static void qk_rope_forward(Exec *ex, OpTest *t) {
    RopeSpec spec = rope_spec(t);
    op_qk_rope_fwd(ex, T(1), D(5) ? T(2) : tensor_none(), T(0), D(5) ? T(3) : tensor_none(),
                   D(5) ? T(4) : tensor_none(), &spec);
}

static void qk_rope_backward(Exec *ex, OpTest *t) {
    RopeSpec spec = rope_spec(t);
    Tensor none = tensor_none();
    op_qk_rope_bwd(ex, G(0), D(5) ? G(3) : none, D(5) ? G(4) : none, G(1), T(0), D(5) ? T(2) : none,
                   D(5) ? T(3) : none, D(5) ? T(4) : none, &spec);
}

/* ---- attention: sequences longest Hq Hk D causal ---- */

/* Sequence s has 1 + (longest - 1 - 5 s) mod longest rows: ragged, the first is the longest. */
static int64_t sequence_length(const OpTest *t, int64_t s) {
    int64_t longest = D(1), cut = 5 * s % longest;
    return longest - cut;
}

static void attention_setup(OpTest *t) {
    int32_t *starts = add_ints(t, 0, D(0) + 1);
    for (int64_t s = 0; s < D(0); s++) starts[s + 1] = starts[s] + (int32_t)sequence_length(t, s);
    int64_t rows = starts[D(0)];
    add(t, "q", ROLE_INPUT, rows, D(2) * D(4))->high = 2;
    add(t, "k", ROLE_INPUT, rows, D(3) * D(4))->high = 2;
    add(t, "v", ROLE_INPUT, rows, D(3) * D(4));
    add(t, "out", ROLE_OUTPUT, rows, D(2) * D(4));
    add(t, "lse", ROLE_SAVED, rows, D(2));
}

static AttentionSpec attention_spec(const OpTest *t) {
    return (AttentionSpec){.sequences = (int)D(0),
                           .heads_q = (int)D(2),
                           .heads_k = (int)D(3),
                           .head_dim = (int)D(4),
                           .starts_q = t->ints[0],
                           .starts_k = t->ints[0],
                           .longest_q = (int)D(1),
                           .longest_k = (int)D(1),
                           .causal = D(5) != 0,
                           .scale = 1.0f / sqrtf((float)D(4))};
}

static void attention_reference(OpTest *t) {
    int64_t d = D(4), wq = D(2) * d, wk = D(3) * d;
    double scale = (double)attention_spec(t).scale,
           *weights = calloc((size_t)D(1), sizeof *weights);
    CHECK(weights, "out of memory");
    for (int64_t s = 0; s < D(0); s++)
        for (int64_t i = t->ints[0][s]; i < t->ints[0][s + 1]; i++)
            for (int64_t h = 0; h < D(2); h++) {
                int64_t first = t->ints[0][s], end = D(5) ? i + 1 : t->ints[0][s + 1],
                        hk = h / (D(2) / D(3));
                double top = -INFINITY, sum = 0;
                for (int64_t j = first; j < end; j++) {
                    double dot = 0;
                    for (int64_t c = 0; c < d; c++)
                        dot += V(0)[i * wq + h * d + c] * V(1)[j * wk + hk * d + c];
                    weights[j - first] = dot * scale;
                    top = fmax(top, dot * scale);
                }
                for (int64_t j = first; j < end; j++)
                    sum += weights[j - first] = exp(weights[j - first] - top);
                for (int64_t c = 0; c < d; c++) {
                    double value = 0;
                    for (int64_t j = first; j < end; j++)
                        value += weights[j - first] / sum * V(2)[j * wk + hk * d + c];
                    V(3)[i * wq + h * d + c] = value;
                }
            }
    free(weights);
}

static void attention_forward(Exec *ex, OpTest *t) {
    AttentionSpec spec = attention_spec(t);
    op_attention_fwd(ex, T(3), T(4), T(0), T(1), T(2), &spec);
}

static void attention_backward(Exec *ex, OpTest *t) {
    AttentionSpec spec = attention_spec(t);
    op_attention_bwd(ex, G(0), G(1), G(2), G(3), T(3), T(4), T(0), T(1), T(2), &spec);
}

static double attention_flops(const OpTest *t) {
    double pairs = 0;
    for (int64_t s = 0; s < D(0); s++) {
        double n = (double)sequence_length(t, s);
        pairs += D(5) ? n * (n + 1) / 2 : n * n;
    }
    return 4.0 * pairs * (double)(D(2) * D(4));
}

/* ---- act, glu: T C kind ---- */

static double act_value(Activation kind, double x) {
    switch (kind) {
    case ACT_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case ACT_GELU_ERF: return 0.5 * x * (1 + erf(x / sqrt(2)));
    case ACT_GELU_QUICK: return x / (1 + exp(-1.702 * x));
    case ACT_SILU: return x / (1 + exp(-x));
    }
    return NAN;
}

static void act_setup(OpTest *t) {
    Operand *x = add(t, "x", ROLE_INPUT, D(0), D(1));
    x->low = -5;
    x->high = 5;
    add(t, "out", ROLE_OUTPUT, D(0), D(1));
}

static void act_reference(OpTest *t) {
    for (int64_t i = 0; i < D(0) * D(1); i++) V(1)[i] = act_value((Activation)D(2), V(0)[i]);
}

static void act_forward(Exec *ex, OpTest *t) {
    op_act_fwd(ex, T(1), T(0), (Activation)D(2));
}

static void act_backward(Exec *ex, OpTest *t) {
    op_act_bwd(ex, G(0), G(1), T(0), (Activation)D(2));
}

static void glu_setup(OpTest *t) {
    Operand *x = add(t, "x", ROLE_INPUT, D(0), 2 * D(1));
    x->low = -5;
    x->high = 5;
    add(t, "out", ROLE_OUTPUT, D(0), D(1));
}

static void glu_reference(OpTest *t) {
    int64_t n = D(1);
    for (int64_t r = 0; r < D(0); r++) {
        const double *gate = V(0) + 2 * r * n, *up = gate + n;
        double *out = V(1) + r * n;
        for (int64_t i = 0; i < n; i++) out[i] = act_value((Activation)D(2), gate[i]) * up[i];
    }
}

static void glu_forward(Exec *ex, OpTest *t) {
    op_glu_fwd(ex, T(1), T(0), (Activation)D(2));
}

static void glu_backward(Exec *ex, OpTest *t) {
    op_glu_bwd(ex, G(0), G(1), T(0), (Activation)D(2));
}

/* ---- patchify: images size channels patch ---- */

static PatchSpec patch_spec(const OpTest *t) {
    return (PatchSpec){.images = (int)D(0),
                       .image_size = (int)D(1),
                       .channels = (int)D(2),
                       .patch = (int)D(3),
                       .mean = {0.48f, 0.46f, 0.41f},
                       .std = {0.27f, 0.26f, 0.28f}};
}

static void patchify_setup(OpTest *t) {
    int64_t side = D(1) / D(3), count = D(0) * D(1) * D(1) * D(2);
    add(t, "patches", ROLE_OUTPUT, D(0) * side * side, D(2) * D(3) * D(3));
    t->bytes = calloc((size_t)count + 1, 1);
    CHECK(t->bytes, "out of memory");
    for (int64_t i = 0; i < count; i++) t->bytes[i] = (uint8_t)(i * 31 + i / 256);
}

static void patchify_reference(OpTest *t) {
    PatchSpec spec = patch_spec(t);
    int64_t size = D(1), channels = D(2), patch = D(3), side = size / patch,
            width = channels * patch * patch;
    for (int64_t r = 0; r < D(0) * side * side; r++)
        for (int64_t i = 0; i < width; i++) {
            int64_t c = i / (patch * patch), y = r / side % side * patch + i / patch % patch,
                    x = r % side * patch + i % patch;
            double pixel =
                t->bytes[((r / (side * side) * size + y) * size + x) * channels + c] / 255.0;
            V(0)[r * width + i] = (pixel - (double)spec.mean[c]) / (double)spec.std[c];
        }
}

static void patchify_forward(Exec *ex, OpTest *t) {
    PatchSpec spec = patch_spec(t);
    op_patchify(ex, T(0), t->bytes, &spec);
}

/* ---- positions: pictures P C ---- */

static void positions_setup(OpTest *t) {
    add(t, "table", ROLE_PARAM, D(1), D(2));
    add(t, "x", ROLE_FIXED, D(0) * D(1), D(2));
    add(t, "out", ROLE_OUTPUT, D(0) * D(1), D(2));
}

static void positions_reference(OpTest *t) {
    for (int64_t i = 0; i < D(0) * D(1) * D(2); i++) V(2)[i] = V(1)[i] + V(0)[i % (D(1) * D(2))];
}

static void positions_prepare(OpTest *t, bool backward) {
    if (!backward) copy_values(T(2), T(1));
}

static void positions_forward(Exec *ex, OpTest *t) {
    op_add_positions(ex, T(2), T(0));
}

static void positions_backward(Exec *ex, OpTest *t) {
    op_add_positions_bwd(ex, G(0), G(2));
}

/* ---- embed: T V C feature rows ---- */

static void embed_setup(OpTest *t) {
    add(t, "table", ROLE_PARAM, D(1), D(2));
    add(t, "features", ROLE_INPUT, D(3), D(2));
    add(t, "out", ROLE_OUTPUT, D(0), D(2));
    int32_t *ids = add_ints(t, 0, D(0));
    for (int64_t r = 0; r < D(0); r++)
        ids[r] = r < D(3) ? (int32_t)(-1 - r) : (int32_t)(r * 7 % D(1));
}

static void embed_reference(OpTest *t) {
    for (int64_t r = 0; r < D(0); r++)
        for (int64_t c = 0; c < D(2); c++) {
            int32_t id = t->ints[0][r];
            V(2)[r * D(2) + c] = id >= 0 ? V(0)[id * D(2) + c] : V(1)[(-1 - id) * D(2) + c];
        }
}

static void embed_forward(Exec *ex, OpTest *t) {
    op_embed_fwd(ex, T(2), t->ints[0], T(0), D(3) ? T(1) : tensor_none());
}

static void embed_backward(Exec *ex, OpTest *t) {
    op_embed_bwd(ex, G(0), D(3) ? G(1) : tensor_none(), G(2), t->ints[0]);
}

/* ---- gather (backward: scatter): T C rows taken ---- */

static void gather_setup(OpTest *t) {
    add(t, "x", ROLE_INPUT, D(0), D(1));
    add(t, "out", ROLE_OUTPUT, D(2), D(1));
    int32_t *rows = add_ints(t, 0, D(2));
    for (int64_t i = 0; i < D(2); i++) rows[i] = (int32_t)(i * D(0) / D(2));
}

static void gather_reference(OpTest *t) {
    for (int64_t i = 0; i < D(2); i++)
        for (int64_t c = 0; c < D(1); c++) V(1)[i * D(1) + c] = V(0)[t->ints[0][i] * D(1) + c];
}

static void gather_forward(Exec *ex, OpTest *t) {
    op_gather_rows(ex, T(1), T(0), t->ints[0]);
}

static void gather_backward(Exec *ex, OpTest *t) {
    op_scatter_rows(ex, G(0), G(1), t->ints[0]);
}

/* ---- cross_entropy: rows V ---- */

static void cross_entropy_setup(OpTest *t) {
    Operand *logits = add(t, "logits", ROLE_INPUT, D(0), D(1));
    logits->low = -4;
    logits->high = 4;
    add_f32(t, "loss", ROLE_OUTPUT, 1, D(0));
    add_f32(t, "hits", ROLE_SAVED, 1, D(0));
    int32_t *targets = add_ints(t, 0, D(0));
    for (int64_t r = 0; r < D(0); r++) targets[r] = (int32_t)(r * 13 % D(1));
}

static void cross_entropy_reference(OpTest *t) {
    for (int64_t r = 0; r < D(0); r++) {
        double sum = 0;
        for (int64_t i = 0; i < D(1); i++) sum += exp(V(0)[r * D(1) + i]);
        V(1)[r] = log(sum) - V(0)[r * D(1) + t->ints[0][r]];
    }
}

static void cross_entropy_forward(Exec *ex, OpTest *t) {
    op_cross_entropy(ex, T(1), T(2), T(0), t->ints[0], false);
}

/* The gradient is that of the plain sum of losses: the case sets the losses' gradients to one. */
static void cross_entropy_prepare(OpTest *t, bool backward) {
    if (!backward) return;
    fill(G(1), 1);
    copy_values(G(0), T(0));
}

static void cross_entropy_backward(Exec *ex, OpTest *t) {
    op_cross_entropy(ex, T(1), tensor_none(), G(0), t->ints[0], true);
}

/* ---- convert: T C ---- */

static void convert_setup(OpTest *t) {
    add_f32(t, "src", ROLE_FIXED, D(0), D(1));
    add(t, "dst", ROLE_OUTPUT, D(0), D(1));
}

static void convert_reference(OpTest *t) {
    for (int64_t i = 0; i < D(0) * D(1); i++) V(1)[i] = rounded(t, V(0)[i]);
}

static void convert_forward(Exec *ex, OpTest *t) {
    op_convert(ex, T(1), T(0));
}

/* ---- the tables ---- */

const OpKind op_kinds[] = {
    {"linear", linear_setup, linear_reference, linear_forward, linear_backward,
     .flops = linear_flops},
    {"linear_accumulate", linear_accumulate_setup, linear_reference, linear_forward,
     linear_backward, .flops = linear_flops},
    {"lora", lora_setup, lora_reference, lora_forward, lora_backward, .prepare = lora_prepare,
     .flops = lora_flops},
    {"rmsnorm", rmsnorm_setup, rmsnorm_reference, rmsnorm_forward, rmsnorm_backward,
     .prepare = norm_prepare, .finish = norm_finish},
    {"layernorm", layernorm_setup, layernorm_reference, layernorm_forward, layernorm_backward,
     .prepare = norm_prepare, .finish = norm_finish},
    {"add", add_setup, add_reference, add_forward, NULL, .flops = NULL},
    {"qk_rope", qk_rope_setup, qk_rope_reference, qk_rope_forward, qk_rope_backward, .flops = NULL},
    {"attention", attention_setup, attention_reference, attention_forward, attention_backward,
     .flops = attention_flops},
    {"act", act_setup, act_reference, act_forward, act_backward, .flops = NULL},
    {"glu", glu_setup, glu_reference, glu_forward, glu_backward, .flops = NULL},
    {"patchify", patchify_setup, patchify_reference, patchify_forward, NULL, .flops = NULL},
    {"positions", positions_setup, positions_reference, positions_forward, positions_backward,
     .prepare = positions_prepare},
    {"embed", embed_setup, embed_reference, embed_forward, embed_backward, .flops = NULL},
    {"gather", gather_setup, gather_reference, gather_forward, gather_backward, .flops = NULL},
    {"cross_entropy", cross_entropy_setup, cross_entropy_reference, cross_entropy_forward,
     cross_entropy_backward, .prepare = cross_entropy_prepare},
    {"convert", convert_setup, convert_reference, convert_forward, NULL, .flops = NULL},
};
const int op_kind_count = sizeof op_kinds / sizeof op_kinds[0];

const OpCase op_cases[] = {
    {"linear", {1, 1, 1, 1}},
    {"linear", {5, 7, 3, 0}},
    {"linear", {33, 17, 29, 1}},
    {"linear", {131, 96, 40, 1}},
    {"linear", {1100, 5, 9, 1}},
    {"linear_accumulate", {45, 31, 8, 0}},
    {"linear_accumulate", {3, 300, 16, 1}},
    {"lora", {1, 1, 1, 1, 0}},
    {"lora", {37, 19, 23, 4, 0}},
    {"lora", {37, 19, 23, 4, 30}},
    {"lora", {130, 64, 33, 8, 5}},
    {"rmsnorm", {1, 1, 0}},
    {"rmsnorm", {37, 29, 0}},
    {"rmsnorm", {131, 64, 1}},
    {"rmsnorm", {300, 9, 1}},
    {"layernorm", {1, 3, 0}},
    {"layernorm", {37, 29, 0}},
    {"layernorm", {131, 64, 1}},
    {"layernorm", {300, 9, 1}},
    {"add", {3, 37}},
    {"qk_rope", {1, 1, 1, 2, 2, 1}},
    {"qk_rope", {19, 4, 2, 8, 8, 1}},
    {"qk_rope", {131, 3, 3, 10, 4, 0}},
    {"qk_rope", {9, 2, 1, 72, 72, 1}},
    {"qk_rope", {5, 2, 2, 6, 0, 0}},
    {"attention", {1, 1, 1, 1, 1, 1}},
    {"attention", {3, 11, 4, 2, 8, 1}},
    {"attention", {2, 9, 2, 2, 5, 0}},
    {"attention", {4, 33, 4, 1, 16, 1}},
    {"attention", {1, 150, 2, 1, 4, 1}},
    {"attention", {1, 141, 1, 1, 4, 0}},
    {"act", {7, 19, ACT_GELU_TANH}},
    {"act", {7, 19, ACT_GELU_ERF}},
    {"act", {7, 19, ACT_GELU_QUICK}},
    {"act", {33, 5, ACT_SILU}},
    {"glu", {7, 19, ACT_SILU}},
    {"glu", {33, 5, ACT_GELU_TANH}},
    {"patchify", {2, 8, 1, 4}},
    {"patchify", {1, 11, 3, 3}},
    {"positions", {3, 5, 7}},
    {"positions", {1, 4, 70}},
    {"embed", {9, 5, 7, 3}},
    {"embed", {40, 5, 70, 0}},
    {"gather", {9, 5, 4}},
    {"gather", {4, 3, 4}},
    {"cross_entropy", {1, 1}},
    {"cross_entropy", {9, 37}},
    {"cross_entropy", {3, 300}},
    {"convert", {3, 37}},
};
const int op_case_count = sizeof op_cases / sizeof op_cases[0];

const OpKind *op_kind_find(const char *name) {
    for (int i = 0; i < op_kind_count; i++)
        if (!strcmp(op_kinds[i].name, name)) return &op_kinds[i];
    return NULL;
}
