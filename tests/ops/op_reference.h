/* What the reference implementations share: short names for a case's operands and sizes, by the
 * enums of its kind, and their two tables. */
#ifndef CADVLM_TESTS_OPS_OP_REFERENCE_H
#define CADVLM_TESTS_OPS_OP_REFERENCE_H

#include "tests/ops/op_kinds.h"

#define V(i) (t->operands[i].value) /* in double */
#define D(i) (t->dim[i])

/* What operations are given: tensors, gradients, index arrays of the device. */
#define T(i) (t->operands[i].device_t)
#define G(i) (t->operands[i].device_grad)
#define I(i) (t->device_ints[i])

/* The host's, for prepare and finish. */
#define HOST_T(i) (t->operands[i].t)
#define HOST_G(i) (t->operands[i].grad)

extern const OpKind op_kinds_matrix[], op_kinds_rows[];
extern const int op_kinds_matrix_count, op_kinds_rows_count;

#endif
