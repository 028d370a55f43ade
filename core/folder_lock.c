#include "core/folder_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/file.h"
#include "core/lease.h"
#include "core/log.h"

struct FolderLock {
    int fd; /* of the folder */
    Lease *lease;
};

/* *locked: the lock is ours; false: the file system has none. */
static Err lock_descriptor(int fd, const char *folder, const char *busy, bool *locked) {
    *locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (*locked) return OK;
    int code = errno;
    REQUIRE(code != EWOULDBLOCK, ERR_INPUT, "%s %s", busy, folder);
    log_warn("%s cannot be locked (%s): a lease file in it keeps others out", folder,
             strerror(code));
    return OK;
}

static Err open_lock(FolderLock *lock, const char *folder, const char *busy) {
    char path[PATH_SIZE], sentence[PATH_SIZE];
    bool locked;
    lock->fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    REQUIRE(lock->fd >= 0, ERR_IO, "cannot open the folder %s: %s", folder, strerror(errno));
    TRY(lock_descriptor(lock->fd, folder, busy, &locked));
    TRY(path_join(path, folder, ".lease"));
    TRY(path_format(sentence, "%s %s", busy, folder));
    return lease_take(&lock->lease, path, sentence, locked, lease_times);
}

Err folder_lock(FolderLock **out, const char *folder, const char *busy) {
    FolderLock *lock = calloc(1, sizeof *lock);
    CHECK(lock, "out of memory: a lock");
    Err err = open_lock(lock, folder, busy);
    *out = lock;
    if (err != OK) folder_unlock(out);
    return err;
}

Err folder_lock_check(const FolderLock *lock) {
    return lease_check(lock->lease);
}

void folder_unlock(FolderLock **out) {
    FolderLock *lock = *out;
    if (!lock) return;
    lease_give(&lock->lease);
    if (lock->fd >= 0) close(lock->fd);
    free(lock);
    *out = NULL;
}
