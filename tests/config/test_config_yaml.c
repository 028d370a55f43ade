/* The YAML of a config: what is refused and how, hostile files among them. */
#include "config/config.h"
#include "config/keys.h"
#include "core/file.h"
#include "tests/config/config_fixture.h"
#include "tests/support/test.h"

TEST(broken_yaml_is_a_sentence) {
    ASSERT_CONTAINS(mistakes_of(""), "the file is empty");
    ASSERT_CONTAINS(mistakes_of("- 1\n- 2\n"), "a mapping (key: value) is expected");
    ASSERT_CONTAINS(mistakes_of("a: [1, 2\nb: 3"), "not valid YAML");
    ASSERT_CONTAINS(mistakes_of("\tseed: 1"), "not valid YAML");
    ASSERT_CONTAINS(mistakes_of("seed: .nan"), "is not a whole number");
    ASSERT_CONTAINS(mistakes_of("learning_rate: .nan"), "is not a number");
    ASSERT_CONTAINS(mistakes_of("training: &a { x: *a }"), "t.yaml:1: the alias *a");
    ASSERT_CONTAINS(mistakes_of("a: &a 1\nseed: *a"), "t.yaml:2: the alias *a");
    ASSERT_CONTAINS(mistakes_of("seed: !!int 5"), "t.yaml:1: the tag tag:yaml.org,2002:int");
    ASSERT_CONTAINS(mistakes_of("seed: 1\ndevice: !cpu x"), "t.yaml:2: the tag !cpu");
    ASSERT_CONTAINS(mistakes_of("~"), "the file is empty");
    ASSERT_CONTAINS(mistakes_of("# nothing\n"), "the file is empty");
    ASSERT_CONTAINS(mistakes_of("? [a, b]\n: c"), "a key that is no name");
    ASSERT_CONTAINS(mistakes_of("seed: [1, 2]"), "a list where one value is expected");
    ASSERT_CONTAINS(mistakes_of("seed: { a: 1 }"), "a section where a value is expected");
    static Config config;
    ASSERT_ERR(config_load(&config, "nowhere/to.yaml", NULL, 0), ERR_CONFIG, "nowhere/to.yaml");
    ASSERT_ERR(config_load(&config, "no_such_preset", NULL, 0), ERR_CONFIG, "no_such_preset");
}

