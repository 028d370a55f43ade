/* trainer: whether two models compute the same; what pictures are put onto; what `device: auto` is
 * where no GPU can be used. */
#include "eval/compare.h"

#include <math.h>

#include "core/system.h"
#include "eval/setup.h"
#include "tests/support/capture.h"
#include "tests/support/test.h"
#include "tests/support/tiny.h"
#include "tests/support/train_fixture.h"

/* Two equal models of a tokenizer's vocabulary, and how their input is made. */
static void open_pair(Tiny pair[2], Generator *generator) {
    ModelSpec spec;
    fixture_tokenizer(test_path("tokenizer.json"));
    *generator = (Generator){0};
    ASSERT_OK(tokenizer_open(&generator->tokenizer, test_path("tokenizer.json")));
    tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    spec.llm.vocab = tokenizer_vocab(generator->tokenizer);
    generator->options.image_size = spec.vision.image_size;
    generator->options.image_channels = spec.vision.channels;
    generator->options.image_rows = 4;
    generator->options.max_length = 12;
    for (int i = 0; i < 2; i++) tiny_open(&pair[i], &spec, DT_F32, 1);
}

static Comparison compared(Tiny pair[2], const Generator *generator) {
    Comparison found;
    ASSERT_OK(
        compare_models(&found, (Model *[]){pair[0].model, pair[1].model}, generator, NULL, 2));
    printf("%d samples, %d rows: %g of %g apart, losses %g and %g\n", found.samples, found.rows,
           found.difference, found.largest, found.losses[0], found.losses[1]);
    return found;
}

TEST(models_are_compared_by_their_logits) {
    Tiny pair[2];
    Generator generator;
    open_pair(pair, &generator);
    Comparison found = compared(pair, &generator);
    ASSERT_INT(found.samples, ==, 2);
    ASSERT_INT(found.rows, ==, 2 * 7);
    ASSERT_REAL(found.difference, ==, 0);
    ASSERT_REAL(found.largest, >, 0);
    ASSERT_REAL(found.losses[0], ==, found.losses[1]);
    float *weight = param_value(model_params(pair[1].model), 0).data;
    *weight += 1;
    found = compared(pair, &generator);
    ASSERT_REAL(found.difference, >, 0);
    ASSERT_REAL(found.difference, <, found.largest);
    *weight = NAN;
    ASSERT_TRUE(isnan(compared(pair, &generator).difference));
    for (int i = 0; i < 2; i++) tiny_close(&pair[i]);
    tokenizer_close(&generator.tokenizer);
}

/* A picture is padded with the mean of each channel, in bytes; one mean is that of all. */
TEST(pictures_are_padded_with_the_mean_of_each_channel) {
    static const double means[] = {0.1, 0.5, 0.902};
    static const int expected[2][3] = {{25, 25, 25}, {25, 127, 230}};
    ModelSpec spec;
    Config config;
    BatchesOptions options;
    config_defaults(&config);
    tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    for (int all = 0; all < 2; all++) {
        spec.vision.mean.count = all ? 3 : 1;
        for (int c = 0; c < 3; c++) spec.vision.mean.values[c] = means[c];
        batches_setup(&options, &config, &spec, NULL);
        for (int c = 0; c < 3; c++) ASSERT_INT(options.image_background[c], ==, expected[all][c]);
    }
}

/* A machine of files: dev/, and in it what NVIDIA's driver would make. */
static const char *machine(const char *name, const char *file) {
    char path[PATH_SIZE];
    const char *root = test_path(name);
    ASSERT_OK(path_join(path, root, "dev"));
    ASSERT_OK(file_make_directories(path));
    ASSERT_OK(path_format(path, "%s/dev/%s", root, file));
    ASSERT_OK(file_write(path, "", 0));
    return root;
}

TEST(files_of_nvidias_driver_are_found) {
    char file[DEVICE_FILE_SIZE] = "";
    ASSERT_TRUE(!system_nvidia_file(file, test_path("nowhere")));
    ASSERT_TRUE(!system_nvidia_file(file, machine("plain", "null")));
    ASSERT_TRUE(!system_nvidia_file(file, machine("another", "not-nvidia0")));
    ASSERT_TRUE(system_nvidia_file(file, machine("gpus", "nvidia0")));
    ASSERT_TEXT(file, "/dev/nvidia0");
    ASSERT_TRUE(system_nvidia_file(file, machine("driver", "nvidiactl")));
    ASSERT_TEXT(file, "/dev/nvidiactl");
}

/* A GPU that cannot be used is an error with its reason, never sixteen ranks on the processor. */
TEST(a_machine_with_gpus_does_not_train_on_its_processor_in_silence) {
    Comm *comm;
    ASSERT_OK(comm_open(&comm));
    unsetenv("CUDA_VISIBLE_DEVICES");
    const char *root = machine("gpus", "nvidia0");
    Capture capture = capture_begin();
    Err err = setup_without_gpu("the driver is too old", true, root, comm);
    ASSERT_TEXT(capture_end(capture), "");
    ASSERT_INT(err, ==, ERR_DEVICE);
    ASSERT_CONTAINS(err_message(), "this machine has /dev/nvidia0: the driver is too old; mend "
                                   "that, or set device: cpu");
    setenv("CUDA_VISIBLE_DEVICES", "7", 1);
    ASSERT_ERR(setup_without_gpu("none", true, root, comm), ERR_DEVICE,
               "CUDA_VISIBLE_DEVICES is \"7\"");
    comm_close(&comm);
}

TEST(without_a_gpu_one_warning_says_what_was_looked_for) {
    Comm *comm;
    ASSERT_OK(comm_open(&comm));
    unsetenv("CUDA_VISIBLE_DEVICES");
    const char *plain = machine("plain", "null");
    Capture capture = capture_begin();
    ASSERT_OK(setup_without_gpu("no driver", true, plain, comm));
    const char *said = capture_end(capture);
    ASSERT_CONTAINS(said, "warning: no GPU: no /dev/nvidia* here, and CUDA says: "
                          "no driver; going on with the processor");
    ASSERT_TRUE(strchr(said, '\n') == strrchr(said, '\n'));
    /* A build that could not use one only speaks where there is one. */
    capture = capture_begin();
    ASSERT_OK(setup_without_gpu("this build has no CUDA backend", false, plain, comm));
    ASSERT_TEXT(capture_end(capture), "");
    capture = capture_begin();
    ASSERT_OK(setup_without_gpu("this build has no CUDA backend", false, machine("gpus", "nvidia0"),
                                comm));
    ASSERT_CONTAINS(capture_end(capture), "this machine has /dev/nvidia0, but this build has no");
    comm_close(&comm);
}
