#include "tests/golden_model.h"

#include "core/file.h"
#include "model/numbers.h"
#include "model/param_files.h"
#include "tests/test.h"

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
        numbers_widen(wide, t.data, t.dtype, t.count);
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
            numbers_narrow(data, t.dtype, wide, t.count);
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

static Err load(Model *model, const WeightSource *source) {
    const char *store = golden_path(test_folder(), "store.safetensors");
    if (!model_spec(model)->mapped) return model_fill(model, source);
    TRY(model_write_store(model, store, source));
    return model_map(model, store);
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

/* ---- the golden micro-batch ---- */

enum { IMAGE_ID = -200, IGNORED = -100, SAMPLES = 2, ROWS_MAX = 128 };

static SafeTensors *open_expected(const char *arch) {
    SafeTensors *file;
    ASSERT_OK(safetensors_open(&file, golden_folder(arch, "expected.safetensors")));
    return file;
}

static const SafeTensor *need(const SafeTensors *file, const char *format, int sample) {
    char name[64];
    snprintf(name, sizeof name, "sample%d.%s", sample, format);
    const SafeTensor *t = safetensors_find(file, name);
    ASSERT(t && t->dtype == DT_I32, "%s: no %s", safetensors_path(file), name);
    return t;
}

static int32_t int_at(const SafeTensor *t, int64_t i) {
    int32_t value;
    memcpy(&value, (const char *)t->data + 4 * i, sizeof value);
    return value;
}

typedef struct Arrays {
    int32_t ids[ROWS_MAX], positions[ROWS_MAX], starts[SAMPLES + 1], label_rows[ROWS_MAX],
        targets[ROWS_MAX];
} Arrays;

static void add_sample(Batch *batch, Arrays *arrays, const SafeTensors *file, int sample) {
    const SafeTensor *ids = need(file, "ids", sample), *labels = need(file, "labels", sample);
    int first = batch->tokens;
    arrays->starts[sample] = first;
    for (int64_t i = 0; i < ids->count; i++) {
        int32_t id = int_at(ids, i), label = int_at(labels, i);
        int rows = id == IMAGE_ID ? batch->image_rows : 1;
        ASSERT_INT(batch->tokens + rows, <=, ROWS_MAX);
        if (label != IGNORED) {
            arrays->label_rows[batch->labels] = batch->tokens - 1;
            arrays->targets[batch->labels++] = label;
        }
        for (int k = 0; k < rows; k++, batch->tokens++) {
            arrays->ids[batch->tokens] =
                id == IMAGE_ID ? -1 - (sample * batch->image_rows + k) : id;
            arrays->positions[batch->tokens] = batch->tokens - first;
        }
    }
    if (batch->tokens - first > batch->longest) batch->longest = batch->tokens - first;
    arrays->starts[sample + 1] = batch->tokens;
}

double golden_loss(GoldenModel *golden, const char *arch) {
    SafeTensors *file = open_expected(arch);
    Arrays arrays;
    const ModelSpec *spec = model_spec(golden->model);
    int side = (int)spec->vision.image_size;
    size_t bytes = (size_t)(side * side * 3);
    uint8_t *pixels = malloc(SAMPLES * bytes);
    Batch batch = {.samples = SAMPLES,
                   .images = SAMPLES,
                   .image_rows = model_image_rows(spec),
                   .image_size = side,
                   .image_channels = 3,
                   .ids = arrays.ids,
                   .positions = arrays.positions,
                   .starts = arrays.starts,
                   .label_rows = arrays.label_rows,
                   .targets = arrays.targets,
                   .pixels = pixels};
    for (int s = 0; s < SAMPLES; s++) {
        const SafeTensor *picture = need(file, "pixels", s);
        ASSERT_INT(picture->count, ==, bytes);
        for (size_t i = 0; i < bytes; i++)
            pixels[(size_t)s * bytes + i] = (uint8_t)int_at(picture, (int64_t)i);
        add_sample(&batch, &arrays, file, s);
    }
    double sum;
    int64_t hits;
    ModelLimits limits = {.samples = 2, .tokens = ROWS_MAX, .labels = ROWS_MAX, .images = 2};
    ASSERT_OK(model_prepare(golden->model, &limits, false));
    ASSERT_OK(model_forward(golden->model, &batch, false));
    ASSERT_OK(model_loss(golden->model, &sum, &hits));
    free(pixels);
    safetensors_close(&file);
    return sum / batch.labels;
}

double golden_expected(const char *arch, const char *name) {
    SafeTensors *file = open_expected(arch);
    const SafeTensor *t = safetensors_find(file, name);
    ASSERT(t && t->count == 1 && t->dtype == DT_F32, "%s: no number %s", arch, name);
    float value;
    memcpy(&value, t->data, sizeof value);
    safetensors_close(&file);
    return (double)value;
}
