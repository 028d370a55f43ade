/* Where code stands in what a model or a person wrote. Answers wrap it in markdown fences, with
 * prose around them; some hold several blocks, a fence that is never closed, or one that only
 * closes. So every piece between fences is a place to look at, and which one is the program is
 * decided by parsing them. */
#ifndef CADVLM_CAD_LANGUAGE_BLOCKS_H
#define CADVLM_CAD_LANGUAGE_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>

enum { CODE_BLOCKS_MAX = 64 };

/* Lines and columns count from 1, columns in bytes. */
typedef struct Place {
    int line, column;
} Place;

/* A piece of the text, without its fences and what a fence says about its language. */
typedef struct CodeBlock {
    const char *text; /* in the text itself, not zero-ended */
    size_t size;
    Place place; /* where it begins */
    bool fenced; /* between a fence that opens and one that closes, or the end */
} CodeBlock;

/* The pieces that are not blank, in order; a text without fences is one piece. Returns how many, at
 * most CODE_BLOCKS_MAX: the last of so many reaches to the end. A byte order mark is left out. */
int code_blocks(CodeBlock blocks[CODE_BLOCKS_MAX], const char *text, size_t size);

#endif
