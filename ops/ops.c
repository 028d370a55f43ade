/* The front of the operations: shapes are checked once, here, then the backend's row is called. */
#include "ops/ops.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/file.h"
#include "ops/checks.h"

const char *dtype_name(DType dtype) {
    static const char *const names[] = {"f32", "bf16", "f16", "i32", "u8"};
    return names[dtype];
}

/* ---- Exec ---- */

void exec_settle_process(char **argv) {
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
    setenv("GOMP_SPINCOUNT", "1000", 1);
    char program[PATH_SIZE];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) return;
    program[length] = 0;
    execv(program, argv); /* returns only where it cannot: then it is merely slower */
}

static const Backend *find_none(int *count, const char **why) {
    *count = 0;
    *why = "this program has no CUDA backend";
    return NULL;
}

static BackendFinder *find_cuda = find_none;

void backend_register(ExecDevice device, BackendFinder *find) {
    CHECK(device == EXEC_CUDA, "a backend for device %d", (int)device);
    find_cuda = find;
}

bool exec_is_built(ExecDevice device) {
    int count;
    const char *why;
    return device == EXEC_CPU || find_cuda(&count, &why) != NULL;
}

int exec_device_count(const char **why) {
    int count = 0;
    const char *reason = NULL;
    const Backend *backend = find_cuda(&count, &reason);
    if (why) *why = reason;
    return backend ? count : 0;
}

static Err pick_backend(const Backend **backend, ExecDevice device, int index) {
    if (device == EXEC_CPU) {
        REQUIRE(index >= 1 && index <= 1024, ERR_CONFIG, "threads: %d; 1 to 1024 are possible",
                index);
        *backend = backend_cpu();
        return OK;
    }
    int count = 0;
    const char *why = "";
    *backend = find_cuda(&count, &why);
    REQUIRE(*backend, ERR_UNSUPPORTED, "%s: set device: cpu", why);
    REQUIRE(count > 0, ERR_DEVICE, "%s: set device: cpu", why);
    REQUIRE(index >= 0 && index < count, ERR_DEVICE, "GPU %d of %d", index, count);
    return OK;
}

Err exec_open(Exec **ex, ExecDevice device, int index) {
    *ex = NULL;
    const Backend *backend = NULL;
    TRY(pick_backend(&backend, device, index));
    Exec *opened = calloc(1, sizeof *opened);
    REQUIRE(opened, ERR_MEMORY, "out of memory: an execution context");
    opened->backend = backend;
    Err err = backend->open(opened, index);
    if (err != OK) {
        free(opened);
        return err;
    }
    *ex = opened;
    return OK;
}

void exec_close(Exec **ex) {
    if (!*ex) return;
    (*ex)->backend->close(*ex);
    free((*ex)->events);
    free(*ex);
    *ex = NULL;
}

void exec_fail(Exec *ex) {
    if (ex->failure.code == OK) err_save(&ex->failure);
}

void exec_set_dry(Exec *ex, bool dry) {
    ex->dry = dry;
}

Err exec_status(Exec *ex) {
    if (__builtin_expect(ex->failure.code == OK, 1)) return OK;
    Err err = err_restore(&ex->failure);
    ex->failure.code = OK;
    return err;
}

const char *exec_description(const Exec *ex) {
    return ex->description;
}

ExecDevice exec_device(const Exec *ex) {
    return ex->backend->device;
}

DType exec_fast_dtype(const Exec *ex) {
    return ex->backend->fast_dtype(ex);
}

bool exec_has_dtype(const Exec *ex, DType dtype) {
    return ex->backend->has_dtype(ex, dtype);
}

int exec_logit_rows(const Exec *ex, int64_t vocab) {
    int64_t rows = ex->backend->logit_bytes / (2 * vocab) / 64 * 64, most = ex->backend->logit_rows;
    return (int)(rows < 64 ? 64 : rows > most ? most : rows);
}

double exec_peak_flops(Exec *ex) {
    return ex->backend->peak_flops(ex);
}

double exec_datasheet_flops(const Exec *ex) {
    return ex->backend->datasheet_flops ? ex->backend->datasheet_flops(ex) : 0;
}

void *exec_alloc(Exec *ex, size_t bytes) {
    return ex->backend->alloc(ex, bytes);
}

void exec_free(Exec *ex, void *memory, size_t bytes) {
    if (memory && !ex->dry) ex->backend->free(ex, memory, bytes);
}

