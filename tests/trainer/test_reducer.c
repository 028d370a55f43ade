/* The tree of micro-batches: the same bits however the micro-batches are dealt to ranks; and NCCL
 * beside it. */
#include "core/hash.h"
#include "core/rng.h"
#include "tests/support/test.h"
#include "trainer/reducer.h"

enum { COUNT = 1003 };

static void leaf(int micro_batch, float *out) {
    Rng rng;
    rng_open(&rng, 5, RNG_TEST, (uint64_t)micro_batch);
    for (int i = 0; i < COUNT; i++) out[i] = (float)rng_normal(&rng);
}

/* The tree by its definition, with recursion. */
static void tree(int level, int index, float *out) {
    if (level == 0) {
        leaf(index, out);
        return;
    }
    float right[COUNT];
    tree(level - 1, 2 * index, out);
    tree(level - 1, 2 * index + 1, right);
    for (int i = 0; i < COUNT; i++) out[i] += right[i];
}

static void whole(int micro_batches, float *out) {
    float part[COUNT];
    for (int at = 0, first = 1; at < micro_batches; first = 0) {
        int level = 0;
        while (at % (2 << level) == 0 && at + (2 << level) <= micro_batches) level++;
        tree(level, at >> level, part);
        for (int i = 0; i < COUNT; i++) out[i] = first ? part[i] : out[i] + part[i];
        at += 1 << level;
    }
}

TEST_RANKS(sum_of_micro_batches_has_the_same_bits_on_any_ranks, 1, 2, 3, 4) {
    Comm *comm;
    Exec *ex;
    ASSERT_OK(comm_open(&comm));
    ASSERT_OK(exec_open(&ex, EXEC_CPU, 1));
    for (int micro_batches = 1; micro_batches <= 13; micro_batches++) {
        Reducer *reducer;
        int first, end;
        ASSERT_OK(reducer_open(&reducer, comm, ex, COUNT, micro_batches, false));
        reducer_micro_batches(micro_batches, comm_rank(comm), comm_size(comm), &first, &end);
        float expected[COUNT];
        whole(micro_batches, expected);
        for (int step = 0; step < 2; step++) {
            float *buffer, *sum;
            for (int micro_batch = first; micro_batch < end; micro_batch++) {
                ASSERT_OK(reducer_begin(reducer, &buffer));
                for (int i = 0; i < COUNT; i++) ASSERT_REAL(buffer[i], ==, 0);
                leaf(micro_batch, buffer);
                reducer_fold(reducer, micro_batch);
            }
            ASSERT_OK(reducer_finish(reducer, &sum));
            for (int i = 0; i < COUNT; i++)
                ASSERT(memcmp(&sum[i], &expected[i], sizeof sum[i]) == 0,
                       "%d micro-batches, element %d: %.9g, the tree gives %.9g", micro_batches, i,
                       (double)sum[i], (double)expected[i]);
        }
        reducer_close(&reducer);
    }
    exec_close(&ex);
    comm_close(&comm);
}

/* ---- on GPUs ---- */

/* Opens the GPU of this rank; of as many emulated ones where that is the backend. */
static void open_gpu(Comm **comm, Exec **ex, const char *emulated) {
    setenv("CADVLM_EMU_DEVICES", emulated, 1);
    const char *why = "";
    int count = exec_device_count(&why);
    if (!count) test_skip(why);
    ASSERT_OK(comm_open(comm));
    ASSERT_OK(exec_open(ex, EXEC_CUDA, comm_local_rank(*comm) % count));
}

/* The tree's bits, whatever the ranks. */
static void expect_the_tree(Comm *comm, Exec *ex, int micro_batches, bool deterministic) {
    Reducer *reducer;
    int first, end;
    float own[COUNT], expected[COUNT], *buffer, *sum;
    ASSERT_OK(reducer_open(&reducer, comm, ex, COUNT, micro_batches, deterministic));
    ASSERT_TRUE(!reducer_overlaps(reducer));
    reducer_micro_batches(micro_batches, comm_rank(comm), comm_size(comm), &first, &end);
    whole(micro_batches, expected);
    for (int step = 0; step < 2; step++) {
        for (int micro_batch = first; micro_batch < end; micro_batch++) {
            ASSERT_OK(reducer_begin(reducer, &buffer));
            ASSERT_TRUE(!reducer_hook(reducer, micro_batch));
            leaf(micro_batch, own);
            exec_upload(ex, buffer, own, sizeof own);
            reducer_fold(reducer, micro_batch);
        }
        ASSERT_OK(reducer_finish(reducer, &sum));
        ASSERT_OK(reducer_wait(reducer));
        exec_download(ex, own, sum, sizeof own);
        ASSERT_OK(exec_status(ex));
        ASSERT(!memcmp(own, expected, sizeof own), "%d micro_batches: not the bits of the tree",
               micro_batches);
    }
    reducer_close(&reducer);
}

TEST_RANKS(deterministic_sums_on_gpus_have_the_bits_of_the_cpu, 1, 2, 3) {
    Comm *comm;
    Exec *ex;
    open_gpu(&comm, &ex, "3");
    for (int micro_batches = 1; micro_batches <= 7; micro_batches++)
        expect_the_tree(comm, ex, micro_batches, true);
    exec_close(&ex);
    comm_close(&comm);
}

TEST_RANKS(ranks_that_share_a_gpu_sum_through_the_host, 2, 3) {
    Comm *comm;
    Exec *ex;
    open_gpu(&comm, &ex, "1");
    if (exec_device_count(NULL) > 1) test_skip("every rank has a GPU of its own");
    for (int micro_batches = 1; micro_batches <= 4; micro_batches++)
        expect_the_tree(comm, ex, micro_batches, false);
    exec_close(&ex);
    comm_close(&comm);
}

