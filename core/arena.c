/* A bump allocator; see the header. */
#include "core/arena.h"

#include "core/err.h"

void arena_open(Arena *arena, const char *name, void *base, size_t size) {
    *arena = (Arena){.base = base, .size = size, .name = name};
}

void *arena_take(Arena *arena, size_t bytes) {
    size_t rounded = (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    CHECK(rounded >= bytes, "%s: %zu bytes asked", arena->name, bytes);
    size_t at = arena->used;
    arena->used += rounded;
    if (arena->used > arena->peak) arena->peak = arena->used;
    if (!arena->base) return NULL;
    CHECK(arena->used <= arena->size, "arena %s: %zu bytes asked with %zu of %zu used", arena->name,
          bytes, at, arena->size);
    return arena->base + at;
}

size_t arena_mark(const Arena *arena) {
    return arena->used;
}

void arena_release(Arena *arena, size_t mark) {
    CHECK(mark <= arena->used, "arena %s: released to %zu with %zu used", arena->name, mark,
          arena->used);
    arena->used = mark;
}