/* Of every fault of this kind both lines are reported. */
TEST(what_is_given_twice_is_reported_with_both_lines) {
    static const char *const twice[][2] = {
        {"seed: 1\ndevice: cpu\nseed: 2", "t.yaml:3: seed: given twice, here and in line 1"},
        {"seed: 1\nseed: 1", "t.yaml:2: seed: given twice, here and in line 1"},
        {"seed: ~\nseed: 1", "t.yaml:2: seed: given twice, here and in line 1"},
        {"training:\n  micro_batches: 1\nseed: 1\ntraining:\n  max_steps: 2",
         "t.yaml:4: training: given twice, here and in line 1"},
        {"model:\n  llm: { layers: 1 }\n  llm: { width: 1 }",
         "t.yaml:3: model.llm: given twice, here and in line 2"},
        {"training: { micro_batches: 1,\n micro_batches: 2 }",
         "t.yaml:2: training.micro_batches: given twice, here and in line 1"},
        {"learning_rate: 1\ntraining:\n  learning_rate: 2",
         "t.yaml:3: training.learning_rate: given twice, here and as learning_rate in line 1"},
        {"training:\n  learning_rate: 2\nlearning_rate: 1",
         "t.yaml:3: learning_rate: given twice, here and as training.learning_rate in line 2"},
        {"epochs: 1\nnum_epochs: 1",
         "t.yaml:2: num_epochs: given twice, here and as epochs in line 1"},
        {"lora_r: 8\nlora: { r: 8 }",
         "t.yaml:2: lora.r: given twice, here and as lora_r in line 1"},
        {"tune_type_llm: full\ntune: { llm: full }",
         "t.yaml:2: tune.llm: given twice, here and as tune_type_llm in line 1"},
        {"training.micro_batches: 3\ntraining: { micro_batches: 3 }",
         "t.yaml:2: training.micro_batches: given twice, here and in line 1"},
        {"training.slots: 3\ntraining: { micro_batches: 3 }",
         "t.yaml:2: training.micro_batches: given twice, here and as training.slots in line 1"},
        {"fp16: true\nbf16: true", "t.yaml:2: bf16: given twice, here and as fp16 in line 1"},
        {"fp16: true\n\nprecision: fp16",
         "t.yaml:3: precision: given twice, here and as fp16 in line 1"},
        {"fp16: false\nprecision: fp16", "t.yaml:1: fp16: given beside precision in line 2"},
        {"datasets: [ { path: a } ]\ndatasets: [ { path: b } ]",
         "t.yaml:2: datasets: given twice, here and in line 1"},
        {"datasets:\n - { path: a,\n path: b }",
         "t.yaml:3: datasets.path: given twice, here and in line 2"},
        {"lora:\n rank_pattern:\n  q: 1\n  q: 2",
         "t.yaml:4: lora.rank_pattern.q: given twice, here and in line 3"},
        {"seed: 1\n---\nseed: 2\n", "t.yaml:2: a second document begins here, the first in line 1"},
        {"# a comment\n---\nseed: 1\n...\n---\nseed: 2\n",
         "t.yaml:5: a second document begins here, the first in line 2"},
    };
    for (size_t i = 0; i < sizeof twice / sizeof twice[0]; i++) {
        printf("%s\n", twice[i][1]);
        ASSERT_CONTAINS(mistakes_of(twice[i][0]), twice[i][1]);
        ASSERT_CONTAINS(err_message(), "1 mistake;");
    }
    static Config config;
    const char *overrides[] = {"lora.r=16", "lora_r=32", "precision=f32"};
    const char *text = "---\nlora_r: 8\nfp16: false\nbf16: true\n...\n";
    ASSERT_OK(config_parse(&config, text, strlen(text), "t", overrides, 3));
    ASSERT_INT(config.lora.r, ==, 32); /* the last word of a command line counts */
    ASSERT_INT(config.precision, ==, PRECISION_F32);
    ASSERT_OK(parse(&config, "fp16: false\nbf16: true"));
    ASSERT_INT(config.precision, ==, PRECISION_BF16);
    ASSERT_TRUE(config_stated(&config, "precision"));
}

TEST(null_is_as_if_nothing_was_said) {
    static Config config, defaults;
    config_defaults(&defaults);
    const char *text = "seed: ~\ndevice: null\nthreads: Null\ntokenizer: NULL\nlora_r:\n"
                       "training:\nlora: ~\ncurriculum: { by: ~ }\n"
                       "model: { llm: null }\ndatasets: ~\nfp16: ~\n";
    ASSERT_OK(parse(&config, text));
    Buf texts[2] = {{0}, {0}};
    config_print(&texts[0], &config);
    config_print(&texts[1], &defaults);
    ASSERT_TEXT(buf_cstr(&texts[0]), buf_cstr(&texts[1]));
    for (int i = 0; i < config_key_count; i++) ASSERT_TRUE(!config.stated[i]);
    for (int i = 0; i < 2; i++) buf_free(&texts[i]);
    ASSERT_OK(parse(&config, "datasets: [ { path: a/b, name: ~, weight: null } ]"));
    ASSERT_TEXT(config.datasets[0].name, "b");
    ASSERT_REAL(config.datasets[0].weight, ==, 1);
    ASSERT_OK(parse(&config, "tokenizer: \"~\"\nbase_model: 'null'")); /* in quotes it is a text */
    ASSERT_TEXT(config.tokenizer, "~");
    ASSERT_TEXT(config.base_model, "null");
    ASSERT_CONTAINS(mistakes_of("sed: ~"), "unknown key sed");
    ASSERT_CONTAINS(mistakes_of("training: { x: }"), "unknown key training.x");
    ASSERT_CONTAINS(mistakes_of("lora: { target_modules: [q_proj, ~] }"), "plain values");
    const char *overrides[] = {"seed=~", "tokenizer=null"};
    text = "seed: 7\ntokenizer: t\n";
    ASSERT_OK(config_parse(&config, text, strlen(text), "t", overrides, 2));
    ASSERT_INT(config.seed, ==, defaults.seed);
    ASSERT_TEXT(config.tokenizer, "");
    ASSERT_TRUE(!config_stated(&config, "seed"));
}

