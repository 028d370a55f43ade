/* Setting up a training run: model, data, optimiser, what an earlier run left, and what all of it
 * takes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"
#include "trainer/train_parts.h"

/* Number tokens of the tokenizer start out alike where their numbers are. */
static void init_numbers(Trainer *t) {
    int32_t ids[MODEL_NUMBERS];
    for (int number = 0; number < MODEL_NUMBERS; number++) {
        char text[8];
        snprintf(text, sizeof text, "%d", number);
        ids[number] = tokenizer_id(t->tokenizer, text);
    }
    model_init_numbers(t->model, (uint64_t)t->config->seed, ids);
}

static Err open_model(Trainer *t) {
    const Config *config = t->config;
    if (config->base_model[0])
        REQUIRE(file_exists(config->base_model), ERR_UNSUPPORTED,
                "base_model %s is no folder here; models of the Hugging Face hub are not there yet "
                "in this version",
                config->base_model);
    TRY(tokenizer_path(t->tokenizer_file, config));
    TRY(tokenizer_open(&t->tokenizer, t->tokenizer_file));
    REQUIRE(tokenizer_eos(t->tokenizer) >= 0 && tokenizer_bos(t->tokenizer) >= 0, ERR_INPUT,
            "%s has no <bos> and <eos>", t->tokenizer_file);
    ModelSpec spec;
    Config base;
    char checkpoint[PATH_SIZE] = "";
    if (config->base_model[0]) {
        TRY(checkpoint_resolve(checkpoint, config->base_model));
        char path[PATH_SIZE];
        TRY(path_join(path, checkpoint, "config.yaml"));
        TRY(config_load(&base, path, NULL, 0));
    } else {
        REQUIRE(config->model.from_scratch, ERR_CONFIG,
                "neither base_model nor model: says what to train");
        base = *config;
    }
    base.tune = config->tune;
    base.lora = config->lora;
    base.gradient_checkpointing = config->gradient_checkpointing;
    base.training.max_length = config->training.max_length;
    model_spec_from_config(&spec, &base, tokenizer_vocab(t->tokenizer));
    REQUIRE(spec.llm.vocab >= tokenizer_vocab(t->tokenizer), ERR_CONFIG,
            "vocab %d in the tokenizer, %lld in the model: set model.llm.vocab",
            tokenizer_vocab(t->tokenizer), (long long)spec.llm.vocab);
    TRY(model_open(&t->model, t->ex, &spec, precision_dtype(t->ex, config->precision)));
    model_init(t->model, (uint64_t)config->seed, ~0u);
    if (checkpoint[0])
        TRY(checkpoint_load_base(t->model, t->ex, checkpoint, tokenizer_vocab(t->tokenizer)));
    else
        init_numbers(t);
    return exec_status(t->ex);
}

void train_describe_config(const Trainer *t, Config *out) {
    const ModelSpec *spec = model_spec(t->model);
    *out = *t->config;
    out->model.vision = spec->vision;
    out->model.connector = spec->connector;
    out->model.llm = spec->llm;
    out->tokenizer[0] = 0; /* it lies in the checkpoint */
}

/* Takes up the newest good checkpoint of this run, if there is one. */
static Err resume(Trainer *t) {
    char path[PATH_SIZE];
    TRY(checkpoint_find(path, t->checkpoints));
    t->state = (TrainState){.val_loss = NAN, .best_val_loss = NAN, .config_hash = config_hash(t->config)};
    if (!path[0]) return OK;
    TrainState found;
    TRY(checkpoint_read_state(&found, path));
    TRY(checkpoint_load(&t->optim, path));
    if (found.config_hash != t->state.config_hash)
        log_warn("the config has changed since %s was written; going on with the new one", path);
    found.config_hash = t->state.config_hash;
    t->state = found;
    t->saved_step = found.step;
    t->val_loss = found.val_loss;
    log_info("resuming after step %lld from %s", (long long)found.step, path);
    return OK;
}

