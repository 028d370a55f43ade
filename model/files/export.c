/* A trained model as a folder that transformers loads; see the header. */
#include "model/files/export.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/folder.h"
#include "core/json.h"
#include "core/progress.h"
#include "model/files/adapter.h"
#include "model/files/dtype_convert.h"
#include "model/files/merge.h"
#include "model/files/param_files.h"
#include "model/model_internal.h"

enum { PIECE = 1 << 20, SMALL_FILE_MAX = 64 << 20 };
static const int64_t SHARD_BYTES = 5000000000;

/* A tensor of the export: a parameter, or something of the base's that no model uses. */
typedef struct Item {
    SafeTensor tensor; /* as it is written */
    ParamId id;        /* PARAM_NONE: `copied` as it is */
    const SafeTensor *copied;
    int shard;
} Item;

typedef struct Export {
    Model *model;
    const MergeInfo *info;
    const float *flat;
    WeightFiles *files; /* of the base, or NULL */
    PublishedSource source;
    AdapterPlace *places;
    int place_count;
    Item *items;
    int count, shards;
    float *wide;  /* [PIECE] */
    void *narrow; /* [PIECE] of the type written */
    Progress progress;
    int64_t written;
} Export;

/* ---- what there is to write ---- */

static size_t bytes_of(const Item *item) {
    const SafeTensor *t = &item->tensor;
    return t->type ? t->bytes : (size_t)t->count * dtype_size(t->dtype);
}

static void add_param(Export *e, ParamId id) {
    e->items[e->count++] =
        (Item){.tensor = param_tensor(&e->model->params.items[id], e->info->dtype), .id = id};
}

/* Floats in the type of the export, others as they are. */
static void add_copy(Export *e, const SafeTensor *t) {
    Item *item = &e->items[e->count++];
    *item = (Item){.tensor = *t, .id = PARAM_NONE, .copied = t};
    if (t->readable && t->dtype != DT_I32) {
        item->tensor.type = NULL;
        item->tensor.dtype = e->info->dtype;
    }
}

/* The base's tensors, and then what of the model it lacks. A tied head is the embedding and not
 * written again. */
static void list_items(Export *e) {
    const Params *params = &e->model->params;
    int base = e->files ? weight_files_count(e->files) : 0;
    e->items = calloc((size_t)(base + params->count + 1), sizeof *e->items);
    bool *seen = calloc((size_t)params->count + 1, sizeof *seen);
    CHECK(e->items && seen, "out of memory: %d tensors", base + params->count);
    for (int i = 0; i < base; i++) {
        const SafeTensor *t = weight_files_at(e->files, i);
        ParamId id = params_find(params, t->name);
        if (id != PARAM_NONE) {
            seen[id] = true;
            add_param(e, id);
        } else if (!e->model->spec.llm.tied_head ||
                   strcmp(t->name, "language_model.lm_head.weight") != 0) {
            add_copy(e, t);
        }
    }
    for (int i = 0; i < params->count; i++)
        if (param_is_base(&params->items[i]) && !seen[i]) add_param(e, i);
    free(seen);
}

static void plan_shards(Export *e) {
    uint64_t limit = (uint64_t)(e->info->shard_bytes ? e->info->shard_bytes : SHARD_BYTES),
             filled = 0;
    for (int i = 0; i < e->count; i++) {
        size_t bytes = bytes_of(&e->items[i]);
        if (filled && filled + bytes > limit) {
            e->shards++;
            filled = 0;
        }
        e->items[i].shard = e->shards;
        filled += bytes;
    }
    e->shards++;
}

/* ---- one tensor ---- */

/* Rounds and appends up to PIECE numbers of a tensor, from the `first` on. */
static Err add_floats(Export *e, SafeTensorsWriter *writer, const Item *item, const float *x,
                      int64_t first, int64_t count) {
    DType dtype = e->info->dtype;
    int64_t bad = dtype_first_beyond(x, count, dtype_limit(dtype));
    REQUIRE(bad == count, ERR_INPUT, "%s[%lld] is %g, which %s cannot hold: %s", item->tensor.name,
            (long long)(first + bad), (double)x[bad], dtype_name(dtype),
            isfinite(x[bad]) ? "export in bf16 or f32" : "the model is broken");
    dtype_narrow(e->narrow, dtype, x, count);
    return safetensors_writer_add(writer, e->narrow, (size_t)count * dtype_size(dtype));
}

