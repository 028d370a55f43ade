/* Collectives on 1, 2 and 3 ranks. */
#include "comm/comm.h"
#include "tests/test.h"

TEST_RANKS(collectives_agree_on_every_rank, 1, 2, 3) {
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

static Err fail_on(int rank, int who, Err code) {
    REQUIRE(rank != who, code, "no room on rank %d", rank);
    return OK;
}

TEST_RANKS(one_failing_rank_is_heard_by_all, 2, 3) {
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
