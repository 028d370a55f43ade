/* Every operation: a backend against the reference implementation, and its backward pass against
 * differences of it. */
#include "core/rng.h"
#include "ops/backend.h"
#include "tests/ops/op_check.h"
#include "tests/support/test.h"

static Exec *open_cpu(int threads) {
    Exec *ex;
    ASSERT_OK(exec_open(&ex, EXEC_CPU, threads));
    return ex;
}

static void need_bf16(void) {
    Exec *ex = open_cpu(1);
    bool there = exec_has_dtype(ex, DT_BF16);
    exec_close(&ex);
    if (!there) test_skip("this processor does not multiply bf16");
}

/* What it is asked for is what it has: nothing is computed in a type that it cannot multiply. */
TEST(the_processor_has_the_types_it_multiplies) {
    static const char *const isas[] = {"base", "avx2", "avx512", "amx"};
    for (int i = 0; i < 4; i++) {
        setenv("CADVLM_CPU_ISA", isas[i], 1);
        Exec *ex = open_cpu(1);
        ASSERT_TRUE(exec_has_dtype(ex, DT_F32) && exec_has_dtype(ex, exec_fast_dtype(ex)));
        ASSERT_TRUE(!exec_has_dtype(ex, DT_F16));
        ASSERT_INT(exec_has_dtype(ex, DT_BF16), ==, exec_fast_dtype(ex) == DT_BF16);
        if (i < 2) ASSERT_TRUE(!exec_has_dtype(ex, DT_BF16));
        exec_close(&ex);
    }
}

/* In a process of its own, as every test: oneDNN looks at the variable once. */
TEST(what_onednn_may_not_use_is_not_used) {
    setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1);
    Exec *ex = open_cpu(1);
    ASSERT_TRUE(!exec_has_dtype(ex, DT_BF16));
    op_check_match(ex, &op_cases[3], exec_fast_dtype(ex));
    exec_close(&ex);
}

TEST(every_operation_matches_the_reference_in_f32) {
    Exec *ex = open_cpu(2);
    for (int i = 0; i < op_case_count; i++) op_check_match(ex, &op_cases[i], DT_F32);
    exec_close(&ex);
}

TEST(every_operation_matches_the_reference_in_bf16) {
    need_bf16();
    Exec *ex = open_cpu(1);
    for (int i = 0; i < op_case_count; i++) op_check_match(ex, &op_cases[i], DT_BF16);
    exec_close(&ex);
}

TEST(every_gradient_matches_differences_in_f32) {
    Exec *ex = open_cpu(2);
    for (int i = 0; i < op_case_count; i++) op_check_grad(ex, &op_cases[i], DT_F32);
    exec_close(&ex);
}

TEST(every_gradient_matches_differences_in_bf16) {
    need_bf16();
    Exec *ex = open_cpu(1);
    for (int i = 0; i < op_case_count; i++) op_check_grad(ex, &op_cases[i], DT_BF16);
    exec_close(&ex);
}

/* Shapes of real layers, with inner dimensions deep enough to be split. */
static const OpCase big_cases[] = {
    {"linear", {1237, 704, 128, 1}},       {"linear", {4100, 64, 64, 1}},
    {"lora", {3000, 256, 192, 16, 5}},     {"linear_lora", {3000, 256, 192, 16, 0, 1}},
    {"rmsnorm", {1237, 128, 1}},           {"layernorm", {1237, 128, 1}},
    {"qk_rope", {1237, 4, 2, 32, 32, 1}},  {"attention", {9, 97, 4, 2, 32, 1}},
    {"attention", {1, 700, 4, 2, 64, 1}},  {"attention", {8, 16, 4, 4, 32, 0}},
    {"glu", {1237, 352, ACTIVATION_SILU}}, {"positions", {16, 16, 128}},
    {"embed", {1237, 295, 128, 256}},      {"cross_entropy", {1000, 295}},
};

static uint64_t hash_of_run(const OpCase *c, DType dtype, int threads) {
    Exec *ex = open_cpu(threads);
    OpTest test;
    op_test_open(&test, ex, op_kind_find(c->kind), c->dim, dtype, 8);
    op_test_spoil(&test);
    op_check_draw_gradients(&test);
    op_test_forward(&test);
    op_test_backward(&test);
    ASSERT_OK(exec_status(ex));
    uint64_t hash = 0;
    for (int i = 0; i < test.operand_count; i++) {
        Tensor both[2] = {test.operands[i].t, test.operands[i].grad};
        for (int k = 0; k < 2; k++)
            for (int64_t j = 0; j < tensor_count(both[k]); j++) {
                double x = tensor_get(both[k], j / both[k].cols, j % both[k].cols);
                uint64_t bits;
                memcpy(&bits, &x, sizeof bits);
                hash = (hash ^ bits) * 0x100000001b3ull + (hash >> 29);
            }
    }
    op_test_close(&test);
    exec_close(&ex);
    return hash;
}

