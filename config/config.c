/* Defaults, checks across keys, and writing. */
#include "config/config.h"

#include <math.h>
#include <string.h>

#include "config/check.h"
#include "config/keys.h"
#include "core/log.h"

void config_defaults(Config *config) {
    memset(config, 0,
           sizeof *config); /* hashed and compared as bytes in places: no stray padding */
    strcpy(config->output_dir, "runs/cadvlm");
    config->curriculum.start = 0.2;
    config->curriculum.full_at = 0.3;
    config->use_lora = true;
    config->lora = (LoraConfig){.r = 128, .alpha = 256, .dropout = 0.05};
    config->tune.llm = TUNE_LORA;
    config->tune.vision = TUNE_FROZEN;
    config->tune.connector = TUNE_FULL;
    config->training = (TrainingConfig){
        .num_epochs = 1,
        .per_device_batch_size = 2,
        .gradient_accumulation_steps = 1,
        .learning_rate = 1e-4,
        .warmup_ratio = 0.03,
        .max_grad_norm = 1,
        .adam_beta1 = 0.9,
        .adam_beta2 = 0.999,
        .adam_epsilon = 1e-8,
        .max_length = 2048,
        .save_steps = 500,
        .save_total_limit = 3,
        .eval_steps = 500,
        .early_stopping_patience = 3,
    };
    config->model.vision = (VisionConfig){
        .image_size = 384,
        .channels = 3,
        .patch_size = 14,
        .layers = 27,
        .width = 1152,
        .heads = 16,
        .mlp = 4304,
        .norm_eps = 1e-6,
        .mean = {1, {0.5}},
        .std = {1, {0.5}},
        .drop_first_patch = true,
        .patch_bias = true,
    };
    config->model.connector.activation = ACTIVATION_GELU;
    config->model.llm = (LlmConfig){
        .layers = 20,
        .width = 1536,
        .head_dim = 64,
        .q_heads = {1, {12}},
        .kv_heads = {1, {3}},
        .ffn = {1, {768}},
        .qk_norm = true,
        .gated = true,
        .activation = ACTIVATION_SILU,
        .tied_head = true,
        .partial_rotary_factor = 1,
        .rope_theta = 10000,
        .norm_eps = 1e-6,
    };
    config->dataloader_num_workers = 2;
    config->ddp_timeout = 1800;
    config->seed = 42;
}

bool config_stated(const Config *config, const char *path) {
    const Key *key = key_find(path);
    return key && config->stated[key_number(key)];
}

/* ---- checks ---- */

#define WRONG(...)                                                                                 \
    do {                                                                                           \
        log_error(__VA_ARGS__);                                                                    \
        mistakes++;                                                                                \
    } while (0)

static bool any_stated(const Config *config, const char *prefix) {
    for (int i = 0; i < config_key_count; i++)
        if (config->stated[i] && !strncmp(config_keys[i].path, prefix, strlen(prefix))) return true;
    return false;
}

static int check_list(const char *name, const IntList *list, int64_t layers) {
    if (list->count == 1 || list->count == layers) return 0;
    log_error("%s: %d numbers for %lld layers; give one for all, or one for each", name,
              list->count, (long long)layers);
    return 1;
}

static int check_model(const Config *config) {
    const VisionConfig *v = &config->model.vision;
    const LlmConfig *l = &config->model.llm;
    int mistakes = 0;
    if (v->patch_size > v->image_size)
        WRONG("model.vision: patch_size %lld is larger than image_size %lld",
              (long long)v->patch_size, (long long)v->image_size);
    if (v->channels == 2) WRONG("model.vision.channels: 2; 1 (gray) or 3 (colour) is possible");
    if (v->width % v->heads)
        WRONG("model.vision: width %lld is no multiple of heads %lld", (long long)v->width,
              (long long)v->heads);
    if (v->mean.count != 1 && v->mean.count != v->channels)
        WRONG("model.vision.mean: %d numbers for %lld channels", v->mean.count,
              (long long)v->channels);
    if (v->std.count != 1 && v->std.count != v->channels)
        WRONG("model.vision.std: %d numbers for %lld channels", v->std.count,
              (long long)v->channels);
    double rotary = (double)l->head_dim * l->partial_rotary_factor;
    if (rotary != floor(rotary) || fmod(rotary, 2) != 0)
        WRONG("model.llm: partial_rotary_factor %g of head_dim %lld is %g channels; an even number "
              "is needed",
              l->partial_rotary_factor, (long long)l->head_dim, rotary);
    if (l->head_dim % 2)
        WRONG("model.llm.head_dim: %lld; rotary positions need an even number",
              (long long)l->head_dim);
    if (l->qk_norm && l->names == NAMES_PHI)
        WRONG("model.llm: qk_norm with the names phi, whose files have another norm there; set "
              "qk_norm: false");
    mistakes += check_list("model.llm.q_heads", &l->q_heads, l->layers);
    mistakes += check_list("model.llm.kv_heads", &l->kv_heads, l->layers);
    mistakes += check_list("model.llm.ffn", &l->ffn, l->layers);
    for (int64_t i = 0; !mistakes && i < l->layers; i++) {
        int64_t q = l->q_heads.values[l->q_heads.count == 1 ? 0 : i],
                kv = l->kv_heads.values[l->kv_heads.count == 1 ? 0 : i];
        if (q % kv)
            WRONG("model.llm: layer %lld has %lld query heads for %lld key heads; a multiple is "
                  "needed",
                  (long long)i, (long long)q, (long long)kv);
    }
    return mistakes;
}

