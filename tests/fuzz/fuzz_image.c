/* PNG, JPEG and WebP files; what was decoded, encoded, is decoded to the same pixels. */
#include "core/file.h"
#include "image/image.h"
#include "image/resample.h"
#include "tests/fuzz/fuzz.h"

enum { PIXELS_MAX = 1 << 20 }; /* of a picture that is worked on further */

static void encode_and_decode(const Image *image) {
    Buf file = {0};
    Image again, small;
    ASSERT_OK(image_encode(&file, image));
    ASSERT_OK(image_decode(&again, file.data, file.size, image->channels, "encoded"));
    size_t bytes = (size_t)image->width * (size_t)image->height * (size_t)image->channels;
    ASSERT_TRUE(again.width == image->width && again.height == image->height);
    ASSERT_TRUE(!memcmp(again.pixels, image->pixels, bytes));
    ASSERT_OK(image_resize(&small, image, 16, 16));
    image_free(&small);
    image_free(&again);
    buf_free(&file);
}

void fuzz_one(const uint8_t *data, size_t size) {
    for (int channels = 1; channels <= 3; channels += 2) {
        Image image;
        if (image_decode(&image, data, size, channels, "input") != OK) continue;
        if ((int64_t)image.width * image.height <= PIXELS_MAX) encode_and_decode(&image);
        image_free(&image);
    }
}

void fuzz_seeds(void) {
    FileNames names;
    char folder[PATH_SIZE], path[PATH_SIZE];
    ASSERT_OK(path_format(folder, "%s/tests/golden/images", test_source_folder()));
    ASSERT_OK(file_list(&names, folder));
    for (size_t i = 0; i < names.count; i++) {
        ASSERT_OK(path_join(path, folder, names.names[i]));
        if (strcmp(path_extension(path), ".json") != 0) fuzz_seed_file(path);
    }
    file_names_free(&names);
}
