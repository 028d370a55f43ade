/* Draws a sheet with cairo, the only file that names it. */
#include "cad/drawing/sheet.h"

#include <cairo/cairo.h>
#include <math.h>
#include <string.h>

#include "cad/drawing/lettering.h"

#define ARROW_LENGTH   0.75 /* of the text height */
#define ARROW_HALF     0.25 /* half its width, of its length */
#define OVERSHOOT      0.16 /* extension lines beyond the dimension line, of the text height */
#define EXTENSION_GAP  0.15 /* between part and extension line, of the text height */
#define TEXT_GAP       0.35 /* between figures and dimension line, of the text height */
#define MARK_OVERSHOOT 1.1  /* centre lines beyond their circle, of a dash */
#define MARK_PLAIN     2.5  /* centre lines shorter than this many dashes are not dotted */
#define FRAME_INSET    0.015

typedef struct Sheet {
    cairo_t *cr;
    const DrawStyle *style;
} Sheet;

/* ---- the lines of a view ---- */

static Vec2 on_sheet(const ViewPlace *place, Vec2 p) {
    return vec2(place->x + place->scale * p.x, place->y - place->scale * p.y);
}

static double stroke_length(const Stroke *stroke, const ViewLines *lines) {
    if (stroke->shape == STROKE_SEGMENT)
        return hypot(stroke->to.x - stroke->from.x, stroke->to.y - stroke->from.y);
    if (stroke->shape == STROKE_ARC) return stroke->radius * stroke->sweep;
    double length = 0;
    for (int i = stroke->first; i + 1 < stroke->first + stroke->count; i++)
        length += hypot(lines->points[i + 1].x - lines->points[i].x,
                        lines->points[i + 1].y - lines->points[i].y);
    return length;
}

static void add_stroke(cairo_t *cr, const ViewPlace *place, const ViewLines *lines,
                       const Stroke *stroke) {
    if (stroke->shape == STROKE_SEGMENT) {
        Vec2 from = on_sheet(place, stroke->from), to = on_sheet(place, stroke->to);
        cairo_move_to(cr, from.x, from.y);
        cairo_line_to(cr, to.x, to.y);
    } else if (stroke->shape == STROKE_ARC) {
        Vec2 center = on_sheet(place, stroke->center);
        cairo_new_sub_path(cr);
        cairo_arc_negative(cr, center.x, center.y, place->scale * stroke->radius, -stroke->start,
                           -(stroke->start + stroke->sweep));
        if (stroke->sweep > 2 * M_PI - 1e-6) cairo_close_path(cr);
    } else {
        for (int i = stroke->first; i < stroke->first + stroke->count; i++) {
            Vec2 p = on_sheet(place, lines->points[i]);
            if (i == stroke->first)
                cairo_move_to(cr, p.x, p.y);
            else
                cairo_line_to(cr, p.x, p.y);
        }
    }
}

/* All strokes of a kind in one path: where they cross, ink is not laid twice. */
static void draw_solid(const Sheet *sheet, const ViewPlace *place, const ViewLines *lines,
                       StrokeKind kind, double width) {
    cairo_set_line_width(sheet->cr, width);
    cairo_set_dash(sheet->cr, NULL, 0, 0);
    cairo_set_line_cap(sheet->cr, CAIRO_LINE_CAP_ROUND);
    for (int i = 0; i < lines->stroke_count; i++)
        if (lines->strokes[i].kind == kind) add_stroke(sheet->cr, place, lines, &lines->strokes[i]);
    cairo_stroke(sheet->cr);
}

/* Dashes are stretched a little so that a hidden line begins and ends with one. */
static void draw_hidden(const Sheet *sheet, const ViewPlace *place, const ViewLines *lines) {
    const DrawStyle *style = sheet->style;
    cairo_set_line_width(sheet->cr, style->hidden_width);
    cairo_set_line_cap(sheet->cr, CAIRO_LINE_CAP_BUTT);
    double period = style->dash_on + style->dash_off;
    for (int i = 0; i < lines->stroke_count; i++) {
        const Stroke *stroke = &lines->strokes[i];
        if (stroke->kind != STROKE_HIDDEN) continue;
        double length = place->scale * stroke_length(stroke, lines);
        double gaps = fmax(1, round((length - style->dash_on) / period));
        double stretch = length / (gaps * period + style->dash_on);
        double dashes[2] = {style->dash_on * stretch, style->dash_off * stretch};
        if (length > style->dash_on)
            cairo_set_dash(sheet->cr, dashes, 2, 0);
        else
            cairo_set_dash(sheet->cr, NULL, 0, 0);
        add_stroke(sheet->cr, place, lines, stroke);
        cairo_stroke(sheet->cr);
    }
}

