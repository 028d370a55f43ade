/* Text; see the header. */
#include "core/text.h"

#include <stdio.h>
#include <string.h>

enum { WORD_MAX = 63 };

/* Edit distance with swaps of neighbours (optimal string alignment). */
static int distance(const char *a, const char *b) {
    int rows[3][WORD_MAX + 1];
    int la = (int)strlen(a), lb = (int)strlen(b);
    if (la > WORD_MAX || lb > WORD_MAX) return WORD_MAX;
    for (int j = 0; j <= lb; j++) rows[0][j] = j;
    for (int i = 1; i <= la; i++) {
        int *now = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= lb; j++) {
            int best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best) best = last[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
    }
    return rows[la % 3][lb];
}

const char *text_nearest(const char *word, const char *const *candidates, int count) {
    const char *best = NULL;
    int length = (int)strlen(word);
    int best_distance = length / 3 + 2; /* further away is another word */
    for (int i = 0; i < count; i++) {
        int d = distance(word, candidates[i]);
        if (d < best_distance) {
            best_distance = d;
            best = candidates[i];
        }
    }
    return best;
}

bool text_ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

size_t text_mark_size(const char *text, size_t size) {
    return size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

bool text_is_utf16(const char *text, size_t size) {
    return size >= 2 && (memcmp(text, "\xFF\xFE", 2) == 0 || memcmp(text, "\xFE\xFF", 2) == 0);
}

/* ---- characters ---- */

size_t utf8_length(const char *text, size_t size) {
    const uint8_t *t = (const uint8_t *)text;
    if (t[0] < 0x80) return 1;
    size_t length = t[0] >= 0xF0 ? 4 : t[0] >= 0xE0 ? 3 : 2;
    if (t[0] < 0xC2 || t[0] > 0xF4 || length > size) return 0;
    for (size_t i = 1; i < length; i++)
        if ((t[i] & 0xC0) != 0x80) return 0;
    if (t[0] == 0xE0 && t[1] < 0xA0) return 0; /* overlong */
    if (t[0] == 0xED && t[1] > 0x9F) return 0; /* surrogate */
    if (t[0] == 0xF0 && t[1] < 0x90) return 0; /* overlong */
    if (t[0] == 0xF4 && t[1] > 0x8F) return 0; /* over U+10FFFF */
    return length;
}

uint32_t utf8_code(const char *text, size_t length) {
    static const uint8_t masks[] = {0x7F, 0x1F, 0x0F, 0x07}; /* of the first byte */
    uint32_t code = (uint8_t)text[0] & masks[length - 1];
    for (size_t i = 1; i < length; i++) code = code << 6 | ((uint8_t)text[i] & 0x3F);
    return code;
}

/* U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069: directions (Unicode, UAX 9); U+2028
 * and U+2029 end a line and a paragraph. */
static bool is_hidden(uint32_t code) {
    return code == 0x061C || code == 0x200E || code == 0x200F ||
           (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}

TextKind text_kind(const char *text, size_t size, size_t *length) {
    size_t bytes = utf8_length(text, size);
    *length = bytes ? bytes : 1;
    if (!bytes) return TEXT_BROKEN;
    uint32_t code = utf8_code(text, bytes);
    if (code < 0x20 || (code >= 0x7F && code < 0xA0)) return TEXT_CONTROL;
    return is_hidden(code) ? TEXT_HIDDEN : TEXT_PLAIN;
}

bool text_is_sound(const char *text) {
    for (size_t left = strlen(text), length; left; text += length, left -= length) {
        TextKind kind = text_kind(text, left, &length);
        if (kind == TEXT_CONTROL || kind == TEXT_BROKEN) return false;
    }
    return true;
}

/* ---- text that others wrote ---- */

enum { WRITTEN_OUT = 12 }; /* room for one character that is written out */

static size_t write_out(char out[WRITTEN_OUT], const char *text, size_t length, TextKind kind) {
    uint32_t code = kind == TEXT_BROKEN ? (uint8_t)text[0] : utf8_code(text, length);
    if (code == '\n' || code == '\r' || code == '\t')
        return (size_t)snprintf(out, WRITTEN_OUT, "\\%c",
                                code == '\n'   ? 'n'
                                : code == '\r' ? 'r'
                                               : 't');
    bool byte = code < 0x80 || kind == TEXT_BROKEN; /* C1 is \u009b: no byte of that value */
    return (size_t)snprintf(out, WRITTEN_OUT, byte ? "\\x%02x" : "\\u%04x", (unsigned)code);
}

void text_escape(char *out, size_t size, const char *text) {
    text_escape_some(out, size, text, strlen(text));
}

void text_escape_some(char *out, size_t size, const char *text, size_t left) {
    char written[WRITTEN_OUT];
    size_t used = 0;
    for (size_t length; left; text += length, left -= length) {
        TextKind kind = text_kind(text, left, &length);
        const char *add = kind == TEXT_PLAIN ? text : written;
        size_t bytes = kind == TEXT_PLAIN ? length : write_out(written, text, length, kind);
        if (used + bytes >= size) break;
        memcpy(out + used, add, bytes);
        used += bytes;
    }
    if (size) out[used] = 0;
}

void text_escape_one(Buf *out, const char *text, size_t length, TextKind kind) {
    char written[WRITTEN_OUT];
    buf_append(out, written, write_out(written, text, length, kind));
}

void text_repair(Buf *out, const char *text) {
    for (size_t left = strlen(text), length; left; text += length, left -= length) {
        TextKind kind = text_kind(text, left, &length);
        if (kind == TEXT_BROKEN)
            text_escape_one(out, text, length, kind);
        else
            buf_append(out, text, length);
    }
}
