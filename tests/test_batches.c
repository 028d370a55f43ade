/* Batches: the rows and labels of the template, a pure function of (step, slot), errors that cross
 * the thread. */
#include <unistd.h>

#include "core/clock.h"
#include "core/file.h"
#include "core/image.h"
#include "core/rng.h"
#include "data/batches.h"
#include "data/shard_file.h"
#include "tests/test.h"

/* ---- fixtures ---- */

enum { SIDE = 12, IMAGE_ROWS = 4, BOS = 1, EOS = 2, BYTE = 3 };

static Tokenizer *tokenizer;

static void open_tokenizer(void) {
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/tests/golden/tokenizer/cad.json", test_source_folder());
    if (!tokenizer) ASSERT_OK(tokenizer_open(&tokenizer, path));
}

/* A picture whose pixels tell where they belong: 1 + x + 16 y, never white. */
static void make_picture(Buf *png, int side, int tint) {
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

/* Sample i: its code is "z" and i "y"s (i % 7), or 400 letters. Every fifth is of the split val. */
static Dataset *make_dataset(const Made *made) {
    DatasetWriter *writer;
    Dataset *dataset;
    Buf png = {0};
    char path[PATH_SIZE];
    open_tokenizer();
    snprintf(path, sizeof path, "%s", test_path(made->name));
    ASSERT_OK(dataset_writer_open(&writer, path, "tests/test_batches.c", 4000));
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
                         .split = i % 5 == 4 ? SPLIT_VAL : SPLIT_TRAIN};
        ASSERT_OK(dataset_writer_add(writer, &sample));
    }
    ASSERT_OK(dataset_writer_finish(&writer));
    ASSERT_OK(dataset_open(&dataset, path));
    buf_free(&png);
    return dataset;
}

static BatchesOptions options_for(const Dataset *dataset) {
    return (BatchesOptions){.sources = {{dataset, "first", 1, 0}},
                            .source_count = 1,
                            .split = SPLIT_TRAIN,
                            .tokenizer = tokenizer,
                            .seed = 7,
                            .size = 3,
                            .slots = 1,
                            .slot_end = 1,
                            .max_length = 40,
                            .image_size = SIDE,
                            .image_channels = 1,
                            .image_rows = IMAGE_ROWS};
}

/* A batch copied out of its buffer. */
typedef struct Copy {
    Batch b;
    int32_t ids[1000], positions[1000], starts[17], label_rows[1000], targets[1000];
    uint8_t pixels[16 * SIDE * SIDE];
    uint64_t seen[16];
    char names[16][32];
    int datasets[16];
} Copy;

static void copy_batch(Copy *copy, const Batch *b) {
    memset(copy, 0, sizeof *copy);
    ASSERT_INT(b->tokens, <=, 1000);
    ASSERT_INT(b->samples, <=, 16);
    copy->b = *b;
    size_t n = (size_t)b->samples, t = (size_t)b->tokens, l = (size_t)b->labels;
    memcpy(copy->ids, b->ids, t * sizeof *b->ids);
    memcpy(copy->positions, b->positions, t * sizeof *b->positions);
    memcpy(copy->starts, b->starts, (n + 1) * sizeof *b->starts);
    memcpy(copy->label_rows, b->label_rows, l * sizeof *b->label_rows);
    memcpy(copy->targets, b->targets, l * sizeof *b->targets);
    memcpy(copy->pixels, b->pixels, (size_t)b->images * SIDE * SIDE);
    memcpy(copy->seen, b->samples_seen, n * sizeof *b->samples_seen);
    memcpy(copy->datasets, b->datasets, n * sizeof *b->datasets);
    for (size_t i = 0; i < n; i++)
        snprintf(copy->names[i], sizeof copy->names[i], "%s", b->sample_ids[i]);
}

