/* The pre-validator: what is known to crash or hang the geometry kernel never reaches it.
 *
 * The rules and the limits behind them are listed in docs/cad.md. Crossing curves are not looked
 * for here: the kernel's own check of each face finds them. */
#include "cad/language/loop.h"
#include "cad/language/profile.h"
#include "cad/language/vec.h"

#define COORDINATE_MAX 1e4  /* in the code's unit: 10 m in millimetres */
#define EXTENT_MIN     1e-4 /* thickness; its edges are as long */
#define CHAIN_GAP      1e-5 /* between the end of a curve and the start of the next */
#define ARC_FLAT       1e-3 /* |chord × (mid - start)| / chord² */
#define AREA_MIN       1e-8 /* CURVE_LENGTH_MIN² */
#define AXIS_ERROR     1e-6 /* of unit length and of the right angle */
#define OUTSIDE        1e-3 /* an inner loop may stick out of the outer one by this: rounding */

/* Where a problem is, in the names that the code would have: "Line3_0_2". */
typedef struct Where {
    int extrude, loop, curve;
} Where;

static const char *const kind_names[] = {"Line", "Arc", "Circle"};

static bool in_range(double x) {
    return fabs(x) <= COORDINATE_MAX; /* false for NaN too */
}

static bool point_in_range(Vec2 p) {
    return in_range(p.x) && in_range(p.y);
}

static Err check_point(Vec2 p, const char *what, CurveKind kind, Where at) {
    REQUIRE(point_in_range(p), ERR_INPUT,
            "%s%d_%d_%d: %s is [%g, %g]; coordinates must be finite and within %g",
            kind_names[kind], at.extrude, at.loop, at.curve, what, p.x, p.y, COORDINATE_MAX);
    return OK;
}

static Err check_line(const Curve *c, Where at) {
    double length = vec2_distance(c->start, c->end);
    REQUIRE(length >= CURVE_LENGTH_MIN, ERR_INPUT,
            "Line%d_%d_%d: from [%g, %g] to [%g, %g] it is only %g long; %g is the least",
            at.extrude, at.loop, at.curve, c->start.x, c->start.y, c->end.x, c->end.y, length,
            CURVE_LENGTH_MIN);
    return OK;
}

static Err check_arc(const Curve *c, Where at) {
    TRY(check_point(c->mid, "its middle", CURVE_ARC, at));
    double chord = vec2_distance(c->start, c->end);
    REQUIRE(chord >= CURVE_LENGTH_MIN, ERR_INPUT,
            "Arc%d_%d_%d: start [%g, %g] and end [%g, %g] are only %g apart; %g is the least (a "
            "whole circle is add_circle)",
            at.extrude, at.loop, at.curve, c->start.x, c->start.y, c->end.x, c->end.y, chord,
            CURVE_LENGTH_MIN);
    double bulge = fabs(vec2_cross(vec2_sub(c->end, c->start), vec2_sub(c->mid, c->start)));
    REQUIRE(bulge >= ARC_FLAT * chord * chord, ERR_INPUT,
            "Arc%d_%d_%d: start [%g, %g], mid [%g, %g] and end [%g, %g] lie on one line",
            at.extrude, at.loop, at.curve, c->start.x, c->start.y, c->mid.x, c->mid.y, c->end.x,
            c->end.y);
    return OK;
}

static Err check_circle(const Curve *c, Where at) {
    TRY(check_point(c->center, "its centre", CURVE_CIRCLE, at));
    REQUIRE(c->radius >= CURVE_LENGTH_MIN && in_range(c->radius), ERR_INPUT,
            "Circle%d_%d_%d: its radius is %g; %g to %g is possible", at.extrude, at.loop, at.curve,
            c->radius, CURVE_LENGTH_MIN, COORDINATE_MAX);
    return OK;
}

static Err check_curve(const Curve *c, Where at) {
    if (c->kind == CURVE_CIRCLE) return check_circle(c, at);
    TRY(check_point(c->start, "its start", c->kind, at));
    TRY(check_point(c->end, "its end", c->kind, at));
    return c->kind == CURVE_LINE ? check_line(c, at) : check_arc(c, at);
}

/* Every curve ends where the next starts, the last where the first starts. */
static Err check_chain(const Loop *loop, Where at) {
    for (int k = 0; k < loop->count; k++) {
        const Curve *c = &loop->curves[k], *next = &loop->curves[(k + 1) % loop->count];
        if (c->kind == CURVE_CIRCLE) {
            REQUIRE(loop->count == 1, ERR_INPUT,
                    "Loop%d_%d: Circle%d_%d_%d is a loop by itself, but the loop has %d curves",
                    at.extrude, at.loop, at.extrude, at.loop, k, loop->count);
            return OK;
        }
        REQUIRE(vec2_distance(c->end, next->start) <= CHAIN_GAP, ERR_INPUT,
                "Loop%d_%d is not closed: %s%d_%d_%d ends at [%g, %g], and %s%d_%d_%d starts at "
                "[%g, %g]",
                at.extrude, at.loop, kind_names[c->kind], at.extrude, at.loop, k, c->end.x,
                c->end.y, kind_names[next->kind], at.extrude, at.loop, (k + 1) % loop->count,
                next->start.x, next->start.y);
    }
    return OK;
}

