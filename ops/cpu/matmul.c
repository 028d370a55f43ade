/* Matrix products through oneDNN; see the header. */
#include "ops/cpu/matmul.h"

#include <dnnl.h>
#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/hash.h"
#include "ops/cpu/cpu.h"

/* Tile sizes; they decide the bits, so they depend on shapes only. */
enum {
    TILE_ROWS = 256,       /* of c: b is packed once for so many (128: 15 % slower) */
    TILE_COLS = 256,       /* of c, when there are few row tiles */
    TILE_COLS_WIDE = 4096, /* of c, when there are many */
    MANY_ROW_TILES = 4,
    TAIL_STEP =
        32, /* the rows left over are cut into a multiple of this and a tail: few shapes to cache */
    CHUNK_ROWS = 1024 /* of a long inner dimension; powers of two below it for what is left */
};

/* Multiply-adds that one thread does alone: some 20 µs, what waking the others costs. */
static const double SMALL_PRODUCT = 2e6;

/* Everything a primitive depends on. Zeroed before it is filled: it is hashed and compared as
 * bytes. */
typedef struct Key {
    int64_t m, n, k, lda, ldb, ldc;
    int8_t ta, tb, type_ab, type_c, bias, accumulate;
    float scale;
} Key;

enum { ARG_COUNT = 5 };

typedef struct Entry {
    Key key;
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t descs[ARG_COUNT]; /* a, b, bias, c, scratchpad */
    size_t scratchpad;
    dnnl_memory_t (*memories)[ARG_COUNT]; /* [threads] */
} Entry;

enum { TABLE_SIZE = 1 << 14 };

struct Matmuls {
    dnnl_engine_t engine;
    dnnl_stream_t *streams; /* [threads] */
    Scratch *scratchpads;   /* [threads] */
    int threads;
    pthread_mutex_t lock; /* taken to add an entry; looking up needs none */
    int count;
    _Atomic(Entry *) table[TABLE_SIZE];
};

static const int ARGS[ARG_COUNT] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST,
                                    DNNL_ARG_SCRATCHPAD};

