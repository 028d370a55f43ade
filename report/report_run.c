/* Of one run: what it reached, how it got there, and its settings. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/chart.h"
#include "report/html.h"
#include "report/report_internal.h"

enum { WIDE = 1100, TALL = 300, SMALL_WIDE = 380, SMALL_TALL = 200, SET_TILES = 4 };

enum { SMOOTH_WINDOWS = 60 }; /* a smoothed curve shows means of so many parts of all steps */

/* ---- columns of the metrics ---- */

typedef struct Column {
    double *x, *y;
    size_t count;
} Column;

/* The member at `offset` of each of `count` structs of `size` bytes, against the one at `x_offset`.
 */
static Column column(const void *items, size_t count, size_t size, size_t x_offset, size_t offset) {
    Column c = {.x = malloc((count + 1) * sizeof *c.x),
                .y = malloc((count + 1) * sizeof *c.y),
                .count = count};
    CHECK(c.x && c.y, "out of memory: %zu steps", count);
    for (size_t i = 0; i < count; i++) {
        const char *item = (const char *)items + i * size;
        memcpy(&c.x[i], item + x_offset, sizeof c.x[i]);
        memcpy(&c.y[i], item + offset, sizeof c.y[i]);
    }
    return c;
}

static void column_free(Column *c) {
    free(c->x);
    free(c->y);
}

#define STEPS(run, member)                                                                         \
    column((run)->steps, (run)->step_count, sizeof(RunStep), offsetof(RunStep, step),              \
           offsetof(RunStep, member))

