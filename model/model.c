/* The model as a whole: its parameters, its memory, forward and backward over a batch. */
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "model/model_internal.h"

/* ---- what it is made of ---- */

void model_spec_from_config(ModelSpec *spec, const Config *config, int vocab) {
    *spec = (ModelSpec){.vision = config->model.vision,
                        .connector = config->model.connector,
                        .llm = config->model.llm,
                        .lora = config->lora,
                        .checkpointing = config->gradient_checkpointing,
                        .max_positions = (int)config->training.max_length};
    spec->tune[COMPONENT_VISION] = config->tune.vision;
    spec->tune[COMPONENT_CONNECTOR] = config->tune.connector;
    spec->tune[COMPONENT_LLM] = config->tune.llm;
    if (!spec->llm.vocab) spec->llm.vocab = vocab;
}

static int patches_of(const ModelSpec *spec) {
    int side = (int)(spec->vision.image_size / spec->vision.patch_size);
    return side * side;
}

static int tower_rows_of(const ModelSpec *spec) {
    return patches_of(spec) + (spec->vision.class_token ? 1 : 0);
}

int model_image_rows(const ModelSpec *spec) {
    return tower_rows_of(spec) - (spec->vision.drop_first_patch ? 1 : 0);
}

Err model_open(Model **out, Exec *ex, const ModelSpec *spec, DType dtype) {
    Model *model = calloc(1, sizeof *model);
    CHECK(model, "out of memory: a model");
    *out = model;
    model->ex = ex;
    model->spec = *spec;
    model->dtype = dtype;
    model->params.dtype = dtype;
    model->params.outside = spec->mapped;
    model->patches = patches_of(spec);
    model->tower_rows = tower_rows_of(spec);
    model->rotary_dim = (int)((double)spec->llm.head_dim * spec->llm.partial_rotary_factor) / 2 * 2;
    model->vision = calloc((size_t)spec->vision.layers, sizeof *model->vision);
    model->vision_acts = calloc((size_t)spec->vision.layers, sizeof *model->vision_acts);
    model->layers = calloc((size_t)spec->llm.layers, sizeof *model->layers);
    model->acts = calloc((size_t)spec->llm.layers, sizeof *model->acts);
    CHECK(model->vision && model->vision_acts && model->layers && model->acts,
          "out of memory: layers");
    CHECK(!spec->mapped || exec_is_host(ex), "parameters are mapped into the memory of a GPU");
    vision_declare(model);
    connector_declare(model);
    decoder_declare(model);
    Err err = params_allocate(&model->params, ex);
    if (err != OK) model_close(out);
    return err;
}

static void free_activations(Model *model) {
    exec_free(model->ex, model->memory, model->arena.size);
    exec_free(model->ex, model->vision_starts, 0);
    exec_free(model->ex, model->kept_patches, 0);
    exec_free(model->ex, model->class_ids, 0);
    exec_free(model->ex, model->rope, 0);
    exec_free(model->ex, model->one, 0);
    exec_free(model->ex, model->loss_sum, 0);
    batch_upload_close(model);
    model->one = NULL;
    model->loss_sum = NULL;
    model->memory = NULL;
    model->vision_starts = model->kept_patches = model->class_ids = NULL;
    model->rope = NULL;
}

void model_close(Model **out) {
    Model *model = *out;
    if (!model) return;
    free_activations(model);
    mapped_weights_close(model);
    params_free(&model->params, model->ex);
    free(model->vision);
    free(model->vision_acts);
    free(model->layers);
    free(model->acts);
    free(model);
    *out = NULL;
}

const ModelSpec *model_spec(const Model *model) {
    return &model->spec;
}

DType model_dtype(const Model *model) {
    return model->dtype;
}

Params *model_params(Model *model) {
    return &model->params;
}

/* ---- memory ---- */

/* Device memory with `count` integers; NULL where there is none. */
static int32_t *upload_ints(Exec *ex, const int32_t *host, size_t count) {
    int32_t *device = exec_alloc(ex, count * sizeof *host);
    if (device) exec_upload(ex, device, host, count * sizeof *host);
    return device;
}

/* Of every picture there may be in a batch: where its rows start, which of them reach the
 * connector, and which are patches. */
