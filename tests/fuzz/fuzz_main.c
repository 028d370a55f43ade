/* What the harnesses share: seeds, files in memory, and silence. `fuzz_NAME --seeds FOLDER` writes
 * the inputs to begin with; any other command line is libFuzzer's. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/log.h"
#include "tests/fuzz/fuzz.h"

static const char SEPARATOR[3] = "\xff\x00\xff";
static const char *seed_folder;
static int seed_count;
static char folder[64];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- of the test harness, for fixtures ---- */

void test_fail(const char *file, int line, const char *format, ...) {
    va_list args;
    fprintf(stderr, "%s:%d: ", file, line);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}

const char *test_source_folder(void) {
    return CADVLM_SOURCE_FOLDER;
}

const char *test_build_folder(void) {
    return CADVLM_BUILD_FOLDER;
}

/* Under /dev/shm where there is one: an input must not cost a disk's write. */
const char *test_folder(void) {
    if (!*folder) {
        snprintf(folder, sizeof folder, "%s/cadvlm-fuzz-XXXXXX",
                 file_is_directory("/dev/shm") ? "/dev/shm" : "/tmp");
        if (!mkdtemp(folder)) test_fail(__FILE__, __LINE__, "%s cannot be made", folder);
    }
    return folder;
}

const char *test_path(const char *name) {
    static char paths[4][PATH_SIZE];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, PATH_SIZE, "%s/%s", test_folder(), name);
    return path;
}

static void remove_folder(void) {
    if (*folder) IGNORE(file_remove_tree(folder));
}

/* ---- seeds ---- */

void fuzz_seed(const void *bytes, size_t size) {
    char path[PATH_SIZE];
    ASSERT_OK(path_format(path, "%s/seed-%03d", seed_folder, seed_count++));
    ASSERT_OK(file_write(path, bytes, size));
}

void fuzz_seed_text(const char *text) {
    fuzz_seed(text, strlen(text));
}

void fuzz_seed_file(const char *path) {
    Buf bytes = {0};
    ASSERT_OK(file_read(&bytes, path, 64 << 20));
    fuzz_seed(buf_cstr(&bytes), bytes.size);
    buf_free(&bytes);
}

void fuzz_write_seeds(const char *into) {
    char made[sizeof folder];
    seed_folder = into;
    ASSERT_OK(file_make_directories(into));
    memcpy(made, folder, sizeof made);
    folder[0] = 0;
    fuzz_seeds();
    remove_folder(); /* what they were made of is not there for the inputs */
    memcpy(folder, made, sizeof made);
}

/* ---- inputs ---- */

const char *fuzz_file(const char *name, const void *bytes, size_t size) {
    const char *path = test_path(name);
    FILE *file = fopen(path, "wb");
    if (!file) { /* in a folder that is not there yet */
        char parent[PATH_SIZE];
        snprintf(parent, sizeof parent, "%.*s", (int)(path_name(path) - path), path);
        ASSERT_OK(file_make_directories(parent));
        file = fopen(path, "wb");
    }
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0)
        test_fail(__FILE__, __LINE__, "%s cannot be written", path);
    return path;
}

/* In the place of file_map (the linker's --wrap): what lies behind a mapping is memory too, and a
 * byte too many of it would not be seen. */
Err __wrap_file_map(const void **data, size_t *size, const char *path);
void __wrap_file_unmap(const void **data, size_t size);

Err __wrap_file_map(const void **data, size_t *size, const char *path) {
    Buf bytes = {0};
    *data = NULL;
    *size = 0;
    TRY(file_read(&bytes, path, SIZE_MAX));
    *size = bytes.size;
    if (bytes.size) {
        void *copy = malloc(bytes.size);
        ASSERT_TRUE(copy);
        *data = memcpy(copy, bytes.data, bytes.size);
    }
    buf_free(&bytes);
    return OK;
}

void __wrap_file_unmap(const void **data, size_t size) {
    (void)size;
    free((void *)(uintptr_t)*data);
    *data = NULL;
}

char *fuzz_piece(FuzzInput *input, size_t *size) {
    size_t left = (size_t)(input->end - input->at);
    const uint8_t *end = left ? memmem(input->at, left, SEPARATOR, sizeof SEPARATOR) : NULL;
    size_t length = end ? (size_t)(end - input->at) : left;
    char *piece = malloc(length + 1);
    ASSERT_TRUE(piece);
    if (length) memcpy(piece, input->at, length);
    piece[length] = 0;
    input->at = end ? end + sizeof SEPARATOR : input->end;
    if (size) *size = length;
    return piece;
}

void fuzz_piece_append(Buf *seed, const void *bytes, size_t size) {
    buf_append(seed, bytes, size);
    buf_append(seed, SEPARATOR, sizeof SEPARATOR);
}

static void write_piece(const char *name, FuzzInput *input) {
    size_t size;
    char *piece = fuzz_piece(input, &size);
    if (size)
        fuzz_file(name, piece, size);
    else
        unlink(test_path(name));
    free(piece);
}

void fuzz_folder(FuzzInput *input, const char *const *names) {
    for (int i = 0; names[i]; i++) write_piece(names[i], input);
}

void fuzz_folder_append(Buf *seed, const char *from, const char *const *names) {
    for (int i = 0; names[i]; i++) {
        char path[PATH_SIZE];
        Buf bytes = {0};
        ASSERT_OK(path_join(path, from, names[i]));
        if (file_exists(path)) ASSERT_OK(file_read(&bytes, path, 64 << 20));
        fuzz_piece_append(seed, buf_cstr(&bytes), bytes.size);
        buf_free(&bytes);
    }
}

/* ---- libFuzzer's entries ---- */

void fuzz_begin(void) {
    log_set_level((LogLevel)(LOG_ERROR + 1)); /* what is said of an input is not read by anyone */
    atexit(remove_folder);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    fuzz_begin();
    if (*argc == 3 && !strcmp((*argv)[1], "--seeds")) {
        fuzz_write_seeds((*argv)[2]);
        exit(0);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_one(data, size);
    err_clear();
    return 0;
}
