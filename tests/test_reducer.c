/* The tree of slots: the same bits however the slots are dealt to ranks. */
#include "core/hash.h"
#include "core/rng.h"
#include "tests/test.h"
#include "trainer/reducer.h"

enum { COUNT = 1003 };

static void leaf(int slot, float *out) {
    Rng rng;
    rng_open(&rng, 5, RNG_TEST, (uint64_t)slot);
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

static void whole(int slots, float *out) {
    float part[COUNT];
    for (int at = 0, first = 1; at < slots; first = 0) {
        int level = 0;
        while (at % (2 << level) == 0 && at + (2 << level) <= slots) level++;
        tree(level, at >> level, part);
        for (int i = 0; i < COUNT; i++) out[i] = first ? part[i] : out[i] + part[i];
        at += 1 << level;
    }
}

TEST_RANKS(sum_of_slots_has_the_same_bits_on_any_ranks, 1, 2, 3, 4) {
    Comm *comm;
    Exec *ex;
    ASSERT_OK(comm_open(&comm));
    ASSERT_OK(exec_open(&ex, EXEC_CPU, 1));
    for (int slots = 1; slots <= 13; slots++) {
        Reducer *reducer;
        int first, end;
        ASSERT_OK(reducer_open(&reducer, comm, ex, COUNT, slots));
        reducer_slots(slots, comm_rank(comm), comm_size(comm), &first, &end);
        float expected[COUNT];
        whole(slots, expected);
        for (int step = 0; step < 2; step++) {
            float *buffer, *sum;
            for (int slot = first; slot < end; slot++) {
                ASSERT_OK(reducer_begin(reducer, &buffer));
                for (int i = 0; i < COUNT; i++) ASSERT_REAL(buffer[i], ==, 0);
                leaf(slot, buffer);
                reducer_fold(reducer, slot);
            }
            ASSERT_OK(reducer_finish(reducer, &sum));
            for (int i = 0; i < COUNT; i++)
                ASSERT(memcmp(&sum[i], &expected[i], sizeof sum[i]) == 0,
                       "%d slots, element %d: %.9g, the tree gives %.9g", slots, i, (double)sum[i],
                       (double)expected[i]);
        }
        reducer_close(&reducer);
    }
    exec_close(&ex);
    comm_close(&comm);
}
