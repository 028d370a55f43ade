/* Pictures: decoding, resizing and fitting against Pillow and the image processors of transformers
 * (tools/image_golden.py makes the files), and files that are not what they should be. */
#include "core/file.h"
#include "core/json.h"
#include "core/rng.h"
#include "data/picture.h"
#include "image/image.h"
#include "image/resample.h"
#include "image/resample_loops.h"
#include "tests/data/batches_fixture.h"
#include "tests/support/test.h"

enum { JSON_MAX = 16 << 20, FILE_MAX = 64 << 20 };

/* ---- what the reference gives ---- */

static const char *golden_path(const char *name) {
    static char path[PATH_SIZE];
    const char *folder = getenv("CADVLM_IMAGE_GOLDEN"); /* other pictures, for a check by hand */
    if (folder)
        snprintf(path, sizeof path, "%s/%s", folder, name);
    else
        snprintf(path, sizeof path, "%s/tests/golden/images/%s", test_source_folder(), name);
    return path;
}

static Json *read_expected(void) {
    Json *root;
    ASSERT_OK(js_read(&root, golden_path("expected.json"), JSON_MAX));
    return root;
}

static int number_of(const Json *entry, const char *key) {
    int64_t value;
    ASSERT_OK(js_need_integer(&value, entry, key, "expected.json"));
    return (int)value;
}

static const char *text_of(const Json *entry, const char *key) {
    const char *text;
    ASSERT_OK(js_need_text(&text, entry, key, "expected.json"));
    return text;
}

/* The size, then the first bytes, which say more than a hash, then FNV-1a of all of them. */
static void assert_pixels(const Image *image, int width, int height, const Json *told,
                          const char *what) {
    size_t bytes = (size_t)image->width * (size_t)image->height * (size_t)image->channels;
    const char *first = text_of(told, "first");
    char digits[17] = "";
    ASSERT_INT(image->width, ==, width);
    ASSERT_INT(image->height, ==, height);
    for (size_t i = 0; i < strlen(first) / 2; i++) {
        snprintf(digits, sizeof digits, "%02x", image->pixels[i]);
        ASSERT(!strncmp(digits, first + 2 * i, 2), "%s: byte %zu is %s in %s", what, i, digits,
               first);
    }
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ image->pixels[i]) * 0x100000001b3;
    snprintf(digits, sizeof digits, "%016llx", (unsigned long long)hash);
    ASSERT(!strcmp(digits, text_of(told, "hash")), "%s: pixels differ behind the first", what);
}

TEST(decoded_pixels_are_those_of_pillow) {
    Json *root = read_expected();
    const Json *list = js_get(root, "decode");
    for (size_t i = 0; i < js_count(list); i++) {
        const Json *entry = js_at(list, i);
        const char *file = text_of(entry, "file");
        for (int channels = 1; channels <= 3; channels += 2) {
            Image image;
            ASSERT_OK(image_read(&image, golden_path(file), channels));
            ASSERT_INT(image.channels, ==, channels);
            assert_pixels(&image, number_of(entry, "width"), number_of(entry, "height"),
                          js_get(entry, channels == 1 ? "gray" : "rgb"), file);
            image_free(&image);
        }
    }
    ASSERT_INT(js_count(list), >, 0);
    printf("%zu files, in colour and in gray\n", js_count(list));
    js_free(&root);
}

/* The formulas of tools/image_golden.py. */
static uint8_t made_value(const char *kind, uint32_t x, uint32_t y, uint32_t c, const Image *of) {
    if (!strcmp(kind, "noise")) {
        uint32_t v = x * 374761393u + y * 668265263u + c * 2246822519u;
        v = (v ^ v >> 13) * 1274126177u;
        return (uint8_t)(v ^ v >> 16);
    }
    if (!strcmp(kind, "gradient")) return (uint8_t)(x * 255 / (uint32_t)of->width + y * 2 + c * 40);
    bool straight = x % 37 == 0 || y % 29 == 0 || (x * x + y * y) % 20011 < 2 * (x + y);
    bool red = (3 * x + 2 * y) % 101 < 3 && !straight;
    return straight || (red && !(of->channels == 3 && c == 0)) ? 0 : 255;
}

