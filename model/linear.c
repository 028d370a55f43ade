/* Linear layers with their adapters.
 *
 * A linear of one module and its adapter lie in memory as one matrix, x and xa likewise, and dy
 * with the adapter's gradient: then most of the adapter costs no pass over activations
 * (ops/lora.c). q, k and v of the tower share one product and have an adapter each, which works on
 * its own. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/rng.h"
#include "model/model_internal.h"

static Param make_param(const char *module, const char *suffix, Component component, ParamKind kind,
                        int64_t rows, int64_t cols, bool trained, float scale) {
    Param p = {.component = component,
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

static bool is_target(const LoraConfig *lora, const char *name) {
    if (!lora->target_modules[0] || !strcmp(lora->target_modules, "all-linear")) return true;
    for (const char *at = lora->target_modules; *at;) {
        size_t length = strcspn(at, ", ");
        if (length && name_ends(name, at, length)) return true;
        at += length + strspn(at + length, ", ");
    }
    return false;
}

static double of_pattern(const PatternList *list, const char *name, double otherwise) {
    for (int i = 0; i < list->count; i++)
        if (name_ends(name, list->items[i].name, strlen(list->items[i].name)))
            return list->items[i].value;
    return otherwise;
}

/* Rank and scale of a module's adapter, as PEFT has them; r = 0: it has none. */
static struct LinearAdapter adapter_of(const LoraConfig *lora, const char *name) {
    struct LinearAdapter adapter = {.a = PARAM_NONE, .b = PARAM_NONE};
    if (!is_target(lora, name)) return adapter;
    adapter.r = (int64_t)of_pattern(&lora->rank_pattern, name, (double)lora->r);
    double alpha = of_pattern(&lora->alpha_pattern, name, lora->alpha), r = (double)adapter.r;
    adapter.scale = (float)(lora->use_rslora ? alpha / sqrt(r) : alpha / r);
    return adapter;
}

static void declare_adapter(Model *model, Linear *linear, const Module *module, int64_t first) {
    Params *params = &model->params;
    struct LinearAdapter adapter = adapter_of(&model->spec.lora, module->name);
    if (!adapter.r) return;
    adapter.first = first;
    adapter.count = module->out;
    Param a = make_param(module->name, "lora_A.weight", linear->component, PARAM_LORA_A, adapter.r,
                         linear->in, true, 1.0f / sqrtf((float)linear->in));
    Param b = make_param(module->name, "lora_B.weight", linear->component, PARAM_LORA_B,
                         module->out, adapter.r, true, 0);
    if (linear->modules == 1 && !params->items[linear->weight].outside) {
        adapter.a = params_declare_below(params, &a, linear->weight);
        adapter.b = params_declare_behind(params, &b, linear->weight);
    } else {
        adapter.a = params_declare(params, &a, false);
        adapter.b = params_declare(params, &b, false);
    }
    linear->lora[linear->lora_count++] = adapter;
}

void linear_declare(Model *model, Linear *linear, Component component, const Module *modules,
                    int count, int64_t in, bool bias, bool adapters, float init_scale) {
    Params *params = &model->params;
    Tune tune = model->spec.tune[component];
    bool full = tune == TUNE_FULL, adapted = tune == TUNE_LORA && adapters;
    *linear = (Linear){.component = component, .modules = count, .in = in, .bias = PARAM_NONE};
    for (int i = 0; i < count; i++) {
        Param p = make_param(modules[i].name, "weight", component, PARAM_MATRIX, modules[i].out, in,
                             full, init_scale);
        if (adapted && count == 1) p.room = adapter_of(&model->spec.lora, modules[i].name).r;
        ParamId id = params_declare(params, &p, i > 0);
        if (i == 0) linear->weight = id;
        linear->out += modules[i].out;
    }
    for (int i = 0; i < count && bias; i++) {
        Param p =
            make_param(modules[i].name, "bias", component, PARAM_BIAS, 1, modules[i].out, full, 0);
        ParamId id = params_declare(params, &p, i > 0);
        if (i == 0) linear->bias = id;
    }
    int64_t first = 0;
    for (int i = 0; i < count && adapted; first += modules[i++].out)
        declare_adapter(model, linear, &modules[i], first);
}

/* Whether adapter and linear are one operation. */
static bool is_fused(const Linear *linear) {
    return linear->modules == 1 && linear->lora_count == 1;
}

