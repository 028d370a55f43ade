/* Adapters by the weights they belong to, and merging. */
#ifndef CADVLM_MODEL_FILES_MERGE_H
#define CADVLM_MODEL_FILES_MERGE_H

#include "model/model.h"

typedef struct AdapterPlace {
    ParamId weight, a, b;
    int64_t r;
    float scale;
} AdapterPlace;

/* All of a model's; [count], to be freed. */
AdapterPlace *adapter_places(const Model *model, int *count);

/* That of a weight among them, or NULL. */
const AdapterPlace *adapter_place_of(const AdapterPlace *places, int count, ParamId weight);

/* w[rows, cols] += scale · b[rows, r] · a[r, cols], all f32 in host memory, on the device. */
Err merge_into(Exec *ex, float *w, int64_t rows, int64_t cols, const float *a, const float *b,
               int64_t r, float scale);

#endif
