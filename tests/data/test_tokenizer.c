/* Tokenizers: ids equal those of Hugging Face's library, bytes survive, training is deterministic,
 * malformed files give a sentence. */
#include <pthread.h>

#include "core/clock.h"
#include "core/file.h"
#include "core/json.h"
#include "core/rng.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/pieces.h"
#include "data/tokenizer/tokenizer.h"
#include "tests/data/tokenizer_texts.h"
#include "tests/support/test.h"

static Tokenizer *open_golden(const char *name) {
    char path[PATH_SIZE];
    Tokenizer *tokenizer;
    golden_path(path, name);
    ASSERT_OK(tokenizer_open(&tokenizer, path));
    return tokenizer;
}

static const char *const golden[] = {"cad.json", "gpt2.json", "split.json", "added.json"};
enum { GOLDEN = sizeof golden / sizeof golden[0] };

/* ---- against the reference library ---- */

TEST(ids_are_those_of_the_reference_library) {
    char path[PATH_SIZE];
    Json *rows;
    golden_path(path, "ids.json");
    const char *large = getenv("CADVLM_TOKENIZER_GOLDEN"); /* tools/tokenizer_golden.py large */
    ASSERT_OK(js_read(&rows, large ? large : path, (size_t)1 << 30));
    Tokenizer *tokenizers[GOLDEN];
    for (int t = 0; t < GOLDEN; t++) tokenizers[t] = open_golden(golden[t]);
    size_t compared[GOLDEN] = {0}, tokens = 0;
    TokenIds ids = {0};
    for (size_t r = 0; r < js_count(rows); r++) {
        const Json *row = js_at(rows, r), *expected = js_get(row, "ids");
        size_t size;
        const char *text = js_text(js_get(row, "text"), &size);
        int t = 0;
        while (t < GOLDEN && strcmp(golden[t], js_text(js_get(row, "tokenizer"), NULL)) != 0) t++;
        ASSERT_INT(t, <, GOLDEN);
        ids.count = 0;
        ASSERT_OK(tokenizer_encode(tokenizers[t], text, size, &ids));
        for (size_t i = 0; i < ids.count || i < js_count(expected); i++) {
            int64_t id = -1;
            js_integer(js_at(expected, i), &id);
            ASSERT(i < ids.count && id == ids.ids[i],
                   "%s, text %zu (%.60s…): token %zu is %d where the library has %lld", golden[t],
                   r, text, i, i < ids.count ? ids.ids[i] : -1, (long long)id);
        }
        check_round_trip(tokenizers[t], text, size);
        compared[t]++;
        tokens += ids.count;
    }
    for (int t = 0; t < GOLDEN; t++) ASSERT_INT(compared[t], >=, 10);
    printf("%zu texts, %zu tokens\n", js_count(rows), tokens);
    token_ids_free(&ids);
    for (int t = 0; t < GOLDEN; t++) tokenizer_close(&tokenizers[t]);
    js_free(&rows);
}

/* ---- encoding ---- */

TEST(any_bytes_come_back) {
    Rng rng;
    rng_open(&rng, 3, RNG_TEST, 0);
    static const char *const pieces[] = {
        "\xff",         "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
        "12",           "-7",       ".5",           "\xe2\x82",
        "\xe2\x82\xac", " ",        "add_line",     "\x80",
        "Line0_0",      "\n\t"};
    for (int t = 0; t < GOLDEN; t++) {
        Tokenizer *tokenizer = open_golden(golden[t]);
        for (int i = 0; i < 300; i++) {
            char text[400];
            size_t size = 0;
            for (int k = rng_range(&rng, 0, 30); k > 0; k--) {
                const char *piece = pieces[rng_below(&rng, sizeof pieces / sizeof pieces[0])];
                size += (size_t)snprintf(text + size, sizeof text - size, "%s", piece);
                if (rng_below(&rng, 4) == 0) text[size++] = (char)rng_range(&rng, 0, 255);
            }
            check_round_trip(tokenizer, text, size);
        }
        tokenizer_close(&tokenizer);
    }
}

