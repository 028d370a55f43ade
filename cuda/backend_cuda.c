/* The table of operations over the kernels of cuda_ops.h: scratch memory and errors, nothing else.
 */
#include "cuda/backend_cuda.h"
#include "cuda/cuda_ops.h"
#include "cuda/device.h"

/* An operation's launches, which a dry pass leaves out; then what went wrong is named after it. */
#define LAUNCH(ex, call)                                                                           \
    do {                                                                                           \
        if (!(ex)->dry) {                                                                          \
            call;                                                                                  \
            device_launched(ex, __func__ + sizeof "cuda_backend_" - 1);                            \
        }                                                                                          \
    } while (0)

static cudaStream_t stream_of(const Exec *ex) {
    return device_of(ex)->stream;
}

/* Products say themselves what is wrong with them. */
static void product_launched(Exec *ex, Err err) {
    if (err != OK) exec_fail(ex);
}

static DType cuda_backend_fast_dtype(const Exec *ex) {
    (void)ex;
    return DT_BF16;
}

static bool cuda_backend_has_dtype(const Exec *ex, DType dtype) {
    (void)ex;
    return dtype == DT_F32 || dtype == DT_BF16 || dtype == DT_F16;
}

/* ---- matrix products ---- */

static void cuda_backend_linear_fwd(Exec *ex, Tensor y, Tensor x, Tensor w, Tensor bias) {
    CudaProduct p = {.c = y,
                     .a = x,
                     .b = w,
                     .transpose_b = true,
                     .alpha = 1,
                     .bias = bias,
                     .epilogue = tensor_is_none(bias) ? EPILOGUE_NONE : EPILOGUE_BIAS};
    LAUNCH(ex, product_launched(ex, cuda_matmul(device_of(ex)->matmuls, stream_of(ex), &p)));
}

static void cuda_backend_linear_act_fwd(Exec *ex, Tensor g, Tensor f, Tensor x, Tensor w,
                                        Tensor bias, Activation kind) {
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
        LAUNCH(ex, product_launched(ex, cuda_matmul(device_of(ex)->matmuls, stream_of(ex), &p)));
        return;
    }
    Tensor before = tensor_is_none(f) ? g : f;
    cuda_backend_linear_fwd(ex, before, x, w, bias);
    LAUNCH(ex, cuda_act_fwd(stream_of(ex), g, before, kind));
}

static void cuda_backend_linear_bwd_w(Exec *ex, Tensor dw, Tensor dbias, Tensor dy, Tensor x) {
    size_t bytes = tensor_is_none(dbias) ? 0 : cuda_column_sum_scratch(dy.rows, dy.cols);
    CudaProduct p = {.c = dw, .a = dy, .b = x, .transpose_a = true, .alpha = 1, .beta = 1};
    void *scratch = NULL;
    if (!device_scratch(ex, bytes, &scratch)) return;
    if (!tensor_is_none(dw))
        LAUNCH(ex, product_launched(ex, cuda_matmul(device_of(ex)->matmuls, stream_of(ex), &p)));
    if (!tensor_is_none(dbias)) LAUNCH(ex, cuda_column_sum(stream_of(ex), scratch, dbias, dy));
}

static void cuda_backend_product(Exec *ex, Tensor c, Tensor a, Tensor b, bool transpose_b,
                                 float scale, bool accumulate) {
    CudaProduct p = {.c = c,
                     .a = a,
                     .b = b,
                     .transpose_b = transpose_b,
                     .alpha = scale,
                     .beta = accumulate ? 1 : 0};
    LAUNCH(ex, product_launched(ex, cuda_matmul(device_of(ex)->matmuls, stream_of(ex), &p)));
}

static void cuda_backend_lora_xa(Exec *ex, Tensor xa, Tensor x, Tensor a, float scale,
                                 Dropout dropout) {
    void *scratch = NULL;
    if (!device_scratch(ex, cuda_lora_xa_scratch(x.rows, x.cols, x.dtype), &scratch)) return;
    LAUNCH(ex, product_launched(ex, cuda_lora_xa(device_of(ex)->matmuls, stream_of(ex), scratch, xa,
                                                 x, a, scale, dropout)));
}

