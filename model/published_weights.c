/* The base weights of a model from published files, with adapters merged; see model/published.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/progress.h"
#include "model/adapter.h"
#include "model/merge.h"
#include "model/param_files.h"
#include "model/parts.h"
#include "model/published.h"

/* ---- one parameter ---- */

/* The linear that a weight is of; "" for other parameters. */
static void module_of(char out[PARAM_NAME], const Param *p) {
    static const char end[] = ".weight";
    size_t size = strlen(p->name), length = sizeof end - 1;
    out[0] = 0;
    if (p->kind != PARAM_MATRIX || size < length || strcmp(p->name + size - length, end) != 0)
        return;
    memcpy(out, p->name, size - length);
    out[size - length] = 0;
}

/* The last adapter that replaces a parameter; -1: none. */
static int last_whole(const PublishedSource *source, const Param *p) {
    int last = -1;
    for (int i = 0; i < source->merge_count; i++)
        if (adapter_whole(source->merge[i], p->name)) last = i;
    return last;
}

const SafeTensor *published_tensor(const PublishedSource *source, const Param *p,
                                   const char **path) {
    int whole = last_whole(source, p);
    if (whole >= 0) {
        *path = adapter_folder(source->merge[whole]);
        return adapter_whole(source->merge[whole], p->name);
    }
    const SafeTensor *t = weight_files_find(source->files, p->name);
    *path = t ? weight_files_path(source->files, t) : weight_files_folder(source->files);
    return t;
}

bool published_is_adapted(const PublishedSource *source, const Param *p) {
    char module[PARAM_NAME];
    module_of(module, p);
    for (int i = 0; i < source->merge_count; i++)
        if (adapter_find(source->merge[i], module)) return true;
    return false;
}

static Err merge_one(Exec *ex, float *w, const Param *p, const AdapterModule *m, const char *path) {
    float *a = malloc((size_t)m->a->count * sizeof *a),
          *b = malloc((size_t)m->b->count * sizeof *b);
    CHECK(a && b, "out of memory: an adapter of rank %lld", (long long)m->r);
    Err err = param_widen(a, m->a, DT_F32, path);
    if (err == OK) err = param_widen(b, m->b, DT_F32, path);
    if (err == OK) err = merge_into(ex, w, p->rows, p->cols, a, b, m->r, m->scale);
    free(a);
    free(b);
    return err;
}

Err published_read_param(void *context, const Param *p, float *out) {
    const PublishedSource *source = context;
    char module[PARAM_NAME];
    const char *path;
    const SafeTensor *t = published_tensor(source, p, &path);
    REQUIRE(t, ERR_INPUT, "%s: %s is missing", path, p->name);
    TRY(param_check_tensor(p, t, path));
    TRY(param_widen(out, t, DT_F32, path));
    module_of(module, p);
    int first = last_whole(source, p); /* adapters before it are gone with what they adapted */
    for (int i = first < 0 ? 0 : first; i < source->merge_count; i++) {
        const AdapterModule *m = adapter_find(source->merge[i], module);
        if (m) TRY(merge_one(source->ex, out, p, m, adapter_folder(source->merge[i])));
    }
    return OK;
}

/* ---- all of them against the model ---- */

static Err check_parameters(const Model *model, const PublishedSource *source, LoadReport *report) {
    enum { SHOWN = 5 };
    Buf missing = {0};
    int count = 0;
    Err err = OK;
    for (int i = 0; i < model->params.count && err == OK; i++) {
        const Param *p = &model->params.items[i];
        const char *path;
        if (!param_is_base(p)) continue;
        const SafeTensor *t = published_tensor(source, p, &path);
        if (t) {
            err = param_check_tensor(p, t, path);
            report->loaded++;
            report->parameters += t->count;
            report->merged += published_is_adapted(source, p);
        } else if (count++ < SHOWN) {
            buf_format(&missing, "%s%s", count > 1 ? ", " : "", p->name);
        }
    }
    if (err == OK && count)
        err =
            err_raise(ERR_INPUT, __FILE__, __LINE__, "%s lacks %d of the model's parameters: %s%s",
                      weight_files_folder(source->files), count, buf_cstr(&missing),
                      count > SHOWN ? ", …" : "");
    buf_free(&missing);
    return err;
}

