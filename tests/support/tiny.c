#include "tests/support/tiny.h"

#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "tests/support/test.h"

void tiny_spec(ModelSpec *spec, Tune vision, Tune connector, Tune llm) {
    *spec = (ModelSpec){
        .vision = {.image_size = 8,
                   .channels = 1,
                   .patch_size = 4,
                   .layers = 2,
                   .width = 12,
                   .heads = 3,
                   .mlp = 20,
                   .activation = ACTIVATION_GELU_TANH,
                   .norm_eps = 1e-6,
                   .patch_bias = true,
                   .mean = {1, {0.5}},
                   .std = {1, {0.5}}},
        .connector = {.norm = true, .activation = ACTIVATION_GELU},
        .llm = {.layers = 3,
                .width = 16,
                .head_dim = 6,
                .vocab = TINY_VOCAB,
                .q_heads = {3, {2, 4, 4}},
                .kv_heads = {3, {1, 2, 2}},
                .ffn = {3, {18, 24, 30}},
                .qk_norm = true,
                .gated = true,
                .activation = ACTIVATION_SILU,
                .tied_head = true,
                .partial_rotary_factor = 1,
                .rope_theta = 100,
                .norm_eps = 1e-6},
        .lora = {.r = 3, .alpha = 6, .dropout = 0},
        .tune = {vision, connector, llm},
        .max_positions = 64,
    };
}

const char *tiny_family_name(TinyFamily family) {
    static const char *const names[] = {"openelm", "clip", "llama", "gemma", "phi"};
    return names[family];
}

static void separate_names(LlmConfig *llm, LlmNames names) {
    llm->names = names;
    llm->qk_norm = false;
    llm->ffn = (IntList){1, {22}};
    llm->q_heads = (IntList){1, {4}};
    llm->kv_heads = (IntList){1, {2}};
}

void tiny_spec_of(ModelSpec *spec, TinyFamily family, Tune vision, Tune connector, Tune llm) {
    tiny_spec(spec, vision, connector, llm);
    VisionConfig *v = &spec->vision;
    LlmConfig *l = &spec->llm;
    switch (family) {
    case TINY_OPENELM: break;
    case TINY_CLIP:
        v->class_token = v->pre_norm = v->drop_first_patch = true;
        v->patch_bias = false;
        v->activation = ACTIVATION_QUICK_GELU;
        break;
    case TINY_LLAMA:
        separate_names(l, NAMES_LLAMA);
        l->tied_head = false;
        break;
    case TINY_GEMMA:
        separate_names(l, NAMES_LLAMA);
        l->norm = NORM_RMS_PLUS_ONE;
        l->activation = ACTIVATION_GELU_TANH;
        l->scale_embedding = true;
        l->kv_heads = (IntList){1, {1}};
        break;
    case TINY_PHI:
        separate_names(l, NAMES_PHI);
        l->norm = NORM_LAYER;
        l->bias = l->parallel = true;
        l->gated = l->tied_head = false;
        l->activation = ACTIVATION_GELU_TANH;
        l->kv_heads = (IntList){1, {4}};
        l->head_dim = 10;
        l->partial_rotary_factor = 0.4;
        break;
    }
}

/* Over `starts`, which the batch takes. */
static Batch batch_over(const ModelSpec *spec, int samples, int32_t *starts, Rng *rng) {
    int image_rows = model_image_rows(spec), size = (int)spec->vision.image_size,
        channels = (int)spec->vision.channels;
    int tokens = starts[samples], labels = 0;
    int32_t *ids = calloc((size_t)tokens, sizeof *ids),
            *positions = calloc((size_t)tokens, sizeof *positions);
    int32_t *rows = calloc((size_t)tokens, sizeof *rows),
            *targets = calloc((size_t)tokens, sizeof *targets);
    int longest = 0;
    for (int s = 0; s < samples; s++) {
        int length = starts[s + 1] - starts[s];
        if (length > longest) longest = length;
        for (int i = 0; i < length; i++) {
            int at = starts[s] + i;
            positions[at] = i;
            ids[at] = i < image_rows    ? -1 - (s * image_rows + i)
                      : i == image_rows ? 1
                                        : rng_range(rng, 3, TINY_VOCAB - 1);
        }
        for (int i = image_rows; i < length; i++) {
            rows[labels] = starts[s] + i;
            targets[labels++] = i + 1 < length ? ids[starts[s] + i + 1] : TINY_EOS;
        }
    }
    size_t pixels = (size_t)samples * (size_t)(size * size * channels);
    uint8_t *image = calloc(pixels, 1);
    for (size_t i = 0; i < pixels; i++) image[i] = (uint8_t)rng_u32(rng);
    return (Batch){.samples = samples,
                   .tokens = tokens,
                   .labels = labels,
                   .images = samples,
                   .image_rows = image_rows,
                   .longest = longest,
                   .ids = ids,
                   .positions = positions,
                   .starts = starts,
                   .label_rows = rows,
                   .targets = targets,
                   .image_size = size,
                   .image_channels = channels,
                   .pixels = image};
}

