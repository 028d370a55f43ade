#include "eval/setup.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/processors.h"
#include "core/system.h"
#include "core/text.h"
#include "data/exclude.h"

int setup_threads(const Config *config, const Comm *comm) {
    if (config->threads > 0) return (int)config->threads;
    return processors_share(processors_allowed(), comm_sharing(comm), processors_quota(""),
                            comm_local_size(comm));
}

Err setup_without_gpu(const char *why, bool built, const char *root, const Comm *comm) {
    char file[DEVICE_FILE_SIZE], chosen[160] = "";
    bool driver = system_nvidia_file(file, root);
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (visible) snprintf(chosen, sizeof chosen, " (CUDA_VISIBLE_DEVICES is \"%.100s\")", visible);
    REQUIRE(!built || !driver, ERR_DEVICE,
            "device: auto found no GPU to use, but this machine has %s: %s%s; mend that, or set "
            "device: cpu to train on the processor",
            file, why, chosen);
    if (comm_rank(comm) != 0) return OK;
    if (built)
        log_warn("no GPU: no /dev/nvidia* here, and CUDA says: %s%s; going on with the "
                 "processor (device: cpu asks for it, without this line)",
                 why, chosen);
    else if (driver)
        log_warn("this machine has %s, but %s; going on with the processor", file, why);
    return OK;
}

Err setup_device(Exec **ex, const Config *config, const Comm *comm) {
    const char *why = "there is none";
    int gpus = config->device == DEVICE_CPU ? 0 : exec_device_count(&why);
    if (config->device == DEVICE_CUDA || gpus > 0)
        return exec_open(ex, EXEC_CUDA, gpus > 0 ? comm_local_rank(comm) % gpus : 0);
    if (config->device == DEVICE_AUTO)
        TRY(setup_without_gpu(why, exec_is_built(EXEC_CUDA), "", comm));
    return exec_open(ex, EXEC_CPU, setup_threads(config, comm));
}

static void exclude(Exclusions *exclusions, Dataset *dataset, const char *name) {
    size_t counts[SPLIT_COUNT], all = 0;
    exclusions_apply(exclusions, dataset, counts);
    for (int s = 0; s < SPLIT_COUNT; s++) all += counts[s];
    if (all)
        log_info(
            "exclude: %zu of the %zu samples of %s are left out (train %zu, val %zu, test %zu)",
            all, dataset_count(dataset), name, counts[SPLIT_TRAIN], counts[SPLIT_VAL],
            counts[SPLIT_TEST]);
}

static Err open_set(Data *data, const DatasetConfig *config, const Config *all,
                    Exclusions *exclusions) {
    TrainDataset *set = &data->sets[data->count];
    set->config = config;
    Err err = dataset_open(&set->dataset, config->path);
    if (err != OK) return err_prefix(err, "dataset %s: ", config->name);
    data->count++;
    exclude(exclusions, set->dataset, config->name);
    size_t samples = 0, limit = config->limit ? (size_t)config->limit : (size_t)all->limit;
    for (size_t i = 0; i < dataset_count(set->dataset); i++)
        samples += dataset_split(set->dataset, i) == SPLIT_TRAIN;
    data->samples += limit && limit < samples ? limit : samples;
    return OK;
}

static Err open_sets(Data *data, const Config *config, Exclusions *exclusions) {
    if (config->train_data[0]) {
        text_escape(data->single.name, sizeof data->single.name, path_name(config->train_data));
        snprintf(data->single.path, sizeof data->single.path, "%s", config->train_data);
        data->single.weight = 1;
        TRY(open_set(data, &data->single, config, exclusions));
    }
    for (int i = 0; i < config->dataset_count; i++)
        TRY(open_set(data, &config->datasets[i], config, exclusions));
    if (config->val_data[0]) {
        TRY(dataset_open(&data->val, config->val_data));
        exclude(exclusions, data->val, config->val_data);
    }
    data->excluded = exclusions_hash(exclusions);
    return exclusions_check(exclusions);
}

Err data_setup(Data *data, const Config *config) {
    Exclusions *exclusions;
    *data = (Data){0};
    REQUIRE(config->train_data[0] || config->dataset_count, ERR_CONFIG,
            "there is nothing to train on: set train_data or datasets");
    TRY(exclusions_open(&exclusions, config->exclude));
    Err err = open_sets(data, config, exclusions);
    exclusions_close(&exclusions);
    return err;
}

void data_close(Data *data) {
    for (int i = 0; i < data->count; i++) dataset_close(&data->sets[i].dataset);
    dataset_close(&data->val);
}

static PictureFit fit_of(const Config *config) {
    static const PictureFit fits[] = {
        [FIT_EXACT] = PICTURE_EXACT, [FIT_SQUASH] = PICTURE_SQUASH, [FIT_CROP] = PICTURE_CROP};
    return config->image_aspect == ASPECT_PAD ? PICTURE_PAD : fits[config->model.vision.fit];
}

void batches_setup(BatchesOptions *options, const Config *config, const ModelSpec *spec,
                   const Tokenizer *tokenizer) {
    static const Template templates[] = {[TEMPLATE_NAME_PLAIN] = TEMPLATE_PLAIN,
                                         [TEMPLATE_NAME_LLAMA] = TEMPLATE_LLAMA,
                                         [TEMPLATE_NAME_GEMMA] = TEMPLATE_GEMMA,
                                         [TEMPLATE_NAME_PHI] = TEMPLATE_PHI};
    const VisionConfig *v = &spec->vision;
    *options = (BatchesOptions){
        .tokenizer = tokenizer,
        .template = templates[config->model.template],
        .system_prompt = config->model.system_prompt[0] ? config->model.system_prompt : NULL,
        .seed = (uint64_t)config->seed,
        .size = (int)config->training.per_device_batch_size,
        .max_length = (int)config->training.max_length,
        .overlong = config->training.overlong,
        .image_size = (int)v->image_size,
        .image_channels = (int)v->channels,
        .image_fit = fit_of(config),
        .image_rows = model_image_rows(spec),
        .workers = (int)config->dataloader_num_workers,
    };
    for (int c = 0; c < 3; c++) {
        double mean = v->mean.values[c < v->mean.count ? c : 0];
        options->image_background[c] = (uint8_t)(255 * fmin(fmax(mean, 0), 1));
    }
}
