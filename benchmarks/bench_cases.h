/* What bench_ops times: the cases, and what is timed of each. */
#ifndef CADVLM_BENCHMARKS_BENCH_CASES_H
#define CADVLM_BENCHMARKS_BENCH_CASES_H

#include "tests/ops/op_kinds.h"

/* Rows that the GPU's cases are made for. */
enum { BENCH_ROWS = 16384, BENCH_PASSES_MAX = 5 };

extern const OpCase bench_cpu_cases[], bench_cuda_cases[];
extern const int bench_cpu_case_count, bench_cuda_case_count;

/* The tests' kinds, and those of all parameters (adamw, grad_norm, accumulate); NULL: there is
 * none. */
const OpKind *bench_kind_find(const char *name);

/* Puts what an update is decided by into place; nothing for other kinds. */
void bench_prepare(OpTest *test);

/* A call, and its work: as often the forward FLOPs, or the bytes of these operands (bits of their
 * numbers in the case). Embedding tables are left out: few of their rows are touched. */
typedef struct Pass {
    const char *name;
    void (*run)(Exec *ex, OpTest *test);
    double factor;                                     /* of the forward FLOPs */
    unsigned values, values_twice, grads, grads_twice; /* twice: read and written */
} BenchPass;

/* The passes of a case, at most BENCH_PASSES_MAX. `apart`: the two products of a linear's backward
 * pass each by itself, GELU in the epilogue, norms and embeddings that are not trained. */
int bench_passes(const OpTest *test, bool apart, BenchPass *out);

/* Bytes of a pass that is counted by them. */
double bench_bytes(const OpTest *test, const BenchPass *pass);

#endif
