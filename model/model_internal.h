/* The inside of a Model, shared by the files of this module. */
#ifndef CADVLM_MODEL_MODEL_INTERNAL_H
#define CADVLM_MODEL_MODEL_INTERNAL_H

#include "core/arena.h"
#include "model/model.h"

enum { LINEAR_MODULES = 3 }; /* q, k and v of the vision tower are one product and three modules */

/* One linear layer: possibly several modules of the file side by side, each with its adapter. */
typedef struct Linear {
    Component component;
    ParamId weight, bias; /* of the first module; the others are joined to it */
    int modules;
    int64_t in, out; /* out: of all modules together */
    struct LinearAdapter {
        ParamId a, b;
        int64_t r, first, count; /* columns of y */
        float scale;
    } lora[LINEAR_MODULES];
    int lora_count;
} Linear;

/* A module of a linear, as files call it. */
typedef struct Module {
    const char *name;
    int64_t out;
} Module;

/* What an adapter keeps for backward: scale · dropout(x) · aᵀ, one for each. It lies behind x (then
 * adapter and linear are one product), or is saved from there where x is made again. */
typedef struct LoraActs {
    Tensor xa[LINEAR_MODULES], saved[LINEAR_MODULES];
} LoraActs;

typedef struct Norm {
    ParamId w, b; /* b: only of a LayerNorm; no w: no norm */
    NormKind kind;
    float eps;
} Norm;

typedef struct VisionLayer {
    int64_t first; /* of its trained parameters, in the flat arrays */
    Norm norm1, norm2;
    Linear qkv, out, fc1, fc2;
} VisionLayer;

typedef struct DecoderLayer {
    int64_t first; /* of its trained parameters, in the flat arrays */
    int heads_q, heads_k;
    int64_t ffn;
    Norm attn_norm, ffn_norm; /* a parallel block has the first alone */
    ParamId q_norm, k_norm;
    Linear qkv, out, up, down; /* up: gate and up of a gated MLP */
} DecoderLayer;

typedef struct VisionActs {
    Tensor h, n1, stats1, qkv, att, lse, h2, n2, stats2, f1, g;
    LoraActs l_qkv, l_out, l_fc1, l_fc2;
} VisionActs;

typedef struct DecoderActs {
    Tensor h, n1, stats1, qkv, qk, rstd_qk;
    Tensor q; /* queries of the rows behind attention */
    Tensor att, lse, h2, n2, stats2, gu, s;
    LoraActs l_qkv, l_out, l_up, l_down;
} DecoderActs;

/* Sizes of one batch. */
typedef struct Dims {
    int images, samples, tokens, labels;
    int active; /* rows of the last layer, see ActiveRows */
} Dims;

/* The rows that the last layer is computed for: of each sample those from its first label to its
 * last. No other row of that layer reaches the loss but through its keys and values. */
typedef struct ActiveRows {
    int count, longest;
    const int32_t *rows;      /* [count] */
    const int32_t *starts;    /* [samples + 1] first active row of each sample, among the active */
    const int32_t *lengths_k; /* [samples] keys that its last active row sees */
    const int32_t *labels;    /* [labels] label rows, among the active */
} ActiveRows;

/* Key-value cache of one decoder layer: [samples · capacity, Hk · D] each. */
typedef struct CacheLayer {
    Tensor k, v;
} CacheLayer;

struct Model {
    Exec *ex;
    ModelSpec spec;
    DType dtype;
    Params params;

    Linear patch;
    ParamId class_row, positions;
    Norm pre_norm;
    VisionLayer *vision;
    Norm connector_norm;
    Linear connector_1, connector_2;
    ParamId embedding, head_w, head_b; /* head_w: the embedding where they are tied */
    Norm final_norm;
    DecoderLayer *layers;

    struct SafeTensors *mapped; /* mapped file, or NULL */
    void **converted;           /* [store_own_count] memory of what could not be used in the file */
    int converted_count;
    size_t converted_bytes, mapped_bytes;

    int64_t first_connector, first_llm; /* of their trained parameters, in the flat arrays */
    const GradHook *hook;               /* of the backward pass under way, or NULL */
    int64_t final_from;                 /* gradients from here on are announced */

    float *rope;    /* device: [max_positions, rotary_dim] */
    int rotary_dim; /* channels of a head that turn */
    int patches;    /* of a picture */
    int tower_rows; /* the same with the class row */

    /* Activations. They are laid out in the arena in the order of the forward pass, anew for each
     * batch. */
    Arena arena;
    void *memory;
    ModelLimits limits;
    int32_t *vision_starts; /* device: [images + 1] */
    int32_t *kept_patches;  /* device: rows of the tower that reach the connector */
    int32_t *class_ids;     /* device: of each row of the tower: 0 the class row, -1 - k patch k */

