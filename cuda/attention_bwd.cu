/* Attention, backward: dq, dk, dv from dout, with the weights computed again (FlashAttention-2: Dao
 * 2023). With c = scale·log2(e), per query row and head:
 *
 *   s = q·kᵀ,  p = 2^(c·s - lse·log2(e)),  dp = dout·vᵀ,  delta = Σ dout·out,  ds = p ∘ (dp -
 * delta) dv = pᵀ·dout,  dk = scale·dsᵀ·q,  dq = scale·ds·k
 *
 * One kernel, two sides. A block owns rows of one side and walks over the other side's tiles: on
 * the side of keys it owns k and v of one key head, walks over q and dout of its group of query
 * heads and sums dk and dv; on the side of queries it owns q and dout, walks over k and v and sums
 * dq. On both sides the scores come out as [own rows, passing rows], so that p and ds go from the
 * sums of one product into the next without leaving the warp's registers: no shared memory for
 * them, and one barrier a tile, for the pipeline. No two blocks add to one place: deterministic.
 *
 * dq by a pass of its own, or in parts? With T = 2,048 causal queries, D = 64, 24 query and 6 key
 * heads, a product (s, dp, dv, dk or dq) is T²/2·24·2·64 = 6.4 GFLOP. Tiles of 128 keys.
 *   (a) A pass for dq that computes s and dp again: 7 products, 45 GFLOP; no memory but delta.
 *   (b) 5 products, 32 GFLOP, and each tile of keys writes its part of dq in f32 to memory: 8.5
 *       tiles see a query on average, 8.5·2,048·24·64·4 = 107 MB out and 107 MB back in for each
 *       sequence, and scratch that grows with T².
 * On an H200, at 400 TFLOP/s and 4.8 TB/s, (a) costs 32 µs of products and (b) 45 µs of traffic,
 * and the scratch of (b) grows with T² where (a) has none. So (a).
 *
 * Floor: 10·D FLOPs per query head and visible pair; bytes: q, k, v, out, dout read, dq, dk, dv
 * written once, 2·D·(4·Tq·Hq + 4·Tk·Hk); bound by the tensor cores. Distance from it by count: 7
 * products for 5, and 1.015 times the visible pairs at 2,048 causal queries: 1.42. D = 64, a warp
 * and 32·32 pairs: on the side of queries 96 mma and 24 ldmatrix.x4, on the side of keys 128 and
 * 48; 32 each of exp2, ffma, fadd, fmul on both. Passing tiles come from L2 once per 128 own rows
 * (D = 128, 256: 64). */
#include <math.h>

#include "cuda/attention.cuh"
#include "cuda/switches.h"

