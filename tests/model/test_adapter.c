/* Adapters in PEFT's files, and models exported: read, gone on with, merged, written. */
#include "core/file.h"
#include "model/files/adapter.h"
#include "model/files/dtype_convert.h"
#include "model/files/merge.h"
#include "tests/model/golden_model.h"
#include "tests/support/test.h"

#define ARCH "openecad_0.89b" /* the one with an adapter beside it */

/* ---- adapters made here ---- */

typedef struct Made {
    const char *config;                         /* the rest of adapter_config.json */
    int (*rank)(const char *module, int layer); /* 0: not adapted */
    const char *prefix, *middle;                /* of keys; NULL: PEFT's own */
    DType dtype;
} Made;

static int layer_of(const char *name) {
    const char *at = strstr(name, ".layers.");
    return at ? atoi(at + 8) : -1;
}

/* A linear that TinyLLaVA's rule adapts. */
static bool is_target(const Param *p) {
    return p->kind == PARAM_MATRIX && layer_of(p->name) >= 0;
}

static void write_adapter(const char *folder, const Params *params, const Made *made) {
    enum { MOST = 200 };
    static char keys[MOST][PARAM_NAME + 64];
    SafeTensor tensors[MOST];
    int count = 0;
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        int64_t r = is_target(p) ? made->rank(p->name, layer_of(p->name)) : 0;
        for (int b = 0; b < 2 && r; b++) {
            SafeTensor *t = &tensors[count];
            *t = (SafeTensor){.name = keys[count], .dtype = made->dtype, .dims = 2};
            t->shape[0] = b ? p->rows : r;
            t->shape[1] = b ? r : p->cols;
            t->count = t->shape[0] * t->shape[1];
            snprintf(keys[count], sizeof keys[0], "%s%.*s.lora_%c.%sweight",
                     made->prefix ? made->prefix : "base_model.model.",
                     (int)(strlen(p->name) - strlen(".weight")), p->name, b ? 'B' : 'A',
                     made->middle ? made->middle : "");
            float *x = malloc((size_t)t->count * sizeof *x);
            for (int64_t k = 0; k < t->count; k++) x[k] = golden_wave(k, b);
            void *data = malloc((size_t)t->count * sizeof *x);
            dtype_narrow(data, t->dtype, x, t->count);
            free(x);
            t->data = data;
            ASSERT_INT(++count, <, MOST);
        }
    }
    ASSERT_OK(safetensors_write(golden_path(folder, "adapter_model.safetensors"), tensors, count));
    for (int i = 0; i < count; i++) free((void *)(uintptr_t)tensors[i].data);
    Buf config = {0};
    buf_format(&config, "{\"peft_type\":\"LORA\",\"base_model_name_or_path\":\"here\",%s}",
               made->config);
    golden_write_text(folder, "adapter_config.json", buf_cstr(&config));
    buf_free(&config);
}

static int everywhere(const char *module, int layer) {
    (void)module;
    (void)layer;
    return 4;
}

/* ---- reading ---- */

TEST(an_adapter_of_peft_is_read_under_both_styles_of_keys) {
    Adapter *plain = golden_adapter(golden_folder(ARCH, "adapter")),
            *named = golden_adapter(golden_folder(ARCH, "adapter_default_keys"));
    ASSERT_INT(adapter_count(plain), ==, 30);
    ASSERT_INT(adapter_count(named), ==, 30);
    for (int i = 0; i < 30; i++) {
        const AdapterModule *a = adapter_at(plain, i), *b = adapter_at(named, i);
        ASSERT_TEXT(a->name, b->name);
        ASSERT_TRUE(!strstr(a->name, "base_model") && !strstr(a->name, "lora"));
        ASSERT_INT(a->r, ==, 4);
        ASSERT_REAL(a->alpha, ==, 8);
        ASSERT_REAL(a->scale, ==, 2);
        ASSERT_INT(memcmp(a->a->data, b->a->data, a->a->bytes), ==, 0);
        ASSERT_INT(memcmp(a->b->data, b->b->data, a->b->bytes), ==, 0);
        ASSERT_TRUE(adapter_find(plain, a->name) == a);
    }
    ASSERT_TRUE(adapter_find(plain, "lm_head") == NULL);
    ASSERT_INT(adapter_whole_count(plain), ==, 4); /* the connector, from the file beside */
    ASSERT_TRUE(adapter_whole(plain, "connector._connector.0.weight") != NULL);
    ASSERT_TEXT(adapter_config(plain)->base, "..");
    ASSERT_REAL(adapter_config(plain)->lora.dropout, ==, 0);
    adapter_close(&plain);
    adapter_close(&named);
}

