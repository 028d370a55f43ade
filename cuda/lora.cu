/* The three products of LoRA that dropout takes part in, on the tensor cores.
 *
 * PEFT drops elements of x on its way into the adapter only, so that x · aᵀ, gᵀ · x and g · a each
 * need the mask, and the dropped x would be written once and read twice were it kept. Here it never
 * is: each kernel draws the mask of an element in registers (dropout.cuh) right where it has the
 * element anyway, once. The factor 1/(1-p) goes onto the f32 sums. An element that is dropped is
 * cleared, even where it is not finite; the layer's own product of x has it too.
 *
 * With r ≤ 128 all three are bound by memory: at r = 128 a 16-bit element of x meets 256 FLOPs, and
 * an H200 does 412 in the time it takes to bring the element (989 TFLOP/s, 4.8 TB/s).
 *
 * Tensor-core fragments are read straight from rows of 16 bytes where possible: the order of the
 * terms of a sum, and of the columns of a result, is free as long as both factors agree, and is
 * chosen so that a lane's share of a fragment is eight neighbours in memory, which is also what one
 * block of the mask covers.
 *
 * Where rows do not start on 16 bytes, or K or r are no multiples of 8, the same kernels take their
 * elements one by one (ALIGNED false): slower, for odd sizes. Not yet run on a GPU. */
#include "cuda/kernel.cuh"

#include "cuda/dropout.cuh"
#include "cuda/matmul.h"

namespace {

/* Rows of 16-bit elements, cols of them valid. */
template <typename T>
struct Rows {
    T *data;
    int64_t stride, rows;
    int cols;

    __device__ __forceinline__ T *at(int64_t row, int col) const {
        return data + row * stride + col;
    }

