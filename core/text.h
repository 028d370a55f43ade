/* Small questions about text, and text from outside made fit to be shown and kept. */
#ifndef CADVLM_CORE_TEXT_H
#define CADVLM_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

/* The candidate nearest to `word` by edit distance, when it is near enough to be a slip of the pen;
 * else NULL. */
const char *text_nearest(const char *word, const char *const *candidates, int count);

bool text_ends_with(const char *text, const char *end);

/* The bytes of the byte order mark that UTF-8 text begins with: 3, or 0 where there is none. */
size_t text_mark_size(const char *text, size_t size);

/* Whether the text begins as UTF-16 does: with that encoding's byte order mark. */
bool text_is_utf16(const char *text, size_t size);

/* ---- characters ---- */

/* Bytes of the UTF-8 character at the front of `text` (size ≥ 1): 1 to 4, or 0 when there is no
 * well-formed one (overlong forms, surrogates and numbers over U+10FFFF are not). */
size_t utf8_length(const char *text, size_t size);

/* The number of a well-formed character of `length` bytes. */
uint32_t utf8_code(const char *text, size_t length);

typedef enum TextKind {
    TEXT_PLAIN,
    TEXT_CONTROL, /* C0 with its line ends, DEL, C1: a terminal may obey it */
    TEXT_HIDDEN,  /* separators of lines and paragraphs, marks of writing direction: what is shown
                     is not what is there */
    TEXT_BROKEN   /* a byte that is no UTF-8 */
} TextKind;

/* What stands at the front of `text` (size ≥ 1), and how many bytes it has. */
TextKind text_kind(const char *text, size_t size, size_t *length);

/* UTF-8 without control characters: what files keep and read again. */
bool text_is_sound(const char *text);

/* ---- text that others wrote ---- */

/* Copies `text` so that it is UTF-8 on one line that no terminal obeys: all that is not plain is
 * written out (\n, \x1b, \u202e; a byte that is no UTF-8 as \xe9). What does not fit is left out,
 * never a part of a character. A second time changes nothing. Names that are kept go through here
 * where they enter; errors and log lines do so by themselves. */
void text_escape(char *out, size_t size, const char *text);
void text_escape_some(char *out, size_t size, const char *text, size_t length);

/* Appends such a character written out: `length` bytes of `kind`, not plain. */
void text_escape_one(Buf *out, const char *text, size_t length, TextKind kind);

/* Appends `text` as UTF-8: bytes that are none are written out, all else is kept. */
void text_repair(Buf *out, const char *text);

/* A few texts, borrowed: what an option that may be given several times collects. */
enum { TEXTS_MAX = 64 };
typedef struct Texts {
    const char *items[TEXTS_MAX];
    int count;
} Texts;

#endif
