/* Reads parts, and says what became of them. */
#include "launch/part_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cad/language/code.h"
#include "core/file.h"
#include "core/log.h"
#include "core/text.h"
#include "data/import/deepcad.h"
#include "launch/shown.h"

/* ---- reading ---- */

/* The last error is what became of the part. */
static void fail_part(PartFile *part, CadStatus status) {
    part->failed = status;
    text_escape(part->message, sizeof part->message, err_message());
    err_clear();
}

static Err read_design(PartFile *part, const char *path) {
    CadProgram program = {0};
    DeepcadInfo info;
    Err err = deepcad_read(&program, path, &info);
    for (int i = 0; err == OK && i < info.dropped_count; i++)
        log_warn("%s: %s", path, info.dropped[i]);
    deepcad_info_free(&info);
    if (err == ERR_INPUT) {
        fail_part(part, CAD_PARSE_FAIL);
        return OK;
    }
    if (err == OK) code_emit(&part->code, &program, CODE_EXACT);
    program_free(&program);
    return err;
}

PartKind part_file_kind(const char *path) {
    static const struct {
        const char *extension;
        PartKind kind;
    } kinds[] = {
        {".py", PART_CODE}, {".json", PART_DESIGN}, {".step", PART_STEP}, {".stp", PART_STEP}};
    const char *extension = path_extension(path);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (!strcasecmp(extension, kinds[i].extension)) return kinds[i].kind;
    return PART_NONE;
}

Err part_file_read(PartFile *part, const char *path) {
    *part = (PartFile){.path = strdup(path)};
    CHECK(part->path, "out of memory: %s", path);
    REQUIRE(file_exists(path), ERR_INPUT, "no file %s", path);
    REQUIRE(!file_is_directory(path), ERR_INPUT, "%s is a folder where a file is expected", path);
    switch (part_file_kind(path)) {
    case PART_CODE:
        TRY(file_read(&part->code, path, CODE_SIZE_MAX));
        buf_reserve(&part->code, 1); /* an empty file is code too */
        return OK;
    case PART_DESIGN: return read_design(part, path);
    case PART_STEP: part->is_step = true; return OK;
    case PART_NONE: break;
    }
    FAIL(ERR_CONFIG, "%s: .py (OpenECAD code), .json (DeepCAD) and .step are understood", path);
}

void part_file_read_item(PartFile *part, const char *path) {
    Err err = part_file_read(part, path);
    if (err != OK) fail_part(part, err == ERR_UNSUPPORTED ? CAD_UNSUPPORTED : CAD_UNREADABLE);
}

void part_file_free(PartFile *part) {
    free(part->path);
    buf_free(&part->code);
    *part = (PartFile){0};
}

void part_file_request(const PartFile *part, CadRequest *request) {
    request->code = part->is_step ? NULL : buf_cstr(&part->code);
    request->code_size = part->code.size;
    request->step_path = part->is_step ? part->path : NULL;
}

void part_file_reference(const PartFile *part, CadRequest *request) {
    request->reference_code = part->is_step ? NULL : buf_cstr(&part->code);
    request->reference_size = part->code.size;
    request->reference_step = part->is_step ? part->path : NULL;
}

void part_file_failed_reply(const PartFile *part, CadReply *reply) {
    cad_reply_clear(reply);
    reply->status = part->failed;
    memcpy(reply->message, part->message, sizeof reply->message);
}

Err part_file_run(const PartFile *part, CadRequest *request, double seconds, CadReply *reply) {
    if (part->failed) {
        part_file_failed_reply(part, reply);
        return OK;
    }
    CadPool *pool;
    part_file_request(part, request);
    TRY(cad_pool_open(&pool, 1, (CadLimits){.seconds = seconds}));
    Err err = cad_pool_run(pool, request, reply);
    cad_pool_close(&pool);
    return err;
}

/* ---- saying ---- */

static Json *point_json(Vec3 p) {
    Json *list = js_new_array();
    js_push(list, js_new_number(p.x));
    js_push(list, js_new_number(p.y));
    js_push(list, js_new_number(p.z));
    return list;
}

Json *part_reply_json(const char *path, const CadReply *reply) {
    Json *root = js_new_object();
    bool measured = reply->solids > 0;
    js_set_text(root, "file", path);
    js_set_text(root, "status", cad_status_name(reply->status));
    js_set_bool(root, "valid", reply->status == CAD_OK);
    js_set_number(root, "volume", measured ? reply->volume : (double)NAN);
    js_set_number(root, "area", measured ? reply->area : (double)NAN);
    if (measured) {
        Json *box = js_new_object();
        js_set(box, "min", point_json(reply->box_min));
        js_set(box, "max", point_json(reply->box_max));
        js_set(root, "bbox", box);
    } else {
        js_set(root, "bbox", js_new_null());
    }
    js_set_integer(root, "solids", reply->solids);
    js_set_integer(root, "faces", reply->faces);
    js_set_bool(root, "jittered", reply->jittered);
    js_set_number(root, "seconds", reply->seconds);
    if (reply->status != CAD_OK) {
        js_set(root, "line", reply->line ? js_new_integer(reply->line) : js_new_null());
        js_set(root, "column", reply->line ? js_new_integer(reply->column) : js_new_null());
        js_set_text(root, "message", reply->message);
    } else if (reply->message[0]) {
        js_set_text(root, "note", reply->message);
    }
    return root;
}

const char *part_reply_sentence(const CadReply *reply) {
    static char text[320];
    if (!reply->line) return reply->message;
    snprintf(text, sizeof text, "line %d, column %d: %s", reply->line, reply->column,
             reply->message);
    return text;
}

void part_reply_print(const char *path, const CadReply *reply) {
    printf("%s: %s", shown(path), cad_status_name(reply->status));
    if (reply->solids > 0)
        printf(", %.6g × %.6g × %.6g, volume %.6g, area %.6g, %d solid%s, %d faces%s",
               reply->box_max.x - reply->box_min.x, reply->box_max.y - reply->box_min.y,
               reply->box_max.z - reply->box_min.z, reply->volume, reply->area, reply->solids,
               reply->solids == 1 ? "" : "s", reply->faces,
               reply->jittered ? ", mended by a hair" : "");
    if (reply->message[0]) printf("\n  %s", part_reply_sentence(reply));
    putchar('\n');
}
