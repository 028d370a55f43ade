/* data/import: DeepCAD construction sequences to programs. */
#include "cad/language/code.h"
#include "cad/language/loop.h"
#include "cad/language/vec.h"
#include "core/file.h"
#include "core/rng.h"
#include "data/import/deepcad.h"
#include "tests/support/deepcad_fixture.h"
#include "tests/support/test.h"

static CadProgram converted(Json *root, DeepcadInfo *info) {
    CadProgram program;
    ASSERT_OK(deepcad_parse(&program, root, "part.json", info));
    js_free(&root);
    return program;
}

static void assert_same(const CadProgram *a, const CadProgram *b, CodeNumbers numbers) {
    Buf text_a = {0}, text_b = {0};
    code_emit(&text_a, a, numbers);
    code_emit(&text_b, b, numbers);
    ASSERT_TEXT(buf_cstr(&text_a), buf_cstr(&text_b));
    buf_free(&text_a);
    buf_free(&text_b);
}

/* Code of a program, read again, is the same program: exactly by exact numbers; by numpy's four
 * decimals in all that can be said with them. */
static void assert_reads_back(const CadProgram *program) {
    for (CodeNumbers numbers = CODE_NUMPY; numbers <= CODE_EXACT; numbers++) {
        Buf text = {0};
        CadProgram again;
        code_emit(&text, program, numbers);
        ASSERT_OK(code_parse(&again, buf_cstr(&text), text.size, "again.py", NULL));
        assert_same(program, &again, numbers);
        program_free(&again);
        buf_free(&text);
    }
}

/* ---- what it makes of them ---- */

TEST(made_file_converts_to_the_code_of_the_authors) {
    DeepcadInfo info;
    CadProgram program = converted(part_file(), &info);
    ASSERT_OK(program_validate(&program));
    Buf text = {0};
    code_emit(&text, &program, CODE_NUMPY);
    ASSERT_TEXT(
        buf_cstr(&text),
        "SketchPlane0 = add_sketchplane(\n"
        "\torigin= [0., 0., 0.], normal= [ 0., -1.,  0.], x_axis= [ 1.,  0., -0.])\n"
        "Loops0 = []\n"
        "Curves0_0 = []\n"
        "Line0_0_0 = add_line(start= [-40.,   0.], end= [0., 0.])\n"
        "Line0_0_1 = add_line(start= [0., 0.], end= [ 0., 30.])\n"
        "Arc0_0_2 = add_arc(start= [ 0., 30.], end= [-40.,  30.], mid= [-20.,  50.])\n"
        "Line0_0_3 = add_line(start= [-40.,  30.], end= [-40.,   0.])\n"
        "Loop0_0 = add_loop(Curves0_0)\n"
        "Curves0_1 = []\n"
        "Circle0_1_0 = add_circle(center= [-20.,  15.], radius= 5.25)\n"
        "Loop0_1 = add_loop(Curves0_1)\n"
        "Profile0 = add_profile(Loops0)\n"
        "Sketch0 = add_sketch(sketch_plane= SketchPlane0, profile= Profile0)\n"
        "Extrude0 = add_extrude(sketch= Sketch0,\n"
        "\toperation= 0, type= 0, extent_one= 20., extent_two= 0.)\n"
        "SketchPlane1 = add_sketchplane_ref(\n"
        "\tExtrude0, origin = [0., 0.], type = \"sameplane\")\n"
        "Loops1 = []\n"
        "Curves1_0 = []\n"
        "Circle1_0_0 = add_circle(center= [20., 10.], radius= 4.)\n"
        "Loop1_0 = add_loop(Curves1_0)\n"
        "Profile1 = add_profile(Loops1)\n"
        "Sketch1 = add_sketch(sketch_plane= SketchPlane1, profile= Profile1)\n"
        "Extrude1 = add_extrude(sketch= Sketch1,\n"
        "\toperation= 1, type= 0, extent_one= 20., extent_two= 0.)\n"
        "SketchPlane2 = add_sketchplane_ref(\n"
        "\tExtrude0, origin = [0., 0.], type = \"extent_one\")\n"
        "Loops2 = []\n"
        "Curves2_0 = []\n"
        "Circle2_0_0 = add_circle(center= [-20.,  15.], radius= 10.)\n"
        "Loop2_0 = add_loop(Curves2_0)\n"
        "Profile2 = add_profile(Loops2)\n"
        "Sketch2 = add_sketch(sketch_plane= SketchPlane2, profile= Profile2)\n"
        "Extrude2 = add_extrude(sketch= Sketch2,\n"
        "\toperation= 2, type= 1, extent_one= -2., extent_two= 0.)\n"
        "SketchPlane3 = add_sketchplane_ref(\n"
        "\tExtrude0, origin= [15., 10.], type= \"line\", line= Line0_0_1, angle= -np.pi/2)\n"
        "Loops3 = []\n"
        "Curves3_0 = []\n"
        "Circle3_0_0 = add_circle(center= [0., 0.], radius= 3.)\n"
        "Loop3_0 = add_loop(Curves3_0)\n"
        "Profile3 = add_profile(Loops3)\n"
        "Sketch3 = add_sketch(sketch_plane= SketchPlane3, profile= Profile3)\n"
        "Extrude3 = add_extrude(sketch= Sketch3,\n"
        "\toperation= 1, type= 2, extent_one= -5., extent_two= 7.)\n");
    buf_free(&text);
    assert_reads_back(&program);
    ASSERT_INT(info.extrusions, ==, 4);
    ASSERT_TRUE(info.has_box);
    ASSERT_NEAR(info.box_min.x, -40, 1e-12);
    ASSERT_NEAR(info.box_max.z, 30, 1e-12);
    ASSERT_INT(info.dropped_count, ==, 1);
    ASSERT_CONTAINS(info.dropped[0],
                    "sketch \"S3\": no extrude uses it; it is the last of the sequence");
    deepcad_info_free(&info);
    program_free(&program);
}

