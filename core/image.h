/* Pictures in memory, and PNG files. */
#ifndef CADVLM_CORE_IMAGE_H
#define CADVLM_CORE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"

/* Interleaved 8-bit pixels, row by row, no padding. channels: 1 gray, 3 RGB. */
typedef struct Image {
    int width, height, channels;
    uint8_t *pixels; /* owned */
} Image;

enum { IMAGE_SIDE_MAX = 16384 };

Err image_new(Image *image, int width, int height, int channels);
void image_free(Image *image);

/* Decodes PNG bytes into `channels` channels (1 or 3): 16 bits are cut to 8, a palette is resolved,
 * transparency is laid on white, colour becomes gray by its luminance. `name` opens the error
 * sentence. */
Err image_decode(Image *image, const void *bytes, size_t size, int channels, const char *name);
Err image_read(Image *image, const char *path, int channels);

/* Appends the PNG file of an image; fast rather than small (the filter "up", zlib level 1). */
Err image_encode(Buf *out, const Image *image);
Err image_write(const char *path, const Image *image);

#endif
