/* What the config.json of a model folder says; see the header. The language model's own is in
 * published_llm.c. */
#include "model/files/published.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/text.h"
#include "model/files/published_llm.h"

enum { CONFIG_MAX = 4 << 20 };

/* ---- components whose config.json stands only in their own repository ---- */

typedef struct KnownComponent {
    const char *name, *config;
} KnownComponent;

#define OPENELM_PART                                                                               \
    "\"model_type\":\"openelm\",\"vocab_size\":32000,\"head_dim\":64,\"num_gqa_groups\":4,"        \
    "\"qkv_multipliers\":[0.5,1.0],\"ffn_multipliers\":[0.5,4.0],\"ffn_dim_divisor\":256,"         \
    "\"normalize_qk_projections\":true,\"share_input_output_layers\":true"
#define GEMMA_PART                                                                                 \
    "{\"model_type\":\"gemma\",\"vocab_size\":256000,\"hidden_size\":2048,"                        \
    "\"intermediate_size\":16384,\"num_hidden_layers\":18,\"num_attention_heads\":8,"              \
    "\"num_key_value_heads\":1,\"head_dim\":256}"

static const KnownComponent LLMS[] = {
    {"OpenELM-270M-Instruct",
     "{" OPENELM_PART ",\"num_transformer_layers\":16,\"model_dim\":1280}"},
    {"OpenELM-270M", "{" OPENELM_PART ",\"num_transformer_layers\":16,\"model_dim\":1280}"},
    {"OpenELM-450M-Instruct",
     "{" OPENELM_PART ",\"num_transformer_layers\":20,\"model_dim\":1536}"},
    {"OpenELM-450M", "{" OPENELM_PART ",\"num_transformer_layers\":20,\"model_dim\":1536}"},
    {"gemma-2b-it", GEMMA_PART},
    {"gemma-2b", GEMMA_PART},
    {"phi-2", "{\"model_type\":\"phi\",\"vocab_size\":51200,\"hidden_size\":2560,"
              "\"intermediate_size\":10240,\"num_hidden_layers\":32,\"num_attention_heads\":32,"
              "\"partial_rotary_factor\":0.4,\"resid_pdrop\":0.1}"},
    {"TinyLlama-1.1B-Chat-v1.0",
     "{\"model_type\":\"llama\",\"vocab_size\":32000,\"hidden_size\":2048,"
     "\"intermediate_size\":5632,\"num_hidden_layers\":22,\"num_attention_heads\":32,"
     "\"num_key_value_heads\":4,\"rms_norm_eps\":1e-5}"},
};

static const KnownComponent TOWERS[] = {
    {"siglip-so400m-patch14-384",
     "{\"model_type\":\"siglip_vision_model\",\"hidden_size\":1152,\"intermediate_size\":4304,"
     "\"num_hidden_layers\":27,\"num_attention_heads\":16,\"image_size\":384,\"patch_size\":14}"},
    {"clip-vit-base-patch16",
     "{\"model_type\":\"clip_vision_model\",\"hidden_size\":768,\"intermediate_size\":3072,"
     "\"num_hidden_layers\":12,\"num_attention_heads\":12,\"image_size\":224,\"patch_size\":16}"},
    {"clip-vit-large-patch14-336",
     "{\"model_type\":\"clip_vision_model\",\"hidden_size\":1024,\"intermediate_size\":4096,"
     "\"num_hidden_layers\":24,\"num_attention_heads\":16,\"image_size\":336,\"patch_size\":14}"},
};

/* The config of a component: the member `key`, or by the component's name. `known` is to be freed.
 */
static Err part_config(const Json **out, Json **known, const JsonKeys *top, const char *key,
                       const char *name, const KnownComponent *components, size_t count) {
    *known = NULL;
    *out = keys_value(top, key);
    if (js_type(*out) == JSON_KIND_OBJECT) return OK;
    REQUIRE(!*out, ERR_INPUT, "%s: \"%s\" is no object", top->where, key);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(components[i].name, path_name(name)) != 0) continue;
        TRY(js_parse(known, components[i].config, strlen(components[i].config), name));
        *out = *known;
        return OK;
    }
    FAIL(ERR_UNSUPPORTED,
         "%s has no \"%s\", and the sizes of \"%s\" are not known here: copy its config.json in "
         "as \"%s\"",
         top->where, key, name, key);
}

/* ---- the vision tower ---- */

typedef struct TowerKind {
    const char *type;
    int64_t patch_size;
    const char *activation;
    double norm_eps;
    double mean[3], std[3];
    bool is_clip;
} TowerKind;

