/* The models that bench_step takes a step of, and batches for them. */
#ifndef CADVLM_BENCHMARKS_STEP_CASES_H
#define CADVLM_BENCHMARKS_STEP_CASES_H

#include "model/model.h"

typedef struct StepCase {
    const char *name;
    ModelSpec spec;
    int samples, text_low, text_high; /* text rows of a sample, drawn evenly */
    double labelled;                  /* share of the text rows that have labels: the last ones */
    bool
        large; /* weights are a block of random numbers over and over: model_init would take long */
} StepCase;

enum { STEP_CASES = 6 };
extern const StepCase *const step_cases[STEP_CASES]; /* the first is the default */

/* A micro-batch of random pixels and tokens; to be freed. */
Batch step_batch(const StepCase *c, uint64_t seed);
void step_batch_free(Batch *batch);

#endif
