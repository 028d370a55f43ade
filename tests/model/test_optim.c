/* An update beside the formulas of AdamW (Loshchilov & Hutter 2019) in double, where nothing is one
 * by chance: labels, clipping, decay, a rate for each component, another rate at each step. On the
 * CPU, and on a GPU or its emulation. */
#include "model/optim.h"

#include "core/rng.h"
#include "model/files/param_files.h"
#include "tests/support/test.h"
#include "tests/support/tiny.h"

enum { STEPS = 5, LABELS = 7 };

static const double RATES[STEPS] = {2e-3, 1.5e-3, 2.5e-3, 5e-4, 1e-3};

static TrainingConfig training_of(double max_norm) {
    return (TrainingConfig){.learning_rate = 2e-3,
                            .vision_learning_rate = 5e-4,
                            .connector_learning_rate = 8e-3,
                            .llm_learning_rate = 3e-3,
                            .weight_decay = 0.3,
                            .adam_beta1 = 0.85,
                            .adam_beta2 = 0.97,
                            .adam_epsilon = 1e-5,
                            .max_grad_norm = max_norm,
                            .per_device_batch_size = 3};
}

/* By its name in the published files: matrices and adapters decay, not biases, norms and tables of
 * embeddings. */
static double decay_of(const Param *p) {
    static const char *const spared[] = {".bias",
                                         "norm",
                                         "token_embeddings",
                                         "embed_tokens",
                                         "class_embedding",
                                         "position_embedding"};
    for (size_t i = 0; i < sizeof spared / sizeof spared[0]; i++)
        if (strstr(p->name, spared[i])) return 0;
    return 0.3;
}

static double rate_of(const Param *p, double lr) {
    static const double own[COMPONENT_COUNT] = {
        [COMPONENT_VISION] = 5e-4, [COMPONENT_CONNECTOR] = 8e-3, [COMPONENT_LLM] = 3e-3};
    return lr * own[p->component] / 2e-3;
}

/* ---- the formulas ---- */

typedef struct Plain {
    double *w, *m, *v;
} Plain;

static void plain_step(const Plain *plain, const Params *params, const float *grads, double lr,
                       double max_norm, int step) {
    double squares = 0, factor = 1.0 / LABELS;
    for (int64_t i = 0; i < params->trained; i++) squares += pow((double)grads[i], 2);
    double norm = sqrt(squares) / LABELS;
    if (max_norm > 0 && norm > max_norm) factor *= max_norm / norm;
    for (int k = 0; k < params->count; k++) {
        const Param *p = &params->items[k];
        if (!p->trained) continue;
        double rate = rate_of(p, lr);
        for (int64_t i = p->first; i < p->first + p->rows * p->cols; i++) {
            double g = (double)grads[i] * factor;
            plain->m[i] = 0.85 * plain->m[i] + 0.15 * g;
            plain->v[i] = 0.97 * plain->v[i] + 0.03 * g * g;
            double mean = plain->m[i] / (1 - pow(0.85, step)),
                   variance = plain->v[i] / (1 - pow(0.97, step));
            plain->w[i] -= rate * decay_of(p) * plain->w[i] + rate * mean / (sqrt(variance) + 1e-5);
        }
    }
}

/* ---- beside them ---- */

typedef struct Fixture {
    Tiny tiny;
    Optim optim;
    int64_t count;
    float *host, *grads; /* on the host: room for a flat array; the gradients of a step */
} Fixture;

static void fixture_open_in(Fixture *f, Exec *ex, const ModelSpec *spec, DType dtype,
                            double max_norm) {
    TrainingConfig training = training_of(max_norm);
    tiny_open_on(&f->tiny, ex, spec, dtype);
    ASSERT_OK(optim_open(&f->optim, ex, f->tiny.model, &training));
    f->count = f->optim.count;
    f->host = malloc((size_t)f->count * sizeof(float));
    f->grads = malloc((size_t)f->count * sizeof(float));
    ASSERT_TRUE(f->host && f->grads);
}

