/* One layer of the decoder, as its config describes it, forward and backward.
 *
 * One after the other (OpenELM, Llama, Gemma):  h += out(attn(norm₁ h));  h += mlp(norm₂ h).
 * Parallel (Phi):  h += out(attn(norm₁ h)) + mlp(norm₁ h).
 * The MLP is down(act(gate) · up) or down(act(up)). Each norm first adds what the branch before it
 * gave (delta). The last layer has queries, and all that follows them, for the active rows alone
 * (ActiveRows): exact, since nothing reads the others.
 *
 * What a layer keeps for backward comes in three classes, laid out in this order: the stream at its
 * entry; what a matrix product or attention gave; what is cheap to make again (norms, rotation,
 * activation). Checkpointing (ModelSpec) decides how many of them survive the layer; backward then
 * makes the others again with the same operations in the same memory layout, so that all levels
 * give the same bits. */
#include <math.h>
#include <stdio.h>

#include "model/model_internal.h"

/* ---- parameters ---- */

/* How files call a layer's modules; NULL: it has none of the name. */
typedef struct Names {
    const char *layer, *attn_norm, *ffn_norm, *q_norm, *k_norm;
    const char *qkv[3], *out, *up[2], *down;
} Names;

static const Names NAMES[] = {
    [NAMES_OPENELM] = {"language_model.transformer.layers",
                       "attn_norm",
                       "ffn_norm",
                       "attn.q_norm",
                       "attn.k_norm",
                       {"attn.qkv_proj"},
                       "attn.out_proj",
                       {"ffn.proj_1"},
                       "ffn.proj_2"},
    [NAMES_LLAMA] = {"language_model.model.layers",
                     "input_layernorm",
                     "post_attention_layernorm",
                     "self_attn.q_norm",
                     "self_attn.k_norm",
                     {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                     "self_attn.o_proj",
                     {"mlp.gate_proj", "mlp.up_proj"},
                     "mlp.down_proj"},
    [NAMES_PHI] = {"language_model.model.layers",
                   "input_layernorm",
                   "post_attention_layernorm",
                   NULL,
                   NULL,
                   {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                   "self_attn.dense",
                   {"mlp.fc1", "mlp.gate_proj"},
                   "mlp.fc2"},
};

static int64_t of_layer(const IntList *list, int layer) {
    return list->values[list->count == 1 ? 0 : layer];
}

typedef char Name[PARAM_NAME];

static const char *name_of(Name out, const Names *names, int index, const char *module) {
    snprintf(out, sizeof(Name), "%s.%d.%s", names->layer, index, module);
    return out;
}

/* A linear whose modules have the names and widths given; one name for all where files join them.
 */
static void declare_linear(Model *model, Linear *linear, int index, const char *const *components,
                           const int64_t *outs, int count, int64_t in, bool residual) {
    const LlmConfig *c = &model->spec.llm;
    Name names[LINEAR_MODULES];
    Module modules[LINEAR_MODULES] = {0};
    int separate = 0;
    for (int i = 0; i < count; i++) {
        if (i == 0 || components[i]) {
            name_of(names[separate], &NAMES[c->names], index, components[i]);
            modules[separate] = (Module){names[separate], 0};
            separate++;
        }
        modules[separate - 1].out += outs[i];
    }
    linear_declare(model, linear, COMPONENT_LLM, modules, separate, in, c->bias, true,
                   init_scale_of(in, residual));
}

void decoder_layer_declare(Model *model, DecoderLayer *layer, int index) {
    const LlmConfig *c = &model->spec.llm;
    const Names *n = &NAMES[c->names];
    int64_t d = c->head_dim;
    Name name;
    layer->first = model->params.trained;
    layer->heads_q = (int)of_layer(&c->q_heads, index);
    layer->heads_k = (int)of_layer(&c->kv_heads, index);
    layer->ffn = of_layer(&c->ffn, index);
    layer->attn_norm = norm_declare(model, COMPONENT_LLM, c->norm,
                                    name_of(name, n, index, n->attn_norm), c->width);
    layer->ffn_norm = (Norm){.w = PARAM_NONE};
    if (!c->parallel)
        layer->ffn_norm = norm_declare(model, COMPONENT_LLM, c->norm,
                                       name_of(name, n, index, n->ffn_norm), c->width);
    layer->q_norm = layer->k_norm = PARAM_NONE;
    if (c->qk_norm) { /* root mean square times the weight itself: op_qk_rope */
        name_of(name, n, index, n->q_norm);
        layer->q_norm = norm_declare(model, COMPONENT_LLM, NORM_RMS, name, d).w;
        name_of(name, n, index, n->k_norm);
        layer->k_norm = norm_declare(model, COMPONENT_LLM, NORM_RMS, name, d).w;
    }
    int64_t qkv[3] = {layer->heads_q * d, layer->heads_k * d, layer->heads_k * d},
            up[2] = {layer->ffn, layer->ffn};
    declare_linear(model, &layer->qkv, index, n->qkv, qkv, 3, c->width, false);
    declare_linear(model, &layer->out, index, &n->out, &c->width, 1, layer->heads_q * d, true);
    declare_linear(model, &layer->up, index, n->up, up, c->gated ? 2 : 1, c->width, false);
    declare_linear(model, &layer->down, index, &n->down, &c->width, 1, layer->ffn, true);
}

/* ---- shapes ---- */

static bool is_last(const Model *model, const DecoderLayer *layer) {
    return layer == &model->layers[model->spec.llm.layers - 1];
}

/* Rows behind the attention of a layer. */
static int64_t rows_behind(const Model *model, const DecoderLayer *layer) {
    return is_last(model, layer) ? model->dims.active : model->dims.tokens;
}

static RopeSpec rope_of(const Model *model, const DecoderLayer *layer, const int32_t *positions) {
    const LlmConfig *c = &model->spec.llm;
    return (RopeSpec){.heads_q = layer->heads_q,
                      .heads_k = layer->heads_k,
                      .head_dim = (int)c->head_dim,
                      .rotary_dim = model->rotary_dim,
                      .table = model->rope,
                      .positions = positions,
                      .eps = (float)c->norm_eps};
}

static AttentionSpec attention_of(const Model *model, const DecoderLayer *layer) {
    const Batch *batch = &model->batch;
    int head_dim = (int)model->spec.llm.head_dim;
    bool last = is_last(model, layer);
    return (AttentionSpec){.sequences = batch->samples,
                           .heads_q = layer->heads_q,
                           .heads_k = layer->heads_k,
                           .head_dim = head_dim,
                           .starts_q = last ? model->active.starts : batch->starts,
                           .starts_k = batch->starts,
                           .lengths_k = last ? model->active.lengths_k : NULL,
                           .longest_q = last ? model->active.longest : batch->longest,
                           .longest_k = batch->longest,
                           .causal = true,
                           .scale = 1.0f / sqrtf((float)head_dim)};
}

/* The columns of q (after norm and rotation), k and v. */
static Tensor queries(const Model *model, const DecoderLayer *layer, Tensor qk) {
    return tensor_cols(qk, 0, layer->heads_q * model->spec.llm.head_dim);
}

static Tensor keys(const Model *model, const DecoderLayer *layer, Tensor qk) {
    return tensor_cols(qk, layer->heads_q * model->spec.llm.head_dim,
                       layer->heads_k * model->spec.llm.head_dim);
}

static Tensor values(const Model *model, const DecoderLayer *layer, Tensor qkv) {
    int64_t d = model->spec.llm.head_dim;
    return tensor_cols(qkv, (layer->heads_q + layer->heads_k) * d, layer->heads_k * d);
}

/* ---- memory ---- */

/* What products and attention give. */
static void take_products(Model *model, const DecoderLayer *layer, DecoderActs *a, int64_t rows,
                          int64_t behind) {
    const LlmConfig *c = &model->spec.llm;
    a->stats1 = take(model, DT_F32, rows, norm_stats(layer->attn_norm));
    a->qkv = take_act(model, rows, layer->qkv.out);
    a->rstd_qk =
        c->qk_norm ? take(model, DT_F32, rows, layer->heads_q + layer->heads_k) : tensor_none();
    a->att = take_input(model, &layer->out, behind, &a->l_out);
    a->lse = model->training ? take(model, DT_F32, behind, layer->heads_q) : tensor_none();
    a->stats2 =
        c->parallel ? tensor_none() : take(model, DT_F32, behind, norm_stats(layer->ffn_norm));
    a->gu = take_act(model, behind, layer->up.out);
}

/* What is cheap to make of them. `pick`: the rows behind attention are some of all. */
static void take_cheap(Model *model, const DecoderLayer *layer, DecoderActs *a, int64_t rows,
                       int64_t behind, bool pick) {
    const LlmConfig *c = &model->spec.llm;
    a->n1 = take_input(model, &layer->qkv, rows, &a->l_qkv);
    a->qk = take_act(model, rows, (layer->heads_q + layer->heads_k) * c->head_dim);
    a->q =
        pick ? take_act(model, behind, layer->heads_q * c->head_dim) : queries(model, layer, a->qk);
    if (c->parallel && !pick) {
        a->n2 = a->n1;
        take_adapters(model, &layer->up, behind, &a->l_up);
    } else {
        a->n2 = take_input(model, &layer->up, behind, &a->l_up);
    }
    a->s = take_input(model, &layer->down, behind, &a->l_down);
}

/* Where adapters' xa of inputs that do not last are saved. */
static void take_saves(Model *model, const DecoderLayer *layer, DecoderActs *a, int64_t rows,
                       int64_t behind) {
    take_saved(model, &layer->qkv, rows, &a->l_qkv);
    take_saved(model, &layer->up, behind, &a->l_up);
    take_saved(model, &layer->down, behind, &a->l_down);
}

/* ---- forward ---- */

static void rotate(Model *model, const DecoderLayer *layer, DecoderActs *a,
                   const int32_t *positions) {
    RopeSpec rope = rope_of(model, layer, positions);
    op_qk_rope_fwd(model->ex, a->qk, a->rstd_qk, a->qkv, value_of(model, layer->q_norm),
                   value_of(model, layer->k_norm), &rope);
}

/* Norm, qkv product, QK norm and rotation: everything before attention. */
static void attention_inputs(Model *model, const DecoderLayer *layer, DecoderActs *a, Tensor h,
                             Tensor delta, const int32_t *positions) {
    norm_forward(model, layer->attn_norm, a->n1, a->h, a->stats1, h, delta);
    linear_forward(model, &layer->qkv, a->qkv, a->n1, &a->l_qkv);
    rotate(model, layer, a, positions);
}

static void activate(Model *model, DecoderActs *a) {
    const LlmConfig *c = &model->spec.llm;
    if (c->gated)
        op_glu_fwd(model->ex, a->s, a->gu, c->activation);
    else
        op_act_fwd(model->ex, a->s, a->gu, c->activation);
}

/* branch = dropout(branch): what attention or MLP adds to the stream. */
static void drop_branch(Model *model, Tensor branch, const Linear *linear) {
    Dropout dropout = dropout_of(model, model->spec.llm.residual_dropout, linear->weight);
    if (dropout.p > 0) op_dropout(model->ex, branch, branch, dropout, false);
}

/* Attention's output product and the MLP over the rows of `stream`: everything behind attention.
 * `n1`: the first norm's rows for them, of a parallel block. Leaves the stream in a->h2 (of a
 * parallel block it stays in `stream`) and the branches' sum in model->branch; without `whole` not
 * that, which nothing of backward reads. */
static void attention_outputs(Model *model, const DecoderLayer *layer, DecoderActs *a,
                              Tensor stream, bool whole) {
    const LlmConfig *c = &model->spec.llm;
    model->branch = first_rows(model->branch, stream.rows);
    if (whole || !c->parallel) {
        linear_forward(model, &layer->out, model->branch, a->att, &a->l_out);
        drop_branch(model, model->branch, &layer->out);
    } else {
        linear_forward_kept(model, &layer->out, a->att, &a->l_out);
    }
    if (!c->parallel)
        norm_forward(model, layer->ffn_norm, a->n2, a->h2, a->stats2, stream, model->branch);
    linear_forward(model, &layer->up, a->gu, a->n2, &a->l_up);
    activate(model, a);
    if (!whole) return linear_forward_kept(model, &layer->down, a->s, &a->l_down);
    size_t mark = arena_mark(&model->arena);
    Tensor out = c->parallel ? take_act(model, stream.rows, c->width) : model->branch;
    linear_forward(model, &layer->down, out, a->s, &a->l_down);
    drop_branch(model, out, &layer->down);
    if (c->parallel) op_add(model->ex, model->branch, model->branch, out);
    arena_release(&model->arena, mark);
}

/* The rows of the last layer that are needed: their queries, stream, and of a parallel block the
 * norm's rows. */
static void pick_rows(Model *model, const DecoderLayer *layer, DecoderActs *a, Tensor stream) {
    op_gather_rows(model->ex, a->q, queries(model, layer, a->qk), model->active.rows);
    if (model->spec.llm.parallel) op_gather_rows(model->ex, a->n2, a->n1, model->active.rows);
    op_gather_rows(model->ex, stream, a->h, model->active.rows);
}

/* The layer over the stream h + delta, written to a->h (h without delta). `stream`: the same for
 * the rows behind attention. Returns the stream behind the layer, short of model->branch. */
static Tensor compute(Model *model, const DecoderLayer *layer, DecoderActs *a, Tensor h,
                      Tensor delta, Tensor stream, bool whole) {
    attention_inputs(model, layer, a, h, delta, model->batch.positions);
    if (is_last(model, layer)) pick_rows(model, layer, a, stream);
    AttentionSpec spec = attention_of(model, layer);
    op_attention_fwd(model->ex, a->att, a->lse, a->q, keys(model, layer, a->qk),
                     values(model, layer, a->qkv), &spec);
    attention_outputs(model, layer, a, stream, whole);
    return model->spec.llm.parallel ? stream : a->h2;
}

void decoder_layer_forward(Model *model, int index, Tensor *h, Tensor *delta) {
    const DecoderLayer *layer = &model->layers[index];
    DecoderActs *a = &model->acts[index];
    Arena *arena = &model->arena;
    int64_t rows = h->rows, behind = rows_behind(model, layer), width = model->spec.llm.width;
    bool train = model->training, last = is_last(model, layer);
    Checkpointing level = train ? model->spec.checkpointing : CHECKPOINT_LAYERS;
    a->h = train && !tensor_is_none(*delta) ? take_act(model, rows, width) : *h;
    Tensor picked = last ? take_act(model, behind, width) : a->h;
    if (model->spec.llm.parallel) /* it has no stream between attention and MLP */
        a->h2 = tensor_none();
    else if (level != CHECKPOINT_LAYERS)
        a->h2 = take_act(model, behind, width);
    else /* in place, where backward does not need what was there */
        a->h2 = train && !last ? first_rows(model->stream, behind) : picked;
    size_t entry = arena_mark(arena);
    take_products(model, layer, a, rows, behind);
    if (level == CHECKPOINT_CHEAP) take_saves(model, layer, a, rows, behind);
    size_t products = arena_mark(arena);
    take_cheap(model, layer, a, rows, behind, last);

    *h = compute(model, layer, a, *h, *delta, picked, true);
    *delta = model->branch;
    if (level == CHECKPOINT_CHEAP) {
        save_adapters(model, &layer->qkv, &a->l_qkv);
        save_adapters(model, &layer->up, &a->l_up);
        save_adapters(model, &layer->down, &a->l_down);
        arena_release(arena, products);
    }
    if (level == CHECKPOINT_LAYERS) arena_release(arena, entry);
}

void decoder_layer_cached(Model *model, int index, const CachePass *pass, Tensor *h,
                          Tensor *delta) {
    const LlmConfig *c = &model->spec.llm;
    const DecoderLayer *layer = &model->layers[index];
    CacheLayer *cache = &pass->layers[index];
    size_t mark = arena_mark(&model->arena);
    DecoderActs a = {.h = *h, .h2 = *h};
    take_products(model, layer, &a, pass->rows, pass->rows);
    take_cheap(model, layer, &a, pass->rows, pass->rows, false);
    attention_inputs(model, layer, &a, *h, *delta, pass->positions);
    op_put_rows(model->ex, cache->k, keys(model, layer, a.qk), pass->cache_rows);
    op_put_rows(model->ex, cache->v, values(model, layer, a.qkv), pass->cache_rows);
    AttentionSpec spec = {.sequences = pass->sequences,
                          .heads_q = layer->heads_q,
                          .heads_k = layer->heads_k,
                          .head_dim = (int)c->head_dim,
                          .starts_q = pass->starts_q,
                          .starts_k = pass->starts_k,
                          .lengths_k = pass->lengths_k,
                          .longest_q = pass->longest_q,
                          .longest_k = pass->longest_k,
                          .causal = true,
                          .scale = 1.0f / sqrtf((float)c->head_dim)};
    op_attention_fwd(model->ex, a.att, tensor_none(), a.q, cache->k, cache->v, &spec);
    attention_outputs(model, layer, &a, a.h, true);
    *delta = model->branch;
    arena_release(&model->arena, mark);
}

/* ---- backward ---- */

/* The same with its room. */
static Tensor first_roomy(const DecoderGrads *g, Tensor t, int64_t cols) {
    t.cols = cols;
    t.stride = roomy_stride(t.dtype, cols, g->room);
    return t;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

DecoderGrads decoder_grads_take(Model *model) {
    const LlmConfig *c = &model->spec.llm;
    int64_t ffn = 0, up = 0, qkv = 0, qk = 0, att = 0, room = 0, rows = model->dims.tokens,
            active = model->dims.active;
    for (int i = 0; i < c->layers; i++) {
        const DecoderLayer *l = &model->layers[i];
        ffn = larger(ffn, l->ffn);
        up = larger(up, l->up.out);
        qkv = larger(qkv, l->qkv.out);
        qk = larger(qk, (l->heads_q + l->heads_k) * c->head_dim);
        att = larger(att, l->heads_q * c->head_dim);
        room = larger(room, larger(larger(linear_room(&l->qkv), linear_room(&l->out)),
                                   larger(linear_room(&l->up), linear_room(&l->down))));
    }
    bool dropped = c->residual_dropout > 0;
    return (DecoderGrads){
        .dh = take_roomy(model, rows, c->width, room),
        .dgu = take_roomy(model, rows, up, room),
        .dqkv = take_roomy(model, rows, qkv, room),
        .dn = take_act(model, rows, c->width),
        .ds = take_act(model, rows, ffn),
        .dqk = take_act(model, rows, qk),
        .datt = take_act(model, rows, att),
        .d_active = take_roomy(model, active, c->width, room),
        .dq_active = take_act(model, active, att),
        .dn_active = c->parallel ? take_act(model, active, c->width) : tensor_none(),
        .d_branch = dropped ? take_roomy(model, rows, c->width, room) : tensor_none(),
        .room = room};
}

/* Makes again what the forward pass did not keep. */
static void remake(Model *model, const DecoderLayer *layer, DecoderActs *a) {
    int64_t rows = a->h.rows, behind = rows_behind(model, layer);
    bool last = is_last(model, layer);
    if (model->spec.checkpointing == CHECKPOINT_NONE) return;
    if (model->spec.checkpointing == CHECKPOINT_LAYERS) {
        Tensor picked = last ? take_act(model, behind, model->spec.llm.width) : a->h;
        a->h2 = take_act(model, behind, model->spec.llm.width);
        model->branch = take_act(model, behind, model->spec.llm.width);
        take_products(model, layer, a, rows, behind);
        take_cheap(model, layer, a, rows, behind, last);
        compute(model, layer, a, a->h, tensor_none(), picked, false);
        return;
    }
    take_cheap(model, layer, a, rows, behind, last);
    use_saved(&layer->qkv, &a->l_qkv);
    use_saved(&layer->up, &a->l_up);
    use_saved(&layer->down, &a->l_down);
    norm_forward(model, layer->attn_norm, a->n1, tensor_none(), a->stats1, a->h, tensor_none());
    rotate(model, layer, a, model->batch.positions);
    if (last) op_gather_rows(model->ex, a->q, queries(model, layer, a->qk), model->active.rows);
    if (!model->spec.llm.parallel)
        norm_forward(model, layer->ffn_norm, a->n2, tensor_none(), a->stats2, a->h2, tensor_none());
    else if (last)
        op_gather_rows(model->ex, a->n2, a->n1, model->active.rows);
    activate(model, a);
}

/* The gradient of a branch's end: that of the stream, through the dropout between. */
static Tensor branch_gradient(Model *model, const DecoderGrads *g, Tensor dh,
                              const Linear *linear) {
    Dropout dropout = dropout_of(model, model->spec.llm.residual_dropout, linear->weight);
    if (dropout.p == 0) return dh;
    Tensor d = first_rows(g->d_branch, dh.rows);
    op_dropout(model->ex, d, dh, dropout, false);
    return d;
}

/* From the gradient of the stream behind a layer (dh, over the rows behind attention) to that of
 * the stream between attention and MLP, and on to attention's output, which is returned. Of a
 * parallel block the stream's stays as it is, and dn gets that of the norm's rows. */
static Tensor outputs_backward(Model *model, const DecoderLayer *layer, const DecoderActs *a,
                               const DecoderGrads *g, Tensor dn, Tensor dh) {
    const LlmConfig *c = &model->spec.llm;
    int64_t rows = dh.rows;
    Tensor ds = first_rows(first_cols(g->ds, layer->ffn), rows),
           dgu = first_rows(first_roomy(g, g->dgu, layer->up.out), rows),
           datt = first_rows(first_cols(g->datt, a->att.cols), rows);
    linear_backward(model, &layer->down, ds, false, branch_gradient(model, g, dh, &layer->down),
                    a->s, &a->l_down);
    if (c->gated)
        op_glu_bwd(model->ex, dgu, ds, a->gu, c->activation);
    else
        op_act_bwd(model->ex, dgu, ds, a->gu, c->activation);
    linear_backward(model, &layer->up, dn, false, dgu, a->n2, &a->l_up);
    if (!c->parallel) norm_backward(model, layer->ffn_norm, dh, true, dn, a->h2, a->stats2);
    linear_backward(model, &layer->out, datt, false, branch_gradient(model, g, dh, &layer->out),
                    a->att, &a->l_out);
    return datt;
}

void decoder_layer_backward(Model *model, int index, const DecoderGrads *g, bool below) {
    Exec *ex = model->ex;
    const LlmConfig *c = &model->spec.llm;
    const DecoderLayer *layer = &model->layers[index];
    DecoderActs *a = &model->acts[index];
    bool last = is_last(model, layer);
    size_t mark = arena_mark(&model->arena);
    remake(model, layer, a);

    Tensor dh = last ? g->d_active : g->dh, dn = first_rows(g->dn, dh.rows);
    if (last && c->parallel) dn = g->dn_active;
    Tensor datt = outputs_backward(model, layer, a, g, dn, dh);
    Tensor dqkv = first_roomy(g, g->dqkv, layer->qkv.out),
           dqk = first_cols(g->dqk, (layer->heads_q + layer->heads_k) * c->head_dim);
    Tensor dq = last ? first_rows(first_cols(g->dq_active, a->q.cols), a->q.rows)
                     : queries(model, layer, dqk);
    AttentionSpec spec = attention_of(model, layer);
    op_attention_bwd(ex, dq, keys(model, layer, dqk), values(model, layer, dqkv), datt, a->att,
                     a->lse, a->q, keys(model, layer, a->qk), values(model, layer, a->qkv), &spec);
    if (last) {
        op_scatter_rows(ex, queries(model, layer, dqk), dq, model->active.rows);
        op_scatter_rows(ex, g->dh, dh, model->active.rows);
        if (c->parallel) op_scatter_rows(ex, g->dn, dn, model->active.rows);
    }
    RopeSpec rope = rope_of(model, layer, model->batch.positions);
    op_qk_rope_bwd(ex, dqkv, grad_of(model, layer->q_norm), grad_of(model, layer->k_norm), dqk,
                   a->qkv, a->rstd_qk, value_of(model, layer->q_norm),
                   value_of(model, layer->k_norm), &rope);
    bool needed = below || model->params.items[layer->attn_norm.w].trained;
    linear_backward(model, &layer->qkv, needed ? g->dn : tensor_none(), c->parallel, dqkv, a->n1,
                    &a->l_qkv);
    if (needed) norm_backward(model, layer->attn_norm, g->dh, true, g->dn, a->h, a->stats1);
    arena_release(&model->arena, mark);
}
