/* tokenizer.json, and a text for it. */
#include "tests/fuzz/tokenizer.h"

void fuzz_one(const uint8_t *data, size_t size) {
    FuzzInput input = {data, data + size};
    Tokenizer *tokenizer;
    size_t json_size, text_size;
    char *json = fuzz_piece(&input, &json_size), *text = fuzz_piece(&input, &text_size);
    if (tokenizer_parse(&tokenizer, json, json_size, "input") == OK)
        use_tokenizer(tokenizer, text, text_size);
    free(json);
    free(text);
}

void fuzz_seeds(void) {
    static const char *const names[] = {"cad.json", "gpt2.json", "added.json", "split.json", NULL};
    static const char *const fast[] = {"tokenizer.json", NULL};
    for (int i = 0; names[i]; i++) seed_tokenizer("", (const char *const[]){names[i], NULL});
    seed_tokenizer("openecad/llama_fast", fast);
    seed_tokenizer("openecad/gemma_fast", fast);
}
