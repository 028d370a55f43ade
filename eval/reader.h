/* A trained model that reads drawings: picture in, code out. Evaluation and `cadvlm generate` stand
 * on it. */
#ifndef CADVLM_EVAL_READER_H
#define CADVLM_EVAL_READER_H

#include "comm/comm.h"
#include "config/config.h"
#include "core/file.h"
#include "data/batches.h"
#include "data/tokenizer/tokenizer.h"
#include "image/image.h"
#include "model/model.h"

typedef struct Reader {
    char checkpoint[PATH_SIZE]; /* the resolved one */
    int64_t step;               /* that it was saved after; 0: a published model */
    Config config;
    Exec *ex;
    int threads;
    Tokenizer *tokenizer;
    Model *model;
    BatchesOptions options; /* size: drawings at a time */
    bool told_broken;
} Reader;

/* Collective. Opens a model for reading: a checkpoint, the newest one of a run folder, or a
 * published model as base_find finds it. Each rank opens its own. reader_close also after a
 * failure. */
Err reader_open(Reader *reader, Comm *comm, const char *path);
void reader_close(Reader *reader);

/* What the model wrote about one drawing. */
typedef struct Reading {
    Buf code;    /* never longer than code can be */
    int tokens;  /* without the end token */
    bool ended;  /* the model ended by itself */
    bool broken; /* it gave no numbers; the code is what came before */
    double confidence;
} Reading;

/* Reads up to options.size drawings of the model's size, greedily. prompts (may be NULL) and names
 * belong to the images; max_new tokens each (0: all that the model has room for). readings[count];
 * free each with reading_free, also after a failure. */
Err reader_read(Reader *reader, const Image *images, const char *const *prompts,
                const char *const *names, int count, int max_new, Reading *readings);
void reading_free(Reading *reading);

/* Reads sample `index` and its picture, which must be there and have the model's size. The sample's
 * pointers lie in `memory`. */
Err picture_read(Image *image, Sample *sample, Buf *memory, const BatchesOptions *options,
                 const Dataset *dataset, size_t index);

#endif