static const TowerKind KINDS[] = {
    {"clip_vision_model",
     32,
     "quick_gelu",
     1e-5,
     {0.48145466, 0.4578275, 0.40821073},
     {0.26862954, 0.26130258, 0.27577711},
     true},
    {"siglip_vision_model", 16, "gelu_pytorch_tanh", 1e-6, {0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}, false},
};

static RealList channels_of(const double values[3]) {
    bool same = values[0] == values[1] && values[0] == values[2];
    return (RealList){same ? 1 : 3, {values[0], values[1], values[2]}};
}

static Err read_tower_sizes(VisionConfig *v, const JsonKeys *keys, const TowerKind *kind) {
    const char *activation;
    TRY(keys_integer(&v->image_size, keys, "image_size", 224, 8, 4096));
    TRY(keys_integer(&v->channels, keys, "num_channels", 3, 3, 3));
    TRY(keys_integer(&v->patch_size, keys, "patch_size", kind->patch_size, 1, 512));
    TRY(keys_integer(&v->layers, keys, "num_hidden_layers", 12, 1, CONFIG_LIST));
    TRY(keys_integer(&v->width, keys, "hidden_size", 768, 1, 65536));
    TRY(keys_integer(&v->heads, keys, "num_attention_heads", 12, 1, 1024));
    TRY(keys_integer(&v->mlp, keys, "intermediate_size", 3072, 1, 1 << 18));
    TRY(keys_number(&v->norm_eps, keys, "layer_norm_eps", kind->norm_eps, 0, 1));
    TRY(keys_text(&activation, keys, "hidden_act", kind->activation));
    TRY(published_activation(&v->activation, keys, activation));
    TRY(published_refuse_dropout(keys, "attention_dropout"));
    REQUIRE(v->width % v->heads == 0, ERR_INPUT,
            "%s: hidden_size %lld is no multiple of num_attention_heads %lld", keys->where,
            (long long)v->width, (long long)v->heads);
    REQUIRE(v->patch_size <= v->image_size, ERR_INPUT,
            "%s: patch_size %lld is larger than image_size %lld", keys->where,
            (long long)v->patch_size, (long long)v->image_size);
    return OK;
}

/* The layers that run: hidden_states[0] is what enters the first, hidden_states[i] what leaves
 * layer i, counted from one; negative numbers count from the end. */
static Err read_feature_layer(VisionConfig *v, const JsonKeys *top) {
    int64_t feature, all = v->layers;
    TRY(keys_integer(&feature, top, "vision_feature_layer", -2, -CONFIG_LIST - 1, CONFIG_LIST));
    v->layers = feature < 0 ? all + 1 + feature : feature;
    REQUIRE(v->layers >= 1 && v->layers <= all, ERR_INPUT,
            "%s: \"vision_feature_layer\" is %lld of a tower with %lld layers", top->where,
            (long long)feature, (long long)all);
    return OK;
}

static Err read_strategy(VisionConfig *v, const JsonKeys *top) {
    const char *strategy;
    TRY(keys_text(&strategy, top, "vision_feature_select_strategy", "patch"));
    v->drop_first_patch = !strcmp(strategy, "patch");
    REQUIRE(v->drop_first_patch || !strcmp(strategy, "cls_patch"), ERR_UNSUPPORTED,
            "%s: \"vision_feature_select_strategy\" is \"%s\"; patch and cls_patch are known",
            top->where, strategy);
    return OK;
}

/* What follows the layers that are read, how weights begin; the component's own name. */
static const char *const tower_harmless[] = {"projection_dim",
                                             "vision_use_head",
                                             "initializer_factor",
                                             "dropout",
                                             "tie_word_embeddings",
                                             "model_name_or_path",
                                             NULL};

static Err refuse_other_towers(const JsonKeys *keys) {
    TRY(published_refuse_base(keys));
    TRY(keys_refuse(keys, "model_name_or_path2", "a second vision tower"));
    keys_pass_over(keys, published_harmless);
    keys_pass_over(keys, tower_harmless);
    return keys_refuse_others(keys);
}

