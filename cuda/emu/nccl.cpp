/* A stand-in for NCCL, as far as cadvlm uses it: ranks are processes of one machine that add floats
 * through shared memory.
 *
 * A sum waits in its stream like all work of the emulation, and at the front of it for the other
 * ranks; all add in the order of ranks and get the same bits. What NCCL's
 * callers must not rely on is made to fail: a non-blocking communicator puts an all-reduce into its
 * stream no sooner than ncclCommGetAsyncError is asked, and refuses another call before that. A
 * rank that dies, or gives up, is an error of the others within a time limit. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>

#include "cuda/emu/emu.h"
#include "cuda/emu/inside.h"
#include "cuda/emu/streams.h"

#include <nccl.h> /* after emu.h, which takes the keywords of CUDA away */

namespace {

enum {
    RANKS_MAX = 16,
    CHUNK = 1 << 15,   /* floats exchanged at a time */
    WAIT_SECONDS = 60, /* for other ranks, then they count as dead */
};

double seconds_now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/* What a rank puts on the table: the next piece of its sum, and of how long a sum. */
struct Offer {
    uint64_t count;
    float values[CHUNK];
};

/* Shared by all ranks; fresh shared memory is zero, which is a good start. */
struct Table {
    std::atomic<uint32_t> attached, arrived, meetings, broken;
    std::atomic<int> devices[RANKS_MAX];   /* index + 1 */
    std::atomic<uint64_t> came[RANKS_MAX]; /* to how many sums */
    /* Two in turn: who is quick fills the one while others still read the other. */
    Offer offers[2][RANKS_MAX];
};

void futex_wait(std::atomic<uint32_t> *word, uint32_t value) {
    timespec most = {0, 50000000}; /* then a look whether others are still there */
    syscall(SYS_futex, word, FUTEX_WAIT, value, &most, NULL, 0);
}

void futex_wake(std::atomic<uint32_t> *word) {
    syscall(SYS_futex, word, FUTEX_WAKE, RANKS_MAX, NULL, NULL, 0);
}

} // namespace

namespace {

/* One rank of a communicator. */
struct Member {
    Table *table;
    char name[sizeof(ncclUniqueId)];
    int rank, size;
    bool blocking, connected, aborted;
    double began;
    uint64_t sums;   /* come to so far */
    uint64_t chunks; /* exchanged so far: which of two offers is next */
    ncclResult_t failure;
    std::function<void()> pending; /* an all-reduce that is not yet in its stream */
    ~Member() {
        if (table) munmap(table, sizeof(Table));
    }
};

} // namespace

/* Work in a stream may outlive an aborted communicator: both hold the member. */
struct ncclComm {
    std::shared_ptr<Member> member;
};

