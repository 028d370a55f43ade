/* The instructions of cuda/kernel.cuh's ptx:: for the host: what the PTX ISA says each lane gets.
 */
#ifndef CADVLM_CUDA_EMU_PTX_H
#define CADVLM_CUDA_EMU_PTX_H

#include "cuda/emu/emu.h"

namespace ptx {

static inline void cp_async16(void *shared, const void *global, int source_bytes = 16) {
    emu::copy_begin(shared, global, source_bytes);
}

static inline void cp_async_commit() {
    emu::copy_commit();
}

template <int pending> static inline void cp_async_wait() {
    emu::copy_wait(pending);
}

struct LdmatrixArgument {
    const void *row;
    uint32_t result[4];
    int matrices;
    bool trans;
};

void ldmatrix_work(void **lanes, unsigned mask);

static inline void ldmatrix(uint32_t *r, const void *row, int matrices, bool trans,
                            const char *name, const char *file, int line) {
    LdmatrixArgument a = {row, {0, 0, 0, 0}, matrices, trans};
    emu::warp_collective(0xFFFFFFFFu, name, &a, ldmatrix_work, file, line);
    for (int i = 0; i < matrices; i++) r[i] = a.result[i];
}

static inline void ldmatrix_x4(uint32_t (&r)[4], const void *row,
                               const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
    ldmatrix(r, row, 4, false, "ldmatrix.x4", file, line);
}

static inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void *row,
                                     const char *file = __builtin_FILE(),
                                     int line = __builtin_LINE()) {
    ldmatrix(r, row, 4, true, "ldmatrix.x4.trans", file, line);
}

static inline void ldmatrix_x2(uint32_t (&r)[2], const void *row,
                               const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
    ldmatrix(r, row, 2, false, "ldmatrix.x2", file, line);
}

static inline void ldmatrix_x2_trans(uint32_t (&r)[2], const void *row,
                                     const char *file = __builtin_FILE(),
                                     int line = __builtin_LINE()) {
    ldmatrix(r, row, 2, true, "ldmatrix.x2.trans", file, line);
}

struct MmaArgument {
    float *d;
    const uint32_t *a, *b;
};

void mma_work_bf16(void **lanes, unsigned mask);
void mma_work_f16(void **lanes, unsigned mask);

static inline void mma_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                             __nv_bfloat16, const char *file = __builtin_FILE(),
                             int line = __builtin_LINE()) {
    MmaArgument argument = {d, a, b};
    emu::warp_collective(0xFFFFFFFFu, "mma.m16n8k16", &argument, mma_work_bf16, file, line);
}

static inline void mma_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], __half,
                             const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
    MmaArgument argument = {d, a, b};
    emu::warp_collective(0xFFFFFFFFu, "mma.m16n8k16", &argument, mma_work_f16, file, line);
}

/* Results below the smallest normal number become zero, as with .ftz. */
static inline float exp2_fast(float x) {
    float y = exp2f(x);
    return y < 1.17549435e-38f ? 0.0f : y;
}

static inline uint4 load_once(const void *p) {
    return *static_cast<const uint4 *>(p);
}

static inline void store_once(void *p, uint4 x) {
    *static_cast<uint4 *>(p) = x;
}

static inline void forget(uint4 &) {}

static inline void forget(int &) {}

} // namespace ptx

#endif