/* ---- going on with one ---- */

TEST(a_model_with_the_adapter_has_the_loss_that_peft_has) {
    static const char *const folders[] = {"adapter", "adapter_default_keys"};
    for (int i = 0; i < 2; i++) {
        GoldenModel golden;
        int loaded;
        Adapter *adapter = golden_adapter(golden_folder(ARCH, folders[i]));
        golden_open_tuned(&golden, ARCH, TUNE_LORA, TUNE_FULL, TUNE_LORA, NULL);
        const Params *params = model_params(golden.model);
        float *flat = calloc((size_t)params->trained, sizeof *flat);
        ASSERT_OK(model_load_adapter(golden.model, adapter, flat, &loaded));
        ASSERT_INT(loaded, ==,
                   24); /* without those of the tower's last layer, which does not run */
        ASSERT_NEAR(golden_loss(&golden, ARCH) / golden_expected(ARCH, "after20_loss"), 1, 2e-6);
        for (int k = 0; k < params->count; k++) { /* masters and values are the same numbers */
            const Param *p = &params->items[k];
            if (!p->trained) continue;
            float *values = golden_values(&golden, p->name);
            ASSERT_INT(memcmp(values, flat + p->first, (size_t)(p->rows * p->cols) * 4), ==, 0);
            free(values);
        }
        free(flat);
        adapter_close(&adapter);
        golden_close(&golden);
    }
}

TEST(an_adapter_merged_while_the_base_is_loaded_gives_that_loss_too) {
    const char *folder = golden_folder(ARCH, NULL);
    GoldenModel golden;
    ModelSpec spec;
    LoadReport report;
    Adapter *adapter = golden_adapter(golden_folder(ARCH, "adapter"));
    golden_spec(&spec, folder, TUNE_FROZEN, TUNE_FROZEN, TUNE_FROZEN);
    golden_open(&golden, &spec, DT_F32);
    ASSERT_OK(golden_try_load(&golden, folder, adapter, &report));
    ASSERT_INT(report.merged, ==, 24);
    ASSERT_NEAR(golden_loss(&golden, ARCH) / golden_expected(ARCH, "after20_loss"), 1, 5e-6);
    adapter_close(&adapter);
    golden_close(&golden);
}

/* A = B = 1e30 in one module of tinyllama: finite numbers, whose products are not. */
static void write_huge(const char *folder) {
#define HUGE_KEY(end) "base_model.model.language_model.model.layers.0.mlp.up_proj." end
    float numbers[4 * 48];
    for (int i = 0; i < 4 * 48; i++) numbers[i] = 1e30f;
    SafeTensor tensors[] = {
        {.name = HUGE_KEY("lora_A.weight"), .dims = 2, .shape = {4, 48}, .count = 192},
        {.name = HUGE_KEY("lora_B.weight"), .dims = 2, .shape = {40, 4}, .count = 160}};
    for (int i = 0; i < 2; i++) tensors[i].data = numbers;
    ASSERT_OK(safetensors_write(golden_path(folder, "adapter_model.safetensors"), tensors, 2));
    golden_write_text(folder, "adapter_config.json", "{\"peft_type\":\"LORA\",\"r\":4}");
}

