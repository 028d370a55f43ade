// Tidies the lines of one view.
#include "cad/drawing/strokes.hpp"

#include <cstdlib>
#include <cstring>

#include "cad/drawing/spans.hpp"
extern "C" {
#include "cad/language/vec.h"
}

namespace {

constexpr double TURN = 2 * M_PI;

// Lines of each kind on one carrier (a straight line or a circle), by their place on it. Visible
// ones win over hidden ones, and those over smooth ones.
struct Carrier {
    cad::Spans of[3];

    void tidy(double gap) {
        cad::Spans covered;
        for (StrokeKind kind : {STROKE_VISIBLE, STROKE_HIDDEN, STROKE_SMOOTH}) {
            cad::Spans &spans = of[kind], left;
            cad::join_spans(&spans, gap);
            for (const cad::Span &span : spans) cad::cut_spans(span, covered, gap, &left);
            spans = left;
            covered.insert(covered.end(), spans.begin(), spans.end());
            cad::join_spans(&covered, gap);
        }
    }
};

template <typename Item> Item *copied(const std::vector<Item> &items) {
    if (items.empty()) return nullptr;
    Item *out = static_cast<Item *>(std::malloc(items.size() * sizeof(Item)));
    if (!out) throw std::bad_alloc();
    std::memcpy(out, items.data(), items.size() * sizeof(Item));
    return out;
}

} // namespace

void cad::StrokeSet::add_segment(StrokeKind kind, Vec2 from, Vec2 to) {
    double length = vec2_distance(from, to);
    if (length > tolerance_) lines_.push_back({kind, from, to, length});
}

void cad::StrokeSet::add_arc(StrokeKind kind, Vec2 center, double radius, double start,
                             double sweep) {
    if (radius * sweep > tolerance_) arcs_.push_back({kind, center, radius, start, sweep});
}

void cad::StrokeSet::add_path(StrokeKind kind, const std::vector<Vec2> &points) {
    if (points.size() < 2) return;
    Vec2 from = points[0], far = points[0];
    for (const Vec2 &p : points)
        if (vec2_distance(p, from) > vec2_distance(far, from)) far = p;
    double length = vec2_distance(from, far);
    if (length <= tolerance_) return;
    Vec2 along = vec2((far.x - from.x) / length, (far.y - from.y) / length);
    double off = 0, low = 0, high = length;
    for (const Vec2 &p : points) {
        off = std::max(off, std::fabs(vec2_cross(along, vec2_sub(p, from))));
        double at = vec2_dot(along, vec2_sub(p, from));
        low = std::min(low, at);
        high = std::max(high, at);
    }
    if (off <= 0.25 * tolerance_) {
        add_segment(kind, vec2(from.x + low * along.x, from.y + low * along.y),
                    vec2(from.x + high * along.x, from.y + high * along.y));
        return;
    }
    paths_.push_back({kind, int(points_.size()), int(points.size())});
    points_.insert(points_.end(), points.begin(), points.end());
}

void cad::StrokeSet::tidy_lines(std::vector<Stroke> *out) {
    struct Straight {
        Vec2 origin, along;
        Carrier carrier;
    };
    std::vector<Straight> straights;
    std::stable_sort(lines_.begin(), lines_.end(),
                     [](const Line &a, const Line &b) { return a.length > b.length; });
    for (const Line &line : lines_) {
        Straight *on = nullptr;
        for (Straight &straight : straights) {
            double a = vec2_cross(straight.along, vec2_sub(line.from, straight.origin));
            double b = vec2_cross(straight.along, vec2_sub(line.to, straight.origin));
            if (std::fabs(a) > tolerance_ || std::fabs(b) > tolerance_) continue;
            on = &straight;
            break;
        }
        if (!on) {
            Vec2 along = vec2((line.to.x - line.from.x) / line.length,
                              (line.to.y - line.from.y) / line.length);
            straights.push_back({line.from, along, {}});
            on = &straights.back();
        }
        double a = vec2_dot(on->along, vec2_sub(line.from, on->origin));
        double b = vec2_dot(on->along, vec2_sub(line.to, on->origin));
        on->carrier.of[line.kind].push_back({std::min(a, b), std::max(a, b)});
    }
    for (Straight &straight : straights) {
        straight.carrier.tidy(tolerance_);
        for (int kind = 0; kind < 3; kind++)
            for (const Span &span : straight.carrier.of[kind]) {
                Stroke stroke = {};
                stroke.kind = StrokeKind(kind);
                stroke.shape = STROKE_SEGMENT;
                stroke.from = vec2(straight.origin.x + span.from * straight.along.x,
                                   straight.origin.y + span.from * straight.along.y);
                stroke.to = vec2(straight.origin.x + span.to * straight.along.x,
                                 straight.origin.y + span.to * straight.along.y);
                out->push_back(stroke);
            }
    }
}

void cad::StrokeSet::tidy_arcs(std::vector<Stroke> *out) {
    struct Circle {
        Vec2 center;
        double radius;
        Carrier carrier;
    };
    std::vector<Circle> circles;
    for (const Arc &arc : arcs_) {
        Circle *on = nullptr;
        for (Circle &circle : circles) {
            if (vec2_distance(circle.center, arc.center) > tolerance_ ||
                std::fabs(circle.radius - arc.radius) > tolerance_)
                continue;
            on = &circle;
            break;
        }
        if (!on) {
            circles.push_back({arc.center, arc.radius, {}});
            on = &circles.back();
        }
        // Angles lie in one turn; an arc over its end is kept as two.
        double start = arc.start - TURN * std::floor(arc.start / TURN), end = start + arc.sweep;
        Spans &spans = on->carrier.of[arc.kind];
        spans.push_back({start, std::min(end, TURN)});
        if (end > TURN) spans.push_back({0, end - TURN});
    }
    for (Circle &circle : circles) {
        double gap = tolerance_ / circle.radius;
        circle.carrier.tidy(gap);
        for (int kind = 0; kind < 3; kind++) {
            Spans &spans = circle.carrier.of[kind];
            if (spans.size() > 1 && spans.front().from <= gap && spans.back().to >= TURN - gap) {
                spans.back().to = TURN + spans.front().to;
                spans.erase(spans.begin());
            }
            for (const Span &span : spans) {
                Stroke stroke = {};
                stroke.kind = StrokeKind(kind);
                stroke.shape = STROKE_ARC;
                stroke.center = circle.center;
                stroke.radius = circle.radius;
                stroke.start = span.from;
                stroke.sweep = span.to - span.from;
                out->push_back(stroke);
            }
        }
    }
}

void cad::StrokeSet::finish(ViewLines *out) {
    std::vector<Stroke> strokes;
    tidy_lines(&strokes);
    tidy_arcs(&strokes);
    for (const Path &path : paths_) {
        Stroke stroke = {};
        stroke.kind = path.kind;
        stroke.shape = STROKE_PATH;
        stroke.first = path.first;
        stroke.count = path.count;
        strokes.push_back(stroke);
    }
    out->strokes = copied(strokes);
    out->stroke_count = int(strokes.size());
    out->points = copied(points_);
    out->point_count = int(points_.size());
}
