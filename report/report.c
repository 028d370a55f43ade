#include "report/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/chart.h"
#include "report/html.h"
#include "report/report_internal.h"
#include "report/report_style.h"

enum { COMPARE_WIDE = 1100, COMPARE_TALL = 280, COMPARE_WINDOWS = 60, COLOURS = 6 };

static void put_title(Buf *out, const RunData *runs, int count, const ReportOptions *o) {
    if (o->title) {
        html_text(out, o->title);
        return;
    }
    for (int i = 0; i < count; i++) html_format(out, "%s%s", i ? ", " : "", runs[i].name);
}

static void put_top(Buf *out, const RunData *runs, int count, const ReportOptions *o) {
    buf_text(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                  "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                  "img-src data:; style-src 'unsafe-inline'\">\n<title>");
    put_title(out, runs, count, o);
    buf_text(out, "</title>\n<style>\n");
    buf_text(out, report_style);
    buf_text(out, "</style></head>\n<body>\n<header class=\"top\"><div class=\"wrap\">"
                  "<div class=\"mark\">cadvlm · drawing to program to solid</div><h1>");
    put_title(out, runs, count, o);
    buf_text(out, "</h1><p>");
    if (count == 1) html_format(out, "%s · ", runs[0].path);
    html_format(out, "written by cadvlm %s%s%s", o->version, o->date ? " on " : "",
                o->date ? o->date : "");
    buf_text(out, "</p>");
    if (count > 1) {
        buf_text(out, "<nav>");
        for (int i = 0; i < count; i++) {
            buf_format(out, "<a href=\"#run-%d\">", i + 1);
            html_text(out, runs[i].name);
            buf_text(out, "</a>");
        }
        buf_text(out, "</nav>");
    }
    buf_text(out, "</div></header>\n<main class=\"wrap\">\n");
}

/* ---- several runs side by side ---- */

static void compare_losses(Buf *out, const RunData *runs, int count) {
    Chart chart = {.title = "Training loss of each run, smoothed",
                   .x_label = "step",
                   .y_label = "nats a token",
                   .width = COMPARE_WIDE,
                   .height = COMPARE_TALL,
                   .log_y = true};
    double *columns[2 * COLOURS];
    for (int i = 0; i < count && i < COLOURS; i++) {
        const RunData *run = &runs[i];
        size_t n = run->step_count;
        double *x = malloc((n + 1) * sizeof *x), *y = malloc((n + 1) * sizeof *y),
               *raw = malloc((n + 1) * sizeof *raw);
        CHECK(x && y && raw, "out of memory: %zu steps", n);
        for (size_t k = 0; k < n; k++) {
            x[k] = run->steps[k].step;
            raw[k] = run->steps[k].loss;
        }
        chart_smooth(y, raw, n, n / COMPARE_WINDOWS);
        free(raw);
        chart.series[i] = (ChartSeries){x, y, n, run->name, i, CHART_LINE};
        columns[2 * i] = x;
        columns[2 * i + 1] = y;
        chart.series_count++;
    }
    buf_text(out, "<div class=\"charts\"><figure class=\"wide\">");
    chart_svg(out, &chart);
    buf_text(out, "</figure></div>\n");
    for (int i = 0; i < 2 * chart.series_count; i++) free(columns[i]);
}

static void compare_row(Buf *out, const RunData *run, int number) {
    const RunEval *chosen = report_main_eval(run);
    const Json *eval = chosen ? chosen->root : NULL;
    const RunStep *last = run->step_count ? &run->steps[run->step_count - 1] : NULL;
    buf_format(out, "<tr><td><a href=\"#run-%d\">", number);
    html_text(out, run->name);
    buf_text(out, "</a></td><td>");
    put_number(out, last ? last->step : (double)NAN, 0, "");
    buf_text(out, "</td><td>");
    put_duration(out, run->step_count ? run->seconds : (double)NAN);
    buf_text(out, "</td><td>");
    put_number(
        out, run->validation_count ? run->validations[run->validation_count - 1].loss : (double)NAN,
        4, "");
    buf_text(out, "</td><td>");
    put_number(out, json_number(eval, "iou_mean"), 3, "");
    if (chosen) {
        buf_text(out, "<span class=\"sub\">");
        put_eval_name(out, chosen);
        buf_text(out, "</span>");
    }
    buf_text(out, "</td><td>");
    put_number(out, json_number(js_get(eval, "shuffled"), "iou_mean"), 3, "");
    buf_text(out, "</td><td>");
    put_number(out, 100 * json_number(eval, "executes"), 1, " %");
    buf_text(out, "</td><td>");
    put_number(out, 100 * json_number(eval, "dims_rel_error"), 2, " %");
    buf_text(out, "</td></tr>\n");
}

static void put_comparison(Buf *out, const RunData *runs, int count) {
    buf_text(out, "<section class=\"run side\"><h2>Side by side</h2><p class=\"path\">of each run "
                  "the evaluation of its newest step, over the data it validates on</p>\n<div "
                  "class=\"scroll\"><table><thead><tr>"
                  "<th>run</th><th>steps</th><th>training</th><th>validation loss</th><th>IoU</th>"
                  "<th>IoU, another’s picture</th><th>executes</th><th>dims off</th></tr></thead>"
                  "<tbody>\n");
    for (int i = 0; i < count; i++) compare_row(out, &runs[i], i + 1);
    buf_text(out, "</tbody></table></div>\n");
    compare_losses(out, runs, count);
    buf_text(out, "</section>\n");
}

/* ---- the page ---- */

static void put_run(Buf *out, const RunData *run, int number, bool alone, int examples) {
    buf_format(out, "<section class=\"run\" id=\"run-%d\">\n", number);
    if (!alone) {
        html_tag(out, "h2", NULL, run->name);
        html_tag(out, "p", "path", run->path);
    }
    if (run->notes.size) html_tag(out, "div", "notes", buf_cstr(&run->notes));
    report_tiles(out, run);
    report_curves(out, run);
    report_evals(out, run);
    report_galleries(out, run, examples);
    report_facts(out, run);
    buf_text(out, "</section>\n");
}

void report_html(Buf *out, const RunData *runs, int count, const ReportOptions *options) {
    put_top(out, runs, count, options);
    if (count > 1) put_comparison(out, runs, count);
    for (int i = 0; i < count; i++) put_run(out, &runs[i], i + 1, count == 1, options->examples);
    buf_text(out,
             "<footer>IoU, chamfer and the rest are explained in docs/evaluation.md. This page "
             "needs no other file.</footer>\n</main></body></html>\n");
}

Err report_write(const char *path, const char *const *runs, int count,
                 const ReportOptions *options) {
    RunData *data = calloc((size_t)count, sizeof *data);
    CHECK(data, "out of memory: %d runs", count);
    Buf page = {0};
    Err err = OK;
    for (int i = 0; i < count && err == OK; i++) err = run_data_read(&data[i], runs[i]);
    if (err == OK) {
        report_html(&page, data, count, options);
        err = file_write(path, page.data, page.size);
    }
    for (int i = 0; i < count; i++) run_data_free(&data[i]);
    free(data);
    buf_free(&page);
    return err;
}
