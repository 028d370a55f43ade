/* Runs the tests of one executable: those named on the command line, or all. One alone runs in this
 * process (mpirun started it); of several each has a process of its own, as ctest gives it one, so
 * that neither a skip nor a failure ends the others. */
#include "tests/support/test.h"

#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/file.h"
#include "core/sanitized.h"

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

/* Where a shell takes names as they are: tests write them bare into their commands. What the
 * program does in folders with other names is a test of its own. */
static const char *base_folder(void) {
    const char *base = getenv("TMPDIR");
    bool plain = base && base[0] == '/' &&
                 strspn(base, "/._-+,@0123456789abcdefghijklmnopqrstuvwxyz"
                              "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(base);
    return plain ? base : "/tmp";
}

const char *test_folder(void) {
    if (!folder[0]) {
        snprintf(folder, sizeof folder, "%s/cadvlm-test-XXXXXX", base_folder());
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

const char *test_samples(void) {
    const char *samples = getenv("CADVLM_SAMPLES");
    if (!samples || !*samples) test_skip("CADVLM_SAMPLES is not set");
    return samples;
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

double test_patience(double seconds) {
    double load = 0, processors = (double)sysconf(_SC_NPROCESSORS_ONLN);
    if (getloadavg(&load, 1) != 1) load = 0;
    return seconds * fmax(1, load / fmax(processors, 1)) * (SANITIZED ? 8 : 1);
}

static void run(int index) {
    running = tests[index].name;
    tests[index].body();
    if (folder[0]) IGNORE(file_remove_tree(folder));
    folder[0] = 0;
    printf("ok %s\n", running);
    fflush(stdout);
}

/* The exit code of a process in which the test runs alone. */
static int run_apart(int index) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        run(index);
        exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) return 1;
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    fprintf(stderr, "FAIL %s: ended by signal %d\n", tests[index].name, WTERMSIG(status));
    return 1;
}

static int find(const char *name) {
    for (int i = 0; i < test_count; i++)
        if (!strcmp(name, tests[i].name)) return i;
    fprintf(stderr, "no test is named %s\n", name);
    exit(1);
}

int main(int argc, char **argv) {
    int chosen[TESTS_MAX], count = argc > 1 ? argc - 1 : test_count, failed = 0, skipped = 0;
    if (count > TESTS_MAX) abort();
    for (int i = 0; i < count; i++) chosen[i] = argc > 1 ? find(argv[i + 1]) : i;
    if (count == 1) {
        run(chosen[0]);
        return 0;
    }
    for (int i = 0; i < count; i++) {
        int code = run_apart(chosen[i]);
        skipped += code == EXIT_SKIPPED;
        failed += code != 0 && code != EXIT_SKIPPED;
    }
    printf("%d tests: %d failed, %d skipped\n", count, failed, skipped);
    return failed ? 1 : count > 0 && skipped == count ? EXIT_SKIPPED : 0;
}
