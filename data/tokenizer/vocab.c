/* A tokenizer from vocab.json and merges.txt: byte-level BPE in the files of GPT-2, as transformers
 * 4.39.3 runs it for CodeGen (Phi-2). */
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/model.h"

enum { VOCAB_FILE_MAX = 256 << 20 };

/* ---- what letters_* share with tokenizer.json ---- */

Err letters_put(Tokenizer *t, const char *letters, size_t size, int64_t id, Buf *scratch,
                const char *name) {
    buf_clear(scratch);
    bool good = byte_level_read(scratch, letters, size);
    /* Added tokens may stand in the vocabulary too; they are there by now. One that merges make as
     * well is both. */
    if (id >= 0 && id < t->vocab && t->tokens[id].kind > TOKEN_PLAIN) {
        const Token *token = &t->tokens[id];
        if (token->size == size && !memcmp(t->bytes.data + token->at, letters, size)) {
            if (token->kind == TOKEN_ADDED && good)
                byte_map_put(&t->plain, scratch->data, scratch->size, id);
            return OK;
        }
    }
    REQUIRE(good, ERR_INPUT, "%s: the token \"%.*s\" has a letter that stands for no byte", name,
            size < 40 ? (int)size : 40, letters);
    TRY(token_put(t, id, (Token){.kind = TOKEN_PLAIN}, buf_cstr(scratch), scratch->size, name));
    byte_map_put(&t->plain, scratch->data, scratch->size, id);
    return OK;
}

static Err merge_token(const Tokenizer *t, size_t rank, const char *bytes, size_t size, int32_t *id,
                       const char *name) {
    const int64_t *found = byte_map_find(&t->plain, bytes, size);
    REQUIRE(found, ERR_INPUT,
            "%s: merge %zu names the token \"%.*s\", which is not a plain one of "
            "the vocabulary",
            name, rank, size < 40 ? (int)size : 40, bytes);
    *id = (int32_t)*found;
    return OK;
}

Err letters_merge(Tokenizer *t, const char *left, size_t left_size, const char *right,
                  size_t right_size, size_t rank, Buf *scratch, const char *name) {
    buf_clear(scratch);
    bool good = byte_level_read(scratch, left, left_size);
    size_t cut = scratch->size;
    good = good && byte_level_read(scratch, right, right_size);
    REQUIRE(good, ERR_INPUT, "%s: merge %zu has a letter that stands for no byte", name, rank);
    Merge merge = {.rank = (uint32_t)rank};
    TRY(merge_token(t, rank, scratch->data, cut, &merge.left, name));
    TRY(merge_token(t, rank, scratch->data + cut, scratch->size - cut, &merge.right, name));
    TRY(merge_token(t, rank, scratch->data, scratch->size, &merge.result, name));
    merges_put(&t->merges, merge);
    return OK;
}

/* ---- vocab.json ---- */

static int64_t find_in_vocab(const void *vocab, const char *content, size_t size) {
    (void)size; /* without zero bytes */
    int64_t id;
    return js_integer(js_get(vocab, content), &id) ? id : -1;
}

static Err put_added(Tokenizer *t, const TokenizerSettings *s, const Json *vocab,
                     const char *name) {
    for (size_t i = 0; i < s->count; i++) {
        const AddedToken *added = &s->added[i];
        int64_t in_vocab = find_in_vocab(vocab, added->content, added->size);
        REQUIRE(in_vocab < 0 || in_vocab == added->id, ERR_INPUT,
                "%s: the added token \"%.40s\" has the id %lld, but %lld in the vocabulary", name,
                added->content, (long long)added->id, (long long)in_vocab);
        Token token = {.kind = added->special ? TOKEN_SPECIAL : TOKEN_ADDED,
                       .lstrip = added->lstrip,
                       .rstrip = added->rstrip};
        TRY(token_put(t, added->id, token, added->content, added->size, name));
    }
    return OK;
}

