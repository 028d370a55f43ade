/* The numbers that a run reports, by what they are said to be in docs/formats.md. */
#include "cad/language/code.h"
#include "core/file.h"
#include "core/json.h"
#include "data/shard.h"
#include "data/synth/synth.h"
#include "eval/evaluate.h"
#include "eval/validate.h"
#include "image/image.h"
#include "tests/support/run_fixture.h"
#include "tests/support/test.h"
#include "tests/support/train_fixture.h"

enum { LINES_MAX = 128 };

typedef struct Lines {
    Json *lines[LINES_MAX];
    int count;
} Lines;

static Lines read_metrics(const char *run) {
    char path[PATH_SIZE];
    Buf text = {0};
    Lines l = {0};
    ASSERT_OK(path_join(path, run, "metrics.jsonl"));
    ASSERT_OK(file_read(&text, path, 1 << 30));
    for (char *line = strtok(text.data, "\n"); line; line = strtok(NULL, "\n")) {
        ASSERT_TRUE(l.count < LINES_MAX);
        ASSERT_OK(js_parse(&l.lines[l.count++], line, strlen(line), path));
    }
    buf_free(&text);
    return l;
}

static void lines_free(Lines *l) {
    for (int i = 0; i < l->count; i++) js_free(&l->lines[i]);
}

static double number(const Json *line, const char *key) {
    double value = NAN;
    ASSERT(js_number(js_get(line, key), &value), "no number \"%s\"", key);
    return value;
}

/* ---- steps ---- */

/* 40 samples, of which 32 are for training; a step takes 2 micro-batches of 3. A sample's rows are
 * those of its picture (4 patches of 16 × 16), <bos>, and its labels: the code and <eos>. */
enum { STEPS = 8, SAMPLES_A_STEP = 6, TRAINED_ON = 32, ROWS_BEFORE_LABELS = 5 };

/* A warm-up of a quarter of 8 steps, then in a line from the peak at step 2 to a fifth of it at
 * step 8. */
static double rate(int step) {
    return 3e-3 * (step < 2 ? (step + 1) / 3.0 : 1 - 0.8 * (step - 2) / 6.0);
}

static void check_step(const Json *line, int step) {
    double seconds = number(js_get(line, "seconds"), "whole"), labels = number(line, "labels"),
           samples = SAMPLES_A_STEP * (step + 1);
    ASSERT_REAL(number(line, "step"), ==, step + 1);
    ASSERT_REAL(number(line, "samples"), ==, samples);
    ASSERT_NEAR(number(line, "epoch"), samples / TRAINED_ON, 1e-8);
    ASSERT_NEAR(number(line, "lr"), rate(step), 1e-8 * rate(step));
    ASSERT_NEAR(number(line, "samples_per_s") * seconds, SAMPLES_A_STEP, 1e-6);
    ASSERT_NEAR(number(line, "tokens_per_s") * seconds,
                labels + SAMPLES_A_STEP * ROWS_BEFORE_LABELS, 1e-4);
    ASSERT_NEAR(number(js_get(line, "dataset_samples"), "data"), samples, 0);
    double hits = number(line, "accuracy") * labels; /* a whole number */
    ASSERT_NEAR(hits, round(hits), 1e-4);
}

TEST(steps_report_what_they_did) {
    run_prepare(40, "micro_batches: 2, max_steps: 8, min_lr_ratio: 0.2, lr_scheduler_type: linear",
                "");
    run_train("", run_folder("run"), "training.warmup_steps=0 training.warmup_ratio=0.25");
    Lines l = read_metrics(run_folder("run"));
    ASSERT_INT(l.count, ==, STEPS + 1); /* and the validation at the end */
    for (int step = 0; step < STEPS; step++) check_step(l.lines[step], step);
    lines_free(&l);
}

/* What is known by heart is all hits, and a model that has seen nothing has few. */
TEST(accuracy_is_the_share_of_labels_that_were_most_likely) {
    run_prepare(2, "micro_batches: 1, max_steps: 120, lr_scheduler_type: constant", "");
    run_train("", run_folder("run"), "training.per_device_batch_size=2");
    Lines l = read_metrics(run_folder("run"));
    const Json *last = l.lines[119];
    ASSERT_REAL(number(l.lines[0], "accuracy"), <, 0.2);
    ASSERT_REAL(number(last, "loss"), <, 0.2);
    ASSERT_REAL(number(last, "accuracy"), >, 0.9);
    lines_free(&l);
}