static void make_image(Image *image, const char *kind, int width, int height, int channels) {
    ASSERT_OK(image_new(image, width, height, channels));
    uint8_t *at = image->pixels;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < channels; c++)
                *at++ = made_value(kind, (uint32_t)x, (uint32_t)y, (uint32_t)c, image);
}

/* A made picture, or a file. */
static void take_image(Image *image, const Json *entry, char what[128]) {
    const char *file = js_text(js_get(entry, "file"), NULL);
    if (file) {
        snprintf(what, 128, "%s", file);
        ASSERT_OK(image_read(image, golden_path(file), 3));
        return;
    }
    const char *kind = text_of(entry, "kind");
    make_image(image, kind, number_of(entry, "width"), number_of(entry, "height"),
               number_of(entry, "channels"));
    snprintf(what, 128, "%s %d × %d × %d", kind, image->width, image->height, image->channels);
}

TEST(resized_pixels_are_those_of_pillow) {
    Json *root = read_expected();
    const Json *list = js_get(root, "resize");
    for (size_t i = 0; i < js_count(list); i++) {
        Image in, out;
        char what[128];
        int64_t width, height;
        const Json *entry = js_at(list, i), *to = js_get(entry, "to");
        ASSERT_TRUE(js_integer(js_at(to, 0), &width) && js_integer(js_at(to, 1), &height));
        take_image(&in, entry, what);
        ASSERT_OK(image_resize(&out, &in, (int)width, (int)height));
        assert_pixels(&out, (int)width, (int)height, entry, what);
        image_free(&in);
        image_free(&out);
    }
    printf("%zu pictures\n", js_count(list));
    js_free(&root);
}

TEST(fitted_pixels_are_those_of_the_processors) {
    static const char *const names[] = {"exact", "squash", "crop", "pad"};
    Json *root = read_expected();
    const Json *list = js_get(root, "fit");
    uint8_t background[3];
    for (size_t c = 0; c < 3; c++) {
        int64_t value;
        ASSERT_TRUE(js_integer(js_at(js_get(root, "pad_background"), c), &value));
        background[c] = (uint8_t)value;
    }
    for (size_t i = 0; i < js_count(list); i++) {
        Image in, out;
        char what[128];
        const Json *entry = js_at(list, i);
        int size = number_of(entry, "size"), fit = 0;
        while (strcmp(names[fit], text_of(entry, "fit")) != 0) fit++;
        take_image(&in, entry, what);
        ASSERT_OK(picture_prepare(&out, &in, size, (PictureFit)fit, background));
        assert_pixels(&out, size, size, entry, what);
        image_free(&in);
        image_free(&out);
    }
    ASSERT_INT(js_count(list), >, 0);
    printf("%zu pictures\n", js_count(list));
    js_free(&root);
}

/* ---- resizing ---- */

static void assert_same(const Image *a, const Image *b) {
    ASSERT_INT(a->width, ==, b->width);
    ASSERT_INT(a->height, ==, b->height);
    ASSERT_INT(a->channels, ==, b->channels);
    size_t bytes = (size_t)a->width * (size_t)a->height * (size_t)a->channels;
    for (size_t i = 0; i < bytes; i++)
        ASSERT(a->pixels[i] == b->pixels[i], "byte %zu of %d × %d: %d and %d", i, a->width,
               a->height, a->pixels[i], b->pixels[i]);
}

/* Copies `size` of `from`, from (x, y) on, to (left, top) of `to`. */
static void paste(Image *to, int left, int top, const Image *from, int x, int y, int width,
                  int height) {
    for (int row = 0; row < height; row++)
        memcpy(to->pixels + ((top + row) * to->width + left) * to->channels,
               from->pixels + ((y + row) * from->width + x) * from->channels,
               (size_t)(width * to->channels));
}

