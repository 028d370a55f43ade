/* What a run folder holds, read back to be looked at. Anything may be missing or cut short: a run
 * that is still going, was killed, or has not been evaluated. */
#ifndef CADVLM_REPORT_RUN_DATA_H
#define CADVLM_REPORT_RUN_DATA_H

#include "config/config.h"
#include "core/file.h"
#include "core/json.h"

/* A line of metrics.jsonl; NaN where it lacks a number. */
typedef struct RunStep {
    double step, loss, lr, grad_norm, samples_per_s, tokens_per_s, mfu;
} RunStep;

typedef struct RunValidation {
    double step, loss, accuracy;
} RunValidation;

typedef struct RunEval {
    char file[256];             /* its name in eval/ */
    char gallery[PATH_SIZE];    /* the gallery's folder; "" where there is none */
    Json *root, *gallery_items; /* the second an array, or NULL */
} RunEval;

typedef struct RunData {
    char path[PATH_SIZE], name[256];
    RunStep *steps; /* each later than the one before */
    size_t step_count;
    RunValidation *validations; /* likewise */
    size_t validation_count;
    double seconds, samples;   /* of all steps */
    size_t skipped, bad_lines; /* steps without an update; lines that were not understood */
    RunEval *evals;            /* the newest last */
    size_t eval_count;
    Config *config; /* NULL: not there, or not readable */
    Buf config_text;
    Json *versions;
    Buf notes; /* what could not be read, one sentence a line */
} RunData;

/* ERR_INPUT only where `path` is no folder, or has nothing of a run in it. */
Err run_data_read(RunData *run, const char *path);
void run_data_free(RunData *run);

#endif
