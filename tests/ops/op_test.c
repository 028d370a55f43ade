/* One case of an operation: its operands between guard bands, spoiled, run and looked at. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "tests/ops/op_reference.h"

enum { GUARD = 64 }; /* elements before and after every tensor */
static const double GUARD_VALUE = -7777;

Operand *op_test_add(OpTest *t, int index, const char *name, Role role, int64_t rows,
                     int64_t cols) {
    CHECK(t->operand_count < OPERANDS_MAX, "operands of %s", t->kind->name);
    CHECK(t->operand_count == index, "%s of %s is operand %d, not %d", name, t->kind->name,
          t->operand_count, index);
    Operand *o = &t->operands[t->operand_count++];
    *o = (Operand){
        .name = name, .role = role, .rows = rows, .cols = cols, .host = -1, .low = -1, .high = 1};
    return o;
}

Operand *op_test_add_f32(OpTest *t, int index, const char *name, Role role, int64_t rows,
                         int64_t cols) {
    Operand *o = op_test_add(t, index, name, role, rows, cols);
    o->f32 = true;
    return o;
}

Operand *op_test_add_inside(OpTest *t, int index, const char *name, Role role, int64_t rows,
                            int64_t cols, int host, int64_t row, int64_t col) {
    const Operand *h = &t->operands[host];
    CHECK(row + rows <= h->rows + h->room_rows && col + cols <= h->cols + h->room_cols,
          "%s has no room at %s", name, h->name);
    Operand *o = op_test_add(t, index, name, role, rows, cols);
    o->host = host;
    o->at_row = row;
    o->at_col = col;
    return o;
}

int32_t *op_test_add_ints(OpTest *t, int index, int64_t count) {
    t->ints[index] = calloc((size_t)count + 1, sizeof(int32_t));
    CHECK(t->ints[index], "out of memory");
    t->int_counts[index] = count;
    return t->ints[index];
}

uint8_t *op_test_add_bytes(OpTest *t, int64_t count) {
    t->bytes = calloc((size_t)count + 1, 1);
    CHECK(t->bytes, "out of memory");
    t->byte_count = count;
    return t->bytes;
}

float *op_test_add_table(OpTest *t, int64_t count) {
    t->table = calloc((size_t)count + 1, sizeof *t->table);
    CHECK(t->table, "out of memory");
    t->table_count = count;
    return t->table;
}

/* IEEE 754 binary16: 5 bits of exponent, 10 of fraction. */
static double f16_value(uint16_t half) {
    int exponent = half >> 10 & 31, fraction = half & 1023;
    double x = exponent == 31 ? (fraction ? (double)NAN : (double)INFINITY)
               : exponent     ? ldexp(1024 + fraction, exponent - 25)
                              : ldexp(fraction, -24);
    return half >> 15 ? -x : x;
}

/* The nearest, ties to even. */
static uint16_t f16_bits(double x) {
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    double size = fabs(x);
    if (isnan(x)) return 0x7E00;
    if (size >= 65520) return sign | 0x7C00;
    int exponent = size < ldexp(1, -14) ? -14 : ilogb(size);
    double fraction = nearbyint(ldexp(size, 10 - exponent)); /* 1024 … 2048; smaller: subnormal */
    return sign | (uint16_t)((exponent + 14) * 1024 + (int)fraction);
}

double tensor_get(Tensor t, int64_t row, int64_t col) {
    int64_t at = row * t.stride + col;
    if (t.dtype == DT_F32) return (double)((const float *)t.data)[at];
    uint16_t half = ((const uint16_t *)t.data)[at];
    if (t.dtype == DT_F16) return f16_value(half);
    uint32_t bits = (uint32_t)half << 16;
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
    if (t.dtype == DT_F16) {
        ((uint16_t *)t.data)[at] = f16_bits((double)x);
        return;
    }
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = isnan(x) ? 0x7FC00000u : bits + 0x7FFF + (bits >> 16 & 1);
    ((uint16_t *)t.data)[at] = (uint16_t)(bits >> 16);
}

/* ---- memory of operands ---- */