static void assert_same(const Batch *found, const Copy *expected) {
    static Copy copy;
    copy_batch(&copy, found);
    ASSERT_INT(copy.b.samples, ==, expected->b.samples);
    ASSERT_INT(copy.b.tokens, ==, expected->b.tokens);
    ASSERT_INT(copy.b.labels, ==, expected->b.labels);
    ASSERT_INT(copy.b.images, ==, expected->b.images);
    ASSERT_INT(copy.b.longest, ==, expected->b.longest);
    ASSERT_INT(copy.b.step, ==, expected->b.step);
    ASSERT_INT(copy.b.slot, ==, expected->b.slot);
    for (int i = 0; i < copy.b.samples; i++) ASSERT_TEXT(copy.names[i], expected->names[i]);
    size_t arrays = offsetof(Copy, ids);
    ASSERT_INT(
        memcmp((char *)&copy + arrays, (const char *)expected + arrays, sizeof copy - arrays), ==,
        0);
}

/* ---- rows and labels ---- */

TEST(rows_labels_and_pixels_are_those_of_the_template) {
    Dataset *dataset = make_dataset(&(Made){"set", 4, SIDE, 0, "qk"});
    BatchesOptions options = options_for(dataset);
    Batch *b;
    ASSERT_OK(batch_build(&b, &options, dataset, (size_t[]){3, 0}, 2));
    /* Sample 3: picture, <bos>, q, k | z y y y <eos>. Sample 0: picture, <bos> | z <eos>. */
    static const int32_t ids[] = {
        -1,         -2,  -3, -4, BOS, BYTE + 'q', BYTE + 'k', BYTE + 'z', BYTE + 'y', BYTE + 'y',
        BYTE + 'y', EOS, -5, -6, -7,  -8,         BOS,        BYTE + 'z', EOS};
    static const int32_t label_rows[] = {6, 7, 8, 9, 10, 16, 17};
    static const int32_t targets[] = {BYTE + 'z', BYTE + 'y', BYTE + 'y', BYTE + 'y',
                                      EOS,        BYTE + 'z', EOS};
    ASSERT_INT(b->samples, ==, 2);
    ASSERT_INT(b->images, ==, 2);
    ASSERT_INT(b->tokens, ==, 19);
    ASSERT_INT(b->longest, ==, 12);
    ASSERT_INT(b->labels, ==, 7);
    ASSERT_INT(b->image_rows, ==, IMAGE_ROWS);
    for (int i = 0; i < 19; i++) {
        ASSERT_INT(b->ids[i], ==, ids[i]);
        ASSERT_INT(b->positions[i], ==, i < 12 ? i : i - 12);
    }
    for (int i = 0; i < 7; i++) {
        ASSERT_INT(b->label_rows[i], ==, label_rows[i]);
        ASSERT_INT(b->targets[i], ==, targets[i]);
    }
    ASSERT_INT(b->starts[0], ==, 0);
    ASSERT_INT(b->starts[1], ==, 12);
    ASSERT_INT(b->starts[2], ==, 19);
    ASSERT_TEXT(b->sample_ids[0], "set-3");
    ASSERT_TEXT(b->sample_ids[1], "set-0");
    ASSERT_INT(b->samples_seen[0], ==, 3);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            ASSERT_INT(b->pixels[y * SIDE + x], ==, (1 + x + 16 * y + 3) % 251);
            ASSERT_INT(b->pixels[SIDE * SIDE + y * SIDE + x], ==, (1 + x + 16 * y) % 251);
        }
    batch_free(&b);
    ASSERT_TRUE(b == NULL);
    batch_free(&b);
    dataset_close(&dataset);
}

TEST(samples_without_a_picture_have_no_picture_rows) {
    Dataset *dataset = make_dataset(&(Made){"set", 2, 0, 0, NULL});
    BatchesOptions options = options_for(dataset);
    Batch *b;
    ASSERT_OK(batch_build(&b, &options, dataset, (size_t[]){1}, 1));
    ASSERT_INT(b->images, ==, 0);
    ASSERT_INT(b->tokens, ==, 4); /* <bos> z y <eos> */
    ASSERT_INT(b->ids[0], ==, BOS);
    ASSERT_INT(b->labels, ==, 3);
    batch_free(&b);
    dataset_close(&dataset);
}

