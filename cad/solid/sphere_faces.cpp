// Of a sphere with a piece cut out of it, the kernel's reader may keep the piece, or lose its way
// about the poles: files tell such a face by a line that goes out to a pole and back. The edges
// that the face shares with others are right all the same, if not the sides on which it left those
// others.
#include "cad/solid/sphere_faces.hpp"

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
#include <ShapeFix_Shell.hxx>
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
#include <TopoDS_Vertex.hxx>
#include <TopoDS_Wire.hxx>
#include <algorithm>
#include <cmath>
#include <gp_Sphere.hxx>

namespace {

constexpr int SAMPLES = 8; // of an edge
constexpr double NARROW =
    0.05; // cosine: the edges must keep so far within the half around their middle

constexpr double ANGLE_SLACK = 1e-6;
constexpr int DIRECTIONS = 32, TURNS = 8; // of axes that are tried

using Neighbours = TopTools_IndexedDataMapOfShapeListOfShape; // of edges: their faces

// The edge as it lies in a face.
TopoDS_Edge edge_in(const TopoDS_Shape &face, const TopoDS_Shape &edge) {
    for (TopExp_Explorer at(face, TopAbs_EDGE); at.More(); at.Next())
        if (at.Current().IsSame(edge)) return TopoDS::Edge(at.Current());
    return TopoDS::Edge(edge);
}

// The edges that a face shares with others, in the direction opposite to theirs.
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

using Edges = std::vector<TopoDS_Edge>;

bool meet(const TopoDS_Edge &a, const TopoDS_Edge &b) {
    TopoDS_Vertex shared;
    return TopExp::CommonVertex(a, b, shared);
}

// Edges that are connected by their vertices.
std::vector<Edges> chains_of(const Edges &edges) {
    std::vector<Edges> chains;
    for (const TopoDS_Edge &edge : edges) {
        Edges chain = {edge};
        for (size_t i = 0; i < chains.size();) {
            bool joins = std::any_of(chains[i].begin(), chains[i].end(),
                                     [&](const TopoDS_Edge &other) { return meet(edge, other); });
            if (joins) {
                chain.insert(chain.end(), chains[i].begin(), chains[i].end());
                chains.erase(chains.begin() + long(i));
            } else {
                i++;
            }
        }
        chains.push_back(chain);
    }
    return chains;
}

// How a chain of edges lies on the sphere.
struct Rim {
    std::vector<gp_XYZ> points; // from the centre
    double turn = 0;            // positive: counter-clockwise about its middle
    bool narrow = false;        // within the half of the sphere around its middle
};

Rim rim_of(const Edges &edges, const gp_Sphere &sphere) {
    Rim rim;
    gp_XYZ middle(0, 0, 0);
    for (const TopoDS_Edge &edge : edges)
        for (const gp_XYZ &p : points_of(edge, sphere.Location())) rim.points.push_back(p);
    for (const gp_XYZ &p : rim.points) middle += p;
    if (middle.Modulus() < NARROW * sphere.Radius()) return rim;
    middle.Normalize();
    rim.narrow = true;
    for (size_t i = 0; i < rim.points.size(); i++) {
        rim.narrow &= rim.points[i].Dot(middle) > NARROW * sphere.Radius();
        bool same_edge = i % (SAMPLES + 1) != 0;
        if (same_edge) rim.turn += rim.points[i - 1].Crossed(rim.points[i]).Dot(middle);
    }
    return rim;
}

// Axes whose seam, the half circle from pole to pole through their x, keeps as far from all rims as
// one of some hundred does.
gp_Ax3 clear_axes(const gp_Sphere &sphere, const std::vector<Rim> &rims) {
    gp_Ax2 best;
    double widest = -1;
    for (int i = 0; i < DIRECTIONS; i++) {
        // Points spread evenly over a sphere, each with some turns about it.
        double z = 1 - (2 * i + 1.0) / DIRECTIONS, angle = 2.399963 * i, r = std::sqrt(1 - z * z);
        gp_Ax2 axes(sphere.Location(), gp_Dir(r * std::cos(angle), r * std::sin(angle), z));
        for (int k = 0; k < TURNS; k++) {
            gp_Ax2 turned = axes.Rotated(axes.Axis(), 2 * M_PI * k / TURNS);
            gp_XYZ x = turned.XDirection().XYZ(), up = turned.Direction().XYZ();
            double nearest = INFINITY;
            for (int j = -SAMPLES; j <= SAMPLES; j++) {
                double v = 0.5 * M_PI * j / SAMPLES;
                gp_XYZ p = (x * std::cos(v) + up * std::sin(v)) * sphere.Radius();
                for (const Rim &rim : rims)
                    for (const gp_XYZ &q : rim.points)
                        nearest = std::fmin(nearest, (p - q).SquareModulus());
            }
            if (nearest > widest) {
                widest = nearest;
                best = turned;
            }
        }
    }
    return gp_Ax3(best);
}

// What the sphere has beyond the shared edges, facing outwards; null where that cannot be said.
// Seen from outside, its holes are passed clockwise.
TopoDS_Face beyond(const TopoDS_Face &face, const Neighbours &neighbours) {
    gp_Sphere sphere = BRepAdaptor_Surface(face, Standard_False).Sphere();
    std::vector<Edges> chains = chains_of(shared_edges(face, neighbours));
    std::vector<Rim> rims;
    for (const Edges &chain : chains) rims.push_back(rim_of(chain, sphere));
    bool narrow = std::all_of(rims.begin(), rims.end(), [](const Rim &rim) { return rim.narrow; });
    if (rims.empty() || !narrow) return TopoDS_Face();
    Handle(Geom_SphericalSurface) surface =
        new Geom_SphericalSurface(clear_axes(sphere, rims), sphere.Radius());
    TopoDS_Face rest = BRepBuilderAPI_MakeFace(surface, Precision::Confusion()).Face();
    for (size_t i = 0; i < chains.size(); i++) {
        TopTools_ListOfShape list;
        for (const TopoDS_Edge &edge : chains[i])
            list.Append(rims[i].turn < 0 ? TopoDS_Shape(edge) : edge.Reversed());
        BRepBuilderAPI_MakeWire wire;
        wire.Add(list);
        if (!wire.IsDone()) return TopoDS_Face();
        BRep_Builder().Add(rest, wire.Wire());
        for (TopExp_Explorer at(wire.Wire(), TopAbs_EDGE); at.More(); at.Next())
            ShapeFix_Edge().FixAddPCurve(TopoDS::Edge(at.Current()), rest, Standard_False);
    }
    return rest;
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
            // The reader turned what is around a lost face inside out.
            ShapeFix_Shell turned;
            turned.FixFaceOrientation(shell);
            shell = turned.Shell();
            shell.Closed(BRep_Tool::IsClosed(shell));
            builder.Add(solid, shell);
        }
        BRepLib::OrientClosedSolid(solid);
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
