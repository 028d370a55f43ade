/* cad: the workers: what dies, hangs or is foreign, and what is said of it. */
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cad/worker/protocol.h"
#include "comm/comm.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/process.h"
#include "tests/cad/pool_fixture.h"

TEST(a_worker_that_dies_is_replaced) {
    CadPool *pool = open_pool(2, (CadLimits){.seconds = 10});
    for (int round = 0; round < 3; round++) {
        expect("crash", run_code(pool, "# hook: crash"), CAD_CRASH, "signal 11");
        expect("exit", run_code(pool, "# hook: exit"), CAD_CRASH, "exit code 3");
        expect("box", run_code(pool, box_code(1, 2, 3)), CAD_OK, "");
    }
    cad_pool_close(&pool);
}

static void expect_nothing_known(const char *what, CadReply reply) {
    const double numbers[] = {
        reply.score.chamfer, reply.score.hausdorff,   reply.score.hd95, reply.score.fscore,
        reply.score.iou,     reply.score.iou_aligned, reply.volume,     reply.score.dims_rel_error,
        reply.area,          reply.box_min.x,         reply.box_max.z};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        ASSERT(isnan(numbers[i]), "%s: number %zu is %g", what, i, numbers[i]);
    ASSERT_TEXT(cad_status_name(reply.score.reference_status), "unknown");
    ASSERT_TRUE(!reply.solids && !reply.score.iou_exact && !reply.png.size);
}

TEST(a_worker_that_says_nothing_leaves_nothing_known) {
    CadReply reply = {.volume = 5};
    cad_reply_clear(&reply);
    ASSERT_TEXT(cad_status_name(reply.status), "unknown");
    expect_nothing_known("clear", reply);
    reply.score.iou = reply.volume = 1;
    cad_reply_free(&reply);
    expect_nothing_known("freed", reply);
    static const char *const hooks[] = {"# hook: crash", "# hook: exit", "# hook: hang"};
    const char *box = box_code(1, 2, 3);
    for (int i = 0; i < 3; i++) {
        CadPool *pool = open_pool(1, (CadLimits){.wall_seconds = i < 2 ? 0 : 0.4});
        CadRequest request = {.code = hooks[i],
                              .code_size = strlen(hooks[i]),
                              .reference_code = box,
                              .reference_size = strlen(box)};
        ASSERT_OK(cad_pool_run(pool, &request, &reply));
        ASSERT_TEXT(cad_status_name(reply.status), i < 2 ? "crash" : "timeout");
        expect_nothing_known(hooks[i], reply);
        cad_pool_close(&pool);
    }
}

/* The first worker dies of its item, and the program of the next is gone. */
TEST(a_worker_that_cannot_be_replaced_leaves_nothing_known) {
    const char *output;
    ASSERT_INT(test_run(&output, "cp cadvlm-cad '%s'", test_path("worker")), ==, 0);
    setenv("CADVLM_CAD", test_path("worker"), 1);
    CadPool *pool = open_pool(1, (CadLimits){0});
    ASSERT_INT(unlink(test_path("worker")), ==, 0);
    expect("crash", run_code(pool, "# hook: crash"), CAD_CRASH, "signal 11");
    CadReply reply = run_code(pool, box_code(1, 2, 3));
    expect("no worker", reply, CAD_CRASH, "cannot start");
    expect_nothing_known("no worker", reply);
    cad_pool_close(&pool);
}

/* ---- limits of time: the pool's two, and behind them the worker's own ---- */

enum { FOR_EVER = 100000 }; /* seconds */

static const CadLimits BY_PROCESSOR = {.seconds = 0.4, .wall_seconds = FOR_EVER};
static const CadLimits BY_CLOCK = {.seconds = FOR_EVER, .wall_seconds = 0.4};

