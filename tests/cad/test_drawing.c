/* cad: drawings: what must hold of every one, whatever it shows. */
#include "cad/drawing/draw.h"
#include "cad/drawing/lettering.h"
#include "cad/drawing/sheet.h"
#include "cad/worker/worker.h"
#include "core/hash.h"
#include "image/image.h"
#include "tests/cad/parts.h"

static CadPool *open_pool(int workers) {
    CadPool *pool;
    ASSERT_OK(cad_pool_open(&pool, workers, (CadLimits){.seconds = 60}));
    return pool;
}

static CadReply draw_code(CadPool *pool, const char *code, const DrawStyle *style) {
    CadReply reply;
    ASSERT_OK(cad_pool_run(
        pool, &(CadRequest){.code = code, .code_size = strlen(code), .draw = style}, &reply));
    return reply;
}

/* The picture of a part that must come out well; the caller frees it. */
static Image picture(CadPool *pool, const char *code, const DrawStyle *style) {
    CadReply reply = draw_code(pool, code, style);
    if (reply.status != CAD_OK) printf("%s\n", reply.message);
    ASSERT_INT(reply.status, ==, CAD_OK);
    Image image;
    ASSERT_OK(image_decode(&image, reply.png.data, reply.png.size, 1, "drawing"));
    ASSERT_INT(image.width, ==, style->size);
    ASSERT_INT(image.height, ==, style->size);
    cad_reply_free(&reply);
    return image;
}

static const char *flange_code(void) {
    CadProgram program = flange_program();
    return part_code(&program);
}

static int pixel(const Image *image, int x, int y) {
    return image->pixels[y * image->width + x];
}

/* How many pixels differ by more than `limit`. */
static int differing(const Image *a, const Image *b, int limit) {
    int count = 0;
    for (int i = 0; i < a->width * a->height; i++)
        count += abs(a->pixels[i] - b->pixels[i]) > limit;
    return count;
}

TEST(a_shift_by_whole_pixels_moves_everything_exactly) {
    CadPool *pool = open_pool(1);
    const char *code = flange_code();
    static const int shifts[][2] = {{1, 0}, {0, -1}, {3, 7}, {-6, 2}, {100, -40}};
    for (int tiles = 0; tiles < 2; tiles++) {
        DrawStyle style = tiles ? draw_style_tiles(128) : draw_style_default(200);
        style.shift_x = style.shift_y = 0.3; /* the broken part stays */
        Image still = picture(pool, code, &style);
        for (size_t i = 0; i < sizeof shifts / sizeof shifts[0]; i++) {
            int dx = shifts[i][0], dy = shifts[i][1], wrong = 0;
            style.shift_x = 0.3 + dx;
            style.shift_y = 0.3 + dy;
            Image moved = picture(pool, code, &style);
            for (int y = 0; y < style.size; y++)
                for (int x = 0; x < style.size; x++) {
                    int from_x = x - dx, from_y = y - dy;
                    bool inside =
                        from_x >= 0 && from_x < style.size && from_y >= 0 && from_y < style.size;
                    wrong += pixel(&moved, x, y) != (inside ? pixel(&still, from_x, from_y) : 255);
                }
            printf("%s by (%d, %d): %d pixels differ\n", tiles ? "tiles" : "beside", dx, dy, wrong);
            ASSERT_INT(wrong, ==, 0);
            image_free(&moved);
        }
        image_free(&still);
    }
    cad_pool_close(&pool);
}

TEST(the_same_part_gives_the_same_bytes) {
    CadPool *pool = open_pool(2);
    DrawStyle style = draw_style_tiles(128);
    Buf first = {0};
    for (int i = 0; i < 8; i++) {
        /* Other parts in between: nothing may be left over from them. */
        CadReply other = draw_code(pool, box_code(10 + i, 20, 30), &style);
        cad_reply_free(&other);
        CadReply reply = draw_code(pool, flange_code(), &style);
        if (i == 0) buf_append(&first, reply.png.data, reply.png.size);
        ASSERT_INT(reply.png.size, ==, first.size);
        ASSERT_INT(memcmp(reply.png.data, first.data, first.size), ==, 0);
        cad_reply_free(&reply);
    }
    buf_free(&first);
    cad_pool_close(&pool);
}