void exec_upload(Exec *ex, void *device, const void *host, size_t bytes) {
    if (bytes && !ex->dry) ex->backend->upload(ex, device, host, bytes);
}

void exec_download(Exec *ex, void *host, const void *device, size_t bytes) {
    if (bytes && !ex->dry) ex->backend->download(ex, host, device, bytes);
}

void exec_zero(Exec *ex, void *device, size_t bytes) {
    if (bytes && !ex->dry) ex->backend->zero(ex, device, bytes);
}

void exec_copy(Exec *ex, void *to, const void *from, size_t bytes) {
    if (bytes && !ex->dry) ex->backend->copy(ex, to, from, bytes);
}

/* ---- what only a device with memory of its own has ---- */

void exec_wait(Exec *ex) {
    if (ex->backend->wait) ex->backend->wait(ex);
}

Err exec_settle_scratch(Exec *ex) {
    return ex->backend->settle_scratch ? ex->backend->settle_scratch(ex) : OK;
}

void *exec_stream(const Exec *ex) {
    return ex->backend->stream ? ex->backend->stream(ex) : NULL;
}

void exec_memory(Exec *ex, size_t *total, size_t *available) {
    *total = *available = 0;
    if (ex->backend->memory) ex->backend->memory(ex, total, available);
}

size_t exec_scratch_bytes(const Exec *ex) {
    return ex->backend->scratch_bytes ? ex->backend->scratch_bytes(ex) : 0;
}

ProductCounts exec_product_counts(const Exec *ex) {
    return ex->backend->product_counts ? ex->backend->product_counts(ex) : (ProductCounts){0};
}

void *exec_stage(Exec *ex, size_t bytes) {
    CHECK(ex->backend->stage, "nothing is staged on the CPU");
    return ex->backend->stage(ex, bytes);
}

void exec_send(Exec *ex, void *device, size_t bytes) {
    CHECK(ex->backend->send, "nothing is sent on the CPU");
    ex->backend->send(ex, device, bytes);
}

bool exec_graph_launch(Exec *ex, uint64_t key) {
    return ex->backend->graph_launch && ex->backend->graph_launch(ex, key);
}

void exec_graph_capture_begin(Exec *ex, uint64_t key) {
    if (ex->backend->graph_capture_begin) ex->backend->graph_capture_begin(ex, key);
}

void exec_graph_capture_end(Exec *ex) {
    if (ex->backend->graph_capture_end) ex->backend->graph_capture_end(ex);
}

void exec_graph_forget(Exec *ex) {
    if (ex->backend->graph_forget) ex->backend->graph_forget(ex);
}

Err exec_events(Exec *ex, int count) {
    free(ex->events);
    ex->events = calloc((size_t)count + 1, sizeof *ex->events);
    REQUIRE(ex->events, ERR_MEMORY, "out of memory: %d events", count);
    ex->event_count = count;
    return ex->backend->events ? ex->backend->events(ex, count) : OK;
}

void exec_event_record(Exec *ex, int event) {
    CHECK(event >= 0 && event < ex->event_count, "event %d of %d", event, ex->event_count);
    if (ex->backend->event_record)
        ex->backend->event_record(ex, event);
    else
        ex->events[event] = clock_seconds();
}

double exec_event_seconds(Exec *ex, int from, int to) {
    CHECK(from >= 0 && from < ex->event_count && to >= 0 && to < ex->event_count,
          "events %d, %d of %d", from, to, ex->event_count);
    return ex->backend->event_seconds ? ex->backend->event_seconds(ex, from, to)
                                      : ex->events[to] - ex->events[from];
}

void exec_range_begin(Exec *ex, const char *name) {
    if (ex->backend->range_begin && !ex->dry) ex->backend->range_begin(ex, name);
}

void exec_range_end(Exec *ex) {
    if (ex->backend->range_end && !ex->dry) ex->backend->range_end(ex);
}

/* ---- matrix products ---- */

void op_linear_fwd(Exec *ex, Tensor y, Tensor x, Tensor w, Tensor bias) {
    COMPUTE(x);
    SHAPE(y, x.rows, w.rows);
    SHAPE(w, w.rows, x.cols);
    OPTIONAL(bias, 1, w.rows);
    TYPE(w, x.dtype);
    TYPE(bias, x.dtype);
    if (x.rows && runs(ex)) ex->backend->linear_fwd(ex, y, x, w, bias);
}

