/* Matrix products on a GPU by cuBLASLt, and the products of LoRA that dropout takes part in.
 *
 * A product asks cuBLASLt once how to run its shape, rows rounded up; the answer (a plan) is kept,
 * so that the next such product costs a look-up and a launch. What cuBLASLt has no algorithm for
 * (16-bit matrices whose rows start at odd places), or refuses when it comes to it, goes to a plain
 * kernel: slow, but right, and counted.
 *
 * One CudaMatmuls belongs to one stream at a time: its workspace is in use until the stream is done
 * with the last product. */
#ifndef CADVLM_CUDA_MATMUL_H
#define CADVLM_CUDA_MATMUL_H

#include <cuda_runtime_api.h>

#include "ops/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- products ---- */

typedef struct CudaMatmuls CudaMatmuls;

/* For the current device, with the switches (switches.h) as they are. */
Err cuda_matmuls_open(CudaMatmuls **m);
void cuda_matmuls_close(CudaMatmuls **m);

/* With tuning a new plan times cuBLASLt's candidates and keeps the fastest, rather than the one
 * that cuBLASLt believes in. It waits for the device, and another run may choose another algorithm,
 * whose sums round differently: for long runs, not for comparing bits. */
void cuda_matmuls_tune(CudaMatmuls *m, bool on);

ProductCounts cuda_matmuls_counts(const CudaMatmuls *m);

size_t cuda_matmuls_bytes(const CudaMatmuls *m); /* of device memory */

/* What happens to the sums before they are rounded to c's type. GELU is the tanh form (Hendrycks &
 * Gimpel 2016); AUX also keeps its input, for backward, in `aux`. */
typedef enum CudaEpilogue {
    EPILOGUE_NONE,
    EPILOGUE_BIAS,
    EPILOGUE_GELU_BIAS,
    EPILOGUE_GELU_AUX_BIAS
} CudaEpilogue;

/* c[m,n] = epilogue(alpha · op(a)[m,k] · op(b)[k,n] + beta · c + bias[1,n]);  a and b are of one
 * compute type, c of that or f32, bias of a's type, aux[m,n] of c's. Sums are f32 (of f32 factors:
 * true f32, no TF32). With beta 0, c is not read. */
typedef struct CudaProduct {
    Tensor c, a, b;
    bool transpose_a, transpose_b; /* a lies as [k,m], b as [n,k] */
    float alpha, beta;
    CudaEpilogue epilogue;
    Tensor bias, aux; /* where the epilogue names them */
} CudaProduct;

Err cuda_matmul(CudaMatmuls *m, cudaStream_t stream, const CudaProduct *p);

/* ---- the plain way (matmul_plain.cu) ---- */

/* The same product by the fallback kernel, over any types and strides. */
void cuda_matmul_plain(cudaStream_t stream, const CudaProduct *p);

/* c = epilogue(c + bias) for a product whose epilogue was left out. */
void cuda_matmul_epilogue(cudaStream_t stream, const CudaProduct *p);

/* ---- LoRA with dropout (lora.c); any compute type ---- */

/* xa[T,r] = scale · dropout(x)[T,K] · a[r,K]ᵀ. */
size_t cuda_lora_xa_scratch(int64_t T, int64_t K, DType dtype);
Err cuda_lora_xa(CudaMatmuls *m, cudaStream_t stream, void *scratch, Tensor xa, Tensor x, Tensor a,
                 float scale, Dropout dropout);

/* da[r,K] += g[T,r]ᵀ · dropout(x)[T,K]. */
size_t cuda_lora_da_scratch(int64_t T, int64_t K, int64_t r, DType dtype);
Err cuda_lora_da(CudaMatmuls *m, cudaStream_t stream, void *scratch, Tensor da, Tensor g, Tensor x,
                 Dropout dropout);

/* dx[T,K] += dropout'(g[T,r] · a[r,K]). */
size_t cuda_lora_dx_scratch(int64_t T, int64_t K, DType dtype);
Err cuda_lora_dx(CudaMatmuls *m, cudaStream_t stream, void *scratch, Tensor dx, Tensor g, Tensor a,
                 Dropout dropout);

/* ---- products with a mask, on the tensor cores (lora_*.cu); 16-bit types ----
 *
 * The mask of dropout is drawn in registers where an element is used, and never stored. */

/* xa[T,r] = scale · dropout(x)[T,K] · a[r,K]ᵀ. */
void cuda_lora_down(cudaStream_t stream, Tensor xa, Tensor x, Tensor a, float scale,
                    Dropout dropout);

/* da[r,K] += g[T,r]ᵀ · dropout(x)[T,K], through partial sums of chunks of rows. */
size_t cuda_lora_grad_a_scratch(int64_t T, int64_t K, int64_t r);
void cuda_lora_grad_a(cudaStream_t stream, void *scratch, Tensor da, Tensor g, Tensor x,
                      Dropout dropout);

/* dx[T,K] += dropout'(g[T,r] · a[r,K]). */
void cuda_lora_grad_x(cudaStream_t stream, Tensor dx, Tensor g, Tensor a, Dropout dropout);

#ifdef __cplusplus
}
#endif

#endif
