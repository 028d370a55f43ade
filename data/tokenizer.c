/* Encoding and decoding; see tokenizer_json.c for how a tokenizer is read. */
#include "data/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/hash.h"
#include "data/tokenizer_model.h"

enum { TOKENIZER_FILE_MAX = 256 << 20 };

void token_ids_push(TokenIds *ids, int32_t id) {
    if (ids->count == ids->capacity) {
        ids->capacity = ids->capacity ? 2 * ids->capacity : 256;
        ids->ids = realloc(ids->ids, ids->capacity * sizeof *ids->ids);
        CHECK(ids->ids, "out of memory: %zu token ids", ids->capacity);
    }
    ids->ids[ids->count++] = id;
}

void token_ids_free(TokenIds *ids) {
    free(ids->ids);
    *ids = (TokenIds){0};
}

/* ---- strings with numbers ---- */

static uint32_t *byte_map_place(const ByteMap *map, const void *bytes, size_t size) {
    size_t at = (size_t)hash_bytes(bytes, size) & (map->place_capacity - 1);
    for (; map->places[at]; at = (at + 1) & (map->place_capacity - 1)) {
        const struct ByteMapEntry *entry = &map->entries[map->places[at] - 1];
        if (entry->size == size && !memcmp(map->pool.data + entry->at, bytes, size)) break;
    }
    return &map->places[at];
}

static void byte_map_grow(ByteMap *map) {
    map->place_capacity = map->place_capacity ? 2 * map->place_capacity : 1024;
    map->capacity = map->place_capacity / 2;
    free(map->places);
    map->places = calloc(map->place_capacity, sizeof *map->places);
    map->entries = realloc(map->entries, map->capacity * sizeof *map->entries);
    CHECK(map->places && map->entries, "out of memory: %zu strings", map->capacity);
    for (size_t i = 0; i < map->count; i++)
        *byte_map_place(map, byte_map_bytes(map, i), map->entries[i].size) = (uint32_t)i + 1;
}

int64_t *byte_map_put(ByteMap *map, const void *bytes, size_t size, int64_t initial) {
    if (map->count == map->capacity) byte_map_grow(map);
    uint32_t *place = byte_map_place(map, bytes, size);
    if (!*place) {
        CHECK(map->count < UINT32_MAX - 1, "%zu strings", map->count);
        map->entries[map->count] = (struct ByteMapEntry){map->pool.size, size, initial};
        buf_append(&map->pool, bytes, size);
        *place = (uint32_t)++map->count;
    }
    return &map->entries[*place - 1].value;
}

const int64_t *byte_map_find(const ByteMap *map, const void *bytes, size_t size) {
    if (!map->count) return NULL;
    uint32_t place = *byte_map_place(map, bytes, size);
    return place ? &map->entries[place - 1].value : NULL;
}

void byte_map_free(ByteMap *map) {
    buf_free(&map->pool);
    free(map->entries);
    free(map->places);
    *map = (ByteMap){0};
}

/* ---- opening ---- */

Err tokenizer_parse(Tokenizer **out, const char *text, size_t size, const char *name) {
    *out = NULL;
    Tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    CHECK(tokenizer, "out of memory: a tokenizer");
    Err err = tokenizer_load(tokenizer, text, size, name);
    if (err != OK)
        tokenizer_close(&tokenizer);
    else
        *out = tokenizer;
    return err;
}

Err tokenizer_open(Tokenizer **out, const char *path) {
    Buf text = {0};
    *out = NULL;
    Err err = file_read(&text, path, TOKENIZER_FILE_MAX);
    if (err == OK) err = tokenizer_parse(out, buf_cstr(&text), text.size, path);
    buf_free(&text);
    return err;
}

void tokenizer_close(Tokenizer **tokenizer) {
    Tokenizer *t = *tokenizer;
    if (!t) return;
    free(t->tokens);
    buf_free(&t->bytes);
    byte_map_free(&t->plain);
    merges_free(&t->merges);
    for (int i = 0; i < t->splitter_count; i++) splitter_free(&t->splitters[i]);
    for (int i = 0; i < 2; i++) free(t->added[i].ids);
    free(t);
    *tokenizer = NULL;
}

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

