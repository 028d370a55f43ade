#include "report/chart.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/err.h"
#include "report/html.h"

#define VALUE_MAX 1e30

enum { LEFT = 62, RIGHT = 16, TOP = 34, BOTTOM = 44, TICKS_MAX = 16, LABEL_PIXELS = 7 };
enum { DOTS_MAX = 300 }; /* more of them hide their line */

/* One axis: values from `low` to `high` over pixels from `from` to `to`. */
typedef struct Axis {
    double low, high, from, to;
    bool log;
    double ticks[TICKS_MAX];
    int tick_count;
} Axis;

void chart_number(char out[32], double value) {
    double size = fabs(value);
    if (size >= 1e6)
        snprintf(out, 32, "%.4g M", value * 1e-6);
    else if (size >= 1e4)
        snprintf(out, 32, "%.4g k", value * 1e-3);
    else if (size >= 1e-4 || size == 0)
        snprintf(out, 32, "%.4g", value);
    else
        snprintf(out, 32, "%.2g", value);
}

void chart_smooth(double *out, const double *in, size_t count, size_t window) {
    size_t reach = window / 2;
    double sum = 0;
    size_t first = 0, end = 0, there = 0; /* of in[first … end-1] */
    for (size_t i = 0; i < count; i++) {
        size_t left = i < reach ? i : reach, from = i - left;
        size_t to = i + (i < reach ? i : reach) + 1;
        if (to > count) to = count;
        for (; end < to; end++)
            if (isfinite(in[end])) sum += in[end], there++;
        for (; first < from; first++)
            if (isfinite(in[first])) sum -= in[first], there--;
        out[i] = there ? sum / (double)there : (double)NAN;
    }
}

/* ---- axes ---- */

static double pixel(const Axis *axis, double value) {
    double at = axis->log ? (log(value) - log(axis->low)) / (log(axis->high) - log(axis->low))
                          : (value - axis->low) / (axis->high - axis->low);
    return axis->from + at * (axis->to - axis->from);
}

/* The smallest of 1, 2, 5 · 10ⁿ that is not below. */
static double round_step(double value) {
    double power = pow(10, floor(log10(value)));
    double head = value / power;
    return power * (head <= 1.0000001 ? 1 : head <= 2.0000001 ? 2 : head <= 5.0000001 ? 5 : 10);
}

static void push_tick(Axis *axis, double value) {
    double slack = axis->log ? 0 : 1e-9 * (axis->high - axis->low);
    if (value < axis->low - slack || value > axis->high + slack) return;
    if (axis->tick_count < TICKS_MAX) axis->ticks[axis->tick_count++] = value;
}

static void linear_ticks(Axis *axis, int about) {
    double step = round_step((axis->high - axis->low) / about);
    double first = ceil(axis->low / step - 1e-9);
    for (int i = 0; i < TICKS_MAX; i++) push_tick(axis, (first + i) * step);
}

static void log_ticks(Axis *axis) {
    static const double few[] = {1}, some[] = {1, 3}, many[] = {1, 2, 5};
    double decades = log10(axis->high / axis->low);
    const double *heads = decades > 5 ? few : decades > 2.5 ? some : many;
    int head_count = decades > 5 ? 1 : decades > 2.5 ? 2 : 3;
    double skip = ceil(decades / 10); /* of decades, where there are many */
    double first = floor(log10(axis->low));
    for (double d = first; d <= first + decades + 1 && d < first + 700; d += skip)
        for (int h = 0; h < head_count; h++) push_tick(axis, heads[h] * pow(10, d));
    if (axis->tick_count >= 2) return;
    axis->tick_count = 0; /* within one step of 1, 2, 5 */
    linear_ticks(axis, 4);
}

/* Not beyond what can be laid out; false for NaN. */
static bool usable(const Chart *chart, const ChartSeries *s, size_t i) {
    return fabs(s->x[i]) <= VALUE_MAX && fabs(s->y[i]) <= VALUE_MAX &&
           (!chart->log_y || s->y[i] >= 1 / VALUE_MAX);
}

/* The extent of all series; false when there is no point. */
static bool find_extent(const Chart *chart, Axis *x, Axis *y) {
    bool any = false;
    for (int k = 0; k < chart->series_count; k++) {
        const ChartSeries *s = &chart->series[k];
        for (size_t i = 0; i < s->count; i++) {
            if (!usable(chart, s, i)) continue;
            x->low = any ? fmin(x->low, s->x[i]) : s->x[i];
            x->high = any ? fmax(x->high, s->x[i]) : s->x[i];
            y->low = any ? fmin(y->low, s->y[i]) : s->y[i];
            y->high = any ? fmax(y->high, s->y[i]) : s->y[i];
            any = true;
        }
    }
    return any;
}

