/* The inside of a training run, shared by its two files: setting up and going through the steps. */
#ifndef CADVLM_TRAINER_TRAIN_INTERNAL_H
#define CADVLM_TRAINER_TRAIN_INTERNAL_H

#include "checkpoint/base.h"
#include "checkpoint/checkpoint.h"
#include "core/folder_lock.h"
#include "core/progress.h"
#include "eval/overlong.h"
#include "eval/setup.h"
#include "trainer/metrics.h"
#include "trainer/reducer.h"
#include "trainer/train.h"

/* Moments of the device's work: of every micro-batch, then of the step's end. */
enum { EVENT_FORWARD, EVENT_BACKWARD, EVENT_MICRO_BATCH_END, EVENTS_A_MICRO_BATCH };
enum { EVENT_REDUCED, EVENT_UPDATED, EVENTS_A_STEP };

/* What one micro-batch says of itself before it has run; its losses follow from the device
 * (LossSum). Summed in the order of micro-batches, so that the bits are the same on any ranks. */
typedef struct MicroBatchReport {
    int64_t labels, tokens, samples;
    int64_t overlong, overlong_rows; /* as in Batch */
    double flops;
} MicroBatchReport;

/* What one rank says of a step. */
typedef struct RankReport {
    double data, forward, backward, communication;
    int stop;
    uint64_t
        dataset_samples[MIXER_DATASETS_MAX]; /* of all ranks; 0 from one without micro-batches */
} RankReport;

typedef struct Trainer {
    Comm *comm;
    const Config *config;
    Exec *ex;
    Data data;
    Tokenizer *tokenizer;
    char tokenizer_file[PATH_SIZE], checkpoints[PATH_SIZE];
    char resumed[PATH_SIZE]; /* the checkpoint that this run goes on from, or "" */
    Base base;
    Config described; /* the config with what the base says of the model */
    Model *model;
    Optim optim;
    Reducer *reducer;
    Batches *batches;
    BatchesOptions options;
    Metrics metrics;
    Progress progress;
    TrainState state;
    int64_t steps, first_step;
    int micro_first, micro_end, micro_most; /* micro_most: of any rank */
    MicroBatchReport *reports;              /* [ranks · micro_most] */
    LossSum *losses;                        /* the same */
    LossSum *device_losses;                 /* device: [micro_most], of this rank */
    RankReport *rank_reports;               /* [ranks] */
    Buf micro_batch_samples; /* "step's micro-batch: names" of this rank's samples, a line each */
    double peak_flops;       /* of all ranks together, measured */
    double datasheet_flops;  /* likewise, by the datasheet; 0: unknown */
    OverlongCount overlong;  /* in the steps of this process, over all ranks */
    bool reported_validation_overlong; /* it is said once, since all validations have the same */
    int skipped_in_a_row;
    bool stopping;
    double loss, val_loss, began;
    double trained_seconds, trained_flops; /* of the steps of this process, without the first */
    int64_t trained_samples, trained_tokens;
    int64_t saved_step;
    FolderLock *folder_lock; /* rank 0: of output_dir */
} Trainer;

/* ---- train_open.c ---- */

/* Collective. Everything up to the first step but the reducer. */
Err train_set_up(Trainer *t, bool fresh, const Json *versions);

/* What will be trained, on what, with how much memory: into the log. */
void train_describe(const Trainer *t);

/* Device memory of this rank. */
size_t train_memory(const Trainer *t);

/* The config with the sizes of the model filled in: what checkpoints describe. Free with free. */
Config *train_describe_config(const Trainer *t);

#endif
