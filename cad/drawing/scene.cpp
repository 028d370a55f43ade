// Cuts a solid into chains of chords and flat facets.
#include "cad/drawing/scene.hpp"

#include <BRepAdaptor_Curve.hxx>
#include <BRepAdaptor_Surface.hxx>
#include <BRep_Tool.hxx>
#include <GCPnts_TangentialDeflection.hxx>
#include <Geom2d_Curve.hxx>
#include <TopExp.hxx>
#include <TopExp_Explorer.hxx>
#include <TopoDS.hxx>
#include <TopoDS_Vertex.hxx>
#include <algorithm>
#include <cmath>
#include <gp_Circ.hxx>
#include <gp_Cone.hxx>
#include <gp_Cylinder.hxx>
#include <gp_Pln.hxx>

#include "cad/drawing/scene_mesh.hpp"

namespace cad {
namespace {

constexpr double TURN = 2 * M_PI;
// Angles of chord ends this near (radians) to the grid are taken to lie on it, and those nearer to
// one another are equal: a face is only cut right where all its edges agree.
constexpr double GRID_SNAP = 1e-3, ANGLE_NOISE = 1e-6;
constexpr double SMOOTH_ANGLE = 0.02; // radians between the normals of two faces
constexpr double FREE_CURVE_TURN = 0.15;
// How far inside its end a cylinder is asked which way it faces: outlines nearer to the end than
// this are drawn there.
constexpr double END_TURN = 1e-3;

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
    SceneShapes shapes;
    std::vector<std::vector<double>> params; // of the points of each edge

    std::vector<int> meshed_face; // a triangulated face of each edge; -1: none

