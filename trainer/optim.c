#include "trainer/optim.h"

#include <math.h>
#include <stdlib.h>

static bool is_decayed(ParamKind kind) {
    return kind == PARAM_MATRIX || kind == PARAM_LORA_A || kind == PARAM_LORA_B;
}

static void make_segments(Optim *optim) {
    const Params *params = model_params(optim->model);
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (!p->trained) continue;
        Tensor value = param_value(params, i);
        optim->segments[optim->segment_count++] = (AdamwSegment){
            .first = p->first,
            .count = p->rows * p->cols,
            .lr_scale = 1,
            .copy = value.data,
            .copy_dtype = value.dtype,
            .weight_decay = is_decayed(p->kind) ? (float)optim->training.weight_decay : 0,
        };
    }
}

Err optim_open(Optim *optim, Exec *ex, Model *model, const TrainingConfig *training) {
    int64_t count = model_params(model)->trained;
    *optim = (Optim){.ex = ex, .model = model, .count = count, .training = *training};
    size_t bytes = (size_t)count * sizeof(float);
    optim->master = exec_alloc(ex, bytes);
    optim->m = exec_alloc(ex, bytes);
    optim->v = exec_alloc(ex, bytes);
    optim->segments = calloc((size_t)model_params(model)->count + 1, sizeof *optim->segments);
    REQUIRE(optim->master && optim->m && optim->v && optim->segments, ERR_MEMORY,
            "out of memory: optimiser state of %lld parameters needs %zu MiB", (long long)count,
            3 * bytes >> 20);
    model_master_from_values(model, optim->master);
    make_segments(optim);
    return exec_status(ex);
}

void optim_close(Optim *optim) {
    if (!optim->ex) return;
    size_t bytes = (size_t)optim->count * sizeof(float);
    exec_free(optim->ex, optim->master, bytes);
    exec_free(optim->ex, optim->m, bytes);
    exec_free(optim->ex, optim->v, bytes);
    free(optim->segments);
    *optim = (Optim){0};
}

Err optim_step(Optim *optim, const float *grads, int64_t labels, double lr, double *grad_norm,
               bool *stepped) {
    const TrainingConfig *t = &optim->training;
    double scale = labels > 0 ? 1.0 / (double)labels : 0;
    *grad_norm = sqrt(op_sum_squares(optim->ex, grads, optim->count)) * scale;
    *stepped = isfinite(*grad_norm);
    if (!*stepped) return exec_status(optim->ex);
    if (t->max_grad_norm > 0 && *grad_norm > t->max_grad_norm)
        scale *= t->max_grad_norm / *grad_norm;
    optim->updates++;
    AdamwSpec spec = {.lr = lr,
                      .beta1 = t->adam_beta1,
                      .beta2 = t->adam_beta2,
                      .eps = t->adam_epsilon,
                      .step = optim->updates,
                      .grad_scale = scale};
    op_adamw(optim->ex, optim->master, grads, optim->m, optim->v, optim->segments,
             optim->segment_count, &spec);
    return exec_status(optim->ex);
}
