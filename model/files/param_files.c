/* Parameters as files have them; see the header. */
#include "model/files/param_files.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/files/dtype_convert.h"

enum { PIECE = 1 << 20 }; /* floats at a time: the second cache holds them */

SafeTensor param_tensor(const Param *p, DType dtype) {
    SafeTensor t = {.name = p->name, .dtype = dtype, .dims = p->dims, .count = p->rows * p->cols};
    t.shape[0] = p->dims == 1 ? p->cols : p->rows;
    t.shape[1] = p->cols;
    for (int i = 0; p->dims == 4 && i < 3; i++) t.shape[1 + i] = p->tail[i];
    return t;
}

Err param_check_tensor(const Param *p, const SafeTensor *t, const char *path) {
    char found[SHAPE_TEXT], expected[SHAPE_TEXT];
    SafeTensor model = param_tensor(p, DT_F32);
    TRY(safetensors_need_floats(t, path));
    bool same = t->dims == model.dims;
    for (int i = 0; i < t->dims && same; i++) same = t->shape[i] == model.shape[i];
    REQUIRE(same, ERR_INPUT, "%s: %s has the shape %s; the model expects %s", path, t->name,
            safetensors_shape(found, t), safetensors_shape(expected, &model));
    return OK;
}

/* ---- reading ---- */

Err param_reader_open(ParamReader *reader, Exec *ex, const Params *params) {
    *reader = (ParamReader){.ex = ex, .capacity = PIECE};
    for (int i = 0; i < params->count; i++)
        if (params->items[i].cols > reader->capacity) reader->capacity = params->items[i].cols;
    size_t bytes = (size_t)reader->capacity * sizeof(float);
    reader->host = malloc(bytes);
    CHECK(reader->host, "out of memory: %zu bytes of weights", bytes);
    if (exec_is_host(ex)) return OK;
    reader->device = exec_alloc(ex, bytes);
    if (reader->device) return OK;
    param_reader_close(reader);
    FAIL(ERR_MEMORY, "out of memory: %zu bytes of weights", bytes);
}

void param_reader_close(ParamReader *reader) {
    if (reader->device)
        exec_free(reader->ex, reader->device, (size_t)reader->capacity * sizeof(float));
    free(reader->host);
    *reader = (ParamReader){0};
}

Err param_check_numbers(const float *x, int64_t count, int64_t first, DType dtype, const char *name,
                        const char *path) {
    int64_t bad = dtype_first_beyond(x, count, dtype_limit(dtype));
    if (bad == count) return OK;
    REQUIRE(!isfinite(x[bad]), ERR_INPUT,
            "%s: %s[%lld] is %g, more than %s can hold: choose another precision", path, name,
            (long long)(first + bad), (double)x[bad], dtype_name(dtype));
    FAIL(ERR_INPUT, "%s: %s[%lld] is %g", path, name, (long long)(first + bad), (double)x[bad]);
}

/* Of which roots are taken. */
static Err check_squares(const float *x, int64_t count, int64_t first, const char *name,
                         const char *path) {
    for (int64_t i = 0; i < count; i++)
        REQUIRE(x[i] >= 0, ERR_INPUT, "%s: %s[%lld] is %g, where a mean of squares is expected",
                path, name, (long long)(first + i), (double)x[i]);
    return OK;
}

/* Rows first … first + rows - 1 of both. */
static void put_rows(ParamReader *reader, Tensor value, Tensor master, const float *from,
                     int64_t first, int64_t rows, int64_t cols) {
    float *staged = (float *)(uintptr_t)from;
    if (reader->device) {
        exec_upload(reader->ex, reader->device, from, (size_t)(rows * cols) * sizeof *from);
        staged = reader->device;
    }
    Tensor source = tensor(staged, DT_F32, rows, cols);
    if (!tensor_is_none(value)) op_convert(reader->ex, tensor_rows(value, first, rows), source);
    if (!tensor_is_none(master)) op_convert(reader->ex, tensor_rows(master, first, rows), source);
}

