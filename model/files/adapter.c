/* LoRA adapters in PEFT's files: reading and checking; see the header. */
#include "model/files/adapter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/file.h"
#include "core/text.h"
#include "model/files/json_keys.h"
#include "model/files/weight_files.h"

#define WEIGHTS "adapter_model.safetensors"
#define CONFIG  "adapter_config.json"

enum { ADAPTER_CONFIG_MAX = 4 << 20, RANK_MAX = 4096 };

struct Adapter {
    char *folder;
    AdapterConfig config;
    SafeTensors *file;
    WeightFiles *connector; /* beside it, or NULL */
    AdapterModule *modules; /* sorted by name */
    int count;
    SafeTensor *whole; /* sorted by name; names are owned */
    int whole_count;
};

/* ---- the config ---- */

/* Adapters that are computed otherwise than W + scale · B · A. */
static Err refuse_variants(const JsonKeys *keys) {
    static const struct {
        const char *key, *why;
    } variants[] = {
        {"use_dora", "DoRA, which also scales the weight's rows"},
        {"fan_in_fan_out", "weights that lie transposed"},
        {"layers_to_transform", "adapters for some layers by number"},
        {"layer_replication", "layers that are used more than once"},
        {"megatron_config", "Megatron's linears"},
        {"bias", "training of biases"},
        {"lora_bias", "adapters with biases"},
        {"target_parameters", "adapters of bare parameters"},
        {"trainable_token_indices", "training of single tokens"},
        {"ensure_weight_tying", "tied modules that were trained"},
        {"use_qalora", "QALoRA"},
        {"use_bdlora", "BD-LoRA, whose A or B is of blocks"},
        {"kasa_config", "KaSA, which changes the base too"},
        {"monteclora_config", "MonteCLoRA, whose weights are drawn"},
        {"arrow_config", "Arrow, which chooses among adapters"},
        {"alora_invocation_tokens", "aLoRA, which acts behind certain tokens alone"},
    };
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++)
        TRY(keys_refuse(keys, variants[i].key, variants[i].why));
    return OK;
}

/* How A and B began. EVA takes A from the data's singular vectors and leaves B zero; the orthogonal
 * start makes B · A zero with neither of them zero: the base is as it was. LoftQ, PiSSA, OLoRA,
 * CorDA and LoRA-GA take from the base what A and B begin with. MiCA does not, but never trains B.
 */
static Err check_start(const JsonKeys *keys) {
    static const char *const beside[] = {"gaussian", "eva", "orthogonal"};
    const char *init = js_text(keys_value(keys, "init_lora_weights"), NULL);
    for (size_t i = 0; init && i < sizeof beside / sizeof beside[0]; i++)
        if (!strcasecmp(init, beside[i])) return OK;
    REQUIRE(
        !init || strcasecmp(init, "mica") != 0, ERR_UNSUPPORTED,
        "%s: \"init_lora_weights\" is \"mica\", which never trains B: here it would be trained. "
        "Set it to true where that is meant, or to merge the adapter",
        keys->where);
    REQUIRE(!init, ERR_UNSUPPORTED,
            "%s: \"init_lora_weights\" is \"%.60s\", which changes the base too; only adapters "
            "beside an unchanged base are supported",
            keys->where, init);
    return OK;
}

/* What tensors say, how an adapter was made, how it is run. */
static const char *const harmless[] = {"auto_mapping",    "corda_config",   "eva_config",
                                       "exclude_modules", "inference_mode", "layers_pattern",
                                       "loftq_config",    "lora_ga_config", "megatron_core",
                                       "modules_to_save", "peft_version",   "qalora_group_size",
                                       "revision",        "runtime_config", "target_modules",
                                       "task_type",       "velora_config",  NULL};

static const char *const patterns[] = {"rank_pattern", "alpha_pattern", NULL}; /* resolve() */

static Err read_config(AdapterConfig *config, const JsonKeys *file) {
    KeysAsked asked = {0};
    const JsonKeys all = {file->object, file->where, &asked}, *keys = &all;
    const char *type;
    LoraConfig *lora = &config->lora;
    TRY(keys_text(&type, keys, "peft_type", ""));
    REQUIRE(!strcmp(type, "LORA"), ERR_UNSUPPORTED, "%s: \"peft_type\" is \"%s\"; LORA is known",
            keys->where, type);
    TRY(refuse_variants(keys));
    TRY(check_start(keys));
    TRY(keys_integer(&lora->r, keys, "r", 8, 1, RANK_MAX));
    TRY(keys_number(&lora->alpha, keys, "lora_alpha", 8, 0, 1e6));
    TRY(keys_number(&lora->dropout, keys, "lora_dropout", 0, 0, 0.95));
    TRY(keys_bool(&lora->use_rslora, keys, "use_rslora", false));
    TRY(keys_copy(config->base, CONFIG_TEXT, keys, "base_model_name_or_path", ""));
    keys_pass_over(keys, patterns);
    keys_pass_over(keys, harmless);
    return keys_refuse_others(keys);
}

