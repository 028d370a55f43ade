/* The vision tower (SigLIP's pre-LayerNorm transformer) and the connector, forward and backward.
 *
 * A layer is h += out(attn(LN1 h)); h += fc2(gelu(fc1(LN2 h))). The residual adds ride in the
 * norms: each norm first adds what the branch before it gave. Frozen layers keep nothing: their
 * memory is given back layer by layer. */
#include <math.h>
#include <stdio.h>

#include "model/parts.h"

#define TOWER     "vision_tower._vision_tower.vision_model."
#define CONNECTOR "connector._connector."

/* ---- parameters ---- */

static ParamId declare_vector(Model *model, const char *name, Part part, ParamKind kind,
                              int64_t width, float start) {
    Param p = {.part = part,
               .kind = kind,
               .rows = 1,
               .cols = width,
               .dims = 1,
               .init_scale = start,
               .trained = model->spec.tune[part] == TUNE_FULL};
    snprintf(p.name, sizeof p.name, "%s", name);
    return params_declare(&model->params, &p, false);
}

static void declare_layer(Model *model, VisionLayer *layer, int index) {
    const VisionConfig *c = &model->spec.vision;
    char names[12][PARAM_NAME];
    static const char *const parts[12] = {
        "layer_norm1.weight",
        "layer_norm1.bias",
        "layer_norm2.weight",
        "layer_norm2.bias",
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.out_proj",
        "mlp.fc1",
        "mlp.fc2",
    };
    for (int i = 0; i < 10; i++)
        snprintf(names[i], PARAM_NAME, TOWER "encoder.layers.%d.%s", index, parts[i]);
    layer->first = model->params.trained;
    layer->norm1_w = declare_vector(model, names[0], PART_VISION, PARAM_NORM, c->width, 1);
    layer->norm1_b = declare_vector(model, names[1], PART_VISION, PARAM_BIAS, c->width, 0);
    layer->norm2_w = declare_vector(model, names[2], PART_VISION, PARAM_NORM, c->width, 1);
    layer->norm2_b = declare_vector(model, names[3], PART_VISION, PARAM_BIAS, c->width, 0);
    linear_declare(model, &layer->qkv, PART_VISION,
                   (const char *const[]){names[4], names[5], names[6]}, 3, c->width, c->width, true,
                   true, init_scale_of(c->width, false));
    linear_declare(model, &layer->out, PART_VISION, (const char *const[]){names[7]}, 1, c->width,
                   c->width, true, true, init_scale_of(c->width, true));
    linear_declare(model, &layer->fc1, PART_VISION, (const char *const[]){names[8]}, 1, c->mlp,
                   c->width, true, true, init_scale_of(c->width, false));
    linear_declare(model, &layer->fc2, PART_VISION, (const char *const[]){names[9]}, 1, c->width,
                   c->mlp, true, true, init_scale_of(c->mlp, true));
}

void vision_declare(Model *model) {
    const VisionConfig *c = &model->spec.vision;
    int64_t pixels = c->channels * c->patch_size * c->patch_size;
    linear_declare(model, &model->patch, PART_VISION,
                   (const char *const[]){TOWER "embeddings.patch_embedding"}, 1, c->width, pixels,
                   true, false, init_scale_of(pixels, false));
    Param positions = {.name = TOWER "embeddings.position_embedding.weight",
                       .part = PART_VISION,
                       .kind = PARAM_EMBEDDING,
                       .rows = model->patches,
                       .cols = c->width,
                       .dims = 2,
                       .init_scale = 0.02f,
                       .trained = model->spec.tune[PART_VISION] == TUNE_FULL};
    model->positions = params_declare(&model->params, &positions, false);
    for (int i = 0; i < c->layers; i++) declare_layer(model, &model->vision[i], i);
}