TEST(prompts_are_the_rows_before_the_answer) {
    Dataset *dataset = make_dataset(&(Made){"set", 4, SIDE, 0, "qk"});
    BatchesOptions options = options_for(dataset);
    Batch *whole, *asked;
    Sample sample;
    Image images[2];
    Buf memory = {0};
    const char *prompts[] = {"qk", NULL}, *names[] = {"a.png", "b.png"};
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(dataset_read(dataset, i ? 2 : 1, &sample, &memory));
        ASSERT_OK(image_decode(&images[i], sample.image, sample.image_size, 1, "sample"));
    }
    ASSERT_OK(batch_build(&whole, &options, dataset, (size_t[]){1, 2}, 2));
    ASSERT_OK(batch_build_prompts(&asked, &options, images, prompts, names, 2));
    ASSERT_INT(asked->samples, ==, 2);
    ASSERT_INT(asked->labels, ==, 0);
    ASSERT_TEXT(asked->sample_ids[1], "b.png");
    int label = 0;
    for (int i = 0; i < 2; i++) {
        while (whole->label_rows[label] < whole->starts[i]) label++;
        int rows = whole->label_rows[label] + 1 - whole->starts[i];
        ASSERT_INT(asked->starts[i + 1] - asked->starts[i], ==, rows);
        ASSERT_INT(memcmp(asked->ids + asked->starts[i], whole->ids + whole->starts[i],
                          (size_t)rows * sizeof *asked->ids),
                   ==, 0);
    }
    ASSERT_INT(memcmp(asked->pixels, whole->pixels, 2 * SIDE * SIDE), ==, 0);
    batch_free(&whole);
    batch_free(&asked);
    options.image_size = SIDE + 1;
    ASSERT_ERR(batch_build_prompts(&asked, &options, images, prompts, names, 2), ERR_INPUT,
               "a.png: its picture has 12 × 12 pixels where the model takes 13 × 13");
    for (int i = 0; i < 2; i++) image_free(&images[i]);
    buf_free(&memory);
    dataset_close(&dataset);
}

/* ---- the walk ---- */

TEST(batch_is_a_function_of_step_and_slot) {
    enum { STEPS = 6, SLOTS = 4 };
    static Copy all[STEPS][SLOTS];
    Dataset *dataset = make_dataset(&(Made){"set", 30, SIDE, 4, "qk"});
    Dataset *second = make_dataset(&(Made){"second", 9, SIDE, 0, NULL});
    BatchesOptions options = options_for(dataset);
    options.sources[1] = (BatchSource){second, "second", 0.5, 0};
    options.source_count = 2;
    options.shift = 2;
    options.slots = options.slot_end = SLOTS;
    Batches *batches;
    const Batch *b;
    ASSERT_OK(batches_open(&batches, &options));
    for (int step = 0; step < STEPS; step++)
        for (int slot = 0; slot < SLOTS; slot++) {
            ASSERT_OK(batches_next(batches, &b));
            ASSERT_INT(b->step, ==, step);
            ASSERT_INT(b->slot, ==, slot);
            ASSERT_INT(b->samples, ==, 3);
            ASSERT_INT(b->samples_seen[1], ==, (step * SLOTS + slot) * 3 + 1);
            copy_batch(&all[step][slot], b);
        }
    batches_close(&batches);
    /* Every share of the slots, from every step, reading ahead more or less. */
    for (int first = 0; first < SLOTS; first++)
        for (int end = first + 1; end <= SLOTS; end++) {
            options.slot_first = first;
            options.slot_end = end;
            options.first_step = first + end - 1;
            options.ahead = 1 + (first + end) % 3;
            ASSERT_OK(batches_open(&batches, &options));
            for (int64_t step = options.first_step; step < STEPS; step++)
                for (int slot = first; slot < end; slot++) {
                    ASSERT_OK(batches_next(batches, &b));
                    assert_same(b, &all[step][slot]);
                }
            batches_close(&batches);
        }
    dataset_close(&dataset);
    dataset_close(&second);
}

