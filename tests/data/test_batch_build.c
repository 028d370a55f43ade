/* What a sample becomes in a batch: rows and labels of the template, shifted pictures, and what is
 * too long. */
#include "tests/data/batches_fixture.h"

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

/* The made pictures have each value once, so where one lies gives the shift. */
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

/* How many rows a sample has that no limit cuts. */
static int rows_of(BatchesOptions options, const Dataset *dataset, size_t index) {
    Batch *b;
    options.max_length = 4096;
    ASSERT_OK(batch_build(&b, &options, dataset, &index, 1));
    ASSERT_INT(b->overlong, ==, 0);
    int rows = b->tokens;
    batch_free(&b);
    return rows;
}

TEST(a_sample_of_just_as_many_rows_as_are_allowed_is_not_too_long) {
    Dataset *dataset = make_dataset(&(Made){"set", 6, SIDE, 3, NULL});
    BatchesOptions options = options_for(dataset);
    size_t index = 3;
    Batch *b;
    int rows = rows_of(options, dataset, index);
    for (int room = rows - 1; room <= rows; room++) {
        options.max_length = room;
        ASSERT_OK(batch_build(&b, &options, dataset, &index, 1));
        ASSERT_INT(b->samples, ==, room == rows);
        ASSERT_INT(b->overlong, ==, room < rows);
        ASSERT_INT(b->overlong_rows, ==, room < rows ? rows : 0);
        batch_free(&b);
    }
    dataset_close(&dataset);
}

TEST(overlong_samples_are_replaced_by_the_next_that_fits) {
    Dataset *dataset = make_dataset(&(Made){"set", 30, SIDE, 3, NULL});
    BatchesOptions options = options_for(dataset);
    Batches *batches;
    const Batch *b;
    Mixer mixer;
    ASSERT_OK(mixer_open(&mixer, options.seed, 1, (double[]){1}, (size_t[]){24}));
    ASSERT_OK(batches_open(&batches, &options));
    int overlong = 0, long_rows = rows_of(options, dataset, 0);
    for (int step = 0; step < 40; step++) {
        ASSERT_OK(batches_next(batches, &b));
        ASSERT_INT(b->samples, ==, 3);
        int before = overlong;
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
        ASSERT_INT(b->overlong, ==, overlong - before);
        ASSERT_INT(b->overlong_rows, ==, overlong > before ? long_rows : 0);
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
    ASSERT_INT(b->overlong, ==, 2);
    ASSERT_INT(b->overlong_rows, ==, rows_of(options, dataset, 3)); /* it has a prompt as well */
    ASSERT_TRUE(b->ids[39] != EOS);
    ASSERT_INT(b->label_rows[0], ==, IMAGE_ROWS);
    ASSERT_INT(b->label_rows[34], ==, 38); /* 35 tokens of code are left of sample 0 */
    ASSERT_INT(b->targets[34], ==, b->ids[39]);
    ASSERT_INT(b->label_rows[35], ==, 40 + IMAGE_ROWS + 2);
    batch_free(&b);

    ASSERT_OK(
        batch_build(&b, &options, dataset, (size_t[]){3, 0}, 2)); /* the longest is not last */
    ASSERT_INT(b->overlong_rows, ==, rows_of(options, dataset, 3));
    batch_free(&b);

    options.overlong = OVERLONG_DROP;
    ASSERT_OK(batch_build(&b, &options, dataset, (size_t[]){0, 1, 2}, 3));
    ASSERT_INT(b->samples, ==, 2);
    ASSERT_INT(b->overlong, ==, 1);
    ASSERT_INT(b->overlong_rows, ==, rows_of(options, dataset, 0));
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
    ASSERT_ERR(batches_next(batches, &b), ERR_INPUT,
               "every sample of first has more than 40 rows (max_length), the shortest ");
    ASSERT_ERR(batches_next(batches, &b), ERR_INPUT, "every sample of first");
    batches_close(&batches);
    dataset_close(&dataset);
}
