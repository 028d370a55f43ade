/* lease: who works in a folder, where locks do not reach. Processes play machines: what a lease of
 * another machine looks like is written by hand. */
#include "core/lease.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/system.h"
#include "tests/support/test.h"

/* Long enough for a loaded machine: nobody waits for `stale` but who must. */
static const LeaseTimes TIMES = {.beat = 0.05, .stale = 20, .settle = 0.5};
/* For leases that nobody holds: waited for to the end. */
static const LeaseTimes SHORT = {.beat = 0.05, .stale = 0.4, .settle = 0.3};

static const char *lease_path(void) {
    static char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/.lease", test_folder());
    return path;
}

static Err take(Lease **lease, bool alone, LeaseTimes times) {
    return lease_take(lease, lease_path(), "busy", alone, times);
}

/* The lease that is there, with another value of one member. */
static void forge(const char *key, const char *value) {
    Json *root;
    ASSERT_OK(js_read(&root, lease_path(), 1 << 16));
    js_set_text(root, key, value);
    ASSERT_OK(js_write(lease_path(), root));
    js_free(&root);
}

/* A lease that a process of this machine left behind when it was killed. */
static void leave_one(void) {
    test_folder(); /* of both */
    pid_t child = fork();
    ASSERT_INT(child, >=, 0);
    if (child == 0) {
        Lease *lease;
        _exit(take(&lease, false, TIMES) == OK ? 0 : 1);
    }
    int status;
    ASSERT_INT(waitpid(child, &status, 0), ==, child);
    ASSERT_INT(status, ==, 0);
    ASSERT_TRUE(file_exists(lease_path()));
}

TEST(a_lease_is_there_while_it_is_held) {
    Lease *lease, *second;
    ASSERT_OK(take(&lease, false, TIMES));
    ASSERT_OK(lease_check(lease));
    ASSERT_TRUE(file_exists(lease_path()));
    ASSERT_ERR(take(&second, false, TIMES), ERR_INPUT, "busy: process ");
    ASSERT_TRUE(second == NULL);
    lease_give(&lease);
    ASSERT_TRUE(!lease && !file_exists(lease_path()));
    ASSERT_OK(take(&lease, false, TIMES));
    lease_give(&lease);
}

static struct timespec touched(void) {
    struct stat info;
    ASSERT_INT(stat(lease_path(), &info), ==, 0);
    return info.st_mtim;
}

TEST(a_lease_is_touched_while_it_is_held) {
    Lease *lease;
    ASSERT_OK(take(&lease, false, TIMES));
    struct timespec before = touched(), now = before;
    for (int i = 0; i < 2000 && !memcmp(&now, &before, sizeof now); i++) {
        usleep(10000);
        now = touched();
    }
    ASSERT_TRUE(memcmp(&now, &before, sizeof now) != 0);
    lease_give(&lease);
}

TEST(the_lease_of_a_killed_process_is_taken_over_at_once) {
    Lease *lease;
    leave_one();
    ASSERT_OK(take(&lease, false, TIMES)); /* it would have to wait for `stale` otherwise */
    ASSERT_OK(lease_check(lease));
    lease_give(&lease);
    ASSERT_TRUE(!file_exists(lease_path()));
}

/* Numbers of processes are given out again. */
TEST(another_process_of_the_same_number_is_not_the_holder) {
    Lease *lease;
    leave_one();
    Json *root;
    ASSERT_OK(js_read(&root, lease_path(), 1 << 16));
    js_set_integer(root, "process", getpid());
    js_set_text(root, "started", "1");
    ASSERT_OK(js_write(lease_path(), root));
    js_free(&root);
    ASSERT_OK(take(&lease, false, TIMES));
    lease_give(&lease);
}

/* A holder on another machine, played by a process that goes on touching. */
TEST(a_lease_that_is_touched_elsewhere_is_held) {
    Lease *lease;
    leave_one();
    forge("machine", "another machine");
    forge("host", "elsewhere");
    pid_t child = fork();
    if (child == 0)
        for (;;) {
            int fd = open(lease_path(), O_RDONLY);
            futimens(fd, NULL);
            close(fd);
            usleep(20000);
        }
    Err err = take(&lease, false, TIMES);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    ASSERT_TRUE(err == ERR_INPUT);
    ASSERT_CONTAINS(err_message(), "on elsewhere, since ");
}

TEST(a_lease_that_nobody_touches_is_taken_over_after_a_while) {
    Lease *lease;
    leave_one();
    forge("machine", "another machine");
    ASSERT_OK(take(&lease, false, SHORT));
    ASSERT_OK(lease_check(lease));
    lease_give(&lease);
    /* What is no lease at all is somebody's as well. */
    ASSERT_OK(file_write(lease_path(), "{", 1));
    ASSERT_OK(take(&lease, false, SHORT));
    lease_give(&lease);
    ASSERT_OK(file_write(lease_path(), "", 0));
    ASSERT_OK(take(&lease, false, SHORT));
    lease_give(&lease);
}

/* With the system's lock in hand nobody of this machine can be at work, a container neither; of
 * other machines that is not known. */
