/* Reading a config: a file (or a preset), then overrides, then the checks that look at several
 * keys. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/check.h"
#include "config/reader.h"
#include "core/file.h"
#include "core/text.h"

/* "key=~": as if nobody had said anything of it. */
static void unset_key(Reader *reader, const Key *key) {
    Config *defaults = malloc(sizeof *defaults);
    CHECK(defaults, "out of memory: a config");
    config_defaults(defaults);
    key_copy(key, reader->config, defaults);
    reader->config->stated[key_number(key)] = 0;
    free(defaults);
}

/* The items between brackets: "352,352", or between braces: "q_proj:8,fc1:4". `value` is cut up. */
static void read_override_items(Reader *reader, const char *path, char *value, bool pairs) {
    const char *items[CONFIG_LIST], *between = pairs ? ",: " : ", ";
    int count = 0;
    char *rest = NULL, *item = strtok_r(value, between, &rest);
    for (; item && count < CONFIG_LIST; item = strtok_r(NULL, between, &rest))
        items[count++] = item;
    if (item)
        MISTAKE(reader, 0, "%s: more than %d values", path, CONFIG_LIST);
    else
        reader_set_key(reader, path, items, count, true, 0);
}

/* "key=value"; a value in brackets is a list: "model.llm.ffn=[352,352]"; in braces, pairs:
 * "lora.rank_pattern={q_proj:8,fc1:4}". */
static void read_override(Reader *reader, const char *text) {
    const char *equals = strchr(text, '=');
    char path[PATH_MAX_LENGTH], value[CONFIG_TEXT];
    size_t name = equals ? (size_t)(equals - text) : 0, length = equals ? strlen(equals + 1) : 0;
    if (!name || name >= sizeof path) {
        MISTAKE(reader, 0, "%s: key=value is expected", text);
        return;
    }
    memcpy(path, text, name);
    path[name] = 0;
    if (length >= sizeof value) {
        MISTAKE(reader, 0, "%s: longer than %zu characters", path, sizeof value - 1);
        return;
    }
    memcpy(value, equals + 1, length + 1);
    bool list = length >= 2 && value[0] == '[' && value[length - 1] == ']',
         pairs = length >= 2 && value[0] == '{' && value[length - 1] == '}';
    const char *const whole[] = {value};
    if (list || pairs) {
        value[length - 1] = 0;
        read_override_items(reader, path, value + 1, pairs);
    } else if (key_find(path) && (!strcmp(value, "~") || !strcmp(value, "null"))) {
        unset_key(reader, key_find(path));
    } else {
        reader_set_key(reader, path, whole, 1, false, 0);
    }
}

Err config_parse(Config *config, const char *text, size_t size, const char *name,
                 const char *const *overrides, int override_count) {
    config_defaults(config);
    Reader reader = {.config = config, .name = name};
    reader_read_document(&reader, text, size);
    for (int i = 0; i < override_count && !reader_has_enough(&reader); i++)
        read_override(&reader, overrides[i]);
    if (!reader.mistakes) reader.mistakes = config_check(config);
    REQUIRE(!reader_has_enough(&reader), ERR_CONFIG,
            "%s: %d mistakes, and the rest was not read; nothing was started", name,
            reader.mistakes);
    REQUIRE(reader.mistakes == 0, ERR_CONFIG, "%s: %d mistake%s; nothing was started", name,
            reader.mistakes, reader.mistakes == 1 ? "" : "s");
    return OK;
}

Err config_load(Config *config, const char *path, const char *const *overrides,
                int override_count) {
    char preset[PATH_SIZE];
    Buf text = {0};
    /* A folder may have the name of a preset: the model's, most likely. */
    if ((!file_exists(path) || file_is_directory(path)) && !strchr(path, '/') &&
        config_preset_path(preset, sizeof preset, path) == OK)
        path = preset;
    Err err = file_read(&text, path, CONFIG_FILE_MAX);
    if (err != OK) {
        buf_free(&text);
        return err_prefix(ERR_CONFIG, "the config: ");
    }
    err = config_parse(config, buf_cstr(&text), text.size, path, overrides, override_count);
    buf_free(&text);
    return err;
}

Err config_preset_path(char *out, size_t size, const char *name) {
    char program[PATH_SIZE];
    const char *given = getenv("CADVLM_PRESETS");
    const char *folders[4] = {given, NULL, NULL, NULL};
    char beside[PATH_SIZE], source[PATH_SIZE];
    TRY(path_of_program(program));
    TRY(path_format(beside, "%s/../share/cadvlm/presets", program));
    TRY(path_format(source, "%s/../../config/presets",
                    program)); /* build/<preset>/cadvlm in the source tree */
    folders[1] = beside;
    folders[2] = source;
    for (int i = 0; i < 3; i++) {
        if (!folders[i]) continue;
        int length = snprintf(out, size, "%s/%s%s", folders[i], name,
                              text_ends_with(name, ".yaml") ? "" : ".yaml");
        if (length > 0 && (size_t)length < size && file_exists(out)) return OK;
    }
    FAIL(ERR_CONFIG, "no config file and no preset named %s", name);
}