TEST(an_unused_sketch_before_the_last_means_nothing_more) {
    Json *root = part_file();
    DeepcadInfo info;
    add_sketch(root, "S4", vec3(0, 0, 0), right, up, front);
    CadProgram program = converted(root, &info);
    ASSERT_INT(info.dropped_count, ==, 2);
    ASSERT_TEXT(info.dropped[0], "sketch \"S3\": no extrude uses it");
    ASSERT_CONTAINS(info.dropped[1], "sketch \"S4\": no extrude uses it; it is the last");
    deepcad_info_free(&info);
    program_free(&program);
}

TEST(planes_found_by_reference_are_the_planes_of_the_file) {
    DeepcadInfo info;
    CadProgram program = converted(part_file(), &info);
    static const Plane expected[] = {{{0, 0, 0}, {0, -1, 0}, {1, 0, 0}},
                                     {{0, 0, 0}, {0, -1, 0}, {1, 0, 0}},
                                     {{0, -20, 0}, {0, -1, 0}, {1, 0, 0}},
                                     {{0, -10, 15}, {1, 0, 0}, {0, 1, 0}}};
    for (int i = 0; i < program.count; i++) {
        const Plane *found = &program.extrudes[i].plane;
        ASSERT_NEAR(vec3_length(vec3_sub(found->origin, expected[i].origin)), 0, 1e-9);
        ASSERT_NEAR(vec3_length(vec3_sub(found->normal, expected[i].normal)), 0, 1e-12);
        ASSERT_NEAR(vec3_length(vec3_sub(found->x_axis, expected[i].x_axis)), 0, 1e-12);
    }
    deepcad_info_free(&info);
    program_free(&program);
}

/* A single prism from -e2 to e1 would have no thickness; the two prisms are the same one. */
TEST(two_sides_on_the_same_side_stay_expressible) {
    Json *root = empty_file();
    Json *profiles = add_sketch(root, "S", vec3(0, 0, 0), right, up, front);
    add_circle(add_loop(profiles, "P"), 0, 0, 0.01);
    use_profile(add_extrude(root, "E", NEW_BODY, TWO_SIDES, -0.02, 0.02), "S", "P");
    CadProgram program = converted(root, NULL);
    ASSERT_REAL(program.extrudes[0].extent_one, ==, -20);
    ASSERT_REAL(program.extrudes[0].extent_two, ==, 20);
    double low, high;
    extrude_span(&program.extrudes[0], &low, &high);
    ASSERT_REAL(low, ==, -20);
    ASSERT_REAL(high, ==, 0);
    ASSERT_OK(program_validate(&program));
    assert_reads_back(&program);
    program_free(&program);
}

