/* The model beside Hugging Face transformers and PEFT, on tiny random models of every published
 * architecture: tests/golden/models, written by tools/reference/golden.py (which describes the
 * tensors of expected.safetensors). The reference is computed in f64, so what differs is our f32:
 * sums of some hundred products, each good to 6e-8, through five layers. */
#include <math.h>

#include "model/adapter.h"
#include "model/parts.h"
#include "model/published.h"
#include "model/safetensors.h"
#include "model/weight_files.h"
#include "tests/test.h"
#include "trainer/optim.h"

enum { IMAGE_ID = -200, IGNORED = -100, SAMPLES = 2, ROWS_MAX = 1024, STEPS = 20 };

static const char *const ARCHS[] = {"openecad_0.55b", "openecad_0.89b", "openecad_2.4b",
                                    "openecad_3.1b", "tinyllama"};
enum { ARCH_COUNT = sizeof ARCHS / sizeof ARCHS[0] };

/* A published model, opened, with its golden micro-batch. */
typedef struct Reference {
    char folder[PATH_SIZE];
    int samples; /* SAMPLES, or 1 of a model of full size */
    SafeTensors *expected;
    Published published;
    Exec *ex;
    Model *model;
    float *grads;
    Batch batch; /* of the arrays below; labels where the reference has them */
    int32_t ids[ROWS_MAX], positions[ROWS_MAX], starts[SAMPLES + 1], label_rows[ROWS_MAX],
        targets[ROWS_MAX];
    uint8_t *pixels;
} Reference;

static const SafeTensor *expect(const Reference *r, const char *format, ...) {
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const SafeTensor *t = safetensors_find(r->expected, name);
    ASSERT(t, "%s: no golden tensor %s", r->folder, name);
    return t;
}

static int32_t int_at(const SafeTensor *t, int64_t i) {
    int32_t value;
    memcpy(&value, (const char *)t->data + 4 * i, sizeof value);
    return value;
}

static const SafeTensor *find(const Reference *r, const char *name) {
    return safetensors_find(r->expected, name);
}

static float real_at(const SafeTensor *t, int64_t i) {
    float value;
    memcpy(&value, (const char *)t->data + 4 * i, sizeof value);
    return value;
}

/* Of gradients, as below. Some are sums of terms that cancel: PyTorch's own float32 is up to 1.5e-5
 * from the float64 of the golden files, on the same tensor as ours (2.3e-5); the order of the sums,
 * which is another for each kind of processor, moves that by a few millionths. */
#define GRAD_ALLOWED 4e-5

/* Largest difference, as a share of the largest expected value. */
static void check_near(const Reference *r, const char *what, Tensor found, const SafeTensor *t,
                       int64_t first, double allowed) {
    double largest = 0, difference = 0;
    ASSERT_INT(first + tensor_count(found), <=, t->count);
    for (int64_t i = 0; i < tensor_count(found); i++) {
        double value = (double)real_at(t, first + i),
               ours = (double)((float *)found.data)[i / found.cols * found.stride + i % found.cols];
        largest = fmax(largest, fabs(value));
        difference = fmax(difference, fabs(ours - value));
        ASSERT_TRUE(isfinite(ours));
    }
    ASSERT(difference <= allowed * largest, "%s: %s differs by %.3g where values reach %.3g",
           path_name(r->folder), what, difference, largest);
}

/* The micro-batch; `all`: every row but a sample's last has a label, so that there are logits for
 * it. */