TEST(frame_is_sheet_resize_and_window_one_after_the_other) {
    Rng rng;
    rng_open(&rng, 1, RNG_TEST, 0);
    for (int i = 0; i < 300; i++) {
        int channels = i % 2 ? 3 : 1;
        Image in, sheet, resized, window, out;
        make_image(&in, "noise", 1 + (int)rng_below(&rng, 90), 1 + (int)rng_below(&rng, 90),
                   channels);
        ImageFrame f = {.left = (int)rng_below(&rng, 40), .top = (int)rng_below(&rng, 80)};
        f.sheet_width = f.left + in.width + (int)rng_below(&rng, 40);
        f.sheet_height = f.top + in.height + (int)rng_below(&rng, 80);
        for (int c = 0; c < 3; c++) f.background[c] = (uint8_t)rng_below(&rng, 256);
        f.width = 1 + (int)rng_below(&rng, 150);
        f.height = 1 + (int)rng_below(&rng, 150);
        f.window_width = 1 + (int)rng_below(&rng, (uint32_t)f.width);
        f.window_height = 1 + (int)rng_below(&rng, (uint32_t)f.height);
        f.window_left = (int)rng_below(&rng, (uint32_t)(f.width - f.window_width + 1));
        f.window_top = (int)rng_below(&rng, (uint32_t)(f.height - f.window_height + 1));

        ASSERT_OK(image_new(&sheet, f.sheet_width, f.sheet_height, channels));
        for (int p = 0; p < sheet.width * sheet.height; p++)
            memcpy(sheet.pixels + p * channels, f.background, (size_t)channels);
        paste(&sheet, f.left, f.top, &in, 0, 0, in.width, in.height);
        ASSERT_OK(image_resize(&resized, &sheet, f.width, f.height));
        ASSERT_OK(image_new(&window, f.window_width, f.window_height, channels));
        paste(&window, 0, 0, &resized, f.window_left, f.window_top, window.width, window.height);
        ASSERT_OK(image_reframe(&out, &in, &f));
        assert_same(&out, &window);
        image_free(&in);
        image_free(&sheet);
        image_free(&resized);
        image_free(&window);
        image_free(&out);
    }
}

static const ResampleLoops *const ALL_LOOPS[] = {
    &resample_loops_base,
#ifdef __x86_64__
    &resample_loops_avx2,
    &resample_loops_avx512,
#endif
};

static bool runs_here(int loops) {
#ifdef __x86_64__
    if (loops == 1) return __builtin_cpu_supports("avx2");
    if (loops == 2) return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#endif
    return loops == 0;
}

TEST(loops_of_every_instruction_set_give_the_exact_sum) {
    enum { TAPS = 9, STEP = 3 * LANES, ROWS = 40, COLUMNS = 72 };
    static uint8_t in[TAPS * STEP], turned[COLUMNS * ROWS], out[LANES];
    Rng rng;
    rng_open(&rng, 2, RNG_TEST, 0);
    for (int i = 0; i < TAPS * STEP; i++) in[i] = (uint8_t)rng_below(&rng, 256);
    for (int n = 0; n < (int)(sizeof ALL_LOOPS / sizeof *ALL_LOOPS); n++) {
        const ResampleLoops *loops = ALL_LOOPS[n];
        if (!runs_here(n)) continue;
        printf("%s\n", loops->name);
        for (int taps = 1; taps <= TAPS; taps++) {
            int32_t weights[TAPS];
            /* The sums of a few reach beyond 0 and 255. */
            for (int k = 0; k < taps; k++)
                weights[k] = (int32_t)rng_below(&rng, 1 << 21) - (1 << 19);
            loops->weigh(out, in, STEP, weights, taps);
            for (int i = 0; i < LANES; i++) {
                int64_t sum = 1 << 21;
                for (int k = 0; k < taps; k++) sum += (int64_t)weights[k] * in[k * STEP + i];
                sum >>= 22;
                ASSERT_INT(out[i], ==, sum < 0 ? 0 : sum > 255 ? 255 : sum);
            }
        }
        loops->transpose(turned, ROWS, in, COLUMNS, ROWS / 2 + 4, COLUMNS);
        for (int y = 0; y < ROWS / 2 + 4; y++)
            for (int x = 0; x < COLUMNS; x++)
                ASSERT_INT(turned[x * ROWS + y], ==, in[y * COLUMNS + x]);
    }
}

