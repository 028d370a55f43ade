/* AdamW over all trained parameters: f32 master weights and moments in flat arrays, clipping by the
 * global norm, and the decision not to step on numbers that are not finite. */
#ifndef CADVLM_MODEL_OPTIM_H
#define CADVLM_MODEL_OPTIM_H

#include "config/config.h"
#include "model/model.h"

typedef struct Optim {
    Exec *ex;
    Model *model;
    int64_t count;
    float *master, *m, *v;  /* [count], device */
    UpdateState *state;     /* device: the last step's decision, and what goes on to the next */
    AdamwSegment *segments; /* [segment_count], device */
    int segment_count;
    TrainingConfig training;
    bool scaled; /* the loss scale moves (fp16) */
} Optim;

/* Allocates the arrays; the master weights are those of the model, the moments zero. The model
 * gets the place of its loss scale. */
Err optim_open(Optim *optim, Exec *ex, Model *model, const TrainingConfig *training);
void optim_close(Optim *optim);

/* Device memory of the arrays. */
size_t optim_bytes(const Optim *optim);

/* One update from the summed gradients of a step with `labels` labels; nothing changes when their
 * norm is not finite. Does not wait: how it went is in optim_state. */
Err optim_step(Optim *optim, const float *grads, int64_t labels, double lr);

/* The state on the host: waits. */
Err optim_state(Optim *optim, UpdateState *state);

/* Whether the loss scale cannot come down any further. */
bool optim_scale_is_least(const Optim *optim, const UpdateState *state);

/* Puts the parts of a state that outlive a step (updates, loss scale, good steps, patience). */
void optim_set_state(Optim *optim, const UpdateState *state);

#endif
