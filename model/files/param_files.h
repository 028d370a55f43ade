/* Parameters as files have them: shapes, and bytes in and out, piece by piece. */
#ifndef CADVLM_MODEL_FILES_PARAM_FILES_H
#define CADVLM_MODEL_FILES_PARAM_FILES_H

#include "model/files/safetensors.h"
#include "model/params.h"

/* Of the base, not of an adapter. */
static inline bool param_is_base(const Param *p) {
    return p->kind != PARAM_LORA_A && p->kind != PARAM_LORA_B;
}

/* How a file has it; without data. */
SafeTensor param_tensor(const Param *p, DType dtype);

/* Whether a file's tensor is the parameter: floats of its shape. The sentence says which, expected
 * and found. */
Err param_check_tensor(const Param *p, const SafeTensor *t, const char *path);

/* Whether all of x[count] stay finite in `dtype`; the sentence has the first that does not, by its
 * place in the tensor whose numbers from `first` on these are. */
Err param_check_numbers(const float *x, int64_t count, int64_t first, DType dtype, const char *name,
                        const char *path);

/* Reads tensors into f32 and checks that they are numbers, and puts them where they belong. */
typedef struct ParamReader {
    Exec *ex;
    int64_t capacity;     /* floats of each of these */
    float *host, *device; /* device: NULL where that is the host */
    bool squares;         /* numbers below zero are refused too */
} ParamReader;

Err param_reader_open(ParamReader *reader, Exec *ex, const Params *params);
void param_reader_close(ParamReader *reader);

/* Into `value` (of the compute type) and `master` (f32); each may be none. Numbers that are not
 * finite, or not in the value's type, are errors with their place. */
Err param_read(ParamReader *reader, Tensor value, Tensor master, const SafeTensor *t,
               const char *path);

/* The same from f32 of the host; name and path are for the sentence. */
Err param_put(ParamReader *reader, Tensor value, Tensor master, const float *from, const char *name,
              const char *path);

/* A file's tensor as f32, whole; the same errors. */
Err param_widen(float *out, const SafeTensor *t, DType dtype, const char *path);

/* Appends the numbers of a device's matrix to a file, row by row. */
Err param_write(SafeTensorsWriter *writer, Exec *ex, Tensor value);

/* A copy of them as f32 in host memory. */
void param_download(float *out, Exec *ex, Tensor value);

#endif
