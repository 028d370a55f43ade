/* Of one run: its evaluations as a table, and examples to look at. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/chart.h"
#include "report/html.h"
#include "report/report_internal.h"

enum {
    PICTURE_FILE_MAX = 8 << 20,
    CODE_FILE_MAX = 1 << 20,
    BINS_MAX = 100,
    PROGRESS_MAX = 6,
    HALF_WIDE = 560,
    HALF_TALL = 220
};

/* From here on an overlap is shown as good, and as fair. */
static const double IOU_GOOD = 0.9, IOU_FAIR = 0.5;

static const struct {
    const char *key, *title, *explained;
    int decimals;
    const char *unit;
    double scale;
} COLUMNS[] = {
    {"loss", "loss", "of the reference code, in nats a token", 3, "", 1},
    {"iou_mean", "IoU", "shared volume over joint volume, own units and place; failures count 0", 3,
     "", 1},
    {"iou_median", "median", "of the IoU; failures count 0", 3, "", 1},
    {"executes", "executes", "share of programs that give a solid", 1, " %", 100},
    {"syntax", "parses", "share of programs without a syntax error", 1, " %", 100},
    {"chamfer_median", "chamfer · 10³", "median over those that give a solid", 2, "", 1000},
    {"hd95", "HD95", "median of the 95 % Hausdorff distance, box scaled to 1", 3, "", 1},
    {"fscore", "F-score", "of surface points within 0.02", 3, "", 1},
    {"dims_rel_error", "dims off", "mean error of the three overall dimensions", 2, " %", 100},
    {"dims_exact", "exact", "all three overall dimensions right", 0, " %", 100},
    {"code_identical", "same code", "the code is the reference, to the byte", 0, " %", 100},
};
enum { COLUMN_COUNT = sizeof COLUMNS / sizeof COLUMNS[0] };

static const char *name_of(const RunEval *eval) {
    const char *name = js_text(js_get(eval->root, "name"), NULL);
    return name ? name : "";
}

void put_eval_name(Buf *out, const RunEval *eval) {
    if (*name_of(eval))
        html_text(out, name_of(eval));
    else if (isfinite(json_number(eval->root, "step")))
        html_format(out, "step %.0f", json_number(eval->root, "step"));
    else
        html_text(out, eval->file);
}

/* ---- the main evaluation ---- */

/* What a run measures itself by: the data that it validates on, or else trains on. */
static const char *own_data(const RunData *run) {
    const Config *c = run->config;
    if (!c) return "";
    if (c->val_data[0]) return c->val_data;
    return c->dataset_count ? c->datasets[0].path : c->train_data;
}

static bool is_over(const RunEval *eval, const char *data) {
    const Json *sets = js_get(eval->root, "data"), *set;
    const char *name;
    JsonIter iter = js_iter(js_type(sets) == JSON_KIND_OBJECT ? sets : NULL);
    while ((set = js_next(&iter, &name))) {
        const char *path = js_text(set, NULL);
        if (path && *data && !strcmp(path, data)) return true;
    }
    return false;
}

/* Whether `a` says more of the run than `b`: a later step, its own data, no name of its own. */
static bool is_nearer(const RunData *run, const RunEval *a, const RunEval *b) {
    double x = json_number(a->root, "step"), y = json_number(b->root, "step");
    if (x > y || (isfinite(x) && !isfinite(y))) return true;
    if (x < y || (isfinite(y) && !isfinite(x))) return false;
    bool own_a = is_over(a, own_data(run)), own_b = is_over(b, own_data(run));
    if (own_a != own_b) return own_a;
    return !*name_of(a) && *name_of(b);
}

const RunEval *report_main_eval(const RunData *run) {
    const RunEval *best = run->eval_count ? &run->evals[0] : NULL;
    for (size_t i = 1; i < run->eval_count; i++)
        if (is_nearer(run, &run->evals[i], best)) best = &run->evals[i];
    return best;
}

/* ---- the table ---- */

static void put_head(Buf *out) {
    buf_text(out, "<thead><tr><th>evaluation</th><th class=\"left\">picture</th>");
    for (int c = 0; c < COLUMN_COUNT; c++) {
        buf_format(out, "<th title=\"%s\">", COLUMNS[c].explained);
        html_text(out, COLUMNS[c].title);
        buf_text(out, "</th>");
    }
    buf_text(out, "</tr></thead>\n");
}

