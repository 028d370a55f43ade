/* The tokenizers of the OpenECAD models: ids equal those of transformers 4.39.3, text comes back,
 * special tokens cannot be forged. Hostile files are in test_tokenizer_hostile.c. */
#include <pthread.h>

#include "core/clock.h"
#include "core/rng.h"
#include "tests/data/tokenizer_fixture.h"
#include "tests/data/tokenizer_texts.h"

/* ---- fixtures ---- */

static Tokenizer *open_legacy(void) {
    const char *folder = copied("llama");
    set_member(folder, "tokenizer_config.json", "legacy", "true");
    return open_at(folder);
}

/* That of llama with the settings of llama_added. */
static Tokenizer *open_added(void) {
    const char *folder = copied("llama");
    char from[PATH_SIZE], to[PATH_SIZE];
    ASSERT_OK(path_join(from, golden("llama_added"), "tokenizer_config.json"));
    ASSERT_OK(path_join(to, folder, "tokenizer_config.json"));
    ASSERT_OK(file_copy(from, to, 1 << 20));
    return open_at(folder);
}

enum { LLAMA, LLAMA_ADDED, LLAMA_LEGACY, GEMMA, CODEGEN, LLAMA_FAST, GEMMA_FAST, KINDS };
static const char *const kinds[KINDS] = {"llama",   "llama_added", "llama_legacy", "gemma",
                                         "codegen", "llama_fast",  "gemma_fast"};

static void open_all(Tokenizer *tokenizers[KINDS]) {
    for (int k = 0; k < KINDS; k++)
        tokenizers[k] = k == LLAMA_ADDED    ? open_added()
                        : k == LLAMA_LEGACY ? open_legacy()
                                            : open_at(golden(kinds[k]));
}

static void close_all(Tokenizer *tokenizers[KINDS]) {
    for (int k = 0; k < KINDS; k++) tokenizer_close(&tokenizers[k]);
}

/* ---- against the reference ---- */

static uint64_t fnv(const TokenIds *ids) {
    uint64_t value = 0xCBF29CE484222325u;
    for (size_t i = 0; i < ids->count; i++)
        for (int byte = 0; byte < 4; byte++)
            value = (value ^ ((uint32_t)ids->ids[i] >> 8 * byte & 0xFF)) * 0x100000001B3u;
    return value;
}

static void compare_ids(const char *kind, size_t row, const char *text, const TokenIds *ids,
                        const Json *expected) {
    const char *hash = js_text(js_at(expected, 1), NULL);
    int64_t id = -1;
    if (hash) {
        char found[17];
        js_integer(js_at(expected, 0), &id);
        snprintf(found, sizeof found, "%016llx", (unsigned long long)fnv(ids));
        ASSERT((int64_t)ids->count == id && !strcmp(found, hash),
               "%s, text %zu (%.60s…): %zu tokens (%s) where transformers has %lld (%s)", kind, row,
               text, ids->count, found, (long long)id, hash);
        return;
    }
    for (size_t i = 0; i < ids->count || i < js_count(expected); i++) {
        id = -1;
        js_integer(js_at(expected, i), &id);
        ASSERT(i < ids->count && id == ids->ids[i],
               "%s, text %zu (%.60s…): token %zu is %d where transformers has %lld", kind, row,
               text, i, i < ids->count ? ids->ids[i] : -1, (long long)id);
    }
}

TEST(ids_are_those_of_transformers) {
    Json *rows;
    ASSERT_OK(js_read(&rows, golden("rows.json"), (size_t)1 << 31));
    Tokenizer *tokenizers[KINDS];
    open_all(tokenizers);
    size_t tokens[KINDS] = {0}, bytes = 0, texts = 0;
    double seconds[KINDS] = {0};
    TokenIds ids = {0};
    for (size_t r = 0; r < js_count(rows); r++) {
        size_t size;
        const char *text = js_text(js_get(js_at(rows, r), "text"), &size);
        for (int k = 0; k < KINDS; k++) {
            ids.count = 0;
            double start = clock_seconds();
            ASSERT_OK(tokenizer_encode_special(tokenizers[k], text, size, &ids));
            seconds[k] += clock_seconds() - start;
            compare_ids(kinds[k], r, text, &ids, js_get(js_at(rows, r), kinds[k]));
            tokens[k] += ids.count;

            char as_text[32];
            snprintf(as_text, sizeof as_text, "%s_text", kinds[k]);
            const Json *expected = js_get(js_at(rows, r), as_text);
            if (!expected) continue;
            ids.count = 0;
            ASSERT_OK(tokenizer_encode(tokenizers[k], text, size, &ids));
            compare_ids(as_text, r, text, &ids, expected);
            texts++;
        }
        bytes += size;
    }
    ASSERT_INT(js_count(rows), >=, 100);
    ASSERT_INT(texts, >=, 40);
    for (int k = 0; k < KINDS; k++)
        printf("%s: %zu texts, %zu bytes, %zu tokens, %.1f MB/s\n", kinds[k], js_count(rows), bytes,
               tokens[k], (double)bytes / seconds[k] / 1e6);
    token_ids_free(&ids);
    js_free(&rows);
    close_all(tokenizers);
}

