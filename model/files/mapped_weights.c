/* Frozen parameters that are used where their file is mapped, so that the ranks of a machine share
 * one copy; and the file made for that: the base parameters in the compute type, those of one
 * product (q, k and v) behind one another. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "model/files/dtype_convert.h"
#include "model/files/param_files.h"
#include "model/model_internal.h"

enum { MAPPED_ALIGN = 64, PIECE = 1 << 18 };

/* What a source reads, in sentences: it alone knows the file. */
static const char BASE[] = "the base";

/* ---- mapping ---- */

/* How many parameters from `id` on are one matrix or vector. */
static int group_size(const Params *params, int id) {
    int size = 1;
    while (id + size < params->count && params->items[id + size].joined) size++;
    return size;
}

static Err find(const SafeTensors *file, const Param *p, const SafeTensor **tensor) {
    *tensor = safetensors_find(file, p->name);
    REQUIRE(*tensor, ERR_INPUT, "%s: %s is missing", safetensors_path(file), p->name);
    return param_check_tensor(p, *tensor, safetensors_path(file));
}

/* Whether the tensors lie as the model reads them. */
static bool is_usable(const Params *params, const SafeTensor *const *tensors, int count) {
    for (int i = 0; i < count; i++) {
        const char *data = tensors[i]->data;
        if (tensors[i]->dtype != params->dtype || (uintptr_t)data % dtype_size(params->dtype))
            return false;
        size_t bytes = (size_t)tensors[i]->count * dtype_size(params->dtype);
        if (i + 1 < count && (const char *)tensors[i + 1]->data != data + bytes) return false;
    }
    return true;
}

static Err bind_group(Model *model, ParamReader *reader, const SafeTensors *file, int id,
                      int count) {
    Params *params = &model->params;
    const SafeTensor *tensors[LINEAR_MODULES];
    size_t bytes = 0, element = dtype_size(params->dtype);
    CHECK(count <= LINEAR_MODULES, "%d joined parameters", count);
    for (int i = 0; i < count; i++) {
        TRY(find(file, &params->items[id + i], &tensors[i]));
        bytes += (size_t)tensors[i]->count * element;
    }
    if (is_usable(params, tensors, count)) {
        for (int i = 0; i < count; i++) params->items[id + i].mapped = (void *)tensors[i]->data;
        model->mapped_bytes += bytes;
        return OK;
    }
    char *own = exec_alloc(model->ex, bytes);
    REQUIRE(own, ERR_MEMORY, "out of memory: %zu MiB of weights", bytes >> 20);
    model->converted[model->converted_count++] = own;
    model->converted_bytes += bytes;
    for (int i = 0; i < count; i++) {
        Param *p = &params->items[id + i];
        p->mapped = own;
        own += (size_t)tensors[i]->count * element;
        TRY(param_read(reader, param_value(params, id + i), tensor_none(), tensors[i],
                       safetensors_path(file)));
    }
    return OK;
}

static Err map_all(Model *model, ParamReader *reader, const SafeTensors *file) {
    Params *params = &model->params;
    for (int id = 0; id < params->count;) {
        const Param *p = &params->items[id];
        int count = group_size(params, id);
        if (p->outside) TRY(bind_group(model, reader, file, id, count));
        for (int i = 0; i < count && !p->outside && param_is_base(p); i++) {
            const SafeTensor *t = safetensors_find(file, params->items[id + i].name);
            if (!t) continue;
            TRY(find(file, &params->items[id + i], &t));
            TRY(param_read(reader, param_value(params, id + i), tensor_none(), t,
                           safetensors_path(file)));
        }
        id += count;
    }
    return exec_status(model->ex);
}

Err model_map(Model *model, const char *path) {
    CHECK(model->spec.mapped && !model->mapped, "a model that is not to be mapped, or is");
    model->converted = calloc((size_t)model->params.count, sizeof *model->converted);
    CHECK(model->converted, "out of memory: parameters");
    TRY(safetensors_open(&model->mapped, path));
    ParamReader reader;
    Err err = param_reader_open(&reader, model->ex, &model->params);
    if (err == OK) err = map_all(model, &reader, model->mapped);
    param_reader_close(&reader);
    return err;
}

static Err load_frozen(Model *model, ParamReader *reader, const SafeTensors *file) {
    Params *params = &model->params;
    for (int id = 0; id < params->count; id++) {
        const Param *p = &params->items[id];
        const SafeTensor *t;
        if (p->trained) continue;
        TRY(find(file, p, &t));
        TRY(param_read(reader, param_value(params, id), tensor_none(), t, safetensors_path(file)));
    }
    return exec_status(model->ex);
}

Err model_load_frozen(Model *model, const char *path) {
    SafeTensors *file;
    ParamReader reader;
    TRY(safetensors_open(&file, path));
    Err err = param_reader_open(&reader, model->ex, &model->params);
    if (err == OK) err = load_frozen(model, &reader, file);
    param_reader_close(&reader);
    safetensors_close(&file);
    return err;
}

const char *model_mapped_path(const Model *model) {
    return model->mapped ? safetensors_path(model->mapped) : NULL;
}

size_t model_mapped_bytes(const Model *model) {
    return model->mapped_bytes;
}

void mapped_weights_close(Model *model) {
    for (int i = 0; i < model->converted_count; i++) exec_free(model->ex, model->converted[i], 0);
    free(model->converted);
    safetensors_close(&model->mapped);
    model->converted = NULL;
    model->converted_count = 0;
}

/* ---- writing ---- */

