/* From published model folders to trained ones, as users go: the presets of the OpenECAD models
 * over tiny models in the published layout (tests/golden/models, random weights), on any ranks,
 * resumed, in two stages, from an adapter, and read by `generate`. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "tests/support/test.h"
#include "tests/support/train_fixture.h"

static const char *const PRESETS[] = {"openecad_0.55b", "openecad_0.89b", "openecad_2.4b",
                                      "openecad_3.1b"};
enum { PRESET_COUNT = sizeof PRESETS / sizeof PRESETS[0] };

/* A copy of a golden model, so that what is written beside it is the test's; and data. */
static void prepare(const char *arch) {
    const char *said;
    char presets[PATH_SIZE];
    snprintf(presets, sizeof presets, "%s/config/presets", test_source_folder());
    setenv("CADVLM_PRESETS", presets, 1);
    ASSERT_INT(test_run(&said, "cp -r %s/tests/golden/models/%s %s", test_source_folder(), arch,
                        test_path(arch)),
               ==, 0);
    if (!file_exists(test_path("data"))) fixture_dataset(test_path("data"), 24, 1);
}

/* Trains by the model's preset; `more` overrides. Returns what was said. */
static const char *train(const char *prefix, const char *arch, const char *run, const char *more) {
    const char *said;
    int code = test_run(&said,
                        "%s ./cadvlm train --config %s base_model=%s train_data=%s val_data= "
                        "output_dir=%s lora.r=4 training.max_steps=1 %s",
                        prefix, arch, test_path(arch), test_path("data"), test_path(run), more);
    ASSERT(code == 0, "%s: exit code %d:\n%s", arch, code, said);
    return said;
}

static uint64_t weights_of(const char *run) {
    char path[PATH_SIZE];
    uint64_t hash, bytes;
    ASSERT_OK(path_format(path, "%s/checkpoints/latest/trained.safetensors", test_path(run)));
    ASSERT_OK(file_checksum(&hash, &bytes, path));
    return hash;
}

TEST(every_preset_trains_a_step_on_the_cpu) {
    for (int i = 0; i < PRESET_COUNT; i++) {
        prepare(PRESETS[i]);
        const char *said = train("", PRESETS[i], PRESETS[i] + 9, "device=cpu");
        ASSERT_CONTAINS(said, "trained 1 steps");
    }
}

static double number_said(const char *said, const char *before) {
    const char *at = strstr(said, before);
    ASSERT(at, "no \"%s\" in:\n%s", before, said);
    return strtod(at + strlen(before), NULL);
}

/* Both formats, read again by the program itself: in f32 they differ by the order of sums. */
TEST(exports_compute_what_the_checkpoint_does) {
    prepare("openecad_0.55b");
    train("", "openecad_0.55b", "run",
          "device=cpu training.learning_rate=0.01 warmup_ratio=0 "
          "training.max_steps=3 tune.vision=lora lora.alpha=8");
    static const char *const formats[] = {"peft", "merged --dtype f32"};
    const char *said;
    for (int i = 0; i < 2; i++) {
        char out[PATH_SIZE], run[PATH_SIZE];
        snprintf(out, sizeof out, "%s", test_path(i ? "merged" : "peft"));
        snprintf(run, sizeof run, "%s", test_path("run"));
        int code = test_run(&said, "./cadvlm export -c %s --format %s %s --data %s --json", run,
                            formats[i], out, test_path("data"));
        ASSERT(code == 0, "exit code %d:\n%s", code, said);
        ASSERT_REAL(number_said(said, "\"samples\":"), ==, 4);
        double largest = number_said(said, "\"logit_largest\":"),
               difference = number_said(said, "\"logit_difference\":");
        printf("%s: logits to %.3g, at most %.2e apart\n", formats[i], largest, difference);
        ASSERT_REAL(difference, <=, 2e-5 * largest);
        ASSERT_REAL(largest, >, 0.1);
        code = test_run(&said, "./cadvlm export -c %s --format %s %s", run, formats[i], out);
        ASSERT(code == 1, "exit code %d:\n%s", code, said); /* it holds something */
    }
    char more[2 * PATH_SIZE];
    snprintf(more, sizeof more, "device=cpu adapter=%s tune.vision=lora", test_path("peft"));
    said = train("", "openecad_0.55b", "more", more);
    ASSERT_CONTAINS(said, "going on with the adapter");
    ASSERT_CONTAINS(said, "lora.alpha: 256 of the config is not used; the adapter has lora.alpha: "
                          "8");
    snprintf(more, sizeof more, "device=cpu base_model=%s", test_path("merged"));
    ASSERT_CONTAINS(train("", "openecad_0.55b", "again", more), "trained 1 steps");
}

