/* Setting up a training run: model, data, optimiser, what an earlier run left, and what all of it
 * takes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/preprocessor.h"
#include "core/hash.h"
#include "core/log.h"
#include "model/files/adapter.h"
#include "trainer/resume.h"
#include "trainer/train_internal.h"

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

/* What the user states otherwise than the adapter has it is passed over, but not in silence. */
static void warn_of_unused(const Trainer *t) {
    static const char *const keys[] = {"lora.r",
                                       "lora.alpha",
                                       "lora.use_rslora",
                                       "lora.target_modules",
                                       "lora.rank_pattern",
                                       "lora.alpha_pattern",
                                       "tune.llm",
                                       "tune.vision"};
    if (comm_rank(t->comm) != 0) return;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (!config_stated(t->config, keys[i]) ||
            config_same_key(t->config, &t->described, keys[i]))
            continue;
        Buf line = {0};
        config_print_key(&line, t->config, keys[i]);
        buf_text(&line, " of the config is not used; the adapter has ");
        config_print_key(&line, &t->described, keys[i]);
        log_warn("%s", buf_cstr(&line));
        buf_free(&line);
    }
}

/* Shapes cannot tell one fine-tune from another; names can. */
static void warn_of_other_base(const Trainer *t, const char *named) {
    const Lineage *lineage = &t->base.lineage;
    char real[PATH_SIZE];
    if (comm_rank(t->comm) != 0 || !named[0] || !lineage->name[0] ||
        !strcmp(named, lineage->name) || (realpath(named, real) && !strcmp(real, lineage->folder)))
        return;
    log_warn("the adapter %s says that it is for %s; here it goes onto %s", t->config->adapter,
             named, lineage->name);
}

/* An adapter that the run goes on with says what is adapted, by which ranks and scales. Its dropout
 * gives way to what the user says. */
static Err describe_adapter(Trainer *t) {
    Adapter *adapter;
    ModelSpec spec;
    Tune tune[COMPONENT_COUNT];
    LoraConfig lora;
    TRY(adapter_open(&adapter, t->config->adapter));
    model_spec_from_config(&spec, &t->described, (int)t->described.model.llm.vocab);
    Err err = adapter_describe(adapter, &spec, &lora, tune);
    warn_of_other_base(t, adapter_config(adapter)->base);
    adapter_close(&adapter);
    TRY(err);
    if (config_stated(t->config, "lora.dropout")) lora.dropout = t->config->lora.dropout;
    t->described.lora = lora;
    t->described.tune.vision = tune[COMPONENT_VISION];
    t->described.tune.llm = tune[COMPONENT_LLM];
    return preprocessor_read(&t->described, t->config->adapter);
}

static Err load_adapter(Trainer *t) {
    Adapter *adapter;
    TRY(adapter_open(&adapter, t->config->adapter));
    int loaded = 0;
    Err err = model_load_adapter(t->model, adapter, t->optim.master, &loaded);
    adapter_close(&adapter);
    if (err == OK) log_info("going on with the adapter %s: %d linears", t->config->adapter, loaded);
    return err;
}

static Err count_checkpoints(const Trainer *t, size_t *count) {
    FileNames names;
    *count = 0;
    TRY(checkpoint_list(&names, t->checkpoints));
    *count = names.count;
    file_names_free(&names);
    return OK;
}

/* Where all are damaged a run would begin anew, and delete them one by one. */
static Err refuse_damaged_checkpoints(const Trainer *t) {
    size_t count;
    TRY(count_checkpoints(t, &count));
    REQUIRE(count == 0, ERR_INPUT,
            "none of the %zu checkpoint%s in %s can be gone on from, as said above: put good ones "
            "there, or delete that folder to begin anew",
            count, count == 1 ? "" : "s", t->checkpoints);
    return OK;
}

/* What the run goes on from: its own newest good checkpoint, else the base. Fills in what the model
 * is. */
