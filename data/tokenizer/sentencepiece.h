/* SentencePiece models (tokenizer.model) as plain data, read and checked; data/tokenizer/spm.c
 * makes a tokenizer of them. Private to the data module.
 *
 * Why not the library: libsentencepiece 0.1.97 trusts the file. It searches the trie of a character
 * map without bounds (of 3,000 unigram models with some bytes changed, one ended in a segmentation
 * fault), it turns bytes that are not UTF-8 into U+FFFD, and every call builds a message with texts
 * and offsets where only numbers are wanted. The format is a protobuf message of few fields, and
 * joining pairs by rank is what data/tokenizer/bpe.h does for other tokenizers anyway. */
#ifndef CADVLM_DATA_TOKENIZER_SENTENCEPIECE_H
#define CADVLM_DATA_TOKENIZER_SENTENCEPIECE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"

/* The numbers are the format's. */
typedef enum PieceType {
    PIECE_NORMAL = 1,   /* made by joining */
    PIECE_UNKNOWN,      /* stands for what has no piece */
    PIECE_CONTROL,      /* <s>, </s>: never made from text */
    PIECE_USER_DEFINED, /* taken out of the text as a whole, the longest first */
    PIECE_UNUSED,
    PIECE_BYTE, /* <0x00> … <0xFF>: characters without a piece are spelt with them */
} PieceType;

typedef struct SentencePiece {
    const char *text; /* in the file's bytes; a space is U+2581 */
    size_t size;
    float score; /* of two pairs of neighbours the one whose piece has the higher score is joined */
    PieceType type;
} SentencePiece;

enum { PIECE_SIZE_MAX = 1024 }; /* bytes; trained pieces have at most 16 to 64 letters */

/* The pieces borrow the bytes that the model was read from. */
typedef struct SentencePieceModel {
    SentencePiece *pieces;
    size_t count;
    bool dummy_prefix; /* a space is put in front of every text */
} SentencePieceModel;

/* Reads a model, and refuses by name what could not be encoded exactly: another algorithm than BPE,
 * a character map, spaces that are taken away, missing byte pieces. `name` opens error sentences.
 */
Err sentencepiece_read(SentencePieceModel *model, const char *bytes, size_t size, const char *name);
void sentencepiece_free(SentencePieceModel *model);

/* The byte that "<0x0A>" stands for, or -1. */
int sentencepiece_byte(const char *text, size_t size);

#endif
