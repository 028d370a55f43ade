#include "core/signals.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t pending;
static const int CAUGHT[] = {SIGUSR1, SIGUSR2, SIGTERM, SIGINT, SIGXCPU, SIGHUP};
enum { CAUGHT_COUNT = sizeof CAUGHT / sizeof CAUGHT[0] };
static struct sigaction before[CAUGHT_COUNT];

static void on_signal(int number) {
    (void)number;
    pending = 1;
}

/* nohup has HUP ignored, so that a run outlives its terminal. */
static bool is_kept(int number) {
    struct sigaction now;
    return number == SIGHUP && sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

/* Handlers have a stack of their own. Kernels that oneDNN compiles for AVX2 have the stack pointer
 * in a buffer of the heap for a while (jit_avx_gemm_f32): a signal's frame would lie on what is
 * before it. Signals of a process go to its main thread, which calls this. */
static void give_stack(void) {
    static char stack[1 << 16]; /* a frame with all registers takes 12 KiB */
    stack_t own = {.ss_sp = stack, .ss_size = sizeof stack}, there;
    if (sigaltstack(NULL, &there) == 0 && there.ss_flags & SS_DISABLE) sigaltstack(&own, NULL);
}

void signals_catch(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK};
    give_stack();
    sigemptyset(&action.sa_mask);
    pending = 0;
    for (int i = 0; i < CAUGHT_COUNT; i++)
        sigaction(CAUGHT[i], is_kept(CAUGHT[i]) ? NULL : &action, &before[i]);
}

void signals_release(void) {
    for (int i = 0; i < CAUGHT_COUNT; i++) sigaction(CAUGHT[i], &before[i], NULL);
}

bool signals_pending(void) {
    return pending != 0;
}
