/* cadvlm data verify: every byte against its checksum and, with --decode, every picture. */
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/file.h"
#include "data/shard.h"
#include "image/image.h"
#include "launch/command_data.h"
#include "launch/shown.h"

enum { SHOWN_MOST = 20, CHANNELS = 3 };

typedef struct Verifying {
    const char *path;
    bool json, decode;
    const char *out; /* file for the ids of samples that cannot be used; NULL: none */
    DatasetInfo info;
    size_t pictures, bad;
    Buf list; /* of `out` */
    Json *bad_json;
    double start;
} Verifying;

/* ---- single samples ---- */

/* Its bytes are right and its picture, if it has one, is a picture. */
static Err check_sample(Verifying *v, const Dataset *dataset, size_t index, Buf *memory) {
    Sample sample;
    Image image = {0};
    char name[PATH_SIZE + 200];
    TRY(dataset_read(dataset, index, &sample, memory));
    if (!sample.image_size) return OK;
    v->pictures++;
    snprintf(name, sizeof name, "%s: the picture of sample %zu (%s)", dataset_path(dataset), index,
             sample.id);
    Err err = image_decode(&image, sample.image, sample.image_size, CHANNELS, name);
    image_free(&image);
    return err;
}

static void note_bad(Verifying *v, size_t index, const char *id) {
    const char *sentence = err_message();
    if (v->json) {
        Json *item = js_new_object();
        js_set_integer(item, "index", (int64_t)index);
        js_set_text(item, "id", id);
        js_set_text(item, "message", sentence);
        js_push(v->bad_json, item);
    } else if (v->bad < SHOWN_MOST) {
        printf("%s\n", sentence);
    } else if (v->bad == SHOWN_MOST) {
        printf("…\n");
    }
    if (v->out) buf_format(&v->list, "# %s\n%s\n", sentence, id);
    v->bad++;
}

/* All of them, so that those that cannot be used can be left out together. */
static Err check_samples(Verifying *v, const Dataset *dataset) {
    Buf memory = {0};
    Err err = OK;
    for (size_t i = 0; i < dataset_count(dataset) && err == OK; i++) {
        err = check_sample(v, dataset, i, &memory);
        if (err != ERR_INPUT) continue; /* the disk failed, not the sample */
        note_bad(v, i, dataset_id(dataset, i));
        err_clear();
        err = OK;
    }
    buf_free(&memory);
    return err;
}

/* ---- the whole ---- */

static Err check(Verifying *v, const Dataset *dataset) {
    if (v->decode) TRY(check_samples(v, dataset));
    if (v->out) TRY(file_write(v->out, buf_cstr(&v->list), v->list.size));
    REQUIRE(!v->bad, ERR_INPUT,
            "%s: %zu of %zu samples cannot be used: make them anew, or leave them out of a run "
            "(exclude: in its config; -o FILE writes the list)",
            v->path, v->bad, v->info.samples);
    return dataset_verify(dataset);
}

static Err verify(Verifying *v) {
    Dataset *dataset;
    TRY(dataset_open(&dataset, v->path));
    dataset_info(dataset, &v->info);
    v->info.provenance = NULL; /* dies with the dataset */
    Err err = check(v, dataset);
    dataset_close(&dataset);
    return err;
}

static void report_json(Verifying *v, Err err) {
    Json *root = js_new_object();
    js_set_text(root, "path", v->path);
    js_set_bool(root, "ok", err == OK);
    js_set_integer(root, "samples", (int64_t)v->info.samples);
    js_set_integer(root, "bytes", (int64_t)v->info.bytes);
    js_set_number(root, "seconds", clock_seconds() - v->start);
    if (v->decode) {
        js_set_integer(root, "pictures", (int64_t)v->pictures);
        js_set(root, "bad", v->bad_json);
        v->bad_json = NULL;
    }
    if (err != OK) js_set_text(root, "message", err_message());
    cli_print_json(&root, JSON_INDENTED);
}

static void report(const Verifying *v) {
    char pictures[64] = "";
    if (v->decode) snprintf(pictures, sizeof pictures, ", %zu pictures readable", v->pictures);
    printf("%s: %zu samples, %.1f MB, all checksums right%s (%.1f s)\n", shown(v->path),
           v->info.samples, (double)v->info.bytes * 1e-6, pictures, clock_seconds() - v->start);
}

Err data_verify_command(const Command *command, int argc, char **argv) {
    Verifying v = {.start = clock_seconds()};
    Option options[] = {
        {"--decode", NULL, NULL, "also decodes every picture, and goes through all samples",
         OPTION_FLAG, &v.decode, 0, 0},
        {"--out", "-o", "FILE", "with --decode: writes the ids of samples that cannot be used",
         OPTION_TEXT, &v.out, 0, 0},
        {"--json", NULL, NULL, "one JSON object on standard output", OPTION_FLAG, &v.json, 0, 0}};
    Arguments arguments;
    TRY(options_parse(command, options, 3, argc, argv, 1, 1, &arguments));
    Err err = OK;
    if (!arguments.helped) {
        REQUIRE_GOTO(err, v.decode || !v.out, ERR_CONFIG, "-o goes with --decode");
        v.path = arguments.items[0];
        v.bad_json = js_new_array();
        err = verify(&v);
        if (v.json)
            report_json(&v, err);
        else if (err == OK)
            report(&v);
    }
done:
    js_free(&v.bad_json);
    buf_free(&v.list);
    arguments_free(&arguments);
    return err;
}
