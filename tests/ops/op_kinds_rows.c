/* The reference implementation of operations on rows: plain loops in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "tests/ops/op_reference.h"

/* ---- norms: T C delta? (rmsnorm: offset) ---- */

static const float EPS = 1e-5f;

static void norm_setup(OpTest *t, bool bias) {
    op_test_add(t, "h", ROLE_INPUT, D(0), D(1));
    op_test_add(t, "w", ROLE_PARAM, 1, D(1));
    op_test_add(t, "out", ROLE_OUTPUT, D(0), D(1));
    op_test_add(t, "stats", ROLE_SAVED, D(0), bias ? 2 : 1);
    op_test_add(t, "sum", D(2) ? ROLE_OUTPUT : ROLE_FIXED, D(0), D(1));
    op_test_add(t, "delta", D(2) ? ROLE_INPUT : ROLE_FIXED, D(0), D(1));
    if (bias) op_test_add(t, "bias", ROLE_PARAM, 1, D(1));
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
    int64_t n = D(1);
    for (int64_t r = 0; r < D(0); r++) {
        double *x = V(4) + r * n, mean = 0, squares = 0;
        for (int64_t i = 0; i < n; i++) {
            x[i] = D(2) ? V(0)[r * n + i] + V(5)[r * n + i] : V(0)[r * n + i];
            mean += centred ? x[i] / (double)n : 0;
        }
        for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean) / (double)n;
        double scale = 1 / sqrt(squares + (double)EPS);
        for (int64_t i = 0; i < n; i++) V(2)
        [r * n + i] = (x[i] - mean) * scale * ((double)D(3) + V(1)[i]) + (centred ? V(6)[i] : 0);
    }
}

static void rmsnorm_reference(OpTest *t) {
    norm_reference(t, false);
}

static void layernorm_reference(OpTest *t) {
    norm_reference(t, true);
}

static void rmsnorm_forward(Exec *ex, OpTest *t) {
    op_rmsnorm_fwd(ex, T(2), D(2) ? T(4) : tensor_none(), T(3), T(0), D(2) ? T(5) : tensor_none(),
                   T(1), (float)D(3), EPS);
}

static void layernorm_forward(Exec *ex, OpTest *t) {
    op_layernorm_fwd(ex, T(2), D(2) ? T(4) : tensor_none(), T(3), T(0), D(2) ? T(5) : tensor_none(),
                     T(1), T(6), EPS);
}

static void copy_values(Tensor to, Tensor from) {
    for (int64_t r = 0; r < to.rows; r++)
        for (int64_t c = 0; c < to.cols; c++) tensor_set(to, r, c, tensor_get(from, r, c));
}

/* With delta, the gradient of sum arrives from above and both h and delta get the total. */
static void norm_prepare(OpTest *t, bool backward) {
    if (backward && D(2)) copy_values(HOST_G(0), HOST_G(4));
}

static void norm_finish(OpTest *t) {
    if (D(2)) copy_values(HOST_G(5), HOST_G(0));
}

static void rmsnorm_backward(Exec *ex, OpTest *t) {
    op_rmsnorm_bwd(ex, G(0), D(2) != 0, G(1), G(2), D(2) ? T(4) : T(0), T(3), T(1), (float)D(3));
}

static void layernorm_backward(Exec *ex, OpTest *t) {
    op_layernorm_bwd(ex, G(0), D(2) != 0, G(1), G(6), G(2), D(2) ? T(4) : T(0), T(3), T(1));
}

/* ---- add: T C ---- */

static void add_setup(OpTest *t) {
    op_test_add(t, "a", ROLE_FIXED, D(0), D(1));
    op_test_add(t, "b", ROLE_FIXED, D(0), D(1));
    op_test_add(t, "out", ROLE_OUTPUT, D(0), D(1));
}

static void add_reference(OpTest *t) {
    for (int64_t i = 0; i < D(0) * D(1); i++) V(2)[i] = V(0)[i] + V(1)[i];
}

static void add_forward(Exec *ex, OpTest *t) {
    op_add(ex, T(2), T(0), T(1));
}

