/* Greedy generation with a key-value cache, many drawings at a time.
 *
 * The prompts (image rows and the tokens before the first label) go through the decoder once and
 * fill the cache; then every pass adds one row for each sequence that has not ended. Sequences that
 * end leave the batch. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/signals.h"
#include "model/model_internal.h"

typedef struct Session {
    Model *model;
    int sequences, capacity; /* rows of cache a sequence has */
    CacheLayer *cache;
    float *cache_memory;
    size_t cache_bytes;
    int *lengths; /* rows in the cache, of each sequence */
    int *active;  /* sequences still running */
    int active_count;
    /* One block of integers for a pass, on the host and on the device. */
    int32_t *ints, *device_ints;
    size_t int_count, int_capacity;
    int32_t *best; /* device: [sequences] */
    float *probability;
} Session;

static int prompt_rows(const Batch *batch, int s, int *label) {
    int first = batch->starts[s], end = batch->starts[s + 1];
    while (*label < batch->labels && batch->label_rows[*label] < first) (*label)++;
    if (*label < batch->labels && batch->label_rows[*label] < end)
        return batch->label_rows[*label] + 1 - first;
    return end - first;
}

static Err session_open(Session *s, Model *model, const Batch *batch, int max_new) {
    const LlmConfig *c = &model->spec.llm;
    *s = (Session){.model = model, .sequences = batch->samples, .active_count = batch->samples};
    size_t n = (size_t)batch->samples;
    s->lengths = calloc(n, sizeof *s->lengths);
    s->active = calloc(n, sizeof *s->active);
    s->cache = calloc((size_t)c->layers, sizeof *s->cache);
    CHECK(s->lengths && s->active && s->cache, "out of memory: %zu sequences", n);
    int longest = 0, total = 0, label = 0;
    for (int i = 0; i < batch->samples; i++) {
        s->active[i] = i;
        int rows = prompt_rows(batch, i, &label);
        total += rows;
        if (rows > longest) longest = rows;
    }
    s->capacity = longest + max_new < model->spec.max_positions ? longest + max_new
                                                                : model->spec.max_positions;
    s->int_capacity = 3 * (size_t)total + 5 * n + 16;
    s->ints = calloc(s->int_capacity, sizeof *s->ints);
    CHECK(s->ints, "out of memory: a pass of %d rows", total);
    s->device_ints = exec_alloc(model->ex, s->int_capacity * sizeof *s->ints);
    s->best = exec_alloc(model->ex, n * sizeof *s->best);
    s->probability = exec_alloc(model->ex, n * sizeof *s->probability);

    size_t rows = n * (size_t)s->capacity, element = dtype_size(model->dtype);
    for (int i = 0; i < c->layers; i++)
        s->cache_bytes += 2 * rows * (size_t)(model->layers[i].heads_k * c->head_dim) * element;
    s->cache_memory = exec_alloc(model->ex, s->cache_bytes);
    REQUIRE(s->device_ints && s->best && s->probability && s->cache_memory, ERR_MEMORY,
            "out of memory: a key-value cache of %zu MiB for %d drawings", s->cache_bytes >> 20,
            batch->samples);
    char *at = (char *)s->cache_memory;
    for (int i = 0; i < c->layers; i++) {
        int64_t width = model->layers[i].heads_k * c->head_dim;
        s->cache[i].k = tensor(at, model->dtype, (int64_t)rows, width);
        at += tensor_bytes(s->cache[i].k);
        s->cache[i].v = tensor(at, model->dtype, (int64_t)rows, width);
        at += tensor_bytes(s->cache[i].v);
    }
    return OK;
}

static void session_close(Session *s) {
    Exec *ex = s->model->ex;
    exec_graph_forget(ex); /* it works on the memory that goes */
    exec_free(ex, s->device_ints, s->int_capacity * sizeof *s->ints);
    exec_free(ex, s->best, 0);
    exec_free(ex, s->probability, 0);
    exec_free(ex, s->cache_memory, s->cache_bytes);
    free(s->ints);
    free(s->lengths);
    free(s->active);
    free(s->cache);
}

/* Room for `count` integers of the coming pass: *host to fill, the device's address as the result.
 */
static const int32_t *reserve(Session *s, size_t count, int32_t **host) {
    CHECK(s->int_count + count <= s->int_capacity, "%zu integers of a pass", s->int_count + count);
    *host = s->ints + s->int_count;
    s->int_count += count;
    return s->device_ints + (*host - s->ints);
}

/* Runs `rows_of[i]` rows of each active sequence; ids of all of them in order. Leaves the best next
 * token of each on the device. */
