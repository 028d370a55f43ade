/* What a program that may use GPUs calls. */
#ifndef CADVLM_CUDA_BACKEND_CUDA_H
#define CADVLM_CUDA_BACKEND_CUDA_H

/* Registers the CUDA backend (ops/backend.h): the kernels for GPUs, the same kernels emulated on
 * the host, or a reason why there are none; CMake chooses one of the three (CADVLM_CUDA_KIND). */
void cuda_backend_register(void);

#endif
