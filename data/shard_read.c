/* Reads a dataset: columns at opening, then each sample by plain reads at known places.
 *
 * A shard's large arrays are contiguous, so HDF5 is asked once where they lie, and samples are read
 * without it: no lock between threads, and nothing of the library's state while training. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/hash.h"
#include "data/open_files.h"
#include "data/shard.h"
#include "data/shard_file.h"
#include "data/shard_index.h"

typedef struct Shard {
    OpenFile file;
    size_t first; /* number in the dataset of its first sample */
    uint64_t blob_at[BLOB_COUNT];
    ShardColumns columns;
    uint8_t *source; /* [samples] number in Dataset.counts.sources; the texts are let go */
    bool *left_out;  /* [samples]; NULL: none of the shard is */
} Shard;

struct Dataset {
    char path[PATH_SIZE];
    DatasetIndex index;
    DatasetCounts counts; /* counted from the shards */
    Shard *shards;        /* [index.shard_count] */
};

/* ---- opening ---- */

static Err check_against_index(const char *path, const ShardEntry *entry) {
    uint64_t bytes, read, head;
    REQUIRE(file_exists(path), ERR_INPUT, "%s is missing, but %s names it", path, INDEX_NAME);
    TRY(file_check(path));
    TRY(file_size(path, &bytes));
    REQUIRE(bytes == entry->bytes, ERR_INPUT,
            "%s has %llu bytes where %s says %llu: it is damaged or cut short", path,
            (unsigned long long)bytes, INDEX_NAME, (unsigned long long)entry->bytes);
    TRY(shard_file_hash(path, &read, NULL, &head));
    REQUIRE(head == entry->head_hash, ERR_INPUT,
            "%s is damaged: its head has another checksum than %s says", path, INDEX_NAME);
    return OK;
}

/* Names are printed in messages and tables. */
static bool printable(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) return false;
    return true;
}

static Err take_columns(Dataset *dataset, Shard *shard, const char *path) {
    ShardColumns *columns = &shard->columns;
    shard->source = malloc(columns->samples);
    CHECK(shard->source, "out of memory: %zu samples", columns->samples);
    for (size_t i = 0; i < columns->samples; i++) {
        const char *id = columns->ids + i * columns->id_size;
        const char *source = columns->sources + i * columns->source_size;
        int number;
        REQUIRE(*id && printable(id), ERR_INPUT,
                "%s: the id of sample %zu is empty or holds control characters", path, i);
        REQUIRE(*source && printable(source), ERR_INPUT,
                "%s: the source of sample %zu is empty or holds control characters", path, i);
        REQUIRE(columns->split[i] < SPLIT_COUNT, ERR_INPUT, "%s: sample %zu (%s) has the split %d",
                path, i, id, columns->split[i]);
        REQUIRE(counts_add(&dataset->counts, (Split)columns->split[i], source, &number), ERR_INPUT,
                "%s: the source %s is one more than the %d possible", path, source,
                DATASET_SOURCES_MAX);
        shard->source[i] = (uint8_t)number;
    }
    free(columns->sources);
    columns->sources = NULL;
    return OK;
}

static Err open_shard(Dataset *dataset, size_t number) {
    char path[PATH_SIZE];
    Shard *shard = &dataset->shards[number];
    const ShardEntry *entry = &dataset->index.shards[number];
    TRY(path_join(path, dataset->path, entry->file));
    TRY(check_against_index(path, entry));
    TRY(shard_file_read(path, entry->bytes, entry->samples, &shard->columns, shard->blob_at));
    shard->first = dataset->counts.samples;
    TRY(take_columns(dataset, shard, path));
    int file;
    TRY(open_file_take(&shard->file, path, &file));
    open_file_leave(&shard->file);
    return OK;
}

static Err compare_counts(const Dataset *dataset) {
    const DatasetCounts *said = &dataset->index.counts, *found = &dataset->counts;
    REQUIRE(said->samples == found->samples, ERR_INPUT,
            "%s: %s says %zu samples, the shards hold %zu", dataset->path, INDEX_NAME,
            said->samples, found->samples);
    for (int s = 0; s < SPLIT_COUNT; s++)
        REQUIRE(said->splits[s] == found->splits[s], ERR_INPUT,
                "%s: %s says %zu samples for %s, the shards hold %zu", dataset->path, INDEX_NAME,
                said->splits[s], split_name((Split)s), found->splits[s]);
    REQUIRE(said->source_count == found->source_count, ERR_INPUT,
            "%s: %s names %d sources, the shards hold %d", dataset->path, INDEX_NAME,
            said->source_count, found->source_count);
    for (int i = 0; i < found->source_count; i++) {
        int j = 0;
        while (j < said->source_count && strcmp(said->sources[j].name, found->sources[i].name)) j++;
        REQUIRE(j < said->source_count && said->sources[j].samples == found->sources[i].samples,
                ERR_INPUT, "%s: %s has another number of samples from %s than the shards (%zu)",
                dataset->path, INDEX_NAME, found->sources[i].name, found->sources[i].samples);
    }
    return OK;
}

