/* Text of others on standard output; see the header. */
#include "launch/shown.h"

#include <stdio.h>

#include "core/file.h"
#include "core/text.h"

const char *shown(const char *text) {
    static char texts[8][PATH_SIZE];
    static int next;
    char *out = texts[next++ % 8];
    text_escape(out, PATH_SIZE, text);
    return out;
}

void print_shown(const char *text, size_t size) {
    Buf out = {0};
    for (size_t at = 0, length; at < size; at += length) {
        TextKind kind = text_kind(text + at, size - at, &length);
        if (kind == TEXT_PLAIN || text[at] == '\n' || text[at] == '\t')
            buf_append(&out, text + at, length);
        else
            text_escape_one(&out, text + at, length, kind);
    }
    if (size && text[size - 1] != '\n') buf_text(&out, "\n");
    fwrite(buf_cstr(&out), 1, out.size, stdout);
    buf_free(&out);
}

void cli_print_json(Json **root, JsonLayout layout) {
    Buf text = {0};
    js_print(&text, *root, layout, JSON_SHORTEST);
    puts(buf_cstr(&text));
    buf_free(&text);
    js_free(root);
}