/* A loop that crosses itself may enclose as much to its left as to its right. */
static Err refuse_area(const Loop *loop, Where at, double area) {
    Contact contact;
    Loop copy = *loop;
    if (profile_contact(&(Extrude){.loops = &copy, .loop_count = 1}, &contact))
        FAIL(ERR_INPUT, "Loop%d_%d %s itself at [%g, %g]: its areas cancel out", at.extrude,
             at.loop, contact.crosses ? "crosses" : "touches", contact.at.x, contact.at.y);
    FAIL(ERR_INPUT, "Loop%d_%d encloses an area of %g, which is nothing", at.extrude, at.loop,
         area);
}

static Err check_loop(const Loop *loop, Where at) {
    REQUIRE(loop->count >= 1, ERR_INPUT, "Loop%d_%d has no curves", at.extrude, at.loop);
    REQUIRE(loop->count <= PROGRAM_CURVES_MAX, ERR_INPUT,
            "Loop%d_%d has %d curves; %d are the most", at.extrude, at.loop, loop->count,
            PROGRAM_CURVES_MAX);
    for (int k = 0; k < loop->count; k++) {
        at.curve = k;
        TRY(check_curve(&loop->curves[k], at));
    }
    TRY(check_chain(loop, at));
    double area = fabs(loop_area(loop));
    return area >= AREA_MIN ? OK : refuse_area(loop, at, area);
}

/* A point on a curve, between its ends. */
static Vec2 curve_middle(const Curve *c) {
    if (c->kind == CURVE_ARC) return c->mid;
    if (c->kind == CURVE_CIRCLE) return vec2(c->center.x - c->radius, c->center.y);
    return vec2((c->start.x + c->end.x) / 2, (c->start.y + c->end.y) / 2);
}

static Vec2 curve_begin(const Curve *c) {
    if (c->kind == CURVE_CIRCLE) return vec2(c->center.x + c->radius, c->center.y);
    return c->start;
}

/* Positive where the point lies to the left of the chord. A point on it counts as one to its right
 * in the plane, or above it where the chord is level: so both questions below are about one point.
 */
static double side_of_chord(const Curve *c, Vec2 p) {
    Vec2 chord = vec2_sub(c->end, c->start);
    double side = vec2_cross(chord, vec2_sub(p, c->start));
    if (side != 0) return side;
    return chord.y != 0 ? -chord.y : chord.x;
}

/* Whether the point lies between an arc and its chord. */
static bool in_segment(const Curve *c, Vec2 p) {
    Arc arc;
    if (c->kind != CURVE_ARC || !curve_arc(c, &arc)) return false;
    bool same_side = (side_of_chord(c, p) > 0) == (side_of_chord(c, c->mid) > 0);
    return same_side && vec2_distance(p, arc.center) < arc.radius;
}

/* Whether a ray from the point to the right meets the chord. */
static bool crosses_chord(const Curve *c, Vec2 p) {
    bool straddles = (c->start.y > p.y) != (c->end.y > p.y);
    return straddles && (c->end.y > c->start.y) == (side_of_chord(c, p) > 0);
}

/* Parity of the polygon of chords; a segment between chord and arc adds to it or takes from it. */
static bool is_inside(Vec2 p, const Loop *loop) {
    const Curve *first = &loop->curves[0];
    if (first->kind == CURVE_CIRCLE) return vec2_distance(p, first->center) < first->radius;
    bool inside = false;
    for (int k = 0; k < loop->count; k++)
        inside ^= crosses_chord(&loop->curves[k], p) ^ in_segment(&loop->curves[k], p);
    return inside;
}

/* Whether all (or none) of the loop's curves begin and have their middle inside the other. */
static bool lies(const Loop *loop, bool inside, const Loop *other) {
    for (int k = 0; k < loop->count; k++) {
        const Curve *c = &loop->curves[k];
        if (is_inside(curve_begin(c), other) != inside) return false;
        if (is_inside(curve_middle(c), other) != inside) return false;
    }
    return true;
}

static bool box_within(Box2 box, Box2 whole, double slack) {
    return box.min.x >= whole.min.x - slack && box.min.y >= whole.min.y - slack &&
           box.max.x <= whole.max.x + slack && box.max.y <= whole.max.y + slack;
}

/* Material inside a hole: no face of one outline has that. Holes that cross are left to the
 * kernel. */
