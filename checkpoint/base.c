/* What a run starts from; see the header. */
#include "checkpoint/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/preprocessor.h"
#include "checkpoint/weight_cache.h"
#include "core/clock.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/signals.h"
#include "core/text.h"
#include "hub/cache.h"
#include "model/files/adapter.h"
#include "model/files/merge.h"
#include "model/files/param_files.h"

/* ---- finding ---- */

static Err find_folder(char out[PATH_SIZE], const char *name) {
    if (hub_is_id(name)) return hub_resolve(out, name, NULL);
    TRY(path_format(out, "%s", name));
    TRY(file_reach(out));
    REQUIRE(file_is_directory(out), ERR_INPUT,
            "%s is no folder: a checkpoint, a run folder, a published model or its hub id "
            "(owner/name) is expected",
            name);
    return OK;
}

/* base->folder is a published model, called `name`; `adapter` comes with it ("": none). */
static Err take_published(Base *base, const char *name, const char *adapter) {
    Lineage *lineage = &base->lineage;
    char real[PATH_SIZE];
    base->kind = BASE_PUBLISHED;
    REQUIRE(realpath(base->folder, real), ERR_IO, "cannot find %s", base->folder);
    snprintf(lineage->name, sizeof lineage->name, "%s", name);
    lineage->on_hub = hub_is_id(name);
    TRY(path_format(lineage->folder, "%s", real));
    TRY(path_format(lineage->adapter, "%s", adapter));
    TRY(path_format(base->adapter, "%s", adapter));
    return published_read(&base->published, base->folder);
}

/* A folder that is a PEFT adapter alone names its base, which must be a published model. */
static Err follow_adapter(Base *base) {
    Adapter *adapter;
    char folder[PATH_SIZE], named[CONFIG_TEXT];
    TRY(path_format(folder, "%s", base->folder));
    TRY(adapter_open(&adapter, folder));
    snprintf(named, sizeof named, "%s", adapter_config(adapter)->base);
    adapter_close(&adapter);
    REQUIRE(named[0], ERR_INPUT,
            "%s/adapter_config.json names no base model: set base_model to the "
            "base, and adapter to this folder",
            folder);
    Err err = find_folder(base->folder, named);
    if (err != OK) return err_prefix(err, "the base of %s: ", folder);
    REQUIRE(published_is(base->folder) && !adapter_is(base->folder), ERR_INPUT,
            "%s: its base %s is no published model", folder, named);
    return take_published(base, named, folder);
}

Err base_find(Base *base, const char *base_model) {
    *base = (Base){.kind = BASE_NONE};
    if (!base_model[0]) return OK;
    TRY(find_folder(base->folder, base_model));
    if (published_is(base->folder))
        return take_published(base, base_model, adapter_is(base->folder) ? base->folder : "");
    if (adapter_is(base->folder)) return follow_adapter(base);
    char found[PATH_SIZE];
    Err err = checkpoint_resolve(found, base->folder);
    if (err != OK) return err_prefix(err, "it has no config.json, as a published model has; ");
    base->kind = BASE_CHECKPOINT;
    TRY(path_format(base->folder, "%s", found));
    TRY(lineage_read(&base->lineage, base->folder));
    base->lineage.changed = true; /* its adapter will be merged */
    return OK;
}

Err base_fingerprint(char out[20], const char *folder, const char *adapter) {
    WeightFiles *files = NULL;
    Adapter *merged = NULL;
    Err err = weight_files_open(&files, folder);
    if (err == OK && adapter[0]) err = adapter_open(&merged, adapter);
    if (err == OK) {
        HashStream *stream = hash_open();
        weight_files_hash(stream, files);
        if (merged) adapter_hash(stream, merged);
        snprintf(out, 20, "%016llx", (unsigned long long)hash_value(stream));
        hash_close(&stream);
    }
    adapter_close(&merged);
    weight_files_close(&files);
    return err;
}

/* ---- describing ---- */

static Err read_checkpoint_config(Config *config, const char *checkpoint) {
    char path[PATH_SIZE];
    TRY(path_join(path, checkpoint, "config.yaml"));
    return config_load(config, path, NULL, 0);
}

