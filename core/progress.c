/* A progress bar on standard error. */
#include "core/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"

enum { BAR_WIDTH = 28 };
static const double TERMINAL_INTERVAL = 0.1, LOG_INTERVAL = 10;

static void clear_bar(void) {
    fputs("\r\033[K", stderr);
}

static void format_duration(char out[24], double seconds) {
    long s = seconds > 0 ? (long)(seconds + 0.5) : 0;
    if (s >= 3600)
        snprintf(out, 24, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, 24, "%ld:%02ld", s / 60, s % 60);
}

static void draw(const Progress *progress, const char *note) {
    double elapsed = clock_seconds() - progress->started;
    double rate = elapsed > 0 ? (double)(progress->done - progress->first) / elapsed : 0;
    char eta[24] = "?", spent[24];
    if (rate > 0) format_duration(eta, (double)(progress->total - progress->done) / rate);
    format_duration(spent, elapsed);
    if (progress->terminal) {
        int filled = progress->total > 0 ? (int)(BAR_WIDTH * progress->done / progress->total) : 0;
        char bar[BAR_WIDTH + 1];
        memset(bar, '.', BAR_WIDTH);
        memset(bar, '#', (size_t)(filled < 0 ? 0 : filled > BAR_WIDTH ? BAR_WIDTH : filled));
        bar[BAR_WIDTH] = 0;
        fprintf(stderr, "\r\033[K%s [%s] %lld/%lld %.3g %s/s, %s, ETA %s%s%s", progress->label, bar,
                (long long)progress->done, (long long)progress->total, rate, progress->unit, spent,
                eta, note ? " | " : "", note ? note : "");
        fflush(stderr);
    } else {
        log_info("%s: %lld of %lld %s, %.3g %s/s, ETA %s%s%s", progress->label,
                 (long long)progress->done, (long long)progress->total, progress->unit, rate,
                 progress->unit, eta, note ? ", " : "", note ? note : "");
    }
}

void progress_open(Progress *progress, const char *label, const char *unit, int64_t first,
                   int64_t total) {
    double now = clock_seconds();
    *progress = (Progress){.label = label,
                           .unit = unit,
                           .total = total,
                           .done = first,
                           .first = first,
                           .started = now,
                           .shown = now,
                           .terminal = isatty(STDERR_FILENO)};
    if (progress->terminal) log_set_bar_hook(clear_bar);
}

void progress_set(Progress *progress, int64_t done, const char *note) {
    double now = clock_seconds();
    progress->done = done;
    if (now - progress->shown < (progress->terminal ? TERMINAL_INTERVAL : LOG_INTERVAL)) return;
    progress->shown = now;
    draw(progress, note);
}

void progress_close(Progress *progress, const char *note) {
    draw(progress, note);
    if (progress->terminal) fputc('\n', stderr);
    log_set_bar_hook(NULL);
}
