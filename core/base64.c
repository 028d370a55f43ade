#include "core/base64.h"

static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_append(Buf *out, const void *bytes, size_t size) {
    const unsigned char *at = bytes;
    buf_reserve(out, (size + 2) / 3 * 4);
    for (; size; at += 3) {
        size_t here = size < 3 ? size : 3;
        unsigned three = (unsigned)at[0] << 16;
        if (here > 1) three |= (unsigned)at[1] << 8;
        if (here > 2) three |= at[2];
        char four[4] = {DIGITS[three >> 18], DIGITS[three >> 12 & 63], DIGITS[three >> 6 & 63],
                        DIGITS[three & 63]};
        for (size_t pad = here + 1; pad < 4; pad++) four[pad] = '=';
        buf_append(out, four, sizeof four);
        size -= here;
    }
}