/* Never nothing between low and high. */
static void widen(Axis *axis) {
    static const double air = 1.08;
    if (axis->log) {
        axis->low /= air;
        axis->high *= air;
        return;
    }
    double size = fabs(axis->high), span = axis->high - axis->low;
    if (span <= 1e-9 * size) axis->high = axis->low + (size > 0 ? size : 1);
}

static void set_x_axis(const Chart *chart, Axis *x) {
    x->from = LEFT;
    x->to = chart->width - RIGHT;
    widen(x);
    linear_ticks(x, chart->width > 500 ? 8 : 4);
}

static void set_y_axis(const Chart *chart, Axis *y) {
    y->from = chart->height - BOTTOM;
    y->to = TOP;
    y->log = chart->log_y;
    if (chart->from_zero && !y->log) y->low = fmin(y->low, 0);
    y->high = fmax(y->high, chart->y_most);
    widen(y);
    if (y->log) {
        log_ticks(y);
        return;
    }
    double step = round_step((y->high - y->low) / 4);
    y->high = step * ceil(y->high / step - 1e-9);
    y->low = step * floor(y->low / step + 1e-9);
    linear_ticks(y, 4);
}

/* ---- drawing ---- */

static void open_svg(Buf *out, const char *title, int width, int height) {
    buf_format(out, "<svg class=\"chart\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", width,
               height);
    html_text(out, title);
    buf_text(out, "\">");
    buf_format(out, "<text class=\"chart-title\" x=\"%d\" y=\"16\">", 4);
    html_text(out, title);
    buf_text(out, "</text>");
}

static void draw_grid(Buf *out, const Axis *x, const Axis *y) {
    char text[32];
    for (int i = 0; i < y->tick_count; i++) {
        double at = pixel(y, y->ticks[i]);
        chart_number(text, y->ticks[i]);
        buf_format(out, "<path class=\"grid\" d=\"M%.0f %.1fH%.0f\"/>", x->from, at, x->to);
        buf_format(out, "<text class=\"tick end\" x=\"%.0f\" y=\"%.1f\">%s</text>", x->from - 7,
                   at + 4, text);
    }
    for (int i = 0; i < x->tick_count; i++) {
        double at = pixel(x, x->ticks[i]);
        chart_number(text, x->ticks[i]);
        buf_format(out, "<path class=\"grid\" d=\"M%.1f %.0fV%.0f\"/>", at, y->from, y->to);
        buf_format(out, "<text class=\"tick middle\" x=\"%.1f\" y=\"%.0f\">%s</text>", at,
                   y->from + 16, text);
    }
    buf_format(out, "<path class=\"axis\" d=\"M%.0f %.0fV%.0fH%.0f\"/>", x->from, y->to, y->from,
               x->to);
}

static void draw_axis_labels(Buf *out, const char *x_label, const char *y_label, int width,
                             int height) {
    buf_format(out, "<text class=\"label end\" x=\"%d\" y=\"%d\">", width - RIGHT, height - 8);
    html_text(out, x_label);
    buf_text(out, "</text>");
    if (!y_label) return;
    buf_format(out, "<text class=\"label middle\" transform=\"translate(14 %d) rotate(-90)\">",
               (height - BOTTOM + TOP) / 2);
    html_text(out, y_label);
    buf_text(out, "</text>");
}

/* The legend stands at the upper right, beside the title. */
static void draw_legend(Buf *out, const char *const labels[], const int colours[], int count,
                        int width) {
    double at = width - RIGHT;
    for (int i = count - 1; i >= 0; i--) {
        if (!labels[i]) continue;
        at -= (double)strlen(labels[i]) * LABEL_PIXELS;
        buf_format(out, "<text class=\"tick\" x=\"%.0f\" y=\"16\">", at);
        html_text(out, labels[i]);
        buf_text(out, "</text>");
        at -= 24;
        buf_format(out, "<path class=\"line c%d\" d=\"M%.0f 12h18\"/>", colours[i], at);
        at -= 14;
    }
}

/* What falls on one pixel of the x axis. */
typedef struct Column {
    double x, least, most, sum;
    int count;
} Column;

static void draw_column(Buf *out, const Axis *y, const Column *c, ChartMark mark, bool first) {
    if (mark == CHART_SPREAD && c->count > 1)
        buf_format(out, "%c%.1f %.1fL%.1f %.1f", first ? 'M' : 'L', c->x, pixel(y, c->least), c->x,
                   pixel(y, c->most));
    else
        buf_format(out, "%c%.1f %.1f", first ? 'M' : 'L', c->x, pixel(y, c->sum / c->count));
}

static void draw_line(Buf *out, const Chart *chart, const ChartSeries *s, const Axis *x,
                      const Axis *y) {
    bool first = true;
    Column column = {0};
    buf_format(out, "<path class=\"%s c%d\" d=\"", s->mark == CHART_SPREAD ? "spread" : "line",
               s->colour);
    for (size_t i = 0; i < s->count; i++) {
        if (!usable(chart, s, i)) continue;
        double at = pixel(x, s->x[i]), value = s->y[i];
        if (column.count && at - column.x >= 1) {
            draw_column(out, y, &column, s->mark, first);
            first = false;
            column.count = 0;
        }
        if (!column.count) column = (Column){.x = at, .least = value, .most = value};
        column.least = fmin(column.least, value);
        column.most = fmax(column.most, value);
        column.sum += value;
        column.count++;
    }
    if (column.count) draw_column(out, y, &column, s->mark, first);
    buf_text(out, "\"/>");
}

