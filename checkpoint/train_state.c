/* state.json; see the header. */
#include "checkpoint/train_state.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"

enum { FORMAT_VERSION = 1, STATE_FILE_MAX = 1 << 20 };
static const int64_t COUNT_MAX = 1ll << 53; /* whole numbers that every reader of JSON keeps */

/* ---- writing ---- */

Err train_state_write(const TrainState *state, const char *folder) {
    char path[PATH_SIZE], excluded[24];
    TRY(path_join(path, folder, "state.json"));
    Json *root = js_new_object(), *datasets = js_new_array();
    js_set_integer(root, "format_version", FORMAT_VERSION);
    js_set_integer(root, "step", state->step);
    js_set_integer(root, "micro_batches", state->micro_batches);
    js_set_integer(root, "updates", state->update.updates);
    js_set_number(root, "loss_scale", (double)state->update.loss_scale);
    js_set_integer(root, "loss_scale_good_steps", state->update.good_steps);
    js_set_integer(root, "loss_scale_patience", state->update.patience);
    js_set_integer(root, "samples", state->samples);
    js_set_integer(root, "skipped", state->skipped);
    snprintf(excluded, sizeof excluded, "%016llx", (unsigned long long)state->excluded);
    if (state->excluded) js_set_text(root, "excluded", excluded);
    js_set_number(root, "val_loss", state->val_loss);
    js_set_integer(root, "validated_step", state->validated_step);
    js_set_number(root, "best_val_loss", state->best_val_loss);
    js_set_integer(root, "best_step", state->best_step);
    js_set_integer(root, "worse_validations", state->worse);
    for (int i = 0; i < state->dataset_count; i++)
        js_push(datasets, js_new_integer(state->dataset_samples[i]));
    js_set(root, "dataset_samples", datasets);
    if (state->names_known) js_set_text(root, "base_model", state->base_model);
    if (state->names_known) js_set_text(root, "adapter", state->adapter);
    Err err = js_write(path, root);
    js_free(&root);
    return err;
}

/* ---- reading ---- */

/* The object that is read, and its file. */
typedef struct Source {
    const Json *root;
    const char *path;
} Source;

static Err read_count(const Source *s, const char *key, int64_t low, int64_t high, int64_t *out) {
    TRY(js_need_integer(out, s->root, key, s->path));
    REQUIRE(*out >= low && *out <= high, ERR_INPUT, "%s: \"%s\" is %lld; %lld to %lld is possible",
            s->path, key, (long long)*out, (long long)low, (long long)high);
    return OK;
}

/* The same where older versions wrote none: *out stays. */
static Err read_newer_count(const Source *s, const char *key, int64_t low, int64_t high,
                            int64_t *out) {
    return js_get(s->root, key) ? read_count(s, key, low, high, out) : OK;
}

/* A loss, or null where there is none yet. */
static Err read_loss(const Source *s, const char *key, double *out) {
    const Json *value = js_get(s->root, key);
    *out = NAN;
    REQUIRE(js_type(value) == JSON_KIND_NULL || js_number(value, out), ERR_INPUT,
            "%s: \"%s\" is neither a number nor null", s->path, key);
    return OK;
}

/* Runs that need no scale, and checkpoints of version 0.1, have none. */
static Err read_loss_scale(const Source *s, UpdateState *update) {
    double scale = 1;
    int64_t good_steps = 0, patience = 0;
    if (js_get(s->root, "loss_scale")) TRY(js_need_number(&scale, s->root, "loss_scale", s->path));
    REQUIRE(scale >= (double)FLT_MIN && scale <= (double)FLT_MAX, ERR_INPUT,
            "%s: \"loss_scale\" is %g", s->path, scale);
    TRY(read_newer_count(s, "loss_scale_good_steps", 0, INT32_MAX / 2, &good_steps)); /* it grows */
    TRY(read_newer_count(s, "loss_scale_patience", 0, INT32_MAX, &patience));
    update->loss_scale = (float)scale;
    update->good_steps = (int32_t)good_steps;
    update->patience = (int32_t)patience;
    return OK;
}

