/* Products by cuBLASLt.
 *
 * cuBLASLt's matrices are column-major, ours row-major. A row-major matrix is, byte for byte, the
 * column-major matrix of its transpose with the stride as leading dimension; so we ask for
 * cᵀ = op(b)ᵀ · op(a)ᵀ: b goes where cuBLASLt has its first factor, a where it has its second, m
 * and n change places, the transpositions stay with their matrices, and a bias along the columns of
 * c is the bias along the rows that cuBLASLt offers.
 *
 * A plan is how products of a kind are run: a descriptor, and the algorithms that cuBLASLt offers,
 * best first. The number of rows differs from batch to batch; so that plans come to an end all the
 * same, products whose rows round up to the same number share one (rounded_rows): it is made for
 * that number, and layouts, which cost nothing, are made for each product. An algorithm that
 * cuBLASLt then refuses for the product at hand gives way to the next.
 *
 * Plans live in a ring, found through a hash table; where the ring is full the oldest goes. */
#include "cuda/matmul.h"

#include <assert.h>
#include <cublasLt.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/log.h"
#include "cuda/switches.h"

enum {
    MAX_PLANS = 4096,
    BUCKETS = 2 * MAX_PLANS,
    CANDIDATES = 8,
    TIMINGS = 3 /* of each candidate; the best counts */
};

/* Everything that a plan depends on, m and k rounded where they count rows in memory. All of it is
 * set, and there is no padding, so that equal products have equal bytes. */
typedef struct PlanKey {
    int64_t m, n, k, stride_a, stride_b, stride_c, stride_aux;
    uint8_t type, type_c, transpose_a, transpose_b, epilogue, accumulates;
    /* Powers of two, up to 16 bytes, that pointers are multiples of. */
    uint8_t align_a, align_b, align_c, align_bias, align_aux;
    uint8_t unused[5];
} PlanKey;
static_assert(sizeof(PlanKey) == 7 * 8 + 16, "padding in a key");

/* How a product is run. */
typedef enum PlanWay {
    WAY_WHOLE, /* cuBLASLt does everything */
    WAY_APART, /* cuBLASLt does the product, a kernel the epilogue */
    WAY_PLAIN  /* cuBLASLt has no algorithm */
} PlanWay;

typedef struct Plan {
    PlanKey key;
    int next; /* plan of the same bucket, or -1 */
    PlanWay way;
    cublasLtMatmulDesc_t product;
    int count; /* of algorithms, less those that were refused; 0: the plain way */
    cublasLtMatmulAlgo_t algorithms[CANDIDATES];
} Plan;

/* How the matrices of one product lie; cuBLASLt's first factor is our b. */
typedef struct Layouts {
    cublasLtMatrixLayoutOpaque_t a, b, c;
} Layouts;

struct CudaMatmuls {
    cublasLtHandle_t handle;
    void *workspace;
    size_t workspace_bytes;
    bool tune, warned;    /* of a refusal */
    int newest;           /* plan in the ring; -1: none yet */
    int used;             /* plans in the ring */
    int buckets[BUCKETS]; /* first plan of each, or -1 */
    ProductCounts counts;
    Plan plans[MAX_PLANS];
};

/* The sentence says only the status; cuda_matmul puts the product in front of it. */
#define LT_TRY(call)                                                                               \
    do {                                                                                           \
        cublasStatus_t status_ = (call);                                                           \
        REQUIRE(status_ == CUBLAS_STATUS_SUCCESS, ERR_DEVICE, "cuBLASLt: %s",                      \
                cublasLtGetStatusName(status_));                                                   \
    } while (0)

