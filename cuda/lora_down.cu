/* xa[T,r] = scale · dropout(x)[T,K] · a[r,K]ᵀ: the way into an adapter. */
#include "cuda/lora.cuh"

using namespace lora;

namespace {

/* Two neighbours of a row, as far as they exist. */
template <bool ALIGNED, typename T>
__device__ __forceinline__ void store2(const Rows<T> &y, int64_t row, int col, float a, float b) {
    if (row >= y.rows || col >= y.cols) return;
    T *to = y.at(row, col);
    if constexpr (ALIGNED) {
        *reinterpret_cast<uint32_t *>(to) = pack2(a, b, T());
    } else {
        to[0] = from_float<T>(a);
        if (col + 1 < y.cols) to[1] = from_float<T>(b);
    }
}

constexpr int DOWN_DEPTH = 32, DOWN_STAGES = 4;

/* 16-byte pieces of one stage: four of x for each thread, and a's tile. */
__host__ __device__ constexpr int down_stage(int warps, int tiles) {
    return 4 * 32 * warps + 8 * tiles * (DOWN_DEPTH / 8);
}

/* A block makes 32·WARPS rows of 8·TILES columns of xa, a warp 32 rows of them, 32 terms of the
 * sums at a time. A lane copies the pieces of x (8 elements of 4 rows) that it alone will multiply,
 * and draws their mask; only a's tile is shared. The terms of a sum are taken in the order that
 * this gives: lane t of a row has terms 8t … 8t+7, two of which are neighbours in each register of
 * a fragment, and a's tile is read in the same order.
 *
 * Floor: 2·T·K bytes and 2·T·K·r FLOPs; 4·TILES mma and 4 blocks of the mask a warp and 32 terms.
 * By count:
 *   - L2 gives x, and a again for every block's rows: for 128 of them 2·T·K·r/128 bytes: at r = 128
 *     twice the floor's bytes, 1.7 times its time; at r = 16, 1.1 times its bytes, within its time;
 *   - blocks of 64 rows read a twice as often, but there are twice as many: at 4,096 rows (two
 *     samples of the presets) 64 instead of 32 for 132 SMs, each with half the work;
 *   - shared memory, for 16 × 32 elements of x: 1 KB written, 1 KB read, 5 KB of a at r = 128, in
 *     all 56 clocks, where memory takes 49; at r = 16 it takes 21;
 *   - the loop has 278 instructions for a lane's 32 elements at r = 16 (431 at r = 128): at 128 a
 *     clock 15 (9.5) elements, where memory brings 10. */
template <typename T, int WARPS, int TILES, bool ALIGNED>
__global__ void __launch_bounds__(32 * WARPS)
    down_kernel(Rows<T> xa, Rows<const T> x, Rows<const T> a, Mask mask) {
    constexpr int THREADS = 32 * WARPS, STAGE = down_stage(WARPS, TILES), PIECES = DOWN_DEPTH / 8,
                  X = 4 * THREADS, A = 8 * TILES * PIECES, A_EACH = ceil_div(A, THREADS);
    DYN_SHARED(uint4, pieces);
    int thread = static_cast<int>(threadIdx.x), lane = thread % 32, g = lane / 4, t = lane % 4;
    int64_t row = static_cast<int64_t>(blockIdx.x) * THREADS + thread / 32 * 32 + g;
    int first_out = static_cast<int>(blockIdx.y) * 8 * TILES, slabs = ceil_div(x.cols, DOWN_DEPTH);
    /* Where this thread's next pieces are, all of the same columns. */
    const T *next_x[4], *next_a[A_EACH];
#pragma unroll
    for (int i = 0; i < 4; i++) next_x[i] = x.at_last(row + 8 * i, 8 * t);
#pragma unroll
    for (int i = 0; i < A_EACH; i++)
        next_a[i] = a.at_last(first_out + (thread + i * THREADS) / PIECES, 8 * t);
    float sums[2][TILES][4] = {};

    for (int slab = 1 - DOWN_STAGES; slab < slabs; slab++) {
        if (slab >= 0) {
            ptx::cp_async_wait<DOWN_STAGES - 2>();
            __syncthreads(); /* a's tile is there, and all are done with the one before */
        }
        int ahead = slab + DOWN_STAGES - 1, left = x.cols - ahead * DOWN_DEPTH - 8 * t;
        if (ahead < slabs) {
            uint4 *to = pieces + ahead % DOWN_STAGES * STAGE + thread;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                copy8<ALIGNED>(to + i * THREADS, next_x[i], left);
                next_x[i] += DOWN_DEPTH;
            }
#pragma unroll
            for (int i = 0; i < A_EACH; i++) {
                if (A % THREADS == 0 || thread < A)
                    copy8<ALIGNED>(to + X + i * THREADS, next_a[i], left);
                next_a[i] += DOWN_DEPTH;
            }
        }
        ptx::cp_async_commit();
        if (slab < 0) continue;

        const uint4 *from = pieces + slab % DOWN_STAGES * STAGE;
        uint32_t left_of[2][2][4]; /* fragments of 16 rows, 16 terms */
#pragma unroll
        for (int m = 0; m < 2; m++) {
            uint4 p[2]; /* of row g, and of row g + 8 */
#pragma unroll
            for (int i = 0; i < 2; i++)
                p[i] = drop8(mask, from[(2 * m + i) * THREADS + thread],
                             static_cast<uint32_t>(row + 16 * m + 8 * i),
                             static_cast<uint32_t>(slab * PIECES + t));
            fragments(left_of[m], p[0], p[1]);
        }
#pragma unroll
        for (int n = 0; n < TILES; n++) {
            uint4 q = from[X + 32 * n + lane]; /* row 8n + g of a's tile, piece t */
#pragma unroll
            for (int m = 0; m < 2; m++) {
                ptx::mma_16816(sums[m][n], left_of[m][0], {q.x, q.y}, T());
                ptx::mma_16816(sums[m][n], left_of[m][1], {q.z, q.w}, T());
            }
        }
    }
    ptx::cp_async_wait<0>();
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int n = 0; n < TILES; n++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                store2<ALIGNED>(xa, row + 16 * m + 8 * half, first_out + 8 * n + 2 * t,
                                mask.keep * sums[m][n][2 * half],
                                mask.keep * sums[m][n][2 * half + 1]);
}

