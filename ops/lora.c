/* LoRA (Hu et al. 2021), alone and together with its linear: which products, for any backend.
 *
 * A linear [N,K] and its adapter are one matrix of [N + r, K + r], rows apart by one stride,
 *
 *     W [N,K]  B [N,r]
 *     A [r,K]  unused
 *
 * where the model has laid them so, x and xa are the columns of one [T, K + r], and dy and g those
 * of one [T, N + r]. Then y = [x xa] · [W B]ᵀ and, without dropout, dx = [dy g] · [W; A]: y and dx
 * are written once, where two products write them, read them and write them again. It is the same
 * product with another K; sums are rounded once less. */
#include "ops/checks.h"

/* Whether t's rows continue those of `left`. */
static bool is_behind(Tensor t, Tensor left) {
    return left.data && t.stride == left.stride && t.dtype == left.dtype &&
           t.data == (char *)left.data + (size_t)left.cols * dtype_size(left.dtype);
}

/* Whether t begins where the next row of `above` would. */
static bool is_below(Tensor t, Tensor above) {
    return above.data && t.stride == above.stride && t.dtype == above.dtype &&
           t.data ==
               (char *)above.data + (size_t)(above.rows * above.stride) * dtype_size(above.dtype);
}

static Tensor with_behind(Tensor left, Tensor right) {
    left.cols += right.cols;
    return left;
}

static Tensor with_below(Tensor above, Tensor below) {
    above.rows += below.rows;
    return above;
}

/* ---- forward ---- */

static void check_adapter(const Exec *ex, const char *op, int64_t rows, int64_t N, Tensor xa,
                          Tensor x, Tensor a, Tensor b, Dropout dropout) {
    check_compute(ex, op, x);
    check_shape(op, "x", x, rows, x.cols);
    check_shape(op, "a", a, a.rows, x.cols);
    check_shape(op, "b", b, N, a.rows);
    check_shape(op, "xa", xa, rows, a.rows);
    check_type(op, "xa", xa, x.dtype);
    check_type(op, "a", a, x.dtype);
    check_type(op, "b", b, x.dtype);
    CHECK(dropout.p >= 0 && dropout.p < 1, "%s: dropout %g", op, (double)dropout.p);
}

/* xa = scale · dropout(x) · aᵀ. */
static void down(Exec *ex, Tensor xa, Tensor x, Tensor a, float scale, Dropout dropout) {
    if (dropout.p > 0)
        ex->backend->lora_xa(ex, xa, x, a, scale, dropout);
    else
        ex->backend->product(ex, xa, x, a, true, scale, false);
}

void op_lora_fwd(Exec *ex, Tensor y, Tensor xa, Tensor x, Tensor a, Tensor b, float scale,
                 Dropout dropout) {
    check_adapter(ex, __func__, y.rows, y.cols, xa, x, a, b, dropout);
    if (!x.rows || !runs(ex)) return;
    down(ex, xa, x, a, scale, dropout);
    ex->backend->product(ex, y, xa, b, true, 1, true);
}

void op_lora_down(Exec *ex, Tensor xa, Tensor x, Tensor a, float scale, Dropout dropout) {
    check_compute(ex, __func__, x);
    SHAPE(a, a.rows, x.cols);
    SHAPE(xa, x.rows, a.rows);
    TYPE(xa, x.dtype);
    TYPE(a, x.dtype);
    if (x.rows && runs(ex)) down(ex, xa, x, a, scale, dropout);
}

void op_linear_lora_fwd(Exec *ex, Tensor y, Tensor xa, Tensor x, Tensor w, Tensor bias, Tensor a,
                        Tensor b, float scale, Dropout dropout) {
    check_adapter(ex, __func__, y.rows, y.cols, xa, x, a, b, dropout);
    SHAPE(w, y.cols, x.cols);
    OPTIONAL(bias, 1, y.cols);
    TYPE(w, x.dtype);
    TYPE(bias, x.dtype);
    if (!x.rows || !runs(ex)) return;
    down(ex, xa, x, a, scale, dropout);
    if (is_behind(xa, x) && is_behind(b, w)) {
        ex->backend->linear_fwd(ex, y, with_behind(x, xa), with_behind(w, b), bias);
    } else {
        ex->backend->linear_fwd(ex, y, x, w, bias);
        ex->backend->product(ex, y, xa, b, true, 1, true);
    }
}

