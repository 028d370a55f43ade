/* A list of open files by their last use, under one lock; see the header. */
#include "data/open_files.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* More than this is asked of no system: some programs that are started from here walk through all
 * numbers that a descriptor could have. */
enum { LIMIT_MOST = 1 << 16 };

static struct {
    pthread_mutex_t lock;
    OpenFile *oldest, *newest;
    int count, most;
} open_files = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The process's own limit is raised as far as it may raise it. Half of it is ours: the rest is for
 * ranks, workers and what is written. */
static int most_files(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 128;
    rlim_t wanted = limit.rlim_max < LIMIT_MOST ? limit.rlim_max : LIMIT_MOST;
    if (limit.rlim_cur < wanted) {
        struct rlimit raised = {wanted, limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
    }
    return limit.rlim_cur < LIMIT_MOST ? (int)limit.rlim_cur / 2 : LIMIT_MOST / 2;
}

/* ---- the list; under the lock ---- */

static void take_out(OpenFile *file) {
    *(file->older ? &file->older->newer : &open_files.oldest) = file->newer;
    *(file->newer ? &file->newer->older : &open_files.newest) = file->older;
    file->older = file->newer = NULL;
}

static void put_newest(OpenFile *file) {
    file->older = open_files.newest;
    *(file->older ? &file->older->newer : &open_files.oldest) = file;
    open_files.newest = file;
}

static void shut(OpenFile *file) {
    take_out(file);
    close(file->descriptor - 1);
    file->descriptor = 0;
    open_files.count--;
}

/* Closes the one whose last use lies back longest; false when all are in use. */
static bool shut_oldest(void) {
    for (OpenFile *file = open_files.oldest; file; file = file->newer) {
        if (file->users) continue;
        shut(file);
        return true;
    }
    return false;
}

static Err open_one(OpenFile *file, const char *path) {
    if (!open_files.most) open_files.most = most_files();
    while (open_files.count >= open_files.most && shut_oldest()) continue;
    int descriptor;
    do descriptor = open(path, O_RDONLY | O_CLOEXEC);
    while (descriptor < 0 && (errno == EMFILE || errno == ENFILE) && shut_oldest());
    REQUIRE(descriptor >= 0, ERR_IO, "cannot open %s: %s", path, strerror(errno));
    file->descriptor = descriptor + 1;
    open_files.count++;
    put_newest(file);
    return OK;
}

/* ---- for users ---- */

Err open_file_take(OpenFile *file, const char *path, int *descriptor) {
    Err err = OK;
    pthread_mutex_lock(&open_files.lock);
    if (file->descriptor) {
        take_out(file);
        put_newest(file);
    } else {
        err = open_one(file, path);
    }
    if (err == OK) file->users++;
    *descriptor = file->descriptor - 1;
    pthread_mutex_unlock(&open_files.lock);
    return err;
}

void open_file_leave(OpenFile *file) {
    pthread_mutex_lock(&open_files.lock);
    file->users--;
    pthread_mutex_unlock(&open_files.lock);
}

void open_file_close(OpenFile *file) {
    pthread_mutex_lock(&open_files.lock);
    CHECK(!file->users, "a file is closed while %d read from it", file->users);
    if (file->descriptor) shut(file);
    pthread_mutex_unlock(&open_files.lock);
}
