/* cad: the lines of a drawing, against two answers that share no code with them: the kernel's exact
 * algorithm, which works on curves, and a depth buffer over a fine mesh.
 *
 * The kernel's algorithm is wrong now and then (it hides an outline that lies on a seam, draws
 * lines where two cylinders touch, and loses the outlines of some cones). Where the depth buffer
 * says so, nothing is compared with it; the depth buffer judges ours in any case. */
#include "cad/drawing/sheet.h"
#include "cad/language/vec.h"
#include "cad/solid/solid.h"
#include "data/synth/synth.h"
#include "tests/cad/depth_image.h"
#include "tests/cad/line_compare.h"
#include "tests/cad/parts.h"
#include "tests/cad/round_solids.h"

#ifdef __SANITIZE_ADDRESS__
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

#define SHEET        512
#define LINE_NEAR    3      /* tolerances: lines nearer than 0.3 pixels are the same */
#define MISSING_MAX  0.005  /* of the visible length */
#define EXTRA_MAX    0.0075 /* where a hidden line begins, 0.3 pixels beside it count as seen */
#define HIDDEN_MAX   0.01
#define VERDICT_EVEN 0.003 /* verdicts that differ by less are the same: a pixel or three */
#define MESH_NEAR    5e-4  /* of the size */

typedef struct Tally {
    int views, compared;
} Tally;

static bool is_more(double a, double b) {
    return a > 1.15 * b + VERDICT_EVEN;
}

/* Is there an edge without its line, or a line without an edge, that the other drawing has not? */
static bool is_worse(const DepthVerdict *a, const DepthVerdict *b) {
    return a->leak > b->leak || is_more(a->missing, b->missing) || is_more(a->extra, b->extra);
}

static void check_view(const char *name, DrawView view, const ViewLines *lines,
                       const ViewLines *kernel, const DepthImage *image, double tolerance,
                       Tally *tally) {
    static const char *const views[VIEW_COUNT] = {"front", "top", "right", "iso"};
    DepthVerdict ours = depth_image_judge(image, lines), theirs = depth_image_judge(image, kernel);
    LineShares shares = compare_lines(lines, kernel, LINE_NEAR * tolerance);
    double all = shares.visible;
    printf("%s, %s: by depth missing %.4f, extra %.4f, leak %.4f (kernel %.4f, %.4f, %.4f); by the "
           "kernel missing %.4f, extra %.4f, hidden missing %.4f, extra %.4f\n",
           name, views[view], ours.missing, ours.extra, ours.leak, theirs.missing, theirs.extra,
           theirs.leak, shares.missing / all, shares.extra / all, shares.hidden_missing / all,
           shares.hidden_extra / all);
    ASSERT_REAL(ours.leak, ==, 0);
    tally->views++;
    if (is_worse(&theirs, &ours)) return;
    ASSERT_TRUE(!is_worse(&ours, &theirs));
    ASSERT_REAL(shares.missing, <=, MISSING_MAX * all);
    ASSERT_REAL(shares.extra, <=, EXTRA_MAX * all);
    ASSERT_REAL(shares.hidden_extra, <=, HIDDEN_MAX * all);
    tally->compared++;
}

/* How many lines the kernel hides on seams, where nothing is. */
static double check_solid(const char *name, const Solid *solid, Tally *tally) {
    DrawStyle style = draw_style_default(SHEET);
    ViewLines lines[VIEW_COUNT], kernel[VIEW_COUNT];
    SolidFacts facts;
    SolidNote note;
    Vec3 *corners;
    double hidden_missing = 0;
    solid_check(solid, &facts, &note);
    LineOptions options = {.views = DRAW_ALL_VIEWS,
                           .tolerance = sheet_tolerance(&style, facts.box_min, facts.box_max),
                           .exact_seconds = 600};
    ASSERT(hidden_lines(lines, solid, &options, &note), "%s: %s", name, note.text);
    ASSERT(kernel_lines(kernel, solid, &options), "%s: the kernel draws nothing", name);
    double size = vec3_length(vec3_sub(facts.box_max, facts.box_min));
    int triangles = solid_mesh(&corners, solid, MESH_NEAR * size);
    for (int view = 0; view < VIEW_COUNT; view++) {
        DepthImage image;
        depth_image_open(&image, corners, triangles, (DrawView)view);
        check_view(name, (DrawView)view, &lines[view], &kernel[view], &image, options.tolerance,
                   tally);
        LineShares shares =
            compare_lines(&lines[view], &kernel[view], LINE_NEAR * options.tolerance);
        hidden_missing += shares.hidden_missing / shares.visible;
        depth_image_close(&image);
        view_lines_free(&lines[view]);
        view_lines_free(&kernel[view]);
    }
    free(corners);
    return hidden_missing;
}