static void put_cells(Buf *out, const Json *numbers) {
    for (int c = 0; c < COLUMN_COUNT; c++) {
        buf_text(out, "<td>");
        put_number(out, json_number(numbers, COLUMNS[c].key) * COLUMNS[c].scale,
                   COLUMNS[c].decimals, COLUMNS[c].unit);
        buf_text(out, "</td>");
    }
}

/* The rows of one set of numbers; `title` is HTML. */
static void put_rows(Buf *out, const char *title, const Json *numbers) {
    const Json *shuffled = js_get(numbers, "shuffled");
    bool control = js_type(shuffled) == JSON_KIND_OBJECT;
    buf_format(out, "<tr class=\"real\"><td rowspan=\"%d\">%s</td><td class=\"left\">its own</td>",
               control ? 2 : 1, title);
    put_cells(out, numbers);
    buf_text(out, "</tr>\n");
    if (!control) return;
    buf_text(out, "<tr class=\"shuffled\"><td class=\"left\">another’s</td>");
    put_cells(out, shuffled);
    buf_text(out, "</tr>\n");
}

static void put_eval_rows(Buf *out, const RunEval *eval) {
    const Json *sets = js_get(eval->root, "by_dataset");
    size_t count = js_type(sets) == JSON_KIND_OBJECT ? js_count(sets) : 0;
    const char *split = js_text(js_get(eval->root, "split"), NULL), *name;
    double step = json_number(eval->root, "step");
    Buf title = {0};
    buf_text(out, "<tbody>\n");
    JsonIter iter = js_iter(count ? sets : NULL);
    for (const Json *set; count && (set = js_next(&iter, &name));) {
        buf_clear(&title);
        put_eval_name(&title, eval);
        buf_text(&title, "<span class=\"sub\">");
        html_text(&title, name);
        if (split) html_format(&title, ", %s", split);
        if (isfinite(step)) html_format(&title, ", step %.0f", step);
        html_format(&title, ", %.0f parts", json_number(set, "samples"));
        buf_text(&title, "</span>");
        put_rows(out, buf_cstr(&title), set);
    }
    if (count != 1) {
        buf_clear(&title);
        put_eval_name(&title, eval);
        buf_text(&title, "<span class=\"sub\">all together</span>");
        put_rows(out, buf_cstr(&title), eval->root);
    }
    buf_text(out, "</tbody>\n");
    buf_free(&title);
}

/* ---- distributions ---- */

static int read_bins(const Json *numbers, double bins[BINS_MAX]) {
    const Json *list = js_get(numbers, "iou_bins");
    if (js_type(list) != JSON_KIND_ARRAY || js_count(list) < 2 || js_count(list) > BINS_MAX)
        return 0;
    for (size_t i = 0; i < js_count(list); i++)
        if (!js_number(js_at(list, i), &bins[i])) return 0;
    return (int)js_count(list);
}

/* `set`: the dataset's name; NULL for all of them. */
static void put_histogram(Buf *out, const RunEval *eval, const char *set, const Json *numbers,
                          bool alone) {
    double real[BINS_MAX], shuffled[BINS_MAX];
    int bins = read_bins(numbers, real);
    if (!bins) return;
    bool control = read_bins(js_get(numbers, "shuffled"), shuffled) == bins;
    Buf name = {0};
    buf_format(&name, "IoU of each part, %s", name_of(eval));
    if (!*name_of(eval)) buf_format(&name, "step %.0f", json_number(eval->root, "step"));
    if (set) buf_format(&name, ", %s", set);
    Histogram h = {.title = buf_cstr(&name),
                   .x_label = "IoU",
                   .labels = {"its own picture", "another’s"},
                   .first = real,
                   .second = control ? shuffled : NULL,
                   .bins = bins,
                   .width = alone ? 2 * HALF_WIDE : HALF_WIDE,
                   .height = HALF_TALL};
    buf_format(out, "<figure class=\"%s\">", alone ? "wide" : "half");
    histogram_svg(out, &h);
    buf_text(out, "</figure>\n");
    buf_free(&name);
}

/* One for each dataset, or one for all. */
static void put_histograms(Buf *out, const RunEval *eval, bool alone) {
    const Json *sets = js_get(eval->root, "by_dataset"), *set;
    const char *name;
    if (js_type(sets) != JSON_KIND_OBJECT || js_count(sets) < 2) {
        put_histogram(out, eval, NULL, eval->root, alone);
        return;
    }
    JsonIter iter = js_iter(sets);
    while ((set = js_next(&iter, &name))) put_histogram(out, eval, name, set, false);
}

