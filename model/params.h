/* The parameters of a model: what there is, how it is trained, and where it lies.
 *
 * Every parameter has its value in the compute type. Those that are trained also have a place in
 * the flat f32 arrays that the trainer owns: master weights, gradients, moments. Nothing is kept
 * for what is frozen. */
#ifndef CADVLM_MODEL_PARAMS_H
#define CADVLM_MODEL_PARAMS_H

#include <stdbool.h>

#include "ops/ops.h"

typedef enum Component {
    COMPONENT_VISION,
    COMPONENT_CONNECTOR,
    COMPONENT_LLM,
    COMPONENT_COUNT
} Component;
const char *component_name(Component component); /* "vision", … */

typedef enum ParamKind {
    PARAM_MATRIX, /* decayed */
    PARAM_BIAS,
    PARAM_NORM,
    PARAM_EMBEDDING, /* tokens, positions, the class row */
    PARAM_LORA_A,    /* decayed, as matrices are */
    PARAM_LORA_B
} ParamKind;

typedef int ParamId;
enum { PARAM_NONE = -1, PARAM_NAME = 160 };

typedef struct Param {
    char name[PARAM_NAME]; /* as in safetensors files */
    Component component;
    ParamKind kind;
    int64_t rows, cols; /* a bias or norm is one row */
    int dims;           /* in files: 1, 2, or 4 */
    int64_t tail[3];    /* of 4: the shape behind the rows, whose product is cols */
    int64_t room;       /* of a matrix: columns behind it and rows below it, for its adapter */
    int64_t padding;    /* zeros below its rows, of a vector behind its columns; in memory alone */
    bool trained;
    bool joined;      /* right behind the parameter before it */
    bool outside;     /* its value is not among Params.values: frozen, and mapped from a file */
    void *mapped;     /* where it is then */
    float init_scale; /* of random initial weights: standard deviation, or bound for LORA_A; norms
                         start at this */
    size_t offset;    /* bytes into `values` */
    int64_t stride;   /* elements of `values` from row to row */
    int64_t first;    /* place in the flat arrays; -1: frozen */
} Param;

/* Elements from row to row where `room` columns follow `cols`: rows start on 16 bytes. */
static inline int64_t roomy_stride(DType dtype, int64_t cols, int64_t room) {
    int64_t step = 16 / (int64_t)dtype_size(dtype);
    return room ? (cols + room + step - 1) / step * step : cols;
}

typedef struct Params {
    Param *items;
    int count, capacity;
    DType dtype;
    bool outside; /* values of frozen parameters are elsewhere: none of them has memory here */
    char *values; /* device memory of all values; NULL before params_allocate */
    size_t value_bytes;
    int64_t trained; /* length of the flat arrays */
    float *grads;    /* [trained], device: where backward accumulates; set by the trainer */
} Params;

/* Declares a parameter. `joined`: lies right behind the one declared before, so that both are rows
 * of one matrix. */
ParamId params_declare(Params *params, const Param *param, bool joined);

/* Declares one that lies in the room of `matrix`: behind its columns, or below its rows. */
ParamId params_declare_behind(Params *params, const Param *param, ParamId matrix);
ParamId params_declare_below(Params *params, const Param *param, ParamId matrix);

/* Allocates the values (zero). */
Err params_allocate(Params *params, Exec *ex);
void params_free(Params *params, Exec *ex);

ParamId params_find(const Params *params, const char *name); /* PARAM_NONE */

/* Whether a name is, or ends behind a dot with, the first `length` characters of `end`: PEFT's rule
 * for what it adapts, and with which rank. */
bool name_ends(const char *name, const char *end, size_t length);

/* A parameter's place in a flat array of masters or moments; none of what is frozen, or without an
 * array (NULL). */
static inline Tensor param_master(const Param *p, const float *flat) {
    if (!flat || !p->trained) return tensor_none();
    return tensor((float *)(uintptr_t)flat + p->first, DT_F32, p->rows, p->cols);
}

Tensor param_value(const Params *params, ParamId id);
Tensor param_padded_value(const Params *params, ParamId id); /* with its padding */
Tensor param_grad(const Params *params, ParamId id);         /* f32; none when frozen */

/* `count` parameters declared joined, from `id` on, as one matrix. Rows of values may be further
 * apart than they are long (Param.stride); those of the flat arrays never are. */
Tensor params_joined_value(const Params *params, ParamId id, int count);
Tensor params_joined_grad(const Params *params, ParamId id, int count);

#endif