static void fixture_open(Fixture *f, Exec *ex, const ModelSpec *spec, double max_norm) {
    fixture_open_in(f, ex, spec, DT_F32, max_norm);
}

static void fixture_close(Fixture *f) {
    free(f->host);
    free(f->grads);
    optim_close(&f->optim);
    tiny_close(&f->tiny);
}

static const float *download(Fixture *f, const float *device) {
    exec_download(f->tiny.ex, f->host, device, (size_t)f->count * sizeof(float));
    return f->host;
}

static void draw_gradients(Fixture *f, int step) {
    Rng rng;
    rng_open(&rng, 8, RNG_TEST, (uint64_t)step);
    for (int64_t i = 0; i < f->count; i++) f->grads[i] = (float)rng_normal(&rng);
}

static void take_step(Fixture *f, double lr) {
    exec_upload(f->tiny.ex, f->tiny.grads, f->grads, (size_t)f->count * sizeof(float));
    ASSERT_OK(optim_step(&f->optim, f->tiny.grads, LABELS, lr));
}

/* Masters follow the formulas; the model computes with them. */
static void compare(Fixture *f, const double *expected) {
    Params *params = model_params(f->tiny.model);
    const float *found = download(f, f->optim.master);
    int decayed = 0, spared = 0;
    for (int k = 0; k < params->count; k++) {
        const Param *p = &params->items[k];
        if (!p->trained) continue;
        *(decay_of(p) > 0 ? &decayed : &spared) += 1;
        float *value = malloc((size_t)(p->rows * p->cols) * sizeof *value);
        param_download(value, f->tiny.ex, param_value(params, k));
        for (int64_t i = 0; i < p->rows * p->cols; i++) {
            double w = expected[p->first + i];
            ASSERT(fabs((double)found[p->first + i] - w) <= 2e-6 * (1 + fabs(w)),
                   "%s[%ld] is %.9g, the formulas give %.9g", p->name, (long)i,
                   (double)found[p->first + i], w);
            ASSERT_REAL(value[i], ==, found[p->first + i]);
        }
        free(value);
    }
    printf("%d parameters decay, %d do not\n", decayed, spared);
    ASSERT_TRUE(decayed > 5);
}

static double expected_norm(const ModelSpec *spec) {
    Tiny tiny;
    tiny_open(&tiny, spec, DT_F32, 1);
    double count = (double)model_params(tiny.model)->trained;
    tiny_close(&tiny);
    return sqrt(count) / LABELS;
}

static void check_steps(Exec *ex, const ModelSpec *spec, double share) {
    Fixture f;
    double max_norm = share * expected_norm(spec);
    fixture_open(&f, ex, spec, max_norm);
    const Params *params = model_params(f.tiny.model);
    size_t count = (size_t)f.count;
    Plain plain = {calloc(count, 8), calloc(count, 8), calloc(count, 8)};
    const float *start = download(&f, f.optim.master);
    for (int64_t i = 0; i < f.count; i++) plain.w[i] = (double)start[i];
    for (int step = 1; step <= STEPS; step++) {
        draw_gradients(&f, step);
        plain_step(&plain, params, f.grads, RATES[step - 1], max_norm, step);
        take_step(&f, RATES[step - 1]);
    }
    compare(&f, plain.w);
    free(plain.w);
    free(plain.m);
    free(plain.v);
    fixture_close(&f);
}

typedef Exec *(*Opener)(void);

static Exec *host(void) {
    Exec *ex;
    ASSERT_OK(exec_open(&ex, EXEC_CPU, 2));
    return ex;
}

static Exec *gpu(void) {
    const char *why = "";
    Exec *ex;
    if (exec_device_count(&why) == 0) test_skip(why);
    ASSERT_OK(exec_open(&ex, EXEC_CUDA, 0));
    return ex;
}

