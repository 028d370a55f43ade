/* The vision tower (SigLIP's or CLIP's pre-LayerNorm transformer) and the connector, forward and
 * backward.
 *
 * Patches become rows; CLIP puts a class row before them and norms all before the first layer. A
 * layer is h += out(attn(LN1 h)); h += fc2(gelu(fc1(LN2 h))). The residual adds ride in the norms:
 * each norm first adds what the branch before it gave. Frozen layers keep nothing: their memory is
 * given back layer by layer. A trained tower checkpoints as the decoder does (decoder_layer.c). */
#include <math.h>
#include <stdio.h>

#include "model/model_internal.h"

#define TOWER     "vision_tower._vision_tower.vision_model."
#define CONNECTOR "connector._connector."

/* ---- parameters ---- */

static void declare_layer(Model *model, VisionLayer *layer, int index) {
    const VisionConfig *c = &model->spec.vision;
    static const char *const components[] = {
        "layer_norm1",      "layer_norm2",        "self_attn.q_proj", "self_attn.k_proj",
        "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1",          "mlp.fc2"};
    enum { NAMES = sizeof components / sizeof components[0] };
    char names[NAMES][PARAM_NAME];
    for (int i = 0; i < NAMES; i++)
        snprintf(names[i], PARAM_NAME, TOWER "encoder.layers.%d.%s", index, components[i]);
    layer->first = model->params.trained;
    layer->norm1 = norm_declare(model, COMPONENT_VISION, NORM_LAYER, names[0], c->width);
    layer->norm2 = norm_declare(model, COMPONENT_VISION, NORM_LAYER, names[1], c->width);
    Module qkv[3] = {{names[2], c->width}, {names[3], c->width}, {names[4], c->width}};
    linear_declare(model, &layer->qkv, COMPONENT_VISION, qkv, 3, c->width, true, true,
                   init_scale_of(c->width, false));
    linear_declare(model, &layer->out, COMPONENT_VISION, &(Module){names[5], c->width}, 1, c->width,
                   true, true, init_scale_of(c->width, true));
    linear_declare(model, &layer->fc1, COMPONENT_VISION, &(Module){names[6], c->mlp}, 1, c->width,
                   true, true, init_scale_of(c->width, false));
    linear_declare(model, &layer->fc2, COMPONENT_VISION, &(Module){names[7], c->width}, 1, c->mlp,
                   true, true, init_scale_of(c->mlp, true));
}

static ParamId declare_table(Model *model, const char *name, int64_t rows, int dims) {
    Param p = {.component = COMPONENT_VISION,
               .kind = PARAM_EMBEDDING,
               .rows = rows,
               .cols = model->spec.vision.width,
               .dims = dims,
               .init_scale = 0.02f,
               .trained = model->spec.tune[COMPONENT_VISION] == TUNE_FULL};
    snprintf(p.name, sizeof p.name, TOWER "embeddings.%s", name);
    return params_declare(&model->params, &p, false);
}

void vision_declare(Model *model) {
    const VisionConfig *c = &model->spec.vision;
    int64_t pixels = c->channels * c->patch_size * c->patch_size;
    linear_declare(model, &model->patch, COMPONENT_VISION,
                   &(Module){TOWER "embeddings.patch_embedding", c->width}, 1, pixels,
                   c->patch_bias, false, init_scale_of(pixels, false));
    /* A convolution in files: [width, channels, patch, patch]. */
    Param *patch = &model->params.items[model->patch.weight];
    patch->dims = 4;
    patch->tail[0] = c->channels;
    patch->tail[1] = patch->tail[2] = c->patch_size;
    model->class_row = PARAM_NONE;
    if (c->class_token) model->class_row = declare_table(model, "class_embedding", 1, 1);
    model->positions = declare_table(model, "position_embedding.weight", model->tower_rows, 2);
    model->pre_norm = (Norm){.w = PARAM_NONE};
    if (c->pre_norm) /* so spelled in CLIP's files */
        model->pre_norm =
            norm_declare(model, COMPONENT_VISION, NORM_LAYER, TOWER "pre_layrnorm", c->width);
    for (int i = 0; i < c->layers; i++) declare_layer(model, &model->vision[i], i);
}

