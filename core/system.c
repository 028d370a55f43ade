#include "core/system.h"

#include <stdio.h>
#include <string.h>

#include "core/file.h"

enum { SYSTEM_FILE_MAX = 1 << 20 };

bool system_read(Buf *out, const char *path) {
    char piece[4096];
    FILE *file = fopen(path, "re");
    buf_clear(out);
    if (!file) return false;
    for (size_t got; out->size < SYSTEM_FILE_MAX && (got = fread(piece, 1, sizeof piece, file));)
        buf_append(out, piece, got);
    fclose(file);
    return true;
}

void system_boot_id(char out[BOOT_ID_SIZE]) {
    Buf text = {0};
    system_read(&text, "/proc/sys/kernel/random/boot_id");
    const char *id = buf_cstr(&text);
    snprintf(out, BOOT_ID_SIZE, "%.*s", (int)strcspn(id, "\n"), id);
    buf_free(&text);
}

bool system_nvidia_file(char out[DEVICE_FILE_SIZE], const char *root) {
    char folder[PATH_SIZE];
    FileNames names = {0};
    bool found = false;
    if (path_format(folder, "%s/dev", root) != OK || file_list(&names, folder) != OK) return false;
    for (size_t i = 0; i < names.count && !found; i++) {
        found = strncmp(names.names[i], "nvidia", 6) == 0;
        if (found) snprintf(out, DEVICE_FILE_SIZE, "/dev/%s", names.names[i]);
    }
    file_names_free(&names);
    return found;
}