/* Three buckets, the last one ragged. */
enum { LARGE = (2 << 20) + 5 };

/* Small whole numbers, whose sums are exact in any order. */
static float element(int step, int micro_batch, int64_t i) {
    return (float)((7 * micro_batch + 3 * step + i) % 101 - 50);
}

/* A micro-batch as the backward pass of a model makes it: adds to the buffer from the end on, and
 * says so.
 */
static void run_micro_batch(Exec *ex, Reducer *reducer, float *own, int step, int micro_batch) {
    static const int64_t ends[] = {LARGE, LARGE - 3, 1500000, 1400000, 1 << 20, 100, 0};
    float *buffer;
    ASSERT_OK(reducer_begin(reducer, &buffer));
    exec_download(ex, own, buffer, LARGE * sizeof *own);
    const GradHook *hook = reducer_hook(reducer, micro_batch);
    for (int part = 0; part < 6; part++) {
        int64_t first = ends[part + 1], count = ends[part] - first;
        for (int64_t i = first; i < first + count; i++) own[i] += element(step, micro_batch, i);
        exec_upload(ex, buffer + first, own + first, (size_t)count * sizeof *own);
        if (hook) hook->ready(hook->context, first, count);
    }
    reducer_fold(reducer, micro_batch);
}

TEST_RANKS(sums_beside_the_backward_pass_are_those_of_all_micro_batches, 1, 2, 3) {
    Comm *comm;
    Exec *ex;
    open_gpu(&comm, &ex, "3");
    int rank = comm_rank(comm), size = comm_size(comm);
    float *own = malloc(LARGE * sizeof *own), *sum;
    ASSERT_TRUE(own);
    /* Of two micro-batches, one of three ranks has none. */
    for (int micro_batches = 2; micro_batches <= 4; micro_batches++) {
        Reducer *reducer;
        int first, end;
        ASSERT_OK(reducer_open(&reducer, comm, ex, LARGE, micro_batches, false));
        reducer_micro_batches(micro_batches, rank, size, &first, &end);
        for (int step = 0; step < 3; step++) {
            for (int micro_batch = first; micro_batch < end; micro_batch++)
                run_micro_batch(ex, reducer, own, step, micro_batch);
            ASSERT_OK(reducer_finish(reducer, &sum));
            if (step != 1) ASSERT_OK(reducer_wait(reducer));
            exec_download(ex, own, sum, LARGE * sizeof *own);
            ASSERT_OK(exec_status(ex));
            for (int64_t i = 0; i < LARGE; i++) {
                float expected = 0;
                for (int micro_batch = 0; micro_batch < micro_batches; micro_batch++)
                    expected += element(step, micro_batch, i);
                ASSERT(own[i] == expected,
                       "%d micro-batches, step %d, element %lld: %g, the sum is %g", micro_batches,
                       step, (long long)i, (double)own[i], (double)expected);
            }
        }
        reducer_close(&reducer);
    }
    free(own);
    exec_close(&ex);
    comm_close(&comm);
}

TEST_RANKS(sums_beside_the_backward_pass_have_the_same_bits_on_all_ranks, 2, 3) {
    Comm *comm;
    Exec *ex;
    Reducer *reducer;
    int first, end, size;
    float own[COUNT], expected[COUNT], *buffer, *sum;
    open_gpu(&comm, &ex, "3");
    size = comm_size(comm);
    ASSERT_OK(reducer_open(&reducer, comm, ex, COUNT, size, false));
    reducer_micro_batches(size, comm_rank(comm), size, &first, &end);
    leaf(first, own);
    ASSERT_OK(reducer_begin(reducer, &buffer));
    exec_upload(ex, buffer, own, sizeof own);
    reducer_fold(reducer, first);
    ASSERT_OK(reducer_finish(reducer, &sum));
    exec_download(ex, own, sum, sizeof own);
    whole(size, expected);
    for (int i = 0; i < COUNT; i++) ASSERT_NEAR(own[i], expected[i], 1e-5);
    uint64_t hash = hash_bytes(own, sizeof own), all[3];
    ASSERT_OK(comm_gather_all(comm, all, &hash, sizeof hash));
    for (int r = 0; r < size; r++) ASSERT_TRUE(all[r] == hash);
    reducer_close(&reducer);
    exec_close(&ex);
    comm_close(&comm);
}

/* CADVLM_NCCL_OVERLAP=0: nothing is asked for before the backward pass is over. */
TEST_RANKS(sums_wait_for_the_backward_pass_where_that_is_asked, 2) {
    Comm *comm;
    Exec *ex;
    Reducer *reducer;
    float own[COUNT], expected[COUNT], *buffer, *sum;
    open_gpu(&comm, &ex, "3");
    for (int overlap = 0; overlap < 2; overlap++) {
        setenv("CADVLM_NCCL_OVERLAP", overlap ? "1" : "0", 1);
        ASSERT_OK(reducer_open(&reducer, comm, ex, COUNT, 2, false));
        ASSERT_INT(reducer_hook(reducer, comm_rank(comm)) != NULL, ==, overlap);
        leaf(comm_rank(comm), own);
        ASSERT_OK(reducer_begin(reducer, &buffer));
        exec_upload(ex, buffer, own, sizeof own);
        reducer_fold(reducer, comm_rank(comm));
        ASSERT_OK(reducer_finish(reducer, &sum));
        exec_download(ex, own, sum, sizeof own);
        whole(2, expected);
        for (int i = 0; i < COUNT; i++) ASSERT_NEAR(own[i], expected[i], 1e-5);
        reducer_close(&reducer);
    }
    exec_close(&ex);
    comm_close(&comm);
}
