/* cadvlm generate: drawings to code, STEP and a picture of both. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/json.h"
#include "core/log.h"
#include "core/signals.h"
#include "core/text.h"
#include "eval/generator.h"
#include "eval/summary.h"
#include "launch/commands.h"
#include "launch/part_file.h"
#include "launch/shown.h"

enum {
    PICTURE_LEAST = 512, /* pixels a side of each half, at least: small drawings are enlarged */
    PICTURE_GAP = 8,
    WHITE = 255,
    RULE = 160, /* gray of the line between the halves, and of the cross for "no solid" */
    EXACT = 17
};

typedef struct GenerateArguments {
    const char *checkpoint, *out;
    int64_t max_tokens;
    double seconds;
    bool json;
} GenerateArguments;

/* One drawing and what became of it. */
typedef struct Item {
    const char *image;
    char stem[208], name[240]; /* of the image, and of its files */
    char code[PATH_SIZE], step[PATH_SIZE], picture[PATH_SIZE];
    CadReply reply;
    double seconds;
    Json *result; /* with --json */
} Item;

typedef struct GenerateRun {
    const GenerateArguments *arguments;
    Generator generator;
    CadPool *pool;
    Item *items;
    int count, failed; /* gave no sound solid */
} GenerateRun;

/* ---- names ---- */

static bool name_taken(const Item *items, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (!strcmp(items[i].name, name)) return true;
    return false;
}

/* The file's name without folder and extension; a number behind it where another image has it. */
static void name_item(Item *items, int index) {
    Item *item = &items[index];
    const char *base = path_name(item->image);
    size_t length = strlen(base) - strlen(path_extension(base));
    int same = 0;
    text_escape_some(item->stem, sizeof item->stem, base, length);
    if (!item->stem[0]) snprintf(item->stem, sizeof item->stem, "drawing");
    snprintf(item->name, sizeof item->name, "%s", item->stem);
    if (!name_taken(items, index, item->name)) return;
    for (int i = 0; i < index; i++) same += !strcmp(items[i].stem, item->stem);
    do snprintf(item->name, sizeof item->name, "%s-%d", item->stem, ++same);
    while (name_taken(items, index, item->name));
}

/* ---- pictures ---- */

/* A drawing as the model sees it. */
static Err read_image(Image *image, const Generator *generator, const char *path) {
    const BatchesOptions *o = &generator->options;
    Image whole;
    int size = o->image_size;
    *image = (Image){0};
    TRY(image_read(&whole, path, o->image_channels));
    int width = whole.width, height = whole.height;
    bool fits = o->image_fit != PICTURE_EXACT || (width == size && height == size);
    Err err = OK;
    if (fits) err = picture_prepare(image, &whole, size, o->image_fit, o->image_background);
    image_free(&whole);
    REQUIRE(fits, ERR_INPUT,
            "%s has %d × %d pixels where the model reads %d × %d; draw it in that size: "
            "cadvlm cad draw PART -o DRAWING.png --size %d --dims fixed",
            path, width, height, size, size, size);
    return err == OK ? OK : err_prefix(err, "%s: ", path);
}

/* Copies `from`, each pixel `scale` times as large, to (left, 0). */
static void place(Image *to, const Image *from, int left, int scale) {
    int rows = from->height * scale < to->height ? from->height * scale : to->height;
    int columns = from->width * scale < to->width - left ? from->width * scale : to->width - left;
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < columns; x++) {
            size_t pixel = (size_t)(y / scale) * (size_t)from->width + (size_t)(x / scale);
            const uint8_t *at = from->pixels + pixel * (size_t)from->channels;
            to->pixels[(size_t)y * (size_t)to->width + (size_t)(left + x)] =
                from->channels == 1 ? at[0]
                                    : (uint8_t)((at[0] * 77 + at[1] * 151 + at[2] * 28) >> 8);
        }
}

static void cross_out(Image *image, int left, int side) {
    for (int i = 0; i < side; i++) {
        uint8_t *row = image->pixels + (size_t)i * (size_t)image->width + (size_t)left;
        row[i] = row[side - 1 - i] = RULE;
    }
}

