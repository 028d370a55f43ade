/* What a config.json says of its language model, for OpenELM, Llama, Gemma and Phi.
 * Defaults are those of the classes of transformers 4.39.3 and of Apple's OpenELMConfig; files of
 * transformers 5, which say the same in other places, are read too. Keys that are neither read nor
 * known to be harmless are refused. */
#include "model/files/published_llm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"

enum {
    WIDTH_MAX = 65536,
    FFN_MAX = 1 << 18,
    VOCAB_MAX = 1 << 22,
    HEADS_MAX = 1024,
    HEAD_MAX = 512
};

/* ---- activations ---- */

static const struct {
    const char *name;
    Activation activation;
} ACTIVATIONS[] = {
    {"gelu_pytorch_tanh", ACTIVATION_GELU_TANH}, /* the first of each is what we write */
    {"gelu", ACTIVATION_GELU},
    {"quick_gelu", ACTIVATION_QUICK_GELU},
    {"silu", ACTIVATION_SILU},
    {"gelu_new", ACTIVATION_GELU_TANH},
    {"gelu_fast", ACTIVATION_GELU_TANH},
    {"swish", ACTIVATION_SILU},
};

Err published_activation(Activation *out, const JsonKeys *keys, const char *name) {
    for (size_t i = 0; i < sizeof ACTIVATIONS / sizeof ACTIVATIONS[0]; i++)
        if (!strcmp(ACTIVATIONS[i].name, name)) {
            *out = ACTIVATIONS[i].activation;
            return OK;
        }
    FAIL(ERR_UNSUPPORTED,
         "%s: the activation \"%s\"; gelu, gelu_new, gelu_pytorch_tanh, quick_gelu and silu are "
         "known",
         keys->where, name);
}

const char *published_activation_name(Activation activation) {
    for (size_t i = 0; i < sizeof ACTIVATIONS / sizeof ACTIVATIONS[0]; i++)
        if (ACTIVATIONS[i].activation == activation) return ACTIVATIONS[i].name;
    return "";
}

static Err activation_key(Activation *out, const JsonKeys *keys, const char *key,
                          const char *otherwise) {
    const char *name;
    TRY(keys_text(&name, keys, key, otherwise));
    return published_activation(out, keys, name);
}

/* ---- what all families have ---- */

Err published_refuse_dropout(const JsonKeys *keys, const char *key) {
    double p;
    TRY(keys_number(&p, keys, key, 0, 0, 1));
    REQUIRE(p == 0, ERR_UNSUPPORTED,
            "%s: \"%s\" is %g, a dropout that is not applied here: set it to 0 to train without it",
            keys->where, key, p);
    return OK;
}

/* PreTrainedConfig of transformers 4.39.3, 4.57 and 5.24. */
const char *const published_harmless[] = {
    "_name_or_path", "name_or_path", "_commit_hash", "_attn_implementation",
    "_attn_implementation_autoset", "_attn_implementation_internal", "attn_implementation",
    "_flash_attn_2_enabled", "architectures", "auto_map", "transformers_version", "torch_dtype",
    "dtype", "torchscript", "use_bfloat16", "use_cache", "gradient_checkpointing", "return_dict",
    "output_attentions", "output_hidden_states",
    "chunk_size_feed_forward", /* only in how many pieces */
    "is_decoder",              /* of models that can be encoders */
    "xla_device", "tf_legacy_loss", "initializer_range",
    /* other tasks */
    "finetuning_task", "id2label", "label2id", "num_labels", "problem_type", "task_specific_params",
    /* tokens: the tokenizer's files say */
    "tokenizer_class", "prefix", "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id",
    "decoder_start_token_id",
    /* generation */
    "bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping",
    "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "forced_bos_token_id",
    "forced_eos_token_id", "length_penalty", "max_length", "min_length", "no_repeat_ngram_size",
    "num_beam_groups", "num_beams", "num_return_sequences", "output_scores",
    "remove_invalid_values", "repetition_penalty", "return_dict_in_generate", "suppress_tokens",
    "temperature", "top_k", "top_p", "typical_p", NULL};

