/* Child processes, started by exec (never a bare fork: MPI and CUDA may be running) and spoken to
 * through pipes. */
#ifndef CADVLM_CORE_PROCESS_H
#define CADVLM_CORE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "core/err.h"

typedef struct Process {
    pid_t pid;        /* 0: none */
    int to, from;     /* its standard input and output */
    double cpu_limit; /* processor time of its life (process_cpu_seconds) after which send and
                         receive no longer wait; 0: none */
} Process;

/* Starts argv[0] (a path; no shell) with its standard input and output as pipes and standard error
 * shared, and this environment (NULL: ours). */
Err process_start(Process *process, const char *const argv[]);
Err process_start_with(Process *process, const char *const argv[], const char *const environment[]);

/* What it has used of the processors since it was started, in seconds; 0 when that is not known. */
double process_cpu_seconds(const Process *process);

/* Sends or receives exactly `size` bytes. When the peer is gone, or `deadline` (clock_seconds; 0:
 * none) or its cpu_limit has passed, they return false; *timed_out (may be NULL) distinguishes the
 * two apart. */
bool process_send(Process *process, const void *bytes, size_t size, double deadline,
                  bool *timed_out);
bool process_receive(Process *process, void *bytes, size_t size, double deadline, bool *timed_out);

/* Closes its input and waits; `signal` is the one that ended it, or 0 with `status` its exit code.
 */
void process_finish(Process *process, int *status, int *signal);

/* Kills it and reaps it. Does nothing when there is none. */
void process_kill(Process *process);

#endif
