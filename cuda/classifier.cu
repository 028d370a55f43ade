/* The end of the forward pass: cross entropy and its gradient in one go, its sum, and the argmax.
 *
 * All three are bound by memory. A row of logits is held in registers between the pass that finds
 * its sum of exponentials and the pass that writes its gradient, as far as registers reach. Any
 * row may start anywhere: what lies before the first and after the last 16-byte boundary is at most
 * 14 elements, one each for the first threads of the block. */
#include "cuda/rows.cuh"

using namespace rowwise;

namespace {

/* ---- a row in packs of 16 bytes ---- */

struct Span {
    int head, packs, tail; /* elements, packs, elements */
};

template <typename T> __device__ __forceinline__ Span span_of(const T *row, int cols) {
    int past = static_cast<int>(reinterpret_cast<uintptr_t>(row) % 16 / sizeof(T));
    int head = past ? Pack<T>::size - past : 0;
    if (head > cols) head = cols;
    int packs = (cols - head) / Pack<T>::size;
    return {head, packs, cols - head - packs * Pack<T>::size};
}

/* The single element that falls to this thread, or -1. */
template <typename T> __device__ __forceinline__ int edge_of(Span span) {
    int t = static_cast<int>(threadIdx.x);
    if (t < span.head) return t;
    return t < span.head + span.tail ? t + span.packs * Pack<T>::size : -1;
}

/* The thread that column `col` falls to. */
template <typename T> __device__ __forceinline__ int owner_of(Span span, int col) {
    int pack = (col - span.head) / Pack<T>::size;
    if (col < span.head) return col;
    if (pack < span.packs) return pack % static_cast<int>(blockDim.x);
    return col - span.packs * Pack<T>::size;
}

/* ---- sums of exponentials ---- */

__device__ __forceinline__ float exp_fast(float x) {
    constexpr float LOG2_E = 1.44269504f;
    return ptx::exp2_fast(x * LOG2_E);
}

/* Some logits: the largest (NaN is passed over here, and shows in the sum) and Σ exp(x - top). */
struct Peak {
    float top, sum;
};

/* What exponents are measured from: finite as long as only -∞ was seen, so that such logits come to
 * 0 rather than -∞ + ∞. A logit of +∞ stays: it makes the sum NaN, as it should. */
__device__ __forceinline__ float base_of(float top) {
    return top == -INFINITY ? 0.0f : top;
}

template <typename T> __device__ __forceinline__ float pack_max(const Pack<T> &p, float top) {
#pragma unroll
    for (int i = 0; i < Pack<T>::size; i++) top = fmaxf(top, p.x[i]);
    return top;
}

/* Σ exp(x - base) as a tree: short chains, small errors. */
template <typename T> __device__ __forceinline__ float pack_sum_exp(const Pack<T> &p, float base) {
    Pack<T> e;
#pragma unroll
    for (int i = 0; i < Pack<T>::size; i++) e.x[i] = exp_fast(p.x[i] - base);
#pragma unroll
    for (int half = Pack<T>::size / 2; half; half /= 2) {
#pragma unroll
        for (int i = 0; i < half; i++) e.x[i] += e.x[i + half];
    }
    return e.x[0];
}

/* `sum`, which was measured from the peak's top, measured from a new, higher one. */
__device__ __forceinline__ float sum_below(const Peak &peak, float top) {
    return peak.sum * exp_fast(peak.top - base_of(top));
}

template <typename T>
__device__ __forceinline__ Peak peak_with(const Peak &peak, const Pack<T> &p) {
    float top = pack_max(p, peak.top);
    return {top, sum_below(peak, top) + pack_sum_exp(p, base_of(top))};
}

__device__ __forceinline__ Peak peak_with(const Peak &peak, float x) {
    float top = fmaxf(peak.top, x);
    return {top, sum_below(peak, top) + exp_fast(x - base_of(top))};
}

__device__ __forceinline__ Peak warp_peak(const Peak &peak) {
    float top = warp_max(peak.top);
    return {top, warp_sum(sum_below(peak, top))};
}

/* The peak of the whole block, in every thread; to be called once. */
__device__ __forceinline__ Peak block_peak(const Peak &peak) {
    SHARED(Peak, peaks, [32]);
    int lane = static_cast<int>(threadIdx.x % 32), warps = static_cast<int>(blockDim.x / 32);
    Peak of_warp = warp_peak(peak);
    if (lane == 0) peaks[threadIdx.x / 32] = of_warp;
    __syncthreads();
    return warp_peak(lane < warps ? peaks[lane] : Peak{-INFINITY, 0.0f});
}

/* ---- cross entropy ---- */

constexpr int KEPT = 8;            /* packs of a row that a thread keeps in registers (32 of 64) */
constexpr int MOST_THREADS = 1024; /* of a block: the register file then is half full of logits */

/* Softmax times a factor. */
struct Softmax {
    float base, scale; /* factor / Σ exp(x - base) */

