/* How a report looks: one style sheet, for light and dark screens and for paper. */
#ifndef CADVLM_REPORT_REPORT_STYLE_H
#define CADVLM_REPORT_REPORT_STYLE_H

extern const char report_style[];

#endif
