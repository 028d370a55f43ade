/* The error of a thread: one sentence and the places it passed. */
#include "core/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"

static _Thread_local ErrState current;
static int process_rank = -1;

/* From the top of the tree: the compiler may have been given the way from the build folder. */
static const char *in_tree(const char *file) {
    while (!strncmp(file, "../", 3)) file += 3;
    return file;
}

static void add_frame(const char *file, int line) {
    if (current.frame_count == ERR_FRAMES) return;
    current.frames[current.frame_count].file = in_tree(file);
    current.frames[current.frame_count].line = line;
    current.frame_count++;
}

/* A sentence quotes what others wrote: it becomes one line of text that no terminal obeys. Raw text
 * has room for more than is kept, so that the cut falls behind a character. */
static void format_message(char out[ERR_MESSAGE_SIZE], const char *format, va_list args) {
    char raw[2 * ERR_MESSAGE_SIZE];
    vsnprintf(raw, sizeof raw, format, args);
    text_escape(out, ERR_MESSAGE_SIZE, raw);
}

Err err_raise(Err code, const char *file, int line, const char *format, ...) {
    /* Formatted aside first: the arguments may hold the previous message. */
    char message[ERR_MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    format_message(message, format, args);
    va_end(args);
    memcpy(current.message, message, sizeof message);
    current.code = code;
    current.frame_count = 0;
    add_frame(file, line);
    return code;
}

Err err_pass(Err code, const char *file, int line) {
    add_frame(file, line);
    return code;
}

Err err_prefix(Err code, const char *format, ...) {
    char message[ERR_MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    format_message(message, format, args);
    va_end(args);
    size_t used = strlen(message);
    text_escape(message + used, sizeof message - used, current.message);
    memcpy(current.message, message, sizeof message);
    return code;
}

const char *err_message(void) {
    return current.message;
}

void err_trace(char *out, size_t size) {
    size_t used = 0;
    if (size) out[0] = 0;
    for (int i = 0; i < current.frame_count && used < size; i++) {
        int n = snprintf(out + used, size - used, "%s%s:%d", i ? " < " : "", current.frames[i].file,
                         current.frames[i].line);
        if (n < 0) return;
        used += (size_t)n;
    }
}

void err_save(ErrState *out) {
    *out = current;
}

Err err_restore(const ErrState *state) {
    current = *state;
    return state->code;
}

void err_clear(void) {
    current.code = OK;
    current.message[0] = 0;
    current.frame_count = 0;
}

int err_exit_code(Err code) {
    switch (code) {
    case OK: return 0;
    case ERR_CONFIG:
    case ERR_UNSUPPORTED: return 2;
    case ERR_STOPPED: return 75;
    default: return 1;
    }
}

void err_set_rank(int rank) {
    process_rank = rank;
}

void err_check_failed(const char *file, int line, const char *condition, const char *format, ...) {
    char message[ERR_MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    format_message(message, format, args);
    va_end(args);
    if (process_rank >= 0) fprintf(stderr, "rank %d: ", process_rank);
    fprintf(stderr, "%s:%d: broken invariant: %s: %s\n", in_tree(file), line, condition, message);
    fflush(NULL);
    abort();
}
