#include "tests/model/golden_model.h"

#include "core/file.h"
#include "model/files/dtype_convert.h"
#include "model/files/param_files.h"
#include "tests/support/test.h"

const char *const golden_archs[GOLDEN_ARCHS] = {"openecad_0.55b", "openecad_0.89b", "openecad_2.4b",
                                                "openecad_3.1b", "tinyllama"};

/* ---- folders ---- */

const char *golden_path(const char *folder, const char *name) {
    static char paths[GOLDEN_PATHS][PATH_SIZE];
    static int turn;
    turn = (turn + 1) % GOLDEN_PATHS;
    ASSERT_OK(path_join(paths[turn], folder, name));
    return paths[turn];
}

const char *golden_folder(const char *arch, const char *inside) {
    char path[PATH_SIZE];
    ASSERT_OK(path_format(path, "tests/golden/models/%s%s%s", arch, inside ? "/" : "",
                          inside ? inside : ""));
    return golden_path(test_source_folder(), path);
}

const char *golden_new_folder(const char *name) {
    const char *path = golden_path(test_folder(), name);
    ASSERT_OK(file_make_directories(path));
    return path;
}

void golden_write_text(const char *folder, const char *name, const char *text) {
    ASSERT_OK(file_write(golden_path(folder, name), text, strlen(text)));
}

/* ---- files ---- */

void golden_copy_weights(const char *from, const char *to, DType dtype, GoldenEdit edit,
                         void *context) {
    WeightFiles *files;
    ASSERT_OK(weight_files_open(&files, from));
    int count = 0, all = weight_files_count(files);
    SafeTensor *tensors = calloc((size_t)all, sizeof *tensors);
    for (int i = 0; i < all; i++) {
        SafeTensor t = *weight_files_at(files, i);
        float *wide = malloc((size_t)t.count * sizeof *wide);
        dtype_widen(wide, t.data, t.dtype, t.count);
        t.type = NULL;
        t.dtype = dtype;
        if (edit && !edit(&t, wide, context)) {
            free(wide);
            continue;
        }
        void *data = malloc((size_t)t.count * sizeof(float));
        if (t.dtype == DT_I32)
            memset(data, 0, (size_t)t.count * sizeof(float));
        else
            dtype_narrow(data, t.dtype, wide, t.count);
        free(wide);
        t.data = data;
        tensors[count++] = t;
    }
    ASSERT_OK(safetensors_write(golden_path(to, "model.safetensors"), tensors, count));
    for (int i = 0; i < count; i++) free((void *)(uintptr_t)tensors[i].data);
    free(tensors);
    weight_files_close(&files);
}

/* ---- models ---- */

void golden_spec(ModelSpec *spec, const char *folder, Tune vision, Tune connector, Tune llm) {
    Published published;
    ASSERT_OK(published_read(&published, folder));
    *spec = (ModelSpec){.vision = published.vision,
                        .connector = published.connector,
                        .llm = published.llm,
                        .lora = {.r = 4, .alpha = 8},
                        .tune = {vision, connector, llm},
                        .max_positions = 128};
}

void golden_open_on(GoldenModel *golden, Exec *ex, const ModelSpec *spec, DType dtype) {
    golden->ex = ex;
    ASSERT_OK(model_open(&golden->model, ex, spec, dtype));
}

void golden_open(GoldenModel *golden, const ModelSpec *spec, DType dtype) {
    Exec *ex;
    ASSERT_OK(exec_open(&ex, EXEC_CPU, 1));
    golden_open_on(golden, ex, spec, dtype);
}

void golden_need(DType dtype) {
    Exec *ex;
    ASSERT_OK(exec_open(&ex, EXEC_CPU, 1));
    bool there = exec_has_dtype(ex, dtype);
    exec_close(&ex);
    if (!there) test_skip("this processor does not multiply bf16");
}

