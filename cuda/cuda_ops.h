/* The kernels as backend_cuda.c calls them: one function a row of ops/backend.h, with the meaning
 * of ops/ops.h.
 *
 * Pointers are device memory, specs are host memory and copied into the launch. Each function puts
 * its launches on `stream` and returns; launch errors come out of cudaGetLastError. Shapes have
 * been checked. `scratch` is device memory whose size the function named …_scratch says; its
 * contents mean nothing before and after. Compute types are f32, bf16 and f16 unless a line says
 * otherwise.
 *
 * Rows of compute-type tensors may start anywhere (a stride or a pointer that is no multiple of 16
 * bytes): kernels take a slower way there; the model's tensors are all aligned. */
#ifndef CADVLM_CUDA_CUDA_OPS_H
#define CADVLM_CUDA_CUDA_OPS_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "ops/ops.h"

/* ---- norm.cu ---- */

void cuda_rmsnorm_fwd(cudaStream_t stream, Tensor out, Tensor sum, Tensor rstd, Tensor h,
                      Tensor delta, Tensor w, float w_offset, float eps);
size_t cuda_rmsnorm_bwd_scratch(int64_t rows, int64_t cols);
void cuda_rmsnorm_bwd(cudaStream_t stream, void *scratch, Tensor dh, bool accumulate, Tensor dw,
                      Tensor dout, Tensor h, Tensor rstd, Tensor w, float w_offset);
void cuda_layernorm_fwd(cudaStream_t stream, Tensor out, Tensor sum, Tensor stats, Tensor h,
                        Tensor delta, Tensor w, Tensor bias, float eps);
size_t cuda_layernorm_bwd_scratch(int64_t rows, int64_t cols);
void cuda_layernorm_bwd(cudaStream_t stream, void *scratch, Tensor dh, bool accumulate, Tensor dw,
                        Tensor dbias, Tensor dout, Tensor h, Tensor stats, Tensor w);

/* ---- rope.cu ---- */

void cuda_qk_rope_fwd(cudaStream_t stream, Tensor qk, Tensor rstd, Tensor qkv, Tensor wq, Tensor wk,
                      const RopeSpec *spec);
size_t cuda_qk_rope_bwd_scratch(int64_t rows, const RopeSpec *spec);
void cuda_qk_rope_bwd(cudaStream_t stream, void *scratch, Tensor dqkv, Tensor dwq, Tensor dwk,
                      Tensor dqk, Tensor qkv, Tensor rstd, Tensor wq, Tensor wk,
                      const RopeSpec *spec);

/* ---- attention_fwd.cu, attention_bwd.cu ---- */

void cuda_attention_fwd(cudaStream_t stream, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                        const AttentionSpec *spec);
size_t cuda_attention_bwd_scratch(int64_t rows_q, int64_t rows_k, DType dtype,
                                  const AttentionSpec *spec);
void cuda_attention_bwd(cudaStream_t stream, void *scratch, Tensor dq, Tensor dk, Tensor dv,
                        Tensor dout, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                        const AttentionSpec *spec);

/* ---- act.cu ---- */

void cuda_act_fwd(cudaStream_t stream, Tensor out, Tensor x, Activation kind);
void cuda_act_bwd(cudaStream_t stream, Tensor dx, Tensor dout, Tensor x, Activation kind);
void cuda_glu_fwd(cudaStream_t stream, Tensor out, Tensor x, Activation kind);
void cuda_glu_bwd(cudaStream_t stream, Tensor dx, Tensor dout, Tensor x, Activation kind);

/* ---- rows.cu: pictures, tokens, rows ---- */

void cuda_patchify(cudaStream_t stream, Tensor patches, const uint8_t *pixels,
                   const PatchSpec *spec);
void cuda_scale(cudaStream_t stream, Tensor out, Tensor x, float factor);
void cuda_add(cudaStream_t stream, Tensor out, Tensor a, Tensor b);
void cuda_add_positions(cudaStream_t stream, Tensor x, Tensor table);
void cuda_add_positions_bwd(cudaStream_t stream, Tensor dtable, Tensor dx);
void cuda_embed_fwd(cudaStream_t stream, Tensor out, const int32_t *ids, Tensor table,
                    Tensor features);
void cuda_embed_bwd(cudaStream_t stream, Tensor dtable, Tensor dfeatures, Tensor dout,
                    const int32_t *ids);
void cuda_gather_rows(cudaStream_t stream, Tensor out, Tensor x, const int32_t *rows);
void cuda_put_rows(cudaStream_t stream, Tensor out, Tensor x, const int32_t *rows);
void cuda_scatter_rows(cudaStream_t stream, Tensor out, Tensor x, const int32_t *rows);
void cuda_convert(cudaStream_t stream, Tensor dst, Tensor src);

/* ---- classifier.cu ---- */

/* `gradient`: device pointer to the factor of the gradient, or NULL. */
void cuda_cross_entropy(cudaStream_t stream, Tensor loss, Tensor hits, Tensor logits,
                        const int32_t *targets, const float *gradient);
void cuda_sum_loss(cudaStream_t stream, LossSum *out, Tensor loss, Tensor hits);
void cuda_argmax(cudaStream_t stream, int32_t *best, float *probability, Tensor logits);

/* ---- optim.cu ---- */

size_t cuda_update_begin_scratch(int64_t count);
void cuda_update_begin(cudaStream_t stream, void *scratch, UpdateState *state, const float *grads,
                       int64_t count, const UpdateSpec *spec);
void cuda_adamw(cudaStream_t stream, float *master, const float *grad, float *m, float *v,
                int64_t count, const AdamwSegment *segments, int segment_count,
                const AdamwSpec *spec, const UpdateState *state);
void cuda_accumulate(cudaStream_t stream, float *dst, const float *src, int64_t count);

/* ---- dropout.cu ---- */

/* out = dropout(x) (+= with accumulate). */
void cuda_dropout(cudaStream_t stream, Tensor out, Tensor x, Dropout dropout, bool accumulate);
/* dbias[1,N] += Σ_rows dy. */
size_t cuda_column_sum_scratch(int64_t rows, int64_t cols);
void cuda_column_sum(cudaStream_t stream, void *scratch, Tensor dbias, Tensor dy);

#ifdef __cplusplus
}
#endif

#endif
