/* A stand-in for the CUDA runtime library: devices, memory, streams, events, as far as cadvlm uses
 * them.
 *
 * Nothing that is asked of a stream happens at once. Work waits in the stream's queue until
 * something waits for it (a synchronisation, a copy to ordinary host memory); then queues are
 * worked off in a random mixture that respects events and nothing else. So what is missing an event
 * or a wait shows, and memory that is given to a copy too early is read too late. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "cuda/emu/control.h"
#include "cuda/emu/emu.h"
#include "cuda/emu/inside.h"
#include "cuda/emu/streams.h"

struct CUevent_st {
    int64_t recorded, reached; /* numbers of the last record asked for and worked off */
    double seconds;
};

namespace {

/* What a block may have on the smallest GPUs that are supported (8.6, 8.9, 12.0). */
constexpr int SHARED_MOST = 99 << 10;

struct Work {
    std::function<void()> run;
    CUevent_st *waits; /* not before this event has reached `until` */
    int64_t until;
    std::function<bool()> ready; /* nor before this says so; it may be asked often. Or none */
};

double seconds_now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

} // namespace

struct CUgraph_st {
    std::vector<std::function<void()>> works;
};

struct CUgraphExec_st {
    std::vector<std::function<void()>> works;
};

struct CUstream_st {
    CUgraph_st *capture = NULL; /* what is asked for is kept there, not done */
    std::deque<Work> queue;
    bool running = false;
};

namespace {

void tell_counts();

/* Never destroyed, so that leak checkers see what they hold. */
struct Runtime {
    std::set<CUstream_st *> streams;
    CUstream_st legacy;
    std::vector<CUevent_st *> destroyed;
    std::map<uintptr_t, size_t> device, pinned; /* start, length */
    std::map<const void *, int> shared_limits;  /* cudaFuncSetAttribute */
    size_t memory_limit = static_cast<size_t>(8) << 30, memory_used = 0;
    int devices = 1, device_index = 0;
    cudaError_t error = cudaSuccess;
    cudaError_t broken = cudaSuccess; /* by a kernel; what every call returns from then on */
    std::string failing;           /* a kernel with this in its name breaks the device; "": none */
    std::string hanging, stopping; /* likewise: never ends; stops the process at its launch */
    bool idle = false;             /* kernels and products are counted, and not run */
    EmuCounts counts = {};
    Runtime() {
        const char *kernel = getenv("CADVLM_EMU_FAIL");
        if (kernel) failing = kernel;
        if ((kernel = getenv("CADVLM_EMU_HANG"))) hanging = kernel;
        if ((kernel = getenv("CADVLM_EMU_STOP"))) stopping = kernel;
        idle = getenv("CADVLM_EMU_IDLE") != NULL;
        if (idle) atexit(tell_counts);

        const char *count = getenv("CADVLM_EMU_DEVICES");
        if (count) devices = atoi(count);
        const char *memory = getenv("CADVLM_EMU_MEMORY");
        if (memory) memory_limit = strtoull(memory, NULL, 10);
        streams.insert(&legacy);
    }
};

Runtime &rt() {
    static Runtime &runtime = *new Runtime();
    return runtime;
}

cudaError_t fail(cudaError_t error) {
    rt().error = error;
    return error;
}

void tell_counts() {
    const EmuCounts &c = rt().counts;
    fprintf(
        stderr,
        "emulation: %lld kernels launched, %lld graphs, %lld waits, %lld allocations and frees\n",
        static_cast<long long>(c.launches), static_cast<long long>(c.graphs),
        static_cast<long long>(c.waits), static_cast<long long>(c.allocations));
}

/* Whether a kernel is what the environment asked for; "": nothing. */
bool is_named(const char *kernel, const std::string &asked) {
    return !asked.empty() && strstr(kernel, asked.c_str());
}

/* Of a call that has done what it does. */
cudaError_t outcome() {
    return rt().broken == cudaSuccess ? cudaSuccess : fail(rt().broken);
}

CUstream_st *stream_of(cudaStream_t stream) {
    return stream ? stream : &rt().legacy;
}

bool can_run(const CUstream_st *s) {
    if (s->queue.empty() || s->running) return false;
    const Work &next = s->queue.front();
    return (!next.waits || next.waits->reached >= next.until) && (!next.ready || next.ready());
}

/* Runs the next work of any stream that has some, in a random mixture; false where none has. */
bool work_once() {
    std::vector<CUstream_st *> able;
    for (CUstream_st *s : rt().streams)
        if (can_run(s)) able.push_back(s);
    if (able.empty()) return false;
    CUstream_st *s = able[emu::chance.below(static_cast<unsigned>(able.size()))];
    Work work = s->queue.front();
    s->queue.pop_front();
    s->running = true;
    work.run();
    s->running = false;
    return true;
}

/* Whether other processes may still let some work go on. */
bool waits_for_others() {
    for (CUstream_st *s : rt().streams)
        if (!s->queue.empty() && s->queue.front().ready) return true;
    return false;
}

/* Works queues off until `done` says so. */
template <typename Done> void work_until(Done done) {
    while (!done()) {
        if (work_once()) continue;
        if (!waits_for_others()) emu::report("a stream waits for an event that nothing will reach");
        usleep(200);
    }
}

void wait_for_all() {
    rt().counts.waits++;
    work_until([] {
        for (CUstream_st *s : rt().streams)
            if (!s->queue.empty()) return false;
        return true;
    });
}

void wait_for_stream(CUstream_st *s) {
    if (s->capture) emu::report("waiting for a stream while its work is being captured");
    rt().counts.waits++;
    work_until([s] { return s->queue.empty(); });
}

std::map<uintptr_t, size_t>::iterator block_of(std::map<uintptr_t, size_t> &blocks, const void *p) {
    uintptr_t at = reinterpret_cast<uintptr_t>(p);
    auto it = blocks.upper_bound(at);
    if (it == blocks.begin()) return blocks.end();
    --it;
    return at < it->first + it->second ? it : blocks.end();
}

bool is_pinned(const void *p) {
    return block_of(rt().pinned, p) != rt().pinned.end();
}

void copy_now(void *to, const void *from, size_t bytes) {
    if (emu::is_device_memory(from)) emu::memory_read(from, bytes);
    memcpy(to, from, bytes);
    if (emu::is_device_memory(to)) emu::memory_written(to, bytes);
}

} // namespace

