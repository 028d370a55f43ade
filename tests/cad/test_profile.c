/* cad: profiles whose loops meet themselves or each other: found, and refused with the place. */
#include "cad/language/profile.h"
#include "cad/language/vec.h"
#include "tests/cad/pool_fixture.h"

static Extrude *new_extrude(CadProgram *program) {
    return part_extrude(program, plane_z(0), OP_NEW_BODY, EXTENT_ONE_SIDE, 5, 0);
}

static void part_arc(CadProgram *program, Loop *loop, Vec2 start, Vec2 mid, Vec2 end) {
    Curve *curve = loop_add_curve(program, loop);
    *curve = (Curve){.kind = CURVE_ARC, .start = start, .mid = mid, .end = end};
}

/* Two lobes that meet in [10, 5]. */
static CadProgram figure_eight(double gap) {
    const Vec2 corners[] = {{0, 0}, {10, 5}, {20, 0}, {20, 10}, {10, 5 + gap}, {0, 10}};
    CadProgram program = {0};
    part_polygon(&program, new_extrude(&program), corners, 6);
    return program;
}

/* Two circles of halves that meet in [10, 0]. */
static CadProgram two_rounds(void) {
    CadProgram program = {0};
    Loop *loop = extrude_add_loop(&program, new_extrude(&program));
    part_arc(&program, loop, vec2(0, 0), vec2(5, -5), vec2(10, 0));
    part_arc(&program, loop, vec2(10, 0), vec2(15, -5), vec2(20, 0));
    part_arc(&program, loop, vec2(20, 0), vec2(15, 5), vec2(10, 0));
    part_arc(&program, loop, vec2(10, 0), vec2(5, 5), vec2(0, 0));
    return program;
}

/* Four lobes around [0, 0]. */
static CadProgram clover(void) {
    const Vec2 corners[] = {{0, 0}, {-4, -10}, {4, -10}, {0, 0}, {10, -4}, {10, 4},
                            {0, 0}, {4, 10},   {-4, 10}, {0, 0}, {-10, 4}, {-10, -4}};
    CadProgram program = {0};
    part_polygon(&program, new_extrude(&program), corners, 12);
    return program;
}

TEST(a_loop_that_touches_itself_keeps_all_of_itself_or_is_refused_with_the_place) {
    CadPool *pool = open_pool(1, (CadLimits){0});
    expect("figure eight", run_program(pool, figure_eight(0)), CAD_EXEC_FAIL,
           "Loop0_0 touches itself at [10, 5]");
    expect("two rounds", run_program(pool, two_rounds()), CAD_EXEC_FAIL,
           "Loop0_0 touches itself at [10, 0]");
    expect("clover", run_program(pool, clover()), CAD_EXEC_FAIL,
           "Loop0_0 touches itself at [0, 0]");

    /* A hair apart, the lobes hang together. */
    CadReply reply = run_program(pool, figure_eight(0.01));
    expect("apart", reply, CAD_OK, "");
    ASSERT_NEAR(reply.volume, 5 * (100 + 0.01 * 10), 1e-6);
    ASSERT_NEAR(reply.box_max.x - reply.box_min.x, 20, 1e-9);

    /* Lobes that turn opposite ways enclose nothing in sum. */
    const Vec2 bow[] = {{0, 0}, {10, 5}, {20, 10}, {20, 0}, {10, 5}, {0, 10}};
    CadProgram program = {0};
    part_polygon(&program, new_extrude(&program), bow, 6);
    expect("bow", run_program(pool, program), CAD_EXEC_FAIL,
           "Loop0_0 touches itself at [10, 5]: its areas cancel out");

    /* An outline that goes round a hole on its way. */
    const Vec2 pinched[] = {{0, 0}, {10, 0}, {6, 6}, {14, 6}, {10, 0}, {20, 0}, {20, 20}, {0, 20}};
    program = (CadProgram){0};
    part_polygon(&program, new_extrude(&program), pinched, 8);
    expect("pinched", run_program(pool, program), CAD_EXEC_FAIL,
           "Loop0_0 touches itself at [10, 0]");

    /* A hole of two lobes; a line out and back encloses nothing, and costs nothing. */
    const Vec2 lobes[] = {{5, 5}, {10, 10}, {15, 5}, {15, 15}, {10, 10}, {5, 15}};
    program = (CadProgram){0};
    Extrude *plate = new_extrude(&program);
    part_rectangle(&program, plate, 0, 0, 40, 30);
    part_polygon(&program, plate, lobes, 6);
    expect("hole of two lobes", run_program(pool, program), CAD_EXEC_FAIL,
           "Loop0_1 touches itself at [10, 10]");
    const Vec2 spike[] = {{0, 0}, {20, 0}, {20, 5}, {30, 5}, {20, 5}, {20, 10}, {0, 10}};
    program = (CadProgram){0};
    part_polygon(&program, new_extrude(&program), spike, 7);
    reply = run_program(pool, program);
    expect("spike", reply, CAD_OK, "");
    ASSERT_NEAR(reply.volume, 5 * 200, 1e-6);
    cad_pool_close(&pool);
}

/* ---- where loops meet ---- */

/* A square from [0, 0] to [20, 20], and what the caller adds. */
static Extrude *square(CadProgram *program) {
    Extrude *extrude = new_extrude(program);
    part_rectangle(program, extrude, 0, 0, 20, 20);
    return extrude;
}

