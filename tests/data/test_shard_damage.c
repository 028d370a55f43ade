/* Damaged and foreign shards: each is named, and the others are read. */
#include <hdf5.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "data/open_files.h"
#include "data/shard.h"
#include "data/shard_file.h"
#include "data/shard_index.h"
#include "tests/data/shard_fixture.h"
#include "tests/support/test.h"

static void flip(const char *path, uint64_t at) {
    FILE *file = fopen(path, "r+b");
    ASSERT_TRUE(file);
    ASSERT_INT(fseek(file, (long)at, SEEK_SET), ==, 0);
    int byte = fgetc(file);
    ASSERT_INT(byte, !=, EOF);
    ASSERT_INT(fseek(file, (long)at, SEEK_SET), ==, 0);
    ASSERT_INT(fputc(byte ^ 0x10, file), !=, EOF);
    fclose(file);
}

/* Makes the index fit a shard that was replaced, so that only the shard itself is wrong. */
static void reindex(const char *folder, size_t samples) {
    DatasetIndex index;
    char path[PATH_SIZE];
    ASSERT_OK(index_read(folder, &index));
    ASSERT_INT(index.shard_count, ==, 1);
    ASSERT_OK(path_join(path, folder, index.shards[0].file));
    ASSERT_OK(shard_file_hash(path, &index.shards[0].bytes, &index.shards[0].hash,
                              &index.shards[0].head_hash));
    if (samples) index.shards[0].samples = samples;
    ASSERT_OK(index_write(folder, &index));
    index_free(&index);
}

TEST(missing_things_are_named) {
    ASSERT_ERR(open_and_close(test_path("none")), ERR_INPUT, "no such folder");
    ASSERT_OK(file_make_directories(test_path("empty")));
    ASSERT_ERR(open_and_close(test_path("empty")), ERR_INPUT, "index.json is missing");
    ASSERT_OK(write_dataset(set_path(), 30, 2000));
    ASSERT_OK(file_remove_tree(test_path("set/shard-00001.h5")));
    ASSERT_ERR(open_and_close(set_path()), ERR_INPUT, "shard-00001.h5 is missing");
}

TEST(truncated_shard_is_named) {
    uint64_t bytes;
    ASSERT_OK(write_dataset(set_path(), 30, 0));
    const char *shard = shard_path();
    ASSERT_OK(file_size(shard, &bytes));
    uint64_t lengths[] = {bytes - 1, bytes / 2, 512, 1, 0};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        ASSERT_INT(truncate(shard, (off_t)lengths[i]), ==, 0);
        ASSERT_ERR(open_and_close(set_path()), ERR_INPUT, "shard-00000.h5 has");
        /* Even when the index fits the stump. */
        Buf text = {0};
        ASSERT_OK(file_read(&text, test_path("set/index.json"), 100000));
        if (lengths[i] >= 30) {
            reindex(set_path(), 0);
            ASSERT_ERR(open_and_close(set_path()), ERR_INPUT, "shard-00000.h5");
        }
        ASSERT_OK(file_write(test_path("set/index.json"), text.data, text.size));
        buf_free(&text);
    }
}

TEST(any_flipped_byte_is_found) {
    uint64_t bytes;
    ASSERT_OK(write_dataset(set_path(), 300, 0));
    const char *shard = shard_path();
    ASSERT_OK(file_size(shard, &bytes));
    ASSERT_INT(bytes, >, 70000);
    for (uint64_t at = 0; at < bytes; at += 997) {
        flip(shard, at);
        Err err = open_and_verify(set_path());
        ASSERT(err == ERR_INPUT, "byte %llu flipped: %d", (unsigned long long)at, err);
        ASSERT_CONTAINS(err_message(), "shard-00000.h5");
        flip(shard, at);
    }
    ASSERT_OK(open_and_verify(set_path()));
}

