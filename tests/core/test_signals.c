/* core: signals that come while a step computes. */
#include "core/signals.h"

#include <math.h>
#include <signal.h>
#include <time.h>

#include "ops/ops.h"
#include "tests/support/test.h"

enum { ROWS = 320, WIDE = 96, DEEP = 512, PRODUCTS = 4000, NANOSECONDS = 100000 };

/* On AVX2 oneDNN's products move the stack into the heap: what a signal leaves there must lie
 * elsewhere, or the heap is broken. */
TEST(signals_while_products_are_computed_harm_nothing) {
    ASSERT_INT(setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1), ==, 0);
    ASSERT_INT(setenv("CADVLM_CPU_ISA", "avx2", 1), ==, 0);
    Exec *ex;
    ASSERT_OK(exec_open(&ex, EXEC_CPU, 1));
    float *x = calloc(ROWS * DEEP, sizeof *x), *w = calloc(WIDE * DEEP, sizeof *w),
          *y = calloc(ROWS * WIDE, sizeof *y);
    ASSERT_TRUE(x && w && y);
    for (int i = 0; i < ROWS * DEEP; i++) x[i] = (float)(i % 7);
    for (int i = 0; i < WIDE * DEEP; i++) w[i] = (float)(i % 5);
    double expected = 0;
    for (int k = 0; k < DEEP; k++) expected += (double)x[k] * (double)w[k];
    signals_catch();
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec often = {{0, NANOSECONDS}, {0, NANOSECONDS}};
    ASSERT_INT(timer_create(CLOCK_MONOTONIC, &event, &timer), ==, 0);
    ASSERT_INT(timer_settime(timer, 0, &often, NULL), ==, 0);
    for (int i = 0; i < PRODUCTS; i++) {
        op_linear_fwd(ex, tensor(y, DT_F32, ROWS, WIDE), tensor(x, DT_F32, ROWS, DEEP),
                      tensor(w, DT_F32, WIDE, DEEP), tensor_none());
        free(malloc((size_t)(i % 64) * 1000 + 1)); /* a broken heap is noticed */
    }
    ASSERT_INT(timer_delete(timer), ==, 0);
    ASSERT_OK(exec_status(ex));
    ASSERT_TRUE(signals_pending());
    signals_release();
    ASSERT_NEAR(y[0], expected, 1e-3 * expected);
    free(x);
    free(w);
    free(y);
    exec_close(&ex);
}
