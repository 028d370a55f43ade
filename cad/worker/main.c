/* cadvlm-cad: builds, checks, draws, exports and scores solids for the program that started it.
 *
 * It links OpenCASCADE but neither MPI nor CUDA, and lives under limits: of memory and core files
 * from the start, of time for each item (a second line behind the deadline of the program that
 * waits). It opens no files, and gives up all that it does not need (cad/worker/confine.h). It ends
 * when its standard input does, and dies with its parent. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include "cad/drawing/sheet.h"
#include "cad/language/code.h"
#include "cad/solid/score.h"
#include "cad/solid/solid.h"
#include "cad/worker/confine.h"
#include "cad/worker/hooks.h"
#include "cad/worker/protocol.h"
#include "core/clock.h"
#include "core/sanitized.h"
#include "core/text.h"

#define ALARM_FACTOR   1.25 /* of the limit of an item … */
#define ALARM_EXTRA    0.5  /* … and so many seconds more */
#define EXACT_SECONDS  0.2  /* for all views by the kernel's exact hidden-line algorithm */
#define POINTS_DEFAULT 8192
#define POINTS_MAX     (1 << 20)
#define HEAP_KEPT      (256 << 20) /* free memory that is not given back between items */
#define EXPORT_MAX     (PROTOCOL_FRAME_MAX / 2)
#define HEAP_GROWTH    (16 << 20)

/* ---- pipes ---- */

static bool read_all(void *bytes, size_t size) {
    char *at = bytes;
    while (size) {
        ssize_t got = read(STDIN_FILENO, at, size);
        if (got <= 0) return false;
        at += got;
        size -= (size_t)got;
    }
    return true;
}

static bool write_all(int fd, const Buf *buf) {
    for (size_t at = 0; at < buf->size;) {
        ssize_t wrote = write(fd, buf->data + at, buf->size - at);
        if (wrote <= 0) return false;
        at += (size_t)wrote;
    }
    return true;
}

/* ---- one item ---- */

/* A request with what came behind it. */
typedef struct Item {
    CadRequest request;
    DrawStyle style;
    Buf content, step, reference; /* the request's frame, its STEP files */
} Item;

static void say(CadReply *reply, CadStatus status, const char *message) {
    reply->status = status;
    text_escape(reply->message, sizeof reply->message, message);
}

/* Cut behind a character where it does not fit. */
static void say_of_reference(CadReply *reply, const char *message) {
    int used = snprintf(reply->message, sizeof reply->message, "reference: ");
    text_escape(reply->message + used, sizeof reply->message - (size_t)used, message);
}

static CadStatus build_code(Solid **solid, const char *code, size_t size, CadReply *reply) {
    CadProgram program = {0};
    CodeError error = {0};
    SolidNote note;
    CadStatus status;
    if (code_parse(&program, code, size, "code", &error) != OK) {
        status = error.in_syntax ? CAD_PARSE_FAIL : CAD_EXEC_FAIL;
        reply->line = error.line;
        reply->column = error.column;
        say(reply, status, error.message);
    } else if (program_validate(&program) != OK) {
        status = CAD_EXEC_FAIL;
        say(reply, status, err_message());
    } else {
        status = solid_build(solid, &program, &note);
        say(reply, status, note.text[0] ? note.text : error.message);
    }
    program_free(&program);
    return status;
}

static CadStatus build_step(Solid **solid, const char *name, const Buf *file, CadReply *reply) {
    SolidNote note;
    CadStatus status = solid_read_step(solid, name, file, &note);
    say(reply, status, note.text);
    return status;
}

