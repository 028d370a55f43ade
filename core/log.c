/* Log lines to standard error and to a file. */
#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/text.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static LogLevel threshold = LOG_INFO;
static int my_rank = 0, rank_count = 1;
static FILE *file;
static void (*bar_hook)(void);

void log_set_level(LogLevel level) {
    threshold = level;
}

Err log_set_level_named(const char *name) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (int i = 0; i < 4; i++)
        if (!strcmp(name, names[i])) {
            log_set_level((LogLevel)i);
            return OK;
        }
    FAIL(ERR_CONFIG, "CADVLM_LOG=%s: debug, info, warn or error is expected", name);
}

void log_set_rank(int rank, int size) {
    my_rank = rank;
    rank_count = size;
}

void log_set_bar_hook(void (*clear_bar)(void)) {
    bar_hook = clear_bar;
}

Err log_open_file(const char *path) {
    /* Whoever made the folder may have put a link here, which leads elsewhere. */
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (fd < 0 && errno == ELOOP && unlink(path) == 0)
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    FILE *opened = fd < 0 ? NULL : fdopen(fd, "a");
    REQUIRE(opened, ERR_IO, "cannot open the log file %s: %s", path, strerror(errno));
    pthread_mutex_lock(&lock);
    if (file) fclose(file);
    file = opened;
    pthread_mutex_unlock(&lock);
    return OK;
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
    enum { LINE_SIZE = 2048 };
    char raw[2 * LINE_SIZE], text[LINE_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    text_escape(text, sizeof text, raw);

    pthread_mutex_lock(&lock);
    if (file) write_file_line(prefixes[level], text);
    if (level >= threshold && (my_rank == 0 || level >= LOG_WARN)) {
        if (bar_hook) bar_hook();
        if (rank_count > 1 && level >= LOG_WARN)
            fprintf(stderr, "rank %d: %s%s\n", my_rank, prefixes[level], text);
        else
            fprintf(stderr, "%s%s\n", prefixes[level], text);
        fflush(stderr);
    }
    pthread_mutex_unlock(&lock);
}

void log_trace(void) {
    char trace[512];
    err_trace(trace, sizeof trace);
    log_debug("    at %s", trace);
}

void log_outcome(Err err) {
    if (err == OK || !*err_message()) return;
    if (err == ERR_STOPPED) {
        log_info("%s", err_message());
        return;
    }
    log_error("%s", err_message());
    log_trace();
}
