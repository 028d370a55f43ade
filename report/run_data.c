#include "report/run_data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"

enum {
    SMALL_FILE_MAX = 16 << 20, /* an evaluation, a config */
    LINE_SIZE_MAX = 1 << 20,
    EVALS_MAX = 1000
};

static const char GALLERY_END[] = "-gallery";

/* Keeps the sentence of the error for the page. */
static void note_error(RunData *run) {
    buf_format(&run->notes, "%s\n", err_message());
    err_clear();
}

/* Whether something of that name is in the run's folder, with its path. A link that leads out of it
 * may have been planted: it is noted, and nothing is read. */
static bool find(RunData *run, char path[PATH_SIZE], const char *folder, const char *name) {
    if (path_join(path, folder, name) != OK || !file_exists(path)) {
        err_clear();
        return false;
    }
    if (file_stays_inside(run->path, path) == OK) return true;
    note_error(run);
    return false;
}

/* ---- metrics ---- */

/* Room for one more in an array that doubles when it is full. */
static void *grown(void *items, size_t count, size_t size) {
    if (count & (count - 1)) return items; /* not a power of two: there is room */
    void *larger = realloc(items, (count ? 2 * count : 1) * size);
    CHECK(larger, "out of memory: %zu lines", count);
    return larger;
}

static double number(const Json *object, const char *key) {
    double value;
    return js_number(js_get(object, key), &value) ? value : (double)NAN;
}

static void push_step(RunData *run, double step, const Json *line) {
    size_t n = run->step_count;
    if (n && step <= run->steps[n - 1].step) return;
    run->steps = grown(run->steps, n, sizeof *run->steps);
    run->steps[run->step_count++] = (RunStep){.step = step,
                                              .loss = number(line, "loss"),
                                              .lr = number(line, "lr"),
                                              .grad_norm = number(line, "grad_norm"),
                                              .samples_per_s = number(line, "samples_per_s"),
                                              .tokens_per_s = number(line, "tokens_per_s"),
                                              .mfu = number(line, "mfu")};
    double seconds = number(js_get(line, "seconds"), "whole"), samples = number(line, "samples");
    bool skipped = false;
    if (seconds > 0) run->seconds += seconds;
    if (samples > run->samples) run->samples = samples;
    if (js_bool(js_get(line, "skipped"), &skipped)) run->skipped += skipped;
}

static void push_validation(RunData *run, double step, const Json *line) {
    size_t n = run->validation_count;
    if (n && step <= run->validations[n - 1].step) return;
    run->validations = grown(run->validations, n, sizeof *run->validations);
    run->validations[run->validation_count++] = (RunValidation){
        .step = step, .loss = number(line, "val_loss"), .accuracy = number(line, "val_accuracy")};
}

static void take_line(RunData *run, const char *text, size_t size) {
    Json *line = NULL;
    double step = NAN;
    if (size <= LINE_SIZE_MAX && js_parse(&line, text, size, "metrics.jsonl") == OK)
        step = number(line, "step");
    err_clear();
    if (!isfinite(step))
        run->bad_lines++;
    else if (js_get(line, "val_loss"))
        push_validation(run, step, line);
    else
        push_step(run, step, line);
    js_free(&line);
}

static void read_metrics(RunData *run) {
    char path[PATH_SIZE];
    const void *data;
    size_t size;
    if (!find(run, path, run->path, "metrics.jsonl")) return;
    if (file_map(&data, &size, path) != OK) {
        note_error(run);
        return;
    }
    if (!size) return; /* nothing is mapped */
    for (const char *at = data, *end = at + size; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline ? newline : end;
        if (stop > at) take_line(run, at, (size_t)(stop - at));
        at = stop + 1;
    }
    file_unmap(&data, size);
}

/* ---- evaluations ---- */

static Err read_gallery(const RunData *run, RunEval *eval) {
    char path[PATH_SIZE];
    Json *root;
    TRY(path_join(path, eval->gallery, "gallery.json"));
    if (file_exists(path)) TRY(file_stays_inside(run->path, path));
    TRY(js_read(&root, path, SMALL_FILE_MAX));
    const Json *items = js_get(root, "items");
    if (js_type(items) == JSON_KIND_ARRAY) eval->gallery_items = js_copy(items);
    js_free(&root);
    return OK;
}

