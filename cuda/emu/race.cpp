/* The race build: every access of a kernel to global and shared memory is checked.
 *
 * The compiler calls __tsan_read4, __tsan_write16, … before each access of the instrumented kernel
 * files (-fsanitize=thread); libtsan is not linked, the functions are here. Device and shared
 * memory come from one reserved range of addresses that is never used twice, with a cell of shadow
 * for every two bytes: whether they are allocated and written, who wrote them last, who has read
 * them since.
 *
 * Two accesses of different threads, one of them a write and not both atomic, race unless they are
 * ordered: by a barrier of the block between them, or by a __syncwarp between lanes of one warp.
 * Nothing orders blocks but the end of the launch (or GRID_ACQUIRE, after an atomic ticket). This
 * does not depend on the schedule, nor on whether values differ. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <string>

#include "cuda/emu/control.h"
#include "cuda/emu/emu.h"
#include "cuda/emu/inside.h"

namespace emu {

namespace {

constexpr size_t RANGE = static_cast<size_t>(16) << 30, GRAIN = 2, ALIGN = 256, GAP = 256;
constexpr int READERS = 2;

struct Access {
    uint32_t launch, block;
    uint32_t barriers, warp_order;
    uint16_t thread;
    bool atomic, after_acquire;
    const void *code;
};

struct Cell {
    Access writer, readers[READERS];
    bool written; /* holds a value */
};

struct Block {
    size_t bytes;
    std::string name;
    bool shared;
};

struct Shadow {
    char *base = NULL, *next = NULL;
    Cell *cells = NULL;
    std::map<uintptr_t, Block> blocks;
    /* The block that the last access fell into. */
    uintptr_t hot_begin = 1, hot_end = 0;
    Shadow() {
        base = static_cast<char *>(reserve(RANGE));
        cells = static_cast<Cell *>(reserve(RANGE / GRAIN * sizeof(Cell)));
        next = base;
    }
    static void *reserve(size_t bytes) {
        void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) {
            fprintf(stderr, "emulation: no addresses for the race checker\n");
            abort();
        }
        return memory;
    }
};

Shadow &shadow() {
    static Shadow &s = *new Shadow();
    return s;
}

bool inside(const void *at) {
    const char *p = static_cast<const char *>(at);
    return p >= shadow().base && p < shadow().base + RANGE;
}

Cell *cell_of(const void *at) {
    return &shadow()
                .cells[static_cast<size_t>(static_cast<const char *>(at) - shadow().base) / GRAIN];
}

/* "file:line" of an instruction. */
std::string place_of(const void *code) {
    Dl_info info;
    if (!code || !dladdr(code, &info) || !info.dli_fname) return "(unknown place)";
    uintptr_t base = reinterpret_cast<uintptr_t>(info.dli_fbase);
    char command[600], line[400] = "";
    snprintf(command, sizeof command, "addr2line -e '%s' 0x%lx 2>/dev/null", info.dli_fname,
             static_cast<unsigned long>(reinterpret_cast<uintptr_t>(code) - base - 1));
    FILE *pipe = popen(command, "r");
    if (!pipe) return "(unknown place)";
    if (!fgets(line, sizeof line, pipe)) line[0] = 0;
    pclose(pipe);
    line[strcspn(line, "\n")] = 0;
    return line;
}

std::string name_of(const void *at) {
    uintptr_t p = reinterpret_cast<uintptr_t>(at);
    auto it = shadow().blocks.upper_bound(p);
    if (it == shadow().blocks.begin()) return "nothing";
    --it;
    char text[200];
    snprintf(text, sizeof text, "%s '%s' of %zu bytes, offset %zu",
             it->second.shared ? "shared array" : "memory", it->second.name.c_str(),
             it->second.bytes, static_cast<size_t>(p - it->first));
    return text;
}

Access now(const void *code, bool atomic) {
    return {static_cast<uint32_t>(running.launch),
            running.block,
            running.barriers,
            running.warp_order,
            running.thread,
            atomic,
            running.acquired,
            code};
}

