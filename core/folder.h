/* A folder of files that is complete or absent: made beside its place under another name, and then
 * moved there. */
#ifndef CADVLM_CORE_FOLDER_H
#define CADVLM_CORE_FOLDER_H

#include "core/file.h"

typedef struct FolderWriter {
    char path[PATH_SIZE], temporary[PATH_SIZE]; /* files go into `temporary` */
} FolderWriter;

/* What stands at `path` already may only be an empty folder. */
Err folder_writer_open(FolderWriter *writer, const char *path);
Err folder_writer_finish(FolderWriter *writer);
void folder_writer_abandon(FolderWriter *writer); /* deletes; safe after finish */

/* Text files that go in; all borrowed. */
typedef struct SmallFile {
    const char *name, *text;
} SmallFile;

Err folder_writer_add(FolderWriter *writer, const SmallFile *files, int count);

#endif
