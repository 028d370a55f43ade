/* The model beside Hugging Face transformers and PEFT, on tiny random models of every published
 * architecture: tests/golden/models, written by tools/reference/golden.py (which describes the
 * tensors of expected.safetensors). The reference is computed in f64, so what differs is our f32:
 * sums of some hundred products, each good to 6e-8, through five layers. */
#include <math.h>

#include "model/optim.h"
#include "tests/model/reference.h"

enum { STEPS = 20 };

/* Of gradients, as below. Some are sums of terms that cancel: PyTorch's own float32 is up to 1.5e-5
 * from the float64 of the golden files, on the same tensor as ours (2.3e-5); the order of the sums,
 * which is another for each kind of processor, moves that by a few millionths. */
#define GRAD_ALLOWED 4e-5

/* ---- the base model ---- */

static void check_base(const char *arch) {
    Reference r;
    reference_open(&r, arch, TUNE_FULL, NULL);
    Model *m = r.model;
    double sum;
    int64_t hits;
    ASSERT_OK(model_forward(m, &r.made.batch, false));
    ASSERT_OK(model_loss(m, &sum, &hits));
    double expected = (double)golden_real(reference_expect(&r, "loss_sum"), 0);
    ASSERT_NEAR(sum / expected, 1, 1e-6);
    ASSERT_INT(r.made.batch.labels, ==, golden_int(reference_expect(&r, "tokens"), 0));

    reference_rebuild(&r, GOLDEN_ROWS, true);
    ASSERT_OK(model_forward(m, &r.made.batch, true));
    reference_near(&r, "vision_out", m->vision_out, reference_expect(&r, "vision_out"), 0, 2e-6);
    reference_near(&r, "features", m->features, reference_expect(&r, "features"), 0, 2e-6);
    int rows = r.made.starts[1];
    for (int i = 0; i < m->spec.llm.layers; i++)
        reference_near(&r, "hidden", tensor_rows(m->acts[i].h, 0, rows),
                       reference_expect(&r, "hidden.%d", i), 0, 3e-6);
    /* What enters the final norm at the label rows, which are all but the last. */
    Tensor n = take_act(m, rows - 1, m->spec.llm.width),
           logits = take_act(m, rows - 1, m->spec.llm.vocab);
    Tensor last = tensor_rows(m->last_h, 0, rows - 1);
    reference_near(&r, "the last layer", last,
                   reference_expect(&r, "hidden.%d", (int)m->spec.llm.layers), 0, 3e-6);
    norm_forward(m, m->final_norm, n, tensor_none(), tensor_none(), last, tensor_none());
    reference_near(&r, "final_norm", n, reference_expect(&r, "final_norm"), 0, 5e-6);
    classifier_logits(m, logits, n);
    reference_near(&r, "logits", logits, reference_expect(&r, "logits"), 0, 5e-6);
    reference_close(&r);
}

TEST(hidden_states_logits_and_loss_are_those_of_transformers) {
    for (int i = 0; i < GOLDEN_ARCHS; i++) check_base(golden_archs[i]);
}

/* Of a mean loss; ours is of the sum. */
static void check_full_gradients(const char *arch) {
    Reference r;
    reference_open(&r, arch, TUNE_FULL, NULL);
    const Params *params = model_params(r.model);
    ASSERT_OK(model_forward(r.model, &r.made.batch, true));
    ASSERT_OK(model_backward(r.model));
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        double squares = 0;
        for (int64_t k = 0; k < p->rows * p->cols; k++)
            squares += pow((double)r.grads[p->first + k], 2);
        double norm = sqrt(squares) / r.made.batch.labels,
               expected = (double)golden_real(reference_expect(&r, "full_norm.%s", p->name), 0);
        /* A bias of keys moves all scores of a query alike: its gradient is zero but for
         * the rounding of sums of terms near 1. */
        ASSERT(fabs(norm - expected) <= 2e-5 * expected + 2e-7,
               "%s: the gradient of %s is %.7g long, expected %.7g", arch, p->name, norm, expected);
    }
    reference_close(&r);
}

