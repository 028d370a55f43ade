/* One GPU as an Exec sees it; see the header. */
#include "cuda/device.h"

#include <ctype.h>
#include <nvtx3/nvToolsExt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/switches.h"

/* ---- errors ---- */

/* Whether an error is of the call that returned it. Others come from work that was asked for
 * before, by whoever asks next. */
static bool is_of_this_call(cudaError_t error) {
    return error == cudaErrorInvalidConfiguration || error == cudaErrorInvalidValue ||
           error == cudaErrorLaunchOutOfResources || error == cudaErrorNoKernelImageForDevice ||
           error == cudaErrorMemoryAllocation;
}

/* Keeps an error of the runtime for exec_status, the first one: a broken device fails every call,
 * and what closes it down must not speak in its place. */
static void keep(Exec *ex, cudaError_t error, const char *doing) {
    if (error == cudaSuccess) return;
    bool vague = !device_of(ex)->sync && !is_of_this_call(error);
    ErrState before;
    err_save(&before);
    IGNORE(err_raise(ERR_DEVICE, __FILE__, __LINE__, "%s: %s on GPU %d%s", doing,
                     cudaGetErrorString(error), device_of(ex)->index,
                     vague ? " (an operation before may have failed: CADVLM_CUDA_SYNC=1 in the "
                             "environment names it)"
                           : ""));
    exec_fail(ex);
    IGNORE(err_restore(&before));
}

void device_launched(Exec *ex, const char *op) {
    keep(ex, cudaGetLastError(), op);
    if (device_of(ex)->sync) keep(ex, cudaStreamSynchronize(device_of(ex)->stream), op);
}

#define CUDA_TRY(call)                                                                             \
    do {                                                                                           \
        cudaError_t error_ = (call);                                                               \
        REQUIRE(error_ == cudaSuccess, ERR_DEVICE, "%s: %s", #call, cudaGetErrorString(error_));   \
    } while (0)

/* ---- opening ---- */

static Err open_inside(Exec *ex, CudaDevice *d) {
    struct cudaDeviceProp properties;
    CUDA_TRY(cudaSetDevice(d->index));
    CUDA_TRY(cudaGetDeviceProperties(&properties, d->index));
    REQUIRE(properties.major >= 8, ERR_UNSUPPORTED,
            "GPU %d (%s) has compute capability %d.%d; 8.0 (A100) and later are supported: set "
            "device: cpu",
            d->index, properties.name, properties.major, properties.minor);
    CUDA_TRY(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking));
    for (int i = 0; i < 2; i++)
        CUDA_TRY(cudaEventCreateWithFlags(&d->stages[i].sent, cudaEventDisableTiming));
    TRY(cuda_matmuls_open(&d->matmuls));
    d->datasheet_flops = cuda_datasheet_flops(properties.name);
    int runtime = 0;
    CUDA_TRY(cudaRuntimeGetVersion(&runtime));
    snprintf(ex->description, sizeof ex->description, "cuda (GPU %d: %.60s, %zu GiB, CUDA %d.%d%s)",
             d->index, properties.name, properties.totalGlobalMem >> 30, runtime / 1000,
             runtime % 1000 / 10, cuda_switches_text());
    return OK;
}

Err device_open(Exec *ex, int index) {
    CudaDevice *d = calloc(1, sizeof *d);
    REQUIRE(d, ERR_MEMORY, "out of memory: the CUDA backend");
    ex->state = d;
    d->index = index;
    d->stage = 1;
    Err err = cuda_switches_read();
    d->sync = cuda_switches()->sync;
    if (err == OK) err = open_inside(ex, d);
    if (err != OK) device_close(ex);
    return err;
}

void device_close(Exec *ex) {
    CudaDevice *d = device_of(ex);
    if (d->stream) cudaStreamSynchronize(d->stream);
    device_graph_forget(ex);
    cuda_matmuls_close(&d->matmuls);
    cudaFree(d->scratch);
    for (int i = 0; i < 2; i++) {
        cudaFreeHost(d->stages[i].host);
        if (d->stages[i].sent) cudaEventDestroy(d->stages[i].sent);
    }
    for (int i = 0; i < d->event_count; i++) cudaEventDestroy(d->events[i]);
    free(d->events);
    if (d->stream) cudaStreamDestroy(d->stream);
    free(d);
    ex->state = NULL;
}

