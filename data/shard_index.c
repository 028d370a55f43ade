/* index.json of a dataset folder, and the checksums that stand in it. */
#include "data/shard_index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/hash.h"
#include "core/json.h"
#include "data/shard_file.h"

enum { INDEX_BYTES_MAX = 64 << 20, HASH_BLOCK = 256 << 10 };
_Static_assert((int)HASH_BLOCK >= (int)SHARD_HEAD_BYTES, "the head is hashed from the first block");

static const char *const split_names[SPLIT_COUNT] = {"train", "val", "test"};

const char *split_name(Split split) {
    CHECK(split < SPLIT_COUNT, "split %d", (int)split);
    return split_names[split];
}

Err split_parse(Split *out, const char *text) {
    for (int s = 0; s < SPLIT_COUNT; s++)
        if (!strcmp(text, split_names[s])) {
            *out = (Split)s;
            return OK;
        }
    FAIL(ERR_INPUT, "a split is train, val or test, not %.40s", text);
}

void shard_name(char out[SHARD_NAME_SIZE], size_t number) {
    snprintf(out, SHARD_NAME_SIZE, "shard-%05zu.h5", number);
}

bool counts_add(DatasetCounts *counts, Split split, const char *source, int *source_number) {
    int s = 0;
    while (s < counts->source_count && strcmp(counts->sources[s].name, source) != 0) s++;
    if (s == DATASET_SOURCES_MAX) return false;
    if (s == counts->source_count) {
        snprintf(counts->sources[s].name, sizeof counts->sources[s].name, "%s", source);
        counts->source_count++;
    }
    counts->sources[s].samples++;
    counts->splits[split]++;
    counts->samples++;
    if (source_number) *source_number = s;
    return true;
}

/* ---- checksums ---- */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are hashed as they lie");

uint64_t sample_checksum(const Sample *sample) {
    size_t id_size = strlen(sample->id);
    uint64_t sizes[4] = {sample->image_size, sample->prompt_size, sample->code_size, id_size};
    int32_t complexity = sample->complexity;
    uint8_t split = (uint8_t)sample->split;
    HashStream *stream = hash_open();
    hash_add(stream, sizes, sizeof sizes);
    hash_add(stream, sample->image, sample->image_size);
    hash_add(stream, sample->prompt, sample->prompt_size);
    hash_add(stream, sample->code, sample->code_size);
    hash_add(stream, sample->id, id_size);
    hash_add(stream, sample->source, strlen(sample->source));
    hash_add(stream, &complexity, sizeof complexity);
    hash_add(stream, &split, sizeof split);
    uint64_t value = hash_value(stream);
    hash_close(&stream);
    return value;
}

uint64_t shard_head_hash(const void *bytes, size_t size) {
    return hash_bytes(bytes, size < SHARD_HEAD_BYTES ? size : SHARD_HEAD_BYTES);
}

static Err hash_descriptor(int fd, const char *path, char *block, HashStream *stream,
                           uint64_t *bytes, uint64_t *whole, uint64_t *head) {
    *bytes = 0;
    for (size_t size = HASH_BLOCK; size == HASH_BLOCK && (whole || !*bytes);) {
        /* Filled up before it is hashed: the head is the first SHARD_HEAD_BYTES of the file. */
        for (size = 0; size < HASH_BLOCK;) {
            ssize_t got = read(fd, block + size, HASH_BLOCK - size);
            if (got < 0 && errno == EINTR) continue;
            REQUIRE(got >= 0, ERR_IO, "cannot read %s: %s", path, strerror(errno));
            if (got == 0) break;
            size += (size_t)got;
        }
        if (!*bytes) *head = shard_head_hash(block, size);
        *bytes += size;
        if (whole) hash_add(stream, block, size);
    }
    if (whole) *whole = hash_value(stream);
    return OK;
}

