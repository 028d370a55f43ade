#include "trainer/validate.h"

#include <math.h>
#include <stdlib.h>

#include "trainer/signals.h"

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
} BatchSum;

static Err one_batch(Model *model, const BatchesOptions *options, const Dataset *dataset,
                     const size_t *indices, int count, BatchSum *out) {
    Batch *batch;
    TRY(batch_build(&batch, options, dataset, indices, count));
    Err err = OK;
    if (batch->samples) {
        err = model_forward(model, batch, false);
        if (err == OK) err = model_loss(model, &out->loss, &out->hits);
        out->labels = batch->labels;
        out->samples = batch->samples;
    }
    batch_free(&batch);
    return err;
}

static Err run(Comm *comm, Model *model, const BatchesOptions *options, const Dataset *dataset,
               const size_t *indices, size_t count, BatchSum *sums, size_t rounds) {
    size_t size = (size_t)options->size, ranks = (size_t)comm_size(comm),
           rank = (size_t)comm_rank(comm);
    for (size_t round = 0; round < rounds; round++) {
        BatchSum own = {0};
        size_t first = (round * ranks + rank) * size;
        Err err = signals_pending()
                      ? err_raise(ERR_STOPPED, __FILE__, __LINE__, "stopped during a validation")
                      : OK;
        if (err == OK && first < count)
            err = one_batch(model, options, dataset, indices + first,
                            (int)(count - first < size ? count - first : size), &own);
        TRY(comm_agree(comm, err));
        TRY(comm_gather_all(comm, sums + round * ranks, &own, sizeof own));
    }
    return OK;
}

Err validate(Comm *comm, Model *model, const BatchesOptions *options, const Dataset *dataset,
             const size_t *indices, size_t count, Validation *out) {
    size_t per_round = (size_t)options->size * (size_t)comm_size(comm),
           rounds = (count + per_round - 1) / per_round;
    size_t batches = rounds * (size_t)comm_size(comm);
    BatchSum *sums = calloc(batches + 1, sizeof *sums);
    CHECK(sums, "out of memory: %zu batches", batches);
    Err err = run(comm, model, options, dataset, indices, count, sums, rounds);
    BatchSum total = {0};
    for (size_t i = 0; i < batches; i++) {
        total.loss += sums[i].loss;
        total.hits += sums[i].hits;
        total.labels += sums[i].labels;
        total.samples += sums[i].samples;
    }
    free(sums);
    double labels = total.labels ? (double)total.labels : (double)NAN;
    *out = (Validation){.loss = total.loss / labels,
                        .accuracy = (double)total.hits / labels,
                        .samples = (size_t)total.samples,
                        .labels = total.labels};
    return err;
}