namespace attention {

template <typename T> struct Stats {
    RowStats *stats;
    int64_t pitch;
    Rows<const T> dout, out;
    Rows<const float> lse;
    AttentionSpec spec;
    bool vectors;
};

constexpr int STATS_ROWS = 32, STATS_LANES = 8; /* STATS_ROWS · STATS_LANES threads */

/* Eight lanes have one query row of one head. Floor: dout and out read once, 2·D elements a row and
 * head; at it, in 16-byte loads. */
template <typename T>
__global__ void __launch_bounds__(STATS_ROWS *STATS_LANES) attention_stats_kernel(Stats<T> p) {
    Place place(p.spec.sequences, p.spec.heads_q);
    Sequence seq(p.spec, place.sequence);
    int lane = static_cast<int>(threadIdx.x) % STATS_LANES,
        row = place.tile * STATS_ROWS + static_cast<int>(threadIdx.x) / STATS_LANES;
    if (place.tile * STATS_ROWS >= seq.queries) return;
    bool there = row < seq.queries;
    int64_t at = seq.first_q + (there ? row : 0);
    const T *x = p.dout.at(at, static_cast<int64_t>(place.head) * p.spec.head_dim),
            *y = p.out.at(at, static_cast<int64_t>(place.head) * p.spec.head_dim);
    float delta = 0;
    if (p.vectors) {
        for (int i = lane * Pack<T>::size; i < p.spec.head_dim; i += STATS_LANES * Pack<T>::size) {
            Pack<T> a = load_pack(x + i), b = load_pack(y + i);
#pragma unroll
            for (int e = 0; e < Pack<T>::size; e++) delta += a.x[e] * b.x[e];
        }
    } else {
        for (int i = lane; i < p.spec.head_dim; i += STATS_LANES)
            delta += to_float(x[i]) * to_float(y[i]);
    }
#pragma unroll
    for (int step = STATS_LANES / 2; step; step /= 2)
        delta += __shfl_xor_sync(FULL_MASK, delta, step);
    if (!there || lane) return;
    float lse = *p.lse.at(at, place.head);
    p.stats[place.head * p.pitch + stats_row(seq, place.sequence) + row] = {
        lse == -INFINITY ? INFINITY : lse * LOG2E, delta};
}

/* ---- the two sides ---- */

enum Side { QUERIES, KEYS };

template <typename T> struct Backward {
    Rows<T> dq, dk, dv;
    Rows<const T> q, k, v, dout;
    const RowStats *stats;
    int64_t pitch;
    AttentionSpec spec;
    bool vectors;
};

/* Sizes by head size and side: 64·MF own rows, two passing tiles of C rows in turn, of which STEP
 * rows at a time are multiplied (s and dp take MF·STEP registers). HELD: so many steps of 16 of the
 * head size of both own tiles stay in registers. For D = 256 dk and dv do not fit the registers
 * together: two launches then, and s three times. Shared memory for D = 32: 32 KB; 64: 64; 80: 60;
 * 128: 64; 256: 96; on the side of keys up to 1 KB more for stats. */
template <int D, Side SIDE> struct BackwardSize {
    static constexpr int MF = D <= 80 ? 2 : 1, M = 16 * MF * WARPS,
                         C = D <= 64    ? 64
                             : D <= 128 ? 32
                                        : 16,
                         STEP = D <= 64 || D == 128 || (D == 80 && SIDE == QUERIES) ? 32 : 16;
    static constexpr int HELD = SIDE == KEYS || D == 256 ? 0 : D == 80 ? 2 : D / 16;
    static constexpr size_t stats = SIDE == KEYS ? 2 * C * sizeof(RowStats) : 0,
                            shared = 2 * static_cast<size_t>(D) * (2 * M + 4 * C) + stats;
};

/* "score" are the operands of s (q, k), "value" those of dp (dout, v). WANT_SCORE: the gradient of
 * the own score rows (dq, dk) is wanted; WANT_VALUE: that of the own value rows (dv). A block has M
 * own rows of one head (the side of keys: of one key head), a warp 16·MF; a thread rows g and g+8
 * of each 16. */
template <typename T, int D, Side SIDE, bool WANT_SCORE, bool WANT_VALUE>
__global__ void __launch_bounds__(THREADS, 2) attention_bwd_kernel(Backward<T> p) {
    typedef BackwardSize<D, SIDE> Size;
    constexpr int M = Size::M, C = Size::C, MF = Size::MF, NT = Size::STEP / 8;
    const AttentionSpec &spec = p.spec;
    int group = spec.heads_q / spec.heads_k;
    Place place(spec.sequences, SIDE == KEYS ? spec.heads_k : spec.heads_q);
    Sequence seq(spec, place.sequence);
    int tiles_own = ceil_div(SIDE == KEYS ? larger(spec.longest_k, 1) : spec.longest_q, M);
    /* The first keys are seen by most queries, the last queries see most keys. */
    int first = (SIDE == KEYS ? place.tile : tiles_own - 1 - place.tile) * M;
    int length = SIDE == KEYS ? seq.keys : seq.queries, rows = smaller(length - first, M);
    int own_row = (SIDE == KEYS ? seq.first_k : seq.first_q) + first,
        own_col = place.head * spec.head_dim;

    if (SIDE == KEYS && spec.lengths_k) {
        /* Keys behind the length have gradients too: 0. The last tile's block has them up to the
         * end of the sequence's room. */
        int room = spec.starts_k[place.sequence + 1] - seq.first_k,
            end = place.tile == tiles_own - 1 ? room : smaller(room, first + M);
        for (int row = larger(seq.keys, first); row < end; row++)
            for (int i = static_cast<int>(threadIdx.x); i < spec.head_dim; i += THREADS) {
                if (WANT_SCORE) *p.dk.at(seq.first_k + row, own_col + i) = from_float<T>(0.0f);
                if (WANT_VALUE) *p.dv.at(seq.first_k + row, own_col + i) = from_float<T>(0.0f);
            }
    }
    if (rows <= 0) return;

    int own = static_cast<int>(threadIdx.x) / 32 * 16 * MF; /* the warp's first row */
    DYN_SHARED(T, own_score);
    T *own_value = own_score + M * D, *scores = WANT_SCORE ? own_value + M * D : own_value,
      *values = scores + 2 * C * D;
    RowStats *stats = reinterpret_cast<RowStats *>(values + 2 * C * D);

    /* Passing rows, in tiles from `start` on: on the side of keys the queries that see one of the
     * own keys, head after head; on the side of queries the keys that the last own query sees. */
    int start = SIDE == KEYS ? larger(first - seq.ahead, 0) / C * C : 0,
        end = SIDE == KEYS ? seq.queries : seq.visible(first + rows - 1);
    int tiles = larger(ceil_div(end - start, C), 0) * (SIDE == KEYS ? group : 1);
    const Rows<const T> &from_score = SIDE == KEYS ? p.q : p.k,
                        &from_value = SIDE == KEYS ? p.dout : p.v;
    int head = SIDE == KEYS ? place.head * group : place.head / group, next = start;
    auto load_next = [&](int slot) {
        int count = (SIDE == KEYS ? seq.queries : seq.keys) - next,
            row = (SIDE == KEYS ? seq.first_q : seq.first_k) + next, col = head * spec.head_dim;
        load_tile<C, D>(scores + slot * D, from_score.at(row, col), from_score.stride, count,
                        spec.head_dim, p.vectors);
        load_tile<C, D>(values + slot * D, from_value.at(row, col), from_value.stride, count,
                        spec.head_dim, p.vectors);
        /* Rows behind the end become lse2 = delta = 0: with q = dout = 0 they weigh 1 and add 0. */
        int pair = 2 * static_cast<int>(threadIdx.x);
        if (SIDE == KEYS && pair < C)
            ptx::cp_async16(stats + slot + pair,
                            p.stats + head * p.pitch + stats_row(seq, place.sequence) + next + pair,
                            8 * larger(smaller(count - pair, 2), 0));
        next += C;
        if (SIDE == KEYS && next >= end) next = start, head++;
    };
    const Rows<const T> &source_score = SIDE == KEYS ? p.k : p.q,
                        &source_value = SIDE == KEYS ? p.v : p.dout;
    load_tile<M, D>(own_score, source_score.at(own_row, own_col), source_score.stride, rows,
                    spec.head_dim, p.vectors);
    if (WANT_SCORE)
        load_tile<M, D>(own_value, source_value.at(own_row, own_col), source_value.stride, rows,
                        spec.head_dim, p.vectors);
    if (tiles) load_next(0);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    __syncthreads();

    Operand<T, D, MF, Size::HELD> score, value;
    score.hold(own_score + own * D, static_cast<int>(threadIdx.x) % 32);
    if (WANT_SCORE) value.hold(own_value + own * D, static_cast<int>(threadIdx.x) % 32);
    float grad_score[MF][D / 8][4] = {}, grad_value[MF][D / 8][4] = {};
    float c = spec.scale * LOG2E;
    RowStats own_stats[MF][2] = {};
    if (SIDE == QUERIES) {
        const RowStats *from =
            p.stats + place.head * p.pitch + stats_row(seq, place.sequence) + first;
#pragma unroll
        for (int m = 0; m < MF; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int row = own + 16 * m + 8 * half + static_cast<int>(threadIdx.x) % 32 / 4;
                if (row < rows) own_stats[m][half] = from[row];
            }
    }

    /* Column j of own row i is seen by it: on the side of keys if j >= i - ahead, on the side of
     * queries if j < visible(i). Hence which columns any of the warp's rows sees, low … high - 1
     * (none, where it has no rows), and for which parts no mask is needed. */
    constexpr int NEVER = INT32_MAX / 2;
    int low = 0, high = end;
    if (SIDE == KEYS) low = own < rows ? first + own - seq.ahead : NEVER;
    if (SIDE == QUERIES) high = own < rows ? seq.visible(first + own + 16 * MF - 1) : 0;
    int clear = SIDE == KEYS ? low + 16 * MF - 1 : seq.visible(first + own) - Size::STEP;

    for (int slot = 0, tile_at = start; tiles > 0; tiles--, slot ^= C) {
        ptx::cp_async_wait<0>();
        __syncthreads(); /* the tile is there, and no warp is at the one before it any more */
        if (tiles > 1) {
            load_next(slot ^ C);
            ptx::cp_async_commit();
        }
#pragma unroll 1
        for (int part = 0; part < C; part += Size::STEP) {
            int at = tile_at + part;
            if (at + Size::STEP <= low || at >= high) continue;

            /* What follows from the lane (addresses, rows, columns) is cheaper made anew in each
             * part than kept in registers. */
            int lane = static_cast<int>(threadIdx.x) % 32;
            ptx::forget(lane);
            int g = lane / 4, t = lane % 4;
            score.place(own_score + own * D, lane);
            value.place(own_value + own * D, lane);
            float s[MF][NT][4] = {}, dp[MF][NT][4] = {};
            Reader<T, D> s_cols = read_cols<D>(scores + (slot + part) * D, lane),
                         dp_cols = read_cols<D>(values + (slot + part) * D, lane);
            const float4 *col_stats = reinterpret_cast<const float4 *>(stats + slot + part + 2 * t);
#pragma unroll
            for (int step = 0; step < D / 16; step++) scores_step(s, score, s_cols, step);
#pragma unroll
            for (int j = 0; j < NT; j++) {
                float4 both = SIDE == KEYS ? col_stats[4 * j] : float4{};
#pragma unroll
                for (int m = 0; m < MF; m++)
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        float lse2 = SIDE == QUERIES ? own_stats[m][i / 2].lse2
                                     : i % 2         ? both.z
                                                     : both.x;
                        s[m][j][i] = ptx::exp2_fast(s[m][j][i] * c - lse2);
                    }
            }
#pragma unroll
            for (int step = 0; WANT_SCORE && step < D / 16; step++)
                scores_step(dp, value, dp_cols, step);
#pragma unroll
            for (int j = 0; WANT_SCORE && j < NT; j++) {
                float4 both = SIDE == KEYS ? col_stats[4 * j] : float4{};
#pragma unroll
                for (int m = 0; m < MF; m++)
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        float delta = SIDE == QUERIES ? own_stats[m][i / 2].delta
                                      : i % 2         ? both.w
                                                      : both.y;
                        dp[m][j][i] = s[m][j][i] * (dp[m][j][i] - delta);
                    }
            }
            if (SIDE == KEYS ? at < clear : at > clear) {
#pragma unroll
                for (int m = 0; m < MF; m++)
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        int row = 16 * m + i / 2 * 8 + g, col = at + 2 * t + i % 2;
                        int edge = SIDE == KEYS ? low + row : seq.visible(first + own + row);
#pragma unroll
                        for (int j = 0; j < NT; j++)
                            if (SIDE == KEYS ? col + 8 * j < edge : col + 8 * j >= edge)
                                s[m][j][i] = dp[m][j][i] = 0;
                    }
            }
            if (WANT_VALUE)
                add_weighted(grad_value, s, read_rows<D>(values + (slot + part) * D, lane));
            if (WANT_SCORE)
                add_weighted(grad_score, dp, read_rows<D>(scores + (slot + part) * D, lane));
        }
        tile_at += C;
        if (SIDE == KEYS && tile_at >= end) tile_at = start;
    }

    /* The warp's own rows are not needed any more: their place takes its rows of the gradients. */
    __syncwarp();
    float factor[MF][2];
    if (WANT_SCORE) {
#pragma unroll
        for (int m = 0; m < MF; m++) factor[m][0] = factor[m][1] = spec.scale;
        stage<D>(own_score + own * D, grad_score, factor);
        __syncwarp();
        const Rows<T> &to = SIDE == KEYS ? p.dk : p.dq;
        store_rows<16 * MF, D>(to.at(own_row + own, own_col), to.stride, own_score + own * D,
                               rows - own, spec.head_dim, p.vectors);
    }
    if (WANT_VALUE) {
        T *staged = (WANT_SCORE ? own_value : own_score) + own * D;
#pragma unroll
        for (int m = 0; m < MF; m++) factor[m][0] = factor[m][1] = 1;
        stage<D>(staged, grad_value, factor);
        __syncwarp();
        store_rows<16 * MF, D>(p.dv.at(own_row + own, own_col), p.dv.stride, staged, rows - own,
                               spec.head_dim, p.vectors);
    }
}