void connector_declare(Model *model) {
    int64_t in = model->spec.vision.width, out = model->spec.llm.width;
    model->first_connector = model->params.trained;
    model->connector_norm_w = model->connector_norm_b = PARAM_NONE;
    if (model->spec.connector.norm) {
        model->connector_norm_w =
            declare_vector(model, "connector.norm.weight", PART_CONNECTOR, PARAM_NORM, in, 1);
        model->connector_norm_b =
            declare_vector(model, "connector.norm.bias", PART_CONNECTOR, PARAM_BIAS, in, 0);
    }
    linear_declare(model, &model->connector_1, PART_CONNECTOR, (const char *const[]){CONNECTOR "0"},
                   1, out, in, true, false, init_scale_of(in, false));
    linear_declare(model, &model->connector_2, PART_CONNECTOR, (const char *const[]){CONNECTOR "2"},
                   1, out, out, true, false, init_scale_of(out, false));
}

static bool tower_trained(const Model *model) {
    return model->spec.tune[PART_VISION] != TUNE_FROZEN;
}

bool features_need_gradient(const Model *model) {
    return tower_trained(model) || model->spec.tune[PART_CONNECTOR] != TUNE_FROZEN;
}

/* ---- forward ---- */

static AttentionSpec attention_of(const Model *model) {
    const VisionConfig *c = &model->spec.vision;
    int head_dim = (int)(c->width / c->heads);
    return (AttentionSpec){.sequences = model->dims.images,
                           .heads_q = (int)c->heads,
                           .heads_k = (int)c->heads,
                           .head_dim = head_dim,
                           .starts_q = model->vision_starts,
                           .starts_k = model->vision_starts,
                           .longest_q = model->patches,
                           .longest_k = model->patches,
                           .causal = false,
                           .scale = 1.0f / sqrtf((float)head_dim)};
}

/* Takes the stream h and what the branch before gave (delta, none at first); returns both anew.
 * What `keep` needs for backward gets memory of its own; otherwise the sums are made in place. */
static void layer_forward(Model *model, const VisionLayer *layer, VisionActs *a, bool keep,
                          Tensor *h, Tensor *delta) {
    Exec *ex = model->ex;
    const VisionConfig *c = &model->spec.vision;
    int64_t rows = h->rows, w = c->width;
    float eps = (float)c->norm_eps;

    a->h = keep && !tensor_is_none(*delta) ? take_act(model, rows, w) : *h;
    a->n1 = take_input(model, &layer->qkv, rows, &a->l_qkv);
    a->stats1 = take(model, DT_F32, rows, 2);
    op_layernorm_fwd(ex, a->n1, a->h, a->stats1, *h, *delta, value_of(model, layer->norm1_w),
                     value_of(model, layer->norm1_b), eps);
    a->qkv = take_act(model, rows, 3 * w);
    linear_forward(model, &layer->qkv, a->qkv, a->n1, &a->l_qkv);
    a->att = take_input(model, &layer->out, rows, &a->l_out);
    a->lse = take(model, DT_F32, rows, c->heads);
    AttentionSpec spec = attention_of(model);
    op_attention_fwd(ex, a->att, a->lse, tensor_cols(a->qkv, 0, w), tensor_cols(a->qkv, w, w),
                     tensor_cols(a->qkv, 2 * w, w), &spec);
    Tensor branch = model->branch;
    linear_forward(model, &layer->out, branch, a->att, &a->l_out);

    a->h2 = keep ? take_act(model, rows, w) : a->h;
    a->n2 = take_input(model, &layer->fc1, rows, &a->l_fc1);
    a->stats2 = take(model, DT_F32, rows, 2);
    op_layernorm_fwd(ex, a->n2, a->h2, a->stats2, a->h, branch, value_of(model, layer->norm2_w),
                     value_of(model, layer->norm2_b), eps);
    bool need_f1 = keep || layer->fc1.lora_count;
    a->f1 = need_f1 ? take_act(model, rows, c->mlp) : tensor_none();
    a->g = take_input(model, &layer->fc2, rows, &a->l_fc2);
    linear_act_forward(model, &layer->fc1, a->g, a->f1, a->n2, &a->l_fc1,
                       (Activation)c->activation);
    linear_forward(model, &layer->fc2, branch, a->g, &a->l_fc2);
    *h = a->h2;
    *delta = branch;
}

