/* A growable run of bytes. */
#include "core/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"

void buf_reserve(Buf *buf, size_t extra) {
    CHECK(extra < SIZE_MAX / 4 - buf->size, "%zu bytes more than %zu", extra, buf->size);
    size_t needed = buf->size + extra + 1;
    if (needed <= buf->capacity) return;
    size_t capacity = buf->capacity ? buf->capacity : 64;
    while (capacity < needed) capacity *= 2;
    char *data = realloc(buf->data, capacity);
    CHECK(data, "out of memory: %zu bytes", capacity);
    buf->data = data;
    buf->capacity = capacity;
    buf->data[buf->size] = 0; /* text also before anything is appended */
}

void buf_append(Buf *buf, const void *bytes, size_t size) {
    buf_reserve(buf, size);
    if (size) memcpy(buf->data + buf->size, bytes, size);
    buf->size += size;
    buf->data[buf->size] = 0;
}

void buf_text(Buf *buf, const char *text) {
    buf_append(buf, text, strlen(text));
}

void buf_vformat(Buf *buf, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    CHECK(length >= 0, "format %s", format);
    buf_reserve(buf, (size_t)length);
    vsnprintf(buf->data + buf->size, (size_t)length + 1, format, again);
    va_end(again);
    buf->size += (size_t)length;
}

void buf_format(Buf *buf, const char *format, ...) {
    va_list args;
    va_start(args, format);
    buf_vformat(buf, format, args);
    va_end(args);
}

void buf_clear(Buf *buf) {
    buf->size = 0;
    if (buf->data) buf->data[0] = 0;
}

void buf_free(Buf *buf) {
    free(buf->data);
    *buf = (Buf){0};
}

const char *buf_cstr(const Buf *buf) {
    return buf->data ? buf->data : "";
}