/* The drawing at the left, the result at the right; crossed out where there is none. */
static Err write_picture(const char *path, const Image *drawing, int scale, const Buf *result) {
    Image picture, solid = {0};
    int side = drawing->width * scale, left = side + PICTURE_GAP;
    TRY(image_new(&picture, left + side, side, 1));
    memset(picture.pixels, WHITE, (size_t)picture.width * (size_t)picture.height);
    place(&picture, drawing, 0, scale);
    for (int y = 0; y < side; y++)
        picture.pixels[(size_t)y * (size_t)picture.width + (size_t)(side + PICTURE_GAP / 2)] = RULE;
    Err err = OK;
    if (result->size) err = image_decode(&solid, result->data, result->size, 1, "the result");
    if (solid.pixels)
        place(&picture, &solid, left, 1);
    else
        cross_out(&picture, left, side);
    if (err == OK) err = image_write(path, &picture);
    image_free(&solid);
    image_free(&picture);
    return err;
}

/* ---- one drawing ---- */

static Err name_files(Item *item, const char *out) {
    TRY(path_format(item->code, "%s/%s.py", out, item->name));
    TRY(path_format(item->step, "%s/%s.step", out, item->name));
    return path_format(item->picture, "%s/%s.png", out, item->name);
}

static int picture_scale(const Generator *generator) {
    int size = generator->options.image_size;
    return size >= PICTURE_LEAST ? 1 : (PICTURE_LEAST + size - 1) / size;
}

static Err build(GenerateRun *g, Item *item, const Image *drawing, const GeneratedCode *generated) {
    int scale = picture_scale(&g->generator);
    DrawStyle style = draw_style_default(drawing->width * scale);
    TRY(name_files(item, g->arguments->out));
    TRY(file_write(item->code, buf_cstr(&generated->code), generated->code.size));
    TRY(file_remove_tree(item->step)); /* of an earlier run */
    CadRequest request = {.code = buf_cstr(&generated->code),
                          .code_size = generated->code.size,
                          .draw = &style,
                          .export_as = CAD_EXPORT_STEP};
    TRY(cad_pool_run(g->pool, &request, &item->reply));
    bool none = generated->broken && item->reply.status != CAD_OK;
    if (none) item->reply.line = 0;
    if (none)
        snprintf(item->reply.message, sizeof item->reply.message,
                 "the model gives no numbers (NaN or infinite) for this drawing");
    const Buf *step = &item->reply.exported;
    if (step->size) TRY(file_write(item->step, step->data, step->size));
    return write_picture(item->picture, drawing, scale, &item->reply.png);
}

static Json *result_json(const Item *item, const GeneratedCode *generated) {
    const CadReply *reply = &item->reply;
    Json *root = js_new_object();
    js_set_text(root, "image", item->image);
    js_set_text(root, "status", cad_status_name(reply->status));
    js_set_text(root, "code", buf_cstr(&generated->code));
    js_set_text(root, "code_file", item->code);
    js_set_text(root, "step", file_exists(item->step) ? item->step : NULL);
    js_set_text(root, "picture", item->picture);
    js_set_number(root, "seconds", item->seconds);
    js_set_integer(root, "tokens", generated->tokens);
    js_set_bool(root, "ended", generated->ended);
    js_set_number(root, "confidence", generated->confidence);
    if (cad_status_executed(reply->status)) {
        js_set_number(root, "volume", reply->volume);
        Json *dims = js_new_array();
        js_push(dims, js_new_number(reply->box_max.x - reply->box_min.x));
        js_push(dims, js_new_number(reply->box_max.y - reply->box_min.y));
        js_push(dims, js_new_number(reply->box_max.z - reply->box_min.z));
        js_set(root, "dims", dims);
    }
    if (reply->status != CAD_OK) {
        js_set_text(root, "message", reply->message);
        if (reply->line) js_set_integer(root, "line", reply->line);
        if (reply->line) js_set_integer(root, "column", reply->column);
    } else if (reply->message[0]) {
        js_set_text(root, "note", reply->message);
    }
    return root;
}

static void print_item(const Item *item, const GeneratedCode *generated) {
    const CadReply *reply = &item->reply;
    printf("%s: %s, %d tokens, confidence %.2f, %.2f s\n", shown(item->image),
           cad_status_name(reply->status), generated->tokens, generated->confidence, item->seconds);
    if (reply->message[0]) printf("  %s\n", part_reply_sentence(reply));
    if (cad_status_executed(reply->status))
        printf("  %g × %g × %g, volume %g\n", reply->box_max.x - reply->box_min.x,
               reply->box_max.y - reply->box_min.y, reply->box_max.z - reply->box_min.z,
               reply->volume);
    printf("  %s, %s%s%s\n", shown(item->code), file_exists(item->step) ? shown(item->step) : "",
           file_exists(item->step) ? ", " : "", shown(item->picture));
    fflush(stdout);
}