/* No config.json has a place for all of it, and an adapter has no config.json. */
TEST(exports_take_along_how_drawings_and_prompts_are_prepared) {
    static const char *const formats[] = {"peft", "merged"};
    const char *said;
    char text[2 * PATH_SIZE];
    prepare("openecad_0.55b");
    snprintf(text, sizeof text, "%s", test_path("tokenizer"));
    ASSERT_INT(test_run(&said, "cp -r %s %s && echo '{}' > %s/special_tokens_map.json",
                        test_path("openecad_0.55b"), text, text),
               ==, 0);
    snprintf(text, sizeof text,
             "device=cpu model.template=plain 'model.system_prompt=Say \"hm\"' "
             "image_aspect_ratio=pad tokenizer=%s",
             test_path("tokenizer"));
    train("", "openecad_0.55b", "run", text);
    for (int i = 0; i < 2; i++) {
        snprintf(text, sizeof text, "%s", test_path("run"));
        int code = test_run(&said, "./cadvlm export -c %s --format %s %s", text, formats[i],
                            test_path(formats[i]));
        ASSERT(code == 0, "exit code %d:\n%s", code, said);
        snprintf(text, sizeof text, "device=cpu base_model=%s", test_path(formats[i]));
        train("", "openecad_0.55b", i ? "run-merged" : "run-peft", text);
        ASSERT_INT(test_run(&said, "cat %s/checkpoints/latest/config.yaml",
                            test_path(i ? "run-merged" : "run-peft")),
                   ==, 0);
        ASSERT_CONTAINS(said, "  template: plain");
        ASSERT_CONTAINS(said, "  system_prompt: \"Say \\\"hm\\\"\"");
        ASSERT_CONTAINS(said, "image_aspect_ratio: pad");
    }
    /* The tokenizer is the one trained with. */
    snprintf(text, sizeof text, "%s", test_path("merged"));
    ASSERT_INT(test_run(&said, "cmp %s/special_tokens_map.json %s/special_tokens_map.json", text,
                        test_path("tokenizer")),
               ==, 0);
    /* A broken cadvlm.yaml is said. */
    ASSERT_INT(test_run(&said,
                        "echo 'training.x: {' > %s/cadvlm.yaml; "
                        "./cadvlm generate -c %s none.png -o %s",
                        text, text, test_path("out")),
               ==, 2);
    ASSERT_CONTAINS(said, "merged/cadvlm.yaml:");
}

TEST(a_base_that_has_changed_since_is_not_exported) {
    const char *said;
    char model[PATH_SIZE], run[PATH_SIZE];
    prepare("openecad_0.89b");
    train("", "openecad_0.89b", "run", "device=cpu");
    snprintf(model, sizeof model, "%s", test_path("openecad_0.89b"));
    snprintf(run, sizeof run, "%s", test_path("run"));
    for (int changed = 0; changed < 2; changed++) {
        if (changed) /* the last numbers of the file, and of its last tensor */
            ASSERT_INT(test_run(&said,
                                "truncate -s -2048 %s/model.safetensors && "
                                "truncate -s +2048 %s/model.safetensors",
                                model, model),
                       ==, 0);
        int code = test_run(&said, "./cadvlm export -c %s --format merged --dtype f32 %s --json",
                            run, test_path(changed ? "later" : "first"));
        ASSERT(code == 0, "exit code %d:\n%s", code, said);
        ASSERT_TRUE(!changed == !strstr(said, "does not have the weights any more"));
        ASSERT_REAL(number_said(said, "\"logit_difference\":"), <=,
                    2e-5 * number_said(said, "\"logit_largest\":"));
    }
    int code = test_run(&said, "./cadvlm export -c %s --format peft %s", run, test_path("peft"));
    ASSERT(code == 1 && strstr(said, "has other weights now"), "exit code %d:\n%s", code, said);
    ASSERT_TRUE(!file_exists(test_path("peft")));
    code = test_run(&said, "./cadvlm export -c %s --format peft --dtype bf16 %s", run,
                    test_path("peft"));
    ASSERT(code == 2 && strstr(said, "always f32"), "exit code %d:\n%s", code, said);
    code = test_run(&said, "./cadvlm export -c %s --format peft %s", model, test_path("peft"));
    ASSERT(code == 1 && strstr(said, "nothing trained"), "exit code %d:\n%s", code, said);
    code = test_run(&said, "./cadvlm eval -c %s --data %s", model, test_path("data"));
    ASSERT(code == 2 && strstr(said, "with -o"), "exit code %d:\n%s", code, said);
}

