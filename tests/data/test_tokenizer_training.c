/* Learning a tokenizer: deterministic, and the merges of the plain way. */
#include "core/file.h"
#include "core/json.h"
#include "core/rng.h"
#include "data/tokenizer/tokenizer.h"
#include "tests/data/tokenizer_texts.h"
#include "tests/support/test.h"

/* Yields texts of make_code: `left` of them from `next` on, in steps of `step`. */
typedef struct Corpus {
    int next, step, left;
    Buf text;
} Corpus;

static Err next_text(void *context, const char **text, size_t *size) {
    Corpus *corpus = context;
    *text = NULL;
    if (!corpus->left--) return OK;
    make_code(&corpus->text, corpus->next % TEXTS);
    corpus->next += corpus->step;
    *text = buf_cstr(&corpus->text);
    *size = corpus->text.size;
    return OK;
}

static void train(const char *path, int first, int step, int vocab, int numbers) {
    Corpus corpus = {first, step, TEXTS, {0}};
    TokenizerTraining training = {vocab, numbers, next_text, &corpus};
    ASSERT_OK(tokenizer_train(&training, path));
    buf_free(&corpus.text);
}

TEST(trained_file_is_the_golden_one) {
    char path[PATH_SIZE];
    golden_path(path, "cad.json");
    const char *trained = getenv("CADVLM_WRITE_GOLDEN") ? path : test_path("tokenizer.json");
    train(trained, 0, 1, 500, 100);
    Buf expected = {0}, found = {0};
    ASSERT_OK(file_read(&expected, path, 1 << 20));
    ASSERT_OK(file_read(&found, trained, 1 << 20));
    ASSERT_TEXT(buf_cstr(&found), buf_cstr(&expected));
    buf_free(&expected);
    buf_free(&found);
}

TEST(training_does_not_depend_on_the_order_of_texts) {
    Buf first = {0}, second = {0};
    train(test_path("a.json"), 0, 1, 500, 100);
    train(test_path("b.json"), 7, 11, 500, 100);
    ASSERT_OK(file_read(&first, test_path("a.json"), 1 << 20));
    ASSERT_OK(file_read(&second, test_path("b.json"), 1 << 20));
    ASSERT_TEXT(buf_cstr(&first), buf_cstr(&second));
    buf_free(&first);
    buf_free(&second);
}

/* The plain way: count all pairs anew for every merge. Words are runs of token texts. */
enum { SMALL_SYMBOLS = 64, SMALL_WORDS = 40, SMALL_TOKENS = 256 + 64 };

typedef struct Small {
    int words[SMALL_WORDS][SMALL_SYMBOLS], lengths[SMALL_WORDS];
    char texts[SMALL_TOKENS][SMALL_SYMBOLS];
    int tokens;
} Small;

/* The most frequent pair (ties: smaller ids), or false when none occurs twice. */
static bool small_best(const Small *small, int best[2]) {
    int most = 1;
    for (int a = 0; a < small->tokens; a++)
        for (int b = 0; b < small->tokens; b++) {
            int count = 0;
            for (int w = 0; w < SMALL_WORDS; w++)
                for (int i = 0; i + 1 < small->lengths[w]; i++)
                    count += small->words[w][i] == a && small->words[w][i + 1] == b;
            if (count > most) most = count, best[0] = a, best[1] = b;
        }
    return most > 1;
}

static void small_merge(Small *small, const int pair[2], int result) {
    for (int w = 0; w < SMALL_WORDS; w++) {
        int *word = small->words[w], n = 0;
        for (int i = 0; i < small->lengths[w]; n++) {
            bool here = i + 1 < small->lengths[w] && word[i] == pair[0] && word[i + 1] == pair[1];
            word[n] = here ? result : word[i];
            i += here ? 2 : 1;
        }
        small->lengths[w] = n;
    }
}

