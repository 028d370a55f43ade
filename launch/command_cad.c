/* cadvlm cad run, draw, convert, check; score stands in command_cad_score.c. */
#include "launch/command_cad.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cad/language/code.h"
#include "core/file.h"
#include "core/log.h"
#include "core/progress.h"
#include "data/import/deepcad.h"
#include "data/synth/synth.h"
#include "launch/commands.h"
#include "launch/part_file.h"
#include "launch/shown.h"

enum { DRAWING_SIZE = 512, PROGRESS_FROM = 50 };
#define BOX_SLACK 1e-3 /* relative: a box that differs by more is that of another part */

/* A solid that is not ok is the failure of a command about one part. */
static Err fail_unless_ok(const char *path, const CadReply *reply) {
    REQUIRE(reply->status == CAD_OK, ERR_INPUT, "%s: %s: %s", path, cad_status_name(reply->status),
            part_reply_sentence(reply));
    return OK;
}

/* ---- run ---- */

/* What `path` should become: a drawing, or a file of the solid. */
static Err output_kind(CadExport *format, bool *drawing, const char *path) {
    *format = CAD_EXPORT_NONE;
    *drawing = false;
    if (!path) return OK;
    const char *extension = path_extension(path);
    static const char *const planned[] = {".glb", ".svg", ".pdf"};
    for (size_t i = 0; i < sizeof planned / sizeof planned[0]; i++)
        REQUIRE(strcmp(extension, planned[i]) != 0, ERR_UNSUPPORTED,
                "%s: %s files are not there yet; .step, .stl and .png are", path, extension);
    *drawing = !strcasecmp(extension, ".png");
    *format = cad_export_of(path);
    REQUIRE(*drawing || *format, ERR_CONFIG, "%s: the output is .step, .stl or .png (a drawing)",
            path);
    return OK;
}

static Err write_output(const Buf *bytes, const char *path) {
    if (!bytes->size) return OK; /* there is no solid, and the reply says why */
    return file_write(path, bytes->data, bytes->size);
}

static void report(const char *path, const CadReply *reply, const char *image, bool json) {
    if (!json) {
        part_reply_print(path, reply);
        return;
    }
    Json *root = part_reply_json(path, reply);
    if (image) js_set_text(root, "image", image);
    cli_print_json(&root, JSON_INDENTED);
}

static Err run_run(const Command *command, int argc, char **argv) {
    const char *out = NULL;
    bool json = false;
    double seconds = 0;
    Option options[] = {
        {"--out", "-o", "OUT", "write .step, .stl, or a drawing .png", OPTION_TEXT, &out, 0, 0},
        cad_seconds_option(&seconds),
        cad_json_option(&json)};
    Arguments arguments;
    PartFile part = {0};
    CadReply reply = {0};
    CadExport format;
    bool drawing;
    TRY(options_parse(command, options, 3, argc, argv, 1, 1, &arguments));
    Err err = OK;
    if (arguments.helped) goto done;
    TRY_GOTO(err, output_kind(&format, &drawing, out));
    TRY_GOTO(err, part_file_read(&part, arguments.items[0]));
    DrawStyle style = draw_style_default(DRAWING_SIZE);
    CadRequest request = {.draw = drawing ? &style : NULL, .export_as = format};
    TRY_GOTO(err, part_file_run(&part, &request, seconds, &reply));
    TRY_GOTO(err, write_output(drawing ? &reply.png : &reply.exported, out));
    report(part.path, &reply, NULL, json);
    TRY_GOTO(err, fail_unless_ok(part.path, &reply));
done:
    cad_reply_free(&reply);
    part_file_free(&part);
    arguments_free(&arguments);
    return err;
}

/* ---- draw ---- */

static Err parse_choice(int *out, const char *option, const char *text, const char *const *names,
                        int count) {
    for (int i = 0; i < count; i++)
        if (!strcmp(text, names[i])) {
            *out = i;
            return OK;
        }
    Buf all = {0};
    for (int i = 0; i < count; i++) buf_format(&all, "%s%s", i ? ", " : "", names[i]);
    Err err = err_raise(ERR_CONFIG, __FILE__, __LINE__, "%s %s: one of %s is expected", option,
                        text, buf_cstr(&all));
    buf_free(&all);
    return err;
}

