/* The CUDA backend: every operation against the reference implementation and, where that is too
 * slow, against the CPU backend. Runs on a GPU where there is one, and over the emulation in the
 * emu presets. */
#include "core/rng.h"
#include "tests/ops/op_check.h"
#include "tests/support/test.h"

static Exec *open_cuda(void) {
    const char *why = "";
    if (exec_device_count(&why) == 0) test_skip(why);
    Exec *ex;
    ASSERT_OK(exec_open(&ex, EXEC_CUDA, 0));
    return ex;
}

/* Sizes that tile: tensor cores, 16-byte accesses, several blocks. */
static const OpCase tiled_cases[] = {
    {"linear", {64, 128, 64, 1}},
    {"linear", {100, 72, 200, 0}},
    {"lora", {96, 64, 72, 16, 0}},
    {"lora", {130, 64, 72, 16, 30}},
    {"lora", {70, 40, 136, 64, 5}},
    {"lora", {16901, 8, 40, 8, 10}}, /* so many rows that blocks of lora_down are higher */
    {"linear_lora", {96, 64, 72, 16, 0, 3}},
    {"linear_lora", {96, 64, 72, 16, 0, 5}},
    {"linear_lora", {130, 64, 72, 16, 30, 3}},
    {"linear_lora", {70, 40, 136, 64, 5, 6}},
    {"linear_lora", {70, 40, 136, 64, 5, 5}},
    {"linear_lora", {40, 48, 64, 12, 0, 1}},
    {"rmsnorm", {70, 1152, 1}},
    {"rmsnorm", {5, 2056, 0}},
    {"layernorm", {70, 1152, 1}},
    {"layernorm", {5, 2056, 0}},
    {"rmsnorm", {9, 131, 1}}, /* neither short nor aligned: sums of parameters go through memory */
    {"layernorm", {9, 131, 0}},
    {"qk_rope", {70, 4, 1, 64, 64, 1}},
    {"qk_rope", {33, 2, 2, 80, 32, 0}},
    {"attention", {2, 130, 4, 1, 64, 1}},
    {"attention", {2, 70, 2, 2, 72, 0}},
    {"attention", {1, 67, 2, 2, 80, 1}},
    {"attention", {1, 65, 2, 1, 128, 1}},
    {"attention", {1, 40, 2, 1, 256, 1}},
    {"attention", {3, 40, 4, 2, 32, 1}},
    {"act", {33, 136, ACTIVATION_GELU_TANH}},
    {"linear_act", {100, 136, 72, ACTIVATION_GELU_TANH}},
    {"linear_act_alone", {100, 136, 72, ACTIVATION_GELU_TANH}},
    {"glu", {33, 136, ACTIVATION_SILU}},
    {"patchify", {2, 28, 3, 14}},
    {"positions", {3, 9, 136}},
    {"embed", {70, 33, 136, 20}},
    {"gather", {70, 136, 33}},
    {"cross_entropy", {9, 1000}},
    {"cross_entropy", {2, 33000}},
    {"cross_entropy", {1, 70001}}, /* more than a block's registers hold */
    {"convert", {33, 136}},
};
enum { TILED_COUNT = sizeof tiled_cases / sizeof tiled_cases[0] };

static void all_cases(void (*check)(Exec *, const OpCase *, DType), DType dtype) {
    Exec *ex = open_cuda();
    for (int i = 0; i < op_case_count; i++) check(ex, &op_cases[i], dtype);
    for (int i = 0; i < TILED_COUNT; i++) check(ex, &tiled_cases[i], dtype);
    exec_close(&ex);
}

TEST(every_operation_matches_the_reference_in_f32) {
    all_cases(op_check_match, DT_F32);
}

TEST(every_operation_matches_the_reference_in_bf16) {
    all_cases(op_check_match, DT_BF16);
}

TEST(every_operation_matches_the_reference_in_f16) {
    all_cases(op_check_match, DT_F16);
}

TEST(every_gradient_matches_differences_in_f32) {
    all_cases(op_check_grad, DT_F32);
}

TEST(every_gradient_matches_differences_in_bf16) {
    all_cases(op_check_grad, DT_BF16);
}

TEST(every_gradient_matches_differences_in_f16) {
    all_cases(op_check_grad, DT_F16);
}

