/* Published model folders: what config.json says; their weights are in test_published_weights.c. */
#include "core/file.h"
#include "core/json.h"
#include "tests/model/golden_model.h"
#include "tests/support/test.h"

/* Reads the config of a folder with this text as config.json. */
static Err read_text(Published *out, const char *text) {
    const char *folder = golden_new_folder("config");
    FILE *file = fopen(golden_path(folder, "config.json"), "wb");
    ASSERT_TRUE(file && fputs(text, file) >= 0);
    fclose(file);
    return published_read(out, folder);
}

#define TOP       "\"model_type\":\"tinyllava\",\"connector_type\":\"mlp2x_gelu\""
#define ANY_LLM   ",\"text_config\":{\"model_type\":\"llama\"}"
#define ANY_TOWER ",\"vision_config\":{\"model_type\":\"siglip_vision_model\"}"

TEST(a_config_with_names_alone_has_the_sizes_of_the_known_parts) {
    Published p;
    ASSERT_OK(read_text(&p, "{" TOP ",\"llm_model_name_or_path\":\"apple/OpenELM-450M-Instruct\","
                            "\"vision_model_name_or_path\":"
                            "\"clip:openai/clip-vit-base-patch16\"}"));
    /* spec: OpenELM-450M, a row for each layer */
    static const int64_t q[20] = {12, 12, 12, 16, 16, 16, 16, 16, 16, 16,
                                  20, 20, 20, 20, 20, 20, 24, 24, 24, 24};
    static const int64_t ffn[20] = {768,  1024, 1280, 1536, 1792, 2304, 2560, 2816, 3072, 3328,
                                    3584, 3840, 4096, 4352, 4608, 5120, 5376, 5632, 5888, 6144};
    ASSERT_INT(p.llm.layers, ==, 20);
    for (int i = 0; i < 20; i++) {
        ASSERT_INT(p.llm.q_heads.values[i], ==, q[i]);
        ASSERT_INT(p.llm.kv_heads.values[i], ==, q[i] / 4);
        ASSERT_INT(p.llm.ffn.values[i], ==, ffn[i]);
    }
    ASSERT_TRUE(p.llm.qk_norm && p.llm.tied_head && p.llm.gated && !p.llm.bias);
    ASSERT_TEXT(p.vision_name, "openai/clip-vit-base-patch16");
    ASSERT_INT(p.vision.layers, ==, 11); /* hidden_states[-2] of 12 */
    ASSERT_INT(p.vision.width, ==, 768);
    ASSERT_TRUE(p.vision.class_token && p.vision.pre_norm && !p.vision.patch_bias);
    ASSERT_TRUE(p.vision.fit == FIT_CROP && p.vision.activation == ACTIVATION_QUICK_GELU);
    ASSERT_INT(p.vision.mean.count, ==, 3);
    ASSERT_REAL(p.vision.std.values[2], ==, 0.27577711);
    ASSERT_INT(p.max_length, ==, 2048);
    ASSERT_TRUE(p.template == TEMPLATE_NAME_LLAMA && p.aspect == ASPECT_SQUARE);

    ASSERT_OK(read_text(&p, "{" TOP ",\"llm_model_name_or_path\":\"/models/phi-2\","
                            "\"vision_model_name_or_path\":"
                            "\"google/siglip-so400m-patch14-384\"}"));
    ASSERT_INT(p.llm.head_dim, ==, 80);
    ASSERT_REAL(p.llm.partial_rotary_factor * 80, ==, 32);
    ASSERT_TRUE(p.llm.parallel && p.llm.bias && !p.llm.gated && !p.llm.tied_head);
    ASSERT_REAL(p.llm.residual_dropout, ==, 0.1);
    ASSERT_INT(p.vision.layers, ==, 26);
    ASSERT_REAL(p.vision.norm_eps, ==, 1e-6);
    ASSERT_TRUE(p.vision.fit == FIT_SQUASH && p.vision.patch_bias && p.vision.drop_first_patch);

    ASSERT_OK(
        read_text(&p, "{" TOP ANY_TOWER ",\"llm_model_name_or_path\":\"google/gemma-2b-it\"}"));
    ASSERT_INT(p.llm.kv_heads.values[0], ==, 1);
    ASSERT_INT(p.llm.head_dim, ==, 256);
    ASSERT_TRUE(p.llm.scale_embedding && p.llm.norm == NORM_RMS_PLUS_ONE && p.llm.tied_head);
    ASSERT_TRUE(p.template == TEMPLATE_NAME_GEMMA);
}