/* "models/base" is a folder here, and must not become somebody's repository there. */
TEST(a_base_in_a_folder_does_not_look_like_one_of_the_hub) {
    const char *said;
    prepare("openecad_0.55b");
    int code = test_run(
        &said,
        "PROGRAM=$PWD/cadvlm; cd %s && mkdir models && cp -r openecad_0.55b models/base && "
        "$PROGRAM train --config openecad_0.55b base_model=models/base train_data=data val_data= "
        "output_dir=run lora.r=4 training.max_steps=1 device=cpu && cd / && "
        "$PROGRAM export -c $OLDPWD/run --format peft $OLDPWD/peft && cat $OLDPWD/peft/*.json "
        "$OLDPWD/peft/README.md",
        test_folder());
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    char base[PATH_SIZE], *real = realpath(test_path("models/base"), NULL);
    snprintf(base, sizeof base, "\"base_model_name_or_path\": \"%s\"", real);
    free(real);
    ASSERT_CONTAINS(said, base);
    ASSERT_TRUE(!strstr(said, "\nbase_model:"));
}

TEST(adapters_of_a_published_model_have_the_same_bits_on_any_ranks) {
    prepare("openecad_0.89b");
    const char *more = "device=cpu training.micro_batches=6 training.max_steps=3 tune.vision=lora";
    train("", "openecad_0.89b", "one", more);
    train(fixture_mpirun(2), "openecad_0.89b", "two", more);
    train(fixture_mpirun(3), "openecad_0.89b", "three", more);
    ASSERT_TRUE(weights_of("one") == weights_of("two"));
    ASSERT_TRUE(weights_of("one") == weights_of("three"));
}

TEST(frozen_weights_are_converted_once_and_shared_by_checkpoints) {
    prepare("openecad_2.4b");
    const char *said = train(fixture_mpirun(2), "openecad_2.4b", "run", "device=cpu");
    ASSERT_CONTAINS(said, "converting");
    said = train("", "openecad_2.4b", "again", "device=cpu");
    ASSERT_TRUE(!strstr(said, "converting"));
    /* The weight cache beside the model and a checkpoint of each run are one file. */
    ASSERT_INT(test_run(&said, "stat -c %%h %s/cadvlm-*.safetensors", test_path("openecad_2.4b")),
               ==, 0);
    ASSERT_INT(atoi(said), ==, 3);
    /* A changed base is converted anew. */
    ASSERT_INT(
        test_run(&said, "touch -d '2001-02-03' %s/model.safetensors", test_path("openecad_2.4b")),
        ==, 0);
    ASSERT_CONTAINS(train("", "openecad_2.4b", "anew", "device=cpu"), "converting");
    ASSERT_INT(test_run(&said, "ls %s | grep -c '^cadvlm-'", test_path("openecad_2.4b")), ==, 0);
    ASSERT_INT(atoi(said), ==, 1);
}

TEST(a_run_goes_on_when_its_base_is_gone) {
    prepare("openecad_3.1b");
    const char *steps =
        "device=cpu training.micro_batches=2 lr_scheduler_type=constant warmup_ratio=0";
    char more[160];
    snprintf(more, sizeof more, "%s training.max_steps=4", steps);
    train("", "openecad_3.1b", "unbroken", more);
    snprintf(more, sizeof more, "%s training.max_steps=2", steps);
    train("", "openecad_3.1b", "broken", more);
    const char *said;
    ASSERT_INT(test_run(&said, "rm -r %s", test_path("openecad_3.1b")), ==, 0);
    snprintf(more, sizeof more, "%s training.max_steps=4", steps);
    ASSERT_CONTAINS(train("", "openecad_3.1b", "broken", more), "resuming after step 2");
    ASSERT_TRUE(weights_of("broken") == weights_of("unbroken"));
}

TEST(a_resumed_run_outlives_the_checkpoint_it_resumed_from) {
    prepare("openecad_0.89b");
    const char *more =
        "device=cpu training.micro_batches=1 training.per_device_batch_size=1 limit=4 "
        "training.save_steps=1 training.save_total_limit=1 training.eval_steps=0";
    char all[300];
    for (int steps = 1; steps <= 4; steps += 3) {
        snprintf(all, sizeof all, "%s training.max_steps=%d", more, steps);
        ASSERT_CONTAINS(train("", "openecad_0.89b", "run", all), "trained");
    }
}

