/* config: what loads, what is refused and how, and that the resolved file loads unchanged. */
#include "config/config.h"
#include "config/keys.h"
#include "core/file.h"
#include "tests/config/config_fixture.h"
#include "tests/support/test.h"

TEST(the_config_of_the_training_guide_loads_as_it_is) {
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
                !config_stated(&config, "training.micro_batches"));
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
        /* The demo trains its whole schedule. No validation reads a split of any size. */
        bool demo = !strcmp(names.names[i], "demo.yaml");
        ASSERT_INT(config.training.early_stopping_patience, ==, demo ? 0 : 3);
        ASSERT_INT(config.training.eval_samples, >, 0);
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

/* Those for large GPUs train the same: only micro-batches are larger, and fewer. */
TEST(presets_for_large_gpus_differ_in_their_micro_batches_alone) {
    static const char *const sizes[] = {"0.55b", "0.89b", "2.4b", "3.1b"};
    static Config usual, large;
    char name[64], folder[PATH_SIZE];
    snprintf(folder, sizeof folder, "%s/config/presets", test_source_folder());
    setenv("CADVLM_PRESETS", folder, 1);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "openecad_%s", sizes[i]);
        ASSERT_OK(config_load(&usual, name, NULL, 0));
        snprintf(name, sizeof name, "openecad_%s_80gb", sizes[i]);
        ASSERT_OK(config_load(&large, name, NULL, 0));
        for (int k = 0; k < config_key_count; k++) {
            const char *key = config_keys[k].path;
            bool other = !strcmp(key, "output_dir") ||
                         !strcmp(key, "training.per_device_batch_size") ||
                         !strcmp(key, "training.gradient_accumulation_steps");
            ASSERT(config_same_key(&usual, &large, key) == !other, "%s: %s", name, key);
        }
        ASSERT_INT(large.training.per_device_batch_size, ==, 8);
        ASSERT_INT(large.gradient_checkpointing, ==, CHECKPOINT_NONE);
    }
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

/* What users of the OpenECAD training guide, of transformers and of TinyLLaVA write, and what it is
 * here. */
TEST(every_other_name_of_a_key_sets_that_key) {
    static const char *const names[][2] = {
        {"num_epochs", "training.num_epochs"},
        {"num_train_epochs", "training.num_epochs"},
        {"epochs", "training.num_epochs"},
        {"max_steps", "training.max_steps"},
        {"per_device_batch_size", "training.per_device_batch_size"},
        {"per_device_train_batch_size", "training.per_device_batch_size"},
        {"batch_size", "training.per_device_batch_size"},
        {"gradient_accumulation_steps", "training.gradient_accumulation_steps"},
        {"micro_batches", "training.micro_batches"},
        {"slots", "training.micro_batches"},
        {"training.slots", "training.micro_batches"},
        {"model.llm.rotary_share", "model.llm.partial_rotary_factor"},
        {"learning_rate", "training.learning_rate"},
        {"lr_scheduler_type", "training.lr_scheduler_type"},
        {"warmup_ratio", "training.warmup_ratio"},
        {"warmup_steps", "training.warmup_steps"},
        {"max_grad_norm", "training.max_grad_norm"},
        {"weight_decay", "training.weight_decay"},
        {"max_length", "training.max_length"},
        {"model_max_length", "training.max_length"},
        {"overlong", "training.overlong"},
        {"save_steps", "training.save_steps"},
        {"save_total_limit", "training.save_total_limit"},
        {"eval_steps", "training.eval_steps"},
        {"early_stopping_patience", "training.early_stopping_patience"},
        {"lora_r", "lora.r"},
        {"lora_alpha", "lora.alpha"},
        {"lora_dropout", "lora.dropout"},
        {"use_rslora", "lora.use_rslora"},
        {"mm_projector_lr", "training.connector_learning_rate"},
        {"vision_tower_lr", "training.vision_learning_rate"},
        {"tune_type_llm", "tune.llm"},
        {"tune_type_vision_tower", "tune.vision"},
        {"tune_type_connector", "tune.connector"},
        {"training.gradient_checkpointing", "gradient_checkpointing"},
        {"training.dataloader_num_workers", "dataloader_num_workers"},
    };
    int count = 0;
    while (key_aliases[count][0]) count++;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const Key *key = key_find(names[i][0]);
        ASSERT(key && !strcmp(key->path, names[i][1]), "%s sets %s", names[i][0],
               key ? key->path : "nothing");
    }
    ASSERT_INT(count, ==, sizeof names / sizeof names[0]);
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

