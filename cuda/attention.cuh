/* What the attention kernels share: which rows a block works on, tiles of shared memory, and the
 * two matrix products on tensor cores. Included by attention_fwd.cu and attention_bwd.cu (bf16,
 * f16) and attention_plain.cu (f32).
 *
 * A tile is some rows of one head, [rows, D] 16-bit elements, D the head size rounded up to a
 * template's size; what the rounding adds is zero. Tiles are cut into chunks of 16 bytes (8
 * elements) and chunk c of row r lies at place c ^ twist(r) of its row. With the twist, the eight
 * rows that ldmatrix reads at a time, the eight threads that write together and the 32 lanes that
 * stage() results lie in different groups of banks: no bank conflicts, and no padding, for all D
 * here.
 *
 * Every product is mma.m16n8k16 with f32 sums. A warp owns whole rows of its results, 16·MF of
 * them, so that softmax, masks and row sums stay inside the warp, and the sums of one product
 * become the A operand of the next one in registers: the layout of d (rows g, g+8; columns 2t,
 * 2t+1; g = lane/4, t = lane%4) is that of a. MF = 2 reads every B fragment once for two products:
 * an ldmatrix.x4 occupies shared memory for 4 cycles and feeds 2·MF mma, of which the SM does one
 * in 2 cycles (A100) or about 1.6 (H100), so that MF = 1 is bound by shared memory and MF = 2 by
 * the tensor cores.
 *
 * Registers are what limits the sizes: 255 a thread for two blocks of four warps on an SM, and none
 * of the bf16 and f16 kernels spills (nvcc 13.0, sm_80 and sm_90). ptx::forget in the loops is for
 * them: without it the compiler keeps some forty addresses and columns that follow from the lane.
 */
#ifndef CADVLM_CUDA_ATTENTION_CUH
#define CADVLM_CUDA_ATTENTION_CUH

#include "cuda/kernel.cuh"

#include "cuda/cuda_ops.h"

namespace attention {

constexpr int WARPS = 4, THREADS = 32 * WARPS;
constexpr float LOG2E = 1.44269504f, LN2 = 0.69314718f;

/* ---- which rows ---- */

template <typename T> struct Rows {
    T *data;
    int64_t stride;

    __device__ __forceinline__ T *at(int64_t row, int64_t col) const {
        return data + row * stride + col;
    }
};

template <typename T> inline Rows<T> rows_of(Tensor t) {
    return {static_cast<T *>(t.data), t.stride};
}

__device__ __forceinline__ int smaller(int a, int b) {
    return a < b ? a : b;
}

__device__ __forceinline__ int larger(int a, int b) {
    return a > b ? a : b;
}

/* One sequence; the host does not know these numbers. */
struct Sequence {
    int first_q, first_k, queries, keys;
    int ahead; /* query i sees key j if j <= i + ahead; without the causal rule beyond all keys */

    __device__ __forceinline__ Sequence(const AttentionSpec &spec, int i)
        : first_q(spec.starts_q[i]), first_k(spec.starts_k[i]),
          queries(spec.starts_q[i + 1] - first_q),
          keys(spec.lengths_k ? spec.lengths_k[i] : spec.starts_k[i + 1] - first_k),
          ahead(spec.causal ? keys - queries : INT32_MAX / 2) {}

    /* How many keys a query sees: keys 0 … visible - 1. May be negative. */
    __device__ __forceinline__ int visible(int query) const {
        return smaller(keys, query + ahead + 1);
    }
};

/* What the backward pass needs of a query row and head beside the tensors. They lie
 * [heads_q, pitch]; each sequence starts at an even row, so that two rows are 16 aligned bytes. */
struct RowStats {
    float lse2;  /* lse·log2(e); +inf for rows that see no keys: all their weights become 0 */
    float delta; /* Σ dout·out */
};

__device__ __forceinline__ int64_t stats_row(const Sequence &seq, int sequence) {
    return (static_cast<int64_t>(seq.first_q) + 2 * sequence) / 2 * 2;
}

inline int64_t stats_pitch(int64_t rows_q, const AttentionSpec *spec) {
    return (rows_q + 2 * static_cast<int64_t>(spec->sequences) + 1) / 2 * 2;
}

/* The grid is a line of (tile of rows, sequence, head), heads fastest: heads that share keys run
 * side by side, and the kernels put the tiles with most work first, so that the last blocks to run
 * are short ones. Tiles are counted for the longest sequence; blocks behind the end of theirs
 * return. */
struct Place {
    int tile, sequence, head;

