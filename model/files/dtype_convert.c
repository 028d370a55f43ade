/* Numbers of files made into f32 and back.
 *
 * Loops run over blocks of a fixed length without branches, so that they become vector code on any
 * processor: about 3 GB/s on one core, which is what a file is read with. */
#include "model/files/dtype_convert.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { BLOCK = 512 };

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* `yes` or `no`, without a branch. */
static inline uint32_t pick(bool condition, uint32_t yes, uint32_t no) {
    uint32_t mask = -(uint32_t)condition;
    return (yes & mask) | (no & ~mask);
}

/* f16: sign, 5 bits of exponent (bias 15), 10 of mantissa. */
static inline float f32_from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7FFFu;
    uint32_t normal = (magnitude << 13) + ((127u - 15u) << 23),
             subnormal = bits_of((float)(int32_t)magnitude * 0x1p-24f),
             special = magnitude << 13 | 0x7F800000u; /* infinite, NaN */
    uint32_t bits = pick(magnitude < 0x0400u, subnormal, normal);
    return from_bits(pick(magnitude >= 0x7C00u, special, bits) | sign);
}

static inline uint16_t f16_from_f32(float x) {
    uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
    uint32_t normal = (magnitude - (112u << 23) + 0xFFFu + (magnitude >> 13 & 1u)) >> 13;
    /* Next to 0.5 the numbers of f32 are 2⁻²⁴ apart, as the subnormal ones of f16: adding rounds.
     */
    uint32_t subnormal = bits_of(from_bits(magnitude) + 0.5f) - bits_of(0.5f);
    uint32_t half = pick(magnitude < 113u << 23, subnormal, normal);
    half = pick(magnitude >= 143u << 23, 0x7C00u, half);
    half = pick(magnitude > 0x7F800000u, 0x7E00u, half);
    return (uint16_t)(half | sign);
}

static inline uint16_t bf16_from_f32(float x) {
    uint32_t bits = bits_of(x), rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16,
             quiet = bits >> 16 | 0x40u;
    return (uint16_t)pick((bits & 0x7FFFFFFFu) > 0x7F800000u, quiet, rounded);
}

static void widen_block(float out[BLOCK], const uint16_t in[BLOCK], DType from) {
    if (from == DT_F16)
        for (int i = 0; i < BLOCK; i++) out[i] = f32_from_f16(in[i]);
    else
        for (int i = 0; i < BLOCK; i++) out[i] = from_bits((uint32_t)in[i] << 16);
}

static void narrow_block(uint16_t out[BLOCK], const float in[BLOCK], DType to) {
    if (to == DT_F16)
        for (int i = 0; i < BLOCK; i++) out[i] = f16_from_f32(in[i]);
    else
        for (int i = 0; i < BLOCK; i++) out[i] = bf16_from_f32(in[i]);
}

void dtype_widen(float *out, const void *in, DType from, int64_t count) {
    if (from == DT_F32) {
        memcpy(out, in, (size_t)count * sizeof *out);
        return;
    }
    CHECK(from == DT_F16 || from == DT_BF16, "%s made into f32", dtype_name(from));
    uint16_t halves[BLOCK] = {0};
    float wide[BLOCK];
    for (int64_t at = 0; at < count; at += BLOCK) {
        size_t n = (size_t)(count - at < BLOCK ? count - at : BLOCK);
        memcpy(halves, (const char *)in + 2 * at, n * sizeof *halves);
        widen_block(wide, halves, from);
        memcpy(out + at, wide, n * sizeof *wide);
    }
}

void dtype_narrow(void *out, DType to, const float *in, int64_t count) {
    if (to == DT_F32) {
        memcpy(out, in, (size_t)count * sizeof *in);
        return;
    }
    CHECK(to == DT_F16 || to == DT_BF16, "f32 made into %s", dtype_name(to));
    float wide[BLOCK] = {0};
    uint16_t halves[BLOCK];
    for (int64_t at = 0; at < count; at += BLOCK) {
        size_t n = (size_t)(count - at < BLOCK ? count - at : BLOCK);
        memcpy(wide, in + at, n * sizeof *wide);
        narrow_block(halves, wide, to);
        memcpy((char *)out + 2 * at, halves, n * sizeof *halves);
    }
}

float dtype_limit(DType dtype) {
    if (dtype == DT_F16) return from_bits(0x477FEFFFu);  /* below 65520, which rounds to 65536 */
    if (dtype == DT_BF16) return from_bits(0x7F7F7FFFu); /* likewise */
    return FLT_MAX;
}

static bool block_is_within(const float x[BLOCK], float limit) {
    uint32_t top = bits_of(limit), beyond = 0;
    for (int i = 0; i < BLOCK; i++) beyond |= (uint32_t)((bits_of(x[i]) & 0x7FFFFFFFu) > top);
    return !beyond;
}

int64_t dtype_first_beyond(const float *x, int64_t count, float limit) {
    int64_t at = 0;
    while (at + BLOCK <= count && block_is_within(x + at, limit)) at += BLOCK;
    while (at < count && fabsf(x[at]) <= limit) at++;
    return at;
}
