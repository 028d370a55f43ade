/* Programs in memory, and the planes that their sketches lie on. */
#include "cad/language/program.h"

#include <stdlib.h>
#include <string.h>

#include "cad/language/vec.h"

enum { CAPACITY_MIN = 4 };

/* An array of `count` elements has room for the next power of two (at least CAPACITY_MIN), so no
 * capacity is stored. Returns the array, moved where it was full. */
static void *grow(void *array, int count, size_t element) {
    bool full = count == 0 || (count >= CAPACITY_MIN && (count & (count - 1)) == 0);
    if (!full) return array;
    size_t capacity = count ? 2 * (size_t)count : CAPACITY_MIN;
    void *grown = realloc(array, capacity * element);
    CHECK(grown, "out of memory: a program of %zu elements", capacity);
    return grown;
}

Extrude *program_add_extrude(CadProgram *program) {
    if (program->count == PROGRAM_EXTRUDES_MAX) return NULL;
    program->extrudes = grow(program->extrudes, program->count, sizeof(Extrude));
    Extrude *extrude = &program->extrudes[program->count++];
    memset(extrude, 0, sizeof *extrude);
    return extrude;
}

Loop *extrude_add_loop(CadProgram *program, Extrude *extrude) {
    (void)program;
    if (extrude->loop_count == PROGRAM_LOOPS_MAX) return NULL;
    extrude->loops = grow(extrude->loops, extrude->loop_count, sizeof(Loop));
    Loop *loop = &extrude->loops[extrude->loop_count++];
    memset(loop, 0, sizeof *loop);
    return loop;
}

Curve *loop_add_curve(CadProgram *program, Loop *loop) {
    if (loop->count == PROGRAM_CURVES_MAX) return NULL;
    if (program->curve_count == PROGRAM_CURVES_ALL_MAX) return NULL;
    loop->curves = grow(loop->curves, loop->count, sizeof(Curve));
    Curve *curve = &loop->curves[loop->count++];
    memset(curve, 0, sizeof *curve);
    program->curve_count++;
    return curve;
}

void program_free(CadProgram *program) {
    for (int i = 0; i < program->count; i++) {
        Extrude *extrude = &program->extrudes[i];
        for (int j = 0; j < extrude->loop_count; j++) free(extrude->loops[j].curves);
        free(extrude->loops);
    }
    free(program->extrudes);
    *program = (CadProgram){0};
}

int program_complexity(const CadProgram *program) {
    return program->curve_count + 2 * program->count;
}

void extrude_span(const Extrude *extrude, double *low, double *high) {
    double ends[2] = {extrude->extent_one, 0};
    if (extrude->type == EXTENT_SYMMETRIC) ends[1] = -extrude->extent_one;
    if (extrude->type == EXTENT_TWO_SIDES) ends[1] = -extrude->extent_two;
    *low = fmin(0, fmin(ends[0], ends[1]));
    *high = fmax(0, fmax(ends[0], ends[1]));
}

Vec3 plane_y_axis(const Plane *plane) {
    return vec3_cross(plane->normal, plane->x_axis);
}

Vec3 plane_point(const Plane *plane, Vec2 p) {
    Vec3 in_plane = vec3_add(vec3_scale(plane->x_axis, p.x), vec3_scale(plane_y_axis(plane), p.y));
    return vec3_add(plane->origin, in_plane);
}

/* What is this close to a unit vector, or to a right angle, is left alone: so the signs of zeros
 * and exact numbers survive being read again. */
static const double ALREADY = 1e-12;

static Err make_unit(Vec3 *v, const char *what) {
    REQUIRE(vec3_finite(*v), ERR_INPUT, "%s is not finite: [%g, %g, %g]", what, v->x, v->y, v->z);
    /* Scaled first, so that neither huge nor tiny components overflow the squares. */
    double largest = fmax(fabs(v->x), fmax(fabs(v->y), fabs(v->z)));
    REQUIRE(largest > 1e-6, ERR_INPUT, "%s has no direction: [%g, %g, %g]", what, v->x, v->y, v->z);
    if (largest > 2) *v = vec3_scale(*v, 1 / largest);
    double length = vec3_length(*v);
    if (fabs(length - 1) > ALREADY) *v = vec3_scale(*v, 1 / length);
    return OK;
}

