/* A batch being filled, sample by sample. Private to the data module. */
#ifndef CADVLM_DATA_BATCH_BUILD_H
#define CADVLM_DATA_BATCH_BUILD_H

#include "core/buf.h"
#include "data/batches.h"
#include "data/sample_rows.h"
#include "image/image.h"

/* Arrays for the largest batch there can be, allocated once; `batch` points into them. */
typedef struct BatchBuffer {
    Batch batch; /* first: batch_free gets here from it */
    int capacity;
    int32_t *ids, *positions, *starts, *label_rows, *targets;
    uint8_t *pixels;
    uint64_t *samples_seen;
    const char **sample_ids;
    int *datasets;
} BatchBuffer;

/* ERR_CONFIG for options that cannot be. */
Err batch_options_check(const BatchesOptions *options);

/* Room for `samples` samples of max_length rows. */
Err batch_buffer_new(BatchBuffer **buffer, const BatchesOptions *options, int samples);
void batch_buffer_free(BatchBuffer **buffer);
void batch_buffer_clear(BatchBuffer *buffer);

/* Memory for one sample, kept from sample to sample. */
typedef struct SampleScratch {
    Buf bytes;
    SampleRows rows;
} SampleScratch;

void sample_scratch_free(SampleScratch *scratch);

/* Where a sample comes from and what is done to it. */
typedef struct SamplePlan {
    const Dataset *dataset;
    int dataset_number;
    size_t index;  /* in the dataset */
    uint64_t seen; /* its global number */
    int dx, dy;    /* the picture moves right and down by so many pixels */
} SamplePlan;

/* Reads a sample and appends it. *rows: how many it has; with more than max_length it was cut
 * (OVERLONG_TRUNCATE) or not appended (OVERLONG_DROP). Errors name the sample. */
Err batch_buffer_add(BatchBuffer *buffer, const BatchesOptions *options, const SamplePlan *plan,
                     SampleScratch *scratch, int *rows);

/* Notes in the batch that a sample that was to be in it has so many rows. */
void batch_buffer_note(BatchBuffer *buffer, const BatchesOptions *options, int rows);

#endif