static Err find_base(Trainer *t) {
    const Config *config = t->config;
    t->described = *config;
    TRY(checkpoint_find(t->resumed, t->checkpoints));
    if (!t->resumed[0]) TRY(refuse_damaged_checkpoints(t));
    if (t->resumed[0]) {
        t->base = (Base){.kind = BASE_CHECKPOINT};
        TRY(path_format(t->base.folder, "%s", t->resumed));
        TRY(lineage_read(&t->base.lineage, t->resumed));
    } else {
        TRY(base_find(&t->base, config->base_model));
        if (t->base.kind == BASE_PUBLISHED && comm_rank(t->comm) == 0)
            TRY(base_fingerprint(t->base.lineage.weights, t->base.folder, t->base.adapter));
    }
    REQUIRE(t->base.kind != BASE_NONE || config->model.from_scratch, ERR_CONFIG,
            "neither base_model nor model: says what to train");
    TRY(base_describe(&t->base, &t->described));
    if (config->adapter[0] && !t->resumed[0]) TRY(describe_adapter(t));
    if (config->adapter[0]) warn_of_unused(t);
    return t->resumed[0] && comm_rank(t->comm) == 0
               ? resume_check(config, &t->described, t->resumed, comm_size(t->comm))
               : OK;
}

/* Something is trained, and every component that is to have adapters has some. */
static Err check_trained(Model *model) {
    const Params *params = model_params(model);
    int adapters[COMPONENT_COUNT] = {0};
    for (int i = 0; i < params->count; i++)
        adapters[params->items[i].component] += params->items[i].kind == PARAM_LORA_A;
    for (int component = 0; component < COMPONENT_COUNT; component++)
        REQUIRE(
            model_spec(model)->tune[component] != TUNE_LORA || adapters[component], ERR_CONFIG,
            "lora.target_modules \"%s\" names no linear of the %s component: give ends of module "
            "names (q_proj), or freeze it (tune.%s: frozen)",
            model_spec(model)->lora.target_modules, component_name((Component)component),
            component_name((Component)component));
    REQUIRE(params->trained > 0, ERR_CONFIG, "nothing is trained: see tune and lora");
    return OK;
}

static bool names_an_adapter(const Params *params, const char *end, size_t length) {
    static const char a[] = ".lora_A.weight";
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        char module[PARAM_NAME];
        if (p->kind != PARAM_LORA_A) continue;
        snprintf(module, sizeof module, "%.*s", (int)(strlen(p->name) - (sizeof a - 1)), p->name);
        if (name_ends(module, end, length)) return true;
    }
    return false;
}

/* A slip in a name would otherwise go unseen where another name fits. */
static void warn_of_idle_names(const Trainer *t) {
    const LoraConfig *lora = &model_spec(t->model)->lora;
    const Params *params = model_params(t->model);
    const PatternList *lists[] = {&lora->rank_pattern, &lora->alpha_pattern};
    if (comm_rank(t->comm) != 0) return;
    for (const char *at = lora->target_modules; *at && strcmp(at, "all-linear") != 0;) {
        size_t length = strcspn(at, ", ");
        if (length && !names_an_adapter(params, at, length))
            log_warn("lora.target_modules: no linear is called %.*s", (int)length, at);
        at += length + strspn(at + length, ", ");
    }
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < lists[k]->count; i++) {
            const char *name = lists[k]->items[i].name;
            if (!names_an_adapter(params, name, strlen(name)))
                log_warn("lora.%s: no adapter is called %s", k ? "alpha_pattern" : "rank_pattern",
                         name);
        }
}

/* Other data than a preset's need another tokenizer than the preset's. */
#define MAKING_ONE "one is learned from the data by `cadvlm data tokenizer %s -o %s`"

static const char *data_example(const Config *config) {
    return config->train_data[0] ? config->train_data : config->datasets[0].path;
}

static Err open_tokenizer(Trainer *t) {
    if (t->config->tokenizer[0] && !t->resumed[0])
        TRY(path_format(t->tokenizer_file, "%s", t->config->tokenizer));
    else if (t->base.kind != BASE_NONE)
        TRY(base_tokenizer(&t->base, t->tokenizer_file));
    else
        FAIL(ERR_CONFIG, "tokenizer: not given; " MAKING_ONE, data_example(t->config), "FILE.json");
    REQUIRE(file_exists(t->tokenizer_file), ERR_INPUT, "tokenizer: no %s; " MAKING_ONE,
            t->tokenizer_file, data_example(t->config), t->tokenizer_file);
    return tokenizer_open(&t->tokenizer, t->tokenizer_file);
}

