/* How fast a training step is (gradients zeroed, forward, backward, update), against the rate of a
 * plain matrix product.
 *
 *   bench_step [demo|layer|055b|089b|24b|31b] [--device cpu|cuda] [--threads N] [--seconds S]
 * [--steps N]
 *              [--micro-batch B] [--tokens T] [--lora-r R] [--dropout P] [--layers N]
 *              [--peak TFLOPS] [--mapped FILE] [--no-update] [--blocks] [--json] [--vary]
 *              [--open]
 *
 * demo: the model of config/presets/demo.yaml on batches of 16 samples with the row counts of its
 * data. layer: one OpenELM-450M-sized decoder layer with LoRA of rank 128 on 1,024 tokens.
 *
 * 089b: OpenECADv2 0.89B (SigLIP so400m/14-384, of which 26 layers are used; OpenELM-450M) with
 * random weights, vision frozen, connector trained, LoRA of rank 128 with dropout 0.05 on every
 * linear of the decoder. B = 8 packed samples of T = 2,048 rows: 728 of the picture, the rest text,
 * of which 1,250 of 1,320 have labels. 055b: the same decoder behind a tower of the sizes of CLIP
 * ViT-B/16 (11 of 12 layers, 196 picture rows), but of SigLIP's kind: there is no class token.
 * 24b and 31b: Gemma 1 2B and Phi-2 (3,072 rows) behind SigLIP, as OpenECADv2 2.4B and 3.1B.
 * --layers uses the first N of the decoder's only. --mapped writes the frozen weights to FILE and
 * uses them where it is mapped, as the trainer does on a CPU.
 *
 * Prints the median step, samples/s, tokens/s, FLOP/s and "mfu": the step's matrix FLOPs
 * (model_flops: nothing recomputed, attention counts visible pairs) over --peak, by default what
 * the GPU's datasheet says (989 TFLOP/s, of an H100 or H200, where the GPU is not known; what a
 * plain product reaches is measured once and printed beside it) and the measured rate of a 1,024³
 * product on the CPU, taken before and after every step (seven times the best of twelve; the median
 * of medians), so that other work on the machine slows both; and where the memory is.
 * --no-update leaves the optimiser out: gradients zeroed, forward, backward. On a GPU times are
 * between events, and nothing waits between steps. --blocks: waits for a line on standard input
 * before each round of steps, and ends with it, so that two programs can take turns.
 *
 * "host" is the time until a step's work is handed to the device, which a GPU's own time should
 * hide; "planned" how many products cuBLASLt was asked about anew, of how many. --vary: samples of
 * a quarter to all of the text rows, another number in each, as real data has, and a new batch
 * every step; the device is waited for between steps, so that the host's time is not that of
 * waiting in its queue.
 *
 * --open: only
 * opens the device and says what it is, or why it cannot be used. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "benchmarks/step_cases.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/log.h"
#include "core/rng.h"
#include "cuda/backend_cuda.h"
#include "model/model.h"
#include "model/optim.h"

/* ---- the run ---- */

/* Marks of a step: its begin, backward's begin, its end. */
enum { BATCHES = 8, BATCHES_VARIED = 64, STEPS_MAX = 2000, EVENTS = 3 };

typedef struct Run {
    Exec *ex;
    Model *model;
    Optim optim;
    Batch batches[BATCHES_VARIED];
    int step;
} Run;

typedef struct Options {
    ExecDevice device;
    int threads, steps;   /* steps 0: as many as fit into `seconds` */
    double seconds, peak; /* peak 0: measured beside every step */
    double measured;      /* rate of a plain product on a GPU */
    bool no_update, blocks, json, vary, open;
    const char *mapped; /* a file for the frozen weights, or NULL */
} Options;

static int batches_of(const Options *options) {
    return options->vary ? BATCHES_VARIED : BATCHES;
}

typedef struct Result {
    int steps;
    double host_seconds;    /* median */
    ProductCounts products; /* of all steps */
    double step_seconds, forward_seconds, cpu_seconds, samples_per_s, tokens_per_s, flops, peak,
        sample_flops, loss;
} Result;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, by_value);
    return x[n / 2];
}

enum { BLOCK = 1 << 18 };

/* Normal numbers of σ = 0.02, a block of them over and over, and ones for the norms: */
static const float *random_block(void) {
    static float block[BLOCK];
    Rng rng;
    rng_open(&rng, 1, RNG_TEST, 0);
    for (int i = 0; i < BLOCK; i++) block[i] = 0.02f * (float)rng_normal(&rng);
    return block;
}

