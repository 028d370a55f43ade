/* A config: YAML, then overrides of the command line; and one that was read, printed, is read again
 * as the same. Pieces of an input: the file, then the overrides. */
#include "config/config.h"
#include "config/keys.h"
#include "tests/fuzz/fuzz.h"

enum { OVERRIDES_MAX = 8 };

static void print_and_read(const Config *config) {
    Config *again = malloc(sizeof *again);
    Buf first = {0}, second = {0};
    config_print(&first, config);
    ASSERT_OK(config_parse(again, buf_cstr(&first), first.size, "printed", NULL, 0));
    config_print(&second, again);
    ASSERT_TEXT(buf_cstr(&second), buf_cstr(&first));
    buf_free(&first);
    buf_free(&second);
    free(again);
}

void fuzz_one(const uint8_t *data, size_t size) {
    FuzzInput input = {data, data + size};
    size_t length;
    char *text = fuzz_piece(&input, &length), *overrides[OVERRIDES_MAX];
    const char *given[OVERRIDES_MAX];
    int count = 0;
    for (; count < OVERRIDES_MAX && input.at < input.end; count++)
        given[count] = overrides[count] = fuzz_piece(&input, NULL);
    Config *config = malloc(sizeof *config);
    if (config_parse(config, text, length, "input", given, count) == OK) print_and_read(config);
    free(config);
    free(text);
    for (int i = 0; i < count; i++) free(overrides[i]);
}

static void seed(const char *text, const char *override, const char *other) {
    Buf bytes = {0};
    fuzz_piece_append(&bytes, text, strlen(text));
    if (override) fuzz_piece_append(&bytes, override, strlen(override));
    if (other) fuzz_piece_append(&bytes, other, strlen(other));
    fuzz_seed(bytes.data, bytes.size);
    buf_free(&bytes);
}

/* A file with one line for each key, by its long name: its default. */
static void seed_printed(void) {
    static Config config;
    Buf text = {0};
    config_defaults(&config);
    config_print(&text, &config);
    seed(buf_cstr(&text), "training.learning_rate=5e-5", "model.llm.ffn=[352,352]");
    buf_free(&text);
}

void fuzz_seeds(void) {
    seed_printed();
    seed(
        "base_model: phi\ndatasets:\n  - {name: a, path: b, weight: 2}\n  - name: c\n    path: d\n",
        "lora.rank_pattern={q_proj:8,fc1:4}", "seed=~");
    seed(
        "training:\n  learning_rate: 1e-4\n  num_epochs: 0.5\nlora:\n  r: 4\n  target_modules: [q, "
        "k]\n  rank_pattern: {q: 8}\n",
        "datasets=[a]", NULL);
    seed(
        "model:\n  from_scratch: yes\n  system_prompt: |\n    two\n    lines\n  vision:\n    mean: "
        "[0.5, 0.5, 0.5]\n    fit: crop\n",
        NULL, NULL);
    seed("a: &x [1, 2]\nb: *x\n--- \nc: !!int 3\n\"d\\u00e9\": 'e''f' # g\n", NULL, NULL);
    for (int i = 0; i < config_key_count; i++) {
        char text[256];
        snprintf(text, sizeof text, "%s=1", config_keys[i].path);
        seed("seed: 7\n", text, NULL);
    }
}
