/* Attention on the CPU: softmax(scale · q · kᵀ) · v over packed samples, block of queries by block.
 *
 * A task is one sequence and one key head with its group of query heads. The task copies its keys
 * and values into a tile of its own, padded to a multiple of TILE, so that oneDNN sees few shapes;
 * blocks of queries follow. The backward pass adds the gradients of keys and values up over the
 * group and the blocks in one order, so nothing depends on the threads. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "ops/cpu/cpu.h"

enum {
    TILE = 32,
    BLOCK = 128
}; /* shapes are multiples of TILE; queries come in blocks of at most BLOCK */

typedef struct Work {
    Exec *ex;
    const AttentionSpec *spec;
    int thread, sequence, head_k;
    int64_t first_q, first_k;
    int queries, keys;
    DType dtype;
} Work;

static int64_t padded(int64_t n) {
    return (n + TILE - 1) / TILE * TILE;
}

static void align(void **memory) {
    *memory = (void *)(((uintptr_t)*memory + 63) / 64 * 64);
}

/* Copies `rows` rows of one head's columns into a dense tile of padded(rows) rows; the rest is
 * zero. */
static Tensor load_head(void **memory, Tensor from, int64_t first, int64_t rows, int head,
                        int head_dim) {
    size_t line = (size_t)head_dim * dtype_size(from.dtype);
    Tensor tile = tensor(*memory, from.dtype, padded(rows), head_dim);
    char *to = *memory;
    const char *source = (const char *)from.data +
                         (size_t)(first * from.stride) * dtype_size(from.dtype) +
                         (size_t)head * line;
    for (int64_t r = 0; r < rows; r++)
        memcpy(to + (size_t)r * line, source + (size_t)(r * from.stride) * dtype_size(from.dtype),
               line);
    memset(to + (size_t)rows * line, 0, (size_t)(tile.rows - rows) * line);
    *memory = to + tensor_bytes(tile);
    return tile;
}

static void store_head(Tensor to, int64_t first, int64_t rows, int head, int head_dim,
                       Tensor tile) {
    size_t line = (size_t)head_dim * dtype_size(to.dtype);
    char *out =
        (char *)to.data + (size_t)(first * to.stride) * dtype_size(to.dtype) + (size_t)head * line;
    for (int64_t r = 0; r < rows; r++)
        memcpy(out + (size_t)(r * to.stride) * dtype_size(to.dtype),
               (char *)tile.data + (size_t)r * line, line);
}

/* Rows of one head that nothing was computed for. */
static void zero_head(Tensor t, int64_t first, int64_t rows, int head, int head_dim) {
    size_t element = dtype_size(t.dtype), line = (size_t)head_dim * element;
    for (int64_t r = first; r < first + rows; r++)
        memset((char *)t.data + (size_t)(r * t.stride) * element + (size_t)head * line, 0, line);
}

static Tensor take(void **memory, DType dtype, int64_t rows, int64_t cols) {
    Tensor t = tensor(*memory, dtype, rows, cols);
    *memory = (char *)*memory + (tensor_bytes(t) + 63) / 64 * 64;
    return t;
}

static Work work_of(Exec *ex, const AttentionSpec *spec, DType dtype, int64_t task) {
    Work w = {.ex = ex, .spec = spec, .thread = omp_get_thread_num(), .dtype = dtype};
    w.sequence = (int)(task / spec->heads_k);
    w.head_k = (int)(task % spec->heads_k);
    w.first_q = spec->starts_q[w.sequence];
    w.first_k = spec->starts_k[w.sequence];
    w.queries = (int)(spec->starts_q[w.sequence + 1] - w.first_q);
    w.keys = spec->lengths_k ? spec->lengths_k[w.sequence]
                             : (int)(spec->starts_k[w.sequence + 1] - w.first_k);
    return w;
}

/* How far the block of queries that starts at `at` sees: how many keys any of them sees, padded. */
static int64_t reach(const Work *w, int64_t at, int64_t rows) {
    int64_t last = w->spec->causal ? w->keys - w->queries + at + rows : w->keys;
    return padded(last < w->keys ? last : w->keys);
}

/* Query i of the block sees keys 0 … i + diagonal. */
static int diagonal_of(const Work *w, int64_t at) {
    return w->spec->causal ? (int)(w->keys - w->queries + at) : w->keys;
}