/* ---- backward ---- */

static void check_gradients(const char *op, Tensor dx, Tensor da, Tensor db, Tensor g, Tensor dy,
                            Tensor x, Tensor a) {
    check_optional(op, "dx", dx, x.rows, x.cols);
    check_shape(op, "da", da, a.rows, x.cols);
    check_shape(op, "db", db, dy.cols, a.rows);
    check_shape(op, "g", g, x.rows, a.rows);
    check_type(op, "dx", dx, x.dtype);
    check_type(op, "da", da, DT_F32);
    check_type(op, "db", db, DT_F32);
    check_type(op, "g", g, x.dtype);
    check_type(op, "dy", dy, x.dtype);
}

/* g = scale · dy · b;  db += dyᵀ · xa;  da += gᵀ · dropout(x). */
static void adapter_bwd(Exec *ex, Tensor da, Tensor db, Tensor g, Tensor dy, Tensor xa, Tensor x,
                        Tensor b, float scale, Dropout dropout) {
    ex->backend->product(ex, g, dy, b, false, scale, false);
    ex->backend->linear_bwd_w(ex, db, tensor_none(), dy, xa);
    if (dropout.p > 0)
        ex->backend->lora_da(ex, da, g, x, dropout);
    else
        ex->backend->linear_bwd_w(ex, da, tensor_none(), g, x);
}

/* dx += dropout'(g · a). */
static void add_dx(Exec *ex, Tensor dx, Tensor g, Tensor a, Dropout dropout) {
    if (dropout.p > 0)
        ex->backend->lora_dx(ex, dx, g, a, dropout);
    else
        ex->backend->product(ex, dx, g, a, false, 1, true);
}

void op_lora_bwd(Exec *ex, Tensor dx, Tensor da, Tensor db, Tensor g, Tensor dy, Tensor xa,
                 Tensor x, Tensor a, Tensor b, float scale, Dropout dropout) {
    check_adapter(ex, __func__, dy.rows, dy.cols, xa, x, a, b, dropout);
    check_gradients(__func__, dx, da, db, g, dy, x, a);
    if (!x.rows || !runs(ex)) return;
    adapter_bwd(ex, da, db, g, dy, xa, x, b, scale, dropout);
    if (!tensor_is_none(dx)) add_dx(ex, dx, g, a, dropout);
}

void op_linear_lora_bwd(Exec *ex, Tensor dx, bool accumulate, Tensor da, Tensor db, Tensor g,
                        Tensor dy, Tensor xa, Tensor x, Tensor w, Tensor a, Tensor b, float scale,
                        Dropout dropout) {
    check_adapter(ex, __func__, dy.rows, dy.cols, xa, x, a, b, dropout);
    check_gradients(__func__, dx, da, db, g, dy, x, a);
    SHAPE(w, dy.cols, x.cols);
    TYPE(w, x.dtype);
    if (!x.rows || !runs(ex)) return;
    adapter_bwd(ex, da, db, g, dy, xa, x, b, scale, dropout);
    if (tensor_is_none(dx)) return;
    if (dropout.p == 0 && is_behind(g, dy) && is_below(a, w)) {
        ex->backend->product(ex, dx, with_behind(dy, g), with_below(w, a), false, 1, accumulate);
    } else {
        ex->backend->product(ex, dx, dy, w, false, 1, accumulate);
        add_dx(ex, dx, g, a, dropout);
    }
}

/* ---- merging ---- */

void op_lora_merge(Exec *ex, Tensor w, Tensor a, Tensor b, float scale) {
    SHAPE(a, a.rows, w.cols);
    SHAPE(b, w.rows, a.rows);
    TYPE(w, DT_F32);
    TYPE(a, DT_F32);
    TYPE(b, DT_F32);
    if (w.rows && runs(ex)) ex->backend->product(ex, w, b, a, false, scale, true);
}
