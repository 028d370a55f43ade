/* Models of full size beside transformers and PEFT, once and by hand: it takes up to 22 GB of
 * memory and minutes. test_reference.c does the same with small ones, each time. */
#include <math.h>
#include <stdlib.h>

#include "model/optim.h"
#include "tests/model/reference.h"

enum { EVERY = 29, LAST_LOGITS = 4 };

/* Every so many rows of ours against the rows that were kept. */
static void check_rows(const Reference *r, const char *what, Tensor found, const SafeTensor *t,
                       double allowed) {
    ASSERT_INT(t->shape[t->dims - 1], ==, found.cols);
    int64_t kept = t->count / found.cols;
    for (int64_t i = 0; i < kept; i++) {
        ASSERT_INT(i * EVERY, <, found.rows);
        reference_near(r, what, tensor_rows(found, i * EVERY, 1), t, i * found.cols, allowed);
    }
}

/* Both sides are f32 here: sums of thousands of terms through up to sixty layers. */
static void check_full_base(Reference *r, const char *arch) {
    Model *m = r->model;
    const LlmConfig *c = &m->spec.llm;
    double loss = reference_loss(r, true),
           expected = (double)golden_real(reference_expect(r, "loss"), 0);
    printf("%s: loss %.7f, expected %.7f\n", arch, loss, expected);
    ASSERT_NEAR(loss / expected, 1, 2e-5);
    check_rows(r, "vision_out", m->vision_out, reference_expect(r, "vision_out"), 2e-4);
    check_rows(r, "features", m->features, reference_expect(r, "features"), 2e-4);
    for (int i = 0; i < c->layers; i++)
        check_rows(r, "hidden", m->acts[i].h, reference_expect(r, "hidden.%d", i), 3e-4);
    float *logits = malloc((size_t)(LAST_LOGITS * c->vocab) * sizeof *logits);
    ASSERT_TRUE(logits);
    ASSERT_OK(model_forward(m, &r->made.batch, false));
    /* The reference's last row has no label. */
    ASSERT_OK(model_logits(m, r->made.batch.labels - LAST_LOGITS + 1, LAST_LOGITS - 1, logits));
    reference_near(r, "logits", tensor(logits, DT_F32, LAST_LOGITS - 1, c->vocab),
                   reference_expect(r, "logits"), 0, 3e-4);
    free(logits);
}

/* How far a gradient is from the expected one, as a share of its length. */
static double gradient_distance(const Reference *r, const Param *p) {
    const SafeTensor *t = reference_key(r, "grad", p);
    double squares = 0, differences = 0;
    for (int64_t k = 0; k < t->count; k++) {
        double value = (double)golden_real(t, k),
               ours = (double)r->grads[p->first + k] / r->made.batch.labels;
        squares += value * value;
        differences += (ours - value) * (ours - value);
    }
    return sqrt(differences / squares);
}

static void check_full_adapter(Reference *r, const char *arch, const char *folder) {
    const Params *params = model_params(r->model);
    Adapter *adapter;
    int loaded, compared = 0;
    ASSERT_OK(adapter_open(&adapter, folder));
    ASSERT_OK(model_load_adapter(r->model, adapter, NULL, &loaded));
    adapter_close(&adapter);
    double loss = reference_loss(r, true),
           expected = (double)golden_real(reference_expect(r, "lora_loss"), 0), worst = 0;
    printf("%s: loss with the adapter %.7f, expected %.7f\n", arch, loss, expected);
    ASSERT_NEAR(loss / expected, 1, 2e-5);
    ASSERT_OK(model_backward(r->model));
    for (int i = 0; i < params->count; i++) {
        if (!params->items[i].trained) continue;
        double far = gradient_distance(r, &params->items[i]);
        ASSERT(far <= 2e-3, "%s: the gradient of %s is %.3g off", arch, params->items[i].name, far);
        if (far > worst) worst = far;
        compared++;
    }
    printf("%s: %d gradients, at most %.2g off\n", arch, compared, worst);
}

static void check_full_generation(Reference *r) {
    const SafeTensor *generated = reference_find(r, "generated");
    Generation g;
    if (!generated) return;
    ASSERT_OK(model_generate(r->model, &r->made.batch, -1, (int)generated->count, &g));
    for (int64_t k = 0; k < generated->count; k++)
        ASSERT_INT(g.ids[k], ==, golden_int(generated, k));
    free(g.ids);
}

static void check_full_steps(Reference *r, const char *arch) {
    const SafeTensor *losses = reference_find(r, "step.loss");
    TrainingConfig training = {.learning_rate = 1e-4,
                               .per_device_batch_size = 1,
                               .adam_beta1 = 0.9,
                               .adam_beta2 = 0.999,
                               .adam_epsilon = 1e-8};
    Optim optim;
    if (!losses) return;
    ASSERT_OK(optim_open(&optim, r->ex, r->model, &training));
    for (int64_t step = 0; step < losses->count; step++) {
        exec_zero(r->ex, r->grads, (size_t)model_params(r->model)->trained * sizeof(float));
        double loss = reference_loss(r, true), expected = (double)golden_real(losses, step);
        printf("%s: step %lld, loss %.6f, expected %.6f\n", arch, (long long)step, loss, expected);
        ASSERT_NEAR(loss / expected, 1, 2e-4);
        ASSERT_OK(model_backward(r->model));
        ASSERT_OK(optim_step(&optim, r->grads, r->made.batch.labels, 1e-4));
    }
    optim_close(&optim);
}

static void check_full_size(const char *place, const char *arch) {
    char folder[PATH_SIZE], golden[PATH_SIZE], adapter[PATH_SIZE];
    ASSERT_OK(path_format(folder, "%s/full/%s", place, arch));
    ASSERT_OK(path_format(golden, "%s/fullout/%s", place, arch));
    ASSERT_OK(path_join(adapter, golden, "adapter"));
    if (!file_exists(folder) || !file_exists(golden)) {
        printf("%s: not there\n", arch);
        return;
    }
    Reference r;
    ModelSpec spec;
    LoraConfig lora = {.r = 8, .alpha = 16};
    reference_spec(&spec, folder, TUNE_LORA, &lora);
    reference_open_merged(&r, reference_host(), folder, golden, &spec, NULL);
    check_full_base(&r, arch);
    check_full_adapter(&r, arch, adapter);
    check_full_generation(&r);
    check_full_steps(&r, arch);
    reference_close(&r);
}

/* CADVLM_FULL_REFERENCE: a folder with full/ARCH, models of make_model.py --size full, and
 * fullout/ARCH, what full_check.py --steps 20 --generate 8 wrote of them. */
TEST(models_of_full_size_are_those_of_transformers) {
    const char *place = getenv("CADVLM_FULL_REFERENCE"), *only = getenv("CADVLM_FULL_ARCH");
    if (!place) test_skip("no CADVLM_FULL_REFERENCE with models of full size");
    for (int i = 0; i < GOLDEN_ARCHS; i++)
        if (!only || !strcmp(only, golden_archs[i])) check_full_size(place, golden_archs[i]);
}
