/* The emulation that the other CUDA tests stand on: does an instruction give each lane what the PTX
 * ISA says, and is each kind of fault found, by the builds that can find it? Only in emu builds. */
#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/rng.h"
#include "cuda/emu/control.h"
#include "tests/cuda/emu_kernels.h"
#include "tests/ops/op_kinds.h"
#include "tests/support/test.h"

static void *device(size_t bytes, const void *host) {
    void *at;
    ASSERT_INT(cudaMalloc(&at, bytes), ==, cudaSuccess);
    if (host) ASSERT_INT(cudaMemcpy(at, host, bytes, cudaMemcpyHostToDevice), ==, cudaSuccess);
    return at;
}

static void fetch(void *host, const void *at, size_t bytes) {
    ASSERT_INT(cudaMemcpy(host, at, bytes, cudaMemcpyDeviceToHost), ==, cudaSuccess);
}

/* ---- fragments: written down once more, as the strides of CuTe's SM80_16x8x16 layouts ---- */

/* Value v of lane t in A, as row + 16 · column. */
static int a_place(int t, int v) {
    return t % 4 * 32 + t / 4 + v % 2 * 16 + v / 2 % 2 * 8 + v / 4 * 128;
}

/* In B, as column + 8 · row. */
static int b_place(int t, int v) {
    return t % 4 * 16 + t / 4 + v % 2 * 8 + v / 2 * 64;
}

/* In C, as row + 16 · column. */
static int c_place(int t, int v) {
    return t % 4 * 32 + t / 4 + v % 2 * 16 + v / 2 * 8;
}

static void check_mma(DType dtype) {
    uint16_t a[256], b[128];
    Tensor ta = tensor(a, dtype, 16, 16), tb = tensor(b, dtype, 8, 16); /* both by column */
    Rng rng;
    rng_open(&rng, 1, RNG_TEST, 0);
    for (int i = 0; i < 256; i++) tensor_set(ta, i / 16, i % 16, rng_range(&rng, -8, 8));
    for (int i = 0; i < 128; i++) tensor_set(tb, i / 16, i % 16, rng_range(&rng, -8, 8));
    uint32_t fa[32][4], fb[32][2];
    for (int t = 0; t < 32; t++) {
        for (int v = 0; v < 8; v += 2)
            fa[t][v / 2] = (uint32_t)a[a_place(t, v)] | (uint32_t)a[a_place(t, v + 1)] << 16;
        for (int v = 0; v < 4; v += 2)
            fb[t][v / 2] = (uint32_t)b[b_place(t, v)] | (uint32_t)b[b_place(t, v + 1)] << 16;
    }
    float found[32][4], *d = device(sizeof found, NULL);
    uint32_t *da = device(sizeof fa, fa), *db = device(sizeof fb, fb);
    emu_mma(d, da, db, dtype == DT_F16);
    fetch(found, d, sizeof found);
    for (int t = 0; t < 32; t++)
        for (int v = 0; v < 4; v++) {
            int row = c_place(t, v) % 16, col = c_place(t, v) / 16;
            double sum = 1 + v;
            for (int k = 0; k < 16; k++)
                sum += tensor_get(tensor(a, dtype, 1, 256), 0, row + 16 * k) *
                       tensor_get(tensor(b, dtype, 1, 128), 0, col + 8 * k);
            ASSERT_REAL(found[t][v], ==, sum);
        }
    cudaFree(d);
    cudaFree(da);
    cudaFree(db);
}

TEST(mma_multiplies_fragments) {
    check_mma(DT_BF16);
    check_mma(DT_F16);
}

/* ldmatrix of a row-major 16×16 tile gives the A fragment; transposed, the B fragments of its two
 * halves. */
TEST(ldmatrix_loads_fragments) {
    uint16_t tile[256];
    uint32_t found[32][6], *out = device(sizeof found, NULL);
    for (int i = 0; i < 256; i++) tile[i] = (uint16_t)i;
    uint16_t *d = device(sizeof tile, tile);
    emu_ldmatrix(out, d, 0);
    fetch(found, out, sizeof found);
    for (int t = 0; t < 32; t++)
        for (int v = 0; v < 8; v++) {
            int row = a_place(t, v) % 16, col = a_place(t, v) / 16;
            ASSERT_INT(found[t][v / 2] >> 16 * (v % 2) & 0xFFFF, ==, 16 * row + col);
            if (v < 4) ASSERT_INT(found[t][4 + v / 2] >> 16 * (v % 2) & 0xFFFF, ==, 16 * row + col);
        }
    emu_ldmatrix(out, d, 1);
    fetch(found, out, sizeof found);
    for (int t = 0; t < 32; t++)
        for (int v = 0; v < 8; v++) {
            int k = b_place(t, v % 4) / 8, n = b_place(t, v % 4) % 8 + v / 4 * 8;
            ASSERT_INT(found[t][v / 2] >> 16 * (v % 2) & 0xFFFF, ==, 16 * k + n);
        }
    cudaFree(d);
    cudaFree(out);
}

