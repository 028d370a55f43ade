/* cad: what STEP files hold beside one sound solid, and what the kernel's reader makes of it. */
#include "cad/solid/score.h"
#include "tests/cad/known_solids.h"
#include "tests/cad/parts.h"

/* The bytes of a solid's STEP file; frees the solid. */
static Buf file_of(Solid *solid) {
    Buf file = {0};
    ASSERT_TRUE(solid);
    solid_quiet();
    ASSERT_OK(solid_to_step(&file, solid));
    solid_free(&solid);
    return file;
}

/* A solid as it was read, and what was said of it. */
typedef struct Read {
    Solid *solid;
    CadStatus status;
    SolidFacts facts;
    SolidNote note;
} Read;

static Read read_file(const char *what, Buf *file) {
    Read read = {0};
    SolidNote checked = {""};
    read.status = solid_read_step(&read.solid, "part.step", file, &read.note);
    if (read.solid) read.status = solid_check(read.solid, &read.facts, &checked);
    if (checked.text[0]) read.note = checked;
    printf("%s: %s, %d solids, volume %.9g, %s\n", what, cad_status_name(read.status),
           read.facts.solids, read.facts.volume, read.note.text);
    buf_free(file);
    return read;
}

static Read read_bodies(const char *what, Bodies bodies) {
    Buf file = file_of(bodies_new(bodies));
    return read_file(what, &file);
}

static void expect_read(Read read, CadStatus status, int solids, double volume, const char *note) {
    ASSERT_INT(read.status, ==, status);
    ASSERT_INT(read.facts.solids, ==, solids);
    ASSERT_NEAR(read.facts.volume, volume, 1e-6 * volume);
    ASSERT_CONTAINS(read.note.text, note);
    if (!*note) ASSERT_TEXT(read.note.text, "");
    solid_free(&read.solid);
}

TEST(a_closed_shell_is_a_solid) {
    expect_read(read_bodies("closed shell", CLOSED_SHELL), CAD_OK, 1, 6000, "");
    expect_read(read_bodies("inverted shell", INVERTED_SHELL), CAD_OK, 1, 6000, "");
    expect_read(read_bodies("loose faces", LOOSE_FACES), CAD_OK, 1, 6000, "");
    expect_read(read_bodies("open shell", OPEN_SHELL), CAD_EMPTY_SOLID, 0, 0,
                "no solid in part.step, only 1 open surface");
    expect_read(read_bodies("solid and shell", SOLID_AND_SHELL), CAD_OK, 1, 6000,
                "1 open surface is left out");
}

TEST(bodies_that_overlap_count_once_and_are_named) {
    double ball = 4 * M_PI / 3 * 343, lens = M_PI * 33 * 81 / 12;
    expect_read(read_bodies("apart", TWO_APART), CAD_OK, 2, 12000, "");
    expect_read(read_bodies("touching", TWO_TOUCHING), CAD_OK, 2, 12000, "");
    expect_read(read_bodies("pin", PIN_IN_HOLE), CAD_OK, 2, 4000 + 10 * 16 * M_PI, "");
    expect_read(read_bodies("pressed pin", PIN_PRESSED_IN), CAD_OK, 1,
                4000 - 160 * M_PI + 20 * 4.01 * 4.01 * M_PI - 10 * (4.01 * 4.01 - 16) * M_PI,
                "bodies 1 and 2 overlap by a volume of 2.5164");
    expect_read(read_bodies("overlapping", TWO_OVERLAPPING), CAD_OK, 1, 9000,
                "bodies 1 and 2 overlap by a volume of 3000; what overlaps counts once");
    expect_read(read_bodies("equal", TWO_EQUAL), CAD_OK, 1, 6000, "overlap by a volume of 6000");
    expect_read(read_bodies("inside", ONE_IN_ANOTHER), CAD_OK, 1, 27000, "a volume of 125");
    expect_read(read_bodies("spheres", SPHERES_OVERLAPPING), CAD_OK, 1, 2 * ball - lens,
                "overlap by a volume of 699.79");
}