static void cuda_backend_lora_da(Exec *ex, Tensor da, Tensor g, Tensor x, Dropout dropout) {
    void *scratch = NULL;
    if (!device_scratch(ex, cuda_lora_da_scratch(x.rows, x.cols, g.cols, x.dtype), &scratch))
        return;
    LAUNCH(ex, product_launched(ex, cuda_lora_da(device_of(ex)->matmuls, stream_of(ex), scratch, da,
                                                 g, x, dropout)));
}

static void cuda_backend_lora_dx(Exec *ex, Tensor dx, Tensor g, Tensor a, Dropout dropout) {
    void *scratch = NULL;
    if (!device_scratch(ex, cuda_lora_dx_scratch(dx.rows, dx.cols, dx.dtype), &scratch)) return;
    LAUNCH(ex, product_launched(ex, cuda_lora_dx(device_of(ex)->matmuls, stream_of(ex), scratch, dx,
                                                 g, a, dropout)));
}

/* ---- norms ---- */

static void cuda_backend_rmsnorm_fwd(Exec *ex, Tensor out, Tensor sum, Tensor rstd, Tensor h,
                                     Tensor delta, Tensor w, float w_offset, float eps) {
    LAUNCH(ex, cuda_rmsnorm_fwd(stream_of(ex), out, sum, rstd, h, delta, w, w_offset, eps));
}

static void cuda_backend_rmsnorm_bwd(Exec *ex, Tensor dh, bool accumulate, Tensor dw, Tensor dout,
                                     Tensor h, Tensor rstd, Tensor w, float w_offset) {
    size_t bytes = tensor_is_none(dw) ? 0 : cuda_rmsnorm_bwd_scratch(h.rows, h.cols);
    void *scratch = NULL;
    if (!device_scratch(ex, bytes, &scratch)) return;
    LAUNCH(ex, cuda_rmsnorm_bwd(stream_of(ex), scratch, dh, accumulate, dw, dout, h, rstd, w,
                                w_offset));
}

static void cuda_backend_layernorm_fwd(Exec *ex, Tensor out, Tensor sum, Tensor stats, Tensor h,
                                       Tensor delta, Tensor w, Tensor bias, float eps) {
    LAUNCH(ex, cuda_layernorm_fwd(stream_of(ex), out, sum, stats, h, delta, w, bias, eps));
}

static void cuda_backend_layernorm_bwd(Exec *ex, Tensor dh, bool accumulate, Tensor dw,
                                       Tensor dbias, Tensor dout, Tensor h, Tensor stats,
                                       Tensor w) {
    size_t bytes = tensor_is_none(dw) ? 0 : cuda_layernorm_bwd_scratch(h.rows, h.cols);
    void *scratch = NULL;
    if (!device_scratch(ex, bytes, &scratch)) return;
    LAUNCH(ex, cuda_layernorm_bwd(stream_of(ex), scratch, dh, accumulate, dw, dbias, dout, h, stats,
                                  w));
}

static void cuda_backend_scale(Exec *ex, Tensor out, Tensor x, float factor) {
    LAUNCH(ex, cuda_scale(stream_of(ex), out, x, factor));
}

static void cuda_backend_dropout(Exec *ex, Tensor out, Tensor x, Dropout dropout, bool accumulate) {
    LAUNCH(ex, cuda_dropout(stream_of(ex), out, x, dropout, accumulate));
}

static void cuda_backend_add(Exec *ex, Tensor out, Tensor a, Tensor b) {
    LAUNCH(ex, cuda_add(stream_of(ex), out, a, b));
}

/* ---- attention ---- */

static void cuda_backend_qk_rope_fwd(Exec *ex, Tensor qk, Tensor rstd, Tensor qkv, Tensor wq,
                                     Tensor wk, const RopeSpec *spec) {
    LAUNCH(ex, cuda_qk_rope_fwd(stream_of(ex), qk, rstd, qkv, wq, wk, spec));
}

static void cuda_backend_qk_rope_bwd(Exec *ex, Tensor dqkv, Tensor dwq, Tensor dwk, Tensor dqk,
                                     Tensor qkv, Tensor rstd, Tensor wq, Tensor wk,
                                     const RopeSpec *spec) {
    size_t bytes = tensor_is_none(dwq) ? 0 : cuda_qk_rope_bwd_scratch(qkv.rows, spec);
    void *scratch = NULL;
    if (!device_scratch(ex, bytes, &scratch)) return;
    LAUNCH(ex,
           cuda_qk_rope_bwd(stream_of(ex), scratch, dqkv, dwq, dwk, dqk, qkv, rstd, wq, wk, spec));
}