/* Parts of the same proportions differ in the figures alone, and those have their places. */
TEST(figures_in_tiles_change_only_their_slots) {
    CadPool *pool = open_pool(1);
    DrawStyle style = draw_style_tiles(128);
    Image large = picture(pool, box_code(100, 60, 40), &style);
    Image small = picture(pool, box_code(55.5, 33.3, 22.2), &style);
    int in_slots = 0, elsewhere = 0, slot = (int)style.text_height + 6;
    for (int y = 0; y < 128; y++)
        for (int x = 0; x < 128; x++) {
            if (pixel(&large, x, y) == pixel(&small, x, y)) continue;
            bool beside = x < slot, below = y >= 128 - slot && x < 64;
            if (beside || below)
                in_slots++;
            else
                elsewhere++;
        }
    printf("%d pixels differ in the slots, %d elsewhere\n", in_slots, elsewhere);
    ASSERT_INT(elsewhere, ==, 0);
    ASSERT_INT(in_slots, >, 100);
    /* The same width at the same place, whatever the part looks like. */
    Image flat = picture(pool, box_code(100, 10, 10), &style);
    int wrong = 0;
    for (int y = 128 - (int)style.text_height - 2; y < 128; y++)
        for (int x = slot; x < 64; x++) wrong += pixel(&flat, x, y) != pixel(&large, x, y);
    ASSERT_INT(wrong, ==, 0);
    image_free(&large);
    image_free(&small);
    image_free(&flat);
    cad_pool_close(&pool);
}

typedef struct Ink {
    int left, right, top, bottom;
} Ink;

static Ink ink_in(const Image *image, int x0, int y0, int x1, int y1) {
    Ink ink = {x1, x0, y1, y0};
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++) {
            if (pixel(image, x, y) > 128) continue;
            if (x < ink.left) ink.left = x;
            if (x > ink.right) ink.right = x;
            if (y < ink.top) ink.top = y;
            if (y > ink.bottom) ink.bottom = y;
        }
    return ink;
}

TEST(views_line_up_in_both_projections) {
    CadPool *pool = open_pool(1);
    for (int p = 0; p < 2; p++) {
        DrawStyle style = draw_style_default(400);
        style.dims = DIMS_NONE;
        style.projection = (DrawProjection)p;
        style.centre_marks = false;
        Image image = picture(pool, flange_code(), &style);
        /* Where rows and columns of views part: the emptiest lines near the middle. */
        int row = -1, column = -1;
        for (int i = 100; i < 300; i++) {
            Ink across = ink_in(&image, 0, i, 400, i + 1), down = ink_in(&image, i, 0, i + 1, 400);
            if (row < 0 && across.left > across.right) row = i;
            if (column < 0 && down.top > down.bottom) column = i;
        }
        ASSERT_INT(row, >, 0);
        ASSERT_INT(column, >, 0);
        bool third = p == PROJECTION_THIRD_ANGLE;
        Ink upper_left = ink_in(&image, 0, 0, column, row);
        Ink upper_right = ink_in(&image, column, 0, 400, row);
        Ink lower_left = ink_in(&image, 0, row, column, 400);
        Ink lower_right = ink_in(&image, column, row, 400, 400);
        Ink front = third ? lower_left : upper_right;
        Ink top = third ? upper_left : lower_right;
        Ink right = third ? lower_right : upper_left;
        printf("front %d…%d × %d…%d, top x %d…%d, right y %d…%d\n", front.left, front.right,
               front.top, front.bottom, top.left, top.right, right.top, right.bottom);
        ASSERT_INT(front.left, ==, top.left);
        ASSERT_INT(front.right, ==, top.right);
        ASSERT_INT(front.top, ==, right.top);
        ASSERT_INT(front.bottom, ==, right.bottom);
        /* 100 × 60 × 32 at one scale. */
        double scale = (front.right - front.left) / 100.0;
        ASSERT_NEAR(front.bottom - front.top, 32 * scale, 1.5);
        ASSERT_NEAR(top.bottom - top.top, 60 * scale, 1.5);
        ASSERT_NEAR(right.right - right.left, 60 * scale, 1.5);
        image_free(&image);
    }
    cad_pool_close(&pool);
}