static void check_threads(DType dtype) {
    for (size_t i = 0; i < sizeof big_cases / sizeof big_cases[0]; i++) {
        uint64_t one = hash_of_run(&big_cases[i], dtype, 1);
        for (int threads = 2; threads <= 4; threads++)
            ASSERT(hash_of_run(&big_cases[i], dtype, threads) == one,
                   "%s in %s: %d threads give other bits than one", big_cases[i].kind,
                   dtype_name(dtype), threads);
    }
}

TEST(bits_do_not_depend_on_the_number_of_threads) {
    check_threads(DT_F32);
}

TEST(bits_in_bf16_do_not_depend_on_the_number_of_threads) {
    need_bf16();
    check_threads(DT_BF16);
}

/* A backend that counts its products, and makes them by another. */
static const Backend *spied;
static int products;

static void count_linear(Exec *ex, Tensor y, Tensor x, Tensor w, Tensor bias) {
    products++;
    spied->linear_fwd(ex, y, x, w, bias);
}

static void count_linear_w(Exec *ex, Tensor dw, Tensor dbias, Tensor dy, Tensor x) {
    products++;
    spied->linear_bwd_w(ex, dw, dbias, dy, x);
}

static void count_product(Exec *ex, Tensor c, Tensor a, Tensor b, bool transpose_b, float scale,
                          bool accumulate) {
    products++;
    spied->product(ex, c, a, b, transpose_b, scale, accumulate);
}

static int products_of(Exec *ex, OpCase c, bool backward) {
    OpTest test;
    op_test_open(&test, ex, op_kind_find(c.kind), c.dim, DT_F32, 8);
    op_test_forward(&test);
    products = 0;
    if (backward)
        op_test_backward(&test);
    else
        op_test_forward(&test);
    op_test_close(&test);
    return products;
}

TEST(a_linear_and_its_adapter_are_one_product_where_they_are_neighbours) {
    Exec *ex = open_cpu(1);
    spied = ex->backend;
    Backend spy = *spied;
    spy.linear_fwd = count_linear;
    spy.linear_bwd_w = count_linear_w;
    spy.product = count_product;
    ex->backend = &spy;
    OpCase neighbours = {"linear_lora", {9, 7, 8, 3, 0, 1}},
           apart = {"linear_lora", {9, 7, 8, 3, 0, 0}};
    ASSERT_INT(products_of(ex, neighbours, false), ==, 2); /* xa; y */
    ASSERT_INT(products_of(ex, apart, false), ==, 3);
    ASSERT_INT(products_of(ex, neighbours, true), ==, 4); /* g, db, da; dx */
    ASSERT_INT(products_of(ex, apart, true), ==, 5);
    ex->backend = spied;
    exec_close(&ex);
}

/* A query block against a longer cache of keys gives what the whole sequence gave for those rows.
 */
TEST(attention_over_a_cache_continues_the_sequence) {
    Exec *ex = open_cpu(1);
    enum { KEYS = 45, D = 8, HQ = 4, HK = 2 };
    Rng rng;
    rng_open(&rng, 3, RNG_TEST, 2);
    static float q[KEYS * HQ * D], k[KEYS * HK * D], v[KEYS * HK * D], whole[KEYS * HQ * D],
        part[3 * HQ * D];
    for (int i = 0; i < KEYS * HQ * D; i++) q[i] = (float)rng_normal(&rng);
    for (int i = 0; i < KEYS * HK * D; i++)
        k[i] = (float)rng_normal(&rng), v[i] = (float)rng_normal(&rng);
    int32_t starts[2] = {0, KEYS}, starts_q[2] = {0, 3}, lengths[1] = {KEYS - 5};
    AttentionSpec spec = {.sequences = 1,
                          .heads_q = HQ,
                          .heads_k = HK,
                          .head_dim = D,
                          .starts_q = starts,
                          .starts_k = starts,
                          .longest_q = KEYS,
                          .longest_k = KEYS,
                          .causal = true,
                          .scale = 0.3f};
    Tensor keys = tensor(k, DT_F32, KEYS, HK * D), values = tensor(v, DT_F32, KEYS, HK * D);
    op_attention_fwd(ex, tensor(whole, DT_F32, KEYS, HQ * D), tensor_none(),
                     tensor(q, DT_F32, KEYS, HQ * D), keys, values, &spec);
    spec.starts_q = starts_q;
    spec.longest_q = 3;
    spec.lengths_k = lengths;
    int first = KEYS - 5 - 3;
    op_attention_fwd(ex, tensor(part, DT_F32, 3, HQ * D), tensor_none(),
                     tensor(q + first * HQ * D, DT_F32, 3, HQ * D), keys, values, &spec);
    for (int i = 0; i < 3 * HQ * D; i++) ASSERT_NEAR(part[i], whole[first * HQ * D + i], 1e-6);
    exec_close(&ex);
}

TEST(keys_behind_the_length_have_no_part_in_attention) {
    Exec *ex = open_cpu(2);
    op_check_lengths(ex, DT_F32);
    if (exec_has_dtype(ex, DT_BF16)) op_check_lengths(ex, DT_BF16);
    exec_close(&ex);
}

