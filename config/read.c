/* Reading a config: YAML (libyaml), then overrides, then the checks that look at several keys. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "config/check.h"
#include "config/keys.h"
#include "core/file.h"
#include "core/log.h"
#include "core/text.h"

enum { CONFIG_FILE_MAX = 1 << 20, DEPTH_MAX = 8, NAMES_MAX = 256, MISTAKES_SHOWN = 50 };

/* What is being read, and what was wrong with it so far. */
typedef struct Reader {
    Config *config;
    const char *name;
    yaml_document_t document;
    int mistakes;
} Reader;

/* Takes the thread's current error as one more mistake. */
static void mistake(Reader *reader, size_t line) {
    reader->mistakes++;
    if (reader->mistakes > MISTAKES_SHOWN) return;
    if (line)
        log_error("%s:%zu: %s", reader->name, line, err_message());
    else
        log_error("%s", err_message());
}

#define MISTAKE(reader, line, ...)                                                                 \
    do {                                                                                           \
        IGNORE(err_raise(ERR_CONFIG, __FILE__, __LINE__, __VA_ARGS__));                            \
        mistake(reader, line);                                                                     \
    } while (0)

static const char *scalar(const yaml_node_t *node) {
    return (const char *)node->data.scalar.value;
}

static size_t line_of(const yaml_node_t *node) {
    return node->start_mark.line + 1;
}

static bool is_section(const char *path) {
    size_t length = strlen(path);
    for (int i = 0; i < config_key_count; i++)
        if (!strncmp(config_keys[i].path, path, length) && config_keys[i].path[length] == '.')
            return true;
    for (int i = 0; key_aliases[i][0]; i++)
        if (!strncmp(key_aliases[i][0], path, length) && key_aliases[i][0][length] == '.')
            return true;
    return false;
}

static void unknown_key(Reader *reader, const char *path, size_t line, const Key *keys,
                        int key_count) {
    const char *names[NAMES_MAX];
    int count = 0;
    for (int i = 0; i < key_count && count < NAMES_MAX; i++) names[count++] = keys[i].path;
    for (int i = 0; keys == config_keys && key_aliases[i][0] && count < NAMES_MAX; i++)
        names[count++] = key_aliases[i][0];
    if (keys == config_keys && count < NAMES_MAX) names[count++] = "datasets";
    const char *near = text_nearest(path, names, count);
    MISTAKE(reader, line, "unknown key %s%s%s%s", path, near ? " (is " : "", near ? near : "",
            near ? " meant?)" : "");
}

/* `fp16: true` and `bf16: true` are older names of precision. */
static bool set_precision_flag(Reader *reader, const char *path, const char *text, size_t line) {
    bool fp16 = !strcmp(path, "fp16") || !strcmp(path, "training.fp16");
    if (!fp16 && strcmp(path, "bf16") && strcmp(path, "training.bf16")) return false;
    if (!strcmp(text, "true") || !strcmp(text, "True"))
        reader->config->precision = fp16 ? PRECISION_FP16 : PRECISION_BF16;
    else if (strcmp(text, "false") && strcmp(text, "False"))
        MISTAKE(reader, line, "%s: \"%s\"; true or false is expected", path, text);
    return true;
}

static void set_key(Reader *reader, const char *path, const char *const *items, int count,
                    bool is_list, size_t line) {
    if (!is_list && set_precision_flag(reader, path, items[0], line)) return;
    const Key *key = key_find(path);
    if (!key) {
        unknown_key(reader, path, line, config_keys, config_key_count);
        return;
    }
    if (key_set(key, reader->config, items, count, is_list) != OK)
        mistake(reader, line);
    else
        reader->config->stated[key_number(key)] = 1;
}

/* A scalar, a list of scalars, or (where the key takes one) a mapping of scalars: key, value, key,
 * value, … */
