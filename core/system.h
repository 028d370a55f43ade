/* What the system tells of itself in the files of /proc and /sys. */
#ifndef CADVLM_CORE_SYSTEM_H
#define CADVLM_CORE_SYSTEM_H

#include <stdbool.h>

#include "core/buf.h"

enum { BOOT_ID_SIZE = 40 };

/* A whole file of /proc or /sys: those say that they have no bytes, so file_read does not do. False
 * where it cannot be read; `out` is cleared first. */
bool system_read(Buf *out, const char *path);

/* Of this start of this machine, the same in all its containers; "": unknown. */
void system_boot_id(char out[BOOT_ID_SIZE]);

#endif
