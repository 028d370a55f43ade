/* Device and shared memory of the plain and the AddressSanitizer build: blocks of the exact size.
 */
#include <stdlib.h>
#include <string.h>

#include "cuda/emu/control.h"
#include "cuda/emu/emu.h"
#include "cuda/emu/inside.h"

namespace emu {

void *memory_take(size_t bytes, const char *) {
    void *memory = NULL;
    if (posix_memalign(&memory, 256, bytes ? bytes : 1) != 0) return NULL;
    memset(memory, 0xFF, bytes);
    return memory;
}

void memory_give(void *at) {
    free(at);
}

void memory_written(const void *, size_t) {}

void memory_read(const void *, size_t) {}

void note_read(const void *, size_t) {}

void note_write(const void *, size_t, bool) {}

void grid_acquire() {}

void race_block_begins() {}

void race_shared_taken(const void *, size_t, const char *) {}

void race_shared_given(const void *) {}

void race_uninitialise(const void *, size_t) {}

} // namespace emu

extern "C" int emu_is_race_build(void) {
    return 0;
}
