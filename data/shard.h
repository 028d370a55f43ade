/* Datasets on disk: a folder of HDF5 shards and an index file (docs/formats.md).
 *
 * A shard is immutable: it is written under a temporary name, synced and renamed, and the index
 * names its size and checksums. The index is checked before HDF5 opens a file, and every sample has
 * a checksum of its own, so that damaged data is named and never trained on. Encoded images are
 * stored as they are (PNG). */
#ifndef CADVLM_DATA_SHARD_H
#define CADVLM_DATA_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"

typedef enum Split { SPLIT_TRAIN, SPLIT_VAL, SPLIT_TEST, SPLIT_COUNT } Split;
const char *split_name(Split split); /* "train", "val", "test" */
Err split_parse(Split *out, const char *text);

typedef struct Sample {
    const void *image; /* encoded file bytes */
    size_t image_size;
    const char *prompt; /* without a final zero of its own: use the sizes */
    size_t prompt_size;
    const char *code;
    size_t code_size;
    const char *id;     /* unique in its dataset, zero-ended */
    const char *source; /* "synth", "deepcad", …, zero-ended */
    int complexity;
    Split split;
} Sample;

/* ---- writing ---- */

typedef struct DatasetWriter DatasetWriter;

/* Starts a dataset in the folder `path` (made if absent; one that already holds a dataset is
 * refused). `provenance` says how the samples were made (a command line, a style as JSON). A shard
 * is closed at about `shard_bytes` (0: 256 MiB). */
Err dataset_writer_open(DatasetWriter **writer, const char *path, const char *provenance,
                        size_t shard_bytes);

/* Copies the sample. An id of more than 127 bytes or a repeated one is an error. */
Err dataset_writer_add(DatasetWriter *writer, const Sample *sample);

/* Writes the last shard and the index: only now is the dataset there. NULL-safe; leaves NULL,
 * whatever happens. */
Err dataset_writer_finish(DatasetWriter **writer);

/* Gives up: deletes what was written. */
void dataset_writer_abandon(DatasetWriter **writer);

/* ---- reading ---- */

typedef struct Dataset Dataset;

/* Opens a dataset folder: index, then every shard's size and head checksum. Safe to use from
 * several threads. */
Err dataset_open(Dataset **dataset, const char *path);
void dataset_close(Dataset **dataset);

size_t dataset_count(const Dataset *dataset);
const char *dataset_path(const Dataset *dataset);

/* The cheap columns of sample `index`, held in memory. */
Split dataset_split(const Dataset *dataset, size_t index);
int dataset_complexity(const Dataset *dataset, size_t index);
const char *dataset_id(const Dataset *dataset, size_t index);

/* Reads a sample and checks its checksum; the sample's pointers lie in `memory` (cleared first) and
 * die with it. A damaged sample is an ERR_INPUT that names shard, index and id. */
Err dataset_read(const Dataset *dataset, size_t index, Sample *sample, Buf *memory);

/* Reads every byte: whole-file checksums and all samples. The first damage found is the error. */
Err dataset_verify(const Dataset *dataset);

typedef struct DatasetInfo {
    size_t samples, shards;
    uint64_t bytes;
    size_t splits[SPLIT_COUNT];
    int complexity_min, complexity_median, complexity_max;
    int format_version;
    struct {
        char name[64];
        size_t samples;
    } sources[16];
    int source_count;
    const char *provenance; /* borrowed from the dataset */
} DatasetInfo;

void dataset_info(const Dataset *dataset, DatasetInfo *out);

#endif