static PatchSpec patches_of(const Model *model) {
    const VisionConfig *c = &model->spec.vision;
    PatchSpec spec = {.images = model->dims.images,
                      .image_size = (int)c->image_size,
                      .channels = (int)c->channels,
                      .patch = (int)c->patch_size};
    for (int i = 0; i < 3; i++) {
        spec.mean[i] = (float)c->mean.values[i < c->mean.count ? i : 0];
        spec.std[i] = (float)c->std.values[i < c->std.count ? i : 0];
    }
    return spec;
}

static void tower_forward(Model *model, const uint8_t *pixels) {
    Exec *ex = model->ex;
    const VisionConfig *c = &model->spec.vision;
    int64_t rows = (int64_t)model->dims.images * model->patches;
    bool keep = model->training && tower_trained(model);

    model->vision_out = take_act(model, rows, c->width);
    size_t mark = arena_mark(&model->arena);
    model->branch = take_act(model, rows, c->width);
    model->patch_rows = take_act(model, rows, model->patch.in);
    Tensor h = take_act(model, rows, c->width), delta = tensor_none();
    PatchSpec spec = patches_of(model);
    op_patchify(ex, model->patch_rows, pixels, &spec);
    linear_forward(model, &model->patch, h, model->patch_rows, NULL);
    op_add_positions(ex, h, value_of(model, model->positions));
    for (int i = 0; i < c->layers; i++) {
        size_t layer_mark = arena_mark(&model->arena);
        layer_forward(model, &model->vision[i], &model->vision_acts[i], keep, &h, &delta);
        if (!keep) arena_release(&model->arena, layer_mark);
    }
    op_add(ex, model->vision_out, h, delta);
    if (!keep) arena_release(&model->arena, mark); /* a frozen tower leaves nothing but its end */
}

static void connector_forward(Model *model) {
    Exec *ex = model->ex;
    int64_t rows = model->connector_in.rows, in = model->spec.vision.width,
            out = model->spec.llm.width;
    model->connector_n = model->connector_in;
    if (model->connector_norm_w != PARAM_NONE) {
        model->connector_n = take_act(model, rows, in);
        model->connector_stats = take(model, DT_F32, rows, 2);
        op_layernorm_fwd(
            ex, model->connector_n, tensor_none(), model->connector_stats, model->connector_in,
            tensor_none(), value_of(model, model->connector_norm_w),
            value_of(model, model->connector_norm_b), (float)model->spec.vision.norm_eps);
    }
    model->connector_f = take_act(model, rows, out);
    model->connector_g = take_act(model, rows, out);
    model->features = take_act(model, rows, out);
    linear_act_forward(model, &model->connector_1, model->connector_g, model->connector_f,
                       model->connector_n, NULL, (Activation)model->spec.connector.activation);
    linear_forward(model, &model->connector_2, model->features, model->connector_g, NULL);
}

void vision_forward(Model *model) {
    tower_forward(model, model->batch.pixels);
    model->connector_in = model->vision_out;
    if (model->spec.vision.drop_first_patch) {
        model->connector_in = take_act(model, (int64_t)model->dims.images * (model->patches - 1),
                                       model->spec.vision.width);
        op_gather_rows(model->ex, model->connector_in, model->vision_out, model->kept_patches);
    }
    connector_forward(model);
}

/* ---- backward ---- */