const char *matmuls_version(void) {
    static char text[32];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

bool matmuls_have_bf16(void) {
    unsigned isa = (unsigned)dnnl_get_effective_cpu_isa(), least = dnnl_cpu_isa_avx512_core;
    return (isa & least) == least;
}

Err matmuls_open(Matmuls **matmuls, int threads) {
    /* One thread for oneDNN, in this thread and in all that OpenMP starts; our own regions say
     * num_threads. */
    omp_set_num_threads(1);
    Matmuls *m = calloc(1, sizeof *m);
    CHECK(m, "out of memory: the table of matrix products");
    pthread_mutex_init(&m->lock, NULL);
    m->threads = threads;
    m->streams = calloc((size_t)threads, sizeof *m->streams);
    m->scratchpads = calloc((size_t)threads, sizeof *m->scratchpads);
    CHECK(m->streams && m->scratchpads, "out of memory: %d streams", threads);
    *matmuls = m;
    REQUIRE(dnnl_engine_create(&m->engine, dnnl_cpu, 0) == dnnl_success, ERR_DEVICE,
            "oneDNN cannot create a CPU engine");
    for (int i = 0; i < threads; i++)
        REQUIRE(dnnl_stream_create(&m->streams[i], m->engine, dnnl_stream_default_flags) ==
                    dnnl_success,
                ERR_DEVICE, "oneDNN cannot create a stream");
    return OK;
}

static void entry_free(Entry *entry, int threads) {
    for (int t = 0; t < threads; t++)
        for (int i = 0; i < ARG_COUNT; i++)
            if (entry->memories[t][i]) dnnl_memory_destroy(entry->memories[t][i]);
    free(entry->memories);
    dnnl_primitive_destroy(entry->primitive);
    free(entry);
}

void matmuls_close(Matmuls **matmuls) {
    Matmuls *m = *matmuls;
    if (!m) return;
    for (int i = 0; i < TABLE_SIZE; i++)
        if (m->table[i]) entry_free(m->table[i], m->threads);
    for (int i = 0; i < m->threads; i++) {
        if (m->streams[i]) dnnl_stream_destroy(m->streams[i]);
        free(m->scratchpads[i].memory);
    }
    if (m->engine) dnnl_engine_destroy(m->engine);
    free(m->streams);
    free(m->scratchpads);
    pthread_mutex_destroy(&m->lock);
    free(m);
    *matmuls = NULL;
}

/* ---- primitives ---- */

static dnnl_data_type_t dnnl_type(DType dtype) {
    return dtype == DT_BF16 ? dnnl_bf16 : dnnl_f32;
}

static dnnl_status_t matrix_desc(dnnl_memory_desc_t *desc, int64_t rows, int64_t cols, DType dtype,
                                 int64_t ld, bool transposed) {
    dnnl_dims_t dims = {rows, cols}, strides = {transposed ? 1 : ld, transposed ? ld : 1};
    return dnnl_memory_desc_init_by_strides(desc, 2, dims, dnnl_type(dtype), strides);
}

static dnnl_status_t create_primitive(Matmuls *m, Entry *e) {
    const Key *k = &e->key;
    dnnl_matmul_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t post = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status = matrix_desc(&e->descs[0], k->m, k->k, (DType)k->type_ab, k->lda, k->ta);
    if (status == dnnl_success)
        status = matrix_desc(&e->descs[1], k->k, k->n, (DType)k->type_ab, k->ldb, k->tb);
    if (status == dnnl_success && k->bias)
        status = matrix_desc(&e->descs[2], 1, k->n, (DType)k->type_ab, k->n, false);
    if (status == dnnl_success)
        status = matrix_desc(&e->descs[3], k->m, k->n, (DType)k->type_c, k->ldc, false);
    if (status == dnnl_success)
        status = dnnl_matmul_desc_init(&desc, &e->descs[0], &e->descs[1],
                                       k->bias ? &e->descs[2] : NULL, &e->descs[3]);
    if (status == dnnl_success) status = dnnl_primitive_attr_create(&attr);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (status == dnnl_success && k->scale != 1.0f)
        status = dnnl_primitive_attr_set_output_scales(attr, 1, 0, &k->scale);
    if (status == dnnl_success && k->accumulate) {
        status = dnnl_post_ops_create(&post);
        if (status == dnnl_success) status = dnnl_post_ops_append_sum(post, 1.0f);
        if (status == dnnl_success) status = dnnl_primitive_attr_set_post_ops(attr, post);
    }
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(&pd, &desc, attr, m->engine, NULL);
    if (status == dnnl_success) {
        e->descs[4] = *dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
        e->scratchpad = dnnl_memory_desc_get_size(&e->descs[4]);
        status = dnnl_primitive_create(&e->primitive, pd);
    }
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (post) dnnl_post_ops_destroy(post);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return status;
}

static Err entry_new(Matmuls *m, const Key *key, Entry **out) {
    Entry *e = calloc(1, sizeof *e);
    CHECK(e, "out of memory: a matrix product");
    e->key = *key;
    e->memories = calloc((size_t)m->threads, sizeof *e->memories);
    CHECK(e->memories, "out of memory: a matrix product");
    dnnl_status_t status = create_primitive(m, e);
    for (int t = 0; t < m->threads && status == dnnl_success; t++)
        for (int i = 0; i < ARG_COUNT && status == dnnl_success; i++)
            if (i != 2 || key->bias)
                status = dnnl_memory_create(&e->memories[t][i], &e->descs[i], m->engine,
                                            DNNL_MEMORY_NONE);
    if (status != dnnl_success) {
        entry_free(e, m->threads);
        FAIL(ERR_DEVICE, "oneDNN cannot multiply [%ld, %ld] by [%ld, %ld] in %s (status %d)",
             (long)key->m, (long)key->k, (long)key->k, (long)key->n,
             dtype_name((DType)key->type_ab), status);
    }
    *out = e;
    return OK;
}

static Err entry_find(Matmuls *m, const Key *key, Entry **out) {
    uint64_t slot = hash_bytes(key, sizeof *key) % TABLE_SIZE;
    for (;; slot = (slot + 1) % TABLE_SIZE) {
        Entry *e = atomic_load_explicit(&m->table[slot], memory_order_acquire);
        if (e && !memcmp(&e->key, key, sizeof *key)) {
            *out = e;
            return OK;
        }
        if (!e) break;
    }
    pthread_mutex_lock(&m->lock);
    Err err = OK;
    for (;; slot = (slot + 1) %
                   TABLE_SIZE) { /* another thread may have added it, or its neighbour, meanwhile */
        Entry *e = atomic_load_explicit(&m->table[slot], memory_order_acquire);
        if (e && !memcmp(&e->key, key, sizeof *key)) {
            *out = e;
            break;
        }
        if (e) continue;
        CHECK(m->count < TABLE_SIZE / 2, "%d shapes of matrix products", m->count);
        err = entry_new(m, key, out);
        if (err == OK) {
            atomic_store_explicit(&m->table[slot], *out, memory_order_release);
            m->count++;
        }
        break;
    }
    pthread_mutex_unlock(&m->lock);
    return err;
}

/* ---- running ---- */

static void onednn_product(Exec *ex, int thread, const Product *p) {
    Matmuls *m = cpu_of(ex)->matmuls;
    Key key;
    memset(&key, 0, sizeof key);
    key.m = p->c.rows;
    key.n = p->c.cols;
    key.k = p->transpose_a ? p->a.rows : p->a.cols;
    key.lda = p->a.stride;
    key.ldb = p->b.stride;
    key.ldc = p->c.stride;
    key.ta = p->transpose_a;
    key.tb = p->transpose_b;
    key.type_ab = (int8_t)p->a.dtype;
    key.type_c = (int8_t)p->c.dtype;
    key.bias = !tensor_is_none(p->bias);
    key.accumulate = p->accumulate;
    key.scale = p->scale == 0 ? 1.0f : p->scale;

    Entry *e;
    if (entry_find(m, &key, &e) != OK) {
#pragma omp critical(matmul_failure)
        exec_fail(ex);
        return;
    }
    void *scratchpad = scratch_need(&m->scratchpads[thread], e->scratchpad);
    void *handles[ARG_COUNT] = {p->a.data, p->b.data, p->bias.data, p->c.data, scratchpad};
    dnnl_exec_arg_t args[ARG_COUNT];
    int count = 0;
    for (int i = 0; i < ARG_COUNT; i++) {
        if (i == 2 && !key.bias) continue;
        dnnl_memory_set_data_handle(e->memories[thread][i], handles[i]);
        args[count++] = (dnnl_exec_arg_t){ARGS[i], e->memories[thread][i]};
    }
    dnnl_status_t status = dnnl_primitive_execute(e->primitive, m->streams[thread], count, args);
    CHECK(status == dnnl_success, "oneDNN status %d", status);
}

static bool in_tiles(Exec *ex, const Product *p) {
    return cpu_of(ex)->amx && p->a.dtype == DT_BF16;
}

void matmul_tile(Exec *ex, int thread, const Product *p) {
    if (in_tiles(ex, p))
        amx_product(ex, thread, p);
    else
        onednn_product(ex, thread, p);
}

/* The part of the product for c's rows [row, row + rows) and columns [col, col + cols). */
static Product tile_of(const Product *p, int64_t row, int64_t rows, int64_t col, int64_t cols) {
    Product t = *p;
    t.c = tensor_cols(tensor_rows(p->c, row, rows), col, cols);
    t.a = p->transpose_a ? tensor_cols(p->a, row, rows) : tensor_rows(p->a, row, rows);
    t.b = p->transpose_b ? tensor_rows(p->b, col, cols) : tensor_cols(p->b, col, cols);
    if (!tensor_is_none(p->bias)) t.bias = tensor_cols(p->bias, col, cols);
    return t;
}

/* The same tile over a long inner dimension: chunks of CHUNK_ROWS, then of falling powers of two,
 * then the tail. */
static void run_chunks(Exec *ex, int thread, const Product *p) {
    int64_t inner = p->transpose_a ? p->a.rows : p->a.cols;
    int64_t chunk = CHUNK_ROWS;
    for (int64_t at = 0; at < inner;) {
        while (chunk > TAIL_STEP && chunk > inner - at) chunk /= 2;
        int64_t length = chunk < inner - at ? chunk : inner - at;
        Product part = *p;
        part.a = p->transpose_a ? tensor_rows(p->a, at, length) : tensor_cols(p->a, at, length);
        part.b = p->transpose_b ? tensor_cols(p->b, at, length) : tensor_rows(p->b, at, length);
        matmul_tile(ex, thread, &part);
        at += length;
    }
}

static void run_rows(Exec *ex, int thread, const Product *p) {
    int64_t even = p->c.rows < TILE_ROWS ? p->c.rows / TAIL_STEP * TAIL_STEP : p->c.rows;
    if (even) {
        Product part = tile_of(p, 0, even, 0, p->c.cols);
        matmul_tile(ex, thread, &part);
    }
    if (even < p->c.rows) {
        Product part = tile_of(p, even, p->c.rows - even, 0, p->c.cols);
        matmul_tile(ex, thread, &part);
    }
}

void matmul_parallel(Exec *ex, const Product *p, bool ragged_k) {
    CHECK(!ragged_k || p->accumulate, "chunks of the inner dimension are accumulated");
    int threads = cpu_of(ex)->threads;
    double work =
        (double)p->c.rows * (double)p->c.cols * (double)(p->transpose_a ? p->a.rows : p->a.cols);
    if (in_tiles(ex, p)) {
        amx_product_parallel(ex, p, work > SMALL_PRODUCT ? threads : 1);
        return;
    }
    int64_t row_tiles = (p->c.rows + TILE_ROWS - 1) / TILE_ROWS;
    int64_t width = row_tiles >= MANY_ROW_TILES ? TILE_COLS_WIDE : TILE_COLS;
    int64_t col_tiles = (p->c.cols + width - 1) / width;
#pragma omp parallel for num_threads(threads)                                                      \
    schedule(dynamic, 1) if (threads > 1 && work > SMALL_PRODUCT)
    for (int64_t tile = 0; tile < row_tiles * col_tiles; tile++) {
        int64_t row = tile / col_tiles * TILE_ROWS, col = tile % col_tiles * width;
        int64_t rows = p->c.rows - row < TILE_ROWS ? p->c.rows - row : TILE_ROWS;
        int64_t cols = p->c.cols - col < width ? p->c.cols - col : width;
        Product part = tile_of(p, row, rows, col, cols);
        if (ragged_k)
            run_chunks(ex, omp_get_thread_num(), &part);
        else
            run_rows(ex, omp_get_thread_num(), &part);
    }
}

/* ---- the ceiling ---- */

enum { PEAK_SIDE = 1024, PEAK_RUNS = 12 };

double matmul_peak(Exec *ex) {
    Cpu *cpu = cpu_of(ex);
    size_t count = (size_t)PEAK_SIDE * PEAK_SIDE;
    DType dtype = cpu->fast_dtype;
    Tensor a = tensor(exec_alloc(ex, count * 4), dtype, PEAK_SIDE, PEAK_SIDE);
    Tensor b = tensor(exec_alloc(ex, count * 4), dtype, PEAK_SIDE, PEAK_SIDE);
    Tensor c = tensor(exec_alloc(ex, count * 4), DT_F32, PEAK_SIDE, PEAK_SIDE);
    CHECK(a.data && b.data && c.data, "out of memory: measuring the ceiling");
    /* A table of its own, since primitives made here are threaded. */
    Matmuls *kept = cpu->matmuls, *threaded;
    double best = 0;
    if (matmuls_open(&threaded, cpu->threads) == OK) {
        cpu->matmuls = threaded;
        omp_set_num_threads(cpu->threads);
        for (int i = 0; i < PEAK_RUNS; i++) {
            double began = clock_seconds();
            onednn_product(ex, 0, &(Product){.c = c, .a = a, .b = b});
            double flops = 2.0 * PEAK_SIDE * PEAK_SIDE * PEAK_SIDE / (clock_seconds() - began);
            if (flops > best) best = flops;
        }
        omp_set_num_threads(1);
    }
    matmuls_close(&threaded);
    cpu->matmuls = kept;
    exec_free(ex, a.data, 0);
    exec_free(ex, b.data, 0);
    exec_free(ex, c.data, 0);
    return best;
}
