/* Model folders as TinyLLaVA publishes them: what config.json says of a model, and its weights.
 *
 * config.json leaves out what is the default of transformers' class for the part (LlamaConfig,
 * SiglipVisionConfig, …), or a whole part whose name is known; both are filled in. What this
 * program computes otherwise than the file asks for is refused by name, never ignored. */
#ifndef CADVLM_MODEL_PUBLISHED_H
#define CADVLM_MODEL_PUBLISHED_H

#include "model/model.h"
#include "model/weight_files.h"

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
        vision_name[PUBLISHED_NAME]; /* hub ids of the parts; may be "" */
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

typedef struct BaseOptions {
    const struct Adapter *const *merge; /* [merge_count] adapters to merge, in this order */
    int merge_count;
    float *flat;        /* the flat array of masters, to fill with what is trained; or NULL */
    bool show_progress; /* and warnings: for one rank */
} BaseOptions;

typedef struct LoadReport {
    int loaded;         /* tensors put into the model */
    int64_t parameters; /* numbers in them */
    int merged;         /* adapters of linears merged into them */
    int unused;         /* tensors that are known not to be used */
    int unknown;        /* others that the model has no place for */
    char first_unknown[PARAM_NAME];
} LoadReport;

/* Every base parameter of the model from a folder's files, with adapters merged in f32 and rounded
 * once. All must be there, with their shapes and finite; adapters of the model are left alone.
 * `options` may be NULL; the report, which may be NULL, is filled. */
Err model_load_published(Model *model, const WeightFiles *files, const BaseOptions *options,
                         LoadReport *report);

/* The same as a source for model_write_store: read gives the f32 values of a base parameter. The
 * files and adapters are borrowed. published_check finds what is missing, misshapen or left over,
 * before anything is read. */
typedef struct PublishedSource {
    Exec *ex;
    const WeightFiles *files;
    const struct Adapter *const *merge;
    int merge_count;
} PublishedSource;

Err published_read_param(void *source, const Param *param, float *out);

/* A parameter's tensor, before adapters, and the file or folder it is in; NULL: there is none. */
const SafeTensor *published_tensor(const PublishedSource *source, const Param *param,
                                   const char **path);
/* Whether an adapter changes it. */
bool published_is_adapted(const PublishedSource *source, const Param *param);

Err published_check(const Model *model, const WeightFiles *files, const BaseOptions *options,
                    LoadReport *report);

#endif
