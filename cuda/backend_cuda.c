/* The table of operations over the kernels of cuda_ops.h: scratch memory and errors, nothing else.
 */
#include "cuda/cuda_ops.h"
#include "cuda/device.h"

/* For operations without scratch. */
#define LAUNCHED(ex, call)                                                                         \
    do {                                                                                           \
        if ((ex)->dry) return;                                                                     \
        cudaStream_t stream = device_of(ex)->stream;                                               \
        call;                                                                                      \
        device_launched(ex, __func__ + sizeof "row_" - 1);                                         \
    } while (0)

/* With `bytes` of it, as `scratch`. */
#define LAUNCHED_WITH(ex, bytes, call)                                                             \
    do {                                                                                           \
        void *scratch = NULL;                                                                      \
        if (!device_scratch(ex, bytes, &scratch)) return;                                          \
        LAUNCHED(ex, call);                                                                        \
    } while (0)

/* Products say themselves what is wrong with them. */
#define PRODUCT(ex, call)                                                                          \
    do {                                                                                           \
        if ((call) != OK) exec_fail(ex);                                                           \
    } while (0)

static DType row_fast_dtype(const Exec *ex) {
    (void)ex;
    return DT_BF16;
}

static bool row_has_dtype(const Exec *ex, DType dtype) {
    (void)ex;
    return dtype == DT_F32 || dtype == DT_BF16 || dtype == DT_F16;
}

/* ---- matrix products ---- */

static void row_linear_fwd(Exec *ex, Tensor y, Tensor x, Tensor w, Tensor bias) {
    CudaProduct p = {.c = y,
                     .a = x,
                     .b = w,
                     .transpose_b = true,
                     .alpha = 1,
                     .bias = bias,
                     .epilogue = tensor_is_none(bias) ? EPILOGUE_NONE : EPILOGUE_BIAS};
    LAUNCHED(ex, PRODUCT(ex, cuda_matmul(device_of(ex)->matmuls, stream, &p)));
}

static void row_linear_act_fwd(Exec *ex, Tensor g, Tensor f, Tensor x, Tensor w, Tensor bias,
                               Activation kind) {
    /* cuBLASLt's own GELU is the tanh form, and its kernels round what they keep as we do. */
    if (kind == ACTIVATION_GELU_TANH && !tensor_is_none(bias) && g.dtype != DT_F32) {
        CudaProduct p = {.c = g,
                         .a = x,
                         .b = w,
                         .transpose_b = true,
                         .alpha = 1,
                         .bias = bias,
                         .aux = f,
                         .epilogue =
                             tensor_is_none(f) ? EPILOGUE_GELU_BIAS : EPILOGUE_GELU_AUX_BIAS};
        LAUNCHED(ex, PRODUCT(ex, cuda_matmul(device_of(ex)->matmuls, stream, &p)));
        return;
    }
    Tensor before = tensor_is_none(f) ? g : f;
    row_linear_fwd(ex, before, x, w, bias);
    LAUNCHED(ex, cuda_act_fwd(stream, g, before, kind));
}

static void row_linear_bwd_w(Exec *ex, Tensor dw, Tensor dbias, Tensor dy, Tensor x) {
    size_t bytes = tensor_is_none(dbias) ? 0 : cuda_column_sum_scratch(dy.rows, dy.cols);
    CudaProduct p = {.c = dw, .a = dy, .b = x, .transpose_a = true, .alpha = 1, .beta = 1};
    void *scratch = NULL;
    if (!device_scratch(ex, bytes, &scratch)) return;
    if (!tensor_is_none(dw))
        LAUNCHED(ex, PRODUCT(ex, cuda_matmul(device_of(ex)->matmuls, stream, &p)));
    if (!tensor_is_none(dbias)) LAUNCHED(ex, cuda_column_sum(stream, scratch, dbias, dy));
}

static void row_product(Exec *ex, Tensor c, Tensor a, Tensor b, bool transpose_b, float scale,
                        bool accumulate) {
    CudaProduct p = {.c = c,
                     .a = a,
                     .b = b,
                     .transpose_b = transpose_b,
                     .alpha = scale,
                     .beta = accumulate ? 1 : 0};
    LAUNCHED(ex, PRODUCT(ex, cuda_matmul(device_of(ex)->matmuls, stream, &p)));
}

