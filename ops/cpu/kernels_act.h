/* Activations and gated activations. Included by kernels.c only. */

static const float GELU_A = 0.79788456080f,
                   GELU_B = 0.044715f; /* √(2/π); Hendrycks & Gimpel 2016 */

static inline float gelu_tanh(float x) {
    return 0.5f * x * (1.0f + tanh_f32(GELU_A * (x + GELU_B * x * x * x)));
}

static inline float gelu_tanh_slope(float x) {
    float t = tanh_f32(GELU_A * (x + GELU_B * x * x * x));
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * GELU_A * (1.0f + 3.0f * GELU_B * x * x);
}

static inline float gelu_erf(float x) {
    return 0.5f * x * (1.0f + erff(x * 0.70710678f));
}

static inline float gelu_erf_slope(float x) {
    return 0.5f * (1.0f + erff(x * 0.70710678f)) + x * 0.39894228f * exp_f32(-0.5f * x * x);
}

/* x·σ(k·x): SiLU for k = 1, CLIP's quick GELU for 1.702. */
static inline float swish(float x, float k) {
    return x * sigmoid_f32(k * x);
}

static inline float swish_slope(float x, float k) {
    float s = sigmoid_f32(k * x);
    return s * (1.0f + k * x * (1.0f - s));
}

static const float QUICK = 1.702f;

/* y[i] = act(x[i]). One loop per kind, so that each is vectorised. */
static void act_values(float *restrict y, const float *restrict x, int64_t n, Activation kind) {
    switch (kind) {
    case ACTIVATION_GELU_TANH:
        for (int64_t i = 0; i < n; i++) y[i] = gelu_tanh(x[i]);
        return;
    case ACTIVATION_GELU:
        for (int64_t i = 0; i < n; i++) y[i] = gelu_erf(x[i]);
        return;
    case ACTIVATION_QUICK_GELU:
        for (int64_t i = 0; i < n; i++) y[i] = swish(x[i], QUICK);
        return;
    case ACTIVATION_SILU:
        for (int64_t i = 0; i < n; i++) y[i] = swish(x[i], 1);
        return;
    }
}

static void act_slopes(float *restrict y, const float *restrict x, int64_t n, Activation kind) {
    switch (kind) {
    case ACTIVATION_GELU_TANH:
        for (int64_t i = 0; i < n; i++) y[i] = gelu_tanh_slope(x[i]);
        return;
    case ACTIVATION_GELU:
        for (int64_t i = 0; i < n; i++) y[i] = gelu_erf_slope(x[i]);
        return;
    case ACTIVATION_QUICK_GELU:
        for (int64_t i = 0; i < n; i++) y[i] = swish_slope(x[i], QUICK);
        return;
    case ACTIVATION_SILU:
        for (int64_t i = 0; i < n; i++) y[i] = swish_slope(x[i], 1);
        return;
    }
}

static void act_fwd(float *line, int64_t first, int64_t count, Tensor out, Tensor x,
                    Activation kind) {
    for (int64_t r = first; r < first + count; r++) {
        float *y = row_begin(line + x.cols, out, r);
        act_values(y, row_read(line, x, r), x.cols, kind);
        row_end(y, out, r);
    }
}

static void act_bwd(float *line, int64_t first, int64_t count, Tensor dx, Tensor dout, Tensor x,
                    Activation kind) {
    int64_t n = x.cols;
    for (int64_t r = first; r < first + count; r++) {
        const float *dy = row_read(line + n, dout, r);
        act_slopes(line + 2 * n, row_read(line, x, r), n, kind);
        float *d = row_begin(line + 3 * n, dx, r);
        for (int64_t i = 0; i < n; i++) d[i] = dy[i] * line[2 * n + i];
        row_end(d, dx, r);
    }
}

static void glu_fwd(float *line, int64_t first, int64_t count, Tensor out, Tensor x,
                    Activation kind) {
    int64_t n = out.cols;
    for (int64_t r = first; r < first + count; r++) {
        const float *both = row_read(line, x, r);
        act_values(line + 2 * n, both, n, kind);
        float *y = row_begin(line + 3 * n, out, r);
        for (int64_t i = 0; i < n; i++) y[i] = line[2 * n + i] * both[n + i];
        row_end(y, out, r);
    }
}

static void glu_bwd(float *line, int64_t first, int64_t count, Tensor dx, Tensor dout, Tensor x,
                    Activation kind) {
    int64_t n = dout.cols;
    float *value = line + 3 * n, *slope = line + 4 * n;
    for (int64_t r = first; r < first + count; r++) {
        const float *both = row_read(line, x, r), *dy = row_read(line + 2 * n, dout, r);
        act_values(value, both, n, kind);
        act_slopes(slope, both, n, kind);
        float *d = row_begin(line + 5 * n, dx, r);
        for (int64_t i = 0; i < n; i++) d[i] = dy[i] * both[n + i] * slope[i];
        for (int64_t i = 0; i < n; i++) d[n + i] = dy[i] * value[i];
        row_end(d, dx, r);
    }
}
