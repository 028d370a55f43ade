/* Runs the tests of one executable: those named on the command line, or all. */
#include "tests/test.h"

#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/file.h"

enum { TESTS_MAX = 512, EXIT_SKIPPED = 77 };

static struct {
    const char *name;
    void (*body)(void);
} tests[TESTS_MAX];
static int test_count;
static const char *running = "?";
static char folder[PATH_SIZE];

void test_register(const char *name, void (*body)(void)) {
    if (test_count == TESTS_MAX) abort();
    tests[test_count].name = name;
    tests[test_count].body = body;
    test_count++;
}

void test_skip(const char *reason) {
    printf("SKIP %s: %s\n", running, reason);
    fflush(stdout);
    _exit(EXIT_SKIPPED);
}

void test_fail(const char *file, int line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "FAIL %s at %s:%d: ", running, file, line);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    fflush(NULL);
    _exit(1);
}

const char *test_build_folder(void) {
    return CADVLM_BUILD_FOLDER;
}

const char *test_source_folder(void) {
    return CADVLM_SOURCE_FOLDER;
}

const char *test_folder(void) {
    if (!folder[0]) {
        const char *base = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%s/cadvlm-test-XXXXXX", base ? base : "/tmp");
        if (!mkdtemp(folder)) test_fail(__FILE__, __LINE__, "cannot make %s", folder);
    }
    return folder;
}

const char *test_path(const char *name) {
    static char paths[4][PATH_SIZE];
    static int next;
    char *out = paths[next++ % 4];
    snprintf(out, PATH_SIZE, "%s/%s", test_folder(), name);
    return out;
}

int test_run(const char **output, const char *format, ...) {
    static Buf text;
    Buf command = {0};
    va_list args;
    va_start(args, format);
    buf_format(&command, "cd '%s' && exec 2>&1; ", test_build_folder());
    buf_vformat(&command, format, args);
    va_end(args);
    FILE *pipe = popen(buf_cstr(&command), "r");
    if (!pipe) test_fail(__FILE__, __LINE__, "cannot run %s", buf_cstr(&command));
    buf_clear(&text);
    char chunk[4096];
    for (size_t got; (got = fread(chunk, 1, sizeof chunk, pipe)) > 0;)
        buf_append(&text, chunk, got);
    int status = pclose(pipe);
    buf_free(&command);
    *output = buf_cstr(&text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void run(int index) {
    running = tests[index].name;
    tests[index].body();
    if (folder[0]) IGNORE(file_remove_tree(folder));
    folder[0] = 0;
    printf("ok %s\n", running);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc == 1)
        for (int i = 0; i < test_count; i++) run(i);
    for (int a = 1; a < argc; a++) {
        int found = 0;
        for (int i = 0; i < test_count; i++) {
            if (strcmp(argv[a], tests[i].name) != 0) continue;
            run(i);
            found = 1;
        }
        if (!found) {
            fprintf(stderr, "no test is named %s\n", argv[a]);
            return 1;
        }
    }
    return 0;
}
