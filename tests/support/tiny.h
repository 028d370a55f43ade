/* A model small enough to check every part of, and batches for it. */
#ifndef CADVLM_TESTS_SUPPORT_TINY_H
#define CADVLM_TESTS_SUPPORT_TINY_H

#include "model/model.h"

enum { TINY_VOCAB = 23, TINY_EOS = 2 };

/* Layers of different widths, grouped queries, QK norm; four patches a picture. */
void tiny_spec(ModelSpec *spec, Tune vision, Tune connector, Tune llm);

/* The same with the decoder of another family, or CLIP's tower before OpenELM's decoder. */
typedef enum TinyFamily { TINY_OPENELM, TINY_CLIP, TINY_LLAMA, TINY_GEMMA, TINY_PHI } TinyFamily;
enum { TINY_FAMILIES = TINY_PHI + 1 };
const char *tiny_family_name(TinyFamily family);
void tiny_spec_of(ModelSpec *spec, TinyFamily family, Tune vision, Tune connector, Tune llm);

/* `samples` samples of different lengths with pictures of seeded noise, one picture each. Free with
 * tiny_batch_free. */
Batch tiny_batch(const ModelSpec *spec, int samples, uint64_t seed);
/* The same with so many rows of text in each. */
Batch tiny_batch_of(const ModelSpec *spec, const int *texts, int samples, uint64_t seed);
void tiny_batch_free(Batch *batch);

/* Takes the labels of the last `rows` rows of every sample away, and all of sample 1. */
void tiny_batch_cut_labels(Batch *batch, int rows);

/* An opened, initialised and prepared model; gradients in an array of its own. */
typedef struct Tiny {
    Exec *ex;
    Model *model;
    ModelSpec spec;
    float *grads; /* device */
} Tiny;

void tiny_open(Tiny *tiny, const ModelSpec *spec, DType dtype, int threads);
/* The same over an Exec, which it takes. */
void tiny_open_on(Tiny *tiny, Exec *ex, const ModelSpec *spec, DType dtype);
void tiny_close(Tiny *tiny);

/* A copy of the gradients in host memory; free with free. */
float *tiny_grads(const Tiny *tiny);

/* Zeroes the gradients, runs forward and backward, returns the summed loss. */
double tiny_step(Tiny *tiny, const Batch *batch);
double tiny_loss(Tiny *tiny, const Batch *batch);

#endif
