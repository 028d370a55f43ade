/* Files and paths; see the header. */
#include "core/file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/hash.h"
#include "core/text.h"

/* Some bytes, of `size` that must still be there; *got > 0. */
static Err read_some(void *out, size_t *got, int fd, size_t size, const char *path) {
    ssize_t bytes;
    do bytes = read(fd, out, size);
    while (bytes < 0 && errno == EINTR);
    REQUIRE(bytes >= 0, ERR_IO, "cannot read %s: %s", path, strerror(errno));
    REQUIRE(bytes > 0, ERR_IO, "%s became shorter while it was read", path);
    *got = (size_t)bytes;
    return OK;
}

static Err read_descriptor(Buf *out, int fd, size_t size, const char *path) {
    buf_reserve(out, size);
    for (size_t got; out->size < size; out->size += got)
        TRY(read_some(out->data + out->size, &got, fd, size - out->size, path));
    out->data[out->size] = 0;
    return OK;
}

/* ---- opening ---- */

static bool begins(const char *text, size_t size, const char *start) {
    return size >= strlen(start) && !strncasecmp(text, start, strlen(start));
}

static bool is_html_name(const char *path) {
    const char *extension = path_extension(path);
    return !strcasecmp(extension, ".html") || !strcasecmp(extension, ".htm");
}

/* What stands in the place of a file that was not downloaded: a Git LFS pointer after a clone, a
 * page of a server that says why not. */
static Err refuse_stand_in(int fd, const char *path) {
    char start[256];
    ssize_t got = pread(fd, start, sizeof start, 0);
    size_t size = got > 0 ? (size_t)got : 0, at = text_mark_size(start, size);
    REQUIRE(!begins(start, size, "version https://git-lfs.github.com/"), ERR_INPUT,
            "%s is a Git LFS pointer in the place of the file: run git lfs pull in its folder, or "
            "download it again",
            path);
    while (at < size && isspace((unsigned char)start[at])) at++;
    bool page =
        begins(start + at, size - at, "<!doctype html") || begins(start + at, size - at, "<html");
    REQUIRE(!page || is_html_name(path), ERR_INPUT,
            "%s is an HTML page in the place of the file: what a server said instead of sending "
            "it; download it again",
            path);
    return OK;
}

/* With O_NONBLOCK, so that a pipe of that name is refused, not waited for. */
Err file_open(int *out, size_t *size, const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    REQUIRE(fd >= 0, ERR_INPUT, "cannot open %s: %s", path, strerror(errno));
    Err err = OK;
    struct stat info;
    REQUIRE_GOTO(err, fstat(fd, &info) == 0, ERR_IO, "cannot stat %s: %s", path, strerror(errno));
    REQUIRE_GOTO(err, S_ISREG(info.st_mode), ERR_INPUT, "%s is not a regular file", path);
    TRY_GOTO(err, refuse_stand_in(fd, path));
    *out = fd;
    *size = (size_t)info.st_size;
    return OK;
done:
    close(fd);
    return err;
}

Err file_check(const char *path) {
    int fd;
    size_t size;
    TRY(file_open(&fd, &size, path));
    close(fd);
    return OK;
}

static Err open_at_most(int *fd, size_t *size, const char *path, size_t max_bytes) {
    TRY(file_open(fd, size, path));
    if (*size <= max_bytes) return OK;
    close(*fd);
    FAIL(ERR_INPUT, "%s has %zu bytes, more than the %zu allowed", path, *size, max_bytes);
}

/* ---- reading and writing ---- */

Err file_read(Buf *out, const char *path, size_t max_bytes) {
    int fd;
    size_t size;
    buf_clear(out);
    TRY(open_at_most(&fd, &size, path, max_bytes));
    Err err = read_descriptor(out, fd, size, path);
    close(fd);
    return err;
}

Err file_temporary(char out[PATH_SIZE], const char *path) {
    uint32_t number; /* machines that share a file system give out the same process numbers */
    REQUIRE(getentropy(&number, sizeof number) == 0, ERR_IO, "no random numbers: %s",
            strerror(errno));
    return path_format(out, "%s.tmp.%d-%08x", path, (int)getpid(), number);
}

/* A rename would put a file in place of the device, for all that use it. */
Err file_target(const char *path) {
    struct stat info;
    bool there = stat(path, &info) == 0;
    bool device = !strncmp(path, "/dev/", 5) && strncmp(path, "/dev/shm/", 9) != 0;
    REQUIRE(!device && (!there || S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)), ERR_INPUT,
            "%s is a device or a pipe: name a file to write", path);
    return OK;
}