bool ordered(const Access &before, const Access &after) {
    if (before.launch != after.launch) return true;
    if (before.block != after.block) return after.after_acquire;
    if (before.thread == after.thread) return true;
    if (before.barriers < after.barriers) return true;
    return before.thread / 32 == after.thread / 32 && before.warp_order < after.warp_order;
}

[[noreturn]] void report_race(const void *at, const Access &before, const char *did,
                              const Access &after, const char *does) {
    report("race in %s\n  %s here: %s\n  %s before by thread %u of block %u: %s\n  %s",
           name_of(at).c_str(), does, place_of(after.code).c_str(), did, before.thread,
           before.block, place_of(before.code).c_str(),
           before.block != after.block ? "nothing orders blocks"
                                       : "no barrier stands between them");
}

void check_allocated(const void *at, size_t bytes, const char *does, const void *code) {
    Shadow &s = shadow();
    uintptr_t p = reinterpret_cast<uintptr_t>(at);
    if (p >= s.hot_begin && p + bytes <= s.hot_end) return;
    auto it = s.blocks.upper_bound(p);
    if (it != s.blocks.begin()) {
        --it;
        if (p + bytes <= it->first + it->second.bytes) {
            s.hot_begin = it->first;
            s.hot_end = it->first + it->second.bytes;
            return;
        }
    }
    report("%s of %zu bytes outside of %s\n  here: %s", does, bytes, name_of(at).c_str(),
           place_of(code).c_str());
}

void on_read(const void *at, size_t bytes, const void *code) {
    if (!running.launch || !inside(at)) return;
    check_allocated(at, bytes, "read", code);
    Access access = now(code, false);
    Cell *cell = cell_of(at);
    for (size_t i = 0; i < (bytes + GRAIN - 1) / GRAIN; i++, cell++) {
        if (!cell->written)
            report("uninitialised %s is read\n  here: %s",
                   name_of(static_cast<const char *>(at) + GRAIN * i).c_str(),
                   place_of(code).c_str());
        if (!ordered(cell->writer, access))
            report_race(at, cell->writer, "written", access, "read");
        /* Two readers are remembered: the first who is not ordered before this one stays. */
        int slot =
            cell->readers[0].launch != access.launch || ordered(cell->readers[0], access) ? 0 : 1;
        cell->readers[slot] = access;
    }
}

void on_write(const void *at, size_t bytes, const void *code, bool atomic) {
    if (!running.launch || !inside(at)) return;
    check_allocated(at, bytes, "write", code);
    Access access = now(code, atomic);
    Cell *cell = cell_of(at);
    for (size_t i = 0; i < (bytes + GRAIN - 1) / GRAIN; i++, cell++) {
        if (!ordered(cell->writer, access) && !(atomic && cell->writer.atomic))
            report_race(at, cell->writer, "written", access, "written");
        for (const Access &reader : cell->readers)
            if (!ordered(reader, access)) report_race(at, reader, "read", access, "written");
        cell->writer = access;
        cell->written = true;
    }
}

void set_written(const void *at, size_t bytes, bool written) {
    if (!inside(at)) return;
    Cell *cell = cell_of(at);
    for (size_t i = 0; i < (bytes + GRAIN - 1) / GRAIN; i++, cell++) {
        cell->written = written;
        if (!written || running.launch) continue;
        cell->writer = Access();
        for (Access &reader : cell->readers) reader = Access();
    }
}

} // namespace

/* ---- memory ---- */

void *memory_take(size_t bytes, const char *what) {
    Shadow &s = shadow();
    size_t room = (bytes + GAP + ALIGN - 1) / ALIGN * ALIGN;
    if (s.next + room > s.base + RANGE) return NULL;
    char *at = s.next;
    s.next += room;
    memset(at, 0xFF, bytes);
    s.blocks[reinterpret_cast<uintptr_t>(at)] = {bytes, what, false};
    return at;
}

