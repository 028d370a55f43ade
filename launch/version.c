#include "launch/version.h"

#include <stdio.h>

#include "comm/comm.h"
#include "comm/device.h"
#include "hub/http.h"
#include "ops/ops.h"

/* Name and version of each part. */
static int collect(const char *names[], char texts[][256], int most) {
    int count = 0;
    Exec *ex;
#define PART(name, ...)                                                                            \
    do {                                                                                           \
        if (count == most) return count;                                                           \
        names[count] = name;                                                                       \
        snprintf(texts[count++], 256, __VA_ARGS__);                                                \
    } while (0)
    PART("cadvlm", "%s", CADVLM_VERSION);
    PART("compiler", "%s", CADVLM_COMPILER);
    PART("MPI", "%s", comm_library_version());
    PART("HDF5", "%s", CADVLM_HDF5_VERSION);
    PART("OpenCASCADE", "%s", CADVLM_OCCT_VERSION);
    if (exec_open(&ex, EXEC_CPU, 1) == OK) {
        PART("device", "%s", exec_description(ex));
        exec_close(&ex);
    }
    PART("libcurl", "%s", http_library_version());
    PART("CUDA", "%s", CADVLM_CUDA_STATUS);
    PART("NCCL", "%s", comm_device_version());
    const char *why = NULL;
    int gpus = exec_device_count(&why);
    if (gpus > 0)
        PART("GPUs", "%d", gpus);
    else
        PART("GPUs", "none: %s", why ? why : "there is none");
#undef PART
    return count;
}

enum { PARTS_MAX = 16 };

void version_print(void) {
    const char *names[PARTS_MAX];
    char texts[PARTS_MAX][256];
    int count = collect(names, texts, PARTS_MAX);
    for (int i = 0; i < count; i++) printf("%-12s %s\n", names[i], texts[i]);
}

Json *version_json(void) {
    const char *names[PARTS_MAX];
    char texts[PARTS_MAX][256];
    int count = collect(names, texts, PARTS_MAX);
    Json *root = js_new_object();
    for (int i = 0; i < count; i++) js_set_text(root, names[i], texts[i]);
    return root;
}
