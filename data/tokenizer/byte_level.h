/* The letters that stand for bytes in a byte-level tokenizer file, and white space in text.
 *
 * GPT-2's table: printable Latin-1 bytes stand for themselves, the other 68 for the letters from
 * U+0100 on, so that a token can be written in JSON without control characters or spaces. */
#ifndef CADVLM_DATA_TOKENIZER_BYTE_LEVEL_H
#define CADVLM_DATA_TOKENIZER_BYTE_LEVEL_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"
#include "core/text.h"

/* Appends the letters that stand for `bytes`, as UTF-8. */
void byte_level_write(Buf *out, const void *bytes, size_t size);

/* Appends the bytes that the letters of `text` stand for; false when one stands for none. */
bool byte_level_read(Buf *out, const char *text, size_t size);

/* Bytes of the white space (as Python's str.strip() has it) at the front of `text`, or 0. */
size_t utf8_space(const char *text, size_t size);

/* Takes white space away at the front or at the end. */
void utf8_strip_front(const char **text, size_t *size);
void utf8_strip_end(const char *text, size_t *size);

#endif