static Err random_parameter(void *context, const Param *p, float *out) {
    const float *block = context;
    for (int64_t i = 0; i < p->rows * p->cols; i++)
        out[i] = p->kind == PARAM_NORM ? 1 : block[i % BLOCK];
    return OK;
}

/* into frozen parameters that lie in a file, as those of a published model do, */
static Err map_parameters(Model *model, const char *path, const float *block) {
    WeightSource source = {random_parameter, (void *)(uintptr_t)block};
    TRY(model_write_mapped(model, path, &source));
    return model_map(model, path);
}

/* and into all that are in memory. */
static Err fill_parameters(Exec *ex, const Params *params, const float *block) {
    static float ones[BLOCK];
    float *device = exec_alloc(ex, sizeof ones);
    REQUIRE(device, ERR_MEMORY, "out of memory: %zu bytes", sizeof ones);
    exec_upload(ex, device, block, sizeof ones);
    size_t bytes = params->value_bytes, done = BLOCK * dtype_size(params->dtype);
    CHECK(bytes >= done, "a model of %zu bytes", bytes);
    op_convert(ex, tensor(params->values, params->dtype, 1, BLOCK),
               tensor(device, DT_F32, 1, BLOCK));
    for (size_t part; done < bytes; done += part) { /* twice as much with each copy */
        part = bytes - done < done ? bytes - done : done;
        exec_copy(ex, params->values + done, params->values, part);
    }
    exec_wait(ex);
    for (int i = 0; i < BLOCK; i++) ones[i] = 1;
    exec_upload(ex, device, ones, sizeof ones);
    for (int i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (p->kind == PARAM_NORM && !p->outside)
            op_convert(ex, param_value(params, i), tensor(device, DT_F32, 1, p->cols));
    }
    exec_wait(ex);
    exec_free(ex, device, sizeof ones);
    return exec_status(ex);
}

static Err run_open(Run *run, const StepCase *c, const Options *options) {
    bool cuda = options->device == EXEC_CUDA;
    TRY(exec_open(&run->ex, options->device, cuda ? 0 : options->threads));
    ModelSpec spec = c->spec;
    spec.mapped = options->mapped != NULL;
    TRY(model_open(&run->model, run->ex, &spec, exec_fast_dtype(run->ex)));
    Params *params = model_params(run->model);
    const float *block = random_block();
    if (spec.mapped) TRY(map_parameters(run->model, options->mapped, block));
    if (c->large)
        TRY(fill_parameters(run->ex, params, block));
    else
        model_init(run->model, 1, ~0u);
    int rows = c->samples * (model_image_rows(&c->spec) + c->text_high);
    TRY(model_prepare(
        run->model,
        &(ModelLimits){.samples = c->samples, .tokens = rows, .labels = rows, .images = c->samples},
        true));
    size_t bytes = (size_t)params->trained * sizeof(float);
    params->grads = exec_alloc(run->ex, bytes);
    REQUIRE(params->grads, ERR_MEMORY, "out of memory: gradients of %zu MiB", bytes >> 20);
    static Config config;
    config_defaults(&config);
    TRY(optim_open(&run->optim, run->ex, run->model, &config.training));
    int batches = batches_of(options);
    for (int i = 0; i < batches; i++) run->batches[i] = step_batch(c, (uint64_t)i);
    return exec_events(run->ex, EVENTS * STEPS_MAX + 1);
}

static void run_close(Run *run) {
    if (!run->model) return;
    Params *params = model_params(run->model);
    optim_close(&run->optim);
    exec_free(run->ex, params->grads, (size_t)params->trained * sizeof(float));
    model_close(&run->model);
    exec_close(&run->ex);
    for (int i = 0; i < BATCHES_VARIED; i++) step_batch_free(&run->batches[i]);
}

/* One step as the trainer takes it on one GPU; events `at` … `at + 2`. */
static Err step(Run *run, const Options *options, const Batch *batch, int at) {
    Params *params = model_params(run->model);
    Batch b = *batch;
    b.step = run->step++; /* another mask of dropout each time */
    exec_event_record(run->ex, at);
    exec_zero(run->ex, params->grads, (size_t)params->trained * sizeof(float));
    TRY(model_forward(run->model, &b, true));
    exec_event_record(run->ex, at + 1);
    TRY(model_backward(run->model));
    if (!options->no_update) TRY(optim_step(&run->optim, params->grads, b.labels, 1e-6));
    exec_event_record(run->ex, at + 2);
    return OK;
}

/* The first passes build what later ones reuse. */
static Err warm_up(Run *run, const Options *options) {
    int steps = options->steps || options->vary ? 3 : BATCHES;
    for (int i = 0; i < steps; i++) TRY(step(run, options, &run->batches[i], 0));
    exec_wait(run->ex);
    return exec_status(run->ex);
}