/* A pair of chain-dotted lines whose long dashes cross in the middle. */
static void draw_mark(const Sheet *sheet, const ViewPlace *place, const CentreMark *mark) {
    const DrawStyle *style = sheet->style;
    cairo_t *cr = sheet->cr;
    double dash = 1.9 * style->dash_on, gap = 0.55 * style->dash_off, dot = 0.35 * style->dash_on;
    double chain[4] = {dash, gap, dot, gap};
    Vec2 center = on_sheet(place, mark->center);
    double reach = place->scale * mark->radius + MARK_OVERSHOOT * style->dash_on;
    if (reach < MARK_PLAIN * style->dash_on)
        cairo_set_dash(cr, NULL, 0, 0);
    else
        cairo_set_dash(cr, chain, 4, 0.5 * dash);
    for (int arm = 0; arm < 4; arm++) {
        double dx = arm == 0 ? reach : arm == 1 ? -reach : 0;
        double dy = arm == 2 ? reach : arm == 3 ? -reach : 0;
        cairo_move_to(cr, center.x, center.y);
        cairo_line_to(cr, center.x + dx, center.y + dy);
    }
    cairo_stroke(cr);
}

static void draw_marks(const Sheet *sheet, const ViewPlace *place, const ViewLines *lines) {
    cairo_set_line_width(sheet->cr, sheet->style->thin_width);
    cairo_set_line_cap(sheet->cr, CAIRO_LINE_CAP_BUTT);
    for (int i = 0; i < lines->mark_count; i++) draw_mark(sheet, place, &lines->marks[i]);
}

/* ---- dimensions ---- */

/* Dimensions are drawn in a frame of their own: `along` the dimension line, `out` from the part to
 * the line and beyond. */
typedef struct DimFrame {
    cairo_t *cr;
    bool vertical;
    double edge, sign; /* of the part; +1 where outward is right or down */
} DimFrame;

static Vec2 dim_point(const DimFrame *frame, double along, double out) {
    double across = frame->edge + frame->sign * out;
    return frame->vertical ? vec2(across, along) : vec2(along, across);
}

static void dim_line(const DimFrame *frame, double along0, double out0, double along1,
                     double out1) {
    Vec2 a = dim_point(frame, along0, out0), b = dim_point(frame, along1, out1);
    cairo_move_to(frame->cr, a.x, a.y);
    cairo_line_to(frame->cr, b.x, b.y);
}

/* Tip at `along`; pointing towards larger (+1) or smaller (-1) values. */
static void dim_arrow(const DimFrame *frame, double along, double out, double toward,
                      double length) {
    Vec2 tip = dim_point(frame, along, out);
    Vec2 a = dim_point(frame, along - toward * length, out - ARROW_HALF * length);
    Vec2 b = dim_point(frame, along - toward * length, out + ARROW_HALF * length);
    cairo_move_to(frame->cr, tip.x, tip.y);
    cairo_line_to(frame->cr, a.x, a.y);
    cairo_line_to(frame->cr, b.x, b.y);
    cairo_close_path(frame->cr);
}

typedef struct TextPlace {
    cairo_t *cr;
    double x, y;
    bool vertical;
} TextPlace;

static void letter_point(void *context, bool start, double x, double y) {
    const TextPlace *place = context;
    double px = place->vertical ? place->x - y : place->x + x;
    double py = place->vertical ? place->y - x : place->y - y;
    if (start)
        cairo_move_to(place->cr, px, py);
    else
        cairo_line_to(place->cr, px, py);
}

/* Figures stand on `base` (the x of their foot, when vertical), their middle at `middle`; both are
 * moved to the middle of a pixel so that strokes are crisp. */
static void draw_text(const Sheet *sheet, const char *text, bool vertical, double middle,
                      double base) {
    double height = sheet->style->text_height;
    double half = 0.5 * letter_width(text, height);
    double start = floor(vertical ? middle + half : middle - half) + 0.5;
    double foot = floor(base) + 0.5;
    TextPlace place = {sheet->cr, vertical ? foot : start, vertical ? start : foot, vertical};
    letter_draw(&(LetterPen){letter_point, &place}, text, height);
    cairo_set_line_width(sheet->cr, fmax(sheet->style->thin_width, letter_stroke(height)));
    cairo_set_dash(sheet->cr, NULL, 0, 0);
    cairo_set_line_cap(sheet->cr, CAIRO_LINE_CAP_ROUND);
    cairo_set_line_join(sheet->cr, CAIRO_LINE_JOIN_ROUND);
    cairo_stroke(sheet->cr);
}

