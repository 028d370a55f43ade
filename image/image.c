/* Pictures in memory. */
#include "image/image.h"

#include <stdlib.h>

#include "image/formats.h"

static Err take_memory(Image *image, int64_t width, int64_t height, int channels) {
    uint8_t *pixels = calloc((size_t)(width * height), (size_t)channels);
    REQUIRE(pixels, ERR_MEMORY, "out of memory: an image of %lld × %lld pixels", (long long)width,
            (long long)height);
    *image =
        (Image){.width = (int)width, .height = (int)height, .channels = channels, .pixels = pixels};
    return OK;
}

Err image_new(Image *image, int width, int height, int channels) {
    *image = (Image){0};
    CHECK(channels == 1 || channels == 3, "channels %d", channels);
    REQUIRE(width >= 1 && height >= 1 && width <= IMAGE_SIDE_MAX && height <= IMAGE_SIDE_MAX &&
                (int64_t)width * height <= IMAGE_PIXELS_MAX,
            ERR_INPUT,
            "an image of %d × %d pixels; 1 to %d a side and %d million in all are possible", width,
            height, IMAGE_SIDE_MAX, IMAGE_PIXELS_MAX / 1000000);
    return take_memory(image, width, height, channels);
}

Err image_new_raw(Image *raw, int64_t width, int64_t height, int channels, const char *name) {
    *raw = (Image){0};
    CHECK(channels >= 1 && channels <= 4, "channels %d", channels);
    REQUIRE(width >= 1 && height >= 1, ERR_INPUT, "%s has %lld × %lld pixels", name,
            (long long)width, (long long)height);
    REQUIRE(width <= IMAGE_SIDE_MAX && height <= IMAGE_SIDE_MAX &&
                width * height <= IMAGE_PIXELS_MAX,
            ERR_INPUT,
            "%s has %lld × %lld pixels; up to %d a side and %d million in all can be read: "
            "scale it down",
            name, (long long)width, (long long)height, IMAGE_SIDE_MAX, IMAGE_PIXELS_MAX / 1000000);
    return take_memory(raw, width, height, channels);
}

void image_free(Image *image) {
    free(image->pixels);
    *image = (Image){0};
}