static Err settle_slots(Trainer *t) {
    const TrainingConfig *c = &t->config->training;
    int ranks = comm_size(t->comm);
    int slots = c->slots         ? (int)c->slots
                : t->state.slots ? t->state.slots
                                 : (int)c->gradient_accumulation_steps * ranks;
    if (t->state.slots && slots != t->state.slots)
        log_warn("training.slots %d, the checkpoint was made with %d: batches differ from here on",
                 slots, t->state.slots);
    if (slots < ranks)
        log_warn("%d slots a step for %d ranks: %d ranks have nothing to do", slots, ranks,
                 ranks - slots);
    t->state.slots = slots;
    reducer_slots(slots, comm_rank(t->comm), ranks, &t->slot_first, &t->slot_end);
    t->slots_most = (slots + ranks - 1) / ranks;
    t->reports = calloc((size_t)(ranks * t->slots_most), sizeof *t->reports);
    t->losses = calloc((size_t)(ranks * t->slots_most), sizeof *t->losses);
    t->rank_reports = calloc((size_t)ranks, sizeof *t->rank_reports);
    t->device_losses = exec_alloc(t->ex, (size_t)t->slots_most * sizeof *t->device_losses);
    CHECK(t->reports && t->losses && t->rank_reports && t->device_losses,
          "out of memory: reports of %d ranks", ranks);
    TRY(exec_marks(t->ex, MARKS_A_SLOT * t->slots_most + MARKS_A_STEP));
    double samples = t->config->samples_per_epoch ? (double)t->config->samples_per_epoch
                                                  : (double)t->data.samples;
    double step_samples = (double)slots * (double)c->per_device_batch_size;
    t->steps = c->max_steps ? c->max_steps : (int64_t)ceil(c->num_epochs * samples / step_samples);
    REQUIRE(t->steps > 0, ERR_CONFIG, "there are no steps to train: %g epochs of %.0f samples",
            c->num_epochs, samples);
    t->first_step = t->state.step;
    return OK;
}

static Err open_batches(Trainer *t) {
    batches_setup(&t->options, t->config, model_spec(t->model), t->tokenizer);
    t->options.split = SPLIT_TRAIN;
    t->options.slots = t->state.slots;
    t->options.slot_first = t->slot_first;
    t->options.slot_end = t->slot_end;
    t->options.first_step = t->state.step;
    t->options.shift = (int)t->config->training.image_shift;
    t->options.shift_steps = t->config->training.image_shift_steps;
    for (int i = 0; i < t->data.count; i++) {
        const DatasetConfig *c = t->data.sets[i].config;
        t->options.sources[i] =
            (BatchSource){.dataset = t->data.sets[i].dataset,
                          .name = c->name,
                          .weight = c->weight,
                          .limit = (size_t)(c->limit ? c->limit : t->config->limit)};
    }
    t->options.source_count = t->data.count;
    return t->slot_first < t->slot_end ? batches_open(&t->batches, &t->options) : OK;
}

static Err open_run_folder(Trainer *t, const Json *versions) {
    char path[PATH_SIZE];
    const char *folder = t->config->output_dir;
    TRY(path_format(path, "%s/log", folder));
    TRY(file_make_directories(path));
    TRY(path_format(path, "%s/log/rank-%d.txt", folder, comm_rank(t->comm)));
    TRY(log_open_file(path));
    TRY(path_join(t->checkpoints, folder, "checkpoints"));
    if (comm_rank(t->comm) != 0) return OK;
    Buf text = {0};
    config_print(&text, t->config);
    Err err = path_join(path, folder, "config.yaml");
    if (err == OK) err = file_write(path, text.data, text.size);
    buf_free(&text);
    if (err == OK && versions) err = path_join(path, folder, "version.json");
    if (err == OK && versions) err = js_write(path, versions);
    return err;
}

static Err refuse_old_checkpoints(const Trainer *t) {
    char path[PATH_SIZE];
    TRY(path_join(path, t->checkpoints, "latest"));
    REQUIRE(!file_exists(path), ERR_CONFIG,
            "%s already has checkpoints: delete them, or choose another output_dir for a fresh run",
            t->checkpoints);
    return OK;
}

