/* Exports and their proof; see the header. */
#include "export/export.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/base.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/preprocessor.h"
#include "core/log.h"
#include "core/system.h"
#include "eval/generator.h"
#include "eval/setup.h"
#include "eval/validate.h"
#include "export/model_card.h"
#include "model/files/adapter.h"
#include "model/files/export.h"

enum { BESIDE = 2, LINES_MAX = CONFIG_DATASETS, LINE_TEXT = 160 };

/* ---- the model card ---- */

/* Names and values of a model card's lists, which borrow their texts from here. */
typedef struct Lines {
    ModelCardLine lines[LINES_MAX];
    char values[LINES_MAX][LINE_TEXT];
    int count;
} Lines;

__attribute__((format(printf, 3, 4))) static void add_line(Lines *lines, const char *name,
                                                           const char *format, ...) {
    if (lines->count == LINES_MAX) return;
    va_list args;
    va_start(args, format);
    vsnprintf(lines->values[lines->count], LINE_TEXT, format, args);
    va_end(args);
    lines->lines[lines->count] = (ModelCardLine){name, lines->values[lines->count]};
    lines->count++;
}

/* A part's own, where it has one. */
static void add_rate(Lines *recipe, const char *name, double rate) {
    if (rate > 0) add_line(recipe, name, "%g", rate);
}

static void describe_recipe(Lines *recipe, const Config *c, const ModelSpec *spec) {
    static const char *const tunes[] = {"frozen", "LoRA", "full"};
    add_line(recipe, "language model", "%s", tunes[spec->tune[COMPONENT_LLM]]);
    add_line(recipe, "vision tower", "%s", tunes[spec->tune[COMPONENT_VISION]]);
    add_line(recipe, "connector", "%s", tunes[spec->tune[COMPONENT_CONNECTOR]]);
    if (spec->tune[COMPONENT_LLM] == TUNE_LORA || spec->tune[COMPONENT_VISION] == TUNE_LORA)
        add_line(recipe, "LoRA", "r %lld, alpha %g, dropout %g%s", (long long)spec->lora.r,
                 spec->lora.alpha, spec->lora.dropout,
                 spec->lora.use_rslora ? ", rank-stabilised" : "");
    add_line(recipe, "learning rate", "%g", c->training.learning_rate);
    add_rate(recipe, "learning rate, language model", c->training.llm_learning_rate);
    add_rate(recipe, "learning rate, vision tower", c->training.vision_learning_rate);
    add_rate(recipe, "learning rate, connector", c->training.connector_learning_rate);
    add_line(recipe, "samples a step", "%lld × %lld a rank",
             (long long)c->training.per_device_batch_size,
             (long long)c->training.gradient_accumulation_steps);
    add_line(recipe, "longest sample", "%lld rows", (long long)c->training.max_length);
}

static void describe_data(Lines *data, const Config *c, const char *licence) {
    const char *what = licence ? licence : "";
    if (c->train_data[0]) add_line(data, path_name(c->train_data), "%s", what);
    for (int i = 0; i < c->dataset_count; i++) add_line(data, c->datasets[i].name, "%s", what);
    for (int i = 0; i < data->count && !licence; i++) data->lines[i].value = NULL;
}

static void describe_figures(Lines *figures, const TrainState *state) {
    add_line(figures, "steps", "%lld", (long long)state->step);
    add_line(figures, "samples seen", "%lld", (long long)state->samples);
    if (isfinite(state->val_loss)) add_line(figures, "validation loss", "%.4f", state->val_loss);
}

/* ---- writing ---- */

typedef struct Export {
    const ExportOptions *options;
    Generator before;
    TrainState state;
    Lineage lineage;
    bool base_there;   /* the published folder is where it was, with the weights it had */
    bool base_changed; /* it has others */
    Published published;
    float *flat;    /* device: masters */
    ModelSpec spec; /* of the model that is opened to prove it, and what it is opened from */
    Base base;
    Lines data, recipe, figures;
    Buf model_card, preprocessor;
    SmallFile beside[BESIDE];
} Export;

