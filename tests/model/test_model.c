/* The whole model: levels of checkpointing, its modes of training, files, what a pass announces.
 * Its gradient stands in test_model_gradients.c, adapters and generation beside it. */
#include "core/rng.h"
#include "model/model.h"
#include "model/model_internal.h"
#include "tests/model/model_fixture.h"
#include "tests/support/test.h"
#include "tests/support/tiny.h"

/* Loss and every gradient of a training step: the same bits. */
static void check_levels(const ModelSpec *given, const char *name, DType dtype) {
    double loss[3];
    float *grads[3];
    size_t bytes = 0, activations[3];
    ModelSpec spec = *given;
    for (int level = CHECKPOINT_NONE; level <= CHECKPOINT_LAYERS; level++) {
        spec.checkpointing = (Checkpointing)level;
        Tiny tiny;
        tiny_open(&tiny, &spec, dtype, 1);
        if (dtype == DT_F32) shake(&tiny);
        Batch batch = tiny_batch(&spec, 3, 1);
        loss[level] = tiny_step(&tiny, &batch);
        grads[level] = tiny_grads(&tiny);
        bytes = (size_t)model_params(tiny.model)->trained * sizeof(float);
        activations[level] = model_memory(tiny.model).activations;
        tiny_batch_free(&batch);
        tiny_close(&tiny);
    }
    printf("%s: activations of %zu, %zu and %zu bytes\n", name, activations[0], activations[1],
           activations[2]);
    ASSERT_INT(activations[1], <, activations[0]);
    ASSERT_INT(activations[2], <, activations[1]);
    for (int level = 1; level < 3; level++) {
        ASSERT_TRUE(loss[level] == loss[0]);
        ASSERT_TRUE(!memcmp(grads[level], grads[0], bytes));
    }
    for (int level = 0; level < 3; level++) free(grads[level]);
}

static double read_number(Tensor t, int64_t row, int64_t col) {
    int64_t at = row * t.stride + col;
    if (t.dtype == DT_F32) return (double)((const float *)t.data)[at];
    uint32_t bits = (uint32_t)((const uint16_t *)t.data)[at] << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return (double)x;
}

static void need_bf16(void) {
    Exec *ex;
    ASSERT_OK(exec_open(&ex, EXEC_CPU, 1));
    bool there = exec_has_dtype(ex, DT_BF16);
    exec_close(&ex);
    if (!there) test_skip("this processor does not multiply bf16");
}

static void check_levels_of_families(DType dtype) {
    for (int family = 0; family < TINY_FAMILIES; family++)
        for (int lora = 0; lora < 2; lora++) {
            Tune tune = lora ? TUNE_LORA : TUNE_FULL;
            ModelSpec spec;
            tiny_spec_of(&spec, (TinyFamily)family, tune, TUNE_FULL, tune);
            spec.lora.dropout = lora ? 0.1 : 0;
            spec.llm.residual_dropout = family == TINY_PHI ? 0.1 : 0;
            check_levels(&spec, tiny_family_name((TinyFamily)family), dtype);
        }
}

TEST(every_level_of_checkpointing_gives_the_same_bits) {
    check_levels_of_families(DT_F32);
}

TEST(every_level_of_checkpointing_gives_the_same_bits_in_bf16) {
    need_bf16();
    check_levels_of_families(DT_BF16);
}

TEST(a_model_in_a_type_that_the_processor_lacks_does_not_compute) {
    static const DType types[] = {DT_BF16, DT_F16};
    ModelLimits limits = {.samples = 1, .tokens = 16, .labels = 16, .images = 1};
    ModelSpec spec;
    tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    setenv("CADVLM_CPU_ISA", "avx2", 1);
    for (int i = 0; i < 2; i++) {
        Exec *ex;
        Model *model;
        ASSERT_OK(exec_open(&ex, EXEC_CPU, 1));
        ASSERT_OK(model_open(&model, ex, &spec, types[i]));
        ASSERT_ERR(model_prepare(model, &limits, true), ERR_UNSUPPORTED,
                   i ? "does not compute in f16" : "does not compute in bf16");
        model_close(&model);
        exec_close(&ex);
    }
}