Batch tiny_batch(const ModelSpec *spec, int samples, uint64_t seed) {
    Rng rng;
    rng_open(&rng, seed, RNG_TEST, 0);
    int32_t *starts = calloc((size_t)samples + 1, sizeof *starts);
    for (int s = 0; s < samples; s++)
        starts[s + 1] = starts[s] + model_image_rows(spec) + 1 + rng_range(&rng, 3, 9);
    return batch_over(spec, samples, starts, &rng);
}

Batch tiny_batch_of(const ModelSpec *spec, const int *texts, int samples, uint64_t seed) {
    Rng rng;
    rng_open(&rng, seed, RNG_TEST, 0);
    int32_t *starts = calloc((size_t)samples + 1, sizeof *starts);
    for (int s = 0; s < samples; s++)
        starts[s + 1] = starts[s] + model_image_rows(spec) + 1 + texts[s];
    return batch_over(spec, samples, starts, &rng);
}

void tiny_batch_cut_labels(Batch *batch, int rows) {
    int32_t *label_rows = (int32_t *)(uintptr_t)batch->label_rows,
            *targets = (int32_t *)(uintptr_t)batch->targets;
    int kept = 0;
    for (int i = 0; i < batch->labels; i++) {
        int sample = 0;
        while (batch->label_rows[i] >= batch->starts[sample + 1]) sample++;
        if (sample == 1 || batch->label_rows[i] >= batch->starts[sample + 1] - rows) continue;
        label_rows[kept] = label_rows[i];
        targets[kept++] = targets[i];
    }
    batch->labels = kept;
}

void tiny_batch_free(Batch *batch) {
    free((void *)batch->ids);
    free((void *)batch->positions);
    free((void *)batch->starts);
    free((void *)batch->label_rows);
    free((void *)batch->targets);
    free((void *)batch->pixels);
}

void tiny_open(Tiny *tiny, const ModelSpec *spec, DType dtype, int threads) {
    Exec *ex;
    ASSERT_OK(exec_open(&ex, EXEC_CPU, threads));
    tiny_open_on(tiny, ex, spec, dtype);
}

void tiny_open_on(Tiny *tiny, Exec *ex, const ModelSpec *spec, DType dtype) {
    *tiny = (Tiny){.spec = *spec, .ex = ex};
    ASSERT_OK(model_open(&tiny->model, tiny->ex, spec, dtype));
    model_init(tiny->model, 3, 7);
    ASSERT_OK(model_prepare(tiny->model,
                            &(ModelLimits){.samples = 8, .tokens = 256, .labels = 200, .images = 8},
                            true));
    Params *params = model_params(tiny->model);
    tiny->grads = exec_alloc(tiny->ex, (size_t)params->trained * sizeof(float));
    params->grads = tiny->grads;
}

void tiny_close(Tiny *tiny) {
    exec_free(tiny->ex, tiny->grads, 0);
    model_close(&tiny->model);
    exec_close(&tiny->ex);
}

float *tiny_grads(const Tiny *tiny) {
    size_t bytes = (size_t)model_params(tiny->model)->trained * sizeof(float);
    float *host = malloc(bytes + 1);
    ASSERT_TRUE(host);
    exec_download(tiny->ex, host, tiny->grads, bytes);
    return host;
}

double tiny_loss(Tiny *tiny, const Batch *batch) {
    double sum;
    int64_t hits;
    ASSERT_OK(model_forward(tiny->model, batch, false));
    ASSERT_OK(model_loss(tiny->model, &sum, &hits));
    return sum;
}

double tiny_step(Tiny *tiny, const Batch *batch) {
    double sum;
    int64_t hits;
    exec_zero(tiny->ex, tiny->grads, (size_t)model_params(tiny->model)->trained * sizeof(float));
    ASSERT_OK(model_forward(tiny->model, batch, true));
    ASSERT_OK(model_loss(tiny->model, &sum, &hits));
    ASSERT_OK(model_backward(tiny->model));
    return sum;
}
