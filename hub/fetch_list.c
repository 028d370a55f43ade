/* What the hub has: the list of a repository's files, and how its refusals are reported. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/json.h"
#include "core/log.h"
#include "core/text.h"
#include "hub/fetch_steps.h"

enum {
    LIST_BYTES_MOST = 64 << 20,
    LIST_SECONDS_MOST = 300,
    FILES_MOST = 1000000,
    PATH_BYTES_MOST = 1024,
    PART_BYTES_MOST = 210, /* of a name; 255 less ".incomplete.etag.tmp.PID-RANDOM" */
    RETRY_AFTER_MOST = 300 /* seconds */
};
static const int64_t FILE_BYTES_MOST = 1ll << 43; /* so that the sum of all fits 64 bits */
static const double WAIT_MOST = 60;

/* ---- refusals and tries ---- */

static Err refused(const Hub *hub, const HttpReply *reply, const char *what) {
    const char *kind = hub->repo.dataset ? "datasets/" : "", *id = hub->repo.id;
    const char *found = hub->repo.dataset ? "dataset" : "model";
    if (!strcmp(reply->code, "GatedRepo"))
        FAIL(ERR_INPUT,
             "%s is gated (%d): accept its licence at %s/%s%s, make a token that may read it "
             "in the settings there, and set HF_TOKEN to it%s",
             id, reply->status, hub->address.shown, kind, id,
             hub->token ? " (the one that is set has no access)" : "");
    REQUIRE(reply->status != 401 || hub->token, ERR_INPUT,
            "%s has no public %s %s (401): check the name; if it is private, set HF_TOKEN",
            hub->address.shown, found, id);
    REQUIRE(reply->status != 401, ERR_INPUT,
            "%s does not accept HF_TOKEN for %s (401): the token is not valid, or no such "
            "%s",
            hub->address.shown, id, found);
    REQUIRE(reply->status != 403, ERR_INPUT,
            "%s may not be read %s (403): accept its licence at %s/%s%s, and set HF_TOKEN to a "
            "token with access",
            id, hub->token ? "with this HF_TOKEN" : "without HF_TOKEN", hub->address.shown, kind,
            id);
    REQUIRE(strcmp(reply->code, "RevisionNotFound") != 0, ERR_INPUT, "%s has no revision %s (%d)",
            id, hub->revision, reply->status);
    REQUIRE(reply->status != 404, ERR_INPUT, "%s: %s has no %s of that name (404)%s", what,
            hub->address.shown, strcmp(reply->code, "EntryNotFound") ? found : "file",
            hub->repo.dataset ? "" : "; a dataset is written datasets/owner/name");
    FAIL(ERR_INPUT, "%s: %s answers with status %d", what, hub->address.shown, reply->status);
}

/* The storage behind the hub refuses addresses that are too old; the hub makes a new one. */
static bool is_passing(const HttpReply *reply) {
    int status = reply->status;
    return status == 408 || status == 429 || status >= 500 || (status == 403 && reply->elsewhere);
}

static Err sleep_for(const Hub *hub, double seconds) {
    const double end = clock_seconds() + seconds;
    for (double left = seconds; left > 0; left = end - clock_seconds()) {
        REQUIRE(!hub->job->stopped || !hub->job->stopped(), ERR_STOPPED, "stopped");
        nanosleep(&(struct timespec){.tv_nsec = (long)((left < 0.1 ? left : 0.1) * 1e9)}, NULL);
    }
    return OK;
}