int tokenizer_id(const Tokenizer *tokenizer, const char *token) {
    size_t size = strlen(token);
    const int64_t *plain = byte_map_find(&tokenizer->plain, token, size);
    if (plain) return (int)*plain;
    for (int id = 0; id < tokenizer->vocab; id++) {
        const Token *t = &tokenizer->tokens[id];
        if (t->kind != TOKEN_PLAIN && t->size == size &&
            !memcmp(tokenizer->bytes.data + t->at, token, size))
            return id;
    }
    return -1;
}

/* ---- encoding ---- */

typedef struct Encoding {
    const Tokenizer *tokenizer;
    BpeScratch scratch;
    TokenIds *out;
} Encoding;

static Err encode_piece(void *context, const char *piece, size_t size) {
    Encoding *encoding = context;
    const Tokenizer *t = encoding->tokenizer;
    if (t->ignore_merges) {
        const int64_t *whole = byte_map_find(&t->plain, piece, size);
        if (whole) {
            token_ids_push(encoding->out, (int32_t)*whole);
            return OK;
        }
    }
    bpe_encode(&t->merges, t->byte_ids, piece, size, &encoding->scratch, encoding->out);
    return OK;
}

/* The added token at the front of `text`, the longest one, or -1. */
static int32_t added_at(const Tokenizer *t, int pass, const char *text, size_t size) {
    const AddedTokens *added = &t->added[pass];
    uint8_t first = (uint8_t)text[0];
    for (uint32_t i = added->starts[first]; i < added->starts[first + 1]; i++) {
        const Token *token = &t->tokens[added->ids[i]];
        if (token->size <= size && !memcmp(t->bytes.data + token->at, text, token->size))
            return added->ids[i];
    }
    return -1;
}

/* Takes added tokens out of the text, in two passes; what lies between them is cut into pieces. */
static Err encode_text(Encoding *encoding, int pass, const char *text, size_t size) {
    const Tokenizer *t = encoding->tokenizer;
    if (!size) return OK;
    if (pass == 2)
        return pieces_each(t->splitters, t->splitter_count, text, size, encode_piece, encoding);
    size_t done = 0;
    for (size_t at = 0; at < size && t->added[pass].starts[256];) {
        int32_t id = added_at(t, pass, text + at, size - at);
        if (id < 0) {
            at++;
            continue;
        }
        TRY(encode_text(encoding, pass + 1, text + done, at - done));
        token_ids_push(encoding->out, id);
        at += t->tokens[id].size;
        done = at;
    }
    return encode_text(encoding, pass + 1, text + done, size - done);
}

Err tokenizer_encode(const Tokenizer *tokenizer, const char *text, size_t size, TokenIds *out) {
    REQUIRE(size <= BPE_PIECE_MAX, ERR_INPUT,
            "a text of %zu bytes to encode; at most %d are possible", size, BPE_PIECE_MAX);
    Encoding encoding = {.tokenizer = tokenizer, .out = out};
    Err err = encode_text(&encoding, 0, text, size);
    free(encoding.scratch.memory);
    return err;
}

/* ---- decoding ---- */

Err tokenizer_decode(const Tokenizer *tokenizer, const int32_t *ids, size_t count, Buf *out) {
    for (size_t i = 0; i < count; i++) {
        REQUIRE(ids[i] >= 0 && ids[i] < tokenizer->vocab, ERR_INPUT,
                "token id %d at place %zu; the tokenizer has 0 to %d", ids[i], i,
                tokenizer->vocab - 1);
        const Token *token = &tokenizer->tokens[ids[i]];
        if (token->kind != TOKEN_SPECIAL)
            buf_append(out, tokenizer->bytes.data + token->at, token->size);
    }
    return OK;
}
