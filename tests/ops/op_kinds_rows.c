/* The reference implementation of operations on rows: plain loops in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "tests/ops/op_reference.h"

/* ---- norms ---- */

static const float EPS = 1e-5f;

enum { NORM_T, NORM_C, NORM_HAS_DELTA, NORM_OFFSET }; /* sizes */
enum { NORM_H, NORM_W, NORM_OUT, NORM_STATS, NORM_SUM, NORM_DELTA, NORM_BIAS };

static void norm_setup(OpTest *t, bool bias) {
    op_test_add(t, NORM_H, "h", ROLE_INPUT, D(NORM_T), D(NORM_C));
    op_test_add(t, NORM_W, "w", ROLE_PARAM, 1, D(NORM_C));
    op_test_add(t, NORM_OUT, "out", ROLE_OUTPUT, D(NORM_T), D(NORM_C));
    op_test_add(t, NORM_STATS, "stats", ROLE_SAVED, D(NORM_T), bias ? 2 : 1);
    op_test_add(t, NORM_SUM, "sum", D(NORM_HAS_DELTA) ? ROLE_OUTPUT : ROLE_FIXED, D(NORM_T),
                D(NORM_C));
    op_test_add(t, NORM_DELTA, "delta", D(NORM_HAS_DELTA) ? ROLE_INPUT : ROLE_FIXED, D(NORM_T),
                D(NORM_C));
    if (bias) op_test_add(t, NORM_BIAS, "bias", ROLE_PARAM, 1, D(NORM_C));
}

static void rmsnorm_setup(OpTest *t) {
    norm_setup(t, false);
}

static void layernorm_setup(OpTest *t) {
    norm_setup(t, true);
}

/* The stored sum is rounded to the compute type before it is normalised. */
static double rounded(const OpTest *t, double x) {
    uint16_t memory;
    if (t->dtype == DT_F32) return x;
    Tensor one = tensor(&memory, t->dtype, 1, 1);
    tensor_set(one, 0, 0, x);
    return tensor_get(one, 0, 0);
}

static void norm_reference(OpTest *t, bool centred) {
    int64_t n = D(NORM_C);
    for (int64_t r = 0; r < D(NORM_T); r++) {
        double *x = V(NORM_SUM) + r * n, mean = 0, squares = 0;
        for (int64_t i = 0; i < n; i++) {
            x[i] = D(NORM_HAS_DELTA) ? V(NORM_H)[r * n + i] + V(NORM_DELTA)[r * n + i]
                                     : V(NORM_H)[r * n + i];
            mean += centred ? x[i] / (double)n : 0;
        }
        for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean) / (double)n;
        double scale = 1 / sqrt(squares + (double)EPS);
        for (int64_t i = 0; i < n; i++) V(NORM_OUT)
        [r * n + i] = (x[i] - mean) * scale * ((double)D(NORM_OFFSET) + V(NORM_W)[i]) +
                      (centred ? V(NORM_BIAS)[i] : 0);
    }
}

static void rmsnorm_reference(OpTest *t) {
    norm_reference(t, false);
}

static void layernorm_reference(OpTest *t) {
    norm_reference(t, true);
}

static void rmsnorm_forward(Exec *ex, OpTest *t) {
    op_rmsnorm_fwd(ex, T(NORM_OUT), D(NORM_HAS_DELTA) ? T(NORM_SUM) : tensor_none(), T(NORM_STATS),
                   T(NORM_H), D(NORM_HAS_DELTA) ? T(NORM_DELTA) : tensor_none(), T(NORM_W),
                   (float)D(NORM_OFFSET), EPS);
}

static void layernorm_forward(Exec *ex, OpTest *t) {
    op_layernorm_fwd(ex, T(NORM_OUT), D(NORM_HAS_DELTA) ? T(NORM_SUM) : tensor_none(),
                     T(NORM_STATS), T(NORM_H), D(NORM_HAS_DELTA) ? T(NORM_DELTA) : tensor_none(),
                     T(NORM_W), T(NORM_BIAS), EPS);
}

