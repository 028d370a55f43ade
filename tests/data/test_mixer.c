/* The mixer: a pure function of (seed, n), exact quotas, every sample once a pass, mixed order. */
#include "core/rng.h"
#include "data/mixer.h"
#include "tests/support/test.h"

static Mixer opened(uint64_t seed, int datasets, const double *weights, const size_t *counts) {
    Mixer mixer;
    ASSERT_OK(mixer_open(&mixer, seed, datasets, weights, counts));
    return mixer;
}

static const double weights3[] = {0.7, 0.2, 0.1};
static const size_t counts3[] = {5000, 777, 13};

TEST(choice_is_the_same_from_any_start) {
    enum { N = 6000 };
    static MixerChoice first[N];
    Mixer mixer = opened(9, 3, weights3, counts3);
    for (uint64_t n = 0; n < N; n++) first[n] = mixer_choose(&mixer, n);
    Rng rng;
    rng_open(&rng, 1, RNG_TEST, 0);
    Mixer jumping = opened(9, 3, weights3, counts3);
    for (int i = 0; i < 3000; i++) {
        uint64_t n = rng_below(&rng, N);
        MixerChoice choice = mixer_choose(&jumping, n);
        ASSERT_INT(choice.dataset, ==, first[n].dataset);
        ASSERT_INT(choice.index, ==, first[n].index);
        ASSERT_INT(choice.pass, ==, first[n].pass);
    }
}

TEST(seeds_give_different_orders) {
    Mixer a = opened(1, 3, weights3, counts3), b = opened(2, 3, weights3, counts3);
    int equal = 0;
    for (uint64_t n = 0; n < 1000; n++) {
        MixerChoice x = mixer_choose(&a, n), y = mixer_choose(&b, n);
        equal += x.dataset == y.dataset && x.index == y.index;
    }
    ASSERT_INT(equal, <, 50);
}

TEST(quotas_follow_the_weights_in_every_block) {
    Rng rng;
    rng_open(&rng, 4, RNG_TEST, 0);
    double worst_total = 0, worst_block = 0;
    for (int trial = 0; trial < 60; trial++) {
        int datasets = rng_range(&rng, 1, MIXER_DATASETS_MAX);
        double weights[MIXER_DATASETS_MAX], sum = 0;
        size_t counts[MIXER_DATASETS_MAX];
        for (int d = 0; d < datasets; d++) {
            /* From equal weights to ones far below a sample a block. */
            weights[d] =
                trial % 3 == 0 ? 1 : pow(10, -(trial % 3 == 1 ? 2 : 5) * rng_uniform(&rng));
            counts[d] = 10;
            sum += weights[d];
        }
        Mixer mixer = opened(3, datasets, weights, counts);
        uint64_t before[MIXER_DATASETS_MAX] = {0}, now[MIXER_DATASETS_MAX];
        for (uint64_t block = 1; block <= 400; block++) {
            mixer_ledger(&mixer, block * MIXER_BLOCK, now);
            uint64_t total = 0;
            for (int d = 0; d < datasets; d++) {
                double share = weights[d] / sum * MIXER_BLOCK;
                double off = fabs((double)now[d] - share * (double)block);
                double here = fabs((double)(now[d] - before[d]) - share);
                if (off > worst_total) worst_total = off;
                if (here > worst_block) worst_block = here;
                ASSERT_INT(now[d], >=, before[d]);
                total += now[d];
            }
            ASSERT_INT(total, ==, block * MIXER_BLOCK);
            memcpy(before, now, sizeof before);
        }
    }
    printf("most ahead or behind: %.3f samples in all, %.3f in a block\n", worst_total,
           worst_block);
    ASSERT_REAL(worst_total, <, 1.001); /* rounding of the shares: 400 · 1024 · 2^-32 */
    ASSERT_REAL(worst_block, <, 2);
}

