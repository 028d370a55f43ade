/* cadvlm data synth, data import. */
#include <stdio.h>
#include <string.h>

#include "core/buf.h"
#include "core/json.h"
#include "data/import/import.h"
#include "data/synth/make.h"
#include "launch/commands.h"
#include "launch/shown.h"

/* The drawing options that both commands share. */
typedef struct DrawOptions {
    int64_t size, seed, workers;
    double val, test;
    bool plain, json;
    const char *style;
} DrawOptions;

static const DrawOptions default_options = {.size = 128, .style = "tiles"};

enum { OPTIONS_MAX = 16 };

/* Appends the shared options to `count` others; returns how many there are then. `val_help` names
 * the default.
 */
static int add_draw_options(Option *options, int count, DrawOptions *d, const char *val_help) {
    const Option shared[] = {
        {"--seed", NULL, "S", "of what is drawn at random (0)", OPTION_INT, &d->seed, 0, 9e15},
        {"--size", NULL, "PIXELS", "of the square drawing (128)", OPTION_INT, &d->size,
         DRAW_SIZE_MIN, DRAW_SIZE_MAX},
        {"--style", NULL, "NAME", "tiles, client or beside (tiles)", OPTION_TEXT, &d->style, 0, 0},
        {"--plain", NULL, NULL, "the same line weights in every drawing", OPTION_FLAG, &d->plain, 0,
         0},
        {"--val", NULL, "SHARE", val_help, OPTION_REAL, &d->val, 0, 1},
        {"--test", NULL, "SHARE", "of parts held out for testing (0)", OPTION_REAL, &d->test, 0, 1},
        {"--workers", "-j", "N", "worker processes (one per processor)", OPTION_INT, &d->workers, 0,
         1024},
        {"--json", NULL, NULL, "the result as one JSON object", OPTION_FLAG, &d->json, 0, 0},
    };
    CHECK(count + (int)(sizeof shared / sizeof shared[0]) <= OPTIONS_MAX, "too many options");
    memcpy(options + count, shared, sizeof shared);
    return count + (int)(sizeof shared / sizeof shared[0]);
}

/* Ready-made looks of a training set's drawings. `client` is a house style unlike `tiles`: first
 * angle, framed, heavier lines, no centre marks. */
static Err pick_style(DrawStyle *style, const char *name, int size) {
    *style = draw_style_tiles(size);
    if (!strcmp(name, "tiles")) return OK;
    if (!strcmp(name, "beside")) {
        *style = draw_style_default(size);
        return OK;
    }
    REQUIRE(!strcmp(name, "client"), ERR_CONFIG,
            "--style %s; tiles, client and beside are possible", name);
    style->projection = PROJECTION_FIRST_ANGLE;
    style->frame = true;
    style->centre_marks = false;
    style->visible_width *= 1.3;
    style->hidden_width *= 1.2;
    return OK;
}

/* The command line, kept with the dataset: how each sample was made. */
static void describe(Buf *out, const Command *command, int argc, char **argv) {
    buf_format(out, "cadvlm %s", command->name);
    for (int i = 0; i < argc; i++) buf_format(out, " %s", argv[i]);
}

static void print_stats(const PackStats *s, const char *path, bool json) {
    int64_t dropped = s->several_bodies;
    for (int i = 0; i < CAD_STATUS_COUNT; i++) dropped += s->dropped[i];
    if (!json) {
        printf("%s: %lld samples in %.1f s (%.1f a second), %lld parts left out\n", shown(path),
               (long long)s->written, s->seconds, (double)s->written / s->seconds,
               (long long)dropped);
        return;
    }
    Json *root = js_new_object(), *reasons = js_new_object();
    js_set_text(root, "path", path);
    js_set_integer(root, "samples", s->written);
    js_set_number(root, "seconds", s->seconds);
    for (int i = 0; i < CAD_STATUS_COUNT; i++)
        if (s->dropped[i]) js_set_integer(reasons, cad_status_name((CadStatus)i), s->dropped[i]);
    if (s->several_bodies) js_set_integer(reasons, "several_bodies", s->several_bodies);
    js_set(root, "dropped", reasons);
    cli_print_json(&root, JSON_ONE_LINE);
}

static int family_named(const char *name) {
    for (int i = 0; synth_families[i]; i++)
        if (!strcmp(synth_families[i], name)) return i;
    return -1;
}