TEST(gradients_of_all_weights_are_as_long_as_those_of_transformers) {
    for (int i = 0; i < GOLDEN_ARCHS; i++) check_full_gradients(golden_archs[i]);
}

TEST(a_tower_that_keeps_its_first_patch_is_that_of_transformers) {
    const char *folder = golden_folder("openecad_0.89b", NULL);
    Reference r;
    ModelSpec spec;
    reference_spec(&spec, folder, TUNE_FULL, NULL);
    spec.vision.drop_first_patch = false;
    reference_open_merged(&r, reference_host(), folder, folder, &spec, NULL);
    double expected = (double)golden_real(reference_expect(&r, "all_patches.loss"), 0);
    ASSERT_NEAR(reference_loss(&r, true) / expected, 1, 1e-6);
    const SafeTensor *features = reference_expect(&r, "all_patches.features");
    ASSERT_INT(features->count, ==, tensor_count(r.model->features));
    reference_near(&r, "features", r.model->features, features, 0, 2e-6);
    reference_close(&r);
}

/* Cut behind the splice, so that rows of the picture count. */
TEST(samples_cut_at_the_longest_length_have_the_loss_of_transformers) {
    Reference r;
    reference_open(&r, "openecad_0.89b", TUNE_FULL, NULL);
    int whole = r.made.batch.labels;
    reference_rebuild(&r, 33, false);
    ASSERT_INT(r.made.batch.labels, ==, golden_int(reference_expect(&r, "short.tokens"), 0));
    ASSERT_INT(r.made.batch.labels, <, whole);
    ASSERT_NEAR(reference_loss(&r, false) /
                    (double)golden_real(reference_expect(&r, "short.loss"), 0),
                1, 1e-6);
    reference_close(&r);
}

/* ---- adapters ---- */

static const LoraConfig LORA = {.r = 4, .alpha = 8};

/* The reference's adapter (its tensors begin with `prefix`) into the model. */
static void put_adapter(Reference *r, const char *prefix) {
    const Params *params = model_params(r->model);
    int put = 0;
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (p->kind != PARAM_LORA_A && p->kind != PARAM_LORA_B) continue;
        const SafeTensor *t = reference_expect(r, "%s.base_model.model.%s", prefix, p->name);
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

/* Ours, in host memory, is of the sum of losses, the expected one of their mean. */
static void check_gradient(const Reference *r, const Param *p, float *grads, const SafeTensor *t) {
    Tensor grad = param_master(p, grads);
    for (int64_t k = 0; k < tensor_count(grad); k++)
        ((float *)grad.data)[k] /= (float)r->made.batch.labels;
    reference_near(r, p->name, grad, t, 0, GRAD_ALLOWED);
}

static void check_adapter(Exec *ex, const char *arch) {
    Reference r;
    reference_open_on(&r, ex, arch, TUNE_LORA, &LORA);
    const Params *params = model_params(r.model);
    put_adapter(&r, "lora");
    double expected = (double)golden_real(reference_expect(&r, "lora_loss"), 0);
    ASSERT_NEAR(reference_loss(&r, true) / expected, 1, 1e-6);
    ASSERT_OK(model_backward(r.model));
    float *grads = malloc((size_t)params->trained * sizeof *grads);
    ASSERT_TRUE(grads);
    exec_download(r.ex, grads, r.grads, (size_t)params->trained * sizeof *grads);
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (!p->trained) continue;
        check_gradient(&r, p, grads, reference_key(&r, "grad", p));
    }
    free(grads);
    reference_close(&r);
}

TEST(gradients_of_adapters_and_connector_are_those_of_peft) {
    for (int i = 0; i < GOLDEN_ARCHS; i++) check_adapter(reference_host(), golden_archs[i]);
}

