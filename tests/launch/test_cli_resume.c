/* A run that goes on with other settings than it began with: what changes is reported, what cannot
 * is refused by name, and config.yaml says what the run is. */
#include <string.h>

#include "core/file.h"
#include "tests/support/run_fixture.h"
#include "tests/support/test.h"
#include "tests/support/train_fixture.h"

/* Exit code, and what was said, of a run in `run` with other settings. */
static int again(const char **said, const char *prefix, const char *run, const char *more) {
    return test_run(said, "%s ./cadvlm train --config %s output_dir=%s %s", prefix,
                    test_path("c.yaml"), run, more);
}

static uint64_t hash_of(const char *run, const char *name) {
    char path[PATH_SIZE];
    uint64_t hash, bytes;
    ASSERT_OK(path_format(path, "%s/%s", run, name));
    ASSERT_OK(file_checksum(&hash, &bytes, path));
    return hash;
}

static void is_refused(const char *prefix, const char *run, const char *more,
                       const char *sentence) {
    const char *said;
    uint64_t config = hash_of(run, "config.yaml"), state = run_file_hash(run, "state.json");
    int code = again(&said, prefix, run, more);
    ASSERT(code == 2 && strstr(said, sentence), "%s: exit code %d, without \"%s\":\n%s", more, code,
           sentence, said);
    ASSERT_CONTAINS(said, "cannot change when a run goes on from");
    ASSERT_TRUE(hash_of(run, "config.yaml") == config); /* still what the run is */
    ASSERT_TRUE(run_file_hash(run, "state.json") == state);
}

/* Whether a file of the run has that line. */
static bool has_line(const char *run, const char *name, const char *line) {
    const char *said;
    return test_run(&said, "grep -qF '%s' %s/%s", line, run, name) == 0;
}

/* ADAPTERS: the language model has some, the tower is frozen. */
#define ADAPTERS                                                                                   \
    "tune.llm=lora tune.vision=frozen lora.r=4 lora.alpha=8 lora.dropout=0 "                       \
    "lora.target_modules=[qkv_proj,out_proj] "

TEST(what_cannot_change_is_refused_by_name) {
    static const struct {
        const char *change, *said;
    } cases[] = {
        {"model.llm.width=48", "model.llm.width: 32 → 48"},
        {"model.vision.image_size=48", "model.vision.image_size: 32 → 48"},
        {"model.vision.heads=1", "model.vision.heads: 2 → 1"},
        {"model.llm.rope_theta=500", "model.llm.rope_theta: 10000 → 500"},
        {"model.llm.ffn=[48,32]", "model.llm.ffn: [48] → [48, 32]"},
        {"model.vision.mean=0.5", "model.vision.mean: [0.9] → [0.5]"},
        {"model.connector.norm=false", "model.connector.norm: true → false"},
        {"vision.drop_first_patch=true", "vision.drop_first_patch: false → true"},
        {"lora_alpha=16", "lora.alpha: 8 → 16"},
        {"lora.r=8", "lora.r: 4 → 8"},
        {"lora.use_rslora=true", "lora.use_rslora: false → true"},
        {"lora.target_modules=[qkv_proj]",
         "lora.target_modules: \"qkv_proj,out_proj\" → \"qkv_proj\""},
        {"lora.rank_pattern={qkv_proj:2}", "lora.rank_pattern: {} → { \"qkv_proj\": 2 }"},
        {"lora.alpha_pattern={qkv_proj:2}", "lora.alpha_pattern: {} → { \"qkv_proj\": 2 }"},
        {"tune.llm=full", "tune.llm: lora → full"},
        {"use_lora=false", "tune.llm: lora → full"},
        {"tune.vision=lora", "tune.vision: frozen → lora"},
        {"tune.connector=frozen", "tune.connector: full → frozen"},
        {"training.gradient_accumulation_steps=4",
         "training.gradient_accumulation_steps: 1 → 4; this stays as the run began"},
    };
    char more[400];
    run_prepare(20, "max_steps: 2", "");
    const char *run = run_folder("run"), *said;
    run_train("", run, ADAPTERS);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(more, sizeof more, ADAPTERS "training.max_steps=3 %s", cases[i].change);
        is_refused("", run, more, cases[i].said);
    }
    /* All at once, and once, from every rank. */
    snprintf(more, sizeof more, ADAPTERS "lora.alpha=1 tune.llm=full model.llm.width=64");
    is_refused(fixture_mpirun(2), run, more, "3 settings cannot change");
    ASSERT_INT(again(&said, fixture_mpirun(2), run, more), ==, 2);
    const char *once = strstr(said, "model.llm.width: 32 → 64");
    ASSERT(once && !strstr(once + 1, "model.llm.width: 32 → 64"), "%s", said);
    ASSERT_CONTAINS(said, "set them back, or choose another output_dir");
    /* What is set back goes on. */
    ASSERT_INT(again(&said, "", run, ADAPTERS "training.max_steps=3"), ==, 0);
    ASSERT_CONTAINS(said, "resuming after step 2");
}

