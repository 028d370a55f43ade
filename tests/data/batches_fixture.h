/* Datasets of small pictures and options to walk over them, for the tests of batches. */
#ifndef CADVLM_TESTS_DATA_BATCHES_FIXTURE_H
#define CADVLM_TESTS_DATA_BATCHES_FIXTURE_H

#include "core/file.h"
#include "data/batches.h"
#include "image/image.h"
#include "tests/support/test.h"

enum { SIDE = 12, IMAGE_ROWS = 4, BOS = 1, EOS = 2, BYTE = 3 };

static Tokenizer *tokenizer;

static inline void open_tokenizer(void) {
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/tests/golden/tokenizer/cad.json", test_source_folder());
    if (!tokenizer) ASSERT_OK(tokenizer_open(&tokenizer, path));
}

/* A picture whose pixels say where they belong: 1 + x + 16 y, never white. */
static inline void make_picture(Buf *png, int side, int tint) {
    Image image;
    ASSERT_OK(image_new(&image, side, side, 1));
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++)
            image.pixels[y * side + x] = (uint8_t)((1 + x + 16 * y + tint) % 251);
    buf_clear(png);
    ASSERT_OK(image_encode(png, &image));
    image_free(&image);
}

typedef struct Made {
    const char *name;
    int count;
    int side;           /* of the pictures; 0: none */
    int long_every;     /* every so manyth sample has a long code; 0: none */
    const char *prompt; /* of odd samples */
} Made;

/* Sample i: its code is "z" and i "y"s (i % 7), or 400 letters. Every fifth is of the split val.
 * Complexities are 0 … 10, in no order. */
static inline Dataset *make_dataset(const Made *made) {
    DatasetWriter *writer;
    Dataset *dataset;
    Buf png = {0};
    char path[PATH_SIZE];
    open_tokenizer();
    snprintf(path, sizeof path, "%s", test_path(made->name));
    ASSERT_OK(dataset_writer_open(&writer, path, "tests/data/test_batches.c", 4000));
    for (int i = 0; i < made->count; i++) {
        char id[32], code[512] = "z";
        snprintf(id, sizeof id, "%s-%d", made->name, i);
        bool is_long = made->long_every && i % made->long_every == 0;
        int letters = is_long ? 400 : 1 + i % 7;
        for (int k = 1; k < letters; k++) code[k] = is_long ? (char)('!' + k * k % 90) : 'y';
        if (made->side) make_picture(&png, made->side, i);
        Sample sample = {.image = png.data,
                         .image_size = png.size,
                         .prompt = made->prompt,
                         .prompt_size = made->prompt && i % 2 ? strlen(made->prompt) : 0,
                         .code = code,
                         .code_size = (size_t)letters,
                         .id = id,
                         .source = "test",
                         .complexity = i * 7 % 11,
                         .split = i % 5 == 4 ? SPLIT_VAL : SPLIT_TRAIN};
        ASSERT_OK(dataset_writer_add(writer, &sample));
    }
    ASSERT_OK(dataset_writer_finish(&writer));
    ASSERT_OK(dataset_open(&dataset, path));
    buf_free(&png);
    return dataset;
}

static inline BatchesOptions options_for(const Dataset *dataset) {
    return (BatchesOptions){.sources = {{dataset, "first", 1, 0}},
                            .source_count = 1,
                            .split = SPLIT_TRAIN,
                            .tokenizer = tokenizer,
                            .seed = 7,
                            .size = 3,
                            .micro_batches = 1,
                            .micro_end = 1,
                            .max_length = 40,
                            .image_size = SIDE,
                            .image_channels = 1,
                            .image_rows = IMAGE_ROWS};
}

#endif
