#include "core/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/file.h"
#include "core/json.h"
#include "core/log.h"
#include "core/system.h"

enum { LEASE_FILE_MAX = 1 << 16, WHO_SIZE = 256 };

const LeaseTimes lease_times = {.beat = 10, .stale = 60, .settle = 2};

/* Who holds a lease. */
typedef struct Holder {
    char host[WHO_SIZE], since[32]; /* for people */
    char machine[WHO_SIZE]; /* boot and process namespace: where its number means something */
    int64_t process;
    char started[32]; /* of the process, so that its number given to another is not it */
    char token[24];   /* of this lease, unlike all others */
} Holder;

struct Lease {
    char path[PATH_SIZE];
    Holder own;
    LeaseTimes times;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ending;
    bool ends;
};

/* ---- who ---- */

/* When the system started a process: field 22 of its stat, counted behind its name, which may have
 * anything in it. "": there is no such process, or it cannot be seen. */
static void start_of(int64_t process, char out[32]) {
    char path[64];
    Buf stat = {0};
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)process);
    system_read(&stat, path);
    const char *at = strrchr(buf_cstr(&stat), ')');
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    snprintf(out, 32, "%.*s", at ? (int)strcspn(at + 1, " ") : 0, at ? at + 1 : "");
    buf_free(&stat);
}

static void read_machine(char out[WHO_SIZE]) {
    char boot[BOOT_ID_SIZE], names[64] = "";
    system_boot_id(boot);
    ssize_t length = readlink("/proc/self/ns/pid", names, sizeof names - 1);
    if (length < 0) boot[0] = 0;
    snprintf(out, WHO_SIZE, "%s%s%s", boot, boot[0] ? " " : "", boot[0] ? names : "");
}

