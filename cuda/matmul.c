/* Products by cuBLASLt.
 *
 * cuBLASLt's matrices are column-major, ours row-major. A row-major matrix is, byte for byte, the
 * column-major matrix of its transpose with the stride as leading dimension; so we ask for
 * cᵀ = op(b)ᵀ · op(a)ᵀ: b goes where cuBLASLt has its first factor, a where it has its second, m
 * and n change places, the transpositions stay with their matrices, and a bias along the columns of
 * c is the bias along the rows that cuBLASLt offers.
 *
 * A plan is everything about a product but its pointers and factors: descriptors, layouts and
 * algorithm. Plans live in a ring, found through a hash table; where the ring is full the oldest
 * goes. The number of rows differs from batch to batch, and so new plans never end. */
#include "cuda/matmul.h"

#include <assert.h>
#include <cublasLt.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"

enum {
    MAX_PLANS = 4096,
    BUCKETS = 2 * MAX_PLANS,
    CANDIDATES = 8,
    TIMINGS = 3 /* of each candidate; the best counts */
};

/* Everything that a plan hangs on. All of it is set, and there is no padding, so that equal
 * products have equal bytes. */
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
    cublasLtMatrixLayout_t a, b, c; /* ours; cuBLASLt's first factor is b */
    cublasLtMatmulAlgo_t algorithm;
} Plan;

struct CudaMatmuls {
    cublasLtHandle_t handle;
    void *workspace;
    size_t workspace_bytes;
    bool tune;
    int newest;           /* plan in the ring; -1: none yet */
    int used;             /* plans in the ring */
    int buckets[BUCKETS]; /* first plan of each, or -1 */
    CudaMatmulCounts counts;
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
    const char *tune = getenv("CADVLM_CUDA_TUNE");
    m->tune = tune && strcmp(tune, "1") == 0;
    Err err = open_inside(m);
    if (err != OK) cuda_matmuls_close(&m);
    *out = m;
    return err;
}