TEST(ledger_equals_counting) {
    Mixer mixer = opened(5, 3, weights3, counts3), other = opened(5, 3, weights3, counts3);
    uint64_t counted[MIXER_DATASETS_MAX] = {0}, ledger[MIXER_DATASETS_MAX];
    for (uint64_t n = 0; n < 5000; n++) {
        if (n % 97 == 0 || n % MIXER_BLOCK < 2) {
            mixer_ledger(&other, n, ledger);
            ASSERT_INT(memcmp(counted, ledger, sizeof counted), ==, 0);
        }
        counted[mixer_choose(&mixer, n).dataset]++;
    }
}

TEST(every_sample_comes_once_a_pass) {
    Mixer mixer = opened(6, 3, weights3, counts3);
    static uint8_t seen[3][5000];
    uint64_t passes[3] = {0}, drawn[3] = {0};
    int order_changed = 0;
    static size_t last_order[13], this_order[13];
    for (uint64_t n = 0; n < 40000; n++) {
        MixerChoice choice = mixer_choose(&mixer, n);
        int d = choice.dataset;
        ASSERT_INT(choice.index, <, counts3[d]);
        ASSERT_INT(choice.pass, ==, drawn[d] / counts3[d]);
        if (choice.pass != passes[d]) {
            for (size_t i = 0; i < counts3[d]; i++) ASSERT_INT(seen[d][i], ==, 1);
            memset(seen[d], 0, counts3[d]);
            passes[d] = choice.pass;
            if (d == 2) {
                order_changed += memcmp(last_order, this_order, sizeof last_order) != 0;
                memcpy(last_order, this_order, sizeof last_order);
            }
        }
        if (d == 2) this_order[drawn[d] % 13] = choice.index;
        ASSERT_INT(seen[d][choice.index]++, ==, 0);
        drawn[d]++;
    }
    ASSERT_INT(passes[2], >, 200);
    ASSERT_INT(order_changed, >=, (int)passes[2] - 1);
}

/* Chi-square of counts against equal expectation. */
static double chi_square(const int *counts, int cells, double expected) {
    double sum = 0;
    for (int i = 0; i < cells; i++) sum += (counts[i] - expected) * (counts[i] - expected);
    return sum / expected;
}

TEST(order_is_mixed) {
    /* Over many blocks: dataset 1 of 20 % falls on every sixteenth of the block equally often, the
     * pairs of neighbours are as frequent as independence says, and so are indices. Bounds: the
     * mean of chi-square plus six standard deviations. */
    enum { CELLS = 16, BLOCKS = 400 };
    const size_t counts[] = {1000, 1000};
    const double weights[] = {0.8, 0.2};
    Mixer mixer = opened(8, 2, weights, counts);
    int cells[CELLS] = {0}, pairs[2][2] = {{0}}, indices[10] = {0}, last = -1, drawn = 0;
    for (uint64_t n = 0; n < (uint64_t)BLOCKS * MIXER_BLOCK; n++) {
        MixerChoice choice = mixer_choose(&mixer, n);
        if (choice.dataset == 1) cells[n % MIXER_BLOCK * CELLS / MIXER_BLOCK]++;
        if (last >= 0) pairs[last][choice.dataset]++;
        last = choice.dataset;
        /* The first hundred of each pass are spread over the dataset. */
        if (choice.dataset == 0 && drawn++ % 1000 < 100) indices[choice.index / 100]++;
    }
    double expected = 0.2 * BLOCKS * MIXER_BLOCK / CELLS;
    double spread = chi_square(cells, CELLS, expected);
    double total = (double)BLOCKS * MIXER_BLOCK - 1;
    double together = pairs[1][1] / (total * 0.04), index_total = 0;
    for (int i = 0; i < 10; i++) index_total += indices[i];
    double index_spread = chi_square(indices, 10, index_total / 10);
    printf("chi-square %.1f of 15, neighbours %.4f of 1, indices %.1f of 9\n", spread, together,
           index_spread);
    ASSERT_REAL(spread, <, 15 + 6 * sqrt(30.0));
    ASSERT_NEAR(together, 1, 0.06);
    ASSERT_REAL(index_spread, <, 9 + 6 * sqrt(18.0));
}

