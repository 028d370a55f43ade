/* Dropout, with the numbers of core/rng.h. Included by kernels.c only.
 *
 * Element (row, col) is dropped where number col % 8 of rng_mask(key, row, col / 8) is below the
 * threshold. */

#ifdef __AVX512BF16__

enum { MASK_BLOCKS = 8, MASK_NUMBERS = 8 * MASK_BLOCKS }; /* that are drawn at a time */

/* Which of 64 numbers, from block `first` of a row on, are at or above the threshold. A block is a
 * lane of 64 bits, whose upper halves hold leftovers that no multiplication reads. Lanes are in the
 * order 0 4 1 5 2 6 3 7, so that the words end up side by side (six instructions a round for eight
 * blocks: a third of a cycle an element, where plain loops took two). */
static inline uint64_t draw_kept(uint64_t key, uint64_t row, uint64_t first, uint16_t threshold) {
    const __m512i m0 = _mm512_set1_epi64(RNG_PHILOX_M0), m1 = _mm512_set1_epi64(RNG_PHILOX_M1),
                  order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    __m512i c0 = _mm512_add_epi64(_mm512_set1_epi64((int64_t)first), order),
            c1 = _mm512_srli_epi64(c0, 32), c2 = _mm512_set1_epi64((int64_t)row),
            c3 = _mm512_set1_epi64((int64_t)(row >> 32));
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
#pragma GCC unroll 7
    for (int round = 0; round < RNG_MASK_ROUNDS; round++) {
        __m512i p0 = _mm512_mul_epu32(c0, m0), p1 = _mm512_mul_epu32(c2, m1);
        c0 = _mm512_xor_si512(_mm512_xor_si512(_mm512_srli_epi64(p1, 32), c1),
                              _mm512_set1_epi64(k0));
        c2 = _mm512_xor_si512(_mm512_xor_si512(_mm512_srli_epi64(p0, 32), c3),
                              _mm512_set1_epi64(k1));
        c1 = p1;
        c3 = p0;
        k0 += RNG_PHILOX_W0;
        k1 += RNG_PHILOX_W1;
    }
    const __mmask16 upper = 0xAAAA; /* the upper half of each lane */
    __m512i low = _mm512_mask_blend_epi32(upper, c0, _mm512_slli_epi64(c1, 32)),
            high = _mm512_mask_blend_epi32(upper, c2, _mm512_slli_epi64(c3, 32)),
            least = _mm512_set1_epi16((short)threshold);
    uint64_t front = _mm512_cmpge_epu16_mask(_mm512_unpacklo_epi64(low, high), least),
             back = _mm512_cmpge_epu16_mask(_mm512_unpackhi_epi64(low, high), least);
    return front | back << 32;
}

/* factor[i] = keep or 0, for a row of n. */
static void draw_factors(float *factor, int64_t n, uint64_t key, uint64_t row, uint16_t threshold,
                         float keep) {
    __m512 value = _mm512_set1_ps(keep);
    for (int64_t i = 0; i < n; i += MASK_NUMBERS) {
        uint64_t kept = draw_kept(key, row, (uint64_t)(i / 8), threshold);
        for (int64_t k = i; k < n && k < i + MASK_NUMBERS; k += 16, kept >>= 16) {
            __mmask16 lanes = n - k >= 16 ? 0xffff : (__mmask16)((1u << (n - k)) - 1);
            _mm512_mask_storeu_ps(factor + k, lanes, _mm512_maskz_mov_ps((__mmask16)kept, value));
        }
    }
}

/* A row of bf16, of n elements, a multiple of 64: nothing goes through memory. */
static void dropout_run(uint16_t *out, const uint16_t *x, int64_t n, uint64_t key, uint64_t row,
                        uint16_t threshold, float keep, bool accumulating) {
    __m512 value = _mm512_set1_ps(keep);
    for (int64_t i = 0; i < n; i += MASK_NUMBERS) {
        uint64_t kept = draw_kept(key, row, (uint64_t)(i / 8), threshold);
        for (int half = 0; half < MASK_NUMBERS; half += 32) {
            __m512 y[2];
            for (int k = 0; k < 2; k++, kept >>= 16) {
                int64_t at = i + half + 16 * k;
                __m512 factor = _mm512_maskz_mov_ps((__mmask16)kept, value);
                __m512 from = widen16(x + at);
                y[k] = accumulating ? _mm512_fmadd_ps(from, factor, widen16(out + at))
                                    : _mm512_mul_ps(from, factor);
            }
            _mm512_storeu_si512(out + i + half, (__m512i)_mm512_cvtne2ps_pbh(y[1], y[0]));
        }
    }
}