TEST(merging_is_w_plus_scale_b_a) {
    const char *folder = golden_new_folder("merging"), *base = golden_folder("tinyllama", NULL);
    GoldenModel golden;
    WeightFiles *files;
    ModelSpec spec;
    golden_spec(&spec, base, TUNE_FROZEN, TUNE_FROZEN, TUNE_FROZEN);
    golden_open(&golden, &spec, DT_F32);
    const Params *params = model_params(golden.model);
    write_adapter(folder, params,
                  &(Made){.config = "\"r\":4,\"lora_alpha\":6,\"use_rslora\":true",
                          .rank = everywhere,
                          .dtype = DT_F32});
    Adapter *adapter = golden_adapter(folder);
    ASSERT_REAL(adapter_at(adapter, 0)->scale, ==, 3); /* 6 / √4 */
    ASSERT_OK(weight_files_open(&files, base));
    golden_load(&golden, base, adapter);
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        float *found = golden_values(&golden, p->name);
        const SafeTensor *w = weight_files_find(files, p->name);
        for (int64_t row = 0; row < p->rows; row++)
            for (int64_t col = 0; col < p->cols; col++) {
                double sum = (double)((const float *)w->data)[row * p->cols + col];
                for (int64_t k = 0; k < 4 && is_target(p); k++)
                    sum += 3 * (double)golden_wave(row * 4 + k, true) *
                           (double)golden_wave(k * p->cols + col, false);
                ASSERT(golden_is_close((double)found[row * p->cols + col], sum), "%s", p->name);
            }
        free(found);
    }
    weight_files_close(&files);
    adapter_close(&adapter);
    golden_close(&golden);
}

TEST(a_merge_that_overflows_is_refused_with_the_place) {
    const char *folder = golden_new_folder("huge"), *base = golden_folder("tinyllama", NULL);
    for (int mapped = 0; mapped < 2; mapped++) {
        GoldenModel golden;
        ModelSpec spec;
        golden_spec(&spec, base, TUNE_FROZEN, TUNE_FROZEN, TUNE_FROZEN);
        spec.mapped = mapped;
        golden_open(&golden, &spec, DT_F32);
        write_huge(folder);
        Adapter *adapter = golden_adapter(folder);
        ASSERT_ERR(golden_try_load(&golden, base, adapter, NULL), ERR_INPUT,
                   "huge: language_model.model.layers.0.mlp.up_proj.weight[0] is inf");
        adapter_close(&adapter);
        golden_close(&golden);
    }
}

/* ---- in the words of a config ---- */

static int in_decoder(const char *module, int layer) {
    (void)layer;
    return strstr(module, "language_model") ? 4 : 0;
}

static int queries_of_both(const char *module, int layer) {
    (void)layer;
    return strstr(module, "q_proj") ? 4 : 0;
}

static int queries_of_the_decoder_and_all_of_the_tower(const char *module, int layer) {
    (void)layer;
    return strstr(module, "vision") || strstr(module, "q_proj") ? 4 : 0;
}

static int queries_have_two(const char *module, int layer) {
    (void)layer;
    return strstr(module, "q_proj") ? 2 : 4;
}

static int one_module_has_two(const char *module, int layer) {
    return layer == 1 && strstr(module, "language_model") && strstr(module, "up_proj") ? 2 : 4;
}

static int only_one(const char *module, int layer) {
    return layer == 1 && strstr(module, "language_model") && strstr(module, "up_proj") ? 4 : 0;
}

