/* The decoder (OpenELM's pre-RMSNorm transformer: grouped queries, QK norm, rotary positions,
 * SwiGLU, tied embeddings) and the classifier, forward and backward.
 *
 * A layer is h += out(attn(norm h)); h += proj_2(swiglu(proj_1(norm h))). As in the tower, each
 * norm first adds what the branch before it gave. The last layer has queries, and all that follows
 * them, for the active rows alone (ActiveRows): exact, since nothing reads the others. */
#include <math.h>
#include <stdio.h>

#include "model/parts.h"

#define LLM "language_model.transformer."

/* ---- parameters ---- */

static ParamId declare_norm(Model *model, const char *name, int64_t width) {
    Param p = {.part = PART_LLM,
               .kind = PARAM_NORM,
               .rows = 1,
               .cols = width,
               .dims = 1,
               .init_scale = 1,
               .trained = model->spec.tune[PART_LLM] == TUNE_FULL};
    snprintf(p.name, sizeof p.name, "%s", name);
    return params_declare(&model->params, &p, false);
}

static int64_t of_layer(const IntList *list, int layer) {
    return list->values[list->count == 1 ? 0 : layer];
}

static void declare_layer(Model *model, DecoderLayer *layer, int index) {
    const LlmConfig *c = &model->spec.llm;
    static const char *const parts[8] = {
        "attn_norm.weight", "ffn_norm.weight", "attn.q_norm.weight", "attn.k_norm.weight",
        "attn.qkv_proj",    "attn.out_proj",   "ffn.proj_1",         "ffn.proj_2"};
    char names[8][PARAM_NAME];
    for (int i = 0; i < 8; i++) snprintf(names[i], PARAM_NAME, LLM "layers.%d.%s", index, parts[i]);
    layer->first = model->params.trained;
    layer->heads_q = (int)of_layer(&c->q_heads, index);
    layer->heads_k = (int)of_layer(&c->kv_heads, index);
    layer->ffn = of_layer(&c->ffn, index);
    int64_t q_width = layer->heads_q * c->head_dim,
            qkv_width = (layer->heads_q + 2 * layer->heads_k) * c->head_dim;
    layer->attn_norm = declare_norm(model, names[0], c->width);
    layer->ffn_norm = declare_norm(model, names[1], c->width);
    layer->q_norm = layer->k_norm = PARAM_NONE;
    if (c->qk_norm) {
        layer->q_norm = declare_norm(model, names[2], c->head_dim);
        layer->k_norm = declare_norm(model, names[3], c->head_dim);
    }
    linear_declare(model, &layer->qkv, PART_LLM, (const char *const[]){names[4]}, 1, qkv_width,
                   c->width, false, true, init_scale_of(c->width, false));
    linear_declare(model, &layer->out, PART_LLM, (const char *const[]){names[5]}, 1, c->width,
                   q_width, false, true, init_scale_of(q_width, true));
    linear_declare(model, &layer->proj_1, PART_LLM, (const char *const[]){names[6]}, 1,
                   2 * layer->ffn, c->width, false, true, init_scale_of(c->width, false));
    linear_declare(model, &layer->proj_2, PART_LLM, (const char *const[]){names[7]}, 1, c->width,
                   layer->ffn, false, true, init_scale_of(layer->ffn, true));
}

void decoder_declare(Model *model) {
    const LlmConfig *c = &model->spec.llm;
    Param embedding = {.name = LLM "token_embeddings.weight",
                       .part = PART_LLM,
                       .kind = PARAM_EMBEDDING,
                       .rows = c->vocab,
                       .cols = c->width,
                       .dims = 2,
                       .init_scale = 1.0f / sqrtf((float)c->width),
                       .trained = model->spec.tune[PART_LLM] == TUNE_FULL};
    model->first_llm = model->params.trained;
    model->embedding = params_declare(&model->params, &embedding, false);
    for (int i = 0; i < c->layers; i++) declare_layer(model, &model->layers[i], i);
    model->final_norm = declare_norm(model, LLM "norm.weight", c->width);
}