TEST(settings_as_published_are_understood) {
    const char *samples = test_samples();
    static const char *const files[] = {"tokenizer_config.json", "special_tokens_map.json"};
    const char *folder = copied("llama");
    char from[PATH_SIZE], to[PATH_SIZE];
    for (int i = 0; i < 2; i++) {
        snprintf(from, sizeof from, "%s/hf_configs/TinyLLaVA-OpenELM-450M-SigLIP-0.89B.%s", samples,
                 files[i]);
        ASSERT_OK(path_join(to, folder, files[i]));
        ASSERT_OK(file_copy(from, to, 1 << 20));
    }
    Tokenizer *tokenizer = open_at(folder);
    ASSERT_INT(tokenizer_bos(tokenizer), ==, 1);
    ASSERT_INT(tokenizer_eos(tokenizer), ==, 2);
    ASSERT_INT(tokenizer_unk(tokenizer), ==, 0);
    ASSERT_INT(tokenizer_pad(tokenizer), ==, 0);
    ASSERT_TRUE(tokenizer_adds_bos(tokenizer));
    tokenizer_close(&tokenizer);
}

/* ---- text comes back ---- */

TEST(any_bytes_come_back) {
    static const char *const pieces[] = {
        "\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "12",     "-7",     " ",
        "  ",   "\xe2\x82", "\xe2\x82\xac", "\xe2\x97",         "add_",   "</s>",   "<eos>",
        "\x80", "Line0_0",  "\n\t",         "<0x0A>",           "\t\t\t", "<table>"};
    Tokenizer *tokenizers[KINDS];
    Rng rng;
    rng_open(&rng, 3, RNG_TEST, 0);
    open_all(tokenizers);
    for (int k = 0; k < KINDS; k++)
        for (int i = 0; i < 400; i++) {
            char text[400];
            size_t size = 0;
            for (int n = rng_range(&rng, 0, 30); n > 0; n--) {
                const char *piece = pieces[rng_below(&rng, sizeof pieces / sizeof pieces[0])];
                size += (size_t)snprintf(text + size, sizeof text - size, "%s", piece);
                if (rng_below(&rng, 8) == 0) text[size++] = (char)rng_range(&rng, 0, 0x95);
            }
            text[size] = 0;
            check_round_trip(tokenizers[k], text, size);
        }
    close_all(tokenizers);
}

TEST(sign_for_a_space_comes_back_as_a_space) {
    Tokenizer *tokenizer = open_at(golden("llama"));
    TokenIds ids = {0};
    Buf back = {0};
    ASSERT_OK(tokenizer_encode(tokenizer,
                               "a\xe2\x96\x81"
                               "b",
                               5, &ids));
    ASSERT_OK(tokenizer_decode(tokenizer, ids.ids, ids.count, &back));
    ASSERT_TEXT(buf_cstr(&back), "a b");
    token_ids_free(&ids);
    buf_free(&back);
    tokenizer_close(&tokenizer);
}

TEST(decoding_leaves_special_tokens_out) {
    Tokenizer *tokenizer = open_at(golden("llama"));
    TokenIds ids = {0};
    Buf back = {0};
    token_ids_push(&ids, tokenizer_bos(tokenizer));
    ASSERT_OK(tokenizer_encode(tokenizer, "Of course\n", 10, &ids));
    token_ids_push(&ids, tokenizer_eos(tokenizer));
    ASSERT_OK(tokenizer_decode(tokenizer, ids.ids, ids.count, &back));
    ASSERT_TEXT(buf_cstr(&back), "Of course\n");
    int32_t wrong = tokenizer_vocab(tokenizer);
    ASSERT_ERR(tokenizer_decode(tokenizer, &wrong, 1, &back), ERR_INPUT, "token id");
    token_ids_free(&ids);
    buf_free(&back);
    tokenizer_close(&tokenizer);
}

