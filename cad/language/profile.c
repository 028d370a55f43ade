/* A few comparisons instead of the kernel's check of a face; and where that fails, the place. */
#include "cad/language/profile.h"

#include <stdlib.h>

#include "cad/language/loop.h"
#include "cad/language/vec.h"

#define CLEARANCE 1e-4 /* between holes and outline: far above the kernel's tolerance of 1e-7 */
#define REACH     1e-6 /* what is no further apart meets */
#define JOINT     2e-5 /* so far apart may a curve and its next be (docs/cad.md) */

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

double profile_area(const Extrude *extrude) {
    double largest = 0, sum = 0;
    for (int j = 0; j < extrude->loop_count; j++) {
        double area = fabs(loop_area(&extrude->loops[j]));
        largest = fmax(largest, area);
        sum += area;
    }
    return 2 * largest - sum;
}

/* ---- contacts ---- */

/* A curve, and which of its loop it is. */
typedef struct Piece {
    const Curve *curve;
    int loop, index, count;
    Box2 box;
    bool round; /* arc or circle */
    Arc arc;
} Piece;

static Piece make_piece(const Extrude *extrude, int loop, int index) {
    const Loop *own = &extrude->loops[loop];
    const Curve *curve = &own->curves[index];
    Piece piece = {.curve = curve, .loop = loop, .index = index, .count = own->count};
    piece.box = curve_bounds(curve);
    piece.round = curve->kind == CURVE_ARC && curve_arc(curve, &piece.arc);
    if (curve->kind == CURVE_CIRCLE) {
        piece.round = true;
        piece.arc = (Arc){curve->center, curve->radius, 0, 2 * M_PI};
    }
    return piece;
}

/* The ends of a curve; a circle has none. */
static int ends_of(const Piece *piece, Vec2 ends[2]) {
    if (piece->curve->kind == CURVE_CIRCLE) return 0;
    ends[0] = piece->curve->start;
    ends[1] = piece->curve->end;
    return 2;
}

static bool at_end(const Piece *piece, Vec2 p) {
    Vec2 ends[2];
    int count = ends_of(piece, ends);
    for (int i = 0; i < count; i++)
        if (vec2_distance(ends[i], p) <= REACH) return true;
    return false;
}

static bool in_sweep(const Arc *arc, Vec2 p) {
    double angle = atan2(p.y - arc->center.y, p.x - arc->center.x);
    double turned = arc->sweep > 0 ? angle - arc->from : arc->from - angle;
    turned -= 2 * M_PI * floor(turned / (2 * M_PI));
    return turned <= fabs(arc->sweep);
}

static bool is_on(const Piece *piece, Vec2 p) {
    if (at_end(piece, p)) return true;
    if (piece->round)
        return fabs(vec2_distance(p, piece->arc.center) - piece->arc.radius) <= REACH &&
               in_sweep(&piece->arc, p);
    Vec2 along = vec2_sub(piece->curve->end, piece->curve->start);
    Vec2 off = vec2_sub(p, piece->curve->start);
    double length = sqrt(vec2_dot(along, along)), at = vec2_dot(off, along) / length;
    return fabs(vec2_cross(along, off)) <= REACH * length && at >= 0 && at <= length;
}

/* Where the lines or circles that two curves lie on meet: 0 to 2 points. */
typedef struct Points {
    Vec2 at[2];
    int count;
    bool tangent;
} Points;

static const Points none;

/* The points at a distance `half` from `middle`, both ways along a unit vector. */
static Points around(Vec2 middle, Vec2 along, double half) {
    return (Points){{vec2(middle.x + half * along.x, middle.y + half * along.y),
                     vec2(middle.x - half * along.x, middle.y - half * along.y)},
                    2,
                    false};
}

static Points touching(Vec2 at) {
    return (Points){{at}, 1, true};
}

static Points lines_meet(const Curve *a, const Curve *b) {
    Vec2 u = vec2_sub(a->end, a->start), v = vec2_sub(b->end, b->start);
    double cross = vec2_cross(u, v);
    if (fabs(cross) <= 1e-12 * sqrt(vec2_dot(u, u) * vec2_dot(v, v))) return none;
    double share = vec2_cross(vec2_sub(b->start, a->start), v) / cross;
    return (Points){{vec2(a->start.x + share * u.x, a->start.y + share * u.y)}, 1, false};
}