TEST(lines_of_round_parts_are_those_of_the_exact_algorithm) {
    solid_quiet();
    Tally tally = {0};
    for (int i = 0; i < round_solid_count(); i += SANITIZED ? 5 : 1) {
        Solid *solid = round_solid_new(i);
        double hidden_missing = check_solid(round_solid_name(i), solid, &tally);
        ASSERT_REAL(hidden_missing, <=, HIDDEN_MAX);
        solid_free(&solid);
    }
    printf("%d of %d views compared\n", tally.compared, tally.views);
    ASSERT_REAL(tally.compared, >=, 0.95 * tally.views);
}

/* Turned about any axis no face is edge-on and no outline lies on an edge; turned by a hair, all
 * nearly do. */
static void check_turned(double angle_max, uint64_t seed) {
    solid_quiet();
    Tally tally = {0};
    for (int i = 0; i < round_solid_count(); i += SANITIZED ? 7 : 2) {
        Rng rng;
        rng_open(&rng, seed, RNG_TEST, (uint64_t)i);
        Vec3 axis = vec3(rng_normal(&rng), rng_normal(&rng), rng_normal(&rng));
        Solid *solid = round_solid_new(i);
        Solid *turned = solid_turned(solid, axis, angle_max * rng_uniform(&rng));
        check_solid(round_solid_name(i), turned, &tally);
        solid_free(&turned);
        solid_free(&solid);
    }
    printf("%d of %d views compared\n", tally.compared, tally.views);
    ASSERT_REAL(tally.compared, >=, 0.8 * tally.views);
}

TEST(round_parts_turned_any_way_have_closed_outlines) {
    check_turned(2 * M_PI, 9);
}

TEST(round_parts_turned_by_a_hair_have_closed_outlines) {
    check_turned(1e-4, 1);
    check_turned(0.02, 2);
}

static void check_program(const char *name, CadProgram *program, Tally *tally) {
    Solid *solid;
    SolidNote note;
    SolidFacts facts;
    if (program_validate(program) == OK && solid_build(&solid, program, &note) == CAD_OK) {
        if (solid_check(solid, &facts, &note) == CAD_OK) check_solid(name, solid, tally);
        solid_free(&solid);
    }
    program_free(program);
}

TEST(lines_of_parts_of_code_are_those_of_the_exact_algorithm) {
    solid_quiet();
    Tally tally = {0};
    char name[32];
    for (uint64_t i = 0; i < (SANITIZED ? 5 : 40); i++) {
        CadProgram program = random_program(7, i);
        snprintf(name, sizeof name, "random %d", (int)i);
        check_program(name, &program, &tally);
        snprintf(name, sizeof name, "synthetic %d", (int)i);
        if (synth_part(&program, 3, i, -1, SYNTH_CORNER) == OK && i % 2)
            check_program(name, &program, &tally);
        else
            program_free(&program);
    }
    printf("%d of %d views compared\n", tally.compared, tally.views);
    ASSERT_INT(tally.views, >, SANITIZED ? 10 : 160);
    ASSERT_REAL(tally.compared, >=, 0.95 * tally.views);
}

static Solid *built(CadProgram *program) {
    Solid *solid;
    SolidNote note;
    ASSERT_OK(program_validate(program));
    ASSERT(solid_build(&solid, program, &note) == CAD_OK, "%s", note.text);
    program_free(program);
    return solid;
}

static void draw_view(ViewLines *view_lines, const Solid *solid, DrawView view, double tolerance) {
    ViewLines lines[VIEW_COUNT];
    SolidNote note;
    LineOptions options = {.views = 1u << view, .tolerance = tolerance};
    ASSERT(hidden_lines(lines, solid, &options, &note), "%s", note.text);
    *view_lines = lines[view];
}

static double length_of(const ViewLines *lines, StrokeKind kind) {
    Pieces pieces = pieces_of(lines, 1u << kind);
    double length = pieces_length(pieces);
    free(pieces.items);
    return length;
}

