#include "tests/cad/depth_image.h"

#include "cad/language/vec.h"
#include "tests/cad/line_compare.h"

#define MARGIN 12   /* pixels around the solid */
#define JUMP   0.01 /* of the solid's size: a step of depth that shows */
#define CREASE 0.9  /* cosine between normals: sharper is an edge */
#define NEAR   2.5  /* pixels between an edge and its line */
#define WALL   1.0  /* pixels: half the width of a line that a flood cannot cross */
#define RIM    3    /* pixels from the outline that a flood may reach */

typedef struct Frame {
    Vec3 x, y, toward;
} Frame;

static Frame view_frame(DrawView view) {
    Frame f;
    view_axes(view, &f.toward, &f.x);
    f.toward = vec3_scale(f.toward, 1 / vec3_length(f.toward));
    f.x = vec3_scale(f.x, 1 / vec3_length(f.x));
    f.y = vec3_cross(f.toward, f.x);
    return f;
}

static Vec3 seen_from(const Frame *f, Vec3 p) {
    return vec3(vec3_dot(f->x, p), vec3_dot(f->y, p), vec3_dot(f->toward, p));
}

static DepthPixel *at(const DepthImage *image, int x, int y) {
    return &image->pixels[y * DEPTH_SIDE + x];
}

static void fill_triangle(DepthImage *image, const Vec3 p[3]) {
    Vec3 n = vec3_cross(vec3_sub(p[1], p[0]), vec3_sub(p[2], p[0]));
    double length = vec3_length(n);
    if (!(length > 0) || n.z <= 1e-9 * length) return;
    double x[3], y[3];
    int low_x = DEPTH_SIDE, high_x = 0, low_y = DEPTH_SIDE, high_y = 0;
    for (int c = 0; c < 3; c++) {
        x[c] = (p[c].x - image->origin.x) * image->scale;
        y[c] = (p[c].y - image->origin.y) * image->scale;
        low_x = (int)fmin(low_x, floor(x[c]));
        high_x = (int)fmax(high_x, ceil(x[c]));
        low_y = (int)fmin(low_y, floor(y[c]));
        high_y = (int)fmax(high_y, ceil(y[c]));
    }
    for (int j = low_y; j <= high_y; j++)
        for (int i = low_x; i <= high_x; i++) {
            bool inside = true;
            for (int c = 0; c < 3 && inside; c++) {
                int d = (c + 1) % 3;
                inside = (x[d] - x[c]) * (j - y[c]) - (y[d] - y[c]) * (i - x[c]) >= 0;
            }
            if (!inside) continue;
            double depth = p[0].z - (n.x * (i / image->scale + image->origin.x - p[0].x) +
                                     n.y * (j / image->scale + image->origin.y - p[0].y)) /
                                        n.z;
            DepthPixel *pixel = at(image, i, j);
            if (pixel->covered && pixel->depth >= depth) continue;
            *pixel = (DepthPixel){true, depth, {n.x / length, n.y / length, n.z / length}};
        }
}

void depth_image_open(DepthImage *image, const Vec3 *corners, int triangles, DrawView view) {
    Frame frame = view_frame(view);
    Vec3 low = vec3(1e300, 1e300, 1e300), high = vec3(-1e300, -1e300, -1e300);
    for (int i = 0; i < 3 * triangles; i++) {
        Vec3 p = seen_from(&frame, corners[i]);
        low = vec3(fmin(low.x, p.x), fmin(low.y, p.y), fmin(low.z, p.z));
        high = vec3(fmax(high.x, p.x), fmax(high.y, p.y), fmax(high.z, p.z));
    }
    double widest = fmax(high.x - low.x, high.y - low.y);
    image->pixels = calloc((size_t)DEPTH_SIDE * DEPTH_SIDE, sizeof *image->pixels);
    image->scale = (DEPTH_SIDE - 2 * MARGIN) / widest;
    image->origin = vec2(low.x - MARGIN / image->scale, low.y - MARGIN / image->scale);
    image->size = vec3_length(vec3_sub(high, low));
    for (int i = 0; i < triangles; i++) {
        Vec3 p[3];
        for (int c = 0; c < 3; c++) p[c] = seen_from(&frame, corners[3 * i + c]);
        fill_triangle(image, p);
    }
}

void depth_image_close(DepthImage *image) {
    free(image->pixels);
    image->pixels = NULL;
}

/* How far the depth of b lies from the plane that is seen in a. */
static double off_plane(const DepthImage *image, const DepthPixel *a, const DepthPixel *b, int dx,
                        int dy) {
    double step = -(a->normal[0] * dx + a->normal[1] * dy) / a->normal[2] / image->scale;
    return fabs(b->depth - a->depth - step);
}

static bool is_edge(const DepthImage *image, int x, int y, int dx, int dy) {
    const DepthPixel *a = at(image, x, y), *b = at(image, x + dx, y + dy);
    if (!a->covered || !b->covered) return a->covered != b->covered;
    double jump = fmin(off_plane(image, a, b, dx, dy), off_plane(image, b, a, -dx, -dy));
    double cosine = 0;
    for (int c = 0; c < 3; c++) cosine += a->normal[c] * b->normal[c];
    return jump > JUMP * image->size || cosine < CREASE;
}

