/* benchmarks/gpu_check.sh from start to end, in a bundle whose programs are stubs: what becomes of
 * a part that fails, one that hangs, and of all when the script is stopped. CMakeLists.txt also
 * runs it over the emulation. */
#include <sys/stat.h>

#include "core/buf.h"
#include "core/file.h"
#include "tests/support/test.h"

static void put(const char *name, const char *text) {
    ASSERT_OK(file_write(test_path(name), text, strlen(text)));
    ASSERT_INT(chmod(test_path(name), 0755), ==, 0);
}

/* Programs that do what the files beside them say: a test whose name is in "fails" does, one whose
 * name is in "hangs" sleeps, and so for the benchmarks. */
static void make_bundle(void) {
    static const char stub[] =
        "#!/bin/sh\n"
        "here=$(dirname \"$0\")\n"
        "for word in \"$(basename \"$0\")\" \"$@\"; do\n"
        "    grep -qsx \"$word\" \"$here/fails\" && { echo \"$word is broken\" >&2; exit 1; }\n"
        "    grep -qsx \"$word\" \"$here/hangs\" || continue\n"
        "    echo \"$word hangs\" >&2; echo $$ >>\"$here/pids\"; exec sleep 300\n"
        "done\n";
    static const char step[] =
        "case \"$*\" in *--open*) echo 'cuda (GPU 0: stub GPU, 1 GiB)'; exit 0 ;; esac\n"
        "echo '{\"case\": \"089b\", \"samples\": 8, \"step_ms\": 90, \"samples_per_s\": 88, "
        "\"tokens_per_s\": 180000, \"gflops\": 480000, \"loss\": 7, \"device_mib\": 70000}'\n";
    static const char ops[] =
        "echo '{\"device\": \"stub\", \"product_flops_per_s\": 7e14, \"copy_bytes_per_s\": 4e12}'\n"
        "echo '{\"case\": \"rmsnorm 8 8 0 0 0 0 bf16\", \"pass\": \"forward\", \"seconds\": 1e-4, "
        "\"bytes_per_s\": 3.7e12, \"share\": 0.92}'\n"
        "echo 'chatter, then a line cut off'\n"
        "echo '7'\n"
        "printf '{\"case\": \"rms'\n";
    const char *said;
    char text[4096];
    if (test_run(&said, "command -v bash && command -v python3 && command -v timeout") != 0)
        test_skip("bash, python3 or timeout is missing");
    int code = test_run(&said,
                        "cd %s && mkdir -p bin share path benchmarks/peers && cp "
                        "%s/tools/cuda_libraries.sh share/ && cp %s/benchmarks/gpu_*.* benchmarks/ "
                        "&& echo first second | tr ' ' '\\n' >share/test_cuda.tests && echo third "
                        ">share/test_cuda_model.tests && echo down_kernel >share/kernels",
                        test_folder(), test_source_folder(), test_source_folder());
    ASSERT(code == 0, "%s", said);
    put("bin/test_cuda", stub);
    put("bin/test_cuda_model", stub);
    snprintf(text, sizeof text, "%s%s", stub, step);
    put("bin/bench_step", text);
    snprintf(text, sizeof text, "%s%s", stub, ops);
    put("bin/bench_ops", text);
    /* No GPU of this machine comes in, and no PyTorch. */
    put("path/nvidia-smi", "#!/bin/sh\nexit 1\n");
    put("path/python3", "#!/bin/sh\ncase \"$*\" in *torch*) exit 1 ;; esac\n"
                        "PATH=${PATH#*:} exec python3 \"$@\"\n");
    put("path/compute-sanitizer",
        "#!/bin/sh\n"
        "[ \"$1\" != --help ] || { echo '  --kernel-name arg'; exit 0; }\n"
        "echo \"sanitizer $*\"\n"
        "case $2 in racecheck) echo 'ERROR SUMMARY: 3 errors'; exit 9 ;; esac\n"
        "case $2 in synccheck) echo 'Device not supported'; exit 1 ;; esac\n");
}

/* The script with these arguments, in the test's folder; results lie in "out". */
#define SCRIPT                                                                                     \
    "cd %s && unset CADVLM_CHECK_SIZES && OUT=out PATH=$PWD/path:$PATH benchmarks/gpu_check.sh "

static const char *read_out(const char *name) {
    static char text[1 << 14];
    char path[64];
    snprintf(path, sizeof path, "out/%s", name);
    Buf b = {0};
    ASSERT_OK(file_read(&b, test_path(path), sizeof text - 1));
    snprintf(text, sizeof text, "%s", buf_cstr(&b));
    buf_free(&b);
    return text;
}

/* The stub that hung has been ended; as soon as init has seen to it, that is. */
static void assert_gone(void) {
    const char *said;
    int code = test_run(&said,
                        "for i in $(seq 100); do kill -0 $(cat %s/bin/pids) 2>/dev/null || exit 0; "
                        "sleep 0.1; done; exit 1",
                        test_folder());
    ASSERT(code == 0, "it runs on");
}

TEST(without_a_gpu_it_says_why) {
    const char *said;
    make_bundle();
    put("bin/bench_step", "#!/bin/sh\necho 'error: the driver is too old: set device: cpu' >&2\n"
                          "exit 1\n");
    ASSERT_INT(test_run(&said, SCRIPT, test_folder()), ==, 1);
    ASSERT_TEXT(said, "gpu_check.sh: no GPU to check: the driver is too old\n");
    ASSERT_TRUE(!file_exists(test_path("out")));
    ASSERT_INT(test_run(&said, SCRIPT "nonsense", test_folder()), ==, 2);
    ASSERT_CONTAINS(said, "parts: match model step ops sanitizer peers-ops peers-step");
}