static void copy_values(Tensor to, Tensor from) {
    for (int64_t r = 0; r < to.rows; r++)
        for (int64_t c = 0; c < to.cols; c++) tensor_set(to, r, c, tensor_get(from, r, c));
}

/* With delta, the gradient of sum arrives from above and both h and delta get the total. */
static void norm_prepare(OpTest *t, bool backward) {
    if (backward && D(NORM_HAS_DELTA)) copy_values(HOST_G(NORM_H), HOST_G(NORM_SUM));
}

static void norm_finish(OpTest *t) {
    if (D(NORM_HAS_DELTA)) copy_values(HOST_G(NORM_DELTA), HOST_G(NORM_H));
}

static void rmsnorm_backward(Exec *ex, OpTest *t) {
    op_rmsnorm_bwd(ex, G(NORM_H), D(NORM_HAS_DELTA) != 0, G(NORM_W), G(NORM_OUT),
                   D(NORM_HAS_DELTA) ? T(NORM_SUM) : T(NORM_H), T(NORM_STATS), T(NORM_W),
                   (float)D(NORM_OFFSET));
}

static void layernorm_backward(Exec *ex, OpTest *t) {
    op_layernorm_bwd(ex, G(NORM_H), D(NORM_HAS_DELTA) != 0, G(NORM_W), G(NORM_BIAS), G(NORM_OUT),
                     D(NORM_HAS_DELTA) ? T(NORM_SUM) : T(NORM_H), T(NORM_STATS), T(NORM_W));
}

/* ---- add ---- */

enum { ADD_T, ADD_C }; /* sizes */
enum { ADD_A, ADD_B, ADD_OUT };

static void add_setup(OpTest *t) {
    op_test_add(t, ADD_A, "a", ROLE_FIXED, D(ADD_T), D(ADD_C));
    op_test_add(t, ADD_B, "b", ROLE_FIXED, D(ADD_T), D(ADD_C));
    op_test_add(t, ADD_OUT, "out", ROLE_OUTPUT, D(ADD_T), D(ADD_C));
}

static void add_reference(OpTest *t) {
    for (int64_t i = 0; i < D(ADD_T) * D(ADD_C); i++) V(ADD_OUT)[i] = V(ADD_A)[i] + V(ADD_B)[i];
}

static void add_forward(Exec *ex, OpTest *t) {
    op_add(ex, T(ADD_OUT), T(ADD_A), T(ADD_B));
}

/* ---- scale ---- */

static const float FACTOR = 45.25f;

enum { SCALE_T, SCALE_C }; /* sizes */
enum { SCALE_X, SCALE_OUT };

static void scale_setup(OpTest *t) {
    op_test_add(t, SCALE_X, "x", ROLE_FIXED, D(SCALE_T), D(SCALE_C));
    op_test_add(t, SCALE_OUT, "out", ROLE_OUTPUT, D(SCALE_T), D(SCALE_C));
}

static void scale_reference(OpTest *t) {
    for (int64_t i = 0; i < D(SCALE_T) * D(SCALE_C); i++)
        V(SCALE_OUT)[i] = (double)FACTOR * V(SCALE_X)[i];
}

static void scale_forward(Exec *ex, OpTest *t) {
    op_scale(ex, T(SCALE_OUT), T(SCALE_X), FACTOR);
}

/* ---- dropout ---- */

enum { DROP_T, DROP_C, DROP_PERCENT }; /* sizes */
enum { DROP_X, DROP_OUT };

static Dropout row_dropout(const OpTest *t) {
    return (Dropout){.p = (float)D(DROP_PERCENT) / 100, .key = rng_key(11, RNG_DROPOUT)};
}

static void dropout_setup(OpTest *t) {
    op_test_add(t, DROP_X, "x", ROLE_INPUT, D(DROP_T), D(DROP_C));
    op_test_add(t, DROP_OUT, "out", ROLE_OUTPUT, D(DROP_T), D(DROP_C));
}

