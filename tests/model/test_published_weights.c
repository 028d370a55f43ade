/* The weights of published model folders, of every architecture: into a model, into a file that is
 * mapped, and files that do not fit. */
#include "core/file.h"
#include "model/files/dtype_convert.h"
#include "model/files/param_files.h"
#include "tests/model/golden_model.h"
#include "tests/support/test.h"

/* ---- files that fit ---- */

/* Every base parameter of the model is the file's numbers, rounded to the model's type. */
static void check_weights(const GoldenModel *golden, const char *folder) {
    WeightFiles *files;
    const Params *params = model_params(golden->model);
    ASSERT_OK(weight_files_open(&files, folder));
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (!param_is_base(p)) continue;
        const SafeTensor *t = weight_files_find(files, p->name);
        float *expected = malloc((size_t)t->count * sizeof(float)),
              *found = golden_values(golden, p->name);
        void *rounded = malloc((size_t)t->count * sizeof(float));
        dtype_widen(expected, t->data, t->dtype, t->count);
        dtype_narrow(rounded, params->dtype, expected, t->count);
        dtype_widen(expected, rounded, params->dtype, t->count);
        ASSERT(!memcmp(expected, found, (size_t)t->count * sizeof(float)), "%s: %s differs", folder,
               p->name);
        free(expected);
        free(found);
        free(rounded);
    }
    weight_files_close(&files);
}

/* Filled into memory of its own (0) or mapped (1). */
enum { WAYS = 2 };

static void check_loading(DType dtype) {
    static const Tune tunes[] = {TUNE_FROZEN, TUNE_LORA, TUNE_FULL};
    for (int i = 0; i < GOLDEN_ARCHS * 3 * WAYS; i++) {
        Tune tune = tunes[i / WAYS % 3];
        const char *folder = golden_folder(golden_archs[i / WAYS / 3], NULL);
        ModelSpec spec;
        GoldenModel golden;
        golden_spec(&spec, folder, tune, TUNE_FULL, tune);
        spec.mapped = i % WAYS;
        golden_open(&golden, &spec, dtype);
        golden_load(&golden, folder, NULL);
        check_weights(&golden, folder);
        golden_close(&golden);
    }
}

TEST(weights_of_every_architecture_are_loaded_exactly) {
    check_loading(DT_F32);
}

TEST(weights_of_every_architecture_are_loaded_exactly_into_bf16) {
    golden_need(DT_BF16);
    check_loading(DT_BF16);
}

static void check_losses(DType dtype, double allowed) {
    for (int i = 0; i < GOLDEN_ARCHS * WAYS; i++) {
        const char *arch = golden_archs[i / WAYS];
        ModelSpec spec;
        GoldenModel golden;
        golden_spec(&spec, golden_folder(arch, NULL), TUNE_FROZEN, TUNE_FROZEN, TUNE_FROZEN);
        spec.mapped = i % WAYS;
        golden_open(&golden, &spec, dtype);
        golden_load(&golden, golden_folder(arch, NULL), NULL);
        double share = golden_loss(&golden, arch) / golden_expected(arch, "loss");
        printf("%s%s in %s: %.7f of the loss\n", arch, spec.mapped ? ", mapped," : "",
               dtype_name(dtype), share);
        ASSERT_NEAR(share, 1, allowed);
        golden_close(&golden);
    }
}

TEST(the_loss_of_every_architecture_is_that_of_transformers) {
    check_losses(DT_F32, 2e-6);
}

/* bf16 has 8 bits, and of that a mean over a dozen labels is left. */
TEST(the_loss_of_every_architecture_in_bf16_is_near_that_of_transformers) {
    golden_need(DT_BF16);
    check_losses(DT_BF16, 5e-3);
}

