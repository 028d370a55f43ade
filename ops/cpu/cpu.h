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
    Scratch shared; /* of the calling thread, for what one operation hands to its next step */
    Scratch packed; /* operands of a product, of the calling thread */
    Scratch *per_thread, *products; /* [threads] */
    bool amx;                       /* bf16 is multiplied in tile registers */
    DType fast_dtype;
} Cpu;

static inline Cpu *cpu_of(Exec *ex) {
    return ex->state;
}

/* At least `bytes`, aligned to 64; contents unspecified. Running out of memory ends the job
 * (CHECK): what is needed is known from the first step on. */
void *scratch_need(Scratch *scratch, size_t bytes);

/* Memory in pages of 2 MiB where it is long enough and the system has them to give: products walk
 * through rows that lie kilobytes apart, each in a small page of its own. NULL when there is none.
 */
void *memory_new(size_t bytes);

/* op families; each fills its rows of the table. */
void cpu_linear_fwd(Exec *ex, Tensor y, Tensor x, Tensor w, Tensor bias);
void cpu_linear_bwd_w(Exec *ex, Tensor dw, Tensor dbias, Tensor dy, Tensor x);
void cpu_product(Exec *ex, Tensor c, Tensor a, Tensor b, bool transpose_b, float scale,
                 bool accumulate);
void cpu_lora_xa(Exec *ex, Tensor xa, Tensor x, Tensor a, float scale, Dropout dropout);
void cpu_lora_da(Exec *ex, Tensor da, Tensor g, Tensor x, Dropout dropout);
void cpu_lora_dx(Exec *ex, Tensor dx, Tensor g, Tensor a, Dropout dropout);
void cpu_attention_fwd(Exec *ex, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                       const AttentionSpec *spec);
void cpu_attention_bwd(Exec *ex, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor out,
                       Tensor lse, Tensor q, Tensor k, Tensor v, const AttentionSpec *spec);
void cpu_dropout(Exec *ex, Tensor out, Tensor x, Dropout dropout, bool accumulate);

#endif