static void dropout_reference(OpTest *t) {
    Dropout dropout = row_dropout(t);
    uint16_t threshold = rng_mask_threshold(dropout.p), numbers[8];
    for (int64_t r = 0; r < D(DROP_T); r++)
        for (int64_t c = 0; c < D(DROP_C); c++) {
            rng_mask(numbers, dropout.key, (uint64_t)r, (uint64_t)(c / 8));
            bool kept = numbers[c % 8] >= threshold;
            V(DROP_OUT)
            [r * D(DROP_C) + c] =
                kept ? V(DROP_X)[r * D(DROP_C) + c] / (1.0 - (double)dropout.p) : 0;
        }
}

static void dropout_forward(Exec *ex, OpTest *t) {
    op_dropout(ex, T(DROP_OUT), T(DROP_X), row_dropout(t), false);
}

static void dropout_backward(Exec *ex, OpTest *t) {
    op_dropout(ex, G(DROP_X), G(DROP_OUT), row_dropout(t), false);
}

/* ---- qk_rope ---- */

enum { ROPE_T, ROPE_HQ, ROPE_HK, ROPE_D, ROPE_ROTARY, ROPE_HAS_NORM }; /* sizes */
enum { ROPE_QKV, ROPE_QK, ROPE_RSTD, ROPE_WQ, ROPE_WK };
enum { ROPE_POSITIONS }; /* index arrays */

static RopeSpec rope_spec(const OpTest *t) {
    return (RopeSpec){.heads_q = (int)D(ROPE_HQ),
                      .heads_k = (int)D(ROPE_HK),
                      .head_dim = (int)D(ROPE_D),
                      .rotary_dim = (int)D(ROPE_ROTARY),
                      .table = t->device_table,
                      .positions = I(ROPE_POSITIONS),
                      .eps = EPS};
}

static void qk_rope_setup(OpTest *t) {
    int64_t width = (D(ROPE_HQ) + D(ROPE_HK)) * D(ROPE_D);
    op_test_add(t, ROPE_QKV, "qkv", ROLE_INPUT, D(ROPE_T), width);
    op_test_add(t, ROPE_QK, "qk", ROLE_OUTPUT, D(ROPE_T), width);
    op_test_add(t, ROPE_RSTD, "rstd", ROLE_SAVED, D(ROPE_T), D(ROPE_HQ) + D(ROPE_HK));
    op_test_add(t, ROPE_WQ, "wq", D(ROPE_HAS_NORM) ? ROLE_PARAM : ROLE_FIXED, 1, D(ROPE_D));
    op_test_add(t, ROPE_WK, "wk", D(ROPE_HAS_NORM) ? ROLE_PARAM : ROLE_FIXED, 1, D(ROPE_D));
    int32_t *positions = op_test_add_ints(t, ROPE_POSITIONS, D(ROPE_T));
    for (int64_t r = 0; r < D(ROPE_T); r++) positions[r] = (int32_t)(r % 7);
    rope_table(op_test_add_table(t, 7 * D(ROPE_ROTARY)), 7, (int)D(ROPE_ROTARY), 100);
}

static void qk_rope_reference(OpTest *t) {
    int64_t n = D(ROPE_D), half = D(ROPE_ROTARY) / 2, heads = D(ROPE_HQ) + D(ROPE_HK);
    for (int64_t r = 0; r < D(ROPE_T); r++)
        for (int64_t h = 0; h < heads; h++) {
            const double *x = V(ROPE_QKV) + (r * heads + h) * n,
                         *w = h < D(ROPE_HQ) ? V(ROPE_WQ) : V(ROPE_WK);
            double *y = V(ROPE_QK) + (r * heads + h) * n, squares = 0;
            for (int64_t i = 0; i < n; i++) squares += x[i] * x[i] / (double)n;
            double scale = 1 / sqrt(squares + (double)EPS);
            for (int64_t i = 0; i < n; i++) y[i] = D(ROPE_HAS_NORM) ? x[i] * scale * w[i] : x[i];
            for (int64_t i = 0; i < half; i++) {
                double angle = (double)t->ints[ROPE_POSITIONS][r] *
                               pow(100, -2.0 * (double)i / (double)D(ROPE_ROTARY));
                double a = y[i], b = y[half + i];
                y[i] = a * cos(angle) - b * sin(angle);
                y[half + i] = b * cos(angle) + a * sin(angle);
            }
        }
}