/* From a file, bytes as they are where the type stays. */
static Err write_tensor(Export *e, SafeTensorsWriter *writer, const Item *item,
                        const SafeTensor *t) {
    if (item->tensor.type || t->dtype == e->info->dtype)
        return safetensors_writer_add(writer, t->data, t->bytes);
    for (int64_t at = 0; at < t->count; at += PIECE) {
        int64_t count = t->count - at < PIECE ? t->count - at : PIECE;
        dtype_widen(e->wide, (const char *)t->data + (size_t)at * dtype_size(t->dtype), t->dtype,
                    count);
        TRY(add_floats(e, writer, item, e->wide, at, count));
    }
    return OK;
}

/* What the model has of a parameter, the best there is. */
static Tensor model_tensor(const Export *e, ParamId id) {
    Tensor master = param_master(&e->model->params.items[id], e->flat);
    return tensor_is_none(master) ? param_value(&e->model->params, id) : master;
}

static Err write_matrix(Export *e, SafeTensorsWriter *writer, const Item *item, Tensor value) {
    int64_t step = value.cols && value.cols < PIECE ? PIECE / value.cols : 1;
    float *x = malloc((size_t)(step * value.cols) * sizeof *x + 1);
    CHECK(x, "out of memory: %lld weights", (long long)(step * value.cols));
    Err err = OK;
    for (int64_t row = 0; row < value.rows && err == OK; row += step) {
        int64_t rows = value.rows - row < step ? value.rows - row : step, all = rows * value.cols;
        param_download(x, e->model->ex, tensor_rows(value, row, rows));
        for (int64_t at = 0; at < all && err == OK; at += PIECE)
            err = add_floats(e, writer, item, x + at, row * value.cols + at,
                             all - at < PIECE ? all - at : PIECE);
    }
    free(x);
    return err;
}

/* Whether the base's file still says what a parameter is. */
static bool is_of_base(const Export *e, const Param *p) {
    const char *path;
    return e->files && !e->info->base_changed && !p->trained &&
           published_tensor(&e->source, p, &path);
}

/* w += scale · b · a with the model's adapter. */
static Err merge_own(Export *e, float *w, const AdapterPlace *place) {
    const Param *p = &e->model->params.items[place->weight];
    Exec *ex = e->model->ex;
    float *a = malloc((size_t)(place->r * p->cols) * sizeof *a),
          *b = malloc((size_t)(p->rows * place->r) * sizeof *b);
    CHECK(a && b, "out of memory: an adapter of rank %lld", (long long)place->r);
    param_download(a, ex, model_tensor(e, place->a));
    param_download(b, ex, model_tensor(e, place->b));
    Err err = merge_into(ex, w, p->rows, p->cols, a, b, place->r, place->scale);
    free(a);
    free(b);
    return err;
}

/* A parameter that adapters change, whole in f32. */
static Err write_merged(Export *e, SafeTensorsWriter *writer, const Item *item,
                        const AdapterPlace *place) {
    const Param *p = &e->model->params.items[item->id];
    int64_t all = p->rows * p->cols;
    float *w = malloc((size_t)all * sizeof *w);
    CHECK(w, "out of memory: %lld weights", (long long)all);
    Err err = OK;
    if (is_of_base(e, p))
        err = published_read_param(&e->source, p, w);
    else
        param_download(w, e->model->ex, model_tensor(e, item->id));
    if (err == OK && place) err = merge_own(e, w, place);
    for (int64_t at = 0; at < all && err == OK; at += PIECE)
        err = add_floats(e, writer, item, w + at, at, all - at < PIECE ? all - at : PIECE);
    free(w);
    return err;
}

static Err write_item(Export *e, SafeTensorsWriter *writer, const Item *item) {
    if (item->id == PARAM_NONE) return write_tensor(e, writer, item, item->copied);
    const Param *p = &e->model->params.items[item->id];
    const AdapterPlace *place = adapter_place_of(e->places, e->place_count, item->id);
    bool of_base = is_of_base(e, p);
    if (place || (of_base && published_is_adapted(&e->source, p)))
        return write_merged(e, writer, item, place);
    if (!of_base) return write_matrix(e, writer, item, model_tensor(e, item->id));
    const char *path;
    return write_tensor(e, writer, item, published_tensor(&e->source, p, &path));
}