static Err make_model(Trainer *t) {
    ModelSpec spec;
    const Config *d = &t->described;
    model_spec_from_config(&spec, d, tokenizer_vocab(t->tokenizer));
    TRY(tokenizer_check_model(t->tokenizer, spec.llm.vocab, t->tokenizer_file));
    bool all_trained =
        d->tune.vision == TUNE_FULL && d->tune.connector == TUNE_FULL && d->tune.llm == TUNE_FULL;
    spec.mapped = exec_is_host(t->ex) && t->base.kind != BASE_NONE && !all_trained;
    return model_open(&t->model, t->ex, &spec, precision_dtype(t->ex, d->precision));
}

static Err open_model(Trainer *t) {
    TRY(find_base(t));
    TRY(open_tokenizer(t));
    TRY(make_model(t));
    TRY(check_trained(t->model));
    warn_of_idle_names(t);
    return OK;
}

static const char *device_called(int64_t device) {
    return device == EXEC_CUDA ? "a GPU" : "the processor alone";
}

/* Collective. Ranks must start from the same thing, or they would not meet again. */
static Err check_same_start(Trainer *t) {
    int64_t own[] = {exec_device(t->ex), t->base.kind, model_spec(t->model)->mapped,
                     (int64_t)hash_bytes(path_name(t->resumed), strlen(path_name(t->resumed)))};
    enum { OWN = sizeof own / sizeof own[0] };
    int ranks = comm_size(t->comm);
    int64_t *all = calloc((size_t)(OWN * ranks), sizeof *all);
    CHECK(all, "out of memory: %d ranks", ranks);
    Err err = comm_gather_all(t->comm, all, own, sizeof own);
    for (int r = 1; r < ranks && err == OK; r++) {
        const int64_t *theirs = all + OWN * r;
        if (theirs[0] != all[0])
            err = err_raise(ERR_CONFIG, __FILE__, __LINE__,
                            "rank %d has %s, rank 0 has %s: give every rank a GPU, or set device: "
                            "cpu for all",
                            r, device_called(theirs[0]), device_called(all[0]));
        else if (memcmp(all, theirs, sizeof own) != 0)
            err = err_raise(ERR_CONFIG, __FILE__, __LINE__,
                            "rank %d does not start from what rank 0 does: another checkpoint in "
                            "output_dir (is it on a shared file system?)",
                            r);
    }
    free(all);
    return comm_agree(t->comm, err);
}

/* Collective. Values of all parameters, but for what `resume` then reads from the checkpoint. */
static Err load_weights(Trainer *t) {
    uint64_t seed = (uint64_t)t->config->seed;
    if (t->resumed[0]) return comm_agree(t->comm, checkpoint_load_frozen(t->model, t->resumed));
    if (t->base.kind == BASE_NONE) {
        model_init(t->model, seed, ~0u);
        init_numbers(t);
        return comm_agree(t->comm, exec_status(t->ex));
    }
    model_init_lora(t->model, seed);
    return base_load(t->model, &t->base, t->config->output_dir, t->comm);
}

/* Master weights in full precision, where values have been rounded. */
static Err load_masters(Trainer *t) {
    if (t->resumed[0] || t->base.kind == BASE_NONE) return OK;
    TRY(base_masters(t->model, &t->base, t->optim.master));
    return t->config->adapter[0] ? load_adapter(t) : OK;
}

Config *train_describe_config(const Trainer *t) {
    Config *out = malloc(sizeof *out);
    CHECK(out, "out of memory: a config");
    *out = t->described;
    out->model.llm.vocab = model_spec(t->model)->llm.vocab;
    out->tokenizer[0] = 0; /* it lies in the checkpoint */
    out->adapter[0] = 0;   /* likewise, as it is by now */
    return out;
}

