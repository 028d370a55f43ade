/* Which sample comes when.
 *
 * The n-th sample of a run is a pure function of (seed, n): no state, so a run can start at any
 * step, on any number of ranks, and any batch can be rebuilt alone. Datasets are mixed by weight
 * with exact quotas: among any MIXER_BLOCK consecutive samples (aligned) each dataset has its
 * share, rounded so that no remainder is ever lost. Inside a dataset the order is a permutation
 * drawn anew for every pass. */
#ifndef CADVLM_DATA_MIXER_H
#define CADVLM_DATA_MIXER_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

enum { MIXER_DATASETS_MAX = 64, MIXER_BLOCK = 1024 };

typedef struct Mixer {
    uint64_t seed;
    int datasets;
    double weights[MIXER_DATASETS_MAX]; /* normalised to sum 1 */
    size_t counts[MIXER_DATASETS_MAX];  /* samples that take part */
    /* The block last looked at: which dataset each place has, and how many of each came before the
     * block. */
    uint64_t block;
    int block_valid;
    uint8_t order[MIXER_BLOCK];
    uint64_t before[MIXER_DATASETS_MAX];
} Mixer;

typedef struct MixerChoice {
    int dataset;
    size_t index;  /* 0 … counts[dataset]-1 */
    uint64_t pass; /* which pass over that dataset */
} MixerChoice;

/* Weights need not sum to 1; zero weight or zero samples is an error that names the dataset's
 * number. */
Err mixer_open(Mixer *mixer, uint64_t seed, int datasets, const double *weights,
               const size_t *counts);

/* The n-th sample of the run. */
MixerChoice mixer_choose(Mixer *mixer, uint64_t n);

/* How many of the first n samples came from each dataset. */
void mixer_ledger(Mixer *mixer, uint64_t n, uint64_t out[MIXER_DATASETS_MAX]);

#endif
