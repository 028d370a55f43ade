/* How fast a training step is, against the rate of a plain matrix product measured in the same run.
 *
 *   bench_step [demo|layer] [--threads N] [--seconds S] [--json]
 *
 * demo: the model of config/presets/demo.yaml on batches of 16 samples with the row counts of its
 * data. layer: one OpenELM-450M-sized decoder layer with LoRA of rank 128 on 1,024 tokens, forward
 * and backward. Prints samples/s, tokens/s, FLOP/s and "mfu": the step's matrix FLOPs over the rate
 * of a 1024³ product (bf16 into f32 where the processor has it), same threads. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/rng.h"
#include "model/model.h"

typedef struct Case {
    const char *name;
    ModelSpec spec;
    int samples, text_low, text_high; /* text rows of a sample, drawn evenly */
} Case;

static const Case demo_case = {
    .name = "demo",
    .spec = {.vision = {.image_size = 128,
                        .channels = 1,
                        .patch_size = 32,
                        .layers = 3,
                        .width = 128,
                        .heads = 4,
                        .mlp = 512,
                        .norm_eps = 1e-6,
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
                     .rope_theta = 10000,
                     .norm_eps = 1e-6},
             .lora = {.r = 8, .alpha = 16},
             .tune = {TUNE_FULL, TUNE_FULL, TUNE_FULL},
             .max_positions = 320},
    .samples = 16,
    .text_low = 40,
    .text_high = 115,
};

/* Layer 16 of OpenELM-450M, the widest attention; a frozen tower of one small layer stands in for
 * SigLIP's output. */
static const Case layer_case = {
    .name = "layer",
    .spec = {.vision = {.image_size = 14,
                        .channels = 1,
                        .patch_size = 14,
                        .layers = 1,
                        .width = 64,
                        .heads = 1,
                        .mlp = 64,
                        .norm_eps = 1e-6,
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
                     .rope_theta = 10000,
                     .norm_eps = 1e-6},
             .lora = {.r = 128, .alpha = 256},
             .tune = {TUNE_FROZEN, TUNE_FULL, TUNE_LORA},
             .max_positions = 1024},
    .samples = 1,
    .text_low = 1023,
    .text_high = 1023,
};

static void *array(size_t count, size_t size) {
    void *memory = calloc(count + 1, size);
    CHECK(memory, "out of memory");
    return memory;
}

static Batch make_batch(const Case *c, uint64_t seed) {
    int image_rows = model_image_rows(&c->spec), size = (int)c->spec.vision.image_size;
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
        int length = starts[s + 1] - starts[s];
        if (length > longest) longest = length;
        for (int i = 0; i < length; i++) {
            int at = starts[s] + i;
            positions[at] = i;
            ids[at] = i < image_rows ? -1 - (s * image_rows + i)
                                     : rng_range(&rng, 0, (int)c->spec.llm.vocab - 1);
            if (i < image_rows) continue;
            rows[labels] = at;
            targets[labels++] = rng_range(&rng, 0, (int)c->spec.llm.vocab - 1);
        }
    }
    size_t pixels = (size_t)c->samples * (size_t)(size * size);
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
                   .image_channels = 1,
                   .pixels = image};
}

typedef struct Result {
    double step_seconds, forward_seconds, samples_per_s, tokens_per_s, flops, peak;
} Result;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, by_value);
    return x[n / 2];
}

enum { BATCHES = 8, STEPS_MAX = 2000 };

