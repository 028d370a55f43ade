/* Reads tokenizer.json, and refuses by name what it does not understand.
 *
 * Two kinds: byte tokenizers (pre-tokenizer and decoder ByteLevel), and character tokenizers with
 * byte fallback, the fast forms of Llama and Gemma. */
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/model.h"

/* A merge written as a pair is three values: the largest tokenizers (262,144 tokens, 514,906
 * merges) have 1.9 million. */
enum { FILE_VALUES_MAX = 3 << 20 };

typedef struct Loading {
    Tokenizer *t;
    const char *name;
} Loading;

/* Every member of an object must be among `known` (ended by NULL). */
static Err only_known(const Json *object, const char *const *known, const char *name,
                      const char *what) {
    JsonIter members = js_iter(object);
    for (const char *key; js_next(&members, &key);) {
        int i = 0;
        while (known[i] && strcmp(key, known[i]) != 0) i++;
        REQUIRE(known[i], ERR_INPUT, "%s: \"%.60s\" in %s is not understood", name, key, what);
    }
    return OK;
}

/* ---- pre-tokenizer ---- */

static Err add_splitter(const Loading *loading, Splitter *splitter) {
    Tokenizer *t = loading->t;
    if (t->splitter_count == SPLITTERS_MAX) {
        splitter_free(&splitter);
        FAIL(ERR_INPUT, "%s: more than %d pre-tokenizers", loading->name, SPLITTERS_MAX);
    }
    t->splitters[t->splitter_count++] = splitter;
    return OK;
}

static Err load_split(const Loading *loading, const Json *object) {
    static const char *const known[] = {"type", "pattern", "behavior", "invert", NULL};
    TRY(only_known(object, known, loading->name, "the pre-tokenizer Split"));
    const char *behavior;
    TRY(js_need_text(&behavior, object, "behavior", loading->name));
    REQUIRE(!strcmp(behavior, "Isolated"), ERR_INPUT,
            "%s: the behavior %.40s of the pre-tokenizer Split is not understood (Isolated is)",
            loading->name, behavior);
    const Json *pattern = js_get(object, "pattern");
    size_t size;
    const char *regex = js_text(js_get(pattern, "Regex"), &size);
    Splitter *splitter;
    if (regex) {
        TRY(splitter_regex(&splitter, regex, size, path_name(loading->name)));
    } else {
        const char *text = js_text(js_get(pattern, "String"), &size);
        REQUIRE(text, ERR_INPUT,
                "%s: the pattern of the pre-tokenizer Split has neither Regex nor String",
                loading->name);
        TRY(splitter_text(&splitter, text, size, path_name(loading->name)));
    }
    return add_splitter(loading, splitter);
}

static Err load_byte_level(const Loading *loading, const Json *object) {
    static const char *const known[] = {"type", "add_prefix_space", "trim_offsets", "use_regex",
                                        NULL};
    TRY(only_known(object, known, loading->name, "the pre-tokenizer ByteLevel"));
    REQUIRE(!json_flag(object, "add_prefix_space", true), ERR_INPUT,
            "%s: add_prefix_space of the pre-tokenizer ByteLevel is not understood", loading->name);
    if (!json_flag(object, "use_regex", true)) return OK;
    Splitter *splitter;
    TRY(splitter_regex(&splitter, pieces_gpt2_pattern, strlen(pieces_gpt2_pattern),
                       path_name(loading->name)));
    return add_splitter(loading, splitter);
}

/* ByteLevel turns bytes into letters, so nothing can stand behind it; without it a text is not
 * bytes. */