static void cuda_backend_attention_fwd(Exec *ex, Tensor out, Tensor lse, Tensor q, Tensor k,
                                       Tensor v, const AttentionSpec *spec) {
    LAUNCH(ex, cuda_attention_fwd(stream_of(ex), out, lse, q, k, v, spec));
}

static void cuda_backend_attention_bwd(Exec *ex, Tensor dq, Tensor dk, Tensor dv, Tensor dout,
                                       Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                                       const AttentionSpec *spec) {
    void *scratch = NULL;
    if (!device_scratch(ex, cuda_attention_bwd_scratch(q.rows, k.rows, q.dtype, spec), &scratch))
        return;
    LAUNCH(ex,
           cuda_attention_bwd(stream_of(ex), scratch, dq, dk, dv, dout, out, lse, q, k, v, spec));
}

/* ---- activations ---- */

static void cuda_backend_act_fwd(Exec *ex, Tensor out, Tensor x, Activation kind) {
    LAUNCH(ex, cuda_act_fwd(stream_of(ex), out, x, kind));
}

static void cuda_backend_act_bwd(Exec *ex, Tensor dx, Tensor dout, Tensor x, Activation kind) {
    LAUNCH(ex, cuda_act_bwd(stream_of(ex), dx, dout, x, kind));
}

static void cuda_backend_glu_fwd(Exec *ex, Tensor out, Tensor x, Activation kind) {
    LAUNCH(ex, cuda_glu_fwd(stream_of(ex), out, x, kind));
}

static void cuda_backend_glu_bwd(Exec *ex, Tensor dx, Tensor dout, Tensor x, Activation kind) {
    LAUNCH(ex, cuda_glu_bwd(stream_of(ex), dx, dout, x, kind));
}

/* ---- pictures, tokens, rows ---- */

static void cuda_backend_patchify(Exec *ex, Tensor patches, const uint8_t *pixels,
                                  const PatchSpec *spec) {
    LAUNCH(ex, cuda_patchify(stream_of(ex), patches, pixels, spec));
}

static void cuda_backend_add_positions(Exec *ex, Tensor x, Tensor table) {
    LAUNCH(ex, cuda_add_positions(stream_of(ex), x, table));
}

static void cuda_backend_add_positions_bwd(Exec *ex, Tensor dtable, Tensor dx) {
    LAUNCH(ex, cuda_add_positions_bwd(stream_of(ex), dtable, dx));
}

static void cuda_backend_embed_fwd(Exec *ex, Tensor out, const int32_t *ids, Tensor table,
                                   Tensor features) {
    LAUNCH(ex, cuda_embed_fwd(stream_of(ex), out, ids, table, features));
}

static void cuda_backend_embed_bwd(Exec *ex, Tensor dtable, Tensor dfeatures, Tensor dout,
                                   const int32_t *ids) {
    LAUNCH(ex, cuda_embed_bwd(stream_of(ex), dtable, dfeatures, dout, ids));
}

static void cuda_backend_gather_rows(Exec *ex, Tensor out, Tensor x, const int32_t *rows) {
    LAUNCH(ex, cuda_gather_rows(stream_of(ex), out, x, rows));
}

static void cuda_backend_put_rows(Exec *ex, Tensor out, Tensor x, const int32_t *rows) {
    LAUNCH(ex, cuda_put_rows(stream_of(ex), out, x, rows));
}

static void cuda_backend_scatter_rows(Exec *ex, Tensor out, Tensor x, const int32_t *rows) {
    LAUNCH(ex, cuda_scatter_rows(stream_of(ex), out, x, rows));
}

/* ---- loss ---- */

static void cuda_backend_cross_entropy(Exec *ex, Tensor loss, Tensor hits, Tensor logits,
                                       const int32_t *targets, const float *gradient) {
    LAUNCH(ex, cuda_cross_entropy(stream_of(ex), loss, hits, logits, targets, gradient));
}

static void cuda_backend_sum_loss(Exec *ex, LossSum *out, Tensor loss, Tensor hits) {
    LAUNCH(ex, cuda_sum_loss(stream_of(ex), out, loss, hits));
}

static void cuda_backend_argmax(Exec *ex, int32_t *best, float *probability, Tensor logits) {
    LAUNCH(ex, cuda_argmax(stream_of(ex), best, probability, logits));
}

/* ---- parameters ---- */

