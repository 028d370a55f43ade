/* The table of operations a backend fills: for backend authors. Shapes are checked before a row is
 * called (ops/ops.c), and every meaning is that of ops/ops.h. */
#ifndef CADVLM_OPS_BACKEND_H
#define CADVLM_OPS_BACKEND_H

#include "ops/ops.h"

typedef struct Backend {
    const char *name;

    ExecDevice device;
    bool plans; /* rows are called in dry passes too (ex->dry), to say what scratch they need */

    Err (*open)(Exec *ex, int index);
    void (*close)(Exec *ex);
    DType (*fast_dtype)(const Exec *ex);
    bool (*has_dtype)(const Exec *ex, DType dtype);
    int64_t logit_rows,
        logit_bytes; /* worth having at a time, at most; bytes as of 16-bit logits */
    double (*peak_flops)(Exec *ex);
    double (*datasheet_flops)(const Exec *ex); /* NULL: unknown */
    void *(*alloc)(Exec *ex, size_t bytes);
    void (*free)(Exec *ex, void *memory, size_t bytes);
    void (*upload)(Exec *ex, void *device, const void *host, size_t bytes);
    void (*download)(Exec *ex, void *host, const void *device, size_t bytes);
    void (*zero)(Exec *ex, void *device, size_t bytes);
    void (*copy)(Exec *ex, void *to, const void *from, size_t bytes);
    /* The rest of these NULL on the CPU, where they mean nothing. */
    void (*wait)(Exec *ex);
    Err (*settle_scratch)(Exec *ex);
    void *(*stream)(const Exec *ex);
    void (*memory)(Exec *ex, size_t *total, size_t *available);
    size_t (*scratch_bytes)(const Exec *ex);
    ProductCounts (*product_counts)(const Exec *ex);
    void *(*stage)(Exec *ex, size_t bytes);
    void (*send)(Exec *ex, void *device, size_t bytes);
    bool (*graph_launch)(Exec *ex, uint64_t key);
    void (*graph_capture_begin)(Exec *ex, uint64_t key);
    void (*graph_capture_end)(Exec *ex);
    void (*graph_forget)(Exec *ex);
    Err (*events)(Exec *ex, int count);
    void (*event_record)(Exec *ex, int event);
    double (*event_seconds)(Exec *ex, int from, int to);
    void (*range_begin)(Exec *ex, const char *name);
    void (*range_end)(Exec *ex);

    void (*linear_fwd)(Exec *ex, Tensor y, Tensor x, Tensor w, Tensor bias);
    void (*linear_act_fwd)(Exec *ex, Tensor g, Tensor f, Tensor x, Tensor w, Tensor bias,
                           Activation kind); /* NULL: linear, then act */
    void (*linear_bwd_w)(Exec *ex, Tensor dw, Tensor dbias, Tensor dy, Tensor x);
    /* c[m,n] = scale · a[m,k] · b[k,n] (of b as [n,k] with transpose_b), or += with `accumulate`.
     */
    void (*product)(Exec *ex, Tensor c, Tensor a, Tensor b, bool transpose_b, float scale,
                    bool accumulate);
    /* The products of LoRA that dropout (p > 0) takes part in: xa = scale · dropout(x) · aᵀ;
     * da += gᵀ · dropout(x);  dx += dropout'(g · a). */
    void (*lora_xa)(Exec *ex, Tensor xa, Tensor x, Tensor a, float scale, Dropout dropout);
    void (*lora_da)(Exec *ex, Tensor da, Tensor g, Tensor x, Dropout dropout);
    void (*lora_dx)(Exec *ex, Tensor dx, Tensor g, Tensor a, Dropout dropout);

    void (*rmsnorm_fwd)(Exec *ex, Tensor out, Tensor sum, Tensor rstd, Tensor h, Tensor delta,
                        Tensor w, float w_offset, float eps);
    void (*rmsnorm_bwd)(Exec *ex, Tensor dh, bool accumulate, Tensor dw, Tensor dout, Tensor h,
                        Tensor rstd, Tensor w, float w_offset);
    void (*layernorm_fwd)(Exec *ex, Tensor out, Tensor sum, Tensor stats, Tensor h, Tensor delta,
                          Tensor w, Tensor bias, float eps);
    void (*layernorm_bwd)(Exec *ex, Tensor dh, bool accumulate, Tensor dw, Tensor dbias,
                          Tensor dout, Tensor h, Tensor stats, Tensor w);
    void (*add)(Exec *ex, Tensor out, Tensor a, Tensor b);
    void (*scale)(Exec *ex, Tensor out, Tensor x, float factor);
    void (*dropout)(Exec *ex, Tensor out, Tensor x, Dropout dropout, bool accumulate);

    void (*qk_rope_fwd)(Exec *ex, Tensor qk, Tensor rstd, Tensor qkv, Tensor wq, Tensor wk,
                        const RopeSpec *spec);
    void (*qk_rope_bwd)(Exec *ex, Tensor dqkv, Tensor dwq, Tensor dwk, Tensor dqk, Tensor qkv,
                        Tensor rstd, Tensor wq, Tensor wk, const RopeSpec *spec);
    void (*attention_fwd)(Exec *ex, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                          const AttentionSpec *spec);
    void (*attention_bwd)(Exec *ex, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor out,
                          Tensor lse, Tensor q, Tensor k, Tensor v, const AttentionSpec *spec);

    void (*act_fwd)(Exec *ex, Tensor out, Tensor x, Activation kind);
    void (*act_bwd)(Exec *ex, Tensor dx, Tensor dout, Tensor x, Activation kind);
    void (*glu_fwd)(Exec *ex, Tensor out, Tensor x, Activation kind);
    void (*glu_bwd)(Exec *ex, Tensor dx, Tensor dout, Tensor x, Activation kind);

    void (*patchify)(Exec *ex, Tensor patches, const uint8_t *pixels, const PatchSpec *spec);
    void (*add_positions)(Exec *ex, Tensor x, Tensor table);
    void (*add_positions_bwd)(Exec *ex, Tensor dtable, Tensor dx);
    void (*embed_fwd)(Exec *ex, Tensor out, const int32_t *ids, Tensor table, Tensor features);
    void (*embed_bwd)(Exec *ex, Tensor dtable, Tensor dfeatures, Tensor dout, const int32_t *ids);
    void (*gather_rows)(Exec *ex, Tensor out, Tensor x, const int32_t *rows);
    void (*put_rows)(Exec *ex, Tensor out, Tensor x, const int32_t *rows);
    void (*scatter_rows)(Exec *ex, Tensor out, Tensor x, const int32_t *rows);

    void (*cross_entropy)(Exec *ex, Tensor loss, Tensor hits, Tensor logits, const int32_t *targets,
                          const float *gradient);
    void (*sum_loss)(Exec *ex, LossSum *out, Tensor loss, Tensor hits);
    void (*argmax)(Exec *ex, int32_t *best, float *probability, Tensor logits);

    void (*update_begin)(Exec *ex, UpdateState *state, const float *grads, int64_t count,
                         const UpdateSpec *spec);
    void (*adamw)(Exec *ex, float *master, const float *grad, float *m, float *v, int64_t count,
                  const AdamwSegment *segments, int segment_count, const AdamwSpec *spec,
                  const UpdateState *state);
    void (*accumulate)(Exec *ex, float *dst, const float *src, int64_t count);
    void (*convert)(Exec *ex, Tensor dst, Tensor src);
} Backend;

struct Exec {
    const Backend *backend;
    void *state; /* the backend's own */
    bool dry;    /* operations check shapes and do nothing */
    char description[256];
    double *events; /* moments, where the backend keeps none itself */
    int event_count;
    ErrState failure; /* code OK: none */
};

/* Keeps the first failure of an operation for exec_status (the sentence is the thread's current
 * one). */
void exec_fail(Exec *ex);

const Backend *backend_cpu(void);

/* A backend for devices beside the processor, and how many of them this machine has; NULL where the
 * build has none, or 0 devices: *why then says so. */
typedef const Backend *BackendFinder(int *count, const char **why);

/* Backends beside that of the processor are there for programs that register them, from main and
 * before the first Exec. */
void backend_register(ExecDevice device, BackendFinder *find);

#endif
