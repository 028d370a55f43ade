/* cad: solids, through the worker pool: known measures, hostile input, files and scores. */
#include "cad/language/loop.h"
#include "cad/language/vec.h"
#include "core/file.h"
#include "tests/cad/pool_fixture.h"

static void expect_measures(const char *what, CadReply reply, double volume, double area, double w,
                            double d, double h) {
    printf("%s: volume %.9g of %.9g, area %.9g of %.9g\n", what, reply.volume, volume, reply.area,
           area);
    expect(what, reply, CAD_OK, "");
    ASSERT_NEAR(reply.volume, volume, 1e-6 * volume);
    ASSERT_NEAR(reply.area, area, 1e-6 * area);
    ASSERT_NEAR(reply.box_max.x - reply.box_min.x, w, 1e-5);
    ASSERT_NEAR(reply.box_max.y - reply.box_min.y, d, 1e-5);
    ASSERT_NEAR(reply.box_max.z - reply.box_min.z, h, 1e-5);
}

TEST(known_solids_have_their_measures) {
    CadPool *pool = open_pool(1, (CadLimits){0});
    expect_measures("box", run_code(pool, box_code(100, 60, 12)), 72000, 15840, 100, 60, 12);

    CadProgram program = {0};
    part_circle(&program, part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_ONE_SIDE, -20, 0),
                3, 4, 10);
    expect_measures("cylinder against the normal", run_program(pool, program), 2000 * M_PI,
                    600 * M_PI, 20, 20, 20);

    program = flange_program();
    double corner = (4 - M_PI) * 100, plate = 6000 - corner - 4 * 25 * M_PI;
    double rim = 2 * (80 + 40) + 20 * M_PI;
    expect_measures(
        "flange", run_program(pool, program), 12 * plate + 20 * 400 * M_PI - 32 * 100 * M_PI,
        2 * (plate - 100 * M_PI) + 12 * (rim + 4 * 10 * M_PI) + 20 * 40 * M_PI + 32 * 20 * M_PI,
        100, 60, 32);

    program = (CadProgram){0};
    Plane tilted = {vec3(1, 2, 3), vec3(0.6, 0, 0.8), vec3(0.8, 0, -0.6)};
    part_rectangle(&program, part_extrude(&program, tilted, OP_NEW_BODY, EXTENT_SYMMETRIC, 5, 0), 0,
                   0, 10, 20);
    expect_measures("tilted box", run_program(pool, program), 2000, 1000, 14, 20, 14);

    program = (CadProgram){0};
    part_rectangle(&program,
                   part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_TWO_SIDES, 5, 3), 0, 0,
                   10, 10);
    expect_measures("two sides", run_program(pool, program), 800, 520, 10, 10, 8);

    program = (CadProgram){0};
    part_rectangle(&program,
                   part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_TWO_SIDES, -2, 3), 0, 0,
                   10, 10);
    expect_measures("two sides on one side", run_program(pool, program), 300, 320, 10, 10, 3);
    cad_pool_close(&pool);
}

/* Cylinders of radius 10 and 6 that cross at right angles: the volume of their intersection is
 * 8 ∫ √(100 - x²) √(36 - x²) dx over 0 … 6. */
TEST(crossing_cylinders_share_what_they_must) {
    CadPool *pool = open_pool(1, (CadLimits){0});
    CadProgram program = {0};
    Plane across = {vec3(0, 0, 0), vec3(0, 1, 0), vec3(1, 0, 0)};
    part_circle(&program, part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_SYMMETRIC, 30, 0),
                0, 0, 10);
    part_circle(&program, part_extrude(&program, across, OP_INTERSECT, EXTENT_SYMMETRIC, 30, 0), 0,
                0, 6);
    double expected = 0;
    enum { STEPS = 100000 };
    for (int i = 0; i < STEPS; i++) {
        double x = 6 * sin(0.5 * M_PI * (i + 0.5) / STEPS); /* x = 6 sin t: smooth at the end */
        expected += 8 * sqrt(100 - x * x) * (36 - x * x) * (0.5 * M_PI / STEPS);
    }
    CadReply reply = run_program(pool, program);
    printf("%.6f of %.6f\n", reply.volume, expected);
    expect("tee", reply, CAD_OK, "");
    ASSERT_NEAR(reply.volume, expected, 1e-4 * expected);
    cad_pool_close(&pool);
}

