/* LoRA (Hu et al. 2021) on a GPU: which products, and by whom.
 *
 * Without dropout all are plain. With it, the products that take dropout(x) or give dropout' have
 * kernels that draw the mask as they go (lora_*.cu); f32, which the tensor cores do not multiply,
 * makes a dropped copy of x in scratch memory.
 *
 * Scratch of the backward pass: g[T,r], and behind it the partial sums of da, or that copy. */
#include "cuda/cuda_ops.h"
#include "cuda/matmul.h"

enum { ALIGNMENT = 256 };

static size_t aligned(size_t bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static size_t matrix_bytes(int64_t rows, int64_t cols, DType dtype) {
    return aligned((size_t)(rows * cols) * dtype_size(dtype));
}

/* c (+)= scale · op(a) · op(b). */
static Err multiply(CudaMatmuls *m, cudaStream_t stream, Tensor c, Tensor a, bool transpose_a,
                    Tensor b, bool transpose_b, float scale, bool accumulate) {
    return cuda_matmul(m, stream,
                       &(CudaProduct){.c = c,
                                      .a = a,
                                      .b = b,
                                      .transpose_a = transpose_a,
                                      .transpose_b = transpose_b,
                                      .alpha = scale,
                                      .beta = accumulate ? 1 : 0});
}

/* What becomes of x on its way into the adapter. */
typedef enum Way { WAY_WHOLE, WAY_MASKED, WAY_COPIED } Way;

static Way way_of(DType dtype, Dropout dropout) {
    if (dropout.p == 0) return WAY_WHOLE;
    return dtype == DT_F32 ? WAY_COPIED : WAY_MASKED;
}

/* ---- forward ---- */

size_t cuda_lora_fwd_scratch(int64_t T, int64_t N, int64_t K, int64_t r, DType dtype,
                             Dropout dropout) {
    (void)N;
    (void)r;
    return way_of(dtype, dropout) == WAY_COPIED ? matrix_bytes(T, K, dtype) : 0;
}

/* x, or its dropped copy. */
static Tensor dropped(cudaStream_t stream, void *scratch, Tensor x, Dropout dropout) {
    if (dropout.p == 0) return x;
    Tensor copy = tensor(scratch, x.dtype, x.rows, x.cols);
    cuda_dropout(stream, copy, x, dropout, false);
    return copy;
}

/* xa = dropout(x) · aᵀ. */
static Err down(CudaMatmuls *m, cudaStream_t stream, void *scratch, Tensor xa, Tensor x, Tensor a,
                Dropout dropout) {
    if (way_of(x.dtype, dropout) == WAY_MASKED) {
        cuda_lora_down(stream, xa, x, a, dropout);
        return OK;
    }
    return multiply(m, stream, xa, dropped(stream, scratch, x, dropout), false, a, true, 1, false);
}

Err cuda_lora_fwd(CudaMatmuls *m, cudaStream_t stream, void *scratch, Tensor y, Tensor xa, Tensor x,
                  Tensor a, Tensor b, float scale, Dropout dropout) {
    TRY(down(m, stream, scratch, xa, x, a, dropout));
    TRY(multiply(m, stream, y, xa, false, b, true, scale, true));
    return OK;
}

/* ---- backward ---- */

size_t cuda_lora_bwd_scratch(int64_t T, int64_t N, int64_t K, int64_t r, DType dtype,
                             Dropout dropout) {
    (void)N;
    size_t g = matrix_bytes(T, r, dtype);
    switch (way_of(dtype, dropout)) {
    case WAY_WHOLE: return g;
    case WAY_MASKED: return g + cuda_lora_grad_a_scratch(T, K, r);
    case WAY_COPIED: return g + matrix_bytes(T, K, dtype);
    }
    return 0;
}

/* da += gᵀ · dropout(x). */
static Err grad_a(CudaMatmuls *m, cudaStream_t stream, void *scratch, Tensor da, Tensor g, Tensor x,
                  Dropout dropout) {
    if (way_of(x.dtype, dropout) == WAY_MASKED) {
        cuda_lora_grad_a(stream, scratch, da, g, x, dropout);
        return OK;
    }
    return multiply(m, stream, da, g, true, dropped(stream, scratch, x, dropout), false, 1, true);
}

/* dx += dropout'(g · a). */
static Err grad_x(CudaMatmuls *m, cudaStream_t stream, void *scratch, Tensor dx, Tensor g, Tensor a,
                  Dropout dropout) {
    switch (way_of(dx.dtype, dropout)) {
    case WAY_WHOLE: break;
    case WAY_MASKED: cuda_lora_grad_x(stream, dx, g, a, dropout); return OK;
    case WAY_COPIED: {
        Tensor wide = tensor(scratch, dx.dtype, dx.rows, dx.cols);
        TRY(multiply(m, stream, wide, g, false, a, false, 1, false));
        cuda_dropout(stream, dx, wide, dropout, true);
        return OK;
    }
    }
    return multiply(m, stream, dx, g, false, a, false, 1, true);
}

Err cuda_lora_bwd(CudaMatmuls *m, cudaStream_t stream, void *scratch, Tensor dx, Tensor da,
                  Tensor db, Tensor dy, Tensor xa, Tensor x, Tensor a, Tensor b, float scale,
                  Dropout dropout) {
    Tensor g = tensor(scratch, x.dtype, x.rows, a.rows);
    void *rest = (char *)scratch + matrix_bytes(x.rows, a.rows, x.dtype);
    TRY(multiply(m, stream, g, dy, false, b, false, scale, false));
    TRY(multiply(m, stream, db, dy, true, xa, false, scale, true));
    TRY(grad_a(m, stream, rest, da, g, x, dropout));
    if (!tensor_is_none(dx)) TRY(grad_x(m, stream, rest, dx, g, a, dropout));
    return OK;
}

Err cuda_lora_merge(CudaMatmuls *m, cudaStream_t stream, Tensor w, Tensor a, Tensor b,
                    float scale) {
    return multiply(m, stream, w, b, false, a, false, scale, true);
}
