/* The learning rate over the steps, by its formulas: with w steps of warm-up of n steps in all,
 * peak · (step + 1)/(w + 1) in the warm-up, then from the peak at step w to peak · min_lr_ratio
 * where step n would be. */
#include "tests/support/test.h"
#include "trainer/schedule.h"

#define PEAK 3e-4

static TrainingConfig plan(Schedule type, double ratio, int64_t steps, double least) {
    return (TrainingConfig){.learning_rate = PEAK,
                            .lr_scheduler_type = type,
                            .warmup_ratio = ratio,
                            .warmup_steps = steps,
                            .min_lr_ratio = least};
}

static void check(const TrainingConfig *t, int64_t step, int64_t total, double share_of_peak) {
    ASSERT_NEAR(schedule_lr(t, step, total) / PEAK, share_of_peak, 1e-12);
}

TEST(warm_up_by_ratio_rises_over_its_share_of_the_steps) {
    static const Schedule types[] = {SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_CONSTANT};
    for (int i = 0; i < 3; i++) {
        TrainingConfig t = plan(types[i], 0.05, 0, 0);
        for (int step = 0; step < 5; step++) check(&t, step, 100, (step + 1) / 6.0);
        check(&t, 5, 100, 1);
        for (int step = 0; step < 7; step++) check(&t, step, 121, (step + 1) / 8.0); /* ⌈6.05⌉ */
        check(&t, 7, 121, 1);
    }
}

TEST(warm_up_in_steps_goes_before_the_ratio) {
    TrainingConfig t = plan(SCHEDULE_CONSTANT, 0.5, 3, 0);
    for (int step = 0; step < 3; step++) check(&t, step, 100, (step + 1) / 4.0);
    for (int step = 3; step < 100; step++) check(&t, step, 100, 1);
    t = plan(SCHEDULE_LINEAR, 0, 0, 0); /* none at all */
    check(&t, 0, 8, 1);
    t = plan(SCHEDULE_LINEAR, 0, 50, 0); /* longer than the run: it only rises */
    for (int step = 0; step < 8; step++) check(&t, step, 8, (step + 1) / 9.0);
}

TEST(the_rate_falls_as_a_cosine_to_its_least) {
    TrainingConfig t = plan(SCHEDULE_COSINE, 0, 20, 0.1);
    check(&t, 20, 100, 1);
    check(&t, 40, 100, 0.1 + 0.9 * (2 + sqrt(2)) / 4); /* (1 + cos 45°)/2 */
    check(&t, 60, 100, 0.55);
    check(&t, 80, 100, 0.1 + 0.9 * (2 - sqrt(2)) / 4);
    check(&t, 100, 100, 0.1);
    t.min_lr_ratio = 0;
    check(&t, 60, 100, 0.5);
    check(&t, 100, 100, 0);
}

TEST(the_rate_falls_in_a_line_to_its_least) {
    TrainingConfig t = plan(SCHEDULE_LINEAR, 0.2, 0, 0.25);
    check(&t, 20, 100, 1);
    check(&t, 40, 100, 0.8125);
    check(&t, 60, 100, 0.625);
    check(&t, 99, 100, 0.25 + 0.75 / 80);
    check(&t, 100, 100, 0.25);
}

TEST(a_constant_rate_stays_whatever_its_least_is) {
    TrainingConfig t = plan(SCHEDULE_CONSTANT, 0.02, 0, 0.1);
    for (int step = 2; step <= 100; step++) check(&t, step, 100, 1);
}