namespace emu {

void enqueue(cudaStream_t stream, std::function<void()> work) {
    CUstream_st *s = stream_of(stream);
    if (s->capture)
        s->capture->works.push_back(std::move(work));
    else
        s->queue.push_back({std::move(work), NULL, 0, nullptr});
}

void enqueue_when(cudaStream_t stream, std::function<bool()> ready, std::function<void()> work) {
    if (stream_of(stream)->capture) report("work that waits for other ranks is being captured");
    stream_of(stream)->queue.push_back({std::move(work), NULL, 0, std::move(ready)});
}

bool is_device_memory(const void *at) {
    return block_of(rt().device, at) != rt().device.end();
}

void check_device_range(const void *at, size_t bytes, const char *who) {
    auto block = block_of(rt().device, at);
    if (block == rt().device.end()) return;
    size_t left = block->first + block->second - reinterpret_cast<uintptr_t>(at);
    if (bytes > left)
        report("%s reaches %zu bytes behind the end of its memory", who, bytes - left);
}

void launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, std::function<void()> body) {
    unsigned long long threads = static_cast<unsigned long long>(block.x) * block.y * block.z;
    auto limit = rt().shared_limits.find(kernel);
    size_t allowed =
        limit == rt().shared_limits.end() ? 48 << 10 : static_cast<size_t>(limit->second);
    if (threads == 0 || threads > 1024 || !grid.x || !grid.y || !grid.z || grid.y > 65535 ||
        grid.z > 65535 || grid.x > 0x7FFFFFFFu || shared_bytes > allowed) {
        fprintf(stderr,
                "emulation: %s cannot be launched: grid (%u,%u,%u), block (%u,%u,%u), %zu bytes of "
                "shared memory (%zu allowed)\n",
                name, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared_bytes, allowed);
        rt().error = cudaErrorInvalidConfiguration;
        return;
    }
    rt().counts.launches++;
    if (outcome() != cudaSuccess || rt().idle) return;
    if (is_named(name, rt().stopping)) raise(SIGSTOP);
    if (is_named(name, rt().hanging))
        enqueue_when(
            stream, [] { return false; }, [] {});
    enqueue(stream, [=] {
        if (is_named(name, rt().failing)) rt().broken = cudaErrorIllegalAddress;
        if (rt().broken == cudaSuccess) run_grid(name, grid, block, shared_bytes, body);
    });
}