TEST(kernels_give_the_gradients_of_peft_too) {
    const char *why = "";
    if (exec_device_count(&why) == 0) test_skip(why);
    for (int i = 0; i < GOLDEN_ARCHS; i++) {
        Exec *ex;
        ASSERT_OK(exec_open(&ex, EXEC_CUDA, 0));
        check_adapter(ex, golden_archs[i]);
    }
}

/* The label rows of sample 0 against those that choose the answer; the row of its last token, which
 * is the last of these, has no label here. */
static void check_answer(Reference *r, const char *name) {
    const SafeTensor *t = reference_expect(r, "%s", name);
    const Batch *b = &r->made.batch;
    int64_t vocab = model_spec(r->model)->llm.vocab, rows = t->count / vocab - 1;
    float *logits = malloc((size_t)(rows * vocab) * sizeof *logits);
    ASSERT_TRUE(logits);
    ASSERT_INT(b->label_rows[rows - 1], ==, b->starts[1] - 2);
    ASSERT_OK(model_forward(r->model, b, false));
    ASSERT_OK(model_logits(r->model, 0, (int)rows, logits));
    reference_near(r, name, tensor(logits, DT_F32, rows, vocab), t, 0, 5e-6);
    free(logits);
}

TEST(logits_with_an_adapter_are_those_of_peft) {
    for (int i = 0; i < GOLDEN_ARCHS; i++) {
        Reference r;
        reference_open(&r, golden_archs[i], TUNE_LORA, &LORA);
        put_adapter(&r, "lora");
        check_answer(&r, "lora_logits");
        reference_close(&r);
    }
}

/* lora.* as a folder that PEFT would have written. */
static const char *write_adapter(const char *arch) {
    enum { PREFIX = sizeof "lora." - 1 };
    const char *folder = golden_new_folder("adapter");
    SafeTensors *expected;
    ASSERT_OK(safetensors_open(&expected, golden_folder(arch, "expected.safetensors")));
    SafeTensor *tensors = calloc((size_t)safetensors_count(expected), sizeof *tensors);
    ASSERT_TRUE(tensors);
    int count = 0;
    for (int i = 0; i < safetensors_count(expected); i++) {
        const SafeTensor *t = safetensors_at(expected, i);
        if (strncmp(t->name, "lora.", PREFIX) != 0) continue;
        tensors[count] = *t;
        tensors[count++].name += PREFIX;
    }
    ASSERT_OK(safetensors_write(golden_path(folder, "adapter_model.safetensors"), tensors, count));
    golden_write_text(folder, "adapter_config.json",
                      "{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8}");
    free(tensors);
    safetensors_close(&expected);
    return folder;
}

TEST(logits_with_the_adapter_merged_are_those_of_peft) {
    for (int i = 0; i < 2 * GOLDEN_ARCHS; i++) {
        const char *arch = golden_archs[i / 2], *folder = golden_folder(arch, NULL);
        Adapter *adapter = golden_adapter(write_adapter(arch));
        Reference r;
        ModelSpec spec;
        reference_spec(&spec, folder, TUNE_FROZEN, NULL);
        spec.mapped = i % 2;
        reference_open_merged(&r, reference_host(), folder, folder, &spec, adapter);
        check_answer(&r, "merged_logits");
        adapter_close(&adapter);
        reference_close(&r);
    }
}

TEST(ranks_and_alphas_by_pattern_are_those_of_peft) {
    LoraConfig lora = LORA;
    lora.rank_pattern = (PatternList){1, {{"self_attn.q_proj", 2}}};
    lora.alpha_pattern = (PatternList){1, {{"mlp.up_proj", 16}}};
    Reference r;
    reference_open(&r, "tinyllama", TUNE_LORA, &lora);
    const Params *params = model_params(r.model);
    put_adapter(&r, "ranks.lora");
    ASSERT_NEAR(reference_loss(&r, true) /
                    (double)golden_real(reference_expect(&r, "ranks_loss"), 0),
                1, 1e-6);
    ASSERT_OK(model_backward(r.model));
    int compared = 0;
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        char key[300];
        snprintf(key, sizeof key, "ranks.grad.base_model.model.%s", p->name);
        if (!reference_find(&r, key)) continue;
        check_gradient(&r, p, r.grads, reference_find(&r, key));
        compared++;
    }
    ASSERT_INT(compared, ==, 6); /* A and B of up_proj, and of both q_proj */
    reference_close(&r);
}