static void upload_picture_tables(Model *model) {
    int images = model->limits.images, rows = model->tower_rows, kept = rows - 1,
        class_rows = rows - model->patches;
    size_t count = (size_t)images * (size_t)rows;
    int32_t *ints = malloc((count + 1) * sizeof *ints);
    CHECK(ints, "out of memory: tables of the model");
    for (int i = 0; i <= images; i++) ints[i] = i * rows;
    model->vision_starts = upload_ints(model->ex, ints, (size_t)images + 1);
    for (int i = 0; i < images * kept; i++) ints[i] = i / kept * rows + 1 + i % kept;
    model->kept_patches = upload_ints(model->ex, ints, (size_t)images * (size_t)kept);
    for (int i = 0; i < images * rows; i++) {
        int image = i / rows, patch = i % rows - class_rows;
        ints[i] = patch < 0 ? 0 : -1 - (image * model->patches + patch);
    }
    model->class_ids = upload_ints(model->ex, ints, count);
    free(ints);
}

static Err upload_tables(Model *model) {
    Exec *ex = model->ex;
    size_t angles = (size_t)model->spec.max_positions * (size_t)model->rotary_dim;
    float *rope = malloc((angles + 1) * sizeof *rope);
    CHECK(rope, "out of memory: tables of the model");
    rope_table(rope, model->spec.max_positions, model->rotary_dim, model->spec.llm.rope_theta);
    upload_picture_tables(model);
    model->rope = exec_alloc(ex, (angles + 1) * sizeof *rope);
    model->one = exec_alloc(ex, sizeof *model->one);
    model->loss_sum = exec_alloc(ex, sizeof *model->loss_sum);
    bool all = model->rope && model->vision_starts && model->kept_patches && model->class_ids &&
               model->one && model->loss_sum;
    if (all) exec_upload(ex, model->one, &(float){1}, sizeof(float));
    if (all) exec_upload(ex, model->rope, rope, angles * sizeof *rope);
    free(rope);
    REQUIRE(all, ERR_MEMORY, "out of memory: tables of the model");
    return OK;
}

/* Over model->batch. */
static void run_forward(Model *model, bool train) {
    const Batch *batch = &model->batch;
    model->training = train;
    model->dims = (Dims){.images = batch->images,
                         .samples = batch->samples,
                         .tokens = batch->tokens,
                         .labels = batch->labels,
                         .active = model->active.count};
    arena_release(&model->arena, 0);
    vision_forward(model);
    decoder_forward(model);
}

/* Says what to lower, and by how much: activations grow with the samples of a batch. */
static Err no_room(const Model *model, size_t bytes) {
    const ModelLimits *limits = &model->limits;
    size_t total, available, reserved = limits->reserved;
    exec_memory(model->ex, &total, &available);
    available -= reserved < available ? reserved : available;
    int fit = available ? (int)((double)limits->samples * (double)available / (double)bytes)
                        : limits->samples / 2;
    char what[160], others[96] = "";
    if (reserved)
        snprintf(others, sizeof others,
                 " beside %zu MiB for the optimiser, gradients and their sums", reserved >> 20);
    if (fit >= 1)
        snprintf(what, sizeof what, "lower training.per_device_batch_size from %d to %d",
                 limits->samples, fit);
    else
        snprintf(what, sizeof what, "lower training.max_length from %d to about %d",
                 model->spec.max_positions,
                 (int)((double)model->spec.max_positions * (double)available / (double)bytes));
    FAIL(ERR_MEMORY,
         "out of memory: activations of %d samples (%d rows) need %zu MiB, %zu of %zu MiB are "
         "free%s: %s",
         limits->samples, limits->tokens, bytes >> 20, available >> 20, total >> 20, others, what);
}

DType precision_dtype(Exec *ex, Precision precision) {
    DType fast = exec_fast_dtype(ex);
    const DType wanted[] = {[PRECISION_AUTO] = fast,
                            [PRECISION_BF16] = DT_BF16,
                            [PRECISION_FP16] = DT_F16,
                            [PRECISION_F32] = DT_F32};
    if (exec_has_dtype(ex, wanted[precision])) return wanted[precision];
    log_info("precision %s is run in %s on this device",
             precision == PRECISION_FP16 ? "fp16" : "bf16", dtype_name(fast));
    return fast;
}