TEST(yes_and_no_are_understood_in_any_case) {
    static const char *const words[][4] = {{"false", "FALSE", "False", "fAlSe"},
                                           {"true", "TRUE", "True", "tRuE"},
                                           {"no", "NO", "No", "nO"},
                                           {"yes", "YES", "Yes", "yEs"},
                                           {"off", "OFF", "Off", "oFF"},
                                           {"on", "ON", "On", "oN"}};
    static Config config;
    for (int i = 0; i < 24; i++) {
        char text[64];
        bool yes = i / 4 % 2;
        snprintf(text, sizeof text, "use_lora: %s", words[i / 4][i % 4]);
        ASSERT_OK(parse(&config, text));
        ASSERT_INT(config.use_lora, ==, yes);
        snprintf(text, sizeof text, "fp16: %s", words[i / 4][i % 4]);
        ASSERT_OK(parse(&config, text));
        ASSERT_INT(config.precision, ==, yes ? PRECISION_FP16 : PRECISION_AUTO);
        snprintf(text, sizeof text, "gradient_checkpointing: %s", words[i / 4][i % 4]);
        ASSERT_OK(parse(&config, text));
        ASSERT_INT(config.gradient_checkpointing, ==, yes ? CHECKPOINT_LAYERS : CHECKPOINT_NONE);
    }
    ASSERT_CONTAINS(mistakes_of("use_lora: y"), "true or false is expected");
    ASSERT_CONTAINS(mistakes_of("fp16: maybe"), "fp16: \"maybe\"; true or false is expected");
    ASSERT_CONTAINS(mistakes_of("use_lora: 1"), "true or false is expected");
}

TEST(control_characters_and_other_bytes_are_refused_where_they_enter) {
    static Config config;
    ASSERT_CONTAINS(mistakes_of("model: { system_prompt: \"a\\x1b[2J\" }"),
                    "model.system_prompt: \"a\\x1b[2J\" has a control character at byte 2");
    ASSERT_CONTAINS(mistakes_of("model: { system_prompt: \"\\x7f\" }"), "control character");
    ASSERT_CONTAINS(mistakes_of("model: { system_prompt: \"a\\r\" }"), "control character");
    ASSERT_CONTAINS(mistakes_of("model: { system_prompt: \"a\\x85\" }"), "control character");
    ASSERT_CONTAINS(mistakes_of("model: { system_prompt: \"a\\0b\" }"), "zero byte");
    ASSERT_CONTAINS(mistakes_of("output_dir: \"a\\nb\""), "output_dir: \"a\\nb\" has a control");
    ASSERT_CONTAINS(mistakes_of("datasets: [ { path: \"a\\tb\" } ]"),
                    "path: \"a\\tb\" has a control");
    ASSERT_CONTAINS(mistakes_of("lora: { rank_pattern: { \"q\\x01\": 8 } }"), "control character");
    ASSERT_CONTAINS(mistakes_of("lora: { target_modules: [q, \"v\\x01\"] }"), "control character");
    const char *latin[] = {"train_data=caf\xe9"};
    ASSERT_ERR(config_parse(&config, "seed: 1", 7, "t", latin, 1), ERR_CONFIG, "1 mistake");
    ASSERT_OK(parse(&config, "model: { system_prompt: \"You read\\n\\tdrawings. \\u202e\" }"));
    ASSERT_TEXT(config.model.system_prompt, "You read\n\tdrawings. \xe2\x80\xae");
}