/* A tied head may be stored all the same. */
static bool is_embedding_again(const Model *model, const WeightFiles *files, const SafeTensor *t) {
    if (!model->spec.llm.tied_head || strcmp(t->name, "language_model.lm_head.weight") != 0)
        return false;
    const char *name = model->params.items[model->embedding].name;
    const SafeTensor *embedding = weight_files_find(files, name);
    return embedding && !strcmp(embedding->type, t->type) && embedding->bytes == t->bytes &&
           !memcmp(embedding->data, t->data, t->bytes);
}

static void check_left_over(const Model *model, const WeightFiles *files, LoadReport *report) {
    for (int i = 0; i < weight_files_count(files); i++) {
        const SafeTensor *t = weight_files_at(files, i);
        if (params_find(&model->params, t->name) != PARAM_NONE) continue;
        if (published_is_unused(&model->spec, t->name) || is_embedding_again(model, files, t)) {
            report->unused++;
            continue;
        }
        if (!report->unknown++)
            snprintf(report->first_unknown, sizeof report->first_unknown, "%s", t->name);
    }
}

static const BaseOptions NO_OPTIONS = {0};

static PublishedSource source_of(const Model *model, const WeightFiles *files,
                                 const BaseOptions *options) {
    return (PublishedSource){.ex = model->ex,
                             .files = files,
                             .merge = options->merge,
                             .merge_count = options->merge_count};
}

Err published_check(const Model *model, const WeightFiles *files, const BaseOptions *options,
                    LoadReport *out) {
    LoadReport report = {0};
    if (!options) options = &NO_OPTIONS;
    PublishedSource source = source_of(model, files, options);
    for (int i = 0; i < options->merge_count; i++) TRY(adapter_check(options->merge[i], model));
    TRY(check_parameters(model, &source, &report));
    check_left_over(model, files, &report);
    if (report.unknown && options->show_progress)
        log_warn("%s has %d tensors that the model has no place for, %s the first: they are left "
                 "out",
                 weight_files_folder(files), report.unknown, report.first_unknown);
    if (out) *out = report;
    return OK;
}

/* ---- loading ---- */

static Err load_param(Model *model, PublishedSource *source, ParamReader *reader, ParamId id,
                      float *flat) {
    const Param *p = &model->params.items[id];
    const char *path;
    Tensor value = param_value(&model->params, id),
           master = flat && p->trained ? tensor(flat + p->first, DT_F32, p->rows, p->cols)
                                       : tensor_none();
    CHECK(!p->outside, "%s is mapped: nothing loads into it", p->name);
    if (!published_is_adapted(source, p)) {
        const SafeTensor *t = published_tensor(source, p, &path);
        return param_read(reader, value, master, t, path);
    }
    float *wide = malloc((size_t)(p->rows * p->cols) * sizeof *wide);
    CHECK(wide, "out of memory: %lld weights", (long long)(p->rows * p->cols));
    Err err = published_read_param(source, p, wide);
    if (err == OK) err = param_put(reader, value, master, wide, p->name);
    free(wide);
    return err;
}

Err model_load_published(Model *model, const WeightFiles *files, const BaseOptions *options,
                         LoadReport *out) {
    enum { MEGABYTE = 1000000 };
    LoadReport report;
    ParamReader reader;
    Progress progress;
    if (!options) options = &NO_OPTIONS;
    PublishedSource source = source_of(model, files, options);
    TRY(published_check(model, files, options, &report));
    if (out) *out = report;
    TRY(param_reader_open(&reader, model->ex, &model->params));
    int64_t done = 0, element = (int64_t)dtype_size(model->dtype);
    if (options->show_progress)
        progress_open(&progress, "loading weights", "MB", 0,
                      report.parameters * element / MEGABYTE);
    Err err = OK;
    for (int i = 0; i < model->params.count && err == OK; i++) {
        const Param *p = &model->params.items[i];
        if (!param_is_base(p)) continue;
        err = load_param(model, &source, &reader, i, options->flat);
        done += p->rows * p->cols;
        if (options->show_progress) progress_set(&progress, done * element / MEGABYTE, NULL);
    }
    if (options->show_progress) progress_close(&progress, NULL);
    param_reader_close(&reader);
    return err;
}
