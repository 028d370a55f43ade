/* The norm of query and key heads and their rotary positions in one pass, forward and backward.
 *
 * A head of D elements is shared by a group of neighbouring lanes. Rotation pairs element i with
 * element i + rotary_dim/2, so a lane holds two packs of N elements that are partners: both halves
 * of a pair are in the same thread, and the norm is one sum over the few lanes of a group (4 for
 * the bf16 heads of OpenELM, D = 64). */
#include "cuda/partials.cuh"
#include "cuda/rows.cuh"

using namespace rowwise;

namespace {

constexpr int ROPE_BLOCK = 256, ROPE_WARPS = ROPE_BLOCK / 32;

/* A lane has SLOTS pairs of packs of N elements; 32 lanes reach MAX_DIM. */
template <int N_, int SLOTS_> struct Share {
    static constexpr int N = N_, SLOTS = SLOTS_, MAX_DIM = 32 * SLOTS * 2 * N;
};

/* The heads of the queries, or those of the keys. */
template <typename T> struct Heads {
    const T *w;            /* [D] of the norm; NULL: none */
    float *partials;       /* [blocks, D] of dw */
    unsigned first, count; /* in a row */
    unsigned blocks;       /* that work on them */
};

template <typename T> struct Rope {
    Rows<T> out;         /* forward: qk;  backward: dqkv */
    Rows<const T> in, x; /* forward: qkv, unused;  backward: dqk, qkv */
    Rows<float> rstd;    /* [T, heads]; data NULL: not kept */
    Heads<T> q, k;       /* the first q.blocks blocks do the queries, the others the keys */
    const float *table;
    const int32_t *positions;
    unsigned rows;
    int dim, rotary;
    int lanes; /* of a group: a power of two */
    float eps;
};

/* Where the two packs of slot s start in a head. The first rotary/2N slots hold packs that turn
 * together, and the same places of a table row are their cosines and sines; the slots after those
 * hold neighbours that do not turn. Packs at `dim` and on do not exist. */
template <int N> struct Place {
    int first, second;
    bool turns;

    __device__ __forceinline__ Place(int slot, int rotary) {
        int pairs = rotary / (2 * N);
        turns = slot < pairs;
        first = turns ? slot * N : rotary + (slot - pairs) * 2 * N;
        second = first + (turns ? rotary / 2 : N);
    }
};

template <int N> struct Pair { Values<N> a, b; };

template <typename T, int N> struct PairBits {
    Bits<T, N> a = {}, b = {};

    __device__ __forceinline__ void load(const T *head, const Place<N> &p, int dim) {
        if (p.first < dim) a.load(head + p.first);
        if (p.second < dim) b.load(head + p.second);
    }

    __device__ __forceinline__ Pair<N> values() const { return {a.values(), b.values()}; }
};

template <typename T, int N>
__device__ __forceinline__ void store_pair(T *head, const Place<N> &p, int dim, const Pair<N> &v) {
    if (p.first < dim) store_values(head + p.first, v.a);
    if (p.second < dim) store_values(head + p.second, v.b);
}

/* (a, b) turn by the angle of `t`: (a cos - b sin, b cos + a sin); BACK: by minus the angle. */
template <bool BACK, int N> __device__ __forceinline__ void turn(Pair<N> &v, const Pair<N> &t) {
#pragma unroll
    for (int i = 0; i < N; i++) {
        float c = t.a.x[i], s = BACK ? -t.b.x[i] : t.b.x[i], a = v.a.x[i], b = v.b.x[i];
        v.a.x[i] = a * c - b * s;
        v.b.x[i] = b * c + a * s;
    }
}

__device__ __forceinline__ float group_sum(float x, int lanes) {
    for (int step = lanes / 2; step; step /= 2) x += __shfl_xor_sync(FULL_MASK, x, step);
    return x;
}

/* One head of one row, as a group works on it. */
struct Item {
    bool here; /* or past the end */
    int64_t row;
    unsigned head;

