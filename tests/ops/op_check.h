/* A backend's operation against the reference implementation, and its backward pass
 * against differences of it. */
#ifndef CADVLM_TESTS_OPS_OP_CHECK_H
#define CADVLM_TESTS_OPS_OP_CHECK_H

#include "tests/ops/op_kinds.h"

/* Small and odd sizes of every operation. */
extern const OpCase op_cases[];
extern const int op_case_count;

/* Both end the test where they find a difference. */
void op_check_match(Exec *ex, const OpCase *c, DType dtype);
void op_check_grad(Exec *ex, const OpCase *c, DType dtype);

/* Attention over sequences of which only the first keys count: what it gives for them is what it
 * gives without the others, and the gradients of the others are zero. */
void op_check_lengths(Exec *ex, DType dtype);

/* The norm of gradients, clipping, the loss scale and whether the step is taken. */
void op_check_update_begin(Exec *ex);

/* Random gradients of the outputs, in host memory. */
void op_check_draw_gradients(OpTest *test);

#endif
