/* Models written for others: adapters for PEFT, merged weights for transformers. */
#include "core/file.h"
#include "core/json.h"
#include "model/files/adapter.h"
#include "model/files/export.h"
#include "model/files/merge.h"
#include "model/files/param_files.h"
#include "tests/model/golden_model.h"
#include "tests/support/test.h"

#define ARCH "openecad_0.89b" /* the one with an adapter beside it */

/* ---- adapters ---- */

/* A model whose adapters and connector have been trained, by chance. */
static void shake(GoldenModel *golden) {
    const Params *params = model_params(golden->model);
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (!p->trained) continue;
        float *x = malloc((size_t)(p->rows * p->cols) * sizeof *x);
        for (int64_t k = 0; k < p->rows * p->cols; k++) x[k] = golden_wave(k + i, true);
        op_convert(golden->ex, param_value(params, i), tensor(x, DT_F32, p->rows, p->cols));
        free(x);
    }
}

static char *read_file(const char *path) {
    Buf text = {0};
    ASSERT_OK(file_read(&text, path, 1 << 20));
    return text.data;
}

static const SmallFile BESIDE[] = {{"README.md", "# a card\n"}};

TEST(an_adapter_written_is_the_adapter_read_back) {
    for (int i = 0; i < GOLDEN_ARCHS; i++) {
        GoldenModel before, after;
        int loaded;
        const char *folder = golden_path(test_folder(), golden_archs[i]);
        golden_open_tuned(&before, golden_archs[i], TUNE_LORA, TUNE_FULL, TUNE_LORA, NULL);
        shake(&before);
        AdapterInfo info = {.base_model = "owner/base", .beside = BESIDE, .beside_count = 1};
        ASSERT_OK(model_save_adapter(before.model, folder, &info, NULL));
        Adapter *adapter = golden_adapter(folder);
        ModelSpec spec = *model_spec(before.model);
        ASSERT_OK(adapter_describe(adapter, model_spec(before.model), &spec.lora, spec.tune));
        ASSERT_TEXT(spec.lora.target_modules, "");
        ASSERT_INT(spec.tune[COMPONENT_CONNECTOR], ==, TUNE_FULL);
        ASSERT_TEXT(adapter_config(adapter)->base, "owner/base");
        golden_open(&after, &spec, DT_F32);
        golden_load(&after, golden_folder(golden_archs[i], NULL), NULL);
        ASSERT_OK(model_load_adapter(after.model, adapter, NULL, &loaded));
        ASSERT_INT(loaded, ==, adapter_count(adapter));
        const Params *params = model_params(before.model);
        for (int k = 0; k < params->count; k++) {
            float *x = golden_values(&before, params->items[k].name),
                  *y = golden_values(&after, params->items[k].name);
            int64_t count = params->items[k].rows * params->items[k].cols;
            ASSERT(!memcmp(x, y, (size_t)count * sizeof *x), "%s", params->items[k].name);
            free(x);
            free(y);
        }
        adapter_close(&adapter);
        golden_close(&before);
        golden_close(&after);
    }
}

