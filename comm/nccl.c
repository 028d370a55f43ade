/* Sums over GPUs by NCCL; see the header.
 *
 * The communicator is non-blocking: a call may return ncclInProgress, a thread of NCCL then does
 * the work, and until that is over nothing may be asked of the communicator or put behind the call
 * in its stream. So each function here first settles what the one before left. In return no call
 * hangs out of reach: whatever takes too long is aborted with a sentence that says who and what. */
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm/device.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/system.h"

enum {
    CONNECT_SECONDS = 300, /* for all ranks to find each other: some still load libraries */
    CLOSE_SECONDS = 10,    /* for what is left at the end */
    NAP_NANOSECONDS = 20000
};

/* Where a rank's GPU is. The boot id distinguishes machines whose containers have the same name;
 * the bus id is what NCCL itself goes by. */
typedef struct Place {
    char host[64], boot[BOOT_ID_SIZE], bus[24];
} Place;

struct CommDevice {
    Comm *comm;
    ncclComm_t nccl; /* NULL: not connected, or given up */
    cudaStream_t compute, stream;
    cudaEvent_t written; /* what the next sum reads, on the compute stream */
    cudaEvent_t summed;  /* all sums asked for, on the stream of the sums */
    Place place;
    /* For who reads an error: which sum of which round was asked for last. A join ends a round. */
    int64_t round, sum;
    bool joined;
};

/* ---- failing ---- */

static Err cuda_check(const CommDevice *d, cudaError_t error, const char *doing) {
    REQUIRE(error == cudaSuccess, ERR_DEVICE, "NCCL on GPU %s of %s: %s: %s", d->place.bus,
            d->place.host, doing, cudaGetErrorString(error));
    return OK;
}

/* Gives the communicator up and says who was doing what. */
static Err give_up(CommDevice *d, ncclResult_t result, const char *doing) {
    const char *why = result == ncclInProgress ? "no answer" : ncclGetErrorString(result),
               *more = ncclGetLastError(d->nccl);
    char last[64] = "";
    if (d->round)
        snprintf(last, sizeof last, ", asked last for all-reduce %lld of round %lld",
                 (long long)d->sum, (long long)d->round);
    Err err = err_raise(ERR_COMM, __FILE__, __LINE__,
                        "NCCL fails on rank %d of %d (GPU %s of %s) while %s%s: %s%s%s",
                        comm_rank(d->comm), comm_size(d->comm), d->place.bus, d->place.host, doing,
                        last, why, more && more[0] ? ": " : "", more ? more : "");
    if (d->nccl) ncclCommAbort(d->nccl);
    d->nccl = NULL;
    return err;
}

static void nap(void) {
    nanosleep(&(struct timespec){.tv_nsec = NAP_NANOSECONDS}, NULL);
}

/* How NCCL stands with what was asked of it. */
static ncclResult_t state_of(const CommDevice *d) {
    ncclResult_t state = ncclInternalError;
    ncclResult_t asked = ncclCommGetAsyncError(d->nccl, &state);
    return asked == ncclSuccess ? state : asked;
}

/* Until NCCL has put what it was asked for into its stream, or connected. */
static Err settle(CommDevice *d, const char *doing) {
    REQUIRE(d->nccl, ERR_COMM, "NCCL was given up after an error");
    double began = clock_seconds();
    ncclResult_t state;
    while ((state = state_of(d)) == ncclInProgress && clock_seconds() - began < CONNECT_SECONDS)
        nap();
    return state == ncclSuccess ? OK : give_up(d, state, doing);
}

/* ---- opening ---- */

static Err open_here(CommDevice *d) {
    int gpu, least, greatest;
    gethostname(d->place.host, sizeof d->place.host - 1);
    system_boot_id(d->place.boot);
    TRY(cuda_check(d, cudaGetDevice(&gpu), "which GPU"));
    TRY(cuda_check(d, cudaDeviceGetPCIBusId(d->place.bus, sizeof d->place.bus, gpu), "its place"));
    /* Sums go first where both streams have work: the sooner the wires are busy, the better. */
    TRY(cuda_check(d, cudaDeviceGetStreamPriorityRange(&least, &greatest), "priorities"));
    TRY(cuda_check(d, cudaStreamCreateWithPriority(&d->stream, cudaStreamNonBlocking, greatest),
                   "a stream"));
    TRY(cuda_check(d, cudaEventCreateWithFlags(&d->written, cudaEventDisableTiming), "an event"));
    return cuda_check(d, cudaEventCreateWithFlags(&d->summed, cudaEventDisableTiming), "an event");
}

static bool is_same_gpu(const Place *a, const Place *b) {
    bool same_machine =
        a->boot[0] && b->boot[0] ? !strcmp(a->boot, b->boot) : !strcmp(a->host, b->host);
    return same_machine && !strcmp(a->bus, b->bus);
}

/* Collective. Whether two ranks use one GPU; rank 0 says which. */
static Err find_shared(const CommDevice *d, bool *shared) {
    int size = comm_size(d->comm);
    Place *all = calloc((size_t)size, sizeof *all);
    CHECK(all, "out of memory: %d ranks", size);
    Err err = comm_gather_all(d->comm, all, &d->place, sizeof *all);
    *shared = false;
    for (int i = 0; i < size && err == OK && !*shared; i++)
        for (int j = 0; j < i && !*shared; j++) {
            *shared = is_same_gpu(&all[i], &all[j]);
            if (*shared && comm_rank(d->comm) == 0)
                log_warn("two ranks share GPU %s of %s (%d and %d), which NCCL cannot: gradients "
                         "go through the host",
                         all[i].bus, all[i].host, j, i);
        }
    free(all);
    return err;
}