static Err parse_views(uint32_t *out, const char *text) {
    static const char *const names[] = {"front", "top", "right", "iso", "isometric"};
    static const DrawView views[] = {VIEW_FRONT, VIEW_TOP, VIEW_RIGHT, VIEW_ISO, VIEW_ISO};
    *out = 0;
    while (*text) {
        char name[16];
        int which;
        size_t length = strcspn(text, ",");
        snprintf(name, sizeof name, "%.*s", (int)(length < 15 ? length : 15), text);
        TRY(parse_choice(&which, "--views", name, names, 5));
        *out |= 1u << views[which];
        text += length;
        if (*text) text++;
    }
    REQUIRE(*out, ERR_CONFIG, "--views names no view; front, top, right and iso are possible");
    return OK;
}

typedef struct DrawOptions {
    const char *out, *style, *views, *dims, *projection;
    int64_t size, seed;
    double seconds;
    bool exact, frame, json;
} DrawOptions;

/* The style that the options describe. */
static Err draw_style_of(DrawStyle *style, const DrawOptions *o) {
    static const char *const looks[] = {"drawing", "shaded", "transparent", "mosaic"};
    static const char *const dims[] = {"none", "beside", "fixed"};
    static const char *const projections[] = {"third", "first"};
    int look, dim, projection;
    TRY(parse_choice(&look, "--style", o->style, looks, 4));
    REQUIRE(look == 0, ERR_UNSUPPORTED, "--style %s is not there yet; drawing is", o->style);
    TRY(parse_choice(&dim, "--dims", o->dims, dims, 3));
    TRY(parse_choice(&projection, "--projection", o->projection, projections, 2));
    *style = dim == DIMS_FIXED ? draw_style_tiles((int)o->size) : draw_style_default((int)o->size);
    TRY(parse_views(&style->views, o->views));
    style->dims = (DrawDims)dim;
    style->projection = (DrawProjection)projection;
    style->exact_hidden_lines = o->exact;
    style->frame = o->frame;
    if (o->seed >= 0) *style = synth_style(style, (uint64_t)o->seed, 0, 0);
    return OK;
}

static Err draw_part(const DrawOptions *o, const char *path) {
    PartFile part = {0};
    CadReply reply = {0};
    DrawStyle style;
    Err err = OK;
    TRY(draw_style_of(&style, o));
    TRY_GOTO(err, part_file_read(&part, path));
    TRY_GOTO(err, part_file_run(&part, &(CadRequest){.draw = &style}, o->seconds, &reply));
    TRY_GOTO(err, write_output(&reply.png, o->out));
    report(path, &reply, reply.png.size ? o->out : NULL, o->json);
    /* A broken solid is drawn all the same; only where there is no picture, drawing failed. */
    if (!reply.png.size) TRY_GOTO(err, fail_unless_ok(path, &reply));
done:
    cad_reply_free(&reply);
    part_file_free(&part);
    return err;
}

