/* What of a solid is seen in a view, by a depth buffer over a fine mesh: an answer to "which lines
 * are visible" that shares nothing with hidden-line removal. */
#ifndef CADVLM_TESTS_CAD_DEPTH_IMAGE_H
#define CADVLM_TESTS_CAD_DEPTH_IMAGE_H

#include "cad/drawing/hidden_lines.h"

enum { DEPTH_SIDE = 400 }; /* pixels */

typedef struct DepthPixel {
    bool covered;
    double depth;     /* towards the viewer */
    double normal[3]; /* of the triangle seen, in the view's axes */
} DepthPixel;

typedef struct DepthImage {
    DepthPixel *pixels; /* DEPTH_SIDE a row, y up */
    double scale;       /* pixels a unit */
    Vec2 origin;        /* of pixel (0, 0) */
    double size;        /* the diagonal of the solid's box */
} DepthImage;

/* `corners`: three a triangle. */
void depth_image_open(DepthImage *image, const Vec3 *corners, int triangles, DrawView view);
void depth_image_close(DepthImage *image);

/* Lines against a depth image, as shares of the length that should be visible. A jump of depth or
 * a sharp change of the normal between two pixels is an edge. */
typedef struct DepthVerdict {
    double missing; /* edges with no visible line near them */
    double extra;   /* visible lines with no edge near them */
    double leak;    /* of the solid's pixels that a flood from outside reaches between the lines */
} DepthVerdict;
DepthVerdict depth_image_judge(const DepthImage *image, const ViewLines *lines);

#endif
