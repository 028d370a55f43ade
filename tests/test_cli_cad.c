/* The cad commands as a user runs them: exit codes, keys, files, sentences. */
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/image.h"
#include "core/json.h"
#include "tests/deepcad_fixture.h"
#include "tests/parts.h"

/* A path that stays through a test: test_path lends its few buffers in turn. */
static const char *kept_path(const char *name) {
    static char paths[64][PATH_SIZE];
    static int next;
    char *path = paths[next++ % 64];
    snprintf(path, PATH_SIZE, "%s", test_path(name));
    return path;
}

static const char *put(const char *name, const char *text) {
    const char *path = kept_path(name);
    ASSERT_OK(file_write(path, text, strlen(text)));
    return path;
}

static const char *put_flange(const char *name) {
    CadProgram program = flange_program();
    return put(name, part_code(&program));
}

/* Standard output of a command as JSON; its exit code must be `code`. */
static Json *run_json(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
static Json *run_json(int code, const char *format, ...) {
    char arguments[4 * PATH_SIZE];
    const char *output;
    va_list args;
    va_start(args, format);
    vsnprintf(arguments, sizeof arguments, format, args);
    va_end(args);
    int found = test_run(&output, "./cadvlm %s --json 2>/dev/null", arguments);
    if (found != code) printf("%s\n%s\n", arguments, output);
    ASSERT_INT(found, ==, code);
    Json *root;
    ASSERT_OK(js_parse(&root, output, strlen(output), "output"));
    return root;
}

static double number(const Json *object, const char *key) {
    double value = (double)NAN;
    if (!js_number(js_get(object, key), &value)) printf("no number %s\n", key);
    return value;
}

static const char *text_of(const Json *object, const char *key) {
    const char *text = js_text(js_get(object, key), NULL);
    return text ? text : "(none)";
}

static double corner(const Json *root, const char *box, const char *end, size_t axis) {
    double value = (double)NAN;
    js_number(js_at(js_get(js_get(root, box), end), axis), &value);
    return value;
}

TEST(run_reports_a_part_and_writes_its_files) {
    const char *flange = put_flange("flange.py");
    Json *root = run_json(0, "cad run '%s'", flange);
    ASSERT_TEXT(text_of(root, "file"), flange);
    ASSERT_TEXT(text_of(root, "status"), "ok");
    bool valid = false;
    ASSERT_TRUE(js_bool(js_get(root, "valid"), &valid) && valid);
    ASSERT_NEAR(number(root, "volume"), 82279.6447, 1e-3);
    ASSERT_NEAR(number(root, "area"), 20237.5216, 1e-3);
    ASSERT_NEAR(corner(root, "bbox", "max", 2), 32, 1e-5);
    ASSERT_NEAR(corner(root, "bbox", "min", 0), 0, 1e-5);
    ASSERT_REAL(number(root, "solids"), ==, 1);
    ASSERT_REAL(number(root, "faces"), ==, 17);
    ASSERT_REAL(number(root, "seconds"), >, 0);
    ASSERT_TRUE(!js_get(root, "message"));
    js_free(&root);

    const char *output;
    ASSERT_INT(test_run(&output, "./cadvlm cad run '%s' -o '%s'", flange, test_path("a.step")), ==,
               0);
    printf("%s", output);
    ASSERT_CONTAINS(output, "flange.py: ok, 100 × 60 × 32");
    ASSERT_INT(test_run(&output, "./cadvlm cad run '%s' -o '%s'", flange, test_path("a.stl")), ==,
               0);
    ASSERT_INT(test_run(&output, "./cadvlm cad run '%s' -o '%s'", flange, test_path("a.png")), ==,
               0);
    Image image;
    ASSERT_OK(image_read(&image, test_path("a.png"), 1));
    ASSERT_INT(image.width, ==, 512);
    image_free(&image);
    uint64_t size;
    ASSERT_OK(file_size(test_path("a.stl"), &size));
    ASSERT_INT((size - 84) % 50, ==, 0);
    root = run_json(0, "cad run '%s'", test_path("a.step"));
    ASSERT_NEAR(number(root, "volume"), 82279.6447, 1e-3);
    js_free(&root);
}

/* In folders that others may write to, links may stand at any name that can be guessed: here at
 * that of each process that may come next. */
TEST(no_planted_link_is_followed) {
    const char *flange = put_flange("flange.py"), *victim = put("victim", "precious"), *output;
    enum { PROCESSES = 5000 };
    static const char *const names[] = {"a.step.kernel", "a.step.tmp", "a.stl.tmp", "a.png.tmp"};
    for (int i = 0; i < 4 * PROCESSES; i++) {
        char path[PATH_SIZE];
        snprintf(path, sizeof path, "%s/%s.%d", test_folder(), names[i % 4], (int)getpid() + i / 4);
        ASSERT_INT(symlink(victim, path), ==, 0);
    }
    ASSERT_INT(symlink(victim, test_path("a.step")), ==, 0); /* and at the name itself */
    static const char *const outs[] = {"a.step", "a.stl", "a.png"};
    for (int i = 0; i < 3; i++) {
        const char *out = test_path(outs[i]);
        ASSERT_INT(test_run(&output, "./cadvlm cad run '%s' -o '%s'", flange, out), ==, 0);
        struct stat info;
        ASSERT_TRUE(lstat(out, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 1000);
    }
    Buf bytes = {0};
    ASSERT_OK(file_read(&bytes, victim, 100));
    ASSERT_TEXT(buf_cstr(&bytes), "precious");
    buf_free(&bytes);
}

TEST(a_full_disk_is_no_fault_of_the_part) {
    const char *flange = put_flange("flange.py"), *output;
    static const char *const outs[] = {"a.step", "a.stl", "a.png"};
    for (int i = 0; i < 3; i++) {
        const char *out = test_path(outs[i]);
        int code = test_run(&output, "ulimit -f 2; ./cadvlm cad run '%s' -o '%s'", flange, out);
        printf("%s", output);
        ASSERT_INT(code, ==, 1);
        ASSERT_CONTAINS(output, "cannot write");
        ASSERT_CONTAINS(output, "File too large");
        ASSERT_TRUE(!strstr(output, "exec_fail"));
        ASSERT_TRUE(!file_exists(out));
    }
    FileNames left;
    ASSERT_OK(file_list(&left, test_folder()));
    ASSERT_INT(left.count, ==, 1); /* the part itself */
    file_names_free(&left);
}

TEST(extensions_may_be_capitals) {
    const char *flange = put_flange("flange.py"), *output;
    static const char *const outs[] = {"A.STEP", "b.Stp", "C.STL", "D.PNG"};
    for (int i = 0; i < 4; i++) {
        ASSERT_INT(test_run(&output, "./cadvlm cad run '%s' -o '%s'", flange, test_path(outs[i])),
                   ==, 0);
        ASSERT_TRUE(file_exists(test_path(outs[i])));
    }
    const char *code = put_flange("E.PY");
    for (int i = 0; i < 3; i++) {
        const char *path = i < 2 ? kept_path(outs[i]) : code;
        Json *root = run_json(0, "cad run '%s'", path);
        ASSERT_NEAR(number(root, "volume"), 82279.6447, 1e-3);
        js_free(&root);
    }
}

TEST(run_says_what_is_wrong_and_where) {
    Json *root =
        run_json(1, "cad run '%s'", put("bad.py", "Curves0 = []\nLine0 = add_line(start= [0,,])"));
    ASSERT_TEXT(text_of(root, "status"), "parse_fail");
    ASSERT_REAL(number(root, "line"), ==, 2);
    ASSERT_REAL(number(root, "column"), >, 1);
    ASSERT_TRUE(strlen(text_of(root, "message")) > 5);
    ASSERT_TRUE(js_get(root, "bbox") && js_type(js_get(root, "bbox")) == JSON_KIND_NULL);
    js_free(&root);
    const char *output;
    ASSERT_INT(test_run(&output, "./cadvlm cad run '%s'", test_path("bad.py")), ==, 1);
    printf("%s", output);
    ASSERT_CONTAINS(output, "line 2, column");
    ASSERT_INT(test_run(&output, "./cadvlm cad run /nowhere/a.py"), ==, 1);
    ASSERT_CONTAINS(output, "/nowhere/a.py");
    ASSERT_INT(test_run(&output, "./cadvlm cad run '%s'", put("a.txt", "x")), ==, 2);
    ASSERT_CONTAINS(output, ".step");
    const char *flange = put_flange("flange.py");
    ASSERT_INT(test_run(&output, "./cadvlm cad run '%s' -o x.glb", flange), ==, 2);
    ASSERT_CONTAINS(output, "not there yet");
    ASSERT_INT(test_run(&output, "./cadvlm cad run '%s' -o x.doc", flange), ==, 2);
    ASSERT_INT(test_run(&output, "./cadvlm cad run '%s' -o /nowhere/x.step", flange), ==, 1);
    ASSERT_CONTAINS(output, "/nowhere/x.step");
    ASSERT_INT(test_run(&output, "./cadvlm cad run '%s' -o /nowhere/x.png", flange), ==, 1);
    ASSERT_INT(test_run(&output, "./cadvlm cad run"), ==, 2);
    ASSERT_INT(test_run(&output, "./cadvlm cad run '%s' --jsno", flange), ==, 2);
    ASSERT_CONTAINS(output, "--json");
    ASSERT_INT(test_run(&output, "CADVLM_CAD=/nowhere/cad ./cadvlm cad run '%s'", flange), ==, 1);
    ASSERT_CONTAINS(output, "/nowhere/cad");
}

/* A box of that depth as an answer's block of code. */
static void add_block(Buf *answer, const char *prose, int depth) {
    buf_format(answer, "%s\n```python\n%s```\n", prose, box_code(10, 10, depth));
}

TEST(a_choice_among_blocks_of_code_is_said) {
    Buf answer = {0};
    add_block(&answer, "Version A:", 5);
    add_block(&answer, "A better version:", 7);
    const char *path = put("answer.py", buf_cstr(&answer)), *output;
    buf_free(&answer);
    Json *root = run_json(0, "cad run '%s'", path);
    ASSERT_NEAR(number(root, "volume"), 700, 1e-6);
    ASSERT_CONTAINS(text_of(root, "note"), "2 blocks of code are programs; the last of them");
    ASSERT_TRUE(!js_get(root, "message"));
    js_free(&root);
    ASSERT_INT(test_run(&output, "./cadvlm cad check '%s'", path), ==, 0);
    ASSERT_CONTAINS(output, "2 blocks of code are programs; the last of them");
    ASSERT_CONTAINS(output, "1 file: syntax 100.0 %");
}

TEST(draw_obeys_its_options) {
    const char *flange = put_flange("flange.py"), *output;
    Image image;
    Json *root = run_json(0, "cad draw '%s' -o '%s' --size 200 --views front,isometric --dims none",
                          flange, test_path("a.png"));
    ASSERT_TEXT(text_of(root, "image"), test_path("a.png"));
    ASSERT_TEXT(text_of(root, "status"), "ok");
    js_free(&root);
    ASSERT_OK(image_read(&image, test_path("a.png"), 1));
    ASSERT_INT(image.width, ==, 200);
    image_free(&image);
    static const char *const good[] = {"--projection first", "--dims fixed --size 128",
                                       "--seed 3 --frame", "--exact", "--views iso"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        int code = test_run(&output, "./cadvlm cad draw '%s' -o '%s' %s", flange,
                            test_path("b.png"), good[i]);
        if (code) printf("%s: %s\n", good[i], output);
        ASSERT_INT(code, ==, 0);
    }
    static const struct {
        const char *options, *says;
    } bad[] = {{"--style shaded", "not there yet"},
               {"--style pretty", "drawing"},
               {"--views left", "front"},
               {"--views ''", "no view"},
               {"--size 10", "64"},
               {"--size big", "whole number"},
               {"--dims far", "beside"},
               {"--projection second", "third"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int code = test_run(&output, "./cadvlm cad draw '%s' -o '%s' %s", flange,
                            test_path("c.png"), bad[i].options);
        printf("%s: %s", bad[i].options, output);
        ASSERT_INT(code, ==, 2);
        ASSERT_CONTAINS(output, bad[i].says);
    }
    ASSERT_TRUE(!file_exists(test_path("c.png")));
    ASSERT_INT(test_run(&output, "./cadvlm cad draw '%s'", flange), ==, 2);
    ASSERT_INT(test_run(&output, "./cadvlm cad draw '%s' -o x.jpg", flange), ==, 2);
}

/* A block 80 × 20 × 30 mm with a hole, and a sketch that nothing uses; its sides lean by `taper`,
 * which is not supported. */
static const char *put_tapered(const char *name, double hole, double taper) {
    Json *root = empty_file();
    Json *profiles =
        add_sketch(root, "S", vec3(0, 0, 0), vec3(1, 0, 0), vec3(0, 0, 1), vec3(0, -1, 0));
    Json *loop = add_loop(profiles, "P");
    add_line(loop, -0.04, 0, 0.04, 0);
    add_line(loop, 0.04, 0, 0.04, 0.03);
    add_line(loop, 0.04, 0.03, -0.04, 0.03);
    add_line(loop, -0.04, 0.03, -0.04, 0);
    add_circle(add_loop(profiles, "P"), 0, 0.015, hole);
    use_profile(
        add_extrude(root, "E", "NewBodyFeatureOperation", "OneSideFeatureExtentType", 0.02, 0), "S",
        "P");
    add_sketch(root, "S2", vec3(0, 0, 0), vec3(1, 0, 0), vec3(0, 1, 0), vec3(0, 0, 1));
    Json *extent = member(member(member(root, "entities"), "E"), "extent_one");
    js_set_number(member(extent, "taper_angle"), "value", taper);
    const char *path = kept_path(name);
    ASSERT_OK(js_write(path, root));
    js_free(&root);
    return path;
}

static const char *put_design(const char *name, double hole) {
    return put_tapered(name, hole, 0);
}

TEST(convert_writes_code_that_fills_the_files_box) {
    const char *design = put_design("a.json", 0.005), *output;
    Json *root = run_json(0, "cad convert '%s' -o '%s'", design, test_path("a.py"));
    ASSERT_TEXT(text_of(root, "status"), "ok");
    ASSERT_REAL(number(root, "extrusions"), ==, 1);
    ASSERT_INT(js_count(js_get(root, "dropped")), ==, 1);
    for (size_t k = 0; k < 3; k++) {
        ASSERT_NEAR(corner(root, "bbox", "min", k), corner(root, "bbox_expected", "min", k), 1e-5);
        ASSERT_NEAR(corner(root, "bbox", "max", k), corner(root, "bbox_expected", "max", k), 1e-5);
    }
    js_free(&root);
    root = run_json(0, "cad run '%s'", test_path("a.py"));
    ASSERT_NEAR(number(root, "volume"), 20 * (80 * 30 - 25 * M_PI), 0.01);
    js_free(&root);
    ASSERT_INT(test_run(&output, "./cadvlm cad convert '%s' --numbers plain 2>/dev/null", design),
               ==, 0);
    ASSERT_CONTAINS(output, "radius= 5)");
    ASSERT_INT(test_run(&output, "./cadvlm cad convert '%s'", put("b.json", "{\"entities\"")), ==,
               1);
    printf("%s", output);
    ASSERT_CONTAINS(output, "b.json");
    ASSERT_INT(test_run(&output, "./cadvlm cad convert '%s' --dialect v1", design), ==, 2);
    ASSERT_INT(test_run(&output, "./cadvlm cad draw '%s' -o '%s'", design, test_path("a.png")), ==,
               0);
}

/* The same part as a Fusion 360 design: nearly the same form, but in centimetres. */
static const char *put_fusion_design(const char *name) {
    Json *root;
    const char *path = put_design(name, 0.005);
    ASSERT_OK(js_read(&root, path, 1 << 20));
    js_set(root, "timeline", js_new_array());
    js_set_bool(member(member(member(root, "entities"), "E"), "extent_one"), "is_full_length",
                true);
    ASSERT_OK(js_write(path, root));
    js_free(&root);
    return path;
}

TEST(designs_of_fusion_360_are_refused_wherever_they_come_in) {
    const char *flange = put_flange("flange.py"), *output;
    ASSERT_OK(file_make_directories(test_path("designs")));
    const char *design = put_fusion_design("designs/f.json");
    char commands[6][3 * PATH_SIZE];
    snprintf(commands[0], sizeof commands[0], "cad run '%s'", design);
    snprintf(commands[1], sizeof commands[1], "cad check '%s'", design);
    snprintf(commands[2], sizeof commands[2], "cad convert '%s'", design);
    snprintf(commands[3], sizeof commands[3], "cad draw '%s' -o '%s'", design, test_path("f.png"));
    snprintf(commands[4], sizeof commands[4], "cad score '%s' '%s'", design, flange);
    snprintf(commands[5], sizeof commands[5], "data import deepcad '%s' '%s'", design,
             test_path("dataset"));
    for (int i = 0; i < 6; i++) {
        int code = test_run(&output, "./cadvlm %s", commands[i]);
        printf("%d: %s: %s\n", code, commands[i], output);
        ASSERT_CONTAINS(output, "f.json is a Fusion 360 design, as its \"timeline\" shows");
        ASSERT_TRUE(code != 0);
    }
    ASSERT_TRUE(!file_exists(test_path("f.png")));
}

TEST(designs_say_what_is_wrong_with_them) {
    Json *root;
    const char *path = put_design("a.json", 0.005), *output;
    Buf text = {0}, marked = {0};
    ASSERT_OK(file_read(&text, path, 1 << 20));
    buf_format(&marked, "\xEF\xBB\xBF%s", buf_cstr(&text));
    root = run_json(0, "cad run '%s'", put("marked.json", buf_cstr(&marked)));
    ASSERT_NEAR(number(root, "volume"), 20 * (80 * 30 - 25 * M_PI), 0.01);
    js_free(&root);
    buf_free(&marked);
    buf_free(&text);
    ASSERT_OK(js_read(&root, path, 1 << 20));
    js_set(member(member(root, "entities"), "E"), "extent_one", js_new_object());
    ASSERT_OK(js_write(path, root));
    js_free(&root);
    ASSERT_INT(test_run(&output, "./cadvlm cad run '%s'", path), ==, 1);
    ASSERT_CONTAINS(output, "a.json: extrude \"E\", extent_one: \"type\" is missing");
}

TEST(check_gives_each_file_its_status_and_the_rates) {
    put_flange("a.py");
    put("b.py", "x = (");
    put("c.py", "");
    put("d.json", "[]");
    put_design("e.json", 0.005);
    put("f.py", box_code(10, 10, 1e9));
    const char *folder = test_folder();
    put_tapered("g.json", 0.005, 0.1);
    put("h.txt", "x");
    ASSERT_OK(file_make_directories(test_path("i.py")));
    Json *root =
        run_json(1,
                 "cad check '%s'/a.py '%s'/b.py '%s'/c.py '%s'/d.json '%s'/e.json "
                 "'%s'/f.py '%s'/g.json '%s'/h.txt '%s'/i.py '%s'/none.py",
                 folder, folder, folder, folder, folder, folder, folder, folder, folder, folder);
    static const char *const statuses[] = {"ok",         "parse_fail", "exec_fail",   "parse_fail",
                                           "ok",         "exec_fail",  "unsupported", "unreadable",
                                           "unreadable", "unreadable"};
    const Json *files = js_get(root, "files"), *rates = js_get(root, "rates");
    ASSERT_INT(js_count(files), ==, 10);
    for (size_t i = 0; i < 10; i++) {
        printf("%s: %s %s\n", text_of(js_at(files, i), "file"), text_of(js_at(files, i), "status"),
               text_of(js_at(files, i), "message"));
        ASSERT_TEXT(text_of(js_at(files, i), "status"), statuses[i]);
    }
    ASSERT_NEAR(number(rates, "syntax"), 0.4, 1e-6);
    ASSERT_NEAR(number(rates, "executes"), 0.2, 1e-6);
    ASSERT_NEAR(number(rates, "valid"), 0.2, 1e-6);
    js_free(&root);
    const char *output;
    ASSERT_INT(test_run(&output, "./cadvlm cad check '%s'/g.json '%s'/none.py '%s'/a.py", folder,
                        folder, folder),
               ==, 1);
    ASSERT_CONTAINS(output, "g.json: unsupported\n  ");
    ASSERT_CONTAINS(output, "tapered by 0.1 radians");
    ASSERT_CONTAINS(output, "none.py: unreadable\n  ");
    ASSERT_CONTAINS(output, "a.py: ok");
    ASSERT_CONTAINS(output, "2 of 3 files are not ok");
    ASSERT_INT(test_run(&output, "./cadvlm cad check '%s'/a.py", folder), ==, 0);
}

TEST(score_compares_files_and_folders) {
    const char *a = put("a.py", box_code(10, 10, 11)), *b = put("b.py", box_code(10, 10, 10));
    Json *root = run_json(0, "cad score '%s' '%s' --points 1000", a, b);
    ASSERT_TEXT(text_of(root, "status_pred"), "ok");
    ASSERT_TEXT(text_of(root, "status_ref"), "ok");
    ASSERT_NEAR(number(root, "iou"), 10.0 / 11, 1e-6);
    ASSERT_REAL(number(root, "chamfer_points"), ==, 1000);
    ASSERT_REAL(number(root, "chamfer"), >, 0);
    ASSERT_REAL(number(root, "hausdorff"), >=, number(root, "hd95"));
    ASSERT_REAL(number(root, "fscore"), >, 0);
    ASSERT_CONTAINS(text_of(root, "normalisation"), "reference");
    bool exact = false;
    ASSERT_TRUE(js_bool(js_get(root, "iou_exact"), &exact) && exact);
    ASSERT_TRUE(js_get(root, "openecad_score") != NULL);
    js_free(&root);

    ASSERT_OK(file_make_directories(test_path("pred")));
    ASSERT_OK(file_make_directories(test_path("ref")));
    put("ref/one.py", box_code(10, 10, 10));
    put("pred/one.py", box_code(10, 10, 10));
    put("ref/two.py", box_code(10, 10, 10));
    put("pred/two.py", "broken(");
    put("ref/three.py", box_code(10, 10, 10));
    put("ref/four.py", box_code(10, 10, 10));
    put("pred/four.py", box_code(10, 10, 20));
    root = run_json(1, "cad score '%s' '%s'", test_path("pred"), test_path("ref"));
    const Json *pairs = js_get(root, "pairs"), *summary = js_get(root, "summary");
    ASSERT_INT(js_count(pairs), ==, 4);
    for (size_t i = 0; i < 4; i++) {
        const char *name = text_of(js_at(pairs, i), "name");
        const char *status = text_of(js_at(pairs, i), "status_pred");
        printf("%s: %s\n", name, status);
        ASSERT_TEXT(status, !strcmp(name, "two")     ? "parse_fail"
                            : !strcmp(name, "three") ? "no_output"
                                                     : "ok");
    }
    ASSERT_REAL(number(summary, "pairs"), ==, 4);
    ASSERT_REAL(number(summary, "missing"), ==, 1);
    ASSERT_NEAR(number(summary, "iou_mean"), 1.5 / 4, 1e-6);
    ASSERT_NEAR(number(summary, "invalidity"), 0.5, 1e-6);
    js_free(&root);
    const char *output;
    ASSERT_INT(test_run(&output, "./cadvlm cad score '%s' '%s'", a, test_path("ref")), ==, 2);
    ASSERT_INT(test_run(&output, "./cadvlm cad score '%s' '%s'", test_path("pred/two.py"), b), ==,
               1);
    ASSERT_CONTAINS(output, "parse_fail");
}

static const char *nothing_left(void) {
    CadProgram program = {0};
    part_rectangle(&program, part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_ONE_SIDE, 5, 0),
                   0, 0, 10, 10);
    part_rectangle(&program, part_extrude(&program, plane_z(0), OP_CUT, EXTENT_SYMMETRIC, 50, 0),
                   -20, -20, 20, 20);
    return part_code(&program);
}

/* Two boxes that meet in an edge. */
static const char *touching_boxes(void) {
    CadProgram program = {0};
    for (int i = 0; i < 2; i++)
        part_rectangle(
            &program,
            part_extrude(&program, plane_z(0), i ? OP_JOIN : OP_NEW_BODY, EXTENT_ONE_SIDE, 5, 0),
            5 * i, 5 * i, 5 + 5 * i, 5 + 5 * i);
    return part_code(&program);
}

/* A box as a STEP file in which two corners have changed places: its faces cross. */
static void put_crossed_box(const char *name) {
    const char *output, *code = put("crossed.py", box_code(10, 10, 10)), *path = kept_path(name);
    ASSERT_INT(test_run(&output, "./cadvlm cad run '%s' -o '%s'", code, path), ==, 0);
    Buf text = {0};
    ASSERT_OK(file_read(&text, path, 1 << 20));
    static const char vertex[] = "VERTEX_POINT('',#";
    char *first = strstr(text.data, vertex);
    ASSERT_TRUE(first);
    char *second = strstr(first + 1, vertex);
    ASSERT_TRUE(second);
    first += strlen(vertex), second += strlen(vertex);
    size_t digits = strspn(first, "0123456789");
    ASSERT_INT(digits, ==, strspn(second, "0123456789"));
    for (size_t i = 0; i < digits; i++) {
        char kept = first[i];
        first[i] = second[i];
        second[i] = kept;
    }
    ASSERT_OK(file_write(path, text.data, text.size));
    buf_free(&text);
}

static void expect_scores(const Json *pair, bool there) {
    static const char *const numbers[] = {"chamfer", "hausdorff",   "hd95",          "fscore",
                                          "iou",     "iou_aligned", "dims_rel_error"};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const Json *value = js_get(pair, numbers[i]);
        JsonType type = there ? JSON_KIND_NUMBER : JSON_KIND_NULL;
        ASSERT(value && js_type(value) == type, "%s (%s): %s is there: %d", text_of(pair, "name"),
               text_of(pair, "status_pred"), numbers[i], js_type(value) == JSON_KIND_NUMBER);
    }
}

TEST(what_failed_has_no_scores_and_counts_against_the_whole_folder) {
    static const struct {
        const char *name, *status;
        bool there;
    } cases[] = {{"a.py", "ok", true},
                 {"b.py", "parse_fail", false},
                 {"c.py", "exec_fail", false},
                 {"d.py", "empty_solid", false},
                 {"e.step", "invalid_solid", true},
                 {"f.py", "non_manifold", true},
                 {"g.py", "crash", false},
                 {"h.py", "crash", false},
                 {"i.py", "unreadable", false},
                 {"j.json", "unsupported", false},
                 {"k.py", "no_output", false}};
    enum { COUNT = sizeof cases / sizeof cases[0] };
    ASSERT_OK(file_make_directories(test_path("pred/i.py"))); /* no file at all */
    ASSERT_OK(file_make_directories(test_path("ref")));
    for (int i = 0; i < COUNT; i++) {
        char name[32];
        snprintf(name, sizeof name, "ref/%c.py", 'a' + i);
        put(name, box_code(10, 10, 10));
    }
    put("pred/a.py", box_code(10, 10, 20));
    put("pred/b.py", "broken(");
    put("pred/c.py", box_code(10, 10, 1e9));
    put("pred/d.py", nothing_left());
    put_crossed_box("pred/e.step");
    put("pred/f.py", touching_boxes());
    put("pred/g.py", "# hook: crash");
    put("pred/h.py", "# hook: exit");
    put_tapered("pred/j.json", 0.005, 0.1);
    setenv("CADVLM_CAD_HOOKS", "1", 1);
    Json *root = run_json(1, "cad score '%s' '%s'", test_path("pred"), test_path("ref"));
    const Json *pairs = js_get(root, "pairs"), *summary = js_get(root, "summary");
    ASSERT_INT(js_count(pairs), ==, COUNT);
    double iou = 0;
    for (size_t i = 0; i < COUNT; i++) {
        const Json *pair = js_at(pairs, i);
        ASSERT_TEXT(text_of(pair, "status_pred"), cases[i].status);
        expect_scores(pair, cases[i].there);
        if (cases[i].there) iou += number(pair, "iou");
        if (cases[i].there) ASSERT_TEXT(text_of(pair, "status_ref"), "ok");
        if (!strcmp(cases[i].status, "crash")) ASSERT_TEXT(text_of(pair, "status_ref"), "unknown");
    }
    ASSERT_NEAR(number(js_at(pairs, 0), "iou"), 0.5, 1e-6);
    ASSERT_NEAR(number(summary, "iou_mean"), iou / COUNT, 1e-6);
    ASSERT_NEAR(number(summary, "invalidity"), (COUNT - 1.0) / COUNT, 1e-6);
    ASSERT_INT(number(summary, "scored"), ==, 3);
    ASSERT_INT(number(summary, "missing"), ==, 1);
    js_free(&root);
}

TEST(a_folder_of_failures_alone_has_no_distances) {
    const char *output;
    ASSERT_OK(file_make_directories(test_path("pred")));
    ASSERT_OK(file_make_directories(test_path("ref")));
    for (int i = 0; i < 2; i++) put(i ? "ref/a.py" : "ref/b.py", box_code(10, 10, 10));
    put("pred/a.py", "# hook: crash");
    put("pred/b.py", "# hook: hang");
    setenv("CADVLM_CAD_HOOKS", "1", 1);
    Json *root =
        run_json(1, "cad score '%s' '%s' --seconds 0.3", test_path("pred"), test_path("ref"));
    const Json *pairs = js_get(root, "pairs"), *summary = js_get(root, "summary");
    ASSERT_TEXT(text_of(js_at(pairs, 0), "status_pred"), "crash");
    ASSERT_TEXT(text_of(js_at(pairs, 1), "status_pred"), "timeout");
    static const char *const distances[] = {"chamfer_mean", "chamfer_median", "hd95"};
    for (size_t i = 0; i < 3; i++) {
        expect_scores(js_at(pairs, i % 2), false);
        ASSERT_INT(js_type(js_get(summary, distances[i])), ==, JSON_KIND_NULL);
    }
    ASSERT_NEAR(number(summary, "iou_mean"), 0, 0);
    ASSERT_NEAR(number(summary, "fscore"), 0, 0);
    ASSERT_NEAR(number(summary, "invalidity"), 1, 0);
    ASSERT_INT(number(summary, "scored"), ==, 0);
    js_free(&root);
    put("pred/b.py", "broken(");
    ASSERT_INT(
        test_run(&output, "./cadvlm cad score '%s' '%s'", test_path("pred"), test_path("ref")), ==,
        1);
    ASSERT_CONTAINS(output, "invalidity 100.0 %; no distances");
    ASSERT_CONTAINS(output, "2 of 2 pairs could not be scored");
}

TEST(an_unreadable_reference_does_not_end_the_others) {
    ASSERT_OK(file_make_directories(test_path("pred")));
    ASSERT_OK(file_make_directories(test_path("ref")));
    for (int i = 0; i < 2; i++) put(i ? "pred/a.py" : "pred/b.py", box_code(10, 10, 10));
    put_tapered("ref/a.json", 0.005, 0.1);
    put("ref/b.py", box_code(10, 10, 10));
    Json *root = run_json(1, "cad score '%s' '%s'", test_path("pred"), test_path("ref"));
    const Json *pairs = js_get(root, "pairs"), *summary = js_get(root, "summary");
    ASSERT_TEXT(text_of(js_at(pairs, 0), "status_ref"), "unsupported");
    ASSERT_TEXT(text_of(js_at(pairs, 0), "status_pred"), "ok");
    ASSERT_CONTAINS(text_of(js_at(pairs, 0), "message"), "tapered");
    expect_scores(js_at(pairs, 0), false);
    ASSERT_NEAR(number(js_at(pairs, 1), "iou"), 1, 1e-6);
    ASSERT_INT(number(summary, "references_failed"), ==, 1);
    ASSERT_NEAR(number(summary, "iou_mean"), 0.5, 1e-6);
    js_free(&root);
}

/* Of whatever length: short texts fail when they are flushed, long ones before. */
TEST(output_that_does_not_arrive_is_a_failure) {
    put_flange("a.py");
    put_design("b.json", 0.005);
    static const char *const commands[] = {"--help",
                                           "--version",
                                           "cad run --help",
                                           "cad run FOLDER/a.py",
                                           "cad run FOLDER/a.py --json",
                                           "cad check FOLDER/a.py FOLDER/b.json",
                                           "cad convert FOLDER/b.json",
                                           "cad score FOLDER/a.py FOLDER/a.py --json",
                                           "cad draw FOLDER/a.py -o FOLDER/a.png --json",
                                           "data info FOLDER/synth --json",
                                           "report FOLDER"};
    /* It works where nobody reads it, and not into a full disk nor into nothing. */
    static const struct {
        const char *into, *says;
        int code;
    } ends[] = {{">/dev/null", "", 0},
                {">/dev/full", "cannot write standard output: No space left on device", 1},
                {">&-", "cannot write standard output: ", 1}};
    const char *output;
    ASSERT_INT(test_run(&output, "./cadvlm data synth '%s' --count 2 --size 64 >/dev/null",
                        test_path("synth")),
               ==, 0);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        for (size_t k = 0; k < 3; k++) {
            int code =
                test_run(&output, "set -- $(echo '%s' | sed 's#FOLDER#%s#g'); ./cadvlm \"$@\" %s",
                         commands[i], test_folder(), ends[k].into);
            ASSERT(code == ends[k].code && strstr(output, ends[k].says), "%s %s: %d\n%s",
                   commands[i], ends[k].into, code, output);
        }
    /* What failed already keeps its own code and sentence. */
    ASSERT_INT(test_run(&output, "./cadvlm cad run --jsno >/dev/full"), ==, 2);
    ASSERT_CONTAINS(output, "--jsno");
}

TEST(help_and_versions_are_there) {
    static const char *const commands[] = {"run", "draw", "convert", "check", "score"};
    const char *output;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        ASSERT_INT(test_run(&output, "./cadvlm cad %s --help", commands[i]), ==, 0);
        ASSERT_CONTAINS(output, "--json");
    }
    ASSERT_INT(test_run(&output, "./cadvlm-cad --version"), ==, 0);
    ASSERT_CONTAINS(output, "OpenCASCADE");
    ASSERT_INT(test_run(&output, "./cadvlm-cad"), ==, 2);
}

