/* The launcher of a bundle and benchmarks/gpu_check.sh look for CUDA's libraries where the loader
 * does not: programs and libraries here are small ones that cc makes under the names of NVIDIA's,
 * of a version that no machine has. */
#include <unistd.h>

#include "core/file.h"
#include "tests/support/test.h"

/* A bundle in the test's folder whose program needs libcublasLt.so.99 and libnccl.so.99, which lie
 * in no folder of the loader's; "toolkit" and "site" stand for /usr/local/cuda and site-packages.
 */
static void put(const char *name, const char *text) {
    ASSERT_OK(file_write(test_path(name), text, strlen(text)));
}

static void make_bundle(void) {
    const char *said;
    char python[2 * PATH_SIZE];
    if (test_run(&said, "command -v cc && command -v python3 && command -v ldd") != 0)
        test_skip("cc, python3 or ldd is missing");
    put("f.c", "int f(void) { return 0; }\n");
    put("g.c", "int g(void) { return 0; }\n");
    put("m.c", "#include <stdio.h>\n"
               "int f(void), g(void);\n"
               "int main(int n, char **a) {\n"
               "    puts(n > 1 ? a[1] : \"no word\");\n"
               "    return f() + g();\n"
               "}\n");
    /* It knows the folder "site" and no other. */
    snprintf(python, sizeof python, "#!/bin/sh\necho %s/site\n", test_folder());
    put("python3", python);
    int code = test_run(
        &said,
        "set -e; cd %s; mkdir -p b/bin b/share libs toolkit/lib64 site/nvidia/nccl/lib path;"
        "mv python3 path/; chmod +x path/python3;"
        "cp %s/tools/bundle_launcher.sh b/cadvlm; cp %s/tools/cuda_libraries.sh b/share/;"
        "cc -shared -fPIC -Wl,-soname,libcublasLt.so.99 f.c -o libs/libcublasLt.so.99;"
        "cc -shared -fPIC -Wl,-soname,libnccl.so.99 g.c -o libs/libnccl.so.99;"
        "cc m.c libs/libcublasLt.so.99 libs/libnccl.so.99 -o b/bin/cadvlm",
        test_folder(), test_source_folder(), test_source_folder());
    ASSERT(code == 0, "%s", said);
}

static int launch(const char **said, const char *environment) {
    return test_run(said,
                    "cd %s && PATH=%s/path:$PATH CADVLM_CUDA_ROOTS=%s/toolkit %s b/cadvlm hello",
                    test_folder(), test_folder(), test_folder(), environment);
}

TEST(a_bundle_finds_cuda_in_the_toolkit_and_nccl_beside_pytorch) {
    const char *said;
    make_bundle();
    ASSERT_INT(test_run(&said, "cd %s && b/bin/cadvlm", test_folder()), !=, 0);
    ASSERT_INT(test_run(&said,
                        "cd %s && mv libs/libcublasLt.so.99 toolkit/lib64/ && mv "
                        "libs/libnccl.so.99 site/nvidia/nccl/lib/",
                        test_folder()),
               ==, 0);
    int code = launch(&said, "");
    ASSERT(code == 0, "%s", said);
    ASSERT_TEXT(said, "hello\n");
    /* The empty word in LD_LIBRARY_PATH, the folder one stands in, does not come in. */
    code = test_run(&said,
                    "cd %s && PATH=$PWD/path:$PATH CADVLM_CUDA_ROOTS=$PWD/toolkit && export PATH "
                    "CADVLM_CUDA_ROOTS && unset LD_LIBRARY_PATH && . b/share/cuda_libraries.sh && "
                    "cuda_libraries b/bin/cadvlm",
                    test_folder());
    char expected[2 * PATH_SIZE];
    snprintf(expected, sizeof expected, "%s/toolkit/lib64:%s/site/nvidia/nccl/lib\n", test_folder(),
             test_folder());
    ASSERT_INT(code, ==, 0);
    ASSERT_TEXT(said, expected);
}

TEST(a_bundle_takes_what_the_loader_finds) {
    const char *said;
    make_bundle();
    char environment[PATH_SIZE];
    snprintf(environment, sizeof environment, "LD_LIBRARY_PATH=%s/libs", test_folder());
    int code = launch(&said, environment);
    ASSERT(code == 0, "%s", said);
    ASSERT_TEXT(said, "hello\n");
}

TEST(a_bundle_says_which_library_is_nowhere) {
    const char *said;
    make_bundle();
    ASSERT_INT(test_run(&said, "cd %s && mv libs/libcublasLt.so.99 toolkit/lib64/", test_folder()),
               ==, 0);
    ASSERT_INT(launch(&said, ""), ==, 1);
    ASSERT_CONTAINS(said, "cadvlm: libnccl.so.99 was found neither by the loader, nor under ");
    ASSERT_CONTAINS(said, "install NVIDIA's package libnccl2, or pip's nvidia-nccl");
    ASSERT_TRUE(!strstr(said, "hello"));
    /* A file of that name that is no library for this machine is none. */
    ASSERT_INT(
        test_run(&said, "cd %s && echo no >site/nvidia/nccl/lib/libnccl.so.99", test_folder()), ==,
        0);
    ASSERT_INT(launch(&said, ""), !=, 0);
}
