/* What a run saves, when, and what of it a later run takes up. */
#include <string.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/json.h"
#include "tests/support/run_fixture.h"
#include "tests/support/test.h"
#include "tests/support/train_fixture.h"

/* ---- signals ---- */

static int lines_of(const char *run) {
    const char *said;
    ASSERT_INT(test_run(&said, "wc -l < %s/metrics.jsonl", run), ==, 0);
    return atoi(said);
}

static void send_signal(const char *run, const char *name) {
    const char *said;
    ASSERT_INT(test_run(&said, "kill -%s $(cat %s.pid)", name, run), ==, 0);
}

static void ends_by(const char *run, const char *name) {
    const char *said;
    send_signal(run, name);
    int code = run_wait(run, &said);
    ASSERT(code == 75, "%s: exit code %d:\n%s", name, code, said);
    ASSERT_CONTAINS(said, "stopped by a signal after step");
    run_file_hash(run, "state.json"); /* it is there */
}

TEST(every_signal_that_ends_a_job_saves_first) {
    static const char *const signals[] = {"USR1", "USR2", "TERM", "INT", "XCPU", "HUP"};
    run_prepare(20, "micro_batches: 1, max_steps: 100000", "");
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        const char *run = run_folder(signals[i]);
        run_start("", run, 2);
        ends_by(run, signals[i]);
    }
}

TEST(under_nohup_a_run_outlives_its_terminal) {
    run_prepare(20, "micro_batches: 1, max_steps: 100000", "");
    const char *run = run_folder("run"), *said;
    run_start("nohup", run, 2);
    send_signal(run, "HUP");
    int code =
        test_run(&said,
                 "for i in $(seq 1200); do [ $(wc -l < %s/metrics.jsonl) -gt %d ] && exit 0; "
                 "sleep 0.05; done; cat %s.out; exit 1",
                 run, lines_of(run) + 5, run);
    ASSERT(code == 0, "it did not go on:\n%s", said);
    ends_by(run, "TERM");
}

/* ---- checkpoints that are kept ---- */

static void kept_are(const char *run, const char *expected) {
    FileNames names;
    char folder[PATH_SIZE];
    Buf found = {0};
    snprintf(folder, sizeof folder, "%s/checkpoints", run);
    ASSERT_OK(file_list(&names, folder));
    for (size_t i = 0; i < names.count; i++) buf_format(&found, "%s ", names.names[i]);
    ASSERT_TEXT(buf_cstr(&found), expected);
    file_names_free(&names);
    buf_free(&found);
}

TEST(as_many_checkpoints_are_kept_as_the_limit_says) {
    run_prepare(20, "micro_batches: 1, max_steps: 4, save_steps: 1", "");
    const char *run = run_folder("run");
    run_train("", run, "training.save_total_limit=1");
    kept_are(run, "latest step-000000004 ");
    run_train("", run, "training.max_steps=8 training.save_total_limit=3");
    kept_are(run, "latest step-000000006 step-000000007 step-000000008 ");
    run_train("", run, "training.max_steps=9 training.save_total_limit=2");
    kept_are(run, "latest step-000000008 step-000000009 ");
}

/* ---- file systems ---- */

/* Runs it with things denied (deny.c). */
static const char *train_without(const char *what, const char *run, int steps) {
    const char *said;
    int code = test_run(
        &said, "tests/deny %s ./cadvlm train --config %s output_dir=%s training.max_steps=%d", what,
        test_path("c.yaml"), run, steps);
    if (code == 77) test_skip("the system has no filters of calls");
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    return said;
}

