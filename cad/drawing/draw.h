/* What an engineering drawing looks like: plain numbers, so that the style of any sample can be
 * stated, varied and kept. */
#ifndef CADVLM_CAD_DRAWING_DRAW_H
#define CADVLM_CAD_DRAWING_DRAW_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

typedef enum DrawView { VIEW_FRONT, VIEW_TOP, VIEW_RIGHT, VIEW_ISO, VIEW_COUNT } DrawView;

typedef enum DrawProjection {
    PROJECTION_THIRD_ANGLE, /* top above front, right view to its right (ANSI) */
    PROJECTION_FIRST_ANGLE  /* top below front, right view to its left (ISO) */
} DrawProjection;

typedef enum DrawDims {
    DIMS_NONE,
    DIMS_BESIDE, /* beside the part, as a draughtsman does */
    DIMS_FIXED   /* always at the same place of the sheet: easier to read for a small model */
} DrawDims;

typedef struct DrawStyle {
    int size; /* pixels a side; the sheet is square */
    DrawProjection projection;
    uint32_t views; /* bit (1 << DrawView) of every view that is drawn */
    DrawDims dims;
    bool hidden, centre_marks; /* dashed hidden lines; chain-dotted centre marks on circles */
    bool frame;                /* a border around the sheet */
    double visible_width, hidden_width,
        thin_width;           /* line widths in pixels; thin: centre and dimension lines */
    double dash_on, dash_off; /* of hidden lines, pixels */
    double text_height;       /* of dimension figures, pixels */
    double shift_x, shift_y;  /* moves everything, pixels (right, down) */
    double ink;               /* 1: black lines; less: grey */
    bool exact_hidden_lines; /* HLRBRep_Algo with a time limit instead of the polygonal algorithm */
} DrawStyle;

enum { DRAW_ALL_VIEWS = (1 << VIEW_COUNT) - 1, DRAW_SIZE_MIN = 64, DRAW_SIZE_MAX = 8192 };

/* The look of design/drawings: third angle, four views, dimensions beside the part; widths scale
 * with the size. */
DrawStyle draw_style_default(int size);

/* The sheet small models learn from: DIMS_FIXED in two by two tiles, each view centred in its tile.
 */
DrawStyle draw_style_tiles(int size);

/* ERR_INPUT with a sentence for a style that cannot be drawn: sizes, widths or views out of range.
 */
Err draw_style_check(const DrawStyle *style);

#endif
