/* PNG files; the one place that names libpng. */
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "image/formats.h"

/* What libpng last said. A warning often says why the error came after it. */
typedef struct PngWords {
    char warning[96], error[224];
} PngWords;

static void on_warning(png_structp png, png_const_charp message) {
    PngWords *words = png_get_error_ptr(png);
    snprintf(words->warning, sizeof words->warning, "%s", message);
}

/* libpng leaves through longjmp. */
static void on_error(png_structp png, png_const_charp message) {
    PngWords *words = png_get_error_ptr(png);
    const char *why = words->warning;
    snprintf(words->error, sizeof words->error, "%.96s%s%s%s", message, *why ? " (" : "", why,
             *why ? ")" : "");
    longjmp(png_jmpbuf(png), 1);
}

/* ---- reading ---- */

typedef struct PngReader {
    const uint8_t *bytes;
    size_t size, at;
    png_structp png;
    png_infop info;
    png_bytep *rows; /* where each row of the picture goes */
    PngWords words;
} PngReader;

static void read_bytes(png_structp png, png_bytep out, size_t size) {
    PngReader *reader = png_get_io_ptr(png);
    if (size > reader->size - reader->at) png_error(png, "the file ends too early");
    memcpy(out, reader->bytes + reader->at, size);
    reader->at += size;
}

/* Everything that may longjmp back here. What it takes is in `r` and `raw`, freed outside. */
static Err read_png(PngReader *r, Image *raw, const char *name) {
    if (setjmp(png_jmpbuf(r->png)))
        FAIL(ERR_INPUT, "%s: not a readable PNG image: %s", name, r->words.error);
    /* Our own limits have a better sentence; until the pixels nothing large is allocated. */
    png_set_user_limits(r->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_read_info(r->png, r->info);
    png_set_expand(r->png); /* palettes, 1 to 4 bits, and transparency of single colours */
    png_set_strip_16(r->png);
    png_set_interlace_handling(r->png);
    int width = (int)png_get_image_width(r->png, r->info);
    int height = (int)png_get_image_height(r->png, r->info);
    png_byte type = png_get_color_type(r->png, r->info);
    int alpha = (type & PNG_COLOR_MASK_ALPHA) || png_get_valid(r->png, r->info, PNG_INFO_tRNS);
    TRY(image_new_raw(raw, width, height, (type & PNG_COLOR_MASK_COLOR ? 3 : 1) + !!alpha, name));
    png_read_update_info(r->png, r->info);
    size_t row_bytes = png_get_rowbytes(r->png, r->info);
    if (row_bytes != (size_t)width * (size_t)raw->channels)
        png_error(r->png, "a pixel format that is not understood");
    r->rows = malloc((size_t)height * sizeof *r->rows);
    CHECK(r->rows, "out of memory: %d rows of a picture", height);
    for (int y = 0; y < height; y++) r->rows[y] = raw->pixels + (size_t)y * row_bytes;
    png_read_image(r->png, r->rows);
    png_read_end(r->png, NULL);
    return OK;
}

Err png_decode(Image *raw, const uint8_t *bytes, size_t size, const char *name) {
    PngReader r = {.bytes = bytes, .size = size};
    r.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r.words, on_error, on_warning);
    r.info = r.png ? png_create_info_struct(r.png) : NULL;
    CHECK(r.info, "out of memory: a PNG reader");
    png_set_read_fn(r.png, &r, read_bytes);
    Err err = read_png(&r, raw, name);
    free(r.rows);
    png_destroy_read_struct(&r.png, &r.info, NULL);
    return err;
}

/* ---- writing ---- */

static void write_bytes(png_structp png, png_bytep bytes, size_t size) {
    buf_append(png_get_io_ptr(png), bytes, size);
}

static void flush_nothing(png_structp png) {
    (void)png;
}

static int write_png(png_structp png, png_infop info, const Image *image) {
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
    PngWords words = {0};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &words, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    CHECK(png && info, "out of memory: a PNG writer");
    png_set_write_fn(png, out, write_bytes, flush_nothing);
    int done = write_png(png, info, image);
    png_destroy_write_struct(&png, &info);
    REQUIRE(done, ERR_MEMORY, "cannot encode a PNG image: %s", words.error);
    return OK;
}

Err image_write(const char *path, const Image *image) {
    Buf bytes = {0};
    Err err = image_encode(&bytes, image);
    if (err == OK) err = file_write(path, bytes.data, bytes.size);
    buf_free(&bytes);
    return err;
}