/* Takes up the newest good checkpoint of this run, if there is one. */
static Err resume(Trainer *t) {
    const char *path = t->resumed;
    t->state = (TrainState){.val_loss = NAN,
                            .best_val_loss = NAN,
                            .best_step = -1,
                            .excluded = t->data.excluded,
                            .names_known = true};
    strcpy(t->state.base_model, t->config->base_model);
    strcpy(t->state.adapter, t->config->adapter);
    if (!path[0]) return OK;
    TRY(train_state_read(&t->state, path));
    TRY(checkpoint_load(&t->optim, path));
    if (t->state.excluded != t->data.excluded)
        log_warn(
            "exclude: other samples are left out than when %s was written: batches differ from "
            "here on",
            path);
    t->state.excluded = t->data.excluded;
    t->saved_step = t->state.step;
    t->val_loss = t->state.val_loss;
    log_info("resuming after step %lld from %s", (long long)t->state.step, path);
    return OK;
}

static Err settle_micro_batches(Trainer *t) {
    const TrainingConfig *c = &t->config->training;
    int ranks = comm_size(t->comm);
    int64_t accumulated = c->gradient_accumulation_steps * ranks;
    REQUIRE(c->micro_batches || t->state.micro_batches || accumulated <= MICRO_BATCHES_MAX,
            ERR_CONFIG,
            "training.gradient_accumulation_steps %lld on %d ranks is %lld micro-batches a step; "
            "%d are "
            "possible",
            (long long)c->gradient_accumulation_steps, ranks, (long long)accumulated,
            MICRO_BATCHES_MAX);
    int micro_batches = c->micro_batches         ? (int)c->micro_batches
                        : t->state.micro_batches ? t->state.micro_batches
                                                 : (int)accumulated;
    if (t->state.micro_batches && micro_batches != t->state.micro_batches)
        log_warn("training.micro_batches %d, the checkpoint was made with %d: batches differ from "
                 "here on",
                 micro_batches, t->state.micro_batches);
    if (micro_batches < ranks)
        log_warn("%d micro-batches a step for %d ranks: %d ranks have nothing to do", micro_batches,
                 ranks, ranks - micro_batches);
    t->state.micro_batches = micro_batches;
    reducer_micro_batches(micro_batches, comm_rank(t->comm), ranks, &t->micro_first, &t->micro_end);
    t->micro_most = (micro_batches + ranks - 1) / ranks;
    t->reports = calloc((size_t)(ranks * t->micro_most), sizeof *t->reports);
    t->losses = calloc((size_t)(ranks * t->micro_most), sizeof *t->losses);
    t->rank_reports = calloc((size_t)ranks, sizeof *t->rank_reports);
    t->device_losses = exec_alloc(t->ex, (size_t)t->micro_most * sizeof *t->device_losses);
    CHECK(t->reports && t->losses && t->rank_reports && t->device_losses,
          "out of memory: reports of %d ranks", ranks);
    TRY(exec_events(t->ex, EVENTS_A_MICRO_BATCH * t->micro_most + EVENTS_A_STEP));
    /* A state from elsewhere must not send the mixer to where no run gets (data/mixer.h). */
    REQUIRE((double)t->state.step * micro_batches * (double)c->per_device_batch_size < 0x1p41,
            ERR_INPUT, "%s: no run has done %lld steps of %d × %lld samples", t->resumed,
            (long long)t->state.step, micro_batches, (long long)c->per_device_batch_size);
    double samples = t->config->samples_per_epoch ? (double)t->config->samples_per_epoch
                                                  : (double)t->data.samples;
    double step_samples = (double)micro_batches * (double)c->per_device_batch_size;
    t->steps = c->max_steps ? c->max_steps : (int64_t)ceil(c->num_epochs * samples / step_samples);
    REQUIRE(t->steps > 0, ERR_CONFIG, "no steps to train: %g epochs of %.0f samples", c->num_epochs,
            samples);
    t->first_step = t->state.step;
    return OK;
}

/* Simple parts first: until which sample of the run not all take part. */
static void settle_curriculum(Trainer *t) {
    const Config *c = t->config;
    if (c->curriculum.by == CURRICULUM_NONE) return;
    int64_t steps = (int64_t)ceil(c->curriculum.full_at * (double)t->steps);
    t->options.curriculum_start = c->curriculum.start;
    t->options.curriculum_samples = (uint64_t)steps * (uint64_t)t->options.micro_batches *
                                    (uint64_t)c->training.per_device_batch_size;
    if (steps && comm_rank(t->comm) == 0)
        log_info("curriculum: the simplest %.3g %% of each dataset first, all samples from step "
                 "%lld on",
                 100 * c->curriculum.start, (long long)steps + 1);
}

