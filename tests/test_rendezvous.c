/* Ranks that meet without MPI: what test_comm.c asks of MPI, and what a network can do to them. */
#include "tests/rendezvous_fixture.h"

/* ---- what a rank may do ---- */

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
