/* base.json; see the header. */
#include "checkpoint/lineage.h"

#include <string.h>

#include "core/json.h"
#include "core/text.h"
#include "hub/cache.h"

enum { ORIGIN_FILE_MAX = 1 << 20 };

Err lineage_check(const Lineage *lineage) {
    const char *const paths[] = {lineage->folder, lineage->adapter};
    for (int i = 0; i < 2; i++)
        REQUIRE(text_is_sound(paths[i]), ERR_CONFIG,
                "the base lies in %s: a checkpoint can only keep a path of UTF-8 without control "
                "characters; move it",
                paths[i]);
    return OK;
}

Err lineage_write(const Lineage *lineage, const char *folder) {
    char path[PATH_SIZE];
    if (!lineage->name[0]) return OK;
    TRY(path_join(path, folder, "base.json"));
    Json *root = js_new_object();
    js_set_text(root, "name", lineage->name);
    js_set_bool(root, "on_hub", lineage->on_hub);
    js_set_text(root, "folder", lineage->folder);
    js_set_text(root, "weights", lineage->weights);
    js_set_text(root, "adapter", lineage->adapter);
    js_set_bool(root, "changed", lineage->changed);
    Err err = js_write(path, root);
    js_free(&root);
    return err;
}

/* A text that can be shown and used as a path. */
static Err read_text(const char **out, const Json *root, const char *key, size_t most,
                     const char *path) {
    TRY(js_need_text(out, root, key, path));
    REQUIRE(strlen(*out) < most, ERR_INPUT, "%s: \"%s\" is longer than %zu bytes", path, key,
            most - 1);
    REQUIRE(text_is_sound(*out), ERR_INPUT, "%s: \"%s\" has a control character", path, key);
    return OK;
}

/* The name becomes code and front matter in a model card. */
static Err check_members(const Lineage *lineage, const char *path) {
    HubRepo repo;
    size_t digits = strspn(lineage->weights, "0123456789abcdef");
    REQUIRE(!lineage->weights[digits] && (digits == 0 || digits == 16), ERR_INPUT,
            "%s: \"weights\" is %s where 16 hexadecimal digits are expected", path,
            lineage->weights);
    REQUIRE(!lineage->on_hub || (hub_repo_parse(&repo, lineage->name) == OK && !repo.dataset),
            ERR_INPUT, "%s: \"name\" is %s, no model's id on the hub", path, lineage->name);
    return OK;
}

static Err read_members(Lineage *lineage, const Json *root, const char *path) {
    const char *name, *folder, *weights, *adapter;
    TRY(read_text(&name, root, "name", sizeof lineage->name, path));
    TRY(read_text(&folder, root, "folder", sizeof lineage->folder, path));
    TRY(read_text(&weights, root, "weights", sizeof lineage->weights, path));
    TRY(read_text(&adapter, root, "adapter", sizeof lineage->adapter, path));
    REQUIRE(js_bool(js_get(root, "changed"), &lineage->changed) &&
                js_bool(js_get(root, "on_hub"), &lineage->on_hub),
            ERR_INPUT, "%s: changed or on_hub is not true or false", path);
    strcpy(lineage->name, name);
    strcpy(lineage->folder, folder);
    strcpy(lineage->weights, weights);
    strcpy(lineage->adapter, adapter);
    return check_members(lineage, path);
}

Err lineage_read(Lineage *lineage, const char *folder) {
    char path[PATH_SIZE];
    Json *root;
    *lineage = (Lineage){0};
    TRY(path_join(path, folder, "base.json"));
    if (!file_exists(path)) return OK;
    TRY(js_read(&root, path, ORIGIN_FILE_MAX));
    Err err = read_members(lineage, root, path);
    js_free(&root);
    return err;
}
