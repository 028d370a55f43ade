/* A run that goes on with another config than it began with. */
#ifndef CADVLM_TRAINER_RESUME_H
#define CADVLM_TRAINER_RESUME_H

#include "checkpoint/checkpoint.h"
#include "config/config.h"

/* Refuses, ERR_CONFIG, what cannot change; reports what does. `given`: the config as the user has
 * it; `is`: the same with what the checkpoint says of what it leaves open (base_describe). */
Err resume_check(const Config *given, const Config *is, const char *checkpoint, int ranks);

#endif
