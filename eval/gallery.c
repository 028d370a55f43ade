#include "eval/gallery.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/text.h"
#include "image/image.h"

#define LIST_FILE "gallery.json"
enum { FORMAT_VERSION = 1 };

static Err work_folder(char out[PATH_SIZE], const char *folder) {
    return path_format(out, "%s.writing", folder);
}

static Err check_replaceable(const char *folder) {
    char list[PATH_SIZE];
    TRY(path_join(list, folder, LIST_FILE));
    REQUIRE(!file_exists(folder) || file_exists(list), ERR_INPUT,
            "%s is in the way: it is no gallery, and is not replaced", folder);
    return OK;
}

Err gallery_begin(const char *folder) {
    char work[PATH_SIZE];
    TRY(check_replaceable(folder));
    TRY(work_folder(work, folder));
    TRY(file_remove_tree(work));
    return file_make_directories(work);
}

/* The id as part of a file name: what could be anything becomes plain. */
static void name_folder(char *out, size_t size, int number, const char *id) {
    int length = snprintf(out, size, "%02d-%.60s", number + 1, id);
    for (int i = 0; i < length; i++)
        if (!isalnum((unsigned char)out[i]) && !strchr("-_.", out[i])) out[i] = '_';
}

static Err example_path(char out[PATH_SIZE], const GalleryEntry *entry, const char *folder,
                        const char *name) {
    char work[PATH_SIZE];
    TRY(work_folder(work, folder));
    return path_format(out, "%s/%s/%s", work, entry->folder, name);
}

static Err write_file(const GalleryEntry *entry, const char *folder, const char *name,
                      const void *bytes, size_t size) {
    char path[PATH_SIZE];
    TRY(example_path(path, entry, folder, name));
    return file_write(path, bytes, size);
}

/* Reports show PNG files alone; JPEG and WebP are made into one. */
static Err write_drawing(const GalleryEntry *entry, const char *folder, const Sample *sample) {
    static const uint8_t png[] = {0x89, 'P', 'N', 'G'};
    if (sample->image_size < sizeof png || !memcmp(sample->image, png, sizeof png))
        return write_file(entry, folder, "drawing.png", sample->image, sample->image_size);
    Image image;
    Buf bytes = {0};
    TRY(image_decode(&image, sample->image, sample->image_size, 3, sample->id));
    Err err = image_encode(&bytes, &image);
    if (err == OK) err = write_file(entry, folder, "drawing.png", bytes.data, bytes.size);
    image_free(&image);
    buf_free(&bytes);
    return err;
}

Err gallery_add(GalleryEntry *entry, const char *folder, int number, const char *dataset,
                const Sample *sample, const Buf *code) {
    char path[PATH_SIZE];
    *entry = (GalleryEntry){.there = 1};
    name_folder(entry->folder, sizeof entry->folder, number, sample->id);
    text_escape(entry->id, sizeof entry->id, sample->id);
    text_escape(entry->dataset, sizeof entry->dataset, dataset);
    TRY(example_path(path, entry, folder, ""));
    TRY(file_make_directories(path));
    TRY(write_drawing(entry, folder, sample));
    TRY(write_file(entry, folder, "target.py", sample->code, sample->code_size));
    return write_file(entry, folder, "result.py", buf_cstr(code), code->size);
}

Err gallery_picture(const GalleryEntry *entry, const char *folder, const char *name,
                    const Buf *png) {
    return png->size ? write_file(entry, folder, name, png->data, png->size) : OK;
}

static Json *dims_json(const double dims[3]) {
    Json *list = js_new_array();
    for (int k = 0; k < 3; k++) js_push(list, js_new_number(dims[k]));
    return list;
}

static Json *entry_json(const GalleryEntry *entry) {
    const EvalRecord *r = &entry->record;
    Json *item = js_new_object();
    js_set_text(item, "folder", entry->folder);
    js_set_text(item, "id", entry->id);
    js_set_text(item, "dataset", entry->dataset);
    js_set_text(item, "status", cad_status_name((CadStatus)r->status));
    if (entry->message[0]) js_set_text(item, "message", entry->message);
    if (entry->line) js_set_integer(item, "line", entry->line);
    js_set_number(item, "iou", cad_status_executed((CadStatus)r->status) ? r->iou : 0);
    js_set_number(item, "chamfer", r->chamfer);
    js_set_number(item, "dims_rel_error", r->dims_rel_error);
    js_set(item, "dims", dims_json(r->dims));
    js_set(item, "reference_dims", dims_json(r->reference_dims));
    js_set_number(item, "confidence", r->confidence);
    js_set_integer(item, "tokens", r->tokens);
    js_set_bool(item, "identical", r->identical);
    return item;
}

static Err write_list(const char *work, const GalleryEntry *entries, int count) {
    char path[PATH_SIZE];
    TRY(path_join(path, work, LIST_FILE));
    Json *root = js_new_object(), *items = js_new_array();
    js_set_integer(root, "format_version", FORMAT_VERSION);
    for (int i = 0; i < count; i++)
        if (entries[i].there) js_push(items, entry_json(&entries[i]));
    js_set(root, "items", items);
    Err err = js_write(path, root);
    js_free(&root);
    return err;
}

Err gallery_finish(const char *folder, const GalleryEntry *entries, int count) {
    char work[PATH_SIZE];
    TRY(work_folder(work, folder));
    TRY(write_list(work, entries, count));
    TRY(check_replaceable(folder));
    TRY(file_remove_tree(folder));
    return file_rename(work, folder);
}

void gallery_abandon(const char *folder) {
    char work[PATH_SIZE];
    ErrState kept;
    err_save(&kept);
    if (work_folder(work, folder) == OK) IGNORE(file_remove_tree(work));
    IGNORE(err_restore(&kept));
}

size_t gallery_sample(int number, int count, size_t total) {
    CHECK(number >= 0 && number < count && (size_t)count <= total, "example %d of %d", number,
          count);
    return (size_t)number * total / (size_t)count;
}