TEST(a_lock_speaks_for_all_processes_of_a_machine) {
    Lease *lease, *other;
    char boot[128] = "";
    ASSERT_OK(take(&lease, false, TIMES));
    ASSERT_OK(take(&other, true, TIMES)); /* ours, alive, but without the lock */
    ASSERT_ERR(lease_check(lease), ERR_IO, "is another's now");
    lease_give(&lease);
    lease_give(&other);
    system_boot_id(boot);
    if (!boot[0]) return;
    strcat(boot, " pid:[1]");
    leave_one();
    forge("machine", boot);
    ASSERT_OK(take(&lease, true, TIMES));
    lease_give(&lease);
}

/* A holder that was suspended finds another's lease when it wakes, and leaves it alone. */
TEST(a_holder_that_was_away_notices) {
    Lease *lease;
    ASSERT_OK(take(&lease, false, TIMES));
    forge("token", "0123456789abcdef");
    ASSERT_ERR(lease_check(lease), ERR_IO, "is another's now");
    lease_give(&lease);
    ASSERT_TRUE(file_exists(lease_path()));
}

/* Whoever deletes the file by hand does not end the run. */
TEST(a_lease_that_was_deleted_comes_back) {
    Lease *lease;
    ASSERT_OK(take(&lease, false, TIMES));
    ASSERT_INT(unlink(lease_path()), ==, 0);
    for (int i = 0; i < 2000 && !file_exists(lease_path()); i++) usleep(10000);
    ASSERT_TRUE(file_exists(lease_path()));
    ASSERT_OK(lease_check(lease));
    lease_give(&lease);
}

/* As it is seen for a moment, between its making and its first byte. */
TEST(a_lease_that_is_just_being_written_is_not_anothers) {
    Lease *lease;
    ASSERT_OK(take(&lease, false, TIMES));
    ASSERT_INT(truncate(lease_path(), 0), ==, 0);
    ASSERT_OK(lease_check(lease));
    lease_give(&lease);
}

static void read_token(char out[32]) {
    Json *root;
    ASSERT_OK(js_read(&root, lease_path(), 1 << 16));
    snprintf(out, 32, "%s", js_text(js_get(root, "token"), NULL));
    js_free(&root);
}

static void ignore_it(int number) {
    (void)number;
}

/* A job that is told to end while it waits for another's lease does. */
TEST(a_signal_ends_the_wait_for_a_lease) {
    static const LeaseTimes slow = {.beat = 40, .stale = 400, .settle = 1};
    Lease *lease;
    leave_one();
    forge("machine", "another");
    struct sigaction action = {.sa_handler = ignore_it, .sa_flags = SA_RESTART};
    ASSERT_INT(sigaction(SIGALRM, &action, NULL), ==, 0);
    alarm(1);
    ASSERT_ERR(take(&lease, false, slow), ERR_STOPPED, "stopped by a signal while waiting for");
}

/* Another takes the same one over a moment later: who was first finds that out. */
TEST(whoever_is_overtaken_does_not_have_it) {
    static const LeaseTimes patient = {.beat = 0.05, .stale = 20, .settle = 4};
    Lease *lease;
    char dead[32], now[32];
    leave_one();
    read_token(dead);
    pid_t other = fork();
    if (other == 0) {
        do read_token(now);
        while (!strcmp(now, dead));
        forge("token", "0123456789abcdef");
        _exit(0);
    }
    ASSERT_ERR(take(&lease, false, patient), ERR_INPUT, "busy: process ");
    waitpid(other, NULL, 0);
    read_token(now);
    ASSERT_TEXT(now, "0123456789abcdef");
}

/* Tries when `go` ends, says that it has; says whether it has the lease when `ask` ends. */
static void compete(int go, int ask, int say) {
    char byte;
    Lease *lease;
    if (read(go, &byte, 1) != 0) _exit(1);
    bool took = take(&lease, false, TIMES) == OK;
    if (write(say, "", 1) != 1 || read(ask, &byte, 1) != 0) _exit(1);
    bool mine = took && lease_check(lease) == OK;
    if (write(say, mine ? "y" : "n", 1) != 1) _exit(1);
    pause(); /* held until all have said */
}

/* Of many who find the same dead lease at the same moment one has it in the end: even if one was so
 * slow that it wrote over another's, that one knows. */
TEST(of_many_who_take_over_one_has_it) {
    enum { PROCESSES = 8, ROUNDS = 4 };
    for (int round = 0; round < ROUNDS; round++) {
        int go[2], ask[2], say[2], holders = 0;
        pid_t children[PROCESSES];
        char said;
        leave_one();
        ASSERT_TRUE(pipe(go) == 0 && pipe(ask) == 0 && pipe(say) == 0);
        for (int i = 0; i < PROCESSES; i++) {
            children[i] = fork();
            if (children[i] != 0) continue;
            close(go[1]);
            close(ask[1]);
            compete(go[0], ask[0], say[1]);
        }
        close(go[1]);
        for (int i = 0; i < PROCESSES; i++) ASSERT_INT(read(say[0], &said, 1), ==, 1);
        close(ask[1]);
        for (int i = 0; i < PROCESSES; i++) {
            ASSERT_INT(read(say[0], &said, 1), ==, 1);
            holders += said == 'y';
        }
        ASSERT_INT(holders, ==, 1);
        for (int i = 0; i < PROCESSES; i++) {
            kill(children[i], SIGKILL);
            waitpid(children[i], NULL, 0);
        }
        close(go[0]);
        close(ask[0]);
        close(say[0]);
        close(say[1]);
        ASSERT_INT(unlink(lease_path()), ==, 0);
    }
}