enum { VALUE, GRADIENT, TENSORS };

static Tensor host_tensor(const Operand *o, int which) {
    return which == GRADIENT ? o->grad : o->t;
}

static Tensor device_tensor(const Operand *o, int which) {
    return which == GRADIENT ? o->device_grad : o->device_t;
}

/* Gradients of parameters are dense and apart, whatever their values are. */
static bool is_apart(const Operand *o, int which) {
    return which == GRADIENT && o->role == ROLE_PARAM;
}

static bool has_memory(const Operand *o, int which) {
    return o->host < 0 || is_apart(o, which);
}

/* Elements of an operand's memory with its room. */
static int64_t block_count(const Operand *o, Tensor t, int which) {
    return (o->rows + (is_apart(o, which) ? 0 : o->room_rows)) * t.stride;
}

/* An operand's memory with its guard bands, as one row. */
static Tensor with_guards(const Operand *o, Tensor t, int which) {
    return tensor((char *)t.data - GUARD * dtype_size(t.dtype), t.dtype, 1,
                  block_count(o, t, which) + 2 * GUARD);
}

/* A view of the operand's shape, without memory yet. Rows in the room of others are theirs. */
static Tensor shape_of(const OpTest *test, const Operand *o, int which, DType dtype) {
    Tensor t = tensor(NULL, is_apart(o, which) ? DT_F32 : dtype, o->rows, o->cols);
    const Operand *owner = o->host < 0 ? o : &test->operands[o->host];
    if (!is_apart(o, which) && owner->room_cols)
        t.stride = (owner->cols + owner->room_cols + 7) / 8 * 8; /* on 16 bytes, in any type */
    return t;
}

/* Where an operand without memory of its own lies, given its host. */
static Tensor placed(Tensor t, const Operand *o, Tensor host) {
    t.dtype = host.dtype;
    t.data =
        (char *)host.data + (size_t)(o->at_row * host.stride + o->at_col) * dtype_size(t.dtype);
    return t;
}

static Tensor guarded(const Operand *o, Tensor t, int which) {
    size_t count = (size_t)(block_count(o, t, which) + 2 * GUARD),
           bytes = count * dtype_size(t.dtype);
    char *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    CHECK(memory, "out of memory: a tensor");
    t.data = memory + GUARD * dtype_size(t.dtype);
    Tensor all = with_guards(o, t, which);
    for (int64_t i = 0; i < all.cols; i++) tensor_set(all, 0, i, GUARD_VALUE);
    return t;
}

void tensor_fill(Tensor t, double value) {
    for (int64_t r = 0; r < t.rows; r++)
        for (int64_t c = 0; c < t.cols; c++) tensor_set(t, r, c, value);
}

static bool is_given(const Operand *o) {
    return o->role == ROLE_INPUT || o->role == ROLE_PARAM || o->role == ROLE_FIXED;
}

/* ---- on the device ---- */

static void *device_array(const OpTest *test, void *host, int64_t count, size_t element) {
    if (!host || exec_is_host(test->ex)) return host;
    void *device = exec_alloc(test->ex, (size_t)count * element);
    CHECK(device, "out of memory: an array");
    exec_upload(test->ex, device, host, (size_t)count * element);
    return device;
}

/* What is copied between host and device of an operand's memory. */
static Tensor transferred(const OpTest *test, const Operand *o, Tensor t, int which) {
    return test->device_guards ? with_guards(o, t, which)
                               : tensor(t.data, t.dtype, 1, block_count(o, t, which));
}

static Tensor to_device(const OpTest *test, const Operand *o, Tensor host, int which) {
    if (exec_is_host(test->ex)) return host;
    Tensor all = transferred(test, o, host, which), t = host;
    char *memory = exec_alloc(test->ex, tensor_bytes(all));
    CHECK(memory, "out of memory: a tensor");
    t.data = memory + ((char *)host.data - (char *)all.data);
    return t;
}