TEST(adapter_config_has_every_key_of_peft_0_10) {
    static const char *const keys[] = {"alpha_pattern",
                                       "auto_mapping",
                                       "base_model_name_or_path",
                                       "bias",
                                       "fan_in_fan_out",
                                       "inference_mode",
                                       "init_lora_weights",
                                       "layer_replication",
                                       "layers_pattern",
                                       "layers_to_transform",
                                       "loftq_config",
                                       "lora_alpha",
                                       "lora_dropout",
                                       "megatron_config",
                                       "megatron_core",
                                       "modules_to_save",
                                       "peft_type",
                                       "r",
                                       "rank_pattern",
                                       "revision",
                                       "target_modules",
                                       "task_type",
                                       "use_dora",
                                       "use_rslora"};
    LoraConfig lora = {.r = 4,
                       .alpha = 8.5,
                       .dropout = 0.05,
                       .use_rslora = true,
                       .rank_pattern = {1, {{"self_attn.q_proj", 2}}},
                       .alpha_pattern = {1, {{"mlp.up_proj", 16}}}};
    GoldenModel golden;
    Json *root;
    const char *folder = golden_path(test_folder(), "keys");
    golden_open_tuned(&golden, "tinyllama", TUNE_FROZEN, TUNE_FULL, TUNE_LORA, &lora);
    ASSERT_OK(model_save_adapter(golden.model, folder, &(AdapterInfo){.base_model = "a/b"}, NULL));
    ASSERT_OK(js_read(&root, golden_path(folder, "adapter_config.json"), 1 << 20));
    ASSERT_INT(js_count(root), ==, sizeof keys / sizeof keys[0]);
    JsonIter iter = js_iter(root);
    const char *key;
    for (int found = 0; js_next(&iter, &key);) {
        for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) found += !strcmp(keys[i], key);
        ASSERT(found, "%s", key);
    }
    double number;
    int64_t rank;
    ASSERT_TRUE(js_number(js_get(root, "lora_alpha"), &number) && number == 8.5);
    ASSERT_TRUE(js_number(js_get(root, "lora_dropout"), &number) && number == 0.05);
    bool rslora = false;
    ASSERT_TRUE(js_bool(js_get(root, "use_rslora"), &rslora) && rslora);
    const Json *ranks = js_get(root, "rank_pattern"), *alphas = js_get(root, "alpha_pattern");
    ASSERT_INT(js_count(ranks), ==, 3); /* full names, one a layer */
    ASSERT_INT(js_count(alphas), ==, 3);
    ASSERT_TRUE(
        js_integer(js_get(ranks, "language_model.model.layers.2.self_attn.q_proj"), &rank) &&
        rank == 2);
    ASSERT_TRUE(js_integer(js_get(alphas, "language_model.model.layers.0.mlp.up_proj"), &rank) &&
                rank == 16);
    ASSERT_INT(js_count(js_get(root, "target_modules")), ==, 21);
    ASSERT_TEXT(js_text(js_at(js_get(root, "modules_to_save"), 0), NULL), "connector._connector");
    js_free(&root);
    /* Read back as patterns of a config again. */
    Adapter *adapter = golden_adapter(folder);
    ModelSpec spec = *model_spec(golden.model);
    ASSERT_OK(adapter_describe(adapter, model_spec(golden.model), &spec.lora, spec.tune));
    ASSERT_INT(spec.lora.rank_pattern.count, ==, 1);
    ASSERT_TEXT(spec.lora.rank_pattern.items[0].name, "q_proj");
    ASSERT_TEXT(spec.lora.alpha_pattern.items[0].name, "up_proj");
    adapter_close(&adapter);
    golden_close(&golden);
}

TEST(what_fits_in_no_adapter_is_not_written_as_one) {
    GoldenModel full, frozen, lora;
    AdapterInfo info = {.base_model = "a/b"};
    const char *folder = golden_path(test_folder(), "unfit");
    golden_open_tuned(&full, ARCH, TUNE_LORA, TUNE_FULL, TUNE_FULL, NULL);
    ASSERT_ERR(model_save_adapter(full.model, folder, &info, NULL), ERR_INPUT,
               "the llm was trained in full, which fits in no adapter");
    golden_open_tuned(&frozen, ARCH, TUNE_FROZEN, TUNE_FULL, TUNE_FROZEN, NULL);
    ASSERT_ERR(model_save_adapter(frozen.model, folder, &info, NULL), ERR_INPUT, "no adapters");
    ASSERT_TRUE(!file_exists(folder));
    ASSERT_OK(file_make_directories(folder));
    golden_open_tuned(&lora, ARCH, TUNE_FROZEN, TUNE_FROZEN, TUNE_LORA, NULL);
    ASSERT_OK(model_save_adapter(lora.model, folder, &info, NULL)); /* an empty folder is fine */
    ASSERT_ERR(model_save_adapter(lora.model, folder, &info, NULL), ERR_INPUT, "is not empty");
    FileNames names;
    ASSERT_OK(file_list(&names, test_folder()));
    ASSERT_INT(names.count, ==, 1); /* no temporary folder is left */
    file_names_free(&names);
    golden_close(&full);
    golden_close(&frozen);
    golden_close(&lora);
}

/* ---- merged ---- */

/* The expected value of a weight of `golden`: the base file's, or the model's, with its adapter. */
static double expected_at(const GoldenModel *golden, const WeightFiles *base, const Param *p,
                          const AdapterPlace *place, int64_t row, int64_t col) {
    const Params *params = model_params(golden->model);
    const SafeTensor *t = weight_files_find(base, p->name);
    double w = (double)(p->trained ? golden_wave(row * p->cols + col + (p - params->items), true)
                                   : ((const float *)t->data)[row * p->cols + col]);
    for (int64_t k = 0; place && k < place->r; k++)
        w += (double)place->scale * (double)golden_wave(row * place->r + k + place->b, true) *
             (double)golden_wave(k * p->cols + col + place->a, true);
    return w;
}