TEST(an_adapter_is_described_so_that_a_model_takes_it_in) {
    static const struct {
        int (*rank)(const char *module, int layer);
        const char *config, *targets;
        Tune vision, llm;
        int ranks, alphas; /* patterns */
    } cases[] = {
        {everywhere, "\"r\":4,\"lora_alpha\":8", "", TUNE_LORA, TUNE_LORA, 0, 0},
        {in_decoder, "\"r\":4,\"lora_alpha\":8", "", TUNE_FROZEN, TUNE_LORA, 0, 0},
        {queries_of_both, "\"r\":4,\"target_modules\":[\"q_proj\"]", "q_proj", TUNE_LORA, TUNE_LORA,
         0, 0},
        {queries_of_both, "\"r\":4,\"target_modules\":\".*q_proj\",\"lora_dropout\":0.05", "q_proj",
         TUNE_LORA, TUNE_LORA, 0, 0},
        {queries_of_the_decoder_and_all_of_the_tower, "\"r\":4", "k_proj", TUNE_LORA, TUNE_LORA, 0,
         0},
        {queries_have_two, "\"r\":4,\"rank_pattern\":{\"q_proj\":2}", "", TUNE_LORA, TUNE_LORA, 1,
         0},
        {one_module_has_two,
         "\"r\":4,\"rank_pattern\":{\"language_model.model.layers.1.mlp.up_proj\":2},"
         "\"alpha_pattern\":{\"fc1\":3.5}",
         "", TUNE_LORA, TUNE_LORA, 1, 1},
        {only_one, "\"r\":4", "language_model.model.layers.1.mlp.up_proj", TUNE_FROZEN, TUNE_LORA,
         0, 0},
    };
    ModelSpec base;
    golden_spec(&base, golden_folder("tinyllama", NULL), TUNE_LORA, TUNE_FULL, TUNE_LORA);
    GoldenModel all;
    golden_open(&all, &base, DT_F32);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *folder = golden_new_folder("described");
        GoldenModel golden;
        ModelSpec spec = base;
        Tune tune[COMPONENT_COUNT];
        int loaded, count;
        write_adapter(folder, model_params(all.model),
                      &(Made){.config = cases[i].config, .rank = cases[i].rank, .dtype = DT_F32});
        Adapter *adapter = golden_adapter(folder);
        ASSERT_OK(adapter_describe(adapter, &base, &spec.lora, tune));
        ASSERT_CONTAINS(spec.lora.target_modules, cases[i].targets);
        if (!cases[i].targets[0]) ASSERT_TEXT(spec.lora.target_modules, "");
        ASSERT_INT(tune[COMPONENT_VISION], ==, cases[i].vision);
        ASSERT_INT(tune[COMPONENT_LLM], ==, cases[i].llm);
        ASSERT_INT(tune[COMPONENT_CONNECTOR], ==, TUNE_FROZEN);
        ASSERT_INT(spec.lora.rank_pattern.count, ==, cases[i].ranks);
        ASSERT_INT(spec.lora.alpha_pattern.count, ==, cases[i].alphas);
        /* And the model so described has exactly the adapter's modules. */
        memcpy(spec.tune, tune, sizeof tune);
        golden_open(&golden, &spec, DT_F32);
        ASSERT_OK(model_load_adapter(golden.model, adapter, NULL, &loaded));
        free(adapter_places(golden.model, &count));
        ASSERT_INT(loaded, ==, adapter_count(adapter));
        ASSERT_INT(loaded, ==, count);
        adapter_close(&adapter);
        golden_close(&golden);
    }
    golden_close(&all);
}

TEST(what_no_config_can_say_is_to_be_merged) {
    ModelSpec base;
    golden_spec(&base, golden_folder("tinyllama", NULL), TUNE_LORA, TUNE_FULL, TUNE_LORA);
    GoldenModel golden;
    golden_open(&golden, &base, DT_F32);
    const char *folder = golden_new_folder("irregular");
    write_adapter(folder, model_params(golden.model),
                  &(Made){.config = "\"r\":4", .rank = everywhere, .dtype = DT_F32});
    Adapter *adapter = golden_adapter(folder);
    LoraConfig lora;
    Tune tune[COMPONENT_COUNT];
    base.llm.layers = 2; /* now the decoder's third layer is none of its */
    base.llm.names = NAMES_PHI;
    ASSERT_ERR(adapter_describe(adapter, &base, &lora, tune), ERR_UNSUPPORTED,
               "which is no linear of this kind of model");
    adapter_close(&adapter);
    golden_close(&golden);
}

/* ---- what is refused ---- */

static Err open_made(const Params *params, const Made *made) {
    Adapter *adapter;
    const char *folder = golden_new_folder("refused");
    write_adapter(folder, params, made);
    Err err = adapter_open(&adapter, folder);
    adapter_close(&adapter);
    return err;
}

