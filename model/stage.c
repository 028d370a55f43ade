/* A batch on its way to the device: all its arrays in one block, one copy, no waiting. */
#include <string.h>

#include "model/parts.h"

enum { ALIGN = 64 };

/* Where the arrays of a batch lie in the block. */
typedef struct Layout {
    size_t ids, positions, starts, label_rows, targets, pixels, bytes;
} Layout;

static size_t place(size_t *at, size_t bytes) {
    size_t here = *at;
    *at = (here + bytes + ALIGN - 1) / ALIGN * ALIGN;
    return here;
}

static size_t pixel_bytes(const Model *model, int images) {
    const VisionConfig *c = &model->spec.vision;
    return (size_t)images * (size_t)(c->image_size * c->image_size * c->channels);
}

static Layout layout_of(const Model *model, int samples, int tokens, int labels, int images) {
    Layout l = {0};
    size_t n = sizeof(int32_t);
    l.ids = place(&l.bytes, (size_t)tokens * n);
    l.positions = place(&l.bytes, (size_t)tokens * n);
    l.starts = place(&l.bytes, (size_t)(samples + 1) * n);
    l.label_rows = place(&l.bytes, (size_t)labels * n);
    l.targets = place(&l.bytes, (size_t)labels * n);
    l.pixels = place(&l.bytes, pixel_bytes(model, images));
    return l;
}

Err stage_open(Model *model) {
    const ModelLimits *m = &model->limits;
    if (exec_is_host(model->ex)) return OK;
    model->batch_bytes = layout_of(model, m->samples, m->tokens, m->labels, m->images).bytes;
    model->batch_memory = exec_alloc(model->ex, model->batch_bytes);
    REQUIRE(model->batch_memory && exec_stage(model->ex, model->batch_bytes), ERR_MEMORY,
            "out of memory: a batch of %zu MiB", model->batch_bytes >> 20);
    return OK;
}

void stage_close(Model *model) {
    exec_free(model->ex, model->batch_memory, model->batch_bytes);
    model->batch_memory = NULL;
}

static const void *put(Model *model, char *host, size_t at, const void *array, size_t bytes) {
    memcpy(host + at, array, bytes);
    return model->batch_memory + at;
}

Err stage_batch(Model *model, const Batch *batch) {
    model->batch = *batch;
    if (exec_is_host(model->ex)) return OK;
    Layout l = layout_of(model, batch->samples, batch->tokens, batch->labels, batch->images);
    char *host = exec_stage(model->ex, l.bytes);
    REQUIRE(host, ERR_MEMORY, "out of memory: %zu bytes to stage a batch", l.bytes);
    size_t n = sizeof(int32_t), tokens = (size_t)batch->tokens * n,
           labels = (size_t)batch->labels * n;
    Batch *b = &model->batch;
    b->ids = put(model, host, l.ids, batch->ids, tokens);
    b->positions = put(model, host, l.positions, batch->positions, tokens);
    b->starts = put(model, host, l.starts, batch->starts, (size_t)(batch->samples + 1) * n);
    b->label_rows = put(model, host, l.label_rows, batch->label_rows, labels);
    b->targets = put(model, host, l.targets, batch->targets, labels);
    b->pixels = put(model, host, l.pixels, batch->pixels, pixel_bytes(model, batch->images));
    exec_send(model->ex, model->batch_memory, l.bytes);
    return OK;
}

Err stage_pixels(Model *model, const Batch *batch) {
    Batch pictures = {.images = batch->images,
                      .image_size = batch->image_size,
                      .image_channels = batch->image_channels,
                      .image_rows = batch->image_rows,
                      .pixels = batch->pixels,
                      .ids = batch->ids,
                      .positions = batch->positions,
                      .starts = batch->starts,
                      .label_rows = batch->label_rows,
                      .targets = batch->targets};
    return stage_batch(model, &pictures);
}
