/* Files of tokenizers that cannot be: each gives a sentence, none a crash. */
#include "core/rng.h"
#include "tests/data/tokenizer_fixture.h"

/* ---- settings and vocabularies ---- */

/* The sentence for the golden folder `name` with one file changed. */
static Err open_with(const char *name, const char *file, const char *key, const char *value) {
    Tokenizer *tokenizer;
    const char *folder = copied(name);
    if (key)
        set_member(folder, file, key, value);
    else
        write_text(folder, file, value);
    Err err = tokenizer_open(&tokenizer, folder);
    ASSERT_TRUE((err == OK) == (tokenizer != NULL));
    tokenizer_close(&tokenizer);
    return err;
}

TEST(impossible_settings_are_named) {
    static const struct {
        const char *folder, *file, *key, *value, *sentence;
    } cases[] = {
        {"llama", "tokenizer_config.json", NULL, "{", "not valid JSON"},
        {"llama", "tokenizer_config.json", NULL, "[]", "no JSON object"},
        {"llama", "tokenizer_config.json", "legacy", "1", "legacy is neither true nor false"},
        {"llama", "tokenizer_config.json", "add_bos_token", "\"x\"", "add_bos_token is neither"},
        {"llama", "tokenizer_config.json", "add_prefix_space", "false", "add_prefix_space off"},
        {"llama", "tokenizer_config.json", "tokenizer_class", "\"T5Tokenizer\"",
         "tokenizer_class \"T5Tokenizer\" of"},
        {"llama", "tokenizer_config.json", "tokenizer_class", "3", "tokenizer_class is no text"},
        {"llama", "tokenizer_config.json", "bos_token", "\"<nowhere>\"",
         "the special token \"<nowhere>\" is neither in the vocabulary"},
        {"llama", "tokenizer_config.json", "eos_token", "7", "eos_token is neither a text nor"},
        {"llama", "tokenizer_config.json", "eos_token", "{\"x\": 1}", "eos_token is neither"},
        {"llama", "tokenizer_config.json", "unk_token", "\"\"", "is empty"},
        {"llama", "tokenizer_config.json", "unk_token", "null", "has no unk_token"},
        {"llama", "tokenizer_config.json", "additional_special_tokens", "{}", "is no list"},
        {"llama", "tokenizer_config.json", "additional_special_tokens", "[1]", "neither a text"},
        {"llama", "tokenizer_config.json", "added_tokens_decoder", "[]", "is no object"},
        {"llama", "tokenizer_config.json", "added_tokens_decoder", "{\"x\": \"<s>\"}", "is no id"},
        {"llama", "tokenizer_config.json", "added_tokens_decoder", "{\"-1\": \"<s>\"}", "is no id"},
        {"llama", "tokenizer_config.json", "added_tokens_decoder",
         "{\"99999999999999999999\": \"<s>\"}", "is no id"},
        {"llama", "tokenizer_config.json", "added_tokens_decoder", "{\"4000000\": \"<x>\"}",
         "no token has the id"},
        {"llama", "tokenizer_config.json", "added_tokens_decoder", "{\"470\": \"<x>\"}",
         "has the id 470, which is the piece"},
        {"llama", "tokenizer_config.json", "added_tokens_decoder",
         "{\"480\": \"<x>\", \"481\": \"<x>\"}", "has the ids 480 and 481"},
        {"llama", "tokenizer_config.json", "added_tokens_decoder",
         "{\"0\": {\"content\": \"<unk>\", \"single_word\": true}}", "single_word"},
        {"codegen", "tokenizer_config.json", "add_prefix_space", "true", "add_prefix_space is not"},
        {"codegen", "tokenizer_config.json", "tokenizer_class", "\"Qwen2Tokenizer\"",
         "tokenizer_class \"Qwen2Tokenizer\" of"},
        {"codegen", "added_tokens.json", NULL, "{\"  \": \"x\"}", NULL},
        {"codegen", "vocab.json", NULL, "{}", "token"},
        {"codegen", "vocab.json", NULL, "3", "no JSON object"},
        {"codegen", "vocab.json", "!", "1", "the id 1 is given twice"},
        {"codegen", "vocab.json", "!", NULL, "no token has the id 0"},
        {"codegen", "vocab.json", "!", "\"x\"", "has the id -1"},
        {"codegen", "vocab.json", "!", "9999999", "has the id 9999999"},
        {"codegen", "vocab.json", "\xd1\x8f", "497", "stands for no byte"},
        {"codegen", "merges.txt", NULL, "#version\nin add\n", "merge 0 names the token"},
        {"codegen", "merges.txt", NULL, "#version\ni n\nxyz\n", "line 3 is not two tokens"},
        {"codegen", "merges.txt", NULL, "#version\n x\n", "line 2 is not two tokens"},
        {"codegen", "merges.txt", NULL, "#version\n\xd1\x8f n\n", "stands for no byte"},
        {"llama_fast", "tokenizer.json", "decoder", "{\"type\": \"WordPiece\"}",
         "the decoder WordPiece is not understood"},
        {"llama_fast", "tokenizer.json", "normalizer", "null", "neither a normalizer Replace"},
        {"llama_fast", "tokenizer.json", "normalizer", "{\"type\": \"NFKC\"}",
         "the normalizer NFKC"},
        {"llama_fast", "tokenizer.json", "pre_tokenizer", "{\"type\": \"Whitespace\"}",
         "the pre-tokenizer Whitespace"},
        {"llama_fast", "tokenizer.json", "pre_tokenizer",
         "{\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\"}", "together"},
        {"llama_fast", "tokenizer_config.json", NULL, "{\"bos_token\": \"<nowhere>\"}",
         "bos_token is \"<nowhere>\", which is no special token"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Err err = open_with(cases[i].folder, cases[i].file, cases[i].key, cases[i].value);
        if (!cases[i].sentence) { /* added_tokens_decoder goes before */
            ASSERT_INT(err, ==, OK);
            continue;
        }
        ASSERT(err == ERR_INPUT, "%s, %s = %s gave %d", cases[i].folder,
               cases[i].key ? cases[i].key : cases[i].file, cases[i].value, err);
        ASSERT_CONTAINS(err_message(), cases[i].sentence);
    }
    Tokenizer *tokenizer;
    ASSERT_ERR(tokenizer_open(&tokenizer, test_folder()), ERR_INPUT, "has no tokenizer");
    ASSERT_ERR(tokenizer_open(&tokenizer, test_path("none.model")), ERR_INPUT, "none.model");
}

/* ---- models ---- */

/* A protobuf message in the making. */
static void put_varint(Buf *out, uint64_t value) {
    do {
        char byte = (char)((value & 0x7F) | (value > 0x7F ? 0x80 : 0));
        buf_append(out, &byte, 1);
        value >>= 7;
    } while (value);
}

static void put_field(Buf *out, int number, const void *bytes, size_t size) {
    put_varint(out, (uint64_t)number << 3 | 2);
    put_varint(out, size);
    buf_append(out, bytes, size);
}

static void put_number(Buf *out, int number, uint64_t value) {
    put_varint(out, (uint64_t)number << 3);
    put_varint(out, value);
}

static void put_piece(Buf *out, const char *text, size_t size, float score, int type) {
    Buf piece = {0};
    put_field(&piece, 1, text, size);
    put_varint(&piece, 2 << 3 | 5);
    buf_append(&piece, &score, sizeof score);
    put_number(&piece, 3, (uint64_t)type);
    put_field(out, 1, piece.data, piece.size);
    buf_free(&piece);
}

/* How a small model is made, so that each part can be wrong. */
typedef struct Made {
    uint64_t algorithm, byte_fallback, remove_spaces;
    int bytes, unknowns;
    const char *charsmap, *piece;
    float score;
    int type;
} Made;

static const Made good_model = {2, 1, 0, 256, 1, "", "ab", -1, 1};

static void make_model(Buf *out, const Made *made) {
    Buf trainer = {0}, normalizer = {0};
    buf_clear(out);
    for (int i = 0; i < made->unknowns; i++)
        put_piece(out, i ? "<unk2>" : "<unk>", 5 + (i > 0), 0, 2);
    put_piece(out, "<s>", 3, 0, 3);
    put_piece(out, "</s>", 4, 0, 3);
    for (int byte = 0; byte < made->bytes; byte++) {
        char text[16];
        snprintf(text, sizeof text, "<0x%02X>", byte);
        put_piece(out, text, 6, 0, 6);
    }
    put_piece(out, "\xe2\x96\x81", 3, -5, 1);
    put_piece(out, "a", 1, -6, 1);
    put_piece(out, made->piece, strlen(made->piece), made->score, made->type);
    put_number(&trainer, 3, made->algorithm);
    put_number(&trainer, 35, made->byte_fallback);
    put_field(&normalizer, 2, made->charsmap, strlen(made->charsmap));
    put_number(&normalizer, 4, made->remove_spaces);
    put_field(out, 2, trainer.data, trainer.size);
    put_field(out, 3, normalizer.data, normalizer.size);
    buf_free(&trainer);
    buf_free(&normalizer);
}

static Err open_model(const void *bytes, size_t size) {
    Tokenizer *tokenizer;
    ASSERT_OK(file_write(test_path("made.model"), bytes, size));
    Err err = tokenizer_open(&tokenizer, test_path("made.model"));
    TokenIds ids = {0};
    static const char text[] = "ab  <s>\xe6\x97\xa5\n";
    if (err == OK) IGNORE(tokenizer_encode(tokenizer, text, strlen(text), &ids));
    token_ids_free(&ids);
    tokenizer_close(&tokenizer);
    return err;
}

TEST(impossible_models_are_named) {
    Made made[16];
    for (int i = 0; i < 16; i++) made[i] = good_model;
    static const char *const sentences[16] = {NULL,
                                              "the algorithm UNIGRAM is not understood",
                                              "its normalization changes",
                                              "remove_extra_whitespaces is on",
                                              "byte_fallback is off",
                                              "the byte 0xff has no piece",
                                              "0 pieces of the type UNKNOWN",
                                              "2 pieces of the type UNKNOWN",
                                              "the score of piece 261 is no",
                                              "is of the type UNUSED",
                                              "has the type 9",
                                              "are the same (a)",
                                              "is not UTF-8",
                                              "has 0 bytes",
                                              "is not one of <0x00> to <0xFF>",
                                              "the algorithm ? is not"};
    made[1].algorithm = 1;
    made[2].charsmap = "xxxx";
    made[3].remove_spaces = 1;
    made[4].byte_fallback = 0;
    made[5].bytes = 255;
    made[6].unknowns = 0;
    made[7].unknowns = 2;
    made[8].score = NAN;
    made[9].type = 5;
    made[10].type = 9;
    made[11].piece = "a";
    made[12].piece = "a\xff";
    made[13].piece = "";
    made[14].type = 6;
    made[15].algorithm = UINT64_MAX;
    Buf model = {0};
    for (int i = 0; i < 16; i++) {
        make_model(&model, &made[i]);
        Err err = open_model(model.data, model.size);
        ASSERT(err == (sentences[i] ? ERR_INPUT : OK), "model %d: %d %s", i, err, err_message());
        if (sentences[i]) ASSERT_CONTAINS(err_message(), sentences[i]);
    }

    /* Lengths beyond the file, numbers without end, fields of no kind. */
    static const struct {
        const char *bytes;
        size_t size;
        const char *sentence;
    } raw[] = {{"", 0, "it has no pieces"},
               {"\x0a", 1, "a number that does not end"},
               {"\x0a\x05hi", 4, "a field of 5 bytes where 2 are left"},
               {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "where 0 are left"},
               {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11, "does not end"},
               {"\x0b", 1, "wire type 3"},
               {"\x08\x01", 2, "a part of the model has the wire type 0"},
               {"\x02\x01x", 3, "a field with the number 0"},
               {"{\"model\": 1}", 12, "not a SentencePiece model"}};
    for (size_t i = 0; i < sizeof raw / sizeof raw[0]; i++) {
        ASSERT_INT(open_model(raw[i].bytes, raw[i].size), ==, ERR_INPUT);
        ASSERT_CONTAINS(err_message(), raw[i].sentence);
    }
    buf_free(&model);
}

TEST(damaged_models_never_crash) {
    Buf model = {0};
    char path[PATH_SIZE];
    Rng rng;
    rng_open(&rng, 11, RNG_TEST, 0);
    ASSERT_OK(path_join(path, golden("gemma"), "tokenizer.model"));
    ASSERT_OK(file_read(&model, path, 1 << 20));
    int opened = 0, refused = 0;
    for (int i = 0; i < 1200; i++) {
        Buf damaged = {0};
        buf_append(&damaged, model.data, model.size);
        if (i % 3 == 0)
            damaged.size = rng_below(&rng, (uint32_t)model.size);
        else
            for (int k = rng_range(&rng, 1, 6); k > 0; k--)
                damaged.data[rng_below(&rng, (uint32_t)model.size)] = (char)rng_range(&rng, 0, 255);
        Err err = open_model(damaged.data, damaged.size);
        ASSERT_TRUE(err == OK || err == ERR_INPUT);
        opened += err == OK;
        refused += err != OK;
        buf_free(&damaged);
    }
    printf("%d opened, %d refused\n", opened, refused);
    ASSERT_INT(refused, >, 300);
    ASSERT_INT(opened, >, 30);
    buf_free(&model);
}