TEST(a_merged_model_is_the_base_with_its_adapters_and_all_the_base_had) {
    for (int i = 0; i < GOLDEN_ARCHS; i++) {
        const char *base = golden_folder(golden_archs[i], NULL),
                   *folder = golden_path(test_folder(), golden_archs[i]);
        GoldenModel golden;
        WeightFiles *before, *after;
        int count;
        golden_open_tuned(&golden, golden_archs[i], TUNE_LORA, TUNE_FULL, TUNE_LORA, NULL);
        shake(&golden);
        static const char *const tokenizer[] = {"tokenizer.model", "tokenizer_config.json", NULL};
        MergeInfo info = {.base_folder = base,
                          .tokenizer_folder = base,
                          .tokenizer_files = tokenizer,
                          .dtype = DT_F32,
                          .beside = BESIDE,
                          .beside_count = 1};
        ASSERT_OK(model_save_merged(golden.model, folder, &info, NULL));
        ASSERT_OK(weight_files_open(&before, base));
        ASSERT_OK(weight_files_open(&after, folder));
        ASSERT_INT(weight_files_count(after), ==, weight_files_count(before));
        AdapterPlace *places = adapter_places(golden.model, &count);
        const Params *params = model_params(golden.model);
        for (int k = 0; k < weight_files_count(after); k++) {
            const SafeTensor *t = weight_files_at(after, k),
                             *u = weight_files_find(before, t->name);
            ParamId id = params_find(params, t->name);
            ASSERT_INT(t->count, ==, u->count);
            if (id == PARAM_NONE) {
                ASSERT_INT(memcmp(t->data, u->data, t->bytes), ==, 0);
                continue;
            }
            const AdapterPlace *place = adapter_place_of(places, count, id);
            const Param *p = &params->items[id];
            for (int64_t row = 0; row < p->rows; row++)
                for (int64_t col = 0; col < p->cols; col++)
                    ASSERT(golden_is_close((double)((const float *)t->data)[row * p->cols + col],
                                           expected_at(&golden, before, p, place, row, col)),
                           "%s[%ld, %ld]", p->name, (long)row, (long)col);
        }
        free(places);
        /* The files beside them, byte for byte; and the loss is the same. */
        static const char *const files[] = {"config.json", "generation_config.json",
                                            "tokenizer_config.json"};
        for (int k = 0; k < 3; k++) {
            char *x = read_file(golden_path(base, files[k])),
                 *y = read_file(golden_path(folder, files[k]));
            ASSERT_TEXT(x, y);
            free(x);
            free(y);
        }
        ASSERT_TRUE(!file_exists(golden_path(folder, "expected.safetensors")));
        ASSERT_TRUE(file_exists(golden_path(folder, "README.md")));
        GoldenModel merged;
        ModelSpec spec;
        golden_spec(&spec, folder, TUNE_FROZEN, TUNE_FROZEN, TUNE_FROZEN);
        golden_open(&merged, &spec, DT_F32);
        golden_load(&merged, folder, NULL);
        ASSERT_NEAR(golden_loss(&merged, golden_archs[i]) / golden_loss(&golden, golden_archs[i]),
                    1, 5e-6);
        weight_files_close(&before);
        weight_files_close(&after);
        golden_close(&golden);
        golden_close(&merged);
    }
}

TEST(a_large_export_is_in_shards_with_an_index) {
    const char *base = golden_folder(ARCH, NULL), *folder = golden_path(test_folder(), "shards");
    GoldenModel golden;
    WeightFiles *before, *after;
    golden_open_tuned(&golden, ARCH, TUNE_FROZEN, TUNE_FULL, TUNE_LORA, NULL);
    MergeInfo info = {.base_folder = base, .dtype = DT_BF16, .shard_bytes = 50000};
    ASSERT_OK(model_save_merged(golden.model, folder, &info, NULL));
    ASSERT_TRUE(!file_exists(golden_path(folder, "model.safetensors")));
    ASSERT_OK(weight_files_open(&before, base));
    ASSERT_OK(weight_files_open(&after, folder));
    ASSERT_INT(weight_files_count(after), ==, weight_files_count(before));
    ASSERT_INT(weight_files_bytes(after), ==, weight_files_bytes(before) / 2);
    int64_t total;
    Json *root;
    FileNames names;
    ASSERT_OK(js_read(&root, golden_path(folder, "model.safetensors.index.json"), 1 << 20));
    ASSERT_TRUE(js_integer(js_get(js_get(root, "metadata"), "total_size"), &total));
    ASSERT_INT(total, ==, weight_files_bytes(after));
    js_free(&root);
    int shards = 0;
    ASSERT_OK(file_list(&names, folder));
    for (size_t i = 0; i < names.count; i++) {
        uint64_t bytes;
        if (!strstr(names.names[i], "-of-00006.safetensors")) continue;
        ASSERT_OK(file_size(golden_path(folder, names.names[i]), &bytes));
        ASSERT_INT(bytes, <, 50000 + 10000); /* and a header */
        shards++;
    }
    ASSERT_INT(shards, ==, 6);
    file_names_free(&names);
    weight_files_close(&before);
    weight_files_close(&after);
    golden_close(&golden);
}