/* How often the run will see each dataset; a warning where that is more than its max_epochs. */
static Err report_epochs(const Trainer *t) {
    const BatchesOptions *o = &t->options;
    double weights[MIXER_DATASETS_MAX];
    size_t counts[MIXER_DATASETS_MAX];
    uint64_t samples[MIXER_DATASETS_MAX];
    Mixer mixer;
    for (int i = 0; i < o->source_count; i++) {
        size_t *indices;
        TRY(batches_select(&o->sources[i], o->split, &indices, &counts[i]));
        free(indices);
        weights[i] = o->sources[i].weight;
    }
    TRY(mixer_open(&mixer, o->seed, o->source_count, weights, counts));
    mixer_ledger(&mixer, (uint64_t)t->steps * (uint64_t)o->micro_batches * (uint64_t)o->size,
                 samples);
    for (int i = 0; i < o->source_count; i++) {
        double epochs = (double)samples[i] / (double)counts[i],
               most = t->data.sets[i].config->max_epochs;
        if (o->source_count > 1)
            log_info("dataset %s: %zu samples, %.3g %% of the run, %.3g epochs", o->sources[i].name,
                     counts[i], 100 * mixer.weights[i], epochs);
        if (most > 0 && epochs > most)
            log_warn("dataset %s: %.3g epochs in this run, more than its max_epochs %g: lower its "
                     "weight or the steps, or add samples to it",
                     o->sources[i].name, epochs, most);
    }
    return OK;
}

static Err open_batches(Trainer *t) {
    batches_setup(&t->options, &t->described, model_spec(t->model), t->tokenizer);
    t->options.split = SPLIT_TRAIN;
    t->options.micro_batches = t->state.micro_batches;
    t->options.micro_first = t->micro_first;
    t->options.micro_end = t->micro_end;
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
    settle_curriculum(t);
    if (comm_rank(t->comm) == 0) TRY(report_epochs(t));
    return t->micro_first < t->micro_end ? batches_open(&t->batches, &t->options) : OK;
}

static Err open_run_folder(Trainer *t) {
    char path[PATH_SIZE];
    const char *folder = t->config->output_dir;
    TRY(path_format(path, "%s/log", folder));
    TRY(file_make_directories(path));
    TRY(path_format(path, "%s/log/rank-%d.txt", folder, comm_rank(t->comm)));
    TRY(log_open_file(path));
    TRY(path_join(t->checkpoints, folder, "checkpoints"));
    return comm_rank(t->comm) == 0
               ? folder_lock(&t->folder_lock, folder, "another run is under way in")
               : OK;
}

/* config.yaml: what the run is from here on, with what its base or its checkpoint decided, and as
 * the user names what it began with. */
static Err write_config(const Trainer *t) {
    char path[PATH_SIZE];
    Config *is = malloc(sizeof *is);
    Buf text = {0};
    CHECK(is, "out of memory: a config");
    *is = t->described;
    is->model.from_scratch = t->config->model.from_scratch;
    config_print(&text, is);
    Err err = path_join(path, t->config->output_dir, "config.yaml");
    if (err == OK) err = file_write(path, text.data, text.size);
    buf_free(&text);
    free(is);
    return err;
}

/* When nothing is left that could refuse the run. */
static Err write_what_it_is(const Trainer *t, const Json *versions) {
    char path[PATH_SIZE];
    if (comm_rank(t->comm) != 0) return OK;
    TRY(checkpoint_check_config(&t->described));
    TRY(lineage_check(&t->base.lineage));
    TRY(write_config(t));
    if (!versions) return OK;
    TRY(path_join(path, t->config->output_dir, "version.json"));
    return js_write(path, versions);
}

static Err refuse_old_checkpoints(const Trainer *t) {
    size_t count;
    TRY(count_checkpoints(t, &count));
    REQUIRE(count == 0, ERR_CONFIG,
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
        {c->deepspeed_config[0] != 0, "deepspeed_config"},
        {c->image_folder[0] != 0, "image_folder (TinyLLaVA JSON)"},
    };
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++)
        REQUIRE(!missing[i].asked, ERR_UNSUPPORTED, "%s is not there yet in this version",
                missing[i].what);
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
                          .optimiser = optim_bytes(&t->optim),
                          .activations = m.activations,
                          .scratch = exec_scratch_bytes(t->ex)};
}

