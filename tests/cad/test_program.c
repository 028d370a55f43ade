/* cad: programs in memory: loops, planes, the validator. */
#include "cad/language/loop.h"
#include "cad/language/vec.h"
#include "core/rng.h"
#include "tests/cad/cad_fixture.h"

/* ---- loops ---- */

static Curve line(double x0, double y0, double x1, double y1) {
    return (Curve){.kind = CURVE_LINE, .start = vec2(x0, y0), .end = vec2(x1, y1)};
}

static Curve arc(double x0, double y0, double x1, double y1, double xm, double ym) {
    return (Curve){
        .kind = CURVE_ARC, .start = vec2(x0, y0), .end = vec2(x1, y1), .mid = vec2(xm, ym)};
}

TEST(loops_come_out_the_same_from_any_start_and_direction) {
    const Curve outline[5] = {line(0, 0, 40, 0), line(40, 0, 40, 20), arc(40, 20, 10, 20, 25, 30),
                              line(10, 20, 0, 20), line(0, 20, 0, 0)};
    for (int turn = 0; turn < 5; turn++) {
        for (int directions = 0; directions < 32; directions++) {
            for (int backwards = 0; backwards < 2; backwards++) {
                Curve curves[5];
                int tags[5];
                for (int k = 0; k < 5; k++) {
                    int from = ((backwards ? 4 - k : k) + turn) % 5;
                    curves[k] = outline[from];
                    tags[k] = from;
                    if (directions >> k & 1) curve_reverse(&curves[k]);
                }
                ASSERT_INT(loop_assemble(curves, 5, tags), ==, 5);
                for (int k = 0; k < 5; k++) {
                    ASSERT_INT(tags[k], ==, k);
                    ASSERT_REAL(vec2_distance(curves[k].start, outline[k].start), ==, 0);
                    ASSERT_REAL(vec2_distance(curves[k].end, outline[k].end), ==, 0);
                }
            }
        }
    }
}

TEST(ends_that_miss_are_made_to_meet) {
    Curve curves[5] = {line(0, 0, 10, 0), line(10.2, 0, 10, 10), line(10, 10, 10, 10.00005),
                       line(10, 10, 0, 10), line(0, 10, 0.0004, 0)};
    ASSERT_INT(loop_assemble(curves, 5, NULL), ==, 4);
    for (int k = 0; k < 4; k++)
        ASSERT_REAL(vec2_distance(curves[k].end, curves[(k + 1) % 4].start), ==, 0);
    ASSERT_REAL(curves[1].start.x, ==, 10);
    ASSERT_REAL(curves[3].end.x, ==, 0);
    /* but a gap at the very end is no rounding */
    Curve open[3] = {line(0, 0, 10, 0), line(10, 0, 10, 10), line(10, 10, 0.5, 0)};
    ASSERT_INT(loop_assemble(open, 3, NULL), ==, 3);
    ASSERT_REAL(open[2].end.x, ==, 0.5);
}

