/* config: what loads, what is refused and how, and that the resolved file loads unchanged. */
#include <fcntl.h>
#include <unistd.h>

#include "config/config.h"
#include "config/keys.h"
#include "core/file.h"
#include "tests/test.h"

static Err parse(Config *config, const char *text) {
    return config_parse(config, text, strlen(text), "t.yaml", NULL, 0);
}

/* What is logged while `text` is read: every mistake stands on a line of its own. */
static const char *mistakes_of(const char *text) {
    static Config config;
    static Buf seen;
    int kept = dup(STDERR_FILENO),
        file = open(test_path("stderr"), O_CREAT | O_TRUNC | O_WRONLY, 0600);
    ASSERT_TRUE(kept >= 0 && file >= 0);
    fflush(stderr);
    dup2(file, STDERR_FILENO);
    Err err = parse(&config, text);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(file);
    ErrState state;
    err_save(&state);
    ASSERT_OK(file_read(&seen, test_path("stderr"), 1 << 20));
    IGNORE(err_restore(&state));
    return err == ERR_CONFIG ? buf_cstr(&seen) : "(accepted)";
}

TEST(the_handbook_config_loads_as_it_is) {
    static Config config;
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/config/finetune_config.yaml", test_source_folder());
    ASSERT_OK(config_load(&config, path, NULL, 0));
    ASSERT_TEXT(config.base_model, "Yuan-Che/OpenECADv2-SigLIP-0.89B");
    ASSERT_INT(config.lora.r, ==, 128);
    ASSERT_REAL(config.lora.alpha, ==, 256);
    ASSERT_REAL(config.training.num_epochs, ==, 3);
    ASSERT_INT(config.training.gradient_accumulation_steps, ==, 2);
    ASSERT_INT(config.training.lr_scheduler_type, ==, SCHEDULE_COSINE);
    ASSERT_INT(config.precision, ==, PRECISION_FP16);
    ASSERT_TRUE(config.gradient_checkpointing);
    ASSERT_TRUE(config_stated(&config, "learning_rate") &&
                !config_stated(&config, "training.slots"));
}

TEST(a_byte_order_mark_is_no_part_of_a_config) {
    static Config config;
    ASSERT_OK(parse(&config, "\xEF\xBB\xBFseed: 7\n"));
    ASSERT_INT(config.seed, ==, 7);
}

TEST(every_preset_loads_and_its_resolved_form_is_the_same) {
    static Config config, again;
    char folder[PATH_SIZE];
    FileNames names;
    snprintf(folder, sizeof folder, "%s/config/presets", test_source_folder());
    setenv("CADVLM_PRESETS", folder, 1);
    ASSERT_OK(file_list(&names, folder));
    ASSERT_INT(names.count, >=, 14);
    for (size_t i = 0; i < names.count; i++) {
        printf("%s\n", names.names[i]);
        ASSERT_OK(config_load(&config, names.names[i], NULL, 0));
        Buf text = {0}, text_again = {0};
        config_print(&text, &config);
        ASSERT_OK(config_parse(&again, text.data, text.size, "resolved", NULL, 0));
        config_print(&text_again, &again);
        ASSERT_TEXT(buf_cstr(&text), buf_cstr(&text_again));
        buf_free(&text);
        buf_free(&text_again);
    }
    file_names_free(&names);
}

TEST(top_level_names_and_overrides_are_understood) {
    static Config config;
    const char *overrides[] = {"training.learning_rate=5e-5", "lora_r=64", "model.llm.ffn=[10, 20]",
                               "model.llm.layers=2", "training.max_steps=1e3"};
    const char *text = "per_device_batch_size: 7\ntune_type_vision_tower: lora\nbf16: true\nmodel: "
                       "{ llm: { q_heads: 2, kv_heads: 1 } }";
    ASSERT_OK(config_parse(&config, text, strlen(text), "t", overrides, 5));
    ASSERT_INT(config.training.per_device_batch_size, ==, 7);
    ASSERT_REAL(config.training.learning_rate, ==, 5e-5);
    ASSERT_INT(config.lora.r, ==, 64);
    ASSERT_INT(config.tune.vision, ==, TUNE_LORA);
    ASSERT_INT(config.precision, ==, PRECISION_BF16);
    ASSERT_INT(config.model.llm.ffn.count, ==, 2);
    ASSERT_INT(config.model.llm.ffn.values[1], ==, 20);
    ASSERT_INT(config.training.max_steps, ==, 1000);
}

/* Written out here, so that neither an enum nor a table of names can be turned around in silence.
 */