Err model_limits(ModelLimits *out, const ModelSpec *spec, int64_t samples) {
    enum { ROWS_MAX = 1 << 29 }; /* what is indexed by int has at most four numbers a row */
    int64_t longest = spec->max_positions, patches = tower_rows_of(spec);
    REQUIRE(
        samples * longest <= ROWS_MAX && samples * patches <= ROWS_MAX, ERR_CONFIG,
        "training.per_device_batch_size %lld × training.max_length %lld rows, or × %lld patches "
        "of a picture, is more than the %d rows that a batch can have: lower one of them",
        (long long)samples, (long long)longest, (long long)patches, ROWS_MAX);
    *out = (ModelLimits){.samples = (int)samples,
                         .images = (int)samples,
                         .tokens = (int)(samples * longest),
                         .labels = (int)(samples * (longest - model_image_rows(spec)))};
    return OK;
}

Err model_prepare(Model *model, const ModelLimits *limits, bool train) {
    REQUIRE(exec_has_dtype(model->ex, model->dtype), ERR_UNSUPPORTED,
            "%s does not compute in %s: set precision: auto", exec_description(model->ex),
            dtype_name(model->dtype));
    free_activations(model);
    model->limits = *limits;
    TRY(upload_tables(model));
    TRY(batch_upload_open(model));
    /* The dry pass: a batch of the largest sizes over an arena that only counts. */
    model->batch = (Batch){.samples = limits->samples,
                           .tokens = limits->tokens,
                           .labels = limits->labels,
                           .images = limits->images,
                           .longest = model->spec.max_positions};
    /* Labels stand in the text alone, and so do all rows between them. */
    model->active = (ActiveRows){.count = limits->labels, .longest = model->spec.max_positions};
    arena_open(&model->arena, "activations", NULL, 0);
    exec_set_dry(model->ex, true);
    run_forward(model, train);
    if (train) decoder_backward(model);
    exec_set_dry(model->ex, false);
    TRY(exec_settle_scratch(model->ex));
    size_t bytes = model->arena.peak, total, available;
    exec_memory(model->ex, &total, &available);
    /* Where the others have no room even alone, they say what to lower. */
    bool fits = !total || limits->reserved >= available || bytes <= available - limits->reserved;
    if (fits) model->memory = exec_alloc(model->ex, bytes);
    if (!model->memory) return no_room(model, bytes);
    arena_open(&model->arena, "activations", model->memory, bytes);
    return OK;
}

ModelMemory model_memory(const Model *model) {
    return (ModelMemory){.parameters = model->params.value_bytes + model->converted_bytes,
                         .activations = model->arena.size};
}

/* ---- a batch ---- */

static void check_limits(const Model *model, const Batch *batch) {
    const ModelLimits *l = &model->limits;
    CHECK(batch->samples <= l->samples && batch->tokens <= l->tokens &&
              batch->labels <= l->labels && batch->images <= l->images,
          "a batch of %d samples, %d rows, %d labels, %d images; prepared for %d, %d, %d, %d",
          batch->samples, batch->tokens, batch->labels, batch->images, l->samples, l->tokens,
          l->labels, l->images);
    CHECK(batch->image_rows == model_image_rows(&model->spec), "%d rows an image, the model has %d",
          batch->image_rows, model_image_rows(&model->spec));
    CHECK(batch->longest <= model->spec.max_positions, "a sample of %d rows", batch->longest);
}

Err model_forward(Model *model, const Batch *batch, bool train) {
    check_limits(model, batch);
    /* The mask of a sample depends on where it stands in the run, not on the rank that has it. */
    model->dropout_key = (uint64_t)batch->step << 32 ^ (uint64_t)batch->micro_batch << 16;
    TRY(batch_upload(model, batch));
    CHECK(model->active.count <= model->limits.labels,
          "%d rows from first to last label; prepared for %d labels", model->active.count,
          model->limits.labels);
    run_forward(model, train);
    return exec_status(model->ex);
}

Err model_backward(Model *model) {
    return model_backward_into(model, NULL);
}

Err model_backward_into(Model *model, const GradHook *hook) {
    CHECK(model->training, "backward without a forward that trains");
    model->hook = hook;
    model->final_from = model->params.trained;
    decoder_backward(model);
    model->hook = NULL;
    return exec_status(model->ex);
}

void model_set_loss_scale(Model *model, const float *device) {
    model->loss_scale = device;
}

void model_loss_to(Model *model, LossSum *device) {
    op_sum_loss(model->ex, device, model->loss, model->hits);
}

