/* Parameters in and out of files, and merging of adapters. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/parts.h"
#include "model/safetensors.h"

/* ---- writing ---- */

static SafeTensor describe(const Param *p, DType dtype, const void *data) {
    SafeTensor t = {
        .name = p->name, .dtype = dtype, .dims = p->dims, .count = p->rows * p->cols, .data = data};
    t.shape[0] = p->dims == 1 ? p->cols : p->rows;
    t.shape[1] = p->cols;
    for (int i = 0; p->dims == 4 && i < 3; i++) t.shape[1 + i] = p->tail[i];
    return t;
}

/* Rows that are further apart than they are long, one behind the other; what lay between them is
 * gone. */
static void close_rows(char *data, const Param *p, size_t element) {
    size_t line = (size_t)p->cols * element, stride = (size_t)p->stride * element;
    for (int64_t r = 1; r < p->rows && line < stride; r++)
        memmove(data + (size_t)r * line, data + (size_t)r * stride, line);
}

static Err save(Model *model, const char *path, bool trained, const void *device, size_t bytes,
                size_t element) {
    Params *params = &model->params;
    char *host = malloc(bytes + 1);
    SafeTensor *tensors = calloc((size_t)params->count, sizeof *tensors);
    CHECK(host && tensors, "out of memory: %zu bytes of parameters", bytes);
    exec_download(model->ex, host, device, bytes);
    int count = 0;
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (p->trained != trained) continue;
        char *data = host + (trained ? (size_t)p->first * element : p->offset);
        if (!trained) close_rows(data, p, element); /* between them are adapters: trained */
        tensors[count++] = describe(p, trained ? DT_F32 : params->dtype, data);
    }
    Err err = safetensors_write(path, tensors, count);
    free(tensors);
    free(host);
    return err;
}

Err model_save_trained(Model *model, const char *path, const float *flat) {
    return save(model, path, true, flat, (size_t)model->params.trained * sizeof *flat,
                sizeof *flat);
}

Err model_save_frozen(Model *model, const char *path) {
    return save(model, path, false, model->params.values, model->params.value_bytes,
                dtype_size(model->dtype));
}

bool model_has_frozen(const Model *model) {
    for (int i = 0; i < model->params.count; i++)
        if (!model->params.items[i].trained) return true;
    return false;
}

/* ---- reading ---- */

static float f32_from_half(uint16_t h) {
    uint32_t sign = (uint32_t)(h >> 15) << 31, exponent = h >> 10 & 31, mantissa = h & 1023;
    float x;
    if (exponent == 0)
        x = ldexpf((float)mantissa, -24);
    else if (exponent == 31)
        x = mantissa ? NAN : INFINITY;
    else
        x = ldexpf((float)(mantissa + 1024), (int)exponent - 25);
    return sign ? -x : x;
}

/* Widens a file's tensor; the file's bytes need not be aligned. */
static void widen(float *out, const SafeTensor *t) {
    for (int64_t i = 0; i < t->count; i++) {
        if (t->dtype == DT_F32) {
            memcpy(&out[i], (const char *)t->data + 4 * i, 4);
            continue;
        }
        uint16_t half;
        memcpy(&half, (const char *)t->data + 2 * i, 2);
        if (t->dtype == DT_F16) {
            out[i] = f32_from_half(half);
        } else {
            uint32_t bits = (uint32_t)half << 16;
            memcpy(&out[i], &bits, 4);
        }
    }
}

static Err check_tensor(const SafeTensors *file, const SafeTensor *t, const Param *p) {
    const char *path = safetensors_path(file);
    REQUIRE(t->dtype != DT_I32, ERR_INPUT, "%s: %s has whole numbers where weights are expected",
            path, t->name);
    int64_t rows = t->dims == 0 ? 1 : t->dims == 1 && p->dims == 1 ? 1 : t->shape[0];
    REQUIRE(rows == p->rows && t->count == p->rows * p->cols, ERR_INPUT,
            "%s: %s has %lld rows and %lld numbers in all; the model expects [%lld, %lld]", path,
            t->name, (long long)rows, (long long)t->count, (long long)p->rows, (long long)p->cols);
    return OK;
}

/* A file's tensor in f32 on the device; give back with exec_free. */
static Err stage(Model *model, const SafeTensors *file, const SafeTensor *t, float **staged) {
    size_t bytes = (size_t)t->count * sizeof(float);
    float *host = malloc(bytes + 1);
    CHECK(host, "out of memory: %zu bytes of weights", bytes);
    widen(host, t);
    Err err = OK;
    for (int64_t i = 0; i < t->count && err == OK; i++)
        if (!isfinite(host[i]))
            err = err_raise(ERR_INPUT, __FILE__, __LINE__, "%s: %s[%lld] is %g",
                            safetensors_path(file), t->name, (long long)i, (double)host[i]);
    *staged = err == OK ? exec_alloc(model->ex, bytes) : NULL;
    if (err == OK && !*staged)
        err =
            err_raise(ERR_MEMORY, __FILE__, __LINE__, "out of memory: %zu bytes of weights", bytes);
    if (err == OK) exec_upload(model->ex, *staged, host, bytes);
    free(host);
    return err;
}

