/* A trained model that reads drawings: picture in, code out. Evaluation and `cadvlm generate` stand
 * on it. */
#ifndef CADVLM_EVAL_GENERATOR_H
#define CADVLM_EVAL_GENERATOR_H

#include "comm/comm.h"
#include "config/config.h"
#include "core/file.h"
#include "data/batches.h"
#include "data/tokenizer/tokenizer.h"
#include "image/image.h"
#include "model/model.h"

typedef struct Generator {
    char checkpoint[PATH_SIZE]; /* the resolved one */
    int64_t step;               /* that it was saved after; 0: a published model */
    Config config;
    Exec *ex;
    int threads;
    Tokenizer *tokenizer;
    Model *model;
    BatchesOptions options; /* size: drawings at a time */
    bool reported_broken;
} Generator;

/* Collective. Opens a model to generate with: a checkpoint, the newest one of a run folder, or a
 * published model as base_find finds it. Each rank opens its own. generator_close also after a
 * failure. */
Err generator_open(Generator *generator, Comm *comm, const char *path);
void generator_close(Generator *generator);

/* What the model wrote about one drawing. */
typedef struct GeneratedCode {
    Buf code;    /* never longer than code can be */
    int tokens;  /* without the end token */
    bool ended;  /* the model ended by itself */
    bool broken; /* it gave no numbers; the code is what came before */
    double confidence;
} GeneratedCode;

/* Reads up to options.size drawings of the model's size, greedily. prompts (may be NULL) and names
 * belong to the images; max_new tokens each (0: all that the model has room for). generated[count];
 * free each with generated_code_free, also after a failure. */
Err generator_run(Generator *generator, const Image *images, const char *const *prompts,
                  const char *const *names, int count, int max_new, GeneratedCode *generated);
void generated_code_free(GeneratedCode *generated);

/* Reads sample `index` and its picture, which must be there and have the model's size. The sample's
 * pointers lie in `memory`. */
Err picture_read(Image *image, Sample *sample, Buf *memory, const BatchesOptions *options,
                 const Dataset *dataset, size_t index);

#endif