TEST(what_is_left_is_called_by_its_name) {
    CadPool *pool = open_pool(1, (CadLimits){0});
    CadProgram program = {0};
    part_rectangle(&program, part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_ONE_SIDE, 5, 0),
                   0, 0, 10, 10);
    part_rectangle(&program, part_extrude(&program, plane_z(0), OP_CUT, EXTENT_SYMMETRIC, 50, 0),
                   -20, -20, 20, 20);
    expect("all cut away", run_program(pool, program), CAD_EMPTY_SOLID, "nothing is left");

    program = (CadProgram){0};
    part_rectangle(&program, part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_ONE_SIDE, 5, 0),
                   0, 0, 10, 10);
    part_rectangle(&program,
                   part_extrude(&program, plane_z(20), OP_INTERSECT, EXTENT_ONE_SIDE, 5, 0), 0, 0,
                   10, 10);
    part_circle(&program, part_extrude(&program, plane_z(0), OP_JOIN, EXTENT_ONE_SIDE, 10, 0), 0, 0,
                1);
    CadReply reply = run_program(pool, program);
    expect("joined to nothing", reply, CAD_OK, "");
    ASSERT_NEAR(reply.volume, 10 * M_PI, 1e-6);

    program = (CadProgram){0};
    part_rectangle(&program, part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_ONE_SIDE, 5, 0),
                   0, 0, 10, 10);
    part_rectangle(&program, part_extrude(&program, plane_z(0), OP_JOIN, EXTENT_ONE_SIDE, 5, 0), 10,
                   10, 20, 20);
    expect("two boxes along an edge", run_program(pool, program), CAD_NON_MANIFOLD, "4 faces");

    program = (CadProgram){0};
    part_rectangle(&program, part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_ONE_SIDE, 5, 0),
                   0, 0, 10, 10);
    part_rectangle(&program, part_extrude(&program, plane_z(0), OP_JOIN, EXTENT_ONE_SIDE, 5, 0), 12,
                   0, 20, 10);
    reply = run_program(pool, program);
    expect("floating bodies", reply, CAD_OK, "");
    ASSERT_INT(reply.solids, ==, 2);
    cad_pool_close(&pool);
}

/* Boxes that should meet, and do so along one edge only: the other end of the face is off by a
 * rounded decimal. */
TEST(slits_of_rounded_numbers_are_closed) {
    CadPool *pool = open_pool(1, (CadLimits){0});
    CadProgram program = {0};
    part_rectangle(&program,
                   part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_ONE_SIDE, 10, 0), 0, 0,
                   10, 10);
    Extrude *extrude = part_extrude(&program, plane_z(0), OP_JOIN, EXTENT_ONE_SIDE, 10, 0);
    const Vec2 corners[] = {{10, 0}, {20, 0}, {20, 10}, {10.0001, 10}};
    part_polygon(&program, extrude, corners, 4);
    CadReply reply = run_program(pool, program);
    expect("two boxes with a slit", reply, CAD_OK, "");
    ASSERT_INT(reply.solids, ==, 1);
    ASSERT_TRUE(reply.jittered);
    ASSERT_NEAR(reply.volume, 2000, 0.02);
    cad_pool_close(&pool);
}

TEST(hostile_code_gets_its_status_and_sentence) {
    CadPool *pool = open_pool(1, (CadLimits){0});
    CadReply reply = run_code(pool, "SketchPlane0 = add_sketchplane(\n\torigin= [0, 0, 0]; ((");
    expect("no code", reply, CAD_PARSE_FAIL, "");
    ASSERT_INT(reply.line, ==, 2);
    ASSERT_INT(reply.column, >, 1);
    expect("unknown name", run_code(pool, "Line0 = add_lime(start= [0, 0], end= [1, 1])"),
           CAD_EXEC_FAIL, "add_line");
    expect("empty", run_code(pool, ""), CAD_EXEC_FAIL, "");

    CadProgram program = {0};
    Extrude *extrude = part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_ONE_SIDE, 5, 0);
    Vec2 bow[4] = {vec2(0, 0), vec2(10, 12), vec2(10, 0), vec2(0, 10)};
    part_polygon(&program, extrude, bow, 4);
    expect("bow tie", run_program(pool, program), CAD_EXEC_FAIL, "cross");

    program = (CadProgram){0};
    extrude = part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_ONE_SIDE, 5, 0);
    part_rectangle(&program, extrude, 0, 0, 10, 10);
    part_circle(&program, extrude, 9, 5, 0.9);
    part_circle(&program, extrude, 8, 5, 0.9);
    expect("crossing holes", run_program(pool, program), CAD_EXEC_FAIL, "cross");

    expect("a thousand million", run_code(pool, box_code(1e9, 10, 10)), CAD_EXEC_FAIL, "1e+09");
    expect("too thin", run_code(pool, box_code(10, 10, 1e-6)), CAD_EXEC_FAIL, "thick");
    expect("missing file", ({
               CadReply missing;
               ASSERT_OK(
                   cad_pool_run(pool, &(CadRequest){.step_path = "/nowhere/a.step"}, &missing));
               missing;
           }),
           CAD_UNREADABLE, "/nowhere/a.step");
    cad_pool_close(&pool);
}