static void build_batch(Reference *r, bool all) {
    int image_rows = model_image_rows(model_spec(r->model)),
        side = (int)r->published.vision.image_size;
    size_t bytes = (size_t)(side * side * 3);
    r->samples = find(r, "sample1.ids") ? SAMPLES : 1;
    r->batch = (Batch){.samples = r->samples,
                       .images = r->samples,
                       .image_rows = image_rows,
                       .image_size = side,
                       .image_channels = 3,
                       .ids = r->ids,
                       .positions = r->positions,
                       .starts = r->starts,
                       .label_rows = r->label_rows,
                       .targets = r->targets};
    free(r->pixels);
    r->batch.pixels = r->pixels = malloc(SAMPLES * bytes);
    int row = 0, labels = 0;
    for (int s = 0; s < r->samples; s++) {
        const SafeTensor *ids = expect(r, "sample%d.ids", s),
                         *wanted = expect(r, "sample%d.labels", s),
                         *pixels = expect(r, "sample%d.pixels", s);
        r->starts[s] = row;
        for (int64_t i = 0; i < ids->count; i++) {
            int32_t id = int_at(ids, i), label = int_at(wanted, i);
            if (row > r->starts[s] && (all ? id != IMAGE_ID : label != IGNORED)) {
                r->label_rows[labels] = row - 1;
                r->targets[labels++] = all ? id : label;
            }
            for (int k = 0; k < (id == IMAGE_ID ? image_rows : 1); k++, row++) {
                if (all && id == IMAGE_ID) {
                    r->label_rows[labels] = row - 1;
                    r->targets[labels++] = 0; /* of no interest: its logits are */
                }
                r->ids[row] = id == IMAGE_ID ? -1 - (s * image_rows + k) : id;
                r->positions[row] = row - r->starts[s];
            }
        }
        if (row - r->starts[s] > r->batch.longest) r->batch.longest = row - r->starts[s];
        ASSERT_INT((size_t)pixels->count, ==, bytes);
        for (size_t i = 0; i < bytes; i++)
            r->pixels[(size_t)s * bytes + i] = (uint8_t)int_at(pixels, (int64_t)i);
    }
    r->starts[r->samples] = r->batch.tokens = row;
    r->batch.labels = labels;
    ASSERT_INT(row, <=, ROWS_MAX);
}

/* The model of `folder`, and what is expected of it in `golden`. */
static void open_folder(Reference *r, Exec *ex, const char *folder, const char *golden, Tune vision,
                        Tune llm, const LoraConfig *lora, DType dtype) {
    *r = (Reference){.ex = ex};
    char path[PATH_SIZE];
    ASSERT_OK(path_format(r->folder, "%s", folder));
    ASSERT_OK(path_join(path, golden, "expected.safetensors"));
    ASSERT_OK(safetensors_open(&r->expected, path));
    ASSERT_OK(published_read(&r->published, r->folder));
    ModelSpec spec = {.vision = r->published.vision,
                      .connector = r->published.connector,
                      .llm = r->published.llm,
                      .tune = {vision, TUNE_FULL, llm},
                      .max_positions = ROWS_MAX};
    if (lora) spec.lora = *lora;
    spec.llm.residual_dropout = 0; /* as in the reference: off */
    ASSERT_OK(model_open(&r->model, r->ex, &spec, dtype));
    WeightFiles *files;
    ASSERT_OK(weight_files_open(&files, r->folder));
    PublishedSource source = {.ex = ex, .files = files};
    ASSERT_OK(model_fill(r->model, &(WeightSource){published_read_param, &source}));
    weight_files_close(&files);
    ASSERT_OK(model_prepare(
        r->model, &(ModelLimits){.samples = 2, .tokens = ROWS_MAX, .labels = ROWS_MAX, .images = 2},
        true));
    Params *params = model_params(r->model);
    r->grads = exec_alloc(ex, (size_t)params->trained * sizeof(float));
    params->grads = r->grads;
    build_batch(r, false);
}

static void open_on(Reference *r, Exec *ex, const char *arch, Tune vision, Tune llm,
                    const LoraConfig *lora, DType dtype) {
    char folder[PATH_SIZE];
    ASSERT_OK(path_format(folder, "%s/tests/golden/models/%s", test_source_folder(), arch));
    open_folder(r, ex, folder, folder, vision, llm, lora, dtype);
}

