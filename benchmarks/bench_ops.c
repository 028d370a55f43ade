/* How fast each operation is, forward and backward, beside two ceilings measured in the same run: a
 * plain matrix product, and copying memory.
 *
 *   bench_ops [NAME] [--threads N] [--seconds S] [--json]
 *
 * The operations and their inputs are those of the tests (tests/op_cases.h), here at the sizes of
 * the demo's model and of OpenELM-450M. Matrix work is given in GFLOP/s and as a share of the
 * product's rate; everything else in GB/s, each operand counted once, and as a share of the copy's
 * (above 100 %: it stayed in the caches). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "tests/op_cases.h"

/* 1,568 rows: 16 samples of the demo. 1,024 rows of 1,536: one sample of an OpenECAD model. */
static const OpCase perf_cases[] = {
    {"linear", {1568, 384, 128, 0}},        {"linear", {1568, 128, 352, 0}},
    {"linear", {256, 128, 1024, 1}},        {"linear", {1024, 2304, 1536, 0}},
    {"linear", {1024, 1536, 5376, 0}},      {"lora", {1024, 2304, 1536, 128, 0}},
    {"lora", {1024, 2304, 1536, 128, 5}},   {"rmsnorm", {1568, 128, 1}},
    {"rmsnorm", {1024, 1536, 1}},           {"layernorm", {256, 128, 1}},
    {"layernorm", {729, 1152, 1}},          {"qk_rope", {1568, 4, 2, 32, 32, 1}},
    {"qk_rope", {1024, 24, 6, 64, 64, 1}},  {"attention", {16, 110, 4, 2, 32, 1}},
    {"attention", {16, 16, 4, 4, 32, 0}},   {"attention", {1, 1024, 24, 6, 64, 1}},
    {"attention", {1, 729, 16, 16, 72, 0}}, {"glu", {1568, 352, ACT_SILU}},
    {"glu", {1024, 5376, ACT_SILU}},        {"act", {256, 512, ACT_GELU_TANH}},
    {"act", {729, 4304, ACT_GELU_TANH}},    {"patchify", {16, 128, 1, 32}},
    {"positions", {16, 16, 128}},           {"embed", {1568, 1280, 128, 256}},
    {"gather", {1568, 128, 1200}},          {"cross_entropy", {1200, 1280}},
    {"cross_entropy", {512, 32000}},        {"convert", {1280, 1280}},
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

/* Bytes of the operands, each once; backward reads and writes gradients as well. */
static double bytes_of(const OpTest *test, bool backward) {
    double sum = 0;
    for (int i = 0; i < test->operand_count; i++) {
        const Operand *o = &test->operands[i];
        double count = (double)(o->rows * o->cols);
        sum += count * (double)dtype_size(o->t.dtype);
        if (backward && o->role != ROLE_FIXED && o->role != ROLE_SAVED)
            sum += count * (double)dtype_size(o->grad.dtype);
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
    op_test_open(&test, op_kind_find(c->kind), c->dim, exec_fast_dtype(bench->ex), 5);
    op_test_spoil(&test);
    for (int i = 0; i < test.operand_count; i++) {
        Tensor grad = test.operands[i].grad;
        for (int64_t k = 0; k < grad.rows * grad.cols; k++)
            tensor_set(grad, k / grad.cols, k % grad.cols, 1e-3);
    }
    op_test_forward(bench->ex, &test);
    say(bench, &test, false, time_of(bench, test.kind->forward, &test));
    if (test.kind->backward) {
        op_test_forward(bench->ex, &test);
        op_test_backward(bench->ex, &test);
        say(bench, &test, true, time_of(bench, test.kind->backward, &test));
    }
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
    for (size_t i = 0; i < sizeof perf_cases / sizeof perf_cases[0]; i++)
        if (!only || !strcmp(perf_cases[i].kind, only)) run_case(&bench, &perf_cases[i]);
    exec_close(&bench.ex);
    return 0;
}
