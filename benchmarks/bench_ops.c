/* How fast each operation is, forward and backward, beside two ceilings measured in the same run: a
 * plain matrix product, and copying memory.
 *
 *   bench_ops [NAME] [--threads N] [--seconds S] [--json]
 *
 * The operations and their inputs are those of the tests (tests/op_kinds.h), here at the sizes of
 * the demo's model and of OpenELM-450M. Matrix work is given in GFLOP/s and as a share of the
 * product's rate; everything else in GB/s, each tensor that the call is given counted once, and as
 * a share of the copy's by one thread (above 100 %: it stayed in the caches; meaningless with
 * several threads). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "tests/op_kinds.h"

/* 1,568 rows: 16 samples of the demo. 1,024 rows of 1,536: one sample of an OpenECAD model. */
static const OpCase perf_cases[] = {
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

typedef struct Bench {
    Exec *ex;
    double seconds, peak_flops, copy_bytes;
    bool json;
} Bench;

/* Seconds of one call: the best of as many rounds as fit. */
static double time_of(const Bench *bench, void (*run)(Exec *, OpTest *), OpTest *test) {
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

/* Which operands a call is given, as bits of their numbers in the case: values in forward, values
 * and gradients in backward. Embedding tables are left out: few of their rows are touched. */
static const struct {
    const char *kind;
    unsigned forward, backward_values, backward_grads;
} traffic[] = {
    {"rmsnorm", 0x3F, 1 << 4 | 1 << 3 | 1 << 1, 1 << 0 | 1 << 1 | 1 << 2},
    {"layernorm", 0x7F, 1 << 4 | 1 << 3 | 1 << 1, 1 << 0 | 1 << 1 | 1 << 6 | 1 << 2},
    {"add", 0x7, 0, 0},
    {"qk_rope", 0x1F, 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4, 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4},
    {"act", 0x3, 1 << 0, 0x3},
    {"glu", 0x3, 1 << 0, 0x3},
    {"patchify", 0x1, 0, 0},
    {"positions", 0x5, 0, 0x5},
    {"embed", 0x6, 0, 0x6},
    {"gather", 0x3, 0, 0x3},
    {"cross_entropy", 0x7, 1 << 1, 1 << 0},
    {"convert", 0x3, 0, 0},
};

static double bytes_of(const OpTest *test, bool backward) {
    size_t k = 0, kinds = sizeof traffic / sizeof traffic[0];
    while (k < kinds && strcmp(traffic[k].kind, test->kind->name) != 0) k++;
    CHECK(k < kinds, "the traffic of %s is not known", test->kind->name);
    unsigned values = backward ? traffic[k].backward_values : traffic[k].forward,
             grads = backward ? traffic[k].backward_grads : 0;
    double sum = 0;
    for (int i = 0; i < test->operand_count; i++) {
        const Operand *o = &test->operands[i];
        double count = (double)(o->rows * o->cols);
        if (values >> i & 1) sum += count * (double)dtype_size(o->t.dtype);
        if (grads >> i & 1) sum += count * (double)dtype_size(o->grad.dtype);
    }
    return sum;
}

/* Both directions of reading and writing 64 MiB, by memcpy. */
static double copy_rate(void) {
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

static void say(const Bench *bench, const OpTest *test, bool backward, double seconds) {
    char name[128];
    op_test_name(test, name);
    bool matrix = test->kind->flops != NULL;
    /* Backward of a product is two; of attention two and a half (the scores come again). */
    double factor = !backward ? 1 : strcmp(test->kind->name, "attention") ? 2 : 2.5;
    double work = matrix ? factor * test->kind->flops(test) : bytes_of(test, backward);
    double rate = work / seconds, share = rate / (matrix ? bench->peak_flops : bench->copy_bytes);
    if (bench->json)
        printf("{\"case\": \"%s\", \"pass\": \"%s\", \"seconds\": %.3g, \"%s\": %.4g, \"share\": "
               "%.3f}\n",
               name, backward ? "backward" : "forward", seconds,
               matrix ? "flops_per_s" : "bytes_per_s", rate, share);
    else
        printf("%-34s %-8s %9.1f us %8.1f %s %5.0f %%\n", name, backward ? "backward" : "forward",
               1e6 * seconds, 1e-9 * rate, matrix ? "GFLOP/s" : "GB/s   ", 100 * share);
    fflush(stdout);
}

static void run_case(const Bench *bench, const OpCase *c) {
    OpTest test;
    op_test_open(&test, bench->ex, op_kind_find(c->kind), c->dim, exec_fast_dtype(bench->ex), 5);
    op_test_spoil(&test);
    for (int i = 0; i < test.operand_count; i++) {
        Tensor grad = test.operands[i].grad;
        for (int64_t k = 0; k < grad.rows * grad.cols; k++)
            tensor_set(grad, k / grad.cols, k % grad.cols, 1e-3);
    }
    op_test_forward(&test);
    say(bench, &test, false, time_of(bench, test.kind->forward, &test));
    if (test.kind->backward) {
        op_test_forward(&test);
        op_test_backward(&test);
        say(bench, &test, true, time_of(bench, test.kind->backward, &test));
    }
    if (exec_status(bench->ex) != OK) CHECK(false, "%s", err_message());
    op_test_close(&test);
}

int main(int argc, char **argv) {
    exec_settle_process(argv);
    Bench bench = {.seconds = 0.3};
    const char *only = NULL;
    int threads = 1;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--threads") && i + 1 < argc)
            threads = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--seconds") && i + 1 < argc)
            bench.seconds = atof(argv[++i]);
        else if (!strcmp(argv[i], "--json"))
            bench.json = true;
        else if (argv[i][0] != '-' && !only && op_kind_find(argv[i]))
            only = argv[i];
        else {
            fprintf(stderr, "usage: bench_ops [NAME] [--threads N] [--seconds S] [--json]\n");
            return 2;
        }
    }
    if (exec_open(&bench.ex, EXEC_CPU, threads < 1 ? 1 : threads) != OK) {
        fprintf(stderr, "%s\n", err_message());
        return 1;
    }
    bench.peak_flops = exec_peak_flops(bench.ex);
    bench.copy_bytes = copy_rate();
    if (!bench.json)
        printf("%s: product %.0f GFLOP/s, copy %.1f GB/s\n", exec_description(bench.ex),
               1e-9 * bench.peak_flops, 1e-9 * bench.copy_bytes);
    int ran = 0;
    for (size_t i = 0; i < sizeof perf_cases / sizeof perf_cases[0]; i++) {
        if (only && strcmp(perf_cases[i].kind, only) != 0) continue;
        run_case(&bench, &perf_cases[i]);
        ran++;
    }
    exec_close(&bench.ex);
    if (!ran) fprintf(stderr, "no case times %s\n", only);
    return ran ? 0 : 2;
}