/* ---- forward ---- */

static RopeSpec rope_of(const Model *model, const DecoderLayer *layer, const int32_t *positions) {
    const LlmConfig *c = &model->spec.llm;
    return (RopeSpec){.heads_q = layer->heads_q,
                      .heads_k = layer->heads_k,
                      .head_dim = (int)c->head_dim,
                      .rotary_dim = (int)c->head_dim,
                      .table = model->rope,
                      .positions = positions,
                      .eps = (float)c->norm_eps};
}

static bool is_last(const Model *model, const DecoderLayer *layer) {
    return layer == &model->layers[model->spec.llm.layers - 1];
}

/* Rows behind the attention of a layer. */
static int64_t rows_behind(const Model *model, const DecoderLayer *layer) {
    return is_last(model, layer) ? model->dims.active : model->dims.tokens;
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

/* Scratch of as many rows as the largest need, cut to `rows`. */
static Tensor first_rows(Tensor t, int64_t rows) {
    return tensor_rows(t, 0, rows);
}

/* Norm, qkv product, QK norm and rotation: everything before attention. */
static void attention_inputs(Model *model, const DecoderLayer *layer, DecoderActs *a, bool keep,
                             Tensor h, Tensor delta, const int32_t *positions) {
    const LlmConfig *c = &model->spec.llm;
    int64_t rows = h.rows, heads = layer->heads_q + layer->heads_k;
    a->h = keep && !tensor_is_none(delta) ? take_act(model, rows, c->width) : h;
    a->n1 = take_input(model, &layer->qkv, rows, &a->l_qkv);
    a->rstd1 = take(model, DT_F32, rows, 1);
    op_rmsnorm_fwd(model->ex, a->n1, a->h, a->rstd1, h, delta, value_of(model, layer->attn_norm),
                   (float)c->norm_eps);
    a->qkv = take_act(model, rows, layer->qkv.out);
    linear_forward(model, &layer->qkv, a->qkv, a->n1, &a->l_qkv);
    a->qk = take_act(model, rows, heads * c->head_dim);
    a->rstd_qk = c->qk_norm ? take(model, DT_F32, rows, heads) : tensor_none();
    RopeSpec rope = rope_of(model, layer, positions);
    op_qk_rope_fwd(model->ex, a->qk, a->rstd_qk, a->qkv, value_of(model, layer->q_norm),
                   value_of(model, layer->k_norm), &rope);
}

/* Output product, second norm and the gated MLP over the rows of `h`: everything behind attention.
 * Leaves the stream in a->h2 and the branch's end in model->branch. */
static void attention_outputs(Model *model, const DecoderLayer *layer, DecoderActs *a, bool keep,
                              Tensor h) {
    const LlmConfig *c = &model->spec.llm;
    int64_t rows = h.rows;
    model->branch = first_rows(model->branch, rows);
    linear_forward(model, &layer->out, model->branch, a->att, &a->l_out);
    a->h2 = keep ? take_act(model, rows, c->width) : h;
    a->n2 = take_input(model, &layer->proj_1, rows, &a->l_proj_1);
    a->rstd2 = take(model, DT_F32, rows, 1);
    op_rmsnorm_fwd(model->ex, a->n2, a->h2, a->rstd2, h, model->branch,
                   value_of(model, layer->ffn_norm), (float)c->norm_eps);
    a->gu = take_act(model, rows, 2 * layer->ffn);
    linear_forward(model, &layer->proj_1, a->gu, a->n2, &a->l_proj_1);
    a->s = take_input(model, &layer->proj_2, rows, &a->l_proj_2);
    op_glu_fwd(model->ex, a->s, a->gu, ACT_SILU);
    linear_forward(model, &layer->proj_2, model->branch, a->s, &a->l_proj_2);
}

/* The loss of the label rows, and with training its gradient at the final norm's output. Logits
 * exist for some rows at a time. */
static void classifier_forward(Model *model, const Batch *batch, Tensor h, Tensor delta) {
    Exec *ex = model->ex;
    const LlmConfig *c = &model->spec.llm;
    int64_t labels = model->dims.labels, chunk = exec_logit_rows(ex, c->vocab);
    const float *scale = model->loss_scale ? model->loss_scale : model->one;
    Tensor embedding = value_of(model, model->embedding),
           d_embedding = grad_of(model, model->embedding);
    model->last_h = take_act(model, labels, c->width);
    model->last_rstd = take(model, DT_F32, labels, 1);
    model->d_last = take_act(model, labels, c->width);
    model->loss = take(model, DT_F32, 1, labels);
    model->hits = take(model, DT_F32, 1, labels);
    size_t mark = arena_mark(&model->arena);
    Tensor picked = take_act(model, labels, c->width), n = take_act(model, labels, c->width);
    Tensor logits = take_act(model, labels < chunk ? labels : chunk, c->vocab);
    op_gather_rows(ex, model->last_h, h, model->active.labels);
    op_gather_rows(ex, picked, delta, model->active.labels);
    op_rmsnorm_fwd(ex, n, model->last_h, model->last_rstd, model->last_h, picked,
                   value_of(model, model->final_norm), (float)c->norm_eps);
    for (int64_t at = 0; at < labels; at += chunk) {
        int64_t rows = labels - at < chunk ? labels - at : chunk;
        Tensor part = tensor_rows(logits, 0, rows), part_n = tensor_rows(n, at, rows);
        op_linear_fwd(ex, part, part_n, embedding, tensor_none());
        op_cross_entropy(ex, tensor_cols(model->loss, at, rows), tensor_cols(model->hits, at, rows),
                         part, batch->targets + at, model->training ? scale : NULL);
        if (!model->training) continue;
        op_linear_bwd_x(ex, tensor_rows(model->d_last, at, rows), part, embedding, false);
        if (!tensor_is_none(d_embedding))
            op_linear_bwd_w(ex, d_embedding, tensor_none(), part, part_n);
    }
    arena_release(&model->arena, mark);
}

void decoder_forward(Model *model) {
    Exec *ex = model->ex;
    const Batch *batch = &model->batch;
    const LlmConfig *c = &model->spec.llm;
    int64_t rows = model->dims.tokens;
    bool keep = model->training;
    Tensor h = take_act(model, rows, c->width), delta = tensor_none();
    model->branch = take_act(model, rows, c->width);
    op_embed_fwd(ex, h, batch->ids, value_of(model, model->embedding), model->features);
    for (int i = 0; i < c->layers; i++) {
        const DecoderLayer *layer = &model->layers[i];
        DecoderActs *a = &model->acts[i];
        size_t mark = arena_mark(&model->arena);
        attention_inputs(model, layer, a, keep, h, delta, batch->positions);
        a->q = queries(model, layer, a->qk);
        Tensor stream = a->h;
        int64_t behind = rows_behind(model, layer);
        if (is_last(model, layer)) {
            a->q = take_act(model, behind, a->q.cols);
            stream = take_act(model, behind, c->width);
            op_gather_rows(ex, a->q, queries(model, layer, a->qk), model->active.rows);
            op_gather_rows(ex, stream, a->h, model->active.rows);
        }
        a->att = take_input(model, &layer->out, behind, &a->l_out);
        a->lse = keep ? take(model, DT_F32, behind, layer->heads_q) : tensor_none();
        AttentionSpec spec = attention_of(model, layer);
        op_attention_fwd(ex, a->att, a->lse, a->q, keys(model, layer, a->qk),
                         values(model, layer, a->qkv), &spec);
        attention_outputs(model, layer, a, keep, stream);
        h = a->h2;
        delta = model->branch;
        if (!keep) arena_release(&model->arena, mark);
    }
    classifier_forward(model, batch, h, delta);
}

/* ---- backward ---- */

/* Scratch of the backward pass, as wide as the widest layer. Gradients of what a linear gives have
 * room for its adapter's. */
typedef struct Grads {
    Tensor dh, dgu, dqkv;
    Tensor dn, ds, dqk, datt;
    Tensor d_active, dq_active; /* of the last layer */
    int64_t room;
} Grads;

/* Dense: a narrower layer uses the front of the memory. */
static Tensor first_cols(Tensor t, int64_t cols) {
    return tensor(t.data, t.dtype, t.rows, cols);
}

/* The same with its room. */
static Tensor first_roomy(const Grads *g, Tensor t, int64_t cols) {
    t.cols = cols;
    t.stride = roomy_stride(t.dtype, cols, g->room);
    return t;
}

static Grads grads_take(Model *model, int64_t rows) {
    const LlmConfig *c = &model->spec.llm;
    int64_t ffn = 0, qkv = 0, qk = 0, att = 0, room = adapter_room(model, PART_LLM);
    for (int i = 0; i < c->layers; i++) {
        const DecoderLayer *l = &model->layers[i];
        if (l->ffn > ffn) ffn = l->ffn;
        if (l->qkv.out > qkv) qkv = l->qkv.out;
        if ((l->heads_q + l->heads_k) * c->head_dim > qk)
            qk = (l->heads_q + l->heads_k) * c->head_dim;
        if (l->heads_q * c->head_dim > att) att = l->heads_q * c->head_dim;
    }
    return (Grads){.dh = take_roomy(model, rows, c->width, room),
                   .dgu = take_roomy(model, rows, 2 * ffn, room),
                   .dqkv = take_roomy(model, rows, qkv, room),
                   .dn = take_act(model, rows, c->width),
                   .ds = take_act(model, rows, ffn),
                   .dqk = take_act(model, rows, qk),
                   .datt = take_act(model, rows, att),
                   .d_active = take_roomy(model, model->dims.active, c->width, room),
                   .dq_active = take_act(model, model->dims.active, att),
                   .room = room};
}

/* From the gradient of the stream behind a layer (dh, over the rows behind attention) to that of
 * the stream between attention and MLP, and on to attention's output. */
static Tensor outputs_backward(Model *model, const DecoderLayer *layer, const DecoderActs *a,
                               const Grads *g, Tensor dh) {
    Exec *ex = model->ex;
    int64_t rows = dh.rows;
    Tensor ds = first_rows(first_cols(g->ds, layer->ffn), rows),
           dgu = first_rows(first_roomy(g, g->dgu, 2 * layer->ffn), rows),
           dn = first_rows(g->dn, rows);
    linear_backward(model, &layer->proj_2, ds, false, dh, a->s, &a->l_proj_2);
    op_glu_bwd(ex, dgu, ds, a->gu, ACT_SILU);
    linear_backward(model, &layer->proj_1, dn, false, dgu, a->n2, &a->l_proj_1);
    op_rmsnorm_bwd(ex, dh, true, grad_of(model, layer->ffn_norm), dn, a->h2, a->rstd2,
                   value_of(model, layer->ffn_norm));
    Tensor datt = first_rows(first_cols(g->datt, a->att.cols), rows);
    linear_backward(model, &layer->out, datt, false, dh, a->att, &a->l_out);
    return datt;
}

/* `below`: something below this layer needs the gradient of its input. */
static void layer_backward(Model *model, const DecoderLayer *layer, const DecoderActs *a,
                           const Grads *g, bool below) {
    Exec *ex = model->ex;
    const LlmConfig *c = &model->spec.llm;
    bool last = is_last(model, layer);
    Tensor dh = last ? g->d_active : g->dh, datt = outputs_backward(model, layer, a, g, dh);
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
    }
    RopeSpec rope = rope_of(model, layer, model->batch.positions);
    op_qk_rope_bwd(ex, dqkv, grad_of(model, layer->q_norm), grad_of(model, layer->k_norm), dqk,
                   a->qkv, a->rstd_qk, value_of(model, layer->q_norm),
                   value_of(model, layer->k_norm), &rope);
    bool norm_trained = model->params.items[layer->attn_norm].trained;
    linear_backward(model, &layer->qkv, below || norm_trained ? g->dn : tensor_none(), false, dqkv,
                    a->n1, &a->l_qkv);
    if (below || norm_trained)
        op_rmsnorm_bwd(ex, g->dh, true, grad_of(model, layer->attn_norm), g->dn, a->h, a->rstd1,
                       value_of(model, layer->attn_norm));
}