static void run_pass(Session *s, const int *rows_of, const int32_t *ids, int rows) {
    Model *model = s->model;
    int n = s->active_count;
    int32_t *host_ids, *positions, *cache_rows, *starts_q, *starts_k, *lengths_k, *out_rows;
    CachePass pass = {.layers = s->cache, .rows = rows, .sequences = n, .outputs = n};
    s->int_count = 0;
    pass.ids = reserve(s, (size_t)rows, &host_ids);
    pass.positions = reserve(s, (size_t)rows, &positions);
    pass.cache_rows = reserve(s, (size_t)rows, &cache_rows);
    pass.starts_q = reserve(s, (size_t)n + 1, &starts_q);
    pass.starts_k = reserve(s, (size_t)n + 1, &starts_k);
    pass.lengths_k = reserve(s, (size_t)n, &lengths_k);
    pass.out_rows = reserve(s, (size_t)n, &out_rows);
    memcpy(host_ids, ids, (size_t)rows * sizeof *ids);
    int at = 0;
    for (int i = 0; i < n; i++) {
        int sequence = s->active[i], length = s->lengths[sequence];
        starts_q[i] = at;
        starts_k[i] = sequence * s->capacity;
        for (int r = 0; r < rows_of[i]; r++, at++) {
            positions[at] = length + r;
            cache_rows[at] = sequence * s->capacity + length + r;
        }
        s->lengths[sequence] = lengths_k[i] = length + rows_of[i];
        out_rows[i] = at - 1;
        if (rows_of[i] > pass.longest_q) pass.longest_q = rows_of[i];
        if (lengths_k[i] > pass.longest_k) pass.longest_k = lengths_k[i];
    }
    starts_q[n] = at;
    starts_k[n] = s->sequences * s->capacity;
    exec_upload(model->ex, s->device_ints, s->ints, s->int_count * sizeof *s->ints);
    /* With one row a sequence, passes over as many sequences do the same work on the same memory.
     */
    bool alike = rows == n;
    if (alike) pass.longest_k = s->capacity;
    if (alike && exec_graph_launch(model->ex, (uint64_t)n)) return;
    if (alike) exec_graph_capture_begin(model->ex, (uint64_t)n);

    size_t mark = arena_mark(&model->arena);
    Tensor out = decoder_cached(model, &pass);
    Tensor logits = take_logits(model, n);
    classifier_logits(model, logits, out);
    op_argmax(model->ex, s->best, s->probability, logits);
    arena_release(&model->arena, mark);
    if (alike) exec_graph_capture_end(model->ex);
}

/* Takes the tokens of the last pass; drops the sequences that ended. */
static void collect(Session *s, int eos, int max_new, Generation *generations, int32_t *next) {
    int n = s->active_count, kept = 0;
    int32_t *best = malloc((size_t)n * sizeof *best);
    float *probability = malloc((size_t)n * sizeof *probability);
    CHECK(best && probability, "out of memory: %d tokens", n);
    exec_download(s->model->ex, best, s->best, (size_t)n * sizeof *best);
    exec_download(s->model->ex, probability, s->probability, (size_t)n * sizeof *probability);
    for (int i = 0; i < n; i++) {
        int sequence = s->active[i];
        Generation *g = &generations[sequence];
        g->broken = !(probability[i] > 0);
        if (g->broken) continue;
        g->confidence += log((double)probability[i]); /* the sum of logarithms until the end */
        g->ended = best[i] == eos;
        if (g->ended) continue;
        g->ids[g->count++] = best[i];
        if (g->count == max_new || s->lengths[sequence] == s->capacity) continue;
        next[kept] = best[i];
        s->active[kept++] = sequence;
    }
    s->active_count = kept;
    free(best);
    free(probability);
}

static Err generate(Session *s, const Batch *batch, int eos, int max_new, Generation *generations) {
    Model *model = s->model;
    int n = batch->samples, rows = 0, label = 0;
    int *rows_of = calloc((size_t)n, sizeof *rows_of);
    int32_t *ids = calloc((size_t)batch->tokens + (size_t)n, sizeof *ids);
    CHECK(rows_of && ids, "out of memory: %d prompts", n);
    for (int i = 0; i < n; i++) {
        rows_of[i] = prompt_rows(batch, i, &label);
        memcpy(ids + rows, batch->ids + batch->starts[i], (size_t)rows_of[i] * sizeof *ids);
        rows += rows_of[i];
    }
    model->training = false;
    model->dims = (Dims){.images = batch->images, .samples = n, .tokens = rows, .labels = n};
    arena_release(&model->arena, 0);
    Err err = batch_upload_pixels(model, batch);
    if (err == OK) vision_forward(model);
    if (err == OK) run_pass(s, rows_of, ids, rows);
    while (err == OK) {
        collect(s, eos, max_new, generations, ids);
        if (!s->active_count) break;
        if (signals_pending()) {
            err = err_raise(ERR_STOPPED, __FILE__, __LINE__,
                            "stopped by a signal while the model wrote");
            break;
        }
        for (int i = 0; i < s->active_count; i++) rows_of[i] = 1;
        run_pass(s, rows_of, ids, s->active_count);
    }
    free(rows_of);
    free(ids);
    TRY(err);
    return exec_status(model->ex);
}

Err model_generate(Model *model, const Batch *batch, int eos, int max_new,
                   Generation *generations) {
    CHECK(batch->samples <= model->limits.samples && batch->images <= model->limits.images &&
              max_new >= 1,
          "%d drawings, prepared for %d", batch->samples, model->limits.samples);
    for (int i = 0; i < batch->samples; i++) {
        generations[i] = (Generation){.ids = calloc((size_t)max_new, sizeof(int32_t))};
        CHECK(generations[i].ids, "out of memory: %d tokens", max_new);
    }
    Session session;
    Err err = session_open(&session, model, batch, max_new);
    if (err == OK) err = generate(&session, batch, eos, max_new, generations);
    session_close(&session);
    for (int i = 0; i < batch->samples; i++) {
        Generation *g = &generations[i];
        int chosen = g->count + g->ended;
        g->confidence = chosen ? exp(g->confidence / chosen) : 0;
    }
    return err;
}