void op_linear_act_fwd(Exec *ex, Tensor g, Tensor f, Tensor x, Tensor w, Tensor bias,
                       Activation kind) {
    COMPUTE(x);
    SHAPE(g, x.rows, w.rows);
    OPTIONAL(f, x.rows, w.rows);
    SHAPE(w, w.rows, x.cols);
    OPTIONAL(bias, 1, w.rows);
    TYPE(w, x.dtype);
    TYPE(bias, x.dtype);
    if (!x.rows) return;
    if (ex->backend->linear_act_fwd) {
        if (runs(ex)) ex->backend->linear_act_fwd(ex, g, f, x, w, bias, kind);
    } else {
        Tensor before = tensor_is_none(f) ? g : f;
        op_linear_fwd(ex, before, x, w, bias);
        op_act_fwd(ex, g, before, kind);
    }
}

void op_linear_bwd_x(Exec *ex, Tensor dx, Tensor dy, Tensor w, bool accumulate) {
    COMPUTE(dy);
    SHAPE(dx, dy.rows, w.cols);
    SHAPE(w, dy.cols, w.cols);
    TYPE(w, dy.dtype);
    if (dy.rows && runs(ex)) ex->backend->product(ex, dx, dy, w, false, 1, accumulate);
}

void op_linear_bwd_w(Exec *ex, Tensor dw, Tensor dbias, Tensor dy, Tensor x) {
    COMPUTE(dy);
    SHAPE(x, dy.rows, x.cols);
    OPTIONAL(dw, dy.cols, x.cols);
    OPTIONAL(dbias, 1, dy.cols);
    TYPE(dw, DT_F32);
    TYPE(dbias, DT_F32);
    TYPE(x, dy.dtype);
    if (dy.rows && runs(ex)) ex->backend->linear_bwd_w(ex, dw, dbias, dy, x);
}

/* ---- norms ---- */

void op_rmsnorm_fwd(Exec *ex, Tensor out, Tensor sum, Tensor rstd, Tensor h, Tensor delta, Tensor w,
                    float w_offset, float eps) {
    COMPUTE(h);
    SHAPE(out, h.rows, h.cols);
    OPTIONAL(delta, h.rows, h.cols);
    if (!tensor_is_none(delta)) SHAPE(sum, h.rows, h.cols);
    OPTIONAL(rstd, h.rows, 1);
    TYPE(rstd, DT_F32);
    SHAPE(w, 1, h.cols);
    if (h.rows && runs(ex))
        ex->backend->rmsnorm_fwd(ex, out, sum, rstd, h, delta, w, w_offset, eps);
}

void op_rmsnorm_bwd(Exec *ex, Tensor dh, bool accumulate, Tensor dw, Tensor dout, Tensor h,
                    Tensor rstd, Tensor w, float w_offset) {
    COMPUTE(h);
    SHAPE(dh, h.rows, h.cols);
    SHAPE(dout, h.rows, h.cols);
    SHAPE(rstd, h.rows, 1);
    OPTIONAL(dw, 1, h.cols);
    TYPE(dw, DT_F32);
    SHAPE(w, 1, h.cols);
    if (h.rows && runs(ex))
        ex->backend->rmsnorm_bwd(ex, dh, accumulate, dw, dout, h, rstd, w, w_offset);
}

void op_layernorm_fwd(Exec *ex, Tensor out, Tensor sum, Tensor stats, Tensor h, Tensor delta,
                      Tensor w, Tensor bias, float eps) {
    COMPUTE(h);
    SHAPE(out, h.rows, h.cols);
    OPTIONAL(delta, h.rows, h.cols);
    if (!tensor_is_none(delta)) SHAPE(sum, h.rows, h.cols);
    OPTIONAL(stats, h.rows, 2);
    TYPE(stats, DT_F32);
    SHAPE(w, 1, h.cols);
    SHAPE(bias, 1, h.cols);
    if (h.rows && runs(ex)) ex->backend->layernorm_fwd(ex, out, sum, stats, h, delta, w, bias, eps);
}