TEST(bytes_that_are_not_text_do_not_change_the_text_around_them) {
    Tokenizer *tokenizer = open_golden("cad.json");
    TokenIds whole = {0}, parts = {0};
    ASSERT_OK(tokenizer_encode(tokenizer, "= [50.,\xff\xfe 12.]", 14, &whole));
    ASSERT_OK(tokenizer_encode(tokenizer, "= [50.,", 7, &parts));
    token_ids_push(&parts, 3 + 0xff);
    token_ids_push(&parts, 3 + 0xfe);
    ASSERT_OK(tokenizer_encode(tokenizer, " 12.]", 5, &parts));
    ASSERT_INT(whole.count, ==, parts.count);
    ASSERT_INT(memcmp(whole.ids, parts.ids, whole.count * sizeof *whole.ids), ==, 0);
    token_ids_free(&whole);
    token_ids_free(&parts);
    tokenizer_close(&tokenizer);
}

typedef struct Cuts {
    char text[400];
} Cuts;

static Err note_cut(void *context, const char *piece, size_t size) {
    Cuts *cuts = context;
    size_t used = strlen(cuts->text);
    snprintf(cuts->text + used, sizeof cuts->text - used, "%.*s|", (int)size, piece);
    return OK;
}

TEST(numbers_stand_alone_and_names_stay_whole) {
    static const char *const cases[][2] = {
        {"start= [50., -7.]", "start= [|50|., |-7|.]|"},
        {"Line0_0_1 = x12", "Line0_0_1 = x12|"},
        {"[0., 0., 1.]", "[0., 0., |1|.]|"},
        {"12.75,-0.5", "12|.75|,-0|.5|"},
        {"1024 007 100", "1024| |007| |100|"},
        {"np.pi/2", "np.pi/|2|"},
        {"1-2 -3 - 4", "1|-|2| |-3| - |4|"},
        {"3mm 4_5 .25 a.5", "3mm 4_5 |.25| a|.5|"},
        {"1.e-05", "1|.e-|05|"},
    };
    Splitter *splitter;
    ASSERT_OK(splitter_regex(&splitter, pieces_cad_pattern, strlen(pieces_cad_pattern), "cad"));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Cuts cuts = {""};
        ASSERT_OK(pieces_each(&splitter, 1, cases[i][0], strlen(cases[i][0]), note_cut, &cuts));
        ASSERT_TEXT(cuts.text, cases[i][1]);
    }
    splitter_free(&splitter);

    Tokenizer *tokenizer = open_golden("cad.json");
    TokenIds ids = {0};
    int number = tokenizer_id(tokenizer, "50");
    ASSERT_INT(number, >=, 3 + 256);
    ASSERT_OK(tokenizer_encode(tokenizer, "50", 2, &ids));
    ASSERT_INT(ids.count, ==, 1);
    ASSERT_INT(ids.ids[0], ==, number);
    token_ids_free(&ids);
    tokenizer_close(&tokenizer);
}

TEST(special_tokens_cannot_be_forged) {
    for (int t = 0; t < GOLDEN; t++) {
        Tokenizer *tokenizer = open_golden(golden[t]);
        TokenIds ids = {0};
        Buf text = {0};
        ASSERT_INT(tokenizer_pad(tokenizer), ==, 0);
        ASSERT_INT(tokenizer_bos(tokenizer), ==, 1);
        ASSERT_INT(tokenizer_eos(tokenizer), ==, 2);
        ASSERT_INT(tokenizer_id(tokenizer, "<eos>"), ==, 2);
        ASSERT_INT(tokenizer_id(tokenizer, "no such token"), ==, -1);
        ASSERT_OK(tokenizer_encode(tokenizer, "a<eos><bos>", 11, &ids));
        for (size_t i = 0; i < ids.count; i++) ASSERT_INT(ids.ids[i], >, 2);
        token_ids_push(&ids, 2);
        ASSERT_OK(tokenizer_decode(tokenizer, ids.ids, ids.count, &text));
        ASSERT_TEXT(buf_cstr(&text), "a<eos><bos>");
        int32_t wrong[] = {tokenizer_vocab(tokenizer)};
        ASSERT_ERR(tokenizer_decode(tokenizer, wrong, 1, &text), ERR_INPUT, "token id");
        wrong[0] = -1;
        ASSERT_ERR(tokenizer_decode(tokenizer, wrong, 1, &text), ERR_INPUT, "token id -1");
        buf_free(&text);
        token_ids_free(&ids);
        tokenizer_close(&tokenizer);
    }
}

