/* The model beside its reference; see the header. */
#include "tests/model/reference.h"

#include <math.h>

const SafeTensor *reference_expect(const Reference *r, const char *format, ...) {
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const SafeTensor *t = safetensors_find(r->expected, name);
    ASSERT(t, "%s: no golden tensor %s", r->folder, name);
    return t;
}

const SafeTensor *reference_find(const Reference *r, const char *name) {
    return safetensors_find(r->expected, name);
}

/* Largest difference, as a share of the largest expected value. */
void reference_near(const Reference *r, const char *what, Tensor found, const SafeTensor *t,
                    int64_t first, double allowed) {
    double largest = 0, difference = 0;
    ASSERT_INT(first + tensor_count(found), <=, t->count);
    for (int64_t i = 0; i < tensor_count(found); i++) {
        double value = (double)golden_real(t, first + i),
               ours = (double)((float *)found.data)[i / found.cols * found.stride + i % found.cols];
        largest = fmax(largest, fabs(value));
        difference = fmax(difference, fabs(ours - value));
        ASSERT_TRUE(isfinite(ours));
    }
    ASSERT(difference <= allowed * largest, "%s: %s differs by %.3g where values reach %.3g",
           path_name(r->folder), what, difference, largest);
}

/* The micro-batch again, cut or with other labels. */
void reference_rebuild(Reference *r, int max_length, bool all) {
    golden_batch_close(&r->made);
    golden_batch_open(&r->made, r->expected, model_spec(r->model), max_length, all);
}

/* The model of `folder`, with an adapter merged (NULL: none), and what is expected of it in
 * `golden`. */
void reference_open_merged(Reference *r, Exec *ex, const char *folder, const char *golden,
                           const ModelSpec *spec, const Adapter *merge) {
    GoldenModel model;
    *r = (Reference){.ex = ex};
    ASSERT_OK(path_format(r->folder, "%s", folder));
    ASSERT_OK(safetensors_open(&r->expected, golden_path(golden, "expected.safetensors")));
    golden_open_on(&model, ex, spec, DT_F32);
    golden_load(&model, folder, merge);
    r->model = model.model;
    ASSERT_OK(model_prepare(r->model,
                            &(ModelLimits){.samples = GOLDEN_SAMPLES,
                                           .tokens = GOLDEN_ROWS,
                                           .labels = GOLDEN_ROWS,
                                           .images = GOLDEN_SAMPLES},
                            true));
    Params *params = model_params(r->model);
    r->grads = exec_alloc(ex, (size_t)params->trained * sizeof(float));
    params->grads = r->grads;
    golden_batch_open(&r->made, r->expected, spec, GOLDEN_ROWS, false);
}

/* Dropout is off, as in the reference. */
void reference_spec(ModelSpec *spec, const char *folder, Tune tune, const LoraConfig *lora) {
    golden_spec(spec, folder, tune, TUNE_FULL, tune);
    spec->max_positions = GOLDEN_ROWS;
    spec->llm.residual_dropout = 0;
    if (lora) spec->lora = *lora;
}

void reference_open_on(Reference *r, Exec *ex, const char *arch, Tune tune,
                       const LoraConfig *lora) {
    const char *folder = golden_folder(arch, NULL);
    ModelSpec spec;
    reference_spec(&spec, folder, tune, lora);
    reference_open_merged(r, ex, folder, folder, &spec, NULL);
}

Exec *reference_host(void) {
    Exec *ex;
    ASSERT_OK(exec_open(&ex, EXEC_CPU, 2));
    return ex;
}

void reference_open(Reference *r, const char *arch, Tune tune, const LoraConfig *lora) {
    reference_open_on(r, reference_host(), arch, tune, lora);
}

void reference_close(Reference *r) {
    exec_free(r->ex, r->grads, 0);
    model_close(&r->model);
    exec_close(&r->ex);
    safetensors_close(&r->expected);
    golden_batch_close(&r->made);
}

double reference_loss(Reference *r, bool train) {
    double sum;
    int64_t hits;
    ASSERT_OK(model_forward(r->model, &r->made.batch, train));
    ASSERT_OK(model_loss(r->model, &sum, &hits));
    return sum / r->made.batch.labels;
}

const SafeTensor *reference_key(const Reference *r, const char *prefix, const Param *p) {
    bool lora = p->kind == PARAM_LORA_A || p->kind == PARAM_LORA_B;
    return reference_expect(r, "%s.%s%s", prefix, lora ? "base_model.model." : "", p->name);
}