static void row_lora_xa(Exec *ex, Tensor xa, Tensor x, Tensor a, float scale, Dropout dropout) {
    LAUNCHED_WITH(ex, cuda_lora_xa_scratch(x.rows, x.cols, x.dtype),
                  PRODUCT(ex, cuda_lora_xa(device_of(ex)->matmuls, stream, scratch, xa, x, a, scale,
                                           dropout)));
}

static void row_lora_da(Exec *ex, Tensor da, Tensor g, Tensor x, Dropout dropout) {
    LAUNCHED_WITH(
        ex, cuda_lora_da_scratch(x.rows, x.cols, g.cols, x.dtype),
        PRODUCT(ex, cuda_lora_da(device_of(ex)->matmuls, stream, scratch, da, g, x, dropout)));
}

static void row_lora_dx(Exec *ex, Tensor dx, Tensor g, Tensor a, Dropout dropout) {
    LAUNCHED_WITH(
        ex, cuda_lora_dx_scratch(dx.rows, dx.cols, dx.dtype),
        PRODUCT(ex, cuda_lora_dx(device_of(ex)->matmuls, stream, scratch, dx, g, a, dropout)));
}

/* ---- norms ---- */

static void row_rmsnorm_fwd(Exec *ex, Tensor out, Tensor sum, Tensor rstd, Tensor h, Tensor delta,
                            Tensor w, float w_offset, float eps) {
    LAUNCHED(ex, cuda_rmsnorm_fwd(stream, out, sum, rstd, h, delta, w, w_offset, eps));
}

static void row_rmsnorm_bwd(Exec *ex, Tensor dh, bool accumulate, Tensor dw, Tensor dout, Tensor h,
                            Tensor rstd, Tensor w, float w_offset) {
    size_t bytes = tensor_is_none(dw) ? 0 : cuda_rmsnorm_bwd_scratch(h.rows, h.cols);
    LAUNCHED_WITH(
        ex, bytes,
        cuda_rmsnorm_bwd(stream, scratch, dh, accumulate, dw, dout, h, rstd, w, w_offset));
}

static void row_layernorm_fwd(Exec *ex, Tensor out, Tensor sum, Tensor stats, Tensor h,
                              Tensor delta, Tensor w, Tensor bias, float eps) {
    LAUNCHED(ex, cuda_layernorm_fwd(stream, out, sum, stats, h, delta, w, bias, eps));
}

static void row_layernorm_bwd(Exec *ex, Tensor dh, bool accumulate, Tensor dw, Tensor dbias,
                              Tensor dout, Tensor h, Tensor stats, Tensor w) {
    size_t bytes = tensor_is_none(dw) ? 0 : cuda_layernorm_bwd_scratch(h.rows, h.cols);
    LAUNCHED_WITH(
        ex, bytes,
        cuda_layernorm_bwd(stream, scratch, dh, accumulate, dw, dbias, dout, h, stats, w));
}

static void row_scale(Exec *ex, Tensor out, Tensor x, float factor) {
    LAUNCHED(ex, cuda_scale(stream, out, x, factor));
}

static void row_dropout(Exec *ex, Tensor out, Tensor x, Dropout dropout, bool accumulate) {
    LAUNCHED(ex, cuda_dropout(stream, out, x, dropout, accumulate));
}

static void row_add(Exec *ex, Tensor out, Tensor a, Tensor b) {
    LAUNCHED(ex, cuda_add(stream, out, a, b));
}

/* ---- attention ---- */

static void row_qk_rope_fwd(Exec *ex, Tensor qk, Tensor rstd, Tensor qkv, Tensor wq, Tensor wk,
                            const RopeSpec *spec) {
    LAUNCHED(ex, cuda_qk_rope_fwd(stream, qk, rstd, qkv, wq, wk, spec));
}

