/* The reference implementation of matrix products: plain loops in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "tests/ops/op_reference.h"

/* ---- linear ---- */

enum { LINEAR_T, LINEAR_N, LINEAR_K, LINEAR_HAS_BIAS }; /* sizes */
enum { LINEAR_X, LINEAR_W, LINEAR_Y, LINEAR_BIAS };

static void linear_setup(OpTest *t) {
    op_test_add(t, LINEAR_X, "x", ROLE_INPUT, D(LINEAR_T), D(LINEAR_K));
    op_test_add(t, LINEAR_W, "w", ROLE_PARAM, D(LINEAR_N), D(LINEAR_K));
    op_test_add(t, LINEAR_Y, "y", ROLE_OUTPUT, D(LINEAR_T), D(LINEAR_N));
    if (D(LINEAR_HAS_BIAS)) op_test_add(t, LINEAR_BIAS, "bias", ROLE_PARAM, 1, D(LINEAR_N));
}

static void linear_reference(OpTest *t) {
    for (int64_t r = 0; r < D(LINEAR_T); r++)
        for (int64_t n = 0; n < D(LINEAR_N); n++) {
            double sum = D(LINEAR_HAS_BIAS) ? V(LINEAR_BIAS)[n] : 0;
            for (int64_t k = 0; k < D(LINEAR_K); k++)
                sum += V(LINEAR_X)[r * D(LINEAR_K) + k] * V(LINEAR_W)[n * D(LINEAR_K) + k];
            V(LINEAR_Y)[r * D(LINEAR_N) + n] = sum;
        }
}

static void linear_forward(Exec *ex, OpTest *t) {
    op_linear_fwd(ex, T(LINEAR_Y), T(LINEAR_X), T(LINEAR_W),
                  D(LINEAR_HAS_BIAS) ? T(LINEAR_BIAS) : tensor_none());
}

static void linear_backward(Exec *ex, OpTest *t) {
    op_linear_bwd_x(ex, G(LINEAR_X), G(LINEAR_Y), T(LINEAR_W), t->accumulate);
    op_linear_bwd_w(ex, G(LINEAR_W), D(LINEAR_HAS_BIAS) ? G(LINEAR_BIAS) : tensor_none(),
                    G(LINEAR_Y), T(LINEAR_X));
}

static void linear_accumulate_setup(OpTest *t) {
    linear_setup(t);
    t->accumulate = true;
}

static double linear_flops(const OpTest *t) {
    return 2.0 * (double)D(LINEAR_T) * (double)D(LINEAR_N) * (double)D(LINEAR_K);
}

/* ---- lora ---- */

static const float LORA_SCALE = 2.0f;

enum { LORA_T, LORA_N, LORA_K, LORA_R, LORA_DROPOUT, LORA_WAY }; /* sizes */
enum { LORA_X, LORA_A, LORA_B, LORA_Y, LORA_XA, LORA_G };

static Dropout lora_dropout(const OpTest *t) {
    return (Dropout){.p = (float)D(LORA_DROPOUT) / 100.0f, .key = 99};
}

static void lora_setup(OpTest *t) {
    op_test_add(t, LORA_X, "x", ROLE_INPUT, D(LORA_T), D(LORA_K));
    op_test_add(t, LORA_A, "a", ROLE_PARAM, D(LORA_R), D(LORA_K));
    op_test_add(t, LORA_B, "b", ROLE_PARAM, D(LORA_N), D(LORA_R));
    op_test_add(t, LORA_Y, "y", ROLE_OUTPUT, D(LORA_T), D(LORA_N));
    op_test_add(t, LORA_XA, "xa", ROLE_SAVED, D(LORA_T), D(LORA_R))->compute = true;
    op_test_add(t, LORA_G, "g", ROLE_SAVED, D(LORA_T), D(LORA_R))->compute = true;
    t->accumulate = true; /* y and dx both */
}