/* A file to map is used where it lies; the published file has q, k and v apart, or another type. */
static void check_mapping(DType dtype) {
    for (int i = 0; i < GOLDEN_ARCHS * 2; i++) {
        bool to_map = i % 2;
        const char *folder = golden_folder(golden_archs[i / 2], NULL);
        ModelSpec spec;
        GoldenModel golden;
        golden_spec(&spec, folder, TUNE_LORA, TUNE_FULL, TUNE_LORA);
        spec.mapped = true;
        golden_open(&golden, &spec, dtype);
        if (to_map) {
            golden_load(&golden, folder, NULL);
        } else { /* one file of what may be shards */
            const char *whole = golden_new_folder("whole");
            golden_copy_weights(folder, whole, DT_F32, NULL, NULL);
            ASSERT_OK(model_map(golden.model, golden_path(whole, "model.safetensors")));
        }
        check_weights(&golden, folder);
        const Params *params = model_params(golden.model);
        size_t outside = 0, mapped = model_mapped_bytes(golden.model);
        for (int k = 0; k < params->count; k++) {
            const Param *p = &params->items[k];
            if (!p->outside) continue;
            outside += (size_t)(p->rows * p->cols) * dtype_size(dtype);
            if (to_map && !p->joined)
                ASSERT((uintptr_t)p->mapped % 64 == 0, "%s lies at %p", p->name, p->mapped);
        }
        if (to_map) ASSERT_INT(mapped, ==, outside);
        if (!to_map && dtype == DT_F32) ASSERT_TRUE(mapped > 0 && mapped < outside);
        if (!to_map && dtype == DT_BF16) ASSERT_INT(mapped, ==, 0);
        golden_close(&golden);
    }
}

TEST(a_model_maps_what_fits_and_converts_the_rest) {
    check_mapping(DT_F32);
}

TEST(a_model_in_bf16_converts_files_of_f32) {
    golden_need(DT_BF16);
    check_mapping(DT_BF16);
}

static void check_half(DType dtype) {
    static const DType types[] = {DT_F16, DT_BF16};
    const char *from = golden_folder("tinyllama", NULL);
    ModelSpec spec;
    golden_spec(&spec, from, TUNE_FROZEN, TUNE_FULL, TUNE_FROZEN);
    for (int file = 0; file < 2; file++) {
        GoldenModel golden;
        const char *folder = golden_new_folder("half");
        golden_copy_weights(from, folder, types[file], NULL, NULL);
        golden_open(&golden, &spec, dtype);
        golden_load(&golden, folder, NULL);
        check_weights(&golden, folder);
        golden_close(&golden);
    }
}

TEST(files_of_half_precision_are_widened_and_rounded_once) {
    check_half(DT_F32);
}

TEST(files_of_half_precision_are_rounded_once_to_bf16) {
    golden_need(DT_BF16);
    check_half(DT_BF16);
}

TEST(masters_get_the_numbers_of_the_file_and_not_of_the_compute_type) {
    golden_need(DT_BF16); /* in f32 both are the same */
    const char *folder = golden_folder("openecad_0.89b", NULL);
    ModelSpec spec;
    GoldenModel golden;
    WeightFiles *files;
    golden_spec(&spec, folder, TUNE_LORA, TUNE_FULL, TUNE_FULL);
    golden_open(&golden, &spec, DT_BF16);
    const Params *params = model_params(golden.model);
    float *flat = malloc((size_t)params->trained * sizeof *flat);
    for (int64_t i = 0; i < params->trained; i++) flat[i] = 7;
    ASSERT_OK(weight_files_open(&files, folder));
    PublishedSource source = {.ex = golden.ex, .files = files};
    ASSERT_OK(
        model_fill_masters(golden.model, &(WeightSource){published_read_param, &source}, flat));
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (!p->trained) continue;
        const SafeTensor *t = weight_files_find(files, p->name);
        if (t) ASSERT_INT(memcmp(flat + p->first, t->data, t->bytes), ==, 0);
        for (int64_t k = 0; !t && k < p->rows * p->cols; k++) /* an adapter's: left alone */
            ASSERT_REAL(flat[p->first + k], ==, 7);
    }
    free(flat);
    weight_files_close(&files);
    golden_close(&golden);
}