Err model_loss(Model *model, double *sum, int64_t *hits) {
    LossSum found;
    model_loss_to(model, model->loss_sum);
    exec_download(model->ex, &found, model->loss_sum, sizeof found);
    *sum = found.loss;
    *hits = found.hits;
    return exec_status(model->ex);
}

/* ---- FLOPs ---- */

/* 2 · rows · in · out for each pass over a matrix: forward; the input's gradient where something
 * below is trained; the weight's where it is. Adapters have two matrices of rank r, of which both
 * are trained. */
static double linear_flops(const Model *model, const Linear *l, double rows, bool train,
                           bool below) {
    double weight = 2.0 * rows * (double)l->in * (double)l->out, down = 0, up = 0;
    for (int i = 0; i < l->lora_count; i++) {
        down += 2.0 * rows * (double)l->lora[i].r * (double)l->in;
        up += 2.0 * rows * (double)l->lora[i].r * (double)l->lora[i].count;
    }
    if (!train) return weight + down + up;
    int inputs = below ? 1 : 0, weights = model->params.items[l->weight].trained ? 1 : 0;
    return weight * (1 + inputs + weights) + down * (2 + inputs) + up * 3;
}

double model_flops(const Model *model, const Batch *batch, bool train) {
    const VisionConfig *v = &model->spec.vision;
    const LlmConfig *c = &model->spec.llm;
    double patches = (double)batch->images * model->patches,
           rows = (double)batch->images * model->tower_rows, tokens = batch->tokens,
           labels = batch->labels, total = 0;
    bool tower = train && model->spec.tune[COMPONENT_VISION] != TUNE_FROZEN,
         features = train && features_need_gradient(model);
    total += linear_flops(model, &model->patch, patches, tower, false);
    for (int i = 0; i < v->layers; i++) {
        const VisionLayer *l = &model->vision[i];
        bool below = i > 0 || model->spec.tune[COMPONENT_VISION] == TUNE_FULL;
        total += linear_flops(model, &l->qkv, rows, tower, below) +
                 linear_flops(model, &l->out, rows, tower, true) +
                 linear_flops(model, &l->fc1, rows, tower, true) +
                 linear_flops(model, &l->fc2, rows, tower, true);
        total += (tower ? 3.5 : 1.0) * 4.0 * rows * model->tower_rows *
                 (double)v->width; /* backward: five products for two */
    }
    double image_rows = (double)batch->images * batch->image_rows;
    bool connector_norm =
        model->spec.connector.norm && train && model->spec.tune[COMPONENT_CONNECTOR] == TUNE_FULL;
    total +=
        linear_flops(model, &model->connector_1, image_rows, features, tower || connector_norm) +
        linear_flops(model, &model->connector_2, image_rows, features, true);
    double pairs = 0, last_pairs = 0,
           active = 0; /* what queries see: of a layer, of the last one */
    for (int s = 0, label = 0; s < batch->samples; s++) {
        double n = batch->starts[s + 1] - batch->starts[s], seen, rows_last;
        pairs += n * (n + 1) / 2;
        int first_label = label;
        while (label < batch->labels && batch->label_rows[label] < batch->starts[s + 1]) label++;
        if (label == first_label) continue;
        seen = batch->label_rows[label - 1] + 1 - batch->starts[s];
        rows_last = batch->label_rows[label - 1] + 1 - batch->label_rows[first_label];
        last_pairs += rows_last * (seen - rows_last) + rows_last * (rows_last + 1) / 2;
        active += rows_last;
    }
    for (int i = 0; i < c->layers; i++) {
        const DecoderLayer *l = &model->layers[i];
        bool below = features || i > 0 || (train && model->spec.tune[COMPONENT_LLM] == TUNE_FULL);
        bool last = i == c->layers - 1;
        double behind = last ? active : tokens; /* rows behind attention */
        total += linear_flops(model, &l->qkv, tokens, train, below) +
                 linear_flops(model, &l->out, behind, train, true) +
                 linear_flops(model, &l->up, behind, train, true) +
                 linear_flops(model, &l->down, behind, train, true);
        total += (train ? 3.5 : 1.0) * 4.0 * (last ? last_pairs : pairs) *
                 (double)(l->heads_q * c->head_dim);
    }
    double head = 2.0 * labels * (double)c->width * (double)c->vocab;
    total += head * (train ? (model->params.items[model->head_w].trained ? 3 : 2) : 1);
    return total;
}
