/* The one struct Config: everything a run is given, with names as users write them in YAML
 * (docs/configuration.md).
 *
 * config_load reads a file or the name of a preset, applies `key=value` overrides, and checks
 * types, ranges, unknown keys and what is given twice; mistakes are reported together (the first
 * fifty), each with its line.
 * config_print writes the resolved config, which loads unchanged. */
#ifndef CADVLM_CONFIG_CONFIG_H
#define CADVLM_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/choices.h"
#include "core/buf.h"
#include "core/err.h"

enum {
    CONFIG_TEXT = 1024,
    CONFIG_LIST = 128,
    CONFIG_DATASETS = 64,
    CONFIG_FILE_MAX = 64 << 10 /* bytes of a file: it may come with a downloaded model */
};

typedef enum Tune { TUNE_FROZEN, TUNE_LORA, TUNE_FULL } Tune;
typedef enum Device { DEVICE_AUTO, DEVICE_CPU, DEVICE_CUDA } Device;
typedef enum Precision { PRECISION_AUTO, PRECISION_BF16, PRECISION_FP16, PRECISION_F32 } Precision;
typedef enum Schedule { SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_CONSTANT } Schedule;
typedef enum ImageAspect { ASPECT_SQUARE, ASPECT_PAD } ImageAspect;
/* How a picture of another size is brought to the model's: not at all (an error), squashed
 * (SigLIP), or its shorter side scaled and the middle cut out (CLIP). */
typedef enum ImageFit { FIT_EXACT, FIT_SQUASH, FIT_CROP } ImageFit;
/* Root mean square; the same with 1 + weight (Gemma); mean and variance, with a bias (Phi). */
typedef enum NormKind { NORM_RMS, NORM_RMS_PLUS_ONE, NORM_LAYER } NormKind;
/* How the language model's parameters are called and joined in files: OpenELM has q, k and v in one
 * matrix, gate and up in another; Llama (and Gemma) and Phi have each apart. */
typedef enum LlmNames { NAMES_OPENELM, NAMES_LLAMA, NAMES_PHI } LlmNames;
/* How prompt and answer become tokens; llama, gemma and phi are TinyLLaVA's conversations. */
typedef enum TemplateName {
    TEMPLATE_NAME_PLAIN,
    TEMPLATE_NAME_LLAMA,
    TEMPLATE_NAME_GEMMA,
    TEMPLATE_NAME_PHI
} TemplateName;
/* Which activations backward computes again: none, those that cost no matrix product, all inside a
 * layer. */
typedef enum Checkpointing { CHECKPOINT_NONE, CHECKPOINT_CHEAP, CHECKPOINT_LAYERS } Checkpointing;
typedef enum CurriculumBy { CURRICULUM_NONE, CURRICULUM_COMPLEXITY } CurriculumBy;

/* A number for all layers (count 1), or one for each. */
typedef struct IntList {
    int count;
    int64_t values[CONFIG_LIST];
} IntList;

typedef struct RealList {
    int count;
    double values[CONFIG_LIST];
} RealList;

typedef struct DatasetConfig {
    char name[64];
    char path[CONFIG_TEXT];
    double weight;
    int64_t limit;     /* samples; 0: all */
    double max_epochs; /* 0: no limit */
} DatasetConfig;

typedef struct VisionConfig {
    int64_t image_size, channels, patch_size, layers, width, heads, mlp;
    Activation activation;
    double norm_eps;
    RealList mean, std;    /* of pixels in 0 … 1, one for all channels or one for each */
    bool drop_first_patch; /* the first row of the tower's end: CLIP's class token; of SigLIP, which
                              has none, a patch, as in TinyLLaVA */
    bool class_token, pre_norm, patch_bias; /* CLIP: yes, yes, no */
    ImageFit fit;
} VisionConfig;

typedef struct ConnectorConfig {
    bool norm; /* a LayerNorm before the two linears */
    Activation activation;
} ConnectorConfig;

typedef struct LlmConfig {
    int64_t layers, width, head_dim, vocab; /* vocab 0: the tokenizer's */
    IntList q_heads, kv_heads, ffn;
    LlmNames names;
    NormKind norm;
    bool qk_norm, bias; /* bias: of every linear, the head's too */
    bool gated;         /* act(gate) · up; else a plain MLP */
    Activation activation;
    bool parallel;                /* h += attn(norm h) + mlp(norm h), one norm */
    bool tied_head;               /* the head is the embedding */
    bool scale_embedding;         /* rows enter times √width, those of pictures too (Gemma) */
    double partial_rotary_factor; /* of a head's channels, from the first on, that turn */
    double residual_dropout;      /* on what attention and MLP add to the stream, in training */
    double rope_theta, norm_eps;
} LlmConfig;

