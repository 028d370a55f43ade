/* Dropout, and the gradient of a bias: what linear layers need beside products. */
#include "cuda/rows.cuh"

#include "cuda/dropout.cuh"
#include "cuda/partials.cuh"

using namespace rowwise;

namespace {

/* ---- dropout ---- */

__device__ __forceinline__ uint32_t word_of(uint4 words, uint32_t i) {
    return i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
}

/* N neighbours of a row times their mask; N divides 8, and the first column. Dropped is multiplied
 * by 0, as on the CPU, so that NaN stays. */
template <int N>
__device__ __forceinline__ void apply(const Mask &mask, Values<N> &v, int64_t row, int64_t first) {
    uint32_t col = static_cast<uint32_t>(first), inside = col % MASK_SIZE;
    uint4 numbers = mask_numbers(mask, static_cast<uint32_t>(row), col / MASK_SIZE);
#pragma unroll
    for (int i = 0; i < N; i++) {
        uint32_t place = N == MASK_SIZE ? i : inside + i, both = word_of(numbers, place / 2);
        bool kept = place % 2 ? keeps_high(mask, both) : keeps_low(mask, both);
        v.x[i] *= kept ? mask.keep : 0.0f;
    }
}

/* out = x · mask, += with ADD; out may be x. Floor: 2·T·C elements of memory, 3·T·C with ADD, which
 * is what it moves. Six instructions an element draw the mask (dropout.cuh), all else is about
 * five: an H200 has 25 in the time of a 16-bit element. */
template <typename T, int N, bool ADD> struct DropoutOp {
    Rows<T> out;
    Rows<const T> x;
    Mask mask;
    struct Loaded {
        Bits<T, N> x, out;
    };

    __device__ __forceinline__ Loaded load(int64_t row, int64_t at) const {
        Loaded l = {};
        l.x.load(x[row] + at * N);
        if constexpr (ADD) l.out.load(out[row] + at * N);
        return l;
    }

    __device__ __forceinline__ void store(int64_t row, int64_t at, const Loaded &l) const {
        Values<N> v = l.x.values();
        apply(mask, v, row, at * N);
        if constexpr (ADD) {
            Values<N> sum = l.out.values();
#pragma unroll
            for (int i = 0; i < N; i++) v.x[i] += sum.x[i];
        }
        store_values(out[row] + at * N, v);
    }
};

template <typename T, int N>
void launch_dropout(cudaStream_t stream, Tensor out, Tensor x, Mask mask, bool accumulate) {
    Rows<T> to = rows_of<T>(out);
    Rows<const T> from = rows_of<const T>(x);
    if (accumulate)
        launch_map(stream, DropoutOp<T, N, true>{to, from, mask}, x.rows, x.cols / N);
    else
        launch_map(stream, DropoutOp<T, N, false>{to, from, mask}, x.rows, x.cols / N);
}

/* ---- column sums ---- */

/* Rows of a part: at least 64 (then partial sums are 6 % of the traffic of 16-bit types), and at
 * most 256 parts. */
int64_t part_rows(int64_t rows) {
    int64_t share = ceil_div<int64_t>(rows, 256);
    return share > 64 ? share : 64;
}

constexpr int SUM_WARPS = 8;

/* parts[blockIdx.y] = Σ over its rows of x, for the columns of 32 packs (blockIdx.x): a lane adds
 * one pack of every 8th row, then the warps' sums are added in order. Floor: T·N elements of
 * memory; it also writes 4·N bytes a part, which add_partials finds in the L2 cache. At the floor
 * by count. */
template <typename T, int N>
__global__ void __launch_bounds__(32 * SUM_WARPS)
    column_parts(float *parts, Rows<const T> x, int64_t rows, int64_t cols, int64_t share) {
    SHARED(float, sums, [SUM_WARPS][32 * N]);
    int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
    int64_t first_col = static_cast<int64_t>(blockIdx.x) * 32 * N, col = first_col + lane * N;
    int64_t first = blockIdx.y * share, end = first + share < rows ? first + share : rows;
    Values<N> sum = {};
    if (col < cols) {
#pragma unroll 4
        for (int64_t r = first + warp; r < end; r += SUM_WARPS) {
            Values<N> v = load_values<T, N>(x[r] + col);
#pragma unroll
            for (int i = 0; i < N; i++) sum.x[i] += v.x[i];
        }
    }
#pragma unroll
    for (int i = 0; i < N; i++) sums[warp][lane * N + i] = sum.x[i];
    __syncthreads();

    int c = static_cast<int>(threadIdx.x);
    if (c >= 32 * N || first_col + c >= cols) return;
    float total = 0.0f;
#pragma unroll
    for (int w = 0; w < SUM_WARPS; w++) total += sums[w][c];
    parts[blockIdx.y * cols + first_col + c] = total;
}

template <typename T, int N>
void launch_parts(cudaStream_t stream, float *parts, Tensor x, int64_t share) {
    dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(x.cols, 32 * N)),
              static_cast<unsigned>(ceil_div(x.rows, share)));
    LAUNCH((column_parts<T, N>), grid, 32 * SUM_WARPS, 0, stream, parts, rows_of<const T>(x),
           x.rows, x.cols, share);
}

} // namespace

void cuda_dropout(cudaStream_t stream, Tensor out, Tensor x, Dropout dropout, bool accumulate) {
    Mask mask = mask_of(dropout);
    with_type(x.dtype, [&](auto element) {
        using T = decltype(element);
        if (rows_aligned(out) && rows_aligned(x))
            launch_dropout<T, 16 / sizeof(T)>(stream, out, x, mask, accumulate);
        else
            launch_dropout<T, 1>(stream, out, x, mask, accumulate);
    });
}

size_t cuda_column_sum_scratch(int64_t rows, int64_t cols) {
    return static_cast<size_t>(ceil_div(rows, part_rows(rows)) * cols) * sizeof(float);
}

void cuda_column_sum(cudaStream_t stream, void *scratch, Tensor dbias, Tensor dy) {
    if (tensor_count(dy) == 0) return;
    float *parts = static_cast<float *>(scratch);
    int64_t share = part_rows(dy.rows);
    with_type(dy.dtype, [&](auto element) {
        using T = decltype(element);
        if (rows_aligned(dy))
            launch_parts<T, 16 / sizeof(T)>(stream, parts, dy, share);
        else
            launch_parts<T, 1>(stream, parts, dy, share);
    });
    PartialSum of_bias = {static_cast<float *>(dbias.data), parts,
                          static_cast<int>(ceil_div(dy.rows, share))};
    launch_partials(stream, of_bias, {}, dy.cols);
}