/* Of "abcd", bc is joined first; then a and b are no neighbours any more, and their rank means
 * nothing for a and bc: bcd goes before abc. */
TEST(a_pair_that_has_changed_has_another_rank) {
    enum { A = 10, B, C, D, AB, BC, BCD, ABC };
    static const Merge table[] = {{B, C, BC, 0}, {A, B, AB, 1}, {BC, D, BCD, 2}, {A, BC, ABC, 3}};
    Merges merges = {0};
    BpeScratch scratch = {0};
    TokenIds out = {0};
    int32_t byte_ids[256] = {['a'] = A, ['b'] = B, ['c'] = C, ['d'] = D};
    for (int i = 0; i < 4; i++) merges_put(&merges, table[i]);
    bpe_encode(&merges, byte_ids, "abcd", 4, &scratch, &out);
    ASSERT_INT(out.count, ==, 2);
    ASSERT_INT(out.ids[0], ==, A);
    ASSERT_INT(out.ids[1], ==, BCD);
    out.count = 0;
    bpe_encode(&merges, byte_ids, "abc", 3, &scratch, &out);
    ASSERT_INT(out.count, ==, 1);
    ASSERT_INT(out.ids[0], ==, ABC);
    token_ids_free(&out);
    free(scratch.memory);
    merges_free(&merges);
}

TEST(long_pieces_take_no_quadratic_time) {
    enum { SIZE = 2 << 20 };
    Tokenizer *tokenizer = open_golden("cad.json");
    char *text = malloc(SIZE);
    for (int kind = 0; kind < 3; kind++) {
        for (int i = 0; i < SIZE; i++)
            text[i] = kind == 0 ? ' ' : kind == 1 ? "add_line"[i % 8] : (char)(0x80 | i);
        double start = clock_seconds();
        check_round_trip(tokenizer, text, SIZE);
        printf("kind %d: %.2f s\n", kind, clock_seconds() - start);
        ASSERT_REAL(clock_seconds() - start, <, test_patience(30)); /* quadratic would be hours */
    }
    free(text);
    tokenizer_close(&tokenizer);
}

static void *encode_often(void *context) {
    Buf code = {0};
    for (int i = 0; i < TEXTS; i++) {
        make_code(&code, i);
        check_round_trip(context, code.data, code.size);
    }
    buf_free(&code);
    return NULL;
}

TEST(threads_share_a_tokenizer) {
    Tokenizer *tokenizer = open_golden("cad.json");
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, encode_often, tokenizer);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    tokenizer_close(&tokenizer);
}

TEST(real_programs_come_back) {
    const char *samples = test_samples();
    static const char *const files[] = {"openecad_v2/example01.py", "openecad_v1/00000069.py"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[PATH_SIZE];
        Buf code = {0};
        snprintf(path, sizeof path, "%s/%s", samples, files[i]);
        ASSERT_OK(file_read(&code, path, 1 << 20));
        for (int t = 0; t < GOLDEN; t++) {
            Tokenizer *tokenizer = open_golden(golden[t]);
            check_round_trip(tokenizer, code.data, code.size);
            tokenizer_close(&tokenizer);
        }
        buf_free(&code);
    }
}

/* ---- malformed files ---- */