/* FAT and many shares have neither kind of link. */
TEST(a_file_system_without_links_does_for_a_run) {
    run_prepare(20, "micro_batches: 1, save_steps: 1, save_total_limit: 2", "");
    const char *run = run_folder("run");
    const char *said = train_without("symlink,link", run, 3);
    ASSERT_CONTAINS(said, "checkpoints/latest is not kept; the newest is step-000000001");
    ASSERT_TRUE(!strstr(said, "the newest is step-000000002")); /* said once */
    kept_are(run, "step-000000002 step-000000003 ");
    ASSERT_CONTAINS(train_without("symlink,link", run, 4), "resuming after step 3");
    kept_are(run, "step-000000003 step-000000004 ");
    /* With links again there is one; without, one that would point to an old one goes. */
    run_train("", run, "training.max_steps=5");
    kept_are(run, "latest step-000000004 step-000000005 ");
    train_without("symlink", run, 6);
    kept_are(run, "step-000000005 step-000000006 ");
}

/* As on NFS without its lock server: a lease says who is at work. */
TEST(where_folders_cannot_be_locked_two_runs_do_not_share_one) {
    run_prepare(20, "micro_batches: 1, max_steps: 100000", "");
    const char *run = run_folder("run"), *said;
    train_without("flock", run, 1); /* or the test is skipped here */
    run_start("tests/deny flock", run, 3);
    int code = test_run(&said, "tests/deny flock ./cadvlm train --config %s output_dir=%s",
                        test_path("c.yaml"), run);
    ASSERT(code == 1, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "a lease file in it keeps others out");
    ASSERT_CONTAINS(said, "another run is under way in");
    ASSERT_CONTAINS(said, ": process ");
    send_signal(run, "KILL");
    run_wait(run, &said);
    ASSERT_CONTAINS(train_without("flock", run, 5), "which is gone");
    kept_are(run, "latest step-000000001 step-000000005 ");
    ASSERT_INT(test_run(&said, "[ ! -e %s/.lease ]", run), ==, 0);
}

/* Suspended for so long that another took the folder: nothing of that one's is replaced. */
TEST(a_run_whose_folder_was_taken_over_saves_nothing) {
    run_prepare(20, "micro_batches: 1, max_steps: 100000", "");
    const char *run = run_folder("run"), *said;
    run_start("", run, 2);
    ASSERT_INT(test_run(&said, "sed -i 's/\"token\": \"./\"token\": \"x/' %s/.lease", run), ==, 0);
    send_signal(run, "TERM");
    int code = run_wait(run, &said);
    ASSERT(code == 1, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "is another's now: process ");
    ASSERT_INT(test_run(&said, "ls %s/checkpoints", run), !=, 0);
}

TEST(a_copy_with_links_followed_goes_on) {
    run_prepare(20, "micro_batches: 1, max_steps: 2, save_steps: 1, save_total_limit: 2", "");
    const char *run = run_folder("run"), *copy = run_folder("copy"), *said;
    run_train("", run, "");
    ASSERT_INT(test_run(&said, "cp -rL %s %s && [ ! -L %s/checkpoints/latest ]", run, copy, copy),
               ==, 0);
    run_train("", copy, "training.max_steps=4");
    kept_are(copy, "latest step-000000003 step-000000004 ");
    ASSERT_INT(test_run(&said, "[ $(readlink %s/checkpoints/latest) = step-000000004 ]", copy), ==,
               0);
    /* A folder that is none of the checkpoints is somebody's, and stays. */
    ASSERT_INT(test_run(&said,
                        "cd %s/checkpoints && rm latest && cp -r step-000000003 latest && echo >> "
                        "latest/manifest.json",
                        copy),
               ==, 0);
    ASSERT_INT(test_run(&said, "./cadvlm train --config %s output_dir=%s training.max_steps=5",
                        test_path("c.yaml"), copy),
               ==, 0);
    ASSERT_CONTAINS(said, "checkpoints/latest is not kept; the newest is step-000000005");
    ASSERT_INT(test_run(&said, "[ -f %s/checkpoints/latest/state.json ]", copy), ==, 0);
    ASSERT_INT(test_run(&said, "./cadvlm train --fresh --config %s output_dir=%s",
                        test_path("c.yaml"), copy),
               ==, 2);
    ASSERT_CONTAINS(said, "already has checkpoints");
}