static Err read_tower(VisionConfig *v, const JsonKeys *config, const JsonKeys *top) {
    KeysAsked asked = {0};
    const JsonKeys all = {config->object, config->where, &asked}, *keys = &all;
    const char *type;
    TRY(keys_text(&type, keys, "model_type", KINDS[0].type));
    for (size_t i = 0; i < sizeof KINDS / sizeof KINDS[0]; i++) {
        const TowerKind *kind = &KINDS[i];
        if (strcmp(kind->type, type) != 0) continue;
        *v = (VisionConfig){.mean = channels_of(kind->mean),
                            .std = channels_of(kind->std),
                            .class_token = kind->is_clip,
                            .pre_norm = kind->is_clip,
                            .patch_bias = !kind->is_clip,
                            .fit = kind->is_clip ? FIT_CROP : FIT_SQUASH};
        TRY(read_tower_sizes(v, keys, kind));
        TRY(refuse_other_towers(keys));
        TRY(read_feature_layer(v, top));
        return read_strategy(v, top);
    }
    FAIL(ERR_UNSUPPORTED,
         "%s: model_type \"%s\"; clip_vision_model and siglip_vision_model are known", keys->where,
         type);
}

/* ---- the whole ---- */

static Err read_connector(ConnectorConfig *connector, const JsonKeys *top) {
    const char *type;
    TRY(keys_text(&type, top, "connector_type", ""));
    REQUIRE(!strcmp(type, "mlp2x_gelu"), ERR_UNSUPPORTED,
            "%s: \"connector_type\" is \"%s\"; mlp2x_gelu is known", top->where, type);
    *connector = (ConnectorConfig){.norm = false, .activation = ACTIVATION_GELU};
    return OK;
}

static Err read_aspect(ImageAspect *aspect, const JsonKeys *top) {
    const char *name;
    TRY(keys_text(&name, top, "image_aspect_ratio", "square"));
    *aspect = !strcmp(name, "pad") ? ASPECT_PAD : ASPECT_SQUARE;
    REQUIRE(*aspect == ASPECT_PAD || !strcmp(name, "square"), ERR_UNSUPPORTED,
            "%s: \"image_aspect_ratio\" is \"%s\"; square and pad are known", top->where, name);
    return OK;
}

/* What TinyLLaVA's config says beside: of training, of connectors of other kinds, of the tokenizer,
 * and sizes of the components once more. */
static const char *const top_harmless[] = {"cache_dir",
                                           "hidden_size",
                                           "ignore_index",
                                           "image_token_index",
                                           "num_queries",
                                           "num_resampler_layers",
                                           "pad_token",
                                           "resampler_hidden_size",
                                           "tie_word_embeddings",
                                           "tokenizer_name_or_path",
                                           "tokenizer_padding_side",
                                           "tokenizer_use_fast",
                                           "tune_type_connector",
                                           "tune_type_llm",
                                           "tune_type_vision_tower",
                                           "tune_vision_tower_from_layer",
                                           "vision_hidden_size",
                                           "vocab_size",
                                           NULL};

/* "clip:openai/clip-vit-base-patch16" is openai/clip-vit-base-patch16. */
static void drop_scheme(char *name) {
    char *colon = strchr(name, ':');
    if (colon) memmove(name, colon + 1, strlen(colon));
}

static Err read_top(Published *out, const JsonKeys *top) {
    const char *type;
    TRY(keys_text(&type, top, "model_type", ""));
    REQUIRE(!strcmp(type, "tinyllava"), ERR_UNSUPPORTED,
            "%s: model_type \"%s\"; tinyllava is expected, the kind that OpenECAD models are of",
            top->where, type);
    TRY(keys_copy(out->llm_name, PUBLISHED_NAME, top, "llm_model_name_or_path", ""));
    TRY(keys_copy(out->vision_name, PUBLISHED_NAME, top, "vision_model_name_or_path", ""));
    drop_scheme(out->vision_name);
    TRY(keys_refuse(top, "vision_model_name_or_path2", "a second vision tower"));
    TRY(keys_refuse(top, "quantization_config", "quantised weights"));
    TRY(keys_integer(&out->max_length, top, "tokenizer_model_max_length", 2048, 8, 1 << 20));
    out->has_code = keys_have(top, "auto_map");
    TRY(read_aspect(&out->aspect, top));
    return read_connector(&out->connector, top);
}

static Err read_parts(Published *out, const JsonKeys *top) {
    char where[PATH_SIZE];
    Json *known_llm = NULL, *known_tower = NULL;
    JsonKeys keys = {.where = where};
    Err err = part_config(&keys.object, &known_llm, top, "text_config", out->llm_name, LLMS,
                          sizeof LLMS / sizeof LLMS[0]);
    if (err == OK) err = path_format(where, "%s: text_config", top->where);
    if (err == OK) err = published_read_llm(&out->llm, &out->template, &keys);
    if (err == OK)
        err = part_config(&keys.object, &known_tower, top, "vision_config", out->vision_name,
                          TOWERS, sizeof TOWERS / sizeof TOWERS[0]);
    if (err == OK) err = path_format(where, "%s: vision_config", top->where);
    if (err == OK) err = read_tower(&out->vision, &keys, top);
    js_free(&known_llm);
    js_free(&known_tower);
    return err;
}