/* ---- random programs against points ---- */

static bool inside_loop(const Loop *loop, Vec2 p) {
    enum { CHORDS = 64 };
    bool inside = false;
    for (int k = 0; k < loop->count; k++) {
        const Curve *curve = &loop->curves[k];
        if (curve->kind == CURVE_CIRCLE) return vec2_distance(p, curve->center) < curve->radius;
        Arc arc = {0};
        int chords = curve->kind == CURVE_ARC && curve_arc(curve, &arc) ? CHORDS : 1;
        Vec2 from = curve->start;
        for (int i = 1; i <= chords; i++) {
            double angle = arc.from + arc.sweep * i / chords;
            Vec2 to = i == chords ? curve->end
                                  : vec2(arc.center.x + arc.radius * cos(angle),
                                         arc.center.y + arc.radius * sin(angle));
            if ((from.y > p.y) != (to.y > p.y) &&
                p.x < from.x + (p.y - from.y) / (to.y - from.y) * (to.x - from.x))
                inside = !inside;
            from = to;
        }
    }
    return inside;
}

static bool inside_extrude(const Extrude *extrude, Vec3 p) {
    double low, high;
    extrude_span(extrude, &low, &high);
    Vec3 d = vec3_sub(p, extrude->plane.origin);
    double w = vec3_dot(d, extrude->plane.normal);
    if (w < low || w > high) return false;
    Vec2 at = vec2(vec3_dot(d, extrude->plane.x_axis), vec3_dot(d, plane_y_axis(&extrude->plane)));
    bool inside = false; /* outer loop and holes, by parity */
    for (int j = 0; j < extrude->loop_count; j++) inside ^= inside_loop(&extrude->loops[j], at);
    return inside;
}

static bool inside_program(const CadProgram *program, Vec3 p) {
    bool inside = false;
    for (int i = 0; i < program->count; i++) {
        const Extrude *extrude = &program->extrudes[i];
        bool in = inside_extrude(extrude, p);
        if (i == 0 || extrude->op == OP_NEW_BODY || extrude->op == OP_JOIN)
            inside |= in;
        else if (extrude->op == OP_CUT)
            inside &= !in;
        else
            inside &= in;
    }
    return inside;
}

/* The kernel's volume against that of points thrown at the part's box: wrong booleans differ by far
 * more than chance. */
static bool volume_agrees(const CadProgram *program, const CadReply *reply, uint64_t index) {
    enum { POINTS = 20000 };
    Rng rng;
    rng_open(&rng, 99, RNG_TEST, index);
    Vec3 low = reply->box_min, size = vec3_sub(reply->box_max, low);
    int hits = 0;
    for (int i = 0; i < POINTS; i++) {
        Vec3 p = vec3(low.x + size.x * rng_uniform(&rng), low.y + size.y * rng_uniform(&rng),
                      low.z + size.z * rng_uniform(&rng));
        hits += inside_program(program, p);
    }
    double share = (double)hits / POINTS, found = reply->volume / (size.x * size.y * size.z);
    double error = sqrt(share * (1 - share) / POINTS) + 1e-4;
    if (fabs(found - share) <= 5 * error) return true;
    printf("%d: the kernel says %.5f of the box, points %.5f\n", (int)index, found, share);
    return false;
}