/* A plate 100 × 60 with a boss 40 × 30 under it: from above the boss is hidden, however thin the
 * plate; from below (a plate over the boss) it is seen, however low the boss. */
TEST(thin_walls_hide_and_low_steps_show) {
    solid_quiet();
    static const double thin[] = {10, 1, 0.2, 0.05};
    for (size_t i = 0; i < sizeof thin / sizeof thin[0]; i++)
        for (int above = 0; above < 2; above++) {
            double wall = above ? 2 : thin[i], step = above ? thin[i] : 2;
            CadProgram program = {0};
            Extrude *plate =
                part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_ONE_SIDE, wall, 0);
            part_rectangle(&program, plate, 0, 0, 100, 60);
            Extrude *boss = part_extrude(&program, plane_z(above ? wall : 0), OP_JOIN,
                                         EXTENT_ONE_SIDE, above ? step : -step, 0);
            part_rectangle(&program, boss, 20, 10, 60, 40);
            Solid *solid = built(&program);
            ViewLines lines;
            draw_view(&lines, solid, VIEW_TOP, 0.02);
            printf("wall %g, step %g: %g visible, %g hidden\n", wall, step,
                   length_of(&lines, STROKE_VISIBLE), length_of(&lines, STROKE_HIDDEN));
            ASSERT_NEAR(length_of(&lines, STROKE_VISIBLE), above ? 460 : 320, 1e-3);
            ASSERT_NEAR(length_of(&lines, STROKE_HIDDEN), above ? 0 : 140, 1e-3);
            view_lines_free(&lines);
            solid_free(&solid);
        }
}

static int find_solid(const char *name) {
    for (int i = 0; i < round_solid_count(); i++)
        if (!strcmp(round_solid_name(i), name)) return i;
    test_fail(__FILE__, __LINE__, "no %s", name);
}

