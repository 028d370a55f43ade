/* The one place that names libpng. */
#include "core/image.h"

#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"

enum { PNG_FILE_MAX = 256 << 20 };

Err image_new(Image *image, int width, int height, int channels) {
    *image = (Image){0};
    REQUIRE(width >= 1 && height >= 1 && width <= IMAGE_SIDE_MAX && height <= IMAGE_SIDE_MAX,
            ERR_INPUT, "an image of %d × %d pixels; 1 to %d a side are possible", width, height,
            IMAGE_SIDE_MAX);
    CHECK(channels == 1 || channels == 3, "channels %d", channels);
    uint8_t *pixels = calloc((size_t)width * (size_t)height, (size_t)channels);
    REQUIRE(pixels, ERR_MEMORY, "out of memory: an image of %d × %d pixels", width, height);
    *image = (Image){.width = width, .height = height, .channels = channels, .pixels = pixels};
    return OK;
}

void image_free(Image *image) {
    free(image->pixels);
    *image = (Image){0};
}

typedef struct PngSource {
    const uint8_t *bytes;
    size_t size, at;
    char message[128];
} PngSource;

static void read_bytes(png_structp png, png_bytep out, size_t size) {
    PngSource *source = png_get_io_ptr(png);
    if (size > source->size - source->at) png_error(png, "the file ends too early");
    memcpy(out, source->bytes + source->at, size);
    source->at += size;
}

static void on_error(png_structp png, png_const_charp message) {
    char *out = png_get_error_ptr(png);
    strncpy(out, message, 127);
    out[127] = 0;
    longjmp(png_jmpbuf(png), 1);
}

static void on_warning(png_structp png, png_const_charp message) {
    (void)png, (void)message;
}

/* Everything that may longjmp; `rows` and the image are the caller's to free. */
static int decode_png(png_structp png, png_infop info, Image *image, int channels,
                      png_bytep **rows) {
    if (setjmp(png_jmpbuf(png))) return 0;
    png_set_user_limits(png, IMAGE_SIDE_MAX, IMAGE_SIDE_MAX);
    png_read_info(png, info);
    png_set_strip_16(png);
    png_set_expand(png);
    png_byte color = png_get_color_type(png, info);
    int transparent = (color & PNG_COLOR_MASK_ALPHA) || png_get_valid(png, info, PNG_INFO_tRNS);
    if (transparent) {
        png_color_16 white = {.red = 255, .green = 255, .blue = 255, .gray = 255};
        png_set_background(png, &white, PNG_BACKGROUND_GAMMA_SCREEN, 0, 1.0);
    }
    if (channels == 1 && (color & PNG_COLOR_MASK_COLOR))
        png_set_rgb_to_gray(png, PNG_ERROR_ACTION_NONE, -1, -1);
    if (channels == 3 && !(color & PNG_COLOR_MASK_COLOR)) png_set_gray_to_rgb(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    if (png_get_channels(png, info) != channels || png_get_bit_depth(png, info) != 8)
        png_error(png, "a pixel format that is not understood");
    if (image_new(image, (int)png_get_image_width(png, info), (int)png_get_image_height(png, info),
                  channels) != OK)
        png_error(png, err_message());
    *rows = malloc((size_t)image->height * sizeof **rows);
    if (!*rows) png_error(png, "out of memory");
    for (int y = 0; y < image->height; y++)
        (*rows)[y] = image->pixels + (size_t)y * (size_t)image->width * (size_t)channels;
    png_read_image(png, *rows);
    png_read_end(png, NULL);
    return 1;
}

Err image_decode(Image *image, const void *bytes, size_t size, int channels, const char *name) {
    *image = (Image){0};
    REQUIRE(size >= 8 && png_sig_cmp(bytes, 0, 8) == 0, ERR_INPUT, "%s is not a PNG image", name);
    PngSource source = {.bytes = bytes, .size = size};
    png_structp png =
        png_create_read_struct(PNG_LIBPNG_VER_STRING, source.message, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    CHECK(png && info, "out of memory: a PNG reader");
    png_set_read_fn(png, &source, read_bytes);
    png_bytep *rows = NULL;
    int done = decode_png(png, info, image, channels, &rows);
    free(rows);
    png_destroy_read_struct(&png, &info, NULL);
    if (!done) {
        image_free(image);
        FAIL(ERR_INPUT, "%s: not a readable PNG image: %s", name, source.message);
    }
    return OK;
}

Err image_read(Image *image, const char *path, int channels) {
    Buf bytes = {0};
    *image = (Image){0};
    Err err = file_read(&bytes, path, PNG_FILE_MAX);
    if (err == OK) err = image_decode(image, bytes.data, bytes.size, channels, path);
    buf_free(&bytes);
    return err;
}

static void write_bytes(png_structp png, png_bytep bytes, size_t size) {
    buf_append(png_get_io_ptr(png), bytes, size);
}

static void flush_nothing(png_structp png) {
    (void)png;
}

static int encode_png(png_structp png, png_infop info, const Image *image) {
    if (setjmp(png_jmpbuf(png))) return 0;
    png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_UP);
    png_set_compression_level(png, 1);
    png_set_IHDR(png, info, (png_uint_32)image->width, (png_uint_32)image->height, 8,
                 image->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (int y = 0; y < image->height; y++)
        png_write_row(png,
                      image->pixels + (size_t)y * (size_t)image->width * (size_t)image->channels);
    png_write_end(png, info);
    return 1;
}

Err image_encode(Buf *out, const Image *image) {
    char message[128] = "";
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, message, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    CHECK(png && info, "out of memory: a PNG writer");
    png_set_write_fn(png, out, write_bytes, flush_nothing);
    int done = encode_png(png, info, image);
    png_destroy_write_struct(&png, &info);
    REQUIRE(done, ERR_MEMORY, "cannot encode a PNG image: %s", message);
    return OK;
}

Err image_write(const char *path, const Image *image) {
    Buf bytes = {0};
    Err err = image_encode(&bytes, image);
    if (err == OK) err = file_write(path, bytes.data, bytes.size);
    buf_free(&bytes);
    return err;
}
