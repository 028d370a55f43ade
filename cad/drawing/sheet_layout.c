/* Where the views and the dimensions go on the sheet. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cad/drawing/lettering.h"
#include "cad/drawing/sheet.h"

enum { CELLS = 2 }; /* rows and columns */

/* Distances of DIMS_BESIDE as shares of the sheet; of the text height where they hold text. */
#define BORDER        0.045
#define VIEW_GAP      0.07
#define LINE_DISTANCE 1.8 /* from the part to the dimension line, text heights */
#define TEXT_DISTANCE 1.5 /* room for figures beyond the dimension line, text heights */
#define TEXT_CLEARANCE                                                                             \
    0.8 /* text needs so much more than its width between the extension lines                      \
         */
/* The isometric view keeps at least this share of the other views' scale. */
#define ISO_SHARE_BESIDE 0.5
/* In tiles it has no figures and the whole tile; a cube's isometric view is 1.63 edges high. */
#define ISO_HEIGHT 1.63299
/* Tiles: room at the edge, and between figures, line and part (text heights). */
#define TILE_EDGE     0.02 /* of the sheet */
#define TILE_TEXT_GAP 0.35
#define TILE_LINE_GAP 0.3
/* Curves are drawn with chords this near to them, pixels. */
#define CHORD_ERROR 0.1

static double side(double low, double high) {
    return high > low ? high - low : 0;
}

/* The view's extent from the box: exact for the three along the axes, and the projected box for the
 * isometric one. */
static void view_extent(DrawView view, Vec3 low, Vec3 high, Vec2 *min, Vec2 *max) {
    switch (view) {
    case VIEW_FRONT: *min = vec2(low.x, low.z), *max = vec2(high.x, high.z); return;
    case VIEW_TOP: *min = vec2(low.x, low.y), *max = vec2(high.x, high.y); return;
    case VIEW_RIGHT: *min = vec2(low.y, low.z), *max = vec2(high.y, high.z); return;
    default: /* u = (x + y) / √2, v = (2z + y - x) / √6 */
        *min = vec2((low.x + low.y) / sqrt(2), (2 * low.z + low.y - high.x) / sqrt(6));
        *max = vec2((high.x + high.y) / sqrt(2), (2 * high.z + high.y - low.x) / sqrt(6));
    }
}

static bool wants(const DrawStyle *style, DrawView view) {
    return style->views & (1u << view);
}

/* Row and column of each view, from the top left. */
static void view_cell(const DrawStyle *style, DrawView view, int *row, int *column) {
    static const int third[VIEW_COUNT][2] = {
        [VIEW_FRONT] = {1, 0}, [VIEW_TOP] = {0, 0}, [VIEW_RIGHT] = {1, 1}, [VIEW_ISO] = {0, 1}};
    static const int first[VIEW_COUNT][2] = {
        [VIEW_FRONT] = {0, 1}, [VIEW_TOP] = {1, 1}, [VIEW_RIGHT] = {0, 0}, [VIEW_ISO] = {1, 0}};
    const int *cell = style->projection == PROJECTION_THIRD_ANGLE ? third[view] : first[view];
    *row = cell[0];
    *column = cell[1];
}

/* Two views that would stand across are set side by side instead. */
static void beside_cell(const DrawStyle *style, DrawView view, int *row, int *column) {
    view_cell(style, view, row, column);
    int there = 0, rows = 0, columns = 0;
    for (int v = 0; v < VIEW_COUNT; v++) {
        int r, c;
        view_cell(style, (DrawView)v, &r, &c);
        if (!wants(style, (DrawView)v)) continue;
        there++;
        rows |= 1 << r;
        columns |= 1 << c;
    }
    if (there == 2 && rows == 3 && columns == 3) *row = 0;
}

static void place_middle(ViewPlace *place, double x, double y) {
    place->x = x - place->scale * 0.5 * (place->min.x + place->max.x);
    place->y = y + place->scale * 0.5 * (place->min.y + place->max.y);
}

/* ---- tiles ---- */

typedef struct Tile {
    double left, top, size;
    double edge;
    double line, margin; /* left and below: the dimension line, and where the part may begin */
} Tile;

static Tile tile_of(const DrawStyle *style, DrawView view) {
    int row, column;
    view_cell(style, view, &row, &column);
    double size = 0.5 * style->size, edge = TILE_EDGE * style->size, height = style->text_height;
    return (Tile){.left = column * size,
                  .top = row * size,
                  .size = size,
                  .edge = edge,
                  .line = edge + 0.5 * letter_stroke(height) + (1 + TILE_TEXT_GAP) * height,
                  .margin = edge + 0.5 * letter_stroke(height) +
                            (1 + TILE_TEXT_GAP + TILE_LINE_GAP) * height};
}

/* Of the views along the axes, and of the isometric one: as large as any part of this largest
 * extent allows. */
static double tile_scale(const Tile *tile, DrawView view, Vec3 low, Vec3 high) {
    double largest = fmax(high.x - low.x, fmax(high.y - low.y, high.z - low.z));
    if (view == VIEW_ISO) return (tile->size - 2 * tile->edge) / (ISO_HEIGHT * largest);
    return (tile->size - tile->margin - tile->edge) / largest;
}

