/* metrics.jsonl: one object a step, for machines. Written by rank 0. */
#ifndef CADVLM_TRAINER_METRICS_H
#define CADVLM_TRAINER_METRICS_H

#include <stdint.h>
#include <stdio.h>

#include "core/err.h"

/* Seconds of a step by phase, on the slowest rank of each. */
typedef struct StepSeconds {
    double data, forward, backward, communication, optimiser, whole;
} StepSeconds;

typedef struct StepMetrics {
    int64_t step; /* steps done, this one included */
    double epoch, loss, accuracy, lr, grad_norm;
    double tokens_per_s, samples_per_s, mfu;
    int64_t samples, labels;
    int64_t overlong; /* samples of this step that were too long */
    StepSeconds seconds;
    uint64_t memory_bytes; /* parameters, activations, optimiser and gradients of a rank */
    int slowest_rank;
    int skipped; /* 1: not stepped, the numbers were not finite */
    int dataset_count;
    const char *dataset_names[64];
    uint64_t dataset_samples[64]; /* so far */
} StepMetrics;

typedef struct Metrics {
    FILE *file;
} Metrics;

/* Appends to `path`; lines of steps after `step` (written by a run that did not save them) are cut
 * off first. */
Err metrics_open(Metrics *metrics, const char *path, int64_t step);
Err metrics_step(Metrics *metrics, const StepMetrics *step);

/* A line for a validation: {"step", "val_loss", "val_accuracy"}, and "val_overlong" if any were. */
Err metrics_validation(Metrics *metrics, int64_t step, double loss, double accuracy,
                       int64_t overlong);
Err metrics_close(Metrics *metrics);

#endif
