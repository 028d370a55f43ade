/* Kernels that test the emulation itself; launched on the default stream. Pointers: device memory.
 */
#ifndef CADVLM_TESTS_CUDA_EMU_KERNELS_H
#define CADVLM_TESTS_CUDA_EMU_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One mma of 32 lanes: a[32·4] and b[32·2] registers; d[32·4], the sums started at 1, 2, 3, 4. */
void emu_mma(float *d, const uint32_t *a, const uint32_t *b, int is_f16);

/* out[32·6]: four registers of ldmatrix.x4 and two of .x2 over tile[16·16], whose rows lanes 0 … 15
 * give from column 0 and lanes 16 … 31 from column 8. */
void emu_ldmatrix(uint32_t *out, const uint16_t *tile, int trans);

void emu_warp(int *out); /* [32·5] */

typedef enum EmuFault {
    FAULT_NO_BARRIER,
    FAULT_REUSE,
    FAULT_NO_SYNCWARP,
    FAULT_BLOCKS_ADD,
    FAULT_SOME_AT_BARRIER,
    FAULT_TWO_BARRIERS,
    FAULT_HALF_WARP,
    FAULT_SHUFFLE_OUTSIDE,
    FAULT_COPY_NOT_WAITED,
    FAULT_COPY_EARLY,
    FAULT_BEYOND_SHARED,
    FAULT_BEYOND_GLOBAL,
    FAULT_MISALIGNED,
    FAULT_NOT_WRITTEN,
    FAULT_NO_ACQUIRE,
    FAULT_NO_DYNAMIC,
    FAULT_COUNT
} EmuFault;

void emu_fault(EmuFault fault, float *out); /* [64] floats */
void emu_sound(int which, float *out);      /* which 0 … 2: kernels without a fault */

#ifdef __cplusplus
}
#endif

#endif
