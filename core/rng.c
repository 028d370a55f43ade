/* Philox4x32-10 and what is built on it. */
#include "core/rng.h"

#include <math.h>

#include "core/err.h"

static inline void philox_round(uint32_t c[4], uint32_t k0, uint32_t k1) {
    uint64_t p0 = (uint64_t)RNG_PHILOX_M0 * c[0];
    uint64_t p1 = (uint64_t)RNG_PHILOX_M1 * c[2];
    uint32_t n0 = (uint32_t)(p1 >> 32) ^ c[1] ^ k0;
    uint32_t n2 = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
    c[1] = (uint32_t)p1;
    c[3] = (uint32_t)p0;
    c[0] = n0;
    c[2] = n2;
}

static inline void philox(uint32_t c[4], int rounds, uint64_t key, uint64_t counter_hi,
                          uint64_t counter_lo) {
    c[0] = (uint32_t)counter_lo;
    c[1] = (uint32_t)(counter_lo >> 32);
    c[2] = (uint32_t)counter_hi;
    c[3] = (uint32_t)(counter_hi >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < rounds; round++) {
        philox_round(c, k0, k1);
        k0 += RNG_PHILOX_W0;
        k1 += RNG_PHILOX_W1;
    }
}

void rng_block(uint32_t out[4], uint64_t key, uint64_t counter_hi, uint64_t counter_lo) {
    philox(out, 10, key, counter_hi, counter_lo);
}

void rng_mask(uint16_t out[8], uint64_t key, uint64_t counter_hi, uint64_t counter_lo) {
    uint32_t words[4];
    philox(words, RNG_MASK_ROUNDS, key, counter_hi, counter_lo);
    for (int i = 0; i < 8; i++) out[i] = (uint16_t)(words[i / 2] >> (16 * (i % 2)));
}

/* The finaliser of SplitMix64: spreads a small seed over all bits. */
static uint64_t mix64(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

uint64_t rng_key(uint64_t seed, RngPurpose purpose) {
    return mix64(mix64(seed) ^ (uint64_t)purpose);
}

void rng_open(Rng *rng, uint64_t seed, RngPurpose purpose, uint64_t stream) {
    *rng = (Rng){.key = rng_key(seed, purpose), .stream = stream};
}

uint32_t rng_u32(Rng *rng) {
    if (!rng->left) {
        rng_block(rng->block, rng->key, rng->stream, rng->next++);
        rng->left = 4;
    }
    return rng->block[--rng->left];
}

uint64_t rng_u64(Rng *rng) {
    uint64_t high = rng_u32(rng);
    return high << 32 | rng_u32(rng);
}

double rng_uniform(Rng *rng) {
    return (double)(rng_u64(rng) >> 11) * 0x1p-53;
}

double rng_normal(Rng *rng) {
    double u = 1.0 - rng_uniform(rng); /* (0, 1]: the logarithm stays finite */
    double v = rng_uniform(rng);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

uint64_t rng_below(Rng *rng, uint64_t limit) {
    CHECK(limit >= 1, "limit %llu", (unsigned long long)limit);
    uint64_t reject = -limit % limit; /* 2^64 mod limit */
    for (;;) {
        uint64_t x = rng_u64(rng);
        if (x >= reject) return x % limit;
    }
}

int rng_range(Rng *rng, int low, int high) {
    CHECK(low <= high, "%d > %d", low, high);
    return low + (int)rng_below(rng, (uint64_t)((int64_t)high - low + 1));
}

uint64_t rng_permute(uint64_t key, uint64_t index, uint64_t count) {
    CHECK(index < count, "index %llu of %llu", (unsigned long long)index,
          (unsigned long long)count);
    int half = 1;
    while (half < 32 && (1ull << (2 * half)) < count) half++;
    uint64_t mask = (1ull << half) - 1;
    do {
        uint64_t left = index >> half, right = index & mask;
        for (uint64_t round = 0; round < 6; round++) {
            uint64_t mixed = left ^ (mix64(key ^ mix64(right << 8 | round)) & mask);
            left = right;
            right = mixed;
        }
        index = left << half | right;
    } while (index >= count);
    return index;
}
