/* What the files of the CPU backend share. */
#ifndef CADVLM_OPS_CPU_CPU_H
#define CADVLM_OPS_CPU_CPU_H

#include "ops/backend.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/matmul.h"

/* Scratch that grows and is never given back before the Exec closes. */
typedef struct Scratch {
    void *memory;
    size_t bytes;
} Scratch;

typedef struct Cpu {
    int threads;
    const CpuKernels *kernels;
    Matmuls *matmuls;
    Scratch shared;      /* of the calling thread, for what one operation hands to its next step */
    Scratch *per_thread; /* [threads] */
    DType fast_dtype;
} Cpu;

static inline Cpu *cpu_of(Exec *ex) {
    return ex->state;
}

/* At least `bytes`, aligned to 64; contents unspecified. Running out of memory ends the job
 * (CHECK): what is needed is known from the first step on. */
void *scratch_need(Scratch *scratch, size_t bytes);

/* op families; each fills its rows of the table. */
void cpu_linear_fwd(Exec *ex, Tensor y, Tensor x, Tensor w, Tensor bias);
void cpu_linear_bwd_x(Exec *ex, Tensor dx, Tensor dy, Tensor w, bool accumulate);
void cpu_linear_bwd_w(Exec *ex, Tensor dw, Tensor dbias, Tensor dy, Tensor x);
void cpu_lora_fwd(Exec *ex, Tensor y, Tensor xa, Tensor x, Tensor a, Tensor b, float scale,
                  Dropout dropout);
void cpu_lora_bwd(Exec *ex, Tensor dx, Tensor da, Tensor db, Tensor dy, Tensor xa, Tensor x,
                  Tensor a, Tensor b, float scale, Dropout dropout);
void cpu_lora_merge(Exec *ex, Tensor w, Tensor a, Tensor b, float scale);
void cpu_attention_fwd(Exec *ex, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                       const AttentionSpec *spec);
void cpu_attention_bwd(Exec *ex, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor out,
                       Tensor lse, Tensor q, Tensor k, Tensor v, const AttentionSpec *spec);
void cpu_dropout(Exec *ex, Tensor out, Tensor x, Dropout dropout, bool accumulate);

#endif
