#include "eval/generator.h"

#include <stdlib.h>
#include <string.h>

#include "cad/language/code.h"
#include "checkpoint/base.h"
#include "checkpoint/checkpoint.h"
#include "core/log.h"
#include "eval/setup.h"

/* Rows of the decoder in a batch: many drawings at a time where they are short. */
enum { ROWS_AT_A_TIME = 16384, DRAWINGS_AT_A_TIME = 32 };

static int batch_size(int max_length) {
    int size = ROWS_AT_A_TIME / max_length;
    return size < 1 ? 1 : size > DRAWINGS_AT_A_TIME ? DRAWINGS_AT_A_TIME : size;
}

static Err prepare(Generator *r) {
    const ModelSpec *spec = model_spec(r->model);
    batches_setup(&r->options, &r->config, spec, r->tokenizer);
    r->options.max_length = spec->max_positions;
    r->options.overlong = OVERLONG_DROP;
    r->options.size = batch_size(spec->max_positions);
    ModelLimits limits;
    int rows = model_image_rows(spec);
    REQUIRE(spec->max_positions > rows + 2, ERR_INPUT,
            "%s leaves no room for code: %d rows a sample, %d for the picture", r->checkpoint,
            spec->max_positions, rows);
    TRY(model_limits(&limits, spec, r->options.size));
    return model_prepare(r->model, &limits, false);
}

/* A checkpoint of cadvlm: its newest, of a run folder. */
static Err open_checkpoint(Generator *r, const Comm *comm) {
    TrainState state;
    char path[PATH_SIZE];
    TRY(train_state_read(&state, r->checkpoint));
    r->step = state.step;
    TRY(path_join(path, r->checkpoint, "config.yaml"));
    TRY(config_load(&r->config, path, NULL, 0));
    TRY(setup_device(&r->ex, &r->config, comm));
    return checkpoint_open_model(&r->model, r->ex, &r->config, r->checkpoint,
                                 tokenizer_vocab(r->tokenizer));
}

/* A published model, with nothing to train. */
static Err open_published(Generator *r, const Base *base, const Comm *comm) {
    config_defaults(&r->config);
    TRY(base_describe(base, &r->config));
    ModelSpec spec;
    model_spec_from_config(&spec, &r->config, tokenizer_vocab(r->tokenizer));
    for (int component = 0; component < COMPONENT_COUNT; component++)
        spec.tune[component] = TUNE_FROZEN;
    TRY(setup_device(&r->ex, &r->config, comm));
    spec.mapped = exec_is_host(r->ex);
    return model_open(&r->model, r->ex, &spec, precision_dtype(r->ex, r->config.precision));
}

static Err open_model(Generator *r, Base *base, const Comm *comm, const char *path) {
    char tokenizer[PATH_SIZE];
    TRY(base_find(base, path));
    TRY(path_format(r->checkpoint, "%s", base->folder));
    TRY(base_tokenizer(base, tokenizer));
    TRY(tokenizer_open(&r->tokenizer, tokenizer));
    REQUIRE(tokenizer_eos(r->tokenizer) >= 0, ERR_INPUT, "%s has no end token", tokenizer);
    if (base->kind == BASE_CHECKPOINT) TRY(open_checkpoint(r, comm));
    if (base->kind == BASE_PUBLISHED) TRY(open_published(r, base, comm));
    TRY(tokenizer_check_model(r->tokenizer, model_spec(r->model)->llm.vocab, tokenizer));
    r->threads = setup_threads(&r->config, comm);
    return OK;
}

Err generator_open(Generator *r, Comm *comm, const char *path) {
    Base *base = malloc(sizeof *base);
    CHECK(base, "out of memory: a base");
    *r = (Generator){0};
    Err err = comm_agree(comm, open_model(r, base, comm, path));
    if (err == OK && base->kind == BASE_PUBLISHED) err = base_load(r->model, base, NULL, comm);
    if (err == OK) err = comm_agree(comm, prepare(r));
    free(base);
    return err;
}

void generator_close(Generator *r) {
    model_close(&r->model);
    tokenizer_close(&r->tokenizer);
    exec_close(&r->ex);
}

void generated_code_free(GeneratedCode *generated) {
    buf_free(&generated->code);
}

/* Stops at an id that stands for nothing (a model may have more rows than its tokenizer has tokens)
 * and where the text is longer than any code can be: what is there by then is scored. */
static Err take_code(const Generator *r, const Generation *g, GeneratedCode *out) {
    *out = (GeneratedCode){
        .tokens = g->count, .ended = g->ended, .broken = g->broken, .confidence = g->confidence};
    int known = 0;
    while (known < g->count && g->ids[known] < tokenizer_vocab(r->tokenizer)) known++;
    TRY(tokenizer_decode(r->tokenizer, g->ids, (size_t)known, &out->code));
    if (out->code.size > CODE_SIZE_MAX + 1) out->code.size = CODE_SIZE_MAX + 1;
    if (r->options.template == TEMPLATE_PLAIN) return OK;
    const char *code;
    size_t size;
    template_extract_code(buf_cstr(&out->code), out->code.size, &code, &size);
    memmove(out->code.data, code, size);
    out->code.size = size;
    return OK;
}

/* Once, however many drawings there are. */
static void tell_broken(Generator *r, const Generation *generations, const char *const *names,
                        int count) {
    int first = 0;
    while (first < count && !generations[first].broken) first++;
    if (first == count || r->reported_broken) return;
    r->reported_broken = true;
    log_warn("the model gives no numbers (NaN or infinite) for %s, and perhaps for others: weights "
             "of %s are damaged, or too large for %s (precision: f32 in its config.yaml)",
             names[first], r->checkpoint, dtype_name(model_params(r->model)->dtype));
}

Err generator_run(Generator *r, const Image *images, const char *const *prompts,
                  const char *const *names, int count, int max_new, GeneratedCode *generated) {
    CHECK(count >= 1 && count <= r->options.size, "%d drawings", count);
    int room = model_spec(r->model)->max_positions - r->options.image_rows;
    int most = max_new > 0 && max_new < room ? max_new : room;
    for (int i = 0; i < count; i++) generated[i] = (GeneratedCode){0};
    Batch *batch;
    TRY(batch_build_prompts(&batch, &r->options, images, prompts, names, count));
    Generation *generations = calloc((size_t)count, sizeof *generations);
    CHECK(generations, "out of memory: %d drawings", count);
    Err err = model_generate(r->model, batch, tokenizer_eos(r->tokenizer), most, generations);
    if (err == OK) tell_broken(r, generations, names, count);
    for (int i = 0; i < count && err == OK; i++) err = take_code(r, &generations[i], &generated[i]);
    for (int i = 0; i < count; i++) free(generations[i].ids);
    free(generations);
    batch_free(&batch);
    return err;
}

static Err decode_picture(Image *image, const Sample *sample, const BatchesOptions *o) {
    REQUIRE(sample->image_size, ERR_INPUT, "it has no picture to read");
    Image whole;
    TRY(image_decode(&whole, sample->image, sample->image_size, o->image_channels, "its picture"));
    Err err = picture_prepare(image, &whole, o->image_size, o->image_fit, o->image_background);
    image_free(&whole);
    return err;
}

Err picture_read(Image *image, Sample *sample, Buf *memory, const BatchesOptions *options,
                 const Dataset *dataset, size_t index) {
    *image = (Image){0};
    TRY(dataset_read(dataset, index, sample, memory));
    Err err = decode_picture(image, sample, options);
    if (err == OK) return OK;
    return err_prefix(err, "%s: sample %zu (%s): ", dataset_path(dataset), index, sample->id);
}
