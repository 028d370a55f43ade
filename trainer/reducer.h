/* Sums the gradients of all micro-batches of a step, in one of two ways.
 *
 * The tree gives the same bits for any number of ranks. Micro-batch s of S is a leaf of one fixed
 * tree: neighbours 2k and 2k+1 are added, then their sums, and so on; what is left of an odd count
 * is added from the left at the end. Rank r of R has the micro-batches ⌊rS/R⌋ … ⌊(r+1)S/R⌋-1. It
 * folds its leaves like a binary counter (at most 2·log₂S partial sums), the partial sums are
 * exchanged by range of parameters through the host, and the owner of a range finishes the tree.
 * Floating-point addition never happens in another order. The CPU always sums so, GPUs with
 * `deterministic: true` and where ranks share one.
 *
 * Otherwise, on GPUs, the micro-batches of a rank accumulate in one buffer, and NCCL adds those of
 * the ranks: from the last parameters to the first, while the backward pass of a rank's last
 * micro-batch still runs. */
#ifndef CADVLM_TRAINER_REDUCER_H
#define CADVLM_TRAINER_REDUCER_H

#include "comm/comm.h"
#include "model/model.h"
#include "ops/ops.h"

typedef struct Reducer Reducer;

/* The micro-batches of a rank: first … end - 1. */
void reducer_micro_batches(int micro_batches, int rank, int size, int *first, int *end);

/* Collective. `count` floats a micro-batch. */
Err reducer_open(Reducer **reducer, Comm *comm, Exec *ex, int64_t count, int micro_batches,
                 bool deterministic);
void reducer_close(Reducer **reducer);

/* Device memory that gradients take. */
size_t reducer_bytes(const Reducer *reducer);

/* The buffer that the gradients of the coming micro-batch are added to. */
Err reducer_begin(Reducer *reducer, float **buffer);

/* What to call with final gradients in the backward pass of `micro_batch`; NULL: nothing. */
const GradHook *reducer_hook(Reducer *reducer, int micro_batch);

/* The gradients of `micro_batch` are in the buffer; micro-batches come in order. */
void reducer_fold(Reducer *reducer, int micro_batch);

/* Collective. The sum over all micro-batches, for the work that the Exec is given from now on;
 * valid until the next reducer_begin. */
Err reducer_finish(Reducer *reducer, float **sum);

/* Waits until the sum is there, and says if it never will be. */
Err reducer_wait(Reducer *reducer);

/* Whether communication runs beside the backward pass. */
bool reducer_overlaps(const Reducer *reducer);

/* Seconds the last reducer_finish spent in communication; 0 where it overlaps: what is exposed then
 * lies between two moments of the Exec, before and after reducer_finish. */
double reducer_seconds(const Reducer *reducer);

#endif