/* cad.json with one member replaced: `where` is a path of keys separated by '/', "+key" adds. */
static Err open_changed(const Json *root, const char *where, const char *value) {
    Json *copy = js_copy(root), *new_value = NULL;
    ASSERT_OK(js_parse(&new_value, value, strlen(value), where));
    const Json *at = copy;
    char key[64];
    for (const char *slash; (slash = strchr(where, '/')); where = slash + 1) {
        snprintf(key, sizeof key, "%.*s", (int)(slash - where), where);
        at = key[0] >= '0' && key[0] <= '9' ? js_at(at, (size_t)atoi(key)) : js_get(at, key);
        ASSERT_TRUE(at);
    }
    js_set((Json *)(uintptr_t)at, where, new_value);
    Buf text = {0};
    js_print(&text, copy, JSON_ONE_LINE, 17);
    js_free(&copy);
    Tokenizer *tokenizer;
    Err err = tokenizer_parse(&tokenizer, buf_cstr(&text), text.size, "t.json");
    tokenizer_close(&tokenizer);
    buf_free(&text);
    return err;
}

TEST(malformed_files_give_a_sentence) {
    static const char *const cases[][3] = {
        {"model", "null", "\"model\" is null where an object is expected"},
        {"model/type", "\"WordPiece\"", "the model WordPiece is not understood"},
        {"model/vocab", "{}", "t.json"},
        {"model/vocab", "[]", "an object is expected"},
        {"model/vocab/<bos>", "7", "the added token \"<bos>\" has the id 1, but 7"},
        {"model/vocab/new", "100000000", "a token has the id 100000000; 501 tokens must have"},
        {"model/vocab/new", "-1", "a token has the id -1"},
        {"model/vocab/new", "9223372036854775807", "a token has the id 9223372036854775807"},
        {"model/vocab/new", "5", "the id 5 is given twice"},
        {"model/vocab/new", "5.5", "is not a whole number"},
        {"model/vocab/a", "500", "a token has the id 500"},
        {"model/vocab/no space", "500", "stands for no byte"},
        {"model/vocab/", "500", "token 500 is empty"},
        {"model/merges", "[\"a nosuchtoken\"]", "merge 0 names the token \"nosuchtoken\""},
        {"model/merges", "[\"a q\"]", "names the token \"aq\""},
        {"model/merges", "[\"a\"]", "merge 0 is not two tokens"},
        {"model/merges", "[\"a b c\"]", "stands for no byte"},
        {"model/merges", "[[\"a\"]]", "merge 0 is not two tokens"},
        {"model/merges", "[3]", "merge 0 is not two tokens"},
        {"model/merges", "[\" a\"]", "merge 0 is not two tokens"},
        {"model/merges", "{}", "an array is expected"},
        {"model/dropout", "0.1", "dropout of the model BPE is not understood"},
        {"model/byte_fallback", "true", "the decoder ByteLevel is not understood beside"},
        {"model/end_of_word_suffix", "\"</w>\"", "end_of_word_suffix"},
        {"model/surprise", "1", "\"surprise\" in the model BPE is not understood"},
        {"surprise", "1", "\"surprise\" in the file is not understood"},
        {"normalizer", "{\"type\": \"NFC\"}", "the normalizer NFC is not understood"},
        {"decoder", "null", "the decoder null is not understood"},
        {"decoder", "{\"type\": \"Metaspace\"}", "the decoder Metaspace"},
        {"pre_tokenizer", "null", "\"pre_tokenizer\" is null"},
        {"pre_tokenizer", "{\"type\": \"Whitespace\"}", "the pre-tokenizer Whitespace"},
        {"pre_tokenizer", "{\"type\": \"ByteLevel\"}", "add_prefix_space"},
        {"pre_tokenizer/pretokenizers", "[]", "ByteLevel must be the last"},
        {"pre_tokenizer/pretokenizers/0/behavior", "\"Removed\"", "the behavior Removed"},
        {"pre_tokenizer/pretokenizers/0/pattern", "{}", "neither Regex nor String"},
        {"pre_tokenizer/pretokenizers/0/pattern", "{\"Regex\": \"(\"}", "is not understood at"},
        {"pre_tokenizer/pretokenizers/0/pattern", "{\"Regex\": \"\\\\C\"}", "\\C is disabled"},
        {"pre_tokenizer/pretokenizers/0/pattern", "{\"String\": \"\"}", "a text of 0 bytes"},
        {"pre_tokenizer/pretokenizers/1/type", "\"Split\"", "ByteLevel must be the last"},
        {"added_tokens/0/id", "3", "has the id 3, but 0"},
        {"added_tokens/0/content", "\"\"", "is empty"},
        {"added_tokens/0/content", "\"<x>\"", "the id 0 is given twice"},
        {"added_tokens/0/content", "\"<pad>\\u0000\"", "holds a zero byte"},
        {"added_tokens", "[1]", "\"content\" is missing"},
    };
    char path[PATH_SIZE];
    Json *root;
    golden_path(path, "cad.json");
    ASSERT_OK(js_read(&root, path, 1 << 20));
    ASSERT_INT(js_count(js_get(js_get(root, "model"), "vocab")), ==, 500);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Err err = open_changed(root, cases[i][0], cases[i][1]);
        ASSERT(err == ERR_INPUT, "%s = %s gave %d", cases[i][0], cases[i][1], err);
        ASSERT_CONTAINS(err_message(), cases[i][2]);
    }
    js_free(&root);
    Tokenizer *tokenizer;
    ASSERT_ERR(tokenizer_open(&tokenizer, test_path("none.json")), ERR_INPUT, "none.json");
    ASSERT_ERR(tokenizer_parse(&tokenizer, "[]", 2, "t.json"), ERR_INPUT, "no JSON object");
    ASSERT_ERR(tokenizer_parse(&tokenizer, "{}", 2, "t.json"), ERR_INPUT, "decoder");
    ASSERT_ERR(tokenizer_parse(&tokenizer, "{\"a", 3, "t.json"), ERR_INPUT, "not valid JSON");
}

