#include "data/synth/build.h"

#include <math.h>

static const double WHOLE_SHARE = 0.8; /* of drawn sizes are whole millimetres */

void build_extrude(Builder *b, SketchSide side, double height, BooleanOp op, double length) {
    Extrude *e = program_add_extrude(b->program);
    b->extrude = e;
    b->side = side;
    if (!e) {
        b->failed = true;
        return;
    }
    static const Vec3 normals[] = {{0, 0, 1}, {0, -1, 0}, {1, 0, 0}},
                      x_axes[] = {{1, 0, 0}, {1, 0, 0}, {0, 1, 0}};
    e->plane.normal = normals[side];
    e->plane.x_axis = x_axes[side];
    e->plane.origin = side == SIDE_TOP     ? vec3(0, 0, height)
                      : side == SIDE_FRONT ? vec3(0, height + b->offset_y, 0)
                                           : vec3(height + b->offset_x, 0, 0);
    e->op = op;
    e->type = EXTENT_ONE_SIDE;
    e->extent_one = length;
}

/* World coordinates of the side to sketch coordinates, with the offset. */
static Vec2 place(const Builder *b, double x, double y) {
    switch (b->side) {
    case SIDE_TOP: return vec2(x + b->offset_x, y + b->offset_y);
    case SIDE_FRONT: return vec2(x + b->offset_x, y);
    case SIDE_RIGHT: return vec2(x + b->offset_y, y);
    }
    return vec2(x, y);
}

static Loop *new_loop(Builder *b) {
    Loop *loop = b->failed ? NULL : extrude_add_loop(b->program, b->extrude);
    if (!loop) b->failed = true;
    return loop;
}

static Curve *new_curve(Builder *b, Loop *loop, CurveKind kind) {
    Curve *curve = loop ? loop_add_curve(b->program, loop) : NULL;
    if (curve)
        curve->kind = kind;
    else
        b->failed = true;
    return curve;
}

static void line(Builder *b, Loop *loop, double x0, double y0, double x1, double y1) {
    Curve *c = new_curve(b, loop, CURVE_LINE);
    if (!c) return;
    c->start = place(b, x0, y0);
    c->end = place(b, x1, y1);
}

/* The middle of a corner's arc is irrational; a hundredth of a millimetre is near enough, and short
 * to write. */
static double hundredth(double x) {
    return round(x * 100) / 100;
}

static void arc(Builder *b, Loop *loop, Vec2 start, Vec2 mid, Vec2 end) {
    Curve *c = new_curve(b, loop, CURVE_ARC);
    if (!c) return;
    c->start = place(b, start.x, start.y);
    c->mid = place(b, hundredth(mid.x), hundredth(mid.y));
    c->end = place(b, end.x, end.y);
}

void build_circle(Builder *b, double x, double y, double radius) {
    Curve *c = new_curve(b, new_loop(b), CURVE_CIRCLE);
    if (!c) return;
    c->center = place(b, x, y);
    c->radius = radius;
}

void build_polygon(Builder *b, const Vec2 *points, int count) {
    Loop *loop = new_loop(b);
    for (int i = 0; i < count; i++) {
        Vec2 p = points[i], q = points[(i + 1) % count];
        line(b, loop, p.x, p.y, q.x, q.y);
    }
}

void build_rectangle(Builder *b, double x0, double y0, double x1, double y1) {
    build_polygon(b, (const Vec2[]){{x0, y0}, {x1, y0}, {x1, y1}, {x0, y1}}, 4);
}

void build_rounded_rectangle(Builder *b, double x0, double y0, double x1, double y1, double r) {
    Loop *loop = new_loop(b);
    double k = r * (1 - sqrt(0.5)); /* the middle of a corner's arc */
    line(b, loop, x0 + r, y0, x1 - r, y0);
    arc(b, loop, vec2(x1 - r, y0), vec2(x1 - k, y0 + k), vec2(x1, y0 + r));
    line(b, loop, x1, y0 + r, x1, y1 - r);
    arc(b, loop, vec2(x1, y1 - r), vec2(x1 - k, y1 - k), vec2(x1 - r, y1));
    line(b, loop, x1 - r, y1, x0 + r, y1);
    arc(b, loop, vec2(x0 + r, y1), vec2(x0 + k, y1 - k), vec2(x0, y1 - r));
    line(b, loop, x0, y1 - r, x0, y0 + r);
    arc(b, loop, vec2(x0, y0 + r), vec2(x0 + k, y0 + k), vec2(x0 + r, y0));
}

void build_slot(Builder *b, double x, double y, double length, double r, bool along_y) {
    Loop *loop = new_loop(b);
    double h = length / 2;
    if (along_y) {
        line(b, loop, x + r, y - h, x + r, y + h);
        arc(b, loop, vec2(x + r, y + h), vec2(x, y + h + r), vec2(x - r, y + h));
        line(b, loop, x - r, y + h, x - r, y - h);
        arc(b, loop, vec2(x - r, y - h), vec2(x, y - h - r), vec2(x + r, y - h));
    } else {
        line(b, loop, x - h, y - r, x + h, y - r);
        arc(b, loop, vec2(x + h, y - r), vec2(x + h + r, y), vec2(x + h, y + r));
        line(b, loop, x + h, y + r, x - h, y + r);
        arc(b, loop, vec2(x - h, y + r), vec2(x - h - r, y), vec2(x - h, y - r));
    }
}

void build_arch(Builder *b, double x, double y0, double y1, double r) {
    Loop *loop = new_loop(b);
    line(b, loop, x - r, y0, x + r, y0);
    line(b, loop, x + r, y0, x + r, y1);
    arc(b, loop, vec2(x + r, y1), vec2(x, y1 + r), vec2(x - r, y1));
    line(b, loop, x - r, y1, x - r, y0);
}

double draw_size(Builder *b, double low, double high) {
    bool whole = rng_uniform(b->rng) < WHOLE_SHARE;
    double lo = ceil(low * 2) / 2, hi = floor(high * 2) / 2;
    if (hi < lo) {
        b->failed = true;
        return lo;
    }
    double x = lo + 0.5 * (double)rng_below(b->rng, (uint64_t)(2 * (hi - lo)) + 1);
    if (whole && x != floor(x)) x = x + 0.5 <= hi ? x + 0.5 : x - 0.5;
    if (x < lo) x = lo;
    return x;
}

double draw_share(Builder *b, double of, double low, double high) {
    return draw_size(b, low * of, high * of);
}

bool draw_chance(Builder *b, double probability) {
    return rng_uniform(b->rng) < probability;
}

int draw_choice(Builder *b, int count) {
    return (int)rng_below(b->rng, (uint64_t)count);
}

double tenth(double x) {
    return round(x * 10) / 10;
}
