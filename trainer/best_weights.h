/* The weights of the best validation (training.load_best_model_at_end): what a run ends with, if
 * later steps only made it worse. They lie beside the checkpoints as
 * best-STEP-CHECKSUM.safetensors, the trained parameters in f32; checkpoints say which of them is
 * theirs (best_step), so that a run that goes on from an older checkpoint finds its own again. */
#ifndef CADVLM_TRAINER_BEST_WEIGHTS_H
#define CADVLM_TRAINER_BEST_WEIGHTS_H

#include "comm/comm.h"
#include "model/optim.h"

/* Collective. Rank 0 writes the weights as they are after `step`. `folder`: that of the
 * checkpoints. */
Err best_weights_keep(Comm *comm, const char *folder, Optim *optim, int64_t step);

/* Collective. Puts the weights of `step` in place of the present ones, on every rank; the
 * optimiser's moments stay. Those that are missing or damaged: *restored false, a warning, and the
 * present weights stay. */
Err best_weights_restore(Comm *comm, const char *folder, Optim *optim, int64_t step,
                         bool *restored);

/* Deletes all but those of `step` (-1: all). Called by one rank, when a checkpoint that needs no
 * others has been written. */
Err best_weights_prune(const char *folder, int64_t step);

#endif
