#include "cad/worker/hooks.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/sanitized.h"

#define HOOK_BYTES   (16 << 20)
#define HOOK_SECONDS 2
#define HOOK_TOIL    0.6

/* ---- dying, hanging ---- */

static void crash(void) {
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}

static void leave(void) {
    _exit(3);
}

static void take_memory(void) {
    for (size_t size = HOOK_BYTES;; size += HOOK_BYTES) {
        void *bytes = malloc(HOOK_BYTES);
        CHECK(bytes, "out of memory at %zu MiB", size >> 20);
        memset(bytes, 1, HOOK_BYTES);
    }
}

static void hang(void) {
    for (;;) pause();
}

static void spin(void) {
    for (volatile int turns = 0;;) turns = !turns;
}

static void ignore_alarms(void) {
    signal(SIGALRM, SIG_IGN);
    signal(SIGPROF, SIG_IGN);
}

/* Takes time by the clock, and none of the processor. */
static void doze(void) {
    for (struct timespec left = {.tv_sec = HOOK_SECONDS}; nanosleep(&left, &left) != 0;) {
    }
}

static double own_cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void toil(void) {
    for (double end = own_cpu_seconds() + HOOK_TOIL; own_cpu_seconds() < end;) {
    }
}

/* ---- reaching out: what a worker should not be able to ---- */

static bool sees_secrets(void) {
    return getenv("CADVLM_TEST_SECRET") != NULL;
}

static bool opens_what_it_inherited(void) {
    int count = 0;
    for (int fd = STDERR_FILENO + 1; fd < 1024; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count > 1; /* one is the pipe of the replies */
}

static bool reads(void) {
    int fd = open("/proc/version", O_RDONLY);
    return fd >= 0 && close(fd) == 0;
}

static bool writes(void) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/cadvlm-reach-%d", (int)getpid());
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd >= 0) unlink(path);
    return fd >= 0 && close(fd) == 0;
}

static bool makes_folders(void) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/cadvlm-reach-%d", (int)getpid());
    return mkdir(path, 0700) == 0 && rmdir(path) == 0;
}

static bool opens_socket(int family) {
    int fd = socket(family, SOCK_STREAM, 0);
    return fd >= 0 && close(fd) == 0;
}

static bool reaches_network(void) {
    return opens_socket(AF_INET);
}

static bool reaches_local_sockets(void) {
    return opens_socket(AF_UNIX);
}

static bool has_children(void) {
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    return pid > 0 && waitpid(pid, NULL, 0) == pid;
}

/* What changes the process for good is tried in a child, where there can be one. */
static bool in_child(bool (*act)(void)) {
    int status = 0;
    pid_t pid = fork();
    if (pid < 0) return act();
    if (pid == 0) _exit(act() ? 0 : 1);
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool signals_others(void) {
    return kill(getppid(), 0) == 0;
}

static bool ask_to_be_traced(void) {
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0;
}

static bool is_traced(void) {
    return !SANITIZED && in_child(ask_to_be_traced);
}

static bool changes_root(void) {
    return chroot("/") == 0;
}

static bool gains_privileges(void) {
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1;
}

static bool writes_without_end(void) {
    struct rlimit limits;
    return getrlimit(RLIMIT_FSIZE, &limits) != 0 || limits.rlim_cur == RLIM_INFINITY;
}

static bool become_another(void) {
    execl("/bin/true", "true", (char *)NULL);
    return false;
}

static bool runs_programs(void) {
    return in_child(become_another);
}

static void reach(CadReply *reply) {
    static const struct {
        const char *name;
        bool (*reaches)(void);
    } attempts[] = {{"secrets", sees_secrets},
                    {"descriptors", opens_what_it_inherited},
                    {"reading", reads},
                    {"writing", writes},
                    {"folders", makes_folders},
                    {"network", reaches_network},
                    {"sockets", reaches_local_sockets},
                    {"children", has_children},
                    {"signals", signals_others},
                    {"tracing", is_traced},
                    {"root", changes_root},
                    {"privileges", gains_privileges},
                    {"endless", writes_without_end},
                    {"programs", runs_programs}};
    Buf text = {0};
    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++)
        if (attempts[i].reaches()) buf_format(&text, " %s", attempts[i].name);
    reply->status = CAD_EXEC_FAIL;
    snprintf(reply->message, sizeof reply->message, "reached:%.200s",
             text.size ? buf_cstr(&text) : " nothing");
    buf_free(&text);
}

bool hooks_obey(const CadRequest *request, CadReply *reply) {
    static const struct {
        const char *word;
        void (*act)(void);
    } hooks[] = {{"crash", crash},        {"exit", leave}, {"memory", take_memory}, {"hang", hang},
                 {"deaf", ignore_alarms}, {"doze", doze},  {"toil", toil},          {"spin", spin}};
    static const char prefix[] = "# hook: ";
    const char *code = request->code, *word;
    if (!code || !getenv("CADVLM_CAD_HOOKS") || strncmp(code, prefix, strlen(prefix)) != 0)
        return false;
    word = code + strlen(prefix);
    for (size_t i = 0; i < sizeof hooks / sizeof hooks[0]; i++)
        if (!strcmp(word, hooks[i].word)) hooks[i].act();
    if (strcmp(word, "reach") != 0) return false;
    reach(reply);
    return true;
}
