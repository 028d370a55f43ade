/* The operations a model is written in: for model authors.
 *
 * Sizes are those of training (a fused classifier, attention over packed samples, a LoRA linear),
 * not add and mul. Forward and backward stand side by side and the model calls both by hand. Rules
 * that hold everywhere:
 *   - outputs come first; gradients of activations are written (=), gradients of parameters
 * accumulate (+=), and where an activation gradient can accumulate the operation has a flag that
 * says so;
 *   - activations and weights have the compute type (f32, bf16; f16 on GPUs), sums are made in f32,
 * parameter gradients are f32;
 *   - letters: B samples, T rows (tokens of all samples, packed), C channels, H heads, D head size,
 * V vocabulary, P patches;
 *   - integer arrays (ids, positions, starts) live where the tensors live;
 *   - operations return nothing: the first failure sticks to the Exec and comes out of exec_status,
 * which the model asks once a pass. Wrong shapes are broken invariants (CHECK). */
#ifndef CADVLM_OPS_OPS_H
#define CADVLM_OPS_OPS_H

#include <stdbool.h>

#include "config/choices.h"
#include "ops/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- where operations run ---- */

/* A backend with its threads or streams. One Exec is used by one thread. */
typedef struct Exec Exec;

typedef enum ExecDevice { EXEC_CPU, EXEC_CUDA } ExecDevice;

/* To be called first thing in main. Threads of the CPU backend that wait for work must soon sleep
 * rather than spin, which their library (libgomp) only learns from the environment, when it is
 * loaded: this starts the program once more with that set, and returns in the second run. Measured:
 * on two busy processors a step of the demo model takes 0.2 s so, and 3.5 s with the library's own
 * setting; on idle ones there is no difference. */
void exec_settle_process(char **argv);

/* `index`: threads of the CPU backend, at least 1; which GPU for EXEC_CUDA, from 0. EXEC_CUDA is
 * ERR_UNSUPPORTED where this build has none, ERR_DEVICE where the machine has none. */
Err exec_open(Exec **ex, ExecDevice device, int index);
void exec_close(Exec **ex);

/* Whether this build has a backend for the device at all. */
bool exec_is_built(ExecDevice device);

/* How many GPUs this process can use; 0 where the build, the driver or the machine has none (then
 * `why`, if given, is a sentence). */
int exec_device_count(const char **why);

ExecDevice exec_device(const Exec *ex);

/* Whether device memory is the host's: then pointers need no copying. */
static inline bool exec_is_host(const Exec *ex) {
    return exec_device(ex) == EXEC_CPU;
}

/* Matrix products so far, and how they were done. */
typedef struct ProductCounts {
    int64_t products;
    int64_t planned; /* times that the library was asked how; costs the host's time */
    int64_t unfused; /* products whose epilogue (bias, GELU) the library could not do with them */
    int64_t plain;   /* products that it could not do: a plain kernel did, slowly */
    int64_t refused; /* algorithms that it had offered and refused to run */
} ProductCounts;

/* All 0 on the CPU. */
ProductCounts exec_product_counts(const Exec *ex);

/* The cudaStream_t that operations run on; NULL on the CPU. */
void *exec_stream(const Exec *ex);

Err exec_status(Exec *ex); /* the first failure since the last call; clears it */

/* A dry pass: from now on operations check their shapes and do nothing, so that a model can lay out
 * its memory by running over tensors without data. */
void exec_set_dry(Exec *ex, bool dry);

/* After dry passes: allocates the scratch memory that the operations said they will need, so that
 * nothing is allocated later. */
Err exec_settle_scratch(Exec *ex);

/* "cpu (oneDNN 2.6.3, AVX-512 BF16, 2 threads)" */
const char *exec_description(const Exec *ex);

/* bf16 where the device multiplies it, else f32. */
DType exec_fast_dtype(const Exec *ex);

/* Whether the device computes in that type: its products as well as all the rest. On the CPU bf16
 * takes a processor that multiplies it. */
bool exec_has_dtype(const Exec *ex, DType dtype);

/* Rows of logits that are worth having at a time. */
int exec_logit_rows(const Exec *ex, int64_t vocab);

