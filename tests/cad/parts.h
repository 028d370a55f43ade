/* Parts made by code, for the tests of solids, drawings and commands. */
#ifndef CADVLM_TESTS_CAD_PARTS_H
#define CADVLM_TESTS_CAD_PARTS_H

#include "cad/language/code.h"
#include "core/rng.h"
#include "tests/support/test.h"

static inline Plane plane_z(double z) {
    return (Plane){vec3(0, 0, z), vec3(0, 0, 1), vec3(1, 0, 0)};
}

/* A new extrude; its loops follow. Pointers to earlier extrudes are stale afterwards. */
static inline Extrude *part_extrude(CadProgram *program, Plane plane, BooleanOp op, ExtentType type,
                                    double one, double two) {
    Extrude *extrude = program_add_extrude(program);
    extrude->plane = plane;
    extrude->op = op;
    extrude->type = type;
    extrude->extent_one = one;
    extrude->extent_two = two;
    return extrude;
}

static inline void part_polygon(CadProgram *program, Extrude *extrude, const Vec2 *corners,
                                int count) {
    Loop *loop = extrude_add_loop(program, extrude);
    for (int i = 0; i < count; i++) {
        Curve *curve = loop_add_curve(program, loop);
        curve->kind = CURVE_LINE;
        curve->start = corners[i];
        curve->end = corners[(i + 1) % count];
    }
}

static inline void part_rectangle(CadProgram *program, Extrude *extrude, double x0, double y0,
                                  double x1, double y1) {
    Vec2 corners[4] = {vec2(x0, y0), vec2(x1, y0), vec2(x1, y1), vec2(x0, y1)};
    part_polygon(program, extrude, corners, 4);
}

static inline void part_circle(CadProgram *program, Extrude *extrude, double x, double y,
                               double radius) {
    Curve *curve = loop_add_curve(program, extrude_add_loop(program, extrude));
    curve->kind = CURVE_CIRCLE;
    curve->center = vec2(x, y);
    curve->radius = radius;
}

/* A rectangle with rounded corners. */
static inline void part_rounded(CadProgram *program, Extrude *extrude, double x0, double y0,
                                double x1, double y1, double r) {
    double k = r * (1 - sqrt(0.5));
    Vec2 ends[8] = {vec2(x0 + r, y0), vec2(x1 - r, y0), vec2(x1, y0 + r), vec2(x1, y1 - r),
                    vec2(x1 - r, y1), vec2(x0 + r, y1), vec2(x0, y1 - r), vec2(x0, y0 + r)};
    Vec2 mids[4] = {vec2(x1 - k, y0 + k), vec2(x1 - k, y1 - k), vec2(x0 + k, y1 - k),
                    vec2(x0 + k, y0 + k)};
    Loop *loop = extrude_add_loop(program, extrude);
    for (int i = 0; i < 8; i++) {
        Curve *curve = loop_add_curve(program, loop);
        curve->kind = i % 2 ? CURVE_ARC : CURVE_LINE;
        curve->start = ends[i];
        curve->end = ends[(i + 1) % 8];
        if (i % 2) curve->mid = mids[i / 2];
    }
}

/* The code of a program, which it frees; valid until the next but three. */
static inline const char *part_code(CadProgram *program) {
    static Buf texts[4];
    static int next;
    Buf *text = &texts[next++ % 4];
    buf_clear(text);
    code_emit(text, program, CODE_EXACT);
    program_free(program);
    return buf_cstr(text);
}

static inline const char *box_code(double w, double d, double h) {
    CadProgram program = {0};
    Extrude *extrude = part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_ONE_SIDE, h, 0);
    part_rectangle(&program, extrude, 0, 0, w, d);
    return part_code(&program);
}

/* A rounded plate 100 × 60 × 12 with four holes of radius 5, a hub of radius 20 on it up to 32, and
 * a bore of radius 10 through both. */
static inline CadProgram flange_program(void) {
    CadProgram program = {0};
    Extrude *plate = part_extrude(&program, plane_z(0), OP_NEW_BODY, EXTENT_ONE_SIDE, 12, 0);
    part_rounded(&program, plate, 0, 0, 100, 60, 10);
    for (int i = 0; i < 4; i++) part_circle(&program, plate, i % 2 ? 88 : 12, i / 2 ? 48 : 12, 5);
    Extrude *hub = part_extrude(&program, plane_z(12), OP_JOIN, EXTENT_ONE_SIDE, 20, 0);
    part_circle(&program, hub, 50, 30, 20);
    Extrude *bore = part_extrude(&program, plane_z(32), OP_CUT, EXTENT_ONE_SIDE, -32, 0);
    part_circle(&program, bore, 50, 30, 10);
    return program;
}

