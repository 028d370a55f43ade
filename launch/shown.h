/* Text of others on standard output: names of files, messages of workers, what datasets hold. */
#ifndef CADVLM_LAUNCH_SHOWN_H
#define CADVLM_LAUNCH_SHOWN_H

#include <stddef.h>

/* `text` as one line that no terminal obeys (text_escape), for printf; valid until the eighth call
 * after this one. */
const char *shown(const char *text);

/* Prints text that may have several lines, and ends the last; all else is as above. */
void print_shown(const char *text, size_t size);

#endif
