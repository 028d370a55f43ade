/* cadvlm eval. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "checkpoint/checkpoint.h"
#include "core/text.h"
#include "eval/evaluate.h"
#include "hub/cache.h"
#include "launch/commands.h"
#include "launch/shown.h"
#include "model/files/published.h"

enum { NAME_MAX_SHOWN = 18 };

typedef struct EvalArguments {
    const char *checkpoint, *split, *name, *out;
    Texts data;
    int64_t samples, gallery, max_tokens, workers;
    double seconds;
    bool shuffled, json;
} EvalArguments;

/* Where the result goes. */
typedef struct EvalPaths {
    char file[PATH_SIZE], gallery[PATH_SIZE];
} EvalPaths;

/* ---- datasets ---- */

/* "NAME=PATH", or a path whose last part is the name. */
static void split_name_and_path(const char *text, char name[EVAL_NAME_SIZE], const char **path) {
    const char *equals = strchr(text, '='), *slash = strchr(text, '/');
    if (equals && equals > text && (!slash || equals < slash)) {
        text_escape_some(name, EVAL_NAME_SIZE, text, (size_t)(equals - text));
        *path = equals + 1;
        return;
    }
    size_t length = strlen(text);
    while (length > 1 && text[length - 1] == '/') length--;
    size_t first = length;
    while (first > 0 && text[first - 1] != '/') first--;
    text_escape_some(name, EVAL_NAME_SIZE, text + first, length - first);
    *path = text;
}

static bool name_taken(const EvalOptions *options, const char *name) {
    for (int i = 0; i < options->set_count; i++)
        if (!strcmp(options->sets[i].name, name)) return true;
    return false;
}

static Err open_datasets(EvalOptions *options, Dataset *datasets[], const Texts *data) {
    for (int i = 0; i < data->count; i++) {
        EvalSet *set = &options->sets[i];
        const char *path;
        split_name_and_path(data->items[i], set->name, &path);
        REQUIRE(!name_taken(options, set->name), ERR_CONFIG,
                "two datasets are called %s: name them, as in --data old=%s", set->name, path);
        TRY(dataset_open(&datasets[i], path));
        set->dataset = datasets[i];
        options->set_count++;
    }
    return OK;
}

/* ---- places ---- */

/* "eval" in the run folder that the checkpoint lies in. */
static Err eval_folder(char out[PATH_SIZE], const char *checkpoint) {
    char real[PATH_SIZE];
    REQUIRE(realpath(checkpoint, real), ERR_IO, "cannot find %s", checkpoint);
    char *name = strrchr(real, '/');
    *name = 0;
    char *parent = strrchr(real, '/');
    REQUIRE(parent && !strcmp(parent, "/checkpoints"), ERR_CONFIG,
            "%s lies in no run folder: say with -o where the result should go", checkpoint);
    *parent = 0;
    return path_format(out, "%s/eval", real);
}

static Err check_name(const char *name) {
    REQUIRE(strlen(name) < EVAL_NAME_SIZE, ERR_CONFIG, "--name %.20s… is too long", name);
    for (const char *c = name; *c; c++)
        REQUIRE(isalnum((unsigned char)*c) || strchr("-_.", *c), ERR_CONFIG,
                "--name %s: letters, digits, - _ and . are possible", name);
    return OK;
}

static Err find_places(EvalPaths *places, const EvalArguments *a, const Generator *generator) {
    char folder[PATH_SIZE], name[CHECKPOINT_NAME];
    if (a->out) {
        TRY(file_target(a->out));
        TRY(path_format(places->file, "%s", a->out));
    } else {
        TRY(eval_folder(folder, generator->checkpoint));
        checkpoint_name(name, generator->step);
        TRY(path_format(places->file, "%s/%s%s%s.json", folder, name, a->name ? "-" : "",
                        a->name ? a->name : ""));
    }
    size_t length = strlen(places->file) - strlen(path_extension(places->file));
    return path_format(places->gallery, "%.*s-gallery", (int)length, places->file);
}

static Err make_parent(const char *path) {
    char folder[PATH_SIZE];
    TRY(path_format(folder, "%s", path));
    char *slash = strrchr(folder, '/');
    if (!slash || slash == folder) return OK;
    *slash = 0;
    return file_make_directories(folder);
}

/* ---- what is said ---- */

static Json *describe(const EvalArguments *a, const Generator *generator,
                      const EvalOptions *options, const EvalResult *result, const EvalPaths *places,
                      int ranks) {
    Json *root = eval_result_json(result), *data = js_new_object();
    if (a->name) js_set_text(root, "name", a->name);
    js_set_text(root, "checkpoint", generator->checkpoint);
    js_set_integer(root, "step", generator->step);
    js_set_text(root, "split", split_name(options->split));
    for (int i = 0; i < options->set_count; i++)
        js_set_text(data, options->sets[i].name, dataset_path(options->sets[i].dataset));
    js_set(root, "data", data);
    if (options->folder) js_set_text(root, "gallery", path_name(places->gallery));
    js_set_integer(root, "ranks", ranks);
    js_set_integer(root, "time", (int64_t)time(NULL));
    return root;
}

