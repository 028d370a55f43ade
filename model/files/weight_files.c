/* All weights of a model folder; see the header. */
#include "model/files/weight_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/text.h"

#define SINGLE "model.safetensors"
#define INDEX  "model.safetensors.index.json"

enum { INDEX_MAX = 32 << 20, SHARDS_MAX = 1024 };

static const char *const COMPONENTS[] = {"language_model", "vision_tower", "connector"};
enum { COMPONENT_FOLDERS = sizeof COMPONENTS / sizeof COMPONENTS[0] };

typedef struct Entry {
    SafeTensor tensor; /* first, so that a tensor's address is its entry's */
    const SafeTensors *file;
    char *name; /* owned */
} Entry;

struct WeightFiles {
    char *folder;
    SafeTensors **files;
    int file_count;
    Entry *entries; /* sorted by name */
    int count;
};

/* ---- names ---- */

static bool starts_with(const char *text, const char *start) {
    return !strncmp(text, start, strlen(start));
}

/* The name in a published checkpoint of `name` in the file of a component. A run leaves PEFT's
 * base_layer in it, and drops what stands for the component. To be freed. */
static char *published_name(const char *name, const char *component) {
    const char *inner = component && !strcmp(component, "vision_tower") ? "_vision_tower."
                        : component && !strcmp(component, "connector")  ? "_connector."
                                                                        : "";
    if (starts_with(name, "base_model.model.")) name += strlen("base_model.model.");
    bool whole = !component || (starts_with(name, component) && name[strlen(component)] == '.');
    Buf out = {0};
    if (!whole) buf_format(&out, "%s.%s", component, starts_with(name, inner) ? "" : inner);
    const char *layer = strstr(name, ".base_layer.");
    if (layer)
        buf_format(&out, "%.*s%s", (int)(layer - name), name, layer + strlen(".base_layer"));
    else
        buf_text(&out, name);
    return out.data;
}

/* ---- files ---- */

static void append(WeightFiles *files, SafeTensors *file, const char *component) {
    int count = safetensors_count(file);
    files->files = realloc(files->files, ((size_t)files->file_count + 1) * sizeof *files->files);
    files->entries = realloc(files->entries,
                             ((size_t)files->count + (size_t)count + 1) * sizeof *files->entries);
    CHECK(files->files && files->entries, "out of memory: %d tensors", files->count + count);
    files->files[files->file_count++] = file;
    for (int i = 0; i < count; i++) {
        Entry *entry = &files->entries[files->count++];
        *entry = (Entry){.tensor = *safetensors_at(file, i), .file = file};
        entry->tensor.name = entry->name = published_name(entry->tensor.name, component);
    }
}

static Err add_file(WeightFiles *files, const char *path, const char *component) {
    SafeTensors *file;
    TRY(safetensors_open(&file, path));
    append(files, file, component);
    return OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const Entry *)a)->tensor.name, ((const Entry *)b)->tensor.name);
}

static Err sort(WeightFiles *files) {
    qsort(files->entries, (size_t)files->count, sizeof *files->entries, by_name);
    for (int i = 1; i < files->count; i++) {
        const Entry *a = &files->entries[i - 1], *b = &files->entries[i];
        REQUIRE(strcmp(a->name, b->name) != 0, ERR_INPUT, "%s is in %s and again in %s", a->name,
                safetensors_path(a->file), safetensors_path(b->file));
    }
    return OK;
}

/* ---- shards ---- */

/* A shard is a file beside its index and nothing else. */
static Err check_shard_name(const char *shard, const char *index) {
    REQUIRE(shard[0] && shard[0] != '.' && !strchr(shard, '/') &&
                text_ends_with(shard, ".safetensors"),
            ERR_INPUT,
            "%s names \"%.200s\" as a shard: the plain name of a .safetensors file is "
            "expected",
            index, shard);
    return OK;
}

static const SafeTensors *shard_named(const WeightFiles *files, int first, const char *shard) {
    for (int i = files->file_count - 1; i >= first; i--)
        if (!strcmp(path_name(safetensors_path(files->files[i])), shard)) return files->files[i];
    return NULL;
}

static Err add_shards(WeightFiles *files, const char *folder, const char *component,
                      const char *index, const Json *map) {
    int first = files->file_count;
    JsonIter iter = js_iter(map);
    const char *name;
    for (const Json *value; (value = js_next(&iter, &name));) {
        const char *shard = js_text(value, NULL);
        char path[PATH_SIZE];
        REQUIRE(shard, ERR_INPUT, "%s: the shard of %.200s is no text", index, name);
        if (shard_named(files, first, shard)) continue;
        TRY(check_shard_name(shard, index));
        TRY(path_join(path, folder, shard));
        REQUIRE(file_exists(path), ERR_INPUT, "%s is missing: %s names it; download it again", path,
                index);
        REQUIRE(files->file_count - first < SHARDS_MAX, ERR_INPUT, "%s names more than %d shards",
                index, SHARDS_MAX);
        TRY(add_file(files, path, component));
    }
    return OK;
}

/* Every tensor of the index is in the shard that the index says. */
static Err check_index(const WeightFiles *files, int first, const char *index, const Json *map) {
    JsonIter iter = js_iter(map);
    const char *name;
    for (const Json *value; (value = js_next(&iter, &name));) {
        const SafeTensors *file = shard_named(files, first, js_text(value, NULL));
        REQUIRE(safetensors_find(file, name), ERR_INPUT,
                "%s: %.200s is not in %s, where it should be: download both again", index, name,
                safetensors_path(file));
    }
    return OK;
}