void decoder_backward(Model *model) {
    Exec *ex = model->ex;
    const Batch *batch = &model->batch;
    const LlmConfig *c = &model->spec.llm;
    size_t mark = arena_mark(&model->arena);
    bool llm_trained = model->spec.tune[PART_LLM] != TUNE_FROZEN;
    bool embedding_trained = model->params.items[model->embedding].trained,
         below = features_need_gradient(model);
    Tensor d_features = below ? take_act(model, model->features.rows, c->width) : tensor_none();
    Grads g = grads_take(model, model->dims.tokens);
    Tensor d_picked = take_act(model, model->dims.labels, c->width);
    op_rmsnorm_bwd(ex, d_picked, false, grad_of(model, model->final_norm), model->d_last,
                   model->last_h, model->last_rstd, value_of(model, model->final_norm));
    op_scatter_rows(ex, g.d_active, d_picked, model->active.labels);
    for (int64_t i = c->layers - 1; i >= 0; i--) {
        layer_backward(model, &model->layers[i], &model->acts[i], &g,
                       below || embedding_trained || (llm_trained && i > 0));
        announce_gradients(model, model->layers[i].first);
    }
    if (below || embedding_trained)
        op_embed_bwd(ex, grad_of(model, model->embedding), d_features, g.dh, batch->ids);
    announce_gradients(model, model->first_llm);
    if (below) vision_backward(model, d_features);
    announce_gradients(model, 0);
    arena_release(&model->arena, mark);
}

