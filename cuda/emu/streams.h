/* The queue of a stream: for the stand-ins of the CUDA runtime, cuBLASLt and NCCL. */
#ifndef CADVLM_CUDA_EMU_STREAMS_H
#define CADVLM_CUDA_EMU_STREAMS_H

#include <cuda_runtime.h>

#include <functional>

namespace emu {

/* Work for the stream, done when something waits for it or for what comes behind it. */
void enqueue(cudaStream_t stream, std::function<void()> work);

/* The same once `ready` says so, which is asked when the work comes to the front of its stream. */
void enqueue_when(cudaStream_t stream, std::function<bool()> ready, std::function<void()> work);

/* Whether kernels and products are only counted; whether a kernel has broken the device. */
bool is_idle();
bool is_broken();

/* Whether memory was allocated by cudaMalloc (else it is the host's). */
bool is_device_memory(const void *at);

/* The end of the block of device memory that holds `at` is at least `bytes` away; otherwise the
 * process ends, naming `who`. Host memory is not checked. */
void check_device_range(const void *at, size_t bytes, const char *who);

} // namespace emu

#endif
