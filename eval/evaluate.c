/* The way of a sample: its picture goes through the model in a batch; the text that comes out goes
 * to the workers of this rank, which build and measure it while the model reads the next batch.
 *
 * Batch b of `size` samples belongs to rank b mod ranks; the reference of a sample is built once,
 * whatever the model makes of it, since a worker that a result has killed says nothing of it. */
#include "eval/evaluate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/progress.h"
#include "core/signals.h"
#include "eval/validate.h"

enum { SAMPLES_MAX = 1000000 };

/* The samples of all datasets, one after the other. */
typedef struct Samples {
    size_t *indices;                  /* in their datasets */
    size_t starts[EVAL_SETS_MAX + 1]; /* of each dataset in `indices` */
    size_t count;
} Samples;

typedef enum TaskKind {
    TASK_REFERENCE,
    TASK_RESULT,
    TASK_TARGET_PICTURE,
    TASK_RESULT_PICTURE
} TaskKind;

/* What a worker was asked for; the tag of its request. */
typedef struct Task {
    TaskKind kind;
    EvalRecord *record;
    GalleryEntry *entry; /* NULL: not in the gallery */
    struct Task *next;   /* a list of all of them, to be freed at the end */
} Task;

typedef struct Evaluation {
    Comm *comm;
    Generator *generator;
    const EvalOptions *options;
    CadPool *pool;
    Samples samples;
    size_t rounds, size; /* batches of this rank, samples a batch */
    EvalRecord *records; /* [rounds · size] of this rank */
    GalleryEntry *entries;
    int entry_count;
    Task *tasks;
    int under_way; /* requests to the workers */
    Progress progress;
    size_t progress_before; /* samples of passes that are over */
} Evaluation;

/* ---- the samples ---- */

static Err list_samples(Samples *samples, const EvalOptions *o) {
    *samples = (Samples){0};
    for (int s = 0; s < o->set_count; s++) {
        size_t *found, count;
        const Dataset *dataset = o->sets[s].dataset;
        TRY(split_indices(dataset, o->split, o->limit, &found, &count));
        samples->indices =
            realloc(samples->indices, (samples->count + count + 1) * sizeof *samples->indices);
        CHECK(samples->indices, "out of memory: %zu samples", samples->count + count);
        memcpy(samples->indices + samples->count, found, count * sizeof *found);
        free(found);
        samples->count += count;
        samples->starts[s + 1] = samples->count;
        REQUIRE(samples->count <= SAMPLES_MAX, ERR_INPUT,
                "%zu samples to evaluate; %d are possible: take fewer of each dataset",
                samples->count, SAMPLES_MAX);
        REQUIRE(count, ERR_INPUT, "%s has no samples of the split %s", dataset_path(dataset),
                split_name(o->split));
        REQUIRE(count >= 2 || !o->shuffled, ERR_INPUT,
                "%s has one sample of the split %s: to exchange pictures takes two",
                dataset_path(dataset), split_name(o->split));
    }
    return OK;
}

static int set_of(const Evaluation *e, size_t sample) {
    int set = 0;
    while (sample >= e->samples.starts[set + 1]) set++;
    return set;
}

/* The sample, in the numbering of all datasets, whose picture `sample` is shown. */
static size_t picture_of(const Evaluation *e, size_t sample, bool shuffled) {
    if (!shuffled) return sample;
    int set = set_of(e, sample);
    size_t first = e->samples.starts[set], count = e->samples.starts[set + 1] - first;
    return first + eval_donor(sample - first, count);
}

/* ---- loss ---- */

static void tell_overlong(const Evaluation *e, int set, const OverlongCount *count) {
    if (!count->overlong || comm_rank(e->comm) != 0) return;
    log_warn("%s: %lld of %lld references are left out of loss and accuracy: they have up to %lld "
             "rows, the model takes %d (its training.max_length)",
             e->options->sets[set].name, (long long)count->overlong, (long long)count->samples,
             (long long)count->longest, e->generator->options.max_length);
}

