/* Reading safetensors files; see the header. */
#include "model/files/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

/* A tree of JSON values takes some twenty times its text: a header of this size, which 100,000
 * tensors do not fill, is still no danger. */
enum { HEADER_MAX = 32 << 20, TENSORS_MAX = 1 << 18 };

struct SafeTensors {
    char *path;
    const void *data;
    size_t size;
    Json *header;
    SafeTensor *tensors; /* sorted by name */
    int count;
};

/* ---- one tensor ---- */

static const struct {
    const char *name;
    size_t size; /* bytes an element */
    bool readable;
    DType dtype;
} TYPES[] = {
    {"F32", 4, true, DT_F32},      {"BF16", 2, true, DT_BF16},    {"F16", 2, true, DT_F16},
    {"I32", 4, true, DT_I32},      {"F64", 8, false, DT_F32},     {"I64", 8, false, DT_F32},
    {"U64", 8, false, DT_F32},     {"C64", 8, false, DT_F32},     {"U32", 4, false, DT_F32},
    {"I16", 2, false, DT_F32},     {"U16", 2, false, DT_F32},     {"I8", 1, false, DT_F32},
    {"U8", 1, false, DT_F32},      {"BOOL", 1, false, DT_F32},    {"F8_E4M3", 1, false, DT_F32},
    {"F8_E5M2", 1, false, DT_F32}, {"F8_E8M0", 1, false, DT_F32},
};

/* The type; 0 bytes an element where it is unknown: then the shape says nothing of the bytes. */
static Err read_type(SafeTensor *t, size_t *element, const Json *entry) {
    *element = 0;
    TRY(js_need_text(&t->type, entry, "dtype", t->name));
    for (size_t i = 0; i < sizeof TYPES / sizeof TYPES[0]; i++)
        if (!strcmp(TYPES[i].name, t->type)) {
            t->readable = TYPES[i].readable;
            t->dtype = TYPES[i].dtype;
            *element = TYPES[i].size;
        }
    return OK;
}

static Err read_shape(SafeTensor *t, const Json *entry, const SafeTensors *file) {
    const Json *shape;
    TRY(js_need(&shape, entry, "shape", JSON_KIND_ARRAY, t->name));
    REQUIRE(js_count(shape) <= SAFETENSORS_DIMS, ERR_INPUT, "%s: tensor %s has %zu dimensions",
            file->path, t->name, js_count(shape));
    t->dims = (int)js_count(shape);
    t->count = 1;
    for (int i = 0; i < t->dims; i++) {
        int64_t n;
        REQUIRE(js_integer(js_at(shape, (size_t)i), &n) && n >= 0, ERR_INPUT,
                "%s: tensor %s: a shape is not a whole number", file->path, t->name);
        REQUIRE(n == 0 || t->count <= (int64_t)file->size / n, ERR_INPUT,
                "%s: tensor %s is larger than the file", file->path, t->name);
        t->shape[i] = n;
        t->count *= n;
    }
    return OK;
}

/* `body`: where the bytes begin. */
static Err read_place(SafeTensor *t, const Json *entry, size_t element, size_t body,
                      const SafeTensors *file) {
    const Json *offsets;
    TRY(js_need(&offsets, entry, "data_offsets", JSON_KIND_ARRAY, t->name));
    int64_t begin, end;
    REQUIRE(js_count(offsets) == 2 && js_integer(js_at(offsets, 0), &begin) &&
                js_integer(js_at(offsets, 1), &end),
            ERR_INPUT, "%s: tensor %s: data_offsets are not two whole numbers", file->path,
            t->name);
    REQUIRE(begin >= 0 && end >= begin && (uint64_t)end <= file->size - body, ERR_INPUT,
            "%s: tensor %s lies at %lld … %lld of %zu bytes: truncated, or no safetensors file",
            file->path, t->name, (long long)begin, (long long)end, file->size - body);
    t->bytes = (size_t)(end - begin);
    t->data = (const char *)file->data + body + begin;
    REQUIRE(!element || t->bytes == (uint64_t)t->count * element, ERR_INPUT,
            "%s: tensor %s has %zu bytes where its shape needs %lld", file->path, t->name, t->bytes,
            (long long)t->count * (long long)element);
    return OK;
}

static Err read_tensor(SafeTensor *t, const SafeTensors *file, const char *name, const Json *entry,
                       size_t body) {
    size_t element;
    REQUIRE(strlen(name) < SAFETENSORS_NAME, ERR_INPUT, "%s: a tensor's name is longer than %d",
            file->path, SAFETENSORS_NAME - 1);
    *t = (SafeTensor){.name = name};
    TRY(read_type(t, &element, entry));
    TRY(read_shape(t, entry, file));
    return read_place(t, entry, element, body, file);
}

/* ---- all of them ---- */

/* Members of the outermost object as the text has them. A JSON tree keeps the last of two members
 * with one name; then the text has more. */
