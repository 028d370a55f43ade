/* How fast parts become pictures: the stages of one part on one core, then whole parts through
 * workers. Synthetic parts of all families, drawn in tiles. Prints one JSON object; times are those
 * of the processor, except in the last lines.
 *
 *     bench_cad [PARTS] [SIZE]      (400 parts at 128 pixels) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cad/drawing/sheet.h"
#include "cad/language/code.h"
#include "cad/solid/solid.h"
#include "core/clock.h"
#include "core/json.h"
#include "data/synth/synth.h"

enum { SEED = 1, DIGITS = 4, STEPS_MAX = 8 };

typedef enum Stage { PARSE, BUILD, CHECK_SOLID, LINES, RASTER, ENCODE, STAGES } Stage;

static const char *const stage_names[STAGES] = {"parse", "build",  "check",
                                                "lines", "raster", "png"};

static double processor_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct Timer {
    double at, seconds[STAGES];
} Timer;

static void stage_done(Timer *timer, Stage stage) {
    double now = processor_seconds();
    timer->seconds[stage] += now - timer->at;
    timer->at = now;
}

static void must(Err err) {
    CHECK(err == OK, "%s", err_message());
}

static void make_code(Buf *code, uint64_t index) {
    CadProgram program = {0};
    must(synth_part(&program, SEED, index, -1, SYNTH_CORNER));
    buf_clear(code);
    code_emit(code, &program, CODE_PLAIN);
    program_free(&program);
}

/* One part in this process, as the worker does it. Returns its number of extrudes. */
static int run_part(Timer *timer, const Buf *code, const DrawStyle *style) {
    CadProgram program;
    Solid *solid = NULL;
    SolidNote note;
    SolidFacts facts;
    ViewLines lines[VIEW_COUNT];
    Image image;
    Buf png = {0};
    timer->at = processor_seconds();
    must(code_parse(&program, code->data, code->size, "part", NULL));
    must(program_validate(&program));
    stage_done(timer, PARSE);
    CHECK(solid_build(&solid, &program, &note) == CAD_OK, "%s", note.text);
    stage_done(timer, BUILD);
    CHECK(solid_check(solid, &facts, &note) == CAD_OK, "%s", note.text);
    stage_done(timer, CHECK_SOLID);
    LineOptions options = {.views = style->views,
                           .tolerance = sheet_tolerance(style, facts.box_min, facts.box_max)};
    CHECK(hidden_lines(lines, solid, &options, &note), "%s", note.text);
    stage_done(timer, LINES);
    must(sheet_draw(&image, style, lines, facts.box_min, facts.box_max));
    stage_done(timer, RASTER);
    must(image_encode(&png, &image));
    stage_done(timer, ENCODE);
    int count = program.count;
    for (int v = 0; v < VIEW_COUNT; v++) view_lines_free(&lines[v]);
    image_free(&image);
    buf_free(&png);
    solid_free(&solid);
    program_free(&program);
    return count;
}

static Json *bench_stages(const DrawStyle *style, int parts) {
    Timer all = {0}, by_steps[STEPS_MAX + 1] = {0};
    int counts[STEPS_MAX + 1] = {0};
    Buf code = {0};
    for (int i = -1; i < parts; i++) { /* the first warms up */
        Timer timer = {0};
        make_code(&code, (uint64_t)(i < 0 ? 0 : i));
        int steps = run_part(&timer, &code, style);
        if (i < 0) continue;
        if (steps > STEPS_MAX) steps = STEPS_MAX;
        counts[steps]++;
        for (int s = 0; s < STAGES; s++) {
            all.seconds[s] += timer.seconds[s];
            by_steps[steps].seconds[s] += timer.seconds[s];
        }
    }
    Json *root = js_new_object(), *steps = js_new_object();
    double total = 0;
    for (int s = 0; s < STAGES; s++) {
        char key[32];
        snprintf(key, sizeof key, "%s_ms", stage_names[s]);
        js_set_number(root, key, 1e3 * all.seconds[s] / parts);
        total += all.seconds[s];
    }
    js_set_number(root, "parts_per_s_per_core", parts / total);
    for (int n = 1; n <= STEPS_MAX; n++) {
        double sum = 0;
        char key[32];
        if (!counts[n]) continue;
        for (int s = 0; s < STAGES; s++) sum += by_steps[n].seconds[s];
        Json *item = js_new_object();
        js_set_integer(item, "parts", counts[n]);
        js_set_number(item, "parts_per_s_per_core", counts[n] / sum);
        snprintf(key, sizeof key, "%d_extrudes", n);
        js_set(steps, key, item);
    }
    js_set(root, "by_extrudes", steps);
    buf_free(&code);
    return root;
}

/* Parts a second through the pool, by the clock on the wall. */
static double bench_pool(const DrawStyle *style, int parts, int workers) {
    CadPool *pool;
    Buf code = {0};
    CadReply reply;
    must(cad_pool_open(&pool, workers, (CadLimits){0}));
    double begun = clock_seconds();
    for (int i = 0, finished = 0; finished < parts;) {
        if (i < parts && i - finished < 4 * workers) {
            make_code(&code, (uint64_t)i++);
            must(cad_pool_submit(
                pool, &(CadRequest){.code = code.data, .code_size = code.size, .draw = style}));
            continue;
        }
        CHECK(cad_pool_next(pool, &reply), "a reply is missing");
        CHECK(reply.status == CAD_OK && reply.png.size, "%s", reply.message);
        cad_reply_free(&reply);
        finished++;
    }
    double seconds = clock_seconds() - begun;
    cad_pool_close(&pool);
    buf_free(&code);
    return parts / seconds;
}

int main(int argc, char **argv) {
    int parts = argc > 1 ? atoi(argv[1]) : 400, size = argc > 2 ? atoi(argv[2]) : 128;
    CHECK(parts >= 1, "parts %d", parts);
    DrawStyle style = draw_style_tiles(size);
    solid_quiet();
    Json *root = bench_stages(&style, parts);
    js_set_integer(root, "parts", parts);
    js_set_integer(root, "size", size);
    js_set_number(root, "pool_1_worker_parts_per_s", bench_pool(&style, parts, 1));
    js_set_number(root, "pool_2_workers_parts_per_s", bench_pool(&style, parts, 2));
    Buf text = {0};
    js_print(&text, root, JSON_INDENTED, DIGITS);
    puts(buf_cstr(&text));
    buf_free(&text);
    js_free(&root);
    return 0;
}