TEST(keys_behind_the_length_have_no_part_in_attention) {
    static const DType types[] = {DT_F32, DT_BF16, DT_F16};
    Exec *ex = open_cuda();
    for (int i = 0; i < 3; i++) op_check_lengths(ex, types[i]);
    exec_close(&ex);
}

/* Forward and, where there is one, backward; to be closed. */
static void run_once(OpTest *test, Exec *ex, const OpCase *c, DType dtype) {
    op_test_open(test, ex, op_kind_find(c->kind), c->dim, dtype, 8);
    op_test_spoil(test);
    op_check_draw_gradients(test);
    op_test_forward(test);
    if (test->kind->backward) op_test_backward(test);
    ASSERT_OK(exec_status(ex));
}

static uint64_t hash_of_run(Exec *ex, const OpCase *c, DType dtype) {
    OpTest test;
    run_once(&test, ex, c, dtype);
    uint64_t hash = 0;
    for (int i = 0; i < test.operand_count; i++) {
        Tensor both[2] = {test.operands[i].t, test.operands[i].grad};
        for (int k = 0; k < 2; k++)
            for (int64_t r = 0; r < both[k].rows; r++) {
                Tensor row = tensor_rows(both[k], r, 1);
                for (size_t j = 0; j < tensor_bytes(row); j++)
                    hash = (hash ^ ((uint8_t *)row.data)[j]) * 0x100000001b3ull + (hash >> 29);
            }
    }
    op_test_close(&test);
    return hash;
}

/* Blocks and threads come in another order each time. */
TEST(bits_are_the_same_each_time) {
    Exec *ex = open_cuda();
    for (int i = 0; i < TILED_COUNT; i++) {
        uint64_t first = hash_of_run(ex, &tiled_cases[i], DT_BF16);
        for (int again = 0; again < 2; again++)
            ASSERT(hash_of_run(ex, &tiled_cases[i], DT_BF16) == first, "%s gives other bits",
                   tiled_cases[i].kind);
    }
    exec_close(&ex);
}

/* ---- products: plans are few, and the fused ways are taken ---- */

static void run_case(Exec *ex, const OpCase *c) {
    OpTest test;
    run_once(&test, ex, c, DT_BF16);
    op_test_close(&test);
}

/* A linear's three products, with 513 … 640 rows: each asks once. One row more asks anew. */
TEST(products_of_nearly_as_many_rows_share_a_plan) {
    Exec *ex = open_cuda();
    static const int64_t rows[] = {600, 513, 639, 640, 577, 514};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        run_case(ex, &(OpCase){"linear", {rows[i], 64, 32, 0}});
    ProductCounts counts = exec_product_counts(ex);
    ASSERT_INT(counts.products, ==, 6 * 3);
    ASSERT_INT(counts.planned, ==, 3);
    run_case(ex, &(OpCase){"linear", {641, 64, 32, 0}});
    ASSERT_INT(exec_product_counts(ex).planned, ==, 6);
    exec_close(&ex);
}

/* A micro-batch of eight samples of up to 2,048 rows: some twenty plans for each kind of product,
 * whatever its length; one of a few rows (generation) has plans of its own. */
TEST(plans_come_to_an_end_whatever_the_lengths) {
    Exec *ex = open_cuda();
    for (int64_t rows = 2049; rows <= 16384; rows += 331)
        run_case(ex, &(OpCase){"linear", {rows, 8, 8, 0}});
    ProductCounts counts = exec_product_counts(ex);
    ASSERT_INT(counts.products, ==, 3 * 44);
    ASSERT_INT(counts.planned, <=, 3 * 24);
    int64_t before = counts.planned;
    for (int64_t rows = 1; rows <= 4; rows++)
        run_case(ex, &(OpCase){"linear", {2 * rows, 8, 8, 0}});
    ASSERT_INT(exec_product_counts(ex).planned, ==, before + 3 * 4);
    exec_close(&ex);
}

/* What has rows of whole 16 bytes: bias, GELU and what GELU keeps come out of the product itself.
 */
