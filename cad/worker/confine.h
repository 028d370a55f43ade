/* What a worker gives up before it sees a part: it reads and writes its two pipes, and computes. A
 * kernel of geometry that a hostile file has taken over should find nothing else to do. */
#ifndef CADVLM_CAD_WORKER_CONFINE_H
#define CADVLM_CAD_WORKER_CONFINE_H

#include <stdbool.h>

enum {
    CONFINED_CALLS =
        1, /* a filter of system calls (seccomp): no files, sockets, programs, processes */
    CONFINED_FILES = 2 /* Landlock: no files, and from newer kernels on no connections or signals */
};

/* Closes all but the three standard streams, for good. */
void confine_descriptors(void);

/* For the whole life of the process. Returns what holds, as bits; old kernels and some containers
 * refuse one or the other. `may_fork`: it may have children of its own kind (exact hidden lines).
 */
int confine(bool may_fork);

#endif