    /* The batch under way with its arrays on the device; where that is the host, the caller's own.
     */
    Batch batch;
    ActiveRows active; /* likewise */
    char *batch_memory;
    size_t batch_bytes;
    int32_t *active_memory; /* host */

    float *one;              /* device: 1 */
    const float *loss_scale; /* device: what the loss is multiplied by before backward */
    LossSum *loss_sum;       /* device: of the last forward, for model_loss */

    Dims dims;
    uint64_t dropout_key; /* of this batch */
    bool training;
    Tensor
        branch; /* what a branch adds to the stream next, scratch of the tower and of the decoder */
    Tensor stream;     /* the stream behind a layer, where layers do not keep it */
    Tensor patch_rows; /* [images · P, channels · patch²], kept where the tower is trained whole */
    Tensor tower_in, tower_stats; /* before the tower's first norm, likewise */
    Tensor vision_out;            /* the tower's end: [images · tower_rows, W] */
    Tensor connector_in, connector_n, connector_stats, connector_f, connector_g, features;
    VisionActs *vision_acts;
    DecoderActs *acts;
    Tensor last_h, last_stats; /* label rows at the final norm */
    Tensor d_last;             /* gradient at the final norm's output, label rows */
    Tensor loss, hits;
};

/* ---- init.c ---- */

/* The standard deviation that a matrix of a small model starts with (docs/models.md): shrinks with
 * the fan-in, less at the ends of branches (`residual`). */
float init_scale_of(int64_t fan_in, bool residual);

/* ---- linear.c ---- */

void linear_declare(Model *model, Linear *linear, Component component, const Module *modules,
                    int count, int64_t in, bool bias, bool adapters, float init_scale);
/* Memory for what a linear reads, x[rows, in], and for its adapters' xa, which then are in no other
 * memory. */
Tensor take_input(Model *model, const Linear *linear, int64_t rows, LoraActs *acts);
/* Memory for xa alone, where x belongs to another linear; and to save it in, where x does not last.
 */
void take_adapters(Model *model, const Linear *linear, int64_t rows, LoraActs *acts);
void take_saved(Model *model, const Linear *linear, int64_t rows, LoraActs *acts);
void save_adapters(Model *model, const Linear *linear, LoraActs *acts);
void use_saved(const Linear *linear, LoraActs *acts);
void linear_forward(Model *model, const Linear *linear, Tensor y, Tensor x, const LoraActs *acts);
/* What backward needs of a forward pass, without y. */
void linear_forward_kept(Model *model, const Linear *linear, Tensor x, const LoraActs *acts);
/* f = linear(x);  g = act(f). f may be none where the linear has no adapters: then it is not kept.
 */
void linear_act_forward(Model *model, const Linear *linear, Tensor g, Tensor f, Tensor x,
                        const LoraActs *acts, Activation kind);
/* dx may be none: the caller is the first trainable thing. Where dy has room behind its rows
 * (take_roomy), an adapter's gradient goes there. */
void linear_backward(Model *model, const Linear *linear, Tensor dx, bool accumulate, Tensor dy,
                     Tensor x, const LoraActs *acts);
/* The largest rank of a linear's adapters. */
int64_t linear_room(const Linear *linear);
/* The mask of a dropout of this batch; `id`: a parameter's, so that no two are alike. */
Dropout dropout_of(const Model *model, double p, ParamId id);

/* ---- vision.c ---- */

void vision_declare(Model *model);
void connector_declare(Model *model);
/* The batch's pixels → model->features. */
void vision_forward(Model *model);
/* d_features → gradients of connector and tower. */
void vision_backward(Model *model, Tensor d_features);
/* Whether something at or below the features is trained. */
bool features_need_gradient(const Model *model);

/* ---- files/mapped_weights.c ---- */

void mapped_weights_close(Model *model);

/* ---- batch_upload.c ---- */

/* Room for the arrays of the largest batch. */
Err batch_upload_open(Model *model);
void batch_upload_close(Model *model);
/* Puts a batch of host memory on the device: model->batch. Does not wait. */
Err batch_upload(Model *model, const Batch *batch);
/* Its pictures alone. */
Err batch_upload_pixels(Model *model, const Batch *batch);

/* ---- decoder.c ---- */

void decoder_declare(Model *model);
void decoder_forward(Model *model);
void decoder_backward(Model *model);
/* One pass for generation: embeds `ids`, appends keys and values to the caches at rows cache_rows,
 * and returns the final norm's output at `out_rows` (device indices into the rows of this pass). */