static void reference_open(Reference *r, const char *arch, Tune vision, Tune llm,
                           const LoraConfig *lora) {
    Exec *ex;
    ASSERT_OK(exec_open(&ex, EXEC_CPU, 2));
    open_on(r, ex, arch, vision, llm, lora, DT_F32);
}

static void reference_close(Reference *r) {
    exec_free(r->ex, r->grads, 0);
    model_close(&r->model);
    exec_close(&r->ex);
    safetensors_close(&r->expected);
    free(r->pixels);
}

/* ---- the base model ---- */

static void check_base(const char *arch) {
    Reference r;
    reference_open(&r, arch, TUNE_FULL, TUNE_FULL, NULL);
    Model *m = r.model;
    double sum;
    int64_t hits;
    ASSERT_OK(model_forward(m, &r.batch, false));
    ASSERT_OK(model_loss(m, &sum, &hits));
    double expected = (double)real_at(expect(&r, "loss_sum"), 0);
    ASSERT_NEAR(sum / expected, 1, 1e-6);
    ASSERT_INT(r.batch.labels, ==, int_at(expect(&r, "tokens"), 0));

    build_batch(&r, true);
    ASSERT_OK(model_forward(m, &r.batch, true));
    check_near(&r, "vision_out", m->vision_out, expect(&r, "vision_out"), 0, 2e-6);
    check_near(&r, "features", m->features, expect(&r, "features"), 0, 2e-6);
    int rows = r.starts[1];
    for (int i = 0; i < m->spec.llm.layers; i++)
        check_near(&r, "hidden", tensor_rows(m->acts[i].h, 0, rows), expect(&r, "hidden.%d", i), 0,
                   3e-6);
    /* What enters the final norm at the label rows, which are all but the last. */
    Tensor n = take_act(m, rows - 1, m->spec.llm.width),
           logits = take_act(m, rows - 1, m->spec.llm.vocab);
    Tensor last = tensor_rows(m->last_h, 0, rows - 1);
    check_near(&r, "the last layer", last, expect(&r, "hidden.%d", (int)m->spec.llm.layers), 0,
               3e-6);
    norm_forward(m, m->final_norm, n, tensor_none(), tensor_none(), last, tensor_none());
    check_near(&r, "final_norm", n, expect(&r, "final_norm"), 0, 5e-6);
    classifier_logits(m, logits, n);
    check_near(&r, "logits", logits, expect(&r, "logits"), 0, 5e-6);
    reference_close(&r);
}

TEST(hidden_states_logits_and_loss_are_those_of_transformers) {
    for (int i = 0; i < ARCH_COUNT; i++) check_base(ARCHS[i]);
}

/* Of a mean loss; ours is of the sum. */
static void check_full_gradients(const char *arch) {
    Reference r;
    reference_open(&r, arch, TUNE_FULL, TUNE_FULL, NULL);
    const Params *params = model_params(r.model);
    ASSERT_OK(model_forward(r.model, &r.batch, true));
    ASSERT_OK(model_backward(r.model));
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        double squares = 0;
        for (int64_t k = 0; k < p->rows * p->cols; k++)
            squares += pow((double)r.grads[p->first + k], 2);
        double norm = sqrt(squares) / r.batch.labels,
               expected = (double)real_at(expect(&r, "full_norm.%s", p->name), 0);
        /* A bias of keys moves all scores of a query alike: its gradient is zero but for
         * the rounding of sums of terms near 1. */
        ASSERT(fabs(norm - expected) <= 2e-5 * expected + 2e-7,
               "%s: the gradient of %s is %.7g long, expected %.7g", arch, p->name, norm, expected);
    }
    reference_close(&r);
}

TEST(gradients_of_all_weights_are_as_long_as_those_of_transformers) {
    for (int i = 0; i < ARCH_COUNT; i++) check_full_gradients(ARCHS[i]);
}

/* ---- adapters ---- */

static const LoraConfig LORA = {.r = 4, .alpha = 8};

