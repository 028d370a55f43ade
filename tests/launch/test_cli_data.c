/* The data commands as a user runs them: exit codes, keys, sentences. */
#include "core/file.h"
#include "core/json.h"
#include "data/shard.h"
#include "image/image.h"
#include "tests/support/test.h"

static void make_dataset(void) {
    DatasetWriter *writer;
    Image image;
    Buf png = {0};
    ASSERT_OK(image_new(&image, 8, 8, 1));
    ASSERT_OK(image_encode(&png, &image));
    ASSERT_OK(dataset_writer_open(&writer, test_path("set"), "by hand", 0));
    for (int i = 0; i < 10; i++) {
        char id[16], code[64];
        snprintf(id, sizeof id, "part-%d", i);
        snprintf(code, sizeof code, "Line0_0_%d = add_line(start= [%d., 0.])\033[31m", i, 50 + i);
        Sample sample = {.image = i ? png.data : NULL,
                         .image_size = i ? png.size : 0,
                         .prompt = "Draw.",
                         .prompt_size = 5,
                         .code = code,
                         .code_size = strlen(code),
                         .id = id,
                         .source = i < 7 ? "synth" : "deepcad",
                         .complexity = i,
                         .split = i < 8 ? SPLIT_TRAIN : SPLIT_VAL};
        ASSERT_OK(dataset_writer_add(writer, &sample));
    }
    ASSERT_OK(dataset_writer_finish(&writer));
    image_free(&image);
    buf_free(&png);
}

static Json *json_of(const char *output) {
    Json *root;
    ASSERT_OK(js_parse(&root, output, strlen(output), "output"));
    return root;
}

static int64_t integer(const Json *object, const char *key) {
    int64_t number = -1;
    ASSERT(js_integer(js_get(object, key), &number), "%s is no whole number", key);
    return number;
}

TEST(info_has_the_documented_keys) {
    const char *output;
    make_dataset();
    ASSERT_INT(test_run(&output, "./cadvlm data info %s --json", test_path("set")), ==, 0);
    Json *root = json_of(output);
    ASSERT_INT(integer(root, "samples"), ==, 10);
    ASSERT_INT(integer(root, "shards"), ==, 1);
    ASSERT_INT(integer(root, "bytes"), >, 1000);
    ASSERT_INT(integer(root, "format_version"), ==, 1);
    ASSERT_INT(integer(js_get(root, "sources"), "synth"), ==, 7);
    ASSERT_INT(integer(js_get(root, "sources"), "deepcad"), ==, 3);
    ASSERT_INT(integer(js_get(root, "splits"), "train"), ==, 8);
    ASSERT_INT(integer(js_get(root, "splits"), "val"), ==, 2);
    ASSERT_INT(integer(js_get(root, "splits"), "test"), ==, 0);
    ASSERT_INT(integer(js_get(root, "complexity"), "min"), ==, 0);
    ASSERT_INT(integer(js_get(root, "complexity"), "median"), ==, 5);
    ASSERT_INT(integer(js_get(root, "complexity"), "max"), ==, 9);
    js_free(&root);
    ASSERT_INT(test_run(&output, "./cadvlm data info %s", test_path("set")), ==, 0);
    ASSERT_CONTAINS(output, "10 samples in 1 shard,");
    ASSERT_CONTAINS(output, "synth 7, deepcad 3");
    ASSERT_INT(test_run(&output, "./cadvlm data info %s", test_path("none")), ==, 1);
    ASSERT_CONTAINS(output, "no such folder");
    ASSERT_INT(test_run(&output, "./cadvlm data info"), ==, 2);
    ASSERT_INT(test_run(&output, "./cadvlm data info --jsn x"), ==, 2);
    ASSERT_CONTAINS(output, "--json");
    ASSERT_INT(test_run(&output, "./cadvlm data info --json=no %s", test_path("set")), ==, 2);
    ASSERT_CONTAINS(output, "--json takes no value");
}

TEST(verify_names_the_damage) {
    const char *output;
    make_dataset();
    ASSERT_INT(test_run(&output, "./cadvlm data verify %s", test_path("set")), ==, 0);
    ASSERT_CONTAINS(output, "all checksums right");
    FILE *file = fopen(test_path("set/shard-00000.h5"), "r+b");
    ASSERT_TRUE(file);
    ASSERT_INT(fseek(file, -2, SEEK_END), ==, 0);
    ASSERT_INT(fputc('#', file), ==, '#');
    fclose(file);
    ASSERT_INT(test_run(&output, "./cadvlm data verify --json %s 2>/dev/null", test_path("set")),
               ==, 1);
    Json *root = json_of(output);
    bool ok = true;
    ASSERT_TRUE(js_bool(js_get(root, "ok"), &ok) && !ok);
    ASSERT_CONTAINS(js_text(js_get(root, "message"), NULL), "shard-00000.h5 is damaged");
    js_free(&root);
}