int64_t linear_room(const Linear *linear) {
    int64_t room = 0;
    for (int i = 0; i < linear->lora_count; i++)
        if (linear->lora[i].r > room) room = linear->lora[i].r;
    return room;
}

void take_adapters(Model *model, const Linear *linear, int64_t rows, LoraActs *acts) {
    for (int i = 0; i < linear->lora_count; i++)
        acts->xa[i] = take_act(model, rows, linear->lora[i].r);
}

Tensor take_input(Model *model, const Linear *linear, int64_t rows, LoraActs *acts) {
    if (is_fused(linear)) {
        Tensor x = take_roomy(model, rows, linear->in, linear->lora[0].r);
        acts->xa[0] = tensor_behind(x, linear->lora[0].r);
        return x;
    }
    take_adapters(model, linear, rows, acts);
    return take_act(model, rows, linear->in);
}

void take_saved(Model *model, const Linear *linear, int64_t rows, LoraActs *acts) {
    for (int i = 0; i < linear->lora_count; i++)
        acts->saved[i] = take_act(model, rows, linear->lora[i].r);
}

void save_adapters(Model *model, const Linear *linear, LoraActs *acts) {
    for (int i = 0; i < linear->lora_count; i++) op_convert(model->ex, acts->saved[i], acts->xa[i]);
}

void use_saved(const Linear *linear, LoraActs *acts) {
    for (int i = 0; i < linear->lora_count; i++) acts->xa[i] = acts->saved[i];
}

Dropout dropout_of(const Model *model, double p, ParamId id) {
    if (!model->training || p == 0) return (Dropout){0};
    return (Dropout){.p = (float)p, .key = rng_key(model->dropout_key + (uint64_t)id, RNG_DROPOUT)};
}

/* The adapter with its values. */
static Lora lora_of(const Model *model, const struct LinearAdapter *adapter) {
    return (Lora){.a = value_of(model, adapter->a),
                  .b = value_of(model, adapter->b),
                  .scale = adapter->scale,
                  .dropout = dropout_of(model, model->spec.lora.dropout, adapter->a)};
}

void linear_forward(Model *model, const Linear *linear, Tensor y, Tensor x, const LoraActs *acts) {
    Params *params = &model->params;
    Tensor w = params_joined_value(params, linear->weight, linear->modules),
           bias = params_joined_value(params, linear->bias, linear->modules);
    if (is_fused(linear)) {
        Lora lora = lora_of(model, &linear->lora[0]);
        op_linear_lora_fwd(model->ex, y, acts->xa[0], x, w, bias, &lora);
        return;
    }
    op_linear_fwd(model->ex, y, x, w, bias);
    for (int i = 0; i < linear->lora_count; i++) {
        const struct LinearAdapter *l = &linear->lora[i];
        Lora lora = lora_of(model, l);
        op_lora_fwd(model->ex, tensor_cols(y, l->first, l->count), acts->xa[i], x, &lora);
    }
}

void linear_forward_kept(Model *model, const Linear *linear, Tensor x, const LoraActs *acts) {
    for (int i = 0; i < linear->lora_count; i++) {
        Lora lora = lora_of(model, &linear->lora[i]);
        op_lora_down(model->ex, acts->xa[i], x, &lora);
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
static Tensor take_g(Model *model, Tensor dy, int64_t r) {
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
        const struct LinearAdapter *l = &linear->lora[0];
        Lora lora = lora_of(model, l);
        op_linear_lora_bwd(ex, dx, accumulate, grad_of(model, l->a), grad_of(model, l->b),
                           take_g(model, dy, l->r), dy, acts->xa[0], x, w, &lora);
    } else if (!tensor_is_none(dx)) {
        op_linear_bwd_x(ex, dx, dy, w, accumulate);
    }
    for (int i = 0; i < linear->lora_count && !is_fused(linear); i++) {
        const struct LinearAdapter *l = &linear->lora[i];
        Lora lora = lora_of(model, l);
        op_lora_bwd(ex, dx, grad_of(model, l->a), grad_of(model, l->b),
                    take_act(model, dy.rows, l->r), tensor_cols(dy, l->first, l->count),
                    acts->xa[i], x, &lora);
    }
    arena_release(&model->arena, mark);
}
