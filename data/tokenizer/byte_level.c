/* Bytes as letters, and white space. */
#include "data/tokenizer/byte_level.h"

#include <stdint.h>

static bool stands_for_itself(int byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

enum { LETTERS = 256 + 68 }; /* code points of all letters lie below */

/* Byte → letter and back (-1: no byte). */
static void make_tables(uint16_t letters[256], int16_t bytes[LETTERS]) {
    for (int i = 0; i < LETTERS; i++) bytes[i] = -1;
    int next = 256;
    for (int byte = 0; byte < 256; byte++) {
        letters[byte] = (uint16_t)(stands_for_itself(byte) ? byte : next++);
        bytes[letters[byte]] = (int16_t)byte;
    }
}

void byte_level_write(Buf *out, const void *bytes, size_t size) {
    uint16_t letters[256];
    int16_t back[LETTERS];
    make_tables(letters, back);
    for (size_t i = 0; i < size; i++) {
        unsigned code = letters[((const uint8_t *)bytes)[i]];
        char utf8[2] = {(char)(0xC0 | code >> 6), (char)(0x80 | (code & 0x3F))};
        if (code < 0x80)
            buf_append(out, &(char){(char)code}, 1);
        else
            buf_append(out, utf8, 2); /* all letters lie below U+0800 */
    }
}

bool byte_level_read(Buf *out, const char *text, size_t size) {
    uint16_t letters[256];
    int16_t bytes[LETTERS];
    make_tables(letters, bytes);
    for (size_t i = 0; i < size;) {
        size_t length = utf8_length(text + i, size - i);
        if (length != 1 && length != 2) return false;
        unsigned code = (uint8_t)text[i];
        if (length == 2) code = (code & 0x1F) << 6 | ((uint8_t)text[i + 1] & 0x3F);
        if (code >= LETTERS || bytes[code] < 0) return false;
        buf_append(out, &(char){(char)bytes[code]}, 1);
        i += length;
    }
    return true;
}

/* U+0009 to U+000D, U+001C to U+0020, U+0085, U+00A0, U+1680, U+2000 to U+200A, U+2028, U+2029,
 * U+202F, U+205F, U+3000. */
size_t utf8_space(const char *text, size_t size) {
    const uint8_t *t = (const uint8_t *)text;
    if (!size) return 0;
    if (t[0] < 0x80) return (t[0] >= 9 && t[0] <= 13) || (t[0] >= 0x1C && t[0] <= 0x20);
    if (size >= 2 && t[0] == 0xC2) return t[1] == 0x85 || t[1] == 0xA0 ? 2 : 0;
    if (size < 3 || t[0] < 0xE1 || t[0] > 0xE3) return 0;
    unsigned code = (t[0] & 0x0Fu) << 12 | (t[1] & 0x3Fu) << 6 | (t[2] & 0x3Fu);
    bool space = code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
                 code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
    return space && utf8_length(text, size) == 3 ? 3 : 0;
}

void utf8_strip_front(const char **text, size_t *size) {
    for (size_t length; (length = utf8_space(*text, *size)) > 0;) {
        *text += length;
        *size -= length;
    }
}

void utf8_strip_end(const char *text, size_t *size) {
    for (size_t length = 1; length <= 3 && length <= *size;) {
        if (utf8_space(text + *size - length, length) == length) {
            *size -= length;
            length = 1;
        } else {
            length++;
        }
    }
}