/* The next item of a cell, without back quotes; false at its end. */
static bool next_item(const char **at, char out[64]) {
    while (**at == ' ' || **at == ',' || **at == '`') ++*at;
    size_t length = strcspn(*at, ",`|");
    while (length && (*at)[length - 1] == ' ') length--;
    snprintf(out, 64, "%.*s", (int)length, *at);
    *at += length;
    return length > 0;
}

/* 1e-4 and 0.0001, [0.5] and 0.5, "" and nothing are the same. */
static void same_default(const char *path, const char *documented) {
    static Config config;
    Buf printed = {0};
    config_defaults(&config);
    key_print(&printed, key_find(path), &config);
    const char *is = buf_cstr(&printed);
    char *end;
    double number = strtod(documented, &end);
    if (!*documented)
        ASSERT(!strcmp(is, "\"\"") || !strcmp(is, "false"), "%s: %s, not documented", path, is);
    else if (!*end)
        ASSERT(strtod(is + (*is == '['), NULL) == number, "%s: %s, documented %s", path, is,
               documented);
    else
        ASSERT(!strncmp(is + (*is == '"'), documented, strlen(documented)), "%s: %s, documented %s",
               path, is, documented);
    buf_free(&printed);
}

TEST(defaults_are_those_documented) {
    Buf doc = {0};
    char path[PATH_SIZE], key[64], value[64];
    int compared = 0;
    bool of_defaults = false;
    snprintf(path, sizeof path, "%s/docs/configuration.md", test_source_folder());
    ASSERT_OK(file_read(&doc, path, 1 << 20));
    for (char *line = strtok(doc.data, "\n"); line; line = strtok(NULL, "\n")) {
        if (line[0] != '|') of_defaults = false;
        if (!strncmp(line, "| key | default |", 17)) of_defaults = true;
        if (!of_defaults || strncmp(line, "| `", 3) != 0) continue;
        const char *keys = line + 2, *values = strchr(keys, '|');
        if (!values) continue;
        values++;
        value[0] = 0;
        while (next_item(&keys, key) && key_find(key)) {
            char next[64]; /* one value stands for all keys of its row, or each has its own */
            if (next_item(&values, next)) strcpy(value, next);
            same_default(key, value);
            compared++;
        }
    }
    ASSERT_INT(compared, ==, config_key_count);
    buf_free(&doc);
}

/* Where a formula divides by 1 - x, x or a count, and what is a share. The last that is possible
 * stands beside the first that is not. */
