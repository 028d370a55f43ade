/* From the bytes of a file to gray or RGB pixels: which format it is, and what becomes of its
 * channels. */
#include <ctype.h>
#include <string.h>

#include "core/file.h"
#include "image/formats.h"

enum { WHITE = 255 };

typedef struct Format {
    Err (*decode)(Image *raw, const uint8_t *bytes, size_t size, const char *name);
    size_t at; /* where in the file its mark stands */
    const char *mark;
} Format;

static const Format FORMATS[] = {{png_decode, 0, "\x89PNG\r\n\x1a\n"},
                                 {jpeg_decode, 0, "\xff\xd8\xff"},
                                 {webp_decode, 8, "WEBP"}};

static const Format *find_format(const uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < sizeof FORMATS / sizeof *FORMATS; i++) {
        const Format *f = &FORMATS[i];
        size_t end = f->at + strlen(f->mark);
        if (size >= end && !memcmp(bytes + f->at, f->mark, end - f->at)) return f;
    }
    return NULL;
}

/* What it begins with says what it is: GIF89a, %PDF-1.4, <svg. */
static Err fail_unknown(const uint8_t *bytes, size_t size, const char *name) {
    char start[13] = "";
    for (size_t i = 0; i < sizeof start - 1 && i < size; i++)
        start[i] = isprint(bytes[i]) ? (char)bytes[i] : '.';
    REQUIRE(size, ERR_INPUT, "%s is not a PNG image, nor JPEG or WebP: it is empty", name);
    FAIL(ERR_INPUT, "%s is not a PNG image, nor JPEG or WebP: it begins with \"%s\"", name, start);
}

/* ---- channels ---- */

/* Drops the last channel of two or four: lays the rest on white. In place; a pixel moves forward.
 */
static void lay_on_white(Image *raw) {
    int colours = raw->channels - 1;
    size_t n = (size_t)raw->width * (size_t)raw->height;
    uint8_t *out = raw->pixels;
    const uint8_t *in = raw->pixels;
    for (size_t i = 0; i < n; i++, in += colours + 1, out += colours) {
        int alpha = in[colours];
        for (int c = 0; c < colours; c++)
            out[c] = divide_255(in[c] * alpha + WHITE * (255 - alpha));
    }
    raw->channels = colours;
}

/* The weights of ITU-R 601 in 1/65536; they sum to it, so gray pixels keep their value. */
static void colour_to_gray(uint8_t *restrict out, const uint8_t *restrict in, size_t n) {
    enum { RED = 19595, GREEN = 38470, BLUE = 7471, HALF = 32768 };
    for (size_t i = 0; i < n; i++)
        out[i] =
            (uint8_t)((in[3 * i] * RED + in[3 * i + 1] * GREEN + in[3 * i + 2] * BLUE + HALF) >>
                      16);
}

static void gray_to_colour(uint8_t *restrict out, const uint8_t *restrict in, size_t n) {
    for (size_t i = 0; i < n; i++) out[3 * i] = out[3 * i + 1] = out[3 * i + 2] = in[i];
}

/* Moves the pixels of `raw` to `image`, as `channels` channels. */
static Err take_channels(Image *image, Image *raw, int channels) {
    if (raw->channels == 2 || raw->channels == 4) lay_on_white(raw);
    if (raw->channels == channels) {
        *image = *raw;
        *raw = (Image){0};
        return OK;
    }
    TRY(image_new(image, raw->width, raw->height, channels));
    size_t n = (size_t)raw->width * (size_t)raw->height;
    if (channels == 1)
        colour_to_gray(image->pixels, raw->pixels, n);
    else
        gray_to_colour(image->pixels, raw->pixels, n);
    return OK;
}

Err image_decode(Image *image, const void *bytes, size_t size, int channels, const char *name) {
    CHECK(channels == 1 || channels == 3, "channels %d", channels);
    *image = (Image){0};
    const Format *format = find_format(bytes, size);
    if (!format) return fail_unknown(bytes, size, name);
    Image raw = {0};
    Err err = format->decode(&raw, bytes, size, name);
    if (err == OK) err = take_channels(image, &raw, channels);
    image_free(&raw);
    return err;
}

Err image_read(Image *image, const char *path, int channels) {
    Buf bytes = {0};
    *image = (Image){0};
    Err err = file_read(&bytes, path, IMAGE_FILE_MAX);
    if (err == OK) err = image_decode(image, bytes.data, bytes.size, channels, path);
    buf_free(&bytes);
    return err;
}
