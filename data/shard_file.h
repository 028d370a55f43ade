/* One shard as a file: its columns in memory, and the two functions that know HDF5.
 *
 * Private to the data module; datasets are used through data/shard.h. The layout is described in
 * docs/formats.md. */
#ifndef CADVLM_DATA_SHARD_FILE_H
#define CADVLM_DATA_SHARD_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"
#include "data/shard.h"

enum {
    SHARD_FORMAT = 1,
    /* All of HDF5's own structure lies in the first bytes of a shard, so that the checksum of this
     * head is enough to know what HDF5 will parse. */
    SHARD_HEAD_BYTES = 64 << 10,
    SHARD_PROVENANCE_MAX = 16 << 10,
    SHARD_ID_MAX = 127,
    SHARD_SOURCE_MAX = 63,
    SHARD_BLOB_MAX = 1 << 30 /* bytes of one image, prompt or code */
};

typedef enum Blob { BLOB_IMAGE, BLOB_PROMPT, BLOB_CODE, BLOB_COUNT } Blob;

/* Everything of a shard but its images, prompts and codes. Owned arrays; texts are fixed-size
 * fields, each with a final zero. */
typedef struct ShardColumns {
    size_t samples;
    uint64_t *offsets[BLOB_COUNT]; /* [samples + 1] bytes from the start of the blob's data */
    char *ids;                     /* [samples, id_size] */
    char *sources;                 /* [samples, source_size] */
    size_t id_size, source_size;
    int32_t *complexity; /* [samples] */
    uint8_t *split;      /* [samples] a Split */
    uint64_t *checksum;  /* [samples] sample_checksum */
} ShardColumns;

/* XXH3 over the sizes of image, prompt, code and id (64 bits each), their bytes, source,
 * complexity (32 bits) and split (8 bits), little endian. */
uint64_t sample_checksum(const Sample *sample);

/* The bytes of a whole shard file. blobs[b] holds offsets[b][samples] bytes. Takes the lock of the
 * HDF5 library. */
Err shard_file_build(Buf *image, const char *provenance, const ShardColumns *columns,
                     const Buf blobs[BLOB_COUNT]);

/* Reads the columns of a shard of `file_bytes` bytes that is to hold `samples` samples, and where
 * in the file each blob starts. Believes nothing: types, lengths, order and bounds of all
 * arrays are checked. Takes the lock of the HDF5 library. Free with shard_columns_free. */
Err shard_file_read(const char *path, uint64_t file_bytes, size_t samples, ShardColumns *columns,
                    uint64_t blob_at[BLOB_COUNT]);
void shard_columns_free(ShardColumns *columns);

/* Length of a file, and XXH3 of it and of its first SHARD_HEAD_BYTES. Only the head is read, and
 * *bytes is what was read of it, when `whole` is NULL. */
Err shard_file_hash(const char *path, uint64_t *bytes, uint64_t *whole, uint64_t *head);
uint64_t shard_head_hash(const void *bytes, size_t size);

#endif