/* Whether the run's base can still be read, as it was. */
static void look_for_base(Export *e) {
    const Lineage *lineage = &e->lineage;
    char weights[20];
    if (!lineage->folder[0]) return;
    bool found = published_is(lineage->folder) &&
                 base_fingerprint(weights, lineage->folder, lineage->adapter) == OK;
    e->base_there = found && !strcmp(weights, lineage->weights);
    e->base_changed = found && !e->base_there;
    err_clear();
}

static Err read_base(Export *e) {
    TRY(lineage_read(&e->lineage, e->before.checkpoint));
    look_for_base(e);
    const Config *c = &e->before.config;
    const ModelSpec *spec = model_spec(e->before.model);
    if (e->base_there) {
        TRY(published_read(&e->published, e->lineage.folder));
        e->published.vision.drop_first_patch = spec->vision.drop_first_patch;
        e->published.aspect = c->image_aspect;
        e->published.max_length = c->training.max_length;
        return OK;
    }
    e->published = (Published){.vision = spec->vision,
                               .connector = spec->connector,
                               .llm = spec->llm,
                               .aspect = c->image_aspect,
                               .template = c->model.template,
                               .max_length = c->training.max_length};
    return OK;
}

static Err read_masters(Export *e) {
    char path[PATH_SIZE];
    int found;
    Model *model = e->before.model;
    e->flat = exec_alloc(e->before.ex, (size_t)model_params(model)->trained * sizeof *e->flat);
    REQUIRE(e->flat, ERR_MEMORY, "out of memory: master weights");
    TRY(path_join(path, e->before.checkpoint, "trained.safetensors"));
    return model_load(model, path, e->flat, &found);
}

/* The model card, and how drawings and prompts are prepared. */
static void write_texts(Export *e) {
    const Config *c = &e->before.config;
    describe_data(&e->data, c, e->options->licence);
    describe_recipe(&e->recipe, c, model_spec(e->before.model));
    describe_figures(&e->figures, &e->state);
    ModelCard card = {.base_model = e->lineage.name[0] ? e->lineage.name : NULL,
                      .base_on_hub = e->lineage.on_hub,
                      .has_code = e->published.has_code,
                      .llm_name = e->published.llm_name[0] ? e->published.llm_name : NULL,
                      .vision_name = e->published.vision_name[0] ? e->published.vision_name : NULL,
                      .data = e->data.lines,
                      .data_count = e->data.count,
                      .recipe = e->recipe.lines,
                      .recipe_count = e->recipe.count,
                      .figures = e->figures.lines,
                      .figure_count = e->figures.count,
                      .program = e->options->program};
    bool merged = e->options->format == EXPORT_MERGED;
    model_card_print(&e->model_card, &card, merged ? MODEL_CARD_MERGED : MODEL_CARD_ADAPTER);
    preprocessor_print(&e->preprocessor, c, merged);
    e->beside[0] = (SmallFile){"README.md", buf_cstr(&e->model_card)};
    e->beside[1] = (SmallFile){PREPROCESSOR_FILE, buf_cstr(&e->preprocessor)};
}

static Err write_adapter(Export *e) {
    REQUIRE(e->lineage.name[0], ERR_INPUT,
            "%s began as no published model: there is nothing that an adapter could go with; "
            "export --format merged",
            e->before.checkpoint);
    REQUIRE(!e->lineage.changed && !e->lineage.adapter[0], ERR_INPUT,
            "%s is a later stage: its base is %s with an adapter merged, which nobody else has; "
            "export --format merged",
            e->before.checkpoint, e->lineage.name);
    REQUIRE(!e->base_changed, ERR_INPUT,
            "%s has other weights now than those that training began with: no adapter of this run "
            "fits them; export --format merged, or put the old ones back",
            e->lineage.folder);
    REQUIRE(e->base_there || !e->options->samples, ERR_INPUT,
            "the base %s can no longer be read, so that nothing can be compared with it: put it "
            "back, or give --samples 0 to write the adapter without a proof",
            e->lineage.folder);
    AdapterInfo info = {.base_model = e->lineage.on_hub ? e->lineage.name : e->lineage.folder,
                        .beside = e->beside,
                        .beside_count = BESIDE};
    return model_save_adapter(e->before.model, e->options->folder, &info, e->flat);
}

