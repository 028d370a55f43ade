/* manifest.json; see the header. */
#include "checkpoint/manifest.h"

#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "data/tokenizer/tokenizer.h"

enum { FORMAT_VERSION = 1, MANIFEST_FILE_MAX = 64 << 20 };

/* Beside those of a tokenizer. */
static const struct {
    const char *name;
    bool always;
} FILES[] = {{"config.yaml", true},         {"base.json", false},
             {"trained.safetensors", true}, {"frozen.safetensors", false},
             {"moment1.safetensors", true}, {"moment2.safetensors", true},
             {"state.json", true}};
enum { FILE_COUNT = sizeof FILES / sizeof FILES[0] };

/* ---- writing ---- */

/* The checksum as text. */
static Err hash_file(const char *path, uint64_t *bytes, char text[24]) {
    uint64_t hash;
    TRY(file_checksum(&hash, bytes, path));
    snprintf(text, 24, "%016llx", (unsigned long long)hash);
    return OK;
}

/* Adds a file of the folder to the list, if it is there. */
static Err add_file(Json *files, const char *folder, const char *name) {
    char path[PATH_SIZE], hash[24];
    uint64_t bytes;
    TRY(path_join(path, folder, name));
    if (!file_exists(path)) return OK;
    TRY(hash_file(path, &bytes, hash));
    Json *file = js_new_object();
    js_set_text(file, "name", name);
    js_set_integer(file, "bytes", (int64_t)bytes);
    js_set_text(file, "hash", hash);
    js_push(files, file);
    return OK;
}

Err manifest_write(const char *folder) {
    char path[PATH_SIZE];
    Json *root = js_new_object(), *files = js_new_array();
    Err err = OK;
    js_set_integer(root, "format_version", FORMAT_VERSION);
    for (int i = 0; i < FILE_COUNT && err == OK; i++) err = add_file(files, folder, FILES[i].name);
    for (int i = 0; tokenizer_files[i] && err == OK; i++)
        err = add_file(files, folder, tokenizer_files[i]);
    js_set(root, "files", files);
    if (err == OK) err = path_join(path, folder, "manifest.json");
    if (err == OK) err = js_write(path, root);
    js_free(&root);
    return err;
}

/* ---- reading ---- */

static Err verify_file(const char *folder, const Json *entry) {
    const char *name, *hash;
    int64_t bytes;
    char path[PATH_SIZE], found[24];
    uint64_t size;
    TRY(js_need_text(&name, entry, "name", folder));
    TRY(js_need_text(&hash, entry, "hash", folder));
    TRY(js_need_integer(&bytes, entry, "bytes", folder));
    REQUIRE(!strchr(name, '/'), ERR_INPUT, "%s: the manifest names %s", folder, name);
    TRY(path_join(path, folder, name));
    TRY(hash_file(path, &size, found));
    REQUIRE((int64_t)size == bytes, ERR_INPUT, "%s has %llu bytes where its manifest says %lld",
            path, (unsigned long long)size, (long long)bytes);
    REQUIRE(!strcmp(found, hash), ERR_INPUT,
            "%s is damaged: its checksum is %s where its manifest says %s", path, found, hash);
    return OK;
}

static bool is_listed(const Json *files, const char *name) {
    for (size_t i = 0; i < js_count(files); i++) {
        const char *listed = js_text(js_get(js_at(files, i), "name"), NULL);
        if (listed && !strcmp(listed, name)) return true;
    }
    return false;
}

/* What nobody vouches for would be believed. */
static Err check_listed(const char *folder, const Json *files, const char *name, bool always) {
    char path[PATH_SIZE];
    if (is_listed(files, name)) return OK;
    TRY(path_join(path, folder, name));
    REQUIRE(!always && !file_exists(path), ERR_INPUT, "%s: its manifest does not name %s", folder,
            name);
    return OK;
}

static Err check_complete(const char *folder, const Json *files) {
    bool has_tokenizer = false;
    for (int i = 0; i < FILE_COUNT; i++)
        TRY(check_listed(folder, files, FILES[i].name, FILES[i].always));
    for (int i = 0; tokenizer_files[i]; i++) {
        TRY(check_listed(folder, files, tokenizer_files[i], false));
        has_tokenizer |= is_listed(files, tokenizer_files[i]);
    }
    REQUIRE(has_tokenizer, ERR_INPUT, "%s: its manifest names no tokenizer", folder);
    return OK;
}

static Err verify_manifest(const char *path, const Json *root, const char *name) {
    int64_t version;
    const Json *files;
    TRY(js_need_integer(&version, root, "format_version", name));
    REQUIRE(version == FORMAT_VERSION, version > FORMAT_VERSION ? ERR_UNSUPPORTED : ERR_INPUT,
            "%s: format version %lld; this program reads %d", name, (long long)version,
            FORMAT_VERSION);
    TRY(js_need(&files, root, "files", JSON_KIND_ARRAY, name));
    TRY(check_complete(path, files));
    for (size_t i = 0; i < js_count(files); i++) TRY(verify_file(path, js_at(files, i)));
    return OK;
}

Err manifest_verify(const char *path) {
    char name[PATH_SIZE];
    Json *root;
    TRY(path_join(name, path, "manifest.json"));
    TRY(js_read(&root, name, MANIFEST_FILE_MAX));
    Err err = verify_manifest(path, root, name);
    js_free(&root);
    return err;
}
