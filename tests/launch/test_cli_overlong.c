/* Samples of more than training.max_length rows, in training, validation and evaluation: what
 * happens to them is said and counted, on any number of ranks. */
#include "core/file.h"
#include "core/json.h"
#include "data/batches.h"
#include "data/mixer.h"
#include "tests/support/test.h"
#include "tests/support/train_fixture.h"

enum {
    SAMPLES = 40,
    MICRO_BATCHES = 2,
    MICRO_BATCH = 3,
    STEP = MICRO_BATCHES * MICRO_BATCH,
    IMAGE_ROWS = 4
};

/* What a step or a whole split has of such samples, counted without the trainer. */
typedef struct Expected {
    int samples, overlong, longest;
} Expected;

static unsigned long long seed = 7; /* of the run */
static int rows[SAMPLES];           /* of every sample of "data"; every fifth is of the split val */

static bool is_val(int index) {
    return index % 5 == 4;
}

static void measure_rows(void) {
    Dataset *dataset;
    Tokenizer *tokenizer;
    ASSERT_OK(dataset_open(&dataset, test_path("data")));
    ASSERT_OK(tokenizer_open(&tokenizer, test_path("tokenizer.json")));
    BatchesOptions options = {.tokenizer = tokenizer,
                              .template = TEMPLATE_PLAIN,
                              .max_length = 4096,
                              .image_size = 32,
                              .image_channels = 1,
                              .image_rows = IMAGE_ROWS};
    for (size_t i = 0; i < SAMPLES; i++) {
        Batch *batch;
        ASSERT_OK(batch_build(&batch, &options, dataset, &i, 1));
        rows[i] = batch->tokens;
        batch_free(&batch);
    }
    tokenizer_close(&tokenizer);
    dataset_close(&dataset);
}

