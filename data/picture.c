/* Where the picture lies, how large it becomes and what is kept of it, for each way to fit. */
#include "data/picture.h"

#include <string.h>

#include "image/resample.h"

static Err copy(Image *out, const Image *in) {
    TRY(image_new(out, in->width, in->height, in->channels));
    memcpy(out->pixels, in->pixels, (size_t)in->width * (size_t)in->height * (size_t)in->channels);
    return OK;
}

/* Floor division: SIZE · long / short is what Python's int() of the quotient gives too, since no
 * quotient of such small numbers rounds up to a whole one. */
static void keep_middle(ImageFrame *f, int size) {
    int64_t width = f->sheet_width, height = f->sheet_height;
    f->width = width <= height ? size : (int)(size * width / height);
    f->height = width <= height ? (int)(size * height / width) : size;
    f->window_left = (f->width - size) / 2;
    f->window_top = (f->height - size) / 2;
}

static void lay_in_square(ImageFrame *f, const uint8_t background[3]) {
    int side = f->sheet_width > f->sheet_height ? f->sheet_width : f->sheet_height;
    f->left = (side - f->sheet_width) / 2;
    f->top = (side - f->sheet_height) / 2;
    f->sheet_width = f->sheet_height = side;
    memcpy(f->background, background, sizeof f->background);
}

Err picture_prepare(Image *out, const Image *in, int size, PictureFit fit,
                    const uint8_t background[3]) {
    *out = (Image){0};
    if (in->width == size && in->height == size) return copy(out, in);
    REQUIRE(fit != PICTURE_EXACT, ERR_INPUT,
            "its picture has %d × %d pixels where the model takes %d × %d: draw it in that size, "
            "or set model.vision.fit",
            in->width, in->height, size, size);
    ImageFrame frame = {.sheet_width = in->width,
                        .sheet_height = in->height,
                        .width = size,
                        .height = size,
                        .window_width = size,
                        .window_height = size};
    if (fit == PICTURE_CROP) keep_middle(&frame, size);
    if (fit == PICTURE_PAD) lay_in_square(&frame, background);
    return image_reframe(out, in, &frame);
}
