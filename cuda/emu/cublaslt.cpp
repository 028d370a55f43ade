/* A stand-in for cuBLASLt, as far as cuda/matmul.c uses it.
 *
 * Descriptors are checked as the library documents them; the heuristic refuses what its kernels do
 * not take, and (stricter than the library) 16-bit matrices at odd places, so that callers meet a
 * refusal. An algorithm runs the problem that it was found for, and such as have fewer rows,
 * columns or terms. Products wait in their stream like everything else; alpha and beta are read at
 * the call, memory when the stream gets there. */
#include "cuda/emu/emu.h" /* first: it names what the library's headers name too */

#include <cublasLt.h>

#include <algorithm>
#include <stdlib.h>
#include <vector>

#include "cuda/emu/control.h"
#include "cuda/emu/inside.h"
#include "cuda/emu/streams.h"

namespace {

struct Layout {
    cudaDataType type;
    uint64_t rows, cols;
    int64_t ld;
};

struct Product {
    int32_t transpose_a, transpose_b;
    uint32_t epilogue;
    const void *bias;
    void *aux;
    int64_t aux_ld;
    int32_t bias_type, aux_type; /* -1: that of D */
};

struct Preference {
    uint64_t workspace;
    uint32_t align_a, align_b, align_c, align_d, reductions;
};

/* What an algorithm is, in its eight words. */
struct Algorithm {
    uint64_t stamp, m, n, k, workspace;
    uint32_t align_a, align_b, align_d;
    uint32_t place;  /* among the candidates */
    uint32_t rounds; /* whether it adds split sums in the type of the result */
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t), "no room for an algorithm");
static_assert(sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t), "no room for a layout");

/* What tests ask for (cuda/emu/control.h). */
struct Refusals {
    int candidates = 0;
    bool fused = false;
    Refusals() {
        const char *said = getenv("CADVLM_EMU_REFUSE");
        if (!said) return;
        char *end;
        candidates = static_cast<int>(strtol(said, &end, 10));
        fused = *end == 'f';
    }
};

Refusals &refusals() {
    static Refusals r;
    return r;
}

EmuProductCounts counts;

const Layout *layout(cublasLtMatrixLayout_t l) {
    return reinterpret_cast<const Layout *>(l);
}

const Product *product(cublasLtMatmulDesc_t d) {
    return reinterpret_cast<const Product *>(d);
}

bool is_half(cudaDataType type) {
    return type == CUDA_R_16BF || type == CUDA_R_16F;
}

size_t size_of(cudaDataType type) {
    return is_half(type) ? 2 : 4;
}

