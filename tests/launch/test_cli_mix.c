/* From DeepCAD files and the generator to a model trained on a mix of both, as its users do it. */
#include "cad/language/code.h"
#include "core/file.h"
#include "core/json.h"
#include "data/shard.h"
#include "data/synth/make.h"
#include "tests/support/deepcad_fixture.h"
#include "tests/support/run_fixture.h"
#include "tests/support/test.h"
#include "tests/support/train_fixture.h"

/* A plate of `width` × 30 × 20 mm with a hole. */
static void put_plate(const char *folder, int index, double width) {
    Json *root = empty_file();
    Json *profiles = add_sketch(root, "S0", vec3(0, 0, 0), right, up, front);
    Json *outline = add_loop(profiles, "P0");
    add_line(outline, 0, 0, width, 0);
    add_line(outline, width, 0, width, 0.03);
    add_line(outline, width, 0.03, 0, 0.03);
    add_line(outline, 0, 0.03, 0, 0);
    add_circle(add_loop(profiles, "P0"), 0.5 * width, 0.015, 0.005);
    use_profile(add_extrude(root, "E0", NEW_BODY, ONE_SIDE, 0.02, 0), "S0", "P0");
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/plate-%d.json", folder, index);
    ASSERT_OK(js_write(path, root));
    js_free(&root);
}

static void run_ok(const char *what, const char *command) {
    const char *said;
    int code = test_run(&said, "%s", command);
    ASSERT(code == 0, "%s: exit code %d:\n%s", what, code, said);
    printf("%s", said);
}

/* Imports the DeepCAD files of `folder` and trains on as much of them as of synthetic parts, on two
 * ranks; `files` samples are expected. */
static void train_on_a_mix(const char *folder, int files) {
    char command[4 * PATH_SIZE], said_count[32];
    const char *said;
    int code = test_run(&said, "./cadvlm data import deepcad '%s' '%s' --val 0", folder,
                        test_path("deepcad"));
    ASSERT(code == 0, "import: exit code %d:\n%s", code, said);
    snprintf(said_count, sizeof said_count, "%d samples", files);
    ASSERT_CONTAINS(said, said_count);

    snprintf(command, sizeof command, "./cadvlm data synth '%s' --count 40 --val 0.2",
             test_path("synth"));
    run_ok("synth", command);
    snprintf(command, sizeof command,
             "./cadvlm data tokenizer '%s' '%s' -o '%s' --vocab 800 --numbers 256",
             test_path("synth"), test_path("deepcad"), test_path("t.json"));
    run_ok("tokenizer", command);

    char datasets[4 * PATH_SIZE];
    snprintf(datasets, sizeof datasets,
             "datasets:\n  - { name: synth, path: \"%s\", weight: 1 }\n"
             "  - { name: deepcad, path: \"%s\", weight: 1 }\nval_data: \"%s\"\n",
             test_path("synth"), test_path("deepcad"), test_path("synth"));
    fixture_config(test_path("c.yaml"), "", test_path("t.json"), test_path("run"),
                   "micro_batches: 2, max_steps: 4, overlong: truncate", datasets);
    snprintf(command, sizeof command,
             "%s ./cadvlm train --config '%s' model.vision.image_size=128 "
             "model.vision.patch_size=32 training.max_length=1500",
             fixture_mpirun(2), test_path("c.yaml"));
    run_ok("train", command);

    /* Every sample was counted for its dataset; within a pool of batches the shares only near. */
    int64_t synth = 0, deepcad = 0;
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/metrics.jsonl", test_path("run"));
    Buf text = {0};
    ASSERT_OK(file_read(&text, path, 1 << 20));
    for (char *line = strtok(text.data, "\n"); line; line = strtok(NULL, "\n")) {
        Json *root;
        ASSERT_OK(js_parse(&root, line, strlen(line), path));
        const Json *counts = js_get(root, "dataset_samples");
        if (counts) {
            ASSERT_OK(js_need_integer(&synth, counts, "synth", path));
            ASSERT_OK(js_need_integer(&deepcad, counts, "deepcad", path));
        }
        js_free(&root);
    }
    buf_free(&text);
    printf("%lld synthetic, %lld from DeepCAD\n", (long long)synth, (long long)deepcad);
    ASSERT_INT(synth + deepcad, ==, 24);
    ASSERT_INT(synth, >=, 8);
    ASSERT_INT(deepcad, >=, 8);
}

