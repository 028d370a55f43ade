/* Quotas per block, an order inside it, and a permutation per pass. */
#include "data/mixer.h"

#include <math.h>
#include <string.h>

#include "core/rng.h"

/* Quotas are whole-number arithmetic: a dataset's due after b blocks is share · b / 2^22 samples
 * (2^32 a unit of weight, 2^10 samples a block). */
enum { SHARE_BITS = 32, BLOCK_BITS = 10, DUE_BITS = SHARE_BITS - BLOCK_BITS };
static const uint64_t BLOCKS_MAX = 1ull << 31; /* share · b stays below 2^63 */
_Static_assert(MIXER_BLOCK == 1 << BLOCK_BITS, "samples a block");

/* ---- opening ---- */

/* Rounds weights to shares whose sum is exact: what rounding left goes to the largest. */
static void make_shares(Mixer *mixer) {
    uint64_t sum = 0;
    int largest = 0;
    for (int d = 0; d < mixer->datasets; d++) {
        mixer->shares[d] = (uint64_t)ldexp(mixer->weights[d], SHARE_BITS);
        sum += mixer->shares[d];
        if (mixer->weights[d] > mixer->weights[largest]) largest = d;
    }
    mixer->shares[largest] += (1ull << SHARE_BITS) - sum;
}

static void make_quotas(Mixer *mixer);

Err mixer_open(Mixer *mixer, uint64_t seed, int datasets, const double *weights,
               const size_t *counts) {
    *mixer = (Mixer){.seed = seed, .datasets = datasets};
    REQUIRE(datasets >= 1 && datasets <= MIXER_DATASETS_MAX, ERR_CONFIG,
            "%d datasets to mix; 1 to %d are possible", datasets, MIXER_DATASETS_MAX);
    double sum = 0;
    for (int d = 0; d < datasets; d++) {
        REQUIRE(isfinite(weights[d]) && weights[d] > 0, ERR_CONFIG,
                "the weight of dataset %d is %g; it must be positive", d, weights[d]);
        REQUIRE(counts[d], ERR_CONFIG, "dataset %d has no sample that takes part", d);
        sum += weights[d];
    }
    REQUIRE(isfinite(sum), ERR_CONFIG, "the weights of %d datasets have no finite sum", datasets);
    for (int d = 0; d < datasets; d++) {
        mixer->weights[d] = weights[d] / sum;
        mixer->counts[d] = counts[d];
        REQUIRE(ldexp(mixer->weights[d], SHARE_BITS) >= 1, ERR_CONFIG,
                "the weight of dataset %d is %g of the sum, too little to ever be drawn", d,
                mixer->weights[d]);
    }
    make_shares(mixer);
    make_quotas(mixer);
    return OK;
}

/* ---- quotas ---- */

/* What is due to dataset d after the block at hand less what it has, in 2^-22 samples. */
static int64_t deficit(const Mixer *mixer, int d) {
    uint64_t due = mixer->shares[d] * (mixer->block + 1);
    return (int64_t)(due - ((mixer->before[d] + mixer->quota[d]) << DUE_BITS));
}

/* Shares out the places of the block: whole samples that are due, then one by one to whoever is
 * owed most (ties: the smaller number). A dataset may be ahead of its due by less than one sample,
 * so a block can also be full before everyone has his whole samples. */
static void make_quotas(Mixer *mixer) {
    int left = MIXER_BLOCK;
    for (int d = 0; d < mixer->datasets; d++) {
        mixer->quota[d] = 0;
        int64_t whole = deficit(mixer, d) >> DUE_BITS;
        mixer->quota[d] = whole > 0 ? (uint32_t)whole : 0;
        left -= (int)mixer->quota[d];
    }
    while (left) {
        int best = -1, way = left > 0 ? 1 : -1;
        for (int d = 0; d < mixer->datasets; d++) {
            if (way < 0 && !mixer->quota[d]) continue;
            if (best < 0 || way * deficit(mixer, d) > way * deficit(mixer, best)) best = d;
        }
        mixer->quota[best] += (uint32_t)way;
        left -= way;
    }
    mixer->ordered = false;
}

