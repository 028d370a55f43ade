/* Ranks through MPI: what mpirun started, and srun where MPI speaks its PMI. */
#include <limits.h>
#include <mpi.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "comm/mpi_ranks.h"
#include "core/clock.h"

static Err mpi_check(int code, const char *what) {
    if (code == MPI_SUCCESS) return OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, text, &length);
    FAIL(ERR_COMM, "MPI cannot %s: %s", what, text);
}

bool mpi_wanted(void) {
    static const char *const marks[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK",
                                        "MV2_COMM_WORLD_RANK"};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (getenv(marks[i])) return true;
    return false;
}

static Err join(Mpi *mpi) {
    int provided;
    TRY(mpi_check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided), "start"));
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    TRY(mpi_check(MPI_Comm_rank(MPI_COMM_WORLD, &mpi->rank), "get the rank"));
    TRY(mpi_check(MPI_Comm_size(MPI_COMM_WORLD, &mpi->size), "get the size"));
    MPI_Comm local;
    TRY(mpi_check(
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local),
        "find this machine's ranks"));
    MPI_Comm_rank(local, &mpi->local_rank);
    MPI_Comm_size(local, &mpi->local_size);
    MPI_Comm_free(&local);
    REQUIRE(provided >= MPI_THREAD_FUNNELED, ERR_COMM,
            "this MPI does not allow threads beside it (level %d)", provided);
    return OK;
}

void mpi_close(Mpi *mpi) {
    int initialized = 0;
    MPI_Initialized(&initialized);
    if (initialized) MPI_Finalize();
    free(mpi);
}

void mpi_abort(int exit_code) {
    MPI_Abort(MPI_COMM_WORLD, exit_code);
}

const char *mpi_library_version(void) {
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "none";
    text[strcspn(text, "\n")] = 0;
    return text;
}

/* ---- waiting ---- */

enum { TAG_QUESTION = 4711, TAG_ANSWER = 4712 };

static const char words[] = {COMM_SILENT, COMM_WAITS, COMM_COMPUTES};

/* Sends one byte, and does not mind whether it arrives. */
static void send_word(int rank, int tag, CommWord word) {
    MPI_Request sent;
    if (MPI_Isend(&words[word], 1, MPI_BYTE, rank, tag, MPI_COMM_WORLD, &sent) == MPI_SUCCESS)
        MPI_Request_free(&sent);
}

/* Takes what others said under a tag, one by one. */
static bool hear(int tag, int *rank, char *word) {
    int there = 0;
    MPI_Status status;
    if (MPI_Iprobe(MPI_ANY_SOURCE, tag, MPI_COMM_WORLD, &there, &status) || !there) return false;
    *rank = status.MPI_SOURCE;
    return MPI_Recv(word, 1, MPI_BYTE, *rank, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE) ==
           MPI_SUCCESS;
}

void mpi_answer(CommWord own) {
    int rank;
    char word;
    while (hear(TAG_QUESTION, &rank, &word)) send_word(rank, TAG_ANSWER, own);
}

void mpi_roll_call(const Mpi *mpi, CommWord own, char *said, double seconds) {
    int left = mpi->size - 1, rank;
    char word;
    memset(said, COMM_SILENT, (size_t)mpi->size);
    said[mpi->rank] = (char)own;
    for (int r = 0; r < mpi->size; r++)
        if (r != mpi->rank) send_word(r, TAG_QUESTION, own);
    for (double began = clock_seconds(); left && clock_seconds() - began < seconds;) {
        mpi_answer(own);
        while (hear(TAG_ANSWER, &rank, &word)) {
            left -= said[rank] == COMM_SILENT;
            said[rank] = word;
        }
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
}

/* Until a collective that `code` says has begun is over. MPI's own waiting would be without end,
 * and deaf to the questions of other ranks. With `bulk` much is on its way and MPI must be called
 * often to move it; otherwise a rank that waits for slower ones soon leaves them the processor. */
static Err finish(const Mpi *mpi, int code, MPI_Request *request, bool bulk, const char *what) {
    enum { SPINS = 2000, NAP_NANOSECONDS = 50000 };
    CommWait wait = {0};
    for (int turn = 0;; turn++) {
        int done = 0;
        TRY(mpi_check(code, what));
        code = MPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (code == MPI_SUCCESS && done) return OK;
        if (turn < SPINS) continue;
        if (mpi->comm) comm_keep_waiting(mpi->comm, &wait, COMM_WAITS, "the other ranks");
        if (bulk || turn < 2 * SPINS)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = NAP_NANOSECONDS}, NULL);
    }
}

