/* All weights of a model folder as one set of tensors under the names of the published checkpoints.
 *
 * A folder has model.safetensors; or model.safetensors.index.json and the shards it names; or, as
 * TinyLLaVA leaves a run, a folder each of language_model, vision_tower and connector with such
 * files. Pickles (.bin) are never opened: the error says how to convert them. */
#ifndef CADVLM_MODEL_FILES_WEIGHT_FILES_H
#define CADVLM_MODEL_FILES_WEIGHT_FILES_H

#include "model/files/safetensors.h"

typedef struct WeightFiles WeightFiles;

/* Maps and checks every file: each tensor is in one of them only, and in the one that the index
 * names. */
Err weight_files_open(WeightFiles **files, const char *folder);

/* One file of a run's component ("connector"; NULL: of the whole model). */
Err weight_files_open_one(WeightFiles **files, const char *path, const char *component);

void weight_files_close(WeightFiles **files);

int weight_files_count(const WeightFiles *files);
const SafeTensor *weight_files_at(const WeightFiles *files, int index);          /* by name */
const SafeTensor *weight_files_find(const WeightFiles *files, const char *name); /* or NULL */
uint64_t weight_files_bytes(const WeightFiles *files);

/* safetensors_hash of all: the same however they are dealt out to files. */
void weight_files_hash(HashStream *stream, const WeightFiles *files);

/* The file that a tensor of these lies in, for messages; the folder. */
const char *weight_files_path(const WeightFiles *files, const SafeTensor *tensor);
const char *weight_files_folder(const WeightFiles *files);

/* ERR_INPUT: `what` ("weights") of a folder are in a pickle alone; with the command that converts
 * them. */
Err weight_files_refuse_pickle(const char *folder, const char *what);

#endif
