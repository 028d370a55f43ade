/* A published model beside what transformers and PEFT compute on it: a folder, and an
 * expected.safetensors of tools/reference/golden.py or full_check.py, which describe its tensors.
 */
#ifndef CADVLM_TESTS_MODEL_REFERENCE_H
#define CADVLM_TESTS_MODEL_REFERENCE_H

#include "model/model_internal.h"
#include "tests/model/golden_model.h"
#include "tests/support/test.h"

/* A published model, opened, with its golden micro-batch. */
typedef struct Reference {
    char folder[PATH_SIZE];
    SafeTensors *expected;
    Exec *ex;
    Model *model;
    float *grads;
    GoldenBatch made; /* of GOLDEN_SAMPLES samples, or of one of a model of full size */
} Reference;

/* Dropout is off, as in the reference. `lora` NULL: there is none. */
void reference_spec(ModelSpec *spec, const char *folder, Tune tune, const LoraConfig *lora);

/* The model of `folder` on `ex`, which it then owns, with an adapter merged (NULL: none), and what
 * is expected of it in the folder `golden`. */
void reference_open_merged(Reference *r, Exec *ex, const char *folder, const char *golden,
                           const ModelSpec *spec, const Adapter *merge);
void reference_open_on(Reference *r, Exec *ex, const char *arch, Tune tune, const LoraConfig *lora);
void reference_open(Reference *r, const char *arch, Tune tune, const LoraConfig *lora);
void reference_close(Reference *r);
Exec *reference_host(void);

/* The micro-batch again, cut or with other labels. */
void reference_rebuild(Reference *r, int max_length, bool all);

/* Forward; the loss, mean over labels. */
double reference_loss(Reference *r, bool train);

/* An expected tensor: one that must be there; or NULL; KIND.KEY of a parameter. */
__attribute__((format(printf, 2, 3))) const SafeTensor *reference_expect(const Reference *r,
                                                                         const char *format, ...);
const SafeTensor *reference_find(const Reference *r, const char *name);
const SafeTensor *reference_key(const Reference *r, const char *kind, const Param *p);

/* The largest difference from t's numbers from `first` on is a share of the largest of these. */
void reference_near(const Reference *r, const char *what, Tensor found, const SafeTensor *t,
                    int64_t first, double allowed);

#endif
