/* One file of the hub: fetched into FILE.incomplete, verified, then renamed.
 *
 * FILE.incomplete.etag says what FILE.incomplete is the beginning of: the content's hash, and the
 * ETag of the server that sent it. A later run goes on there if the hash is still the wanted one;
 * the server judges the ETag (If-Range) and sends all of it where it has changed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "hub/fetch_steps.h"

const char *fetch_bytes(uint64_t bytes) {
    static _Thread_local char texts[4][24];
    static _Thread_local int next;
    static const char *const UNITS[] = {"bytes", "kB", "MB", "GB", "TB", "PB", "EB"};
    char *out = texts[next++ % 4];
    double value = (double)bytes;
    int unit = 0;
    for (; value >= 999.5; unit++) value /= 1000; /* 2^64 bytes are 18 EB */
    int decimals = unit == 0 ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(out, sizeof texts[0], "%.*f %s", decimals, value, UNITS[unit]);
    return out;
}

enum {
    CHUNK_SIZE = 64 << 10,
    ETAG_BYTES_MOST = 512,
    WRONG_MOST = 2,           /* contents that were not the announced ones */
    PROGRESS_BYTES = 1 << 20, /* so much more than ever before makes earlier failures forgotten */
};

typedef struct Partial {
    const Hub *hub;
    const HubFile *file;
    Meter *meter;
    char path[PATH_SIZE], etag_path[PATH_SIZE];
    char etag[HTTP_ETAG_SIZE]; /* of the server that sent what is here */
    int fd;
    uint64_t size; /* bytes here */
    Digest *digest;
    bool wrong; /* what came is not what was announced; the error says how */
} Partial;

/* ---- files that may be there ---- */

static Err partial_paths(char path[PATH_SIZE], char etag_path[PATH_SIZE], const char *target) {
    TRY(path_format(path, "%s.incomplete", target));
    return path_format(etag_path, "%s.incomplete.etag", target);
}

/* Reads the ETag beside a partial file; false when that is the beginning of another content. */
static bool read_etag(char etag[HTTP_ETAG_SIZE], const HubFile *file, const char *etag_path) {
    Buf text = {0};
    bool same = false;
    etag[0] = 0;
    if (file_exists(etag_path) && file_read(&text, etag_path, ETAG_BYTES_MOST) == OK) {
        char *line = strchr(text.size ? text.data : "", '\n');
        same = line && (size_t)(line - text.data) == strlen(file->hash) &&
               !strncmp(text.data, file->hash, strlen(file->hash));
        if (same) snprintf(etag, HTTP_ETAG_SIZE, "%.*s", (int)strcspn(line + 1, "\n"), line + 1);
    }
    buf_free(&text);
    return same;
}

uint64_t file_bytes_started(const HubFile *file, const char *target) {
    char path[PATH_SIZE], etag_path[PATH_SIZE], etag[HTTP_ETAG_SIZE];
    struct stat info;
    if (partial_paths(path, etag_path, target) != OK || stat(path, &info) != 0) return 0;
    bool usable = (uint64_t)info.st_size <= file->size && read_etag(etag, file, etag_path);
    return usable ? (uint64_t)info.st_size : 0;
}

/* Adds the first `size` bytes of a file to a digest. */
static Err digest_in_chunks(Digest *digest, const Hub *hub, int fd, uint64_t size, const char *path,
                            char *chunk) {
    for (uint64_t at = 0; at < size;) {
        size_t want = size - at < CHUNK_SIZE ? (size_t)(size - at) : CHUNK_SIZE;
        ssize_t got = pread(fd, chunk, want, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        REQUIRE(got > 0, ERR_IO, "cannot read %s: %s", path, got ? strerror(errno) : "it ended");
        REQUIRE(!hub->job->stopped || !hub->job->stopped(), ERR_STOPPED, "stopped");
        digest_add(digest, chunk, (size_t)got);
        at += (uint64_t)got;
    }
    return OK;
}

static Err digest_start_of(Digest *digest, const Hub *hub, int fd, uint64_t size,
                           const char *path) {
    char *chunk = malloc(CHUNK_SIZE);
    CHECK(chunk, "out of memory: %d bytes", CHUNK_SIZE);
    Err err = digest_in_chunks(digest, hub, fd, size, path, chunk);
    free(chunk);
    return err;
}

Err file_is_there(bool *out, const Hub *hub, const HubFile *file, const char *path, bool read_all) {
    struct stat info;
    *out = stat(path, &info) == 0 && S_ISREG(info.st_mode) && (uint64_t)info.st_size == file->size;
    if (!*out || !read_all) return OK;
    Digest *digest = NULL;
    char hash[DIGEST_TEXT_SIZE];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0, ERR_IO, "cannot open %s: %s", path, strerror(errno));
    Err err = OK;
    TRY_GOTO(err, digest_open(&digest, file->kind, file->size));
    TRY_GOTO(err, digest_start_of(digest, hub, fd, file->size, path));
    digest_text(digest, hash);
    *out = !strcmp(hash, file->hash);
done:
    digest_close(&digest);
    close(fd);
    return err;
}

