/* exclude: in a run's config: samples that cannot be used, left out on any number of ranks. */
#include "core/file.h"
#include "data/shard.h"
#include "tests/support/run_fixture.h"
#include "tests/support/test.h"
#include "tests/support/train_fixture.h"

/* The dataset "data" of run_prepare again, as "spoiled": pictures 3 and 9 (held out) are none. */
static void spoil(void) {
    Dataset *dataset;
    DatasetWriter *writer;
    Buf memory = {0};
    ASSERT_OK(dataset_open(&dataset, test_path("data")));
    ASSERT_OK(dataset_writer_open(&writer, test_path("spoiled"), "made by a test", 0));
    for (size_t i = 0; i < dataset_count(dataset); i++) {
        Sample sample;
        ASSERT_OK(dataset_read(dataset, i, &sample, &memory));
        if (i == 3 || i == 9) sample.image_size /= 2;
        ASSERT_OK(dataset_writer_add(writer, &sample));
    }
    ASSERT_OK(dataset_writer_finish(&writer));
    buf_free(&memory);
    dataset_close(&dataset);
}

static int train(const char **said, const char *prefix, const char *run, const char *more) {
    return test_run(said, "%s ./cadvlm train --config %s train_data=%s output_dir=%s %s", prefix,
                    test_path("c.yaml"), test_path("spoiled"), run, more);
}

TEST(a_sample_that_cannot_be_used_is_left_out_on_any_ranks) {
    const char *said;
    char list[PATH_SIZE + 16];
    run_prepare(15, "micro_batches: 2, max_steps: 4, eval_steps: 2", "");
    spoil();
    int code = train(&said, "", run_folder("stopped"), "");
    ASSERT(code == 1, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "(part-3)");

    code = test_run(&said, "./cadvlm data verify --decode %s -o %s", test_path("spoiled"),
                    test_path("list.txt"));
    ASSERT_INT(code, ==, 1);
    snprintf(list, sizeof list, "exclude=%s", test_path("list.txt"));
    Buf losses[2] = {{0}, {0}};
    for (int ranks = 1; ranks <= 2; ranks++) {
        const char *run = run_folder(ranks == 1 ? "one" : "two");
        code = train(&said, ranks == 1 ? "" : fixture_mpirun(2), run, list);
        ASSERT(code == 0, "exit code %d:\n%s", code, said);
        ASSERT_CONTAINS(said, "exclude: 2 of the 15 samples of spoiled are left out (train 1, val "
                              "1, test 0)");
        ASSERT_CONTAINS(said, "samples from 11");  /* of 12 for training */
        ASSERT_CONTAINS(said, "(2 of 2 samples)"); /* of 3 held out */
        run_losses(&losses[ranks - 1], run);
    }
    ASSERT_TEXT(buf_cstr(&losses[1]), buf_cstr(&losses[0]));
    for (int i = 0; i < 2; i++) buf_free(&losses[i]);

    /* The run's own config says it, and goes on. What is left out otherwise is another order. */
    code = test_run(&said, "./cadvlm train --config %s/config.yaml training.max_steps=5",
                    run_folder("one"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    ASSERT_TRUE(!strstr(said, "other samples are left out"));
    code = test_run(&said,
                    "./cadvlm train --config %s/config.yaml training.max_steps=6 "
                    "'exclude=[part-3, part-9, part-1]'",
                    run_folder("one"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "exclude: other samples are left out than when");
    ASSERT_CONTAINS(said, "exclude: 3 of the 15 samples");
    code = test_run(&said, "./cadvlm train --config %s/config.yaml training.max_steps=7",
                    run_folder("one"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "exclude: 3 of the 15 samples");
    ASSERT_TRUE(!strstr(said, "other samples are left out"));
}

TEST(a_list_that_is_neither_a_file_nor_ids_is_a_mistake) {
    const char *said;
    run_prepare(10, "max_steps: 1", "");
    spoil();
    int code = train(&said, "", run_folder("run"), "exclude=lists/none.txt");
    ASSERT(code == 2, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "exclude: \"lists/none.txt\" is neither a file nor the id of a sample");
    /* as an editor of Windows writes it */
    static const char ids[] = "\xef\xbb\xbfpart-3\r\n  part-9\t\r\npart-77 ";
    ASSERT_OK(file_write(test_path("list.txt"), ids, sizeof ids - 1));
    char list[PATH_SIZE + 16];
    snprintf(list, sizeof list, "exclude=%s", test_path("list.txt"));
    code = train(&said, "", run_folder("run"), list);
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "1 of the 3 ids in");
    ASSERT_CONTAINS(said, "part-77");
}

TEST(data_to_validate_on_leaves_the_same_out) {
    const char *said;
    char more[2 * PATH_SIZE];
    run_prepare(10, "max_steps: 1", "");
    spoil();
    snprintf(more, sizeof more, "val_data=%s exclude=part-3,part-9", test_path("spoiled"));
    int code = train(&said, "", run_folder("run"), more);
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "(1 of 1 samples)"); /* of 2 held out */
}