static Err read_dataset_samples(const Source *s, TrainState *state) {
    const Json *list = js_get(s->root, "dataset_samples");
    REQUIRE(js_count(list) <= CONFIG_DATASETS, ERR_INPUT,
            "%s: \"dataset_samples\" has %zu numbers; %d are possible", s->path, js_count(list),
            CONFIG_DATASETS);
    state->dataset_count = (int)js_count(list);
    for (int i = 0; i < state->dataset_count; i++) {
        int64_t *count = &state->dataset_samples[i];
        REQUIRE(js_integer(js_at(list, (size_t)i), count) && *count >= 0, ERR_INPUT,
                "%s: \"dataset_samples\" has what is no count", s->path);
    }
    return OK;
}

/* 16 hexadecimal digits, where there are any. */
static Err read_excluded(const Source *s, TrainState *state) {
    const Json *value = js_get(s->root, "excluded");
    const char *text = js_text(value, NULL);
    if (js_type(value) == JSON_KIND_NULL) return OK;
    REQUIRE(text && strlen(text) == 16 && strspn(text, "0123456789abcdef") == 16, ERR_INPUT,
            "%s: \"excluded\" is no hash", s->path);
    state->excluded = strtoull(text, NULL, 16);
    return OK;
}

static Err read_name(const Source *s, const char *key, char out[TOLD_TEXT]) {
    const char *text;
    TRY(js_need_text(&text, s->root, key, s->path));
    REQUIRE(strlen(text) < TOLD_TEXT, ERR_INPUT, "%s: \"%s\" is longer than %d bytes", s->path, key,
            TOLD_TEXT - 1);
    strcpy(out, text);
    return OK;
}

static Err read_names(const Source *s, TrainState *state) {
    if (!js_get(s->root, "base_model")) return OK;
    state->names_known = true;
    TRY(read_name(s, "base_model", state->base_model));
    return read_name(s, "adapter", state->adapter);
}

static Err read_members(const Source *s, TrainState *state) {
    int64_t version, micro_batches;
    TRY(js_need_integer(&version, s->root, "format_version", s->path));
    REQUIRE(version == FORMAT_VERSION, ERR_INPUT, "%s: format version %lld; this program reads %d",
            s->path, (long long)version, FORMAT_VERSION);
    TRY(read_count(s, "step", 0, COUNT_MAX, &state->step));
    /* Earlier versions called them slots. */
    const char *name = js_get(s->root, "micro_batches") ? "micro_batches" : "slots";
    TRY(read_count(s, name, 1, MICRO_BATCHES_MAX, &micro_batches));
    state->micro_batches = (int)micro_batches;
    TRY(read_count(s, "updates", 0, state->step, &state->update.updates));
    TRY(read_loss_scale(s, &state->update));
    TRY(read_count(s, "samples", 0, COUNT_MAX, &state->samples));
    TRY(read_newer_count(s, "skipped", 0, state->step, &state->skipped));
    TRY(read_loss(s, "val_loss", &state->val_loss));
    TRY(read_newer_count(s, "validated_step", 0, state->step, &state->validated_step));
    TRY(read_loss(s, "best_val_loss", &state->best_val_loss));
    TRY(read_newer_count(s, "best_step", -1, state->step, &state->best_step));
    TRY(read_newer_count(s, "worse_validations", 0, COUNT_MAX, &state->worse));
    TRY(read_excluded(s, state));
    TRY(read_names(s, state));
    return read_dataset_samples(s, state);
}

Err train_state_read(TrainState *state, const char *folder) {
    char path[PATH_SIZE];
    Json *root;
    *state = (TrainState){.val_loss = NAN, .best_val_loss = NAN, .best_step = -1};
    TRY(path_join(path, folder, "state.json"));
    TRY(js_read(&root, path, STATE_FILE_MAX));
    Err err = read_members(&(Source){root, path}, state);
    js_free(&root);
    return err;
}
