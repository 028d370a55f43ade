/* Frames, written and read field by field. */
#include "cad/worker/protocol.h"

#include <string.h>

bool frame_header_ok(const FrameHeader *header, FrameKind kind) {
    return header->magic == PROTOCOL_MAGIC && header->kind == (uint32_t)kind &&
           header->size <= PROTOCOL_FRAME_MAX;
}

FrameHeader frame_header(FrameKind kind, size_t size) {
    return (FrameHeader){.magic = PROTOCOL_MAGIC, .kind = kind, .size = size};
}

/* ---- writing ---- */

static size_t begin_frame(Buf *out, FrameKind kind) {
    FrameHeader header = frame_header(kind, 0);
    buf_append(out, &header, sizeof header);
    return out->size;
}

static void end_frame(Buf *out, size_t start) {
    uint64_t size = out->size - start;
    memcpy(out->data + start - sizeof size, &size, sizeof size);
}

static void put_int(Buf *out, int64_t value) {
    buf_append(out, &value, sizeof value);
}

static void put_real(Buf *out, double value) {
    buf_append(out, &value, sizeof value);
}

/* NULL and an empty text stay different. */
static void put_bytes(Buf *out, const void *bytes, size_t size) {
    put_int(out, bytes ? (int64_t)size : -1);
    if (!bytes) return;
    buf_append(out, bytes, size);
    buf_append(out, "", 1);
}

static void put_text(Buf *out, const char *text) {
    put_bytes(out, text, text ? strlen(text) : 0);
}

/* ---- reading ---- */

typedef struct Reader {
    const char *at;
    size_t left;
    bool bad;
} Reader;

static const char *take(Reader *reader, size_t size) {
    if (reader->bad || size > reader->left) {
        reader->bad = true;
        return NULL;
    }
    const char *bytes = reader->at;
    reader->at += size;
    reader->left -= size;
    return bytes;
}

static int64_t get_int(Reader *reader) {
    int64_t value = 0;
    const char *bytes = take(reader, sizeof value);
    if (bytes) memcpy(&value, bytes, sizeof value);
    return value;
}

/* An integer of low … high. */
static int get_range(Reader *reader, int64_t low, int64_t high) {
    int64_t value = get_int(reader);
    if (value >= low && value <= high) return (int)value;
    reader->bad = true;
    return (int)low;
}

static double get_real(Reader *reader) {
    double value = 0;
    const char *bytes = take(reader, sizeof value);
    if (bytes) memcpy(&value, bytes, sizeof value);
    return value;
}

static const char *get_bytes(Reader *reader, size_t *size) {
    int64_t count = get_int(reader);
    *size = 0;
    if (count == -1) return NULL;
    if (count < 0 || count > PROTOCOL_FRAME_MAX) {
        reader->bad = true;
        return NULL;
    }
    const char *bytes = take(reader, (size_t)count + 1);
    if (!bytes || bytes[count]) {
        reader->bad = true;
        return NULL;
    }
    *size = (size_t)count;
    return bytes;
}

static const char *get_text(Reader *reader) {
    size_t size;
    const char *text = get_bytes(reader, &size);
    if (text && strlen(text) != size) reader->bad = true;
    return text;
}

static void get_text_into(Reader *reader, char *out, size_t capacity) {
    const char *text = get_text(reader);
    if (!text || strlen(text) >= capacity) {
        reader->bad = true;
        return;
    }
    memcpy(out, text, strlen(text) + 1);
}

static bool finished(const Reader *reader) {
    return !reader->bad && reader->left == 0;
}

/* ---- hello ---- */

void protocol_put_hello(Buf *out, int version, int confined) {
    size_t start = begin_frame(out, FRAME_HELLO);
    put_int(out, version);
    put_int(out, confined);
    end_frame(out, start);
}

/* What another version says behind its number is its own. */
bool protocol_get_hello(int *version, int *confined, const void *content, size_t size) {
    Reader reader = {.at = content, .left = size};
    *version = get_range(&reader, 0, INT32_MAX);
    *confined = 0;
    if (*version != PROTOCOL_VERSION) return !reader.bad;
    *confined = get_range(&reader, 0, INT32_MAX);
    return finished(&reader);
}

/* ---- request ---- */

static void put_style(Buf *out, const DrawStyle *style) {
    put_int(out, style->size);
    put_int(out, style->projection);
    put_int(out, style->views);
    put_int(out, style->dims);
    put_int(out, style->hidden);
    put_int(out, style->centre_marks);
    put_int(out, style->frame);
    put_int(out, style->exact_hidden_lines);
    const double reals[] = {style->visible_width, style->hidden_width, style->thin_width,
                            style->dash_on,       style->dash_off,     style->text_height,
                            style->shift_x,       style->shift_y,      style->ink};
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) put_real(out, reals[i]);
}