/* ---- the partial file ---- */

/* Opens and locks it, so that two runs do not write into one file. The one that held the lock may
 * have finished and renamed the file meanwhile: then it is another one that is opened next. */
static Err open_locked(Partial *p) {
    for (;;) {
        p->fd = open(p->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        REQUIRE(p->fd >= 0, ERR_IO, "cannot create %s: %s", p->path, strerror(errno));
        /* A file system without locks answers something else; then there is none. */
        REQUIRE(flock(p->fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK, ERR_INPUT,
                "%s is being downloaded by another process: wait for it, or stop it", p->path);
        struct stat mine, named;
        REQUIRE(fstat(p->fd, &mine) == 0 && S_ISREG(mine.st_mode), ERR_IO,
                "%s is in the way: it is no regular file", p->path);
        if (stat(p->path, &named) == 0 && named.st_ino == mine.st_ino &&
            named.st_dev == mine.st_dev) {
            p->size = (uint64_t)mine.st_size;
            return OK;
        }
        close(p->fd);
        p->fd = -1;
    }
}

static Err start_over(Partial *p) {
    p->size = 0;
    p->etag[0] = 0;
    digest_close(&p->digest);
    TRY(digest_open(&p->digest, p->file->kind, p->file->size));
    REQUIRE(ftruncate(p->fd, 0) == 0 && lseek(p->fd, 0, SEEK_SET) == 0, ERR_IO,
            "cannot empty %s: %s", p->path, strerror(errno));
    return OK;
}

static Err partial_open(Partial *p, const Hub *hub, const HubFile *file, const char *target,
                        Meter *meter) {
    *p = (Partial){.hub = hub, .file = file, .meter = meter, .fd = -1};
    char folder[PATH_SIZE];
    TRY(path_format(folder, "%.*s", (int)(path_name(target) - target), target));
    TRY(file_make_directories(*folder ? folder : "."));
    TRY(partial_paths(p->path, p->etag_path, target));
    TRY(open_locked(p));
    if (p->size > file->size || !read_etag(p->etag, file, p->etag_path)) return start_over(p);
    TRY(digest_open(&p->digest, file->kind, file->size));
    TRY(digest_start_of(p->digest, hub, p->fd, p->size, p->path));
    REQUIRE(lseek(p->fd, (off_t)p->size, SEEK_SET) >= 0, ERR_IO, "cannot seek in %s: %s", p->path,
            strerror(errno));
    return OK;
}

/* Closing gives the lock back. */
static void partial_close(Partial *p) {
    digest_close(&p->digest);
    if (p->fd >= 0) close(p->fd);
    p->fd = -1;
}

static void show_progress(const Partial *p) {
    Meter *meter = p->meter;
    int64_t done = (int64_t)((meter->before + p->size) / meter->unit);
    if (done < meter->bar.first) meter->bar.first = done; /* what was here was of no use */
    progress_set(&meter->bar, done, meter->note);
}

/* ---- one try ---- */

static Err save_etag(Partial *p, const char *etag) {
    char text[ETAG_BYTES_MOST];
    snprintf(p->etag, sizeof p->etag, "%s", etag);
    int length = snprintf(text, sizeof text, "%s\n%s\n", p->file->hash, p->etag);
    return file_write(p->etag_path, text, (size_t)length);
}

/* The answer to a request for the rest must be that rest. */
static bool continues(const Partial *p, const HttpReply *reply) {
    return reply->range_first >= 0 && (uint64_t)reply->range_first == p->size &&
           (reply->range_total < 0 || (uint64_t)reply->range_total == p->file->size) &&
           (!*reply->etag || !*p->etag || !strcmp(reply->etag, p->etag));
}

static Err begin_file(void *context, const HttpReply *reply) {
    Partial *p = context;
    if (reply->status == 206) {
        if (continues(p, reply)) return OK;
        TRY(start_over(p));
        FAIL(ERR_COMM, "the server sent another part than the one asked for");
    }
    if (p->size) log_info("%s: the server sends all of it again", p->file->path);
    TRY(start_over(p));
    p->wrong = reply->length >= 0 && (uint64_t)reply->length != p->file->size;
    REQUIRE(!p->wrong, ERR_INPUT, "the server sends %lld bytes where the list says %llu",
            (long long)reply->length, (unsigned long long)p->file->size);
    return save_etag(p, reply->etag);
}

static Err add_bytes(void *context, const void *bytes, size_t size) {
    Partial *p = context;
    p->meter->downloaded += size;
    p->wrong = size > p->file->size - p->size;
    REQUIRE(!p->wrong, ERR_INPUT, "the server sends more than the %llu bytes of the list",
            (unsigned long long)p->file->size);
    const char *at = bytes;
    for (size_t left = size; left;) {
        ssize_t wrote = write(p->fd, at, left);
        if (wrote < 0 && errno == EINTR) continue;
        REQUIRE(wrote >= 0, ERR_IO, "cannot write %s: %s", p->path, strerror(errno));
        at += wrote;
        left -= (size_t)wrote;
    }
    digest_add(p->digest, bytes, size);
    p->size += size;
    show_progress(p);
    return OK;
}

static Err check_hash(Partial *p) {
    char hash[DIGEST_TEXT_SIZE];
    digest_text(p->digest, hash);
    p->wrong = strcmp(hash, p->file->hash) != 0;
    REQUIRE(!p->wrong, ERR_INPUT, "its %s is %s, and %s in the list",
            digest_kind_name(p->file->kind), hash, p->file->hash);
    return OK;
}

/* Asks for what is missing. OK with p->size short of the whole when another try may help. */
static Err ask(Partial *p, const char *url, HttpReply *reply) {
    HttpGet get = {.url = url,
                   .token = p->hub->token,
                   .from = p->size,
                   .if_range = p->etag,
                   .begin = begin_file,
                   .body = add_bytes,
                   .context = p};
    TRY(http_get(p->hub->http, &get, reply));
    if (reply->status == 416) {
        TRY(start_over(p));
        FAIL(ERR_COMM, "the server does not go on from there");
    }
    bool short_body = (reply->status == 200 || reply->status == 206) && p->size < p->file->size;
    REQUIRE(!short_body, ERR_COMM, "the connection ended after %s of %s", fetch_bytes(p->size),
            fetch_bytes(p->file->size));
    return OK;
}

/* ---- all of it ---- */

/* Until every byte is here; errors with p->wrong set are contents that were not the announced. */
static Err complete(Partial *p, const char *url) {
    Retry retry = {0};
    uint64_t most = p->size;
    bool asked = false;
    /* Even a file of no bytes is asked for once. */
    while (p->size < p->file->size || (p->file->size == 0 && !asked)) {
        HttpReply reply;
        Err err = ask(p, url, &reply);
        if (p->wrong) return err;
        if (p->size >= most + PROGRESS_BYTES) {
            most = p->size;
            retry = (Retry){0};
        }
        bool answered = err == OK && (reply.status == 200 || reply.status == 206);
        if (!answered) TRY(retry_pause(&retry, p->hub, err, &reply, p->file->path));
        asked |= answered;
    }
    return check_hash(p);
}

/* Contents that are not the announced ones are deleted, and tried once more. */
static Err complete_right(Partial *p, const char *url) {
    for (int wrong = 1;; wrong++) {
        Err err = complete(p, url);
        if (!p->wrong) return err;
        if (wrong == WRONG_MOST) {
            unlink(p->path);
            unlink(p->etag_path);
            return err_prefix(err, "%s is not what the hub announces, %d times: ", p->file->path,
                              wrong);
        }
        log_warn("%s: %s; once more from the start", p->file->path, err_message());
        TRY(start_over(p));
        p->wrong = false;
    }
}

static Err finish(Partial *p, const char *target) {
    REQUIRE(fsync(p->fd) == 0, ERR_IO, "cannot sync %s: %s", p->path, strerror(errno));
    TRY(file_rename(p->path, target));
    return file_remove_tree(p->etag_path);
}

Err file_fetch(const Hub *hub, const HubFile *file, const char *commit, const char *target,
               Meter *meter) {
    Partial p;
    Buf url = {0};
    hub_file_url(&url, hub, commit, file->path);
    Err err = partial_open(&p, hub, file, target, meter);
    if (err == OK) err = complete_right(&p, buf_cstr(&url));
    if (err == OK) err = finish(&p, target);
    partial_close(&p);
    buf_free(&url);
    return err;
}
