/* In builds without libFuzzer: every input that a harness begins with, once. So harnesses are kept
 * working, and what they ask of a parser is asked by the ordinary tests too. */
#include "core/file.h"
#include "tests/fuzz/fuzz.h"

static void replay(const char *path) {
    Buf bytes = {0};
    ASSERT_OK(file_read(&bytes, path, 64 << 20));
    uint8_t *copy = malloc(bytes.size + !bytes.size); /* of its size, so that ASan sees its end */
    ASSERT_TRUE(copy);
    if (bytes.size) memcpy(copy, bytes.data, bytes.size);
    fuzz_one(copy, bytes.size);
    err_clear();
    free(copy);
    buf_free(&bytes);
}

int main(void) {
    FileNames names;
    char seeds[PATH_SIZE], path[PATH_SIZE];
    fuzz_begin();
    snprintf(seeds, sizeof seeds, "%s", test_path("seeds"));
    fuzz_write_seeds(seeds);
    ASSERT_OK(file_list(&names, seeds));
    for (size_t i = 0; i < names.count; i++) {
        ASSERT_OK(path_join(path, seeds, names.names[i]));
        replay(path);
    }
    file_names_free(&names);
    return 0;
}
