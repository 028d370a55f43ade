/* A folder that one process at a time works in. The system's lock (flock) decides among the
 * processes of a machine, and among all where the file system carries locks; for where it does not,
 * a lease lies in the folder as ".lease" (core/lease.h). */
#ifndef CADVLM_CORE_FOLDER_LOCK_H
#define CADVLM_CORE_FOLDER_LOCK_H

#include "core/err.h"

typedef struct FolderLock FolderLock;

/* ERR_INPUT, "`busy` FOLDER …", where another works in it. */
Err folder_lock(FolderLock **lock, const char *folder, const char *busy);

/* ERR_IO when another has taken it over, since this process was not to be seen for a long time:
 * asked before anything is replaced. */
Err folder_lock_check(const FolderLock *lock);

/* Gives it back; so does the end of the process. NULL is fine. */
void folder_unlock(FolderLock **lock);

#endif