static void lay_out_tiles(SheetLayout *layout, const DrawStyle *style, Vec3 low, Vec3 high) {
    for (int v = 0; v < VIEW_COUNT; v++) {
        ViewPlace *place = &layout->views[v];
        if (!place->there) continue;
        Tile tile = tile_of(style, (DrawView)v);
        place->scale = tile_scale(&tile, (DrawView)v, low, high);
        double aside = v == VIEW_ISO ? 0 : 0.5 * (tile.margin - tile.edge);
        place_middle(place, tile.left + 0.5 * tile.size + aside,
                     tile.top + 0.5 * tile.size - aside);
    }
}

/* ---- beside ---- */

typedef struct Grid {
    double width[CELLS], height[CELLS]; /* of columns and rows, in the solid's unit; 0: not used */
    double scale;
    double left, top, gap; /* of the whole block, pixels */
} Grid;

static bool front_column_is_left(const DrawStyle *style) {
    return style->projection == PROJECTION_THIRD_ANGLE;
}

/* Row heights and column widths so that every view fits its cell at one scale, the isometric one at
 * ISO_SHARE_BESIDE of it at least. */
static void size_cells(Grid *grid, const SheetLayout *layout, const DrawStyle *style) {
    for (int v = 0; v < VIEW_COUNT; v++) {
        const ViewPlace *place = &layout->views[v];
        if (!place->there) continue;
        int row, column;
        beside_cell(style, (DrawView)v, &row, &column);
        double share = v == VIEW_ISO ? ISO_SHARE_BESIDE : 1;
        grid->width[column] = fmax(grid->width[column], share * (place->max.x - place->min.x));
        grid->height[row] = fmax(grid->height[row], share * (place->max.y - place->min.y));
    }
}

/* Room that vertical dimensions take on the left and on the right of all views. The front column's
 * are on its outer side; the height is on the right view's outer side where there is no front. */
static void side_rooms(const DrawStyle *style, double room, double *left, double *right) {
    bool column = wants(style, VIEW_FRONT) || wants(style, VIEW_TOP);
    bool other = wants(style, VIEW_RIGHT) && !wants(style, VIEW_FRONT);
    bool at_left = front_column_is_left(style);
    *left = (at_left ? column : other) ? room : 0;
    *right = (at_left ? other : column) ? room : 0;
}

static void fit_grid(Grid *grid, const DrawStyle *style) {
    double border = BORDER * style->size, left = 0, right = 0, below = 0;
    if (style->dims != DIMS_NONE) {
        /* Figures may use a part of the border. */
        below = fmax(0, (LINE_DISTANCE + TEXT_DISTANCE) * style->text_height - 0.4 * border);
        side_rooms(style, below, &left, &right);
    }
    double width = grid->width[0] + grid->width[1], height = grid->height[0] + grid->height[1];
    grid->gap = VIEW_GAP * style->size;
    double gaps_x = grid->width[0] > 0 && grid->width[1] > 0 ? grid->gap : 0;
    double gaps_y = grid->height[0] > 0 && grid->height[1] > 0 ? grid->gap : 0;
    double wide = style->size - 2 * border - left - right - gaps_x;
    double high = style->size - 2 * border - below - gaps_y;
    grid->scale = fmin(wide / width, high / height);
    grid->left = border + left + 0.5 * (wide - grid->scale * width);
    grid->top = border + 0.5 * (high - grid->scale * height);
}

/* Views along the axes stand at the inner corner of their cells, so that they line up. */
static void place_beside(ViewPlace *place, const Grid *grid, const DrawStyle *style,
                         DrawView view) {
    int row, column;
    beside_cell(style, view, &row, &column);
    double gap_x = column == 1 && grid->width[0] > 0 ? grid->scale * grid->width[0] + grid->gap : 0;
    double gap_y = row == 1 && grid->height[0] > 0 ? grid->scale * grid->height[0] + grid->gap : 0;
    double x = grid->left + gap_x, y = grid->top + gap_y;
    double cell_width = grid->scale * grid->width[column];
    double cell_height = grid->scale * grid->height[row];
    double u = place->max.x - place->min.x, v = place->max.y - place->min.y;
    place->scale = grid->scale;
    if (view == VIEW_ISO) place->scale = fmin(grid->scale, fmin(cell_width / u, cell_height / v));
    double width = place->scale * u, height = place->scale * v;
    if (view == VIEW_ISO)
        x += 0.5 * (cell_width - width), y += 0.5 * (cell_height - height);
    else
        x += column == 0 ? cell_width - width : 0, y += row == 0 ? cell_height - height : 0;
    place->x = x - place->scale * place->min.x;
    place->y = y + height + place->scale * place->min.y;
}

static void lay_out_beside(SheetLayout *layout, const DrawStyle *style) {
    Grid grid = {0};
    size_cells(&grid, layout, style);
    fit_grid(&grid, style);
    for (int v = 0; v < VIEW_COUNT; v++)
        if (layout->views[v].there) place_beside(&layout->views[v], &grid, style, (DrawView)v);
}