/* Of all threads of this process. */
static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static double steady_peak(Exec *ex) {
    enum { TIMES = 7 };
    double rates[TIMES];
    for (int i = 0; i < TIMES; i++) rates[i] = exec_peak_flops(ex);
    return median(rates, TIMES);
}

static ProductCounts counted_since(const Exec *ex, ProductCounts before) {
    ProductCounts c = exec_product_counts(ex);
    return (ProductCounts){.products = c.products - before.products,
                           .planned = c.planned - before.planned,
                           .unfused = c.unfused - before.unfused,
                           .plain = c.plain - before.plain,
                           .refused = c.refused - before.refused};
}

static Err measure(Run *run, const Options *options, Result *out) {
    static double steps[STEPS_MAX], forwards[STEPS_MAX], peaks[STEPS_MAX + 1], cpus[STEPS_MAX],
        hosts[STEPS_MAX];
    ProductCounts before = exec_product_counts(run->ex);
    double tokens = 0, samples = 0, flops = 0, began = clock_seconds();
    int count = 0, labels = 0;
    *out = (Result){.peak = options->peak};
    if (options->peak <= 0) peaks[0] = steady_peak(run->ex);
    while (count < (options->steps ? options->steps : STEPS_MAX) &&
           (options->steps || clock_seconds() - began < options->seconds)) {
        const Batch *b = &run->batches[count % batches_of(options)];
        if (options->vary) exec_wait(run->ex);
        double cpu = cpu_seconds(), host = clock_seconds();
        TRY(step(run, options, b, EVENTS * count));
        hosts[count] = clock_seconds() - host;
        cpus[count++] = cpu_seconds() - cpu;
        if (options->peak <= 0) peaks[count] = steady_peak(run->ex);
        tokens += b->tokens;
        samples += b->samples;
        labels = b->labels;
        flops += model_flops(run->model, b, true);
    }
    int64_t hits;
    TRY(model_loss(run->model, &out->loss, &hits));
    out->loss /= labels;
    for (int i = 0; i < count; i++) {
        steps[i] = exec_event_seconds(run->ex, EVENTS * i, EVENTS * i + 2);
        forwards[i] = exec_event_seconds(run->ex, EVENTS * i, EVENTS * i + 1);
    }
    double typical = median(steps, count);
    if (options->peak <= 0) out->peak = median(peaks, count + 1);
    out->steps = count;
    out->cpu_seconds = median(cpus, count);
    out->host_seconds = median(hosts, count);
    out->products = counted_since(run->ex, before);
    out->step_seconds = typical;
    out->forward_seconds = median(forwards, count);
    out->samples_per_s = samples / count / typical;
    out->tokens_per_s = tokens / count / typical;
    out->flops = flops / count / typical;
    out->sample_flops = flops / samples;
    return exec_status(run->ex);
}

/* ---- what is said ---- */

/* Of this process, now and at most, in MiB. */
static void resident(size_t *now, size_t *most) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    *most = (size_t)usage.ru_maxrss >> 10;
    *now = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    size_t pages;
    if (file && fscanf(file, "%*u %zu", &pages) == 1)
        *now = pages * (size_t)sysconf(_SC_PAGESIZE) >> 20;
    if (file) fclose(file);
}

/* In MiB. */
typedef struct Memory {
    size_t parameters, activations, optimiser, device, resident, resident_most;
} Memory;

static Memory memory_of(const Run *run) {
    Memory m;
    size_t total, available;
    exec_memory(run->ex, &total, &available);
    ModelMemory model = model_memory(run->model);
    m.parameters = model.parameters >> 20;
    m.activations = model.activations >> 20;
    m.optimiser = 4 * (size_t)model_params(run->model)->trained * sizeof(float) >> 20;
    m.device = (total - available) >> 20;
    resident(&m.resident, &m.resident_most);
    return m;
}

