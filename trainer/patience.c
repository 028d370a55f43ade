#include "trainer/patience.h"

#include <math.h>

void patience_count(TrainState *state, double loss) {
    bool better = isnan(state->best_val_loss) || loss < state->best_val_loss;
    state->worse = better ? 0 : state->worse + 1;
    if (!better) return;
    state->best_val_loss = loss;
    state->best_step = state->step;
}

bool patience_is_over(const TrainState *state, int64_t patience) {
    return patience && state->worse >= patience;
}