/* What the adapter says holds for the whole run; what the user says instead is reported each time.
 */
TEST(a_run_keeps_the_adapter_that_it_began_with) {
    prepare("openecad_0.89b");
    char more[PATH_SIZE + 200], model[PATH_SIZE];
    const char *said;
    snprintf(model, sizeof model, "%s", test_path("openecad_0.89b"));
    for (int steps = 1; steps <= 2; steps++) {
        snprintf(more, sizeof more,
                 "device=cpu training.micro_batches=1 lora.alpha=99 lora.dropout=0.25 "
                 "adapter=%s/adapter "
                 "training.max_steps=%d",
                 model, steps);
        said = train("", "openecad_0.89b", "run", more);
        ASSERT_CONTAINS(said,
                        "lora.alpha: 99 of the config is not used; the adapter has lora.alpha: 8");
        ASSERT_TRUE(!strstr(said, "lora.dropout"));
    }
    ASSERT_INT(test_run(&said, "grep -h '  alpha:\\|  dropout:' %s/config.yaml", test_path("run")),
               ==, 0);
    ASSERT_CONTAINS(said, "alpha: 8 ");
    ASSERT_CONTAINS(said, "dropout: 0.25 ");
    int code = test_run(&said,
                        "./cadvlm train --config openecad_0.89b base_model=%s train_data=%s "
                        "val_data= output_dir=%s device=cpu training.max_steps=3",
                        model, test_path("data"), test_path("run"));
    ASSERT(code == 2, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "/adapter → (none); this stays as the run began");
}

