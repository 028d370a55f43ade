/* What tests tell the emulation: in which order to run threads and streams, how many devices to
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

/* The most device memory a process may take; what goes beyond is cudaErrorMemoryAllocation. */
void emu_set_memory(size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
