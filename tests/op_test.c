/* One case of an operation: its operands between guard bands, spoiled, run and looked at. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "tests/op_loops.h"

enum { GUARD = 64 }; /* elements before and after every tensor */
static const double GUARD_VALUE = -7777;

Operand *op_test_add(OpTest *t, const char *name, Role role, int64_t rows, int64_t cols) {
    CHECK(t->operand_count < OPERANDS_MAX, "operands of %s", t->kind->name);
    Operand *o = &t->operands[t->operand_count++];
    *o = (Operand){.name = name, .role = role, .rows = rows, .cols = cols, .low = -1, .high = 1};
    return o;
}

Operand *op_test_add_f32(OpTest *t, const char *name, Role role, int64_t rows, int64_t cols) {
    Operand *o = op_test_add(t, name, role, rows, cols);
    o->f32 = true;
    return o;
}

int32_t *op_test_add_ints(OpTest *t, int slot, int64_t count) {
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

void tensor_fill(Tensor t, double value) {
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
        if (!is_given(o)) tensor_fill(o->t, NAN);
        if (o->role != ROLE_OUTPUT)
            tensor_fill(o->grad, o->role == ROLE_PARAM || test->accumulate ? 1 : NAN);
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

const OpKind *op_kind_find(const char *name) {
    for (int i = 0; i < op_kinds_matrix_count; i++)
        if (!strcmp(op_kinds_matrix[i].name, name)) return &op_kinds_matrix[i];
    for (int i = 0; i < op_kinds_rows_count; i++)
        if (!strcmp(op_kinds_rows[i].name, name)) return &op_kinds_rows[i];
    return NULL;
}
