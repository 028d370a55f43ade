/* cad score: files, folders, and what failed. */
#include "core/file.h"
#include "core/json.h"
#include "tests/cad/parts.h"
#include "tests/launch/cli_cad_fixture.h"

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
