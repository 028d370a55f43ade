/* Loops: measures, and the order of their curves. */
#include "cad/language/loop.h"

#include <stdlib.h>

#include "cad/language/vec.h"

bool curve_arc(const Curve *curve, Arc *out) {
    /* From the start as origin: the centre solves 2 c·a = a·a, 2 c·b = b·b. */
    Vec2 a = vec2_sub(curve->mid, curve->start), b = vec2_sub(curve->end, curve->start);
    double cross = vec2_cross(a, b);
    double aa = vec2_dot(a, a), bb = vec2_dot(b, b);
    if (!(fabs(cross) > 1e-12 * (aa + bb))) return false;
    Vec2 to_center = vec2((aa * b.y - bb * a.y) / (2 * cross), (bb * a.x - aa * b.x) / (2 * cross));
    out->center = vec2(curve->start.x + to_center.x, curve->start.y + to_center.y);
    out->radius = hypot(to_center.x, to_center.y);
    out->from = atan2(-to_center.y, -to_center.x);
    double to = atan2(curve->end.y - out->center.y, curve->end.x - out->center.x);
    /* The middle lies to the left of the chord start → end exactly when the arc is clockwise. */
    bool clockwise = vec2_cross(b, a) > 0;
    double sweep = clockwise ? out->from - to : to - out->from;
    if (sweep <= 0) sweep += 2 * M_PI;
    out->sweep = clockwise ? -sweep : sweep;
    return true;
}

static void include(Box2 *box, Vec2 p) {
    box->min = vec2(fmin(box->min.x, p.x), fmin(box->min.y, p.y));
    box->max = vec2(fmax(box->max.x, p.x), fmax(box->max.y, p.y));
}

Box2 curve_bounds(const Curve *curve) {
    if (curve->kind == CURVE_CIRCLE) {
        Vec2 c = curve->center;
        double r = curve->radius;
        return (Box2){vec2(c.x - r, c.y - r), vec2(c.x + r, c.y + r)};
    }
    Box2 box = {curve->start, curve->start};
    include(&box, curve->end);
    Arc arc;
    if (curve->kind != CURVE_ARC || !curve_arc(curve, &arc)) return box;
    static const Vec2 compass[4] = {{1, 0}, {0, 1}, {-1, 0}, {0, -1}};
    double low = fmin(arc.from, arc.from + arc.sweep), high = fmax(arc.from, arc.from + arc.sweep);
    for (int quarter = -6; quarter <= 6; quarter++) { /* from ± π, sweep ± 2π */
        double angle = quarter * (M_PI / 2);
        if (angle <= low || angle >= high) continue;
        Vec2 d = compass[(quarter + 8) % 4];
        include(&box, vec2(arc.center.x + arc.radius * d.x, arc.center.y + arc.radius * d.y));
    }
    return box;
}

Box2 loop_bounds(const Loop *loop) {
    Box2 box = {vec2(INFINITY, INFINITY), vec2(-INFINITY, -INFINITY)};
    for (int k = 0; k < loop->count; k++) {
        Box2 curve = curve_bounds(&loop->curves[k]);
        include(&box, curve.min);
        include(&box, curve.max);
    }
    return box;
}

double loop_area(const Loop *loop) {
    double twice = 0;
    Vec2 origin = loop->count ? loop->curves[0].start : vec2(0, 0);
    for (int k = 0; k < loop->count; k++) {
        const Curve *c = &loop->curves[k];
        if (c->kind == CURVE_CIRCLE) {
            twice += 2 * M_PI * c->radius * c->radius;
            continue;
        }
        twice += vec2_cross(vec2_sub(c->start, origin), vec2_sub(c->end, origin));
        Arc arc; /* the segment between arc and chord: r² (θ - sin θ) / 2 */
        if (c->kind == CURVE_ARC && curve_arc(c, &arc))
            twice += arc.radius * arc.radius * (arc.sweep - sin(arc.sweep));
    }
    return twice / 2;
}

int extrude_outer_loop(const Extrude *extrude) {
    int outer = 0;
    double largest = -1;
    for (int j = 0; j < extrude->loop_count; j++) {
        double area = fabs(loop_area(&extrude->loops[j]));
        if (area > largest) {
            largest = area;
            outer = j;
        }
    }
    return outer;
}

bool points_meet(Vec2 a, Vec2 b) {
    return fabs(a.x - b.x) <= 1e-8 + 1e-5 * fabs(b.x) && fabs(a.y - b.y) <= 1e-8 + 1e-5 * fabs(b.y);
}

void curve_reverse(Curve *curve) {
    Vec2 start = curve->start;
    curve->start = curve->end;
    curve->end = start;
}

