/* Progress of long work: a bar with rate and ETA on a terminal, a plain line now and then in a log.
 */
#ifndef CADVLM_CORE_PROGRESS_H
#define CADVLM_CORE_PROGRESS_H

#include <stdint.h>

typedef struct Progress {
    const char *label, *unit; /* "drawing", "parts" */
    int64_t total, done;
    double started, shown; /* clock_seconds */
    int64_t first;         /* `done` at the start: a resumed run does not count what was there */
    int terminal;
} Progress;

/* Only one bar at a time. `first` is what was done before (a resumed run), else 0. */
void progress_open(Progress *progress, const char *label, const char *unit, int64_t first,
                   int64_t total);

/* `done` so far; `note` (may be NULL) stands behind the bar: "loss 0.31". Draws at most ten times a
 * second on a terminal and every ten seconds elsewhere. */
void progress_set(Progress *progress, int64_t done, const char *note);

/* Draws the last state and ends the line. */
void progress_close(Progress *progress, const char *note);

#endif