Err plane_make(Plane *out, Vec3 origin, Vec3 normal, Vec3 x_axis) {
    REQUIRE(vec3_finite(origin), ERR_INPUT, "the origin is not finite: [%g, %g, %g]", origin.x,
            origin.y, origin.z);
    TRY(make_unit(&normal, "the normal"));
    TRY(make_unit(&x_axis, "the x axis"));
    double along = vec3_dot(normal, x_axis);
    REQUIRE(fabs(along) < 0.999, ERR_INPUT,
            "the x axis [%g, %g, %g] is parallel to the normal [%g, %g, %g]", x_axis.x, x_axis.y,
            x_axis.z, normal.x, normal.y, normal.z);
    if (fabs(along) > ALREADY) {
        x_axis = vec3_sub(x_axis, vec3_scale(normal, along));
        TRY(make_unit(&x_axis, "the x axis"));
    }
    *out = (Plane){.origin = origin, .normal = normal, .x_axis = x_axis};
    return OK;
}

/* `v` turned about the unit vector `axis` (Rodrigues). */
static Vec3 rotate(Vec3 v, Vec3 axis, double angle) {
    double c = cos(angle), s = sin(angle);
    Vec3 turned = vec3_add(vec3_scale(v, c), vec3_scale(vec3_cross(axis, v), s));
    return vec3_add(turned, vec3_scale(axis, vec3_dot(axis, v) * (1 - c)));
}

/* The face swept by a line of the sketch: x along the line, y the sketch's normal. */
static Err side_face(Plane *out, const Plane *sketch, const Curve *line) {
    Vec3 start = plane_point(sketch, line->start), end = plane_point(sketch, line->end);
    Vec3 along = vec3_sub(end, start);
    double length = vec3_length(along);
    REQUIRE(isfinite(length) && length > 1e-6, ERR_INPUT,
            "its line from [%g, %g] to [%g, %g] has no direction", line->start.x, line->start.y,
            line->end.x, line->end.y);
    along = vec3_scale(along, 1 / length);
    return plane_make(out, start, vec3_cross(along, sketch->normal), along);
}

Err plane_from_ref(Plane *out, const PlaneRef *ref, const Extrude *base, const Curve *line) {
    Plane frame = base->plane;
    switch (ref->kind) {
    case PLANE_ABSOLUTE: CHECK(false, "an absolute plane refers to nothing");
    case PLANE_SAME: break;
    case PLANE_EXTENT_ONE:
        frame.origin = vec3_add(frame.origin, vec3_scale(frame.normal, base->extent_one));
        break;
    case PLANE_EXTENT_TWO:
        frame.origin = vec3_sub(frame.origin, vec3_scale(frame.normal, base->extent_two));
        break;
    case PLANE_LINE: TRY(side_face(&frame, &base->plane, line)); break;
    }
    Vec3 x_axis = rotate(frame.x_axis, frame.normal, ref->angle);
    Vec3 normal = ref->reverse ? vec3_scale(frame.normal, -1) : frame.normal;
    return plane_make(out, plane_point(&frame, ref->origin), normal, x_axis);
}

Err program_resolve_plane(CadProgram *program, int index) {
    Extrude *extrude = &program->extrudes[index];
    const PlaneRef *ref = &extrude->ref;
    if (ref->kind == PLANE_ABSOLUTE) return OK;
    REQUIRE(ref->extrude >= 0 && ref->extrude < index, ERR_INPUT,
            "Extrude%d refers to Extrude%d, which is not before it", index, ref->extrude);
    const Extrude *base = &program->extrudes[ref->extrude];
    const Curve *line = NULL;
    if (ref->kind == PLANE_LINE) {
        REQUIRE(ref->loop >= 0 && ref->loop < base->loop_count && ref->curve >= 0 &&
                    ref->curve < base->loops[ref->loop].count,
                ERR_INPUT, "Extrude%d refers to curve %d of loop %d of Extrude%d, which has none",
                index, ref->curve, ref->loop, ref->extrude);
        line = &base->loops[ref->loop].curves[ref->curve];
        REQUIRE(line->kind == CURVE_LINE, ERR_INPUT,
                "Extrude%d refers to curve %d of loop %d of Extrude%d, which is not a line", index,
                ref->curve, ref->loop, ref->extrude);
    }
    Err err = plane_from_ref(&extrude->plane, ref, base, line);
    if (err != OK) return err_prefix(err, "the plane of Extrude%d: ", index);
    return OK;
}