TEST(samples_are_those_the_mixer_chooses) {
    Dataset *sets[] = {make_dataset(&(Made){"set", 30, SIDE, 0, NULL}),
                       make_dataset(&(Made){"second", 9, SIDE, 0, NULL})};
    BatchesOptions options = options_for(sets[0]);
    options.sources[0].limit = 10; /* of 24 */
    options.sources[1] = (BatchSource){sets[1], "second", 3, 100};
    options.source_count = 2;
    Mixer mixer;
    ASSERT_OK(mixer_open(&mixer, options.seed, 2, (double[]){1, 3}, (size_t[]){10, 8}));
    Batches *batches;
    const Batch *b;
    uint64_t drawn[2] = {0}, ledger[MIXER_DATASETS_MAX];
    ASSERT_OK(batches_open(&batches, &options));
    for (int step = 0; step < 50; step++) {
        batches_ledger(batches, step, ledger);
        for (int d = 0; d < 2; d++) ASSERT_INT(ledger[d], ==, drawn[d]);
        ASSERT_OK(batches_next(batches, &b));
        for (int i = 0; i < 3; i++) {
            drawn[b->datasets[i]]++;
            MixerChoice choice = mixer_choose(&mixer, (uint64_t)(step * 3 + i));
            /* Sample 4, 9, … are of the split val. */
            size_t index = choice.index / 4 * 5 + choice.index % 4;
            ASSERT_INT(b->datasets[i], ==, choice.dataset);
            ASSERT_TEXT(b->sample_ids[i], dataset_id(sets[choice.dataset], index));
        }
    }
    batches_close(&batches);
    for (int i = 0; i < 2; i++) dataset_close(&sets[i]);
}

TEST(buffers_are_used_again) {
    Dataset *dataset = make_dataset(&(Made){"set", 30, SIDE, 0, NULL});
    BatchesOptions options = options_for(dataset);
    options.ahead = 3;
    Batches *batches;
    const Batch *b, *seen[4] = {NULL};
    ASSERT_OK(batches_open(&batches, &options));
    for (int step = 0; step < 40; step++) {
        ASSERT_OK(batches_next(batches, &b));
        int i = 0;
        while (i < 4 && seen[i] && seen[i] != b) i++;
        ASSERT(i < 4, "batch %d lies in a fifth buffer", step);
        seen[i] = b;
    }
    batches_close(&batches);
    dataset_close(&dataset);
}

TEST(split_and_limit_select) {
    Dataset *dataset = make_dataset(&(Made){"set", 30, SIDE, 0, NULL});
    BatchSource source = {dataset, "first", 1, 0};
    size_t *indices, count;
    ASSERT_OK(batches_select(&source, SPLIT_VAL, &indices, &count));
    ASSERT_INT(count, ==, 6);
    ASSERT_INT(indices[1], ==, 9);
    free(indices);
    source.limit = 4;
    ASSERT_OK(batches_select(&source, SPLIT_TRAIN, &indices, &count));
    ASSERT_INT(count, ==, 4);
    ASSERT_INT(indices[3], ==, 3);
    free(indices);
    ASSERT_ERR(batches_select(&source, SPLIT_TEST, &indices, &count), ERR_CONFIG,
               "has no sample of the split test");
    BatchesOptions options = options_for(dataset);
    options.split = SPLIT_TEST;
    Batches *batches;
    ASSERT_ERR(batches_open(&batches, &options), ERR_CONFIG, "dataset first");
    dataset_close(&dataset);
}

/* ---- shifts ---- */

TEST(pictures_are_shifted_and_white_moves_in) {
    enum { SHIFT = 2, STEPS = 120 };
    Dataset *dataset = make_dataset(&(Made){"set", 30, SIDE, 0, NULL});
    BatchesOptions options = options_for(dataset);
    options.shift = SHIFT;
    Batches *batches;
    const Batch *b;
    int seen[2 * SHIFT + 1][2 * SHIFT + 1] = {{0}};
    ASSERT_OK(batches_open(&batches, &options));
    for (int step = 0; step < STEPS; step++) {
        ASSERT_OK(batches_next(batches, &b));
        for (int i = 0; i < b->images; i++) {
            int tint = atoi(strchr(b->sample_ids[i], '-') + 1), found = 0, dx = 0, dy = 0;
            for (int sy = -SHIFT; sy <= SHIFT; sy++)
                for (int sx = -SHIFT; sx <= SHIFT; sx++) {
                    bool same = true;
                    for (int y = 0; y < SIDE; y++)
                        for (int x = 0; x < SIDE; x++) {
                            int fx = x - sx, fy = y - sy;
                            bool inside = fx >= 0 && fx < SIDE && fy >= 0 && fy < SIDE;
                            int expected = inside ? (1 + fx + 16 * fy + tint) % 251 : 255;
                            same &= b->pixels[i * SIDE * SIDE + y * SIDE + x] == expected;
                        }
                    if (same) found++, dx = sx, dy = sy;
                }
            ASSERT_INT(found, ==, 1);
            seen[dy + SHIFT][dx + SHIFT]++;
        }
    }
    int least = STEPS;
    for (int i = 0; i < 25; i++)
        if (seen[i / 5][i % 5] < least) least = seen[i / 5][i % 5];
    printf("the rarest of 25 shifts came %d times of %d\n", least, 3 * STEPS);
    ASSERT_INT(least, >=, 2); /* expected 14 */
    batches_close(&batches);
    dataset_close(&dataset);
}