Err file_writer_open(FileWriter *writer, const char *path) {
    *writer = (FileWriter){.fd = -1};
    TRY(file_target(path));
    TRY(path_format(writer->path, "%s", path));
    TRY(file_temporary(writer->temporary, path));
    writer->fd = open(writer->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    REQUIRE(writer->fd >= 0, ERR_IO, "cannot create %s: %s", writer->temporary, strerror(errno));
    return OK;
}

Err file_writer_write(FileWriter *writer, const void *bytes, size_t size) {
    const char *at = bytes;
    while (size) {
        ssize_t wrote = write(writer->fd, at, size);
        if (wrote < 0 && errno == EINTR) continue;
        REQUIRE(wrote >= 0, ERR_IO, "cannot write %s: %s", writer->path, strerror(errno));
        at += wrote;
        size -= (size_t)wrote;
    }
    return OK;
}

Err file_writer_finish(FileWriter *writer) {
    REQUIRE(fsync(writer->fd) == 0, ERR_IO, "cannot sync %s: %s", writer->path, strerror(errno));
    int closed = close(writer->fd);
    writer->fd = -1;
    REQUIRE(closed == 0, ERR_IO, "cannot close %s: %s", writer->path, strerror(errno));
    TRY(file_rename(writer->temporary, writer->path));
    writer->temporary[0] = 0;
    return OK;
}

void file_writer_abandon(FileWriter *writer) {
    if (writer->fd >= 0) close(writer->fd);
    if (writer->temporary[0]) unlink(writer->temporary);
    *writer = (FileWriter){.fd = -1};
}

Err file_write(const char *path, const void *bytes, size_t size) {
    FileWriter writer;
    Err err = file_writer_open(&writer, path);
    if (err == OK) err = file_writer_write(&writer, bytes, size);
    if (err == OK) err = file_writer_finish(&writer);
    file_writer_abandon(&writer);
    return err;
}

Err file_map(const void **data, size_t *size, const char *path) {
    int fd;
    size_t bytes;
    *data = NULL;
    *size = 0;
    TRY(file_open(&fd, &bytes, path));
    Err err = OK;
    if (bytes == 0) goto done;
    void *mapped = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    REQUIRE_GOTO(err, mapped != MAP_FAILED, ERR_IO, "cannot map %s: %s", path, strerror(errno));
    *data = mapped;
    *size = bytes;
done:
    close(fd);
    return err;
}

void file_unmap(const void **data, size_t size) {
    if (*data) munmap((void *)(uintptr_t)*data, size);
    *data = NULL;
}

Err file_checksum(uint64_t *hash, uint64_t *bytes, const char *path) {
    const void *data;
    size_t size;
    TRY(file_map(&data, &size, path));
    *hash = hash_bytes(data, size);
    *bytes = size;
    file_unmap(&data, size);
    return OK;
}

static Err copy_descriptor(FileWriter *writer, int fd, size_t size, const char *path) {
    enum { PIECE = 1 << 20 };
    char *piece = malloc(PIECE);
    CHECK(piece, "out of memory: %d bytes", PIECE);
    Err err = OK;
    for (size_t got = 0; size && err == OK; size -= got) {
        err = read_some(piece, &got, fd, size < PIECE ? size : PIECE, path);
        if (err == OK) err = file_writer_write(writer, piece, got);
    }
    free(piece);
    return err;
}

Err file_copy(const char *from, const char *to, size_t max_bytes) {
    int fd;
    size_t size;
    FileWriter writer;
    TRY(open_at_most(&fd, &size, from, max_bytes));
    Err err = file_writer_open(&writer, to);
    if (err == OK) err = copy_descriptor(&writer, fd, size, from);
    if (err == OK) err = file_writer_finish(&writer);
    file_writer_abandon(&writer);
    close(fd);
    return err;
}

/* A folder that may not be searched hides what is in it: only these two say that nothing is there.
 */
static bool says_absent(int code) {
    return code == ENOENT || code == ENOTDIR;
}

bool file_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 || !says_absent(errno);
}

Err file_reach(const char *path) {
    struct stat info;
    REQUIRE(stat(path, &info) == 0 || says_absent(errno), ERR_INPUT, "cannot look at %s: %s", path,
            strerror(errno));
    return OK;
}