static Err write_merged(Export *e) {
    Adapter *first = NULL;
    if (e->lineage.folder[0] && !e->base_there)
        log_warn("%s %s: frozen weights are those of the checkpoint, and what only the base's "
                 "files had is left out",
                 e->lineage.folder,
                 e->base_changed ? "does not have the weights any more that training began with"
                                 : "can no longer be read as a base");
    if (e->base_there && e->lineage.adapter[0] && !e->lineage.changed)
        TRY(adapter_open(&first, e->lineage.adapter));
    MergeInfo info = {.base_folder = e->base_there ? e->lineage.folder : NULL,
                      .tokenizer_folder = e->before.checkpoint,
                      .tokenizer_files = tokenizer_files,
                      .merge = first,
                      .base_changed = e->lineage.changed,
                      .published = &e->published,
                      .dtype = e->options->dtype,
                      .beside = e->beside,
                      .beside_count = BESIDE,
                      .show_progress = true};
    Err err = model_save_merged(e->before.model, e->options->folder, &info, e->flat);
    adapter_close(&first);
    return err;
}

/* ---- the proof ---- */

/* Of this machine, what it could take back from its caches included. */
static double available_bytes(void) {
    double kilobytes = 0;
    Buf text = {0};
    system_read(&text, "/proc/meminfo");
    const char *line = strstr(buf_cstr(&text), "MemAvailable:");
    if (line) sscanf(line, "MemAvailable: %lf kB", &kilobytes);
    buf_free(&text);
    return 1024 * kilobytes;
}

/* f32 where two such models have room in memory, so that the base's own roundings do not hide what
 * merging does; else the precision that models run in. */
static Precision proof_precision(const Export *e) {
    const Params *params = model_params(e->before.model);
    double numbers = 0;
    for (int i = 0; i < params->count; i++)
        numbers += (double)(params->items[i].rows * params->items[i].cols);
    return 2.5 * 4 * numbers < available_bytes() ? PRECISION_F32 : PRECISION_AUTO;
}

/* Filled with a base, in memory alone, ready for one sample. */
static Err open_filled(Export *e, const ModelSpec *spec, Base *base, Precision precision,
                       Model **model) {
    TRY(model_open(model, e->before.ex, spec, precision_dtype(e->before.ex, precision)));
    TRY(base ? base_fill(*model, base) : checkpoint_load_frozen(*model, e->before.checkpoint));
    ModelLimits limits;
    TRY(model_limits(&limits, spec, 1));
    return model_prepare(*model, &limits, false);
}

/* The checkpoint's model with adapters apart, over the base's own numbers where they are still
 * there. */
static Err open_before(Export *e, Precision precision, Model **model) {
    char path[PATH_SIZE];
    int found;
    e->spec = *model_spec(e->before.model);
    e->spec.mapped = false;
    e->base = (Base){.kind = BASE_PUBLISHED};
    TRY(path_format(e->base.folder, "%s", e->lineage.folder));
    TRY(path_format(e->base.adapter, "%s", e->lineage.adapter));
    bool exact = e->base_there && !e->lineage.changed;
    TRY(open_filled(e, &e->spec, exact ? &e->base : NULL, precision, model));
    TRY(path_join(path, e->before.checkpoint, "trained.safetensors"));
    return model_load(*model, path, NULL, &found);
}

