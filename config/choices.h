/* Choices of the config that other modules act on: defined once, so that no module has a twin whose
 * order may differ. */
#ifndef CADVLM_CONFIG_CHOICES_H
#define CADVLM_CONFIG_CHOICES_H

/* GELU by tanh, GELU by erf, x · sigmoid(1.702 x), x · sigmoid(x). */
typedef enum Activation {
    ACTIVATION_GELU_TANH,
    ACTIVATION_GELU,
    ACTIVATION_QUICK_GELU,
    ACTIVATION_SILU
} Activation;

/* What happens to a sample of more than training.max_length rows. */
typedef enum Overlong {
    OVERLONG_DROP,     /* in a walk the next sample of its dataset that fits takes its place; a
                          batch that is built alone leaves it out */
    OVERLONG_TRUNCATE, /* its code is cut, without an end token; a prompt too long is an error */
    OVERLONG_ERROR
} Overlong;

#endif
