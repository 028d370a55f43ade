/* da[r,K] += g[T,r]ᵀ · dropout(x)[T,K]: the gradient of an adapter's way in. */
#include "cuda/lora.cuh"

using namespace lora;

namespace {

constexpr int GRAD_A_WARPS = 8, GRAD_A_THREADS = 32 * GRAD_A_WARPS;
constexpr int GRAD_A_COLS = 128, GRAD_A_DEPTH = 32, GRAD_A_STAGES = 4;
constexpr int GRAD_A_BLOCKS = 256;    /* wanted: two for most SMs of an H200 (132) or A100 (108) */
constexpr int GRAD_A_MIN_CHUNK = 128; /* rows */

/* Pieces of 16 bytes in a row of a stage: those of the tile, and one so that neighbouring rows lie
 * in different banks. */
constexpr int X_PITCH = GRAD_A_COLS / 8 + 1;
__host__ __device__ constexpr int g_pitch(int out) {
    return out / 8 + 1;
}
__host__ __device__ constexpr int grad_a_stage(int out) {
    return GRAD_A_DEPTH * (X_PITCH + g_pitch(out));
}

/* How T rows are cut, by the shape alone, so that the sums are the same on every device. */
struct Chunks {
    int64_t rows; /* of each but the last */
    int count;
};

/* Rows of da that a block makes. */
int grad_a_out(int64_t r) {
    return r <= 16 ? 16 : r <= 32 ? 32 : r <= 64 ? 64 : 128;
}

Chunks chunks_of(int64_t T, int64_t K, int64_t r) {
    int64_t tiles = ceil_div<int64_t>(K, GRAD_A_COLS) * ceil_div<int64_t>(r, grad_a_out(r)),
            wanted = tiles < GRAD_A_BLOCKS ? GRAD_A_BLOCKS / tiles : 1,
            rows = ceil_div<int64_t>(ceil_div(T, wanted), GRAD_A_DEPTH) * GRAD_A_DEPTH;
    if (rows < GRAD_A_MIN_CHUNK) rows = GRAD_A_MIN_CHUNK;
    return {rows, static_cast<int>(ceil_div(T, rows))};
}

/* Columns from one row of partial sums to the next. */
int64_t partial_pitch(int64_t K) {
    return ceil_div<int64_t>(K, 8) * 8;
}

/* A block makes OUT rows of 128 columns of da from one chunk of rows of x (blockIdx.z), 32 of them
 * at a time; its 8 warps share the tile, WARPS_M of them along the rows. A thread copies two pieces
 * of x, and when they have come clears what is dropped where they lie in shared memory.
 *
 * Floor: 2·T·K bytes and 2·T·K·r FLOPs; M_TILES · N_TILES mma a warp and 16 rows (16 at r = 128, 2
 * at r = 16). By count:
 *   - L2 gives x, g again for every 128 columns (at r = 128 as many bytes), and takes and gives 4
 *     bytes for every element of da and chunk, at most 17 MB each way at r = 128: 1.7 times the
 *     floor's time or a little more; at r = 16 within it;
 *   - shared memory, for 16 × 128 elements of x at r = 128: 8 KB copied, 8 KB to mask them, 24 KB
 *     of fragments, 320 clocks, where memory takes 198; at r = 16 it is 164;
 *   - the loop has 213 instructions for a thread's 16 elements of x at r = 128 (189 at r = 16): at
 *     128 a clock 9.6 (10.8) elements, where memory brings 10. */
template <typename T, int OUT, int WARPS_M, bool ALIGNED>
__global__ void __launch_bounds__(GRAD_A_THREADS)
    grad_a_kernel(float *partials, int64_t pitch, Rows<const T> g, Rows<const T> x,
                  int64_t chunk_rows, Mask mask) {
    constexpr int STAGE = grad_a_stage(OUT), G_PITCH = g_pitch(OUT), X = GRAD_A_DEPTH * X_PITCH;
    constexpr int WARPS_N = GRAD_A_WARPS / WARPS_M, M_TILES = OUT / WARPS_M / 16,
                  N_TILES = GRAD_A_COLS / WARPS_N / 8;
    constexpr int X_PIECES = GRAD_A_COLS / 8, G_PIECES = OUT / 8;
    constexpr int X_EACH = GRAD_A_DEPTH * X_PIECES / GRAD_A_THREADS, G = GRAD_A_DEPTH * G_PIECES,
                  G_EACH = ceil_div(G, GRAD_A_THREADS);
    constexpr int X_STEP = GRAD_A_THREADS / X_PIECES, G_STEP = GRAD_A_THREADS / G_PIECES;
    DYN_SHARED(uint4, pieces);
    int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
    int first_col = static_cast<int>(blockIdx.x) * GRAD_A_COLS,
        first_out = static_cast<int>(blockIdx.y) * OUT;
    int64_t first = blockIdx.z * chunk_rows, rows = x.rows - first;
    if (rows > chunk_rows) rows = chunk_rows;
    int slabs = static_cast<int>(ceil_div<int64_t>(rows, GRAD_A_DEPTH));
    /* This thread's pieces: every X_STEP-th (G_STEP-th) row of a stage, always the same columns. */
    int row_x = thread / X_PIECES, row_g = thread / G_PIECES;
    int col_x = first_col + 8 * (thread % X_PIECES), col_g = first_out + 8 * (thread % G_PIECES);
    const T *next_x = x.at(first + row_x, col_x), *next_g = g.at(first + row_g, col_g);
    uint4 *mine_x = pieces + row_x * X_PITCH + thread % X_PIECES,
          *mine_g = pieces + X + row_g * G_PITCH + thread % G_PIECES;
    float sums[M_TILES][N_TILES][4] = {};

    for (int slab = 1 - GRAD_A_STAGES; slab < slabs; slab++) {
        int stage = (slab + GRAD_A_STAGES) % GRAD_A_STAGES * STAGE;
        if (slab >= 0) {
            ptx::cp_async_wait<GRAD_A_STAGES - 2>();
#pragma unroll
            for (int i = 0; i < X_EACH; i++) {
                uint4 *piece = mine_x + stage + i * X_STEP * X_PITCH;
                *piece = drop8(mask, *piece,
                               static_cast<uint32_t>(first) +
                                   static_cast<uint32_t>(slab * GRAD_A_DEPTH + row_x + i * X_STEP),
                               static_cast<uint32_t>(col_x / 8));
            }
            __syncthreads(); /* the tile is masked, and all are done with the one before */
        }
        int ahead = slab + GRAD_A_STAGES - 1;
        if (ahead < slabs) {
            int to = ahead % GRAD_A_STAGES * STAGE,
                left = static_cast<int>(rows) - ahead * GRAD_A_DEPTH;
#pragma unroll
            for (int i = 0; i < X_EACH; i++)
                copy8<ALIGNED>(mine_x + to + i * X_STEP * X_PITCH, next_x + i * X_STEP * x.stride,
                               row_x + i * X_STEP < left ? x.cols - col_x : 0);
#pragma unroll
            for (int i = 0; i < G_EACH; i++)
                if (G % GRAD_A_THREADS == 0 || thread < G)
                    copy8<ALIGNED>(mine_g + to + i * G_STEP * G_PITCH,
                                   next_g + i * G_STEP * g.stride,
                                   row_g + i * G_STEP < left ? g.cols - col_g : 0);
            next_x += GRAD_A_DEPTH * x.stride;
            next_g += GRAD_A_DEPTH * g.stride;
        }
        ptx::cp_async_commit();
        if (slab < 0) continue;

        /* Both lie with the terms of the sum (rows of x) along their columns: transposed. */
        int matrix = lane / 8, q = lane % 8;
        const uint4 *tile_x = pieces + stage + warp % WARPS_N * N_TILES,
                    *tile_g = pieces + stage + X + warp / WARPS_N * 2 * M_TILES;
#pragma unroll
        for (int k = 0; k < GRAD_A_DEPTH; k += 16) {
            uint32_t left[M_TILES][4];
#pragma unroll
            for (int m = 0; m < M_TILES; m++)
                ptx::ldmatrix_x4_trans(left[m], tile_g + (k + q + matrix / 2 * 8) * G_PITCH +
                                                    2 * m + matrix % 2);
#pragma unroll
            for (int n = 0; n < N_TILES; n += 2) {
                uint32_t right[4];
                ptx::ldmatrix_x4_trans(right, tile_x + (k + q + matrix % 2 * 8) * X_PITCH + n +
                                                  matrix / 2);
#pragma unroll
                for (int m = 0; m < M_TILES; m++) {
                    ptx::mma_16816(sums[m][n], left[m], {right[0], right[1]}, T());
                    ptx::mma_16816(sums[m][n + 1], left[m], {right[2], right[3]}, T());
                }
            }
        }
    }
    ptx::cp_async_wait<0>();

    int row = first_out + warp / WARPS_N * 16 * M_TILES + lane / 4,
        col = first_col + warp % WARPS_N * 8 * N_TILES + 2 * (lane % 4);
#pragma unroll
    for (int m = 0; m < M_TILES; m++)
#pragma unroll
        for (int n = 0; n < N_TILES; n++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int r = row + 16 * m + 8 * half, c = col + 8 * n;
                if (r >= g.cols || c >= pitch) continue;
                float2 *to = reinterpret_cast<float2 *>(
                    partials + (static_cast<int64_t>(blockIdx.z) * g.cols + r) * pitch + c);
                *to = make_float2(sums[m][n][2 * half], sums[m][n][2 * half + 1]);
            }
}

constexpr int ADD_THREADS = 256;

/* da += keep · the sum of all chunks, in their order: a thread adds one element.
 * Floor: 4·chunks·r·K bytes, which the kernel before has just left in the L2 cache, and 8·r·K. */
__global__ void __launch_bounds__(ADD_THREADS)
    add_chunks_kernel(float *da, int64_t stride, const float *partials, int64_t pitch, int chunks,
                      int r, int K, float keep) {
    int col = static_cast<int>(blockIdx.x) * ADD_THREADS + static_cast<int>(threadIdx.x),
        row = static_cast<int>(blockIdx.y);
    if (col >= K) return;
    float sum = 0;
#pragma unroll 8
    for (int c = 0; c < chunks; c++)
        sum += partials[(static_cast<int64_t>(c) * r + row) * pitch + col];
    da[row * stride + col] += keep * sum;
}

template <typename T, int OUT, int WARPS_M, bool ALIGNED>
void launch_grad_a(cudaStream_t stream, float *partials, Tensor g, Tensor x, Chunks chunks,
                   const Mask &mask) {
    Rows<const T> left = rows_of<const T>(g), right = rows_of<const T>(x);
    dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(x.cols, GRAD_A_COLS)),
              static_cast<unsigned>(ceil_div<int64_t>(g.cols, OUT)),
              static_cast<unsigned>(chunks.count));
    size_t bytes = GRAD_A_STAGES * grad_a_stage(OUT) * sizeof(uint4);
    int64_t pitch = partial_pitch(x.cols), rows = chunks.rows;
    allow_shared(grad_a_kernel<T, OUT, WARPS_M, ALIGNED>, bytes);
    LAUNCH((grad_a_kernel<T, OUT, WARPS_M, ALIGNED>), grid, GRAD_A_THREADS, bytes, stream, partials,
           pitch, left, right, rows, mask);
}

