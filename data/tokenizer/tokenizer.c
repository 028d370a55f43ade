/* Opening, asking and decoding; the readers of the files are tokenizer_json.c, tokenizer_spm.c and
 * tokenizer_vocab.c, encoding is in tokenizer_encode.c. */
#include "data/tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/text.h"
#include "data/tokenizer/model.h"

enum { TOKENIZER_FILE_MAX = 256 << 20 };

/* ---- opening ---- */

static Tokenizer *tokenizer_new(void) {
    Tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    CHECK(tokenizer, "out of memory: a tokenizer");
    tokenizer->bos = tokenizer->eos = tokenizer->pad = tokenizer->unk = -1;
    return tokenizer;
}

Err tokenizer_parse(Tokenizer **out, const char *text, size_t size, const char *name) {
    *out = NULL;
    Tokenizer *tokenizer = tokenizer_new();
    Err err = tokenizer_load_json(tokenizer, text, size, name);
    if (err != OK)
        tokenizer_close(&tokenizer);
    else
        *out = tokenizer;
    return err;
}

static Err load_json_file(Tokenizer *tokenizer, const char *path, const char *folder) {
    Buf text = {0};
    Err err = file_read(&text, path, TOKENIZER_FILE_MAX);
    if (err == OK) err = tokenizer_load_json(tokenizer, buf_cstr(&text), text.size, path);
    if (err == OK) err = settings_for_json(tokenizer, folder);
    buf_free(&text);
    return err;
}

/* "a/b" → "a"; "b" → ".". */
static Err folder_of(char out[PATH_SIZE], const char *path) {
    size_t length = (size_t)(path_name(path) - path);
    if (length > 1) length--; /* the slash, where it is not the root */
    return length ? path_format(out, "%.*s", (int)length, path) : path_format(out, ".");
}

static Err load_file(Tokenizer *tokenizer, const char *path) {
    char folder[PATH_SIZE];
    const char *name = path_name(path);
    TRY(folder_of(folder, path));
    if (!strcmp(path_extension(name), ".model")) return tokenizer_load_spm(tokenizer, path, folder);
    if (!strcmp(name, "vocab.json") || !strcmp(name, "merges.txt"))
        return tokenizer_load_vocab(tokenizer, folder);
    return load_json_file(tokenizer, path, folder);
}

static Err load_folder(Tokenizer *tokenizer, const char *folder) {
    char spm[PATH_SIZE], json[PATH_SIZE], vocab[PATH_SIZE];
    TRY(path_join(spm, folder, "tokenizer.model"));
    TRY(path_join(json, folder, "tokenizer.json"));
    TRY(path_join(vocab, folder, "vocab.json"));
    if (file_exists(spm)) return tokenizer_load_spm(tokenizer, spm, folder);
    if (file_exists(json)) return load_json_file(tokenizer, json, folder);
    REQUIRE(file_exists(vocab), ERR_INPUT,
            "%s has no tokenizer: neither tokenizer.model nor tokenizer.json nor vocab.json",
            folder);
    return tokenizer_load_vocab(tokenizer, folder);
}

Err tokenizer_open(Tokenizer **out, const char *path) {
    *out = NULL;
    Tokenizer *tokenizer = tokenizer_new();
    Err err = file_is_directory(path) ? load_folder(tokenizer, path) : load_file(tokenizer, path);
    if (err != OK)
        tokenizer_close(&tokenizer);
    else
        *out = tokenizer;
    return err;
}

void tokenizer_close(Tokenizer **tokenizer) {
    Tokenizer *t = *tokenizer;
    if (!t) return;
    free(t->tokens);
    buf_free(&t->bytes);
    byte_map_free(&t->plain);
    byte_map_free(&t->orphans);
    merges_free(&t->merges);
    for (int i = 0; i < t->splitter_count; i++) splitter_free(&t->splitters[i]);
    for (int i = 0; i < 2; i++) free(t->added[i].ids);
    free(t->defined.ids);
    buf_free(&t->guard);
    free(t);
    *tokenizer = NULL;
}

/* ---- copying ---- */