/* The made pictures have each value once, so where one lies tells the shift. */
TEST(shifts_grow_to_their_size) {
    enum { SHIFT = 2, STEPS = 300, GROWN = 200 };
    Dataset *dataset = make_dataset(&(Made){"set", 30, SIDE, 0, NULL});
    BatchesOptions options = options_for(dataset);
    options.shift = SHIFT;
    options.shift_steps = GROWN;
    Batches *batches;
    const Batch *b;
    int largest[2] = {0}; /* in the first half of the growth, and after it */
    ASSERT_OK(batches_open(&batches, &options));
    for (int step = 0; step < STEPS; step++) {
        ASSERT_OK(batches_next(batches, &b));
        for (int i = 0; i < b->images; i++) {
            const unsigned char *pixels = b->pixels + i * SIDE * SIDE;
            int tint = atoi(strchr(b->sample_ids[i], '-') + 1), moved = 2 * SHIFT;
            for (int reach = 0; reach <= SHIFT && moved > SHIFT; reach++)
                for (int dy = -reach; dy <= reach; dy++)
                    for (int dx = -reach; dx <= reach; dx++)
                        if (pixels[(5 + dy) * SIDE + 5 + dx] == (1 + 5 + 16 * 5 + tint) % 251)
                            moved = reach;
            ASSERT_INT(moved, <=, SHIFT);
            if (step == 0) ASSERT_INT(moved, ==, 0);
            if (step < GROWN / 2 && moved > largest[0]) largest[0] = moved;
            if (step >= GROWN && moved > largest[1]) largest[1] = moved;
        }
    }
    printf("up to %d pixels while it grows to half, up to %d at its full size\n", largest[0],
           largest[1]);
    ASSERT_INT(largest[0], ==, 1);
    ASSERT_INT(largest[1], ==, SHIFT);
    batches_close(&batches);
    dataset_close(&dataset);
}

TEST(colour_pictures_are_shifted_by_whole_pixels) {
    Dataset *dataset = make_dataset(&(Made){"set", 5, SIDE, 0, NULL});
    BatchesOptions options = options_for(dataset);
    options.shift = 3;
    options.image_channels = 3;
    Batches *batches;
    const Batch *b;
    ASSERT_OK(batches_open(&batches, &options));
    ASSERT_OK(batches_next(batches, &b));
    for (int p = 0; p < b->images * SIDE * SIDE; p++) {
        ASSERT_INT(b->pixels[3 * p], ==, b->pixels[3 * p + 1]);
        ASSERT_INT(b->pixels[3 * p], ==, b->pixels[3 * p + 2]);
    }
    batches_close(&batches);
    dataset_close(&dataset);
}

/* ---- too long ---- */

TEST(overlong_samples_are_replaced_by_the_next_that_fits) {
    Dataset *dataset = make_dataset(&(Made){"set", 30, SIDE, 3, NULL});
    BatchesOptions options = options_for(dataset);
    Batches *batches;
    const Batch *b;
    Mixer mixer;
    ASSERT_OK(mixer_open(&mixer, options.seed, 1, (double[]){1}, (size_t[]){24}));
    ASSERT_OK(batches_open(&batches, &options));
    int64_t overlong = 0;
    for (int step = 0; step < 40; step++) {
        ASSERT_OK(batches_next(batches, &b));
        ASSERT_INT(b->samples, ==, 3);
        for (int i = 0; i < 3; i++) {
            size_t at = mixer_choose(&mixer, (uint64_t)(step * 3 + i)).index;
            size_t index = at / 4 * 5 + at % 4;
            if (index % 3 == 0) overlong++;
            while (index % 3 == 0) {
                at = (at + 1) % 24;
                index = at / 4 * 5 + at % 4;
            }
            ASSERT_TEXT(b->sample_ids[i], dataset_id(dataset, index));
        }
        ASSERT_INT(batches_overlong(batches), ==, overlong);
    }
    ASSERT_INT(overlong, >, 20);
    batches_close(&batches);
    dataset_close(&dataset);
}