static void row_qk_rope_bwd(Exec *ex, Tensor dqkv, Tensor dwq, Tensor dwk, Tensor dqk, Tensor qkv,
                            Tensor rstd, Tensor wq, Tensor wk, const RopeSpec *spec) {
    size_t bytes = tensor_is_none(dwq) ? 0 : cuda_qk_rope_bwd_scratch(qkv.rows, spec);
    LAUNCHED_WITH(ex, bytes,
                  cuda_qk_rope_bwd(stream, scratch, dqkv, dwq, dwk, dqk, qkv, rstd, wq, wk, spec));
}

static void row_attention_fwd(Exec *ex, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                              const AttentionSpec *spec) {
    LAUNCHED(ex, cuda_attention_fwd(stream, out, lse, q, k, v, spec));
}

static void row_attention_bwd(Exec *ex, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor out,
                              Tensor lse, Tensor q, Tensor k, Tensor v, const AttentionSpec *spec) {
    LAUNCHED_WITH(ex, cuda_attention_bwd_scratch(q.rows, k.rows, q.dtype, spec),
                  cuda_attention_bwd(stream, scratch, dq, dk, dv, dout, out, lse, q, k, v, spec));
}

/* ---- activations ---- */

static void row_act_fwd(Exec *ex, Tensor out, Tensor x, Activation kind) {
    LAUNCHED(ex, cuda_act_fwd(stream, out, x, kind));
}

static void row_act_bwd(Exec *ex, Tensor dx, Tensor dout, Tensor x, Activation kind) {
    LAUNCHED(ex, cuda_act_bwd(stream, dx, dout, x, kind));
}

static void row_glu_fwd(Exec *ex, Tensor out, Tensor x, Activation kind) {
    LAUNCHED(ex, cuda_glu_fwd(stream, out, x, kind));
}

static void row_glu_bwd(Exec *ex, Tensor dx, Tensor dout, Tensor x, Activation kind) {
    LAUNCHED(ex, cuda_glu_bwd(stream, dx, dout, x, kind));
}

/* ---- pictures, tokens, rows ---- */

static void row_patchify(Exec *ex, Tensor patches, const uint8_t *pixels, const PatchSpec *spec) {
    LAUNCHED(ex, cuda_patchify(stream, patches, pixels, spec));
}

static void row_add_positions(Exec *ex, Tensor x, Tensor table) {
    LAUNCHED(ex, cuda_add_positions(stream, x, table));
}

static void row_add_positions_bwd(Exec *ex, Tensor dtable, Tensor dx) {
    LAUNCHED(ex, cuda_add_positions_bwd(stream, dtable, dx));
}

static void row_embed_fwd(Exec *ex, Tensor out, const int32_t *ids, Tensor table, Tensor features) {
    LAUNCHED(ex, cuda_embed_fwd(stream, out, ids, table, features));
}

static void row_embed_bwd(Exec *ex, Tensor dtable, Tensor dfeatures, Tensor dout,
                          const int32_t *ids) {
    LAUNCHED(ex, cuda_embed_bwd(stream, dtable, dfeatures, dout, ids));
}

static void row_gather_rows(Exec *ex, Tensor out, Tensor x, const int32_t *rows) {
    LAUNCHED(ex, cuda_gather_rows(stream, out, x, rows));
}

static void row_put_rows(Exec *ex, Tensor out, Tensor x, const int32_t *rows) {
    LAUNCHED(ex, cuda_put_rows(stream, out, x, rows));
}

static void row_scatter_rows(Exec *ex, Tensor out, Tensor x, const int32_t *rows) {
    LAUNCHED(ex, cuda_scatter_rows(stream, out, x, rows));
}

/* ---- loss ---- */

static void row_cross_entropy(Exec *ex, Tensor loss, Tensor hits, Tensor logits,
                              const int32_t *targets, const float *gradient) {
    LAUNCHED(ex, cuda_cross_entropy(stream, loss, hits, logits, targets, gradient));
}

static void row_sum_loss(Exec *ex, LossSum *out, Tensor loss, Tensor hits) {
    LAUNCHED(ex, cuda_sum_loss(stream, out, loss, hits));
}

static void row_argmax(Exec *ex, int32_t *best, float *probability, Tensor logits) {
    LAUNCHED(ex, cuda_argmax(stream, best, probability, logits));
}

/* ---- parameters ---- */

