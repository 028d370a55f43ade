/* safetensors files: a JSON header with names, types, shapes and places, then the bytes.
 * Format: https://huggingface.co/docs/safetensors. A file is mapped, not read, and checked whole
 * before any of it is used. */
#ifndef CADVLM_MODEL_FILES_SAFETENSORS_H
#define CADVLM_MODEL_FILES_SAFETENSORS_H

#include <stdbool.h>

#include "core/err.h"
#include "core/file.h"
#include "core/hash.h"
#include "ops/tensor.h"

enum { SAFETENSORS_DIMS = 8, SAFETENSORS_NAME = 256 };

typedef struct SafeTensor {
    const char *name;
    const char *type; /* as files call it: "F16". Writing: NULL stands for dtype's, count and dtype
                         then give the bytes */
    bool readable;    /* of a type that dtype can name; false: I64, BOOL, F8_E4M3, … */
    DType dtype;
    int dims;
    int64_t shape[SAFETENSORS_DIMS];
    int64_t count; /* elements */
    size_t bytes;
    const void *data; /* reading: borrowed from the mapped file, aligned as the file has it */
} SafeTensor;

typedef struct SafeTensors SafeTensors;

/* Maps and checks a file: the header's size, names (each once), types, shapes against byte ranges,
 * and that the ranges cover all of the file once. */
Err safetensors_open(SafeTensors **file, const char *path);
void safetensors_close(SafeTensors **file);
int safetensors_count(const SafeTensors *file);
const SafeTensor *safetensors_at(const SafeTensors *file, int index);
const SafeTensor *safetensors_find(const SafeTensors *file,
                                   const char *name); /* NULL when absent */
const char *safetensors_path(const SafeTensors *file);

/* Whether numbers_widen reads it: F32, BF16 or F16; else a sentence. `path` is the file's. */
Err safetensors_need_floats(const SafeTensor *tensor, const char *path);

/* "[48, 16]" in `out`. */
enum { SHAPE_TEXT = 192 };
const char *safetensors_shape(char out[SHAPE_TEXT], const SafeTensor *tensor);

/* Adds name, type, shape and samples of the values, from the whole length, to a hash: fast, and
 * another fine-tune of the same model gives another. */
void safetensors_hash(HashStream *stream, const SafeTensor *tensor);

/* Writes tensors (data on the host) as one file, complete or absent. */
Err safetensors_write(const char *path, const SafeTensor *tensors, int count);

/* The same for what does not fit in memory: after the header, which safetensors_writer_open writes,
 * the bytes of one tensor after the other in pieces of any size. Until safetensors_writer_finish
 * nothing stands at `path`. Of `tensors` the data is not read. */
typedef struct SafeTensorsWriter {
    FileWriter file;
    uint64_t left; /* bytes that are still to come */
} SafeTensorsWriter;

Err safetensors_writer_open(SafeTensorsWriter *writer, const char *path, const SafeTensor *tensors,
                            int count);
Err safetensors_writer_add(SafeTensorsWriter *writer, const void *bytes, size_t size);
Err safetensors_writer_finish(SafeTensorsWriter *writer);
void safetensors_writer_abandon(SafeTensorsWriter *writer); /* deletes; safe after finish */

#endif
