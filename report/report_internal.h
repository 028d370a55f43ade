/* The parts of a report's page; private to it. */
#ifndef CADVLM_REPORT_REPORT_INTERNAL_H
#define CADVLM_REPORT_REPORT_INTERNAL_H

#include "report/report.h"

/* A member of an object as a number; NaN where there is none. */
double json_number(const Json *object, const char *key);

/* A number for people: 6000, "0.6214", "98.4 %". "–" for NaN. */
void put_number(Buf *out, double value, int decimals, const char *unit);

/* "8 min 10 s" */
void put_duration(Buf *out, double seconds);

/* What an evaluation is called: its name, or its step. */
void put_eval_name(Buf *out, const RunEval *eval);

/* The evaluation that stands for a run: of its newest step, over the data that it validates on; the
 * first of several alike. NULL where there is none. */
const RunEval *report_main_eval(const RunData *run);

/* Appends the curves, the tiles and the config of a run. */
void report_tiles(Buf *out, const RunData *run);
void report_curves(Buf *out, const RunData *run);
void report_facts(Buf *out, const RunData *run);

/* Appends the table of evaluations, their distributions, and their galleries. */
void report_evals(Buf *out, const RunData *run);
void report_galleries(Buf *out, const RunData *run, int examples);

#endif