static void check_steps(const char *arch) {
    Reference r;
    reference_open(&r, arch, TUNE_LORA, &LORA);
    const Params *params = model_params(r.model);
    put_adapter(&r, "lora");
    TrainingConfig training = {.learning_rate = 1e-3,
                               .per_device_batch_size = GOLDEN_SAMPLES,
                               .adam_beta1 = 0.9,
                               .adam_beta2 = 0.999,
                               .adam_epsilon = 1e-8};
    Optim optim;
    ASSERT_OK(optim_open(&optim, r.ex, r.model, &training));
    for (int step = 0; step < STEPS; step++) {
        exec_zero(r.ex, r.grads, (size_t)params->trained * sizeof(float));
        double expected = (double)golden_real(reference_expect(&r, "step.loss"), step);
        ASSERT_NEAR(reference_loss(&r, true) / expected, 1, 1e-5);
        ASSERT_OK(model_backward(r.model));
        ASSERT_OK(optim_step(&optim, r.grads, r.made.batch.labels, 1e-3));
    }
    ASSERT_NEAR(reference_loss(&r, false) /
                    (double)golden_real(reference_expect(&r, "after20_loss"), 0),
                1, 1e-5);
    int compared = 0;
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        char key[300];
        bool lora = p->kind == PARAM_LORA_A || p->kind == PARAM_LORA_B;
        snprintf(key, sizeof key, "after20.%s%s", lora ? "base_model.model." : "", p->name);
        const SafeTensor *t = safetensors_find(r.expected, key);
        if (!t) continue;
        /* Adam divides by the root of squares: where a gradient is near zero, its sign decides. */
        reference_near(&r, p->name, param_master(p, optim.master), t, 0, 2e-3);
        compared++;
    }
    ASSERT_INT(compared, >, 4);
    optim_close(&optim);
    reference_close(&r);
}

TEST(twenty_steps_of_adamw_are_those_of_torch) {
    for (int i = 0; i < GOLDEN_ARCHS; i++) check_steps(golden_archs[i]);
}

/* Adam's first step moves a number by its learning rate, whatever its gradient. */
TEST(each_part_learns_at_its_own_rate) {
    Reference r;
    reference_open(&r, "openecad_0.89b", TUNE_LORA, &LORA);
    const Params *params = model_params(r.model);
    put_adapter(&r, "lora");
    static const double rates[COMPONENT_COUNT] = {
        [COMPONENT_VISION] = 5e-4, [COMPONENT_CONNECTOR] = 2e-3, [COMPONENT_LLM] = 1e-3};
    TrainingConfig training = {.learning_rate = 1e-3,
                               .vision_learning_rate = rates[COMPONENT_VISION],
                               .connector_learning_rate = rates[COMPONENT_CONNECTOR],
                               .per_device_batch_size = GOLDEN_SAMPLES,
                               .adam_beta1 = 0.9,
                               .adam_beta2 = 0.999,
                               .adam_epsilon = 1e-12};
    Optim optim;
    ASSERT_OK(optim_open(&optim, r.ex, r.model, &training));
    size_t bytes = (size_t)params->trained * sizeof(float);
    float *before = malloc(bytes);
    ASSERT_TRUE(before);
    memcpy(before, optim.master, bytes);
    (void)reference_loss(&r, true);
    ASSERT_OK(model_backward(r.model));
    ASSERT_OK(optim_step(&optim, r.grads, r.made.batch.labels, 1e-3));
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        double largest = 0;
        for (int64_t k = 0; p->trained && k < p->rows * p->cols; k++)
            largest =
                fmax(largest, fabs((double)(optim.master[p->first + k] - before[p->first + k])));
        if (p->trained) ASSERT_NEAR(largest / rates[p->component], 1, 1e-2);
    }
    free(before);
    optim_close(&optim);
    reference_close(&r);
}

