/* Stands where a build has no NCCL. */
#include "comm/device.h"
#include "core/log.h"

const char *comm_device_version(void) {
    return "none";
}

Err comm_device_open(CommDevice **device, Comm *comm, void *compute_stream) {
    (void)compute_stream;
    *device = NULL;
    if (comm_rank(comm) == 0)
        log_warn("this build has no NCCL: gradients of %d GPUs go through the host",
                 comm_size(comm));
    return OK;
}

/* Nothing is ever open. */

void comm_device_close(CommDevice **device) {
    *device = NULL;
}

Err comm_device_sum(CommDevice *device, float *data, int64_t count) {
    CHECK(device, "%lld floats at %p", (long long)count, (void *)data);
    return OK;
}

Err comm_device_join(CommDevice *device) {
    CHECK(device, "no NCCL");
    return OK;
}

Err comm_device_wait(CommDevice *device) {
    CHECK(device, "no NCCL");
    return OK;
}