TEST(what_differs_from_the_base_is_said_in_its_config) {
    const char *base = golden_folder(ARCH, NULL), *folder = golden_path(test_folder(), "said");
    GoldenModel golden;
    ModelSpec spec;
    Published published, back;
    golden_spec(&spec, base, TUNE_FROZEN, TUNE_FULL, TUNE_LORA);
    spec.vision.drop_first_patch = false;
    golden_open(&golden, &spec, DT_F32);
    golden_load(&golden, base, NULL);
    ASSERT_OK(published_read(&published, base));
    published.max_length = 3000;
    published.aspect = ASPECT_PAD;
    MergeInfo info = {.base_folder = base, .published = &published, .dtype = DT_F16};
    ASSERT_OK(model_save_merged(golden.model, folder, &info, NULL));
    ASSERT_OK(published_read(&back, folder));
    ASSERT_TRUE(!back.vision.drop_first_patch && back.aspect == ASPECT_PAD);
    ASSERT_INT(back.max_length, ==, 3000);
    char *text = read_file(golden_path(folder, "config.json"));
    ASSERT_CONTAINS(text, "\"torch_dtype\": \"float16\"");
    ASSERT_CONTAINS(text, "\"layer_norm_eps\": 1e-6"); /* numbers stay readable */
    free(text);
    golden_close(&golden);
}

TEST(without_the_base_a_merged_model_describes_itself) {
    const char *folder = golden_path(test_folder(), "alone");
    GoldenModel golden, back;
    ModelSpec spec;
    Published published;
    WeightFiles *files;
    golden_open_tuned(&golden, ARCH, TUNE_LORA, TUNE_FULL, TUNE_LORA, NULL);
    shake(&golden);
    ASSERT_OK(published_read(&published, golden_folder(ARCH, NULL)));
    MergeInfo info = {.published = &published, .dtype = DT_F32};
    ASSERT_OK(model_save_merged(golden.model, folder, &info, NULL));
    ASSERT_OK(weight_files_open(&files, folder));
    golden_spec(&spec, folder, TUNE_FROZEN, TUNE_FROZEN, TUNE_FROZEN);
    golden_open(&back, &spec, DT_F32);
    ASSERT_INT(weight_files_count(files), ==, model_params(back.model)->count);
    golden_load(&back, folder, NULL);
    ASSERT_NEAR(golden_loss(&back, ARCH) / golden_loss(&golden, ARCH), 1, 5e-6);
    weight_files_close(&files);
    golden_close(&golden);
    golden_close(&back);
}

TEST(masters_are_what_is_exported_and_not_their_copies_in_the_compute_type) {
    golden_need(DT_BF16); /* in f32 both are the same */
    const char *base = golden_folder("tinyllama", NULL),
               *adapters = golden_path(test_folder(), "adapters"),
               *merged = golden_path(test_folder(), "merged");
    GoldenModel golden;
    ModelSpec spec;
    WeightFiles *before, *after;
    golden_spec(&spec, base, TUNE_FROZEN, TUNE_FULL, TUNE_LORA);
    golden_open(&golden, &spec, DT_BF16);
    golden_load(&golden, base, NULL);
    const Params *params = model_params(golden.model);
    float *flat = malloc((size_t)params->trained * sizeof *flat);
    for (int64_t i = 0; i < params->trained; i++) flat[i] = 0.01f * sinf((float)i);
    ASSERT_OK(model_save_adapter(golden.model, adapters, &(AdapterInfo){0}, flat));
    ASSERT_OK(model_save_merged(golden.model, merged,
                                &(MergeInfo){.base_folder = base, .dtype = DT_F32}, flat));
    Adapter *adapter = golden_adapter(adapters);
    ASSERT_OK(weight_files_open(&before, base));
    ASSERT_OK(weight_files_open(&after, merged));
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        const SafeTensor *t = adapter_whole(adapter, p->name),
                         *m = weight_files_find(after, p->name);
        if (p->component == COMPONENT_CONNECTOR) {
            ASSERT_INT(memcmp(t->data, flat + p->first, t->bytes), ==, 0);
            ASSERT_INT(memcmp(m->data, flat + p->first, m->bytes), ==, 0);
        }
        /* What is neither trained nor adapted is the base's own f32, though it was bf16 here. */
        if (param_is_base(p) && p->component == COMPONENT_VISION)
            ASSERT_INT(memcmp(m->data, weight_files_find(before, p->name)->data, m->bytes), ==, 0);
    }
    const AdapterModule *m = adapter_find(adapter, "language_model.model.layers.0.mlp.up_proj");
    const Param *a =
        &params->items[params_find(params, "language_model.model.layers.0.mlp.up_proj.lora_A."
                                           "weight")];
    ASSERT_INT(memcmp(m->a->data, flat + a->first, m->a->bytes), ==, 0);
    free(flat);
    adapter_close(&adapter);
    weight_files_close(&before);
    weight_files_close(&after);
    golden_close(&golden);
}