typedef struct CachePass {
    CacheLayer *layers;
    int rows, sequences, outputs, longest_q, longest_k;
    const int32_t *ids, *positions, *cache_rows, *starts_q, *starts_k, *lengths_k, *out_rows;
} CachePass;
Tensor decoder_cached(Model *model, const CachePass *pass);

/* ---- norm.c ---- */

/* name.weight, and name.bias of a LayerNorm. */
Norm norm_declare(Model *model, Component component, NormKind kind, const char *name,
                  int64_t width);
/* Columns of a norm's statistics. */
int norm_stats(Norm norm);
/* Arguments as in op_rmsnorm_fwd and _bwd. */
void norm_forward(Model *model, Norm norm, Tensor out, Tensor sum, Tensor stats, Tensor h,
                  Tensor delta);
void norm_backward(Model *model, Norm norm, Tensor dh, bool accumulate, Tensor dout, Tensor h,
                   Tensor stats);

/* ---- decoder_layer.c ---- */

void decoder_layer_declare(Model *model, DecoderLayer *layer, int index);
/* Takes the stream h and what the branch before gave (delta, none at first), and returns both
 * anew. */
void decoder_layer_forward(Model *model, int index, Tensor *h, Tensor *delta);
/* The same over a key-value cache. */
void decoder_layer_cached(Model *model, int index, const CachePass *pass, Tensor *h, Tensor *delta);
/* Scratch of the backward pass, as wide as the widest layer. Gradients of what a linear gives have
 * room for its adapter's. */
typedef struct DecoderGrads {
    Tensor dh, dgu, dqkv;
    Tensor dn, ds, dqk, datt;
    Tensor d_active, dq_active, dn_active; /* of the last layer */
    Tensor d_branch;                       /* dh behind a dropout; none without */
    int64_t room;
} DecoderGrads;
DecoderGrads decoder_grads_take(Model *model);
/* From the gradient of the stream behind the layer (g->dh; of the last layer g->d_active) to that
 * of the stream before it (g->dh). `below`: somebody needs it. */
void decoder_layer_backward(Model *model, int index, const DecoderGrads *g, bool below);

/* ---- classifier.c ---- */

void classifier_declare(Model *model);
/* The loss of the label rows, and with training its gradient at the final norm's output. */
void classifier_forward(Model *model, Tensor h, Tensor delta);
/* → d_active, the gradient of the stream behind the last layer. */
void classifier_backward(Model *model, Tensor d_active);
/* Columns behind the vocabulary's that make rows of logits, and the head below its own, whole
 * pieces of 16 bytes on a GPU: products of an odd vocabulary (32,001) are slow there. */
int64_t vocab_padding(const Model *model);
/* Memory for logits[rows, vocab], with room for the padding. */
Tensor take_logits(Model *model, int64_t rows);
/* out[rows, vocab], of take_logits, of n[rows, width]. */
void classifier_logits(Model *model, Tensor out, Tensor n);

/* Calls the hook: the gradients from `first` on are final, as far as it has not been called for
 * them. */
static inline void announce_gradients(Model *model, int64_t first) {
    if (!model->hook || first >= model->final_from) return;
    model->hook->ready(model->hook->context, first, model->final_from - first);
    model->final_from = first;
}

static inline Tensor value_of(const Model *model, ParamId id) {
    return id == PARAM_NONE ? tensor_none() : param_value(&model->params, id);
}

static inline Tensor grad_of(const Model *model, ParamId id) {
    return id == PARAM_NONE ? tensor_none() : param_grad(&model->params, id);
}

/* Activation memory, for this batch, or until the caller releases the arena to a mark. */
static inline Tensor take(Model *model, DType dtype, int64_t rows, int64_t cols) {
    return tensor(arena_take(&model->arena, (size_t)(rows * cols) * dtype_size(dtype)), dtype, rows,
                  cols);
}

static inline Tensor take_act(Model *model, int64_t rows, int64_t cols) {
    return take(model, model->dtype, rows, cols);
}

/* Scratch of as many rows as the largest need, cut to `rows`; dense scratch cut to `cols`. */
static inline Tensor first_rows(Tensor t, int64_t rows) {
    return tensor_rows(t, 0, rows);
}

static inline Tensor first_cols(Tensor t, int64_t cols) {
    return tensor(t.data, t.dtype, t.rows, cols);
}

/* The first `cols` columns of rows that have `room` more behind them. */
static inline Tensor take_roomy(Model *model, int64_t rows, int64_t cols, int64_t room) {
    return tensor_cols(take_act(model, rows, roomy_stride(model->dtype, cols, room)), 0, cols);
}

#endif