static size_t scratch_bytes(const AttentionSpec *spec, bool backward) {
    size_t keys = (size_t)padded(spec->longest_k), d = (size_t)spec->head_dim,
           tiles = backward ? 4 : 2;
    size_t fixed = matmul_fixed_bytes((int64_t)keys, (int64_t)d) * (backward ? 2 : 1) +
                   matmul_fixed_bytes((int64_t)d, (int64_t)keys);
    size_t blocks = BLOCK * (keys * (backward ? 16 : 8) + d * 4 * 6);
    return tiles * keys * d * 4 + fixed + blocks + (size_t)BLOCK * 8 + 64 * 32;
}

static void forward_task(const Work *w, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v) {
    const AttentionSpec *spec = w->spec;
    const CpuKernels *kernels = cpu_of(w->ex)->kernels;
    int d = spec->head_dim, group = spec->heads_q / spec->heads_k;
    void *memory = scratch_need(&cpu_of(w->ex)->per_thread[w->thread], scratch_bytes(spec, false));
    Tensor keys = load_head(&memory, k, w->first_k, w->keys, w->head_k, d);
    Tensor values = load_head(&memory, v, w->first_k, w->keys, w->head_k, d);
    align(&memory);
    Fixed to_scores = matmul_fix(w->ex, &memory, keys, true),
          to_result = matmul_fix(w->ex, &memory, values, false);
    for (int g = 0; g < group; g++) {
        int head = w->head_k * group + g;
        for (int64_t at = 0; at < w->queries; at += BLOCK) {
            void *block = memory;
            int64_t rows = w->queries - at < BLOCK ? w->queries - at : BLOCK,
                    seen = reach(w, at, rows);
            Tensor queries = load_head(&block, q, w->first_q + at, rows, head, d);
            Tensor scores = take(&block, DT_F32, queries.rows, seen),
                   weights = take(&block, w->dtype, queries.rows, seen);
            Tensor result = take(&block, w->dtype, queries.rows, d);
            matmul_tile_fixed(w->ex, w->thread, scores, queries, &to_scores);
            float *sums = tensor_is_none(lse)
                              ? NULL
                              : (float *)lse.data + (w->first_q + at) * lse.stride + head;
            kernels->softmax(scores.data, scores.stride, weights, sums, lse.stride, (int)rows,
                             w->keys, diagonal_of(w, at), spec->scale);
            size_t line = (size_t)seen * dtype_size(w->dtype);
            memset((char *)weights.data + (size_t)rows * line, 0,
                   (size_t)(weights.rows - rows) * line);
            matmul_tile_fixed(w->ex, w->thread, result, weights, &to_result);
            store_head(out, w->first_q + at, rows, head, d, result);
        }
    }
}

/* Narrows an f32 tile into one of the compute type (in place of it when that is f32). */
static Tensor narrowed(const Work *w, void **memory, Tensor tile) {
    if (w->dtype == DT_F32) return tile;
    Tensor out = take(memory, w->dtype, tile.rows, tile.cols);
    cpu_of(w->ex)->kernels->convert(NULL, 0, tile.rows, out, tile);
    return out;
}