static Points line_meets_circle(const Curve *line, const Arc *arc) {
    Vec2 along = vec2_sub(line->end, line->start), to = vec2_sub(arc->center, line->start);
    double length = sqrt(vec2_dot(along, along));
    along = vec2(along.x / length, along.y / length);
    double at = vec2_dot(to, along), off = fabs(vec2_cross(along, to));
    Vec2 foot = vec2(line->start.x + at * along.x, line->start.y + at * along.y);
    if (fabs(off - arc->radius) <= REACH) return touching(foot);
    if (off > arc->radius) return none;
    return around(foot, along, sqrt(arc->radius * arc->radius - off * off));
}

static Points circles_meet(const Arc *a, const Arc *b) {
    Vec2 to = vec2_sub(b->center, a->center);
    double apart = sqrt(vec2_dot(to, to)), r = a->radius, s = b->radius;
    if (apart <= REACH) { /* the same circle, or none of its points */
        return fabs(r - s) <= REACH ? touching(vec2(a->center.x + r, a->center.y)) : none;
    }
    to = vec2(to.x / apart, to.y / apart);
    double at = (apart * apart + r * r - s * s) / (2 * apart); /* from a's centre, towards b's */
    Vec2 foot = vec2(a->center.x + at * to.x, a->center.y + at * to.y);
    bool tangent = fabs(apart - r - s) <= REACH || fabs(apart - fabs(r - s)) <= REACH;
    if (tangent) return touching(foot);
    if (fabs(at) > r) return none;
    return around(foot, vec2(-to.y, to.x), sqrt(r * r - at * at));
}

static Points carriers_meet(const Piece *a, const Piece *b) {
    if (!a->round && !b->round) return lines_meet(a->curve, b->curve);
    if (a->round && b->round) return circles_meet(&a->arc, &b->arc);
    return a->round ? line_meets_circle(b->curve, &a->arc) : line_meets_circle(a->curve, &b->arc);
}

/* Where a curve ends and the next of its loop begins, they may meet. */
static bool is_joint(const Piece *a, const Piece *b, Vec2 p) {
    if (a->loop != b->loop) return false;
    bool after = (a->index + 1) % a->count == b->index,
         before = (b->index + 1) % b->count == a->index;
    return (after && vec2_distance(a->curve->end, p) <= JOINT) ||
           (before && vec2_distance(b->curve->end, p) <= JOINT);
}

/* Whether two curves meet; where they do, `out` becomes that place unless it has a worse one. */
static bool pieces_meet(const Piece *a, const Piece *b, Contact *out) {
    Points points = carriers_meet(a, b);
    bool found = false;
    for (int i = 0; i < points.count; i++) {
        Vec2 p = points.at[i];
        if (!is_on(a, p) || !is_on(b, p) || is_joint(a, b, p)) continue;
        bool crosses = !points.tangent && !at_end(a, p) && !at_end(b, p);
        *out = (Contact){{a->loop, b->loop}, p, crosses};
        if (crosses) return true;
        found = true;
    }
    for (int turn = 0; turn < 2; turn++) { /* ends of the one on the other: overlaps, too */
        Vec2 ends[2];
        int count = ends_of(turn ? b : a, ends);
        for (int i = 0; i < count && !found; i++) {
            found = is_on(turn ? a : b, ends[i]) && !is_joint(a, b, ends[i]);
            if (found) *out = (Contact){{a->loop, b->loop}, ends[i], false};
        }
    }
    return found;
}

static int by_left_side(const void *a, const void *b) {
    double x = ((const Piece *)a)->box.min.x, y = ((const Piece *)b)->box.min.x;
    return (x > y) - (x < y);
}

static bool boxes_meet(const Box2 *a, const Box2 *b) {
    return a->min.y <= b->max.y + REACH && b->min.y <= a->max.y + REACH;
}

bool profile_contact(const Extrude *extrude, Contact *out) {
    int total = 0, count = 0;
    for (int j = 0; j < extrude->loop_count; j++) total += extrude->loops[j].count;
    Piece *pieces = calloc((size_t)total + 1, sizeof *pieces);
    CHECK(pieces, "out of memory: %d curves", total);
    for (int j = 0; j < extrude->loop_count; j++)
        for (int k = 0; k < extrude->loops[j].count; k++)
            pieces[count++] = make_piece(extrude, j, k);
    qsort(pieces, (size_t)count, sizeof *pieces, by_left_side);
    bool found = false;
    *out = (Contact){0};
    for (int i = 0; i < count && !out->crosses; i++)
        for (int k = i + 1; k < count && !out->crosses; k++) {
            if (pieces[k].box.min.x > pieces[i].box.max.x + REACH) break;
            Contact here;
            if (!boxes_meet(&pieces[i].box, &pieces[k].box)) continue;
            if (!pieces_meet(&pieces[i], &pieces[k], &here)) continue;
            if (!found || here.crosses) *out = here;
            found = true;
        }
    free(pieces);
    return found;
}