TEST(adamw_follows_the_formula) {
    Exec *ex = open_cpu(2);
    enum { N = 40000 };
    static float master[N], grad_[N], m[N], v[N];
    static uint16_t copy[300 * 128];
    static double p64[N], m64[N], v64[N];
    Rng rng;
    rng_open(&rng, 4, RNG_TEST, 0);
    for (int i = 0; i < N; i++) p64[i] = (double)(master[i] = (float)rng_normal(&rng));
    /* Rows of 100 in a copy whose rows are 128 apart. */
    AdamwSegment segments[2] = {{0, 30000, 2.5f, 3, copy, 100, 128, DT_BF16},
                                {30000, 10000, 0, 0.5f, NULL, 0, 0, DT_F32}};
    UpdateState state = {.loss_scale = 1, .grad_scale = 0.25f, .stepped = 1};
    AdamwSpec spec = {.lr = 1e-2, .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-8};
    for (int step = 1; step <= 5; step++) {
        state.updates = step;
        for (int i = 0; i < N; i++) grad_[i] = (float)rng_normal(&rng);
        op_adamw(ex, master, grad_, m, v, N, segments, 2, &spec, &state);
        for (int i = 0; i < N; i++) {
            double g = (double)grad_[i] * 0.25, lr = i < 30000 ? 3e-2 : 0.5e-2,
                   decay = i < 30000 ? 2.5 : 0;
            m64[i] = 0.9 * m64[i] + 0.1 * g;
            v64[i] = 0.98 * v64[i] + 0.02 * g * g;
            p64[i] = p64[i] * (1 - lr * decay) - lr * (m64[i] / (1 - pow(0.9, step))) /
                                                     (sqrt(v64[i] / (1 - pow(0.98, step))) + 1e-8);
        }
    }
    for (int i = 0; i < N; i++) ASSERT_NEAR(master[i], p64[i], 2e-5);
    for (int i = 0; i < 30000; i++)
        ASSERT_NEAR(tensor_get(tensor(copy, DT_BF16, 300, 128), i / 100, i % 100), master[i],
                    0.004 * fabs((double)master[i]) + 1e-6);
    exec_close(&ex);
}

TEST(updates_are_begun_by_the_formula) {
    Exec *ex = open_cpu(2);
    op_check_update_begin(ex);
    exec_close(&ex);
}

TEST(sums_and_argmax_are_exact) {
    Exec *ex = open_cpu(2);
    enum { N = 50001 };
    static float x[N], y[N];
    double expected = 0;
    for (int i = 0; i < N; i++) {
        x[i] = (float)(i % 17);
        y[i] = 1;
        expected += (double)(x[i] * x[i]);
    }
    UpdateState state = {.loss_scale = 1};
    op_update_begin(ex, &state, x, N, &(UpdateSpec){.labels = 1});
    ASSERT_REAL(state.grad_norm, ==, sqrt(expected));
    op_accumulate(ex, y, x, N);
    for (int i = 0; i < N; i++) ASSERT_REAL(y[i], ==, 1 + i % 17);
    LossSum sum;
    double total = 0;
    int64_t hits = 0;
    for (int i = 0; i < N; i++) {
        total += (double)x[i];
        hits += x[i] > 0;
    }
    op_sum_loss(ex, &sum, tensor(x, DT_F32, 1, N), tensor(x, DT_F32, 1, N));
    ASSERT_REAL(sum.loss, ==, total);
    ASSERT_INT(sum.hits, ==, hits);
    float logits[2][5] = {{0, 3, 1, 3, 2}, {-1, -1, -1, -1, 0}};
    int32_t best[2];
    float probability[2];
    op_argmax(ex, best, probability, tensor(logits, DT_F32, 2, 5));
    ASSERT_INT(best[0], ==, 1);
    ASSERT_INT(best[1], ==, 4);
    ASSERT_NEAR(probability[1], 1 / (1 + 4 * exp(-1)), 1e-6);
    exec_close(&ex);
}

TEST(loss_of_a_nan_is_a_nan) {
    Exec *ex = open_cpu(1);
    float logits[3] = {0, NAN, 1}, loss = 0;
    int32_t target = 0;
    op_cross_entropy(ex, tensor(&loss, DT_F32, 1, 1), tensor_none(), tensor(logits, DT_F32, 1, 3),
                     &target, &(float){1});
    ASSERT_TRUE(isnan(loss));
    exec_close(&ex);
}

TEST(cuda_is_refused_where_there_is_none) {
    Exec *ex;
    ASSERT_ERR(exec_open(&ex, EXEC_CPU, 0), ERR_CONFIG, "threads: 0");
    if (exec_device_count(NULL) > 0) test_skip("there is one");
    ASSERT_ERR(exec_open(&ex, EXEC_CUDA, 0), ERR_UNSUPPORTED, "no CUDA backend");
}
