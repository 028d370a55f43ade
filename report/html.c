#include "report/html.h"

#include <stdint.h>
#include <string.h>

#include "core/base64.h"
#include "core/text.h"

static const char *escape_of(unsigned char c) {
    switch (c) {
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '&': return "&amp;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

void html_bytes(Buf *out, const void *bytes, size_t size) {
    static const char replacement[] = "\xef\xbf\xbd";
    const char *at = bytes;
    for (size_t length; size; at += length, size -= length) {
        TextKind kind = text_kind(at, size, &length);
        const char *escape = escape_of((unsigned char)*at);
        if (escape)
            buf_text(out, escape);
        else if (kind == TEXT_PLAIN || *at == '\t' || *at == '\n')
            buf_append(out, at, length);
        else
            buf_text(out, replacement);
    }
}

void html_text(Buf *out, const char *text) {
    if (text) html_bytes(out, text, strlen(text));
}

void html_format(Buf *out, const char *format, ...) {
    Buf text = {0};
    va_list args;
    va_start(args, format);
    buf_vformat(&text, format, args);
    va_end(args);
    html_bytes(out, buf_cstr(&text), text.size);
    buf_free(&text);
}

void html_tag(Buf *out, const char *tag, const char *classes, const char *text) {
    buf_format(out, "<%s", tag);
    if (classes) buf_format(out, " class=\"%s\"", classes);
    buf_text(out, ">");
    html_text(out, text);
    buf_format(out, "</%s>", tag);
}

bool html_png(Buf *out, const char *description, const void *bytes, size_t size) {
    static const unsigned char signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    if (size < sizeof signature || memcmp(bytes, signature, sizeof signature) != 0) return false;
    buf_text(out, "<img alt=\"");
    html_text(out, description);
    buf_text(out, "\" src=\"data:image/png;base64,");
    base64_append(out, bytes, size);
    buf_text(out, "\">");
    return true;
}