TEST(all_tensors_of_a_published_file_are_accounted_for) {
    const char *folder = golden_folder("openecad_0.89b", NULL);
    ModelSpec spec;
    GoldenModel golden;
    WeightFiles *files;
    LoadReport report;
    golden_spec(&spec, folder, TUNE_FROZEN, TUNE_FULL, TUNE_FULL);
    golden_open(&golden, &spec, DT_F32);
    ASSERT_OK(weight_files_open(&files, folder));
    ASSERT_OK(published_check(golden.model, &(PublishedSource){golden.ex, files, NULL}, &report));
    ASSERT_INT(report.loaded, ==, model_params(golden.model)->count);
    ASSERT_INT(report.unknown, ==, 0);
    ASSERT_INT(report.loaded + report.unused, ==, weight_files_count(files));
    ASSERT_INT(report.unused, >, 16); /* the tower's last layer, its norm and its head */
    weight_files_close(&files);
    golden_close(&golden);
}

/* As a checkpoint gives them back to a model that has memory for all. */
static void check_frozen(DType dtype) {
    const char *folder = golden_folder("tinyllama", NULL);
    ModelSpec spec, mapped;
    golden_spec(&spec, folder, TUNE_LORA, TUNE_FULL, TUNE_LORA);
    mapped = spec;
    mapped.mapped = true;
    for (int i = 0; i < WAYS; i++) {
        const char *path = golden_path(test_folder(), "frozen.safetensors");
        GoldenModel from, to;
        golden_open(&from, i ? &mapped : &spec, dtype);
        golden_load(&from, folder, NULL);
        ASSERT_OK(model_save_frozen(from.model, path));
        if (i) path = model_mapped_path(from.model);
        golden_open(&to, &spec, dtype);
        ASSERT_OK(model_load_frozen(to.model, path));
        const Params *params = model_params(to.model);
        for (int k = 0; k < params->count; k++) {
            const Param *p = &params->items[k];
            float *found = golden_values(&to, p->name), *expected = golden_values(&from, p->name);
            for (int64_t n = 0; n < p->rows * p->cols; n++)
                ASSERT_REAL(found[n], ==, p->trained ? 0 : expected[n]);
            free(found);
            free(expected);
        }
        ASSERT_ERR(model_load_frozen(to.model, golden_folder("openecad_2.4b", "model.safetensors")),
                   ERR_INPUT, "model.safetensors: ");
        golden_close(&from);
        golden_close(&to);
    }
}

TEST(frozen_weights_of_a_mapped_file_and_of_a_checkpoint_are_read_alone) {
    check_frozen(DT_F32);
}

TEST(frozen_weights_in_bf16_are_read_alone) {
    golden_need(DT_BF16);
    check_frozen(DT_BF16);
}

/* Keeps the tensors of a part, under the names that TinyLLaVA's file of it has. */
static bool keep_part(SafeTensor *t, float *values, void *context) {
    const char *part = context;
    size_t length = strlen(part);
    (void)values;
    if (strncmp(t->name, part, length) != 0) return false;
    t->name += length;
    return true;
}

TEST(a_run_folder_of_tinyllava_loads_as_the_published_model_does) {
    static const char *const parts[][2] = {{"language_model", "language_model."},
                                           {"vision_tower", "vision_tower._vision_tower."},
                                           {"connector", "connector."}};
    const char *base = golden_folder("openecad_3.1b", NULL), *run = golden_new_folder("run");
    for (int i = 0; i < 3; i++) {
        const char *folder = golden_path(run, parts[i][0]);
        ASSERT_OK(file_make_directories(folder));
        golden_copy_weights(base, folder, DT_F32, keep_part, (void *)(uintptr_t)parts[i][1]);
    }
    GoldenModel golden;
    ModelSpec spec;
    golden_spec(&spec, base, TUNE_FROZEN, TUNE_FULL, TUNE_LORA);
    golden_open(&golden, &spec, DT_F32);
    golden_load(&golden, run, NULL);
    check_weights(&golden, base);
    golden_close(&golden);
}

/* ---- files that do not fit ---- */

/* What to do to the first tensor with this in its name. */
typedef struct Change {
    const char *part;
    enum { DROP, RESHAPE, TRANSPOSE, MAKE_NAN, MAKE_INFINITE, MAKE_LARGE, MAKE_I32, RENAME } what;
} Change;