/* ---- a drawing that cannot be read ---- */

static Json *unread_json(const Item *item) {
    static const char *const absent[] = {"code", "code_file", "step", "picture"};
    Json *root = js_new_object();
    js_set_text(root, "image", item->image);
    js_set_text(root, "status", cad_status_name(item->reply.status));
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        js_set_text(root, absent[i], NULL);
    js_set_text(root, "message", item->reply.message);
    return root;
}

/* It does not end the others. The last error says why. */
static void settle_unread(GenerateRun *g, Item *item) {
    cad_reply_clear(&item->reply);
    item->reply.status = CAD_UNREADABLE;
    text_escape(item->reply.message, sizeof item->reply.message, err_message());
    err_clear();
    g->failed++;
    if (g->arguments->json)
        item->result = unread_json(item);
    else
        printf("%s: %s\n  %s\n", shown(item->image), cad_status_name(item->reply.status),
               item->reply.message);
}

/* ---- all of them ---- */

/* The drawings that the model reads together. */
typedef struct Drawings {
    Item **items;
    Image *images;
    GeneratedCode *generated;
    const char **names;
    int count, most;
} Drawings;

static Drawings drawings_new(int most) {
    size_t n = (size_t)most;
    Drawings d = {.items = calloc(n, sizeof *d.items),
                  .images = calloc(n, sizeof *d.images),
                  .generated = calloc(n, sizeof *d.generated),
                  .names = calloc(n, sizeof *d.names),
                  .most = most};
    CHECK(d.items && d.images && d.generated && d.names, "out of memory: %d drawings", most);
    return d;
}

static void drawings_clear(Drawings *d) {
    for (int i = 0; i < d->count; i++) {
        image_free(&d->images[i]);
        generated_code_free(&d->generated[i]);
        cad_reply_free(&d->items[i]->reply);
    }
    d->count = 0;
}

static void drawings_free(Drawings *d) {
    drawings_clear(d);
    free(d->items);
    free(d->images);
    free(d->generated);
    free(d->names);
}

/* Reads drawings from item *next on until there are enough. */
static void drawings_take(Drawings *d, GenerateRun *g, int *next) {
    while (d->count < d->most && *next < g->count) {
        Item *item = &g->items[(*next)++];
        if (read_image(&d->images[d->count], &g->generator, item->image) != OK) {
            settle_unread(g, item);
            continue;
        }
        d->items[d->count] = item;
        d->names[d->count++] = item->image;
    }
}

static Err run_batch(GenerateRun *g, const Drawings *d) {
    double began = clock_seconds();
    TRY(generator_run(&g->generator, d->images, NULL, d->names, d->count,
                      (int)g->arguments->max_tokens, d->generated));
    double each = (clock_seconds() - began) / d->count;
    for (int i = 0; i < d->count; i++) {
        Item *item = d->items[i];
        began = clock_seconds();
        TRY(build(g, item, &d->images[i], &d->generated[i]));
        item->seconds = each + clock_seconds() - began;
        g->failed += item->reply.status != CAD_OK;
        if (g->arguments->json)
            item->result = result_json(item, &d->generated[i]);
        else
            print_item(item, &d->generated[i]);
    }
    return OK;
}

/* The pictures written are named like the images: not into the folder that the images lie in. */
static Err check_folder(const GenerateRun *g) {
    char out[PATH_SIZE], folder[PATH_SIZE], real[PATH_SIZE];
    if (!realpath(g->arguments->out, out)) return OK; /* it is not there yet */
    for (int i = 0; i < g->count; i++) {
        const char *image = g->items[i].image, *name = path_name(image);
        TRY(path_format(folder, "%.*s.", (int)(name - image), image));
        REQUIRE(!realpath(folder, real) || strcmp(real, out) != 0, ERR_INPUT,
                "%s lies in %s, where its result would overwrite it: choose another -o", image,
                g->arguments->out);
    }
    return OK;
}

static void print_results(GenerateRun *g) {
    Json *root = js_new_object(), *results = js_new_array();
    js_set_text(root, "checkpoint", g->generator.checkpoint);
    for (int i = 0; i < g->count; i++) {
        js_push(results, g->items[i].result);
        g->items[i].result = NULL;
    }
    js_set(root, "results", results);
    cli_print_json(&root, JSON_ONE_LINE);
}

