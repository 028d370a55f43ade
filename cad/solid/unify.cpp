// Coplanar faces and collinear edges left by booleans become one again.
//
// The kernel's own way to do this takes as long as a small boolean, and most parts have nothing to
// join: so a look at the neighbours of each edge and vertex comes first.
#include <BRepAdaptor_Curve.hxx>
#include <BRepAdaptor_Surface.hxx>
#include <BRep_Tool.hxx>
#include <ShapeUpgrade_UnifySameDomain.hxx>
#include <TopExp.hxx>
#include <TopExp_Explorer.hxx>
#include <TopTools_IndexedDataMapOfShapeListOfShape.hxx>
#include <TopTools_ListOfShape.hxx>
#include <TopoDS.hxx>
#include <TopoDS_Edge.hxx>
#include <TopoDS_Face.hxx>
#include <cmath>
#include <gp_Circ.hxx>
#include <gp_Cylinder.hxx>
#include <gp_Lin.hxx>
#include <gp_Pln.hxx>

#include "cad/solid/shape_measure.hpp"

namespace {

constexpr double SAME_PLACE = 1e-4; // generous: the kernel decides in the end
constexpr double SAME_TURN = 1e-4;
constexpr double VOLUME_SLACK = 1e-6; // joining changes no volume

bool same_line(const gp_Ax1 &a, const gp_Ax1 &b) {
    gp_XYZ off = b.Location().XYZ() - a.Location().XYZ();
    return a.IsParallel(b, SAME_TURN) && off.Crossed(a.Direction().XYZ()).Modulus() < SAME_PLACE;
}

// Whether two faces may lie on one surface; other surfaces than these are not looked into.
bool may_be_one(const TopoDS_Face &first, const TopoDS_Face &second) {
    BRepAdaptor_Surface a(first, Standard_False), b(second, Standard_False);
    if (a.GetType() != b.GetType()) return false;
    if (a.GetType() == GeomAbs_Plane)
        return a.Plane().Axis().IsParallel(b.Plane().Axis(), SAME_TURN) &&
               a.Plane().Distance(b.Plane().Location()) < SAME_PLACE;
    if (a.GetType() == GeomAbs_Cylinder)
        return std::fabs(a.Cylinder().Radius() - b.Cylinder().Radius()) < SAME_PLACE &&
               same_line(a.Cylinder().Axis(), b.Cylinder().Axis());
    return true;
}

bool may_be_one(const TopoDS_Edge &first, const TopoDS_Edge &second) {
    BRepAdaptor_Curve a(first), b(second);
    if (a.GetType() != b.GetType()) return false;
    if (a.GetType() == GeomAbs_Line) return same_line(a.Line().Position(), b.Line().Position());
    if (a.GetType() == GeomAbs_Circle)
        return std::fabs(a.Circle().Radius() - b.Circle().Radius()) < SAME_PLACE &&
               a.Circle().Location().Distance(b.Circle().Location()) < SAME_PLACE;
    return true;
}

// The two different members of a list; false when there are more or fewer.
bool two_of(const TopTools_ListOfShape &list, TopoDS_Shape *first, TopoDS_Shape *second) {
    int count = 0;
    for (const TopoDS_Shape &shape : list) {
        if (count > 0 && shape.IsSame(*first)) continue;
        if (count > 1 && shape.IsSame(*second)) continue;
        if (count == 2) return false;
        (count++ ? *second : *first) = shape;
    }
    return count == 2;
}

bool may_need_joining(const TopoDS_Shape &shape) {
    TopTools_IndexedDataMapOfShapeListOfShape faces, edges;
    TopoDS_Shape first, second;
    TopExp::MapShapesAndAncestors(shape, TopAbs_EDGE, TopAbs_FACE, faces);
    for (int i = 1; i <= faces.Extent(); i++)
        if (two_of(faces(i), &first, &second) &&
            may_be_one(TopoDS::Face(first), TopoDS::Face(second)))
            return true;
    TopExp::MapShapesAndAncestors(shape, TopAbs_VERTEX, TopAbs_EDGE, edges);
    for (int i = 1; i <= edges.Extent(); i++) {
        if (!two_of(edges(i), &first, &second)) continue;
        if (BRep_Tool::Degenerated(TopoDS::Edge(first)) ||
            BRep_Tool::Degenerated(TopoDS::Edge(second)))
            return true;
        if (may_be_one(TopoDS::Edge(first), TopoDS::Edge(second))) return true;
    }
    return false;
}

} // namespace

TopoDS_Shape cad::unified(const TopoDS_Shape &shape, double volume) {
    if (!may_need_joining(shape)) return shape;
    try {
        ShapeUpgrade_UnifySameDomain unify(shape, Standard_True, Standard_True, Standard_False);
        unify.Build();
        TopoDS_Shape joined = unify.Shape();
        if (joined.IsNull()) return shape;
        double now = shape_volume(joined);
        return std::fabs(now - volume) <= VOLUME_SLACK * volume ? joined : shape;
    } catch (const Standard_Failure &) {
        return shape;
    }
}