    __device__ __forceinline__ Place(int sequences, int heads)
        : tile(static_cast<int>(blockIdx.x) / heads / sequences),
          sequence(static_cast<int>(blockIdx.x) / heads % sequences),
          head(static_cast<int>(blockIdx.x) % heads) {}
};

inline unsigned grid_of(int longest, int tile, int sequences, int heads) {
    int64_t blocks = ceil_div<int64_t>(longest, tile) * sequences * heads;
    CHECK(blocks <= INT32_MAX, "attention: %ld blocks", static_cast<long>(blocks));
    return static_cast<unsigned>(blocks);
}

/* Whether every head's part of every row may be read and written 16 bytes at a time. */
inline bool in_vectors(Tensor t, int head_dim) {
    int size = 16 / static_cast<int>(dtype_size(t.dtype));
    return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && t.stride % size == 0 &&
           head_dim % size == 0;
}

/* ---- tiles ---- */

/* The largest power of two that divides the chunks of a row, at most 8: P rows lie alike in the
 * banks, 8/P rows after each other differ already. */
template <int D> __device__ __forceinline__ constexpr int twist(int row) {
    constexpr int chunks = D / 8, low = chunks & -chunks, p = low < 8 ? low : 8;
    return row / (8 / p) & (p - 1);
}

template <int D> __device__ __forceinline__ int element_of(int row, int chunk) {
    return row * D + (chunk ^ twist<D>(row)) * 8;
}

/* Begins to copy `rows` rows of head_dim elements into a tile of ROWS rows, the rest zero; all
 * threads of the block. Where rows do not lie on 16 bytes (`vectors` false) it copies at once,
 * element by element. */
template <int ROWS, int D, typename T>
__device__ __forceinline__ void load_tile(T *tile, const T *from, int64_t stride, int rows,
                                          int head_dim, bool vectors) {
    constexpr int CHUNKS = D / 8, STEP = THREADS / CHUNKS;
    int thread = static_cast<int>(threadIdx.x);
    ptx::forget(thread); /* not to keep what follows from it in registers between calls */
    int chunk = thread % CHUNKS, first = thread / CHUNKS;
    int cols = head_dim - 8 * chunk; /* that there are from this chunk on */
    if (first >= STEP) return;
    const T *source = from + first * stride + 8 * chunk;
    if (vectors) {
#pragma unroll
        for (int i = 0; i < ROWS; i += STEP, source += STEP * stride) {
            int row = first + i;
            if (ROWS % STEP == 0 || row < ROWS)
                ptx::cp_async16(tile + element_of<D>(row, chunk), source,
                                row < rows && cols > 0 ? 16 : 0);
        }
    } else {
#pragma unroll 1
        for (int row = first; row < ROWS; row += STEP, source += STEP * stride)
#pragma unroll 1
            for (int e = 0; e < 8; e++)
                tile[element_of<D>(row, chunk) + e] =
                    row < rows && e < cols ? source[e] : from_float<T>(0.0f);
    }
}

/* Writes the first `rows` of the ROWS rows of a warp's part of a tile to memory. */
template <int ROWS, int D, typename T>
__device__ __forceinline__ void store_rows(T *to, int64_t stride, const T *tile, int rows,
                                           int head_dim, bool vectors) {
    constexpr int CHUNKS = D / 8;
    for (int i = static_cast<int>(threadIdx.x) % 32; i < ROWS * CHUNKS; i += 32) {
        int row = i / CHUNKS, chunk = i % CHUNKS, cols = smaller(head_dim - 8 * chunk, 8);
        if (row >= rows || cols <= 0) continue;
        const T *from = tile + element_of<D>(row, chunk);
        T *at = to + row * stride + 8 * chunk;
        if (vectors) {
            *reinterpret_cast<uint4 *>(at) = *reinterpret_cast<const uint4 *>(from);
        } else {
            for (int e = 0; e < cols; e++) at[e] = from[e];
        }
    }
}

/* ---- products ---- */

/* A lane's place in a tile for ldmatrix, found once. Rows are counted in eights from there, so the
 * twist stays the lane's; and as step s of D reads chunks 2s and 2s+1, the twist may come on top of
 * 2s by XOR. */
template <typename T, int D> struct Reader {
    const T *row;
    int chunk;

    __device__ __forceinline__ const T *at(int rows, int step) const {
        return row + rows * D + ((2 * step) ^ chunk) * 8;
    }
};

/* Matrices 0 … 3: rows 0-7 and 8-15 of the first chunk, then of the second. As they are: the A
 * operand of those rows. Transposed: two B operands whose k runs over the rows. */
template <int D, typename T>
__device__ __forceinline__ Reader<T, D> read_rows(const T *tile, int lane) {
    int row = lane % 16;
    return {tile + row * D, lane / 16 ^ twist<D>(row)};
}

/* Matrices 0 … 3: rows 0-7 of the first and the second chunk, then rows 8-15: two B operands whose
 * n runs over the rows. */
template <int D, typename T>
__device__ __forceinline__ Reader<T, D> read_cols(const T *tile, int lane) {
    int row = lane % 8 + lane / 16 * 8;
    return {tile + row * D, (lane / 8 % 2) ^ twist<D>(row)};
}

/* A warp's own 16·MF rows as A operand, step by step over D: the first HELD steps kept in
 * registers, the others read each time. */
template <typename T, int D, int MF, int HELD> struct Operand {
    Reader<T, D> reader;
    uint32_t held[HELD ? HELD : 1][MF][4];

    __device__ __forceinline__ void hold(const T *rows, int lane) {
        place(rows, lane);
#pragma unroll
        for (int step = 0; step < HELD; step++)
#pragma unroll
            for (int m = 0; m < MF; m++) ptx::ldmatrix_x4(held[step][m], reader.at(16 * m, step));
    }

    __device__ __forceinline__ void place(const T *rows, int lane) {
        reader = read_rows<D>(rows, lane);
    }

    __device__ __forceinline__ void fragment(uint32_t (&a)[MF][4], int step) const {
#pragma unroll
        for (int m = 0; m < MF; m++) {
            if (step >= HELD) {
                ptx::ldmatrix_x4(a[m], reader.at(16 * m, step));
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++) a[m][i] = held[step][m][i];
            }
        }
    }
};

