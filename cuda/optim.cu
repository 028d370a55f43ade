/* The update of parameters: the norm of the gradients and what follows from it, decided on the
 * device so that a step never waits for the host, and AdamW over all parameters in one launch.
 *
 * Flat f32 arrays, as long as there are trainable parameters; all is bound by memory. Arrays that
 * start on 16 bytes (the model's) are read in packs of four, others one by one. */
#include "cuda/kernel.cuh"

#include "cuda/cuda_ops.h"

namespace {

constexpr int THREADS = 256;
constexpr int FOUR = Pack<float>::size;

bool is_aligned(const void *p) {
    return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

/* ---- the norm of the gradients ---- */

/* Gradients are summed in chunks that depend on their count alone, so the sum has the same bits on
 * every device: multiples of 16,384, of which there are at most 8,192. */
constexpr int64_t CHUNK_UNIT = 16384, MOST_CHUNKS = 8192;

int64_t chunk_of(int64_t count) {
    int64_t units = ceil_div(count, CHUNK_UNIT * MOST_CHUNKS);
    return CHUNK_UNIT * (units > 1 ? units : 1);
}

int64_t chunks_of(int64_t count) {
    int64_t chunks = ceil_div(count, chunk_of(count));
    return chunks > 1 ? chunks : 1;
}

/* The sum over the block, in thread 0; to be called once. */
__device__ __forceinline__ double block_sum(double x) {
    SHARED(double, sums, [THREADS / 32]);
    x = warp_sum(x);
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (lane == 0) sums[warp] = x;
    __syncthreads();
    return warp_sum(warp == 0 && lane < THREADS / 32 ? sums[lane] : 0.0);
}

__device__ __forceinline__ double square(float x) {
    return static_cast<double>(x) * static_cast<double>(x); /* exact, and never too large */
}

/* A block is one chunk; a thread takes every 256th pack of it. Floor: 4·count bytes. The squares
 * are summed in f64 (2 FLOPs and one conversion an element: at 4.8 TB/s a third of the conversions
 * that H200 can do). By count at the floor. */
__global__ void __launch_bounds__(THREADS)
    sum_squares_kernel(double *partials, const float *x, int64_t count, int64_t chunk,
                       bool aligned) {
    int64_t first = blockIdx.x * chunk, left = count - first;
    int n = static_cast<int>(left < chunk ? left : chunk), packs = aligned ? n / FOUR : 0;
    const float *from = x + first;
    double sum = 0.0;
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < packs; i += THREADS) {
        Pack<float> p = load_pack(from + i * FOUR);
        sum += (square(p.x[0]) + square(p.x[1])) + (square(p.x[2]) + square(p.x[3]));
    }
    for (int i = packs * FOUR + static_cast<int>(threadIdx.x); i < n; i += THREADS)
        sum += square(from[i]);
    sum = block_sum(sum);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

/* Whether the step is taken and by what gradients are multiplied, both by the loss scale they were
 * made with; then the loss scale of the next step. */
__device__ void decide(UpdateState *state, double sum, const UpdateSpec &spec) {
    UpdateState s = *state;
    double scale =
        spec.labels > 0.0 ? 1.0 / (spec.labels * static_cast<double>(s.loss_scale)) : 0.0;
    s.grad_norm = sqrt(sum) * scale;
    s.stepped = isfinite(s.grad_norm) ? 1 : 0;
    if (s.stepped) {
        if (spec.max_norm > 0.0 && s.grad_norm > spec.max_norm)
            scale *= spec.max_norm / s.grad_norm;
        s.grad_scale = static_cast<float>(scale);
        s.updates++;
        s.good_steps++;
        if (spec.window > 0 && s.good_steps >= spec.window) {
            s.loss_scale *= 2.0f;
            s.good_steps = 0;
            s.patience = spec.hysteresis;
        }
    } else {
        s.good_steps = 0;
        if (spec.window > 0 && --s.patience <= 0) {
            s.loss_scale = fmaxf(static_cast<float>(spec.least_scale), s.loss_scale / 2.0f);
            s.patience = 1; /* DeepSpeed: patience comes back only when the scale grows */
        }
    }
    *state = s;
}

/* One block sums the partials, thread 0 decides. At most 64 KB: what it costs is its latency. */
__global__ void __launch_bounds__(THREADS)
    decide_kernel(UpdateState *state, const double *partials, int chunks, UpdateSpec spec) {
    double sum = 0.0;
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < chunks; i += THREADS) sum += partials[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) decide(state, sum, spec);
}

/* ---- AdamW ---- */

constexpr int RUN = THREADS * FOUR; /* elements of a block */

/* base^n by squaring: 2·log₂(n) products, where pow() would cost registers and a call. */
__device__ double power(double base, int64_t n) {
    double result = 1.0;
    for (; n > 0; n /= 2) {
        if (n % 2) result *= base;
        base *= base;
    }
    return result;
}

/* The segment that holds element `at`, found by a warp: 32 probes a round, so two rounds of loads
 * for up to 1,024 segments. */
__device__ __forceinline__ int find_segment(const AdamwSegment *segments, int count, int64_t at) {
    int lane = static_cast<int>(threadIdx.x % 32), low = 0, high = count; /* it is in [low, high) */
    while (high - low > 1) {
        int step = ceil_div(high - low, 32), probe = low + lane * step;
        bool starts_before = probe < high && segments[probe].first <= at;
        int before =
            __popc(__ballot_sync(FULL_MASK, starts_before)); /* the first one always does */
        low += (before - 1) * step;
        high = low + step < high ? low + step : high;
    }
    return low;
}

/* What is the same for all elements of a step. */
struct StepFactors {
    double lr, lr_corrected; /* the second divided by the correction of the mean */
    float root;              /* 1 / √(correction of the variance) */
    float beta1, beta2, eps;
};

/* What is the same for all elements of a segment. */
struct Rates {
    float keep, step;
};

__device__ __forceinline__ Rates rates_of(const StepFactors &f, const AdamwSegment &s) {
    double scale = static_cast<double>(s.lr_scale);
    return {1.0f - static_cast<float>(f.lr * scale) * s.weight_decay,
            static_cast<float>(f.lr_corrected * scale)};
}

/* One parameter w with gradient g (scaled already). */
__device__ __forceinline__ void adamw_element(float &w, float &m, float &v, float g,
                                              const StepFactors &f, const Rates &rates) {
    m = f.beta1 * m + (1.0f - f.beta1) * g;
    v = f.beta2 * v + (1.0f - f.beta2) * g * g;
    w = w * rates.keep - rates.step * m / (sqrtf(v) * f.root + f.eps);
}

/* Where element `at` of the flat arrays lies in the segment's copy. */
__device__ __forceinline__ int64_t place_in_copy(const AdamwSegment &s, int64_t at) {
    int64_t i = at - s.first;
    return s.cols == s.stride ? i : i / s.cols * s.stride + i % s.cols;
}

__device__ __forceinline__ void copy_element(const AdamwSegment &s, int64_t at, float w) {
    if (!s.copy) return;
    int64_t to = place_in_copy(s, at);
    if (s.copy_dtype == DT_BF16)
        static_cast<bf16 *>(s.copy)[to] = from_float<bf16>(w);
    else if (s.copy_dtype == DT_F16)
        static_cast<f16 *>(s.copy)[to] = from_float<f16>(w);
    else
        static_cast<float *>(s.copy)[to] = w;
}

template <typename T> __device__ __forceinline__ uint2 pack4(const Pack<float> &w) {
    return {pack2(w.x[0], w.x[1], T{}), pack2(w.x[2], w.x[3], T{})};
}

/* Four elements of one segment: in one store where they lie in one row and on a boundary. */
__device__ __forceinline__ void copy_pack(const AdamwSegment &s, int64_t at, const Pack<float> &w) {
    if (!s.copy) return;
    int64_t to = place_in_copy(s, at);
    bool one_row = place_in_copy(s, at + FOUR - 1) == to + FOUR - 1;
    unsigned bytes = s.copy_dtype == DT_F32 ? 4 : 2;
    char *p = static_cast<char *>(s.copy) + to * bytes;
    if (!one_row || reinterpret_cast<uintptr_t>(p) % (FOUR * bytes)) {
#pragma unroll
        for (int i = 0; i < FOUR; i++) copy_element(s, at + i, w.x[i]);
    } else if (s.copy_dtype == DT_F32) {
        store_pack(reinterpret_cast<float *>(p), w);
    } else {
        *reinterpret_cast<uint2 *>(p) = s.copy_dtype == DT_BF16 ? pack4<bf16>(w) : pack4<f16>(w);
    }
}

/* Up to four elements, zeros for the others. */
__device__ __forceinline__ Pack<float> load_four(const float *p, int n, bool aligned) {
    if (aligned && n == FOUR) return load_pack(p);
    Pack<float> x;
#pragma unroll
    for (int i = 0; i < FOUR; i++) x.x[i] = i < n ? p[i] : 0.0f;
    return x;
}

__device__ __forceinline__ void store_four(float *p, const Pack<float> &x, int n, bool aligned) {
    if (aligned && n == FOUR) {
        store_pack(p, x);
        return;
    }
#pragma unroll
    for (int i = 0; i < FOUR; i++)
        if (i < n) p[i] = x.x[i];
}

/* A block takes a run of 1,024 elements, a thread four neighbours. While the loads are under way,
 * one warp raises the betas to the power of the step and two find the segments of the run's first
 * and last element; mostly they are the same, else a thread goes on from the first.
 *
 * Floor: 16 bytes read, 12 written and 2 of a 16-bit copy an element, which is what it moves; about
 * 20 FLOPs an element, of 180 instruction slots that H200 has in that time. 64 bytes in flight a
 * thread and 1,024 threads on a multiprocessor are 64 KB, where 4.8 TB/s at 0.7 µs ask for 26. By
 * count at the floor; what may be missing is what a block's start costs. */
__global__ void __launch_bounds__(THREADS, 4)
    adamw_kernel(float *master, const float *grad, float *m, float *v, int64_t count,
                 const AdamwSegment *segments, int segment_count, AdamwSpec spec,
                 const UpdateState *state, bool aligned) {
    SHARED(StepFactors, factors, [1]);
    SHARED(int, found, [2]);
    if (!state->stepped) return;

    int64_t run = static_cast<int64_t>(blockIdx.x) * RUN, at = run + threadIdx.x * FOUR;
    int64_t left = count - at;
    int n = left >= FOUR ? FOUR : left > 0 ? static_cast<int>(left) : 0;
    Pack<float> gs = load_four(grad + at, n, aligned), ms = load_four(m + at, n, aligned),
                vs = load_four(v + at, n, aligned), ws = load_four(master + at, n, aligned);

    if (threadIdx.x == 0) {
        double correct1 = 1.0 - power(spec.beta1, state->updates),
               correct2 = 1.0 - power(spec.beta2, state->updates);
        factors[0] = {spec.lr,
                      spec.lr / correct1,
                      static_cast<float>(1.0 / sqrt(correct2)),
                      static_cast<float>(spec.beta1),
                      static_cast<float>(spec.beta2),
                      static_cast<float>(spec.eps)};
    }
    unsigned warp = threadIdx.x / 32;
    if (warp == 1 || warp == 2) {
        int64_t last = run + RUN < count ? run + RUN - 1 : count - 1;
        int segment = find_segment(segments, segment_count, warp == 1 ? run : last);
        if (threadIdx.x % 32 == 0) found[warp - 1] = segment;
    }
    __syncthreads();
    if (n == 0) return;

    int low = found[0], high = found[1]; /* the last one that starts at or before `at` */
    while (low < high) {
        int middle = high - (high - low) / 2;
        if (segments[middle].first <= at)
            low = middle;
        else
            high = middle - 1;
    }
    AdamwSegment s = segments[low];
    Rates rates = rates_of(factors[0], s);
    float scale = state->grad_scale;
    bool whole = n == FOUR && at + FOUR <= s.first + s.count;
#pragma unroll
    for (int i = 0; i < FOUR; i++) {
        if (i >= n) break;
        if (at + i >= s.first + s.count) {
            do s = segments[++low];
            while (at + i >= s.first + s.count);
            rates = rates_of(factors[0], s);
        }
        adamw_element(ws.x[i], ms.x[i], vs.x[i], gs.x[i] * scale, factors[0], rates);
        if (!whole) copy_element(s, at + i, ws.x[i]);
    }
    store_four(m + at, ms, n, aligned);
    store_four(v + at, vs, n, aligned);
    store_four(master + at, ws, n, aligned);
    if (whole) copy_pack(s, at, ws);
}

/* ---- sums of gradients ---- */

/* A thread adds four neighbours. Floor: 12 bytes an element, which is what it moves. */
__global__ void __launch_bounds__(THREADS)
    accumulate_kernel(float *dst, const float *src, int64_t count, bool aligned) {
    int64_t at = (static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x) * FOUR;
    if (at >= count) return;
    int n = count - at < FOUR ? static_cast<int>(count - at) : FOUR;
    Pack<float> sum = load_four(dst + at, n, aligned), x = load_four(src + at, n, aligned);
#pragma unroll
    for (int i = 0; i < FOUR; i++) sum.x[i] += x.x[i];
    store_four(dst + at, sum, n, aligned);
}

} // namespace

