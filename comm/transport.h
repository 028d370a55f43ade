/* How bytes travel between ranks: what the front (comm/comm.c) asks of MPI (comm/mpi.c) and of TCP
 * (comm/tcp.c). A run of one rank that nobody launched has no transport. */
#ifndef CADVLM_COMM_TRANSPORT_H
#define CADVLM_COMM_TRANSPORT_H

#include "comm/comm.h"

typedef struct Transport Transport;

/* All but roll_call, answer, abort and close are collective and mean what comm.h says of them. */
typedef struct TransportTable {
    /* `bytes` at `data` become those of rank `root` everywhere. */
    Err (*broadcast)(Transport *t, int root, void *data, size_t bytes);
    Err (*gather_all)(Transport *t, void *all, const void *own, size_t bytes);
    Err (*gather_floats)(Transport *t, float *all, const float *own, const int64_t *counts,
                         const int64_t *offsets);
    Err (*exchange_floats)(Transport *t, float *received, const int64_t *receive_counts,
                           const float *send, const int64_t *send_counts);
    /* *least = the least `own` of all ranks. */
    Err (*least)(Transport *t, int own, int *least);
    Err (*barrier)(Transport *t);
    /* Not collective; NULL: ranks cannot be asked. roll_call asks all others how they stand:
     * said[size] (CommWord), COMM_SILENT where no answer comes within `seconds`; the job must be
     * aborted then. answer: tells those that ask how this one does. */
    void (*roll_call)(Transport *t, CommWord own, char *said, double seconds);
    void (*answer)(Transport *t, CommWord own);
    /* Ends the other ranks, with `sentence` where there is a way to say it. The process exits
     * afterwards; MPI may end it by itself. */
    void (*abort)(Transport *t, int exit_code, const char *sentence);
    /* Waits for all ranks and frees `t`. */
    void (*close)(Transport *t);
} TransportTable;

/* The start of every transport. */
struct Transport {
    const TransportTable *table;
    Comm *comm; /* NULL while it opens */
    int rank, size, local_rank, local_size;
};

/* Collective. Joins the job. *out is set, also when joining fails, once other ranks may have heard
 * of this one: it must be ended by abort or close. TCP leaves NULL for a job of one rank. */
Err mpi_open(Transport **out);
Err tcp_open(Transport **out);

/* Whether the environment asks for it. */
bool mpi_wanted(void);
bool tcp_wanted(void);

const char *mpi_library_version(void);

#endif