static Err open_all(Dataset *dataset, const char *path) {
    TRY(path_format(dataset->path, "%s", path));
    TRY(index_read(path, &dataset->index));
    dataset->shards = calloc(dataset->index.shard_count, sizeof *dataset->shards);
    CHECK(dataset->shards, "out of memory: %zu shards", dataset->index.shard_count);
    for (size_t i = 0; i < dataset->index.shard_count; i++) TRY(open_shard(dataset, i));
    return compare_counts(dataset);
}

Err dataset_open(Dataset **out, const char *path) {
    *out = NULL;
    Dataset *dataset = calloc(1, sizeof *dataset);
    CHECK(dataset, "out of memory: a dataset");
    Err err = open_all(dataset, path);
    if (err != OK)
        dataset_close(&dataset);
    else
        *out = dataset;
    return err;
}

void dataset_close(Dataset **dataset) {
    Dataset *d = *dataset;
    if (!d) return;
    for (size_t i = 0; d->shards && i < d->index.shard_count; i++) {
        open_file_close(&d->shards[i].file);
        shard_columns_free(&d->shards[i].columns);
        free(d->shards[i].source);
        free(d->shards[i].left_out);
    }
    free(d->shards);
    index_free(&d->index);
    free(d);
    *dataset = NULL;
}

/* ---- columns ---- */

size_t dataset_count(const Dataset *dataset) {
    return dataset->counts.samples;
}

const char *dataset_path(const Dataset *dataset) {
    return dataset->path;
}

/* The shard of sample `index`; *place is its number there. */
static Shard *find(const Dataset *dataset, size_t index, size_t *place) {
    CHECK(index < dataset->counts.samples, "sample %zu of %zu in %s", index,
          dataset->counts.samples, dataset->path);
    size_t low = 0, high = dataset->index.shard_count - 1;
    while (low < high) {
        size_t middle = (low + high + 1) / 2;
        if (dataset->shards[middle].first <= index)
            low = middle;
        else
            high = middle - 1;
    }
    *place = index - dataset->shards[low].first;
    return &dataset->shards[low];
}

Split dataset_split(const Dataset *dataset, size_t index) {
    size_t place;
    const Shard *shard = find(dataset, index, &place);
    if (shard->left_out && shard->left_out[place]) return SPLIT_NONE;
    return (Split)shard->columns.split[place];
}

int dataset_complexity(const Dataset *dataset, size_t index) {
    size_t place;
    const Shard *shard = find(dataset, index, &place);
    return shard->columns.complexity[place];
}

const char *dataset_id(const Dataset *dataset, size_t index) {
    size_t place;
    const Shard *shard = find(dataset, index, &place);
    return shard->columns.ids + place * shard->columns.id_size;
}

/* ---- leaving out ---- */

static void leave_out(Shard *shard, size_t place) {
    if (!shard->left_out) shard->left_out = calloc(shard->columns.samples, 1);
    CHECK(shard->left_out, "out of memory: %zu samples", shard->columns.samples);
    shard->left_out[place] = true;
}

uint64_t dataset_leave_out(Dataset *dataset, bool (*is_out)(void *context, const char *id),
                           void *context, size_t counts[SPLIT_COUNT]) {
    uint64_t hash = 0;
    for (size_t i = 0; i < dataset->counts.samples; i++) {
        size_t place;
        if (!is_out(context, dataset_id(dataset, i))) continue;
        Shard *shard = find(dataset, i, &place);
        counts[shard->columns.split[place]]++;
        leave_out(shard, place);
        hash = hash_bytes((const uint64_t[]){hash, i}, 2 * sizeof hash);
    }
    return hash;
}

/* ---- reading ---- */

