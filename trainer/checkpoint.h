/* Checkpoints: complete or absent.
 *
 * checkpoints/step-000500/ holds
 *   config.yaml               how to build this model (sizes, adapters), whatever it started from
 *   base.json                 the published model it began as, if it did
 *   tokenizer.json, …         the tokenizer's files
 *   trained.safetensors       trained parameters, f32
 *   frozen.safetensors        the rest, in the compute type; a hard link to the file that the run
 *                             maps, or to that of the checkpoint before, where the file system
 *                             allows
 *   moment1.safetensors, moment2.safetensors
 *   state.json                step, slots, updates, loss scale, configuration hash, samples of each
 *                             dataset
 *   manifest.json             length and checksum of each of these; written last
 * It is written under another name, synced and renamed; then the link `latest` points to it. */
#ifndef CADVLM_TRAINER_CHECKPOINT_H
#define CADVLM_TRAINER_CHECKPOINT_H

#include "comm/comm.h"
#include "core/file.h"
#include "trainer/optim.h"
#include "trainer/origin.h"

typedef struct TrainState {
    int64_t step;       /* steps done */
    int slots;          /* of a step */
    UpdateState update; /* of the optimiser: updates and loss scale */
    int64_t samples, skipped;
    uint64_t config_hash;
    double val_loss;        /* NaN: none yet */
    int64_t validated_step; /* where that was measured; 0: nowhere yet */
    double best_val_loss;   /* of the run so far; NaN: none yet */
    int64_t best_step;      /* where it was measured; -1: nowhere yet */
    int64_t worse;          /* validations in a row since then that did not reach it */
    int dataset_count;
    int64_t dataset_samples[CONFIG_DATASETS];
} TrainState;

/* Collective. Rank 0 writes; all ranks have the same weights, which is checked. `tokenizer`: a
 * file, or a folder that has its files. Keeps the newest `keep` checkpoints. */
Err checkpoint_save(Comm *comm, const char *folder, const Config *config, const Origin *origin,
                    const char *tokenizer, Optim *optim, const TrainState *state, int keep);

/* The newest checkpoint in `folder` whose manifest holds; damaged ones are reported and passed
 * over. out is "" when there is none. */
Err checkpoint_find(char out[PATH_SIZE], const char *folder);

/* Checks every file of a checkpoint against its manifest. */
Err checkpoint_verify(const char *path);

Err checkpoint_read_state(TrainState *state, const char *path);

/* The frozen parameters; a model that maps them maps the checkpoint's file. */
Err checkpoint_load_frozen(Model *model, const char *path);

/* Trained weights, master weights and moments. The optimiser must be open. */
Err checkpoint_load(Optim *optim, const char *path);

/* A model as its checkpoint's config describes it (tune modes included), for evaluation and
 * generation. `path` may be a run folder, a checkpoints folder, or a checkpoint.
 * resolved: the checkpoint itself. */
Err checkpoint_resolve(char resolved[PATH_SIZE], const char *path);
Err checkpoint_open_model(Model **model, Exec *ex, const Config *config, const char *checkpoint,
                          int vocab);

#endif
