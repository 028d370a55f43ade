/* The small files beside a vocabulary: which tokens are added, which are special, and how texts are
 * prefixed. Read in the way of transformers 4.39.3 (PreTrainedTokenizerBase._from_pretrained and
 * the constructors of LlamaTokenizer, GemmaTokenizer, CodeGenTokenizer).
 *
 * Odd there: where tokenizer_config.json has added_tokens_decoder, the other files do not count. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "data/tokenizer/model.h"

enum { SETTINGS_FILE_MAX = 64 << 20 };

/* In the order in which new ones get their ids; the first ROLES are those that we ask for. */
static const char *const token_keys[] = {"bos_token", "eos_token", "unk_token",  "sep_token",
                                         "pad_token", "cls_token", "mask_token", NULL};
static const int role_of_key[] = {ROLE_BOS, ROLE_EOS, ROLE_UNK, -1, ROLE_PAD, -1, -1};

static Err read_optional(Json **out, const char *folder, const char *file) {
    char path[PATH_SIZE];
    *out = NULL;
    TRY(path_join(path, folder, file));
    if (!file_exists(path)) return OK;
    TRY(js_read(out, path, SETTINGS_FILE_MAX));
    REQUIRE(js_type(*out) == JSON_KIND_OBJECT, ERR_INPUT, "%s: no JSON object", path);
    return OK;
}

static Err read_flag(bool *out, const Json *object, const char *key) {
    const Json *value = js_get(object, key);
    REQUIRE(js_type(value) == JSON_KIND_NULL || js_bool(value, out), ERR_INPUT,
            "tokenizer_config.json: %s is neither true nor false", key);
    return OK;
}

/* ---- added tokens ---- */

/* Notes a token; the one already there by that content gains what is said of it now. */
static Err add(TokenizerSettings *s, const AddedToken *token) {
    REQUIRE(token->size && strlen(token->content) == token->size, ERR_INPUT,
            "an added token of the tokenizer (\"%.40s\") is empty or holds a zero byte",
            token->content);
    int64_t *number = byte_map_put(&s->contents, token->content, token->size, (int64_t)s->count);
    if (*number < (int64_t)s->count) {
        AddedToken *known = &s->added[*number];
        REQUIRE(token->id < 0 || known->id == token->id, ERR_INPUT,
                "the added token \"%.40s\" has the ids %lld and %lld", token->content,
                (long long)known->id, (long long)token->id);
        known->special |= token->special;
        known->must_exist |= token->must_exist;
        return OK;
    }
    REQUIRE(s->count < ADDED_TOKENS_MAX, ERR_INPUT, "more than %d added tokens", ADDED_TOKENS_MAX);
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 64;
        s->added = realloc(s->added, s->capacity * sizeof *s->added);
        CHECK(s->added, "out of memory: %zu added tokens", s->capacity);
    }
    s->added[s->count++] = *token;
    return OK;
}

/* {"content": …, "special": …, "lstrip": …, "rstrip": …}, or the content alone. */
static Err read_token(AddedToken *token, const Json *value, const char *where) {
    *token = (AddedToken){.id = -1};
    const Json *content = js_type(value) == JSON_KIND_OBJECT ? js_get(value, "content") : value;
    token->content = js_text(content, &token->size);
    REQUIRE(token->content, ERR_INPUT, "%s is neither a text nor an object with a content", where);
    js_bool(js_get(value, "special"), &token->special);
    js_bool(js_get(value, "lstrip"), &token->lstrip);
    js_bool(js_get(value, "rstrip"), &token->rstrip);
    bool single_word = false;
    js_bool(js_get(value, "single_word"), &single_word);
    REQUIRE(!single_word, ERR_INPUT, "%s (\"%.40s\") has single_word, which is not understood",
            where, token->content);
    return OK;
}

static Err read_decoder(TokenizerSettings *s, const Json *decoder) {
    REQUIRE(js_type(decoder) == JSON_KIND_OBJECT, ERR_INPUT,
            "tokenizer_config.json: added_tokens_decoder is no object");
    const char *key;
    JsonIter members = js_iter(decoder);
    for (const Json *value; (value = js_next(&members, &key));) {
        AddedToken token;
        char *end;
        TRY(read_token(&token, value, "an entry of added_tokens_decoder"));
        token.id = strtoll(key, &end, 10);
        REQUIRE(key[0] >= '0' && key[0] <= '9' && !*end && token.id < TOKENS_MAX, ERR_INPUT,
                "tokenizer_config.json: \"%.40s\" in added_tokens_decoder is no id", key);
        TRY(add(s, &token));
    }
    return OK;
}

