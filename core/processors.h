/* The processors that this process may use, by its affinity and its control group. */
#ifndef CADVLM_CORE_PROCESSORS_H
#define CADVLM_CORE_PROCESSORS_H

#include <stdint.h>

/* Those of its affinity; at least 1. */
int processors_allowed(void);

/* The same for processes of one machine that have the same ones. */
uint64_t processors_hash(void);

/* What the quotas of its control groups, and of all above them, leave it in processors: 1.5, say;
 * INFINITY: there is none. Versions 1 and 2. `root` stands before /proc and /sys: "". */
double processors_quota(const char *root);

/* The threads of one process where `sharing` of them have the same `allowed` processors, and
 * `grouped` the same quota, which is rounded up: a part of a processor is one for part of the time.
 */
int processors_share(int allowed, int sharing, double quota, int grouped);

#endif
