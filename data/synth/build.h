/* Small steps to build parts from: sketches on planes square to the axes, in world coordinates.
 *
 * A sketch on the top plane at height z uses (x, y), one on the front plane at depth y uses (x, z),
 * one on the side plane at x uses (y, z). The builder moves everything by its offset, so that a
 * family is written once for all conventions. */
#ifndef CADVLM_DATA_SYNTH_BUILD_H
#define CADVLM_DATA_SYNTH_BUILD_H

#include "cad/language/program.h"
#include "core/rng.h"

typedef enum SketchSide {
    SIDE_TOP,   /* normal +z */
    SIDE_FRONT, /* normal -y */
    SIDE_RIGHT  /* normal +x */
} SketchSide;

typedef struct Builder {
    CadProgram *program;
    Rng *rng;
    double offset_x, offset_y; /* added to world coordinates */
    Extrude *extrude;          /* the one under way */
    SketchSide side;
    bool failed; /* a limit was hit, or a family drew something impossible */
} Builder;

/* Starts an extrude on a plane at `height` along the side's axis (z, y or x); `length` along the
 * normal, negative against it. */
void build_extrude(Builder *b, SketchSide side, double height, BooleanOp op, double length);

/* Loops of the extrude under way, in world coordinates of its side; the first is the outer one. */
void build_rectangle(Builder *b, double x0, double y0, double x1, double y1);
void build_rounded_rectangle(Builder *b, double x0, double y0, double x1, double y1, double radius);
void build_circle(Builder *b, double x, double y, double radius);
/* A slot with round ends: the distance of its centres is `length` along x (or y). */
void build_slot(Builder *b, double x, double y, double length, double radius, bool along_y);
/* Straight sides through `count` points. */
void build_polygon(Builder *b, const Vec2 *points, int count);
/* A rectangle whose upper side is a half circle: width 2 · radius, from y0 up to the circle's
 * centre at y1. */
void build_arch(Builder *b, double x, double y0, double y1, double radius);

/* Dimensions. draw_size: from low to high in halves, mostly whole. draw_share: a share of `of`,
 * likewise. */
double draw_size(Builder *b, double low, double high);
double draw_share(Builder *b, double of, double low, double high);
bool draw_chance(Builder *b, double probability);
int draw_choice(Builder *b, int count);
double tenth(double x); /* rounded to a tenth */

#endif
