/* Adapters into PEFT's files, with the keys and the config of PEFT 0.10; see model/files/adapter.h.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/folder.h"
#include "core/json.h"
#include "model/files/adapter.h"
#include "model/files/merge.h"
#include "model/files/param_files.h"
#include "model/model_internal.h"

/* PEFT finds a module to save by the end of its name, and the keys of its tensors by the name
 * anywhere in them. "connector" would find both the module of that name and the one inside it and
 * fail; this name is the inner one's alone. */
#define CONNECTOR "connector._connector"

/* ---- the config ---- */

/* The linear's name: that of its weight without the end. To be freed. */
static char *module_name(const Model *model, const AdapterPlace *place) {
    const char *name = model->params.items[place->weight].name;
    char *module = strndup(name, strlen(name) - strlen(".weight"));
    CHECK(module, "out of memory: a name");
    return module;
}

/* The alpha that the scale comes from, as the config has it and not as a quotient times a rank. */
static double alpha_of(const Model *model, const char *module) {
    const PatternList *list = &model->spec.lora.alpha_pattern;
    for (int i = 0; i < list->count; i++) {
        const char *name = list->items[i].name;
        if (name_ends(module, name, strlen(name))) return list->items[i].value;
    }
    return model->spec.lora.alpha;
}

static Json *number(double value) {
    return value == floor(value) ? js_new_integer((int64_t)value) : js_new_number(value);
}

/* Modules, and the ranks and alphas of those that differ; under full names, which no rule of
 * matching can mistake. */
static void set_modules(Json *config, const Model *model, const AdapterPlace *places, int count) {
    Json *targets = js_new_array(), *ranks = js_new_object(), *alphas = js_new_object();
    for (int i = 0; i < count; i++) {
        char *module = module_name(model, &places[i]);
        double alpha = alpha_of(model, module);
        js_push(targets, js_new_text(module));
        if (places[i].r != model->spec.lora.r) js_set_integer(ranks, module, places[i].r);
        if (alpha != model->spec.lora.alpha) js_set(alphas, module, number(alpha));
        free(module);
    }
    js_set(config, "target_modules", targets);
    js_set(config, "rank_pattern", ranks);
    js_set(config, "alpha_pattern", alphas);
}

static bool connector_is_trained(const Model *model) {
    return model->spec.tune[COMPONENT_CONNECTOR] == TUNE_FULL;
}

static Json *describe(const Model *model, const AdapterInfo *info, const AdapterPlace *places,
                      int count) {
    static const char *const nulls[] = {"auto_mapping",    "layer_replication",
                                        "layers_pattern",  "layers_to_transform",
                                        "megatron_config", "revision"};
    const LoraConfig *lora = &model->spec.lora;
    Json *config = js_new_object(), *saved = js_new_array();
    for (size_t i = 0; i < sizeof nulls / sizeof nulls[0]; i++)
        js_set(config, nulls[i], js_new_null());
    js_set_text(config, "base_model_name_or_path", info->base_model);
    js_set_text(config, "bias", "none");
    js_set_bool(config, "fan_in_fan_out", false);
    js_set_bool(config, "inference_mode", true);
    js_set_bool(config, "init_lora_weights", true);
    js_set(config, "loftq_config", js_new_object());
    js_set(config, "lora_alpha", number(lora->alpha));
    js_set_number(config, "lora_dropout", lora->dropout);
    js_set_text(config, "megatron_core", "megatron.core");
    js_set_text(config, "peft_type", "LORA");
    js_set_integer(config, "r", lora->r);
    js_set_text(config, "task_type", "CAUSAL_LM");
    js_set_bool(config, "use_dora", false);
    js_set_bool(config, "use_rslora", lora->use_rslora);
    js_push(saved, js_new_text(CONNECTOR));
    js_set(config, "modules_to_save", connector_is_trained(model) ? js_copy(saved) : js_new_null());
    js_free(&saved);
    set_modules(config, model, places, count);
    return config;
}

static Err write_config(const Model *model, const char *folder, const AdapterInfo *info,
                        const AdapterPlace *places, int count) {
    char path[PATH_SIZE];
    Buf text = {0};
    TRY(path_join(path, folder, "adapter_config.json"));
    Json *config = describe(model, info, places, count);
    js_print(&text, config, JSON_INDENTED, 15);
    js_free(&config);
    Err err = file_write(path, text.data, text.size);
    buf_free(&text);
    return err;
}

/* ---- the tensors ---- */

typedef char Key[PARAM_NAME + 32];

static bool is_saved(const Model *model, const Param *p) {
    return !param_is_base(p) ||
           (p->component == COMPONENT_CONNECTOR && connector_is_trained(model));
}

static Err write_param(SafeTensorsWriter *writer, Model *model, ParamId id, const float *flat) {
    const Param *p = &model->params.items[id];
    Tensor master = param_master(p, flat);
    Tensor value = tensor_is_none(master) ? param_value(&model->params, id) : master;
    size_t bytes = (size_t)(p->rows * p->cols) * sizeof(float);
    float *wide = malloc(bytes + 1);
    CHECK(wide, "out of memory: %zu bytes of an adapter", bytes);
    param_download(wide, model->ex, value);
    Err err = safetensors_writer_add(writer, wide, bytes);
    free(wide);
    return err;
}

static Err write_weights(Model *model, const char *folder, const float *flat) {
    Params *params = &model->params;
    char path[PATH_SIZE];
    SafeTensorsWriter writer;
    TRY(path_join(path, folder, "adapter_model.safetensors"));
    SafeTensor *tensors = calloc((size_t)params->count + 1, sizeof *tensors);
    Key *keys = calloc((size_t)params->count + 1, sizeof *keys);
    CHECK(tensors && keys, "out of memory: %d tensors", params->count);
    int count = 0;
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (!is_saved(model, p)) continue;
        tensors[count] = param_tensor(p, DT_F32);
        snprintf(keys[count], sizeof keys[count], "base_model.model.%s", p->name);
        tensors[count].name = keys[count];
        count++;
    }
    Err err = safetensors_writer_open(&writer, path, tensors, count);
    for (int i = 0; i < params->count && err == OK; i++) {
        if (is_saved(model, &params->items[i])) err = write_param(&writer, model, i, flat);
    }
    if (err == OK) err = safetensors_writer_finish(&writer);
    safetensors_writer_abandon(&writer);
    free(tensors);
    free(keys);
    return err;
}

/* ---- the folder ---- */

Err model_save_adapter(Model *model, const char *folder, const AdapterInfo *info,
                       const float *flat) {
    FolderWriter writer = {0};
    for (int p = 0; p < COMPONENT_COUNT; p++)
        REQUIRE(p == COMPONENT_CONNECTOR || model->spec.tune[p] != TUNE_FULL, ERR_INPUT,
                "the %s was trained in full, which fits in no adapter: export it merged",
                component_name((Component)p));
    int count;
    AdapterPlace *places = adapter_places(model, &count);
    Err err = OK;
    if (!count)
        err = err_raise(ERR_INPUT, __FILE__, __LINE__,
                        "the model has no adapters to write: export it merged");
    if (err == OK) err = folder_writer_open(&writer, folder);
    if (err == OK) err = write_config(model, writer.temporary, info, places, count);
    if (err == OK) err = write_weights(model, writer.temporary, flat);
    if (err == OK) err = folder_writer_add(&writer, info->beside, info->beside_count);
    if (err == OK) err = exec_status(model->ex);
    if (err == OK) err = folder_writer_finish(&writer);
    folder_writer_abandon(&writer);
    free(places);
    return err;
}