template <typename T>
void grad_a(cudaStream_t stream, float *partials, Tensor g, Tensor x, Chunks chunks,
            const Mask &mask) {
    int out = grad_a_out(g.cols);
    if (!is_aligned(g) || !is_aligned(x))
        launch_grad_a<T, 32, 1, false>(stream, partials, g, x, chunks, mask);
    else if (out == 16)
        launch_grad_a<T, 16, 1, true>(stream, partials, g, x, chunks, mask);
    else if (out == 32)
        launch_grad_a<T, 32, 1, true>(stream, partials, g, x, chunks, mask);
    else if (out == 64)
        launch_grad_a<T, 64, 2, true>(stream, partials, g, x, chunks, mask);
    else
        launch_grad_a<T, 128, 2, true>(stream, partials, g, x, chunks, mask);
}

} // namespace

size_t cuda_lora_grad_a_scratch(int64_t T, int64_t K, int64_t r) {
    return static_cast<size_t>(chunks_of(T, K, r).count * r * partial_pitch(K)) * sizeof(float);
}

void cuda_lora_grad_a(cudaStream_t stream, void *scratch, Tensor da, Tensor g, Tensor x,
                      Dropout dropout) {
    float *partials = static_cast<float *>(scratch), *to = static_cast<float *>(da.data);
    Mask mask = mask_of(dropout);
    Chunks chunks = chunks_of(x.rows, x.cols, g.cols);
    if (x.dtype == DT_BF16)
        grad_a<bf16>(stream, partials, g, x, chunks, mask);
    else
        grad_a<f16>(stream, partials, g, x, chunks, mask);
    int K = static_cast<int>(x.cols), r = static_cast<int>(g.cols), count = chunks.count;
    int64_t stride = da.stride, pitch = partial_pitch(x.cols);
    float keep = mask.keep;
    dim3 grid(static_cast<unsigned>(ceil_div(K, ADD_THREADS)), static_cast<unsigned>(r));
    LAUNCH(add_chunks_kernel, grid, ADD_THREADS, 0, stream, to, stride, partials, pitch, count, r,
           K, keep);
}