/* ---- files of weights ---- */

static void shard_name(char out[64], const Export *e, int shard) {
    if (e->shards == 1)
        snprintf(out, 64, "model.safetensors");
    else
        snprintf(out, 64, "model-%05d-of-%05d.safetensors", shard + 1, e->shards);
}

static Err write_shard(Export *e, const char *folder, int shard) {
    enum { MEGABYTE = 1000000 };
    char name[64], path[PATH_SIZE];
    SafeTensorsWriter writer;
    SafeTensor *tensors = calloc((size_t)e->count + 1, sizeof *tensors);
    CHECK(tensors, "out of memory: %d tensors", e->count);
    int count = 0;
    for (int i = 0; i < e->count; i++)
        if (e->items[i].shard == shard) tensors[count++] = e->items[i].tensor;
    shard_name(name, e, shard);
    Err err = path_join(path, folder, name);
    if (err == OK) err = safetensors_writer_open(&writer, path, tensors, count);
    free(tensors);
    TRY(err);
    for (int i = 0; i < e->count && err == OK; i++) {
        if (e->items[i].shard != shard) continue;
        err = write_item(e, &writer, &e->items[i]);
        e->written += (int64_t)bytes_of(&e->items[i]);
        if (e->info->show_progress) progress_set(&e->progress, e->written / MEGABYTE, NULL);
    }
    if (err == OK) err = safetensors_writer_finish(&writer);
    safetensors_writer_abandon(&writer);
    return err;
}

static Err write_index(const Export *e, const char *folder) {
    char name[64], path[PATH_SIZE];
    TRY(path_join(path, folder, "model.safetensors.index.json"));
    Json *root = js_new_object(), *metadata = js_new_object(), *map = js_new_object();
    uint64_t total = 0;
    for (int i = 0; i < e->count; i++) {
        shard_name(name, e, e->items[i].shard);
        js_set_text(map, e->items[i].tensor.name, name);
        total += bytes_of(&e->items[i]);
    }
    js_set_integer(metadata, "total_size", (int64_t)total);
    js_set(root, "metadata", metadata);
    js_set(root, "weight_map", map);
    Err err = js_write(path, root);
    js_free(&root);
    return err;
}

static Err write_weights(Export *e, const char *folder) {
    enum { MEGABYTE = 1000000 };
    int64_t total = 0;
    list_items(e);
    plan_shards(e);
    e->wide = malloc(PIECE * sizeof *e->wide);
    e->narrow = malloc(PIECE * dtype_size(e->info->dtype));
    CHECK(e->wide && e->narrow, "out of memory: %d weights", PIECE);
    for (int i = 0; i < e->count; i++) total += (int64_t)bytes_of(&e->items[i]);
    if (e->info->show_progress)
        progress_open(&e->progress, "writing weights", "MB", 0, total / MEGABYTE);
    Err err = OK;
    for (int s = 0; s < e->shards && err == OK; s++) err = write_shard(e, folder, s);
    if (e->info->show_progress) progress_close(&e->progress, NULL);
    TRY(err);
    return e->shards > 1 ? write_index(e, folder) : OK;
}

/* ---- what stands beside them ---- */

static bool set_text(Json *object, const char *key, const char *value) {
    const char *before = js_text(js_get(object, key), NULL);
    if (before && !strcmp(before, value)) return false;
    js_set_text(object, key, value);
    return true;
}

/* What the base's config.json says otherwise than the model is. */
static bool correct(Json *root, const Export *e) {
    const Published *published = e->info->published;
    const char *key = js_get(root, "dtype") ? "dtype" : "torch_dtype"; /* transformers 5, and 4 */
    bool changed = set_text(root, key, published_dtype(e->info->dtype));
    const char *strategy = e->model->spec.vision.drop_first_patch ? "patch" : "cls_patch";
    if (js_text(js_get(root, "vision_feature_select_strategy"), NULL) ||
        !e->model->spec.vision.drop_first_patch)
        changed |= set_text(root, "vision_feature_select_strategy", strategy);
    if (!published) return changed;
    const char *aspect = published->aspect == ASPECT_PAD ? "pad" : "square";
    if (js_text(js_get(root, "image_aspect_ratio"), NULL) || published->aspect == ASPECT_PAD)
        changed |= set_text(root, "image_aspect_ratio", aspect);
    int64_t length = 2048; /* where the file does not say it */
    js_integer(js_get(root, "tokenizer_model_max_length"), &length);
    if (length == published->max_length) return changed;
    js_set_integer(root, "tokenizer_model_max_length", published->max_length);
    return true;
}

