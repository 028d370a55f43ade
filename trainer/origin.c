/* base.json; see the header. */
#include "trainer/origin.h"

#include <stdio.h>

#include "core/json.h"

enum { ORIGIN_FILE_MAX = 1 << 20 };

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

static Err read_members(Origin *origin, const Json *root, const char *path) {
    const char *name, *folder, *weights, *adapter;
    TRY(js_need_text(&name, root, "name", path));
    TRY(js_need_text(&folder, root, "folder", path));
    TRY(js_need_text(&weights, root, "weights", path));
    TRY(js_need_text(&adapter, root, "adapter", path));
    REQUIRE(js_bool(js_get(root, "changed"), &origin->changed) &&
                js_bool(js_get(root, "on_hub"), &origin->on_hub),
            ERR_INPUT, "%s: changed or on_hub is not true or false", path);
    REQUIRE((size_t)snprintf(origin->name, sizeof origin->name, "%s", name) < sizeof origin->name,
            ERR_INPUT, "%s: a name that is too long", path);
    snprintf(origin->weights, sizeof origin->weights, "%s", weights);
    TRY(path_format(origin->folder, "%s", folder));
    return path_format(origin->adapter, "%s", adapter);
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
