/* A tokenizer in memory. Private to the data room; used through data/tokenizer.h. */
#ifndef CADVLM_DATA_TOKENIZER_MODEL_H
#define CADVLM_DATA_TOKENIZER_MODEL_H

#include "core/buf.h"
#include "core/err.h"
#include "data/bpe.h"
#include "data/pieces.h"
#include "data/tokenizer.h"

/* Strings with numbers: a hash table over one pool of bytes. */
typedef struct ByteMap {
    Buf pool;
    struct ByteMapEntry {
        size_t at, size; /* in the pool */
        int64_t value;
    } * entries; /* in the order of insertion */
    size_t count, capacity;
    uint32_t *places; /* entry + 1; 0: empty */
    size_t place_capacity;
} ByteMap;

/* The value of a string, which is `initial` where it is new. Valid until the next insertion. */
int64_t *byte_map_put(ByteMap *map, const void *bytes, size_t size, int64_t initial);
const int64_t *byte_map_find(const ByteMap *map, const void *bytes, size_t size); /* or NULL */
static inline const char *byte_map_bytes(const ByteMap *map, size_t entry) {
    return map->pool.data + map->entries[entry].at;
}
void byte_map_free(ByteMap *map);

enum { TOKENS_MAX = 1 << 22 };

typedef enum TokenKind {
    TOKEN_MISSING,
    TOKEN_PLAIN,   /* of the vocabulary */
    TOKEN_ADDED,   /* taken out of the text before it is cut into pieces */
    TOKEN_SPECIAL, /* never made from text */
} TokenKind;

typedef struct Token {
    TokenKind kind;
    bool normalized; /* TOKEN_ADDED: these are taken out after the others */
    size_t at, size; /* its bytes in Tokenizer.bytes */
} Token;

/* Ids of added tokens: those with first byte b are ids[starts[b]] … ids[starts[b + 1] - 1], the
 * longest first. */
typedef struct AddedTokens {
    int32_t *ids;
    uint32_t starts[257];
} AddedTokens;

struct Tokenizer {
    int vocab;
    Token *tokens; /* [vocab] */
    Buf bytes;
    ByteMap plain; /* bytes of plain tokens → id */
    int32_t byte_ids[256];
    Merges merges;
    bool ignore_merges; /* a piece that is a token is that token, whatever the merges say */
    Splitter *splitters[SPLITTERS_MAX];
    int splitter_count;
    AddedTokens added[2]; /* those not normalised, those normalised */
    int bos, eos, pad;
};

/* Fills a zeroed tokenizer from the text of a file. */
Err tokenizer_load(Tokenizer *tokenizer, const char *text, size_t size, const char *name);

#endif
