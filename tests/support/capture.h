/* What a piece of a test writes to standard error. */
#ifndef CADVLM_TESTS_SUPPORT_CAPTURE_H
#define CADVLM_TESTS_SUPPORT_CAPTURE_H

#include <fcntl.h>
#include <unistd.h>

#include "core/file.h"
#include "tests/support/test.h"

typedef struct Capture {
    int kept;
} Capture;

static inline Capture capture_begin(void) {
    Capture c = {dup(STDERR_FILENO)};
    int file = open(test_path("stderr"), O_CREAT | O_TRUNC | O_WRONLY, 0600);
    ASSERT_TRUE(c.kept >= 0 && file >= 0);
    fflush(stderr);
    dup2(file, STDERR_FILENO);
    close(file);
    return c;
}

/* The text since capture_begin; good until the next end. The thread's error stays as it is. */
static inline const char *capture_end(Capture c) {
    static Buf seen;
    ErrState state;
    fflush(stderr);
    dup2(c.kept, STDERR_FILENO);
    close(c.kept);
    err_save(&state);
    ASSERT_OK(file_read(&seen, test_path("stderr"), 1 << 20));
    IGNORE(err_restore(&state));
    return buf_cstr(&seen);
}

#endif