/* -1, 0, 1: the order of two points by x, then y, after rounding to six decimals. */
static int compare_points(Vec2 a, Vec2 b) {
    double ax = nearbyint(a.x * 1e6), bx = nearbyint(b.x * 1e6);
    if (ax != bx) return ax < bx ? -1 : 1;
    double ay = nearbyint(a.y * 1e6), by = nearbyint(b.y * 1e6);
    return (ay > by) - (ay < by);
}

/* The direction in which a curve leaves its start or reaches its end; arcs by their middle. */
static Vec2 leaving(const Curve *c) {
    return vec2_sub(c->kind == CURVE_ARC ? c->mid : c->end, c->start);
}

static Vec2 arriving(const Curve *c) {
    return vec2_sub(c->end, c->kind == CURVE_ARC ? c->mid : c->start);
}

static void swap(Curve *curves, int *tags, int a, int b) {
    Curve curve = curves[a];
    curves[a] = curves[b];
    curves[b] = curve;
    if (!tags) return;
    int tag = tags[a];
    tags[a] = tags[b];
    tags[b] = tag;
}

static void mirror(Curve *curves, int *tags, int first, int last) {
    for (; first < last; first++, last--) swap(curves, tags, first, last);
}

/* Rotates so that `first` comes first: three mirrorings. */
static void rotate(Curve *curves, int *tags, int count, int first) {
    mirror(curves, tags, 0, first - 1);
    mirror(curves, tags, first, count - 1);
    mirror(curves, tags, 0, count - 1);
}

/* Whether `next` joins onto point `b`, and better than onto `a`: among short curves both may be
 * near enough, where the reference would turn a curve that is right. */
static bool continues(Vec2 a, Vec2 b, const Curve *next) {
    double near_a = fmin(vec2_distance(a, next->start), vec2_distance(a, next->end));
    double near_b = fmin(vec2_distance(b, next->start), vec2_distance(b, next->end));
    return (points_meet(b, next->start) || points_meet(b, next->end)) && near_b < near_a;
}

static bool continues_backwards(const Curve *curve, const Curve *next) {
    return points_meet(curve->end, next->end) &&
           vec2_distance(curve->end, next->end) < vec2_distance(curve->end, next->start);
}

/* Directions, the first curve, and the sense of the loop. */
static void reorder(Curve *curves, int count, int *tags) {
    if (count <= 1) return;
    if (continues(curves[0].end, curves[0].start, &curves[1])) curve_reverse(&curves[0]);
    int first = 0;
    for (int k = 0; k < count; k++) {
        if (k + 1 < count && continues_backwards(&curves[k], &curves[k + 1]))
            curve_reverse(&curves[k + 1]);
        if (compare_points(curves[k].start, curves[first].start) < 0) first = k;
    }
    rotate(curves, tags, count, first);

    /* The reference also turns a loop whose ends are in line, and does so twice when it executes
     * code: so here such a loop is left as it is. */
    if (vec2_cross(arriving(&curves[count - 1]), leaving(&curves[0])) >= 0) return;
    for (int k = 0; k < count; k++) curve_reverse(&curves[k]);
    mirror(curves, tags, 0, count - 1);
}

/* Makes the ends meet; returns how many curves remain. */
static int make_meet(Curve *curves, int count, int *tags) {
    int kept = 0;
    for (int k = 0; k < count; k++) {
        Curve curve = curves[k];
        if (kept) curve.start = curves[kept - 1].end;
        if (curve.kind == CURVE_LINE && vec2_distance(curve.start, curve.end) < CURVE_LENGTH_MIN)
            continue;
        if (tags) tags[kept] = tags[k];
        curves[kept++] = curve;
    }
    if (kept && vec2_distance(curves[kept - 1].end, curves[0].start) <= LOOP_GAP)
        curves[kept - 1].end = curves[0].start;
    return kept;
}

int loop_assemble(Curve *curves, int count, int *tags) {
    for (int k = 0; k < count; k++)
        if (curves[k].kind == CURVE_CIRCLE) return count;
    /* Twice, as in the reference: a first curve that misses the second is only turned once it has
     * another one before it. Once more where ends were moved, so that code written from this reads
     * back the same. */
    reorder(curves, count, tags);
    reorder(curves, count, tags);
    count = make_meet(curves, count, tags);
    reorder(curves, count, tags);
    return count;
}

typedef struct Placed {
    Vec2 corner;
    int index;
} Placed;

static int compare_placed(const void *a, const void *b) {
    const Placed *p = a, *q = b;
    int order = compare_points(p->corner, q->corner);
    return order ? order : p->index - q->index;
}

void loops_sort(int *order, const Box2 *bounds, int count) {
    Placed placed[PROGRAM_LOOPS_MAX];
    CHECK(count <= PROGRAM_LOOPS_MAX, "%d loops", count);
    for (int j = 0; j < count; j++) placed[j] = (Placed){bounds[j].min, j};
    qsort(placed, (size_t)count, sizeof *placed, compare_placed);
    for (int j = 0; j < count; j++) order[j] = placed[j].index;
}
