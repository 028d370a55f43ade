/* How fast each operation is, forward and backward, beside two ceilings measured in the same run: a
 * plain matrix product, and copying memory.
 *
 *   bench_ops [NAME] [--device cpu|cuda] [--threads N] [--seconds S] [--rows T] [--calls N]
 * [--json]
 *
 * The operations and their inputs are those of the tests (tests/ops/op_kinds.h). Matrix work is
 * given in FLOP/s and as a share of the product's rate; everything else in bytes/s, each tensor
 * that the call is given counted once, one that it changes in place twice, and as a share of the
 * copy's.
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

#include "benchmarks/bench_cases.h"
#include "core/clock.h"
#include "core/log.h"
#include "cuda/backend_cuda.h"

enum { CALLS_MAX = 200, COPIES_MAX = 4 };
static const double COLD_BYTES = 256e6; /* five times the L2 cache of an H100 */

typedef struct Bench {
    Exec *ex;
    Exec *tuned; /* of a GPU: takes the fastest algorithm for each product; else NULL */
    double seconds, peak_flops, copy_bytes;
    int64_t rows;
    int calls;
    bool json;
} Bench;

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

/* Of the times between events 0 … calls. */
static double median_of_events(Exec *ex, int calls) {
    static double seconds[CALLS_MAX];
    exec_wait(ex);
    for (int i = 0; i < calls; i++) seconds[i] = exec_event_seconds(ex, i, i + 1);
    qsort(seconds, (size_t)calls, sizeof *seconds, by_value);
    return seconds[calls / 2];
}

/* Seconds of one call on a GPU: nothing waits until all calls are in the stream, so that the times
 * between events are the device's alone. */
static double time_on_gpu(const Bench *bench, Exec *ex, void (*run)(Exec *, OpTest *),
                          OpTest *tests, int copies) {
    enum { WARM_UP = 3 };
    for (int i = 0; i < WARM_UP; i++) run(ex, &tests[i % copies]);
    for (int i = 0; i < bench->calls; i++) {
        exec_event_record(ex, i);
        run(ex, &tests[i % copies]);
    }
    exec_event_record(ex, bench->calls);
    return median_of_events(ex, bench->calls);
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
        exec_event_record(ex, i);
        exec_copy(ex, to, from, size);
    }
    exec_event_record(ex, bench->calls);
    double seconds = median_of_events(ex, bench->calls);
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

static double work_of(const OpTest *test, const BenchPass *pass) {
    return test->kind->flops ? pass->factor * test->kind->flops(test) : bench_bytes(test, pass);
}

static void run_case_on_cpu(const Bench *bench, const OpCase *c) {
    OpTest test;
    op_test_open(&test, bench->ex, op_kind_find(c->kind), c->dim, exec_fast_dtype(bench->ex), 5);
    op_test_spoil(&test);
    for (int i = 0; i < test.operand_count; i++) tensor_fill(test.operands[i].grad, 1e-3);
    op_test_forward(&test);
    if (test.kind->backward) op_test_backward(&test);
    BenchPass passes[BENCH_PASSES_MAX];
    int count = bench_passes(&test, bench->tuned != NULL, passes);
    for (int i = 0; i < count; i++)
        say(bench, &test, passes[i].name, work_of(&test, &passes[i]),
            time_on_cpu(bench, passes[i].run, &test), 0);
    op_test_close(&test);
}

/* The case with --rows instead of BENCH_ROWS. */
static OpCase scaled(const Bench *bench, const OpCase *c) {
    OpCase s = *c;
    int64_t *rows = &s.dim[!strcmp(c->kind, "attention") ? 1 : 0];
    *rows = *rows * bench->rows / BENCH_ROWS;
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
        op_test_open_large(&tests[i], bench->ex, bench_kind_find(c.kind), c.dim, DT_BF16,
                           5 + (uint64_t)i);
        if (i == 0 && bench->rows == BENCH_ROWS) copies = copies_for(tests);
        bench_prepare(&tests[i]);
    }
    BenchPass passes[BENCH_PASSES_MAX];
    int count = bench_passes(tests, bench->tuned != NULL, passes);
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
    if (err == OK) err = exec_events(bench->ex, bench->calls + 1);
    if (err == OK) err = exec_events(bench->tuned, bench->calls + 1);
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
    cuda_backend_register();
    Bench bench = {.seconds = 0.3, .rows = BENCH_ROWS, .calls = 21};
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
        else if (argv[i][0] != '-' && !only && bench_kind_find(argv[i]))
            only = argv[i];
        else
            usage();
    }
    bool cuda = !strcmp(device, "cuda");
    if ((!cuda && strcmp(device, "cpu") != 0) || bench.rows < 1 || bench.rows > BENCH_ROWS ||
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
    fflush(stdout);

    const OpCase *cases = cuda ? bench_cuda_cases : bench_cpu_cases;
    size_t count = (size_t)(cuda ? bench_cuda_case_count : bench_cpu_case_count);
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