static Err run_draw(const Command *command, int argc, char **argv) {
    DrawOptions o = {.style = "drawing",
                     .views = "front,top,right,iso",
                     .dims = "beside",
                     .projection = "third",
                     .size = DRAWING_SIZE,
                     .seed = -1};
    Option options[] = {
        {"--out", "-o", "OUT.png", "where the drawing goes", OPTION_TEXT, &o.out, 0, 0},
        {"--style", NULL, "STYLE", "drawing (shaded, transparent, mosaic are not there yet)",
         OPTION_TEXT, &o.style, 0, 0},
        {"--views", NULL, "LIST", "of front,top,right,iso", OPTION_TEXT, &o.views, 0, 0},
        {"--size", NULL, "PIXELS", "side of the square sheet (512)", OPTION_INT, &o.size,
         DRAW_SIZE_MIN, DRAW_SIZE_MAX},
        {"--dims", NULL, "WHERE", "overall dimensions: none, beside the part, or fixed in tiles",
         OPTION_TEXT, &o.dims, 0, 0},
        {"--projection", NULL, "ANGLE", "third or first", OPTION_TEXT, &o.projection, 0, 0},
        {"--seed", NULL, "N", "vary line weights and dashes a little", OPTION_INT, &o.seed, 0,
         9007199254740992.0},
        {"--frame", NULL, NULL, "a border around the sheet", OPTION_FLAG, &o.frame, 0, 0},
        {"--exact", NULL, NULL, "hidden lines by the kernel's exact algorithm where it is quick",
         OPTION_FLAG, &o.exact, 0, 0},
        cad_seconds_option(&o.seconds),
        cad_json_option(&o.json)};
    Arguments arguments;
    TRY(options_parse(command, options, sizeof options / sizeof options[0], argc, argv, 1, 1,
                      &arguments));
    Err err = OK;
    if (!arguments.helped) {
        REQUIRE_GOTO(err, o.out, ERR_CONFIG, "cadvlm cad draw needs -o OUT.png");
        REQUIRE_GOTO(err, !strcasecmp(path_extension(o.out), ".png"), ERR_CONFIG,
                     "%s: drawings are .png files", o.out);
        TRY_GOTO(err, draw_part(&o, arguments.items[0]));
    }
done:
    arguments_free(&arguments);
    return err;
}

/* ---- convert ---- */

static Json *corners_json(bool there, Vec3 min, Vec3 max) {
    if (!there) return js_new_null();
    Json *box = js_new_object();
    const Vec3 corners[2] = {min, max};
    static const char *const names[2] = {"min", "max"};
    for (int i = 0; i < 2; i++) {
        Json *list = js_new_array();
        js_push(list, js_new_number(corners[i].x));
        js_push(list, js_new_number(corners[i].y));
        js_push(list, js_new_number(corners[i].z));
        js_set(box, names[i], list);
    }
    return box;
}

static bool boxes_match(const CadReply *reply, const DeepcadInfo *info) {
    const double found[6] = {reply->box_min.x, reply->box_min.y, reply->box_min.z,
                             reply->box_max.x, reply->box_max.y, reply->box_max.z};
    const double expected[6] = {info->box_min.x, info->box_min.y, info->box_min.z,
                                info->box_max.x, info->box_max.y, info->box_max.z};
    double largest = 0, off = 0;
    for (int i = 0; i < 6; i++) {
        largest = fmax(largest, fabs(expected[i]));
        off = fmax(off, fabs(found[i] - expected[i]));
    }
    return off <= BOX_SLACK * largest;
}

static Vec3 size_of(Vec3 min, Vec3 max) {
    return vec3(max.x - min.x, max.y - min.y, max.z - min.z);
}

static void convert_report(const char *path, const char *out, const CadReply *reply,
                           const DeepcadInfo *info, bool json) {
    bool measured = reply->solids > 0;
    if (json) {
        Json *root = part_reply_json(path, reply), *dropped = js_new_array();
        js_set(root, "bbox_expected", corners_json(info->has_box, info->box_min, info->box_max));
        js_set_integer(root, "extrusions", info->extrusions);
        for (int i = 0; i < info->dropped_count; i++)
            js_push(dropped, js_new_text(info->dropped[i]));
        js_set(root, "dropped", dropped);
        if (measured && info->has_box) js_set_bool(root, "complete", boxes_match(reply, info));
        if (out) js_set_text(root, "code", out);
        cli_print_json(&root, JSON_INDENTED);
        return;
    }
    Vec3 found = size_of(reply->box_min, reply->box_max),
         stated = size_of(info->box_min, info->box_max);
    for (int i = 0; i < info->dropped_count; i++) log_warn("%s: %s", path, info->dropped[i]);
    if (measured && info->has_box && !boxes_match(reply, info))
        log_warn(
            "%s: the solid is %.6g × %.6g × %.6g mm, the model by the file's bounding box %.6g × "
            "%.6g × %.6g or elsewhere: the file may hold only a part of it",
            path, found.x, found.y, found.z, stated.x, stated.y, stated.z);
    if (reply->status != CAD_OK)
        log_warn("%s: the code gives %s: %s", path, cad_status_name(reply->status),
                 part_reply_sentence(reply));
    if (out)
        printf("%s: %d extrusion%s, %s -> %s\n", shown(path), info->extrusions,
               info->extrusions == 1 ? "" : "s", cad_status_name(reply->status), shown(out));
}

