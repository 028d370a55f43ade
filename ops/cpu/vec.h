/* Vector helpers of the CPU kernels: widening and narrowing of rows, and elementary functions the
 * compiler can vectorise.
 *
 * Kernels compute in f32 on one row at a time: a row of another type is widened into a scratch
 * line, which stays in the first cache, and narrowed on the way back. This header is compiled once
 * per instruction set (see kernels.h). */
#ifndef CADVLM_OPS_CPU_VEC_H
#define CADVLM_OPS_CPU_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include "ops/tensor.h"

static inline float f32_from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static inline uint32_t f32_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

#ifdef __AVX512BF16__
static inline __m512 widen16(const uint16_t *from) {
    __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
}
#endif

/* Round to nearest, ties to even; NaN stays NaN. */
static inline uint16_t bf16_from_f32(float x) {
    uint32_t bits = f32_bits(x);
    uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1)) >> 16;
    uint32_t quiet = bits >> 16 | 0x40;
    return (uint16_t)((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
}

static inline float f32_from_bf16(uint16_t x) {
    return f32_from_bits((uint32_t)x << 16);
}

static inline void widen(float *restrict out, const uint16_t *restrict in, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = f32_from_bf16(in[i]);
}

static inline void narrow(uint16_t *restrict out, const float *restrict in, int64_t n) {
    int64_t i = 0;
#ifdef __AVX512BF16__
    for (; i + 32 <= n; i += 32) {
        __m512bh both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(in + i + 16), _mm512_loadu_ps(in + i));
        memcpy(out + i, &both, 64);
    }
    for (; i + 16 <= n; i += 16) {
        __m256bh half = _mm512_cvtneps_pbh(_mm512_loadu_ps(in + i));
        memcpy(out + i, &half, 32);
    }
#endif
    for (; i < n; i++) out[i] = bf16_from_f32(in[i]);
}

/* factor · in, narrowed. */
static inline void narrow_scaled(uint16_t *restrict out, const float *restrict in, float factor,
                                 int64_t n) {
    int64_t i = 0;
#ifdef __AVX512BF16__
    __m512 f = _mm512_set1_ps(factor);
    for (; i + 16 <= n; i += 16) {
        __m256bh half = _mm512_cvtneps_pbh(_mm512_mul_ps(_mm512_loadu_ps(in + i), f));
        memcpy(out + i, &half, 32);
    }
#endif
    for (; i < n; i++) out[i] = bf16_from_f32(in[i] * factor);
}

/* The row `r` of t as f32: the row itself, or `line` filled with it. */
static inline const float *row_read(float *line, Tensor t, int64_t r) {
    if (t.dtype == DT_F32) return (const float *)t.data + r * t.stride;
    widen(line, (const uint16_t *)t.data + r * t.stride, t.cols);
    return line;
}

/* Where to compute the row `r` of t: in place, or in `line`; row_end then narrows it. */
static inline float *row_begin(float *line, Tensor t, int64_t r) {
    return t.dtype == DT_F32 ? (float *)t.data + r * t.stride : line;
}

static inline void row_end(const float *row, Tensor t, int64_t r) {
    if (t.dtype == DT_BF16) narrow((uint16_t *)t.data + r * t.stride, row, t.cols);
}

/* e^x to about 2 units in the last place: x = n·ln2 + r, a polynomial in r, and n into the
 * exponent. Below -87 it gives the smallest normal numbers rather than denormals. */
static inline float exp_f32(float x) {
    x = x > 88.0f ? 88.0f : x;
    x = x < -87.0f ? -87.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f; /* ln 2 in two parts */
    float p = 1.9875691500e-4f; /* minimax coefficients (Cephes, Moshier) */
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * f32_from_bits((uint32_t)((int32_t)n + 127) << 23);
}

static inline float sigmoid_f32(float x) {
    return 1.0f / (1.0f + exp_f32(-x));
}

static inline float tanh_f32(float x) {
    return 1.0f - 2.0f / (1.0f + exp_f32(2.0f * x));
}

#endif