#else

enum { MASK_LANES = 16 }; /* blocks of eight numbers that are drawn at a time */

/* rng_mask of blocks first, first + 1, … of a row, side by side in vector lanes. */
static void draw_masks(uint16_t out[8 * MASK_LANES], uint64_t key, uint64_t row, uint64_t first) {
    uint32_t c0[MASK_LANES], c1[MASK_LANES], c2[MASK_LANES], c3[MASK_LANES], words[4 * MASK_LANES];
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (uint32_t i = 0; i < MASK_LANES; i++) {
        c0[i] = (uint32_t)(first + i);
        c1[i] = (uint32_t)((first + i) >> 32);
        c2[i] = (uint32_t)row;
        c3[i] = (uint32_t)(row >> 32);
    }
    for (int round = 0; round < RNG_MASK_ROUNDS; round++) {
#pragma omp simd
        for (int i = 0; i < MASK_LANES; i++) {
            uint64_t p0 = (uint64_t)RNG_PHILOX_M0 * c0[i], p1 = (uint64_t)RNG_PHILOX_M1 * c2[i];
            c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0;
            c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
            c1[i] = (uint32_t)p1;
            c3[i] = (uint32_t)p0;
        }
        k0 += RNG_PHILOX_W0;
        k1 += RNG_PHILOX_W1;
    }
    for (int i = 0; i < MASK_LANES; i++) {
        words[4 * i] = c0[i];
        words[4 * i + 1] = c1[i];
        words[4 * i + 2] = c2[i];
        words[4 * i + 3] = c3[i];
    }
    for (int i = 0; i < 4 * MASK_LANES; i++) {
        out[2 * i] = (uint16_t)words[i];
        out[2 * i + 1] = (uint16_t)(words[i] >> 16);
    }
}

/* factor[i] = keep or 0, for a row of n. */
static void draw_factors(float *factor, int64_t n, uint64_t key, uint64_t row, uint16_t threshold,
                         float keep) {
    for (int64_t i = 0; i < n; i += 8 * MASK_LANES) {
        uint16_t numbers[8 * MASK_LANES];
        draw_masks(numbers, key, row, (uint64_t)(i / 8));
        int64_t here = n - i < 8 * MASK_LANES ? n - i : 8 * MASK_LANES;
        for (int64_t k = 0; k < here; k++) factor[i + k] = numbers[k] < threshold ? 0 : keep;
    }
}

#endif

static void dropout_rows(float *line, int64_t first, int64_t count, Tensor out, Tensor x,
                         Dropout dropout, bool accumulating) {
    int64_t n = x.cols;
    float keep = 1.0f / (1.0f - dropout.p);
    uint16_t threshold = rng_mask_threshold(dropout.p);
    for (int64_t r = first; r < first + count; r++) {
#ifdef __AVX512BF16__
        if (x.dtype == DT_BF16 && n % MASK_NUMBERS == 0) {
            dropout_run((uint16_t *)out.data + r * out.stride,
                        (const uint16_t *)x.data + r * x.stride, n, dropout.key, (uint64_t)r,
                        threshold, keep, accumulating);
            continue;
        }
#endif
        const float *in = row_read(line, x, r);
        float *factor = line + n;
        draw_factors(factor, n, dropout.key, (uint64_t)r, threshold, keep);
        const float *old = accumulating ? row_read(line + 2 * n, out, r) : NULL;
        float *y = row_begin(line + 3 * n, out, r);
        if (accumulating)
            for (int64_t i = 0; i < n; i++) y[i] = old[i] + in[i] * factor[i];
        else
            for (int64_t i = 0; i < n; i++) y[i] = in[i] * factor[i];
        row_end(y, out, r);
    }
}
