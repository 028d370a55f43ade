/* Products in tile registers; see the header.
 *
 * The inner loop keeps a block of 32 × 32 sums in four tiles and reads two tiles of the left
 * operand, straight from the matrix where its layout allows, and two of the right one, which lie
 * packed in the order of use. Around it, a strip of the left operand (32 rows, DEPTH of the inner
 * dimension: 16 KB) stays in the first cache while the packed columns stream by from the second,
 * and the sums of AMX_BLOCK rows wait there as well. (Measured on one Sapphire Rapids core beside
 * others' work, which does 3.2 TFLOP/s in its tiles alone: 1.6 with DEPTH 256, 1.5 with 192 or 384,
 * 1.3 without blocks; AMX_BLOCK 512: 1.5, 1024: 1.3.) */
#include "ops/cpu/amx.h"

#include <immintrin.h>
#include <stdalign.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    TILE = 16, /* rows of a tile; 32-bit columns too */
    STEP = 32, /* of the inner dimension in a tile: pairs of bf16 */
    TILE_ELEMENTS = TILE * STEP,
    STEP_ELEMENTS = 2 * TILE_ELEMENTS, /* of a strip */
    DEPTH = 256,
    SUMS = AMX_STRIP * AMX_STRIP,
    LINE = 64, /* bytes of a cache line, and of a tile's row */
    /* Rows that are so far apart fall on one set of the first cache: they are copied first. */
    BAD_STRIDE = 2048
};

enum { ARCH_REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* of arch_prctl (Linux 5.16) */

bool amx_ready(void) {
    uint32_t a = 0, b = 0, c = 0, d = 0;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (a < 7) return false;
    a = 7, c = 0;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    bool bf16 = d >> 22 & 1, tiles = d >> 24 & 1;
    return bf16 && tiles && syscall(SYS_arch_prctl, ARCH_REQUEST_PERMISSION, TILE_DATA) == 0;
}

/* All eight tiles of 16 rows of 64 bytes. */
static void tiles_begin(void) {
    struct [[gnu::packed]] {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    for (int i = 0; i < 8; i++) shape.bytes[i] = LINE, shape.rows[i] = TILE;
    _tile_loadconfig(&shape);
}

/* ---- packing ---- */

#define UNROLL _Pragma("GCC unroll 16")

/* A tile of pairs, t[row] = pairs 0 … 15 of line `row`, becomes t[pair] = lines 0 … 15. */
static inline void transpose(__m512i t[TILE]) {
    __m512i u[TILE];
    UNROLL
    for (int i = 0; i < TILE; i += 2) { /* pairs of rows, then of pairs, … */
        u[i] = _mm512_unpacklo_epi32(t[i], t[i + 1]);
        u[i + 1] = _mm512_unpackhi_epi32(t[i], t[i + 1]);
    }
    UNROLL
    for (int i = 0; i < TILE; i += 4) {
        t[i] = _mm512_unpacklo_epi64(u[i], u[i + 2]);
        t[i + 1] = _mm512_unpackhi_epi64(u[i], u[i + 2]);
        t[i + 2] = _mm512_unpacklo_epi64(u[i + 1], u[i + 3]);
        t[i + 3] = _mm512_unpackhi_epi64(u[i + 1], u[i + 3]);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        u[i] = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88);
        u[i + 4] = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd);
        u[i + 8] = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88);
        u[i + 12] = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(u[i], u[i + 8], 0x88);
        t[i + 8] = _mm512_shuffle_i32x4(u[i], u[i + 8], 0xdd);
        t[i + 4] = _mm512_shuffle_i32x4(u[i + 4], u[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(u[i + 4], u[i + 12], 0xdd);
    }
}

/* The first n of 32 lanes; n may be beyond either end. */
static inline __mmask32 lanes32(int64_t n) {
    return n >= 32 ? ~0u : n <= 0 ? 0 : (1u << n) - 1;
}

/* Lines `row` … of o from number k on: t[i] = 32 numbers of line row + i, zeros beyond. */
static inline void load_lines(__m512i t[TILE], const AmxOperand *o, int64_t row, int64_t k) {
    const uint16_t *from = o->data + row * o->stride + k;
    if (o->rows - row >= TILE && o->inner - k >= STEP) {
        UNROLL
        for (int i = 0; i < TILE; i++) t[i] = _mm512_loadu_si512(from + i * o->stride);
        return;
    }
    __mmask32 lanes = lanes32(o->inner - k);
    for (int i = 0; i < TILE; i++)
        t[i] = row + i < o->rows ? _mm512_maskz_loadu_epi16(lanes, from + i * o->stride)
                                 : _mm512_setzero_si512();
}

/* The same of 32 lines that lie `inner_first`, as pairs: t[i] = numbers k + 2i and k + 2i + 1 of
 * lines row … row + 15, u[i] of the sixteen after them. */
static inline void load_pairs(__m512i t[TILE], __m512i u[TILE], const AmxOperand *o, int64_t row,
                              int64_t k) {
    const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23),
                  second = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29,
                                             30, 31);
    __mmask32 lanes = lanes32(o->rows - row);
    const uint16_t *from = o->data + k * o->stride + row;
    UNROLL
    for (int i = 0; i < TILE; i++) {
        int64_t at = k + 2 * i;
        const uint16_t *pair = from + 2 * i * o->stride;
        __m512i even =
                    at < o->inner ? _mm512_maskz_loadu_epi16(lanes, pair) : _mm512_setzero_si512(),
                odd = at + 1 < o->inner ? _mm512_maskz_loadu_epi16(lanes, pair + o->stride)
                                        : _mm512_setzero_si512();
        __m512i low = _mm512_unpacklo_epi16(even, odd), high = _mm512_unpackhi_epi16(even, odd);
        t[i] = _mm512_permutex2var_epi32(low, first, high);
        u[i] = _mm512_permutex2var_epi32(low, second, high);
    }
}