/* added_tokens.json: {content: id}. */
static Err read_added_file(TokenizerSettings *s) {
    const char *key;
    JsonIter members = js_iter(s->added_file);
    for (const Json *value; (value = js_next(&members, &key));) {
        AddedToken token = {.content = key, .size = strlen(key)};
        REQUIRE(js_integer(value, &token.id) && token.id >= 0 && token.id < TOKENS_MAX, ERR_INPUT,
                "added_tokens.json: the id of \"%.40s\" is not possible", key);
        TRY(add(s, &token));
    }
    return OK;
}

/* The list of a tokenizer.json that stands beside a tokenizer.model. */
static Err read_added_of_json(TokenizerSettings *s) {
    const Json *list = js_get(s->fast, "added_tokens");
    for (size_t i = 0; i < js_count(list); i++) {
        AddedToken token;
        TRY(read_token(&token, js_at(list, i), "an added token of tokenizer.json"));
        REQUIRE(js_integer(js_get(js_at(list, i), "id"), &token.id) && token.id >= 0 &&
                    token.id < TOKENS_MAX,
                ERR_INPUT, "tokenizer.json: the id of \"%.40s\" is not possible", token.content);
        TRY(add(s, &token));
    }
    return OK;
}

/* ---- special tokens ---- */

/* special_tokens_map.json overrides where added_tokens_decoder is not there. */
static const Json *special_value(const TokenizerSettings *s, const char *key, bool *said) {
    bool decoder = js_get(s->config, "added_tokens_decoder");
    const Json *value = decoder ? NULL : js_get(s->map, key);
    if (!value) value = js_get(s->config, key);
    *said = value;
    return js_type(value) == JSON_KIND_NULL ? NULL : value;
}

static const char *class_default(TokenizerClass kind, int role) {
    static const char *const names[][ROLES] = {
        [CLASS_LLAMA] = {"<s>", "</s>", "<unk>", NULL},
        [CLASS_GEMMA] = {"<bos>", "<eos>", "<unk>", "<pad>"},
        [CLASS_CODEGEN] = {"<|endoftext|>", "<|endoftext|>", "<|endoftext|>", NULL}};
    return role >= 0 && kind != CLASS_UNKNOWN ? names[kind][role] : NULL;
}

static Err read_special(TokenizerSettings *s, int k) {
    int role = role_of_key[k];
    bool said;
    AddedToken token = {.id = -1};
    const Json *value = special_value(s, token_keys[k], &said);
    if (value) {
        TRY(read_token(&token, value, token_keys[k]));
    } else if (!said) {
        token.content = class_default(s->kind, role);
        if (token.content) token.size = strlen(token.content);
    }
    if (!token.content) return OK;
    token.special = true;
    token.must_exist = role == ROLE_BOS || role == ROLE_EOS || role == ROLE_UNK;
    if (role >= 0) s->roles[role] = token.content;
    return add(s, &token);
}

static Err read_specials(TokenizerSettings *s) {
    for (int k = 0; token_keys[k]; k++) TRY(read_special(s, k));
    bool said;
    const Json *list = special_value(s, "additional_special_tokens", &said);
    REQUIRE(!list || js_type(list) == JSON_KIND_ARRAY, ERR_INPUT,
            "additional_special_tokens of the tokenizer is no list");
    for (size_t i = 0; i < js_count(list); i++) {
        AddedToken token;
        TRY(read_token(&token, js_at(list, i), "one of additional_special_tokens"));
        token.special = true;
        TRY(add(s, &token));
    }
    return OK;
}

/* ---- the whole ---- */

static Err read_class(TokenizerSettings *s, TokenizerClass otherwise) {
    static const struct {
        const char *name;
        TokenizerClass kind;
    } classes[] = {{"LlamaTokenizer", CLASS_LLAMA},
                   {"GemmaTokenizer", CLASS_GEMMA},
                   {"CodeGenTokenizer", CLASS_CODEGEN},
                   {"GPT2Tokenizer", CLASS_CODEGEN}};
    const Json *value = js_get(s->config, "tokenizer_class");
    s->kind = otherwise;
    if (js_type(value) == JSON_KIND_NULL) return OK;
    const char *name = js_text(value, NULL);
    REQUIRE(name, ERR_INPUT, "tokenizer_config.json: tokenizer_class is no text");
    s->class_name = name;
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        size_t length = strlen(classes[i].name);
        if (strncmp(name, classes[i].name, length) != 0) continue;
        if (name[length] && strcmp(name + length, "Fast") != 0) continue;
        s->kind = classes[i].kind;
        return OK;
    }
    s->kind = CLASS_UNKNOWN;
    return OK;
}

