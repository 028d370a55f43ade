/* Ranks that meet without MPI: what test_comm.c asks of MPI, and what a network can do to them. */
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

static struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int free_port(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in at = loopback(0);
    socklen_t size = sizeof at;
    ASSERT_INT(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), ==, 0);
    ASSERT_INT(bind(fd, (struct sockaddr *)&at, sizeof at), ==, 0);
    ASSERT_INT(getsockname(fd, (struct sockaddr *)&at, &size), ==, 0);
    close(fd);
    return ntohs(at.sin_port);
}

static Job by_tcp(int size, int *port) {
    Job job = {.name = "tcp", .limit = "30", .size = size};
    *port = free_port();
    test_folder(); /* made before there are children */
    snprintf(job.place, sizeof job.place, "tcp://127.0.0.1:%d", *port);
    return job;
}

static Job by_file(int size, const char *name) {
    Job job = {.limit = "30", .size = size};
    snprintf(job.name, sizeof job.name, "%s", name);
    snprintf(job.place, sizeof job.place, "file://%s", test_path(name));
    return job;
}

static const char *log_of(const Job *job, int slot) {
    char name[64];
    snprintf(name, sizeof name, "%s.%d.log", job->name, slot);
    return test_path(name);
}

static void set_number(const char *name, int value) {
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    setenv(name, text, 1);
}