static inline void store_tile(uint16_t *to, const __m512i t[TILE]) {
    UNROLL
    for (int i = 0; i < TILE; i++) _mm512_store_si512(to + i * STEP, t[i]);
}

static int64_t steps_of(int64_t inner) {
    return (inner + STEP - 1) / STEP;
}

static int64_t strips_of(int64_t lines) {
    return (lines + AMX_STRIP - 1) / AMX_STRIP;
}

int64_t amx_packed(int64_t lines, int64_t inner) {
    return strips_of(lines) * steps_of(inner) * STEP_ELEMENTS;
}

/* By strips of 32 columns; in a strip by steps of 32 numbers; in a step two tiles of 16 columns
 * whose rows are pairs. */
void amx_pack_right(uint16_t *packed, const AmxOperand *right, int64_t first, int64_t count) {
    AmxOperand part = *right;
    part.rows = first + count;
    bool by_steps = part.layout == AMX_INNER_FIRST; /* in the order of memory */
    int64_t steps = steps_of(part.inner), strips = strips_of(count);
    for (int64_t i = 0; i < steps * strips; i++) {
        int64_t strip = by_steps ? i % strips : i / steps, step = by_steps ? i / strips : i % steps;
        int64_t row = first + strip * AMX_STRIP, k = step * STEP;
        uint16_t *to = packed + (strip * steps + step) * STEP_ELEMENTS;
        __m512i t[TILE], u[TILE];
        if (part.layout == AMX_INNER_FIRST) {
            load_pairs(t, u, &part, row, k);
            store_tile(to, t);
            store_tile(to + TILE_ELEMENTS, u);
        } else {
            load_lines(t, &part, row, k);
            transpose(t);
            store_tile(to, t);
            load_lines(u, &part, row + TILE, k);
            transpose(u);
            store_tile(to + TILE_ELEMENTS, u);
        }
    }
}