    template <typename T>
    __device__ __forceinline__ Item(const Heads<T> &heads, unsigned first, unsigned items,
                                    int lanes) {
        unsigned i = first + threadIdx.x / static_cast<unsigned>(lanes);
        here = i < items;
        row = i / heads.count;
        head = heads.first + i % heads.count;
    }
};

/* A group of lanes does a head of a row: y = x·rstd·w where there is a norm, turned.
 * Floor: 2·T·(Hq+Hk)·D elements + 4·T·(Hq+Hk) bytes of rstd; the table's row (4·rotary bytes) comes
 * from the first cache for all heads but one. At the floor by count. */
template <typename T, typename S>
__global__ void __launch_bounds__(ROPE_BLOCK) qk_rope_fwd(Rope<T> a) {
    constexpr int N = S::N;
    bool keys = blockIdx.x >= a.q.blocks;
    const Heads<T> heads = keys ? a.k : a.q;
    unsigned block = keys ? blockIdx.x - a.q.blocks : blockIdx.x;
    unsigned groups = ROPE_BLOCK / static_cast<unsigned>(a.lanes);
    int lane = static_cast<int>(threadIdx.x) % a.lanes;
    Item item(heads, block * groups, a.rows * heads.count, a.lanes);

    PairBits<T, N> x[S::SLOTS], w[S::SLOTS];
    Pair<N> angle[S::SLOTS] = {};
    if (item.here) {
        const T *head = a.in[item.row] + static_cast<int64_t>(item.head) * a.dim;
        const float *turns = a.table + static_cast<int64_t>(a.positions[item.row]) * a.rotary;
#pragma unroll
        for (int k = 0; k < S::SLOTS; k++) {
            Place<N> p(lane + k * a.lanes, a.rotary);
            x[k].load(head, p, a.dim);
            if (heads.w) w[k].load(heads.w, p, a.dim);
            if (p.turns)
                angle[k] = {load_values<float, N>(turns + p.first),
                            load_values<float, N>(turns + p.second)};
        }
    }

    float scale = 1;
    if (heads.w) {
        float squares = 0;
#pragma unroll
        for (int k = 0; k < S::SLOTS; k++) {
            Pair<N> v = x[k].values();
#pragma unroll
            for (int i = 0; i < N; i++) squares += v.a.x[i] * v.a.x[i] + v.b.x[i] * v.b.x[i];
        }
        squares = group_sum(squares, a.lanes);
        scale = 1.0f / sqrtf(squares / static_cast<float>(a.dim) + a.eps);
    }
    if (!item.here) return;
    if (a.rstd.data && lane == 0) a.rstd[item.row][item.head] = scale;

    T *out = a.out[item.row] + static_cast<int64_t>(item.head) * a.dim;
#pragma unroll
    for (int k = 0; k < S::SLOTS; k++) {
        Place<N> p(lane + k * a.lanes, a.rotary);
        Pair<N> y = x[k].values(), g = w[k].values();
        if (heads.w)
#pragma unroll
            for (int i = 0; i < N; i++) {
                y.a.x[i] *= scale * g.a.x[i];
                y.b.x[i] *= scale * g.b.x[i];
            }
        if (p.turns) turn<false>(y, angle[k]);
        store_pair(out, p, a.dim, y);
    }
}

/* A group of lanes does heads of rows in turn, queries or keys: dy = dqk turned back; where there
 * is a norm, with x̂ = x·rstd and g = w·dy: dx = rstd·(g - x̂·mean(g·x̂)) and dw += dy·x̂. With SUMS a
 * lane keeps what it adds to dw in registers over all its heads; groups, then warps of a block, are
 * added up in order, and the block writes its part.
 * Floor: 3·T·(Hq+Hk)·D elements (2· without norm) + 4·T·(Hq+Hk) bytes of rstd; with SUMS
 * 8·parts·D bytes, which is little. At the floor by count. */
template <typename T, typename S, bool NORM, bool SUMS>
__global__ void __launch_bounds__(ROPE_BLOCK) qk_rope_bwd(Rope<T> a) {
    constexpr int N = S::N;
    bool keys = blockIdx.x >= a.q.blocks;
    const Heads<T> heads = keys ? a.k : a.q;
    unsigned block = keys ? blockIdx.x - a.q.blocks : blockIdx.x;
    unsigned groups = ROPE_BLOCK / static_cast<unsigned>(a.lanes);
    int lane = static_cast<int>(threadIdx.x) % a.lanes;
    unsigned items = a.rows * heads.count;

    PairBits<T, N> w[S::SLOTS];
    if constexpr (NORM) {
#pragma unroll
        for (int k = 0; k < S::SLOTS; k++)
            w[k].load(heads.w, Place<N>(lane + k * a.lanes, a.rotary), a.dim);
    }
    Pair<N> kept[SUMS ? S::SLOTS : 1] = {};

    for (unsigned first = block * groups; first < items; first += heads.blocks * groups) {
        Item item(heads, first, items, a.lanes);
        int64_t place = static_cast<int64_t>(item.head) * a.dim;
        PairBits<T, N> given[S::SLOTS], x[NORM ? S::SLOTS : 1];
        Pair<N> dy[S::SLOTS] = {};
        float scale = 0, mean = 0;
        if (item.here) {
            const float *turns = a.table + static_cast<int64_t>(a.positions[item.row]) * a.rotary;
            if constexpr (NORM) scale = a.rstd[item.row][item.head];
#pragma unroll
            for (int k = 0; k < S::SLOTS; k++) {
                Place<N> p(lane + k * a.lanes, a.rotary);
                given[k].load(a.in[item.row] + place, p, a.dim);
                if constexpr (NORM) x[k].load(a.x[item.row] + place, p, a.dim);
            }
#pragma unroll
            for (int k = 0; k < S::SLOTS; k++) {
                Place<N> p(lane + k * a.lanes, a.rotary);
                dy[k] = given[k].values();
                if (p.turns)
                    turn<true>(dy[k], Pair<N>{load_values<float, N>(turns + p.first),
                                              load_values<float, N>(turns + p.second)});
            }
        }
        if constexpr (NORM) {
#pragma unroll
            for (int k = 0; k < S::SLOTS; k++) {
                Pair<N> v = x[k].values(), g = w[k].values();
#pragma unroll
                for (int i = 0; i < N; i++)
                    mean += g.a.x[i] * dy[k].a.x[i] * (v.a.x[i] * scale) +
                            g.b.x[i] * dy[k].b.x[i] * (v.b.x[i] * scale);
            }
            mean = group_sum(mean, a.lanes) / static_cast<float>(a.dim);
        }
        if (!item.here) continue;
#pragma unroll
        for (int k = 0; k < S::SLOTS; k++) {
            Place<N> p(lane + k * a.lanes, a.rotary);
            if constexpr (NORM) {
                Pair<N> v = x[k].values(), g = w[k].values();
#pragma unroll
                for (int i = 0; i < N; i++) {
                    v.a.x[i] *= scale;
                    v.b.x[i] *= scale;
                    if constexpr (SUMS) {
                        kept[k].a.x[i] += dy[k].a.x[i] * v.a.x[i];
                        kept[k].b.x[i] += dy[k].b.x[i] * v.b.x[i];
                    }
                    dy[k].a.x[i] = scale * (g.a.x[i] * dy[k].a.x[i] - v.a.x[i] * mean);
                    dy[k].b.x[i] = scale * (g.b.x[i] * dy[k].b.x[i] - v.b.x[i] * mean);
                }
            }
            store_pair(a.out[item.row] + place, p, a.dim, dy[k]);
        }
    }

    if constexpr (SUMS) {
        SHARED(float, sums, [ROPE_WARPS][S::MAX_DIM]);
#pragma unroll
        for (int k = 0; k < S::SLOTS; k++) {
            for (int step = a.lanes; step < 32; step *= 2)
#pragma unroll
                for (int i = 0; i < N; i++) {
                    kept[k].a.x[i] += __shfl_xor_sync(FULL_MASK, kept[k].a.x[i], step);
                    kept[k].b.x[i] += __shfl_xor_sync(FULL_MASK, kept[k].b.x[i], step);
                }
            if (static_cast<int>(threadIdx.x) % 32 < a.lanes)
                store_pair(sums[threadIdx.x / 32], Place<N>(lane + k * a.lanes, a.rotary), a.dim,
                           kept[k]);
        }
        __syncthreads();
        for (int c = static_cast<int>(threadIdx.x); c < a.dim; c += ROPE_BLOCK) {
            float sum = 0;
#pragma unroll
            for (int warp = 0; warp < ROPE_WARPS; warp++) sum += sums[warp][c];
            heads.partials[static_cast<int64_t>(block) * a.dim + c] = sum;
        }
    }
}

/* ---- launching ---- */

/* Calls launch(T(), Share<…>(), rope) with everything that forward and backward have in common. */
template <typename F>
void with_rope(Tensor out, Tensor in, Tensor x, Tensor rstd, Tensor wq, Tensor wk,
               const RopeSpec *spec, F launch) {
    CHECK(in.rows * (spec->heads_q + spec->heads_k) < INT32_MAX, "%ld rows of %d heads",
          static_cast<long>(in.rows), spec->heads_q + spec->heads_k);
    bool aligned = rows_aligned(out) && rows_aligned(in) && rows_aligned(x) && rows_aligned(wq) &&
                   rows_aligned(wk) && reinterpret_cast<uintptr_t>(spec->table) % 16 == 0;
    int dim = spec->head_dim, rotary = spec->rotary_dim;
    with_type(in.dtype, [&](auto element) {
        using T = decltype(element);
        auto with_share = [&](auto share) {
            int lanes = 1;
            while (lanes < 32 && lanes * share.SLOTS * 2 * share.N < dim) lanes *= 2;
            Heads<T> q = {static_cast<const T *>(wq.data), NULL, 0,
                          static_cast<unsigned>(spec->heads_q), 0},
                     k = {static_cast<const T *>(wk.data), NULL, q.count,
                          static_cast<unsigned>(spec->heads_k), 0};
            Rope<T> rope = {rows_of<T>(out),
                            rows_of<const T>(in),
                            rows_of<const T>(x),
                            rows_of<float>(rstd),
                            q,
                            k,
                            spec->table,
                            spec->positions,
                            static_cast<unsigned>(in.rows),
                            dim,
                            rotary,
                            lanes,
                            spec->eps};
            launch(element, share, rope);
        };
        constexpr int N = 16 / sizeof(T);
        using Fast = Share<N, 1>;
        using Slow = Share<1, 8>; /* one element at a time */
        CHECK(dim <= Slow::MAX_DIM, "heads of %d elements; %d are possible", dim, Slow::MAX_DIM);
        if (aligned && dim % (2 * N) == 0 && rotary % (2 * N) == 0 && dim <= Fast::MAX_DIM)
            with_share(Fast());
        else
            with_share(Slow());
    });
}

/* Blocks for one head a group. */
template <typename T> void blocks_for_all(Rope<T> &rope) {
    unsigned groups = ROPE_BLOCK / static_cast<unsigned>(rope.lanes);
    rope.q.blocks = ceil_div(rope.rows * rope.q.count, groups);
    rope.k.blocks = ceil_div(rope.rows * rope.k.count, groups);
}

/* Parts of dw of `count` heads out of `heads`: a function of the shape. */
unsigned rope_parts(int64_t rows, int count, int heads) {
    constexpr int64_t HEADS_A_PART = 256;
    int64_t parts = ceil_div(rows * count, HEADS_A_PART), most = MAX_PARTIALS * count / heads;
    if (most < 1) most = 1;
    return static_cast<unsigned>(parts < most ? parts : most);
}

} // namespace