TEST(far_samples_are_reached_quickly) {
    Mixer mixer = opened(1, 3, weights3, counts3);
    MixerChoice far = mixer_choose(&mixer, 1000000000); /* a thousand epochs of a million */
    Mixer again = opened(1, 3, weights3, counts3);
    uint64_t ledger[MIXER_DATASETS_MAX];
    mixer_ledger(&again, 1000000000, ledger);
    ASSERT_NEAR(ledger[0], 7e8, 103);
    ASSERT_INT(far.pass, ==, ledger[far.dataset] / counts3[far.dataset]);
}

TEST(impossible_mixes_are_named) {
    Mixer mixer;
    double weights[] = {1, 0, 1};
    size_t counts[] = {1, 1, 0};
    ASSERT_ERR(mixer_open(&mixer, 0, 3, weights, counts), ERR_CONFIG,
               "the weight of dataset 1 is 0");
    weights[1] = NAN;
    ASSERT_ERR(mixer_open(&mixer, 0, 3, weights, counts), ERR_CONFIG, "dataset 1 is nan");
    weights[1] = 1e-12;
    ASSERT_ERR(mixer_open(&mixer, 0, 3, weights, counts), ERR_CONFIG, "dataset 2 has no sample");
    counts[2] = 1;
    ASSERT_ERR(mixer_open(&mixer, 0, 3, weights, counts), ERR_CONFIG, "too little");
    ASSERT_ERR(mixer_open(&mixer, 0, 0, weights, counts), ERR_CONFIG, "0 datasets");
    ASSERT_ERR(mixer_open(&mixer, 0, 65, weights, counts), ERR_CONFIG, "65 datasets");
    weights[1] = 1e308, weights[0] = 1e308, weights[2] = 1e308;
    ASSERT_ERR(mixer_open(&mixer, 0, 3, weights, counts), ERR_CONFIG, "no finite sum");
}

TEST(datasets_of_one_size_have_orders_of_their_own) {
    enum { COUNT = 200 };
    Mixer mixer = opened(8, 2, (double[]){1, 1}, (size_t[]){COUNT, COUNT});
    size_t order[2][COUNT];
    int drawn[2] = {0}, same = 0;
    for (uint64_t n = 0; drawn[0] < COUNT || drawn[1] < COUNT; n++) {
        MixerChoice choice = mixer_choose(&mixer, n);
        int d = choice.dataset;
        if (drawn[d] < COUNT) order[d][drawn[d]++] = choice.index;
    }
    for (int i = 0; i < COUNT; i++) same += order[0][i] == order[1][i];
    ASSERT_INT(same, <, 10); /* one, if they are independent */
}

/* ---- curriculum ---- */

/* The formula of data/mixer.h once more: what takes part of 5000 and 777 in a stage of sixteen. */
static size_t expected_size(size_t count, double start, int stage) {
    return (size_t)ceil((start + (1 - start) * stage / 16) * (double)count);
}

