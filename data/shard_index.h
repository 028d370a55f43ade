/* index.json: what a dataset folder holds. Private to the data module. */
#ifndef CADVLM_DATA_SHARD_INDEX_H
#define CADVLM_DATA_SHARD_INDEX_H

#include "core/err.h"
#include "core/file.h"
#include "data/shard.h"

#define INDEX_NAME "index.json"

enum { SHARD_NAME_SIZE = 32, SHARDS_MAX = 65536 };

typedef struct ShardEntry {
    char file[SHARD_NAME_SIZE]; /* a plain name in the folder */
    size_t samples;
    uint64_t bytes, hash, head_hash;
} ShardEntry;

typedef struct DatasetCounts {
    size_t samples;
    size_t splits[SPLIT_COUNT];
    SourceCount sources[DATASET_SOURCES_MAX];
    int source_count;
} DatasetCounts;

typedef struct DatasetIndex {
    char *provenance;   /* owned */
    ShardEntry *shards; /* owned */
    size_t shard_count;
    DatasetCounts counts;
} DatasetIndex;

/* "shard-00012.h5" */
void shard_name(char out[SHARD_NAME_SIZE], size_t number);

/* Counts one sample; false when its source is one too many. *source_number may be NULL. */
bool counts_add(DatasetCounts *counts, Split split, const char *source, int *source_number);

Err index_write(const char *folder, const DatasetIndex *index);
Err index_read(const char *folder, DatasetIndex *index);
void index_free(DatasetIndex *index);

#endif