#define CUDA_TRY(call)                                                                             \
    do {                                                                                           \
        cudaError_t error_ = (call);                                                               \
        REQUIRE(error_ == cudaSuccess, ERR_DEVICE, "%s: %s", #call, cudaGetErrorString(error_));   \
    } while (0)

/* ---- open and close ---- */

static Err open_inside(CudaMatmuls *m) {
    int device = 0, major = 0;
    CUDA_TRY(cudaGetDevice(&device));
    CUDA_TRY(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    LT_TRY(cublasLtCreate(&m->handle));
    /* What NVIDIA recommends for cuBLAS is 4 MiB, and 32 MiB on Hopper; split sums of deep products
     * (weight gradients) gain from more. */
    m->workspace_bytes = (size_t)(major >= 9 ? 64 : 32) << 20;
    CUDA_TRY(cudaMalloc(&m->workspace, m->workspace_bytes));
    return OK;
}

Err cuda_matmuls_open(CudaMatmuls **out) {
    CudaMatmuls *m = calloc(1, sizeof *m);
    REQUIRE(m, ERR_MEMORY, "out of memory: plans of products");
    m->newest = -1;
    for (int i = 0; i < BUCKETS; i++) m->buckets[i] = -1;
    m->tune = cuda_switches()->tune;
    Err err = open_inside(m);
    if (err != OK) cuda_matmuls_close(&m);
    *out = m;
    return err;
}

static void plan_clear(Plan *plan) {
    if (plan->product) cublasLtMatmulDescDestroy(plan->product);
    *plan = (Plan){.next = -1};
}

void cuda_matmuls_close(CudaMatmuls **m) {
    if (!*m) return;
    for (int i = 0; i < (*m)->used; i++) plan_clear(&(*m)->plans[i]);
    cudaFree((*m)->workspace);
    if ((*m)->handle) cublasLtDestroy((*m)->handle);
    free(*m);
    *m = NULL;
}

void cuda_matmuls_tune(CudaMatmuls *m, bool on) {
    m->tune = on;
}

size_t cuda_matmuls_bytes(const CudaMatmuls *m) {
    return m->workspace_bytes;
}

ProductCounts cuda_matmuls_counts(const CudaMatmuls *m) {
    return m->counts;
}

/* ---- keys ---- */

static bool has_bias(const CudaProduct *p) {
    return p->epilogue != EPILOGUE_NONE;
}

static bool has_aux(const CudaProduct *p) {
    return p->epilogue == EPILOGUE_GELU_AUX_BIAS;
}

/* 16, or the largest smaller power of two that divides the address. */
static uint8_t alignment_of(const void *pointer) {
    uintptr_t at = (uintptr_t)pointer;
    return (uint8_t)(at % 16 ? at & -at : 16);
}

/* Up to the next number that plans are made for. Few rows (generation) are worth plans of their
 * own; many are apart by a sixteenth to an eighth: 2,048 rows and fewer by 128, 4,096 by 256, ...
 */
static int64_t rounded_rows(int64_t rows) {
    int64_t step = rows <= 16 ? 1 : rows <= 128 ? 16 : 128;
    while (16 * step < rows && step >= 128) step *= 2;
    return (rows + step - 1) / step * step;
}

static int64_t terms_of(const CudaProduct *p) {
    return p->transpose_a ? p->a.rows : p->a.cols;
}

/* m and k are rounded where they count rows of matrices alone: along a row, their exact values say
 * in what pieces it may be read. */
static PlanKey key_of(const CudaProduct *p) {
    int64_t m = p->c.rows, k = terms_of(p);
    return (PlanKey){.m = p->transpose_a ? m : rounded_rows(m),
                     .n = p->c.cols,
                     .k = p->transpose_a && !p->transpose_b ? rounded_rows(k) : k,
                     .stride_a = p->a.stride,
                     .stride_b = p->b.stride,
                     .stride_c = p->c.stride,
                     .stride_aux = has_aux(p) ? p->aux.stride : 0,
                     .type = (uint8_t)p->a.dtype,
                     .type_c = (uint8_t)p->c.dtype,
                     .transpose_a = p->transpose_a,
                     .transpose_b = p->transpose_b,
                     .epilogue = (uint8_t)p->epilogue,
                     .accumulates = p->beta != 0,
                     .align_a = alignment_of(p->a.data),
                     .align_b = alignment_of(p->b.data),
                     .align_c = alignment_of(p->c.data),
                     .align_bias = has_bias(p) ? alignment_of(p->bias.data) : 16,
                     .align_aux = has_aux(p) ? alignment_of(p->aux.data) : 16};
}

static void check_product(const CudaProduct *p) {
    int64_t m = p->c.rows, n = p->c.cols, k = terms_of(p);
    int64_t a_rows = p->transpose_a ? k : m, a_cols = p->transpose_a ? m : k;
    int64_t b_rows = p->transpose_b ? n : k, b_cols = p->transpose_b ? k : n;
    CHECK(p->a.rows == a_rows && p->a.cols == a_cols && p->b.rows == b_rows && p->b.cols == b_cols,
          "a product [%ld,%ld] of [%ld,%ld]%s and [%ld,%ld]%s", (long)m, (long)n, (long)p->a.rows,
          (long)p->a.cols, p->transpose_a ? " transposed" : "", (long)p->b.rows, (long)p->b.cols,
          p->transpose_b ? " transposed" : "");
    CHECK(p->a.dtype == p->b.dtype && (p->c.dtype == p->a.dtype || p->c.dtype == DT_F32),
          "a product of %s and %s into %s", dtype_name(p->a.dtype), dtype_name(p->b.dtype),
          dtype_name(p->c.dtype));
    CHECK(!has_bias(p) || (p->bias.cols == n && p->bias.dtype == p->a.dtype),
          "a bias of %ld %s for %ld columns", (long)p->bias.cols, dtype_name(p->bias.dtype),
          (long)n);
    CHECK(!has_aux(p) || (p->aux.rows == m && p->aux.cols == n && p->aux.dtype == p->c.dtype),
          "[%ld,%ld] %s to keep the input of GELU", (long)p->aux.rows, (long)p->aux.cols,
          dtype_name(p->aux.dtype));
}

/* ---- making a plan ---- */

static cudaDataType_t type_of(uint8_t dtype) {
    switch ((DType)dtype) {
    case DT_BF16: return CUDA_R_16BF;
    case DT_F16: return CUDA_R_16F;
    default: return CUDA_R_32F;
    }
}

static cublasLtEpilogue_t epilogue_of(uint8_t epilogue) {
    switch ((CudaEpilogue)epilogue) {
    case EPILOGUE_BIAS: return CUBLASLT_EPILOGUE_BIAS;
    case EPILOGUE_GELU_BIAS: return CUBLASLT_EPILOGUE_GELU_BIAS;
    case EPILOGUE_GELU_AUX_BIAS: return CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    default: return CUBLASLT_EPILOGUE_DEFAULT;
    }
}

#define SET_PRODUCT(plan, attribute, value)                                                        \
    LT_TRY(cublasLtMatmulDescSetAttribute((plan)->product, (attribute), &(value), sizeof(value)))

/* The pointers that a descriptor carries: they change from product to product. */
static Err set_pointers(Plan *plan, const CudaProduct *p) {
    if (plan->way != WAY_WHOLE) return OK;
    if (has_bias(p)) SET_PRODUCT(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p->bias.data);
    if (has_aux(p)) SET_PRODUCT(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p->aux.data);
    return OK;
}

static Err describe(Plan *plan, const CudaProduct *p) {
    const PlanKey *key = &plan->key;
    LT_TRY(cublasLtMatmulDescCreate(&plan->product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    int32_t first = key->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
            second = key->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    SET_PRODUCT(plan, CUBLASLT_MATMUL_DESC_TRANSA, first);
    SET_PRODUCT(plan, CUBLASLT_MATMUL_DESC_TRANSB, second);
    if (plan->way == WAY_APART || !has_bias(p)) return OK;
    uint32_t epilogue = (uint32_t)epilogue_of(key->epilogue);
    SET_PRODUCT(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    int32_t bias_type = (int32_t)type_of(key->type);
    SET_PRODUCT(plan, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, bias_type);
    if (has_aux(p)) {
        int32_t aux_type = (int32_t)type_of(key->type_c);
        SET_PRODUCT(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, aux_type);
        SET_PRODUCT(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, key->stride_aux);
    }
    return set_pointers(plan, p);
}

/* Of a product with the key's types and strides and m · n · k. */
static Err lay_out(Layouts *l, const PlanKey *key, int64_t m_, int64_t n_, int64_t k_) {
    cudaDataType_t type = type_of(key->type), type_c = type_of(key->type_c);
    uint64_t m = (uint64_t)m_, n = (uint64_t)n_, k = (uint64_t)k_;
    LT_TRY(cublasLtMatrixLayoutInit(&l->b, type, key->transpose_b ? k : n, key->transpose_b ? n : k,
                                    key->stride_b));
    LT_TRY(cublasLtMatrixLayoutInit(&l->a, type, key->transpose_a ? m : k, key->transpose_a ? k : m,
                                    key->stride_a));
    LT_TRY(cublasLtMatrixLayoutInit(&l->c, type_c, n, m, key->stride_c));
    return OK;
}

static Err set_preference(cublasLtMatmulPreference_t preference, const CudaMatmuls *m,
                          const PlanKey *key) {
    const struct {
        cublasLtMatmulPreferenceAttributes_t attribute;
        uint32_t bytes;
    } alignments[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key->align_b},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key->align_a},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key->align_c},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key->align_c}};
    for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; i++)
        LT_TRY(cublasLtMatmulPreferenceSetAttribute(
            preference, alignments[i].attribute, &alignments[i].bytes, sizeof alignments[i].bytes));
    /* Sums that are split are added in f32, as the header promises, never in c's type. */
    uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    LT_TRY(cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions));
    uint64_t workspace = m->workspace_bytes;
    LT_TRY(cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
    return OK;
}