TEST(adapters_of_other_kinds_are_refused_by_name) {
    static const struct {
        const char *config;
        Err err;
        const char *part;
    } cases[] = {
        {"\"use_dora\":true", ERR_UNSUPPORTED, "\"use_dora\" asks for DoRA"},
        {"\"bias\":\"all\"", ERR_UNSUPPORTED, "training of biases"},
        {"\"fan_in_fan_out\":true", ERR_UNSUPPORTED, "transposed"},
        {"\"layers_to_transform\":[1]", ERR_UNSUPPORTED, "layers by number"},
        {"\"layer_replication\":[[0,4]]", ERR_UNSUPPORTED, "more than once"},
        {"\"init_lora_weights\":\"pissa\"", ERR_UNSUPPORTED, "changes the base too"},
        {"\"init_lora_weights\":\"pissa_niter_4\"", ERR_UNSUPPORTED, "changes the base too"},
        {"\"init_lora_weights\":\"olora\"", ERR_UNSUPPORTED, "changes the base too"},
        {"\"init_lora_weights\":\"loftq\"", ERR_UNSUPPORTED, "changes the base too"},
        {"\"init_lora_weights\":\"corda\"", ERR_UNSUPPORTED, "changes the base too"},
        {"\"init_lora_weights\":\"lora_ga\"", ERR_UNSUPPORTED, "changes the base too"},
        {"\"init_lora_weights\":\"mica\"", ERR_UNSUPPORTED, "never trains B"},
        {"\"use_bdlora\":{\"nblocks\":2}", ERR_UNSUPPORTED, "BD-LoRA"},
        {"\"alora_invocation_tokens\":[1]", ERR_UNSUPPORTED, "behind certain tokens"},
        {"\"kasa_config\":{\"beta\":1}", ERR_UNSUPPORTED, "KaSA"},
        {"\"scale_by_norm\":true", ERR_UNSUPPORTED, "\"scale_by_norm\" is not understood"},
        {"\"rank_pattern\":{\".*q_proj\":4}", ERR_UNSUPPORTED, "is an expression"},
        {"\"rank_pattern\":{\"q_proj\":4},\"alpha_pattern\":{\"self_attn.q_proj\":4}",
         ERR_UNSUPPORTED, "give both the same name"},
        {"\"r\":8", ERR_INPUT, "has the rank 8, its tensors 4"},
        {"\"r\":0", ERR_INPUT, "\"r\" is 0; 1 to 4096"},
        {"\"r\":\"4\"", ERR_INPUT, "\"r\" is not a whole number"},
        {"\"lora_alpha\":-1", ERR_INPUT, "\"lora_alpha\" is -1"},
        {"\"lora_dropout\":1", ERR_INPUT, "0 to 0.95"},
        {"\"rank_pattern\":{\"q_proj\":2.5}", ERR_INPUT, "not a whole number"},
        {"\"rank_pattern\":{\"q_proj\":8}", ERR_INPUT, "has the rank 8"},
        {"\"r\":", ERR_INPUT, "not valid JSON"},
    };
    ModelSpec spec;
    GoldenModel golden;
    golden_spec(&spec, golden_folder("tinyllama", NULL), TUNE_FROZEN, TUNE_FULL, TUNE_FROZEN);
    golden_open(&golden, &spec, DT_F32);
    const Params *params = model_params(golden.model);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char config[256];
        bool has_rank = strstr(cases[i].config, "\"r\"") != NULL;
        snprintf(config, sizeof config, "%s%s", has_rank ? "" : "\"r\":4,", cases[i].config);
        ASSERT_ERR(open_made(params, &(Made){.config = config, .rank = everywhere}), cases[i].err,
                   cases[i].part);
    }
    ASSERT_ERR(
        open_made(params, &(Made){.config = "\"r\":4,\"peft_type\":\"LOHA\"", .rank = everywhere}),
        ERR_UNSUPPORTED, "LOHA");
    ASSERT_ERR(
        open_made(params,
                  &(Made){.config = "\"r\":4", .rank = everywhere, .middle = "default.more."}),
        ERR_UNSUPPORTED, "is the A or B of no linear");
    golden_close(&golden);
}

static int queries_alone_have_four(const char *module, int layer) {
    (void)layer;
    return strstr(module, "self_attn.q_proj") && strstr(module, "language_model") ? 4 : 0;
}