/* The reference's adapter into the model and its master weights. */
static void put_adapter(Reference *r) {
    const Params *params = model_params(r->model);
    int put = 0;
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (p->kind != PARAM_LORA_A && p->kind != PARAM_LORA_B) continue;
        const SafeTensor *t = expect(r, "lora.base_model.model.%s", p->name);
        ASSERT_INT(t->count, ==, p->rows * p->cols);
        Tensor value = param_value(params, i);
        float *staged = exec_alloc(r->ex, (size_t)t->count * sizeof(float));
        exec_upload(r->ex, staged, t->data, (size_t)t->count * sizeof(float));
        op_convert(r->ex, value, tensor(staged, DT_F32, value.rows, value.cols));
        exec_free(r->ex, staged, 0);
        put++;
    }
    ASSERT_INT(put, >, 0);
}

static const SafeTensor *find_key(const Reference *r, const char *prefix, const Param *p) {
    bool lora = p->kind == PARAM_LORA_A || p->kind == PARAM_LORA_B;
    return expect(r, "%s.%s%s", prefix, lora ? "base_model.model." : "", p->name);
}

static double mean_loss(Reference *r, bool train) {
    double sum;
    int64_t hits;
    ASSERT_OK(model_forward(r->model, &r->batch, train));
    ASSERT_OK(model_loss(r->model, &sum, &hits));
    return sum / r->batch.labels;
}

static void check_adapter(Exec *ex, const char *arch) {
    Reference r;
    open_on(&r, ex, arch, TUNE_LORA, TUNE_LORA, &LORA, DT_F32);
    const Params *params = model_params(r.model);
    put_adapter(&r);
    double expected = (double)real_at(expect(&r, "lora_loss"), 0);
    ASSERT_NEAR(mean_loss(&r, true) / expected, 1, 1e-6);
    ASSERT_OK(model_backward(r.model));
    float *grads = malloc((size_t)params->trained * sizeof *grads);
    ASSERT_TRUE(grads);
    exec_download(r.ex, grads, r.grads, (size_t)params->trained * sizeof *grads);
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (!p->trained) continue;
        Tensor grad = tensor(grads + p->first, DT_F32, p->rows, p->cols);
        for (int64_t k = 0; k < tensor_count(grad); k++)
            ((float *)grad.data)[k] /= (float)r.batch.labels;
        check_near(&r, p->name, grad, find_key(&r, "grad", p), 0, GRAD_ALLOWED);
    }
    free(grads);
    reference_close(&r);
}

TEST(gradients_of_adapters_and_connector_are_those_of_peft) {
    for (int i = 0; i < ARCH_COUNT; i++) {
        Exec *ex;
        ASSERT_OK(exec_open(&ex, EXEC_CPU, 2));
        check_adapter(ex, ARCHS[i]);
    }
}

TEST(kernels_give_the_gradients_of_peft_too) {
    const char *why = "";
    if (exec_device_count(&why) == 0) test_skip(why);
    for (int i = 0; i < ARCH_COUNT; i++) {
        Exec *ex;
        ASSERT_OK(exec_open(&ex, EXEC_CUDA, 0));
        check_adapter(ex, ARCHS[i]);
    }
}

