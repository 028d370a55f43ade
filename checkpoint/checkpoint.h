/* Checkpoints: complete or absent.
 *
 * checkpoints/step-000000500/ holds
 *   config.yaml               how to build this model (sizes, adapters), whatever it started from
 *   base.json                 the published model it began as, if it did
 *   tokenizer.json, …         the tokenizer's files
 *   trained.safetensors       trained parameters, f32
 *   frozen.safetensors        the rest, in the compute type; a hard link to the file that the run
 *                             maps, or to that of the checkpoint before, where the file system
 *                             allows
 *   moment1.safetensors, moment2.safetensors
 *   state.json                step, micro-batches, updates, loss scale, samples of each
 *                             dataset
 *   manifest.json             length and checksum of each of these; written last
 * It is written under another name, synced and renamed; then the link `latest` points to it, where
 * the file system has links. Nothing of ours reads that. */
#ifndef CADVLM_CHECKPOINT_CHECKPOINT_H
#define CADVLM_CHECKPOINT_CHECKPOINT_H

#include "checkpoint/lineage.h"
#include "checkpoint/train_state.h"
#include "comm/comm.h"
#include "core/file.h"
#include "model/optim.h"

/* Whether the config that checkpoints of this run will have can be read again: what it has from a
 * base must keep to the same limits as what users write. To be asked before the first step. */
Err checkpoint_check_config(const Config *config);

/* Collective. Rank 0 writes; all ranks have the same weights, which is checked. `tokenizer`: a
 * file, or a folder that has its files. Keeps the newest `keep` checkpoints, this one counted;
 * later ones, which can only be damaged, are none of them. */
Err checkpoint_save(Comm *comm, const char *folder, const Config *config, const Lineage *lineage,
                    const char *tokenizer, Optim *optim, const TrainState *state, int keep);

enum { CHECKPOINT_NAME = 32 };

/* The name of the checkpoint after `step` steps, which evaluations of it have too:
 * step-000000500. */
void checkpoint_name(char out[CHECKPOINT_NAME], int64_t step);

/* The names of all checkpoints in `folder`, damaged ones too, oldest first; free with
 * file_names_free. A folder that is not there has none. */
Err checkpoint_list(FileNames *names, const char *folder);

/* The newest checkpoint in `folder` whose manifest holds; damaged ones are reported and passed
 * over. out is "" when there is none. */
Err checkpoint_find(char out[PATH_SIZE], const char *folder);

/* The frozen parameters; a model that maps them maps the checkpoint's file. */
Err checkpoint_load_frozen(Model *model, const char *path);

/* Trained weights, master weights and moments. The optimiser must be open. */
Err checkpoint_load(Optim *optim, const char *path);

/* A model as its checkpoint's config describes it (tune modes included), for evaluation and
 * generation. `path` may be a run folder, a checkpoints folder, or a checkpoint.
 * resolved: the checkpoint itself, whose files are those of its manifest. */
Err checkpoint_resolve(char resolved[PATH_SIZE], const char *path);
Err checkpoint_open_model(Model **model, Exec *ex, const Config *config, const char *checkpoint,
                          int vocab);

#endif
