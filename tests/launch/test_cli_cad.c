/* The cad commands as a user runs them: exit codes, keys, files, sentences. */
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "image/image.h"
#include "tests/cad/parts.h"
#include "tests/launch/cli_cad_fixture.h"
#include "tests/support/deepcad_fixture.h"

static const char *put_flange(const char *name) {
    CadProgram program = flange_program();
    return put(name, part_code(&program));
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
    /* Whoever reads the file reads what of it is not in the part. */
    ASSERT_INT(test_run(&output, "./cadvlm cad check '%s'", design), ==, 0);
    printf("%s", output);
    ASSERT_CONTAINS(output, "warning: ");
    ASSERT_CONTAINS(output, "no extrude uses it");
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
    ASSERT_OK(file_write(test_path("metrics.jsonl"), "", 0)); /* a run that has just begun */
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

TEST(real_deepcad_files_convert_execute_and_draw) {
    const char *folder = test_samples();
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
    Json *root = run_json(0, "cad run '%s/openecad_v2/example01.py'", test_samples());
    ASSERT_TEXT(text_of(root, "status"), "ok");
    ASSERT_NEAR(corner(root, "bbox", "max", 2), 50.8, 1e-5);
    printf("volume %.3f\n", number(root, "volume"));
    js_free(&root);
}

TEST(real_step_solids_are_themselves) {
    char folder[PATH_SIZE], path[PATH_SIZE];
    snprintf(folder, sizeof folder, "%s/solids", test_samples());
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