/* ---- scale: T C ---- */

static const float FACTOR = 45.25f;

static void scale_setup(OpTest *t) {
    op_test_add(t, "x", ROLE_FIXED, D(0), D(1));
    op_test_add(t, "out", ROLE_OUTPUT, D(0), D(1));
}

static void scale_reference(OpTest *t) {
    for (int64_t i = 0; i < D(0) * D(1); i++) V(1)[i] = (double)FACTOR * V(0)[i];
}

static void scale_forward(Exec *ex, OpTest *t) {
    op_scale(ex, T(1), T(0), FACTOR);
}

/* ---- dropout: T C percent ---- */

static Dropout row_dropout(const OpTest *t) {
    return (Dropout){.p = (float)D(2) / 100, .key = rng_key(11, RNG_DROPOUT)};
}

static void dropout_setup(OpTest *t) {
    op_test_add(t, "x", ROLE_INPUT, D(0), D(1));
    op_test_add(t, "out", ROLE_OUTPUT, D(0), D(1));
}

static void dropout_reference(OpTest *t) {
    Dropout dropout = row_dropout(t);
    uint16_t threshold = rng_mask_threshold(dropout.p), numbers[8];
    for (int64_t r = 0; r < D(0); r++)
        for (int64_t c = 0; c < D(1); c++) {
            rng_mask(numbers, dropout.key, (uint64_t)r, (uint64_t)(c / 8));
            bool kept = numbers[c % 8] >= threshold;
            V(1)[r * D(1) + c] = kept ? V(0)[r * D(1) + c] / (1.0 - (double)dropout.p) : 0;
        }
}

static void dropout_forward(Exec *ex, OpTest *t) {
    op_dropout(ex, T(1), T(0), row_dropout(t), false);
}

static void dropout_backward(Exec *ex, OpTest *t) {
    op_dropout(ex, G(0), G(1), row_dropout(t), false);
}

/* ---- qk_rope: T Hq Hk D rotary norm? ---- */

static RopeSpec rope_spec(const OpTest *t) {
    return (RopeSpec){.heads_q = (int)D(1),
                      .heads_k = (int)D(2),
                      .head_dim = (int)D(3),
                      .rotary_dim = (int)D(4),
                      .table = t->device_table,
                      .positions = I(0),
                      .eps = EPS};
}

static void qk_rope_setup(OpTest *t) {
    int64_t width = (D(1) + D(2)) * D(3);
    op_test_add(t, "qkv", ROLE_INPUT, D(0), width);
    op_test_add(t, "qk", ROLE_OUTPUT, D(0), width);
    op_test_add(t, "rstd", ROLE_SAVED, D(0), D(1) + D(2));
    op_test_add(t, "wq", D(5) ? ROLE_PARAM : ROLE_FIXED, 1, D(3));
    op_test_add(t, "wk", D(5) ? ROLE_PARAM : ROLE_FIXED, 1, D(3));
    int32_t *positions = op_test_add_ints(t, 0, D(0));
    for (int64_t r = 0; r < D(0); r++) positions[r] = (int32_t)(r % 7);
    rope_table(op_test_add_table(t, 7 * D(4)), 7, (int)D(4), 100);
}

static void qk_rope_reference(OpTest *t) {
    int64_t n = D(3), half = D(4) / 2, heads = D(1) + D(2);
    for (int64_t r = 0; r < D(0); r++)
        for (int64_t h = 0; h < heads; h++) {
            const double *x = V(0) + (r * heads + h) * n, *w = h < D(1) ? V(3) : V(4);
            double *y = V(1) + (r * heads + h) * n, squares = 0;
            for (int64_t i = 0; i < n; i++) squares += x[i] * x[i] / (double)n;
            double scale = 1 / sqrt(squares + (double)EPS);
            for (int64_t i = 0; i < n; i++) y[i] = D(5) ? x[i] * scale * w[i] : x[i];
            for (int64_t i = 0; i < half; i++) {
                double angle = (double)t->ints[0][r] * pow(100, -2.0 * (double)i / (double)D(4));
                double a = y[i], b = y[half + i];
                y[i] = a * cos(angle) - b * sin(angle);
                y[half + i] = b * cos(angle) + a * sin(angle);
            }
        }
}

