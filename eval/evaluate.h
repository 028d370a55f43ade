/* Evaluation: what a model writes about drawings it has not seen, executed and measured.
 *
 * Three things are asked of the samples of a split: the loss of the reference code, the code that
 * the model writes by itself (greedily), and the same with the pictures exchanged among the
 * samples. The last is the control: metrics that do not fall by it were not read from the drawing.
 */
#ifndef CADVLM_EVAL_EVALUATE_H
#define CADVLM_EVAL_EVALUATE_H

#include "eval/gallery.h"
#include "eval/generator.h"
#include "eval/summary.h"

enum { EVAL_SETS_MAX = 32, EVAL_NAME_SIZE = 64 };

/* One dataset to evaluate on. */
typedef struct EvalSet {
    const Dataset *dataset;
    char name[EVAL_NAME_SIZE]; /* of its metrics; no two the same */
} EvalSet;

typedef struct EvalOptions {
    EvalSet sets[EVAL_SETS_MAX];
    int set_count;
    Split split;
    size_t limit;       /* samples of each dataset, spread evenly; 0: all of its split */
    bool shuffled;      /* also with exchanged pictures */
    int max_new;        /* tokens of a program; 0: all that the model has room for */
    CadLimits limits;   /* of a solid */
    int workers;        /* of this rank; 0: as many as it has threads */
    int gallery;        /* examples, over all datasets together */
    const char *folder; /* of the gallery; NULL: none */
} EvalOptions;

typedef struct EvalPart {
    EvalMetrics real, shuffled;
} EvalPart;

typedef struct EvalResult {
    EvalPart all, sets[EVAL_SETS_MAX];
    char names[EVAL_SETS_MAX][EVAL_NAME_SIZE];
    int set_count;
    bool shuffled; /* whether those metrics are there */
    double seconds;
} EvalResult;

/* Collective. The batches are dealt to the ranks; records are summed in the order of samples, so
 * that the metrics do not depend on how many ranks there are (an item that nearly overruns its time
 * limit may: that depends on the machine). ERR_STOPPED on a signal. */
Err evaluate(Comm *comm, Generator *generator, const EvalOptions *options, EvalResult *out);

/* The keys of the result: those of eval_metrics_json for all datasets together, "shuffled" and
 * "by_dataset" with the same keys, and "seconds". The caller frees it and may add to it. */
Json *eval_result_json(const EvalResult *result);

#endif