/* Centre lines belong to circles that are drawn, not to seams and to where a rounding begins. */
TEST(round_parts_have_the_centre_lines_of_their_circles) {
    solid_quiet();
    static const struct {
        const char *name;
        DrawView view;
        int count;
        double x, y, radius;
    } cases[] = {
        {"sphere", VIEW_FRONT, 1, 0, 0, 10},
        {"sphere", VIEW_TOP, 1, 0, 0, 10},
        {"sphere", VIEW_RIGHT, 1, 0, 0, 10},
        {"sphere", VIEW_ISO, 0, 0, 0, 0},
        {"capsule", VIEW_TOP, 1, 0, 0, 8},
        {"capsule", VIEW_FRONT, 1, 0, 20, 8},
        {"cylinder with a round top", VIEW_TOP, 1, 0, 0, 10},
        {"cylinder with a round top", VIEW_FRONT, 0, 0, 0, 0},
        {"torus", VIEW_TOP, 1, 0, 0, 20},
        {"torus", VIEW_FRONT, 0, 0, 0, 0},
        {"cone", VIEW_TOP, 1, 0, 0, 10},
        {"cone", VIEW_FRONT, 0, 0, 0, 0},
        {"box with round edges", VIEW_TOP, 0, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Solid *solid = round_solid_new(find_solid(cases[i].name));
        ViewLines lines;
        draw_view(&lines, solid, cases[i].view, 0.02);
        printf("%s, view %d: %d marks\n", cases[i].name, (int)cases[i].view, lines.mark_count);
        ASSERT_INT(lines.mark_count, ==, cases[i].count);
        if (lines.mark_count) {
            ASSERT_NEAR(lines.marks[0].center.x, cases[i].x, 1e-6);
            ASSERT_NEAR(lines.marks[0].center.y, cases[i].y, 1e-6);
            ASSERT_NEAR(lines.marks[0].radius, cases[i].radius, 1e-6);
        }
        view_lines_free(&lines);
        solid_free(&solid);
    }
}

/* Outlines of known length: a circle, a rectangle with round corners, the two sides of a cone. */
TEST(outlines_have_the_length_of_their_formula) {
    solid_quiet();
    double corner = 2 * M_PI * 4, side = 2 * hypot(10, 20), frustum = 2 * hypot(5, 20);
    const struct {
        const char *name;
        DrawView view;
        double visible;
    } cases[] = {
        {"sphere", VIEW_FRONT, 20 * M_PI},
        {"sphere", VIEW_ISO, 20 * M_PI},
        {"half sphere", VIEW_FRONT, 10 * M_PI + 20},
        {"box with round edges", VIEW_FRONT, 2 * (32 + 12) + corner},
        {"box with round edges", VIEW_TOP, 2 * (32 + 22) + corner},
        {"box with round edges", VIEW_RIGHT, 2 * (22 + 12) + corner},
        {"cylinder with a round top", VIEW_FRONT, 20 + 2 * 18 + 2 * M_PI + 16},
        {"cone", VIEW_FRONT, 20 + side},
        {"cone", VIEW_RIGHT, 20 + side},
        {"frustum", VIEW_FRONT, 20 + 10 + frustum},
        {"torus", VIEW_TOP, 2 * M_PI * (20 + 10)},
        {"capsule", VIEW_FRONT, 16 + 2 * 20 + 8 * M_PI},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Solid *solid = round_solid_new(find_solid(cases[i].name));
        ViewLines lines;
        draw_view(&lines, solid, cases[i].view, 0.005);
        double length = length_of(&lines, STROKE_VISIBLE);
        printf("%s, view %d: %.4f of %.4f\n", cases[i].name, (int)cases[i].view, length,
               cases[i].visible);
        ASSERT_NEAR(length, cases[i].visible, 0.002 * cases[i].visible);
        view_lines_free(&lines);
        solid_free(&solid);
    }
}

/* Whichever half of its cone a face is given on. */
TEST(a_frustum_beyond_the_tip_is_drawn_as_before_it) {
    solid_quiet();
    Solid *plain = round_solid_new(find_solid("that frustum, before the tip"));
    Solid *beyond = round_solid_new(find_solid("frustum beyond the tip"));
    for (int turn = 0; turn < 6; turn++) {
        Vec3 axis = vec3(1, 0.3 * turn, 0.2);
        Solid *solids[] = {solid_turned(plain, axis, 0.5 * turn),
                           solid_turned(beyond, axis, 0.5 * turn)};
        double length[2][2];
        for (int i = 0; i < 2; i++) {
            ViewLines lines;
            draw_view(&lines, solids[i], VIEW_ISO, 0.02);
            length[i][0] = length_of(&lines, STROKE_VISIBLE);
            length[i][1] = length_of(&lines, STROKE_HIDDEN);
            view_lines_free(&lines);
            solid_free(&solids[i]);
        }
        printf("visible %.4f and %.4f, hidden %.4f and %.4f\n", length[0][0], length[1][0],
               length[0][1], length[1][1]);
        ASSERT_NEAR(length[1][0], length[0][0], 5e-3);
        ASSERT_NEAR(length[1][1], length[0][1], 5e-3);
    }
    solid_free(&plain);
    solid_free(&beyond);
}

/* The kernel's algorithm dashes half of a torus's outline, on its seam: so the two can be
 * distinguished. */
TEST(the_exact_algorithm_draws_when_asked_and_while_it_has_time) {
    solid_quiet();
    Solid *solid = round_solid_new(find_solid("torus"));
    SolidNote note;
    ViewLines plain[VIEW_COUNT], exact[VIEW_COUNT], late[VIEW_COUNT];
    LineOptions options = {.views = 1u << VIEW_FRONT, .tolerance = 0.02};
    ASSERT_TRUE(hidden_lines(plain, solid, &options, &note));
    options.exact = true;
    options.exact_seconds = 600;
    ASSERT_TRUE(hidden_lines(exact, solid, &options, &note));
    options.exact_seconds = 0;
    ASSERT_TRUE(hidden_lines(late, solid, &options, &note));
    double outline = length_of(&plain[VIEW_FRONT], STROKE_VISIBLE);
    printf("%g, exactly %g\n", outline, length_of(&exact[VIEW_FRONT], STROKE_VISIBLE));
    ASSERT_REAL(length_of(&exact[VIEW_FRONT], STROKE_VISIBLE), <, 0.9 * outline);
    ASSERT_REAL(length_of(&late[VIEW_FRONT], STROKE_VISIBLE), ==, outline);
    for (int view = 0; view < VIEW_COUNT; view++) {
        view_lines_free(&plain[view]);
        view_lines_free(&exact[view]);
        view_lines_free(&late[view]);
    }
    solid_free(&solid);
}