static Err load_byte_steps(const Loading *loading, const Json *object) {
    static const char *const known[] = {"type", "pretokenizers", NULL};
    const Json *list;
    const char *type;
    TRY(js_need_text(&type, object, "type", loading->name));
    size_t count = 1;
    bool sequence = !strcmp(type, "Sequence");
    if (sequence) {
        TRY(only_known(object, known, loading->name, "the pre-tokenizer Sequence"));
        TRY(js_need(&list, object, "pretokenizers", JSON_KIND_ARRAY, loading->name));
        count = js_count(list);
    }
    for (size_t i = 0; i < count; i++) {
        const Json *step = sequence ? js_at(list, i) : object;
        TRY(js_need_text(&type, step, "type", loading->name));
        bool byte_level = !strcmp(type, "ByteLevel");
        REQUIRE(byte_level || !strcmp(type, "Split"), ERR_INPUT,
                "%s: the pre-tokenizer %.40s is not understood (Split, ByteLevel and a Sequence of "
                "them are)",
                loading->name, type);
        REQUIRE(byte_level == (i + 1 == count), ERR_INPUT,
                "%s: ByteLevel must be the last pre-tokenizer, and there must be one",
                loading->name);
        TRY(byte_level ? load_byte_level(loading, step) : load_split(loading, step));
    }
    REQUIRE(count, ERR_INPUT, "%s: ByteLevel must be the last pre-tokenizer, and there must be one",
            loading->name);
    return OK;
}

/* ---- tokens ---- */

static Err load_added(const Loading *loading, const Json *added, const Json *vocab) {
    const char *content;
    int64_t id, in_vocab;
    size_t size = 0;
    TRY(js_need_text(&content, added, "content", loading->name));
    js_text(js_get(added, "content"), &size);
    REQUIRE(strlen(content) == size, ERR_INPUT, "%s: the added token \"%.40s\" holds a zero byte",
            loading->name, content);
    TRY(js_need_integer(&id, added, "id", loading->name));
    bool special = json_flag(added, "special", false);
    Token token = {.kind = special ? TOKEN_SPECIAL : TOKEN_ADDED,
                   .normalized = json_flag(added, "normalized", !special),
                   .lstrip = json_flag(added, "lstrip", false),
                   .rstrip = json_flag(added, "rstrip", false)};
    REQUIRE(!json_flag(added, "single_word", false), ERR_INPUT,
            "%s: the added token \"%.40s\" has single_word, which is not understood", loading->name,
            content);
    REQUIRE(!loading->t->characters || special || !token.normalized, ERR_INPUT,
            "%s: the added token \"%.40s\" is normalized, which is not understood here",
            loading->name, content);
    if (js_integer(js_get(vocab, content), &in_vocab))
        REQUIRE(in_vocab == id, ERR_INPUT,
                "%s: the added token \"%.40s\" has the id %lld, but %lld in the vocabulary",
                loading->name, content, (long long)id, (long long)in_vocab);
    return token_put(loading->t, id, token, content, size, loading->name);
}

static Err load_plain(const Loading *loading, const char *key, const Json *value, Buf *scratch) {
    int64_t id;
    REQUIRE(js_integer(value, &id), ERR_INPUT, "%s: the id of \"%.40s\" is not a whole number",
            loading->name, key);
    return loading->t->characters
               ? characters_put(loading->t, key, strlen(key), id, scratch, loading->name)
               : letters_put(loading->t, key, strlen(key), id, scratch, loading->name);
}

static Err load_tokens(const Loading *loading, const Json *root, const Json *vocab) {
    Tokenizer *t = loading->t;
    const Json *added = js_get(root, "added_tokens");
    size_t count = js_count(vocab);
    for (size_t i = 0; i < js_count(added); i++) {
        const char *content = js_text(js_get(js_at(added, i), "content"), NULL);
        if (!content || !js_get(vocab, content)) count++;
    }
    TRY(tokens_alloc(t, count, loading->name));
    for (size_t i = 0; i < js_count(added); i++) TRY(load_added(loading, js_at(added, i), vocab));

    Buf scratch = {0};
    JsonIter members = js_iter(vocab);
    const char *key;
    Err err = OK;
    for (const Json *value; err == OK && (value = js_next(&members, &key));)
        err = load_plain(loading, key, value, &scratch);
    buf_free(&scratch);
    TRY(err);
    TRY(tokens_list_added(t, loading->name));
    return t->characters ? characters_find_bytes(t, loading->name)
                         : tokens_find_bytes(t, loading->name);
}

