/* Where a base's weights lie once they are converted to the type that is computed in: a file that
 * all ranks of a machine map (model_map). */
#ifndef CADVLM_CHECKPOINT_WEIGHT_CACHE_H
#define CADVLM_CHECKPOINT_WEIGHT_CACHE_H

#include "checkpoint/base.h"

/* The name says all that the bytes depend on, so that a file of that name is the right one:
 * cadvlm-TYPE-WHOSE-STATE.safetensors, of layout and base, and of sizes and times of its files. */
typedef struct WeightCache {
    char folder[PATH_SIZE], path[PATH_SIZE];
    char whose[64]; /* "cadvlm-bf16-0123456789abcdef-" */
} WeightCache;

/* The place for a model's frozen parameters: beside a published base, or where the file is not
 * there and cannot be written in `folder` (NULL: the user's cache), which is made. The file may not
 * be there. */
Err weight_cache_find(WeightCache *place, const Model *model, const Base *base, const char *folder);

/* Deletes those of other states of the same base. Whoever maps such a file keeps it. */
Err weight_cache_remove_old(const WeightCache *place);

#endif