/* PEFT 0.21: how A and B began does not matter where the base is as it was. EVA gives each module a
 * rank of its own and says so. */
TEST(adapters_that_began_in_other_ways_beside_the_same_base_are_read) {
    static const char *const configs[] = {
        "\"r\":4,\"init_lora_weights\":\"eva\",\"eva_config\":{\"rho\":2.0,\"tau\":0.99}",
        "\"r\":8,\"init_lora_weights\":\"eva\",\"rank_pattern\":{\"q_proj\":4,\"k_proj\":4,"
        "\"v_proj\":4,\"o_proj\":4,\"out_proj\":4,\"fc1\":4,\"fc2\":4,\"up_proj\":4,\"gate_proj\":"
        "4,"
        "\"down_proj\":4},\"alpha_pattern\":{\"q_proj\":4}",
        "\"r\":4,\"init_lora_weights\":\"orthogonal\"",
        "\"r\":4,\"init_lora_weights\":\"Gaussian\"",
        "\"r\":4,\"init_lora_weights\":false",
        "\"r\":4,\"init_lora_weights\":true,\"peft_version\":\"0.21.2\",\"exclude_modules\":[\"x\"]"
        ","
        "\"use_bdlora\":null,\"ensure_weight_tying\":false,\"qalora_group_size\":16,"
        "\"megatron_core\":\"megatron.core\",\"loftq_config\":{},\"target_parameters\":null",
    };
    ModelSpec spec;
    GoldenModel golden;
    golden_spec(&spec, golden_folder("tinyllama", NULL), TUNE_FROZEN, TUNE_FULL, TUNE_FROZEN);
    golden_open(&golden, &spec, DT_F32);
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
        Adapter *adapter;
        const char *folder = golden_new_folder("began");
        write_adapter(folder, model_params(golden.model),
                      &(Made){.config = configs[i], .rank = everywhere});
        ASSERT_OK(adapter_open(&adapter, folder));
        for (int k = 0; k < adapter_count(adapter); k++) {
            const AdapterModule *m = adapter_at(adapter, k);
            bool halved = i == 1 && strstr(m->name, "q_proj"); /* alpha 4 instead of 8 */
            ASSERT_INT(m->r, ==, 4);
            ASSERT_REAL(m->scale, ==, halved ? 1 : 2);
        }
        adapter_close(&adapter);
    }
    /* Two patterns fit: the first in the file counts. */
    Adapter *adapter;
    const char *folder = golden_new_folder("first");
    write_adapter(folder, model_params(golden.model),
                  &(Made){.config = "\"r\":8,\"rank_pattern\":{\"proj\":1,\"q_proj\":4,"
                                    "\"self_attn.q_proj\":2}",
                          .rank = queries_alone_have_four});
    ASSERT_OK(adapter_open(&adapter, folder));
    ASSERT_INT(adapter_count(adapter), >, 0);
    adapter_close(&adapter);
    golden_close(&golden);
}

static void write_tensors(const char *folder, const SafeTensor *tensors, int count) {
    ASSERT_OK(safetensors_write(golden_path(folder, "adapter_model.safetensors"), tensors, count));
    golden_write_text(folder, "adapter_config.json", "{\"peft_type\":\"LORA\",\"r\":4}");
}