static void get_style(Reader *reader, DrawStyle *style) {
    style->size = get_range(reader, 0, DRAW_SIZE_MAX);
    style->projection = (DrawProjection)get_range(reader, 0, PROJECTION_FIRST_ANGLE);
    style->views = (uint32_t)get_range(reader, 0, DRAW_ALL_VIEWS);
    style->dims = (DrawDims)get_range(reader, 0, DIMS_FIXED);
    style->hidden = get_range(reader, 0, 1);
    style->centre_marks = get_range(reader, 0, 1);
    style->frame = get_range(reader, 0, 1);
    style->exact_hidden_lines = get_range(reader, 0, 1);
    double *const reals[] = {&style->visible_width, &style->hidden_width, &style->thin_width,
                             &style->dash_on,       &style->dash_off,     &style->text_height,
                             &style->shift_x,       &style->shift_y,      &style->ink};
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) *reals[i] = get_real(reader);
}

void protocol_put_request(Buf *out, const CadRequest *request) {
    size_t start = begin_frame(out, FRAME_REQUEST);
    put_bytes(out, request->code, request->code_size);
    put_text(out, request->step_path);
    put_int(out, request->export_as);
    put_bytes(out, request->reference_code, request->reference_size);
    put_text(out, request->reference_step);
    put_int(out, request->score_points);
    put_int(out, request->draw != NULL);
    if (request->draw) put_style(out, request->draw);
    end_frame(out, start);
}

bool protocol_get_request(CadRequest *request, DrawStyle *style, const void *content, size_t size) {
    Reader reader = {.at = content, .left = size};
    *request = (CadRequest){0};
    *style = (DrawStyle){0};
    request->code = get_bytes(&reader, &request->code_size);
    request->step_path = get_text(&reader);
    request->export_as = (CadExport)get_range(&reader, 0, CAD_EXPORT_STL);
    request->reference_code = get_bytes(&reader, &request->reference_size);
    request->reference_step = get_text(&reader);
    request->score_points = get_range(&reader, INT32_MIN, INT32_MAX);
    if (get_range(&reader, 0, 1)) {
        get_style(&reader, style);
        request->draw = style;
    }
    return finished(&reader);
}

/* ---- reply ---- */

static void put_score(Buf *out, const CadScore *score) {
    put_int(out, score->reference_status);
    put_int(out, score->iou_exact);
    const double reals[] = {score->chamfer, score->hausdorff,   score->hd95,          score->fscore,
                            score->iou,     score->iou_aligned, score->dims_rel_error};
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) put_real(out, reals[i]);
}

static void get_score(Reader *reader, CadScore *score) {
    score->reference_status = (CadStatus)get_range(reader, 0, CAD_STATUS_COUNT - 1);
    score->iou_exact = get_range(reader, 0, 1);
    double *const reals[] = {&score->chamfer,       &score->hausdorff, &score->hd95,
                             &score->fscore,        &score->iou,       &score->iou_aligned,
                             &score->dims_rel_error};
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) *reals[i] = get_real(reader);
}

void protocol_put_reply(Buf *out, const CadReply *reply) {
    size_t start = begin_frame(out, FRAME_REPLY);
    put_int(out, reply->status);
    put_int(out, reply->line);
    put_int(out, reply->column);
    put_text(out, reply->message);
    const double reals[] = {reply->volume,    reply->area,      reply->box_min.x,
                            reply->box_min.y, reply->box_min.z, reply->box_max.x,
                            reply->box_max.y, reply->box_max.z, reply->seconds};
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) put_real(out, reals[i]);
    put_int(out, reply->solids);
    put_int(out, reply->faces);
    put_int(out, reply->jittered);
    put_score(out, &reply->score);
    put_bytes(out, reply->png.data, reply->png.size);
    put_bytes(out, reply->exported.data, reply->exported.size);
    end_frame(out, start);
}

bool protocol_get_reply(CadReply *reply, const void *content, size_t size) {
    Reader reader = {.at = content, .left = size};
    cad_reply_clear(reply);
    reply->status = (CadStatus)get_range(&reader, 0, CAD_STATUS_COUNT - 1);
    reply->line = get_range(&reader, 0, INT32_MAX);
    reply->column = get_range(&reader, 0, INT32_MAX);
    get_text_into(&reader, reply->message, sizeof reply->message);
    double *const reals[] = {&reply->volume,    &reply->area,      &reply->box_min.x,
                             &reply->box_min.y, &reply->box_min.z, &reply->box_max.x,
                             &reply->box_max.y, &reply->box_max.z, &reply->seconds};
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) *reals[i] = get_real(&reader);
    reply->solids = get_range(&reader, 0, INT32_MAX);
    reply->faces = get_range(&reader, 0, INT32_MAX);
    reply->jittered = get_range(&reader, 0, 1);
    get_score(&reader, &reply->score);
    size_t png_size, exported_size;
    const char *png = get_bytes(&reader, &png_size);
    const char *exported = get_bytes(&reader, &exported_size);
    if (!finished(&reader)) return false;
    if (png) buf_append(&reply->png, png, png_size);
    if (exported) buf_append(&reply->exported, exported, exported_size);
    return true;
}