TEST(what_a_config_leaves_out_is_the_default_of_transformers) {
    Published p;
    ASSERT_OK(read_text(&p, "{" TOP ",\"text_config\":{},\"vision_config\":{}}"));
    ASSERT_INT(p.llm.width, ==, 4096); /* LlamaConfig */
    ASSERT_INT(p.llm.ffn.values[0], ==, 11008);
    ASSERT_INT(p.llm.kv_heads.values[0], ==, 32);
    ASSERT_INT(p.llm.head_dim, ==, 128);
    ASSERT_REAL(p.llm.norm_eps, ==, 1e-6);
    ASSERT_TRUE(!p.llm.tied_head && p.llm.activation == ACTIVATION_SILU);
    ASSERT_INT(p.vision.patch_size, ==, 32); /* CLIPVisionConfig */
    ASSERT_REAL(p.vision.norm_eps, ==, 1e-5);
    ASSERT_OK(read_text(&p, "{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"gemma\","
                            "\"hidden_act\":\"gelu\"}}"));
    ASSERT_INT(p.llm.layers, ==, 28);
    ASSERT_INT(p.llm.ffn.values[0], ==, 24576);
    ASSERT_INT(p.llm.head_dim, ==, 256);
    ASSERT_TRUE(p.llm.activation == ACTIVATION_GELU_TANH); /* whatever hidden_act says */
    ASSERT_INT(p.vision.patch_size, ==, 16);               /* SiglipVisionConfig */
    ASSERT_OK(read_text(&p, "{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"gemma\","
                            "\"hidden_activation\":\"gelu\"}}"));
    ASSERT_TRUE(p.llm.activation == ACTIVATION_GELU);
    ASSERT_OK(read_text(&p, "{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"phi\"}}"));
    ASSERT_INT(p.llm.layers, ==, 24);
    ASSERT_REAL(p.llm.partial_rotary_factor, ==, 0.5);
    ASSERT_REAL(p.llm.residual_dropout, ==, 0);
    ASSERT_REAL(p.llm.norm_eps, ==, 1e-5);
    ASSERT_OK(read_text(&p, "{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"openelm\"}}"));
    ASSERT_INT(p.llm.layers, ==, 12);
    ASSERT_INT(p.llm.head_dim, ==, 128);
    ASSERT_INT(p.llm.q_heads.values[11], ==, 16);
    ASSERT_INT(p.llm.ffn.values[0], ==, 8192);
    ASSERT_TRUE(!p.llm.qk_norm && !p.llm.tied_head);
}

TEST(the_feature_layer_says_how_many_layers_run) {
    static const struct {
        int feature, layers;
    } cases[] = {{-2, 11}, {-1, 12}, {-12, 1}, {1, 1}, {12, 12}};
    Published p;
    char text[512];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(text, sizeof text,
                 "{" TOP ANY_LLM ANY_TOWER ",\"vision_feature_layer\":%d,"
                 "\"vision_feature_select_strategy\":\"cls_patch\"}",
                 cases[i].feature);
        ASSERT_OK(read_text(&p, text));
        ASSERT_INT(p.vision.layers, ==, cases[i].layers);
        ASSERT_TRUE(!p.vision.drop_first_patch);
    }
    static const int wrong[] = {0, 13, -13, -14};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        snprintf(text, sizeof text, "{" TOP ANY_LLM ANY_TOWER ",\"vision_feature_layer\":%d}",
                 wrong[i]);
        ASSERT_ERR(read_text(&p, text), ERR_INPUT, "of a tower with 12 layers");
    }
}