static Err read_whole(Published *out, const Json *root, const char *where) {
    KeysAsked asked = {0};
    const JsonKeys top = {root, where, &asked};
    *out = (Published){0};
    TRY(keys_need_object(&top));
    TRY(read_top(out, &top));
    TRY(read_parts(out, &top));
    TRY(published_refuse_base(&top));
    keys_pass_over(&top, published_harmless);
    keys_pass_over(&top, top_harmless);
    return keys_refuse_others(&top);
}

Err published_read(Published *out, const char *folder) {
    char path[PATH_SIZE];
    Json *root;
    TRY(path_join(path, folder, "config.json"));
    TRY(js_read(&root, path, CONFIG_MAX));
    Err err = read_whole(out, root, path);
    js_free(&root);
    return err;
}

bool published_is(const char *folder) {
    char path[PATH_SIZE];
    if (path_join(path, folder, "config.json") == OK) return file_exists(path);
    err_clear();
    return false;
}

void published_into_config(Config *config, const Published *published) {
    bool drop_first = config->model.vision.drop_first_patch;
    config->model.vision = published->vision;
    config->model.connector = published->connector;
    config->model.llm = published->llm;
    config->model.template = published->template;
    if (config_stated(config, "vision.drop_first_patch"))
        config->model.vision.drop_first_patch = drop_first;
    if (!config_stated(config, "image_aspect_ratio")) config->image_aspect = published->aspect;
    if (!config_stated(config, "training.max_length"))
        config->training.max_length = published->max_length;
}

/* ---- names that are not used ---- */

static bool starts_with(const char *text, const char *start) {
    return !strncmp(text, start, strlen(start));
}

bool published_is_unused(const ModelSpec *spec, const char *name) {
    static const char tower[] = "vision_tower._vision_tower.vision_model.";
    static const char layers[] = "encoder.layers.";
    if (text_ends_with(name, ".rotary_emb.inv_freq") || text_ends_with(name, ".position_ids"))
        return true;
    if (!starts_with(name, tower)) return false;
    name += sizeof tower - 1;
    if (starts_with(name, "post_layernorm.") || starts_with(name, "head.")) return true;
    if (!starts_with(name, layers)) return false;
    char *end;
    long long layer = strtoll(name + sizeof layers - 1, &end, 10);
    return *end == '.' && layer >= spec->vision.layers;
}

/* ---- writing ---- */

const char *published_dtype(DType dtype) {
    return dtype == DT_F16 ? "float16" : dtype == DT_BF16 ? "bfloat16" : "float32";
}

static Json *tower_to_json(const VisionConfig *v) {
    Json *out = js_new_object();
    js_set_text(out, "model_type", KINDS[v->class_token ? 0 : 1].type);
    js_set_integer(out, "hidden_size", v->width);
    js_set_integer(out, "intermediate_size", v->mlp);
    js_set_integer(out, "num_hidden_layers", v->layers);
    js_set_integer(out, "num_attention_heads", v->heads);
    js_set_integer(out, "num_channels", v->channels);
    js_set_integer(out, "image_size", v->image_size);
    js_set_integer(out, "patch_size", v->patch_size);
    js_set_text(out, "hidden_act", published_activation_name(v->activation));
    js_set_number(out, "layer_norm_eps", v->norm_eps);
    return out;
}

static Json *to_json(const Published *p, DType dtype) {
    Json *out = js_new_object(), *architectures = js_new_array();
    js_push(architectures, js_new_text("TinyLlavaForConditionalGeneration"));
    js_set(out, "architectures", architectures);
    js_set_text(out, "model_type", "tinyllava");
    js_set_text(out, "torch_dtype", published_dtype(dtype));
    js_set_text(out, "llm_model_name_or_path", p->llm_name);
    js_set_text(out, "vision_model_name_or_path", p->vision_name);
    js_set_text(out, "connector_type", "mlp2x_gelu");
    js_set_integer(out, "hidden_size", p->llm.width);
    js_set_integer(out, "vocab_size", p->llm.vocab);
    js_set_integer(out, "vision_hidden_size", p->vision.width);
    js_set_integer(out, "vision_feature_layer", -1); /* of the layers that are there */
    js_set_text(out, "vision_feature_select_strategy",
                p->vision.drop_first_patch ? "patch" : "cls_patch");
    js_set_text(out, "image_aspect_ratio", p->aspect == ASPECT_PAD ? "pad" : "square");
    js_set_integer(out, "tokenizer_model_max_length", p->max_length);
    js_set_text(out, "tokenizer_padding_side", "right");
    js_set_bool(out, "tokenizer_use_fast", false);
    js_set_integer(out, "image_token_index", -200);
    js_set_integer(out, "ignore_index", -100);
    js_set(out, "text_config", published_llm_json(&p->llm));
    js_set(out, "vision_config", tower_to_json(&p->vision));
    return out;
}