static Tensor shaped_as(Tensor value, Tensor master) {
    return tensor_is_none(value) ? master : value;
}

static DType narrowest(Tensor value) {
    return tensor_is_none(value) ? DT_F32 : value.dtype;
}

Err param_read(ParamReader *reader, Tensor value, Tensor master, const SafeTensor *t,
               const char *path) {
    Tensor shape = shaped_as(value, master);
    int64_t step = reader->capacity / (shape.cols ? shape.cols : 1);
    for (int64_t row = 0; row < shape.rows; row += step) {
        int64_t rows = shape.rows - row < step ? shape.rows - row : step, at = row * shape.cols;
        const char *bytes = (const char *)t->data + (size_t)at * dtype_size(t->dtype);
        dtype_widen(reader->host, bytes, t->dtype, rows * shape.cols);
        TRY(param_check_numbers(reader->host, rows * shape.cols, at, narrowest(value), t->name,
                                path));
        if (reader->squares) TRY(check_squares(reader->host, rows * shape.cols, at, t->name, path));
        put_rows(reader, value, master, reader->host, row, rows, shape.cols);
    }
    return exec_status(reader->ex);
}

Err param_put(ParamReader *reader, Tensor value, Tensor master, const float *from, const char *name,
              const char *path) {
    Tensor shape = shaped_as(value, master);
    int64_t step = reader->capacity / (shape.cols ? shape.cols : 1);
    for (int64_t row = 0; row < shape.rows; row += step) {
        int64_t rows = shape.rows - row < step ? shape.rows - row : step, at = row * shape.cols;
        TRY(param_check_numbers(from + at, rows * shape.cols, at, narrowest(value), name, path));
        put_rows(reader, value, master, from + at, row, rows, shape.cols);
    }
    return exec_status(reader->ex);
}

Err param_widen(float *out, const SafeTensor *t, DType dtype, const char *path) {
    for (int64_t at = 0; at < t->count; at += PIECE) {
        int64_t count = t->count - at < PIECE ? t->count - at : PIECE;
        const char *bytes = (const char *)t->data + (size_t)at * dtype_size(t->dtype);
        dtype_widen(out + at, bytes, t->dtype, count);
        TRY(param_check_numbers(out + at, count, at, dtype, t->name, path));
    }
    return OK;
}

/* ---- writing ---- */

/* Rows that are further apart than they are long, one behind the other; what lay between them is
 * gone. */
static void close_rows(char *data, Tensor value) {
    size_t line = (size_t)value.cols * dtype_size(value.dtype),
           stride = (size_t)value.stride * dtype_size(value.dtype);
    for (int64_t r = 1; r < value.rows && line < stride; r++)
        memmove(data + (size_t)r * line, data + (size_t)r * stride, line);
}

/* From the first element to the last. */
static size_t span_of(Tensor value) {
    if (!value.rows) return 0;
    return (size_t)((value.rows - 1) * value.stride + value.cols) * dtype_size(value.dtype);
}

/* The numbers of a matrix in host memory, without gaps: its own, or a copy (`owned`, to be freed).
 */
static const void *dense(void **owned, Exec *ex, Tensor value) {
    *owned = NULL;
    if (exec_is_host(ex) && (value.stride == value.cols || value.rows == 1)) return value.data;
    *owned = malloc(span_of(value) + 1);
    CHECK(*owned, "out of memory: %zu bytes of weights", span_of(value));
    exec_download(ex, *owned, value.data, span_of(value));
    close_rows(*owned, value);
    return *owned;
}

Err param_write(SafeTensorsWriter *writer, Exec *ex, Tensor value) {
    void *owned;
    const void *data = dense(&owned, ex, value);
    Err err = safetensors_writer_add(writer, data, tensor_bytes(value));
    free(owned);
    return err;
}

void param_download(float *out, Exec *ex, Tensor value) {
    void *owned;
    dtype_widen(out, dense(&owned, ex, value), value.dtype, tensor_count(value));
    free(owned);
}
