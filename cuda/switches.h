/* What the environment asks of the CUDA backend, to isolate a fault on a new GPU one piece at a
 * time (benchmarks/first_gpu.md). All but tuning are slow, and right. */
#ifndef CADVLM_CUDA_SWITCHES_H
#define CADVLM_CUDA_SWITCHES_H

#include <stdbool.h>

#include "core/err.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CudaSwitches {
    bool sync;            /* CADVLM_CUDA_SYNC=1: the device is waited for after every operation */
    bool tune;            /* CADVLM_CUDA_TUNE=1: cuBLASLt's candidates are timed (matmul.h) */
    bool unfused;         /* CADVLM_CUDA_PRODUCTS=unfused: epilogues by kernels of our own */
    bool plain_products;  /* CADVLM_CUDA_PRODUCTS=plain: without cuBLASLt, by a plain kernel */
    bool plain_attention; /* CADVLM_CUDA_ATTENTION=plain: without tensor cores */
} CudaSwitches;

/* Reads them anew; ERR_CONFIG where a value is none of these. Whoever opens a device does. */
Err cuda_switches_read(void);

const CudaSwitches *cuda_switches(void);

/* ", plain attention": what is on, for the description of a device; "" as a rule. */
const char *cuda_switches_text(void);

#ifdef __cplusplus
}
#endif

#endif
