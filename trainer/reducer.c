/* The two ways to sum micro-batches; see the header. */
#include "trainer/reducer.h"

#include <stdlib.h>
#include <string.h>

#include "comm/device.h"
#include "core/clock.h"

enum { NODES_MAX = 64, RANGE_ALIGN = 16 };

/* Floats of one all-reduce: a sixteenth of all, so that little is left when the backward pass ends,
 * but so many that an all-reduce costs more than its start (4 MiB) and not more than is of use. */
enum { BUCKETS = 16, BUCKET_LEAST = 1 << 20, BUCKET_MOST = 1 << 24 };

/* A partial sum: the micro-batches index · 2^level … (index+1) · 2^level - 1. */
typedef struct Node {
    int level, index;
    float *values; /* a buffer of the pool, or a slice of what was received */
} Node;

typedef struct Stack {
    Node nodes[NODES_MAX];
    int count;
} Stack;

struct Reducer {
    Comm *comm;
    Exec *ex;
    int64_t count;
    int micro_batches, rank, size;
    double seconds;

    /* One buffer. */
    float *total;       /* NULL: the tree is used */
    bool begun;         /* it holds something of this step */
    CommDevice *device; /* NULL: one rank */
    int64_t bucket;
    int64_t summed_from; /* NCCL has been asked for the sums from here on */
    GradHook hook;
    bool overlaps;    /* sums are asked for during the backward pass */
    ErrState failure; /* of a call from inside the backward pass */

    /* The tree. */
    Stack stack;
    float *free_buffers[NODES_MAX + 1], *buffers[NODES_MAX + 1];
    int free_count, buffer_count;
    float *current;         /* given to the micro-batch under way */
    float *sent, *received; /* of the exchange */
    size_t sent_floats, received_floats;
    int64_t *counts; /* [4 · size]: send, receive, range lengths, range starts */
};

void reducer_micro_batches(int micro_batches, int rank, int size, int *first, int *end) {
    *first = (int)((int64_t)rank * micro_batches / size);
    *end = (int)((int64_t)(rank + 1) * micro_batches / size);
}

/* ---- one buffer ---- */

/* Asks for the sums of all whole buckets that lie behind `first`. Buckets are cut by the parameters
 * alone: every rank asks for the same ones in the same order, whenever it comes to them. */
static Err sum_from(Reducer *r, int64_t first) {
    while (r->summed_from > 0) {
        int64_t start = (r->summed_from - 1) / r->bucket * r->bucket;
        if (start < first) return OK;
        TRY(comm_device_sum(r->device, r->total + start, r->summed_from - start));
        r->summed_from = start;
    }
    return OK;
}

static void gradients_are_final(void *context, int64_t first, int64_t count) {
    Reducer *r = context;
    (void)count; /* announced from the end, without gaps */
    if (r->failure.code == OK && sum_from(r, first) != OK) err_save(&r->failure);
}

static Err finish_total(Reducer *r) {
    if (r->failure.code != OK) return err_restore(&r->failure);
    if (!r->begun) exec_zero(r->ex, r->total, (size_t)r->count * sizeof(float));
    r->begun = false;
    if (!r->device) return OK;
    TRY(sum_from(r, 0));
    r->summed_from = r->count;
    return comm_device_join(r->device);
}

/* Collective. Decides whether one buffer will do. The sums of a step are rehearsed: NCCL sets up
 * its ways at the first use of each, which takes the time and memory of all ranks, and that must
 * not happen while one of them is in another collective. */