static void draw_points(Buf *out, const Chart *chart, const ChartSeries *s, const Axis *x,
                        const Axis *y) {
    char at[32], value[32];
    for (size_t i = 0; i < s->count; i++) {
        if (!usable(chart, s, i)) continue;
        chart_number(at, s->x[i]);
        chart_number(value, s->y[i]);
        buf_format(out, "<circle class=\"dot c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>",
                   s->colour, pixel(x, s->x[i]), pixel(y, s->y[i]));
        html_format(out, "%s %s: %s", chart->x_label, at, value);
        buf_text(out, "</title></circle>");
    }
}

static void draw_nothing(Buf *out, int width, int height) {
    buf_format(out, "<text class=\"label middle\" x=\"%d\" y=\"%d\">nothing to show yet</text>",
               width / 2, height / 2);
}

void chart_svg(Buf *out, const Chart *chart) {
    Axis x = {0}, y = {0};
    const char *labels[CHART_SERIES_MAX];
    int colours[CHART_SERIES_MAX];
    CHECK(chart->series_count <= CHART_SERIES_MAX, "%d series", chart->series_count);
    open_svg(out, chart->title, chart->width, chart->height);
    if (find_extent(chart, &x, &y)) {
        set_x_axis(chart, &x);
        set_y_axis(chart, &y);
        draw_grid(out, &x, &y);
        draw_axis_labels(out, chart->x_label, chart->y_label, chart->width, chart->height);
        for (int k = 0; k < chart->series_count; k++) {
            const ChartSeries *s = &chart->series[k];
            labels[k] = s->label;
            colours[k] = s->colour;
            draw_line(out, chart, s, &x, &y);
            if (s->mark == CHART_POINTS && s->count <= DOTS_MAX) draw_points(out, chart, s, &x, &y);
        }
        draw_legend(out, labels, colours, chart->series_count, chart->width);
    } else {
        draw_nothing(out, chart->width, chart->height);
    }
    buf_text(out, "</svg>\n");
}

/* ---- bars ---- */

static double total(const double *counts, int bins) {
    double sum = 0;
    for (int i = 0; i < bins && counts; i++)
        if (isfinite(counts[i]) && counts[i] > 0) sum += counts[i];
    return sum;
}

static double share_of(const double *counts, int bin, double sum) {
    return counts && sum > 0 && isfinite(counts[bin]) && counts[bin] > 0 ? counts[bin] / sum : 0;
}

static void draw_bar(Buf *out, const Axis *x, const Axis *y, double from, double to, double share,
                     int colour) {
    if (share <= 0) return;
    double left = pixel(x, from), right = pixel(x, to), top = pixel(y, share);
    buf_format(out,
               "<rect class=\"bar c%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\">"
               "<title>%.3g to %.3g: %.1f %%</title></rect>",
               colour, left, top, right - left, y->from - top, from, to, 100 * share);
}

void histogram_svg(Buf *out, const Histogram *h) {
    double first = total(h->first, h->bins), second = total(h->second, h->bins), most = 0;
    open_svg(out, h->title, h->width, h->height);
    for (int i = 0; i < h->bins; i++)
        most = fmax(most, fmax(share_of(h->first, i, first), share_of(h->second, i, second)));
    if (most > 0) {
        Axis x = {.low = 0, .high = 1, .from = LEFT, .to = h->width - RIGHT};
        Axis y = {.low = 0, .high = most, .from = h->height - BOTTOM, .to = TOP};
        linear_ticks(&x, 5);
        double step = round_step(y.high / 4);
        y.high = step * ceil(y.high / step - 1e-9);
        linear_ticks(&y, 4);
        draw_grid(out, &x, &y);
        draw_axis_labels(out, h->x_label, "share of parts", h->width, h->height);
        double width = 1.0 / h->bins, air = 0.08 * width, half = second > 0 ? 0.5 * width : width;
        for (int i = 0; i < h->bins; i++) {
            double at = i * width;
            draw_bar(out, &x, &y, at + air, at + half - (second > 0 ? 0 : air),
                     share_of(h->first, i, first), 0);
            draw_bar(out, &x, &y, at + half, at + width - air, share_of(h->second, i, second), 1);
        }
        const char *labels[2] = {h->labels[0], second > 0 ? h->labels[1] : NULL};
        draw_legend(out, labels, (const int[]){0, 1}, 2, h->width);
    } else {
        draw_nothing(out, h->width, h->height);
    }
    buf_text(out, "</svg>\n");
}
