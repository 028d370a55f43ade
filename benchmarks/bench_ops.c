/* How fast each operation is, forward and backward, beside two ceilings measured in the same run: a
 * plain matrix product, and copying memory.
 *
 *   bench_ops [NAME] [--device cpu|cuda] [--threads N] [--seconds S] [--rows T] [--calls N]
 * [--json]
 *
 * The operations and their inputs are those of the tests (tests/op_kinds.h). Matrix work is given
 * in FLOP/s and as a share of the product's rate; everything else in bytes/s, each tensor that the
 * call is given counted once, one that it changes in place twice, and as a share of the copy's.
 *
 * On the CPU (--threads, --seconds for each case) the sizes are the demo's and of one sample of an
 * OpenECAD model; the product is one of 1,024³, the copy memcpy by one thread (above 100 %: it
 * stayed in the caches; meaningless with several threads).
 *
 * On a GPU the sizes are those of a step of OpenECADv2 0.89B over T = 16,384 packed rows, 8 samples
 * of 2,048; --rows makes all of them smaller. Times are medians of --calls calls between events,
 * after three to warm up; operands that would stay in the L2 cache are rotated. The ceilings are a
 * bf16 product of 8,192³ and a copy of 512 MiB on the device. Products are also compared ("of
 * best") with the fastest of the algorithms that cuBLASLt offers for them, which a second Exec
 * finds by trying (CADVLM_CUDA_TUNE). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "tests/op_kinds.h"

/* 1,568 rows: 16 samples of the demo. 1,024 rows of 1,536: one sample of an OpenECAD model. */
static const OpCase cpu_cases[] = {
    {"linear", {1568, 384, 128, 0}},
    {"linear", {1568, 128, 352, 0}},
    {"linear", {256, 128, 1024, 1}},
    {"linear", {1024, 2304, 1536, 0}},
    {"linear", {1024, 1536, 5376, 0}},
    {"lora", {1024, 2304, 1536, 128, 0}},
    {"lora", {1024, 2304, 1536, 128, 5}},
    {"rmsnorm", {1568, 128, 1}},
    {"rmsnorm", {1024, 1536, 1}},
    {"layernorm", {256, 128, 1}},
    {"layernorm", {729, 1152, 1}},
    {"qk_rope", {1568, 4, 2, 32, 32, 1}},
    {"qk_rope", {1024, 24, 6, 64, 64, 1}},
    {"attention", {16, 110, 4, 2, 32, 1}},
    {"attention", {16, 16, 4, 4, 32, 0}},
    {"attention", {1, 1024, 24, 6, 64, 1}},
    {"attention", {1, 729, 16, 16, 72, 0}},
    {"glu", {1568, 352, ACT_SILU}},
    {"glu", {1024, 5376, ACT_SILU}},
    {"act", {256, 512, ACT_GELU_TANH}},
    {"act", {729, 4304, ACT_GELU_TANH}},
    {"patchify", {16, 128, 1, 32}},
    {"positions", {16, 16, 128}},
    {"embed", {1568, 1280, 128, 256}},
    {"gather", {1568, 128, 1200}},
    {"cross_entropy", {1200, 1280}},
    {"cross_entropy", {512, 32000}},
    {"add", {256, 128}},
    {"add", {1024, 1536}},
    {"convert", {1280, 1280}},
};

/* Layers 0, 10 and 19 of OpenELM-450M over T rows, SigLIP so400m over 8 pictures of 729 patches,
 * the classifier over as many label rows as logits are made for at a time. A fifth number: GELU
 * too. */