TEST(lanes_exchange_what_they_should) {
    int found[32][5], *out = device(sizeof found, NULL);
    for (uint64_t seed = 0; seed < 6; seed++) {
        emu_set_schedule(seed);
        emu_warp(out);
        fetch(found, out, sizeof found);
        for (int lane = 0; lane < 32; lane++) {
            ASSERT_INT(found[lane][0], ==, lane ^ 5);
            ASSERT_INT(found[lane][1], ==, lane % 8 < 5 ? lane + 3 : lane);
            ASSERT_INT(found[lane][2], ==, lane ? lane - 1 : 0);
            ASSERT_INT(found[lane][3], ==, 0x49249249);
            ASSERT_INT(found[lane][4], ==, lane < 16 ? 7 : 20);
        }
    }
    cudaFree(out);
}

/* ---- faults ---- */

enum { BUILD_PLAIN = 1, BUILD_ASAN = 2, BUILD_RACE = 4, BUILD_ANY = 7 };

static int this_build(void) {
#ifdef __SANITIZE_ADDRESS__
    return BUILD_ASAN;
#else
    return emu_is_race_build() ? BUILD_RACE : BUILD_PLAIN;
#endif
}

/* Runs the fault in a child; what it printed. Returns whether it was ended. */
static bool run_fault(EmuFault fault, uint64_t seed, char *said, size_t size) {
    int ends[2], status;
    ASSERT_INT(pipe(ends), ==, 0);
    fflush(NULL);
    pid_t child = fork();
    ASSERT_TRUE(child >= 0);
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        signal(SIGABRT, SIG_DFL);
        float zeros[64] = {0};
        emu_set_schedule(seed);
        float *out = device(sizeof zeros, zeros);
        emu_fault(fault, out);
        cudaDeviceSynchronize();
        _exit(0);
    }
    close(ends[1]);
    size_t used = 0;
    ssize_t got;
    while ((got = read(ends[0], said + used, size - 1 - used)) > 0) used += (size_t)got;
    said[used] = 0;
    close(ends[0]);
    ASSERT_INT(waitpid(child, &status, 0), ==, child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

TEST(every_fault_is_found_by_the_builds_that_can) {
    static const struct {
        EmuFault fault;
        int builds;
        const char *says;
    } faults[] = {
        {FAULT_NO_BARRIER, BUILD_RACE, "uninitialised"},
        {FAULT_REUSE, BUILD_RACE, "race in shared array 'x'"},
        {FAULT_NO_SYNCWARP, BUILD_RACE, "race in shared array 'x'"},
        {FAULT_BLOCKS_ADD, BUILD_RACE, "nothing orders blocks"},
        {FAULT_SOME_AT_BARRIER, BUILD_ANY, "barrier"},
        {FAULT_TWO_BARRIERS, BUILD_ANY, "is reached while other threads wait"},
        {FAULT_HALF_WARP, BUILD_ANY, ""},
        {FAULT_SHUFFLE_OUTSIDE, BUILD_ANY, "reads lane 20"},
        {FAULT_COPY_NOT_WAITED, BUILD_ANY, ""},
        {FAULT_COPY_EARLY, BUILD_RACE, "uninitialised"},
        {FAULT_BEYOND_SHARED, BUILD_ASAN | BUILD_RACE, "emu_kernels.cu"},
        {FAULT_BEYOND_GLOBAL, BUILD_ASAN | BUILD_RACE, "beyond_global"},
        {FAULT_MISALIGNED, BUILD_ASAN, "misaligned"},
        {FAULT_NOT_WRITTEN, BUILD_RACE, "uninitialised"},
        {FAULT_NO_ACQUIRE, BUILD_RACE, "nothing orders blocks"},
        {FAULT_NO_DYNAMIC, BUILD_ANY, "no dynamic shared memory"},
    };
    static char said[1 << 16];
    int seen = 0;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        if (!(faults[i].builds & this_build())) continue;
        seen++;
        for (uint64_t seed = 0; seed < 4; seed++) {
            ASSERT(run_fault(faults[i].fault, seed, said, sizeof said),
                   "fault %d, schedule %d: nothing was found", (int)faults[i].fault, (int)seed);
            ASSERT(strstr(said, faults[i].says), "fault %d: \"%s\" does not contain \"%s\"",
                   (int)faults[i].fault, said, faults[i].says);
        }
    }
    ASSERT_TRUE(seen >= 6);
}

