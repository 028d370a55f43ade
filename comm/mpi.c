/* Ranks through MPI: what mpirun started, and srun where MPI speaks its PMI. */
#include <limits.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "comm/transport.h"

static Err mpi_check(int code, const char *what) {
    if (code == MPI_SUCCESS) return OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, text, &length);
    FAIL(ERR_COMM, "MPI cannot %s: %s", what, text);
}

/* True when a launcher (mpirun, srun with PMIx or PMI) started this process. */
bool mpi_wanted(void) {
    static const char *const marks[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK",
                                        "MV2_COMM_WORLD_RANK"};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (getenv(marks[i])) return true;
    return false;
}

static Err join(Transport *t) {
    int provided;
    TRY(mpi_check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided), "start"));
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    TRY(mpi_check(MPI_Comm_rank(MPI_COMM_WORLD, &t->rank), "tell the rank"));
    TRY(mpi_check(MPI_Comm_size(MPI_COMM_WORLD, &t->size), "tell the size"));
    MPI_Comm local;
    TRY(mpi_check(
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local),
        "find this machine's ranks"));
    MPI_Comm_rank(local, &t->local_rank);
    MPI_Comm_size(local, &t->local_size);
    MPI_Comm_free(&local);
    REQUIRE(provided >= MPI_THREAD_FUNNELED, ERR_COMM,
            "this MPI does not allow threads beside it (level %d)", provided);
    return OK;
}

static void mpi_close(Transport *t) {
    int initialized = 0;
    MPI_Initialized(&initialized);
    if (initialized) MPI_Finalize();
    free(t);
}

static void mpi_abort(Transport *t, int exit_code, const char *sentence) {
    (void)t, (void)sentence; /* the rank itself has said it: mpirun shows every rank's errors */
    MPI_Abort(MPI_COMM_WORLD, exit_code);
}

const char *mpi_library_version(void) {
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "none";
    text[strcspn(text, "\n")] = 0;
    return text;
}

/* ---- together ---- */

enum { PIECE = 1 << 28 }; /* bytes in one MPI call: its counts are ints */

static Err mpi_broadcast(Transport *t, int root, void *data, size_t bytes) {
    (void)t;
    for (size_t at = 0; at < bytes; at += PIECE) {
        int count = (int)(bytes - at < PIECE ? bytes - at : PIECE);
        TRY(mpi_check(MPI_Bcast((char *)data + at, count, MPI_BYTE, root, MPI_COMM_WORLD),
                      "broadcast"));
    }
    return OK;
}

static Err mpi_gather_all(Transport *t, void *all, const void *own, size_t bytes) {
    (void)t;
    CHECK(bytes <= PIECE, "%zu bytes a rank", bytes);
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

static Err mpi_gather_floats(Transport *t, float *all, const float *own, const int64_t *counts,
                             const int64_t *offsets) {
    bool in_place = own == all + offsets[t->rank];
    int *ints = calloc(2 * (size_t)t->size, sizeof *ints);
    CHECK(ints, "out of memory: %d ranks", t->size);
    int64_t total;
    Err err = to_ints(ints, counts, t->size, &total);
    if (err == OK) err = to_ints(ints + t->size, offsets, t->size, &total);
    if (err == OK)
        err = mpi_check(MPI_Allgatherv(in_place ? MPI_IN_PLACE : own, ints[t->rank], MPI_FLOAT, all,
                                       ints, ints + t->size, MPI_FLOAT, MPI_COMM_WORLD),
                        "gather");
    free(ints);
    return err;
}

static Err mpi_exchange_floats(Transport *t, float *received, const int64_t *receive_counts,
                               const float *send, const int64_t *send_counts) {
    size_t n = (size_t)t->size;
    int *ints = calloc(4 * n, sizeof *ints);
    CHECK(ints, "out of memory: %d ranks", t->size);
    int *send_ints = ints, *send_at = ints + n, *receive_ints = ints + 2 * n,
        *receive_at = ints + 3 * n;
    int64_t sent, got;
    Err err = to_ints(send_ints, send_counts, t->size, &sent);
    if (err == OK) err = to_ints(receive_ints, receive_counts, t->size, &got);
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

static Err mpi_least(Transport *t, int own, int *least) {
    (void)t;
    return mpi_check(MPI_Allreduce(&own, least, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD), "agree");
}

static Err mpi_barrier(Transport *t) {
    (void)t;
    return mpi_check(MPI_Barrier(MPI_COMM_WORLD), "wait for all ranks");
}

static const TransportTable mpi_table = {
    .broadcast = mpi_broadcast,
    .gather_all = mpi_gather_all,
    .gather_floats = mpi_gather_floats,
    .exchange_floats = mpi_exchange_floats,
    .least = mpi_least,
    .barrier = mpi_barrier,
    .abort = mpi_abort,
    .close = mpi_close,
};

Err mpi_open(Transport **out) {
    Transport *t = calloc(1, sizeof *t);
    CHECK(t, "out of memory: a transport");
    *t = (Transport){.table = &mpi_table, .size = 1, .local_size = 1};
    *out = t;
    return join(t);
}