static void print_json(const Run *run, const StepCase *c, const Options *options, const Result *r) {
    Memory m = memory_of(run);
    bool cuda = options->device == EXEC_CUDA;
    Json *root = js_new_object();
    js_set_text(root, "case", c->name);
    js_set_text(root, "device", exec_description(run->ex));
    js_set_integer(root, "threads", cuda ? 0 : options->threads);
    js_set_integer(root, "samples", c->samples);
    js_set_integer(root, "longest", run->batches[0].longest);
    js_set_bool(root, "varied", options->vary);
    js_set_integer(root, "decoder_layers", c->spec.llm.layers);
    js_set_integer(root, "lora_r", c->spec.lora.r);
    js_set_number(root, "dropout", c->spec.lora.dropout);
    js_set_bool(root, "update", !options->no_update);
    js_set_integer(root, "steps", r->steps);
    js_set_number(root, "step_ms", r->step_seconds * 1e3);
    js_set_number(root, "forward_ms", r->forward_seconds * 1e3);
    js_set_number(root, "cpu_ms", r->cpu_seconds * 1e3);
    js_set_number(root, "samples_per_s", r->samples_per_s);
    js_set_number(root, "tokens_per_s", r->tokens_per_s);
    js_set_number(root, "sample_tflop", r->sample_flops * 1e-12);
    js_set_number(root, "gflops", r->flops * 1e-9);
    js_set_number(root, "gemm_gflops", r->peak * 1e-9);
    js_set_number(root, "mfu", r->flops / r->peak);
    if (cuda) {
        js_set_number(root, "measured_gflops", options->measured * 1e-9);
        js_set_number(root, "host_ms", r->host_seconds * 1e3);
        js_set_integer(root, "products", r->products.products);
        js_set_integer(root, "planned", r->products.planned);
        js_set_integer(root, "unfused", r->products.unfused);
        js_set_integer(root, "plain", r->products.plain);
        js_set_integer(root, "refused", r->products.refused);
    }
    js_set_number(root, "loss", r->loss);
    js_set_integer(root, "parameter_mib", (int64_t)m.parameters);
    js_set_integer(root, "activation_mib", (int64_t)m.activations);
    js_set_integer(root, "optimiser_mib", (int64_t)m.optimiser);
    js_set_integer(root, "device_mib", (int64_t)m.device);
    js_set_integer(root, "resident_mib", (int64_t)m.resident);
    js_set_integer(root, "resident_most_mib", (int64_t)m.resident_most);
    Buf text = {0};
    js_print(&text, root, JSON_ONE_LINE, 6);
    printf("%s\n", buf_cstr(&text));
    js_free(&root);
    buf_free(&text);
}

static void print_text(const Run *run, const StepCase *c, const Options *options, const Result *r) {
    Memory m = memory_of(run);
    printf("%s on %s, %d samples: step %.2f ms (forward %.2f; %.2f of processors), %.3f samples/s, "
           "%.0f tokens/s, %.1f of %.1f GFLOP/s, mfu %.1f %%, loss %.3f\n"
           "  MiB: parameters %zu, activations %zu, optimiser and gradients %zu, used of the "
           "device %zu, resident %zu, at most %zu\n",
           c->name, exec_description(run->ex), c->samples, r->step_seconds * 1e3,
           r->forward_seconds * 1e3, r->cpu_seconds * 1e3, r->samples_per_s, r->tokens_per_s,
           r->flops * 1e-9, r->peak * 1e-9, 100 * r->flops / r->peak, r->loss, m.parameters,
           m.activations, m.optimiser, m.device, m.resident, m.resident_most);
    if (options->device == EXEC_CUDA)
        printf("  a plain product reaches %.1f GFLOP/s; host %.2f ms a step; %lld products, %lld "
               "planned anew, %lld unfused, %lld plain, %lld refused\n",
               options->measured * 1e-9, r->host_seconds * 1e3, (long long)r->products.products,
               (long long)r->products.planned, (long long)r->products.unfused,
               (long long)r->products.plain, (long long)r->products.refused);
}

static void print(const Run *run, const StepCase *c, const Options *options, const Result *r) {
    (options->json ? print_json : print_text)(run, c, options, r);
    fflush(stdout);
}

static bool next_block(void) {
    char line[64];
    return fgets(line, sizeof line, stdin) != NULL;
}

/* What a step's rate is a share of, on a GPU. */
static void settle_peak(Exec *ex, Options *options) {
    if (options->device != EXEC_CUDA) return;
    double datasheet = exec_datasheet_flops(ex);
    if (options->peak <= 0) options->peak = datasheet > 0 ? datasheet : 989e12;
    options->measured = exec_peak_flops(ex);
}

static Err run_all(Run *run, const StepCase *c, Options *options) {
    Result r;
    TRY(run_open(run, c, options));
    settle_peak(run->ex, options);
    TRY(warm_up(run, options));
    if (options->blocks) {
        printf("{\"ready\": \"%s\"}\n", c->name);
        fflush(stdout);
    }
    while (!options->blocks || next_block()) {
        TRY(measure(run, options, &r));
        print(run, c, options, &r);
        if (!options->blocks) break;
    }
    return OK;
}

