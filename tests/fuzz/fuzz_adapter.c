/* A PEFT adapter: its config and its tensors. Pieces: adapter_config.json,
 * adapter_model.safetensors. */
#include "model/files/adapter.h"
#include "tests/fuzz/fuzz.h"

static const char *const files[] = {"adapter_config.json", "adapter_model.safetensors", NULL};

void fuzz_one(const uint8_t *data, size_t size) {
    FuzzInput input = {data, data + size};
    Adapter *adapter;
    fuzz_folder(&input, files);
    if (adapter_open(&adapter, test_folder()) != OK) return;
    HashStream *stream = hash_open();
    adapter_hash(stream, adapter);
    (void)hash_value(stream);
    hash_close(&stream);
    for (int i = 0; i < adapter_count(adapter); i++)
        ASSERT_TRUE(adapter_find(adapter, adapter_at(adapter, i)->name) == adapter_at(adapter, i));
    for (int i = 0; i < adapter_whole_count(adapter); i++)
        ASSERT_TRUE(adapter_whole(adapter, adapter_whole_at(adapter, i)->name) != NULL);
    adapter_close(&adapter);
}

/* A linear of rank 2, 4 × 3, as PEFT calls it. */
static const char tensors[] =
    "{\"base_model.model.language_model.model.layers.0.self_attn.q_proj.lora_A.weight\":{\"dtype\":"
    "\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
    "\"base_model.model.language_model.model.layers.0.self_attn.q_proj.lora_B.weight\":{\"dtype\":"
    "\"F32\",\"shape\":[4,2],\"data_offsets\":[24,56]},"
    "\"base_model.model.connector._connector.0.bias\":{\"dtype\":\"F16\",\"shape\":[4],\"data_"
    "offsets\":[56,64]}}";

static void seed(const char *config) {
    Buf bytes = {0}, weights = {0};
    uint64_t size = strlen(tensors);
    buf_append(&weights, &size, sizeof size);
    buf_text(&weights, tensors);
    for (int i = 0; i < 64; i++) buf_append(&weights, "\x3c", 1);
    fuzz_piece_append(&bytes, config, strlen(config));
    fuzz_piece_append(&bytes, weights.data, weights.size);
    fuzz_seed(bytes.data, bytes.size);
    buf_free(&bytes);
    buf_free(&weights);
}

void fuzz_seeds(void) {
    char folder[512];
    Buf golden = {0};
    seed("{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"target_modules\":[\"q_proj\"]}");
    seed("{\"peft_type\":\"LORA\",\"r\":8,\"lora_alpha\":16,\"use_rslora\":true,\"rank_pattern\":{"
         "\"q_proj\":2},\"alpha_pattern\":{\"q_proj\":1},\"lora_dropout\":0.05,\"bias\":\"none\","
         "\"init_lora_weights\":\"eva\",\"modules_to_save\":null}");
    snprintf(folder, sizeof folder, "%s/tests/golden/models/openecad_0.89b/adapter",
             test_source_folder());
    fuzz_folder_append(&golden, folder, files);
    fuzz_seed(golden.data, golden.size);
    buf_free(&golden);
}
