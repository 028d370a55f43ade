/* Adapters of files and models together: which config goes on with one, whether it is one for this
 * base, and its values into the model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/files/adapter.h"
#include "model/files/dtype_convert.h"
#include "model/files/merge.h"
#include "model/files/param_files.h"
#include "model/files/published.h"
#include "model/model_internal.h"

/* ---- describing ---- */

/* The linears of a layer by the ends of their names. */
static const char *const TOWER_ENDS[] = {"q_proj", "k_proj", "v_proj", "out_proj",
                                         "fc1",    "fc2",    NULL};
static const char *const OPENELM_ENDS[] = {"qkv_proj", "out_proj", "proj_1", "proj_2", NULL};
static const char *const LLAMA_ENDS[] = {"q_proj",    "k_proj",  "v_proj",    "o_proj",
                                         "gate_proj", "up_proj", "down_proj", NULL};
static const char *const PHI_ENDS[] = {"q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2", NULL};

static const char *const NO_ENDS[] = {NULL};

enum { ENDS_MAX = 8 };

/* How a component's linears are adapted. */
typedef struct ComponentUse {
    const char *const *ends;
    int64_t layers;
    int64_t used[ENDS_MAX]; /* layers in which it is adapted */
} ComponentUse;

static const char *end_of(const char *module) {
    const char *dot = strrchr(module, '.');
    return dot ? dot + 1 : module;
}

static Component component_of(const char *module) {
    if (!strncmp(module, "vision_tower.", 13)) return COMPONENT_VISION;
    return !strncmp(module, "language_model.", 15) ? COMPONENT_LLM : COMPONENT_CONNECTOR;
}

static ComponentUse component_use(const ModelSpec *base, Component component) {
    if (component == COMPONENT_CONNECTOR) return (ComponentUse){.ends = NO_ENDS};
    if (component == COMPONENT_VISION)
        return (ComponentUse){.ends = TOWER_ENDS, .layers = base->vision.layers};
    return (ComponentUse){.ends = base->llm.names == NAMES_OPENELM ? OPENELM_ENDS
                                  : base->llm.names == NAMES_PHI   ? PHI_ENDS
                                                                   : LLAMA_ENDS,
                          .layers = base->llm.layers};
}

static Err count_uses(ComponentUse uses[COMPONENT_COUNT], const Adapter *adapter,
                      const ModelSpec *base) {
    for (int i = 0; i < adapter_count(adapter); i++) {
        const char *module = adapter_at(adapter, i)->name;
        Component component = component_of(module);
        if (published_is_unused(base, module)) continue;
        bool known = false;
        for (int k = 0; uses[component].ends[k]; k++)
            if (!strcmp(uses[component].ends[k], end_of(module))) {
                uses[component].used[k]++;
                known = true;
            }
        REQUIRE(
            known, ERR_UNSUPPORTED,
            "%s adapts %s, which is no linear of this kind of model: is it an adapter for another "
            "base?",
            adapter_folder(adapter), module);
    }
    return OK;
}

static bool is_adapted(const ComponentUse *use) {
    for (int k = 0; use->ends[k]; k++)
        if (use->used[k]) return true;
    return false;
}

static bool is_end_of(const ComponentUse *use, const char *end, bool *in_all, bool *in_none) {
    for (int k = 0; use->ends[k]; k++)
        if (!strcmp(use->ends[k], end)) {
            *in_all = use->used[k] == use->layers;
            *in_none = use->used[k] == 0;
            return true;
        }
    return false;
}

/* Whether ends of names say what is adapted: each end in every layer of a component or in none, and
 * in both components alike where both are adapted. `all`: every end of them is. */
static bool ends_suffice(const ComponentUse uses[COMPONENT_COUNT], bool *all) {
    static const Component components[] = {COMPONENT_VISION, COMPONENT_LLM};
    *all = true;
    for (int p = 0; p < 2; p++) {
        const ComponentUse *use = &uses[components[p]], *other = &uses[components[1 - p]];
        if (!is_adapted(use)) continue;
        for (int k = 0; use->ends[k]; k++) {
            bool in_all, in_none;
            if (!use->used[k]) {
                *all = false;
                continue;
            }
            if (use->used[k] != use->layers) return false;
            if (is_adapted(other) && is_end_of(other, use->ends[k], &in_all, &in_none) && !in_all)
                return false;
        }
    }
    return true;
}

/* "too irregular": what a config cannot say. */
static Err too_irregular(const Adapter *adapter, const char *what) {
    FAIL(ERR_UNSUPPORTED,
         "%s: its %s differ too much from layer to layer to go on with: merge it and begin a new "
         "adapter",
         adapter_folder(adapter), what);
}

static Err append_target(char targets[CONFIG_TEXT], const char *name, const Adapter *adapter) {
    size_t used = strlen(targets);
    int length = snprintf(targets + used, CONFIG_TEXT - used, "%s%s", used ? "," : "", name);
    if (length < 0 || (size_t)length >= CONFIG_TEXT - used)
        return too_irregular(adapter, "target_modules");
    return OK;
}