TEST(what_is_computed_otherwise_is_refused_by_name) {
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"{\"model_type\":\"llava\"}", "model_type \"llava\""},
        {"{\"connector_type\":\"mlp2x_gelu\"}", "tinyllava is expected"},
        {"{\"model_type\":\"tinyllava\",\"connector_type\":\"resampler\"}", "\"resampler\""},
        {"{\"model_type\":\"tinyllava\",\"connector_type\":\"mlp1x_gelu\"}", "\"mlp1x_gelu\""},
        {"{\"model_type\":\"tinyllava\"}", "\"connector_type\" is \"\""},
        {"{" TOP ANY_LLM ANY_TOWER ",\"image_aspect_ratio\":\"anyres\"}", "\"anyres\""},
        {"{" TOP ANY_LLM ANY_TOWER ",\"vision_feature_select_strategy\":\"cls\"}", "\"cls\""},
        {"{" TOP ANY_LLM ANY_TOWER ",\"vision_model_name_or_path2\":\"facebook/dinov2\"}",
         "a second vision tower"},
        {"{" TOP ANY_LLM ANY_TOWER ",\"quantization_config\":{\"bits\":4}}", "quantised weights"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"qwen2\"}}", "\"qwen2\""},
        {"{" TOP ANY_TOWER ",\"llm_model_name_or_path\":\"x/y\"}",
         "sizes of \"x/y\" are not known"},
        {"{" TOP ANY_LLM "}", "has no \"vision_config\""},
        {"{" TOP ANY_LLM ",\"vision_config\":{\"model_type\":\"dinov2\"}}", "\"dinov2\""},
        {"{" TOP ANY_LLM ",\"vision_config\":{\"attention_dropout\":0.1}}", "attention_dropout"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"rope_scaling\":{\"type\":\"linear\"}}}",
         "stretched rotary angles"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"attention_bias\":true}}", "biases in attention"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"sliding_window\":4096}}", "attention to a window"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"attention_dropout\":0.1}}", "dropout"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"hidden_act\":\"relu\"}}", "activation \"relu\""},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"phi\",\"qk_layernorm\":true}}",
         "LayerNorms of queries and keys"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"phi\",\"embd_pdrop\":0.1}}",
         "embd_pdrop"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"openelm\",\"ffn_with_glu\":false}}",
         "no gate"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"openelm\","
         "\"normalization_layer_name\":\"layer_norm\"}}",
         "\"layer_norm\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Published p;
        ASSERT_ERR(read_text(&p, cases[i].text), ERR_UNSUPPORTED, cases[i].part);
    }
    Published p;
    ASSERT_OK(read_text(&p, "{" TOP ANY_TOWER ",\"text_config\":{\"rope_scaling\":"
                            "{\"rope_type\":\"default\"}}}"));
}

/* Python: [round(0.5 + i · 3.5 / 3, 2) for i in range(4)] is [0.5, 1.67, 2.83, 4.0]. */
TEST(multipliers_of_openelm_have_two_decimals) {
    static const int ffn[] = {512, 1710, 2898, 4096}; /* 1024 times them, to whole numbers */
    Published p;
    ASSERT_OK(read_text(&p, "{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"openelm\","
                            "\"num_transformer_layers\":4,\"model_dim\":1024,\"head_dim\":64,"
                            "\"ffn_dim_divisor\":1,\"ffn_multipliers\":[0.5,4.0]}}"));
    for (int i = 0; i < 4; i++) ASSERT_INT(p.llm.ffn.values[i], ==, ffn[i]);
}

/* ---- files of transformers 5, and keys that nobody knows ---- */

#define PHI_5(rope)                                                                                \
    "{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"phi\",\"hidden_size\":40,"               \
    "\"num_attention_heads\":2," rope "}}"

