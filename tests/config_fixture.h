/* A config from a text, and what is said of it. */
#ifndef CADVLM_TESTS_CONFIG_FIXTURE_H
#define CADVLM_TESTS_CONFIG_FIXTURE_H

#include <fcntl.h>
#include <unistd.h>

#include "config/config.h"
#include "core/file.h"
#include "tests/test.h"

static inline Err parse(Config *config, const char *text) {
    return config_parse(config, text, strlen(text), "t.yaml", NULL, 0);
}

/* What is logged while `text` is read: every mistake stands on a line of its own. */
static inline const char *mistakes_of(const char *text) {
    static Config config;
    static Buf seen;
    int kept = dup(STDERR_FILENO),
        file = open(test_path("stderr"), O_CREAT | O_TRUNC | O_WRONLY, 0600);
    ASSERT_TRUE(kept >= 0 && file >= 0);
    fflush(stderr);
    dup2(file, STDERR_FILENO);
    Err err = parse(&config, text);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(file);
    ErrState state;
    err_save(&state);
    ASSERT_OK(file_read(&seen, test_path("stderr"), 1 << 20));
    IGNORE(err_restore(&state));
    return err == ERR_CONFIG ? buf_cstr(&seen) : "(accepted)";
}

#endif