static Err describe_targets(char targets[CONFIG_TEXT], const Adapter *adapter,
                            const ModelSpec *base, const ComponentUse uses[COMPONENT_COUNT]) {
    bool all;
    targets[0] = 0;
    if (!ends_suffice(uses, &all)) {
        for (int i = 0; i < adapter_count(adapter); i++) {
            const char *name = adapter_at(adapter, i)->name;
            if (!published_is_unused(base, name)) TRY(append_target(targets, name, adapter));
        }
        return OK;
    }
    for (int p = 0; p < COMPONENT_COUNT && !all; p++)
        for (int k = 0; uses[p].ends[k]; k++) {
            bool in_all, in_none;
            bool said = p == COMPONENT_LLM &&
                        is_end_of(&uses[COMPONENT_VISION], uses[p].ends[k], &in_all, &in_none) &&
                        in_all;
            if (uses[p].used[k] && !said) TRY(append_target(targets, uses[p].ends[k], adapter));
        }
    return OK;
}

typedef double (*ModuleNumber)(const AdapterModule *module);

static double rank_of(const AdapterModule *module) {
    return (double)module->r;
}

static double alpha_of(const AdapterModule *module) {
    return module->alpha;
}

/* The one value of all modules with an end; NAN where they differ. */
static double value_of_end(const Adapter *adapter, const char *end, ModuleNumber number) {
    double value = 0;
    bool any = false;
    for (int i = 0; i < adapter_count(adapter); i++) {
        const AdapterModule *m = adapter_at(adapter, i);
        if (strcmp(end_of(m->name), end) != 0) continue;
        if (any && number(m) != value) return NAN;
        value = number(m);
        any = true;
    }
    return value;
}

static bool has_pattern(const PatternList *list, const char *name) {
    for (int i = 0; i < list->count; i++)
        if (!strcmp(list->items[i].name, name)) return true;
    return false;
}

/* A value other than `otherwise`, under the module's end where all such modules have it, else under
 * its full name. */
static Err describe_pattern(PatternList *list, const Adapter *adapter, const ModelSpec *base,
                            ModuleNumber number, double otherwise, const char *what) {
    list->count = 0;
    for (int i = 0; i < adapter_count(adapter); i++) {
        const AdapterModule *m = adapter_at(adapter, i);
        if (number(m) == otherwise || published_is_unused(base, m->name)) continue;
        bool shared = value_of_end(adapter, end_of(m->name), number) == number(m);
        const char *name = shared ? end_of(m->name) : m->name;
        if (has_pattern(list, name)) continue;
        if (list->count == PATTERNS_MAX || strlen(name) >= PATTERN_NAME)
            return too_irregular(adapter, what);
        strcpy(list->items[list->count].name, name);
        list->items[list->count++].value = number(m);
    }
    return OK;
}

Err adapter_describe(const Adapter *adapter, const ModelSpec *base, LoraConfig *lora,
                     Tune tune[COMPONENT_COUNT]) {
    ComponentUse uses[COMPONENT_COUNT] = {
        [COMPONENT_VISION] = component_use(base, COMPONENT_VISION),
        [COMPONENT_CONNECTOR] = component_use(base, COMPONENT_CONNECTOR),
        [COMPONENT_LLM] = component_use(base, COMPONENT_LLM)};
    *lora = adapter_config(adapter)->lora;
    TRY(count_uses(uses, adapter, base));
    TRY(describe_targets(lora->target_modules, adapter, base, uses));
    TRY(describe_pattern(&lora->rank_pattern, adapter, base, rank_of, (double)lora->r, "ranks"));
    TRY(describe_pattern(&lora->alpha_pattern, adapter, base, alpha_of, lora->alpha, "alphas"));
    for (int p = 0; p < COMPONENT_COUNT; p++)
        tune[p] = is_adapted(&uses[p]) ? TUNE_LORA : TUNE_FROZEN;
    for (int i = 0; i < adapter_whole_count(adapter); i++)
        if (component_of(adapter_whole_at(adapter, i)->name) == COMPONENT_CONNECTOR)
            tune[COMPONENT_CONNECTOR] = TUNE_FULL;
    return OK;
}

/* ---- checking ---- */

static bool is_zero(const SafeTensor *t) {
    enum { PIECE = 4096 };
    float x[PIECE];
    for (int64_t at = 0; at < t->count; at += PIECE) {
        int64_t count = t->count - at < PIECE ? t->count - at : PIECE;
        dtype_widen(x, (const char *)t->data + (size_t)at * dtype_size(t->dtype), t->dtype, count);
        if (dtype_first_beyond(x, count, 0) < count) return false;
    }
    return true;
}

static ParamId find_param(const Params *params, const char *module, const char *suffix) {
    char name[PARAM_NAME + 32];
    snprintf(name, sizeof name, "%s.%s", module, suffix);
    return params_find(params, name);
}