size_t train_memory(const Trainer *t) {
    MemoryReport m = memory_report(t);
    return m.parameters + m.gradients + m.optimiser + m.activations + m.scratch;
}

static Err set_up_model(Trainer *t, bool fresh) {
    TRY(open_run_folder(t));
    if (fresh) TRY(refuse_old_checkpoints(t));
    TRY(refuse_what_is_missing(t->config));
    TRY(setup_device(&t->ex, t->config, t->comm));
    TRY(data_setup(&t->data, t->config));
    return open_model(t);
}

/* Device memory that is taken after the model's: master weights and moments, gradients (the tree
 * keeps some of them), and what NCCL needs for its ways. */
static size_t memory_to_come(const Trainer *t) {
    enum { NCCL = 1 << 30 };
    size_t array = (size_t)model_params(t->model)->trained * sizeof(float);
    size_t gradients = t->config->deterministic ? 3 : 1;
    size_t nccl = comm_size(t->comm) > 1 && !exec_is_host(t->ex) ? NCCL : 0;
    return (3 + gradients) * array + nccl;
}

static Err set_up_steps(Trainer *t) {
    const TrainingConfig *c = &t->described.training;
    int rows = model_image_rows(model_spec(t->model));
    ModelLimits limits;
    REQUIRE(c->max_length > rows + 1, ERR_CONFIG,
            "training.max_length %lld leaves no room behind %d image rows",
            (long long)c->max_length, rows);
    TRY(model_limits(&limits, model_spec(t->model), c->per_device_batch_size));
    limits.reserved = memory_to_come(t);
    TRY(model_prepare(t->model, &limits, true));
    TRY(optim_open(&t->optim, t->ex, t->model, c));
    TRY(load_masters(t));
    TRY(resume(t));
    TRY(settle_micro_batches(t));
    TRY(open_batches(t));
    if (comm_rank(t->comm) == 0) {
        char path[PATH_SIZE];
        TRY(path_join(path, t->config->output_dir, "metrics.jsonl"));
        TRY(metrics_open(&t->metrics, path, t->state.step));
    }
    return OK;
}

Err train_set_up(Trainer *t, bool fresh, const Json *versions) {
    TRY(comm_agree(t->comm, set_up_model(t, fresh)));
    TRY(check_same_start(t));
    TRY(load_weights(t));
    TRY(comm_agree(t->comm, set_up_steps(t)));
    return comm_agree(t->comm, write_what_it_is(t, versions));
}

static int64_t count_parameters(const Params *params) {
    int64_t count = 0;
    for (int i = 0; i < params->count; i++) count += params->items[i].rows * params->items[i].cols;
    return count;
}

void train_describe(const Trainer *t) {
    MemoryReport m = memory_report(t);
    double mib = 1.0 / (1 << 20);
    log_info("%s, %d rank%s, weights in %s", exec_description(t->ex), comm_size(t->comm),
             comm_size(t->comm) == 1 ? "" : "s", dtype_name(model_params(t->model)->dtype));
    log_info("%.2f of %.2f million parameters trained", 1e-6 * (double)t->optim.count,
             1e-6 * (double)count_parameters(model_params(t->model)));
    char scratch[80] = "";
    if (model_mapped_path(t->model))
        snprintf(scratch, sizeof scratch, "; mapped, once for all ranks of a machine: %.0f",
                 (double)model_mapped_bytes(t->model) * mib);
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
    char datasheet[64] = "";
    if (t->datasheet_flops > 0)
        snprintf(datasheet, sizeof datasheet, "; %.4g by the datasheet",
                 1e-12 * t->datasheet_flops);
    log_info(
        "peak of all ranks, which mfu is a share of: %.3g TFLOP/s, measured on a plain product%s",
        1e-12 * t->peak_flops, datasheet);
    log_info("%lld steps of %d × %lld samples from %zu", (long long)t->steps,
             t->state.micro_batches, (long long)t->config->training.per_device_batch_size,
             t->data.samples);
}