static Err run_all(GenerateRun *g) {
    Drawings drawings = drawings_new(g->generator.options.size);
    Err err = OK;
    for (int next = 0; next < g->count && err == OK;) {
        if (signals_pending()) {
            err = err_raise(ERR_STOPPED, __FILE__, __LINE__,
                            "stopped by a signal after %d of %d drawings", next, g->count);
            break;
        }
        drawings_take(&drawings, g, &next);
        if (drawings.count) err = run_batch(g, &drawings);
        drawings_clear(&drawings);
    }
    drawings_free(&drawings);
    TRY(err);
    if (g->arguments->json) print_results(g);
    REQUIRE(!g->failed, ERR_INPUT, "%d of %d drawings gave no sound solid", g->failed, g->count);
    return OK;
}

static Err generate(Comm *comm, const GenerateArguments *a, const Arguments *images) {
    static GenerateRun g; /* its generator holds a whole config */
    g = (GenerateRun){.arguments = a, .count = images->count};
    g.items = calloc((size_t)g.count, sizeof *g.items);
    CHECK(g.items, "out of memory: %d images", g.count);
    Err err = OK;
    signals_catch();
    REQUIRE_GOTO(err, comm_size(comm) == 1, ERR_CONFIG,
                 "cadvlm generate is one process: run it without mpirun");
    for (int i = 0; i < g.count; i++) {
        g.items[i].image = images->items[i];
        name_item(g.items, i);
    }
    TRY_GOTO(err, generator_open(&g.generator, comm, a->checkpoint));
    TRY_GOTO(err, check_folder(&g));
    TRY_GOTO(err, file_make_directories(a->out));
    TRY_GOTO(err, cad_pool_open(&g.pool, 1, (CadLimits){.seconds = a->seconds}));
    TRY_GOTO(err, run_all(&g));
done:
    cad_pool_close(&g.pool);
    generator_close(&g.generator);
    for (int i = 0; i < g.count; i++) js_free(&g.items[i].result);
    free(g.items);
    signals_release();
    return err;
}

static Err run_generate(const Command *command, int argc, char **argv) {
    GenerateArguments a = {.seconds = 30};
    Option options[] = {
        {"--checkpoint", "-c", "DIR",
         "a checkpoint, a run folder (its newest), a published model, or its hub id", OPTION_TEXT,
         &a.checkpoint, 0, 0},
        {"--out", "-o", "OUT", "the folder to write to", OPTION_TEXT, &a.out, 0, 0},
        {"--max-tokens", NULL, "N", "of a program (0: all that the model has room for)", OPTION_INT,
         &a.max_tokens, 0, 1e9},
        {"--seconds", NULL, "S", "that building a solid may take (30)", OPTION_REAL, &a.seconds,
         0.1, 3600},
        {"--json", NULL, NULL, "the results as one JSON object", OPTION_FLAG, &a.json, 0, 0},
    };
    Arguments arguments;
    TRY(options_parse(command, options, sizeof options / sizeof options[0], argc, argv, 1, -1,
                      &arguments));
    Err err = OK;
    Comm *comm = NULL;
    if (!arguments.helped) {
        REQUIRE_GOTO(err, a.checkpoint, ERR_CONFIG, "cadvlm generate needs --checkpoint DIR");
        REQUIRE_GOTO(err, a.out, ERR_CONFIG,
                     "cadvlm generate needs -o OUT, the folder to write to");
        TRY_GOTO(err, comm_open(&comm));
        TRY_GOTO(err, comm_agree(comm, generate(comm, &a, &arguments)));
    }
done:
    arguments_free(&arguments);
    return comm_finish(&comm, err);
}

const Command generate_commands[] = {
    {"generate", "--checkpoint DIR IMAGE… -o OUT",
     "Read drawings: write the code, the solid and a picture of both",
     "An IMAGE is a PNG, JPEG or WebP drawing; published models read any size, one trained from\n"
     "scratch exactly its own, unless model.vision.fit says otherwise. For each it\n"
     "writes OUT/NAME.py, OUT/NAME.step and OUT/NAME.png (drawing beside result).\n"
     "A drawing that cannot be read has its line too, and does not end the others. Exits with 1 "
     "when any\n"
     "of the results is no sound solid.",
     run_generate},
};
const int generate_command_count = sizeof generate_commands / sizeof generate_commands[0];