TEST(hdf5_parses_only_what_the_head_checksum_covers) {
    /* The structure takes most room with the longest provenance. */
    static char longest[SHARD_PROVENANCE_MAX];
    memset(longest, 'p', sizeof longest - 1);
    DatasetWriter *writer;
    Made made;
    ASSERT_OK(dataset_writer_open(&writer, set_path(), longest, 0));
    for (int i = 0; i < 300; i++) ASSERT_OK(dataset_writer_add(writer, make_sample(&made, i)));
    ASSERT_OK(dataset_writer_finish(&writer));
    ASSERT_OK(open_and_verify(set_path()));
    const char *shard = shard_path();
    hid_t file = H5Fopen(shard, H5F_ACC_RDONLY, H5P_DEFAULT);
    static const char *const objects[] = {"images",       "prompt", "code",
                                          "images/data",  "id",     "images/offsets",
                                          "code/offsets", "split",  "checksum"};
    for (size_t i = 0; i < sizeof objects / sizeof objects[0]; i++) {
        H5O_info_t info;
        hid_t object = H5Oopen(file, objects[i], H5P_DEFAULT);
        ASSERT_INT(H5Oget_info2(object, &info, H5O_INFO_BASIC | H5O_INFO_HDR), >=, 0);
        ASSERT_INT(info.addr + info.hdr.space.total, <=, SHARD_HEAD_BYTES / 2);
        if (info.type == H5O_TYPE_DATASET)
            ASSERT_INT(H5Dget_offset(object), >=, SHARD_HEAD_BYTES / 2);
        H5Oclose(object);
    }
    H5Fclose(file);
}

TEST(damaged_sample_is_named_and_the_others_are_read) {
    uint64_t bytes;
    ASSERT_OK(write_dataset(set_path(), 300, 0));
    const char *shard = shard_path();
    ASSERT_OK(file_size(shard, &bytes));
    ShardColumns columns;
    uint64_t at[BLOB_COUNT];
    ASSERT_OK(shard_file_read(shard, bytes, 300, &columns, at));
    ASSERT_INT(at[BLOB_IMAGE] + columns.offsets[BLOB_IMAGE][123], >, SHARD_HEAD_BYTES);
    flip(shard, at[BLOB_IMAGE] + columns.offsets[BLOB_IMAGE][123]);
    shard_columns_free(&columns);
    Dataset *dataset;
    Sample sample;
    Buf memory = {0};
    ASSERT_OK(dataset_open(&dataset, set_path()));
    ASSERT_ERR(dataset_read(dataset, 123, &sample, &memory), ERR_INPUT,
               "shard-00000.h5: sample 123 (part-0123) is damaged");
    check_sample(dataset, 122, &memory);
    check_sample(dataset, 124, &memory);
    ASSERT_ERR(dataset_verify(dataset), ERR_INPUT, "sample 123 (part-0123)");
    buf_free(&memory);
    dataset_close(&dataset);
}

TEST(shard_cut_while_it_is_open_is_a_sentence) {
    ASSERT_OK(write_dataset(set_path(), 30, 0));
    Dataset *dataset;
    Sample sample;
    Buf memory = {0};
    ASSERT_OK(dataset_open(&dataset, set_path()));
    ASSERT_INT(truncate(shard_path(), 100), ==, 0);
    ASSERT_ERR(dataset_read(dataset, 29, &sample, &memory), ERR_INPUT, "became shorter");
    buf_free(&memory);
    dataset_close(&dataset);
}