static Err check_module(const Adapter *adapter, const AdapterModule *m, const Model *model) {
    const Params *params = &model->params;
    ParamId id = find_param(params, m->name, "weight");
    if (id == PARAM_NONE) {
        REQUIRE(published_is_unused(&model->spec, m->name) || is_zero(m->b), ERR_INPUT,
                "%s is an adapter for another base: it adapts %s, which this model does not have",
                adapter_folder(adapter), m->name);
        return OK;
    }
    const Param *p = &params->items[id];
    REQUIRE(p->kind == PARAM_MATRIX && p->dims == 2, ERR_UNSUPPORTED,
            "%s adapts %s, which is no linear: only those can be adapted here",
            adapter_folder(adapter), m->name);
    REQUIRE(m->a->shape[1] == p->cols && m->b->shape[0] == p->rows, ERR_INPUT,
            "%s is an adapter for another base: it adapts %s of the shape [%lld, %lld], which is "
            "[%lld, %lld] in this model",
            adapter_folder(adapter), m->name, (long long)m->b->shape[0], (long long)m->a->shape[1],
            (long long)p->rows, (long long)p->cols);
    return OK;
}

static Err check_whole(const Adapter *adapter, const SafeTensor *t, const Model *model) {
    const Params *params = &model->params;
    ParamId id = params_find(params, t->name);
    if (id != PARAM_NONE) return param_check_tensor(&params->items[id], t, adapter_folder(adapter));
    REQUIRE(published_is_unused(&model->spec, t->name), ERR_INPUT,
            "%s is an adapter for another base: it has %s, which this model does not have",
            adapter_folder(adapter), t->name);
    return OK;
}

Err adapter_check(const Adapter *adapter, const Model *model) {
    for (int i = 0; i < adapter_count(adapter); i++)
        TRY(check_module(adapter, adapter_at(adapter, i), model));
    for (int i = 0; i < adapter_whole_count(adapter); i++)
        TRY(check_whole(adapter, adapter_whole_at(adapter, i), model));
    return OK;
}

/* ---- loading ---- */

static Err check_place(const Adapter *adapter, const AdapterModule *m, const AdapterPlace *place) {
    REQUIRE(place, ERR_CONFIG,
            "%s adapts %s, which the model does not: let tune and lora.target_modules take it in, "
            "or merge the adapter",
            adapter_folder(adapter), m->name);
    REQUIRE(
        place->r == m->r, ERR_CONFIG,
        "%s: %s has the rank %lld, the model %lld: set lora.r to the adapter's, or merge it and "
        "begin a new one",
        adapter_folder(adapter), m->name, (long long)m->r, (long long)place->r);
    REQUIRE(fabsf(place->scale - m->scale) <= 1e-6f * fabsf(m->scale), ERR_CONFIG,
            "%s: %s is scaled by %g, in the model by %g: set lora.alpha to the adapter's %g",
            adapter_folder(adapter), m->name, (double)m->scale, (double)place->scale, m->alpha);
    return OK;
}

static Err load_param(ParamReader *reader, const Params *params, ParamId id, float *flat,
                      const SafeTensor *t, const Adapter *adapter) {
    const Param *p = &params->items[id];
    REQUIRE(
        p->trained, ERR_CONFIG,
        "%s has %s of its own, which is frozen here: train that component in full, or merge the "
        "adapter",
        adapter_folder(adapter), p->name);
    return param_read(reader, param_value(params, id), param_master(p, flat), t,
                      adapter_folder(adapter));
}

static Err load_modules(Model *model, ParamReader *reader, const Adapter *adapter, float *flat,
                        int *loaded) {
    const Params *params = &model->params;
    int count;
    AdapterPlace *places = adapter_places(model, &count);
    Err err = OK;
    for (int i = 0; i < adapter_count(adapter) && err == OK; i++) {
        const AdapterModule *m = adapter_at(adapter, i);
        ParamId weight = find_param(params, m->name, "weight");
        const AdapterPlace *place = adapter_place_of(places, count, weight);
        if (weight == PARAM_NONE || (!place && is_zero(m->b))) continue;
        err = check_place(adapter, m, place);
        if (err == OK) err = load_param(reader, params, place->a, flat, m->a, adapter);
        if (err == OK) err = load_param(reader, params, place->b, flat, m->b, adapter);
        *loaded += 1;
    }
    free(places);
    return err;
}

Err model_load_adapter(Model *model, const Adapter *adapter, float *flat, int *loaded) {
    const Params *params = &model->params;
    ParamReader reader;
    *loaded = 0;
    TRY(adapter_check(adapter, model));
    TRY(param_reader_open(&reader, model->ex, params));
    Err err = load_modules(model, &reader, adapter, flat, loaded);
    for (int i = 0; i < adapter_whole_count(adapter) && err == OK; i++) {
        const SafeTensor *t = adapter_whole_at(adapter, i);
        ParamId id = params_find(params, t->name);
        if (id != PARAM_NONE) err = load_param(&reader, params, id, flat, t, adapter);
    }
    param_reader_close(&reader);
    return err;
}
