/* The walk over batches: a pure function of (step, micro-batch), and errors that cross the thread.
 */
#include <unistd.h>

#include "core/clock.h"
#include "core/rng.h"
#include "data/exclude.h"
#include "data/shard_file.h"
#include "tests/data/batches_fixture.h"

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
    ASSERT_INT(copy.b.micro_batch, ==, expected->b.micro_batch);
    for (int i = 0; i < copy.b.samples; i++) ASSERT_TEXT(copy.names[i], expected->names[i]);
    size_t arrays = offsetof(Copy, ids);
    ASSERT_INT(
        memcmp((char *)&copy + arrays, (const char *)expected + arrays, sizeof copy - arrays), ==,
        0);
}

static int compare_ints(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

/* ---- the walk ---- */

TEST(batch_is_a_function_of_step_and_micro_batch) {
    enum { STEPS = 6, MICRO_BATCHES = 4 };
    static Copy all[STEPS][MICRO_BATCHES];
    Dataset *dataset = make_dataset(&(Made){"set", 30, SIDE, 4, "qk"});
    Dataset *second = make_dataset(&(Made){"second", 9, SIDE, 0, NULL});
    BatchesOptions options = options_for(dataset);
    options.sources[1] = (BatchSource){second, "second", 0.5, 0};
    options.source_count = 2;
    options.shift = 2;
    options.micro_batches = options.micro_end = MICRO_BATCHES;
    Batches *batches;
    const Batch *b;
    ASSERT_OK(batches_open(&batches, &options));
    for (int step = 0; step < STEPS; step++)
        for (int micro_batch = 0; micro_batch < MICRO_BATCHES; micro_batch++) {
            ASSERT_OK(batches_next(batches, &b));
            ASSERT_INT(b->step, ==, step);
            ASSERT_INT(b->micro_batch, ==, micro_batch);
            ASSERT_INT(b->samples, ==, 3);
            ASSERT_INT(b->samples_seen[1], ==, (step * MICRO_BATCHES + micro_batch) * 3 + 1);
            copy_batch(&all[step][micro_batch], b);
        }
    batches_close(&batches);
    /* Every share of the micro-batches, from every step, by more or fewer threads. */
    for (int first = 0; first < MICRO_BATCHES; first++)
        for (int end = first + 1; end <= MICRO_BATCHES; end++) {
            options.micro_first = first;
            options.micro_end = end;
            options.first_step = first + end - 1;
            options.workers = 1 + (first + end) % 3;
            ASSERT_OK(batches_open(&batches, &options));
            for (int64_t step = options.first_step; step < STEPS; step++)
                for (int micro_batch = first; micro_batch < end; micro_batch++) {
                    ASSERT_OK(batches_next(batches, &b));
                    assert_same(b, &all[step][micro_batch]);
                }
            batches_close(&batches);
        }
    dataset_close(&dataset);
    dataset_close(&second);
}

TEST(simple_samples_come_first_in_a_curriculum) {
    enum { STEPS = 8 };
    Dataset *dataset = make_dataset(&(Made){"set", 60, SIDE, 0, NULL}); /* 48 to train on */
    BatchesOptions options = options_for(dataset);
    options.curriculum_start = 0.25;
    options.curriculum_samples = 12;
    int sorted[48], count = 0;
    for (size_t i = 0; i < 60; i++)
        if (dataset_split(dataset, i) == SPLIT_TRAIN)
            sorted[count++] = dataset_complexity(dataset, i);
    qsort(sorted, 48, sizeof *sorted, compare_ints);
    Batches *batches;
    const Batch *b;
    ASSERT_OK(batches_open(&batches, &options));
    int harder = 0;
    for (int step = 0; step < STEPS; step++) {
        ASSERT_OK(batches_next(batches, &b));
        for (int i = 0; i < b->samples; i++) {
            size_t index = 0;
            while (strcmp(dataset_id(dataset, index), b->sample_ids[i]) != 0) index++;
            int complexity = dataset_complexity(dataset, index);
            /* The n-th sample of twelve is in stage 16 n / 12; a quarter takes part at the start.
             */
            int n = 3 * step + i, part = n < 12 ? 12 + (16 * n / 12) * 36 / 16 + 1 : 48;
            ASSERT_INT(complexity, <=, sorted[part - 1]);
            harder += n >= 12 && complexity > sorted[24];
        }
    }
    ASSERT_INT(harder, >, 2);
    batches_close(&batches);
    dataset_close(&dataset);
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
    options.workers = 3;
    Batches *batches;
    enum { BUFFERS = 2 * 3 + 1 };
    const Batch *b, *seen[BUFFERS] = {NULL};
    ASSERT_OK(batches_open(&batches, &options));
    for (int step = 0; step < 40; step++) {
        ASSERT_OK(batches_next(batches, &b));
        int i = 0;
        while (i < BUFFERS && seen[i] && seen[i] != b) i++;
        ASSERT(i < BUFFERS, "batch %d lies in buffer %d", step, BUFFERS + 1);
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

/* ---- samples that are left out ---- */

static uint64_t leave_out(Dataset *dataset, const char *list, size_t counts[SPLIT_COUNT]) {
    Exclusions *exclusions;
    ASSERT_OK(exclusions_open(&exclusions, list));
    exclusions_apply(exclusions, dataset, counts);
    uint64_t hash = exclusions_hash(exclusions);
    ASSERT_OK(exclusions_check(exclusions));
    exclusions_close(&exclusions);
    return hash;
}

TEST(what_is_left_out_is_never_drawn_and_all_else_is) {
    Dataset *dataset = make_dataset(&(Made){"set", 30, SIDE, 0, NULL});
    size_t counts[SPLIT_COUNT], *indices, count;
    uint64_t hash = leave_out(dataset, "set-7,set-0,set-14", counts); /* 14 is of the split val */
    ASSERT_TRUE(hash != 0);
    ASSERT_INT(counts[SPLIT_TRAIN], ==, 2);
    ASSERT_INT(counts[SPLIT_VAL], ==, 1);
    ASSERT_INT(counts[SPLIT_TEST], ==, 0);
    ASSERT_INT(dataset_split(dataset, 7), ==, SPLIT_NONE);
    ASSERT_INT(dataset_split(dataset, 14), ==, SPLIT_NONE);
    ASSERT_INT(dataset_split(dataset, 8), ==, SPLIT_TRAIN);
    BatchSource source = {dataset, "first", 1, 0};
    ASSERT_OK(batches_select(&source, SPLIT_VAL, &indices, &count));
    ASSERT_INT(count, ==, 5);
    free(indices);
    source.limit = 6; /* of those that are left: 1 2 3 5 6 8 */
    ASSERT_OK(batches_select(&source, SPLIT_TRAIN, &indices, &count));
    ASSERT_INT(count, ==, 6);
    ASSERT_INT(indices[0], ==, 1);
    ASSERT_INT(indices[5], ==, 8);
    free(indices);

    /* Two passes over 22 samples: each comes twice, as the mixer has it for 22. */
    BatchesOptions options = options_for(dataset);
    options.size = 11;
    Mixer mixer;
    ASSERT_OK(mixer_open(&mixer, options.seed, 1, (double[]){1}, (size_t[]){22}));
    source.limit = 0;
    ASSERT_OK(batches_select(&source, SPLIT_TRAIN, &indices, &count));
    ASSERT_INT(count, ==, 22);
    Batches *batches;
    const Batch *b;
    int seen[30] = {0};
    ASSERT_OK(batches_open(&batches, &options));
    for (int n = 0; n < 44; n++) {
        if (n % 11 == 0) ASSERT_OK(batches_next(batches, &b));
        size_t index = indices[mixer_choose(&mixer, (uint64_t)n).index];
        ASSERT_TEXT(b->sample_ids[n % 11], dataset_id(dataset, index));
        seen[index]++;
    }
    for (int i = 0; i < 30; i++) ASSERT_INT(seen[i], ==, i == 7 || i == 0 || i % 5 == 4 ? 0 : 2);
    batches_close(&batches);
    free(indices);
    Sample sample; /* who asks for it by its number gets it all the same */
    Buf memory = {0};
    ASSERT_OK(dataset_read(dataset, 7, &sample, &memory));
    ASSERT_TEXT(sample.id, "set-7");
    buf_free(&memory);
    dataset_close(&dataset);
}

TEST(a_list_of_samples_to_leave_out_is_a_file_or_ids) {
    static const char file[] = "# a remark\r\nset-3\r\n\r\n#\nset-5\nset-3\nother-1\nset-6";
    Dataset *dataset = make_dataset(&(Made){"set", 10, SIDE, 0, NULL});
    size_t counts[SPLIT_COUNT];
    ASSERT_INT(leave_out(dataset, "", counts), ==, 0);
    ASSERT_INT(counts[SPLIT_TRAIN], ==, 0);
    ASSERT_OK(file_write(test_path("list"), file, sizeof file - 1));
    uint64_t by_file = leave_out(dataset, test_path("list"), counts);
    ASSERT_INT(counts[SPLIT_TRAIN], ==, 3);
    for (size_t i = 0; i < 10; i++)
        ASSERT_TRUE((dataset_split(dataset, i) == SPLIT_NONE) == (i == 3 || i == 5 || i == 6));
    dataset_close(&dataset);

    ASSERT_OK(dataset_open(&dataset, test_path("set")));
    ASSERT_TRUE(leave_out(dataset, "set-6,set-3,set-5,set-3,set-6,set-6", counts) == by_file);
    dataset_close(&dataset);
    ASSERT_OK(dataset_open(&dataset, test_path("set")));
    ASSERT_TRUE(leave_out(dataset, "set-6,set-3", counts) != by_file);
    dataset_close(&dataset);

    Exclusions *exclusions;
    ASSERT_OK(dataset_open(&dataset, test_path("set")));
    ASSERT_OK(exclusions_open(&exclusions, "set-1,lists/bad.txt"));
    exclusions_apply(exclusions, dataset, counts);
    ASSERT_ERR(exclusions_check(exclusions), ERR_CONFIG,
               "exclude: \"lists/bad.txt\" is neither a file nor the id of a sample");
    exclusions_close(&exclusions);
    ASSERT_OK(file_write(test_path("list"), "set-1\n\0", 7));
    ASSERT_ERR(exclusions_open(&exclusions, test_path("list")), ERR_INPUT, "a zero byte at 6");
    ASSERT_TRUE(!exclusions);
    ASSERT_ERR(exclusions_open(&exclusions, test_folder()), ERR_INPUT, "is not a regular file");
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
    for (int workers = 1; workers < 4; workers++) {
        Batches *batches;
        const Batch *b;
        int steps = 0;
        options.workers = workers;
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
        options.workers = 1 + i % 4;
        ASSERT_OK(batches_open(&batches, &options));
        for (int k = 0; k < i % 5; k++) ASSERT_OK(batches_next(batches, &b));
        if (i % 3 == 0) usleep(5000); /* the thread has filled all and waits */
        batches_close(&batches);
        ASSERT_TRUE(batches == NULL);
        batches_close(&batches);
    }
    ASSERT_REAL(clock_seconds() - start, <, test_patience(20));
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
    REFUSED(micro_batches = 0, "micro-batches 0 to 0 of 0");
    REFUSED(micro_end = 2, "micro-batches 0 to 1 of 1");
    REFUSED(first_step = -1, "from step -1");
    REFUSED(image_channels = 2, "pictures of 2 channels");
    REFUSED(image_size = 0, "pictures of 0 pixels");
    REFUSED(image_rows = 0, "0 rows a picture");
    REFUSED(max_length = IMAGE_ROWS + 2, "max_length 6 leaves no room");
    REFUSED(shift = SIDE, "a shift of 12 pixels");
    dataset_close(&dataset);
}