TEST(pictures_of_one_colour_keep_it) {
    for (int value = 0; value < 256; value += 5) {
        Image in, out;
        ASSERT_OK(image_new(&in, 113, 71, 1));
        memset(in.pixels, value, 113 * 71);
        ASSERT_OK(image_resize(&out, &in, 64 + value, 30));
        for (int i = 0; i < out.width * out.height; i++) ASSERT_INT(out.pixels[i], ==, value);
        image_free(&in);
        image_free(&out);
    }
}

TEST(impossible_sizes_are_refused) {
    Image in, out;
    ASSERT_OK(image_new(&in, 2, 9000, 1));
    ASSERT_ERR(image_resize(&out, &in, 0, 5), ERR_INPUT, "resized to 0 × 5 pixels; 1 to 16384");
    ASSERT_ERR(image_resize(&out, &in, 5, 16385), ERR_INPUT, "resized to 5 × 16385");
    ASSERT_ERR(image_resize(&out, &in, 16384, 16384), ERR_INPUT, "16384 pixels a row in 9000 rows");
    ASSERT_TRUE(out.pixels == NULL);
    ASSERT_ERR(image_new(&out, 16384, 16384, 3), ERR_INPUT, "134 million in all");
    image_free(&in);
}

/* ---- fitting ---- */

TEST(pictures_of_the_right_size_are_not_touched) {
    for (int fit = PICTURE_EXACT; fit <= PICTURE_PAD; fit++) {
        Image in, out;
        make_image(&in, "noise", 50, 50, 3);
        ASSERT_OK(picture_prepare(&out, &in, 50, (PictureFit)fit, (uint8_t[3]){9, 9, 9}));
        assert_same(&in, &out);
        image_free(&in);
        image_free(&out);
    }
}

TEST(exact_fit_refuses_another_size) {
    Image in, out;
    make_image(&in, "noise", 50, 40, 1);
    ASSERT_ERR(picture_prepare(&out, &in, 50, PICTURE_EXACT, (uint8_t[3]){0}), ERR_INPUT,
               "its picture has 50 × 40 pixels where the model takes 50 × 50: draw it in that "
               "size, or set model.vision.fit");
    ASSERT_TRUE(out.pixels == NULL);
    image_free(&in);
}

TEST(crop_loses_the_sides_and_pad_keeps_them) {
    Image in, out;
    ASSERT_OK(image_new(&in, 640, 480, 1));
    memset(in.pixels, 255, 640 * 480);
    for (int y = 0; y < 480; y++) memset(in.pixels + y * 640, 0, 60); /* a bar at the left */
    ASSERT_OK(picture_prepare(&out, &in, 224, PICTURE_CROP, (uint8_t[3]){100}));
    for (int i = 0; i < 224 * 224; i++) ASSERT_INT(out.pixels[i], ==, 255);
    image_free(&out);
    ASSERT_OK(picture_prepare(&out, &in, 224, PICTURE_PAD, (uint8_t[3]){100}));
    ASSERT_INT(out.pixels[5 * 224], ==, 100); /* above the picture */
    ASSERT_INT(out.pixels[112 * 224 + 10], ==, 0);
    ASSERT_INT(out.pixels[112 * 224 + 200], ==, 255);
    image_free(&out);
    image_free(&in);
}

/* One pixel wide and as long as can be: resized by its shorter side it would have 56 million
 * pixels, on a square 268 million. */
