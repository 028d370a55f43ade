/* A trained model as a folder that transformers loads: full weights under the published names. */
#ifndef CADVLM_MODEL_FILES_EXPORT_H
#define CADVLM_MODEL_FILES_EXPORT_H

#include "core/folder.h"
#include "model/files/published.h"

typedef struct MergeInfo {
    const char *base_folder; /* the published folder that the model began as: for its weights, its
                                config, and what it has beside; NULL: none */
    const char *tokenizer_folder;       /* its files of these names go along; */
    const char *const *tokenizer_files; /* NULL-ended; NULL: none */
    const struct Adapter *merge;        /* that was merged into it first; NULL: none */
    bool base_changed; /* its frozen weights are not the folder's any more: the model's are taken */
    const Published *published; /* what config.json is to say; NULL: what the base's says */
    DType dtype;                /* of the weights written: f32, bf16 or f16 */
    int64_t shard_bytes;        /* 0: 5 GB, as transformers does it */
    const SmallFile *beside;    /* [beside_count] that go along */
    int beside_count;
    bool show_progress;
} MergeInfo;

/* W + scale · B · A in f32, from the base's own numbers where it is given, and the masters of what
 * was trained (`flat`; NULL: the values), rounded once. Tensors that only the base has are copied,
 * so that nothing is missing to who loads it. The folder is complete or absent, and must not hold
 * anything. */
Err model_save_merged(Model *model, const char *folder, const MergeInfo *info, const float *flat);

#endif
