/* A run that goes on from its checkpoint with another config: what changes, what must not. Each key
 * says which in the table (config/keys.c). */
#ifndef CADVLM_CONFIG_RESUME_H
#define CADVLM_CONFIG_RESUME_H

#include "config/config.h"

/* Compares, key by key, what a run was with what it is to be from here on; both are complete, with
 * the sizes of the model. Logs "training.learning_rate: 0.0001 → 5e-05" for what changes, and an
 * error for what cannot. Returns how many of these there are. Keys that decide nothing of the run's
 * numbers, and those that are the trainer's matter (RESUME_TRAINER), are passed over. */
int config_resume(const Config *was, const Config *is);

/* Logs that one key cannot change: the same words for a key that the caller compares. */
void config_cannot_change(const char *key, const char *was, const char *is);

#endif
