/* Runs as one page to look at: curves, evaluations, and galleries of drawing, target and result.
 *
 * The page is one HTML file that needs nothing else: pictures are inside it, charts are SVG, there
 * are no scripts. */
#ifndef CADVLM_REPORT_REPORT_H
#define CADVLM_REPORT_REPORT_H

#include "report/run_data.h"

typedef struct ReportOptions {
    const char *title;   /* NULL: the names of the runs */
    const char *version; /* of this program */
    const char *date;    /* may be NULL */
    int examples;        /* of each gallery; 0: all */
} ReportOptions;

/* Appends the page. */
void report_html(Buf *out, const RunData *runs, int count, const ReportOptions *options);

/* Reads the runs and writes the page to `path`. */
Err report_write(const char *path, const char *const *runs, int count,
                 const ReportOptions *options);

#endif