Err shard_file_hash(const char *path, uint64_t *bytes, uint64_t *whole, uint64_t *head) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0, ERR_IO, "cannot open %s: %s", path, strerror(errno));
    char *block = malloc(HASH_BLOCK);
    CHECK(block, "out of memory: %d bytes", HASH_BLOCK);
    HashStream *stream = hash_open();
    Err err = hash_descriptor(fd, path, block, stream, bytes, whole, head);
    hash_close(&stream);
    free(block);
    close(fd);
    return err;
}

/* ---- writing ---- */

static void set_hash(Json *object, const char *key, uint64_t hash) {
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    js_set_text(object, key, text);
}

Err index_write(const char *folder, const DatasetIndex *index) {
    char path[PATH_SIZE];
    TRY(path_join(path, folder, INDEX_NAME));
    Json *root = js_new_object();
    js_set_integer(root, "format_version", SHARD_FORMAT);
    js_set_text(root, "provenance", index->provenance);
    js_set_integer(root, "samples", (int64_t)index->counts.samples);
    Json *sources = js_new_object(), *splits = js_new_object(), *shards = js_new_array();
    for (int i = 0; i < index->counts.source_count; i++)
        js_set_integer(sources, index->counts.sources[i].name,
                       (int64_t)index->counts.sources[i].samples);
    for (int s = 0; s < SPLIT_COUNT; s++)
        js_set_integer(splits, split_names[s], (int64_t)index->counts.splits[s]);
    for (size_t i = 0; i < index->shard_count; i++) {
        Json *shard = js_new_object();
        js_set_text(shard, "file", index->shards[i].file);
        js_set_integer(shard, "samples", (int64_t)index->shards[i].samples);
        js_set_integer(shard, "bytes", (int64_t)index->shards[i].bytes);
        set_hash(shard, "hash", index->shards[i].hash);
        set_hash(shard, "head_hash", index->shards[i].head_hash);
        js_push(shards, shard);
    }
    js_set(root, "sources", sources);
    js_set(root, "splits", splits);
    js_set(root, "shards", shards);
    Err err = js_write(path, root);
    js_free(&root);
    return err;
}

/* ---- reading ---- */

static Err need_count(uint64_t *out, const Json *object, const char *key, const char *where) {
    int64_t number;
    TRY(js_need_integer(&number, object, key, where));
    REQUIRE(number >= 0, ERR_INPUT, "%s: \"%s\" is %lld", where, key, (long long)number);
    *out = (uint64_t)number;
    return OK;
}

static Err need_hash(uint64_t *out, const Json *object, const char *key, const char *where) {
    const char *text;
    TRY(js_need_text(&text, object, key, where));
    char *end;
    REQUIRE(strlen(text) == 16 && strspn(text, "0123456789abcdef") == 16, ERR_INPUT,
            "%s: \"%s\" is not a checksum of 16 hexadecimal digits", where, key);
    *out = strtoull(text, &end, 16);
    return OK;
}

/* The names are part of a path: only those that a writer gives are taken. */
static bool plain_shard_name(const char *name) {
    size_t length = strlen(name);
    return length >= 4 && length < SHARD_NAME_SIZE && name[0] != '.' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") ==
               length &&
           !strcmp(name + length - 3, ".h5");
}

static Err read_shard(const Json *shard, const char *path, size_t number, ShardEntry *entry) {
    char where[PATH_SIZE + 32];
    const char *file;
    uint64_t samples;
    snprintf(where, sizeof where, "%s: shard %zu", path, number);
    TRY(js_need_text(&file, shard, "file", where));
    REQUIRE(plain_shard_name(file), ERR_INPUT, "%s: \"%.60s\" is not the name of a shard", where,
            file);
    snprintf(entry->file, sizeof entry->file, "%s", file);
    TRY(need_count(&samples, shard, "samples", where));
    TRY(need_count(&entry->bytes, shard, "bytes", where));
    REQUIRE(samples >= 1 && samples <= entry->bytes, ERR_INPUT,
            "%s claims %llu samples in %llu bytes", where, (unsigned long long)samples,
            (unsigned long long)entry->bytes);
    entry->samples = samples;
    TRY(need_hash(&entry->hash, shard, "hash", where));
    TRY(need_hash(&entry->head_hash, shard, "head_hash", where));
    return OK;
}