TEST(malformed_index_is_a_sentence) {
    static const struct {
        const char *key, *value, *part;
    } cases[] = {
        {"format_version", "2", "format version 2"},
        {"format_version", "\"1\"", "a number is expected"},
        {"format_version", "1.5", "not a whole number"},
        {"shards", "[]", "0 shards"},
        {"shards", "{}", "an array is expected"},
        {"shards", "[1]", "\"file\" is missing"},
        {"samples", "31", "says 31 samples"},
        {"samples", "-1", "\"samples\" is -1"},
        {"splits", "{\"train\": 20, \"val\": 5, \"test\": 5}", "samples for train"},
        {"splits", "{\"train\": 20}", "\"val\" is missing"},
        {"sources", "{\"synth\": 30}", "names 1 sources"},
        {"sources", "{\"synth\": 30, \"other\": 0}", "another number of samples from deepcad"},
    };
    ASSERT_OK(write_dataset(set_path(), 30, 0));
    char path[PATH_SIZE];
    ASSERT_OK(path_join(path, set_path(), INDEX_NAME));
    Json *root, *value;
    ASSERT_OK(js_read(&root, path, 100000));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Json *copy = js_copy(root);
        ASSERT_OK(js_parse(&value, cases[i].value, strlen(cases[i].value), "case"));
        js_set(copy, cases[i].key, value);
        ASSERT_OK(js_write(path, copy));
        ASSERT_ERR(open_and_close(set_path()), ERR_INPUT, cases[i].part);
        js_free(&copy);
    }
    static const struct {
        const char *key, *value, *part;
    } entries[] = {
        {"file", "\"../shard-00000.h5\"", "is not the name of a shard"},
        {"file", "\"/etc/passwd\"", "is not the name of a shard"},
        {"file", "\".h5\"", "is not the name of a shard"},
        {"file", "\"other.h5\"", "other.h5 is missing"},
        {"samples", "0", "claims 0 samples"},
        {"samples", "9223372036854775807", "claims 9223372036854775807 samples"},
        {"samples", "29", "has 31 elements where 30 are expected"},
        {"samples", "31", "has 31 elements where 32 are expected"},
        {"bytes", "9223372036854775807", "says 9223372036854775807"},
        {"hash", "\"12\"", "is not a checksum"},
        {"head_hash", "\"0123456789abcdef\"", "its head has another checksum"},
        {"head_hash", "12", "a text is expected"},
    };
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        Json *copy = js_copy(root);
        ASSERT_OK(js_parse(&value, entries[i].value, strlen(entries[i].value), "case"));
        js_set((Json *)js_at(js_get(copy, "shards"), 0), entries[i].key, value);
        ASSERT_OK(js_write(path, copy));
        ASSERT_ERR(open_and_close(set_path()), ERR_INPUT, entries[i].part);
        js_free(&copy);
    }
    ASSERT_OK(file_write(path, "{\"shards\": [", 12));
    ASSERT_ERR(open_and_close(set_path()), ERR_INPUT, "index.json is not valid JSON");
    js_free(&root);
}

/* ---- shards with wrong contents, under a right index ---- */

/* A shard of two samples, written with what a case changes in it. */
typedef struct Wrong {
    uint64_t offsets[3][3], checksum[2];
    char ids[8], sources[8];
    int32_t complexity[2];
    uint8_t split[2];
} Wrong;

static const char *write_wrong(const Wrong *wrong) {
    static char folder[PATH_SIZE];
    snprintf(folder, sizeof folder, "%s", test_path("wrong"));
    ASSERT_OK(file_remove_tree(folder));
    ASSERT_OK(write_dataset(folder, 2, 0));
    ShardColumns columns = {.samples = 2,
                            .id_size = 4,
                            .source_size = 4,
                            .ids = (char *)(uintptr_t)wrong->ids,
                            .sources = (char *)(uintptr_t)wrong->sources,
                            .complexity = (int32_t *)(uintptr_t)wrong->complexity,
                            .split = (uint8_t *)(uintptr_t)wrong->split,
                            .checksum = (uint64_t *)(uintptr_t)wrong->checksum};
    Buf blobs[BLOB_COUNT] = {0};
    for (int b = 0; b < BLOB_COUNT; b++) {
        columns.offsets[b] = (uint64_t *)(uintptr_t)wrong->offsets[b];
        for (uint64_t i = 0; i < wrong->offsets[b][2]; i++) buf_text(&blobs[b], "x");
    }
    char path[PATH_SIZE];
    ASSERT_OK(path_join(path, folder, "shard-00000.h5"));
    Buf image = {0};
    ASSERT_OK(shard_file_build(&image, "wrong", &columns, blobs));
    ASSERT_OK(file_write(path, image.data, image.size));
    buf_free(&image);
    for (int b = 0; b < BLOB_COUNT; b++) buf_free(&blobs[b]);
    reindex(folder, 0);
    return folder;
}