/* FLOP/s of a plain product of the fast type, measured now (about 0.1 s): the ceiling that "mfu" is
 * a share of. On the CPU it is oneDNN's own, 1024³ into f32, with its own threading; on a GPU
 * cuBLASLt's, of random numbers, as large as takes a millisecond. */
double exec_peak_flops(Exec *ex);

/* The same by the maker's datasheet; 0: unknown. */
double exec_datasheet_flops(const Exec *ex);

/* Memory of the device. exec_alloc gives zeroed memory, aligned to 64 bytes; NULL when there is
 * none left. */
void *exec_alloc(Exec *ex, size_t bytes);
void exec_free(Exec *ex, void *memory, size_t bytes);
void exec_upload(Exec *ex, void *device, const void *host, size_t bytes);
void exec_download(Exec *ex, void *host, const void *device,
                   size_t bytes); /* waits for the work before it */
void exec_zero(Exec *ex, void *device, size_t bytes);
void exec_copy(Exec *ex, void *to, const void *from, size_t bytes); /* inside the device */
void exec_wait(Exec *ex); /* until all work is done; errors of the device are in exec_status then */

/* Memory of the device: all of it, and what is free now. Zeros on the CPU. */
void exec_memory(Exec *ex, size_t *total, size_t *available);

/* Bytes that operations have for themselves, after exec_settle_scratch; 0 on the CPU. */
size_t exec_scratch_bytes(const Exec *ex);

/* `bytes` of the host to fill with what the next exec_send uploads without waiting. There are two
 * such blocks in turn: waits until the send before last is done. NULL when there is no memory. */
void *exec_stage(Exec *ex, size_t bytes);
void exec_send(Exec *ex, void *device, size_t bytes);

/* Graphs: what is between exec_graph_capture_begin and exec_graph_capture_end may later be done
 * again by one exec_graph_launch, without what it costs the host to ask for it piece by piece (CUDA
 * graphs). It must be the same work on the same memory each time; what lies there may differ. The
 * first time under a key captures nothing but is a warm-up, in which what will be reused is built.
 * One key at a time: another key forgets the one before. On the CPU nothing is captured. */
bool exec_graph_launch(Exec *ex, uint64_t key); /* false: there is no graph; do the work */
void exec_graph_capture_begin(Exec *ex, uint64_t key);
void exec_graph_capture_end(Exec *ex);
/* Forgets the graph: its memory goes. */
void exec_graph_forget(Exec *ex);

/* Moments of the device's work, numbered from 0: exec_event_record notes one, exec_event_seconds
 * gives the time between two of them, after exec_wait. exec_events makes room for `count`. */
Err exec_events(Exec *ex, int count);
void exec_event_record(Exec *ex, int event);
double exec_event_seconds(Exec *ex, int from, int to);

/* Names what is done until exec_range_end, in the timeline of a profiler. */
void exec_range_begin(Exec *ex, const char *name);
void exec_range_end(Exec *ex);

/* ---- matrix products ---- */

/* y[T,N] = x[T,K] · w[N,K]ᵀ + bias[1,N] (bias may be none). */
void op_linear_fwd(Exec *ex, Tensor y, Tensor x, Tensor w, Tensor bias);

/* f = x · wᵀ + bias;  g = act(f). f (kept for backward) may be none. */
void op_linear_act_fwd(Exec *ex, Tensor g, Tensor f, Tensor x, Tensor w, Tensor bias,
                       Activation kind);

/* dx[T,K] = dy[T,N] · w[N,K], or += with `accumulate`. */
void op_linear_bwd_x(Exec *ex, Tensor dx, Tensor dy, Tensor w, bool accumulate);

/* dw[N,K] += dyᵀ · x;  dbias[1,N] += Σ_rows dy (either may be none). f32. */
void op_linear_bwd_w(Exec *ex, Tensor dw, Tensor dbias, Tensor dy, Tensor x);

/* Dropout: element (row, col) is kept with probability 1 - p and then divided by it; the mask is a
 * pure function of `key` and place, so that the backward pass draws it again. p = 0: none. */
typedef struct Dropout {
    float p;
    uint64_t key;
} Dropout;