static Err add_loss(Evaluation *e, int set, bool shuffled, EvalMetrics *metrics, EvalMetrics *all) {
    size_t first = e->samples.starts[set], count = e->samples.starts[set + 1] - first,
           *pictures = NULL;
    if (shuffled) {
        pictures = malloc(count * sizeof *pictures);
        CHECK(pictures, "out of memory: %zu samples", count);
        for (size_t i = 0; i < count; i++)
            pictures[i] = e->samples.indices[first + eval_donor(i, count)];
    }
    Validation v;
    Err err =
        validate(e->comm, e->generator->model, &e->generator->options,
                 e->options->sets[set].dataset, e->samples.indices + first, pictures, count, &v);
    free(pictures);
    TRY(err);
    eval_add_loss(metrics, v.loss, v.accuracy, v.labels);
    eval_add_loss(all, v.loss, v.accuracy, v.labels);
    metrics->overlong += v.overlong.overlong;
    all->overlong += v.overlong.overlong;
    if (!shuffled) tell_overlong(e, set, &v.overlong); /* the control has the same */
    return OK;
}

/* ---- workers ---- */

static Err submit(Evaluation *e, CadRequest *request, TaskKind kind, EvalRecord *record,
                  GalleryEntry *entry) {
    Task *task = malloc(sizeof *task);
    CHECK(task, "out of memory: a task");
    *task = (Task){.kind = kind, .record = record, .entry = entry, .next = e->tasks};
    e->tasks = task;
    request->tag = task;
    TRY(cad_pool_submit(e->pool, request));
    e->under_way++;
    return OK;
}

/* Once nothing is under way. */
static void free_tasks(Evaluation *e) {
    for (Task *task = e->tasks, *next; task; task = next) {
        next = task->next;
        free(task);
    }
    e->tasks = NULL;
}

static Err take_reply(const Evaluation *e, const CadReply *reply) {
    const Task *task = reply->tag;
    const char *folder = e->options->folder;
    switch (task->kind) {
    case TASK_REFERENCE: eval_take_reference(task->record, reply); return OK;
    case TASK_RESULT:
        eval_take_result(task->record, reply);
        if (!task->entry) return OK;
        task->entry->line = reply->line;
        memcpy(task->entry->message, reply->message, sizeof task->entry->message);
        return OK;
    case TASK_TARGET_PICTURE:
        return gallery_picture(task->entry, folder, "target.png", &reply->png);
    case TASK_RESULT_PICTURE:
        return gallery_picture(task->entry, folder, "result.png", &reply->png);
    }
    return OK;
}

static Err stop_if_asked(void) {
    REQUIRE(!signals_pending(), ERR_STOPPED, "stopped during an evaluation");
    return OK;
}

/* Takes replies until only `left` requests are under way. */
static Err drain(Evaluation *e, int left) {
    Err err = OK;
    while (err == OK && e->under_way > left) {
        CadReply reply;
        CHECK(cad_pool_next(e->pool, &reply), "%d requests are lost", e->under_way);
        e->under_way--;
        err = take_reply(e, &reply);
        cad_reply_free(&reply);
        if (err == OK) err = stop_if_asked();
    }
    return err;
}

/* ---- one batch ---- */

/* What is held of a batch between the model and the workers. */
typedef struct Drawings {
    Buf *memory; /* of the samples */
    Sample *samples;
    Image *images;
    char **prompts;
    const char **names;
    GeneratedCode *generated;
    int count;
} Drawings;

static void *some(size_t count, size_t size) {
    void *memory = calloc(count, size);
    CHECK(memory, "out of memory: %zu drawings", count);
    return memory;
}

static Drawings drawings_new(int count) {
    size_t n = (size_t)count;
    return (Drawings){.memory = some(n, sizeof(Buf)),
                      .samples = some(n, sizeof(Sample)),
                      .images = some(n, sizeof(Image)),
                      .prompts = some(n, sizeof(char *)),
                      .names = some(n, sizeof(char *)),
                      .generated = some(n, sizeof(GeneratedCode)),
                      .count = count};
}