static cublasStatus_t run(CudaMatmuls *m, cudaStream_t stream, const Plan *plan, Layouts *l,
                          const CudaProduct *p, const cublasLtMatmulAlgo_t *algorithm, void *out) {
    return cublasLtMatmul(m->handle, plan->product, &p->alpha, p->b.data, &l->b, p->a.data, &l->a,
                          &p->beta, p->c.data, &l->c, out, &l->c, algorithm, m->workspace,
                          m->workspace_bytes, stream);
}

/* Milliseconds of the product with one algorithm; negative where it does not run. */
static float time_algorithm(CudaMatmuls *m, cudaStream_t stream, const Plan *plan, Layouts *l,
                            const CudaProduct *p, const cublasLtMatmulAlgo_t *algorithm, void *out,
                            cudaEvent_t events[2]) {
    float best = -1;
    for (int i = 0; i <= TIMINGS; i++) { /* the first only loads the kernel */
        float ms = -1;
        if (cudaEventRecord(events[0], stream) != cudaSuccess ||
            run(m, stream, plan, l, p, algorithm, out) != CUBLAS_STATUS_SUCCESS ||
            cudaEventRecord(events[1], stream) != cudaSuccess ||
            cudaEventSynchronize(events[1]) != cudaSuccess ||
            cudaEventElapsedTime(&ms, events[0], events[1]) != cudaSuccess)
            return -1;
        if (i > 0 && (best < 0 || ms < best)) best = ms;
    }
    return best;
}