TEST(generated_tokens_are_those_of_transformers) {
    for (int i = 0; i < GOLDEN_ARCHS; i++) {
        Reference r;
        reference_open(&r, golden_archs[i], TUNE_LORA, &LORA);
        put_adapter(&r, "lora");
        const SafeTensor *expected = reference_expect(&r, "generated");
        Generation generations[GOLDEN_SAMPLES];
        ASSERT_OK(model_generate(r.model, &r.made.batch, -1, (int)expected->count, generations));
        for (int64_t k = 0; k < expected->count; k++)
            ASSERT_INT(generations[0].ids[k], ==, golden_int(expected, k));
        for (int s = 0; s < GOLDEN_SAMPLES; s++) free(generations[s].ids);
        reference_close(&r);
    }
}

/* Appends ids to the prompt of sample 0, which is all that stays of the batch; the rows before them
 * have labels. */
static void ask_for(GoldenBatch *made, const SafeTensor *ids) {
    Batch *b = &made->batch;
    b->tokens = b->label_rows[0] + 1;
    b->samples = b->images = 1;
    b->labels = 0;
    for (int64_t k = 0; k < ids->count; k++) {
        made->label_rows[b->labels] = b->tokens - 1;
        made->targets[b->labels++] = made->ids[b->tokens] = golden_int(ids, k);
        made->positions[b->tokens] = b->tokens;
        b->tokens++;
    }
    made->starts[1] = b->longest = b->tokens;
}

/* By how much a logit is over all others. */
static double lead_of(const float *logits, int64_t vocab, int32_t id) {
    float second = -INFINITY;
    for (int64_t i = 0; i < vocab; i++)
        if (i != id && logits[i] > second) second = logits[i];
    return (double)(logits[id] - second);
}

/* Both sides by a full pass, without a cache. Two logits of up to 7 are each off by as much as
 * check_answer allows. */
TEST(generated_tokens_lead_by_as_much_as_in_transformers) {
    for (int i = 0; i < GOLDEN_ARCHS; i++) {
        Reference r;
        reference_open(&r, golden_archs[i], TUNE_LORA, &LORA);
        put_adapter(&r, "lora");
        const SafeTensor *ids = reference_expect(&r, "generated"),
                         *leads = reference_expect(&r, "generated_gap");
        int64_t vocab = model_spec(r.model)->llm.vocab;
        float *logits = malloc((size_t)(ids->count * vocab) * sizeof *logits);
        ASSERT_TRUE(logits);
        ask_for(&r.made, ids);
        ASSERT_OK(model_forward(r.model, &r.made.batch, false));
        ASSERT_OK(model_logits(r.model, 0, (int)ids->count, logits));
        for (int64_t k = 0; k < ids->count; k++)
            ASSERT_NEAR(lead_of(logits + k * vocab, vocab, golden_int(ids, k)),
                        (double)golden_real(leads, k), 7e-5);
        free(logits);
        reference_close(&r);
    }
}

TEST(rank_stabilised_adapters_scale_as_in_peft) {
    LoraConfig lora = LORA;
    lora.use_rslora = true;
    Reference r;
    reference_open(&r, "openecad_0.89b", TUNE_LORA, &lora);
    put_adapter(&r, "lora");
    ASSERT_NEAR(reference_loss(&r, false) /
                    (double)golden_real(reference_expect(&r, "rslora_loss"), 0),
                1, 1e-6);
    reference_close(&r);
}
