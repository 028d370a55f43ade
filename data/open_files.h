/* Files that are kept open as long as the process may have so many.
 *
 * A process may have some thousand open files, a mix of datasets more shards than that. Those used
 * last stay open, over all datasets; another is opened again when it is asked for. Safe from
 * several threads. */
#ifndef CADVLM_DATA_OPEN_FILES_H
#define CADVLM_DATA_OPEN_FILES_H

#include "core/err.h"

/* One of them, zeroed at first: not open. It must stay where it is until open_file_close. */
typedef struct OpenFile {
    int descriptor; /* + 1; 0: not open */
    int users;      /* between take and leave */
    struct OpenFile *older, *newer;
} OpenFile;

/* *descriptor can be read from until open_file_leave; `path` is opened where it is not open. */
Err open_file_take(OpenFile *file, const char *path, int *descriptor);
void open_file_leave(OpenFile *file);

/* Closes it where it is open; nobody may be using it. */
void open_file_close(OpenFile *file);

#endif