void connector_declare(Model *model) {
    int64_t in = model->spec.vision.width, out = model->spec.llm.width;
    model->first_connector = model->params.trained;
    model->connector_norm = (Norm){.w = PARAM_NONE};
    if (model->spec.connector.norm)
        model->connector_norm =
            norm_declare(model, COMPONENT_CONNECTOR, NORM_LAYER, "connector.norm", in);
    linear_declare(model, &model->connector_1, COMPONENT_CONNECTOR, &(Module){CONNECTOR "0", out},
                   1, in, true, false, init_scale_of(in, false));
    linear_declare(model, &model->connector_2, COMPONENT_CONNECTOR, &(Module){CONNECTOR "2", out},
                   1, out, true, false, init_scale_of(out, false));
}

static bool tower_trained(const Model *model) {
    return model->spec.tune[COMPONENT_VISION] != TUNE_FROZEN;
}

bool features_need_gradient(const Model *model) {
    return tower_trained(model) || model->spec.tune[COMPONENT_CONNECTOR] != TUNE_FROZEN;
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
                           .longest_q = model->tower_rows,
                           .longest_k = model->tower_rows,
                           .causal = false,
                           .scale = 1.0f / sqrtf((float)head_dim)};
}

/* What products and attention give; what is cheap to make of them. */
static void take_products(Model *model, const VisionLayer *layer, VisionActs *a, int64_t rows) {
    const VisionConfig *c = &model->spec.vision;
    a->stats1 = take(model, DT_F32, rows, 2);
    a->qkv = take_act(model, rows, 3 * c->width);
    a->att = take_input(model, &layer->out, rows, &a->l_out);
    a->lse = take(model, DT_F32, rows, c->heads);
    a->stats2 = take(model, DT_F32, rows, 2);
    /* GELU's input is for backward, and for adapters to add to. */
    bool need_f1 = (model->training && tower_trained(model)) || layer->fc1.lora_count;
    a->f1 = need_f1 ? take_act(model, rows, c->mlp) : tensor_none();
}

static void take_cheap(Model *model, const VisionLayer *layer, VisionActs *a, int64_t rows) {
    a->n1 = take_input(model, &layer->qkv, rows, &a->l_qkv);
    a->n2 = take_input(model, &layer->fc1, rows, &a->l_fc1);
    a->g = take_input(model, &layer->fc2, rows, &a->l_fc2);
}

/* The layer over h + delta. Its last product is left out without `whole`. */
static void compute(Model *model, const VisionLayer *layer, VisionActs *a, Tensor h, Tensor delta,
                    bool whole) {
    const VisionConfig *c = &model->spec.vision;
    int64_t w = c->width;
    norm_forward(model, layer->norm1, a->n1, a->h, a->stats1, h, delta);
    linear_forward(model, &layer->qkv, a->qkv, a->n1, &a->l_qkv);
    AttentionSpec spec = attention_of(model);
    op_attention_fwd(model->ex, a->att, a->lse, tensor_cols(a->qkv, 0, w),
                     tensor_cols(a->qkv, w, w), tensor_cols(a->qkv, 2 * w, w), &spec);
    linear_forward(model, &layer->out, model->branch, a->att, &a->l_out);
    norm_forward(model, layer->norm2, a->n2, a->h2, a->stats2, a->h, model->branch);
    linear_act_forward(model, &layer->fc1, a->g, a->f1, a->n2, &a->l_fc1, c->activation);
    if (whole)
        linear_forward(model, &layer->fc2, model->branch, a->g, &a->l_fc2);
    else
        linear_forward_kept(model, &layer->fc2, a->g, &a->l_fc2);
}