/* A dataset of ten samples: no picture, pictures, and two that are none (4 cut short, 6 a GIF). */
static void make_bad_dataset(void) {
    DatasetWriter *writer;
    Image image;
    Buf png = {0};
    ASSERT_OK(image_new(&image, 64, 64, 1));
    for (int i = 0; i < 64 * 64; i++) image.pixels[i] = (uint8_t)(i * i % 251);
    ASSERT_OK(image_encode(&png, &image));
    ASSERT_OK(dataset_writer_open(&writer, test_path("bad"), "by hand", 0));
    for (int i = 0; i < 10; i++) {
        char id[16];
        snprintf(id, sizeof id, "part-%d", i);
        Sample sample = {.image = i == 6 ? "GIF89a" : png.data,
                         .image_size = i == 0   ? 0
                                       : i == 6 ? 6
                                       : i == 4 ? png.size / 2
                                                : png.size,
                         .prompt = "",
                         .code = "x = 1",
                         .code_size = 5,
                         .id = id,
                         .source = "test",
                         .split = SPLIT_TRAIN};
        ASSERT_OK(dataset_writer_add(writer, &sample));
    }
    ASSERT_OK(dataset_writer_finish(&writer));
    image_free(&image);
    buf_free(&png);
}

TEST(verify_reads_pictures_too_and_lists_those_that_are_none) {
    const char *output;
    make_bad_dataset();
    ASSERT_INT(test_run(&output, "./cadvlm data verify %s", test_path("bad")), ==, 0);
    int code = test_run(&output, "./cadvlm data verify --decode %s -o %s", test_path("bad"),
                        test_path("list.txt"));
    ASSERT_INT(code, ==, 1);
    ASSERT_CONTAINS(output, "the picture of sample 4 (part-4)");
    ASSERT_CONTAINS(output, "the picture of sample 6 (part-6) is not a PNG image");
    ASSERT_CONTAINS(output, "2 of 10 samples cannot be used");
    Buf list = {0};
    ASSERT_OK(file_read(&list, test_path("list.txt"), 1 << 20));
    ASSERT_CONTAINS(buf_cstr(&list), "\npart-4\n# ");
    ASSERT_CONTAINS(buf_cstr(&list), "\npart-6\n");
    ASSERT_TRUE(!strncmp(list.data, "# ", 2) && !strstr(buf_cstr(&list), "part-5"));
    buf_free(&list);
    ASSERT_INT(
        test_run(&output, "./cadvlm data verify --json --decode %s 2>/dev/null", test_path("bad")),
        ==, 1);
    Json *root = json_of(output);
    ASSERT_INT(integer(root, "pictures"), ==, 9);
    ASSERT_INT(js_count(js_get(root, "bad")), ==, 2);
    ASSERT_INT(integer(js_at(js_get(root, "bad"), 1), "index"), ==, 6);
    ASSERT_TEXT(js_text(js_get(js_at(js_get(root, "bad"), 1), "id"), NULL), "part-6");
    js_free(&root);

    make_dataset();
    ASSERT_INT(test_run(&output, "./cadvlm data verify --decode %s -o %s", test_path("set"),
                        test_path("none.txt")),
               ==, 0);
    ASSERT_CONTAINS(output, "10 samples");
    ASSERT_CONTAINS(output, "9 pictures readable");
    uint64_t bytes = 9;
    ASSERT_OK(file_size(test_path("none.txt"), &bytes));
    ASSERT_INT(bytes, ==, 0);
    ASSERT_INT(test_run(&output, "./cadvlm data verify %s -o x", test_path("set")), ==, 2);
    ASSERT_CONTAINS(output, "-o goes with --decode");
}

