/* Writes a dataset: samples wait in memory until a shard is full, the index comes last.
 *
 * While a writer lives it holds a lock on the folder, so that two of them cannot mix their shards.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/folder_lock.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/text.h"
#include "data/shard.h"
#include "data/shard_file.h"
#include "data/shard_index.h"

static const size_t SHARD_BYTES_DEFAULT = 64u << 20;

struct DatasetWriter {
    char path[PATH_SIZE];
    FolderLock *lock;
    bool made_folder;
    size_t shard_bytes;
    DatasetIndex index; /* of the shards written so far; counts of all samples */
    size_t shard_capacity;

    /* The shard being filled. Texts have their full size here and are cut when it is written. */
    ShardColumns columns;
    size_t capacity; /* samples there is room for in `columns` */
    Buf blobs[BLOB_COUNT];
    size_t id_longest, source_longest;

    /* Open addressing over the 64-bit hashes of all ids; 0 is an empty place. Two different ids
     * collide with a chance of 3e-8 in a million samples, and are then refused as repeated. */
    uint64_t *seen;
    size_t seen_capacity;

    ErrState broken; /* the error after which nothing more is written */
};

/* ---- opening ---- */

/* Deletes shards of a writer that did not come to its end. */
static Err delete_leftovers(const char *path) {
    FileNames names;
    TRY(file_list(&names, path));
    Err err = OK;
    size_t deleted = 0;
    for (size_t i = 0; i < names.count && err == OK; i++) {
        size_t number;
        char shard[SHARD_NAME_SIZE], file[PATH_SIZE];
        if (sscanf(names.names[i], "shard-%5zu", &number) != 1) continue;
        shard_name(shard, number);
        size_t length = strlen(shard);
        const char *rest = names.names[i] + length; /* file_write's temporary name */
        if (strncmp(names.names[i], shard, length) != 0 || (*rest && strncmp(rest, ".tmp.", 5)))
            continue;
        err = path_join(file, path, names.names[i]);
        if (err == OK) err = file_remove_tree(file);
        deleted++;
    }
    file_names_free(&names);
    if (deleted) log_warn("%s: deleted %zu files of an interrupted writer", path, deleted);
    return err;
}

static Err claim_folder(DatasetWriter *writer) {
    char index[PATH_SIZE];
    writer->made_folder = !file_exists(writer->path);
    TRY(file_make_directories(writer->path));
    TRY(folder_lock(&writer->lock, writer->path, "another process is writing a dataset in"));
    TRY(path_join(index, writer->path, INDEX_NAME));
    REQUIRE(!file_exists(index), ERR_INPUT,
            "%s already holds a dataset: choose another folder, or delete it first", writer->path);
    return delete_leftovers(writer->path);
}

static void columns_reserve(ShardColumns *columns, size_t *capacity);
static void give_up(DatasetWriter **writer);
static void writer_free(DatasetWriter **writer);

Err dataset_writer_open(DatasetWriter **out, const char *path, const char *provenance,
                        size_t shard_bytes) {
    *out = NULL;
    size_t length = strlen(provenance);
    REQUIRE(length < SHARD_PROVENANCE_MAX, ERR_INPUT,
            "a provenance of %zu bytes; at most %d are possible", length, SHARD_PROVENANCE_MAX - 1);
    DatasetWriter *writer = calloc(1, sizeof *writer);
    CHECK(writer, "out of memory: a dataset writer");
    writer->shard_bytes = shard_bytes ? shard_bytes : SHARD_BYTES_DEFAULT;
    writer->columns.id_size = SHARD_ID_MAX + 1;
    writer->columns.source_size = SHARD_SOURCE_MAX + 1;
    columns_reserve(&writer->columns, &writer->capacity);
    writer->index.provenance = strdup(provenance);
    CHECK(writer->index.provenance, "out of memory: a provenance");
    Err err = path_format(writer->path, "%s", path);
    if (err == OK) err = claim_folder(writer);
    if (err != OK)
        give_up(&writer);
    else
        *out = writer;
    return err;
}

/* ---- adding ---- */

static void *grown(void *array, size_t count, size_t size) {
    array = realloc(array, count * size);
    CHECK(array, "out of memory: %zu × %zu bytes", count, size);
    return array;
}

/* Room for one sample more. */
static void columns_reserve(ShardColumns *columns, size_t *capacity) {
    if (columns->samples < *capacity) return;
    size_t n = *capacity ? 2 * *capacity : 1024;
    for (int b = 0; b < BLOB_COUNT; b++)
        columns->offsets[b] = grown(columns->offsets[b], n + 1, sizeof *columns->offsets[b]);
    columns->ids = grown(columns->ids, n, columns->id_size);
    columns->sources = grown(columns->sources, n, columns->source_size);
    columns->complexity = grown(columns->complexity, n, sizeof *columns->complexity);
    columns->split = grown(columns->split, n, sizeof *columns->split);
    columns->checksum = grown(columns->checksum, n, sizeof *columns->checksum);
    for (int b = 0; b < BLOB_COUNT; b++) columns->offsets[b][0] = 0;
    *capacity = n;
}

