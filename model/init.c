/* Initial weights: random, and for number tokens composed of what the numbers share. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/rng.h"
#include "model/model.h"
#include "model/model_internal.h"

float init_scale_of(int64_t fan_in, bool residual) {
    float scale = fminf(0.05f, 0.6f / sqrtf((float)fan_in));
    return residual ? 0.4f * scale : scale;
}

static void draw_values(float *out, const Param *p, Rng *rng) {
    int64_t count = p->rows * p->cols;
    for (int64_t i = 0; i < count; i++) {
        if (p->kind == PARAM_NORM)
            out[i] = p->init_scale;
        else if (p->kind ==
                 PARAM_LORA_A) /* Kaiming uniform with a = √5, as PEFT does: U(-1/√in, 1/√in) */
            out[i] = (float)((2 * rng_uniform(rng) - 1) * (double)p->init_scale);
        else
            out[i] = p->init_scale == 0 ? 0 : (float)(rng_normal(rng) * (double)p->init_scale);
    }
}

/* The random values of a parameter, on the host; to be freed. */
static float *draw_param(const Param *p, uint64_t seed) {
    float *drawn = malloc((size_t)(p->rows * p->cols) * sizeof *drawn);
    CHECK(drawn, "out of memory: %lld initial values", (long long)(p->rows * p->cols));
    Rng rng;
    rng_open(&rng, seed, RNG_INIT, hash_bytes(p->name, strlen(p->name)));
    draw_values(drawn, p, &rng);
    return drawn;
}

/* Rounds `drawn` into the parameter, and frees it. */
static void set_param(Model *model, ParamId id, float *drawn) {
    Tensor value = param_value(&model->params, id);
    size_t bytes = (size_t)(value.rows * value.cols) * sizeof *drawn;
    float *staged = exec_alloc(model->ex, bytes);
    CHECK(staged, "out of memory: %zu bytes of initial values", bytes);
    exec_upload(model->ex, staged, drawn, bytes);
    op_convert(model->ex, value, tensor(staged, DT_F32, value.rows, value.cols));
    exec_free(model->ex, staged, bytes);
    free(drawn);
}

static void init_param(Model *model, ParamId id, uint64_t seed) {
    set_param(model, id, draw_param(&model->params.items[id], seed));
}

static bool is_lora(const Param *p) {
    return p->kind == PARAM_LORA_A || p->kind == PARAM_LORA_B;
}

void model_init(Model *model, uint64_t seed, uint32_t component_mask) {
    for (int i = 0; i < model->params.count; i++)
        if (component_mask >> model->params.items[i].component & 1) init_param(model, i, seed);
}

void model_init_lora(Model *model, uint64_t seed) {
    for (int i = 0; i < model->params.count; i++)
        if (is_lora(&model->params.items[i])) init_param(model, i, seed);
}

/* What the numbers 0 … 999 share: a vector for each digit at each of three places (NO_DIGIT: none
 * stands there), and waves of the number itself, one length for each channel. */
typedef struct NumberCode {
    float *digits; /* [3][11][width] */
    float *waves;  /* [2][width]: angle of one, phase */
    int width;
} NumberCode;

enum { PLACES = 3, NO_DIGIT = 10, DIGITS = 11 };
static const float DIGIT_PART = 0.5f, WAVE_PART = 0.3f; /* of the variance; the rest is its own */

static void number_code_open(NumberCode *code, int width, uint64_t seed) {
    static const double SHORTEST = 4, LONGEST = 512; /* wave lengths */
    static const char name[] = "numbers";
    size_t count = (size_t)(PLACES * DIGITS * width);
    *code = (NumberCode){.digits = malloc(count * sizeof(float)),
                         .waves = malloc(2 * (size_t)width * sizeof(float)),
                         .width = width};
    CHECK(code->digits && code->waves, "out of memory: digits");
    Rng rng;
    rng_open(&rng, seed, RNG_INIT, hash_bytes(name, sizeof name - 1));
    for (size_t i = 0; i < count; i++) code->digits[i] = (float)rng_normal(&rng);
    for (int j = 0; j < width; j++) {
        double length = SHORTEST * pow(LONGEST / SHORTEST, rng_uniform(&rng));
        code->waves[j] = (float)(2 * M_PI / length);
        code->waves[width + j] = (float)(2 * M_PI * rng_uniform(&rng));
    }
}

/* out[j] becomes the mix of its own value, of variance scale², and the number's. */
static void number_code_mix(const NumberCode *code, int number, float scale, float *out) {
    float own = sqrtf(1 - DIGIT_PART - WAVE_PART), digit = sqrtf(DIGIT_PART / PLACES) * scale,
          wave = sqrtf(2 * WAVE_PART) * scale;
    for (int j = 0; j < code->width; j++) {
        float sum = 0;
        for (int place = 0, left = number; place < PLACES; place++, left /= 10) {
            int value = place && !left ? NO_DIGIT : left % 10;
            sum += code->digits[(place * DIGITS + value) * code->width + j];
        }
        out[j] = own * out[j] + digit * sum +
                 wave * cosf((float)number * code->waves[j] + code->waves[code->width + j]);
    }
}

void model_init_numbers(Model *model, uint64_t seed, const int32_t ids[MODEL_NUMBERS]) {
    const Param *p = &model->params.items[model->embedding];
    float *drawn = draw_param(p, seed);
    NumberCode code;
    number_code_open(&code, (int)p->cols, seed);
    for (int number = 0; number < MODEL_NUMBERS; number++)
        if (ids[number] >= 0 && ids[number] < p->rows)
            number_code_mix(&code, number, p->init_scale, drawn + ids[number] * p->cols);
    set_param(model, model->embedding, drawn);
    free(code.digits);
    free(code.waves);
}
