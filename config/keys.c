/* The table of keys, and how a value gets in and out of its field. */
#include "config/keys.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/text.h"

static const char *const TUNES[] = {
    [TUNE_FROZEN] = "frozen", [TUNE_LORA] = "lora", [TUNE_FULL] = "full", NULL};
static const char *const DEVICES[] = {
    [DEVICE_AUTO] = "auto", [DEVICE_CPU] = "cpu", [DEVICE_CUDA] = "cuda", NULL};
static const char *const PRECISIONS[] = {[PRECISION_AUTO] = "auto",
                                         [PRECISION_BF16] = "bf16",
                                         [PRECISION_FP16] = "fp16",
                                         [PRECISION_F32] = "f32",
                                         NULL};
static const char *const SCHEDULES[] = {[SCHEDULE_COSINE] = "cosine",
                                        [SCHEDULE_LINEAR] = "linear",
                                        [SCHEDULE_CONSTANT] = "constant",
                                        NULL};
static const char *const OVERLONGS[] = {
    [OVERLONG_DROP] = "drop", [OVERLONG_TRUNCATE] = "truncate", [OVERLONG_ERROR] = "error", NULL};
static const char *const ACTIVATIONS[] = {[ACTIVATION_GELU_TANH] = "gelu_pytorch_tanh",
                                          [ACTIVATION_GELU] = "gelu",
                                          [ACTIVATION_QUICK_GELU] = "quick_gelu",
                                          [ACTIVATION_SILU] = "silu",
                                          NULL};
static const char *const ASPECTS[] = {[ASPECT_SQUARE] = "square", [ASPECT_PAD] = "pad", NULL};
static const char *const FITS[] = {
    [FIT_EXACT] = "exact", [FIT_SQUASH] = "squash", [FIT_CROP] = "crop", NULL};
static const char *const NORMS[] = {
    [NORM_RMS] = "rms", [NORM_RMS_PLUS_ONE] = "rms_plus_one", [NORM_LAYER] = "layer", NULL};
static const char *const LLM_NAMES[] = {
    [NAMES_OPENELM] = "openelm", [NAMES_LLAMA] = "llama", [NAMES_PHI] = "phi", NULL};
static const char *const TEMPLATES[] = {[TEMPLATE_NAME_PLAIN] = "plain",
                                        [TEMPLATE_NAME_LLAMA] = "llama",
                                        [TEMPLATE_NAME_GEMMA] = "gemma",
                                        [TEMPLATE_NAME_PHI] = "phi",
                                        NULL};
static const char *const CHECKPOINTINGS[] = {
    [CHECKPOINT_NONE] = "none", [CHECKPOINT_CHEAP] = "cheap", [CHECKPOINT_LAYERS] = "layers", NULL};
static const char *const CURRICULA[] = {
    [CURRICULUM_NONE] = "none", [CURRICULUM_COMPLEXITY] = "complexity", NULL};

