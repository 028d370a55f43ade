/* Text of others on standard output: names of files, messages of workers, what datasets hold. */
#ifndef CADVLM_LAUNCH_SHOWN_H
#define CADVLM_LAUNCH_SHOWN_H

#include "core/json.h"

#include <stddef.h>

/* `text` as one line that no terminal obeys (text_escape), for printf; valid until the eighth call
 * after this one. */
const char *shown(const char *text);

/* Prints text that may have several lines, and ends the last; all else is as above. */
void print_shown(const char *text, size_t size);

/* Prints a JSON value on standard output and frees it; *root becomes NULL. Numbers are
 * exact, in as few digits as possible. */
void cli_print_json(Json **root, JsonLayout layout);

#endif