/* ---- tensors and what they belong to ---- */

typedef struct Found {
    char module[PARAM_NAME];
    bool is_b;
    const SafeTensor *tensor;
} Found;

/* What is between a name and ".lora_A." in a key, and "weight" behind it, perhaps with the
 * adapter's name between. */
static bool split_key(Found *found, const char *key) {
    const char *mark = strstr(key, ".lora_A.");
    if (!mark) mark = strstr(key, ".lora_B.");
    if (!mark || (size_t)(mark - key) >= PARAM_NAME) return false;
    const char *end = mark + strlen(".lora_A."), *dot = strchr(end, '.');
    if (strcmp(dot ? dot + 1 : end, "weight") != 0) return false;
    memset(found->module, 0, PARAM_NAME);
    memcpy(found->module, key, (size_t)(mark - key));
    found->is_b = mark[strlen(".lora_")] == 'B';
    return true;
}

/* The base's name of what was saved whole: PEFT keeps such a module, and the base's own, inside a
 * wrapper. NULL: the base's own. To be freed. */
static char *whole_name(const char *key) {
    static const char saved[] = ".modules_to_save.", base[] = ".base_layer.";
    const char *mark = strstr(key, saved), *behind;
    if (strstr(key, ".original_module.")) return NULL;
    Buf name = {0};
    if (mark) {
        behind = mark + sizeof saved - 1;
        if (!strncmp(behind, "default.", strlen("default."))) behind += strlen("default.");
        buf_format(&name, "%.*s.%s", (int)(mark - key), key, behind);
    } else if ((mark = strstr(key, base))) {
        buf_format(&name, "%.*s.%s", (int)(mark - key), key, mark + sizeof base - 1);
    } else {
        buf_text(&name, key);
    }
    return name.data;
}

static void add_whole(Adapter *adapter, const SafeTensor *tensor, const char *key) {
    char *name = whole_name(key);
    if (!name) return;
    SafeTensor *t = &adapter->whole[adapter->whole_count++];
    *t = *tensor;
    t->name = name;
}

static int by_module(const void *a, const void *b) {
    const Found *x = a, *y = b;
    int order = strcmp(x->module, y->module);
    return order ? order : (int)x->is_b - (int)y->is_b;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const SafeTensor *)a)->name, ((const SafeTensor *)b)->name);
}

static int by_module_name(const void *a, const void *b) {
    return strcmp(((const AdapterModule *)a)->name, ((const AdapterModule *)b)->name);
}

/* Adapters into `found`, the rest into adapter->whole. */
static Err sort_out(Adapter *adapter, Found *found, int *count) {
    static const char prefix[] = "base_model.model.";
    for (int i = 0; i < safetensors_count(adapter->file); i++) {
        const SafeTensor *t = safetensors_at(adapter->file, i);
        const char *key = t->name;
        if (!strncmp(key, prefix, sizeof prefix - 1)) key += sizeof prefix - 1;
        if (!strstr(key, "lora_")) {
            add_whole(adapter, t, key);
            continue;
        }
        REQUIRE(split_key(&found[*count], key), ERR_UNSUPPORTED,
                "%s: %s is the A or B of no linear", safetensors_path(adapter->file), t->name);
        found[(*count)++].tensor = t;
    }
    qsort(found, (size_t)*count, sizeof *found, by_module);
    return OK;
}

static Err read_pair(AdapterModule *module, const Found *a, const Found *b, const char *path) {
    char shape_a[SHAPE_TEXT], shape_b[SHAPE_TEXT];
    REQUIRE(!a->is_b && b && b->is_b && !strcmp(a->module, b->module), ERR_INPUT,
            "%s: %s lacks its A or its B, or has one twice", path, a->module);
    *module = (AdapterModule){.a = a->tensor, .b = b->tensor};
    memcpy(module->name, a->module, PARAM_NAME);
    TRY(safetensors_need_floats(a->tensor, path));
    TRY(safetensors_need_floats(b->tensor, path));
    REQUIRE(a->tensor->dims == 2 && b->tensor->dims == 2 &&
                a->tensor->shape[0] == b->tensor->shape[1] && a->tensor->count &&
                b->tensor->count && a->tensor->shape[0] <= RANK_MAX,
            ERR_INPUT, "%s: %s: A has the shape %s and B %s; [r, in] and [out, r] are expected",
            path, a->module, safetensors_shape(shape_a, a->tensor),
            safetensors_shape(shape_b, b->tensor));
    module->r = a->tensor->shape[0];
    return OK;
}

