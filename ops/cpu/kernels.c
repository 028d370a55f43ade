/* The inner loops of the CPU backend; compiled once per instruction set, with CPU_KERNELS naming
 * the table. */
#include "ops/cpu/kernels.h"

#include "core/rng.h"
#include "ops/cpu/vec.h"

/* clang-format off: kernels_norm.h, kernels_attention.h and the like are parts of this file. */
#include "ops/cpu/kernels_act.h"
#include "ops/cpu/kernels_attention.h"
#include "ops/cpu/kernels_dropout.h"
#include "ops/cpu/kernels_norm.h"
/* clang-format on */

static void patchify(float *line, int64_t first, int64_t count, Tensor patches,
                     const uint8_t *pixels, const PatchSpec *spec) {
    int size = spec->image_size, side = size / spec->patch, channels = spec->channels;
    for (int64_t r = first; r < first + count; r++) {
        int64_t image = r / (side * side);
        int place = (int)(r % (side * side));
        int top = place / side * spec->patch, left = place % side * spec->patch;
        const uint8_t *from =
            pixels + (size_t)image * (size_t)size * (size_t)size * (size_t)channels;
        float *out = row_begin(line, patches, r);
        int64_t at = 0;
        for (int c = 0; c < channels; c++) {
            float scale = 1.0f / (255.0f * spec->std[c]), shift = spec->mean[c] / spec->std[c];
            for (int y = 0; y < spec->patch; y++) {
                const uint8_t *row =
                    from + ((size_t)(top + y) * (size_t)size + (size_t)left) * (size_t)channels + c;
                for (int x = 0; x < spec->patch; x++)
                    out[at + x] = (float)row[x * channels] * scale - shift;
                at += spec->patch;
            }
        }
        row_end(out, patches, r);
    }
}

/* Returns log Σ exp(x - top) and leaves the exponentials in e; `best` is the first largest index.
 */
static float exponentials(float *restrict e, const float *restrict x, int64_t n, float *top_out) {
    float top = -INFINITY, sum = 0;
#pragma omp simd reduction(max : top)
    for (int64_t i = 0; i < n; i++) top = x[i] > top ? x[i] : top;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        e[i] = exp_f32(x[i] - top);
        sum += e[i];
    }
    *top_out = top;
    return sum;
}

static void cross_entropy(float *line, int64_t first, int64_t count, Tensor loss, Tensor hits,
                          Tensor logits, const int32_t *targets, const float *gradient) {
    int64_t n = logits.cols;
    float *e = line + n;
    for (int64_t r = first; r < first + count; r++) {
        const float *x = row_read(line, logits, r);
        float top, target = x[targets[r]];
        float sum = exponentials(e, x, n, &top);
        ((float *)loss.data)[r] = logf(sum) + top - target;
        if (!tensor_is_none(hits)) ((float *)hits.data)[r] = target >= top ? 1 : 0;
        if (!gradient) continue;
        float inverse = *gradient / sum;
        float *d = row_begin(line, logits, r);
        for (int64_t i = 0; i < n; i++) d[i] = e[i] * inverse;
        d[targets[r]] -= *gradient;
        row_end(d, logits, r);
    }
}

static void argmax(float *line, int64_t first, int64_t count, int32_t *best, float *probability,
                   Tensor logits) {
    int64_t n = logits.cols;
    for (int64_t r = first; r < first + count; r++) {
        const float *x = row_read(line, logits, r);
        float top;
        float sum = exponentials(line + n, x, n, &top);
        int64_t at = 0;
        while (at < n - 1 && !(x[at] >= top)) at++;
        best[r] = (int32_t)at;
        probability[r] = 1.0f / sum;
    }
}

enum { SUM_COLUMNS = 64 };