/* In the child: becomes rank `rank` of `job`; what it says goes to a file. */
static void become(const Job *job, int slot, int rank, int size) {
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
static void start_as(Job *job, int slot, int rank, int size, Role *role) {
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

static void start(Job *job, int rank, Role *role) {
    start_as(job, rank, rank, job->size, role);
}

/* The exit code, or 128 + the signal. */
static int end_of(Job *job, int slot) {
    int status = 0;
    ASSERT_TRUE(waitpid(job->pids[slot], &status, 0) == job->pids[slot]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* What a process has said, valid until the next call. */
static const char *said(const Job *job, int slot) {
    static Buf text;
    ASSERT_OK(file_read(&text, log_of(job, slot), 1 << 20));
    return buf_cstr(&text);
}

static void expect_end(Job *job, int slot, int code, const char *part) {
    int got = end_of(job, slot);
    const char *text = said(job, slot);
    ASSERT(got == code && strstr(text, part),
           "%s, process %d: exit code %d, not %d with \"%s\":\n%s", job->name, slot, got, code,
           part, text);
}

/* Ends well with a sentence when it is too late for it. */
static void expect_within(double began, double seconds) {
    ASSERT_REAL(clock_seconds() - began, <, test_patience(seconds));
}

/* ---- what a rank may do ---- */

static Err talk(Comm *comm) {
    int all[RANKS_MOST], rank = comm_rank(comm);
    TRY(comm_gather_all(comm, all, &rank, sizeof rank));
    for (int r = 0; r < comm_size(comm); r++) CHECK(all[r] == r, "rank %d: %d", r, all[r]);
    return comm_barrier(comm);
}

static Err talk_without_end(Comm *comm) {
    for (;;) TRY(talk(comm));
}

static Err be_killed(Comm *comm) {
    TRY(talk(comm));
    raise(SIGKILL);
    return OK;
}

static Err leave_early(Comm *comm) {
    TRY(talk(comm));
    exit(0);
}

static Err give_up(Comm *comm) {
    TRY(talk(comm));
    FAIL(ERR_IO, "no room left on rank %d", comm_rank(comm));
}

static Err call_another(Comm *comm) {
    int data = 0;
    TRY(talk(comm));
    return comm_broadcast(comm, &data, sizeof data); /* the others are at a gather */
}

static Err gather_more(Comm *comm) {
    int64_t all[RANKS_MOST] = {0}, own = 0;
    TRY(talk(comm));
    return comm_gather_all(comm, all, &own, sizeof own);
}

/* Far more than sockets hold, so that a rank which ends does so in the middle of a message. */
static Err exchange_without_end(Comm *comm) {
    enum { COUNT = 2000000 };
    float *send = calloc(RANKS_MOST * COUNT, sizeof *send),
          *received = calloc(RANKS_MOST * COUNT, sizeof *received);
    int64_t counts[RANKS_MOST];
    for (int r = 0; r < RANKS_MOST; r++) counts[r] = COUNT;
    Err err = OK;
    while (err == OK) err = comm_exchange_floats(comm, received, counts, send, counts);
    free(send);
    free(received);
    return err;
}

static Err talk_for_a_second(Comm *comm) {
    double began = clock_seconds();
    for (bool any = true; any;) {
        TRY(talk(comm));
        TRY(comm_any(comm, clock_seconds() - began < 1, &any));
    }
    return OK;
}

/* ---- the same as by MPI ---- */

static void run_tests_of_comm(Job *job) {
    static const char *const tests[] = {
        "collectives_agree_on_every_rank", "large_and_empty_runs_arrive_whole",
        "ranks_of_this_machine_are_numbered", "one_failing_rank_is_heard_by_all"};
    char exe[PATH_SIZE];
    ASSERT_OK(path_format(exe, "%s/tests/test_comm", test_build_folder()));
    for (int test = 0; test < (job->size > 1 ? 4 : 3); test++) {
        for (int r = 0; r < job->size; r++) {
            fflush(NULL);
            job->pids[r] = fork();
            if (job->pids[r]) continue;
            become(job, r, r, job->size);
            execl(exe, exe, tests[test], (char *)NULL);
            _exit(98);
        }
        for (int r = 0; r < job->size; r++) expect_end(job, r, 0, tests[test]);
    }
}

TEST(collectives_by_tcp_do_what_they_do_by_mpi) {
    static const int sizes[] = {1, 2, 3, 5};
    for (int i = 0; i < 4; i++) {
        int port;
        Job job = by_tcp(sizes[i], &port);
        run_tests_of_comm(&job);
    }
}

TEST(collectives_by_file_do_what_they_do_by_mpi) {
    static const int sizes[] = {1, 2, 3, 5};
    for (int i = 0; i < 4; i++) {
        Job job = by_file(sizes[i], "meet");
        run_tests_of_comm(&job);
        ASSERT_TRUE(!file_exists(test_path("meet")));
    }
}

TEST(ipv6_and_names_of_hosts_are_understood) {
    static const char *const hosts[] = {"[::1]", "localhost"};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool has_ipv6 = fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0;
    close(fd);
    for (int i = has_ipv6 ? 0 : 1; i < 2; i++) {
        int port;
        Job job = by_tcp(3, &port);
        snprintf(job.place, sizeof job.place, "tcp://%s:%d", hosts[i], port);
        for (int r = 0; r < 3; r++) start(&job, r, talk);
        for (int r = 0; r < 3; r++) expect_end(&job, r, 0, "");
    }
}

TEST(two_jobs_at_once_do_not_mix) {
    Job one = by_file(3, "one"), two = by_file(3, "two");
    /* And two more that share a place, but not a name. */
    Job three = by_file(2, "three"), four = by_file(2, "four");
    strcpy(four.place, three.place);
    strcpy(three.id, "1234.0");
    strcpy(four.id, "1234.1");
    Job *const jobs[] = {&one, &two, &three, &four};
    for (int r = 2; r >= 0; r--)
        for (int i = 0; i < 4; i++)
            if (r < jobs[i]->size) start(jobs[i], r, talk);
    for (int i = 0; i < 4; i++)
        for (int r = 0; r < jobs[i]->size; r++) expect_end(jobs[i], r, 0, "");
}

TEST(ranks_may_come_in_any_order) {
    int port;
    Job jobs[2] = {by_tcp(4, &port), by_file(4, "late")};
    for (int i = 0; i < 2; i++) {
        for (int r = 3; r >= 0; r--) {
            start(&jobs[i], r, talk);
            usleep(150000);
        }
        for (int r = 0; r < 4; r++) expect_end(&jobs[i], r, 0, "");
    }
}

/* ---- ranks that fail ---- */

TEST(a_rank_that_ends_ends_the_others_who_name_it) {
    static const struct {
        Role *role;
        int code;
        const char *own, *others;
    } cases[] = {
        {be_killed, 128 + SIGKILL, "", "rank 1 on "},
        {leave_early, 0, "", "rank 1 on "},
        {give_up, 1, "no room left on rank 1", "no room left on rank 1"},
        {call_another, 1, "they run different programs", "they run different programs"},
        {gather_more, 1, "they run different programs", "they run different programs"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int port;
        Job job = by_tcp(4, &port);
        double began = clock_seconds();
        for (int r = 0; r < 4; r++) start(&job, r, r == 1 ? cases[i].role : talk_without_end);
        expect_end(&job, 1, cases[i].code, cases[i].own);
        for (int r = 0; r < 4; r++)
            if (r != 1) expect_end(&job, r, 1, cases[i].others);
        expect_within(began, 20);
    }
}

TEST(a_rank_that_is_killed_in_the_middle_of_a_message_ends_the_others) {
    for (int victim = 0; victim < 3; victim++) {
        int port;
        Job job = by_tcp(3, &port);
        for (int r = 0; r < 3; r++) start(&job, r, exchange_without_end);
        usleep(700000);
        ASSERT_INT(kill(job.pids[victim], SIGKILL), ==, 0);
        ASSERT_INT(end_of(&job, victim), ==, 128 + SIGKILL);
        for (int r = 0; r < 3; r++)
            if (r != victim) expect_end(&job, r, 1, "rank ");
    }
}

TEST(a_rank_that_is_slow_is_waited_for) {
    int port;
    Job job = by_tcp(3, &port);
    job.limit = "2"; /* is for joining alone */
    for (int r = 0; r < 3; r++) start(&job, r, talk_for_a_second);
    usleep(500000);
    ASSERT_INT(kill(job.pids[1], SIGSTOP), ==, 0);
    usleep(3500000);
    ASSERT_INT(kill(job.pids[1], SIGCONT), ==, 0);
    for (int r = 0; r < 3; r++) expect_end(&job, r, 0, "");
}

TEST(a_rank_that_never_comes_is_named_within_the_limit) {
    int port;
    Job jobs[2] = {by_tcp(4, &port), by_file(4, "short")};
    for (int i = 0; i < 2; i++) {
        double began = clock_seconds();
        jobs[i].limit = "3";
        for (int r = 0; r < 3; r++) start(&jobs[i], r, talk);
        expect_end(&jobs[i], 0, 1, "1 of 4 ranks did not come");
        ASSERT_CONTAINS(said(&jobs[i], 0), "within 3 s: 3");
        expect_end(&jobs[i], 1, 1, "1 of 4 ranks did not come");
        expect_end(&jobs[i], 2, 1, "1 of 4 ranks did not come");
        expect_within(began, 10);
    }
    ASSERT_TRUE(!file_exists(test_path("short")));
}

TEST(a_missing_rank_0_is_told_within_the_limit) {
    int port;
    Job jobs[2] = {by_tcp(2, &port), by_file(2, "nobody")};
    for (int i = 0; i < 2; i++) {
        double began = clock_seconds();
        jobs[i].limit = "2";
        start(&jobs[i], 1, talk);
        expect_end(&jobs[i], 1, 1, "rank 1 on ");
        ASSERT_CONTAINS(said(&jobs[i], 1), "did not find rank 0");
        ASSERT_CONTAINS(said(&jobs[i], 1), i ? "No such file" : "refused");
        expect_within(began, 10);
    }
}

TEST(a_rank_that_stops_while_joining_is_named_within_the_limit) {
    /* It says hello and then nothing: stopped as soon as rank 0 listens. */
    int port;
    Job job = by_tcp(3, &port);
    job.limit = "4";
    double began = clock_seconds();
    start(&job, 0, talk);
    start(&job, 1, talk);
    usleep(700000);
    ASSERT_INT(kill(job.pids[1], SIGSTOP), ==, 0);
    start(&job, 2, talk);
    expect_end(&job, 0, 1, "rank 1 on ");
    ASSERT_CONTAINS(said(&job, 0), "does not answer");
    expect_end(&job, 2, 1, "rank ");
    ASSERT_INT(kill(job.pids[1], SIGKILL), ==, 0);
    ASSERT_INT(end_of(&job, 1), ==, 128 + SIGKILL);
    expect_within(began, 12);
}

TEST(a_rank_that_dies_while_others_join_ends_them_at_once) {
    int port;
    Job job = by_tcp(4, &port);
    job.limit = "90";
    double began = clock_seconds();
    start(&job, 0, talk);
    start(&job, 1, talk);
    start(&job, 2, talk);
    usleep(700000);
    ASSERT_INT(kill(job.pids[2], SIGKILL), ==, 0);
    ASSERT_INT(end_of(&job, 2), ==, 128 + SIGKILL);
    expect_end(&job, 0, 1, "rank 2 on ");
    expect_end(&job, 1, 1, "rank 2 on ");
    expect_within(began, 20);
}

TEST(ranks_that_contradict_each_other_end_the_job) {
    int port;
    Job job = by_tcp(3, &port);
    job.limit = "20";
    start(&job, 0, talk);
    start_as(&job, 1, 1, 3, talk);
    usleep(500000);
    start_as(&job, 2, 1, 3, talk);
    expect_end(&job, 0, 2, "rank 1 is there twice");
    expect_end(&job, 1, 1, "rank 1 is there twice");
    expect_end(&job, 2, 1, "rank 1 is there twice");

    job = by_tcp(2, &port);
    start(&job, 0, talk);
    start_as(&job, 1, 2, 3, talk);
    expect_end(&job, 0, 2, "rank 2 on ");
    ASSERT_CONTAINS(said(&job, 0), "was told of 3 ranks");
    expect_end(&job, 1, 1, "was told of 3 ranks");

    /* Two ranks 0: the second cannot listen, or takes the file over. */
    job = by_tcp(2, &port);
    start(&job, 0, talk);
    usleep(300000);
    start_as(&job, 2, 0, 2, talk);
    expect_end(&job, 2, 1, "in use");
    start(&job, 1, talk);
    expect_end(&job, 0, 0, "");
    expect_end(&job, 1, 0, "");
    job = by_file(2, "twice");
    start(&job, 0, talk);
    usleep(500000);
    start_as(&job, 2, 0, 2, talk);
    expect_end(&job, 0, 2, "another rank 0");
    start(&job, 1, talk);
    expect_end(&job, 1, 0, "");
    expect_end(&job, 2, 0, "");
}

/* ---- strangers ---- */

static int visit(int port, const void *bytes, size_t size) {
    struct sockaddr_in at = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    for (int i = 0; i < 100 && connect(fd, (struct sockaddr *)&at, sizeof at) < 0; i++) {
        usleep(50000);
        close(fd);
        fd = socket(AF_INET, SOCK_STREAM, 0);
    }
    ASSERT_INT(send(fd, bytes, size, MSG_NOSIGNAL), ==, size);
    return fd;
}

TEST(strangers_do_not_break_the_job) {
    int port, visits[84];
    Job job = by_tcp(3, &port);
    start(&job, 0, talk);
    start(&job, 1, talk);
    char noise[4096];
    for (size_t i = 0; i < sizeof noise; i++) noise[i] = (char)(i * 7919 >> 3);
    visits[0] = visit(port, "GET / HTTP/1.1\r\n\r\n", 18);
    visits[1] = visit(port, noise, sizeof noise);
    visits[2] = visit(port, "", 0); /* stays, and says nothing */
    visits[3] = visit(port, "iH", 2);
    close(visit(port, "iHvc", 4)); /* begins as a rank does, and leaves */
    /* More than are heard at a time; they are turned away after 10 s. */
    for (int i = 4; i < 84; i++) visits[i] = visit(port, "", 0);
    start(&job, 2, talk);
    for (int r = 0; r < 3; r++) expect_end(&job, r, 0, "");
    for (int i = 0; i < 84; i++) close(visits[i]);
    for (int r = 0; r < 3; r++) ASSERT_TRUE(strlen(said(&job, r)) < 2000);
}

/* A rank in whose place another speaks: its greeting is heard by us, and repeated to rank 0 with
 * the number of a rank that comes to nobody. */
TEST(a_rank_that_nobody_awaits_ends_the_job) {
    enum { RANK_AT = 8 }; /* behind the two numbers that begin a greeting */
    int port, decoy_port, on = 1;
    char greeting[4096];
    size_t size = 0;
    Job job = by_tcp(2, &port), decoy = by_tcp(2, &decoy_port);
    strcpy(decoy.name, "decoy");
    struct sockaddr_in at = loopback(decoy_port);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_INT(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), ==, 0);
    ASSERT_INT(bind(listener, (struct sockaddr *)&at, sizeof at), ==, 0);
    ASSERT_INT(listen(listener, 1), ==, 0);
    start(&decoy, 1, talk);
    int caller = accept(listener, NULL, NULL);
    ASSERT_TRUE(caller >= 0);
    ASSERT_INT(fcntl(caller, F_SETFL, O_NONBLOCK), ==, 0);
    for (int quiet = 0; quiet < 20; usleep(50000)) { /* it says it in one piece, and waits then */
        ssize_t got = recv(caller, greeting + size, sizeof greeting - size, 0);
        if (got > 0) size += (size_t)got;
        quiet = got > 0 || !size ? 0 : quiet + 1;
    }
    ASSERT_INT(size, >, RANK_AT + 4);
    ASSERT_INT(greeting[RANK_AT], ==, 1);
    greeting[RANK_AT] = 0;
    kill(decoy.pids[1], SIGKILL);
    end_of(&decoy, 1);
    close(caller);
    close(listener);

    start(&job, 0, talk);
    int visitor = visit(port, greeting, size);
    expect_end(&job, 0, 2, "says it is rank 0, and rank 0 on");
    close(visitor);
}

TEST(a_rank_of_another_job_is_turned_away) {
    int port;
    Job job = by_tcp(2, &port), other = job;
    strcpy(job.id, "7.0");
    strcpy(other.id, "6.0");
    strcpy(other.name, "other");
    start(&job, 0, talk);
    start(&other, 1, talk);
    expect_end(&other, 1, 1, "is of job \"6.0\", this is job \"7.0\"");
    start(&job, 1, talk);
    expect_end(&job, 0, 0, "");
    expect_end(&job, 1, 0, "");
}

TEST(a_stale_file_does_not_break_the_next_job) {
    /* One of a dead job, whose port is closed; one whose port is now someone else's; and nonsense.
     */
    int listener = socket(AF_INET, SOCK_STREAM, 0), port = free_port();
    struct sockaddr_in at = loopback(port);
    ASSERT_INT(bind(listener, (struct sockaddr *)&at, sizeof at), ==, 0);
    ASSERT_INT(listen(listener, 8), ==, 0);
    for (int i = 0; i < 3; i++) {
        char line[128];
        Job job = by_file(3, "stale");
        snprintf(line, sizeof line, "127.0.0.1 %d 0123456789abcdef0123456789abcdef\n",
                 i == 0 ? free_port() : port);
        const char *text = i == 2 ? "what is this" : line;
        ASSERT_OK(file_write(test_path("stale"), text, strlen(text)));
        start(&job, 1, talk);
        start(&job, 2, talk);
        usleep(400000);
        start(&job, 0, talk);
        for (int r = 0; r < 3; r++) expect_end(&job, r, 0, "");
        ASSERT_TRUE(!file_exists(test_path("stale")));
    }
    close(listener);
}

TEST(a_killed_job_leaves_a_file_that_the_next_one_survives) {
    Job job = by_file(2, "again");
    start(&job, 0, talk);
    for (int i = 0; i < 100 && !file_exists(test_path("again")); i++) usleep(50000);
    ASSERT_INT(kill(job.pids[0], SIGKILL), ==, 0);
    ASSERT_INT(end_of(&job, 0), ==, 128 + SIGKILL);
    ASSERT_TRUE(file_exists(test_path("again")));
    start(&job, 1, talk);
    usleep(300000);
    start(&job, 0, talk);
    expect_end(&job, 0, 0, "");
    expect_end(&job, 1, 0, "");
}

/* ---- the environment ---- */

static Err open_with(const char *place, const char *rank, const char *size, const char *more,
                     const char *value) {
    setenv("CADVLM_RENDEZVOUS", place, 1);
    unsetenv("CADVLM_RANK");
    unsetenv("CADVLM_SIZE");
    if (rank) setenv("CADVLM_RANK", rank, 1);
    if (size) setenv("CADVLM_SIZE", size, 1);
    if (more) setenv(more, value, 1);
    Comm *comm;
    Err err = comm_open(&comm);
    if (err == OK) ASSERT_INT(comm_size(comm), ==, 1);
    comm_close(&comm);
    if (more) unsetenv(more);
    return err;
}

TEST(what_the_environment_says_is_checked) {
    static const char *const variables[] = {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS",
                                            "SLURM_JOB_ID", "SLURM_STEP_ID"};
    for (int i = 0; i < 5; i++) unsetenv(variables[i]);
    const char *good = "tcp://127.0.0.1:29500";
    ASSERT_ERR(open_with(good, NULL, NULL, NULL, NULL), ERR_CONFIG, "set CADVLM_RANK");
    ASSERT_ERR(open_with(good, "0", NULL, NULL, NULL), ERR_CONFIG, "set CADVLM_RANK");
    ASSERT_ERR(open_with(good, "2", "2", NULL, NULL), ERR_CONFIG, "CADVLM_RANK is \"2\"");
    ASSERT_ERR(open_with(good, "-1", "2", NULL, NULL), ERR_CONFIG, "from 0 to 1");
    ASSERT_ERR(open_with(good, "0x", "2", NULL, NULL), ERR_CONFIG, "CADVLM_RANK is \"0x\"");
    ASSERT_ERR(open_with(good, "0", "0", NULL, NULL), ERR_CONFIG, "CADVLM_SIZE is \"0\"");
    ASSERT_ERR(open_with(good, "0", "99999999999999999999", NULL, NULL), ERR_CONFIG, "16384");
    static const char *const bad[] = {
        "tcp://127.0.0.1", "tcp://127.0.0.1:0",      "tcp://127.0.0.1:70000",
        "tcp://:29500",    "tcp://127.0.0.1:29500x", "tcp://[]:1",
        "tcp://::1:29500", "file://relative",        "file:///",
        "127.0.0.1:29500", "udp://127.0.0.1:29500"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ASSERT_ERR(open_with(bad[i], "0", "1", NULL, NULL), ERR_CONFIG, "file:///PATH");
    ASSERT_ERR(open_with(good, "0", "1", "CADVLM_JOB", "a/b"), ERR_CONFIG, "\"a/b\"");
    ASSERT_ERR(open_with(good, "0", "1", "CADVLM_RENDEZVOUS_TIMEOUT", "soon"), ERR_CONFIG,
               "CADVLM_RENDEZVOUS_TIMEOUT");
    ASSERT_OK(open_with(good, "0", "1", NULL, NULL));
    setenv("SLURM_PROCID", "0", 1);
    ASSERT_OK(open_with(good, NULL, NULL, "SLURM_NTASKS", "1"));
    ASSERT_ERR(open_with("file:///nowhere/at/all", "0", "2", NULL, NULL), ERR_IO,
               "/nowhere/at/all");
    ASSERT_ERR(open_with("tcp://192.0.2.1:29500", "0", "2", NULL, NULL), ERR_COMM,
               "cannot listen at tcp://192.0.2.1:29500");
}