static Err connect_here(CommDevice *d, ncclUniqueId id) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclResult_t result =
        ncclCommInitRankConfig(&d->nccl, comm_size(d->comm), id, comm_rank(d->comm), &config);
    if (result != ncclSuccess && result != ncclInProgress) return give_up(d, result, "connecting");
    return settle(d, "connecting");
}

/* Collective. The id is all that ranks must know to find each other. */
static Err connect_all(CommDevice *d) {
    ncclUniqueId id = {0};
    ncclResult_t result = comm_rank(d->comm) == 0 ? ncclGetUniqueId(&id) : ncclSuccess;
    TRY(comm_agree(d->comm, result == ncclSuccess ? OK : give_up(d, result, "making an id")));
    TRY(comm_broadcast(d->comm, &id, sizeof id));
    TRY(comm_agree(d->comm, connect_here(d, id)));
    int version = 0;
    ncclGetVersion(&version);
    if (comm_rank(d->comm) == 0)
        log_info("gradients are summed over %d GPUs by NCCL %d.%d.%d", comm_size(d->comm),
                 version / 10000, version / 100 % 100, version % 100);
    return OK;
}

const char *comm_device_version(void) {
    static char text[32];
    int v = 0;
    if (ncclGetVersion(&v) != ncclSuccess) return "unknown";
    snprintf(text, sizeof text, "NCCL %d.%d.%d", v / 10000, v / 100 % 100, v % 100);
    return text;
}

Err comm_device_open(CommDevice **out, Comm *comm, void *compute_stream) {
    *out = NULL;
    CommDevice *d = calloc(1, sizeof *d);
    CHECK(d, "out of memory: a communicator of GPUs");
    *d = (CommDevice){.comm = comm, .compute = compute_stream, .place.bus = "?", .joined = true};
    bool shared = false;
    Err err = comm_agree(comm, open_here(d));
    if (err == OK) err = find_shared(d, &shared);
    if (err == OK && !shared) err = connect_all(d);
    if (err == OK && !shared)
        *out = d;
    else
        comm_device_close(&d);
    return err;
}

/* ---- closing ---- */

/* Whether the stream of the sums comes to rest in time. */
static bool comes_to_rest(const CommDevice *d) {
    double began = clock_seconds();
    cudaError_t state;
    while ((state = cudaStreamQuery(d->stream)) == cudaErrorNotReady &&
           clock_seconds() - began < CLOSE_SECONDS)
        nap();
    (void)cudaGetLastError();
    return state == cudaSuccess && state_of(d) == ncclSuccess;
}

static bool finalize(CommDevice *d) {
    double began = clock_seconds();
    ncclResult_t state = ncclCommFinalize(d->nccl);
    while (state == ncclInProgress && clock_seconds() - began < CLOSE_SECONDS) {
        nap();
        state = state_of(d);
    }
    return state == ncclSuccess;
}

void comm_device_close(CommDevice **out) {
    CommDevice *d = *out;
    if (!d) return;
    /* Sums of a step that was broken off never end: other ranks may not have asked for theirs. */
    bool good = d->nccl && d->joined && comes_to_rest(d) && finalize(d);
    if (good)
        ncclCommDestroy(d->nccl);
    else if (d->nccl)
        ncclCommAbort(d->nccl);
    if (d->stream) cudaStreamDestroy(d->stream);
    if (d->written) cudaEventDestroy(d->written);
    if (d->summed) cudaEventDestroy(d->summed);
    free(d);
    *out = NULL;
}

/* ---- sums ---- */

Err comm_device_sum(CommDevice *d, float *data, int64_t count) {
    TRY(settle(d, "starting an all-reduce"));
    if (d->joined) {
        d->round++;
        d->sum = 0;
        d->joined = false;
    }
    d->sum++;
    TRY(cuda_check(d, cudaEventRecord(d->written, d->compute), "an event"));
    TRY(cuda_check(d, cudaStreamWaitEvent(d->stream, d->written, 0), "an event"));
    ncclResult_t result =
        ncclAllReduce(data, data, (size_t)count, ncclFloat32, ncclSum, d->nccl, d->stream);
    if (result != ncclSuccess && result != ncclInProgress)
        return give_up(d, result, "asking for an all-reduce");
    return OK;
}

Err comm_device_join(CommDevice *d) {
    TRY(settle(d, "starting an all-reduce"));
    TRY(cuda_check(d, cudaEventRecord(d->summed, d->stream), "an event"));
    TRY(cuda_check(d, cudaStreamWaitEvent(d->compute, d->summed, 0), "an event"));
    d->joined = true;
    return OK;
}

/* Whether this rank's own GPU has come to the last sum. */
static CommWord word_of(const CommDevice *d) {
    cudaError_t written = cudaEventQuery(d->written);
    (void)cudaGetLastError();
    return written == cudaErrorNotReady ? COMM_COMPUTES : COMM_WAITS;
}

/* NCCL reports no error where a rank hangs, or the network drops what is sent: that is for
 * comm_keep_waiting to find out. */
Err comm_device_wait(CommDevice *d) {
    CommWait wait = {0};
    char what[64];
    snprintf(what, sizeof what, "all-reduce %lld of round %lld", (long long)d->sum,
             (long long)d->round);
    for (;;) {
        TRY(settle(d, "starting an all-reduce"));
        cudaError_t state = cudaStreamQuery(d->stream);
        ncclResult_t result = state_of(d); /* asked after the stream: nothing slips through */
        if (result != ncclSuccess) return give_up(d, result, "summing");
        if (state != cudaErrorNotReady) return cuda_check(d, state, "summing");
        (void)cudaGetLastError(); /* not being ready counts as an error there */
        comm_keep_waiting(d->comm, &wait, word_of(d), what);
        nap();
    }
}
