/* AdamW over all trained parameters: f32 master weights and moments in flat arrays, clipping by the
 * global norm, and the decision not to step on numbers that are not finite. */
#ifndef CADVLM_TRAINER_OPTIM_H
#define CADVLM_TRAINER_OPTIM_H

#include "config/config.h"
#include "model/model.h"

typedef struct Optim {
    Exec *ex;
    Model *model;
    int64_t count;
    float *master, *m, *v; /* [count], device */
    AdamwSegment *segments;
    int segment_count;
    TrainingConfig training;
    int64_t updates; /* steps taken: the exponent of the bias correction */
} Optim;

/* Allocates the arrays; the master weights are those of the model, the moments zero. */
Err optim_open(Optim *optim, Exec *ex, Model *model, const TrainingConfig *training);
void optim_close(Optim *optim);

/* One update from the summed gradients of a step with `labels` labels. grad_norm: of the mean
 * gradient, before clipping. *stepped is false, and nothing has changed, when the norm is not
 * finite. */
Err optim_step(Optim *optim, const float *grads, int64_t labels, double lr, double *grad_norm,
               bool *stepped);

#endif