/* A number with a zero in front is rare as a number and may be frequent as a name. */
static Err next_numbers(void *context, const char **text, size_t *size) {
    int *left = context;
    static const char numbers[] = "007 007 007 007 12 12 x";
    *text = *left ? numbers : NULL;
    *size = strlen(numbers);
    *left -= *left > 0;
    return OK;
}

TEST(numbers_with_a_zero_in_front_are_no_number_tokens) {
    int left = 5;
    TokenizerTraining training = {3 + 256 + 1, 1, next_numbers, &left}; /* room for one, no merge */
    ASSERT_OK(tokenizer_train(&training, test_path("t.json")));
    Tokenizer *tokenizer;
    ASSERT_OK(tokenizer_open(&tokenizer, test_path("t.json")));
    ASSERT_INT(tokenizer_id(tokenizer, "12"), ==, 3 + 256);
    ASSERT_INT(tokenizer_id(tokenizer, "007"), ==, -1);
    tokenizer_close(&tokenizer);
}

/* Byte pairs as they are defined: of all neighbours that have a merge, the one of the least rank is
 * joined, the leftmost of equals, until there is none. */
static void join_plainly(const Merges *merges, TokenIds *ids) {
    for (;;) {
        size_t best = SIZE_MAX;
        uint32_t rank = UINT32_MAX;
        for (size_t i = 0; i + 1 < ids->count; i++) {
            const Merge *merge = merges_find(merges, ids->ids[i], ids->ids[i + 1]);
            if (!merge || merge->rank >= rank) continue;
            rank = merge->rank;
            best = i;
        }
        if (best == SIZE_MAX) return;
        ids->ids[best] = merges_find(merges, ids->ids[best], ids->ids[best + 1])->result;
        memmove(ids->ids + best + 1, ids->ids + best + 2,
                (ids->count - best - 2) * sizeof *ids->ids);
        ids->count--;
    }
}

