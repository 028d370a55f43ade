/* Elements of parameters, and parameters other than they begin. */
#ifndef CADVLM_TESTS_MODEL_MODEL_FIXTURE_H
#define CADVLM_TESTS_MODEL_MODEL_FIXTURE_H

#include "core/rng.h"
#include "model/model.h"
#include "model/model_internal.h"
#include "tests/support/test.h"
#include "tests/support/tiny.h"

/* Number k of an f32 tensor, row by row. */
static inline float *element(Tensor t, int64_t k) {
    return (float *)t.data + k / t.cols * t.stride + k % t.cols;
}

/* Makes every adapter's B and every norm and bias something other than its start, so that no
 * gradient is zero by chance. */
static inline void shake(Tiny *tiny) {
    Params *params = model_params(tiny->model);
    Rng rng;
    rng_open(&rng, 11, RNG_TEST, 0);
    for (int i = 0; i < params->count; i++) {
        Tensor v = param_value(params, i);
        for (int64_t k = 0; k < v.rows * v.cols; k++)
            *element(v, k) += 0.15f * (float)rng_normal(&rng);
    }
}

#endif