/* ---- memory ---- */

void *device_alloc(Exec *ex, size_t bytes) {
    void *memory = NULL;
    if (cudaMalloc(&memory, bytes ? bytes : 64) != cudaSuccess) {
        (void)cudaGetLastError(); /* the caller says what was too large */
        return NULL;
    }
    device_zero(ex, memory, bytes);
    return memory;
}

void device_free(Exec *ex, void *memory, size_t bytes) {
    (void)bytes;
    keep(ex, cudaFree(memory), "giving memory back");
}

void device_upload(Exec *ex, void *device, const void *host, size_t bytes) {
    keep(ex, cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, device_of(ex)->stream),
         "copying to the device");
}

void device_download(Exec *ex, void *host, const void *device, size_t bytes) {
    keep(ex, cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, device_of(ex)->stream),
         "copying from the device");
    device_wait(ex);
}

void device_zero(Exec *ex, void *device, size_t bytes) {
    if (bytes)
        keep(ex, cudaMemsetAsync(device, 0, bytes, device_of(ex)->stream), "clearing memory");
}

void device_copy(Exec *ex, void *to, const void *from, size_t bytes) {
    keep(ex, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, device_of(ex)->stream),
         "copying on the device");
}

void device_wait(Exec *ex) {
    keep(ex, cudaStreamSynchronize(device_of(ex)->stream), "waiting for the device");
}

void device_memory(Exec *ex, size_t *total, size_t *available) {
    keep(ex, cudaMemGetInfo(available, total), "asking for memory");
}

void *device_stream(const Exec *ex) {
    return device_of(ex)->stream;
}

/* ---- scratch ---- */

Err device_settle_scratch(Exec *ex) {
    CudaDevice *d = device_of(ex);
    if (d->scratch_needed <= d->scratch_bytes) return OK;
    CUDA_TRY(cudaFree(d->scratch)); /* waits for who still uses it */
    d->scratch = NULL;
    d->scratch_bytes = 0;
    cudaError_t error = cudaMalloc(&d->scratch, d->scratch_needed);
    (void)cudaGetLastError();
    REQUIRE(error == cudaSuccess, ERR_MEMORY,
            "out of memory: operations need %zu MiB of scratch memory on GPU %d; lower "
            "training.per_device_batch_size or training.max_length",
            d->scratch_needed >> 20, d->index);
    d->scratch_bytes = d->scratch_needed;
    return OK;
}

size_t device_scratch_bytes(const Exec *ex) {
    const CudaDevice *d = device_of(ex);
    return d->scratch_bytes + cuda_matmuls_bytes(d->matmuls);
}

ProductCounts device_product_counts(const Exec *ex) {
    return cuda_matmuls_counts(device_of(ex)->matmuls);
}

bool device_scratch(Exec *ex, size_t bytes, void **scratch) {
    CudaDevice *d = device_of(ex);
    if (bytes > d->scratch_needed) d->scratch_needed = bytes;
    if (ex->dry) return false;
    /* Only where no dry pass has said so before. */
    if (bytes > d->scratch_bytes && device_settle_scratch(ex) != OK) {
        exec_fail(ex);
        return false;
    }
    *scratch = d->scratch;
    return true;
}

/* ---- staging ---- */

static bool stage_need(Exec *ex, Stage *s, size_t bytes) {
    if (bytes <= s->bytes) return true;
    keep(ex, cudaEventSynchronize(s->sent), "waiting for a batch on its way");
    cudaFreeHost(s->host);
    *s = (Stage){.sent = s->sent};
    if (cudaMallocHost(&s->host, bytes) != cudaSuccess) {
        (void)cudaGetLastError();
        return false;
    }
    s->bytes = bytes;
    return true;
}