/* y += scale · dropout(x) · aᵀ · bᵀ. */
static void add_adapter(const OpTest *t, double *y, const double *x, const double *a,
                        const double *b) {
    Dropout dropout = lora_dropout(t);
    uint16_t threshold = rng_mask_threshold(dropout.p);
    double *dropped = calloc((size_t)D(LORA_K), sizeof *dropped),
           *xa = calloc((size_t)D(LORA_R), sizeof *xa);
    CHECK(dropped && xa, "out of memory");
    for (int64_t r = 0; r < D(LORA_T); r++) {
        for (int64_t k = 0; k < D(LORA_K); k++) {
            uint16_t numbers[8];
            rng_mask(numbers, dropout.key, (uint64_t)r, (uint64_t)(k / 8));
            dropped[k] =
                numbers[k % 8] < threshold ? 0 : x[r * D(LORA_K) + k] / (1.0 - (double)dropout.p);
        }
        for (int64_t i = 0; i < D(LORA_R); i++) {
            xa[i] = 0;
            for (int64_t k = 0; k < D(LORA_K); k++) xa[i] += dropped[k] * a[i * D(LORA_K) + k];
        }
        for (int64_t n = 0; n < D(LORA_N); n++) {
            double sum = 0;
            for (int64_t i = 0; i < D(LORA_R); i++) sum += xa[i] * b[n * D(LORA_R) + i];
            y[r * D(LORA_N) + n] += (double)LORA_SCALE * sum;
        }
    }
    free(dropped);
    free(xa);
}

static void lora_reference(OpTest *t) {
    memset(V(LORA_Y), 0, (size_t)(D(LORA_T) * D(LORA_N)) * sizeof *V(LORA_Y));
    add_adapter(t, V(LORA_Y), V(LORA_X), V(LORA_A), V(LORA_B));
}

static void lora_prepare(OpTest *t, bool backward) {
    if (!backward) tensor_fill(HOST_T(LORA_Y), 0);
}

static void lora_forward(Exec *ex, OpTest *t) {
    Lora lora = {T(LORA_A), T(LORA_B), LORA_SCALE, lora_dropout(t)};
    op_lora_fwd(ex, T(LORA_Y), T(LORA_XA), T(LORA_X), &lora);
}

static void lora_backward(Exec *ex, OpTest *t) {
    Lora lora = {T(LORA_A), T(LORA_B), LORA_SCALE, lora_dropout(t)};
    op_lora_bwd(ex, G(LORA_X), G(LORA_A), G(LORA_B), G(LORA_G), G(LORA_Y), T(LORA_XA), T(LORA_X),
                &lora);
}

static double lora_flops(const OpTest *t) {
    return 2.0 * (double)D(LORA_T) * (double)D(LORA_R) * (double)(D(LORA_N) + D(LORA_K));
}

/* ---- linear_lora ---- */

enum { LORA_NEIGHBOURS = 1, LORA_BIAS = 2, LORA_ACCUMULATE = 4 }; /* of the way */

enum { LL_X, LL_W, LL_A, LL_B, LL_Y, LL_XA, LL_G, LL_BIAS };

/* Neighbours lie as ops/lora.c draws them; the others have memory of their own. */
static void linear_lora_setup(OpTest *t) {
    op_test_add(t, LL_X, "x", ROLE_INPUT, D(LORA_T), D(LORA_K));
    op_test_add(t, LL_W, "w", ROLE_FIXED, D(LORA_N), D(LORA_K));
    if (D(LORA_WAY) & LORA_NEIGHBOURS) {
        t->operands[LL_X].room_cols = t->operands[LL_W].room_cols = t->operands[LL_W].room_rows =
            D(LORA_R);
        op_test_add_inside(t, LL_A, "a", ROLE_PARAM, D(LORA_R), D(LORA_K), LL_W, D(LORA_N), 0);
        op_test_add_inside(t, LL_B, "b", ROLE_PARAM, D(LORA_N), D(LORA_R), LL_W, 0, D(LORA_K));
        op_test_add(t, LL_Y, "y", ROLE_OUTPUT, D(LORA_T), D(LORA_N))->room_cols = D(LORA_R);
        op_test_add_inside(t, LL_XA, "xa", ROLE_SAVED, D(LORA_T), D(LORA_R), LL_X, 0, D(LORA_K));
        op_test_add_inside(t, LL_G, "g", ROLE_SAVED, D(LORA_T), D(LORA_R), LL_Y, 0,
                           D(LORA_N)); /* its gradient behind dy */
    } else {
        op_test_add(t, LL_A, "a", ROLE_PARAM, D(LORA_R), D(LORA_K));
        op_test_add(t, LL_B, "b", ROLE_PARAM, D(LORA_N), D(LORA_R));
        op_test_add(t, LL_Y, "y", ROLE_OUTPUT, D(LORA_T), D(LORA_N));
        op_test_add(t, LL_XA, "xa", ROLE_SAVED, D(LORA_T), D(LORA_R))->compute = true;
        op_test_add(t, LL_G, "g", ROLE_SAVED, D(LORA_T), D(LORA_R))->compute = true;
    }
    if (D(LORA_WAY) & LORA_BIAS) op_test_add(t, LL_BIAS, "bias", ROLE_FIXED, 1, D(LORA_N));
    t->accumulate = D(LORA_WAY) & LORA_ACCUMULATE;
}

