// Of a sphere with a piece cut out of it, the kernel's reader may keep the piece, or lose its way
// about the poles: its files tell such a face by a line that goes out to a pole and back. The edges
// that the face shares with others are right all the same, and so is the side of them on which it
// lies: the other faces pass them in the other direction.
#include "cad/sphere_faces.hpp"

#include <BRepAdaptor_Curve.hxx>
#include <BRepAdaptor_Surface.hxx>
#include <BRepBuilderAPI_MakeFace.hxx>
#include <BRepBuilderAPI_MakeWire.hxx>
#include <BRepLib.hxx>
#include <BRep_Builder.hxx>
#include <BRep_Tool.hxx>
#include <Geom2d_Curve.hxx>
#include <Geom_SphericalSurface.hxx>
#include <Precision.hxx>
#include <ShapeFix_Edge.hxx>
#include <TopExp.hxx>
#include <TopExp_Explorer.hxx>
#include <TopTools_IndexedDataMapOfShapeListOfShape.hxx>
#include <TopTools_ListOfShape.hxx>
#include <TopoDS.hxx>
#include <TopoDS_Compound.hxx>
#include <TopoDS_Edge.hxx>
#include <TopoDS_Face.hxx>
#include <TopoDS_Shell.hxx>
#include <TopoDS_Solid.hxx>
#include <TopoDS_Wire.hxx>
#include <cmath>
#include <gp_Sphere.hxx>

namespace {

constexpr int SAMPLES = 8; // of an edge
constexpr double NARROW =
    0.05; // cosine: the edges must keep so far within the half around their middle

constexpr double ANGLE_SLACK = 1e-6;

using Neighbours = TopTools_IndexedDataMapOfShapeListOfShape; // of edges: their faces

// The edge as it lies in a face.
TopoDS_Edge edge_in(const TopoDS_Shape &face, const TopoDS_Shape &edge) {
    for (TopExp_Explorer at(face, TopAbs_EDGE); at.More(); at.Next())
        if (at.Current().IsSame(edge)) return TopoDS::Edge(at.Current());
    return TopoDS::Edge(edge);
}

// The edges that a face shares with others, in the direction in which it must pass them.
std::vector<TopoDS_Edge> shared_edges(const TopoDS_Face &face, const Neighbours &neighbours) {
    std::vector<TopoDS_Edge> shared;
    for (TopExp_Explorer at(face, TopAbs_EDGE); at.More(); at.Next())
        for (const TopoDS_Shape &other : neighbours.FindFromKey(at.Current()))
            if (!other.IsSame(face))
                shared.push_back(TopoDS::Edge(edge_in(other, at.Current()).Reversed()));
    return shared;
}

// Points along an edge in its direction, from the sphere's centre.
std::vector<gp_XYZ> points_of(const TopoDS_Edge &edge, const gp_Pnt &center) {
    BRepAdaptor_Curve curve(edge);
    double first = curve.FirstParameter(), last = curve.LastParameter();
    if (edge.Orientation() == TopAbs_REVERSED) std::swap(first, last);
    std::vector<gp_XYZ> points;
    for (int i = 0; i <= SAMPLES; i++)
        points.push_back(curve.Value(first + (last - first) * i / SAMPLES).XYZ() - center.XYZ());
    return points;
}

// How the shared edges lie on the sphere.
struct Rim {
    gp_XYZ middle{0, 0, 0}; // a direction
    double turn = 0;        // positive: counter-clockwise about it
    bool narrow = false;    // within the half of the sphere around it
};

Rim rim_of(const std::vector<TopoDS_Edge> &edges, const gp_Sphere &sphere) {
    Rim rim;
    std::vector<std::vector<gp_XYZ>> chains;
    for (const TopoDS_Edge &edge : edges) chains.push_back(points_of(edge, sphere.Location()));
    for (const std::vector<gp_XYZ> &chain : chains)
        for (const gp_XYZ &p : chain) rim.middle += p;
    if (rim.middle.Modulus() < NARROW * sphere.Radius()) return rim;
    rim.middle.Normalize();
    rim.narrow = true;
    for (const std::vector<gp_XYZ> &chain : chains)
        for (size_t i = 0; i < chain.size(); i++) {
            rim.narrow &= chain[i].Dot(rim.middle) > NARROW * sphere.Radius();
            if (i) rim.turn += chain[i - 1].Crossed(chain[i]).Dot(rim.middle);
        }
    return rim;
}

// What the sphere has beyond the shared edges; null where that cannot be said.
TopoDS_Face beyond(const TopoDS_Face &face, const Neighbours &neighbours) {
    gp_Sphere sphere = BRepAdaptor_Surface(face, Standard_False).Sphere();
    std::vector<TopoDS_Edge> edges = shared_edges(face, neighbours);
    if (edges.empty()) return TopoDS_Face();
    Rim rim = rim_of(edges, sphere);
    if (!rim.narrow) return TopoDS_Face();
    // The seam opposite to the rim, so that nothing crosses it.
    gp_Dir away(rim.middle.Reversed());
    gp_Ax2 axes(sphere.Location(), gp_Ax2(gp_Pnt(0, 0, 0), away).XDirection(), away);
    Handle(Geom_SphericalSurface) surface =
        new Geom_SphericalSurface(gp_Ax3(axes), sphere.Radius());
    // Seen from outside, the rest of the sphere has a hole passed clockwise, or it faces inwards.
    bool outward = rim.turn < 0;
    TopTools_ListOfShape list;
    for (const TopoDS_Edge &edge : edges)
        list.Append(outward ? TopoDS_Shape(edge) : edge.Reversed());
    BRepBuilderAPI_MakeWire wire;
    wire.Add(list);
    if (!wire.IsDone()) return TopoDS_Face();
    TopoDS_Face rest = BRepBuilderAPI_MakeFace(surface, Precision::Confusion()).Face();
    BRep_Builder().Add(rest, wire.Wire());
    for (TopExp_Explorer at(wire.Wire(), TopAbs_EDGE); at.More(); at.Next())
        ShapeFix_Edge().FixAddPCurve(TopoDS::Edge(at.Current()), rest, Standard_False);
    return outward ? rest : TopoDS::Face(rest.Reversed());
}

using Faces = std::vector<std::pair<TopoDS_Face, TopoDS_Face>>; // each and what stands for it

TopoDS_Shape replaced(const TopoDS_Shape &shape, const Faces &faces) {
    TopoDS_Compound all;
    BRep_Builder builder;
    builder.MakeCompound(all);
    for (TopExp_Explorer body(shape, TopAbs_SOLID); body.More(); body.Next()) {
        TopoDS_Solid solid;
        builder.MakeSolid(solid);
        for (TopExp_Explorer part(body.Current(), TopAbs_SHELL); part.More(); part.Next()) {
            TopoDS_Shell shell;
            builder.MakeShell(shell);
            for (TopExp_Explorer at(part.Current(), TopAbs_FACE); at.More(); at.Next()) {
                TopoDS_Shape face = at.Current();
                for (const auto &[old, anew] : faces)
                    if (old.IsSame(face)) face = anew;
                builder.Add(shell, face);
            }
            shell.Closed(BRep_Tool::IsClosed(shell));
            builder.Add(solid, shell);
        }
        BRepLib::OrientClosedSolid(solid); // the reader may have turned it inside out
        builder.Add(all, solid);
    }
    return all;
}

} // namespace