/* The rows of the table, with a scale for people. */
typedef struct Row {
    const char *label, *unit;
    int decimals;
    double scale;
    size_t offset; /* of the number in EvalMetrics */
} Row;

#define ROW(label, decimals, unit, scale, member)                                                  \
    { label, unit, decimals, scale, offsetof(EvalMetrics, member) }
static const Row ROWS[] = {
    ROW("loss", 4, "", 1, loss),
    ROW("labels right", 1, " %", 100, accuracy),
    ROW("syntax", 1, " %", 100, syntax),
    ROW("executes", 1, " %", 100, executes),
    ROW("invalidity", 1, " %", 100, invalidity),
    ROW("IoU mean", 4, "", 1, iou_mean),
    ROW("IoU median", 4, "", 1, iou_median),
    ROW("chamfer mean · 10³", 3, "", 1e3, chamfer_mean),
    ROW("chamfer median · 10³", 3, "", 1e3, chamfer_median),
    ROW("HD95 median", 4, "", 1, hd95),
    ROW("F-score", 4, "", 1, fscore),
    ROW("dimensions off", 2, " %", 100, dims_rel_error),
    ROW("dimensions exact", 1, " %", 100, dims_exact),
    ROW("code identical", 1, " %", 100, code_identical),
    ROW("tokens", 1, "", 1, tokens_mean),
};
#undef ROW
enum { ROW_COUNT = sizeof ROWS / sizeof ROWS[0], LABEL_WIDTH = 22, COLUMN_WIDTH = 12 };

/* Fills up to `width` columns; UTF-8 continuation bytes take none. */
static void print_cell(const char *text, int width, bool left) {
    int shown = 0;
    for (const char *c = text; *c; c++) shown += (*c & 0xc0) != 0x80;
    int pad = width > shown ? width - shown : 0;
    printf("%*s%s%*s", left ? 0 : pad, "", text, left ? pad : 0, "");
}

static void print_number(const Row *row, const EvalMetrics *metrics) {
    double value;
    char text[48];
    memcpy(&value, (const char *)metrics + row->offset, sizeof value);
    snprintf(text, sizeof text, "–");
    if (isfinite(value))
        snprintf(text, sizeof text, "%.*f%s", row->decimals, value * row->scale, row->unit);
    print_cell(text, COLUMN_WIDTH, false);
}

static void print_part(const char *name, const EvalPart *part, bool shuffled) {
    char start[NAME_MAX_SHOWN + 1], title[EVAL_NAME_SIZE + 32];
    text_escape(start, sizeof start, name);
    snprintf(title, sizeof title, "%s: %zu samples", start, part->real.samples);
    printf("\n");
    print_cell(title, LABEL_WIDTH + 10, true);
    printf("\n");
    print_cell("", LABEL_WIDTH, true);
    print_cell("real", COLUMN_WIDTH, false);
    if (shuffled) print_cell("shuffled", COLUMN_WIDTH, false);
    printf("\n");
    for (int i = 0; i < ROW_COUNT; i++) {
        print_cell(ROWS[i].label, LABEL_WIDTH, true);
        print_number(&ROWS[i], &part->real);
        if (shuffled) print_number(&ROWS[i], &part->shuffled);
        printf("\n");
    }
    if (part->real.references_failed)
        printf("%zu references give no solid and are left out of all geometry\n",
               part->real.references_failed);
    if (part->real.overlong)
        printf("%lld references are longer than the model takes and are left out of the loss\n",
               (long long)part->real.overlong);
}

static void print_result(const EvalResult *r, const Generator *generator, const EvalPaths *places) {
    printf("%s\n", shown(generator->checkpoint));
    for (int s = 0; s < r->set_count; s++) print_part(r->names[s], &r->sets[s], r->shuffled);
    if (r->set_count > 1) print_part("all", &r->all, r->shuffled);
    printf("\n%.1f s; written to %s\n", r->seconds, shown(places->file));
}

static Err publish(const EvalArguments *a, Json **root, const EvalResult *result,
                   const Generator *generator, const EvalPaths *places) {
    TRY(make_parent(places->file));
    TRY(js_write(places->file, *root));
    if (!a->json) {
        print_result(result, generator, places);
        return OK;
    }
    cli_print_json(root, JSON_ONE_LINE);
    return OK;
}

/* ---- the command ---- */

