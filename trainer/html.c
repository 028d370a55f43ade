#include "trainer/html.h"

#include <stdint.h>
#include <string.h>

#include "core/base64.h"

/* The length of the UTF-8 sequence at `at`; 0 where there is none (RFC 3629, table 3-7 of Unicode:
 * no overlong forms, no surrogates). */
static size_t utf8_length(const unsigned char *at, size_t left) {
    static const struct {
        unsigned char first_low, first_high, second_low, second_high;
        size_t length;
    } forms[] = {{0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
                 {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3},
                 {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
                 {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (at[0] < forms[i].first_low || at[0] > forms[i].first_high) continue;
        if (left < forms[i].length || at[1] < forms[i].second_low || at[1] > forms[i].second_high)
            return 0;
        for (size_t k = 2; k < forms[i].length; k++)
            if (at[k] < 0x80 || at[k] > 0xbf) return 0;
        return forms[i].length;
    }
    return 0;
}

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
    const unsigned char *at = bytes;
    while (size) {
        const char *escape = escape_of(*at);
        size_t length = *at >= 0x80 ? utf8_length(at, size) : 1;
        bool control = (*at < 0x20 && *at != '\t' && *at != '\n') || *at == 0x7f;
        if (escape)
            buf_text(out, escape);
        else if (length == 0 || control)
            buf_text(out, replacement);
        else
            buf_append(out, at, length);
        if (length == 0) length = 1;
        at += length;
        size -= length;
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