/* One step of 16 of s[16·MF, 8·NT] += a[16·MF, D] · b[8·NT, D]ᵀ. */
template <typename T, int D, int MF, int NT, int HELD>
__device__ __forceinline__ void scores_step(float (&s)[MF][NT][4], const Operand<T, D, MF, HELD> &a,
                                            const Reader<T, D> &b, int step) {
    uint32_t own[MF][4];
    a.fragment(own, step);
#pragma unroll
    for (int j = 0; j < NT; j += 2) {
        uint32_t r[4];
        ptx::ldmatrix_x4(r, b.at(8 * j, step));
        const uint32_t low[2] = {r[0], r[1]}, high[2] = {r[2], r[3]};
#pragma unroll
        for (int m = 0; m < MF; m++) {
            ptx::mma_16816(s[m][j], own[m], low, T());
            ptx::mma_16816(s[m][j + 1], own[m], high, T());
        }
    }
}

/* sums[16·MF, D] += w[16·MF, 8·NT] · b[8·NT, D]; w in f32, rounded to T here. */
template <typename T, int D, int MF, int NT>
__device__ __forceinline__ void add_weighted(float (&sums)[MF][D / 8][4],
                                             const float (&w)[MF][NT][4], const Reader<T, D> &b) {
#pragma unroll
    for (int i = 0; i < NT; i += 2) {
        uint32_t a[MF][4];
#pragma unroll
        for (int m = 0; m < MF; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const float(&x)[4] = w[m][i + half];
                a[m][2 * half] = pack2(x[0], x[1], T());
                a[m][2 * half + 1] = pack2(x[2], x[3], T());
            }
#pragma unroll
        for (int j = 0; j < D / 8; j += 2) {
            uint32_t r[4];
            ptx::ldmatrix_x4_trans(r, b.at(8 * i, j / 2));
            const uint32_t low[2] = {r[0], r[1]}, high[2] = {r[2], r[3]};
#pragma unroll
            for (int m = 0; m < MF; m++) {
                ptx::mma_16816(sums[m][j], a[m], low, T());
                ptx::mma_16816(sums[m][j + 1], a[m], high, T());
            }
        }
    }
}

/* Puts a warp's sums, times a factor per row, into its own rows of a tile: rounded once. */
template <int D, typename T, int MF>
__device__ __forceinline__ void stage(T *rows, const float (&sums)[MF][D / 8][4],
                                      const float (&factor)[MF][2]) {
    int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int m = 0; m < MF; m++)
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int j = 0; j < D / 8; j++) {
                const float *x = &sums[m][j][2 * half];
                T *to = rows + element_of<D>(16 * m + 8 * half + g, j) + 2 * t;
                *reinterpret_cast<uint32_t *>(to) =
                    pack2(x[0] * factor[m][half], x[1] * factor[m][half], T());
            }
}

/* ---- attention_plain.cu ---- */

void plain_fwd(cudaStream_t stream, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
               const AttentionSpec *spec);
void plain_bwd(cudaStream_t stream, const RowStats *stats, int64_t pitch, Tensor dq, Tensor dk,
               Tensor dv, Tensor dout, Tensor q, Tensor k, Tensor v, const AttentionSpec *spec);

} // namespace attention

#endif