    __device__ __forceinline__ float of(float x) const { return exp_fast(x - base) * scale; }

    template <typename T> __device__ __forceinline__ Pack<T> of(Pack<T> p) const {
#pragma unroll
        for (int i = 0; i < Pack<T>::size; i++) p.x[i] = of(p.x[i]);
        return p;
    }
};

/* A block is one row; a thread takes every blockDim-th pack of it and keeps the first KEPT of them.
 *
 * Floor for n rows of V elements of s bytes: 2·n·V·s bytes with the gradient, n·V·s without; about
 * 13 instructions an element, two of them exponentials. At H200's 4.8 TB/s, bf16: 1.2·10¹² elements
 * a second need 55 % of its instruction slots and 67 % of its exponentials, so memory decides.
 * By count at the floor up to KEPT · MOST_THREADS packs (V = 65,536 in 16 bits, 32,768 in f32).
 * Longer rows are read a second time beyond that, last packs first: the rows under way on 132
 * multiprocessors are 40 MB for V = 151,936, which the level-2 cache (50 MB) may still hold; at
 * worst 2.75/2 of the floor at V = 256,000.
 * Rows up to 32,768 (16 bits) leave room for two blocks or more on a multiprocessor, so that one
 * computes while the other loads. */
template <typename T>
__global__ void __launch_bounds__(MOST_THREADS, 1)
    cross_entropy_kernel(float *loss, float *hits, Rows<T> logits, int cols, const int32_t *targets,
                         const float *gradient) {
    constexpr int size = Pack<T>::size;
    T *row = logits[blockIdx.x];
    int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    Span span = span_of(row, cols);
    T *body = row + span.head;
    int edge = edge_of<T>(span), target = targets[blockIdx.x];
    bool mine = owner_of<T>(span, target) == thread; /* so nobody else writes it */
    float target_logit = mine ? to_float(row[target]) : 0.0f;

    Pack<T> nothing;
#pragma unroll
    for (int i = 0; i < size; i++) nothing.x[i] = -INFINITY;
    uint4 kept[KEPT];
    T *at = body + thread * size;
#pragma unroll
    for (int k = 0; k < KEPT; k++, at += threads * size) {
        kept[k] = repack<T>(nothing);
        if (thread + k * threads < span.packs) kept[k] = *reinterpret_cast<const uint4 *>(at);
    }
    Peak peak = {-INFINITY, 0.0f};
#pragma unroll
    for (int k = 0; k < KEPT; k++) peak = peak_with(peak, unpack<T>(kept[k]));

    int first_unkept = thread + KEPT * threads, i = first_unkept;
    for (; i < span.packs; i += threads) peak = peak_with(peak, load_pack(body + i * size));
    if (edge >= 0) peak = peak_with(peak, to_float(row[edge]));
    peak = block_peak(peak);

    if (mine) {
        loss[blockIdx.x] = logf(peak.sum) + (peak.top - target_logit);
        if (hits) hits[blockIdx.x] = target_logit >= peak.top ? 1.0f : 0.0f;
    }
    if (!gradient) return;

    Softmax softmax = {base_of(peak.top), *gradient / peak.sum};
    for (i -= threads; i >= first_unkept; i -= threads)
        store_pack(body + i * size, softmax.of(load_pack(body + i * size)));
    at = body + thread * size;
#pragma unroll
    for (int k = 0; k < KEPT; k++, at += threads * size) {
        ptx::forget(kept[k]);
        if (thread + k * threads < span.packs) store_pack(at, softmax.of(unpack<T>(kept[k])));
    }
    if (edge >= 0) row[edge] = from_float<T>(softmax.of(to_float(row[edge])));
    if (mine) row[target] = from_float<T>(softmax.of(target_logit) - *gradient);
}

/* As many threads as keep the whole row, in warps. */
template <typename T> unsigned threads_of(int64_t cols) {
    int64_t packs = ceil_div<int64_t>(cols, Pack<T>::size);
    int64_t threads = ceil_div<int64_t>(packs, KEPT * 32) * 32;
    return static_cast<unsigned>(threads < MOST_THREADS ? threads : MOST_THREADS);
}

/* ---- the sum of losses ---- */

constexpr int SUM_THREADS = 512;

/* One block; thread t sums every 512th loss in f64, then a tree. Floor: 8·n bytes, 0.1 MB for
 * 16,384 labels: what it costs is a launch and the latency of n / 512 loads. */
__global__ void __launch_bounds__(SUM_THREADS)
    sum_loss_kernel(LossSum *out, const float *loss, const float *hits, int64_t n) {
    SHARED(double, losses, [SUM_THREADS / 32]);
    SHARED(double, counts, [SUM_THREADS / 32]);
    double sum = 0.0, count = 0.0; /* a double counts to 2⁵³ */
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < n; i += SUM_THREADS) {
        sum += static_cast<double>(loss[i]);
        count += hits[i] > 0.0f ? 1.0 : 0.0;
    }
    sum = warp_sum(sum);
    count = warp_sum(count);
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (lane == 0) {
        losses[warp] = sum;
        counts[warp] = count;
    }
    __syncthreads();
    if (warp) return;
    sum = warp_sum(lane < SUM_THREADS / 32 ? losses[lane] : 0.0);
    count = warp_sum(lane < SUM_THREADS / 32 ? counts[lane] : 0.0);
    if (lane == 0) *out = {sum, static_cast<int64_t>(count)};
}