/* "name: value" pairs; a name is the end of a module's name, as in PEFT's rank_pattern. */
enum { PATTERNS_MAX = 32, PATTERN_NAME = 96 };
typedef struct PatternList {
    int count;
    struct {
        char name[PATTERN_NAME];
        double value;
    } items[PATTERNS_MAX];
} PatternList;

typedef struct LoraConfig {
    int64_t r;
    double alpha, dropout;
    bool use_rslora;                  /* alpha / √r in the place of alpha / r */
    char target_modules[CONFIG_TEXT]; /* ends of names, with commas between; empty: all linears of
                                         tower and language model, never the head */
    PatternList rank_pattern, alpha_pattern;
} LoraConfig;

typedef struct TrainingConfig {
    double num_epochs;
    int64_t max_steps; /* 0: by epochs */
    int64_t per_device_batch_size, gradient_accumulation_steps, micro_batches;
    double learning_rate, min_lr_ratio, warmup_ratio;
    double llm_learning_rate, vision_learning_rate, connector_learning_rate; /* 0: learning_rate */
    int64_t warmup_steps; /* overrides warmup_ratio when > 0 */
    Schedule lr_scheduler_type;
    double max_grad_norm, weight_decay, adam_beta1, adam_beta2, adam_epsilon;
    int64_t max_length;
    Overlong overlong;
    int64_t save_steps, save_total_limit, eval_steps, eval_samples, early_stopping_patience;
    bool load_best_model_at_end;
    int64_t image_shift;       /* augmentation: pixels */
    int64_t image_shift_steps; /* over which it grows to that */
} TrainingConfig;

typedef struct Config {
    char base_model[CONFIG_TEXT];
    char adapter[CONFIG_TEXT];
    char train_data[CONFIG_TEXT], val_data[CONFIG_TEXT], image_folder[CONFIG_TEXT];
    char exclude[CONFIG_TEXT]; /* samples to leave out: a file, or ids with commas between */
    char tokenizer[CONFIG_TEXT];
    char output_dir[CONFIG_TEXT];
    char deepspeed_config[CONFIG_TEXT];
    DatasetConfig datasets[CONFIG_DATASETS];
    int dataset_count;
    int64_t samples_per_epoch, limit;
    struct {
        CurriculumBy by;
        double start, full_at;
    } curriculum;

    bool use_lora;
    LoraConfig lora;
    struct {
        Tune llm, vision, connector;
    } tune;
    TrainingConfig training;

    struct {
        bool from_scratch; /* a model is described here */
        VisionConfig vision;
        ConnectorConfig connector;
        LlmConfig llm;
        TemplateName template;
        char system_prompt[CONFIG_TEXT]; /* of the conversation; empty: OpenECADv2's */
    } model;
    ImageAspect image_aspect;

    Device device;
    Precision precision;
    bool deterministic; /* gradients are summed to the same bits on any number of ranks, on GPUs too
                         */
    Checkpointing gradient_checkpointing;
    int64_t threads; /* of the CPU backend in each rank; 0: the processors of this machine / its
                        ranks */
    int64_t dataloader_num_workers;
    double ddp_timeout; /* seconds that ranks wait for each other */
    int64_t seed;
    int stated[256]; /* which keys the user gave (by the number of the key), for defaults that
                        depend on others */
} Config;

void config_defaults(Config *config);

/* Reads `path` (a file, or the name of a preset) and then the overrides
 * ("training.learning_rate=5e-5"). Mistakes are logged one by one; the error counts them. */
Err config_load(Config *config, const char *path, const char *const *overrides, int override_count);

/* The same from memory; `name` stands for the file in messages. */
Err config_parse(Config *config, const char *text, size_t size, const char *name,
                 const char *const *overrides, int override_count);

/* Whether the user gave this key ("training.micro_batches"). */
bool config_stated(const Config *config, const char *key);

/* Appends the whole config as YAML, with a comment for each key. */
void config_print(Buf *out, const Config *config);

/* One key of a config: its value in `from`, into `to`; whether two have the same; appended as
 * "key: value". */
void config_copy_key(Config *to, const Config *from, const char *key);
bool config_same_key(const Config *a, const Config *b, const char *key);
void config_print_key(Buf *out, const Config *config, const char *key);

/* Where the presets lie: CADVLM_PRESETS, or beside the program, or in the source tree. */
Err config_preset_path(char *out, size_t size, const char *name);

#endif
