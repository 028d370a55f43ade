/* The harness itself: how tests end, and where they put their files. */
#include <unistd.h>

#include "tests/support/test.h"

/* As CADVLM_TEST_ENDS says; for the test below, which runs this program again. */
TEST(ends_as_it_is_asked) {
    const char *told = getenv("CADVLM_TEST_ENDS");
    if (!told) return;
    if (!strcmp(told, "skip")) test_skip("as asked");
    if (!strcmp(told, "abort")) abort();
    ASSERT(strcmp(told, "fail") != 0, "as asked");
}

static int run_both(const char **said, const char *ends) {
    return test_run(said,
                    "CADVLM_TEST_ENDS=%s tests/test_harness ends_as_it_is_asked "
                    "files_lie_where_a_shell_takes_names_bare",
                    ends);
}

TEST(a_test_ends_itself_and_no_other) {
    const char *said;
    ASSERT_INT(run_both(&said, "skip"), ==, 0);
    ASSERT_CONTAINS(said, "SKIP ends_as_it_is_asked: as asked");
    ASSERT_CONTAINS(said, "ok files_lie_where_a_shell_takes_names_bare");
    ASSERT_CONTAINS(said, "2 tests: 0 failed, 1 skipped");
    static const char *const bad[] = {"fail", "abort"};
    for (int i = 0; i < 2; i++) {
        ASSERT_INT(run_both(&said, bad[i]), ==, 1);
        ASSERT_CONTAINS(said, "FAIL ends_as_it_is_asked");
        ASSERT_CONTAINS(said, "ok files_lie_where_a_shell_takes_names_bare");
        ASSERT_CONTAINS(said, "2 tests: 1 failed, 0 skipped");
    }
    ASSERT_INT(test_run(&said, "CADVLM_TEST_ENDS=skip tests/test_harness ends_as_it_is_asked"), ==,
               77);
    ASSERT_INT(test_run(&said, "tests/test_harness no_such_test"), ==, 1);
    ASSERT_CONTAINS(said, "no test is named no_such_test");
}

TEST(files_lie_where_a_shell_takes_names_bare) {
    static const char *const odd[] = {"/tmp/a b", "/tmp/$x", "relative", ""};
    for (int i = 0; i < 4; i++) {
        setenv("TMPDIR", odd[i], 1);
        ASSERT_CONTAINS(test_folder(), "/tmp/cadvlm-test-");
    }
}
