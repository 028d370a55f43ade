/* Small kernels that test the emulation itself: instructions of whole warps, and faults that it
 * must find. Each fault is what somebody could write by mistake. */
#include "cuda/kernel.cuh"

#include "tests/cuda/emu_kernels.h"

namespace {

template <typename T> __global__ void mma_kernel(float *d, const uint32_t *a, const uint32_t *b) {
    int lane = threadIdx.x;
    float sums[4] = {1, 2, 3, 4};
    uint32_t fa[4], fb[2];
    for (int i = 0; i < 4; i++) fa[i] = a[4 * lane + i];
    for (int i = 0; i < 2; i++) fb[i] = b[2 * lane + i];
    ptx::mma_16816(sums, fa, fb, T());
    for (int i = 0; i < 4; i++) d[4 * lane + i] = sums[i];
}

__global__ void ldmatrix_kernel(uint32_t *out, const uint16_t *tile, bool trans) {
    SHARED(uint16_t, shared, [16][24]); /* rows of 48 bytes: aligned, not dense */
    for (int i = threadIdx.x; i < 256; i += 32) shared[i / 16][i % 16] = tile[i];
    __syncthreads();
    int lane = threadIdx.x;
    const void *row = &shared[lane % 16][lane / 16 * 8];
    uint32_t four[4], two[2];
    if (trans) {
        ptx::ldmatrix_x4_trans(four, row);
        ptx::ldmatrix_x2_trans(two, row);
    } else {
        ptx::ldmatrix_x4(four, row);
        ptx::ldmatrix_x2(two, row);
    }
    for (int i = 0; i < 4; i++) out[6 * lane + i] = four[i];
    for (int i = 0; i < 2; i++) out[6 * lane + 4 + i] = two[i];
}

/* What votes and shuffles give, a row of five numbers a lane. */
__global__ void warp_kernel(int *out) {
    int lane = threadIdx.x;
    out[5 * lane] = __shfl_xor_sync(FULL_MASK, lane, 5);
    out[5 * lane + 1] = __shfl_down_sync(FULL_MASK, lane, 3, 8);
    out[5 * lane + 2] = __shfl_up_sync(FULL_MASK, lane, 1);
    out[5 * lane + 3] = static_cast<int>(__ballot_sync(FULL_MASK, lane % 3 == 0));
    out[5 * lane + 4] =
        lane < 16 ? __shfl_sync(0x0000FFFFu, lane, 7) : __shfl_sync(0xFFFF0000u, lane, 20);
}

/* ---- faults ---- */

__global__ void no_barrier(float *out) {
    SHARED(float, x, [64]);
    x[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = x[63 - threadIdx.x];
}

__global__ void no_barrier_before_reuse(float *out) {
    SHARED(float, x, [64]);
    float sum = 0;
    for (int round = 0; round < 2; round++) {
        x[threadIdx.x] = threadIdx.x + round;
        __syncthreads();
        sum += x[63 - threadIdx.x];
    }
    out[threadIdx.x] = sum;
}

__global__ void no_syncwarp(float *out) {
    SHARED(float, x, [32]);
    x[threadIdx.x] = threadIdx.x;
    float other = __shfl_xor_sync(FULL_MASK, 1.0f, 1); /* orders nothing */
    out[threadIdx.x] = x[31 - threadIdx.x] + other;
}

__global__ void with_syncwarp(float *out) {
    SHARED(float, x, [32]);
    x[threadIdx.x] = threadIdx.x;
    __syncwarp();
    out[threadIdx.x] = x[31 - threadIdx.x];
}

__global__ void blocks_add(float *out) {
    if (threadIdx.x == 0) out[0] += 1;
}

__global__ void blocks_add_atomically(float *out) {
    if (threadIdx.x == 0) atomicAdd(out, 1.0f);
}

__global__ void some_at_the_barrier(float *out) {
    if (threadIdx.x < 7) __syncthreads();
    out[threadIdx.x] = 0;
}

__global__ void two_barriers(float *out) {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = 0;
}

__global__ void half_a_warp_shuffles(float *out) {
    float x = 0;
    if (threadIdx.x % 32 < 16) x = __shfl_xor_sync(FULL_MASK, 1.0f, 1);
    out[threadIdx.x] = x;
}

__global__ void shuffle_from_outside(float *out) {
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0x0000FFFFu, 1.0f, 20);
}

__global__ void copy_not_waited_for(float *out) {
    DYN_SHARED(float, tile);
    ptx::cp_async16(tile + 4 * threadIdx.x, out + 4 * threadIdx.x);
    ptx::cp_async_commit();
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}

__global__ void copy_read_too_early(float *out) {
    DYN_SHARED(float, tile);
    ptx::cp_async16(tile + 4 * threadIdx.x, out + 4 * threadIdx.x);
    ptx::cp_async_commit();
    float early = tile[4 * threadIdx.x];
    ptx::cp_async_wait<0>();
    out[4 * threadIdx.x] = early;
}

__global__ void beyond_shared(float *out) {
    SHARED(float, x, [64]);
    x[threadIdx.x + 1] = 1;
    __syncthreads();
    out[threadIdx.x] = x[threadIdx.x];
}

__global__ void beyond_global(float *out) {
    out[threadIdx.x + 1] = 1;
}

__global__ void misaligned(float *out) {
    uint4 x = *reinterpret_cast<uint4 *>(out + 1);
    out[threadIdx.x] = __uint_as_float(x.x);
}

__global__ void shared_not_written(float *out) {
    SHARED(float, x, [64]);
    if (threadIdx.x < 32) x[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = x[threadIdx.x];
}

/* A sum by the block that comes last, found by a ticket. */
__global__ void last_block(float *out, bool acquire) {
    SHARED(float, ticket, [1]);
    out[1 + blockIdx.x] = 1;
    __threadfence();
    if (threadIdx.x == 0) ticket[0] = atomicAdd(out, 1.0f);
    __syncthreads();
    if (ticket[0] != static_cast<float>(gridDim.x - 1)) return;
    if (acquire) GRID_ACQUIRE();
    float sum = 0;
    for (unsigned i = 0; i < gridDim.x; i++) sum += out[1 + i];
    if (threadIdx.x == 0) out[1 + gridDim.x] = sum;
}

} // namespace

extern "C" void emu_mma(float *d, const uint32_t *a, const uint32_t *b, int is_f16) {
    if (is_f16)
        LAUNCH(mma_kernel<f16>, 1, 32, 0, NULL, d, a, b);
    else
        LAUNCH(mma_kernel<bf16>, 1, 32, 0, NULL, d, a, b);
}

extern "C" void emu_ldmatrix(uint32_t *out, const uint16_t *tile, int trans) {
    LAUNCH(ldmatrix_kernel, 1, 32, 0, NULL, out, tile, trans != 0);
}

extern "C" void emu_warp(int *out) {
    LAUNCH(warp_kernel, 1, 32, 0, NULL, out);
}

extern "C" void emu_fault(EmuFault fault, float *out) {
    switch (fault) {
    case FAULT_NO_BARRIER: LAUNCH(no_barrier, 1, 64, 0, NULL, out); break;
    case FAULT_REUSE: LAUNCH(no_barrier_before_reuse, 1, 64, 0, NULL, out); break;
    case FAULT_NO_SYNCWARP: LAUNCH(no_syncwarp, 1, 32, 0, NULL, out); break;
    case FAULT_BLOCKS_ADD: LAUNCH(blocks_add, 3, 64, 0, NULL, out); break;
    case FAULT_SOME_AT_BARRIER: LAUNCH(some_at_the_barrier, 1, 64, 0, NULL, out); break;
    case FAULT_TWO_BARRIERS: LAUNCH(two_barriers, 1, 64, 0, NULL, out); break;
    case FAULT_HALF_WARP: LAUNCH(half_a_warp_shuffles, 1, 64, 0, NULL, out); break;
    case FAULT_SHUFFLE_OUTSIDE: LAUNCH(shuffle_from_outside, 1, 64, 0, NULL, out); break;
    case FAULT_COPY_NOT_WAITED: LAUNCH(copy_not_waited_for, 1, 16, 256, NULL, out); break;
    case FAULT_COPY_EARLY: LAUNCH(copy_read_too_early, 1, 16, 256, NULL, out); break;
    case FAULT_BEYOND_SHARED: LAUNCH(beyond_shared, 1, 64, 0, NULL, out); break;
    case FAULT_BEYOND_GLOBAL: LAUNCH(beyond_global, 1, 64, 0, NULL, out); break;
    case FAULT_MISALIGNED: LAUNCH(misaligned, 1, 1, 0, NULL, out); break;
    case FAULT_NOT_WRITTEN: LAUNCH(shared_not_written, 1, 64, 0, NULL, out); break;
    case FAULT_NO_ACQUIRE: LAUNCH(last_block, 3, 1, 0, NULL, out, false); break;
    case FAULT_NO_DYNAMIC: LAUNCH(copy_read_too_early, 1, 16, 0, NULL, out); break;
    case FAULT_COUNT: break;
    }
}

extern "C" void emu_sound(int which, float *out) {
    switch (which) {
    case 0: LAUNCH(with_syncwarp, 1, 32, 0, NULL, out); break;
    case 1: LAUNCH(blocks_add_atomically, 3, 64, 0, NULL, out); break;
    case 2: LAUNCH(last_block, 3, 1, 0, NULL, out, true); break;
    }
}