TEST(columns_that_cannot_be_are_refused) {
    const Wrong right = {
        .offsets = {{0, 5, 9}, {0, 0, 0}, {0, 3, 6}}, .ids = "a\0\0\0b", .sources = "s\0\0\0t"};
    Wrong wrong = right;
    /* Only the sources in the index and the checksums are wrong then. */
    ASSERT_ERR(open_and_close(write_wrong(&wrong)), ERR_INPUT, "another number of samples from s");
    wrong.offsets[0][1] = 10;
    ASSERT_ERR(open_and_close(write_wrong(&wrong)), ERR_INPUT, "images/offsets of sample 1 goes");
    wrong = right, wrong.offsets[2][1] = ~0ull;
    ASSERT_ERR(open_and_close(write_wrong(&wrong)), ERR_INPUT, "code/offsets of sample 0 goes");
    wrong = right, wrong.offsets[2][0] = 1;
    ASSERT_ERR(open_and_close(write_wrong(&wrong)), ERR_INPUT, "code/offsets runs from 1 to 6");
    wrong = right, wrong.split[1] = 3;
    ASSERT_ERR(open_and_close(write_wrong(&wrong)), ERR_INPUT, "sample 1 (b) has the split 3");
    wrong = right, wrong.ids[0] = 0;
    ASSERT_ERR(open_and_close(write_wrong(&wrong)), ERR_INPUT, "the id of sample 0 is empty");
    wrong = right, wrong.ids[4] = 7;
    ASSERT_ERR(open_and_close(write_wrong(&wrong)), ERR_INPUT, "the id of sample 1 is empty or");
    wrong = right, wrong.sources[4] = 0;
    ASSERT_ERR(open_and_close(write_wrong(&wrong)), ERR_INPUT, "the source of sample 1");
}

/* ---- foreign HDF5 files ---- */

typedef enum Foreign {
    FOREIGN_EMPTY,
    FOREIGN_CHUNKED,
    FOREIGN_HUGE,
    FOREIGN_TYPE,
    FOREIGN_MATRIX,
    FOREIGN_SCALAR,
    FOREIGN_GROUP,
    FOREIGN_SOFT_LINK,
    FOREIGN_EXTERNAL_LINK,
    FOREIGN_EXTERNAL_FILE,
    FOREIGN_COUNT
} Foreign;

static void put_array(hid_t file, const char *name, hid_t type, int rank, hsize_t count,
                      Foreign kind) {
    hsize_t dims[2] = {count, 2};
    hid_t space = rank ? H5Screate_simple(rank, dims, NULL) : H5Screate(H5S_SCALAR);
    hid_t plan = H5Pcreate(H5P_DATASET_CREATE);
    if (kind == FOREIGN_CHUNKED) H5Pset_chunk(plan, 1, dims);
    if (kind == FOREIGN_EXTERNAL_FILE) H5Pset_external(plan, "/etc/passwd", 0, count);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, plan, H5P_DEFAULT);
    ASSERT(set >= 0, "cannot make %s", name);
    H5Dclose(set);
    H5Pclose(plan);
    H5Sclose(space);
}

