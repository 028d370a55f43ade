/* What the files of the emulation share. */
#ifndef CADVLM_CUDA_EMU_INSIDE_H
#define CADVLM_CUDA_EMU_INSIDE_H

#include <stddef.h>
#include <stdint.h>

namespace emu {

/* A small random number generator (xorshift64*): all chance here comes from one seed. */
struct Chance {
    uint64_t state;
    uint64_t next() {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return state * 0x2545F4914F6CDD1Du;
    }
    unsigned below(unsigned n) { return static_cast<unsigned>((next() >> 33) % n); }
};

extern uint64_t schedule_seed;
extern Chance chance;

/* ---- memory (memory.cpp, or race.cpp in the race build) ---- */

/* Exactly `bytes`, aligned to 256, filled with 0xFF (NaN in every format). `what` names it. */
void *memory_take(size_t bytes, const char *what);
void memory_give(void *at);

/* Bytes written by copies of the runtime rather than by kernels. */
void memory_written(const void *at, size_t bytes);
void memory_read(const void *at, size_t bytes);

/* ---- the running thread, as the race checker sees it ---- */

struct Running {
    uint64_t launch;     /* number of the launch; 0: no kernel is running */
    uint32_t block;      /* number of the block */
    uint16_t thread;     /* in the block */
    uint32_t barriers;   /* passed by the block so far */
    uint32_t warp_order; /* __syncwarp of the whole warp so far */
    bool acquired;       /* GRID_ACQUIRE: other blocks are over */
    const char *kernel;
};
extern Running running;

/* ---- the parts of a launch that differ between builds ---- */

void race_block_begins();
void race_shared_taken(const void *at, size_t bytes, const char *name);
void race_shared_given(const void *at);
void race_uninitialise(const void *at, size_t bytes);

} // namespace emu

#endif