static Err convert_design(const char *path, const char *out, CodeNumbers numbers, double seconds,
                          bool json) {
    CadProgram program = {0};
    DeepcadInfo info = {0};
    Buf code = {0};
    CadReply reply = {0};
    CadPool *pool = NULL;
    Err err = OK;
    TRY_GOTO(err, deepcad_read(&program, path, &info));
    code_emit(&code, &program, numbers);
    TRY_GOTO(err, cad_pool_open(&pool, 1, (CadLimits){.seconds = seconds}));
    CadRequest request = {.code = buf_cstr(&code), .code_size = code.size};
    TRY_GOTO(err, cad_pool_run(pool, &request, &reply));
    if (out)
        TRY_GOTO(err, file_write(out, code.data, code.size));
    else if (!json)
        fwrite(code.data, 1, code.size, stdout);
    convert_report(path, out, &reply, &info, json);
done:
    cad_pool_close(&pool);
    cad_reply_free(&reply);
    buf_free(&code);
    program_free(&program);
    deepcad_info_free(&info);
    return err;
}

static Err run_convert(const Command *command, int argc, char **argv) {
    const char *out = NULL, *dialect = "v2", *style = "exact";
    bool json = false, compat = false;
    double seconds = 0;
    static const char *const dialects[] = {"v2", "v1"}, *const styles[] = {"numpy", "plain",
                                                                           "exact"};
    Option options[] = {
        {"--out", "-o", "OUT.py", "write the code there instead of standard output", OPTION_TEXT,
         &out, 0, 0},
        {"--dialect", NULL, "NAME", "v2 (v1 is not there yet)", OPTION_TEXT, &dialect, 0, 0},
        {"--numbers", NULL, "STYLE",
         "exact, numpy (four decimals, as the published data) or plain (the same, short)",
         OPTION_TEXT, &style, 0, 0},
        {"--deepcad-compat", NULL, NULL, "with the reference's faults (not there yet)", OPTION_FLAG,
         &compat, 0, 0},
        cad_seconds_option(&seconds),
        cad_json_option(&json)};
    Arguments arguments;
    int which, numbers;
    TRY(options_parse(command, options, sizeof options / sizeof options[0], argc, argv, 1, 1,
                      &arguments));
    Err err = OK;
    if (!arguments.helped) {
        TRY_GOTO(err, parse_choice(&which, "--dialect", dialect, dialects, 2));
        REQUIRE_GOTO(err, which == 0 && !compat, ERR_UNSUPPORTED, "%s is not there yet",
                     compat ? "--deepcad-compat" : "--dialect v1");
        TRY_GOTO(err, parse_choice(&numbers, "--numbers", style, styles, 3));
        TRY_GOTO(err, convert_design(arguments.items[0], out, (CodeNumbers)numbers, seconds, json));
    }
done:
    arguments_free(&arguments);
    return err;
}

/* ---- check ---- */

typedef struct Check {
    PartFile part;
    CadReply reply;
} Check;

/* Runs all parts on a pool of workers. */
static Err check_parts(Check *checks, int count, double seconds) {
    CadPool *pool;
    Progress progress;
    int finished = 0, next = 0;
    TRY(cad_pool_open(&pool, 0, (CadLimits){.seconds = seconds}));
    if (count >= PROGRESS_FROM) progress_open(&progress, "checking", "parts", 0, count);
    Err err = OK;
    enum { AHEAD = 64 };
    for (CadReply reply; finished < count;) {
        for (; next < count && next - finished < AHEAD; next++) {
            Check *check = &checks[next];
            CadRequest request = {.tag = check};
            if (check->part.failed) {
                part_file_failed_reply(&check->part, &check->reply);
                finished++;
                continue;
            }
            part_file_request(&check->part, &request);
            TRY_GOTO(err, cad_pool_submit(pool, &request));
        }
        if (!cad_pool_next(pool, &reply)) continue;
        ((Check *)reply.tag)->reply = reply;
        finished++;
        if (count >= PROGRESS_FROM) progress_set(&progress, finished, NULL);
    }
done:
    if (count >= PROGRESS_FROM) progress_close(&progress, NULL);
    cad_pool_close(&pool);
    return err;
}

