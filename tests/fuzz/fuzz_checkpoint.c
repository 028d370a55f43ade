/* A checkpoint's small files: manifest, state, lineage. What was understood of the state, written,
 * is understood as the same. */
#include "checkpoint/lineage.h"
#include "checkpoint/manifest.h"
#include "checkpoint/train_state.h"
#include "core/file.h"
#include "tests/fuzz/fuzz.h"

static const char *const files[] = {"manifest.json", "state.json", "base.json", "config.yaml",
                                    NULL};

/* Those whose content does not matter here. */
static void write_others(void) {
    static const char *const others[] = {"trained.safetensors", "moment1.safetensors",
                                         "moment2.safetensors", "tokenizer.json"};
    if (file_exists(test_path(others[0]))) return;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) fuzz_file(others[i], "x", 1);
}

static void repeat_state(const TrainState *state) {
    static TrainState again;
    ASSERT_OK(train_state_write(state, test_folder()));
    ASSERT_OK(train_state_read(&again, test_folder()));
    ASSERT_TRUE(again.step == state->step && again.micro_batches == state->micro_batches);
    ASSERT_TRUE(again.samples == state->samples && again.excluded == state->excluded);
    ASSERT_TRUE(again.update.updates == state->update.updates);
    ASSERT_TRUE(again.dataset_count == state->dataset_count);
    ASSERT_TEXT(again.base_model, state->base_model);
}

void fuzz_one(const uint8_t *data, size_t size) {
    static TrainState state;
    static Lineage lineage;
    FuzzInput input = {data, data + size};
    write_others();
    fuzz_folder(&input, files);
    IGNORE(manifest_verify(test_folder()));
    if (train_state_read(&state, test_folder()) == OK) repeat_state(&state);
    if (lineage_read(&lineage, test_folder()) == OK)
        ASSERT_OK(lineage_write(&lineage, test_folder()));
}

/* A state with as many datasets as there can be, and with one more. */
static void seed_full_states(void) {
    TrainState state = {.micro_batches = 1, .dataset_count = CONFIG_DATASETS};
    Buf text = {0}, longer = {0}, seed = {0};
    state.update.loss_scale = 1;
    ASSERT_OK(train_state_write(&state, test_folder()));
    fuzz_folder_append(&seed, test_folder(), files);
    fuzz_seed(seed.data, seed.size);
    ASSERT_OK(file_read(&text, test_path("state.json"), 1 << 20));
    const char *list = strchr(buf_cstr(&text), '[');
    ASSERT_TRUE(list);
    buf_clear(&seed);
    fuzz_piece_append(&seed, "", 0); /* no manifest */
    buf_format(&longer, "%.*s0,%s", (int)(list + 1 - text.data), text.data, list + 1);
    fuzz_piece_append(&seed, longer.data, longer.size);
    fuzz_seed(seed.data, seed.size);
    buf_free(&longer);
    buf_free(&seed);
    buf_free(&text);
}

void fuzz_seeds(void) {
    static TrainState state = {
        .step = 7, .micro_batches = 2, .samples = 28, .excluded = 5, .names_known = true};
    static Lineage lineage = {.name = "owner/name", .on_hub = true, .weights = "0123456789abcdef"};
    Buf seed = {0};
    state.update.loss_scale = 1;
    state.val_loss = 2.5;
    state.best_val_loss = NAN;
    state.dataset_count = 2;
    state.dataset_samples[0] = 20;
    strcpy(state.base_model, "owner/name");
    ASSERT_OK(train_state_write(&state, test_folder()));
    ASSERT_OK(lineage_write(&lineage, test_folder()));
    write_others();
    fuzz_file("config.yaml", "seed: 1\n", 8);
    ASSERT_OK(manifest_write(test_folder()));
    ASSERT_OK(manifest_verify(test_folder()));
    fuzz_folder_append(&seed, test_folder(), files);
    fuzz_seed(seed.data, seed.size);
    buf_free(&seed);
    seed_full_states();
}