/* A loss is a sum over its labels, also where they are no neighbours. */
TEST(labels_need_not_be_neighbours) {
    ModelSpec spec;
    Tiny tiny;
    tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    tiny_open(&tiny, &spec, DT_F32, 1);
    shake(&tiny);
    Batch batch = tiny_batch(&spec, 1, 1), some = batch;
    ASSERT_INT(batch.labels, >, 3);
    int32_t rows[2] = {batch.label_rows[0], batch.label_rows[3]},
            targets[2] = {batch.targets[0], batch.targets[3]};
    double apart = 0;
    for (int i = 0; i < 2; i++) {
        some.labels = 1;
        some.label_rows = rows + i;
        some.targets = targets + i;
        apart += tiny_loss(&tiny, &some);
    }
    some.labels = 2;
    some.label_rows = rows;
    some.targets = targets;
    ASSERT_NEAR(tiny_loss(&tiny, &some) / apart, 1, 1e-5);
    tiny_batch_free(&batch);
    tiny_close(&tiny);
}

TEST(first_patch_can_be_dropped) {
    ModelSpec spec;
    tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    spec.vision.drop_first_patch = true;
    Tiny tiny;
    tiny_open(&tiny, &spec, DT_F32, 1);
    ASSERT_INT(model_image_rows(&spec), ==, 3);
    Batch batch = tiny_batch(&spec, 2, 1);
    double loss = tiny_step(&tiny, &batch);
    ASSERT_TRUE(isfinite(loss) && loss > 0);
    tiny_batch_free(&batch);
    tiny_close(&tiny);
}

/* Whatever the other norms are: queries and keys are multiplied by the weight as it is. */
TEST(a_batch_has_no_more_rows_than_can_be_counted) {
    ModelSpec spec;
    ModelLimits limits;
    tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL); /* four patches a picture */
    spec.max_positions = 1 << 20;
    ASSERT_OK(model_limits(&limits, &spec, 512));
    ASSERT_INT(limits.samples, ==, 512);
    ASSERT_INT(limits.images, ==, 512);
    ASSERT_INT(limits.tokens, ==, 1 << 29);
    ASSERT_INT(limits.labels, ==, (1 << 29) - 512 * 4);
    ASSERT_ERR(model_limits(&limits, &spec, 513), ERR_CONFIG, "per_device_batch_size 513");
    ASSERT_ERR(model_limits(&limits, &spec, 4096), ERR_CONFIG, "max_length 1048576");
    spec.max_positions = 64;
    spec.vision.image_size = 4096;
    spec.vision.patch_size = 1;
    ASSERT_OK(model_limits(&limits, &spec, 32));
    ASSERT_ERR(model_limits(&limits, &spec, 65536), ERR_CONFIG, "16777216 patches");
}

/* bf16 follows f32: 8 bits of mantissa, through a dozen layers, leave about one percent. */
TEST(bf16_stays_near_f32) {
    need_bf16();
    ModelSpec spec;
    tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    Tiny wide, narrow;
    tiny_open(&wide, &spec, DT_F32, 1);
    tiny_open(&narrow, &spec, DT_BF16, 1);
    Batch batch = tiny_batch(&spec, 4, 2);
    double a = tiny_step(&wide, &batch), b = tiny_step(&narrow, &batch);
    ASSERT_NEAR(b / a, 1, 0.01);
    double dot = 0, squares_a = 0, squares_b = 0;
    for (int64_t i = 0; i < model_params(wide.model)->trained; i++) {
        dot += (double)(wide.grads[i] * narrow.grads[i]);
        squares_a += (double)(wide.grads[i] * wide.grads[i]);
        squares_b += (double)(narrow.grads[i] * narrow.grads[i]);
    }
    printf("cosine of the gradients: %.5f\n", dot / sqrt(squares_a * squares_b));
    ASSERT_REAL(dot / sqrt(squares_a * squares_b), >, 0.995);
    tiny_batch_free(&batch);
    tiny_close(&wide);
    tiny_close(&narrow);
}

