/* Log lines to standard error and to a file. */
#include "core/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static LogLevel threshold = LOG_INFO;
static int my_rank = 0, rank_count = 1;
static FILE *file;
static void (*bar_hook)(void);

void log_set_level(LogLevel level) {
    threshold = level;
}

void log_set_rank(int rank, int size) {
    my_rank = rank;
    rank_count = size;
}

void log_set_bar_hook(void (*clear_bar)(void)) {
    bar_hook = clear_bar;
}

Err log_open_file(const char *path) {
    FILE *opened = fopen(path, "a");
    REQUIRE(opened, ERR_IO, "cannot open the log file %s: %s", path, strerror(errno));
    pthread_mutex_lock(&lock);
    if (file) fclose(file);
    file = opened;
    pthread_mutex_unlock(&lock);
    return OK;
}

void log_close_file(void) {
    pthread_mutex_lock(&lock);
    if (file) fclose(file);
    file = NULL;
    pthread_mutex_unlock(&lock);
}

static void write_file_line(const char *level, const char *text) {
    struct timespec now;
    struct tm utc;
    char stamp[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    fprintf(file, "%s.%03ldZ %s%s\n", stamp, now.tv_nsec / 1000000, level, text);
    fflush(file);
}

void log_line(LogLevel level, const char *format, ...) {
    static const char *const prefixes[] = {"", "", "warning: ", "error: "};
    if (level < threshold) return;
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);

    pthread_mutex_lock(&lock);
    if (file) write_file_line(prefixes[level], text);
    bool speak = my_rank == 0 || level >= LOG_WARN;
    if (speak) {
        if (bar_hook) bar_hook();
        if (rank_count > 1 && level >= LOG_WARN)
            fprintf(stderr, "rank %d: %s%s\n", my_rank, prefixes[level], text);
        else
            fprintf(stderr, "%s%s\n", prefixes[level], text);
        fflush(stderr);
    }
    pthread_mutex_unlock(&lock);
}

void log_outcome(Err err) {
    if (err == OK || !*err_message()) return;
    if (err == ERR_STOPPED) {
        log_info("%s", err_message());
        return;
    }
    char trace[512];
    err_trace(trace, sizeof trace);
    log_error("%s", err_message());
    log_debug("    at %s", trace);
}