enum { T = 16384, PATCHES = 8 * 729, LABELS = 4160 };
static const OpCase cuda_cases[] = {
    {"linear", {T, 1152, 1536, 0}},
    {"linear", {T, 1920, 1536, 0}},
    {"linear", {T, 2304, 1536, 0}},
    {"linear", {T, 1536, 768, 0}},
    {"linear", {T, 1536, 1536, 0}},
    {"linear", {T, 7168, 1536, 0}},
    {"linear", {T, 12288, 1536, 0}},
    {"linear", {T, 1536, 3584, 0}},
    {"linear", {T, 1536, 6144, 0}},
    {"linear", {LABELS, 32000, 1536, 0}},
    {"linear", {PATCHES, 3456, 1152, 1}},
    {"linear", {PATCHES, 1152, 1152, 1}},
    {"linear", {PATCHES, 4304, 1152, 1, 1}},
    {"linear", {PATCHES, 1152, 4304, 1}},
    {"lora", {T, 2304, 1536, 128, 0}},
    {"lora", {T, 2304, 1536, 128, 5}},
    {"lora", {T, 12288, 1536, 128, 5}},
    {"lora", {T, 1536, 6144, 128, 5}},
    {"rmsnorm", {T, 1536, 1}},
    {"layernorm", {PATCHES, 1152, 1}},
    {"qk_rope", {T, 24, 6, 64, 64, 1}},
    {"attention", {8, 2048, 24, 6, 64, 1}},
    {"attention", {8, 2048, 12, 3, 64, 1}},
    {"attention", {8, 729, 16, 16, 72, 0}},
    {"attention", {8, 2048, 32, 32, 80, 1}},
    {"attention", {8, 2048, 16, 4, 128, 1}},
    {"attention", {8, 2048, 8, 1, 256, 1}},
    {"glu", {T, 6144, ACT_SILU}},
    {"act", {PATCHES, 4304, ACT_GELU_TANH}},
    {"act", {PATCHES, 1536, ACT_GELU_ERF}},
    {"patchify", {8, 384, 3, 14}},
    {"positions", {8, 729, 1152}},
    {"embed", {T, 32000, 1536, 8 * 728}},
    {"gather", {T, 1536, 10000}},
    {"cross_entropy", {LABELS, 32000}},
    {"add", {T, 1536}},
    {"convert", {T, 1536}},
    {"adamw", {35072, 1536}}, /* 53.9 million: all adapters and the connector */
    {"grad_norm", {35072, 1536}},
    {"accumulate", {35072, 1536}},
};
enum { SIZED_FOR = T };

enum { CALLS_MAX = 200, COPIES_MAX = 4, PASSES_MAX = 5 };
static const double COLD_BYTES = 256e6; /* five times the L2 cache of an H100 */

typedef struct Bench {
    Exec *ex;
    Exec *tuned; /* of a GPU: takes the fastest algorithm for each product; else NULL */
    double seconds, peak_flops, copy_bytes;
    int64_t rows;
    int calls;
    bool json;
} Bench;

/* ---- operations that the tests' cases do not have: of all parameters ---- */

static Operand *flat(OpTest *t, const char *name, double low) {
    Operand *o = op_test_add_f32(t, name, ROLE_FIXED, t->dim[0], t->dim[1]);
    o->low = low;
    return o;
}

static float *flat_data(const OpTest *t, int operand) {
    return t->operands[operand].device_t.data;
}

static int64_t flat_count(const OpTest *t) {
    return t->dim[0] * t->dim[1];
}

/* What the device decides an update by, and the one segment of all parameters. */
typedef struct Update {
    UpdateState state;
    AdamwSegment segment;
} Update;

static Update *update_of(const OpTest *t) {
    return (Update *)(void *)t->device_bytes;
}

static void adamw_setup(OpTest *t) {
    flat(t, "master", -1);
    flat(t, "grad", -1);
    flat(t, "m", -1);
    flat(t, "v", 0);
    op_test_add(t, "copy", ROLE_OUTPUT, t->dim[0], t->dim[1]);
    op_test_add_bytes(t, sizeof(Update));
}

static void update_prepare(OpTest *t, bool backward) {
    (void)backward;
    Update update = {.state = {.updates = 1, .loss_scale = 1, .grad_scale = 1, .stepped = 1},
                     .segment = {.count = flat_count(t), .lr_scale = 1}};
    if (t->operand_count > 1) {
        Tensor copy = t->operands[4].device_t;
        update.segment.copy = copy.data;
        update.segment.cols = copy.cols;
        update.segment.stride = copy.stride;
        update.segment.copy_dtype = copy.dtype;
    }
    exec_upload(t->ex, t->device_bytes, &update, sizeof update);
    exec_wait(t->ex);
}