/* Marks every pixel within `reach` pixels of a piece. */
static void mark_piece(const DepthImage *image, uint8_t *marks, const Piece *piece, double reach) {
    Piece pixels = {{(piece->from.x - image->origin.x) * image->scale,
                     (piece->from.y - image->origin.y) * image->scale},
                    {(piece->to.x - image->origin.x) * image->scale,
                     (piece->to.y - image->origin.y) * image->scale}};
    int low_x = (int)fmax(0, fmin(pixels.from.x, pixels.to.x) - reach);
    int high_x = (int)fmin(DEPTH_SIDE - 1, fmax(pixels.from.x, pixels.to.x) + reach + 1);
    int low_y = (int)fmax(0, fmin(pixels.from.y, pixels.to.y) - reach);
    int high_y = (int)fmin(DEPTH_SIDE - 1, fmax(pixels.from.y, pixels.to.y) + reach + 1);
    for (int y = low_y; y <= high_y; y++)
        for (int x = low_x; x <= high_x; x++)
            if (piece_is_near(&pixels, vec2(x, y), reach)) marks[y * DEPTH_SIDE + x] = 1;
}

static uint8_t *mark_lines(const DepthImage *image, Pieces lines, double reach) {
    uint8_t *marks = calloc(DEPTH_SIDE * DEPTH_SIDE, 1);
    for (int i = 0; i < lines.count; i++) mark_piece(image, marks, &lines.items[i], reach);
    return marks;
}

/* Edges without a line: how many steps between pixels, which is their length in pixels. */
static double missing_edges(const DepthImage *image, Pieces lines) {
    uint8_t *marks = mark_lines(image, lines, NEAR);
    int missing = 0, all = 0;
    for (int y = 0; y + 1 < DEPTH_SIDE; y++)
        for (int x = 0; x + 1 < DEPTH_SIDE; x++)
            for (int way = 0; way < 2; way++) {
                if (!is_edge(image, x, y, way == 0, way == 1)) continue;
                all++;
                missing += !marks[y * DEPTH_SIDE + x];
            }
    free(marks);
    return (double)missing / all;
}

static double extra_lines(const DepthImage *image, Pieces lines) {
    int reach = (int)(NEAR + 1);
    uint8_t *near = calloc(DEPTH_SIDE * DEPTH_SIDE, 1);
    for (int y = reach; y + reach < DEPTH_SIDE; y++)
        for (int x = reach; x + reach < DEPTH_SIDE; x++)
            if (is_edge(image, x, y, 1, 0) || is_edge(image, x, y, 0, 1))
                for (int j = -reach; j <= reach; j++)
                    memset(&near[(y + j) * DEPTH_SIDE + x - reach], 1, (size_t)(2 * reach + 1));
    double extra = 0, all = 0;
    for (int i = 0; i < lines.count; i++) {
        const Piece *piece = &lines.items[i];
        double length = vec2_distance(piece->from, piece->to);
        int steps = 1 + (int)(length * image->scale);
        for (int k = 0; k < steps; k++) {
            double share = (k + 0.5) / steps;
            Vec2 p = vec2(piece->from.x + share * (piece->to.x - piece->from.x),
                          piece->from.y + share * (piece->to.y - piece->from.y));
            int x = (int)lround((p.x - image->origin.x) * image->scale);
            int y = (int)lround((p.y - image->origin.y) * image->scale);
            bool inside = x >= 0 && x < DEPTH_SIDE && y >= 0 && y < DEPTH_SIDE;
            if (!inside || !near[y * DEPTH_SIDE + x]) extra += length / steps;
            all += length / steps;
        }
    }
    free(near);
    return extra / all;
}

static bool deep_inside(const DepthImage *image, int x, int y) {
    for (int j = -RIM; j <= RIM; j++)
        for (int i = -RIM; i <= RIM; i++)
            if (!at(image, x + i, y + j)->covered) return false;
    return true;
}

/* Floods the sheet from its corner; lines are walls. */
static double leak(const DepthImage *image, Pieces lines) {
    uint8_t *wall = mark_lines(image, lines, WALL);
    int *stack = malloc(sizeof *stack * DEPTH_SIDE * DEPTH_SIDE), count = 0, reached = 0, all = 0;
    wall[0] = 1;
    stack[count++] = 0;
    uint8_t *wet = calloc(DEPTH_SIDE * DEPTH_SIDE, 1);
    while (count) {
        int here = stack[--count], x = here % DEPTH_SIDE, y = here / DEPTH_SIDE;
        wet[here] = 1;
        const int next[4][2] = {{x - 1, y}, {x + 1, y}, {x, y - 1}, {x, y + 1}};
        for (int i = 0; i < 4; i++) {
            if (next[i][0] < 0 || next[i][0] >= DEPTH_SIDE || next[i][1] < 0 ||
                next[i][1] >= DEPTH_SIDE)
                continue;
            int there = next[i][1] * DEPTH_SIDE + next[i][0];
            if (wall[there]) continue;
            wall[there] = 1;
            stack[count++] = there;
        }
    }
    for (int y = RIM; y + RIM < DEPTH_SIDE; y++)
        for (int x = RIM; x + RIM < DEPTH_SIDE; x++) {
            if (!deep_inside(image, x, y)) continue;
            all++;
            reached += wet[y * DEPTH_SIDE + x];
        }
    free(wall);
    free(stack);
    free(wet);
    return all ? (double)reached / all : 0;
}

DepthVerdict depth_image_judge(const DepthImage *image, const ViewLines *lines) {
    Pieces visible = pieces_of(lines, 1u << STROKE_VISIBLE);
    DepthVerdict verdict = {missing_edges(image, visible), extra_lines(image, visible),
                            leak(image, visible)};
    free(visible.items);
    return verdict;
}