TEST(a_bad_byte_is_reported_with_its_line) {
    ASSERT_CONTAINS(mistakes_of("seed: 1\ntokenizer: caf\xe9\n"), "t.yaml:2: not valid YAML");
    ASSERT_CONTAINS(mistakes_of("seed: 1\n\n\n# \x9b\n"), "t.yaml:4: not valid YAML");
    ASSERT_CONTAINS(mistakes_of("seed: 1\ntokenizer: \"a\001b\"\n"), "t.yaml:2: not valid YAML");
    ASSERT_CONTAINS(mistakes_of("seed: 1\n\177seed: 2\n"), "t.yaml:2: not valid YAML");
    Buf text = {0}; /* libyaml reads pieces of 16 KiB */
    for (int i = 0; i < 2000; i++) buf_text(&text, "# a line of twenty\n");
    buf_text(&text, "seed: \xff\n");
    ASSERT_CONTAINS(mistakes_of(buf_cstr(&text)), "t.yaml:2001: not valid YAML");
    buf_free(&text);
}

/* Names with brackets and braces too; each took minutes, or for ever. */
TEST(a_config_that_is_made_to_take_time_ends_at_once) {
    static const char *const parts[][2] = {
        {"[", "t.yaml:1: nested deeper than 8"},
        {"{a: ", "t.yaml:1: nested deeper than 8"},
        {"- ", "t.yaml:1: nested deeper than 8"},
        {"? ", "t.yaml:1: nested deeper than 8"},
        {"[{", "t.yaml:1: nested deeper than 8"},
        {"[\n", "t.yaml:9: nested deeper than 8"},
        {"a: 1\n", "unknown key a"},
        {"\"[\": 1\n", "unknown key ["},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        Buf text = {0};
        while (text.size + strlen(parts[i][0]) <= CONFIG_FILE_MAX) buf_text(&text, parts[i][0]);
        const char *said = mistakes_of(buf_cstr(&text));
        ASSERT_CONTAINS(said, parts[i][1]);
        int lines = 0;
        for (const char *c = said; *c; c++) lines += *c == '\n';
        ASSERT_INT(lines, <=, 50);
        if (i >= 6) ASSERT_INT(lines, ==, 50);
        if (i >= 6) ASSERT_CONTAINS(err_message(), "50 mistakes, and the rest was not read");
        for (int extra = 0; extra < 400000; extra++) buf_text(&text, parts[i][0]);
        ASSERT_CONTAINS(mistakes_of(buf_cstr(&text)), "more than the 65536 allowed");
        buf_free(&text);
    }
    Buf text = {0};
    for (int i = 0; i < 60; i++) buf_format(&text, "- { path: a%d, weight: x }\n", i);
    Buf whole = {0};
    buf_format(&whole, "datasets:\n%s", buf_cstr(&text));
    ASSERT_CONTAINS(mistakes_of(buf_cstr(&whole)), "t.yaml:51: weight");
    ASSERT_CONTAINS(err_message(), "50 mistakes, and the rest was not read");
    ASSERT_OK(file_write(test_path("large.yaml"), whole.data, whole.size));
    buf_free(&text);
    buf_free(&whole);
    static Config config;
    char *large = calloc(1, CONFIG_FILE_MAX + 2);
    memset(large, '#', CONFIG_FILE_MAX + 1);
    ASSERT_OK(file_write(test_path("large.yaml"), large, CONFIG_FILE_MAX + 1));
    ASSERT_ERR(config_load(&config, test_path("large.yaml"), NULL, 0), ERR_CONFIG, "65537 bytes");
    free(large);
    /* Eight levels are possible, were there such keys. */
    ASSERT_CONTAINS(mistakes_of("a: [[[[[[[]]]]]]]"), "unknown key a");
    ASSERT_CONTAINS(mistakes_of("a: [[[[[[[[]]]]]]]]"), "nested deeper");
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