static Err check_island(const Extrude *extrude, const Box2 *bounds, int outer, int island,
                        int index) {
    for (int hole = 0; hole < extrude->loop_count; hole++) {
        if (hole == outer || hole == island || !box_within(bounds[island], bounds[hole], 0))
            continue;
        REQUIRE(!lies(&extrude->loops[island], true, &extrude->loops[hole]), ERR_INPUT,
                "Profile%d: Loop%d_%d is an island in a hole: it lies inside Loop%d_%d, which lies "
                "inside Loop%d_%d; an island needs an extrude of its own",
                index, index, island, index, hole, index, outer);
    }
    return OK;
}

/* All loops lie inside the largest, none inside another. What reaches out of its bounds, or has no
 * point inside, is certainly not inside it. */
static Err check_nesting(const Extrude *extrude, int index) {
    int outer = extrude_outer_loop(extrude);
    Box2 bounds[PROGRAM_LOOPS_MAX];
    for (int j = 0; j < extrude->loop_count; j++) bounds[j] = loop_bounds(&extrude->loops[j]);
    Box2 whole = bounds[outer];
    for (int j = 0; j < extrude->loop_count; j++) {
        if (j == outer) continue;
        bool inside = box_within(bounds[j], whole, OUTSIDE) &&
                      !lies(&extrude->loops[j], false, &extrude->loops[outer]);
        REQUIRE(inside, ERR_INPUT,
                "Profile%d: Loop%d_%d from [%g, %g] to [%g, %g] is not inside the largest loop, "
                "Loop%d_%d from [%g, %g] to [%g, %g]; separate areas need an extrude each",
                index, index, j, bounds[j].min.x, bounds[j].min.y, bounds[j].max.x, bounds[j].max.y,
                index, outer, whole.min.x, whole.min.y, whole.max.x, whole.max.y);
        TRY(check_island(extrude, bounds, outer, j, index));
    }
    return OK;
}

static Err check_plane(const Plane *plane, int index) {
    Vec3 o = plane->origin, n = plane->normal, x = plane->x_axis;
    REQUIRE(in_range(o.x) && in_range(o.y) && in_range(o.z), ERR_INPUT,
            "SketchPlane%d: its origin is [%g, %g, %g]; coordinates must be finite and within %g",
            index, o.x, o.y, o.z, COORDINATE_MAX);
    bool unit = fabs(vec3_length(n) - 1) <= AXIS_ERROR && fabs(vec3_length(x) - 1) <= AXIS_ERROR;
    REQUIRE(unit && fabs(vec3_dot(n, x)) <= AXIS_ERROR, ERR_INPUT,
            "SketchPlane%d: normal [%g, %g, %g] and x axis [%g, %g, %g] are not unit vectors at "
            "right angles",
            index, n.x, n.y, n.z, x.x, x.y, x.z);
    return OK;
}

static Err check_extents(const Extrude *extrude, int index) {
    REQUIRE(extrude->op >= OP_NEW_BODY && extrude->op <= OP_INTERSECT, ERR_INPUT,
            "Extrude%d: operation %d is none of 0 to 3", index, (int)extrude->op);
    REQUIRE(extrude->type >= EXTENT_ONE_SIDE && extrude->type <= EXTENT_TWO_SIDES, ERR_INPUT,
            "Extrude%d: type %d is none of 0 to 2", index, (int)extrude->type);
    REQUIRE(in_range(extrude->extent_one) && in_range(extrude->extent_two), ERR_INPUT,
            "Extrude%d: extents %g and %g must be finite and within %g", index, extrude->extent_one,
            extrude->extent_two, COORDINATE_MAX);
    double low, high;
    extrude_span(extrude, &low, &high);
    REQUIRE(high - low >= EXTENT_MIN, ERR_INPUT,
            "Extrude%d: with extents %g and %g it is %g thick; %g is the least", index,
            extrude->extent_one, extrude->extent_two, high - low, EXTENT_MIN);
    return OK;
}

static Err check_extrude(const Extrude *extrude, int index) {
    TRY(check_plane(&extrude->plane, index));
    TRY(check_extents(extrude, index));
    REQUIRE(extrude->loop_count >= 1, ERR_INPUT, "Profile%d has no loops", index);
    REQUIRE(extrude->loop_count <= PROGRAM_LOOPS_MAX, ERR_INPUT,
            "Profile%d has %d loops; %d are the most", index, extrude->loop_count,
            PROGRAM_LOOPS_MAX);
    for (int j = 0; j < extrude->loop_count; j++)
        TRY(check_loop(&extrude->loops[j], (Where){index, j, 0}));
    return check_nesting(extrude, index);
}

Err program_validate(const CadProgram *program) {
    REQUIRE(program->count >= 1, ERR_INPUT, "the program has no extrude, so no solid");
    REQUIRE(program->count <= PROGRAM_EXTRUDES_MAX, ERR_INPUT,
            "the program has %d extrudes; %d are the most", program->count, PROGRAM_EXTRUDES_MAX);
    for (int i = 0; i < program->count; i++) TRY(check_extrude(&program->extrudes[i], i));
    return OK;
}
