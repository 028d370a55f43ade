/* A config from a text, and what is said of it. */
#ifndef CADVLM_TESTS_CONFIG_CONFIG_FIXTURE_H
#define CADVLM_TESTS_CONFIG_CONFIG_FIXTURE_H

#include "config/config.h"
#include "tests/support/capture.h"

static inline Err parse(Config *config, const char *text) {
    return config_parse(config, text, strlen(text), "t.yaml", NULL, 0);
}

/* What is logged while `text` is read: every mistake stands on a line of its own. */
static inline const char *mistakes_of(const char *text) {
    static Config config;
    Capture capture = capture_begin();
    Err err = parse(&config, text);
    const char *seen = capture_end(capture);
    return err == ERR_CONFIG ? seen : "(accepted)";
}

#endif