/* Opens the device and closes it: no kernel runs. */
static Err open_only(const Options *options) {
    Exec *ex;
    bool cuda = options->device == EXEC_CUDA;
    TRY(exec_open(&ex, options->device, cuda ? 0 : options->threads));
    puts(exec_description(ex));
    exec_close(&ex);
    return OK;
}

static _Noreturn void usage(void) {
    fprintf(stderr,
            "usage: bench_step [demo|layer|055b|089b|24b|31b] [--device cpu|cuda] [--threads N] "
            "[--seconds S] "
            "[--steps N] [--micro-batch B] [--tokens T] [--lora-r R] [--dropout P] [--layers N] "
            "[--peak TFLOPS] [--mapped FILE] [--no-update] [--blocks] [--json] [--vary] "
            "[--open]\n");
    exit(2);
}

static ExecDevice device_named(const char *name) {
    if (!strcmp(name, "cuda")) return EXEC_CUDA;
    if (strcmp(name, "cpu") != 0) usage();
    return EXEC_CPU;
}

/* Flags with a number behind them, all optional; < 0: not given. */
typedef struct Numbers {
    double threads, seconds, steps, micro_batch, tokens, lora_r, dropout, layers, peak;
} Numbers;

static double *number_of(Numbers *n, const char *flag) {
    const struct {
        const char *flag;
        double *number;
    } flags[] = {
        {"--threads", &n->threads},         {"--seconds", &n->seconds}, {"--steps", &n->steps},
        {"--micro-batch", &n->micro_batch}, {"--tokens", &n->tokens},   {"--lora-r", &n->lora_r},
        {"--dropout", &n->dropout},         {"--layers", &n->layers},   {"--peak", &n->peak}};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (!strcmp(flags[i].flag, flag)) return flags[i].number;
    return NULL;
}

static void apply(StepCase *c, Options *options, const Numbers *n) {
    bool cuda = options->device == EXEC_CUDA;
    options->threads = n->threads >= 1 ? (int)n->threads : 1;
    options->seconds = n->seconds >= 0 ? n->seconds : 5;
    options->steps = n->steps >= 0 ? (int)n->steps : cuda ? 20 : 0;
    options->peak = n->peak > 0 ? n->peak * 1e12 : 0;
    if (options->steps > STEPS_MAX) usage();
    if (n->micro_batch >= 1) c->samples = (int)n->micro_batch;
    if (n->lora_r >= 1) {
        c->spec.lora.alpha *= n->lora_r / (double)c->spec.lora.r;
        c->spec.lora.r = (int64_t)n->lora_r;
    }
    if (n->dropout >= 0) c->spec.lora.dropout = n->dropout;
    if (n->layers >= 1 && n->layers < (double)c->spec.llm.layers)
        c->spec.llm.layers = (int64_t)n->layers;
    if (n->tokens >= 1) {
        c->text_low = c->text_high = (int)n->tokens - model_image_rows(&c->spec);
        c->spec.max_positions = (int)n->tokens;
        if (c->text_low < 1) usage();
    }
    if (options->vary) c->text_low = (c->text_high + 3) / 4;
}

int main(int argc, char **argv) {
    exec_settle_process(argv);
    cuda_backend_register();
    StepCase c = *step_cases[0];
    Options options = {0};
    Numbers n = {-1, -1, -1, -1, -1, -1, -1, -1, -1};
    for (int i = 1; i < argc; i++) {
        int k = 0;
        while (k < STEP_CASES && strcmp(argv[i], step_cases[k]->name) != 0) k++;
        double *number = number_of(&n, argv[i]);
        if (k < STEP_CASES)
            c = *step_cases[k];
        else if (number && i + 1 < argc)
            *number = atof(argv[++i]);
        else if (!strcmp(argv[i], "--device") && i + 1 < argc)
            options.device = device_named(argv[++i]);
        else if (!strcmp(argv[i], "--mapped") && i + 1 < argc)
            options.mapped = argv[++i];
        else if (!strcmp(argv[i], "--no-update"))
            options.no_update = true;
        else if (!strcmp(argv[i], "--blocks"))
            options.blocks = true;
        else if (!strcmp(argv[i], "--json"))
            options.json = true;
        else if (!strcmp(argv[i], "--vary"))
            options.vary = true;
        else if (!strcmp(argv[i], "--open"))
            options.open = true;
        else
            usage();
    }
    apply(&c, &options, &n);
    static Run run;
    Err err = options.open ? open_only(&options) : run_all(&run, &c, &options);
    run_close(&run);
    if (err == OK) return 0;
    log_outcome(err);
    return 1;
}