/* What a checkpoint's config says of its model, but for what the user states. */
static void take_description(Config *config, const Config *theirs) {
    bool drop = config_stated(config, "vision.drop_first_patch")
                    ? config->model.vision.drop_first_patch
                    : theirs->model.vision.drop_first_patch;
    config->model = theirs->model;
    config->model.vision.drop_first_patch = drop;
    if (!config_stated(config, "training.max_length"))
        config->training.max_length = theirs->training.max_length;
    if (config->adapter[0]) { /* of a run that is resumed: the adapter has done its part */
        double dropout =
            config_stated(config, "lora.dropout") ? config->lora.dropout : theirs->lora.dropout;
        config->lora = theirs->lora;
        config->lora.dropout = dropout;
        config->tune.llm = theirs->tune.llm;
        config->tune.vision = theirs->tune.vision;
    }
    if (!config_stated(config, "image_aspect_ratio")) config->image_aspect = theirs->image_aspect;
}

static Err describe(const Base *base, Config *config) {
    if (base->kind == BASE_PUBLISHED) {
        published_into_config(config, &base->published);
        TRY(preprocessor_read(config, base->folder));
        return base->adapter[0] ? preprocessor_read(config, base->adapter) : OK;
    }
    Config *theirs = malloc(sizeof *theirs);
    CHECK(theirs, "out of memory: a config");
    Err err = read_checkpoint_config(theirs, base->folder);
    if (err == OK) take_description(config, theirs);
    free(theirs);
    return err;
}

Err base_describe(const Base *base, Config *config) {
    TemplateName template = config->model.template;
    char prompt[CONFIG_TEXT];
    snprintf(prompt, sizeof prompt, "%s", config->model.system_prompt);
    if (base->kind == BASE_NONE) return OK;
    TRY(describe(base, config));
    if (config_stated(config, "model.template")) config->model.template = template;
    if (config_stated(config, "model.system_prompt"))
        snprintf(config->model.system_prompt, sizeof config->model.system_prompt, "%s", prompt);
    return OK;
}

Err base_tokenizer(const Base *base, char out[PATH_SIZE]) {
    return path_format(out, "%s", base->folder);
}

/* ---- reading weights ---- */

/* Where base parameters come from, with what adapts them merged. */
typedef struct BaseReader {
    Exec *ex;
    WeightFiles *files;
    Adapter *adapter;          /* of a published model, or NULL */
    PublishedSource published; /* over the two */
    /* Of a checkpoint: the model as it was trained, whose frozen parameters are in files alone, and
     * whose others, adapters among them, are in memory in f32. */
    Model *shape;
    AdapterPlace *places;
    int place_count;
    WeightSource unstopped; /* what reads a parameter */
    WeightSource source;    /* the same, until a signal comes */
} BaseReader;

/* Reading a large base takes minutes, in which a scheduler's warning must not go unheard. */
static Err read_until_signal(void *context, const Param *p, float *out) {
    const BaseReader *r = context;
    REQUIRE(!signals_pending(), ERR_STOPPED, "stopped by a signal while weights were read, at %s",
            p->name);
    return r->unstopped.read(r->unstopped.context, p, out);
}

static Err read_trained(const BaseReader *r, const Param *p, ParamId id, float *out) {
    const Params *params = model_params(r->shape);
    if (id != PARAM_NONE && !params->items[id].outside) {
        param_download(out, r->ex, param_value(params, id));
        return OK;
    }
    const SafeTensor *t = r->files ? weight_files_find(r->files, p->name) : NULL;
    REQUIRE(t, ERR_INPUT, "the checkpoint has no %s", p->name);
    const char *path = weight_files_path(r->files, t);
    TRY(param_check_tensor(p, t, path));
    return param_widen(out, t, DT_F32, path);
}

static Err read_checkpoint(void *context, const Param *p, float *out) {
    const BaseReader *r = context;
    const Params *params = model_params(r->shape);
    ParamId id = params_find(params, p->name);
    TRY(read_trained(r, p, id, out));
    const AdapterPlace *place = adapter_place_of(r->places, r->place_count, id);
    return place ? merge_into(r->ex, out, p->rows, p->cols, param_value(params, place->a).data,
                              param_value(params, place->b).data, place->r, place->scale)
                 : OK;
}