TEST(weights_that_f16_cannot_hold_are_not_exported_as_such) {
    const char *base = golden_folder("tinyllama", NULL),
               *folder = golden_path(test_folder(), "large");
    GoldenModel golden;
    ModelSpec spec;
    golden_spec(&spec, base, TUNE_FROZEN, TUNE_FULL, TUNE_LORA);
    golden_open(&golden, &spec, DT_F32);
    golden_load(&golden, base, NULL);
    Params *params = model_params(golden.model);
    ParamId id = params_find(params, "connector._connector.2.weight");
    ((float *)param_value(params, id).data)[7] = 70000;
    MergeInfo info = {.base_folder = base, .dtype = DT_F16};
    ASSERT_ERR(model_save_merged(golden.model, folder, &info, NULL), ERR_INPUT,
               "connector._connector.2.weight[7] is 70000, which f16 cannot hold");
    ASSERT_TRUE(!file_exists(folder));
    golden_close(&golden);
}

/* ---- on a GPU ---- */

/* What both files have, as far as f32 sums in another order agree. */
static void check_same_files(const char *a, const char *b) {
    SafeTensors *x, *y;
    ASSERT_OK(safetensors_open(&x, a));
    ASSERT_OK(safetensors_open(&y, b));
    ASSERT_INT(safetensors_count(x), ==, safetensors_count(y));
    for (int i = 0; i < safetensors_count(x); i++) {
        const SafeTensor *t = safetensors_at(x, i), *u = safetensors_find(y, t->name);
        ASSERT(u && u->count == t->count, "%s is not in %s", t->name, b);
        for (int64_t k = 0; k < t->count; k++)
            ASSERT(golden_is_close((double)((const float *)t->data)[k],
                                   (double)((const float *)u->data)[k]),
                   "%s[%ld]", t->name, (long)k);
    }
    safetensors_close(&x);
    safetensors_close(&y);
}

TEST(a_gpu_loads_merges_and_writes_what_the_host_does) {
    const char *why, *base = golden_folder(ARCH, NULL);
    if (!exec_device_count(&why)) test_skip(why);
    const char *adapters[2], *merged[2];
    for (int device = 0; device < 2; device++) {
        GoldenModel golden;
        ModelSpec spec;
        Exec *ex;
        int loaded;
        adapters[device] = golden_path(test_folder(), device ? "adapter-gpu" : "adapter-host");
        merged[device] = golden_path(test_folder(), device ? "merged-gpu" : "merged-host");
        ASSERT_OK(exec_open(&ex, device ? EXEC_CUDA : EXEC_CPU, device ? 0 : 1));
        golden_spec(&spec, base, TUNE_LORA, TUNE_FULL, TUNE_LORA);
        golden_open_on(&golden, ex, &spec, DT_F32);
        Adapter *adapter = golden_adapter(golden_folder(ARCH, "adapter"));
        golden_load(&golden, base, adapter);
        ASSERT_OK(model_load_adapter(golden.model, adapter, NULL, &loaded)); /* once more */
        ASSERT_OK(model_save_adapter(golden.model, adapters[device], &(AdapterInfo){0}, NULL));
        MergeInfo info = {.base_folder = base, .merge = adapter, .dtype = DT_F32};
        ASSERT_OK(model_save_merged(golden.model, merged[device], &info, NULL));
        adapter_close(&adapter);
        golden_close(&golden);
    }
    check_same_files(golden_path(adapters[0], "adapter_model.safetensors"),
                     golden_path(adapters[1], "adapter_model.safetensors"));
    check_same_files(golden_path(merged[0], "model.safetensors"),
                     golden_path(merged[1], "model.safetensors"));
}
