#include "core/system.h"

#include <stdio.h>
#include <string.h>

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
