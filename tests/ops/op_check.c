/* A backend's operation against the reference implementation, and its backward pass
 * against differences of it. */
#include "tests/ops/op_check.h"

#include "core/rng.h"
#include "tests/support/test.h"

/* Small and odd sizes. */
const OpCase op_cases[] = {
    {"linear", {1, 1, 1, 1}},
    {"linear", {5, 7, 3, 0}},
    {"linear", {33, 17, 29, 1}},
    {"linear", {131, 96, 40, 1}},
    {"linear", {1100, 5, 9, 1}},
    {"linear_accumulate", {45, 31, 8, 0}},
    {"linear_accumulate", {3, 300, 16, 1}},
    {"lora", {1, 1, 1, 1, 0}},
    {"lora", {37, 19, 23, 4, 0}},
    {"lora", {37, 19, 23, 4, 30}},
    {"lora", {130, 64, 33, 8, 5}},
    {"linear_lora", {1, 1, 1, 1, 0, 1}},
    {"linear_lora", {37, 19, 23, 4, 0, 2}},
    {"linear_lora", {37, 19, 23, 4, 0, 7}},
    {"linear_lora", {37, 19, 23, 4, 30, 3}},
    {"linear_lora", {37, 18, 24, 3, 0, 1}},
    {"linear_lora", {33, 20, 12, 5, 5, 4}},
    {"linear_lora", {130, 64, 33, 8, 5, 7}},
    {"rmsnorm", {1, 1, 0}},
    {"rmsnorm", {37, 29, 0}},
    {"rmsnorm", {131, 64, 1}},
    {"rmsnorm", {300, 9, 1}},
    {"layernorm", {1, 3, 0}},
    {"layernorm", {37, 29, 0}},
    {"layernorm", {131, 64, 1}},
    {"layernorm", {300, 9, 1}},
    {"rmsnorm", {37, 29, 1, 1}},
    {"rmsnorm", {131, 64, 0, 1}},
    {"add", {3, 37}},
    {"scale", {5, 37}},
    {"scale", {3, 64}},
    {"dropout", {7, 21, 10}},
    {"dropout", {33, 64, 50}},
    {"qk_rope", {1, 1, 1, 2, 2, 1}},
    {"qk_rope", {19, 4, 2, 8, 8, 1}},
    {"qk_rope", {131, 3, 3, 10, 4, 0}},
    {"qk_rope", {9, 2, 1, 72, 72, 1}},
    {"qk_rope", {5, 2, 2, 6, 0, 0}},
    {"attention", {1, 1, 1, 1, 1, 1}},
    {"attention", {3, 11, 4, 2, 8, 1}},
    {"attention", {2, 9, 2, 2, 5, 0}},
    {"attention", {4, 33, 4, 1, 16, 1}},
    {"attention", {1, 150, 2, 1, 4, 1}},
    {"attention", {1, 141, 1, 1, 4, 0}},
    {"act", {7, 19, ACTIVATION_GELU_TANH}},
    {"act", {7, 19, ACTIVATION_GELU}},
    {"act", {7, 19, ACTIVATION_QUICK_GELU}},
    {"act", {33, 5, ACTIVATION_SILU}},
    {"linear_act", {37, 19, 23, ACTIVATION_GELU_TANH}},
    {"linear_act", {5, 16, 8, ACTIVATION_QUICK_GELU}},
    {"linear_act_alone", {37, 19, 23, ACTIVATION_GELU_TANH}},
    {"linear_act_alone", {9, 7, 3, ACTIVATION_GELU}},
    {"glu", {7, 19, ACTIVATION_SILU}},
    {"glu", {33, 5, ACTIVATION_GELU_TANH}},
    {"patchify", {2, 8, 1, 4}},
    {"patchify", {1, 11, 3, 3}},
    {"positions", {3, 5, 7}},
    {"positions", {1, 4, 70}},
    {"embed", {9, 5, 7, 3}},
    {"embed", {40, 5, 70, 0}},
    {"gather", {9, 5, 4}},
    {"gather", {4, 3, 4}},
    {"cross_entropy", {1, 1}},
    {"cross_entropy", {9, 37}},
    {"cross_entropy", {60, 4}}, /* some targets have the largest logit */
    {"cross_entropy", {3, 300}},
    {"convert", {3, 37}},
};
const int op_case_count = sizeof op_cases / sizeof op_cases[0];

/* What rounding of the format allows, relative to the largest value: f32 sums of a few hundred
 * terms keep about 2e-5; a bf16 result is rounded once at the end (2^-9) and its inputs may be
 * intermediate bf16 results (2^-8 each). */
static double tolerance_of(const OpTest *test) {
    if (test->dtype == DT_BF16) return 0.02;
    if (test->dtype == DT_F16) return 0.003; /* three more bits */
    return test->kind->tolerance > 0 ? test->kind->tolerance : 2e-5;
}

static double largest(const double *x, int64_t n) {
    double top = 1e-3;
    for (int64_t i = 0; i < n; i++) top = fmax(top, fabs(x[i]));
    return top;
}

static void check_guards(const OpTest *test, const char *name) {
    char what[128];
    ASSERT(!op_test_guard_broken(test, what), "%s wrote %s", name, what);
}

