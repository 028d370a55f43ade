/* Instructions of whole warps: what each lane gets of what all of them hand over. */
#include "cuda/emu/ptx.h"

namespace ptx {

void ldmatrix_work(void **lanes, unsigned) {
    const LdmatrixArgument *first = static_cast<LdmatrixArgument *>(lanes[0]);
    for (int i = 0; i < 8 * first->matrices; i++) {
        const void *row = static_cast<LdmatrixArgument *>(lanes[i])->row;
        if (reinterpret_cast<uintptr_t>(row) % 16)
            emu::report("ldmatrix: the row of lane %d is not aligned to 16", i);
    }
    for (int lane = 0; lane < 32; lane++) {
        LdmatrixArgument *a = static_cast<LdmatrixArgument *>(lanes[lane]);
        for (int i = 0; i < first->matrices; i++) {
            uint32_t bits = 0;
            for (int k = 0; k < 2; k++) {
                int row = a->trans ? 2 * (lane % 4) + k : lane / 4,
                    col = a->trans ? lane / 4 : 2 * (lane % 4) + k;
                const char *at = static_cast<const char *>(
                                     static_cast<LdmatrixArgument *>(lanes[8 * i + row])->row) +
                                 2 * col;
                emu::note_read(at, 2);
                uint16_t element;
                memcpy(&element, at, 2);
                bits |= static_cast<uint32_t>(element) << (16 * k);
            }
            a->result[i] = bits;
        }
    }
}

/* One of the two elements of a register; Raw is NVIDIA's struct of the bits of T. */
template <typename T, typename Raw> static float half_of(uint32_t bits, int which) {
    Raw raw = {static_cast<uint16_t>(bits >> (16 * which))};
    return static_cast<float>(T(raw));
}

/* A and B are put together from the lanes' registers, multiplied, and the sums dealt out. */
template <typename T, typename Raw> static void mma_work(void **lanes) {
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const MmaArgument *x = static_cast<MmaArgument *>(lanes[lane]);
        int g = lane / 4, t = lane % 4;
        for (int k = 0; k < 2; k++) {
            for (int i = 0; i < 4; i++)
                a[g + 8 * (i % 2)][2 * t + k + 8 * (i / 2)] = half_of<T, Raw>(x->a[i], k);
            for (int i = 0; i < 2; i++) b[2 * t + k + 8 * i][g] = half_of<T, Raw>(x->b[i], k);
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        MmaArgument *x = static_cast<MmaArgument *>(lanes[lane]);
        int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++) {
            int row = g + 8 * (i / 2), col = 2 * t + i % 2;
            float sum = x->d[i];
            for (int k = 0; k < 16; k++) sum += a[row][k] * b[k][col];
            x->d[i] = sum;
        }
    }
}

void mma_work_bf16(void **lanes, unsigned) {
    mma_work<__nv_bfloat16, __nv_bfloat16_raw>(lanes);
}

void mma_work_f16(void **lanes, unsigned) {
    mma_work<__half, __half_raw>(lanes);
}

} // namespace ptx
