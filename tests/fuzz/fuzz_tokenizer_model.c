/* tokenizer.model and the settings beside it, and a text for them. */
#include "tests/fuzz/tokenizer.h"

static const char *const files[] = {"tokenizer.model", "tokenizer_config.json",
                                    "special_tokens_map.json", "added_tokens.json", NULL};

void fuzz_one(const uint8_t *data, size_t size) {
    fuzz_tokenizer_folder(data, size, files);
}

void fuzz_seeds(void) {
    seed_tokenizer("openecad/llama", files);
    seed_tokenizer("openecad/gemma", files);
    seed_tokenizer("../models/openecad_0.55b", files);
    seed_tokenizer("../models/openecad_2.4b", files);
}