int config_check(Config *config) {
    int mistakes = 0;
    config->model.from_scratch = any_stated(config, "model.vision.") ||
                                 any_stated(config, "model.connector.") ||
                                 any_stated(config, "model.llm.");
    if (config->model.from_scratch && config->base_model[0])
        WRONG("both base_model and model: are given; a run starts from one of them");
    if (config->model.from_scratch) mistakes += check_model(config);
    if (config->train_data[0] && config->dataset_count)
        WRONG("both train_data and datasets are given; one of them is enough");
    if (!config->use_lora) {
        if (config->tune.llm == TUNE_LORA) config->tune.llm = TUNE_FULL;
        if (config->tune.vision == TUNE_LORA) config->tune.vision = TUNE_FULL;
    }
    if (config->tune.connector == TUNE_LORA) WRONG("tune.connector: lora; it is full or frozen");
    if (config->tune.llm == TUNE_FROZEN && config->tune.vision == TUNE_FROZEN &&
        config->tune.connector == TUNE_FROZEN)
        WRONG("tune: everything is frozen, so there is nothing to train");
    const TrainingConfig *t = &config->training;
    if (t->learning_rate == 0 &&
        (t->llm_learning_rate || t->vision_learning_rate || t->connector_learning_rate))
        WRONG(
            "training.learning_rate: 0 beside the rate of a part; rates of parts are shares of it");
    for (int i = 0; i < config->dataset_count; i++)
        for (int j = 0; j < i; j++)
            if (!strcmp(config->datasets[i].name, config->datasets[j].name))
                WRONG("datasets: two are named %s", config->datasets[i].name);
    return mistakes;
}

/* ---- writing ---- */

/* The first words of two paths that are the same sections. */
static int common_sections(const char *a, const char *b) {
    int sections = 0;
    for (int i = 0; a[i] && a[i] == b[i]; i++)
        if (a[i] == '.') sections++;
    return sections;
}

static int sections_of(const char *path) {
    int sections = 0;
    for (; *path; path++) sections += *path == '.';
    return sections;
}

static const char *section_start(const char *path, int section) {
    while (section) section -= *path++ == '.';
    return path;
}

static void print_key(Buf *out, const Key *key, const char *last, const Config *config) {
    int depth = sections_of(key->path);
    for (int s = common_sections(last, key->path); s < depth; s++) {
        const char *name = section_start(key->path, s);
        buf_format(out, "%*s%.*s:\n", 2 * s, "", (int)strcspn(name, "."), name);
    }
    buf_format(out, "%*s%s: ", 2 * depth, "", section_start(key->path, depth));
    key_print(out, key, config);
    if (key->help[0]) buf_format(out, "  # %s", key->help);
    buf_text(out, "\n");
}

static void print_datasets(Buf *out, const Config *config) {
    if (config->dataset_count) buf_text(out, "datasets:\n");
    for (int d = 0; d < config->dataset_count; d++) {
        buf_text(out, "  - {");
        for (int i = 0; i < dataset_key_count; i++) {
            buf_format(out, "%s %s: ", i ? "," : "", dataset_keys[i].path);
            key_print(out, &dataset_keys[i], &config->datasets[d]);
        }
        buf_text(out, " }\n");
    }
}

void config_print(Buf *out, const Config *config) {
    const char *last = "";
    for (int i = 0; i < config_key_count; i++) {
        /* A base model brings its own sizes. */
        const char *path = config_keys[i].path;
        bool sizes = !strncmp(path, "model.vision.", 13) || !strncmp(path, "model.llm.", 10) ||
                     !strncmp(path, "model.connector.", 16);
        if (sizes && !config->model.from_scratch) continue;
        print_key(out, &config_keys[i], last, config);
        last = config_keys[i].path;
    }
    print_datasets(out, config);
}

void config_copy_key(Config *to, const Config *from, const char *path) {
    key_copy(key_find(path), to, from);
}

void config_print_key(Buf *out, const Config *config, const char *path) {
    buf_format(out, "%s: ", path);
    key_print(out, key_find(path), config);
}

bool config_same_key(const Config *a, const Config *b, const char *path) {
    Buf texts[2] = {{0}, {0}};
    config_print_key(&texts[0], a, path);
    config_print_key(&texts[1], b, path);
    bool same = !strcmp(buf_cstr(&texts[0]), buf_cstr(&texts[1]));
    for (int i = 0; i < 2; i++) buf_free(&texts[i]);
    return same;
}