TEST(another_tokenizer_is_refused_and_the_same_elsewhere_is_not) {
    run_prepare(20, "micro_batches: 1, max_steps: 2", "");
    const char *run = run_folder("run"), *said;
    char more[PATH_SIZE];
    run_train("", run, "");
    int code = test_run(&said,
                        "cd %s && cp tokenizer.json moved.json && sed 's/\"<pad>\"/\"<fill>\"/' "
                        "tokenizer.json > other.json && ! cmp -s tokenizer.json other.json",
                        test_folder());
    ASSERT_INT(code, ==, 0);
    snprintf(more, sizeof more, "tokenizer=%s training.max_steps=3", test_path("other.json"));
    is_refused("", run, more, "other.json; this stays as the run began");
    snprintf(more, sizeof more, "tokenizer=%s training.max_steps=3", test_path("moved.json"));
    ASSERT_INT(again(&said, "", run, more), ==, 0);
    ASSERT_TRUE(has_line(run, "config.yaml", "moved.json"));
    /* The checkpoint has the tokenizer: one that is gone costs nothing. */
    ASSERT_OK(file_remove_tree(test_path("moved.json")));
    snprintf(more, sizeof more, "tokenizer=%s training.max_steps=4", test_path("moved.json"));
    ASSERT_INT(again(&said, "", run, more), ==, 0);
    ASSERT_CONTAINS(said, "the run goes on with that of");
    is_refused("", run, "tokenizer=/nowhere.json training.max_steps=5",
               "/nowhere.json; this stays");
    ASSERT_INT(test_run(&said, "ls -a %s | grep tokenizer", run), ==, 1); /* nothing is left */
}

TEST(what_changes_is_reported_and_written) {
    run_prepare(20, "micro_batches: 1, max_steps: 2", "");
    const char *run = run_folder("run"), *said;
    run_train("", run, "");
    int code = again(&said, "", run,
                     "training.max_steps=3 training.learning_rate=1e-4 lora.alpha=9 seed=7 "
                     "training.overlong=truncate model.system_prompt='Be brief.' threads=1 "
                     "training.save_steps=7");
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    static const char *const changes[] = {"training.max_steps: 2 → 3 from here on",
                                          "training.learning_rate: 0.003 → 0.0001",
                                          "seed: 42 → 7",
                                          "training.overlong: drop → truncate",
                                          "model.system_prompt: \"\" → \"Be brief.\"",
                                          "lora.alpha: 256 → 9" /* nothing has adapters */};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++)
        ASSERT_CONTAINS(said, changes[i]);
    ASSERT_TRUE(!strstr(said, "save_steps:") && !strstr(said, "threads:"));
    static const char *const files[] = {"config.yaml", "checkpoints/latest/config.yaml"};
    for (int i = 0; i < 2; i++) {
        ASSERT_TRUE(has_line(run, files[i], "learning_rate: 0.0001"));
        ASSERT_TRUE(has_line(run, files[i], "overlong: truncate"));
        ASSERT_TRUE(has_line(run, files[i], "system_prompt: \"Be brief.\""));
    }
    /* What is no longer stated stays, and config.yaml says so. */
    ASSERT_INT(again(&said, "", run, "training.max_steps=4"), ==, 0);
    for (int i = 0; i < 2; i++)
        ASSERT_TRUE(has_line(run, files[i], "system_prompt: \"Be brief.\""));
    /* As it was written it is no change. */
    code = test_run(&said, "./cadvlm train --config %s/config.yaml training.max_steps=5", run);
    ASSERT(code == 0 && strstr(said, "max_steps: 4 → 5"), "exit code %d:\n%s", code, said);
    const char *arrow = strstr(said, "→");
    ASSERT(!strstr(arrow + 1, "→"), "%s", said);
}