#define FIELD(member) offsetof(Config, member)
#define TEXT(path, member, help, d)                                                                \
    { path, KEY_TEXT, FIELD(member), sizeof(((Config *)0)->member), 0, 0, NULL, help, RESUME_##d }
#define LINES(path, member, help, d)                                                               \
    { path, KEY_LINES, FIELD(member), sizeof(((Config *)0)->member), 0, 0, NULL, help, RESUME_##d }
#define NAMES(path, member, help, d)                                                               \
    { path, KEY_NAMES, FIELD(member), sizeof(((Config *)0)->member), 0, 0, NULL, help, RESUME_##d }
#define INT(path, member, lo, hi, help, d)                                                         \
    { path, KEY_INT, FIELD(member), 0, lo, hi, NULL, help, RESUME_##d }
#define REAL(path, member, lo, hi, help, d)                                                        \
    { path, KEY_REAL, FIELD(member), 0, lo, hi, NULL, help, RESUME_##d }
#define BOOL(path, member, help, d)                                                                \
    { path, KEY_BOOL, FIELD(member), 0, 0, 0, NULL, help, RESUME_##d }
#define CHOICE(path, member, names, help, d)                                                       \
    { path, KEY_CHOICE, FIELD(member), 0, 0, 0, names, help, RESUME_##d }
#define INTS(path, member, lo, hi, help, d)                                                        \
    { path, KEY_INTS, FIELD(member), 0, lo, hi, NULL, help, RESUME_##d }
#define RANKS(path, member, lo, hi, help, d)                                                       \
    { path, KEY_RANKS, FIELD(member), 0, lo, hi, NULL, help, RESUME_##d }
#define PATTERNS(path, member, lo, hi, help, d)                                                    \
    { path, KEY_PATTERNS, FIELD(member), 0, lo, hi, NULL, help, RESUME_##d }
#define REALS(path, member, lo, hi, help, d)                                                       \
    { path, KEY_REALS, FIELD(member), 0, lo, hi, NULL, help, RESUME_##d }

/* clang-format off */
const Key config_keys[] = {
    TEXT("base_model", base_model, "a cadvlm checkpoint, a model folder, or a hub id; empty: from scratch (model:)", TRAINER),
    TEXT("adapter", adapter, "a PEFT adapter to go on training, instead of a new one", TRAINER),
    TEXT("train_data", train_data, "shard folder to train on (or list datasets)", SAID),
    TEXT("val_data", val_data, "shard folder to validate on; empty: the val split of the training data", SAID),
    NAMES("exclude", exclude, "samples to leave out: a file with an id on each line, or a list of ids", SAID),
    TEXT("image_folder", image_folder, "pictures of a TinyLLaVA JSON", SAID),
    TEXT("tokenizer", tokenizer, "tokenizer.json; empty: the base model's", TRAINER),
    TEXT("output_dir", output_dir, "the run folder", FREELY),
    TEXT("deepspeed_config", deepspeed_config, "read for what it says of ZeRO, clipping and fp16", FREELY),
    INT("samples_per_epoch", samples_per_epoch, 0, 1e12, "0: all samples of all datasets", SAID),
    INT("limit", limit, 0, 1e12, "use only so many training samples; 0: all", SAID),
    CHOICE("curriculum.by", curriculum.by, CURRICULA, "simple parts first", SAID),
    REAL("curriculum.start", curriculum.start, 0, 1, "share of the samples, simplest first, at the start", SAID),
    REAL("curriculum.full_at", curriculum.full_at, 0, 1, "share of the steps after which all take part", SAID),
    BOOL("use_lora", use_lora, "false: tune.* lora means full", SAID),
    INT("lora.r", lora.r, 1, 4096, "rank", ADAPTERS),
    REAL("lora.alpha", lora.alpha, 0, 1e6, "updates are scaled by alpha / r", ADAPTERS),
    REAL("lora.dropout", lora.dropout, 0, 0.95, "on the adapter's input", SAID),
    BOOL("lora.use_rslora", lora.use_rslora, "scale by alpha / sqrt(r)", ADAPTERS),
    NAMES("lora.target_modules", lora.target_modules, "a list of ends of names; empty: every linear of tower and language model", ADAPTERS),
    RANKS("lora.rank_pattern", lora.rank_pattern, 1, 4096, "{ end of a module's name: rank }", ADAPTERS),
    PATTERNS("lora.alpha_pattern", lora.alpha_pattern, 0, 1e6, "likewise alpha", ADAPTERS),
    CHOICE("tune.llm", tune.llm, TUNES, "how the language model is trained", MODEL),
    CHOICE("tune.vision", tune.vision, TUNES, "how the vision tower is trained", MODEL),
    CHOICE("tune.connector", tune.connector, TUNES, "how the connector is trained", MODEL),
    REAL("training.num_epochs", training.num_epochs, 0, 1e6, "passes over samples_per_epoch", SAID),
    INT("training.max_steps", training.max_steps, 0, 1e12, "steps; 0: by num_epochs", SAID),
    INT("training.per_device_batch_size", training.per_device_batch_size, 1, 65536, "samples of a micro-batch", SAID),
    INT("training.gradient_accumulation_steps", training.gradient_accumulation_steps, 1, 65536, "micro-batches a rank and step", TRAINER),
    INT("training.micro_batches", training.micro_batches, 0, 1 << 20, "micro-batches a step over all ranks; 0: accumulation × ranks", SAID),
    REAL("training.learning_rate", training.learning_rate, 0, 100, "peak", SAID),
    REAL("training.llm_learning_rate", training.llm_learning_rate, 0, 100, "peak for the language model; 0: learning_rate", SAID),
    REAL("training.vision_learning_rate", training.vision_learning_rate, 0, 100, "likewise the vision tower", SAID),
    REAL("training.connector_learning_rate", training.connector_learning_rate, 0, 100, "likewise the connector", SAID),
    REAL("training.min_lr_ratio", training.min_lr_ratio, 0, 1, "share of the peak at the end of a decay", SAID),
    REAL("training.warmup_ratio", training.warmup_ratio, 0, 1, "share of the steps with a rising rate", SAID),
    INT("training.warmup_steps", training.warmup_steps, 0, 1e12, "the same in steps; 0: by ratio", SAID),
    CHOICE("training.lr_scheduler_type", training.lr_scheduler_type, SCHEDULES, "after the warm-up", SAID),
    REAL("training.max_grad_norm", training.max_grad_norm, 0, 1e9, "gradients are clipped to this norm; 0: never", SAID),
    REAL("training.weight_decay", training.weight_decay, 0, 10, "of matrices (not of embeddings, norms, biases)", SAID),
    REAL("training.adam_beta1", training.adam_beta1, 0, 0.999999, "", SAID),
    REAL("training.adam_beta2", training.adam_beta2, 0, 0.999999, "", SAID),
    REAL("training.adam_epsilon", training.adam_epsilon, 1e-30, 1, "", SAID),
    INT("training.max_length", training.max_length, 8, 1 << 20, "rows a sample may have, image rows included", SAID),
    CHOICE("training.overlong", training.overlong, OVERLONGS, "what happens to longer samples; always counted", SAID),
    INT("training.save_steps", training.save_steps, 0, 1e12, "steps between checkpoints; 0: only at the end", FREELY),
    INT("training.save_total_limit", training.save_total_limit, 1, 1e6, "checkpoints kept", FREELY),
    INT("training.eval_steps", training.eval_steps, 0, 1e12, "steps between validations; 0: only at the end", FREELY),
    INT("training.eval_samples", training.eval_samples, 0, 1e12, "samples of a validation; 0: all", SAID),
    INT("training.early_stopping_patience", training.early_stopping_patience, 0, 1e6, "worse validations before stopping; 0: never", SAID),
    BOOL("training.load_best_model_at_end", training.load_best_model_at_end, "a run ends with the weights of its best validation", SAID),
    INT("training.image_shift", training.image_shift, 0, 64, "augmentation: moves drawings by up to ± so many pixels", SAID),
    INT("training.image_shift_steps", training.image_shift_steps, 0, 1e12, "steps over which image_shift grows to its size; 0: full at once", SAID),
    INT("model.vision.image_size", model.vision.image_size, 8, 4096, "pixels a side", MODEL),
    INT("model.vision.channels", model.vision.channels, 1, 3, "1 gray, 3 colour", MODEL),
    INT("model.vision.patch_size", model.vision.patch_size, 1, 512, "pixels a side", MODEL),
    INT("model.vision.layers", model.vision.layers, 1, CONFIG_LIST, "", MODEL),
    INT("model.vision.width", model.vision.width, 1, 65536, "channels", MODEL),
    INT("model.vision.heads", model.vision.heads, 1, 1024, "", MODEL),
    INT("model.vision.mlp", model.vision.mlp, 1, 1 << 18, "hidden channels", MODEL),
    CHOICE("model.vision.activation", model.vision.activation, ACTIVATIONS, "", MODEL),
    REAL("model.vision.norm_eps", model.vision.norm_eps, 0, 1, "", MODEL),
    REALS("model.vision.mean", model.vision.mean, -10, 10, "of pixels in 0 … 1; for all channels, or for each", MODEL),
    REALS("model.vision.std", model.vision.std, 1e-3, 10, "", MODEL),
    BOOL("model.vision.class_token", model.vision.class_token, "CLIP: a learned row before the patches", MODEL),
    BOOL("model.vision.pre_norm", model.vision.pre_norm, "CLIP: a LayerNorm before the first layer", MODEL),
    BOOL("model.vision.patch_bias", model.vision.patch_bias, "the patch embedding has a bias (CLIP: no)", MODEL),
    CHOICE("model.vision.fit", model.vision.fit, FITS, "how a picture of another size becomes image_size: not at all, squashed, cropped", MODEL),
    BOOL("model.connector.norm", model.connector.norm, "a LayerNorm before its two linears", MODEL),
    CHOICE("model.connector.activation", model.connector.activation, ACTIVATIONS, "", MODEL),
    INT("model.llm.layers", model.llm.layers, 1, CONFIG_LIST, "", MODEL),
    INT("model.llm.width", model.llm.width, 1, 65536, "channels", MODEL),
    INT("model.llm.head_dim", model.llm.head_dim, 2, 512, "", MODEL),
    INTS("model.llm.q_heads", model.llm.q_heads, 1, 1024, "query heads, for all layers or for each", MODEL),
    INTS("model.llm.kv_heads", model.llm.kv_heads, 1, 1024, "key heads, likewise", MODEL),
    INTS("model.llm.ffn", model.llm.ffn, 1, 1 << 18, "hidden channels of the MLP, likewise", MODEL),
    INT("model.llm.vocab", model.llm.vocab, 0, 1 << 22, "0: the tokenizer's", MODEL),
    CHOICE("model.llm.names", model.llm.names, LLM_NAMES, "how its parameters are called and joined in files", MODEL),
    CHOICE("model.llm.norm", model.llm.norm, NORMS, "root mean square, the same with 1 + weight, or LayerNorm", MODEL),
    BOOL("model.llm.bias", model.llm.bias, "linears and head have biases", MODEL),
    BOOL("model.llm.gated", model.llm.gated, "the MLP is act(gate) * up, not plain", MODEL),
    CHOICE("model.llm.activation", model.llm.activation, ACTIVATIONS, "of the MLP", MODEL),
    BOOL("model.llm.parallel", model.llm.parallel, "attention and MLP read one norm and are added together", MODEL),
    BOOL("model.llm.tied_head", model.llm.tied_head, "the head is the embedding", MODEL),
    BOOL("model.llm.scale_embedding", model.llm.scale_embedding, "rows enter times sqrt(width), those of pictures too", MODEL),
    REAL("model.llm.partial_rotary_factor", model.llm.partial_rotary_factor, 0, 1, "share of a head's channels that turn with position", MODEL),
    REAL("model.llm.residual_dropout", model.llm.residual_dropout, 0, 0.95, "on what a branch adds, in training", MODEL),
    BOOL("model.llm.qk_norm", model.llm.qk_norm, "RMSNorm of queries and keys", MODEL),
    REAL("model.llm.rope_theta", model.llm.rope_theta, 1, 1e12, "base of the rotary angles", MODEL),
    REAL("model.llm.norm_eps", model.llm.norm_eps, 0, 1, "", MODEL),
    CHOICE("model.template", model.template, TEMPLATES, "how prompt and code become tokens", SAID),
    LINES("model.system_prompt", model.system_prompt, "opens a conversation; empty: OpenECADv2's", SAID),
    BOOL("vision.drop_first_patch", model.vision.drop_first_patch, "the tower's first row does not reach the connector (as in TinyLLaVA)", MODEL),
    CHOICE("image_aspect_ratio", image_aspect, ASPECTS, "how a picture that is not square fits", SAID),
    CHOICE("device", device, DEVICES, "", FREELY),
    CHOICE("precision", precision, PRECISIONS, "of weights and activations; auto: bf16 where it is fast", SAID),
    BOOL("deterministic", deterministic, "on GPUs: the same bits on any number of ranks, as on the CPU always", FREELY),
    CHOICE("gradient_checkpointing", gradient_checkpointing, CHECKPOINTINGS, "what backward computes again: none, cheap (no products), layers (true)", FREELY),
    INT("threads", threads, 0, 1024, "of the CPU backend in each rank; 0: processors / ranks", FREELY),
    REAL("ddp_timeout", ddp_timeout, 1, 1e6, "seconds that ranks wait for each other; then the job ends", FREELY),
    INT("dataloader_num_workers", dataloader_num_workers, 0, 1024, "threads that prepare batches ahead", FREELY),
    INT("seed", seed, 0, 9e15, "of weights, order and augmentation", SAID),
};
const int config_key_count = sizeof config_keys / sizeof config_keys[0];

#define DATASET_FIELD(member) offsetof(DatasetConfig, member)
const Key dataset_keys[] = {
    {"name", KEY_TEXT, DATASET_FIELD(name), sizeof(((DatasetConfig *)0)->name), 0, 0, NULL, "", RESUME_SAID},
    {"path", KEY_TEXT, DATASET_FIELD(path), sizeof(((DatasetConfig *)0)->path), 0, 0, NULL, "", RESUME_SAID},
    {"weight", KEY_REAL, DATASET_FIELD(weight), 0, 1e-9, 1e12, NULL, "", RESUME_SAID},
    {"limit", KEY_INT, DATASET_FIELD(limit), 0, 0, 1e12, NULL, "", RESUME_SAID},
    {"max_epochs", KEY_REAL, DATASET_FIELD(max_epochs), 0, 0, 1e9, NULL, "", RESUME_SAID},
};
const int dataset_key_count = sizeof dataset_keys / sizeof dataset_keys[0];

const char *const key_aliases[][2] = {
    {"num_epochs", "training.num_epochs"},
    {"num_train_epochs", "training.num_epochs"},
    {"epochs", "training.num_epochs"},
    {"max_steps", "training.max_steps"},
    {"per_device_batch_size", "training.per_device_batch_size"},
    {"per_device_train_batch_size", "training.per_device_batch_size"},
    {"batch_size", "training.per_device_batch_size"},
    {"gradient_accumulation_steps", "training.gradient_accumulation_steps"},
    {"micro_batches", "training.micro_batches"},
    {"slots", "training.micro_batches"},
    {"training.slots", "training.micro_batches"},
    {"learning_rate", "training.learning_rate"},
    {"lr_scheduler_type", "training.lr_scheduler_type"},
    {"warmup_ratio", "training.warmup_ratio"},
    {"warmup_steps", "training.warmup_steps"},
    {"max_grad_norm", "training.max_grad_norm"},
    {"weight_decay", "training.weight_decay"},
    {"max_length", "training.max_length"},
    {"model_max_length", "training.max_length"},
    {"overlong", "training.overlong"},
    {"save_steps", "training.save_steps"},
    {"save_total_limit", "training.save_total_limit"},
    {"eval_steps", "training.eval_steps"},
    {"early_stopping_patience", "training.early_stopping_patience"},
    {"lora_r", "lora.r"},
    {"lora_alpha", "lora.alpha"},
    {"lora_dropout", "lora.dropout"},
    {"use_rslora", "lora.use_rslora"},
    {"mm_projector_lr", "training.connector_learning_rate"},
    {"vision_tower_lr", "training.vision_learning_rate"},
    {"tune_type_llm", "tune.llm"},
    {"tune_type_vision_tower", "tune.vision"},
    {"tune_type_connector", "tune.connector"},
    {"model.llm.rotary_share", "model.llm.partial_rotary_factor"},
    {"training.gradient_checkpointing", "gradient_checkpointing"},
    {"training.dataloader_num_workers", "dataloader_num_workers"},
    {NULL, NULL},
};
/* clang-format on */

const Key *key_find(const char *path) {
    for (int i = 0; key_aliases[i][0]; i++)
        if (!strcmp(key_aliases[i][0], path)) path = key_aliases[i][1];
    for (int i = 0; i < config_key_count; i++)
        if (!strcmp(config_keys[i].path, path)) return &config_keys[i];
    return NULL;
}

int key_number(const Key *key) {
    return (int)(key - config_keys);
}

bool key_is_mapping(const Key *key) {
    return key->type == KEY_RANKS || key->type == KEY_PATTERNS;
}

/* ---- setting ---- */

static Err parse_int(const Key *key, const char *text, int64_t *out) {
    char *end;
    errno = 0;
    long long whole = strtoll(text, &end, 10);
    /* 1e4 and 10000.0 are whole numbers too, as users write them. */
    if (*text && *end) {
        double real = strtod(text, &end);
        if (*end == 0 && real == floor(real) && fabs(real) < 9e15)
            whole = (long long)real;
        else
            FAIL(ERR_CONFIG, "%s: \"%s\" is not a whole number", key->path, text);
    }
    REQUIRE(*text && errno == 0, ERR_CONFIG, "%s: \"%s\" is not a whole number", key->path, text);
    REQUIRE((double)whole >= key->low && (double)whole <= key->high, ERR_CONFIG,
            "%s: %lld; %.10g to %.10g is possible", key->path, whole, key->low, key->high);
    *out = whole;
    return OK;
}

static Err parse_real(const Key *key, const char *text, double *out) {
    char *end;
    double real = strtod(text, &end);
    REQUIRE(*text && !*end && isfinite(real), ERR_CONFIG, "%s: \"%s\" is not a number", key->path,
            text);
    REQUIRE(real >= key->low && real <= key->high, ERR_CONFIG, "%s: %g; %g to %g is possible",
            key->path, real, key->low, key->high);
    *out = real;
    return OK;
}

bool key_parse_bool(const char *text, bool *out) {
    static const char *const words[2][3] = {{"false", "no", "off"}, {"true", "yes", "on"}};
    for (int yes = 0; yes < 2; yes++)
        for (int i = 0; i < 3; i++)
            if (!strcasecmp(text, words[yes][i])) {
                *out = yes;
                return true;
            }
    return false;
}

static Err parse_bool(const Key *key, const char *text, bool *out) {
    if (key_parse_bool(text, out)) return OK;
    FAIL(ERR_CONFIG, "%s: \"%s\"; true or false is expected", key->path, text);
}

static Err parse_choice(const Key *key, const char *text, int *out) {
    Buf names = {0};
    int count = 0;
    bool flag; /* users write it as yes or no too */
    if (key->choices == CHECKPOINTINGS && key_parse_bool(text, &flag))
        text = flag ? "layers" : "none";
    for (; key->choices[count]; count++) {
        if (!strcmp(key->choices[count], text)) {
            *out = count;
            buf_free(&names);
            return OK;
        }
        buf_format(&names, "%s%s", count ? ", " : "", key->choices[count]);
    }
    Err err = err_raise(ERR_CONFIG, __FILE__, __LINE__, "%s: \"%s\"; one of %s is expected",
                        key->path, text, buf_cstr(&names));
    buf_free(&names);
    return err;
}

/* A text stands in checkpoints and logs: UTF-8 without control characters, so that what is written
 * can be read again. */
static Err check_text(const Key *key, const char *text) {
    size_t length;
    for (size_t at = 0, size = strlen(text); at < size; at += length) {
        TextKind kind = text_kind(text + at, size - at, &length);
        bool space = key->type == KEY_LINES && (text[at] == '\n' || text[at] == '\t');
        REQUIRE(kind != TEXT_BROKEN, ERR_CONFIG,
                "%s: \"%s\" is not UTF-8, in which configs are kept: give it another name, or a "
                "link to it",
                key->path, text);
        REQUIRE(kind != TEXT_CONTROL || space, ERR_CONFIG,
                "%s: \"%s\" has a control character at byte %zu", key->path, text, at + 1);
    }
    return OK;
}

/* Items are name, value, name, value, … (of a mapping), or "name=value" each (of an override). */
static Err parse_patterns(const Key *key, const char *const *items, int count, PatternList *out) {
    PatternList list = {0};
    for (int i = 0; i < count; i++) {
        const char *name = items[i], *equals = strchr(name, '='), *value = NULL;
        size_t length = equals ? (size_t)(equals - name) : strlen(name);
        value = equals ? equals + 1 : ++i < count ? items[i] : NULL;
        REQUIRE(value && length && length < PATTERN_NAME, ERR_CONFIG,
                "%s: { name: value } is expected, names of at most %d characters", key->path,
                PATTERN_NAME - 1);
        REQUIRE(list.count < PATTERNS_MAX, ERR_CONFIG, "%s: more than %d names", key->path,
                PATTERNS_MAX);
        memcpy(list.items[list.count].name, name, length);
        TRY(check_text(key, list.items[list.count].name));
        int64_t whole = 0;
        double *to = &list.items[list.count++].value;
        TRY(key->type == KEY_RANKS ? parse_int(key, value, &whole) : parse_real(key, value, to));
        if (key->type == KEY_RANKS) *to = (double)whole;
    }
    *out = list;
    return OK;
}

static Err parse_names(const Key *key, const char *const *items, int count, char *out) {
    Buf text = {0};
    Err err = OK;
    for (int i = 0; i < count; i++) buf_format(&text, "%s%s", i ? "," : "", items[i]);
    if (text.size >= key->size)
        err = err_raise(ERR_CONFIG, __FILE__, __LINE__, "%s: longer than %zu characters", key->path,
                        key->size - 1);
    if (err == OK) err = check_text(key, buf_cstr(&text));
    if (err == OK) memcpy(memset(out, 0, key->size), buf_cstr(&text), text.size);
    buf_free(&text);
    return err;
}

Err key_set(const Key *key, void *base, const char *const *items, int count, bool is_list) {
    char *field = (char *)base + key->offset;
    if (key->type == KEY_INTS || key->type == KEY_REALS) {
        REQUIRE(count >= 1 && count <= CONFIG_LIST, ERR_CONFIG,
                "%s: %d numbers; 1 to %d are possible", key->path, count, CONFIG_LIST);
        IntList ints = {.count = count};
        RealList reals = {.count = count};
        for (int i = 0; i < count; i++) {
            if (key->type == KEY_INTS)
                TRY(parse_int(key, items[i], &ints.values[i]));
            else
                TRY(parse_real(key, items[i], &reals.values[i]));
        }
        if (key->type == KEY_INTS)
            *(IntList *)(void *)field = ints;
        else
            *(RealList *)(void *)field = reals;
        return OK;
    }
    if (key_is_mapping(key)) return parse_patterns(key, items, count, (PatternList *)(void *)field);
    if (key->type == KEY_NAMES) return parse_names(key, items, count, field);
    REQUIRE(!is_list, ERR_CONFIG, "%s: a list where one value is expected", key->path);
    const char *text = items[0];
    switch (key->type) {
    case KEY_TEXT:
    case KEY_LINES: return parse_names(key, items, 1, field);
    case KEY_INT: return parse_int(key, text, (int64_t *)(void *)field);
    case KEY_REAL: return parse_real(key, text, (double *)(void *)field);
    case KEY_BOOL: return parse_bool(key, text, (bool *)field);
    default: return parse_choice(key, text, (int *)(void *)field);
    }
}

static size_t key_bytes(const Key *key) {
    switch (key->type) {
    case KEY_TEXT:
    case KEY_LINES:
    case KEY_NAMES: return key->size;
    case KEY_INT: return sizeof(int64_t);
    case KEY_REAL: return sizeof(double);
    case KEY_BOOL: return sizeof(bool);
    case KEY_CHOICE: return sizeof(int);
    case KEY_INTS: return sizeof(IntList);
    case KEY_REALS: return sizeof(RealList);
    case KEY_RANKS:
    case KEY_PATTERNS: return sizeof(PatternList);
    }
    return 0;
}

void key_copy(const Key *key, void *to, const void *from) {
    memcpy((char *)to + key->offset, (const char *)from + key->offset, key_bytes(key));
}

/* ---- printing ---- */

/* The two that YAML does not take as they are. */
static bool is_unwritable(const char *text, size_t length) {
    uint32_t code = utf8_code(text, length);
    return code == 0xFFFE || code == 0xFFFF;
}

/* In double quotes, where YAML writes characters out as we do (text_escape). */
static void print_text(Buf *out, const char *text) {
    size_t length;
    buf_text(out, "\"");
    for (size_t left = strlen(text); left; text += length, left -= length) {
        TextKind kind = text_kind(text, left, &length);
        if (*text == '"' || *text == '\\')
            buf_format(out, "\\%c", *text);
        else if (kind != TEXT_PLAIN || is_unwritable(text, length))
            text_escape_one(out, text, length, kind);
        else
            buf_append(out, text, length);
    }
    buf_text(out, "\"");
}

/* The shortest of the usual precisions that reads back to the same number. */
static void print_real(Buf *out, double x) {
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    buf_text(out, text);
}

void key_print(Buf *out, const Key *key, const void *base) {
    const char *field = (const char *)base + key->offset;
    const IntList *ints = (const IntList *)(const void *)field;
    const RealList *reals = (const RealList *)(const void *)field;
    const PatternList *patterns = (const PatternList *)(const void *)field;
    switch (key->type) {
    case KEY_TEXT:
    case KEY_LINES:
    case KEY_NAMES: print_text(out, field); return;
    case KEY_INT: buf_format(out, "%lld", (long long)*(const int64_t *)(const void *)field); return;
    case KEY_REAL: print_real(out, *(const double *)(const void *)field); return;
    case KEY_BOOL: buf_text(out, *(const bool *)field ? "true" : "false"); return;
    case KEY_RANKS:
    case KEY_PATTERNS:
        buf_text(out, "{");
        for (int i = 0; i < patterns->count; i++) {
            buf_text(out, i ? ", " : " ");
            print_text(out, patterns->items[i].name);
            buf_text(out, ": ");
            print_real(out, patterns->items[i].value);
        }
        buf_text(out, patterns->count ? " }" : "}");
        return;
    case KEY_CHOICE: buf_text(out, key->choices[*(const int *)(const void *)field]); return;
    case KEY_INTS:
        buf_text(out, "[");
        for (int i = 0; i < ints->count; i++)
            buf_format(out, "%s%lld", i ? ", " : "", (long long)ints->values[i]);
        buf_text(out, "]");
        return;
    case KEY_REALS:
        buf_text(out, "[");
        for (int i = 0; i < reals->count; i++) {
            buf_text(out, i ? ", " : "");
            print_real(out, reals->values[i]);
        }
        buf_text(out, "]");
        return;
    }
}
