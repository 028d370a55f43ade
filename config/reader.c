/* The nodes of a document into the keys of a config; see the header. */
#include "config/reader.h"

#include <stdio.h>
#include <string.h>

#include "config/document.h"
#include "core/file.h"
#include "core/log.h"
#include "core/text.h"

enum { NAMES_MAX = 256 };

bool reader_has_enough(const Reader *reader) {
    return reader->mistakes >= MISTAKES_MAX;
}

void reader_mistake(Reader *reader, size_t line) {
    reader->mistakes++;
    if (line)
        log_error("%s:%zu: %s", reader->name, line, err_message());
    else
        log_error("%s", err_message());
}

static const yaml_node_t *node_at(const Reader *reader, int index) {
    return yaml_document_get_node(reader->document, index);
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

/* Notes where a key is given; false where it has been given before, by whatever name. What stands
 * on the command line (line 0) goes over all that was said before. */
static bool claim(Reader *reader, const Key *key, const char *path, size_t line) {
    Given *given = &reader->given[key_number(key)];
    if (line && given->line) {
        bool alike = !strcmp(given->path, path);
        MISTAKE(reader, line, "%s: given twice, here and %s%s%sin line %zu", path,
                alike ? "" : "as ", alike ? "" : given->path, alike ? "" : " ", given->line);
        return false;
    }
    given->line = line;
    snprintf(given->path, sizeof given->path, "%s", path);
    return true;
}

/* `fp16: true` and `bf16: true` are older names of precision; a false one leaves it to others, and
 * does not stand beside precision itself. */
static void set_precision_flag(Reader *reader, const char *path, const char *text, size_t line) {
    const Key *key = key_find("precision");
    bool yes;
    if (!key_parse_bool(text, &yes)) {
        MISTAKE(reader, line, "%s: \"%s\"; true or false is expected", path, text);
    } else if (!yes) {
        reader->refusal.line = line;
        snprintf(reader->refusal.path, sizeof reader->refusal.path, "%s", path);
    } else if (claim(reader, key, path, line)) {
        reader->config->precision = strstr(path, "fp16") ? PRECISION_FP16 : PRECISION_BF16;
        reader->config->stated[key_number(key)] = 1;
    }
}

static bool is_precision_flag(const char *path) {
    return !strcmp(path, "fp16") || !strcmp(path, "training.fp16") || !strcmp(path, "bf16") ||
           !strcmp(path, "training.bf16");
}

static bool is_known(const char *path) {
    return key_find(path) || is_section(path) || is_precision_flag(path) ||
           !strcmp(path, "datasets");
}

static void check_precision_flags(Reader *reader) {
    const Given *given = &reader->given[key_number(key_find("precision"))];
    if (reader->refusal.line && given->line && !strcmp(given->path, "precision"))
        MISTAKE(reader, reader->refusal.line, "%s: given beside precision in line %zu",
                reader->refusal.path, given->line);
}

void reader_set_key(Reader *reader, const char *path, const char *const *items, int count,
                    bool is_list, size_t line) {
    if (!is_list && is_precision_flag(path)) {
        set_precision_flag(reader, path, items[0], line);
        return;
    }
    const Key *key = key_find(path);
    if (!key)
        unknown_key(reader, path, line, config_keys, config_key_count);
    else if (!claim(reader, key, path, line))
        return;
    else if (key_set(key, reader->config, items, count, is_list) != OK)
        reader_mistake(reader, line);
    else
        reader->config->stated[key_number(key)] = 1;
}

/* Says so when an earlier pair of the mapping has the same name. */
static bool is_repeated(Reader *reader, const yaml_node_t *mapping, const yaml_node_pair_t *pair,
                        const char *prefix) {
    const yaml_node_t *name = node_at(reader, pair->key);
    if (name->type != YAML_SCALAR_NODE) return false;
    for (yaml_node_pair_t *at = mapping->data.mapping.pairs.start; at < pair; at++) {
        const yaml_node_t *other = node_at(reader, at->key);
        if (other->type != YAML_SCALAR_NODE || strcmp(node_text(name), node_text(other)) != 0)
            continue;
        MISTAKE(reader, node_line(name), "%s%s%s: given twice, here and in line %zu", prefix,
                *prefix ? "." : "", node_text(name), node_line(other));
        return true;
    }
    return false;
}

static bool add_item(Reader *reader, int node, const char **items, int *count) {
    const yaml_node_t *item = node_at(reader, node);
    if (item->type != YAML_SCALAR_NODE || *count == CONFIG_LIST) return false;
    items[(*count)++] = node_text(item);
    return true;
}

/* A scalar, a list of scalars, or (where the key takes one) a mapping of scalars: key, value, key,
 * value, … */
static bool read_items(Reader *reader, const char *path, const yaml_node_t *node,
                       const char **items, int *count) {
    *count = 0;
    if (node->type == YAML_SCALAR_NODE) {
        items[(*count)++] = node_text(node);
        return true;
    }
    if (node->type == YAML_SEQUENCE_NODE) {
        for (yaml_node_item_t *item = node->data.sequence.items.start;
             item < node->data.sequence.items.top; item++)
            if (node_is_null(node_at(reader, *item)) || !add_item(reader, *item, items, count))
                return false;
        return true;
    }
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++)
        if (!is_repeated(reader, node, pair, path) &&
            (!add_item(reader, pair->key, items, count) ||
             !add_item(reader, pair->value, items, count)))
            return false;
    return true;
}

