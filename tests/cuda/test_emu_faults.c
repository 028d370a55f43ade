/* What may go wrong on a GPU and only a stand-in can do on demand: products that cuBLASLt plans and
 * then refuses, sums that it must not round, kernels that break the device. Only in emu builds. */
#include "cuda/device.h"
#include "cuda/emu/control.h"
#include "tests/ops/op_check.h"
#include "tests/support/capture.h"
#include "tests/support/test.h"

static const OpCase aligned[] = {{"linear", {100, 72, 200, 1}},
                                 {"linear_act", {100, 136, 72, ACTIVATION_GELU_TANH}}};

/* All cases match the reference implementation while `candidates` of three are refused; what was
 * counted. */
static ProductCounts matched(int candidates, bool fused, DType dtype, const char **said) {
    Exec *ex;
    ASSERT_OK(exec_open(&ex, EXEC_CUDA, 0));
    emu_refuse_products(candidates, fused);
    Capture capture = capture_begin();
    for (int again = 0; again < 2; again++)
        for (size_t i = 0; i < sizeof aligned / sizeof aligned[0]; i++)
            op_check_match(ex, &aligned[i], dtype);
    *said = capture_end(capture);
    emu_refuse_products(0, 0);
    ProductCounts counts = exec_product_counts(ex);
    exec_close(&ex);
    return counts;
}

static int lines(const char *text, const char *with) {
    int count = 0;
    for (; (text = strstr(text, with)); text++) count++;
    return count;
}

TEST(nothing_is_refused_as_it_is) {
    const char *said;
    ProductCounts c = matched(0, false, DT_BF16, &said);
    ASSERT_TEXT(said, "");
    ASSERT_INT(c.refused + c.unfused + c.plain, ==, 0);
}

/* Each plan forgets what was refused: the second round of products meets no refusal. */
TEST(a_refused_product_takes_the_next_candidate) {
    const char *said;
    ProductCounts whole = matched(0, false, DT_BF16, &said), c = matched(2, false, DT_BF16, &said);
    ASSERT_INT(c.products, ==, whole.products);
    ASSERT_INT(c.refused, ==, 2 * whole.planned);
    ASSERT_INT(c.planned, ==, whole.planned);
    ASSERT_INT(c.unfused + c.plain, ==, 0);
    ASSERT_INT(lines(said, "refuses it: CUBLAS_STATUS_NOT_SUPPORTED"), ==, 1);
}

TEST(a_refused_epilogue_becomes_a_kernel_of_its_own) {
    const char *said;
    ProductCounts c = matched(3, true, DT_BF16, &said);
    ASSERT_INT(c.unfused, ==, 4); /* bias; bias, GELU and its input; both twice */
    ASSERT_INT(c.plain, ==, 0);
    c = matched(3, true, DT_F32, &said);
    ASSERT_INT(c.unfused, >, 0);
    ASSERT_INT(c.plain, ==, 0);
}

TEST(a_product_refused_every_way_is_done_plainly) {
    const char *said;
    ProductCounts c = matched(3, false, DT_F16, &said);
    ASSERT_INT(c.plain, ==, c.products);
    ASSERT_INT(c.unfused, ==, 0);
    ASSERT_INT(lines(said, "warning"), ==, 1);
}

/* The library may split a sum's terms among blocks; their parts are f32 until the end. */
TEST(sums_that_are_split_are_not_rounded_in_between) {
    const char *said;
    int64_t before = emu_product_counts().rounded;
    matched(0, false, DT_BF16, &said);
    ASSERT_INT(emu_product_counts().rounded, ==, before);
}

/* Zeros would run faster than work ever does. */
TEST(the_ceiling_is_measured_on_numbers) {
    Exec *ex;
    ASSERT_OK(exec_open(&ex, EXEC_CUDA, 0));
    EmuProductCounts before = emu_product_counts();
    int64_t products = exec_product_counts(ex).products;
    ASSERT_REAL(exec_peak_flops(ex), >, 1);
    ASSERT_INT(exec_product_counts(ex).products, >=, products + 3); /* the best of several */
    ASSERT_INT(emu_product_counts().zeros, ==, before.zeros);
    ASSERT_REAL(exec_datasheet_flops(ex), ==, 0);
    ASSERT_REAL(cuda_datasheet_flops("NVIDIA H200"), ==, 989e12);
    ASSERT_REAL(cuda_datasheet_flops("NVIDIA H100 PCIe"), ==, 756e12);
    ASSERT_REAL(cuda_datasheet_flops("NVIDIA H100 80GB HBM3"), ==, 989e12);
    ASSERT_REAL(cuda_datasheet_flops("NVIDIA A100-SXM4-80GB"), ==, 312e12);
    ASSERT_REAL(cuda_datasheet_flops("NVIDIA L40S"), ==, 362e12);
    static const char *const others[] = {"NVIDIA GeForce GTX 1080", "NVIDIA RTX A4000",
                                         "NVIDIA RTX A1000", "NVIDIA A10G"};
    for (int i = 0; i < 4; i++) ASSERT_REAL(cuda_datasheet_flops(others[i]), ==, 0);
    exec_close(&ex);
}

/* ---- kernels that break the device ---- */

/* The sentence of a norm whose kernel fails, then products behind it. */
static void break_device(Exec **ex) {
    OpTest norm, linear;
    int64_t dims[CASE_DIMS] = {8, 64, 64};
    ASSERT_OK(exec_open(ex, EXEC_CUDA, 0));
    op_test_open(&norm, *ex, op_kind_find("rmsnorm"), dims, DT_BF16, 1);
    op_test_open(&linear, *ex, op_kind_find("linear"), dims, DT_BF16, 1);
    emu_fail_kernel("norm_fwd");
    op_test_forward(&norm);
    op_test_forward(&linear);
    op_test_close(&norm);
    op_test_close(&linear);
}

TEST(a_failing_kernel_is_named_when_every_operation_is_waited_for) {
    Exec *ex;
    setenv("CADVLM_CUDA_SYNC", "1", 1);
    break_device(&ex);
    ASSERT_ERR(exec_status(ex), ERR_DEVICE,
               "rmsnorm_fwd: an illegal memory access was encountered on GPU 0");
    ASSERT_TRUE(!strstr(err_message(), "CADVLM_CUDA_SYNC"));
    exec_close(&ex);
}

/* Closing down fails too, and must not speak in its place. */
TEST(otherwise_the_first_to_notice_says_how_to_name_it) {
    Exec *ex;
    unsetenv("CADVLM_CUDA_SYNC");
    break_device(&ex);
    ASSERT_ERR(exec_status(ex), ERR_DEVICE, "an illegal memory access was encountered on GPU 0");
    ASSERT_CONTAINS(err_message(), "CADVLM_CUDA_SYNC=1 in the environment names it");
    char said[ERR_MESSAGE_SIZE];
    strcpy(said, err_message());
    exec_free(ex, exec_alloc(ex, 64), 64);
    exec_close(&ex);
    ASSERT_TEXT(err_message(), said);
}

TEST(products_on_a_broken_device_are_not_taken_for_refused) {
    Exec *ex;
    setenv("CADVLM_CUDA_SYNC", "1", 1);
    Capture capture = capture_begin();
    break_device(&ex);
    ASSERT_TEXT(capture_end(capture), "");
    ASSERT_INT(exec_product_counts(ex).refused, ==, 0);
    exec_close(&ex);
}