TEST(lengths_are_lettered_without_kernel_noise) {
    static const struct {
        double length;
        const char *text;
    } cases[] = {{100, "100"},   {99.99999998, "100"}, {71.999999, "72"},
                 {12.5, "12.5"}, {12.345, "12.35"},    {0.126, "0.13"},
                 {1e-9, "0"},    {-1e-9, "0"},         {1234.5678, "1234.57"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[DIMENSION_TEXT_SIZE];
        dimension_text(text, cases[i].length);
        printf("%.10g -> %s\n", cases[i].length, text);
        if (cases[i].length == 12.345) continue; /* either way: it is not a double */
        ASSERT_TEXT(text, cases[i].text);
    }
    ASSERT_REAL(letter_width("1", 10), <, letter_width("0", 10));
    ASSERT_NEAR(letter_width("00", 10), 2 * letter_width("0", 10) + 2, 1e-9);
    ASSERT_REAL(letter_width("", 10), ==, 0);
    ASSERT_REAL(letter_width("?", 10), ==, 0);
}

/* In tiles, numbers of one, two and three digits have their ones (and what follows) at the same
 * place: the slots below the dimension line look alike from there on. */
TEST(ones_stand_at_one_place_in_tiles) {
    CadPool *pool = open_pool(1);
    DrawStyle style = draw_style_tiles(128);
    static const double widths[] = {8.5, 48.5, 148.5};
    Image images[3];
    for (int i = 0; i < 3; i++) images[i] = picture(pool, box_code(widths[i], 200, 200), &style);
    int left = 0, top = 118; /* the figures below the front view are 10 pixels high */
    for (int i = 1; i < 3; i++) {
        int different = 0, inked = 0;
        for (int y = top; y < 126; y++)
            for (int x = 0; x < 64; x++) {
                bool same = pixel(&images[i], x, y) == pixel(&images[0], x, y);
                if (x >= 33) {
                    different += !same;
                    inked += pixel(&images[i], x, y) < 128;
                } else {
                    left += !same;
                }
            }
        printf("%g: %d pixels differ right of the tens, %d have ink\n", widths[i], different,
               inked);
        ASSERT_INT(different, ==, 0);
        ASSERT_INT(inked, >, 10);
    }
    ASSERT_INT(left, >, 10);
    for (int i = 0; i < 3; i++) image_free(&images[i]);
    cad_pool_close(&pool);
}

/* Parts of every shape keep their figures and lines on the sheet. */
TEST(nothing_reaches_the_edge_of_the_sheet) {
    CadPool *pool = open_pool(1);
    static const double sizes[][3] = {{100, 100, 100}, {1000, 1, 1},       {1, 1000, 1},
                                      {1, 1, 1000},    {0.01, 0.02, 0.03}, {9999.99, 1, 5000},
                                      {1, 9000, 9000}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int look = 0; look < 6; look++) {
            DrawStyle style = look < 3 ? draw_style_default(256) : draw_style_tiles(128);
            if (look == 1) style.projection = PROJECTION_FIRST_ANGLE;
            if (look == 2) style.views = 1u << VIEW_FRONT | 1u << VIEW_ISO;
            if (look == 4) style.projection = PROJECTION_FIRST_ANGLE;
            if (look == 5) style.views = 1u << VIEW_TOP | 1u << VIEW_RIGHT;
            const double *s = sizes[i];
            Image image = picture(pool, box_code(s[0], s[1], s[2]), &style);
            int inked = 0, edge = 0, side = style.size, free = style.dims == DIMS_FIXED ? 2 : 1;
            for (int y = 0; y < side; y++)
                for (int x = 0; x < side; x++) {
                    bool outside = x < free || y < free || x >= side - free || y >= side - free;
                    inked += pixel(&image, x, y) < 128;
                    edge += outside && pixel(&image, x, y) < 240; /* fainter is no line */
                }
            if (edge || inked < 50)
                printf("%g × %g × %g, look %d: %d pixels of ink, %d at the edge\n", s[0], s[1],
                       s[2], look, inked, edge);
            ASSERT_INT(edge, ==, 0);
            ASSERT_INT(inked, >=, 50);
            image_free(&image);
        }
    cad_pool_close(&pool);
}

TEST(styles_that_cannot_be_drawn_are_refused) {
    CadPool *pool = open_pool(1);
    DrawStyle bad[6];
    for (int i = 0; i < 6; i++) bad[i] = draw_style_default(256);
    bad[0].size = 10;
    bad[1].visible_width = (double)NAN;
    bad[2].views = 0;
    bad[3].dash_on = 0;
    bad[4].shift_x = 1e9;
    bad[5].text_height = -1;
    static const char *const parts[] = {"10 pixels", "lines of nan", "views",
                                        "dashes",    "shift",        "figures"};
    for (int i = 0; i < 6; i++) {
        ASSERT_ERR(draw_style_check(&bad[i]), ERR_INPUT, parts[i]);
        CadReply reply = draw_code(pool, box_code(1, 2, 3), &bad[i]);
        printf("%s: %s\n", cad_status_name(reply.status), reply.message);
        ASSERT_INT(reply.status, ==, CAD_EXEC_FAIL);
        ASSERT_CONTAINS(reply.message, parts[i]);
        ASSERT_INT(reply.png.size, ==, 0);
        cad_reply_free(&reply);
    }
    cad_pool_close(&pool);
}

TEST(ink_and_widths_show) {
    CadPool *pool = open_pool(1);
    DrawStyle style = draw_style_default(256);
    Image black = picture(pool, flange_code(), &style);
    style.ink = 0.5;
    Image gray = picture(pool, flange_code(), &style);
    style.ink = 1;
    style.visible_width *= 2;
    Image bold = picture(pool, flange_code(), &style);
    style = draw_style_default(256);
    style.hidden = false;
    Image plain = picture(pool, flange_code(), &style);
    long sums[4] = {0};
    int darkest = 255;
    const Image *images[4] = {&black, &gray, &bold, &plain};
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < 256 * 256; i++) sums[k] += 255 - images[k]->pixels[i];
    for (int i = 0; i < 256 * 256; i++)
        if (gray.pixels[i] < darkest) darkest = gray.pixels[i];
    printf("ink %ld, gray %ld, bold %ld, without hidden lines %ld\n", sums[0], sums[1], sums[2],
           sums[3]);
    ASSERT_INT(darkest, ==, 127);
    ASSERT_NEAR(sums[1], sums[0] / 2.0, 0.01 * (double)sums[0]);
    ASSERT_REAL(sums[2], >, 1.2 * (double)sums[0]);
    ASSERT_INT(sums[3], <, sums[0]);
    for (int k = 0; k < 4; k++) image_free((Image *)images[k]);
    cad_pool_close(&pool);
}