/* Rounded to the nearest number of so many bits, ties to even. */
static double of_eight_bits(double x) {
    int exponent;
    double significand = frexp(x, &exponent);
    return ldexp(rint(ldexp(significand, 8)), exponent - 8);
}

/* Gemma's rows enter times √width, which is a number of the compute type: of 18, 4.2426 in f32 and
 * 4.25 in bf16. */
TEST(rows_enter_times_a_factor_of_the_compute_type) {
    static const DType types[] = {DT_F32, DT_BF16};
    for (int i = 0; i < 2; i++) {
        ModelSpec spec;
        Tiny tiny;
        tiny_spec_of(&spec, TINY_GEMMA, TUNE_FULL, TUNE_FULL, TUNE_FULL);
        spec.llm.width = 18;
        if (i) need_bf16();
        tiny_open(&tiny, &spec, types[i], 1);
        Batch batch = tiny_batch(&spec, 2, 1);
        tiny_step(&tiny, &batch);
        Tensor h = tiny.model->acts[0].h,
               table = param_value(model_params(tiny.model), tiny.model->embedding);
        int checked = 0;
        for (int row = 0; row < batch.tokens; row++)
            for (int c = 0; c < 18 && batch.ids[row] >= 0; c++, checked++) {
                double x = read_number(table, batch.ids[row], c), found = read_number(h, row, c);
                if (types[i] == DT_F32)
                    ASSERT_NEAR(found, x * sqrt(18), fabs(found) * 0x1p-23);
                else
                    ASSERT_REAL(found, ==, of_eight_bits(4.25 * x));
            }
        ASSERT_INT(checked, >, 100);
        tiny_batch_free(&batch);
        tiny_close(&tiny);
    }
}

TEST(samples_of_a_batch_do_not_see_each_other) {
    ModelSpec spec;
    tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    Tiny tiny;
    tiny_open(&tiny, &spec, DT_F32, 1);
    Batch both = tiny_batch(&spec, 2, 9);
    double together = tiny_loss(&tiny, &both), apart = 0;
    for (int s = 0; s < 2; s++) {
        Batch one = tiny_batch(&spec, 2, 9);
        int first = one.starts[s], rows = one.starts[s + 1] - first, labels = 0;
        int32_t starts[2] = {0, rows}, label_rows[64], targets[64], ids[64];
        for (int i = 0; i < rows; i++) {
            ids[i] = one.ids[first + i];
            if (ids[i] < 0) ids[i] += s * one.image_rows;
        }
        for (int i = 0; i < one.labels; i++)
            if (one.label_rows[i] >= first && one.label_rows[i] < first + rows) {
                label_rows[labels] = one.label_rows[i] - first;
                targets[labels++] = one.targets[i];
            }
        Batch alone = one;
        alone.samples = alone.images = 1;
        alone.tokens = rows;
        alone.labels = labels;
        alone.ids = ids;
        alone.positions = one.positions + first;
        alone.starts = starts;
        alone.label_rows = label_rows;
        alone.targets = targets;
        alone.pixels = one.pixels + (size_t)(s * one.image_size * one.image_size);
        apart += tiny_loss(&tiny, &alone);
        tiny_batch_free(&one);
    }
    ASSERT_NEAR(together, apart, 1e-4 * apart);
    tiny_batch_free(&both);
    tiny_close(&tiny);
}