static uint64_t *seen_place(uint64_t *seen, size_t capacity, uint64_t hash) {
    size_t at = (size_t)hash & (capacity - 1);
    while (seen[at] && seen[at] != hash) at = (at + 1) & (capacity - 1);
    return &seen[at];
}

static uint64_t id_hash(const char *id) {
    uint64_t hash = hash_bytes(id, strlen(id));
    return hash ? hash : 1;
}

static void seen_reserve(DatasetWriter *writer) {
    if (2 * (writer->index.counts.samples + 1) <= writer->seen_capacity) return;
    size_t capacity = writer->seen_capacity ? 2 * writer->seen_capacity : 4096;
    uint64_t *seen = calloc(capacity, sizeof *seen);
    CHECK(seen, "out of memory: %zu ids", capacity);
    for (size_t i = 0; i < writer->seen_capacity; i++)
        if (writer->seen[i]) *seen_place(seen, capacity, writer->seen[i]) = writer->seen[i];
    free(writer->seen);
    writer->seen = seen;
    writer->seen_capacity = capacity;
}

/* Ids and sources stand in JSON, messages and tables: plain text. */
static Err check_name(const char *what, const char *name, size_t max) {
    size_t length = strlen(name);
    REQUIRE(length >= 1 && length <= max, ERR_INPUT,
            "%s %.40s has %zu bytes; 1 to %zu are possible", what, name, length, max);
    for (size_t at = 0, bytes; at < length; at += bytes)
        REQUIRE(text_kind(name + at, length - at, &bytes) == TEXT_PLAIN, ERR_INPUT,
                "%s %s holds a control character or a byte that is not UTF-8", what, name);
    return OK;
}

static Err check_sample(DatasetWriter *writer, const Sample *sample) {
    TRY(check_name("the sample id", sample->id, SHARD_ID_MAX));
    TRY(check_name("the source", sample->source, SHARD_SOURCE_MAX));
    REQUIRE(sample->image_size <= SHARD_BLOB_MAX && sample->prompt_size <= SHARD_BLOB_MAX &&
                sample->code_size <= SHARD_BLOB_MAX,
            ERR_INPUT, "sample %s: an image, prompt or code of more than %d bytes", sample->id,
            SHARD_BLOB_MAX);
    REQUIRE(sample->split < SPLIT_COUNT, ERR_INPUT, "sample %s: split %d is not train, val or test",
            sample->id, (int)sample->split);
    seen_reserve(writer);
    REQUIRE(!*seen_place(writer->seen, writer->seen_capacity, id_hash(sample->id)), ERR_INPUT,
            "the sample id %s is repeated in %s", sample->id, writer->path);
    return OK;
}

static void append(DatasetWriter *writer, const Sample *sample) {
    ShardColumns *columns = &writer->columns;
    columns_reserve(columns, &writer->capacity);
    size_t n = columns->samples++;
    buf_append(&writer->blobs[BLOB_IMAGE], sample->image, sample->image_size);
    buf_append(&writer->blobs[BLOB_PROMPT], sample->prompt, sample->prompt_size);
    buf_append(&writer->blobs[BLOB_CODE], sample->code, sample->code_size);
    for (int b = 0; b < BLOB_COUNT; b++) columns->offsets[b][n + 1] = writer->blobs[b].size;
    strncpy(columns->ids + n * columns->id_size, sample->id, columns->id_size);
    strncpy(columns->sources + n * columns->source_size, sample->source, columns->source_size);
    columns->complexity[n] = sample->complexity;
    columns->split[n] = (uint8_t)sample->split;
    columns->checksum[n] = sample_checksum(sample);
    size_t id = strlen(sample->id), source = strlen(sample->source);
    if (id > writer->id_longest) writer->id_longest = id;
    if (source > writer->source_longest) writer->source_longest = source;
    uint64_t hash = id_hash(sample->id);
    *seen_place(writer->seen, writer->seen_capacity, hash) = hash;
}

static Err flush_shard(DatasetWriter *writer);