/* Of the families: how a product is split, how long the cache of angles is made. */
static const char *const harmless_here[] = {"pretraining_tp", "max_position_embeddings",
                                            "max_context_length", "rope_max_length", NULL};

Err published_refuse_base(const JsonKeys *keys) {
    TRY(keys_refuse(keys, "add_cross_attention", "attention to an encoder"));
    TRY(keys_refuse(keys, "cross_attention_hidden_size", "attention to an encoder"));
    TRY(keys_refuse(keys, "is_encoder_decoder", "an encoder beside the decoder"));
    TRY(keys_refuse(keys, "tie_encoder_decoder", "an encoder beside the decoder"));
    return keys_refuse(keys, "pruned_heads", "heads that are cut out");
}

/* Attention sees all rows before and none behind, weights are not quantised. */
static Err refuse_variants(const JsonKeys *keys) {
    TRY(published_refuse_base(keys));
    TRY(keys_refuse(keys, "sliding_window", "attention to a window"));
    TRY(keys_refuse(keys, "use_bidirectional_attention", "attention to rows behind"));
    TRY(keys_refuse(keys, "quantization_config", "quantised weights"));
    TRY(keys_refuse(keys, "attention_bias", "biases in attention alone"));
    TRY(keys_refuse(keys, "mlp_bias", "biases in the MLP alone"));
    return published_refuse_dropout(keys, "attention_dropout");
}

typedef struct Sizes {
    int64_t vocab, width, ffn, layers, q_heads, kv_heads; /* kv_heads 0: as many as q_heads */
} Sizes;

static Err read_sizes(LlmConfig *llm, const JsonKeys *keys, const Sizes *otherwise) {
    int64_t q, kv, ffn;
    TRY(keys_integer(&llm->vocab, keys, "vocab_size", otherwise->vocab, 1, VOCAB_MAX));
    TRY(keys_integer(&llm->width, keys, "hidden_size", otherwise->width, 1, WIDTH_MAX));
    TRY(keys_integer(&ffn, keys, "intermediate_size", otherwise->ffn, 1, FFN_MAX));
    TRY(keys_integer(&llm->layers, keys, "num_hidden_layers", otherwise->layers, 1, CONFIG_LIST));
    TRY(keys_integer(&q, keys, "num_attention_heads", otherwise->q_heads, 1, HEADS_MAX));
    TRY(keys_integer(&kv, keys, "num_key_value_heads",
                     otherwise->kv_heads ? otherwise->kv_heads : q, 1, HEADS_MAX));
    llm->q_heads = (IntList){1, {q}};
    llm->kv_heads = (IntList){1, {kv}};
    llm->ffn = (IntList){1, {ffn}};
    return OK;
}

/* Where the file does not say it, heads share the width. */
static Err read_head_dim(LlmConfig *llm, const JsonKeys *keys, int64_t otherwise) {
    int64_t heads = llm->q_heads.values[0];
    REQUIRE(otherwise || keys_have(keys, "head_dim") || llm->width % heads == 0, ERR_INPUT,
            "%s: hidden_size %lld is no multiple of num_attention_heads %lld", keys->where,
            (long long)llm->width, (long long)heads);
    return keys_integer(&llm->head_dim, keys, "head_dim",
                        otherwise ? otherwise : llm->width / heads, 2, HEAD_MAX);
}

/* ---- rotary angles ---- */

/* The object of that name, whose keys are then asked for; without one, all are absent. */
static Err rope_object(JsonKeys *out, char where[PATH_SIZE], const JsonKeys *keys,
                       const char *key) {
    out->object = keys_value(keys, key);
    TRY(path_format(where, "%s: %s", keys->where, key));
    return out->object ? keys_need_object(out) : OK;
}

/* Angles are plain: a kind by any other name than "default" stretches them. */
static Err refuse_stretched(const JsonKeys *rope) {
    const char *kind, *old;
    TRY(keys_text(&old, rope, "type", "default")); /* the key's first name */
    TRY(keys_text(&kind, rope, "rope_type", old));
    REQUIRE(!strcmp(kind, "default"), ERR_UNSUPPORTED,
            "%s asks for stretched rotary angles of the kind \"%.60s\", which are not supported",
            rope->where, kind);
    return OK;
}

