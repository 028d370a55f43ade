/* The CPU backend: memory, the deal of rows to threads, and the table. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/cpu/amx.h"
#include "ops/cpu/cpu.h"

enum {
    ROW_BLOCK = 32,  /* rows dealt to a thread at a time */
    SUM_BLOCK = 128, /* rows whose parameter gradients are summed before blocks are added; decides
                        the bits */
    SMALL_WORK = 1 << 16, /* elements that one thread does alone */
    FLAT_BLOCK = 1 << 14, /* elements dealt at a time in flat arrays; decides the bits of sums */
    COLUMN_BLOCK = 64
};

/* ---- the processor ---- */

/* What the backend may use of a processor, each with all before it. */
typedef enum Isa { ISA_BASE, ISA_AVX2, ISA_AVX512, ISA_AMX, ISA_COUNT } Isa;

static Isa isa_of_processor(void) {
#ifdef __x86_64__
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512bf16");
    if (avx512 && matmuls_have_bf16()) return amx_ready() ? ISA_AMX : ISA_AVX512;
    return avx2 ? ISA_AVX2 : ISA_BASE;
#else
    return ISA_BASE;
#endif
}

/* The processor's, or what CADVLM_CPU_ISA=base|avx2|avx512|amx says, for tests, where that is less.
 */
static Err isa_find(Isa *isa) {
    static const char *const names[ISA_COUNT] = {"base", "avx2", "avx512", "amx"};
    const char *most = getenv("CADVLM_CPU_ISA");
    Isa limit = ISA_BASE;
    *isa = isa_of_processor();
    if (!most || !most[0]) return OK;
    while (limit < ISA_COUNT && strcmp(most, names[limit]) != 0) limit++;
    REQUIRE(limit < ISA_COUNT, ERR_CONFIG,
            "CADVLM_CPU_ISA=%.40s; base, avx2, avx512 or amx is expected", most);
    if (limit < *isa) *isa = limit;
    return OK;
}

static const CpuKernels *kernels_of(Isa isa) {
#ifdef __x86_64__
    if (isa >= ISA_AVX512) return &cpu_kernels_avx512;
    if (isa >= ISA_AVX2) return &cpu_kernels_avx2;
#endif
    (void)isa;
    return &cpu_kernels_base;
}

static Err cpu_open(Exec *ex, int threads) {
    Isa isa;
    TRY(isa_find(&isa));
    Cpu *cpu = calloc(1, sizeof *cpu);
    REQUIRE(cpu, ERR_MEMORY, "out of memory: the CPU backend");
    ex->state = cpu;
    cpu->threads = threads;
    cpu->kernels = kernels_of(isa);
    cpu->amx = isa >= ISA_AMX;
    cpu->fast_dtype = isa >= ISA_AVX512 ? DT_BF16 : DT_F32;
    cpu->per_thread = calloc((size_t)threads, sizeof *cpu->per_thread);
    cpu->products = calloc((size_t)threads, sizeof *cpu->products);
    CHECK(cpu->per_thread && cpu->products, "out of memory: %d threads", threads);
    Err err = matmuls_open(&cpu->matmuls, threads);
    if (err != OK) {
        ex->backend->close(ex);
        return err;
    }
    snprintf(ex->description, sizeof ex->description, "cpu (oneDNN %s, %s%s, %d thread%s)",
             matmuls_version(), cpu->kernels->name, cpu->amx ? " and AMX" : "", threads,
             threads == 1 ? "" : "s");
    return OK;
}

static void cpu_close(Exec *ex) {
    Cpu *cpu = cpu_of(ex);
    matmuls_close(&cpu->matmuls);
    for (int i = 0; i < cpu->threads; i++) {
        free(cpu->per_thread[i].memory);
        free(cpu->products[i].memory);
    }
    free(cpu->per_thread);
    free(cpu->products);
    free(cpu->packed.memory);
    free(cpu->shared.memory);
    free(cpu);
    ex->state = NULL;
}

static DType cpu_fast_dtype(const Exec *ex) {
    return ((const Cpu *)ex->state)->fast_dtype;
}

static bool cpu_has_dtype(const Exec *ex, DType dtype) {
    return dtype == DT_F32 || dtype == cpu_fast_dtype(ex);
}

static void *cpu_alloc(Exec *ex, size_t bytes) {
    (void)ex;
    size_t rounded = (bytes + 63) / 64 * 64;
    void *memory = memory_new(rounded ? rounded : 64);
    if (memory) memset(memory, 0, rounded);
    return memory;
}

