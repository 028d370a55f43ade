/* How weights begin, and which begin alike. */
#include "model/model.h"
#include "model/model_internal.h"
#include "tests/model/model_fixture.h"
#include "tests/support/test.h"
#include "tests/support/tiny.h"

TEST(no_two_parameters_start_alike) {
    ModelSpec spec;
    Tiny tiny;
    tiny_spec(&spec, TUNE_LORA, TUNE_FULL, TUNE_LORA);
    tiny_open(&tiny, &spec, DT_F32, 1);
    const Params *params = model_params(tiny.model);
    for (int i = 0; i < params->count; i++)
        for (int k = 0; k < i; k++) {
            Tensor a = param_value(params, i), b = param_value(params, k);
            bool drawn = params->items[i].kind == PARAM_MATRIX ||
                         params->items[i].kind == PARAM_LORA_A ||
                         params->items[i].kind == PARAM_EMBEDDING;
            if (drawn && params->items[i].kind == params->items[k].kind)
                ASSERT(*element(a, 0) != *element(b, 0) && *element(a, 1) != *element(b, 1),
                       "%s starts as %s does", params->items[i].name, params->items[k].name);
        }
    tiny_close(&tiny);
}

TEST(norms_of_queries_and_keys_start_at_one_and_have_no_bias) {
    static const NormKind kinds[] = {NORM_RMS, NORM_RMS_PLUS_ONE, NORM_LAYER};
    for (int i = 0; i < 3; i++) {
        ModelSpec spec;
        tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL);
        spec.llm.norm = kinds[i];
        Tiny tiny;
        tiny_open(&tiny, &spec, DT_F32, 1);
        model_init(tiny.model, 1, ~0u);
        const Params *params = model_params(tiny.model);
        ParamId weight =
                    params_find(params, "language_model.transformer.layers.1.attn.q_norm.weight"),
                bias = params_find(params, "language_model.transformer.layers.1.attn.q_norm.bias");
        ASSERT_TRUE(weight != PARAM_NONE && bias == PARAM_NONE);
        ASSERT_REAL((double)((const float *)param_value(params, weight).data)[0], ==, 1);
        tiny_close(&tiny);
    }
}

/* The cosine of two rows of the embedding. */
static double likeness(const Tensor *embedding, int64_t a, int64_t b) {
    const float *x = (const float *)embedding->data + a * embedding->stride,
                *y = (const float *)embedding->data + b * embedding->stride;
    double xy = 0, xx = 0, yy = 0;
    for (int64_t j = 0; j < embedding->cols; j++) {
        double u = (double)x[j], v = (double)y[j];
        xy += u * v;
        xx += u * u;
        yy += v * v;
    }
    return xy / sqrt(xx * yy);
}

TEST(number_tokens_start_alike_where_their_numbers_are) {
    enum { FIRST = 10, NUMBERS = 200, WIDTH = 256 };
    ModelSpec spec;
    tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    spec.llm.width = WIDTH;
    spec.llm.vocab = FIRST + NUMBERS;
    Exec *ex;
    Model *model, *plain;
    ASSERT_OK(exec_open(&ex, EXEC_CPU, 1));
    ASSERT_OK(model_open(&model, ex, &spec, DT_F32));
    ASSERT_OK(model_open(&plain, ex, &spec, DT_F32));
    model_init(model, 3, ~0u);
    model_init(plain, 3, ~0u);
    int32_t ids[MODEL_NUMBERS];
    for (int n = 0; n < MODEL_NUMBERS; n++) ids[n] = n < NUMBERS ? FIRST + n : -1;
    model_init_numbers(model, 3, ids);
    ParamId id =
        params_find(model_params(model), "language_model.transformer.token_embeddings.weight");
    Tensor now = param_value(model_params(model), id), then = param_value(model_params(plain), id);
    /* Text tokens stay as they were. */
    ASSERT_INT(memcmp(now.data, then.data, (size_t)(FIRST * WIDTH) * sizeof(float)), ==, 0);
    double norm = 0, norm_then = 0, near = 0, ones = 0, far = 0;
    for (int64_t i = FIRST * WIDTH; i < (FIRST + NUMBERS) * WIDTH; i++) {
        norm += pow((double)((const float *)now.data)[i], 2);
        norm_then += pow((double)((const float *)then.data)[i], 2);
    }
    for (int n = 10; n < 60; n++) {
        near += likeness(&now, FIRST + n, FIRST + n + 1) / 50;  /* 46 and 47 */
        ones += likeness(&now, FIRST + n, FIRST + n + 30) / 50; /* 46 and 76 */
        far += likeness(&now, FIRST + n, FIRST + n + 103) / 50; /* 46 and 149 */
    }
    printf("neighbours %.3f, same last digit %.3f, else %.3f; size %.3f of before\n", near, ones,
           far, sqrt(norm / norm_then));
    ASSERT_REAL(near, >, 0.45);
    ASSERT_REAL(ones, >, far + 0.1);
    ASSERT_REAL(fabs(far), <, 0.2);
    ASSERT_NEAR(norm / norm_then, 1, 0.1);
    model_close(&model);
    model_close(&plain);
    exec_close(&ex);
}