TEST(numbers_that_a_formula_cannot_bear_are_refused) {
    static Config config;
    static const struct {
        const char *key, *good, *bad;
    } cases[] = {
        {"lora.dropout", "0.95", "1"},
        {"lora.dropout", "0", "-0.05"},
        {"lora.r", "1", "0"},
        {"model.llm.residual_dropout", "0.95", "1"},
        {"training.adam_beta1", "0.999", "1"},
        {"training.adam_beta2", "0.9999", "1"},
        {"training.adam_epsilon", "1e-12", "0"},
        {"training.learning_rate", "1e-9", "-1e-9"},
        {"training.weight_decay", "0.1", "-0.1"},
        {"training.max_grad_norm", "0", "-1"},
        {"training.min_lr_ratio", "1", "1.01"},
        {"training.warmup_ratio", "1", "1.01"},
        {"training.warmup_ratio", "0", "-0.01"},
        {"training.per_device_batch_size", "1", "0"},
        {"training.save_total_limit", "1", "0"},
        {"model.vision.std", "0.5", "0"},
        {"model.vision.patch_size", "1", "0"},
        {"model.llm.rope_theta", "1e4", "0"},
        {"model.llm.partial_rotary_factor", "1", "1.5"},
        {"model.llm.norm_eps", "1e-6", "-1e-6"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char good[80], bad[80];
        snprintf(good, sizeof good, "%s: %s\n", cases[i].key, cases[i].good);
        snprintf(bad, sizeof bad, "%s: %s\n", cases[i].key, cases[i].bad);
        ASSERT_OK(parse(&config, good));
        ASSERT_CONTAINS(mistakes_of(bad), cases[i].key);
        ASSERT_CONTAINS(mistakes_of(bad), "is possible");
    }
}

TEST(all_mistakes_are_reported_at_once_with_their_lines) {
    const char *said = mistakes_of(
        "seed: 1\nlearning_rat: 3\ntraining:\n  max_steps: many\n  micro_batches: -4\ndevice: tpu\n"
        "lora: 5\ndatasets:\n  - { name: a, weigth: 2 }\ntraining.x: {}\n");
    ASSERT_CONTAINS(said, "t.yaml:2: unknown key learning_rat (is learning_rate meant?)");
    ASSERT_CONTAINS(said, "t.yaml:4: training.max_steps: \"many\" is not a whole number");
    ASSERT_CONTAINS(said, "t.yaml:5: training.micro_batches: -4; 0 to 1048576 is possible");
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

TEST(contradictions_within_the_model_are_refused) {
    ASSERT_CONTAINS(mistakes_of("model: { llm: { layers: 2, q_heads: [4, 4], kv_heads: [2, 3] } }"),
                    "layer 1 has 4 query heads for 3 key heads");
    ASSERT_CONTAINS(mistakes_of("model: { vision: { image_size: 8, patch_size: 16, width: 4, "
                                "heads: 2 } }"),
                    "patch_size 16 is larger than image_size 8");
    ASSERT_CONTAINS(mistakes_of("model: { vision: { channels: 2 } }"), "1 (gray) or 3 (colour)");
    ASSERT_CONTAINS(mistakes_of("model: { vision: { mean: [1, 2] } }"), "2 numbers for 3 channels");
    ASSERT_CONTAINS(mistakes_of("model: { vision: { std: [1, 2] } }"), "2 numbers for 3 channels");
    ASSERT_CONTAINS(mistakes_of("model: { llm: { partial_rotary_factor: 0.3 } }"),
                    "is 19.2 channels");
    ASSERT_CONTAINS(mistakes_of("model: { llm: { head_dim: 6, partial_rotary_factor: 0.5 } }"),
                    "is 3 channels; an even number");
    ASSERT_CONTAINS(mistakes_of("model: { llm: { head_dim: 7, partial_rotary_factor: 0 } }"),
                    "head_dim: 7; rotary positions need an even number");
    ASSERT_CONTAINS(mistakes_of("model: { llm: { layers: 3, ffn: [4, 4] } }"),
                    "model.llm.ffn: 2 numbers for 3 layers");
    ASSERT_CONTAINS(mistakes_of("model: { llm: { layers: 3, kv_heads: [4, 4] } }"),
                    "model.llm.kv_heads: 2 numbers for 3 layers");
    ASSERT_CONTAINS(mistakes_of("tune: { connector: lora }"), "it is full or frozen");
    ASSERT_CONTAINS(mistakes_of("learning_rate: 0\nmm_projector_lr: 0.1"),
                    "0 beside the rate of a part");
}

TEST(without_lora_what_would_have_adapters_is_trained_whole) {
    static Config config;
    ASSERT_OK(parse(&config, "use_lora: false\ntune: { vision: lora }"));
    ASSERT_TRUE(config.tune.llm == TUNE_FULL && config.tune.vision == TUNE_FULL);
    ASSERT_OK(parse(&config, "use_lora: false\ntune: { llm: frozen }"));
    ASSERT_TRUE(config.tune.llm == TUNE_FROZEN && config.tune.vision == TUNE_FROZEN);
    ASSERT_OK(parse(&config, "tune: { vision: lora }"));
    ASSERT_TRUE(config.tune.llm == TUNE_LORA && config.tune.vision == TUNE_LORA);
    ASSERT_TRUE(!config.model.from_scratch);
    ASSERT_OK(parse(&config, "model: { template: phi }"));
    ASSERT_TRUE(!config.model.from_scratch); /* of a base too */
    ASSERT_OK(parse(&config, "model: { connector: { norm: true } }"));
    ASSERT_TRUE(config.model.from_scratch);
}

static uint32_t any(uint32_t *state, uint32_t count) {
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % count;
}

static void append_code(Buf *out, uint32_t code) {
    if (code < 0x80)
        buf_format(out, "%c", (int)code);
    else if (code < 0x800)
        buf_format(out, "%c%c", (int)(0xc0 | code >> 6), (int)(0x80 | (code & 0x3f)));
    else if (code < 0x10000)
        buf_format(out, "%c%c%c", (int)(0xe0 | code >> 12), (int)(0x80 | (code >> 6 & 0x3f)),
                   (int)(0x80 | (code & 0x3f)));
    else
        buf_format(out, "%c%c%c%c", (int)(0xf0 | code >> 18), (int)(0x80 | (code >> 12 & 0x3f)),
                   (int)(0x80 | (code >> 6 & 0x3f)), (int)(0x80 | (code & 0x3f)));
}

/* Text of all kinds of characters, among them what YAML reads otherwise: quotes, marks, nulls. With
 * `bad`, also what no config may hold. */
static void random_text(Buf *out, uint32_t *state, bool lines, bool bad) {
    static const char *const words[] = {"~", "null", "yes", "- ",  ": ",  " #",    "\\", "\"", "'",
                                        "{", "}",    "[",   "]",   ",",   "&a",    "*a", "!t", "%",
                                        "|", ">",    "---", "...", "\\n", "\\x41", "?",  "=",  " "};
    static const uint32_t starts[] = {0x20,   0xA0,   0x600,  0x2000, 0x2020,  0x2060,
                                      0xD7E0, 0xE000, 0xFEF0, 0xFFE0, 0x1F600, 0x10FFE0};
    buf_clear(out);
    for (uint32_t i = any(state, 14); i > 0; i--) {
        uint32_t kind = any(state, 10);
        if (kind < 4)
            buf_text(out, words[any(state, sizeof words / sizeof words[0])]);
        else if (kind < 8)
            append_code(out, starts[any(state, 12)] + any(state, 0x20));
        else if (lines && kind == 8)
            buf_text(out, any(state, 2) ? "\n" : "\t");
        else if (bad && kind == 9)
            buf_format(out, "%c",
                       (int)(any(state, 2) ? any(state, 31) + 1 : 0x7f + any(state, 0x80)));
    }
}

/* The keys that are text, through key_set as a user's words; what was taken reads back the same. */
TEST(any_text_that_is_taken_is_read_again_as_it_was) {
    static Config config, again;
    uint32_t state = 7;
    int taken = 0, refused = 0;
    Buf text = {0}, written = {0};
    for (int round = 0; round < 3000; round++) {
        config_defaults(&config);
        for (int i = 0; i < config_key_count; i++) {
            const Key *key = &config_keys[i];
            bool lines = key->type == KEY_LINES;
            if (key->type != KEY_TEXT && key->type != KEY_NAMES && !lines && !key_is_mapping(key))
                continue;
            random_text(&text, &state, lines, round % 3 == 0);
            const char *items[] = {buf_cstr(&text), "3"};
            if (key_set(key, &config, items, key_is_mapping(key) ? 2 : 1, key_is_mapping(key)) ==
                OK)
                taken++;
            else
                refused++;
        }
        config.dataset_count = (int)any(&state, 3);
        for (int d = 0; d < config.dataset_count; d++) {
            DatasetConfig *set = &config.datasets[d];
            *set = (DatasetConfig){.weight = 0.1 * d + 0.1};
            random_text(&text, &state, false, false);
            if (text.size > 40) text.size = 0;
            snprintf(set->path, sizeof set->path, "p%s", buf_cstr(&text));
            snprintf(set->name, sizeof set->name, "%d%.0s", d, buf_cstr(&text));
        }
        if (config.dataset_count) config.train_data[0] = 0;
        buf_clear(&written);
        config_print(&written, &config);
        ASSERT_OK(config_parse(&again, written.data, written.size, "written", NULL, 0));
        for (int i = 0; i < config_key_count; i++)
            ASSERT(config_same_key(&config, &again, config_keys[i].path), "%s: %s",
                   config_keys[i].path, buf_cstr(&written));
        ASSERT_TEXT(again.model.system_prompt, config.model.system_prompt);
        ASSERT_TEXT(again.tokenizer, config.tokenizer);
        ASSERT_TEXT(again.output_dir, config.output_dir);
        ASSERT_TEXT(again.lora.target_modules, config.lora.target_modules);
        ASSERT_INT(again.dataset_count, ==, config.dataset_count);
        for (int d = 0; d < config.dataset_count; d++) {
            ASSERT_TEXT(again.datasets[d].path, config.datasets[d].path);
            ASSERT_TEXT(again.datasets[d].name, config.datasets[d].name);
            ASSERT_REAL(again.datasets[d].weight, ==, config.datasets[d].weight);
        }
    }
    printf("%d taken, %d refused\n", taken, refused);
    ASSERT_TRUE(taken > 10000 && refused > 1000);
    buf_free(&text);
    buf_free(&written);
}

/* Cut behind a character: 31 of two bytes fit into 63. */
TEST(the_name_of_a_dataset_is_that_of_its_folder_in_whole_characters) {
    static Config config;
    Buf text = {0}, expected = {0};
    buf_text(&text, "datasets: [ { path: /data/");
    for (int i = 0; i < 40; i++) buf_text(&text, "é");
    for (int i = 0; i < 31; i++) buf_text(&expected, "é");
    buf_text(&text, " } ]");
    ASSERT_OK(parse(&config, buf_cstr(&text)));
    ASSERT_TEXT(config.datasets[0].name, buf_cstr(&expected));
    ASSERT_OK(parse(&config, "datasets: [ { path: a/gpj\xe2\x80\xae.exe } ]"));
    ASSERT_TEXT(config.datasets[0].name, "gpj\\u202e.exe");
    buf_free(&text);
    buf_free(&expected);
}

/* The limits of every number, written out once more. A REAL's neighbour outside is refused. */
TEST(every_number_has_its_limits) {
    static const struct {
        const char *path;
        double low, high;
    } limits[] = {
        {"samples_per_epoch", 0, 1e12},
        {"limit", 0, 1e12},
        {"curriculum.start", 0, 1},
        {"curriculum.full_at", 0, 1},
        {"lora.r", 1, 4096},
        {"lora.alpha", 0, 1e6},
        {"lora.dropout", 0, 0.95}, /* kept values are divided by 1 - dropout */
        {"lora.rank_pattern", 1, 4096},
        {"lora.alpha_pattern", 0, 1e6},
        {"training.num_epochs", 0, 1e6},
        {"training.max_steps", 0, 1e12},
        {"training.per_device_batch_size", 1, 65536},
        {"training.gradient_accumulation_steps", 1, 65536},
        {"training.micro_batches", 0, 1048576},
        {"training.learning_rate", 0, 100},
        {"training.llm_learning_rate", 0, 100},
        {"training.vision_learning_rate", 0, 100},
        {"training.connector_learning_rate", 0, 100},
        {"training.min_lr_ratio", 0, 1},
        {"training.warmup_ratio", 0, 1},
        {"training.warmup_steps", 0, 1e12},
        {"training.max_grad_norm", 0, 1e9},
        {"training.weight_decay", 0, 10},
        {"training.adam_beta1", 0, 0.999999}, /* moments are divided by 1 - beta^n */
        {"training.adam_beta2", 0, 0.999999},
        {"training.adam_epsilon", 1e-30, 1}, /* updates are divided by √v + epsilon */
        {"training.max_length", 8, 1048576},
        {"training.save_steps", 0, 1e12},
        {"training.save_total_limit", 1, 1e6},
        {"training.eval_steps", 0, 1e12},
        {"training.eval_samples", 0, 1e12},
        {"training.early_stopping_patience", 0, 1e6},
        {"training.image_shift", 0, 64},
        {"training.image_shift_steps", 0, 1e12},
        {"model.vision.image_size", 8, 4096},
        {"model.vision.channels", 1, 3},
        {"model.vision.patch_size", 1, 512},
        {"model.vision.layers", 1, 128},
        {"model.vision.width", 1, 65536},
        {"model.vision.heads", 1, 1024},
        {"model.vision.mlp", 1, 262144},
        {"model.vision.norm_eps", 0, 1},
        {"model.vision.mean", -10, 10},
        {"model.vision.std", 1e-3, 10}, /* pixels are divided by it */
        {"model.llm.layers", 1, 128},
        {"model.llm.width", 1, 65536},
        {"model.llm.head_dim", 2, 512},
        {"model.llm.q_heads", 1, 1024},
        {"model.llm.kv_heads", 1, 1024},
        {"model.llm.ffn", 1, 262144},
        {"model.llm.vocab", 0, 4194304},
        {"model.llm.partial_rotary_factor", 0, 1},
        {"model.llm.residual_dropout", 0, 0.95},
        {"model.llm.rope_theta", 1, 1e12},
        {"model.llm.norm_eps", 0, 1},
        {"threads", 0, 1024},
        {"dataloader_num_workers", 0, 1024},
        {"ddp_timeout", 1, 1e6},
        {"seed", 0, 9e15},
        {"weight", 1e-9, 1e12}, /* of a dataset, and what follows: one of weight 0 is left out */
        {"limit", 0, 1e12},
        {"max_epochs", 0, 1e9},
    };
    enum { LIMITS = sizeof limits / sizeof limits[0] };
    static Config config;
    int seen = 0;
    config_defaults(&config);
    for (int i = 0; i < config_key_count + dataset_key_count; i++) {
        bool of_dataset = i >= config_key_count;
        const Key *key = of_dataset ? &dataset_keys[i - config_key_count] : &config_keys[i];
        bool whole = key->type == KEY_INT || key->type == KEY_INTS || key->type == KEY_RANKS;
        if (!whole && key->type != KEY_REAL && key->type != KEY_REALS && key->type != KEY_PATTERNS)
            continue;
        int row = of_dataset ? LIMITS - 3 : 0;
        while (row < LIMITS && strcmp(limits[row].path, key->path) != 0) row++;
        ASSERT(row < LIMITS, "%s is missing here", key->path);
        seen++;
        double low = limits[row].low, high = limits[row].high;
        double values[] = {low, high, whole ? low - 1 : nextafter(low, -INFINITY),
                           whole ? high + 1 : nextafter(high, INFINITY)};
        for (int v = 0; v < 4; v++) {
            char text[64];
            snprintf(text, sizeof text, whole ? "%.0f" : "%.17g", values[v]);
            const char *items[] = {"name", text};
            bool pairs = key_is_mapping(key);
            Err err = key_set(key, of_dataset ? (void *)&config.datasets[0] : (void *)&config,
                              pairs ? items : items + 1, pairs ? 2 : 1, pairs);
            ASSERT(err == (v < 2 ? OK : ERR_CONFIG), "%s: %s is %s", key->path, text,
                   err == OK ? "taken" : err_message());
        }
    }
    ASSERT_INT(seen, ==, LIMITS);
}

TEST(what_would_divide_by_zero_is_refused) {
    ASSERT_CONTAINS(mistakes_of("lora: { dropout: 1 }"), "lora.dropout: 1; 0 to 0.95 is possible");
    ASSERT_CONTAINS(mistakes_of("lora_dropout: 1.0"), "0 to 0.95 is possible");
    ASSERT_CONTAINS(mistakes_of("datasets:\n - { path: a }\n - { path: b, weight: 0 }"),
                    "t.yaml:3: weight: 0; 1e-09 to 1e+12 is possible");
    ASSERT_CONTAINS(mistakes_of("model: { vision: { std: 0 } }"), "is possible");
    ASSERT_CONTAINS(mistakes_of("training: { adam_beta2: 1 }"), "is possible");
}