size_t cuda_update_begin_scratch(int64_t count) {
    return static_cast<size_t>(chunks_of(count)) * sizeof(double);
}

void cuda_update_begin(cudaStream_t stream, void *scratch, UpdateState *state, const float *grads,
                       int64_t count, const UpdateSpec *spec) {
    double *partials = static_cast<double *>(scratch);
    int chunks = static_cast<int>(chunks_of(count));
    UpdateSpec by_value = *spec;
    LAUNCH(sum_squares_kernel, chunks, THREADS, 0, stream, partials, grads, count, chunk_of(count),
           is_aligned(grads));
    LAUNCH(decide_kernel, 1, THREADS, 0, stream, state, partials, chunks, by_value);
}

void cuda_adamw(cudaStream_t stream, float *master, const float *grad, float *m, float *v,
                int64_t count, const AdamwSegment *segments, int segment_count,
                const AdamwSpec *spec, const UpdateState *state) {
    if (count == 0) return;
    bool aligned = is_aligned(master) && is_aligned(grad) && is_aligned(m) && is_aligned(v);
    AdamwSpec by_value = *spec;
    LAUNCH(adamw_kernel, static_cast<unsigned>(ceil_div<int64_t>(count, RUN)), THREADS, 0, stream,
           master, grad, m, v, count, segments, segment_count, by_value, state, aligned);
}

void cuda_accumulate(cudaStream_t stream, float *dst, const float *src, int64_t count) {
    if (count == 0) return;
    LAUNCH(accumulate_kernel, static_cast<unsigned>(ceil_div<int64_t>(count, RUN)), THREADS, 0,
           stream, dst, src, count, is_aligned(dst) && is_aligned(src));
}