/* ---- argmax ---- */

constexpr int ARGMAX_THREADS = 512;
constexpr int NOWHERE = INT32_MAX;

/* Whether (a, at) comes before (b, other): larger, or as large and earlier. */
__device__ __forceinline__ bool beats(float a, int at, float b, int other) {
    return a > b || (a == b && at < other);
}

/* Where the largest is, in all lanes. */
__device__ __forceinline__ void warp_best(float &top, int &at) {
#pragma unroll
    for (int step = 16; step; step /= 2) {
        float other_top = __shfl_xor_sync(FULL_MASK, top, step);
        int other_at = __shfl_xor_sync(FULL_MASK, at, step);
        if (beats(other_top, other_at, top, at)) {
            top = other_top;
            at = other_at;
        }
    }
}

/* A block is one row, a thread takes every 512th pack. Floor: n·V·s bytes, one read, which is also
 * the count; it serves generation, where n is small and latency decides: V / 4,096 loads of 16-bit
 * logits one after another, then a tree. */
template <typename T>
__global__ void __launch_bounds__(ARGMAX_THREADS)
    argmax_kernel(int32_t *best, float *probability, Rows<const T> logits, int cols) {
    SHARED(float, tops, [ARGMAX_THREADS / 32]);
    SHARED(int, places, [ARGMAX_THREADS / 32]);
    const T *row = logits[blockIdx.x];
    Span span = span_of(row, cols);
    const T *body = row + span.head;
    int edge = edge_of<T>(span);

    Peak peak = {-INFINITY, 0.0f};
    int at = NOWHERE;
#pragma unroll 2
    for (int i = static_cast<int>(threadIdx.x); i < span.packs; i += ARGMAX_THREADS) {
        Pack<T> p = load_pack(body + i * Pack<T>::size);
        Peak next = peak_with(peak, p);
        if (next.top > peak.top || at == NOWHERE) {
#pragma unroll
            for (int k = Pack<T>::size - 1; k >= 0; k--)
                if (p.x[k] == next.top) at = span.head + i * Pack<T>::size + k;
        }
        peak = next;
    }
    float top = peak.top;
    if (edge >= 0) {
        float x = to_float(row[edge]);
        if (beats(x, edge, top, at)) {
            top = x;
            at = edge;
        }
        peak = peak_with(peak, x);
    }

    warp_best(top, at);
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (lane == 0) {
        tops[warp] = top;
        places[warp] = at;
    }
    peak = block_peak(peak);
    if (warp) return;
    top = lane < ARGMAX_THREADS / 32 ? tops[lane] : -INFINITY;
    at = lane < ARGMAX_THREADS / 32 ? places[lane] : NOWHERE;
    warp_best(top, at);
    if (lane) return;
    best[blockIdx.x] = at == NOWHERE ? cols - 1 : at; /* a row of NaN: as on the CPU */
    /* 1 / sum; 0 / 0 in a row of nothing but -∞. */
    probability[blockIdx.x] = exp_fast(peak.top - base_of(peak.top)) / peak.sum;
}

} // namespace

void cuda_cross_entropy(cudaStream_t stream, Tensor loss, Tensor hits, Tensor logits,
                        const int32_t *targets, const float *gradient) {
    with_type(logits.dtype, [&](auto element) {
        using T = decltype(element);
        LAUNCH(cross_entropy_kernel<T>, static_cast<unsigned>(logits.rows),
               threads_of<T>(logits.cols), 0, stream, static_cast<float *>(loss.data),
               static_cast<float *>(hits.data), rows_of<T>(logits), static_cast<int>(logits.cols),
               targets, gradient);
    });
}

void cuda_sum_loss(cudaStream_t stream, LossSum *out, Tensor loss, Tensor hits) {
    LAUNCH(sum_loss_kernel, 1, SUM_THREADS, 0, stream, out, static_cast<const float *>(loss.data),
           static_cast<const float *>(hits.data), loss.cols);
}

void cuda_argmax(cudaStream_t stream, int32_t *best, float *probability, Tensor logits) {
    with_type(logits.dtype, [&](auto element) {
        using T = decltype(element);
        LAUNCH(argmax_kernel<T>, static_cast<unsigned>(logits.rows), ARGMAX_THREADS, 0, stream,
               best, probability, rows_of<const T>(logits), static_cast<int>(logits.cols));
    });
}
