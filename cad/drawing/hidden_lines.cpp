// Hidden-line removal.
//
// Edges are chains of chords; what hides them are flat facets that face the viewer, each bounded by
// straight sides (scene.hpp). On a chord, a facet hides the stretch that lies inside its outline
// and behind its plane: the crossings with the outline, counted by parity, and one linear
// inequality. A chord that runs along an outline is decided by looking a hair to both sides of it:
// it is hidden only where both sides are, so that borders between facets leave no gaps and outlines
// stay.
#include <BRepAdaptor_Surface.hxx>
#include <cstdlib>
#include <gp_Sphere.hxx>

#include "cad/drawing/contours.hpp"
#include "cad/drawing/exact_lines.hpp"
#include "cad/drawing/scene.hpp"
#include "cad/drawing/spans.hpp"
#include "cad/drawing/strokes.hpp"
extern "C" {
#include "cad/language/vec.h"
}

namespace {

using cad::Scene;
using cad::Span;
using cad::Spans;

constexpr double TURN = 2 * M_PI;
constexpr double SIDE_STEP = 1e-5; // of the size: how far to both sides a chord is tried
// Of the tolerance: the same for chains on triangulated surfaces, whose triangles stick out beyond
// the chain by as much as both miss the surface.
constexpr double ROUND_STEP = 3;
constexpr double DEPTH_SLACK = 1e-4; // of the size: nearer than this is not in front
constexpr double EDGE_ON = 1e-6;     // cosine below which a facet hides nothing
constexpr double SLIVER = 1.5;       // of the tolerance: shorter stretches are noise
constexpr double MERGE = 0.25;       // of the tolerance: lines nearer than this are one
// Outlines this far (radians) beyond the end of a cylinder are drawn at its end, where their
// numbers are rounded; those this near to a point of its border go through that point …
constexpr double END_TURN = 1e-3, SNAP_TURN = 0.02;
// … unless the outline would be seen to slide, by this much of the tolerance.
constexpr double SNAP_SLIDE = 2;
constexpr double MARK_SWEEP =
    0.97 * M_PI; // arcs of half a turn get a centre mark, as ends of slots

struct View {
    gp_XYZ x, y, toward;

    explicit View(DrawView which) {
        Vec3 n, right;
        view_axes(which, &n, &right);
        toward = gp_XYZ(n.x, n.y, n.z).Normalized();
        x = gp_XYZ(right.x, right.y, right.z).Normalized();
        y = toward.Crossed(x);
    }
    gp_XYZ project(const gp_XYZ &p) const { return gp_XYZ(p.Dot(x), p.Dot(y), p.Dot(toward)); }
};

struct Box {
    double x0, y0, x1, y1, z0, z1;

    void open() {
        x0 = y0 = z0 = 1e300;
        x1 = y1 = z1 = -1e300;
    }
    void add(const gp_XYZ &p) {
        x0 = std::min(x0, p.X()), x1 = std::max(x1, p.X());
        y0 = std::min(y0, p.Y()), y1 = std::max(y1, p.Y());
        z0 = std::min(z0, p.Z()), z1 = std::max(z1, p.Z());
    }
};

struct Side {
    double x0, y0, x1, y1;
};

// A facet as seen in a view: where it lies, z = a x + b y + c, and its outline.
struct Screen {
    double a, b, c, near_slack;
    Box box;
    int face, first, count;
};

// A chain to be drawn: points in view coordinates.
struct Chain {
    const gp_XYZ *points;
    int count;
    int face[2];
    double side; // how far to both sides it is tried
};

class Hider {
  public:
    Hider(const Scene &scene, const View &view, const std::vector<gp_XYZ> &projected);
    // The hidden stretches of a chain, as lengths from its start; and its whole length.
    double hide(const Chain &chain, double sliver, Spans *hidden);