/* Whether code was found in the file. */
static bool has_syntax(CadStatus status) {
    return status != CAD_UNKNOWN && status != CAD_PARSE_FAIL && status != CAD_UNREADABLE &&
           status != CAD_UNSUPPORTED;
}

static Err check_report(const Check *checks, int count, bool json) {
    int parsed = 0, executed = 0, valid = 0;
    Json *root = js_new_object(), *files = js_new_array(), *rates = js_new_object();
    for (int i = 0; i < count; i++) {
        const CadReply *reply = &checks[i].reply;
        parsed += has_syntax(reply->status);
        executed += reply->solids > 0;
        valid += reply->status == CAD_OK;
        js_push(files, part_reply_json(checks[i].part.path, reply));
        if (!json) part_reply_print(checks[i].part.path, reply);
    }
    js_set(root, "files", files);
    js_set_number(rates, "syntax", (double)parsed / count);
    js_set_number(rates, "executes", (double)executed / count);
    js_set_number(rates, "valid", (double)valid / count);
    js_set(root, "rates", rates);
    if (json)
        cli_print_json(&root, JSON_INDENTED);
    else
        printf("%d file%s: syntax %.1f %%, executes %.1f %%, valid %.1f %%\n", count,
               count == 1 ? "" : "s", 100.0 * parsed / count, 100.0 * executed / count,
               100.0 * valid / count);
    js_free(&root);
    REQUIRE(valid == count, ERR_INPUT, "%d of %d file%s not ok", count - valid, count,
            count == 1 ? " is" : "s are");
    return OK;
}

static Err run_check(const Command *command, int argc, char **argv) {
    bool json = false;
    double seconds = 0;
    Option options[] = {cad_seconds_option(&seconds), cad_json_option(&json)};
    Arguments arguments;
    TRY(options_parse(command, options, 2, argc, argv, 1, -1, &arguments));
    Err err = OK;
    int count = arguments.helped ? 0 : arguments.count;
    Check *checks = calloc((size_t)count + 1, sizeof *checks);
    CHECK(checks, "out of memory: %d files", count);
    for (int i = 0; i < count; i++) {
        cad_reply_clear(&checks[i].reply);
        part_file_read_item(&checks[i].part, arguments.items[i]);
    }
    if (count) TRY_GOTO(err, check_parts(checks, count, seconds));
    if (count) TRY_GOTO(err, check_report(checks, count, json));
done:
    for (int i = 0; i < count; i++) {
        cad_reply_free(&checks[i].reply);
        part_file_free(&checks[i].part);
    }
    free(checks);
    arguments_free(&arguments);
    return err;
}

const Command cad_commands[] = {
    {"cad run", "FILE [-o OUT] [--json]", "Execute OpenECAD code; write STEP, STL or a drawing",
     "FILE is .py (OpenECAD code), .json (a DeepCAD design) or .step. Without -o it only reports\n"
     "volume, area, bounding box and validity. Exit code 1 when the solid is not ok.",
     run_run},
    {"cad draw", "FILE -o OUT.png [options]", "Draw a part in four views", NULL, run_draw},
    {"cad convert", "FILE.json [-o OUT.py] [options]",
     "Turn a DeepCAD design into OpenECAD v2 code",
     "The code is executed too: what it gives is reported beside the bounding box that the file "
     "states.",
     run_convert},
    {"cad check", "FILE… [--json]", "Say whether files parse and execute, and the rates",
     "A file that cannot be read has its line too, and does not end the others. Exit code 1 when "
     "any\n"
     "file is not ok.",
     run_check},
    {"cad score", "PRED REF [--points N] [--json]",
     "Score files or folders: Chamfer, Hausdorff, HD95, IoU, F-score",
     "PRED and REF are files (.py, .json, .step), or two folders whose files are matched by name "
     "without extension.\nProtocol: docs/cad.md.",
     cad_score_command},
};
const int cad_command_count = sizeof cad_commands / sizeof cad_commands[0];
