/* The products of LoRA that dropout takes part in, on the tensor cores: what their three files
 * share.
 *
 * PEFT drops elements of x on its way into the adapter only, so that x · aᵀ, gᵀ · x and g · a each
 * need the mask, and the dropped x would be written once and read twice were it kept. Here it never
 * is: each kernel draws the mask of an element in registers (dropout.cuh) right where it has the
 * element anyway, once. The factor 1/(1-p) goes onto the f32 sums. An element that is dropped is
 * cleared, even where it is not finite; the layer's own product of x has it too.
 *
 * For r ≤ 128 all three are bound by memory rather than by the tensor cores: at r = 128 a 16-bit
 * element of x meets 256 FLOPs, and an H200 does 412 in the time it takes to bring the element (989
 * TFLOP/s, 4.8 TB/s). An SM gets 20.7 bytes of memory a clock (132 SMs, 1.755 GHz); what is said of
 * L2 takes it to give 5.5 TB/s, an assumption until it is measured. Bytes and instructions are
 * counted, from the source and from the code that nvcc 13.0 makes for sm_90; nothing here has yet
 * run on a GPU.
 *
 * Fragments for the tensor cores are made straight from rows of 16 bytes where that is possible:
 * the order of the terms of a sum, and of the columns of a result, is free as long as both factors
 * agree, and is chosen so that a lane's share is eight neighbours in memory, which is also what one
 * block of the mask covers.
 *
 * Where rows do not start on 16 bytes, or K or r are no multiples of 8, the same kernels take their
 * elements one by one (ALIGNED false): slower, for odd sizes. */
#ifndef CADVLM_CUDA_LORA_CUH
#define CADVLM_CUDA_LORA_CUH

#include "cuda/kernel.cuh"

#include "cuda/dropout.cuh"
#include "cuda/matmul.h"

namespace lora {

/* Rows of 16-bit elements, cols of them valid. */
template <typename T> struct Rows {
    T *data;
    int64_t stride, rows;
    int cols;

    __device__ __forceinline__ T *at(int64_t row, int col) const {
        return data + row * stride + col;
    }

    /* The last row for those behind it: for what is read in vain. */
    __device__ __forceinline__ T *at_last(int64_t row, int col) const {
        return at(row < rows ? row : rows - 1, col);
    }
};

template <typename T> Rows<T> rows_of(Tensor t) {
    return {static_cast<T *>(t.data), t.stride, t.rows, static_cast<int>(t.cols)};
}

template <typename T> union Eight {
    uint4 all;
    T each[8];
};

/* Eight elements of a row, of which `left` exist; zeros for the others. Aligned rows end where a
 * piece of eight does. */
template <bool ALIGNED, typename T>
__device__ __forceinline__ uint4 load8(const T *from, int left) {
    Eight<T> e = {{0, 0, 0, 0}};
    if constexpr (ALIGNED) {
        if (left > 0) e.all = *reinterpret_cast<const uint4 *>(from);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (i < left) e.each[i] = from[i];
    }
    return e.all;
}

/* The same into shared memory, in the background where that is possible. */
template <bool ALIGNED, typename T>
__device__ __forceinline__ void copy8(uint4 *to, const T *from, int left) {
    if constexpr (ALIGNED)
        ptx::cp_async16(to, from, left > 0 ? 16 : 0);
    else
        *to = load8<false>(from, left);
}

/* Two fragments of 16 rows and 16 terms, from eight terms each of rows g and g + 8. */
__device__ __forceinline__ void fragments(uint32_t (&to)[2][4], uint4 upper, uint4 lower) {
    to[0][0] = upper.x;
    to[0][1] = lower.x;
    to[0][2] = upper.y;
    to[0][3] = lower.y;
    to[1][0] = upper.z;
    to[1][1] = lower.z;
    to[1][2] = upper.w;
    to[1][3] = lower.w;
}

/* Whether every row starts on 16 bytes and has whole pieces of them. */
static inline bool is_aligned(Tensor t) {
    return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && t.stride % 8 == 0 && t.cols % 8 == 0;
}

} // namespace lora

#endif
