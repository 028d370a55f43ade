/* cad: what a worker can still reach, on systems that confine it fully, in part or not at all. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cad/worker/protocol.h"
#include "core/file.h"
#include "core/process.h"
#include "tests/cad/pool_fixture.h"

enum { LANDLOCK_CREATE = 444, USER = 65534 };

/* What code that has taken a worker over gets at. */
static const char *reached(void) {
    static char text[sizeof(CadReply)];
    CadPool *pool = open_pool(1, (CadLimits){0});
    CadReply reply = run_code(pool, "# hook: reach");
    printf("%s\n", reply.message);
    ASSERT_TEXT(cad_status_name(reply.status), "exec_fail");
    ASSERT_INT(strncmp(reply.message, "reached:", 8), ==, 0);
    memcpy(text, reply.message + 8, sizeof reply.message - 8);
    expect("box", run_code(pool, box_code(1, 2, 3)), CAD_OK, "");
    cad_pool_close(&pool);
    return text;
}

static void expect_reached(const char *text, const char *what, bool wanted) {
    Buf words = {0};
    buf_format(&words, "%s ", text);
    char word[64];
    snprintf(word, sizeof word, " %s ", what);
    ASSERT((strstr(buf_cstr(&words), word) != NULL) == wanted, "%s: %d was expected:%s", what,
           wanted, text);
    buf_free(&words);
}

/* Makes calls fail in this process and its children, as some containers do: `calls` ends with -1.
 */
static void refuse_calls(const int *calls) {
    struct sock_filter code[32];
    unsigned short count = 0;
    code[count++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (; *calls >= 0; calls++) {
        code[count++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)*calls, 0, 1);
        code[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    }
    code[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = count, .filter = code};
    ASSERT_INT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), ==, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        test_skip("this system refuses seccomp");
}

static bool has_landlock(void) {
    return syscall(LANDLOCK_CREATE, NULL, 0, 1) >= 1;
}

static bool has_seccomp(void) {
    return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
}

/* A system without seccomp: prctl with that option fails. */
static void refuse_filters(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_prctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_SECCOMP, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
    ASSERT_INT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), ==, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        test_skip("this system refuses seccomp");
}

/* A descriptor that is left open, and a token. */
static void leave_things_about(void) {
    ASSERT_TRUE(open("/proc/version", O_RDONLY) >= 0); /* without O_CLOEXEC */
    setenv("CADVLM_TEST_SECRET", "hf_abc", 1);
}

TEST(a_worker_reaches_nothing) {
    if (!has_seccomp()) test_skip("this system refuses seccomp");
    leave_things_about();
    /* The reports of sanitizers read /proc, and their search for leaks has a process. */
    ASSERT_TEXT(reached(), SANITIZED ? " reading children signals" : " nothing");
}

TEST(a_worker_of_a_user_reaches_nothing) {
    if (!has_seccomp()) test_skip("this system refuses seccomp");
    if (geteuid() != 0) test_skip("every worker is a user's here");
    if (setgid(USER) != 0 || setuid(USER) != 0) test_skip("no other user to be");
    char program[PATH_SIZE];
    ASSERT_OK(path_join(program, test_build_folder(), "cadvlm-cad"));
    if (access(program, X_OK) != 0) test_skip("other users cannot read the build folder");
    ASSERT_TEXT(reached(), SANITIZED ? " reading children signals" : " nothing");
}

TEST(without_landlock_the_filter_holds_alone) {
    if (!has_seccomp()) test_skip("this system refuses seccomp");
    leave_things_about();
    refuse_calls((const int[]){LANDLOCK_CREATE, -1});
    ASSERT_TEXT(reached(), SANITIZED ? " reading children signals" : " nothing");
}

TEST(without_a_filter_landlock_keeps_files_away) {
    if (SANITIZED) test_skip("sanitizers read files, so no Landlock");
    if (!has_landlock()) test_skip("this kernel has no Landlock");
    leave_things_about();
    refuse_filters();
    const char *text = reached();
    static const char *const kept[] = {"reading",    "writing", "folders",     "programs",
                                       "privileges", "secrets", "descriptors", "root"};
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) expect_reached(text, kept[i], false);
    expect_reached(text, "sockets", true); /* that the filter was away */
}

/* Where all is refused, it works all the same, and is said. */
TEST(a_worker_that_cannot_be_confined_works_and_is_reported) {
    const char *output, *code = box_code(1, 2, 3);
    ASSERT_OK(file_write(test_path("a.py"), code, strlen(code)));
    refuse_calls((const int[]){LANDLOCK_CREATE, -1});
    refuse_filters();
    int status = test_run(&output, "./cadvlm --verbose cad run '%s'", test_path("a.py"));
    printf("%s", output);
    ASSERT_INT(status, ==, 0);
    ASSERT_CONTAINS(output, "a.py: ok");
    if (SANITIZED) return;
    ASSERT_CONTAINS(output, "warning: CAD workers run without a filter of system calls");
    ASSERT_CONTAINS(output, "CAD workers run without Landlock");
    /* The limits that need neither still hold. */
    const char *text = reached();
    expect_reached(text, "secrets", false);
    expect_reached(text, "descriptors", false);
    expect_reached(text, "endless", false);
    expect_reached(text, "root", false);
    expect_reached(text, "network", true);
}

/* Exact hidden lines are computed in a child: by a worker that may have one, and that ends with the
 * item that needs it. */
TEST(only_a_worker_that_needs_children_may_have_them) {
    if (!has_seccomp()) test_skip("this system refuses seccomp");
    CadPool *pool = open_pool(1, (CadLimits){0});
    DrawStyle style = draw_style_default(128);
    const char *box = box_code(1, 2, 3), *reach = "# hook: reach";
    CadRequest requests[] = {{.code = reach}, {.code = reach, .draw = &style}, {.code = reach}};
    for (int i = 0; i < 3; i++) {
        CadReply reply;
        style.exact_hidden_lines = true;
        requests[i].code_size = strlen(reach);
        ASSERT_OK(cad_pool_run(pool, &requests[i], &reply));
        printf("%s\n", reply.message);
        expect_reached(reply.message, "children", i == 1 || SANITIZED);
        expect_reached(reply.message, "network", false);
        expect_reached(reply.message, "tracing", false);
    }
    CadReply exact, ours;
    CadRequest request = {.code = box, .code_size = strlen(box), .draw = &style};
    ASSERT_OK(cad_pool_run(pool, &request, &exact));
    style.exact_hidden_lines = false;
    ASSERT_OK(cad_pool_run(pool, &request, &ours));
    ASSERT_TRUE(exact.png.size > 100 && ours.png.size > 100);
    cad_reply_free(&exact);
    cad_reply_free(&ours);
    cad_pool_close(&pool);
}
