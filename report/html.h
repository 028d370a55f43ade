/* Writing HTML: whatever a text holds, it stays text. */
#ifndef CADVLM_REPORT_HTML_H
#define CADVLM_REPORT_HTML_H

#include "core/buf.h"

/* Appends `size` bytes as text: < > & " ' are escaped; what is not plain (core/text.h), tab and
 * newline apart, becomes U+FFFD. Safe between tags and inside quoted attributes. */
void html_bytes(Buf *out, const void *bytes, size_t size);
void html_text(Buf *out, const char *text); /* NULL: nothing */
void html_format(Buf *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends <tag class="classes">text</tag>; tag and classes are ours, the text is anybody's. */
void html_tag(Buf *out, const char *tag, const char *classes, const char *text);

/* Appends <img> with the picture inside; nothing when the bytes are not those of a PNG file. */
bool html_png(Buf *out, const char *description, const void *bytes, size_t size);

#endif