/* ---- real files ---- */

static const char *samples(void) {
    const char *folder = getenv("CADVLM_SAMPLES");
    if (!folder || !*folder) test_skip("CADVLM_SAMPLES is not set");
    return folder;
}

TEST(real_deepcad_files_convert_execute_and_draw) {
    const char *folder = samples();
    static const struct {
        const char *name;
        bool whole, valid; /* three were cut short by their exporter; one is a broken solid */
    } files[] = {{"00000069", true, true}, {"00001005", true, true},  {"00001010", false, true},
                 {"00001616", true, true}, {"00003763", false, true}, {"00003877", true, true},
                 {"00004691", true, true}, {"00005081", true, true},  {"00015361", true, false},
                 {"00633023", false, true}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        Json *root = run_json(0, "cad convert '%s/deepcad/%s.json' -o '%s'", folder, files[i].name,
                              test_path("a.py"));
        double off = 0, size = 0;
        for (size_t k = 0; k < 3; k++)
            for (int end = 0; end < 2; end++) {
                const char *which = end ? "max" : "min";
                double expected = corner(root, "bbox_expected", which, k);
                off = fmax(off, fabs(corner(root, "bbox", which, k) - expected));
                size = fmax(size, fabs(expected));
            }
        printf("%s: %s, %g extrusions, box off by %.2g of %g\n", files[i].name,
               text_of(root, "status"), number(root, "extrusions"), off, size);
        ASSERT_TEXT(text_of(root, "status"), files[i].valid ? "ok" : "invalid_solid");
        ASSERT_TRUE((off <= 1e-3 * size) == files[i].whole);
        js_free(&root);
        root =
            run_json(files[i].valid ? 0 : 1, "cad run '%s/deepcad/%s.json'", folder, files[i].name);
        ASSERT_TEXT(text_of(root, "status"), files[i].valid ? "ok" : "invalid_solid");
        js_free(&root);
        root = run_json(files[i].valid ? 0 : 1, "cad run '%s'", test_path("a.py"));
        ASSERT_TEXT(text_of(root, "status"), files[i].valid ? "ok" : "invalid_solid");
        js_free(&root);
        root = run_json(0, "cad draw '%s/deepcad/%s.json' -o '%s'", folder, files[i].name,
                        test_path("a.png"));
        js_free(&root);
        Image image;
        ASSERT_OK(image_read(&image, test_path("a.png"), 1));
        image_free(&image);
    }
}

