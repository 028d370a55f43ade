/* The one place that names libcurl; see the header.
 *
 * Redirects are followed here and not by libcurl, so that each step can be judged: its scheme, its
 * host, and whether the token may go along. */
#include "hub/http.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    REDIRECTS_MOST = 10,
    HEADER_BYTES_MOST = 128 << 10,
    REFUSAL_BYTES_MOST = 64 << 10, /* of an error page; then the connection is given up */
    STALL_BYTES_PER_SECOND = 1024,
    CONNECT_SECONDS = 30,
    BUFFER_SIZE = 256 << 10
};

struct Http {
    CURL *curl;
    double stall_seconds;
    bool (*stopped)(void);
    char reason[CURL_ERROR_SIZE];

    /* Of the answer under way. */
    const HttpGet *get;
    HttpReply *reply;
    size_t header_bytes, refusal_bytes;
    bool began;     /* get->begin was called */
    bool abandoned; /* a refusal's body was long enough */
    Err failed;     /* of begin or body */
};

/* ---- open and close ---- */

static size_t on_header(char *line, size_t one, size_t size, void *user);
static size_t on_body(char *bytes, size_t one, size_t size, void *user);

/* libcurl asks at least once a second. */
static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    (void)a, (void)b, (void)c, (void)d;
    Http *http = user;
    return http->stopped && http->stopped();
}

/* Certificates of a site's own proxy, under the names that users of Python and curl have set. */
static const char *certificates(void) {
    static const char *const NAMES[] = {"CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"};
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        const char *value = getenv(NAMES[i]);
        if (value && *value) return value;
    }
    return NULL;
}

Err http_open(Http **out, double stall_seconds, bool (*stopped)(void)) {
    *out = NULL;
    REQUIRE(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK, ERR_MEMORY,
            "libcurl cannot be started");
    Http *http = calloc(1, sizeof *http);
    CHECK(http, "out of memory: a connection");
    http->curl = curl_easy_init();
    CHECK(http->curl, "out of memory: a connection");
    http->stall_seconds = stall_seconds;
    http->stopped = stopped;
    CURL *curl = http->curl;
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, http->reason);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "cadvlm/" CADVLM_VERSION);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT,
                     stall_seconds < CONNECT_SECONDS ? (long)stall_seconds + 1
                                                     : (long)CONNECT_SECONDS);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES_PER_SECOND);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)(stall_seconds + 0.999));
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, (long)BUFFER_SIZE);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, http);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, http);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, http);
    if (certificates()) curl_easy_setopt(curl, CURLOPT_CAINFO, certificates());
    *out = http;
    return OK;
}

void http_close(Http **http) {
    if (!*http) return;
    curl_easy_cleanup((*http)->curl);
    free(*http);
    *http = NULL;
    curl_global_cleanup();
}

/* ---- the answer ---- */

static void reset_reply(HttpReply *reply) {
    *reply = (HttpReply){.length = -1, .range_first = -1, .range_total = -1};
}

/* The value of header `name` without the blanks around it, cut at `size`; false for another. */
static bool header_value(char *out, size_t size, const char *line, size_t length,
                         const char *name) {
    size_t name_length = strlen(name);
    if (length <= name_length || line[name_length] != ':' || strncasecmp(line, name, name_length))
        return false;
    const char *at = line + name_length + 1, *end = line + length;
    while (at < end && (*at == ' ' || *at == '\t')) at++;
    while (end > at && (unsigned char)end[-1] <= ' ') end--;
    snprintf(out, size, "%.*s", (int)(end - at), at);
    return true;
}

static bool is_strong_etag(const char *value) {
    size_t length = strlen(value);
    if (length < 3 || value[0] != '"' || value[length - 1] != '"') return false;
    for (const char *at = value; *at; at++)
        if (*at <= ' ' || *at > '~') return false;
    return true;
}

static void read_range(HttpReply *reply, const char *value) {
    long long first, last, total;
    int found = sscanf(value, "bytes %18lld-%18lld/%18lld", &first, &last, &total);
    if (found >= 2 && first >= 0) reply->range_first = first;
    if (found == 3 && total >= 0) reply->range_total = total;
}

static size_t on_header(char *line, size_t one, size_t size, void *user) {
    Http *http = user;
    size_t length = one * size;
    char value[HTTP_ETAG_SIZE];
    http->header_bytes += length;
    if (http->header_bytes > HEADER_BYTES_MOST) return 0;
    if (http->began) return length; /* a trailer says nothing that matters */
    if (length > 5 && !strncmp(line, "HTTP/", 5)) reset_reply(http->reply);
    if (header_value(value, sizeof value, line, length, "ETag"))
        snprintf(http->reply->etag, HTTP_ETAG_SIZE, "%s", is_strong_etag(value) ? value : "");
    if (header_value(value, sizeof value, line, length, "Content-Range"))
        read_range(http->reply, value);
    if (header_value(value, sizeof value, line, length, "X-Error-Code"))
        snprintf(http->reply->code, HTTP_CODE_SIZE, "%.*s", HTTP_CODE_SIZE - 1, value);
    return length;
}

