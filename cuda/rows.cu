/* Pictures, tokens and rows: what moves rows about, adds them, or changes their type.
 *
 * Nearly all are the walk of rows.cuh. What only moves does so in words, whatever they mean: of 16
 * bytes where rows are aligned, else of one element. */
#include <type_traits>

#include "cuda/rows.cuh"

/* ---- patches ---- */

using namespace rowwise;

namespace {

struct Patchify {
    const uint8_t *pixels;           /* [images, size, size, channels] */
    int size, channels, patch, side; /* side · side patches a picture */
    float scale[3], shift[3];
};

/* A block does one channel (blockIdx.y) of one patch, a thread every 256th column: neighbours in a
 * row of the patch are neighbours in memory too, a pixel apart on one side, an element on the
 * other. Floor: images·P·channels·patch² · (1 byte read + 1 element written). Bytes come one by one
 * from the first cache: perhaps half the speed of the floor, for a thousandth of a step. Not yet
 * run on a GPU. */
template <typename T> __global__ void __launch_bounds__(256) patchify(Rows<T> out, Patchify p) {
    int c = static_cast<int>(blockIdx.y), patches = p.side * p.side, area = p.patch * p.patch;
    int64_t row = blockIdx.x, image = row / patches;
    int place = static_cast<int>(row % patches);
    int top = place / p.side * p.patch, left = place % p.side * p.patch;
    const uint8_t *corner = p.pixels + ((image * p.size + top) * p.size + left) * p.channels + c;
    float scale = c == 0 ? p.scale[0] : c == 1 ? p.scale[1] : p.scale[2];
    float shift = c == 0 ? p.shift[0] : c == 1 ? p.shift[1] : p.shift[2];
    for (int i = static_cast<int>(threadIdx.x); i < area; i += 256) {
        float pixel = corner[static_cast<int64_t>(i / p.patch * p.size + i % p.patch) * p.channels];
        out[row][c * area + i] = from_float<T>(pixel * scale - shift);
    }
}

} // namespace

void cuda_patchify(cudaStream_t stream, Tensor patches, const uint8_t *pixels,
                   const PatchSpec *spec) {
    Patchify p = {
        pixels, spec->image_size, spec->channels, spec->patch, spec->image_size / spec->patch, {},
        {}};
    for (int c = 0; c < spec->channels; c++) {
        p.scale[c] = 1.0f / (255.0f * spec->std[c]);
        p.shift[c] = spec->mean[c] / spec->std[c];
    }
    if (patches.rows == 0) return;
    dim3 grid(static_cast<unsigned>(patches.rows), static_cast<unsigned>(spec->channels));
    with_type(patches.dtype, [&](auto element) {
        using T = decltype(element);
        LAUNCH((patchify<T>), grid, 256, 0, stream, rows_of<T>(patches), p);
    });
}

/* ---- sums ---- */

