/* Connections that are of no rank of the job, and files that other jobs have left. */
#include "tests/rendezvous_fixture.h"

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