    /* The last row for those behind it: for what is read in vain. */
    __device__ __forceinline__ T *at_last(int64_t row, int col) const {
        return at(row < rows ? row : rows - 1, col);
    }
};

template <typename T>
Rows<T> rows_of(Tensor t) {
    return {static_cast<T *>(t.data), t.stride, t.rows, static_cast<int>(t.cols)};
}

template <typename T>
union Eight {
    uint4 all;
    T each[8];
};

/* Eight elements of a row, of which `left` exist; zeros for the others. Aligned rows end where a
 * piece of eight does. */
template <bool ALIGNED, typename T>
__device__ __forceinline__ uint4 load8(const T *from, int left) {
    Eight<T> e = {{0, 0, 0, 0}};
    if constexpr (ALIGNED) {
        if (left > 0) e.all = *reinterpret_cast<const uint4 *>(from);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (i < left) e.each[i] = from[i];
    }
    return e.all;
}

/* The same into shared memory, in the background where that is possible. */
template <bool ALIGNED, typename T>
__device__ __forceinline__ void copy8(uint4 *to, const T *from, int left) {
    if constexpr (ALIGNED)
        ptx::cp_async16(to, from, left > 0 ? 16 : 0);
    else
        *to = load8<false>(from, left);
}

/* Two fragments of 16 rows and 16 terms, from eight terms each of rows g and g + 8. */
__device__ __forceinline__ void fragments(uint32_t (&to)[2][4], uint4 upper, uint4 lower) {
    to[0][0] = upper.x;
    to[0][1] = lower.x;
    to[0][2] = upper.y;
    to[0][3] = lower.y;
    to[1][0] = upper.z;
    to[1][1] = lower.z;
    to[1][2] = upper.w;
    to[1][3] = lower.w;
}

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

/* ---- xa[T,r] = dropout(x)[T,K] · a[r,K]ᵀ ---- */

constexpr int DOWN_WARPS = 4, DOWN_THREADS = 32 * DOWN_WARPS;
constexpr int DOWN_ROWS = 32 * DOWN_WARPS, DOWN_DEPTH = 32, DOWN_STAGES = 4;

/* 16-byte pieces of one stage: four of x for each thread, and a's tile. */
constexpr int DOWN_X = 4 * DOWN_THREADS;
__host__ __device__ constexpr int down_stage(int tiles) {
    return DOWN_X + 8 * tiles * (DOWN_DEPTH / 8);
}

/* A block makes 128 rows of 8·TILES columns of xa, a warp 32 rows of them, 32 terms of the sums at a
 * time. A lane copies the pieces of x (8 elements of 4 rows) that it alone will multiply, and draws
 * their mask; only a's tile is shared. The terms of a sum are taken in the order that this gives:
 * lane t of a row has terms 8t … 8t+7, two of which are neighbours in each register of a fragment,
 * and a's tile is read in the same order.
 *
 * Floor: 2·T·K bytes and 2·T·K·r FLOPs. By count, of L2: 2·T·K, and a again for every 128 rows,
 * 2·T·K·r/128: at r = 128 twice the floor's bytes, from an L2 that gives 1.2 times what memory does
 * (5.7 TB/s), so up to 1.7 times the floor; at r = 16, 1.1 times. Of shared memory, per 16 × 32
 * elements of x: 1,024 bytes written, 1,024 read, and 256·TILES of a: at r = 128 40 clocks, where
 * memory takes 49. Per warp and 32 terms 4·TILES mma and 4 blocks of the mask. */
template <typename T, int TILES, bool ALIGNED>
__global__ void __launch_bounds__(DOWN_THREADS)
    down_kernel(Rows<T> xa, Rows<const T> x, Rows<const T> a, Mask mask) {
    constexpr int STAGE = down_stage(TILES), PIECES = DOWN_DEPTH / 8, A = 8 * TILES * PIECES,
                  A_EACH = ceil_div(A, DOWN_THREADS);
    DYN_SHARED(uint4, pieces);
    int thread = static_cast<int>(threadIdx.x), lane = thread % 32, g = lane / 4, t = lane % 4;
    int64_t row = static_cast<int64_t>(blockIdx.x) * DOWN_ROWS + thread / 32 * 32 + g;
    int first_out = static_cast<int>(blockIdx.y) * 8 * TILES, slabs = ceil_div(x.cols, DOWN_DEPTH);
    /* Where this thread's next pieces are, all of the same columns. */
    const T *next_x[4], *next_a[A_EACH];
#pragma unroll
    for (int i = 0; i < 4; i++) next_x[i] = x.at_last(row + 8 * i, 8 * t);
#pragma unroll
    for (int i = 0; i < A_EACH; i++)
        next_a[i] = a.at_last(first_out + (thread + i * DOWN_THREADS) / PIECES, 8 * t);
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
                copy8<ALIGNED>(to + i * DOWN_THREADS, next_x[i], left);
                next_x[i] += DOWN_DEPTH;
            }
#pragma unroll
            for (int i = 0; i < A_EACH; i++) {
                if (A % DOWN_THREADS == 0 || thread < A)
                    copy8<ALIGNED>(to + DOWN_X + i * DOWN_THREADS, next_a[i], left);
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
                p[i] = drop8(mask, from[(2 * m + i) * DOWN_THREADS + thread],
                             static_cast<uint32_t>(row + 16 * m + 8 * i),
                             static_cast<uint32_t>(slab * PIECES + t));
            fragments(left_of[m], p[0], p[1]);
        }
#pragma unroll
        for (int n = 0; n < TILES; n++) {
            uint4 q = from[DOWN_X + 32 * n + lane]; /* row 8n + g of a's tile, piece t */
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

/* ---- da[r,K] += g[T,r]ᵀ · dropout(x)[T,K] ---- */

constexpr int GRAD_A_WARPS = 8, GRAD_A_THREADS = 32 * GRAD_A_WARPS;
constexpr int GRAD_A_COLS = 128, GRAD_A_DEPTH = 32, GRAD_A_STAGES = 4;
constexpr int GRAD_A_BLOCKS = 256;   /* wanted: two for most SMs of an H200 (132) or A100 (108) */
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
 * Floor: 2·T·K bytes and 2·T·K·r FLOPs. By count: g again for every 128 columns (at r = 128 as much
 * as x, from L2), and 8 bytes of partial sums for every element of da and chunk, which stay in L2 up
 * to 17 MB: about 1.7 times the floor at r = 128. Of shared memory, per 16 × 128 elements of x at
 * r = 128: 8 KB copied, 8 KB to mask, 24 KB of fragments, 320 clocks, where memory takes 198 and 512
 * FLOPs a clock and element take 123; so shared memory decides, at 1.6 times the floor. At r = 16 it
 * is 150 clocks. Per warp and 16 rows (OUT/16/WARPS_M) · WARPS_M·2 mma. */
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
            int to = ahead % GRAD_A_STAGES * STAGE, left = static_cast<int>(rows) - ahead * GRAD_A_DEPTH;
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

        /* Both factors lie with the terms of the sum (rows of x) along their columns: transposed. */
        int matrix = lane / 8, q = lane % 8;
        const uint4 *tile_x = pieces + stage + warp % WARPS_N * N_TILES,
                    *tile_g = pieces + stage + X + warp / WARPS_N * 2 * M_TILES;
#pragma unroll
        for (int k = 0; k < GRAD_A_DEPTH; k += 16) {
            uint32_t left[M_TILES][4];
#pragma unroll
            for (int m = 0; m < M_TILES; m++)
                ptx::ldmatrix_x4_trans(left[m], tile_g + (k + q + matrix / 2 * 8) * G_PITCH + 2 * m +
                                                    matrix % 2);
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
    for (int c = 0; c < chunks; c++) sum += partials[(static_cast<int64_t>(c) * r + row) * pitch + col];
    da[row * stride + col] += keep * sum;
}

/* ---- dx[T,K] += dropout'(g[T,r] · a[r,K]) ---- */

constexpr int GRAD_X_WARPS = 8, GRAD_X_THREADS = 32 * GRAD_X_WARPS;
constexpr int GRAD_X_ROWS = 16 * GRAD_X_WARPS, GRAD_X_COLS = 128;
constexpr int GRAD_X_DEPTH = 128; /* of r that a's tile holds at a time, in slabs of 32 */
constexpr int SLAB = 32;
constexpr int A_PITCH = GRAD_X_COLS / 2 + 4; /* words in a row of a's tile */

/* Where row k of a slab lies in a's tile. A lane has terms 8t … 8t+7 of the sums in its fragments of
 * g, two to a register; the rows that one ldmatrix reads for the same register are put together. */
__device__ __forceinline__ int slab_row(int k) {
    return k % 8 / 2 * 8 + k / 8 * 2 + k % 2;
}

/* A block makes 128 rows of 128 columns of dx, a warp 16 rows of them. a's tile is in shared memory,
 * with its columns in an order that gives a lane eight neighbouring columns of the result: of 32,
 * pair j of piece q lies in tile j at pair q. So the lane reads, masks and writes 16 bytes of dx at
 * a time, and draws one block of the mask for them.
 *
 * Floor: 4·T·K bytes (dx is read and written) and 2·T·K·r FLOPs. By count, of L2: 4·T·K, and at
 * r = 128 g for every 128 columns (2·T·K) and a for every 128 rows (2·T·K): 1.7 times the floor at
 * L2's 5.7 TB/s; at r = 16, 1.1 times. Of shared memory per block, at r = 128: 2,048 clocks of
 * fragments, where memory takes 3,170. Per warp and 16 of r 16 mma. */
template <typename T, bool ALIGNED>
__global__ void __launch_bounds__(GRAD_X_THREADS, 2)
    grad_x_kernel(Rows<T> dx, Rows<const T> g, Rows<const T> a, int col_tiles, Mask mask) {
    constexpr int TILES = GRAD_X_COLS / 8, PIECES = GRAD_X_COLS / 8;
    DYN_SHARED(uint32_t, tile);
    int thread = static_cast<int>(threadIdx.x), lane = thread % 32, t = lane % 4;
    int first_col = static_cast<int>(blockIdx.x % static_cast<unsigned>(col_tiles)) * GRAD_X_COLS;
    int64_t row = static_cast<int64_t>(blockIdx.x / static_cast<unsigned>(col_tiles)) * GRAD_X_ROWS +
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
                    ptx::ldmatrix_x4_trans(right, tile +
                                                      (k + 16 * step + 8 * (matrix % 2) + q) *
                                                          A_PITCH +
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

/* ---- launching ---- */

/* Whether every row starts on 16 bytes and has whole pieces of them. */
bool is_aligned(Tensor t) {
    return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && t.stride % 8 == 0 && t.cols % 8 == 0;
}

template <typename Kernel>
void allow_shared(Kernel *kernel, size_t bytes) {
    if (bytes > 48 << 10)
        cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

template <typename T, int TILES, bool ALIGNED>
void launch_down(cudaStream_t stream, Tensor xa, Tensor x, Tensor a, const Mask &mask) {
    Rows<T> to = rows_of<T>(xa);
    Rows<const T> left = rows_of<const T>(x), right = rows_of<const T>(a);
    dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(x.rows, DOWN_ROWS)),
              static_cast<unsigned>(ceil_div<int64_t>(a.rows, 8 * TILES)));
    size_t bytes = DOWN_STAGES * down_stage(TILES) * sizeof(uint4);
    allow_shared(down_kernel<T, TILES, ALIGNED>, bytes);
    LAUNCH((down_kernel<T, TILES, ALIGNED>), grid, DOWN_THREADS, bytes, stream, to, left, right,
           mask);
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

void cuda_lora_down(cudaStream_t stream, Tensor xa, Tensor x, Tensor a, Dropout dropout) {
    if (x.dtype == DT_BF16)
        down<bf16>(stream, xa, x, a, mask_of(dropout));
    else
        down<f16>(stream, xa, x, a, mask_of(dropout));
}

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
    LAUNCH(add_chunks_kernel, grid, ADD_THREADS, 0, stream, to, stride, partials, pitch, count, r, K,
           keep);
}

void cuda_lora_grad_x(cudaStream_t stream, Tensor dx, Tensor g, Tensor a, Dropout dropout) {
    if (dx.dtype == DT_BF16)
        grad_x<bf16>(stream, dx, g, a, mask_of(dropout));
    else
        grad_x<f16>(stream, dx, g, a, mask_of(dropout));
}
