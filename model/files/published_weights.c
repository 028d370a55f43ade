/* The base weights of a model from published files, with an adapter merged; see
 * model/files/published.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "model/files/adapter.h"
#include "model/files/merge.h"
#include "model/files/param_files.h"
#include "model/files/published.h"
#include "model/model_internal.h"

/* ---- one parameter ---- */

const SafeTensor *published_tensor(const PublishedSource *source, const Param *p,
                                   const char **path) {
    const SafeTensor *t = source->merge ? adapter_whole(source->merge, p->name) : NULL;
    if (t) {
        *path = adapter_folder(source->merge);
        return t;
    }
    t = weight_files_find(source->files, p->name);
    *path = t ? weight_files_path(source->files, t) : weight_files_folder(source->files);
    return t;
}

/* What adapts a parameter, or NULL. */
static const AdapterModule *module_of(const PublishedSource *source, const Param *p) {
    static const char end[] = ".weight";
    char module[PARAM_NAME];
    size_t size = strlen(p->name), length = sizeof end - 1;
    if (!source->merge || p->kind != PARAM_MATRIX || !text_ends_with(p->name, end)) return NULL;
    memcpy(module, p->name, size - length);
    module[size - length] = 0;
    return adapter_find(source->merge, module);
}

bool published_is_adapted(const PublishedSource *source, const Param *p) {
    return module_of(source, p) != NULL;
}

static Err merge(Exec *ex, float *w, const Param *p, const AdapterModule *m, const char *path) {
    float *a = malloc((size_t)m->a->count * sizeof *a),
          *b = malloc((size_t)m->b->count * sizeof *b);
    CHECK(a && b, "out of memory: an adapter of rank %lld", (long long)m->r);
    Err err = param_widen(a, m->a, DT_F32, path);
    if (err == OK) err = param_widen(b, m->b, DT_F32, path);
    if (err == OK) err = merge_into(ex, w, p->rows, p->cols, a, b, m->r, m->scale);
    if (err == OK) err = param_check_numbers(w, p->rows * p->cols, 0, DT_F32, p->name, path);
    free(a);
    free(b);
    return err;
}

Err published_read_param(void *context, const Param *p, float *out) {
    const PublishedSource *source = context;
    const AdapterModule *module = module_of(source, p);
    const char *path;
    const SafeTensor *t = published_tensor(source, p, &path);
    REQUIRE(t, ERR_INPUT, "%s: %s is missing", path, p->name);
    TRY(param_check_tensor(p, t, path));
    TRY(param_widen(out, t, DT_F32, path));
    return module ? merge(source->ex, out, p, module, adapter_folder(source->merge)) : OK;
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

static bool is_tied_head(const Model *model, const SafeTensor *t) {
    return model->spec.llm.tied_head && !strcmp(t->name, "language_model.lm_head.weight");
}

/* A tied head may be stored all the same, as the embedding again. */
static Err check_tied_head(const Model *model, const WeightFiles *files, const SafeTensor *head) {
    const char *name = model->params.items[model->embedding].name;
    const SafeTensor *embedding = weight_files_find(files, name);
    bool same = embedding && !strcmp(embedding->type, head->type) &&
                embedding->bytes == head->bytes &&
                !memcmp(embedding->data, head->data, head->bytes);
    REQUIRE(same, ERR_INPUT,
            "%s: %s is not %s again, though config.json says that the two are one "
            "(tie_word_embeddings): correct the config, or take the tensor out",
            weight_files_path(files, head), head->name, name);
    return OK;
}

static Err check_left_over(const Model *model, const WeightFiles *files, LoadReport *report) {
    for (int i = 0; i < weight_files_count(files); i++) {
        const SafeTensor *t = weight_files_at(files, i);
        bool tied = is_tied_head(model, t);
        if (params_find(&model->params, t->name) != PARAM_NONE) continue;
        if (tied) TRY(check_tied_head(model, files, t));
        if (tied || published_is_unused(&model->spec, t->name))
            report->unused++;
        else if (!report->unknown++)
            snprintf(report->first_unknown, sizeof report->first_unknown, "%s", t->name);
    }
    return OK;
}

Err published_check(const Model *model, const PublishedSource *source, LoadReport *report) {
    *report = (LoadReport){0};
    if (source->merge) TRY(adapter_check(source->merge, model));
    TRY(check_parameters(model, source, report));
    return check_left_over(model, source->files, report);
}