TEST(every_name_of_a_choice_means_what_it_says) {
    static Config config;
    static const struct {
        const char *text;
        const void *field;
        int expected;
    } choices[] = {
#define CHOICE(text, field, expected) {text, &config.field, expected}
        CHOICE("training.overlong: drop", training.overlong, OVERLONG_DROP),
        CHOICE("training.overlong: truncate", training.overlong, OVERLONG_TRUNCATE),
        CHOICE("training.overlong: error", training.overlong, OVERLONG_ERROR),
        CHOICE("model.llm.activation: gelu_pytorch_tanh", model.llm.activation,
               ACTIVATION_GELU_TANH),
        CHOICE("model.llm.activation: gelu", model.llm.activation, ACTIVATION_GELU),
        CHOICE("model.vision.activation: quick_gelu", model.vision.activation,
               ACTIVATION_QUICK_GELU),
        CHOICE("model.connector.activation: silu", model.connector.activation, ACTIVATION_SILU),
        CHOICE("tune.vision: frozen", tune.vision, TUNE_FROZEN),
        CHOICE("tune.vision: lora", tune.vision, TUNE_LORA),
        CHOICE("tune.vision: full", tune.vision, TUNE_FULL),
        CHOICE("device: cpu", device, DEVICE_CPU),
        CHOICE("device: cuda", device, DEVICE_CUDA),
        CHOICE("precision: bf16", precision, PRECISION_BF16),
        CHOICE("precision: fp16", precision, PRECISION_FP16),
        CHOICE("precision: f32", precision, PRECISION_F32),
        CHOICE("training.lr_scheduler_type: linear", training.lr_scheduler_type, SCHEDULE_LINEAR),
        CHOICE("training.lr_scheduler_type: constant", training.lr_scheduler_type,
               SCHEDULE_CONSTANT),
        CHOICE("image_aspect_ratio: pad", image_aspect, ASPECT_PAD),
        CHOICE("model.vision.fit: exact", model.vision.fit, FIT_EXACT),
        CHOICE("model.vision.fit: squash", model.vision.fit, FIT_SQUASH),
        CHOICE("model.vision.fit: crop", model.vision.fit, FIT_CROP),
        CHOICE("model.llm.norm: rms", model.llm.norm, NORM_RMS),
        CHOICE("model.llm.norm: rms_plus_one", model.llm.norm, NORM_RMS_PLUS_ONE),
        CHOICE("model.llm.norm: layer", model.llm.norm, NORM_LAYER),
        CHOICE("model.llm.names: llama", model.llm.names, NAMES_LLAMA),
        CHOICE("model.template: plain", model.template, TEMPLATE_NAME_PLAIN),
        CHOICE("model.template: llama", model.template, TEMPLATE_NAME_LLAMA),
        CHOICE("model.template: gemma", model.template, TEMPLATE_NAME_GEMMA),
        CHOICE("model.template: phi", model.template, TEMPLATE_NAME_PHI),
        CHOICE("gradient_checkpointing: cheap", gradient_checkpointing, CHECKPOINT_CHEAP),
        CHOICE("gradient_checkpointing: layers", gradient_checkpointing, CHECKPOINT_LAYERS),
        CHOICE("curriculum.by: complexity", curriculum.by, CURRICULUM_COMPLEXITY),
#undef CHOICE
    };
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        printf("%s\n", choices[i].text);
        ASSERT_OK(parse(&config, choices[i].text));
        ASSERT_INT(*(const int *)choices[i].field, ==, choices[i].expected);
    }
}

TEST(what_is_adapted_is_said_by_lists_and_pairs) {
    static Config config;
    const char *overrides[] = {"lora.alpha_pattern={q_proj:4.5}"};
    const char *text = "lora:\n  target_modules: [q_proj, layers.1.fc1]\n"
                       "  rank_pattern: { q_proj: 8, fc1: 1e1 }\n";
    ASSERT_OK(config_parse(&config, text, strlen(text), "t", overrides, 1));
    ASSERT_TEXT(config.lora.target_modules, "q_proj,layers.1.fc1");
    ASSERT_INT(config.lora.rank_pattern.count, ==, 2);
    ASSERT_TEXT(config.lora.rank_pattern.items[1].name, "fc1");
    ASSERT_REAL(config.lora.rank_pattern.items[1].value, ==, 10);
    ASSERT_REAL(config.lora.alpha_pattern.items[0].value, ==, 4.5);
    ASSERT_CONTAINS(mistakes_of("lora: { rank_pattern: { q_proj: 8.5 } }"),
                    "lora.rank_pattern: \"8.5\" is not a whole number");
    ASSERT_CONTAINS(mistakes_of("lora: { rank_pattern: { q_proj: } }"), "is not a whole number");
    ASSERT_CONTAINS(mistakes_of("lora: { target_modules: { q_proj: 8 } }"),
                    "a section where a value is expected");
    ASSERT_CONTAINS(mistakes_of("lora: { target_modules: [[q_proj]] }"), "plain values");
}

TEST(every_key_is_documented) {
    Buf doc = {0};
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/docs/configuration.md", test_source_folder());
    ASSERT_OK(file_read(&doc, path, 1 << 20));
    for (int i = 0; i < config_key_count; i++) {
        char quoted[128];
        snprintf(quoted, sizeof quoted, "`%s`", config_keys[i].path);
        ASSERT_CONTAINS(buf_cstr(&doc), quoted);
    }
    buf_free(&doc);
}

