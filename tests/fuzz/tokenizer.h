/* What is done with a tokenizer whose files were read: texts to ids and back. */
#ifndef CADVLM_TESTS_FUZZ_TOKENIZER_H
#define CADVLM_TESTS_FUZZ_TOKENIZER_H

#include "data/tokenizer/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static inline void check_ids(const Tokenizer *tokenizer, const TokenIds *ids) {
    Buf text = {0};
    for (size_t i = 0; i < ids->count; i++)
        ASSERT_TRUE(ids->ids[i] >= 0 && ids->ids[i] < tokenizer_vocab(tokenizer));
    ASSERT_OK(tokenizer_decode(tokenizer, ids->ids, ids->count, &text));
    buf_free(&text);
}

/* Closes it. */
static inline void use_tokenizer(Tokenizer *tokenizer, const char *text, size_t size) {
    TokenIds ids = {0}, special = {0};
    if (tokenizer_encode(tokenizer, text, size, &ids) == OK) check_ids(tokenizer, &ids);
    if (tokenizer_encode_special(tokenizer, text, size, &special) == OK)
        check_ids(tokenizer, &special);
    (void)tokenizer_id(tokenizer, "<s>");
    IGNORE(tokenizer_check_model(tokenizer, 1000, "model"));
    token_ids_free(&ids);
    token_ids_free(&special);
    tokenizer_close(&tokenizer);
}

/* An input that is a piece for each of `files`, which make a tokenizer's folder, and a text. */
static inline void fuzz_tokenizer_folder(const uint8_t *data, size_t size,
                                         const char *const *files) {
    FuzzInput input = {data, data + size};
    Tokenizer *tokenizer;
    fuzz_folder(&input, files);
    char *text = fuzz_piece(&input, &size);
    if (tokenizer_open(&tokenizer, test_folder()) == OK) use_tokenizer(tokenizer, text, size);
    free(text);
}

static const char tokenizer_text[] = "SketchPlane0 = add_sketchplane(\n\torigin= [0.,  -12.5], "
                                     "x=1e5)  caf\xc3\xa9 <s> \xf0\x9f\x98\x80</s>";

/* The golden folder `name` of tests/golden/tokenizer, a piece a file and one of text. */
static inline void seed_tokenizer(const char *name, const char *const *files) {
    char folder[256];
    Buf seed = {0};
    snprintf(folder, sizeof folder, "%s/tests/golden/tokenizer/%s", test_source_folder(), name);
    fuzz_folder_append(&seed, folder, files);
    fuzz_piece_append(&seed, tokenizer_text, strlen(tokenizer_text));
    fuzz_seed(seed.data, seed.size);
    buf_free(&seed);
}

#endif
