/* Datasets of synthetic parts. */
#ifndef CADVLM_DATA_SYNTH_MAKE_H
#define CADVLM_DATA_SYNTH_MAKE_H

#include "data/pack.h"
#include "data/synth/synth.h"

typedef struct SynthJob {
    const char *path;
    int64_t count;  /* samples in all */
    double seconds; /* fewer where that takes longer than this; 0: no limit */
    uint64_t seed;
    int family; /* -1: all */
    SynthConvention convention;
    DrawStyle style;
    bool vary;    /* line weights, dashes and ink from sample to sample */
    double shift; /* held-out drawings are moved by up to ± so many pixels; training ones by up to ±
                     half a pixel, since training moves them by whole pixels itself */
    double val_share, test_share; /* of the parts */
    const char *provenance;
    int workers;
} SynthJob;

/* Which split a part belongs to: a function of what it is (its hash), so that the same part is
 * never in two splits, in whatever dataset and whoever drew it. */
Split part_split(uint64_t hash, double val_share, double test_share);

/* Draws parts 0, 1, 2, … of the seed until `count` are written; parts already written are not
 * repeated. */
Err synth_make(const SynthJob *job, PackStats *stats);

#endif