static void plan_clear(Plan *plan) {
    if (plan->c) cublasLtMatrixLayoutDestroy(plan->c);
    if (plan->b) cublasLtMatrixLayoutDestroy(plan->b);
    if (plan->a) cublasLtMatrixLayoutDestroy(plan->a);
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

CudaMatmulCounts cuda_matmuls_counts(const CudaMatmuls *m) {
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

static PlanKey key_of(const CudaProduct *p) {
    return (PlanKey){.m = p->c.rows,
                     .n = p->c.cols,
                     .k = p->transpose_a ? p->a.rows : p->a.cols,
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

static void check_product(const CudaProduct *p, const PlanKey *key) {
    int64_t a_rows = p->transpose_a ? key->k : key->m, a_cols = p->transpose_a ? key->m : key->k;
    int64_t b_rows = p->transpose_b ? key->n : key->k, b_cols = p->transpose_b ? key->k : key->n;
    CHECK(p->a.rows == a_rows && p->a.cols == a_cols && p->b.rows == b_rows && p->b.cols == b_cols,
          "a product [%ld,%ld] of [%ld,%ld]%s and [%ld,%ld]%s", (long)key->m, (long)key->n,
          (long)p->a.rows, (long)p->a.cols, p->transpose_a ? " transposed" : "", (long)p->b.rows,
          (long)p->b.cols, p->transpose_b ? " transposed" : "");
    CHECK(p->a.dtype == p->b.dtype && (p->c.dtype == p->a.dtype || p->c.dtype == DT_F32),
          "a product of %s and %s into %s", dtype_name(p->a.dtype), dtype_name(p->b.dtype),
          dtype_name(p->c.dtype));
    CHECK(!has_bias(p) || (p->bias.cols == key->n && p->bias.dtype == p->a.dtype),
          "a bias of %ld %s for %ld columns", (long)p->bias.cols, dtype_name(p->bias.dtype),
          (long)key->n);
    CHECK(!has_aux(p) ||
              (p->aux.rows == key->m && p->aux.cols == key->n && p->aux.dtype == p->c.dtype),
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
    cudaDataType_t type = type_of(key->type), type_c = type_of(key->type_c);
    uint64_t m = (uint64_t)key->m, n = (uint64_t)key->n, k = (uint64_t)key->k;
    LT_TRY(cublasLtMatrixLayoutCreate(&plan->b, type, key->transpose_b ? k : n,
                                      key->transpose_b ? n : k, key->stride_b));
    LT_TRY(cublasLtMatrixLayoutCreate(&plan->a, type, key->transpose_a ? m : k,
                                      key->transpose_a ? k : m, key->stride_a));
    LT_TRY(cublasLtMatrixLayoutCreate(&plan->c, type_c, n, m, key->stride_c));
    if (plan->way == WAY_APART || !has_bias(p)) return OK;
    uint32_t epilogue = (uint32_t)epilogue_of(key->epilogue);
    SET_PRODUCT(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    int32_t bias_type = (int32_t)type;
    SET_PRODUCT(plan, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, bias_type);
    if (has_aux(p)) {
        int32_t aux_type = (int32_t)type_c;
        SET_PRODUCT(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, aux_type);
        SET_PRODUCT(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, key->stride_aux);
    }
    return set_pointers(plan, p);
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
    uint64_t workspace = m->workspace_bytes;
    LT_TRY(cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
    return OK;
}

static cublasStatus_t run(CudaMatmuls *m, cudaStream_t stream, const Plan *plan,
                          const CudaProduct *p, const cublasLtMatmulAlgo_t *algorithm, void *out) {
    return cublasLtMatmul(m->handle, plan->product, &p->alpha, p->b.data, plan->b, p->a.data,
                          plan->a, &p->beta, p->c.data, plan->c, out, plan->c, algorithm,
                          m->workspace, m->workspace_bytes, stream);
}

/* Milliseconds of the product with one algorithm; negative where it does not run. */
static float time_algorithm(CudaMatmuls *m, cudaStream_t stream, const Plan *plan,
                            const CudaProduct *p, const cublasLtMatmulAlgo_t *algorithm, void *out,
                            cudaEvent_t events[2]) {
    float best = -1;
    for (int i = 0; i <= TIMINGS; i++) { /* the first only loads the kernel */
        float ms = -1;
        if (cudaEventRecord(events[0], stream) != cudaSuccess ||
            run(m, stream, plan, p, algorithm, out) != CUBLAS_STATUS_SUCCESS ||
            cudaEventRecord(events[1], stream) != cudaSuccess ||
            cudaEventSynchronize(events[1]) != cudaSuccess ||
            cudaEventElapsedTime(&ms, events[0], events[1]) != cudaSuccess)
            return -1;
        if (i > 0 && (best < 0 || ms < best)) best = ms;
    }
    return best;
}

/* The fastest of the candidates. A product that adds to c writes elsewhere while it is timed. */
static Err tune_plan(CudaMatmuls *m, cudaStream_t stream, Plan *plan, const CudaProduct *p,
                     const cublasLtMatmulHeuristicResult_t *candidates, int count) {
    Err err = OK;
    void *elsewhere = NULL;
    cudaEvent_t events[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++)
        REQUIRE_GOTO(err, cudaEventCreateWithFlags(&events[i], cudaEventDefault) == cudaSuccess,
                     ERR_DEVICE, "no event to time products with");
    if (plan->key.accumulates) {
        size_t bytes = (size_t)(plan->key.m * plan->key.stride_c) * dtype_size(p->c.dtype);
        /* A candidate is as good as another where there is no memory to find out. */
        if (cudaMalloc(&elsewhere, bytes) != cudaSuccess) {
            (void)cudaGetLastError();
            goto done;
        }
    }
    float best = -1;
    for (int i = 0; i < count; i++) {
        if (candidates[i].state != CUBLAS_STATUS_SUCCESS) continue;
        float ms = time_algorithm(m, stream, plan, p, &candidates[i].algo,
                                  elsewhere ? elsewhere : p->c.data, events);
        if (ms < 0 || (best >= 0 && ms >= best)) continue;
        best = ms;
        plan->algorithm = candidates[i].algo;
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

/* Asks for candidates; *found says whether there are any. */
static Err choose_algorithm(CudaMatmuls *m, cudaStream_t stream, Plan *plan, const CudaProduct *p,
                            bool *found) {
    Err err = OK;
    cublasLtMatmulHeuristicResult_t candidates[CANDIDATES];
    int count = 0;
    *found = false;
    cublasLtMatmulPreference_t preference = NULL;
    REQUIRE(cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS, ERR_DEVICE,
            "cuBLASLt: no memory for a preference");
    TRY_GOTO(err, set_preference(preference, m, &plan->key));
    cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(m->handle, plan->product, plan->b, plan->a, plan->c, plan->c,
                                       preference, CANDIDATES, candidates, &count);
    /* Both of these mean that there is no way to do it, rather than that something broke. */
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) goto done;
    REQUIRE_GOTO(err, status == CUBLAS_STATUS_SUCCESS, ERR_DEVICE, "cuBLASLt: %s",
                 cublasLtGetStatusName(status));
    for (int i = count - 1; i >= 0; i--) {
        if (candidates[i].state != CUBLAS_STATUS_SUCCESS) continue;
        plan->algorithm = candidates[i].algo;
        *found = true;
    }
    if (*found && count > 1 && m->tune && !is_captured(stream))
        TRY_GOTO(err, tune_plan(m, stream, plan, p, candidates, count));
done:
    cublasLtMatmulPreferenceDestroy(preference);
    return err;
}

static Err plan_make(CudaMatmuls *m, cudaStream_t stream, Plan *plan, const CudaProduct *p) {
    PlanKey key = key_of(p);
    PlanWay last = p->epilogue == EPILOGUE_NONE ? WAY_WHOLE : WAY_APART;
    for (PlanWay way = WAY_WHOLE; way <= last; way++) {
        bool found = false;
        plan_clear(plan);
        plan->key = key;
        plan->way = way;
        TRY(describe(plan, p));
        TRY(choose_algorithm(m, stream, plan, p, &found));
        if (found) return OK;
    }
    plan_clear(plan);
    plan->key = key;
    plan->way = WAY_PLAIN;
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
    Err err = plan_make(m, stream, &made, p);
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
    m->counts.plans++;
    *out = &m->plans[index];
    return OK;
}

/* ---- the product ---- */

static Err product(CudaMatmuls *m, cudaStream_t stream, const CudaProduct *p, const PlanKey *key) {
    Plan *plan = plan_find(m, key);
    if (!plan) TRY(plan_add(m, stream, p, &plan));
    if (plan->way == WAY_PLAIN) {
        m->counts.plain++;
        cuda_matmul_plain(stream, p);
        return OK;
    }
    TRY(set_pointers(plan, p));
    LT_TRY(run(m, stream, plan, p, &plan->algorithm, p->c.data));
    if (plan->way == WAY_APART) {
        m->counts.apart++;
        cuda_matmul_epilogue(stream, p);
    }
    return OK;
}

Err cuda_matmul(CudaMatmuls *m, cudaStream_t stream, const CudaProduct *p) {
    PlanKey key = key_of(p);
    check_product(p, &key);
    if (key.m == 0 || key.n == 0) return OK;
    m->counts.products++;
    Err err = OK;
    if (key.k > 0)
        err = product(m, stream, p, &key);
    else /* a layout without rows is invalid; the plain loops only scale and add */
        cuda_matmul_plain(stream, p);
    if (err == OK) return OK;
    return err_prefix(err, "a product [%ld,%ld]%s by [%ld,%ld]%s of %s into %s: ", (long)p->a.rows,
                      (long)p->a.cols, p->transpose_a ? "ᵀ" : "", (long)p->b.rows, (long)p->b.cols,
                      p->transpose_b ? "ᵀ" : "", dtype_name(p->a.dtype), dtype_name(p->c.dtype));
}