/* IoU over the steps of evaluations of one name, where there are several. `first` is the first of
 * them; x and y have room for all. */
static size_t collect_progress(const RunData *run, size_t first, double *x, double *y) {
    size_t count = 0;
    for (size_t i = first; i < run->eval_count; i++) {
        double step = json_number(run->evals[i].root, "step");
        if (strcmp(name_of(&run->evals[i]), name_of(&run->evals[first])) != 0) continue;
        if (count && !(step > x[count - 1])) continue;
        x[count] = step;
        y[count++] = json_number(run->evals[i].root, "iou_mean");
    }
    return count;
}

static bool seen_before(const RunData *run, size_t eval) {
    for (size_t i = 0; i < eval; i++)
        if (!strcmp(name_of(&run->evals[i]), name_of(&run->evals[eval]))) return true;
    return false;
}

static void put_progress(Buf *out, const RunData *run) {
    Chart chart = {.title = "Mean IoU of held-out parts",
                   .x_label = "step",
                   .y_label = "IoU",
                   .width = HALF_WIDE,
                   .height = HALF_TALL,
                   .from_zero = true,
                   .y_most = 1};
    double *columns[2 * CHART_SERIES_MAX];
    for (size_t i = 0; i < run->eval_count && chart.series_count < PROGRESS_MAX; i++) {
        if (seen_before(run, i)) continue;
        double *x = malloc(run->eval_count * sizeof *x), *y = malloc(run->eval_count * sizeof *y);
        CHECK(x && y, "out of memory: %zu evaluations", run->eval_count);
        size_t count = collect_progress(run, i, x, y);
        if (count < 2) {
            free(x);
            free(y);
            continue;
        }
        const char *name = name_of(&run->evals[i]);
        int k = chart.series_count++;
        chart.series[k] = (ChartSeries){x, y, count, *name ? name : NULL, k, CHART_POINTS};
        columns[2 * k] = x;
        columns[2 * k + 1] = y;
    }
    if (!chart.series_count) return;
    buf_text(out, "<figure class=\"half\">");
    chart_svg(out, &chart);
    buf_text(out, "</figure>\n");
    for (int i = 0; i < 2 * chart.series_count; i++) free(columns[i]);
}

void report_evals(Buf *out, const RunData *run) {
    if (!run->eval_count) return;
    buf_text(out, "<h3>Evaluations <small>on parts held out of training</small></h3>\n"
                  "<div class=\"scroll\"><table>\n");
    put_head(out);
    for (size_t i = 0; i < run->eval_count; i++) put_eval_rows(out, &run->evals[i]);
    buf_text(out, "</table></div>\n<p class=\"key\">“Another’s”: every part is shown the drawing "
                  "of another one. What does not fall by that was not read from the drawing.</p>\n"
                  "<div class=\"charts\">\n");
    put_progress(out, run);
    for (size_t i = 0; i < run->eval_count; i++)
        put_histograms(out, &run->evals[i], run->eval_count == 1);
    buf_text(out, "</div>\n");
}

/* ---- the gallery ---- */

/* A name inside the gallery: not a path that leads out of it. */
static bool plain_name(const char *name) {
    return name && *name && name[0] != '.' && !strchr(name, '/');
}

static bool read_example(Buf *bytes, const RunEval *eval, const char *folder, const char *file,
                         size_t most) {
    char path[PATH_SIZE];
    buf_clear(bytes);
    bool found = path_format(path, "%s/%s/%s", eval->gallery, folder, file) == OK &&
                 file_exists(path) && file_stays_inside(eval->gallery, path) == OK &&
                 file_read(bytes, path, most) == OK;
    if (!found) err_clear();
    return found;
}

