/* core: which lines are shown, by whom, and what the log file keeps. */
#include <unistd.h>

#include "core/log.h"
#include "tests/support/capture.h"

/* One line of every level. */
static void log_all(void) {
    log_debug("a detail");
    log_info("a sentence");
    log_warn("a warning");
    log_error("an error");
}

/* What `body` writes to standard error. */
static const char *shown_by(void (*body)(void)) {
    Capture capture = capture_begin();
    body();
    return capture_end(capture);
}

TEST(the_level_says_what_is_shown) {
    ASSERT_TEXT(shown_by(log_all), "a sentence\nwarning: a warning\nerror: an error\n");
    ASSERT_OK(log_set_level_named("debug"));
    ASSERT_TEXT(shown_by(log_all), "a detail\na sentence\nwarning: a warning\nerror: an error\n");
    ASSERT_OK(log_set_level_named("warn"));
    ASSERT_TEXT(shown_by(log_all), "warning: a warning\nerror: an error\n");
    ASSERT_OK(log_set_level_named("error"));
    ASSERT_TEXT(shown_by(log_all), "error: an error\n");
    ASSERT_OK(log_set_level_named("info"));
    ASSERT_ERR(log_set_level_named("Info"), ERR_CONFIG, "debug, info, warn or error is expected");
    ASSERT_ERR(log_set_level_named(""), ERR_CONFIG, "expected");
    ASSERT_TEXT(shown_by(log_all), "a sentence\nwarning: a warning\nerror: an error\n");
}

TEST(of_several_ranks_the_first_speaks_and_all_warn) {
    log_set_rank(0, 2);
    ASSERT_TEXT(shown_by(log_all),
                "a sentence\nrank 0: warning: a warning\nrank 0: error: an error\n");
    log_set_rank(1, 2);
    ASSERT_TEXT(shown_by(log_all), "rank 1: warning: a warning\nrank 1: error: an error\n");
    log_set_level(LOG_DEBUG);
    ASSERT_TEXT(shown_by(log_all), "rank 1: warning: a warning\nrank 1: error: an error\n");
}

/* Lines of the file, without their times: "2026-01-31T12:34:56.789Z ". */
static const char *log_lines(const char *path) {
    static Buf text, out;
    ASSERT_OK(file_read(&text, path, 1 << 20));
    buf_clear(&out);
    for (char *line = strtok(text.data, "\n"); line; line = strtok(NULL, "\n")) {
        ASSERT_TRUE(strlen(line) > 25 && line[10] == 'T' && line[19] == '.' && line[23] == 'Z');
        buf_format(&out, "%s\n", line + 25);
    }
    return buf_cstr(&out);
}

TEST(the_file_has_every_line_whatever_is_shown) {
    static const char all[] = "a detail\na sentence\nwarning: a warning\nerror: an error\n";
    ASSERT_OK(log_set_level_named("error"));
    log_set_rank(3, 4);
    ASSERT_OK(log_open_file(test_path("rank-3.txt")));
    shown_by(log_all);
    ASSERT_TEXT(log_lines(test_path("rank-3.txt")), all);
    ASSERT_OK(log_open_file(test_path("other.txt"))); /* from here on that one */
    shown_by(log_all);
    ASSERT_TEXT(log_lines(test_path("rank-3.txt")), all);
    ASSERT_TEXT(log_lines(test_path("other.txt")), all);
    ASSERT_OK(log_open_file(test_path("other.txt"))); /* what was there stays */
    shown_by(log_all);
    ASSERT_INT(strlen(log_lines(test_path("other.txt"))), ==, 2 * strlen(all));
    ASSERT_ERR(log_open_file(test_path("no/such/folder")), ERR_IO, "No such file");
}

static Err fail_deep(int left) {
    if (left) TRY(fail_deep(left - 1));
    FAIL(ERR_INPUT, "deep");
}

static void outcome_of_failure(void) {
    log_outcome(fail_deep(2));
}

static void outcome_of_stop(void) {
    log_outcome(err_raise(ERR_STOPPED, __FILE__, __LINE__, "stopped"));
}

static void outcome_of_success(void) {
    err_clear();
    log_outcome(OK);
    log_outcome(ERR_INPUT); /* told already */
}

TEST(the_way_of_an_error_is_a_detail_that_the_file_keeps) {
    ASSERT_OK(log_open_file(test_path("log")));
    ASSERT_TEXT(shown_by(outcome_of_failure), "error: deep\n");
    const char *lines = log_lines(test_path("log"));
    ASSERT_CONTAINS(lines, "error: deep\n    at tests/core/test_log.c:");
    int frames = 0;
    for (const char *at = lines; (at = strstr(at, "tests/core/test_log.c:")); at++) frames++;
    ASSERT_INT(frames, ==, 3);
    ASSERT_TEXT(shown_by(outcome_of_stop), "stopped\n");
    ASSERT_TEXT(shown_by(outcome_of_success), "");
    log_set_level(LOG_DEBUG);
    ASSERT_CONTAINS(shown_by(outcome_of_failure), "error: deep\n    at tests/core/test_log.c:");
    /* A recursion passes more places than are kept: the innermost ones are. */
    IGNORE(fail_deep(100));
    char trace[512];
    err_trace(trace, sizeof trace);
    frames = 0;
    for (const char *at = trace; (at = strstr(at, "tests/core/test_log.c:")); at++) frames++;
    ASSERT_INT(frames, ==, ERR_FRAMES);
}

static int cleared;
static void clear_bar(void) {
    cleared++;
}

TEST(a_line_clears_the_progress_bar_first) {
    log_set_bar_hook(clear_bar);
    shown_by(log_all);
    ASSERT_INT(cleared, ==, 3);
    log_set_bar_hook(NULL);
    shown_by(log_all);
    ASSERT_INT(cleared, ==, 3);
}
