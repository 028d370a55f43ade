/* Attention, forward: out = softmax(scale · q · kᵀ) · v without the matrix of scores ever being in
 * memory (FlashAttention-2: Dao 2023).
 *
 * Floor: 4·D FLOPs per query head and visible pair (2·D for q·kᵀ, 2·D for p·v); bytes: q, k, v, out
 * once, 2·D·(2·Tq·Hq + 2·Tk·Hk), little beside the FLOPs from some hundred keys on. So bound by the
 * tensor cores; exp2 (16 a cycle and SM) takes 0.6 of the mma's time at D = 64 on an H100, in other
 * warps' shadow.
 *
 * Distance from the floor by count: at 2,048 causal queries warps of 32 rows do tiles of 64 keys
 * with 1.03 times the visible pairs. D = 64, a warp and tile: 128 mma, 32 ldmatrix.x4, 64 each of
 * exp2, ffma, fadd, fmnmx, 32 cvt, about 120 others; 430 issue slots beside 128 mma of 4 to 6.5
 * cycles. Keys and values come from L2 once per 128 queries and query head. Head sizes that are no
 * template's pay for the template's: 72 runs as 80. One query (generation) costs what 16·MF cost; a
 * split over the keys is not written yet.
 *
 * exp2 domain: with c = scale·log2(e), p = 2^(c·s - reference). The reference need not be the row's
 * maximum, only near it: sums and out move to a new one only when some score goes beyond the old
 * one by 2^LAZY (as in FlashAttention-4), which after the first tile almost never happens. So the
 * common tile has no shuffles and no rescaling: one vote. Weights stay below 2^LAZY, where bf16 and
 * f16 round as they do below 1: only the order of roundings changes. */
#include <float.h>
#include <math.h>

#include "cuda/attention.cuh"
#include "cuda/switches.h"

