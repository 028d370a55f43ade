// Volumes by columns: where a vertical line enters and leaves a closed mesh.
#include "cad/solid/columns.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cad/drawing/spans.hpp"

namespace cad {
namespace {

constexpr int COLUMNS = 64;
// Columns stand off the middle of their cells by shares that no drawing has, so that they meet no
// edge.
constexpr double OFF_X = 0.5 + 0.0137, OFF_Y = 0.5 - 0.0219;

struct Grid {
    double x, y, step_x, step_y;
};

using Crossings = std::vector<std::vector<double>>; // a column each

double turn(const gp_XYZ &a, const gp_XYZ &b, double x, double y) {
    return (b.X() - a.X()) * (y - a.Y()) - (b.Y() - a.Y()) * (x - a.X());
}

int first_cell(double value, double origin, double step, double off) {
    return std::clamp(int(std::ceil((value - origin) / step - off)), 0, COLUMNS);
}

void add_crossings(const Triangle &triangle, const Grid &grid, Crossings *out) {
    const gp_XYZ &a = triangle.corner[0], &b = triangle.corner[1], &c = triangle.corner[2];
    double area = turn(a, b, c.X(), c.Y());
    if (area == 0) return;
    double x0 = std::min({a.X(), b.X(), c.X()}), x1 = std::max({a.X(), b.X(), c.X()});
    double y0 = std::min({a.Y(), b.Y(), c.Y()}), y1 = std::max({a.Y(), b.Y(), c.Y()});
    for (int j = first_cell(y0, grid.y, grid.step_y, OFF_Y); j < COLUMNS; j++) {
        double y = grid.y + (j + OFF_Y) * grid.step_y;
        if (y > y1) break;
        for (int i = first_cell(x0, grid.x, grid.step_x, OFF_X); i < COLUMNS; i++) {
            double x = grid.x + (i + OFF_X) * grid.step_x;
            if (x > x1) break;
            double u = turn(b, c, x, y) / area, v = turn(c, a, x, y) / area, w = 1 - u - v;
            if (u < 0 || v < 0 || w < 0) continue;
            (*out)[size_t(j * COLUMNS + i)].push_back(u * a.Z() + v * b.Z() + w * c.Z());
        }
    }
}

Spans inside(std::vector<double> *crossings) {
    std::sort(crossings->begin(), crossings->end());
    Spans spans;
    for (size_t i = 0; i + 1 < crossings->size(); i += 2)
        spans.push_back({(*crossings)[i], (*crossings)[i + 1]});
    return spans;
}

double total(const Spans &spans) {
    double sum = 0;
    for (const Span &span : spans) sum += span.to - span.from;
    return sum;
}

// Along all columns of a grid: lengths that both meshes have, and those of both added.
struct Lengths {
    double common = 0, sum = 0;
};

Lengths lengths(const std::vector<Triangle> &a, const std::vector<Triangle> &b, const Grid &grid) {
    Lengths out;
    if (!(grid.step_x > 0) || !(grid.step_y > 0)) return out;
    Crossings of_a(COLUMNS * COLUMNS), of_b(COLUMNS * COLUMNS);
    for (const Triangle &triangle : a) add_crossings(triangle, grid, &of_a);
    for (const Triangle &triangle : b) add_crossings(triangle, grid, &of_b);
    for (size_t i = 0; i < of_a.size(); i++) {
        Spans in_a = inside(&of_a[i]), in_b = inside(&of_b[i]);
        out.common += total(common_spans(in_a, in_b));
        out.sum += total(in_a) + total(in_b);
    }
    return out;
}

Grid grid_over(const double low[2], const double high[2]) {
    return {low[0], low[1], (high[0] - low[0]) / COLUMNS, (high[1] - low[1]) / COLUMNS};
}

} // namespace

double common_by_columns(const std::vector<Triangle> &a, const std::vector<Triangle> &b,
                         const double low[2], const double high[2]) {
    Grid grid = grid_over(low, high);
    return lengths(a, b, grid).common * grid.step_x * grid.step_y;
}

double iou_by_columns(const std::vector<Triangle> &a, const std::vector<Triangle> &b) {
    double low[2] = {1e300, 1e300}, high[2] = {-1e300, -1e300};
    for (const std::vector<Triangle> *mesh : {&a, &b})
        for (const Triangle &triangle : *mesh)
            for (const gp_XYZ &corner : triangle.corner)
                for (int k = 0; k < 2; k++) {
                    low[k] = std::min(low[k], corner.Coord(k + 1));
                    high[k] = std::max(high[k], corner.Coord(k + 1));
                }
    Lengths found = lengths(a, b, grid_over(low, high));
    double united = found.sum - found.common;
    return united > 0 ? found.common / united : std::numeric_limits<double>::quiet_NaN();
}

} // namespace cad