static void linear_lora_reference(OpTest *t) {
    for (int64_t r = 0; r < D(LORA_T); r++)
        for (int64_t n = 0; n < D(LORA_N); n++) {
            double sum = D(LORA_WAY) & LORA_BIAS ? V(LL_BIAS)[n] : 0;
            for (int64_t k = 0; k < D(LORA_K); k++)
                sum += V(LL_X)[r * D(LORA_K) + k] * V(LL_W)[n * D(LORA_K) + k];
            V(LL_Y)[r * D(LORA_N) + n] = sum;
        }
    add_adapter(t, V(LL_Y), V(LL_X), V(LL_A), V(LL_B));
}

static void linear_lora_forward(Exec *ex, OpTest *t) {
    Lora lora = {T(LL_A), T(LL_B), LORA_SCALE, lora_dropout(t)};
    op_linear_lora_fwd(ex, T(LL_Y), T(LL_XA), T(LL_X), T(LL_W),
                       D(LORA_WAY) & LORA_BIAS ? T(LL_BIAS) : tensor_none(), &lora);
}

static void linear_lora_backward(Exec *ex, OpTest *t) {
    Lora lora = {T(LL_A), T(LL_B), LORA_SCALE, lora_dropout(t)};
    op_linear_lora_bwd(ex, G(LL_X), t->accumulate, G(LL_A), G(LL_B), G(LL_G), G(LL_Y), T(LL_XA),
                       T(LL_X), T(LL_W), &lora);
}

static double linear_lora_flops(const OpTest *t) {
    return 2.0 * (double)D(LORA_T) * (double)D(LORA_N) * (double)D(LORA_K) + lora_flops(t);
}

/* ---- attention ---- */

enum { ATT_SEQUENCES, ATT_LONGEST, ATT_HQ, ATT_HK, ATT_D, ATT_CAUSAL }; /* sizes */
enum { ATT_Q, ATT_K, ATT_V, ATT_OUT, ATT_LSE };
enum { ATT_STARTS }; /* index arrays */

/* Sequence s has 1 + (longest - 1 - 5 s) mod longest rows: ragged, the first is the longest. */
static int64_t sequence_length(const OpTest *t, int64_t s) {
    int64_t longest = D(ATT_LONGEST), cut = 5 * s % longest;
    return longest - cut;
}

static void attention_setup(OpTest *t) {
    int32_t *starts = op_test_add_ints(t, ATT_STARTS, D(ATT_SEQUENCES) + 1);
    for (int64_t s = 0; s < D(ATT_SEQUENCES); s++)
        starts[s + 1] = starts[s] + (int32_t)sequence_length(t, s);
    int64_t rows = starts[D(ATT_SEQUENCES)];
    op_test_add(t, ATT_Q, "q", ROLE_INPUT, rows, D(ATT_HQ) * D(ATT_D))->high = 2;
    op_test_add(t, ATT_K, "k", ROLE_INPUT, rows, D(ATT_HK) * D(ATT_D))->high = 2;
    op_test_add(t, ATT_V, "v", ROLE_INPUT, rows, D(ATT_HK) * D(ATT_D));
    op_test_add(t, ATT_OUT, "out", ROLE_OUTPUT, rows, D(ATT_HQ) * D(ATT_D));
    op_test_add(t, ATT_LSE, "lse", ROLE_SAVED, rows, D(ATT_HQ));
}