/* Only two sides have a second extent; of other features it is neither used nor needed. */
TEST(a_second_extent_belongs_to_two_sides_alone) {
    static const char *const types[] = {ONE_SIDE, SYMMETRIC, TWO_SIDES};
    for (int i = 0; i < 3; i++) {
        Json *root = empty_file();
        Json *profiles = add_sketch(root, "S", vec3(0, 0, 0), right, up, front);
        add_circle(add_loop(profiles, "P"), 0, 0, 0.01);
        use_profile(add_extrude(root, "E", NEW_BODY, types[i], 0.02, 0.005), "S", "P");
        CadProgram program = converted(root, NULL);
        ASSERT_INT(program.extrudes[0].type, ==, i);
        ASSERT_REAL(program.extrudes[0].extent_one, ==, 20);
        ASSERT_REAL(program.extrudes[0].extent_two, ==, i == 2 ? 5 : 0);
        program_free(&program);
    }
}

TEST(end_faces_are_found_on_the_side_that_the_extent_says) {
    Json *root = empty_file();
    static const double heights[] = {0, 0.008, -0.008, 0.003};
    for (int i = 0; i < 4; i++) {
        char sketch[8], extrude[8];
        snprintf(sketch, sizeof sketch, "S%d", i);
        snprintf(extrude, sizeof extrude, "E%d", i);
        Json *profiles = add_sketch(root, sketch, vec3(0, 0, heights[i]), right, vec3(0, 1, 0), up);
        add_circle(add_loop(profiles, "P"), 0, 0, 0.01);
        use_profile(add_extrude(root, extrude, JOIN, TWO_SIDES, -0.008, -0.003), sketch, "P");
    }
    CadProgram program = converted(root, NULL);
    ASSERT_INT(program.extrudes[1].ref.kind, ==, PLANE_ABSOLUTE); /* +8 is no end of -8 */
    ASSERT_INT(program.extrudes[2].ref.kind, ==, PLANE_EXTENT_ONE);
    ASSERT_INT(program.extrudes[3].ref.kind, ==, PLANE_EXTENT_TWO); /* against the normal by -3 */
    for (int i = 0; i < 4; i++)
        ASSERT_NEAR(program.extrudes[i].plane.origin.z, heights[i] * 1000, 1e-12);
    assert_reads_back(&program);
    program_free(&program);
}

/* A hexagon with an arc, its seven curves listed in any order and direction: 200 shuffles. */
TEST(loops_are_chained_whatever_the_order_and_direction_of_their_curves) {
    char first[4096] = "";
    for (uint64_t shuffle = 0; shuffle < 200; shuffle++) {
        Json *curves[7], *list = js_new_array();
        Rng rng;
        rng_open(&rng, 1, RNG_TEST, shuffle);
        double x[7], y[7];
        for (int k = 0; k < 7; k++) {
            x[k] = 0.05 + 0.03 * cos(k * 2 * M_PI / 7 + 0.3);
            y[k] = 0.01 + 0.03 * sin(k * 2 * M_PI / 7 + 0.3);
        }
        for (int k = 0; k < 7; k++) {
            int a = k, b = (k + 1) % 7;
            bool swapped = rng_below(&rng, 2);
            curves[k] = js_new_array();
            if (k == 3)
                add_arc(curves[k], 0.05, 0.01, 0.03, k * 2 * M_PI / 7 + 0.3, 2 * M_PI / 7, swapped);
            else
                add_line(curves[k], x[swapped ? b : a], y[swapped ? b : a], x[swapped ? a : b],
                         y[swapped ? a : b]);
        }
        for (uint64_t k = 0; k < 7; k++)
            js_push(list, js_copy(js_at(curves[rng_permute(shuffle, k, 7)], 0)));
        for (int k = 0; k < 7; k++) js_free(&curves[k]);
        Json *root = empty_file();
        Json *profiles = add_sketch(root, "S", vec3(0, 0, 0), right, up, front);
        add_loop(profiles, "P");
        js_set((Json *)js_at(js_get(js_get(profiles, "P"), "loops"), 0), "profile_curves", list);
        use_profile(add_extrude(root, "E", NEW_BODY, ONE_SIDE, 0.01, 0), "S", "P");
        CadProgram program = converted(root, NULL);
        ASSERT_OK(program_validate(&program));
        ASSERT_REAL(loop_area(&program.extrudes[0].loops[0]), >, 0);
        Buf text = {0};
        code_emit(&text, &program, CODE_PLAIN);
        if (!first[0]) snprintf(first, sizeof first, "%s", buf_cstr(&text));
        ASSERT_TEXT(buf_cstr(&text), first);
        buf_free(&text);
        program_free(&program);
    }
}