template <typename T, int D, Side SIDE, bool WANT_SCORE, bool WANT_VALUE>
static void backward_side(cudaStream_t stream, const Backward<T> &p) {
    typedef BackwardSize<D, SIDE> Size;
    const AttentionSpec &spec = p.spec;
    unsigned blocks = SIDE == KEYS ? grid_of(spec.longest_k > 1 ? spec.longest_k : 1, Size::M,
                                             spec.sequences, spec.heads_k)
                                   : grid_of(spec.longest_q, Size::M, spec.sequences, spec.heads_q);
    if (blocks == 0) return;
    allow_shared(attention_bwd_kernel<T, D, SIDE, WANT_SCORE, WANT_VALUE>, Size::shared);
    LAUNCH((attention_bwd_kernel<T, D, SIDE, WANT_SCORE, WANT_VALUE>), blocks, THREADS,
           Size::shared, stream, p);
}

template <typename T, int D> static void backward_sized(cudaStream_t stream, const Backward<T> &p) {
    backward_side<T, D, QUERIES, true, false>(stream, p);
    if constexpr (D <= 128) {
        backward_side<T, D, KEYS, true, true>(stream, p);
    } else {
        backward_side<T, D, KEYS, true, false>(stream, p);
        backward_side<T, D, KEYS, false, true>(stream, p);
    }
}