static void put_picture(Buf *out, const RunEval *eval, const char *folder, const char *kind,
                        const char *caption, const Json *item) {
    char file[32];
    Buf bytes = {0};
    snprintf(file, sizeof file, "%s.png", kind);
    buf_format(out, "<div class=\"%s\">", kind);
    html_tag(out, "b", NULL, caption);
    if (!read_example(&bytes, eval, folder, file, PICTURE_FILE_MAX) ||
        !html_png(out, caption, bytes.data, bytes.size)) {
        const char *status = js_text(js_get(item, "status"), NULL);
        bool failed = !strcmp(kind, "result");
        buf_text(out, "<div class=\"none\">");
        html_tag(out, "strong", NULL, failed && status ? status : "no picture");
        if (failed) html_tag(out, "span", NULL, js_text(js_get(item, "message"), NULL));
        buf_text(out, "</div>");
    }
    buf_text(out, "</div>\n");
    buf_free(&bytes);
}

static void put_code(Buf *out, const RunEval *eval, const char *folder, const char *file,
                     const char *caption) {
    Buf bytes = {0};
    buf_text(out, "<div>");
    html_tag(out, "h4", NULL, caption);
    buf_text(out, "<pre>");
    if (read_example(&bytes, eval, folder, file, CODE_FILE_MAX))
        html_bytes(out, bytes.data, bytes.size);
    buf_text(out, "</pre></div>\n");
    buf_free(&bytes);
}

static void put_dims(Buf *out, const Json *dims) {
    for (size_t k = 0; k < 3; k++) {
        double value;
        if (k) buf_text(out, " × ");
        if (js_number(js_at(dims, k), &value))
            buf_format(out, "%.4g", value);
        else
            buf_text(out, "–");
    }
}

static void put_badge(Buf *out, const Json *item) {
    double iou = json_number(item, "iou");
    const char *status = js_text(js_get(item, "status"), NULL);
    bool ok = status && !strcmp(status, "ok");
    buf_format(out, "<span class=\"badge %s\">",
               !ok || !(iou >= IOU_FAIR) ? "poor"
               : iou >= IOU_GOOD         ? "good"
                                         : "fair");
    if (!ok) {
        html_text(out, status ? status : "?");
        buf_text(out, ", ");
    }
    buf_text(out, "IoU ");
    put_number(out, iou, 3, "");
    buf_text(out, "</span>");
}

static void put_card(Buf *out, const RunEval *eval, const Json *item) {
    const char *folder = js_text(js_get(item, "folder"), NULL);
    if (!plain_name(folder)) return;
    buf_text(out, "<article class=\"card\"><div class=\"head\">");
    html_tag(out, "span", "id", js_text(js_get(item, "id"), NULL));
    html_tag(out, "span", "set", js_text(js_get(item, "dataset"), NULL));
    put_badge(out, item);
    buf_text(out, "</div>\n<div class=\"trio\">\n");
    put_picture(out, eval, folder, "drawing", "drawing (input)", item);
    put_picture(out, eval, folder, "target", "target", item);
    put_picture(out, eval, folder, "result", "result", item);
    buf_text(out, "</div>\n<div class=\"facts\">");
    put_dims(out, js_get(item, "reference_dims"));
    buf_text(out, " → ");
    double width;
    if (js_number(js_at(js_get(item, "dims"), 0), &width))
        put_dims(out, js_get(item, "dims"));
    else
        buf_text(out, "no solid");
    buf_text(out, " &nbsp;·&nbsp; confidence ");
    put_number(out, json_number(item, "confidence"), 2, "");
    buf_text(out, " &nbsp;·&nbsp; ");
    put_number(out, json_number(item, "tokens"), 0, " tokens");
    bool identical = false;
    if (js_bool(js_get(item, "identical"), &identical) && identical)
        buf_text(out, " &nbsp;·&nbsp; same code as the reference");
    buf_text(out, "</div>\n<details><summary>code</summary><div class=\"codes\">\n");
    put_code(out, eval, folder, "target.py", "target");
    put_code(out, eval, folder, "result.py", "result");
    buf_text(out, "</div></details></article>\n");
}

void report_galleries(Buf *out, const RunData *run, int examples) {
    for (size_t i = run->eval_count; i-- > 0;) {
        const RunEval *eval = &run->evals[i];
        size_t count = js_count(eval->gallery_items);
        if (!count) continue;
        if (examples > 0 && count > (size_t)examples) count = (size_t)examples;
        buf_text(out, "<h3>Drawing, target, result <small>");
        put_eval_name(out, eval);
        buf_text(out, "</small></h3>\n<div class=\"gallery\">\n");
        for (size_t k = 0; k < count; k++) put_card(out, eval, js_at(eval->gallery_items, k));
        buf_text(out, "</div>\n");
    }
}