template <typename T, int WARPS, int TILES, bool ALIGNED>
void launch_rows(cudaStream_t stream, Tensor xa, Tensor x, Tensor a, const Mask &mask) {
    Rows<T> to = rows_of<T>(xa);
    Rows<const T> left = rows_of<const T>(x), right = rows_of<const T>(a);
    dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(x.rows, 32 * WARPS)),
              static_cast<unsigned>(ceil_div<int64_t>(a.rows, 8 * TILES)));
    size_t bytes = DOWN_STAGES * down_stage(WARPS, TILES) * sizeof(uint4);
    allow_shared(down_kernel<T, WARPS, TILES, ALIGNED>, bytes);
    LAUNCH((down_kernel<T, WARPS, TILES, ALIGNED>), grid, 32 * WARPS, bytes, stream, to, left,
           right, mask);
}

/* Blocks of 128 rows where they fill the SMs of an H200, of 64 where they do not. Each element of
 * xa is the same sum in the same order both ways. */
template <typename T, int TILES, bool ALIGNED>
void launch_down(cudaStream_t stream, Tensor xa, Tensor x, Tensor a, const Mask &mask) {
    int64_t blocks = ceil_div<int64_t>(x.rows, 128) * ceil_div<int64_t>(a.rows, 8 * TILES);
    if (blocks < 132)
        launch_rows<T, 2, TILES, ALIGNED>(stream, xa, x, a, mask);
    else
        launch_rows<T, 4, TILES, ALIGNED>(stream, xa, x, a, mask);
}

template <typename T>
void down(cudaStream_t stream, Tensor xa, Tensor x, Tensor a, const Mask &mask) {
    if (!is_aligned(xa) || !is_aligned(x) || !is_aligned(a))
        launch_down<T, 4, false>(stream, xa, x, a, mask);
    else if (a.rows <= 16)
        launch_down<T, 2, true>(stream, xa, x, a, mask);
    else if (a.rows <= 32)
        launch_down<T, 4, true>(stream, xa, x, a, mask);
    else if (a.rows <= 64)
        launch_down<T, 8, true>(stream, xa, x, a, mask);
    else
        launch_down<T, 16, true>(stream, xa, x, a, mask);
}

} // namespace

void cuda_lora_down(cudaStream_t stream, Tensor xa, Tensor x, Tensor a, float scale,
                    Dropout dropout) {
    Mask mask = mask_of(dropout);
    mask.keep *= scale; /* both go onto the f32 sums */
    if (x.dtype == DT_BF16)
        down<bf16>(stream, xa, x, a, mask);
    else
        down<f16>(stream, xa, x, a, mask);
}