static void check_solid(const Solid *solid, CadReply *reply) {
    SolidFacts facts;
    SolidNote note;
    CadStatus status = solid_check(solid, &facts, &note);
    bool sound = status == CAD_OK && reply->status == CAD_OK;
    if (sound && note.text[0] && reply->message[0]) { /* beside what the reader had to say */
        char both[sizeof reply->message + sizeof note.text + 2];
        snprintf(both, sizeof both, "%s; %s", reply->message, note.text);
        say(reply, status, both);
    } else if (!sound || note.text[0]) {
        say(reply, status, note.text);
    }
    reply->volume = facts.volume;
    reply->area = facts.area;
    reply->box_min = facts.box_min;
    reply->box_max = facts.box_max;
    reply->solids = facts.solids;
    reply->faces = facts.faces;
    reply->jittered = facts.jittered;
}

static Err draw_solid(const Solid *solid, const DrawStyle *style, CadReply *reply) {
    ViewLines lines[VIEW_COUNT];
    Image image = {0};
    SolidNote note;
    TRY(draw_style_check(style));
    LineOptions options = {.views = style->views,
                           .tolerance = sheet_tolerance(style, reply->box_min, reply->box_max),
                           .exact = style->exact_hidden_lines,
                           .exact_seconds = EXACT_SECONDS};
    REQUIRE(hidden_lines(lines, solid, &options, &note), ERR_INPUT, "%s", note.text);
    Err err = sheet_draw(&image, style, lines, reply->box_min, reply->box_max);
    for (int view = 0; view < VIEW_COUNT; view++) view_lines_free(&lines[view]);
    if (err == OK) err = image_encode(&reply->png, &image);
    image_free(&image);
    return err;
}

static Err export_solid(const Solid *solid, CadExport format, CadReply *reply) {
    TRY((format == CAD_EXPORT_STEP ? solid_to_step : solid_to_stl)(&reply->exported, solid));
    size_t size = reply->exported.size;
    if (size <= EXPORT_MAX) return OK;
    buf_free(&reply->exported);
    FAIL(ERR_UNSUPPORTED, "the file would have %zu bytes; %d are possible", size, EXPORT_MAX);
}

static void score_solid(const Solid *solid, const Item *item, CadReply *reply) {
    const CadRequest *request = &item->request;
    Solid *reference = NULL;
    CadReply other;
    cad_reply_clear(&other);
    CadStatus status =
        request->reference_code
            ? build_code(&reference, request->reference_code, request->reference_size, &other)
            : build_step(&reference, request->reference_step, &item->reference, &other);
    if (reference) {
        check_solid(reference, &other);
        status = other.status;
    }
    int points = request->score_points > 0 ? request->score_points : POINTS_DEFAULT;
    if (points > POINTS_MAX) points = POINTS_MAX;
    bool sound = status == CAD_OK && reply->status == CAD_OK;
    if (solid && reference) score_solids(&reply->score, solid, reference, points, sound);
    reply->score.reference_status = status;
    if (other.message[0] && reply->status == CAD_OK && !reply->message[0])
        say_of_reference(reply, other.message);
    solid_free(&reference);
}

/* What is asked of a solid beyond its facts. The first thing that fails is the item's failure. */
static void serve_solid(const Solid *solid, const CadRequest *request, CadReply *reply) {
    if (reply->status == CAD_EMPTY_SOLID) return;
    Err err = OK;
    if (request->draw) err = draw_solid(solid, request->draw, reply);
    if (err == OK && request->export_as) err = export_solid(solid, request->export_as, reply);
    if (err != OK)
        say(reply, reply->status == CAD_OK ? CAD_EXEC_FAIL : reply->status, err_message());
}

/* ---- serving ---- */

static void serve(const Item *item, CadReply *reply) {
    const CadRequest *request = &item->request;
    double begun = clock_seconds();
    Solid *solid = NULL;
    if (hooks_obey(request, reply)) return;
    if (request->code)
        build_code(&solid, request->code, request->code_size, reply);
    else if (request->step_path)
        build_step(&solid, request->step_path, &item->step, reply);
    else
        say(reply, CAD_EXEC_FAIL, "neither code nor a STEP file was given");
    if (solid) {
        check_solid(solid, reply);
        serve_solid(solid, request, reply);
    }
    if (request->reference_code || request->reference_step) score_solid(solid, item, reply);
    solid_free(&solid);
    reply->seconds = clock_seconds() - begun;
}

