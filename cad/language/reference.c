/* Finds how a sketch plane follows from those before it: the search of OpenECAD's converter, in its
 * order, so that imported programs read like its own.
 *
 * Two things differ. The converter asks dot(n, n') < tolerance where a right angle is meant; here
 * it is |dot|. (Nothing else could match there anyhow: a side face is at right angles to its
 * sketch.) And it compares distances without their sign, so that a negative extent_one is missed or
 * taken for the opposite face; here the end face is where the extent says. */
#include <math.h>

#include "cad/language/vec.h"

#define SAME 1e-10 /* lengths in the code's unit, and sines */

static bool parallel(Vec3 a, Vec3 b) {
    Vec3 c = vec3_cross(a, b);
    return fabs(c.x) < SAME && fabs(c.y) < SAME && fabs(c.z) < SAME;
}

/* How far `point` is above the plane. */
static double height(const Plane *plane, Vec3 point) {
    return vec3_dot(vec3_sub(point, plane->origin), plane->normal);
}

/* Where in `frame`, a plane parallel to the target and through its origin, the target lies. */
static PlaneRef place_in(PlaneRefKind kind, int extrude, const Plane *frame, const Plane *target) {
    Vec3 offset = vec3_sub(target->origin, frame->origin);
    double angle = atan2(vec3_dot(vec3_cross(frame->x_axis, target->x_axis), frame->normal),
                         vec3_dot(frame->x_axis, target->x_axis));
    return (PlaneRef){
        .kind = kind,
        .extrude = extrude,
        .origin = vec2(vec3_dot(offset, frame->x_axis), vec3_dot(offset, plane_y_axis(frame))),
        .angle = fabs(angle) < SAME ? 0 : angle,
        .reverse = vec3_dot(frame->normal, target->normal) < 0};
}

/* The sketch plane of `base` or one of its end faces. */
static bool find_parallel(PlaneRef *out, const Extrude *base, int extrude, const Plane *target) {
    const Plane *sketch = &base->plane;
    double above = height(sketch, target->origin);
    PlaneRefKind kind;
    if (fabs(above) < SAME)
        kind = PLANE_SAME;
    else if (!parallel(vec3_sub(target->origin, sketch->origin), sketch->normal))
        return false;
    else if (fabs(above - base->extent_one) < SAME)
        kind = PLANE_EXTENT_ONE;
    else if (fabs(above + base->extent_two) < SAME)
        kind = PLANE_EXTENT_TWO;
    else
        return false;
    *out = place_in(kind, extrude, sketch, target);
    return true;
}

/* A side face of `base`, swept by one of its lines. */
static bool find_side(PlaneRef *out, const Extrude *base, int extrude, const Plane *target) {
    for (int j = 0; j < base->loop_count; j++) {
        for (int k = 0; k < base->loops[j].count; k++) {
            const Curve *line = &base->loops[j].curves[k];
            const PlaneRef plain = {.kind = PLANE_LINE, .extrude = extrude};
            Plane face;
            if (line->kind != CURVE_LINE || plane_from_ref(&face, &plain, base, line) != OK)
                continue;
            if (!parallel(face.normal, target->normal)) continue;
            if (fabs(height(&face, target->origin)) >= SAME) continue;
            *out = place_in(PLANE_LINE, extrude, &face, target);
            out->loop = j;
            out->curve = k;
            return true;
        }
    }
    return false;
}

void program_find_reference(CadProgram *program, int index) {
    Extrude *extrude = &program->extrudes[index];
    Plane target = extrude->plane;
    bool found = false;
    for (int i = 0; i < index && !found; i++) {
        const Extrude *base = &program->extrudes[i];
        if (parallel(target.normal, base->plane.normal))
            found = find_parallel(&extrude->ref, base, i, &target);
        else if (fabs(vec3_dot(target.normal, base->plane.normal)) < SAME)
            found = find_side(&extrude->ref, base, i, &target);
    }
    /* What the reference says is now the plane, to the last bit. */
    if (!found || program_resolve_plane(program, index) != OK) {
        extrude->ref = (PlaneRef){.kind = PLANE_ABSOLUTE};
        extrude->plane = target;
    }
}
