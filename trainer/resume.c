#include "trainer/resume.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/resume.h"
#include "core/json.h"
#include "core/log.h"
#include "data/tokenizer/tokenizer.h"

enum { TOKENIZER_MAX = 1 << 30 };

/* ---- names of what the run began with ---- */

/* As state.json keeps them. */
static bool same_text(const char *a, const char *b) {
    Json *x = js_new_text(a), *y = js_new_text(b);
    bool same = !strcmp(js_text(x, NULL), js_text(y, NULL));
    js_free(&x);
    js_free(&y);
    return same;
}

static bool same_place(const char *a, const char *b) {
    char x[PATH_SIZE], y[PATH_SIZE];
    return a[0] && b[0] && realpath(a, x) && realpath(b, y) && !strcmp(x, y);
}

static int check_name(const char *key, const char *was, const char *is) {
    if (same_text(was, is) || same_place(was, is)) return 0;
    config_cannot_change(key, was[0] ? was : "(none)", is[0] ? is : "(none)");
    return 1;
}

/* Checkpoints of earlier versions do not say which base the run was given. */
static int check_names(const TrainState *was, const Config *given) {
    if (!was->names_known) return 0;
    return check_name("base_model", was->base_model, given->base_model) +
           check_name("adapter", was->adapter, given->adapter);
}

/* ---- micro-batches ---- */

/* Accumulation means something only through the micro-batches of a step, which a run keeps. */
static int check_micro_batches(const TrainState *was, const Config *was_given, const Config *given,
                               int ranks) {
    const int64_t before = was_given->training.gradient_accumulation_steps,
                  now = given->training.gradient_accumulation_steps;
    char texts[2][32];
    if (given->training.micro_batches || now == before || now * ranks == was->micro_batches)
        return 0;
    snprintf(texts[0], sizeof texts[0], "%lld", (long long)before);
    snprintf(texts[1], sizeof texts[1], "%lld", (long long)now);
    config_cannot_change("training.gradient_accumulation_steps", texts[0], texts[1]);
    log_error("a step of this run has %d micro-batches, whatever the ranks; training.micro_batches "
              "changes that",
              was->micro_batches);
    return 1;
}

/* ---- the tokenizer ---- */

/* Whether two folders have the same file of that name, or both none. */
static Err same_file(bool *same, const char *a, const char *b, const char *name) {
    char paths[2][PATH_SIZE];
    Buf texts[2] = {{0}, {0}};
    TRY(path_join(paths[0], a, name));
    TRY(path_join(paths[1], b, name));
    bool there = file_exists(paths[0]);
    *same = there == file_exists(paths[1]);
    if (!there || !*same) return OK;
    Err err = file_read(&texts[0], paths[0], TOKENIZER_MAX);
    if (err == OK) err = file_read(&texts[1], paths[1], TOKENIZER_MAX);
    *same = err == OK && texts[0].size == texts[1].size &&
            !memcmp(buf_cstr(&texts[0]), buf_cstr(&texts[1]), texts[0].size);
    for (int i = 0; i < 2; i++) buf_free(&texts[i]);
    return err;
}

/* In a folder of its own the tokenizer has the names that it has in a checkpoint. */
static Err same_tokenizer(bool *same, const char *path, const char *checkpoint,
                          const char *folder) {
    TRY(file_make_directories(folder));
    TRY(tokenizer_copy(path, folder));
    *same = true;
    for (int i = 0; tokenizer_files[i] && *same; i++)
        TRY(same_file(same, folder, checkpoint, tokenizer_files[i]));
    return OK;
}

/* The run's own config, as it was before. */
static bool had_this_tokenizer(const Config *given) {
    char path[PATH_SIZE];
    Config *was = malloc(sizeof *was);
    CHECK(was, "out of memory: a config");
    bool same = path_join(path, given->output_dir, "config.yaml") == OK &&
                config_load(was, path, NULL, 0) == OK && !strcmp(was->tokenizer, given->tokenizer);
    free(was);
    return same;
}

/* By its files, wherever it lies. One that is gone costs nothing: the checkpoint has its own. But
 * one that the run was never given is another. */
static int check_tokenizer(const Config *given, const char *checkpoint) {
    char folder[PATH_SIZE];
    bool same = true;
    if (!given->tokenizer[0]) return 0;
    Err err = path_join(folder, given->output_dir, "tokenizer");
    if (err == OK) err = file_temporary(folder, folder);
    if (err == OK) err = same_tokenizer(&same, given->tokenizer, checkpoint, folder);
    if (err != OK) {
        ErrState kept;
        err_save(&kept);
        same = had_this_tokenizer(given);
        IGNORE(err_restore(&kept));
        if (same)
            log_warn("tokenizer: %s; the run goes on with that of %s", err_message(), checkpoint);
        else
            log_error("tokenizer: %s", err_message());
    }
    IGNORE(file_remove_tree(folder));
    err_clear();
    if (same) return 0;
    config_cannot_change("tokenizer", checkpoint, given->tokenizer);
    return 1;
}

/* ---- all ---- */

/* The sizes that the user states; with a base they are the checkpoint's, as `is` has them. */
static void put_sizes(Config *is, const Config *was, const Config *given) {
    bool drop = is->model.vision.drop_first_patch;
    if (!given->model.from_scratch) return;
    is->model.vision = given->model.vision;
    is->model.vision.drop_first_patch = drop;
    is->model.connector = given->model.connector;
    is->model.llm = given->model.llm;
    if (!given->model.llm.vocab) is->model.llm.vocab = was->model.llm.vocab; /* the tokenizer's */
}

/* both[0]: what it was; both[1]: what it is to be. */
static Err compare(Config both[2], const Config *given, const char *checkpoint, int ranks) {
    char path[PATH_SIZE];
    TrainState state;
    TRY(path_join(path, checkpoint, "config.yaml"));
    TRY(config_load(&both[0], path, NULL, 0));
    TRY(train_state_read(&state, checkpoint));
    put_sizes(&both[1], &both[0], given);
    int wrong = config_resume(&both[0], &both[1]) + check_names(&state, given) +
                check_micro_batches(&state, &both[0], given, ranks) +
                check_tokenizer(given, checkpoint);
    REQUIRE(wrong == 0, ERR_CONFIG,
            "%d setting%s cannot change when a run goes on from %s: set %s back, or choose another "
            "output_dir",
            wrong, wrong == 1 ? "" : "s", checkpoint, wrong == 1 ? "it" : "them");
    return OK;
}

Err resume_check(const Config *given, const Config *is, const char *checkpoint, int ranks) {
    Config *both = malloc(2 * sizeof *both);
    CHECK(both, "out of memory: two configs");
    both[1] = *is;
    Err err = compare(both, given, checkpoint, ranks);
    free(both);
    return err;
}