static AttentionSpec attention_spec(const OpTest *t) {
    return (AttentionSpec){.sequences = (int)D(ATT_SEQUENCES),
                           .heads_q = (int)D(ATT_HQ),
                           .heads_k = (int)D(ATT_HK),
                           .head_dim = (int)D(ATT_D),
                           .starts_q = I(ATT_STARTS),
                           .starts_k = I(ATT_STARTS),
                           .longest_q = (int)D(ATT_LONGEST),
                           .longest_k = (int)D(ATT_LONGEST),
                           .causal = D(ATT_CAUSAL) != 0,
                           .scale = 1.0f / sqrtf((float)D(ATT_D))};
}

static void attention_reference(OpTest *t) {
    int64_t d = D(ATT_D), wq = D(ATT_HQ) * d, wk = D(ATT_HK) * d;
    double scale = (double)attention_spec(t).scale,
           *weights = calloc((size_t)D(ATT_LONGEST), sizeof *weights);
    CHECK(weights, "out of memory");
    for (int64_t s = 0; s < D(ATT_SEQUENCES); s++)
        for (int64_t i = t->ints[ATT_STARTS][s]; i < t->ints[ATT_STARTS][s + 1]; i++)
            for (int64_t h = 0; h < D(ATT_HQ); h++) {
                int64_t first = t->ints[ATT_STARTS][s],
                        end = D(ATT_CAUSAL) ? i + 1 : t->ints[ATT_STARTS][s + 1],
                        hk = h / (D(ATT_HQ) / D(ATT_HK));
                double top = -INFINITY, sum = 0;
                for (int64_t j = first; j < end; j++) {
                    double dot = 0;
                    for (int64_t c = 0; c < d; c++)
                        dot += V(ATT_Q)[i * wq + h * d + c] * V(ATT_K)[j * wk + hk * d + c];
                    weights[j - first] = dot * scale;
                    top = fmax(top, dot * scale);
                }
                for (int64_t j = first; j < end; j++)
                    sum += weights[j - first] = exp(weights[j - first] - top);
                for (int64_t c = 0; c < d; c++) {
                    double value = 0;
                    for (int64_t j = first; j < end; j++)
                        value += weights[j - first] / sum * V(ATT_V)[j * wk + hk * d + c];
                    V(ATT_OUT)[i * wq + h * d + c] = value;
                }
            }
    free(weights);
}

static void attention_forward(Exec *ex, OpTest *t) {
    AttentionSpec spec = attention_spec(t);
    op_attention_fwd(ex, T(ATT_OUT), T(ATT_LSE), T(ATT_Q), T(ATT_K), T(ATT_V), &spec);
}

static void attention_backward(Exec *ex, OpTest *t) {
    AttentionSpec spec = attention_spec(t);
    op_attention_bwd(ex, G(ATT_Q), G(ATT_K), G(ATT_V), G(ATT_OUT), T(ATT_OUT), T(ATT_LSE), T(ATT_Q),
                     T(ATT_K), T(ATT_V), &spec);
}

static double attention_flops(const OpTest *t) {
    double pairs = 0;
    for (int64_t s = 0; s < D(ATT_SEQUENCES); s++) {
        double n = (double)sequence_length(t, s);
        pairs += D(ATT_CAUSAL) ? n * (n + 1) / 2 : n * n;
    }
    return 4.0 * pairs * (double)(D(ATT_HQ) * D(ATT_D));
}

/* ---- the table ---- */

const OpKind op_kinds_matrix[] = {
    {"linear", linear_setup, linear_reference, linear_forward, linear_backward,
     .flops = linear_flops},
    {"linear_accumulate", linear_accumulate_setup, linear_reference, linear_forward,
     linear_backward, .flops = linear_flops},
    {"lora", lora_setup, lora_reference, lora_forward, lora_backward, .prepare = lora_prepare,
     .flops = lora_flops},
    {"linear_lora", linear_lora_setup, linear_lora_reference, linear_lora_forward,
     linear_lora_backward, .flops = linear_lora_flops},
    {"attention", attention_setup, attention_reference, attention_forward, attention_backward,
     .flops = attention_flops},
};
const int op_kinds_matrix_count = sizeof op_kinds_matrix / sizeof op_kinds_matrix[0];