static void qk_rope_forward(Exec *ex, OpTest *t) {
    RopeSpec spec = rope_spec(t);
    op_qk_rope_fwd(ex, T(ROPE_QK), D(ROPE_HAS_NORM) ? T(ROPE_RSTD) : tensor_none(), T(ROPE_QKV),
                   D(ROPE_HAS_NORM) ? T(ROPE_WQ) : tensor_none(),
                   D(ROPE_HAS_NORM) ? T(ROPE_WK) : tensor_none(), &spec);
}

static void qk_rope_backward(Exec *ex, OpTest *t) {
    RopeSpec spec = rope_spec(t);
    Tensor none = tensor_none();
    op_qk_rope_bwd(ex, G(ROPE_QKV), D(ROPE_HAS_NORM) ? G(ROPE_WQ) : none,
                   D(ROPE_HAS_NORM) ? G(ROPE_WK) : none, G(ROPE_QK), T(ROPE_QKV),
                   D(ROPE_HAS_NORM) ? T(ROPE_RSTD) : none, D(ROPE_HAS_NORM) ? T(ROPE_WQ) : none,
                   D(ROPE_HAS_NORM) ? T(ROPE_WK) : none, &spec);
}

/* ---- act, glu ---- */

static double act_value(Activation kind, double x) {
    switch (kind) {
    case ACTIVATION_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case ACTIVATION_GELU: return 0.5 * x * (1 + erf(x / sqrt(2)));
    case ACTIVATION_QUICK_GELU: return x / (1 + exp(-1.702 * x));
    case ACTIVATION_SILU: return x / (1 + exp(-x));
    }
    return NAN;
}

enum { ACT_T, ACT_C, ACT_KIND }; /* sizes */
enum { ACT_X, ACT_OUT };

static void act_setup(OpTest *t) {
    Operand *x = op_test_add(t, ACT_X, "x", ROLE_INPUT, D(ACT_T), D(ACT_C));
    x->low = -5;
    x->high = 5;
    op_test_add(t, ACT_OUT, "out", ROLE_OUTPUT, D(ACT_T), D(ACT_C));
}

static void act_reference(OpTest *t) {
    for (int64_t i = 0; i < D(ACT_T) * D(ACT_C); i++)
        V(ACT_OUT)[i] = act_value((Activation)D(ACT_KIND), V(ACT_X)[i]);
}

static void act_forward(Exec *ex, OpTest *t) {
    op_act_fwd(ex, T(ACT_OUT), T(ACT_X), (Activation)D(ACT_KIND));
}

static void act_backward(Exec *ex, OpTest *t) {
    op_act_bwd(ex, G(ACT_X), G(ACT_OUT), T(ACT_X), (Activation)D(ACT_KIND));
}

/* ---- linear_act ---- */

enum { LA_T, LA_N, LA_K, LA_KIND }; /* sizes */
enum { LA_X, LA_W, LA_BIAS, LA_G, LA_F };

static void linear_act_setup(OpTest *t) {
    op_test_add(t, LA_X, "x", ROLE_INPUT, D(LA_T), D(LA_K));
    op_test_add(t, LA_W, "w", ROLE_PARAM, D(LA_N), D(LA_K));
    op_test_add(t, LA_BIAS, "bias", ROLE_PARAM, 1, D(LA_N));
    op_test_add(t, LA_G, "g", ROLE_OUTPUT, D(LA_T), D(LA_N));
    op_test_add(t, LA_F, "f", ROLE_SAVED, D(LA_T), D(LA_N))->compute = true;
}