static void cpu_free(Exec *ex, void *memory, size_t bytes) {
    (void)ex, (void)bytes;
    free(memory);
}

static void cpu_upload(Exec *ex, void *device, const void *host, size_t bytes) {
    (void)ex;
    memcpy(device, host, bytes);
}

static void cpu_download(Exec *ex, void *host, const void *device, size_t bytes) {
    (void)ex;
    memcpy(host, device, bytes);
}

static void cpu_zero(Exec *ex, void *device, size_t bytes) {
    (void)ex;
    memset(device, 0, bytes);
}

static void cpu_copy(Exec *ex, void *to, const void *from, size_t bytes) {
    (void)ex;
    memcpy(to, from, bytes);
}

/* ---- dealing rows ---- */

/* Scratch of this thread for tensors of `cols` columns. */
static float *lines(Cpu *cpu, int64_t cols) {
    return scratch_need(&cpu->per_thread[omp_get_thread_num()],
                        (size_t)(cols + 16) * KERNEL_LINES * sizeof(float));
}

/* One pragma for the loops below, which work on `work_` elements; clang-format would cut the text
 * in a macro. Waking the threads costs what some ten thousands of elements cost. */
/* clang-format off */
#define DEAL_TO_THREADS _Pragma("omp parallel for num_threads(cpu->threads) schedule(static) if (cpu->threads > 1 && work_ > SMALL_WORK)")
/* clang-format on */

/* What one thread works on at a time. */
typedef struct RowBlock {
    int64_t first, count; /* rows */
    float *line;          /* scratch, see lines() */
    float *partial;       /* sums of these rows; NULL where none are wanted */
} RowBlock;

static RowBlock row_block(Cpu *cpu, int64_t first, int64_t most, int64_t rows, int64_t cols) {
    return (RowBlock){.first = first,
                      .count = rows - first < most ? rows - first : most,
                      .line = lines(cpu, cols)};
}

/* Runs `call` for all rows, a `block` of them at a time. */
#define FOR_ROW_BLOCKS(cpu, block, rows, cols, call)                                               \
    do {                                                                                           \
        int64_t rows_ = (rows), work_ = rows_ * (cols);                                            \
        DEAL_TO_THREADS                                                                            \
        for (int64_t first_ = 0; first_ < rows_; first_ += ROW_BLOCK) {                            \
            RowBlock block = row_block(cpu, first_, ROW_BLOCK, rows_, cols);                       \
            call;                                                                                  \
        }                                                                                          \
    } while (0)

/* The same in blocks of SUM_BLOCK rows with a zeroed `partial` of `width` floats each, which are
 * then added to `sums` in the order of the blocks. Without sums (NULL) there is no partial. */
#define FOR_ROW_BLOCKS_SUMMED(cpu, block, rows, cols, width, sums, call)                           \
    do {                                                                                           \
        int64_t rows_ = (rows), width_ = (width), blocks_ = (rows_ + SUM_BLOCK - 1) / SUM_BLOCK;   \
        int64_t work_ = rows_ * (cols);                                                            \
        float *partials_ = NULL;                                                                   \
        size_t bytes_ = (size_t)(blocks_ * width_) * sizeof(float);                                \
        if (sums) partials_ = scratch_need(&cpu->shared, bytes_);                                  \
        DEAL_TO_THREADS                                                                            \
        for (int64_t block_ = 0; block_ < blocks_; block_++) {                                     \
            RowBlock block = row_block(cpu, block_ * SUM_BLOCK, SUM_BLOCK, rows_, cols);           \
            block.partial = partials_ ? partials_ + block_ * width_ : NULL;                        \
            if (block.partial) memset(block.partial, 0, (size_t)width_ * sizeof(float));           \
            call;                                                                                  \
        }                                                                                          \
        for (int64_t block_ = 0; partials_ && block_ < blocks_; block_++)                          \
            add_partial(sums, partials_ + block_ * width_, width_);                                \
    } while (0)

/* Up to two parameter gradients that share a partial: the first `n` floats belong to one, the rest
 * to the other. */
typedef struct Sums {
    Tensor a, b;
} Sums;

static void add_partial(const Sums *sums, const float *partial, int64_t width) {
    int64_t n = tensor_is_none(sums->b) ? width : width / 2;
    float *a = sums->a.data, *b = sums->b.data;
    for (int64_t i = 0; i < n; i++) a[i] += partial[i];
    for (int64_t i = n; i < width; i++) b[i - n] += partial[i];
}