bool is_idle() {
    return rt().idle;
}

bool is_broken() {
    return rt().broken != cudaSuccess;
}

} // namespace emu

/* ---- control ---- */

extern "C" void emu_set_devices(int count) {
    rt().devices = count;
}

extern "C" void emu_fail_kernel(const char *name) {
    rt().failing = name;
    rt().broken = cudaSuccess;
}

extern "C" void emu_set_memory(size_t bytes) {
    rt().memory_limit = bytes;
}

extern "C" EmuCounts emu_counts(void) {
    return rt().counts;
}

/* ---- devices ---- */

extern "C" {

cudaError_t cudaGetDeviceCount(int *count) {
    if (rt().devices < 0) return fail(cudaErrorInsufficientDriver);
    if (rt().devices == 0) return fail(cudaErrorNoDevice);
    *count = rt().devices;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= rt().devices) return fail(cudaErrorInvalidDevice);
    rt().device_index = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    *device = rt().device_index;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
    if (device < 0 || device >= rt().devices) return fail(cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "emulated GPU");
    p->major = 8;
    p->minor = 0;
    p->multiProcessorCount = 4;
    p->totalGlobalMem = rt().memory_limit;
    p->sharedMemPerBlockOptin = SHARED_MOST;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->l2CacheSize = 1 << 20;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int) {
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = 4; return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = SHARED_MOST; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor: *value = 8; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; return cudaSuccess;
    default: return fail(cudaErrorInvalidValue);
    }
}

cudaError_t cudaDeviceGetPCIBusId(char *out, int size, int device) {
    if (device < 0 || device >= rt().devices) return fail(cudaErrorInvalidDevice);
    snprintf(out, static_cast<size_t>(size), "0000:%02X:00.0", static_cast<unsigned>(device) & 255);
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    *total = rt().memory_limit;
    *available = rt().memory_limit - rt().memory_used;
    return cudaSuccess;
}

/* ---- errors ---- */

cudaError_t cudaGetLastError(void) {
    cudaError_t error = rt().error;
    rt().error = rt().broken;
    return error;
}

cudaError_t cudaPeekAtLastError(void) {
    return rt().error;
}

const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInsufficientDriver:
        return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    default: return "an error of the emulated runtime";
    }
}

const char *cudaGetErrorName(cudaError_t error) {
    return cudaGetErrorString(error);
}

/* ---- memory ---- */

cudaError_t cudaMalloc(void **at, size_t bytes) {
    for (const CUstream_st *s : rt().streams)
        if (s->capture) emu::report("cudaMalloc while the work of a stream is being captured");
    rt().counts.allocations++;
    if (bytes > rt().memory_limit - rt().memory_used) return fail(cudaErrorMemoryAllocation);
    *at = emu::memory_take(bytes, "device memory");
    if (!*at) return fail(cudaErrorMemoryAllocation);
    rt().device[reinterpret_cast<uintptr_t>(*at)] = bytes;
    rt().memory_used += bytes;
    return outcome();
}

cudaError_t cudaFree(void *at) {
    if (!at) return cudaSuccess;
    auto block = rt().device.find(reinterpret_cast<uintptr_t>(at));
    if (block == rt().device.end()) return fail(cudaErrorInvalidValue);
    wait_for_all();
    rt().counts.allocations++;
    rt().memory_used -= block->second;
    rt().device.erase(block);
    emu::memory_give(at);
    return outcome();
}

cudaError_t cudaHostAlloc(void **at, size_t bytes, unsigned) {
    rt().counts.allocations++;
    *at = malloc(bytes ? bytes : 1);
    if (!*at) return fail(cudaErrorMemoryAllocation);
    memset(*at, 0xFF, bytes);
    rt().pinned[reinterpret_cast<uintptr_t>(*at)] = bytes;
    return outcome();
}

