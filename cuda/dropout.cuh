/* The mask of dropout as kernels draw it: rng_mask of core/rng.h, in registers.
 *
 * Eight neighbours of a row share one block of Philox4x32-7. By count: 14 wide products and 14
 * exclusive-ors of three for the block, and 2.5 instructions an element to compare and to clear, so
 * 6 an element; an SM starts 128 a clock, which is 0.047 clocks an element. In that time an H200
 * brings 0.97 bytes of memory to each SM (4.8 TB/s, 132 SMs, 1.755 GHz), of the two that an element
 * has: a mask hides behind the element's own memory. (Ten rounds, and 32 bits an element, would be
 * 13 instructions: no longer.) */
#ifndef CADVLM_CUDA_DROPOUT_CUH
#define CADVLM_CUDA_DROPOUT_CUH

#include "cuda/kernel.cuh"

#include "core/rng.h"
#include "ops/ops.h"

constexpr int MASK_ROUNDS = 7, MASK_SIZE = 8;

/* What a kernel needs to draw masks, as an argument: constants that instructions read in place. */
struct Mask {
    uint32_t keys[MASK_ROUNDS][2];
    uint32_t threshold; /* numbers below it drop their element; in the upper half */
    float keep;         /* 1 / (1 - p): what kept elements are multiplied by */
};

static inline Mask mask_of(Dropout dropout) {
    Mask mask = {};
    uint32_t k0 = static_cast<uint32_t>(dropout.key), k1 = static_cast<uint32_t>(dropout.key >> 32);
    for (uint32_t i = 0; i < MASK_ROUNDS; i++) {
        mask.keys[i][0] = k0 + i * 0x9E3779B9u;
        mask.keys[i][1] = k1 + i * 0xBB67AE85u;
    }
    mask.threshold = static_cast<uint32_t>(rng_mask_threshold(dropout.p)) << 16;
    mask.keep = 1.0f / (1.0f - dropout.p);
    return mask;
}

/* The numbers of elements 8·block … 8·block + 7 of a row, two in a word, the first in the low half.
 * Counters of tensors have 32 bits. */
__device__ __forceinline__ uint4 mask_numbers(const Mask &mask, uint32_t row, uint32_t block) {
    uint4 c = {block, 0, row, 0};
#pragma unroll
    for (int round = 0; round < MASK_ROUNDS; round++) {
        uint64_t a = static_cast<uint64_t>(0xD2511F53u) * c.x,
                 b = static_cast<uint64_t>(0xCD9E8D57u) * c.z;
        c = {static_cast<uint32_t>(b >> 32) ^ c.y ^ mask.keys[round][0], static_cast<uint32_t>(b),
             static_cast<uint32_t>(a >> 32) ^ c.w ^ mask.keys[round][1], static_cast<uint32_t>(a)};
    }
    return c;
}

/* Whether the element of the low or the high half is kept. */
__device__ __forceinline__ bool keeps_low(const Mask &mask, uint32_t numbers) {
    return numbers << 16 >= mask.threshold;
}

__device__ __forceinline__ bool keeps_high(const Mask &mask, uint32_t numbers) {
    return numbers >= mask.threshold;
}

/* Two 16-bit elements with those that are dropped cleared. */
__device__ __forceinline__ uint32_t drop2(const Mask &mask, uint32_t pair, uint32_t numbers) {
    if (!keeps_low(mask, numbers)) pair &= 0xFFFF0000u;
    if (!keeps_high(mask, numbers)) pair &= 0x0000FFFFu;
    return pair;
}

/* Eight 16-bit elements, without the factor `keep`. */
__device__ __forceinline__ uint4 drop8(const Mask &mask, uint4 x, uint32_t row, uint32_t block) {
    uint4 n = mask_numbers(mask, row, block);
    return {drop2(mask, x.x, n.x), drop2(mask, x.y, n.y), drop2(mask, x.z, n.z),
            drop2(mask, x.w, n.w)};
}

#endif