/* ---- validations ---- */

/* Part `index` with the picture of part `picture`, and its code so many times. */
static void add_part(DatasetWriter *writer, int index, int picture, int times, Split split) {
    CadProgram program;
    Buf code = {0}, png = {0};
    Image image;
    char id[32];
    ASSERT_OK(synth_part(&program, 1, (uint64_t)index, 0, SYNTH_CORNER));
    for (int i = 0; i < times; i++) code_emit(&code, &program, CODE_PLAIN);
    program_free(&program);
    ASSERT_OK(image_new(&image, 32, 32, 1));
    for (int i = 0; i < 32 * 32; i++) image.pixels[i] = (uint8_t)(i * (picture + 1));
    ASSERT_OK(image_encode(&png, &image));
    image_free(&image);
    snprintf(id, sizeof id, "part-%d", index);
    Sample sample = {.prompt = "",
                     .id = id,
                     .source = "synth",
                     .split = split,
                     .code = code.data,
                     .code_size = code.size,
                     .image = png.data,
                     .image_size = png.size};
    ASSERT_OK(dataset_writer_add(writer, &sample));
    buf_free(&code);
    buf_free(&png);
}

static void add_sample(DatasetWriter *writer, int index, Split split) {
    add_part(writer, index, index, 1, split);
}

/* The same two samples in one split. */
static void write_both(const char *path, Split split) {
    DatasetWriter *writer;
    ASSERT_OK(dataset_writer_open(&writer, path, "made by a test", 0));
    for (int i = 0; i < 2; i++) add_sample(writer, i, split);
    ASSERT_OK(dataset_writer_finish(&writer));
}

/* At a rate that changes nothing, a step over all samples has the loss of a validation over the
 * same: a mean over the labels of both, which are not as many in each. */
TEST(a_validation_reports_what_a_step_over_the_same_samples_does) {
    write_both(test_path("train"), SPLIT_TRAIN);
    write_both(test_path("val"), SPLIT_VAL);
    fixture_tokenizer(test_path("tokenizer.json"));
    fixture_config(test_path("c.yaml"), test_path("train"), test_path("tokenizer.json"),
                   test_path("run"), "micro_batches: 1, max_steps: 1", "precision: f32");
    char more[PATH_SIZE];
    for (int size = 1; size <= 2; size++) { /* in one batch, and in two */
        const char *run = run_folder(size == 1 ? "apart" : "together");
        snprintf(more, sizeof more,
                 "val_data=%s training.learning_rate=1e-12 training.per_device_batch_size=%d "
                 "training.micro_batches=%d",
                 test_path("val"), size, 3 - size);
        run_train("", run, more);
        Lines l = read_metrics(run);
        ASSERT_INT(l.count, ==, 2);
        ASSERT_NEAR(number(l.lines[1], "val_loss") / number(l.lines[0], "loss"), 1, 1e-6);
        ASSERT_NEAR(number(l.lines[1], "val_accuracy"), number(l.lines[0], "accuracy"), 1e-9);
        lines_free(&l);
    }
}

/* Every fifth of 40 is held out: 4, 9, … 39. */
TEST(a_limited_validation_takes_samples_from_all_over) {
    Dataset *dataset;
    size_t *indices, count;
    fixture_dataset(test_path("data"), 40, 1);
    ASSERT_OK(dataset_open(&dataset, test_path("data")));
    ASSERT_OK(split_indices(dataset, SPLIT_VAL, 3, &indices, &count));
    ASSERT_INT(count, ==, 3);
    ASSERT_INT(indices[0], ==, 4);
    ASSERT_INT(indices[1], ==, 14);
    ASSERT_INT(indices[2], ==, 29);
    free(indices);
    ASSERT_OK(split_indices(dataset, SPLIT_VAL, 0, &indices, &count));
    ASSERT_INT(count, ==, 8);
    for (size_t i = 0; i < count; i++) ASSERT_INT(indices[i], ==, 5 * i + 4);
    free(indices);
    dataset_close(&dataset);
}