/* Memory used again without a barrier shows in values only when one warp runs far ahead. */
TEST(reuse_without_a_barrier_shows_where_a_warp_runs_ahead) {
    if (this_build() == BUILD_RACE) test_skip("the race build stops before values differ");
    float zeros[64] = {0}, found[64];
    int wrong = 0;
    for (uint64_t seed = 2; seed < 22; seed += 2) {
        emu_set_schedule(seed);
        float *out = device(sizeof zeros, zeros);
        emu_fault(FAULT_REUSE, out);
        fetch(found, out, sizeof found);
        bool differs = false;
        for (int i = 0; i < 64; i++) differs = differs || found[i] != (float)(2 * (63 - i) + 1);
        wrong += differs;
        cudaFree(out);
    }
    ASSERT_TRUE(wrong >= 5);
}

TEST(sound_kernels_are_not_accused) {
    float zeros[64] = {0}, found[64];
    for (int which = 0; which < 3; which++)
        for (uint64_t seed = 0; seed < 8; seed++) {
            emu_set_schedule(seed);
            float *out = device(sizeof zeros, zeros);
            emu_sound(which, out);
            fetch(found, out, sizeof found);
            ASSERT_REAL(found[which == 2 ? 4 : 0], ==, which == 0 ? 31 : 3);
            cudaFree(out);
        }
}

/* ---- streams ---- */

TEST(streams_are_ordered_by_events_alone) {
    cudaStream_t one, two;
    cudaEvent_t event;
    cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    int zero = 0, early = 0;
    int *at = device(sizeof zero, &zero), *copy = device(sizeof zero, &zero), found;
    for (uint64_t seed = 0; seed < 20; seed++) {
        emu_set_schedule(seed);
        for (int with_event = 0; with_event < 2; with_event++) {
            cudaMemcpy(at, &zero, sizeof zero, cudaMemcpyHostToDevice);
            for (int i = 0; i < 5; i++) cudaMemsetAsync(at, i + 1, sizeof zero, one);
            cudaEventRecord(event, one);
            if (with_event) cudaStreamWaitEvent(two, event, 0);
            cudaMemcpyAsync(copy, at, sizeof zero, cudaMemcpyDeviceToDevice, two);
            cudaStreamSynchronize(two);
            cudaStreamSynchronize(one);
            fetch(&found, copy, sizeof found);
            if (with_event) ASSERT_INT(found, ==, 0x05050505);
            early += !with_event && found != 0x05050505;
        }
    }
    ASSERT_TRUE(early > 5); /* without the event the copy mostly came too early */
    cudaFree(at);
    cudaFree(copy);
    cudaEventDestroy(event);
    cudaStreamDestroy(one);
    cudaStreamDestroy(two);
}

TEST(pinned_memory_is_read_when_the_copy_runs) {
    cudaStream_t stream;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    int *host, found, ordinary = 1, *at = device(sizeof found, NULL);
    ASSERT_INT(cudaMallocHost((void **)&host, sizeof *host), ==, cudaSuccess);
    *host = 1;
    cudaMemcpyAsync(at, host, sizeof *host, cudaMemcpyHostToDevice, stream);
    *host = 2; /* too early: the copy has not run */
    cudaStreamSynchronize(stream);
    fetch(&found, at, sizeof found);
    ASSERT_INT(found, ==, 2);
    cudaMemcpyAsync(at, &ordinary, sizeof ordinary, cudaMemcpyHostToDevice, stream);
    ordinary = 2;
    cudaStreamSynchronize(stream);
    fetch(&found, at, sizeof found);
    ASSERT_INT(found, ==, 1);
    cudaFreeHost(host);
    cudaFree(at);
    cudaStreamDestroy(stream);
}