/* ---- the rows of the table ---- */

static void cpu_rmsnorm_fwd(Exec *ex, Tensor out, Tensor sum, Tensor rstd, Tensor h, Tensor delta,
                            Tensor w, float w_offset, float eps) {
    Cpu *cpu = cpu_of(ex);
    FOR_ROW_BLOCKS(cpu, block, h.rows, h.cols,
                   cpu->kernels->rmsnorm_fwd(block.line, block.first, block.count, out, sum, rstd,
                                             h, delta, w, w_offset, eps));
}

static void cpu_rmsnorm_bwd(Exec *ex, Tensor dh, bool accumulate, Tensor dw, Tensor dout, Tensor h,
                            Tensor rstd, Tensor w, float w_offset) {
    Cpu *cpu = cpu_of(ex);
    const Sums *sums = tensor_is_none(dw) ? NULL : &(Sums){dw, tensor_none()};
    FOR_ROW_BLOCKS_SUMMED(cpu, block, h.rows, h.cols, h.cols, sums,
                          cpu->kernels->rmsnorm_bwd(block.line, block.first, block.count, dh,
                                                    accumulate, block.partial, dout, h, rstd, w,
                                                    w_offset));
}

static void cpu_layernorm_fwd(Exec *ex, Tensor out, Tensor sum, Tensor stats, Tensor h,
                              Tensor delta, Tensor w, Tensor bias, float eps) {
    Cpu *cpu = cpu_of(ex);
    FOR_ROW_BLOCKS(cpu, block, h.rows, h.cols,
                   cpu->kernels->layernorm_fwd(block.line, block.first, block.count, out, sum,
                                               stats, h, delta, w, bias, eps));
}

static void cpu_layernorm_bwd(Exec *ex, Tensor dh, bool accumulate, Tensor dw, Tensor dbias,
                              Tensor dout, Tensor h, Tensor stats, Tensor w) {
    Cpu *cpu = cpu_of(ex);
    const Sums *sums = tensor_is_none(dw) ? NULL : &(Sums){dw, dbias};
    FOR_ROW_BLOCKS_SUMMED(cpu, block, h.rows, h.cols, 2 * h.cols, sums,
                          cpu->kernels->layernorm_bwd(block.line, block.first, block.count, dh,
                                                      accumulate, block.partial, dout, h, stats,
                                                      w));
}

static void cpu_add(Exec *ex, Tensor out, Tensor a, Tensor b) {
    Cpu *cpu = cpu_of(ex);
    FOR_ROW_BLOCKS(cpu, block, a.rows, a.cols,
                   cpu->kernels->add(block.line, block.first, block.count, out, a, b));
}

static void cpu_qk_rope_fwd(Exec *ex, Tensor qk, Tensor rstd, Tensor qkv, Tensor wq, Tensor wk,
                            const RopeSpec *spec) {
    Cpu *cpu = cpu_of(ex);
    FOR_ROW_BLOCKS(cpu, block, qkv.rows, spec->head_dim,
                   cpu->kernels->qk_rope_fwd(block.line, block.first, block.count, qk, rstd, qkv,
                                             wq, wk, spec));
}

static void cpu_qk_rope_bwd(Exec *ex, Tensor dqkv, Tensor dwq, Tensor dwk, Tensor dqk, Tensor qkv,
                            Tensor rstd, Tensor wq, Tensor wk, const RopeSpec *spec) {
    Cpu *cpu = cpu_of(ex);
    const Sums *sums = tensor_is_none(dwq) ? NULL : &(Sums){dwq, dwk};
    FOR_ROW_BLOCKS_SUMMED(cpu, block, qkv.rows, spec->head_dim, 2 * spec->head_dim, sums,
                          cpu->kernels->qk_rope_bwd(block.line, block.first, block.count, dqkv,
                                                    block.partial, dqk, qkv, rstd, wq, wk, spec));
}

static void cpu_act_fwd(Exec *ex, Tensor out, Tensor x, Activation kind) {
    Cpu *cpu = cpu_of(ex);
    FOR_ROW_BLOCKS(cpu, block, x.rows, x.cols,
                   cpu->kernels->act_fwd(block.line, block.first, block.count, out, x, kind));
}