/* ---- together ---- */

enum {
    PIECE = 1 << 28, /* bytes in one MPI call: its counts are ints */
    BULK = 1 << 16
};

Err mpi_broadcast(const Mpi *mpi, int root, void *data, size_t bytes) {
    for (size_t at = 0; at < bytes; at += PIECE) {
        int count = (int)(bytes - at < PIECE ? bytes - at : PIECE);
        MPI_Request request;
        int code = MPI_Ibcast((char *)data + at, count, MPI_BYTE, root, MPI_COMM_WORLD, &request);
        TRY(finish(mpi, code, &request, bytes >= BULK, "broadcast"));
    }
    return OK;
}

Err mpi_gather_all(const Mpi *mpi, void *all, const void *own, size_t bytes) {
    CHECK(bytes <= PIECE, "%zu bytes a rank", bytes);
    MPI_Request request;
    int code = MPI_Iallgather(own, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, MPI_COMM_WORLD,
                              &request);
    return finish(mpi, code, &request, bytes >= BULK, "gather");
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

Err mpi_gather_floats(const Mpi *mpi, float *all, const float *own, const int64_t *counts,
                      const int64_t *offsets) {
    bool in_place = own == all + offsets[mpi->rank];
    int *ints = calloc(2 * (size_t)mpi->size, sizeof *ints);
    CHECK(ints, "out of memory: %d ranks", mpi->size);
    int64_t total;
    Err err = to_ints(ints, counts, mpi->size, &total);
    if (err == OK) err = to_ints(ints + mpi->size, offsets, mpi->size, &total);
    MPI_Request request;
    if (err == OK) {
        int code = MPI_Iallgatherv(in_place ? MPI_IN_PLACE : own, ints[mpi->rank], MPI_FLOAT, all,
                                   ints, ints + mpi->size, MPI_FLOAT, MPI_COMM_WORLD, &request);
        err = finish(mpi, code, &request, true, "gather");
    }
    free(ints);
    return err;
}

Err mpi_exchange_floats(const Mpi *mpi, float *received, const int64_t *receive_counts,
                        const float *send, const int64_t *send_counts) {
    size_t n = (size_t)mpi->size;
    int *ints = calloc(4 * n, sizeof *ints);
    CHECK(ints, "out of memory: %d ranks", mpi->size);
    int *send_ints = ints, *send_at = ints + n, *receive_ints = ints + 2 * n,
        *receive_at = ints + 3 * n;
    int64_t sent, got;
    Err err = to_ints(send_ints, send_counts, mpi->size, &sent);
    if (err == OK) err = to_ints(receive_ints, receive_counts, mpi->size, &got);
    if (err == OK && (sent > INT_MAX || got > INT_MAX))
        err =
            err_raise(ERR_COMM, __FILE__, __LINE__, "%lld floats in one exchange; %d are possible",
                      (long long)(sent > got ? sent : got), INT_MAX);
    for (size_t i = 1; i < n && err == OK; i++) {
        send_at[i] = send_at[i - 1] + send_ints[i - 1];
        receive_at[i] = receive_at[i - 1] + receive_ints[i - 1];
    }
    MPI_Request request;
    if (err == OK) {
        int code = MPI_Ialltoallv(send, send_ints, send_at, MPI_FLOAT, received, receive_ints,
                                  receive_at, MPI_FLOAT, MPI_COMM_WORLD, &request);
        err = finish(mpi, code, &request, true, "exchange gradients");
    }
    free(ints);
    return err;
}

Err mpi_least(const Mpi *mpi, int own, int *least) {
    MPI_Request request;
    int code = MPI_Iallreduce(&own, least, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD, &request);
    return finish(mpi, code, &request, false, "agree");
}

Err mpi_barrier(const Mpi *mpi) {
    MPI_Request request;
    return finish(mpi, MPI_Ibarrier(MPI_COMM_WORLD, &request), &request, false,
                  "wait for all ranks");
}

Err mpi_open(Mpi **out) {
    Mpi *mpi = calloc(1, sizeof *mpi);
    CHECK(mpi, "out of memory: a job");
    *mpi = (Mpi){.size = 1, .local_size = 1};
    *out = mpi;
    return join(mpi);
}
