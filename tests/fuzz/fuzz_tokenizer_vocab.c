/* vocab.json, merges.txt and the settings beside them, and a text for them. */
#include "tests/fuzz/tokenizer.h"

static const char *const files[] = {
    "vocab.json",        "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", NULL};

void fuzz_one(const uint8_t *data, size_t size) {
    fuzz_tokenizer_folder(data, size, files);
}

void fuzz_seeds(void) {
    seed_tokenizer("openecad/codegen", files);
    seed_tokenizer("../models/openecad_3.1b", files);
}
