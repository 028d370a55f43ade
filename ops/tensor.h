/* A Tensor is a view of a matrix in memory: rows of `cols` elements, `stride` elements apart. It
 * never owns.
 *
 * What has more dimensions is a matrix of its last one: activations are [tokens, channels], an
 * image batch is [images · patches, channels], a bias is one row. */
#ifndef CADVLM_OPS_TENSOR_H
#define CADVLM_OPS_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum DType { DT_F32, DT_BF16, DT_F16, DT_I32, DT_U8 } DType;

static inline size_t dtype_size(DType dtype) {
    switch (dtype) {
    case DT_F32:
    case DT_I32: return 4;
    case DT_BF16:
    case DT_F16: return 2;
    case DT_U8: return 1;
    }
    return 0;
}

const char *dtype_name(DType dtype); /* "f32", … */

typedef struct Tensor {
    void *data;
    DType dtype;
    int64_t rows, cols, stride;
} Tensor;

static inline Tensor tensor(void *data, DType dtype, int64_t rows, int64_t cols) {
    Tensor t = {data, dtype, rows, cols, cols};
    return t;
}

/* No tensor, for arguments that may be left out. */
static inline Tensor tensor_none(void) {
    Tensor none = {NULL, DT_F32, 0, 0, 0};
    return none;
}

static inline int tensor_is_none(Tensor t) {
    return t.rows == 0 && t.cols == 0;
}

/* Columns first … first + cols - 1 of all rows. */
static inline Tensor tensor_cols(Tensor t, int64_t first, int64_t cols) {
    CHECK(first >= 0 && cols >= 0 && first + cols <= t.cols, "columns %ld + %ld of %ld",
          (long)first, (long)cols, (long)t.cols);
    if (t.data) t.data = (char *)t.data + (size_t)first * dtype_size(t.dtype);
    t.cols = cols;
    return t;
}

static inline Tensor tensor_rows(Tensor t, int64_t first, int64_t rows) {
    CHECK(first >= 0 && rows >= 0 && first + rows <= t.rows, "rows %ld + %ld of %ld", (long)first,
          (long)rows, (long)t.rows);
    if (t.data) t.data = (char *)t.data + (size_t)(first * t.stride) * dtype_size(t.dtype);
    t.rows = rows;
    return t;
}

/* The `cols` columns behind those of t, in rows that have room for them. */
static inline Tensor tensor_behind(Tensor t, int64_t cols) {
    CHECK(cols >= 0 && t.cols + cols <= t.stride, "%ld columns behind %ld in rows of %ld",
          (long)cols, (long)t.cols, (long)t.stride);
    if (t.data) t.data = (char *)t.data + (size_t)t.cols * dtype_size(t.dtype);
    t.cols = cols;
    return t;
}

static inline int64_t tensor_count(Tensor t) {
    return t.rows * t.cols;
}

static inline size_t tensor_bytes(Tensor t) {
    return (size_t)tensor_count(t) * dtype_size(t.dtype);
}

#ifdef __cplusplus
}
#endif

#endif