static void draw_dimension(const Sheet *sheet, const Dimension *dim) {
    double height = sheet->style->text_height, arrow = ARROW_LENGTH * height;
    DimFrame frame = {sheet->cr, dim->vertical, dim->edge, dim->line < dim->edge ? -1 : 1};
    double out = fabs(dim->line - dim->edge);
    cairo_set_line_width(sheet->cr, sheet->style->thin_width);
    cairo_set_dash(sheet->cr, NULL, 0, 0);
    cairo_set_line_cap(sheet->cr, CAIRO_LINE_CAP_BUTT);
    dim_line(&frame, dim->from, EXTENSION_GAP * height, dim->from, out + OVERSHOOT * height);
    dim_line(&frame, dim->to, EXTENSION_GAP * height, dim->to, out + OVERSHOOT * height);
    /* Where two arrows do not fit between the extension lines they point inwards from outside. */
    bool inside = dim->to - dim->from >= 2.4 * arrow;
    double beyond = inside ? 0 : 1.6 * arrow;
    dim_line(&frame, dim->from - beyond, out, dim->to + beyond, out);
    cairo_stroke(sheet->cr);
    dim_arrow(&frame, dim->from, out, inside ? -1 : 1, arrow);
    dim_arrow(&frame, dim->to, out, inside ? 1 : -1, arrow);
    cairo_fill(sheet->cr);
    /* Figures stand above the line (left of a vertical one), or beyond it. */
    bool above = dim->vertical ? dim->text_outside == (frame.sign < 0) : !dim->text_outside;
    double base = above ? dim->line - TEXT_GAP * height : dim->line + (1 + TEXT_GAP) * height;
    draw_text(sheet, dim->text, dim->vertical, dim->text_middle, base);
}

/* ---- the sheet ---- */

static void draw_frame(const Sheet *sheet) {
    double inset = floor(FRAME_INSET * sheet->style->size) + 0.5;
    cairo_set_line_width(sheet->cr, sheet->style->visible_width);
    cairo_set_dash(sheet->cr, NULL, 0, 0);
    cairo_rectangle(sheet->cr, inset, inset, sheet->style->size - 2 * inset,
                    sheet->style->size - 2 * inset);
    cairo_stroke(sheet->cr);
}

static void draw_all(const Sheet *sheet, const SheetLayout *layout,
                     const ViewLines lines[VIEW_COUNT]) {
    const DrawStyle *style = sheet->style;
    for (int v = 0; v < VIEW_COUNT; v++) {
        const ViewPlace *place = &layout->views[v];
        if (!place->there) continue;
        if (style->hidden) draw_hidden(sheet, place, &lines[v]);
        if (style->centre_marks) draw_marks(sheet, place, &lines[v]);
        draw_solid(sheet, place, &lines[v], STROKE_SMOOTH, style->thin_width);
        draw_solid(sheet, place, &lines[v], STROKE_VISIBLE, style->visible_width);
    }
    for (int i = 0; i < layout->dimension_count; i++) draw_dimension(sheet, &layout->dimensions[i]);
    if (style->frame) draw_frame(sheet);
}

/* Ink to paper: gray = 255 - ink · coverage, moved by whole pixels. */
static void print_ink(Image *out, const uint8_t *coverage, int stride, const DrawStyle *style,
                      int shift_x, int shift_y) {
    uint8_t gray[256];
    for (int a = 0; a < 256; a++) gray[a] = (uint8_t)(255 - (int)lround(a * style->ink));
    memset(out->pixels, 255, (size_t)out->width * (size_t)out->height);
    for (int y = 0; y < out->height; y++) {
        int from_y = y - shift_y;
        if (from_y < 0 || from_y >= out->height) continue;
        const uint8_t *row = coverage + (ptrdiff_t)from_y * stride;
        uint8_t *pixels = out->pixels + (ptrdiff_t)y * out->width;
        int first = shift_x > 0 ? shift_x : 0;
        int end = shift_x < 0 ? out->width + shift_x : out->width;
        for (int x = first; x < end; x++) pixels[x] = gray[row[x - shift_x]];
    }
}

Err sheet_draw(Image *out, const DrawStyle *style, const ViewLines lines[VIEW_COUNT], Vec3 box_min,
               Vec3 box_max) {
    *out = (Image){0};
    TRY(draw_style_check(style));
    SheetLayout layout;
    sheet_layout(&layout, style, box_min, box_max, &lines[VIEW_ISO]);
    TRY(image_new(out, style->size, style->size, 1));
    cairo_surface_t *surface =
        cairo_image_surface_create(CAIRO_FORMAT_A8, style->size, style->size);
    cairo_t *cr = cairo_create(surface);
    /* The sheet is drawn with the broken part of the shift and then moved by whole pixels, so that
     * such a move changes nothing else. */
    double whole_x = floor(style->shift_x), whole_y = floor(style->shift_y);
    cairo_translate(cr, style->shift_x - whole_x, style->shift_y - whole_y);
    draw_all(&(Sheet){cr, style}, &layout, lines);
    cairo_surface_flush(surface);
    cairo_status_t status = cairo_status(cr);
    if (status == CAIRO_STATUS_SUCCESS)
        print_ink(out, cairo_image_surface_get_data(surface),
                  cairo_image_surface_get_stride(surface), style, (int)whole_x, (int)whole_y);
    cairo_destroy(cr);
    cairo_surface_destroy(surface);
    if (status == CAIRO_STATUS_SUCCESS) return OK;
    image_free(out);
    FAIL(ERR_MEMORY, "cannot draw a sheet of %d pixels: %s", style->size,
         cairo_status_to_string(status));
}
