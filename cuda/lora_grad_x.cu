/* dx[T,K] += dropout'(g[T,r] · a[r,K]): the way back out of an adapter. */
#include "cuda/lora.cuh"

using namespace lora;

namespace {

constexpr int GRAD_X_WARPS = 8, GRAD_X_THREADS = 32 * GRAD_X_WARPS;
constexpr int GRAD_X_ROWS = 16 * GRAD_X_WARPS, GRAD_X_COLS = 128;
constexpr int GRAD_X_DEPTH = 128; /* of r that a's tile holds at a time, in slabs of 32 */
constexpr int SLAB = 32;
constexpr int A_PITCH = GRAD_X_COLS / 2 + 4; /* words in a row of a's tile */

/* Where row k of a slab lies in a's tile. A lane has terms 8t … 8t+7 of the sums in its fragments
 * of g, two to a register; the rows that ldmatrix reads for one register are put together. */
__device__ __forceinline__ int slab_row(int k) {
    return k % 8 / 2 * 8 + k / 8 * 2 + k % 2;
}

/* A block makes 128 rows of 128 columns of dx, a warp 16 rows of them. a's tile is in shared
 * memory, with its columns in an order that gives a lane eight neighbouring columns of the result:
 * of 32, pair j of piece q lies in tile j at pair q. So the lane reads, masks and writes 16 bytes
 * of dx at a time, and draws one block of the mask for them.
 *
 * Floor: 4·T·K bytes (dx is read and written) and 2·T·K·r FLOPs; 16 mma a warp and 16 of r. By
 * count:
 *   - L2 gives and takes dx, and at r = 128 gives g for every 128 columns and a for every 128 rows,
 *     as many bytes again: 1.7 times the floor's time; at r = 16, 1.1 times its bytes, within it;
 *   - shared memory, for a block at r = 128: 2,048 clocks of fragments, 512 to fill the tile, where
 *     memory takes 3,170;
 *   - the end has about 14 instructions an element: 9 a clock, where memory moves 5. */
template <typename T, bool ALIGNED>
__global__ void __launch_bounds__(GRAD_X_THREADS, 2)
    grad_x_kernel(Rows<T> dx, Rows<const T> g, Rows<const T> a, int col_tiles, Mask mask) {
    constexpr int TILES = GRAD_X_COLS / 8, PIECES = GRAD_X_COLS / 8;
    DYN_SHARED(uint32_t, tile);
    int thread = static_cast<int>(threadIdx.x), lane = thread % 32, t = lane % 4;
    int first_col = static_cast<int>(blockIdx.x % static_cast<unsigned>(col_tiles)) * GRAD_X_COLS;
    int64_t row =
        static_cast<int64_t>(blockIdx.x / static_cast<unsigned>(col_tiles)) * GRAD_X_ROWS +
        thread / 32 * 16 + lane / 4;
    float sums[TILES][4] = {};

    for (int first = 0; first < g.cols; first += GRAD_X_DEPTH) {
        int left = g.cols - first,
            depth = ceil_div(left < GRAD_X_DEPTH ? left : GRAD_X_DEPTH, SLAB) * SLAB;
        if (first > 0) __syncthreads(); /* all are done with the part before */
        for (int i = thread; i < depth * PIECES; i += GRAD_X_THREADS) {
            int k = i / PIECES, group = i % PIECES / 4, q = i % 4;
            int col = first_col + 8 * (i % PIECES);
            uint4 v = load8<ALIGNED>(a.at(first + k, col), first + k < a.rows ? a.cols - col : 0);
            uint32_t *to = tile + (k / SLAB * SLAB + slab_row(k % SLAB)) * A_PITCH + 16 * group + q;
            to[0] = v.x;
            to[4] = v.y;
            to[8] = v.z;
            to[12] = v.w;
        }
        __syncthreads();
        for (int k = 0; k < depth; k += SLAB) {
            int term = first + k + 8 * t;
            uint4 upper = load8<ALIGNED>(g.at_last(row, term), g.cols - term),
                  lower = load8<ALIGNED>(g.at_last(row + 8, term), g.cols - term);
            uint32_t left_of[2][4];
            fragments(left_of, upper, lower);
            int matrix = lane / 8, q = lane % 8;
#pragma unroll
            for (int step = 0; step < 2; step++)
#pragma unroll
                for (int n = 0; n < TILES; n += 2) {
                    uint32_t right[4];
                    ptx::ldmatrix_x4_trans(right,
                                           tile + (k + 16 * step + 8 * (matrix % 2) + q) * A_PITCH +
                                               4 * (n + matrix / 2));
                    ptx::mma_16816(sums[n], left_of[step], {right[0], right[1]}, T());
                    ptx::mma_16816(sums[n + 1], left_of[step], {right[2], right[3]}, T());
                }
        }
    }

    Eight<T> e[TILES / 4][2];
#pragma unroll
    for (int group = 0; group < TILES / 4; group++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int64_t r = row + 8 * half;
            int col = first_col + 32 * group + 8 * t;
            e[group][half].all = load8<ALIGNED>(dx.at(r, col), r < dx.rows ? dx.cols - col : 0);
        }
#pragma unroll
    for (int group = 0; group < TILES / 4; group++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int64_t r = row + 8 * half;
            int col = first_col + 32 * group + 8 * t;
            if (r >= dx.rows || col >= dx.cols) continue;
            uint4 numbers =
                mask_numbers(mask, static_cast<uint32_t>(r), static_cast<uint32_t>(col / 8));
            const uint32_t pairs[4] = {numbers.x, numbers.y, numbers.z, numbers.w};
            Eight<T> &v = e[group][half];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float *sum = sums[4 * group + j] + 2 * half;
                if (keeps_low(mask, pairs[j]))
                    v.each[2 * j] = from_float<T>(to_float(v.each[2 * j]) + mask.keep * sum[0]);
                if (keeps_high(mask, pairs[j]))
                    v.each[2 * j + 1] =
                        from_float<T>(to_float(v.each[2 * j + 1]) + mask.keep * sum[1]);
            }
            T *to = dx.at(r, col);
            if constexpr (ALIGNED) {
                *reinterpret_cast<uint4 *>(to) = v.all;
            } else {
                for (int i = 0; i < 8 && col + i < dx.cols; i++) to[i] = v.each[i];
            }
        }
}