TEST(the_real_openecad_example_executes) {
    Json *root = run_json(0, "cad run '%s/openecad_v2/example01.py'", samples());
    ASSERT_TEXT(text_of(root, "status"), "ok");
    ASSERT_NEAR(corner(root, "bbox", "max", 2), 50.8, 1e-5);
    printf("volume %.3f\n", number(root, "volume"));
    js_free(&root);
}

TEST(real_step_solids_are_themselves) {
    char folder[PATH_SIZE], path[PATH_SIZE];
    snprintf(folder, sizeof folder, "%s/solids", samples());
    FileNames names;
    ASSERT_OK(file_list(&names, folder));
    int count = 0;
    for (size_t i = 0; i < names.count; i++) {
        if (strcmp(path_extension(names.names[i]), ".step")) continue;
        ASSERT_OK(path_join(path, folder, names.names[i]));
        Json *root = run_json(0, "cad score '%s' '%s' --points 2000", path, path);
        printf("%s: IoU %.9f\n", names.names[i], number(root, "iou"));
        ASSERT_NEAR(number(root, "iou"), 1, 1e-6);
        ASSERT_NEAR(number(root, "dims_rel_error"), 0, 1e-9);
        js_free(&root);
        root = run_json(0, "cad draw '%s' -o '%s'", path, test_path("a.png"));
        js_free(&root);
        count++;
    }
    printf("%d solids\n", count);
    ASSERT_INT(count, ==, 15);
    file_names_free(&names);
}
