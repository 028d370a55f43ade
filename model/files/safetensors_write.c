/* Writing safetensors files, whole or tensor by tensor; see model/files/safetensors.h. */
#include <string.h>

#include "core/json.h"
#include "model/files/safetensors.h"

enum { DATA_ALIGN = 64 }; /* of the data in the file: mapped tensors may lie on cache lines */

static const char *type_of(const SafeTensor *t) {
    if (t->type) return t->type;
    switch (t->dtype) {
    case DT_F32: return "F32";
    case DT_BF16: return "BF16";
    case DT_F16: return "F16";
    case DT_I32: return "I32";
    case DT_U8: return "U8";
    }
    return NULL;
}

static size_t bytes_of(const SafeTensor *t) {
    return t->type ? t->bytes : (size_t)t->count * dtype_size(t->dtype);
}

/* Where a tensor's bytes lie: behind those of the tensors before it, `at` on. */
static Json *describe(const SafeTensor *t, uint64_t at) {
    Json *entry = js_new_object(), *shape = js_new_array(), *offsets = js_new_array();
    for (int d = 0; d < t->dims; d++) js_push(shape, js_new_integer(t->shape[d]));
    js_push(offsets, js_new_integer((int64_t)at));
    js_push(offsets, js_new_integer((int64_t)(at + bytes_of(t))));
    js_set_text(entry, "dtype", type_of(t));
    js_set(entry, "shape", shape);
    js_set(entry, "data_offsets", offsets);
    return entry;
}

static Err write_header(SafeTensorsWriter *writer, const SafeTensor *tensors, int count) {
    Json *header = js_new_object(), *metadata = js_new_object();
    js_set_text(metadata, "format", "pt"); /* transformers refuses files without it */
    js_set(header, "__metadata__", metadata);
    for (int i = 0; i < count; i++) {
        js_set(header, tensors[i].name, describe(&tensors[i], writer->left));
        writer->left += bytes_of(&tensors[i]);
    }
    CHECK(js_count(header) == (size_t)count + 1, "two tensors of %d have one name", count);
    Buf text = {0};
    js_print(&text, header, JSON_ONE_LINE, 17);
    js_free(&header);
    uint64_t length;
    while ((sizeof length + text.size) % DATA_ALIGN) buf_text(&text, " ");
    length = text.size;
    Err err = file_writer_write(&writer->file, &length, sizeof length);
    if (err == OK) err = file_writer_write(&writer->file, text.data, text.size);
    buf_free(&text);
    return err;
}

Err safetensors_writer_open(SafeTensorsWriter *writer, const char *path, const SafeTensor *tensors,
                            int count) {
    writer->left = 0;
    TRY(file_writer_open(&writer->file, path));
    Err err = write_header(writer, tensors, count);
    if (err != OK) safetensors_writer_abandon(writer);
    return err;
}

Err safetensors_writer_add(SafeTensorsWriter *writer, const void *bytes, size_t size) {
    CHECK(size <= writer->left, "%zu bytes where %llu are left", size,
          (unsigned long long)writer->left);
    writer->left -= size;
    return file_writer_write(&writer->file, bytes, size);
}

Err safetensors_writer_finish(SafeTensorsWriter *writer) {
    CHECK(writer->left == 0, "%llu bytes are missing", (unsigned long long)writer->left);
    return file_writer_finish(&writer->file);
}

void safetensors_writer_abandon(SafeTensorsWriter *writer) {
    file_writer_abandon(&writer->file);
}

Err safetensors_write(const char *path, const SafeTensor *tensors, int count) {
    SafeTensorsWriter writer;
    TRY(safetensors_writer_open(&writer, path, tensors, count));
    Err err = OK;
    for (int i = 0; i < count && err == OK; i++)
        err = safetensors_writer_add(&writer, tensors[i].data, bytes_of(&tensors[i]));
    if (err == OK) err = safetensors_writer_finish(&writer);
    safetensors_writer_abandon(&writer);
    return err;
}
