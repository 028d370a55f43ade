/* Stands where a build has no CUDA backend. */
#include "ops/backend.h"

const Backend *backend_cuda(int *count, const char **why) {
    *count = 0;
    *why = "this build has no CUDA backend (build with the preset release, where nvcc is found)";
    return NULL;
}