/* ---- dimensions ---- */

/* The part's extent on the sheet, pixels: left, right, top, bottom. */
typedef struct Extent {
    double left, right, top, bottom;
} Extent;

static Extent place_extent(const ViewPlace *place) {
    return (Extent){place->x + place->scale * place->min.x, place->x + place->scale * place->max.x,
                    place->y - place->scale * place->max.y, place->y - place->scale * place->min.y};
}

/* Thin lines in the middle of a pixel stay crisp. */
static double crisp(double x) {
    return floor(x) + 0.5;
}

/* How far beyond the gap between tens and ones the middle of a number lies: numbers that are set by
 * that gap have each digit at a place of its own, however many there are. */
static double figure_offset(const char *text, double height) {
    char tens[DIMENSION_TEXT_SIZE];
    int digits = (int)strcspn(text, ".");
    snprintf(tens, sizeof tens, "%.*s", digits - 1, text);
    double gap = letter_width("00", height) - 2 * letter_width("0", height);
    double before = tens[0] ? letter_width(tens, height) + 0.5 * gap : -0.5 * gap;
    return 0.5 * letter_width(text, height) - before;
}

static void add_dimension(SheetLayout *layout, const DrawStyle *style, DrawView view, bool vertical,
                          double length) {
    const ViewPlace *place = &layout->views[view];
    Dimension *dim = &layout->dimensions[layout->dimension_count++];
    Extent extent = place_extent(place);
    dimension_text(dim->text, length);
    dim->vertical = vertical;
    dim->from = vertical ? extent.top : extent.left;
    dim->to = vertical ? extent.bottom : extent.right;
    dim->text_middle = 0.5 * (dim->from + dim->to);
    if (style->dims == DIMS_FIXED) {
        Tile tile = tile_of(style, view);
        dim->edge = vertical ? extent.left : extent.bottom;
        dim->line = crisp(vertical ? tile.left + tile.line : tile.top + tile.size - tile.line);
        double middle = (vertical ? tile.top : tile.left) + 0.5 * tile.size;
        double room = 0.5 * (tile.size - letter_width(dim->text, style->text_height)) - tile.edge;
        double off = figure_offset(dim->text, style->text_height);
        off = fmax(-fmax(room, 0), fmin(off, fmax(room, 0)));
        dim->text_middle = vertical ? middle - off : middle + off;
        dim->text_outside = true;
        return;
    }
    /* Vertical lines run on the outer side of the sheet, horizontal ones below. */
    double distance = LINE_DISTANCE * style->text_height;
    bool left = front_column_is_left(style) == (view != VIEW_RIGHT);
    dim->edge = !vertical ? extent.bottom : left ? extent.left : extent.right;
    dim->line = crisp(dim->edge + (vertical && left ? -distance : distance));
    double needs =
        letter_width(dim->text, style->text_height) + TEXT_CLEARANCE * style->text_height;
    dim->text_outside = (vertical && left) || needs > dim->to - dim->from;
}

/* Each overall dimension once: on the view that shows it best. */
static void add_dimensions(SheetLayout *layout, const DrawStyle *style, Vec3 low, Vec3 high) {
    bool front = wants(style, VIEW_FRONT), top = wants(style, VIEW_TOP),
         right = wants(style, VIEW_RIGHT);
    /* The width goes below the lower of the two views that share it, or there is no room. */
    bool top_is_below = style->projection == PROJECTION_FIRST_ANGLE && style->dims == DIMS_BESIDE;
    if (front || top) {
        DrawView view = top && (!front || top_is_below) ? VIEW_TOP : VIEW_FRONT;
        add_dimension(layout, style, view, false, side(low.x, high.x));
    }
    if (front || right)
        add_dimension(layout, style, front ? VIEW_FRONT : VIEW_RIGHT, true, side(low.z, high.z));
    if (top || right)
        add_dimension(layout, style, top ? VIEW_TOP : VIEW_RIGHT, top, side(low.y, high.y));
}

void sheet_layout(SheetLayout *layout, const DrawStyle *style, Vec3 low, Vec3 high,
                  const ViewLines *iso) {
    *layout = (SheetLayout){0};
    for (int v = 0; v < VIEW_COUNT; v++) {
        ViewPlace *place = &layout->views[v];
        place->there = wants(style, (DrawView)v);
        view_extent((DrawView)v, low, high, &place->min, &place->max);
        if (v == VIEW_ISO && iso && iso->stroke_count) place->min = iso->min, place->max = iso->max;
    }
    if (style->dims == DIMS_FIXED)
        lay_out_tiles(layout, style, low, high);
    else
        lay_out_beside(layout, style);
    if (style->dims != DIMS_NONE) add_dimensions(layout, style, low, high);
}

double sheet_tolerance(const DrawStyle *style, Vec3 low, Vec3 high) {
    SheetLayout layout;
    sheet_layout(&layout, style, low, high, NULL);
    double scale = 0;
    for (int v = 0; v < VIEW_COUNT; v++)
        if (layout.views[v].there) scale = fmax(scale, layout.views[v].scale);
    return CHORD_ERROR / scale;
}
