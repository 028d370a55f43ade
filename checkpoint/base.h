/* What a run starts from: a published model (folder, or hub id in the Hugging Face cache), a cadvlm
 * checkpoint, or nothing but a description. An adapter that comes with the base is merged into its
 * weights, W + scale · B · A in f32, rounded once. */
#ifndef CADVLM_CHECKPOINT_BASE_H
#define CADVLM_CHECKPOINT_BASE_H

#include "checkpoint/lineage.h"
#include "comm/comm.h"
#include "config/config.h"
#include "core/file.h"
#include "model/files/published.h"
#include "model/model.h"

typedef enum BaseKind { BASE_NONE, BASE_CHECKPOINT, BASE_PUBLISHED } BaseKind;

typedef struct Base {
    BaseKind kind;
    char folder[PATH_SIZE];  /* a checkpoint, or a published model's */
    char adapter[PATH_SIZE]; /* a PEFT adapter to merge, of a published one; or "" */
    Published published;
    Lineage lineage;       /* the published model that it is, or began as */
    bool reported_unknown; /* once: values and masters are read of the same files */
} Base;

/* Finds what `base_model` names: a checkpoint or run folder of cadvlm, a folder with config.json, a
 * PEFT adapter with its base, a hub id. "": BASE_NONE. */
Err base_find(Base *base, const char *base_model);

/* Identifies the weights of a published folder, with an adapter ("": none) merged into them: 16
 * digits. */
Err base_fingerprint(char out[20], const char *folder, const char *adapter);

/* Puts the base's description into config->model, and what else the base decides where the user has
 * not: max_length, image_aspect_ratio, vision.drop_first_patch. */
Err base_describe(const Base *base, Config *config);

/* The tokenizer that belongs to it: a file or folder for tokenizer_open. */
Err base_tokenizer(const Base *base, char out[PATH_SIZE]);

/* Collective. Gives the model its base parameters; adapters stay as they are. A model that maps its
 * frozen ones gets a file in the compute type, made on first use beside the base, or in `folder`
 * (NULL: the user's cache) where that cannot be written; one rank of each machine makes it. */
Err base_load(Model *model, Base *base, const char *folder, Comm *comm);

/* Master weights of what is trained of the base, as exact as the base has them. */
Err base_masters(Model *model, Base *base, float *flat);

/* base_load for one process, and nothing is mapped or written. */
Err base_fill(Model *model, Base *base);

#endif