TEST(show_prints_a_sample_and_writes_its_picture) {
    const char *output;
    make_dataset();
    ASSERT_INT(test_run(&output, "./cadvlm data show %s --id part-3 -o %s", test_path("set"),
                        test_path("p.png")),
               ==, 0);
    ASSERT_CONTAINS(output, "sample 3: part-3");
    ASSERT_CONTAINS(output, "source synth, split train, complexity 3");
    ASSERT_CONTAINS(output, "Draw.\n");
    ASSERT_CONTAINS(output, "add_line(start= [53., 0.])\\x1b[31m"); /* no escapes to the terminal */
    Image image;
    ASSERT_OK(image_read(&image, test_path("p.png"), 1));
    ASSERT_INT(image.width, ==, 8);
    image_free(&image);
    ASSERT_INT(test_run(&output, "./cadvlm data show %s --index 9 --json", test_path("set")), ==,
               0);
    Json *root = json_of(output);
    ASSERT_TEXT(js_text(js_get(root, "id"), NULL), "part-9");
    ASSERT_TEXT(js_text(js_get(root, "split"), NULL), "val");
    js_free(&root);
    ASSERT_INT(test_run(&output, "./cadvlm data show %s --index 10", test_path("set")), ==, 1);
    ASSERT_CONTAINS(output, "it has 0 to 9");
    ASSERT_INT(test_run(&output, "./cadvlm data show %s --id x", test_path("set")), ==, 1);
    ASSERT_INT(
        test_run(&output, "./cadvlm data show %s -o %s", test_path("set"), test_path("q.png")), ==,
        1);
    ASSERT_CONTAINS(output, "part-0 has no picture");
}

TEST(tokenizer_is_learned_from_the_samples_for_training) {
    const char *output;
    make_dataset();
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s", test_path("t.json"));
    ASSERT_INT(test_run(&output, "./cadvlm data tokenizer %s -o %s --vocab 300 --numbers 20",
                        test_path("set"), path),
               ==, 0);
    ASSERT_CONTAINS(output, "from the code of 8 samples");
    Buf text = {0};
    ASSERT_OK(file_read(&text, path, 1 << 20));
    ASSERT_CONTAINS(buf_cstr(&text), "\"57\": ");
    ASSERT_TRUE(!strstr(buf_cstr(&text), "\"58\": ")); /* of the split val */
    buf_free(&text);
    ASSERT_INT(test_run(&output, "./cadvlm data tokenizer %s", test_path("set")), ==, 2);
    ASSERT_INT(
        test_run(&output, "./cadvlm data tokenizer %s -o %s --vocab 100", test_path("set"), path),
        ==, 2);
    ASSERT_CONTAINS(output, "a vocabulary of 100 tokens");
    ASSERT_INT(test_run(&output, "./cadvlm data tokenizer %s -o %s", test_path("none"), path), ==,
               1);
}

/* ---- synth ---- */

/* Makes the same parts with `options`; returns what the picture of sample `index` is. */
static const char *made(const char *options, int index, Buf *picture) {
    const char *said;
    int code = test_run(&said, "rm -rf %s && ./cadvlm data synth %s --count 24 --seed 3 -j 1 %s",
                        test_path("made"), test_path("made"), options);
    ASSERT(code == 0, "%s: exit code %d:\n%s", options, code, said);
    code = test_run(&said, "./cadvlm data show %s --index %d -o %s", test_path("made"), index,
                    test_path("made.png"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    ASSERT_OK(file_read(picture, test_path("made.png"), 1 << 20));
    return said;
}

static bool same_bytes(const Buf *a, const Buf *b) {
    return a->size == b->size && !memcmp(a->data, b->data, a->size);
}

/* All parts are held out, or none: only those that are have drawings that lie off. */
TEST(options_of_synth_do_what_they_say) {
    Buf plain = {0}, other = {0};
    int moved = 0, held_moved = 0;
    for (int i = 0; i < 4; i++) {
        ASSERT_CONTAINS(made("--val 0", i, &plain), "split train");
        made("--val 0 --shift 6", i, &other);
        moved += !same_bytes(&plain, &other);
        ASSERT_CONTAINS(made("--val 0.999999", i, &plain), "split val");
        made("--val 0.999999 --shift 6", i, &other);
        held_moved += !same_bytes(&plain, &other);
    }
    ASSERT_INT(moved, ==, 0);
    ASSERT_INT(held_moved, >, 0);
    ASSERT_TRUE(!strstr(made("--convention corner", 0, &plain), "[-"));
    ASSERT_CONTAINS(made("--convention centred", 0, &plain), "[-");
    buf_free(&plain);
    buf_free(&other);
}

/* Two of a hundred, of 200: ten would be far from that. */
TEST(synth_holds_out_as_many_as_it_says) {
    const char *said;
    int held = 0;
    int code = test_run(&said, "./cadvlm data synth %s --count 200 --size 64", test_path("made"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    code = test_run(&said, "./cadvlm data info %s --json", test_path("made"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    Json *root;
    ASSERT_OK(js_parse(&root, said, strlen(said), "info"));
    held = (int)integer(js_get(root, "splits"), "val");
    printf("%d of 200 held out\n", held);
    ASSERT_INT(held, >, 0);
    ASSERT_INT(held, <, 14);
    js_free(&root);
}