static Err open_checkpoint(BaseReader *r, const char *checkpoint, int vocab) {
    char path[PATH_SIZE];
    ModelSpec spec;
    Config *config = malloc(sizeof *config);
    CHECK(config, "out of memory: a config");
    Err err = read_checkpoint_config(config, checkpoint);
    if (err == OK) model_spec_from_config(&spec, config, vocab);
    free(config);
    TRY(err);
    spec.mapped = true;
    TRY(model_open(&r->shape, r->ex, &spec, DT_F32));
    TRY(path_join(path, checkpoint, "trained.safetensors"));
    int found;
    TRY(model_load(r->shape, path, NULL, &found));
    r->places = adapter_places(r->shape, &r->place_count);
    r->unstopped = (WeightSource){read_checkpoint, r};
    TRY(path_join(path, checkpoint, "frozen.safetensors"));
    return file_exists(path) ? weight_files_open_one(&r->files, path, NULL) : OK;
}

static Err open_published(BaseReader *r, Base *base, const Model *model) {
    LoadReport report;
    TRY(weight_files_open(&r->files, base->folder));
    if (base->adapter[0]) TRY(adapter_open(&r->adapter, base->adapter));
    r->published = (PublishedSource){.ex = r->ex, .files = r->files, .merge = r->adapter};
    r->unstopped = (WeightSource){published_read_param, &r->published};
    TRY(published_check(model, &r->published, &report));
    if (report.unknown && !base->reported_unknown)
        log_warn("%s has %d tensors that the model has no place for, %s the first: they are not "
                 "used",
                 base->folder, report.unknown, report.first_unknown);
    base->reported_unknown = true;
    return OK;
}

static Err base_reader_open(BaseReader *r, Base *base, const Model *model) {
    *r = (BaseReader){0};
    r->source = (WeightSource){read_until_signal, r};
    TRY(exec_open(&r->ex, EXEC_CPU, 1));
    return base->kind == BASE_PUBLISHED
               ? open_published(r, base, model)
               : open_checkpoint(r, base->folder, (int)model_spec(model)->llm.vocab);
}

static void base_reader_close(BaseReader *r) {
    free(r->places);
    adapter_close(&r->adapter);
    weight_files_close(&r->files);
    model_close(&r->shape);
    exec_close(&r->ex);
}

/* ---- the file to map ---- */

static Err make_weight_cache(const Model *model, Base *base, const WeightCache *place) {
    BaseReader reader;
    double began = clock_seconds();
    log_info("converting %s to %s for all ranks of this machine: %s", base->folder,
             dtype_name(model_dtype(model)), place->path);
    Err err = base_reader_open(&reader, base, model);
    if (err == OK) err = model_write_mapped(model, place->path, &reader.source);
    base_reader_close(&reader);
    if (err == OK) log_info("converted in %.1f s", clock_seconds() - began);
    return err == OK ? weight_cache_remove_old(place) : err;
}

/* Finds a model's weight cache, which the first rank of a machine makes where it is not there. */
static Err need_weight_cache(WeightCache *place, const Model *model, Base *base, const char *folder,
                             const Comm *comm) {
    TRY(weight_cache_find(place, model, base, folder));
    return comm_local_rank(comm) == 0 && !file_exists(place->path)
               ? make_weight_cache(model, base, place)
               : OK;
}

Err base_fill(Model *model, Base *base) {
    BaseReader reader;
    Err err = base_reader_open(&reader, base, model);
    if (err == OK) err = model_fill(model, &reader.source);
    base_reader_close(&reader);
    return err;
}

Err base_masters(Model *model, Base *base, float *flat) {
    BaseReader reader;
    Err err = base_reader_open(&reader, base, model);
    if (err == OK) err = model_fill_masters(model, &reader.source, flat);
    base_reader_close(&reader);
    return err;
}

Err base_load(Model *model, Base *base, const char *folder, Comm *comm) {
    WeightCache place;
    bool mapped =
        model_spec(model)->mapped; /* not where a rank has a GPU: all agree all the same */
    TRY(comm_agree(comm, mapped ? need_weight_cache(&place, model, base, folder, comm) : OK));
    Err err = mapped ? model_map(model, place.path) : base_fill(model, base);
    if (err != OK && mapped)
        err = err_prefix(err, "converted weights (delete the file, and it is made anew): ");
    return comm_agree(comm, err);
}