/* ---- merges ---- */

/* The two tokens of "a b" or ["a", "b"]. */
static Err split_merge(const Loading *loading, const Json *value, size_t rank, const char **left,
                       size_t *left_size, const char **right, size_t *right_size) {
    *left_size = *right_size = 0;
    if (js_type(value) == JSON_KIND_ARRAY) {
        *left = js_text(js_at(value, 0), left_size);
        *right = js_count(value) == 2 ? js_text(js_at(value, 1), right_size) : NULL;
    } else {
        size_t size = 0;
        *left = js_text(value, &size);
        *right = *left ? memchr(*left, ' ', size) : NULL;
        if (*right) {
            *left_size = (size_t)(*right - *left);
            *right_size = size - *left_size - 1;
            ++*right;
        }
    }
    REQUIRE(*left && *right && *left_size && *right_size, ERR_INPUT,
            "%s: merge %zu is not two tokens (\"a b\" or [\"a\", \"b\"])", loading->name, rank);
    return OK;
}

static Err load_merge(const Loading *loading, const Json *value, size_t rank, Buf *scratch) {
    const char *left, *right;
    size_t left_size, right_size;
    TRY(split_merge(loading, value, rank, &left, &left_size, &right, &right_size));
    return loading->t->characters ? characters_merge(loading->t, left, left_size, right, right_size,
                                                     rank, scratch, loading->name)
                                  : letters_merge(loading->t, left, left_size, right, right_size,
                                                  rank, scratch, loading->name);
}

static Err load_merges(const Loading *loading, const Json *model) {
    const Json *merges;
    TRY(js_need(&merges, model, "merges", JSON_KIND_ARRAY, loading->name));
    REQUIRE(js_count(merges) <= TOKENS_MAX, ERR_INPUT, "%s: %zu merges; at most %d are possible",
            loading->name, js_count(merges), TOKENS_MAX);
    Buf bytes = {0};
    Err err = OK;
    for (size_t i = 0; i < js_count(merges) && err == OK; i++)
        err = load_merge(loading, js_at(merges, i), i, &bytes);
    buf_free(&bytes);
    return err;
}

/* ---- the whole file ---- */

/* Keys that may be there with nothing behind them. */
static Err must_be_off(const Loading *loading, const Json *model, const char *key) {
    const Json *value = js_get(model, key);
    double number = 0;
    bool off = js_type(value) == JSON_KIND_NULL || json_is_text(value, "") ||
               (js_number(value, &number) && number == 0) ||
               (js_type(value) == JSON_KIND_BOOL && !json_flag(model, key, true));
    REQUIRE(off, ERR_INPUT, "%s: %s of the model BPE is not understood", loading->name, key);
    return OK;
}

static Err load_model(const Loading *loading, const Json *root) {
    static const char *const known[] = {"type",
                                        "dropout",
                                        "unk_token",
                                        "continuing_subword_prefix",
                                        "end_of_word_suffix",
                                        "fuse_unk",
                                        "byte_fallback",
                                        "ignore_merges",
                                        "vocab",
                                        "merges",
                                        NULL};
    const Json *model, *vocab;
    TRY(js_need(&model, root, "model", JSON_KIND_OBJECT, loading->name));
    const Json *type = js_get(model, "type"); /* older files of GPT-2's kind have none */
    REQUIRE(!type || json_is_text(type, "BPE"), ERR_INPUT,
            "%s: the model %.40s is not understood (BPE is)", loading->name,
            js_text(type, NULL) ? js_text(type, NULL) : "?");
    TRY(only_known(model, known, loading->name, "the model BPE"));
    TRY(must_be_off(loading, model, "dropout"));
    TRY(must_be_off(loading, model, "continuing_subword_prefix"));
    TRY(must_be_off(loading, model, "end_of_word_suffix"));
    loading->t->ignore_merges = json_flag(model, "ignore_merges", false);
    REQUIRE(!loading->t->characters || !loading->t->ignore_merges, ERR_INPUT,
            "%s: ignore_merges beside byte_fallback is not understood", loading->name);
    TRY(js_need(&vocab, model, "vocab", JSON_KIND_OBJECT, loading->name));
    TRY(load_tokens(loading, root, vocab));
    return load_merges(loading, model);
}