TEST(a_worker_that_hangs_or_spins_is_stopped) {
    double begun = clock_seconds();
    CadPool *pool = open_pool(1, BY_CLOCK);
    expect("hang", run_code(pool, "# hook: hang"), CAD_TIMEOUT, "within 0.4 s by the clock");
    ASSERT_REAL(clock_seconds() - begun, >=, 0.4);
    cad_pool_close(&pool);
    pool = open_pool(1, BY_PROCESSOR);
    CadReply reply = run_code(pool, "# hook: spin");
    expect("spin", reply, CAD_TIMEOUT, "within 0.4 s of processor time");
    ASSERT_REAL(reply.seconds, >=, 0.4);
    cad_pool_close(&pool);
    pool = open_pool(1, (CadLimits){.seconds = 0.1}); /* 20 times that by the clock */
    expect("hang", run_code(pool, "# hook: hang"), CAD_TIMEOUT, "within 2 s by the clock");
    cad_pool_close(&pool);
    pool = open_pool(1, (CadLimits){0});
    expect("box", run_code(pool, box_code(1, 2, 3)), CAD_OK, "");
    cad_pool_close(&pool);
}

TEST(the_pool_stops_a_worker_that_hears_no_alarm) {
    static const char *const hooks[] = {"# hook: hang", "# hook: spin"};
    for (int i = 0; i < 2; i++) {
        CadPool *pool = open_pool(1, i ? BY_PROCESSOR : BY_CLOCK);
        run_code(pool, "# hook: deaf"); /* the same worker gets the next item */
        expect(hooks[i], run_code(pool, hooks[i]), CAD_TIMEOUT, "not done within");
        cad_pool_close(&pool);
    }
}

/* A worker that is asked directly, without a pool that watches it. */
static int signal_of_worker(const char *code, const char *seconds, const char *wall_seconds) {
    char program[PATH_SIZE], parent[24];
    ASSERT_OK(path_join(program, test_build_folder(), "cadvlm-cad"));
    snprintf(parent, sizeof parent, "%d", (int)getpid());
    const char *argv[] = {program,      "--worker", parent,  seconds,
                          wall_seconds, "3072",     "alone", NULL};
    Process process;
    FrameHeader header;
    char hello[2 * sizeof(int64_t)], byte;
    Buf request = {0};
    setenv("CADVLM_CAD_HOOKS", "1", 1);
    ASSERT_OK(process_start(&process, argv));
    ASSERT_TRUE(process_receive(&process, &header, sizeof header, 0, NULL));
    ASSERT_TRUE(frame_header_ok(&header, FRAME_HELLO) && header.size == sizeof hello);
    ASSERT_TRUE(process_receive(&process, hello, sizeof hello, 0, NULL));
    protocol_put_request(&request, &(CadRequest){.code = code, .code_size = strlen(code)});
    ASSERT_TRUE(process_send(&process, request.data, request.size, 0, NULL));
    ASSERT_TRUE(!process_receive(&process, &byte, 1, 0, NULL)); /* it ends without an answer */
    int status, signal_number;
    process_finish(&process, &status, &signal_number);
    buf_free(&request);
    return signal_number;
}

TEST(a_worker_that_nobody_stops_stops_itself) {
    ASSERT_INT(signal_of_worker("# hook: hang", "100000", "0.1"), ==, SIGALRM);
    ASSERT_INT(signal_of_worker("# hook: spin", "0.1", "100000"), ==, SIGPROF);
}

/* On a machine that is busy, an item takes long by the clock and is not to blame. */
TEST(time_that_an_item_does_not_use_is_not_counted) {
    CadPool *pool = open_pool(1, BY_PROCESSOR);
    CadReply reply = run_code(pool, "# hook: doze");
    expect("doze", reply, CAD_EXEC_FAIL, "");
    ASSERT_REAL(reply.seconds, >=, 2);
    cad_pool_close(&pool);
}

TEST(processor_time_is_counted_for_each_item_alone) {
    CadPool *pool = open_pool(1, (CadLimits){.seconds = 1, .wall_seconds = FOR_EVER});
    for (int i = 0; i < 4; i++) {
        CadReply reply = run_code(pool, "# hook: toil");
        expect("toil", reply, CAD_EXEC_FAIL, "");
        ASSERT_REAL(reply.seconds, >=, 0.6);
    }
    cad_pool_close(&pool);
}

