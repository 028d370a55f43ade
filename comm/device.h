/* Sums over the GPUs of all ranks (NCCL), beside the work of the compute stream.
 *
 * A sum waits on the device for what the compute stream has been given so far and then runs on a
 * stream of its own; comm_device_join makes the compute stream wait for the sums in turn. The host
 * waits for none of it. All ranks must ask for the same sums in the same order, and every rank gets
 * the same bits; but which bits depends on the number of ranks and the way they are wired.
 *
 * What fails afterwards, on the wire or because another rank died, is found by comm_device_wait. An
 * error ends the communicator: its sums are given up, so that nothing waits for them any more. */
#ifndef CADVLM_COMM_DEVICE_H
#define CADVLM_COMM_DEVICE_H

#include <stdint.h>

#include "comm/comm.h"

typedef struct CommDevice CommDevice;

/* "NCCL 2.28.9", or "none". */
const char *comm_device_version(void);

/* Collective. For the GPU that this thread uses and `compute_stream` (a cudaStream_t) on it. NULL
 * in *device, with OK and a line in the log, where sums must go through the host: two ranks share a
 * GPU, which NCCL does not allow, or the build has no NCCL. */
Err comm_device_open(CommDevice **device, Comm *comm, void *compute_stream);

/* Leaves in good order if nothing is under way; what is left of a broken-off step is given up. */
void comm_device_close(CommDevice **device);

/* data[count] becomes its sum over all ranks, in place, once the compute stream has come to where
 * it is now. It must not be touched until comm_device_join. */
Err comm_device_sum(CommDevice *device, float *data, int64_t count);

/* What the compute stream is given from now on comes after all sums asked for. */
Err comm_device_join(CommDevice *device);

/* The host waits for all sums asked for, and watches for errors, and for ranks that do not come,
 * while it does (comm_set_patience). */
Err comm_device_wait(CommDevice *device);

#endif
