/* Training: the step, from a batch to new weights, and all that a run keeps. */
#ifndef CADVLM_TRAINER_TRAIN_H
#define CADVLM_TRAINER_TRAIN_H

#include "comm/comm.h"
#include "config/config.h"
#include "core/file.h"
#include "core/json.h"

typedef struct TrainResult {
    int64_t steps, samples;
    int64_t new_steps;                       /* of these, that this call made */
    double loss;                             /* of the last of them; NaN: there were none */
    double val_loss;                         /* NaN: there was nothing to validate on */
    double samples_per_s, tokens_per_s, mfu; /* from the second new step on; NaN: there was none */
    double peak_flops, datasheet_flops;      /* of all ranks: what mfu is of; 0: unknown */
    double seconds;
    int ranks;
    char checkpoint[PATH_SIZE]; /* "" when none was written */
} TrainResult;

/* Collective. Trains as the config says, resuming from the newest good checkpoint in its output
 * folder; `fresh` refuses to where that folder has checkpoints. `versions` goes to version.json.
 * ERR_STOPPED: a signal came, and everything is saved.
 */
Err train_run(Comm *comm, const Config *config, bool fresh, const Json *versions,
              TrainResult *result);

#endif