static void linear_act_reference(OpTest *t) {
    for (int64_t r = 0; r < D(LA_T); r++)
        for (int64_t n = 0; n < D(LA_N); n++) {
            double sum = V(LA_BIAS)[n];
            for (int64_t k = 0; k < D(LA_K); k++)
                sum += V(LA_X)[r * D(LA_K) + k] * V(LA_W)[n * D(LA_K) + k];
            V(LA_G)[r * D(LA_N) + n] = act_value((Activation)D(LA_KIND), sum);
        }
}

static void linear_act_forward(Exec *ex, OpTest *t) {
    op_linear_act_fwd(ex, T(LA_G), T(LA_F), T(LA_X), T(LA_W), T(LA_BIAS), (Activation)D(LA_KIND));
}

static void linear_act_forward_alone(Exec *ex, OpTest *t) {
    op_linear_act_fwd(ex, T(LA_G), tensor_none(), T(LA_X), T(LA_W), T(LA_BIAS),
                      (Activation)D(LA_KIND));
}

static void linear_act_backward(Exec *ex, OpTest *t) {
    op_act_bwd(ex, G(LA_F), G(LA_G), T(LA_F), (Activation)D(LA_KIND));
    op_linear_bwd_x(ex, G(LA_X), G(LA_F), T(LA_W), false);
    op_linear_bwd_w(ex, G(LA_W), G(LA_BIAS), G(LA_F), T(LA_X));
}

static void glu_setup(OpTest *t) {
    Operand *x = op_test_add(t, ACT_X, "x", ROLE_INPUT, D(ACT_T), 2 * D(ACT_C));
    x->low = -5;
    x->high = 5;
    op_test_add(t, ACT_OUT, "out", ROLE_OUTPUT, D(ACT_T), D(ACT_C));
}

static void glu_reference(OpTest *t) {
    int64_t n = D(ACT_C);
    for (int64_t r = 0; r < D(ACT_T); r++) {
        const double *gate = V(ACT_X) + 2 * r * n, *up = gate + n;
        double *out = V(ACT_OUT) + r * n;
        for (int64_t i = 0; i < n; i++)
            out[i] = act_value((Activation)D(ACT_KIND), gate[i]) * up[i];
    }
}

static void glu_forward(Exec *ex, OpTest *t) {
    op_glu_fwd(ex, T(ACT_OUT), T(ACT_X), (Activation)D(ACT_KIND));
}

static void glu_backward(Exec *ex, OpTest *t) {
    op_glu_bwd(ex, G(ACT_X), G(ACT_OUT), T(ACT_X), (Activation)D(ACT_KIND));
}

/* ---- patchify ---- */

enum { PATCHIFY_IMAGES, PATCHIFY_SIZE, PATCHIFY_CHANNELS, PATCHIFY_PATCH }; /* sizes */
enum { PATCHIFY_OUT };

static PatchSpec patch_spec(const OpTest *t) {
    return (PatchSpec){.images = (int)D(PATCHIFY_IMAGES),
                       .image_size = (int)D(PATCHIFY_SIZE),
                       .channels = (int)D(PATCHIFY_CHANNELS),
                       .patch = (int)D(PATCHIFY_PATCH),
                       .mean = {0.48f, 0.46f, 0.41f},
                       .std = {0.27f, 0.26f, 0.28f}};
}

static void patchify_setup(OpTest *t) {
    int64_t side = D(PATCHIFY_SIZE) / D(PATCHIFY_PATCH),
            count = D(PATCHIFY_IMAGES) * D(PATCHIFY_SIZE) * D(PATCHIFY_SIZE) * D(PATCHIFY_CHANNELS);
    op_test_add(t, PATCHIFY_OUT, "patches", ROLE_OUTPUT, D(PATCHIFY_IMAGES) * side * side,
                D(PATCHIFY_CHANNELS) * D(PATCHIFY_PATCH) * D(PATCHIFY_PATCH));
    op_test_add_bytes(t, count);
    for (int64_t i = 0; i < count; i++) t->bytes[i] = (uint8_t)(i * 31 + i / 256);
}