static bool change(SafeTensor *t, float *values, void *context) {
    const Change *c = context;
    if (!strstr(t->name, c->part)) return true;
    switch (c->what) {
    case DROP: return false;
    case RESHAPE:
        t->dims = 1;
        t->shape[0] = t->count;
        break;
    case TRANSPOSE: {
        int64_t rows = t->shape[0];
        t->shape[0] = t->shape[1];
        t->shape[1] = rows;
        break;
    }
    case MAKE_NAN: values[5] = NAN; break;
    case MAKE_INFINITE: values[t->count - 1] = -INFINITY; break;
    case MAKE_LARGE: values[6] = -0x1.ffp127f; break; /* the next of bf16 would be 2¹²⁸ */
    case MAKE_I32: t->dtype = DT_I32; break;
    case RENAME: t->name = "language_model.something.new"; break;
    }
    return true;
}

static Err load_changed(const char *arch, Change c, bool mapped, DType dtype, LoadReport *report) {
    const char *from = golden_folder(arch, NULL), *folder = golden_new_folder("changed");
    ModelSpec spec;
    GoldenModel golden;
    golden_spec(&spec, from, TUNE_FROZEN, TUNE_FULL, TUNE_FROZEN);
    spec.mapped = mapped;
    golden_copy_weights(from, folder, DT_F32, change, &c);
    golden_open(&golden, &spec, dtype);
    Err err = golden_try_load(&golden, folder, NULL, report);
    golden_close(&golden);
    return err;
}

TEST(weights_that_do_not_fit_say_which_and_how) {
    static const struct {
        const char *arch;
        Change change;
        const char *part;
    } cases[] = {
        {"tinyllama",
         {"layers.1.mlp.up_proj", DROP},
         "lacks 1 of the model's parameters: "
         "language_model.model.layers.1.mlp.up_proj"},
        {"tinyllama", {"self_attn.q_proj.weight", DROP}, "lacks 5 of the model's"},
        {"tinyllama", {"language_model.model.layers", DROP}, ", …"},
        {"tinyllama", {"lm_head", DROP}, "language_model.lm_head.weight"},
        {"tinyllama",
         {"layers.0.self_attn.k_proj.weight", RESHAPE},
         "k_proj.weight has the shape ["},
        {"tinyllama",
         {"layers.0.mlp.up_proj.weight", TRANSPOSE},
         "has the shape [48, 40]; the model expects [40, 48]"},
        {"openecad_0.55b",
         {"patch_embedding.weight", RESHAPE},
         "has the shape [4704]; the model expects [32, 3, 7, 7]"},
        {"openecad_0.89b",
         {"position_embedding", TRANSPOSE},
         "has the shape [36, 16]; the model expects [16, 36]"},
        {"openecad_0.55b", {"class_embedding", MAKE_NAN}, "class_embedding[5] is "},
        {"openecad_2.4b", {"layers.2.mlp.down_proj", MAKE_INFINITE}, "[2687] is -inf"},
        {"tinyllama", {"model.norm.weight", MAKE_I32}, "norm.weight has numbers of type I32"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int k = 0; k < 2 * WAYS; k++) {
            ASSERT_ERR(load_changed(cases[i].arch, cases[i].change, k % 2,
                                    k < WAYS ? DT_F32 : golden_fast(), NULL),
                       ERR_INPUT, cases[i].part);
            ASSERT_TRUE(!file_exists(golden_path(test_folder(), "mapped.safetensors")));
        }
}

TEST(numbers_beyond_the_compute_type_are_refused_and_not_rounded_to_infinity) {
    const Change large = {"layers.1.mlp.up_proj.weight", MAKE_LARGE};
    golden_need(DT_BF16);
    for (int mapped = 0; mapped < WAYS; mapped++) {
        ASSERT_OK(load_changed("tinyllama", large, mapped, DT_F32, NULL));
        ASSERT_ERR(load_changed("tinyllama", large, mapped, DT_BF16, NULL), ERR_INPUT,
                   "language_model.model.layers.1.mlp.up_proj.weight[6] is -3.39618e+38, more than "
                   "bf16 can hold");
    }
}

/* A source of one number everywhere, but for a place. */
typedef struct Flat {
    int64_t place;
    float there;
} Flat;

static Err read_flat(void *context, const Param *p, float *out) {
    const Flat *flat = context;
    for (int64_t i = 0; i < p->rows * p->cols; i++) out[i] = i == flat->place ? flat->there : 0.5f;
    return OK;
}

TEST(a_file_to_map_is_not_written_with_numbers_that_its_type_cannot_hold) {
    static const struct {
        DType dtype;
        float number;
        const char *said; /* NULL: it is good */
    } cases[] = {
        {DT_F16, 65519, NULL},
        {DT_F16, -65520, "is -65520, more than f16 can hold"},
        {DT_F16, NAN, "is nan"},
        {DT_BF16, 65520, NULL},
        {DT_BF16, 0x1.fep127f, NULL},
        {DT_BF16, 0x1.ffp127f, "is 3.39618e+38, more than bf16 can hold"},
        {DT_BF16, -INFINITY, "is -inf"},
        {DT_F32, 0x1.ffp127f, NULL},
        {DT_F32, INFINITY, "is inf"},
    };
    const char *path = golden_path(test_folder(), "flat.safetensors");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ModelSpec spec;
        GoldenModel golden;
        char said[128];
        golden_spec(&spec, golden_folder("tinyllama", NULL), TUNE_FROZEN, TUNE_FROZEN, TUNE_FROZEN);
        golden_open(&golden, &spec, cases[i].dtype);
        Flat flat = {.place = 700, .there = cases[i].number}; /* only matrices have so many */
        Err err = model_write_mapped(golden.model, path, &(WeightSource){read_flat, &flat});
        snprintf(said, sizeof said, ".weight[700] %s", cases[i].said);
        if (cases[i].said) ASSERT_ERR(err, ERR_INPUT, said);
        if (!cases[i].said) ASSERT_OK(err);
        ASSERT_TRUE(file_exists(path) == !cases[i].said);
        if (!cases[i].said) ASSERT_OK(file_remove_tree(path));
        golden_close(&golden);
    }
}