static bool read_items(Reader *reader, const yaml_node_t *node, const char **items, int *count) {
    *count = 0;
    if (node->type == YAML_MAPPING_NODE) {
        for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
             pair < node->data.mapping.pairs.top; pair++) {
            const yaml_node_t *name = yaml_document_get_node(&reader->document, pair->key);
            const yaml_node_t *value = yaml_document_get_node(&reader->document, pair->value);
            if (name->type != YAML_SCALAR_NODE || value->type != YAML_SCALAR_NODE ||
                *count + 2 > CONFIG_LIST)
                return false;
            items[(*count)++] = scalar(name);
            items[(*count)++] = scalar(value);
        }
        return true;
    }
    if (node->type == YAML_SCALAR_NODE) {
        items[(*count)++] = scalar(node);
        return true;
    }
    for (yaml_node_item_t *item = node->data.sequence.items.start;
         item < node->data.sequence.items.top; item++) {
        const yaml_node_t *child = yaml_document_get_node(&reader->document, *item);
        if (child->type != YAML_SCALAR_NODE || *count == CONFIG_LIST) return false;
        items[(*count)++] = scalar(child);
    }
    return true;
}

static void read_dataset(Reader *reader, const yaml_node_t *node) {
    Config *config = reader->config;
    if (node->type != YAML_MAPPING_NODE) {
        MISTAKE(reader, line_of(node), "datasets: each entry is { name, path, weight }");
        return;
    }
    if (config->dataset_count == CONFIG_DATASETS) {
        MISTAKE(reader, line_of(node), "datasets: more than %d", CONFIG_DATASETS);
        return;
    }
    DatasetConfig dataset = {.weight = 1};
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *name = yaml_document_get_node(&reader->document, pair->key);
        const yaml_node_t *value = yaml_document_get_node(&reader->document, pair->value);
        const Key *key = NULL;
        for (int i = 0; name->type == YAML_SCALAR_NODE && i < dataset_key_count; i++)
            if (!strcmp(dataset_keys[i].path, scalar(name))) key = &dataset_keys[i];
        if (!key) {
            unknown_key(reader, name->type == YAML_SCALAR_NODE ? scalar(name) : "?", line_of(name),
                        dataset_keys, dataset_key_count);
            continue;
        }
        const char *text = value->type == YAML_SCALAR_NODE ? scalar(value) : "";
        if (key_set(key, &dataset, &text, 1, value->type != YAML_SCALAR_NODE) != OK)
            mistake(reader, line_of(value));
    }
    if (!dataset.path[0]) MISTAKE(reader, line_of(node), "datasets: an entry has no path");
    if (!dataset.name[0]) text_escape(dataset.name, sizeof dataset.name, path_name(dataset.path));
    config->datasets[config->dataset_count++] = dataset;
}

static void read_datasets(Reader *reader, const yaml_node_t *node) {
    if (node->type != YAML_SEQUENCE_NODE) {
        MISTAKE(reader, line_of(node), "datasets: a list of { name, path, weight } is expected");
        return;
    }
    reader->config->dataset_count = 0;
    for (yaml_node_item_t *item = node->data.sequence.items.start;
         item < node->data.sequence.items.top; item++)
        read_dataset(reader, yaml_document_get_node(&reader->document, *item));
}

/* One mapping, whose keys stand behind `prefix`. Aliases can make a document its own child: depth
 * is limited. */