static Tensor value_named(Tiny *tiny, const char *name) {
    const Params *params = model_params(tiny->model);
    ParamId id = params_find(params, name);
    ASSERT(id != PARAM_NONE, "%s", name);
    return param_value(params, id);
}

/* Mean square, and the least and largest value. */
typedef struct Spread {
    double square, low, high, mean;
} Spread;

static Spread spread_of(Tensor t) {
    Spread s = {.low = INFINITY, .high = -INFINITY};
    double count = (double)(t.rows * t.cols);
    for (int64_t r = 0; r < t.rows; r++)
        for (int64_t c = 0; c < t.cols; c++) {
            double x = (double)((float *)t.data)[r * t.stride + c];
            s.square += x * x / count;
            s.mean += x / count;
            s.low = fmin(s.low, x);
            s.high = fmax(s.high, x);
        }
    return s;
}

/* 0.6/√in, at most 0.05; 0.4 of that for what adds to the stream (init_scale_of); A uniform within
 * ±1/√in and B zero, as in PEFT; no two alike. */
TEST(weights_begin_as_large_as_they_should) {
    ModelSpec spec;
    Tiny tiny;
    tiny_spec_of(&spec, TINY_LLAMA, TUNE_FULL, TUNE_FULL, TUNE_LORA);
    spec.llm.width = spec.llm.head_dim * 16;
    spec.llm.q_heads = spec.llm.kv_heads = (IntList){1, {16}};
    spec.lora.r = 16;
    tiny_open(&tiny, &spec, DT_F32, 1);
    double in = (double)spec.llm.width, large = fmin(0.05, 0.6 / sqrt(in));
    Tensor q[2] = {value_named(&tiny, "language_model.model.layers.0.self_attn.q_proj.weight"),
                   value_named(&tiny, "language_model.model.layers.1.self_attn.q_proj.weight")};
    Tensor out = value_named(&tiny, "language_model.model.layers.0.self_attn.o_proj.weight");
    Tensor a = value_named(&tiny, "language_model.model.layers.0.self_attn.q_proj.lora_A.weight");
    Tensor b = value_named(&tiny, "language_model.model.layers.0.self_attn.q_proj.lora_B.weight");
    ASSERT_NEAR(sqrt(spread_of(q[0]).square) / large, 1, 0.05);
    ASSERT_NEAR(sqrt(spread_of(out).square) / (0.4 * large), 1, 0.05);
    Spread s = spread_of(a);
    double bound = 1 / sqrt(in);
    ASSERT_NEAR(s.low / -bound, 1, 0.02);
    ASSERT_NEAR(s.high / bound, 1, 0.02);
    ASSERT_NEAR(s.mean / bound, 0, 0.1);
    ASSERT_NEAR(sqrt(s.square) / (bound / sqrt(3)), 1, 0.05);
    ASSERT_REAL(spread_of(b).square, ==, 0);
    int same = 0;
    for (int64_t i = 0; i < 100; i++) same += ((float *)q[0].data)[i] == ((float *)q[1].data)[i];
    ASSERT_INT(same, ==, 0);
    tiny_close(&tiny);
}
