/* Resizing: the bicubic filter of Pillow (Image.resize, BICUBIC), to the bit.
 *
 * When a picture shrinks the filter widens with it, so that no line of a drawing falls between two
 * pixels. Weights are whole numbers of 22 bits; the columns are made first and rounded to 8 bits,
 * then the rows. */
#ifndef CADVLM_IMAGE_RESAMPLE_H
#define CADVLM_IMAGE_RESAMPLE_H

#include "image/image.h"

Err image_resize(Image *out, const Image *in, int width, int height);

/* Three steps at the price of what is kept in the end:
 *   1. the picture is laid on a sheet of one colour,
 *   2. the sheet is resized,
 *   3. a window is cut out of it.
 * Neither the sheet nor the rest of the resized one is ever in memory. */
typedef struct ImageFrame {
    int sheet_width, sheet_height; /* up to IMAGE_SIDE_MAX */
    int left, top;                 /* of the picture on the sheet; it must fit */
    uint8_t background[3];         /* of the sheet; gray takes the first */
    int width, height;             /* of the resized sheet */
    int window_left, window_top, window_width, window_height; /* on the resized sheet */
} ImageFrame;

Err image_reframe(Image *out, const Image *in, const ImageFrame *frame);

#endif
