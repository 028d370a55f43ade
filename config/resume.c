#include "config/resume.h"

#include <string.h>

#include "config/keys.h"
#include "core/log.h"

/* ---- one key ---- */

/* One number for all layers is the same as that number for each. */
static bool same_ints(const IntList *a, const IntList *b) {
    int most = a->count > b->count ? a->count : b->count;
    for (int i = 0; i < most; i++)
        if (a->values[a->count == 1 ? 0 : i] != b->values[b->count == 1 ? 0 : i]) return false;
    return a->count == b->count || a->count == 1 || b->count == 1;
}

static bool same_reals(const RealList *a, const RealList *b) {
    int most = a->count > b->count ? a->count : b->count;
    for (int i = 0; i < most; i++)
        if (a->values[a->count == 1 ? 0 : i] != b->values[b->count == 1 ? 0 : i]) return false;
    return a->count == b->count || a->count == 1 || b->count == 1;
}

static bool same_value(const Key *key, const void *a, const void *b, const Buf texts[2]) {
    const void *x = (const char *)a + key->offset, *y = (const char *)b + key->offset;
    if (key->type == KEY_INTS) return same_ints(x, y);
    if (key->type == KEY_REALS) return same_reals(x, y);
    return !strcmp(buf_cstr(&texts[0]), buf_cstr(&texts[1]));
}

void config_cannot_change(const char *key, const char *was, const char *is) {
    log_error("%s: %s → %s; this stays as the run began", key, was, is);
}

/* Where adapters are trained their settings stay; elsewhere nothing reads them. */
static bool stays(const Key *key, bool has_adapters) {
    return key->on_resume == RESUME_MODEL || (key->on_resume == RESUME_ADAPTERS && has_adapters);
}

/* `prefix` stands before the key's name. Returns 1 for a change that cannot be. */
static int compare_key(const Key *key, const char *prefix, const void *was, const void *is,
                       bool has_adapters) {
    Buf texts[2] = {{0}, {0}}, name = {0};
    int wrong = 0;
    key_print(&texts[0], key, was);
    key_print(&texts[1], key, is);
    buf_format(&name, "%s%s", prefix, key->path);
    if (!same_value(key, was, is, texts)) {
        wrong = stays(key, has_adapters);
        if (wrong)
            config_cannot_change(buf_cstr(&name), buf_cstr(&texts[0]), buf_cstr(&texts[1]));
        else
            log_info("%s: %s → %s from here on", buf_cstr(&name), buf_cstr(&texts[0]),
                     buf_cstr(&texts[1]));
    }
    for (int i = 0; i < 2; i++) buf_free(&texts[i]);
    buf_free(&name);
    return wrong;
}

/* ---- datasets ---- */

static const DatasetConfig *find_dataset(const Config *config, const char *name) {
    for (int i = 0; i < config->dataset_count; i++)
        if (!strcmp(config->datasets[i].name, name)) return &config->datasets[i];
    return NULL;
}

static void compare_dataset(const DatasetConfig *was, const DatasetConfig *is) {
    Buf prefix = {0};
    buf_format(&prefix, "datasets.%s.", is->name);
    for (int i = 0; i < dataset_key_count; i++)
        compare_key(&dataset_keys[i], buf_cstr(&prefix), was, is, false);
    buf_free(&prefix);
}

static void compare_datasets(const Config *was, const Config *is) {
    for (int i = 0; i < was->dataset_count; i++)
        if (!find_dataset(is, was->datasets[i].name))
            log_info("datasets: %s takes no part from here on", was->datasets[i].name);
    for (int i = 0; i < is->dataset_count; i++) {
        const DatasetConfig *before = find_dataset(was, is->datasets[i].name);
        if (before)
            compare_dataset(before, &is->datasets[i]);
        else
            log_info("datasets: %s takes part from here on", is->datasets[i].name);
    }
}

int config_resume(const Config *was, const Config *is) {
    bool has_adapters = was->tune.llm == TUNE_LORA || was->tune.vision == TUNE_LORA;
    int wrong = 0;
    for (int i = 0; i < config_key_count; i++) {
        const Key *key = &config_keys[i];
        if (key->on_resume != RESUME_FREELY && key->on_resume != RESUME_TRAINER)
            wrong += compare_key(key, "", was, is, has_adapters);
    }
    compare_datasets(was, is);
    return wrong;
}
