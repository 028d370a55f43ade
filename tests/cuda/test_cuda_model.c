/* The whole model on the CUDA backend beside the CPU backend: losses, gradients, generated tokens;
 * and what a step must not do: allocate, wait. */
#include "core/rng.h"
#include "cuda/emu/control.h"
#include "model/model.h"
#include "model/model_internal.h"
#include "tests/support/test.h"
#include "tests/support/tiny.h"

/* Only the emulation counts. */
EmuCounts emu_counts(void) __attribute__((weak));

static Exec *open_cuda(void) {
    const char *why = "";
    if (exec_device_count(&why) == 0) test_skip(why);
    Exec *ex;
    ASSERT_OK(exec_open(&ex, EXEC_CUDA, 0));
    return ex;
}

/* The same model on both backends, every parameter moved a little, so that adapters are not zero.
 */
static void open_both(Tiny *cpu, Tiny *cuda, const ModelSpec *spec, DType dtype) {
    Exec *ex = open_cuda();
    tiny_open(cpu, spec, DT_F32, 1);
    tiny_open_on(cuda, ex, spec, dtype);
    Params *from = model_params(cpu->model), *to = model_params(cuda->model);
    Rng rng;
    rng_open(&rng, 11, RNG_TEST, 0);
    ASSERT_INT(from->count, ==, to->count);
    for (int i = 0; i < from->count; i++) {
        Tensor v = param_value(from, i), w = param_value(to, i);
        float *values = v.data;
        for (int64_t r = 0; r < v.rows; r++)
            for (int64_t c = 0; c < v.cols; c++)
                values[r * v.stride + c] += 0.15f * (float)rng_normal(&rng);
        float *staged = exec_alloc(ex, tensor_bytes(v));
        for (int64_t r = 0; r < v.rows; r++)
            exec_upload(ex, staged + r * v.cols, values + r * v.stride,
                        (size_t)v.cols * sizeof(float));
        op_convert(ex, w, tensor(staged, DT_F32, v.rows, v.cols));
        exec_free(ex, staged, 0);
    }
    ASSERT_OK(exec_status(ex));
}

/* ‖a - b‖ / ‖a‖ */
static double distance(const float *a, const float *b, int64_t n) {
    double difference = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        difference += d * d;
        size += (double)a[i] * (double)a[i];
    }
    return sqrt(difference / size);
}

/* f32 differs by the order of sums. 16-bit formats round every activation of a dozen layers: half a
 * unit of 2^-8 (bf16) or 2^-11 (f16) each. */
static void compare_batch(const ModelSpec *spec, DType dtype, double allowed, Batch batch) {
    Tiny cpu, cuda;
    open_both(&cpu, &cuda, spec, dtype);
    double expected = tiny_step(&cpu, &batch), found = tiny_step(&cuda, &batch);
    ASSERT_NEAR(found / expected, 1, allowed / 4);
    float *a = tiny_grads(&cpu), *b = tiny_grads(&cuda);
    double far = distance(a, b, model_params(cpu.model)->trained);
    printf("loss %.6g beside %.6g, gradients %.2e apart\n", found, expected, far);
    ASSERT_REAL(far, <=, allowed);
    free(a);
    free(b);
    ASSERT_NEAR(tiny_loss(&cuda, &batch) / tiny_loss(&cpu, &batch), 1, allowed / 4);
    tiny_batch_free(&batch);
    tiny_close(&cpu);
    tiny_close(&cuda);
}

static void compare_spec(const ModelSpec *spec, DType dtype, double allowed) {
    compare_batch(spec, dtype, allowed, tiny_batch(spec, 3, 1));
}

static void compare(Tune vision, Tune connector, Tune llm, double dropout, DType dtype,
                    double allowed) {
    ModelSpec spec;
    tiny_spec(&spec, vision, connector, llm);
    spec.lora.dropout = dropout;
    spec.vision.drop_first_patch = true;
    compare_spec(&spec, dtype, allowed);
}

