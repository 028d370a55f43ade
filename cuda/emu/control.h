/* What tests ask of the emulation: in which order to run threads and streams, how many devices to
 * pretend. C and C++. */
#ifndef CADVLM_CUDA_EMU_CONTROL_H
#define CADVLM_CUDA_EMU_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 0: threads in order; 1: in reverse; other odd numbers: any thread next, by chance; other even
 * numbers: random priorities of warps, so that one runs as far ahead as it can (what finds a
 * barrier missing before memory is used again). Blocks come in random order from 2 on. Streams run
 * as late and in as mixed an order as their events allow. The environment's CADVLM_EMU_SEED sets
 * the start. */
void emu_set_schedule(uint64_t seed);

/* How many GPUs there are; 1 at the start (or CADVLM_EMU_DEVICES). -1: there is no driver. */
void emu_set_devices(int count);

/* Whether this is the race build. */
int emu_is_race_build(void);

/* Calls of cudaMalloc, cudaHostAlloc and cudaFree so far, of what waits for the device, of kernels
 * and graphs. */
typedef struct EmuCounts {
    int64_t allocations, waits, launches, graphs;
} EmuCounts;
EmuCounts emu_counts(void);

/* A kernel whose name holds `name` breaks the device when it runs, as an illegal access does:
 * nothing behind it runs, and every call from then on fails. "": none, and the device is whole
 * again. Or CADVLM_EMU_FAIL. */
void emu_fail_kernel(const char *name);

/* CADVLM_EMU_HANG names a kernel that never ends, CADVLM_EMU_STOP one at whose launch the process
 * is stopped (SIGSTOP), as a rank that hangs somewhere in the host's code.
 *
 * With CADVLM_EMU_IDLE in the environment kernels and products are checked and counted, and not
 * run: what is left is the host's own time. How many kernels it were is said at the end. */

/* The most device memory a process may take; what goes beyond is cudaErrorMemoryAllocation. */
void emu_set_memory(size_t bytes);

/* cublasLtMatmul refuses the first `candidates` algorithms (of three) that the heuristic gave it
 * for a product; only those of products with an epilogue where `fused`. 0 at the start, or
 * CADVLM_EMU_REFUSE: "1", "3", "3f". */
void emu_refuse_products(int candidates, int fused);

typedef struct EmuProductCounts {
    int64_t heuristics; /* calls of the heuristic */
    int64_t rounded;    /* products whose split sums were added in the type of the result */
    int64_t zeros;      /* products that were run with nothing but zeros in a factor's first line */
} EmuProductCounts;
EmuProductCounts emu_product_counts(void);

#ifdef __cplusplus
}
#endif

#endif
