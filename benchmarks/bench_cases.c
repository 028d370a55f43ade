/* What bench_ops times; see the header. */
#include "benchmarks/bench_cases.h"

#include <string.h>

/* 1,568 rows: 16 samples of the demo. 1,024 rows of 1,536: one sample of an OpenECAD model. */
const OpCase bench_cpu_cases[] = {
    {"linear", {1568, 384, 128, 0}},
    {"linear", {1568, 128, 352, 0}},
    {"linear", {256, 128, 1024, 1}},
    {"linear", {1024, 2304, 1536, 0}},
    {"linear", {1024, 1536, 5376, 0}},
    {"linear_lora", {1024, 2304, 1536, 128, 0, 1}},
    {"linear_lora", {1024, 2304, 1536, 128, 5, 1}},
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
    {"glu", {1568, 352, ACTIVATION_SILU}},
    {"glu", {1024, 5376, ACTIVATION_SILU}},
    {"act", {256, 512, ACTIVATION_GELU_TANH}},
    {"act", {729, 4304, ACTIVATION_GELU_TANH}},
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
enum { T = BENCH_ROWS, PATCHES = 8 * 729, LABELS = 4160 };
const OpCase bench_cuda_cases[] = {
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
    {"linear_lora", {T, 2304, 1536, 128, 0, 1}},
    {"linear_lora", {T, 2304, 1536, 128, 5, 1}},
    {"linear_lora", {T, 12288, 1536, 128, 5, 1}},
    {"linear_lora", {T, 1536, 6144, 128, 5, 1}},
    {"rmsnorm", {T, 1536, 1}},
    {"layernorm", {PATCHES, 1152, 1}},
    {"qk_rope", {T, 24, 6, 64, 64, 1}},
    {"attention", {8, 2048, 24, 6, 64, 1}},
    {"attention", {8, 2048, 12, 3, 64, 1}},
    {"attention", {8, 729, 16, 16, 72, 0}},
    {"attention", {8, 2048, 32, 32, 80, 1}},
    {"attention", {8, 2048, 16, 4, 128, 1}},
    {"attention", {8, 2048, 8, 1, 256, 1}},
    {"glu", {T, 6144, ACTIVATION_SILU}},
    {"act", {PATCHES, 4304, ACTIVATION_GELU_TANH}},
    {"act", {PATCHES, 1536, ACTIVATION_GELU}},
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

const int bench_cpu_case_count = sizeof bench_cpu_cases / sizeof bench_cpu_cases[0];
const int bench_cuda_case_count = sizeof bench_cuda_cases / sizeof bench_cuda_cases[0];

/* ---- operations that the tests' cases do not have: of all parameters ---- */

static Operand *flat(OpTest *t, int index, const char *name, double low) {
    Operand *o = op_test_add_f32(t, index, name, ROLE_FIXED, t->dim[0], t->dim[1]);
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

enum { ADAMW_MASTER, ADAMW_GRAD, ADAMW_M, ADAMW_V, ADAMW_COPY };

static void adamw_setup(OpTest *t) {
    flat(t, ADAMW_MASTER, "master", -1);
    flat(t, ADAMW_GRAD, "grad", -1);
    flat(t, ADAMW_M, "m", -1);
    flat(t, ADAMW_V, "v", 0);
    op_test_add(t, ADAMW_COPY, "copy", ROLE_OUTPUT, t->dim[0], t->dim[1]);
    op_test_add_bytes(t, sizeof(Update));
}

static void update_prepare(OpTest *t, bool backward) {
    (void)backward;
    Update update = {.state = {.updates = 1, .loss_scale = 1, .grad_scale = 1, .stepped = 1},
                     .segment = {.count = flat_count(t), .lr_scale = 1}};
    if (t->operand_count > 1) {
        Tensor copy = t->operands[ADAMW_COPY].device_t;
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
    op_adamw(ex, flat_data(t, ADAMW_MASTER), flat_data(t, ADAMW_GRAD), flat_data(t, ADAMW_M),
             flat_data(t, ADAMW_V), flat_count(t), &update_of(t)->segment, 1, &spec,
             &update_of(t)->state);
}

enum { NORM_GRAD };

static void grad_norm_setup(OpTest *t) {
    flat(t, NORM_GRAD, "grad", -1);
    op_test_add_bytes(t, sizeof(Update));
}

static void grad_norm_run(Exec *ex, OpTest *t) {
    op_update_begin(ex, &update_of(t)->state, flat_data(t, NORM_GRAD), flat_count(t),
                    &(UpdateSpec){.labels = 1, .max_norm = 1});
}

enum { SUM_TO, SUM_FROM };

static void accumulate_setup(OpTest *t) {
    flat(t, SUM_TO, "to", -1);
    flat(t, SUM_FROM, "from", -1);
}

static void accumulate_run(Exec *ex, OpTest *t) {
    op_accumulate(ex, flat_data(t, SUM_TO), flat_data(t, SUM_FROM), flat_count(t));
}

static const OpKind own_kinds[] = {
    {.name = "adamw", .setup = adamw_setup, .forward = adamw_run, .prepare = update_prepare},
    {.name = "grad_norm",
     .setup = grad_norm_setup,
     .forward = grad_norm_run,
     .prepare = update_prepare},
    {.name = "accumulate", .setup = accumulate_setup, .forward = accumulate_run},
};

void bench_prepare(OpTest *test) {
    if (test->kind->prepare == update_prepare) update_prepare(test, false);
}

const OpKind *bench_kind_find(const char *name) {
    for (size_t i = 0; i < sizeof own_kinds / sizeof own_kinds[0]; i++)
        if (!strcmp(own_kinds[i].name, name)) return &own_kinds[i];
    return op_kind_find(name);
}

/* ---- what is timed of a case ---- */

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
                      ACTIVATION_GELU_TANH);
}

/* Backward through norms that are not trained, as beside adapters. */

static void rmsnorm_frozen(Exec *ex, OpTest *t) {
    op_rmsnorm_bwd(ex, grad(t, 0), true, tensor_none(), grad(t, 2), value(t, 4), value(t, 3),
                   value(t, 1), 0);
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

/* Backward of a product is two; of attention two and a half (the scores come again); of a linear
 * with an adapter one for the frozen weight, two for the adapter. */
static double backward_factor(const OpTest *test) {
    const int64_t *d = test->dim;
    if (!strcmp(test->kind->name, "attention")) return 2.5;
    if (strcmp(test->kind->name, "linear_lora") != 0) return 2;
    double adapter = 2.0 * (double)d[0] * (double)d[3] * (double)(d[1] + d[2]),
           weight = 2.0 * (double)d[0] * (double)d[1] * (double)d[2];
    return (weight + 2 * adapter) / (weight + adapter);
}

static int matrix_passes(const OpTest *test, bool apart, BenchPass *out) {
    const OpKind *kind = test->kind;
    out[0] = (BenchPass){.name = "forward", .run = kind->forward, .factor = 1};
    if (apart && !strcmp(kind->name, "linear")) {
        int count = 1;
        if (test->dim[4])
            out[count++] = (BenchPass){.name = "gelu", .run = linear_gelu, .factor = 1};
        out[count++] = (BenchPass){.name = "input", .run = linear_input, .factor = 1};
        out[count++] = (BenchPass){.name = "weight", .run = linear_weight, .factor = 1};
        return count;
    }
    out[1] =
        (BenchPass){.name = "backward", .run = kind->backward, .factor = backward_factor(test)};
    return 2;
}

int bench_passes(const OpTest *test, bool apart, BenchPass *out) {
    const OpKind *kind = test->kind;
    if (kind->flops) return matrix_passes(test, apart, out);
    size_t k = 0, kinds = sizeof traffic / sizeof traffic[0];
    while (k < kinds && strcmp(traffic[k].kind, kind->name) != 0) k++;
    CHECK(k < kinds, "the traffic of %s is not known", kind->name);
    int count = 0;
    out[count++] = (BenchPass){.name = "forward",
                               .run = kind->forward,
                               .values = traffic[k].forward,
                               .values_twice = traffic[k].forward_twice};
    if (!kind->backward) return count;
    BenchPass backward = {.name = "backward",
                          .run = kind->backward,
                          .values = traffic[k].backward_values,
                          .grads = traffic[k].backward_grads,
                          .grads_twice = traffic[k].backward_grads_twice};
    out[count++] = backward;
    if (apart && traffic[k].frozen) {
        backward.name = "frozen";
        backward.run = traffic[k].frozen;
        out[count++] = backward;
    }
    return count;
}

double bench_bytes(const OpTest *test, const BenchPass *pass) {
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
