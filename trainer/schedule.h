/* The learning rate over the steps. */
#ifndef CADVLM_TRAINER_SCHEDULE_H
#define CADVLM_TRAINER_SCHEDULE_H

#include "config/config.h"

/* The rate of step `step` (from 0) of `total`: rising over the warm-up, then cosine, linear or
 * constant, down to min_lr_ratio · learning_rate at the end. */
double schedule_lr(const TrainingConfig *training, int64_t step, int64_t total);

#endif