static void check_steps(const char *arch) {
    Reference r;
    reference_open(&r, arch, TUNE_LORA, TUNE_LORA, &LORA);
    const Params *params = model_params(r.model);
    put_adapter(&r);
    TrainingConfig training = {.learning_rate = 1e-3,
                               .per_device_batch_size = SAMPLES,
                               .adam_beta1 = 0.9,
                               .adam_beta2 = 0.999,
                               .adam_epsilon = 1e-8};
    Optim optim;
    ASSERT_OK(optim_open(&optim, r.ex, r.model, &training));
    for (int step = 0; step < STEPS; step++) {
        exec_zero(r.ex, r.grads, (size_t)params->trained * sizeof(float));
        double expected = (double)real_at(expect(&r, "step.loss"), step);
        ASSERT_NEAR(mean_loss(&r, true) / expected, 1, 1e-5);
        ASSERT_OK(model_backward(r.model));
        ASSERT_OK(optim_step(&optim, r.grads, r.batch.labels, 1e-3));
    }
    ASSERT_NEAR(mean_loss(&r, false) / (double)real_at(expect(&r, "after20_loss"), 0), 1, 1e-5);
    int compared = 0;
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        char key[300];
        bool lora = p->kind == PARAM_LORA_A || p->kind == PARAM_LORA_B;
        snprintf(key, sizeof key, "after20.%s%s", lora ? "base_model.model." : "", p->name);
        const SafeTensor *t = safetensors_find(r.expected, key);
        if (!t) continue;
        /* Adam divides by the root of squares: where a gradient is near zero, its sign decides. */
        check_near(&r, p->name, tensor(optim.master + p->first, DT_F32, p->rows, p->cols), t, 0,
                   2e-3);
        compared++;
    }
    ASSERT_INT(compared, >, 4);
    optim_close(&optim);
    reference_close(&r);
}

TEST(twenty_steps_of_adamw_are_those_of_torch) {
    for (int i = 0; i < ARCH_COUNT; i++) check_steps(ARCHS[i]);
}

/* Adam's first step moves a number by its learning rate, whatever its gradient. */
TEST(each_part_learns_at_its_own_rate) {
    Reference r;
    reference_open(&r, "openecad_0.89b", TUNE_LORA, TUNE_LORA, &LORA);
    const Params *params = model_params(r.model);
    put_adapter(&r);
    static const double rates[PART_COUNT] = {
        [PART_VISION] = 5e-4, [PART_CONNECTOR] = 2e-3, [PART_LLM] = 1e-3};
    TrainingConfig training = {.learning_rate = 1e-3,
                               .vision_learning_rate = rates[PART_VISION],
                               .connector_learning_rate = rates[PART_CONNECTOR],
                               .per_device_batch_size = SAMPLES,
                               .adam_beta1 = 0.9,
                               .adam_beta2 = 0.999,
                               .adam_epsilon = 1e-12};
    Optim optim;
    ASSERT_OK(optim_open(&optim, r.ex, r.model, &training));
    size_t bytes = (size_t)params->trained * sizeof(float);
    float *before = malloc(bytes);
    ASSERT_TRUE(before);
    memcpy(before, optim.master, bytes);
    (void)mean_loss(&r, true);
    ASSERT_OK(model_backward(r.model));
    ASSERT_OK(optim_step(&optim, r.grads, r.batch.labels, 1e-3));
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        double largest = 0;
        for (int64_t k = 0; p->trained && k < p->rows * p->cols; k++)
            largest =
                fmax(largest, fabs((double)(optim.master[p->first + k] - before[p->first + k])));
        if (p->trained) ASSERT_NEAR(largest / rates[p->part], 1, 1e-2);
    }
    free(before);
    optim_close(&optim);
    reference_close(&r);
}

TEST(generated_tokens_are_those_of_transformers) {
    for (int i = 0; i < ARCH_COUNT; i++) {
        Reference r;
        reference_open(&r, ARCHS[i], TUNE_LORA, TUNE_LORA, &LORA);
        put_adapter(&r);
        const SafeTensor *expected = expect(&r, "generated");
        Generation generations[SAMPLES];
        ASSERT_OK(model_generate(r.model, &r.batch, -1, (int)expected->count, generations));
        for (int64_t k = 0; k < expected->count; k++)
            ASSERT_INT(generations[0].ids[k], ==, int_at(expected, k));
        for (int s = 0; s < SAMPLES; s++) free(generations[s].ids);
        reference_close(&r);
    }
}

TEST(rank_stabilised_adapters_scale_as_in_peft) {
    LoraConfig lora = LORA;
    lora.use_rslora = true;
    Reference r;
    reference_open(&r, "openecad_0.89b", TUNE_LORA, TUNE_LORA, &lora);
    put_adapter(&r);
    ASSERT_NEAR(mean_loss(&r, false) / (double)real_at(expect(&r, "rslora_loss"), 0), 1, 1e-6);
    reference_close(&r);
}