/* Drawings and prompts are made ready for it as they were in training. */
static Err check_preprocessor(const Export *e, const Base *base) {
    Config *found = malloc(sizeof *found);
    CHECK(found, "out of memory: a config");
    config_defaults(found);
    Err err = base_describe(base, found);
    if (err == OK) err = preprocessor_check(&e->before.config, found, e->options->folder);
    free(found);
    return err;
}

/* What was written, found and merged as others would. */
static Err open_after(Export *e, Precision precision, Model **model) {
    e->spec = *model_spec(e->before.model);
    e->spec.mapped = false;
    for (int component = 0; component < COMPONENT_COUNT; component++)
        e->spec.tune[component] = TUNE_FROZEN;
    Err err = base_find(&e->base, e->options->folder);
    if (err == OK) err = check_preprocessor(e, &e->base);
    if (err == OK) err = open_filled(e, &e->spec, &e->base, precision, model);
    return err == OK ? OK : err_prefix(err, "reading %s again: ", e->options->folder);
}

/* Between numbers of f32 the order of sums is all; roundings to 8 or 11 bits pass through the whole
 * model. What is merged wrongly differs by about all that there is. */
static double allowed_difference(const ExportOptions *o, Precision precision) {
    bool exact = precision == PRECISION_F32 && (o->format == EXPORT_PEFT || o->dtype == DT_F32);
    return exact ? 1e-3 : 0.3;
}

static Err prove(Export *e, ExportResult *result) {
    const ExportOptions *o = e->options;
    Precision precision = proof_precision(e);
    Model *models[2] = {NULL, NULL};
    Comparison *c = &result->proof;
    result->precision = dtype_name(precision_dtype(e->before.ex, precision));
    Err err = open_before(e, precision, &models[0]);
    if (err == OK) err = open_after(e, precision, &models[1]);
    if (err == OK) err = compare_models(c, models, &e->before, o->data, o->samples);
    for (int i = 0; i < 2; i++) model_close(&models[i]);
    TRY(err);
    REQUIRE(c->rows, ERR_INPUT,
            "%s is written, but none of %d samples of %s fits the model: nothing was compared",
            o->folder, o->samples, o->data);
    REQUIRE(isfinite(c->difference), ERR_INPUT,
            "%s is written, but its logits are not finite where the checkpoint's are, or neither",
            o->folder);
    REQUIRE(c->difference <= allowed_difference(o, precision) * c->largest, ERR_INPUT,
            "%s is written, but does not compute what the checkpoint does: logits of up to %.3g "
            "differ by up to %.3g",
            o->folder, c->largest, c->difference);
    return OK;
}

static Err run(Export *e, Comm *comm, ExportResult *result) {
    if (e->options->samples && e->options->data) { /* before anything is written */
        Dataset *dataset;
        TRY(dataset_open(&dataset, e->options->data));
        dataset_close(&dataset);
    }
    TRY(base_find(&e->base, e->options->checkpoint));
    REQUIRE(e->base.kind == BASE_CHECKPOINT, ERR_INPUT,
            "%s is no checkpoint of cadvlm: there is nothing trained", e->options->checkpoint);
    TRY(generator_open(&e->before, comm, e->options->checkpoint));
    TRY(train_state_read(&e->state, e->before.checkpoint));
    TRY(path_format(result->checkpoint, "%s", e->before.checkpoint));
    result->step = (long long)e->before.step;
    TRY(read_base(e));
    TRY(read_masters(e));
    write_texts(e);
    TRY(e->options->format == EXPORT_PEFT ? write_adapter(e) : write_merged(e));
    return e->options->samples ? prove(e, result) : OK;
}

Err export_run(const ExportOptions *options, Comm *comm, ExportResult *result) {
    static Export e; /* it holds a whole config */
    e = (Export){.options = options};
    *result = (ExportResult){0};
    Err err = run(&e, comm, result);
    if (e.before.ex) exec_free(e.before.ex, e.flat, 0);
    generator_close(&e.before);
    buf_free(&e.model_card);
    buf_free(&e.preprocessor);
    return err;
}
