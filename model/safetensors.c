/* safetensors files; see the header. */
#include "model/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"

enum { HEADER_MAX = 100 << 20, TENSORS_MAX = 1 << 20 };

struct SafeTensors {
    char *path;
    const void *data;
    size_t size;
    Json *header;
    SafeTensor *tensors; /* sorted by name */
    int count;
};

static const struct {
    const char *name;
    DType dtype;
} TYPES[] = {{"F32", DT_F32}, {"BF16", DT_BF16}, {"F16", DT_F16}, {"I32", DT_I32}};

static Err read_type(const char *path, const char *name, const Json *entry, DType *dtype) {
    const char *text;
    TRY(js_need_text(&text, entry, "dtype", name));
    for (size_t i = 0; i < sizeof TYPES / sizeof TYPES[0]; i++)
        if (!strcmp(TYPES[i].name, text)) {
            *dtype = TYPES[i].dtype;
            return OK;
        }
    FAIL(ERR_INPUT, "%s: tensor %s has type %s; F32, BF16, F16 and I32 are understood", path, name,
         text);
}

static Err read_tensor(SafeTensors *file, const char *name, const Json *entry, size_t body,
                       SafeTensor *out) {
    const char *path = file->path;
    REQUIRE(strlen(name) < SAFETENSORS_NAME, ERR_INPUT, "%s: a tensor's name is longer than %d",
            path, SAFETENSORS_NAME - 1);
    *out = (SafeTensor){.name = name, .count = 1};
    TRY(read_type(path, name, entry, &out->dtype));
    const Json *shape, *offsets;
    TRY(js_need(&shape, entry, "shape", JSON_KIND_ARRAY, name));
    TRY(js_need(&offsets, entry, "data_offsets", JSON_KIND_ARRAY, name));
    REQUIRE(js_count(shape) <= SAFETENSORS_DIMS, ERR_INPUT, "%s: tensor %s has %zu dimensions",
            path, name, js_count(shape));
    out->dims = (int)js_count(shape);
    for (int i = 0; i < out->dims; i++) {
        int64_t n;
        REQUIRE(js_integer(js_at(shape, (size_t)i), &n) && n >= 0, ERR_INPUT,
                "%s: tensor %s: a shape is not a whole number", path, name);
        REQUIRE(n == 0 || out->count <= (int64_t)file->size / n, ERR_INPUT,
                "%s: tensor %s is larger than the file", path, name);
        out->shape[i] = n;
        out->count *= n;
    }
    int64_t begin, end;
    REQUIRE(js_count(offsets) == 2 && js_integer(js_at(offsets, 0), &begin) &&
                js_integer(js_at(offsets, 1), &end),
            ERR_INPUT, "%s: tensor %s: data_offsets are not two whole numbers", path, name);
    REQUIRE(begin >= 0 && end >= begin && (uint64_t)end <= file->size - body, ERR_INPUT,
            "%s: tensor %s lies at %lld … %lld of %zu bytes", path, name, (long long)begin,
            (long long)end, file->size - body);
    REQUIRE((uint64_t)(end - begin) == (uint64_t)out->count * dtype_size(out->dtype), ERR_INPUT,
            "%s: tensor %s has %lld bytes where its shape needs %lld", path, name,
            (long long)(end - begin), (long long)out->count * (long long)dtype_size(out->dtype));
    out->data = (const char *)file->data + body + begin;
    return OK;
}

static int by_place(const void *a, const void *b) {
    const char *x = ((const SafeTensor *)a)->data, *y = ((const SafeTensor *)b)->data;
    return x < y ? -1 : x > y;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const SafeTensor *)a)->name, ((const SafeTensor *)b)->name);
}