static void cpu_act_bwd(Exec *ex, Tensor dx, Tensor dout, Tensor x, Activation kind) {
    Cpu *cpu = cpu_of(ex);
    FOR_ROW_BLOCKS(cpu, block, x.rows, x.cols,
                   cpu->kernels->act_bwd(block.line, block.first, block.count, dx, dout, x, kind));
}

static void cpu_glu_fwd(Exec *ex, Tensor out, Tensor x, Activation kind) {
    Cpu *cpu = cpu_of(ex);
    FOR_ROW_BLOCKS(cpu, block, x.rows, x.cols,
                   cpu->kernels->glu_fwd(block.line, block.first, block.count, out, x, kind));
}

static void cpu_glu_bwd(Exec *ex, Tensor dx, Tensor dout, Tensor x, Activation kind) {
    Cpu *cpu = cpu_of(ex);
    FOR_ROW_BLOCKS(cpu, block, x.rows, x.cols,
                   cpu->kernels->glu_bwd(block.line, block.first, block.count, dx, dout, x, kind));
}

void cpu_dropout(Exec *ex, Tensor out, Tensor x, Dropout dropout, bool accumulate) {
    Cpu *cpu = cpu_of(ex);
    FOR_ROW_BLOCKS(
        cpu, block, x.rows, x.cols,
        cpu->kernels->dropout(block.line, block.first, block.count, out, x, dropout, accumulate));
}

static void cpu_patchify(Exec *ex, Tensor patches, const uint8_t *pixels, const PatchSpec *spec) {
    Cpu *cpu = cpu_of(ex);
    FOR_ROW_BLOCKS(
        cpu, block, patches.rows, patches.cols,
        cpu->kernels->patchify(block.line, block.first, block.count, patches, pixels, spec));
}

static void cpu_scale(Exec *ex, Tensor out, Tensor x, float factor) {
    Cpu *cpu = cpu_of(ex);
    FOR_ROW_BLOCKS(cpu, block, x.rows, x.cols,
                   cpu->kernels->scale(block.line, block.first, block.count, out, x, factor));
}

static void cpu_add_positions(Exec *ex, Tensor x, Tensor table) {
    for (int64_t at = 0; at < x.rows; at += table.rows) {
        Tensor part = tensor_rows(x, at, table.rows);
        cpu_add(ex, part, part, table);
    }
}

static void cpu_add_positions_bwd(Exec *ex, Tensor dtable, Tensor dx) {
    Cpu *cpu = cpu_of(ex);
    int64_t images = dx.rows / dtable.rows;
#pragma omp parallel for num_threads(cpu->threads) schedule(static) if (cpu->threads > 1)
    for (int64_t place = 0; place < dtable.rows; place++) {
        Tensor same_place =
            tensor_rows(dx, place, 1); /* that row of every picture: a stride of P rows */
        same_place.rows = images;
        same_place.stride = dx.stride * dtable.rows;
        cpu->kernels->column_sum(0, dtable.cols, tensor_rows(dtable, place, 1), same_place);
    }
}

static const char *row_at(Tensor t, int64_t row) {
    return (const char *)t.data + (size_t)(row * t.stride) * dtype_size(t.dtype);
}

static void cpu_embed_fwd(Exec *ex, Tensor out, const int32_t *ids, Tensor table, Tensor features) {
    (void)ex;
    size_t line = (size_t)out.cols * dtype_size(out.dtype);
    for (int64_t t = 0; t < out.rows; t++) {
        Tensor from = ids[t] >= 0 ? table : features;
        int64_t row = ids[t] >= 0 ? ids[t] : -1 - (int64_t)ids[t];
        CHECK(row < from.rows, "row %ld of %ld", (long)row, (long)from.rows);
        memcpy((char *)row_at(out, t), row_at(from, row), line);
    }
}

