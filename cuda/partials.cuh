/* Sums over rows that blocks have made in parts, for the gradients of parameters that all rows
 * share.
 *
 * Each block leaves one row of partial sums in scratch memory, and a second kernel adds them in a
 * fixed order: no atomics, the same bits every time. How many parts there are is a function of the
 * shape alone, not of the device, so that it is the same bits everywhere. */
#ifndef CADVLM_CUDA_PARTIALS_CUH
#define CADVLM_CUDA_PARTIALS_CUH

#include "cuda/kernel.cuh"

/* Four blocks for each SM of an H200. */
constexpr int MAX_PARTIALS = 528;

/* One gradient: dst[width] += Σ_b parts[b][width], b = 0 … count - 1. */
struct PartialSum {
    float *dst;
    const float *parts;
    int count;
};

constexpr int PARTIAL_COLS = 32, PARTIAL_ROWS = 16;

/* A block sums 32 columns of the first or (blockIdx.y) second gradient: warp i adds parts i, i +
 * 16, … in order, then the first warp adds the 16 results in order. Floor: 4·count·width bytes,
 * which the kernel before has just left in the L2 cache. */
template <int COLS>
__global__ void __launch_bounds__(COLS *PARTIAL_ROWS)
    add_partials(PartialSum first, PartialSum second, int64_t width) {
    SHARED(float, sums, [PARTIAL_ROWS][COLS]);
    PartialSum s = blockIdx.y ? second : first;
    int64_t c = static_cast<int64_t>(blockIdx.x) * COLS + threadIdx.x;
    float sum = 0;
    if (c < width) {
#pragma unroll 4
        for (int b = threadIdx.y; b < s.count; b += PARTIAL_ROWS) sum += s.parts[b * width + c];
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || c >= width) return;
    float total = 0;
#pragma unroll
    for (int i = 0; i < PARTIAL_ROWS; i++) total += sums[i][threadIdx.x];
    s.dst[c] += total;
}

/* `second` may have no dst. */
static inline void launch_partials(cudaStream_t stream, PartialSum first, PartialSum second,
                                   int64_t width) {
    dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(width, PARTIAL_COLS)), second.dst ? 2 : 1);
    LAUNCH((add_partials<PARTIAL_COLS>), grid, dim3(PARTIAL_COLS, PARTIAL_ROWS), 0, stream, first,
           second, width);
}

#endif