static void compare_family(TinyFamily family) {
    ModelSpec spec;
    tiny_spec_of(&spec, family, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    compare_spec(&spec, DT_F32, 1e-4);
    tiny_spec_of(&spec, family, TUNE_LORA, TUNE_FULL, TUNE_LORA);
    spec.lora.dropout = 0.3;
    spec.llm.residual_dropout = family == TINY_PHI ? 0.1 : 0;
    spec.checkpointing = CHECKPOINT_CHEAP;
    compare_spec(&spec, DT_F32, 1e-4);
    compare_spec(&spec, DT_BF16, 0.1);
}

TEST(a_tower_of_clip_matches_the_cpu) {
    compare_family(TINY_CLIP);
}

TEST(a_decoder_of_llama_matches_the_cpu) {
    compare_family(TINY_LLAMA);
}

TEST(a_decoder_of_gemma_matches_the_cpu) {
    compare_family(TINY_GEMMA);
}

TEST(a_decoder_of_phi_matches_the_cpu) {
    compare_family(TINY_PHI);
}

TEST(everything_trained_matches_the_cpu_in_f32) {
    compare(TUNE_FULL, TUNE_FULL, TUNE_FULL, 0, DT_F32, 1e-4);
}

TEST(adapters_with_dropout_match_the_cpu_in_f32) {
    compare(TUNE_LORA, TUNE_FULL, TUNE_LORA, 0.3, DT_F32, 1e-4);
}

TEST(the_recipe_with_a_frozen_tower_matches_the_cpu_in_f32) {
    compare(TUNE_FROZEN, TUNE_FULL, TUNE_LORA, 0.05, DT_F32, 1e-4);
}

/* More rows than a tile of attention has, and the last sample the shortest: grids are as large as
 * the longest one needs. */
TEST(samples_longer_than_a_tile_match_the_cpu) {
    static const int texts[] = {60, 130, 5};
    ModelSpec spec;
    tiny_spec_of(&spec, TINY_LLAMA, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    spec.max_positions = 160;
    compare_batch(&spec, DT_F32, 1e-4, tiny_batch_of(&spec, texts, 3, 1));
}

/* 37 tokens have rows of 74 bytes, which products could not read in pieces; padded in memory they
 * can, and losses, gradients and tokens are those of 37. A head of its own with a bias, and a tied
 * one. */
TEST(an_odd_vocabulary_is_padded_in_memory_alone) {
    static const TinyFamily families[] = {TINY_PHI, TINY_GEMMA};
    for (int i = 0; i < 2; i++) {
        int64_t plain[2];
        for (int odd = 0; odd < 2; odd++) {
            ModelSpec spec;
            Tiny tiny;
            tiny_spec_of(&spec, families[i], TUNE_FROZEN, TUNE_FULL, TUNE_LORA);
            spec.llm.vocab = odd ? 37 : 40;
            compare_spec(&spec, DT_F32, 1e-4);
            compare_spec(&spec, DT_BF16, 0.1);
            tiny_open_on(&tiny, open_cuda(), &spec, DT_BF16);
            Batch batch = tiny_batch(&spec, 3, 1);
            tiny_step(&tiny, &batch);
            plain[odd] = exec_product_counts(tiny.ex).plain;
            const Param *head = &model_params(tiny.model)->items[tiny.model->head_w];
            ASSERT_INT(head->rows, ==, spec.llm.vocab);
            tiny_batch_free(&batch);
            tiny_close(&tiny);
        }
        ASSERT_INT(plain[1], ==, plain[0]);
    }
}

/* Prompts of their own lengths (without labels all rows are prompt), each as if it were alone. The
 * longest has no more room when the others still go on: what was captured is of more than are left.
 */
TEST(prompts_of_other_lengths_are_gone_on_with_as_on_the_cpu) {
    enum { WRITTEN = 40 };
    static const int texts[] = {60, 130, 5};
    ModelSpec spec;
    tiny_spec_of(&spec, TINY_LLAMA, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    spec.max_positions = 160;
    Tiny cpu, cuda;
    open_both(&cpu, &cuda, &spec, DT_F32);
    Batch batch = tiny_batch_of(&spec, texts, 3, 4);
    batch.labels = 0;
    Generation expected[3], found[3];
    ASSERT_OK(model_generate(cpu.model, &batch, -1, WRITTEN, expected));
    ASSERT_OK(model_generate(cuda.model, &batch, -1, WRITTEN, found));
    ASSERT_INT(expected[1].count, >, 8);
    ASSERT_INT(expected[1].count, <, WRITTEN);
    ASSERT_INT(expected[0].count, ==, WRITTEN);
    for (int s = 0; s < 3; s++) {
        ASSERT_INT(found[s].count, ==, expected[s].count);
        ASSERT_INT(
            memcmp(found[s].ids, expected[s].ids, (size_t)found[s].count * sizeof *found[s].ids),
            ==, 0);
        ASSERT_NEAR(found[s].confidence, expected[s].confidence, 1e-4);
        free(expected[s].ids);
        free(found[s].ids);
    }
    tiny_batch_free(&batch);
    tiny_close(&cpu);
    tiny_close(&cuda);
}

TEST(everything_trained_stays_near_the_cpu_in_bf16) {
    compare(TUNE_FULL, TUNE_FULL, TUNE_FULL, 0, DT_BF16, 0.1);
}

TEST(adapters_with_dropout_stay_near_the_cpu_in_bf16) {
    compare(TUNE_LORA, TUNE_FULL, TUNE_LORA, 0.3, DT_BF16, 0.1);
}

TEST(everything_trained_stays_near_the_cpu_in_f16) {
    compare(TUNE_FULL, TUNE_FULL, TUNE_FULL, 0, DT_F16, 0.02);
}

TEST(generation_writes_the_same_tokens_as_the_cpu) {
    ModelSpec spec;
    tiny_spec(&spec, TUNE_LORA, TUNE_FULL, TUNE_LORA);
    Tiny cpu, cuda;
    open_both(&cpu, &cuda, &spec, DT_F32);
    Batch batch = tiny_batch(&spec, 4, 3);
    Generation expected[4], found[4];
    ASSERT_OK(model_generate(cpu.model, &batch, TINY_EOS, 12, expected));
    ASSERT_OK(model_generate(cuda.model, &batch, TINY_EOS, 12, found));
    int longest = 0;
    for (int s = 0; s < 4; s++)
        if (found[s].count > longest) longest = found[s].count;
    /* From the third pass over as many sequences on, a pass is one graph. */
    if (emu_counts && longest > 8) ASSERT_INT(emu_counts().graphs, >, 0);
    printf("%d tokens at most\n", longest);
    for (int s = 0; s < 4; s++) {
        ASSERT_INT(found[s].count, ==, expected[s].count);
        for (int i = 0; i < found[s].count; i++)
            ASSERT_INT(found[s].ids[i], ==, expected[s].ids[i]);
        ASSERT_NEAR(found[s].confidence, expected[s].confidence, 1e-4);
        free(expected[s].ids);
        free(found[s].ids);
    }
    tiny_batch_free(&batch);
    tiny_close(&cpu);
    tiny_close(&cuda);
}

TEST(a_step_neither_allocates_nor_waits) {
    if (!emu_counts) test_skip("only the emulation counts");
    ModelSpec spec;
    tiny_spec(&spec, TUNE_LORA, TUNE_FULL, TUNE_LORA);
    spec.lora.dropout = 0.05;
    Tiny tiny;
    tiny_open_on(&tiny, open_cuda(), &spec, DT_BF16);
    LossSum *sum = exec_alloc(tiny.ex, sizeof *sum);
    Batch batches[3];
    for (int i = 0; i < 3; i++) batches[i] = tiny_batch(&spec, 2 + i, (uint64_t)i);
    exec_wait(tiny.ex);
    EmuCounts before = emu_counts();
    /* Two batches fit into the stages; the third waits for the first, which is no work of its own.
     */
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(model_forward(tiny.model, &batches[i], true));
        model_loss_to(tiny.model, sum);
        ASSERT_OK(model_backward(tiny.model));
    }
    EmuCounts after = emu_counts();
    ASSERT_INT(after.allocations, ==, before.allocations);
    ASSERT_INT(after.waits, ==, before.waits);
    ASSERT_INT(after.launches, >, before.launches);
    exec_free(tiny.ex, sum, 0);
    for (int i = 0; i < 3; i++) tiny_batch_free(&batches[i]);
    tiny_close(&tiny);
}