static void drawings_free(Drawings *d) {
    for (int i = 0; i < d->count; i++) {
        buf_free(&d->memory[i]);
        image_free(&d->images[i]);
        free(d->prompts[i]);
        generated_code_free(&d->generated[i]);
    }
    free(d->memory);
    free(d->samples);
    free(d->images);
    free(d->prompts);
    free(d->names);
    free(d->generated);
}

static Err read_drawing(Evaluation *e, Drawings *d, int i, size_t sample, bool shuffled) {
    const EvalSet *set = &e->options->sets[set_of(e, sample)];
    const BatchesOptions *options = &e->generator->options;
    size_t picture = picture_of(e, sample, shuffled);
    if (picture == sample) {
        TRY(picture_read(&d->images[i], &d->samples[i], &d->memory[i], options, set->dataset,
                         e->samples.indices[sample]));
    } else {
        Buf other = {0};
        Sample donor;
        Err err = picture_read(&d->images[i], &donor, &other, options, set->dataset,
                               e->samples.indices[picture]);
        buf_free(&other);
        TRY(err);
        TRY(dataset_read(set->dataset, e->samples.indices[sample], &d->samples[i], &d->memory[i]));
    }
    d->prompts[i] = strndup(d->samples[i].prompt, d->samples[i].prompt_size);
    CHECK(d->prompts[i], "out of memory: a prompt");
    d->names[i] = d->samples[i].id;
    return OK;
}

/* The gallery's place for a sample, or NULL. */
static GalleryEntry *entry_of(Evaluation *e, size_t sample, int *number) {
    size_t count = (size_t)e->entry_count, total = e->samples.count;
    *number = (int)((sample * count + total - 1) / total); /* the first at or after the sample */
    if (*number >= e->entry_count) return NULL;
    return gallery_sample(*number, e->entry_count, total) == sample ? &e->entries[*number] : NULL;
}

static Err show(Evaluation *e, size_t sample, const Drawings *d, int i, EvalRecord *record) {
    int number;
    GalleryEntry *entry = entry_of(e, sample, &number);
    DrawStyle style = draw_style_default(GALLERY_PICTURE);
    const Buf *code = &d->generated[i].code;
    TRY(gallery_add(entry, e->options->folder, number, e->options->sets[set_of(e, sample)].name,
                    &d->samples[i], code));
    CadRequest target = {
        .code = d->samples[i].code, .code_size = d->samples[i].code_size, .draw = &style};
    CadRequest result = {.code = buf_cstr(code), .code_size = code->size, .draw = &style};
    TRY(submit(e, &target, TASK_TARGET_PICTURE, record, entry));
    return submit(e, &result, TASK_RESULT_PICTURE, record, entry);
}

static Err score(Evaluation *e, size_t sample, const Drawings *d, int i, EvalRecord *record,
                 bool shuffled) {
    const GeneratedCode *generated = &d->generated[i];
    const Sample *s = &d->samples[i];
    int number;
    GalleryEntry *entry = shuffled ? NULL : entry_of(e, sample, &number);
    record->done = 1;
    record->tokens = generated->tokens;
    record->ended = generated->ended;
    record->confidence = generated->confidence;
    record->identical = generated->code.size == s->code_size &&
                        !memcmp(buf_cstr(&generated->code), s->code, s->code_size);
    CadRequest reference = {.code = s->code, .code_size = s->code_size};
    if (!shuffled) TRY(submit(e, &reference, TASK_REFERENCE, record, NULL));
    if (entry) TRY(show(e, sample, d, i, record));
    CadRequest result = {.code = buf_cstr(&generated->code),
                         .code_size = generated->code.size,
                         .reference_code = s->code,
                         .reference_size = s->code_size};
    return submit(e, &result, TASK_RESULT, record, entry);
}

static Err read_and_submit(Evaluation *e, Drawings *d, size_t first, EvalRecord *records,
                           bool shuffled) {
    for (int i = 0; i < d->count; i++) TRY(read_drawing(e, d, i, first + (size_t)i, shuffled));
    TRY(generator_run(e->generator, d->images, (const char *const *)d->prompts, d->names, d->count,
                      e->options->max_new, d->generated));
    /* The batch before was measured meanwhile; what is left of it must not pile up. */
    TRY(drain(e, (int)e->size));
    for (int i = 0; i < d->count; i++)
        TRY(score(e, first + (size_t)i, d, i, &records[i], shuffled));
    return OK;
}