/* Random chains of one to six steps on a coarse grid, so that faces often coincide. */
static inline CadProgram random_program(uint64_t seed, uint64_t index) {
    static const Vec3 normals[6] = {{0, 0, 1},  {0, 0, -1}, {1, 0, 0},
                                    {-1, 0, 0}, {0, 1, 0},  {0, -1, 0}};
    static const Vec3 axes[6] = {{1, 0, 0}, {1, 0, 0}, {0, 1, 0}, {0, 1, 0}, {1, 0, 0}, {1, 0, 0}};
    CadProgram program = {0};
    Rng rng;
    rng_open(&rng, seed, RNG_TEST, index);
#define GRID(low, high) (2.5 * rng_range(&rng, low, high))
    for (int left = rng_range(&rng, 1, 6), first = 1; left > 0; left--, first = 0) {
        int side = rng_range(&rng, 0, 5), dice = rng_range(&rng, 0, 9);
        double x = GRID(-4, 4), y = GRID(-4, 4), z = GRID(-4, 4);
        Plane plane = {vec3(x, y, z), normals[side], axes[side]};
        BooleanOp op = first ? OP_NEW_BODY : dice < 5 ? OP_JOIN : dice < 8 ? OP_CUT : OP_INTERSECT;
        ExtentType type = (ExtentType)rng_range(&rng, 0, 2);
        double one = GRID(1, 12), two = GRID(0, 6);
        if (type != EXTENT_SYMMETRIC && rng_range(&rng, 0, 2) == 0) one = -one;
        Extrude *extrude = part_extrude(&program, plane, op, type, one, two);
        double x0 = GRID(-8, 0), y0 = GRID(-8, 0), x1 = x0 + GRID(2, 10), y1 = y0 + GRID(2, 10);
        double small = fmin(x1 - x0, y1 - y0);
        int kind = rng_range(&rng, 0, 3);
        if (kind == 0) part_circle(&program, extrude, x0, y0, GRID(2, 8));
        if (kind == 1) part_rounded(&program, extrude, x0, y0, x1, y1, 0.3 * small);
        if (kind >= 2) part_rectangle(&program, extrude, x0, y0, x1, y1);
        if (kind == 3)
            part_circle(&program, extrude, 0.5 * (x0 + x1), 0.5 * (y0 + y1), 0.25 * small);
    }
#undef GRID
    return program;
}

/* Wild geometry: crossing polygons, needles, arcs through anything, tilted planes, on a scale from
 * hairs to houses. */
static inline CadProgram wild_program(uint64_t seed, uint64_t index) {
    CadProgram program = {0};
    Rng rng;
    rng_open(&rng, seed, RNG_TEST, 1000000 + index);
#define WILD (scale * (2 * rng_uniform(&rng) - 1))
    double scale = pow(10, rng_range(&rng, -3, 4));
    for (int left = rng_range(&rng, 1, 4); left > 0; left--) {
        Vec3 n = vec3(rng_normal(&rng), rng_normal(&rng), rng_normal(&rng));
        Vec3 x = vec3(rng_normal(&rng), rng_normal(&rng), rng_normal(&rng));
        Plane plane;
        if (plane_make(&plane, vec3(WILD, WILD, WILD), n, x) != OK) continue;
        Extrude *extrude =
            part_extrude(&program, plane, (BooleanOp)rng_range(&rng, 0, 3),
                         (ExtentType)rng_range(&rng, 0, 2), WILD, rng_range(&rng, 0, 1) ? WILD : 0);
        for (int loops = rng_range(&rng, 1, 3); loops > 0; loops--) {
            int count = rng_range(&rng, 1, 6);
            if (count == 1) {
                part_circle(&program, extrude, WILD, WILD, fabs(WILD));
                continue;
            }
            Loop *loop = extrude_add_loop(&program, extrude);
            Vec2 first = vec2(WILD, WILD), at = first;
            for (int k = 0; k < count; k++) {
                Curve *curve = loop_add_curve(&program, loop);
                curve->kind = rng_range(&rng, 0, 2) ? CURVE_LINE : CURVE_ARC;
                curve->start = at;
                at = k == count - 1 ? first : vec2(WILD, WILD);
                curve->end = at;
                curve->mid = vec2(WILD, WILD);
            }
        }
    }
#undef WILD
    return program;
}

#endif
