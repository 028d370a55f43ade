/* A tokenizer in memory. Private to the data module; used through data/tokenizer/tokenizer.h.
 *
 * Two kinds share one engine (data/tokenizer/bpe.h). A *byte* tokenizer cuts text into pieces with
 * regular expressions and joins bytes (GPT-2, CodeGen, our own). A *character* tokenizer joins the
 * characters of the whole text and spells those it does not know with bytes (SentencePiece: Llama,
 * Gemma); its files write a space as U+2581, which in memory is a space again. */
#ifndef CADVLM_DATA_TOKENIZER_MODEL_H
#define CADVLM_DATA_TOKENIZER_MODEL_H

#include <string.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/json.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/pieces.h"
#include "data/tokenizer/tokenizer.h"

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

enum { TOKENS_MAX = 1 << 22, ADDED_TOKENS_MAX = 1 << 14 };

typedef enum TokenKind {
    TOKEN_MISSING,
    TOKEN_PLAIN,   /* of the vocabulary */
    TOKEN_ADDED,   /* taken out of the text before it is cut into pieces */
    TOKEN_SPECIAL, /* the same, but only by tokenizer_encode_special; nothing when decoded */
    TOKEN_CONTROL, /* never made from text; nothing when decoded */
} TokenKind;

typedef struct Token {
    TokenKind kind;
    bool normalized;     /* TOKEN_ADDED: these are taken out after the others */
    bool lstrip, rstrip; /* TOKEN_ADDED, TOKEN_SPECIAL: takes the white space beside it along */
    size_t at, size;     /* its bytes in Tokenizer.bytes */
} Token;

/* Ids of tokens to search a text for: those with first byte b are ids[starts[b]] … ids[starts[b +
 * 1] - 1], the longest first. */
typedef struct TokenList {
    int32_t *ids;
    uint32_t starts[257];
} TokenList;

/* The space that a character tokenizer puts in front, so that a word at the start of a text is the
 * same token as inside. */
typedef enum Prefix {
    PREFIX_NONE,
    PREFIX_TEXT,    /* in front of the text, once (Llama with legacy off) */
    PREFIX_SEGMENT, /* in front of every text between added tokens */
    PREFIX_WORD,    /* the same, where no space stands there already */
    PREFIX_FIRST,   /* in front of the first one, where no space stands there already */
} Prefix;

struct Tokenizer {
    int vocab;
    Token *tokens; /* [vocab] */
    Buf bytes;
    ByteMap plain; /* bytes of plain tokens → id */
    int32_t byte_ids[256];
    Merges merges;
    TokenList added[2]; /* those not normalised, those normalised */
    int bos, eos, pad, unk;
    bool adds_bos;

    /* Byte tokenizers. */
    bool ignore_merges; /* a piece that is a token is that token, whatever the merges say */
    Splitter *splitters[SPLITTERS_MAX];
    int splitter_count;

    /* Character tokenizers. */
    bool characters;
    ByteMap orphans; /* characters of joined pieces that are no pieces; symbol: vocab + entry */
    int32_t ascii_symbols[128]; /* -1: none */
    uint8_t joined[128][16];    /* bit b of row a: some merge joins a text "…a" with a "b…" */
    TokenList defined;          /* user-defined pieces: taken out of a text as a whole */
    Prefix prefix;
    bool split_words;    /* nothing is joined across the front of a space */
    Buf guard;           /* set before a text that starts with a space and cut off again … */
    size_t guard_tokens; /* … with so many tokens */
};

/* ---- data/tokenizer/tokens.c: filling one ---- */

/* Room for `count` tokens, all missing. */
Err tokens_alloc(Tokenizer *tokenizer, size_t count, const char *name);

/* Sets the token `id`, which must be missing; its place in the bytes is filled in. */
Err token_put(Tokenizer *tokenizer, int64_t id, Token token, const char *bytes, size_t size,
              const char *name);

/* Lists the tokens for which `wanted` says so. */
void token_list_make(TokenList *list, const Tokenizer *tokenizer,
                     bool (*wanted)(const Tokenizer *tokenizer, int32_t id, const void *context),
                     const void *context);

/* Both lists of added tokens. */
Err tokens_list_added(Tokenizer *tokenizer, const char *name);

/* The longest token of the list at the front of `text` of a kind up to `most`, or -1. */
int32_t token_list_find(const TokenList *list, const Tokenizer *tokenizer, TokenKind most,
                        const char *text, size_t size);

/* Every byte has a token (Tokenizer.byte_ids, from Tokenizer.plain): sets them, or says which has
 * none. */
Err tokens_find_bytes(Tokenizer *tokenizer, const char *name);

/* U+2581, which stands for a space in the files of character tokenizers. */
#define SPACE_SIGN "\xe2\x96\x81"

