/* The decoders of single formats, and what they share. Private to the image module. */
#ifndef CADVLM_IMAGE_FORMATS_H
#define CADVLM_IMAGE_FORMATS_H

#include "image/image.h"

/* Each gives the file's pixels at 8 bits: raw->channels is 1 gray, 2 gray and alpha, 3 RGB, 4 RGB
 * and alpha; alpha is not multiplied in. After an error `raw` may hold memory: free it either way.
 * `name` opens the error sentence. */
Err png_decode(Image *raw, const uint8_t *bytes, size_t size, const char *name);
Err jpeg_decode(Image *raw, const uint8_t *bytes, size_t size, const char *name);
Err webp_decode(Image *raw, const uint8_t *bytes, size_t size, const char *name);

/* Memory for a decoder that has read the header: ERR_INPUT for a picture that is too large. */
Err image_new_raw(Image *raw, int64_t width, int64_t height, int channels, const char *name);

/* x / 255, to the nearest; x up to 255². */
static inline uint8_t divide_255(int x) {
    return (uint8_t)((x + 128 + ((x + 128) >> 8)) >> 8);
}

#endif
