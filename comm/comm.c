/* Ranks: what they do together, alone or through MPI (mpi.c); see the header. */
#include "comm/comm.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/mpi_ranks.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/processors.h"

typedef struct Host {
    char name[64];
} Host;

struct Comm {
    Mpi *mpi; /* NULL: one rank alone */
    int rank, size, local_rank, local_size, sharing;
    Host *hosts; /* of all ranks */
    double patience;
    bool failed_together; /* the last comm_agree failed: every rank knows */
    int speaker;          /* and this one reports it */
};

/* srun has started several processes, and this one would train alone, as each of the others. */
static Err refuse_strangers(const Comm *comm) {
    const char *tasks = getenv("SLURM_STEP_NUM_TASKS");
    REQUIRE(comm->size > 1 || !tasks || atoi(tasks) <= 1, ERR_CONFIG,
            "srun has started %s processes, but this one has met no other: use srun --mpi=pmix "
            "(srun --mpi=list names what this Slurm has), or mpirun inside the allocation; to run "
            "alone, unset SLURM_STEP_NUM_TASKS",
            tasks);
    return OK;
}

/* A launcher may have bound each rank to processors of its own, or all of a machine to the same. */
static Err count_sharing(Comm *comm) {
    uint64_t own = processors_hash(), *all = calloc((size_t)comm->size, sizeof *all);
    CHECK(all, "out of memory: %d ranks", comm->size);
    Err err = comm_gather_all(comm, all, &own, sizeof own);
    for (int r = 0; r < comm->size && err == OK; r++)
        comm->sharing += r != comm->rank && all[r] == own;
    free(all);
    return err;
}

static Err find_hosts(Comm *comm) {
    Host own = {""};
    comm->hosts = calloc((size_t)comm->size, sizeof *comm->hosts);
    CHECK(comm->hosts, "out of memory: %d ranks", comm->size);
    gethostname(own.name, sizeof own.name - 1);
    return comm_gather_all(comm, comm->hosts, &own, sizeof own);
}

Err comm_open(Comm **out) {
    Comm *comm = calloc(1, sizeof *comm);
    CHECK(comm, "out of memory: a communicator");
    *comm = (Comm){.size = 1, .local_size = 1, .sharing = 1, .patience = INFINITY};
    *out = comm;
    Err err = mpi_wanted() ? mpi_open(&comm->mpi) : OK;
    Mpi *mpi = comm->mpi;
    if (mpi) {
        comm->rank = mpi->rank;
        comm->size = mpi->size;
        comm->local_rank = mpi->local_rank;
        comm->local_size = mpi->local_size;
    }
    if (err == OK) err = refuse_strangers(comm);
    if (!mpi) return err;
    log_set_rank(comm->rank, comm->size);
    err_set_rank(comm->rank);
    mpi->comm = comm;
    if (err == OK) err = count_sharing(comm);
    return err == OK ? find_hosts(comm) : err;
}

void comm_close(Comm **comm) {
    if (!*comm) return;
    if ((*comm)->mpi) mpi_close((*comm)->mpi);
    free((*comm)->hosts);
    free(*comm);
    *comm = NULL;
}

Err comm_finish(Comm **out, Err err) {
    Comm *comm = *out;
    if (!comm) return err;
    bool together = !comm->mpi || err == OK || err == ERR_STOPPED || comm->failed_together;
    if (!together) comm_abort(comm, err_exit_code(err));
    if (comm->mpi && err != OK) {
        /* Said before anyone leaves: the first rank that ends with an exit code ends the others. */
        if (comm->rank == (err == ERR_STOPPED ? 0 : comm->speaker)) {
            log_outcome(err);
        } else {
            log_debug("%s", err_message());
            log_trace();
        }
        err_clear();
        IGNORE(comm_barrier(comm));
        err_clear();
    }
    comm_close(out);
    return err;
}

int comm_rank(const Comm *comm) {
    return comm->rank;
}

int comm_size(const Comm *comm) {
    return comm->size;
}

int comm_local_rank(const Comm *comm) {
    return comm->local_rank;
}

int comm_local_size(const Comm *comm) {
    return comm->local_size;
}

int comm_sharing(const Comm *comm) {
    return comm->sharing;
}

const char *comm_library_version(void) {
    return mpi_library_version();
}

void comm_abort(Comm *comm, int exit_code) {
    char host[128] = "?";
    gethostname(host, sizeof host - 1);
    log_error("rank %d of %d on %s cannot go on and ends the job: %s", comm->rank, comm->size, host,
              err_message());
    log_trace();
    if (comm->mpi) mpi_abort(exit_code);
    exit(exit_code);
}

/* ---- together ---- */