TEST(overlong_samples_are_cut_or_refused_as_asked) {
    Dataset *dataset = make_dataset(&(Made){"set", 6, SIDE, 3, "qk"});
    BatchesOptions options = options_for(dataset);
    Batch *b;
    options.overlong = OVERLONG_TRUNCATE;
    ASSERT_OK(batch_build(&b, &options, dataset, (size_t[]){0, 3, 1}, 3));
    ASSERT_INT(b->starts[1], ==, 40);
    ASSERT_INT(b->starts[2], ==, 80);
    ASSERT_INT(b->longest, ==, 40);
    ASSERT_TRUE(b->ids[39] != EOS);
    ASSERT_INT(b->label_rows[0], ==, IMAGE_ROWS);
    ASSERT_INT(b->label_rows[34], ==, 38); /* 35 tokens of code are left of sample 0 */
    ASSERT_INT(b->targets[34], ==, b->ids[39]);
    ASSERT_INT(b->label_rows[35], ==, 40 + IMAGE_ROWS + 2);
    batch_free(&b);

    options.overlong = OVERLONG_DROP;
    ASSERT_OK(batch_build(&b, &options, dataset, (size_t[]){0, 1, 2}, 3));
    ASSERT_INT(b->samples, ==, 2);
    ASSERT_TEXT(b->sample_ids[0], "set-1");
    batch_free(&b);
    ASSERT_OK(batch_build(&b, &options, dataset, (size_t[]){0}, 1));
    ASSERT_INT(b->samples, ==, 0);
    ASSERT_INT(b->tokens, ==, 0);
    batch_free(&b);

    options.overlong = OVERLONG_ERROR;
    ASSERT_ERR(batch_build(&b, &options, dataset, (size_t[]){1, 0}, 2), ERR_INPUT,
               "sample 0 (set-0): ");
    ASSERT_CONTAINS(err_message(), "max_length is 40");
    ASSERT_TRUE(b == NULL);
    options.max_length = IMAGE_ROWS + 3;
    options.overlong = OVERLONG_TRUNCATE;
    ASSERT_ERR(batch_build(&b, &options, dataset, (size_t[]){1}, 1), ERR_INPUT,
               "sample 1 (set-1): picture and prompt have 7 rows, max_length is 7");
    dataset_close(&dataset);
}

TEST(dataset_of_overlong_samples_is_named) {
    Dataset *dataset = make_dataset(&(Made){"set", 10, SIDE, 1, NULL});
    BatchesOptions options = options_for(dataset);
    Batches *batches;
    const Batch *b;
    ASSERT_OK(batches_open(&batches, &options));
    ASSERT_ERR(batches_next(batches, &b), ERR_INPUT, "every sample of first has more than 40 rows");
    ASSERT_ERR(batches_next(batches, &b), ERR_INPUT, "every sample of first");
    batches_close(&batches);
    dataset_close(&dataset);
}

/* ---- errors and the end ---- */

