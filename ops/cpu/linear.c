/* Matrix products of linear layers and their LoRA adapters on the CPU. */
#include "ops/cpu/cpu.h"

enum { SUM_COLUMNS_PER_TASK = 64 };

void cpu_linear_fwd(Exec *ex, Tensor y, Tensor x, Tensor w, Tensor bias) {
    matmul_parallel(ex, &(Product){.c = y, .a = x, .b = w, .transpose_b = true, .bias = bias},
                    false);
}

void cpu_linear_bwd_w(Exec *ex, Tensor dw, Tensor dbias, Tensor dy, Tensor x) {
    Cpu *cpu = cpu_of(ex);
    if (!tensor_is_none(dw))
        matmul_parallel(
            ex, &(Product){.c = dw, .a = dy, .b = x, .transpose_a = true, .accumulate = true},
            true);
    if (tensor_is_none(dbias)) return;
    int64_t tasks = (dy.cols + SUM_COLUMNS_PER_TASK - 1) / SUM_COLUMNS_PER_TASK;
#pragma omp parallel for num_threads(cpu->threads) schedule(static) if (cpu->threads > 1)
    for (int64_t task = 0; task < tasks; task++) {
        int64_t first = task * SUM_COLUMNS_PER_TASK;
        int64_t count =
            dy.cols - first < SUM_COLUMNS_PER_TASK ? dy.cols - first : SUM_COLUMNS_PER_TASK;
        cpu->kernels->column_sum(first, count, dbias, tensor_cols(dy, 0, dy.cols));
    }
}

void cpu_product(Exec *ex, Tensor c, Tensor a, Tensor b, bool transpose_b, float scale,
                 bool accumulate) {
    matmul_parallel(ex,
                    &(Product){.c = c,
                               .a = a,
                               .b = b,
                               .transpose_b = transpose_b,
                               .accumulate = accumulate,
                               .scale = scale},
                    false);
}

/* ---- LoRA with dropout ---- */

/* A dense matrix of the calling thread's scratch. */
static Tensor scratch_like(Exec *ex, Tensor t) {
    return tensor(scratch_need(&cpu_of(ex)->shared, tensor_bytes(t)), t.dtype, t.rows, t.cols);
}

void cpu_lora_xa(Exec *ex, Tensor xa, Tensor x, Tensor a, float scale, Dropout dropout) {
    Tensor dropped = scratch_like(ex, x);
    cpu_dropout(ex, dropped, x, dropout, false);
    cpu_product(ex, xa, dropped, a, true, scale, false);
}

void cpu_lora_da(Exec *ex, Tensor da, Tensor g, Tensor x, Dropout dropout) {
    Tensor dropped = scratch_like(ex, x);
    cpu_dropout(ex, dropped, x, dropout, false);
    cpu_linear_bwd_w(ex, da, tensor_none(), g, dropped);
}

void cpu_lora_dx(Exec *ex, Tensor dx, Tensor g, Tensor a, Dropout dropout) {
    Tensor wide = scratch_like(ex, dx);
    cpu_product(ex, wide, g, a, false, 1, false);
    cpu_dropout(ex, dx, wide, dropout, true);
}