/* ---- the process ---- */

static void set_timer(int which, double seconds) {
    struct itimerval timer = {0};
    timer.it_value.tv_sec = (time_t)seconds;
    timer.it_value.tv_usec = (suseconds_t)((seconds - (double)timer.it_value.tv_sec) * 1e6);
    setitimer(which, &timer, NULL);
}

/* Limits of an item, in seconds; 0: no longer. They lie behind those of the program that waits, for
 * when it does not. */
static void set_alarms(double cpu, double wall) {
    set_timer(ITIMER_PROF, cpu > 0 ? cpu * ALARM_FACTOR + ALARM_EXTRA : 0);
    set_timer(ITIMER_REAL, wall > 0 ? wall * ALARM_FACTOR + ALARM_EXTRA : 0);
}

static void limit(int resource, rlim_t value) {
    struct rlimit limits = {.rlim_cur = value, .rlim_max = value};
    setrlimit(resource, &limits);
}

static void live_under_limits(int parent, size_t megabytes) {
    limit(RLIMIT_CORE, 0);
    /* The shadow memory of a sanitizer takes terabytes of addresses. */
    if (!SANITIZED) limit(RLIMIT_AS, (rlim_t)megabytes << 20);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) exit(1); /* it died before we could ask to be told */
    /* Solids are built and dropped all the time: memory that is free stays here for the next. */
    mallopt(M_TRIM_THRESHOLD, HEAP_KEPT);
    mallopt(M_TOP_PAD, HEAP_GROWTH);
    mallopt(M_MMAP_THRESHOLD, HEAP_KEPT);
}

/* Replies go to a descriptor of their own, so that nothing a library prints can get among them. */
static int take_standard_output(void) {
    int fd = dup(STDOUT_FILENO);
    if (fd < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) exit(1);
    return fd;
}

/* The content of a frame. */
static bool read_frame(Buf *out, FrameKind kind) {
    FrameHeader header;
    if (!read_all(&header, sizeof header) || !frame_header_ok(&header, kind)) return false;
    buf_clear(out);
    buf_reserve(out, header.size);
    out->size = header.size;
    return read_all(out->data, header.size);
}

static bool read_item(Item *item) {
    const CadRequest *request = &item->request;
    return read_frame(&item->content, FRAME_REQUEST) &&
           protocol_get_request(&item->request, &item->style, item->content.data,
                                item->content.size) &&
           (!request->step_path || read_frame(&item->step, FRAME_FILE)) &&
           (!request->reference_step || read_frame(&item->reference, FRAME_FILE));
}

/* Until the parent is done with us and closes the pipe. */
static void serve_requests(int out, double cpu, double wall, int confined) {
    Item item = {0};
    Buf answer = {0};
    protocol_put_hello(&answer, PROTOCOL_VERSION, confined);
    while (write_all(out, &answer) && read_item(&item)) {
        CadReply reply;
        cad_reply_clear(&reply);
        set_alarms(cpu, wall);
        serve(&item, &reply);
        set_alarms(0, 0);
        buf_clear(&answer);
        protocol_put_reply(&answer, &reply);
        cad_reply_free(&reply);
    }
    buf_free(&item.content);
    buf_free(&item.step);
    buf_free(&item.reference);
    buf_free(&answer);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("cadvlm-cad, protocol %d, OpenCASCADE %s\n", PROTOCOL_VERSION,
               solid_kernel_version());
        return 0;
    }
    if (argc != 7 || strcmp(argv[1], "--worker") != 0) {
        fprintf(stderr, "cadvlm-cad is started by cadvlm, not by hand\n");
        return 2;
    }
    confine_descriptors();
    live_under_limits(atoi(argv[2]), (size_t)atoll(argv[5]));
    int out = take_standard_output();
    solid_quiet();
    serve_requests(out, atof(argv[3]), atof(argv[4]), confine(strcmp(argv[6], "forks") == 0));
    return 0;
}