Err dataset_writer_add(DatasetWriter *writer, const Sample *sample) {
    if (writer->broken.code != OK) return err_restore(&writer->broken);
    TRY(check_sample(writer, sample));
    size_t bytes = sample->image_size + sample->prompt_size + sample->code_size;
    for (int b = 0; b < BLOB_COUNT; b++) bytes += writer->blobs[b].size;
    if (writer->columns.samples && bytes > writer->shard_bytes) TRY(flush_shard(writer));
    REQUIRE(counts_add(&writer->index.counts, sample->split, sample->source, NULL), ERR_INPUT,
            "sample %s: its source %s is one more than the %d possible", sample->id, sample->source,
            DATASET_SOURCES_MAX);
    append(writer, sample);
    return OK;
}

/* ---- a shard goes to disk ---- */

/* Cuts the texts of `columns` to the longest there is; returns what the file is to hold. */
static ShardColumns cut_texts(const DatasetWriter *writer, char **ids, char **sources) {
    ShardColumns cut = writer->columns;
    cut.id_size = writer->id_longest + 1;
    cut.source_size = writer->source_longest + 1;
    cut.ids = *ids = grown(NULL, cut.samples, cut.id_size);
    cut.sources = *sources = grown(NULL, cut.samples, cut.source_size);
    for (size_t i = 0; i < cut.samples; i++) {
        memcpy(cut.ids + i * cut.id_size, writer->columns.ids + i * writer->columns.id_size,
               cut.id_size);
        memcpy(cut.sources + i * cut.source_size,
               writer->columns.sources + i * writer->columns.source_size, cut.source_size);
    }
    return cut;
}

static Err write_shard(DatasetWriter *writer, ShardEntry *entry) {
    char path[PATH_SIZE], *ids, *sources;
    shard_name(entry->file, writer->index.shard_count);
    TRY(path_join(path, writer->path, entry->file));
    ShardColumns columns = cut_texts(writer, &ids, &sources);
    Buf image = {0};
    Err err = shard_file_build(&image, writer->index.provenance, &columns, writer->blobs);
    entry->samples = columns.samples;
    entry->bytes = image.size;
    entry->hash = hash_bytes(image.data, image.size);
    entry->head_hash = shard_head_hash(image.data, image.size);
    if (err == OK) err = file_write(path, image.data, image.size);
    buf_free(&image);
    free(ids);
    free(sources);
    return err;
}

static Err flush_shard(DatasetWriter *writer) {
    ShardEntry entry = {0};
    Err err =
        writer->index.shard_count < SHARDS_MAX
            ? write_shard(writer, &entry)
            : err_raise(ERR_INPUT, __FILE__, __LINE__, "%s: more than %d shards; make them larger",
                        writer->path, SHARDS_MAX);
    if (err != OK) {
        err_save(&writer->broken);
        return err;
    }
    DatasetIndex *index = &writer->index;
    if (index->shard_count == writer->shard_capacity) {
        writer->shard_capacity = writer->shard_capacity ? 2 * writer->shard_capacity : 16;
        index->shards = grown(index->shards, writer->shard_capacity, sizeof *index->shards);
    }
    index->shards[index->shard_count++] = entry;
    writer->columns.samples = 0;
    writer->id_longest = writer->source_longest = 0;
    for (int b = 0; b < BLOB_COUNT; b++) buf_clear(&writer->blobs[b]);
    return OK;
}

/* ---- the end ---- */

static Err finish(DatasetWriter *writer) {
    if (writer->broken.code != OK) return err_restore(&writer->broken);
    REQUIRE(writer->index.counts.samples, ERR_INPUT,
            "no sample was added to %s: nothing is written", writer->path);
    if (writer->columns.samples) TRY(flush_shard(writer));
    return index_write(writer->path, &writer->index);
}

static void delete_shards(const DatasetWriter *writer) {
    for (size_t i = 0; i < writer->index.shard_count; i++) {
        char path[PATH_SIZE];
        if (path_join(path, writer->path, writer->index.shards[i].file) == OK) unlink(path);
    }
}

Err dataset_writer_finish(DatasetWriter **writer) {
    if (!*writer) return OK;
    Err err = finish(*writer);
    if (err == OK)
        writer_free(writer);
    else
        dataset_writer_abandon(writer);
    return err;
}

/* A folder that was made for it goes, unless something lies in it, another's lease too. */
static void give_up(DatasetWriter **writer) {
    char made[PATH_SIZE] = "";
    if ((*writer)->made_folder) strcpy(made, (*writer)->path);
    writer_free(writer);
    if (made[0]) rmdir(made);
}

void dataset_writer_abandon(DatasetWriter **writer) {
    if (!*writer) return;
    delete_shards(*writer);
    give_up(writer);
}

static void writer_free(DatasetWriter **writer) {
    DatasetWriter *w = *writer;
    folder_unlock(&w->lock);
    index_free(&w->index);
    shard_columns_free(&w->columns);
    for (int b = 0; b < BLOB_COUNT; b++) buf_free(&w->blobs[b]);
    free(w->seen);
    free(w);
    *writer = NULL;
}