static Err run_synth(const Command *command, int argc, char **argv) {
    DrawOptions d = default_options;
    d.val = 0.02;
    int64_t count = 1000;
    double shift = 2, seconds = 0;
    const char *family = NULL, *convention = "corner";
    Option options[OPTIONS_MAX] = {
        {"--count", "-n", "N", "samples to make (1000)", OPTION_INT, &count, 1, 1e9},
        {"--seconds", NULL, "S", "stop after so long, with fewer samples", OPTION_REAL, &seconds, 0,
         1e9},
        {"--convention", NULL, "NAME", "where parts stand: corner or centred (corner)", OPTION_TEXT,
         &convention, 0, 0},
        {"--family", NULL, "NAME", "only this family of parts", OPTION_TEXT, &family, 0, 0},
        {"--shift", NULL, "PIXELS", "held-out drawings lie up to so far off (2)", OPTION_REAL,
         &shift, 0, 64},
    };
    int option_count = add_draw_options(options, 5, &d, "of parts held out for validation (0.02)");
    Arguments arguments;
    TRY(options_parse(command, options, option_count, argc, argv, 1, 1, &arguments));
    if (arguments.helped) {
        arguments_free(&arguments);
        return OK;
    }
    Buf provenance = {0};
    describe(&provenance, command, argc, argv);
    PackStats stats;
    SynthJob job = {.path = arguments.items[0],
                    .count = count,
                    .seconds = seconds,
                    .seed = (uint64_t)d.seed,
                    .family = family ? family_named(family) : -1,
                    .convention = strcmp(convention, "centred") ? SYNTH_CORNER : SYNTH_CENTRED,
                    .vary = !d.plain,
                    .shift = shift,
                    .val_share = d.val,
                    .test_share = d.test,
                    .provenance = buf_cstr(&provenance),
                    .workers = (int)d.workers};
    Err err = pick_style(&job.style, d.style, (int)d.size);
    if (err == OK && family && job.family < 0)
        err =
            err_raise(ERR_CONFIG, __FILE__, __LINE__, "--family %s is no family of parts", family);
    if (err == OK && strcmp(convention, "corner") && strcmp(convention, "centred"))
        err = err_raise(ERR_CONFIG, __FILE__, __LINE__,
                        "--convention %s; corner and centred are possible", convention);
    if (err == OK) err = synth_make(&job, &stats);
    if (err == OK) print_stats(&stats, job.path, d.json);
    arguments_free(&arguments);
    buf_free(&provenance);
    return err;
}

static Err run_import(const Command *command, int argc, char **argv) {
    DrawOptions d = default_options;
    d.val = 0.1;
    Option options[OPTIONS_MAX];
    int option_count = add_draw_options(options, 0, &d, "of parts held out for validation (0.1)");
    Arguments arguments;
    TRY(options_parse(command, options, option_count, argc, argv, 3, 3, &arguments));
    if (arguments.helped) {
        arguments_free(&arguments);
        return OK;
    }
    Buf provenance = {0};
    describe(&provenance, command, argc, argv);
    ImportStats stats;
    ImportJob job = {.source = arguments.items[1],
                     .path = arguments.items[2],
                     .vary = !d.plain,
                     .seed = (uint64_t)d.seed,
                     .val_share = d.val,
                     .test_share = d.test,
                     .provenance = buf_cstr(&provenance),
                     .workers = (int)d.workers};
    const char *format = arguments.items[0];
    Err err = pick_style(&job.style, d.style, (int)d.size);
    if (err == OK && strcmp(format, "deepcad"))
        err = err_raise(ERR_UNSUPPORTED, __FILE__, __LINE__,
                        "data import %s is not there yet; deepcad is", format);
    if (err == OK) err = import_deepcad(&job, &stats);
    if (err == OK) print_stats(&stats.pack, job.path, d.json);
    if (err == OK && !d.json)
        printf("%lld files, %lld of them not readable\n", (long long)stats.files,
               (long long)stats.unreadable);
    arguments_free(&arguments);
    buf_free(&provenance);
    return err;
}

const Command synth_commands[] = {
    {"data synth", "OUT --count N [options]",
     "Make parts from a generator, with drawings and code, as shards",
     "A part is a function of the seed and its number. Which split it belongs to follows from what "
     "it is, so that no part is ever in\n"
     "two splits, whatever the seed.",
     run_synth},
    {"data import", "FORMAT SOURCE OUT [options]", "Turn files of others into shards (deepcad)",
     "deepcad: every .json below SOURCE. Files that cannot be converted, built or drawn are named "
     "and left out.",
     run_import},
};
const int synth_command_count = sizeof synth_commands / sizeof synth_commands[0];