TEST(strips_take_no_more_memory_than_other_pictures) {
    for (int upright = 0; upright < 2; upright++)
        for (int fit = PICTURE_SQUASH; fit <= PICTURE_PAD; fit++) {
            Image in, out;
            ASSERT_OK(
                image_new(&in, upright ? 1 : IMAGE_SIDE_MAX, upright ? IMAGE_SIDE_MAX : 1, 3));
            memset(in.pixels, 70, 3 * IMAGE_SIDE_MAX);
            ASSERT_OK(picture_prepare(&out, &in, 384, (PictureFit)fit, (uint8_t[3]){70, 70, 70}));
            for (int i = 0; i < 384 * 384 * 3; i++) ASSERT_INT(out.pixels[i], ==, 70);
            image_free(&in);
            image_free(&out);
        }
}

TEST(batches_bring_pictures_to_the_size_of_the_model) {
    Dataset *dataset = make_dataset(&(Made){"set", 4, SIDE, 0, NULL});
    BatchesOptions options = options_for(dataset);
    Batch *batch;
    Sample sample;
    Buf memory = {0};
    Image in, fitted;
    options.image_size = 7;
    ASSERT_ERR(batch_build(&batch, &options, dataset, (size_t[]){1}, 1), ERR_INPUT,
               "sample 1 (set-1): its picture has 12 × 12 pixels where the model takes 7 × 7");
    for (int fit = PICTURE_SQUASH; fit <= PICTURE_PAD; fit++) {
        options.image_fit = (PictureFit)fit;
        options.image_background[0] = 40;
        ASSERT_OK(dataset_read(dataset, 1, &sample, &memory));
        ASSERT_OK(image_decode(&in, sample.image, sample.image_size, 1, "sample"));
        ASSERT_OK(picture_prepare(&fitted, &in, 7, options.image_fit, options.image_background));
        ASSERT_OK(batch_build(&batch, &options, dataset, (size_t[]){0, 1}, 2));
        ASSERT_INT(batch->image_size, ==, 7);
        ASSERT_INT(memcmp(batch->pixels + 49, fitted.pixels, 49), ==, 0);
        image_free(&in);
        image_free(&fitted);
        batch_free(&batch);

        make_image(&in, "noise", 31, 9, 1);
        ASSERT_OK(picture_prepare(&fitted, &in, 7, options.image_fit, options.image_background));
        ASSERT_OK(batch_build_prompts(&batch, &options, &in, NULL, (const char *[]){"a.png"}, 1));
        ASSERT_INT(memcmp(batch->pixels, fitted.pixels, 49), ==, 0);
        image_free(&in);
        image_free(&fitted);
        batch_free(&batch);
    }
    buf_free(&memory);
    dataset_close(&dataset);
}

/* ---- files that are not what they should be ---- */

