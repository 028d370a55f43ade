/* Ready-made looks of a drawing. */
#include <math.h>

#include "cad/drawing/draw.h"

enum { DESIGN_SIZE = 512 }; /* the widths below are meant for this many pixels */

/* Lines thinner than this fade on screen. */
static double at_least(double least, double width) {
    return width < least ? least : width;
}

DrawStyle draw_style_default(int size) {
    double k = (double)size / DESIGN_SIZE;
    return (DrawStyle){
        .size = size,
        .projection = PROJECTION_THIRD_ANGLE,
        .views = DRAW_ALL_VIEWS,
        .dims = DIMS_BESIDE,
        .hidden = true,
        .centre_marks = true,
        .visible_width = at_least(1, 1.7 * k),
        .hidden_width = at_least(0.7, 0.9 * k),
        .thin_width = at_least(0.5, 0.7 * k),
        .dash_on = at_least(2.2, 4.5 * k),
        .dash_off = at_least(1.6, 3 * k),
        .text_height = at_least(7, 10 * k),
        .ink = 1,
    };
}

DrawStyle draw_style_tiles(int size) {
    DrawStyle style = draw_style_default(size);
    style.dims = DIMS_FIXED;
    style.text_height = at_least(8, size * (10.0 / 128));
    return style;
}

static bool within(double low, double value, double high) {
    return value >= low && value <= high; /* false for NaN */
}

Err draw_style_check(const DrawStyle *style) {
    REQUIRE(style->size >= DRAW_SIZE_MIN && style->size <= DRAW_SIZE_MAX, ERR_INPUT,
            "a drawing of %d pixels; %d to %d are possible", style->size, DRAW_SIZE_MIN,
            DRAW_SIZE_MAX);
    REQUIRE((style->views & DRAW_ALL_VIEWS) && !(style->views & ~(uint32_t)DRAW_ALL_VIEWS),
            ERR_INPUT, "a drawing with the views 0x%x; 1 to 0x%x are possible", style->views,
            (unsigned)DRAW_ALL_VIEWS);
    REQUIRE(style->projection <= PROJECTION_FIRST_ANGLE && style->dims <= DIMS_FIXED, ERR_INPUT,
            "a drawing with projection %d and dimensions %d, which do not exist",
            (int)style->projection, (int)style->dims);
    double size = style->size;
    REQUIRE(within(0.05, style->visible_width, size / 8) &&
                within(0.05, style->hidden_width, size / 8) &&
                within(0.05, style->thin_width, size / 8),
            ERR_INPUT, "lines of %g, %g and %g pixels; 0.05 to %g are possible",
            style->visible_width, style->hidden_width, style->thin_width, size / 8);
    REQUIRE(within(0.1, style->dash_on, size) && within(0.1, style->dash_off, size), ERR_INPUT,
            "dashes of %g and gaps of %g pixels; 0.1 to %g are possible", style->dash_on,
            style->dash_off, size);
    REQUIRE(within(2, style->text_height, size / 8), ERR_INPUT,
            "figures %g pixels high; 2 to %g are possible", style->text_height, size / 8);
    REQUIRE(within(-size, style->shift_x, size) && within(-size, style->shift_y, size), ERR_INPUT,
            "a shift of %g and %g pixels on a sheet of %g", style->shift_x, style->shift_y, size);
    REQUIRE(within(0, style->ink, 1), ERR_INPUT, "ink of %g; 0 to 1 are possible", style->ink);
    return OK;
}
