/* Small questions about text. */
#ifndef CADVLM_CORE_TEXT_H
#define CADVLM_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* The candidate nearest to `word` by edit distance, when it is near enough to be a slip of the pen;
 * else NULL. */
const char *text_nearest(const char *word, const char *const *candidates, int count);

bool text_ends_with(const char *text, const char *end);

/* The bytes of the byte order mark that UTF-8 text begins with: 3, or 0 where there is none. */
size_t text_mark_size(const char *text, size_t size);

/* Whether the text begins as UTF-16 does: with that encoding's byte order mark. */
bool text_is_utf16(const char *text, size_t size);

#endif