static Err next_small(void *context, const char **text, size_t *size) {
    char(**next)[SMALL_SYMBOLS] = context;
    *text = (*next)[0][0] ? **next : NULL;
    if (*text) *size = strlen(*text);
    ++*next;
    return OK;
}

TEST(training_makes_the_merges_of_the_plain_way) {
    static Small small;
    static char texts[SMALL_WORDS + 1][SMALL_SYMBOLS];
    for (int seed = 0; seed < 8; seed++) {
        Rng rng;
        rng_open(&rng, 17, RNG_TEST, (uint64_t)seed);
        for (int i = 0; i < 256; i++) snprintf(small.texts[i], 2, "%c", i);
        small.tokens = 256;
        for (int w = 0; w < SMALL_WORDS; w++) {
            small.lengths[w] = rng_range(&rng, 1, 20);
            for (int i = 0; i < small.lengths[w]; i++) {
                texts[w][i] = "aab"[rng_below(&rng, seed % 2 ? 2 : 3)];
                small.words[w][i] = texts[w][i];
            }
            texts[w][small.lengths[w]] = 0;
        }
        char(*next)[SMALL_SYMBOLS] = texts;
        TokenizerTraining training = {3 + 256 + 30, 0, next_small, &next};
        Json *root;
        ASSERT_OK(tokenizer_train(&training, test_path("small.json")));
        ASSERT_OK(js_read(&root, test_path("small.json"), 1 << 20));
        const Json *merges = js_get(js_get(root, "model"), "merges");
        size_t merge = 0;
        for (int pair[2] = {0}; small.tokens < 256 + 30 && small_best(&small, pair); merge++) {
            char expected[2 * SMALL_SYMBOLS], joined[SMALL_SYMBOLS];
            snprintf(expected, sizeof expected, "%s %s", small.texts[pair[0]],
                     small.texts[pair[1]]);
            ASSERT_TEXT(js_text(js_at(merges, merge), NULL), expected);
            ASSERT_INT(snprintf(joined, sizeof joined, "%.30s%.30s", small.texts[pair[0]],
                                small.texts[pair[1]]),
                       <, 60);
            int result = 0;
            while (result < small.tokens && strcmp(small.texts[result], joined) != 0) result++;
            if (result == small.tokens) strcpy(small.texts[small.tokens++], joined);
            small_merge(&small, pair, result);
        }
        ASSERT_INT(js_count(merges), ==, merge);
        ASSERT_INT(merge, >, 10);
        js_free(&root);
    }
}

static Err next_fails(void *context, const char **text, size_t *size) {
    (void)context, (void)text, (void)size;
    FAIL(ERR_IO, "the texts broke off");
}

TEST(training_that_cannot_be_is_a_sentence) {
    TokenizerTraining training = {300, 50, next_text, NULL};
    ASSERT_ERR(tokenizer_train(&training, test_path("t.json")), ERR_CONFIG,
               "a vocabulary of 300 tokens with 50 numbers; it needs at least 259");
    training = (TokenizerTraining){400, 50, next_fails, NULL};
    ASSERT_ERR(tokenizer_train(&training, test_path("t.json")), ERR_IO, "broke off");
    ASSERT_TRUE(!file_exists(test_path("t.json")));
    Corpus corpus = {0, 1, 3, {0}};
    training = (TokenizerTraining){400, 50, next_text, &corpus};
    ASSERT_ERR(tokenizer_train(&training, test_path("none/t.json")), ERR_IO, "t.json");
    buf_free(&corpus.text);
    /* No text at all: bytes and special tokens are still a tokenizer. */
    corpus = (Corpus){0};
    ASSERT_OK(tokenizer_train(&training, test_path("t.json")));
    Tokenizer *tokenizer;
    ASSERT_OK(tokenizer_open(&tokenizer, test_path("t.json")));
    ASSERT_INT(tokenizer_vocab(tokenizer), ==, 259);
    check_round_trip(tokenizer, "bytes", 5);
    tokenizer_close(&tokenizer);
}
