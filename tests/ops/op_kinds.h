/* The operations as cases: what goes in, the reference implementation (plain loops in double) of
 * what comes out, forward and backward, and how much work it is. One table serves three readers:
 * match (a backend against the loops), grad (backward against differences of the loops) and perf
 * (benchmarks/bench_ops). */
#ifndef CADVLM_TESTS_OPS_OP_KINDS_H
#define CADVLM_TESTS_OPS_OP_KINDS_H

#include "ops/ops.h"

enum { OPERANDS_MAX = 12, CASE_DIMS = 6 };

typedef enum Role {
    ROLE_INPUT,  /* activation: differentiated, its gradient is written */
    ROLE_PARAM,  /* weight of the compute type: its gradient is f32 and accumulates */
    ROLE_FIXED,  /* input without a gradient */
    ROLE_OUTPUT, /* compared; receives a random gradient in grad mode */
    ROLE_SAVED   /* for backward, or scratch; f32 unless `compute`; not compared */
} Role;

typedef struct Operand {
    const char *name;
    Role role;
    bool f32;     /* f32 whatever the compute type is */
    bool compute; /* saved in the compute type */
    int64_t rows, cols;
    int64_t room_rows, room_cols; /* behind its rows and columns, where others lie */
    int host;                     /* operand in whose room this one lies; -1: memory of its own */
    int64_t at_row, at_col;       /* of that operand */
    double low, high;             /* inputs are drawn from here */
    double *value;                /* [rows·cols] for the loops: exactly what the backend sees */
    Tensor t, grad;               /* in host memory, inside guard bands */
    Tensor device_t, device_grad; /* what the operation is given; on the CPU the same */
} Operand;

typedef struct OpTest {
    const struct OpKind *kind;
    int64_t dim[CASE_DIMS];
    DType dtype;
    Operand operands[OPERANDS_MAX];
    int operand_count;
    Exec *ex;
    /* Index arrays, pixels, tables: the host's, and what the operation is given. */
    int32_t *ints[4], *device_ints[4];
    uint8_t *bytes, *device_bytes;
    float *table, *device_table;
    int64_t int_counts[4], byte_count, table_count;
    /* Device memory has guard bands too; without them it ends where the tensor ends, and the
     * checkers of the emulation see what goes beyond. */
    bool device_guards;
    bool large;      /* op_test_open_large */
    bool accumulate; /* activation gradients of this operation accumulate */
} OpTest;

typedef struct OpKind {
    const char *name;
    void (*setup)(OpTest *test);
    void (*reference)(OpTest *test);
    void (*forward)(Exec *ex, OpTest *test);
    void (*backward)(Exec *ex, OpTest *test); /* NULL: not differentiated */
    /* What stands around the operation in a model, or may be NULL: puts into place what a pass adds
     * to, and brings gradients to where they are compared. Not part of the work. */
    void (*prepare)(OpTest *test, bool backward);
    void (*finish)(OpTest *test);
    double (*flops)(const OpTest *test); /* forward; NULL: counted by bytes */
    double tolerance;                    /* of f32 results, relative to the largest; 0: 2e-5 */
} OpKind;

typedef struct OpCase {
    const char *kind;
    int64_t dim[CASE_DIMS];
} OpCase;

const OpKind *op_kind_find(const char *name); /* NULL: there is none */

/* For a kind's setup: declares an operand (drawn from -1 … 1), one that is f32 whatever the compute
 * type is, an array of indices. `index`: what the kind calls it, which the order must agree with.
 */
Operand *op_test_add(OpTest *t, int index, const char *name, Role role, int64_t rows, int64_t cols);
Operand *op_test_add_f32(OpTest *t, int index, const char *name, Role role, int64_t rows,
                         int64_t cols);
/* An operand in the room of another, from its (row, col) on; gradients lie alike, but for those of
 * parameters, which have memory of their own. */
Operand *op_test_add_inside(OpTest *t, int index, const char *name, Role role, int64_t rows,
                            int64_t cols, int host, int64_t row, int64_t col);
int32_t *op_test_add_ints(OpTest *t, int index, int64_t count);
uint8_t *op_test_add_bytes(OpTest *t, int64_t count);
float *op_test_add_table(OpTest *t, int64_t count);

/* Builds the operands of a case with random contents of `seed`, on the device of `ex` (borrowed);
 * free with op_test_close. */
void op_test_open(OpTest *test, Exec *ex, const OpKind *kind, const int64_t *dim, DType dtype,
                  uint64_t seed);
void op_test_close(OpTest *test);

/* For timing at large sizes: operands and gradients lie on the device alone, filled with a block of
 * random numbers over and over. There is nothing for the loops, nothing in host memory, and no
 * guard bands: what such a test can do is kind->forward and kind->backward. */
void op_test_open_large(OpTest *test, Exec *ex, const OpKind *kind, const int64_t *dim, DType dtype,
                        uint64_t seed);

/* One pass, with what the kind puts before and behind it: from the host's tensors to the host's. */
void op_test_forward(OpTest *test);
void op_test_backward(OpTest *test);

/* Fills outputs and saved operands with NaN, gradients with NaN (written) or 1 (accumulated). */
void op_test_spoil(OpTest *test);

/* The first element of a guard band that was overwritten, named in `what`; false when all are
 * whole. */
bool op_test_guard_broken(const OpTest *test, char what[128]);

double tensor_get(Tensor t, int64_t row, int64_t col);
void tensor_set(Tensor t, int64_t row, int64_t col, double value);
void tensor_fill(Tensor t, double value);

/* "attention 3 17 17 4 2 32 bf16" */
void op_test_name(const OpTest *test, char out[128]);

#endif
