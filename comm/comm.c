/* Ranks through MPI; see the header. */
#include "comm/comm.h"

#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"

struct Comm {
    bool mpi; /* false: one process without MPI */
    int rank, size, local_rank, local_size;
    bool failed_together; /* the last comm_agree failed: every rank knows */
    int speaker;          /* and this one tells it */
};

static Err mpi_check(int code, const char *what) {
    if (code == MPI_SUCCESS) return OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, text, &length);
    FAIL(ERR_COMM, "MPI cannot %s: %s", what, text);
}

/* True when a launcher (mpirun, srun with PMIx or PMI) started this process. */
static bool was_launched(void) {
    static const char *const marks[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK",
                                        "MV2_COMM_WORLD_RANK"};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (getenv(marks[i])) return true;
    return false;
}

static Err join(Comm *comm) {
    int provided;
    TRY(mpi_check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided), "start"));
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    TRY(mpi_check(MPI_Comm_rank(MPI_COMM_WORLD, &comm->rank), "tell the rank"));
    TRY(mpi_check(MPI_Comm_size(MPI_COMM_WORLD, &comm->size), "tell the size"));
    MPI_Comm local;
    TRY(mpi_check(
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local),
        "find this machine's ranks"));
    MPI_Comm_rank(local, &comm->local_rank);
    MPI_Comm_size(local, &comm->local_size);
    MPI_Comm_free(&local);
    REQUIRE(provided >= MPI_THREAD_FUNNELED, ERR_COMM,
            "this MPI does not allow threads beside it (level %d)", provided);
    return OK;
}

Err comm_open(Comm **out) {
    Comm *comm = calloc(1, sizeof *comm);
    CHECK(comm, "out of memory: a communicator");
    *comm = (Comm){.size = 1, .local_size = 1};
    *out = comm;
    if (!was_launched()) return OK;
    comm->mpi = true;
    TRY(join(comm));
    log_set_rank(comm->rank, comm->size);
    err_set_rank(comm->rank);
    return OK;
}

