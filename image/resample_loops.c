/* Compiled once per instruction set (core/CMakeLists.txt) into one table each; plain loops that the
 * compiler turns into its vectors. */
#include "image/resample_loops.h"

#include <string.h>

static void weigh(uint8_t *restrict out, const uint8_t *restrict in, size_t step,
                  const int32_t *restrict weights, int taps) {
    int32_t sums[LANES];
    for (int i = 0; i < LANES; i++) sums[i] = 1 << (WEIGHT_BITS - 1); /* a half: it rounds */
    for (int k = 0; k < taps; k++)
        for (int i = 0; i < LANES; i++) sums[i] += weights[k] * in[(size_t)k * step + (size_t)i];
    for (int i = 0; i < LANES; i++) {
        int32_t value = sums[i] >> WEIGHT_BITS;
        out[i] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
    }
}

/* Swaps the bits of `mask` in b with those `shift` further up in a. */
static inline void swap_bits(uint64_t *a, uint64_t *b, int shift, uint64_t mask) {
    uint64_t change = (*a >> shift ^ *b) & mask;
    *b ^= change;
    *a ^= change << shift;
}

/* 8 × 8 bytes: swaps the quarters that are off the diagonal, of bytes, of pairs, of fours. */
static inline void transpose_tile(uint8_t *restrict out, size_t out_stride,
                                  const uint8_t *restrict in, size_t in_stride) {
    uint64_t rows[8];
    for (size_t r = 0; r < 8; r++) memcpy(&rows[r], in + r * in_stride, 8);
    for (int r = 0; r < 8; r += 2) swap_bits(&rows[r], &rows[r + 1], 8, 0x00ff00ff00ff00ff);
    for (int r = 0; r < 8; r += r % 4 ? 3 : 1)
        swap_bits(&rows[r], &rows[r + 2], 16, 0x0000ffff0000ffff);
    for (int r = 0; r < 4; r++) swap_bits(&rows[r], &rows[r + 4], 32, 0x00000000ffffffff);
    for (size_t r = 0; r < 8; r++) memcpy(out + r * out_stride, &rows[r], 8);
}

static void transpose(uint8_t *restrict out, size_t out_stride, const uint8_t *restrict in,
                      size_t in_stride, int rows, int columns) {
    for (size_t x = 0; x < (size_t)columns; x += 8)
        for (size_t y = 0; y < (size_t)rows; y += 8)
            transpose_tile(out + x * out_stride + y, out_stride, in + y * in_stride + x, in_stride);
}

const ResampleLoops RESAMPLE_LOOPS = {RESAMPLE_LOOPS_NAME, weigh, transpose};
