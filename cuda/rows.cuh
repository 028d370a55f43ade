/* What the kernels on rows share: rows as a kernel sees them, elements loaded 16 bytes at a time,
 * sums over the threads that share a row, and the walk of everything elementwise.
 *
 * All these kernels are bound by memory, so they count bytes: each element is read once and written
 * once, in accesses of 16 bytes, and enough of them are under way at a time. By Little's law an
 * H200 (4.8 TB/s, 132 SMs, about 0.8 µs from load to use) wants 29 KB in flight on each SM, an A100
 * (2.0 TB/s, 108 SMs) 15 KB; a thread that holds four loads of 16 bytes gets there at a quarter of
 * the SM's 2048 threads. Loads therefore come first, all of them, then arithmetic and stores: the
 * compiler may not move a load over a store that could hit the same memory, and in place work means
 * that it could. */
#ifndef CADVLM_CUDA_ROWS_CUH
#define CADVLM_CUDA_ROWS_CUH

#include "cuda/kernel.cuh"

#include "cuda/cuda_ops.h"

namespace rowwise {

/* ---- rows ---- */

/* A tensor's rows, as elements of one type; T is const where they are only read. */
template <typename T> struct Rows {
    T *data;
    int64_t stride;

    __device__ __forceinline__ T *operator[](int64_t row) const { return data + row * stride; }
};

template <typename T> Rows<T> rows_of(Tensor t) {
    return {static_cast<T *>(t.data), t.stride};
}

/* Whether every row starts at a multiple of 16 bytes and is one long. */
static inline bool rows_aligned(Tensor t) {
    int64_t size = static_cast<int64_t>(dtype_size(t.dtype));
    return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && t.cols * size % 16 == 0 &&
           (t.rows <= 1 || t.stride * size % 16 == 0);
}

/* Calls f with a value of the C++ type that a compute type stands for. */
template <typename F> void with_type(DType dtype, F f) {
    switch (dtype) {
    case DT_F32: return f(float());
    case DT_BF16: return f(bf16());
    case DT_F16: return f(f16());
    default: CHECK(false, "%s is no compute type", dtype_name(dtype));
    }
}

/* ---- N neighbouring elements ---- */

template <int N> struct Values { float x[N]; };

/* N neighbours as they lie in memory, N·sizeof(T) a multiple of 16 bytes and aligned so. What a
 * thread keeps of a row it keeps like this: half the registers of f32 for the 16-bit types. */
template <typename T, int N> struct Bits {
    static constexpr int words = N * static_cast<int>(sizeof(T)) / 16, each = 16 / sizeof(T);
    static_assert(words * 16 == N * static_cast<int>(sizeof(T)), "whole accesses");
    uint4 word[words];

    __device__ __forceinline__ void load(const T *from) {
#pragma unroll
        for (int i = 0; i < words; i++) word[i] = reinterpret_cast<const uint4 *>(from)[i];
    }

    __device__ __forceinline__ void store(T *to) const {
#pragma unroll
        for (int i = 0; i < words; i++) reinterpret_cast<uint4 *>(to)[i] = word[i];
    }

    /* Before a use: the elements have stayed in these words and not been widened to f32 earlier. */
    __device__ __forceinline__ void forget() {
#pragma unroll
        for (int i = 0; i < words; i++) ptx::forget(word[i]);
    }

    __device__ __forceinline__ Values<N> values() const {
        Values<N> v;
#pragma unroll
        for (int i = 0; i < words; i++) {
            Pack<T> p = unpack<T>(word[i]);
#pragma unroll
            for (int k = 0; k < each; k++) v.x[i * each + k] = p.x[k];
        }
        return v;
    }

    __device__ __forceinline__ void set(const Values<N> &v) {
#pragma unroll
        for (int i = 0; i < words; i++) {
            const float *x = v.x + i * each;
            if constexpr (sizeof(T) == 4)
                word[i] = repack<T>(Pack<T>{{x[0], x[1], x[2], x[3]}});
            else /* two at a time: one instruction converts both */
                word[i] = {pack2(x[0], x[1], T()), pack2(x[2], x[3], T()), pack2(x[4], x[5], T()),
                           pack2(x[6], x[7], T())};
        }
    }
};

/* One element, for rows that start anywhere. */
template <typename T> struct Bits<T, 1> {
    T one;

    __device__ __forceinline__ void load(const T *from) { one = *from; }

    __device__ __forceinline__ void store(T *to) const { *to = one; }

    __device__ __forceinline__ void forget() {}

    __device__ __forceinline__ Values<1> values() const { return {{to_float(one)}}; }

    __device__ __forceinline__ void set(const Values<1> &v) { one = from_float<T>(v.x[0]); }
};

template <typename T, int N> __device__ __forceinline__ Values<N> load_values(const T *from) {
    Bits<T, N> bits;
    bits.load(from);
    return bits.values();
}

template <typename T, int N>
__device__ __forceinline__ void store_values(T *to, const Values<N> &v) {
    Bits<T, N> bits;
    bits.set(v);
    bits.store(to);
}

/* ---- sums over a team: the TEAM threads, a warp or a block, that share a row ---- */

/* Leaves each of COUNT sums in all threads of the team, added in a fixed order. Successive calls
 * alternate between turn 0 and 1: then one barrier is enough, as nobody writes again what others
 * still read before all have passed the barrier in between. */
template <int TEAM, int COUNT>
__device__ __forceinline__ void team_sum(float (&x)[COUNT], int turn) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) x[i] = warp_sum(x[i]);
    if constexpr (TEAM > 32) {
        SHARED(float, warps, [2][COUNT][TEAM / 32]);
        if (threadIdx.x % 32 == 0)
            for (int i = 0; i < COUNT; i++) warps[turn][i][threadIdx.x / 32] = x[i];
        __syncthreads();
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            x[i] = 0;
            for (int w = 0; w < TEAM / 32; w++) x[i] += warps[turn][i][w];
        }
    }
}

