/* The tree that sums slots; see the header. */
#include "trainer/reducer.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

enum { NODES_MAX = 64, RANGE_ALIGN = 16 };

/* A partial sum: the slots index · 2^level … (index+1) · 2^level - 1. */
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
    int slots, rank, size;
    Stack stack;
    float *free_buffers[NODES_MAX + 1], *buffers[NODES_MAX + 1];
    int free_count, buffer_count;
    float *current;         /* given to the slot under way */
    float *sent, *received; /* of the exchange */
    size_t sent_floats, received_floats;
    int64_t *counts; /* [4 · size]: send, receive, range lengths, range starts */
    double seconds;
};

void reducer_slots(int slots, int rank, int size, int *first, int *end) {
    *first = (int)((int64_t)rank * slots / size);
    *end = (int)((int64_t)(rank + 1) * slots / size);
}

Err reducer_open(Reducer **out, Comm *comm, Exec *ex, int64_t count, int slots) {
    Reducer *r = calloc(1, sizeof *r);
    CHECK(r, "out of memory: a reducer");
    *out = r;
    *r = (Reducer){.comm = comm,
                   .ex = ex,
                   .count = count,
                   .slots = slots,
                   .rank = comm_rank(comm),
                   .size = comm_size(comm)};
    r->counts = calloc(4 * (size_t)r->size, sizeof *r->counts);
    CHECK(r->counts, "out of memory: %d ranks", r->size);
    for (int i = 0; i < r->size; i++) {
        int64_t units = (count + RANGE_ALIGN - 1) / RANGE_ALIGN;
        int64_t start = units * i / r->size * RANGE_ALIGN,
                end = units * (i + 1) / r->size * RANGE_ALIGN;
        r->counts[2 * r->size + i] = (end < count ? end : count) - start;
        r->counts[3 * r->size + i] = start;
    }
    return OK;
}

void reducer_close(Reducer **out) {
    Reducer *r = *out;
    if (!r) return;
    for (int i = 0; i < r->buffer_count; i++)
        exec_free(r->ex, r->buffers[i], (size_t)r->count * sizeof(float));
    free(r->sent);
    free(r->received);
    free(r->counts);
    free(r);
    *out = NULL;
}

/* ---- folding ---- */

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

Err reducer_begin(Reducer *r, float **buffer) {
    if (!r->current) TRY(take_buffer(r, &r->current));
    exec_zero(r->ex, r->current, (size_t)r->count * sizeof(float));
    *buffer = r->current;
    return OK;
}

/* Adds the top two nodes while they are siblings. The right one's values go to the free list, if
 * there is one. */
static void merge_siblings(Reducer *r, Stack *stack, int64_t count, bool pooled) {
    while (stack->count >= 2) {
        Node *left = &stack->nodes[stack->count - 2], *right = &stack->nodes[stack->count - 1];
        if (left->level != right->level || left->index % 2 || right->index != left->index + 1)
            return;
        op_accumulate(r->ex, left->values, right->values, count);
        if (pooled) r->free_buffers[r->free_count++] = right->values;
        left->level++;
        left->index /= 2;
        stack->count--;
    }
}

void reducer_fold(Reducer *r, int slot) {
    CHECK(r->current && r->stack.count < NODES_MAX, "fold without begin");
    r->stack.nodes[r->stack.count++] = (Node){0, slot, r->current};
    r->current = NULL;
    merge_siblings(r, &r->stack, r->count, true);
}

/* ---- across ranks ---- */

/* The nodes that a rank ends with: the largest aligned runs of its slots, from the left. */
static int nodes_of(const Reducer *r, int rank, Node nodes[NODES_MAX]) {
    int at, end, count = 0;
    reducer_slots(r->slots, rank, r->size, &at, &end);
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
        op_accumulate(r->ex, stack.nodes[0].values, stack.nodes[n].values, length);
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

Err reducer_finish(Reducer *r, float **sum) {
    double began = clock_seconds();
    if (r->size == 1) {
        *sum = finish_alone(r);
    } else {
        TRY(exchange(r));
        float *own = finish_range(r);
        /* The total goes where this rank's first partial sum was; a rank without slots takes a
         * fresh buffer. */
        float *total;
        if (r->stack.count)
            total = r->stack.nodes[0].values;
        else
            TRY(take_buffer(r, &total));
        for (int n = 1; n < r->stack.count; n++)
            r->free_buffers[r->free_count++] = r->stack.nodes[n].values;
        const int64_t *lengths = r->counts + 2 * r->size, *starts = r->counts + 3 * r->size;
        TRY(comm_gather_floats(r->comm, total, own, lengths, starts));
        *sum = total;
    }
    /* The sum's buffer is the next one to be given out; its contents live until then. */
    if (r->current) r->free_buffers[r->free_count++] = r->current;
    r->current = *sum;
    r->stack.count = 0;
    r->seconds = clock_seconds() - began;
    return OK;
}

double reducer_seconds(const Reducer *r) {
    return r->seconds;
}