static void qk_rope_forward(Exec *ex, OpTest *t) {
    RopeSpec spec = rope_spec(t);
    op_qk_rope_fwd(ex, T(1), D(5) ? T(2) : tensor_none(), T(0), D(5) ? T(3) : tensor_none(),
                   D(5) ? T(4) : tensor_none(), &spec);
}

static void qk_rope_backward(Exec *ex, OpTest *t) {
    RopeSpec spec = rope_spec(t);
    Tensor none = tensor_none();
    op_qk_rope_bwd(ex, G(0), D(5) ? G(3) : none, D(5) ? G(4) : none, G(1), T(0), D(5) ? T(2) : none,
                   D(5) ? T(3) : none, D(5) ? T(4) : none, &spec);
}

/* ---- act, glu: T C kind ---- */

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

static void act_setup(OpTest *t) {
    Operand *x = op_test_add(t, "x", ROLE_INPUT, D(0), D(1));
    x->low = -5;
    x->high = 5;
    op_test_add(t, "out", ROLE_OUTPUT, D(0), D(1));
}

static void act_reference(OpTest *t) {
    for (int64_t i = 0; i < D(0) * D(1); i++) V(1)[i] = act_value((Activation)D(2), V(0)[i]);
}

static void act_forward(Exec *ex, OpTest *t) {
    op_act_fwd(ex, T(1), T(0), (Activation)D(2));
}

static void act_backward(Exec *ex, OpTest *t) {
    op_act_bwd(ex, G(0), G(1), T(0), (Activation)D(2));
}

/* ---- linear_act: T N K kind: a product and its activation; _alone: nothing is kept ---- */

enum { LA_X, LA_W, LA_BIAS, LA_G, LA_F };

static void linear_act_setup(OpTest *t) {
    op_test_add(t, "x", ROLE_INPUT, D(0), D(2));
    op_test_add(t, "w", ROLE_PARAM, D(1), D(2));
    op_test_add(t, "bias", ROLE_PARAM, 1, D(1));
    op_test_add(t, "g", ROLE_OUTPUT, D(0), D(1));
    op_test_add(t, "f", ROLE_SAVED, D(0), D(1))->compute = true;
}

static void linear_act_reference(OpTest *t) {
    for (int64_t r = 0; r < D(0); r++)
        for (int64_t n = 0; n < D(1); n++) {
            double sum = V(LA_BIAS)[n];
            for (int64_t k = 0; k < D(2); k++) sum += V(LA_X)[r * D(2) + k] * V(LA_W)[n * D(2) + k];
            V(LA_G)[r * D(1) + n] = act_value((Activation)D(3), sum);
        }
}

static void linear_act_forward(Exec *ex, OpTest *t) {
    op_linear_act_fwd(ex, T(LA_G), T(LA_F), T(LA_X), T(LA_W), T(LA_BIAS), (Activation)D(3));
}

static void linear_act_forward_alone(Exec *ex, OpTest *t) {
    op_linear_act_fwd(ex, T(LA_G), tensor_none(), T(LA_X), T(LA_W), T(LA_BIAS), (Activation)D(3));
}

static void linear_act_backward(Exec *ex, OpTest *t) {
    op_act_bwd(ex, G(LA_F), G(LA_G), T(LA_F), (Activation)D(3));
    op_linear_bwd_x(ex, G(LA_X), G(LA_F), T(LA_W), false);
    op_linear_bwd_w(ex, G(LA_W), G(LA_BIAS), G(LA_F), T(LA_X));
}

static void glu_setup(OpTest *t) {
    Operand *x = op_test_add(t, "x", ROLE_INPUT, D(0), 2 * D(1));
    x->low = -5;
    x->high = 5;
    op_test_add(t, "out", ROLE_OUTPUT, D(0), D(1));
}