static Err open_total(Reducer *r) {
    if (r->size > 1) {
        TRY(comm_device_open(&r->device, r->comm, exec_stream(r->ex)));
        if (!r->device) return OK;
    }
    r->total = exec_alloc(r->ex, (size_t)r->count * sizeof(float));
    Err err = OK;
    if (!r->total)
        err = err_raise(ERR_MEMORY, __FILE__, __LINE__,
                        "out of memory: gradients of %lld parameters", (long long)r->count);
    TRY(comm_agree(r->comm, err));
    int64_t part = (r->count / BUCKETS / BUCKET_LEAST + 1) * BUCKET_LEAST;
    r->bucket = part < BUCKET_MOST ? part : BUCKET_MOST;
    r->summed_from = r->count;
    r->hook = (GradHook){gradients_are_final, r};
    const char *overlap = getenv("CADVLM_NCCL_OVERLAP"); /* 0: to isolate a fault */
    r->overlaps = !overlap || strcmp(overlap, "0") != 0;
    if (!r->device) return OK;
    err = finish_total(r);
    if (err == OK) err = reducer_wait(r);
    return comm_agree(r->comm, err);
}

/* ---- the tree ---- */

static void deal_ranges(Reducer *r) {
    r->counts = calloc(4 * (size_t)r->size, sizeof *r->counts);
    CHECK(r->counts, "out of memory: %d ranks", r->size);
    for (int i = 0; i < r->size; i++) {
        int64_t units = (r->count + RANGE_ALIGN - 1) / RANGE_ALIGN;
        int64_t start = units * i / r->size * RANGE_ALIGN,
                end = units * (i + 1) / r->size * RANGE_ALIGN;
        r->counts[2 * r->size + i] = (end < r->count ? end : r->count) - start;
        r->counts[3 * r->size + i] = start;
    }
}

static Err take_buffer(Reducer *r, float **out) {
    if (r->free_count) {
        *out = r->free_buffers[--r->free_count];
        return OK;
    }
    CHECK(r->buffer_count <= NODES_MAX, "%d partial sums", r->buffer_count);
    *out = exec_alloc(r->ex, (size_t)r->count * sizeof **out);
    REQUIRE(*out, ERR_MEMORY, "out of memory: gradients of %lld parameters (%d partial sums)",
            (long long)r->count, r->buffer_count + 1);
    r->buffers[r->buffer_count++] = *out;
    return OK;
}

/* The most partial sums that this rank has at a time, the micro-batch under way included: all
 * buffers are taken now, so that memory that is not there is missed before the first step. */
static Err take_buffers(Reducer *r) {
    int first, end, most = 1;
    reducer_micro_batches(r->micro_batches, r->rank, r->size, &first, &end);
    for (int micro_batch = first; micro_batch < end; micro_batch++) {
        int nodes = 0;
        for (int at = first; at < micro_batch; nodes++) {
            int level = 0;
            while (at % (2 << level) == 0 && at + (2 << level) <= micro_batch) level++;
            at += 1 << level;
        }
        if (nodes + 1 > most) most = nodes + 1;
    }
    float *buffers[NODES_MAX];
    for (int i = 0; i < most; i++) TRY(take_buffer(r, &buffers[i]));
    for (int i = 0; i < most; i++) r->free_buffers[r->free_count++] = buffers[i];
    return OK;
}

/* left += right, in memory of the host. One addition an element: the bits are the device's. */
static void add_on_host(Reducer *r, float *left, const float *right, int64_t count) {
    if (exec_is_host(r->ex))
        op_accumulate(r->ex, left, right, count);
    else
        for (int64_t i = 0; i < count; i++) left[i] += right[i];
}

/* Adds the top two nodes while they are siblings. The right one's values go to the free list, if
 * they are of the pool; else they lie in memory of the host. */
static void merge_siblings(Reducer *r, Stack *stack, int64_t count, bool pooled) {
    while (stack->count >= 2) {
        Node *left = &stack->nodes[stack->count - 2], *right = &stack->nodes[stack->count - 1];
        if (left->level != right->level || left->index % 2 || right->index != left->index + 1)
            return;
        if (pooled) {
            op_accumulate(r->ex, left->values, right->values, count);
            r->free_buffers[r->free_count++] = right->values;
        } else {
            add_on_host(r, left->values, right->values, count);
        }
        left->level++;
        left->index /= 2;
        stack->count--;
    }
}

