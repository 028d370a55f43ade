/* A folder of files that is complete or absent; see the header. */
#include "core/folder.h"

#include <string.h>

static Err refuse_full(const char *path) {
    FileNames names;
    if (!file_exists(path)) return OK;
    REQUIRE(file_is_directory(path), ERR_INPUT, "%s is a file: a folder is to be written there",
            path);
    TRY(file_list(&names, path));
    size_t count = names.count;
    file_names_free(&names);
    REQUIRE(count == 0, ERR_INPUT, "%s is not empty: give another folder, or delete it first",
            path);
    return OK;
}

Err folder_writer_open(FolderWriter *writer, const char *path) {
    *writer = (FolderWriter){0};
    TRY(path_format(writer->path, "%s", path));
    size_t length = strlen(writer->path);
    while (length > 1 && writer->path[length - 1] == '/') writer->path[--length] = 0;
    TRY(refuse_full(writer->path));
    TRY(file_temporary(writer->temporary, writer->path));
    return file_make_directories(writer->temporary);
}

Err folder_writer_add(FolderWriter *writer, const SmallFile *files, int count) {
    for (int i = 0; i < count; i++) {
        char path[PATH_SIZE];
        TRY(path_join(path, writer->temporary, files[i].name));
        TRY(file_write(path, files[i].text, strlen(files[i].text)));
    }
    return OK;
}

Err folder_writer_finish(FolderWriter *writer) {
    TRY(file_sync_directory(writer->temporary));
    TRY(file_rename(writer->temporary, writer->path)); /* an empty folder there goes */
    writer->temporary[0] = 0;
    return OK;
}

void folder_writer_abandon(FolderWriter *writer) {
    if (writer->temporary[0]) IGNORE(file_remove_tree(writer->temporary));
    writer->temporary[0] = 0;
}
