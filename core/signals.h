/* Signals that ask a run to save and stop: USR1 and USR2 (which mpirun passes on to its ranks),
 * TERM, INT, XCPU (the soft limit of processor time) and, unless it is ignored, HUP. */
#ifndef CADVLM_CORE_SIGNALS_H
#define CADVLM_CORE_SIGNALS_H

#include <stdbool.h>

void signals_catch(void);
void signals_release(void);

/* Whether one has come; every long loop asks. */
bool signals_pending(void);

#endif
