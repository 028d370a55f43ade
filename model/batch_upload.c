/* A batch on its way to the device: all its arrays in one block, one copy, no waiting. */
#include <stdlib.h>
#include <string.h>

#include "model/model_internal.h"

enum { ALIGN = 64 };

/* Where the arrays of a batch lie in the block. */
typedef struct Layout {
    size_t ids, positions, starts, label_rows, targets;
    size_t active_rows, active_starts, active_lengths, active_labels;
    size_t pixels, bytes;
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

static Layout layout_of(const Model *model, const Dims *d) {
    Layout l = {0};
    size_t n = sizeof(int32_t), samples = (size_t)d->samples, tokens = (size_t)d->tokens,
           labels = (size_t)d->labels, active = (size_t)d->active;
    l.ids = place(&l.bytes, tokens * n);
    l.positions = place(&l.bytes, tokens * n);
    l.starts = place(&l.bytes, (samples + 1) * n);
    l.label_rows = place(&l.bytes, labels * n);
    l.targets = place(&l.bytes, labels * n);
    l.active_rows = place(&l.bytes, active * n);
    l.active_starts = place(&l.bytes, (samples + 1) * n);
    l.active_lengths = place(&l.bytes, samples * n);
    l.active_labels = place(&l.bytes, labels * n);
    l.pixels = place(&l.bytes, pixel_bytes(model, d->images));
    return l;
}

Err batch_upload_open(Model *model) {
    const ModelLimits *m = &model->limits;
    Dims largest = {.images = m->images,
                    .samples = m->samples,
                    .tokens = m->tokens,
                    .labels = m->labels,
                    .active = m->tokens};
    size_t active = (size_t)(m->tokens + 2 * m->samples + 1 + m->labels);
    model->active_memory = calloc(active, sizeof *model->active_memory);
    CHECK(model->active_memory, "out of memory: rows of a batch");
    if (exec_is_host(model->ex)) return OK;
    model->batch_bytes = layout_of(model, &largest).bytes;
    model->batch_memory = exec_alloc(model->ex, model->batch_bytes);
    REQUIRE(model->batch_memory && exec_stage(model->ex, model->batch_bytes), ERR_MEMORY,
            "out of memory: a batch of %zu MiB; lower training.per_device_batch_size",
            model->batch_bytes >> 20);
    return OK;
}

void batch_upload_close(Model *model) {
    exec_free(model->ex, model->batch_memory, model->batch_bytes);
    free(model->active_memory);
    model->batch_memory = NULL;
    model->active_memory = NULL;
}

/* Finds the active rows of a batch, in host memory. */
static void find_active(Model *model, const Batch *batch) {
    int32_t *rows = model->active_memory, *starts = rows + model->limits.tokens;
    int32_t *lengths = starts + model->limits.samples + 1,
            *labels = lengths + model->limits.samples;
    ActiveRows a = {.rows = rows, .starts = starts, .lengths_k = lengths, .labels = labels};
    int label = 0;
    starts[0] = 0;
    for (int s = 0; s < batch->samples; s++) {
        int first_label = label, end = batch->starts[s + 1];
        while (label < batch->labels && batch->label_rows[label] < end) label++;
        int first = label > first_label ? batch->label_rows[first_label] : end,
            last = label > first_label ? batch->label_rows[label - 1] : end - 1;
        for (int i = first_label; i < label; i++)
            labels[i] = a.count + batch->label_rows[i] - first;
        for (int row = first; row <= last; row++) rows[a.count++] = row;
        starts[s + 1] = a.count;
        lengths[s] = label > first_label ? last + 1 - batch->starts[s] : 0;
        if (starts[s + 1] - starts[s] > a.longest) a.longest = starts[s + 1] - starts[s];
    }
    model->active = a;
}

static const void *put(Model *model, char *host, size_t at, const void *array, size_t bytes) {
    if (bytes) memcpy(host + at, array, bytes);
    return model->batch_memory + at;
}

Err batch_upload(Model *model, const Batch *batch) {
    model->batch = *batch;
    find_active(model, batch);
    if (exec_is_host(model->ex)) return OK;
    ActiveRows *a = &model->active;
    Dims dims = {.images = batch->images,
                 .samples = batch->samples,
                 .tokens = batch->tokens,
                 .labels = batch->labels,
                 .active = a->count};
    Layout l = layout_of(model, &dims);
    char *host = exec_stage(model->ex, l.bytes);
    REQUIRE(host, ERR_MEMORY, "out of memory: %zu bytes to stage a batch", l.bytes);
    size_t n = sizeof(int32_t), tokens = (size_t)batch->tokens * n,
           labels = (size_t)batch->labels * n, samples = (size_t)batch->samples * n;
    Batch *b = &model->batch;
    b->ids = put(model, host, l.ids, batch->ids, tokens);
    b->positions = put(model, host, l.positions, batch->positions, tokens);
    b->starts = put(model, host, l.starts, batch->starts, samples + n);
    b->label_rows = put(model, host, l.label_rows, batch->label_rows, labels);
    b->targets = put(model, host, l.targets, batch->targets, labels);
    a->rows = put(model, host, l.active_rows, a->rows, (size_t)a->count * n);
    a->starts = put(model, host, l.active_starts, a->starts, samples + n);
    a->lengths_k = put(model, host, l.active_lengths, a->lengths_k, samples);
    a->labels = put(model, host, l.active_labels, a->labels, labels);
    b->pixels = put(model, host, l.pixels, batch->pixels, pixel_bytes(model, batch->images));
    exec_send(model->ex, model->batch_memory, l.bytes);
    return OK;
}

Err batch_upload_pixels(Model *model, const Batch *batch) {
    static const int32_t nothing[1] = {0};
    Batch pictures = *batch;
    pictures.samples = pictures.tokens = pictures.labels = 0;
    pictures.starts = nothing;
    return batch_upload(model, &pictures);
}