void memory_give(void *at) {
    Shadow &s = shadow();
    auto it = s.blocks.find(reinterpret_cast<uintptr_t>(at));
    if (it == s.blocks.end()) return;
    size_t bytes = it->second.bytes, page = static_cast<size_t>(getpagesize());
    s.blocks.erase(it);
    s.hot_begin = 1;
    s.hot_end = 0;
    /* Whole pages go back to the system; the addresses are not used again. */
    uintptr_t begin = (reinterpret_cast<uintptr_t>(at) + page - 1) / page * page,
              end = (reinterpret_cast<uintptr_t>(at) + bytes) / page * page;
    if (begin < end) {
        madvise(reinterpret_cast<void *>(begin), end - begin, MADV_DONTNEED);
        uintptr_t cells = (reinterpret_cast<uintptr_t>(cell_of(reinterpret_cast<void *>(begin))) +
                           page - 1) /
                          page * page,
                  cells_end = reinterpret_cast<uintptr_t>(cell_of(reinterpret_cast<void *>(end))) /
                              page * page;
        if (cells < cells_end)
            madvise(reinterpret_cast<void *>(cells), cells_end - cells, MADV_DONTNEED);
    }
}

void memory_written(const void *at, size_t bytes) {
    set_written(at, bytes, true);
}

void memory_read(const void *at, size_t bytes) {
    if (!inside(at)) return;
    const Cell *cell = cell_of(at);
    for (size_t i = 0; i < (bytes + GRAIN - 1) / GRAIN; i++, cell++)
        if (!cell->written)
            report("uninitialised %s is read by a copy or a product",
                   name_of(static_cast<const char *>(at) + GRAIN * i).c_str());
}

void note_read(const void *at, size_t bytes) {
    on_read(at, bytes, __builtin_return_address(0));
}

void note_write(const void *at, size_t bytes, bool atomic) {
    on_write(at, bytes, __builtin_return_address(0), atomic);
}

void grid_acquire() {
    running.acquired = true;
}

void race_block_begins() {}

void race_shared_taken(const void *at, size_t, const char *name) {
    Block &block = shadow().blocks[reinterpret_cast<uintptr_t>(at)];
    block.name = name;
    block.shared = true;
}

void race_shared_given(const void *) {}

void race_uninitialise(const void *at, size_t bytes) {
    if (!inside(at)) return;
    Cell *cell = cell_of(at);
    for (size_t i = 0; i < bytes / GRAIN; i++, cell++) cell->written = false;
}

} // namespace emu

extern "C" {

int emu_is_race_build(void) {
    return 1;
}

#define EMU_ACCESS(bytes)                                                                          \
    void __tsan_read##bytes(void *at) {                                                            \
        emu::on_read(at, bytes, __builtin_return_address(0));                                      \
    }                                                                                              \
    void __tsan_write##bytes(void *at) {                                                           \
        emu::on_write(at, bytes, __builtin_return_address(0), false);                              \
    }                                                                                              \
    void __tsan_unaligned_read##bytes(void *at) {                                                  \
        emu::on_read(at, bytes, __builtin_return_address(0));                                      \
    }                                                                                              \
    void __tsan_unaligned_write##bytes(void *at) {                                                 \
        emu::on_write(at, bytes, __builtin_return_address(0), false);                              \
    }
EMU_ACCESS(1)
EMU_ACCESS(2)
EMU_ACCESS(4)
EMU_ACCESS(8)
EMU_ACCESS(16)

void __tsan_read_range(void *at, unsigned long bytes) {
    emu::on_read(at, bytes, __builtin_return_address(0));
}

void __tsan_write_range(void *at, unsigned long bytes) {
    emu::on_write(at, bytes, __builtin_return_address(0), false);
}

void __tsan_init(void) {}

void __tsan_func_entry(void *) {}

void __tsan_func_exit(void) {}

void __tsan_vptr_update(void **, void *) {}

void __tsan_vptr_read(void **) {}
}