static Err refuse_scaling(const JsonKeys *keys) {
    char where[PATH_SIZE];
    KeysAsked asked = {0};
    JsonKeys rope = {.where = where, .asked = &asked};
    TRY(rope_object(&rope, where, keys, "rope_scaling"));
    TRY(refuse_stretched(&rope));
    return keys_refuse_others(&rope);
}

/* A number that stands in rope_parameters, where transformers 5 writes it, or beside it. */
static Err rope_number(double *out, const JsonKeys *keys, const JsonKeys *rope, const char *key,
                       double otherwise, double low, double high) {
    double beside;
    TRY(keys_number(&beside, keys, key, otherwise, low, high));
    TRY(keys_number(out, rope, key, beside, low, high));
    REQUIRE(!keys_have(keys, key) || *out == beside, ERR_INPUT,
            "%s: \"%s\" is %g, but %g in rope_parameters: transformers 4 and 5 take different "
            "ones; give it once",
            keys->where, key, beside, *out);
    return OK;
}

/* `share`: of the channels of a head that turn where the file does not say it; 0: all do. */
static Err read_rope(LlmConfig *llm, const JsonKeys *keys, double share) {
    char where[PATH_SIZE];
    KeysAsked asked = {0};
    JsonKeys rope = {.where = where, .asked = &asked};
    TRY(refuse_scaling(keys));
    TRY(rope_object(&rope, where, keys, "rope_parameters"));
    TRY(refuse_stretched(&rope));
    TRY(rope_number(&llm->rope_theta, keys, &rope, "rope_theta", 10000, 1, 1e12));
    TRY(rope_number(&llm->partial_rotary_factor, keys, &rope, "partial_rotary_factor",
                    share ? share : 1, 0, 1));
    REQUIRE(share || llm->partial_rotary_factor == 1, ERR_UNSUPPORTED,
            "%s: \"partial_rotary_factor\" is %g; all channels turn in this kind of model",
            keys->where, llm->partial_rotary_factor);
    return keys_refuse_others(&rope);
}

/* ---- families ---- */

static Err read_tied(LlmConfig *llm, const JsonKeys *keys, bool otherwise) {
    return keys_bool(&llm->tied_head, keys, "tie_word_embeddings", otherwise);
}

static Err read_llama(LlmConfig *llm, const JsonKeys *keys) {
    *llm = (LlmConfig){.names = NAMES_LLAMA, .norm = NORM_RMS, .gated = true};
    TRY(read_sizes(llm, keys, &(Sizes){32000, 4096, 11008, 32, 32, 0}));
    TRY(read_head_dim(llm, keys, 0));
    TRY(activation_key(&llm->activation, keys, "hidden_act", "silu"));
    TRY(keys_number(&llm->norm_eps, keys, "rms_norm_eps", 1e-6, 0, 1));
    TRY(read_rope(llm, keys, 0));
    return read_tied(llm, keys, false);
}

/* Without hidden_activation transformers 4 takes gelu_pytorch_tanh whatever hidden_act says: the
 * published models have "gelu" there by mistake. Transformers 5 reads that mistake in the same way
 * and takes any other word as it is. */
static Err read_gemma_activation(LlmConfig *llm, const JsonKeys *keys) {
    Activation act;
    TRY(activation_key(&act, keys, "hidden_act", "gelu_pytorch_tanh"));
    TRY(activation_key(&llm->activation, keys, "hidden_activation", "gelu_pytorch_tanh"));
    REQUIRE(keys_have(keys, "hidden_activation") || act == ACTIVATION_GELU ||
                act == ACTIVATION_GELU_TANH,
            ERR_UNSUPPORTED,
            "%s: \"hidden_act\" is \"%s\", which transformers 4 passes over and 5 does not: say in "
            "\"hidden_activation\" what is meant",
            keys->where, published_activation_name(act));
    return OK;
}