cudaError_t cudaMallocHost(void **at, size_t bytes) {
    return cudaHostAlloc(at, bytes, 0);
}

cudaError_t cudaFreeHost(void *at) {
    if (!at) return cudaSuccess;
    wait_for_all();
    rt().counts.allocations++;
    rt().pinned.erase(reinterpret_cast<uintptr_t>(at));
    free(at);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind,
                            cudaStream_t stream) {
    emu::check_device_range(to, bytes, "a copy");
    emu::check_device_range(from, bytes, "a copy");
    bool host_source = !emu::is_device_memory(from), host_target = !emu::is_device_memory(to);
    if (host_source && !is_pinned(from)) {
        /* The runtime has read ordinary memory when it returns. */
        std::vector<char> kept(static_cast<const char *>(from),
                               static_cast<const char *>(from) + bytes);
        emu::enqueue(stream, [=] { copy_now(to, kept.data(), bytes); });
    } else {
        emu::enqueue(stream, [=] { copy_now(to, from, bytes); });
        if (host_target && !is_pinned(to)) wait_for_stream(stream_of(stream));
    }
    return outcome();
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, NULL);
    wait_for_all();
    return error;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind kind,
                              cudaStream_t stream) {
    for (size_t i = 0; i < height; i++) {
        cudaError_t error =
            cudaMemcpyAsync(static_cast<char *>(to) + i * to_pitch,
                            static_cast<const char *>(from) + i * from_pitch, width, kind, stream);
        if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *at, int value, size_t bytes, cudaStream_t stream) {
    emu::check_device_range(at, bytes, "cudaMemsetAsync");
    emu::enqueue(stream, [=] {
        memset(at, value, bytes);
        emu::memory_written(at, bytes);
    });
    return outcome();
}

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    *stream = new CUstream_st();
    rt().streams.insert(*stream);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = *greatest = 0;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int) {
    return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    wait_for_stream(stream);
    rt().streams.erase(stream);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    wait_for_stream(stream_of(stream));
    return outcome();
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    /* Asking makes a little progress, as time does. */
    CUstream_st *s = stream_of(stream);
    size_t before = s->queue.size();
    while (!s->queue.empty() && s->queue.size() == before && work_once()) {
    }
    return s->queue.empty() ? outcome() : cudaErrorNotReady;
}

/* ---- graphs: the work of one stream, kept ---- */

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    *status =
        stream_of(stream)->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode) {
    CUstream_st *s = stream_of(stream);
    if (s->capture) return fail(cudaErrorIllegalState);
    s->capture = new CUgraph_st();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    CUstream_st *s = stream_of(stream);
    if (!s->capture) return fail(cudaErrorIllegalState);
    *graph = s->capture;
    s->capture = NULL;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
    *exec = new CUgraphExec_st{graph->works};
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    rt().counts.graphs++;
    for (const std::function<void()> &work : exec->works) emu::enqueue(stream, work);
    return outcome();
}

cudaError_t cudaDeviceSynchronize(void) {
    wait_for_all();
    return outcome();
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    stream_of(stream)->queue.push_back({[] {}, event, event->recorded, nullptr});
    return cudaSuccess;
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    *event = new CUevent_st();
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
    return cudaEventCreateWithFlags(event, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    rt().destroyed.push_back(event); /* work in streams may still wait for it */
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    int64_t number = ++event->recorded;
    emu::enqueue(stream, [=] {
        event->reached = number;
        event->seconds = seconds_now();
    });
    return outcome();
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (event->reached >= event->recorded) return outcome();
    rt().counts.waits++;
    work_until([event] { return event->reached >= event->recorded; });
    return outcome();
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    return event->reached >= event->recorded ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) {
    *ms = static_cast<float>(1e3 * (to->seconds - from->seconds));
    return outcome();
}

/* ---- kernels ---- */

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value) {
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value > SHARED_MOST) return fail(cudaErrorInvalidValue);
    rt().shared_limits[kernel] = value;
    return cudaSuccess;
}

} // extern "C"
