/* The parameters of a model; see the header. */
#include "model/params.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

const char *component_name(Component component) {
    static const char *const names[COMPONENT_COUNT] = {"vision", "connector", "llm"};
    return names[component];
}

/* Adds a parameter with all but its place among the values. */
static Param *add(Params *params, const Param *param) {
    if (params->count == params->capacity) {
        params->capacity = params->capacity ? 2 * params->capacity : 64;
        params->items = realloc(params->items, (size_t)params->capacity * sizeof *params->items);
        CHECK(params->items, "out of memory: %d parameters", params->capacity);
    }
    Param *p = &params->items[params->count++];
    *p = *param;
    p->first = p->trained ? params->trained : -1;
    if (p->trained) params->trained += p->rows * p->cols;
    return p;
}

static ParamId id_of(const Params *params, const Param *p) {
    return (ParamId)(p - params->items);
}

ParamId params_declare(Params *params, const Param *param, bool joined) {
    CHECK(!joined || !param->room, "%s: room between joined matrices", param->name);
    Param *p = add(params, param);
    p->joined = joined;
    p->outside = params->outside && !p->trained;
    if (p->outside) {
        p->room = p->padding = 0;
        p->stride = p->cols;
        return id_of(params, p);
    }
    if (!joined) params->value_bytes = (params->value_bytes + ALIGN - 1) / ALIGN * ALIGN;
    p->offset = params->value_bytes;
    p->stride = roomy_stride(params->dtype, p->cols, p->room);
    int64_t elements =
        (p->rows + p->room) * p->stride + p->padding * (p->dims == 1 ? 1 : p->stride);
    params->value_bytes += (size_t)elements * dtype_size(params->dtype);
    return id_of(params, p);
}

/* From (row, col) of a matrix on, which is inside its room. */
static ParamId declare_inside(Params *params, const Param *param, ParamId matrix, int64_t row,
                              int64_t col) {
    Param *p = add(params, param);
    const Param *m = &params->items[matrix];
    CHECK(row + p->rows <= m->rows + m->room && col + p->cols <= m->cols + m->room,
          "%s has no room at %s", p->name, m->name);
    p->stride = m->stride;
    p->offset = m->offset + (size_t)(row * m->stride + col) * dtype_size(params->dtype);
    return id_of(params, p);
}

ParamId params_declare_behind(Params *params, const Param *param, ParamId matrix) {
    return declare_inside(params, param, matrix, 0, params->items[matrix].cols);
}

ParamId params_declare_below(Params *params, const Param *param, ParamId matrix) {
    return declare_inside(params, param, matrix, params->items[matrix].rows, 0);
}

Err params_allocate(Params *params, Exec *ex) {
    params->values = exec_alloc(ex, params->value_bytes);
    REQUIRE(params->values, ERR_MEMORY, "out of memory: the parameters need %zu MiB",
            params->value_bytes >> 20);
    return OK;
}

void params_free(Params *params, Exec *ex) {
    exec_free(ex, params->values, params->value_bytes);
    free(params->items);
    *params = (Params){0};
}

ParamId params_find(const Params *params, const char *name) {
    for (int i = 0; i < params->count; i++)
        if (!strcmp(params->items[i].name, name)) return i;
    return PARAM_NONE;
}

bool name_ends(const char *name, const char *end, size_t length) {
    size_t size = strlen(name);
    if (length > size || memcmp(name + size - length, end, length) != 0) return false;
    return length == size || name[size - length - 1] == '.';
}

Tensor param_value(const Params *params, ParamId id) {
    return params_joined_value(params, id, 1);
}

Tensor param_grad(const Params *params, ParamId id) {
    return params_joined_grad(params, id, 1);
}

/* Rows of joined matrices; the length of joined vectors (biases of q, k, v), which are one row. */
static int64_t joined_length(const Params *params, ParamId id, int count, bool vectors) {
    int64_t length = 0;
    for (int i = 0; i < count; i++)
        length += vectors ? params->items[id + i].cols : params->items[id + i].rows;
    return length;
}

Tensor params_joined_value(const Params *params, ParamId id, int count) {
    if (id == PARAM_NONE) return tensor_none();
    const Param *p = &params->items[id];
    bool vectors = p->dims == 1;
    int64_t length = joined_length(params, id, count, vectors), rows = vectors ? 1 : length,
            cols = vectors ? length : p->cols;
    void *data = p->outside ? p->mapped : params->values + p->offset;
    Tensor value = tensor(data, params->dtype, rows, cols);
    if (p->dims != 1) value.stride = p->stride;
    return value;
}

Tensor param_padded_value(const Params *params, ParamId id) {
    Tensor value = param_value(params, id);
    if (id == PARAM_NONE) return value;
    const Param *p = &params->items[id];
    *(p->dims == 1 ? &value.cols : &value.rows) += p->padding;
    if (p->dims == 1) value.stride = value.cols;
    return value;
}

Tensor params_joined_grad(const Params *params, ParamId id, int count) {
    if (id == PARAM_NONE || params->items[id].first < 0) return tensor_none();
    Tensor value = params_joined_value(params, id, count);
    return tensor(params->grads + params->items[id].first, DT_F32, value.rows, value.cols);
}