Err retry_pause(Retry *retry, const Hub *hub, Err err, const HttpReply *reply, const char *what) {
    if (err == OK && !is_passing(reply)) return refused(hub, reply, what);
    if (err != OK && err != ERR_COMM) return err;
    char reason[ERR_MESSAGE_SIZE];
    if (err == ERR_COMM)
        snprintf(reason, sizeof reason, "%s", err_message());
    else
        snprintf(reason, sizeof reason, "%s%s answers with status %d%s",
                 reply->elsewhere ? "the storage behind " : "", hub->address.shown, reply->status,
                 reply->status == 429 ? " (too many requests)" : "");
    retry->failed++;
    REQUIRE(retry->failed < hub->job->tries, ERR_COMM,
            "%s: %.500s, %d times in a row. What has come is kept: run the command again to go on",
            what, reason, retry->failed);
    retry->wait = retry->failed == 1 ? hub->job->wait : 2 * retry->wait;
    if (retry->wait > WAIT_MOST) retry->wait = WAIT_MOST;
    double wait = retry->wait;
    if (err == OK && reply->retry_after > 0) {
        REQUIRE(reply->retry_after <= RETRY_AFTER_MOST, ERR_COMM,
                "%s: %s, and asks to come back in %.0f minutes. What has come is kept: run the "
                "command again then",
                what, reason, reply->retry_after / 60);
        wait = reply->retry_after;
    }
    log_warn("%s: %s; try %d of %d in %.3g s", what, reason, retry->failed + 1, hub->job->tries,
             wait);
    return sleep_for(hub, wait);
}

/* ---- addresses ---- */