TEST(one_number_for_all_layers_is_that_number_for_each) {
    run_prepare(20, "micro_batches: 1, max_steps: 2", "");
    const char *run = run_folder("run"), *said;
    run_train("", run, "");
    int code = again(&said, "", run,
                     "training.max_steps=3 model.llm.q_heads=[2,2] model.llm.ffn=[48,48] "
                     "model.llm.vocab=560");
    ASSERT(code == 0 && !strstr(said, "model.llm"), "exit code %d:\n%s", code, said);
}

/* Micro-batches are what accumulation was for: other ranks may need another to say the same. */
TEST(accumulation_may_follow_the_ranks) {
    run_prepare(20, "max_steps: 2", "");
    const char *run = run_folder("run"), *said;
    run_train(fixture_mpirun(2), run, "");
    is_refused("", run, "training.max_steps=3 training.gradient_accumulation_steps=3",
               "training.gradient_accumulation_steps: 1 → 3");
    int code = again(&said, "", run, "training.max_steps=3 training.gradient_accumulation_steps=2");
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    code = again(
        &said, "", run,
        "training.max_steps=4 training.gradient_accumulation_steps=5 training.micro_batches=3");
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "the checkpoint was made with 2");
}

TEST(datasets_may_come_and_go) {
    char first[PATH_SIZE], second[PATH_SIZE], extra[3 * PATH_SIZE];
    run_prepare(20, "micro_batches: 1, max_steps: 2", "");
    snprintf(first, sizeof first, "%s", test_path("data"));
    snprintf(second, sizeof second, "%s", test_path("more"));
    fixture_dataset(second, 20, 2);
    const char *run = run_folder("run"), *said;
    for (int i = 0; i < 2; i++) {
        snprintf(extra, sizeof extra,
                 "datasets: [ { name: a, path: %s, weight: %d }, { name: %s, path: %s } ]", first,
                 i ? 3 : 1, i ? "c" : "b", second);
        fixture_config(test_path("c.yaml"), "", test_path("tokenizer.json"), run,
                       i ? "micro_batches: 1, max_steps: 3" : "micro_batches: 1, max_steps: 2",
                       extra);
        int code = again(&said, "", run, "");
        ASSERT(code == 0, "exit code %d:\n%s", code, said);
    }
    ASSERT_CONTAINS(said, "datasets.a.weight: 1 → 3 from here on");
    ASSERT_CONTAINS(said, "datasets: b takes no part from here on");
    ASSERT_CONTAINS(said, "datasets: c takes part from here on");
}

/* ---- what a run begins with ---- */

/* A run over the first as its base; `more` overrides. */
static int from_base(const char **said, const char *base, const char *more) {
    return test_run(said,
                    "./cadvlm train --config %s base_model=%s output_dir=%s tune.llm=lora "
                    "tune.vision=frozen lora.r=2 training.micro_batches=1 train_data=%s %s",
                    test_path("base.yaml"), base, run_folder("second"), test_path("data"), more);
}

TEST(the_base_stays_that_of_the_beginning) {
    run_prepare(20, "micro_batches: 1, max_steps: 2", "");
    ASSERT_OK(file_write(test_path("base.yaml"), "seed: 3\n", 8));
    const char *said, *first = run_folder("first"), *second = run_folder("second");
    run_train("", first, "");
    ASSERT_INT(test_run(&said, "cp -r %s %s", first, run_folder("other")), ==, 0);
    int code = from_base(&said, first, "training.max_steps=1");
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    ASSERT_TRUE(has_line(second, "config.yaml", "max_length: 400")); /* the base's, not stated */
    code = from_base(&said, run_folder("other"), "training.max_steps=2");
    ASSERT(code == 2, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "base_model: ");
    ASSERT_CONTAINS(said, "/other; this stays as the run began");
    code = from_base(&said, "''", "training.max_steps=2");
    ASSERT(code == 2 && strstr(said, "/first → (none)"), "exit code %d:\n%s", code, said);
    /* The same by another way, or gone: the checkpoint has all of it. */
    char way[PATH_SIZE];
    snprintf(way, sizeof way, "%s/../first/.", second);
    code = from_base(&said, way, "training.max_steps=2");
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    ASSERT_INT(test_run(&said, "rm -r %s", first), ==, 0);
    code = from_base(&said, first, "training.max_steps=3");
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
}