TEST(gelu_is_fused_where_rows_are_aligned) {
    Exec *ex = open_cuda();
    run_case(ex, &(OpCase){"linear_act", {100, 136, 72, ACTIVATION_GELU_TANH}});
    run_case(ex, &(OpCase){"linear_act_alone", {100, 136, 72, ACTIVATION_GELU_TANH}});
    ProductCounts counts = exec_product_counts(ex);
    ASSERT_INT(counts.products, >=, 4);
    ASSERT_INT(counts.unfused, ==, 0);
    ASSERT_INT(counts.plain, ==, 0);
    ASSERT_INT(counts.refused, ==, 0);
    run_case(ex, &(OpCase){"linear_act", {37, 19, 23, ACTIVATION_GELU_TANH}});
    counts = exec_product_counts(ex);
    ASSERT_INT(counts.unfused + counts.plain, >, 0);
    exec_close(&ex);
}

/* ---- switches, to isolate a fault ---- */

/* All cases of some kinds, in every type, with a variable of the environment set. */
static ProductCounts match_with(const char *name, const char *value, const char *said,
                                const char *const *kinds) {
    setenv(name, value, 1);
    Exec *ex = open_cuda();
    ASSERT_CONTAINS(exec_description(ex), said);
    for (int i = 0; i < op_case_count + TILED_COUNT; i++) {
        const OpCase *c = i < op_case_count ? &op_cases[i] : &tiled_cases[i - op_case_count];
        for (int k = 0; kinds[k]; k++)
            for (int type = 0; type < 3 && !strcmp(c->kind, kinds[k]); type++)
                op_check_match(ex, c, (const DType[]){DT_F32, DT_BF16, DT_F16}[type]);
    }
    ProductCounts counts = exec_product_counts(ex);
    exec_close(&ex);
    unsetenv(name);
    return counts;
}

TEST(every_switch_gives_the_same_results) {
    static const char *const products[] = {"linear", "linear_act", "linear_act_alone", NULL},
                             *const attention[] = {"attention", NULL};
    ProductCounts c = match_with("CADVLM_CUDA_SYNC", "1", "waits after each", products), with;
    ASSERT_INT(c.unfused, <, c.products / 2);
    with = match_with("CADVLM_CUDA_PRODUCTS", "unfused", "unfused products", products);
    ASSERT_INT(with.unfused, >, c.unfused);
    ASSERT_INT(with.plain, ==, c.plain);
    with = match_with("CADVLM_CUDA_PRODUCTS", "plain", "plain products", products);
    ASSERT_INT(with.plain, ==, with.products);
    match_with("CADVLM_CUDA_ATTENTION", "plain", "plain attention", attention);
    setenv("CADVLM_CUDA_ATTENTION", "flash", 1);
    Exec *ex;
    ASSERT_ERR(exec_open(&ex, EXEC_CUDA, 0), ERR_CONFIG,
               "CADVLM_CUDA_ATTENTION is flash in the environment; plain is expected");
}

/* ---- parameters: against the CPU backend ---- */

static void *to_device(Exec *ex, const void *host, size_t bytes) {
    void *device = exec_alloc(ex, bytes);
    ASSERT_TRUE(device);
    exec_upload(ex, device, host, bytes);
    return device;
}

enum { ADAM_COUNT = 5000, ADAM_ARRAYS = 4 };

/* Six steps of AdamW, the fourth with a NaN among the gradients. Leaves master, m and v in `out`.
 */