static Err one_batch(Evaluation *e, size_t round, bool shuffled) {
    size_t first = (round * (size_t)comm_size(e->comm) + (size_t)comm_rank(e->comm)) * e->size;
    if (first >= e->samples.count) return OK;
    size_t left = e->samples.count - first;
    Drawings drawings = drawings_new((int)(left < e->size ? left : e->size));
    Err err = stop_if_asked();
    if (err == OK)
        err = read_and_submit(e, &drawings, first, e->records + round * e->size, shuffled);
    drawings_free(&drawings);
    return err;
}

/* ---- one pass over all samples ---- */

static void report(Evaluation *e, size_t rounds, const char *note) {
    if (comm_rank(e->comm) != 0) return;
    size_t done = rounds * e->size * (size_t)comm_size(e->comm);
    if (done > e->samples.count) done = e->samples.count;
    progress_set(&e->progress, (int64_t)(e->progress_before + done), note);
}

/* Records of all ranks, in the order of samples. */
static Err gather(Evaluation *e, EvalRecord *out) {
    size_t ranks = (size_t)comm_size(e->comm), own = e->rounds * e->size;
    EvalRecord *all = some(ranks * own, sizeof *all);
    Err err = comm_gather_all(e->comm, all, e->records, own * sizeof *all);
    for (size_t i = 0; i < e->samples.count && err == OK; i++) {
        size_t batch = i / e->size;
        out[i] = all[batch % ranks * own + batch / ranks * e->size + i % e->size];
    }
    free(all);
    return err;
}

static Err run_pass(Evaluation *e, bool shuffled, EvalRecord *out) {
    const char *note = shuffled ? "with exchanged pictures" : NULL;
    for (size_t round = 0; round < e->rounds; round++) {
        TRY(comm_agree(e->comm, one_batch(e, round, shuffled)));
        report(e, round + 1, note);
    }
    TRY(comm_agree(e->comm, drain(e, 0)));
    free_tasks(e);
    e->progress_before += e->samples.count;
    return gather(e, out);
}

static void add_metrics(const Evaluation *e, const EvalRecord *records, bool shuffled,
                        EvalResult *out) {
    for (int s = 0; s < out->set_count; s++) {
        size_t first = e->samples.starts[s];
        eval_summarise(shuffled ? &out->sets[s].shuffled : &out->sets[s].real, records + first,
                       e->samples.starts[s + 1] - first);
    }
    eval_summarise(shuffled ? &out->all.shuffled : &out->all.real, records, e->samples.count);
}

static Err add_losses(Evaluation *e, bool shuffled, EvalResult *out) {
    for (int s = 0; s < out->set_count; s++)
        TRY(add_loss(e, s, shuffled, shuffled ? &out->sets[s].shuffled : &out->sets[s].real,
                     shuffled ? &out->all.shuffled : &out->all.real));
    return OK;
}

/* ---- the gallery ---- */

static Err write_gallery(Evaluation *e, const EvalRecord *records) {
    size_t bytes = (size_t)e->entry_count * sizeof *e->entries;
    GalleryEntry *all = some((size_t)comm_size(e->comm), bytes + 1);
    Err err = comm_gather_all(e->comm, all, e->entries, bytes);
    for (int i = 0; i < e->entry_count && err == OK; i++) {
        for (int r = 0; r < comm_size(e->comm) && !e->entries[i].there; r++)
            e->entries[i] = all[r * e->entry_count + i];
        e->entries[i].record = records[gallery_sample(i, e->entry_count, e->samples.count)];
    }
    free(all);
    TRY(err);
    return comm_agree(e->comm, comm_rank(e->comm) == 0
                                   ? gallery_finish(e->options->folder, e->entries, e->entry_count)
                                   : OK);
}

