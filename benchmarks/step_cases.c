/* The models that bench_step takes a step of; see the header. */
#include "benchmarks/step_cases.h"

#include <math.h>
#include <stdlib.h>

#include "core/rng.h"

static const StepCase demo_case = {
    .name = "demo",
    .spec = {.vision = {.image_size = 128,
                        .channels = 1,
                        .patch_size = 32,
                        .layers = 3,
                        .width = 128,
                        .heads = 4,
                        .mlp = 512,
                        .norm_eps = 1e-6,
                        .patch_bias = true,
                        .mean = {1, {0.92}},
                        .std = {1, {0.333}}},
             .connector = {.norm = true, .activation = ACTIVATION_GELU},
             .llm = {.layers = 4,
                     .width = 128,
                     .head_dim = 32,
                     .vocab = 1280,
                     .q_heads = {1, {4}},
                     .kv_heads = {1, {2}},
                     .ffn = {1, {352}},
                     .qk_norm = true,
                     .gated = true,
                     .activation = ACTIVATION_SILU,
                     .tied_head = true,
                     .partial_rotary_factor = 1,
                     .rope_theta = 10000,
                     .norm_eps = 1e-6},
             .lora = {.r = 8, .alpha = 16},
             .tune = {TUNE_FULL, TUNE_FULL, TUNE_FULL},
             .max_positions = 320},
    .samples = 16,
    .text_low = 40,
    .text_high = 115,
    .labelled = 1,
};

/* Layer 16 of OpenELM-450M, the widest attention; a frozen tower of one small layer stands in for
 * SigLIP's output. */
static const StepCase layer_case = {
    .name = "layer",
    .spec = {.vision = {.image_size = 14,
                        .channels = 1,
                        .patch_size = 14,
                        .layers = 1,
                        .width = 64,
                        .heads = 1,
                        .mlp = 64,
                        .norm_eps = 1e-6,
                        .patch_bias = true,
                        .mean = {1, {0.5}},
                        .std = {1, {0.5}}},
             .connector = {.activation = ACTIVATION_GELU},
             .llm = {.layers = 1,
                     .width = 1536,
                     .head_dim = 64,
                     .vocab = 256,
                     .q_heads = {1, {24}},
                     .kv_heads = {1, {6}},
                     .ffn = {1, {5376}},
                     .qk_norm = true,
                     .gated = true,
                     .activation = ACTIVATION_SILU,
                     .tied_head = true,
                     .partial_rotary_factor = 1,
                     .rope_theta = 10000,
                     .norm_eps = 1e-6},
             .lora = {.r = 128, .alpha = 256},
             .tune = {TUNE_FROZEN, TUNE_FULL, TUNE_LORA},
             .max_positions = 1024},
    .samples = 1,
    .text_low = 1023,
    .text_high = 1023,
    .labelled = 1,
};

#define OPENELM_450M                                                                               \
    {                                                                                              \
        .layers = 20, .width = 1536, .head_dim = 64, .vocab = 32000,                               \
        .q_heads = {20, {12, 12, 12, 16, 16, 16, 16, 16, 16, 16,                                   \
                         20, 20, 20, 20, 20, 20, 24, 24, 24, 24}},                                 \
        .kv_heads = {20, {3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 6, 6, 6, 6}},            \
        .ffn = {20, {768,  1024, 1280, 1536, 1792, 2304, 2560, 2816, 3072, 3328,                   \
                     3584, 3840, 4096, 4352, 4608, 5120, 5376, 5632, 5888, 6144}},                 \
        .qk_norm = true, .gated = true, .activation = ACTIVATION_SILU, .tied_head = true,          \
        .partial_rotary_factor = 1, .rope_theta = 10000, .norm_eps = 1e-6                          \
    }

#define SIGLIP_SO400M                                                                              \
    {                                                                                              \
        .image_size = 384, .channels = 3, .patch_size = 14, .layers = 26, .width = 1152,           \
        .heads = 16, .mlp = 4304, .activation = ACTIVATION_GELU_TANH, .norm_eps = 1e-6,            \
        .patch_bias = true, .mean = {1, {0.5}}, .std = {1, {0.5}}, .drop_first_patch = true        \
    }

/* What all of OpenECADv2 have beside tower and decoder. */
#define OPENECAD_RECIPE                                                                            \
    .connector = {.activation = ACTIVATION_GELU},                                                  \
    .lora = {.r = 128, .alpha = 256, .dropout = 0.05}, .tune = {TUNE_FROZEN, TUNE_FULL, TUNE_LORA}

static const StepCase case_089b = {
    .name = "089b",
    .spec = {.vision = SIGLIP_SO400M, OPENECAD_RECIPE, .llm = OPENELM_450M, .max_positions = 2048},
    .samples = 8,
    .text_low = 1320,
    .text_high = 1320,
    .labelled = 1250.0 / 1320,
    .large = true,
};