TEST(tensors_that_are_no_pairs_are_refused) {
#define KEY(end) "base_model.model.language_model.model.layers.0.mlp.up_proj." end
    static const float zeros[4096];
    static const struct {
        SafeTensor tensors[3];
        int count;
        const char *part;
    } cases[] = {
        {{{.name = KEY("lora_A.weight"), .dims = 2, .shape = {4, 48}, .count = 192}},
         1,
         "lacks its A or its B"},
        {{{.name = KEY("lora_A.weight"), .dims = 2, .shape = {4, 48}, .count = 192},
          {.name = KEY("lora_A.default.weight"), .dims = 2, .shape = {4, 48}, .count = 192},
          {.name = KEY("lora_B.weight"), .dims = 2, .shape = {40, 4}, .count = 160}},
         3,
         "has one twice"},
        {{{.name = KEY("lora_A.weight"), .dims = 2, .shape = {4, 48}, .count = 192},
          {.name = KEY("lora_B.weight"), .dims = 2, .shape = {40, 5}, .count = 200}},
         2,
         "A has the shape [4, 48] and B [40, 5]"},
        {{{.name = KEY("lora_A.weight"), .dims = 2, .shape = {0, 48}},
          {.name = KEY("lora_B.weight"), .dims = 2, .shape = {40, 0}}},
         2,
         "A has the shape [0, 48]"},
        {{{.name = KEY("lora_A.weight"), .dims = 1, .shape = {192}, .count = 192},
          {.name = KEY("lora_B.weight"), .dims = 2, .shape = {40, 4}, .count = 160}},
         2,
         "A has the shape [192]"},
        {{{.name = KEY("lora_A.weight"), .type = "F64", .dims = 2, .shape = {4, 48}, .bytes = 1536},
          {.name = KEY("lora_B.weight"), .dims = 2, .shape = {40, 4}, .count = 160}},
         2,
         "type F64"},
        {{{.name = KEY("lora_embedding_A"), .dims = 2, .shape = {4, 48}, .count = 192}},
         1,
         "is the A or B of no linear"},
        {{{.name = "a", .dims = 1}}, 0, "has no tensors"},
    };
    const char *folder = golden_new_folder("pairs");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        SafeTensor tensors[3];
        Adapter *adapter;
        memcpy(tensors, cases[i].tensors, sizeof tensors);
        for (int k = 0; k < 3; k++) tensors[k].data = zeros;
        write_tensors(folder, tensors, cases[i].count);
        Err err = adapter_open(&adapter, folder);
        ASSERT_TRUE(err != OK && adapter == NULL);
        ASSERT_CONTAINS(err_message(), cases[i].part);
    }
}

TEST(pickled_adapters_and_connectors_are_to_be_converted_first) {
    Adapter *adapter;
    char command[PATH_SIZE];
    const char *folder = golden_new_folder("pickled");
    golden_write_text(folder, "adapter_config.json", "{\"peft_type\":\"LORA\",\"r\":4}");
    ASSERT_ERR(adapter_open(&adapter, folder), ERR_INPUT, "adapter_model.safetensors");
    golden_write_text(folder, "adapter_model.bin", "never read");
    snprintf(command, sizeof command, "python3 tools/bin_to_safetensors.py %s", folder);
    ASSERT_ERR(adapter_open(&adapter, folder), ERR_INPUT, command);
    ASSERT_OK(file_copy(golden_folder(ARCH, "adapter/adapter_model.safetensors"),
                        golden_path(folder, "adapter_model.safetensors"), 1 << 20));
    ASSERT_OK(file_make_directories(golden_path(folder, "connector")));
    golden_write_text(folder, "connector/pytorch_model.bin", "never read");
    ASSERT_ERR(adapter_open(&adapter, folder), ERR_INPUT, command);
}

/* The golden adapter with something of it changed. */
typedef struct Swap {
    const char *part, *from, *to; /* of names that contain `part` */
    bool zero;
} Swap;

static Err load_swapped(const char *arch, const Swap *swap) {
    enum { MOST = 100 };
    static char names[MOST][PARAM_NAME + 64];
    static const float zeros[65536];
    const char *folder = golden_new_folder("swapped");
    SafeTensors *file;
    SafeTensor tensors[MOST];
    Adapter *adapter;
    GoldenModel golden;
    int loaded;
    ASSERT_OK(safetensors_open(&file, golden_folder(ARCH, "adapter/adapter_model.safetensors")));
    int count = safetensors_count(file);
    for (int i = 0; i < count; i++) {
        tensors[i] = *safetensors_at(file, i);
        const char *at = strstr(tensors[i].name, swap->from);
        if (!strstr(tensors[i].name, swap->part) || !at) continue;
        snprintf(names[i], sizeof names[i], "%.*s%s%s", (int)(at - tensors[i].name),
                 tensors[i].name, swap->to, at + strlen(swap->from));
        tensors[i].name = names[i];
        if (swap->zero && strstr(names[i], "lora_B")) tensors[i].data = zeros;
    }
    write_tensors(folder, tensors, count);
    safetensors_close(&file);
    golden_open_tuned(&golden, arch, TUNE_LORA, TUNE_FULL, TUNE_LORA, NULL);
    adapter = golden_adapter(folder);
    Err err = model_load_adapter(golden.model, adapter, NULL, &loaded);
    adapter_close(&adapter);
    golden_close(&golden);
    return err;
}

