/* Datasets from files of others: one function a format. */
#ifndef CADVLM_DATA_IMPORT_IMPORT_H
#define CADVLM_DATA_IMPORT_IMPORT_H

#include "data/pack.h"

typedef struct ImportJob {
    const char *source, *path; /* a folder or a file; the dataset to write */
    DrawStyle style;
    bool vary;
    uint64_t seed;
    double val_share, test_share;
    const char *provenance;
    int workers;
} ImportJob;

typedef struct ImportStats {
    PackStats pack;
    int64_t files, unreadable; /* files found; files that could not be converted */
} ImportStats;

/* DeepCAD: every .json below the source, in the order of their names. Each file left out is said in
 * the log with its reason. */
Err import_deepcad(const ImportJob *job, ImportStats *stats);

#endif