static void read_mapping(Reader *reader, const yaml_node_t *node, const char *prefix, int depth) {
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *name = yaml_document_get_node(&reader->document, pair->key);
        const yaml_node_t *value = yaml_document_get_node(&reader->document, pair->value);
        char path[256];
        if (name->type != YAML_SCALAR_NODE || depth > DEPTH_MAX ||
            snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "", scalar(name)) >=
                (int)sizeof path) {
            MISTAKE(reader, line_of(name), "a key that is no name, or too deep");
            continue;
        }
        const char *items[CONFIG_LIST];
        int count;
        if (!strcmp(path, "datasets"))
            read_datasets(reader, value);
        else if (value->type == YAML_MAPPING_NODE && is_section(path))
            read_mapping(reader, value, path, depth + 1);
        else if (value->type == YAML_MAPPING_NODE && key_find(path) &&
                 !key_is_mapping(key_find(path)))
            MISTAKE(reader, line_of(value), "%s: a section where a value is expected", path);
        else if (!key_find(path) && value->type != YAML_SCALAR_NODE)
            unknown_key(reader, path, line_of(name), config_keys, config_key_count);
        else if (is_section(path) && !key_find(path))
            MISTAKE(reader, line_of(value), "%s: a value where a section of keys is expected",
                    path);
        else if (!read_items(reader, value, items, &count))
            MISTAKE(reader, line_of(value), "%s: a list of at most %d plain values is expected",
                    path, CONFIG_LIST);
        else if (value->type == YAML_SCALAR_NODE && !*items[0] &&
                 value->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
            continue; /* "key:" with nothing behind it: the default */
        else
            set_key(reader, path, items, count, value->type != YAML_SCALAR_NODE, line_of(value));
    }
}

static void read_document(Reader *reader, const char *text, size_t size) {
    yaml_parser_t parser;
    CHECK(yaml_parser_initialize(&parser), "out of memory: a YAML parser");
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    if (!yaml_parser_load(&parser, &reader->document)) {
        MISTAKE(reader, parser.problem_mark.line + 1, "not valid YAML: %s",
                parser.problem ? parser.problem : "?");
        yaml_parser_delete(&parser);
        return;
    }
    const yaml_node_t *root = yaml_document_get_root_node(&reader->document);
    if (!root)
        MISTAKE(reader, 1, "the file is empty");
    else if (root->type != YAML_MAPPING_NODE)
        MISTAKE(reader, line_of(root), "a mapping (key: value) is expected");
    else
        read_mapping(reader, root, "", 0);
    yaml_document_delete(&reader->document);
    yaml_parser_delete(&parser);
}

/* "key=value"; a value in brackets is a list: "model.llm.ffn=[352,352]"; in braces, pairs:
 * "lora.rank_pattern={q_proj:8,fc1:4}". */
static void read_override(Reader *reader, const char *text) {
    const char *equals = strchr(text, '=');
    char path[256], value[CONFIG_TEXT];
    if (!equals || equals == text || (size_t)(equals - text) >= sizeof path ||
        strlen(equals + 1) >= sizeof value) {
        MISTAKE(reader, 0, "%.80s: key=value is expected", text);
        return;
    }
    snprintf(path, sizeof path, "%.*s", (int)(equals - text), text);
    snprintf(value, sizeof value, "%s", equals + 1);
    const char *items[CONFIG_LIST] = {value};
    size_t length = strlen(value);
    bool list = length >= 2 && value[0] == '[' && value[length - 1] == ']',
         pairs = length >= 2 && value[0] == '{' && value[length - 1] == '}';
    if (!list && !pairs) {
        set_key(reader, path, items, 1, false, 0);
        return;
    }
    value[length - 1] = 0;
    int count = 0;
    char *rest = NULL;
    const char *between = pairs ? ",: " : ", ";
    for (char *item = strtok_r(value + 1, between, &rest); item && count < CONFIG_LIST;
         item = strtok_r(NULL, between, &rest))
        items[count++] = item;
    set_key(reader, path, items, count, true, 0);
}

Err config_parse(Config *config, const char *text, size_t size, const char *name,
                 const char *const *overrides, int override_count) {
    config_defaults(config);
    Reader reader = {.config = config, .name = name};
    read_document(&reader, text, size);
    for (int i = 0; i < override_count; i++) read_override(&reader, overrides[i]);
    if (!reader.mistakes) {
        int found = config_check(config);
        reader.mistakes += found;
    }
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
    FAIL(ERR_CONFIG, "there is no config file and no preset named %s", name);
}