/* ---- what is taken up again ---- */

/* Makes a checkpoint's manifest fit its state.json again. */
static void vouch_for_state(const char *folder) {
    char path[PATH_SIZE], hash[24];
    Buf bytes = {0};
    Json *root, *files = js_new_array(), *state = js_new_object();
    ASSERT_OK(path_join(path, folder, "state.json"));
    ASSERT_OK(file_read(&bytes, path, 1 << 20));
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)hash_bytes(bytes.data, bytes.size));
    js_set_text(state, "name", "state.json");
    js_set_integer(state, "bytes", (int64_t)bytes.size);
    js_set_text(state, "hash", hash);
    js_push(files, state);
    ASSERT_OK(path_join(path, folder, "manifest.json"));
    ASSERT_OK(js_read(&root, path, 1 << 20));
    for (size_t i = 0; i < js_count(js_get(root, "files")); i++) {
        const Json *file = js_at(js_get(root, "files"), i);
        if (strcmp(js_text(js_get(file, "name"), NULL), "state.json") != 0)
            js_push(files, js_copy(file));
    }
    js_set(root, "files", files);
    ASSERT_OK(js_write(path, root));
    js_free(&root);
    buf_free(&bytes);
}

TEST(a_step_that_no_run_reaches_is_refused) {
    run_prepare(20, "micro_batches: 1, max_steps: 2", "");
    const char *run = run_folder("run"), *said;
    char newest[PATH_SIZE];
    run_train("", run, "");
    snprintf(newest, sizeof newest, "%s/checkpoints/step-9007199254740", run);
    int code = test_run(&said,
                        "mv %s/checkpoints/step-000000002 %s && sed -i 's/\"step\": "
                        "2,/\"step\": 9007199254740,/' %s/state.json",
                        run, newest, newest);
    ASSERT_INT(code, ==, 0);
    vouch_for_state(newest);
    code = test_run(&said, "./cadvlm train --config %s output_dir=%s", test_path("c.yaml"), run);
    ASSERT(code == 1, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "no run has done 9007199254740 steps");
}

static Json *state_of(const char *run) {
    char path[PATH_SIZE];
    Json *root;
    snprintf(path, sizeof path, "%s/checkpoints/latest/state.json", run);
    ASSERT_OK(js_read(&root, path, 1 << 20));
    return root;
}

static double number_of(const Json *state, const char *key) {
    double number;
    ASSERT_OK(js_need_number(&number, state, key, "state.json"));
    return number;
}

/* At a rate at which many steps make things worse. The stop comes when one more such step will end
 * the run: whoever forgets the best, or how often it was missed, goes on. */
TEST(the_best_validation_and_the_counts_outlive_a_stop) {
    run_prepare(
        40,
        "micro_batches: 2, max_steps: 50, warmup_ratio: 0, learning_rate: 0.5, max_grad_norm: 0, "
        "lr_scheduler_type: constant, eval_steps: 1, early_stopping_patience: 3",
        "");
    const char *whole = run_folder("whole"), *broken = run_folder("broken");
    char more[64];
    run_train("", whole, "");
    Json *expected = state_of(whole);
    double step = number_of(expected, "step");
    ASSERT_REAL(step, <, 50);
    ASSERT_REAL(number_of(expected, "worse_validations"), ==, 3);
    snprintf(more, sizeof more, "training.max_steps=%.0f", step - 1);
    run_train("", broken, more);
    run_train("", broken, "");
    Json *found = state_of(broken);
    ASSERT_REAL(number_of(found, "step"), ==, step);
    ASSERT_REAL(number_of(found, "samples"), ==, 6 * step); /* two micro-batches of three */
    ASSERT_REAL(number_of(found, "best_val_loss"), ==, number_of(expected, "best_val_loss"));
    ASSERT_TRUE(run_file_hash(broken, "state.json") == run_file_hash(whole, "state.json"));
    js_free(&expected);
    js_free(&found);
}
