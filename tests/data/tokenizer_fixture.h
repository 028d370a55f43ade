/* The golden tokenizers of the OpenECAD models, as they are and with files changed. */
#ifndef CADVLM_TESTS_DATA_TOKENIZER_FIXTURE_H
#define CADVLM_TESTS_DATA_TOKENIZER_FIXTURE_H

#include "core/file.h"
#include "core/json.h"
#include "data/tokenizer/tokenizer.h"
#include "tests/support/test.h"

/* The folder with models and rows.json: that of the tree, or a larger one made by
 * tools/openecad_tokenizer_golden.py. */
static inline const char *root(void) {
    static char path[PATH_SIZE];
    const char *large = getenv("CADVLM_OPENECAD_TOKENIZERS");
    snprintf(path, sizeof path, "%s", large ? large : "");
    if (!large)
        snprintf(path, sizeof path, "%s/tests/golden/tokenizer/openecad", test_source_folder());
    return path;
}

static inline const char *golden(const char *name) {
    static char path[2 * PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s", root(), name);
    return path;
}

static inline Tokenizer *open_at(const char *path) {
    Tokenizer *tokenizer;
    ASSERT_OK(tokenizer_open(&tokenizer, path));
    return tokenizer;
}

/* A folder of the test with a copy of the golden one of that name. */
static inline const char *copied(const char *name) {
    const char *folder = test_path(name);
    ASSERT_OK(file_remove_tree(folder));
    ASSERT_OK(file_make_directories(folder));
    ASSERT_OK(tokenizer_copy(golden(name), folder));
    return folder;
}

static inline void write_text(const char *folder, const char *file, const char *text) {
    char path[PATH_SIZE];
    ASSERT_OK(path_join(path, folder, file));
    ASSERT_OK(file_write(path, text, strlen(text)));
}

/* Sets one member of a JSON file (its text; NULL: an empty object without it). */
static inline void set_member(const char *folder, const char *file, const char *key,
                              const char *text) {
    char path[PATH_SIZE];
    Json *object, *value, *changed = js_new_object();
    ASSERT_OK(path_join(path, folder, file));
    ASSERT_OK(js_read(&object, path, 1 << 24));
    JsonIter members = js_iter(object);
    const char *name;
    for (const Json *member; (member = js_next(&members, &name));)
        if (strcmp(name, key) != 0) js_set(changed, name, js_copy(member));
    if (text) {
        ASSERT_OK(js_parse(&value, text, strlen(text), "a value"));
        js_set(changed, key, value);
    }
    ASSERT_OK(js_write(path, changed));
    js_free(&object);
    js_free(&changed);
}

#endif
