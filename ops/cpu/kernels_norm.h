/* Norms and the residual add. Included by kernels.c only. */

/* The weight of a root mean square norm with its offset, in f32; `line` is memory for it. */
static const float *weight_read(float *line, Tensor w, float w_offset) {
    const float *weight = row_read(line, w, 0);
    if (w_offset == 0) return weight;
    for (int64_t i = 0; i < w.cols; i++) line[i] = w_offset + weight[i];
    return line;
}

static void rmsnorm_fwd(float *line, int64_t first, int64_t count, Tensor out, Tensor sum,
                        Tensor rstd, Tensor h, Tensor delta, Tensor w, float w_offset, float eps) {
    int64_t n = h.cols;
    float *buffer = line + n, *result = line + 2 * n;
    const float *weight = weight_read(line + 3 * n, w, w_offset);
    for (int64_t r = first; r < first + count; r++) {
        const float *x = row_read(line, h, r);
        if (!tensor_is_none(delta)) {
            const float *d = row_read(buffer, delta, r);
            float *s = row_begin(result, sum, r);
            for (int64_t i = 0; i < n; i++) s[i] = x[i] + d[i];
            row_end(s, sum, r);
            x = row_read(line, sum, r); /* as stored: backward sees the same */
        }
        float squares = 0;
#pragma omp simd reduction(+ : squares)
        for (int64_t i = 0; i < n; i++) squares += x[i] * x[i];
        float scale = 1.0f / sqrtf(squares / (float)n + eps);
        float *y = row_begin(result, out, r);
        for (int64_t i = 0; i < n; i++) y[i] = x[i] * scale * weight[i];
        row_end(y, out, r);
        if (!tensor_is_none(rstd)) ((float *)rstd.data)[r * rstd.stride] = scale;
    }
}

/* y = w·x̂, x̂ = x·s, s = rms⁻¹:  dx = s·(w·dy - x̂·mean(w·dy·x̂)). */
static void rmsnorm_bwd(float *line, int64_t first, int64_t count, Tensor dh, bool accumulate,
                        float *partial, Tensor dout, Tensor h, Tensor rstd, Tensor w,
                        float w_offset) {
    int64_t n = h.cols;
    const float *weight = weight_read(line + 3 * n, w, w_offset);
    for (int64_t r = first; r < first + count; r++) {
        const float *x = row_read(line, h, r), *dy = row_read(line + n, dout, r);
        float s = ((const float *)rstd.data)[r * rstd.stride];
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < n; i++) dot += weight[i] * dy[i] * x[i];
        if (partial)
            for (int64_t i = 0; i < n; i++) partial[i] += dy[i] * x[i] * s;
        float back = dot * s * s * s / (float)n;
        float *dx = row_begin(line + 2 * n, dh, r);
        if (accumulate) {
            const float *old = row_read(line + 4 * n, dh, r);
            for (int64_t i = 0; i < n; i++) dx[i] = old[i] + weight[i] * dy[i] * s - x[i] * back;
        } else {
            for (int64_t i = 0; i < n; i++) dx[i] = weight[i] * dy[i] * s - x[i] * back;
        }
        row_end(dx, dh, r);
    }
}

static void layernorm_fwd(float *line, int64_t first, int64_t count, Tensor out, Tensor sum,
                          Tensor stats, Tensor h, Tensor delta, Tensor w, Tensor bias, float eps) {
    int64_t n = h.cols;
    float *buffer = line + n, *result = line + 2 * n;
    const float *weight = row_read(line + 3 * n, w, 0), *b = row_read(line + 4 * n, bias, 0);
    for (int64_t r = first; r < first + count; r++) {
        const float *x = row_read(line, h, r);
        if (!tensor_is_none(delta)) {
            const float *d = row_read(buffer, delta, r);
            float *s = row_begin(result, sum, r);
            for (int64_t i = 0; i < n; i++) s[i] = x[i] + d[i];
            row_end(s, sum, r);
            x = row_read(line, sum, r);
        }
        float total = 0, squares = 0;
#pragma omp simd reduction(+ : total)
        for (int64_t i = 0; i < n; i++) total += x[i];
        float mean = total / (float)n;
#pragma omp simd reduction(+ : squares)
        for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
        float scale = 1.0f / sqrtf(squares / (float)n + eps);
        float *y = row_begin(result, out, r);
        for (int64_t i = 0; i < n; i++) y[i] = (x[i] - mean) * scale * weight[i] + b[i];
        row_end(y, out, r);
        if (!tensor_is_none(stats)) {
            float *stat = (float *)stats.data + r * stats.stride;
            stat[0] = mean;
            stat[1] = scale;
        }
    }
}

/* x̂ = (x - μ)·s:  dx = s·(w·dy - mean(w·dy) - x̂·mean(w·dy·x̂)). */
static void layernorm_bwd(float *line, int64_t first, int64_t count, Tensor dh, bool accumulate,
                          float *partial, Tensor dout, Tensor h, Tensor stats, Tensor w) {
    int64_t n = h.cols;
    const float *weight = row_read(line + 3 * n, w, 0);
    for (int64_t r = first; r < first + count; r++) {
        const float *x = row_read(line, h, r), *dy = row_read(line + n, dout, r);
        const float *stat = (const float *)stats.data + r * stats.stride;
        float mean = stat[0], s = stat[1], plain = 0, dot = 0;
#pragma omp simd reduction(+ : plain, dot)
        for (int64_t i = 0; i < n; i++) {
            float g = weight[i] * dy[i];
            plain += g;
            dot += g * (x[i] - mean) * s;
        }
        if (partial)
            for (int64_t i = 0; i < n; i++) {
                partial[i] += dy[i] * (x[i] - mean) * s;
                partial[n + i] += dy[i];
            }
        float a = plain / (float)n, b = dot / (float)n;
        float *dx = row_begin(line + 2 * n, dh, r);
        if (accumulate) {
            const float *old = row_read(line + 4 * n, dh, r);
            for (int64_t i = 0; i < n; i++)
                dx[i] = old[i] + s * (weight[i] * dy[i] - a - (x[i] - mean) * s * b);
        } else {
            for (int64_t i = 0; i < n; i++)
                dx[i] = s * (weight[i] * dy[i] - a - (x[i] - mean) * s * b);
        }
        row_end(dx, dh, r);
    }
}

static void scale_rows(float *line, int64_t first, int64_t count, Tensor out, Tensor x,
                       float factor) {
    for (int64_t r = first; r < first + count; r++) {
        const float *from = row_read(line, x, r);
        float *to = row_begin(line + x.cols, out, r);
        for (int64_t i = 0; i < x.cols; i++) to[i] = factor * from[i];
        row_end(to, out, r);
    }
}

static void add_rows(float *line, int64_t first, int64_t count, Tensor out, Tensor a, Tensor b) {
    int64_t n = a.cols;
    for (int64_t r = first; r < first + count; r++) {
        const float *x = row_read(line, a, r), *y = row_read(line + n, b, r);
        float *z = row_begin(line + 2 * n, out, r);
        for (int64_t i = 0; i < n; i++) z[i] = x[i] + y[i];
        row_end(z, out, r);
    }
}
