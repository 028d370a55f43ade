/* The test harness. A test is a claim with a body:
 *
 *     TEST(resume_continues_bit_for_bit) { … ASSERT_INT(steps, ==, 8); … }
 *
 * CMake reads the names out of the source and registers each with ctest, in a process of its own.
 * TEST_RANKS(name, 1, 2) is started by mpirun on 1 and on 2 ranks. Assertions print both values and
 * end the process. */
#ifndef CADVLM_TESTS_SUPPORT_TEST_H
#define CADVLM_TESTS_SUPPORT_TEST_H

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"

void test_register(const char *name, void (*body)(void));

/* Ends the test as skipped, with the reason; ctest counts it and tests/run.sh lists it. */
_Noreturn void test_skip(const char *reason);
_Noreturn void test_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A fresh empty folder for this test, deleted when the process ends well. */
const char *test_folder(void);

/* test_folder()/name in a static buffer (four of them in turn). */
const char *test_path(const char *name);

/* The folder of the built programs, and that of the sources. */
const char *test_build_folder(void);
const char *test_source_folder(void);

/* The folder of real files (CADVLM_SAMPLES); skips the test where there is none. */
const char *test_samples(void);

/* Runs a program of the build folder ("cadvlm", …) through /bin/sh -c with `arguments`; returns its
 * exit code and what it printed on both streams. `output` is valid until the next call. Only tests
 * use a shell. */
int test_run(const char **output, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A limit that only ends what hangs: `seconds` were plenty on an idle machine; under a sanitizer
 * and on a machine that is busy it is longer. */
double test_patience(double seconds);

#define TEST_BODY_(name)                                                                           \
    static void test_##name(void);                                                                 \
    __attribute__((constructor)) static void register_##name(void) {                               \
        test_register(#name, test_##name);                                                         \
    }                                                                                              \
    static void test_##name(void)

#define TEST(name)            TEST_BODY_(name)
#define TEST_RANKS(name, ...) TEST_BODY_(name)

#define ASSERT(condition, ...)                                                                     \
    do {                                                                                           \
        if (!(condition)) test_fail(__FILE__, __LINE__, "" __VA_ARGS__);                           \
    } while (0)

#define ASSERT_TRUE(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) test_fail(__FILE__, __LINE__, "%s is false", #condition);                \
    } while (0)

#define ASSERT_INT(a, op, b)                                                                       \
    do {                                                                                           \
        long long a_ = (long long)(a), b_ = (long long)(b);                                        \
        if (!(a_ op b_))                                                                           \
            test_fail(__FILE__, __LINE__, "%s %s %s: %lld and %lld", #a, #op, #b, a_, b_);         \
    } while (0)

#define ASSERT_REAL(a, op, b)                                                                      \
    do {                                                                                           \
        double a_ = (double)(a), b_ = (double)(b);                                                 \
        if (!(a_ op b_))                                                                           \
            test_fail(__FILE__, __LINE__, "%s %s %s: %.17g and %.17g", #a, #op, #b, a_, b_);       \
    } while (0)

#define ASSERT_NEAR(a, b, tolerance)                                                               \
    do {                                                                                           \
        double a_ = (double)(a), b_ = (double)(b), t_ = (double)(tolerance);                       \
        if (!(fabs(a_ - b_) <= t_))                                                                \
            test_fail(__FILE__, __LINE__, "%s = %.17g, %s = %.17g: %g apart, %g allowed", #a, a_,  \
                      #b, b_, fabs(a_ - b_), t_);                                                  \
    } while (0)

#define ASSERT_TEXT(a, b)                                                                          \
    do {                                                                                           \
        const char *a_ = (a), *b_ = (b);                                                           \
        if (!a_ || !b_ || strcmp(a_, b_) != 0)                                                     \
            test_fail(__FILE__, __LINE__, "%s and %s differ:\n---\n%s\n---\n%s\n---", #a, #b,      \
                      a_ ? a_ : "NULL", b_ ? b_ : "NULL");                                         \
    } while (0)

#define ASSERT_CONTAINS(text, part)                                                                \
    do {                                                                                           \
        const char *text_ = (text), *part_ = (part);                                               \
        if (!strstr(text_, part_))                                                                 \
            test_fail(__FILE__, __LINE__, "\"%s\" is not in:\n%s", part_, text_);                  \
    } while (0)

#define ASSERT_OK(call)                                                                            \
    do {                                                                                           \
        Err err_ = (call);                                                                         \
        if (err_ != OK) {                                                                          \
            char trace_[512];                                                                      \
            err_trace(trace_, sizeof trace_);                                                      \
            test_fail(__FILE__, __LINE__, "%s failed (%d): %s\n    at %s", #call, err_,            \
                      err_message(), trace_);                                                      \
        }                                                                                          \
    } while (0)

/* The call fails with that code, and its sentence contains `part`. */
#define ASSERT_ERR(call, code, part)                                                               \
    do {                                                                                           \
        Err err_ = (call);                                                                         \
        if (err_ != (code))                                                                        \
            test_fail(__FILE__, __LINE__, "%s gave %d where %s was expected: %s", #call, err_,     \
                      #code, err_ == OK ? "(no error)" : err_message());                           \
        if (!strstr(err_message(), (part)))                                                        \
            test_fail(__FILE__, __LINE__, "%s: \"%s\" does not contain \"%s\"", #call,             \
                      err_message(), (part));                                                      \
    } while (0)

#endif