TEST(tensors_without_a_place_are_counted_and_named) {
    LoadReport report;
    ASSERT_OK(
        load_changed("openecad_0.89b", (Change){"head.probe", RENAME}, false, DT_F32, &report));
    ASSERT_INT(report.unknown, ==, 1);
    ASSERT_TEXT(report.first_unknown, "language_model.something.new");
}

/* The files of a tied model with a head all the same: the embedding, or zeros. */
static void write_with_head(const char *from, const char *to, bool same) {
    WeightFiles *files;
    ASSERT_OK(weight_files_open(&files, from));
    int count = weight_files_count(files);
    SafeTensor *tensors = calloc((size_t)count + 1, sizeof *tensors);
    for (int i = 0; i < count; i++) tensors[i] = *weight_files_at(files, i);
    SafeTensor *head = &tensors[count];
    *head = *weight_files_find(files, "language_model.model.embed_tokens.weight");
    head->name = "language_model.lm_head.weight";
    float *zeros = calloc((size_t)head->count, sizeof *zeros);
    if (!same) head->data = zeros;
    ASSERT_OK(safetensors_write(golden_path(to, "model.safetensors"), tensors, count + 1));
    free(zeros);
    free(tensors);
    weight_files_close(&files);
}

TEST(a_tied_head_must_be_the_embedding_again) {
    const char *from = golden_folder("openecad_2.4b", NULL), *folder = golden_new_folder("tied");
    ModelSpec spec;
    GoldenModel golden;
    golden_spec(&spec, from, TUNE_FROZEN, TUNE_FULL, TUNE_FROZEN);
    golden_open(&golden, &spec, DT_F32);
    write_with_head(from, folder, true);
    golden_load(&golden, folder, NULL);
    write_with_head(from, folder, false);
    ASSERT_ERR(golden_try_load(&golden, folder, NULL, NULL), ERR_INPUT,
               "language_model.lm_head.weight is not language_model.model.embed_tokens.weight "
               "again, though config.json says");
    golden_close(&golden);
    /* Of a model that is said not to be tied it is a weight like others. */
    spec.llm.tied_head = false;
    golden_open(&golden, &spec, DT_F32);
    golden_load(&golden, folder, NULL);
    golden_close(&golden);
}
