/* Charts as SVG, to stand inside an HTML page. Colours come from the page's style, by class. */
#ifndef CADVLM_REPORT_CHART_H
#define CADVLM_REPORT_CHART_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"

enum { CHART_SERIES_MAX = 12 };

/* How a series is drawn. */
typedef enum ChartMark {
    CHART_LINE,   /* means of what falls on one pixel */
    CHART_SPREAD, /* faint, from the smallest to the largest of what falls on one pixel */
    CHART_POINTS  /* a line with a dot at each point, with its values */
} ChartMark;

typedef struct ChartSeries {
    const double *x, *y; /* [count] x increasing; points that are not finite are left out */
    size_t count;
    const char *label; /* in the legend; NULL: not there */
    int colour;        /* class c0, c1, … */
    ChartMark mark;
} ChartSeries;

typedef struct Chart {
    const char *title, *x_label, *y_label;
    int width, height; /* of the drawing's own units; it fills the width it is given */
    bool log_y;        /* what is not positive is left out */
    bool from_zero;    /* y starts at 0 */
    double y_most;     /* y ends here at least; 0: by the data */
    ChartSeries series[CHART_SERIES_MAX];
    int series_count;
} Chart;

/* Appends the chart. Where no series has a point it says so. */
void chart_svg(Buf *out, const Chart *chart);

/* Bars over equal parts of 0 … 1, for up to two sets of counts (`second` may be NULL) as shares of
 * their own totals. */
typedef struct Histogram {
    const char *title, *x_label, *labels[2];
    const double *first, *second; /* [bins] */
    int bins, width, height;
} Histogram;

void histogram_svg(Buf *out, const Histogram *histogram);

/* The mean of `window` points about each; fewer at the start, so that a steep fall stays where it
 * is, and at the end. Values that are not finite are passed over. */
void chart_smooth(double *out, const double *in, size_t count, size_t window);

/* A number for an axis: 0.05, 12 k, 1.5 M. */
void chart_number(char out[32], double value);

#endif
