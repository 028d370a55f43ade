/* trainer: whether two models compute the same; what pictures are put onto. */
#include "trainer/compare.h"

#include <math.h>

#include "tests/test.h"
#include "tests/tiny.h"
#include "tests/train_fixture.h"
#include "trainer/setup.h"

/* Two equal models of a tokenizer's vocabulary, and how their input is made. */
static void open_pair(Tiny pair[2], Reader *reader) {
    ModelSpec spec;
    fixture_tokenizer(test_path("tokenizer.json"));
    *reader = (Reader){0};
    ASSERT_OK(tokenizer_open(&reader->tokenizer, test_path("tokenizer.json")));
    tiny_spec(&spec, TUNE_FULL, TUNE_FULL, TUNE_FULL);
    spec.llm.vocab = tokenizer_vocab(reader->tokenizer);
    reader->options.image_size = spec.vision.image_size;
    reader->options.image_channels = spec.vision.channels;
    reader->options.image_rows = 4;
    reader->options.max_length = 12;
    for (int i = 0; i < 2; i++) tiny_open(&pair[i], &spec, DT_F32, 1);
}

static Comparison compared(Tiny pair[2], const Reader *reader) {
    Comparison found;
    ASSERT_OK(compare_models(&found, (Model *[]){pair[0].model, pair[1].model}, reader, NULL, 2));
    printf("%d samples, %d rows: %g of %g apart, losses %g and %g\n", found.samples, found.rows,
           found.difference, found.largest, found.losses[0], found.losses[1]);
    return found;
}

TEST(models_are_compared_by_their_logits) {
    Tiny pair[2];
    Reader reader;
    open_pair(pair, &reader);
    Comparison found = compared(pair, &reader);
    ASSERT_INT(found.samples, ==, 2);
    ASSERT_INT(found.rows, ==, 2 * 7);
    ASSERT_REAL(found.difference, ==, 0);
    ASSERT_REAL(found.largest, >, 0);
    ASSERT_REAL(found.losses[0], ==, found.losses[1]);
    float *weight = param_value(model_params(pair[1].model), 0).data;
    *weight += 1;
    found = compared(pair, &reader);
    ASSERT_REAL(found.difference, >, 0);
    ASSERT_REAL(found.difference, <, found.largest);
    *weight = NAN;
    ASSERT_TRUE(isnan(compared(pair, &reader).difference));
    for (int i = 0; i < 2; i++) tiny_close(&pair[i]);
    tokenizer_close(&reader.tokenizer);
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
