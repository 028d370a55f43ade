#include "model/optim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Of the dynamic loss scale, as DeepSpeed has it in the recipe of OpenECAD: for the mean loss of a
 * micro-batch. Ours is the sum over its labels, so that the scale is divided by about their count.
 */
enum { LOSS_SCALE_START = 1 << 16, LOSS_SCALE_WINDOW = 1000, LOSS_SCALE_HYSTERESIS = 2 };
enum { LABELS_A_SAMPLE = 512 };

static double least_loss_scale(const TrainingConfig *training) {
    return exp2(-ceil(log2((double)training->per_device_batch_size * LABELS_A_SAMPLE)));
}

static bool is_decayed(ParamKind kind) {
    return kind == PARAM_MATRIX || kind == PARAM_LORA_A || kind == PARAM_LORA_B;
}

/* A component's own peak over that of the schedule. */
static float component_rate(const TrainingConfig *t, Component component) {
    const double own[COMPONENT_COUNT] = {[COMPONENT_VISION] = t->vision_learning_rate,
                                         [COMPONENT_CONNECTOR] = t->connector_learning_rate,
                                         [COMPONENT_LLM] = t->llm_learning_rate};
    return own[component] > 0 ? (float)(own[component] / t->learning_rate) : 1;
}

static void make_segments(Optim *optim, AdamwSegment *segments) {
    const Params *params = model_params(optim->model);
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (!p->trained) continue;
        Tensor value = param_value(params, i);
        segments[optim->segment_count++] = (AdamwSegment){
            .first = p->first,
            .count = p->rows * p->cols,
            .lr_scale = component_rate(&optim->training, p->component),
            .copy = value.data,
            .cols = value.cols,
            .stride = value.stride,
            .copy_dtype = value.dtype,
            .weight_decay = is_decayed(p->kind) ? (float)optim->training.weight_decay : 0,
        };
    }
}

static bool params_have_adapters(const Params *params) {
    for (int i = 0; i < params->count; i++)
        if (params->items[i].kind == PARAM_LORA_A) return true;
    return false;
}

size_t optim_bytes(const Optim *optim) {
    return 3 * (size_t)optim->count * sizeof(float); /* master, m, v */
}

/* Says what to lower, and to what: adapters grow with their rank. Gradients, still to come, take a
 * third as much again. */
static Err no_room(const Optim *optim) {
    const float *arrays[] = {optim->master, optim->m, optim->v};
    size_t bytes = optim_bytes(optim), total, available, taken = 0;
    exec_memory(optim->ex, &total, &available);
    for (int i = 0; i < 3; i++) taken += arrays[i] ? bytes / 3 : 0;
    double share = (double)(available + taken) / ((double)bytes * 4 / 3);
    int rank = (int)model_spec(optim->model)->lora.r, fit = (int)(share * rank);
    char what[120] = "freeze more (tune)";
    if (params_have_adapters(model_params(optim->model)) && fit >= 1 && fit < rank)
        snprintf(what, sizeof what, "lower lora.r from %d to %d, or freeze more (tune)", rank, fit);
    FAIL(ERR_MEMORY,
         "out of memory: optimiser state of %lld parameters needs %zu MiB, %zu of %zu MiB are "
         "free: %s",
         (long long)optim->count, bytes >> 20, (available + taken) >> 20, total >> 20, what);
}

Err optim_open(Optim *optim, Exec *ex, Model *model, const TrainingConfig *training) {
    const Params *params = model_params(model);
    int64_t count = params->trained;
    *optim = (Optim){.ex = ex, .model = model, .count = count, .training = *training};
    size_t bytes = (size_t)count * sizeof(float),
           segment_bytes = (size_t)(params->count + 1) * sizeof(AdamwSegment);
    optim->master = exec_alloc(ex, bytes);
    optim->m = exec_alloc(ex, bytes);
    optim->v = exec_alloc(ex, bytes);
    optim->state = exec_alloc(ex, sizeof *optim->state);
    optim->segments = exec_alloc(ex, segment_bytes);
    if (!optim->master || !optim->m || !optim->v || !optim->state || !optim->segments)
        return no_room(optim);
    AdamwSegment *segments = calloc((size_t)params->count + 1, sizeof *segments);
    CHECK(segments, "out of memory: %d parameters", params->count);
    make_segments(optim, segments);
    exec_upload(ex, optim->segments, segments, segment_bytes);
    free(segments);
    model_master_from_values(model, optim->master);
    optim->scaled = params->dtype == DT_F16;
    double scale = optim->scaled ? LOSS_SCALE_START * least_loss_scale(training) : 1;
    optim_set_state(optim,
                    &(UpdateState){.loss_scale = (float)scale, .patience = LOSS_SCALE_HYSTERESIS});
    model_set_loss_scale(model, &optim->state->loss_scale);
    return exec_status(ex);
}

void optim_close(Optim *optim) {
    if (!optim->ex) return;
    size_t bytes = (size_t)optim->count * sizeof(float);
    exec_free(optim->ex, optim->master, bytes);
    exec_free(optim->ex, optim->m, bytes);
    exec_free(optim->ex, optim->v, bytes);
    exec_free(optim->ex, optim->state, sizeof *optim->state);
    exec_free(optim->ex, optim->segments, 0);
    *optim = (Optim){0};
}

Err optim_step(Optim *optim, const float *grads, int64_t labels, double lr) {
    const TrainingConfig *t = &optim->training;
    UpdateSpec update = {.labels = (double)labels,
                         .max_norm = t->max_grad_norm,
                         .window = optim->scaled ? LOSS_SCALE_WINDOW : 0,
                         .hysteresis = LOSS_SCALE_HYSTERESIS,
                         .least_scale = least_loss_scale(t)};
    AdamwSpec adamw = {
        .lr = lr, .beta1 = t->adam_beta1, .beta2 = t->adam_beta2, .eps = t->adam_epsilon};
    op_update_begin(optim->ex, optim->state, grads, optim->count, &update);
    op_adamw(optim->ex, optim->master, grads, optim->m, optim->v, optim->count, optim->segments,
             optim->segment_count, &adamw, optim->state);
    return exec_status(optim->ex);
}

Err optim_state(Optim *optim, UpdateState *state) {
    exec_download(optim->ex, state, optim->state, sizeof *state);
    return exec_status(optim->ex);
}

bool optim_scale_is_least(const Optim *optim, const UpdateState *state) {
    return (double)state->loss_scale <= least_loss_scale(&optim->training);
}

void optim_set_state(Optim *optim, const UpdateState *state) {
    exec_upload(optim->ex, optim->state, state, sizeof *state);
}