static void layer_backward(Model *model, const VisionLayer *layer, const VisionActs *a, Tensor dh,
                           Tensor dn, Tensor dg, Tensor dqkv) {
    Exec *ex = model->ex;
    const VisionConfig *c = &model->spec.vision;
    int64_t w = c->width;
    linear_backward(model, &layer->fc2, dg, false, dh, a->g, &a->l_fc2);
    op_act_bwd(ex, dg, dg, a->f1, (Activation)c->activation);
    linear_backward(model, &layer->fc1, dn, false, dg, a->n2, &a->l_fc1);
    op_layernorm_bwd(ex, dh, true, grad_of(model, layer->norm2_w), grad_of(model, layer->norm2_b),
                     dn, a->h2, a->stats2, value_of(model, layer->norm2_w));

    linear_backward(model, &layer->out, dn, false, dh, a->att, &a->l_out);
    AttentionSpec spec = attention_of(model);
    op_attention_bwd(ex, tensor_cols(dqkv, 0, w), tensor_cols(dqkv, w, w),
                     tensor_cols(dqkv, 2 * w, w), dn, a->att, a->lse, tensor_cols(a->qkv, 0, w),
                     tensor_cols(a->qkv, w, w), tensor_cols(a->qkv, 2 * w, w), &spec);
    linear_backward(model, &layer->qkv, dn, false, dqkv, a->n1, &a->l_qkv);
    op_layernorm_bwd(ex, dh, true, grad_of(model, layer->norm1_w), grad_of(model, layer->norm1_b),
                     dn, a->h, a->stats1, value_of(model, layer->norm1_w));
}

/* dh: gradient at the tower's end, with room for adapters'; used up. */
static void tower_backward(Model *model, Tensor dh) {
    Exec *ex = model->ex;
    const VisionConfig *c = &model->spec.vision;
    size_t mark = arena_mark(&model->arena);
    Tensor dn = take_act(model, dh.rows, c->width),
           dg = take_roomy(model, dh.rows, c->mlp, adapter_room(model, PART_VISION)),
           dqkv = take_act(model, dh.rows, 3 * c->width);
    for (int64_t i = c->layers - 1; i >= 0; i--) {
        layer_backward(model, &model->vision[i], &model->vision_acts[i], dh, dn, dg, dqkv);
        announce_gradients(model, model->vision[i].first);
    }
    if (model->params.items[model->positions].trained)
        op_add_positions_bwd(ex, grad_of(model, model->positions), dh);
    linear_backward(model, &model->patch, tensor_none(), false, dh, model->patch_rows, NULL);
    arena_release(&model->arena, mark);
}

/* d_features → dx at the connector's input (scratch where nobody below needs it). */
static void connector_backward(Model *model, Tensor dx, Tensor d_features) {
    Exec *ex = model->ex;
    int64_t rows = d_features.rows;
    bool norm = model->connector_norm_w != PARAM_NONE;
    bool need_input =
        tower_trained(model) || (norm && model->params.items[model->connector_norm_w].trained);
    Tensor dg = take_act(model, rows, model->spec.llm.width);
    linear_backward(model, &model->connector_2, dg, false, d_features, model->connector_g, NULL);
    op_act_bwd(ex, dg, dg, model->connector_f, (Activation)model->spec.connector.activation);
    if (!norm) {
        linear_backward(model, &model->connector_1, need_input ? dx : tensor_none(), false, dg,
                        model->connector_n, NULL);
        return;
    }
    Tensor dn = need_input ? take_act(model, rows, model->spec.vision.width) : tensor_none();
    linear_backward(model, &model->connector_1, dn, false, dg, model->connector_n, NULL);
    if (need_input)
        op_layernorm_bwd(ex, dx, false, grad_of(model, model->connector_norm_w),
                         grad_of(model, model->connector_norm_b), dn, model->connector_in,
                         model->connector_stats, value_of(model, model->connector_norm_w));
}

void vision_backward(Model *model, Tensor d_features) {
    size_t mark = arena_mark(&model->arena);
    int64_t width = model->spec.vision.width, room = adapter_room(model, PART_VISION);
    Tensor dx = take_roomy(model, d_features.rows, width, room);
    connector_backward(model, dx, d_features);
    announce_gradients(model, model->first_connector);
    if (tower_trained(model)) {
        Tensor dh = dx;
        if (model->spec.vision.drop_first_patch) {
            dh = take_roomy(model, model->vision_out.rows, width, room);
            op_scatter_rows(model->ex, dh, dx, model->kept_patches);
        }
        tower_backward(model, dh);
    }
    arena_release(&model->arena, mark);
}