/* A rate and a decay that no weights stand: they grow a hundredfold a step. */
TEST(a_run_whose_numbers_stay_broken_ends_and_says_which_steps_were_skipped) {
    enum { SKIPPED_IN_A_ROW = 10 };
    const char *said, *run = run_folder("run");
    run_prepare(40,
                "micro_batches: 2, per_device_batch_size: 3, learning_rate: 100, weight_decay: 1, "
                "warmup_ratio: 0, "
                "max_steps: 60",
                "");
    int code = test_run(&said, "./cadvlm train --config %s", test_path("c.yaml"));
    ASSERT(code == 1, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "10 steps in a row had numbers that are not finite");
    Lines l = read_metrics(run);
    int skipped = 0;
    for (int i = 0; i < l.count; i++) {
        bool is_skipped = js_get(l.lines[i], "skipped") != NULL;
        ASSERT_TRUE(is_skipped || i + SKIPPED_IN_A_ROW < l.count || skipped == 0);
        skipped += is_skipped;
    }
    printf("%d steps, %d skipped\n", l.count, skipped);
    ASSERT_TRUE(js_get(l.lines[0], "skipped") == NULL);
    ASSERT_INT(skipped, >=, SKIPPED_IN_A_ROW - 1);
    lines_free(&l);
}

/* Of three ranks and two micro-batches the first has nothing to do, and reports all the same. */
TEST(samples_of_datasets_are_counted_where_a_rank_has_no_micro_batch) {
    const char *said, *run = run_folder("run");
    run_prepare(40, "micro_batches: 2, per_device_batch_size: 3, max_steps: 4", "");
    int code =
        test_run(&said, "%s ./cadvlm train --config %s", fixture_mpirun(3), test_path("c.yaml"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    Lines l = read_metrics(run);
    for (int step = 1; step <= 4; step++)
        ASSERT_REAL(number(js_get(l.lines[step - 1], "dataset_samples"), "data"), ==, 6 * step);
    lines_free(&l);
}

static double evaluated(const char *data, const char *options, const char *key) {
    const char *said;
    int code = test_run(
        &said, "./cadvlm eval -c %s --data %s --gallery 0 --max-tokens 2 %s --json 2>/dev/null",
        run_folder("run"), data, options);
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    Json *root;
    ASSERT_OK(js_parse(&root, said, strlen(said), "eval"));
    double value = number(*key ? js_get(root, key) : root, "loss");
    js_free(&root);
    return value;
}

/* The first of five samples is too long for the model: the others are shown the pictures that they
 * would be shown with it, which is what a set has in which these are their own. */
TEST(exchanged_pictures_stay_where_a_sample_is_left_out) {
    enum { COUNT = 5 };
    DatasetWriter *writer;
    write_both(test_path("train"), SPLIT_TRAIN);
    fixture_tokenizer(test_path("tokenizer.json"));
    fixture_config(test_path("c.yaml"), test_path("train"), test_path("tokenizer.json"),
                   test_path("run"), "micro_batches: 1, per_device_batch_size: 2, max_steps: 60",
                   "precision: f32");
    run_train("", run_folder("run"), "");
    for (int own = 0; own < 2; own++) {
        ASSERT_OK(dataset_writer_open(&writer, test_path(own ? "own" : "long"), "by a test", 0));
        for (int i = own; i < COUNT; i++)
            add_part(writer, i, own ? (int)eval_donor((size_t)i, COUNT) : i, i ? 1 : 40, SPLIT_VAL);
        ASSERT_OK(dataset_writer_finish(&writer));
    }
    double expected = evaluated(test_path("own"), "", ""),
           found = evaluated(test_path("long"), "--shuffled", "shuffled"),
           other = evaluated(test_path("long"), "", "");
    printf("%.9f, %.9f expected; %.9f with their own pictures\n", found, expected, other);
    ASSERT_NEAR(found, expected, 1e-6);
    ASSERT_REAL(fabs(other - expected), >, 1e-4);
}
