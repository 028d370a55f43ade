/* Child processes by posix_spawn. */
#include "core/process.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"

#define LONGEST_WAIT  1e5  /* seconds at a time */
#define SHORTEST_WAIT 0.01 /* its processor clock need not be watched more closely than that */

extern char **environ;

Err process_start(Process *process, const char *const argv[]) {
    return process_start_with(process, argv, NULL);
}

Err process_start_with(Process *process, const char *const argv[],
                       const char *const environment[]) {
    *process = (Process){0};
    int in[2], out[2];
    REQUIRE(pipe2(in, O_CLOEXEC) == 0, ERR_IO, "cannot open a pipe: %s", strerror(errno));
    if (pipe2(out, O_CLOEXEC) != 0) {
        int code = errno;
        close(in[0]), close(in[1]);
        FAIL(ERR_IO, "cannot open a pipe: %s", strerror(code));
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    /* The child starts with default signals, whatever this process ignores or blocks. */
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t defaults, none;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    char *const *variables = environment ? (char *const *)environment : environ;
    int code =
        posix_spawn(&process->pid, argv[0], &actions, &attributes, (char *const *)argv, variables);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    close(in[0]), close(out[1]);
    if (code) {
        close(in[1]), close(out[0]);
        process->pid = 0;
        FAIL(ERR_IO, "cannot start %s: %s", argv[0], strerror(code));
    }
    process->to = in[1];
    process->from = out[0];
    fcntl(process->to, F_SETFL, O_NONBLOCK);
    fcntl(process->from, F_SETFL, O_NONBLOCK);
    return OK;
}

double process_cpu_seconds(const Process *process) {
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(process->pid, &clock) != 0 || clock_gettime(clock, &t) != 0) return 0;
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* How long it may still take: no process with one thread uses its processor time up any sooner. */
static double patience(const Process *process, double deadline) {
    double left = LONGEST_WAIT;
    if (deadline > 0) left = fmin(left, deadline - clock_seconds());
    if (process->cpu_limit > 0)
        left = fmin(left, process->cpu_limit - process_cpu_seconds(process));
    return left;
}

/* Waits until `fd` is ready. False when the time is up. */
static bool wait_ready(const Process *process, int fd, short events, double deadline) {
    for (;;) {
        double left = patience(process, deadline);
        if (left <= 0) return false;
        int timeout = (int)(fmax(left, SHORTEST_WAIT) * 1000) + 1;
        struct pollfd wait = {.fd = fd, .events = events};
        int ready = poll(&wait, 1, timeout);
        if (ready > 0) return true;
        if (ready < 0 && errno != EINTR) return true; /* the read or write will say what is wrong */
    }
}

bool process_send(Process *process, const void *bytes, size_t size, double deadline,
                  bool *timed_out) {
    const char *at = bytes;
    if (timed_out) *timed_out = false;
    /* A worker that died must be an answer, not a signal to us: SIGPIPE is held back in this thread
     * while we write. */
    sigset_t pipe_set, old_set;
    sigemptyset(&pipe_set);
    sigaddset(&pipe_set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_set, &old_set);
    bool sent = true;
    while (size) {
        ssize_t wrote = write(process->to, at, size);
        if (wrote > 0) {
            at += wrote;
            size -= (size_t)wrote;
        } else if (wrote < 0 && errno == EAGAIN) {
            if (!wait_ready(process, process->to, POLLOUT, deadline)) {
                if (timed_out) *timed_out = true;
                sent = false;
                break;
            }
        } else if (!(wrote < 0 && errno == EINTR)) {
            if (errno == EPIPE) sigtimedwait(&pipe_set, NULL, &(struct timespec){0});
            sent = false;
            break;
        }
    }
    pthread_sigmask(SIG_SETMASK, &old_set, NULL);
    return sent;
}

bool process_receive(Process *process, void *bytes, size_t size, double deadline, bool *timed_out) {
    char *at = bytes;
    if (timed_out) *timed_out = false;
    while (size) {
        ssize_t got = read(process->from, at, size);
        if (got > 0) {
            at += got;
            size -= (size_t)got;
        } else if (got < 0 && errno == EAGAIN) {
            if (!wait_ready(process, process->from, POLLIN, deadline)) {
                if (timed_out) *timed_out = true;
                return false;
            }
        } else if (!(got < 0 && errno == EINTR)) {
            return false;
        }
    }
    return true;
}

static void reap(Process *process, int *status, int *signal_number) {
    int code = 0;
    while (waitpid(process->pid, &code, 0) < 0 && errno == EINTR) {
    }
    if (status) *status = WIFEXITED(code) ? WEXITSTATUS(code) : -1;
    if (signal_number) *signal_number = WIFSIGNALED(code) ? WTERMSIG(code) : 0;
    *process = (Process){0};
}

void process_finish(Process *process, int *status, int *signal_number) {
    if (!process->pid) return;
    close(process->to);
    close(process->from);
    reap(process, status, signal_number);
}

void process_kill(Process *process) {
    if (!process->pid) return;
    kill(process->pid, SIGKILL);
    process_finish(process, NULL, NULL);
}