TEST(special_tokens_cannot_be_forged) {
    static const char text[] = "a</s>b<s> <unk>c<eos><bos><pad><start_of_turn><|endoftext|> d";
    Tokenizer *tokenizers[KINDS];
    TokenIds ids = {0};
    open_all(tokenizers);
    for (int k = 0; k < KINDS; k++) {
        const Tokenizer *t = tokenizers[k];
        int special[] = {tokenizer_bos(t), tokenizer_eos(t), tokenizer_unk(t), tokenizer_pad(t),
                         k == GEMMA ? tokenizer_id(t, "<start_of_turn>") : -1};
        for (int asked = 0; asked < 2; asked++) {
            ids.count = 0;
            ASSERT_OK(asked ? tokenizer_encode_special(t, text, strlen(text), &ids)
                            : tokenizer_encode(t, text, strlen(text), &ids));
            bool found[5] = {false};
            for (size_t i = 0; i < ids.count; i++)
                for (int s = 0; s < 5; s++) found[s] |= ids.ids[i] == special[s];
            for (int s = 0; s < 5; s++)
                ASSERT(found[s] == (asked && special[s] >= 0), "%s: special token %d", kinds[k],
                       special[s]);
        }
        check_round_trip(t, text, strlen(text));
    }
    token_ids_free(&ids);
    close_all(tokenizers);
}

/* ---- time ---- */

TEST(long_texts_take_no_quadratic_time) {
    enum { SIZE = 1 << 20 };
    char *text = malloc(SIZE);
    Tokenizer *tokenizers[KINDS];
    open_all(tokenizers);
    for (int kind = 0; kind < 4; kind++) {
        for (int i = 0; i < SIZE; i++)
            text[i] = kind == 0 ? ' ' : kind == 1 ? "add_line"[i % 8] : kind == 2 ? '\n' : '<';
        for (int k = 0; k < KINDS; k++) {
            double start = clock_seconds();
            check_round_trip(tokenizers[k], text, SIZE);
            ASSERT_REAL(clock_seconds() - start, <,
                        test_patience(30)); /* quadratic would be hours */
        }
    }
    free(text);
    close_all(tokenizers);
}

static void *encode_often(void *context) {
    for (int i = 0; i < 300; i++) {
        char text[200];
        snprintf(text, sizeof text, "Line0_0_%d = add_line(start= [%d.5, 0.], end= [0., -%d.])\n\t",
                 i, 3 * i, i);
        check_round_trip(context, text, strlen(text));
    }
    return NULL;
}

TEST(threads_share_a_tokenizer) {
    Tokenizer *tokenizer = open_at(golden("llama"));
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, encode_often, tokenizer);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    tokenizer_close(&tokenizer);
}

/* ---- files ---- */

static void same_ids(const Tokenizer *a, const Tokenizer *b) {
    static const char text[] =
        "Sketch0 = add_sketch(\n\t\tplane= [ 0.,  1.])</s><s> x <|endoftext|>";
    TokenIds of_a = {0}, of_b = {0};
    ASSERT_OK(tokenizer_encode_special(a, text, strlen(text), &of_a));
    ASSERT_OK(tokenizer_encode_special(b, text, strlen(text), &of_b));
    ASSERT_INT(of_a.count, ==, of_b.count);
    ASSERT_INT(memcmp(of_a.ids, of_b.ids, of_a.count * sizeof *of_a.ids), ==, 0);
    ASSERT_INT(tokenizer_vocab(a), ==, tokenizer_vocab(b));
    ASSERT_INT(tokenizer_bos(a), ==, tokenizer_bos(b));
    ASSERT_INT(tokenizer_eos(a), ==, tokenizer_eos(b));
    ASSERT_INT(tokenizer_pad(a), ==, tokenizer_pad(b));
    ASSERT_INT(tokenizer_unk(a), ==, tokenizer_unk(b));
    token_ids_free(&of_a);
    token_ids_free(&of_b);
}

static void same_tokenizer(const char *a, const char *b) {
    Tokenizer *first = open_at(a), *second = open_at(b);
    same_ids(first, second);
    tokenizer_close(&first);
    tokenizer_close(&second);
}

