/* safetensors files: a JSON header with names, types, shapes and places, then the bytes.
 * Format: https://huggingface.co/docs/safetensors. A file is checked whole before any of it is
 * used. */
#ifndef CADVLM_MODEL_SAFETENSORS_H
#define CADVLM_MODEL_SAFETENSORS_H

#include "core/err.h"
#include "ops/tensor.h"

enum { SAFETENSORS_DIMS = 8, SAFETENSORS_NAME = 256 };

typedef struct SafeTensor {
    const char *name;
    DType dtype;
    int dims;
    int64_t shape[SAFETENSORS_DIMS];
    int64_t count;    /* elements */
    const void *data; /* reading: borrowed from the mapped file, aligned as the file has it */
} SafeTensor;

typedef struct SafeTensors SafeTensors;

/* Maps and checks a file: header size, names, types (F32, BF16, F16, I32), shapes against byte
 * ranges, ranges inside the file and without overlap. */
Err safetensors_open(SafeTensors **file, const char *path);
void safetensors_close(SafeTensors **file);
int safetensors_count(const SafeTensors *file);
const SafeTensor *safetensors_at(const SafeTensors *file, int index);
const SafeTensor *safetensors_find(const SafeTensors *file,
                                   const char *name); /* NULL when absent */
const char *safetensors_path(const SafeTensors *file);

/* Writes tensors (data on the host) as one file, complete or absent. */
Err safetensors_write(const char *path, const SafeTensor *tensors, int count);

#endif