/* Takes the stream h and what the branch before gave (delta, none at first); returns both anew. */
static void layer_forward(Model *model, const VisionLayer *layer, VisionActs *a, bool keep,
                          Tensor *h, Tensor *delta) {
    int64_t rows = h->rows, w = model->spec.vision.width;
    Checkpointing level = keep ? model->spec.checkpointing : CHECKPOINT_LAYERS;
    a->h = keep && !tensor_is_none(*delta) ? take_act(model, rows, w) : *h;
    if (level != CHECKPOINT_LAYERS)
        a->h2 = take_act(model, rows, w);
    else /* in place, where backward does not need what was there */
        a->h2 = keep ? model->stream : a->h;
    size_t entry = arena_mark(&model->arena);
    take_products(model, layer, a, rows);
    if (level == CHECKPOINT_CHEAP) {
        take_saved(model, &layer->qkv, rows, &a->l_qkv);
        take_saved(model, &layer->fc1, rows, &a->l_fc1);
        take_saved(model, &layer->fc2, rows, &a->l_fc2);
    }
    size_t products = arena_mark(&model->arena);
    take_cheap(model, layer, a, rows);
    compute(model, layer, a, *h, *delta, true);
    if (level == CHECKPOINT_CHEAP) {
        save_adapters(model, &layer->qkv, &a->l_qkv);
        save_adapters(model, &layer->fc1, &a->l_fc1);
        save_adapters(model, &layer->fc2, &a->l_fc2);
        arena_release(&model->arena, products);
    }
    if (level == CHECKPOINT_LAYERS) arena_release(&model->arena, entry);
    *h = a->h2;
    *delta = model->branch;
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

/* Patches, class row, positions and first norm: what enters the first layer. */
static Tensor tower_inputs(Model *model, const uint8_t *pixels) {
    Exec *ex = model->ex;
    const VisionConfig *c = &model->spec.vision;
    int64_t patches = (int64_t)model->dims.images * model->patches,
            rows = (int64_t)model->dims.images * model->tower_rows;
    PatchSpec spec = patches_of(model);
    model->patch_rows = take_act(model, patches, model->patch.in);
    op_patchify(ex, model->patch_rows, pixels, &spec);
    Tensor h = take_act(model, rows, c->width), out = h;
    if (c->class_token) {
        size_t mark = arena_mark(&model->arena);
        out = take_act(model, patches, c->width);
        linear_forward(model, &model->patch, out, model->patch_rows, NULL);
        op_embed_fwd(ex, h, model->class_ids, value_of(model, model->class_row), out);
        arena_release(&model->arena, mark);
    } else {
        linear_forward(model, &model->patch, h, model->patch_rows, NULL);
    }
    op_add_positions(ex, h, value_of(model, model->positions));
    if (!c->pre_norm) return h;
    model->tower_in = h;
    model->tower_stats = take(model, DT_F32, rows, 2);
    Tensor normed = take_act(model, rows, c->width);
    norm_forward(model, model->pre_norm, normed, tensor_none(), model->tower_stats, h,
                 tensor_none());
    return normed;
}

static void tower_forward(Model *model, const uint8_t *pixels) {
    const VisionConfig *c = &model->spec.vision;
    int64_t rows = (int64_t)model->dims.images * model->tower_rows;
    bool keep = model->training && tower_trained(model);

    model->vision_out = take_act(model, rows, c->width);
    size_t mark = arena_mark(&model->arena);
    model->branch = take_act(model, rows, c->width);
    if (keep && model->spec.checkpointing == CHECKPOINT_LAYERS)
        model->stream = take_act(model, rows, c->width);
    Tensor h = tower_inputs(model, pixels), delta = tensor_none();
    for (int i = 0; i < c->layers; i++)
        layer_forward(model, &model->vision[i], &model->vision_acts[i], keep, &h, &delta);
    op_add(model->ex, model->vision_out, h, delta);
    if (!keep) arena_release(&model->arena, mark); /* a frozen tower leaves nothing but its end */
}

static void connector_forward(Model *model) {
    int64_t rows = model->connector_in.rows, in = model->spec.vision.width,
            out = model->spec.llm.width;
    model->connector_n = model->connector_in;
    if (model->connector_norm.w != PARAM_NONE) {
        model->connector_n = take_act(model, rows, in);
        model->connector_stats = take(model, DT_F32, rows, 2);
        norm_forward(model, model->connector_norm, model->connector_n, tensor_none(),
                     model->connector_stats, model->connector_in, tensor_none());
    }
    bool backward = model->training && features_need_gradient(model);
    model->connector_f = backward ? take_act(model, rows, out) : tensor_none();
    model->connector_g = take_act(model, rows, out);
    model->features = take_act(model, rows, out);
    linear_act_forward(model, &model->connector_1, model->connector_g, model->connector_f,
                       model->connector_n, NULL, model->spec.connector.activation);
    linear_forward(model, &model->connector_2, model->features, model->connector_g, NULL);
}

void vision_forward(Model *model) {
    tower_forward(model, model->batch.pixels);
    model->connector_in = model->vision_out;
    if (model->spec.vision.drop_first_patch) {
        model->connector_in = take_act(model, (int64_t)model->dims.images * (model->tower_rows - 1),
                                       model->spec.vision.width);
        op_gather_rows(model->ex, model->connector_in, model->vision_out, model->kept_patches);
    }
    connector_forward(model);
}

/* ---- backward ---- */

/* Makes again what the forward pass did not keep. */
static void remake(Model *model, const VisionLayer *layer, VisionActs *a) {
    int64_t rows = a->h.rows, w = model->spec.vision.width;
    if (model->spec.checkpointing == CHECKPOINT_NONE) return;
    if (model->spec.checkpointing == CHECKPOINT_LAYERS) {
        a->h2 = take_act(model, rows, w);
        model->branch = take_act(model, rows, w);
        take_products(model, layer, a, rows);
        take_cheap(model, layer, a, rows);
        compute(model, layer, a, a->h, tensor_none(), false);
        return;
    }
    take_cheap(model, layer, a, rows);
    use_saved(&layer->qkv, &a->l_qkv);
    use_saved(&layer->fc1, &a->l_fc1);
    use_saved(&layer->fc2, &a->l_fc2);
    norm_forward(model, layer->norm1, a->n1, tensor_none(), a->stats1, a->h, tensor_none());
    norm_forward(model, layer->norm2, a->n2, tensor_none(), a->stats2, a->h2, tensor_none());
    op_act_fwd(model->ex, a->g, a->f1, model->spec.vision.activation);
}

/* `below`: something before the layer is trained. */
static void layer_backward(Model *model, const VisionLayer *layer, VisionActs *a, Tensor dh,
                           Tensor dn, Tensor dg, Tensor dqkv, bool below) {
    Exec *ex = model->ex;
    const VisionConfig *c = &model->spec.vision;
    int64_t w = c->width;
    size_t mark = arena_mark(&model->arena);
    remake(model, layer, a);
    linear_backward(model, &layer->fc2, dg, false, dh, a->g, &a->l_fc2);
    op_act_bwd(ex, dg, dg, a->f1, c->activation);
    linear_backward(model, &layer->fc1, dn, false, dg, a->n2, &a->l_fc1);
    norm_backward(model, layer->norm2, dh, true, dn, a->h2, a->stats2);

    linear_backward(model, &layer->out, dn, false, dh, a->att, &a->l_out);
    AttentionSpec spec = attention_of(model);
    op_attention_bwd(ex, tensor_cols(dqkv, 0, w), tensor_cols(dqkv, w, w),
                     tensor_cols(dqkv, 2 * w, w), dn, a->att, a->lse, tensor_cols(a->qkv, 0, w),
                     tensor_cols(a->qkv, w, w), tensor_cols(a->qkv, 2 * w, w), &spec);
    linear_backward(model, &layer->qkv, below ? dn : tensor_none(), false, dqkv, a->n1, &a->l_qkv);
    if (below) norm_backward(model, layer->norm1, dh, true, dn, a->h, a->stats1);
    arena_release(&model->arena, mark);
}

/* From the gradient of the first layer's input to those of what made it, where the tower is trained
 * whole. */
static void tower_inputs_backward(Model *model, Tensor dh) {
    Exec *ex = model->ex;
    const VisionConfig *c = &model->spec.vision;
    if (c->pre_norm)
        norm_backward(model, model->pre_norm, dh, false, dh, model->tower_in, model->tower_stats);
    op_add_positions_bwd(ex, grad_of(model, model->positions), dh);
    Tensor d_patches = dh;
    if (c->class_token) {
        d_patches = take_act(model, model->patch_rows.rows, c->width);
        op_embed_bwd(ex, grad_of(model, model->class_row), d_patches, dh, model->class_ids);
    }
    linear_backward(model, &model->patch, tensor_none(), false, d_patches, model->patch_rows, NULL);
}

/* Room that gradients need behind their rows, for those of adapters. */
static int64_t tower_room(const Model *model) {
    int64_t room = 0;
    for (int i = 0; i < model->spec.vision.layers; i++) {
        const VisionLayer *l = &model->vision[i];
        const Linear *all[] = {&l->out, &l->fc1, &l->fc2};
        for (int k = 0; k < 3; k++)
            if (linear_room(all[k]) > room) room = linear_room(all[k]);
    }
    return room;
}

/* dh: gradient at the tower's end, with room for adapters'; used up. */
static void tower_backward(Model *model, Tensor dh) {
    const VisionConfig *c = &model->spec.vision;
    size_t mark = arena_mark(&model->arena);
    Tensor dn = take_act(model, dh.rows, c->width),
           dg = take_roomy(model, dh.rows, c->mlp, tower_room(model)),
           dqkv = take_act(model, dh.rows, 3 * c->width);
    bool full = model->spec.tune[COMPONENT_VISION] == TUNE_FULL;
    for (int64_t i = c->layers - 1; i >= 0; i--) {
        layer_backward(model, &model->vision[i], &model->vision_acts[i], dh, dn, dg, dqkv,
                       full || i > 0);
        announce_gradients(model, model->vision[i].first);
    }
    if (full) tower_inputs_backward(model, dh);
    arena_release(&model->arena, mark);
}

/* d_features → dx at the connector's input (scratch where nobody below needs it). */
static void connector_backward(Model *model, Tensor dx, Tensor d_features) {
    Exec *ex = model->ex;
    int64_t rows = d_features.rows;
    Norm norm = model->connector_norm;
    bool normed = norm.w != PARAM_NONE;
    bool need_input = tower_trained(model) || (normed && model->params.items[norm.w].trained);
    Tensor dg = take_act(model, rows, model->spec.llm.width);
    linear_backward(model, &model->connector_2, dg, false, d_features, model->connector_g, NULL);
    op_act_bwd(ex, dg, dg, model->connector_f, model->spec.connector.activation);
    if (!normed) {
        linear_backward(model, &model->connector_1, need_input ? dx : tensor_none(), false, dg,
                        model->connector_n, NULL);
        return;
    }
    Tensor dn = need_input ? take_act(model, rows, model->spec.vision.width) : tensor_none();
    linear_backward(model, &model->connector_1, dn, false, dg, model->connector_n, NULL);
    if (need_input)
        norm_backward(model, norm, dx, false, dn, model->connector_in, model->connector_stats);
}

void vision_backward(Model *model, Tensor d_features) {
    size_t mark = arena_mark(&model->arena);
    int64_t width = model->spec.vision.width, room = tower_room(model);
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
