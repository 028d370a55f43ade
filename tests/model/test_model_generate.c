/* Generation: with a cache, side by side, to its end. */
#include <signal.h>

#include "core/signals.h"
#include "model/model.h"
#include "model/model_internal.h"
#include "tests/model/model_fixture.h"
#include "tests/support/test.h"
#include "tests/support/tiny.h"

enum { NEW = 9 };

/* Generates, and finds each token again by a full pass over those before it. The first sample's
 * tokens go to `first`; returns how many samples ended. */
static int compare_generation(Tiny *tiny, const Batch *batch, int eos, int *first) {
    Generation generations[3];
    int ended = 0;
    ASSERT_OK(model_generate(tiny->model, batch, eos, NEW, generations));
    for (int i = 0; i < generations[0].count; i++) first[i] = generations[0].ids[i];
    for (int s = 0; s < 3; s++) {
        Generation *g = &generations[s];
        ended += g->ended;
        printf("sample %d: %d tokens, confidence %.3f\n", s, g->count, g->confidence);
        ASSERT_TRUE(g->count == NEW || g->ended);
        ASSERT_TRUE(g->confidence > 0 && g->confidence <= 1);
        /* Teacher forcing with the generated tokens: each must be what the full pass finds most
         * likely, so that hits = labels. */
        int prompt = batch->image_rows + 1, rows = prompt + g->count,
            labels = g->count + (g->ended ? 1 : 0);
        int32_t ids[64], positions[64], starts[2] = {0, rows}, label_rows[64], targets[64];
        for (int i = 0; i < rows; i++) {
            positions[i] = i;
            ids[i] = i < batch->image_rows    ? -1 - i
                     : i == batch->image_rows ? 1
                                              : g->ids[i - prompt];
        }
        for (int i = 0; i < labels; i++) {
            label_rows[i] = prompt - 1 + i;
            targets[i] = i < g->count ? g->ids[i] : eos;
        }
        Batch full = {.samples = 1,
                      .tokens = rows,
                      .labels = labels,
                      .images = 1,
                      .image_rows = batch->image_rows,
                      .longest = rows,
                      .ids = ids,
                      .positions = positions,
                      .starts = starts,
                      .label_rows = label_rows,
                      .targets = targets,
                      .image_size = batch->image_size,
                      .image_channels = 1,
                      .pixels =
                          batch->pixels + (size_t)(s * batch->image_size * batch->image_size)};
        double sum;
        int64_t hits;
        ASSERT_OK(model_forward(tiny->model, &full, false));
        ASSERT_OK(model_loss(tiny->model, &sum, &hits));
        ASSERT_INT(hits, ==, labels);
        ASSERT_NEAR(exp(-sum / labels), g->confidence, 1e-4);
        free(g->ids);
    }
    return ended;
}

/* The cache must give what a full pass over the same tokens gives. */
TEST(generation_with_a_cache_equals_full_passes) {
    ModelSpec spec;
    tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    Tiny tiny;
    tiny_open(&tiny, &spec, DT_F32, 1);
    shake(&tiny);
    Batch batch = tiny_batch(&spec, 3, 6);
    /* Once more with an end token that is written, so that it counts for the confidence. */
    int first[NEW] = {0};
    compare_generation(&tiny, &batch, TINY_EOS, first);
    ASSERT_INT(compare_generation(&tiny, &batch, first[3], first), >, 0);
    tiny_batch_free(&batch);
    tiny_close(&tiny);
}

/* Prompts of their own lengths, the last the shortest (without labels all rows are prompt): each is
 * gone on with as if it were alone. */
