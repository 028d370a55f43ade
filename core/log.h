/* Log lines: sentences for a person. Rank 0 speaks; warnings and errors come from any rank and say
 * which. Numbers for machines go to metrics.jsonl instead. */
#ifndef CADVLM_CORE_LOG_H
#define CADVLM_CORE_LOG_H

#include "core/err.h"

typedef enum LogLevel { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR } LogLevel;

/* What standard error shows: lines of this level and above (LOG_INFO, if nothing is said). */
void log_set_level(LogLevel level);

/* The same by name, as CADVLM_LOG gives it: debug, info, warn, error. ERR_CONFIG for another. */
Err log_set_level_named(const char *name);

/* From now on lines carry "rank R: ", and info and debug lines of ranks other than 0 go to the log
 * file only. */
void log_set_rank(int rank, int size);

/* Also appends every line, of whatever level, with its time, to `path`, until the process ends: how
 * it ended is said last. */
Err log_open_file(const char *path);

/* One line: what the arguments hold is written out where it is not plain (text_escape). */
void log_line(LogLevel level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Says how a program ended: nothing when `err` is OK or its sentence was cleared; being stopped is
 * no failure. */
void log_outcome(Err err);

/* The way that this thread's error took, as a debug line: it stands in the log file always. */
void log_trace(void);

/* Taken by whoever draws a progress bar, so that a log line clears the bar first (NULL: none). */
void log_set_bar_hook(void (*clear_bar)(void));

#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)

#endif