/* A field of 70 × 70 holes through a plate that another field of holes crosses from the side: a
 * program that is really slow, not one that only says so. */
TEST(a_program_that_is_really_slow_is_stopped) {
    CadPool *pool = open_pool(1, (CadLimits){.seconds = 1, .wall_seconds = FOR_EVER});
    CadProgram program = {0};
    enum { HOLES = 22 };
    Extrude *plate = part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_ONE_SIDE, 200, 0);
    part_rectangle(&program, plate, 0, 0, 200, 200);
    for (int i = 0; i < HOLES * HOLES; i++)
        part_circle(&program, plate, 8 + 8.5 * (i % HOLES), 8 + 8.5 * (i / HOLES), 3);
    Plane side = {vec3(0, 0, 0), vec3(0, -1, 0), vec3(1, 0, 0)};
    Extrude *across = part_extrude(&program, side, OP_CUT, EXTENT_SYMMETRIC, 300, 0);
    part_rectangle(&program, across, 1, 1, 199, 199);
    for (int i = 0; i < HOLES * HOLES; i++)
        part_circle(&program, across, 8 + 8.5 * (i % HOLES), 8 + 8.5 * (i / HOLES), 2.9);
    expect("slow", run_program(pool, program), CAD_TIMEOUT, "1 s of processor time");
    cad_pool_close(&pool);
}

TEST(memory_is_limited) {
    if (SANITIZED) test_skip("AddressSanitizer needs unlimited addresses");
    CadPool *pool = open_pool(1, (CadLimits){.megabytes = 512});
    expect("greedy", run_code(pool, "# hook: memory"), CAD_CRASH, "signal 6");
    expect("box", run_code(pool, box_code(1, 2, 3)), CAD_OK, "");
    cad_pool_close(&pool);
}

/* The only child of this process. */
static int only_child(void) {
    Buf text = {0};
    char path[PATH_SIZE];
    int found = 0;
    FileNames threads;
    ASSERT_OK(file_list(&threads, "/proc/self/task"));
    for (size_t i = 0; i < threads.count; i++) {
        snprintf(path, sizeof path, "/proc/self/task/%s/children", threads.names[i]);
        FILE *file = fopen(path, "r");
        if (file && fscanf(file, "%d", &found) != 1) found += 0;
        if (file) fclose(file);
    }
    file_names_free(&threads);
    buf_free(&text);
    return found;
}

TEST(a_worker_killed_from_outside_is_replaced) {
    CadPool *pool = open_pool(1, (CadLimits){.seconds = 30});
    const char *hang = "# hook: hang";
    ASSERT_OK(cad_pool_submit(pool, &(CadRequest){.code = hang, .code_size = strlen(hang)}));
    int child = only_child();
    if (!child) test_skip("/proc does not list children");
    usleep(100000);
    ASSERT_INT(kill(child, SIGKILL), ==, 0);
    CadReply reply;
    ASSERT_TRUE(cad_pool_next(pool, &reply));
    expect("killed", reply, CAD_CRASH, "signal 9");
    expect("box", run_code(pool, box_code(1, 2, 3)), CAD_OK, "");
    ASSERT_INT(only_child(), !=, child);
    cad_pool_close(&pool);
    ASSERT_TRUE(pool == NULL);
}

TEST(a_busy_pool_closes_at_once) {
    CadPool *pool = open_pool(2, (CadLimits){.seconds = 60});
    const char *hang = "# hook: hang";
    for (int i = 0; i < 5; i++)
        ASSERT_OK(cad_pool_submit(pool, &(CadRequest){.code = hang, .code_size = strlen(hang)}));
    double begun = clock_seconds();
    cad_pool_close(&pool);
    printf("closed in %.2f s\n", clock_seconds() - begun);
    ASSERT_REAL(clock_seconds() - begun, <, 10);
}