DType golden_fast(void) {
    Exec *ex;
    ASSERT_OK(exec_open(&ex, EXEC_CPU, 1));
    DType fast = exec_fast_dtype(ex);
    exec_close(&ex);
    return fast;
}

static Err load(Model *model, const WeightSource *source) {
    const char *mapped_file = golden_path(test_folder(), "mapped_file.safetensors");
    if (!model_spec(model)->mapped) return model_fill(model, source);
    TRY(model_write_mapped(model, mapped_file, source));
    return model_map(model, mapped_file);
}

Err golden_try_load(GoldenModel *golden, const char *folder, const Adapter *merge,
                    LoadReport *report) {
    WeightFiles *files;
    LoadReport own;
    ASSERT_OK(weight_files_open(&files, folder));
    PublishedSource published = {.ex = golden->ex, .files = files, .merge = merge};
    Err err = published_check(golden->model, &published, report ? report : &own);
    if (err == OK) err = load(golden->model, &(WeightSource){published_read_param, &published});
    weight_files_close(&files);
    return err;
}

void golden_load(GoldenModel *golden, const char *folder, const Adapter *merge) {
    LoadReport report;
    ASSERT_OK(golden_try_load(golden, folder, merge, &report));
    ASSERT_INT(report.unknown, ==, 0);
}

void golden_close(GoldenModel *golden) {
    model_close(&golden->model);
    exec_close(&golden->ex);
}

float *golden_values(const GoldenModel *golden, const char *name) {
    const Params *params = model_params(golden->model);
    ParamId id = params_find(params, name);
    ASSERT(id != PARAM_NONE, "the model has no %s", name);
    Tensor value = param_value(params, id);
    float *out = malloc((size_t)tensor_count(value) * sizeof *out + 1);
    param_download(out, golden->ex, value);
    return out;
}

/* ---- adapters ---- */

float golden_wave(int64_t i, bool is_b) {
    return is_b ? 0.05f * cosf((float)i) : 0.2f * sinf(0.7f * (float)i);
}

void golden_open_tuned(GoldenModel *golden, const char *arch, Tune vision, Tune connector, Tune llm,
                       const LoraConfig *lora) {
    ModelSpec spec;
    golden_spec(&spec, golden_folder(arch, NULL), vision, connector, llm);
    if (lora) spec.lora = *lora;
    golden_open(golden, &spec, DT_F32);
    golden_load(golden, golden_folder(arch, NULL), NULL);
    model_init_lora(golden->model, 1);
}

Adapter *golden_adapter(const char *folder) {
    Adapter *adapter;
    ASSERT_OK(adapter_open(&adapter, folder));
    return adapter;
}

bool golden_is_close(double a, double b) {
    return fabs(a - b) <= 1e-5 * (1 + fabs(b));
}

/* ---- expected.safetensors ---- */

int32_t golden_int(const SafeTensor *t, int64_t i) {
    int32_t value;
    ASSERT_TRUE(t->dtype == DT_I32 && i < t->count);
    memcpy(&value, (const char *)t->data + 4 * i, sizeof value);
    return value;
}

float golden_real(const SafeTensor *t, int64_t i) {
    float value;
    ASSERT_TRUE(t->dtype == DT_F32 && i < t->count);
    memcpy(&value, (const char *)t->data + 4 * i, sizeof value);
    return value;
}

static SafeTensors *open_expected(const char *arch) {
    SafeTensors *file;
    ASSERT_OK(safetensors_open(&file, golden_folder(arch, "expected.safetensors")));
    return file;
}

static const SafeTensor *of_sample(const SafeTensors *file, int sample, const char *what) {
    char name[64];
    snprintf(name, sizeof name, "sample%d.%s", sample, what);
    const SafeTensor *t = safetensors_find(file, name);
    ASSERT(t, "%s: no %s", safetensors_path(file), name);
    return t;
}

/* ---- the golden micro-batch ---- */