static void patchify_reference(OpTest *t) {
    PatchSpec spec = patch_spec(t);
    int64_t size = D(PATCHIFY_SIZE), channels = D(PATCHIFY_CHANNELS), patch = D(PATCHIFY_PATCH),
            side = size / patch, width = channels * patch * patch;
    for (int64_t r = 0; r < D(PATCHIFY_IMAGES) * side * side; r++)
        for (int64_t i = 0; i < width; i++) {
            int64_t c = i / (patch * patch), y = r / side % side * patch + i / patch % patch,
                    x = r % side * patch + i % patch;
            double pixel =
                t->bytes[((r / (side * side) * size + y) * size + x) * channels + c] / 255.0;
            V(PATCHIFY_OUT)[r * width + i] = (pixel - (double)spec.mean[c]) / (double)spec.std[c];
        }
}

static void patchify_forward(Exec *ex, OpTest *t) {
    PatchSpec spec = patch_spec(t);
    op_patchify(ex, T(PATCHIFY_OUT), t->device_bytes, &spec);
}

/* ---- positions ---- */

enum { POS_PICTURES, POS_P, POS_C }; /* sizes */
enum { POS_TABLE, POS_X, POS_OUT };

static void positions_setup(OpTest *t) {
    op_test_add(t, POS_TABLE, "table", ROLE_PARAM, D(POS_P), D(POS_C));
    op_test_add(t, POS_X, "x", ROLE_FIXED, D(POS_PICTURES) * D(POS_P), D(POS_C));
    op_test_add(t, POS_OUT, "out", ROLE_OUTPUT, D(POS_PICTURES) * D(POS_P), D(POS_C));
}

static void positions_reference(OpTest *t) {
    for (int64_t i = 0; i < D(POS_PICTURES) * D(POS_P) * D(POS_C); i++)
        V(POS_OUT)[i] = V(POS_X)[i] + V(POS_TABLE)[i % (D(POS_P) * D(POS_C))];
}

static void positions_prepare(OpTest *t, bool backward) {
    if (!backward) copy_values(HOST_T(POS_OUT), HOST_T(POS_X));
}

static void positions_forward(Exec *ex, OpTest *t) {
    op_add_positions(ex, T(POS_OUT), T(POS_TABLE));
}

static void positions_backward(Exec *ex, OpTest *t) {
    op_add_positions_bwd(ex, G(POS_TABLE), G(POS_OUT));
}

/* ---- embed ---- */

enum { EMBED_T, EMBED_V, EMBED_C, EMBED_FEATURES }; /* sizes */
enum { EMBED_TABLE, EMBED_ROWS, EMBED_OUT };
enum { EMBED_IDS }; /* index arrays */

static void embed_setup(OpTest *t) {
    op_test_add(t, EMBED_TABLE, "table", ROLE_PARAM, D(EMBED_V), D(EMBED_C));
    op_test_add(t, EMBED_ROWS, "features", ROLE_INPUT, D(EMBED_FEATURES), D(EMBED_C));
    op_test_add(t, EMBED_OUT, "out", ROLE_OUTPUT, D(EMBED_T), D(EMBED_C));
    int32_t *ids = op_test_add_ints(t, EMBED_IDS, D(EMBED_T));
    for (int64_t r = 0; r < D(EMBED_T); r++)
        ids[r] = r < D(EMBED_FEATURES) ? (int32_t)(-1 - r) : (int32_t)(r * 7 % D(EMBED_V));
}

static void embed_reference(OpTest *t) {
    for (int64_t r = 0; r < D(EMBED_T); r++)
        for (int64_t c = 0; c < D(EMBED_C); c++) {
            int32_t id = t->ints[EMBED_IDS][r];
            V(EMBED_OUT)
            [r * D(EMBED_C) + c] = id >= 0 ? V(EMBED_TABLE)[id * D(EMBED_C) + c]
                                           : V(EMBED_ROWS)[(-1 - id) * D(EMBED_C) + c];
        }
}