/* A process of its own opens a pool and is killed while its worker hangs: idle, the worker would
 * end with its input anyway. */
TEST(workers_end_with_their_parent) {
    const char *output;
    int code =
        test_run(&output,
                 "CADVLM_TEST_WAITS='%s' tests/test_pool a_helper_waits_when_asked_to & pid=$!; "
                 "for i in $(seq 600); do [ -e '%s' ] && break; sleep 0.1; done; "
                 "worker=$(cat /proc/$pid/task/*/children | tr -d ' '); "
                 "[ -e /proc/$worker/status ] || { echo \"no worker: '$worker'\"; exit 1; }; "
                 "kill -9 $pid; "
                 "for i in $(seq 600); do grep -q 'State:.[^ZX]' /proc/$worker/status 2>/dev/null "
                 "|| exit 0; "
                 "sleep 0.1; done; echo \"worker $worker lives\"; kill -9 $worker; exit 1",
                 test_path("hangs"), test_path("hangs"));
    if (strstr(output, "no worker: ''")) test_skip("/proc does not list children");
    ASSERT(code == 0, "%s", output);
}

TEST(a_helper_waits_when_asked_to) {
    const char *sign = getenv("CADVLM_TEST_WAITS"), *hang = "# hook: hang";
    if (!sign) return; /* only as the victim of the test above */
    CadPool *pool = open_pool(1, (CadLimits){.seconds = 3600});
    run_code(pool, box_code(1, 2, 3));
    ASSERT_OK(cad_pool_submit(pool, &(CadRequest){.code = hang, .code_size = strlen(hang)}));
    usleep(500000); /* until the worker has read it; if it has not, the test above proves less */
    ASSERT_OK(file_write(sign, "", 0));
    pause();
}

static void write_program(const char *path, const void *bytes, size_t size) {
    FILE *file = fopen(path, "w");
    ASSERT_TRUE(file);
    ASSERT_INT(fwrite(bytes, 1, size, file), ==, size);
    fclose(file);
    ASSERT_INT(chmod(path, 0700), ==, 0);
}

TEST(a_worker_program_that_is_missing_or_foreign_is_an_error) {
    CadPool *pool;
    setenv("CADVLM_CAD", "/nowhere/cadvlm-cad", 1);
    ASSERT_ERR(cad_pool_open(&pool, 1, (CadLimits){0}), ERR_INPUT, "/nowhere/cadvlm-cad");
    ASSERT_TRUE(pool == NULL);
    setenv("CADVLM_CAD", "/bin/true", 1);
    ASSERT_ERR(cad_pool_open(&pool, 2, (CadLimits){0}), ERR_IO, "/bin/true is not a CAD worker");
    setenv("CADVLM_CAD", "/bin/echo", 1);
    ASSERT_ERR(cad_pool_open(&pool, 2, (CadLimits){0}), ERR_IO, "/bin/echo is not a CAD worker");
    /* One that says hello in another version. */
    Buf hello = {0};
    protocol_put_hello(&hello, PROTOCOL_VERSION + 1, 0);
    write_program(test_path("hello.bin"), hello.data, hello.size);
    char script[PATH_SIZE];
    snprintf(script, sizeof script, "#!/bin/sh\ncat '%s'\n", test_path("hello.bin"));
    write_program(test_path("other"), script, strlen(script));
    setenv("CADVLM_CAD", test_path("other"), 1);
    char version[32];
    snprintf(version, sizeof version, "speaks version %d", PROTOCOL_VERSION + 1);
    ASSERT_ERR(cad_pool_open(&pool, 1, (CadLimits){0}), ERR_IO, version);
    buf_free(&hello);
    unsetenv("CADVLM_CAD");
    ASSERT_ERR(cad_pool_open(&pool, 5000, (CadLimits){0}), ERR_CONFIG, "5000");
}