TEST(rotary_angles_are_read_where_transformers_5_writes_them) {
    Published p;
    ASSERT_OK(read_text(&p, PHI_5("\"rope_parameters\":{\"partial_rotary_factor\":0.4,"
                                  "\"rope_theta\":12345.0,\"rope_type\":\"default\"}")));
    ASSERT_REAL(p.llm.partial_rotary_factor, ==, 0.4);
    ASSERT_REAL(p.llm.rope_theta, ==, 12345);
    ASSERT_OK(read_text(&p, PHI_5("\"rope_parameters\":{\"rope_theta\":500},"
                                  "\"_flash_attn_2_enabled\":true")));
    ASSERT_REAL(p.llm.partial_rotary_factor, ==, 0.5); /* PhiConfig's own */
    ASSERT_REAL(p.llm.rope_theta, ==, 500);
    ASSERT_OK(read_text(&p, PHI_5("\"rope_parameters\":null,\"rope_theta\":501")));
    ASSERT_REAL(p.llm.rope_theta, ==, 501);
    ASSERT_OK(read_text(&p, PHI_5("\"rope_parameters\":{\"partial_rotary_factor\":0.4},"
                                  "\"partial_rotary_factor\":0.4,\"rope_theta\":502")));
    ASSERT_REAL(p.llm.partial_rotary_factor, ==, 0.4);
    ASSERT_REAL(p.llm.rope_theta, ==, 502);
    ASSERT_OK(
        read_text(&p, "{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"llama\","
                      "\"rope_parameters\":{\"rope_theta\":1e6,\"partial_rotary_factor\":1.0}}}"));
    ASSERT_REAL(p.llm.rope_theta, ==, 1e6);
    ASSERT_REAL(p.llm.partial_rotary_factor, ==, 1);
    ASSERT_OK(read_text(&p, "{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"gemma\","
                            "\"rope_parameters\":{\"rope_theta\":777}}}"));
    ASSERT_REAL(p.llm.rope_theta, ==, 777);

    ASSERT_ERR(read_text(&p, PHI_5("\"rope_parameters\":{\"rope_theta\":500},\"rope_theta\":600")),
               ERR_INPUT, "\"rope_theta\" is 600, but 500 in rope_parameters");
    ASSERT_ERR(read_text(&p, PHI_5("\"rope_parameters\":[1]")), ERR_INPUT,
               "rope_parameters is no JSON object");
    ASSERT_ERR(read_text(&p, PHI_5("\"rope_parameters\":{\"rope_theta\":0}")), ERR_INPUT,
               "rope_parameters: \"rope_theta\" is 0");
    ASSERT_ERR(read_text(&p, PHI_5("\"rope_parameters\":{\"rope_type\":7}")), ERR_INPUT,
               "\"rope_type\" is no text");
}

TEST(stretched_rotary_angles_are_refused_by_name) {
    static const char *const kinds[] = {"linear",   "dynamic", "yarn",
                                        "longrope", "llama3",  "proportional"};
    static const char *const keys[] = {"rope_parameters", "rope_scaling"};
    static const char *const models[] = {"phi", "llama", "gemma"};
    for (int i = 0; i < 6 * 2 * 2 * 3; i++) {
        char rope[200], text[600], part[100];
        Published p;
        snprintf(rope, sizeof rope, "\"%s\":{\"%s\":\"%s\",\"factor\":2}", keys[i / 2 % 2],
                 i % 2 ? "type" : "rope_type", kinds[i / 12]);
        snprintf(text, sizeof text,
                 "{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"%s\",%s}}",
                 models[i / 4 % 3], rope);
        snprintf(part, sizeof part, "%s asks for stretched rotary angles of the kind \"%s\"",
                 keys[i / 2 % 2], kinds[i / 12]);
        ASSERT_ERR(read_text(&p, text), ERR_UNSUPPORTED, part);
    }
}