/* ---- models of full size, by hand ---- */

enum { EVERY = 29, LAST_LOGITS = 4 };

/* Every so many rows of ours against the rows that were kept. */
static void check_rows(const Reference *r, const char *what, Tensor found, const SafeTensor *t,
                       double allowed) {
    ASSERT_INT(t->shape[t->dims - 1], ==, found.cols);
    int64_t kept = t->count / found.cols;
    for (int64_t i = 0; i < kept; i++) {
        ASSERT_INT(i * EVERY, <, found.rows);
        check_near(r, what, tensor_rows(found, i * EVERY, 1), t, i * found.cols, allowed);
    }
}

/* Both sides are f32 here: sums of thousands of terms through up to sixty layers. */
static void check_full_base(Reference *r, const char *arch) {
    Model *m = r->model;
    const LlmConfig *c = &m->spec.llm;
    double loss = mean_loss(r, true), expected = (double)real_at(expect(r, "loss"), 0);
    printf("%s: loss %.7f, expected %.7f\n", arch, loss, expected);
    ASSERT_NEAR(loss / expected, 1, 2e-5);
    check_rows(r, "vision_out", m->vision_out, expect(r, "vision_out"), 2e-4);
    check_rows(r, "features", m->features, expect(r, "features"), 2e-4);
    for (int i = 0; i < c->layers; i++)
        check_rows(r, "hidden", m->acts[i].h, expect(r, "hidden.%d", i), 3e-4);
    float *logits = malloc((size_t)(LAST_LOGITS * c->vocab) * sizeof *logits);
    ASSERT_TRUE(logits);
    ASSERT_OK(model_forward(m, &r->batch, false));
    /* The reference's last row has no label. */
    ASSERT_OK(model_logits(m, r->batch.labels - LAST_LOGITS + 1, LAST_LOGITS - 1, logits));
    check_near(r, "logits", tensor(logits, DT_F32, LAST_LOGITS - 1, c->vocab), expect(r, "logits"),
               0, 3e-4);
    free(logits);
}

/* How far a gradient is from the expected one, as a share of its length. */
static double gradient_distance(const Reference *r, const Param *p) {
    const SafeTensor *t = find_key(r, "grad", p);
    double squares = 0, differences = 0;
    for (int64_t k = 0; k < t->count; k++) {
        double value = (double)real_at(t, k),
               ours = (double)r->grads[p->first + k] / r->batch.labels;
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
    double loss = mean_loss(r, true), expected = (double)real_at(expect(r, "lora_loss"), 0),
           worst = 0;
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
    const SafeTensor *generated = find(r, "generated");
    Generation g;
    if (!generated) return;
    ASSERT_OK(model_generate(r->model, &r->batch, -1, (int)generated->count, &g));
    for (int64_t k = 0; k < generated->count; k++) ASSERT_INT(g.ids[k], ==, int_at(generated, k));
    free(g.ids);
}

static void check_full_steps(Reference *r, const char *arch) {
    const SafeTensor *losses = find(r, "step.loss");
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
        double loss = mean_loss(r, true), expected = (double)real_at(losses, step);
        printf("%s: step %lld, loss %.6f, expected %.6f\n", arch, (long long)step, loss, expected);
        ASSERT_NEAR(loss / expected, 1, 2e-4);
        ASSERT_OK(model_backward(r->model));
        ASSERT_OK(optim_step(&optim, r->grads, r->batch.labels, 1e-4));
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
    Exec *ex;
    LoraConfig lora = {.r = 8, .alpha = 16};
    ASSERT_OK(exec_open(&ex, EXEC_CPU, 2));
    open_folder(&r, ex, folder, golden, TUNE_LORA, TUNE_LORA, &lora, DT_F32);
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
    for (int i = 0; i < ARCH_COUNT; i++)
        if (!only || !strcmp(only, ARCHS[i])) check_full_size(place, ARCHS[i]);
}
