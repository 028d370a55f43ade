/* A shard as HDF5: columns, and where its pictures and texts lie. Its checksums are made to fit, so
 * that damage is not seen by them. */
#include "core/file.h"
#include "data/shard_file.h"
#include "data/shard_index.h"
#include "tests/fuzz/fuzz.h"

enum { SAMPLES = 3 };

/* HDF5 itself (1.10.8) loses some hundred bytes at some damaged heads, and asks for whatever size
 * stands there; it takes NULL for an answer. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "allocator_may_return_null=1";
}
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libhdf5\n";
}

static void write_dataset(const char *path) {
    DatasetWriter *writer;
    ASSERT_OK(dataset_writer_open(&writer, path, "{}", 0));
    for (int i = 0; i < SAMPLES; i++) {
        char id[16];
        snprintf(id, sizeof id, "part-%d", i);
        ASSERT_OK(dataset_writer_add(writer, &(Sample){.image = "PNG",
                                                       .image_size = 3,
                                                       .prompt = "draw",
                                                       .prompt_size = 4,
                                                       .code = "x = 1",
                                                       .code_size = 5,
                                                       .id = id,
                                                       .source = i ? "synth" : "deepcad",
                                                       .complexity = i,
                                                       .split = (Split)i}));
    }
    ASSERT_OK(dataset_writer_finish(&writer));
}

static Err open_and_read(const char *path) {
    Dataset *dataset;
    Buf memory = {0};
    Sample sample;
    DatasetInfo info;
    TRY(dataset_open(&dataset, path));
    dataset_info(dataset, &info);
    for (size_t i = 0; i < dataset_count(dataset); i++)
        if (dataset_read(dataset, i, &sample, &memory) != OK) err_clear();
    Err err = dataset_verify(dataset);
    dataset_close(&dataset);
    buf_free(&memory);
    return err;
}

void fuzz_one(const uint8_t *data, size_t size) {
    static DatasetIndex index;
    char set[PATH_SIZE];
    snprintf(set, sizeof set, "%s", test_path("set"));
    if (!index.shards) {
        write_dataset(set);
        ASSERT_OK(index_read(set, &index));
    }
    const char *shard = fuzz_file("set/shard-00000.h5", data, size);
    ShardEntry *entry = &index.shards[0];
    ASSERT_OK(shard_file_hash(shard, &entry->bytes, &entry->hash, &entry->head_hash));
    ASSERT_OK(index_write(set, &index));
    IGNORE(open_and_read(set));
}

void fuzz_seeds(void) {
    write_dataset(test_path("set"));
    fuzz_seed_file(test_path("set/shard-00000.h5"));
    ASSERT_OK(open_and_read(test_path("set")));
}