static Err read_at(int file, char *out, size_t size, uint64_t at, const char *shard) {
    while (size) {
        ssize_t got = pread(file, out, size, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        REQUIRE(got >= 0, ERR_IO, "cannot read %s: %s", shard, strerror(errno));
        REQUIRE(got > 0, ERR_INPUT, "%s became shorter while it was in use", shard);
        out += got;
        at += (uint64_t)got;
        size -= (size_t)got;
    }
    return OK;
}

/* The three blobs of the sample at `place`, each followed by a zero for those who print it. */
static Err read_blobs(const Dataset *dataset, Shard *shard, size_t place,
                      const size_t sizes[BLOB_COUNT], char *blobs[BLOB_COUNT]) {
    char path[PATH_SIZE];
    int descriptor;
    const char *file = dataset->index.shards[shard - dataset->shards].file;
    TRY(path_join(path, dataset->path, file));
    TRY(open_file_take(&shard->file, path, &descriptor));
    Err err = OK;
    for (int b = 0; b < BLOB_COUNT && err == OK; b++) {
        err = read_at(descriptor, blobs[b], sizes[b],
                      shard->blob_at[b] + shard->columns.offsets[b][place], file);
        blobs[b][sizes[b]] = 0;
    }
    open_file_leave(&shard->file);
    return err;
}

Err dataset_read(const Dataset *dataset, size_t index, Sample *sample, Buf *memory) {
    size_t place, sizes[BLOB_COUNT], total = 0;
    char *blobs[BLOB_COUNT];
    Shard *shard = find(dataset, index, &place);
    buf_clear(memory);
    for (int b = 0; b < BLOB_COUNT; b++) {
        const uint64_t *offsets = shard->columns.offsets[b];
        sizes[b] = offsets[place + 1] - offsets[place];
        total += sizes[b] + 1;
    }
    buf_reserve(memory, total);
    memory->size = total;
    char *at = memory->data;
    for (int b = 0; b < BLOB_COUNT; at += sizes[b] + 1, b++) blobs[b] = at;
    TRY(read_blobs(dataset, shard, place, sizes, blobs));
    *sample = (Sample){.image = blobs[BLOB_IMAGE],
                       .image_size = sizes[BLOB_IMAGE],
                       .prompt = blobs[BLOB_PROMPT],
                       .prompt_size = sizes[BLOB_PROMPT],
                       .code = blobs[BLOB_CODE],
                       .code_size = sizes[BLOB_CODE],
                       .id = shard->columns.ids + place * shard->columns.id_size,
                       .source = dataset->counts.sources[shard->source[place]].name,
                       .complexity = shard->columns.complexity[place],
                       .split = (Split)shard->columns.split[place]};
    REQUIRE(sample_checksum(sample) == shard->columns.checksum[place], ERR_INPUT,
            "%s/%s: sample %zu (%s) is damaged: its checksum is wrong", dataset->path,
            dataset->index.shards[shard - dataset->shards].file, index, sample->id);
    return OK;
}

/* ---- verifying ---- */

static int compare_ids(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static Err check_ids(const Dataset *dataset) {
    size_t n = dataset->counts.samples;
    const char **ids = malloc(n * sizeof *ids);
    CHECK(ids, "out of memory: %zu ids", n);
    for (size_t i = 0; i < n; i++) ids[i] = dataset_id(dataset, i);
    qsort(ids, n, sizeof *ids, compare_ids);
    const char *repeated = NULL;
    for (size_t i = 1; i < n && !repeated; i++)
        if (!strcmp(ids[i], ids[i - 1])) repeated = ids[i];
    free(ids);
    REQUIRE(!repeated, ERR_INPUT, "%s: the id %s is repeated", dataset->path, repeated);
    return OK;
}

Err dataset_verify(const Dataset *dataset) {
    for (size_t i = 0; i < dataset->index.shard_count; i++) {
        const ShardEntry *entry = &dataset->index.shards[i];
        char path[PATH_SIZE];
        uint64_t bytes, whole, head;
        TRY(path_join(path, dataset->path, entry->file));
        TRY(shard_file_hash(path, &bytes, &whole, &head));
        /* The samples first: they say where the damage is. */
        Buf memory = {0};
        Err err = OK;
        const Shard *shard = &dataset->shards[i];
        for (size_t k = 0; k < entry->samples && err == OK; k++) {
            Sample sample;
            err = dataset_read(dataset, shard->first + k, &sample, &memory);
        }
        buf_free(&memory);
        TRY(err);
        REQUIRE(bytes == entry->bytes && whole == entry->hash, ERR_INPUT,
                "%s is damaged: its checksum is not the one in %s", path, INDEX_NAME);
    }
    return check_ids(dataset);
}

/* ---- describing ---- */

static int compare_ints(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

void dataset_info(const Dataset *dataset, DatasetInfo *out) {
    const DatasetCounts *counts = &dataset->counts;
    *out = (DatasetInfo){.samples = counts->samples,
                         .shards = dataset->index.shard_count,
                         .format_version = SHARD_FORMAT,
                         .source_count = counts->source_count,
                         .provenance = dataset->index.provenance};
    memcpy(out->splits, counts->splits, sizeof out->splits);
    memcpy(out->sources, counts->sources, sizeof out->sources);
    int32_t *complexity = malloc(counts->samples * sizeof *complexity);
    CHECK(complexity, "out of memory: %zu samples", counts->samples);
    for (size_t i = 0; i < dataset->index.shard_count; i++) {
        const Shard *shard = &dataset->shards[i];
        out->bytes += dataset->index.shards[i].bytes;
        memcpy(complexity + shard->first, shard->columns.complexity,
               shard->columns.samples * sizeof *complexity);
    }
    qsort(complexity, counts->samples, sizeof *complexity, compare_ints);
    out->complexity_min = complexity[0];
    out->complexity_median = complexity[counts->samples / 2];
    out->complexity_max = complexity[counts->samples - 1];
    free(complexity);
}