static void glu_reference(OpTest *t) {
    int64_t n = D(1);
    for (int64_t r = 0; r < D(0); r++) {
        const double *gate = V(0) + 2 * r * n, *up = gate + n;
        double *out = V(1) + r * n;
        for (int64_t i = 0; i < n; i++) out[i] = act_value((Activation)D(2), gate[i]) * up[i];
    }
}

static void glu_forward(Exec *ex, OpTest *t) {
    op_glu_fwd(ex, T(1), T(0), (Activation)D(2));
}

static void glu_backward(Exec *ex, OpTest *t) {
    op_glu_bwd(ex, G(0), G(1), T(0), (Activation)D(2));
}

/* ---- patchify: images size channels patch ---- */

static PatchSpec patch_spec(const OpTest *t) {
    return (PatchSpec){.images = (int)D(0),
                       .image_size = (int)D(1),
                       .channels = (int)D(2),
                       .patch = (int)D(3),
                       .mean = {0.48f, 0.46f, 0.41f},
                       .std = {0.27f, 0.26f, 0.28f}};
}

static void patchify_setup(OpTest *t) {
    int64_t side = D(1) / D(3), count = D(0) * D(1) * D(1) * D(2);
    op_test_add(t, "patches", ROLE_OUTPUT, D(0) * side * side, D(2) * D(3) * D(3));
    op_test_add_bytes(t, count);
    for (int64_t i = 0; i < count; i++) t->bytes[i] = (uint8_t)(i * 31 + i / 256);
}

static void patchify_reference(OpTest *t) {
    PatchSpec spec = patch_spec(t);
    int64_t size = D(1), channels = D(2), patch = D(3), side = size / patch,
            width = channels * patch * patch;
    for (int64_t r = 0; r < D(0) * side * side; r++)
        for (int64_t i = 0; i < width; i++) {
            int64_t c = i / (patch * patch), y = r / side % side * patch + i / patch % patch,
                    x = r % side * patch + i % patch;
            double pixel =
                t->bytes[((r / (side * side) * size + y) * size + x) * channels + c] / 255.0;
            V(0)[r * width + i] = (pixel - (double)spec.mean[c]) / (double)spec.std[c];
        }
}

static void patchify_forward(Exec *ex, OpTest *t) {
    PatchSpec spec = patch_spec(t);
    op_patchify(ex, T(0), t->device_bytes, &spec);
}

/* ---- positions: pictures P C ---- */

static void positions_setup(OpTest *t) {
    op_test_add(t, "table", ROLE_PARAM, D(1), D(2));
    op_test_add(t, "x", ROLE_FIXED, D(0) * D(1), D(2));
    op_test_add(t, "out", ROLE_OUTPUT, D(0) * D(1), D(2));
}

static void positions_reference(OpTest *t) {
    for (int64_t i = 0; i < D(0) * D(1) * D(2); i++) V(2)[i] = V(1)[i] + V(0)[i % (D(1) * D(2))];
}

static void positions_prepare(OpTest *t, bool backward) {
    if (!backward) copy_values(HOST_T(2), HOST_T(1));
}

static void positions_forward(Exec *ex, OpTest *t) {
    op_add_positions(ex, T(2), T(0));
}

static void positions_backward(Exec *ex, OpTest *t) {
    op_add_positions_bwd(ex, G(0), G(2));
}

/* ---- embed: T V C feature rows ---- */

static void embed_setup(OpTest *t) {
    op_test_add(t, "table", ROLE_PARAM, D(1), D(2));
    op_test_add(t, "features", ROLE_INPUT, D(3), D(2));
    op_test_add(t, "out", ROLE_OUTPUT, D(0), D(2));
    int32_t *ids = op_test_add_ints(t, 0, D(0));
    for (int64_t r = 0; r < D(0); r++)
        ids[r] = r < D(3) ? (int32_t)(-1 - r) : (int32_t)(r * 7 % D(1));
}

static void embed_reference(OpTest *t) {
    for (int64_t r = 0; r < D(0); r++)
        for (int64_t c = 0; c < D(2); c++) {
            int32_t id = t->ints[0][r];
            V(2)[r * D(2) + c] = id >= 0 ? V(0)[id * D(2) + c] : V(1)[(-1 - id) * D(2) + c];
        }
}

