/* Threads that fill batches ahead of the trainer.
 *
 * Everything in a batch follows from its number, so a thread takes the next number and fills that
 * batch alone. Batch n lies in parcel n % parcels: it is filled when the trainer has done with
 * batch n - parcels, and handed out when all before it are. An error travels in the parcel that
 * could not be filled. */
#include "data/batches.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/rng.h"
#include "data/batch_build.h"

/* The samples of a dataset that take part. */
typedef struct Selection {
    size_t *indices;
    size_t count;
    _Atomic int32_t
        *rows; /* [count] of those that were dropped: saves reading them again; else 0 */
} Selection;

/* A batch on its way from a thread to the trainer. */
typedef struct Parcel {
    BatchBuffer *buffer;
    ErrState error; /* code != OK: there is no batch, and none will follow */
    enum { PARCEL_EMPTY, PARCEL_AT_WORK, PARCEL_FULL } state;
} Parcel;

/* One of the threads; a mixer and scratch are not for two. */
typedef struct Loader {
    struct Batches *batches;
    pthread_t thread;
    Mixer mixer;
    SampleScratch scratch;
} Loader;

struct Batches {
    BatchesOptions options;
    Mixer mixer;
    Selection selections[MIXER_DATASETS_MAX];
    atomic_bool closing;

    /* Under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    Parcel *parcels;
    int parcel_count;
    int64_t begun; /* batches that a thread has taken on */
    bool failed;   /* one of them could not be filled: no more are taken on */

    Loader *loaders;
    int loader_count; /* that were started */

    /* Of the trainer. */
    int64_t given;    /* batches handed out */
    Parcel *borrowed; /* the parcel of the last batches_next */
};

/* ---- the threads ---- */

/* A whole number within ± reach (rounded up: the outermost are rarer while reach is not whole). */
static int draw_within(Rng *rng, double reach) {
    return (int)floor((2 * reach + 1) * rng_uniform(rng) - reach);
}

/* The pixels by which sample n of the run, in this step, is moved. */
static void draw_shift(const BatchesOptions *o, int64_t step, uint64_t n, SamplePlan *plan) {
    if (!o->shift) return;
    double reach = o->shift;
    if (step < o->shift_steps) reach *= (double)step / (double)o->shift_steps;
    Rng rng;
    rng_open(&rng, o->seed, RNG_AUGMENT, n);
    plan->dx = draw_within(&rng, reach);
    plan->dy = draw_within(&rng, reach);
}

/* All of them were dropped. */
static Err refuse_selection(const Selection *selection, const char *name, int max_length) {
    int shortest = INT32_MAX;
    for (size_t i = 0; i < selection->count; i++)
        if (selection->rows[i] < shortest) shortest = selection->rows[i];
    FAIL(ERR_INPUT,
         "every sample of %s has more than %d rows (max_length), the shortest %d: raise "
         "training.max_length, or leave the dataset out",
         name, max_length, shortest);
}

/* Appends sample n of the run: the one that the mixer chose or, where that is dropped, the next in
 * its dataset that fits. */
static Err add_sample(Loader *loader, BatchBuffer *buffer, uint64_t n) {
    Batches *b = loader->batches;
    const BatchesOptions *o = &b->options;
    MixerChoice choice = mixer_choose(&loader->mixer, n);
    Selection *selection = &b->selections[choice.dataset];
    SamplePlan plan = {
        .dataset = o->sources[choice.dataset].dataset, .dataset_number = choice.dataset, .seen = n};
    draw_shift(o, buffer->batch.step, n, &plan);
    for (size_t tried = 0; tried < selection->count; tried++) {
        size_t at = (choice.index + tried) % selection->count;
        int rows = atomic_load_explicit(&selection->rows[at], memory_order_relaxed),
            samples = buffer->batch.samples;
        plan.index = selection->indices[at];
        REQUIRE(!atomic_load(&b->closing), ERR_STOPPED, "batches are being closed");
        if (!rows) TRY(batch_buffer_add(buffer, o, &plan, &loader->scratch, &rows));
        if (!tried) batch_buffer_note(buffer, o, rows);
        if (buffer->batch.samples > samples) return OK;
        atomic_store_explicit(&selection->rows[at], rows, memory_order_relaxed);
    }
    return refuse_selection(selection, o->sources[choice.dataset].name, o->max_length);
}