static int special_id(const Tokenizer *t, const char *const *contents) {
    for (; *contents; contents++) {
        int id = tokenizer_id(t, *contents);
        if (id >= 0 && t->tokens[id].kind == TOKEN_SPECIAL) return id;
    }
    return -1;
}

/* By their usual names; tokenizer_config.json may know better. */
static void find_specials(Tokenizer *t) {
    t->bos = special_id(t, (const char *const[]){"<bos>", "<s>", "<|endoftext|>", NULL});
    t->eos = special_id(t, (const char *const[]){"<eos>", "</s>", "<|endoftext|>", NULL});
    t->pad = special_id(t, (const char *const[]){"<pad>", NULL});
    t->unk = special_id(t, (const char *const[]){"<unk>", NULL});
}

/* Whether the post-processor's template starts with <bos>. */
static bool template_adds_bos(const Tokenizer *t, const Json *post_processor) {
    const Json *first = js_at(js_get(post_processor, "single"), 0);
    const char *id = js_text(js_get(js_get(first, "SpecialToken"), "id"), NULL);
    return id && t->bos >= 0 && tokenizer_id(t, id) == t->bos;
}

static Err load_byte_form(const Loading *loading, const Json *root) {
    const Json *normalizer = js_get(root, "normalizer"), *pre_tokenizer;
    const char *type = js_text(js_get(normalizer, "type"), NULL);
    REQUIRE(js_type(normalizer) == JSON_KIND_NULL, ERR_INPUT,
            "%s: the normalizer %.40s is not understood (null is)", loading->name,
            type ? type : "?");
    type = js_text(js_get(js_get(root, "decoder"), "type"), NULL);
    REQUIRE(type && !strcmp(type, "ByteLevel"), ERR_INPUT,
            "%s: the decoder %.40s is not understood (ByteLevel is)", loading->name,
            type ? type : "null");
    TRY(load_model(loading, root));
    TRY(js_need(&pre_tokenizer, root, "pre_tokenizer", JSON_KIND_OBJECT, loading->name));
    return load_byte_steps(loading, pre_tokenizer);
}

static Err load_character_form(const Loading *loading, const Json *root) {
    TRY(characters_load_spaces(loading->t, root, loading->name));
    TRY(load_model(loading, root));
    characters_index(loading->t);
    return OK;
}

static Err load_root(const Loading *loading, const Json *root) {
    /* Truncation, padding and what is put around a text are the caller's matter here. */
    static const char *const known[] = {
        "version",       "truncation",     "padding", "added_tokens", "normalizer",
        "pre_tokenizer", "post_processor", "decoder", "model",        NULL};
    REQUIRE(js_type(root) == JSON_KIND_OBJECT, ERR_INPUT, "%s is not a tokenizer: no JSON object",
            loading->name);
    TRY(only_known(root, known, loading->name, "the file"));
    loading->t->characters = json_flag(js_get(root, "model"), "byte_fallback", false);
    TRY(loading->t->characters ? load_character_form(loading, root)
                               : load_byte_form(loading, root));
    find_specials(loading->t);
    loading->t->adds_bos = template_adds_bos(loading->t, js_get(root, "post_processor"));
    return OK;
}

Err tokenizer_load_json(Tokenizer *tokenizer, const char *text, size_t size, const char *name) {
    Json *root;
    TRY(js_parse_within(&root, text, size, FILE_VALUES_MAX, name));
    Err err = load_root(&(Loading){tokenizer, name}, root);
    js_free(&root);
    return err;
}