namespace {

/* For all ranks to come; false when one of them does not. */
bool meet(Member *c) {
    Table *t = c->table;
    uint32_t before = t->meetings;
    double limit = seconds_now() + WAIT_SECONDS;
    if (++t->arrived == static_cast<uint32_t>(c->size)) {
        t->arrived = 0;
        t->meetings++;
        futex_wake(&t->meetings);
    }
    while (t->meetings == before) {
        if (t->broken || seconds_now() > limit) {
            t->broken = 1;
            return false;
        }
        futex_wait(&t->meetings, before);
    }
    return true;
}

void add_up(Member *c, const float *send, float *received, size_t count) {
    for (size_t at = 0; at < count && !c->failure && !c->aborted; at += CHUNK) {
        Offer *offers = c->table->offers[c->chunks++ % 2];
        size_t now = std::min(count - at, static_cast<size_t>(CHUNK));
        offers[c->rank].count = count;
        memcpy(offers[c->rank].values, send + at, now * sizeof *send);
        if (!meet(c)) {
            c->failure = ncclRemoteError;
            return;
        }
        for (int r = 0; r < c->size; r++)
            if (offers[r].count != count)
                emu::report("ncclAllReduce: rank %d sums %llu floats, rank %d sums %llu", c->rank,
                            static_cast<unsigned long long>(count), r,
                            static_cast<unsigned long long>(offers[r].count));
        for (size_t i = 0; i < now; i++) {
            float sum = offers[0].values[i];
            for (int r = 1; r < c->size; r++) sum += offers[r].values[i];
            received[at + i] = sum;
        }
    }
}

/* Whether all ranks have come to sum number `sum`, this one now; or one of them never will. */
bool all_came(Member *c, uint64_t sum, double began) {
    Table *t = c->table;
    t->came[c->rank] = sum;
    if (t->broken || c->aborted || seconds_now() - began > WAIT_SECONDS) return true;
    for (int r = 0; r < c->size; r++)
        if (t->came[r] < sum) return false;
    return true;
}

/* Whether all ranks are at the table. The last of them takes its name away. */
ncclResult_t look_around(Member *c) {
    Table *t = c->table;
    if (t->attached < static_cast<uint32_t>(c->size)) {
        if (!t->broken && seconds_now() - c->began < WAIT_SECONDS) return ncclInProgress;
        t->broken = 1;
        shm_unlink(c->name);
        return ncclRemoteError;
    }
    shm_unlink(c->name);
    for (int r = 0; r < c->size; r++)
        if (r != c->rank && t->devices[r] == t->devices[c->rank]) return ncclInvalidUsage;
    c->connected = true;
    return ncclSuccess;
}

ncclResult_t attach(Member *c, const ncclUniqueId *id) {
    snprintf(c->name, sizeof c->name, "%s", id->internal);
    int file = shm_open(c->name, O_CREAT | O_RDWR, 0600);
    if (file < 0) return ncclSystemError;
    void *memory = ftruncate(file, sizeof(Table)) == 0
                       ? mmap(NULL, sizeof(Table), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
                       : MAP_FAILED;
    close(file);
    if (memory == MAP_FAILED) return ncclSystemError;
    c->table = static_cast<Table *>(memory);
    int device = 0;
    cudaGetDevice(&device);
    c->table->devices[c->rank] = device + 1;
    c->table->attached++;
    c->began = seconds_now();
    return ncclSuccess;
}

/* A call on a communicator that still has an earlier one to finish is an error of the caller. */
ncclResult_t ensure_ready(const Member *c) {
    if (!c->connected || c->pending) return ncclInvalidArgument;
    return c->failure;
}

} // namespace

extern "C" {

ncclResult_t ncclGetVersion(int *version) {
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    static int made;
    timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "/cadvlm-emu-nccl-%d-%d-%lld", getpid(), made++,
             static_cast<long long>(t.tv_sec) * 1000000000 + t.tv_nsec);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
    *out = NULL;
    if (size < 1 || size > RANKS_MAX || rank < 0 || rank >= size) return ncclInvalidArgument;
    std::shared_ptr<Member> c = std::make_shared<Member>();
    c->rank = rank;
    c->size = size;
    c->blocking = !config || config->blocking != 0;
    ncclResult_t result = attach(c.get(), &id);
    if (result != ncclSuccess) return result;
    *out = new ncclComm{c};
    result = ncclInProgress;
    while (c->blocking && (result = look_around(c.get())) == ncclInProgress) usleep(1000);
    if (result != ncclInProgress) c->failure = result;
    return result;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state) {
    Member *c = comm->member.get();
    *state = c->failure;
    if (c->failure) return ncclSuccess;
    if (!c->connected) {
        *state = look_around(c);
        if (*state != ncclInProgress) c->failure = *state;
    } else if (c->pending) {
        /* Now, as late as can be, it gets into the stream; the next look sees it there. */
        c->pending();
        c->pending = nullptr;
        *state = ncclInProgress;
    }
    return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *send, void *received, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
    Member *c = comm->member.get();
    ncclResult_t ready = ensure_ready(c);
    if (ready != ncclSuccess) return ready;
    if (type != ncclFloat32 || op != ncclSum) return ncclInvalidArgument;
    size_t bytes = count * sizeof(float);
    if (!emu::is_device_memory(send) || !emu::is_device_memory(received))
        emu::report("ncclAllReduce: memory of the host");
    emu::check_device_range(send, bytes, "ncclAllReduce");
    emu::check_device_range(received, bytes, "ncclAllReduce");
    std::shared_ptr<Member> kept = comm->member;
    std::function<void()> put = [=] {
        uint64_t sum = ++kept->sums;
        std::shared_ptr<double> began = std::make_shared<double>(0);
        auto all_there = [=] {
            if (*began == 0) *began = seconds_now();
            return all_came(kept.get(), sum, *began);
        };
        emu::enqueue_when(stream, all_there, [=] {
            emu::memory_read(send, bytes);
            add_up(kept.get(), static_cast<const float *>(send), static_cast<float *>(received),
                   count);
            emu::memory_written(received, bytes);
        });
    };
    if (!c->blocking) {
        c->pending = put;
        return ncclInProgress;
    }
    put();
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    return ensure_ready(comm->member.get());
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    delete comm;
    return ncclSuccess;
}

/* Other ranks hear of it at once, as they do when a connection breaks. */
ncclResult_t ncclCommAbort(ncclComm_t comm) {
    Member *c = comm->member.get();
    c->aborted = true;
    c->pending = nullptr;
    c->table->broken = 1;
    shm_unlink(c->name);
    return ncclCommDestroy(comm);
}

const char *ncclGetErrorString(ncclResult_t result) {
    switch (result) {
    case ncclSuccess: return "no error";
    case ncclSystemError: return "unhandled system error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "remote process exited or there was a network error";
    case ncclInProgress: return "NCCL operation in progress";
    default: return "an error of the emulated NCCL";
    }
}

const char *ncclGetLastError(ncclComm_t) {
    return "";
}

} // extern "C"