TEST(damage_crosses_the_thread_with_its_sentence) {
    Dataset *dataset = make_dataset(&(Made){"set", 200, SIDE, 0, NULL});
    const char *shard = test_path("set/shard-00000.h5");
    FILE *file = fopen(shard, "r+b");
    ASSERT_TRUE(file);
    /* The last bytes of a shard are code, of some ten samples here. */
    ASSERT_INT(fseek(file, -30, SEEK_END), ==, 0);
    ASSERT_INT(fputs("##############################", file), >=, 0);
    fclose(file);
    BatchesOptions options = options_for(dataset);
    for (int ahead = 1; ahead < 4; ahead++) {
        Batches *batches;
        const Batch *b;
        int steps = 0;
        options.ahead = ahead;
        ASSERT_OK(batches_open(&batches, &options));
        Err err;
        while ((err = batches_next(batches, &b)) == OK) ASSERT_INT(steps++, <, 200);
        ASSERT_INT(err, ==, ERR_INPUT);
        ASSERT_CONTAINS(err_message(), "shard-00000.h5");
        ASSERT_CONTAINS(err_message(), "is damaged");
        ASSERT_TRUE(b == NULL);
        err_clear();
        ASSERT_ERR(batches_next(batches, &b), ERR_INPUT, "is damaged");
        batches_close(&batches);
        ASSERT_OK(batches_open(&batches, &options));
        batches_close(&batches); /* while the thread runs into the damage */
    }
    dataset_close(&dataset);
}

TEST(closing_never_waits_long) {
    Dataset *dataset = make_dataset(&(Made){"set", 200, SIDE, 0, NULL});
    BatchesOptions options = options_for(dataset);
    options.size = 8;
    double start = clock_seconds();
    for (int i = 0; i < 60; i++) {
        Batches *batches;
        const Batch *b;
        options.ahead = 1 + i % 4;
        ASSERT_OK(batches_open(&batches, &options));
        for (int k = 0; k < i % 5; k++) ASSERT_OK(batches_next(batches, &b));
        if (i % 3 == 0) usleep(5000); /* the thread has filled all and waits */
        batches_close(&batches);
        ASSERT_TRUE(batches == NULL);
        batches_close(&batches);
    }
    ASSERT_REAL(clock_seconds() - start, <, 20);
    dataset_close(&dataset);
}

TEST(pictures_that_do_not_fit_name_their_sample) {
    Dataset *dataset = make_dataset(&(Made){"set", 2, SIDE - 1, 0, NULL});
    BatchesOptions options = options_for(dataset);
    Batch *b;
    ASSERT_ERR(batch_build(&b, &options, dataset, (size_t[]){1}, 1), ERR_INPUT,
               "sample 1 (set-1): its picture has 11 × 11 pixels where the model takes 12 × 12");
    dataset_close(&dataset);

    DatasetWriter *writer;
    ASSERT_OK(dataset_writer_open(&writer, test_path("other"), "", 0));
    Sample sample = {.image = "not a picture",
                     .image_size = 13,
                     .code = "z",
                     .code_size = 1,
                     .id = "odd",
                     .source = "test"};
    ASSERT_OK(dataset_writer_add(writer, &sample));
    ASSERT_OK(dataset_writer_finish(&writer));
    ASSERT_OK(dataset_open(&dataset, test_path("other")));
    ASSERT_ERR(batch_build(&b, &options, dataset, (size_t[]){0}, 1), ERR_INPUT,
               "sample 0 (odd): its picture is not a PNG image");
    dataset_close(&dataset);
}

TEST(impossible_options_are_named) {
    Dataset *dataset = make_dataset(&(Made){"set", 10, SIDE, 0, NULL});
    const BatchesOptions good = options_for(dataset);
    BatchesOptions bad;
    Batches *batches;
#define REFUSED(change, part)                                                                      \
    bad = good;                                                                                    \
    bad.change;                                                                                    \
    ASSERT_ERR(batches_open(&batches, &bad), ERR_CONFIG, part);                                    \
    ASSERT_TRUE(batches == NULL)
    REFUSED(source_count = 0, "0 datasets");
    REFUSED(sources[0].weight = 0, "the weight of dataset first is 0");
    REFUSED(size = 0, "batches of 0 samples");
    REFUSED(size = 1 << 30, "a batch of 1073741824 samples");
    REFUSED(slots = 0, "slots 0 to 0 of 0");
    REFUSED(slot_end = 2, "slots 0 to 1 of 1");
    REFUSED(first_step = -1, "from step -1");
    REFUSED(image_channels = 2, "pictures of 2 channels");
    REFUSED(image_size = 0, "pictures of 0 pixels");
    REFUSED(image_rows = 0, "0 rows a picture");
    REFUSED(max_length = IMAGE_ROWS + 2, "max_length 6 leaves no room");
    REFUSED(shift = SIDE, "a shift of 12 pixels");
    dataset_close(&dataset);
}