/* Numbers k … k + depth - 1 of 32 lines: two tiles of 16 lines for each step. */
static void pack_strip(uint16_t *packed, const AmxOperand *left, int64_t row, int64_t k,
                       int64_t depth) {
    for (int64_t end = k + depth; k < end; k += STEP, packed += STEP_ELEMENTS) {
        __m512i t[TILE], u[TILE];
        if (left->layout == AMX_INNER_FIRST) {
            load_pairs(t, u, left, row, k);
            transpose(t);
            store_tile(packed, t);
            transpose(u);
            store_tile(packed + TILE_ELEMENTS, u);
        } else {
            load_lines(t, left, row, k);
            store_tile(packed, t);
            load_lines(t, left, row + TILE, k);
            store_tile(packed + TILE_ELEMENTS, t);
        }
    }
}

void amx_pack_left(uint16_t *packed, const AmxOperand *left, int64_t first, int64_t count) {
    AmxOperand part = *left;
    part.rows = first + count;
    for (int64_t row = first; row < part.rows; row += AMX_STRIP) {
        pack_strip(packed, &part, row, 0, part.inner);
        packed += steps_of(part.inner) * STEP_ELEMENTS;
    }
}

/* ---- the inner loop ---- */

/* A strip of the left operand as the tiles read it. */
typedef struct Strip {
    const uint16_t *rows; /* of the first tile */
    int64_t second;       /* from there to the second tile */
    int64_t stride;       /* bytes from row to row */
    int64_t step;         /* elements from step to step */
    const char *next;     /* of what is read after it, or NULL; fetched line by line, */
    int64_t next_stride;  /* four rows with each block of sums */
} Strip;

enum { NEXT_ROWS = AMX_STRIP / (AMX_PANEL / AMX_STRIP) };

/* Where a block of 32 × 32 sums is: four tiles, of which `right` and `below` are the distances. */
typedef struct Block {
    float *sums;
    int64_t stride; /* bytes from row to row of a tile */
    int64_t right, below;
} Block;

static Block scratch_block(float *sums) {
    return (Block){sums, LINE, TILE * TILE, 2 * TILE * TILE};
}

/* block = (or += unless `fresh`) strip · the packed columns, `steps` long. */
static inline void multiply_strip(const Block *block, const Strip *s, const uint16_t *packed,
                                  int64_t steps, bool fresh, const char *next) {
    float *sums = block->sums, *below = sums + block->below;
    if (fresh) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, sums, block->stride);
        _tile_loadd(1, sums + block->right, block->stride);
        _tile_loadd(2, below, block->stride);
        _tile_loadd(3, below + block->right, block->stride);
    }
    const uint16_t *a = s->rows, *b = s->rows + s->second;
#pragma GCC unroll 1 /* unrolled, its addresses do not fit the registers: 15 % slower */
    for (int64_t i = 0; i < steps; i++) {
        if (next)
            for (int r = 0; r < NEXT_ROWS; r++)
                _mm_prefetch(next + r * s->next_stride + i * LINE, _MM_HINT_T1);
        _tile_loadd(6, packed, LINE);
        _tile_loadd(4, a, s->stride);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, packed + TILE_ELEMENTS, LINE);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, b, s->stride);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        a += s->step;
        b += s->step;
        packed += STEP_ELEMENTS;
    }
    _tile_stored(0, sums, block->stride);
    _tile_stored(1, sums + block->right, block->stride);
    _tile_stored(2, below, block->stride);
    _tile_stored(3, below + block->right, block->stride);
}

/* ---- the result ---- */

static inline __m512 widen16(__mmask16 lanes, const uint16_t *from) {
    __m512i words = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
}

/* Sixteen rows of a block from [row, col] of c on; `left` and `right` are the tiles of its columns:
 * scale, bias, what is there, and rounded once. A row of c is written as whole lines. */
