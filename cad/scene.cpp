// Cuts a solid into chains of chords and flat facets.
#include "cad/scene.hpp"

#include <BRepAdaptor_Curve.hxx>
#include <BRepAdaptor_Surface.hxx>
#include <BRep_Tool.hxx>
#include <GCPnts_TangentialDeflection.hxx>
#include <Geom2d_Curve.hxx>
#include <Poly_Triangulation.hxx>
#include <TopExp.hxx>
#include <TopExp_Explorer.hxx>
#include <TopTools_IndexedMapOfShape.hxx>
#include <TopoDS.hxx>
#include <TopoDS_Edge.hxx>
#include <TopoDS_Face.hxx>
#include <TopoDS_Vertex.hxx>
#include <algorithm>
#include <array>
#include <cmath>
#include <gp_Circ.hxx>
#include <gp_Cylinder.hxx>
#include <gp_Pln.hxx>
#include <map>

#include "cad/mesh.hpp"

namespace cad {
namespace {

constexpr double TURN = 2 * M_PI;
// Angles of chord ends this near (radians) to the grid are taken to lie on it, and those nearer to
// one another are equal: a face is only cut right where all its edges agree.
constexpr double GRID_SNAP = 1e-3, ANGLE_NOISE = 1e-6;
constexpr double SMOOTH_ANGLE = 0.02; // radians between the normals of two faces
constexpr double FREE_CURVE_TURN = 0.15;
constexpr double FREE_MESH_TURN = 0.25;

// The frame that angles about an axis are counted in: the same for all circles and cylinders of
// that direction, whatever their own frames are.
struct AngleFrame {
    gp_XYZ axis, x, y;

    explicit AngleFrame(gp_Dir direction) {
        double c[3] = {direction.X(), direction.Y(), direction.Z()};
        for (double value : c) {
            if (std::fabs(value) < 1e-9) continue;
            if (value < 0) direction.Reverse();
            break;
        }
        gp_Ax2 axes(gp_Pnt(), direction);
        axis = direction.XYZ();
        x = axes.XDirection().XYZ();
        y = axes.YDirection().XYZ();
    }
    double angle_of(const gp_Dir &direction) const {
        return std::atan2(direction.XYZ().Dot(y), direction.XYZ().Dot(x));
    }
};

// Steps a turn so that chords stay within the tolerance; a multiple of four keeps quadrants.
int steps_per_turn(double radius, double tolerance) {
    double half = tolerance < radius ? std::acos(1 - tolerance / radius) : 1;
    int quarter = int(std::ceil(TURN / (2 * half) / 4));
    return 4 * std::clamp(quarter, 3, 64);
}

// Depth within which an edge of a round face counts as lying on it: chords sink into the surface by
// the tolerance, which is this deep where the surface is seen from the side.
double round_slack(double radius, double tolerance) {
    return 2 * std::sqrt(2 * radius * tolerance);
}

// Makes angles of one face that differ by noise equal, and moves those near the grid onto it.
void agree_on_angles(std::vector<SceneChord> *chords, double step) {
    std::vector<double *> angles;
    for (SceneChord &chord : *chords)
        for (double &angle : chord.angle) angles.push_back(&angle);
    std::sort(angles.begin(), angles.end(), [](double *a, double *b) { return *a < *b; });
    double previous = -1e300, agreed = 0;
    for (double *angle : angles) {
        if (*angle - previous > ANGLE_NOISE) {
            double near = std::round(*angle / step) * step;
            agreed = std::fabs(*angle - near) < GRID_SNAP ? near : *angle;
        }
        previous = *angle;
        *angle = agreed;
    }
}

struct Builder {
    Scene scene;
    double tolerance;
    TopTools_IndexedMapOfShape edges, faces;
    std::vector<std::vector<double>> params; // of the points of each edge
    std::vector<gp_XYZ> vertex_points;

