/* The masks of dropout in a training step: which keys the model draws them by, seen by a backend
 * that notes them. Every dropout of a step has a key of its own, backward has those of forward, and
 * every other step, and every other micro-batch, has all others. */
#include "ops/backend.h"
#include "tests/support/test.h"
#include "tests/support/tiny.h"

enum { KEYS_MAX = 1024 };

typedef struct Keys {
    uint64_t keys[KEYS_MAX];
    int count;
} Keys;

static Keys *noting;
static const Backend *real;

static void note(Dropout dropout) {
    ASSERT_TRUE(dropout.p > 0 && noting->count < KEYS_MAX);
    noting->keys[noting->count++] = dropout.key;
}

static void note_dropout(Exec *ex, Tensor out, Tensor x, Dropout dropout, bool accumulate) {
    note(dropout);
    real->dropout(ex, out, x, dropout, accumulate);
}

static void note_xa(Exec *ex, Tensor xa, Tensor x, Tensor a, float scale, Dropout dropout) {
    note(dropout);
    real->lora_xa(ex, xa, x, a, scale, dropout);
}

static void note_da(Exec *ex, Tensor da, Tensor g, Tensor x, Dropout dropout) {
    note(dropout);
    real->lora_da(ex, da, g, x, dropout);
}

static void note_dx(Exec *ex, Tensor dx, Tensor g, Tensor a, Dropout dropout) {
    note(dropout);
    real->lora_dx(ex, dx, g, a, dropout);
}

static bool has(const Keys *keys, uint64_t key) {
    for (int i = 0; i < keys->count; i++)
        if (keys->keys[i] == key) return true;
    return false;
}

/* ---- a model whose dropouts are noted ---- */

typedef struct Step {
    Keys forward, backward;
} Step;

typedef struct Fixture {
    Tiny tiny;
    Backend spy;
    Batch batch;
} Fixture;

static void fixture_open(Fixture *f, Checkpointing level) {
    ModelSpec spec;
    tiny_spec_of(&spec, TINY_PHI, TUNE_LORA, TUNE_FULL, TUNE_LORA);
    spec.lora.dropout = 0.2;
    spec.llm.residual_dropout = 0.1;
    spec.checkpointing = level;
    tiny_open(&f->tiny, &spec, DT_F32, 1);
    f->batch = tiny_batch(&spec, 2, 1);
    real = f->tiny.ex->backend;
    f->spy = *real;
    f->spy.dropout = note_dropout;
    f->spy.lora_xa = note_xa;
    f->spy.lora_da = note_da;
    f->spy.lora_dx = note_dx;
    f->tiny.ex->backend = &f->spy;
}

static void fixture_close(Fixture *f) {
    f->tiny.ex->backend = real;
    tiny_batch_free(&f->batch);
    tiny_close(&f->tiny);
}

static Step *take_step(Fixture *f, int64_t step, int micro_batch) {
    Step *s = calloc(1, sizeof *s);
    f->batch.step = step;
    f->batch.micro_batch = micro_batch;
    noting = &s->forward;
    ASSERT_OK(model_forward(f->tiny.model, &f->batch, true));
    noting = &s->backward;
    ASSERT_OK(model_backward(f->tiny.model));
    return s;
}

/* ---- what is asked of them ---- */

TEST(every_dropout_of_a_step_has_a_mask_of_its_own) {
    Fixture f;
    fixture_open(&f, CHECKPOINT_NONE);
    Step *s = take_step(&f, 5, 1);
    /* Adapters of six linears in two layers of the tower and in three of the decoder (whose q, k
     * and v, and the two of the MLP, are apart), and two branches in each of these. */
    ASSERT_INT(s->forward.count, ==, 2 * 6 + 3 * 6 + 3 * 2);
    for (int i = 0; i < s->forward.count; i++)
        for (int j = 0; j < i; j++) ASSERT_TRUE(s->forward.keys[i] != s->forward.keys[j]);
    free(s);
    fixture_close(&f);
}

TEST(backward_has_the_masks_of_forward) {
    for (int level = CHECKPOINT_NONE; level <= CHECKPOINT_LAYERS; level++) {
        Fixture f;
        fixture_open(&f, (Checkpointing)level);
        Step *s = take_step(&f, 5, 1);
        for (int i = 0; i < s->backward.count; i++)
            ASSERT_TRUE(has(&s->forward, s->backward.keys[i]));
        for (int i = 0; i < s->forward.count; i++)
            ASSERT_TRUE(has(&s->backward, s->forward.keys[i]));
        free(s);
        fixture_close(&f);
    }
}

TEST(every_step_and_every_micro_batch_has_other_masks) {
    static const int64_t places[][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {2, 0}, {1000000, 3}};
    enum { PLACES = sizeof places / sizeof places[0] };
    Step *steps[PLACES];
    Fixture f;
    fixture_open(&f, CHECKPOINT_NONE);
    for (int i = 0; i < PLACES; i++) steps[i] = take_step(&f, places[i][0], (int)places[i][1]);
    for (int i = 0; i < PLACES; i++)
        for (int j = 0; j < i; j++)
            for (int k = 0; k < steps[i]->forward.count; k++)
                ASSERT_TRUE(!has(&steps[j]->forward, steps[i]->forward.keys[k]));
    Step *again = take_step(&f, places[3][0], (int)places[3][1]); /* and the same ones again */
    ASSERT_TRUE(!memcmp(&again->forward, &steps[3]->forward, sizeof again->forward));
    free(again);
    for (int i = 0; i < PLACES; i++) free(steps[i]);
    fixture_close(&f);
}

TEST(nothing_is_dropped_but_in_training) {
    Fixture f;
    Keys none = {0};
    fixture_open(&f, CHECKPOINT_NONE);
    noting = &none;
    double first = tiny_loss(&f.tiny, &f.batch);
    f.batch.step = 9;
    ASSERT_REAL(tiny_loss(&f.tiny, &f.batch), ==, first);
    ASSERT_INT(none.count, ==, 0);
    fixture_close(&f);
}
