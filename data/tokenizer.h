/* Byte-pair tokenizers in the form of Hugging Face's tokenizer.json.
 *
 * Understood: model BPE (vocab, merges as "a b" or ["a","b"], ignore_merges, byte_fallback false),
 * pre_tokenizer ByteLevel (use_regex false or true), Split (Regex or String; Isolated) and Sequence
 * of them, decoder ByteLevel, added_tokens. Anything else in the file is refused by name. Encoding
 * is byte-exact on any input: every byte has a token. docs/formats.md says more. */
#ifndef CADVLM_DATA_TOKENIZER_H
#define CADVLM_DATA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"

typedef struct Tokenizer Tokenizer;

/* A growable run of token ids. */
typedef struct TokenIds {
    int32_t *ids;
    size_t count, capacity;
} TokenIds;

void token_ids_push(TokenIds *ids, int32_t id);
void token_ids_free(TokenIds *ids);

Err tokenizer_open(Tokenizer **tokenizer, const char *path);

/* From the text of a tokenizer.json; `name` opens error sentences. */
Err tokenizer_parse(Tokenizer **tokenizer, const char *text, size_t size, const char *name);
void tokenizer_close(Tokenizer **tokenizer);

int tokenizer_vocab(const Tokenizer *tokenizer); /* largest id + 1 */

/* The ids of the special tokens: <bos>, <eos>, <pad>; -1 where the file has none. */
int tokenizer_bos(const Tokenizer *tokenizer);
int tokenizer_eos(const Tokenizer *tokenizer);
int tokenizer_pad(const Tokenizer *tokenizer);
int tokenizer_id(const Tokenizer *tokenizer, const char *token); /* any token by its content; -1 */

/* Appends the ids of `text`; nothing is added at the ends. Special tokens written in the text are
 * text (a drawing's code cannot forge them). Safe from several threads. Fails only when the file
 * has a pattern that takes too long on this text, or the text is longer than 256 MiB. */
Err tokenizer_encode(const Tokenizer *tokenizer, const char *text, size_t size, TokenIds *out);

/* Appends the bytes the ids stand for; special tokens give nothing, unknown ids are an error. */
Err tokenizer_decode(const Tokenizer *tokenizer, const int32_t *ids, size_t count, Buf *out);

/* Learns a tokenizer for CAD code and writes tokenizer.json: <pad>, <bos>, <eos>, the 256 bytes,
 * whole numbers of up to three digits as single tokens (the most frequent `numbers` of them; "0"
 * may merge into the text around it), then merges. Text between numbers is not split at spaces, so
 * that "], end= [" becomes one token. Deterministic, and independent of the order of the texts.
 * Stops below `vocab` when no pair is left that occurs twice. */
typedef struct TokenizerTraining {
    int vocab;   /* in all, at least 259 + numbers */
    int numbers; /* at most so many number tokens */

    /* Yields the texts one after the other; *text = NULL: the end. */
    Err (*next)(void *context, const char **text, size_t *size);
    void *context;
} TokenizerTraining;

Err tokenizer_train(const TokenizerTraining *training, const char *path);

#endif