std::vector<TopoDS_Shape> cad::with_spheres_anew(const TopoDS_Shape &shape) {
    Neighbours neighbours;
    TopExp::MapShapesAndAncestors(shape, TopAbs_EDGE, TopAbs_FACE, neighbours);
    Faces faces;
    for (TopExp_Explorer at(shape, TopAbs_FACE); at.More(); at.Next()) {
        const TopoDS_Face &face = TopoDS::Face(at.Current());
        if (BRepAdaptor_Surface(face, Standard_False).GetType() != GeomAbs_Sphere) continue;
        TopoDS_Face rest = beyond(face, neighbours);
        if (!rest.IsNull()) faces.push_back({face, rest});
    }
    std::vector<TopoDS_Shape> shapes;
    for (const auto &pair : faces) shapes.push_back(replaced(shape, {pair}));
    if (faces.size() > 1) shapes.push_back(replaced(shape, faces));
    return shapes;
}

bool cad::sphere_overlaps(const TopoDS_Shape &shape) {
    for (TopExp_Explorer at(shape, TopAbs_FACE); at.More(); at.Next()) {
        const TopoDS_Face &face = TopoDS::Face(at.Current());
        if (BRepAdaptor_Surface(face, Standard_False).GetType() != GeomAbs_Sphere) continue;
        double low = INFINITY, high = -INFINITY;
        for (TopExp_Explorer edge(face, TopAbs_EDGE); edge.More(); edge.Next()) {
            double first, last;
            Handle(Geom2d_Curve) curve =
                BRep_Tool::CurveOnSurface(TopoDS::Edge(edge.Current()), face, first, last);
            for (int i = 0; i <= SAMPLES && !curve.IsNull(); i++) {
                double u = curve->Value(first + (last - first) * i / SAMPLES).X();
                low = std::fmin(low, u);
                high = std::fmax(high, u);
            }
        }
        if (high - low > 2 * M_PI + ANGLE_SLACK) return true;
    }
    return false;
}