namespace {

/* out = a + b of row % period: an ordinary sum where the period is all rows, a table's rows for
 * each picture where it is P. out may be a or b. Floor: 3·T·C elements of memory, 2·T·C where b
 * stays in the caches. At the floor by count. */
template <typename T, int N> struct Add {
    Rows<T> out;
    Rows<const T> a, b;
    unsigned period;
    struct Loaded {
        Bits<T, N> a, b;
    };

    __device__ __forceinline__ Loaded load(int64_t row, int64_t at) const {
        Loaded l;
        l.a.load(a[row] + at * N);
        l.b.load(b[static_cast<unsigned>(row) % period] + at * N);
        return l;
    }

    __device__ __forceinline__ void store(int64_t row, int64_t at, const Loaded &l) const {
        Values<N> x = l.a.values(), y = l.b.values();
#pragma unroll
        for (int i = 0; i < N; i++) x.x[i] += y.x[i];
        store_values(out[row] + at * N, x);
    }
};

/* out = factor · x; out may be x. Floor: 2·T·C elements of memory. At the floor by count; not yet
 * run on a GPU. */
template <typename T, int N> struct Scale {
    Rows<T> out;
    Rows<const T> x;
    float factor;
    typedef Bits<T, N> Loaded;

    __device__ __forceinline__ Loaded load(int64_t row, int64_t at) const {
        Loaded l;
        l.load(x[row] + at * N);
        return l;
    }

    __device__ __forceinline__ void store(int64_t row, int64_t at, const Loaded &l) const {
        Values<N> v = l.values();
#pragma unroll
        for (int i = 0; i < N; i++) v.x[i] *= factor;
        store_values(out[row] + at * N, v);
    }
};

void add_rows(cudaStream_t stream, Tensor out, Tensor a, Tensor b) {
    bool aligned = rows_aligned(out) && rows_aligned(a) && rows_aligned(b);
    CHECK(a.rows < INT32_MAX, "%ld rows", static_cast<long>(a.rows));
    unsigned period = static_cast<unsigned>(b.rows);
    with_type(a.dtype, [&](auto element) {
        using T = decltype(element);
        constexpr int N = 16 / sizeof(T);
        Rows<T> to = rows_of<T>(out);
        Rows<const T> x = rows_of<const T>(a), y = rows_of<const T>(b);
        if (aligned)
            launch_map(stream, Add<T, N>{to, x, y, period}, a.rows, a.cols / N);
        else
            launch_map(stream, Add<T, 1>{to, x, y, period}, a.rows, a.cols);
    });
}

} // namespace

void cuda_scale(cudaStream_t stream, Tensor out, Tensor x, float factor) {
    with_type(x.dtype, [&](auto element) {
        using T = decltype(element);
        constexpr int N = 16 / sizeof(T);
        Rows<T> to = rows_of<T>(out);
        Rows<const T> from = rows_of<const T>(x);
        if (rows_aligned(out) && rows_aligned(x))
            launch_map(stream, Scale<T, N>{to, from, factor}, x.rows, x.cols / N);
        else
            launch_map(stream, Scale<T, 1>{to, from, factor}, x.rows, x.cols);
    });
}

void cuda_add(cudaStream_t stream, Tensor out, Tensor a, Tensor b) {
    add_rows(stream, out, a, b);
}

void cuda_add_positions(cudaStream_t stream, Tensor x, Tensor table) {
    add_rows(stream, x, x, table);
}

namespace {

/* dtable += Σ of the same row of every picture, in their order: a thread does one pack of a row.
 * Floor: images·P·C elements + 8·P·C bytes. At the floor by count. */
template <typename T, int N> struct SumPictures {
    Rows<float> dtable;
    Rows<const T> dx;
    int64_t places, images; /* P, and how many times P rows */
    typedef Values<N> Loaded;

    __device__ __forceinline__ Loaded load(int64_t row, int64_t at) const {
        Loaded sum = load_values<float, N>(dtable[row] + at * N);
#pragma unroll 4
        for (int64_t image = 0; image < images; image++) {
            Values<N> d = load_values<T, N>(dx[image * places + row] + at * N);
#pragma unroll
            for (int i = 0; i < N; i++) sum.x[i] += d.x[i];
        }
        return sum;
    }

    __device__ __forceinline__ void store(int64_t row, int64_t at, const Loaded &sum) const {
        store_values(dtable[row] + at * N, sum);
    }
};

} // namespace

void cuda_add_positions_bwd(cudaStream_t stream, Tensor dtable, Tensor dx) {
    bool aligned = rows_aligned(dtable) && rows_aligned(dx);
    int64_t places = dtable.rows, images = dx.rows / places;
    with_type(dx.dtype, [&](auto element) {
        using T = decltype(element);
        constexpr int N = 16 / sizeof(T);
        Rows<float> to = rows_of<float>(dtable);
        Rows<const T> from = rows_of<const T>(dx);
        if (aligned)
            launch_map(stream, SumPictures<T, N>{to, from, places, images}, places, dx.cols / N);
        else
            launch_map(stream, SumPictures<T, 1>{to, from, places, images}, places, dx.cols);
    });
}

/* ---- rows moved ---- */

