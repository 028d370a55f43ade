/* Linked into tests that may use a GPU: they have the CUDA backend from the start. */
#include "cuda/backend_cuda.h"

__attribute__((constructor)) static void register_backend(void) {
    cuda_backend_register();
}
