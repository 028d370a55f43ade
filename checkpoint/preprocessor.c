/* How drawings and prompts are made ready; see the header. */
#include "checkpoint/preprocessor.h"

#include <stdlib.h>

#include "core/file.h"

static const char *const KEYS[] = {"model.template",      "model.system_prompt",
                                   "model.vision.fit",    "image_aspect_ratio",
                                   "training.max_length", "vision.drop_first_patch"};
enum { KEY_COUNT = sizeof KEYS / sizeof KEYS[0], UNPLACED = 3 }; /* in no config.json: the first */

void preprocessor_print(Buf *out, const Config *config, bool merged) {
    for (int i = 0; i < (merged ? UNPLACED : KEY_COUNT); i++) {
        config_print_key(out, config, KEYS[i]);
        buf_text(out, "\n");
    }
}

Err preprocessor_read(Config *config, const char *folder) {
    char path[PATH_SIZE];
    TRY(path_join(path, folder, PREPROCESSOR_FILE));
    if (!file_exists(path)) return OK;
    Config *said = malloc(sizeof *said);
    CHECK(said, "out of memory: a config");
    Err err = config_load(said, path, NULL, 0);
    for (int i = 0; i < KEY_COUNT && err == OK; i++)
        if (config_stated(said, KEYS[i]) && !config_stated(config, KEYS[i]))
            config_copy_key(config, said, KEYS[i]);
    free(said);
    return err;
}

Err preprocessor_check(const Config *expected, const Config *found, const char *name) {
    Buf differs = {0};
    for (int i = 0; i < KEY_COUNT && !differs.size; i++) {
        if (config_same_key(expected, found, KEYS[i])) continue;
        config_print_key(&differs, found, KEYS[i]);
        buf_text(&differs, ", the model's config ");
        config_print_key(&differs, expected, KEYS[i]);
    }
    Err err = differs.size
                  ? err_raise(ERR_INPUT, __FILE__, __LINE__, "%s has %s", name, buf_cstr(&differs))
                  : OK;
    buf_free(&differs);
    return err;
}