static Err load_tokens(Tokenizer *t, TokenizerSettings *s, const Json *vocab, const char *name) {
    size_t total;
    TRY(settings_number(s, js_count(vocab), find_in_vocab, vocab, &total, name));
    TRY(tokens_alloc(t, total, name));
    TRY(put_added(t, s, vocab, name));
    Buf scratch = {0};
    JsonIter members = js_iter(vocab);
    const char *key;
    Err err = OK;
    for (const Json *value; err == OK && (value = js_next(&members, &key));) {
        int64_t id = -1;
        js_integer(value, &id); /* what is no id is refused as -1 */
        err = letters_put(t, key, strlen(key), id, &scratch, name);
    }
    buf_free(&scratch);
    TRY(err);
    for (int id = 0; id < t->vocab; id++)
        REQUIRE(t->tokens[id].kind != TOKEN_MISSING, ERR_INPUT,
                "%s: no token has the id %d, but there are higher ones", name, id);
    settings_roles(s, t);
    TRY(tokens_list_added(t, name));
    return tokens_find_bytes(t, name);
}

/* ---- merges.txt ---- */

static Err load_merge(Tokenizer *t, const char *line, size_t size, size_t rank, Buf *scratch,
                      const char *name) {
    if (size && line[size - 1] == '\r') size--;
    if (!size) return OK;
    const char *space = memchr(line, ' ', size);
    size_t left = space ? (size_t)(space - line) : 0;
    REQUIRE(left && left + 1 < size, ERR_INPUT, "%s: line %zu is not two tokens (\"a b\")", name,
            rank + 2);
    REQUIRE(rank < TOKENS_MAX, ERR_INPUT, "%s: more than %d merges", name, TOKENS_MAX);
    return letters_merge(t, line, left, space + 1, size - left - 1, rank, scratch, name);
}

/* The first line says the version and does not count, nor does what stands behind the last line
 * end: so the reference reads it. */
static Err load_merges(Tokenizer *t, const Buf *file, const char *name) {
    const char *text = buf_cstr(file), *end = text + file->size;
    const char *line = memchr(text, '\n', file->size);
    Buf scratch = {0};
    Err err = OK;
    size_t rank = 0;
    while (line && err == OK) {
        line++;
        const char *next = memchr(line, '\n', (size_t)(end - line));
        if (next) err = load_merge(t, line, (size_t)(next - line), rank++, &scratch, name);
        line = next;
    }
    buf_free(&scratch);
    return err;
}

/* ---- the whole ---- */

typedef struct Files {
    char vocab[PATH_SIZE], merges[PATH_SIZE];
    Json *root;
    Buf text;
    TokenizerSettings settings;
} Files;

static Err load(Tokenizer *t, Files *f, const char *folder) {
    TRY(path_join(f->vocab, folder, "vocab.json"));
    TRY(path_join(f->merges, folder, "merges.txt"));
    TRY(settings_read(&f->settings, folder, CLASS_CODEGEN));
    REQUIRE(
        f->settings.kind == CLASS_CODEGEN, ERR_INPUT,
        "%s: the tokenizer_class \"%s\" of the tokenizer_config.json beside it is not understood "
        "(CodeGenTokenizer and GPT2Tokenizer are)",
        f->vocab, f->settings.class_name);
    REQUIRE(!f->settings.prefix_space, ERR_INPUT, "%s: add_prefix_space is not understood",
            f->vocab);
    TRY(js_read(&f->root, f->vocab, VOCAB_FILE_MAX));
    REQUIRE(js_type(f->root) == JSON_KIND_OBJECT, ERR_INPUT, "%s: no JSON object", f->vocab);
    TRY(load_tokens(t, &f->settings, f->root, f->vocab));
    TRY(file_read(&f->text, f->merges, VOCAB_FILE_MAX));
    TRY(load_merges(t, &f->text, f->merges));
    TRY(splitter_regex(&t->splitters[0], pieces_gpt2_pattern, strlen(pieces_gpt2_pattern),
                       "vocab.json"));
    t->splitter_count = 1;
    return OK;
}

Err tokenizer_load_vocab(Tokenizer *tokenizer, const char *folder) {
    Files *files = calloc(1, sizeof *files);
    CHECK(files, "out of memory: the names of files");
    Err err = load(tokenizer, files, folder);
    js_free(&files->root);
    buf_free(&files->text);
    settings_free(&files->settings);
    free(files);
    return err;
}
