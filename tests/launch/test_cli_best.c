/* training.load_best_model_at_end: training never ends worse than it began. */
#include "core/file.h"
#include "core/hash.h"
#include "core/json.h"
#include "tests/support/test.h"
#include "tests/support/train_fixture.h"

/* A model that has learnt a little, in "run". */
static void prepare(void) {
    const char *said;
    fixture_dataset(test_path("data"), 40, 1);
    fixture_tokenizer(test_path("tokenizer.json"));
    fixture_config(test_path("c.yaml"), test_path("data"), test_path("tokenizer.json"),
                   test_path("run"), "micro_batches: 2, max_steps: 30, eval_steps: 30", "");
    int code = test_run(&said, "./cadvlm train --config %s", test_path("c.yaml"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    Buf config = {0};
    buf_format(
        &config,
        "train_data: \"%s\"\nvision: { drop_first_patch: false }\n"
        "tune: { llm: full, vision: full, connector: full }\n"
        "training: { micro_batches: 2, per_device_batch_size: 3, max_length: 400, eval_steps: 2, "
        "eval_samples: 6, learning_rate: 0.5, warmup_ratio: 0 }\n",
        test_path("data"));
    ASSERT_OK(file_write(test_path("on.yaml"), config.data, config.size));
    buf_free(&config);
}

/* A run on from it, at a rate that ruins what it has learnt. */
static int train(const char **said, const char *prefix, const char *output, const char *more) {
    return test_run(said, "%s ./cadvlm train --config %s --base-model %s output_dir=%s %s", prefix,
                    test_path("on.yaml"), test_path("run"), test_path(output), more);
}

static void train_ok(const char **said, const char *prefix, const char *output, const char *more) {
    int code = train(said, prefix, output, more);
    ASSERT(code == 0, "exit code %d:\n%s", code, *said);
}

/* The validations of a run, in their order. */
static int validations_of(const char *run, double *losses, int most) {
    char path[PATH_SIZE];
    Buf text = {0};
    int count = 0;
    ASSERT_OK(path_format(path, "%s/metrics.jsonl", run));
    ASSERT_OK(file_read(&text, path, 1 << 20));
    for (char *line = strtok(text.data, "\n"); line && count < most; line = strtok(NULL, "\n")) {
        Json *root;
        ASSERT_OK(js_parse(&root, line, strlen(line), path));
        count += js_number(js_get(root, "val_loss"), &losses[count]);
        js_free(&root);
    }
    buf_free(&text);
    return count;
}

static void newest_file(Buf *out, const char *run, const char *name) {
    char path[PATH_SIZE];
    ASSERT_OK(path_format(path, "%s/checkpoints/latest/%s", run, name));
    ASSERT_OK(file_read(out, path, 1 << 24));
}

static int64_t state_number(const char *run, const char *key) {
    Buf text = {0};
    Json *root;
    int64_t value;
    newest_file(&text, run, "state.json");
    ASSERT_OK(js_parse(&root, text.data, text.size, "state.json"));
    ASSERT_OK(js_need_integer(&value, root, key, "state.json"));
    js_free(&root);
    buf_free(&text);
    return value;
}

static void check_same_weights(const char *a, const char *b) {
    Buf x = {0}, y = {0};
    newest_file(&x, a, "trained.safetensors");
    newest_file(&y, b, "trained.safetensors");
    ASSERT_INT(x.size, ==, y.size);
    ASSERT_INT(memcmp(x.data, y.data, x.size), ==, 0);
    buf_free(&x);
    buf_free(&y);
}

static const char KEEP[] = "training.max_steps=6 training.load_best_model_at_end=true";

TEST(a_run_ends_with_the_weights_of_its_best_validation) {
    const char *said;
    double first, losses[8];
    prepare();
    ASSERT_INT(validations_of(test_path("run"), &first, 1), ==, 1);
    train_ok(&said, "", "kept", KEEP);
    ASSERT_CONTAINS(said, "the weights of step 0 are kept");
    ASSERT_INT(validations_of(test_path("kept"), losses, 8), ==, 4);
    ASSERT_NEAR(losses[0], first, 1e-6); /* before the first step */
    for (int i = 1; i < 4; i++) ASSERT_REAL(losses[i], >, first + 0.5);
    check_same_weights(test_path("kept"), test_path("run"));
    ASSERT_INT(state_number(test_path("kept"), "step"), ==, 6);
    ASSERT_INT(state_number(test_path("kept"), "best_step"), ==, 6);
    /* Without the key it ends ruined. */
    train_ok(&said, "", "last", "training.max_steps=6");
    ASSERT_INT(validations_of(test_path("last"), losses, 8), ==, 3);
    ASSERT_REAL(losses[2], >, first + 0.5);
}

/* Four steps that help; then the run goes on at a rate that ruins, and ends as it was after them.
 */
static void help_and_ruin(const char **said, const char *prefix, const char *run) {
    train_ok(said, prefix, run,
             "training.max_steps=4 training.learning_rate=3e-3 "
             "training.load_best_model_at_end=true");
    ASSERT_TRUE(!strstr(*said, "are kept"));
    train_ok(said, prefix, run,
             "training.max_steps=8 training.learning_rate=1 training.lr_scheduler_type=constant "
             "training.load_best_model_at_end=true");
    ASSERT_CONTAINS(*said, "the weights of step 4 are kept");
}

TEST(weights_of_a_validation_in_between_are_kept_on_any_ranks) {
    const char *said;
    double losses[8];
    prepare();
    help_and_ruin(&said, "", "one");
    ASSERT_INT(validations_of(test_path("one"), losses, 8), ==, 5);
    ASSERT_REAL(losses[2], <, losses[0]);
    ASSERT_REAL(losses[4], >, losses[0]);
    help_and_ruin(&said, fixture_mpirun(2), "two");
    check_same_weights(test_path("one"), test_path("two"));
    ASSERT_INT(train(&said, "", "four",
                     "training.max_steps=4 "
                     "training.learning_rate=3e-3"),
               ==, 0);
    check_same_weights(test_path("one"), test_path("four"));
    char path[PATH_SIZE];
    FileNames names;
    int kept = 0;
    ASSERT_OK(path_format(path, "%s/checkpoints", test_path("one")));
    ASSERT_OK(file_list(&names, path));
    for (size_t i = 0; i < names.count; i++) kept += !strncmp(names.names[i], "best-", 5);
    ASSERT_INT(kept, ==, 1);
    file_names_free(&names);
}

/* Ruined weights that are whole, of the step that is asked for, and listed before its own: their
 * checksum begins with zeros, which the last weight is chosen for. */
static void leave_others(const char *run, int step) {
    char path[PATH_SIZE];
    Buf bytes = {0};
    uint64_t hash = UINT64_MAX;
    newest_file(&bytes, test_path("ruined"), "trained.safetensors");
    for (uint16_t last = 0; hash >> 56 != 0; last++) {
        memcpy(bytes.data + bytes.size - sizeof last, &last, sizeof last);
        hash = hash_bytes(bytes.data, bytes.size);
        ASSERT_INT(last, <, UINT16_MAX);
    }
    ASSERT_OK(path_format(path, "%s/checkpoints", run));
    ASSERT_OK(file_make_directories(path));
    ASSERT_OK(path_format(path, "%s/checkpoints/best-%09d-%016llx.safetensors", run, step,
                          (unsigned long long)hash));
    ASSERT_OK(file_write(path, bytes.data, bytes.size));
    buf_free(&bytes);
}

TEST(weights_left_from_an_abandoned_course_are_never_taken) {
    const char *said;
    prepare();
    train_ok(&said, "", "ruined", "training.max_steps=6");
    leave_others(test_path("kept"), 0);
    train_ok(&said, "", "kept", KEEP);
    ASSERT_CONTAINS(said, "the weights of step 0 are kept");
    check_same_weights(test_path("kept"), test_path("run"));
}

TEST(damaged_best_weights_are_reported_and_the_last_stay) {
    const char *said;
    char more[160];
    prepare();
    static const char endless[] = "training.max_steps=100000 training.save_steps=2 "
                                  "training.load_best_model_at_end=true & "
                                  "while ! [ -e %s/checkpoints/latest/state.json ]; do sleep 0.05; "
                                  "done; kill -TERM $!; wait $!";
    Buf text = {0};
    buf_format(&text, endless, test_path("cut"));
    ASSERT_INT(train(&said, "exec", "cut", buf_cstr(&text)), ==, 75);
    buf_free(&text);
    int64_t step = state_number(test_path("cut"), "step");
    ASSERT_INT(state_number(test_path("cut"), "best_step"), ==, 0);
    ASSERT_INT(test_run(&said,
                        "printf X | dd of=\"$(ls %s/checkpoints/best-*)\" bs=1 seek=3000 "
                        "conv=notrunc",
                        test_path("cut")),
               ==, 0);
    snprintf(more, sizeof more, "training.max_steps=%lld training.load_best_model_at_end=true",
             (long long)step + 2);
    train_ok(&said, "", "cut", more);
    ASSERT_CONTAINS(said, "no undamaged weights of step 0");
    ASSERT_INT(state_number(test_path("cut"), "best_step"), ==, 0);
}
