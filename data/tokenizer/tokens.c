/* What all readers of tokenizer files share: tokens, lists of them, characters. */
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/model.h"

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

/* ---- tokens ---- */

Err tokens_alloc(Tokenizer *t, size_t count, const char *name) {
    REQUIRE(count >= 1 && count <= TOKENS_MAX, ERR_INPUT,
            "%s: a vocabulary of %zu tokens; 1 to %d are possible", name, count, TOKENS_MAX);
    t->vocab = (int)count;
    t->tokens = calloc(count, sizeof *t->tokens);
    CHECK(t->tokens, "out of memory: %zu tokens", count);
    return OK;
}

Err token_put(Tokenizer *t, int64_t id, Token token, const char *bytes, size_t size,
              const char *name) {
    REQUIRE(size, ERR_INPUT, "%s: token %lld is empty", name, (long long)id);
    REQUIRE(id >= 0 && id < t->vocab, ERR_INPUT,
            "%s: a token has the id %lld; %d tokens must have the ids 0 to %d, without holes", name,
            (long long)id, t->vocab, t->vocab - 1);
    REQUIRE(t->tokens[id].kind == TOKEN_MISSING, ERR_INPUT, "%s: the id %lld is given twice", name,
            (long long)id);
    token.at = t->bytes.size;
    token.size = size;
    t->tokens[id] = token;
    buf_append(&t->bytes, bytes, size);
    return OK;
}

Err tokens_find_bytes(Tokenizer *t, const char *name) {
    for (int byte = 0; byte < 256; byte++) {
        const int64_t *id = byte_map_find(&t->plain, &(char){(char)byte}, 1);
        REQUIRE(id, ERR_INPUT, "%s: the byte 0x%02x has no token", name, byte);
        t->byte_ids[byte] = (int32_t)*id;
    }
    return OK;
}

/* ---- lists ---- */

typedef struct Listed {
    uint8_t first;
    size_t size;
    int32_t id;
} Listed;

static int compare_listed(const void *a, const void *b) {
    const Listed *x = a, *y = b;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    if (x->size != y->size) return x->size > y->size ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

void token_list_make(TokenList *list, const Tokenizer *t,
                     bool (*wanted)(const Tokenizer *tokenizer, int32_t id, const void *context),
                     const void *context) {
    Listed *order = NULL;
    size_t count = 0, capacity = 0;
    for (int32_t id = 0; id < t->vocab; id++) {
        const Token *token = &t->tokens[id];
        if (!wanted(t, id, context)) continue;
        if (count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            order = realloc(order, capacity * sizeof *order);
            CHECK(order, "out of memory: a list of %zu tokens", capacity);
        }
        order[count++] = (Listed){(uint8_t)t->bytes.data[token->at], token->size, id};
    }
    if (count) qsort(order, count, sizeof *order, compare_listed);
    list->ids = malloc((count + 1) * sizeof *list->ids);
    CHECK(list->ids, "out of memory: a list of %zu tokens", count);
    for (size_t i = 0; i < count; i++) {
        list->ids[i] = order[i].id;
        list->starts[order[i].first + 1]++;
    }
    for (int byte = 0; byte < 256; byte++) list->starts[byte + 1] += list->starts[byte];
    free(order);
}

static bool is_added(const Tokenizer *t, int32_t id, const void *normalized) {
    const Token *token = &t->tokens[id];
    return (token->kind == TOKEN_ADDED || token->kind == TOKEN_SPECIAL) &&
           token->normalized == *(const bool *)normalized;
}

Err tokens_list_added(Tokenizer *t, const char *name) {
    uint32_t count = 0;
    for (int pass = 0; pass < 2; pass++) {
        token_list_make(&t->added[pass], t, is_added, &(bool){pass == 1});
        count += t->added[pass].starts[256];
    }
    REQUIRE(count <= ADDED_TOKENS_MAX, ERR_INPUT, "%s: %u added tokens; at most %d are possible",
            name, count, ADDED_TOKENS_MAX);
    return OK;
}

int32_t token_list_find(const TokenList *list, const Tokenizer *t, TokenKind most, const char *text,
                        size_t size) {
    uint8_t first = (uint8_t)text[0];
    for (uint32_t i = list->starts[first]; i < list->starts[first + 1]; i++) {
        const Token *token = &t->tokens[list->ids[i]];
        if (token->kind <= most && token->size <= size &&
            !memcmp(t->bytes.data + token->at, text, token->size))
            return list->ids[i];
    }
    return -1;
}

/* ---- characters ---- */

void spaces_append(Buf *out, const char *text, size_t size) {
    size_t sign = sizeof SPACE_SIGN - 1;
    for (const char *end = text + size, *found; text < end; text = found + sign) {
        found = memmem(text, (size_t)(end - text), SPACE_SIGN, sign);
        buf_append(out, text, (size_t)((found ? found : end) - text));
        if (!found) break;
        buf_append(out, " ", 1);
    }
}

int32_t character_symbol(const Tokenizer *t, const char *character, size_t size) {
    const int64_t *id = byte_map_find(&t->plain, character, size);
    if (id) return (int32_t)*id;
    id = byte_map_find(&t->orphans, character, size);
    return id ? (int32_t)*id : -1;
}

void characters_index(Tokenizer *t) {
    for (int i = 0; i < 128; i++) t->ascii_symbols[i] = character_symbol(t, &(char){(char)i}, 1);
}

void characters_join(Tokenizer *t, Merge merge, const char *text, size_t cut) {
    unsigned before = (uint8_t)text[cut - 1], after = (uint8_t)text[cut];
    if (before < 128 && after < 128) t->joined[before][after / 8] |= (uint8_t)(1 << after % 8);
    merges_put(&t->merges, merge);
}

int tokenizer_id(const Tokenizer *tokenizer, const char *token) {
    size_t size = strlen(token);
    const int64_t *plain = byte_map_find(&tokenizer->plain, token, size);
    if (plain) return (int)*plain;
    for (int id = 0; id < tokenizer->vocab; id++) {
        const Token *t = &tokenizer->tokens[id];
        if (t->size == size && !memcmp(tokenizer->bytes.data + t->at, token, size)) return id;
    }
    return -1;
}