/* Batch `number` of this rank's walk. */
static Err fill(Loader *loader, BatchBuffer *buffer, int64_t number) {
    const BatchesOptions *o = &loader->batches->options;
    int own = o->micro_end - o->micro_first;
    batch_buffer_clear(buffer);
    buffer->batch.step = o->first_step + number / own;
    buffer->batch.micro_batch = o->micro_first + (int)(number % own);
    uint64_t first = ((uint64_t)buffer->batch.step * (uint64_t)o->micro_batches +
                      (uint64_t)buffer->batch.micro_batch) *
                     (uint64_t)o->size;
    for (int i = 0; i < o->size; i++) TRY(add_sample(loader, buffer, first + (uint64_t)i));
    return OK;
}

/* Waits for a batch to fill; NULL when there is none any more. */
static Parcel *take_on(Batches *b, int64_t *number) {
    Parcel *parcel = NULL;
    pthread_mutex_lock(&b->lock);
    while (!atomic_load(&b->closing) && !b->failed) {
        parcel = &b->parcels[b->begun % b->parcel_count];
        if (parcel->state == PARCEL_EMPTY) break;
        pthread_cond_wait(&b->changed, &b->lock);
    }
    if (atomic_load(&b->closing) || b->failed)
        parcel = NULL;
    else
        parcel->state = PARCEL_AT_WORK, *number = b->begun++;
    pthread_mutex_unlock(&b->lock);
    return parcel;
}