static Err begin_gallery(Evaluation *e) {
    const EvalOptions *o = e->options;
    if (!o->folder || o->gallery < 1) return OK;
    size_t count = (size_t)o->gallery < e->samples.count ? (size_t)o->gallery : e->samples.count;
    e->entry_count = (int)(count < GALLERY_MAX ? count : GALLERY_MAX);
    e->entries = some((size_t)e->entry_count, sizeof *e->entries);
    return comm_agree(e->comm, comm_rank(e->comm) == 0 ? gallery_begin(o->folder) : OK);
}

/* ---- all of it ---- */

static Err set_up(Evaluation *e) {
    const EvalOptions *o = e->options;
    CHECK(o->set_count >= 1 && o->set_count <= EVAL_SETS_MAX, "%d datasets", o->set_count);
    TRY(list_samples(&e->samples, o));
    e->size = (size_t)e->generator->options.size;
    size_t per_round = e->size * (size_t)comm_size(e->comm);
    e->rounds = (e->samples.count + per_round - 1) / per_round;
    e->records = some(e->rounds * e->size, sizeof *e->records);
    return cad_pool_open(&e->pool, o->workers > 0 ? o->workers : e->generator->threads, o->limits);
}

/* The exchanged pictures change nothing about the references. */
static void forget_results(Evaluation *e) {
    for (size_t i = 0; i < e->rounds * e->size; i++) {
        EvalRecord *r = &e->records[i], kept = *r;
        *r = (EvalRecord){.reference_status = kept.reference_status};
        memcpy(r->reference_dims, kept.reference_dims, sizeof r->reference_dims);
    }
}

static Err run(Evaluation *e, EvalResult *out) {
    EvalRecord *records = some(e->samples.count, sizeof *records);
    Err err = begin_gallery(e);
    if (err == OK) err = run_pass(e, false, records);
    if (err == OK) {
        add_metrics(e, records, false, out);
        err = add_losses(e, false, out);
    }
    if (err == OK && e->entry_count) err = write_gallery(e, records);
    if (err == OK && e->options->shuffled) {
        forget_results(e);
        err = run_pass(e, true, records);
        if (err == OK) {
            add_metrics(e, records, true, out);
            err = add_losses(e, true, out);
        }
    }
    free(records);
    return err;
}

static void tear_down(Evaluation *e) {
    cad_pool_close(&e->pool);
    free_tasks(e);
    free(e->samples.indices);
    free(e->records);
    free(e->entries);
}

Err evaluate(Comm *comm, Generator *generator, const EvalOptions *options, EvalResult *out) {
    Evaluation e = {.comm = comm, .generator = generator, .options = options};
    double began = clock_seconds();
    *out = (EvalResult){.set_count = options->set_count, .shuffled = options->shuffled};
    for (int s = 0; s < options->set_count; s++)
        memcpy(out->names[s], options->sets[s].name, EVAL_NAME_SIZE);
    signals_catch();
    Err err = comm_agree(comm, set_up(&e));
    if (err == OK) {
        if (comm_rank(comm) == 0)
            progress_open(&e.progress, "evaluating", "parts", 0,
                          (int64_t)e.samples.count * (options->shuffled ? 2 : 1));
        err = run(&e, out);
        if (comm_rank(comm) == 0) progress_close(&e.progress, NULL);
    }
    if (err != OK && e.entry_count && comm_rank(comm) == 0) gallery_abandon(options->folder);
    tear_down(&e);
    signals_release();
    out->seconds = clock_seconds() - began;
    return err;
}

Json *eval_result_json(const EvalResult *r) {
    Json *root = eval_metrics_json(&r->all.real), *sets = js_new_object();
    if (r->shuffled) js_set(root, "shuffled", eval_metrics_json(&r->all.shuffled));
    for (int s = 0; s < r->set_count; s++) {
        Json *set = eval_metrics_json(&r->sets[s].real);
        if (r->shuffled) js_set(set, "shuffled", eval_metrics_json(&r->sets[s].shuffled));
        js_set(sets, r->names[s], set);
    }
    js_set(root, "by_dataset", sets);
    js_set_number(root, "seconds", r->seconds);
    return root;
}
