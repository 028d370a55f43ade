/* Stands where a build has no CUDA backend. */
#include "cuda/backend_cuda.h"
#include "ops/backend.h"

static const Backend *find(int *count, const char **why) {
    *count = 0;
    *why = "this build has no CUDA backend (build with the preset release, where nvcc is found)";
    return NULL;
}

void cuda_backend_register(void) {
    backend_register(EXEC_CUDA, find);
}
