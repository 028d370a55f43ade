/* QK norm with rotary positions, and the softmax of attention blocks. Included by kernels.c only.
 */

/* A head's slice of one row of t. */
static Tensor head_of(Tensor t, int head, int head_dim) {
    char *data = t.data;
    return (Tensor){data + (size_t)head * (size_t)head_dim * dtype_size(t.dtype), t.dtype, t.rows,
                    head_dim, t.stride};
}

/* (x1, x2) halves of the first rotary_dim entries turn by the angle: (x1 c - x2 s, x2 c + x1 s).
 * sign -1 turns back. */
static void rotate(float *x, const float *table, int rotary_dim, float sign) {
    int half = rotary_dim / 2;
    for (int i = 0; i < half; i++) {
        float c = table[i], s = sign * table[half + i], a = x[i], b = x[half + i];
        x[i] = a * c - b * s;
        x[half + i] = b * c + a * s;
    }
}

static void qk_rope_fwd(float *line, int64_t first, int64_t count, Tensor qk, Tensor rstd,
                        Tensor qkv, Tensor wq, Tensor wk, const RopeSpec *spec) {
    int n = spec->head_dim, heads = spec->heads_q + spec->heads_k;
    bool norm = !tensor_is_none(wq);
    const float *weights[2] = {norm ? row_read(line + 2 * n, wq, 0) : NULL,
                               norm ? row_read(line + 3 * n, wk, 0) : NULL};
    for (int64_t r = first; r < first + count; r++) {
        const float *table = spec->table + (size_t)spec->positions[r] * (size_t)spec->rotary_dim;
        for (int head = 0; head < heads; head++) {
            Tensor in = head_of(qkv, head, n), out = head_of(qk, head, n);
            const float *x = row_read(line, in, r);
            float *y = line + n;
            if (norm) {
                const float *w = weights[head >= spec->heads_q];
                float squares = 0;
#pragma omp simd reduction(+ : squares)
                for (int i = 0; i < n; i++) squares += x[i] * x[i];
                float scale = 1.0f / sqrtf(squares / (float)n + spec->eps);
                for (int i = 0; i < n; i++) y[i] = x[i] * scale * w[i];
                if (!tensor_is_none(rstd)) ((float *)rstd.data)[r * rstd.stride + head] = scale;
            } else {
                memcpy(y, x, (size_t)n * sizeof *y);
            }
            rotate(y, table, spec->rotary_dim, 1);
            if (out.dtype == DT_F32)
                memcpy((float *)out.data + r * out.stride, y, (size_t)n * sizeof *y);
            else
                row_end(y, out, r);
        }
    }
}

static void qk_rope_bwd(float *line, int64_t first, int64_t count, Tensor dqkv, float *partial,
                        Tensor dqk, Tensor qkv, Tensor rstd, Tensor wq, Tensor wk,
                        const RopeSpec *spec) {
    int n = spec->head_dim, heads = spec->heads_q + spec->heads_k;
    bool norm = !tensor_is_none(wq);
    const float *weights[2] = {norm ? row_read(line + 3 * n, wq, 0) : NULL,
                               norm ? row_read(line + 4 * n, wk, 0) : NULL};
    for (int64_t r = first; r < first + count; r++) {
        const float *table = spec->table + (size_t)spec->positions[r] * (size_t)spec->rotary_dim;
        for (int head = 0; head < heads; head++) {
            Tensor in = head_of(qkv, head, n), din = head_of(dqkv, head, n),
                   dout = head_of(dqk, head, n);
            float *dy = line + n;
            const float *given = row_read(line + 2 * n, dout, r);
            memcpy(dy, given, (size_t)n * sizeof *dy);
            rotate(dy, table, spec->rotary_dim, -1);
            float *dx = row_begin(line + 2 * n, din, r);
            if (norm) {
                int is_key = head >= spec->heads_q;
                const float *w = weights[is_key], *x = row_read(line, in, r);
                float s = ((const float *)rstd.data)[r * rstd.stride + head], dot = 0;
#pragma omp simd reduction(+ : dot)
                for (int i = 0; i < n; i++) dot += w[i] * dy[i] * x[i];
                if (partial)
                    for (int i = 0; i < n; i++) partial[is_key * n + i] += dy[i] * x[i] * s;
                float back = dot * s * s * s / (float)n;
                for (int i = 0; i < n; i++) dx[i] = w[i] * dy[i] * s - x[i] * back;
            } else {
                memcpy(dx, dy, (size_t)n * sizeof *dx);
            }
            row_end(dx, din, r);
        }
    }
}

