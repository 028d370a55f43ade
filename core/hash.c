/* The one place that names xxHash. */
#include "core/hash.h"

#include <xxhash.h>

#include "core/err.h"

uint64_t hash_bytes(const void *bytes, size_t size) {
    return XXH3_64bits(bytes, size);
}

HashStream *hash_open(void) {
    XXH3_state_t *state = XXH3_createState();
    CHECK(state && XXH3_64bits_reset(state) == XXH_OK, "out of memory: a hash state");
    return (HashStream *)state;
}

void hash_add(HashStream *stream, const void *bytes, size_t size) {
    if (size) XXH3_64bits_update((XXH3_state_t *)stream, bytes, size);
}

uint64_t hash_value(const HashStream *stream) {
    return XXH3_64bits_digest((const XXH3_state_t *)stream);
}

void hash_close(HashStream **stream) {
    if (*stream) XXH3_freeState((XXH3_state_t *)*stream);
    *stream = NULL;
}