/* Rows that share a token are added in their order; threads share the columns. */
static void cpu_embed_bwd(Exec *ex, Tensor dtable, Tensor dfeatures, Tensor dout,
                          const int32_t *ids) {
    Cpu *cpu = cpu_of(ex);
    int64_t tasks = (dout.cols + COLUMN_BLOCK - 1) / COLUMN_BLOCK;
#pragma omp parallel for num_threads(cpu->threads) schedule(static) if (cpu->threads > 1)
    for (int64_t task = 0; task < tasks; task++) {
        int64_t first = task * COLUMN_BLOCK;
        int64_t count = dout.cols - first < COLUMN_BLOCK ? dout.cols - first : COLUMN_BLOCK;
        Tensor part = tensor_cols(dout, first, count);
        for (int64_t t = 0; t < dout.rows; t++) {
            if (ids[t] >= 0 && !tensor_is_none(dtable)) {
                Tensor to = tensor_cols(tensor_rows(dtable, ids[t], 1), first, count);
                cpu->kernels->column_sum(0, count, to, tensor_rows(part, t, 1));
            } else if (ids[t] < 0 && !tensor_is_none(dfeatures)) {
                Tensor to = tensor_cols(dfeatures, first, count);
                memcpy((char *)row_at(to, -1 - (int64_t)ids[t]), row_at(part, t),
                       (size_t)count * dtype_size(dout.dtype));
            }
        }
    }
}

static void cpu_gather_rows(Exec *ex, Tensor out, Tensor x, const int32_t *rows) {
    (void)ex;
    for (int64_t i = 0; i < out.rows; i++)
        memcpy((char *)row_at(out, i), row_at(x, rows[i]), (size_t)x.cols * dtype_size(x.dtype));
}

static void cpu_put_rows(Exec *ex, Tensor out, Tensor x, const int32_t *rows) {
    (void)ex;
    size_t line = (size_t)out.cols * dtype_size(out.dtype);
    for (int64_t i = 0; i < x.rows; i++) memcpy((char *)row_at(out, rows[i]), row_at(x, i), line);
}

static void cpu_scatter_rows(Exec *ex, Tensor out, Tensor x, const int32_t *rows) {
    size_t line = (size_t)out.cols * dtype_size(out.dtype);
    for (int64_t i = 0; i < out.rows; i++) memset((char *)row_at(out, i), 0, line);
    cpu_put_rows(ex, out, x, rows);
}

static void cpu_cross_entropy(Exec *ex, Tensor loss, Tensor hits, Tensor logits,
                              const int32_t *targets, const float *gradient) {
    Cpu *cpu = cpu_of(ex);
    FOR_ROW_BLOCKS(cpu, block, logits.rows, logits.cols,
                   cpu->kernels->cross_entropy(block.line, block.first, block.count, loss, hits,
                                               logits, targets, gradient));
}

static void cpu_sum_loss(Exec *ex, LossSum *out, Tensor loss, Tensor hits) {
    (void)ex;
    const float *losses = loss.data, *right = hits.data;
    LossSum sum = {0};
    for (int64_t i = 0; i < loss.cols; i++) {
        sum.loss += (double)losses[i];
        sum.hits += right[i] > 0;
    }
    *out = sum;
}

static void cpu_argmax(Exec *ex, int32_t *best, float *probability, Tensor logits) {
    Cpu *cpu = cpu_of(ex);
    FOR_ROW_BLOCKS(
        cpu, block, logits.rows, logits.cols,
        cpu->kernels->argmax(block.line, block.first, block.count, best, probability, logits));
}

static double sum_squares(Cpu *cpu, const float *x, int64_t count) {
    int64_t blocks = (count + FLAT_BLOCK - 1) / FLAT_BLOCK;
    double *sums = scratch_need(&cpu->shared, (size_t)(blocks + 1) * sizeof *sums), total = 0;
#pragma omp parallel for num_threads(cpu->threads) schedule(static) if (cpu->threads > 1)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t n = count - b * FLAT_BLOCK < FLAT_BLOCK ? count - b * FLAT_BLOCK : FLAT_BLOCK;
        sums[b] = cpu->kernels->sum_squares(x + b * FLAT_BLOCK, n);
    }
    for (int64_t b = 0; b < blocks; b++) total += sums[b];
    return total;
}

static void cpu_update_begin(Exec *ex, UpdateState *state, const float *grads, int64_t count,
                             const UpdateSpec *spec) {
    double scale = spec->labels > 0 ? 1.0 / (spec->labels * (double)state->loss_scale) : 0;
    state->grad_norm = sqrt(sum_squares(cpu_of(ex), grads, count)) * scale;
    state->stepped = isfinite(state->grad_norm);
    if (state->stepped) {
        if (spec->max_norm > 0 && state->grad_norm > spec->max_norm)
            scale *= spec->max_norm / state->grad_norm;
        state->grad_scale = (float)scale;
        state->updates++;
        state->good_steps++;
        if (spec->window > 0 && state->good_steps >= spec->window) {
            state->loss_scale *= 2;
            state->good_steps = 0;
            state->patience = spec->hysteresis;
        }
    } else {
        state->good_steps = 0;
        if (spec->window > 0 && --state->patience <= 0) {
            state->loss_scale = fmaxf((float)spec->least_scale, state->loss_scale / 2);
            state->patience = 1;
        }
    }
}