static size_t members_in(const char *text, size_t size) {
    size_t members = 0;
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        if (quoted) {
            if (text[i] == '\\')
                i++;
            else if (text[i] == '"')
                quoted = false;
            continue;
        }
        switch (text[i]) {
        case '"': quoted = true; break;
        case '{':
        case '[': depth++; break;
        case '}':
        case ']': depth--; break;
        case ':': members += depth == 1; break;
        default: break;
        }
    }
    return members;
}

static int by_place(const void *a, const void *b) {
    const SafeTensor *x = a, *y = b;
    const char *p = x->data, *q = y->data;
    if (p != q) return p < q ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes; /* empty ones first */
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const SafeTensor *)a)->name, ((const SafeTensor *)b)->name);
}

/* The tensors' bytes are the rest of the file, each byte of one tensor: the format demands it. */
static Err check_places(SafeTensors *file, size_t body) {
    qsort(file->tensors, (size_t)file->count, sizeof *file->tensors, by_place);
    const char *free_from = (const char *)file->data + body,
               *end = (const char *)file->data + file->size;
    for (int i = 0; i < file->count; i++) {
        const SafeTensor *t = &file->tensors[i];
        const char *data = t->data;
        REQUIRE(data >= free_from, ERR_INPUT, "%s: tensors %s and %s overlap", file->path,
                file->tensors[i - 1].name, t->name);
        REQUIRE(data == free_from, ERR_INPUT, "%s: %lld bytes before tensor %s belong to none",
                file->path, (long long)(data - free_from), t->name);
        free_from = data + t->bytes;
    }
    REQUIRE(free_from == end, ERR_INPUT, "%s: %lld bytes at its end belong to no tensor",
            file->path, (long long)(end - free_from));
    return OK;
}

static Err read_header(SafeTensors *file) {
    uint64_t length;
    REQUIRE(file->size >= 8, ERR_INPUT, "%s is no safetensors file: %zu bytes", file->path,
            file->size);
    memcpy(&length, file->data, 8);
    REQUIRE(length <= HEADER_MAX && length <= file->size - 8, ERR_INPUT,
            "%s: a header of %llu bytes in a file of %zu: truncated, or no safetensors file",
            file->path, (unsigned long long)length, file->size);
    const char *text = (const char *)file->data + 8;
    size_t body = 8 + (size_t)length;
    TRY(js_parse(&file->header, text, (size_t)length, file->path));
    REQUIRE(js_type(file->header) == JSON_KIND_OBJECT, ERR_INPUT,
            "%s: the header is no JSON object", file->path);
    size_t members = js_count(file->header);
    REQUIRE(members <= TENSORS_MAX, ERR_INPUT, "%s: %zu tensors", file->path, members);
    REQUIRE(members_in(text, (size_t)length) == members, ERR_INPUT,
            "%s: the header has a tensor's name twice", file->path);
    file->tensors = calloc(members + 1, sizeof *file->tensors);
    CHECK(file->tensors, "out of memory: %zu tensors", members);
    JsonIter iter = js_iter(file->header);
    const char *name;
    for (const Json *entry; (entry = js_next(&iter, &name));) {
        if (!strcmp(name, "__metadata__")) continue;
        TRY(read_tensor(&file->tensors[file->count], file, name, entry, body));
        file->count++;
    }
    TRY(check_places(file, body));
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

/* ---- what is in it ---- */

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

Err safetensors_need_floats(const SafeTensor *tensor, const char *path) {
    REQUIRE(tensor->readable && tensor->dtype != DT_I32, ERR_INPUT,
            "%s: %s has numbers of type %s where weights are expected: F32, BF16 or F16", path,
            tensor->name, tensor->type);
    return OK;
}

const char *safetensors_shape(char out[SHAPE_TEXT], const SafeTensor *tensor) {
    int length = snprintf(out, SHAPE_TEXT, "[");
    for (int i = 0; i < tensor->dims; i++)
        length += snprintf(out + length, (size_t)(SHAPE_TEXT - length), "%s%lld", i ? ", " : "",
                           (long long)tensor->shape[i]);
    snprintf(out + length, (size_t)(SHAPE_TEXT - length), "]");
    return out;
}

void safetensors_hash(HashStream *stream, const SafeTensor *t) {
    enum { SAMPLES = 8, SAMPLE_BYTES = 64 };
    hash_add(stream, t->name, strlen(t->name) + 1);
    hash_add(stream, t->type, strlen(t->type) + 1);
    hash_add(stream, t->shape, (size_t)t->dims * sizeof t->shape[0]);
    for (size_t i = 0; i < SAMPLES; i++) {
        size_t at = t->bytes / SAMPLES * i, left = t->bytes - at;
        hash_add(stream, (const char *)t->data + at, left < SAMPLE_BYTES ? left : SAMPLE_BYTES);
    }
}