/* Not stated, it is the base's, and later the first run's. */
TEST(the_longest_sample_comes_along) {
    prepare("tinyllama");
    const char *said,
        *one = "val_data= limit=1 training.per_device_batch_size=1 training.micro_batches=1 "
               "lora.r=4 training.max_steps=1 device=cpu";
    char model[PATH_SIZE], data[PATH_SIZE], first[PATH_SIZE], config[PATH_SIZE];
    snprintf(model, sizeof model, "%s", test_path("tinyllama"));
    snprintf(data, sizeof data, "%s", test_path("data"));
    snprintf(first, sizeof first, "%s", test_path("first"));
    snprintf(config, sizeof config, "%s", test_path("c.yaml"));
    ASSERT_OK(file_write(config, "seed: 1\n", 8));
    int code =
        test_run(&said,
                 "sed -i 's/\"tokenizer_model_max_length\": 2048/"
                 "\"tokenizer_model_max_length\": 1400/' %s/config.json && "
                 "./cadvlm train --config %s base_model=%s train_data=%s output_dir=%s %s && "
                 "./cadvlm train --config %s base_model=%s train_data=%s output_dir=%s %s && "
                 "grep -h '  max_length' %s/checkpoints/latest/config.yaml "
                 "%s/checkpoints/latest/config.yaml",
                 model, config, model, data, first, one, config, first, data, test_path("second"),
                 one, first, test_path("second"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    const char *at = strstr(said, "max_length: 1400");
    ASSERT_TRUE(at && strstr(at + 1, "max_length: 1400"));
}

/* One sample again and again: where the second stage starts is where the first ended, one update
 * further on than its last loss. */
TEST(a_second_stage_starts_where_the_first_ended) {
    prepare("tinyllama");
    const char *one =
                   "val_data= limit=1 training.per_device_batch_size=1 training.micro_batches=1 "
                   "lr_scheduler_type=constant warmup_ratio=0 device=cpu training.eval_samples=1",
               *said;
    int code = test_run(&said,
                        "./cadvlm train --config openecad_0.89b base_model=%s train_data=%s "
                        "output_dir=%s lora.r=4 lora.alpha=8 lora.dropout=0 tune.vision=lora "
                        "training.learning_rate=0.01 training.max_steps=12 %s",
                        test_path("tinyllama"), test_path("data"), test_path("first"), one);
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    double first = number_said(said, ": loss ");
    code = test_run(&said,
                    "./cadvlm train --config strategy3_stage2 base_model=%s train_data=%s "
                    "output_dir=%s lora.r=2 training.learning_rate=0 training.max_steps=1 %s",
                    test_path("first"), test_path("data"), test_path("second"), one);
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    double second = number_said(said, ": loss ");
    printf("first stage ends at %.3f, second starts at %.3f\n", first, second);
    ASSERT_REAL(first, <, 6); /* from 6.9 */
    ASSERT_NEAR(second, first, 0.4);
}

TEST(a_published_model_reads_drawings_of_any_size) {
    prepare("openecad_0.55b");
    const char *said;
    int code = test_run(&said, "./cadvlm generate -c %s %s/docs/demo.png -o %s --max-tokens 20",
                        test_path("openecad_0.55b"), test_source_folder(), test_path("out"));
    ASSERT_INT(code, ==, 1); /* random weights write no part */
    ASSERT_CONTAINS(said, "gave no sound solid");
    ASSERT_TRUE(file_exists(test_path("out/demo.png")));
}

TEST(tensors_without_a_place_are_reported_once) {
    prepare("openecad_0.89b");
    const char *said;
    ASSERT_INT(test_run(&said,
                        "LC_ALL=C sed -i 's/vision_model\\.head\\.probe/vision_model.what.probe/' "
                        "%s/model.safetensors",
                        test_path("openecad_0.89b")),
               ==, 0);
    said = train("", "openecad_0.89b", "run", "device=cpu"); /* reads values, and masters */
    const char *sentence = "has 1 tensors that the model has no place for, "
                           "vision_tower._vision_tower.vision_model.what.probe the first",
               *at = strstr(said, sentence);
    ASSERT(at && !strstr(at + 1, sentence), "%s", said);
}

TEST(what_does_not_fit_is_said) {
    prepare("openecad_0.55b");
    prepare("openecad_0.89b");
    char model[PATH_SIZE], small[PATH_SIZE], data[PATH_SIZE];
    snprintf(model, sizeof model, "%s", test_path("openecad_0.89b"));
    snprintf(small, sizeof small, "%s", test_path("openecad_0.55b"));
    snprintf(data, sizeof data, "%s", test_path("data"));
    const char *said;
    static const struct {
        const char *damage, *more, *said;
    } cases[] = {
        {"true", "adapter=$MODEL/adapter base_model=$SMALL", "another base"},
        {"true", "base_model=nobody/nothing", "cadvlm data fetch nobody/nothing"},
        {"truncate -s 1000 model.safetensors", "", "model.safetensors"},
        {"mv model.safetensors pytorch_model.bin", "", "tools/bin_to_safetensors.py"},
        {"rm tokenizer.model", "", "tokenizer"},
        /* NaN for the first number behind the header. */
        {"printf '\\0\\0\\300\\177' | dd of=model.safetensors bs=1 conv=notrunc status=none "
         "seek=$((8 + $(od -An -tu8 -N8 model.safetensors)))",
         "", "connector._connector.0.bias[0] is nan"},
        {"true", "lora.target_modules=q_porj", "names no linear"},
        {"true", "base_model=$LOOP", "is no published model"},
        {"echo 'version https://git-lfs.github.com/spec/v1' > model.safetensors", "",
         "model.safetensors is a Git LFS pointer"},
        {"yes '[' | head -c 60000 | tr -d '\\n' > cadvlm.yaml", "",
         "cadvlm.yaml:1: nested deeper than 8"},
        {"yes '[' | head -c 900000 > cadvlm.yaml", "", "more than the 65536 allowed"},
        {"echo '{ x: &x 1, y: *x }' > cadvlm.yaml", "", "cadvlm.yaml:1: the alias *x"},
        {"sed -i 's/\"vocab_size\": 320/\"vocab_size\": 200/' config.json", "", "200"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int ranks = 1; ranks <= 2; ranks++) {
            int code = test_run(
                &said,
                "MODEL=%s; SMALL=%s; WORK=%s/work; rm -rf $WORK; cp -r $MODEL $WORK; "
                "LOOP=$WORK/adapter; sed -i \"s#\\\"base_model_name_or_path\\\": [^,]*#"
                "\\\"base_model_name_or_path\\\": \\\"$LOOP\\\"#\" "
                "$LOOP/adapter_config.json; "
                "(cd $WORK; %s); timeout 600 %s ./cadvlm train --config openecad_0.89b "
                "base_model=$WORK train_data=%s val_data= output_dir=%s lora.r=4 "
                "training.max_steps=1 device=cpu %s",
                model, small, test_folder(), cases[i].damage, ranks == 1 ? "" : fixture_mpirun(2),
                data, test_path("bad"), cases[i].more);
            ASSERT((code == 1 || code == 2) && strstr(said, cases[i].said),
                   "%s %s on %d ranks: exit code %d:\n%s", cases[i].damage, cases[i].more, ranks,
                   code, said);
        }
}