/* An adapter of a linear [N,K] (LoRA, Hu et al. 2021) of rank r. */
typedef struct Lora {
    Tensor a, b; /* a[r,K], b[N,r] */
    float scale;
    Dropout dropout; /* of x on its way to a */
} Lora;

/* xa[T,r] = scale · dropout(x)[T,K] · aᵀ;  y[T,N] += xa · bᵀ. xa is kept for backward. */
void op_lora_fwd(Exec *ex, Tensor y, Tensor xa, Tensor x, const Lora *lora);

/* xa alone, where backward needs it again. */
void op_lora_down(Exec *ex, Tensor xa, Tensor x, const Lora *lora);

/* g[T,r] = scale · dy · b;  db[N,r] += dyᵀ · xa;  da[r,K] += gᵀ · dropout(x);  dx +=
 * dropout'(g · a). dx may be none. g has the compute type; nobody needs it afterwards. */
void op_lora_bwd(Exec *ex, Tensor dx, Tensor da, Tensor db, Tensor g, Tensor dy, Tensor xa,
                 Tensor x, const Lora *lora);

/* A linear with an adapter: xa as above;  y[T,N] = x[T,K] · w[N,K]ᵀ + bias[1,N] + xa · bᵀ. Where xa
 * lies behind x (in the same rows of memory) and b behind w, that is one product of K + r terms,
 * and y is written once. */
void op_linear_lora_fwd(Exec *ex, Tensor y, Tensor xa, Tensor x, Tensor w, Tensor bias,
                        const Lora *lora);

/* g, db and da as above;  dx = dy · w + dropout'(g · a), or += with `accumulate`. Where nothing is
 * dropped, g lies behind dy, and a lies below w (in its next rows), dx is one product of N + r
 * terms. dx may be none. w and bias are frozen. */
void op_linear_lora_bwd(Exec *ex, Tensor dx, bool accumulate, Tensor da, Tensor db, Tensor g,
                        Tensor dy, Tensor xa, Tensor x, Tensor w, const Lora *lora);

/* w[N,K] += scale · b[N,r] · a[r,K], all f32. */
void op_lora_merge(Exec *ex, Tensor w, Tensor a, Tensor b, float scale);

/* ---- norms, fused with the residual stream ---- */

/* sum = h + delta (delta none: sum is not written and h is normalised);  out = sum / rms(sum) ·
 * (w_offset + w); the offset is 0, or 1 (Gemma). rstd[T,1] (f32) is kept for backward and may be
 * none. Root mean square norm: Zhang & Sennrich 2019. */
void op_rmsnorm_fwd(Exec *ex, Tensor out, Tensor sum, Tensor rstd, Tensor h, Tensor delta, Tensor w,
                    float w_offset, float eps);

/* dh (+)= the gradient through the norm at its input h;  dw[1,C] += (may be none). */
void op_rmsnorm_bwd(Exec *ex, Tensor dh, bool accumulate, Tensor dw, Tensor dout, Tensor h,
                    Tensor rstd, Tensor w, float w_offset);

/* The same with mean and bias (Ba et al. 2016); stats[T,2] = mean, 1/σ (f32). Backward: dh may be
 * dout where it does not accumulate. */
void op_layernorm_fwd(Exec *ex, Tensor out, Tensor sum, Tensor stats, Tensor h, Tensor delta,
                      Tensor w, Tensor bias, float eps);
void op_layernorm_bwd(Exec *ex, Tensor dh, bool accumulate, Tensor dw, Tensor dbias, Tensor dout,
                      Tensor h, Tensor stats, Tensor w);

/* out = a + b. */
void op_add(Exec *ex, Tensor out, Tensor a, Tensor b);

/* out = factor · x; out may be x. */
void op_scale(Exec *ex, Tensor out, Tensor x, float factor);

/* out = dropout(x), or += with `accumulate`; out may be x. Backward is the same over gradients. */
void op_dropout(Exec *ex, Tensor out, Tensor x, Dropout dropout, bool accumulate);

/* ---- attention ---- */

typedef struct RopeSpec {
    int heads_q, heads_k, head_dim;
    int rotary_dim;     /* the first so many of each head turn, in halves (NeoX style); 0: none */
    const float *table; /* [positions, rotary_dim]: cos of rotary_dim/2 angles, then sin */
    const int32_t *positions; /* [T] */
    float eps;                /* of the QK norm */
} RopeSpec;