static Err read_gemma(LlmConfig *llm, const JsonKeys *keys) {
    *llm = (LlmConfig){
        .names = NAMES_LLAMA, .norm = NORM_RMS_PLUS_ONE, .gated = true, .scale_embedding = true};
    TRY(read_sizes(llm, keys, &(Sizes){256000, 3072, 24576, 28, 16, 16}));
    TRY(read_head_dim(llm, keys, 256));
    TRY(read_gemma_activation(llm, keys));
    TRY(keys_number(&llm->norm_eps, keys, "rms_norm_eps", 1e-6, 0, 1));
    TRY(read_rope(llm, keys, 0));
    return read_tied(llm, keys, true);
}

static Err read_phi(LlmConfig *llm, const JsonKeys *keys) {
    *llm = (LlmConfig){.names = NAMES_PHI, .norm = NORM_LAYER, .bias = true, .parallel = true};
    TRY(read_sizes(llm, keys, &(Sizes){51200, 2048, 8192, 24, 32, 0}));
    TRY(read_head_dim(llm, keys, 0));
    TRY(keys_refuse(keys, "qk_layernorm", "LayerNorms of queries and keys"));
    TRY(published_refuse_dropout(keys, "embd_pdrop"));
    TRY(keys_number(&llm->residual_dropout, keys, "resid_pdrop", 0, 0, 0.95));
    TRY(activation_key(&llm->activation, keys, "hidden_act", "gelu_new"));
    TRY(keys_number(&llm->norm_eps, keys, "layer_norm_eps", 1e-5, 0, 1));
    TRY(read_rope(llm, keys, 0.5));
    TRY(read_tied(llm, keys, false));
    REQUIRE(!llm->tied_head, ERR_UNSUPPORTED, "%s: a Phi whose head is its embedding", keys->where);
    return OK;
}

/* ---- OpenELM: every layer has its own widths ---- */

/* The multiple of `divisor` nearest to `value`, one more if that loses over a tenth. */
static int64_t make_divisible(double value, int64_t divisor) {
    int64_t rounded = (int64_t)floor((value + (double)divisor / 2) / (double)divisor) * divisor;
    if (rounded < divisor) rounded = divisor;
    return (double)rounded < 0.9 * value ? rounded + divisor : rounded;
}

/* To two decimals as Python's round() does it: of the exact value of the double. */
static double two_decimals(double value) {
    char text[64];
    snprintf(text, sizeof text, "%.2f", value);
    return strtod(text, NULL);
}

/* A multiplier for each layer: one number for all, the two ends of a line, or a list. */
static Err read_multipliers(double *out, int64_t layers, const JsonKeys *keys, const char *key,
                            double otherwise) {
    enum { MULTIPLIER_MAX = 64 };
    const Json *value = keys_value(keys, key);
    if (js_type(value) != JSON_KIND_ARRAY) {
        double all;
        TRY(keys_number(&all, keys, key, otherwise, 0.01, MULTIPLIER_MAX));
        for (int64_t i = 0; i < layers; i++) out[i] = all;
        return OK;
    }
    int64_t count = (int64_t)js_count(value);
    REQUIRE(count == 2 || count == layers, ERR_INPUT, "%s: \"%s\" has %lld numbers for %lld layers",
            keys->where, key, (long long)count, (long long)layers);
    for (int64_t i = 0; i < count; i++)
        REQUIRE(js_number(js_at(value, (size_t)i), &out[i]) && out[i] >= 0.01 &&
                    out[i] <= MULTIPLIER_MAX,
                ERR_INPUT, "%s: \"%s\"[%lld] is no number from 0.01 to %d", keys->where, key,
                (long long)i, MULTIPLIER_MAX);
    if (count == layers) return OK;
    double low = out[0], high = out[1], step = layers > 1 ? (high - low) / (double)(layers - 1) : 0;
    for (int64_t i = 0; i < layers; i++)
        out[i] = two_decimals(i && i == layers - 1 ? high : low + (double)i * step);
    return OK;
}

