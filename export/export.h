/* Passing a trained model on: its adapter for PEFT, or full weights for transformers, and the proof
 * that merging changed nothing but roundings. */
#ifndef CADVLM_EXPORT_EXPORT_H
#define CADVLM_EXPORT_EXPORT_H

#include "comm/comm.h"
#include "core/file.h"
#include "eval/compare.h"
#include "ops/tensor.h"

typedef enum ExportFormat { EXPORT_PEFT, EXPORT_MERGED } ExportFormat;

typedef struct ExportOptions {
    const char *checkpoint; /* a checkpoint, or a run folder: its newest */
    const char *folder;     /* to write; must not hold anything */
    ExportFormat format;
    DType dtype;                   /* of merged weights */
    int samples;                   /* of the proof; 0: none */
    const char *data;              /* shards for it; NULL: made-up pictures and tokens */
    const char *program, *licence; /* for the model card; licence of the data, or NULL */
} ExportOptions;

typedef struct ExportResult {
    char checkpoint[PATH_SIZE];
    long long step;
    Comparison proof;      /* the checkpoint with its adapters apart, and the written files */
    const char *precision; /* that they were compared in */
} ExportResult;

/* One process. */
Err export_run(const ExportOptions *options, Comm *comm, ExportResult *result);

#endif