/* tests/cad/test_lines.c compares the lines; here both ways must come to the same picture. Where
 * the kernel takes too long, the worker draws as without it. */
TEST(the_exact_way_gives_the_same_picture) {
    CadPool *pool = open_pool(1);
    DrawStyle style = draw_style_default(256), exact = style;
    exact.exact_hidden_lines = true;
    int drawn = 0;
    for (uint64_t i = 0; i < 12; i++) {
        CadProgram program = random_program(7, i);
        const char *code = part_code(&program);
        CadReply ours = draw_code(pool, code, &style), theirs = draw_code(pool, code, &exact);
        ASSERT_INT(ours.status, ==, theirs.status);
        if (ours.status == CAD_OK) {
            Image a, b;
            ASSERT_OK(image_decode(&a, ours.png.data, ours.png.size, 1, "ours"));
            ASSERT_OK(image_decode(&b, theirs.png.data, theirs.png.size, 1, "theirs"));
            printf("part %d: %d pixels differ\n", (int)i, differing(&a, &b, 100));
            ASSERT_INT(differing(&a, &b, 100), ==, 0);
            drawn++;
            image_free(&a);
            image_free(&b);
        }
        cad_reply_free(&ours);
        cad_reply_free(&theirs);
    }
    ASSERT_INT(drawn, >, 6);
    cad_pool_close(&pool);
}

/* A box of 100 × 60 × 32: every dimension runs along the side of a view that it measures, outside
 * the part, and has its number. */