/* A file of one extrude, 10 mm, of what `fill` puts into its only loop. */
static Json *file_of_loop(void (*fill)(Json *loop)) {
    Json *root = empty_file();
    fill(add_loop(add_sketch(root, "S", vec3(0, 0, 0), right, up, front), "P"));
    use_profile(add_extrude(root, "E", NEW_BODY, ONE_SIDE, 0.01, 0), "S", "P");
    return root;
}

static void fill_whole_turn(Json *loop) {
    add_arc(loop, 0.001, 0.002, 0.005, 0.3, 2 * M_PI, false);
}

TEST(an_arc_of_a_whole_turn_is_a_circle) {
    CadProgram program = converted(file_of_loop(fill_whole_turn), NULL);
    const Curve *circle = &program.extrudes[0].loops[0].curves[0];
    ASSERT_INT(program.curve_count, ==, 1);
    ASSERT_INT(circle->kind, ==, CURVE_CIRCLE);
    ASSERT_REAL(circle->center.x, ==, 1);
    ASSERT_REAL(circle->center.y, ==, 2);
    ASSERT_REAL(circle->radius, ==, 5);
    ASSERT_OK(program_validate(&program));
    assert_reads_back(&program);
    program_free(&program);
}

/* A chord and nine tenths of a turn: no circle, though its ends are near to one another. */
static void fill_nearly_whole_turn(Json *loop) {
    double from = 0.1 * M_PI, sweep = 1.8 * M_PI, r = 0.005;
    add_arc(loop, 0, 0, r, from, sweep, true);
    add_line(loop, r * cos(from), r * sin(from), r * cos(from + sweep), r * sin(from + sweep));
}

TEST(an_arc_of_most_of_a_turn_stays_an_arc) {
    CadProgram program = converted(file_of_loop(fill_nearly_whole_turn), NULL);
    ASSERT_INT(program.curve_count, ==, 2);
    ASSERT_OK(program_validate(&program));
    /* the segment of a circle beyond a chord: r² (θ - sin θ) / 2 */
    ASSERT_NEAR(loop_area(&program.extrudes[0].loops[0]), 25 * (1.8 * M_PI - sin(1.8 * M_PI)) / 2,
                1e-9);
    program_free(&program);
}

static void fill_quarter(Json *loop) {
    add_line(loop, 0, 0, 0.005, 0);
    add_arc(loop, 0, 0, 0.005, 0, M_PI / 2, false);
    add_line(loop, 0, 0.005, 0, 0);
}