namespace {

/* out[to[i]] = from[i], out = from where there are no indices. W is a word. Floor: 2·rows·C
 * elements of memory. At the floor by count. */
template <typename W> struct Move {
    Rows<W> out;
    Rows<const W> from;
    const int32_t *out_rows, *from_rows; /* NULL: row i itself */
    typedef W Loaded;

    __device__ __forceinline__ Loaded load(int64_t row, int64_t at) const {
        return from[from_rows ? from_rows[row] : row][at];
    }

    __device__ __forceinline__ void store(int64_t row, int64_t at, const Loaded &word) const {
        out[out_rows ? out_rows[row] : row][at] = word;
    }
};

/* out = 0. Floor: rows·C elements written. At the floor by count. */
template <typename W> struct Zero {
    Rows<W> out;
    struct Loaded {};

    __device__ __forceinline__ Loaded load(int64_t, int64_t) const { return {}; }

    __device__ __forceinline__ void store(int64_t row, int64_t at, const Loaded &) const {
        out[row][at] = W();
    }
};

/* out[t] = table[ids[t]], or features[-1 - ids[t]]. Floor: 2·T·C elements of memory + 4·T bytes.
 * At the floor by count. */
template <typename W> struct Embed {
    Rows<W> out;
    Rows<const W> table, features;
    const int32_t *ids;
    typedef W Loaded;

    __device__ __forceinline__ Loaded load(int64_t row, int64_t at) const {
        int64_t id = ids[row];
        return id >= 0 ? table[id][at] : features[-1 - id][at];
    }

    __device__ __forceinline__ void store(int64_t row, int64_t at, const Loaded &word) const {
        out[row][at] = word;
    }
};

/* Rows in words of W. */
template <typename W> Rows<W> words_of(Tensor t) {
    int64_t size = static_cast<int64_t>(dtype_size(t.dtype));
    return {static_cast<W *>(t.data), t.stride * size / static_cast<int64_t>(sizeof(W))};
}

/* Calls f(W(), words in a row) with the widest word that suits. */
template <typename F> void with_word(bool aligned, Tensor t, F f) {
    int64_t bytes = t.cols * static_cast<int64_t>(dtype_size(t.dtype));
    if (aligned) return f(uint4(), bytes / 16);
    if (dtype_size(t.dtype) == 4) return f(uint32_t(), bytes / 4);
    CHECK(dtype_size(t.dtype) == 2, "%s rows", dtype_name(t.dtype));
    f(uint16_t(), bytes / 2);
}

void move_rows(cudaStream_t stream, Tensor out, const int32_t *out_rows, Tensor from,
               const int32_t *from_rows, int64_t count) {
    with_word(rows_aligned(out) && rows_aligned(from), out, [&](auto word, int64_t words) {
        using W = decltype(word);
        Move<W> move = {words_of<W>(out), words_of<const W>(from), out_rows, from_rows};
        launch_map(stream, move, count, words);
    });
}

} // namespace

void cuda_gather_rows(cudaStream_t stream, Tensor out, Tensor x, const int32_t *rows) {
    move_rows(stream, out, NULL, x, rows, out.rows);
}

void cuda_put_rows(cudaStream_t stream, Tensor out, Tensor x, const int32_t *rows) {
    move_rows(stream, out, rows, x, NULL, x.rows);
}

/* All of out is set to zero, then some rows are written again: with n of T rows this moves n + T +
 * n rows where T + n would do, 1.5 times as much at worst and next to nothing more for the few rows
 * with labels. To know which rows are free would need their inverse. */
void cuda_scatter_rows(cudaStream_t stream, Tensor out, Tensor x, const int32_t *rows) {
    with_word(rows_aligned(out), out, [&](auto word, int64_t words) {
        using W = decltype(word);
        launch_map(stream, Zero<W>{words_of<W>(out)}, out.rows, words);
    });
    cuda_put_rows(stream, out, x, rows);
}

void cuda_embed_fwd(cudaStream_t stream, Tensor out, const int32_t *ids, Tensor table,
                    Tensor features) {
    bool aligned = rows_aligned(out) && rows_aligned(table) && rows_aligned(features);
    with_word(aligned, out, [&](auto word, int64_t words) {
        using W = decltype(word);
        Embed<W> embed = {words_of<W>(out), words_of<const W>(table), words_of<const W>(features),
                          ids};
        launch_map(stream, embed, out.rows, words);
    });
}