namespace attention {

template <typename T> struct Forward {
    Rows<T> out;
    Rows<float> lse;
    Rows<const T> q, k, v;
    AttentionSpec spec;
    bool vectors;
};

constexpr float LAZY = 8;

/* Sizes by head size: rows of queries 64·MF, keys in tiles of N, two tiles of keys and values in
 * turn. HELD: so many steps of 16 of the head
 * size of the queries stay in registers. Shared memory for D = 64: 48 KB; 80: 60; 128: 64; 256: 96.
 */
template <int D> struct ForwardSize {
    static constexpr int MF = D <= 128 ? 2 : 1, M = 16 * MF * WARPS, N = D <= 80 ? 64 : 32;
    static constexpr int HELD = D == 128 ? 2 : D == 256 ? 6 : D / 16;
    static constexpr size_t shared = 2 * static_cast<size_t>(D) * (M + 4 * N);
};

/* A block has M queries of one head, a warp 16·MF of them; a thread rows g and g+8 of each 16. */
template <typename T, int D>
__global__ void __launch_bounds__(THREADS, 2) attention_fwd_kernel(Forward<T> p) {
    typedef ForwardSize<D> Size;
    constexpr int M = Size::M, N = Size::N, MF = Size::MF, NT = N / 8;
    const AttentionSpec &spec = p.spec;
    Place place(spec.sequences, spec.heads_q);
    Sequence seq(spec, place.sequence);
    int first = (ceil_div(spec.longest_q, M) - 1 - place.tile) * M;
    if (first >= seq.queries) return;

    int lane = static_cast<int>(threadIdx.x) % 32;
    int rows = smaller(seq.queries - first, M),
        own = static_cast<int>(threadIdx.x) / 32 * 16 * MF; /* the warp's first row */
    int col_q = place.head * spec.head_dim,
        col_k = place.head / (spec.heads_q / spec.heads_k) * spec.head_dim;
    DYN_SHARED(T, queries);
    T *keys = queries + M * D, *values = keys + 2 * N * D;

    auto load_keys = [&](int slot, int at) {
        load_tile<N, D>(keys + slot, p.k.at(seq.first_k + at, col_k), p.k.stride, seq.keys - at,
                        spec.head_dim, p.vectors);
        load_tile<N, D>(values + slot, p.v.at(seq.first_k + at, col_k), p.v.stride, seq.keys - at,
                        spec.head_dim, p.vectors);
        ptx::cp_async_commit();
    };
    load_tile<M, D>(queries, p.q.at(seq.first_q + first, col_q), p.q.stride, rows, spec.head_dim,
                    p.vectors);
    load_keys(0, 0);
    ptx::cp_async_wait<0>();
    __syncthreads();

    Operand<T, D, MF, Size::HELD> q;
    q.hold(queries + own * D, lane);
    float out[MF][D / 8][4] = {}, sum[MF][2] = {}, reference[MF][2];
#pragma unroll
    for (int m = 0; m < MF; m++) reference[m][0] = reference[m][1] = -FLT_MAX;
    float c = spec.scale * LOG2E;
    /* What the warp's first row sees needs no mask; what its last one does not see, no work; nor do
     * rows behind the sequence's end. */
    int all_see = seq.visible(first + own),
        some_see = own < rows ? seq.visible(first + own + 16 * MF - 1) : 0;

    int end = seq.visible(first + rows - 1);
    for (int at = 0, slot = 0; at < end; at += N, slot ^= N * D) {
        ptx::cp_async_wait<0>();
        __syncthreads(); /* the tile is there, and no warp is at the one before it any more */
        if (at + N < end) load_keys(slot ^ (N * D), at + N);
        if (at >= some_see) continue;

        /* What follows from the lane (addresses, rows, columns) is cheaper made anew for each tile
         * than kept in registers. */
        int again = static_cast<int>(threadIdx.x) % 32;
        ptx::forget(again);
        int g = again / 4, t = again % 4;
        q.place(queries + own * D, again);
        float s[MF][NT][4] = {};
        Reader<T, D> k = read_cols<D>(keys + slot, again);
#pragma unroll
        for (int step = 0; step < D / 16; step++) scores_step(s, q, k, step);

        if (at + N > all_see) {
#pragma unroll
            for (int m = 0; m < MF; m++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    int unseen =
                        seq.visible(first + own + 16 * m + i / 2 * 8 + g) - at - 2 * t - i % 2;
#pragma unroll
                    for (int j = 0; j < NT; j++)
                        if (8 * j >= unseen) s[m][j][i] = -INFINITY;
                }
        }

        float top[MF][2];
        bool beyond = false;
#pragma unroll
        for (int m = 0; m < MF; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float x = -INFINITY;
#pragma unroll
                for (int j = 0; j < NT; j++)
                    x = fmaxf(x, fmaxf(s[m][j][2 * half], s[m][j][2 * half + 1]));
                top[m][half] = x * c;
                beyond |= top[m][half] > reference[m][half] + LAZY;
            }
        if (__any_sync(FULL_MASK, beyond)) {
#pragma unroll
            for (int m = 0; m < MF; m++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    float x = top[m][half];
                    x = fmaxf(x, __shfl_xor_sync(FULL_MASK, x, 1));
                    x = fmaxf(x, __shfl_xor_sync(FULL_MASK, x, 2));
                    x = fmaxf(x, reference[m][half]);
                    float shrink = ptx::exp2_fast(reference[m][half] - x);
                    reference[m][half] = x;
                    sum[m][half] *= shrink;
#pragma unroll
                    for (int j = 0; j < D / 8; j++) {
                        out[m][j][2 * half] *= shrink;
                        out[m][j][2 * half + 1] *= shrink;
                    }
                }
        }
#pragma unroll
        for (int m = 0; m < MF; m++)
#pragma unroll
            for (int j = 0; j < NT; j++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    s[m][j][i] = ptx::exp2_fast(s[m][j][i] * c - reference[m][i / 2]);
                    sum[m][i / 2] += s[m][j][i];
                }
        add_weighted(out, s, read_rows<D>(values + slot, again));
    }

    float inverse[MF][2];
#pragma unroll
    for (int m = 0; m < MF; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int row = own + 16 * m + 8 * half + lane / 4;
            float x = sum[m][half];
            x += __shfl_xor_sync(FULL_MASK, x, 1);
            x += __shfl_xor_sync(FULL_MASK, x, 2);
            /* A row that sees no keys is 0. One whose scores were all -inf, and only that has the
             * sum 0 too, is not a number. */
            bool sees = seq.visible(first + row) > 0;
            inverse[m][half] = x != 0 ? 1.0f / x : sees ? NAN : 0.0f;
            if (p.lse.data && lane % 4 == 0 && row < rows)
                *p.lse.at(seq.first_q + first + row, place.head) =
                    x != 0 ? (reference[m][half] + log2f(x)) * LN2
                    : sees ? NAN
                           : -INFINITY;
        }
    /* The warp's queries are not needed any more: their place takes its rows of the result. */
    __syncwarp();
    T *staged = queries + own * D;
    stage<D>(staged, out, inverse);
    __syncwarp();
    store_rows<16 * MF, D>(p.out.at(seq.first_q + first + own, col_q), p.out.stride, staged,
                           rows - own, spec.head_dim, p.vectors);
}

template <typename T, int D> static void forward_sized(cudaStream_t stream, const Forward<T> &p) {
    typedef ForwardSize<D> Size;
    const AttentionSpec &spec = p.spec;
    unsigned blocks = grid_of(spec.longest_q, Size::M, spec.sequences, spec.heads_q);
    if (blocks == 0) return;
    allow_shared(attention_fwd_kernel<T, D>, Size::shared);
    LAUNCH((attention_fwd_kernel<T, D>), blocks, THREADS, Size::shared, stream, p);
}

template <typename T>
static void forward(cudaStream_t stream, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                    const AttentionSpec *spec) {
    int d = spec->head_dim;
    Forward<T> p = {rows_of<T>(out),
                    rows_of<float>(lse),
                    rows_of<const T>(q),
                    rows_of<const T>(k),
                    rows_of<const T>(v),
                    *spec,
                    in_vectors(out, d) && in_vectors(q, d) && in_vectors(k, d) && in_vectors(v, d)};
    CHECK(d >= 1 && d <= 256, "attention: head size %d, at most 256 is written", d);
    if (d <= 32) return forward_sized<T, 32>(stream, p);
    if (d <= 64) return forward_sized<T, 64>(stream, p);
    if (d <= 80) return forward_sized<T, 80>(stream, p);
    if (d <= 128) return forward_sized<T, 128>(stream, p);
    forward_sized<T, 256>(stream, p);
}

} // namespace attention

void cuda_attention_fwd(cudaStream_t stream, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                        const AttentionSpec *spec) {
    if (q.dtype == DT_F32 || cuda_switches()->plain_attention)
        return attention::plain_fwd(stream, out, lse, q, k, v, spec);
    if (q.dtype == DT_BF16) return attention::forward<bf16>(stream, out, lse, q, k, v, spec);
    attention::forward<f16>(stream, out, lse, q, k, v, spec);
}