static void backward_task(const Work *w, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor out,
                          Tensor lse, Tensor q, Tensor k, Tensor v) {
    const AttentionSpec *spec = w->spec;
    const CpuKernels *kernels = cpu_of(w->ex)->kernels;
    int d = spec->head_dim, group = spec->heads_q / spec->heads_k;
    size_t bytes = scratch_bytes(spec, true);
    char *lines =
        scratch_need(&cpu_of(w->ex)->per_thread[w->thread], bytes + 2 * (size_t)d * sizeof(float));
    void *memory = lines;
    float *line = (float *)(lines + bytes);
    Tensor keys = load_head(&memory, k, w->first_k, w->keys, w->head_k, d);
    Tensor values = load_head(&memory, v, w->first_k, w->keys, w->head_k, d);
    Tensor dkeys = take(&memory, DT_F32, keys.rows, d),
           dvalues = take(&memory, DT_F32, keys.rows, d);
    memset(dkeys.data, 0, tensor_bytes(dkeys));
    memset(dvalues.data, 0, tensor_bytes(dvalues));
    Fixed to_scores = matmul_fix(w->ex, &memory, keys, true),
          to_dscores = matmul_fix(w->ex, &memory, values, true),
          to_dqueries = matmul_fix(w->ex, &memory, keys, false);
    for (int g = 0; g < group; g++) {
        int head = w->head_k * group + g;
        for (int64_t at = 0; at < w->queries; at += BLOCK) {
            void *block = memory;
            int64_t rows = w->queries - at < BLOCK ? w->queries - at : BLOCK,
                    seen = reach(w, at, rows);
            Tensor queries = load_head(&block, q, w->first_q + at, rows, head, d);
            Tensor grads = load_head(&block, dout, w->first_q + at, rows, head, d);
            Tensor results = load_head(&block, out, w->first_q + at, rows, head, d);
            Tensor delta = take(&block, DT_F32, 1, BLOCK);
            kernels->row_dot(line, delta.data, tensor_rows(grads, 0, rows),
                             tensor_rows(results, 0, rows));

            Tensor scores = take(&block, DT_F32, queries.rows, seen),
                   dscores = take(&block, DT_F32, queries.rows, seen);
            Tensor weights = take(&block, w->dtype, queries.rows, seen),
                   dweights = take(&block, w->dtype, queries.rows, seen);
            matmul_tile_fixed(w->ex, w->thread, scores, queries, &to_scores);
            matmul_tile_fixed(w->ex, w->thread, dscores, grads, &to_dscores);
            kernels->softmax_bwd(scores.data, dscores.data, scores.stride, weights, dweights,
                                 (float *)lse.data + (w->first_q + at) * lse.stride + head,
                                 lse.stride, delta.data, (int)rows, w->keys, diagonal_of(w, at),
                                 spec->scale);
            size_t row_bytes = (size_t)seen * dtype_size(w->dtype),
                   rest = (size_t)(queries.rows - rows) * row_bytes;
            memset((char *)weights.data + (size_t)rows * row_bytes, 0, rest);
            memset((char *)dweights.data + (size_t)rows * row_bytes, 0, rest);

            matmul_tile(w->ex, w->thread,
                        &(Product){.c = tensor_rows(dvalues, 0, seen),
                                   .a = weights,
                                   .b = grads,
                                   .transpose_a = true,
                                   .accumulate = true});
            matmul_tile(w->ex, w->thread,
                        &(Product){.c = tensor_rows(dkeys, 0, seen),
                                   .a = dweights,
                                   .b = queries,
                                   .transpose_a = true,
                                   .accumulate = true});
            Tensor dqueries = results; /* no longer needed */
            matmul_tile_fixed(w->ex, w->thread, dqueries, dweights, &to_dqueries);
            store_head(dq, w->first_q + at, rows, head, d, dqueries);
        }
    }
    store_head(dk, w->first_k, w->keys, w->head_k, d, narrowed(w, &memory, dkeys));
    store_head(dv, w->first_k, w->keys, w->head_k, d, narrowed(w, &memory, dvalues));
}

/* A sequence without queries or without keys. */
static void empty_forward(const Work *w, Tensor out, Tensor lse) {
    int group = w->spec->heads_q / w->spec->heads_k;
    for (int head = w->head_k * group; head < (w->head_k + 1) * group; head++) {
        zero_head(out, w->first_q, w->queries, head, w->spec->head_dim);
        for (int r = 0; r < w->queries && !tensor_is_none(lse); r++)
            ((float *)lse.data)[(w->first_q + r) * lse.stride + head] = -INFINITY;
    }
}

static void empty_backward(const Work *w, Tensor dq, Tensor dk, Tensor dv) {
    int group = w->spec->heads_q / w->spec->heads_k, d = w->spec->head_dim;
    for (int head = w->head_k * group; head < (w->head_k + 1) * group; head++)
        zero_head(dq, w->first_q, w->queries, head, d);
    zero_head(dk, w->first_k, w->keys, w->head_k, d);
    zero_head(dv, w->first_k, w->keys, w->head_k, d);
}

void cpu_attention_fwd(Exec *ex, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                       const AttentionSpec *spec) {
    int threads = cpu_of(ex)->threads;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
    for (int64_t task = 0; task < (int64_t)spec->sequences * spec->heads_k; task++) {
        Work w = work_of(ex, spec, q.dtype, task);
        if (w.queries > 0 && w.keys > 0)
            forward_task(&w, out, lse, q, k, v);
        else
            empty_forward(&w, out, lse);
    }
}

void cpu_attention_bwd(Exec *ex, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor out,
                       Tensor lse, Tensor q, Tensor k, Tensor v, const AttentionSpec *spec) {
    int threads = cpu_of(ex)->threads;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
    for (int64_t task = 0; task < (int64_t)spec->sequences * spec->heads_k; task++) {
        Work w = work_of(ex, spec, q.dtype, task);
        if (w.queries > 0 && w.keys > 0)
            backward_task(&w, dq, dk, dv, dout, out, lse, q, k, v);
        else
            empty_backward(&w, dq, dk, dv);
        int64_t unseen = spec->starts_k[w.sequence + 1] - w.first_k - w.keys;
        zero_head(dk, w.first_k + w.keys, unseen, w.head_k, spec->head_dim);
        zero_head(dv, w.first_k + w.keys, unseen, w.head_k, spec->head_dim);
    }
}