static void embed_forward(Exec *ex, OpTest *t) {
    op_embed_fwd(ex, T(EMBED_OUT), I(EMBED_IDS), T(EMBED_TABLE),
                 D(EMBED_FEATURES) ? T(EMBED_ROWS) : tensor_none());
}

static void embed_backward(Exec *ex, OpTest *t) {
    op_embed_bwd(ex, G(EMBED_TABLE), D(EMBED_FEATURES) ? G(EMBED_ROWS) : tensor_none(),
                 G(EMBED_OUT), I(EMBED_IDS));
}

/* ---- gather (backward ---- */

enum { GATHER_T, GATHER_C, GATHER_TAKEN }; /* sizes */
enum { GATHER_X, GATHER_OUT };
enum { GATHER_ROWS }; /* index arrays */

static void gather_setup(OpTest *t) {
    op_test_add(t, GATHER_X, "x", ROLE_INPUT, D(GATHER_T), D(GATHER_C));
    op_test_add(t, GATHER_OUT, "out", ROLE_OUTPUT, D(GATHER_TAKEN), D(GATHER_C));
    int32_t *rows = op_test_add_ints(t, GATHER_ROWS, D(GATHER_TAKEN));
    for (int64_t i = 0; i < D(GATHER_TAKEN); i++)
        rows[i] = (int32_t)(i * D(GATHER_T) / D(GATHER_TAKEN));
}

static void gather_reference(OpTest *t) {
    for (int64_t i = 0; i < D(GATHER_TAKEN); i++)
        for (int64_t c = 0; c < D(GATHER_C); c++) V(GATHER_OUT)
    [i * D(GATHER_C) + c] = V(GATHER_X)[t->ints[GATHER_ROWS][i] * D(GATHER_C) + c];
}

static void gather_forward(Exec *ex, OpTest *t) {
    op_gather_rows(ex, T(GATHER_OUT), T(GATHER_X), I(GATHER_ROWS));
}

static void gather_backward(Exec *ex, OpTest *t) {
    op_scatter_rows(ex, G(GATHER_X), G(GATHER_OUT), I(GATHER_ROWS));
}

/* ---- cross_entropy ---- */

/* As fp16's loss scale would be, but small: the gradient is that of so many times the loss. */
static const float LOSS_FACTOR = 0.375f;

enum { CE_T, CE_V }; /* sizes */
enum { CE_LOGITS, CE_LOSS, CE_HITS, CE_FACTOR };
enum { CE_TARGETS }; /* index arrays */

static void cross_entropy_setup(OpTest *t) {
    Operand *logits = op_test_add(t, CE_LOGITS, "logits", ROLE_INPUT, D(CE_T), D(CE_V));
    logits->low = -4;
    logits->high = 4;
    op_test_add_f32(t, CE_LOSS, "loss", ROLE_OUTPUT, 1, D(CE_T));
    op_test_add_f32(t, CE_HITS, "hits", ROLE_OUTPUT, 1, D(CE_T));
    Operand *factor = op_test_add_f32(t, CE_FACTOR, "factor", ROLE_FIXED, 1, 1);
    factor->low = factor->high = (double)LOSS_FACTOR;
    int32_t *targets = op_test_add_ints(t, CE_TARGETS, D(CE_T));
    for (int64_t r = 0; r < D(CE_T); r++) targets[r] = (int32_t)(r * 13 % D(CE_V));
}

static void cross_entropy_reference(OpTest *t) {
    for (int64_t r = 0; r < D(CE_T); r++) {
        double sum = 0, target = V(CE_LOGITS)[r * D(CE_V) + t->ints[CE_TARGETS][r]], top = target;
        for (int64_t i = 0; i < D(CE_V); i++) {
            sum += exp(V(CE_LOGITS)[r * D(CE_V) + i]);
            top = fmax(top, V(CE_LOGITS)[r * D(CE_V) + i]);
        }
        V(CE_LOSS)[r] = log(sum) - target;
        V(CE_HITS)[r] = target >= top ? 1 : 0;
    }
}