uint64_t model_layout_hash(const Model *model) {
    uint64_t hash = 0;
    for (int i = 0; i < model->params.count; i++) {
        const Param *p = &model->params.items[i];
        char line[PARAM_NAME + 64];
        if (!param_is_base(p)) continue;
        int length = snprintf(line, sizeof line, "%016llx %s %lld %lld", (unsigned long long)hash,
                              p->name, (long long)p->rows, (long long)p->cols);
        hash = hash_bytes(line, (size_t)length);
    }
    return hash;
}

/* The tensors of a file to map, in order. Between those that are not joined there may be some that
 * only fill up to the next multiple of MAPPED_ALIGN; id[i] = PARAM_NONE for them. */
typedef struct MappedLayout {
    SafeTensor *tensors;
    ParamId *ids;
    char (*fillings)[24]; /* names */
    int count;
} MappedLayout;

static void layout_free(MappedLayout *layout) {
    free(layout->tensors);
    free(layout->ids);
    free(layout->fillings);
}

static void layout_make(MappedLayout *layout, const Model *model) {
    size_t most = 2 * (size_t)model->params.count, element = dtype_size(model->dtype), at = 0;
    *layout = (MappedLayout){.tensors = calloc(most, sizeof *layout->tensors),
                             .ids = calloc(most, sizeof *layout->ids),
                             .fillings = calloc(most, sizeof *layout->fillings)};
    CHECK(layout->tensors && layout->ids && layout->fillings, "out of memory: %zu tensors", most);
    for (int i = 0; i < model->params.count; i++) {
        const Param *p = &model->params.items[i];
        if (!param_is_base(p)) continue;
        size_t missing = (MAPPED_ALIGN - at % MAPPED_ALIGN) % MAPPED_ALIGN;
        if (missing && !p->joined) {
            int64_t count = (int64_t)(missing / element);
            char *name = layout->fillings[layout->count];
            snprintf(name, sizeof layout->fillings[0], "filling.%d", layout->count);
            layout->ids[layout->count] = PARAM_NONE;
            layout->tensors[layout->count++] = (SafeTensor){
                .name = name, .dtype = model->dtype, .dims = 1, .shape = {count}, .count = count};
            at += missing;
        }
        layout->ids[layout->count] = i;
        layout->tensors[layout->count++] = param_tensor(p, model->dtype);
        at += (size_t)(p->rows * p->cols) * element;
    }
}

/* Narrows piece by piece, which the second cache holds between check and conversion. */
static Err write_tensor(SafeTensorsWriter *writer, const Param *p, DType dtype,
                        const WeightSource *source, float *wide, void *narrow) {
    int64_t all = p->rows * p->cols;
    TRY(source->read(source->context, p, wide));
    for (int64_t at = 0; at < all; at += PIECE) {
        int64_t count = all - at < PIECE ? all - at : PIECE;
        TRY(param_check_numbers(wide + at, count, at, dtype, p->name, BASE));
        dtype_narrow(narrow, dtype, wide + at, count);
        TRY(safetensors_writer_add(writer, narrow, (size_t)count * dtype_size(dtype)));
    }
    return OK;
}

/* Numbers of the largest base parameter. */
static int64_t largest_param(const Params *params) {
    int64_t largest = 1;
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (param_is_base(p) && p->rows * p->cols > largest) largest = p->rows * p->cols;
    }
    return largest;
}

static Err write_all(SafeTensorsWriter *writer, const Model *model, const MappedLayout *layout,
                     const WeightSource *source) {
    static const char nothing[MAPPED_ALIGN] = {0};
    int64_t largest = largest_param(&model->params);
    float *wide = malloc((size_t)largest * sizeof *wide);
    void *narrow = malloc(PIECE * dtype_size(model->dtype));
    CHECK(wide && narrow, "out of memory: %lld weights", (long long)largest);
    Err err = OK;
    for (int i = 0; i < layout->count && err == OK; i++) {
        if (layout->ids[i] == PARAM_NONE)
            err = safetensors_writer_add(
                writer, nothing, (size_t)layout->tensors[i].count * dtype_size(model->dtype));
        else
            err = write_tensor(writer, &model->params.items[layout->ids[i]], model->dtype, source,
                               wide, narrow);
    }
    free(wide);
    free(narrow);
    return err;
}

Err model_write_mapped(const Model *model, const char *path, const WeightSource *source) {
    MappedLayout layout;
    SafeTensorsWriter writer;
    layout_make(&layout, model);
    Err err = safetensors_writer_open(&writer, path, layout.tensors, layout.count);
    if (err == OK) {
        err = write_all(&writer, model, &layout, source);
        if (err == OK) err = safetensors_writer_finish(&writer);
        safetensors_writer_abandon(&writer);
    }
    layout_free(&layout);
    return err;
}

/* Every base parameter, or those that are trained, into values or masters. */
static Err fill(Model *model, const WeightSource *source, float *flat) {
    Params *params = &model->params;
    ParamReader reader;
    int64_t largest = largest_param(params);
    TRY(param_reader_open(&reader, model->ex, params));
    float *values = malloc((size_t)largest * sizeof *values);
    CHECK(values, "out of memory: %lld weights", (long long)largest);
    Err err = OK;
    for (int i = 0; i < params->count && err == OK; i++) {
        const Param *p = &params->items[i];
        if (!param_is_base(p) || (flat && !p->trained)) continue;
        CHECK(!p->outside, "%s is mapped: nothing loads into it", p->name);
        err = source->read(source->context, p, values);
        if (err == OK)
            err = param_put(&reader, param_value(params, i), param_master(p, flat), values, p->name,
                            BASE);
    }
    free(values);
    param_reader_close(&reader);
    return err;
}

Err model_fill(Model *model, const WeightSource *source) {
    return fill(model, source, NULL);
}

Err model_fill_masters(Model *model, const WeightSource *source, float *flat) {
    return fill(model, source, flat);
}
