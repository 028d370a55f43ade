/* Whether two models compute the same; see the header. */
#include "eval/compare.h"

#include <math.h>
#include <stdlib.h>

#include "core/rng.h"

enum { LOGIT_ROWS = 64, MADE_UP_TOKENS = 96 };

/* One sample of noise and drawn tokens, all of them labels. */
typedef struct MadeUp {
    Batch batch;
    int32_t *ints;
    uint8_t *pixels;
} MadeUp;

static void make_up(MadeUp *m, const Generator *r, int number) {
    const BatchesOptions *o = &r->options;
    int room = o->max_length - o->image_rows, text = room < MADE_UP_TOKENS ? room : MADE_UP_TOKENS,
        rows = o->image_rows + text;
    size_t pixels = (size_t)(o->image_size * o->image_size * o->image_channels);
    Rng rng;
    rng_open(&rng, 1, RNG_TEST, (uint64_t)number);
    m->ints = calloc((size_t)(4 * rows + 2), sizeof *m->ints);
    m->pixels = malloc(pixels);
    CHECK(m->ints && m->pixels, "out of memory: a sample");
    int32_t *ids = m->ints, *positions = ids + rows, *labels = positions + rows,
            *targets = labels + rows, *starts = targets + rows;
    for (int i = 0; i < rows; i++) {
        positions[i] = i;
        ids[i] = i < o->image_rows ? -1 - i : rng_range(&rng, 0, tokenizer_vocab(r->tokenizer) - 1);
    }
    for (int i = 0; i + 1 < text; i++) {
        labels[i] = o->image_rows + i;
        targets[i] = ids[o->image_rows + i + 1];
    }
    starts[1] = rows;
    for (size_t i = 0; i < pixels; i++) m->pixels[i] = (uint8_t)rng_u32(&rng);
    m->batch = (Batch){.samples = 1,
                       .tokens = rows,
                       .labels = text - 1,
                       .images = 1,
                       .image_rows = o->image_rows,
                       .longest = rows,
                       .ids = ids,
                       .positions = positions,
                       .starts = starts,
                       .label_rows = labels,
                       .targets = targets,
                       .image_size = o->image_size,
                       .image_channels = o->image_channels,
                       .pixels = m->pixels};
}

static void made_up_free(MadeUp *m) {
    free(m->ints);
    free(m->pixels);
}

typedef struct Comparing {
    Model *const *models; /* [2] */
    float *logits[2];     /* [LOGIT_ROWS, vocab] each */
    Comparison *out;      /* losses: sums */
} Comparing;

static void compare_logits(Comparison *out, const float *first, const float *second,
                           int64_t count) {
    for (int64_t k = 0; k < count; k++) {
        double a = (double)first[k], difference = fabs(a - (double)second[k]);
        if (isnan(difference) || difference > out->difference)
            out->difference = difference; /* NaN stays */
        if (fabs(a) > out->largest) out->largest = fabs(a);
    }
}

static Err compare_batch(Comparing *c, const Batch *batch) {
    int64_t vocab = model_spec(c->models[0])->llm.vocab;
    for (int i = 0; i < 2; i++) {
        double loss;
        int64_t hits;
        TRY(model_forward(c->models[i], batch, false));
        TRY(model_loss(c->models[i], &loss, &hits));
        c->out->losses[i] += loss;
    }
    for (int first = 0; first < batch->labels; first += LOGIT_ROWS) {
        int count = batch->labels - first < LOGIT_ROWS ? batch->labels - first : LOGIT_ROWS;
        for (int i = 0; i < 2; i++) TRY(model_logits(c->models[i], first, count, c->logits[i]));
        compare_logits(c->out, c->logits[0], c->logits[1], count * vocab);
    }
    c->out->samples += batch->samples;
    c->out->rows += batch->labels;
    return OK;
}

static Err compare_made_up(Comparing *c, const Generator *r, int samples) {
    Err err = OK;
    for (int i = 0; i < samples && err == OK; i++) {
        MadeUp m;
        make_up(&m, r, i);
        err = compare_batch(c, &m.batch);
        made_up_free(&m);
    }
    return err;
}

static Err compare_data(Comparing *c, const Generator *r, const char *data, int samples) {
    Dataset *dataset;
    size_t count = (size_t)samples;
    TRY(dataset_open(&dataset, data));
    if (count > dataset_count(dataset)) count = dataset_count(dataset);
    Err err = OK;
    for (size_t i = 0; i < count && err == OK; i++) {
        Batch *batch;
        err = batch_build(&batch, &r->options, dataset, &i, 1);
        if (err == OK && batch->labels) err = compare_batch(c, batch);
        batch_free(&batch);
    }
    dataset_close(&dataset);
    return err;
}

Err compare_models(Comparison *out, Model *const models[2], const Generator *generator,
                   const char *data, int samples) {
    Comparing c = {.models = models, .out = out};
    int64_t vocab = model_spec(models[0])->llm.vocab;
    *out = (Comparison){0};
    for (int i = 0; i < 2; i++) {
        c.logits[i] = malloc((size_t)(LOGIT_ROWS * vocab) * sizeof(float));
        CHECK(c.logits[i], "out of memory: logits");
    }
    Err err =
        data ? compare_data(&c, generator, data, samples) : compare_made_up(&c, generator, samples);
    for (int i = 0; i < 2; i++) {
        free(c.logits[i]);
        out->losses[i] /= out->rows ? out->rows : 1;
    }
    return err;
}