    void triangulate();
    void note_vertex(const TopoDS_Vertex &vertex, int point);
    std::vector<double> edge_params(const TopoDS_Edge &edge, int number, SceneEdge *out);
    void add_edge(int number);
    void measure();
    void add_circle_params(const gp_Circ &circle, double first, double last, SceneEdge *out,
                           std::vector<double> *t);
    void add_face(const TopoDS_Face &face, int index);
    void add_plane(const TopoDS_Face &face, const gp_Pln &plane, int index);
    void add_cone(const TopoDS_Face &face, const gp_Ax3 &position, double radius, double slope,
                  int index);
    void add_chords(const TopoDS_Edge &edge, const TopoDS_Face &face, double phase, double sign,
                    SceneCone *cone);
    void add_strips(const SceneCone &cone, double step, double side);
    void note_faces_of_edges(const TopoDS_Face &face, int index, bool round);
    void add_border(const TopoDS_Edge &edge, const TopoDS_Face &face, SceneEdge *out, int slot);
    void add_flat_borders();
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

// Where the points of an edge lie on it. Edges of triangulated faces have the points of those.
std::vector<double> Builder::edge_params(const TopoDS_Edge &edge, int number, SceneEdge *out) {
    std::vector<double> t;
    BRepAdaptor_Curve curve(edge);
    double first = curve.FirstParameter(), last = curve.LastParameter();
    if (curve.GetType() == GeomAbs_Circle) add_circle_params(curve.Circle(), first, last, out, &t);
    int meshed = meshed_face[size_t(number)];
    if (meshed >= 0) {
        std::vector<double> of_mesh = meshed_params(edge, TopoDS::Face(shapes.faces(meshed + 1)));
        if (!of_mesh.empty()) return of_mesh;
    }
    if (curve.GetType() == GeomAbs_Circle) return t;
    if (curve.GetType() == GeomAbs_Line) return {first, last};
    GCPnts_TangentialDeflection chords(curve, first, last, FREE_CURVE_TURN, tolerance, 2);
    for (int i = 1; i <= chords.NbPoints(); i++) t.push_back(chords.Parameter(i));
    return t;
}

void Builder::add_edge(int number) {
    const TopoDS_Edge &edge = TopoDS::Edge(shapes.edges(number + 1));
    SceneEdge out = {};
    out.face[0] = out.face[1] = out.border[0] = out.border[1] = -1;
    out.first = int(scene.points.size());
    std::vector<double> t;
    if (!BRep_Tool::Degenerated(edge)) {
        t = edge_params(edge, number, &out);
        BRepAdaptor_Curve curve(edge);
        for (double at : t) scene.points.push_back(curve.Value(at).XYZ());
        // The ends are those of the vertices, so that chains of neighbours meet exactly.
        TopoDS_Vertex begin, end;
        TopExp::Vertices(TopoDS::Edge(edge.Oriented(TopAbs_FORWARD)), begin, end);
        if (!begin.IsNull()) note_vertex(begin, out.first);
        if (!end.IsNull()) note_vertex(end, int(scene.points.size()) - 1);
        out.closed = !begin.IsNull() && begin.IsSame(end);
    }
    out.count = int(t.size());
    scene.edges.push_back(out);
    params.push_back(t);
}

void Builder::note_faces_of_edges(const TopoDS_Face &face, int index, bool round) {
    for (TopExp_Explorer at(face, TopAbs_EDGE); at.More(); at.Next()) {
        if (!is_border(at.Current())) continue;
        SceneEdge &edge = scene.edges[size_t(shapes.edges.FindIndex(at.Current()) - 1)];
        edge.face[edge.face[0] < 0 ? 0 : 1] = index;
        edge.beside_round |= round;
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
        if (is_border(at.Current()))
            facet.edges.push_back(shapes.edges.FindIndex(at.Current()) - 1);
    scene.facets.push_back(facet);
}

// The largest radius of a face. One beyond the tip of its cone, where radii count as negative, is
// made one of the cone turned about.
void find_widest(SceneCone *cone) {
    cone->widest = 0;
    for (const SceneChord &chord : cone->chords)
        for (double height : chord.height) {
            double radius = cone->radius + cone->slope * height;
            if (std::fabs(radius) > std::fabs(cone->widest)) cone->widest = radius;
        }
    if (cone->widest >= 0) return;
    cone->widest = -cone->widest;
    cone->radius = -cone->radius;
    cone->slope = -cone->slope;
    for (SceneChord &chord : cone->chords)
        for (double &angle : chord.angle) angle += M_PI;
}

// A cylinder is a cone of no slope.
void Builder::add_cone(const TopoDS_Face &face, const gp_Ax3 &position, double radius, double slope,
                       int index) {
    SceneCone cone;
    AngleFrame frame(position.Direction());
    cone.face = index;
    cone.radius = radius;
    cone.origin = position.Location().XYZ();
    cone.axis = frame.axis;
    cone.slope = position.Direction().XYZ().Dot(frame.axis) > 0 ? slope : -slope;
    cone.x = frame.x;
    cone.y = frame.y;
    double phase = frame.angle_of(position.XDirection());
    double sign =
        position.XDirection().Crossed(position.YDirection()).XYZ().Dot(frame.axis) > 0 ? 1 : -1;
    for (TopExp_Explorer at(face, TopAbs_EDGE); at.More(); at.Next())
        if (is_border(at.Current()))
            add_chords(TopoDS::Edge(at.Current()), face, phase, sign, &cone);
    cone.widest = radius;
    if (slope != 0) find_widest(&cone);
    cone.near_slack = round_slack(cone.widest, tolerance);
    double step = TURN / steps_per_turn(cone.widest, tolerance);
    agree_on_angles(&cone.chords, step);
    add_strips(cone, step, normal_sign(position, face));
    scene.cones.push_back(cone);
}

// The chords of an edge of a cone; those of its tip are a point that lies at every angle.
void Builder::add_chords(const TopoDS_Edge &edge, const TopoDS_Face &face, double phase,
                         double sign, SceneCone *cone) {
    size_t number = size_t(shapes.edges.FindIndex(edge) - 1);
    const SceneEdge &chain = scene.edges[number];
    double first, last;
    Handle(Geom2d_Curve) on_surface = BRep_Tool::CurveOnSurface(edge, face, first, last);
    if (on_surface.IsNull()) return;
    bool tip = BRep_Tool::Degenerated(edge);
    SceneChord chord = {};
    for (int i = 0; i < (tip ? 2 : chain.count); i++) {
        double t = tip ? (i ? last : first) : params[number][size_t(i)];
        gp_XYZ point = tip ? BRep_Tool::Pnt(TopExp::FirstVertex(edge)).XYZ()
                           : scene.points[size_t(chain.first + i)];
        chord.angle[1] = phase + sign * on_surface->Value(t).X();
        chord.height[1] = (point - cone->origin).Dot(cone->axis);
        chord.point[1] = point;
        if (i > 0) cone->chords.push_back(chord);
        chord.angle[0] = chord.angle[1];
        chord.height[0] = chord.height[1];
        chord.point[0] = point;
    }
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

void Builder::add_strips(const SceneCone &cone, double step, double side) {
    if (cone.chords.empty()) return;
    double low = cone.chords[0].angle[0], high = low;
    for (const SceneChord &chord : cone.chords)
        for (double angle : chord.angle) {
            low = std::min(low, angle);
            high = std::max(high, angle);
        }
    double sagged = std::cos(0.5 * step), tilt = cone.slope * sagged;
    double scale = side / std::sqrt(1 + tilt * tilt);
    std::vector<HeightRange> ranges;
    for (double k = std::floor(low / step); k * step < high; k++) {
        double left = k * step, right = (k + 1) * step, middle = (k + 0.5) * step;
        // The plane of the generators at both sides.
        SceneFacet facet = {};
        facet.normal = (cone.radial(middle) - cone.axis * tilt) * scale;
        facet.offset = facet.normal.Dot(cone.origin) + scale * cone.radius * sagged;
        facet.face = cone.face;
        facet.near_slack = cone.near_slack;
        facet.first = int(scene.segments.size());
        for (const SceneChord &chord : cone.chords) {
            SceneSegment part;
            if (clip_chord(chord, left, right, &part)) scene.segments.push_back(part);
        }
        cone_ranges(cone, left, +1, &ranges);
        for (const HeightRange &range : ranges)
            scene.segments.push_back({range.low_point, range.high_point});
        cone_ranges(cone, right, -1, &ranges);
        for (const HeightRange &range : ranges)
            scene.segments.push_back({range.low_point, range.high_point});
        facet.count = int(scene.segments.size()) - facet.first;
        if (facet.count) scene.facets.push_back(facet);
    }
}

void Builder::add_face(const TopoDS_Face &face, int index) {
    BRepAdaptor_Surface surface(face, Standard_False);
    GeomAbs_SurfaceType type = surface.GetType();
    note_faces_of_edges(face, index, type != GeomAbs_Plane);
    scene.round |= type != GeomAbs_Plane && type != GeomAbs_Cylinder;
    if (type == GeomAbs_Plane)
        add_plane(face, surface.Plane(), index);
    else if (type == GeomAbs_Cylinder)
        add_cone(face, surface.Cylinder().Position(), surface.Cylinder().Radius(), 0, index);
    else if (type == GeomAbs_Cone)
        add_cone(face, surface.Cone().Position(), surface.Cone().RefRadius(),
                 std::tan(surface.Cone().SemiAngle()), index);
    else
        add_mesh(&scene, &shapes, index, tolerance);
}

// Planes, and cylinders and cones in strips; all others are triangulated.
bool has_flat_facets(const TopoDS_Face &face) {
    GeomAbs_SurfaceType type = BRepAdaptor_Surface(face, Standard_False).GetType();
    return type == GeomAbs_Plane || type == GeomAbs_Cylinder || type == GeomAbs_Cone;
}

// Triangulates all other faces at once.
void Builder::triangulate() {
    meshed_face.assign(size_t(shapes.edges.Extent()), -1);
    std::vector<TopoDS_Face> faces;
    for (int i = 0; i < shapes.faces.Extent(); i++) {
        const TopoDS_Face &face = TopoDS::Face(shapes.faces(i + 1));
        if (has_flat_facets(face)) continue;
        faces.push_back(face);
        for (TopExp_Explorer at(face, TopAbs_EDGE); at.More(); at.Next())
            meshed_face[size_t(shapes.edges.FindIndex(at.Current()) - 1)] = i;
    }
    mesh_faces(faces, tolerance);
}

void Builder::note_vertex(const TopoDS_Vertex &vertex, int point) {
    size_t number = size_t(shapes.vertices.Add(vertex));
    if (number > shapes.vertex_points.size()) shapes.vertex_points.push_back(point);
    scene.points[size_t(point)] = BRep_Tool::Pnt(vertex).XYZ();
}

void Builder::measure() {
    gp_XYZ low(0, 0, 0), high(0, 0, 0);
    for (size_t i = 0; i < scene.points.size(); i++)
        for (int c = 1; c <= 3; c++) {
            double value = scene.points[i].Coord(c);
            low.SetCoord(c, i ? std::min(low.Coord(c), value) : value);
            high.SetCoord(c, i ? std::max(high.Coord(c), value) : value);
        }
    scene.size = (high - low).Modulus();
}

// By how much a cone grows wider along its axis on this side of its tip.
double slope_of(const gp_Cone &cone, const gp_XYZ &there) {
    double slope = std::tan(cone.SemiAngle());
    double height = (there - cone.Location().XYZ()).Dot(cone.Position().Direction().XYZ());
    return cone.RefRadius() + slope * height < 0 ? -slope : slope;
}

// Which way a plane, a cylinder or a cone faces along the chords of its edge. The round ones are
// asked a little inside, where they are beyond doubt.
void Builder::add_border(const TopoDS_Edge &edge, const TopoDS_Face &face, SceneEdge *out,
                         int slot) {
    BRepAdaptor_Surface surface(face, Standard_False);
    GeomAbs_SurfaceType type = surface.GetType();
    gp_Ax3 position = type == GeomAbs_Plane      ? surface.Plane().Position()
                      : type == GeomAbs_Cylinder ? surface.Cylinder().Position()
                                                 : surface.Cone().Position();
    double slope =
        type == GeomAbs_Cone ? slope_of(surface.Cone(), scene.points[size_t(out->first)]) : 0;
    double sign = normal_sign(position, face);
    double along = edge.Orientation() == TopAbs_REVERSED ? -1 : 1;
    gp_XYZ axis = position.Direction().XYZ();
    auto radial = [&](const gp_XYZ &point) {
        gp_XYZ off = point - position.Location().XYZ();
        return (off - axis * off.Dot(axis)).Normalized();
    };
    auto outward = [&](const gp_XYZ &across) {
        return (across - axis * slope).Normalized() * sign;
    };
    out->border[slot] = int(scene.borders.size());
    for (int i = 0; i < out->count; i++) {
        SceneBorder border = {axis * sign, axis * sign};
        const gp_XYZ &from = scene.points[size_t(out->first + i)];
        if (type != GeomAbs_Plane) border.normal = outward(radial(from));
        if (type != GeomAbs_Plane && i + 1 < out->count) {
            const gp_XYZ &to = scene.points[size_t(out->first + i + 1)];
            gp_XYZ middle = radial((from + to) * 0.5);
            gp_XYZ inward = outward(middle).Crossed((to - from).Normalized()) * along;
            inward -= axis * inward.Dot(axis);
            border.beside = outward((middle + inward * END_TURN).Normalized());
        }
        scene.borders.push_back(border);
    }
}

void Builder::add_flat_borders() {
    std::vector<bool> beside_smooth(size_t(shapes.faces.Extent()), false);
    for (const SceneEdge &edge : scene.edges)
        for (int face : edge.face)
            if (edge.smooth && edge.face[0] != edge.face[1]) beside_smooth[size_t(face)] = true;
    for (int i = 0; i < shapes.faces.Extent(); i++) {
        const TopoDS_Face &face = TopoDS::Face(shapes.faces(i + 1));
        if (!beside_smooth[size_t(i)] || !has_flat_facets(face)) continue;
        for (TopExp_Explorer at(face, TopAbs_EDGE); at.More(); at.Next()) {
            if (!is_border(at.Current())) continue;
            const TopoDS_Edge &edge = TopoDS::Edge(at.Current());
            SceneEdge &chain = scene.edges[size_t(shapes.edges.FindIndex(edge) - 1)];
            if (!chain.smooth || chain.face[0] == chain.face[1]) continue;
            int slot = chain.face[0] == i ? 0 : 1;
            if (chain.face[slot] == i && chain.border[slot] < 0)
                add_border(edge, face, &chain, slot);
        }
    }
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
    const TopoDS_Edge &shape = TopoDS::Edge(shapes.edges(index + 1));
    for (double share : {0.31, 0.62}) {
        gp_Vec a, b;
        if (!face_normal(shape, TopoDS::Face(shapes.faces(at->face[0] + 1)), share, &a) ||
            !face_normal(shape, TopoDS::Face(shapes.faces(at->face[1] + 1)), share, &b))
            return false;
        if (a.Angle(b) > SMOOTH_ANGLE) return false;
    }
    return true;
}

} // namespace

void cone_ranges(const SceneCone &cone, double angle, int side, std::vector<HeightRange> *out) {
    struct Crossing {
        double height;
        gp_XYZ point;
    };
    static thread_local std::vector<Crossing> crossings;
    crossings.clear();
    auto before = [&](double a) { return side < 0 ? a < angle : a <= angle; };
    for (const SceneChord &chord : cone.chords) {
        if (before(chord.angle[0]) == before(chord.angle[1])) continue;
        gp_XYZ point = point_at(chord, angle);
        crossings.push_back({(point - cone.origin).Dot(cone.axis), point});
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
    builder.tolerance = builder.scene.tolerance = tolerance;
    TopExp::MapShapes(shape, TopAbs_EDGE, builder.shapes.edges);
    TopExp::MapShapes(shape, TopAbs_FACE, builder.shapes.faces);
    builder.triangulate();
    for (int i = 0; i < builder.shapes.edges.Extent(); i++) builder.add_edge(i);
    builder.measure();
    Scene &scene = builder.scene;
    for (int i = 0; i < builder.shapes.faces.Extent(); i++)
        builder.add_face(TopoDS::Face(builder.shapes.faces(i + 1)), i);
    for (int i = 0; i < builder.shapes.edges.Extent(); i++)
        scene.edges[size_t(i)].smooth = builder.is_smooth(i);
    builder.add_flat_borders();
    return std::move(scene);
}

} // namespace cad
