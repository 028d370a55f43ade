/* Collectives on 1, 2, 3 and 5 ranks. */
#include <sched.h>
#include <unistd.h>

#include "comm/comm.h"
#include "core/rng.h"
#include "tests/support/test.h"

TEST_RANKS(collectives_agree_on_every_rank, 1, 2, 3, 5) {
    Comm *comm;
    ASSERT_OK(comm_open(&comm));
    int rank = comm_rank(comm), size = comm_size(comm);

    int word = rank == 0 ? 42 : 0;
    ASSERT_OK(comm_broadcast(comm, &word, sizeof word));
    ASSERT_INT(word, ==, 42);

    int all[8];
    ASSERT_OK(comm_gather_all(comm, all, &rank, sizeof rank));
    for (int i = 0; i < size; i++) ASSERT_INT(all[i], ==, i);

    /* Rank r owns r + 1 floats. */
    float owned[64] = {0};
    int64_t counts[8], offsets[8], total = 0;
    for (int i = 0; i < size; i++) {
        counts[i] = i + 1;
        offsets[i] = total;
        total += i + 1;
    }
    for (int i = 0; i <= rank; i++) owned[offsets[rank] + i] = (float)(10 * rank + i);
    ASSERT_OK(comm_gather_floats(comm, owned, owned + offsets[rank], counts, offsets));
    for (int r = 0; r < size; r++)
        for (int i = 0; i <= r; i++) ASSERT_REAL(owned[offsets[r] + i], ==, 10 * r + i);

    /* Rank r sends r + 1 floats to everyone. */
    float send[64], got[64];
    int64_t send_counts[8], got_counts[8];
    for (int r = 0; r < size; r++) {
        send_counts[r] = rank + 1;
        got_counts[r] = r + 1;
        for (int i = 0; i <= rank; i++) send[r * (rank + 1) + i] = (float)(100 * rank + 10 * r + i);
    }
    ASSERT_OK(comm_exchange_floats(comm, got, got_counts, send, send_counts));
    for (int r = 0, at = 0; r < size; r++)
        for (int i = 0; i <= r; i++) ASSERT_REAL(got[at++], ==, 100 * r + 10 * rank + i);

    bool any;
    ASSERT_OK(comm_any(comm, rank == size - 1, &any));
    ASSERT_TRUE(any);
    ASSERT_OK(comm_any(comm, false, &any));
    ASSERT_TRUE(!any);
    ASSERT_OK(comm_barrier(comm));
    comm_close(&comm);
}

/* What rank `from` has for rank `to`, at index i. */
static float value_of(int from, int to, int64_t i) {
    uint32_t out[4];
    rng_block(out, 7, (uint64_t)(from * 64 + to), (uint64_t)(i / 4));
    return (float)out[i % 4];
}

/* About a million floats, of every residue, and none where (from + to) is a multiple of 3. */
static int64_t count_of(int from, int to) {
    return (from + to) % 3 == 0 ? 0 : 1000003 + 31 * from - 17 * to;
}

/* All ranks send at once, far more than sockets hold: they must not wait for each other. */
TEST_RANKS(large_and_empty_runs_arrive_whole, 1, 2, 3, 5) {
    Comm *comm;
    ASSERT_OK(comm_open(&comm));
    int rank = comm_rank(comm), size = comm_size(comm);
    int64_t out[8], in[8], sent = 0, got = 0;
    for (int r = 0; r < size; r++) {
        sent += out[r] = count_of(rank, r);
        got += in[r] = count_of(r, rank);
    }
    float *send = malloc((size_t)sent * sizeof *send + 4),
          *received = malloc((size_t)got * sizeof *received + 4);
    for (int64_t r = 0, at = 0; r < size; at += out[r], r++)
        for (int64_t i = 0; i < out[r]; i++) send[at + i] = value_of(rank, (int)r, i);
    ASSERT_OK(comm_exchange_floats(comm, received, in, send, out));
    for (int64_t r = 0, at = 0; r < size; at += in[r], r++)
        for (int64_t i = 0; i < in[r]; i++)
            ASSERT_REAL(received[at + i], ==, value_of((int)r, rank, i));
    free(received);

    /* The same runs gathered, rank r's first; from elsewhere, and in reverse order. */
    int64_t counts[8], offsets[8], total = 0;
    for (int r = size - 1; r >= 0; r--) {
        counts[r] = count_of(r, 0);
        offsets[r] = total;
        total += counts[r];
    }
    float *all = malloc((size_t)total * sizeof *all + 4);
    ASSERT_OK(comm_gather_floats(comm, all, send, counts, offsets));
    for (int r = 0; r < size; r++)
        for (int64_t i = 0; i < counts[r]; i++)
            ASSERT_REAL(all[offsets[r] + i], ==, value_of(r, 0, i));
    free(send);

    /* Broadcast and gathered bytes beyond what a socket holds. */
    size_t bytes = 3000017;
    char *data = malloc(bytes), *everybody = malloc(bytes * (size_t)size);
    for (size_t i = 0; i < bytes; i++) data[i] = rank == 0 ? (char)(i * 31 >> 3) : 0;
    ASSERT_OK(comm_broadcast(comm, data, bytes));
    for (size_t i = 0; i < bytes; i++) ASSERT_INT(data[i], ==, (char)(i * 31 >> 3));
    data[bytes - 1] = (char)rank;
    ASSERT_OK(comm_gather_all(comm, everybody, data, bytes));
    for (int r = 0; r < size; r++) {
        ASSERT_INT(everybody[bytes * (size_t)r + bytes - 1], ==, r);
        ASSERT_INT(memcmp(everybody + bytes * (size_t)r, data, bytes - 1), ==, 0);
    }
    ASSERT_OK(comm_gather_all(comm, everybody, data, 0));
    ASSERT_OK(comm_broadcast(comm, data, 0));
    free(everybody);
    free(data);
    free(all);
    comm_close(&comm);
}

