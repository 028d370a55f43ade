/* For processors that are not x86: no tiles. Nothing but amx_ready is ever called. */
#include "ops/cpu/amx.h"

bool amx_ready(void) {
    return false;
}

int64_t amx_packed(int64_t lines, int64_t inner) {
    (void)lines, (void)inner;
    return 0;
}

size_t amx_scratch_bytes(void) {
    return 0;
}

void amx_pack_right(uint16_t *packed, const AmxOperand *right, int64_t first, int64_t count) {
    (void)packed, (void)right, (void)first, (void)count;
    CHECK(false, "no tiles here");
}

void amx_pack_left(uint16_t *packed, const AmxOperand *left, int64_t first, int64_t count) {
    (void)packed, (void)left, (void)first, (void)count;
    CHECK(false, "no tiles here");
}

void amx_multiply(void *scratch, const AmxResult *result, const AmxOperand *left, int64_t row,
                  int64_t rows, const uint16_t *packed, int64_t packed_inner, int64_t col,
                  int64_t cols) {
    (void)scratch, (void)result, (void)left, (void)row, (void)rows;
    (void)packed, (void)packed_inner, (void)col, (void)cols;
    CHECK(false, "no tiles here");
}
