/* Curves and the loops that they chain into: measures, and the order that OpenECAD gives them. */
#ifndef CADVLM_CAD_LANGUAGE_LOOP_H
#define CADVLM_CAD_LANGUAGE_LOOP_H

#include "cad/language/program.h"

#define LOOP_GAP         1e-3 /* ten times the rounding of four decimals */
#define CURVE_LENGTH_MIN 1e-4

/* An arc as an angle range: p(t) = center + radius · (cos t, sin t), t from `from` to
 * from + sweep; sweep > 0 is counter-clockwise, |sweep| < 2π. */
typedef struct Arc {
    Vec2 center;
    double radius, from, sweep;
} Arc;

/* The circle through the three points of an arc; false where they lie on one line. */
bool curve_arc(const Curve *curve, Arc *out);

typedef struct Box2 {
    Vec2 min, max;
} Box2;

Box2 curve_bounds(const Curve *curve);
Box2 loop_bounds(const Loop *loop);

/* The enclosed area, positive where the loop runs counter-clockwise. */
double loop_area(const Loop *loop);

/* Which loop of an extrude is the outer one: that with the largest area. */
int extrude_outer_loop(const Extrude *extrude);

/* What add_loop of OpenECAD makes of a list of curves, and what every loop of a program should have
 * gone through: a closed chain, each curve turned so that it continues the one before, the first at
 * the left-most (then lowest) start, counter-clockwise at that corner. The curves must be listed in
 * the order of the chain, in either direction each.
 *
 * Ends that do not meet are made to: every start is moved onto the end before it, however far that
 * is (the reference does the same), the last end onto the first start when it is within LOOP_GAP.
 * Lines shorter than CURVE_LENGTH_MIN, which no kernel builds, are left out. Returns how many
 * curves remain; `tags`, where not NULL, is permuted along. Circles are left alone. */
int loop_assemble(Curve *curves, int count, int *tags);

/* Swaps start and end. */
void curve_reverse(Curve *curve);

/* Whether two points count as one when curves are chained (the rule of numpy's allclose: 1e-8 and
 * 1e-5 of b). */
bool points_meet(Vec2 a, Vec2 b);

/* The order of the loops of a profile: by the lower left corner of their bounds, x first, rounded
 * to six decimals. `order` gets the indices. */
void loops_sort(int *order, const Box2 *bounds, int count);

#endif
