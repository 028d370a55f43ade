/* The sheet: views laid out, lines drawn, dimensions lettered. */
#ifndef CADVLM_CAD_DRAWING_SHEET_H
#define CADVLM_CAD_DRAWING_SHEET_H

#include "cad/drawing/hidden_lines.h"
#include "image/image.h"

/* Where a view lies: pixel = (x + scale · u, y - scale · v) for a point (u, v) of the view. */
typedef struct ViewPlace {
    bool there;
    double scale, x, y;
    Vec2 min, max; /* the view's extent, in the solid's unit */
} ViewPlace;

/* One overall dimension: of a view, along its horizontal or vertical, on the side that `outward`
 * points to (-1: left or up, +1: right or down). Lengths in pixels of the unshifted sheet. */
typedef struct Dimension {
    char text[32];
    bool vertical;
    double from, to;    /* of the part, along the dimension line; from < to */
    double edge;        /* where the part ends, towards the line */
    double line;        /* where the dimension line runs */
    bool text_outside;  /* on the far side of the line; else above it (left of a vertical one) */
    double text_middle; /* along the line */
} Dimension;

typedef struct SheetLayout {
    ViewPlace views[VIEW_COUNT];
    Dimension dimensions[3]; /* width, height, depth */
    int dimension_count;
} SheetLayout;

/* Lays out the views asked for. `iso` (may be NULL) is the true extent of the isometric view;
 * without it that of its box is taken, which is never smaller. */
void sheet_layout(SheetLayout *layout, const DrawStyle *style, Vec3 box_min, Vec3 box_max,
                  const ViewLines *iso);

/* How far chords may lie from curves so that the drawing does not show it, in the solid's unit. */
double sheet_tolerance(const DrawStyle *style, Vec3 box_min, Vec3 box_max);

/* Draws lines[view] of every view asked for; white paper, one channel. ERR_INPUT for a style or a
 * box that cannot be drawn. */
Err sheet_draw(Image *out, const DrawStyle *style, const ViewLines lines[VIEW_COUNT], Vec3 box_min,
               Vec3 box_max);

#endif