static Err describe_self(Holder *out) {
    uint64_t number;
    time_t now = time(NULL);
    struct tm utc;
    *out = (Holder){.process = getpid()};
    REQUIRE(getentropy(&number, sizeof number) == 0, ERR_IO, "no random numbers: %s",
            strerror(errno));
    snprintf(out->token, sizeof out->token, "%016llx", (unsigned long long)number);
    gethostname(out->host, sizeof out->host - 1);
    read_machine(out->machine);
    start_of(out->process, out->started);
    gmtime_r(&now, &utc);
    strftime(out->since, sizeof out->since, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return OK;
}

/* ---- the file ---- */

static void print_holder(Buf *out, const Holder *h) {
    Json *root = js_new_object();
    js_set_text(root, "host", h->host);
    js_set_integer(root, "process", h->process);
    js_set_text(root, "since", h->since);
    js_set_text(root, "machine", h->machine);
    js_set_text(root, "started", h->started);
    js_set_text(root, "token", h->token);
    js_print(out, root, JSON_INDENTED, 17);
    buf_text(out, "\n");
    js_free(&root);
}

static void take_text(char *out, size_t size, const Json *root, const char *key) {
    const char *text = js_text(js_get(root, key), NULL);
    snprintf(out, size, "%s", text ? text : "");
}

/* What is no lease of ours is somebody's of whom nothing is known. */
static void parse_holder(Holder *out, const Buf *text) {
    Json *root = NULL;
    *out = (Holder){.process = 0};
    if (js_parse(&root, buf_cstr(text), text->size, "a lease") != OK) err_clear();
    take_text(out->host, sizeof out->host, root, "host");
    take_text(out->since, sizeof out->since, root, "since");
    take_text(out->machine, sizeof out->machine, root, "machine");
    take_text(out->started, sizeof out->started, root, "started");
    take_text(out->token, sizeof out->token, root, "token");
    js_integer(js_get(root, "process"), &out->process);
    js_free(&root);
}

/* A lease as it was at one moment. */
typedef struct Sight {
    bool there;
    Buf text;
    struct timespec touched;
    Holder holder;
} Sight;

/* Opened anew each time, so that a network file system asks its server. */
static Err look(Sight *out, const char *path) {
    struct stat info;
    char piece[4096];
    buf_clear(&out->text);
    out->there = false;
    out->holder = (Holder){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) return OK;
    REQUIRE(fd >= 0, ERR_IO, "cannot open %s: %s", path, strerror(errno));
    for (ssize_t got; out->text.size < LEASE_FILE_MAX && (got = read(fd, piece, sizeof piece)) > 0;)
        buf_append(&out->text, piece, (size_t)got);
    int failed = fstat(fd, &info);
    close(fd);
    REQUIRE(failed == 0, ERR_IO, "cannot stat %s: %s", path, strerror(errno));
    out->there = true;
    out->touched = info.st_mtim;
    parse_holder(&out->holder, &out->text);
    return OK;
}

static bool same_sight(const Sight *a, const Sight *b) {
    return a->there == b->there && a->text.size == b->text.size &&
           !memcmp(buf_cstr(&a->text), buf_cstr(&b->text), a->text.size) &&
           a->touched.tv_sec == b->touched.tv_sec && a->touched.tv_nsec == b->touched.tv_nsec;
}

/* Only where there is none: *made false where there is. */
static Err create_lease(const Lease *lease, bool *made) {
    int fd = open(lease->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    *made = fd >= 0;
    if (fd < 0 && errno == EEXIST) return OK;
    REQUIRE(fd >= 0, ERR_IO, "cannot create %s: %s", lease->path, strerror(errno));
    Buf text = {0};
    print_holder(&text, &lease->own);
    bool whole = write(fd, text.data, text.size) == (ssize_t)text.size;
    int code = errno;
    buf_free(&text);
    whole &= close(fd) == 0;
    if (!whole) unlink(lease->path);
    REQUIRE(whole, ERR_IO, "cannot write %s: %s", lease->path, strerror(code));
    return OK;
}

static Err replace_lease(const Lease *lease) {
    Buf text = {0};
    print_holder(&text, &lease->own);
    Err err = file_write(lease->path, text.data, text.size);
    buf_free(&text);
    return err;
}

/* ---- others ---- */

/* A signal that somebody waits for ends it. */
static Err wait_seconds(const Lease *lease, double seconds) {
    struct timespec t = {.tv_sec = (time_t)seconds,
                         .tv_nsec = (long)(1e9 * (seconds - (double)(time_t)seconds))};
    REQUIRE(nanosleep(&t, &t) == 0 || errno != EINTR, ERR_STOPPED,
            "stopped by a signal while waiting for %s", lease->path);
    return OK;
}

typedef enum Life { DEAD, ALIVE, UNKNOWN } Life;

static Life ask_system(const Holder *h, const Lease *lease, bool alone) {
    char started[32];
    const char *boot = lease->own.machine;
    size_t length = strcspn(boot, " "); /* containers of one machine have the same boot */
    if (alone && length && !strncmp(h->machine, boot, length) && h->machine[length] == ' ')
        return DEAD;
    if (!boot[0] || strcmp(h->machine, boot) != 0) return UNKNOWN;
    start_of(h->process, started);
    return started[0] && !strcmp(started, h->started) ? ALIVE : DEAD;
}

static Err refuse(const Holder *h, const char *busy) {
    FAIL(ERR_INPUT, "%s: process %lld on %s, since %s", busy, (long long)h->process,
         h->host[0] ? h->host : "an unknown machine", h->since[0] ? h->since : "an unknown time");
}

/* Looks whether the lease is touched, for as long as a holder may go without. *seen becomes what is
 * there in the end. */
static Err watch(const Lease *lease, Sight *seen, const char *busy, bool *gone) {
    Sight now = {0};
    double until = clock_seconds() + lease->times.stale;
    log_info(
        "%s holds %s (process %lld, since %s); waiting up to %.0f s to see whether it is at work",
        seen->holder.host[0] ? seen->holder.host : "somebody", lease->path,
        (long long)seen->holder.process, seen->holder.since, lease->times.stale);
    Err err = OK;
    *gone = false;
    while (err == OK && !*gone && clock_seconds() < until) {
        err = wait_seconds(lease, lease->times.beat / 4);
        if (err == OK) err = look(&now, lease->path);
        *gone = err == OK && !now.there;
        if (err == OK && now.there && !same_sight(&now, seen)) err = refuse(&now.holder, busy);
    }
    buf_free(&now.text);
    return err;
}

/* Puts our lease in place of one whose holder is gone, if it is still that one. */
static Err take_over(const Lease *lease, const Sight *dead, const char *busy, bool alone,
                     bool *taken) {
    Sight now = {0};
    Err err = look(&now, lease->path);
    *taken = err == OK && same_sight(&now, dead);
    if (*taken) {
        log_info("taking over %s from process %lld on %s, which is gone", lease->path,
                 (long long)dead->holder.process, dead->holder.host);
        err = replace_lease(lease);
        if (err == OK && !alone) err = wait_seconds(lease, lease->times.settle);
        if (err == OK) err = look(&now, lease->path);
        if (err == OK && strcmp(now.holder.token, lease->own.token) != 0)
            err = refuse(&now.holder, busy);
    }
    buf_free(&now.text);
    return err;
}

/* One round: *done when the lease is ours. */
static Err try_to_take(const Lease *lease, Sight *seen, const char *busy, bool alone, bool *done) {
    bool gone = false;
    TRY(create_lease(lease, done));
    if (*done) return OK;
    TRY(look(seen, lease->path));
    if (!seen->there) return OK;
    Life life = ask_system(&seen->holder, lease, alone);
    if (life == ALIVE) return refuse(&seen->holder, busy);
    if (life == UNKNOWN) TRY(watch(lease, seen, busy, &gone));
    return gone ? OK : take_over(lease, seen, busy, alone, done);
}

/* ---- holding ---- */

/* A lease that has been deleted is written again: somebody tidied up. */
static void touch(const Lease *lease) {
    Sight now = {0};
    bool made;
    int fd = open(lease->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) IGNORE(create_lease(lease, &made));
    if (fd >= 0 && look(&now, lease->path) == OK && !strcmp(now.holder.token, lease->own.token))
        futimens(fd, NULL);
    if (fd >= 0) close(fd);
    buf_free(&now.text);
    err_clear();
}

static void *hold(void *context) {
    Lease *lease = context;
    pthread_mutex_lock(&lease->lock);
    while (!lease->ends) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        double seconds = (double)until.tv_nsec * 1e-9 + lease->times.beat;
        until.tv_sec += (time_t)seconds;
        until.tv_nsec = (long)(1e9 * (seconds - (double)(time_t)seconds));
        pthread_cond_timedwait(&lease->ending, &lease->lock, &until);
        if (lease->ends) break;
        pthread_mutex_unlock(&lease->lock);
        touch(lease);
        pthread_mutex_lock(&lease->lock);
    }
    pthread_mutex_unlock(&lease->lock);
    return NULL;
}

/* Signals are for those who ask about them. */
static Err start_thread(Lease *lease) {
    sigset_t all, before;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&lease->ending, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&lease->lock, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&lease->thread, NULL, hold, lease);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code == 0) return OK;
    unlink(lease->path);
    FAIL(ERR_MEMORY, "cannot start a thread for %s: %s", lease->path, strerror(code));
}