static void expect_contact(const char *what, CadProgram *program, bool crosses, int a, int b,
                           double x, double y) {
    Contact contact;
    ASSERT(profile_contact(&program->extrudes[0], &contact), "%s: no contact", what);
    printf("%s: %d and %d %s at [%.9g, %.9g]\n", what, contact.loops[0], contact.loops[1],
           contact.crosses ? "cross" : "touch", contact.at.x, contact.at.y);
    ASSERT_INT(contact.crosses, ==, crosses);
    ASSERT_INT(contact.loops[0] + contact.loops[1], ==, a + b);
    ASSERT_INT(abs(contact.loops[0] - contact.loops[1]), ==, abs(a - b));
    ASSERT_NEAR(contact.at.x, x, 1e-6);
    ASSERT_NEAR(contact.at.y, y, 1e-6);
    program_free(program);
}

static void hole_of_three(CadProgram *program, Extrude *extrude, Vec2 a, Vec2 b, Vec2 c) {
    const Vec2 corners[] = {a, b, c};
    part_polygon(program, extrude, corners, 3);
}

TEST(contacts_of_loops_are_found_with_their_place) {
    CadProgram program = {0};
    hole_of_three(&program, square(&program), vec2(0, 0), vec2(8, 2), vec2(2, 8));
    expect_contact("corner on corner", &program, false, 0, 1, 0, 0);
    hole_of_three(&program, square(&program), vec2(10, 0), vec2(14, 6), vec2(6, 6));
    expect_contact("corner on line", &program, false, 0, 1, 10, 0);
    hole_of_three(&program, square(&program), vec2(15, 5), vec2(25, 10), vec2(15, 15));
    expect_contact("lines cross", &program, true, 0, 1, 20, 7.5);
    part_circle(&program, square(&program), 10, 5, 5);
    expect_contact("circle along a line", &program, false, 0, 1, 10, 0);
    Contact contact; /* a crossing comes before the touch at [0, 10] */
    hole_of_three(&program, square(&program), vec2(0, 10), vec2(30, 9), vec2(30, 11));
    ASSERT_TRUE(profile_contact(&program.extrudes[0], &contact) && contact.crosses);
    ASSERT_NEAR(contact.at.x, 20, 1e-9);
    program_free(&program);
    part_circle(&program, square(&program), 10, 20, 5);
    ASSERT_TRUE(profile_contact(&program.extrudes[0], &contact) && contact.crosses);
    ASSERT_NEAR(fabs(contact.at.x - 10), 5, 1e-9);
    program_free(&program);

    Extrude *extrude = new_extrude(&program);
    part_circle(&program, extrude, 0, 0, 10);
    part_circle(&program, &program.extrudes[0], 5, 0, 5);
    expect_contact("crescent", &program, false, 0, 1, 10, 0);
    extrude = square(&program);
    part_circle(&program, extrude, 6, 10, 3);
    part_circle(&program, extrude, 12, 10, 3);
    expect_contact("holes side by side", &program, false, 1, 2, 9, 10);
    extrude = square(&program);
    part_circle(&program, extrude, 10, 6, 3);
    part_circle(&program, extrude, 10, 10, 5);
    Vec2 shared = vec2(10, (100 - 36 + 9 - 25) / 8.0); /* of both circles: |x - 10| is left */
    ASSERT_TRUE(profile_contact(&program.extrudes[0], &contact) && contact.crosses);
    ASSERT_NEAR(contact.at.y, shared.y, 1e-9);
    program_free(&program);

    extrude = square(&program);
    part_rectangle(&program, extrude, 5, 0, 15, 10);
    ASSERT_TRUE(profile_contact(&program.extrudes[0], &contact) && !contact.crosses);
    ASSERT_NEAR(contact.at.y, 0, 1e-9); /* along a piece of the lower side */
    program_free(&program);

    program = two_rounds();
    expect_contact("arcs end on arcs", &program, false, 0, 0, 10, 0);
    Vec2 bow[4] = {vec2(0, 0), vec2(10, 12), vec2(10, 0), vec2(0, 10)};
    part_polygon(&program, new_extrude(&program), bow, 4);
    expect_contact("bow tie", &program, true, 0, 0, 50 / 11.0, 60 / 11.0);
}

TEST(loops_that_keep_clear_have_no_contact) {
    Contact contact;
    CadProgram program = flange_program();
    for (int i = 0; i < program.count; i++)
        ASSERT_TRUE(!profile_contact(&program.extrudes[i], &contact));
    program_free(&program);
    program = figure_eight(1e-4);
    ASSERT_TRUE(!profile_contact(&program.extrudes[0], &contact));
    program_free(&program);

    Extrude *extrude = square(&program);
    part_circle(&program, extrude, 10, 5, 4.9999);
    part_circle(&program, extrude, 10, 14, 4);
    ASSERT_TRUE(!profile_contact(extrude, &contact));
    ASSERT_NEAR(profile_area(extrude), 400 - M_PI * (4.9999 * 4.9999 + 16), 1e-9);
    program_free(&program);

    /* Two curves that meet at both their ends, and no more. */
    Loop *loop = extrude_add_loop(&program, new_extrude(&program));
    part_arc(&program, loop, vec2(0, 0), vec2(5, -5), vec2(10, 0));
    part_arc(&program, loop, vec2(10, 0), vec2(5, 5), vec2(0, 0));
    ASSERT_TRUE(!profile_contact(&program.extrudes[0], &contact));
    program_free(&program);
}