/* Puts the fastest of the candidates first. A product that adds to c writes elsewhere while it is
 * timed. */
static Err tune_plan(CudaMatmuls *m, cudaStream_t stream, Plan *plan, const CudaProduct *p) {
    Err err = OK;
    void *elsewhere = NULL;
    cudaEvent_t events[2] = {NULL, NULL};
    Layouts layouts;
    TRY(lay_out(&layouts, &plan->key, p->c.rows, p->c.cols, terms_of(p)));
    for (int i = 0; i < 2; i++)
        REQUIRE_GOTO(err, cudaEventCreateWithFlags(&events[i], cudaEventDefault) == cudaSuccess,
                     ERR_DEVICE, "no event to time products with");
    if (plan->key.accumulates) {
        size_t bytes = (size_t)(p->c.rows * p->c.stride) * dtype_size(p->c.dtype);
        /* A candidate is as good as another where there is no memory to find out. */
        if (cudaMalloc(&elsewhere, bytes) != cudaSuccess) {
            (void)cudaGetLastError();
            goto done;
        }
    }
    float best = -1;
    for (int i = 0; i < plan->count; i++) {
        float ms = time_algorithm(m, stream, plan, &layouts, p, &plan->algorithms[i],
                                  elsewhere ? elsewhere : p->c.data, events);
        if (ms < 0 || (best >= 0 && ms >= best)) continue;
        best = ms;
        cublasLtMatmulAlgo_t first = plan->algorithms[0];
        plan->algorithms[0] = plan->algorithms[i];
        plan->algorithms[i] = first;
    }
done:
    cudaFree(elsewhere);
    for (int i = 0; i < 2; i++)
        if (events[i]) cudaEventDestroy(events[i]);
    return err;
}

