/* Ranks and what they do together.
 *
 * A process that mpirun or srun started is a rank of MPI; any other is a run of one rank, and never
 * touches MPI. Functions that every rank must call, in the same order, say
 * `Collective.` A rank that fails alone must not leave the others waiting: local work that can fail
 * ends in comm_agree before the next collective. */
#ifndef CADVLM_COMM_COMM_H
#define CADVLM_COMM_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

typedef struct Comm Comm;

/* Collective. Joins the job. Tells log and CHECK the rank. */
Err comm_open(Comm **comm);

/* Collective. Leaves the job; returns when every rank is here. */
void comm_close(Comm **comm);

int comm_rank(const Comm *comm);
int comm_size(const Comm *comm);
int comm_local_rank(const Comm *comm); /* among the ranks of this machine */
int comm_local_size(const Comm *comm);
int comm_sharing(const Comm *comm); /* those of them that have the same processors, this one too */

/* Leaves the job with `err`: printed once (by the rank that has it, or by rank 0 when all share it)
 * and returned. A failure that the others do not know of (they may be inside a collective) ends the
 * job at once, by comm_abort. */
Err comm_finish(Comm **comm, Err err);

/* Of the MPI that the program was built with: "Open MPI v4.1.4, …", or "none". */
const char *comm_library_version(void);

/* Ends the whole job at once because this rank cannot go on; the current error is printed with the
 * rank's name. */
_Noreturn void comm_abort(Comm *comm, int exit_code);

/* Collective. How it went everywhere: OK when every rank says OK. A rank that failed gets its own
 * error back; the others get ERR_COMM, or the same code where it decides the exit code (ERR_CONFIG,
 * ERR_STOPPED), with the first failed rank's sentence. */
Err comm_agree(Comm *comm, Err local);

/* Collective. */
Err comm_barrier(Comm *comm);

/* Collective. `bytes` at `data` become those of rank 0 everywhere. */
Err comm_broadcast(Comm *comm, void *data, size_t bytes);

/* Collective. all[size · bytes] = every rank's `bytes` at `own`, in the order of ranks. */
Err comm_gather_all(Comm *comm, void *all, const void *own, size_t bytes);

/* Collective. Runs of different length: rank r contributes counts[r] floats, which land at all +
 * offsets[r]. `own` may be the right place inside `all`. */
Err comm_gather_floats(Comm *comm, float *all, const float *own, const int64_t *counts,
                       const int64_t *offsets);

/* Collective. send holds, for each rank in order, send_counts[rank] floats for it; received holds
 * receive_counts[rank] floats from each. */
Err comm_exchange_floats(Comm *comm, float *received, const int64_t *receive_counts,
                         const float *send, const int64_t *send_counts);

/* Collective. True when it is true on any rank. */
Err comm_any(Comm *comm, bool local, bool *any);

/* ---- ranks that do not come ---- */

/* How long ranks wait for each other, in seconds: in collectives, and where they say so with
 * comm_keep_waiting. Then the job ends with a sentence that names the ranks that do not come. At
 * first: without end. */
void comm_set_patience(Comm *comm, double seconds);

/* How a rank stands, for others that have waited too long. */
typedef enum CommWord {
    COMM_SILENT,  /* it does not answer: it hangs, or is busy with something else */
    COMM_WAITS,   /* for others */
    COMM_COMPUTES /* for its own GPU to come to what others wait for */
} CommWord;

/* One wait; zeros at its start. */
typedef struct CommWait {
    double looked, waited;
} CommWait;

/* To be called over and over while a rank waits for others outside of collectives, for `what` ("a
 * sum of NCCL"). Answers the questions of others; ends the job when this has lasted too long. */
void comm_keep_waiting(Comm *comm, CommWait *wait, CommWord own, const char *what);

#endif