enum { LANES = 16 }; /* loops over scores end at a multiple of it, for scalar tails take long */

/* How many scores of a row are worked on: the visible ones, and up to LANES - 1 more. */
static int whole_lanes(int visible, int64_t cols) {
    int whole = (visible + LANES - 1) / LANES * LANES;
    return whole < cols ? whole : (int)cols;
}

static void softmax(float *s, int64_t stride_s, Tensor p, float *lse, int64_t stride_lse,
                    int queries, int keys, int diagonal, float scale) {
    for (int i = 0; i < queries; i++) {
        float *row = s + i * stride_s;
        int visible = i + diagonal + 1 < keys ? i + diagonal + 1 : keys;
        int whole = whole_lanes(visible, p.cols);
        for (int j = visible; j < whole; j++) row[j] = -INFINITY; /* adds 1e-38 to a sum ≥ 1 */
        float top = -INFINITY, sum = 0;
#pragma omp simd reduction(max : top)
        for (int j = 0; j < whole; j++) top = row[j] > top ? row[j] : top;
        float shift = top * scale;
#pragma omp simd reduction(+ : sum)
        for (int j = 0; j < whole; j++) {
            row[j] = exp_f32(row[j] * scale - shift);
            sum += row[j];
        }
        float inverse = 1.0f / sum;
        for (int j = visible; j < whole; j++) row[j] = 0;
        if (p.dtype == DT_F32) {
            float *out = (float *)p.data + i * p.stride;
            for (int j = 0; j < whole; j++) out[j] = row[j] * inverse;
            memset(out + whole, 0, (size_t)(p.cols - whole) * sizeof *out);
        } else {
            uint16_t *out = (uint16_t *)p.data + i * p.stride;
            narrow_scaled(out, row, inverse, whole);
            memset(out + whole, 0, (size_t)(p.cols - whole) * sizeof *out);
        }
        if (lse) lse[i * stride_lse] = shift + logf(sum);
    }
}

static void softmax_bwd(float *s, float *dp, int64_t stride, Tensor p, Tensor ds, const float *lse,
                        int64_t stride_lse, const float *delta, int queries, int keys, int diagonal,
                        float scale) {
    for (int i = 0; i < queries; i++) {
        float *restrict row = s + i * stride, *restrict grad = dp + i * stride;
        int visible = i + diagonal + 1 < keys ? i + diagonal + 1 : keys;
        int whole = whole_lanes(visible, p.cols);
        float shift = lse[i * stride_lse], d = delta[i];
        for (int j = 0; j < whole; j++) {
            float probability = exp_f32(row[j] * scale - shift);
            row[j] = probability;
            grad[j] = scale * probability * (grad[j] - d);
        }
        for (int j = visible; j < whole; j++) row[j] = grad[j] = 0;
        size_t element = dtype_size(p.dtype), rest = (size_t)(p.cols - whole) * element;
        char *out = (char *)p.data + (size_t)(i * p.stride) * element,
             *dout = (char *)ds.data + (size_t)(i * ds.stride) * element;
        if (p.dtype == DT_F32) {
            memcpy(out, row, (size_t)whole * sizeof *row);
            memcpy(dout, grad, (size_t)whole * sizeof *grad);
        } else {
            narrow((uint16_t *)out, row, whole);
            narrow((uint16_t *)dout, grad, whole);
        }
        memset(out + (size_t)whole * element, 0, rest);
        memset(dout + (size_t)whole * element, 0, rest);
    }
}

static void row_dot(float *line, float *delta, Tensor dout, Tensor out) {
    for (int64_t r = 0; r < dout.rows; r++) {
        const float *a = row_read(line, dout, r), *b = row_read(line + dout.cols, out, r);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < dout.cols; i++) sum += a[i] * b[i];
        delta[r] = sum;
    }
}