static void cross_entropy_forward(Exec *ex, OpTest *t) {
    op_cross_entropy(ex, T(CE_LOSS), T(CE_HITS), T(CE_LOGITS), I(CE_TARGETS), NULL);
}

/* The gradient is that of the sum of losses: the losses' gradients are all the factor. */
static void cross_entropy_prepare(OpTest *t, bool backward) {
    if (!backward) return;
    tensor_fill(HOST_G(CE_LOSS), (double)LOSS_FACTOR);
    tensor_fill(HOST_G(CE_HITS), 0);
    copy_values(HOST_G(CE_LOGITS), HOST_T(CE_LOGITS));
}

static void cross_entropy_backward(Exec *ex, OpTest *t) {
    op_cross_entropy(ex, T(CE_LOSS), tensor_none(), G(CE_LOGITS), I(CE_TARGETS), T(CE_FACTOR).data);
}

/* ---- convert ---- */

enum { CONV_T, CONV_C }; /* sizes */
enum { CONV_SRC, CONV_DST };

static void convert_setup(OpTest *t) {
    op_test_add_f32(t, CONV_SRC, "src", ROLE_FIXED, D(CONV_T), D(CONV_C));
    op_test_add(t, CONV_DST, "dst", ROLE_OUTPUT, D(CONV_T), D(CONV_C));
}

static void convert_reference(OpTest *t) {
    for (int64_t i = 0; i < D(CONV_T) * D(CONV_C); i++) V(CONV_DST)[i] = rounded(t, V(CONV_SRC)[i]);
}

static void convert_forward(Exec *ex, OpTest *t) {
    op_convert(ex, T(CONV_DST), T(CONV_SRC));
}

/* ---- the table ---- */

const OpKind op_kinds_rows[] = {
    {"rmsnorm", rmsnorm_setup, rmsnorm_reference, rmsnorm_forward, rmsnorm_backward,
     .prepare = norm_prepare, .finish = norm_finish},
    {"layernorm", layernorm_setup, layernorm_reference, layernorm_forward, layernorm_backward,
     .prepare = norm_prepare, .finish = norm_finish},
    {"scale", scale_setup, scale_reference, scale_forward, NULL, .flops = NULL},
    {"dropout", dropout_setup, dropout_reference, dropout_forward, dropout_backward, .flops = NULL},
    {"add", add_setup, add_reference, add_forward, NULL, .flops = NULL},
    {"qk_rope", qk_rope_setup, qk_rope_reference, qk_rope_forward, qk_rope_backward, .flops = NULL},
    {"act", act_setup, act_reference, act_forward, act_backward, .flops = NULL},
    {"linear_act", linear_act_setup, linear_act_reference, linear_act_forward, linear_act_backward,
     .flops = NULL},
    {"linear_act_alone", linear_act_setup, linear_act_reference, linear_act_forward_alone, NULL,
     .flops = NULL},
    {"glu", glu_setup, glu_reference, glu_forward, glu_backward, .flops = NULL},
    {"patchify", patchify_setup, patchify_reference, patchify_forward, NULL, .flops = NULL},
    {"positions", positions_setup, positions_reference, positions_forward, positions_backward,
     .prepare = positions_prepare},
    {"embed", embed_setup, embed_reference, embed_forward, embed_backward, .flops = NULL},
    {"gather", gather_setup, gather_reference, gather_forward, gather_backward, .flops = NULL},
    {"cross_entropy", cross_entropy_setup, cross_entropy_reference, cross_entropy_forward,
     cross_entropy_backward, .prepare = cross_entropy_prepare},
    {"convert", convert_setup, convert_reference, convert_forward, NULL, .flops = NULL},
};
const int op_kinds_rows_count = sizeof op_kinds_rows / sizeof op_kinds_rows[0];