static void column_sum(int64_t first, int64_t count, Tensor dst, Tensor src) {
    float *out = dst.data;
    for (int64_t c = first; c < first + count; c += SUM_COLUMNS) {
        int64_t n = first + count - c < SUM_COLUMNS ? first + count - c : SUM_COLUMNS;
        float sums[SUM_COLUMNS] = {0};
        for (int64_t r = 0; r < src.rows; r++) {
            if (src.dtype == DT_F32) {
                const float *row = (const float *)src.data + r * src.stride + c;
                for (int64_t i = 0; i < n; i++) sums[i] += row[i];
            } else {
                const uint16_t *row = (const uint16_t *)src.data + r * src.stride + c;
                for (int64_t i = 0; i < n; i++) sums[i] += f32_from_bf16(row[i]);
            }
        }
        for (int64_t i = 0; i < n; i++) out[c + i] += sums[i];
    }
}

static void accumulate(float *restrict dst, const float *restrict src, int64_t count) {
    for (int64_t i = 0; i < count; i++) dst[i] += src[i];
}

static double sum_squares(const float *x, int64_t count) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

/* Elements at, at + 1, … of a segment's strided copy. */
static void write_copy(const AdamwSegment *segment, int64_t at, const float *x, int64_t count) {
    while (count > 0) {
        int64_t col = at % segment->cols,
                n = segment->cols - col < count ? segment->cols - col : count,
                to = at / segment->cols * segment->stride + col;
        if (segment->copy_dtype == DT_BF16)
            narrow((uint16_t *)segment->copy + to, x, n);
        else
            memcpy((float *)segment->copy + to, x, (size_t)n * sizeof *x);
        at += n;
        x += n;
        count -= n;
    }
}

static void adamw(float *restrict master, const float *restrict grad, float *restrict m,
                  float *restrict v, int64_t count, const AdamwSegment *segment, int64_t offset,
                  const AdamwSpec *spec, const UpdateState *state) {
    float b1 = (float)spec->beta1, b2 = (float)spec->beta2, scale = state->grad_scale;
    double correct1 = 1.0 - pow(spec->beta1, (double)state->updates),
           correct2 = 1.0 - pow(spec->beta2, (double)state->updates);
    float lr = (float)(spec->lr * (double)segment->lr_scale);
    float step = (float)(spec->lr * (double)segment->lr_scale / correct1),
          root = (float)(1.0 / sqrt(correct2));
    float eps = (float)spec->eps, keep = 1.0f - lr * segment->weight_decay;
    for (int64_t i = 0; i < count; i++) {
        float g = grad[i] * scale;
        m[i] = b1 * m[i] + (1.0f - b1) * g;
        v[i] = b2 * v[i] + (1.0f - b2) * g * g;
        master[i] = master[i] * keep - step * m[i] / (sqrtf(v[i]) * root + eps);
    }
    if (segment->copy) write_copy(segment, offset, master, count);
}

static void convert(float *line, int64_t first, int64_t count, Tensor dst, Tensor src) {
    for (int64_t r = first; r < first + count; r++) {
        const float *x = row_read(line, src, r);
        if (dst.dtype == DT_F32)
            memcpy((float *)dst.data + r * dst.stride, x, (size_t)src.cols * sizeof *x);
        else
            row_end(x, dst, r);
    }
}

const CpuKernels CPU_KERNELS = {
    .name = CPU_KERNELS_NAME,
    .rmsnorm_fwd = rmsnorm_fwd,
    .rmsnorm_bwd = rmsnorm_bwd,
    .layernorm_fwd = layernorm_fwd,
    .layernorm_bwd = layernorm_bwd,
    .add = add_rows,
    .scale = scale_rows,
    .qk_rope_fwd = qk_rope_fwd,
    .qk_rope_bwd = qk_rope_bwd,
    .act_fwd = act_fwd,
    .act_bwd = act_bwd,
    .glu_fwd = glu_fwd,
    .glu_bwd = glu_bwd,
    .patchify = patchify,
    .cross_entropy = cross_entropy,
    .argmax = argmax,
    .column_sum = column_sum,
    .accumulate = accumulate,
    .sum_squares = sum_squares,
    .adamw = adamw,
    .convert = convert,
    .dropout = dropout_rows,
    .softmax = softmax,
    .softmax_bwd = softmax_bwd,
    .row_dot = row_dot,
};