/* Fills table[positions, rotary_dim] for RopeSpec (host memory); angles = position ·
 * theta^(-2i/rotary_dim) (Su et al. 2021). */
void rope_table(float *table, int positions, int rotary_dim, double theta);

/* Query and key heads of qkv[T, ≥(Hq+Hk)·D], normalised per head by its root mean square where wq,
 * wk[1,D] are given, then turned by their position: qk[T,(Hq+Hk)·D]. rstd[T,Hq+Hk] (f32; none
 * without norm) is kept for backward. */
void op_qk_rope_fwd(Exec *ex, Tensor qk, Tensor rstd, Tensor qkv, Tensor wq, Tensor wk,
                    const RopeSpec *spec);
/* dqkv's first (Hq+Hk)·D columns are written; dwq, dwk[1,D] += (may be none). */
void op_qk_rope_bwd(Exec *ex, Tensor dqkv, Tensor dwq, Tensor dwk, Tensor dqk, Tensor qkv,
                    Tensor rstd, Tensor wq, Tensor wk, const RopeSpec *spec);

typedef struct AttentionSpec {
    int sequences, heads_q, heads_k, head_dim; /* query head h uses key head h / (Hq/Hk) */
    const int32_t *starts_q;                   /* [sequences+1] first query row of each sequence */
    const int32_t
        *starts_k; /* the same for keys (without lengths_k, starts_k[i+1] ends sequence i) */
    const int32_t *lengths_k; /* [sequences] keys of each, or NULL; rows behind them get no
                                 gradient: zero is written */
    int longest_q, longest_k;
    bool causal; /* aligned at the end: query i of n sees the first keys - n + i + 1 keys */
    float scale;
} AttentionSpec;

/* out[T,Hq·D] = softmax(scale · q · kᵀ) · v per sequence and head; lse[T,Hq] (f32): log of the sum
 * of exponentials, kept for backward (none: not kept). */
void op_attention_fwd(Exec *ex, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                      const AttentionSpec *spec);
void op_attention_bwd(Exec *ex, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor out,
                      Tensor lse, Tensor q, Tensor k, Tensor v, const AttentionSpec *spec);

/* ---- activations ---- */

/* Backward: dx may be dout. */
void op_act_fwd(Exec *ex, Tensor out, Tensor x, Activation kind);
void op_act_bwd(Exec *ex, Tensor dx, Tensor dout, Tensor x, Activation kind);

/* Gated: out[T,F] = act(x[:, :F]) · x[:, F:2F]  (SwiGLU for ACTIVATION_SILU; Shazeer 2020). */
void op_glu_fwd(Exec *ex, Tensor out, Tensor x, Activation kind);
void op_glu_bwd(Exec *ex, Tensor dx, Tensor dout, Tensor x, Activation kind);

/* ---- pictures, tokens, rows ---- */

typedef struct PatchSpec {
    int images, image_size, channels,
        patch;             /* image_size / patch rows of patches; the rest is ignored */
    float mean[3], std[3]; /* of pixels in 0 … 1 */
} PatchSpec;

/* pixels [images, S, S, channels] (u8) to patches [images · P, channels · patch²], channel by
 * channel, (x/255 - mean) / std. */
void op_patchify(Exec *ex, Tensor patches, const uint8_t *pixels, const PatchSpec *spec);

/* x[n·P,C] += table[P,C] for each of n pictures;  dtable += Σ dx. */
void op_add_positions(Exec *ex, Tensor x, Tensor table);
void op_add_positions_bwd(Exec *ex, Tensor dtable, Tensor dx);

/* out[t] = table[ids[t]], or features[-1 - ids[t]] where ids[t] < 0: embedding and image splice in
 * one. */
void op_embed_fwd(Exec *ex, Tensor out, const int32_t *ids, Tensor table, Tensor features);
/* dtable[ids[t]] += dout[t] (f32), dfeatures[-1 - ids[t]] = dout[t]; either may be none. Each
 * feature row is used at most once. */