void *device_stage(Exec *ex, size_t bytes) {
    CudaDevice *d = device_of(ex);
    /* Both, so that what was large enough once needs no memory later. */
    if (!stage_need(ex, &d->stages[0], bytes) || !stage_need(ex, &d->stages[1], bytes)) return NULL;
    d->stage = 1 - d->stage;
    Stage *s = &d->stages[d->stage];
    keep(ex, cudaEventSynchronize(s->sent), "waiting for a batch on its way");
    return s->host;
}

void device_send(Exec *ex, void *device, size_t bytes) {
    CudaDevice *d = device_of(ex);
    Stage *s = &d->stages[d->stage];
    CHECK(bytes <= s->bytes, "%zu bytes sent, %zu staged", bytes, s->bytes);
    keep(ex, cudaMemcpyAsync(device, s->host, bytes, cudaMemcpyHostToDevice, d->stream),
         "sending a batch");
    keep(ex, cudaEventRecord(s->sent, d->stream), "sending a batch");
}

/* ---- recordings ---- */

void device_graph_forget(Exec *ex) {
    CudaDevice *d = device_of(ex);
    if (d->graph.exec) keep(ex, cudaGraphExecDestroy(d->graph.exec), "forgetting a graph");
    d->graph = (CapturedGraph){0};
}

bool device_graph_launch(Exec *ex, uint64_t key) {
    CudaDevice *d = device_of(ex);
    if (!d->graph.exec || d->graph.key != key) return false;
    keep(ex, cudaGraphLaunch(d->graph.exec, d->stream), "launching a graph");
    return true;
}

void device_graph_capture_begin(Exec *ex, uint64_t key) {
    CudaDevice *d = device_of(ex);
    CapturedGraph *r = &d->graph;
    if (r->key != key) {
        device_graph_forget(ex);
        r->key = key;
    }
    r->running = r->rehearsed && !d->sync; /* waiting cannot be captured */
    r->rehearsed = true;
    if (r->running)
        keep(ex, cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal),
             "capturing a graph");
}

void device_graph_capture_end(Exec *ex) {
    CudaDevice *d = device_of(ex);
    CapturedGraph *r = &d->graph;
    if (!r->running) return;
    r->running = false;
    cudaGraph_t graph = NULL;
    cudaError_t error = cudaStreamEndCapture(d->stream, &graph);
    if (error == cudaSuccess) error = cudaGraphInstantiate(&r->exec, graph, 0);
    keep(ex, error, "capturing a graph");
    if (graph) cudaGraphDestroy(graph);
    if (error == cudaSuccess)
        (void)device_graph_launch(ex, r->key); /* capturing does nothing yet */
}

/* ---- time ---- */

Err device_events(Exec *ex, int count) {
    CudaDevice *d = device_of(ex);
    for (int i = 0; i < d->event_count; i++) cudaEventDestroy(d->events[i]);
    free(d->events);
    d->event_count = 0;
    d->events = calloc((size_t)count + 1, sizeof *d->events);
    REQUIRE(d->events, ERR_MEMORY, "out of memory: %d events", count);
    for (; d->event_count < count; d->event_count++)
        CUDA_TRY(cudaEventCreateWithFlags(&d->events[d->event_count], cudaEventDefault));
    return OK;
}

void device_event_record(Exec *ex, int event) {
    keep(ex, cudaEventRecord(device_of(ex)->events[event], device_of(ex)->stream),
         "recording an event");
}

double device_event_seconds(Exec *ex, int from, int to) {
    float ms = 0;
    const CudaDevice *d = device_of(ex);
    keep(ex, cudaEventElapsedTime(&ms, d->events[from], d->events[to]), "reading the time");
    return 1e-3 * (double)ms;
}

void device_range_begin(Exec *ex, const char *name) {
    (void)ex;
    nvtxRangePushA(name);
}

void device_range_end(Exec *ex) {
    (void)ex;
    nvtxRangePop();
}

/* ---- the ceiling ---- */

enum { PEAK_BLOCK = 1 << 19, PEAK_RUNS = 6 };

/* Random numbers of either sign, ½ to 1, in bf16: zeros cost a GPU less power, and run faster than
 * work ever will. One block over and over. */
