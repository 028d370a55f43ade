/* LoRA adapters in PEFT's files: adapter_config.json and adapter_model.safetensors.
 *
 * The file's tensors say which linears are adapted; the config says by what they are scaled, by the
 * rules of PEFT 0.10. Tensors that are no adapter's (modules_to_save) replace the base's whole; the
 * connector, which TinyLLaVA trains in full, may also lie beside, in connector/model.safetensors or
 * connector.safetensors. */
#ifndef CADVLM_MODEL_FILES_ADAPTER_H
#define CADVLM_MODEL_FILES_ADAPTER_H

#include "core/folder.h"
#include "model/files/safetensors.h"
#include "model/model.h"

typedef struct Adapter Adapter;

typedef struct AdapterModule {
    char name[PARAM_NAME];   /* of the linear: "language_model. … .q_proj" */
    const SafeTensor *a, *b; /* [r, in], [out, r] */
    int64_t r;
    double alpha;
    float scale; /* of b · a */
} AdapterModule;

typedef struct AdapterConfig {
    LoraConfig lora;        /* r, alpha, dropout, use_rslora; the rest follows from the modules */
    char base[CONFIG_TEXT]; /* base_model_name_or_path: a folder or a hub id; may be "" */
} AdapterConfig;

/* Whether a folder holds an adapter. */
bool adapter_is(const char *folder);

/* Maps and checks both files: pairs of A and B, their ranks against the config's. */
Err adapter_open(Adapter **adapter, const char *folder);
void adapter_close(Adapter **adapter);

const char *adapter_folder(const Adapter *adapter);
const AdapterConfig *adapter_config(const Adapter *adapter);
int adapter_count(const Adapter *adapter);
const AdapterModule *adapter_at(const Adapter *adapter, int index);            /* by name */
const AdapterModule *adapter_find(const Adapter *adapter, const char *module); /* or NULL */

/* Whole tensors under the base's names. */
int adapter_whole_count(const Adapter *adapter);
const SafeTensor *adapter_whole_at(const Adapter *adapter, int index);
const SafeTensor *adapter_whole(const Adapter *adapter, const char *name); /* or NULL */

/* safetensors_hash of all of its tensors, and what they are scaled by. */
void adapter_hash(HashStream *stream, const Adapter *adapter);

/* ---- with a model (adapter_load.c) ---- */

/* How to open a model that goes on with the adapter: what it adapts, and with which ranks and
 * alphas, in the words of a config. `base`: sizes of its base. tune: a component that the adapter
 * adapts is TUNE_LORA, the connector TUNE_FULL where it is in the files, others TUNE_FROZEN. */
Err adapter_describe(const Adapter *adapter, const ModelSpec *base, LoraConfig *lora,
                     Tune tune[COMPONENT_COUNT]);

/* Every module and whole tensor is the model's, in shape too, or is known not to matter: of the
 * tower's layers that do not run, or with B zero. Otherwise the adapter is one for another base. */
Err adapter_check(const Adapter *adapter, const Model *model);

/* What a model adapts already is set to the adapter's values (`flat`, which may be NULL, gets them
 * in f32). Ranks and scales must agree; adapters of the model that the files lack stay as they are.
 * *loaded counts linears. */
Err model_load_adapter(Model *model, const Adapter *adapter, float *flat, int *loaded);

/* ---- writing (adapter_write.c) ---- */

typedef struct AdapterInfo {
    const char *base_model;  /* base_model_name_or_path; what PEFT loads first */
    const SmallFile *beside; /* [beside_count] that go along */
    int beside_count;
} AdapterInfo;

/* The model's adapters, and the connector where it is trained, as PEFT 0.10 writes them, in f32
 * (from the flat array of masters; NULL: from the values); the folder is complete or absent, and
 * must not hold anything. What else is trained in full fits in no adapter and is an error. */
Err model_save_adapter(Model *model, const char *folder, const AdapterInfo *info,
                       const float *flat);

#endif