/* ---- everything elementwise ---- */

constexpr int MAP_THREADS = 256, MAP_ROWS = 2;

/* A thread does pack `at` of two rows at a time: op.load of both, then op.store of both. An Op has
 *   Loaded: what load returns and store takes;
 *   Loaded load(int64_t row, int64_t at) const;
 *   void store(int64_t row, int64_t at, const Loaded &) const. */
template <typename Op>
__global__ void __launch_bounds__(MAP_THREADS) map_rows(Op op, int64_t rows, int64_t packs) {
    int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= packs) return;
    int64_t block_rows = static_cast<int64_t>(blockDim.y) * MAP_ROWS;
    for (int64_t first = blockIdx.y * block_rows + threadIdx.y; first < rows;
         first += gridDim.y * block_rows) {
        typename Op::Loaded loaded[MAP_ROWS];
#pragma unroll
        for (int i = 0; i < MAP_ROWS; i++) {
            int64_t row = first + i * static_cast<int64_t>(blockDim.y);
            if (row < rows) loaded[i] = op.load(row, at);
        }
#pragma unroll
        for (int i = 0; i < MAP_ROWS; i++) {
            int64_t row = first + i * static_cast<int64_t>(blockDim.y);
            if (row < rows) op.store(row, at, loaded[i]);
        }
    }
}

/* Blocks are as wide as a row where that is under 256 packs, then several rows high; else a row is
 * cut into equal pieces, so that few threads are idle (SigLIP's 4304 columns: 538 packs, 3 · 192
 * threads). */
static inline dim3 map_block(int64_t packs) {
    int64_t pieces = ceil_div<int64_t>(packs, MAP_THREADS);
    int64_t wide = ceil_div<int64_t>(ceil_div(packs, pieces), 32) * 32;
    return dim3(static_cast<unsigned>(wide), static_cast<unsigned>(MAP_THREADS / wide));
}

template <typename Op> void launch_map(cudaStream_t stream, Op op, int64_t rows, int64_t packs) {
    if (rows == 0 || packs == 0) return;
    dim3 block = map_block(packs);
    int64_t high = ceil_div<int64_t>(rows, block.y * MAP_ROWS);
    dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(packs, block.x)),
              static_cast<unsigned>(high < 65535 ? high : 65535));
    LAUNCH((map_rows<Op>), grid, block, 0, stream, op, rows, packs);
}

} // namespace rowwise

#endif
