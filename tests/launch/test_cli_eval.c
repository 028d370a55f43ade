/* cadvlm eval and generate as their users run them. */
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "image/image.h"
#include "tests/support/test.h"
#include "tests/support/train_fixture.h"

/* Trains a tiny model for `steps` steps on `samples` samples; the run is "run". */
static void prepare(int samples, int steps) {
    const char *said;
    char training[128];
    fixture_dataset(test_path("data"), samples, 1);
    fixture_tokenizer(test_path("tokenizer.json"));
    snprintf(training, sizeof training, "micro_batches: 2, per_device_batch_size: 2, max_steps: %d",
             steps);
    fixture_config(test_path("c.yaml"), test_path("data"), test_path("tokenizer.json"),
                   test_path("run"), training, "");
    int code = test_run(&said, "%s ./cadvlm train --config %s", steps > 10 ? fixture_mpirun(2) : "",
                        test_path("c.yaml"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
}

static Json *json_of(const char *text) {
    Json *root;
    const char *start = strchr(text, '{');
    ASSERT(start, "no JSON in:\n%s", text);
    ASSERT_OK(js_parse(&root, start, strlen(start), "output"));
    return root;
}

static double number(const Json *object, const char *key) {
    double value = NAN;
    ASSERT(js_number(js_get(object, key), &value), "%s is no number", key);
    return value;
}

/* `a` without what depends on the machine and the place. */
static const char *comparable(Json *a, const char *const *without, int count) {
    static Buf text[2];
    static int which;
    which = !which;
    for (int i = 0; i < count; i++) js_set(a, without[i], js_new_null());
    buf_clear(&text[which]);
    js_print(&text[which], a, JSON_INDENTED, 17);
    return buf_cstr(&text[which]);
}

TEST(numbers_are_the_same_on_any_ranks) {
    static const char *const without[] = {"seconds", "ranks", "gallery", "time"};
    const char *said;
    Buf expected = {0};
    prepare(80, 3);
    for (int ranks = 1; ranks <= 3; ranks++) {
        int code = test_run(&said,
                            "%s ./cadvlm eval -c %s --data %s --split train --shuffled --json "
                            "--max-tokens 60 --gallery 5 -o %s/r%d.json 2>%s",
                            ranks == 1 ? "" : fixture_mpirun(ranks), test_path("run"),
                            test_path("data"), test_folder(), ranks, test_path("err"));
        ASSERT(code == 0, "%d ranks: exit code %d:\n%s", ranks, code, said);
        Json *root = json_of(said);
        ASSERT_INT(number(root, "samples"), ==, 64);
        ASSERT_INT(number(root, "ranks"), ==, ranks);
        const char *text = comparable(root, without, 4);
        if (ranks == 1) buf_text(&expected, text);
        ASSERT_TEXT(text, buf_cstr(&expected));
        js_free(&root);
    }
    printf("%s\n", buf_cstr(&expected));
    /* The gallery too, whoever drew it. */
    ASSERT_INT(test_run(&said, "diff -r %s/r1-gallery %s/r3-gallery", test_folder(), test_folder()),
               ==, 0);
    buf_free(&expected);
}

/* The table that was printed has the numbers of the file, real and with pictures exchanged. */
static void check_table(const char *said, const Json *real, const Json *shuffled) {
    static const struct {
        const char *label, *key;
        double scale, rounding;
    } rows[] = {
        {"loss", "loss", 1, 1e-4},
        {"labels right", "accuracy", 100, 0.1},
        {"syntax", "syntax", 100, 0.1},
        {"executes", "executes", 100, 0.1},
        {"invalidity", "invalidity", 100, 0.1},
        {"IoU mean", "iou_mean", 1, 1e-4},
        {"IoU median", "iou_median", 1, 1e-4},
        {"chamfer mean · 10³", "chamfer_mean", 1e3, 1e-3},
        {"chamfer median · 10³", "chamfer_median", 1e3, 1e-3},
        {"HD95 median", "hd95", 1, 1e-4},
        {"F-score", "fscore", 1, 1e-4},
        {"dimensions off", "dims_rel_error", 100, 0.01},
        {"dimensions exact", "dims_exact", 100, 0.1},
        {"code identical", "code_identical", 100, 0.1},
        {"tokens", "tokens_mean", 1, 0.1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char start[40], *end;
        snprintf(start, sizeof start, "\n%s ", rows[i].label);
        const char *at = strstr(said, start);
        ASSERT(at, "no row \"%s\" in:\n%s", rows[i].label, said);
        for (int column = 0; column < 2; column++) {
            at += column ? strspn(at, " %") : strlen(start);
            double shown = strtod(at, &end);
            at = end;
            ASSERT_NEAR(shown, rows[i].scale * number(column ? shuffled : real, rows[i].key),
                        0.51 * rows[i].rounding);
        }
    }
}

TEST(what_is_known_by_heart_scores_one_and_the_control_does_not) {
    const char *said;
    prepare(4, 400);
    int code = test_run(&said, "./cadvlm eval -c %s --data known=%s --split train --shuffled",
                        test_path("run"), test_path("data"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    printf("%s\n", said);
    ASSERT_CONTAINS(said, "known: 4 samples");
    char *table = strdup(said);
    char path[PATH_SIZE];
    Json *root;
    ASSERT_OK(path_join(path, test_path("run"), "eval/step-000000400.json"));
    ASSERT_OK(js_read(&root, path, 1 << 20));
    const Json *shuffled = js_get(root, "shuffled"),
               *set = js_get(js_get(root, "by_dataset"), "known");
    check_table(table, root, shuffled);
    free(table);
    ASSERT_NEAR(number(root, "iou_mean"), 1, 1e-6);
    ASSERT_NEAR(number(root, "executes"), 1, 0);
    ASSERT_NEAR(number(root, "code_identical"), 1, 0);
    ASSERT_NEAR(number(root, "dims_exact"), 1, 0);
    ASSERT_REAL(number(root, "loss"), <, 0.1);
    ASSERT_REAL(number(root, "accuracy"), >, 0.99);
    ASSERT_REAL(number(root, "accuracy"), <=, 1);
    ASSERT_REAL(number(shuffled, "iou_mean"), <, 0.9);
    ASSERT_NEAR(number(shuffled, "code_identical"), 0, 0);
    ASSERT_REAL(number(shuffled, "loss"), >, number(root, "loss"));
    ASSERT_NEAR(number(set, "iou_mean"), number(root, "iou_mean"), 0);
    ASSERT_NEAR(number(js_get(set, "shuffled"), "iou_mean"), number(shuffled, "iou_mean"), 0);
    /* Pictures are exchanged within a dataset, whatever is evaluated beside it. */
    double alone = number(shuffled, "iou_mean");
    js_free(&root);
    fixture_dataset(test_path("more"), 6, 9);
    code = test_run(&said,
                    "./cadvlm eval -c %s --data more=%s --data known=%s --split train --shuffled "
                    "--gallery 0 --json 2>/dev/null",
                    test_path("run"), test_path("more"), test_path("data"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    root = json_of(said);
    set = js_get(js_get(root, "by_dataset"), "known");
    ASSERT_NEAR(number(js_get(set, "shuffled"), "iou_mean"), alone, 0);
    js_free(&root);
    static const char *const files[] = {"gallery.json",         "01-part-0/drawing.png",
                                        "01-part-0/target.png", "01-part-0/result.png",
                                        "04-part-3/target.py",  "04-part-3/result.py"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        ASSERT_OK(
            path_format(path, "%s/eval/step-000000400-gallery/%s", test_path("run"), files[i]));
        ASSERT(file_exists(path), "%s is not there", path);
    }
    /* And the same through generate, from a picture. */
    ASSERT_INT(test_run(&said, "./cadvlm data show %s --index 2 -o %s", test_path("data"),
                        test_path("part.png")),
               ==, 0);
    code = test_run(&said, "./cadvlm generate -c %s %s %s -o %s --json", test_path("run"),
                    test_path("part.png"), test_path("part.png"), test_path("out"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    root = json_of(said);
    const Json *results = js_get(root, "results"), *first = js_at(results, 0);
    ASSERT_INT(js_count(results), ==, 2);
    ASSERT_TEXT(js_text(js_get(first, "status"), NULL), "ok");
    ASSERT_TEXT(js_text(js_get(first, "image"), NULL), test_path("part.png"));
    ASSERT_CONTAINS(js_text(js_get(js_at(results, 1), "step"), NULL), "/out/part-2.step");
    ASSERT_REAL(number(first, "confidence"), >, 0.8);
    ASSERT_INT(number(first, "tokens"), >, 5);
    ASSERT_REAL(number(first, "seconds"), >, 0);
    Buf bytes = {0};
    ASSERT_OK(file_read(&bytes, test_path("out/part.py"), 1 << 20));
    ASSERT_TEXT(js_text(js_get(first, "code"), NULL), buf_cstr(&bytes));
    ASSERT_OK(file_read(&bytes, test_path("out/part.step"), 1 << 24));
    ASSERT_CONTAINS(buf_cstr(&bytes), "ISO-10303-21");
    buf_free(&bytes);
    Image image;
    ASSERT_OK(image_read(&image, test_path("out/part.png"), 1));
    ASSERT_INT(image.height, ==, 512);
    ASSERT_INT(image.width, ==, 2 * 512 + 8);
    image_free(&image);
    js_free(&root);
}

static void make_picture(const char *path, int side) {
    Image image;
    ASSERT_OK(image_new(&image, side, side, 3));
    ASSERT_OK(image_write(path, &image));
    image_free(&image);
}

TEST(generate_says_what_went_wrong) {
    const char *said;
    char run[PATH_SIZE], good[PATH_SIZE], large[PATH_SIZE];
    prepare(20, 3);
    snprintf(run, sizeof run, "%s", test_path("run"));
    snprintf(good, sizeof good, "%s", test_path("good.png"));
    snprintf(large, sizeof large, "%s", test_path("large.png"));
    make_picture(good, 32);
    make_picture(large, 40);
    ASSERT_OK(file_write(test_path("note.png"), "hello", 5));
    const struct {
        char arguments[2048];
        const char *said;
        int code;
    } cases[] = {
        {"", "it is: cadvlm generate", 2},
        {"x.png -o out", "needs --checkpoint", 2},
        {"-c /nowhere x.png", "needs -o OUT", 2},
        {"-c /nowhere x.png -o out", "/nowhere is no folder", 1},
        {"-c RUN /nowhere.png -o FOLDER/out", "/nowhere.png", 1},
        {"-c RUN FOLDER/note.png -o FOLDER/out", "not a PNG image", 1},
        {"-c RUN FOLDER/good.png FOLDER/large.png -o FOLDER/out", "--size 32 --dims fixed", 1},
        {"-c RUN FOLDER/good.png -o FOLDER", "would overwrite it", 1},
        {"-c RUN FOLDER/good.png -o FOLDER/note.png", "note.png", 1},
        {"-c RUN FOLDER/good.png -o FOLDER/out --max-tokens 5", "gave no sound solid", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int code = test_run(&said,
                            "RUN=%s FOLDER=%s; set -- $(echo '%s' | sed \"s#RUN#$RUN#g; "
                            "s#FOLDER#$FOLDER#g\"); ./cadvlm generate \"$@\"",
                            run, test_folder(), cases[i].arguments);
        ASSERT(code == cases[i].code && strstr(said, cases[i].said), "%s: exit code %d:\n%s",
               cases[i].arguments, code, said);
        /* A wrong picture does not cost the others. */
        if (strstr(cases[i].said, "--size")) ASSERT_TRUE(file_exists(test_path("out/good.py")));
    }
    ASSERT_TRUE(file_exists(test_path("out/good.py")) && file_exists(test_path("out/good.png")));
    ASSERT_TRUE(!file_exists(test_path("out/good.step")));
}

TEST(a_drawing_that_cannot_be_read_does_not_cost_the_others) {
    const char *said;
    prepare(4, 3);
    make_picture(test_path("a.png"), 32);
    ASSERT_OK(file_write(test_path("b.png"), "hello", 5));
    make_picture(test_path("c.png"), 32);
    int code = test_run(&said,
                        "cd %s && %s/cadvlm generate -c run b.png a.png none.png c.png -o out "
                        "--max-tokens 5 --json 2>err",
                        test_folder(), test_build_folder());
    ASSERT(code == 1, "exit code %d:\n%s", code, said);
    Json *root = json_of(said);
    const Json *results = js_get(root, "results");
    static const char *const images[] = {"b.png", "a.png", "none.png", "c.png"};
    ASSERT_INT(js_count(results), ==, 4);
    for (size_t i = 0; i < 4; i++) {
        const Json *result = js_at(results, i);
        ASSERT_TEXT(js_text(js_get(result, "image"), NULL), images[i]);
        bool unread = !strcmp(js_text(js_get(result, "status"), NULL), "unreadable");
        ASSERT_INT(unread, ==, i == 0 || i == 2);
        ASSERT_INT(js_type(js_get(result, "code")) == JSON_KIND_NULL, ==, unread);
        if (unread) ASSERT_CONTAINS(js_text(js_get(result, "message"), NULL), images[i]);
    }
    js_free(&root);
    ASSERT_TRUE(file_exists(test_path("out/a.py")) && file_exists(test_path("out/c.py")));
    ASSERT_TRUE(!file_exists(test_path("out/b.py")));
    code = test_run(&said, "cd %s && %s/cadvlm generate -c run b.png a.png -o out --max-tokens 5",
                    test_folder(), test_build_folder());
    ASSERT_INT(code, ==, 1);
    ASSERT_CONTAINS(said, "b.png: unreadable\n  ");
    ASSERT_CONTAINS(said, "2 of 2 drawings gave no sound solid");
}

/* With thousands still to read. */
TEST(generate_ends_with_75_when_a_signal_comes) {
    const char *said;
    prepare(4, 3);
    make_picture(test_path("a.png"), 32);
    int code = test_run(&said,
                        "cd %s && { %s/cadvlm generate -c run $(yes a.png | head -n 4000) -o out "
                        "--max-tokens 5 & pid=$!; for i in $(seq 1200); do [ -e out/a.py ] && "
                        "break; sleep 0.1; done; kill -TERM $pid; wait $pid; }",
                        test_folder(), test_build_folder());
    ASSERT(code == 75, "exit code %d:\n%.400s", code, said);
    ASSERT_CONTAINS(said, "stopped by a signal");
    ASSERT_TRUE(!file_exists(test_path("out/a-3999.py")));
}

TEST(eval_says_what_went_wrong_on_one_and_two_ranks) {
    const char *said;
    prepare(20, 3);
    const struct {
        const char *arguments, *said;
        int code;
    } cases[] = {
        {"--data DATA", "needs --checkpoint", 2},
        {"-c RUN", "needs --data", 2},
        {"-c RUN --data DATA --data DATA", "two datasets are called", 2},
        {"-c RUN --data DATA --split best", "best", 2},
        {"-c RUN --data DATA --split test", "no samples of the split test", 1},
        {"-c RUN --data DATA --samples 1 --shuffled", "takes two", 1},
        {"-c RUN --data /nowhere", "no such folder", 1},
        {"-c RUN --data DATA --name a/b", "letters, digits", 2},
        {"-c DATA --data DATA", "no checkpoint", 1},
        {"-c FOLDER/copy --data DATA", "lies in no run folder", 2},
        {"-c RUN --data DATA --samples 2 --gallery 2 -o FOLDER/mine.json", "is no gallery", 1},
        {"-c RUN --data DATA --gallery 5000", "0 to 1000", 2},
    };
    ASSERT_INT(test_run(&said, "cp -rL %s/checkpoints/latest %s/copy; mkdir %s/mine-gallery",
                        test_path("run"), test_folder(), test_folder()),
               ==, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int ranks = 1; ranks <= 2; ranks++) {
            int code = test_run(&said,
                                "set -- $(echo '%s' | sed 's#RUN#%s#g; s#DATA#%s#g; "
                                "s#FOLDER#%s#g'); timeout 600 %s ./cadvlm eval \"$@\"",
                                cases[i].arguments, test_path("run"), test_path("data"),
                                test_folder(), ranks == 1 ? "" : fixture_mpirun(2));
            ASSERT(code == cases[i].code && strstr(said, cases[i].said),
                   "%s on %d ranks: exit code %d:\n%s", cases[i].arguments, ranks, code, said);
        }
}

TEST(several_datasets_are_kept_apart) {
    const char *said;
    prepare(20, 3);
    fixture_dataset(test_path("more"), 30, 9);
    int code = test_run(&said,
                        "./cadvlm eval -c %s --data %s --data new=%s --name both --json "
                        "--max-tokens 8 --gallery 0 2>/dev/null",
                        test_path("run"), test_path("data"), test_path("more"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    Json *root = json_of(said);
    const Json *sets = js_get(root, "by_dataset");
    ASSERT_INT(number(root, "samples"), ==, 4 + 6);
    ASSERT_INT(number(js_get(sets, "data"), "samples"), ==, 4);
    ASSERT_INT(number(js_get(sets, "new"), "samples"), ==, 6);
    ASSERT_TRUE(js_get(root, "shuffled") == NULL);
    js_free(&root);
    char path[PATH_SIZE];
    ASSERT_OK(path_join(path, test_path("run"), "eval/step-000000003-both.json"));
    ASSERT_TRUE(file_exists(path));
    ASSERT_OK(path_join(path, test_path("run"), "eval/step-000000003-both-gallery"));
    ASSERT_TRUE(!file_exists(path));
}

TEST(signal_stops_an_evaluation_with_75) {
    const char *said;
    prepare(400, 3);
    /* The gallery's folder says that it has begun. */
    int code = test_run(&said,
                        "./cadvlm eval -c %s --data %s --split train --shuffled -o %s/e.json & "
                        "pid=$!; for i in $(seq 400); do [ -d %s/e-gallery.writing ] && break; "
                        "sleep 0.02; done; sleep 0.2; kill -USR1 $pid; wait $pid",
                        test_path("run"), test_path("data"), test_folder(), test_folder());
    ASSERT(code == 75, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said,
                    "stopped "); /* during an evaluation, or by a signal while the model wrote */
    ASSERT_TRUE(!file_exists(test_path("e.json")));
    ASSERT_TRUE(!file_exists(test_path("e-gallery.writing")));
}