static Err read_pairs(Adapter *adapter, const Found *found, int count) {
    const char *path = safetensors_path(adapter->file);
    for (int i = 0; i < count; i += 2)
        TRY(read_pair(&adapter->modules[adapter->count++], &found[i],
                      i + 1 < count ? &found[i + 1] : NULL, path));
    for (int i = 1; i < adapter->count; i++)
        REQUIRE(strcmp(adapter->modules[i - 1].name, adapter->modules[i].name) != 0, ERR_INPUT,
                "%s: %s is adapted twice", path, adapter->modules[i].name);
    return OK;
}

/* ---- ranks and scales ---- */

/* The key of a pattern that a module's name is, or ends with behind a dot. PEFT takes keys for
 * regular expressions; names with dots in them mean the same so. */
static Err match(const char **key, const Json *pattern, const char *module, const char *where) {
    JsonIter iter = js_iter(pattern);
    const char *name;
    *key = NULL;
    while (js_next(&iter, &name)) {
        REQUIRE(!strpbrk(name, "\\[](){}|*+?^$"), ERR_UNSUPPORTED,
                "%s: the pattern \"%.200s\" is an expression; ends of names are supported", where,
                name);
        if (!*key && name_ends(module, name, strlen(name))) *key = name;
    }
    return OK;
}

static Err resolve(AdapterModule *module, const AdapterConfig *config, const JsonKeys *keys) {
    const Json *ranks = js_get(keys->object, "rank_pattern"),
               *alphas = js_get(keys->object, "alpha_pattern");
    const char *rank_key, *alpha_key;
    int64_t r = config->lora.r;
    module->alpha = config->lora.alpha;
    TRY(match(&rank_key, ranks, module->name, keys->where));
    TRY(match(&alpha_key, alphas, module->name, keys->where));
    REQUIRE(!rank_key || !alpha_key || !strcmp(rank_key, alpha_key), ERR_UNSUPPORTED,
            "%s: \"%s\" of rank_pattern and \"%s\" of alpha_pattern both fit %s: PEFT 0.10 takes "
            "the first for both, later ones do not; give both the same name",
            keys->where, rank_key, alpha_key, module->name);
    if (rank_key)
        TRY(keys_integer(&r, &(JsonKeys){.object = ranks, .where = keys->where}, rank_key, r, 1,
                         RANK_MAX));
    if (alpha_key)
        TRY(keys_number(&module->alpha, &(JsonKeys){.object = alphas, .where = keys->where},
                        alpha_key, module->alpha, 0, 1e6));
    REQUIRE(r == module->r, ERR_INPUT, "%s: %s has the rank %lld, its tensors %lld", keys->where,
            module->name, (long long)r, (long long)module->r);
    double rank = (double)module->r;
    module->scale = (float)(module->alpha / (config->lora.use_rslora ? sqrt(rank) : rank));
    return OK;
}

/* ---- opening ---- */

/* The connector where the adapter's own file has none of it. */
static Err open_connector(Adapter *adapter) {
    static const char *const places[] = {"connector/model.safetensors", "connector.safetensors"};
    char path[PATH_SIZE];
    for (int i = 0; i < adapter->whole_count; i++)
        if (!strncmp(adapter->whole[i].name, "connector.", 10)) return OK;
    for (int i = 0; i < 2; i++) {
        TRY(path_join(path, adapter->folder, places[i]));
        if (!file_exists(path)) continue;
        TRY(weight_files_open_one(&adapter->connector, path, "connector"));
        break;
    }
    if (adapter->connector) {
        int count = weight_files_count(adapter->connector);
        size_t all = (size_t)(adapter->whole_count + count + 1);
        adapter->whole = realloc(adapter->whole, all * sizeof *adapter->whole);
        CHECK(adapter->whole, "out of memory: %zu tensors", all);
        for (int i = 0; i < count; i++) {
            const SafeTensor *t = weight_files_at(adapter->connector, i);
            add_whole(adapter, t, t->name);
        }
        return OK;
    }
    TRY(path_join(path, adapter->folder, "connector/pytorch_model.bin"));
    if (file_exists(path))
        return weight_files_refuse_pickle(adapter->folder, "connector's weights");
    return OK;
}

static Err check_whole(const Adapter *adapter) {
    for (int i = 0; i < adapter->whole_count; i++) {
        const SafeTensor *t = &adapter->whole[i];
        TRY(safetensors_need_floats(t, adapter->folder));
        REQUIRE(i == 0 || strcmp(t->name, adapter->whole[i - 1].name) != 0, ERR_INPUT,
                "%s: %s is there twice", adapter->folder, t->name);
    }
    return OK;
}

