/* The gradient of the whole model against differences of its loss: every family, every way of
 * training, adapters by name, labels anywhere. */
#include "core/rng.h"
#include "model/model.h"
#include "tests/model/model_fixture.h"
#include "tests/support/test.h"
#include "tests/support/tiny.h"

/* For each trained parameter, the derivative along a random direction, by central differences of
 * the f32 forward pass. */
static void check_gradients_over(const ModelSpec *spec, Batch batch) {
    Tiny tiny;
    tiny_open(&tiny, spec, DT_F32, 2);
    shake(&tiny);
    tiny_step(&tiny, &batch);
    Params *params = model_params(tiny.model);
    float *grads = calloc((size_t)params->trained, sizeof *grads);
    memcpy(grads, tiny.grads, (size_t)params->trained * sizeof *grads);
    int checked = 0;
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (!p->trained) continue;
        int64_t n = p->rows * p->cols;
        Tensor value = param_value(params, i);
        float *kept = calloc((size_t)n, sizeof *kept), *way = calloc((size_t)n, sizeof *way);
        for (int64_t k = 0; k < n; k++) kept[k] = *element(value, k);
        Rng rng;
        rng_open(&rng, 5, RNG_TEST, (uint64_t)i);
        double along = 0, length = 0, step = 4e-3;
        for (int64_t k = 0; k < n; k++) {
            way[k] = (float)rng_normal(&rng);
            length += (double)way[k] * (double)way[k];
        }
        length = sqrt(length);
        for (int64_t k = 0; k < n; k++)
            along += (double)grads[p->first + k] * (double)way[k] / length;
        double loss[2];
        for (int side = 0; side < 2; side++) {
            for (int64_t k = 0; k < n; k++)
                *element(value, k) =
                    kept[k] + (float)((side ? -step : step) * (double)way[k] / length);
            loss[side] = tiny_step(&tiny, &batch); /* with dropout, if there is any */
        }
        for (int64_t k = 0; k < n; k++) *element(value, k) = kept[k];
        double difference = (loss[0] - loss[1]) / (2 * step);
        /* The loss is a sum of about 25 f32 terms near 3: good to some 1e-5, so differences to
         * 3e-3. */
        ASSERT(fabs(difference - along) <= 0.004 + 0.01 * fabs(along),
               "%s: gradient %.6g, differences give %.6g", p->name, along, difference);
        checked++;
        free(kept);
        free(way);
    }
    printf("%d parameters checked\n", checked);
    ASSERT_INT(checked, >, 0);
    free(grads);
    tiny_batch_free(&batch);
    tiny_close(&tiny);
}

static void check_gradients_of(const ModelSpec *spec) {
    check_gradients_over(spec, tiny_batch(spec, 3, 1));
}

static void check_gradients(Tune vision, Tune connector, Tune llm, double dropout) {
    ModelSpec spec;
    tiny_spec(&spec, vision, connector, llm);
    spec.lora.dropout = dropout;
    check_gradients_of(&spec);
}

TEST(gradients_of_every_family_match_differences) {
    for (int family = 0; family < TINY_FAMILIES; family++) {
        printf("%s: ", tiny_family_name((TinyFamily)family));
        ModelSpec spec;
        tiny_spec_of(&spec, (TinyFamily)family, TUNE_FULL, TUNE_FULL, TUNE_FULL);
        spec.llm.residual_dropout = family == TINY_PHI ? 0.1 : 0;
        check_gradients_of(&spec);
        tiny_spec_of(&spec, (TinyFamily)family, TUNE_LORA, TUNE_FULL, TUNE_LORA);
        spec.lora.dropout = 0.3;
        check_gradients_of(&spec);
    }
}

