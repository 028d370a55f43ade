/* A vision-language model of the TinyLLaVA kind: a picture's patches through a vision tower, a
 * connector of two linears, and a decoder that reads the result between its token embeddings.
 * Forward and backward are written out by hand; sizes come from the config, so that a demo of a
 * million parameters and OpenECAD run the same code. */
#ifndef CADVLM_MODEL_MODEL_H
#define CADVLM_MODEL_MODEL_H

#include "config/config.h"
#include "data/batch.h"
#include "model/params.h"
#include "ops/ops.h"

typedef struct Model Model;

/* What a model is made of; filled from a config, or from a checkpoint's. */
typedef struct ModelSpec {
    VisionConfig vision;
    ConnectorConfig connector;
    LlmConfig llm; /* vocab is set */
    LoraConfig lora;
    Tune tune[COMPONENT_COUNT];
    Checkpointing checkpointing;
    bool mapped; /* frozen parameters have no memory of their own: model_map gives them some */
    int max_positions; /* the longest sample, rows */
} ModelSpec;

void model_spec_from_config(ModelSpec *spec, const Config *config, int vocab);

/* Declares and allocates the parameters (zero until initialised or loaded). The Exec is borrowed.
 */
Err model_open(Model **model, Exec *ex, const ModelSpec *spec, DType dtype);
void model_close(Model **model);

const ModelSpec *model_spec(const Model *model);
DType model_dtype(const Model *model);
Params *model_params(Model *model);

/* Decoder rows that one picture becomes. */
int model_image_rows(const ModelSpec *spec);

/* Random initial values, a pure function of the seed and each parameter's name. `part_mask`: bit
 * per Component; LoRA adapters of those are drawn too (B is zero). */
void model_init(Model *model, uint64_t seed, uint32_t component_mask);

/* Gives number tokens an embedding that is in part the sum of their digits' and in part waves of
 * the number, so that reading a digit, or measuring a length, is learned for all numbers at once.
 * For models from scratch, after model_init, whose embedding it replaces. ids[n] is the token of
 * the number n, or -1. */
enum { MODEL_NUMBERS = 1000 };
void model_init_numbers(Model *model, uint64_t seed, const int32_t ids[MODEL_NUMBERS]);

/* Only the adapters. */
void model_init_lora(Model *model, uint64_t seed);

/* The compute type a precision means on this device; a substitute is said in the log. */
DType precision_dtype(Exec *ex, Precision precision);

/* The largest batch a Model must be ready for. */
typedef struct ModelLimits {
    int samples, tokens, labels, images;
    size_t reserved; /* bytes of device memory that others will take after the model */
} ModelLimits;

/* Those of `samples` samples of the spec's longest, each with a picture. ERR_CONFIG where the rows
 * of such a batch are more than can be counted. */
Err model_limits(ModelLimits *out, const ModelSpec *spec, int64_t samples);

/* Lays the activations out in a dry pass and allocates them once. train: with what backward needs.
 */
Err model_prepare(Model *model, const ModelLimits *limits, bool train);

/* Bytes of each kind, after model_prepare. */
typedef struct ModelMemory {
    size_t parameters, activations;
} ModelMemory;

ModelMemory model_memory(const Model *model);

/* Forward over a batch, whose arrays lie in host memory and may be changed when this returns.
 * Without `train`, dropout is off and nothing is kept. With `train`, the gradient of the summed
 * loss at the labels' rows is already taken: gradients must have been zeroed before. Nothing here
 * waits for the device. */
Err model_forward(Model *model, const Batch *batch, bool train);

/* Backward of the last forward with train: adds the gradient of the summed (not averaged) loss,
 * times the loss scale, to params.grads. */
Err model_backward(Model *model);

/* Where backward says that gradients are final: the `count` floats from `first` on of the flat
 * array, the last parameters first. */
typedef struct GradHook {
    void (*ready)(void *context, int64_t first, int64_t count);
    void *context;
} GradHook;

/* The same, calling `hook` (or NULL). */
Err model_backward_into(Model *model, const GradHook *hook);

/* What losses are multiplied by before backward: a float in device memory; NULL: 1. */
void model_set_loss_scale(Model *model, const float *device);