/* ---- across ranks ---- */

/* The nodes that a rank ends with: the largest aligned runs of its micro-batches, from the left. */
static int nodes_of(const Reducer *r, int rank, Node nodes[NODES_MAX]) {
    int at, end, count = 0;
    reducer_micro_batches(r->micro_batches, rank, r->size, &at, &end);
    while (at < end) {
        int level = 0;
        while (at % (2 << level) == 0 && at + (2 << level) <= end) level++;
        nodes[count++] = (Node){level, at >> level, NULL};
        at += 1 << level;
    }
    return count;
}

static float *grow(float **memory, size_t *floats, size_t needed) {
    if (needed > *floats) {
        free(*memory);
        *memory = malloc(needed * sizeof **memory);
        CHECK(*memory, "out of memory: %zu floats of gradients to exchange", needed);
        *floats = needed;
    }
    return *memory;
}

/* Every node's slice of range p goes to rank p. */
static Err exchange(Reducer *r) {
    int64_t *send_counts = r->counts, *receive_counts = r->counts + r->size;
    const int64_t *lengths = r->counts + 2 * r->size, *starts = r->counts + 3 * r->size;
    Node nodes[NODES_MAX];
    int64_t received = 0;
    for (int p = 0; p < r->size; p++) {
        send_counts[p] = r->stack.count * lengths[p];
        receive_counts[p] = nodes_of(r, p, nodes) * lengths[r->rank];
        received += receive_counts[p];
    }
    float *send = grow(&r->sent, &r->sent_floats, (size_t)(r->stack.count * r->count) + 1);
    grow(&r->received, &r->received_floats, (size_t)received + 1);
    float *at = send;
    for (int p = 0; p < r->size; p++)
        for (int n = 0; n < r->stack.count; n++) {
            exec_download(r->ex, at, r->stack.nodes[n].values + starts[p],
                          (size_t)lengths[p] * sizeof *at);
            at += lengths[p];
        }
    return comm_exchange_floats(r->comm, r->received, receive_counts, send, send_counts);
}

/* Finishes the tree over this rank's range, in place in what was received. Returns the slice with
 * the total. */
static float *finish_range(Reducer *r) {
    int64_t length = r->counts[2 * r->size + r->rank];
    Stack stack = {.count = 0};
    float *at = r->received;
    for (int p = 0; p < r->size; p++) {
        Node nodes[NODES_MAX];
        int count = nodes_of(r, p, nodes);
        for (int n = 0; n < count; n++) {
            nodes[n].values = at;
            at += length;
            stack.nodes[stack.count++] = nodes[n];
            merge_siblings(r, &stack, length, false);
        }
    }
    for (int n = 1; n < stack.count; n++)
        add_on_host(r, stack.nodes[0].values, stack.nodes[n].values, length);
    return stack.nodes[0].values;
}

/* What is left of the local tree is the whole tree: add it from the left. */
static float *finish_alone(Reducer *r) {
    for (int n = 1; n < r->stack.count; n++) {
        op_accumulate(r->ex, r->stack.nodes[0].values, r->stack.nodes[n].values, r->count);
        r->free_buffers[r->free_count++] = r->stack.nodes[n].values;
    }
    return r->stack.nodes[0].values;
}

/* Collective. Every range's total from its owner to all, into memory of the device. */
static Err gather(Reducer *r, float *total, const float *own) {
    const int64_t *lengths = r->counts + 2 * r->size, *starts = r->counts + 3 * r->size;
    if (exec_is_host(r->ex)) return comm_gather_floats(r->comm, total, own, lengths, starts);
    float *all = grow(&r->sent, &r->sent_floats, (size_t)r->count);
    TRY(comm_gather_floats(r->comm, all, own, lengths, starts));
    exec_upload(r->ex, total, all, (size_t)r->count * sizeof *all);
    return OK;
}

