/* Reads tokenizer.json, and refuses by name what it does not understand. */
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "data/byte_level.h"
#include "data/tokenizer_model.h"

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

static bool flag(const Json *object, const char *key, bool otherwise) {
    bool value = otherwise;
    js_bool(js_get(object, key), &value);
    return value;
}

static bool is_text(const Json *value, const char *text) {
    const char *found = js_text(value, NULL);
    return found && !strcmp(found, text);
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
    REQUIRE(!flag(object, "add_prefix_space", true), ERR_INPUT,
            "%s: add_prefix_space of the pre-tokenizer ByteLevel is not understood", loading->name);
    if (!flag(object, "use_regex", true)) return OK;
    Splitter *splitter;
    TRY(splitter_regex(&splitter, pieces_gpt2_pattern, strlen(pieces_gpt2_pattern),
                       path_name(loading->name)));
    return add_splitter(loading, splitter);
}

/* ByteLevel turns bytes into letters, so nothing can stand behind it; without it a text is not
 * bytes. */
static Err load_pre_tokenizer(const Loading *loading, const Json *root) {
    static const char *const known[] = {"type", "pretokenizers", NULL};
    const Json *object, *list;
    const char *type;
    TRY(js_need(&object, root, "pre_tokenizer", JSON_KIND_OBJECT, loading->name));
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

static Err put_token(const Loading *loading, int64_t id, TokenKind kind, bool normalized,
                     const char *bytes, size_t size) {
    Tokenizer *t = loading->t;
    REQUIRE(size, ERR_INPUT, "%s: token %lld is empty", loading->name, (long long)id);
    REQUIRE(id >= 0 && id < t->vocab, ERR_INPUT,
            "%s: a token has the id %lld; %d tokens must have the ids 0 to %d, without holes",
            loading->name, (long long)id, t->vocab, t->vocab - 1);
    REQUIRE(t->tokens[id].kind == TOKEN_MISSING, ERR_INPUT, "%s: the id %lld is given twice",
            loading->name, (long long)id);
    t->tokens[id] = (Token){kind, normalized, t->bytes.size, size};
    buf_append(&t->bytes, bytes, size);
    if (kind == TOKEN_PLAIN) *byte_map_put(&t->plain, bytes, size, id) = id;
    return OK;
}

static Err load_added(const Loading *loading, const Json *added, const Json *vocab) {
    const char *content;
    int64_t id, in_vocab;
    size_t size = 0;
    TRY(js_need_text(&content, added, "content", loading->name));
    js_text(js_get(added, "content"), &size);
    REQUIRE(strlen(content) == size, ERR_INPUT, "%s: the added token \"%.40s\" holds a zero byte",
            loading->name, content);
    TRY(js_need_integer(&id, added, "id", loading->name));
    bool special = flag(added, "special", false);
    REQUIRE(special || (!flag(added, "single_word", false) && !flag(added, "lstrip", false) &&
                        !flag(added, "rstrip", false)),
            ERR_INPUT,
            "%s: the added token \"%.40s\" has single_word, lstrip or rstrip, which are "
            "not understood",
            loading->name, content);
    if (js_integer(js_get(vocab, content), &in_vocab))
        REQUIRE(in_vocab == id, ERR_INPUT,
                "%s: the added token \"%.40s\" has the id %lld, but %lld in the vocabulary",
                loading->name, content, (long long)id, (long long)in_vocab);
    return put_token(loading, id, special ? TOKEN_SPECIAL : TOKEN_ADDED,
                     flag(added, "normalized", !special), content, size);
}

static Err load_plain(const Loading *loading, const char *key, const Json *value, Buf *bytes) {
    Tokenizer *t = loading->t;
    int64_t id;
    REQUIRE(js_integer(value, &id), ERR_INPUT, "%s: the id of \"%.40s\" is not a whole number",
            loading->name, key);
    buf_clear(bytes);
    bool letters = byte_level_read(bytes, key, strlen(key));
    /* Added tokens may stand in the vocabulary too; they are there by now. One that merges make as
     * well is both. */
    if (id >= 0 && id < t->vocab && t->tokens[id].kind > TOKEN_PLAIN) {
        const Token *token = &t->tokens[id];
        if (token->size == strlen(key) && !memcmp(t->bytes.data + token->at, key, token->size)) {
            if (token->kind == TOKEN_ADDED && letters)
                byte_map_put(&t->plain, bytes->data, bytes->size, id);
            return OK;
        }
    }
    REQUIRE(letters, ERR_INPUT, "%s: the token \"%.40s\" has a letter that stands for no byte",
            loading->name, key);
    return put_token(loading, id, TOKEN_PLAIN, false, buf_cstr(bytes), bytes->size);
}

static Err load_tokens(const Loading *loading, const Json *root, const Json *vocab) {
    Tokenizer *t = loading->t;
    const Json *added = js_get(root, "added_tokens");
    size_t count = js_count(vocab);
    for (size_t i = 0; i < js_count(added); i++) {
        const char *content = js_text(js_get(js_at(added, i), "content"), NULL);
        if (!content || !js_get(vocab, content)) count++;
    }
    REQUIRE(count >= 1 && count <= TOKENS_MAX, ERR_INPUT,
            "%s: a vocabulary of %zu tokens; 1 to %d are possible", loading->name, count,
            TOKENS_MAX);
    t->vocab = (int)count;
    t->tokens = calloc(count, sizeof *t->tokens);
    CHECK(t->tokens, "out of memory: %zu tokens", count);
    for (size_t i = 0; i < js_count(added); i++) TRY(load_added(loading, js_at(added, i), vocab));

    Buf bytes = {0};
    JsonIter members = js_iter(vocab);
    const char *key;
    Err err = OK;
    for (const Json *value; err == OK && (value = js_next(&members, &key));)
        err = load_plain(loading, key, value, &bytes);
    buf_free(&bytes);
    TRY(err);

    for (int byte = 0; byte < 256; byte++) {
        const int64_t *id = byte_map_find(&t->plain, &(char){(char)byte}, 1);
        REQUIRE(id, ERR_INPUT, "%s: the byte 0x%02x has no token", loading->name, byte);
        t->byte_ids[byte] = (int32_t)*id;
    }
    return OK;
}

typedef struct AddedOrder {
    uint8_t first;
    size_t size;
    int32_t id;
} AddedOrder;

static int compare_added(const void *a, const void *b) {
    const AddedOrder *x = a, *y = b;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    if (x->size != y->size) return x->size > y->size ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* Lists the added tokens of one pass by their first byte, the longest first. */
static void list_added(Tokenizer *t, int pass) {
    AddedTokens *added = &t->added[pass];
    AddedOrder *order = NULL;
    size_t count = 0, capacity = 0;
    for (int id = 0; id < t->vocab; id++) {
        const Token *token = &t->tokens[id];
        if (token->kind != TOKEN_ADDED || token->normalized != pass) continue;
        if (count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            order = realloc(order, capacity * sizeof *order);
            CHECK(order, "out of memory: %zu added tokens", capacity);
        }
        order[count++] = (AddedOrder){(uint8_t)t->bytes.data[token->at], token->size, id};
    }
    if (count) qsort(order, count, sizeof *order, compare_added);
    added->ids = malloc((count + 1) * sizeof *added->ids);
    CHECK(added->ids, "out of memory: %zu added tokens", count);
    for (size_t i = 0; i < count; i++) {
        added->ids[i] = order[i].id;
        added->starts[order[i].first + 1]++;
    }
    for (int byte = 0; byte < 256; byte++) added->starts[byte + 1] += added->starts[byte];
    free(order);
}

/* ---- merges ---- */

static Err merge_token(const Loading *loading, size_t rank, const char *bytes, size_t size,
                       int32_t *id) {
    const int64_t *found = byte_map_find(&loading->t->plain, bytes, size);
    REQUIRE(found, ERR_INPUT,
            "%s: merge %zu names the token \"%.*s\", which is not a plain one of "
            "the vocabulary",
            loading->name, rank, size < 40 ? (int)size : 40, bytes);
    *id = (int32_t)*found;
    return OK;
}

static Err load_merge(const Loading *loading, const Json *value, size_t rank, Buf *bytes) {
    size_t left_size = 0, right_size = 0;
    const char *left, *right;
    if (js_type(value) == JSON_KIND_ARRAY) {
        left = js_text(js_at(value, 0), &left_size);
        right = js_count(value) == 2 ? js_text(js_at(value, 1), &right_size) : NULL;
    } else {
        size_t size = 0;
        left = js_text(value, &size);
        right = left ? memchr(left, ' ', size) : NULL;
        if (right) {
            left_size = (size_t)(right - left);
            right_size = size - left_size - 1;
            right++;
        }
    }
    REQUIRE(left && right && left_size && right_size, ERR_INPUT,
            "%s: merge %zu is not two tokens (\"a b\" or [\"a\", \"b\"])", loading->name, rank);
    buf_clear(bytes);
    bool good = byte_level_read(bytes, left, left_size);
    size_t cut = bytes->size;
    good = good && byte_level_read(bytes, right, right_size);
    REQUIRE(good, ERR_INPUT, "%s: merge %zu has a letter that stands for no byte", loading->name,
            rank);
    Merge merge = {.rank = (uint32_t)rank};
    TRY(merge_token(loading, rank, bytes->data, cut, &merge.left));
    TRY(merge_token(loading, rank, bytes->data + cut, bytes->size - cut, &merge.right));
    TRY(merge_token(loading, rank, bytes->data, bytes->size, &merge.result));
    merges_put(&loading->t->merges, merge);
    return OK;
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
    bool off = js_type(value) == JSON_KIND_NULL || is_text(value, "") ||
               (js_number(value, &number) && number == 0) ||
               (js_type(value) == JSON_KIND_BOOL && !flag(model, key, true));
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
    REQUIRE(!type || is_text(type, "BPE"), ERR_INPUT,
            "%s: the model %.40s is not understood (BPE is)", loading->name,
            js_text(type, NULL) ? js_text(type, NULL) : "?");
    TRY(only_known(model, known, loading->name, "the model BPE"));
    TRY(must_be_off(loading, model, "dropout"));
    TRY(must_be_off(loading, model, "continuing_subword_prefix"));
    TRY(must_be_off(loading, model, "end_of_word_suffix"));
    TRY(must_be_off(loading, model, "byte_fallback"));
    loading->t->ignore_merges = flag(model, "ignore_merges", false);
    TRY(js_need(&vocab, model, "vocab", JSON_KIND_OBJECT, loading->name));
    TRY(load_tokens(loading, root, vocab));
    list_added(loading->t, 0);
    list_added(loading->t, 1);
    return load_merges(loading, model);
}

static int special_id(const Tokenizer *t, const char *content) {
    int id = tokenizer_id(t, content);
    return id >= 0 && t->tokens[id].kind == TOKEN_SPECIAL ? id : -1;
}

static Err load_root(const Loading *loading, const Json *root) {
    /* Truncation, padding and what is put around a text are the caller's matter here. */
    static const char *const known[] = {
        "version",       "truncation",     "padding", "added_tokens", "normalizer",
        "pre_tokenizer", "post_processor", "decoder", "model",        NULL};
    REQUIRE(js_type(root) == JSON_KIND_OBJECT, ERR_INPUT, "%s is not a tokenizer: no JSON object",
            loading->name);
    TRY(only_known(root, known, loading->name, "the file"));
    const Json *normalizer = js_get(root, "normalizer");
    const char *type = js_text(js_get(normalizer, "type"), NULL);
    REQUIRE(js_type(normalizer) == JSON_KIND_NULL, ERR_INPUT,
            "%s: the normalizer %.40s is not understood (null is)", loading->name,
            type ? type : "?");
    type = js_text(js_get(js_get(root, "decoder"), "type"), NULL);
    REQUIRE(type && !strcmp(type, "ByteLevel"), ERR_INPUT,
            "%s: the decoder %.40s is not understood (ByteLevel is)", loading->name,
            type ? type : "null");
    TRY(load_model(loading, root));
    TRY(load_pre_tokenizer(loading, root));
    loading->t->bos = special_id(loading->t, "<bos>");
    loading->t->eos = special_id(loading->t, "<eos>");
    loading->t->pad = special_id(loading->t, "<pad>");
    return OK;
}

Err tokenizer_load(Tokenizer *tokenizer, const char *text, size_t size, const char *name) {
    Json *root;
    TRY(js_parse(&root, text, size, name));
    Err err = load_root(&(Loading){tokenizer, name}, root);
    js_free(&root);
    return err;
}