TEST_RANKS(ranks_of_this_machine_are_numbered, 1, 2, 3, 5) {
    Comm *comm;
    ASSERT_OK(comm_open(&comm));
    ASSERT_INT(comm_local_rank(comm), ==, comm_rank(comm));
    ASSERT_INT(comm_local_size(comm), ==, comm_size(comm));
    comm_close(&comm);
}

static Err fail_on(int rank, int who, Err code) {
    REQUIRE(rank != who, code, "no room on rank %d", rank);
    return OK;
}

TEST_RANKS(one_failing_rank_is_heard_by_all, 2, 3, 5) {
    Comm *comm;
    ASSERT_OK(comm_open(&comm));
    int rank = comm_rank(comm);
    ASSERT_OK(comm_agree(comm, OK));
    Err err = comm_agree(comm, fail_on(rank, 1, ERR_IO));
    ASSERT_INT(err, ==, rank == 1 ? ERR_IO : ERR_COMM);
    ASSERT_CONTAINS(err_message(), "no room on rank 1");
    if (rank != 1) ASSERT_CONTAINS(err_message(), "rank 1: ");
    err = comm_agree(comm, fail_on(rank, 1, ERR_CONFIG));
    ASSERT_INT(err, ==, ERR_CONFIG);
    comm_close(&comm);
}

/* Ranks of one machine share its processors where their affinity is the same, and only there. */
TEST_RANKS(ranks_count_with_whom_they_share_processors, 1, 3) {
    cpu_set_t all, one;
    ASSERT_INT(sched_getaffinity(0, sizeof all, &all), ==, 0);
    const char *given = getenv("OMPI_COMM_WORLD_RANK");
    bool alone = given && atoi(given) == 2 && CPU_COUNT(&all) > 1; /* bound by itself */
    int first = 0;
    while (!CPU_ISSET(first, &all)) first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    if (alone) ASSERT_INT(sched_setaffinity(0, sizeof one, &one), ==, 0);
    Comm *comm;
    ASSERT_OK(comm_open(&comm));
    int size = comm_size(comm), others = given && size == 3 && CPU_COUNT(&all) > 1 ? 2 : size;
    ASSERT_INT(comm_sharing(comm), ==, alone ? 1 : others);
    comm_close(&comm);
}

/* Three ranks of which the second does not come, while the third, who waits too, answers. */
TEST(a_rank_that_does_not_come_is_named_and_the_job_ends) {
    const char *said;
    if (getenv("CADVLM_TEST_STALL")) {
        Comm *comm;
        ASSERT_OK(comm_open(&comm));
        comm_set_patience(comm, comm_rank(comm) == 0 ? test_patience(1) : 1e6);
        if (comm_rank(comm) == 1) sleep(1000);
        IGNORE(comm_barrier(comm));
    }
    int code = test_run(&said,
                        "timeout -k 5 %g mpirun --allow-run-as-root --oversubscribe --bind-to "
                        "none -x CADVLM_TEST_STALL=1 -n 3 tests/test_comm "
                        "a_rank_that_does_not_come_is_named_and_the_job_ends",
                        test_patience(30));
    ASSERT_INT(code, !=, 0);
    ASSERT_CONTAINS(said, "rank 0: error: rank 0 of 3 on ");
    ASSERT_CONTAINS(said, "for the other ranks; what does not come hangs, or is busy with "
                          "something else: rank 1 on ");
    ASSERT_TRUE(!strstr(said, "rank 2 on"));
}