TEST(every_request_gets_its_own_reply) {
    CadPool *pool = open_pool(3, (CadLimits){0});
    enum { COUNT = 60 };
    bool seen[COUNT] = {false};
    int numbers[COUNT], finished = 0;
    for (int i = 0; i < COUNT; i++) {
        numbers[i] = i;
        const char *code = i % 20 == 7 ? "# hook: crash" : box_code(1 + i, 2, 3);
        ASSERT_OK(cad_pool_submit(
            pool, &(CadRequest){.code = code, .code_size = strlen(code), .tag = &numbers[i]}));
    }
    for (CadReply reply; cad_pool_next(pool, &reply); finished++) {
        int i = *(int *)reply.tag;
        ASSERT_TRUE(!seen[i]);
        seen[i] = true;
        ASSERT_INT(reply.status, ==, i % 20 == 7 ? CAD_CRASH : CAD_OK);
        if (reply.status == CAD_OK) ASSERT_NEAR(reply.volume, 6 * (1 + i), 1e-9);
    }
    ASSERT_INT(finished, ==, COUNT);
    cad_pool_close(&pool);
}

TEST(damaged_frames_are_refused) {
    CadReply reply = {.status = CAD_OK, .volume = 5, .solids = 1}, back;
    snprintf(reply.message, sizeof reply.message, "all is well");
    buf_append(&reply.png, "png bytes", 9);
    buf_append(&reply.exported, "solid", 5);
    DrawStyle style = draw_style_default(128), style_back;
    CadRequest request = {
        .code = "abc", .code_size = 3, .draw = &style, .export_as = CAD_EXPORT_STL};
    CadRequest request_back;
    Buf frames[2] = {0};
    protocol_put_reply(&frames[0], &reply);
    protocol_put_request(&frames[1], &request);
    Rng rng;
    rng_open(&rng, 1, RNG_TEST, 0);
    int accepted = 0;
    for (int which = 0; which < 2; which++) {
        size_t size = frames[which].size - sizeof(FrameHeader);
        for (int i = 0; i < 20000; i++) {
            /* A copy of exactly the given size, so that a sanitizer sees every byte beyond it. */
            size_t cut = i < (int)size ? (size_t)i : size;
            char *content = malloc(cut + 1);
            ASSERT_TRUE(content);
            memcpy(content, frames[which].data + sizeof(FrameHeader), cut);
            for (int k = rng_range(&rng, 0, 3); k > 0 && cut == size; k--)
                content[rng_below(&rng, cut)] = (char)rng_u32(&rng);
            content = realloc(content, cut ? cut : 1);
            back = (CadReply){0};
            bool good = which ? protocol_get_request(&request_back, &style_back, content, cut)
                              : protocol_get_reply(&back, content, cut);
            ASSERT_TRUE(!good || cut == size);
            accepted += good;
            cad_reply_free(&back);
            free(content);
        }
    }
    printf("%d of 40000 mutated frames were still good\n", accepted);
    ASSERT_INT(accepted, >, 0);
    FrameHeader header = {.magic = PROTOCOL_MAGIC, .kind = FRAME_REPLY, .size = UINT64_MAX};
    ASSERT_TRUE(!frame_header_ok(&header, FRAME_REPLY));
    cad_reply_free(&reply);
    buf_free(&frames[0]);
    buf_free(&frames[1]);
}

TEST_RANKS(a_pool_works_beside_mpi, 1, 2) {
    Comm *comm;
    ASSERT_OK(comm_open(&comm));
    CadPool *pool = open_pool(1, (CadLimits){0});
    ASSERT_OK(comm_barrier(comm));
    CadReply reply = run_code(pool, box_code(1 + comm_rank(comm), 2, 3));
    ASSERT_NEAR(reply.volume, 6 * (1 + comm_rank(comm)), 1e-9);
    expect("crash", run_code(pool, "# hook: crash"), CAD_CRASH, "signal 11");
    ASSERT_OK(comm_barrier(comm));
    cad_pool_close(&pool);
    comm_close(&comm);
}