/* What a config may say and this version does not do; never passed over in silence. */
static Err refuse_what_is_missing(const Config *c) {
    const struct {
        bool asked;
        const char *what;
    } missing[] = {
        {c->curriculum.by != CURRICULUM_NONE, "curriculum"},
        {c->deepspeed_config[0] != 0, "deepspeed_config"},
        {c->image_folder[0] != 0, "image_folder (TinyLLaVA JSON)"},
        {c->image_aspect != ASPECT_SQUARE, "image_aspect_ratio: pad"},
    };
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++)
        REQUIRE(!missing[i].asked, ERR_UNSUPPORTED, "%s is not there yet in this version",
                missing[i].what);
    for (int i = 0; i < c->dataset_count; i++)
        REQUIRE(c->datasets[i].max_epochs == 0, ERR_UNSUPPORTED,
                "datasets: max_epochs (of %s) is not there yet in this version",
                c->datasets[i].name);
    return OK;
}

/* Device memory of a rank, by what it is for. */
typedef struct MemoryReport {
    size_t parameters, gradients, optimiser, activations, scratch;
} MemoryReport;

static MemoryReport memory_report(const Trainer *t) {
    ModelMemory m = model_memory(t->model);
    return (MemoryReport){.parameters = m.parameters,
                          .gradients = reducer_bytes(t->reducer),
                          .optimiser = 3 * (size_t)t->optim.count * sizeof(float),
                          .activations = m.activations,
                          .scratch = exec_scratch_bytes(t->ex)};
}

size_t train_memory(const Trainer *t) {
    MemoryReport m = memory_report(t);
    return m.parameters + m.gradients + m.optimiser + m.activations + m.scratch;
}

Err train_set_up(Trainer *t, bool fresh, const Json *versions) {
    const TrainingConfig *c = &t->config->training;
    TRY(open_run_folder(t, versions));
    if (fresh) TRY(refuse_old_checkpoints(t));
    TRY(refuse_what_is_missing(t->config));
    TRY(setup_device(&t->ex, t->config, t->comm));
    TRY(open_model(t));
    TRY(data_setup(&t->data, t->config));
    int samples = (int)c->per_device_batch_size, rows = model_image_rows(model_spec(t->model));
    REQUIRE(c->max_length > rows + 1, ERR_CONFIG,
            "training.max_length %lld leaves no room behind %d image rows",
            (long long)c->max_length, rows);
    ModelLimits limits = {.samples = samples,
                          .images = samples,
                          .tokens = samples * (int)c->max_length,
                          .labels = samples * ((int)c->max_length - rows)};
    TRY(model_prepare(t->model, &limits, true));
    TRY(optim_open(&t->optim, t->ex, t->model, c));
    TRY(resume(t));
    TRY(settle_slots(t));
    TRY(open_batches(t));
    if (comm_rank(t->comm) == 0) {
        char path[PATH_SIZE];
        TRY(path_join(path, t->config->output_dir, "metrics.jsonl"));
        TRY(metrics_open(&t->metrics, path, t->state.step));
    }
    return OK;
}

void train_describe(const Trainer *t) {
    MemoryReport m = memory_report(t);
    double mib = 1.0 / (1 << 20);
    log_info("%s, %d rank%s, weights in %s", exec_description(t->ex), comm_size(t->comm),
             comm_size(t->comm) == 1 ? "" : "s", dtype_name(model_params(t->model)->dtype));
    size_t parameters = m.parameters / dtype_size(model_params(t->model)->dtype);
    log_info("%.2f of %.2f million parameters trained", 1e-6 * (double)t->optim.count,
             1e-6 * (double)parameters);
    char scratch[80] = "";
    if (!exec_is_host(t->ex)) {
        size_t total, available;
        exec_memory(t->ex, &total, &available);
        snprintf(scratch, sizeof scratch, ", scratch %.0f; of %.0f MiB %.0f are left",
                 (double)m.scratch * mib, (double)total * mib, (double)available * mib);
    }
    log_info(
        "memory of a rank in MiB: parameters %.0f, gradients %.0f, optimiser %.0f, activations "
        "%.0f%s",
        (double)m.parameters * mib, (double)m.gradients * mib, (double)m.optimiser * mib,
        (double)m.activations * mib, scratch);
    log_info("%lld steps of %d × %lld samples from %zu", (long long)t->steps, t->state.slots,
             (long long)t->config->training.per_device_batch_size, t->data.samples);
}
