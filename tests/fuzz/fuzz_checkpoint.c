/* A checkpoint's small files: manifest, state, origin. What was understood of the state, written,
 * is understood as the same. */
#include "core/file.h"
#include "tests/fuzz/fuzz.h"
#include "trainer/manifest.h"
#include "trainer/origin.h"
#include "trainer/train_state.h"

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
    ASSERT_TRUE(again.step == state->step && again.slots == state->slots);
    ASSERT_TRUE(again.samples == state->samples && again.excluded == state->excluded);
    ASSERT_TRUE(again.update.updates == state->update.updates);
    ASSERT_TRUE(again.dataset_count == state->dataset_count);
    ASSERT_TEXT(again.base_model, state->base_model);
}

void fuzz_one(const uint8_t *data, size_t size) {
    static TrainState state;
    static Origin origin;
    FuzzInput input = {data, data + size};
    write_others();
    fuzz_folder(&input, files);
    IGNORE(manifest_verify(test_folder()));
    if (train_state_read(&state, test_folder()) == OK) repeat_state(&state);
    if (origin_read(&origin, test_folder()) == OK) ASSERT_OK(origin_write(&origin, test_folder()));
}

void fuzz_seeds(void) {
    static TrainState state = {.step = 7, .slots = 2, .samples = 28, .excluded = 5, .told = true};
    static Origin origin = {.name = "owner/name", .on_hub = true, .weights = "0123456789abcdef"};
    Buf seed = {0};
    TrainState full = {.slots = 1, .dataset_count = CONFIG_DATASETS}; /* all there can be */
    full.update.loss_scale = 1;
    state.update.loss_scale = 1;
    state.val_loss = 2.5;
    state.best_val_loss = NAN;
    state.dataset_count = 2;
    state.dataset_samples[0] = 20;
    strcpy(state.base_model, "owner/name");
    ASSERT_OK(train_state_write(&state, test_folder()));
    ASSERT_OK(origin_write(&origin, test_folder()));
    write_others();
    fuzz_file("config.yaml", "seed: 1\n", 8);
    ASSERT_OK(manifest_write(test_folder()));
    ASSERT_OK(manifest_verify(test_folder()));
    fuzz_folder_append(&seed, test_folder(), files);
    fuzz_seed(seed.data, seed.size);
    buf_clear(&seed);
    ASSERT_OK(train_state_write(&full, test_folder()));
    ASSERT_OK(train_state_read(&state, test_folder()));
    fuzz_folder_append(&seed, test_folder(), files);
    fuzz_seed(seed.data, seed.size);
    buf_free(&seed);
}