/* The key of a dataset that a node names; a mistake, and NULL, where there is none. */
static const Key *dataset_key(Reader *reader, const yaml_node_t *name) {
    for (int i = 0; name->type == YAML_SCALAR_NODE && i < dataset_key_count; i++)
        if (!strcmp(dataset_keys[i].path, node_text(name))) return &dataset_keys[i];
    unknown_key(reader, name->type == YAML_SCALAR_NODE ? node_text(name) : "?", node_line(name),
                dataset_keys, dataset_key_count);
    return NULL;
}

static void read_dataset_pair(Reader *reader, DatasetConfig *dataset, const yaml_node_t *mapping,
                              const yaml_node_pair_t *pair) {
    const yaml_node_t *value = node_at(reader, pair->value);
    const Key *key = dataset_key(reader, node_at(reader, pair->key));
    if (!key || is_repeated(reader, mapping, pair, "datasets") || node_is_null(value)) return;
    bool scalar = value->type == YAML_SCALAR_NODE;
    const char *text = scalar ? node_text(value) : "";
    if (key_set(key, dataset, &text, 1, !scalar) != OK) reader_mistake(reader, node_line(value));
}

static void read_dataset(Reader *reader, const yaml_node_t *node) {
    Config *config = reader->config;
    if (node->type != YAML_MAPPING_NODE) {
        MISTAKE(reader, node_line(node), "datasets: each entry is { name, path, weight }");
        return;
    }
    if (config->dataset_count == CONFIG_DATASETS) {
        MISTAKE(reader, node_line(node), "datasets: more than %d", CONFIG_DATASETS);
        return;
    }
    DatasetConfig dataset = {.weight = 1};
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top && !reader_has_enough(reader); pair++)
        read_dataset_pair(reader, &dataset, node, pair);
    if (!dataset.path[0]) MISTAKE(reader, node_line(node), "datasets: an entry has no path");
    if (!dataset.name[0]) text_escape(dataset.name, sizeof dataset.name, path_name(dataset.path));
    config->datasets[config->dataset_count++] = dataset;
}

static void read_datasets(Reader *reader, const yaml_node_t *node) {
    if (node->type != YAML_SEQUENCE_NODE) {
        MISTAKE(reader, node_line(node), "datasets: a list of { name, path, weight } is expected");
        return;
    }
    for (yaml_node_item_t *item = node->data.sequence.items.start;
         item < node->data.sequence.items.top && !reader_has_enough(reader); item++)
        read_dataset(reader, node_at(reader, *item));
}

static void read_mapping(Reader *reader, const yaml_node_t *node, const char *prefix);

/* What stands behind a key or a section that there is. */
static void read_value(Reader *reader, const char *path, const yaml_node_t *value) {
    const char *items[CONFIG_LIST];
    int count;
    size_t line = node_line(value);
    const Key *key = key_find(path);
    bool mapping = value->type == YAML_MAPPING_NODE;
    if (!strcmp(path, "datasets"))
        read_datasets(reader, value);
    else if (mapping && is_section(path))
        read_mapping(reader, value, path);
    else if (mapping && (!key || !key_is_mapping(key)))
        MISTAKE(reader, line, "%s: a section where a value is expected", path);
    else if (is_section(path))
        MISTAKE(reader, line, "%s: a value where a section of keys is expected", path);
    else if (!read_items(reader, path, value, items, &count))
        MISTAKE(reader, line, "%s: a list of at most %d plain values is expected", path,
                CONFIG_LIST);
    else
        reader_set_key(reader, path, items, count, value->type != YAML_SCALAR_NODE, line);
}

static void read_pair(Reader *reader, const yaml_node_t *mapping, const yaml_node_pair_t *pair,
                      const char *prefix) {
    const yaml_node_t *name = node_at(reader, pair->key), *value = node_at(reader, pair->value);
    size_t line = node_line(name);
    char path[PATH_MAX_LENGTH];
    if (name->type != YAML_SCALAR_NODE ||
        snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "", node_text(name)) >=
            (int)sizeof path)
        MISTAKE(reader, line, "a key that is no name");
    else if (!is_known(path))
        unknown_key(reader, path, line, config_keys, config_key_count);
    else if (!is_repeated(reader, mapping, pair, prefix) && !node_is_null(value))
        read_value(reader, path, value);
}

/* One mapping, whose keys stand behind `prefix`. */
static void read_mapping(Reader *reader, const yaml_node_t *node, const char *prefix) {
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top && !reader_has_enough(reader); pair++)
        read_pair(reader, node, pair, prefix);
}

void reader_read_document(Reader *reader, const char *text, size_t size) {
    yaml_document_t document;
    size_t line;
    if (document_read(&document, text, size, &line) != OK) {
        reader_mistake(reader, line);
        return;
    }
    reader->document = &document;
    const yaml_node_t *root = yaml_document_get_root_node(&document);
    if (!root || node_is_null(root))
        MISTAKE(reader, 1, "the file is empty");
    else if (root->type != YAML_MAPPING_NODE)
        MISTAKE(reader, node_line(root), "a mapping (key: value) is expected");
    else
        read_mapping(reader, root, "");
    check_precision_flags(reader);
    yaml_document_delete(&document);
}
