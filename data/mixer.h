/* Which sample comes when.
 *
 * The n-th sample of a run is a pure function of (seed, n): a run can start at any step, on any
 * number of ranks, and any batch can be rebuilt alone. Datasets are mixed by weight with exact
 * quotas: among any MIXER_BLOCK consecutive samples (aligned) each dataset has its share, rounded
 * so that no remainder is ever lost. Inside a dataset the order is a permutation drawn anew for
 * every pass.
 *
 * A curriculum goes from the first samples of a dataset to all of them, in MIXER_STAGES stages of
 * equally many draws; what takes part in a stage comes in permutations of its own. Whoever sorts a
 * dataset by complexity goes from simple to complex. */
#ifndef CADVLM_DATA_MIXER_H
#define CADVLM_DATA_MIXER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

enum { MIXER_DATASETS_MAX = 64, MIXER_BLOCK = 1024, MIXER_STAGES = 16 };

/* Plain: copy it freely. Not for two threads at once, since it remembers the last block. */
typedef struct Mixer {
    uint64_t seed;
    int datasets;
    double weights[MIXER_DATASETS_MAX];  /* normalised to sum 1 */
    size_t counts[MIXER_DATASETS_MAX];   /* samples that take part */
    uint64_t shares[MIXER_DATASETS_MAX]; /* weights in units of 2^-32; their sum is 2^32 */
    double start;                        /* share of a dataset that a curriculum begins with */
    uint64_t staged[MIXER_DATASETS_MAX]; /* draws until all of it takes part; 0: no curriculum */

    /* The block last looked at. Later blocks are reached from it in time proportional to their
     * distance, earlier ones from block 0 (a million samples are 1000 blocks of nanoseconds). */
    uint64_t block;
    uint64_t before[MIXER_DATASETS_MAX]; /* samples of each dataset in the blocks before */
    uint32_t quota[MIXER_DATASETS_MAX];  /* samples of each dataset in this block */
    bool ordered;                        /* the two arrays below are those of this block */
    uint8_t order[MIXER_BLOCK];          /* the dataset of each place */
    uint16_t place[MIXER_BLOCK];         /* how many places of the same dataset come before it */
} Mixer;

typedef struct MixerChoice {
    int dataset;
    size_t index;  /* 0 … counts[dataset]-1 */
    uint64_t pass; /* which pass over what takes part of that dataset */
} MixerChoice;

/* Weights need not sum to 1; a weight that is not positive, or is less than 2^-32 of the sum, and
 * zero samples are errors that name the dataset's number. */
Err mixer_open(Mixer *mixer, uint64_t seed, int datasets, const double *weights,
               const size_t *counts);

/* Among the first `samples` of the run a dataset begins with its first start · count (at least one;
 * 0 ≤ start ≤ 1) and has all of them behind. 0 samples: no curriculum. Before any choice. */
void mixer_set_curriculum(Mixer *mixer, double start, uint64_t samples);

/* The n-th sample of the run; n < 2^41. */
MixerChoice mixer_choose(Mixer *mixer, uint64_t n);

/* How many of the first n samples came from each dataset. */
void mixer_ledger(Mixer *mixer, uint64_t n, uint64_t out[MIXER_DATASETS_MAX]);

#endif
