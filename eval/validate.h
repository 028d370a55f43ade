/* The loss on held-out samples. */
#ifndef CADVLM_EVAL_VALIDATE_H
#define CADVLM_EVAL_VALIDATE_H

#include "comm/comm.h"
#include "data/batches.h"
#include "eval/overlong.h"
#include "model/model.h"

/* The samples of `split`, in their order; at most `limit` (0: all), spread evenly. *indices is the
 * caller's to free. */
Err split_indices(const Dataset *dataset, Split split, size_t limit, size_t **indices,
                  size_t *count);

typedef struct Validation {
    double loss;     /* nats a label */
    double accuracy; /* share of labels predicted right */
    size_t samples;
    int64_t labels;
    OverlongCount overlong; /* of the samples asked for, those left out included */
} Validation;

/* Collective. Batches are dealt to the ranks; their sums are added in the order of the batches, so
 * that the result has the same bits on any number of ranks. A sample that is too long meets what
 * the options say, and is counted. pictures[count] (may be NULL) are samples whose pictures are
 * shown in place of their own. Stops early, with ERR_STOPPED, on a signal. */
Err validate(Comm *comm, Model *model, const BatchesOptions *options, const Dataset *dataset,
             const size_t *indices, const size_t *pictures, size_t count, Validation *out);

#endif
