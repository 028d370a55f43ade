/* What the system says of itself in the files of /proc and /sys. */
#ifndef CADVLM_CORE_SYSTEM_H
#define CADVLM_CORE_SYSTEM_H

#include <stdbool.h>

#include "core/buf.h"

enum { BOOT_ID_SIZE = 40, DEVICE_FILE_SIZE = 64 };

/* A whole file of /proc or /sys: those say that they have no bytes, so file_read does not do. False
 * where it cannot be read; `out` is cleared first. */
bool system_read(Buf *out, const char *path);

/* Of this start of this machine, the same in all its containers; "": unknown. */
void system_boot_id(char out[BOOT_ID_SIZE]);

/* A device file of NVIDIA's driver: "/dev/nvidia0". False where there is none: no driver is loaded,
 * or a container was not given its GPUs. `root` stands before /dev: "". */
bool system_nvidia_file(char out[DEVICE_FILE_SIZE], const char *root);

#endif