template <typename T>
static void row_stats(cudaStream_t stream, RowStats *stats, Tensor dout, Tensor out, Tensor lse,
                      const AttentionSpec *spec) {
    unsigned blocks = grid_of(spec->longest_q, STATS_ROWS, spec->sequences, spec->heads_q);
    if (blocks == 0) return;
    Stats<T> p = {stats,
                  stats_pitch(dout.rows, spec),
                  rows_of<const T>(dout),
                  rows_of<const T>(out),
                  rows_of<const float>(lse),
                  *spec,
                  in_vectors(dout, spec->head_dim) && in_vectors(out, spec->head_dim)};
    LAUNCH((attention_stats_kernel<T>), blocks, STATS_ROWS * STATS_LANES, 0, stream, p);
}

template <typename T>
static void backward(cudaStream_t stream, RowStats *stats, Tensor dq, Tensor dk, Tensor dv,
                     Tensor dout, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                     const AttentionSpec *spec) {
    int d = spec->head_dim;
    CHECK(d >= 1 && d <= 256, "attention: head size %d, at most 256 is written", d);
    row_stats<T>(stream, stats, dout, out, lse, spec);
    bool vectors = in_vectors(dq, d) && in_vectors(dk, d) && in_vectors(dv, d) &&
                   in_vectors(q, d) && in_vectors(k, d) && in_vectors(v, d) && in_vectors(dout, d);
    Backward<T> p = {rows_of<T>(dq),
                     rows_of<T>(dk),
                     rows_of<T>(dv),
                     rows_of<const T>(q),
                     rows_of<const T>(k),
                     rows_of<const T>(v),
                     rows_of<const T>(dout),
                     stats,
                     stats_pitch(q.rows, spec),
                     *spec,
                     vectors};
    if (d <= 32) return backward_sized<T, 32>(stream, p);
    if (d <= 64) return backward_sized<T, 64>(stream, p);
    if (d <= 80) return backward_sized<T, 80>(stream, p);
    if (d <= 128) return backward_sized<T, 128>(stream, p);
    backward_sized<T, 256>(stream, p);
}

} // namespace attention

