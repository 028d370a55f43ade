/* What the fronts of operations share: shapes and types are checked once, before a backend's row is
 * called. */
#ifndef CADVLM_OPS_CHECKS_H
#define CADVLM_OPS_CHECKS_H

#include "ops/backend.h"

static inline void check_shape(const char *op, const char *name, Tensor t, int64_t rows,
                               int64_t cols) {
    CHECK(t.rows == rows && t.cols == cols && t.stride >= cols,
          "%s: %s is [%ld, %ld] (stride %ld), [%ld, %ld] is expected", op, name, (long)t.rows,
          (long)t.cols, (long)t.stride, (long)rows, (long)cols);
}

/* Optional tensors may be none. */
static inline void check_optional(const char *op, const char *name, Tensor t, int64_t rows,
                                  int64_t cols) {
    if (!tensor_is_none(t)) check_shape(op, name, t, rows, cols);
}

static inline void check_type(const char *op, const char *name, Tensor t, DType dtype) {
    if (!tensor_is_none(t))
        CHECK(t.dtype == dtype, "%s: %s is %s, %s is expected", op, name, dtype_name(t.dtype),
              dtype_name(dtype));
}

static inline void check_compute(const Exec *ex, const char *op, Tensor t) {
    CHECK(ex->backend->has_dtype(ex, t.dtype), "%s: %s is no compute type of %s", op,
          dtype_name(t.dtype), ex->backend->name);
}

/* Whether a row is called: in a dry pass only to say what scratch it would need. */
static inline bool runs(const Exec *ex) {
    return !ex->dry || ex->backend->plans;
}

#define SHAPE(t, rows, cols)    check_shape(__func__, #t, t, rows, cols)
#define OPTIONAL(t, rows, cols) check_optional(__func__, #t, t, rows, cols)
#define TYPE(t, dtype)          check_type(__func__, #t, t, dtype)
#define COMPUTE(t)              check_compute(ex, __func__, t)

#endif
