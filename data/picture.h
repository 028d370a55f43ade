/* Bringing a picture to the square that a vision tower reads, each way to the bit as the model's
 * own preparation in Python does it. */
#ifndef CADVLM_DATA_PICTURE_H
#define CADVLM_DATA_PICTURE_H

#include "core/err.h"
#include "image/image.h"

typedef enum PictureFit {
    PICTURE_EXACT,  /* it must have that size */
    PICTURE_SQUASH, /* SigLIP: resized to the square, its proportions lost */
    PICTURE_CROP, /* CLIP: the shorter side resized to the square's, the middle of the longer kept:
                     of a drawing of 4:3 a quarter is lost, an eighth at each side */
    PICTURE_PAD   /* TinyLLaVA's "pad": laid in the middle of a square of the background, then
                     resized: nothing is lost, and circles stay circles */
} PictureFit;

/* Makes size × size pixels with the channels of `in`. `background`, for PICTURE_PAD: the reference
 * takes trunc(255 · mean) of each channel's mean in the model's normalisation; gray takes the
 * first. Pixels that have their size already are not touched. */
Err picture_prepare(Image *out, const Image *in, int size, PictureFit fit,
                    const uint8_t background[3]);

#endif
