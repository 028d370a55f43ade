/* Ranks that are started without MPI, for the tests of how they meet. */
#ifndef CADVLM_TESTS_RENDEZVOUS_FIXTURE_H
#define CADVLM_TESTS_RENDEZVOUS_FIXTURE_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "comm/comm.h"
#include "core/clock.h"
#include "core/file.h"
#include "tests/test.h"

enum { RANKS_MOST = 8, PLACE_SIZE = 512 };

typedef struct Job {
    char name[32], place[PLACE_SIZE], id[32];
    const char *limit; /* seconds, for CADVLM_RENDEZVOUS_TIMEOUT */
    int size;
    pid_t pids[RANKS_MOST];
} Job;

/* ---- starting ranks ---- */

static inline struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static inline int free_port(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in at = loopback(0);
    socklen_t size = sizeof at;
    ASSERT_INT(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), ==, 0);
    ASSERT_INT(bind(fd, (struct sockaddr *)&at, sizeof at), ==, 0);
    ASSERT_INT(getsockname(fd, (struct sockaddr *)&at, &size), ==, 0);
    close(fd);
    return ntohs(at.sin_port);
}

static inline Job by_tcp(int size, int *port) {
    Job job = {.name = "tcp", .limit = "30", .size = size};
    *port = free_port();
    test_folder(); /* made before there are children */
    snprintf(job.place, sizeof job.place, "tcp://127.0.0.1:%d", *port);
    return job;
}

static inline Job by_file(int size, const char *name) {
    Job job = {.limit = "30", .size = size};
    snprintf(job.name, sizeof job.name, "%s", name);
    snprintf(job.place, sizeof job.place, "file://%s", test_path(name));
    return job;
}

static inline const char *log_of(const Job *job, int slot) {
    char name[64];
    snprintf(name, sizeof name, "%.31s.%d.log", job->name, slot);
    return test_path(name);
}

static inline void set_number(const char *name, int value) {
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    setenv(name, text, 1);
}

/* In the child: becomes rank `rank` of `job`; what it says goes to a file. */
static inline void become(const Job *job, int slot, int rank, int size) {
    static const char *const others[] = {"SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID",
                                         "SLURM_NTASKS", "CADVLM_JOB"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) unsetenv(others[i]);
    setenv("CADVLM_RENDEZVOUS", job->place, 1);
    setenv("CADVLM_RENDEZVOUS_TIMEOUT", job->limit, 1);
    if (job->id[0]) setenv("CADVLM_JOB", job->id, 1);
    set_number("CADVLM_RANK", rank);
    set_number("CADVLM_SIZE", size);
    int fd = open(log_of(job, slot), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0) _exit(99);
    close(fd);
    alarm(100); /* nothing here may hang for ever */
}

typedef Err Role(Comm *comm);

/* Starts a process in job->pids[slot] that says it is rank `rank` of `size`. */
static inline void start_as(Job *job, int slot, int rank, int size, Role *role) {
    fflush(NULL);
    pid_t pid = fork();
    ASSERT_TRUE(pid >= 0);
    if (pid == 0) {
        become(job, slot, rank, size);
        Comm *comm;
        Err err = comm_open(&comm);
        if (err == OK) err = role(comm);
        exit(err_exit_code(comm_finish(&comm, err)));
    }
    job->pids[slot] = pid;
}

static inline void start(Job *job, int rank, Role *role) {
    start_as(job, rank, rank, job->size, role);
}

/* The exit code, or 128 + the signal. */
static inline int end_of(Job *job, int slot) {
    int status = 0;
    ASSERT_TRUE(waitpid(job->pids[slot], &status, 0) == job->pids[slot]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* What a process has said, valid until the next call. */
static inline const char *said(const Job *job, int slot) {
    static Buf text;
    ASSERT_OK(file_read(&text, log_of(job, slot), 1 << 20));
    return buf_cstr(&text);
}

static inline void expect_end(Job *job, int slot, int code, const char *part) {
    int got = end_of(job, slot);
    const char *text = said(job, slot);
    ASSERT(got == code && strstr(text, part),
           "%s, process %d: exit code %d, not %d with \"%s\":\n%s", job->name, slot, got, code,
           part, text);
}

/* Ends well with a sentence when it is too late for it. */
static inline void expect_within(double began, double seconds) {
    ASSERT_REAL(clock_seconds() - began, <, test_patience(seconds));
}

static inline Err talk(Comm *comm) {
    int all[RANKS_MOST], rank = comm_rank(comm);
    TRY(comm_gather_all(comm, all, &rank, sizeof rank));
    for (int r = 0; r < comm_size(comm); r++) CHECK(all[r] == r, "rank %d: %d", r, all[r]);
    return comm_barrier(comm);
}

#endif
