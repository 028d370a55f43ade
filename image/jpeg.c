/* JPEG files; the one place that names libjpeg.
 *
 * The accurate integer transform and smooth upsampling are the library's defaults, Pillow keeps
 * them, and so do we: other choices would move pixels by a few units. */
#include <stdio.h> /* jpeglib.h wants it first */

#include <jerror.h>
#include <jpeglib.h>
#include <setjmp.h>
#include <stdlib.h>

#include "image/formats.h"

/* A progressive file of a few kilobytes can have thousands of scans, each of which walks the whole
 * picture; encoders make about ten. */
enum { SCANS_MAX = 100 };

typedef struct JpegReader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf on_error;
    uint8_t *inks; /* one row of CMYK */
    char message[JMSG_LENGTH_MAX];
} JpegReader;

/* libjpeg's own handler would end the process. */
static void leave(j_common_ptr jpeg) {
    JpegReader *r = jpeg->client_data;
    jpeg->err->format_message(jpeg, r->message);
    longjmp(r->on_error, 1);
}

/* Where data are damaged or missing libjpeg warns and goes on with gray: that is an error here.
 * Oddities that cost no pixel are let pass. */
static void on_message(j_common_ptr jpeg, int level) {
    if (level >= 0) return; /* what it traces */
    switch (jpeg->err->msg_code) {
    case JWRN_EXTRANEOUS_DATA: /* bytes between two segments */
    case JWRN_ADOBE_XFORM:     /* an unknown colour code; decoded as the default */
    case JWRN_JFIF_MAJOR: /* a later version of the header */ return;
    default: leave(jpeg);
    }
}

static void print_nothing(j_common_ptr jpeg) {
    (void)jpeg;
}

static void on_progress(j_common_ptr jpeg) {
    JpegReader *r = jpeg->client_data;
    if (r->jpeg.input_scan_number <= SCANS_MAX) return;
    snprintf(r->message, sizeof r->message, "it has more than %d scans", SCANS_MAX);
    longjmp(r->on_error, 1);
}

/* Inks as Adobe writes them, 255 for no ink, to light: a colour is held back by its own ink and by
 * black. Both roundings are Pillow's. */
static void inks_to_colour(uint8_t *restrict out, const uint8_t *restrict inks, int width) {
    for (int x = 0; x < width; x++, out += 3, inks += 4)
        for (int c = 0; c < 3; c++)
            out[c] = (uint8_t)(inks[3] - divide_255((255 - inks[c]) * inks[3]));
}

/* Everything that may longjmp back here. What it takes is in `r` and `raw`, freed outside. */
static Err read_jpeg(JpegReader *r, Image *raw, const uint8_t *bytes, size_t size,
                     const char *name) {
    j_decompress_ptr jpeg = &r->jpeg;
    if (setjmp(r->on_error)) FAIL(ERR_INPUT, "%s: not a readable JPEG image: %s", name, r->message);
    jpeg_create_decompress(jpeg);
    jpeg->progress = &r->progress;
    jpeg_mem_src(jpeg, bytes, size);
    jpeg_read_header(jpeg, TRUE);
    int components = jpeg->num_components;
    REQUIRE(components == 1 || components == 3 || components == 4, ERR_INPUT,
            "%s has %d colour components; JPEG images of 1, 3 or 4 can be read", name, components);
    TRY(image_new_raw(raw, jpeg->image_width, jpeg->image_height, components == 1 ? 1 : 3, name));
    jpeg->out_color_space = components == 1   ? JCS_GRAYSCALE
                            : components == 3 ? JCS_RGB
                                              : JCS_CMYK; /* YCCK too */
    jpeg_start_decompress(jpeg);
    if (components == 4) {
        r->inks = malloc((size_t)raw->width * 4);
        CHECK(r->inks, "out of memory: a row of %d pixels", raw->width);
    }
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *out = raw->pixels +
                       (size_t)jpeg->output_scanline * (size_t)raw->width * (size_t)raw->channels;
        jpeg_read_scanlines(jpeg, r->inks ? &r->inks : &out, 1);
        if (r->inks) inks_to_colour(out, r->inks, raw->width);
    }
    jpeg_finish_decompress(jpeg);
    return OK;
}

Err jpeg_decode(Image *raw, const uint8_t *bytes, size_t size, const char *name) {
    JpegReader *r = calloc(1, sizeof *r);
    CHECK(r, "out of memory: a JPEG reader");
    r->jpeg.client_data = r;
    r->jpeg.err = jpeg_std_error(&r->errors);
    r->errors.error_exit = leave;
    r->errors.emit_message = on_message;
    r->errors.output_message = print_nothing;
    r->progress.progress_monitor = on_progress;
    Err err = read_jpeg(r, raw, bytes, size, name);
    jpeg_destroy_decompress(&r->jpeg);
    free(r->inks);
    free(r);
    return err;
}
