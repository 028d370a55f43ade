/* The reference implementation of matrix products: plain loops in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "tests/ops/op_reference.h"

/* ---- linear: T N K bias? ---- */

static void linear_setup(OpTest *t) {
    op_test_add(t, "x", ROLE_INPUT, D(0), D(2));
    op_test_add(t, "w", ROLE_PARAM, D(1), D(2));
    op_test_add(t, "y", ROLE_OUTPUT, D(0), D(1));
    if (D(3)) op_test_add(t, "bias", ROLE_PARAM, 1, D(1));
}

static void linear_reference(OpTest *t) {
    for (int64_t r = 0; r < D(0); r++)
        for (int64_t n = 0; n < D(1); n++) {
            double sum = D(3) ? V(3)[n] : 0;
            for (int64_t k = 0; k < D(2); k++) sum += V(0)[r * D(2) + k] * V(1)[n * D(2) + k];
            V(2)[r * D(1) + n] = sum;
        }
}

static void linear_forward(Exec *ex, OpTest *t) {
    op_linear_fwd(ex, T(2), T(0), T(1), D(3) ? T(3) : tensor_none());
}

static void linear_backward(Exec *ex, OpTest *t) {
    op_linear_bwd_x(ex, G(0), G(2), T(1), t->accumulate);
    op_linear_bwd_w(ex, G(1), D(3) ? G(3) : tensor_none(), G(2), T(0));
}

static void linear_accumulate_setup(OpTest *t) {
    linear_setup(t);
    t->accumulate = true;
}

static double linear_flops(const OpTest *t) {
    return 2.0 * (double)D(0) * (double)D(1) * (double)D(2);
}

/* ---- lora: T N K r dropout% ---- */

static const float LORA_SCALE = 2.0f;

static Dropout lora_dropout(const OpTest *t) {
    return (Dropout){.p = (float)D(4) / 100.0f, .key = 99};
}

static void lora_setup(OpTest *t) {
    op_test_add(t, "x", ROLE_INPUT, D(0), D(2));
    op_test_add(t, "a", ROLE_PARAM, D(3), D(2));
    op_test_add(t, "b", ROLE_PARAM, D(1), D(3));
    op_test_add(t, "y", ROLE_OUTPUT, D(0), D(1));
    op_test_add(t, "xa", ROLE_SAVED, D(0), D(3))->compute = true;
    op_test_add(t, "g", ROLE_SAVED, D(0), D(3))->compute = true;
    t->accumulate = true; /* y and dx both */
}

/* y += scale · dropout(x) · aᵀ · bᵀ. */
static void add_adapter(const OpTest *t, double *y, const double *x, const double *a,
                        const double *b) {
    Dropout dropout = lora_dropout(t);
    uint16_t threshold = rng_mask_threshold(dropout.p);
    double *dropped = calloc((size_t)D(2), sizeof *dropped), *xa = calloc((size_t)D(3), sizeof *xa);
    CHECK(dropped && xa, "out of memory");
    for (int64_t r = 0; r < D(0); r++) {
        for (int64_t k = 0; k < D(2); k++) {
            uint16_t numbers[8];
            rng_mask(numbers, dropout.key, (uint64_t)r, (uint64_t)(k / 8));
            dropped[k] =
                numbers[k % 8] < threshold ? 0 : x[r * D(2) + k] / (1.0 - (double)dropout.p);
        }
        for (int64_t i = 0; i < D(3); i++) {
            xa[i] = 0;
            for (int64_t k = 0; k < D(2); k++) xa[i] += dropped[k] * a[i * D(2) + k];
        }
        for (int64_t n = 0; n < D(1); n++) {
            double sum = 0;
            for (int64_t i = 0; i < D(3); i++) sum += xa[i] * b[n * D(3) + i];
            y[r * D(1) + n] += (double)LORA_SCALE * sum;
        }
    }
    free(dropped);
    free(xa);
}

