/* The inner loops of resizing, compiled for several instruction sets. Private to the image module.
 *
 * Both passes are the same sum: an output is a weighted sum of `taps` inputs `step` bytes apart,
 * for LANES outputs side by side. Down a column of pixels these lie side by side in memory. For a
 * pass along the rows, LANES rows are transposed first, so that a lane is a row. */
#ifndef CADVLM_IMAGE_RESAMPLE_LOOPS_H
#define CADVLM_IMAGE_RESAMPLE_LOOPS_H

#include <stddef.h>
#include <stdint.h>

enum {
    LANES = 64,      /* of 8 bits: the sums of 512-bit registers four at a time */
    WEIGHT_BITS = 22 /* a weight of 1 is 1 << 22: with 8 bits of pixel, 2 are left for overshoot */
};

typedef struct ResampleLoops {
    const char *name;

    /* out[lane] = Σ_k weights[k] · in[k · step + lane], rounded and clipped to 0..255. */
    void (*weigh)(uint8_t *out, const uint8_t *in, size_t step, const int32_t *weights, int taps);

    /* out[x · out_stride + y] = in[y · in_stride + x], of `rows` × `columns` bytes; both are
     * multiples of 8. */
    void (*transpose)(uint8_t *out, size_t out_stride, const uint8_t *in, size_t in_stride,
                      int rows, int columns);
} ResampleLoops;

extern const ResampleLoops resample_loops_base;
#ifdef __x86_64__
extern const ResampleLoops resample_loops_avx2, resample_loops_avx512;
#endif

#endif