/* Of the last forward: Σ loss over the labels and how many were predicted right. Into device
 * memory, or (this one waits) into the host's. */
void model_loss_to(Model *model, LossSum *device);
Err model_loss(Model *model, double *sum, int64_t *hits);

/* Logits [count, vocab] (f32, of the host) of the label rows from `first` on, after a forward
 * without train. */
Err model_logits(Model *model, int first, int count, float *out);

/* Matrix-product FLOPs of a batch: forward, or forward and backward with what is trained. Attention
 * counts visible pairs. */
double model_flops(const Model *model, const Batch *batch, bool train);

/* ---- files (weights.c) ---- */

/* Writes the trained parameters as safetensors in f32, from a flat array of the device (master
 * weights, or moments). */
Err model_save_trained(Model *model, const char *path, const float *flat);

/* Writes the frozen parameters in the compute type. */
Err model_save_frozen(Model *model, const char *path);

/* Whether anything is frozen. */
bool model_has_frozen(const Model *model);

/* Reads every parameter that the file has, in f32, bf16 or f16; *found counts them. A name the
 * model does not have, a wrong shape (which, expected, found) and values that are not finite are
 * errors. `flat` (may be NULL) also receives the f32 values of the trained ones. */
Err model_load(Model *model, const char *path, float *flat, int *found);

/* Reads a flat array written by model_save_trained (optimiser moments): every trained parameter
 * must be there. */
Err model_load_flat(Model *model, const char *path, float *flat);
/* The same of means of squares: one below zero is ERR_INPUT. */
Err model_load_squares(Model *model, const char *path, float *flat);

/* Fills the flat master array from the values. */
void model_master_from_values(Model *model, float *flat);

/* ---- a file to map (files/mapped_weights.c) ---- */

/* For a model of the host whose spec says `mapped`: binds the frozen parameters to the bytes of a
 * file, which all processes of a machine share, and reads the others from it where it has them. A
 * file written by model_write_mapped (or a checkpoint's) is used where it lies; what lies otherwise
 * (another type; q, k and v apart) is converted into memory of this process. Every frozen parameter
 * must be there, with the model's shape. The file stays open as long as the model. */
Err model_map(Model *model, const char *path);

/* The same for a model that has memory for all: reads the frozen parameters alone. */
Err model_load_frozen(Model *model, const char *path);

/* Bytes of parameters that lie in mapped files. */
size_t model_mapped_bytes(const Model *model);

/* The file that is mapped, or NULL. */
const char *model_mapped_path(const Model *model);

/* Gives the f32 values of a base parameter, rows · cols of them. What takes them checks that they
 * are finite in its type; the sentence has the tensor's name and the number's place. */
typedef struct WeightSource {
    Err (*read)(void *context, const Param *param, float *out);
    void *context;
} WeightSource;

/* Writes all base parameters of a model (which needs no values itself) in its compute type, as
 * model_map wants them; complete or absent. One parameter at a time is in memory. */
Err model_write_mapped(const Model *model, const char *path, const WeightSource *source);

/* Gives a model that does not map them its base parameters from there. */
Err model_fill(Model *model, const WeightSource *source);

/* Fills the flat array of masters, of the base parameters that are trained, with what the source
 * has: their values have been rounded. */
Err model_fill_masters(Model *model, const WeightSource *source, float *flat);

/* A hash of names, shapes and order of the base parameters: what the layout of a file to map
 * depends on. */
uint64_t model_layout_hash(const Model *model);

/* ---- generation (generate.c) ---- */

typedef struct Generation {
    int32_t *ids; /* [max_new] generated tokens, without the end token; owned by the caller */
    int count;
    bool ended;        /* the model wrote its end token */
    bool broken;       /* it gave no numbers (NaN, infinities) any more: what came before is kept */
    double confidence; /* geometric mean of the probabilities of the tokens chosen; 0: none was */
} Generation;

/* Greedy decoding with a key-value cache. The prompts are the batch's rows up to the first label's
 * row (for a batch without labels: all rows). generations[batch->samples]; at most max_new tokens
 * each. ERR_STOPPED when a signal comes (core/signals.h). */
Err model_generate(Model *model, const Batch *batch, int eos, int max_new, Generation *generations);

#endif