TEST(adapters_have_the_rank_and_scale_that_their_name_asks_for) {
    ModelSpec spec;
    tiny_spec_of(&spec, TINY_LLAMA, TUNE_LORA, TUNE_FULL, TUNE_LORA);
    strcpy(spec.lora.target_modules, "q_proj, v_proj,down_proj");
    spec.lora.rank_pattern = (PatternList){1, {{"layers.1.self_attn.v_proj", 7}}};
    spec.lora.alpha_pattern = (PatternList){1, {{"down_proj", 12}}};
    spec.lora.use_rslora = true;
    check_gradients_of(&spec);
    Tiny tiny;
    tiny_open(&tiny, &spec, DT_F32, 1);
    const Params *params = model_params(tiny.model);
    int adapters = 0;
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (p->kind != PARAM_LORA_A) continue;
        adapters++;
        ASSERT_TRUE(strstr(p->name, "q_proj") || strstr(p->name, "v_proj") ||
                    strstr(p->name, "down_proj"));
        bool other = strstr(p->name, "layers.1.self_attn.v_proj") != NULL;
        ASSERT_INT(p->rows, ==, other ? 7 : 3);
    }
    /* Two of each tower layer, three of each decoder layer. */
    ASSERT_INT(adapters, ==, 2 * 2 + 3 * 3);
    tiny_close(&tiny);
}

TEST(gradient_of_everything_matches_differences) {
    check_gradients(TUNE_FULL, TUNE_FULL, TUNE_FULL, 0);
}

TEST(gradient_of_adapters_matches_differences) {
    check_gradients(TUNE_LORA, TUNE_FULL, TUNE_LORA, 0);
}

TEST(gradient_of_adapters_with_dropout_matches_differences) {
    check_gradients(TUNE_LORA, TUNE_FULL, TUNE_LORA, 0.3);
}

TEST(gradient_of_the_connector_alone_matches_differences) {
    check_gradients(TUNE_FROZEN, TUNE_FULL, TUNE_FROZEN, 0);
}

TEST(gradient_of_the_tower_alone_matches_differences) {
    check_gradients(TUNE_FULL, TUNE_FROZEN, TUNE_FROZEN, 0);
}

TEST(gradient_of_the_decoder_alone_matches_differences) {
    check_gradients(TUNE_FROZEN, TUNE_FROZEN, TUNE_LORA, 0);
}

/* Rows behind the last label of a sample are no part of the loss, and those of a sample without
 * labels neither: whatever stands there, loss and gradients are the same bits, and the gradients
 * are those of that loss. */
TEST(what_stands_behind_the_last_label_is_no_part_of_the_loss) {
    for (int family = 0; family < TINY_FAMILIES; family++) {
        ModelSpec spec;
        double loss[2];
        float *grads[2];
        size_t bytes = 0;
        tiny_spec_of(&spec, (TinyFamily)family, TUNE_FULL, TUNE_FULL, TUNE_FULL);
        for (int other = 0; other < 2; other++) {
            Tiny tiny;
            tiny_open(&tiny, &spec, DT_F32, 1);
            shake(&tiny);
            Batch batch = tiny_batch(&spec, 3, 1);
            tiny_batch_cut_labels(&batch, 3);
            ASSERT_INT(batch.labels, >, 3);
            int32_t *ids = (int32_t *)(uintptr_t)batch.ids;
            for (int s = 0; s < 3 && other; s++)
                for (int row = batch.starts[s + 1] - (s == 1 ? 4 : 3); row < batch.starts[s + 1];
                     row++)
                    ids[row] = 3 + (ids[row] + 5) % (TINY_VOCAB - 3);
            loss[other] = tiny_step(&tiny, &batch);
            grads[other] = tiny_grads(&tiny);
            bytes = (size_t)model_params(tiny.model)->trained * sizeof(float);
            tiny_batch_free(&batch);
            tiny_close(&tiny);
        }
        ASSERT_REAL(loss[0], ==, loss[1]);
        ASSERT_TRUE(!memcmp(grads[0], grads[1], bytes));
        free(grads[0]);
        free(grads[1]);
        Batch batch = tiny_batch(&spec, 3, 1);
        tiny_batch_cut_labels(&batch, 3);
        check_gradients_over(&spec, batch);
    }
}
