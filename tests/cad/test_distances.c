/* Distances between surfaces, worked out by hand: a cube of 100 and the same with a square boss
 * of side b and height 5 on it. Seen from the boss, its top (b²) is 5 away and its sides (20 b) are
 * as far as they are high; seen from the cube, what the boss covers is as far as its outline is, 5
 * at most. All else is 0, but for what lies between two samples. */
#include "tests/cad/parts.h"
#include "tests/cad/pool_fixture.h"
#include "tests/support/test.h"

enum { POINTS = 100000 };
static const double HEIGHT = 5, SIDE = 100;

static const char *cube_with_boss(double b) {
    CadProgram program = {0};
    part_rectangle(&program,
                   part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_ONE_SIDE, SIDE, 0), 0, 0,
                   SIDE, SIDE);
    if (b > 0)
        part_rectangle(&program,
                       part_extrude(&program, plane_z(SIDE), OP_JOIN, EXTENT_ONE_SIDE, HEIGHT, 0),
                       50 - b / 2, 50 - b / 2, 50 + b / 2, 50 + b / 2);
    return part_code(&program);
}

/* The cube with a boss of side b, measured against that with one of side c; 0: none. */
static CadScore score_bosses(CadPool *pool, double b, double c) {
    char *code = strdup(cube_with_boss(b));
    const char *reference = cube_with_boss(c);
    CadReply reply;
    ASSERT_OK(cad_pool_run(pool,
                           &(CadRequest){.code = code,
                                         .code_size = strlen(code),
                                         .reference_code = reference,
                                         .reference_size = strlen(reference),
                                         .score_points = POINTS},
                           &reply));
    ASSERT_INT(reply.status, ==, CAD_OK);
    CadScore s = reply.score;
    printf("boss of %g, of %g: chamfer %.4g hausdorff %.4g hd95 %.4g F %.4f\n", b, c, s.chamfer,
           s.hausdorff, s.hd95, s.fscore);
    cad_reply_free(&reply);
    free(code);
    return s;
}

static CadScore score_boss(CadPool *pool, double b) {
    return score_bosses(pool, b, 0);
}

/* What a narrow boss covers is half its side away at most, its top all of its height: seen from
 * where it is not, that is far too. */
TEST(the_hausdorff_distance_is_the_greater_of_both_ways) {
    CadPool *pool = open_pool(1, (CadLimits){0});
    ASSERT_NEAR(score_bosses(pool, 6, 0).hausdorff, HEIGHT / SIDE, 0.002);
    ASSERT_NEAR(score_bosses(pool, 0, 6).hausdorff, HEIGHT / SIDE, 0.002);
    cad_pool_close(&pool);
}

/* A share x of points is nearer than some distance: 5.9 % of the boss's points are 5 away where b
 * is 60, and 4.1 % where it is 50, of which the next 0.9 % are of its sides. */
TEST(ninety_five_of_a_hundred_points_are_nearer_than_hd95) {
    CadPool *pool = open_pool(1, (CadLimits){0});
    CadScore s = score_boss(pool, 60);
    ASSERT_NEAR(s.hd95, HEIGHT / SIDE, 0.002);
    ASSERT_NEAR(s.hausdorff, HEIGHT / SIDE, 0.01);
    s = score_boss(pool, 50);
    double all = 6 * SIDE * SIDE + 4 * 50 * HEIGHT, top = 50 * 50, of_sides = 0.05 * all - top,
           height = HEIGHT - of_sides / (4 * 50);
    ASSERT_NEAR(s.hd95, height / SIDE, 0.005);
    ASSERT_NEAR(s.hausdorff, HEIGHT / SIDE, 0.01);
    s = score_boss(pool, 30);
    ASSERT_REAL(s.hd95, <, 0.02);
    cad_pool_close(&pool);
}

/* Within 2 % of the cube's side are all points but the boss's top and what of its sides is higher
 * than 2, and of the cube's what the boss covers but for a frame of 2. */
TEST(the_f_score_counts_points_within_two_of_a_hundred) {
    CadPool *pool = open_pool(1, (CadLimits){0});
    double b = 60, faces = 6 * SIDE * SIDE;
    CadScore s = score_boss(pool, b);
    double precision = 1 - (b * b + 4 * b * (HEIGHT - 2)) / (faces + 4 * b * HEIGHT),
           recall = 1 - (b - 4) * (b - 4) / faces;
    ASSERT_NEAR(s.fscore, 2 * precision * recall / (precision + recall), 0.004);
    cad_pool_close(&pool);
}

/* The means of squares, both ways; points of one surface are 1/(π · density) apart in that mean. */
TEST(the_chamfer_distance_is_a_mean_of_squares_both_ways) {
    CadPool *pool = open_pool(1, (CadLimits){0});
    double b = 60, h = HEIGHT, faces = 6 * SIDE * SIDE, with = faces + 4 * b * h;
    CadScore s = score_boss(pool, b);
    double there = (b * b * h * h + 4 * b * h * h * h / 3) / with,
           frame = 4 * (b * h * h * h / 3 - h * h * h * h / 2), /* ∫ e² 4 (b - 2e) de */
        back = ((b - 2 * h) * (b - 2 * h) * h * h + frame) / faces,
           between = (faces + with) / POINTS / M_PI;
    ASSERT_NEAR(s.chamfer * SIDE * SIDE, there + back + between, 0.05);
    cad_pool_close(&pool);
}
