/* Where a run stands: state.json of a checkpoint. */
#ifndef CADVLM_CHECKPOINT_TRAIN_STATE_H
#define CADVLM_CHECKPOINT_TRAIN_STATE_H

#include "config/config.h"
#include "ops/ops.h"

enum {
    MICRO_BATCHES_MAX = 1 << 20, /* of a step */
    TOLD_TEXT = 4 * CONFIG_TEXT  /* in JSON a byte that is no UTF-8 becomes four */
};

typedef struct TrainState {
    int64_t step;       /* steps done */
    int micro_batches;  /* of a step */
    UpdateState update; /* of the optimiser: updates and loss scale */
    int64_t samples, skipped;
    uint64_t excluded; /* which samples are left out (Data); 0: none */
    /* What the run began with, as the user named it; checkpoints of earlier versions do not say. */
    bool names_known;
    char base_model[TOLD_TEXT], adapter[TOLD_TEXT];
    double val_loss;        /* NaN: none yet */
    int64_t validated_step; /* where that was measured; 0: nowhere yet */
    double best_val_loss;   /* of the run so far; NaN: none yet */
    int64_t best_step;      /* where it was measured; -1: nowhere yet */
    int64_t worse;          /* validations in a row since then that did not reach it */
    int dataset_count;
    int64_t dataset_samples[CONFIG_DATASETS];
} TrainState;

/* Writes state.json into a checkpoint's folder. */
Err train_state_write(const TrainState *state, const char *folder);

/* Reads it. A number that no run can have is an error: files come from elsewhere. */
Err train_state_read(TrainState *state, const char *folder);

#endif