static void put_state(Batches *b, Parcel *parcel, int state) {
    pthread_mutex_lock(&b->lock);
    parcel->state = state;
    if (state == PARCEL_FULL && parcel->error.code != OK) b->failed = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

static void *load(void *context) {
    Loader *loader = context;
    int64_t number;
    for (Parcel *parcel; (parcel = take_on(loader->batches, &number));) {
        parcel->error.code = OK;
        if (fill(loader, parcel->buffer, number) != OK) err_save(&parcel->error);
        put_state(loader->batches, parcel, PARCEL_FULL);
    }
    return NULL;
}

/* ---- opening ---- */

Err batches_select(const BatchSource *source, Split split, size_t **out, size_t *count) {
    size_t all = dataset_count(source->dataset), n = 0;
    *out = NULL;
    *count = 0;
    size_t *indices = malloc(all * sizeof *indices);
    CHECK(indices, "out of memory: %zu samples", all);
    for (size_t i = 0; i < all && !(source->limit && n == source->limit); i++)
        if (dataset_split(source->dataset, i) == split) indices[n++] = i;
    if (!n) {
        free(indices);
        FAIL(ERR_CONFIG, "dataset %s (%s) has no sample of the split %s", source->name,
             dataset_path(source->dataset), split_name(split));
    }
    *out = indices;
    *count = n;
    return OK;
}

/* Samples of the same complexity stay in the order of the dataset. */
typedef struct Ranked {
    int complexity;
    size_t index;
} Ranked;

static int compare_ranked(const void *a, const void *b) {
    const Ranked *x = a, *y = b;
    if (x->complexity != y->complexity) return x->complexity < y->complexity ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static void sort_by_complexity(Selection *selection, const Dataset *dataset) {
    Ranked *ranked = malloc(selection->count * sizeof *ranked);
    CHECK(ranked, "out of memory: %zu samples", selection->count);
    for (size_t i = 0; i < selection->count; i++)
        ranked[i] =
            (Ranked){dataset_complexity(dataset, selection->indices[i]), selection->indices[i]};
    qsort(ranked, selection->count, sizeof *ranked, compare_ranked);
    for (size_t i = 0; i < selection->count; i++) selection->indices[i] = ranked[i].index;
    free(ranked);
}

static Err open_mixer(Batches *b) {
    const BatchesOptions *o = &b->options;
    double weights[MIXER_DATASETS_MAX];
    size_t counts[MIXER_DATASETS_MAX];
    REQUIRE(o->source_count >= 1 && o->source_count <= MIXER_DATASETS_MAX, ERR_CONFIG,
            "%d datasets to train on; 1 to %d are possible", o->source_count, MIXER_DATASETS_MAX);
    for (int d = 0; d < o->source_count; d++) {
        Selection *selection = &b->selections[d];
        TRY(batches_select(&o->sources[d], o->split, &selection->indices, &selection->count));
        if (o->curriculum_samples) sort_by_complexity(selection, o->sources[d].dataset);
        selection->rows = calloc(selection->count, sizeof *selection->rows);
        CHECK(selection->rows, "out of memory: %zu samples", selection->count);
        weights[d] = o->sources[d].weight;
        counts[d] = selection->count;
        REQUIRE(weights[d] > 0, ERR_CONFIG, "the weight of dataset %s is %g; it must be positive",
                o->sources[d].name, weights[d]);
    }
    TRY(mixer_open(&b->mixer, o->seed, o->source_count, weights, counts));
    if (o->curriculum_samples)
        mixer_set_curriculum(&b->mixer, o->curriculum_start, o->curriculum_samples);
    return OK;
}

/* Signals are for the trainer's thread. */
static Err start_loaders(Batches *b, int count) {
    sigset_t all, before;
    int failed = 0;
    b->loaders = calloc((size_t)count, sizeof *b->loaders);
    CHECK(b->loaders, "out of memory: %d threads", count);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (!failed && b->loader_count < count) {
        Loader *loader = &b->loaders[b->loader_count];
        loader->batches = b;
        loader->mixer = b->mixer;
        failed = pthread_create(&loader->thread, NULL, load, loader);
        if (!failed) b->loader_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    REQUIRE(b->loader_count, ERR_MEMORY, "cannot start a thread that reads ahead: %s",
            strerror(failed));
    if (failed)
        log_warn("%d threads read ahead instead of %d (dataloader_num_workers): %s",
                 b->loader_count, count, strerror(failed));
    return OK;
}

static Err open_all(Batches *b) {
    BatchesOptions *o = &b->options;
    TRY(batch_options_check(o));
    REQUIRE(o->size >= 1, ERR_CONFIG, "batches of %d samples", o->size);
    REQUIRE(o->micro_batches >= 1 && o->micro_first >= 0 && o->micro_first < o->micro_end &&
                o->micro_end <= o->micro_batches && o->first_step >= 0,
            ERR_CONFIG, "micro-batches %d to %d of %d from step %lld", o->micro_first,
            o->micro_end - 1, o->micro_batches, (long long)o->first_step);
    TRY(open_mixer(b));
    /* Each thread has one at work and one that waits; the trainer holds one. */
    int workers = o->workers > 0 ? o->workers : 1;
    b->parcel_count = 2 * workers + 1;
    b->parcels = calloc((size_t)b->parcel_count, sizeof *b->parcels);
    CHECK(b->parcels, "out of memory: %d batches", b->parcel_count);
    for (int i = 0; i < b->parcel_count; i++)
        TRY(batch_buffer_new(&b->parcels[i].buffer, o, o->size));
    return start_loaders(b, workers);
}

Err batches_open(Batches **out, const BatchesOptions *options) {
    *out = NULL;
    Batches *b = calloc(1, sizeof *b);
    CHECK(b, "out of memory: a walk through batches");
    b->options = *options;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    Err err = open_all(b);
    if (err != OK)
        batches_close(&b);
    else
        *out = b;
    return err;
}

/* ---- the trainer's side ---- */

Err batches_next(Batches *b, const Batch **batch) {
    *batch = NULL;
    if (b->borrowed && b->borrowed->error.code != OK) return err_restore(&b->borrowed->error);
    if (b->borrowed) put_state(b, b->borrowed, PARCEL_EMPTY);
    b->borrowed = &b->parcels[b->given++ % b->parcel_count];
    pthread_mutex_lock(&b->lock);
    while (b->borrowed->state != PARCEL_FULL) pthread_cond_wait(&b->changed, &b->lock);
    pthread_mutex_unlock(&b->lock);
    if (b->borrowed->error.code != OK) return err_restore(&b->borrowed->error);
    *batch = &b->borrowed->buffer->batch;
    return OK;
}

void batches_ledger(Batches *b, int64_t steps, uint64_t out[MIXER_DATASETS_MAX]) {
    uint64_t samples =
        (uint64_t)steps * (uint64_t)b->options.micro_batches * (uint64_t)b->options.size;
    mixer_ledger(&b->mixer, samples, out);
}

void batches_close(Batches **batches) {
    Batches *b = *batches;
    if (!b) return;
    pthread_mutex_lock(&b->lock);
    atomic_store(&b->closing, true);
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    for (int i = 0; i < b->loader_count; i++) {
        pthread_join(b->loaders[i].thread, NULL);
        sample_scratch_free(&b->loaders[i].scratch);
    }
    free(b->loaders);
    for (int i = 0; i < b->parcel_count && b->parcels; i++)
        batch_buffer_free(&b->parcels[i].buffer);
    free(b->parcels);
    for (int d = 0; d < MIXER_DATASETS_MAX; d++) {
        free(b->selections[d].indices);
        free(b->selections[d].rows);
    }
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    free(b);
    *batches = NULL;
}