/* ---- generation ---- */

Tensor decoder_cached(Model *model, const CachePass *pass) {
    Exec *ex = model->ex;
    const LlmConfig *c = &model->spec.llm;
    Tensor h = take_act(model, pass->rows, c->width), delta = tensor_none();
    model->branch = take_act(model, pass->rows, c->width);
    op_embed_fwd(ex, h, pass->ids, value_of(model, model->embedding), model->features);
    for (int i = 0; i < c->layers; i++) {
        const DecoderLayer *layer = &model->layers[i];
        CacheLayer *cache = &pass->layers[i];
        size_t mark = arena_mark(&model->arena);
        DecoderActs a = {0};
        attention_inputs(model, layer, &a, false, h, delta, pass->positions);
        op_put_rows(ex, cache->k, keys(model, layer, a.qk), pass->cache_rows);
        op_put_rows(ex, cache->v, values(model, layer, a.qkv), pass->cache_rows);
        a.att = take_input(model, &layer->out, pass->rows, &a.l_out);
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
        op_attention_fwd(ex, a.att, tensor_none(), queries(model, layer, a.qk), cache->k, cache->v,
                         &spec);
        attention_outputs(model, layer, &a, false, a.h);
        h = a.h2;
        delta = model->branch;
        arena_release(&model->arena, mark);
    }
    Tensor picked = take_act(model, pass->outputs, c->width),
           picked_delta = take_act(model, pass->outputs, c->width);
    Tensor n = take_act(model, pass->outputs, c->width);
    op_gather_rows(ex, picked, h, pass->out_rows);
    op_gather_rows(ex, picked_delta, delta, pass->out_rows);
    op_rmsnorm_fwd(ex, n, picked, tensor_none(), picked, picked_delta,
                   value_of(model, model->final_norm), (float)c->norm_eps);
    return n;
}