void op_embed_bwd(Exec *ex, Tensor dtable, Tensor dfeatures, Tensor dout, const int32_t *ids);

/* out[i] = x[rows[i]]. */
void op_gather_rows(Exec *ex, Tensor out, Tensor x, const int32_t *rows);
/* out[rows[i]] = x[i]; rows are distinct. */
void op_put_rows(Exec *ex, Tensor out, Tensor x, const int32_t *rows);
/* The same, with zero in all other rows. */
void op_scatter_rows(Exec *ex, Tensor out, Tensor x, const int32_t *rows);

/* ---- loss ---- */

/* For each row i of logits[n,V]: loss[i] = -log softmax(logits[i])[targets[i]] (f32, [1,n]),
 * hits[i] = 1 where the target has the largest logit, else 0 (none: not asked). With `gradient`,
 * logits become *gradient · (softmax - onehot): the gradient of the sum of the losses, times a
 * factor in device memory (the loss scale of fp16; else 1). */
void op_cross_entropy(Exec *ex, Tensor loss, Tensor hits, Tensor logits, const int32_t *targets,
                      const float *gradient);

/* Sums over the labels of a batch; in device memory. */
typedef struct LossSum {
    double loss;
    int64_t hits;
} LossSum;

/* *out = the sums of loss[1,n] and hits[1,n], always in the same order. */
void op_sum_loss(Exec *ex, LossSum *out, Tensor loss, Tensor hits);

/* best[i] = argmax of logits[i] (the first of equals), probability[i] (f32) = its softmax. */
void op_argmax(Exec *ex, int32_t *best, float *probability, Tensor logits);

/* ---- parameters ---- */

/* What an update depends on. It lies in device memory and is decided there, so that a step asks the
 * device for nothing. */
typedef struct UpdateState {
    double grad_norm;   /* of the mean gradient, before clipping; not finite: no update */
    int64_t updates;    /* taken so far: the exponent of the bias correction */
    float loss_scale;   /* what losses are multiplied by before backward; 1 but for fp16 */
    float grad_scale;   /* what gradients are multiplied by: 1 / labels, / loss scale, clipping */
    int32_t stepped;    /* whether this step's update is taken */
    int32_t good_steps; /* since the loss scale was changed, or a step skipped */
    int32_t patience;   /* skipped steps left before the loss scale is halved */
} UpdateState;

typedef struct UpdateSpec {
    double labels;   /* that the summed gradients are of */
    double max_norm; /* 0: gradients are not clipped */
    /* Dynamic loss scale (DeepSpeed's rules): doubled after `window` good steps, halved when
     * `hysteresis` steps had to be skipped, never under `least_scale`. window 0: it stays as it is.
     */
    int window, hysteresis;
    double least_scale;
} UpdateSpec;

/* Norm of the summed gradients (in fixed chunks: the same bits each time), whether to take the
 * step, and by what to multiply. */
void op_update_begin(Exec *ex, UpdateState *state, const float *grads, int64_t count,
                     const UpdateSpec *spec);

/* One run of parameters that share weight decay and learning rate. */
typedef struct AdamwSegment {
    int64_t first, count; /* in the flat arrays; segments are in order and cover them */
    float weight_decay, lr_scale;
    void *copy; /* the compute-type copy that the model reads, or NULL: rows of `cols` elements,
                   `stride` apart */
    int64_t cols, stride;
    DType copy_dtype;
} AdamwSegment;

typedef struct AdamwSpec {
    double lr, beta1, beta2, eps;
} AdamwSpec;

/* Decoupled weight decay (Loshchilov & Hutter 2019) over all segments, if state->stepped; master,
 * grad, m, v: f32[count]. `segments` lie in device memory. */
void op_adamw(Exec *ex, float *master, const float *grad, float *m, float *v, int64_t count,
              const AdamwSegment *segments, int segment_count, const AdamwSpec *spec,
              const UpdateState *state);

/* dst += src, f32. */
void op_accumulate(Exec *ex, float *dst, const float *src, int64_t count);

/* dst = src in another type (f32, bf16, f16); shapes equal. */
void op_convert(Exec *ex, Tensor dst, Tensor src);

#ifdef __cplusplus
}
#endif

#endif