TEST(a_key_that_nobody_knows_is_refused) {
    static const struct {
        const char *text, *part;
    } cases[] = {
        {PHI_5("\"attn_logit_softcapping\":50.0"),
         "text_config: \"attn_logit_softcapping\" is not"},
        {PHI_5("\"a\":1,\"b\":null,\"c\":false"), "\"a\", \"c\" are not understood"},
        {PHI_5("\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6"), "\"e\" and others are not"},
        {PHI_5("\"rms_norm_eps\":1e-6"), "\"rms_norm_eps\" is not"}, /* another family's */
        {PHI_5("\"n_embd\":40"), "\"n_embd\""},
        {PHI_5("\"per_layer_config\":{\"1\":{}}"), "\"per_layer_config\""},
        {PHI_5("\"use_bidirectional_attention\":true"), "attention to rows behind"},
        {PHI_5("\"add_cross_attention\":true"), "attention to an encoder"},
        {PHI_5("\"pruned_heads\":{\"0\":[1]}"), "heads that are cut out"},
        {PHI_5("\"rope_parameters\":{\"factor\":2}"), "rope_parameters: \"factor\" is not"},
        {PHI_5("\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1}}"),
         "\"full_attention\""},
        {PHI_5("\"rope_scaling\":{\"rope_type\":\"default\",\"rope_theta\":5}"),
         "rope_scaling: \"rope_theta\" is not"},
        {PHI_5("\"rope_scaling\":{\"rope_type\":\"default\",\"mrope_section\":[1]}"),
         "rope_scaling: \"mrope_section\" is not"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"partial_rotary_factor\":0.5}}",
         "all channels turn in this kind"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"gemma\",\"rope_parameters\":"
         "{\"partial_rotary_factor\":0.5}}}",
         "all channels turn in this kind"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"gemma\",\"hidden_act\":\"silu\"}}",
         "say in \"hidden_activation\" what is meant"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"openelm\",\"rope_parameters\":"
         "{\"rope_theta\":5}}}",
         "\"rope_parameters\" is not"},
        {"{" TOP ANY_LLM ",\"vision_config\":{\"interpolate_mode\":\"x\"}}",
         "vision_config: \"interpolate_mode\" is not"},
        {"{" TOP ANY_LLM ",\"vision_config\":{\"model_name_or_path2\":\"x\"}}",
         "a second vision tower"},
        {"{" TOP ANY_LLM ANY_TOWER ",\"mm_patch_merge_type\":\"spatial\"}",
         "config.json: \"mm_patch_merge_type\" is not"},
    };
    Published p;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        ASSERT_ERR(read_text(&p, cases[i].text), ERR_UNSUPPORTED, cases[i].part);
    ASSERT_ERR(read_text(&p, "{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"openelm\","
                             "\"share_input_output_layers\":false,\"tie_word_embeddings\":true}}"),
               ERR_INPUT, "whether the head is the embedding is not said");
}

/* tools/reference/config_golden.py: all that each class writes, in three versions. */
TEST(what_transformers_writes_is_read_whatever_its_version) {
    static const char *const versions[] = {"4.39.3", "4.57.1", "5.24.0"};
    static const char *const llms[] = {"llama", "gemma", "phi"};
    static const char *const towers[] = {"clip_vision_model", "siglip_vision_model"};
    static const int widths[] = {4096, 3072, 2048}, patches[] = {32, 16};
    char path[PATH_SIZE];
    Json *root;
    snprintf(path, sizeof path, "%s/tests/golden/transformers_configs.json", test_source_folder());
    ASSERT_OK(js_read(&root, path, 1 << 20));
    for (int i = 0; i < 3 * 3 * 2; i++) {
        const Json *version = js_get(root, versions[i % 3]);
        int llm = i / 3 % 3, tower = i / 9;
        Json *config = js_new_object();
        Published p;
        Buf text = {0};
        js_set_text(config, "model_type", "tinyllava");
        js_set_text(config, "connector_type", "mlp2x_gelu");
        js_set(config, "text_config", js_copy(js_get(version, llms[llm])));
        js_set(config, "vision_config", js_copy(js_get(version, towers[tower])));
        js_print(&text, config, JSON_ONE_LINE, 15);
        ASSERT_OK(read_text(&p, buf_cstr(&text)));
        ASSERT_INT(p.llm.width, ==, widths[llm]);
        ASSERT_REAL(p.llm.rope_theta, ==, 10000);
        ASSERT_REAL(p.llm.partial_rotary_factor, ==, llm == 2 ? 0.5 : 1);
        ASSERT_INT(p.vision.patch_size, ==, patches[tower]);
        ASSERT_TRUE(p.llm.tied_head == (llm == 1));
        buf_free(&text);
        js_free(&config);
    }
    js_free(&root);
}