static Err add_index(WeightFiles *files, const char *folder, const char *component,
                     const char *index) {
    Json *root;
    const Json *map;
    TRY(js_read(&root, index, INDEX_MAX));
    int first = files->file_count;
    Err err = js_need(&map, root, "weight_map", JSON_KIND_OBJECT, index);
    if (err == OK && !js_count(map))
        err = err_raise(ERR_INPUT, __FILE__, __LINE__, "%s names no tensor", index);
    if (err == OK) err = add_shards(files, folder, component, index, map);
    if (err == OK) err = check_index(files, first, index, map);
    js_free(&root);
    return err;
}

/* The one file or the shards of a folder. */
static Err add_folder(WeightFiles *files, const char *folder, const char *component, bool *found) {
    char path[PATH_SIZE];
    *found = true;
    TRY(path_join(path, folder, SINGLE));
    if (file_exists(path)) return add_file(files, path, component);
    TRY(path_join(path, folder, INDEX));
    if (file_exists(path)) return add_index(files, folder, component, path);
    *found = false;
    return OK;
}

/* ---- folders ---- */

static bool has_pickle(const char *folder) {
    FileNames names;
    if (file_list(&names, folder) != OK) {
        err_clear();
        return false;
    }
    bool found = false;
    for (size_t i = 0; i < names.count; i++) found |= text_ends_with(names.names[i], ".bin");
    file_names_free(&names);
    return found;
}

Err weight_files_refuse_pickle(const char *folder, const char *what) {
    FAIL(ERR_INPUT,
         "%s: its %s are in .bin files alone. Those are pickles, which can run programs and are "
         "never opened here; convert them first: python3 tools/bin_to_safetensors.py %s",
         folder, what, folder);
}

/* Why there are no weights in a folder, or in one of its components. */
static Err explain(const char *folder, const char *place) {
    char adapter[PATH_SIZE];
    TRY(file_reach(folder));
    REQUIRE(file_is_directory(folder), ERR_INPUT, "%s is no folder: one with a model is expected",
            folder);
    if (has_pickle(place)) return weight_files_refuse_pickle(folder, "weights");
    TRY(path_join(adapter, folder, "adapter_config.json"));
    REQUIRE(!file_exists(adapter), ERR_INPUT,
            "%s holds an adapter and no model: give the folder of its base", folder);
    FAIL(ERR_INPUT, "%s has no weights: " SINGLE " or " INDEX " is expected in it", place);
}

/* What TinyLLaVA leaves of a run. */
static Err add_parts(WeightFiles *files, const char *folder) {
    char path[PATH_SIZE];
    TRY(path_join(path, folder, COMPONENTS[0]));
    if (!file_is_directory(path)) return explain(folder, folder);
    for (int i = 0; i < COMPONENT_FOLDERS; i++) {
        bool found;
        TRY(path_join(path, folder, COMPONENTS[i]));
        TRY(add_folder(files, path, COMPONENTS[i], &found));
        if (!found) return explain(folder, path);
    }
    return OK;
}

static WeightFiles *new_files(const char *folder) {
    WeightFiles *files = calloc(1, sizeof *files);
    CHECK(files, "out of memory: a folder's files");
    files->folder = strdup(folder);
    CHECK(files->folder, "out of memory: a path");
    return files;
}

Err weight_files_open(WeightFiles **out, const char *folder) {
    bool found;
    *out = new_files(folder);
    Err err = add_folder(*out, folder, NULL, &found);
    if (err == OK && !found) err = add_parts(*out, folder);
    if (err == OK) err = sort(*out);
    if (err != OK) weight_files_close(out);
    return err;
}

Err weight_files_open_one(WeightFiles **out, const char *path, const char *component) {
    *out = new_files(path);
    Err err = add_file(*out, path, component);
    if (err == OK) err = sort(*out);
    if (err != OK) weight_files_close(out);
    return err;
}

void weight_files_close(WeightFiles **out) {
    WeightFiles *files = *out;
    if (!files) return;
    for (int i = 0; i < files->count; i++) free(files->entries[i].name);
    for (int i = 0; i < files->file_count; i++) safetensors_close(&files->files[i]);
    free(files->entries);
    free(files->files);
    free(files->folder);
    free(files);
    *out = NULL;
}

/* ---- what is in them ---- */

int weight_files_count(const WeightFiles *files) {
    return files->count;
}

const SafeTensor *weight_files_at(const WeightFiles *files, int index) {
    return &files->entries[index].tensor;
}

const SafeTensor *weight_files_find(const WeightFiles *files, const char *name) {
    Entry key = {.tensor.name = name};
    Entry *found =
        bsearch(&key, files->entries, (size_t)files->count, sizeof *files->entries, by_name);
    return found ? &found->tensor : NULL;
}

uint64_t weight_files_bytes(const WeightFiles *files) {
    uint64_t bytes = 0;
    for (int i = 0; i < files->count; i++) bytes += files->entries[i].tensor.bytes;
    return bytes;
}

void weight_files_hash(HashStream *stream, const WeightFiles *files) {
    for (int i = 0; i < files->count; i++) safetensors_hash(stream, &files->entries[i].tensor);
}

const char *weight_files_path(const WeightFiles *files, const SafeTensor *tensor) {
    (void)files;
    return safetensors_path(((const Entry *)(const void *)tensor)->file);
}

const char *weight_files_folder(const WeightFiles *files) {
    return files->folder;
}
