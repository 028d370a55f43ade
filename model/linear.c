/* Linear layers with their adapters.
 *
 * A linear of one module and its adapter lie in memory as one matrix, x and xa likewise, and dy
 * with the adapter's gradient: then most of the adapter costs no pass over activations
 * (ops/lora.c). q, k and v of the tower share one product and have an adapter each, which works on
 * its own. */
#include <math.h>
#include <stdio.h>

#include "core/rng.h"
#include "model/parts.h"

static Param make_param(const char *module, const char *suffix, Part part, ParamKind kind,
                        int64_t rows, int64_t cols, bool trained, float scale) {
    Param p = {.part = part,
               .kind = kind,
               .rows = rows,
               .cols = cols,
               .trained = trained,
               .init_scale = scale};
    p.dims = kind == PARAM_BIAS || kind == PARAM_NORM ? 1 : 2;
    int length = snprintf(p.name, sizeof p.name, "%s.%s", module, suffix);
    CHECK(length > 0 && length < PARAM_NAME, "a parameter's name: %s.%s", module, suffix);
    return p;
}

void linear_declare(Model *model, Linear *linear, Part part, const char *const *modules, int count,
                    int64_t out_each, int64_t in, bool bias, bool adapters, float init_scale) {
    Params *params = &model->params;
    Tune tune = model->spec.tune[part];
    bool full = tune == TUNE_FULL, adapted = tune == TUNE_LORA && adapters;
    int64_t r = model->spec.lora.r;
    *linear = (Linear){
        .part = part, .modules = count, .in = in, .out = out_each * count, .bias = PARAM_NONE};
    for (int i = 0; i < count; i++) {
        Param p =
            make_param(modules[i], "weight", part, PARAM_MATRIX, out_each, in, full, init_scale);
        if (adapted && count == 1) p.room = r;
        ParamId id = params_declare(params, &p, i > 0);
        if (i == 0) linear->weight = id;
    }
    for (int i = 0; i < count && bias; i++) {
        Param p = make_param(modules[i], "bias", part, PARAM_BIAS, 1, out_each, full, 0);
        ParamId id = params_declare(params, &p, i > 0);
        if (i == 0) linear->bias = id;
    }
    if (!adapted) return;
    linear->lora_count = count;
    for (int i = 0; i < count; i++) {
        Param a = make_param(modules[i], "lora_A.weight", part, PARAM_LORA_A, r, in, true,
                             1.0f / sqrtf((float)in));
        Param b = make_param(modules[i], "lora_B.weight", part, PARAM_LORA_B, out_each, r, true, 0);
        if (count == 1) {
            linear->lora[i].a = params_declare_below(params, &a, linear->weight);
            linear->lora[i].b = params_declare_behind(params, &b, linear->weight);
        } else {
            linear->lora[i].a = params_declare(params, &a, false);
            linear->lora[i].b = params_declare(params, &b, false);
        }
        linear->lora[i].first = i * out_each;
        linear->lora[i].count = out_each;
    }
}

/* Whether adapter and linear are one operation. */
static bool is_fused(const Linear *linear) {
    return linear->lora_count == 1;
}

Tensor take_input(Model *model, const Linear *linear, int64_t rows, LoraActs *acts) {
    int64_t r = model->spec.lora.r;
    if (is_fused(linear)) {
        Tensor x = take_roomy(model, rows, linear->in, r);
        acts->xa[0] = tensor_behind(x, r);
        return x;
    }
    for (int i = 0; i < linear->lora_count; i++) acts->xa[i] = take_act(model, rows, r);
    return take_act(model, rows, linear->in);
}

static Dropout dropout_of(const Model *model, ParamId a) {
    if (!model->training) return (Dropout){0};
    return (Dropout){.p = (float)model->spec.lora.dropout,
                     .key = rng_key(model->dropout_key + (uint64_t)a, RNG_DROPOUT)};
}

static float lora_scale(const Model *model) {
    return (float)(model->spec.lora.alpha / (double)model->spec.lora.r);
}

void linear_forward(Model *model, const Linear *linear, Tensor y, Tensor x, const LoraActs *acts) {
    Params *params = &model->params;
    Tensor w = params_joined_value(params, linear->weight, linear->modules),
           bias = params_joined_value(params, linear->bias, linear->modules);
    if (is_fused(linear)) {
        ParamId a = linear->lora[0].a, b = linear->lora[0].b;
        op_linear_lora_fwd(model->ex, y, acts->xa[0], x, w, bias, value_of(model, a),
                           value_of(model, b), lora_scale(model), dropout_of(model, a));
        return;
    }
    op_linear_fwd(model->ex, y, x, w, bias);
    for (int i = 0; i < linear->lora_count; i++) {
        ParamId a = linear->lora[i].a, b = linear->lora[i].b;
        op_lora_fwd(model->ex, tensor_cols(y, linear->lora[i].first, linear->lora[i].count),
                    acts->xa[i], x, value_of(model, a), value_of(model, b), lora_scale(model),
                    dropout_of(model, a));
    }
}

void linear_act_forward(Model *model, const Linear *linear, Tensor g, Tensor f, Tensor x,
                        const LoraActs *acts, Activation kind) {
    Params *params = &model->params;
    if (linear->lora_count) { /* adapters add to what the activation is of */
        linear_forward(model, linear, f, x, acts);
        op_act_fwd(model->ex, g, f, kind);
        return;
    }
    op_linear_act_fwd(model->ex, g, f, x,
                      params_joined_value(params, linear->weight, linear->modules),
                      params_joined_value(params, linear->bias, linear->modules), kind);
}

/* Memory for scale · dy · b. */
static Tensor take_g(Model *model, Tensor dy) {
    int64_t r = model->spec.lora.r;
    return dy.stride - dy.cols >= r ? tensor_behind(dy, r) : take_act(model, dy.rows, r);
}

void linear_backward(Model *model, const Linear *linear, Tensor dx, bool accumulate, Tensor dy,
                     Tensor x, const LoraActs *acts) {
    Exec *ex = model->ex;
    Params *params = &model->params;
    Tensor w = params_joined_value(params, linear->weight, linear->modules);
    size_t mark = arena_mark(&model->arena);
    if (params->items[linear->weight].trained)
        op_linear_bwd_w(ex, params_joined_grad(params, linear->weight, linear->modules),
                        params_joined_grad(params, linear->bias, linear->modules), dy, x);
    if (is_fused(linear)) {
        ParamId a = linear->lora[0].a, b = linear->lora[0].b;
        op_linear_lora_bwd(ex, dx, accumulate, grad_of(model, a), grad_of(model, b),
                           take_g(model, dy), dy, acts->xa[0], x, w, value_of(model, a),
                           value_of(model, b), lora_scale(model), dropout_of(model, a));
    } else {
        if (!tensor_is_none(dx)) op_linear_bwd_x(ex, dx, dy, w, accumulate);
        Tensor g =
            linear->lora_count ? take_act(model, dy.rows, model->spec.lora.r) : tensor_none();
        for (int i = 0; i < linear->lora_count; i++) {
            ParamId a = linear->lora[i].a, b = linear->lora[i].b;
            op_lora_bwd(ex, dx, grad_of(model, a), grad_of(model, b), g,
                        tensor_cols(dy, linear->lora[i].first, linear->lora[i].count), acts->xa[i],
                        x, value_of(model, a), value_of(model, b), lora_scale(model),
                        dropout_of(model, a));
        }
    }
    arena_release(&model->arena, mark);
}