Err lease_take(Lease **out, const char *path, const char *busy, bool alone, LeaseTimes times) {
    Sight seen = {0};
    bool done = false;
    *out = NULL;
    Lease *lease = calloc(1, sizeof *lease);
    CHECK(lease, "out of memory: a lease");
    lease->times = times;
    Err err = path_format(lease->path, "%s", path);
    if (err == OK) err = describe_self(&lease->own);
    while (err == OK && !done) err = try_to_take(lease, &seen, busy, alone, &done);
    if (err == OK) err = start_thread(lease);
    buf_free(&seen.text);
    if (err == OK)
        *out = lease;
    else
        free(lease);
    return err;
}

Err lease_check(const Lease *lease) {
    Sight now = {0};
    Err err = look(&now, lease->path);
    /* One without a token is just being written, by whom will be seen next time. */
    if (err == OK && now.holder.token[0] && strcmp(now.holder.token, lease->own.token) != 0)
        err = err_raise(ERR_IO, __FILE__, __LINE__,
                        "%s is another's now: process %lld on %s, since %s; this one was not heard "
                        "of for %.0f s",
                        lease->path, (long long)now.holder.process, now.holder.host,
                        now.holder.since, lease->times.stale);
    buf_free(&now.text);
    return err;
}

void lease_give(Lease **out) {
    Lease *lease = *out;
    if (!lease) return;
    pthread_mutex_lock(&lease->lock);
    lease->ends = true;
    pthread_cond_signal(&lease->ending);
    pthread_mutex_unlock(&lease->lock);
    pthread_join(lease->thread, NULL);
    ErrState kept; /* of what ends the holder */
    Sight now = {0};
    err_save(&kept);
    if (look(&now, lease->path) == OK && !strcmp(now.holder.token, lease->own.token))
        unlink(lease->path);
    IGNORE(err_restore(&kept));
    buf_free(&now.text);
    pthread_cond_destroy(&lease->ending);
    pthread_mutex_destroy(&lease->lock);
    free(lease);
    *out = NULL;
}