TEST(every_dimension_measures_what_it_says) {
    const Vec3 low = vec3(-7, 3, 11), high = vec3(93, 63, 43);
    for (int look = 0; look < 4; look++) {
        DrawStyle style = look < 2 ? draw_style_default(400) : draw_style_tiles(128);
        style.projection = look % 2 ? PROJECTION_FIRST_ANGLE : PROJECTION_THIRD_ANGLE;
        SheetLayout layout;
        sheet_layout(&layout, &style, low, high, NULL);
        ASSERT_INT(layout.dimension_count, ==, 3);
        int found[3] = {0};
        for (int i = 0; i < 3; i++) {
            const Dimension *dim = &layout.dimensions[i];
            printf("look %d: %s %s from %.2f to %.2f, edge %.2f, line %.2f\n", look, dim->text,
                   dim->vertical ? "upright" : "level", dim->from, dim->to, dim->edge, dim->line);
            bool width = !dim->vertical, height = !width && !strcmp(dim->text, "32");
            /* On which view, and what it measures there. */
            const ViewPlace *front = &layout.views[VIEW_FRONT], *top = &layout.views[VIEW_TOP];
            bool on_top = !height && (!width || look == 1);
            const ViewPlace *view = on_top ? top : front;
            double least = width ? low.x : height ? low.z : low.y;
            double most = width ? high.x : height ? high.z : high.y;
            ASSERT_TEXT(dim->text, width ? "100" : height ? "32" : "60");
            ASSERT_NEAR(dim->from,
                        width ? view->x + view->scale * least : view->y - view->scale * most, 1e-9);
            ASSERT_NEAR(dim->to,
                        width ? view->x + view->scale * most : view->y - view->scale * least, 1e-9);
            bool beside_left = look == 0 || look >= 2; /* upright ones */
            double left = view->x + view->scale * low.x, right = view->x + view->scale * high.x;
            double foot = view->y - view->scale * (on_top ? low.y : low.z);
            ASSERT_NEAR(dim->edge, width ? foot : beside_left ? left : right, 1e-9);
            ASSERT_TRUE(width || !beside_left ? dim->line > dim->edge : dim->line < dim->edge);
            if (look < 2) ASSERT_NEAR(dim->text_middle, 0.5 * (dim->from + dim->to), 1e-9);
            found[width ? 0 : height ? 1 : 2]++;
        }
        for (int i = 0; i < 3; i++) ASSERT_INT(found[i], ==, 1);
    }
}

/* A cube's width and height have one number: its figures stand upright left of the front view as
 * they lie below it, turned by a quarter. */
TEST(the_height_is_lettered_as_the_width_is) {
    CadPool *pool = open_pool(1);
    DrawStyle style = draw_style_tiles(128);
    static const double sizes[] = {48.5, 7, 136.25};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        Image image = picture(pool, box_code(sizes[i], sizes[i], sizes[i]), &style);
        Ink level = ink_in(&image, 14, 114, 64, 128), upright = ink_in(&image, 0, 64, 14, 114);
        printf("%g: level %d…%d × %d…%d, upright %d…%d × %d…%d\n", sizes[i], level.left,
               level.right, level.top, level.bottom, upright.left, upright.right, upright.top,
               upright.bottom);
        ASSERT_INT(level.right - level.left, ==, upright.bottom - upright.top);
        ASSERT_INT(level.bottom - level.top, ==, upright.right - upright.left);
        ASSERT_INT(abs(level.left - (127 - upright.bottom)), <=, 1);
        int worst = 0;
        for (int u = 0; u <= level.right - level.left; u++)
            for (int v = 0; v <= level.bottom - level.top; v++) {
                int a = pixel(&image, level.left + u, level.top + v);
                int b = pixel(&image, upright.left + v, upright.bottom - u);
                if (abs(a - b) > worst) worst = abs(a - b);
            }
        /* cairo's shares of a pixel are finer one way than the other. */
        printf("a pixel differs by %d at most\n", worst);
        ASSERT_INT(worst, <=, 32);
        image_free(&image);
    }
    cad_pool_close(&pool);
}

/* Circles, dashes, figures and marks, pixel for pixel. It changes with any change of a drawing's
 * look; then look at the picture, and write the new number here. */
TEST(a_known_part_keeps_its_picture) {
    CadPool *pool = open_pool(1);
    DrawStyle style = draw_style_tiles(128);
    Image image = picture(pool, flange_code(), &style);
    uint64_t hash = hash_bytes(image.pixels, 128 * 128);
    printf("0x%016llx\n", (unsigned long long)hash);
    ASSERT_TRUE(hash == 0x15014794a5e7c80dull);
    image_free(&image);
    cad_pool_close(&pool);
}