TEST(five_hundred_random_programs_never_crash) {
    const char *more = getenv("CADVLM_FUZZ");
    int count = more ? atoi(more) : SANITIZED ? 100 : 500;
    CadPool *pool = open_pool(2, (CadLimits){.seconds = 60});
    CadProgram *programs = calloc((size_t)count, sizeof *programs);
    ASSERT_TRUE(programs);
    int statuses[CAD_STATUS_COUNT] = {0}, jittered = 0, wrong = 0, asked = 0;
    while (asked < count || pool) {
        CadReply reply;
        bool more_to_ask = asked < count;
        if (more_to_ask) {
            programs[asked] = random_program(1, (uint64_t)asked);
            CadProgram copy = random_program(1, (uint64_t)asked);
            const char *code = part_code(&copy);
            ASSERT_OK(cad_pool_submit(
                pool,
                &(CadRequest){.code = code, .code_size = strlen(code), .tag = &programs[asked++]}));
            if (asked < 4) continue;
        }
        if (!cad_pool_next(pool, &reply)) break;
        CadProgram *program = reply.tag;
        statuses[reply.status]++;
        jittered += reply.jittered;
        if (reply.status == CAD_OK)
            wrong += !volume_agrees(program, &reply, (uint64_t)(program - programs));
        program_free(program);
        cad_reply_free(&reply);
    }
    for (int i = 0; i < CAD_STATUS_COUNT; i++)
        printf("%s %d, ", cad_status_name((CadStatus)i), statuses[i]);
    printf("jittered %d, of a wrong volume %d\n", jittered, wrong);
    ASSERT_INT(statuses[CAD_CRASH] + statuses[CAD_TIMEOUT] + statuses[CAD_PARSE_FAIL], ==, 0);
    ASSERT_INT(statuses[CAD_OK], >, count * 3 / 4);
    ASSERT_INT(wrong, ==, 0);
    free(programs);
    cad_pool_close(&pool);
}

TEST(wild_geometry_never_crashes) {
    const char *more = getenv("CADVLM_FUZZ");
    int count = more ? atoi(more) : SANITIZED ? 100 : 600, statuses[CAD_STATUS_COUNT] = {0};
    CadPool *pool = open_pool(2, (CadLimits){.seconds = 60});
    double slowest = 0;
    for (int asked = 0, finished = 0; finished < count;) {
        if (asked < count && asked - finished < 4) {
            CadProgram program = wild_program(5, (uint64_t)asked++);
            const char *code = part_code(&program);
            ASSERT_OK(
                cad_pool_submit(pool, &(CadRequest){.code = code, .code_size = strlen(code)}));
            continue;
        }
        CadReply reply;
        ASSERT_TRUE(cad_pool_next(pool, &reply));
        statuses[reply.status]++;
        if (reply.seconds > slowest) slowest = reply.seconds;
        finished++;
    }
    for (int i = 0; i < CAD_STATUS_COUNT; i++)
        printf("%s %d, ", cad_status_name((CadStatus)i), statuses[i]);
    printf("slowest %.2f s\n", slowest);
    ASSERT_INT(statuses[CAD_CRASH] + statuses[CAD_TIMEOUT] + statuses[CAD_PARSE_FAIL], ==, 0);
    ASSERT_INT(statuses[CAD_OK], >, 0);
    cad_pool_close(&pool);
}

/* ---- files and scores ---- */

static CadReply export_code(CadPool *pool, const char *code, CadExport format) {
    CadReply reply;
    CadRequest request = {.code = code, .code_size = strlen(code), .export_as = format};
    ASSERT_OK(cad_pool_run(pool, &request, &reply));
    return reply;
}

TEST(step_files_come_back_and_name_no_machine) {
    CadPool *pool = open_pool(1, (CadLimits){0});
    CadProgram program = flange_program();
    const char *code = part_code(&program), *path = test_path("flange.step");
    CadReply made, read;
    made = export_code(pool, code, CAD_EXPORT_STEP);
    expect("made", made, CAD_OK, "");
    ASSERT_OK(file_write(path, made.exported.data, made.exported.size));
    ASSERT_OK(cad_pool_run(pool, &(CadRequest){.step_path = path}, &read));
    expect("read", read, CAD_OK, "");
    ASSERT_NEAR(read.volume, made.volume, 1e-7 * made.volume);
    ASSERT_INT(read.faces, ==, made.faces);
    const char *text = buf_cstr(&made.exported);
    size_t size = made.exported.size;
    ASSERT_TRUE(!strstr(text, test_folder()));
    ASSERT_CONTAINS(text, "2000-01-01");
    ASSERT_CONTAINS(text + size - 20, "END-ISO-10303-21;");
    CadReply again = export_code(pool, code, CAD_EXPORT_STEP);
    ASSERT_INT(again.exported.size, ==, size);
    ASSERT_INT(memcmp(again.exported.data, text, size), ==, 0);
    /* Cut short. */
    ASSERT_OK(file_write(path, text, size / 2));
    ASSERT_OK(cad_pool_run(pool, &(CadRequest){.step_path = path}, &read));
    printf("half a file: %s %s\n", cad_status_name(read.status), read.message);
    ASSERT_TRUE(read.status == CAD_PARSE_FAIL || read.status == CAD_EMPTY_SOLID);
    cad_reply_free(&made);
    cad_reply_free(&again);
    cad_pool_close(&pool);
}

