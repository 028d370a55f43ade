/* Samples of more than training.max_length rows: how many there were, and what is said of them, so
 * that no program is dropped or cut in silence. */
#ifndef CADVLM_EVAL_OVERLONG_H
#define CADVLM_EVAL_OVERLONG_H

#include "core/buf.h"
#include "data/batches.h"

typedef struct OverlongCount {
    int64_t samples;  /* that were to be used */
    int64_t overlong; /* of these */
    int64_t longest;  /* rows of the longest of them, before it was cut */
} OverlongCount;

void overlong_add(OverlongCount *total, OverlongCount more);

/* "5 of 6 samples are too long (up to 412 rows, training.max_length is 250); OUTCOME" where outcome
 * is what training.overlong makes of them, in training (replaced) or in a validation (left out). */
void overlong_text(Buf *out, OverlongCount count, const BatchesOptions *options, bool training);

#endif