TEST(absurd_numbers_are_refused_with_their_bounds) {
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"[]", "no JSON object"},
        {"{\"model_type\":7}", "\"model_type\" is no text"},
        {"{" TOP ",\"text_config\":[],\"vision_config\":{}}", "\"text_config\" is no object"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"hidden_size\":9223372036854775807}}",
         "\"hidden_size\" is 9223372036854775807; 1 to 65536"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"hidden_size\":-1}}", "\"hidden_size\" is -1"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"hidden_size\":64.5}}", "not a whole number"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"hidden_size\":\"64\"}}", "not a whole number"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"num_hidden_layers\":100000}}", "1 to 128"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"num_attention_heads\":0}}", "is 0; 1 to 1024"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"num_attention_heads\":33}}", "no multiple of"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"num_key_value_heads\":5}}",
         "32 query heads for 5 key heads"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"hidden_size\":32}}", "heads of 1 channels"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"num_attention_heads\":2}}", "heads of 2048"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"hidden_size\":96}}", "heads of 3 channels"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"rms_norm_eps\":-1}}", "0 to 1 is possible"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"rope_theta\":0}}", "rope_theta"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"vocab_size\":1000000000}}", "vocab_size"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"tie_word_embeddings\":1}}", "neither true nor"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"phi\","
         "\"partial_rotary_factor\":0.3}}",
         "an even number is needed"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"openelm\","
         "\"ffn_multipliers\":[1,2,3]}}",
         "has 3 numbers for 12 layers"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"openelm\","
         "\"ffn_multipliers\":[1,\"x\"]}}",
         "\"ffn_multipliers\"[1] is no number"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"openelm\","
         "\"ffn_multipliers\":1e300}}",
         "0.01 to 64"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"openelm\","
         "\"num_query_heads\":[12,12]}}",
         "no list of 12 numbers"},
        {"{" TOP ANY_TOWER ",\"text_config\":{\"model_type\":\"openelm\",\"num_gqa_groups\":3,"
         "\"num_query_heads\":[2,2,2,2,2,2,2,2,2,2,2,2]}}",
         "2 query heads for 0 key heads"},
        {"{" TOP ANY_LLM ",\"vision_config\":{\"hidden_size\":770}}", "no multiple of"},
        {"{" TOP ANY_LLM ",\"vision_config\":{\"patch_size\":300}}", "larger than image_size"},
        {"{" TOP ANY_LLM ",\"vision_config\":{\"num_channels\":4}}", "3 to 3"},
        {"{" TOP ANY_LLM ANY_TOWER ",\"tokenizer_model_max_length\":99999999999}", "1048576"},
        {"{" TOP ANY_LLM ANY_TOWER ",\"vision_feature_layer\":[-2,-1]}", "not a whole number"},
        {"{\"model_type\":", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Published p;
        ASSERT_ERR(read_text(&p, cases[i].text), ERR_INPUT, cases[i].part);
    }
    Published p;
    ASSERT_ERR(published_read(&p, test_path("absent")), ERR_INPUT, "cannot open");
    ASSERT_TRUE(!published_is(test_path("absent")));
    ASSERT_TRUE(published_is(golden_folder("tinyllama", NULL)));
}

TEST(a_config_written_is_read_back_as_it_was) {
    for (int i = 0; i < GOLDEN_ARCHS; i++) {
        Published p, back;
        const char *folder = golden_new_folder("written");
        ASSERT_OK(published_read(&p, golden_folder(golden_archs[i], NULL)));
        p.max_length = 4096;
        p.aspect = ASPECT_PAD;
        p.vision.drop_first_patch = i % 2;
        ASSERT_OK(published_write_config(&p, DT_BF16, folder)); /* checks tower and decoder */
        ASSERT_OK(published_read(&back, folder));
        ASSERT_INT(back.vision.layers, ==, p.vision.layers);
        ASSERT_INT(back.llm.ffn.values[0], ==, p.llm.ffn.values[0]);
        ASSERT_TRUE(back.vision.drop_first_patch == (i % 2) && back.aspect == ASPECT_PAD);
        ASSERT_TRUE(back.template == p.template);
        ASSERT_INT(back.max_length, ==, 4096);
        ASSERT_TEXT(back.llm_name, p.llm_name);
    }
}