/* The volume that a binary STL file encloses. */
static double stl_volume(const Buf *file, int *triangles) {
    uint32_t count;
    memcpy(&count, file->data + 80, 4);
    ASSERT_INT(file->size, ==, 84 + 50 * (size_t)count);
    double volume = 0;
    for (uint32_t i = 0; i < count; i++) {
        float v[9];
        memcpy(v, file->data + 84 + 50 * (size_t)i + 12, sizeof v);
        Vec3 a = vec3(v[0], v[1], v[2]), b = vec3(v[3], v[4], v[5]), c = vec3(v[6], v[7], v[8]);
        volume += vec3_dot(a, vec3_cross(b, c)) / 6;
    }
    *triangles = (int)count;
    return volume;
}

TEST(stl_files_enclose_the_volume) {
    CadPool *pool = open_pool(1, (CadLimits){0});
    CadProgram program = flange_program();
    CadReply made = export_code(pool, part_code(&program), CAD_EXPORT_STL);
    int triangles;
    double volume = stl_volume(&made.exported, &triangles);
    printf("%d triangles enclose %.2f of %.2f\n", triangles, volume, made.volume);
    ASSERT_NEAR(volume, made.volume, 5e-3 * made.volume);
    cad_reply_free(&made);
    cad_pool_close(&pool);
}

static CadScore score_codes(CadPool *pool, const char *code, const char *reference) {
    CadReply reply;
    ASSERT_OK(cad_pool_run(pool,
                           &(CadRequest){.code = code,
                                         .code_size = strlen(code),
                                         .reference_code = reference,
                                         .reference_size = strlen(reference)},
                           &reply));
    CadScore s = reply.score;
    printf("iou %.6f (%s) aligned %.6f chamfer %.3g hausdorff %.3g hd95 %.3g F %.3f dims %.4f\n",
           s.iou, s.iou_exact ? "exact" : "columns", s.iou_aligned, s.chamfer, s.hausdorff, s.hd95,
           s.fscore, s.dims_rel_error);
    return s;
}

static const char *moved_box(double x, double w, double d, double h) {
    CadProgram program = {0};
    part_rectangle(&program, part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_ONE_SIDE, h, 0),
                   x, 0, x + w, d);
    return part_code(&program);
}

TEST(scores_are_those_worked_out_by_hand) {
    CadPool *pool = open_pool(1, (CadLimits){0});
    CadScore s = score_codes(pool, box_code(10, 10, 10), box_code(10, 10, 10));
    ASSERT_NEAR(s.iou, 1, 1e-9);
    ASSERT_NEAR(s.iou_aligned, 1, 1e-9);
    ASSERT_TRUE(s.iou_exact);
    ASSERT_NEAR(s.dims_rel_error, 0, 1e-9);
    ASSERT_REAL(s.chamfer, <, 2e-3);
    ASSERT_REAL(s.fscore, >, 0.8);
    ASSERT_INT(s.reference_status, ==, CAD_OK);

    s = score_codes(pool, box_code(10, 10, 11), box_code(10, 10, 10));
    ASSERT_NEAR(s.iou, 10.0 / 11, 1e-9);
    ASSERT_NEAR(s.dims_rel_error, 0.1 / 3, 1e-9);
    ASSERT_NEAR(s.hausdorff, 0.1, 0.02); /* the lid, 1 of 10 away */

    s = score_codes(pool, moved_box(5, 10, 10, 10), box_code(10, 10, 10));
    ASSERT_NEAR(s.iou, 1.0 / 3, 1e-9);
    ASSERT_NEAR(s.iou_aligned, 1, 1e-6);
    ASSERT_NEAR(s.dims_rel_error, 0, 1e-9);

    s = score_codes(pool, moved_box(50, 10, 10, 10), box_code(10, 10, 10));
    ASSERT_NEAR(s.iou, 0, 1e-9);
    ASSERT_REAL(s.chamfer, >, 2 * 16); /* at least 4 edges away, both ways */
    ASSERT_NEAR(s.fscore, 0, 1e-9);

    s = score_codes(pool, moved_box(3, 20, 40, 10), box_code(10, 20, 5));
    ASSERT_NEAR(s.iou_aligned, 1, 1e-6);

    s = score_codes(pool, "nonsense(", box_code(1, 1, 1));
    ASSERT_TRUE(isnan(s.iou) && isnan(s.chamfer) && isnan(s.fscore));
    ASSERT_INT(s.reference_status, ==, CAD_OK);
    s = score_codes(pool, box_code(1, 1, 1), "nonsense(");
    ASSERT_TRUE(isnan(s.iou));
    ASSERT_INT(s.reference_status, ==, CAD_PARSE_FAIL);
    cad_pool_close(&pool);
}