static void adamw_run(Exec *ex, OpTest *t) {
    AdamwSpec spec = {.lr = 1e-6, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    op_adamw(ex, flat_data(t, 0), flat_data(t, 1), flat_data(t, 2), flat_data(t, 3), flat_count(t),
             &update_of(t)->segment, 1, &spec, &update_of(t)->state);
}

static void grad_norm_setup(OpTest *t) {
    flat(t, "grad", -1);
    op_test_add_bytes(t, sizeof(Update));
}

static void grad_norm_run(Exec *ex, OpTest *t) {
    op_update_begin(ex, &update_of(t)->state, flat_data(t, 0), flat_count(t),
                    &(UpdateSpec){.labels = 1, .max_norm = 1});
}

static void accumulate_setup(OpTest *t) {
    flat(t, "to", -1);
    flat(t, "from", -1);
}

static void accumulate_run(Exec *ex, OpTest *t) {
    op_accumulate(ex, flat_data(t, 0), flat_data(t, 1), flat_count(t));
}

static const OpKind own_kinds[] = {
    {.name = "adamw", .setup = adamw_setup, .forward = adamw_run, .prepare = update_prepare},
    {.name = "grad_norm",
     .setup = grad_norm_setup,
     .forward = grad_norm_run,
     .prepare = update_prepare},
    {.name = "accumulate", .setup = accumulate_setup, .forward = accumulate_run},
};

static const OpKind *kind_find(const char *name) {
    for (size_t i = 0; i < sizeof own_kinds / sizeof own_kinds[0]; i++)
        if (!strcmp(own_kinds[i].name, name)) return &own_kinds[i];
    return op_kind_find(name);
}

/* ---- what is timed of a case ---- */

/* A call, and its work: as often the forward FLOPs, or the bytes of these operands (bits of their
 * numbers in the case). Embedding tables are left out: few of their rows are touched. */
typedef struct Pass {
    const char *name;
    void (*run)(Exec *ex, OpTest *test);
    double factor;                                     /* of the forward FLOPs */
    unsigned values, values_twice, grads, grads_twice; /* twice: read and written */
} Pass;

static Tensor value(const OpTest *t, int operand) {
    return t->operands[operand].device_t;
}

static Tensor grad(const OpTest *t, int operand) {
    return t->operands[operand].device_grad;
}

/* The two products that a linear's backward pass is, and its fusion with GELU. */

static void linear_input(Exec *ex, OpTest *t) {
    op_linear_bwd_x(ex, grad(t, 0), grad(t, 2), value(t, 1), false);
}

static void linear_weight(Exec *ex, OpTest *t) {
    op_linear_bwd_w(ex, grad(t, 1), tensor_none(), grad(t, 2), value(t, 0));
}

static void linear_gelu(Exec *ex, OpTest *t) {
    op_linear_act_fwd(ex, value(t, 2), tensor_none(), value(t, 0), value(t, 1), value(t, 3),
                      ACT_GELU_TANH);
}

/* Backward through norms that are not trained, as beside adapters. */

static void rmsnorm_frozen(Exec *ex, OpTest *t) {
    op_rmsnorm_bwd(ex, grad(t, 0), true, tensor_none(), grad(t, 2), value(t, 4), value(t, 3),
                   value(t, 1));
}

static void layernorm_frozen(Exec *ex, OpTest *t) {
    op_layernorm_bwd(ex, grad(t, 0), true, tensor_none(), tensor_none(), grad(t, 2), value(t, 4),
                     value(t, 3), value(t, 1));
}

/* Backward through an embedding that is not trained: only the pictures' rows have a gradient. */
static void embed_frozen(Exec *ex, OpTest *t) {
    op_embed_bwd(ex, tensor_none(), grad(t, 1), grad(t, 2), t->device_ints[0]);
}

static const struct {
    const char *kind;
    unsigned forward, forward_twice, backward_values, backward_grads, backward_grads_twice;
    void (*frozen)(Exec *ex, OpTest *test);
} traffic[] = {
    {"rmsnorm", 0x3F, 0, 1 << 4 | 1 << 3 | 1 << 1, 1 << 1 | 1 << 2, 1 << 0, rmsnorm_frozen},
    {"layernorm", 0x7F, 0, 1 << 4 | 1 << 3 | 1 << 1, 1 << 1 | 1 << 6 | 1 << 2, 1 << 0,
     layernorm_frozen},
    {"add", 0x7, 0, 0, 0, 0, NULL},
    {"qk_rope", 0x1F, 0, 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4, 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4, 0,
     NULL},
    {"act", 0x3, 0, 1 << 0, 0x3, 0, NULL},
    {"glu", 0x3, 0, 1 << 0, 0x3, 0, NULL},
    {"patchify", 0x1, 0, 0, 0, 0, NULL},
    {"positions", 1 << 0, 1 << 2, 0, 1 << 2, 1 << 0, NULL},
    {"embed", 0x6, 0, 0, 0x6, 0, embed_frozen},
    {"gather", 0x3, 0, 0, 0x3, 0, NULL},
    {"cross_entropy", 0x7, 0, 1 << 1, 0, 1 << 0, NULL},
    {"convert", 0x3, 0, 0, 0, 0, NULL},
    {"adamw", 1 << 1 | 1 << 4, 1 << 0 | 1 << 2 | 1 << 3, 0, 0, 0, NULL},
    {"grad_norm", 1 << 0, 0, 0, 0, 0, NULL},
    {"accumulate", 1 << 1, 1 << 0, 0, 0, 0, NULL},
};

static int matrix_passes(const Bench *bench, const OpTest *test, Pass *out) {
    const OpKind *kind = test->kind;
    out[0] = (Pass){.name = "forward", .run = kind->forward, .factor = 1};
    if (bench->tuned && !strcmp(kind->name, "linear")) {
        int count = 1;
        if (test->dim[4]) out[count++] = (Pass){.name = "gelu", .run = linear_gelu, .factor = 1};
        out[count++] = (Pass){.name = "input", .run = linear_input, .factor = 1};
        out[count++] = (Pass){.name = "weight", .run = linear_weight, .factor = 1};
        return count;
    }
    /* Backward of a product is two; of attention two and a half (the scores come again). */
    out[1] = (Pass){.name = "backward",
                    .run = kind->backward,
                    .factor = strcmp(kind->name, "attention") ? 2 : 2.5};
    return 2;
}

static int passes_of(const Bench *bench, const OpTest *test, Pass *out) {
    const OpKind *kind = test->kind;
    if (kind->flops) return matrix_passes(bench, test, out);
    size_t k = 0, kinds = sizeof traffic / sizeof traffic[0];
    while (k < kinds && strcmp(traffic[k].kind, kind->name) != 0) k++;
    CHECK(k < kinds, "the traffic of %s is not known", kind->name);
    int count = 0;
    out[count++] = (Pass){.name = "forward",
                          .run = kind->forward,
                          .values = traffic[k].forward,
                          .values_twice = traffic[k].forward_twice};
    if (!kind->backward) return count;
    Pass backward = {.name = "backward",
                     .run = kind->backward,
                     .values = traffic[k].backward_values,
                     .grads = traffic[k].backward_grads,
                     .grads_twice = traffic[k].backward_grads_twice};
    out[count++] = backward;
    if (bench->tuned && traffic[k].frozen) {
        backward.name = "frozen";
        backward.run = traffic[k].frozen;
        out[count++] = backward;
    }
    return count;
}

static double bytes_of(const OpTest *test, const Pass *pass) {
    double sum = 0;
    for (int i = 0; i < test->operand_count; i++) {
        const Operand *o = &test->operands[i];
        unsigned bit = 1u << i;
        double count = (double)(o->rows * o->cols),
               values = ((pass->values & bit) != 0) + 2.0 * ((pass->values_twice & bit) != 0),
               grads = ((pass->grads & bit) != 0) + 2.0 * ((pass->grads_twice & bit) != 0);
        sum += count * (values * (double)dtype_size(o->device_t.dtype) +
                        grads * (double)dtype_size(o->device_grad.dtype));
    }
    return sum;
}

/* ---- time ---- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Seconds of one call on the CPU: the best of as many rounds as fit. */
static double time_on_cpu(const Bench *bench, void (*run)(Exec *, OpTest *), OpTest *test) {
    double best = 1e30, end = clock_seconds() + bench->seconds;
    int calls = 1;
    for (int round = 0; round < 5 || clock_seconds() < end; round++) {
        double start = clock_seconds();
        for (int i = 0; i < calls; i++) run(bench->ex, test);
        double took = (clock_seconds() - start) / calls;
        if (took < best) best = took;
        if (took * calls < 1e-3) calls *= 2;
    }
    return best;
}

/* Of the times between marks 0 … calls. */
static double median_of_marks(Exec *ex, int calls) {
    static double seconds[CALLS_MAX];
    exec_wait(ex);
    for (int i = 0; i < calls; i++) seconds[i] = exec_mark_seconds(ex, i, i + 1);
    qsort(seconds, (size_t)calls, sizeof *seconds, by_value);
    return seconds[calls / 2];
}

/* Seconds of one call on a GPU: nothing waits until all calls are in the stream, so that the times
 * between marks are the device's alone. */
static double time_on_gpu(const Bench *bench, Exec *ex, void (*run)(Exec *, OpTest *),
                          OpTest *tests, int copies) {
    enum { WARM_UP = 3 };
    for (int i = 0; i < WARM_UP; i++) run(ex, &tests[i % copies]);
    for (int i = 0; i < bench->calls; i++) {
        exec_mark(ex, i);
        run(ex, &tests[i % copies]);
    }
    exec_mark(ex, bench->calls);
    return median_of_marks(ex, bench->calls);
}

/* ---- ceilings ---- */

/* Both directions of reading and writing 64 MiB, by memcpy. */
static double copy_rate_of_cpu(void) {
    size_t size = (size_t)64 << 20;
    char *from = malloc(size), *to = malloc(size);
    CHECK(from && to, "out of memory: %zu bytes", 2 * size);
    memset(from, 1, size);
    double best = 1e30;
    for (int i = 0; i < 8; i++) {
        double start = clock_seconds();
        memcpy(to, from, size);
        double took = clock_seconds() - start;
        if (took < best) best = took;
        from[i] = to[size - 1 - (size_t)i]; /* or the copy could be left out */
    }
    free(from);
    free(to);
    return 2.0 * (double)size / best;
}

/* The same on the device: 512 MiB at full size. */
static double copy_rate_of_gpu(const Bench *bench) {
    Exec *ex = bench->ex;
    size_t size = (size_t)bench->rows << 15;
    char *from = exec_alloc(ex, size), *to = exec_alloc(ex, size);
    CHECK(from && to, "out of memory: %zu bytes of the device", 2 * size);
    exec_copy(ex, to, from, size);
    for (int i = 0; i < bench->calls; i++) {
        exec_mark(ex, i);
        exec_copy(ex, to, from, size);
    }
    exec_mark(ex, bench->calls);
    double seconds = median_of_marks(ex, bench->calls);
    exec_free(ex, from, size);
    exec_free(ex, to, size);
    return 2.0 * (double)size / seconds;
}

/* Of random numbers: zeros cost a GPU less power, and run faster than work ever will. */
static double product_rate_of_gpu(const Bench *bench) {
    int64_t side = bench->rows / 2 > 8 ? bench->rows / 2 : 8;
    OpTest test;
    op_test_open_large(&test, bench->ex, op_kind_find("linear"),
                       (int64_t[CASE_DIMS]){side, side, side}, DT_BF16, 3);
    double seconds = time_on_gpu(bench, bench->tuned, test.kind->forward, &test, 1);
    op_test_close(&test);
    return 2.0 * (double)side * (double)side * (double)side / seconds;
}

/* ---- a case ---- */

/* best: seconds with cuBLASLt's fastest algorithm; 0: not asked. */
static void say(const Bench *bench, const OpTest *test, const char *pass, double work,
                double seconds, double best) {
    char name[128];
    op_test_name(test, name);
    bool matrix = test->kind->flops != NULL;
    double rate = work / seconds, share = rate / (matrix ? bench->peak_flops : bench->copy_bytes);
    if (bench->json) {
        printf(
            "{\"case\": \"%s\", \"pass\": \"%s\", \"seconds\": %.4g, \"%s\": %.4g, \"share\": %.3f",
            name, pass, seconds, matrix ? "flops_per_s" : "bytes_per_s", rate, share);
        if (best > 0) printf(", \"of_best\": %.3f", best / seconds);
        printf("}\n");
    } else {
        printf("%-38s %-8s %9.1f us %8.1f %s %5.0f %%", name, pass, 1e6 * seconds, 1e-9 * rate,
               matrix ? "GFLOP/s" : "GB/s   ", 100 * share);
        if (best > 0) printf(", %.0f %% of best", 100 * best / seconds);
        printf("\n");
    }
    fflush(stdout);
}

static double work_of(const OpTest *test, const Pass *pass) {
    return test->kind->flops ? pass->factor * test->kind->flops(test) : bytes_of(test, pass);
}

static void run_case_on_cpu(const Bench *bench, const OpCase *c) {
    OpTest test;
    op_test_open(&test, bench->ex, op_kind_find(c->kind), c->dim, exec_fast_dtype(bench->ex), 5);
    op_test_spoil(&test);
    for (int i = 0; i < test.operand_count; i++) tensor_fill(test.operands[i].grad, 1e-3);
    op_test_forward(&test);
    if (test.kind->backward) op_test_backward(&test);
    Pass passes[PASSES_MAX];
    int count = passes_of(bench, &test, passes);
    for (int i = 0; i < count; i++)
        say(bench, &test, passes[i].name, work_of(&test, &passes[i]),
            time_on_cpu(bench, passes[i].run, &test), 0);
    op_test_close(&test);
}

/* The case with --rows instead of SIZED_FOR. */
static OpCase scaled(const Bench *bench, const OpCase *c) {
    OpCase s = *c;
    int64_t *rows = &s.dim[!strcmp(c->kind, "attention") ? 1 : 0];
    *rows = *rows * bench->rows / SIZED_FOR;
    if (*rows < 1) *rows = 1;
    if (!strcmp(c->kind, "gather") && s.dim[2] > *rows) s.dim[2] = *rows;
    if (!strcmp(c->kind, "embed") && s.dim[3] > *rows) s.dim[3] = *rows;
    return s;
}

static int copies_for(const OpTest *test) {
    double bytes = 0;
    for (int i = 0; i < test->operand_count; i++)
        bytes += (double)tensor_bytes(test->operands[i].device_t) +
                 (double)tensor_bytes(test->operands[i].device_grad);
    int copies = 1 + (int)(COLD_BYTES / bytes);
    return copies < COPIES_MAX ? copies : COPIES_MAX;
}

static void run_case_on_gpu(const Bench *bench, const OpCase *unscaled) {
    OpCase c = scaled(bench, unscaled);
    OpTest tests[COPIES_MAX];
    int copies = 1;
    for (int i = 0; i < copies; i++) {
        op_test_open_large(&tests[i], bench->ex, kind_find(c.kind), c.dim, DT_BF16,
                           5 + (uint64_t)i);
        if (i == 0 && bench->rows == SIZED_FOR) copies = copies_for(tests);
        if (tests[i].kind->prepare == update_prepare) update_prepare(&tests[i], false);
    }
    Pass passes[PASSES_MAX];
    int count = passes_of(bench, tests, passes);
    bool product = !strcmp(c.kind, "linear"), attention = !strcmp(c.kind, "attention");
    double seconds = 0, work = 0;
    for (int i = 0; i < count; i++) {
        double took = time_on_gpu(bench, bench->ex, passes[i].run, tests, copies),
               best = product ? time_on_gpu(bench, bench->tuned, passes[i].run, tests, copies) : 0;
        say(bench, tests, passes[i].name, work_of(tests, &passes[i]), took, best);
        seconds += took;
        work += work_of(tests, &passes[i]);
    }
    if (attention) say(bench, tests, "both", work, seconds, 0);
    for (int i = 0; i < copies; i++) op_test_close(&tests[i]);
}

/* ---- the program ---- */

static void open_cuda(Bench *bench) {
    Err err = exec_open(&bench->ex, EXEC_CUDA, 0);
    setenv("CADVLM_CUDA_TUNE", "1", 1);
    if (err == OK) err = exec_open(&bench->tuned, EXEC_CUDA, 0);
    if (err == OK) err = exec_marks(bench->ex, bench->calls + 1);
    if (err == OK) err = exec_marks(bench->tuned, bench->calls + 1);
    if (err != OK) {
        fprintf(stderr, "%s\n", err_message());
        exit(1);
    }
    bench->copy_bytes = copy_rate_of_gpu(bench);
    bench->peak_flops = product_rate_of_gpu(bench);
}

static void open_cpu(Bench *bench, int threads) {
    if (exec_open(&bench->ex, EXEC_CPU, threads < 1 ? 1 : threads) != OK) {
        fprintf(stderr, "%s\n", err_message());
        exit(1);
    }
    bench->peak_flops = exec_peak_flops(bench->ex);
    bench->copy_bytes = copy_rate_of_cpu();
}

static void check_status(Exec *ex) {
    if (ex && exec_status(ex) != OK) {
        fprintf(stderr, "%s\n", err_message());
        exit(1);
    }
}

static _Noreturn void usage(void) {
    fprintf(stderr,
            "usage: bench_ops [NAME] [--device cpu|cuda] [--threads N] [--seconds S] [--rows T] "
            "[--calls N] [--json]\n");
    exit(2);
}

int main(int argc, char **argv) {
    exec_settle_process(argv);
    Bench bench = {.seconds = 0.3, .rows = SIZED_FOR, .calls = 21};
    const char *only = NULL, *device = "cpu";
    int threads = 1;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--threads") && i + 1 < argc)
            threads = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--seconds") && i + 1 < argc)
            bench.seconds = atof(argv[++i]);
        else if (!strcmp(argv[i], "--device") && i + 1 < argc)
            device = argv[++i];
        else if (!strcmp(argv[i], "--rows") && i + 1 < argc)
            bench.rows = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--calls") && i + 1 < argc)
            bench.calls = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--json"))
            bench.json = true;
        else if (argv[i][0] != '-' && !only && kind_find(argv[i]))
            only = argv[i];
        else
            usage();
    }
    bool cuda = !strcmp(device, "cuda");
    if ((!cuda && strcmp(device, "cpu") != 0) || bench.rows < 1 || bench.rows > SIZED_FOR ||
        bench.calls < 1 || bench.calls > CALLS_MAX)
        usage();
    if (cuda)
        open_cuda(&bench);
    else
        open_cpu(&bench, threads);
    if (bench.json)
        printf("{\"device\": \"%s\", \"rows\": %ld, \"product_flops_per_s\": %.4g, "
               "\"copy_bytes_per_s\": %.4g}\n",
               exec_description(bench.ex), (long)(cuda ? bench.rows : 0), bench.peak_flops,
               bench.copy_bytes);
    else
        printf("%s: product %.0f GFLOP/s, copy %.1f GB/s\n", exec_description(bench.ex),
               1e-9 * bench.peak_flops, 1e-9 * bench.copy_bytes);

    const OpCase *cases = cuda ? cuda_cases : cpu_cases;
    size_t count =
        cuda ? sizeof cuda_cases / sizeof cuda_cases[0] : sizeof cpu_cases / sizeof cpu_cases[0];
    int ran = 0;
    for (size_t i = 0; i < count; i++) {
        if (only && strcmp(cases[i].kind, only) != 0) continue;
        if (cuda)
            run_case_on_gpu(&bench, &cases[i]);
        else
            run_case_on_cpu(&bench, &cases[i]);
        check_status(bench.ex);
        check_status(bench.tuned);
        ran++;
    }
    exec_close(&bench.ex);
    if (bench.tuned) exec_close(&bench.tuned);
    if (!ran) fprintf(stderr, "no case times %s\n", only);
    return ran ? 0 : 2;
}
