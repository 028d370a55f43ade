/* Batches, prefetched on a thread.
 *
 * The batch of (step, slot) holds samples n = (step · slots + slot) · size … + size - 1 of the
 * mixer's order, so it is the same whoever asks for it. The thread reads shards, decodes pictures,
 * shifts them and makes tokens, ahead of the trainer. */
#ifndef CADVLM_DATA_BATCHES_H
#define CADVLM_DATA_BATCHES_H

#include "core/err.h"
#include "data/batch.h"
#include "data/mixer.h"
#include "data/shard.h"
#include "data/tokenizer.h"

typedef enum Overlong { OVERLONG_DROP, OVERLONG_TRUNCATE, OVERLONG_ERROR } Overlong;

/* One dataset of a mix: which samples of it take part. */
typedef struct BatchSource {
    const Dataset *dataset;
    const char *name;
    double weight;
    size_t limit; /* 0: all */
} BatchSource;

typedef struct BatchesOptions {
    BatchSource sources[MIXER_DATASETS_MAX];
    int source_count;
    Split split;
    const Tokenizer *tokenizer;
    uint64_t seed;
    int size;                 /* samples a batch */
    int slots;                /* batches a step, over all ranks */
    int slot_first, slot_end; /* the slots this rank walks through */
    int64_t first_step;
    int max_length;    /* rows a sample may have, image rows included */
    Overlong overlong; /* too long: drop (the next sample of the dataset takes its place), truncate,
                          or stop */
    int image_size, image_channels;
    int image_rows; /* rows a picture is to the decoder */
    int shift; /* augmentation: moves the picture by up to ± so many whole pixels each way; 0: none
                */
    int ahead; /* batches to prefetch; 0: 2 */
} BatchesOptions;

typedef struct Batches Batches;

/* Opens the walk: (first_step, slot_first), …, (first_step, slot_end-1), (first_step+1,
 * slot_first), … The datasets and the tokenizer must outlive it. `train` order is shuffled and
 * endless. */
Err batches_open(Batches **batches, const BatchesOptions *options);

/* The next batch; borrowed until the next call. An error of the thread (a damaged shard) comes out
 * here. */
Err batches_next(Batches *batches, const Batch **batch);
void batches_close(Batches **batches);

/* Samples that were too long so far in this walk. */
int64_t batches_overlong(const Batches *batches);

/* One batch without a walk: the samples `indices` (of `dataset`), in order, unshifted. Free with
 * batch_free. Used by validation and generation, which must see every sample exactly once. */
Err batch_build(Batch **batch, const BatchesOptions *options, const Dataset *dataset,
                const size_t *indices, int count);
void batch_free(Batch **batch);

#endif