size_t cuda_attention_bwd_scratch(int64_t rows_q, int64_t, DType, const AttentionSpec *spec) {
    return sizeof(attention::RowStats) * static_cast<size_t>(spec->heads_q) *
           static_cast<size_t>(attention::stats_pitch(rows_q, spec));
}

void cuda_attention_bwd(cudaStream_t stream, void *scratch, Tensor dq, Tensor dk, Tensor dv,
                        Tensor dout, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                        const AttentionSpec *spec) {
    using namespace attention;
    RowStats *stats = static_cast<RowStats *>(scratch);
    if (q.dtype == DT_F32 || cuda_switches()->plain_attention) {
        if (q.dtype == DT_BF16)
            row_stats<bf16>(stream, stats, dout, out, lse, spec);
        else if (q.dtype == DT_F16)
            row_stats<f16>(stream, stats, dout, out, lse, spec);
        else
            row_stats<float>(stream, stats, dout, out, lse, spec);
        plain_bwd(stream, stats, stats_pitch(q.rows, spec), dq, dk, dv, dout, q, k, v, spec);
    } else if (q.dtype == DT_BF16) {
        backward<bf16>(stream, stats, dq, dk, dv, dout, out, lse, q, k, v, spec);
    } else {
        backward<f16>(stream, stats, dq, dk, dv, dout, out, lse, q, k, v, spec);
    }
}