enum { IMAGE_ID = -200, IGNORED = -100 };

static void add_row(GoldenBatch *g, int sample, int32_t id, int32_t label) {
    Batch *batch = &g->batch;
    int row = batch->tokens++, place = row - g->starts[sample];
    ASSERT_INT(row, <, GOLDEN_ROWS);
    g->ids[row] = id;
    g->positions[row] = place;
    if (place + 1 > batch->longest) batch->longest = place + 1;
    if (label == IGNORED || !place) return;
    g->label_rows[batch->labels] = row - 1;
    g->targets[batch->labels++] = label;
}

static void add_sample(GoldenBatch *g, const SafeTensors *expected, int max_length, bool all) {
    Batch *batch = &g->batch;
    int sample = batch->samples++, image_rows = batch->image_rows, end = batch->tokens + max_length;
    const SafeTensor *ids = of_sample(expected, sample, "ids"),
                     *labels = of_sample(expected, sample, "labels"),
                     *pixels = of_sample(expected, sample, "pixels");
    g->starts[sample] = batch->tokens;
    for (int64_t i = 0; i < ids->count; i++) {
        int32_t id = golden_int(ids, i), label = golden_int(labels, i);
        if (id != IMAGE_ID && batch->tokens < end) add_row(g, sample, id, all ? id : label);
        for (int k = 0; id == IMAGE_ID && k < image_rows && batch->tokens < end; k++)
            add_row(g, sample, -1 - (sample * image_rows + k), all ? 0 : IGNORED);
    }
    g->starts[sample + 1] = batch->tokens;
    int64_t first = (int64_t)sample * pixels->count;
    ASSERT_INT(pixels->count, ==, batch->image_size * batch->image_size * batch->image_channels);
    for (int64_t i = 0; i < pixels->count; i++)
        g->pixels[first + i] = (uint8_t)golden_int(pixels, i);
}

void golden_batch_open(GoldenBatch *golden, const SafeTensors *expected, const ModelSpec *spec,
                       int max_length, bool all) {
    int samples = safetensors_find(expected, "sample1.ids") ? 2 : 1,
        side = (int)spec->vision.image_size, channels = (int)spec->vision.channels;
    golden->pixels = malloc((size_t)(samples * side * side * channels));
    golden->batch = (Batch){.images = samples,
                            .image_rows = model_image_rows(spec),
                            .image_size = side,
                            .image_channels = channels,
                            .ids = golden->ids,
                            .positions = golden->positions,
                            .starts = golden->starts,
                            .label_rows = golden->label_rows,
                            .targets = golden->targets,
                            .pixels = golden->pixels};
    for (int s = 0; s < samples; s++) add_sample(golden, expected, max_length, all);
}

void golden_batch_close(GoldenBatch *golden) {
    free(golden->pixels);
    golden->pixels = NULL;
}

double golden_loss(GoldenModel *golden, const char *arch) {
    SafeTensors *file = open_expected(arch);
    GoldenBatch made;
    double sum;
    int64_t hits;
    golden_batch_open(&made, file, model_spec(golden->model), GOLDEN_ROWS, false);
    const Batch *b = &made.batch;
    ModelLimits limits = {
        .samples = b->samples, .tokens = b->tokens, .labels = b->labels, .images = b->images};
    ASSERT_OK(model_prepare(golden->model, &limits, false));
    ASSERT_OK(model_forward(golden->model, b, false));
    ASSERT_OK(model_loss(golden->model, &sum, &hits));
    double loss = sum / b->labels;
    golden_batch_close(&made);
    safetensors_close(&file);
    return loss;
}

double golden_expected(const char *arch, const char *name) {
    SafeTensors *file = open_expected(arch);
    const SafeTensor *t = safetensors_find(file, name);
    ASSERT(t && t->count == 1, "%s: no number %s", arch, name);
    double value = (double)golden_real(t, 0);
    safetensors_close(&file);
    return value;
}