static Err read_heads(IntList *out, int64_t layers, const JsonKeys *keys, const char *key) {
    const Json *list = keys_value(keys, key);
    REQUIRE(js_type(list) == JSON_KIND_ARRAY && (int64_t)js_count(list) == layers, ERR_INPUT,
            "%s: \"%s\" is no list of %lld numbers, one for each layer", keys->where, key,
            (long long)layers);
    out->count = (int)layers;
    for (int i = 0; i < out->count; i++)
        REQUIRE(js_integer(js_at(list, (size_t)i), &out->values[i]) && out->values[i] >= 1 &&
                    out->values[i] <= HEADS_MAX,
                ERR_INPUT, "%s: \"%s\"[%d] is no number of heads from 1 to %d", keys->where, key, i,
                HEADS_MAX);
    return OK;
}

/* The lists, or what Apple's code makes of the multipliers. */
static Err read_openelm_heads(LlmConfig *llm, const JsonKeys *keys) {
    static const char *const of_lists[] = {"qkv_multipliers", NULL};
    double multipliers[CONFIG_LIST];
    int64_t groups;
    TRY(keys_integer(&groups, keys, "num_gqa_groups", 1, 1, HEADS_MAX));
    keys_pass_over(keys, of_lists);
    llm->q_heads.count = llm->kv_heads.count = (int)llm->layers;
    if (keys_have(keys, "num_query_heads")) {
        TRY(read_heads(&llm->q_heads, llm->layers, keys, "num_query_heads"));
    } else {
        TRY(read_multipliers(multipliers, llm->layers, keys, "qkv_multipliers", 1));
        for (int i = 0; i < llm->q_heads.count; i++)
            llm->q_heads.values[i] =
                make_divisible((double)llm->width * multipliers[i], llm->head_dim * groups) /
                llm->head_dim;
    }
    if (keys_have(keys, "num_kv_heads"))
        return read_heads(&llm->kv_heads, llm->layers, keys, "num_kv_heads");
    for (int i = 0; i < llm->kv_heads.count; i++)
        llm->kv_heads.values[i] = llm->q_heads.values[i] / groups;
    return OK;
}

static Err read_openelm_ffn(LlmConfig *llm, const JsonKeys *keys) {
    double multipliers[CONFIG_LIST];
    int64_t divisor;
    TRY(keys_integer(&divisor, keys, "ffn_dim_divisor", 256, 1, WIDTH_MAX));
    TRY(read_multipliers(multipliers, llm->layers, keys, "ffn_multipliers", 4));
    llm->ffn.count = (int)llm->layers;
    for (int i = 0; i < llm->ffn.count; i++) {
        llm->ffn.values[i] = make_divisible(multipliers[i] * (double)llm->width, divisor);
        REQUIRE(llm->ffn.values[i] <= FFN_MAX, ERR_INPUT,
                "%s: layer %d has an MLP of %lld channels; %d at most are possible", keys->where, i,
                (long long)llm->ffn.values[i], FFN_MAX);
    }
    return OK;
}