TEST(a_curriculum_goes_from_the_first_samples_to_all_in_even_stages) {
    enum { STAGED = 20000 };
    const double start = 0.2;
    Mixer mixer = opened(6, 3, weights3, counts3);
    mixer_set_curriculum(&mixer, start, STAGED);
    uint64_t due[MIXER_DATASETS_MAX], drawn[3] = {0};
    Mixer plain = opened(6, 3, weights3, counts3);
    mixer_ledger(&plain, STAGED, due);
    static uint8_t seen[3][5000];
    uint64_t pass[3] = {0}, in_pass[3] = {0};
    size_t order[2][13] = {{0}}, last_size = 0; /* of the small set's last two passes */
    int passes = 0, repeated = 0;
    int stages[3] = {-1, -1, -1};
    size_t largest[3][17] = {{0}};
    for (uint64_t n = 0; n < 2 * STAGED; n++) {
        MixerChoice choice = mixer_choose(&mixer, n);
        int d = choice.dataset, stage = (int)(drawn[d] * 16 / due[d]);
        if (stage > 16) stage = 16;
        size_t size = stage == 16 ? counts3[d] : expected_size(counts3[d], start, stage);
        ASSERT_INT(choice.index, <, size);
        bool next_stage = stage != stages[d], next_pass = !next_stage && choice.pass != pass[d];
        if (next_stage) ASSERT_INT(choice.pass, ==, 0);
        if (next_pass) ASSERT_INT(in_pass[d], ==, size); /* whole passes, but for a stage's last */
        if (next_pass && d == 2 && size == last_size) {
            repeated += !memcmp(order[0], order[1], size * sizeof order[0][0]);
            passes++;
        }
        if (next_stage || next_pass) {
            memset(seen[d], 0, counts3[d]);
            in_pass[d] = 0;
            if (d == 2)
                memcpy(order[0], order[1], sizeof order[0]), last_size = next_pass ? size : 0;
        }
        if (d == 2) order[1][in_pass[2]] = choice.index;
        in_pass[d]++;
        ASSERT_INT(seen[d][choice.index]++, ==, 0); /* once a pass of a stage */
        if (stage == stages[d] && choice.pass != pass[d]) ASSERT_INT(choice.pass, ==, pass[d] + 1);
        stages[d] = stage;
        pass[d] = choice.pass;
        if (choice.index + 1 > largest[d][stage]) largest[d][stage] = choice.index + 1;
        drawn[d]++;
    }
    ASSERT_INT(passes, >, 100);
    ASSERT_INT(repeated, <, passes / 4); /* of two or three samples some orders come again */
    /* Each stage reaches near its end, and the small set, seen often, all of what takes part. */
    for (int stage = 0; stage <= 16; stage++) {
        size_t size = stage == 16 ? counts3[0] : expected_size(counts3[0], start, stage);
        ASSERT_INT(largest[0][stage], >, size - size / 20);
        size = stage == 16 ? counts3[2] : expected_size(counts3[2], start, stage);
        ASSERT_INT(largest[2][stage], ==, size);
    }
}

TEST(a_curriculum_changes_no_quota_and_is_the_same_from_any_start) {
    enum { N = 6000, STAGED = 3000 };
    static MixerChoice first[N];
    Mixer mixer = opened(9, 3, weights3, counts3), plain = opened(9, 3, weights3, counts3);
    mixer_set_curriculum(&mixer, 0.1, STAGED);
    for (uint64_t n = 0; n < N; n++) {
        first[n] = mixer_choose(&mixer, n);
        ASSERT_INT(first[n].dataset, ==, mixer_choose(&plain, n).dataset);
    }
    Rng rng;
    rng_open(&rng, 1, RNG_TEST, 0);
    Mixer jumping = opened(9, 3, weights3, counts3);
    mixer_set_curriculum(&jumping, 0.1, STAGED);
    for (int i = 0; i < 3000; i++) {
        uint64_t n = rng_below(&rng, N);
        MixerChoice choice = mixer_choose(&jumping, n);
        ASSERT_INT(choice.index, ==, first[n].index);
        ASSERT_INT(choice.pass, ==, first[n].pass);
    }
}

TEST(a_curriculum_of_all_or_none_of_the_samples_is_possible) {
    Mixer mixer = opened(2, 3, weights3, counts3);
    mixer_set_curriculum(&mixer, 0, 1000); /* the very first sample of each, again and again */
    int first = 0;
    for (uint64_t n = 0; n < 6; n++) first += mixer_choose(&mixer, n).index == 0;
    ASSERT_INT(first, ==, 6);
    mixer_set_curriculum(&mixer, 1, 1000);
    size_t largest = 0;
    for (uint64_t n = 0; n < 100; n++) {
        MixerChoice choice = mixer_choose(&mixer, n);
        if (choice.dataset == 0 && choice.index > largest) largest = choice.index;
    }
    ASSERT_INT(largest, >, 4000);
    Mixer plain = opened(2, 3, weights3, counts3);
    mixer_set_curriculum(&mixer, 0.5, 0);
    for (uint64_t n = 0; n < 2000; n++)
        ASSERT_INT(mixer_choose(&mixer, n).index, ==, mixer_choose(&plain, n).index);
}