/* All tensors to the device, or back. */
static void transfer(const OpTest *test, bool down) {
    if (exec_is_host(test->ex)) return;
    for (int i = 0; i < test->operand_count; i++)
        for (int which = 0; which < TENSORS; which++) {
            const Operand *o = &test->operands[i];
            if (!has_memory(o, which)) continue;
            Tensor host = transferred(test, o, host_tensor(o, which), which),
                   device = transferred(test, o, device_tensor(o, which), which);
            if (down)
                exec_download(test->ex, host.data, device.data, tensor_bytes(host));
            else
                exec_upload(test->ex, device.data, host.data, tensor_bytes(host));
        }
}

/* ---- opening and running ---- */

static DType own_dtype(const OpTest *test, const Operand *o) {
    return o->f32 || (o->role == ROLE_SAVED && !o->compute) ? DT_F32 : test->dtype;
}

static void arrays_to_device(OpTest *test) {
    for (int i = 0; i < 4; i++)
        test->device_ints[i] =
            device_array(test, test->ints[i], test->int_counts[i], sizeof(int32_t));
    test->device_bytes = device_array(test, test->bytes, test->byte_count, 1);
    test->device_table = device_array(test, test->table, test->table_count, sizeof(float));
}

void op_test_open(OpTest *test, Exec *ex, const OpKind *kind, const int64_t *dim, DType dtype,
                  uint64_t seed) {
    *test = (OpTest){.kind = kind, .dtype = dtype, .ex = ex};
    test->device_guards = !strstr(exec_description(ex), "emulated");
    memcpy(test->dim, dim, sizeof test->dim);
    kind->setup(test);
    Rng rng;
    rng_open(&rng, seed, RNG_TEST, 0);
    for (int i = 0; i < test->operand_count; i++) {
        Operand *o = &test->operands[i];
        for (int which = 0; which < TENSORS; which++) {
            Tensor *host = which == GRADIENT ? &o->grad : &o->t,
                   *device = which == GRADIENT ? &o->device_grad : &o->device_t;
            Tensor t = shape_of(test, o, which, own_dtype(test, o));
            if (has_memory(o, which)) {
                *host = guarded(o, t, which);
                *device = to_device(test, o, *host, which);
            } else {
                *host = placed(t, o, host_tensor(&test->operands[o->host], which));
                *device = placed(t, o, device_tensor(&test->operands[o->host], which));
            }
        }
        o->value = calloc((size_t)(o->rows * o->cols) + 1, sizeof *o->value);
        CHECK(o->value, "out of memory");
        for (int64_t r = 0; r < o->rows && is_given(o); r++)
            for (int64_t c = 0; c < o->cols; c++) {
                tensor_set(o->t, r, c, o->low + (o->high - o->low) * rng_uniform(&rng));
                o->value[r * o->cols + c] = tensor_get(o->t, r, c);
            }
    }
    arrays_to_device(test);
}

enum { BLOCK = 1 << 16 }; /* elements of the random block that large operands repeat */

/* Device memory of `count` elements that are `block`, over and over. */
static void *repeated(Exec *ex, const void *block, DType dtype, int64_t count) {
    size_t element = dtype_size(dtype), bytes = (size_t)count * element,
           done = bytes < BLOCK * element ? bytes : BLOCK * element;
    char *memory = exec_alloc(ex, bytes);
    CHECK(memory, "out of memory: a tensor of %zu MiB", bytes >> 20);
    exec_upload(ex, memory, block, done);
    for (size_t part; done < bytes; done += part) { /* twice as much with each copy */
        part = bytes - done < done ? bytes - done : done;
        exec_copy(ex, memory + done, memory, part);
    }
    return memory;
}

static Tensor random_repeated(const OpTest *test, Rng *rng, const Operand *o, int which) {
    static float block[BLOCK]; /* room for the widest type */
    Tensor t = shape_of(test, o, which, own_dtype(test, o)), row = tensor(block, t.dtype, 1, BLOCK);
    if (!has_memory(o, which)) return placed(t, o, device_tensor(&test->operands[o->host], which));
    double scale = which == GRADIENT ? 1e-3 : 1;
    for (int64_t i = 0; i < BLOCK; i++)
        tensor_set(row, 0, i, scale * (o->low + (o->high - o->low) * rng_uniform(rng)));
    t.data = repeated(test->ex, block, t.dtype, block_count(o, t, which));
    exec_wait(test->ex); /* the block is filled again */
    return t;
}

