// The lines of one view, tidied: lines that lie on one another become one, and what a visible line
// covers is not drawn hidden as well.
#ifndef CADVLM_CAD_DRAWING_STROKES_HPP
#define CADVLM_CAD_DRAWING_STROKES_HPP

#include <vector>

#include "cad/solid/shape.hpp"
#define _Noreturn [[noreturn]]
extern "C" {
#include "cad/drawing/hidden_lines.h"
}
#undef _Noreturn

namespace cad {

class StrokeSet {
  public:
    // `tolerance`: how far apart lines may be and still count as one.
    explicit StrokeSet(double tolerance) : tolerance_(tolerance) {}

    void add_segment(StrokeKind kind, Vec2 from, Vec2 to);
    void add_arc(StrokeKind kind, Vec2 center, double radius, double start, double sweep);
    // Straight paths are added as segments.
    void add_path(StrokeKind kind, const std::vector<Vec2> &points);

    // Hands the tidied strokes over; memory by malloc.
    void finish(ViewLines *out);

  private:
    struct Line {
        StrokeKind kind;
        Vec2 from, to;
        double length;
    };
    struct Arc {
        StrokeKind kind;
        Vec2 center;
        double radius, start, sweep;
    };
    struct Path {
        StrokeKind kind;
        int first, count;
    };
    void tidy_lines(std::vector<Stroke> *out);
    void tidy_arcs(std::vector<Stroke> *out);

    double tolerance_;
    std::vector<Line> lines_;
    std::vector<Arc> arcs_;
    std::vector<Path> paths_;
    std::vector<Vec2> points_;
};

} // namespace cad

#endif