/* ---- the embedding's gradient ---- */

namespace {

template <typename T> struct EmbedBwd {
    Rows<float> dtable; /* data NULL: not wanted */
    Rows<T> dfeatures;  /* the same */
    Rows<const T> dout;
    const int32_t *ids;
    int tokens;
    int64_t packs;
};

constexpr int EMBED_BLOCK = 256, EMBED_WARPS = EMBED_BLOCK / 32;
constexpr int EMBED_EACH = 4; /* ids that a thread looks at between barriers */
constexpr int EMBED_LOOK = EMBED_EACH * EMBED_BLOCK;

/* Whether `id` is among ids[0 … end); looks from the end, where the last one of a frequent token is
 * near. The whole block asks together. */
__device__ __forceinline__ bool seen_before(const int32_t *ids, int end, int32_t id) {
    for (; end > 0; end -= EMBED_LOOK) {
        int found = 0;
#pragma unroll
        for (int k = 0; k < EMBED_EACH; k++) {
            int at = end - 1 - k * EMBED_BLOCK - static_cast<int>(threadIdx.x);
            if (at >= 0) found |= ids[at] == id;
        }
        if (__syncthreads_or(found)) return true;
    }
    return false;
}

/* Lists in `places` where `id` is among the EMBED_LOOK ids from `first` on, in order, and returns
 * how many there are. The whole block asks together. */
__device__ __forceinline__ int list_places(int (&places)[EMBED_LOOK], const int32_t *ids, int first,
                                           int tokens, int32_t id) {
    static_assert(EMBED_EACH * EMBED_WARPS == 32, "a lane for each vote of the block");
    SHARED(int, counts, [32]); /* places found by each vote, in order */
    int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    unsigned votes[EMBED_EACH];
    unsigned found = 0;
#pragma unroll
    for (int k = 0; k < EMBED_EACH; k++) {
        int at = first + k * EMBED_BLOCK + static_cast<int>(threadIdx.x);
        votes[k] = __ballot_sync(FULL_MASK, at < tokens && ids[at] == id);
        found |= votes[k];
        if (lane == 0) counts[k * EMBED_WARPS + warp] = __popc(votes[k]);
    }
    if (!__syncthreads_or(found != 0)) return 0;

    int count = counts[lane], upto = count; /* of this vote; of all up to it */
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        int below = __shfl_up_sync(FULL_MASK, upto, step);
        if (lane >= step) upto += below;
    }
#pragma unroll
    for (int k = 0; k < EMBED_EACH; k++) {
        int before = __shfl_sync(FULL_MASK, upto - count, k * EMBED_WARPS + warp);
        if (votes[k] >> lane & 1)
            places[before + __popc(votes[k] & ((1u << lane) - 1))] =
                first + k * EMBED_BLOCK + static_cast<int>(threadIdx.x);
    }
    __syncthreads();
    return __shfl_sync(FULL_MASK, upto, 31);
}

/* A block does row t, and up to 256 packs of it (blockIdx.y says which). A feature's row is copied.
 * Of the rows that share a token the block of the first adds all, in their order, and the others
 * return: no atomics, the same bits every time.
 * Floor: T·C elements read, features written; 8·C bytes for each different token. Above that the
 * ids are looked through: at most twice for each different token from the second cache, 8·T bytes
 * each (16384 rows of 1000 tokens: 131 MB beside 50 MB of dout in bf16), and the rows of one token
 * are added by one block, four loads under way: a token with 10 % of 16384 rows takes about 0.3 ms
 * of one SM, which is what the kernel lasts. */