static Err read_openelm(LlmConfig *llm, const JsonKeys *keys) {
    const char *norm;
    bool glu, tied;
    *llm = (LlmConfig){.names = NAMES_OPENELM,
                       .norm = NORM_RMS,
                       .gated = true,
                       .partial_rotary_factor = 1,
                       .norm_eps = 1e-6}; /* a constant of the model's code */
    TRY(keys_integer(&llm->vocab, keys, "vocab_size", 32000, 1, VOCAB_MAX));
    TRY(keys_integer(&llm->width, keys, "model_dim", 2048, 1, WIDTH_MAX));
    TRY(keys_integer(&llm->head_dim, keys, "head_dim", 128, 2, HEAD_MAX));
    TRY(keys_integer(&llm->layers, keys, "num_transformer_layers", 12, 1, CONFIG_LIST));
    TRY(read_openelm_heads(llm, keys));
    TRY(read_openelm_ffn(llm, keys));
    TRY(keys_bool(&llm->qk_norm, keys, "normalize_qk_projections", false));
    TRY(keys_bool(&llm->tied_head, keys, "share_input_output_layers", false));
    TRY(keys_bool(&tied, keys, "tie_word_embeddings", llm->tied_head));
    REQUIRE(llm->tied_head || !tied, ERR_INPUT,
            "%s: \"tie_word_embeddings\" is true and \"share_input_output_layers\" is not: whether "
            "the head is the embedding is not said",
            keys->where);
    TRY(activation_key(&llm->activation, keys, "activation_fn_name", "swish"));
    TRY(keys_number(&llm->rope_theta, keys, "rope_freq_constant", 10000, 1, 1e12));
    TRY(keys_text(&norm, keys, "normalization_layer_name", "rms_norm"));
    REQUIRE(!strcmp(norm, "rms_norm"), ERR_UNSUPPORTED, "%s: the norm \"%s\"; rms_norm is known",
            keys->where, norm);
    TRY(keys_bool(&glu, keys, "ffn_with_glu", true));
    REQUIRE(glu, ERR_UNSUPPORTED, "%s: an OpenELM whose MLP has no gate", keys->where);
    return OK;
}

/* ---- all ---- */

static const struct {
    const char *type;
    Err (*read)(LlmConfig *llm, const JsonKeys *keys);
    TemplateName template;
} FAMILIES[] = {
    {"openelm", read_openelm, TEMPLATE_NAME_LLAMA},
    {"llama", read_llama, TEMPLATE_NAME_LLAMA},
    {"gemma", read_gemma, TEMPLATE_NAME_GEMMA},
    {"phi", read_phi, TEMPLATE_NAME_PHI},
};

static Err check_heads(const LlmConfig *llm, const JsonKeys *keys) {
    for (int i = 0; i < llm->q_heads.count; i++) {
        int64_t q = llm->q_heads.values[i], kv = llm->kv_heads.values[i];
        REQUIRE(q >= 1 && kv >= 1 && q <= HEADS_MAX && q % kv == 0, ERR_INPUT,
                "%s: layer %d has %lld query heads for %lld key heads; a multiple is needed",
                keys->where, i, (long long)q, (long long)kv);
    }
    REQUIRE(llm->head_dim >= 2 && llm->head_dim <= HEAD_MAX && llm->head_dim % 2 == 0, ERR_INPUT,
            "%s: heads of %lld channels; an even number from 2 to %d is possible", keys->where,
            (long long)llm->head_dim, HEAD_MAX);
    double turning = (double)llm->head_dim * llm->partial_rotary_factor;
    REQUIRE(turning == floor(turning) && fmod(turning, 2) == 0, ERR_INPUT,
            "%s: %g of the %lld channels of a head turn; an even number is needed", keys->where,
            turning, (long long)llm->head_dim);
    return OK;
}

Err published_read_llm(LlmConfig *llm, TemplateName *template, const JsonKeys *config) {
    KeysAsked asked = {0};
    const JsonKeys all = {config->object, config->where, &asked}, *keys = &all;
    const char *type;
    TRY(keys_text(&type, keys, "model_type", "llama"));
    for (size_t i = 0; i < sizeof FAMILIES / sizeof FAMILIES[0]; i++) {
        if (strcmp(FAMILIES[i].type, type) != 0) continue;
        *template = FAMILIES[i].template;
        TRY(refuse_variants(keys));
        TRY(FAMILIES[i].read(llm, keys));
        keys_pass_over(keys, published_harmless);
        keys_pass_over(keys, harmless_here);
        TRY(keys_refuse_others(keys));
        return check_heads(llm, keys);
    }
    FAIL(ERR_UNSUPPORTED, "%s: model_type \"%s\"; openelm, llama, gemma and phi are known",
         keys->where, type);
}

/* ---- writing ---- */

static Json *list_to_json(const IntList *list, int64_t layers) {
    Json *array = js_new_array();
    for (int64_t i = 0; i < layers; i++)
        js_push(array, js_new_integer(list->values[list->count == 1 ? 0 : i]));
    return array;
}