    void add_edge(const TopoDS_Edge &edge);
    void add_circle_params(const gp_Circ &circle, double first, double last, SceneEdge *out,
                           std::vector<double> *t);
    void add_face(const TopoDS_Face &face, int index);
    void add_plane(const TopoDS_Face &face, const gp_Pln &plane, int index);
    void add_cylinder(const TopoDS_Face &face, const gp_Cylinder &cylinder, int index);
    void add_strips(const SceneCylinder &cylinder, double step, double side);
    void add_free_face(const TopoDS_Face &face, int index);
    void note_faces_of_edges(const TopoDS_Face &face, int index);
    bool is_smooth(int edge) const;
};

void Builder::add_circle_params(const gp_Circ &circle, double first, double last, SceneEdge *out,
                                std::vector<double> *t) {
    AngleFrame frame(circle.Axis().Direction());
    out->circular = true;
    out->center = circle.Location().XYZ();
    out->axis = frame.axis;
    out->radius = circle.Radius();
    double phase = frame.angle_of(circle.XAxis().Direction());
    double sign =
        circle.XAxis().Direction().Crossed(circle.YAxis().Direction()).XYZ().Dot(frame.axis) > 0
            ? 1
            : -1;
    double step = TURN / steps_per_turn(circle.Radius(), tolerance);
    double from = std::min(phase + sign * first, phase + sign * last);
    double to = std::max(phase + sign * first, phase + sign * last);
    t->push_back(first);
    for (double k = std::floor(from / step) + 1; k * step < to - GRID_SNAP; k++)
        if (k * step > from + GRID_SNAP) t->push_back(sign * (k * step - phase));
    t->push_back(last);
    std::sort(t->begin(), t->end());
}

void Builder::add_edge(const TopoDS_Edge &edge) {
    SceneEdge out = {};
    out.face[0] = out.face[1] = -1;
    out.first = int(scene.points.size());
    std::vector<double> t;
    if (!BRep_Tool::Degenerated(edge)) {
        BRepAdaptor_Curve curve(edge);
        double first = curve.FirstParameter(), last = curve.LastParameter();
        if (curve.GetType() == GeomAbs_Line) {
            t = {first, last};
        } else if (curve.GetType() == GeomAbs_Circle) {
            add_circle_params(curve.Circle(), first, last, &out, &t);
        } else {
            GCPnts_TangentialDeflection chords(curve, first, last, FREE_CURVE_TURN, tolerance, 2);
            for (int i = 1; i <= chords.NbPoints(); i++) t.push_back(chords.Parameter(i));
        }
        for (double at : t) scene.points.push_back(curve.Value(at).XYZ());
        // The ends are those of the vertices, so that chains of neighbours meet exactly.
        TopoDS_Vertex begin, end;
        TopExp::Vertices(TopoDS::Edge(edge.Oriented(TopAbs_FORWARD)), begin, end);
        if (!begin.IsNull()) scene.points[size_t(out.first)] = BRep_Tool::Pnt(begin).XYZ();
        if (!end.IsNull()) scene.points.back() = BRep_Tool::Pnt(end).XYZ();
        out.closed = !begin.IsNull() && begin.IsSame(end);
    }
    out.count = int(t.size());
    scene.edges.push_back(out);
    params.push_back(t);
}

// Edges that only lie in a face bound nothing and are not drawn.
bool is_border(const TopoDS_Shape &edge) {
    return edge.Orientation() == TopAbs_FORWARD || edge.Orientation() == TopAbs_REVERSED;
}

void Builder::note_faces_of_edges(const TopoDS_Face &face, int index) {
    for (TopExp_Explorer at(face, TopAbs_EDGE); at.More(); at.Next()) {
        if (!is_border(at.Current())) continue;
        SceneEdge &edge = scene.edges[size_t(edges.FindIndex(at.Current()) - 1)];
        edge.face[edge.face[0] < 0 ? 0 : 1] = index;
    }
}

// Does the natural normal of a surface with this frame point along x × y × … as in a right-handed
// one, and does the face keep it?
double normal_sign(const gp_Ax3 &position, const TopoDS_Face &face) {
    double sign = position.Direct() ? 1 : -1;
    return face.Orientation() == TopAbs_REVERSED ? -sign : sign;
}

void Builder::add_plane(const TopoDS_Face &face, const gp_Pln &plane, int index) {
    SceneFacet facet = {};
    facet.normal = plane.Axis().Direction().XYZ() * normal_sign(plane.Position(), face);
    facet.offset = facet.normal.Dot(plane.Location().XYZ());
    facet.face = index;
    facet.near_slack = -1;
    for (TopExp_Explorer at(face, TopAbs_EDGE); at.More(); at.Next())
        if (is_border(at.Current())) facet.edges.push_back(edges.FindIndex(at.Current()) - 1);
    scene.facets.push_back(facet);
}

void Builder::add_cylinder(const TopoDS_Face &face, const gp_Cylinder &surface, int index) {
    SceneCylinder cylinder;
    AngleFrame frame(surface.Axis().Direction());
    cylinder.face = index;
    cylinder.radius = surface.Radius();
    cylinder.near_slack = round_slack(surface.Radius(), tolerance);
    cylinder.origin = surface.Location().XYZ();
    cylinder.axis = frame.axis;
    cylinder.x = frame.x;
    cylinder.y = frame.y;
    const gp_Ax3 &position = surface.Position();
    double phase = frame.angle_of(position.XDirection());
    double sign =
        position.XDirection().Crossed(position.YDirection()).XYZ().Dot(frame.axis) > 0 ? 1 : -1;
    double step = TURN / steps_per_turn(surface.Radius(), tolerance);
    for (TopExp_Explorer at(face, TopAbs_EDGE); at.More(); at.Next()) {
        const TopoDS_Edge &edge = TopoDS::Edge(at.Current());
        if (!is_border(edge)) continue;
        size_t number = size_t(edges.FindIndex(edge) - 1);
        const SceneEdge &chain = scene.edges[number];
        double first, last;
        Handle(Geom2d_Curve) on_surface = BRep_Tool::CurveOnSurface(edge, face, first, last);
        if (on_surface.IsNull()) continue;
        SceneChord chord = {};
        for (int i = 0; i < chain.count; i++) {
            double u = on_surface->Value(params[number][size_t(i)]).X();
            const gp_XYZ &point = scene.points[size_t(chain.first + i)];
            chord.angle[1] = phase + sign * u;
            chord.height[1] = (point - cylinder.origin).Dot(frame.axis);
            chord.point[1] = point;
            if (i > 0) cylinder.chords.push_back(chord);
            chord.angle[0] = chord.angle[1];
            chord.height[0] = chord.height[1];
            chord.point[0] = point;
        }
    }
    agree_on_angles(&cylinder.chords, step);
    add_strips(cylinder, step, normal_sign(position, face));
    scene.cylinders.push_back(cylinder);
}

gp_XYZ point_at(const SceneChord &chord, double angle) {
    if (angle == chord.angle[0]) return chord.point[0];
    if (angle == chord.angle[1]) return chord.point[1];
    double share = (angle - chord.angle[0]) / (chord.angle[1] - chord.angle[0]);
    return chord.point[0] * (1 - share) + chord.point[1] * share;
}

// The part of a chord between two angles; false when there is none.
bool clip_chord(const SceneChord &chord, double low, double high, SceneSegment *out) {
    double least = std::min(chord.angle[0], chord.angle[1]);
    double most = std::max(chord.angle[0], chord.angle[1]);
    if (most <= low || least >= high) return false;
    auto end = [&](int i) {
        double angle = std::clamp(chord.angle[i], low, high);
        return angle == chord.angle[i] ? chord.point[i] : point_at(chord, angle);
    };
    out->from = end(0);
    out->to = end(1);
    return true;
}

void Builder::add_strips(const SceneCylinder &cylinder, double step, double side) {
    if (cylinder.chords.empty()) return;
    double low = cylinder.chords[0].angle[0], high = low;
    for (const SceneChord &chord : cylinder.chords)
        for (double angle : chord.angle) {
            low = std::min(low, angle);
            high = std::max(high, angle);
        }
    std::vector<HeightRange> ranges;
    for (double k = std::floor(low / step); k * step < high; k++) {
        double left = k * step, right = (k + 1) * step, middle = (k + 0.5) * step;
        SceneFacet facet = {};
        gp_XYZ radial = cylinder.x * std::cos(middle) + cylinder.y * std::sin(middle);
        facet.normal = radial * side;
        facet.offset =
            facet.normal.Dot(cylinder.origin) + side * cylinder.radius * std::cos(0.5 * step);
        facet.face = cylinder.face;
        facet.near_slack = cylinder.near_slack;
        facet.first = int(scene.segments.size());
        for (const SceneChord &chord : cylinder.chords) {
            SceneSegment part;
            if (clip_chord(chord, left, right, &part)) scene.segments.push_back(part);
        }
        cylinder_ranges(cylinder, left, +1, &ranges);
        for (const HeightRange &range : ranges)
            scene.segments.push_back({range.low_point, range.high_point});
        cylinder_ranges(cylinder, right, -1, &ranges);
        for (const HeightRange &range : ranges)
            scene.segments.push_back({range.low_point, range.high_point});
        facet.count = int(scene.segments.size()) - facet.first;
        if (facet.count) scene.facets.push_back(facet);
    }
}

void Builder::add_free_face(const TopoDS_Face &face, int index) {
    mesh_shape(face, tolerance, FREE_MESH_TURN);
    std::vector<Triangle> triangles;
    face_triangles(face, &triangles);
    // Triangles that share two corners are neighbours; corners come from one table of nodes, so
    // equal ones have equal bits.
    using Corner = std::array<double, 3>;
    auto key = [](const gp_XYZ &p) { return Corner{p.X(), p.Y(), p.Z()}; };
    std::map<std::pair<Corner, Corner>, gp_XYZ> open_sides;
    for (const Triangle &triangle : triangles) {
        SceneFacet facet = {};
        facet.normal = (triangle.corner[1] - triangle.corner[0])
                           .Crossed(triangle.corner[2] - triangle.corner[0]);
        facet.normal.Normalize();
        facet.offset = facet.normal.Dot(triangle.corner[0]);
        facet.face = index;
        facet.near_slack = round_slack(0.25 * scene.size, tolerance);
        facet.first = int(scene.segments.size());
        facet.count = 3;
        scene.facets.push_back(facet);
        for (int c = 0; c < 3; c++) {
            const gp_XYZ &from = triangle.corner[c], &to = triangle.corner[(c + 1) % 3];
            scene.segments.push_back({from, to});
            auto other = open_sides.find({key(to), key(from)});
            if (other == open_sides.end()) {
                open_sides[{key(from), key(to)}] = facet.normal;
                continue;
            }
            scene.creases.push_back({from, to, {facet.normal, other->second}, index});
            open_sides.erase(other);
        }
    }
}

void Builder::add_face(const TopoDS_Face &face, int index) {
    note_faces_of_edges(face, index);
    BRepAdaptor_Surface surface(face, Standard_False);
    if (surface.GetType() == GeomAbs_Plane)
        add_plane(face, surface.Plane(), index);
    else if (surface.GetType() == GeomAbs_Cylinder)
        add_cylinder(face, surface.Cylinder(), index);
    else
        add_free_face(face, index);
}

bool face_normal(const TopoDS_Edge &edge, const TopoDS_Face &face, double share, gp_Vec *normal) {
    double first, last;
    BRepAdaptor_Surface surface(face, Standard_False);
    gp_Pnt point;
    gp_Vec du, dv;
    if (surface.GetType() == GeomAbs_Plane) {
        surface.D1(0, 0, point, du, dv);
    } else {
        Handle(Geom2d_Curve) curve = BRep_Tool::CurveOnSurface(edge, face, first, last);
        if (curve.IsNull()) return false;
        gp_Pnt2d at = curve->Value(first + share * (last - first));
        surface.D1(at.X(), at.Y(), point, du, dv);
    }
    *normal = du.Crossed(dv);
    if (normal->Magnitude() < 1e-12) return false;
    if (face.Orientation() == TopAbs_REVERSED) normal->Reverse();
    return true;
}

bool Builder::is_smooth(int index) const {
    const SceneEdge &edge = scene.edges[size_t(index)];
    if (edge.face[0] < 0 || edge.face[1] < 0) return false;
    if (edge.face[0] == edge.face[1]) return true; // a seam
    const SceneEdge *const at = &edge;
    const TopoDS_Edge &shape = TopoDS::Edge(edges(index + 1));
    for (double share : {0.31, 0.62}) {
        gp_Vec a, b;
        if (!face_normal(shape, TopoDS::Face(faces(at->face[0] + 1)), share, &a) ||
            !face_normal(shape, TopoDS::Face(faces(at->face[1] + 1)), share, &b))
            return false;
        if (a.Angle(b) > SMOOTH_ANGLE) return false;
    }
    return true;
}

} // namespace

void cylinder_ranges(const SceneCylinder &cylinder, double angle, int side,
                     std::vector<HeightRange> *out) {
    struct Crossing {
        double height;
        gp_XYZ point;
    };
    static thread_local std::vector<Crossing> crossings;
    crossings.clear();
    auto before = [&](double a) { return side < 0 ? a < angle : a <= angle; };
    for (const SceneChord &chord : cylinder.chords) {
        if (before(chord.angle[0]) == before(chord.angle[1])) continue;
        gp_XYZ point = point_at(chord, angle);
        crossings.push_back({(point - cylinder.origin).Dot(cylinder.axis), point});
    }
    std::sort(crossings.begin(), crossings.end(),
              [](const Crossing &a, const Crossing &b) { return a.height < b.height; });
    out->clear();
    for (size_t i = 0; i + 1 < crossings.size(); i += 2)
        out->push_back({crossings[i].height, crossings[i + 1].height, crossings[i].point,
                        crossings[i + 1].point});
}

Scene make_scene(const TopoDS_Shape &shape, double tolerance) {
    Builder builder;
    builder.tolerance = tolerance;
    TopExp::MapShapes(shape, TopAbs_EDGE, builder.edges);
    TopExp::MapShapes(shape, TopAbs_FACE, builder.faces);
    for (int i = 1; i <= builder.edges.Extent(); i++)
        builder.add_edge(TopoDS::Edge(builder.edges(i)));
    Scene &scene = builder.scene;
    gp_XYZ low(0, 0, 0), high(0, 0, 0);
    for (size_t i = 0; i < scene.points.size(); i++)
        for (int c = 1; c <= 3; c++) {
            double value = scene.points[i].Coord(c);
            low.SetCoord(c, i ? std::min(low.Coord(c), value) : value);
            high.SetCoord(c, i ? std::max(high.Coord(c), value) : value);
        }
    scene.size = (high - low).Modulus();
    for (int i = 1; i <= builder.faces.Extent(); i++)
        builder.add_face(TopoDS::Face(builder.faces(i)), i - 1);
    for (int i = 0; i < builder.edges.Extent(); i++)
        scene.edges[size_t(i)].smooth = builder.is_smooth(i);
    return std::move(scene);
}

} // namespace cad
