/* One block of memory handed out from the front, given back all at once.
 *
 * An arena without memory only counts: the same code that lays out a model then says how much it
 * will need (the dry pass), and the block is allocated once. The arena never owns its block. */
#ifndef CADVLM_CORE_ARENA_H
#define CADVLM_CORE_ARENA_H

#include <stddef.h>

enum { ARENA_ALIGN = 64 };

typedef struct Arena {
    char *base;  /* NULL: only counts */
    size_t size; /* bytes at base */
    size_t used;
    size_t peak; /* the largest `used` ever */
    const char *name;
} Arena;

void arena_open(Arena *arena, const char *name, void *base, size_t size);

/* `bytes` aligned to ARENA_ALIGN, contents unspecified; NULL from an arena that only counts.
 * Running over the end is a broken invariant: the dry pass was wrong. */
void *arena_take(Arena *arena, size_t bytes);

/* A place to come back to: arena_release gives back all that was taken since. */
size_t arena_mark(const Arena *arena);
void arena_release(Arena *arena, size_t mark);

#endif
