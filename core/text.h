/* Small questions about text. */
#ifndef CADVLM_CORE_TEXT_H
#define CADVLM_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* The candidate nearest to `word` by edit distance, when it is near enough to be a slip of the pen;
 * else NULL. */
const char *text_nearest(const char *word, const char *const *candidates, int count);

bool text_ends_with(const char *text, const char *end);

#endif
