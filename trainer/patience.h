/* When a run has trained enough: validations in a row that did not reach the best. */
#ifndef CADVLM_TRAINER_PATIENCE_H
#define CADVLM_TRAINER_PATIENCE_H

#include "checkpoint/checkpoint.h"

/* Counts a validation's loss. */
void patience_count(TrainState *state, double loss);

/* Whether the last `patience` validations were all worse than the best; never for 0. */
bool patience_is_over(const TrainState *state, int64_t patience);

#endif
