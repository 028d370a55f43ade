/* The decoder from its embedding to the layers' end, forward, backward, and over a key-value cache;
 * a layer is in decoder_layer.c, what follows the last one in classifier.c. */
#include <math.h>
#include <stdio.h>

#include "model/model_internal.h"

/* ---- parameters ---- */

void decoder_declare(Model *model) {
    const LlmConfig *c = &model->spec.llm;
    static const char *const names[] = {[NAMES_OPENELM] =
                                            "language_model.transformer.token_embeddings.weight",
                                        [NAMES_LLAMA] = "language_model.model.embed_tokens.weight",
                                        [NAMES_PHI] = "language_model.model.embed_tokens.weight"};
    Param embedding = {.component = COMPONENT_LLM,
                       .kind = PARAM_EMBEDDING,
                       .rows = c->vocab,
                       .cols = c->width,
                       .dims = 2,
                       .padding = c->tied_head ? vocab_padding(model) : 0,
                       .init_scale = 1.0f / sqrtf((float)c->width),
                       .trained = model->spec.tune[COMPONENT_LLM] == TUNE_FULL};
    snprintf(embedding.name, sizeof embedding.name, "%s", names[c->names]);
    model->first_llm = model->params.trained;
    model->embedding = params_declare(&model->params, &embedding, false);
    for (int i = 0; i < c->layers; i++) decoder_layer_declare(model, &model->layers[i], i);
    classifier_declare(model);
}

/* ---- the embedding ---- */

/* What rows enter times: √width, in the compute type (Gemma in bf16: 45.25). */
static float embedding_scale(const Model *model) {
    float scale = sqrtf((float)model->spec.llm.width);
    if (model->dtype == DT_F32) return scale;
    int exponent, bits = model->dtype == DT_BF16 ? 8 : 11; /* of the significand */
    float significand = frexpf(scale, &exponent);
    return ldexpf(rintf(ldexpf(significand, bits)), exponent - bits);
}

static Tensor embed(Model *model, const int32_t *ids, int64_t rows) {
    Tensor h = take_act(model, rows, model->spec.llm.width);
    op_embed_fwd(model->ex, h, ids, value_of(model, model->embedding), model->features);
    if (model->spec.llm.scale_embedding) op_scale(model->ex, h, h, embedding_scale(model));
    return h;
}

static void embed_backward(Model *model, Tensor d_features, Tensor dh) {
    if (model->spec.llm.scale_embedding) op_scale(model->ex, dh, dh, embedding_scale(model));
    op_embed_bwd(model->ex, grad_of(model, model->embedding), d_features, dh, model->batch.ids);
}

/* ---- training ---- */

void decoder_forward(Model *model) {
    int64_t rows = model->dims.tokens;
    Tensor h = embed(model, model->batch.ids, rows), delta = tensor_none();
    model->branch = take_act(model, rows, model->spec.llm.width);
    bool layers_keep_streams = model->spec.checkpointing != CHECKPOINT_LAYERS;
    if (model->training && !layers_keep_streams)
        model->stream = take_act(model, rows, model->spec.llm.width);
    for (int i = 0; i < model->spec.llm.layers; i++) decoder_layer_forward(model, i, &h, &delta);
    classifier_forward(model, h, delta);
}

void decoder_backward(Model *model) {
    size_t mark = arena_mark(&model->arena);
    bool llm_trained = model->spec.tune[COMPONENT_LLM] != TUNE_FROZEN,
         embedding_trained = model->params.items[model->embedding].trained,
         below = features_need_gradient(model);
    Tensor d_features =
        below ? take_act(model, model->features.rows, model->spec.llm.width) : tensor_none();
    DecoderGrads g = decoder_grads_take(model);
    classifier_backward(model, g.d_active);
    for (int i = (int)model->spec.llm.layers - 1; i >= 0; i--) {
        decoder_layer_backward(model, i, &g, below || embedding_trained || (llm_trained && i > 0));
        announce_gradients(model, model->layers[i].first);
    }
    if (below || embedding_trained) embed_backward(model, d_features, g.dh);
    announce_gradients(model, model->first_llm);
    if (below) vision_backward(model, d_features);
    announce_gradients(model, 0);
    arena_release(&model->arena, mark);
}

/* ---- generation ---- */

Tensor decoder_cached(Model *model, const CachePass *pass) {
    Exec *ex = model->ex;
    int64_t width = model->spec.llm.width;
    Tensor h = embed(model, pass->ids, pass->rows), delta = tensor_none();
    model->branch = take_act(model, pass->rows, width);
    for (int i = 0; i < model->spec.llm.layers; i++)
        decoder_layer_cached(model, i, pass, &h, &delta);
    Tensor picked = take_act(model, pass->outputs, width),
           picked_delta = take_act(model, pass->outputs, width),
           n = take_act(model, pass->outputs, width);
    op_gather_rows(ex, picked, h, pass->out_rows);
    op_gather_rows(ex, picked_delta, delta, pass->out_rows);
    norm_forward(model, model->final_norm, n, picked, tensor_none(), picked, picked_delta);
    return n;
}