static void lora_reference(OpTest *t) {
    memset(V(3), 0, (size_t)(D(0) * D(1)) * sizeof *V(3));
    add_adapter(t, V(3), V(0), V(1), V(2));
}

static void lora_prepare(OpTest *t, bool backward) {
    if (!backward) tensor_fill(HOST_T(3), 0);
}

static void lora_forward(Exec *ex, OpTest *t) {
    Lora lora = {T(1), T(2), LORA_SCALE, lora_dropout(t)};
    op_lora_fwd(ex, T(3), T(4), T(0), &lora);
}

static void lora_backward(Exec *ex, OpTest *t) {
    Lora lora = {T(1), T(2), LORA_SCALE, lora_dropout(t)};
    op_lora_bwd(ex, G(0), G(1), G(2), G(5), G(3), T(4), T(0), &lora);
}

static double lora_flops(const OpTest *t) {
    return 2.0 * (double)D(0) * (double)D(3) * (double)(D(1) + D(2));
}

/* ---- linear_lora: T N K r dropout% way ---- */

enum { LORA_NEIGHBOURS = 1, LORA_BIAS = 2, LORA_ACCUMULATE = 4 }; /* of the way */

/* Neighbours lie as ops/lora.c draws them; the others have memory of their own. */
static void linear_lora_setup(OpTest *t) {
    enum { X, W, A, B, Y };
    op_test_add(t, "x", ROLE_INPUT, D(0), D(2));
    op_test_add(t, "w", ROLE_FIXED, D(1), D(2));
    if (D(5) & LORA_NEIGHBOURS) {
        t->operands[X].room_cols = t->operands[W].room_cols = t->operands[W].room_rows = D(3);
        op_test_add_inside(t, "a", ROLE_PARAM, D(3), D(2), W, D(1), 0);
        op_test_add_inside(t, "b", ROLE_PARAM, D(1), D(3), W, 0, D(2));
        op_test_add(t, "y", ROLE_OUTPUT, D(0), D(1))->room_cols = D(3);
        op_test_add_inside(t, "xa", ROLE_SAVED, D(0), D(3), X, 0, D(2));
        op_test_add_inside(t, "g", ROLE_SAVED, D(0), D(3), Y, 0, D(1)); /* its gradient behind dy */
    } else {
        op_test_add(t, "a", ROLE_PARAM, D(3), D(2));
        op_test_add(t, "b", ROLE_PARAM, D(1), D(3));
        op_test_add(t, "y", ROLE_OUTPUT, D(0), D(1));
        op_test_add(t, "xa", ROLE_SAVED, D(0), D(3))->compute = true;
        op_test_add(t, "g", ROLE_SAVED, D(0), D(3))->compute = true;
    }
    if (D(5) & LORA_BIAS) op_test_add(t, "bias", ROLE_FIXED, 1, D(1));
    t->accumulate = D(5) & LORA_ACCUMULATE;
}

static void linear_lora_reference(OpTest *t) {
    for (int64_t r = 0; r < D(0); r++)
        for (int64_t n = 0; n < D(1); n++) {
            double sum = D(5) & LORA_BIAS ? V(7)[n] : 0;
            for (int64_t k = 0; k < D(2); k++) sum += V(0)[r * D(2) + k] * V(1)[n * D(2) + k];
            V(4)[r * D(1) + n] = sum;
        }
    add_adapter(t, V(4), V(0), V(2), V(3));
}

static void linear_lora_forward(Exec *ex, OpTest *t) {
    Lora lora = {T(2), T(3), LORA_SCALE, lora_dropout(t)};
    op_linear_lora_fwd(ex, T(4), T(5), T(0), T(1), D(5) & LORA_BIAS ? T(7) : tensor_none(), &lora);
}

static void linear_lora_backward(Exec *ex, OpTest *t) {
    Lora lora = {T(2), T(3), LORA_SCALE, lora_dropout(t)};
    op_linear_lora_bwd(ex, G(0), t->accumulate, G(2), G(3), G(6), G(4), T(5), T(0), T(1), &lora);
}

