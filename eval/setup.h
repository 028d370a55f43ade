/* What a run stands on: the device, the data, the tokenizer, the model. */
#ifndef CADVLM_EVAL_SETUP_H
#define CADVLM_EVAL_SETUP_H

#include "comm/comm.h"
#include "config/config.h"
#include "core/file.h"
#include "data/batches.h"
#include "data/tokenizer/tokenizer.h"
#include "model/model.h"

/* Threads that this rank may use: what the config says, or its share of the processors. */
int setup_threads(const Config *config, const Comm *comm);

/* Opens the device that the config asks for: this rank's GPU by its number on the machine, or the
 * processors this rank may use. `device: auto` is a GPU where there is one, see below. */
Err setup_device(Exec **ex, const Config *config, const Comm *comm);

/* Whether `device: auto` may mean the processor where no GPU can be used, because of `why`. A
 * machine that has NVIDIA's driver, and a build that could use it: ERR_DEVICE, with the reason,
 * since nobody means to train there for days on the processor. Otherwise OK; rank 0 warns where
 * either is there. `root` stands before /dev: "". */
Err setup_without_gpu(const char *why, bool built, const char *root, const Comm *comm);

typedef struct TrainDataset {
    Dataset *dataset;
    const DatasetConfig *config;
} TrainDataset;

/* The datasets of a config. */
typedef struct Data {
    DatasetConfig single; /* when train_data names one */
    TrainDataset sets[CONFIG_DATASETS];
    int count;
    Dataset *val;      /* val_data, or NULL: the val split of the sets */
    size_t samples;    /* training samples after limits */
    uint64_t excluded; /* a hash of the samples that are left out; 0: none */
} Data;

Err data_setup(Data *data, const Config *config);
void data_close(Data *data);

/* Batch options that training, validation and evaluation share. */
void batches_setup(BatchesOptions *options, const Config *config, const ModelSpec *spec,
                   const Tokenizer *tokenizer);

#endif
