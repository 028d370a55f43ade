/* Matrix products through oneDNN, cut so that their bits do not depend on the number of threads.
 *
 * oneDNN picks its blocking, and with it the order of summation, by the number of threads it may
 * use. So it is only ever given one: a product is cut into tiles by its shape alone, each tile is
 * one single-threaded primitive, and OpenMP deals the tiles out. (Measured on a Zen 4 core: a tile
 * of 128 × 128 × 128 runs at the rate of 1024³, 0.21 TFLOP/s in bf16, so nothing is lost.)
 * Primitives are cached by shape. */
#ifndef CADVLM_OPS_CPU_MATMUL_H
#define CADVLM_OPS_CPU_MATMUL_H

#include "ops/ops.h"

typedef struct Matmuls Matmuls;

Err matmuls_open(Matmuls **matmuls, int threads);
void matmuls_close(Matmuls **matmuls);
const char *matmuls_version(void); /* "2.6.3" */
/* Whether oneDNN multiplies bf16: from AVX-512 on, unless ONEDNN_MAX_CPU_ISA says less. */
bool matmuls_have_bf16(void);

/* How a product is asked for: c[M,N] = scale · op(a) · op(b) + bias, or + c with `accumulate`. a
 * and b have one type (f32 or bf16); c has that type or f32. bias (type of a) is one row or none.
 */
typedef struct Product {
    Tensor c, a, b, bias;
    bool transpose_a, transpose_b;
    bool accumulate;
    float scale; /* 0 means 1 */
} Product;

/* The whole product on the calling thread `thread`, as one tile: M, N, K are cached as they are, so
 * callers inside a parallel region should use few different shapes. A failure is kept in *ex. */
void matmul_tile(Exec *ex, int thread, const Product *product);

/* Tiles over all threads. The inner dimension is summed whole where it is short (K of a layer), and
 * in fixed chunks where it is long and ragged (`ragged_k`: the rows of a batch, for weight
 * gradients; needs accumulate). */
void matmul_parallel(Exec *ex, const Product *product, bool ragged_k);

/* b of many tiles c = a · op(b), which is packed once where products want that. A tile may use the
 * first lines and the first inner numbers of b only (c's columns, a's). */
typedef struct Fixed {
    Tensor b;
    bool transpose_b;
    uint16_t *packed; /* or NULL */
} Fixed;

size_t matmul_fixed_bytes(int64_t lines, int64_t inner); /* of *memory, at most */
Fixed matmul_fix(Exec *ex, void **memory, Tensor b, bool transpose_b);
void matmul_tile_fixed(Exec *ex, int thread, Tensor c, Tensor a, const Fixed *fixed);

/* The same in tile registers (bf16, Cpu's `amx`): matmul_amx.c. */
void amx_product(Exec *ex, int thread, const Product *product);
void amx_product_parallel(Exec *ex, const Product *product, int threads);

/* FLOP/s of one 1024³ product into f32 that oneDNN threads by itself, the best of several. */
double matmul_peak(Exec *ex);

#endif