/* Merges of any ranks, so that a result may be joined before what it is made of elsewhere. */
static void draw_merges(Merges *merges, Rng *rng) {
    enum { LETTERS = 3, RESULTS = 24 };
    uint32_t ranks[RESULTS];
    for (uint32_t i = 0; i < RESULTS; i++) {
        uint32_t j = rng_below(rng, i + 1);
        ranks[i] = ranks[j];
        ranks[j] = i;
    }
    for (int i = 0; i < RESULTS; i++) {
        uint32_t known = (uint32_t)(LETTERS + i);
        merges_put(merges, (Merge){(int32_t)rng_below(rng, known), (int32_t)rng_below(rng, known),
                                   LETTERS + i, ranks[i]});
    }
}

TEST(pairs_are_joined_in_the_order_of_their_ranks) {
    Rng rng;
    rng_open(&rng, 21, RNG_TEST, 0);
    int32_t byte_ids[256] = {0};
    for (int letter = 0; letter < 3; letter++) byte_ids['a' + letter] = letter;
    BpeScratch scratch = {0};
    size_t joined = 0;
    for (int table = 0; table < 200; table++) {
        Merges merges = {0};
        draw_merges(&merges, &rng);
        for (int k = 0; k < 20; k++) {
            char text[40];
            size_t size = (size_t)rng_range(&rng, 1, 40);
            TokenIds found = {0}, expected = {0};
            for (size_t i = 0; i < size; i++) text[i] = (char)('a' + rng_range(&rng, 0, 2));
            for (size_t i = 0; i < size; i++) token_ids_push(&expected, text[i] - 'a');
            join_plainly(&merges, &expected);
            bpe_encode(&merges, byte_ids, text, size, &scratch, &found);
            ASSERT_INT(found.count, ==, expected.count);
            ASSERT_INT(memcmp(found.ids, expected.ids, found.count * sizeof *found.ids), ==, 0);
            joined += size - found.count;
            token_ids_free(&found);
            token_ids_free(&expected);
        }
        merges_free(&merges);
    }
    printf("%zu joins\n", joined);
    ASSERT_INT(joined, >, 10000);
    free(scratch.memory);
}

/* Cuts a text of `size` times the letter a. */
static Err cut_letters(const char *pattern, size_t size) {
    Splitter *splitter;
    Cuts cuts = {""};
    char *text = malloc(size);
    ASSERT_TRUE(text);
    memset(text, 'a', size);
    ASSERT_OK(splitter_regex(&splitter, pattern, strlen(pattern), "t.json"));
    Err err = pieces_each(&splitter, 1, text, size, note_cut, &cuts);
    splitter_free(&splitter);
    free(text);
    return err;
}

TEST(pattern_that_takes_too_long_or_too_much_is_a_sentence) {
    ASSERT_ERR(cut_letters("(a+)+(a+)+[bc]", 5000), ERR_INPUT,
               "t.json: the pattern cannot be matched at byte 0");
    ASSERT_ERR(cut_letters("(?:(a)|b)*[cd]", 4 << 20), ERR_INPUT,
               "cannot be matched at byte 0 of a text (code -63)"); /* PCRE2_ERROR_HEAPLIMIT */
}

/* A single byte of a character is no text: what it leaves behind could not be cut any further. */
TEST(pattern_for_single_bytes_is_refused) {
    static const char *const patterns[] = {"\\C", "a\\C+", "(?<=\\C)b", "[ab]|(?:x|\\C)"};
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        Splitter *splitter;
        ASSERT_ERR(splitter_regex(&splitter, patterns[i], strlen(patterns[i]), "t.json"), ERR_INPUT,
                   "\\C is disabled");
        ASSERT_TRUE(!splitter);
    }
}

/* \K moves the start of a match behind its search: the pieces are the whole text all the same. */
TEST(pattern_that_moves_its_start_loses_nothing) {
    static const char pattern[] = "\xc3\xa9\\Kx", text[] = "a\xc3\xa9xb";
    Splitter *splitter;
    Cuts cuts = {""};
    ASSERT_OK(splitter_regex(&splitter, pattern, strlen(pattern), "t.json"));
    ASSERT_OK(pieces_each(&splitter, 1, text, strlen(text), note_cut, &cuts));
    ASSERT_TEXT(cuts.text, "a\xc3\xa9|x|b|");
    splitter_free(&splitter);
}