static Err set_up_data(EvalArguments *a, EvalOptions *options, Dataset *datasets[]) {
    REQUIRE(a->checkpoint, ERR_CONFIG, "cadvlm eval needs --checkpoint DIR");
    REQUIRE(a->data.count, ERR_CONFIG, "cadvlm eval needs --data SHARDS");
    REQUIRE(a->data.count <= EVAL_SETS_MAX, ERR_CONFIG, "%d datasets; %d are possible",
            a->data.count, EVAL_SETS_MAX);
    REQUIRE(a->out || !(hub_is_id(a->checkpoint) || published_is(a->checkpoint)), ERR_CONFIG,
            "%s is no run of cadvlm: say with -o where the result should go", a->checkpoint);
    if (a->name) TRY(check_name(a->name));
    if (split_parse(&options->split, a->split) != OK) return err_prefix(ERR_CONFIG, "--split: ");
    return open_datasets(options, datasets, &a->data);
}

static Err set_up_places(EvalArguments *a, const Generator *generator, EvalOptions *options,
                         EvalPaths *places) {
    TRY(find_places(places, a, generator));
    options->limit = (size_t)a->samples;
    options->shuffled = a->shuffled;
    options->max_new = (int)a->max_tokens;
    options->limits.seconds = a->seconds;
    options->workers = (int)a->workers;
    options->gallery = (int)a->gallery;
    options->folder = a->gallery > 0 ? places->gallery : NULL;
    return make_parent(places->file);
}

static Err evaluate_and_tell(EvalArguments *a, Comm *comm) {
    static Generator generator; /* it holds a whole config */
    static EvalOptions options;
    static EvalResult result;
    Dataset *datasets[EVAL_SETS_MAX] = {0};
    EvalPaths places;
    Err err = comm_agree(comm, set_up_data(a, &options, datasets));
    if (err == OK) err = generator_open(&generator, comm, a->checkpoint);
    if (err == OK) err = comm_agree(comm, set_up_places(a, &generator, &options, &places));
    if (err == OK) err = evaluate(comm, &generator, &options, &result);
    if (err == OK) {
        Json *root = describe(a, &generator, &options, &result, &places, comm_size(comm));
        if (comm_rank(comm) == 0) err = publish(a, &root, &result, &generator, &places);
        js_free(&root);
        err = comm_agree(comm, err);
    }
    generator_close(&generator);
    for (int i = 0; i < EVAL_SETS_MAX; i++) dataset_close(&datasets[i]);
    return err;
}

static Err run_eval(const Command *command, int argc, char **argv) {
    EvalArguments a = {.split = "val", .gallery = 12, .seconds = 30};
    Option options[] = {
        {"--checkpoint", "-c", "DIR",
         "a checkpoint, a run folder (its newest), a published model, or its hub id", OPTION_TEXT,
         &a.checkpoint, 0, 0},
        {"--data", NULL, "SHARDS", "dataset; NAME=SHARDS names it; may be repeated", OPTION_TEXTS,
         &a.data, 0, 0},
        {"--split", NULL, "SPLIT", "val, test or train (val)", OPTION_TEXT, &a.split, 0, 0},
        {"--samples", "-n", "N", "of each dataset, spread evenly (0: all)", OPTION_INT, &a.samples,
         0, 1e9},
        {"--shuffled", NULL, NULL, "also with pictures exchanged: the control", OPTION_FLAG,
         &a.shuffled, 0, 0},
        {"--gallery", NULL, "K", "examples to keep as pictures (12)", OPTION_INT, &a.gallery, 0,
         GALLERY_MAX},
        {"--name", NULL, "NAME", "of this evaluation, when there are several of a step",
         OPTION_TEXT, &a.name, 0, 0},
        {"--out", "-o", "FILE.json", "where the result goes (eval/ in the run folder)", OPTION_TEXT,
         &a.out, 0, 0},
        {"--max-tokens", NULL, "N", "of a program (0: all that the model has room for)", OPTION_INT,
         &a.max_tokens, 0, 1e9},
        {"--seconds", NULL, "S", "that building and measuring a solid may take (30)", OPTION_REAL,
         &a.seconds, 0.1, 3600},
        {"--workers", "-j", "N", "worker processes a rank (0: one per thread)", OPTION_INT,
         &a.workers, 0, 1024},
        {"--json", NULL, NULL, "the result as one JSON object", OPTION_FLAG, &a.json, 0, 0},
    };
    Arguments arguments;
    TRY(options_parse(command, options, sizeof options / sizeof options[0], argc, argv, 0, 0,
                      &arguments));
    bool helped = arguments.helped;
    arguments_free(&arguments);
    if (helped) return OK;
    Comm *comm;
    Err err = comm_open(&comm);
    if (err == OK) err = evaluate_and_tell(&a, comm);
    return comm_finish(&comm, err);
}

const Command eval_commands[] = {
    {"eval", "--checkpoint DIR --data SHARDS [--data MORE …]",
     "Measure what a model writes about drawings it has not seen",
     "Losses and all CAD metrics, for each dataset, and a gallery of drawing, target and result.\n"
     "On several processors or machines: mpirun -n N cadvlm eval …; the metrics stay the same.\n"
     "docs/evaluation.md says what each number means.",
     run_eval},
};
const int eval_command_count = sizeof eval_commands / sizeof eval_commands[0];