static Err read_eval(RunData *run, RunEval *eval, const char *folder, const char *name) {
    char path[PATH_SIZE], gallery[PATH_SIZE];
    *eval = (RunEval){0};
    TRY(path_join(path, folder, name));
    TRY(file_stays_inside(run->path, path));
    snprintf(eval->file, sizeof eval->file, "%s", name);
    TRY(js_read(&eval->root, path, SMALL_FILE_MAX));
    /* The folder beside the file, never a path that the file names. */
    size_t stem = strlen(name) - strlen(path_extension(name));
    TRY(path_format(gallery, "%.*s%s", (int)stem, name, GALLERY_END));
    if (!find(run, path, folder, gallery) || !file_is_directory(path)) return OK;
    TRY(path_format(eval->gallery, "%s", path));
    if (read_gallery(run, eval) != OK) note_error(run);
    return OK;
}

/* -1, 0 or 1 by a member that is a number; those without it come first. */
static int compare_by(const RunEval *a, const RunEval *b, const char *key) {
    double x = number(a->root, key), y = number(b->root, key);
    bool no_x = isnan(x) != 0, no_y = isnan(y) != 0;
    if (no_x || no_y) return no_y - no_x;
    return (x > y) - (x < y);
}

static int compare_evals(const void *a, const void *b) {
    int order = compare_by(a, b, "time");
    if (!order) order = compare_by(a, b, "step");
    if (!order) order = strcmp(((const RunEval *)a)->file, ((const RunEval *)b)->file);
    return order;
}

static void free_eval(RunEval *eval) {
    js_free(&eval->root);
    js_free(&eval->gallery_items);
}

static void read_evals(RunData *run) {
    char folder[PATH_SIZE];
    FileNames names;
    if (!find(run, folder, run->path, "eval") || !file_is_directory(folder)) return;
    if (file_list(&names, folder) != OK) {
        note_error(run);
        return;
    }
    run->evals = calloc(names.count + 1, sizeof *run->evals);
    CHECK(run->evals, "out of memory: %zu evaluations", names.count);
    for (size_t i = 0; i < names.count && run->eval_count < EVALS_MAX; i++) {
        RunEval *eval = &run->evals[run->eval_count];
        if (!text_ends_with(names.names[i], ".json")) continue;
        if (read_eval(run, eval, folder, names.names[i]) == OK) {
            run->eval_count++;
            continue;
        }
        note_error(run);
        free_eval(eval);
    }
    file_names_free(&names);
    qsort(run->evals, run->eval_count, sizeof *run->evals, compare_evals);
}

/* ---- the rest ---- */

static void read_config(RunData *run) {
    char path[PATH_SIZE];
    if (!find(run, path, run->path, "config.yaml")) return;
    if (file_read(&run->config_text, path, SMALL_FILE_MAX) != OK) {
        note_error(run);
        return;
    }
    run->config = malloc(sizeof *run->config);
    CHECK(run->config, "out of memory: a config");
    if (config_load(run->config, path, NULL, 0) == OK) return;
    note_error(run);
    free(run->config);
    run->config = NULL;
}

static void read_versions(RunData *run) {
    char path[PATH_SIZE];
    if (!find(run, path, run->path, "version.json")) return;
    if (js_read(&run->versions, path, SMALL_FILE_MAX) != OK) note_error(run);
}

/* One that has begun, or that something of is left. */
static bool is_run(const char *folder) {
    static const char *const names[] = {"metrics.jsonl", "config.yaml", "eval"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[PATH_SIZE];
        if (path_join(path, folder, names[i]) == OK && file_exists(path)) return true;
    }
    return false;
}

Err run_data_read(RunData *run, const char *path) {
    *run = (RunData){0};
    TRY(file_reach(path));
    REQUIRE(file_is_directory(path), ERR_INPUT, "%s is no folder: a run folder is expected", path);
    REQUIRE(is_run(path), ERR_INPUT,
            "%s is no run folder: it has neither metrics.jsonl nor config.yaml nor evaluations",
            path);
    char *real = realpath(path, NULL);
    REQUIRE(real, ERR_IO, "cannot find %s", path);
    snprintf(run->name, sizeof run->name, "%s", path_name(real));
    free(real);
    TRY(path_format(run->path, "%s", path));
    read_metrics(run);
    read_evals(run);
    read_config(run);
    read_versions(run);
    return OK;
}

void run_data_free(RunData *run) {
    free(run->steps);
    free(run->validations);
    for (size_t i = 0; i < run->eval_count; i++) free_eval(&run->evals[i]);
    free(run->evals);
    free(run->config);
    js_free(&run->versions);
    buf_free(&run->config_text);
    buf_free(&run->notes);
    *run = (RunData){0};
}
