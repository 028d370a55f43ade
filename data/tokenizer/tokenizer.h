/* Byte-pair tokenizers, as the models' folders have them.
 *
 *     tokenizer.model           SentencePiece BPE with byte fallback: Llama-2 (with legacy on or
 *                               off), Gemma
 *     tokenizer.json            Hugging Face's tokenizers: byte-level BPE (our own are of this
 *                               kind) and the fast forms of Llama and Gemma
 *     vocab.json, merges.txt    byte-level BPE: CodeGen (Phi-2), GPT-2
 *
 * and beside them tokenizer_config.json, special_tokens_map.json, added_tokens.json. In a folder
 * that has several of them the first of this list is read: the OpenECAD models were made with
 * use_fast=False, the tokenizer of tokenizer.model. Ids are those of transformers 4.39.3 and
 * tokenizers 0.15.1; what is not understood is refused by name. docs/formats.md says what is, and
 * where the reference is not followed.
 *
 * Every input can be encoded: every byte has a token. */
#ifndef CADVLM_DATA_TOKENIZER_TOKENIZER_H
#define CADVLM_DATA_TOKENIZER_TOKENIZER_H

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

/* Opens a folder, or one of the files above with what lies beside it; any other name is read as a
 * tokenizer.json. */
Err tokenizer_open(Tokenizer **tokenizer, const char *path);

/* From the text of a tokenizer.json; `name` opens error sentences. */
Err tokenizer_parse(Tokenizer **tokenizer, const char *text, size_t size, const char *name);
void tokenizer_close(Tokenizer **tokenizer);

/* The names that the files of a tokenizer can have, ended by NULL. */
extern const char *const tokenizer_files[];

/* Copies the files of the tokenizer at `path` (as for tokenizer_open) into a folder, so that
 * tokenizer_open of that folder gives the same one. A single .json file becomes tokenizer.json. */
Err tokenizer_copy(const char *path, const char *folder);

int tokenizer_vocab(const Tokenizer *tokenizer); /* largest id + 1 */

/* The ids of the special tokens; -1 where there is none. */
int tokenizer_bos(const Tokenizer *tokenizer);
int tokenizer_eos(const Tokenizer *tokenizer);
int tokenizer_pad(const Tokenizer *tokenizer);
int tokenizer_unk(const Tokenizer *tokenizer);
int tokenizer_id(const Tokenizer *tokenizer, const char *token); /* any token by its content; -1 */

/* Models of this tokenizer are used to texts that start with the token bos (tokenizer_config.json:
 * add_bos_token). Encoding adds none: it is the template's. */
bool tokenizer_adds_bos(const Tokenizer *tokenizer);

/* ERR_CONFIG where the tokenizer has ids that the model has no row for. A model with more rows is
 * fine (Phi-2: 51200 for 50295 tokens). `where` opens the sentence. */
Err tokenizer_check_model(const Tokenizer *tokenizer, int64_t model_vocab, const char *where);

/* Appends the ids of `text`; nothing is added at the ends. Special tokens written in the text are
 * text (a drawing's code cannot forge them). Safe from several threads. Fails only when the file
 * has a pattern that takes too long on this text, or the text is longer than 256 MiB. */
Err tokenizer_encode(const Tokenizer *tokenizer, const char *text, size_t size, TokenIds *out);

/* The same, but special tokens written in the text become those tokens, as in the reference. For
 * text that can be trusted. */
Err tokenizer_encode_special(const Tokenizer *tokenizer, const char *text, size_t size,
                             TokenIds *out);

/* Appends the bytes that the ids of one text stand for; special tokens give nothing, unknown ids
 * are an error. A space that encoding puts in front of a text is taken off again, so this gives
 * back what was encoded (but U+2581, SentencePiece's sign for a space, comes back as a space). */
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