static Err open_weights(Adapter *adapter, const JsonKeys *keys) {
    char path[PATH_SIZE], pickle[PATH_SIZE];
    TRY(path_join(path, adapter->folder, WEIGHTS));
    TRY(path_join(pickle, adapter->folder, "adapter_model.bin"));
    if (!file_exists(path) && file_exists(pickle))
        return weight_files_refuse_pickle(adapter->folder, "adapters");
    TRY(safetensors_open(&adapter->file, path));
    size_t tensors = (size_t)safetensors_count(adapter->file) + 1;
    adapter->modules = calloc(tensors, sizeof *adapter->modules);
    adapter->whole = calloc(tensors, sizeof *adapter->whole);
    Found *found = calloc(tensors, sizeof *found);
    CHECK(adapter->modules && adapter->whole && found, "out of memory: %zu tensors", tensors);
    int count = 0;
    Err err = sort_out(adapter, found, &count);
    if (err == OK) err = read_pairs(adapter, found, count);
    free(found);
    TRY(err);
    for (int i = 0; i < adapter->count; i++)
        TRY(resolve(&adapter->modules[i], &adapter->config, keys));
    TRY(open_connector(adapter));
    REQUIRE(adapter->count || adapter->whole_count, ERR_INPUT, "%s has no tensors", path);
    qsort(adapter->whole, (size_t)adapter->whole_count, sizeof *adapter->whole, by_name);
    return check_whole(adapter);
}

static Err open_adapter(Adapter *adapter) {
    char path[PATH_SIZE];
    Json *root;
    TRY(path_join(path, adapter->folder, CONFIG));
    TRY(js_read(&root, path, ADAPTER_CONFIG_MAX));
    JsonKeys keys = {.object = root, .where = path};
    Err err = keys_need_object(&keys);
    if (err == OK) err = read_config(&adapter->config, &keys);
    if (err == OK) err = open_weights(adapter, &keys);
    js_free(&root);
    return err;
}

bool adapter_is(const char *folder) {
    char path[PATH_SIZE];
    if (path_join(path, folder, CONFIG) == OK) return file_exists(path);
    err_clear();
    return false;
}

Err adapter_open(Adapter **out, const char *folder) {
    Adapter *adapter = calloc(1, sizeof *adapter);
    CHECK(adapter, "out of memory: an adapter");
    *out = adapter;
    adapter->folder = strdup(folder);
    CHECK(adapter->folder, "out of memory: a path");
    Err err = open_adapter(adapter);
    if (err != OK) adapter_close(out);
    return err;
}

void adapter_close(Adapter **out) {
    Adapter *adapter = *out;
    if (!adapter) return;
    for (int i = 0; i < adapter->whole_count; i++) free((char *)(uintptr_t)adapter->whole[i].name);
    free(adapter->whole);
    free(adapter->modules);
    weight_files_close(&adapter->connector);
    safetensors_close(&adapter->file);
    free(adapter->folder);
    free(adapter);
    *out = NULL;
}

/* ---- what is in it ---- */

const char *adapter_folder(const Adapter *adapter) {
    return adapter->folder;
}

const AdapterConfig *adapter_config(const Adapter *adapter) {
    return &adapter->config;
}

int adapter_count(const Adapter *adapter) {
    return adapter->count;
}

const AdapterModule *adapter_at(const Adapter *adapter, int index) {
    return &adapter->modules[index];
}

const AdapterModule *adapter_find(const Adapter *adapter, const char *module) {
    AdapterModule key = {0};
    if (strlen(module) >= PARAM_NAME) return NULL;
    strcpy(key.name, module);
    return bsearch(&key, adapter->modules, (size_t)adapter->count, sizeof *adapter->modules,
                   by_module_name);
}

int adapter_whole_count(const Adapter *adapter) {
    return adapter->whole_count;
}

const SafeTensor *adapter_whole_at(const Adapter *adapter, int index) {
    return &adapter->whole[index];
}

const SafeTensor *adapter_whole(const Adapter *adapter, const char *name) {
    SafeTensor key = {.name = name};
    return bsearch(&key, adapter->whole, (size_t)adapter->whole_count, sizeof *adapter->whole,
                   by_name);
}

void adapter_hash(HashStream *stream, const Adapter *adapter) {
    for (int i = 0; i < adapter->count; i++) {
        const AdapterModule *m = &adapter->modules[i];
        safetensors_hash(stream, m->a);
        safetensors_hash(stream, m->b);
        hash_add(stream, &m->scale, sizeof m->scale);
    }
    for (int i = 0; i < adapter->whole_count; i++) safetensors_hash(stream, &adapter->whole[i]);
}