static Err read_counts(const Json *root, const char *path, DatasetCounts *counts) {
    const Json *splits, *sources;
    uint64_t number;
    TRY(need_count(&number, root, "samples", path));
    counts->samples = number;
    TRY(js_need(&splits, root, "splits", JSON_KIND_OBJECT, path));
    for (int s = 0; s < SPLIT_COUNT; s++) {
        TRY(need_count(&number, splits, split_names[s], path));
        counts->splits[s] = number;
    }
    TRY(js_need(&sources, root, "sources", JSON_KIND_OBJECT, path));
    REQUIRE(js_count(sources) <= DATASET_SOURCES_MAX, ERR_INPUT,
            "%s: %zu sources; at most %d are possible", path, js_count(sources),
            DATASET_SOURCES_MAX);
    counts->source_count = (int)js_count(sources);
    for (int i = 0; i < counts->source_count; i++) {
        const char *name;
        js_member(sources, (size_t)i, &name);
        REQUIRE(strlen(name) <= SHARD_SOURCE_MAX, ERR_INPUT,
                "%s: the source %.70s… has a name of more than %d bytes", path, name,
                SHARD_SOURCE_MAX);
        TRY(need_count(&number, sources, name, path));
        snprintf(counts->sources[i].name, sizeof counts->sources[i].name, "%s", name);
        counts->sources[i].samples = number;
    }
    return OK;
}

static Err read_root(const Json *root, const char *path, DatasetIndex *index) {
    int64_t version;
    const char *provenance;
    const Json *shards;
    TRY(js_need_integer(&version, root, "format_version", path));
    REQUIRE(version == SHARD_FORMAT, ERR_INPUT,
            "%s has format version %lld; this program reads version %d", path, (long long)version,
            SHARD_FORMAT);
    TRY(js_need_text(&provenance, root, "provenance", path));
    index->provenance = strdup(provenance);
    CHECK(index->provenance, "out of memory: a provenance");
    TRY(read_counts(root, path, &index->counts));
    TRY(js_need(&shards, root, "shards", JSON_KIND_ARRAY, path));
    size_t count = js_count(shards);
    REQUIRE(count >= 1 && count <= SHARDS_MAX, ERR_INPUT,
            "%s names %zu shards; 1 to %d are possible", path, count, SHARDS_MAX);
    index->shards = calloc(count, sizeof *index->shards);
    CHECK(index->shards, "out of memory: %zu shards", count);
    index->shard_count = count;
    for (size_t i = 0; i < count; i++)
        TRY(read_shard(js_at(shards, i), path, i, &index->shards[i]));
    return OK;
}

Err index_read(const char *folder, DatasetIndex *index) {
    char path[PATH_SIZE];
    Json *root;
    *index = (DatasetIndex){0};
    TRY(file_reach(folder));
    REQUIRE(file_is_directory(folder), ERR_INPUT, "%s is not a dataset: no such folder", folder);
    TRY(path_join(path, folder, INDEX_NAME));
    REQUIRE(file_exists(path), ERR_INPUT,
            "%s holds no dataset: %s is missing (it is written last; was the writing interrupted?)",
            folder, INDEX_NAME);
    TRY(js_read(&root, path, INDEX_BYTES_MAX));
    Err err = read_root(root, path, index);
    js_free(&root);
    if (err != OK) index_free(index);
    return err;
}

void index_free(DatasetIndex *index) {
    free(index->provenance);
    free(index->shards);
    *index = (DatasetIndex){0};
}