/* While a graph is being captured nothing runs, and nothing can be timed. */
static bool is_captured(cudaStream_t stream) {
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    return cudaStreamIsCapturing(stream, &status) != cudaSuccess ||
           status != cudaStreamCaptureStatusNone;
}

/* Asks for candidates, for the rows that the key has; there may be none. */
static Err choose_algorithms(CudaMatmuls *m, cudaStream_t stream, Plan *plan,
                             const CudaProduct *p) {
    Err err = OK;
    cublasLtMatmulHeuristicResult_t candidates[CANDIDATES];
    Layouts l;
    int count = 0;
    TRY(lay_out(&l, &plan->key, plan->key.m, plan->key.n, plan->key.k));
    cublasLtMatmulPreference_t preference = NULL;
    REQUIRE(cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS, ERR_DEVICE,
            "cuBLASLt: no memory for a preference");
    TRY_GOTO(err, set_preference(preference, m, &plan->key));
    cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(m->handle, plan->product, &l.b, &l.a, &l.c, &l.c, preference,
                                       CANDIDATES, candidates, &count);
    m->counts.planned++;
    /* Both of these mean that there is no way to do it, rather than that something broke. */
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) goto done;
    REQUIRE_GOTO(err, status == CUBLAS_STATUS_SUCCESS, ERR_DEVICE, "cuBLASLt: %s",
                 cublasLtGetStatusName(status));
    for (int i = 0; i < count; i++)
        if (candidates[i].state == CUBLAS_STATUS_SUCCESS)
            plan->algorithms[plan->count++] = candidates[i].algo;
    if (plan->count > 1 && m->tune && !is_captured(stream))
        TRY_GOTO(err, tune_plan(m, stream, plan, p));
done:
    cublasLtMatmulPreferenceDestroy(preference);
    return err;
}

/* Makes it anew for `way`, or the first way behind it that there is an algorithm for. */
static Err plan_make(CudaMatmuls *m, cudaStream_t stream, Plan *plan, const CudaProduct *p,
                     PlanWay way) {
    PlanKey key = key_of(p);
    int next = plan->next;
    for (; way <= WAY_PLAIN; way++) {
        plan_clear(plan);
        plan->key = key;
        plan->next = next;
        plan->way = way;
        if (way == WAY_PLAIN) break;
        if (way == WAY_APART && p->epilogue == EPILOGUE_NONE) continue;
        TRY(describe(plan, p));
        TRY(choose_algorithms(m, stream, plan, p));
        if (plan->count) break;
    }
    return OK;
}

/* ---- keeping plans ---- */

static int *bucket_of(CudaMatmuls *m, const PlanKey *key) {
    return &m->buckets[hash_bytes(key, sizeof *key) % BUCKETS];
}

static Plan *plan_find(CudaMatmuls *m, const PlanKey *key) {
    for (int i = *bucket_of(m, key); i >= 0; i = m->plans[i].next)
        if (memcmp(&m->plans[i].key, key, sizeof *key) == 0) return &m->plans[i];
    return NULL;
}

/* Takes a plan out of its bucket. */
static void plan_forget(CudaMatmuls *m, int index) {
    int *link = bucket_of(m, &m->plans[index].key);
    while (*link != index) link = &m->plans[*link].next;
    *link = m->plans[index].next;
    plan_clear(&m->plans[index]);
}

static Err plan_add(CudaMatmuls *m, cudaStream_t stream, const CudaProduct *p, Plan **out) {
    int index = (m->newest + 1) % MAX_PLANS;
    Plan made = {.next = -1};
    bool apart = cuda_switches()->unfused && p->epilogue != EPILOGUE_NONE;
    PlanWay first = cuda_switches()->plain_products ? WAY_PLAIN : apart ? WAY_APART : WAY_WHOLE;
    Err err = plan_make(m, stream, &made, p, first);
    if (err != OK) {
        plan_clear(&made);
        return err;
    }
    if (m->used == MAX_PLANS)
        plan_forget(m, index);
    else
        m->used++;
    int *bucket = bucket_of(m, &made.key);
    made.next = *bucket;
    *bucket = index;
    m->plans[index] = made;
    m->newest = index;
    *out = &m->plans[index];
    return OK;
}

