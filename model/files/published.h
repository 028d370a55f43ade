/* Model folders as TinyLLaVA publishes them: what config.json says of a model, and its weights.
 *
 * config.json leaves out what is the default of transformers' class for the component (LlamaConfig,
 * SiglipVisionConfig, …), or a whole component whose name is known; both are filled in. What this
 * program computes otherwise than the file asks for is refused by name, never ignored. */
#ifndef CADVLM_MODEL_FILES_PUBLISHED_H
#define CADVLM_MODEL_FILES_PUBLISHED_H

#include "model/files/weight_files.h"
#include "model/model.h"

enum { PUBLISHED_NAME = 128 };

typedef struct Published {
    VisionConfig vision; /* layers: those that run, up to vision_feature_layer */
    ConnectorConfig connector;
    LlmConfig llm;
    ImageAspect aspect;
    TemplateName template;
    int64_t max_length; /* rows a sample may have, image rows included */
    bool has_code;      /* the file names the code that transformers loads it with (auto_map) */
    char llm_name[PUBLISHED_NAME],
        vision_name[PUBLISHED_NAME]; /* hub ids of the components; may be "" */
} Published;

/* Whether a folder says that it is a model: it has a config.json. */
bool published_is(const char *folder);

Err published_read(Published *out, const char *folder);

/* The model of a config becomes this one. What the user stated is kept where it is a choice: the
 * first patch, the image's aspect, the longest sample. */
void published_into_config(Config *config, const Published *published);

/* Writes a config.json that published_read, and TinyLLaVA with transformers, read back. Of the
 * tower it says the layers that run and no more. `dtype`: of the weights beside it. */
Err published_write_config(const Published *published, DType dtype, const char *folder);

/* "float16", as torch calls it. */
const char *published_dtype(DType dtype);

/* What a model does not use and a published file may have all the same: the tower's last layers and
 * what follows them, tables that are computed here. */
bool published_is_unused(const ModelSpec *spec, const char *name);

/* ---- weights (published_weights.c) ---- */

struct Adapter;

/* Files, and an adapter to merge, as a source of weights (model_fill, model_write_mapped): context
 * of published_read_param, which gives a parameter's values with the adapter merged in f32. All of
 * it is borrowed. */
typedef struct PublishedSource {
    Exec *ex; /* where merging is computed */
    const WeightFiles *files;
    const struct Adapter *merge; /* NULL: none */
} PublishedSource;

Err published_read_param(void *source, const Param *param, float *out);

/* A parameter's tensor, the adapter's where that replaces it whole, and the file or folder it is
 * in; NULL: there is none. */
const SafeTensor *published_tensor(const PublishedSource *source, const Param *param,
                                   const char **path);
/* Whether the adapter adds B · A to it. */
bool published_is_adapted(const PublishedSource *source, const Param *param);

typedef struct LoadReport {
    int loaded;  /* base parameters that are there */
    int merged;  /* those that the adapter adds to */
    int unused;  /* tensors that are known not to be used */
    int unknown; /* others that the model has no place for */
    char first_unknown[PARAM_NAME];
} LoadReport;

/* What is there against the model, before anything is read: every base parameter with its shape,
 * a tied head the embedding again, the adapter one for this base. The report is for the caller to
 * say what is left over. */
Err published_check(const Model *model, const PublishedSource *source, LoadReport *report);

#endif