static void write_foreign(const char *path, Foreign kind) {
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    ASSERT_TRUE(file >= 0);
    if (kind != FOREIGN_EMPTY) {
        H5Gclose(H5Gcreate2(file, "images", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        switch (kind) {
        case FOREIGN_HUGE: put_array(file, "images/data", H5T_STD_U8LE, 1, 1ull << 62, kind); break;
        case FOREIGN_TYPE: put_array(file, "images/data", H5T_IEEE_F64LE, 1, 9, kind); break;
        case FOREIGN_MATRIX: put_array(file, "images/data", H5T_STD_U8LE, 2, 9, kind); break;
        case FOREIGN_SCALAR: put_array(file, "images/data", H5T_STD_U8LE, 0, 9, kind); break;
        case FOREIGN_GROUP:
            H5Gclose(H5Gcreate2(file, "images/data", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
            break;
        case FOREIGN_SOFT_LINK:
            H5Lcreate_soft("/other", file, "images/data", H5P_DEFAULT, H5P_DEFAULT);
            break;
        case FOREIGN_EXTERNAL_LINK:
            H5Lcreate_external("/etc/passwd", "/data", file, "images/data", H5P_DEFAULT,
                               H5P_DEFAULT);
            break;
        default: put_array(file, "images/data", H5T_STD_U8LE, 1, 9, kind); break;
        }
    }
    H5Fclose(file);
}

TEST(foreign_files_are_refused_in_a_sentence) {
    static const char *const blobs[FOREIGN_COUNT] = {
        [FOREIGN_EMPTY] = "the array images/data is missing",
        [FOREIGN_CHUNKED] = "images/data is not stored in one piece",
        [FOREIGN_HUGE] = "claims 4611686018427387904 elements",
        [FOREIGN_TYPE] = "the elements of images/data have the wrong type",
        [FOREIGN_MATRIX] = "is not an array of one dimension",
        [FOREIGN_SCALAR] = "is not an array of one dimension",
        [FOREIGN_GROUP] = "images/data is not a readable array",
        [FOREIGN_SOFT_LINK] = "the array images/data is missing",
        [FOREIGN_EXTERNAL_LINK] = "the array images/data is missing",
        [FOREIGN_EXTERNAL_FILE] = "is not stored in one piece",
    };
    const char *folder = set_path(), *shard = shard_path();
    ASSERT_OK(write_dataset(folder, 2, 0));
    for (int kind = 0; kind < FOREIGN_COUNT; kind++) {
        write_foreign(shard, (Foreign)kind);
        reindex(folder, 0);
        ASSERT_ERR(open_and_close(folder), ERR_INPUT, blobs[kind]);
        ASSERT_CONTAINS(err_message(), "shard-00000.h5");
    }
    ASSERT_OK(file_write(shard, "not an HDF5 file, but text", 26));
    reindex(folder, 0);
    ASSERT_ERR(open_and_close(folder), ERR_INPUT, "is not a readable HDF5 file");
}

/* ---- what verify and checksums hold ---- */

TEST(verify_compares_whole_files_with_the_index) {
    DatasetIndex index;
    ASSERT_OK(write_dataset(set_path(), 20, 0));
    ASSERT_OK(index_read(set_path(), &index));
    index.shards[0].hash ^= 1;
    ASSERT_OK(index_write(set_path(), &index));
    index_free(&index);
    ASSERT_OK(open_and_close(set_path())); /* its head is right, and all samples are */
    ASSERT_ERR(open_and_verify(set_path()), ERR_INPUT, "its checksum is not the one in index.json");
}

TEST(verify_finds_ids_that_are_repeated_in_two_shards) {
    DatasetIndex index;
    ShardEntry twice[2];
    ASSERT_OK(write_dataset(set_path(), 20, 0));
    ASSERT_OK(file_copy(shard_path(), test_path("set/shard-00001.h5"), 1 << 30));
    ASSERT_OK(index_read(set_path(), &index));
    twice[0] = twice[1] = index.shards[0];
    shard_name(twice[1].file, 1);
    DatasetIndex both = index;
    both.shards = twice;
    both.shard_count = 2;
    both.counts.samples *= 2;
    for (int s = 0; s < SPLIT_COUNT; s++) both.counts.splits[s] *= 2;
    for (int s = 0; s < both.counts.source_count; s++) both.counts.sources[s].samples *= 2;
    ASSERT_OK(index_write(set_path(), &both));
    index_free(&index);
    ASSERT_OK(open_and_close(set_path()));
    ASSERT_ERR(open_and_verify(set_path()), ERR_INPUT, "the id part-0000 is repeated");
}

/* Nothing of a sample can change without its checksum. */
TEST(a_checksum_covers_everything_of_a_sample) {
    const Sample good = {.image = "abcdef",
                         .image_size = 4,
                         .prompt = "efgh",
                         .prompt_size = 2,
                         .code = "ghij",
                         .code_size = 2,
                         .id = "one",
                         .source = "test",
                         .complexity = 3,
                         .split = SPLIT_VAL};
    Sample changed[9];
    for (int i = 0; i < 9; i++) changed[i] = good;
    changed[0].image = "abcxef";
    changed[1].prompt = "xfgh";
    changed[2].code = "gxij";
    changed[3].id = "two";
    changed[4].source = "tesT";
    changed[5].complexity = 4;
    changed[6].split = SPLIT_TRAIN;
    changed[7].image_size = 5, changed[7].prompt = "f", changed[7].prompt_size = 1; /* abcde, f */
    changed[8].prompt_size = 3, changed[8].code = "h", changed[8].code_size = 1;    /* efg, h */
    for (int i = 0; i < 9; i++)
        ASSERT(sample_checksum(&changed[i]) != sample_checksum(&good), "change %d", i);
}

TEST(a_shard_cannot_make_the_library_load_code) {
    unsigned mask = ~0u;
    ASSERT_OK(write_dataset(set_path(), 5, 0));
    ASSERT_TRUE(H5PLset_loading_state(H5PL_ALL_PLUGIN) >= 0);
    ASSERT_OK(open_and_close(set_path()));
    ASSERT_TRUE(H5PLget_loading_state(&mask) >= 0);
    ASSERT_INT(mask, ==, 0);
}