template <typename T, int N>
__global__ void __launch_bounds__(EMBED_BLOCK) embed_bwd(EmbedBwd<T> a) {
    SHARED(int, places, [EMBED_LOOK]);
    int t = static_cast<int>(blockIdx.x);
    int32_t id = a.ids[t];
    int64_t at = static_cast<int64_t>(blockIdx.y) * EMBED_BLOCK + threadIdx.x;
    bool has = at < a.packs;
    if (id < 0) {
        if (!a.dfeatures.data || !has) return;
        Bits<T, N> bits;
        bits.load(a.dout[t] + at * N);
        bits.store(a.dfeatures[-1 - static_cast<int64_t>(id)] + at * N);
        return;
    }
    if (!a.dtable.data || seen_before(a.ids, t, id)) return;

    Values<N> sum = {};
    if (has) sum = load_values<float, N>(a.dtable[id] + at * N);
    for (int first = t; first < a.tokens; first += EMBED_LOOK) {
        int count = list_places(places, a.ids, first, a.tokens, id);
        for (int i = 0; has && i < count; i += 4) {
            Bits<T, N> bits[4];
#pragma unroll
            for (int k = 0; k < 4; k++)
                if (i + k < count) bits[k].load(a.dout[places[i + k]] + at * N);
#pragma unroll
            for (int k = 0; k < 4; k++) {
                if (i + k >= count) break;
                Values<N> d = bits[k].values();
#pragma unroll
                for (int n = 0; n < N; n++) sum.x[n] += d.x[n];
            }
        }
        __syncthreads(); /* before the list is written again */
    }
    if (has) store_values(a.dtable[id] + at * N, sum);
}

} // namespace

void cuda_embed_bwd(cudaStream_t stream, Tensor dtable, Tensor dfeatures, Tensor dout,
                    const int32_t *ids) {
    if (dout.rows == 0) return;
    CHECK(dout.rows < INT32_MAX - EMBED_LOOK, "%ld rows", static_cast<long>(dout.rows));
    bool aligned = rows_aligned(dtable) && rows_aligned(dfeatures) && rows_aligned(dout);
    with_type(dout.dtype, [&](auto element) {
        using T = decltype(element);
        constexpr int N = 16 / sizeof(T);
        int64_t packs = aligned ? dout.cols / N : dout.cols;
        EmbedBwd<T> a = {rows_of<float>(dtable),      rows_of<T>(dfeatures),
                         rows_of<const T>(dout),      ids,
                         static_cast<int>(dout.rows), packs};
        dim3 grid(static_cast<unsigned>(dout.rows),
                  static_cast<unsigned>(ceil_div<int64_t>(packs, EMBED_BLOCK)));
        if (aligned)
            LAUNCH((embed_bwd<T, N>), grid, EMBED_BLOCK, 0, stream, a);
        else
            LAUNCH((embed_bwd<T, 1>), grid, EMBED_BLOCK, 0, stream, a);
    });
}

/* ---- types ---- */

namespace {

/* dst = src in another type, rounded once. Floor: T·C·(bytes of one + bytes of the other). At the
 * floor by count. */
template <typename To, typename From, int N> struct Convert {
    Rows<To> dst;
    Rows<const From> src;
    typedef Bits<From, N> Loaded;

    __device__ __forceinline__ Loaded load(int64_t row, int64_t at) const {
        Loaded l;
        l.load(src[row] + at * N);
        return l;
    }

    __device__ __forceinline__ void store(int64_t row, int64_t at, const Loaded &l) const {
        store_values(dst[row] + at * N, l.values());
    }
};

} // namespace

void cuda_convert(cudaStream_t stream, Tensor dst, Tensor src) {
    if (dst.dtype == src.dtype) return move_rows(stream, dst, NULL, src, NULL, src.rows);
    bool aligned = rows_aligned(dst) && rows_aligned(src);
    with_type(dst.dtype, [&](auto to) {
        with_type(src.dtype, [&](auto from) {
            using To = decltype(to);
            using From = decltype(from);
            constexpr int N = 8; /* one of the two types has 2 bytes */
            if constexpr (!std::is_same<To, From>::value) {
                Rows<To> out = rows_of<To>(dst);
                Rows<const From> in = rows_of<const From>(src);
                if (aligned)
                    launch_map(stream, Convert<To, From, N>{out, in}, src.rows, src.cols / N);
                else
                    launch_map(stream, Convert<To, From, 1>{out, in}, src.rows, src.cols);
            }
        });
    });
}