/* Every sample's split again, from its code alone. */
static void expect_splits_of_code(const char *path, int held_out) {
    Dataset *dataset;
    Buf memory = {0};
    int counts[SPLIT_COUNT] = {0};
    ASSERT_OK(dataset_open(&dataset, path));
    for (size_t i = 0; i < dataset_count(dataset); i++) {
        Sample sample;
        CadProgram program;
        ASSERT_OK(dataset_read(dataset, i, &sample, &memory));
        ASSERT_OK(code_parse(&program, sample.code, sample.code_size, sample.id, NULL));
        ASSERT(sample.split == part_split(program_hash(&program), 0.4, 0.2),
               "%s: %s is of the split %s", path, sample.id, split_name(sample.split));
        counts[sample.split]++;
        program_free(&program);
    }
    printf("%s: %d train, %d val, %d test\n", path, counts[0], counts[1], counts[2]);
    ASSERT_INT(counts[SPLIT_VAL] + counts[SPLIT_TEST], >=, held_out);
    buf_free(&memory);
    dataset_close(&dataset);
}

/* Two runs of the generator, and an importer, share parts: one that is held out of one of them must
 * not be trained on in another. */
TEST(the_split_of_a_part_follows_from_its_code_alone) {
    const char *said;
    for (int seed = 1; seed <= 2; seed++) {
        char path[PATH_SIZE];
        snprintf(path, sizeof path, "%s/synth-%d", test_folder(), seed);
        int code = test_run(&said,
                            "./cadvlm data synth '%s' --count 12 --seed %d --size 64 --val 0.4 "
                            "--test 0.2",
                            path, seed);
        ASSERT(code == 0, "exit code %d:\n%s", code, said);
        expect_splits_of_code(path, 3);
    }
    ASSERT_OK(file_make_directories(test_path("files")));
    for (int i = 0; i < 12; i++) put_plate(test_path("files"), i, 0.04 + 0.003 * i);
    int code =
        test_run(&said, "./cadvlm data import deepcad '%s' '%s' --size 64 --val 0.4 --test 0.2",
                 test_path("files"), test_path("deepcad"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    expect_splits_of_code(test_path("deepcad"), 3);
}

/* Shares of the parts, from one end of the hashes to the other: val, test, train. */
TEST(shares_of_a_split_are_shares_of_all_hashes) {
    ASSERT_INT(part_split(0, 0.25, 0.25), ==, SPLIT_VAL);
    ASSERT_INT(part_split(0x3fffffffffffffff, 0.25, 0.25), ==, SPLIT_VAL);
    ASSERT_INT(part_split(0x4000000000000000, 0.25, 0.25), ==, SPLIT_TEST);
    ASSERT_INT(part_split(0x7fffffffffffffff, 0.25, 0.25), ==, SPLIT_TEST);
    ASSERT_INT(part_split(0x8000000000000000, 0.25, 0.25), ==, SPLIT_TRAIN);
    ASSERT_INT(part_split(UINT64_MAX, 0.25, 0.75), ==, SPLIT_TEST);
    ASSERT_INT(part_split(0, 0, 0), ==, SPLIT_TRAIN);
}

TEST(made_deepcad_files_train_in_a_mix) {
    ASSERT_OK(file_make_directories(test_path("files")));
    for (int i = 0; i < 5; i++) put_plate(test_path("files"), i, 0.04 + 0.003 * i);
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/part.json", test_path("files"));
    Json *root = part_file();
    ASSERT_OK(js_write(path, root));
    js_free(&root);
    train_on_a_mix(test_path("files"), 6);
}

TEST(real_deepcad_files_train_in_a_mix) {
    const char *samples = test_samples();
    char folder[PATH_SIZE];
    snprintf(folder, sizeof folder, "%s/deepcad", samples);
    train_on_a_mix(folder, 10);
}

/* The same losses on one rank, on two, and on three from a checkpoint on; others than without. */
TEST(a_curriculum_has_the_same_bits_on_any_ranks_and_from_any_checkpoint) {
    enum { RUNS = 5 };
    static const char *const more[RUNS] = {
        "curriculum.by=complexity curriculum.start=0.1 curriculum.full_at=0.5",
        "curriculum.by=complexity curriculum.start=0.1 curriculum.full_at=0.5",
        "curriculum.by=complexity curriculum.start=0.1 curriculum.full_at=0.5",
        "curriculum.by=complexity curriculum.start=1 curriculum.full_at=0.5", ""};
    const char *said;
    Buf losses[RUNS] = {{0}};
    fixture_dataset(test_path("data"), 60, 1);
    fixture_tokenizer(test_path("t.json"));
    fixture_config(test_path("c.yaml"), test_path("data"), test_path("t.json"), test_path("run"),
                   "micro_batches: 4, per_device_batch_size: 2, max_steps: 6, save_steps: 3", "");
    for (int r = 0; r < RUNS; r++) {
        char output[PATH_SIZE], name[8];
        snprintf(name, sizeof name, "r%d", r);
        snprintf(output, sizeof output, "%s", test_path(name));
        /* The third goes on from the checkpoint after step 3, on three ranks. */
        for (int part = 0; part < (r == 2 ? 2 : 1); part++) {
            int code = test_run(&said, "%s ./cadvlm train --config '%s' output_dir='%s' %s",
                                fixture_mpirun(r == 2 ? 3 - 2 * !part : 1 + r % 2),
                                test_path("c.yaml"), output, more[r]);
            ASSERT(code == 0, "run %d: %s", r, said);
            if (r == 2 && !part) {
                char last[2 * PATH_SIZE];
                snprintf(last, sizeof last, "%s/checkpoints/step-000000006", output);
                ASSERT_OK(file_remove_tree(last));
            }
        }
        if (r < 3) ASSERT_CONTAINS(said, "curriculum: the simplest 10 % of each dataset first");
        run_losses(&losses[r], output);
    }
    ASSERT_TEXT(buf_cstr(&losses[0]), buf_cstr(&losses[1]));
    ASSERT_TEXT(buf_cstr(&losses[0]), buf_cstr(&losses[2]));
    for (int r = 3; r < RUNS; r++)
        ASSERT(strcmp(buf_cstr(&losses[0]), buf_cstr(&losses[r])) != 0, "as in run %d", r);
    for (int r = 0; r < RUNS; r++) buf_free(&losses[r]);
}

TEST(a_dataset_that_is_seen_too_often_is_reported) {
    const char *said;
    char datasets[4 * PATH_SIZE];
    fixture_dataset(test_path("large"), 60, 1); /* 48 to train on */
    fixture_dataset(test_path("small"), 10, 2); /* 8 */
    fixture_tokenizer(test_path("t.json"));
    snprintf(datasets, sizeof datasets,
             "datasets:\n  - { name: large, path: \"%s\", weight: 3, max_epochs: 2 }\n"
             "  - { name: small, path: \"%s\", weight: 1, max_epochs: 1 }\nval_data: \"%s\"\n",
             test_path("large"), test_path("small"), test_path("large"));
    fixture_config(test_path("c.yaml"), "", test_path("t.json"), test_path("run"),
                   "micro_batches: 2, per_device_batch_size: 8, max_steps: 5", datasets);
    int code =
        test_run(&said, "%s ./cadvlm train --config '%s'", fixture_mpirun(2), test_path("c.yaml"));
    ASSERT(code == 0, "%s", said);
    /* 80 samples, which a block deals out nearly by weight: some 60 of 48 and 20 of 8. */
    ASSERT_CONTAINS(said, "dataset large: 48 samples, 75 % of the run, 1.");
    ASSERT_CONTAINS(said, "dataset small: 8 samples, 25 % of the run, ");
    ASSERT_CONTAINS(said, " epochs in this run, more than its max_epochs 1: lower its weight");
    ASSERT_TRUE(strstr(said, "max_epochs") == strstr(said, "max_epochs 1:"));
}