void op_layernorm_bwd(Exec *ex, Tensor dh, bool accumulate, Tensor dw, Tensor dbias, Tensor dout,
                      Tensor h, Tensor stats, Tensor w) {
    COMPUTE(h);
    SHAPE(dh, h.rows, h.cols);
    SHAPE(dout, h.rows, h.cols);
    SHAPE(stats, h.rows, 2);
    OPTIONAL(dw, 1, h.cols);
    OPTIONAL(dbias, 1, h.cols);
    TYPE(dw, DT_F32);
    TYPE(dbias, DT_F32);
    CHECK(tensor_is_none(dw) == tensor_is_none(dbias),
          "layernorm: weight and bias are trained together or not at all");
    SHAPE(w, 1, h.cols);
    if (h.rows && runs(ex))
        ex->backend->layernorm_bwd(ex, dh, accumulate, dw, dbias, dout, h, stats, w);
}

void op_add(Exec *ex, Tensor out, Tensor a, Tensor b) {
    COMPUTE(a);
    SHAPE(out, a.rows, a.cols);
    SHAPE(b, a.rows, a.cols);
    if (a.rows && runs(ex)) ex->backend->add(ex, out, a, b);
}

void op_scale(Exec *ex, Tensor out, Tensor x, float factor) {
    COMPUTE(x);
    SHAPE(out, x.rows, x.cols);
    TYPE(out, x.dtype);
    if (x.rows && runs(ex)) ex->backend->scale(ex, out, x, factor);
}

void op_dropout(Exec *ex, Tensor out, Tensor x, Dropout dropout, bool accumulate) {
    COMPUTE(x);
    SHAPE(out, x.rows, x.cols);
    TYPE(out, x.dtype);
    CHECK(dropout.p >= 0 && dropout.p < 1, "dropout %g", (double)dropout.p);
    if (x.rows && runs(ex)) ex->backend->dropout(ex, out, x, dropout, accumulate);
}

/* ---- attention ---- */

void rope_table(float *table, int positions, int rotary_dim, double theta) {
    int half = rotary_dim / 2;
    for (int p = 0; p < positions; p++)
        for (int i = 0; i < half; i++) {
            double angle = p * pow(theta, -2.0 * i / rotary_dim);
            table[(size_t)p * (size_t)rotary_dim + (size_t)i] = (float)cos(angle);
            table[(size_t)p * (size_t)rotary_dim + (size_t)(half + i)] = (float)sin(angle);
        }
}

static void check_rope(const char *op, Tensor qk, Tensor rstd, Tensor qkv, Tensor wq, Tensor wk,
                       const RopeSpec *spec) {
    int heads = spec->heads_q + spec->heads_k;
    CHECK(spec->rotary_dim >= 0 && spec->rotary_dim <= spec->head_dim && spec->rotary_dim % 2 == 0,
          "%s: rotary %d of %d", op, spec->rotary_dim, spec->head_dim);
    check_shape(op, "qk", qk, qkv.rows, (int64_t)heads * spec->head_dim);
    CHECK(qkv.cols >= qk.cols, "%s: qkv has %ld columns, %ld are needed", op, (long)qkv.cols,
          (long)qk.cols);
    CHECK(tensor_is_none(wq) == tensor_is_none(wk), "%s: both norms or none", op);
    check_optional(op, "wq", wq, 1, spec->head_dim);
    check_optional(op, "wk", wk, 1, spec->head_dim);
    check_optional(op, "rstd", rstd, qkv.rows, heads);
    check_type(op, "rstd", rstd, DT_F32);
}

void op_qk_rope_fwd(Exec *ex, Tensor qk, Tensor rstd, Tensor qkv, Tensor wq, Tensor wk,
                    const RopeSpec *spec) {
    COMPUTE(qkv);
    check_rope(__func__, qk, rstd, qkv, wq, wk, spec);
    if (qkv.rows && runs(ex)) ex->backend->qk_rope_fwd(ex, qk, rstd, qkv, wq, wk, spec);
}

void op_qk_rope_bwd(Exec *ex, Tensor dqkv, Tensor dwq, Tensor dwk, Tensor dqk, Tensor qkv,
                    Tensor rstd, Tensor wq, Tensor wk, const RopeSpec *spec) {
    COMPUTE(qkv);
    check_rope(__func__, dqk, rstd, dqkv, wq, wk, spec);
    OPTIONAL(dwq, 1, spec->head_dim);
    OPTIONAL(dwk, 1, spec->head_dim);
    TYPE(dwq, DT_F32);
    TYPE(dwk, DT_F32);
    CHECK(tensor_is_none(wq) || !tensor_is_none(rstd), "the norm's rstd is needed");
    if (qkv.rows && runs(ex))
        ex->backend->qk_rope_bwd(ex, dqkv, dwq, dwk, dqk, qkv, rstd, wq, wk, spec);
}