static void fill_random(Exec *ex, char *memory, size_t bytes) {
    static uint16_t block[PEAK_BLOCK];
    uint32_t x = 1;
    for (int i = 0; i < PEAK_BLOCK; i++) {
        x = x * 1664525u + 1013904223u; /* Numerical Recipes; its upper bits are good */
        block[i] = (uint16_t)(0x3F00u | (x >> 16 & 0x807Fu));
    }
    size_t done = bytes < sizeof block ? bytes : sizeof block;
    device_upload(ex, memory, block, done);
    for (size_t part; done < bytes; done += part) {
        part = bytes - done < done ? bytes - done : done;
        device_copy(ex, memory + done, memory, part);
    }
}

/* Seconds of one n³ product, the best of several; negative where it could not be measured. */
static double product_seconds(CudaDevice *d, Tensor c, Tensor a, Tensor b, cudaEvent_t events[2]) {
    float best = -1;
    for (int i = 0; i < PEAK_RUNS; i++) { /* the first time finds its plan */
        float ms;
        cudaEventRecord(events[0], d->stream);
        if (cuda_matmul(d->matmuls, d->stream,
                        &(CudaProduct){.c = c, .a = a, .b = b, .alpha = 1}) != OK)
            return -1;
        cudaEventRecord(events[1], d->stream);
        cudaEventSynchronize(events[1]);
        if (cudaEventElapsedTime(&ms, events[0], events[1]) != cudaSuccess) return -1;
        if (i > 0 && (best < 0 || ms < best)) best = ms;
    }
    return 1e-3 * (double)best;
}

/* bf16 products of growing size, until one takes a millisecond: small ones do not fill a GPU. */
double device_peak_flops(Exec *ex) {
    CudaDevice *d = device_of(ex);
    cudaEvent_t events[2] = {NULL, NULL};
    double best = 1;
    if (cudaEventCreateWithFlags(&events[0], cudaEventDefault) == cudaSuccess &&
        cudaEventCreateWithFlags(&events[1], cudaEventDefault) == cudaSuccess) {
        for (int64_t n = 256; n <= 8192; n *= 2) {
            size_t bytes = (size_t)(n * n) * 2;
            char *memory = device_alloc(ex, 3 * bytes);
            if (!memory) break;
            fill_random(ex, memory + bytes, 2 * bytes);
            double seconds = product_seconds(d, tensor(memory, DT_BF16, n, n),
                                             tensor(memory + bytes, DT_BF16, n, n),
                                             tensor(memory + 2 * bytes, DT_BF16, n, n), events);
            device_free(ex, memory, 3 * bytes);
            if (seconds <= 0) break;
            double rate = 2.0 * (double)n * (double)n * (double)n / seconds;
            if (rate > best) best = rate;
            if (seconds > 1e-3) break;
        }
    }
    for (int i = 0; i < 2; i++)
        if (events[i]) cudaEventDestroy(events[i]);
    return best;
}

double cuda_datasheet_flops(const char *gpu) {
    /* Dense bf16 into f32, TFLOP/s, by NVIDIA's datasheets; the first that is a word of the name.
     */
    static const struct {
        const char *name;
        double tflops;
    } sheets[] = {{"GB200", 2500},   {"B200", 2250},     {"GH200", 989},        {"H200", 989},
                  {"H100 NVL", 835}, {"H100 PCIe", 756}, {"H100", 989},         {"H800", 989},
                  {"A100", 312},     {"A800", 312},      {"A30", 165},          {"L40S", 362},
                  {"L40", 181},      {"L4", 121},        {"RTX 6000 Ada", 364}, {"RTX A6000", 155},
                  {"A40", 150},      {"A10", 125},       {"RTX 4090", 165},     {"RTX 3090", 71}};
    for (size_t i = 0; i < sizeof sheets / sizeof sheets[0]; i++) {
        const char *at = strstr(gpu, sheets[i].name);
        bool whole = at && !isalnum((unsigned char)at[strlen(sheets[i].name)]);
        if (whole) return 1e12 * sheets[i].tflops; /* an A4000 is no A40 */
    }
    return 0;
}

double device_datasheet_flops(const Exec *ex) {
    return device_of(ex)->datasheet_flops;
}
