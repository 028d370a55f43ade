/* Merging of adapters into the weights they belong to: W += scale · B · A in f32. */
#include "model/files/merge.h"

#include <stdlib.h>

#include "model/model_internal.h"

/* ---- where they are ---- */

/* An adapter says which columns of the linear's output it adds to; the modules of a linear are
 * joined, so that those are the rows of one module. */
static ParamId weight_of(const Model *model, const Linear *linear,
                         const struct LinearAdapter *adapter) {
    int64_t row = 0;
    for (int i = 0; i < linear->modules; i++) {
        const Param *p = &model->params.items[linear->weight + i];
        if (row == adapter->first) return linear->weight + i;
        row += p->rows;
    }
    CHECK(false, "an adapter from row %lld on belongs to no module of %s",
          (long long)adapter->first, model->params.items[linear->weight].name);
}

static int add_places(AdapterPlace *places, const Model *model, const Linear *const *linears,
                      int linear_count) {
    int count = 0;
    for (int k = 0; k < linear_count; k++)
        for (int i = 0; i < linears[k]->lora_count; i++) {
            const struct LinearAdapter *l = &linears[k]->lora[i];
            places[count++] = (AdapterPlace){.weight = weight_of(model, linears[k], l),
                                             .a = l->a,
                                             .b = l->b,
                                             .r = l->r,
                                             .scale = l->scale};
        }
    return count;
}

AdapterPlace *adapter_places(const Model *model, int *count) {
    AdapterPlace *places = calloc((size_t)model->params.count + 1, sizeof *places);
    CHECK(places, "out of memory: adapters");
    *count = 0;
    for (int i = 0; i < model->spec.vision.layers; i++) {
        const VisionLayer *l = &model->vision[i];
        const Linear *all[] = {&l->qkv, &l->out, &l->fc1, &l->fc2};
        *count += add_places(places + *count, model, all, 4);
    }
    for (int i = 0; i < model->spec.llm.layers; i++) {
        const DecoderLayer *l = &model->layers[i];
        const Linear *all[] = {&l->qkv, &l->out, &l->up, &l->down};
        *count += add_places(places + *count, model, all, 4);
    }
    return places;
}

const AdapterPlace *adapter_place_of(const AdapterPlace *places, int count, ParamId weight) {
    for (int i = 0; i < count; i++)
        if (places[i].weight == weight) return &places[i];
    return NULL;
}

/* ---- merging ---- */

static size_t bytes_of(int64_t rows, int64_t cols) {
    return (size_t)(rows * cols) * sizeof(float);
}

Err merge_into(Exec *ex, float *w, int64_t rows, int64_t cols, const float *a, const float *b,
               int64_t r, float scale) {
    float *memory = NULL, *dw = w, *da = (float *)(uintptr_t)a, *db = (float *)(uintptr_t)b;
    size_t bytes = bytes_of(rows, cols) + bytes_of(r, cols) + bytes_of(rows, r);
    if (!exec_is_host(ex)) {
        memory = exec_alloc(ex, bytes);
        REQUIRE(memory, ERR_MEMORY, "out of memory: merging an adapter of %zu MiB", bytes >> 20);
        dw = memory;
        da = dw + rows * cols;
        db = da + r * cols;
        exec_upload(ex, dw, w, bytes_of(rows, cols));
        exec_upload(ex, da, a, bytes_of(r, cols));
        exec_upload(ex, db, b, bytes_of(rows, r));
    }
    op_lora_merge(ex, tensor(dw, DT_F32, rows, cols), tensor(da, DT_F32, r, cols),
                  tensor(db, DT_F32, rows, r), scale);
    if (memory) exec_download(ex, w, dw, bytes_of(rows, cols));
    exec_free(ex, memory, bytes);
    return exec_status(ex);
}