static void cuda_backend_update_begin(Exec *ex, UpdateState *state, const float *grads,
                                      int64_t count, const UpdateSpec *spec) {
    void *scratch = NULL;
    if (!device_scratch(ex, cuda_update_begin_scratch(count), &scratch)) return;
    LAUNCH(ex, cuda_update_begin(stream_of(ex), scratch, state, grads, count, spec));
}

static void cuda_backend_adamw(Exec *ex, float *master, const float *grad, float *m, float *v,
                               int64_t count, const AdamwSegment *segments, int segment_count,
                               const AdamwSpec *spec, const UpdateState *state) {
    LAUNCH(ex, cuda_adamw(stream_of(ex), master, grad, m, v, count, segments, segment_count, spec,
                          state));
}

static void cuda_backend_accumulate(Exec *ex, float *dst, const float *src, int64_t count) {
    LAUNCH(ex, cuda_accumulate(stream_of(ex), dst, src, count));
}

static void cuda_backend_convert(Exec *ex, Tensor dst, Tensor src) {
    LAUNCH(ex, cuda_convert(stream_of(ex), dst, src));
}

/* ---- the table ---- */

static const Backend *find(int *count, const char **why) {
    static const Backend backend = {
        .name = "cuda",
        .device = EXEC_CUDA,
        .plans = true,
        .open = device_open,
        .close = device_close,
        .fast_dtype = cuda_backend_fast_dtype,
        .has_dtype = cuda_backend_has_dtype,
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
        .graph_launch = device_graph_launch,
        .graph_capture_begin = device_graph_capture_begin,
        .graph_capture_end = device_graph_capture_end,
        .graph_forget = device_graph_forget,
        .events = device_events,
        .event_record = device_event_record,
        .event_seconds = device_event_seconds,
        .range_begin = device_range_begin,
        .range_end = device_range_end,
        .linear_fwd = cuda_backend_linear_fwd,
        .linear_act_fwd = cuda_backend_linear_act_fwd,
        .linear_bwd_w = cuda_backend_linear_bwd_w,
        .product = cuda_backend_product,
        .lora_xa = cuda_backend_lora_xa,
        .lora_da = cuda_backend_lora_da,
        .lora_dx = cuda_backend_lora_dx,
        .rmsnorm_fwd = cuda_backend_rmsnorm_fwd,
        .rmsnorm_bwd = cuda_backend_rmsnorm_bwd,
        .layernorm_fwd = cuda_backend_layernorm_fwd,
        .layernorm_bwd = cuda_backend_layernorm_bwd,
        .add = cuda_backend_add,
        .scale = cuda_backend_scale,
        .dropout = cuda_backend_dropout,
        .qk_rope_fwd = cuda_backend_qk_rope_fwd,
        .qk_rope_bwd = cuda_backend_qk_rope_bwd,
        .attention_fwd = cuda_backend_attention_fwd,
        .attention_bwd = cuda_backend_attention_bwd,
        .act_fwd = cuda_backend_act_fwd,
        .act_bwd = cuda_backend_act_bwd,
        .glu_fwd = cuda_backend_glu_fwd,
        .glu_bwd = cuda_backend_glu_bwd,
        .patchify = cuda_backend_patchify,
        .add_positions = cuda_backend_add_positions,
        .add_positions_bwd = cuda_backend_add_positions_bwd,
        .embed_fwd = cuda_backend_embed_fwd,
        .embed_bwd = cuda_backend_embed_bwd,
        .gather_rows = cuda_backend_gather_rows,
        .put_rows = cuda_backend_put_rows,
        .scatter_rows = cuda_backend_scatter_rows,
        .cross_entropy = cuda_backend_cross_entropy,
        .sum_loss = cuda_backend_sum_loss,
        .argmax = cuda_backend_argmax,
        .update_begin = cuda_backend_update_begin,
        .adamw = cuda_backend_adamw,
        .accumulate = cuda_backend_accumulate,
        .convert = cuda_backend_convert,
    };
    *count = 0;
    cudaError_t error = cudaGetDeviceCount(count);
    (void)cudaGetLastError();
    if (error != cudaSuccess) {
        *count = 0; /* some versions of the runtime leave it alone, some do not */
        *why = error == cudaErrorInsufficientDriver
                   ? "no CUDA driver on this machine, or it is older than this build's CUDA"
                   : cudaGetErrorString(error);
    }
    return &backend;
}

void cuda_backend_register(void) {
    backend_register(EXEC_CUDA, find);
}