static int compare(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

/* Row count number `k` of a split, from the shortest. */
static int ranked_rows(bool val, int k) {
    int sorted[SAMPLES], count = 0;
    for (int i = 0; i < SAMPLES; i++)
        if (is_val(i) == val) sorted[count++] = rows[i];
    qsort(sorted, (size_t)count, sizeof *sorted, compare);
    return sorted[k];
}

static void prepare(const char *training) {
    char line[256];
    snprintf(line, sizeof line, "micro_batches: %d%s%s", MICRO_BATCHES, *training ? ", " : "",
             training);
    fixture_dataset(test_path("data"), SAMPLES, 1);
    fixture_tokenizer(test_path("tokenizer.json"));
    fixture_config(test_path("c.yaml"), test_path("data"), test_path("tokenizer.json"),
                   test_path("run"), line, "");
    measure_rows();
}

static void count(Expected *e, int index, int max_length) {
    e->samples++;
    if (rows[index] <= max_length) return;
    e->overlong++;
    if (rows[index] > e->longest) e->longest = rows[index];
}

/* What steps first … end - 1 draw, by the order of the mixer. */
static Expected expect_steps(int first, int end, int max_length) {
    Mixer mixer;
    size_t trained = 0;
    int indices[SAMPLES];
    for (int i = 0; i < SAMPLES; i++)
        if (!is_val(i)) indices[trained++] = i;
    ASSERT_OK(mixer_open(&mixer, seed, 1, (double[]){1}, &trained));
    Expected e = {0};
    for (int n = first * STEP; n < end * STEP; n++)
        count(&e, indices[mixer_choose(&mixer, (uint64_t)n).index], max_length);
    return e;
}

static Expected expect_validation(int max_length) {
    Expected e = {0};
    for (int i = 0; i < SAMPLES; i++)
        if (is_val(i)) count(&e, i, max_length);
    return e;
}

static int first_overlong_step(int first, int max_length) {
    while (!expect_steps(first, first + 1, max_length).overlong) first++;
    return first;
}

/* `said` has the sentence once. */
static void assert_reported(const char *said, const char *what, Expected e, int max_length,
                            const char *outcome) {
    char sentence[512];
    snprintf(sentence, sizeof sentence,
             "%s: %d of %d samples are too long (up to %d rows, training.max_length is %d); %s",
             what, e.overlong, e.samples, e.longest, max_length, outcome);
    ASSERT_CONTAINS(said, sentence);
    ASSERT(!strstr(strstr(said, sentence) + 1, sentence), "it is said twice: %s", sentence);
}

static int occurrences(const char *text, const char *part) {
    int found = 0;
    for (const char *at = text; (at = strstr(at, part)); at++) found++;
    return found;
}

/* Every step of metrics.jsonl has its own count, none where there are none; validations too. */
static void assert_metrics(const char *run, int steps, int max_length, int validations) {
    char path[PATH_SIZE];
    Buf text = {0};
    int found = 0, validated = 0;
    Expected val = expect_validation(max_length);
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    ASSERT_OK(file_read(&text, path, 1 << 20));
    for (char *line = strtok(text.data, "\n"); line; line = strtok(NULL, "\n")) {
        Json *root;
        int64_t step, overlong = 0;
        ASSERT_OK(js_parse(&root, line, strlen(line), path));
        ASSERT_OK(js_need_integer(&step, root, "step", path));
        bool validation = js_get(root, "val_loss") != NULL;
        const char *key = validation ? "val_overlong" : "overlong";
        int expected =
            validation ? val.overlong : expect_steps((int)step - 1, (int)step, max_length).overlong;
        if (js_get(root, key)) ASSERT_OK(js_need_integer(&overlong, root, key, path));
        ASSERT(overlong == expected, "step %lld: %s %lld, not %d", (long long)step, key,
               (long long)overlong, expected);
        ASSERT_TRUE((js_get(root, key) != NULL) == (expected > 0));
        found += !validation;
        validated += validation;
        js_free(&root);
    }
    buf_free(&text);
    ASSERT_INT(found, ==, steps);
    ASSERT_INT(validated, ==, validations);
}

static const char *ranks_prefix(int ranks) {
    return ranks == 1 ? "" : fixture_mpirun(ranks);
}

static const char *const dropped =
    "others of their dataset take their places (training.overlong: drop)";
static const char *const cut =
    "their programs are cut and have no end (training.overlong: truncate)";

TEST(training_counts_what_it_drops_or_cuts_on_any_ranks) {
    enum { STEPS = 4 };
    static const char *const policies[] = {"drop", "truncate"};
    prepare("max_steps: 4, eval_steps: 2, eval_samples: 0");
    int length = ranked_rows(false, 20), at = first_overlong_step(0, length);
    Expected all = expect_steps(0, STEPS, length);
    ASSERT_TRUE(at < STEPS && all.overlong < all.samples);
    Expected val = expect_validation(length);
    ASSERT_TRUE(val.overlong > 0 && val.overlong < val.samples);
    for (int p = 0; p < 2; p++)
        for (int ranks = 1; ranks <= 3; ranks++) { /* the third has no micro-batch */
            char run[PATH_SIZE], what[64];
            const char *said;
            snprintf(run, sizeof run, "%s/run-%s-%d", test_folder(), policies[p], ranks);
            int code = test_run(
                &said,
                "%s ./cadvlm train --config %s seed=%llu output_dir=%s training.overlong=%s "
                "training.max_length=%d dataloader_num_workers=%d",
                ranks_prefix(ranks), test_path("c.yaml"), seed, run, policies[p], length, ranks);
            ASSERT(code == 0, "exit code %d:\n%s", code, said);
            snprintf(what, sizeof what, "step %d", at + 1);
            assert_reported(said, what, expect_steps(at, at + 1, length), length,
                            p ? cut : dropped);
            ASSERT_CONTAINS(said, "Raise training.max_length, or choose another policy");
            assert_reported(said, "steps 1 to 4", all, length, p ? cut : dropped);
            assert_reported(said, "validation after step 2", val, length,
                            p ? cut : "they are left out (training.overlong: drop)");
            ASSERT_INT(occurrences(said, "too long"), ==, 3);
            snprintf(what, sizeof what, "(%d of %d samples)",
                     p ? val.samples : val.samples - val.overlong, val.samples);
            ASSERT_INT(occurrences(said, what), ==, 2);
            assert_metrics(run, STEPS, length, 2);
        }
}

TEST(nothing_is_said_where_every_sample_fits) {
    const char *said;
    prepare("max_steps: 2, eval_steps: 2, eval_samples: 0");
    int train = ranked_rows(false, 31), val = ranked_rows(true, 7);
    int code = test_run(&said, "./cadvlm train --config %s seed=%llu training.max_length=%d",
                        test_path("c.yaml"), seed, train > val ? train : val);
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    ASSERT_TRUE(!strstr(said, "too long"));
    assert_metrics(test_path("run"), 2, train > val ? train : val, 1);
}

TEST(a_validation_without_a_fitting_sample_says_so) {
    const char *said;
    prepare("max_steps: 2, eval_steps: 1, eval_samples: 1");
    int length = rows[4] - 1; /* that one sample is the first of the split */
    ASSERT_INT(length, >, ranked_rows(false, 0));
    for (int ranks = 1; ranks <= 2; ranks++) {
        int code = test_run(&said,
                            "%s ./cadvlm train --config %s seed=%llu training.max_length=%d "
                            "output_dir=%s-%d",
                            ranks_prefix(ranks), test_path("c.yaml"), seed, length,
                            test_path("run"), ranks);
        ASSERT(code == 0, "exit code %d:\n%s", code, said);
        ASSERT_CONTAINS(said, "validation after step 1: 1 of 1 sample is too long");
        ASSERT_INT(occurrences(said, "no validation loss"), ==, 1);
    }
}

TEST(a_run_that_goes_on_counts_from_where_it_goes_on) {
    const char *said;
    prepare("max_steps: 100000, save_steps: 1000, overlong: truncate");
    int length = ranked_rows(false, 20), stopped;
    char total[64];
    /* Stopped by a signal, it counts what it has done. */
    int code = test_run(&said,
                        "./cadvlm train --config %s seed=%llu training.max_length=%d & pid=$!; "
                        "for i in $(seq 1200); do [ $(cat %s/metrics.jsonl 2>/dev/null | wc -l) "
                        "-ge 3 ] && break; sleep 0.05; done; kill -USR1 $pid; wait $pid",
                        test_path("c.yaml"), seed, length, test_path("run"));
    ASSERT(code == 75, "exit code %d:\n%s", code, said);
    const char *at = strstr(said, "stopped by a signal after step ");
    ASSERT_TRUE(at && sscanf(at, "stopped by a signal after step %d", &stopped) == 1);
    snprintf(total, sizeof total, "steps 1 to %d", stopped);
    assert_reported(said, total, expect_steps(0, stopped, length), length, cut);
    /* Going on, what it does from there. */
    code = test_run(
        &said,
        "%s ./cadvlm train --config %s seed=%llu training.max_length=%d training.max_steps=%d",
        fixture_mpirun(2), test_path("c.yaml"), seed, length, stopped + 5);
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    snprintf(total, sizeof total, "steps %d to %d", stopped + 1, stopped + 5);
    assert_reported(said, total, expect_steps(stopped, stopped + 5, length), length, cut);
    assert_metrics(test_path("run"), stopped + 5, length, 1);
}

TEST(the_policy_error_names_the_sample_and_ends_every_rank) {
    const char *said;
    char sentence[256];
    prepare("max_steps: 100, overlong: error");
    /* Only the longest is too long: somewhere in the first pass it is met. */
    int length = ranked_rows(false, 30), longest = 0;
    ASSERT_INT(length, <, ranked_rows(false, 31));
    for (int i = 0; i < SAMPLES; i++)
        if (!is_val(i) && rows[i] > length) longest = i;
    while (!first_overlong_step(0, length)) seed++; /* not at once */
    snprintf(sentence, sizeof sentence, "sample %d (part-%d): %d rows, max_length is %d", longest,
             longest, rows[longest], length);
    for (int ranks = 1; ranks <= 2; ranks++) {
        int code = test_run(
            &said,
            "timeout 600 %s ./cadvlm train --config %s seed=%llu training.max_length=%d "
            "output_dir=%s-%d",
            ranks_prefix(ranks), test_path("c.yaml"), seed, length, test_path("run"), ranks);
        ASSERT(code == 1, "exit code %d:\n%s", code, said);
        ASSERT_CONTAINS(said, sentence);
    }
}

TEST(the_policy_error_ends_every_rank_in_a_validation_too) {
    const char *said;
    char sentence[256];
    prepare("max_steps: 1, overlong: error, eval_samples: 0");
    /* Trained are the first five; of the samples of the split val one, at least, is longer. */
    int length = 0, first = 4;
    for (int i = 0; i < 6; i++)
        if (!is_val(i) && rows[i] > length) length = rows[i];
    while (first < SAMPLES && rows[first] <= length) first += 5;
    ASSERT_INT(first, <, SAMPLES);
    snprintf(sentence, sizeof sentence, "sample %d (part-%d): %d rows, max_length is %d", first,
             first, rows[first], length);
    for (int ranks = 1; ranks <= 2; ranks++) {
        int code =
            test_run(&said,
                     "timeout 600 %s ./cadvlm train --config %s limit=5 "
                     "training.max_length=%d output_dir=%s-%d",
                     ranks_prefix(ranks), test_path("c.yaml"), length, test_path("run"), ranks);
        ASSERT(code == 1, "exit code %d:\n%s", code, said);
        ASSERT_CONTAINS(said, ranks == 1 ? sentence : strstr(sentence, " rows"));
    }
}

TEST(a_dataset_without_a_fitting_sample_ends_every_rank) {
    const char *said;
    char sentence[256];
    prepare("max_steps: 2");
    snprintf(sentence, sizeof sentence,
             "every sample of data has more than 10 rows (max_length), the shortest %d: raise "
             "training.max_length",
             ranked_rows(false, 0));
    for (int ranks = 1; ranks <= 2; ranks++) {
        int code = test_run(
            &said, "timeout 600 %s ./cadvlm train --config %s seed=%llu training.max_length=10",
            ranks_prefix(ranks), test_path("c.yaml"), seed);
        ASSERT(code == 1, "exit code %d:\n%s", code, said);
        ASSERT_CONTAINS(said, sentence);
    }
}

TEST(an_evaluation_counts_what_its_loss_leaves_out) {
    const char *said;
    char sentence[256], path[PATH_SIZE];
    prepare("max_steps: 2, eval_steps: 0");
    int length = ranked_rows(true, 4);
    Expected val = expect_validation(length);
    ASSERT_INT(val.overlong, ==, 3);
    int code = test_run(&said, "./cadvlm train --config %s seed=%llu training.max_length=%d",
                        test_path("c.yaml"), seed, length);
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    snprintf(sentence, sizeof sentence,
             "data: %d of %d references are left out of loss and accuracy: they have up to %d "
             "rows, the model takes %d",
             val.overlong, val.samples, val.longest, length);
    for (int ranks = 1; ranks <= 2; ranks++) {
        code = test_run(&said,
                        "%s ./cadvlm eval -c %s --data %s --data again=%s --shuffled "
                        "--max-tokens 8 --gallery 0 -o %s/e.json",
                        ranks_prefix(ranks), test_path("run"), test_path("data"), test_path("data"),
                        test_folder());
        ASSERT(code == 0, "exit code %d:\n%s", code, said);
        ASSERT_INT(occurrences(said, sentence), ==, 1);
        ASSERT_CONTAINS(said, "3 references are longer than the model takes");
        Json *root;
        int64_t value;
        snprintf(path, sizeof path, "%s/e.json", test_folder());
        ASSERT_OK(js_read(&root, path, 1 << 20));
        const Json *set = js_get(js_get(root, "by_dataset"), "data");
        const Json *const numbers[] = {root, js_get(root, "shuffled"), set,
                                       js_get(set, "shuffled")};
        for (int i = 0; i < 4; i++) {
            int sets = i < 2 ? 2 : 1;
            ASSERT_OK(js_need_integer(&value, numbers[i], "overlong", path));
            ASSERT_INT(value, ==, sets * val.overlong);
            ASSERT_OK(js_need_integer(&value, numbers[i], "samples", path));
            ASSERT_INT(value, ==, sets * val.samples);
        }
        js_free(&root);
    }
}