static double linear_lora_flops(const OpTest *t) {
    return 2.0 * (double)D(0) * (double)D(1) * (double)D(2) + lora_flops(t);
}

/* ---- attention: sequences longest Hq Hk D causal ---- */

/* Sequence s has 1 + (longest - 1 - 5 s) mod longest rows: ragged, the first is the longest. */
static int64_t sequence_length(const OpTest *t, int64_t s) {
    int64_t longest = D(1), cut = 5 * s % longest;
    return longest - cut;
}

static void attention_setup(OpTest *t) {
    int32_t *starts = op_test_add_ints(t, 0, D(0) + 1);
    for (int64_t s = 0; s < D(0); s++) starts[s + 1] = starts[s] + (int32_t)sequence_length(t, s);
    int64_t rows = starts[D(0)];
    op_test_add(t, "q", ROLE_INPUT, rows, D(2) * D(4))->high = 2;
    op_test_add(t, "k", ROLE_INPUT, rows, D(3) * D(4))->high = 2;
    op_test_add(t, "v", ROLE_INPUT, rows, D(3) * D(4));
    op_test_add(t, "out", ROLE_OUTPUT, rows, D(2) * D(4));
    op_test_add(t, "lse", ROLE_SAVED, rows, D(2));
}

static AttentionSpec attention_spec(const OpTest *t) {
    return (AttentionSpec){.sequences = (int)D(0),
                           .heads_q = (int)D(2),
                           .heads_k = (int)D(3),
                           .head_dim = (int)D(4),
                           .starts_q = I(0),
                           .starts_k = I(0),
                           .longest_q = (int)D(1),
                           .longest_k = (int)D(1),
                           .causal = D(5) != 0,
                           .scale = 1.0f / sqrtf((float)D(4))};
}

static void attention_reference(OpTest *t) {
    int64_t d = D(4), wq = D(2) * d, wk = D(3) * d;
    double scale = (double)attention_spec(t).scale,
           *weights = calloc((size_t)D(1), sizeof *weights);
    CHECK(weights, "out of memory");
    for (int64_t s = 0; s < D(0); s++)
        for (int64_t i = t->ints[0][s]; i < t->ints[0][s + 1]; i++)
            for (int64_t h = 0; h < D(2); h++) {
                int64_t first = t->ints[0][s], end = D(5) ? i + 1 : t->ints[0][s + 1],
                        hk = h / (D(2) / D(3));
                double top = -INFINITY, sum = 0;
                for (int64_t j = first; j < end; j++) {
                    double dot = 0;
                    for (int64_t c = 0; c < d; c++)
                        dot += V(0)[i * wq + h * d + c] * V(1)[j * wk + hk * d + c];
                    weights[j - first] = dot * scale;
                    top = fmax(top, dot * scale);
                }
                for (int64_t j = first; j < end; j++)
                    sum += weights[j - first] = exp(weights[j - first] - top);
                for (int64_t c = 0; c < d; c++) {
                    double value = 0;
                    for (int64_t j = first; j < end; j++)
                        value += weights[j - first] / sum * V(2)[j * wk + hk * d + c];
                    V(3)[i * wq + h * d + c] = value;
                }
            }
    free(weights);
}

static void attention_forward(Exec *ex, OpTest *t) {
    AttentionSpec spec = attention_spec(t);
    op_attention_fwd(ex, T(3), T(4), T(0), T(1), T(2), &spec);
}

static void attention_backward(Exec *ex, OpTest *t) {
    AttentionSpec spec = attention_spec(t);
    op_attention_bwd(ex, G(0), G(1), G(2), G(3), T(3), T(4), T(0), T(1), T(2), &spec);
}

static double attention_flops(const OpTest *t) {
    double pairs = 0;
    for (int64_t s = 0; s < D(0); s++) {
        double n = (double)sequence_length(t, s);
        pairs += D(5) ? n * (n + 1) / 2 : n * n;
    }
    return 4.0 * pairs * (double)(D(2) * D(4));
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