static void check_attention(const Exec *ex, const char *op, Tensor out, Tensor lse, Tensor q,
                            Tensor k, Tensor v, const AttentionSpec *spec) {
    int64_t width_q = (int64_t)spec->heads_q * spec->head_dim,
            width_k = (int64_t)spec->heads_k * spec->head_dim;
    CHECK(spec->heads_k > 0 && spec->heads_q % spec->heads_k == 0,
          "%s: %d query heads, %d key heads", op, spec->heads_q, spec->heads_k);
    check_compute(ex, op, q);
    check_shape(op, "q", q, q.rows, width_q);
    check_shape(op, "out", out, q.rows, width_q);
    check_shape(op, "k", k, k.rows, width_k);
    check_shape(op, "v", v, k.rows, width_k);
    check_optional(op, "lse", lse, q.rows, spec->heads_q);
    check_type(op, "lse", lse, DT_F32);
}

void op_attention_fwd(Exec *ex, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                      const AttentionSpec *spec) {
    check_attention(ex, __func__, out, lse, q, k, v, spec);
    if ((spec->sequences && q.rows) && runs(ex))
        ex->backend->attention_fwd(ex, out, lse, q, k, v, spec);
}

void op_attention_bwd(Exec *ex, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor out,
                      Tensor lse, Tensor q, Tensor k, Tensor v, const AttentionSpec *spec) {
    check_attention(ex, __func__, out, lse, q, k, v, spec);
    check_attention(ex, __func__, dout, lse, dq, dk, dv, spec);
    CHECK(!tensor_is_none(lse), "attention's lse is needed");
    if ((spec->sequences && q.rows) && runs(ex))
        ex->backend->attention_bwd(ex, dq, dk, dv, dout, out, lse, q, k, v, spec);
}

/* ---- activations ---- */

void op_act_fwd(Exec *ex, Tensor out, Tensor x, Activation kind) {
    COMPUTE(x);
    SHAPE(out, x.rows, x.cols);
    if (x.rows && runs(ex)) ex->backend->act_fwd(ex, out, x, kind);
}

void op_act_bwd(Exec *ex, Tensor dx, Tensor dout, Tensor x, Activation kind) {
    COMPUTE(x);
    SHAPE(dx, x.rows, x.cols);
    SHAPE(dout, x.rows, x.cols);
    if (x.rows && runs(ex)) ex->backend->act_bwd(ex, dx, dout, x, kind);
}

void op_glu_fwd(Exec *ex, Tensor out, Tensor x, Activation kind) {
    COMPUTE(x);
    SHAPE(x, x.rows, 2 * out.cols);
    SHAPE(out, x.rows, out.cols);
    if (x.rows && runs(ex)) ex->backend->glu_fwd(ex, out, x, kind);
}

void op_glu_bwd(Exec *ex, Tensor dx, Tensor dout, Tensor x, Activation kind) {
    COMPUTE(x);
    SHAPE(x, x.rows, 2 * dout.cols);
    SHAPE(dx, x.rows, x.cols);
    SHAPE(dout, x.rows, dout.cols);
    if (x.rows && runs(ex)) ex->backend->glu_bwd(ex, dx, dout, x, kind);
}

/* ---- pictures, tokens, rows ---- */

void op_patchify(Exec *ex, Tensor patches, const uint8_t *pixels, const PatchSpec *spec) {
    COMPUTE(patches);
    CHECK(spec->channels == 1 || spec->channels == 3, "channels %d", spec->channels);
    int64_t side = spec->image_size / spec->patch;
    SHAPE(patches, spec->images * side * side, (int64_t)spec->channels * spec->patch * spec->patch);
    if (spec->images && runs(ex)) ex->backend->patchify(ex, patches, pixels, spec);
}

void op_add_positions(Exec *ex, Tensor x, Tensor table) {
    COMPUTE(x);
    CHECK(table.rows > 0 && x.rows % table.rows == 0 && x.cols == table.cols,
          "x [%ld, %ld], table [%ld, %ld]", (long)x.rows, (long)x.cols, (long)table.rows,
          (long)table.cols);
    if (x.rows && runs(ex)) ex->backend->add_positions(ex, x, table);
}