/* A value of an attribute, where its size is right. */
template <typename T> cublasStatus_t take(T *to, const void *from, size_t bytes) {
    if (!from || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, from, sizeof(T));
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- what a problem is ---- */

/* Everything that an algorithm depends on. */
struct Problem {
    uint64_t m, n, k;
    int64_t lda, ldb, ldc;
    int32_t type, type_c, transpose_a, transpose_b;
    uint32_t epilogue;
};

/* Of all but the sizes. */
uint64_t stamp_of(const Problem &p) {
    uint64_t words[] = {static_cast<uint64_t>(p.lda),
                        static_cast<uint64_t>(p.ldb),
                        static_cast<uint64_t>(p.ldc),
                        static_cast<uint64_t>(p.type * 64 + p.type_c),
                        static_cast<uint64_t>(p.transpose_a * 2 + p.transpose_b),
                        p.epilogue};
    uint64_t hash = 0xCBF29CE484222325u; /* FNV-1a */
    for (uint64_t word : words) hash = (hash ^ word) * 0x100000001B3u;
    return hash;
}

/* Kernels read pieces of 4 bytes: a matrix whose rows of terms have an odd number of 16-bit
 * elements cannot be cut into them. Where terms are counted by rows, any number will do. */
bool is_odd(const Problem &p) {
    bool along_a = p.transpose_a == CUBLAS_OP_T, along_b = p.transpose_b == CUBLAS_OP_N;
    return is_half(static_cast<cudaDataType>(p.type)) && p.k % 2 && (along_a || along_b);
}

bool wants_bias(uint32_t epilogue) {
    return epilogue & CUBLASLT_EPILOGUE_BIAS;
}

bool wants_gelu(uint32_t epilogue) {
    return epilogue & CUBLASLT_EPILOGUE_GELU;
}

bool wants_aux(uint32_t epilogue) {
    return epilogue & 128;
}

cublasStatus_t problem_of(Problem *out, const Product *d, const Layout *a, const Layout *b,
                          const Layout *c, const Layout *result) {
    if (!d || !a || !b || !c || !result) return CUBLAS_STATUS_INVALID_VALUE;
    bool ta = d->transpose_a == CUBLAS_OP_T, tb = d->transpose_b == CUBLAS_OP_T;
    *out = {ta ? a->cols : a->rows,
            tb ? b->rows : b->cols,
            ta ? a->rows : a->cols,
            a->ld,
            b->ld,
            c->ld,
            a->type,
            c->type,
            d->transpose_a,
            d->transpose_b,
            d->epilogue};
    uint64_t k_of_b = tb ? b->cols : b->rows;
    if (out->k != k_of_b || result->rows != out->m || result->cols != out->n || c->rows != out->m ||
        c->cols != out->n)
        return CUBLAS_STATUS_INVALID_VALUE;
    for (const Layout *l : {a, b, c, result})
        if (!l->rows || !l->cols || l->ld < static_cast<int64_t>(l->rows))
            return CUBLAS_STATUS_INVALID_VALUE;
    if (a->type != b->type || c->type != result->type || c->ld != result->ld ||
        (c->type != a->type && c->type != CUDA_R_32F))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (wants_aux(d->epilogue) && (d->aux_ld < static_cast<int64_t>(out->m) || d->aux_ld % 8 != 0 ||
                                   (d->aux_type >= 0 && d->aux_type != result->type)))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (wants_bias(d->epilogue) && d->bias_type >= 0 && d->bias_type != result->type)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- arithmetic ---- */

/* `count` elements, `step` apart, as f32. */
template <typename T> void widen(float *to, const void *from, int64_t count, int64_t step) {
    const T *x = static_cast<const T *>(from);
    for (int64_t i = 0; i < count; i++) to[i] = static_cast<float>(x[i * step]);
}

void widen(float *to, cudaDataType type, const void *from, int64_t first, int64_t count,
           int64_t step) {
    const char *at = static_cast<const char *>(from) + first * static_cast<int64_t>(size_of(type));
    if (type == CUDA_R_16BF && step == 1) { /* what nearly all products are made of */
        const uint16_t *x = reinterpret_cast<const uint16_t *>(at);
        uint32_t *bits = reinterpret_cast<uint32_t *>(to);
        for (int64_t i = 0; i < count; i++) bits[i] = static_cast<uint32_t>(x[i]) << 16;
    } else if (type == CUDA_R_16BF) {
        widen<__nv_bfloat16>(to, at, count, step);
    } else if (type == CUDA_R_16F) {
        widen<__half>(to, at, count, step);
    } else {
        widen<float>(to, at, count, step);
    }
}

void narrow(cudaDataType type, void *to, int64_t at, float x) {
    if (type == CUDA_R_16BF)
        static_cast<__nv_bfloat16 *>(to)[at] = __float2bfloat16_rn(x);
    else if (type == CUDA_R_16F)
        static_cast<__half *>(to)[at] = __float2half_rn(x);
    else
        static_cast<float *>(to)[at] = x;
}

constexpr int64_t WIDE = 16, TALL = 4, DEEP = 256;
typedef float Line __attribute__((vector_size(WIDE * sizeof(float)), aligned(4)));

/* sums[TALL][WIDE] += b[TALL][depth] · a[depth][WIDE]. */
inline __attribute__((always_inline)) void tile(float *sums, const float *b, const float *a,
                                                int64_t depth) {
    Line s[TALL];
    for (int64_t i = 0; i < TALL; i++) s[i] = *reinterpret_cast<const Line *>(sums + i * WIDE);
    for (int64_t k = 0; k < depth; k++) {
        Line x = *reinterpret_cast<const Line *>(a + k * WIDE);
        for (int64_t i = 0; i < TALL; i++) s[i] += x * b[i * DEEP + k];
    }
    for (int64_t i = 0; i < TALL; i++) *reinterpret_cast<Line *>(sums + i * WIDE) = s[i];
}

void tile_any(float *sums, const float *b, const float *a, int64_t depth) {
    tile(sums, b, a, depth);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void tile_avx2(float *sums, const float *b, const float *a,
                                                   int64_t depth) {
    tile(sums, b, a, depth);
}
#endif

typedef void (*Tile)(float *, const float *, const float *, int64_t);

Tile best_tile() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return tile_avx2;
#endif
    return tile_any;
}

/* One product, with copies of all it needs. */
struct Job {
    Problem p;
    Product d;
    float alpha, beta;
    const void *a, *b, *c;
    void *result;
};

/* op(a)[m, k] in panels of WIDE rows and DEEP columns: panel[k][WIDE]; zeros fill up. */
void pack_a(float *panel, const Job &j, int64_t row, int64_t first, int64_t depth) {
    int64_t rows = std::min(WIDE, static_cast<int64_t>(j.p.m) - row);
    cudaDataType type = static_cast<cudaDataType>(j.p.type);
    memset(panel, 0, static_cast<size_t>(depth * WIDE) * sizeof *panel);
    if (j.p.transpose_a == CUBLAS_OP_N) { /* a column of a is a line of the panel */
        for (int64_t k = 0; k < depth; k++)
            widen(panel + k * WIDE, type, j.a, (first + k) * j.p.lda + row, rows, 1);
        return;
    }
    float line[DEEP];
    for (int64_t i = 0; i < rows; i++) {
        widen(line, type, j.a, (row + i) * j.p.lda + first, depth, 1);
        for (int64_t k = 0; k < depth; k++) panel[k * WIDE + i] = line[k];
    }
}

/* Column `col` of op(b)[k, n], rows first … first + depth - 1. */
void pack_b(float *line, const Job &j, int64_t col, int64_t first, int64_t depth) {
    cudaDataType type = static_cast<cudaDataType>(j.p.type);
    if (j.p.transpose_b == CUBLAS_OP_N)
        widen(line, type, j.b, col * j.p.ldb + first, depth, 1);
    else
        widen(line, type, j.b, first * j.p.ldb + col, depth, j.p.ldb);
}

float gelu(float x) {
    return 0.5f * x * (1.0f + tanhf(0.79788456080f * (x + 0.044715f * x * x * x)));
}

/* The sums of column `col`, rows row … row + rows - 1, to their place. */
void finish(const Job &j, const float *sums, int64_t col, int64_t row, int64_t rows) {
    cudaDataType type = static_cast<cudaDataType>(j.p.type_c);
    float before[WIDE] = {0}, bias[WIDE] = {0};
    int64_t at = col * j.p.ldc + row;
    if (j.beta != 0) widen(before, type, j.c, at, rows, 1);
    if (wants_bias(j.d.epilogue)) widen(bias, type, j.d.bias, row, rows, 1);
    for (int64_t i = 0; i < rows; i++) {
        float x = j.alpha * sums[i] + j.beta * before[i] + bias[i];
        if (wants_aux(j.d.epilogue)) narrow(type, j.d.aux, col * j.d.aux_ld + row + i, x);
        narrow(type, j.result, at + i, wants_gelu(j.d.epilogue) ? gelu(x) : x);
    }
}

void note(const Job &j) {
    size_t size = size_of(static_cast<cudaDataType>(j.p.type)),
           size_c = size_of(static_cast<cudaDataType>(j.p.type_c));
    auto lines = [](const void *at, uint64_t count, int64_t ld, uint64_t length, size_t bytes,
                    void (*visit)(const void *, size_t)) {
        for (uint64_t i = 0; i < count; i++)
            visit(static_cast<const char *>(at) + i * static_cast<uint64_t>(ld) * bytes,
                  length * bytes);
    };
    bool ta = j.p.transpose_a == CUBLAS_OP_T, tb = j.p.transpose_b == CUBLAS_OP_T;
    lines(j.a, ta ? j.p.m : j.p.k, j.p.lda, ta ? j.p.k : j.p.m, size, emu::memory_read);
    lines(j.b, tb ? j.p.k : j.p.n, j.p.ldb, tb ? j.p.n : j.p.k, size, emu::memory_read);
    if (j.beta != 0) lines(j.c, j.p.n, j.p.ldc, j.p.m, size_c, emu::memory_read);
    if (wants_bias(j.d.epilogue)) emu::memory_read(j.d.bias, j.p.m * size_c);
    if (wants_aux(j.d.epilogue))
        lines(j.d.aux, j.p.n, j.d.aux_ld, j.p.m, size_c, emu::memory_written);
    lines(j.result, j.p.n, j.p.ldc, j.p.m, size_c, emu::memory_written);
}

bool begins_with_zeros(const Job &j) {
    auto zeros = [](const void *at, uint64_t count, size_t size) {
        const char *bytes = static_cast<const char *>(at);
        return std::all_of(bytes, bytes + count * size, [](char byte) { return byte == 0; });
    };
    size_t size = size_of(static_cast<cudaDataType>(j.p.type));
    bool ta = j.p.transpose_a == CUBLAS_OP_T, tb = j.p.transpose_b == CUBLAS_OP_T;
    return zeros(j.a, ta ? j.p.k : j.p.m, size) || zeros(j.b, tb ? j.p.n : j.p.k, size);
}

/* All rows of a few columns at a time, DEEP terms of the sums at a time: a's panels are made once a
 * slice of the depth, b's lines once. */
void run(const Job &j) {
    counts.zeros += begins_with_zeros(j);
    static const Tile multiply = best_tile();
    int64_t m = static_cast<int64_t>(j.p.m), n = static_cast<int64_t>(j.p.n),
            k = static_cast<int64_t>(j.p.k), panels = (m + WIDE - 1) / WIDE;
    constexpr int64_t COLS = 128; /* whose sums are kept */
    std::vector<float> a(static_cast<size_t>(panels * WIDE * DEEP)), b(TALL * DEEP),
        sums(static_cast<size_t>(panels * WIDE * COLS));
    for (int64_t col = 0; col < n; col += COLS) {
        int64_t cols = std::min(COLS, n - col);
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (int64_t first = 0; first < k; first += DEEP) {
            int64_t depth = std::min(DEEP, k - first);
            for (int64_t panel = 0; panel < panels; panel++)
                pack_a(&a[static_cast<size_t>(panel * WIDE * DEEP)], j, panel * WIDE, first, depth);
            for (int64_t i = 0; i < cols; i += TALL) {
                std::fill(b.begin(), b.end(), 0.0f);
                for (int64_t t = 0; t < std::min(TALL, cols - i); t++)
                    pack_b(&b[static_cast<size_t>(t * DEEP)], j, col + i + t, first, depth);
                for (int64_t panel = 0; panel < panels; panel++)
                    multiply(&sums[static_cast<size_t>((panel * COLS + i) * WIDE)], b.data(),
                             &a[static_cast<size_t>(panel * WIDE * DEEP)], depth);
            }
        }
        for (int64_t panel = 0; panel < panels; panel++)
            for (int64_t i = 0; i < cols; i++)
                finish(j, &sums[static_cast<size_t>((panel * COLS + i) * WIDE)], col + i,
                       panel * WIDE, std::min(WIDE, m - panel * WIDE));
    }
    note(j);
}

void check_range(const void *at, uint64_t lines, int64_t ld, uint64_t length, cudaDataType type,
                 const char *who) {
    if (!emu::is_device_memory(at)) emu::report("%s is not in device memory", who);
    emu::check_device_range(at, ((lines - 1) * static_cast<uint64_t>(ld) + length) * size_of(type),
                            who);
}

} // namespace

extern "C" {

void emu_refuse_products(int candidates, int fused) {
    refusals().candidates = candidates;
    refusals().fused = fused;
}

EmuProductCounts emu_product_counts(void) {
    return counts;
}

/* ---- the library ---- */

struct cublasLtContext {
    int unused;
};

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    *handle = new cublasLtContext();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusName(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "a status of the emulated cuBLASLt";
    }
}

/* ---- layouts ---- */

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t out, size_t size,
                                                 cudaDataType type, uint64_t rows, uint64_t cols,
                                                 int64_t ld) {
    if (size < sizeof(Layout)) return CUBLAS_STATUS_ALLOC_FAILED;
    *reinterpret_cast<Layout *>(out) = {type, rows, cols, ld};
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- products ---- */

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    *out = reinterpret_cast<cublasLtMatmulDesc_t>(
        new Product{CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, NULL, NULL, 0, -1, -1});
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) {
    delete reinterpret_cast<Product *>(d);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes) {
    Product *d = reinterpret_cast<Product *>(desc);
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return take(&d->transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return take(&d->transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return take(&d->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return take(&d->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return take(&d->bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: return take(&d->aux, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: return take(&d->aux_ld, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE: return take(&d->aux_type, value, bytes);
    default: return CUBLAS_STATUS_INVALID_VALUE;
    }
}

/* ---- preferences ---- */

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
    *out = reinterpret_cast<cublasLtMatmulPreference_t>(
        new Preference{0, 256, 256, 256, 256, CUBLASLT_REDUCTION_SCHEME_MASK});
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    delete reinterpret_cast<Preference *>(preference);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes) {
    Preference *p = reinterpret_cast<Preference *>(preference);
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return take(&p->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return take(&p->reductions, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: return take(&p->align_a, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: return take(&p->align_b, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: return take(&p->align_c, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return take(&p->align_d, value, bytes);
    default: return CUBLAS_STATUS_INVALID_VALUE;
    }
}

/* Three candidates that differ only in the workspace they ask for. Where the preference allows sums
 * in the type of the result, the first one makes them so. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int *count) {
    Problem p;
    *count = 0;
    counts.heuristics++;
    if (wanted <= 0) return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t status =
        problem_of(&p, product(desc), layout(a), layout(b), layout(c), layout(d));
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    const Preference *w = reinterpret_cast<const Preference *>(preference);
    bool narrow = is_half(layout(a)->type), half_c = is_half(layout(c)->type);
    if (is_odd(p) || (narrow && (p.lda % 2 || p.ldb % 2 || w->align_a < 4 || w->align_b < 4)))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (half_c && (p.ldc % 2 || w->align_c < 4 || w->align_d < 4))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    bool rounds =
        w->reductions & (CUBLASLT_REDUCTION_SCHEME_INPLACE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE);
    for (int i = 0; i < std::min(wanted, 3); i++) {
        cublasLtMatmulHeuristicResult_t *r = &results[i];
        memset(r, 0, sizeof *r);
        r->workspaceSize = static_cast<size_t>(i) << 20;
        if (r->workspaceSize > w->workspace) break;
        r->state = CUBLAS_STATUS_SUCCESS;
        r->wavesCount = 1;
        Algorithm algorithm = {stamp_of(p),
                               p.m,
                               p.n,
                               p.k,
                               r->workspaceSize,
                               w->align_a,
                               w->align_b,
                               w->align_d,
                               static_cast<uint32_t>(i),
                               rounds && i == 0};
        memcpy(&r->algo, &algorithm, sizeof algorithm);
        *count = i + 1;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    Job j = {};
    cublasStatus_t status = problem_of(&j.p, product(desc), layout(a_layout), layout(b_layout),
                                       layout(c_layout), layout(d_layout));
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    auto misaligned = [](const void *p, uint64_t alignment) {
        return reinterpret_cast<uintptr_t>(p) % alignment != 0;
    };
    if (!algo) return CUBLAS_STATUS_INVALID_VALUE;
    Algorithm chosen;
    memcpy(&chosen, algo, sizeof chosen);
    if (chosen.stamp != stamp_of(j.p) || j.p.m > chosen.m || j.p.n > chosen.n || j.p.k > chosen.k ||
        is_odd(j.p) || chosen.workspace > workspace_bytes || (chosen.workspace && !workspace) ||
        misaligned(a, chosen.align_a) || misaligned(b, chosen.align_b) ||
        misaligned(d, chosen.align_d))
        return CUBLAS_STATUS_INVALID_VALUE;
    const Refusals &r = refusals();
    if (static_cast<int>(chosen.place) < r.candidates &&
        (!r.fused || j.p.epilogue != CUBLASLT_EPILOGUE_DEFAULT))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (emu::is_broken()) return CUBLAS_STATUS_EXECUTION_FAILED;
    counts.rounded += chosen.rounds;
    j.d = *product(desc);
    j.alpha = *static_cast<const float *>(alpha);
    j.beta = *static_cast<const float *>(beta);
    j.a = a;
    j.b = b;
    j.c = c;
    j.result = d;
    const Layout *la = layout(a_layout), *lb = layout(b_layout), *lc = layout(c_layout);
    check_range(a, la->cols, la->ld, la->rows, la->type, "the first factor of a product");
    check_range(b, lb->cols, lb->ld, lb->rows, lb->type, "the second factor of a product");
    check_range(d, lc->cols, lc->ld, lc->rows, lc->type, "the result of a product");
    if (j.beta != 0) check_range(c, lc->cols, lc->ld, lc->rows, lc->type, "what a product adds to");
    if (wants_bias(j.d.epilogue)) check_range(j.d.bias, 1, 0, j.p.m, lc->type, "a bias");
    if (wants_aux(j.d.epilogue))
        check_range(j.d.aux, j.p.n, j.d.aux_ld, j.p.m, lc->type, "the kept input of GELU");
    if (!emu::is_idle()) emu::enqueue(stream, [j] { run(j); });
    return CUBLAS_STATUS_SUCCESS;
}

} // extern "C"