/* The base's config.json, byte for byte where it is right. */
static Err copy_config(const Export *e, const char *folder) {
    char from[PATH_SIZE], to[PATH_SIZE];
    Json *root;
    TRY(path_join(from, e->info->base_folder, "config.json"));
    TRY(path_join(to, folder, "config.json"));
    TRY(js_read(&root, from, SMALL_FILE_MAX));
    Err err = OK;
    if (correct(root, e)) {
        Buf text = {0};
        js_print(&text, root, JSON_INDENTED, 15);
        buf_text(&text, "\n");
        err = file_write(to, text.data, text.size);
        buf_free(&text);
    } else {
        err = file_copy(from, to, SMALL_FILE_MAX);
    }
    js_free(&root);
    return err;
}

static bool is_python(const char *name) {
    return !strcmp(path_extension(name), ".py");
}

/* How to generate, licences; and the model's code, which config.json may name. */
static bool is_companion(const char *name) {
    static const char *const names[] = {"generation_config.json", "preprocessor_config.json",
                                        "chat_template.jinja"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!strcmp(names[i], name)) return true;
    return !strncmp(name, "LICENSE", 7) || !strncmp(name, "NOTICE", 6) || is_python(name);
}

/* One file from a folder into another, where it is there. */
static Err copy_named(const char *source, const char *name, const char *folder) {
    char from[PATH_SIZE], to[PATH_SIZE];
    TRY(path_join(from, source, name));
    TRY(path_join(to, folder, name));
    return file_exists(from) && !file_is_directory(from) ? file_copy(from, to, SMALL_FILE_MAX) : OK;
}

static Err copy_companions(const char *base, const char *folder) {
    FileNames names;
    TRY(file_list(&names, base));
    Err err = OK;
    for (size_t i = 0; i < names.count && err == OK; i++)
        if (is_companion(names.names[i])) err = copy_named(base, names.names[i], folder);
    file_names_free(&names);
    return err;
}

static Err write_companions(const Export *e, const char *folder) {
    const MergeInfo *info = e->info;
    if (info->base_folder) {
        TRY(copy_config(e, folder));
        TRY(copy_companions(info->base_folder, folder));
    } else {
        TRY(published_write_config(info->published, info->dtype, folder));
    }
    for (int i = 0; info->tokenizer_files && info->tokenizer_files[i]; i++)
        TRY(copy_named(info->tokenizer_folder, info->tokenizer_files[i], folder));
    return OK;
}

/* ---- the folder ---- */

static Err write_folder(Export *e, const char *folder) {
    FolderWriter writer = {0};
    const MergeInfo *info = e->info;
    if (info->base_folder) {
        LoadReport report;
        TRY(weight_files_open(&e->files, info->base_folder));
        e->source = (PublishedSource){.ex = e->model->ex, .files = e->files, .merge = info->merge};
        TRY(published_check(e->model, &e->source, &report));
    }
    e->places = adapter_places(e->model, &e->place_count);
    Err err = folder_writer_open(&writer, folder);
    if (err == OK) err = write_companions(e, writer.temporary);
    if (err == OK) err = folder_writer_add(&writer, info->beside, info->beside_count);
    if (err == OK) err = write_weights(e, writer.temporary);
    if (err == OK) err = exec_status(e->model->ex);
    if (err == OK) err = folder_writer_finish(&writer);
    folder_writer_abandon(&writer);
    return err;
}

Err model_save_merged(Model *model, const char *folder, const MergeInfo *info, const float *flat) {
    CHECK(info->base_folder || info->published, "an export without a config");
    Export e = {.model = model, .info = info, .flat = flat};
    Err err = write_folder(&e, folder);
    weight_files_close(&e.files);
    free(e.places);
    free(e.items);
    free(e.wide);
    free(e.narrow);
    return err;
}
