/* Memory of the CPU backend. */
#include <stdlib.h>
#include <sys/mman.h>

#include "ops/cpu/cpu.h"

enum { LARGE_PAGE = 2 << 20 };

void *memory_new(size_t bytes) {
    bool large = bytes >= 2 * LARGE_PAGE;
    size_t align = large ? LARGE_PAGE : 64;
    void *memory = aligned_alloc(align, (bytes + align - 1) / align * align);
    if (memory && large) madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
}

void *scratch_need(Scratch *scratch, size_t bytes) {
    if (bytes <= scratch->bytes) return scratch->memory;
    size_t rounded = (bytes + bytes / 4 + 4095) / 4096 *
                     4096; /* a quarter more, so that it seldom grows again */
    free(scratch->memory);
    scratch->memory = memory_new(rounded);
    CHECK(scratch->memory, "out of memory: %zu bytes of scratch", rounded);
    scratch->bytes = rounded;
    return scratch->memory;
}