  private:
    void add_screen(const Scene &scene, const cad::SceneFacet &facet, const View &view,
                    const std::vector<gp_XYZ> &projected);
    void hide_chord(const gp_XYZ &from, const gp_XYZ &to, double length, double side_step,
                    double slack, const Screen &screen);

    double side_step_, slack_;
    std::vector<Screen> screens_;
    std::vector<Side> sides_;
    std::vector<const Screen *> near_;
    std::vector<double> near_slack_;
    std::vector<double> crossings_[2];
    Spans hidden_[2]; // of the present chord, on its two sides
};

Hider::Hider(const Scene &scene, const View &view, const std::vector<gp_XYZ> &projected)
    : side_step_(SIDE_STEP * scene.size), slack_(DEPTH_SLACK * scene.size) {
    for (const cad::SceneFacet &facet : scene.facets)
        if (facet.normal.Dot(view.toward) > EDGE_ON) add_screen(scene, facet, view, projected);
}

void Hider::add_screen(const Scene &scene, const cad::SceneFacet &facet, const View &view,
                       const std::vector<gp_XYZ> &projected) {
    Screen screen;
    gp_XYZ normal = view.project(facet.normal);
    screen.a = -normal.X() / normal.Z();
    screen.b = -normal.Y() / normal.Z();
    screen.c = facet.offset / normal.Z();
    screen.near_slack = facet.near_slack;
    screen.face = facet.face;
    screen.first = int(sides_.size());
    screen.box.open();
    auto add_side = [&](const gp_XYZ &from, const gp_XYZ &to) {
        sides_.push_back({from.X(), from.Y(), to.X(), to.Y()});
        screen.box.add(from);
        screen.box.add(to);
    };
    for (int number : facet.edges) {
        const cad::SceneEdge &edge = scene.edges[size_t(number)];
        for (int i = 0; i + 1 < edge.count; i++)
            add_side(projected[size_t(edge.first + i)], projected[size_t(edge.first + i + 1)]);
    }
    for (int i = 0; i < facet.count; i++) {
        const cad::SceneSegment &segment = scene.segments[size_t(facet.first + i)];
        add_side(view.project(segment.from), view.project(segment.to));
    }
    screen.count = int(sides_.size()) - screen.first;
    if (screen.count) screens_.push_back(screen);
}

void Hider::hide_chord(const gp_XYZ &from, const gp_XYZ &to, double length, double side_step,
                       double slack, const Screen &screen) {
    // Behind the plane: depth + t · slope > slack.
    double depth = screen.a * from.X() + screen.b * from.Y() + screen.c - from.Z();
    double end = screen.a * to.X() + screen.b * to.Y() + screen.c - to.Z();
    if (depth <= slack && end <= slack) return;
    Span behind = {0, 1};
    if (depth <= slack) behind.from = (slack - depth) / (end - depth);
    if (end <= slack) behind.to = (slack - depth) / (end - depth);
    // Inside the outline.
    double dx = (to.X() - from.X()) / length, dy = (to.Y() - from.Y()) / length;
    crossings_[0].clear();
    crossings_[1].clear();
    for (int i = screen.first; i < screen.first + screen.count; i++) {
        const Side &side = sides_[size_t(i)];
        double ax = side.x0 - from.X(), ay = side.y0 - from.Y();
        double bx = side.x1 - from.X(), by = side.y1 - from.Y();
        double a = dx * ay - dy * ax, b = dx * by - dy * bx;
        for (int s = 0; s < 2; s++) {
            double line = s ? side_step : -side_step;
            if ((a > line) == (b > line)) continue;
            double share = (line - a) / (b - a);
            double along = dx * (ax + share * (bx - ax)) + dy * (ay + share * (by - ay));
            crossings_[s].push_back(along / length);
        }
    }
    for (int s = 0; s < 2; s++) {
        std::vector<double> &at = crossings_[s];
        std::sort(at.begin(), at.end());
        for (size_t i = 0; i + 1 < at.size(); i += 2) {
            Span span = {std::max(at[i], behind.from), std::min(at[i + 1], behind.to)};
            if (span.from < span.to) hidden_[s].push_back(span);
        }
    }
}

double Hider::hide(const Chain &chain, double sliver, Spans *hidden) {
    hidden->clear();
    Box box;
    box.open();
    for (int i = 0; i < chain.count; i++) box.add(chain.points[i]);
    near_.clear();
    near_slack_.clear();
    for (const Screen &screen : screens_) {
        if (screen.box.x0 > box.x1 + chain.side || screen.box.x1 < box.x0 - chain.side ||
            screen.box.y0 > box.y1 + chain.side || screen.box.y1 < box.y0 - chain.side ||
            screen.box.z1 <= box.z0 + slack_)
            continue;
        bool own = screen.face == chain.face[0] || screen.face == chain.face[1];
        if (own && screen.near_slack < 0) continue;
        near_.push_back(&screen);
        near_slack_.push_back(own ? std::max(slack_, screen.near_slack) : slack_);
    }
    double at = 0;
    for (int i = 0; i + 1 < chain.count; i++) {
        const gp_XYZ &from = chain.points[i], &to = chain.points[i + 1];
        double length = std::hypot(to.X() - from.X(), to.Y() - from.Y());
        if (length <= side_step_) continue;
        hidden_[0].clear();
        hidden_[1].clear();
        double x0 = std::min(from.X(), to.X()) - chain.side,
               x1 = std::max(from.X(), to.X()) + chain.side;
        double y0 = std::min(from.Y(), to.Y()) - chain.side,
               y1 = std::max(from.Y(), to.Y()) + chain.side;
        for (size_t k = 0; k < near_.size(); k++) {
            const Box &other = near_[k]->box;
            if (other.x0 > x1 || other.x1 < x0 || other.y0 > y1 || other.y1 < y0) continue;
            hide_chord(from, to, length, chain.side, near_slack_[k], *near_[k]);
        }
        cad::join_spans(&hidden_[0], 0);
        cad::join_spans(&hidden_[1], 0);
        for (const Span &span : cad::common_spans(hidden_[0], hidden_[1]))
            hidden->push_back({at + span.from * length, at + span.to * length});
        at += length;
    }
    cad::join_spans(hidden, std::min(sliver, 0.25 * at));
    cad::drop_short_spans(hidden, std::min(sliver, 0.25 * at));
    return at;
}

// Draws one view.
class Drawer {
  public:
    Drawer(const Scene &scene, DrawView which, double tolerance);
    void draw(ViewLines *out);