static void set_openelm(Json *out, const LlmConfig *llm) {
    Json *multipliers = js_new_array(), *ends = js_new_array();
    for (int i = 0; i < 2; i++) { /* Apple's code makes the heads of these, we read the lists */
        int64_t heads = llm->q_heads.values[i ? llm->q_heads.count - 1 : 0];
        js_push(ends, js_new_number((double)(heads * llm->head_dim) / (double)llm->width));
    }
    js_set(out, "qkv_multipliers", ends);
    /* Exact with a divisor of 1: the multiplier times the width is the number again. */
    for (int64_t i = 0; i < llm->layers; i++)
        js_push(multipliers, js_new_number((double)llm->ffn.values[llm->ffn.count == 1 ? 0 : i] /
                                           (double)llm->width));
    js_set_integer(out, "num_transformer_layers", llm->layers);
    js_set_integer(out, "model_dim", llm->width);
    js_set_integer(out, "head_dim", llm->head_dim);
    js_set_integer(out, "num_gqa_groups", llm->q_heads.values[0] / llm->kv_heads.values[0]);
    js_set(out, "num_query_heads", list_to_json(&llm->q_heads, llm->layers));
    js_set(out, "num_kv_heads", list_to_json(&llm->kv_heads, llm->layers));
    js_set(out, "ffn_multipliers", multipliers);
    js_set_integer(out, "ffn_dim_divisor", 1);
    js_set_bool(out, "ffn_with_glu", true);
    js_set_text(out, "activation_fn_name", published_activation_name(llm->activation));
    js_set_text(out, "normalization_layer_name", "rms_norm");
    js_set_bool(out, "normalize_qk_projections", llm->qk_norm);
    js_set_bool(out, "share_input_output_layers", llm->tied_head);
    js_set_number(out, "rope_freq_constant", llm->rope_theta);
}

static void set_others(Json *out, const LlmConfig *llm) {
    js_set_integer(out, "num_hidden_layers", llm->layers);
    js_set_integer(out, "hidden_size", llm->width);
    js_set_integer(out, "intermediate_size", llm->ffn.values[0]);
    js_set_integer(out, "num_attention_heads", llm->q_heads.values[0]);
    js_set_integer(out, "num_key_value_heads", llm->kv_heads.values[0]);
    js_set_number(out, "rope_theta", llm->rope_theta);
    js_set_text(out, "hidden_act", published_activation_name(llm->activation));
    if (llm->names == NAMES_PHI) {
        js_set_number(out, "layer_norm_eps", llm->norm_eps);
        js_set_number(out, "partial_rotary_factor", llm->partial_rotary_factor);
        js_set_number(out, "resid_pdrop", llm->residual_dropout);
        js_set_bool(out, "qk_layernorm", false);
        return;
    }
    js_set_number(out, "rms_norm_eps", llm->norm_eps);
    js_set_integer(out, "head_dim", llm->head_dim);
    if (llm->norm == NORM_RMS_PLUS_ONE)
        js_set_text(out, "hidden_activation", published_activation_name(llm->activation));
}

Json *published_llm_json(const LlmConfig *llm) {
    static const char *const classes[][2] = {{"openelm", "OpenELMForCausalLM"},
                                             {"llama", "LlamaForCausalLM"},
                                             {"gemma", "GemmaForCausalLM"},
                                             {"phi", "PhiForCausalLM"}};
    int family = llm->names == NAMES_OPENELM ? 0
                 : llm->names == NAMES_PHI   ? 3
                 : llm->scale_embedding      ? 2
                                             : 1;
    Json *out = js_new_object(), *architectures = js_new_array();
    js_set_text(out, "model_type", classes[family][0]);
    js_push(architectures, js_new_text(classes[family][1]));
    js_set(out, "architectures", architectures);
    js_set_integer(out, "vocab_size", llm->vocab);
    js_set_bool(out, "tie_word_embeddings", llm->tied_head);
    if (llm->names == NAMES_OPENELM)
        set_openelm(out, llm);
    else
        set_others(out, llm);
    return out;
}