static void go_to_block(Mixer *mixer, uint64_t block) {
    CHECK(block < BLOCKS_MAX, "block %llu", (unsigned long long)block);
    if (block < mixer->block) {
        mixer->block = 0;
        memset(mixer->before, 0, sizeof mixer->before);
        make_quotas(mixer);
    }
    while (mixer->block < block) {
        for (int d = 0; d < mixer->datasets; d++) mixer->before[d] += mixer->quota[d];
        mixer->block++;
        make_quotas(mixer);
    }
}

/* ---- order ---- */

/* A key of its own for (purpose, a, b). */
static uint64_t derived_key(const Mixer *mixer, RngPurpose purpose, uint64_t a, uint64_t b) {
    uint32_t numbers[4];
    rng_block(numbers, rng_key(mixer->seed, purpose), a, b);
    return (uint64_t)numbers[0] << 32 | numbers[1];
}

/* Deals the places of the block: dataset 0 has the first quota[0] numbers of a permutation, … */
static void make_order(Mixer *mixer) {
    if (mixer->ordered) return;
    uint64_t key = derived_key(mixer, RNG_MIX, 0, mixer->block);
    uint16_t dealt[MIXER_DATASETS_MAX] = {0};
    uint32_t ends[MIXER_DATASETS_MAX], end = 0;
    for (int d = 0; d < mixer->datasets; d++) ends[d] = end += mixer->quota[d];
    for (uint32_t i = 0; i < MIXER_BLOCK; i++) {
        uint64_t number = rng_permute(key, i, MIXER_BLOCK);
        int d = 0;
        while (number >= ends[d]) d++;
        mixer->order[i] = (uint8_t)d;
        mixer->place[i] = dealt[d]++;
    }
    mixer->ordered = true;
}

/* ---- curriculum ---- */

void mixer_set_curriculum(Mixer *mixer, double start, uint64_t samples) {
    CHECK(start >= 0 && start <= 1, "a curriculum from %g of the samples on", start);
    mixer->start = start;
    mixer_ledger(mixer, samples, mixer->staged);
}

/* The samples that take part in a stage, the last of which still lacks some. */
static uint64_t stage_size(const Mixer *mixer, int d, uint64_t stage) {
    double share = mixer->start + (1 - mixer->start) * (double)stage / MIXER_STAGES;
    uint64_t size = (uint64_t)ceil(share * (double)mixer->counts[d]);
    return size < 1 ? 1 : size > mixer->counts[d] ? mixer->counts[d] : size;
}

/* Stage s begins with draw ⌈s · staged / MIXER_STAGES⌉. */
static MixerChoice choose_staged(const Mixer *mixer, int d, uint64_t drawn) {
    uint64_t staged = mixer->staged[d], stage = drawn * MIXER_STAGES / staged;
    uint64_t first = (stage * staged + MIXER_STAGES - 1) / MIXER_STAGES;
    uint64_t size = stage_size(mixer, d, stage), pass = (drawn - first) / size;
    uint64_t key = derived_key(mixer, RNG_CURRICULUM, (uint64_t)d * MIXER_STAGES + stage, pass);
    return (MixerChoice){d, (size_t)rng_permute(key, (drawn - first) % size, size), pass};
}

MixerChoice mixer_choose(Mixer *mixer, uint64_t n) {
    go_to_block(mixer, n / MIXER_BLOCK);
    make_order(mixer);
    int d = mixer->order[n % MIXER_BLOCK];
    uint64_t drawn = mixer->before[d] + mixer->place[n % MIXER_BLOCK]; /* of this dataset so far */
    if (drawn < mixer->staged[d]) return choose_staged(mixer, d, drawn);
    drawn -= mixer->staged[d];
    uint64_t count = mixer->counts[d], pass = drawn / count;
    uint64_t key = derived_key(mixer, RNG_SHUFFLE, (uint64_t)d, pass);
    return (MixerChoice){d, (size_t)rng_permute(key, drawn % count, count), pass};
}

void mixer_ledger(Mixer *mixer, uint64_t n, uint64_t out[MIXER_DATASETS_MAX]) {
    memset(out, 0, MIXER_DATASETS_MAX * sizeof *out);
    go_to_block(mixer, n / MIXER_BLOCK);
    memcpy(out, mixer->before, (size_t)mixer->datasets * sizeof *out);
    if (n % MIXER_BLOCK == 0) return;
    make_order(mixer);
    for (uint32_t i = 0; i < n % MIXER_BLOCK; i++) out[mixer->order[i]]++;
}