static const StepCase case_055b = {
    .name = "055b",
    .spec = {.vision = {.image_size = 224,
                        .channels = 3,
                        .patch_size = 16,
                        .layers = 11,
                        .width = 768,
                        .heads = 12,
                        .mlp = 3072,
                        .activation = ACTIVATION_QUICK_GELU,
                        .norm_eps = 1e-5,
                        .class_token = true,
                        .pre_norm = true,
                        .drop_first_patch = true,
                        .mean = {1, {0.5}},
                        .std = {1, {0.5}}},
             OPENECAD_RECIPE,
             .llm = OPENELM_450M,
             .max_positions = 2048},
    .samples = 8,
    .text_low = 2048 - 196,
    .text_high = 2048 - 196,
    .labelled = 1250.0 / 1320,
    .large = true,
};

/* Gemma 1 2B and Phi-2 behind SigLIP, as OpenECADv2 2.4B and 3.1B. */
static const StepCase case_24b = {
    .name = "24b",
    .spec = {.vision = SIGLIP_SO400M,
             OPENECAD_RECIPE,
             .llm = {.layers = 18,
                     .width = 2048,
                     .head_dim = 256,
                     .vocab = 256000,
                     .q_heads = {1, {8}},
                     .kv_heads = {1, {1}},
                     .ffn = {1, {16384}},
                     .names = NAMES_LLAMA,
                     .norm = NORM_RMS_PLUS_ONE,
                     .gated = true,
                     .activation = ACTIVATION_GELU_TANH,
                     .tied_head = true,
                     .scale_embedding = true,
                     .partial_rotary_factor = 1,
                     .rope_theta = 10000,
                     .norm_eps = 1e-6},
             .max_positions = 2048},
    .samples = 8,
    .text_low = 1320,
    .text_high = 1320,
    .labelled = 1250.0 / 1320,
    .large = true,
};

static const StepCase case_31b = {
    .name = "31b",
    .spec = {.vision = SIGLIP_SO400M,
             OPENECAD_RECIPE,
             .llm = {.layers = 32,
                     .width = 2560,
                     .head_dim = 80,
                     .vocab = 51200,
                     .q_heads = {1, {32}},
                     .kv_heads = {1, {32}},
                     .ffn = {1, {10240}},
                     .names = NAMES_PHI,
                     .norm = NORM_LAYER,
                     .bias = true,
                     .parallel = true,
                     .activation = ACTIVATION_GELU_TANH,
                     .partial_rotary_factor = 0.4,
                     .residual_dropout = 0.1,
                     .rope_theta = 10000,
                     .norm_eps = 1e-5},
             .max_positions = 3072},
    .samples = 8,
    .text_low = 3072 - 728,
    .text_high = 3072 - 728,
    .labelled = 1250.0 / 1320,
    .large = true,
};

const StepCase *const step_cases[STEP_CASES] = {&demo_case, &layer_case, &case_055b,
                                                &case_089b, &case_24b,   &case_31b};

static void *array(size_t count, size_t size) {
    void *memory = calloc(count + 1, size);
    CHECK(memory, "out of memory");
    return memory;
}

Batch step_batch(const StepCase *c, uint64_t seed) {
    int image_rows = model_image_rows(&c->spec), size = (int)c->spec.vision.image_size,
        channels = (int)c->spec.vision.channels;
    Rng rng;
    rng_open(&rng, seed, RNG_TEST, 0);
    int32_t *starts = array((size_t)c->samples + 1, sizeof *starts);
    for (int s = 0; s < c->samples; s++)
        starts[s + 1] = starts[s] + image_rows + rng_range(&rng, c->text_low, c->text_high);
    int tokens = starts[c->samples], labels = 0, longest = 0;
    int32_t *ids = array((size_t)tokens, sizeof *ids),
            *positions = array((size_t)tokens, sizeof *positions);
    int32_t *rows = array((size_t)tokens, sizeof *rows),
            *targets = array((size_t)tokens, sizeof *targets);
    for (int s = 0; s < c->samples; s++) {
        int length = starts[s + 1] - starts[s],
            unlabelled = image_rows + (int)lround((1 - c->labelled) * (length - image_rows));
        if (length > longest) longest = length;
        for (int i = 0; i < length; i++) {
            int at = starts[s] + i;
            positions[at] = i;
            ids[at] = i < image_rows ? -1 - (s * image_rows + i)
                                     : rng_range(&rng, 0, (int)c->spec.llm.vocab - 1);
            if (i < unlabelled) continue;
            rows[labels] = at;
            targets[labels++] = rng_range(&rng, 0, (int)c->spec.llm.vocab - 1);
        }
    }
    size_t pixels = (size_t)c->samples * (size_t)(size * size * channels);
    uint8_t *image = array(pixels, 1);
    for (size_t i = 0; i < pixels; i++) image[i] = (uint8_t)rng_u32(&rng);
    return (Batch){.samples = c->samples,
                   .tokens = tokens,
                   .labels = labels,
                   .images = c->samples,
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

void step_batch_free(Batch *b) {
    free((void *)(uintptr_t)b->ids);
    free((void *)(uintptr_t)b->positions);
    free((void *)(uintptr_t)b->starts);
    free((void *)(uintptr_t)b->label_rows);
    free((void *)(uintptr_t)b->targets);
    free((void *)(uintptr_t)b->pixels);
}
