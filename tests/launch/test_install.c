/* An installation and the pages that the program writes of itself (installation.sh). */
#include "tests/support/test.h"

TEST(works_from_anywhere_and_its_pages_say_what_the_program_says) {
    const char *said;
    int code = test_run(&said, "%s/tests/launch/installation.sh --build %s", test_source_folder(),
                        test_build_folder());
    ASSERT(code == 0, "%s", said);
    ASSERT_CONTAINS(said, "installed and used");
}

TEST(pages_of_other_kinds_are_refused_by_name) {
    const char *said;
    ASSERT_INT(test_run(&said, "%s/cadvlm describe fish", test_build_folder()), ==, 2);
    ASSERT_CONTAINS(said, "describe fish: man, bash or zsh is expected");
    ASSERT_INT(test_run(&said, "%s/cadvlm describe", test_build_folder()), ==, 2);
    ASSERT_CONTAINS(said, "it is: cadvlm describe man|bash|zsh");
}
