/* LoRA (Hu et al. 2021) on a GPU: the products that dropout takes part in. All others are plain
 * (ops/lora.c).
 *
 * 16-bit types have kernels that draw the mask as they go (lora_*.cu). f32, which the tensor cores
 * do not multiply, makes a dropped copy in scratch memory.
 *
 * Activations that an adapter of rank r moves beside its linear [N,K], in elements a row:
 *
 *                              two products           one matrix, one product (ops/lora.c)
 *     forward    xa            K + r                  K + r
 *                y             r + 2·N                r
 *     backward   g, db, da     2·N + 3·r + K          2·N + 3·r + K
 *                dx            r + 2·K                r           (with dropout still r + 2·K)
 *
 * The decoder of the 0.89B model (20 layers, 80 linears, ΣN = 234,624, ΣK = 153,856), 2,048 rows in
 * all of its layers, r = 128, bf16: the linears move 3.18 GB without adapters, which add 6.62 GB as
 * two products and 3.43 GB as one; 4.69 GB with dropout. Counted by the formulas. (On two Zen 4
 * processors, one thread, "bench_step layer": 604 ms a step as two products, 483 as one.) */
#include "cuda/cuda_ops.h"
#include "cuda/matmul.h"

/* Bytes of a dropped copy. */
static size_t copy_bytes(int64_t rows, int64_t cols, DType dtype) {
    return dtype == DT_F32 ? (size_t)(rows * cols) * sizeof(float) : 0;
}

/* ---- xa ---- */

size_t cuda_lora_xa_scratch(int64_t T, int64_t K, DType dtype) {
    return copy_bytes(T, K, dtype);
}

Err cuda_lora_xa(CudaMatmuls *m, cudaStream_t stream, void *scratch, Tensor xa, Tensor x, Tensor a,
                 float scale, Dropout dropout) {
    if (x.dtype != DT_F32) {
        cuda_lora_down(stream, xa, x, a, scale, dropout);
        return OK;
    }
    Tensor dropped = tensor(scratch, DT_F32, x.rows, x.cols);
    cuda_dropout(stream, dropped, x, dropout, false);
    return cuda_matmul(
        m, stream,
        &(CudaProduct){.c = xa, .a = dropped, .b = a, .transpose_b = true, .alpha = scale});
}

/* ---- da ---- */

size_t cuda_lora_da_scratch(int64_t T, int64_t K, int64_t r, DType dtype) {
    return dtype == DT_F32 ? copy_bytes(T, K, dtype) : cuda_lora_grad_a_scratch(T, K, r);
}

Err cuda_lora_da(CudaMatmuls *m, cudaStream_t stream, void *scratch, Tensor da, Tensor g, Tensor x,
                 Dropout dropout) {
    if (x.dtype != DT_F32) {
        cuda_lora_grad_a(stream, scratch, da, g, x, dropout);
        return OK;
    }
    Tensor dropped = tensor(scratch, DT_F32, x.rows, x.cols);
    cuda_dropout(stream, dropped, x, dropout, false);
    return cuda_matmul(
        m, stream,
        &(CudaProduct){.c = da, .a = g, .b = dropped, .transpose_a = true, .alpha = 1, .beta = 1});
}

/* ---- dx ---- */

size_t cuda_lora_dx_scratch(int64_t T, int64_t K, DType dtype) {
    return copy_bytes(T, K, dtype);
}

Err cuda_lora_dx(CudaMatmuls *m, cudaStream_t stream, void *scratch, Tensor dx, Tensor g, Tensor a,
                 Dropout dropout) {
    if (dx.dtype != DT_F32) {
        cuda_lora_grad_x(stream, dx, g, a, dropout);
        return OK;
    }
    Tensor wide = tensor(scratch, DT_F32, dx.rows, dx.cols);
    TRY(cuda_matmul(m, stream, &(CudaProduct){.c = wide, .a = g, .b = a, .alpha = 1}));
    cuda_dropout(stream, dx, wide, dropout, true);
    return OK;
}