static void row_update_begin(Exec *ex, UpdateState *state, const float *grads, int64_t count,
                             const UpdateSpec *spec) {
    LAUNCHED_WITH(ex, cuda_update_begin_scratch(count),
                  cuda_update_begin(stream, scratch, state, grads, count, spec));
}

static void row_adamw(Exec *ex, float *master, const float *grad, float *m, float *v, int64_t count,
                      const AdamwSegment *segments, int segment_count, const AdamwSpec *spec,
                      const UpdateState *state) {
    LAUNCHED(ex,
             cuda_adamw(stream, master, grad, m, v, count, segments, segment_count, spec, state));
}

static void row_accumulate(Exec *ex, float *dst, const float *src, int64_t count) {
    LAUNCHED(ex, cuda_accumulate(stream, dst, src, count));
}

static void row_convert(Exec *ex, Tensor dst, Tensor src) {
    LAUNCHED(ex, cuda_convert(stream, dst, src));
}

/* ---- the table ---- */

const Backend *backend_cuda(int *count, const char **why) {
    static const Backend backend = {
        .name = "cuda",
        .device = EXEC_CUDA,
        .plans = true,
        .open = device_open,
        .close = device_close,
        .fast_dtype = row_fast_dtype,
        .has_dtype = row_has_dtype,
        .logit_rows = 8192,
        .logit_bytes = (int64_t)256 << 20,
        .peak_flops = device_peak_flops,
        .datasheet_flops = device_datasheet_flops,
        .alloc = device_alloc,
        .free = device_free,
        .upload = device_upload,
        .download = device_download,
        .zero = device_zero,
        .copy = device_copy,
        .wait = device_wait,
        .settle_scratch = device_settle_scratch,
        .scratch_bytes = device_scratch_bytes,
        .product_counts = device_product_counts,
        .stream = device_stream,
        .memory = device_memory,
        .stage = device_stage,
        .send = device_send,
        .replay = device_replay,
        .record_begin = device_record_begin,
        .record_end = device_record_end,
        .record_forget = device_record_forget,
        .marks = device_marks,
        .mark = device_mark,
        .mark_seconds = device_mark_seconds,
        .range_begin = device_range_begin,
        .range_end = device_range_end,
        .linear_fwd = row_linear_fwd,
        .linear_act_fwd = row_linear_act_fwd,
        .linear_bwd_w = row_linear_bwd_w,
        .product = row_product,
        .lora_xa = row_lora_xa,
        .lora_da = row_lora_da,
        .lora_dx = row_lora_dx,
        .rmsnorm_fwd = row_rmsnorm_fwd,
        .rmsnorm_bwd = row_rmsnorm_bwd,
        .layernorm_fwd = row_layernorm_fwd,
        .layernorm_bwd = row_layernorm_bwd,
        .add = row_add,
        .scale = row_scale,
        .dropout = row_dropout,
        .qk_rope_fwd = row_qk_rope_fwd,
        .qk_rope_bwd = row_qk_rope_bwd,
        .attention_fwd = row_attention_fwd,
        .attention_bwd = row_attention_bwd,
        .act_fwd = row_act_fwd,
        .act_bwd = row_act_bwd,
        .glu_fwd = row_glu_fwd,
        .glu_bwd = row_glu_bwd,
        .patchify = row_patchify,
        .add_positions = row_add_positions,
        .add_positions_bwd = row_add_positions_bwd,
        .embed_fwd = row_embed_fwd,
        .embed_bwd = row_embed_bwd,
        .gather_rows = row_gather_rows,
        .put_rows = row_put_rows,
        .scatter_rows = row_scatter_rows,
        .cross_entropy = row_cross_entropy,
        .sum_loss = row_sum_loss,
        .argmax = row_argmax,
        .update_begin = row_update_begin,
        .adamw = row_adamw,
        .accumulate = row_accumulate,
        .convert = row_convert,
    };
    *count = 0;
    cudaError_t error = cudaGetDeviceCount(count);
    (void)cudaGetLastError();
    if (error != cudaSuccess) {
        *count = 0; /* some versions of the runtime leave it alone, some do not */
        *why =
            error == cudaErrorInsufficientDriver
                ? "there is no CUDA driver on this machine, or it is older than this build's CUDA"
                : cudaGetErrorString(error);
    }
    return &backend;
}