static void run_adamw(Exec *ex, float out[3][ADAM_COUNT], uint16_t copy[64 * 72],
                      UpdateState *state) {
    static float host[ADAM_ARRAYS][ADAM_COUNT];
    float *arrays[ADAM_ARRAYS];
    Rng rng;
    rng_open(&rng, 4, RNG_TEST, 0);
    memset(host, 0, sizeof host);
    for (int i = 0; i < ADAM_COUNT; i++) host[0][i] = (float)rng_normal(&rng);
    for (int a = 0; a < ADAM_ARRAYS; a++) arrays[a] = to_device(ex, host[a], sizeof host[a]);
    uint16_t *device_copy = exec_alloc(ex, 64 * 72 * sizeof *device_copy);
    AdamwSegment segments[3] = {
        {0, 61, 0, 1, NULL, 0, 0, DT_F32},
        {61, 64 * 64, 2.5f, 3, device_copy, 64, 72, DT_BF16},
        {61 + 64 * 64, ADAM_COUNT - 61 - 64 * 64, 0, 0.5f, NULL, 0, 0, DT_F32}};
    AdamwSegment *device_segments = to_device(ex, segments, sizeof segments);
    UpdateState *device_state =
        to_device(ex, &(UpdateState){.loss_scale = 4, .patience = 1}, sizeof *device_state);
    UpdateSpec update = {
        .labels = 8, .max_norm = 1, .window = 3, .hysteresis = 1, .least_scale = 0.5};
    AdamwSpec adamw = {.lr = 1e-2, .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-8};
    for (int step = 1; step <= 6; step++) {
        for (int i = 0; i < ADAM_COUNT; i++) host[1][i] = (float)rng_normal(&rng);
        if (step == 4) host[1][ADAM_COUNT - 1] = NAN;
        exec_upload(ex, arrays[1], host[1], sizeof host[1]);
        op_update_begin(ex, device_state, arrays[1], ADAM_COUNT, &update);
        op_adamw(ex, arrays[0], arrays[1], arrays[2], arrays[3], ADAM_COUNT, device_segments, 3,
                 &adamw, device_state);
    }
    exec_download(ex, out[0], arrays[0], sizeof out[0]);
    exec_download(ex, out[1], arrays[2], sizeof out[1]);
    exec_download(ex, out[2], arrays[3], sizeof out[2]);
    exec_download(ex, copy, device_copy, 64 * 72 * sizeof *copy);
    exec_download(ex, state, device_state, sizeof *state);
    ASSERT_OK(exec_status(ex));
    for (int a = 0; a < ADAM_ARRAYS; a++) exec_free(ex, arrays[a], 0);
    exec_free(ex, device_copy, 0);
    exec_free(ex, device_segments, 0);
    exec_free(ex, device_state, 0);
}

TEST(adamw_and_the_loss_scale_do_as_on_the_cpu) {
    static float expected[3][ADAM_COUNT], found[3][ADAM_COUNT];
    static uint16_t expected_copy[64 * 72], found_copy[64 * 72];
    UpdateState expected_state, found_state;
    Exec *cuda = open_cuda(), *cpu;
    ASSERT_OK(exec_open(&cpu, EXEC_CPU, 1));
    run_adamw(cpu, expected, expected_copy, &expected_state);
    run_adamw(cuda, found, found_copy, &found_state);
    for (int a = 0; a < 3; a++)
        for (int i = 0; i < ADAM_COUNT; i++)
            ASSERT_NEAR(found[a][i], expected[a][i], 1e-6 * (1 + fabs((double)expected[a][i])));
    for (int i = 0; i < 64 * 72; i++)
        ASSERT_NEAR(tensor_get(tensor(found_copy, DT_BF16, 1, 64 * 72), 0, i),
                    tensor_get(tensor(expected_copy, DT_BF16, 1, 64 * 72), 0, i), 0.02);
    ASSERT_INT(found_state.updates, ==, 5);
    ASSERT_INT(expected_state.updates, ==, 5);
    ASSERT_INT(found_state.good_steps, ==, expected_state.good_steps);
    ASSERT_INT(found_state.patience, ==, expected_state.patience);
    ASSERT_REAL(found_state.loss_scale, ==, expected_state.loss_scale);
    ASSERT_NEAR(found_state.grad_norm, expected_state.grad_norm, 1e-6 * expected_state.grad_norm);
    ASSERT_NEAR(found_state.grad_scale, expected_state.grad_scale, 1e-7);
    exec_close(&cpu);
    exec_close(&cuda);
}

TEST(updates_are_begun_by_the_formula) {
    Exec *ex = open_cuda();
    op_check_update_begin(ex);
    exec_close(&ex);
}

