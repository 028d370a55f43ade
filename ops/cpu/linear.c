/* Linear layers and their LoRA adapters on the CPU. */
#include "ops/cpu/cpu.h"

enum { SUM_COLUMNS_PER_TASK = 64 };

void cpu_linear_fwd(Exec *ex, Tensor y, Tensor x, Tensor w, Tensor bias) {
    matmul_parallel(ex, &(Product){.c = y, .a = x, .b = w, .transpose_b = true, .bias = bias},
                    false);
}

void cpu_linear_bwd_x(Exec *ex, Tensor dx, Tensor dy, Tensor w, bool accumulate) {
    matmul_parallel(ex, &(Product){.c = dx, .a = dy, .b = w, .accumulate = accumulate}, false);
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

/* dropout(x) in scratch, or x itself. */
static Tensor dropped(Exec *ex, Tensor x, Dropout dropout) {
    if (dropout.p == 0) return x;
    Tensor out =
        tensor(scratch_need(&cpu_of(ex)->shared, tensor_bytes(x)), x.dtype, x.rows, x.cols);
    cpu_dropout(ex, out, x, dropout, false);
    return out;
}

void cpu_lora_fwd(Exec *ex, Tensor y, Tensor xa, Tensor x, Tensor a, Tensor b, float scale,
                  Dropout dropout) {
    matmul_parallel(
        ex, &(Product){.c = xa, .a = dropped(ex, x, dropout), .b = a, .transpose_b = true}, false);
    matmul_parallel(
        ex,
        &(Product){
            .c = y, .a = xa, .b = b, .transpose_b = true, .accumulate = true, .scale = scale},
        false);
}

void cpu_lora_bwd(Exec *ex, Tensor dx, Tensor da, Tensor db, Tensor dy, Tensor xa, Tensor x,
                  Tensor a, Tensor b, float scale, Dropout dropout) {
    Scratch *shared = &cpu_of(ex)->shared;
    size_t g_bytes = ((size_t)(x.rows * a.rows) * dtype_size(x.dtype) + 63) / 64 * 64;
    char *memory = scratch_need(shared, g_bytes + tensor_bytes(x));
    Tensor g = tensor(memory, x.dtype, x.rows, a.rows),
           wide = tensor(memory + g_bytes, x.dtype, x.rows, x.cols);

    matmul_parallel(ex, &(Product){.c = g, .a = dy, .b = b, .scale = scale}, false);
    matmul_parallel(
        ex,
        &(Product){
            .c = db, .a = dy, .b = xa, .transpose_a = true, .accumulate = true, .scale = scale},
        true);
    Tensor input = x;
    if (dropout.p > 0) {
        cpu_dropout(ex, wide, x, dropout, false);
        input = wide;
    }
    matmul_parallel(
        ex, &(Product){.c = da, .a = g, .b = input, .transpose_a = true, .accumulate = true}, true);
    if (tensor_is_none(dx)) return;
    if (dropout.p == 0) {
        matmul_parallel(ex, &(Product){.c = dx, .a = g, .b = a, .accumulate = true}, false);
        return;
    }
    matmul_parallel(ex, &(Product){.c = wide, .a = g, .b = a}, false);
    cpu_dropout(ex, dx, wide, dropout, true);
}

void cpu_lora_merge(Exec *ex, Tensor w, Tensor a, Tensor b, float scale) {
    matmul_parallel(ex, &(Product){.c = w, .a = b, .b = a, .accumulate = true, .scale = scale},
                    false);
}
