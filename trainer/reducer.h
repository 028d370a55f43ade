/* Sums the gradients of all slots of a step, to the same bits for any number of ranks.
 *
 * Slot s of S gives a leaf of one fixed tree: neighbours 2k and 2k+1 are added, then their sums,
 * and so on; what is left of an odd count is added from the left at the end. Rank r of R has the
 * slots ⌊rS/R⌋ … ⌊(r+1)S/R⌋-1. It folds its leaves like a binary counter (at most 2·log₂S partial
 * sums), the partial sums are exchanged by range of parameters, and the owner of a range finishes
 * the tree. Floating-point addition never happens in another order. */
#ifndef CADVLM_TRAINER_REDUCER_H
#define CADVLM_TRAINER_REDUCER_H

#include "comm/comm.h"
#include "ops/ops.h"

typedef struct Reducer Reducer;

/* The slots of a rank: first … end - 1. */
void reducer_slots(int slots, int rank, int size, int *first, int *end);

/* `count` floats a slot. */
Err reducer_open(Reducer **reducer, Comm *comm, Exec *ex, int64_t count, int slots);
void reducer_close(Reducer **reducer);

/* A zeroed buffer for the gradients of the coming slot. */
Err reducer_begin(Reducer *reducer, float **buffer);

/* The buffer holds the gradients of `slot`; slots come in order. */
void reducer_fold(Reducer *reducer, int slot);

/* Collective. The sum over all slots; valid until the next reducer_begin. */
Err reducer_finish(Reducer *reducer, float **sum);

/* Seconds the last reducer_finish spent in communication. */
double reducer_seconds(const Reducer *reducer);

#endif