Err comm_agree(Comm *comm, Err local) {
    Mpi *mpi = comm->mpi;
    if (!mpi) return local;
    /* Whoever fails first in the order of ranks speaks for all. */
    int first = INT_MAX;
    struct {
        int code;
        char message[ERR_MESSAGE_SIZE];
    } word = {.code = local};
    /* Kept now: asking the others may fail with a sentence of its own. */
    snprintf(word.message, sizeof word.message, "%s", local == OK ? "" : err_message());
    TRY(mpi_least(mpi, local == OK ? INT_MAX : comm->rank, &first));
    comm->failed_together = first != INT_MAX;
    comm->speaker = first;
    if (first == INT_MAX) return OK;
    TRY(mpi_broadcast(mpi, first, &word, sizeof word));
    if (local != OK) return local;
    Err code = word.code == ERR_CONFIG || word.code == ERR_UNSUPPORTED || word.code == ERR_STOPPED
                   ? (Err)word.code
                   : ERR_COMM;
    word.message[ERR_MESSAGE_SIZE - 1] = 0;
    FAIL(code, "rank %d: %s", first, word.message);
}

Err comm_barrier(Comm *comm) {
    Mpi *mpi = comm->mpi;
    return mpi ? mpi_barrier(mpi) : OK;
}

Err comm_broadcast(Comm *comm, void *data, size_t bytes) {
    Mpi *mpi = comm->mpi;
    return mpi ? mpi_broadcast(mpi, 0, data, bytes) : OK;
}

Err comm_gather_all(Comm *comm, void *all, const void *own, size_t bytes) {
    Mpi *mpi = comm->mpi;
    if (mpi) return mpi_gather_all(mpi, all, own, bytes);
    memcpy(all, own, bytes);
    return OK;
}

Err comm_gather_floats(Comm *comm, float *all, const float *own, const int64_t *counts,
                       const int64_t *offsets) {
    Mpi *mpi = comm->mpi;
    if (mpi) return mpi_gather_floats(mpi, all, own, counts, offsets);
    if (own != all + offsets[0]) memcpy(all + offsets[0], own, (size_t)counts[0] * sizeof *all);
    return OK;
}

Err comm_exchange_floats(Comm *comm, float *received, const int64_t *receive_counts,
                         const float *send, const int64_t *send_counts) {
    Mpi *mpi = comm->mpi;
    if (mpi) return mpi_exchange_floats(mpi, received, receive_counts, send, send_counts);
    memcpy(received, send, (size_t)send_counts[0] * sizeof *send);
    return OK;
}

Err comm_any(Comm *comm, bool local, bool *any) {
    Mpi *mpi = comm->mpi;
    *any = local;
    if (!mpi) return OK;
    int least = 0;
    TRY(mpi_least(mpi, local ? -1 : 0, &least));
    *any = least < 0;
    return OK;
}

/* ---- ranks that do not come ---- */

void comm_set_patience(Comm *comm, double seconds) {
    comm->patience = seconds;
}

/* Ranks of which the roll call says `word`. */
static void name_ranks(Buf *out, const Comm *comm, const char *said, CommWord word) {
    for (int r = 0; r < comm->size; r++)
        if (said[r] == (char)word)
            buf_format(out, "%srank %d on %s", out->size ? ", " : "", r, comm->hosts[r].name);
}

/* Ranks that wait are asked how they stand, and so it is found out who does not wait. Those do
 * not answer: the job ends. */
static _Noreturn void end_stalled(Comm *comm, CommWord own, const char *what) {
    enum { SECONDS = 20 };
    Mpi *mpi = comm->mpi;
    char *said = calloc((size_t)comm->size, 1);
    CHECK(said, "out of memory: %d ranks", comm->size);
    Buf silent = {0}, computing = {0};
    mpi_roll_call(mpi, own, said, fmin(comm->patience, SECONDS));
    name_ranks(&silent, comm, said, COMM_SILENT);
    name_ranks(&computing, comm, said, COMM_COMPUTES);
    const char *which = silent.size ? "what does not come hangs, or is busy with something else: "
                        : computing.size
                            ? "the GPU has not done what comes before (a kernel hangs?): "
                            : "all ranks wait: is the network between them down?";
    const Buf *who = silent.size ? &silent : &computing;
    IGNORE(err_raise(ERR_COMM, __FILE__, __LINE__, "waited %.0f s (ddp_timeout) for %s; %s%s",
                     comm->patience, what, which, who->size ? buf_cstr(who) : ""));
    comm_abort(comm, err_exit_code(ERR_COMM));
}

void comm_keep_waiting(Comm *comm, CommWait *wait, CommWord own, const char *what) {
    enum { LOOKS_A_SECOND = 20 };
    const Mpi *mpi = comm->mpi;
    double now = clock_seconds(), since = now - wait->looked;
    if (!mpi || since < 1.0 / LOOKS_A_SECOND) return;
    /* A job that was suspended for hours has not waited for hours. */
    if (wait->looked > 0) wait->waited += fmin(since, 1);
    wait->looked = now;
    mpi_answer(own);
    if (wait->waited > comm->patience) end_stalled(comm, own, what);
}