TEST(prompts_of_other_lengths_do_not_see_each_other) {
    static const int texts[] = {20, 40, 3};
    ModelSpec spec;
    tiny_spec_of(&spec, TINY_LLAMA, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    Tiny tiny;
    tiny_open(&tiny, &spec, DT_F32, 1);
    shake(&tiny);
    Batch batch = tiny_batch_of(&spec, texts, 3, 4);
    Generation together[3], alone;
    batch.labels = 0;
    ASSERT_OK(model_generate(tiny.model, &batch, TINY_EOS, NEW, together));
    for (int s = 0; s < 3; s++) {
        int rows = batch.starts[s + 1] - batch.starts[s];
        int32_t ids[64], starts[2] = {0, rows};
        for (int i = 0; i < rows; i++)
            ids[i] = i < batch.image_rows ? -1 - i : batch.ids[batch.starts[s] + i];
        Batch one = batch;
        one.samples = one.images = 1;
        one.tokens = one.longest = rows;
        one.ids = ids;
        one.starts = starts;
        one.pixels = batch.pixels + (size_t)(s * batch.image_size * batch.image_size);
        ASSERT_OK(model_generate(tiny.model, &one, TINY_EOS, NEW, &alone));
        ASSERT_INT(alone.count, ==, together[s].count);
        ASSERT_INT(memcmp(alone.ids, together[s].ids, (size_t)alone.count * sizeof *alone.ids), ==,
                   0);
        ASSERT_NEAR(alone.confidence, together[s].confidence, 1e-4);
        free(alone.ids);
        free(together[s].ids);
    }
    tiny_batch_free(&batch);
    tiny_close(&tiny);
}

/* The last token needs no place of its own: a sequence ends where the next would be the first
 * beyond. Its neighbours in the cache stay as they were. */
TEST(generation_ends_where_the_model_has_no_more_positions) {
    enum { POSITIONS = 14, ROOM = 64, NEVER = -1 };
    ModelSpec spec;
    tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    spec.max_positions = POSITIONS;
    Tiny tiny;
    tiny_open(&tiny, &spec, DT_F32, 1);
    shake(&tiny);
    Batch batch = tiny_batch(&spec, 3, 6);
    int prompt = batch.image_rows + 1;
    ASSERT_INT(prompt, <, POSITIONS - 2);
    Generation free_run[3], short_run[3];
    ASSERT_OK(model_generate(tiny.model, &batch, NEVER, ROOM, free_run));
    ASSERT_OK(model_generate(tiny.model, &batch, NEVER, POSITIONS - prompt, short_run));
    for (int s = 0; s < 3; s++) {
        ASSERT_INT(free_run[s].count, ==, POSITIONS - prompt + 1);
        ASSERT_TRUE(!free_run[s].ended && !free_run[s].broken);
        ASSERT_INT(short_run[s].count, ==, POSITIONS - prompt);
        ASSERT_INT(memcmp(free_run[s].ids, short_run[s].ids,
                          (size_t)(POSITIONS - prompt) * sizeof(int32_t)),
                   ==, 0);
        free(free_run[s].ids);
        free(short_run[s].ids);
    }
    tiny_batch_free(&batch);
    tiny_close(&tiny);
}

/* Weights too large for their type, say: no confidence of -nan. */
TEST(a_model_that_gives_no_numbers_says_so) {
    ModelSpec spec;
    tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    Tiny tiny;
    tiny_open(&tiny, &spec, DT_F32, 1);
    Batch batch = tiny_batch(&spec, 2, 6);
    const Params *params = model_params(tiny.model);
    for (int i = 0; i < params->count; i++) {
        if (params->items[i].kind != PARAM_MATRIX) continue;
        Tensor w = param_value(params, i);
        for (int64_t k = 0; k < w.rows * w.cols; k++) ((float *)w.data)[k] = 3e38f;
    }
    Generation generations[2];
    ASSERT_OK(model_generate(tiny.model, &batch, TINY_EOS, 5, generations));
    for (int s = 0; s < 2; s++) {
        ASSERT_TRUE(generations[s].broken && !generations[s].ended);
        ASSERT_INT(generations[s].count, ==, 0);
        ASSERT_REAL(generations[s].confidence, ==, 0);
        free(generations[s].ids);
    }
    tiny_batch_free(&batch);
    tiny_close(&tiny);
}

TEST(a_signal_ends_generation) {
    ModelSpec spec;
    tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    Tiny tiny;
    tiny_open(&tiny, &spec, DT_F32, 1);
    shake(&tiny);
    Batch batch = tiny_batch(&spec, 2, 6);
    Generation generations[2];
    signals_catch();
    ASSERT_INT(raise(SIGTERM), ==, 0);
    ASSERT_ERR(model_generate(tiny.model, &batch, -1, 8, generations), ERR_STOPPED,
               "stopped by a signal");
    err_clear();
    for (int s = 0; s < 2; s++) free(generations[s].ids);
    signals_release();
    signals_catch(); /* forgets the one before */
    ASSERT_OK(model_generate(tiny.model, &batch, -1, 8, generations));
    signals_release();
    for (int s = 0; s < 2; s++) {
        ASSERT_INT(generations[s].count, ==, 8);
        free(generations[s].ids);
    }
    tiny_batch_free(&batch);
    tiny_close(&tiny);
}
