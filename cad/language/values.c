/* The values of a run: what statements and builtins share. */
#include <stdlib.h>
#include <string.h>

#include "cad/language/interpret.h"
#include "core/err.h"

enum { ITEMS_MIN = 8 };

void *items_add(Items *items, size_t size) {
    if (items->count == items->capacity) {
        items->capacity = items->capacity ? 2 * items->capacity : ITEMS_MIN;
        items->items = realloc(items->items, (size_t)items->capacity * size);
        CHECK(items->items, "out of memory: %d objects of %zu bytes", items->capacity, size);
    }
    void *item = (char *)items->items + (size_t)items->count++ * size;
    memset(item, 0, size);
    return item;
}

const char *value_kind_name(ValueKind kind) {
    static const char *const names[] = {
        [VALUE_UNSET] = "nothing",      [VALUE_NONE] = "None",
        [VALUE_BOOL] = "True or False", [VALUE_NUMBER] = "a number",
        [VALUE_TEXT] = "a text",        [VALUE_LIST] = "a list",
        [VALUE_CURVE] = "a curve",      [VALUE_LOOP] = "a loop",
        [VALUE_PROFILE] = "a profile",  [VALUE_PLANE] = "a sketch plane",
        [VALUE_SKETCH] = "a sketch",    [VALUE_EXTRUDE] = "an extrude",
        [VALUE_MODULE] = "numpy"};
    return names[kind];
}