TEST(an_adapter_for_another_base_is_refused_with_the_module) {
    static const Swap layer = {"layers.2.ffn.proj_1", "layers.2.", "layers.9.", false},
                      zeroed = {"layers.2.ffn.proj_1", "layers.2.", "layers.9.", true},
                      other = {"layers.2.ffn", "ffn.proj_1", "ffn.fourth", false},
                      swapped = {"layers.0.attn", "qkv_proj", "seen", false},
                      table = {"layers.0.attn.qkv_proj", "layers.0.attn.qkv_proj",
                               "token_embeddings", false},
                      nothing = {"nothing", "", "", false};
    ASSERT_ERR(load_swapped(ARCH, &layer), ERR_INPUT,
               "an adapter for another base: it adapts language_model.transformer.layers.9.ffn."
               "proj_1, which this model does not have");
    ASSERT_ERR(load_swapped(ARCH, &other), ERR_INPUT, "layers.2.ffn.fourth");
    ASSERT_ERR(load_swapped(ARCH, &swapped), ERR_INPUT, "layers.0.attn.seen");
    ASSERT_ERR(load_swapped(ARCH, &table), ERR_UNSUPPORTED, "which is no linear");
    ASSERT_OK(load_swapped(ARCH, &zeroed)); /* adds nothing */
    ASSERT_OK(load_swapped(ARCH, &nothing));
    ASSERT_ERR(load_swapped("tinyllama", &nothing), ERR_INPUT, "an adapter for another base");
    /* The same names, other widths. */
    GoldenModel golden;
    ModelSpec spec;
    int loaded;
    golden_spec(&spec, golden_folder(ARCH, NULL), TUNE_LORA, TUNE_FULL, TUNE_LORA);
    spec.llm.ffn.values[1] = 80;
    golden_open(&golden, &spec, DT_F32);
    Adapter *adapter = golden_adapter(golden_folder(ARCH, "adapter"));
    ASSERT_ERR(model_load_adapter(golden.model, adapter, NULL, &loaded), ERR_INPUT,
               "layers.1.ffn.proj_1 of the shape [128, 48], which is [160, 48] in this model");
    adapter_close(&adapter);
    golden_close(&golden);
}

TEST(a_model_that_adapts_otherwise_says_what_to_set) {
    static const struct {
        LoraConfig lora;
        Tune llm, connector;
        const char *part;
    } cases[] = {
        {{.r = 8, .alpha = 16}, TUNE_LORA, TUNE_FULL, "has the rank 4, the model 8: set lora.r"},
        {{.r = 4, .alpha = 4},
         TUNE_LORA,
         TUNE_FULL,
         "is scaled by 2, in the model by 1: set lora.alpha to "
         "the adapter's 8"},
        {{.r = 4, .alpha = 8, .target_modules = "qkv_proj"},
         TUNE_LORA,
         TUNE_FULL,
         "which the model does not"},
        {{.r = 4, .alpha = 8}, TUNE_FROZEN, TUNE_FULL, "which the model does not: let tune"},
        {{.r = 4, .alpha = 8}, TUNE_LORA, TUNE_FROZEN, "of its own, which is frozen here"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        GoldenModel golden;
        int loaded;
        Adapter *adapter = golden_adapter(golden_folder(ARCH, "adapter"));
        golden_open_tuned(&golden, ARCH, TUNE_LORA, cases[i].connector, cases[i].llm,
                          &cases[i].lora);
        ASSERT_ERR(model_load_adapter(golden.model, adapter, NULL, &loaded), ERR_CONFIG,
                   cases[i].part);
        adapter_close(&adapter);
        golden_close(&golden);
    }
}
