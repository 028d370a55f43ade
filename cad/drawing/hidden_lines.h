/* Views of a solid as lines: what is seen and what is hidden. */
#ifndef CADVLM_CAD_DRAWING_HIDDEN_LINES_H
#define CADVLM_CAD_DRAWING_HIDDEN_LINES_H

#include "cad/drawing/draw.h"
#include "cad/solid/solid.h"

typedef enum StrokeKind {
    STROKE_HIDDEN,
    STROKE_SMOOTH, /* where faces run into each other without a corner: only shown in space */
    STROKE_VISIBLE
} StrokeKind;

typedef enum StrokeShape { STROKE_SEGMENT, STROKE_ARC, STROKE_PATH } StrokeShape;

/* One line of a view, in the solid's unit, x to the right and y up. */
typedef struct Stroke {
    StrokeKind kind;
    StrokeShape shape;
    Vec2 from, to;               /* segment */
    Vec2 center;                 /* arc */
    double radius, start, sweep; /* arc: counter-clockwise from the angle `start`, sweep > 0 */
    int first, count;            /* path: points[first] … */
} Stroke;

/* A circle seen from the front, for a pair of centre lines. */
typedef struct CentreMark {
    Vec2 center;
    double radius;
} CentreMark;

typedef struct ViewLines {
    Stroke *strokes;
    int stroke_count;
    Vec2 *points;
    int point_count;
    CentreMark *marks;
    int mark_count;
    Vec2 min, max; /* of all strokes */
} ViewLines;

typedef struct LineOptions {
    uint32_t views;   /* bit (1 << DrawView) */
    double tolerance; /* how far chords may lie from their curve, in the solid's unit */
    bool exact;       /* curves by HLRBRep_Algo; falls back when it takes longer than … */
    double exact_seconds;
} LineOptions;

/* The direction to the viewer and the sheet's x axis of a view. */
void view_axes(DrawView view, Vec3 *to_viewer, Vec3 *x_axis);

/* Fills lines[view] for every view asked for; the rest are empty. False with a note when the kernel
 * threw. Free each with view_lines_free. */
bool hidden_lines(ViewLines lines[VIEW_COUNT], const Solid *solid, const LineOptions *options,
                  SolidNote *note);
void view_lines_free(ViewLines *lines);

#endif