/* Appends text with spaces for the signs that stand for them. */
void spaces_append(Buf *out, const char *text, size_t size);

/* The symbol of one character, or -1: an id, or that of an orphan. */
int32_t character_symbol(const Tokenizer *tokenizer, const char *character, size_t size);

/* Adds a merge that makes the first `cut` bytes of `text` and the rest one. */
void characters_join(Tokenizer *tokenizer, Merge merge, const char *text, size_t cut);

/* Fills ascii_symbols, when all tokens and orphans are there. */
void characters_index(Tokenizer *tokenizer);

/* ---- data/tokenizer/settings.c: the files beside the vocabulary ---- */

/* A token that these files name. Texts are borrowed from the settings. */
typedef struct AddedToken {
    const char *content;
    size_t size;
    int64_t id; /* -1: not said */
    bool special, lstrip, rstrip;
    bool must_exist; /* it cannot be a new one */
} AddedToken;

typedef enum TokenizerClass {
    CLASS_UNKNOWN, /* none is named */
    CLASS_LLAMA,
    CLASS_GEMMA,
    CLASS_CODEGEN, /* and GPT-2: the same tokens */
} TokenizerClass;

typedef enum Role { ROLE_BOS, ROLE_EOS, ROLE_UNK, ROLE_PAD, ROLES } Role;

typedef struct TokenizerSettings {
    Json *config, *map, *added_file, *fast; /* NULL: there is no such file */
    AddedToken *added;
    size_t count, capacity;
    ByteMap contents; /* → number in `added` */
    const char *roles[ROLES];
    TokenizerClass kind;
    const char *class_name; /* as tokenizer_config.json has it; NULL: it does not */
    bool adds_bos;
    bool legacy;       /* Llama: a space in front of every text between special tokens */
    bool prefix_space; /* Llama with legacy off: a space in front of the text */
} TokenizerSettings;

/* Reads tokenizer_config.json, special_tokens_map.json, added_tokens.json and the added tokens of
 * tokenizer.json in `folder`, as far as they are there, in the way of transformers 4.39.3;
 * `otherwise` is the class where none is named. */
Err settings_read(TokenizerSettings *settings, const char *folder, TokenizerClass otherwise);
void settings_free(TokenizerSettings *settings);

/* Gives ids to the added tokens that have none: those that `find` knows in the vocabulary of
 * `count` tokens, or new ones behind it. *total: tokens in all. */
Err settings_number(TokenizerSettings *settings, size_t count,
                    int64_t (*find)(const void *context, const char *content, size_t size),
                    const void *context, size_t *total, const char *name);

/* The ids of <bos> and so on, by the settings; all tokens are there by now. */
void settings_roles(const TokenizerSettings *settings, Tokenizer *tokenizer);

/* What tokenizer_config.json says to a tokenizer.json beside it: roles and adds_bos. */
Err settings_for_json(Tokenizer *tokenizer, const char *folder);

/* ---- one reader for each kind of file; they fill a zeroed tokenizer ---- */

Err tokenizer_load_json(Tokenizer *tokenizer, const char *text, size_t size, const char *name);
Err tokenizer_load_spm(Tokenizer *tokenizer, const char *path, const char *folder);
Err tokenizer_load_vocab(Tokenizer *tokenizer, const char *folder); /* vocab.json, merges.txt */

/* ---- parts of readers that two of them, or two files, share ---- */

static inline bool json_flag(const Json *object, const char *key, bool otherwise) {
    bool value = otherwise;
    js_bool(js_get(object, key), &value);
    return value;
}

static inline bool json_is_text(const Json *value, const char *text) {
    const char *found = js_text(value, NULL);
    return found && !strcmp(found, text);
}

/* Byte tokenizers, whose files write bytes as letters: a plain token; a merge of two of them. */
Err letters_put(Tokenizer *tokenizer, const char *letters, size_t size, int64_t id, Buf *scratch,
                const char *name);
Err letters_merge(Tokenizer *tokenizer, const char *left, size_t left_size, const char *right,
                  size_t right_size, size_t rank, Buf *scratch, const char *name);

/* Character tokenizers of tokenizer.json: normalizer, pre-tokenizer and decoder; a token of the
 * vocabulary; byte_ids; a merge. */
Err characters_load_spaces(Tokenizer *tokenizer, const Json *root, const char *name);
Err characters_put(Tokenizer *tokenizer, const char *content, size_t size, int64_t id, Buf *scratch,
                   const char *name);
Err characters_find_bytes(Tokenizer *tokenizer, const char *name);
Err characters_merge(Tokenizer *tokenizer, const char *left, size_t left_size, const char *right,
                     size_t right_size, size_t rank, Buf *scratch, const char *name);

#endif