static Err read_flags(TokenizerSettings *s) {
    s->adds_bos = s->kind == CLASS_LLAMA || s->kind == CLASS_GEMMA;
    s->legacy = true;
    s->prefix_space = s->kind == CLASS_LLAMA;
    TRY(read_flag(&s->adds_bos, s->config, "add_bos_token"));
    TRY(read_flag(&s->legacy, s->config, "legacy"));
    return read_flag(&s->prefix_space, s->config, "add_prefix_space");
}

static Err read_all(TokenizerSettings *s, const char *folder, TokenizerClass otherwise) {
    TRY(read_optional(&s->config, folder, "tokenizer_config.json"));
    TRY(read_class(s, otherwise));
    TRY(read_flags(s));
    const Json *decoder = js_get(s->config, "added_tokens_decoder");
    if (decoder) {
        TRY(read_decoder(s, decoder));
    } else {
        TRY(read_optional(&s->map, folder, "special_tokens_map.json"));
        TRY(read_optional(&s->added_file, folder, "added_tokens.json"));
        TRY(read_optional(&s->fast, folder, "tokenizer.json"));
        TRY(read_added_file(s));
        TRY(read_added_of_json(s));
    }
    return read_specials(s);
}

Err settings_read(TokenizerSettings *s, const char *folder, TokenizerClass otherwise) {
    *s = (TokenizerSettings){0};
    Err err = read_all(s, folder, otherwise);
    if (err != OK) {
        IGNORE(err_prefix(err, "%s: ", folder));
        settings_free(s);
    }
    return err;
}

void settings_free(TokenizerSettings *s) {
    js_free(&s->config);
    js_free(&s->map);
    js_free(&s->added_file);
    js_free(&s->fast);
    free(s->added);
    byte_map_free(&s->contents);
    *s = (TokenizerSettings){0};
}

Err settings_number(TokenizerSettings *s, size_t count,
                    int64_t (*find)(const void *context, const char *content, size_t size),
                    const void *context, size_t *total, const char *name) {
    *total = count;
    for (size_t i = 0; i < s->count; i++)
        if (s->added[i].id >= (int64_t)*total) *total = (size_t)s->added[i].id + 1;
    for (size_t i = 0; i < s->count; i++) {
        AddedToken *token = &s->added[i];
        if (token->id >= 0) continue;
        token->id = find(context, token->content, token->size);
        if (token->id >= 0) continue;
        REQUIRE(!token->must_exist, ERR_INPUT,
                "%s: the special token \"%.40s\" is neither in the vocabulary nor among the added "
                "tokens",
                name, token->content);
        token->id = (int64_t)(*total)++;
    }
    return OK;
}

void settings_roles(const TokenizerSettings *s, Tokenizer *t) {
    int *const ids[ROLES] = {&t->bos, &t->eos, &t->unk, &t->pad};
    for (int role = 0; role < ROLES; role++) {
        const char *content = s->roles[role];
        const int64_t *number =
            content ? byte_map_find(&s->contents, content, strlen(content)) : NULL;
        *ids[role] = number ? (int)s->added[*number].id : -1;
    }
    t->adds_bos = s->adds_bos;
}

/* ---- beside a tokenizer.json ---- */

static int64_t special_of(const Tokenizer *t, const char *content) {
    for (int id = 0; id < t->vocab; id++) {
        const Token *token = &t->tokens[id];
        if (token->kind >= TOKEN_SPECIAL && token->size == strlen(content) &&
            !memcmp(t->bytes.data + token->at, content, token->size))
            return id;
    }
    return -1;
}

static Err roles_for_json(Tokenizer *t, TokenizerSettings *s) {
    int *const ids[ROLES] = {&t->bos, &t->eos, &t->unk, &t->pad};
    TRY(read_class(s, CLASS_UNKNOWN));
    if (s->kind != CLASS_UNKNOWN || js_get(s->config, "add_bos_token")) {
        TRY(read_flags(s));
        t->adds_bos = s->adds_bos;
    }
    for (int k = 0; token_keys[k]; k++) {
        AddedToken token;
        bool said;
        const Json *value = special_value(s, token_keys[k], &said);
        if (role_of_key[k] < 0 || !value) continue;
        TRY(read_token(&token, value, token_keys[k]));
        int64_t id = special_of(t, token.content);
        REQUIRE(id >= 0, ERR_INPUT,
                "tokenizer_config.json: %s is \"%.40s\", which is no special token of "
                "tokenizer.json",
                token_keys[k], token.content);
        *ids[role_of_key[k]] = (int)id;
    }
    return OK;
}

Err settings_for_json(Tokenizer *t, const char *folder) {
    TokenizerSettings s = {0};
    Err err = read_optional(&s.config, folder, "tokenizer_config.json");
    if (err == OK && s.config) err = roles_for_json(t, &s);
    if (err != OK) IGNORE(err_prefix(err, "%s: ", folder));
    settings_free(&s);
    return err;
}