void cuda_qk_rope_fwd(cudaStream_t stream, Tensor qk, Tensor rstd, Tensor qkv, Tensor wq, Tensor wk,
                      const RopeSpec *spec) {
    with_rope(qk, qkv, tensor_none(), rstd, wq, wk, spec, [&](auto element, auto share, auto rope) {
        using T = decltype(element);
        blocks_for_all(rope);
        LAUNCH((qk_rope_fwd<T, decltype(share)>), rope.q.blocks + rope.k.blocks, ROPE_BLOCK, 0,
               stream, rope);
    });
}

size_t cuda_qk_rope_bwd_scratch(int64_t rows, const RopeSpec *spec) {
    int heads = spec->heads_q + spec->heads_k;
    size_t parts = rope_parts(rows, spec->heads_q, heads) + rope_parts(rows, spec->heads_k, heads);
    return parts * static_cast<size_t>(spec->head_dim) * sizeof(float);
}

void cuda_qk_rope_bwd(cudaStream_t stream, void *scratch, Tensor dqkv, Tensor dwq, Tensor dwk,
                      Tensor dqk, Tensor qkv, Tensor rstd, Tensor wq, Tensor wk,
                      const RopeSpec *spec) {
    bool norm = !tensor_is_none(wq), sums = !tensor_is_none(dwq);
    int dim = spec->head_dim, heads = spec->heads_q + spec->heads_k;
    unsigned parts_q = rope_parts(qkv.rows, spec->heads_q, heads),
             parts_k = rope_parts(qkv.rows, spec->heads_k, heads);
    float *partials_q = static_cast<float *>(scratch);
    float *partials_k = partials_q + static_cast<int64_t>(parts_q) * dim;
    with_rope(dqkv, dqk, qkv, rstd, wq, wk, spec, [&](auto element, auto share, auto rope) {
        using T = decltype(element);
        using S = decltype(share);
        if (norm && sums) {
            rope.q.blocks = parts_q;
            rope.k.blocks = parts_k;
            rope.q.partials = partials_q;
            rope.k.partials = partials_k;
        } else {
            blocks_for_all(rope);
        }
        unsigned grid = rope.q.blocks + rope.k.blocks;
        if (norm && sums)
            LAUNCH((qk_rope_bwd<T, S, true, true>), grid, ROPE_BLOCK, 0, stream, rope);
        else if (norm)
            LAUNCH((qk_rope_bwd<T, S, true, false>), grid, ROPE_BLOCK, 0, stream, rope);
        else
            LAUNCH((qk_rope_bwd<T, S, false, false>), grid, ROPE_BLOCK, 0, stream, rope);
    });
    if (!norm || !sums) return;
    launch_partials(stream, {static_cast<float *>(dwq.data), partials_q, static_cast<int>(parts_q)},
                    {static_cast<float *>(dwk.data), partials_k, static_cast<int>(parts_k)}, dim);
}
