/* The inner loops of the CPU backend, compiled once per instruction set and picked at run time.
 *
 * Each works on rows first … first + count - 1, so that the backend can deal blocks of rows to
 * threads; `line` is scratch of the calling thread (KERNEL_LINES rows of the widest tensor). Sums
 * over rows (parameter gradients) go into `partial`, one row per block, which the backend adds up
 * in order: the same bits for any number of threads. */
#ifndef CADVLM_OPS_CPU_KERNELS_H
#define CADVLM_OPS_CPU_KERNELS_H

#include "ops/ops.h"

enum { KERNEL_LINES = 6 };

typedef struct CpuKernels {
    const char *name;

    void (*rmsnorm_fwd)(float *line, int64_t first, int64_t count, Tensor out, Tensor sum,
                        Tensor rstd, Tensor h, Tensor delta, Tensor w, float w_offset, float eps);
    void (*rmsnorm_bwd)(float *line, int64_t first, int64_t count, Tensor dh, bool accumulate,
                        float *partial, Tensor dout, Tensor h, Tensor rstd, Tensor w,
                        float w_offset);
    void (*layernorm_fwd)(float *line, int64_t first, int64_t count, Tensor out, Tensor sum,
                          Tensor stats, Tensor h, Tensor delta, Tensor w, Tensor bias, float eps);
    void (*layernorm_bwd)(float *line, int64_t first, int64_t count, Tensor dh, bool accumulate,
                          float *partial, Tensor dout, Tensor h, Tensor stats,
                          Tensor w); /* partial: [2C], weight then bias */
    void (*scale)(float *line, int64_t first, int64_t count, Tensor out, Tensor x, float factor);
    void (*add)(float *line, int64_t first, int64_t count, Tensor out, Tensor a, Tensor b);

    void (*qk_rope_fwd)(float *line, int64_t first, int64_t count, Tensor qk, Tensor rstd,
                        Tensor qkv, Tensor wq, Tensor wk, const RopeSpec *spec);
    void (*qk_rope_bwd)(float *line, int64_t first, int64_t count, Tensor dqkv, float *partial,
                        Tensor dqk, Tensor qkv, Tensor rstd, Tensor wq, Tensor wk,
                        const RopeSpec *spec); /* partial: [2D], q then k */

    void (*act_fwd)(float *line, int64_t first, int64_t count, Tensor out, Tensor x,
                    Activation kind);
    void (*act_bwd)(float *line, int64_t first, int64_t count, Tensor dx, Tensor dout, Tensor x,
                    Activation kind);
    void (*glu_fwd)(float *line, int64_t first, int64_t count, Tensor out, Tensor x,
                    Activation kind);
    void (*glu_bwd)(float *line, int64_t first, int64_t count, Tensor dx, Tensor dout, Tensor x,
                    Activation kind);

    void (*patchify)(float *line, int64_t first, int64_t count, Tensor patches,
                     const uint8_t *pixels, const PatchSpec *spec);
    void (*cross_entropy)(float *line, int64_t first, int64_t count, Tensor loss, Tensor hits,
                          Tensor logits, const int32_t *targets, const float *gradient);
    void (*argmax)(float *line, int64_t first, int64_t count, int32_t *best, float *probability,
                   Tensor logits);

    /* dst (f32)[1, cols] += Σ rows of src in columns first … */
    void (*column_sum)(int64_t first, int64_t count, Tensor dst, Tensor src);
    void (*accumulate)(float *dst, const float *src, int64_t count);
    double (*sum_squares)(const float *x, int64_t count);
    void (*adamw)(float *master, const float *grad, float *m, float *v, int64_t count,
                  const AdamwSegment *segment, int64_t offset, const AdamwSpec *spec,
                  const UpdateState *state);
    void (*convert)(float *line, int64_t first, int64_t count, Tensor dst, Tensor src);
    /* out = dropout(x), or out += dropout(x) with `accumulate`. */
    void (*dropout)(float *line, int64_t first, int64_t count, Tensor out, Tensor x,
                    Dropout dropout, bool accumulate);

    /* One block of attention, scores in s[queries, stride_s] (f32): scale, causal mask (query i
     * sees keys ≤ i + diagonal), softmax; the probabilities go to p (of p.dtype), log-sums to lse
     * (stride). */
    void (*softmax)(float *s, int64_t stride_s, Tensor p, float *lse, int64_t stride_lse,
                    int queries, int keys, int diagonal, float scale);
    /* From scores s and dp = dout · vᵀ: p = exp(scale·s - lse), ds = scale · p · (dp - delta), into
     * p and ds. */
    void (*softmax_bwd)(float *s, float *dp, int64_t stride, Tensor p, Tensor ds, const float *lse,
                        int64_t stride_lse, const float *delta, int queries, int keys, int diagonal,
                        float scale);
    /* delta[i] = Σ_c dout[i,c] · out[i,c]. */
    void (*row_dot)(float *line, float *delta, Tensor dout, Tensor out);
} CpuKernels;

extern const CpuKernels
    cpu_kernels_base; /* x86-64-v2, or whatever the compiler's default is elsewhere */
extern const CpuKernels cpu_kernels_avx2;   /* x86-64-v3 */
extern const CpuKernels cpu_kernels_avx512; /* x86-64-v4 with BF16 conversion */

#endif