static bool same_reals(const RealList *a, const RealList *b) {
    for (int i = 0; i < 3; i++)
        if (a->values[i < a->count ? i : 0] != b->values[i < b->count ? i : 0]) return false;
    return true;
}

static bool same_ints(const IntList *a, const IntList *b, int64_t layers) {
    for (int64_t i = 0; i < layers; i++)
        if (a->values[i < a->count ? i : 0] != b->values[i < b->count ? i : 0]) return false;
    return true;
}

static bool same_tower(const VisionConfig *a, const VisionConfig *b) {
    return a->image_size == b->image_size && a->channels == b->channels &&
           a->patch_size == b->patch_size && a->layers == b->layers && a->width == b->width &&
           a->heads == b->heads && a->mlp == b->mlp && a->activation == b->activation &&
           a->norm_eps == b->norm_eps && same_reals(&a->mean, &b->mean) &&
           same_reals(&a->std, &b->std) && a->drop_first_patch == b->drop_first_patch &&
           a->class_token == b->class_token && a->pre_norm == b->pre_norm &&
           a->patch_bias == b->patch_bias;
}

static bool same_llm(const LlmConfig *a, const LlmConfig *b) {
    return a->layers == b->layers && a->width == b->width && a->head_dim == b->head_dim &&
           a->vocab == b->vocab && same_ints(&a->q_heads, &b->q_heads, a->layers) &&
           same_ints(&a->kv_heads, &b->kv_heads, a->layers) &&
           same_ints(&a->ffn, &b->ffn, a->layers) && a->names == b->names && a->norm == b->norm &&
           a->qk_norm == b->qk_norm && a->bias == b->bias && a->gated == b->gated &&
           a->activation == b->activation && a->parallel == b->parallel &&
           a->tied_head == b->tied_head && a->scale_embedding == b->scale_embedding &&
           a->partial_rotary_factor == b->partial_rotary_factor &&
           a->residual_dropout == b->residual_dropout && a->rope_theta == b->rope_theta &&
           a->norm_eps == b->norm_eps;
}

/* The code of OpenELM makes the heads of each layer from two multipliers; the lists of them are
 * ours to read. */
static Err check_heads_by_rule(const Json *root, const Published *published) {
    LlmConfig by_rule;
    TemplateName template;
    Json *text = js_copy(js_get(root, "text_config"));
    js_set(text, "num_query_heads", js_new_null());
    js_set(text, "num_kv_heads", js_new_null());
    Err err = published_read_llm(&by_rule, &template,
                                 &(JsonKeys){.object = text, .where = "text_config"});
    js_free(&text);
    TRY(err);
    REQUIRE(same_llm(&by_rule, &published->llm), ERR_UNSUPPORTED,
            "no config.json can describe this model: its heads grow from layer to layer otherwise "
            "than OpenELM's, which two multipliers say");
    return OK;
}

/* A model that was described freely may be none that config.json can say: what is read back
 * must be what was written. */
static Err check_says(const Json *root, const Published *published) {
    Published back;
    TRY(read_whole(&back, root, "config.json of this model"));
    REQUIRE(!published->connector.norm && published->connector.activation == ACTIVATION_GELU &&
                same_tower(&back.vision, &published->vision) &&
                same_llm(&back.llm, &published->llm),
            ERR_UNSUPPORTED,
            "this model is none of the published kinds (SigLIP or CLIP, two linears, OpenELM, "
            "Llama, Gemma or Phi), so that no config.json can describe it");
    return check_heads_by_rule(root, published);
}

Err published_write_config(const Published *published, DType dtype, const char *folder) {
    char path[PATH_SIZE];
    TRY(path_join(path, folder, "config.json"));
    Json *root = to_json(published, dtype);
    Err err = check_says(root, published);
    if (err == OK) err = js_write(path, root);
    js_free(&root);
    return err;
}
