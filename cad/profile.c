/* A few comparisons instead of the kernel's check of a face. */
#include "cad/profile.h"

#include "cad/loop.h"
#include "cad/vec.h"

#define CLEARANCE 1e-4 /* between holes and outline: far above the kernel's tolerance of 1e-7 */

/* A polygon that turns left (or right) at every corner, once around in all. */
static bool is_convex(const Loop *loop) {
    double turned = 0, side = loop_area(loop) > 0 ? 1 : -1;
    for (int k = 0; k < loop->count; k++) {
        const Curve *curve = &loop->curves[k], *next = &loop->curves[(k + 1) % loop->count];
        if (curve->kind != CURVE_LINE) return false;
        Vec2 a = vec2_sub(curve->end, curve->start), b = vec2_sub(next->end, next->start);
        double turn = side * atan2(vec2_cross(a, b), vec2_dot(a, b));
        if (turn < 0) return false;
        turned += turn;
    }
    return turned < 3 * M_PI; /* 2π; a star that goes round twice has 4π */
}

/* A circle inside the outline, with clearance. */
static bool keeps_inside(const Loop *outer, const Curve *circle) {
    const Curve *first = &outer->curves[0];
    if (first->kind == CURVE_CIRCLE)
        return vec2_distance(first->center, circle->center) + circle->radius + CLEARANCE <
               first->radius;
    double side = loop_area(outer) > 0 ? 1 : -1;
    for (int k = 0; k < outer->count; k++) {
        Vec2 from = outer->curves[k].start, along = vec2_sub(outer->curves[k].end, from);
        double inward =
            side * vec2_cross(along, vec2_sub(circle->center, from)) / sqrt(vec2_dot(along, along));
        if (inward < circle->radius + CLEARANCE) return false;
    }
    return true;
}

bool profile_is_plain(const Extrude *extrude) {
    int outer = extrude_outer_loop(extrude);
    const Loop *outline = &extrude->loops[outer];
    if (outline->curves[0].kind != CURVE_CIRCLE && !is_convex(outline)) return false;
    for (int j = 0; j < extrude->loop_count; j++) {
        const Curve *circle = &extrude->loops[j].curves[0];
        if (j == outer) continue;
        if (circle->kind != CURVE_CIRCLE || !keeps_inside(outline, circle)) return false;
        for (int i = 0; i < j; i++) {
            const Curve *other = &extrude->loops[i].curves[0];
            if (i != outer && vec2_distance(circle->center, other->center) <
                                  circle->radius + other->radius + CLEARANCE)
                return false;
        }
    }
    return true;
}
