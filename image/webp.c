/* WebP files, lossy and lossless; the one place that names libwebp. */
#include <webp/decode.h>

#include "image/formats.h"

/* libwebp gives numbers; these are their words. */
static const char *status_text(VP8StatusCode status) {
    switch (status) {
    case VP8_STATUS_OUT_OF_MEMORY: return "out of memory";
    case VP8_STATUS_BITSTREAM_ERROR: return "its data are damaged";
    case VP8_STATUS_UNSUPPORTED_FEATURE: return "it uses a feature that libwebp does not know";
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA: return "the file ends too early";
    default: return "libwebp cannot decode it";
    }
}

Err webp_decode(Image *raw, const uint8_t *bytes, size_t size, const char *name) {
    WebPDecoderConfig config;
    CHECK(WebPInitDecoderConfig(&config), "libwebp has another version than its header");
    VP8StatusCode status = WebPGetFeatures(bytes, size, &config.input);
    REQUIRE(status == VP8_STATUS_OK, ERR_INPUT, "%s: not a readable WebP image: %s", name,
            status_text(status));
    REQUIRE(!config.input.has_animation, ERR_INPUT,
            "%s is an animation: save one picture of it as a WebP or PNG image", name);
    TRY(image_new_raw(raw, config.input.width, config.input.height, config.input.has_alpha ? 4 : 3,
                      name));
    size_t stride = (size_t)raw->width * (size_t)raw->channels;
    config.output.colorspace = config.input.has_alpha ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA = (WebPRGBABuffer){
        .rgba = raw->pixels, .stride = (int)stride, .size = stride * (size_t)raw->height};
    status = WebPDecode(bytes, size, &config);
    REQUIRE(status == VP8_STATUS_OK, ERR_INPUT, "%s: not a readable WebP image: %s", name,
            status_text(status));
    return OK;
}