void comm_close(Comm **comm) {
    if (!*comm) return;
    int initialized = 0;
    if ((*comm)->mpi) MPI_Initialized(&initialized);
    if (initialized) MPI_Finalize();
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
        if (comm->rank == (err == ERR_STOPPED ? 0 : comm->speaker)) log_outcome(err);
        err_clear();
        MPI_Barrier(MPI_COMM_WORLD);
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

const char *comm_library_version(void) {
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "none";
    text[strcspn(text, "\n")] = 0;
    return text;
}

void comm_abort(Comm *comm, int exit_code) {
    char host[128] = "?";
    gethostname(host, sizeof host - 1);
    log_error("rank %d of %d on %s cannot go on and ends the job: %s", comm->rank, comm->size, host,
              err_message());
    if (comm->mpi) MPI_Abort(MPI_COMM_WORLD, exit_code);
    exit(exit_code);
}

/* ---- together ---- */

Err comm_agree(Comm *comm, Err local) {
    if (!comm->mpi) return local;
    /* Whoever fails first in the order of ranks speaks for all. */
    int own = local == OK ? INT_MAX : comm->rank, first = INT_MAX;
    TRY(mpi_check(MPI_Allreduce(&own, &first, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD), "agree"));
    comm->failed_together = first != INT_MAX;
    comm->speaker = first;
    if (first == INT_MAX) return OK;
    struct {
        int code;
        char message[ERR_MESSAGE_SIZE];
    } word = {.code = local};
    snprintf(word.message, sizeof word.message, "%s", local == OK ? "" : err_message());
    TRY(mpi_check(MPI_Bcast(&word, sizeof word, MPI_BYTE, first, MPI_COMM_WORLD),
                  "pass on an error"));
    if (local != OK) return local;
    Err code = word.code == ERR_CONFIG || word.code == ERR_UNSUPPORTED || word.code == ERR_STOPPED
                   ? (Err)word.code
                   : ERR_COMM;
    word.message[ERR_MESSAGE_SIZE - 1] = 0;
    FAIL(code, "rank %d: %s", first, word.message);
}

Err comm_barrier(Comm *comm) {
    return comm->mpi ? mpi_check(MPI_Barrier(MPI_COMM_WORLD), "wait for all ranks") : OK;
}

enum { PIECE = 1 << 28 }; /* bytes in one MPI call: its counts are ints */

Err comm_broadcast(Comm *comm, void *data, size_t bytes) {
    if (!comm->mpi) return OK;
    for (size_t at = 0; at < bytes; at += PIECE) {
        int count = (int)(bytes - at < PIECE ? bytes - at : PIECE);
        TRY(mpi_check(MPI_Bcast((char *)data + at, count, MPI_BYTE, 0, MPI_COMM_WORLD),
                      "broadcast"));
    }
    return OK;
}

Err comm_gather_all(Comm *comm, void *all, const void *own, size_t bytes) {
    CHECK(bytes <= PIECE, "%zu bytes a rank", bytes);
    if (!comm->mpi) {
        memcpy(all, own, bytes);
        return OK;
    }
    return mpi_check(
        MPI_Allgather(own, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, MPI_COMM_WORLD),
        "gather");
}

/* The int arrays that MPI wants, scaled down where 64-bit counts do not fit would be a silent
 * error: refuse instead. */
static Err to_ints(int *out, const int64_t *in, int count, int64_t *total) {
    *total = 0;
    for (int i = 0; i < count; i++) {
        REQUIRE(in[i] >= 0 && in[i] <= INT_MAX, ERR_COMM,
                "%lld floats in one exchange; %d are possible", (long long)in[i], INT_MAX);
        out[i] = (int)in[i];
        *total += in[i];
    }
    return OK;
}

Err comm_gather_floats(Comm *comm, float *all, const float *own, const int64_t *counts,
                       const int64_t *offsets) {
    bool in_place = own == all + offsets[comm->rank];
    if (!comm->mpi) {
        if (!in_place) memcpy(all + offsets[0], own, (size_t)counts[0] * sizeof *all);
        return OK;
    }
    int *ints = calloc(2 * (size_t)comm->size, sizeof *ints);
    CHECK(ints, "out of memory: %d ranks", comm->size);
    int64_t total;
    Err err = to_ints(ints, counts, comm->size, &total);
    if (err == OK) err = to_ints(ints + comm->size, offsets, comm->size, &total);
    if (err == OK)
        err = mpi_check(MPI_Allgatherv(in_place ? MPI_IN_PLACE : own, ints[comm->rank], MPI_FLOAT,
                                       all, ints, ints + comm->size, MPI_FLOAT, MPI_COMM_WORLD),
                        "gather");
    free(ints);
    return err;
}

Err comm_exchange_floats(Comm *comm, float *received, const int64_t *receive_counts,
                         const float *send, const int64_t *send_counts) {
    if (!comm->mpi) {
        memcpy(received, send, (size_t)send_counts[0] * sizeof *send);
        return OK;
    }
    size_t n = (size_t)comm->size;
    int *ints = calloc(4 * n, sizeof *ints);
    CHECK(ints, "out of memory: %d ranks", comm->size);
    int *send_ints = ints, *send_at = ints + n, *receive_ints = ints + 2 * n,
        *receive_at = ints + 3 * n;
    int64_t sent, got;
    Err err = to_ints(send_ints, send_counts, comm->size, &sent);
    if (err == OK) err = to_ints(receive_ints, receive_counts, comm->size, &got);
    if (err == OK && (sent > INT_MAX || got > INT_MAX))
        err =
            err_raise(ERR_COMM, __FILE__, __LINE__, "%lld floats in one exchange; %d are possible",
                      (long long)(sent > got ? sent : got), INT_MAX);
    for (size_t i = 1; i < n && err == OK; i++) {
        send_at[i] = send_at[i - 1] + send_ints[i - 1];
        receive_at[i] = receive_at[i - 1] + receive_ints[i - 1];
    }
    if (err == OK)
        err = mpi_check(MPI_Alltoallv(send, send_ints, send_at, MPI_FLOAT, received, receive_ints,
                                      receive_at, MPI_FLOAT, MPI_COMM_WORLD),
                        "exchange gradients");
    free(ints);
    return err;
}

Err comm_any(Comm *comm, bool local, bool *any) {
    *any = local;
    if (!comm->mpi) return OK;
    int own = local, all = 0;
    TRY(mpi_check(MPI_Allreduce(&own, &all, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD), "ask all ranks"));
    *any = all != 0;
    return OK;
}