/* Appends `text` with all but letters, digits, -._~ and, when `slashes`, / as %XX. */
static void append_encoded(Buf *out, const char *text, bool slashes) {
    static const char PLAIN[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (const char *at = text; *at; at++)
        if (strchr(PLAIN, *at) || (slashes && *at == '/'))
            buf_append(out, at, 1);
        else
            buf_format(out, "%%%02X", (unsigned char)*at);
}

void hub_file_url(Buf *out, const Hub *hub, const char *commit, const char *path) {
    buf_clear(out);
    buf_format(out, "%s/%s%s/resolve/%s/", hub->endpoint, hub->repo.dataset ? "datasets/" : "",
               hub->repo.id, commit);
    append_encoded(out, path, true);
}

static void list_url(Buf *out, const Hub *hub) {
    buf_clear(out);
    buf_format(out, "%s/api/%s/%s/revision/", hub->endpoint,
               hub->repo.dataset ? "datasets" : "models", hub->repo.id);
    append_encoded(out, hub->revision, false);
    buf_text(out, "?blobs=true");
}

/* ---- the list ---- */

/* Paths come from the server and become files here: relative, no "..", no control characters, no
 * .git (whose hooks would run), no longer than file systems take. */
static Err check_path(const char *path, size_t size) {
    bool good = size > 0 && size <= PATH_BYTES_MOST && strlen(path) == size;
    for (const char *part = path; good; part++) {
        size_t length = strcspn(part, "/");
        good = length > 0 && length <= PART_BYTES_MOST && strncmp(part, "..", length) != 0 &&
               (length != 4 || strncasecmp(part, ".git", 4) != 0);
        for (size_t i = 0, bytes; i < length && good; i += bytes)
            good = text_kind(part + i, length - i, &bytes) == TEXT_PLAIN && part[i] != '\\';
        part += length;
        if (!*part) break;
    }
    if (good) return OK;
    enum { SHOWN = 63 };
    char start[8 * SHOWN];
    text_escape_some(start, sizeof start, path, size < SHOWN ? size : SHOWN);
    FAIL(ERR_INPUT,
         "the list of files has a path that is not safe: \"%s\"%s (%zu bytes). Nothing was "
         "downloaded",
         start, size > SHOWN ? "…" : "", size);
}

static bool is_hex(const char *text, size_t digits) {
    return text && strlen(text) == digits && strspn(text, "0123456789abcdef") == digits;
}

/* Large files (LFS) have a SHA-256, all others the name of their Git blob. */
static Err read_file(HubFile *out, const Json *entry) {
    size_t size = 0;
    const char *path = js_text(js_get(entry, "rfilename"), &size);
    REQUIRE(path, ERR_INPUT, "the list of files has an entry without \"rfilename\"");
    TRY(check_path(path, size));
    const Json *lfs = js_get(entry, "lfs");
    if (js_type(lfs) != JSON_KIND_OBJECT) lfs = NULL;
    const char *hash = js_text(lfs ? js_get(lfs, "sha256") : js_get(entry, "blobId"), NULL);
    int64_t bytes = -1;
    bool sized = js_integer(js_get(lfs ? lfs : entry, "size"), &bytes);
    REQUIRE(sized && bytes >= 0 && bytes <= FILE_BYTES_MOST, ERR_INPUT,
            "the list of files has no possible size for %.200s (%lld)", path, (long long)bytes);
    REQUIRE(is_hex(hash, lfs ? 64 : 40), ERR_INPUT,
            "the list of files has no %s for %.200s, so it could not be verified",
            digest_kind_name(lfs ? DIGEST_SHA256 : DIGEST_GIT_BLOB), path);
    *out = (HubFile){.path = strdup(path),
                     .size = (uint64_t)bytes,
                     .kind = lfs ? DIGEST_SHA256 : DIGEST_GIT_BLOB};
    CHECK(out->path, "out of memory: a path");
    snprintf(out->hash, sizeof out->hash, "%s", hash);
    return OK;
}

static Err listing_read(Listing *out, const Json *root, const char *where) {
    const Json *siblings;
    const char *commit;
    TRY(js_need_text(&commit, root, "sha", where));
    REQUIRE(hub_is_commit(commit), ERR_INPUT, "%s: \"sha\" is no commit: %.80s", where, commit);
    TRY(js_need(&siblings, root, "siblings", JSON_KIND_ARRAY, where));
    size_t count = js_count(siblings);
    REQUIRE(count <= FILES_MOST, ERR_INPUT, "%s: %zu files, more than the %d possible", where,
            count, FILES_MOST);
    snprintf(out->commit, sizeof out->commit, "%s", commit);
    out->files = calloc(count + 1, sizeof *out->files);
    CHECK(out->files, "out of memory: %zu files", count);
    for (; out->count < count; out->count++)
        TRY(read_file(&out->files[out->count], js_at(siblings, out->count)));
    return OK;
}

typedef struct Text {
    Buf text;
    const char *what;
} Text;

static Err begin_text(void *context, const HttpReply *reply) {
    (void)reply;
    Text *text = context;
    buf_clear(&text->text);
    return OK;
}

static Err add_text(void *context, const void *bytes, size_t size) {
    Text *text = context;
    REQUIRE(size <= LIST_BYTES_MOST - text->text.size, ERR_INPUT,
            "%s: the list of files is longer than %d MB", text->what, LIST_BYTES_MOST >> 20);
    buf_append(&text->text, bytes, size);
    return OK;
}

Err listing_get(Listing *out, const Hub *hub) {
    *out = (Listing){0};
    Text text = {.what = hub->repo.id};
    Buf url = {0};
    Json *root = NULL;
    Retry retry = {0};
    HttpReply reply;
    list_url(&url, hub);
    HttpGet get = {.url = buf_cstr(&url),
                   .token = hub->token,
                   .seconds_most = LIST_SECONDS_MOST,
                   .begin = begin_text,
                   .body = add_text,
                   .context = &text};
    Err err = OK;
    for (;;) {
        err = http_get(hub->http, &get, &reply);
        if (err == OK && reply.status == 200) break;
        TRY_GOTO(err, retry_pause(&retry, hub, err, &reply, hub->repo.id));
    }
    char where[HUB_ID_SIZE + 32];
    snprintf(where, sizeof where, "the hub's answer for %s", hub->repo.id);
    TRY_GOTO(err, js_parse(&root, buf_cstr(&text.text), text.text.size, where));
    TRY_GOTO(err, listing_read(out, root, where));
done:
    js_free(&root);
    buf_free(&url);
    buf_free(&text.text);
    return err;
}

void listing_free(Listing *listing) {
    for (size_t i = 0; i < listing->count; i++) free(listing->files[i].path);
    free(listing->files);
    *listing = (Listing){0};
}