/* An address for a sentence: printable, not long, without user and password and without the query
 * (which may hold a signature). */
typedef struct Shown {
    char text[sizeof((HttpAddress *)0)->shown];
} Shown;

/* The end of "user:password@" at the front of what follows "://". */
static const char *behind_user(const char *text) {
    const char *end = text + strcspn(text, "/?#"), *at = end;
    while (at > text && at[-1] != '@') at--;
    return at;
}

static Shown shown(const char *url) {
    Shown out = {0};
    size_t size = 0;
    const char *host = strstr(url, "://");
    const char *skip = host ? host + 3 : url, *go_on = behind_user(skip);
    for (const char *at = url; *at && *at != '?' && size + 1 < sizeof out.text; at++) {
        if (at == skip) at = go_on;
        if (!*at || *at == '?') break;
        out.text[size++] = *at > ' ' && *at <= '~' ? *at : '?';
    }
    return out;
}

static bool is_wanted(const HttpReply *reply) {
    return reply->status == 200 || reply->status == 206;
}

static void read_reply(Http *http) {
    long status = 0;
    curl_off_t length = -1, wait = 0;
    curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(http->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    curl_easy_getinfo(http->curl, CURLINFO_RETRY_AFTER, &wait);
    http->reply->status = (int)status;
    http->reply->length = length;
    http->reply->retry_after = (double)wait;
}

static Err begin(Http *http) {
    http->began = true;
    return http->get->begin ? http->get->begin(http->get->context, http->reply) : OK;
}

static size_t on_body(char *bytes, size_t one, size_t size, void *user) {
    Http *http = user;
    size_t length = one * size;
    if (!http->began) read_reply(http);
    if (!is_wanted(http->reply)) {
        http->refusal_bytes += length;
        http->abandoned = http->refusal_bytes > REFUSAL_BYTES_MOST;
        return http->abandoned ? 0 : length;
    }
    if (!http->began) http->failed = begin(http);
    if (http->failed == OK) http->failed = http->get->body(http->get->context, bytes, length);
    return http->failed == OK ? length : 0;
}

/* ---- the request ---- */

static Err add_header(struct curl_slist **list, const char *name, const char *value) {
    for (const char *at = value; *at; at++)
        REQUIRE(*at >= ' ' && *at <= '~', ERR_CONFIG, "%s has characters that no header can carry",
                name);
    char line[4096];
    int length = snprintf(line, sizeof line, "%s%s", name, value);
    REQUIRE(length > 0 && (size_t)length < sizeof line, ERR_CONFIG, "%s is too long", name);
    struct curl_slist *longer = curl_slist_append(*list, line);
    CHECK(longer, "out of memory: a header");
    *list = longer;
    return OK;
}

static Err make_headers(struct curl_slist **list, const HttpGet *get, bool with_token) {
    char range[64];
    if (get->token && with_token) TRY(add_header(list, "Authorization: Bearer ", get->token));
    if (get->from == 0) return OK;
    snprintf(range, sizeof range, "bytes=%llu-", (unsigned long long)get->from);
    TRY(add_header(list, "Range: ", range));
    if (get->if_range && *get->if_range) TRY(add_header(list, "If-Range: ", get->if_range));
    return OK;
}

/* What libcurl's code means: whether another try may help. */
static Err judge(Http *http, CURLcode code, const char *url) {
    if (http->failed != OK) return http->failed;
    if (code == CURLE_OK || http->abandoned) return OK;
    const char *reason = *http->reason ? http->reason : curl_easy_strerror(code);
    REQUIRE(code != CURLE_ABORTED_BY_CALLBACK, ERR_STOPPED, "stopped");
    REQUIRE(http->header_bytes <= HEADER_BYTES_MOST, ERR_INPUT,
            "%s answers with more than %d bytes of headers", shown(url).text, HEADER_BYTES_MOST);
    REQUIRE(code != CURLE_URL_MALFORMAT && code != CURLE_UNSUPPORTED_PROTOCOL, ERR_INPUT,
            "%s is no address: %s", shown(url).text, reason);
    REQUIRE(code != CURLE_PEER_FAILED_VERIFICATION && code != CURLE_SSL_CACERT_BADFILE, ERR_INPUT,
            "the certificate of %s cannot be trusted: %s. Behind a proxy with certificates of "
            "its own, set CURL_CA_BUNDLE to their file",
            shown(url).text, reason);
    REQUIRE(code != CURLE_OUT_OF_MEMORY, ERR_MEMORY, "out of memory: %s", shown(url).text);
    FAIL(ERR_COMM, "%s", reason);
}

static Err perform(Http *http, const char *url, bool with_token) {
    struct curl_slist *headers = NULL;
    http->header_bytes = http->refusal_bytes = 0;
    http->began = http->abandoned = false;
    http->failed = OK;
    http->reason[0] = 0;
    reset_reply(http->reply);
    Err err = OK;
    TRY_GOTO(err, make_headers(&headers, http->get, with_token));
    curl_easy_setopt(http->curl, CURLOPT_URL, url);
    curl_easy_setopt(http->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(http->curl, CURLOPT_TIMEOUT_MS, (long)(http->get->seconds_most * 1000));
    CURLcode code = curl_easy_perform(http->curl);
    if (!http->began) read_reply(http);
    TRY_GOTO(err, judge(http, code, url));
    if (is_wanted(http->reply) && !http->began) TRY_GOTO(err, begin(http)); /* an empty body */
done:
    curl_easy_setopt(http->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    return err;
}

/* ---- addresses ---- */

/* The scheme, host and port of an address: "https", "huggingface.co", "443". */
typedef struct Origin {
    char scheme[16], host[256], port[8];
} Origin;

static bool copy_part(CURLU *parsed, CURLUPart part, unsigned flags, char *out, size_t size) {
    char *text = NULL;
    bool good = curl_url_get(parsed, part, &text, flags) == CURLUE_OK && strlen(text) < size;
    if (good) snprintf(out, size, "%s", text);
    curl_free(text);
    return good;
}

static Err read_origin(Origin *out, const char *url) {
    CURLU *parsed = curl_url();
    CHECK(parsed, "out of memory: an address");
    bool good = curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
                copy_part(parsed, CURLUPART_SCHEME, 0, out->scheme, sizeof out->scheme) &&
                copy_part(parsed, CURLUPART_HOST, 0, out->host, sizeof out->host) &&
                copy_part(parsed, CURLUPART_PORT, CURLU_DEFAULT_PORT, out->port, sizeof out->port);
    curl_url_cleanup(parsed);
    REQUIRE(good && (!strcmp(out->scheme, "https") || !strcmp(out->scheme, "http")), ERR_INPUT,
            "%s is no address: https://… is expected", shown(url).text);
    return OK;
}

static bool is_local(const char *host) {
    static const char *const HOSTS[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < sizeof HOSTS / sizeof HOSTS[0]; i++)
        if (!strcasecmp(host, HOSTS[i])) return true;
    return false;
}

Err http_address(HttpAddress *out, const char *url) {
    Origin origin;
    Shown text = shown(url);
    *out = (HttpAddress){0};
    if (read_origin(&origin, url) != OK)
        FAIL(ERR_INPUT, "no address: https://… is expected (a user or password in it is written "
                        "with %%40 for @, %%2F for / and the like)");
    memcpy(out->shown, text.text, sizeof out->shown);
    out->encrypted = !strcmp(origin.scheme, "https");
    out->local = is_local(origin.host);
    const char *host = strstr(url, "://") ? strstr(url, "://") + 3 : url;
    out->has_password = behind_user(host) != host;
    return OK;
}

static bool same_origin(const Origin *a, const Origin *b) {
    return !strcmp(a->scheme, b->scheme) && !strcasecmp(a->host, b->host) &&
           !strcmp(a->port, b->port);
}

static bool is_redirect(int status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

Err http_get(Http *http, const HttpGet *get, HttpReply *reply) {
    Origin first, here;
    char *url = strdup(get->url);
    CHECK(url, "out of memory: an address");
    http->get = get;
    http->reply = reply;
    reset_reply(reply);
    Err err = OK;
    TRY_GOTO(err, read_origin(&first, url));
    here = first;
    for (int hop = 0;; hop++) {
        bool at_home = same_origin(&here, &first);
        TRY_GOTO(err, perform(http, url, at_home));
        reply->elsewhere = !at_home;
        const char *next = NULL;
        curl_easy_getinfo(http->curl, CURLINFO_REDIRECT_URL, &next);
        if (!is_redirect(reply->status) || !next) break;
        REQUIRE_GOTO(err, hop < REDIRECTS_MOST, ERR_INPUT, "%s redirects more than %d times",
                     shown(get->url).text, REDIRECTS_MOST);
        Origin before = here;
        free(url);
        url = strdup(next);
        CHECK(url, "out of memory: an address");
        TRY_GOTO(err, read_origin(&here, url));
        REQUIRE_GOTO(err, !strcmp(here.scheme, "https") || !strcmp(before.scheme, "http"),
                     ERR_INPUT,
                     "%s redirects from https to %s, which anyone on the way "
                     "could change",
                     shown(get->url).text, shown(url).text);
    }
done:
    free(url);
    http->get = NULL;
    http->reply = NULL;
    return err;
}

const char *http_library_version(void) {
    return curl_version_info(CURLVERSION_NOW)->version;
}
