/* Batches, prefetched on threads.
 *
 * The batch of (step, micro-batch) holds samples n = (step · micro-batches + micro-batch) · size …
 * + size - 1 of the mixer's order, so it is the same whoever asks for it. Threads read shards,
 * decode pictures, shift them and make tokens, ahead of the trainer; it gets the batches in order,
 * however many threads there are. */
#ifndef CADVLM_DATA_BATCHES_H
#define CADVLM_DATA_BATCHES_H

#include "config/choices.h"
#include "core/err.h"
#include "data/batch.h"
#include "data/mixer.h"
#include "data/picture.h"
#include "data/shard.h"
#include "data/template.h"
#include "data/tokenizer/tokenizer.h"
#include "image/image.h"

/* One dataset of a mix: which samples of it take part. */
typedef struct BatchSource {
    const Dataset *dataset;
    const char *name; /* in messages */
    double weight;
    size_t limit; /* the first so many samples of the split; 0: all */
} BatchSource;

typedef struct BatchesOptions {
    BatchSource sources[MIXER_DATASETS_MAX];
    int source_count;
    Split split;
    const Tokenizer *tokenizer;
    Template template;
    const char *system_prompt; /* of a conversation; NULL: template_system_openecad */
    uint64_t seed;
    /* Simple parts first: the share of a dataset's samples, by complexity, that the run begins
     * with, and after how many samples of the run all take part; 0: no curriculum. */
    double curriculum_start;
    uint64_t curriculum_samples;
    int size;                   /* samples a batch */
    int micro_batches;          /* batches a step, over all ranks */
    int micro_first, micro_end; /* the micro-batches this rank walks through */
    int64_t first_step;
    int max_length;                 /* rows a sample may have, image rows included */
    Overlong overlong;              /* samples that are longer; Batch.overlong counts them */
    int image_size, image_channels; /* what the model takes; channels 1 or 3 */
    PictureFit image_fit;           /* how pictures of another size are brought to it */
    uint8_t image_background[3];    /* around a padded picture (data/picture.h) */
    int image_rows;                 /* rows a picture is to the decoder */
    int shift; /* augmentation: moves the picture by up to ± so many whole pixels each way, white
                  moving in; 0: none */
    int64_t shift_steps; /* steps over which the shift grows to that, evenly; 0: at once */
    int workers;         /* threads that read ahead, each by two batches; 0: 1 */
} BatchesOptions;

typedef struct Batches Batches;

/* Opens the walk: (first_step, micro_first), …, (first_step, micro_end-1), (first_step+1,
 * micro_first), … The datasets and the tokenizer must outlive it. The order is shuffled and
 * endless, for every split. */
Err batches_open(Batches **batches, const BatchesOptions *options);

/* The next batch; borrowed until the next call. An error of the thread (a damaged shard) comes out
 * here, and again from every later call. */
Err batches_next(Batches *batches, const Batch **batch);

/* Waits for the sample at work, not more. NULL-safe; leaves NULL. */
void batches_close(Batches **batches);

/* The samples of a source that take part, in the order of the dataset; *count of them. The caller
 * frees. Validation walks through these with batch_build. */
Err batches_select(const BatchSource *source, Split split, size_t **indices, size_t *count);

/* How many samples of each source the first `steps` steps of the run hold. */
void batches_ledger(Batches *batches, int64_t steps, uint64_t out[MIXER_DATASETS_MAX]);

/* One batch without a walk: the samples `indices` (of `dataset`), in order, unshifted. Uses of the
 * options: tokenizer, template, max_length, overlong, image_*. Samples left out as too long make
 * the batch smaller, down to none. samples_seen are the indices. Free with batch_free. For
 * validation and generation, which must see every sample exactly once. */
Err batch_build(Batch **batch, const BatchesOptions *options, const Dataset *dataset,
                const size_t *indices, int count);

/* What generation starts from: per picture the rows of its sample up to the answer (prompt NULL:
 * an empty one), and no labels. The images must have image_channels, and may have any size that
 * image_fit takes.
 */
Err batch_build_prompts(Batch **batch, const BatchesOptions *options, const Image *images,
                        const char *const *prompts, const char *const *names, int count);
void batch_free(Batch **batch);

#endif