TEST(a_model_that_no_config_can_say_is_not_written_as_one) {
    Published p;
    ASSERT_OK(published_read(&p, golden_folder("openecad_0.89b", NULL)));
    Published gray = p, normed = p, biased = p, grown = p;
    const char *folder = golden_new_folder("unsaid");
    gray.vision.channels = 1;
    ASSERT_ERR(published_write_config(&gray, DT_F32, folder), ERR_INPUT, "num_channels");
    normed.connector.norm = true;
    ASSERT_ERR(published_write_config(&normed, DT_F32, folder), ERR_UNSUPPORTED,
               "none of the published kinds");
    biased.llm.bias = true;
    ASSERT_ERR(published_write_config(&biased, DT_F32, folder), ERR_UNSUPPORTED,
               "none of the published kinds");
    grown.llm.q_heads = (IntList){3, {2, 2, 4}}; /* two multipliers say 2, 4, 4 */
    grown.llm.kv_heads = (IntList){3, {1, 1, 2}};
    ASSERT_ERR(published_write_config(&grown, DT_F32, folder), ERR_UNSUPPORTED,
               "heads grow from layer to layer");
    ASSERT_TRUE(!file_exists(golden_path(folder, "config.json")));
}

TEST(what_the_user_chose_is_kept_beside_a_published_model) {
    Published p;
    ASSERT_OK(published_read(&p, golden_folder("openecad_3.1b", NULL)));
    Config *config = malloc(sizeof *config);
    static const char nothing[] = "train_data: x\n",
                      chosen[] = "train_data: x\nvision: { drop_first_patch: false }\n"
                                 "image_aspect_ratio: pad\ntraining: { max_length: 1000 }\n";
    ASSERT_OK(config_parse(config, nothing, strlen(nothing), "a", NULL, 0));
    published_into_config(config, &p);
    ASSERT_INT(config->model.llm.vocab, ==, 320);
    ASSERT_INT(config->training.max_length, ==, 3072);
    ASSERT_TRUE(config->model.vision.drop_first_patch && config->image_aspect == ASPECT_SQUARE);
    ASSERT_TRUE(config->model.template == TEMPLATE_NAME_PHI);
    ASSERT_OK(config_parse(config, chosen, strlen(chosen), "a", NULL, 0));
    published_into_config(config, &p);
    ASSERT_INT(config->training.max_length, ==, 1000);
    ASSERT_TRUE(!config->model.vision.drop_first_patch && config->image_aspect == ASPECT_PAD);
    ASSERT_INT(config->model.vision.layers, ==, p.vision.layers);
    free(config);
}

TEST(what_a_model_never_uses_is_known_by_name) {
    ModelSpec spec = {.vision.layers = 26};
    static const char *const unused[] = {
        "vision_tower._vision_tower.vision_model.encoder.layers.26.mlp.fc1.weight",
        "vision_tower._vision_tower.vision_model.encoder.layers.26.self_attn.q_proj",
        "vision_tower._vision_tower.vision_model.post_layernorm.weight",
        "vision_tower._vision_tower.vision_model.head.attention.in_proj_weight",
        "vision_tower._vision_tower.vision_model.embeddings.position_ids",
        "language_model.model.layers.3.self_attn.rotary_emb.inv_freq",
    };
    static const char *const used[] = {
        "vision_tower._vision_tower.vision_model.encoder.layers.25.mlp.fc1.weight",
        "vision_tower._vision_tower.vision_model.encoder.layers.x.mlp.fc1.weight",
        "vision_tower._vision_tower.vision_model.embeddings.patch_embedding.weight",
        "language_model.lm_head.weight",
        "language_model.model.layers.26.mlp.up_proj.weight",
    };
    for (size_t i = 0; i < sizeof unused / sizeof unused[0]; i++)
        ASSERT(published_is_unused(&spec, unused[i]), "%s", unused[i]);
    for (size_t i = 0; i < sizeof used / sizeof used[0]; i++)
        ASSERT(!published_is_unused(&spec, used[i]), "%s", used[i]);
}