static void embed_forward(Exec *ex, OpTest *t) {
    op_embed_fwd(ex, T(2), I(0), T(0), D(3) ? T(1) : tensor_none());
}

static void embed_backward(Exec *ex, OpTest *t) {
    op_embed_bwd(ex, G(0), D(3) ? G(1) : tensor_none(), G(2), I(0));
}

/* ---- gather (backward: scatter): T C rows taken ---- */

static void gather_setup(OpTest *t) {
    op_test_add(t, "x", ROLE_INPUT, D(0), D(1));
    op_test_add(t, "out", ROLE_OUTPUT, D(2), D(1));
    int32_t *rows = op_test_add_ints(t, 0, D(2));
    for (int64_t i = 0; i < D(2); i++) rows[i] = (int32_t)(i * D(0) / D(2));
}

static void gather_reference(OpTest *t) {
    for (int64_t i = 0; i < D(2); i++)
        for (int64_t c = 0; c < D(1); c++) V(1)[i * D(1) + c] = V(0)[t->ints[0][i] * D(1) + c];
}

static void gather_forward(Exec *ex, OpTest *t) {
    op_gather_rows(ex, T(1), T(0), I(0));
}

static void gather_backward(Exec *ex, OpTest *t) {
    op_scatter_rows(ex, G(0), G(1), I(0));
}

/* ---- cross_entropy: rows V ---- */

/* As fp16's loss scale would be, but small: the gradient is that of so many times the loss. */
static const float LOSS_FACTOR = 0.375f;

static void cross_entropy_setup(OpTest *t) {
    Operand *logits = op_test_add(t, "logits", ROLE_INPUT, D(0), D(1));
    logits->low = -4;
    logits->high = 4;
    op_test_add_f32(t, "loss", ROLE_OUTPUT, 1, D(0));
    op_test_add_f32(t, "hits", ROLE_OUTPUT, 1, D(0));
    Operand *factor = op_test_add_f32(t, "factor", ROLE_FIXED, 1, 1);
    factor->low = factor->high = (double)LOSS_FACTOR;
    int32_t *targets = op_test_add_ints(t, 0, D(0));
    for (int64_t r = 0; r < D(0); r++) targets[r] = (int32_t)(r * 13 % D(1));
}

static void cross_entropy_reference(OpTest *t) {
    for (int64_t r = 0; r < D(0); r++) {
        double sum = 0, target = V(0)[r * D(1) + t->ints[0][r]], top = target;
        for (int64_t i = 0; i < D(1); i++) {
            sum += exp(V(0)[r * D(1) + i]);
            top = fmax(top, V(0)[r * D(1) + i]);
        }
        V(1)[r] = log(sum) - target;
        V(2)[r] = target >= top ? 1 : 0;
    }
}

static void cross_entropy_forward(Exec *ex, OpTest *t) {
    op_cross_entropy(ex, T(1), T(2), T(0), I(0), NULL);
}

/* The gradient is that of the sum of losses: the losses' gradients are all the factor. */
static void cross_entropy_prepare(OpTest *t, bool backward) {
    if (!backward) return;
    tensor_fill(HOST_G(1), (double)LOSS_FACTOR);
    tensor_fill(HOST_G(2), 0);
    copy_values(HOST_G(0), HOST_T(0));
}

static void cross_entropy_backward(Exec *ex, OpTest *t) {
    op_cross_entropy(ex, T(1), tensor_none(), G(0), I(0), T(3).data);
}

/* ---- convert: T C ---- */

static void convert_setup(OpTest *t) {
    op_test_add_f32(t, "src", ROLE_FIXED, D(0), D(1));
    op_test_add(t, "dst", ROLE_OUTPUT, D(0), D(1));
}

static void convert_reference(OpTest *t) {
    for (int64_t i = 0; i < D(0) * D(1); i++) V(1)[i] = rounded(t, V(0)[i]);
}

static void convert_forward(Exec *ex, OpTest *t) {
    op_convert(ex, T(1), T(0));
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
