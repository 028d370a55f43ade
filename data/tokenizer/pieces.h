/* Cuts text into the pieces that a byte-pair tokenizer encodes one by one (its "pre-tokenizer"). */
#ifndef CADVLM_DATA_TOKENIZER_PIECES_H
#define CADVLM_DATA_TOKENIZER_PIECES_H

#include <stddef.h>

#include "core/err.h"

/* One way of cutting: wherever a pattern matches, the match and what lies between two matches are
 * pieces of their own. Immutable, so safe from several threads. */
typedef struct Splitter Splitter;

/* A regular expression in UTF mode. Classes are Unicode's (\w, \s, \d); where they differ between
 * PCRE2 and the engine of Hugging Face's library (combining marks in \w, U+180E in \s), PCRE2's
 * hold. `where` opens the error sentence. */
Err splitter_regex(Splitter **splitter, const char *pattern, size_t size, const char *where);
Err splitter_text(Splitter **splitter, const char *text, size_t size, const char *where);
void splitter_free(Splitter **splitter);

enum { SPLITTERS_MAX = 16 };

/* Takes one piece (never empty); an error ends the cutting. */
typedef Err (*PieceTaker)(void *context, const char *piece, size_t size);

/* Cuts `text` by splitters[0], each piece of that by splitters[1], … Bytes that are not UTF-8 are
 * pieces of their own, which no splitter sees. An error when an expression takes too long. */
Err pieces_each(Splitter *const *splitters, int count, const char *text, size_t size,
                PieceTaker taker, void *context);

/* GPT-2's expression, which ByteLevel means by use_regex. */
extern const char pieces_gpt2_pattern[];

/* The expression of our own tokenizers: a number outside an identifier (with its minus, without
 * its fraction) is a piece, a fraction is a piece, and so is all text between them. "0" stays in
 * the text around it: most zeros of CAD code are part of a phrase ("normal= [0., 0., 1.]"). */
extern const char pieces_cad_pattern[];

#endif
