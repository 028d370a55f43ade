/* HTTP GET by libcurl, one at a time over kept connections.
 *
 * Servers are hostile here: redirects are counted and never lead from https to http, headers and
 * the bodies of refusals are limited, and a token goes to the host it is for and to no other. What
 * a body may hold is up to whoever takes it. */
#ifndef CADVLM_HUB_HTTP_H
#define CADVLM_HUB_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

typedef struct Http Http;

enum { HTTP_ETAG_SIZE = 160, HTTP_CODE_SIZE = 64 };

/* What the last answer (the one behind all redirects) said before its body. */
typedef struct HttpReply {
    int status;                       /* 0: there was no answer */
    int64_t length;                   /* of the body; -1: not said */
    int64_t range_first, range_total; /* of a 206; -1: not said */
    bool elsewhere;                   /* another host than the one asked has answered */
    double retry_after;               /* seconds to wait before asking again; 0: not said */
    char etag[HTTP_ETAG_SIZE];        /* with its quotes; "" when there is none, or a weak one */
    char code[HTTP_CODE_SIZE];        /* X-Error-Code: the hub's reason for refusing, or "" */
} HttpReply;

typedef struct HttpGet {
    const char *url;
    const char *token;    /* sent as bearer to the host of `url`; NULL: none */
    uint64_t from;        /* > 0: only the bytes from here on (Range) … */
    const char *if_range; /* … unless the content has another ETag than this; NULL: in any case */
    double seconds_most;  /* for all of it; 0: as long as it moves */
    /* Called once before the body of a 200 or 206, then with its pieces. An error of theirs ends
     * the transfer and is returned. */
    Err (*begin)(void *context, const HttpReply *reply);
    Err (*body)(void *context, const void *bytes, size_t size);
    void *context;
} HttpGet;

/* A transfer that moves less than 1 KB/s for `stall_seconds` counts as broken; `stopped` (may be
 * NULL) is asked often and ends a transfer with ERR_STOPPED. */
Err http_open(Http **out, double stall_seconds, bool (*stopped)(void));
void http_close(Http **http);

/* OK when an answer came as a whole, whatever its status; the body of a refusal is dropped.
 * ERR_COMM when the connection failed, broke or stalled: another try may help. ERR_INPUT when none
 * would. */
Err http_get(Http *http, const HttpGet *get, HttpReply *reply);

/* What an address says of itself. */
typedef struct HttpAddress {
    char shown[200];   /* for sentences: without user, password and query */
    bool encrypted;    /* https */
    bool local;        /* of this machine: nobody is on the way */
    bool has_password; /* http://USER:PASSWORD@… */
} HttpAddress;

/* ERR_INPUT where `url` is no address, in a sentence that does not repeat it. */
Err http_address(HttpAddress *out, const char *url);

/* "7.88.1", or "none" in a build without libcurl. */
const char *http_library_version(void);

#endif
