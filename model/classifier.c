/* The decoder's end: final norm, head and loss. The head is the embedding, or a matrix of its own,
 * with or without a bias. */
#include "model/model_internal.h"

int64_t vocab_padding(const Model *model) {
    return exec_is_host(model->ex) ? 0 : -model->spec.llm.vocab & 7;
}

void classifier_declare(Model *model) {
    const LlmConfig *c = &model->spec.llm;
    bool trained = model->spec.tune[COMPONENT_LLM] == TUNE_FULL;
    static const char *const norms[] = {[NAMES_OPENELM] = "language_model.transformer.norm",
                                        [NAMES_LLAMA] = "language_model.model.norm",
                                        [NAMES_PHI] = "language_model.model.final_layernorm"};
    model->final_norm = norm_declare(model, COMPONENT_LLM, c->norm, norms[c->names], c->width);
    model->head_w = model->embedding;
    model->head_b = PARAM_NONE;
    if (!c->tied_head) {
        Param weight = {.name = "language_model.lm_head.weight",
                        .component = COMPONENT_LLM,
                        .kind = PARAM_MATRIX,
                        .rows = c->vocab,
                        .cols = c->width,
                        .dims = 2,
                        .padding = vocab_padding(model),
                        .init_scale = init_scale_of(c->width, false),
                        .trained = trained};
        model->head_w = params_declare(&model->params, &weight, false);
    }
    if (!c->tied_head && c->bias) {
        Param bias = {.name = "language_model.lm_head.bias",
                      .component = COMPONENT_LLM,
                      .kind = PARAM_BIAS,
                      .rows = 1,
                      .cols = c->vocab,
                      .dims = 1,
                      .padding = vocab_padding(model),
                      .trained = trained};
        model->head_b = params_declare(&model->params, &bias, false);
    }
}

Tensor take_logits(Model *model, int64_t rows) {
    int64_t vocab = model->spec.llm.vocab;
    return tensor_cols(take_act(model, rows, vocab + vocab_padding(model)), 0, vocab);
}

/* With their padding: zeros, since those of the head are, and so are their gradients. */
static Tensor padded(const Model *model, Tensor logits) {
    logits.cols += vocab_padding(model);
    CHECK(logits.stride >= logits.cols, "logits [%ld, %ld] without room for their padding",
          (long)logits.rows, (long)logits.cols);
    return logits;
}

static Tensor padded_head(const Model *model) {
    return param_padded_value(&model->params, model->head_w);
}

void classifier_logits(Model *model, Tensor out, Tensor n) {
    op_linear_fwd(model->ex, padded(model, out), n, padded_head(model),
                  param_padded_value(&model->params, model->head_b));
}

/* Logits exist for some rows at a time. */
void classifier_forward(Model *model, Tensor h, Tensor delta) {
    Exec *ex = model->ex;
    const LlmConfig *c = &model->spec.llm;
    int64_t labels = model->dims.labels, chunk = exec_logit_rows(ex, c->vocab);
    const float *scale = model->loss_scale ? model->loss_scale : model->one;
    Tensor d_head = grad_of(model, model->head_w);
    model->last_h = take_act(model, labels, c->width);
    model->last_stats = take(model, DT_F32, labels, norm_stats(model->final_norm));
    model->d_last = take_act(model, labels, c->width);
    model->loss = take(model, DT_F32, 1, labels);
    model->hits = take(model, DT_F32, 1, labels);
    size_t mark = arena_mark(&model->arena);
    Tensor picked = take_act(model, labels, c->width), n = take_act(model, labels, c->width);
    Tensor logits = take_logits(model, labels < chunk ? labels : chunk);
    op_gather_rows(ex, model->last_h, h, model->active.labels);
    op_gather_rows(ex, picked, delta, model->active.labels);
    norm_forward(model, model->final_norm, n, model->last_h, model->last_stats, model->last_h,
                 picked);
    for (int64_t at = 0; at < labels; at += chunk) {
        int64_t rows = labels - at < chunk ? labels - at : chunk;
        Tensor part = tensor_rows(logits, 0, rows), part_n = tensor_rows(n, at, rows);
        classifier_logits(model, part, part_n);
        op_cross_entropy(ex, tensor_cols(model->loss, at, rows), tensor_cols(model->hits, at, rows),
                         part, model->batch.targets + at, model->training ? scale : NULL);
        if (!model->training) continue;
        op_linear_bwd_x(ex, tensor_rows(model->d_last, at, rows), padded(model, part),
                        padded_head(model), false);
        if (!tensor_is_none(d_head))
            op_linear_bwd_w(ex, d_head, grad_of(model, model->head_b), part, part_n);
    }
    arena_release(&model->arena, mark);
}

Err model_logits(Model *model, int first, int count, float *out) {
    const LlmConfig *c = &model->spec.llm;
    CHECK(first >= 0 && first + count <= model->dims.labels && !model->training,
          "logits of label rows %d + %d of %d", first, count, model->dims.labels);
    int64_t vocab = c->vocab + vocab_padding(model);
    size_t element = dtype_size(model->dtype),
           bytes = (size_t)(count * (c->width + vocab)) * element +
                   (size_t)(count * vocab) * sizeof(float);
    char *memory = exec_alloc(model->ex, bytes);
    REQUIRE(memory, ERR_MEMORY, "out of memory: logits of %d rows", count);
    Tensor wide = tensor(memory, DT_F32, count, c->vocab);
    memory += (size_t)(count * vocab) * sizeof(float); /* so that the next starts on 16 bytes */
    Tensor logits = tensor_cols(tensor(memory, model->dtype, count, vocab), 0, c->vocab),
           n = tensor(memory + (size_t)(count * vocab) * element, model->dtype, count, c->width);
    norm_forward(model, model->final_norm, n, tensor_none(), tensor_none(),
                 tensor_rows(model->last_h, first, count), tensor_none());
    classifier_logits(model, logits, n);
    op_convert(model->ex, wide, logits);
    exec_download(model->ex, out, wide.data, tensor_bytes(wide));
    exec_free(model->ex, wide.data, bytes);
    return exec_status(model->ex);
}

void classifier_backward(Model *model, Tensor d_active) {
    size_t mark = arena_mark(&model->arena);
    Tensor d_picked = take_act(model, model->dims.labels, model->spec.llm.width);
    norm_backward(model, model->final_norm, d_picked, false, model->d_last, model->last_h,
                  model->last_stats);
    op_scatter_rows(model->ex, d_active, d_picked, model->active.labels);
    arena_release(&model->arena, mark);
}
