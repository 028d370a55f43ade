/* A set of names with a number each: open addressing, at most half full. */
#include "cad/language/names.h"

#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/hash.h"

enum { SLOTS_MIN = 256 };

const char *names_text(const Names *names, int name) {
    return names->text.data + names->offsets[name];
}

/* The slot that holds this name, or the free one where it belongs. */
static int *slot_of(const Names *names, const char *name, size_t length) {
    size_t mask = (size_t)names->slot_count - 1;
    for (size_t i = hash_bytes(name, length) & mask;; i = (i + 1) & mask) {
        int *slot = &names->slots[i];
        if (*slot < 0) return slot;
        const char *known = names_text(names, *slot);
        if (strlen(known) == length && memcmp(known, name, length) == 0) return slot;
    }
}

static void double_slots(Names *names) {
    names->slot_count = names->slot_count ? 2 * names->slot_count : SLOTS_MIN;
    free(names->slots);
    names->slots = malloc((size_t)names->slot_count * sizeof(int));
    CHECK(names->slots, "out of memory: %d names", names->slot_count);
    for (int i = 0; i < names->slot_count; i++) names->slots[i] = -1;
    for (int n = 0; n < names->count; n++) {
        const char *name = names_text(names, n);
        *slot_of(names, name, strlen(name)) = n;
    }
}

int names_find(Names *names, const char *name, size_t length) {
    if (2 * names->count >= names->slot_count) double_slots(names);
    int *slot = slot_of(names, name, length);
    if (*slot >= 0) return *slot;
    if (names->count == names->capacity) {
        names->capacity = names->capacity ? 2 * names->capacity : SLOTS_MIN;
        names->offsets = realloc(names->offsets, (size_t)names->capacity * sizeof(int));
        CHECK(names->offsets, "out of memory: %d names", names->capacity);
    }
    names->offsets[names->count] = (int)names->text.size;
    buf_append(&names->text, name, length);
    buf_append(&names->text, "", 1);
    return *slot = names->count++;
}

void names_free(Names *names) {
    buf_free(&names->text);
    free(names->offsets);
    free(names->slots);
    *names = (Names){0};
}
