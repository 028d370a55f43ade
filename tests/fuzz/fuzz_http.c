/* What servers say before a body, with a libcurl of our own whose answers are the input: headers,
 * redirects, sizes. Pieces: an address, then head and body of one answer after the other. */
#include <curl/curl.h>
#include <stdarg.h>
#include <strings.h>

#include "hub/http.h"
#include "tests/fuzz/fuzz.h"

#undef curl_easy_setopt
#undef curl_easy_getinfo

/* ---- libcurl ---- */

typedef size_t (*Callback)(char *bytes, size_t one, size_t size, void *user);

static FuzzInput answers;
static Callback on_header, on_body;
static void *header_user, *body_user;
static long status;
static curl_off_t length, wait;
static char *location;

CURLcode curl_global_init(long flags) {
    (void)flags;
    return CURLE_OK;
}

void curl_global_cleanup(void) {}

CURL *curl_easy_init(void) {
    return &answers;
}

void curl_easy_cleanup(CURL *curl) {
    (void)curl;
}

CURLcode curl_easy_setopt(CURL *curl, CURLoption option, ...) {
    va_list args;
    va_start(args, option);
    switch ((int)option) {
    case CURLOPT_HEADERFUNCTION: on_header = va_arg(args, Callback); break;
    case CURLOPT_WRITEFUNCTION: on_body = va_arg(args, Callback); break;
    case CURLOPT_HEADERDATA: header_user = va_arg(args, void *); break;
    case CURLOPT_WRITEDATA: body_user = va_arg(args, void *); break;
    default: break;
    }
    va_end(args);
    (void)curl;
    return CURLE_OK;
}

static void note(const char *line) {
    if (!strncmp(line, "HTTP/", 5)) status = strtol(line + strcspn(line, " "), NULL, 10) % 1000;
    if (!strncasecmp(line, "Content-Length:", 15)) length = strtoll(line + 15, NULL, 10);
    if (!strncasecmp(line, "Retry-After:", 12)) wait = strtoll(line + 12, NULL, 10);
    if (strncasecmp(line, "Location: ", 10) != 0) return;
    free(location);
    location = strdup(line + 10);
}

/* libcurl gives a line at a time, its end included, in memory of its own. */
static bool give_lines(char *head, size_t size) {
    for (size_t at = 0, step; at < size; at += step) {
        const char *end = memchr(head + at, '\n', size - at);
        step = end ? (size_t)(end + 1 - head) - at : size - at;
        char *line = malloc(step), *text = strndup(head + at, step);
        memcpy(line, head + at, step);
        text[strcspn(text, "\r\n")] = 0;
        note(text);
        bool taken = on_header(line, 1, step, header_user) == step;
        free(line);
        free(text);
        if (!taken) return false;
    }
    return true;
}

CURLcode curl_easy_perform(CURL *curl) {
    size_t head_size, body_size;
    (void)curl;
    free(location);
    location = NULL;
    status = 0;
    length = -1;
    wait = 0;
    if (answers.at == answers.end) return CURLE_COULDNT_CONNECT;
    char *head = fuzz_piece(&answers, &head_size), *body = fuzz_piece(&answers, &body_size);
    bool taken = give_lines(head, head_size);
    for (size_t at = 0; taken && at < body_size; at += 100) {
        size_t piece = body_size - at < 100 ? body_size - at : 100;
        taken = on_body(body + at, 1, piece, body_user) == piece;
    }
    free(head);
    free(body);
    return taken ? CURLE_OK : CURLE_WRITE_ERROR;
}

CURLcode curl_easy_getinfo(CURL *curl, CURLINFO info, ...) {
    va_list args;
    va_start(args, info);
    switch ((int)info) {
    case CURLINFO_RESPONSE_CODE: *va_arg(args, long *) = status; break;
    case CURLINFO_CONTENT_LENGTH_DOWNLOAD_T: *va_arg(args, curl_off_t *) = length; break;
    case CURLINFO_RETRY_AFTER: *va_arg(args, curl_off_t *) = wait; break;
    case CURLINFO_REDIRECT_URL: *va_arg(args, char **) = location; break;
    default: break;
    }
    va_end(args);
    (void)curl;
    return CURLE_OK;
}

/* ---- the harness ---- */

static Err take_body(void *context, const void *bytes, size_t size) {
    buf_append(context, bytes, size);
    return OK;
}

static void get(const char *url) {
    Http *http;
    Buf body = {0};
    HttpReply reply;
    ASSERT_OK(http_open(&http, 10, NULL));
    HttpGet asked = {.url = url,
                     .token = "secret",
                     .from = 3,
                     .if_range = "\"e\"",
                     .body = take_body,
                     .context = &body};
    if (http_get(http, &asked, &reply) == OK)
        for (const char *at = reply.etag; *at; at++) ASSERT_TRUE(*at > ' ' && *at <= '~');
    http_close(&http);
    buf_free(&body);
}

void fuzz_one(const uint8_t *data, size_t size) {
    answers = (FuzzInput){data, data + size};
    HttpAddress address;
    char *url = fuzz_piece(&answers, NULL);
    if (http_address(&address, url) == OK)
        for (const char *at = address.shown; *at; at++) ASSERT_TRUE(*at > ' ' && *at <= '~');
    get(url);
    free(url);
    free(location);
    location = NULL;
}

static void seed(const char *url, const char *head, const char *body, const char *second) {
    Buf bytes = {0};
    const char *pieces[] = {url, head, body, second, "hello"};
    for (int i = 0; i < 5; i++) fuzz_piece_append(&bytes, pieces[i], strlen(pieces[i]));
    fuzz_seed(bytes.data, bytes.size);
    buf_free(&bytes);
}

void fuzz_seeds(void) {
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"abc\"\r\n\r\n";
    seed("https://hub.example/a?b", ok, "hello", "");
    seed("https://h\x01\xe9/\x1b[31m", "HTTP/2 200\r\nETag: \"a\xc3\xa9\"\r\n\r\n", "", "");
    seed("https://hub/\xc2\x9b", "HTTP/2 200\r\nETag: \"a\xc3\xa9\"\r\n\r\n", "", "");
    seed("http://user:pass@hub:80/a", "HTTP/2 302\r\nLocation: https://other/x\r\n\r\n", "", ok);
    seed("https://hub/a", "HTTP/2 307\r\nlocation: http://hub/x\r\n\r\n", "", ok);
    seed("https://hub",
         "HTTP/1.1 206 Partial\r\nContent-Range: bytes 3-4/5\r\nETag: W/\"x\"\r\n\r\n", "lo", "");
    seed("https://hub", "HTTP/1.1 429 Slow\r\nRetry-After: 5\r\nX-Error-Code: GatedRepo\r\n\r\n",
         "wait", "");
    seed("HTTP://[::1]:65535/%2e", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\n\r\n", "no",
         "");
}
