/* Attention without tensor cores, in f32 whatever the type: the path that gradient checks and f32
 * runs take, and 16-bit types where CADVLM_CUDA_ATTENTION=plain asks for it. Simple before fast.
 *
 * Floor as in attention_fwd.cu and attention_bwd.cu, on the FMA units. Distance from it: every
 * multiply reads two operands from shared memory, so shared memory bounds it at about a quarter of
 * the FMA rate; the backward pass does 7 products instead of 5, as there. */
#include <float.h>
#include <math.h>

#include "cuda/attention.cuh"

namespace attention {

/* Tiles have TILE rows of 8·COLS f32 (zero beyond the head size), and one more element, so that a
 * column lies in different banks. LANES threads have one row: its scores with columns l and l+LANES
 * of the tile, and the head's elements l + LANES·i of its results. */
constexpr int TILE = 16, LANES = TILE / 2, PLAIN_THREADS = TILE * LANES;

template <int COLS> constexpr int PITCH = LANES *COLS + 1;

template <int COLS, typename T>
__device__ __forceinline__ void load_plain(float *tile, const T *from, int64_t stride, int rows,
                                           int head_dim) {
    int row = static_cast<int>(threadIdx.x) / LANES, lane = static_cast<int>(threadIdx.x) % LANES;
    for (int i = lane; i < LANES * COLS; i += LANES)
        tile[row * PITCH<COLS> + i] =
            row < rows && i < head_dim ? to_float(from[row * stride + i]) : 0.0f;
}

template <int COLS> __device__ __forceinline__ float dot_plain(const float *a, const float *b) {
    float sum = 0;
    for (int i = 0; i < LANES * COLS; i++) sum += a[i] * b[i];
    return sum;
}

/* sums += Σ_j w[j] · row j of the tile. */
template <int COLS>
__device__ __forceinline__ void add_plain(float (&sums)[COLS], const float *w, const float *tile) {
    int lane = static_cast<int>(threadIdx.x) % LANES;
#pragma unroll 1
    for (int j = 0; j < TILE; j++)
#pragma unroll
        for (int i = 0; i < COLS; i++) sums[i] += w[j] * tile[j * PITCH<COLS> + lane + LANES * i];
}

template <int COLS, typename T>
__device__ __forceinline__ void store_plain(T *to, const float (&sums)[COLS], float factor,
                                            int head_dim) {
    int lane = static_cast<int>(threadIdx.x) % LANES;
#pragma unroll
    for (int i = 0; i < COLS; i++)
        if (lane + LANES * i < head_dim) to[lane + LANES * i] = from_float<T>(sums[i] * factor);
}

template <typename T> struct PlainForward {
    Rows<T> out;
    Rows<float> lse;
    Rows<const T> q, k, v;
    AttentionSpec spec;
};

/* A block has TILE queries of one head, LANES threads a query, and walks over tiles of TILE keys.
 */
template <typename T, int COLS>
__global__ void __launch_bounds__(PLAIN_THREADS) attention_plain_fwd_kernel(PlainForward<T> p) {
    const AttentionSpec &spec = p.spec;
    Place place(spec.sequences, spec.heads_q);
    Sequence seq(spec, place.sequence);
    int first = (ceil_div(spec.longest_q, TILE) - 1 - place.tile) * TILE;
    if (first >= seq.queries) return;
    int row = static_cast<int>(threadIdx.x) / LANES, lane = static_cast<int>(threadIdx.x) % LANES;
    int rows = smaller(seq.queries - first, TILE), visible = seq.visible(first + row);
    int64_t col_q = static_cast<int64_t>(place.head) * spec.head_dim,
            col_k =
                static_cast<int64_t>(place.head / (spec.heads_q / spec.heads_k)) * spec.head_dim;
    SHARED(float, weights, [TILE][TILE]);
    DYN_SHARED(float, queries);
    float *keys = queries + TILE * PITCH<COLS>, *values = keys + TILE * PITCH<COLS>;
    load_plain<COLS>(queries, p.q.at(seq.first_q + first, col_q), p.q.stride, rows, spec.head_dim);

    float out[COLS] = {}, sum = 0, top = -FLT_MAX;
    for (int at = 0; at < seq.visible(first + rows - 1); at += TILE) {
        __syncthreads(); /* all are done with the tile before */
        load_plain<COLS>(keys, p.k.at(seq.first_k + at, col_k), p.k.stride, seq.keys - at,
                         spec.head_dim);
        load_plain<COLS>(values, p.v.at(seq.first_k + at, col_k), p.v.stride, seq.keys - at,
                         spec.head_dim);
        __syncthreads();
        float s[2], high = top;
        for (int i = 0; i < 2; i++) {
            int col = lane + LANES * i;
            s[i] =
                spec.scale * dot_plain<COLS>(queries + row * PITCH<COLS>, keys + col * PITCH<COLS>);
            if (at + col >= visible) s[i] = -INFINITY;
            high = fmaxf(high, s[i]);
        }
        for (int step = LANES / 2; step; step /= 2)
            high = fmaxf(high, __shfl_xor_sync(FULL_MASK, high, step));
        float shrink = expf(top - high), added = 0;
        top = high;
        for (int i = 0; i < 2; i++) {
            float weight = expf(s[i] - top);
            weights[row][lane + LANES * i] = weight;
            added += weight;
        }
        for (int step = LANES / 2; step; step /= 2)
            added += __shfl_xor_sync(FULL_MASK, added, step);
        sum = sum * shrink + added;
#pragma unroll
        for (int i = 0; i < COLS; i++) out[i] *= shrink;
        __syncwarp(); /* a row's weights are written and read by one warp */
        add_plain(out, weights[row], values);
    }
    if (row >= rows) return;
    int64_t at = seq.first_q + first + row;
    /* A row that sees no keys is 0; one whose scores are all -inf is not a number. */
    bool sees = visible > 0;
    store_plain(p.out.at(at, col_q), out, sum != 0 ? 1.0f / sum : sees ? NAN : 0.0f, spec.head_dim);
    if (p.lse.data && lane == 0)
        *p.lse.at(at, place.head) = sum != 0 ? top + logf(sum) : sees ? NAN : -INFINITY;
}

template <typename T> struct PlainBackward {
    Rows<T> dq, dk, dv;
    Rows<const T> q, k, v, dout;
    const RowStats *stats;
    int64_t pitch;
    AttentionSpec spec;
};

/* The side of queries: a block has TILE queries of one head, walks over their keys and sums dq. */
template <typename T, int COLS>
__global__ void __launch_bounds__(PLAIN_THREADS) attention_plain_dq_kernel(PlainBackward<T> p) {
    const AttentionSpec &spec = p.spec;
    Place place(spec.sequences, spec.heads_q);
    Sequence seq(spec, place.sequence);
    int first = (ceil_div(spec.longest_q, TILE) - 1 - place.tile) * TILE;
    if (first >= seq.queries) return;
    int row = static_cast<int>(threadIdx.x) / LANES, lane = static_cast<int>(threadIdx.x) % LANES;
    int rows = smaller(seq.queries - first, TILE), visible = seq.visible(first + row);
    int64_t col_q = static_cast<int64_t>(place.head) * spec.head_dim,
            col_k =
                static_cast<int64_t>(place.head / (spec.heads_q / spec.heads_k)) * spec.head_dim;
    SHARED(float, ds, [TILE][TILE]);
    DYN_SHARED(float, queries);
    float *douts = queries + TILE * PITCH<COLS>, *keys = douts + TILE * PITCH<COLS>,
          *values = keys + TILE * PITCH<COLS>;
    load_plain<COLS>(queries, p.q.at(seq.first_q + first, col_q), p.q.stride, rows, spec.head_dim);
    load_plain<COLS>(douts, p.dout.at(seq.first_q + first, col_q), p.dout.stride, rows,
                     spec.head_dim);
    RowStats stats = {};
    if (row < rows)
        stats = p.stats[place.head * p.pitch + stats_row(seq, place.sequence) + first + row];

    float dq[COLS] = {};
    for (int at = 0; at < seq.visible(first + rows - 1); at += TILE) {
        __syncthreads();
        load_plain<COLS>(keys, p.k.at(seq.first_k + at, col_k), p.k.stride, seq.keys - at,
                         spec.head_dim);
        load_plain<COLS>(values, p.v.at(seq.first_k + at, col_k), p.v.stride, seq.keys - at,
                         spec.head_dim);
        __syncthreads();
        for (int i = 0; i < 2; i++) {
            int col = lane + LANES * i;
            float s = dot_plain<COLS>(queries + row * PITCH<COLS>, keys + col * PITCH<COLS>),
                  dp = dot_plain<COLS>(douts + row * PITCH<COLS>, values + col * PITCH<COLS>);
            float weight = exp2f(s * spec.scale * LOG2E - stats.lse2);
            ds[row][col] = at + col < visible ? weight * (dp - stats.delta) : 0.0f;
        }
        __syncwarp();
        add_plain(dq, ds[row], keys);
    }
    if (row < rows)
        store_plain(p.dq.at(seq.first_q + first + row, col_q), dq, spec.scale, spec.head_dim);
}

/* The side of keys: a block has TILE keys of one key head, walks over the queries of its group of
 * query heads that see them, and sums dk and dv. */
template <typename T, int COLS>
__global__ void __launch_bounds__(PLAIN_THREADS) attention_plain_dkv_kernel(PlainBackward<T> p) {
    const AttentionSpec &spec = p.spec;
    int group = spec.heads_q / spec.heads_k;
    Place place(spec.sequences, spec.heads_k);
    Sequence seq(spec, place.sequence);
    int row = static_cast<int>(threadIdx.x) / LANES, lane = static_cast<int>(threadIdx.x) % LANES;
    int first = place.tile * TILE, key = first + row;
    int64_t col_k = static_cast<int64_t>(place.head) * spec.head_dim;
    SHARED(float, weights, [TILE][TILE]);
    SHARED(float, ds, [TILE][TILE]);
    DYN_SHARED(float, keys);
    float *values = keys + TILE * PITCH<COLS>, *queries = values + TILE * PITCH<COLS>,
          *douts = queries + TILE * PITCH<COLS>;
    load_plain<COLS>(keys, p.k.at(seq.first_k + first, col_k), p.k.stride, seq.keys - first,
                     spec.head_dim);
    load_plain<COLS>(values, p.v.at(seq.first_k + first, col_k), p.v.stride, seq.keys - first,
                     spec.head_dim);

    float dk[COLS] = {}, dv[COLS] = {};
    int start = larger(first - seq.ahead, 0) / TILE * TILE;
    if (first >= seq.keys) start = seq.queries; /* no keys here: nothing to sum */
    for (int head = place.head * group; head < (place.head + 1) * group; head++) {
        int64_t col_q = static_cast<int64_t>(head) * spec.head_dim;
        const RowStats *all = p.stats + head * p.pitch + stats_row(seq, place.sequence);
        for (int at = start; at < seq.queries; at += TILE) {
            __syncthreads();
            load_plain<COLS>(queries, p.q.at(seq.first_q + at, col_q), p.q.stride, seq.queries - at,
                             spec.head_dim);
            load_plain<COLS>(douts, p.dout.at(seq.first_q + at, col_q), p.dout.stride,
                             seq.queries - at, spec.head_dim);
            __syncthreads();
            for (int i = 0; i < 2; i++) {
                int col = lane + LANES * i, query = at + col;
                bool seen = query < seq.queries && key < seq.visible(query);
                RowStats stats = seen ? all[query] : RowStats{};
                float s = dot_plain<COLS>(keys + row * PITCH<COLS>, queries + col * PITCH<COLS>),
                      dp = dot_plain<COLS>(values + row * PITCH<COLS>, douts + col * PITCH<COLS>);
                float weight = seen ? exp2f(s * spec.scale * LOG2E - stats.lse2) : 0.0f;
                weights[row][col] = weight;
                ds[row][col] = seen ? weight * (dp - stats.delta) : 0.0f;
            }
            __syncwarp();
            add_plain(dv, weights[row], douts);
            add_plain(dk, ds[row], queries);
        }
    }
    /* Keys behind the length, up to the sequence's end, have the gradient 0: their sums are. The
     * last tile's block has all that follow. */
    int room = spec.starts_k[place.sequence + 1] - seq.first_k;
    bool last = place.tile == ceil_div(larger(spec.longest_k, 1), TILE) - 1;
    for (; key < room; key += TILE) {
        bool real = key < seq.keys;
        store_plain(p.dk.at(seq.first_k + key, col_k), dk, real ? spec.scale : 0.0f, spec.head_dim);
        store_plain(p.dv.at(seq.first_k + key, col_k), dv, real ? 1.0f : 0.0f, spec.head_dim);
        if (!last) break;
    }
}

template <typename T, int COLS>
static void plain_fwd_sized(cudaStream_t stream, const PlainForward<T> &p) {
    const AttentionSpec &spec = p.spec;
    size_t shared = 3 * TILE * PITCH<COLS> * sizeof(float);
    unsigned blocks = grid_of(spec.longest_q, TILE, spec.sequences, spec.heads_q);
    if (blocks == 0) return;
    allow_shared(attention_plain_fwd_kernel<T, COLS>, shared);
    LAUNCH((attention_plain_fwd_kernel<T, COLS>), blocks, PLAIN_THREADS, shared, stream, p);
}

template <typename T>
static void plain_fwd_of(cudaStream_t stream, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                         const AttentionSpec *spec) {
    PlainForward<T> p = {rows_of<T>(out),     rows_of<float>(lse), rows_of<const T>(q),
                         rows_of<const T>(k), rows_of<const T>(v), *spec};
    if (spec->head_dim <= 64) return plain_fwd_sized<T, 8>(stream, p);
    if (spec->head_dim <= 128) return plain_fwd_sized<T, 16>(stream, p);
    plain_fwd_sized<T, 32>(stream, p);
}

static void check_head(const AttentionSpec *spec) {
    CHECK(spec->head_dim >= 1 && spec->head_dim <= 256,
          "attention: head size %d, at most 256 is written", spec->head_dim);
}

void plain_fwd(cudaStream_t stream, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
               const AttentionSpec *spec) {
    check_head(spec);
    switch (q.dtype) {
    case DT_BF16: return plain_fwd_of<bf16>(stream, out, lse, q, k, v, spec);
    case DT_F16: return plain_fwd_of<f16>(stream, out, lse, q, k, v, spec);
    default: return plain_fwd_of<float>(stream, out, lse, q, k, v, spec);
    }
}

template <typename T, int COLS>
static void plain_bwd_sized(cudaStream_t stream, const PlainBackward<T> &p) {
    const AttentionSpec &spec = p.spec;
    size_t shared = 4 * TILE * PITCH<COLS> * sizeof(float);
    unsigned blocks_q = grid_of(spec.longest_q, TILE, spec.sequences, spec.heads_q),
             blocks_k = grid_of(spec.longest_k > 1 ? spec.longest_k : 1, TILE, spec.sequences,
                                spec.heads_k);
    allow_shared(attention_plain_dq_kernel<T, COLS>, shared);
    allow_shared(attention_plain_dkv_kernel<T, COLS>, shared);
    if (blocks_q)
        LAUNCH((attention_plain_dq_kernel<T, COLS>), blocks_q, PLAIN_THREADS, shared, stream, p);
    if (blocks_k)
        LAUNCH((attention_plain_dkv_kernel<T, COLS>), blocks_k, PLAIN_THREADS, shared, stream, p);
}

template <typename T>
static void plain_bwd_of(cudaStream_t stream, const RowStats *stats, int64_t pitch, Tensor dq,
                         Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k, Tensor v,
                         const AttentionSpec *spec) {
    PlainBackward<T> p = {rows_of<T>(dq),
                          rows_of<T>(dk),
                          rows_of<T>(dv),
                          rows_of<const T>(q),
                          rows_of<const T>(k),
                          rows_of<const T>(v),
                          rows_of<const T>(dout),
                          stats,
                          pitch,
                          *spec};
    if (spec->head_dim <= 64) return plain_bwd_sized<T, 8>(stream, p);
    if (spec->head_dim <= 128) return plain_bwd_sized<T, 16>(stream, p);
    plain_bwd_sized<T, 32>(stream, p);
}

void plain_bwd(cudaStream_t stream, const RowStats *stats, int64_t pitch, Tensor dq, Tensor dk,
               Tensor dv, Tensor dout, Tensor q, Tensor k, Tensor v, const AttentionSpec *spec) {
    check_head(spec);
    switch (q.dtype) {
    case DT_BF16: return plain_bwd_of<bf16>(stream, stats, pitch, dq, dk, dv, dout, q, k, v, spec);
    case DT_F16: return plain_bwd_of<f16>(stream, stats, pitch, dq, dk, dv, dout, q, k, v, spec);
    default: return plain_bwd_of<float>(stream, stats, pitch, dq, dk, dv, dout, q, k, v, spec);
    }
}

} // namespace attention
