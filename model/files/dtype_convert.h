/* Numbers of files made into f32 and back, in host memory. What lies in a mapped file need not be
 * aligned. */
#ifndef CADVLM_MODEL_FILES_DTYPE_CONVERT_H
#define CADVLM_MODEL_FILES_DTYPE_CONVERT_H

#include "ops/tensor.h"

/* From f32, bf16 or f16; exact. */
void dtype_widen(float *out, const void *in, DType from, int64_t count);

/* To f32, bf16 or f16, to nearest, ties to even. What is too large becomes infinite. */
void dtype_narrow(void *out, DType to, const float *in, int64_t count);

/* The largest f32 that stays finite in that type. */
float dtype_limit(DType dtype);

/* The first that is NaN or beyond ± limit; `count` where there is none. */
int64_t dtype_first_beyond(const float *x, int64_t count, float limit);

#endif