/* Its description is as good as its ends; where they differ, neither is believed. */
TEST(an_arc_that_does_not_fit_its_ends_is_refused) {
    static const struct {
        const char *key;
        double value;
        bool fits;
    } cases[] = {
        {"radius", 0.007, false},     {"radius", 0.00502, false},  {"end_angle", 1.5, false},
        {"start_angle", 0.1, false},  {"radius", -0.005, false},   {"end_angle", -M_PI / 2, false},
        {"radius", 0.005002, true},   {"end_angle", 1.5708, true}, /* as rounding leaves them */
        {"start_angle", -1e-4, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Json *root = file_of_loop(fill_quarter);
        const Json *sketch = js_get(js_get(root, "entities"), "S");
        const Json *loops = js_get(js_get(js_get(sketch, "profiles"), "P"), "loops");
        const Json *curves = js_get(js_at(loops, 0), "profile_curves");
        CadProgram program;
        js_set_number((Json *)js_at(curves, 1), cases[i].key, cases[i].value);
        printf("%s %g\n", cases[i].key, cases[i].value);
        if (cases[i].fits)
            ASSERT_OK(deepcad_parse(&program, root, "part.json", NULL));
        else
            ASSERT_ERR(deepcad_parse(&program, root, "part.json", NULL), ERR_INPUT,
                       "loop 0, curve 1: the arc does not fit its ends: they are [5, 0] and [");
        program_free(&program);
        js_free(&root);
    }
}

/* Every file of the dataset has 0 there; the form has a start angle all the same. */
static void fill_quarter_of_two_angles(Json *loop) {
    fill_quarter(loop);
    Json *arc = (Json *)js_at(loop, 1);
    js_set_number(arc, "start_angle", 0.3);
    js_set_number(arc, "end_angle", 0.3 + M_PI / 2);
    js_set(arc, "reference_vector", point_json(cos(-0.3), sin(-0.3), 0));
}

TEST(an_arc_begins_at_its_start_angle) {
    CadProgram program = converted(file_of_loop(fill_quarter_of_two_angles), NULL);
    const Curve *arc = &program.extrudes[0].loops[0].curves[1];
    ASSERT_INT(arc->kind, ==, CURVE_ARC);
    ASSERT_NEAR(arc->mid.x, 5 * sqrt(0.5), 1e-12);
    ASSERT_NEAR(arc->mid.y, 5 * sqrt(0.5), 1e-12);
    program_free(&program);
}

TEST(an_arc_of_more_than_a_turn_is_refused) {
    Json *root = file_of_loop(fill_whole_turn);
    const Json *sketch = js_get(js_get(root, "entities"), "S");
    const Json *loops = js_get(js_get(js_get(sketch, "profiles"), "P"), "loops");
    const Json *curves = js_get(js_at(loops, 0), "profile_curves");
    CadProgram program;
    js_set_number((Json *)js_at(curves, 0), "end_angle", 4 * M_PI);
    ASSERT_ERR(deepcad_parse(&program, root, "part.json", NULL), ERR_INPUT,
               "curve 0: the arc turns by 12.5664 radians");
    js_free(&root);
}

TEST(lines_of_no_length_are_dropped_and_said) {
    Json *root = empty_file();
    Json *profiles = add_sketch(root, "S", vec3(0, 0, 0), right, up, front);
    Json *loop = add_loop(profiles, "P");
    add_line(loop, 0, 0, 0.01, 0);
    add_line(loop, 0.01, 0, 0.01, 0);
    add_line(loop, 0.01, 0, 0.01, 0.01);
    add_line(loop, 0.01, 0.01, 0, 0);
    use_profile(add_extrude(root, "E", NEW_BODY, ONE_SIDE, 0.01, 0), "S", "P");
    DeepcadInfo info;
    CadProgram program = converted(root, &info);
    ASSERT_INT(program.curve_count, ==, 3);
    ASSERT_INT(info.dropped_count, ==, 1);
    ASSERT_CONTAINS(info.dropped[0], "loop 0: lines shorter than 0.0001 mm: 1");
    ASSERT_OK(program_validate(&program));
    deepcad_info_free(&info);
    program_free(&program);
}

/* ---- real files ---- */

static const struct {
    const char *name;
    int extrusions, curves, dropped;
    bool whole; /* false: the exporter stopped before the end of the model */
} real_files[] = {{"00000069", 9, 68, 0, true},   {"00001005", 7, 10, 1, true},
                  {"00001010", 2, 9, 1, false},   {"00001616", 9, 33, 0, true},
                  {"00003763", 4, 5, 0, false},   {"00003877", 2, 7, 0, true},
                  {"00004691", 32, 50, 0, true},  {"00005081", 2, 11, 0, true},
                  {"00015361", 47, 176, 0, true}, {"00633023", 2, 2, 0, false}};

TEST(real_files_convert_and_read_back) {
    const char *folder = test_samples();
    for (size_t i = 0; i < sizeof real_files / sizeof *real_files; i++) {
        char path[PATH_SIZE];
        CadProgram program;
        DeepcadInfo info;
        ASSERT_OK(path_format(path, "%s/deepcad/%s.json", folder, real_files[i].name));
        ASSERT_OK(deepcad_read(&program, path, &info));
        printf("%s: %d extrusions, %d curves, %d dropped\n", real_files[i].name, program.count,
               program.curve_count, info.dropped_count);
        ASSERT_OK(program_validate(&program));
        ASSERT_INT(program.count, ==, real_files[i].extrusions);
        ASSERT_INT(program.curve_count, ==, real_files[i].curves);
        ASSERT_INT(info.dropped_count, ==, real_files[i].dropped);
        ASSERT_TRUE(info.has_box);
        assert_reads_back(&program);
        deepcad_info_free(&info);
        program_free(&program);
    }
}

static void include(Vec3 *low, Vec3 *high, Vec3 p) {
    *low = vec3(fmin(low->x, p.x), fmin(low->y, p.y), fmin(low->z, p.z));
    *high = vec3(fmax(high->x, p.x), fmax(high->y, p.y), fmax(high->z, p.z));
}

static Vec2 point_on(const Curve *c, double t) {
    Arc arc = {c->center, c->radius, 0, 2 * M_PI};
    if (c->kind == CURVE_LINE || (c->kind == CURVE_ARC && !curve_arc(c, &arc)))
        return vec2(c->start.x + t * (c->end.x - c->start.x),
                    c->start.y + t * (c->end.y - c->start.y));
    double angle = arc.from + t * arc.sweep;
    return vec2(arc.center.x + arc.radius * cos(angle), arc.center.y + arc.radius * sin(angle));
}

/* The box of all that is joined, by 2001 points of each curve; cuts only take away. */
static void joined_box(const CadProgram *program, Vec3 *low, Vec3 *high) {
    *low = vec3(INFINITY, INFINITY, INFINITY);
    *high = vec3(-INFINITY, -INFINITY, -INFINITY);
    for (int i = 0; i < program->count; i++) {
        const Extrude *extrude = &program->extrudes[i];
        double ends[2];
        extrude_span(extrude, &ends[0], &ends[1]);
        if (i && extrude->op > OP_JOIN) continue;
        for (int j = 0; j < extrude->loop_count; j++)
            for (int k = 0; k < extrude->loops[j].count; k++)
                for (int t = 0; t <= 4000; t++) {
                    Vec2 p = point_on(&extrude->loops[j].curves[k], t / 2 / 2000.0);
                    Vec3 lift = vec3_scale(extrude->plane.normal, ends[t % 2]);
                    include(low, high, vec3_add(plane_point(&extrude->plane, p), lift));
                }
    }
}

TEST(real_files_fill_the_box_that_they_state) {
    const char *folder = test_samples();
    for (size_t i = 0; i < sizeof real_files / sizeof *real_files; i++) {
        char path[PATH_SIZE];
        CadProgram program;
        DeepcadInfo info;
        Vec3 low, high;
        ASSERT_OK(path_format(path, "%s/deepcad/%s.json", folder, real_files[i].name));
        ASSERT_OK(deepcad_read(&program, path, &info));
        joined_box(&program, &low, &high);
        double size = vec3_length(vec3_sub(info.box_max, info.box_min));
        double off =
            vec3_length(vec3_sub(low, info.box_min)) + vec3_length(vec3_sub(high, info.box_max));
        printf("%s: %.3g of its size off\n", real_files[i].name, off / size);
        ASSERT_INT(off < 1e-3 * size, ==, real_files[i].whole);
        deepcad_info_free(&info);
        program_free(&program);
    }
}