TEST(where_all_is_right_it_says_so) {
    const char *said;
    make_bundle();
    int code = test_run(&said, SCRIPT "match model step ops peers-ops peers-step", test_folder());
    ASSERT(code == 0, "%s", said);
    ASSERT_CONTAINS(said, "gpu_check.sh: everything passed in ");
    ASSERT_CONTAINS(said, "2 of 2 tests passed");
    ASSERT_CONTAINS(said, "python3 has no PyTorch that sees the GPU");
    ASSERT_CONTAINS(read_out("gpu_check.md"), "48.5 %"); /* 480 of 989 TFLOP/s */
    ASSERT_CONTAINS(read_out("gpu_check.md"), "92 %");
    ASSERT_CONTAINS(read_out("gpu_check.json"), "stub GPU, 1 GiB");
}

TEST(a_part_that_fails_is_named_and_keeps_no_other_from_running) {
    const char *said;
    make_bundle();
    put("bin/fails", "second\nbench_ops\n");
    ASSERT_INT(test_run(&said, SCRIPT "--scale 20", test_folder()), ==, 1);
    ASSERT_CONTAINS(said, "match: FAILED");
    ASSERT_CONTAINS(said, "    second is broken"); /* the end of its log */
    ASSERT_CONTAINS(said, "1 of 2 tests passed; failed: second");
    ASSERT_CONTAINS(said, "model: ok");
    ASSERT_CONTAINS(said, "step: ok");
    ASSERT_CONTAINS(said, "ops: FAILED");
    ASSERT_CONTAINS(said, "gpu_check.sh: failed: match ops sanitizer ");
    ASSERT_CONTAINS(read_out("match.log"), "second is broken");
    ASSERT_CONTAINS(read_out("ops.log"), "bench_ops is broken");
}

TEST(the_sanitizer_looks_at_our_kernels_alone_and_its_outcome_is_named) {
    const char *said;
    make_bundle();
    ASSERT_INT(test_run(&said, SCRIPT "sanitizer", test_folder()), ==, 1);
    ASSERT_CONTAINS(said, "memcheck: found nothing; racecheck: FOUND ERRORS; synccheck: does not "
                          "work here: Device not supported");
    ASSERT_CONTAINS(read_out("sanitizer.log"), "--kernel-name kns=11down_kernel");
    /* It has every kernel that there is. */
    int code = test_run(&said,
                        "cd %s && test $(benchmarks/gpu_check.sh --kernels | wc -l) = $(cat "
                        "cuda/*.cu cuda/*.cuh | grep -c __global__)",
                        test_source_folder());
    ASSERT_INT(code, ==, 0);
}

TEST(a_part_that_hangs_is_ended_in_time) {
    const char *said;
    make_bundle();
    put("bin/hangs", "second\n");
    ASSERT_INT(test_run(&said, SCRIPT "--scale 4", test_folder()), ==, 1);
    ASSERT_CONTAINS(said, "match: ran out of time");
    ASSERT_CONTAINS(said, "1 of 2 tests passed; not ended: second");
    ASSERT_CONTAINS(said, "model: ok");
    ASSERT_CONTAINS(said, "step: ok");
    ASSERT_CONTAINS(said, "ops: ok");
    ASSERT_CONTAINS(said, "gpu_check.sh: failed: match sanitizer ");
    ASSERT_CONTAINS(read_out("match.log"), "second hangs");
    assert_gone();
}

TEST(what_was_there_when_it_was_stopped_is_left) {
    const char *said;
    make_bundle();
    put("bin/hangs", "second\n");
    int code = test_run(&said,
                        "cd %s && { OUT=out PATH=$PWD/path:$PATH benchmarks/gpu_check.sh & } && "
                        "until [ -e bin/pids ]; do sleep 0.1; done; sleep 0.3; "
                        "kill -TERM $!; wait $!",
                        test_folder());
    ASSERT(code == 143, "%d: %s", code, said);
    ASSERT_CONTAINS(said, "gpu_check.sh: stopped by TERM while match ran");
    ASSERT_CONTAINS(said, "1 of 2 tests passed; not ended: second");
    ASSERT_CONTAINS(read_out("gpu_check.log"), "while match ran");
    ASSERT_CONTAINS(read_out("match.log"), "second hangs");
    ASSERT_CONTAINS(read_out("gpu_check.md"), "stopped by TERM");
    assert_gone();
    /* Killed outright, the logs say what ran, and the report can be made afterwards. */
    code = test_run(&said,
                    "cd %s && rm -r out bin/pids && { OUT=out PATH=$PWD/path:$PATH "
                    "benchmarks/gpu_check.sh --scale 3 & } && until [ -e bin/pids ]; do sleep 0.1; "
                    "done; kill -KILL $!; wait $!; until ! kill -0 $(cat bin/pids); do sleep 0.1; "
                    "done; python3 benchmarks/gpu_report.py out && cat out/gpu_check.md",
                    test_folder());
    ASSERT_INT(code, ==, 0);
    ASSERT_CONTAINS(said, "was running at the end");
    ASSERT_CONTAINS(read_out("match.log"), "second hangs");
    ASSERT_CONTAINS(read_out("gpu_check.log"), "match: began, ");
}
