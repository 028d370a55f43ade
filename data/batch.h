/* A micro-batch, ready to train on: the plain struct that the model sees of data.
 *
 * Samples are packed: no padding anywhere. The decoder's rows are the tokens of sample 0, then
 * those of sample 1, …; a row is a text token or one of the image's feature rows. A row has a label
 * when the next token is to be learned. */
#ifndef CADVLM_DATA_BATCH_H
#define CADVLM_DATA_BATCH_H

#include <stdint.h>

typedef struct Batch {
    int samples;    /* B */
    int tokens;     /* T: rows of the decoder, image rows included */
    int labels;     /* rows that have a target */
    int images;     /* pictures; each gives `image_rows` rows of features */
    int image_rows; /* P' rows a picture is to the decoder */
    int longest;    /* the longest sample, rows */

    /* Of the samples that were to be in the batch. */
    int overlong;      /* have more than max_length rows: cut, replaced or left out */
    int overlong_rows; /* rows of the longest of these, before it was cut */

    const int32_t
        *ids; /* [T] token, or -1 - k: row k of the image features (k < images · image_rows) */
    const int32_t *positions;  /* [T] place inside the sample, from 0 */
    const int32_t *starts;     /* [B+1] first row of each sample (cu_seqlens); starts[B] = T */
    const int32_t *label_rows; /* [labels] increasing */
    const int32_t *targets;    /* [labels] the token to predict there */

    int image_size, image_channels;
    const uint8_t *pixels; /* [images, image_size, image_size, image_channels] */

    int64_t
        step; /* which batch of the run this is: a pure function of (config, step, micro-batch) */
    int micro_batch;
    const uint64_t *samples_seen;  /* [B] global number of each sample in the order of the run; its
                                      index in the dataset where there is no order */
    const char *const *sample_ids; /* [B] names, for messages */
    const int *datasets;           /* [B] which dataset each sample came from */
} Batch;

#endif