TEST(files_that_cannot_be_read_say_why) {
    static const struct {
        const char *file, *sentence;
    } bad[] = {
        {"bad_wide.png", "bad_wide.png has 40000 × 1 pixels; up to 16384 a side"},
        {"bad_wide.jpg", "bad_wide.jpg has 40000 × 47 pixels; up to 16384 a side"},
        {"bad_many.png", "has 16384 × 16384 pixels; up to 16384 a side and 134 million in all"},
        {"bad_many.jpg", "134 million in all can be read: scale it down"},
        {"bad_many.webp", "has 16383 × 16383 pixels"},
        {"bad_zero.png", "bad_zero.png: not a readable PNG image: Invalid IHDR data (Image width"},
        {"bad_zero.jpg", "bad_zero.jpg: not a readable JPEG image: Empty JPEG image"},
        {"bad_scans.jpg", "it has more than 100 scans"},
        {"bad_animation.webp", "is an animation: save one picture of it"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Image image;
        ASSERT_ERR(image_read(&image, golden_path(bad[i].file), 3), ERR_INPUT, bad[i].sentence);
        ASSERT_TRUE(image.pixels == NULL);
    }
}

TEST(files_of_other_kinds_are_told_by_their_first_bytes) {
    Image image;
    const char *text = "# A part\nimport math\n";
    ASSERT_OK(file_write(test_path("note.png"), text, strlen(text)));
    ASSERT_ERR(image_read(&image, test_path("note.png"), 1), ERR_INPUT,
               "note.png is not a PNG image, nor JPEG or WebP: it begins with \"# A part.imp\"");
    ASSERT_OK(file_write(test_path("empty.png"), "", 0));
    ASSERT_ERR(image_read(&image, test_path("empty.png"), 1), ERR_INPUT,
               "empty.png is not a PNG image, nor JPEG or WebP: it is empty");
    ASSERT_ERR(image_decode(&image, "GIF89a", 6, 3, "a.png"), ERR_INPUT, "begins with \"GIF89a\"");
    ASSERT_ERR(image_decode(&image, "RIFF\x24\0\0\0WAVE", 12, 3, "a.webp"), ERR_INPUT, "nor JPEG");
    ASSERT_ERR(image_decode(&image, "\xff\xd8\xff", 3, 3, "a.jpg"), ERR_INPUT,
               "a.jpg: not a readable JPEG image: Premature end");
    ASSERT_ERR(image_decode(&image, "RIFF\x40\0\0\0WEBP", 12, 3, "a.webp"), ERR_INPUT,
               "a.webp: not a readable WebP image: the file ends too early");
}

/* Calls `check` for every golden picture that can be read. */
static void for_each_file(void (*check)(const char *name, const Buf *bytes, const Image *whole)) {
    Json *root = read_expected();
    const Json *list = js_get(root, "decode");
    Buf bytes = {0};
    for (size_t i = 0; i < js_count(list); i++) {
        Image whole;
        const char *name = text_of(js_at(list, i), "file");
        ASSERT_OK(file_read(&bytes, golden_path(name), FILE_MAX));
        ASSERT_OK(image_decode(&whole, bytes.data, bytes.size, 3, name));
        check(name, &bytes, &whole);
        image_free(&whole);
    }
    buf_free(&bytes);
    js_free(&root);
}

/* In a block of its own size, so that a sanitizer sees reads past the cut. */
static Err decode_copy(Image *image, const char *bytes, size_t size) {
    char *copy = malloc(size ? size : 1);
    ASSERT_TRUE(copy != NULL);
    memcpy(copy, bytes, size);
    Err err = image_decode(image, copy, size, 3, "cut");
    free(copy);
    return err;
}

/* What is left may be the whole picture where only the end mark is missing: 12 bytes of PNG. */
static void check_cuts(const char *name, const Buf *bytes, const Image *whole) {
    size_t step = bytes->size < 4096 ? 8 : 64;
    for (size_t cut = 0; cut < bytes->size; cut += step) {
        Image image;
        Err err = decode_copy(&image, bytes->data, cut);
        if (err != OK) {
            ASSERT_INT(err, ==, ERR_INPUT);
            continue;
        }
        ASSERT(cut + 12 >= bytes->size, "%s is read from %zu of %zu bytes", name, cut, bytes->size);
        assert_same(&image, whole);
        image_free(&image);
    }
}

TEST(files_cut_short_are_errors) {
    for_each_file(check_cuts);
}

static void check_damage(const char *name, const Buf *bytes, const Image *whole) {
    Rng rng;
    rng_open(&rng, bytes->size, RNG_TEST, 0);
    (void)name, (void)whole;
    for (int i = 0; i < 200; i++) {
        Image image;
        size_t at = rng_below(&rng, (uint32_t)bytes->size);
        char before = bytes->data[at];
        bytes->data[at] = (char)(before ^ (1 << rng_below(&rng, 8)));
        if (decode_copy(&image, bytes->data, bytes->size) == OK) image_free(&image);
        bytes->data[at] = before;
    }
}

TEST(damaged_files_do_no_harm) {
    for_each_file(check_damage);
}
