/* A lease: a file that says who is at work, for where locks do not reach (other machines on a
 * network file system, file systems without locks).
 *
 * It names host and process, and is touched again and again while the holder lives. Whoever finds
 * one asks the system, on the holder's machine; elsewhere he waits and looks whether it is touched.
 * No clocks are compared. One whose holder is gone is taken over: the new one is put in its place,
 * and of several who do so at once the last has it, which each finds out by waiting a little. A
 * holder that was only away, and comes back, finds another's there (lease_check). */
#ifndef CADVLM_CORE_LEASE_H
#define CADVLM_CORE_LEASE_H

#include <stdbool.h>

#include "core/err.h"

typedef struct Lease Lease;

/* Seconds between touches; without one after which a holder is gone; between taking one over and
 * being sure of it. */
typedef struct LeaseTimes {
    double beat, stale, settle;
} LeaseTimes;

extern const LeaseTimes lease_times; /* for use; tests have less */

/* Takes the lease at `path`. ERR_INPUT, "`busy`: process 12 on HOST, since …", where another holds
 * it. `alone`: nobody else on this machine can be its holder (a lock says so). */
Err lease_take(Lease **lease, const char *path, const char *busy, bool alone, LeaseTimes times);

/* ERR_IO when another has it now. */
Err lease_check(const Lease *lease);

/* Gives it back; the file goes if it is still ours. */
void lease_give(Lease **lease);

#endif
