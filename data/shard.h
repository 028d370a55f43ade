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

typedef enum Split {
    SPLIT_TRAIN,
    SPLIT_VAL,
    SPLIT_TEST,
    SPLIT_COUNT,
    SPLIT_NONE = SPLIT_COUNT /* of a sample that is left out */
} Split;
const char *split_name(Split split); /* "train", "val", "test" */
Err split_parse(Split *out, const char *text);

typedef struct Sample {
    const void *image; /* encoded file bytes; may be empty: a sample of text alone */
    size_t image_size;
    const char *prompt; /* without a final zero of its own: use the sizes */
    size_t prompt_size;
    const char *code;
    size_t code_size;
    const char *id;     /* unique in its dataset, zero-ended, at most 127 bytes */
    const char *source; /* "synth", "deepcad", …, zero-ended, at most 63 bytes */
    int complexity;
    Split split;
} Sample;

/* Where samples come from, and how many from there. */
typedef struct SourceCount {
    char name[64];
    size_t samples;
} SourceCount;

enum { DATASET_SOURCES_MAX = 64 };

/* ---- writing ---- */

typedef struct DatasetWriter DatasetWriter;

/* Starts a dataset in the folder `path` (made if absent; one that already holds a dataset, or that
 * another process is writing, is refused; shards left there by an interrupted writer are deleted).
 * `provenance` says how the samples were made (a command line, a style as JSON), at most 16 KiB. A
 * shard is closed at about `shard_bytes` (0: 64 MiB) and waits in memory until then; writing it
 * takes twice as much for a moment. */
Err dataset_writer_open(DatasetWriter **writer, const char *path, const char *provenance,
                        size_t shard_bytes);

/* Copies the sample. ERR_INPUT when the sample is refused (a bad or repeated id, too large, more
 * than DATASET_SOURCES_MAX sources): the writer can go on with the next. After any other error
 * (the disk is full) it cannot, and dataset_writer_finish returns that error again. */
Err dataset_writer_add(DatasetWriter *writer, const Sample *sample);

/* Writes the last shard and the index: only now is the dataset there. A failure deletes what was
 * written. NULL-safe; leaves NULL, whatever happens. */
Err dataset_writer_finish(DatasetWriter **writer);

/* Gives up: deletes what was written. NULL-safe; leaves NULL. */
void dataset_writer_abandon(DatasetWriter **writer);

/* ---- reading ---- */

typedef struct Dataset Dataset;

/* Opens a dataset folder: index, then every shard's size and head checksum, then its columns. All
 * functions below may be called from several threads. */
Err dataset_open(Dataset **dataset, const char *path);
void dataset_close(Dataset **dataset);

size_t dataset_count(const Dataset *dataset);
const char *dataset_path(const Dataset *dataset);

/* The cheap columns of sample `index`, held in memory. */
Split dataset_split(const Dataset *dataset, size_t index);
int dataset_complexity(const Dataset *dataset, size_t index);
const char *dataset_id(const Dataset *dataset, size_t index);

/* The samples whose ids `is_out` names belong to no split from now on (SPLIT_NONE): none of those
 * who walk through a split meets them. counts[split] of them were there. Returns a hash of which
 * they are; 0: none. Not while others read. */
uint64_t dataset_leave_out(Dataset *dataset, bool (*is_out)(void *context, const char *id),
                           void *context, size_t counts[SPLIT_COUNT]);

/* Reads a sample and checks its checksum; the sample's pointers lie in `memory` (cleared first) and
 * die with it. A damaged sample is an ERR_INPUT that names shard, index and id. */
Err dataset_read(const Dataset *dataset, size_t index, Sample *sample, Buf *memory);

/* Reads every byte: whole-file checksums, all samples, and that no id is repeated. The first damage
 * found is the error. */
Err dataset_verify(const Dataset *dataset);

typedef struct DatasetInfo {
    size_t samples, shards;
    uint64_t bytes;
    size_t splits[SPLIT_COUNT];
    int complexity_min, complexity_median, complexity_max;
    int format_version;
    SourceCount sources[DATASET_SOURCES_MAX];
    int source_count;
    const char *provenance; /* borrowed from the dataset */
} DatasetInfo;

void dataset_info(const Dataset *dataset, DatasetInfo *out);

#endif