void op_test_open_large(OpTest *test, Exec *ex, const OpKind *kind, const int64_t *dim, DType dtype,
                        uint64_t seed) {
    *test = (OpTest){.kind = kind, .dtype = dtype, .ex = ex, .large = true};
    memcpy(test->dim, dim, sizeof test->dim);
    kind->setup(test);
    Rng rng;
    rng_open(&rng, seed, RNG_TEST, 0);
    for (int i = 0; i < test->operand_count; i++) {
        Operand *o = &test->operands[i];
        o->device_t = random_repeated(test, &rng, o, VALUE);
        o->device_grad = random_repeated(test, &rng, o, GRADIENT);
    }
    arrays_to_device(test);
}

void op_test_forward(OpTest *test) {
    if (test->kind->prepare) test->kind->prepare(test, false);
    transfer(test, false);
    test->kind->forward(test->ex, test);
    transfer(test, true);
}

void op_test_backward(OpTest *test) {
    if (test->kind->prepare) test->kind->prepare(test, true);
    transfer(test, false);
    test->kind->backward(test->ex, test);
    transfer(test, true);
    if (test->kind->finish) test->kind->finish(test);
}

void op_test_close(OpTest *test) {
    for (int i = 0; i < test->operand_count; i++) {
        Operand *o = &test->operands[i];
        for (int which = 0; which < TENSORS; which++) {
            if (!has_memory(o, which)) continue;
            Tensor device = device_tensor(o, which);
            if (test->large)
                exec_free(test->ex, device.data, 0);
            else if (!exec_is_host(test->ex))
                exec_free(test->ex, transferred(test, o, device, which).data, 0);
            if (!test->large) free(with_guards(o, host_tensor(o, which), which).data);
        }
        free(o->value);
    }
    for (int i = 0; i < 4; i++) {
        if (!exec_is_host(test->ex)) exec_free(test->ex, test->device_ints[i], 0);
        free(test->ints[i]);
    }
    if (!exec_is_host(test->ex)) {
        exec_free(test->ex, test->device_bytes, 0);
        exec_free(test->ex, test->device_table, 0);
    }
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

/* Whether element `at` of an operand's memory is its own, or of one in its room. */
static bool is_used(const OpTest *test, const Operand *owner, Tensor t, int which, int64_t at) {
    int64_t row = at / t.stride, col = at % t.stride;
    if (at < 0 || at >= block_count(owner, t, which)) return false;
    if (row < owner->rows && col < owner->cols) return true;
    for (int i = 0; i < test->operand_count && !is_apart(owner, which); i++) {
        const Operand *o = &test->operands[i];
        if (o->host >= 0 && &test->operands[o->host] == owner && row >= o->at_row &&
            row < o->at_row + o->rows && col >= o->at_col && col < o->at_col + o->cols)
            return true;
    }
    return false;
}

bool op_test_guard_broken(const OpTest *test, char what[128]) {
    for (int i = 0; i < test->operand_count; i++)
        for (int which = 0; which < TENSORS; which++) {
            const Operand *o = &test->operands[i];
            if (!has_memory(o, which)) continue;
            Tensor t = host_tensor(o, which), all = with_guards(o, t, which);
            uint32_t memory;
            Tensor one = tensor(&memory, t.dtype, 1, 1);
            tensor_set(one, 0, 0, GUARD_VALUE);
            double expected = tensor_get(one, 0, 0);
            for (int64_t at = -GUARD; at < all.cols - GUARD; at++) {
                if (is_used(test, o, t, which, at) || tensor_get(all, 0, at + GUARD) == expected)
                    continue;
                snprintf(what, 128, "%s%s %s", which == GRADIENT ? "gradient of " : "", o->name,
                         at < 0                          ? "before its start"
                         : at < block_count(o, t, which) ? "beside its rows"
                                                         : "behind its end");
                return true;
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