TEST(all_mistakes_are_told_at_once_with_their_lines) {
    const char *said = mistakes_of(
        "seed: 1\nlearning_rat: 3\ntraining:\n  max_steps: many\n  slots: -4\ndevice: tpu\n"
        "lora: 5\ndatasets:\n  - { name: a, weigth: 2 }\ntraining.x: {}\n");
    ASSERT_CONTAINS(said, "t.yaml:2: unknown key learning_rat (is learning_rate meant?)");
    ASSERT_CONTAINS(said, "t.yaml:4: training.max_steps: \"many\" is not a whole number");
    ASSERT_CONTAINS(said, "t.yaml:5: training.slots: -4; 0 to 1048576 is possible");
    ASSERT_CONTAINS(said, "t.yaml:6: device: \"tpu\"; one of auto, cpu, cuda is expected");
    ASSERT_CONTAINS(said, "t.yaml:7: lora: a value where a section of keys is expected");
    ASSERT_CONTAINS(said, "t.yaml:9: unknown key weigth (is weight meant?)");
    ASSERT_CONTAINS(said, "t.yaml:9: datasets: an entry has no path");
    ASSERT_CONTAINS(said, "t.yaml:10: unknown key training.x");
    ASSERT_CONTAINS(err_message(), "8 mistakes");
}

TEST(contradictions_are_refused) {
    ASSERT_CONTAINS(mistakes_of("base_model: a\nmodel: { llm: { layers: 2 } }"),
                    "both base_model and model:");
    ASSERT_CONTAINS(mistakes_of("model: { llm: { layers: 3, q_heads: [4, 4] } }"),
                    "model.llm.q_heads: 2 numbers for 3 layers");
    ASSERT_CONTAINS(mistakes_of("model: { llm: { layers: 1, q_heads: 4, kv_heads: 3 } }"),
                    "4 query heads for 3 key heads");
    ASSERT_CONTAINS(mistakes_of("model: { vision: { width: 10, heads: 4 } }"),
                    "width 10 is no multiple of heads 4");
    ASSERT_CONTAINS(mistakes_of("model: { llm: { names: phi } }"), "set qk_norm: false");
    ASSERT_CONTAINS(mistakes_of("tune: { llm: frozen, vision: frozen, connector: frozen }"),
                    "nothing to train");
    ASSERT_CONTAINS(mistakes_of("train_data: a\ndatasets: [ { path: b } ]"),
                    "both train_data and datasets");
    ASSERT_CONTAINS(mistakes_of("datasets: [ { path: b }, { path: c/b } ]"), "two are named b");
}

TEST(broken_yaml_is_a_sentence) {
    ASSERT_CONTAINS(mistakes_of(""), "the file is empty");
    ASSERT_CONTAINS(mistakes_of("- 1\n- 2\n"), "a mapping (key: value) is expected");
    ASSERT_CONTAINS(mistakes_of("a: [1, 2\nb: 3"), "not valid YAML");
    ASSERT_CONTAINS(mistakes_of("\tseed: 1"), "not valid YAML");
    ASSERT_CONTAINS(mistakes_of("seed: .nan"), "is not a whole number");
    ASSERT_CONTAINS(mistakes_of("learning_rate: .nan"), "is not a number");
    ASSERT_CONTAINS(mistakes_of("training: &a { x: *a }"), "unknown key");
    ASSERT_CONTAINS(mistakes_of("training: &a { training: *a }"), "unknown key training.training");
    ASSERT_CONTAINS(mistakes_of("? [a, b]\n: c"), "a key that is no name");
    ASSERT_CONTAINS(mistakes_of("seed: [1, 2]"), "a list where one value is expected");
    ASSERT_CONTAINS(mistakes_of("seed: { a: 1 }"), "a section where a value is expected");
    static Config config;
    ASSERT_ERR(config_load(&config, "nowhere/to.yaml", NULL, 0), ERR_CONFIG, "nowhere/to.yaml");
    ASSERT_ERR(config_load(&config, "no_such_preset", NULL, 0), ERR_CONFIG, "no_such_preset");
}

TEST(random_bytes_never_crash_the_reader) {
    static Config config;
    const char *seed = "training: { learning_rate: 1e-4, max_steps: 10 }\nlora: { r: 4 "
                       "}\ndatasets: [ { path: a, weight: 2 } ]\n";
    size_t size = strlen(seed);
    ASSERT_TRUE(freopen("/dev/null", "w", stderr) != NULL);
    unsigned state = 1;
    for (int round = 0; round < 3000; round++) {
        char text[256];
        memcpy(text, seed, size);
        for (int k = 0; k < 1 + round % 4; k++) {
            state = state * 1103515245u + 12345u;
            text[(state >> 8) % size] = (char)(state >> 16);
        }
        IGNORE(config_parse(&config, text, size, "fuzz", NULL, 0));
    }
}
