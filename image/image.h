/* Pictures in memory, and the files they come from: PNG, JPEG and WebP.
 *
 * Decoded pixels are those that Pillow's Image.open(f).convert("RGB") gives ("L" for one channel),
 * which the published models were trained on. Three things differ, on purpose:
 *   - Transparency is laid on white. Pillow drops it and shows the colour stored beneath, which
 *     for a drawing with a transparent background is black nearly always: black lines on black.
 *   - 16-bit gray is cut to its upper 8 bits, as 16-bit colour is. Pillow clips it at 255, so all
 *     but the darkest 1/256 turns white.
 *   - A damaged or shortened file is an error even where a library only warns and fills in gray. */
#ifndef CADVLM_IMAGE_IMAGE_H
#define CADVLM_IMAGE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"

/* Interleaved 8-bit pixels, row by row, no padding. channels: 1 gray, 3 RGB. */
typedef struct Image {
    int width, height, channels;
    uint8_t *pixels; /* owned */
} Image;

/* A file of a few kilobytes can promise any size: more than this is refused before memory is
 * taken. While decoding, a pixel costs up to 11 bytes (a progressive JPEG of four components), so
 * the largest picture 1.5 GB; kept, it is 3 bytes. An A1 sheet at 300 dpi has 70 million pixels. */
enum { IMAGE_SIDE_MAX = 16384, IMAGE_PIXELS_MAX = 128 << 20, IMAGE_FILE_MAX = 256 << 20 };

/* All pixels 0. */
Err image_new(Image *image, int width, int height, int channels);
void image_free(Image *image);

/* Decodes a file into `channels` channels (1 or 3). Its first bytes say its format.
 * Palettes and CMYK are resolved, colour becomes gray by its luminance (ITU-R 601), the orientation
 * that a camera notes in EXIF is ignored as the reference does. `name` opens the error sentence. */
Err image_decode(Image *image, const void *bytes, size_t size, int channels, const char *name);
Err image_read(Image *image, const char *path, int channels);

/* Appends the PNG file of an image; fast rather than small (the filter "up", zlib level 1). */
Err image_encode(Buf *out, const Image *image);
Err image_write(const char *path, const Image *image);

#endif