static Err run(const Case *c, int threads, double seconds, Result *out) {
    Exec *ex;
    Model *model;
    TRY(exec_open(&ex, EXEC_CPU, threads));
    TRY(model_open(&model, ex, &c->spec, exec_fast_dtype(ex)));
    model_init(model, 1, ~0u);
    int rows = c->samples * (model_image_rows(&c->spec) + c->text_high);
    TRY(model_prepare(
        model,
        &(ModelLimits){.samples = c->samples, .tokens = rows, .labels = rows, .images = c->samples},
        true));
    Params *params = model_params(model);
    size_t bytes = (size_t)params->trained * sizeof(float);
    float *memory = exec_alloc(ex, 4 * bytes);
    REQUIRE(memory, ERR_MEMORY, "out of memory");
    params->grads = memory;
    AdamwSegment all = {.first = 0, .count = params->trained, .lr_scale = 1};
    UpdateState state = {.loss_scale = 1};
    Batch batches[BATCHES];
    for (int i = 0; i < BATCHES; i++) batches[i] = make_batch(c, (uint64_t)i);

    static double steps[STEPS_MAX], forwards[STEPS_MAX];
    double peak = 0, tokens = 0, samples = 0, flops = 0, total = 0;
    int count = 0;
    for (int i = 0; i < BATCHES; i++) { /* the first passes build what later ones reuse */
        TRY(model_forward(model, &batches[i], true));
        TRY(model_backward(model));
    }
    while (total < seconds && count < STEPS_MAX) {
        if (count % 50 == 0) peak = fmax(peak, exec_peak_flops(ex));
        const Batch *b = &batches[count % BATCHES];
        double began = clock_seconds();
        exec_zero(ex, params->grads, bytes);
        TRY(model_forward(model, b, true));
        double forward = clock_seconds();
        TRY(model_backward(model));
        AdamwSpec spec = {.lr = 1e-6, .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-8};
        op_update_begin(ex, &state, params->grads, params->trained, &(UpdateSpec){.labels = 1});
        op_adamw(ex, memory + params->trained, params->grads, memory + 2 * params->trained,
                 memory + 3 * params->trained, params->trained, &all, 1, &spec, &state);
        double ended = clock_seconds();
        steps[count] = ended - began;
        forwards[count] = forward - began;
        count++;
        total += ended - began;
        tokens += b->tokens;
        samples += b->samples;
        flops += model_flops(model, b, true);
    }
    double typical = median(steps, count);
    *out = (Result){.step_seconds = typical,
                    .forward_seconds = median(forwards, count),
                    .samples_per_s = samples / count / typical,
                    .tokens_per_s = tokens / count / typical,
                    .flops = flops / count / typical,
                    .peak = peak};
    exec_free(ex, memory, 4 * bytes);
    model_close(&model);
    exec_close(&ex);
    return OK;
}

int main(int argc, char **argv) {
    exec_settle_process(argv);
    int threads = 1, json = 0;
    double seconds = 5;
    const Case *c = &demo_case;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "demo"))
            c = &demo_case;
        else if (!strcmp(argv[i], "layer"))
            c = &layer_case;
        else if (!strcmp(argv[i], "--json"))
            json = 1;
        else if (!strcmp(argv[i], "--threads") && i + 1 < argc)
            threads = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--seconds") && i + 1 < argc)
            seconds = atof(argv[++i]);
        else {
            fprintf(stderr,
                    "usage: bench_step [demo|layer] [--threads N] [--seconds S] [--json]\n");
            return 2;
        }
    }
    Result r;
    Err err = run(c, threads, seconds, &r);
    if (err != OK) {
        log_outcome(err);
        return 1;
    }
    if (json)
        printf("{\"case\": \"%s\", \"threads\": %d, \"step_ms\": %.3f, \"samples_per_s\": %.1f, "
               "\"tokens_per_s\": %.0f, "
               "\"gflops\": %.1f, \"gemm_gflops\": %.1f, \"mfu\": %.4f}\n",
               c->name, threads, r.step_seconds * 1e3, r.samples_per_s, r.tokens_per_s,
               r.flops * 1e-9, r.peak * 1e-9, r.flops / r.peak);
    else
        printf("%s, %d thread%s: step %.2f ms (forward %.2f), %.1f samples/s, %.0f tokens/s, %.1f "
               "of %.1f GFLOP/s, mfu %.1f %%\n",
               c->name, threads, threads == 1 ? "" : "s", r.step_seconds * 1e3,
               r.forward_seconds * 1e3, r.samples_per_s, r.tokens_per_s, r.flops * 1e-9,
               r.peak * 1e-9, 100 * r.flops / r.peak);
    return 0;
}