TEST(overlapping_bodies_are_equal_to_themselves_and_to_their_sum) {
    Read a = read_bodies("overlapping", TWO_OVERLAPPING), b = read_bodies("again", TWO_OVERLAPPING);
    CadScore score;
    score_solids(&score, a.solid, b.solid, 256, true);
    ASSERT_NEAR(score.iou, 1, 1e-9);
    ASSERT_TRUE(score.iou_exact);
    solid_free(&b.solid);
    Read brick = read_bodies("one of them", CLOSED_SHELL);
    score_solids(&score, a.solid, brick.solid, 256, true);
    ASSERT_NEAR(score.iou, 6000.0 / 9000, 1e-9);
    solid_free(&a.solid);
    solid_free(&brick.solid);
}

/* ∫∫ √(25 - y² - z²) - 3 over the square of side 2, by Simpson's rule. */
static double pocket_volume(void) {
    enum { STEPS = 64 };
    double sum = 0;
    for (int i = 0; i <= STEPS; i++)
        for (int j = 0; j <= STEPS; j++) {
            double y = -1 + 2.0 * i / STEPS, z = -1 + 2.0 * j / STEPS;
            double weight = (i % STEPS ? 2 + 2 * (i % 2) : 1) * (j % STEPS ? 2 + 2 * (j % 2) : 1);
            sum += weight * (sqrt(25 - y * y - z * z) - 3);
        }
    return sum * (2.0 / STEPS / 3) * (2.0 / STEPS / 3);
}

static void expect_pocketed_sphere(int pockets, Vec3 axis, double turn) {
    Buf file = file_of(pocketed_sphere_new(pockets, axis, turn));
    double volume = 4 * M_PI / 3 * 125 - pockets * pocket_volume();
    expect_read(read_file("sphere", &file), CAD_OK, 1, volume, "");
}

TEST(a_sphere_with_pockets_is_read_whole_however_it_lies) {
    for (int i = 0; i < 8; i++) expect_pocketed_sphere(1, vec3(1, 1, 1), 0.7 * i);
    for (int i = 0; i < 8; i++) expect_pocketed_sphere(2, vec3(1, 2, -1), 0.7 * i);
    /* The reader turns the faces around one of two pockets inside out. */
    expect_pocketed_sphere(2, vec3(-0.13681, -0.25516, -0.0077), 4.21728);
    expect_pocketed_sphere(2, vec3(0.07167, 0.3903, -0.85684), 2.54933);
}

/* ---- files that are edited ---- */

/* The first `old` at or behind the first `after` becomes `new_text`. */
static void edit(Buf *file, const char *after, const char *old, const char *new_text) {
    char *text = strdup(buf_cstr(file)), *at = strstr(text, after);
    ASSERT(at, "\"%s\" is not in the file", after);
    at = strstr(at, old);
    ASSERT(at, "\"%s\" is not behind \"%s\"", old, after);
    *at = 0;
    buf_clear(file);
    buf_format(file, "%s%s%s", text, new_text, at + strlen(old));
    free(text);
}

TEST(corners_that_are_not_reached_are_doubtful) {
    Buf file = file_of(bodies_new(CLOSED_SHELL));
    edit(&file, "DATA;", "ENDSEC;",
         "#9001 = CARTESIAN_POINT('',(70.,0.,0.));\n#9002 = VERTEX_POINT('',#9001);\nENDSEC;");
    expect_read(read_file("a corner elsewhere", &file), CAD_OK, 1, 6000,
                "doubtful: the corners in the file span 70 × 20 × 30, what the kernel reads of it "
                "only 10 × 20 × 30");

    /* The corners have the file's unit. */
    file = file_of(bodies_new(CLOSED_SHELL));
    edit(&file, "LENGTH_UNIT", ".MILLI.", "$");
    expect_read(read_file("metres", &file), CAD_OK, 1, 6e12, "");
    file = file_of(bodies_new(CLOSED_SHELL));
    edit(&file, "LENGTH_UNIT", ".MILLI.", ".MICRO.");
    expect_read(read_file("micrometres", &file), CAD_OK, 1, 6e-6, "");
}

/* The circle of a frustum runs the other way round: so does a face, within the same edges. */
TEST(a_face_that_does_not_end_at_its_edges_is_found_by_its_triangles) {
    Buf file = file_of(named_solid_new("frustum", 0));
    edit(&file, "= EDGE_CURVE(", ".T.", ".F.");
    Read read = read_file("frustum", &file);
    ASSERT_INT(read.status, ==, CAD_INVALID_SOLID);
    ASSERT_CONTAINS(read.note.text, "by their edges");
    solid_free(&read.solid);
}