TEST(nothing_is_kept_for_what_is_frozen) {
    ModelSpec full, tower, both;
    tiny_spec(&full, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    tiny_spec(&tower, TUNE_FROZEN, TUNE_FULL, TUNE_FULL);
    tiny_spec(&both, TUNE_FROZEN, TUNE_FULL, TUNE_LORA);
    Tiny a, b, c;
    tiny_open(&a, &full, DT_F32, 1);
    tiny_open(&b, &tower, DT_F32, 1);
    tiny_open(&c, &both, DT_F32, 1);
    printf("activations %zu and %zu bytes, trained %ld, %ld and %ld\n",
           model_memory(a.model).activations, model_memory(b.model).activations,
           (long)model_params(a.model)->trained, (long)model_params(b.model)->trained,
           (long)model_params(c.model)->trained);
    ASSERT_INT(model_memory(b.model).activations, <, model_memory(a.model).activations);
    ASSERT_INT(model_params(b.model)->trained, <, model_params(a.model)->trained);
    ASSERT_INT(model_params(c.model)->trained, <, model_params(b.model)->trained);
    Batch batch = tiny_batch(&full, 1, 1);
    ASSERT_REAL(model_flops(b.model, &batch, true), <, model_flops(a.model, &batch, true));
    ASSERT_REAL(model_flops(c.model, &batch, true), <, model_flops(b.model, &batch, true));
    tiny_batch_free(&batch);
    tiny_close(&a);
    tiny_close(&b);
    tiny_close(&c);
}

/* 1.3 GB a micro-batch of eight in OpenECADv2 0.89B. */
TEST(the_input_of_gelu_is_kept_for_what_has_a_backward_pass_alone) {
    static const struct {
        Tune vision, connector, llm;
        bool tower, connector_too;
    } cases[] = {{TUNE_FULL, TUNE_FROZEN, TUNE_FROZEN, true, true},
                 {TUNE_LORA, TUNE_FROZEN, TUNE_LORA, true, true},
                 {TUNE_FROZEN, TUNE_FULL, TUNE_LORA, false, true},
                 {TUNE_FROZEN, TUNE_FROZEN, TUNE_LORA, false, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ModelSpec spec;
        Tiny tiny;
        tiny_spec(&spec, cases[i].vision, cases[i].connector, cases[i].llm);
        tiny_open(&tiny, &spec, DT_F32, 1);
        Batch batch = tiny_batch(&spec, 1, 1);
        tiny_step(&tiny, &batch);
        ASSERT_INT(!tensor_is_none(tiny.model->vision_acts[0].f1), ==, cases[i].tower);
        ASSERT_INT(!tensor_is_none(tiny.model->connector_f), ==, cases[i].connector_too);
        tiny_batch_free(&batch);
        tiny_close(&tiny);
    }
}

TEST(fresh_adapters_change_nothing) {
    ModelSpec spec;
    tiny_spec(&spec, TUNE_LORA, TUNE_FULL, TUNE_LORA);
    ModelSpec plain = spec;
    plain.tune[COMPONENT_VISION] = TUNE_FROZEN;
    plain.tune[COMPONENT_LLM] = TUNE_FROZEN;
    Tiny with, without;
    tiny_open(&with, &spec, DT_F32, 1);
    tiny_open(&without, &plain, DT_F32, 1);
    Batch batch = tiny_batch(&spec, 3, 4);
    /* B starts at zero; sums with its terms are made in another order. */
    double plain_loss = tiny_loss(&without, &batch);
    ASSERT_NEAR(tiny_loss(&with, &batch), plain_loss, 1e-6 * plain_loss);
    tiny_batch_free(&batch);
    tiny_close(&with);
    tiny_close(&without);
}

static bool ends_with(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && !strcmp(name + n - m, end);
}

/* B lies behind the matrix of its linear and A below it, but for q, k and v of the tower. */
TEST(a_linear_and_its_adapter_are_one_matrix) {
    ModelSpec spec;
    tiny_spec(&spec, TUNE_LORA, TUNE_FULL, TUNE_LORA);
    Tiny tiny;
    tiny_open(&tiny, &spec, DT_F32, 1);
    const Params *params = model_params(tiny.model);
    int together = 0, apart = 0;
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (p->kind != PARAM_LORA_A) continue;
        char name[PARAM_NAME];
        snprintf(name, sizeof name, "%s", p->name);
        ASSERT_TRUE(ends_with(name, ".lora_A.weight"));
        char *end = name + strlen(name) - strlen("lora_A.weight");
        snprintf(end, 20, "weight");
        Tensor w = param_value(params, params_find(params, name)), a = param_value(params, i);
        snprintf(end, 20, "lora_B.weight");
        Tensor b = param_value(params, params_find(params, name));
        if (strstr(name, "self_attn.") && !strstr(name, "out_proj")) {
            apart++;
            continue;
        }
        together++;
        ASSERT_TRUE((float *)b.data == (float *)w.data + w.cols);
        ASSERT_TRUE((float *)a.data == (float *)w.data + w.rows * w.stride);
        ASSERT_TRUE(a.stride == w.stride && b.stride == w.stride);
        ASSERT_INT(w.stride % 4, ==, 0); /* 16 bytes */
    }
    ASSERT_INT(together, ==, 3 * 4 + 2 * 3);
    ASSERT_INT(apart, ==, 2 * 3);
    tiny_close(&tiny);
}

TEST(weights_come_back_from_their_files) {
    ModelSpec spec;
    tiny_spec(&spec, TUNE_FROZEN, TUNE_FULL, TUNE_LORA);
    Tiny a, b;
    tiny_open(&a, &spec, DT_F32, 1);
    shake(&a);
    Params *params = model_params(a.model);
    float *flat = calloc((size_t)params->trained, sizeof *flat),
          *back = calloc((size_t)params->trained, sizeof *back);
    model_master_from_values(a.model, flat);
    ASSERT_OK(model_save_trained(a.model, test_path("trained.safetensors"), flat));
    ASSERT_OK(model_save_frozen(a.model, test_path("frozen.safetensors")));
    tiny_open(&b, &spec, DT_F32, 1);
    int trained, frozen;
    ASSERT_OK(model_load(b.model, test_path("trained.safetensors"), back, &trained));
    ASSERT_OK(model_load(b.model, test_path("frozen.safetensors"), back, &frozen));
    ASSERT_INT(trained + frozen, ==, params->count);
    ASSERT_INT(memcmp(flat, back, (size_t)params->trained * sizeof *flat), ==, 0);
    Batch batch = tiny_batch(&spec, 2, 4);
    ASSERT_REAL(tiny_loss(&a, &batch), ==, tiny_loss(&b, &batch));
    tiny_batch_free(&batch);

    /* A model of another size names the tensor, expected and found. */
    spec.llm.ffn.values[1] = 25;
    Tiny other;
    tiny_open(&other, &spec, DT_F32, 1);
    ASSERT_ERR(model_load(other.model, test_path("frozen.safetensors"), NULL, &frozen), ERR_INPUT,
               "layers.1.ffn.proj_1.weight");
    ASSERT_CONTAINS(err_message(), "[50, 16]");
    ASSERT_ERR(model_load_flat(other.model, test_path("frozen.safetensors"), flat), ERR_INPUT,
               "is missing");
    /* Weights that are no numbers. */
    flat[3] = NAN;
    ASSERT_OK(model_save_trained(a.model, test_path("nan.safetensors"), flat));
    ASSERT_ERR(model_load(b.model, test_path("nan.safetensors"), NULL, &trained), ERR_INPUT,
               "is nan");
    free(flat);
    free(back);
    tiny_close(&a);
    tiny_close(&b);
    tiny_close(&other);
}

/* The batch with `more` rows behind the last label of each sample: nothing reads them. */
static Batch with_rows_behind(const Batch *b, int more) {
    int n = b->samples, tokens = b->tokens + n * more, label = 0;
    Batch out = *b;
    int32_t *starts = calloc((size_t)n + 1, sizeof *starts);
    int32_t *ids = calloc((size_t)tokens, sizeof *ids),
            *positions = calloc((size_t)tokens, sizeof *positions);
    int32_t *rows = calloc((size_t)tokens, sizeof *rows),
            *targets = calloc((size_t)tokens, sizeof *targets);
    for (int s = 0; s < n; s++) {
        int length = b->starts[s + 1] - b->starts[s];
        starts[s + 1] = starts[s] + length + more;
        for (int i = 0; i < length + more; i++) {
            positions[starts[s] + i] = i;
            ids[starts[s] + i] = i < length ? b->ids[b->starts[s] + i] : 3 + (i + s) % 5;
        }
        for (; label < b->labels && b->label_rows[label] < b->starts[s + 1]; label++) {
            rows[label] = b->label_rows[label] + s * more;
            targets[label] = b->targets[label];
        }
    }
    out.tokens = tokens;
    out.longest += more;
    out.starts = starts;
    out.ids = ids;
    out.positions = positions;
    out.label_rows = rows;
    out.targets = targets;
    return out;
}

/* Rows behind a sample's last label reach no loss, so their keys and values get no gradient: not
 * what an earlier step, or a layer above, has left in their place. */
TEST(rows_behind_the_last_label_change_nothing) {
    for (int family = 0; family < TINY_FAMILIES; family++) {
        ModelSpec spec;
        Tiny tiny;
        tiny_spec_of(&spec, (TinyFamily)family, TUNE_FULL, TUNE_FULL, TUNE_FULL);
        tiny_open(&tiny, &spec, DT_F32, 1);
        shake(&tiny);
        Batch batch = tiny_batch(&spec, 3, 5), longer = with_rows_behind(&batch, 4),
              other = tiny_batch(&spec, 5, 9);
        int64_t count = model_params(tiny.model)->trained;
        double expected_loss = tiny_step(&tiny, &batch);
        float *expected = tiny_grads(&tiny);
        tiny_step(&tiny, &other); /* leaves gradients of many rows behind */
        double loss = tiny_step(&tiny, &longer);
        float *found = tiny_grads(&tiny);
        ASSERT_NEAR(loss / expected_loss, 1, 1e-6);
        double apart = 0, size = 0;
        for (int64_t i = 0; i < count; i++) {
            apart = fmax(apart, fabs((double)found[i] - (double)expected[i]));
            size = fmax(size, fabs((double)expected[i]));
        }
        printf("family %d: %.3g apart of %.3g\n", family, apart, size);
        ASSERT_REAL(apart, <=, 1e-5 * size);
        free(expected);
        free(found);
        Batch *all[] = {&batch, &longer, &other};
        longer.pixels = NULL; /* the same as the first's */
        for (int i = 0; i < 3; i++) tiny_batch_free(all[i]);
        tiny_close(&tiny);
    }
}

/* ---- what backward announces ---- */

typedef struct Announced {
    int64_t next; /* all gradients from here on have been announced */
    int calls;
} Announced;

static void note(void *context, int64_t first, int64_t count) {
    Announced *a = context;
    ASSERT_INT(first + count, ==, a->next);
    a->next = first;
    a->calls++;
}

static void check_announcements(Tune vision, Tune connector, Tune llm) {
    ModelSpec spec;
    tiny_spec(&spec, vision, connector, llm);
    Tiny tiny;
    tiny_open(&tiny, &spec, DT_F32, 1);
    Batch batch = tiny_batch(&spec, 2, 1);
    Announced a = {.next = model_params(tiny.model)->trained};
    ASSERT_OK(model_forward(tiny.model, &batch, true));
    ASSERT_OK(model_backward_into(tiny.model, &(GradHook){note, &a}));
    ASSERT_INT(a.next, ==, 0);
    ASSERT_INT(a.calls, >, 0);
    tiny_batch_free(&batch);
    tiny_close(&tiny);
}

TEST(backward_announces_every_gradient_once_from_the_end) {
    check_announcements(TUNE_FULL, TUNE_FULL, TUNE_FULL);
    check_announcements(TUNE_LORA, TUNE_FULL, TUNE_LORA);
    check_announcements(TUNE_FROZEN, TUNE_FULL, TUNE_LORA);
    check_announcements(TUNE_FROZEN, TUNE_FULL, TUNE_FROZEN);
    check_announcements(TUNE_FROZEN, TUNE_FROZEN, TUNE_LORA);
}
