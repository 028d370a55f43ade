/* Random numbers without state: Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as
 * 1, 2, 3", 2011).
 *
 * A number is a pure function of a key (who asks: seed and purpose) and a counter (which one), so
 * any sample, mask or permutation can be rebuilt alone, on any rank and in any order. */
#ifndef CADVLM_CORE_RNG_H
#define CADVLM_CORE_RNG_H

#include <stdint.h>

/* What a stream of random numbers is for; part of the key, so that purposes never share numbers. */
typedef enum RngPurpose {
    RNG_INIT = 1, /* initial weights */
    RNG_MIX,      /* which dataset a sample comes from */
    RNG_SHUFFLE,  /* the order inside a dataset */
    RNG_AUGMENT,  /* shifts of a drawing */
    RNG_DROPOUT,
    RNG_SYNTH, /* synthetic parts */
    RNG_STYLE, /* line weights and offsets of a drawing */
    RNG_SPLIT,
    RNG_POINTS, /* points sampled on surfaces */
    RNG_TEST,
    RNG_CURRICULUM /* the order inside a dataset while not all of it takes part */
} RngPurpose;

/* The four 32-bit numbers of (key, counter). */
void rng_block(uint32_t out[4], uint64_t key, uint64_t counter_hi, uint64_t counter_lo);

/* The constants of Philox4x32, for those who draw many blocks side by side. */
#define RNG_PHILOX_M0 0xD2511F53u
#define RNG_PHILOX_M1 0xCD9E8D57u
#define RNG_PHILOX_W0 0x9E3779B9u
#define RNG_PHILOX_W1 0xBB67AE85u
enum { RNG_MASK_ROUNDS = 7 };

/* Eight 16-bit numbers of (key, counter) from one block of Philox4x32-7, for masks that are drawn
 * again wherever they are used: seven rounds are the fewest that pass BigCrush (Salmon et al.), and
 * 16 bits are fine enough for a probability. Number i is half i % 2 (the low one first) of word
 * i / 2. */
void rng_mask(uint16_t out[8], uint64_t key, uint64_t counter_hi, uint64_t counter_lo);

/* Numbers of rng_mask below this come with probability p, to 2⁻¹⁷. */
static inline uint16_t rng_mask_threshold(float p) {
    float threshold = p * 65536.0f + 0.5f;
    return (uint16_t)(threshold < 65535.0f ? threshold : 65535.0f);
}

/* The key of a seed and a purpose. */
uint64_t rng_key(uint64_t seed, RngPurpose purpose);

/* A convenient walk along one counter: stream `stream` of `key`, read from the front. */
typedef struct Rng {
    uint64_t key, stream, next;
    uint32_t block[4];
    int left;
} Rng;

void rng_open(Rng *rng, uint64_t seed, RngPurpose purpose, uint64_t stream);
uint32_t rng_u32(Rng *rng);
uint64_t rng_u64(Rng *rng);
double rng_uniform(Rng *rng);                 /* [0, 1), 53 bits */
double rng_normal(Rng *rng);                  /* mean 0, variance 1 (Box-Muller) */
uint64_t rng_below(Rng *rng, uint64_t limit); /* 0 … limit-1 without bias; limit ≥ 1 */
int rng_range(Rng *rng, int low, int high);   /* low … high, both included */

/* The image of `index` under a permutation of 0 … count-1 drawn by `key`: a Feistel network with
 * cycle walking, so the order of a million samples costs no memory. */
uint64_t rng_permute(uint64_t key, uint64_t index, uint64_t count);

#endif