template <typename T, bool ALIGNED>
void launch_grad_x(cudaStream_t stream, Tensor dx, Tensor g, Tensor a, const Mask &mask) {
    Rows<T> to = rows_of<T>(dx);
    Rows<const T> left = rows_of<const T>(g), right = rows_of<const T>(a);
    int64_t depth = g.cols < GRAD_X_DEPTH ? ceil_div<int64_t>(g.cols, SLAB) * SLAB : GRAD_X_DEPTH,
            row_tiles = ceil_div<int64_t>(dx.rows, GRAD_X_ROWS);
    int col_tiles = static_cast<int>(ceil_div<int64_t>(dx.cols, GRAD_X_COLS));
    size_t bytes = static_cast<size_t>(depth) * A_PITCH * sizeof(uint32_t);
    LAUNCH((grad_x_kernel<T, ALIGNED>), static_cast<unsigned>(row_tiles * col_tiles),
           GRAD_X_THREADS, bytes, stream, to, left, right, col_tiles, mask);
}

template <typename T>
void grad_x(cudaStream_t stream, Tensor dx, Tensor g, Tensor a, const Mask &mask) {
    if (is_aligned(dx) && is_aligned(g) && is_aligned(a))
        launch_grad_x<T, true>(stream, dx, g, a, mask);
    else
        launch_grad_x<T, false>(stream, dx, g, a, mask);
}

} // namespace

void cuda_lora_grad_x(cudaStream_t stream, Tensor dx, Tensor g, Tensor a, Dropout dropout) {
    if (dx.dtype == DT_BF16)
        grad_x<bf16>(stream, dx, g, a, mask_of(dropout));
    else
        grad_x<f16>(stream, dx, g, a, mask_of(dropout));
}