void op_add_positions_bwd(Exec *ex, Tensor dtable, Tensor dx) {
    COMPUTE(dx);
    CHECK(dtable.rows > 0 && dx.rows % dtable.rows == 0 && dx.cols == dtable.cols,
          "dx [%ld, %ld], dtable [%ld, %ld]", (long)dx.rows, (long)dx.cols, (long)dtable.rows,
          (long)dtable.cols);
    TYPE(dtable, DT_F32);
    if (dx.rows && runs(ex)) ex->backend->add_positions_bwd(ex, dtable, dx);
}

void op_embed_fwd(Exec *ex, Tensor out, const int32_t *ids, Tensor table, Tensor features) {
    COMPUTE(out);
    CHECK(table.cols == out.cols && (tensor_is_none(features) || features.cols == out.cols),
          "out has %ld columns, table %ld", (long)out.cols, (long)table.cols);
    if (out.rows && runs(ex)) ex->backend->embed_fwd(ex, out, ids, table, features);
}

void op_embed_bwd(Exec *ex, Tensor dtable, Tensor dfeatures, Tensor dout, const int32_t *ids) {
    COMPUTE(dout);
    TYPE(dtable, DT_F32);
    TYPE(dfeatures, dout.dtype);
    if (dout.rows && runs(ex)) ex->backend->embed_bwd(ex, dtable, dfeatures, dout, ids);
}

void op_gather_rows(Exec *ex, Tensor out, Tensor x, const int32_t *rows) {
    COMPUTE(x);
    SHAPE(out, out.rows, x.cols);
    TYPE(out, x.dtype);
    if (out.rows && runs(ex)) ex->backend->gather_rows(ex, out, x, rows);
}

void op_put_rows(Exec *ex, Tensor out, Tensor x, const int32_t *rows) {
    COMPUTE(x);
    SHAPE(out, out.rows, x.cols);
    TYPE(out, x.dtype);
    if (x.rows && runs(ex)) ex->backend->put_rows(ex, out, x, rows);
}

void op_scatter_rows(Exec *ex, Tensor out, Tensor x, const int32_t *rows) {
    COMPUTE(x);
    SHAPE(out, out.rows, x.cols);
    TYPE(out, x.dtype);
    if (out.rows && runs(ex)) ex->backend->scatter_rows(ex, out, x, rows);
}

/* ---- loss ---- */

void op_cross_entropy(Exec *ex, Tensor loss, Tensor hits, Tensor logits, const int32_t *targets,
                      const float *gradient) {
    COMPUTE(logits);
    SHAPE(loss, 1, logits.rows);
    OPTIONAL(hits, 1, logits.rows);
    TYPE(loss, DT_F32);
    TYPE(hits, DT_F32);
    if (logits.rows && runs(ex))
        ex->backend->cross_entropy(ex, loss, hits, logits, targets, gradient);
}

void op_sum_loss(Exec *ex, LossSum *out, Tensor loss, Tensor hits) {
    SHAPE(hits, 1, loss.cols);
    TYPE(loss, DT_F32);
    TYPE(hits, DT_F32);
    if (runs(ex)) ex->backend->sum_loss(ex, out, loss, hits);
}

void op_argmax(Exec *ex, int32_t *best, float *probability, Tensor logits) {
    COMPUTE(logits);
    if (logits.rows && runs(ex)) ex->backend->argmax(ex, best, probability, logits);
}

/* ---- parameters ---- */

void op_update_begin(Exec *ex, UpdateState *state, const float *grads, int64_t count,
                     const UpdateSpec *spec) {
    CHECK(spec->labels >= 0 && spec->max_norm >= 0 && spec->window >= 0, "labels %g, norm %g",
          spec->labels, spec->max_norm);
    if (runs(ex)) ex->backend->update_begin(ex, state, grads, count, spec);
}

void op_adamw(Exec *ex, float *master, const float *grad, float *m, float *v, int64_t count,
              const AdamwSegment *segments, int segment_count, const AdamwSpec *spec,
              const UpdateState *state) {
    if (segment_count && count && runs(ex))
        ex->backend->adamw(ex, master, grad, m, v, count, segments, segment_count, spec, state);
}

void op_accumulate(Exec *ex, float *dst, const float *src, int64_t count) {
    if (count && runs(ex)) ex->backend->accumulate(ex, dst, src, count);
}

void op_convert(Exec *ex, Tensor dst, Tensor src) {
    COMPUTE(dst);
    COMPUTE(src);
    SHAPE(dst, src.rows, src.cols);
    if (src.rows && runs(ex)) ex->backend->convert(ex, dst, src);
}
