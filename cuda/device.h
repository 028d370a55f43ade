/* One GPU as an Exec sees it: its stream, scratch memory, staging, events. */
#ifndef CADVLM_CUDA_DEVICE_H
#define CADVLM_CUDA_DEVICE_H

#include <cuda_runtime_api.h>

#include "cuda/matmul.h"
#include "ops/backend.h"

/* Pinned memory of the host that a copy may still be reading. */
typedef struct Stage {
    void *host;
    size_t bytes;
    cudaEvent_t sent;
} Stage;

/* What was done under a key, to be done again. */
typedef struct CapturedGraph {
    uint64_t key;
    bool rehearsed, running; /* seen once; between begin and end */
    cudaGraphExec_t exec;    /* NULL: not captured yet */
} CapturedGraph;

typedef struct CudaDevice {
    int index;
    cudaStream_t stream; /* all operations, in order */
    CudaMatmuls *matmuls;
    /* Scratch that an operation may use until the next one begins. Dry passes find out how much;
     * exec_settle_scratch allocates it. */
    void *scratch;
    size_t scratch_bytes, scratch_needed;
    Stage stages[2];
    int stage; /* the one that was handed out last */
    CapturedGraph graph;
    cudaEvent_t *events;
    int event_count;
    double datasheet_flops; /* 0: unknown */
    bool sync;              /* wait after every operation, so that an error names its kernel */
} CudaDevice;

static inline CudaDevice *device_of(const Exec *ex) {
    return ex->state;
}

/* Rows of the table that are not operations. */
Err device_open(Exec *ex, int index);
void device_close(Exec *ex);
void *device_alloc(Exec *ex, size_t bytes);
void device_free(Exec *ex, void *memory, size_t bytes);
void device_upload(Exec *ex, void *device, const void *host, size_t bytes);
void device_download(Exec *ex, void *host, const void *device, size_t bytes);
void device_zero(Exec *ex, void *device, size_t bytes);
void device_copy(Exec *ex, void *to, const void *from, size_t bytes);
void device_wait(Exec *ex);
Err device_settle_scratch(Exec *ex);
size_t device_scratch_bytes(const Exec *ex);
ProductCounts device_product_counts(const Exec *ex);
void *device_stream(const Exec *ex);
void device_memory(Exec *ex, size_t *total, size_t *available);
void *device_stage(Exec *ex, size_t bytes);
void device_send(Exec *ex, void *device, size_t bytes);
bool device_graph_launch(Exec *ex, uint64_t key);
void device_graph_capture_begin(Exec *ex, uint64_t key);
void device_graph_capture_end(Exec *ex);
void device_graph_forget(Exec *ex);
Err device_events(Exec *ex, int count);
void device_event_record(Exec *ex, int event);
double device_event_seconds(Exec *ex, int from, int to);
void device_range_begin(Exec *ex, const char *name);
void device_range_end(Exec *ex);
double device_peak_flops(Exec *ex);
double device_datasheet_flops(const Exec *ex);

/* FLOP/s of bf16 products on a GPU of that name, by its datasheet; 0: unknown. */
double cuda_datasheet_flops(const char *gpu);

/* In a dry pass: notes the need, and there is nothing to do (false). Otherwise: `bytes` of scratch
 * (NULL for none). */
bool device_scratch(Exec *ex, size_t bytes, void **scratch);

/* After the launches of `op`: their errors go to exec_status. */
void device_launched(Exec *ex, const char *op);

#endif