void op_check_match(Exec *ex, const OpCase *c, DType dtype) {
    OpTest test;
    char name[128];
    op_test_open(&test, ex, op_kind_find(c->kind), c->dim, dtype, 5);
    op_test_name(&test, name);
    test.kind->reference(&test);
    op_test_spoil(&test);
    op_test_forward(&test);
    ASSERT_OK(exec_status(ex));
    for (int i = 0; i < test.operand_count; i++) {
        const Operand *o = &test.operands[i];
        if (o->role != ROLE_OUTPUT) continue;
        double allowed = tolerance_of(&test) * largest(o->value, o->rows * o->cols);
        for (int64_t r = 0; r < o->rows; r++)
            for (int64_t k = 0; k < o->cols; k++) {
                double found = tensor_get(o->t, r, k), expected = o->value[r * o->cols + k];
                ASSERT(fabs(found - expected) <= allowed,
                       "%s: %s[%ld,%ld] = %.9g, the loops give %.9g (%g allowed)", name, o->name,
                       (long)r, (long)k, found, expected, allowed);
            }
    }
    check_guards(&test, name);
    op_test_close(&test);
}

/* Σ over all outputs of gradient · value, by the loops. */
static double weighted_outputs(OpTest *test) {
    double sum = 0;
    test->kind->reference(test);
    for (int i = 0; i < test->operand_count; i++) {
        const Operand *o = &test->operands[i];
        if (o->role != ROLE_OUTPUT) continue;
        for (int64_t r = 0; r < o->rows; r++)
            for (int64_t c = 0; c < o->cols; c++)
                sum += tensor_get(o->grad, r, c) * o->value[r * o->cols + c];
    }
    return sum;
}

void op_check_draw_gradients(OpTest *test) {
    Rng rng;
    rng_open(&rng, 6, RNG_TEST, 1);
    for (int i = 0; i < test->operand_count; i++) {
        Operand *o = &test->operands[i];
        for (int64_t r = 0; r < o->rows && o->role == ROLE_OUTPUT; r++)
            for (int64_t c = 0; c < o->cols; c++)
                tensor_set(o->grad, r, c, 2 * rng_uniform(&rng) - 1);
    }
}

/* Of each gradient; fewer where a difference costs a lot. */
enum { ELEMENTS_CHECKED = 200, ELEMENTS_CHECKED_LARGE = 16, LARGE = 4000 };

static int64_t total_elements(const OpTest *test) {
    int64_t sum = 0;
    for (int i = 0; i < test->operand_count; i++)
        sum += test->operands[i].rows * test->operands[i].cols;
    return sum;
}

/* Compares elements of one operand's gradient with central differences of the loops. */
static void check_gradient(OpTest *test, Operand *o, const char *name) {
    int64_t checked = total_elements(test) > LARGE ? ELEMENTS_CHECKED_LARGE : ELEMENTS_CHECKED;
    int64_t count = o->rows * o->cols, stride = count / checked + 1;
    double base = o->role == ROLE_PARAM || test->accumulate ? 1 : 0, step = 1e-4, scale = 1e-3;
    double *expected = calloc((size_t)count, sizeof *expected);
    for (int64_t i = 0; i < count; i += stride) {
        double kept = o->value[i];
        o->value[i] = kept + step;
        double above = weighted_outputs(test);
        o->value[i] = kept - step;
        double below = weighted_outputs(test);
        o->value[i] = kept;
        expected[i] = (above - below) / (2 * step);
        scale = fmax(scale, fabs(expected[i]));
    }
    /* Differences themselves are good to about 1e-7; 16-bit gradients have passed several
     * roundings.
     */
    double rounding = test->dtype == DT_BF16  ? 0.03
                      : test->dtype == DT_F16 ? 0.005
                                              : 1e-4,
           allowed = rounding * (scale + base);
    for (int64_t i = 0; i < count; i += stride) {
        double found = tensor_get(o->grad, i / o->cols, i % o->cols) - base;
        ASSERT(fabs(found - expected[i]) <= allowed,
               "%s: gradient of %s[%ld] = %.9g, differences give %.9g (%g allowed)", name, o->name,
               (long)i, found, expected[i], allowed);
    }
    for (int64_t i = 0; i < count; i++)
        ASSERT(isfinite(tensor_get(o->grad, i / o->cols, i % o->cols)),
               "%s: gradient of %s[%ld] was not written", name, o->name, (long)i);
    free(expected);
}

void op_check_grad(Exec *ex, const OpCase *c, DType dtype) {
    OpTest test;
    char name[128];
    op_test_open(&test, ex, op_kind_find(c->kind), c->dim, dtype, 7);
    op_test_name(&test, name);
    if (test.kind->backward) {
        op_test_spoil(&test);
        op_check_draw_gradients(&test);
        op_test_forward(&test);
        op_test_backward(&test);
        ASSERT_OK(exec_status(ex));
        check_guards(&test, name);
        for (int i = 0; i < test.operand_count; i++)
            if (test.operands[i].role == ROLE_INPUT || test.operands[i].role == ROLE_PARAM)
                check_gradient(&test, &test.operands[i], name);
    }
    op_test_close(&test);
}
