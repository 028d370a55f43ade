/* Log lines: sentences for a person. Rank 0 speaks; warnings and errors come from any rank and say
 * which. Numbers for machines go to metrics.jsonl instead. */
#ifndef CADVLM_CORE_LOG_H
#define CADVLM_CORE_LOG_H

#include "core/err.h"

typedef enum LogLevel { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR } LogLevel;

void log_set_level(LogLevel level);

/* From now on lines carry "rank R: ", and info and debug lines of ranks other than 0 go to the log
 * file only. */
void log_set_rank(int rank, int size);

/* Also appends every line, with its time, to `path`. */
Err log_open_file(const char *path);
void log_close_file(void);

void log_line(LogLevel level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Says how a program ended: nothing when `err` is OK or its sentence was cleared; being stopped is
 * no failure. */
void log_outcome(Err err);

/* Taken by whoever draws a progress bar, so that a log line clears the bar first (NULL: none). */
void log_set_bar_hook(void (*clear_bar)(void));

#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)

#endif