TEST(folders_and_files_open_alike_and_copies_do_too) {
    static const char *const files[][2] = {{"llama", "tokenizer.model"},
                                           {"codegen", "vocab.json"},
                                           {"codegen", "merges.txt"},
                                           {"llama_fast", "tokenizer.json"}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char file[PATH_SIZE], copy[PATH_SIZE];
        ASSERT_OK(path_join(file, golden(files[i][0]), files[i][1]));
        same_tokenizer(golden(files[i][0]), file);
        snprintf(copy, sizeof copy, "%s", copied(files[i][0]));
        same_tokenizer(golden(files[i][0]), copy);
        ASSERT_OK(file_remove_tree(copy));
        ASSERT_OK(file_make_directories(copy));
        ASSERT_OK(tokenizer_copy(file, copy));
        same_tokenizer(golden(files[i][0]), copy);
    }
}

TEST(older_settings_give_the_same_tokens) {
    const char *folder = copied("codegen");
    set_member(folder, "tokenizer_config.json", "added_tokens_decoder", NULL);
    same_tokenizer(golden("codegen"), folder);
    char path[PATH_SIZE];
    ASSERT_OK(path_join(path, folder, "tokenizer_config.json"));
    ASSERT_OK(file_remove_tree(path));
    same_tokenizer(golden("codegen"), folder);
}

TEST(slow_tokenizer_is_taken_before_the_fast_one) {
    const char *folder = copied("llama");
    write_text(folder, "tokenizer.json", "{\"no\": \"tokenizer\"}");
    same_tokenizer(golden("llama"), folder);
    /* Without settings it is Llama's with legacy on, as the reference takes it. */
    char path[PATH_SIZE];
    ASSERT_OK(path_join(path, folder, "tokenizer_config.json"));
    ASSERT_OK(file_remove_tree(path));
    Tokenizer *bare = open_at(folder), *legacy = open_legacy();
    TokenIds a = {0}, b = {0};
    ASSERT_OK(tokenizer_encode_special(bare, "x</s>y", 6, &a));
    ASSERT_OK(tokenizer_encode_special(legacy, "x</s>y", 6, &b));
    ASSERT_INT(a.count, ==, b.count);
    ASSERT_INT(memcmp(a.ids, b.ids, a.count * sizeof *a.ids), ==, 0);
    token_ids_free(&a);
    token_ids_free(&b);
    tokenizer_close(&bare);
    tokenizer_close(&legacy);
}

TEST(tokens_that_the_vocabulary_lacks_get_new_ids) {
    Tokenizer *plain = open_at(golden("llama")), *added = open_added();
    int vocab = tokenizer_vocab(plain);
    ASSERT_INT(tokenizer_vocab(added), ==, vocab + 9);
    ASSERT_INT(tokenizer_id(added, "<sep>"), ==, vocab);
    ASSERT_INT(tokenizer_pad(added), ==, vocab + 7); /* "<pad>", then "<new>" */
    ASSERT_OK(tokenizer_check_model(plain, vocab, "model"));
    ASSERT_OK(tokenizer_check_model(plain, 51200, "model"));
    ASSERT_ERR(tokenizer_check_model(added, vocab + 8, "models/x"), ERR_CONFIG, "models/x: vocab ");
    ASSERT_CONTAINS(err_message(), "in the tokenizer");
    tokenizer_close(&plain);
    tokenizer_close(&added);
}

/* Metaspace cuts in front of every space, and nothing is joined across a cut; with split off it is
 * one text. */
TEST(words_are_joined_across_a_space_only_where_the_file_says_so) {
    static const char text[] = "a   b";
    for (int split = 0; split < 2; split++) {
        const char *folder = copied("llama_fast");
        char steps[200];
        snprintf(steps, sizeof steps,
                 "{\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\", "
                 "\"prepend_scheme\": \"never\", \"split\": %s}",
                 split ? "true" : "false");
        set_member(folder, "tokenizer.json", "normalizer", "null");
        set_member(folder, "tokenizer.json", "pre_tokenizer", steps);
        Tokenizer *tokenizer = open_at(folder);
        TokenIds ids = {0};
        ASSERT_OK(tokenizer_encode(tokenizer, text, strlen(text), &ids));
        int one = 0, several = 0, space = tokenizer_id(tokenizer, " ");
        ASSERT_INT(space, >=, 0);
        for (size_t i = 0; i < ids.count; i++) {
            one += ids.ids[i] == space;
            several += ids.ids[i] == tokenizer_id(tokenizer, "  ") ||
                       ids.ids[i] == tokenizer_id(tokenizer, "   ");
        }
        ASSERT_INT(several, ==, split ? 0 : 1);
        if (split) ASSERT_INT(one, >=, 2); /* the third may belong to the b */
        token_ids_free(&ids);
        tokenizer_close(&tokenizer);
    }
}