static void cpu_adamw(Exec *ex, float *master, const float *grad, float *m, float *v, int64_t count,
                      const AdamwSegment *segments, int segment_count, const AdamwSpec *spec,
                      const UpdateState *state) {
    (void)count;
    if (!state->stepped) return;
    Cpu *cpu = cpu_of(ex);
    for (int s = 0; s < segment_count; s++) {
        const AdamwSegment *segment = &segments[s];
#pragma omp parallel for num_threads(cpu->threads)                                                 \
    schedule(static) if (cpu->threads > 1 && segment->count > FLAT_BLOCK)
        for (int64_t at = 0; at < segment->count; at += FLAT_BLOCK) {
            int64_t n = segment->count - at < FLAT_BLOCK ? segment->count - at : FLAT_BLOCK,
                    from = segment->first + at;
            cpu->kernels->adamw(master + from, grad + from, m + from, v + from, n, segment, at,
                                spec, state);
        }
    }
}

static void cpu_accumulate(Exec *ex, float *dst, const float *src, int64_t count) {
    Cpu *cpu = cpu_of(ex);
#pragma omp parallel for num_threads(cpu->threads) schedule(static) if (cpu->threads > 1)
    for (int64_t at = 0; at < count; at += FLAT_BLOCK)
        cpu->kernels->accumulate(dst + at, src + at,
                                 count - at < FLAT_BLOCK ? count - at : FLAT_BLOCK);
}

static void cpu_convert(Exec *ex, Tensor dst, Tensor src) {
    Cpu *cpu = cpu_of(ex);
    FOR_ROW_BLOCKS(cpu, block, src.rows, src.cols,
                   cpu->kernels->convert(block.line, block.first, block.count, dst, src));
}

const Backend *backend_cpu(void) {
    static const Backend backend = {
        .name = "cpu",
        .device = EXEC_CPU,
        .logit_rows = 512,
        .logit_bytes = 1 << 25,
        .open = cpu_open,
        .close = cpu_close,
        .fast_dtype = cpu_fast_dtype,
        .has_dtype = cpu_has_dtype,
        .peak_flops = matmul_peak,
        .alloc = cpu_alloc,
        .free = cpu_free,
        .upload = cpu_upload,
        .download = cpu_download,
        .zero = cpu_zero,
        .copy = cpu_copy,
        .linear_fwd = cpu_linear_fwd,
        .linear_bwd_w = cpu_linear_bwd_w,
        .product = cpu_product,
        .lora_xa = cpu_lora_xa,
        .lora_da = cpu_lora_da,
        .lora_dx = cpu_lora_dx,
        .rmsnorm_fwd = cpu_rmsnorm_fwd,
        .rmsnorm_bwd = cpu_rmsnorm_bwd,
        .layernorm_fwd = cpu_layernorm_fwd,
        .layernorm_bwd = cpu_layernorm_bwd,
        .add = cpu_add,
        .scale = cpu_scale,
        .dropout = cpu_dropout,
        .qk_rope_fwd = cpu_qk_rope_fwd,
        .qk_rope_bwd = cpu_qk_rope_bwd,
        .attention_fwd = cpu_attention_fwd,
        .attention_bwd = cpu_attention_bwd,
        .act_fwd = cpu_act_fwd,
        .act_bwd = cpu_act_bwd,
        .glu_fwd = cpu_glu_fwd,
        .glu_bwd = cpu_glu_bwd,
        .patchify = cpu_patchify,
        .add_positions = cpu_add_positions,
        .add_positions_bwd = cpu_add_positions_bwd,
        .embed_fwd = cpu_embed_fwd,
        .embed_bwd = cpu_embed_bwd,
        .gather_rows = cpu_gather_rows,
        .put_rows = cpu_put_rows,
        .scatter_rows = cpu_scatter_rows,
        .cross_entropy = cpu_cross_entropy,
        .argmax = cpu_argmax,
        .sum_loss = cpu_sum_loss,
        .update_begin = cpu_update_begin,
        .adamw = cpu_adamw,
        .accumulate = cpu_accumulate,
        .convert = cpu_convert,
    };
    return &backend;
}
