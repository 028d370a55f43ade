/* The prefetch thread: it fills buffers from one queue and hands them over in another.
 *
 * Everything in a batch follows from its number, so the thread needs nothing from the trainer but
 * the buffers it has finished with. Its error travels in the buffer that could not be filled. */
#include "data/batches.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/queue.h"
#include "core/rng.h"
#include "data/batch_build.h"

/* The samples of a dataset that take part. */
typedef struct Selection {
    size_t *indices;
    size_t count;
    int32_t *rows; /* [count] of those that were dropped: saves reading them again; else 0 */
} Selection;

/* A batch on its way from the thread to the trainer. */
typedef struct Parcel {
    BatchBuffer *buffer;
    ErrState error; /* code != OK: there is no batch, and none will follow */
} Parcel;

struct Batches {
    BatchesOptions options;
    Mixer mixer;
    Selection selections[MIXER_DATASETS_MAX];
    Parcel *parcels;
    int parcel_count;
    Queue *empty, *full;
    pthread_t thread;
    bool started;
    atomic_bool closing;

    /* Of the thread. */
    int64_t step;
    int micro_batch;
    SampleScratch scratch;

    /* Of the trainer. */
    Parcel *borrowed; /* the parcel of the last batches_next */
    Mixer ledger;     /* a second one, since a mixer is not for two threads */
};

/* ---- the thread ---- */

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
static Err add_sample(Batches *b, BatchBuffer *buffer, uint64_t n) {
    const BatchesOptions *o = &b->options;
    MixerChoice choice = mixer_choose(&b->mixer, n);
    Selection *selection = &b->selections[choice.dataset];
    SamplePlan plan = {
        .dataset = o->sources[choice.dataset].dataset, .dataset_number = choice.dataset, .seen = n};
    draw_shift(o, b->step, n, &plan);
    for (size_t tried = 0; tried < selection->count; tried++) {
        size_t at = (choice.index + tried) % selection->count;
        int rows = selection->rows[at], samples = buffer->batch.samples;
        plan.index = selection->indices[at];
        REQUIRE(!atomic_load(&b->closing), ERR_STOPPED, "batches are being closed");
        if (!rows) TRY(batch_buffer_add(buffer, o, &plan, &b->scratch, &rows));
        if (!tried) batch_buffer_note(buffer, o, rows);
        if (buffer->batch.samples > samples) return OK;
        selection->rows[at] = rows;
    }
    return refuse_selection(selection, o->sources[choice.dataset].name, o->max_length);
}

static Err fill(Batches *b, BatchBuffer *buffer) {
    const BatchesOptions *o = &b->options;
    batch_buffer_clear(buffer);
    buffer->batch.step = b->step;
    buffer->batch.micro_batch = b->micro_batch;
    uint64_t first = ((uint64_t)b->step * (uint64_t)o->micro_batches + (uint64_t)b->micro_batch) *
                     (uint64_t)o->size;
    for (int i = 0; i < o->size; i++) TRY(add_sample(b, buffer, first + (uint64_t)i));
    if (++b->micro_batch == o->micro_end) {
        b->micro_batch = o->micro_first;
        b->step++;
    }
    return OK;
}

static void *prefetch(void *context) {
    Batches *b = context;
    for (void *item; queue_pop(b->empty, &item);) {
        Parcel *parcel = item;
        parcel->error.code = OK;
        Err err = fill(b, parcel->buffer);
        if (err != OK) err_save(&parcel->error);
        if (!queue_push(b->full, parcel) || err != OK) break;
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
    b->ledger = b->mixer;
    return OK;
}

/* Signals are for the trainer's thread. */
static Err start_thread(Batches *b) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&b->thread, NULL, prefetch, b);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    REQUIRE(!failed, ERR_MEMORY, "cannot start the thread that reads ahead: %s", strerror(failed));
    b->started = true;
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
    b->step = o->first_step;
    b->micro_batch = o->micro_first;
    TRY(open_mixer(b));
    /* One more than waits: the one the trainer holds. */
    b->parcel_count = (o->ahead > 0 ? o->ahead : 2) + 1;
    b->parcels = calloc((size_t)b->parcel_count, sizeof *b->parcels);
    CHECK(b->parcels, "out of memory: %d batches", b->parcel_count);
    b->empty = queue_open((size_t)b->parcel_count);
    b->full = queue_open((size_t)b->parcel_count);
    for (int i = 0; i < b->parcel_count; i++) {
        TRY(batch_buffer_new(&b->parcels[i].buffer, o, o->size));
        CHECK(queue_push(b->empty, &b->parcels[i]), "a shut queue");
    }
    return start_thread(b);
}

Err batches_open(Batches **out, const BatchesOptions *options) {
    *out = NULL;
    Batches *b = calloc(1, sizeof *b);
    CHECK(b, "out of memory: a walk through batches");
    b->options = *options;
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
    if (b->borrowed) CHECK(queue_push(b->empty, b->borrowed), "a shut queue");
    void *item;
    CHECK(queue_pop(b->full, &item), "a shut queue");
    b->borrowed = item;
    if (b->borrowed->error.code != OK) return err_restore(&b->borrowed->error);
    *batch = &b->borrowed->buffer->batch;
    return OK;
}

void batches_ledger(Batches *b, int64_t steps, uint64_t out[MIXER_DATASETS_MAX]) {
    uint64_t samples =
        (uint64_t)steps * (uint64_t)b->options.micro_batches * (uint64_t)b->options.size;
    mixer_ledger(&b->ledger, samples, out);
}

void batches_close(Batches **batches) {
    Batches *b = *batches;
    if (!b) return;
    atomic_store(&b->closing, true);
    if (b->empty) queue_shut(b->empty);
    if (b->full) queue_shut(b->full);
    if (b->started) pthread_join(b->thread, NULL);
    queue_close(&b->empty);
    queue_close(&b->full);
    for (int i = 0; i < b->parcel_count && b->parcels; i++)
        batch_buffer_free(&b->parcels[i].buffer);
    free(b->parcels);
    for (int d = 0; d < MIXER_DATASETS_MAX; d++) {
        free(b->selections[d].indices);
        free(b->selections[d].rows);
    }
    sample_scratch_free(&b->scratch);
    free(b);
    *batches = NULL;
}
