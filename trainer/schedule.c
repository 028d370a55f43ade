#include "trainer/schedule.h"

#include <math.h>

static const double PI = 3.14159265358979323846;

double schedule_lr(const TrainingConfig *t, int64_t step, int64_t total) {
    double warmup =
        t->warmup_steps > 0 ? (double)t->warmup_steps : ceil(t->warmup_ratio * (double)total);
    if (warmup > (double)total) warmup = (double)total;
    /* The first step already learns: its rate is that of the end of the step. */
    if ((double)step < warmup) return t->learning_rate * ((double)step + 1) / (warmup + 1);
    if (t->lr_scheduler_type == SCHEDULE_CONSTANT) return t->learning_rate;
    double left = (double)total - warmup;
    double done = left > 0 ? ((double)step - warmup) / left : 1;
    double share = t->lr_scheduler_type == SCHEDULE_COSINE ? 0.5 * (1 + cos(PI * done)) : 1 - done;
    return t->learning_rate * (t->min_lr_ratio + (1 - t->min_lr_ratio) * share);
}