bool file_is_directory(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

Err file_size(const char *path, uint64_t *bytes) {
    struct stat info;
    REQUIRE(stat(path, &info) == 0, ERR_IO, "cannot stat %s: %s", path, strerror(errno));
    *bytes = (uint64_t)info.st_size;
    return OK;
}

Err file_make_directories(const char *path) {
    char prefix[PATH_SIZE];
    TRY(path_format(prefix, "%s", path));
    for (char *at = prefix + 1; *at; at++) {
        if (*at != '/') continue;
        *at = 0;
        if (mkdir(prefix, 0777) != 0 && errno != EEXIST)
            FAIL(ERR_IO, "cannot create the folder %s: %s", prefix, strerror(errno));
        *at = '/';
    }
    if (mkdir(prefix, 0777) != 0 && errno != EEXIST)
        FAIL(ERR_IO, "cannot create the folder %s: %s", prefix, strerror(errno));
    REQUIRE(file_is_directory(path), ERR_IO, "%s is in the way: a folder is needed there", path);
    return OK;
}

Err file_sync_directory(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    REQUIRE(fd >= 0, ERR_IO, "cannot open the folder %s: %s", path, strerror(errno));
    /* Some file systems cannot sync a folder (EINVAL); the rename itself is then all there is. */
    int failed = fsync(fd) != 0 && errno != EINVAL;
    int code = errno;
    close(fd);
    REQUIRE(!failed, ERR_IO, "cannot sync the folder %s: %s", path, strerror(code));
    return OK;
}

static bool is_inside(const char *folder, const char *path) {
    size_t length = strlen(folder);
    if (length == 1) return true; /* the root */
    return !strncmp(path, folder, length) && (!path[length] || path[length] == '/');
}

Err file_stays_inside(const char *folder, const char *path) {
    char *root = realpath(folder, NULL), *real = realpath(path, NULL);
    bool found = root && real, inside = found && is_inside(root, real);
    free(root);
    free(real);
    REQUIRE(found, ERR_IO, "cannot find %s in %s", path, folder);
    REQUIRE(inside, ERR_INPUT, "%s leads out of %s by a link, and is not read", path, folder);
    return OK;
}

Err file_rename(const char *from, const char *to) {
    char parent[PATH_SIZE];
    REQUIRE(rename(from, to) == 0, ERR_IO, "cannot rename %s to %s: %s", from, to, strerror(errno));
    TRY(path_format(parent, "%s", to));
    char *slash = strrchr(parent, '/');
    if (!slash) return file_sync_directory(".");
    if (slash == parent) slash++;
    *slash = 0;
    return file_sync_directory(parent);
}

Err file_remove_tree(const char *path) {
    struct stat info;
    if (lstat(path, &info) != 0) {
        REQUIRE(errno == ENOENT, ERR_IO, "cannot stat %s: %s", path, strerror(errno));
        return OK;
    }
    if (!S_ISDIR(info.st_mode)) {
        REQUIRE(unlink(path) == 0 || errno == ENOENT, ERR_IO, "cannot delete %s: %s", path,
                strerror(errno));
        return OK;
    }
    FileNames names;
    TRY(file_list(&names, path));
    Err err = OK;
    for (size_t i = 0; i < names.count && err == OK; i++) {
        char child[PATH_SIZE];
        err = path_join(child, path, names.names[i]);
        if (err == OK) err = file_remove_tree(child);
    }
    file_names_free(&names);
    TRY(err);
    REQUIRE(rmdir(path) == 0 || errno == ENOENT, ERR_IO, "cannot delete the folder %s: %s", path,
            strerror(errno));
    return OK;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

Err file_list(FileNames *out, const char *directory) {
    *out = (FileNames){0};
    DIR *dir = opendir(directory);
    REQUIRE(dir, ERR_IO, "cannot open the folder %s: %s", directory, strerror(errno));
    size_t capacity = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (out->count == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            out->names = realloc(out->names, capacity * sizeof *out->names);
            CHECK(out->names, "out of memory: %zu names", capacity);
        }
        out->names[out->count] = strdup(entry->d_name);
        CHECK(out->names[out->count], "out of memory: a name");
        out->count++;
    }
    closedir(dir);
    if (out->count) qsort(out->names, out->count, sizeof *out->names, compare_names);
    return OK;
}

void file_names_free(FileNames *names) {
    for (size_t i = 0; i < names->count; i++) free(names->names[i]);
    free(names->names);
    *names = (FileNames){0};
}

Err path_format(char out[PATH_SIZE], const char *format, ...) {
    va_list args;
    va_start(args, format);
    int length = vsnprintf(out, PATH_SIZE, format, args);
    va_end(args);
    REQUIRE(length >= 0 && length < PATH_SIZE, ERR_INPUT,
            "a path is longer than %d characters: %.60s…", PATH_SIZE, out);
    return OK;
}

Err path_join(char out[PATH_SIZE], const char *directory, const char *name) {
    return path_format(out, "%s/%s", directory, name);
}

const char *path_home(void) {
    const char *home = getenv("HOME");
    return home && home[0] == '/' && file_is_directory(home) ? home : NULL;
}

const char *path_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

const char *path_extension(const char *path) {
    const char *name = path_name(path);
    const char *dot = strrchr(name, '.');
    return dot && dot != name ? dot : name + strlen(name);
}

Err path_of_program(char out[PATH_SIZE]) {
    ssize_t length = readlink("/proc/self/exe", out, PATH_SIZE - 1);
    REQUIRE(length > 0, ERR_IO, "cannot read where this program lies: %s", strerror(errno));
    out[length] = 0;
    char *slash = strrchr(out, '/');
    if (slash && slash != out) *slash = 0;
    return OK;
}
