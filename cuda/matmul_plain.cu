/* Products that cuBLASLt has no algorithm for, and epilogues that it cannot fuse: one thread an
 * element, over any types and strides. The model's own matrices never come here. */
#include "cuda/kernel.cuh"

#include "cuda/matmul.h"

namespace {

constexpr int SIDE = 16;                                     /* a block is SIDE × SIDE threads */
constexpr int64_t MAX_Y = 65535;                             /* blocks of a grid along y */
constexpr float GELU_A = 0.79788456080f, GELU_B = 0.044715f; /* √(2/π); Hendrycks & Gimpel 2016 */

/* A matrix op(x), by its own row and column. */
template <typename T> struct Matrix {
    const T *data;
    int64_t row, col; /* distances of neighbours, in elements */

    __device__ __forceinline__ float at(int64_t i, int64_t j) const {
        return to_float(data[i * row + j * col]);
    }
};

template <typename T> Matrix<T> matrix(Tensor t, bool transposed) {
    return {static_cast<const T *>(t.data), transposed ? 1 : t.stride, transposed ? t.stride : 1};
}

/* What is done to a sum, and where it goes. */
template <typename T, typename C> struct Finish {
    C *c, *aux;
    const T *bias;
    int64_t stride_c, stride_aux;
    bool gelu;

    __device__ __forceinline__ void store(int64_t i, int64_t j, float x) const {
        if (bias) x += to_float(bias[j]);
        if (aux) aux[i * stride_aux + j] = from_float<C>(x);
        if (gelu)
            x /= 1.0f + expf(-2.0f * GELU_A * (x + GELU_B * x * x * x)); /* ½(1 + tanh u) = σ(2u) */
        c[i * stride_c + j] = from_float<C>(x);
    }
};

template <typename T, typename C> Finish<T, C> finish(const CudaProduct *p) {
    bool bias = p->epilogue != EPILOGUE_NONE, gelu = bias && p->epilogue != EPILOGUE_BIAS;
    return {static_cast<C *>(p->c.data),
            p->epilogue == EPILOGUE_GELU_AUX_BIAS ? static_cast<C *>(p->aux.data) : NULL,
            bias ? static_cast<const T *>(p->bias.data) : NULL,
            p->c.stride,
            p->aux.stride,
            gelu};
}

/* A thread makes one element of c, a block 16 × 16 of them (and those MAX_Y blocks further down).
 * Floor: 2·m·n·k FLOPs. By count: two loads an FMA and nothing kept, so the L1 cache decides, at
 * about 1/50 of what the tensor cores do. */
template <typename T, typename C>
__global__ void __launch_bounds__(SIDE *SIDE)
    product_kernel(Finish<T, C> out, Matrix<T> a, Matrix<T> b, int64_t m, int64_t n, int64_t k,
                   float alpha, float beta) {
    int64_t j = static_cast<int64_t>(blockIdx.x) * SIDE + threadIdx.x;
    if (j >= n) return;
    for (int64_t i = static_cast<int64_t>(blockIdx.y) * SIDE + threadIdx.y; i < m;
         i += static_cast<int64_t>(gridDim.y) * SIDE) {
        float sum = 0;
        for (int64_t l = 0; l < k; l++) sum += a.at(i, l) * b.at(l, j);
        sum *= alpha;
        if (beta != 0) sum += beta * to_float(out.c[i * out.stride_c + j]);
        out.store(i, j, sum);
    }
}

/* A thread finishes one element of c. Floor: 2·m·n elements of memory, 3 where aux is kept. In
 * accesses of one element it reaches perhaps half of that. */
template <typename T, typename C>
__global__ void __launch_bounds__(SIDE *SIDE)
    epilogue_kernel(Finish<T, C> out, int64_t m, int64_t n) {
    int64_t j = static_cast<int64_t>(blockIdx.x) * SIDE + threadIdx.x;
    if (j >= n) return;
    for (int64_t i = static_cast<int64_t>(blockIdx.y) * SIDE + threadIdx.y; i < m;
         i += static_cast<int64_t>(gridDim.y) * SIDE)
        out.store(i, j, to_float(out.c[i * out.stride_c + j]));
}

dim3 grid_of(Tensor c) {
    int64_t x = ceil_div<int64_t>(c.cols, SIDE), y = ceil_div<int64_t>(c.rows, SIDE);
    return dim3(static_cast<unsigned>(x), static_cast<unsigned>(y < MAX_Y ? y : MAX_Y));
}

/* Calls f(T, C) with values of the types of a product's factors and of its result. */
template <typename F> void with_types(const CudaProduct *p, F f) {
    bool wide = p->c.dtype == DT_F32;
    if (p->a.dtype == DT_F32)
        f(float(), float());
    else if (p->a.dtype == DT_BF16)
        wide ? f(bf16(), float()) : f(bf16(), bf16());
    else
        wide ? f(f16(), float()) : f(f16(), f16());
}

} // namespace

void cuda_matmul_plain(cudaStream_t stream, const CudaProduct *p) {
    int64_t m = p->c.rows, n = p->c.cols, k = p->transpose_a ? p->a.rows : p->a.cols;
    float alpha = p->alpha, beta = p->beta;
    with_types(p, [&](auto t, auto c) {
        typedef decltype(t) T;
        typedef decltype(c) C;
        Finish<T, C> out = finish<T, C>(p);
        Matrix<T> a = matrix<T>(p->a, p->transpose_a), b = matrix<T>(p->b, p->transpose_b);
        LAUNCH((product_kernel<T, C>), grid_of(p->c), dim3(SIDE, SIDE), 0, stream, out, a, b, m, n,
               k, alpha, beta);
    });
}

void cuda_matmul_epilogue(cudaStream_t stream, const CudaProduct *p) {
    int64_t m = p->c.rows, n = p->c.cols;
    with_types(p, [&](auto t, auto c) {
        typedef decltype(t) T;
        typedef decltype(c) C;
        Finish<T, C> out = finish<T, C>(p);
        LAUNCH((epilogue_kernel<T, C>), grid_of(p->c), dim3(SIDE, SIDE), 0, stream, out, m, n);
    });
}
