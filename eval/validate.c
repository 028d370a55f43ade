#include "eval/validate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/signals.h"
#include "eval/generator.h"

Err split_indices(const Dataset *dataset, Split split, size_t limit, size_t **indices,
                  size_t *count) {
    size_t all = dataset_count(dataset), found = 0;
    *indices = malloc((all + 1) * sizeof **indices);
    CHECK(*indices, "out of memory: %zu samples", all);
    for (size_t i = 0; i < all; i++)
        if (dataset_split(dataset, i) == split) (*indices)[found++] = i;
    if (limit && limit < found) {
        for (size_t i = 0; i < limit; i++) (*indices)[i] = (*indices)[i * found / limit];
        found = limit;
    }
    *count = found;
    return OK;
}

typedef struct BatchSum {
    double loss;
    int64_t hits, labels, samples;
    OverlongCount overlong;
} BatchSum;

/* Where the samples come from. */
typedef struct Walk {
    Model *model;
    const BatchesOptions *options;
    const Dataset *dataset;
    const size_t *indices, *pictures;
    size_t count;
} Walk;

/* The pictures that the samples of the batch are shown instead of their own. Samples may have been
 * left out of it, but their order is that of the walk. */
static Err other_pixels(const Walk *walk, const Batch *batch, size_t first, uint8_t *pixels) {
    REQUIRE(batch->images == batch->samples, ERR_INPUT,
            "%s has samples without a picture: pictures cannot be exchanged",
            dataset_path(walk->dataset));
    size_t bytes =
        (size_t)batch->image_size * (size_t)batch->image_size * (size_t)batch->image_channels;
    Buf memory = {0};
    Err err = OK;
    for (int i = 0; i < batch->samples && err == OK; i++) {
        while (walk->indices[first] != batch->samples_seen[i]) first++;
        Image image;
        Sample sample;
        err = picture_read(&image, &sample, &memory, walk->options, walk->dataset,
                           walk->pictures[first++]);
        if (err == OK) memcpy(pixels + (size_t)i * bytes, image.pixels, bytes);
        image_free(&image);
    }
    buf_free(&memory);
    return err;
}

static Err forward_batch(const Walk *walk, const Batch *batch, BatchSum *out) {
    TRY(model_forward(walk->model, batch, false));
    TRY(model_loss(walk->model, &out->loss, &out->hits));
    out->labels = batch->labels;
    out->samples = batch->samples;
    return OK;
}

static Err forward_with_other_pictures(const Walk *walk, const Batch *batch, size_t first,
                                       BatchSum *out) {
    uint8_t *pixels = malloc((size_t)batch->samples * (size_t)batch->image_size *
                             (size_t)batch->image_size * (size_t)batch->image_channels);
    CHECK(pixels, "out of memory: %d pictures", batch->samples);
    Batch shown = *batch;
    shown.pixels = pixels;
    Err err = other_pixels(walk, batch, first, pixels);
    if (err == OK) err = forward_batch(walk, &shown, out);
    free(pixels);
    return err;
}

static Err one_batch(const Walk *walk, size_t first, BatchSum *out) {
    size_t size = (size_t)walk->options->size;
    size_t count = walk->count - first < size ? walk->count - first : size;
    Batch *batch;
    TRY(batch_build(&batch, walk->options, walk->dataset, walk->indices + first, (int)count));
    out->overlong = (OverlongCount){(int64_t)count, batch->overlong, batch->overlong_rows};
    Err err = OK;
    if (batch->samples)
        err = walk->pictures ? forward_with_other_pictures(walk, batch, first, out)
                             : forward_batch(walk, batch, out);
    batch_free(&batch);
    return err;
}

static Err run(Comm *comm, const Walk *walk, BatchSum *sums, size_t rounds) {
    size_t size = (size_t)walk->options->size, ranks = (size_t)comm_size(comm),
           rank = (size_t)comm_rank(comm);
    for (size_t round = 0; round < rounds; round++) {
        BatchSum own = {0};
        size_t first = (round * ranks + rank) * size;
        Err err = signals_pending()
                      ? err_raise(ERR_STOPPED, __FILE__, __LINE__, "stopped during a validation")
                      : OK;
        if (err == OK && first < walk->count) err = one_batch(walk, first, &own);
        TRY(comm_agree(comm, err));
        TRY(comm_gather_all(comm, sums + round * ranks, &own, sizeof own));
    }
    return OK;
}

Err validate(Comm *comm, Model *model, const BatchesOptions *options, const Dataset *dataset,
             const size_t *indices, const size_t *pictures, size_t count, Validation *out) {
    size_t per_round = (size_t)options->size * (size_t)comm_size(comm),
           rounds = (count + per_round - 1) / per_round;
    size_t batches = rounds * (size_t)comm_size(comm);
    BatchSum *sums = calloc(batches + 1, sizeof *sums);
    CHECK(sums, "out of memory: %zu batches", batches);
    Walk walk = {model, options, dataset, indices, pictures, count};
    Err err = run(comm, &walk, sums, rounds);
    BatchSum total = {0};
    for (size_t i = 0; i < batches; i++) {
        total.loss += sums[i].loss;
        total.hits += sums[i].hits;
        total.labels += sums[i].labels;
        total.samples += sums[i].samples;
        overlong_add(&total.overlong, sums[i].overlong);
    }
    free(sums);
    double labels = total.labels ? (double)total.labels : (double)NAN;
    *out = (Validation){.loss = isnan(total.loss) ? (double)NAN : total.loss / labels,
                        .accuracy = (double)total.hits / labels,
                        .samples = (size_t)total.samples,
                        .labels = total.labels,
                        .overlong = total.overlong};
    return err;
}