/* So many normal numbers over seven labels are √count / 7 long: clipped to a fifth of that, to a
 * little less, or not at all. */
static void check_updates(Opener open) {
    ModelSpec spec;
    tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    static const double shares[] = {0.2, 0.8, 1.2, 0};
    for (int i = 0; i < 4; i++) check_steps(open(), &spec, shares[i]);
    tiny_spec_of(&spec, TINY_CLIP, TUNE_FULL, TUNE_FULL, TUNE_LORA);
    check_steps(open(), &spec, 0.5);
    tiny_spec_of(&spec, TINY_PHI, TUNE_LORA, TUNE_FULL, TUNE_FULL);
    check_steps(open(), &spec, 0.5);
}

TEST(updates_are_those_of_the_formulas) {
    check_updates(host);
}

TEST(updates_on_a_gpu_are_those_of_the_formulas) {
    check_updates(gpu);
}

/* ---- gradients that are no numbers ---- */

static void check_no_step(Opener open, float bad) {
    ModelSpec spec;
    Fixture f;
    UpdateState state;
    tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    fixture_open(&f, open(), &spec, 3);
    draw_gradients(&f, 1);
    take_step(&f, 1e-3);
    size_t bytes = (size_t)f.count * sizeof(float);
    const float *arrays[3] = {f.optim.master, f.optim.m, f.optim.v};
    float *before[3];
    for (int i = 0; i < 3; i++) {
        before[i] = malloc(bytes);
        memcpy(before[i], download(&f, arrays[i]), bytes);
    }
    draw_gradients(&f, 2);
    f.grads[f.count / 2] = bad;
    take_step(&f, 1e-3);
    ASSERT_OK(optim_state(&f.optim, &state));
    ASSERT_INT(state.stepped, ==, 0);
    ASSERT_INT(state.updates, ==, 1);
    ASSERT_TRUE(!isfinite(state.grad_norm));
    for (int i = 0; i < 3; i++) {
        ASSERT_TRUE(!memcmp(before[i], download(&f, arrays[i]), bytes));
        free(before[i]);
    }
    draw_gradients(&f, 3); /* and goes on */
    take_step(&f, 1e-3);
    ASSERT_OK(optim_state(&f.optim, &state));
    ASSERT_TRUE(state.stepped && state.updates == 2 && isfinite(state.grad_norm));
    fixture_close(&f);
}

TEST(gradients_that_are_not_finite_change_nothing) {
    check_no_step(host, NAN);
    check_no_step(host, INFINITY);
}

TEST(gradients_that_are_not_finite_change_nothing_on_a_gpu) {
    check_no_step(gpu, NAN);
    check_no_step(gpu, -INFINITY);
}

/* Of fp16 alone: the second step in a row that had to be skipped halves the scale. */
static void check_scale(DType dtype, double after_two) {
    ModelSpec spec;
    Fixture f;
    UpdateState state;
    tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    fixture_open_in(&f, gpu(), &spec, dtype, 3);
    ASSERT_OK(optim_state(&f.optim, &state));
    double first = state.loss_scale;
    ASSERT_TRUE((first == 1) == (dtype != DT_F16));
    for (int step = 0; step < 3; step++) {
        ASSERT_OK(optim_state(&f.optim, &state));
        printf("%s, skipped %d: scale %g\n", dtype_name(dtype), step, (double)state.loss_scale);
        ASSERT_REAL(state.loss_scale, ==, step < 2 ? first : after_two * first);
        draw_gradients(&f, step);
        f.grads[0] = NAN;
        take_step(&f, 1e-3);
    }
    fixture_close(&f);
}

TEST(the_loss_scale_of_fp16_falls_where_steps_are_skipped) {
    check_scale(DT_F32, 1);
    check_scale(DT_BF16, 1);
    check_scale(DT_F16, 0.5);
}
