/* Files: read whole with a limit, written complete or not at all. */
#ifndef CADVLM_CORE_FILE_H
#define CADVLM_CORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"

enum { PATH_SIZE = 4096 };

/* Opens a regular file for reading. ERR_INPUT says why not: not there, not permitted, a folder or a
 * pipe; or a Git LFS pointer or an HTML page in its place. All that read files go through here. */
Err file_open(int *fd, size_t *size, const char *path);

/* The same for a file that another library opens. */
Err file_check(const char *path);

/* Reads a whole regular file; more than `max_bytes` is an error (user files are hostile). `out` is
 * cleared first. */
Err file_read(Buf *out, const char *path, size_t max_bytes);

/* Writes `path` so that it is complete or absent: temporary name beside it, fsync of file and
 * folder, rename. */
Err file_write(const char *path, const void *bytes, size_t size);

/* ERR_INPUT where a device or a pipe stands, or may: file_write would replace it. It asks by
 * itself; this is for those who work long before they write. */
Err file_target(const char *path);

/* A name beside `path` that no other process uses, on whatever machine: PATH.tmp.PID-RANDOM. */
Err file_temporary(char out[PATH_SIZE], const char *path);

/* The same piece by piece, for what does not fit in memory twice. file_writer_finish syncs and
 * renames; until then nothing stands at `path`. After a failed write, call file_writer_abandon. */
typedef struct FileWriter {
    int fd;
    char path[PATH_SIZE], temporary[PATH_SIZE];
} FileWriter;

Err file_writer_open(FileWriter *writer, const char *path);
Err file_writer_write(FileWriter *writer, const void *bytes, size_t size);
Err file_writer_finish(FileWriter *writer);
void file_writer_abandon(FileWriter *writer); /* deletes; safe after finish */

/* Maps a whole regular file for reading; *size may be 0 (then *data is NULL). Give back with
 * file_unmap. */
Err file_map(const void **data, size_t *size, const char *path);
void file_unmap(const void **data, size_t size);

/* The checksum (hash_bytes, core/hash.h) and the length of a whole regular file. */
Err file_checksum(uint64_t *hash, uint64_t *bytes, const char *path);

/* Copies through file_write's temporary-and-rename; `max_bytes` as in file_read. */
Err file_copy(const char *from, const char *to, size_t max_bytes);

/* Also true where nobody can know, since a folder on the way may not be searched: opening says so.
 */
bool file_exists(const char *path);
bool file_is_directory(const char *path);

/* ERR_INPUT where nobody can know whether there is a file or folder, and why. To be called before
 * it is said that there is none. */
Err file_reach(const char *path);

Err file_size(const char *path, uint64_t *bytes);

/* mkdir -p. */
Err file_make_directories(const char *path);
Err file_sync_directory(const char *path);

/* ERR_INPUT where links lead from `path` out of `folder`, both of which are there: a folder that
 * somebody else has made must not decide what else is read. */
Err file_stays_inside(const char *folder, const char *path);

/* Renames and syncs the parent folder. */
Err file_rename(const char *from, const char *to);

/* Deletes a file or a whole folder; nothing there is fine. */
Err file_remove_tree(const char *path);

/* The names in a folder, sorted, without . and ..; free with file_names_free. */
typedef struct FileNames {
    char **names;
    size_t count;
} FileNames;

Err file_list(FileNames *out, const char *directory);
void file_names_free(FileNames *names);

/* "a/b" from "a" and "b"; an error when longer than PATH_SIZE. */
Err path_join(char out[PATH_SIZE], const char *directory, const char *name);

/* snprintf into a path; an error when it does not fit. */
Err path_format(char out[PATH_SIZE], const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The user's home folder; NULL where HOME names none, as for users of services (/nonexistent). */
const char *path_home(void);

/* The part after the last '/'. */
const char *path_name(const char *path);

/* The extension of the name with its dot (".py"), or "". */
const char *path_extension(const char *path);

/* Where this program's own file lies ("/usr/bin"), to find what is installed beside it. */
Err path_of_program(char out[PATH_SIZE]);

#endif
