/* The files of checkpoints: parameters in and out under their names. */
#include <stdlib.h>

#include "model/files/param_files.h"
#include "model/model_internal.h"

/* ---- writing ---- */

/* What a file has of a parameter: its f32 in the flat array, or its value. */
static Tensor stored(const Model *model, ParamId id, const float *flat) {
    const Param *p = &model->params.items[id];
    return p->trained ? param_master(p, flat) : param_value(&model->params, id);
}

static Err save(Model *model, const char *path, bool trained, const float *flat) {
    Params *params = &model->params;
    SafeTensor *tensors = calloc((size_t)params->count + 1, sizeof *tensors);
    ParamId *ids = calloc((size_t)params->count + 1, sizeof *ids);
    CHECK(tensors && ids, "out of memory: %d parameters", params->count);
    int count = 0;
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (p->trained != trained) continue;
        ids[count] = i;
        tensors[count++] = param_tensor(p, trained ? DT_F32 : params->dtype);
    }
    SafeTensorsWriter writer;
    Err err = safetensors_writer_open(&writer, path, tensors, count);
    for (int i = 0; i < count && err == OK; i++)
        err = param_write(&writer, model->ex, stored(model, ids[i], flat));
    if (err == OK) err = safetensors_writer_finish(&writer);
    safetensors_writer_abandon(&writer);
    free(tensors);
    free(ids);
    return err;
}

Err model_save_trained(Model *model, const char *path, const float *flat) {
    return save(model, path, true, flat);
}

Err model_save_frozen(Model *model, const char *path) {
    return save(model, path, false, NULL);
}

bool model_has_frozen(const Model *model) {
    for (int i = 0; i < model->params.count; i++)
        if (!model->params.items[i].trained) return true;
    return false;
}

/* ---- reading ---- */

static Err load_tensor(Model *model, ParamReader *reader, const SafeTensor *t, const char *path,
                       float *flat) {
    ParamId id = params_find(&model->params, t->name);
    REQUIRE(id != PARAM_NONE, ERR_INPUT, "%s: %s is no parameter of this model", path, t->name);
    const Param *p = &model->params.items[id];
    CHECK(!p->outside, "%s is mapped: nothing loads into it", p->name);
    TRY(param_check_tensor(p, t, path));
    return param_read(reader, param_value(&model->params, id), param_master(p, flat), t, path);
}

Err model_load(Model *model, const char *path, float *flat, int *found) {
    SafeTensors *file;
    ParamReader reader;
    TRY(safetensors_open(&file, path));
    Err err = param_reader_open(&reader, model->ex, &model->params);
    for (int i = 0; i < safetensors_count(file) && err == OK; i++)
        err = load_tensor(model, &reader, safetensors_at(file, i), path, flat);
    *found = safetensors_count(file);
    param_reader_close(&reader);
    safetensors_close(&file);
    return err;
}

static Err load_flat(Model *model, ParamReader *reader, const SafeTensors *file, float *flat) {
    for (int i = 0; i < model->params.count; i++) {
        const Param *p = &model->params.items[i];
        if (!p->trained) continue;
        const SafeTensor *t = safetensors_find(file, p->name);
        REQUIRE(t, ERR_INPUT, "%s: %s is missing", safetensors_path(file), p->name);
        TRY(param_check_tensor(p, t, safetensors_path(file)));
        TRY(param_read(reader, tensor_none(), param_master(p, flat), t, safetensors_path(file)));
    }
    return OK;
}

static Err load_flat_file(Model *model, const char *path, float *flat, bool squares) {
    SafeTensors *file;
    ParamReader reader;
    TRY(safetensors_open(&file, path));
    Err err = param_reader_open(&reader, model->ex, &model->params);
    reader.squares = squares;
    if (err == OK) err = load_flat(model, &reader, file, flat);
    param_reader_close(&reader);
    safetensors_close(&file);
    return err;
}

Err model_load_flat(Model *model, const char *path, float *flat) {
    return load_flat_file(model, path, flat, false);
}

Err model_load_squares(Model *model, const char *path, float *flat) {
    return load_flat_file(model, path, flat, true);
}

void model_master_from_values(Model *model, float *flat) {
    for (int i = 0; i < model->params.count; i++) {
        const Param *p = &model->params.items[i];
        if (!p->trained) continue;
        op_convert(model->ex, param_master(p, flat), param_value(&model->params, i));
    }
}
