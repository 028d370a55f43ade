/* What the front (comm.c) asks of MPI (mpi.c). A run of one rank that nobody launched has none of
 * it. */
#ifndef CADVLM_COMM_MPI_RANKS_H
#define CADVLM_COMM_MPI_RANKS_H

#include "comm/comm.h"

/* This process among those of its job. */
typedef struct Mpi {
    Comm *comm; /* whose patience its waits have; NULL while it opens: without end */
    int rank, size, local_rank, local_size;
} Mpi;

/* Whether a launcher (mpirun, srun with PMIx or PMI) started this process. */
bool mpi_wanted(void);

/* Collective. Joins the job. *out is set, also when joining fails: it must be ended by mpi_abort or
 * mpi_close. */
Err mpi_open(Mpi **out);

/* Ends the other ranks; MPI may end this one too, the process exits otherwise. */
void mpi_abort(int exit_code);

/* Waits for all ranks and frees. */
void mpi_close(Mpi *mpi);

const char *mpi_library_version(void);

/* ---- collectives, as comm.h says ---- */

/* `bytes` at `data` become those of rank `root` everywhere. */
Err mpi_broadcast(const Mpi *mpi, int root, void *data, size_t bytes);
Err mpi_gather_all(const Mpi *mpi, void *all, const void *own, size_t bytes);
Err mpi_gather_floats(const Mpi *mpi, float *all, const float *own, const int64_t *counts,
                      const int64_t *offsets);
Err mpi_exchange_floats(const Mpi *mpi, float *received, const int64_t *receive_counts,
                        const float *send, const int64_t *send_counts);
/* *least = the least `own` of all ranks. */
Err mpi_least(const Mpi *mpi, int own, int *least);
Err mpi_barrier(const Mpi *mpi);

/* ---- not collective ---- */

/* Asks all others how they stand: said[size] (CommWord), COMM_SILENT where no answer comes within
 * `seconds`. The job must be aborted then. */
void mpi_roll_call(const Mpi *mpi, CommWord own, char *said, double seconds);

/* Tells those that ask how this one stands. */
void mpi_answer(CommWord own);

#endif