[[gnu::always_inline]] static inline void finish_rows(const AmxResult *r, const float *left,
                                                      const float *right, int64_t row, int64_t col,
                                                      bool narrow, bool accumulate) {
    __mmask32 lanes = lanes32(r->c.cols - col);
    __mmask16 low = (__mmask16)lanes, high = (__mmask16)(lanes >> 16);
    int64_t rows = r->c.rows - row < TILE ? r->c.rows - row : TILE;
    __m512 scale = _mm512_set1_ps(r->scale), zero = _mm512_setzero_ps(),
           bias_low = r->bias ? widen16(low, r->bias + col) : zero,
           bias_high = r->bias ? widen16(high, r->bias + col + TILE) : zero;
    int64_t stride = r->c.stride, at = row * stride + col;
    for (int64_t i = 0; i < rows; i++, at += stride, left += TILE, right += TILE) {
        __m512 x = _mm512_fmadd_ps(_mm512_load_ps(left), scale, bias_low),
               y = _mm512_fmadd_ps(_mm512_load_ps(right), scale, bias_high);
        if (narrow) {
            uint16_t *to = (uint16_t *)r->c.data + at;
            if (accumulate) {
                x = _mm512_add_ps(x, widen16(low, to));
                y = _mm512_add_ps(y, widen16(high, to + TILE));
            }
            _mm512_mask_storeu_epi16(to, lanes, (__m512i)_mm512_cvtne2ps_pbh(y, x));
        } else {
            float *to = (float *)r->c.data + at;
            if (accumulate) {
                x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(low, to));
                y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(high, to + TILE));
            }
            _mm512_mask_storeu_ps(to, low, x);
            _mm512_mask_storeu_ps(to + TILE, high, y);
        }
    }
}

static void turn_tile(float *to, const float *from) {
    __m512i t[TILE];
    UNROLL
    for (int i = 0; i < TILE; i++) t[i] = _mm512_load_si512(from + i * TILE);
    transpose(t);
    UNROLL
    for (int i = 0; i < TILE; i++) _mm512_store_si512(to + i * TILE, t[i]);
}

/* The block of sums of left's lines `row` … and right's lines `col` …, into c. */
static void finish(const AmxResult *r, const float *sums, int64_t row, int64_t col) {
    alignas(LINE) float turned[SUMS];
    if (r->transposed) { /* tiles 0 1 / 2 3 become 0ᵀ 2ᵀ / 1ᵀ 3ᵀ */
        for (int tile = 0; tile < 4; tile++)
            turn_tile(turned + (tile % 2 * 2 + tile / 2) * TILE * TILE, sums + tile * TILE * TILE);
        sums = turned;
        int64_t swap = row;
        row = col;
        col = swap;
    }
    for (int half = 0; half < 2; half++, row += TILE, sums += 2 * TILE * TILE) {
        const float *right = sums + TILE * TILE;
        bool narrow = r->c.dtype == DT_BF16;
        if (narrow && r->accumulate)
            finish_rows(r, sums, right, row, col, true, true);
        else if (narrow)
            finish_rows(r, sums, right, row, col, true, false);
        else
            finish_rows(r, sums, right, row, col, false, r->accumulate);
    }
}

/* Asks for the lines of c that finish will write. */
static inline void expect(const AmxResult *r, int64_t row, int64_t col) {
    if (r->transposed) {
        int64_t swap = row;
        row = col;
        col = swap;
    }
    int64_t rows = r->c.rows - row < AMX_STRIP ? r->c.rows - row : AMX_STRIP;
    size_t element = dtype_size(r->c.dtype);
    const char *at = (const char *)r->c.data + (size_t)(row * r->c.stride + col) * element;
    for (int64_t i = 0; i < rows; i++, at += (size_t)r->c.stride * element) {
        __builtin_prefetch(at, 1);
        if (r->c.dtype == DT_F32) __builtin_prefetch(at + LINE, 1);
    }
}

/* ---- blocks ---- */