/* ---- the product ---- */

/* OK where it is an algorithm that was refused; an error where nothing would go on: the library is
 * out of order, or an operation before has broken the device. */
static Err check_refusal(cublasStatus_t status) {
    REQUIRE(status != CUBLAS_STATUS_NOT_INITIALIZED && status != CUBLAS_STATUS_ALLOC_FAILED,
            ERR_DEVICE, "cuBLASLt: %s", cublasLtGetStatusName(status));
    (void)cudaGetLastError(); /* of one launch; what breaks a device stays */
    cudaError_t broken = cudaPeekAtLastError();
    REQUIRE(broken == cudaSuccess, ERR_DEVICE,
            "cuBLASLt: %s, since an operation before has failed: %s (CADVLM_CUDA_SYNC=1 in the "
            "environment names it)",
            cublasLtGetStatusName(status), cudaGetErrorString(broken));
    return OK;
}

/* Drops the algorithm that was refused. Where none is left the plan is made for the next way. */
static Err plan_refused(CudaMatmuls *m, cudaStream_t stream, Plan *plan, const CudaProduct *p,
                        cublasStatus_t status) {
    TRY(check_refusal(status));
    m->counts.refused++;
    if (!m->warned)
        log_warn("cuBLASLt offers an algorithm for a product [%ld,%ld] by [%ld,%ld] of %s, and "
                 "refuses it: %s; the next one is tried (more of this is counted)",
                 (long)p->a.rows, (long)p->a.cols, (long)p->b.rows, (long)p->b.cols,
                 dtype_name(p->a.dtype), cublasLtGetStatusName(status));
    m->warned = true;
    plan->count--;
    memmove(plan->algorithms, plan->algorithms + 1,
            (size_t)plan->count * sizeof plan->algorithms[0]);
    return plan->count ? OK : plan_make(m, stream, plan, p, plan->way + 1);
}

static Err product(CudaMatmuls *m, cudaStream_t stream, const CudaProduct *p, const PlanKey *key) {
    Layouts layouts;
    Plan *plan = plan_find(m, key);
    if (!plan) TRY(plan_add(m, stream, p, &plan));
    TRY(lay_out(&layouts, key, p->c.rows, p->c.cols, terms_of(p)));
    while (plan->count) {
        TRY(set_pointers(plan, p));
        cublasStatus_t status = run(m, stream, plan, &layouts, p, &plan->algorithms[0], p->c.data);
        if (status == CUBLAS_STATUS_SUCCESS) break;
        TRY(plan_refused(m, stream, plan, p, status));
    }
    if (!plan->count) {
        m->counts.plain++;
        cuda_matmul_plain(stream, p);
    } else if (plan->way == WAY_APART) {
        m->counts.unfused++;
        cuda_matmul_epilogue(stream, p);
    }
    return OK;
}

Err cuda_matmul(CudaMatmuls *m, cudaStream_t stream, const CudaProduct *p) {
    PlanKey key = key_of(p);
    check_product(p);
    if (p->c.rows == 0 || p->c.cols == 0) return OK;
    m->counts.products++;
    Err err = OK;
    if (terms_of(p) > 0)
        err = product(m, stream, p, &key);
    else /* a layout without rows is invalid; the fallback only scales and adds */
        cuda_matmul_plain(stream, p);
    if (err == OK) return OK;
    return err_prefix(err, "a product [%ld,%ld]%s by [%ld,%ld]%s of %s into %s: ", (long)p->a.rows,
                      (long)p->a.cols, p->transpose_a ? "ᵀ" : "", (long)p->b.rows, (long)p->b.cols,
                      p->transpose_b ? "ᵀ" : "", dtype_name(p->a.dtype), dtype_name(p->c.dtype));
}
