/* A growable run of bytes, always followed by a zero so that it can be read as text. */
#ifndef CADVLM_CORE_BUF_H
#define CADVLM_CORE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct Buf {
    char *data; /* NULL while empty */
    size_t size;
    size_t capacity;
} Buf;

/* Memory for a Buf is small beside what it describes: running out aborts (CHECK). */
void buf_reserve(Buf *buf, size_t extra);
void buf_append(Buf *buf, const void *bytes, size_t size);
void buf_text(Buf *buf, const char *text);
void buf_format(Buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vformat(Buf *buf, const char *format, va_list args);
void buf_clear(Buf *buf); /* keeps the memory */
void buf_free(Buf *buf);  /* leaves an empty Buf */

/* The text so far; "" for an empty Buf. */
const char *buf_cstr(const Buf *buf);

#endif