const char *const tokenizer_files[] = {
    "tokenizer.json",        "tokenizer.model",         "vocab.json",        "merges.txt",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", NULL};

static Err copy_as(const char *from, const char *folder, const char *name) {
    char to[PATH_SIZE];
    TRY(path_join(to, folder, name));
    return file_copy(from, to, TOKENIZER_FILE_MAX);
}

Err tokenizer_copy(const char *path, const char *to) {
    enum { JSON, SPM, VOCAB, MERGES, VOCABULARIES }; /* numbers in tokenizer_files */
    char folder[PATH_SIZE], from[PATH_SIZE];
    const char *name = path_name(path);
    bool whole = file_is_directory(path), spm = !strcmp(path_extension(name), ".model");
    bool vocab = !strcmp(name, "vocab.json") || !strcmp(name, "merges.txt");
    if (!whole && !vocab) TRY(copy_as(path, to, tokenizer_files[spm ? SPM : JSON]));
    TRY(whole ? path_format(folder, "%s", path) : folder_of(folder, path));
    bool copied = !whole && !vocab; /* the vocabulary itself */
    for (int i = whole ? 0 : vocab ? VOCAB : VOCABULARIES; tokenizer_files[i]; i++) {
        TRY(path_join(from, folder, tokenizer_files[i]));
        if (!file_exists(from)) continue;
        TRY(copy_as(from, to, tokenizer_files[i]));
        copied |= i < VOCABULARIES;
    }
    REQUIRE(copied, ERR_INPUT, "%s has no tokenizer any more", path);
    return OK;
}

/* ---- asking ---- */

int tokenizer_vocab(const Tokenizer *tokenizer) {
    return tokenizer->vocab;
}

int tokenizer_bos(const Tokenizer *tokenizer) {
    return tokenizer->bos;
}

int tokenizer_eos(const Tokenizer *tokenizer) {
    return tokenizer->eos;
}

int tokenizer_pad(const Tokenizer *tokenizer) {
    return tokenizer->pad;
}

int tokenizer_unk(const Tokenizer *tokenizer) {
    return tokenizer->unk;
}

bool tokenizer_adds_bos(const Tokenizer *tokenizer) {
    return tokenizer->adds_bos;
}

Err tokenizer_check_model(const Tokenizer *tokenizer, int64_t model_vocab, const char *where) {
    REQUIRE(tokenizer->vocab <= model_vocab, ERR_CONFIG,
            "%s: vocab %d in the tokenizer, %lld in the model: they do not belong together", where,
            tokenizer->vocab, (long long)model_vocab);
    return OK;
}

/* ---- decoding ---- */

/* Bytes at the front of a token that are the space which encoding put there. An added token has
 * none of it, unless that was put in front of all. */
static size_t prefix_size(const Tokenizer *t, const Token *token) {
    const char *bytes = t->bytes.data + token->at;
    if (token->kind != TOKEN_ADDED) return bytes[0] == ' ';
    size_t sign = sizeof SPACE_SIGN - 1;
    return t->prefix == PREFIX_TEXT && token->size >= sign && !memcmp(bytes, SPACE_SIGN, sign)
               ? sign
               : 0;
}

Err tokenizer_decode(const Tokenizer *t, const int32_t *ids, size_t count, Buf *out) {
    bool always = t->prefix == PREFIX_SEGMENT || t->prefix == PREFIX_WORD;
    bool prefixed = t->prefix != PREFIX_NONE; /* the next token may start with the added space */
    for (size_t i = 0; i < count; i++) {
        REQUIRE(ids[i] >= 0 && ids[i] < t->vocab, ERR_INPUT,
                "token id %d at place %zu; the tokenizer has 0 to %d", ids[i], i, t->vocab - 1);
        const Token *token = &t->tokens[ids[i]];
        if (token->kind >= TOKEN_SPECIAL) continue;
        bool added = token->kind == TOKEN_ADDED;
        size_t skip = prefixed ? prefix_size(t, token) : 0;
        const char *bytes = t->bytes.data + token->at + skip;
        if (added && t->characters) /* its bytes are those of the file */
            spaces_append(out, bytes, token->size - skip);
        else
            buf_append(out, bytes, token->size - skip);
        prefixed = added && always;
    }
    return OK;
}