static Column smoothed(const Column *raw) {
    Column c = {.x = malloc((raw->count + 1) * sizeof *c.x),
                .y = malloc((raw->count + 1) * sizeof *c.y),
                .count = raw->count};
    CHECK(c.x && c.y, "out of memory: %zu steps", raw->count);
    if (raw->count) memcpy(c.x, raw->x, raw->count * sizeof *c.x);
    chart_smooth(c.y, raw->y, raw->count, raw->count / SMOOTH_WINDOWS);
    return c;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of the values that are there; sorts them. */
static double median(Column *c) {
    size_t kept = 0;
    for (size_t i = 0; i < c->count; i++)
        if (isfinite(c->y[i])) c->y[kept++] = c->y[i];
    if (!kept) return (double)NAN;
    qsort(c->y, kept, sizeof *c->y, compare);
    return c->y[kept / 2];
}

static double median_of(Column c) {
    double m = median(&c);
    column_free(&c);
    return m;
}

/* ---- tiles ---- */

static void open_tile(Buf *out, const char *name) {
    buf_text(out, "<div class=\"tile\">");
    html_tag(out, "div", "name", name);
    buf_text(out, "<div class=\"value\">");
}

static void more(Buf *out) {
    buf_text(out, "</div><div class=\"more\">");
}

static void close_tile(Buf *out) {
    buf_text(out, "</div></div>\n");
}

static void put_bars(Buf *out, double real, double shuffled) {
    buf_text(out, "<div class=\"bars\">");
    for (int i = 0; i < 2; i++) {
        double share = i ? shuffled : real;
        if (!(share >= 0)) continue;
        buf_format(out, "<span style=\"width:%.1f%%\"></span>", 100 * fmin(share, 1));
    }
    buf_text(out, "</div>");
}

/* `set`: the dataset's name; NULL for all of them. */
static void iou_tile(Buf *out, const char *set, const Json *numbers) {
    double iou = json_number(numbers, "iou_mean"),
           control = json_number(js_get(numbers, "shuffled"), "iou_mean");
    Buf name = {0};
    buf_format(&name, "Mean IoU%s%s", set ? ", " : "", set ? set : "");
    open_tile(out, buf_cstr(&name));
    buf_free(&name);
    put_number(out, iou, 3, "");
    buf_text(out, "</div>");
    put_bars(out, iou, control);
    buf_text(out, "<div class=\"more\">");
    if (isfinite(control)) {
        put_number(out, control, 3, "");
        buf_text(out, " another’s picture");
    }
    close_tile(out);
}

static void eval_tiles(Buf *out, const RunEval *eval) {
    const Json *sets = js_get(eval->root, "by_dataset"), *set;
    size_t count = js_type(sets) == JSON_KIND_OBJECT ? js_count(sets) : 0;
    const char *name;
    if (count < 2 || count > SET_TILES) iou_tile(out, NULL, eval->root);
    for (size_t i = 0; count >= 2 && count <= SET_TILES && i < count; i++) {
        set = js_member(sets, i, &name);
        iou_tile(out, name, set);
    }
    open_tile(out, "Programs that execute");
    put_number(out, 100 * json_number(eval->root, "executes"), 1, " %");
    more(out);
    put_number(out, 100 * json_number(eval->root, "syntax"), 1, " % parse");
    close_tile(out);
    open_tile(out, "Dimensions off by");
    put_number(out, 100 * json_number(eval->root, "dims_rel_error"), 2, " %");
    more(out);
    put_number(out, 100 * json_number(eval->root, "dims_exact"), 0, " % exact");
    close_tile(out);
}

static void training_tiles(Buf *out, const RunData *run) {
    const RunStep *last = &run->steps[run->step_count - 1];
    char text[32];
    open_tile(out, "Validation loss");
    put_number(
        out, run->validation_count ? run->validations[run->validation_count - 1].loss : (double)NAN,
        4, "");
    more(out);
    Column raw = STEPS(run, loss), smooth = smoothed(&raw);
    buf_text(out, "training ");
    put_number(out, smooth.y[smooth.count - 1], 4, "");
    column_free(&raw);
    column_free(&smooth);
    close_tile(out);
    open_tile(out, "Steps");
    put_number(out, last->step, 0, "");
    more(out);
    chart_number(text, run->samples);
    buf_format(out, "%s samples in ", text);
    put_duration(out, run->seconds);
    close_tile(out);
    open_tile(out, "Speed, median");
    put_number(out, median_of(STEPS(run, samples_per_s)), 0, " /s");
    more(out);
    put_number(out, 100 * median_of(STEPS(run, mfu)), 0, " % of the peak rate");
    close_tile(out);
}

void report_tiles(Buf *out, const RunData *run) {
    if (!run->eval_count && !run->step_count) return;
    buf_text(out, "<div class=\"tiles\">\n");
    if (run->eval_count) eval_tiles(out, report_main_eval(run));
    if (run->step_count) training_tiles(out, run);
    buf_text(out, "</div>\n");
}

/* ---- curves ---- */

static void loss_chart(Buf *out, const RunData *run) {
    Column raw = STEPS(run, loss), smooth = smoothed(&raw),
           validation = column(run->validations, run->validation_count, sizeof(RunValidation),
                               offsetof(RunValidation, step), offsetof(RunValidation, loss));
    Chart chart = {.title = "Loss",
                   .x_label = "step",
                   .y_label = "nats a token",
                   .width = WIDE,
                   .height = TALL,
                   .log_y = true,
                   .series_count = 3,
                   .series = {{raw.x, raw.y, raw.count, NULL, 0, CHART_SPREAD},
                              {smooth.x, smooth.y, smooth.count, "training", 0, CHART_LINE},
                              {validation.x, validation.y, validation.count,
                               validation.count ? "validation" : NULL, 1, CHART_POINTS}}};
    buf_text(out, "<figure class=\"wide\">");
    chart_svg(out, &chart);
    buf_text(out, "</figure>\n");
    column_free(&raw);
    column_free(&smooth);
    column_free(&validation);
}

static void small_chart(Buf *out, const char *title, Column raw, bool smooth, bool log_y) {
    Column line = smoothed(&raw);
    Chart chart = {
        .title = title,
        .x_label = "step",
        .width = SMALL_WIDE,
        .height = SMALL_TALL,
        .log_y = log_y,
        .from_zero = true,
        .series_count = smooth ? 2 : 1,
        .series = {{raw.x, raw.y, raw.count, NULL, 0, smooth ? CHART_SPREAD : CHART_LINE},
                   {line.x, line.y, line.count, NULL, 0, CHART_LINE}}};
    buf_text(out, "<figure>");
    chart_svg(out, &chart);
    buf_text(out, "</figure>\n");
    column_free(&line);
    column_free(&raw);
}

void report_curves(Buf *out, const RunData *run) {
    if (!run->step_count) {
        buf_text(out, "<p class=\"empty\">No steps have been written to metrics.jsonl yet.</p>\n");
        return;
    }
    buf_text(out, "<div class=\"charts\">\n");
    loss_chart(out, run);
    small_chart(out, "Learning rate", STEPS(run, lr), false, false);
    small_chart(out, "Samples a second", STEPS(run, samples_per_s), true, false);
    small_chart(out, "Gradient norm", STEPS(run, grad_norm), true, true);
    buf_text(out, "</div>\n");
    if (run->skipped || run->bad_lines) {
        buf_text(out, "<p class=\"key\">");
        if (run->skipped)
            buf_format(out, "%zu steps had numbers that are not finite, and were not taken. ",
                       run->skipped);
        if (run->bad_lines)
            buf_format(out, "%zu lines of metrics.jsonl were cut or not understood.",
                       run->bad_lines);
        buf_text(out, "</p>\n");
    }
}

/* ---- config ---- */

static void fact(Buf *out, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void fact(Buf *out, const char *name, const char *format, ...) {
    Buf text = {0};
    va_list args;
    va_start(args, format);
    buf_vformat(&text, format, args);
    va_end(args);
    buf_text(out, "<div>");
    html_tag(out, "dt", NULL, name);
    html_tag(out, "dd", NULL, buf_cstr(&text));
    buf_text(out, "</div>\n");
    buf_free(&text);
}

static const char *tune_text(Tune tune) {
    static const char *const names[] = {"frozen", "LoRA", "full"};
    return names[tune];
}

static void model_facts(Buf *out, const Config *c) {
    const VisionConfig *v = &c->model.vision;
    const LlmConfig *l = &c->model.llm;
    if (c->base_model[0]) fact(out, "starts from", "%s", c->base_model);
    if (c->model.from_scratch) {
        fact(out, "sees", "%lld × %lld pixels, patches of %lld, %lld layers of width %lld",
             (long long)v->image_size, (long long)v->image_size, (long long)v->patch_size,
             (long long)v->layers, (long long)v->width);
        fact(out, "writes", "%lld layers of width %lld, up to %lld rows", (long long)l->layers,
             (long long)l->width, (long long)c->training.max_length);
    }
    fact(out, "trained", "vision %s, connector %s, language model %s", tune_text(c->tune.vision),
         tune_text(c->tune.connector), tune_text(c->tune.llm));
    if (c->tune.vision == TUNE_LORA || c->tune.connector == TUNE_LORA || c->tune.llm == TUNE_LORA)
        fact(out, "LoRA", "r %lld, alpha %g, dropout %g", (long long)c->lora.r, c->lora.alpha,
             c->lora.dropout);
}

static void training_facts(Buf *out, const Config *c) {
    static const char *const schedules[] = {"cosine", "linear", "constant"};
    static const char *const precisions[] = {"auto", "bf16", "fp16", "f32"};
    const TrainingConfig *t = &c->training;
    if (c->train_data[0]) fact(out, "data", "%s", c->train_data);
    for (int i = 0; i < c->dataset_count; i++)
        fact(out, i ? "" : "data", "%s: %s, weight %g", c->datasets[i].name, c->datasets[i].path,
             c->datasets[i].weight);
    fact(out, "batch", "%lld samples a micro-batch%s", (long long)t->per_device_batch_size,
         t->micro_batches ? "" : ", by ranks");
    if (t->micro_batches) fact(out, "step", "%lld micro-batches", (long long)t->micro_batches);
    char warmup[48];
    if (t->warmup_steps)
        snprintf(warmup, sizeof warmup, "%lld steps", (long long)t->warmup_steps);
    else
        snprintf(warmup, sizeof warmup, "%g %% of the steps", 100 * t->warmup_ratio);
    fact(out, "learning rate", "%g, %s, warm-up over %s", t->learning_rate,
         schedules[t->lr_scheduler_type], warmup);
    fact(out, "optimiser", "AdamW, betas %g and %g, weight decay %g, clipped to %g", t->adam_beta1,
         t->adam_beta2, t->weight_decay, t->max_grad_norm);
    fact(out, "precision", "%s, seed %lld", precisions[c->precision], (long long)c->seed);
}

static void raw_details(Buf *out, const char *title, const char *text, size_t size) {
    buf_text(out, "<details class=\"raw\">");
    html_tag(out, "summary", NULL, title);
    buf_text(out, "<pre>");
    html_bytes(out, text, size);
    buf_text(out, "</pre></details>\n");
}

void report_facts(Buf *out, const RunData *run) {
    if (!run->config_text.size && !run->versions) return;
    buf_text(out, "<h3>Settings</h3>\n");
    if (run->config) {
        buf_text(out, "<dl class=\"facts-grid\">\n");
        model_facts(out, run->config);
        training_facts(out, run->config);
        const char *device = js_text(js_get(run->versions, "device"), NULL);
        if (device) fact(out, "ran on", "%s", device);
        buf_text(out, "</dl>\n");
    }
    if (run->config_text.size)
        raw_details(out, "config.yaml", run->config_text.data, run->config_text.size);
    if (run->versions) {
        Buf text = {0};
        js_print(&text, run->versions, JSON_INDENTED, 6);
        raw_details(out, "version.json", text.data, text.size);
        buf_free(&text);
    }
}