/* numpy's allclose: |a - b| <= 1e-8 + 1e-5 |b|, in each coordinate. */
TEST(points_meet_as_numpy_says) {
    static const struct {
        Vec2 a, b;
        bool meet;
    } cases[] = {
        {{0, 0}, {9e-9, 0}, true},         {{0, 0}, {1.1e-8, 0}, false},
        {{0, 0}, {0, 9e-9}, true},         {{0, 0}, {0, 1.1e-8}, false},
        {{100.0009, 5}, {100, 5}, true},   {{100.0011, 5}, {100, 5}, false},
        {{5, -100.0009}, {5, -100}, true}, {{5, -100.0011}, {5, -100}, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ASSERT_TRUE(points_meet(cases[i].a, cases[i].b) == cases[i].meet);
}

TEST(areas_and_bounds_follow_the_arcs) {
    Curve half[2] = {line(-3, 0, 3, 0), arc(3, 0, -3, 0, 0, 3)};
    Loop loop = {half, 2};
    ASSERT_NEAR(loop_area(&loop), M_PI * 9 / 2, 1e-12);
    Curve quarter[3] = {line(0, 0, 2, 0), arc(2, 0, 0, 2, sqrt(2), sqrt(2)), line(0, 2, 0, 0)};
    ASSERT_NEAR(loop_area(&(Loop){quarter, 3}), M_PI, 1e-12);
    quarter[1].mid = vec2(2 - sqrt(2), 2 - sqrt(2)); /* the same chord, bent inwards */
    ASSERT_NEAR(loop_area(&(Loop){quarter, 3}), 4 - M_PI, 1e-12);
    Box2 box = loop_bounds(&loop);
    ASSERT_NEAR(box.max.y, 3, 1e-12);
    ASSERT_NEAR(box.min.y, 0, 1e-12);
    /* three quarters of a circle, clockwise from the top to the left */
    Curve most = arc(0, 2, -2, 0, sqrt(2), -sqrt(2));
    Arc found;
    ASSERT_TRUE(curve_arc(&most, &found));
    ASSERT_NEAR(found.sweep, -3 * M_PI / 2, 1e-12);
    ASSERT_NEAR(found.radius, 2, 1e-12);
    box = curve_bounds(&most);
    ASSERT_NEAR(box.max.x, 2, 1e-12);
    ASSERT_NEAR(box.min.y, -2, 1e-12);
    ASSERT_NEAR(box.min.x, -2, 1e-12);
    Curve flat = arc(0, 0, 2, 0, 1, 0);
    ASSERT_TRUE(!curve_arc(&flat, &found));
}

TEST(random_arcs_are_found_again_by_three_points) {
    Rng rng;
    rng_open(&rng, 3, RNG_TEST, 0);
    for (int i = 0; i < 2000; i++) {
        Arc made = {vec2(20 * rng_normal(&rng), 20 * rng_normal(&rng)),
                    0.1 + 30 * rng_uniform(&rng), M_PI * (2 * rng_uniform(&rng) - 1),
                    (rng_below(&rng, 2) ? 1 : -1) * (0.1 + 6 * rng_uniform(&rng))};
        Vec2 at[3];
        Box2 seen = {vec2(1e9, 1e9), vec2(-1e9, -1e9)};
        for (int k = 0; k <= 1000; k++) {
            double t = made.from + made.sweep * k / 1000;
            Vec2 p =
                vec2(made.center.x + made.radius * cos(t), made.center.y + made.radius * sin(t));
            seen.min = vec2(fmin(seen.min.x, p.x), fmin(seen.min.y, p.y));
            seen.max = vec2(fmax(seen.max.x, p.x), fmax(seen.max.y, p.y));
            if (k % 500 == 0) at[k / 500] = p;
        }
        Curve curve = {.kind = CURVE_ARC, .start = at[0], .mid = at[1], .end = at[2]};
        Arc found;
        ASSERT_TRUE(curve_arc(&curve, &found));
        ASSERT_NEAR(found.radius, made.radius, 1e-6);
        ASSERT_NEAR(found.sweep, made.sweep, 1e-6);
        ASSERT_NEAR(vec2_distance(found.center, made.center), 0, 1e-6);
        Box2 box = curve_bounds(&curve);
        double tolerance = 1e-4 * made.radius; /* of the thousand points */
        ASSERT_NEAR(box.min.x, seen.min.x, tolerance);
        ASSERT_NEAR(box.min.y, seen.min.y, tolerance);
        ASSERT_NEAR(box.max.x, seen.max.x, tolerance);
        ASSERT_NEAR(box.max.y, seen.max.y, tolerance);
    }
}

/* ---- planes ---- */

static void assert_plane(const Plane *plane, Vec3 origin, Vec3 normal, Vec3 x_axis) {
    ASSERT_NEAR(vec3_length(vec3_sub(plane->origin, origin)), 0, 1e-9);
    ASSERT_NEAR(vec3_length(vec3_sub(plane->normal, normal)), 0, 1e-12);
    ASSERT_NEAR(vec3_length(vec3_sub(plane->x_axis, x_axis)), 0, 1e-12);
}

/* A square of 20 on the front plane (x right, y up, normal towards the viewer), 5 deep towards the
 * viewer and 3 away; then a plane in terms of it. */
static CadProgram with_reference(const char *reference) {
    Buf code = {0};
    buf_format(&code,
               "SketchPlane0 = add_sketchplane([1, 2, 3], [0, -1, 0], [1, 0, 0])\n"
               "Loops0 = []\nCurves0_0 = []\n"
               "Line0_0_0 = add_line([0, 0], [20, 0])\nLine0_0_1 = add_line([20, 0], [20, 20])\n"
               "Line0_0_2 = add_line([20, 20], [0, 20])\nLine0_0_3 = add_line([0, 20], [0, 0])\n"
               "Loop0_0 = add_loop(Curves0_0)\nProfile0 = add_profile(Loops0)\n"
               "Extrude0 = add_extrude(add_sketch(SketchPlane0, Profile0), 0, 2, 5, 3)\n"
               "SketchPlane1 = add_sketchplane_ref(Extrude0, %s)\n"
               "Extrude1 = add_extrude(add_sketch(SketchPlane1, Profile0), 1, 0, 5, 0)\n",
               reference);
    CadProgram program = parsed(buf_cstr(&code));
    buf_free(&code);
    return program;
}

TEST(planes_follow_from_earlier_extrudes) {
    static const struct {
        const char *reference;
        Vec3 origin, normal, x_axis;
    } cases[] = {
        {"[4, 6], 'sameplane'", {5, 2, 9}, {0, -1, 0}, {1, 0, 0}},
        {"[4, 6], 'extent_one'", {5, -3, 9}, {0, -1, 0}, {1, 0, 0}},
        {"[4, 6], 'extent_two'", {5, 5, 9}, {0, -1, 0}, {1, 0, 0}},
        /* a quarter turn about the normal takes x to the sketch's y, which is up */
        {"[0, 0], 'sameplane', angle= np.pi/2", {1, 2, 3}, {0, -1, 0}, {0, 0, 1}},
        /* the normal is flipped after the turn, about the old one; x stays */
        {"[0, 0], 'sameplane', angle= np.pi/2, reverse= True", {1, 2, 3}, {0, 1, 0}, {0, 0, 1}},
        /* the right side: x up along the line, y towards the viewer, normal x × y to the right */
        {"[7, 2], 'line', Line0_0_1", {21, 0, 10}, {1, 0, 0}, {0, 0, 1}},
        {"[7, 2], 'line', line= Line0_0_1, reverse= True", {21, 0, 10}, {-1, 0, 0}, {0, 0, 1}},
        {"[0, 0], 'line', line= Line0_0_2, angle= np.pi", {21, 2, 23}, {0, 0, 1}, {1, 0, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CadProgram program = with_reference(cases[i].reference);
        assert_plane(&program.extrudes[1].plane, cases[i].origin, cases[i].normal, cases[i].x_axis);
        Plane plane = program.extrudes[1].plane;
        program.extrudes[1].plane = (Plane){0};
        ASSERT_OK(program_resolve_plane(&program, 1));
        assert_plane(&program.extrudes[1].plane, plane.origin, plane.normal, plane.x_axis);
        /* and the search finds a reference that says the same */
        program.extrudes[1].ref = (PlaneRef){.kind = PLANE_ABSOLUTE};
        program_find_reference(&program, 1);
        bool end_face = program.extrudes[1].ref.kind == PLANE_ABSOLUTE;
        ASSERT_TRUE(end_face == (strstr(cases[i].reference, "[4, 6], 'extent") != NULL));
        assert_plane(&program.extrudes[1].plane, plane.origin, plane.normal, plane.x_axis);
        program_free(&program);
    }
}

/* What is found is the plane from then on: a hair beside it, the plane is moved onto it. */
TEST(a_found_reference_is_the_plane) {
    CadProgram program = with_reference("[7, 2], 'line', Line0_0_1");
    program.extrudes[1].ref = (PlaneRef){.kind = PLANE_ABSOLUTE};
    program.extrudes[1].plane.origin.x = 21 + 5e-11;
    program_find_reference(&program, 1);
    ASSERT_INT(program.extrudes[1].ref.kind, ==, PLANE_LINE);
    ASSERT_REAL(program.extrudes[1].plane.origin.x, ==, 21);
    program_free(&program);
}

/* The line of another sketch has its place in this extrude's frame all the same, but no name. */
TEST(a_line_of_another_sketch_gives_an_absolute_plane) {
    Buf code = {0};
    buf_text(&code, block);
    buf_text(&code, "Loops3 = []\nCurves3_0 = []\nLine3_0_0 = add_line([1, 1], [1, 9])\n"
                    "P = add_sketchplane_ref(Extrude0, [0, 0], 'line', Line3_0_0)\n"
                    "E = add_extrude(add_sketch(P, Profile2), 1, 0, 3, 0)\n");
    CadProgram program = parsed(buf_cstr(&code));
    ASSERT_INT(program.extrudes[3].ref.kind, ==, PLANE_ABSOLUTE);
    assert_plane(&program.extrudes[3].plane, vec3(1, 0, 1), vec3(1, 0, 0), vec3(0, 0, 1));
    program_free(&program);
    buf_free(&code);
}

TEST(axes_that_are_slightly_off_are_put_right) {
    Plane plane;
    ASSERT_OK(plane_make(&plane, vec3(0, 0, 0), vec3(0.7071, 0, 0.7071), vec3(0.7072, 0, -0.707)));
    ASSERT_NEAR(vec3_length(plane.normal), 1, 1e-15);
    ASSERT_NEAR(vec3_length(plane.x_axis), 1, 1e-15);
    ASSERT_NEAR(vec3_dot(plane.normal, plane.x_axis), 0, 1e-15);
    ASSERT_NEAR(plane.normal.x, sqrt(0.5), 1e-12);
    ASSERT_OK(plane_make(&plane, vec3(0, 0, 0), vec3(0, 0, 1e300), vec3(1e-5, 0, 0)));
    ASSERT_REAL(plane.normal.z, ==, 1);
    ASSERT_NEAR(plane.x_axis.x, 1, 1e-15);
    Vec3 zero = {0}, broken = {NAN, 0, 0};
    ASSERT_ERR(plane_make(&plane, zero, zero, vec3(1, 0, 0)), ERR_INPUT, "no direction");
    ASSERT_ERR(plane_make(&plane, zero, broken, vec3(1, 0, 0)), ERR_INPUT, "not finite");
    ASSERT_ERR(plane_make(&plane, broken, vec3(1, 0, 0), vec3(0, 1, 0)), ERR_INPUT, "origin");
    ASSERT_ERR(plane_make(&plane, zero, vec3(1, 0, 0), vec3(1, 0.04, 0)), ERR_INPUT, "parallel");
}

TEST(references_to_what_is_not_there_are_refused) {
    CadProgram program = with_reference("[0, 0], 'line', Line0_0_1");
    PlaneRef *ref = &program.extrudes[1].ref;
    ref->curve = 9;
    ASSERT_ERR(program_resolve_plane(&program, 1), ERR_INPUT, "refers to curve 9 of loop 0");
    ref->curve = 1;
    ref->loop = -1;
    ASSERT_ERR(program_resolve_plane(&program, 1), ERR_INPUT, "refers to curve 1 of loop -1");
    ref->loop = 0;
    program.extrudes[0].loops[0].curves[1].kind = CURVE_ARC;
    ASSERT_ERR(program_resolve_plane(&program, 1), ERR_INPUT, "which is not a line");
    ref->extrude = 1;
    ASSERT_ERR(program_resolve_plane(&program, 1), ERR_INPUT,
               "refers to Extrude1, which is not before");
    program_free(&program);
}

TEST(an_extrude_covers_what_its_type_and_extents_say) {
    static const struct {
        ExtentType type;
        double one, two, low, high;
    } cases[] = {
        {EXTENT_ONE_SIDE, 5, 9, 0, 5},    {EXTENT_ONE_SIDE, -5, 9, -5, 0},
        {EXTENT_SYMMETRIC, 5, 9, -5, 5},  {EXTENT_SYMMETRIC, -5, 9, -5, 5},
        {EXTENT_TWO_SIDES, 5, 3, -3, 5},  {EXTENT_TWO_SIDES, 5, -3, 0, 5},
        {EXTENT_TWO_SIDES, -5, 3, -5, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double low, high;
        Extrude extrude = {
            .type = cases[i].type, .extent_one = cases[i].one, .extent_two = cases[i].two};
        extrude_span(&extrude, &low, &high);
        ASSERT_REAL(low, ==, cases[i].low);
        ASSERT_REAL(high, ==, cases[i].high);
    }
}

/* ---- the validator ---- */

typedef void Damage(CadProgram *program);

#define DAMAGE(name, statement)                                                                    \
    static void name(CadProgram *p) {                                                              \
        Curve *curves = p->extrudes[0].loops[0].curves;                                            \
        Curve *circle = &p->extrudes[0].loops[1].curves[0];                                        \
        (void)curves;                                                                              \
        (void)circle;                                                                              \
        statement;                                                                                 \
    }

DAMAGE(no_extrudes, p->count = 0)
DAMAGE(nan_point, curves[1].start.y = NAN)
DAMAGE(far_point, curves[1].end.x = 10001)
DAMAGE(short_line, curves[1].end = vec2(curves[1].start.x, curves[1].start.y + 9e-5))
DAMAGE(short_chord, curves[2].end = curves[2].start)
DAMAGE(straight_arc, curves[2].mid = vec2(-10, 30.21))
DAMAGE(nan_mid, curves[2].mid.x = NAN)
DAMAGE(mid_at_end, curves[2].mid = curves[2].end)
DAMAGE(gap, curves[1].start.x += 2e-5)
DAMAGE(open_end, curves[3].end.y = -1)
DAMAGE(zero_radius, circle->radius = 0)
DAMAGE(negative_radius, circle->radius = -1)
DAMAGE(infinite_radius, circle->radius = INFINITY)
DAMAGE(circle_in_chain, curves[3].kind = CURVE_CIRCLE; curves[3].radius = 1)
DAMAGE(outside_circle, circle->center.x = 100)
DAMAGE(no_loops, p->extrudes[0].loop_count = 0)
DAMAGE(no_curves, p->extrudes[0].loops[0].count = 0)
DAMAGE(two_lines, p->extrudes[0].loops[0].count = 2; curves[1] = curves[0];
       curve_reverse(&curves[1]))
DAMAGE(long_normal, p->extrudes[0].plane.normal.y = -1.01)
DAMAGE(leaning_axis, p->extrudes[0].plane.x_axis = vec3(0.8, 0.6, 0))
DAMAGE(nan_axis, p->extrudes[0].plane.x_axis.z = NAN)
DAMAGE(far_origin, p->extrudes[0].plane.origin.z = -1e9)
DAMAGE(flat_extrude, p->extrudes[0].extent_one = 0)
DAMAGE(flat_two_sides, p->extrudes[1].extent_one = 5e-5; p->extrudes[1].extent_two = 4e-5)
DAMAGE(nan_extent, p->extrudes[2].extent_two = NAN)
DAMAGE(wrong_operation, p->extrudes[1].op = (BooleanOp)7)
DAMAGE(wrong_type, p->extrudes[1].type = (ExtentType)3)

TEST(the_validator_has_a_sentence_for_every_rule) {
    static const struct {
        Damage *damage;
        const char *sentence;
    } cases[] = {
        {no_extrudes, "the program has no extrude"},
        {nan_point,
         "Line0_0_1: its start is [0, nan]; coordinates must be finite and within 10000"},
        {far_point, "Line0_0_1: its end is [10001, 30.2]"},
        {short_line, "Line0_0_1: from [0, 0] to [0, 9e-05] it is only 9e-05 long"},
        {short_chord, "Arc0_0_2: start [0, 30.2] and end [0, 30.2] are only 0 apart"},
        {straight_arc,
         "Arc0_0_2: start [0, 30.2], mid [-10, 30.21] and end [-40.5, 30.2] lie on one"},
        {nan_mid, "Arc0_0_2: its middle is [nan, 40]"},
        {mid_at_end, "lie on one line"},
        {gap,
         "Loop0_0 is not closed: Line0_0_0 ends at [0, 0], and Line0_0_1 starts at [2e-05, 0]"},
        {open_end, "Loop0_0 is not closed: Line0_0_3 ends at [-40.5, -1], and Line0_0_0 starts at"},
        {zero_radius, "Circle0_1_0: its radius is 0; 0.0001 to 10000 is possible"},
        {negative_radius, "Circle0_1_0: its radius is -1"},
        {infinite_radius, "Circle0_1_0: its radius is inf"},
        {circle_in_chain, "Circle0_0_3 is a loop by itself, but the loop has 4 curves"},
        {outside_circle, "Profile0: Loop0_1 from [94.75, 9.75] to [105.25, 20.25] is not inside"},
        {no_loops, "Profile0 has no loops"},
        {no_curves, "Loop0_0 has no curves"},
        {two_lines, "Loop0_0 encloses an area of 0, which is nothing"},
        {long_normal, "are not unit vectors at right angles"},
        {leaning_axis, "are not unit vectors at right angles"},
        {nan_axis, "are not unit vectors at right angles"},
        {far_origin, "SketchPlane0: its origin is [0, 0, -1e+09]"},
        {flat_extrude, "Extrude0: with extents 0 and 0 it is 0 thick; 0.0001 is the least"},
        {flat_two_sides, "Extrude1: with extents 5e-05 and 4e-05 it is 9e-05 thick"},
        {nan_extent, "Extrude2: extents 3 and nan must be finite"},
        {wrong_operation, "Extrude1: operation 7 is none of 0 to 3"},
        {wrong_type, "Extrude1: type 3 is none of 0 to 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CadProgram program = parsed(block);
        CadProgram whole = program;
        int loops = program.extrudes[0].loop_count, curves = program.extrudes[0].loops[0].count;
        cases[i].damage(&program);
        ASSERT_ERR(program_validate(&program), ERR_INPUT, cases[i].sentence);
        program = whole;
        program.extrudes[0].loop_count = loops;
        program.extrudes[0].loops[0].count = curves;
        program_free(&program);
    }
}

/* ---- loops in loops ---- */

static Loop *new_loop(CadProgram *program) {
    if (!program->count)
        *program_add_extrude(program) =
            (Extrude){.plane = {.normal = {0, 0, 1}, .x_axis = {1, 0, 0}}, .extent_one = 5};
    return extrude_add_loop(program, &program->extrudes[0]);
}

static void add_circle(CadProgram *program, double x, double y, double radius) {
    *loop_add_curve(program, new_loop(program)) =
        (Curve){.kind = CURVE_CIRCLE, .center = vec2(x, y), .radius = radius};
}

/* Straight lines through `count` corners; where `bulge` is not 0, the last side is an arc whose
 * middle is that far to its right (outwards, when the corners run counter-clockwise). */
static void add_polygon(CadProgram *program, const Vec2 *corners, int count, double bulge) {
    Loop *loop = new_loop(program);
    for (int k = 0; k < count; k++) {
        Vec2 a = corners[k], b = corners[(k + 1) % count];
        Curve curve = {.kind = CURVE_LINE, .start = a, .end = b};
        if (bulge != 0 && k == count - 1) {
            double length = vec2_distance(a, b);
            curve.kind = CURVE_ARC;
            curve.mid = vec2((a.x + b.x) / 2 + bulge * (b.y - a.y) / length,
                             (a.y + b.y) / 2 - bulge * (b.x - a.x) / length);
        }
        *loop_add_curve(program, loop) = curve;
    }
}

static const Vec2 square[] = {{-20, -20}, {20, -20}, {20, 20}, {-20, 20}};
/* A C that is open to the right; [0, 0] lies in its mouth. */
static const Vec2 c_shape[] = {{-10, -10}, {10, -10}, {10, -6}, {-6, -6},
                               {-6, 6},    {10, 6},   {10, 10}, {-10, 10}};

typedef void Shape(CadProgram *program);

static void three_rings(CadProgram *p) {
    add_circle(p, 0, 0, 10);
    add_circle(p, 0, 0, 6);
    add_circle(p, 0, 0, 3);
}
static void island_first(CadProgram *p) {
    add_polygon(p, (Vec2[]){{1, 1}, {2, 1}, {2, 2}}, 3, 0);
    add_circle(p, 0, 0, 6);
    add_polygon(p, square, 4, 0);
}
/* The island lies between the chord of the hole's arc and the arc. */
static void island_in_a_bulge(CadProgram *p) {
    add_polygon(p, square, 4, 0);
    add_polygon(p, (Vec2[]){{0, -5}, {5, -5}, {5, 5}, {0, 5}}, 4, 4);
    add_circle(p, -2, 0, 1);
}
static void hole_in_the_mouth_of_a_hole(CadProgram *p) {
    add_polygon(p, square, 4, 0);
    add_polygon(p, c_shape, 8, 0);
    add_circle(p, 0, 0, 3);
}
/* Between the chord and an arc that bends inwards: outside the hole. */
static void hole_in_the_bay_of_a_hole(CadProgram *p) {
    add_polygon(p, square, 4, 0);
    add_polygon(p, (Vec2[]){{0, -8}, {9, -8}, {9, 8}, {0, 8}}, 4, -6);
    add_circle(p, 2, 0, 1);
}
static void holes_side_by_side(CadProgram *p) {
    add_polygon(p, square, 4, 0);
    for (int i = -1; i <= 1; i++) add_circle(p, 6 * i, 0, 2);
}
static void hole_in_the_mouth_of_the_outline(CadProgram *p) {
    add_polygon(p, c_shape, 8, 0);
    add_circle(p, 0, 0, 3);
}
static void hole_across_the_outline(CadProgram *p) {
    add_polygon(p, square, 4, 0);
    add_circle(p, 17.002, 0, 3);
}
static void hole_at_the_outline_but_for_rounding(CadProgram *p) {
    add_polygon(p, square, 4, 0);
    add_circle(p, 17.0005, 0, 3);
}
/* In the corner of the bounds of a half disc. */
static void hole_beyond_an_arc_of_the_outline(CadProgram *p) {
    add_polygon(p, (Vec2[]){{-10, 0}, {-10, -1}, {10, -1}, {10, 0}}, 4, 10);
    add_circle(p, 8.5, 8.5, 1);
}
static void hole_in_an_arm_of_the_outline(CadProgram *p) {
    add_polygon(p, c_shape, 8, 0);
    add_circle(p, 0, 8, 1);
}

/* An eye in the middle of the chord of an arch, which is turned by quarters: its points stand level
 * with the chord's ends, or in line with them. */
TEST(an_eye_on_the_chord_of_an_arch_is_inside) {
    Vec2 corners[4] = {{10, 0}, {10, -30}, {30, -30}, {30, 0}};
    for (int quarter = 0; quarter < 4; quarter++) {
        CadProgram program = {0};
        add_polygon(&program, corners, 4, 10);
        add_circle(&program, (corners[3].x + corners[0].x) / 2, (corners[3].y + corners[0].y) / 2,
                   4);
        ASSERT_REAL(loop_area(&program.extrudes[0].loops[0]), >, 700);
        ASSERT_OK(program_validate(&program));
        for (int k = 0; k < 4; k++) corners[k] = vec2(-corners[k].y, corners[k].x);
        program_free(&program);
    }
}

TEST(islands_in_holes_and_holes_outside_are_named) {
    static const struct {
        Shape *shape;
        const char *says; /* NULL: nothing is wrong */
    } cases[] = {
        {three_rings,
         "Profile0: Loop0_2 is an island in a hole: it lies inside Loop0_1, which lies "
         "inside Loop0_0"},
        {island_first, "Loop0_0 is an island in a hole: it lies inside Loop0_1, which lies inside "
                       "Loop0_2"},
        {island_in_a_bulge, "Loop0_2 is an island in a hole"},
        {hole_in_the_mouth_of_a_hole, NULL},
        {hole_in_the_bay_of_a_hole, NULL},
        {holes_side_by_side, NULL},
        {hole_in_the_mouth_of_the_outline,
         "Profile0: Loop0_1 from [-3, -3] to [3, 3] is not inside"},
        {hole_across_the_outline, "Loop0_1 from [14.002, -3] to [20.002, 3] is not inside"},
        {hole_at_the_outline_but_for_rounding, NULL},
        {hole_beyond_an_arc_of_the_outline, "Loop0_1 from [7.5, 7.5] to [9.5, 9.5] is not inside"},
        {hole_in_an_arm_of_the_outline, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CadProgram program = {0};
        cases[i].shape(&program);
        printf("%zu\n", i);
        if (cases[i].says)
            ASSERT_ERR(program_validate(&program), ERR_INPUT, cases[i].says);
        else
            ASSERT_OK(program_validate(&program));
        program_free(&program);
    }
}

TEST(the_outer_loop_is_the_largest_wherever_it_stands) {
    CadProgram program = parsed(block);
    Extrude *extrude = &program.extrudes[0];
    ASSERT_INT(extrude_outer_loop(extrude), ==, 0);
    Loop outer = extrude->loops[0];
    extrude->loops[0] = extrude->loops[1];
    extrude->loops[1] = outer;
    ASSERT_INT(extrude_outer_loop(extrude), ==, 1);
    ASSERT_OK(program_validate(&program));
    program_free(&program);
}

TEST(programs_grow_to_their_limits_and_no_further) {
    CadProgram program = {0};
    Extrude *extrude = program_add_extrude(&program);
    Loop *loop = extrude_add_loop(&program, extrude);
    for (int k = 0; k < PROGRAM_CURVES_MAX; k++) {
        Curve *curve = loop_add_curve(&program, loop);
        ASSERT_TRUE(curve && curve->radius == 0);
        curve->radius = k;
    }
    ASSERT_TRUE(!loop_add_curve(&program, loop));
    for (int k = 0; k < PROGRAM_CURVES_MAX; k++) ASSERT_REAL(loop->curves[k].radius, ==, k);
    for (int j = 1; j < PROGRAM_LOOPS_MAX; j++) ASSERT_TRUE(extrude_add_loop(&program, extrude));
    ASSERT_TRUE(!extrude_add_loop(&program, extrude));
    for (int i = 1; i < PROGRAM_EXTRUDES_MAX; i++) ASSERT_TRUE(program_add_extrude(&program));
    ASSERT_TRUE(!program_add_extrude(&program));
    for (int j = 1; program.curve_count < PROGRAM_CURVES_ALL_MAX; j++)
        while (loop_add_curve(&program, &program.extrudes[0].loops[j])) continue;
    ASSERT_TRUE(!loop_add_curve(&program, &program.extrudes[0].loops[PROGRAM_LOOPS_MAX - 1]));
    program_free(&program);
    ASSERT_TRUE(!program.extrudes && !program.count && !program.curve_count);
}