static Err load_tensor(Model *model, const SafeTensors *file, const SafeTensor *t, float *flat) {
    ParamId id = params_find(&model->params, t->name);
    REQUIRE(id != PARAM_NONE, ERR_INPUT, "%s: %s is no parameter of this model",
            safetensors_path(file), t->name);
    const Param *p = &model->params.items[id];
    TRY(check_tensor(file, t, p));
    float *staged;
    TRY(stage(model, file, t, &staged));
    Tensor value = param_value(&model->params, id),
           source = tensor(staged, DT_F32, value.rows, value.cols);
    op_convert(model->ex, value, source);
    if (flat && p->trained)
        op_convert(model->ex, tensor(flat + p->first, DT_F32, value.rows, value.cols), source);
    exec_free(model->ex, staged, (size_t)t->count * sizeof *staged);
    return exec_status(model->ex);
}

Err model_load(Model *model, const char *path, float *flat, int *found) {
    SafeTensors *file;
    TRY(safetensors_open(&file, path));
    Err err = OK;
    for (int i = 0; i < safetensors_count(file) && err == OK; i++)
        err = load_tensor(model, file, safetensors_at(file, i), flat);
    *found = safetensors_count(file);
    safetensors_close(&file);
    return err;
}

static Err load_flat(Model *model, const SafeTensors *file, float *flat) {
    for (int i = 0; i < model->params.count; i++) {
        const Param *p = &model->params.items[i];
        if (!p->trained) continue;
        const SafeTensor *t = safetensors_find(file, p->name);
        REQUIRE(t, ERR_INPUT, "%s: %s is missing", safetensors_path(file), p->name);
        TRY(check_tensor(file, t, p));
        float *staged;
        TRY(stage(model, file, t, &staged));
        op_convert(model->ex, tensor(flat + p->first, DT_F32, 1, t->count),
                   tensor(staged, DT_F32, 1, t->count));
        exec_free(model->ex, staged, (size_t)t->count * sizeof *staged);
    }
    return exec_status(model->ex);
}

Err model_load_flat(Model *model, const char *path, float *flat) {
    SafeTensors *file;
    TRY(safetensors_open(&file, path));
    Err err = load_flat(model, file, flat);
    safetensors_close(&file);
    return err;
}

void model_master_from_values(Model *model, float *flat) {
    for (int i = 0; i < model->params.count; i++) {
        const Param *p = &model->params.items[i];
        if (!p->trained) continue;
        Tensor value = param_value(&model->params, i);
        op_convert(model->ex, tensor(flat + p->first, DT_F32, value.rows, value.cols), value);
    }
}

/* ---- between models ---- */

static void merge(Model *model, const Linear *linear) {
    Exec *ex = model->ex;
    for (int i = 0; i < linear->lora_count; i++) {
        const struct Adapter *l = &linear->lora[i];
        Tensor w = tensor_rows(params_joined_value(&model->params, linear->weight, linear->modules),
                               l->first, l->count),
               a = value_of(model, l->a);
        Tensor b = value_of(model, l->b);
        size_t w_bytes = (size_t)tensor_count(w) * sizeof(float);
        size_t a_bytes = (size_t)tensor_count(a) * sizeof(float),
               b_bytes = (size_t)tensor_count(b) * sizeof(float);
        float *memory = exec_alloc(ex, w_bytes + a_bytes + b_bytes);
        CHECK(memory, "out of memory: merging an adapter of %zu MiB", w_bytes >> 20);
        Tensor wide = tensor(memory, DT_F32, w.rows, w.cols),
               wide_a = tensor(memory + tensor_count(w), DT_F32, a.rows, a.cols);
        Tensor wide_b = tensor(memory + tensor_count(w) + tensor_count(a), DT_F32, b.rows, b.cols);
        op_convert(ex, wide, w);
        op_convert(ex, wide_a, a);
        op_convert(ex, wide_b, b);
        op_lora_merge(ex, wide, wide_a, wide_b, l->scale);
        op_convert(ex, w, wide);
        exec_zero(ex, wide_b.data, b_bytes);
        op_convert(ex, b, wide_b);
        exec_free(ex, memory, w_bytes + a_bytes + b_bytes);
    }
}

void model_merge_lora(Model *model) {
    for (int i = 0; i < model->spec.vision.layers; i++) {
        const VisionLayer *l = &model->vision[i];
        const Linear *all[] = {&l->qkv, &l->out, &l->fc1, &l->fc2};
        for (int k = 0; k < 4; k++) merge(model, all[k]);
    }
    for (int i = 0; i < model->spec.llm.layers; i++) {
        const DecoderLayer *l = &model->layers[i];
        const Linear *all[] = {&l->qkv, &l->out, &l->up, &l->down};
        for (int k = 0; k < 4; k++) merge(model, all[k]);
    }
}

int model_copy_values(Model *to, Model *from) {
    int copied = 0;
    for (int i = 0; i < from->params.count; i++) {
        const Param *p = &from->params.items[i];
        ParamId id = params_find(&to->params, p->name);
        if (id == PARAM_NONE || to->params.items[id].rows != p->rows ||
            to->params.items[id].cols != p->cols)
            continue;
        op_convert(to->ex, param_value(&to->params, id), param_value(&from->params, i));
        copied++;
    }
    return copied;
}
