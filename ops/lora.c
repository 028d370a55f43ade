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
                          Tensor x, const Lora *lora) {
    check_compute(ex, op, x);
    check_shape(op, "x", x, rows, x.cols);
    check_shape(op, "a", lora->a, lora->a.rows, x.cols);
    check_shape(op, "b", lora->b, N, lora->a.rows);
    check_shape(op, "xa", xa, rows, lora->a.rows);
    check_type(op, "xa", xa, x.dtype);
    check_type(op, "a", lora->a, x.dtype);
    check_type(op, "b", lora->b, x.dtype);
    CHECK(lora->dropout.p >= 0 && lora->dropout.p < 1, "%s: dropout %g", op,
          (double)lora->dropout.p);
}

/* xa = scale · dropout(x) · aᵀ. */
static void down(Exec *ex, Tensor xa, Tensor x, const Lora *lora) {
    if (lora->dropout.p > 0)
        ex->backend->lora_xa(ex, xa, x, lora->a, lora->scale, lora->dropout);
    else
        ex->backend->product(ex, xa, x, lora->a, true, lora->scale, false);
}

void op_lora_fwd(Exec *ex, Tensor y, Tensor xa, Tensor x, const Lora *lora) {
    check_adapter(ex, __func__, y.rows, y.cols, xa, x, lora);
    if (!x.rows || !runs(ex)) return;
    down(ex, xa, x, lora);
    ex->backend->product(ex, y, xa, lora->b, true, 1, true);
}

void op_lora_down(Exec *ex, Tensor xa, Tensor x, const Lora *lora) {
    check_adapter(ex, __func__, x.rows, lora->b.rows, xa, x, lora);
    if (x.rows && runs(ex)) down(ex, xa, x, lora);
}

void op_linear_lora_fwd(Exec *ex, Tensor y, Tensor xa, Tensor x, Tensor w, Tensor bias,
                        const Lora *lora) {
    check_adapter(ex, __func__, y.rows, y.cols, xa, x, lora);
    SHAPE(w, y.cols, x.cols);
    OPTIONAL(bias, 1, y.cols);
    TYPE(w, x.dtype);
    TYPE(bias, x.dtype);
    if (!x.rows || !runs(ex)) return;
    down(ex, xa, x, lora);
    if (is_behind(xa, x) && is_behind(lora->b, w)) {
        ex->backend->linear_fwd(ex, y, with_behind(x, xa), with_behind(w, lora->b), bias);
    } else {
        ex->backend->linear_fwd(ex, y, x, w, bias);
        ex->backend->product(ex, y, xa, lora->b, true, 1, true);
    }
}

/* ---- backward ---- */

static void check_gradients(const char *op, Tensor dx, Tensor da, Tensor db, Tensor g, Tensor dy,
                            Tensor x, const Lora *lora) {
    int64_t r = lora->a.rows;
    check_optional(op, "dx", dx, x.rows, x.cols);
    check_shape(op, "da", da, r, x.cols);
    check_shape(op, "db", db, dy.cols, r);
    check_shape(op, "g", g, x.rows, r);
    check_type(op, "dx", dx, x.dtype);
    check_type(op, "da", da, DT_F32);
    check_type(op, "db", db, DT_F32);
    check_type(op, "g", g, x.dtype);
    check_type(op, "dy", dy, x.dtype);
}

/* g = scale · dy · b;  db += dyᵀ · xa;  da += gᵀ · dropout(x). */
static void adapter_bwd(Exec *ex, Tensor da, Tensor db, Tensor g, Tensor dy, Tensor xa, Tensor x,
                        const Lora *lora) {
    ex->backend->product(ex, g, dy, lora->b, false, lora->scale, false);
    ex->backend->linear_bwd_w(ex, db, tensor_none(), dy, xa);
    if (lora->dropout.p > 0)
        ex->backend->lora_da(ex, da, g, x, lora->dropout);
    else
        ex->backend->linear_bwd_w(ex, da, tensor_none(), g, x);
}

/* dx += dropout'(g · a). */
static void add_dx(Exec *ex, Tensor dx, Tensor g, const Lora *lora) {
    if (lora->dropout.p > 0)
        ex->backend->lora_dx(ex, dx, g, lora->a, lora->dropout);
    else
        ex->backend->product(ex, dx, g, lora->a, false, 1, true);
}

void op_lora_bwd(Exec *ex, Tensor dx, Tensor da, Tensor db, Tensor g, Tensor dy, Tensor xa,
                 Tensor x, const Lora *lora) {
    check_adapter(ex, __func__, dy.rows, dy.cols, xa, x, lora);
    check_gradients(__func__, dx, da, db, g, dy, x, lora);
    if (!x.rows || !runs(ex)) return;
    adapter_bwd(ex, da, db, g, dy, xa, x, lora);
    if (!tensor_is_none(dx)) add_dx(ex, dx, g, lora);
}

void op_linear_lora_bwd(Exec *ex, Tensor dx, bool accumulate, Tensor da, Tensor db, Tensor g,
                        Tensor dy, Tensor xa, Tensor x, Tensor w, const Lora *lora) {
    check_adapter(ex, __func__, dy.rows, dy.cols, xa, x, lora);
    check_gradients(__func__, dx, da, db, g, dy, x, lora);
    SHAPE(w, dy.cols, x.cols);
    TYPE(w, x.dtype);
    if (!x.rows || !runs(ex)) return;
    adapter_bwd(ex, da, db, g, dy, xa, x, lora);
    if (tensor_is_none(dx)) return;
    if (lora->dropout.p == 0 && is_behind(g, dy) && is_below(lora->a, w)) {
        ex->backend->product(ex, dx, with_behind(dy, g), with_below(w, lora->a), false, 1,
                             accumulate);
    } else {
        ex->backend->product(ex, dx, dy, w, false, 1, accumulate);
        add_dx(ex, dx, g, lora);
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
