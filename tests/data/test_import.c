/* data/import: a folder of DeepCAD files to a dataset. */
#include "core/file.h"
#include "data/import/import.h"
#include "tests/support/deepcad_fixture.h"
#include "tests/support/test.h"

/* A block, its height in millimetres beyond four decimals. */
static void put_block(const char *name, double height, bool fusion) {
    Json *root = empty_file();
    Json *loop = add_loop(add_sketch(root, "S", vec3(0, 0, 0), right, vec3(0, 1, 0), up), "P");
    add_line(loop, 0, 0, 0.04, 0);
    add_line(loop, 0.04, 0, 0.04, 0.02);
    add_line(loop, 0.04, 0.02, 0, 0.02);
    add_line(loop, 0, 0.02, 0, 0);
    use_profile(add_extrude(root, "E", NEW_BODY, ONE_SIDE, height / 1000, 0), "S", "P");
    if (fusion) js_set(root, "timeline", js_new_array());
    ASSERT_OK(js_write(test_path(name), root));
    js_free(&root);
}

static ImportStats import_to(const char *out, double val, double test) {
    char source[PATH_SIZE], path[PATH_SIZE];
    ImportStats stats;
    snprintf(source, sizeof source, "%s", test_path("designs"));
    snprintf(path, sizeof path, "%s", test_path(out));
    ASSERT_OK(import_deepcad(&(ImportJob){.source = source,
                                          .path = path,
                                          .style = draw_style_tiles(64),
                                          .val_share = val,
                                          .test_share = test,
                                          .provenance = "test",
                                          .workers = 1},
                             &stats));
    return stats;
}

static const char *code_of(const Dataset *dataset, size_t index) {
    static Buf memory, text;
    Sample sample;
    ASSERT_OK(dataset_read(dataset, index, &sample, &memory));
    ASSERT_TEXT(sample.source, "deepcad");
    ASSERT_INT(sample.image_size, >, 100);
    buf_clear(&text);
    buf_append(&text, sample.code, sample.code_size);
    return buf_cstr(&text);
}

TEST(a_folder_of_designs_becomes_samples) {
    Dataset *dataset;
    ASSERT_OK(file_make_directories(test_path("designs/inner/more")));
    put_block("designs/one.json", 12.34567891, false);
    put_block("designs/fusion.json", 12, true);
    put_block("designs/inner/more/two.JSON", 7, false);
    ASSERT_OK(file_write(test_path("designs/broken.json"), "{", 1));
    ASSERT_OK(file_write(test_path("designs/readme.txt"), "{", 1));
    ImportStats stats = import_to("val", 1, 0);
    ASSERT_INT(stats.files, ==, 4);
    ASSERT_INT(stats.unreadable, ==, 2);
    ASSERT_INT(stats.pack.written, ==, 2);
    ASSERT_OK(dataset_open(&dataset, test_path("val")));
    ASSERT_INT(dataset_count(dataset), ==, 2);
    ASSERT_TEXT(dataset_id(dataset, 0), "two"); /* by names: fusion, inner, one */
    ASSERT_TEXT(dataset_id(dataset, 1), "one");
    ASSERT_CONTAINS(code_of(dataset, 0), "extent_one= 7, ");
    ASSERT_CONTAINS(code_of(dataset, 1), "extent_one= 12.3457, "); /* four decimals, no more */
    for (size_t i = 0; i < 2; i++) {
        ASSERT_INT(dataset_split(dataset, i), ==, SPLIT_VAL);
        ASSERT_INT(dataset_complexity(dataset, i), ==, 6); /* four curves, and 2 for the extrude */
    }
    dataset_close(&dataset);
    import_to("test", 0, 1);
    ASSERT_OK(dataset_open(&dataset, test_path("test")));
    ASSERT_INT(dataset_split(dataset, 0), ==, SPLIT_TEST);
    dataset_close(&dataset);
    import_to("train", 0, 0);
    ASSERT_OK(dataset_open(&dataset, test_path("train")));
    ASSERT_INT(dataset_split(dataset, 1), ==, SPLIT_TRAIN);
    dataset_close(&dataset);
}

TEST(a_folder_without_a_design_becomes_no_dataset) {
    ImportStats stats;
    char source[PATH_SIZE], path[PATH_SIZE];
    ASSERT_OK(file_make_directories(test_path("designs")));
    snprintf(source, sizeof source, "%s", test_path("designs"));
    snprintf(path, sizeof path, "%s", test_path("set"));
    ImportJob job = {.source = source,
                     .path = path,
                     .style = draw_style_tiles(64),
                     .provenance = "test",
                     .workers = 1};
    ASSERT_ERR(import_deepcad(&job, &stats), ERR_INPUT, "no .json file in");
    put_block("designs/fusion.json", 12, true);
    ASSERT_ERR(import_deepcad(&job, &stats), ERR_INPUT, "no sample was added");
    ASSERT_INT(stats.unreadable, ==, 1);
    ASSERT_TRUE(!file_exists(path));
}
