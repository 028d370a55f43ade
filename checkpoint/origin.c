/* base.json; see the header. */
#include "checkpoint/origin.h"

#include <string.h>

#include "core/json.h"
#include "core/text.h"
#include "hub/cache.h"

enum { ORIGIN_FILE_MAX = 1 << 20 };

Err origin_check(const Origin *origin) {
    const char *const paths[] = {origin->folder, origin->adapter};
    for (int i = 0; i < 2; i++)
        REQUIRE(text_is_sound(paths[i]), ERR_CONFIG,
                "the base lies in %s: a checkpoint can only keep a path of UTF-8 without control "
                "characters; move it",
                paths[i]);
    return OK;
}

Err origin_write(const Origin *origin, const char *folder) {
    char path[PATH_SIZE];
    if (!origin->name[0]) return OK;
    TRY(path_join(path, folder, "base.json"));
    Json *root = js_new_object();
    js_set_text(root, "name", origin->name);
    js_set_bool(root, "on_hub", origin->on_hub);
    js_set_text(root, "folder", origin->folder);
    js_set_text(root, "weights", origin->weights);
    js_set_text(root, "adapter", origin->adapter);
    js_set_bool(root, "changed", origin->changed);
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
static Err check_members(const Origin *origin, const char *path) {
    HubRepo repo;
    size_t digits = strspn(origin->weights, "0123456789abcdef");
    REQUIRE(!origin->weights[digits] && (digits == 0 || digits == 16), ERR_INPUT,
            "%s: \"weights\" is %s where 16 hexadecimal digits are expected", path,
            origin->weights);
    REQUIRE(!origin->on_hub || (hub_repo_parse(&repo, origin->name) == OK && !repo.dataset),
            ERR_INPUT, "%s: \"name\" is %s, no model's id on the hub", path, origin->name);
    return OK;
}

static Err read_members(Origin *origin, const Json *root, const char *path) {
    const char *name, *folder, *weights, *adapter;
    TRY(read_text(&name, root, "name", sizeof origin->name, path));
    TRY(read_text(&folder, root, "folder", sizeof origin->folder, path));
    TRY(read_text(&weights, root, "weights", sizeof origin->weights, path));
    TRY(read_text(&adapter, root, "adapter", sizeof origin->adapter, path));
    REQUIRE(js_bool(js_get(root, "changed"), &origin->changed) &&
                js_bool(js_get(root, "on_hub"), &origin->on_hub),
            ERR_INPUT, "%s: changed or on_hub is not true or false", path);
    strcpy(origin->name, name);
    strcpy(origin->folder, folder);
    strcpy(origin->weights, weights);
    strcpy(origin->adapter, adapter);
    return check_members(origin, path);
}

Err origin_read(Origin *origin, const char *folder) {
    char path[PATH_SIZE];
    Json *root;
    *origin = (Origin){0};
    TRY(path_join(path, folder, "base.json"));
    if (!file_exists(path)) return OK;
    TRY(js_read(&root, path, ORIGIN_FILE_MAX));
    Err err = read_members(origin, root, path);
    js_free(&root);
    return err;
}