static Err finish_tree(Reducer *r, float **sum) {
    if (r->size == 1) {
        *sum = finish_alone(r);
    } else {
        TRY(exchange(r));
        float *own = finish_range(r);
        /* The total goes where this rank's first partial sum was; a rank without micro-batches
         * takes a fresh buffer. */
        float *total;
        if (r->stack.count)
            total = r->stack.nodes[0].values;
        else
            TRY(take_buffer(r, &total));
        for (int n = 1; n < r->stack.count; n++)
            r->free_buffers[r->free_count++] = r->stack.nodes[n].values;
        TRY(gather(r, total, own));
        *sum = total;
    }
    /* The sum's buffer is the next one to be given out; its contents live until then. */
    if (r->current) r->free_buffers[r->free_count++] = r->current;
    r->current = *sum;
    r->stack.count = 0;
    return OK;
}

/* ---- both ---- */

Err reducer_open(Reducer **out, Comm *comm, Exec *ex, int64_t count, int micro_batches,
                 bool deterministic) {
    Reducer *r = calloc(1, sizeof *r);
    CHECK(r, "out of memory: a reducer");
    *out = r;
    *r = (Reducer){.comm = comm,
                   .ex = ex,
                   .count = count,
                   .micro_batches = micro_batches,
                   .rank = comm_rank(comm),
                   .size = comm_size(comm)};
    if (!deterministic && !exec_is_host(ex)) TRY(open_total(r));
    if (r->total) return OK;
    deal_ranges(r);
    return take_buffers(r);
}

size_t reducer_bytes(const Reducer *r) {
    size_t buffers = r->total ? 1 : (size_t)r->buffer_count;
    return buffers * (size_t)r->count * sizeof(float);
}

void reducer_close(Reducer **out) {
    Reducer *r = *out;
    if (!r) return;
    comm_device_close(&r->device); /* first: what it does not finish would be waited for */
    for (int i = 0; i < r->buffer_count; i++)
        exec_free(r->ex, r->buffers[i], (size_t)r->count * sizeof(float));
    exec_free(r->ex, r->total, (size_t)r->count * sizeof(float));
    free(r->sent);
    free(r->received);
    free(r->counts);
    free(r);
    *out = NULL;
}

Err reducer_begin(Reducer *r, float **buffer) {
    bool zero = true;
    if (r->total) {
        zero = !r->begun;
        r->begun = true;
        *buffer = r->total;
    } else {
        if (!r->current) TRY(take_buffer(r, &r->current));
        *buffer = r->current;
    }
    if (zero) exec_zero(r->ex, *buffer, (size_t)r->count * sizeof(float));
    return OK;
}

const GradHook *reducer_hook(Reducer *r, int micro_batch) {
    int first, end;
    reducer_micro_batches(r->micro_batches, r->rank, r->size, &first, &end);
    return r->device && r->overlaps && micro_batch == end - 1 ? &r->hook : NULL;
}

void reducer_fold(Reducer *r, int micro_batch) {
    if (r->total) return;
    CHECK(r->current && r->stack.count < NODES_MAX, "fold without begin");
    r->stack.nodes[r->stack.count++] = (Node){0, micro_batch, r->current};
    r->current = NULL;
    merge_siblings(r, &r->stack, r->count, true);
}

Err reducer_finish(Reducer *r, float **sum) {
    if (r->total) {
        *sum = r->total;
        return finish_total(r);
    }
    exec_wait(r->ex); /* what is measured is communication */
    double began = clock_seconds();
    TRY(finish_tree(r, sum));
    r->seconds = clock_seconds() - began;
    return OK;
}

Err reducer_wait(Reducer *r) {
    return r->device ? comm_device_wait(r->device) : OK;
}

bool reducer_overlaps(const Reducer *r) {
    return r->device != NULL;
}

double reducer_seconds(const Reducer *r) {
    return r->seconds;
}
