/* checkpoint: what is saved, what is refused, and what is believed. */
#include <math.h>

#include "core/file.h"
#include "core/json.h"
#include "tests/test.h"
#include "tests/tiny.h"
#include "tests/train_fixture.h"
#include "trainer/checkpoint.h"
#include "trainer/patience.h"

/* A tiny model and its optimiser, and all that goes into a checkpoint beside them. */
typedef struct Saved {
    Comm *comm;
    Tiny tiny;
    Optim optim;
    Config config;
    Origin origin;
    TrainState state;
} Saved;

static void saved_open(Saved *s) {
    ModelSpec spec;
    *s = (Saved){.state = {.step = 7,
                           .slots = 2,
                           .update = {.updates = 6, .loss_scale = 1, .patience = 2},
                           .samples = 42,
                           .skipped = 1,
                           .val_loss = 3.5,
                           .validated_step = 6,
                           .best_val_loss = 3.25,
                           .worse = 2,
                           .dataset_count = 2,
                           .dataset_samples = {30, 12}}};
    ASSERT_OK(comm_open(&s->comm));
    config_defaults(&s->config);
    tiny_spec(&spec, TUNE_FROZEN, TUNE_FULL, TUNE_LORA);
    tiny_open(&s->tiny, &spec, DT_F32, 1);
    ASSERT_OK(optim_open(&s->optim, s->tiny.ex, s->tiny.model, &s->config.training));
    fixture_tokenizer(test_path("tokenizer.json"));
}

static void saved_close(Saved *s) {
    optim_close(&s->optim);
    tiny_close(&s->tiny);
    comm_close(&s->comm);
}

static Err save_in(Saved *s, const char *folder) {
    return checkpoint_save(s->comm, folder, &s->config, &s->origin, test_path("tokenizer.json"),
                           &s->optim, &s->state, 3);
}

/* All ranks in one folder. */
static const char *shared_folder(Comm *comm) {
    static char folder[PATH_SIZE];
    snprintf(folder, sizeof folder, "%s", comm_rank(comm) == 0 ? test_path("checkpoints") : "");
    ASSERT_OK(comm_broadcast(comm, folder, sizeof folder));
    return folder;
}

TEST_RANKS(ranks_whose_weights_differ_save_nothing, 2, 3) {
    Saved s;
    saved_open(&s);
    const char *folder = shared_folder(s.comm);
    char found[PATH_SIZE];
    float first;
    exec_download(s.tiny.ex, &first, s.optim.master, sizeof first);
    float other = comm_rank(s.comm) == comm_size(s.comm) - 1 ? nextafterf(first, 9) : first;
    exec_upload(s.tiny.ex, s.optim.master, &other, sizeof other);
    ASSERT_ERR(save_in(&s, folder), ERR_COMM, "the run has diverged");
    ASSERT_OK(checkpoint_find(found, folder));
    ASSERT_TEXT(found, "");
    exec_upload(s.tiny.ex, s.optim.master, &first, sizeof first);
    ASSERT_OK(save_in(&s, folder));
    ASSERT_OK(checkpoint_find(found, folder));
    ASSERT_TEXT(path_name(found), "step-000000007");
    ASSERT_OK(comm_barrier(s.comm));
    saved_close(&s);
}

TEST(a_state_is_read_as_it_was_saved) {
    Saved s;
    saved_open(&s);
    ASSERT_OK(save_in(&s, test_path("checkpoints")));
    TrainState t;
    ASSERT_OK(checkpoint_read_state(&t, test_path("checkpoints/step-000000007")));
    ASSERT_INT(t.step, ==, 7);
    ASSERT_INT(t.slots, ==, 2);
    ASSERT_INT(t.update.updates, ==, 6);
    ASSERT_REAL(t.update.loss_scale, ==, 1);
    ASSERT_INT(t.update.patience, ==, 2);
    ASSERT_INT(t.samples, ==, 42);
    ASSERT_INT(t.skipped, ==, 1);
    ASSERT_REAL(t.val_loss, ==, 3.5);
    ASSERT_INT(t.validated_step, ==, 6);
    ASSERT_REAL(t.best_val_loss, ==, 3.25);
    ASSERT_INT(t.worse, ==, 2);
    ASSERT_INT(t.dataset_count, ==, 2);
    ASSERT_INT(t.dataset_samples[0], ==, 30);
    ASSERT_INT(t.dataset_samples[1], ==, 12);
    saved_close(&s);
}

TEST(a_better_validation_gives_the_run_its_patience_back) {
    static const struct {
        double loss, best;
        int worse;
    } rows[] = {{5, 5, 0}, {6, 5, 1}, {5, 5, 2}, {4, 4, 0}, {4.5, 4, 1}, {NAN, 4, 2}, {3, 3, 0}};
    TrainState state = {.best_val_loss = NAN};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        patience_count(&state, rows[i].loss);
        ASSERT_REAL(state.best_val_loss, ==, rows[i].best);
        ASSERT_INT(state.worse, ==, rows[i].worse);
        ASSERT_INT(patience_is_over(&state, 2), ==, rows[i].worse == 2);
        ASSERT_TRUE(!patience_is_over(&state, 0));
    }
}