  private:
    void draw_edge(const cad::SceneEdge &edge);
    void draw_outlines(const cad::SceneCone &cone);
    void draw_generator(const cad::SceneCone &cone, double angle);
    void draw_contour(const cad::Contour &contour, int other_face, const cad::SceneEdge *circle);
    void draw_mesh_contours(const cad::SceneMesh &mesh);
    void draw_chain(const Chain &chain, StrokeKind kind, const cad::SceneEdge *circle);
    void emit(const Chain &chain, StrokeKind kind, Span span, const cad::SceneEdge *circle);
    void emit_arc(const std::vector<Vec2> &points, StrokeKind kind, const cad::SceneEdge &circle);
    void note_round(const Chain &chain, const cad::SceneEdge *circle);
    void find_marks(ViewLines *out) const;

    // Arcs of one circle that is seen round: how far they go around it together.
    struct Round {
        Vec2 center;
        double depth, radius, sweep;
    };
    const Scene &scene_;
    bool in_space_;
    double tolerance_, fine_side_, round_side_; // how far to both sides chains are tried
    View view_;
    std::vector<gp_XYZ> projected_;
    Hider hider_;
    cad::StrokeSet strokes_;
    std::vector<Round> rounds_;
    Box bounds_;
};

std::vector<gp_XYZ> project_all(const Scene &scene, const View &view) {
    std::vector<gp_XYZ> out;
    out.reserve(scene.points.size());
    for (const gp_XYZ &p : scene.points) out.push_back(view.project(p));
    return out;
}

Drawer::Drawer(const Scene &scene, DrawView which, double tolerance)
    : scene_(scene), in_space_(which == VIEW_ISO), tolerance_(tolerance),
      fine_side_(SIDE_STEP * scene.size),
      round_side_(scene.round ? ROUND_STEP * tolerance : fine_side_), view_(which),
      projected_(project_all(scene, view_)), hider_(scene, view_, projected_),
      strokes_(MERGE * tolerance) {
    bounds_.open();
}

bool seen_round(const cad::SceneEdge &edge, const View &view) {
    return edge.circular && std::fabs(edge.axis.Dot(view.toward)) > 1 - 1e-9;
}

// The part of a chain between two lengths.
std::vector<Vec2> chain_part(const Chain &chain, Span span) {
    std::vector<Vec2> out;
    double at = 0;
    for (int i = 0; i + 1 < chain.count; i++) {
        const gp_XYZ &a = chain.points[i], &b = chain.points[i + 1];
        double length = std::hypot(b.X() - a.X(), b.Y() - a.Y());
        double from = std::max(0.0, span.from - at), to = std::min(length, span.to - at);
        if (length > 0 && from < to) {
            auto point = [&](double d) {
                return vec2(a.X() + d / length * (b.X() - a.X()),
                            a.Y() + d / length * (b.Y() - a.Y()));
            };
            if (out.empty()) out.push_back(point(from));
            out.push_back(to == length ? vec2(b.X(), b.Y()) : point(to));
        }
        at += length;
    }
    return out;
}

void Drawer::emit_arc(const std::vector<Vec2> &points, StrokeKind kind,
                      const cad::SceneEdge &circle) {
    gp_XYZ middle = view_.project(circle.center);
    Vec2 center = vec2(middle.X(), middle.Y());
    auto angle_of = [&](Vec2 p) { return std::atan2(p.y - center.y, p.x - center.x); };
    double start = angle_of(points[0]), sweep = 0;
    for (size_t i = 1; i < points.size(); i++) {
        double turn = angle_of(points[i]) - angle_of(points[i - 1]);
        sweep += turn - TURN * std::round(turn / TURN);
    }
    if (sweep < 0) start += sweep;
    strokes_.add_arc(kind, center, circle.radius, start, std::min(std::fabs(sweep), TURN));
}

void Drawer::emit(const Chain &chain, StrokeKind kind, Span span, const cad::SceneEdge *circle) {
    if (kind == STROKE_HIDDEN && in_space_) return;
    std::vector<Vec2> points = chain_part(chain, span);
    if (points.size() < 2) return;
    if (circle && seen_round(*circle, view_))
        emit_arc(points, kind, *circle);
    else if (points.size() == 2)
        strokes_.add_segment(kind, points[0], points[1]);
    else
        strokes_.add_path(kind, points);
}

void Drawer::draw_chain(const Chain &chain, StrokeKind kind, const cad::SceneEdge *circle) {
    for (int i = 0; i < chain.count; i++) bounds_.add(chain.points[i]);
    Spans hidden, visible;
    double length = hider_.hide(chain, SLIVER * tolerance_, &hidden);
    // A seam is a place like any other on its face: it only counts as the outline that it may be.
    bool seam = circle && circle->face[0] == circle->face[1];
    if (kind == STROKE_VISIBLE && (!seam || hidden.empty())) note_round(chain, circle);
    cad::cut_spans({0, length}, hidden, 0, &visible);
    for (const Span &span : visible) emit(chain, kind, span, circle);
    if (kind == STROKE_VISIBLE)
        for (const Span &span : hidden) emit(chain, STROKE_HIDDEN, span, circle);
}

void Drawer::draw_edge(const cad::SceneEdge &edge) {
    if (edge.count < 2 || edge.face[0] < 0) return;
    if (edge.smooth && (!in_space_ || edge.face[0] == edge.face[1])) return;
    Chain chain = {&projected_[size_t(edge.first)],
                   edge.count,
                   {edge.face[0], edge.face[1]},
                   edge.beside_round ? round_side_ : fine_side_};
    draw_chain(chain, edge.smooth ? STROKE_SMOOTH : STROKE_VISIBLE, &edge);
}

void Drawer::draw_contour(const cad::Contour &contour, int other_face,
                          const cad::SceneEdge *circle) {
    std::vector<gp_XYZ> points;
    for (const gp_XYZ &p : contour.points) points.push_back(view_.project(p));
    Chain chain = {points.data(), int(points.size()), {contour.face, other_face}, round_side_};
    draw_chain(chain, STROKE_VISIBLE, circle);
}

void Drawer::draw_generator(const cad::SceneCone &cone, double angle) {
    std::vector<cad::HeightRange> ranges;
    Spans heights;
    for (int side : {-1, +1}) {
        cad::cone_ranges(cone, angle, side, &ranges);
        for (const cad::HeightRange &range : ranges) heights.push_back({range.low, range.high});
    }
    cad::join_spans(&heights, 0);
    gp_XYZ foot = cone.origin + cone.radial(angle) * cone.radius;
    gp_XYZ along = cone.axis + cone.radial(angle) * cone.slope;
    for (const Span &span : heights) {
        gp_XYZ ends[2] = {view_.project(foot + along * span.from),
                          view_.project(foot + along * span.to)};
        draw_chain({ends, 2, {cone.face, -1}, round_side_}, STROKE_VISIBLE, nullptr);
    }
}

// The outlines of a cylinder or cone: the generators where its normal, radial - slope axis, is at
// right angles to the view.
void Drawer::draw_outlines(const cad::SceneCone &cone) {
    double a = cone.x.Dot(view_.toward), b = cone.y.Dot(view_.toward), across = std::hypot(a, b);
    double share = cone.slope * cone.axis.Dot(view_.toward) / across;
    if (cone.chords.empty() || across < EDGE_ON || std::fabs(share) >= 1) return;
    double low = cone.chords[0].angle[0], high = low;
    for (const cad::SceneChord &chord : cone.chords)
        for (double angle : chord.angle) {
            low = std::min(low, angle);
            high = std::max(high, angle);
        }
    // Turned by an angle, an outline slides along itself by this much.
    double slide = cone.widest * std::fabs(cone.axis.Dot(view_.toward));
    // a cos + b sin = share across, at two angles of a turn
    double middle = std::atan2(b, a), apart = std::acos(share);
    for (double k = std::floor((low - END_TURN - middle) / TURN) - 1;
         middle + k * TURN - apart <= high + END_TURN; k++)
        for (double exact : {middle + k * TURN - apart, middle + k * TURN + apart}) {
            if (exact < low - END_TURN || exact > high + END_TURN) continue;
            double angle = exact, nearest = SNAP_TURN;
            for (const cad::SceneChord &chord : cone.chords)
                for (double end : chord.angle) {
                    double off = std::fabs(end - exact);
                    if (off > nearest || off * slide > SNAP_SLIDE * tolerance_) continue;
                    nearest = off;
                    angle = end;
                }
            draw_generator(cone, angle);
        }
}

// The outlines of a triangulated surface. Those of a sphere are arcs.
void Drawer::draw_mesh_contours(const cad::SceneMesh &mesh) {
    BRepAdaptor_Surface surface(mesh.shape, Standard_False);
    cad::SceneEdge circle = {};
    circle.face[1] = -1;
    circle.circular = surface.GetType() == GeomAbs_Sphere;
    if (circle.circular) {
        circle.center = surface.Sphere().Location().XYZ();
        circle.axis = view_.toward;
        circle.radius = surface.Sphere().Radius();
    }
    for (const cad::Contour &contour : cad::mesh_contours(scene_, mesh, view_.toward))
        draw_contour(contour, -1, &circle);
}

void Drawer::note_round(const Chain &chain, const cad::SceneEdge *circle) {
    if (!circle || !seen_round(*circle, view_)) return;
    gp_XYZ center = view_.project(circle->center);
    double sweep = 0;
    for (int i = 0; i + 1 < chain.count; i++) {
        gp_XYZ a = chain.points[i] - center, b = chain.points[i + 1] - center;
        sweep += std::atan2(a.Crossed(b).Modulus(), a.Dot(b));
    }
    for (Round &round : rounds_)
        if (vec2_distance(round.center, vec2(center.X(), center.Y())) <= tolerance_ &&
            std::fabs(round.radius - circle->radius) <= tolerance_ &&
            std::fabs(round.depth - center.Z()) <= tolerance_) {
            round.sweep += sweep;
            return;
        }
    rounds_.push_back({vec2(center.X(), center.Y()), center.Z(), circle->radius, sweep});
}

// Circles that are seen round get one pair of centre lines a centre: for the largest whole circle
// there, else for the largest arc of half a turn.
void Drawer::find_marks(ViewLines *out) const {
    std::vector<Round> marks;
    for (const Round &round : rounds_) {
        if (round.sweep < MARK_SWEEP) continue;
        bool whole = round.sweep > TURN - 0.1, better = true;
        for (Round &mark : marks) {
            if (vec2_distance(mark.center, round.center) > tolerance_) continue;
            bool mark_whole = mark.sweep > TURN - 0.1;
            if (whole > mark_whole || (whole == mark_whole && round.radius > mark.radius))
                mark = round;
            better = false;
        }
        if (better) marks.push_back(round);
    }
    if (marks.empty()) return;
    out->marks = static_cast<CentreMark *>(std::malloc(marks.size() * sizeof *out->marks));
    if (!out->marks) throw std::bad_alloc();
    for (const Round &mark : marks) out->marks[out->mark_count++] = {mark.center, mark.radius};
}

void Drawer::draw(ViewLines *out) {
    for (const cad::SceneEdge &edge : scene_.edges) draw_edge(edge);
    for (const cad::SceneCone &cone : scene_.cones) draw_outlines(cone);
    for (const cad::SceneMesh &mesh : scene_.meshes) draw_mesh_contours(mesh);
    for (const cad::SceneEdge &edge : scene_.edges)
        if (edge.smooth)
            for (const cad::Contour &contour : cad::edge_contours(scene_, edge, view_.toward))
                draw_contour(contour, edge.face[1], &edge);
    strokes_.finish(out);
    if (!in_space_) find_marks(out);
    out->min = vec2(bounds_.x0, bounds_.y0);
    out->max = vec2(bounds_.x1, bounds_.y1);
}

} // namespace

bool hidden_lines(ViewLines lines[VIEW_COUNT], const Solid *solid, const LineOptions *options,
                  SolidNote *note) {
    for (int view = 0; view < VIEW_COUNT; view++) lines[view] = ViewLines{};
    note->text[0] = 0;
    bool done = cad::guarded("drawing the solid", false, note, [&] {
        Scene scene = cad::make_scene(solid->shape, options->tolerance);
        for (int view = 0; view < VIEW_COUNT; view++)
            if (options->views & (1u << view))
                Drawer(scene, DrawView(view), options->tolerance).draw(&lines[view]);
        if (options->exact) cad::exact_lines(lines, solid->shape, *options);
        return true;
    });
    if (!done)
        for (int view = 0; view < VIEW_COUNT; view++) view_lines_free(&lines[view]);
    return done;
}