static Err read_header(SafeTensors *file) {
    uint64_t length;
    REQUIRE(file->size >= 8, ERR_INPUT, "%s is no safetensors file: %zu bytes", file->path,
            file->size);
    memcpy(&length, file->data, 8);
    REQUIRE(length <= HEADER_MAX && length <= file->size - 8, ERR_INPUT,
            "%s: a header of %llu bytes in a file of %zu: truncated, or no safetensors file",
            file->path, (unsigned long long)length, file->size);
    TRY(js_parse(&file->header, (const char *)file->data + 8, (size_t)length, file->path));
    REQUIRE(js_type(file->header) == JSON_KIND_OBJECT, ERR_INPUT,
            "%s: the header is no JSON object", file->path);
    size_t members = js_count(file->header);
    REQUIRE(members <= TENSORS_MAX, ERR_INPUT, "%s: %zu tensors", file->path, members);
    file->tensors = calloc(members + 1, sizeof *file->tensors);
    CHECK(file->tensors, "out of memory: %zu tensors", members);
    JsonIter iter = js_iter(file->header);
    const char *name;
    for (const Json *entry; (entry = js_next(&iter, &name));)
        if (strcmp(name, "__metadata__") != 0) {
            TRY(read_tensor(file, name, entry, 8 + (size_t)length, &file->tensors[file->count]));
            file->count++;
        }
    qsort(file->tensors, (size_t)file->count, sizeof *file->tensors, by_place);
    for (int i = 1; i < file->count; i++) {
        const SafeTensor *before = &file->tensors[i - 1], *t = &file->tensors[i];
        const char *end =
            (const char *)before->data + (size_t)before->count * dtype_size(before->dtype);
        REQUIRE((const char *)t->data >= end, ERR_INPUT, "%s: tensors %s and %s overlap",
                file->path, before->name, t->name);
    }
    qsort(file->tensors, (size_t)file->count, sizeof *file->tensors, by_name);
    return OK;
}

Err safetensors_open(SafeTensors **out, const char *path) {
    SafeTensors *file = calloc(1, sizeof *file);
    CHECK(file, "out of memory: a file");
    *out = file;
    file->path = strdup(path);
    CHECK(file->path, "out of memory: a path");
    Err err = file_map(&file->data, &file->size, path);
    if (err == OK) err = read_header(file);
    if (err != OK) safetensors_close(out);
    return err;
}

void safetensors_close(SafeTensors **file) {
    if (!*file) return;
    js_free(&(*file)->header);
    file_unmap(&(*file)->data, (*file)->size);
    free((*file)->tensors);
    free((*file)->path);
    free(*file);
    *file = NULL;
}

int safetensors_count(const SafeTensors *file) {
    return file->count;
}

const SafeTensor *safetensors_at(const SafeTensors *file, int index) {
    return &file->tensors[index];
}

const SafeTensor *safetensors_find(const SafeTensors *file, const char *name) {
    SafeTensor key = {.name = name};
    return bsearch(&key, file->tensors, (size_t)file->count, sizeof *file->tensors, by_name);
}

const char *safetensors_path(const SafeTensors *file) {
    return file->path;
}

Err safetensors_write(const char *path, const SafeTensor *tensors, int count) {
    Json *header = js_new_object(), *metadata = js_new_object();
    js_set_text(metadata, "format", "pt");
    js_set(header, "__metadata__", metadata);
    int64_t at = 0;
    for (int i = 0; i < count; i++) {
        Json *entry = js_new_object(), *shape = js_new_array(), *offsets = js_new_array();
        const char *type = NULL;
        for (size_t k = 0; k < sizeof TYPES / sizeof TYPES[0]; k++)
            if (TYPES[k].dtype == tensors[i].dtype) type = TYPES[k].name;
        CHECK(type, "%s: type %s", tensors[i].name, dtype_name(tensors[i].dtype));
        for (int d = 0; d < tensors[i].dims; d++)
            js_push(shape, js_new_integer(tensors[i].shape[d]));
        js_push(offsets, js_new_integer(at));
        at += tensors[i].count * (int64_t)dtype_size(tensors[i].dtype);
        js_push(offsets, js_new_integer(at));
        js_set_text(entry, "dtype", type);
        js_set(entry, "shape", shape);
        js_set(entry, "data_offsets", offsets);
        js_set(header, tensors[i].name, entry);
    }
    Buf text = {0};
    js_print(&text, header, JSON_ONE_LINE, 17);
    js_free(&header);
    while (text.size % 8) buf_text(&text, " "); /* so that the data is aligned */
    uint64_t length = text.size;

    FileWriter writer;
    Err err = file_writer_open(&writer, path);
    if (err == OK) err = file_writer_write(&writer, &length, sizeof length);
    if (err == OK) err = file_writer_write(&writer, text.data, text.size);
    for (int i = 0; i < count && err == OK; i++)
        err = file_writer_write(&writer, tensors[i].data,
                                (size_t)tensors[i].count * dtype_size(tensors[i].dtype));
    if (err == OK) err = file_writer_finish(&writer);
    file_writer_abandon(&writer);
    buf_free(&text);
    return err;
}
