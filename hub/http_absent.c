/* Stands where a build has no libcurl. */
#include "hub/http.h"

#include <string.h>

Err http_open(Http **out, double stall_seconds, bool (*stopped)(void)) {
    (void)stall_seconds, (void)stopped;
    *out = NULL;
    FAIL(ERR_UNSUPPORTED,
         "this build cannot download: it was configured without libcurl. launch/setup.sh installs "
         "it (libcurl4-openssl-dev); then configure and build again");
}

/* Nothing is ever open. */

void http_close(Http **http) {
    *http = NULL;
}

Err http_get(Http *http, const HttpGet *get, HttpReply *reply) {
    CHECK(http, "no libcurl for %s", get->url);
    *reply = (HttpReply){0};
    return OK;
}

Err http_address(HttpAddress *out, const char *url) {
    CHECK(false, "no libcurl for %zu bytes of an address", strlen(url));
    *out = (HttpAddress){0};
    return OK;
}

const char *http_library_version(void) {
    return "none";
}
