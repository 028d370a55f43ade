/* Norms: root mean square, the same with 1 + weight, or LayerNorm. */
#include <stdio.h>

#include "model/model_internal.h"

static ParamId declare(Model *model, Component component, ParamKind kind, const char *name,
                       const char *suffix, int64_t width, float start) {
    Param p = {.component = component,
               .kind = kind,
               .rows = 1,
               .cols = width,
               .dims = 1,
               .init_scale = start,
               .trained = model->spec.tune[component] == TUNE_FULL};
    int length = snprintf(p.name, sizeof p.name, "%s.%s", name, suffix);
    CHECK(length > 0 && length < PARAM_NAME, "a parameter's name: %s.%s", name, suffix);
    return params_declare(&model->params, &p, false);
}

Norm norm_declare(Model *model, Component component, NormKind kind, const char *name,
                  int64_t width) {
    const ModelSpec *spec = &model->spec;
    Norm norm = {
        .b = PARAM_NONE,
        .kind = kind,
        .eps = (float)(component == COMPONENT_LLM ? spec->llm.norm_eps : spec->vision.norm_eps)};
    norm.w = declare(model, component, PARAM_NORM, name, "weight", width,
                     kind == NORM_RMS_PLUS_ONE ? 0.0f : 1.0f);
    if (kind == NORM_LAYER) norm.b = declare(model, component, PARAM_BIAS, name, "bias", width, 0);
    return norm;
}

int norm_stats(Norm norm) {
    return norm.kind == NORM_LAYER ? 2 : 1;
}

static float offset_of(Norm norm) {
    return norm.kind == NORM_RMS_PLUS_ONE ? 1.0f : 0.0f;
}

void norm_forward(Model *model, Norm norm, Tensor out, Tensor sum, Tensor stats, Tensor h,
                  Tensor delta) {
    Tensor w = value_of(model, norm.w);
    if (norm.kind == NORM_LAYER)
        op_layernorm_fwd(model->ex, out, sum, stats, h, delta, w, value_of(model, norm.b),
                         norm.eps);
    else
        op_rmsnorm_fwd(model->ex, out, sum, stats, h, delta, w, offset_of(norm), norm.eps);
}

void norm_backward(Model *model, Norm norm, Tensor dh, bool accumulate, Tensor dout, Tensor h,
                   Tensor stats) {
    Tensor w = value_of(model, norm.w), dw = grad_of(model, norm.w);
    if (norm.kind == NORM_LAYER)
        op_layernorm_bwd(model->ex, dh, accumulate, dw, grad_of(model, norm.b), dout, h, stats, w);
    else
        op_rmsnorm_bwd(model->ex, dh, accumulate, dw, dout, h, stats, w, offset_of(norm));
}
