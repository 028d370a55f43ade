/* Whether two models compute the same. */
#ifndef CADVLM_EVAL_COMPARE_H
#define CADVLM_EVAL_COMPARE_H

#include "eval/generator.h"

typedef struct Comparison {
    int samples, rows; /* that were compared; rows of logits */
    double losses[2];  /* of each model, mean over rows */
    double difference; /* the largest of two logits; NaN: one was not finite */
    double largest;    /* logit of the first model, without its sign */
} Comparison;

/* Runs both, of the same shape and prepared for one sample, over `samples` of the shards `data`
 * (those that fit), prepared as `generator` does, or (NULL) of noise and drawn tokens. */
Err compare_models(Comparison *out, Model *const models[2], const Generator *generator,
                   const char *data, int samples);

#endif