TEST(sums_and_argmax_are_exact) {
    Exec *ex = open_cuda();
    enum { N = 50001 };
    static float x[N], y[N];
    double expected = 0;
    for (int i = 0; i < N; i++) {
        x[i] = (float)(i % 17);
        y[i] = 1;
        expected += (double)(x[i] * x[i]);
    }
    float *dx = to_device(ex, x, sizeof x), *dy = to_device(ex, y, sizeof y);
    UpdateState state = {.loss_scale = 1}, *device_state = to_device(ex, &state, sizeof state);
    op_update_begin(ex, device_state, dx, N, &(UpdateSpec){.labels = 1});
    exec_download(ex, &state, device_state, sizeof state);
    ASSERT_NEAR(state.grad_norm, sqrt(expected), 1e-12 * expected);
    op_accumulate(ex, dy, dx, N);
    exec_download(ex, y, dy, sizeof y);
    for (int i = 0; i < N; i++) ASSERT_REAL(y[i], ==, 1 + i % 17);

    float logits[2][5] = {{0, 3, 1, 3, 2}, {-1, -1, -1, -1, 0}}, probability[2];
    int32_t best[2];
    float *dl = to_device(ex, logits, sizeof logits), *dp = exec_alloc(ex, sizeof probability);
    int32_t *db = exec_alloc(ex, sizeof best);
    op_argmax(ex, db, dp, tensor(dl, DT_F32, 2, 5));
    exec_download(ex, best, db, sizeof best);
    exec_download(ex, probability, dp, sizeof probability);
    ASSERT_INT(best[0], ==, 1);
    ASSERT_INT(best[1], ==, 4);
    ASSERT_NEAR(probability[1], 1 / (1 + 4 * exp(-1)), 1e-6);

    LossSum sum, *ds = exec_alloc(ex, sizeof sum);
    op_sum_loss(ex, ds, tensor(dx, DT_F32, 1, N), tensor(dx, DT_F32, 1, N));
    exec_download(ex, &sum, ds, sizeof sum);
    double total = 0;
    int64_t hits = 0;
    for (int i = 0; i < N; i++) {
        total += (double)x[i];
        hits += x[i] > 0;
    }
    ASSERT_REAL(sum.loss, ==, total);
    ASSERT_INT(sum.hits, ==, hits);
    ASSERT_OK(exec_status(ex));
    void *all[] = {dx, dy, device_state, dl, dp, db, ds};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) exec_free(ex, all[i], 0);
    exec_close(&ex);
}

TEST(a_nan_among_the_logits_is_a_nan_loss) {
    Exec *ex = open_cuda();
    float logits[3] = {0, NAN, 1}, loss = 0, one = 1;
    int32_t target = 0;
    float *dl = to_device(ex, logits, sizeof logits), *d_loss = to_device(ex, &loss, sizeof loss),
          *d_one = to_device(ex, &one, sizeof one);
    int32_t *dt = to_device(ex, &target, sizeof target);
    op_cross_entropy(ex, tensor(d_loss, DT_F32, 1, 1), tensor_none(), tensor(dl, DT_F32, 1, 3), dt,
                     d_one);
    exec_download(ex, &loss, d_loss, sizeof loss);
    ASSERT_TRUE(isnan(loss));
    void *all[] = {dl, d_loss, d_one, dt};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) exec_free(ex, all[i], 0);
    exec_close(&ex);
}

/* ---- the device itself ---- */

TEST(memory_that_is_not_there_is_no_memory) {
    Exec *ex = open_cuda();
    size_t total, available;
    exec_memory(ex, &total, &available);
    ASSERT_TRUE(total > 0 && available <= total);
    ASSERT_TRUE(!exec_alloc(ex, total + 1));
    ASSERT_OK(exec_status(ex)); /* the caller says what was too large */
    exec_close(&ex);
}

TEST(gpus_that_are_not_there_are_refused) {
    int count = exec_device_count(NULL);
    if (count == 0) test_skip("no GPU to count from");
    Exec *ex;
    ASSERT_ERR(exec_open(&ex, EXEC_CUDA, count), ERR_DEVICE, "GPU");
}

TEST(staged_memory_is_given_again_when_its_copy_is_done) {
    Exec *ex = open_cuda();
    enum { ROUNDS = 5, BYTES = 4096 };
    char *device = exec_alloc(ex, ROUNDS * BYTES), found[ROUNDS * BYTES];
    for (int i = 0; i < ROUNDS; i++) {
        char *host = exec_stage(ex, BYTES);
        ASSERT_TRUE(host);
        memset(host, 'a' + i, BYTES);
        exec_send(ex, device + i * BYTES, BYTES);
    }
    exec_download(ex, found, device, sizeof found);
    for (int i = 0; i < ROUNDS * BYTES; i++) ASSERT_INT(found[i], ==, 'a' + i / BYTES);
    exec_free(ex, device, 0);
    exec_close(&ex);
}
