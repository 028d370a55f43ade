/* A dataset of arbitrary samples, written and checked. */
#ifndef CADVLM_TESTS_DATA_SHARD_FIXTURE_H
#define CADVLM_TESTS_DATA_SHARD_FIXTURE_H

#include "core/file.h"
#include "core/rng.h"
#include "data/shard.h"
#include "data/shard_file.h"
#include "tests/support/test.h"

typedef struct Made {
    char id[32], prompt[64], code[256];
    uint8_t image[512];
    Sample sample;
} Made;

/* Sample `i` of every test: sizes vary, some parts are empty, bytes are arbitrary. */
static inline const Sample *make_sample(Made *made, int i) {
    Rng rng;
    rng_open(&rng, 11, RNG_TEST, (uint64_t)i);
    snprintf(made->id, sizeof made->id, "part-%04d", i);
    int prompt = i % 3 == 0 ? 0 : snprintf(made->prompt, sizeof made->prompt, "draw %d", i);
    int code = rng_range(&rng, 0, 255), image = rng_range(&rng, 0, 511);
    for (int k = 0; k < code; k++) made->code[k] = (char)rng_range(&rng, 0, 255);
    for (int k = 0; k < image; k++) made->image[k] = (uint8_t)rng_u32(&rng);
    made->sample = (Sample){.image = made->image,
                            .image_size = (size_t)image,
                            .prompt = made->prompt,
                            .prompt_size = (size_t)prompt,
                            .code = made->code,
                            .code_size = (size_t)code,
                            .id = made->id,
                            .source = i % 4 == 0 ? "deepcad" : "synth",
                            .complexity = i % 7,
                            .split = i % 10 == 9   ? SPLIT_VAL
                                     : i % 10 == 8 ? SPLIT_TEST
                                                   : SPLIT_TRAIN};
    return &made->sample;
}

/* The dataset of a test and its first shard; unlike test_path, these stay valid. */
static inline const char *set_path(void) {
    static char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s", test_path("set"));
    return path;
}

static inline const char *shard_path(void) {
    static char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s", test_path("set/shard-00000.h5"));
    return path;
}

static const char provenance[] = "{\"made by\": \"tests/data/test_shard.c\"}";

static inline Err write_dataset(const char *path, int count, size_t shard_bytes) {
    DatasetWriter *writer;
    Made made;
    TRY(dataset_writer_open(&writer, path, provenance, shard_bytes));
    for (int i = 0; i < count; i++) {
        Err err = dataset_writer_add(writer, make_sample(&made, i));
        if (err != OK) {
            dataset_writer_abandon(&writer);
            return err;
        }
    }
    return dataset_writer_finish(&writer);
}

static inline Err open_and_close(const char *path) {
    Dataset *dataset;
    TRY(dataset_open(&dataset, path));
    dataset_close(&dataset);
    return OK;
}

static inline Err open_and_verify(const char *path) {
    Dataset *dataset;
    TRY(dataset_open(&dataset, path));
    Err err = dataset_verify(dataset);
    dataset_close(&dataset);
    return err;
}

static inline void check_sample(const Dataset *dataset, int i, Buf *memory) {
    Made made;
    const Sample *expected = make_sample(&made, i);
    Sample found;
    ASSERT_OK(dataset_read(dataset, (size_t)i, &found, memory));
    ASSERT_TEXT(found.id, expected->id);
    ASSERT_TEXT(found.source, expected->source);
    ASSERT_INT(found.image_size, ==, expected->image_size);
    ASSERT_INT(found.prompt_size, ==, expected->prompt_size);
    ASSERT_INT(found.code_size, ==, expected->code_size);
    ASSERT_INT(memcmp(found.image, expected->image, found.image_size), ==, 0);
    ASSERT_INT(memcmp(found.prompt, expected->prompt, found.prompt_size), ==, 0);
    ASSERT_INT(memcmp(found.code, expected->code, found.code_size), ==, 0);
    ASSERT_INT(found.complexity, ==, expected->complexity);
    ASSERT_INT(found.split, ==, expected->split);
    ASSERT_INT(dataset_complexity(dataset, (size_t)i), ==, expected->complexity);
    ASSERT_INT(dataset_split(dataset, (size_t)i), ==, expected->split);
    ASSERT_TEXT(dataset_id(dataset, (size_t)i), expected->id);
}

typedef struct ReaderThread {
    const Dataset *dataset;
    int first;
} ReaderThread;

#endif