size_t amx_scratch_bytes(void) {
    return (size_t)AMX_BLOCK * AMX_PANEL * sizeof(float) +
           (size_t)AMX_STRIP * DEPTH * sizeof(uint16_t);
}

/* Lines row … of left, numbers k … k + depth - 1: in place where that can be, else copied. */
static Strip strip_of(uint16_t *memory, const AmxOperand *left, int64_t row, int64_t k,
                      int64_t depth) {
    if (left->layout == AMX_PACKED)
        return (Strip){.rows = left->data + row * steps_of(left->inner) * STEP + k * AMX_STRIP,
                       .second = TILE_ELEMENTS,
                       .stride = LINE,
                       .step = STEP_ELEMENTS};
    bool whole = row + AMX_STRIP <= left->rows && depth % STEP == 0;
    if (whole && left->layout == AMX_LINES && left->stride * 2 % BAD_STRIDE) {
        Strip s = {.rows = left->data + row * left->stride + k,
                   .second = TILE * left->stride,
                   .stride = left->stride * (int64_t)sizeof(uint16_t),
                   .step = STEP};
        if (row + 2 * AMX_STRIP <= left->rows) {
            s.next = (const char *)(s.rows + AMX_STRIP * left->stride);
            s.next_stride = s.stride;
        }
        return s;
    }
    pack_strip(memory, left, row, k, depth);
    return (Strip){.rows = memory, .second = TILE_ELEMENTS, .stride = LINE, .step = STEP_ELEMENTS};
}

static Block plain_block(Tensor c, int64_t row, int64_t col) {
    return (Block){(float *)c.data + row * c.stride + col, c.stride * (int64_t)sizeof(float), TILE,
                   TILE * c.stride};
}

/* Whether sums are the result as they are. */
static bool is_plain(const AmxResult *r) {
    return r->c.dtype == DT_F32 && !r->transposed && !r->bias && !r->accumulate && r->scale == 1;
}

void amx_multiply(void *scratch, const AmxResult *result, const AmxOperand *left, int64_t row,
                  int64_t rows, const uint16_t *packed, int64_t packed_inner, int64_t col,
                  int64_t cols) {
    float *sums = scratch;
    uint16_t *copy = (uint16_t *)(sums + AMX_BLOCK * AMX_PANEL);
    AmxOperand part = *left;
    part.rows = row + rows;
    int64_t inner = left->inner, strip_elements = steps_of(packed_inner) * STEP_ELEMENTS,
            strips = strips_of(cols);
    bool once = inner <= DEPTH;            /* sums need not wait for a second round, */
    bool plain = once && is_plain(result); /* and go straight where they belong */
    tiles_begin();
    for (int64_t end = row + rows; row < end; row += AMX_BLOCK) {
        int64_t last = row + AMX_BLOCK < end ? row + AMX_BLOCK : end;
        for (int64_t k = 0, depth; k < inner; k += depth) {
            depth = inner - k < DEPTH ? inner - k : DEPTH;
            bool whole = k + depth == inner;
            for (int64_t r = row; r < last; r += AMX_STRIP) {
                Strip s = strip_of(copy, &part, r, k, depth);
                for (int64_t n = 0; n < strips; n++) {
                    int64_t at = col + n * AMX_STRIP;
                    bool direct = plain && r + AMX_STRIP <= last && (n + 1) * AMX_STRIP <= cols;
                    Block block =
                        direct
                            ? plain_block(result->c, r, at)
                            : scratch_block(sums + (once ? 0 : (r - row) * AMX_PANEL + n * SUMS));
                    if (whole && !direct) expect(result, r, at);
                    multiply_strip(&block, &s, packed + n * strip_elements + k * AMX_STRIP,
                                   steps_of(depth), k == 0,
                                   s.next ? s.next + n * NEXT_ROWS * s.next_stride : NULL);
                    if (whole && !direct) finish(result, block.sums, r, at);
                }
            }
        }
    }
    _tile_release();
}
