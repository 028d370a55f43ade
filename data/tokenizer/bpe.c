/* Merging by a heap of candidate pairs over a linked list of symbols. */
#include "data/tokenizer/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "data/tokenizer/tokenizer.h"

static uint64_t pair_hash(int32_t left, int32_t right) {
    uint64_t x = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    x = (x ^ x >> 31) * 0x9E3779B97F4A7C15u; /* golden ratio; spreads small ids over all bits */
    return x ^ x >> 32;
}

static Merge *place_of(Merge *places, size_t capacity, int32_t left, int32_t right) {
    size_t at = (size_t)pair_hash(left, right) & (capacity - 1);
    while (places[at].rank != UINT32_MAX && (places[at].left != left || places[at].right != right))
        at = (at + 1) & (capacity - 1);
    return &places[at];
}

static void grow(Merges *merges) {
    size_t capacity = merges->capacity ? 2 * merges->capacity : 1024;
    Merge *places = malloc(capacity * sizeof *places);
    CHECK(places, "out of memory: %zu merges", capacity);
    for (size_t i = 0; i < capacity; i++) places[i].rank = UINT32_MAX;
    for (size_t i = 0; i < merges->capacity; i++) {
        Merge merge = merges->places[i];
        if (merge.rank != UINT32_MAX) *place_of(places, capacity, merge.left, merge.right) = merge;
    }
    free(merges->places);
    merges->places = places;
    merges->capacity = capacity;
}

void merges_put(Merges *merges, Merge merge) {
    if (2 * (merges->count + 1) > merges->capacity) grow(merges);
    Merge *place = place_of(merges->places, merges->capacity, merge.left, merge.right);
    if (place->rank == UINT32_MAX) merges->count++;
    *place = merge;
}

const Merge *merges_find(const Merges *merges, int32_t left, int32_t right) {
    if (!merges->count) return NULL;
    const Merge *place = place_of(merges->places, merges->capacity, left, right);
    return place->rank == UINT32_MAX ? NULL : place;
}

void merges_free(Merges *merges) {
    free(merges->places);
    *merges = (Merges){0};
}

/* ---- encoding ---- */

enum { GONE = INT32_MIN }; /* as an id: joined to the symbol before */

/* The neighbours of a symbol of the piece; -1: none. */
typedef struct Links {
    int32_t previous, next;
} Links;

/* A piece at work, in the memory of a scratch. */
typedef struct Piece {
    int32_t *ids;
    Links *links;
} Piece;

/* Candidates: rank in the upper half, place of the left symbol in the lower, so that the least is
 * the first rank and, within it, the leftmost place. */
typedef struct Heap {
    uint64_t *items;
    size_t count;
} Heap;

static void heap_push(Heap *heap, uint64_t item) {
    size_t at = heap->count++;
    while (at && heap->items[(at - 1) / 2] > item) {
        heap->items[at] = heap->items[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap->items[at] = item;
}

static uint64_t heap_pop(Heap *heap) {
    uint64_t least = heap->items[0], last = heap->items[--heap->count];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < heap->count; at = child) {
        if (child + 1 < heap->count && heap->items[child + 1] < heap->items[child]) child++;
        if (heap->items[child] >= last) break;
        heap->items[at] = heap->items[child];
    }
    heap->items[at] = last;
    return least;
}

/* What joins the symbol at `at` with the next one, or NULL. */
static const Merge *merge_at(const Merges *merges, const Piece *piece, int32_t at) {
    int32_t next = piece->links[at].next;
    if (next < 0 || piece->ids[at] < 0 || piece->ids[next] < 0) return NULL;
    return merges_find(merges, piece->ids[at], piece->ids[next]);
}

static void propose(const Merges *merges, const Piece *piece, Heap *heap, int32_t at) {
    const Merge *merge = at >= 0 ? merge_at(merges, piece, at) : NULL;
    if (merge) heap_push(heap, (uint64_t)merge->rank << 32 | (uint32_t)at);
}

static void join(const Merges *merges, const Piece *piece, Heap *heap) {
    Links *links = piece->links;
    while (heap->count) {
        uint64_t item = heap_pop(heap);
        int32_t at = (int32_t)(uint32_t)item, next = links[at].next;
        const Merge *merge = merge_at(merges, piece, at);
        if (!merge || merge->rank != (uint32_t)(item >> 32)) continue; /* the pair has changed */
        piece->ids[at] = merge->result;
        piece->ids[next] = GONE;
        links[at].next = links[next].next;
        if (links[at].next >= 0) links[links[at].next].previous = at;
        propose(merges, piece, heap, at);
        propose(merges, piece, heap, links[at].previous);
    }
}

/* The memory: a heap with room for the first candidates and two for every join, then links, then
 * symbols. */
int32_t *bpe_symbols(BpeScratch *scratch, size_t count) {
    CHECK(count >= 1 && count <= BPE_PIECE_MAX, "a piece of %zu symbols", count);
    size_t needed = count * (3 * sizeof(uint64_t) + sizeof(Links) + sizeof(int32_t));
    if (needed > scratch->size) {
        free(scratch->memory);
        scratch->size = 2 * needed;
        scratch->memory = malloc(scratch->size);
        CHECK(scratch->memory, "out of memory: %zu bytes", scratch->size);
    }
    scratch->symbols = count;
    Links *links = (Links *)(void *)((uint64_t *)scratch->memory + 3 * count);
    return (int32_t *)(void *)(links + count);
}

void bpe_join(const Merges *merges, BpeScratch *scratch, TokenIds *out) {
    size_t count = scratch->symbols;
    Heap heap = {.items = scratch->memory};
    Piece piece = {.links = (Links *)(void *)(heap.items + 3 * count)};
    piece.ids = (int32_t *)(void *)(piece.links + count);
    int32_t n = (int32_t)count;
    for (int32_t i = 0; i < n; i++) piece.links[i] = (Links){i - 1, i + 1 < n ? i + 1 : -1};
    for (int32_t i = 0; i + 1 < n; i++) propose(merges, &piece, &heap, i);
    join(merges, &piece, &heap);
    for (int32_t i = 0; i >= 0; i = piece.links[i].next) token_ids_push(out, piece.ids[i]);
}

void bpe_encode(const Merges *merges, const int32_t byte_ids[256], const char *piece, size_t size,
                BpeScratch *scratch, TokenIds *out) {
    if (size == 1) {
        token_ids_push(out, byte_ids[(uint8_t)piece[0]]);
        return;
    }
    int32_t *symbols = bpe_symbols(scratch, size);
    for (size_t i = 0; i < size; i++) symbols[i] = byte_ids[(uint8_t)piece[i]];
    bpe_join(merges, scratch, out);
}
