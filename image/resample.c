/* Resizing as Pillow does: weights of each output, one pass along the rows, one down the columns.
 */
#include "image/resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "image/resample_loops.h"

/* ---- weights ---- */

/* The window's outputs along one side of the sheet. Output i is the sum over k < taps[i] of
 * weights[i · stride + k] · input[first[i] + k]. */
typedef struct Axis {
    int outputs, stride;
    int first_input, inputs; /* all that any of them needs */
    int *first, *taps;
    int32_t *weights;
} Axis;

static void axis_free(Axis *a) {
    free(a->first);
    free(a->taps);
    free(a->weights);
    *a = (Axis){0};
}

/* The cubic of Keys with a = -1/2, in the order of operations of Pillow. */
static double bicubic(double x) {
    x = fabs(x);
    if (x < 1) return ((-0.5 + 2) * x - (-0.5 + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * -0.5;
    return 0;
}

/* The weights of output `position` of the whole side, whose inputs are `scale` per output. */
static void weigh_output(Axis *a, int i, int position, int inputs, double scale, double *reals) {
    double widening = scale < 1 ? 1 : scale, support = 2 * widening, narrowing = 1 / widening;
    double center = (position + 0.5) * scale, sum = 0;
    int first = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
    if (first < 0) first = 0;
    if (end > inputs) end = inputs;
    int taps = end - first;
    for (int k = 0; k < taps; k++) {
        reals[k] = bicubic((k + first - center + 0.5) * narrowing);
        sum += reals[k];
    }
    int32_t *weights = a->weights + (size_t)i * (size_t)a->stride;
    for (int k = 0; k < taps; k++) {
        double weight = (sum != 0 ? reals[k] / sum : reals[k]) * (1 << WEIGHT_BITS);
        weights[k] = (int32_t)(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
    /* Zeros at the ends are no work; where the size stays, one weight of 1 is left. */
    while (taps > 1 && weights[taps - 1] == 0) taps--;
    int zeros = 0;
    while (zeros < taps - 1 && weights[zeros] == 0) zeros++;
    memmove(weights, weights + zeros, (size_t)(taps - zeros) * sizeof *weights);
    a->first[i] = first + zeros;
    a->taps[i] = taps - zeros;
}

/* The outputs first … first + outputs - 1 of `size`, which stand for `inputs`. */
static Err axis_new(Axis *a, int inputs, int size, int first, int outputs) {
    double scale = (double)inputs / size;
    int stride = (int)ceil(2 * (scale < 1 ? 1 : scale)) * 2 + 1;
    if (stride > inputs) stride = inputs;
    *a = (Axis){.outputs = outputs, .stride = stride};
    a->first = malloc((size_t)outputs * sizeof *a->first);
    a->taps = malloc((size_t)outputs * sizeof *a->taps);
    a->weights = malloc((size_t)outputs * (size_t)stride * sizeof *a->weights);
    double *reals = malloc((size_t)stride * sizeof *reals);
    int failed = !a->first || !a->taps || !a->weights || !reals;
    int end = 0;
    a->first_input = inputs;
    for (int i = 0; i < outputs && !failed; i++) {
        weigh_output(a, i, first + i, inputs, scale, reals);
        if (a->first[i] < a->first_input) a->first_input = a->first[i];
        if (a->first[i] + a->taps[i] > end) end = a->first[i] + a->taps[i];
    }
    a->inputs = end - a->first_input;
    free(reals);
    REQUIRE(!failed, ERR_MEMORY, "out of memory: weights to resize %d pixels to %d", inputs, size);
    return OK;
}

/* ---- passes ---- */

typedef struct Resizer {
    const ResampleLoops *loops;
    const Image *in;
    const ImageFrame *frame;
    Axis across, down;
    size_t channels;
    size_t line;     /* bytes of a line of the sheet that are needed, rounded up to 8 */
    size_t stride;   /* of narrow, a multiple of LANES */
    uint8_t *block;  /* [LANES][line]: lines of the sheet */
    uint8_t *turned; /* [line][LANES] */
    uint8_t *sums;   /* [stride][LANES]: outputs of the first pass, still turned */
    uint8_t *narrow; /* [down.inputs + LANES][stride]: the sheet after the first pass */
} Resizer;

static const ResampleLoops *pick_loops(void) {
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return &resample_loops_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &resample_loops_avx2;
#endif
    return &resample_loops_base;
}

static size_t round_up(size_t n, size_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

static Err take_memory(Resizer *r) {
    const Axis *across = &r->across, *down = &r->down;
    r->line = round_up((size_t)across->inputs * r->channels, 8);
    r->stride = round_up((size_t)across->outputs * r->channels, LANES);
    size_t lines = (size_t)down->inputs + LANES;
    REQUIRE((int64_t)across->outputs * down->inputs <= IMAGE_PIXELS_MAX, ERR_INPUT,
            "%d pixels a row in %d rows are too many on the way to another size; resize in steps",
            across->outputs, down->inputs);
    r->block = calloc(LANES, r->line);
    r->turned = malloc(LANES * r->line);
    r->sums = calloc(LANES, r->stride);
    r->narrow = calloc(lines, r->stride);
    REQUIRE(r->block && r->turned && r->sums && r->narrow, ERR_MEMORY,
            "out of memory: a picture of %d × %d pixels between two sizes", across->outputs,
            down->inputs);
    return OK;
}

static void fill(uint8_t *out, size_t pixels, const Resizer *r) {
    for (size_t i = 0; i < pixels; i++)
        memcpy(out + i * r->channels, r->frame->background, r->channels);
}

/* What is needed of the sheet's lines y, y + 1, …, all of which the picture crosses. */
static void load_block(Resizer *r, int y, int lines) {
    const Image *in = r->in;
    int from = r->across.first_input, end = from + r->across.inputs;
    int left = r->frame->left > from ? r->frame->left : from;
    int right = r->frame->left + in->width < end ? r->frame->left + in->width : end;
    for (int i = 0; i < lines; i++) {
        uint8_t *line = r->block + (size_t)i * r->line;
        if (right <= left) { /* the picture lies beside the window */
            fill(line, (size_t)(end - from), r);
            continue;
        }
        size_t row = (size_t)(y + i - r->frame->top) * (size_t)in->width;
        fill(line, (size_t)(left - from), r);
        memcpy(line + (size_t)(left - from) * r->channels,
               in->pixels + (row + (size_t)(left - r->frame->left)) * r->channels,
               (size_t)(right - left) * r->channels);
        fill(line + (size_t)(right - from) * r->channels, (size_t)(end - right), r);
    }
}

/* One block of lines through the first pass, into `narrow`. */
static void narrow_block(Resizer *r, int y, int lines) {
    const Axis *a = &r->across;
    load_block(r, y, lines);
    r->loops->transpose(r->turned, LANES, r->block, r->line, LANES, (int)r->line);
    for (size_t x = 0; x < (size_t)a->outputs; x++)
        for (size_t c = 0; c < r->channels; c++) {
            size_t from = (size_t)(a->first[x] - a->first_input) * r->channels + c;
            r->loops->weigh(r->sums + (x * r->channels + c) * LANES, r->turned + from * LANES,
                            r->channels * LANES, a->weights + x * (size_t)a->stride, a->taps[x]);
        }
    uint8_t *out = r->narrow + (size_t)(y - r->down.first_input) * r->stride;
    r->loops->transpose(out, r->stride, r->sums, LANES, (int)r->stride, LANES);
}

/* Where the picture does not reach, a line of one colour stays that colour: weights sum to 1, but
 * for less than rounding takes away. */
static void narrow_sheet(Resizer *r) {
    int first = r->down.first_input, end = first + r->down.inputs;
    int top = r->frame->top > first ? r->frame->top : first;
    int bottom = r->frame->top + r->in->height < end ? r->frame->top + r->in->height : end;
    for (int y = top; y < bottom; y += LANES)
        narrow_block(r, y, bottom - y < LANES ? bottom - y : LANES);
    for (int y = first; y < end; y++)
        if (y < top || y >= bottom)
            fill(r->narrow + (size_t)(y - first) * r->stride, (size_t)r->across.outputs, r);
}

/* The second pass. */
static void sum_rows(const Resizer *r, Image *out) {
    const Axis *a = &r->down;
    size_t row_bytes = (size_t)out->width * r->channels;
    uint8_t rest[LANES];
    for (size_t y = 0; y < (size_t)out->height; y++) {
        const uint8_t *in = r->narrow + (size_t)(a->first[y] - a->first_input) * r->stride;
        const int32_t *weights = a->weights + y * (size_t)a->stride;
        uint8_t *row = out->pixels + y * row_bytes;
        size_t x = 0;
        for (; x + LANES <= row_bytes; x += LANES)
            r->loops->weigh(row + x, in + x, r->stride, weights, a->taps[y]);
        if (x == row_bytes) continue;
        r->loops->weigh(rest, in + x, r->stride, weights, a->taps[y]);
        memcpy(row + x, rest, row_bytes - x);
    }
}

/* ---- the whole ---- */

static Err reframe(Resizer *r, Image *out) {
    const ImageFrame *f = r->frame;
    TRY(axis_new(&r->across, f->sheet_width, f->width, f->window_left, f->window_width));
    TRY(axis_new(&r->down, f->sheet_height, f->height, f->window_top, f->window_height));
    TRY(take_memory(r));
    TRY(image_new(out, f->window_width, f->window_height, (int)r->channels));
    narrow_sheet(r);
    sum_rows(r, out);
    return OK;
}

Err image_reframe(Image *out, const Image *in, const ImageFrame *f) {
    *out = (Image){0};
    CHECK(f->left >= 0 && f->top >= 0 && in->width <= f->sheet_width - f->left &&
              in->height <= f->sheet_height - f->top,
          "%d × %d at %d, %d of %d × %d", in->width, in->height, f->left, f->top, f->sheet_width,
          f->sheet_height);
    CHECK(f->sheet_width <= IMAGE_SIDE_MAX && f->sheet_height <= IMAGE_SIDE_MAX, "%d × %d",
          f->sheet_width, f->sheet_height);
    CHECK(f->window_left >= 0 && f->window_top >= 0 && f->window_width >= 1 &&
              f->window_height >= 1 && f->window_width <= f->width - f->window_left &&
              f->window_height <= f->height - f->window_top,
          "%d × %d at %d, %d of %d × %d", f->window_width, f->window_height, f->window_left,
          f->window_top, f->width, f->height);
    Resizer r = {.loops = pick_loops(), .in = in, .frame = f, .channels = (size_t)in->channels};
    Err err = reframe(&r, out);
    axis_free(&r.across);
    axis_free(&r.down);
    free(r.block);
    free(r.turned);
    free(r.sums);
    free(r.narrow);
    return err;
}

Err image_resize(Image *out, const Image *in, int width, int height) {
    *out = (Image){0};
    REQUIRE(width >= 1 && height >= 1 && width <= IMAGE_SIDE_MAX && height <= IMAGE_SIDE_MAX,
            ERR_INPUT, "a picture cannot be resized to %d × %d pixels; 1 to %d a side are possible",
            width, height, IMAGE_SIDE_MAX);
    return image_reframe(out, in,
                         &(ImageFrame){.sheet_width = in->width,
                                       .sheet_height = in->height,
                                       .width = width,
                                       .height = height,
                                       .window_width = width,
                                       .window_height = height});
}
