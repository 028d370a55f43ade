// Solids with round faces of every kind. The kernel's own ways to make them, and its exact
// algorithm for lines, stand behind plain C here.
#define _Noreturn [[noreturn]]
extern "C" {
#include "tests/cad/round_solids.h"
}
#undef _Noreturn

#include <BRepAlgoAPI_Cut.hxx>
#include <BRepAlgoAPI_Fuse.hxx>
#include <BRepBuilderAPI_Copy.hxx>
#include <BRepBuilderAPI_GTransform.hxx>
#include <BRepBuilderAPI_MakeEdge.hxx>
#include <BRepBuilderAPI_MakeFace.hxx>
#include <BRepBuilderAPI_MakePolygon.hxx>
#include <BRepBuilderAPI_MakeSolid.hxx>
#include <BRepBuilderAPI_MakeWire.hxx>
#include <BRepBuilderAPI_NurbsConvert.hxx>
#include <BRepBuilderAPI_Sewing.hxx>
#include <BRepBuilderAPI_Transform.hxx>
#include <BRepFilletAPI_MakeChamfer.hxx>
#include <BRepFilletAPI_MakeFillet.hxx>
#include <BRepLib.hxx>
#include <BRepOffsetAPI_ThruSections.hxx>
#include <BRepPrimAPI_MakeBox.hxx>
#include <BRepPrimAPI_MakeCone.hxx>
#include <BRepPrimAPI_MakeCylinder.hxx>
#include <BRepPrimAPI_MakePrism.hxx>
#include <BRepPrimAPI_MakeRevol.hxx>
#include <BRepPrimAPI_MakeSphere.hxx>
#include <BRepPrimAPI_MakeTorus.hxx>
#include <GeomAPI_PointsToBSpline.hxx>
#include <Geom_BSplineCurve.hxx>
#include <TColgp_Array1OfPnt.hxx>
#include <TopExp.hxx>
#include <TopExp_Explorer.hxx>
#include <TopTools_IndexedMapOfShape.hxx>
#include <TopoDS.hxx>
#include <TopoDS_Edge.hxx>
#include <TopoDS_Wire.hxx>
#include <cstdlib>
#include <gp_Circ.hxx>
#include <gp_Cone.hxx>

#include "cad/drawing/exact_lines.hpp"
#include "cad/solid/mesh.hpp"

namespace {

gp_Ax2 along_z(double x, double y, double z) {
    return gp_Ax2(gp_Pnt(x, y, z), gp_Dir(0, 0, 1));
}

TopoDS_Shape box(double x, double y, double z) {
    return BRepPrimAPI_MakeBox(x, y, z).Shape();
}

TopoDS_Shape cylinder(double x, double y, double z, double radius, double height) {
    return BRepPrimAPI_MakeCylinder(along_z(x, y, z), radius, height).Shape();
}

TopoDS_Shape cone(double low, double high, double height) {
    return BRepPrimAPI_MakeCone(low, high, height).Shape();
}

TopoDS_Shape cut(const TopoDS_Shape &a, const TopoDS_Shape &b) {
    return BRepAlgoAPI_Cut(a, b).Shape();
}

TopoDS_Shape joined(const TopoDS_Shape &a, const TopoDS_Shape &b) {
    return BRepAlgoAPI_Fuse(a, b).Shape();
}

// Turned about an axis that no view has.
TopoDS_Shape tilted(const TopoDS_Shape &shape) {
    gp_Trsf turn;
    turn.SetRotation(gp_Ax1(gp_Pnt(0, 0, 0), gp_Dir(3, 2, 1)), 0.6);
    return BRepBuilderAPI_Transform(shape, turn, true).Shape();
}

TopoDS_Shape lying(const TopoDS_Shape &shape) {
    gp_Trsf turn;
    turn.SetRotation(gp_Ax1(gp_Pnt(0, 0, 0), gp_Dir(1, 0, 0)), M_PI / 2);
    return BRepBuilderAPI_Transform(shape, turn, true).Shape();
}

TopoDS_Shape moved(const TopoDS_Shape &shape, double x, double y, double z) {
    gp_Trsf move;
    move.SetTranslation(gp_Vec(x, y, z));
    return BRepBuilderAPI_Transform(shape, move, true).Shape();
}

TopoDS_Shape as_splines(const TopoDS_Shape &shape) {
    return BRepBuilderAPI_NurbsConvert(shape, true).Shape();
}

// Rounds the edges whose middles `wanted` accepts.
template <typename Wanted>
TopoDS_Shape rounded(const TopoDS_Shape &shape, double radius, Wanted wanted) {
    BRepFilletAPI_MakeFillet fillet(shape);
    TopTools_IndexedMapOfShape edges;
    TopExp::MapShapes(shape, TopAbs_EDGE, edges);
    for (int i = 1; i <= edges.Extent(); i++) {
        double first, last;
        Handle(Geom_Curve) curve = BRep_Tool::Curve(TopoDS::Edge(edges(i)), first, last);
        if (!curve.IsNull() && wanted(curve->Value(0.5 * (first + last))))
            fillet.Add(radius, TopoDS::Edge(edges(i)));
    }
    return fillet.Shape();
}

TopoDS_Shape rounded(const TopoDS_Shape &shape, double radius) {
    return rounded(shape, radius, [](const gp_Pnt &) { return true; });
}

TopoDS_Shape rounded_top(const TopoDS_Shape &shape, double radius, double top) {
    return rounded(shape, radius, [=](const gp_Pnt &p) { return std::fabs(p.Z() - top) < 1e-6; });
}

TopoDS_Shape chamfered(const TopoDS_Shape &shape, double distance) {
    BRepFilletAPI_MakeChamfer chamfer(shape);
    TopTools_IndexedMapOfShape edges;
    TopExp::MapShapes(shape, TopAbs_EDGE, edges);
    for (int i = 1; i <= edges.Extent(); i++) chamfer.Add(distance, TopoDS::Edge(edges(i)));
    return chamfer.Shape();
}

TopoDS_Wire circle(double z, double radius) {
    return BRepBuilderAPI_MakeWire(BRepBuilderAPI_MakeEdge(gp_Circ(along_z(0, 0, z), radius)));
}

TopoDS_Wire square(double z, double half) {
    return BRepBuilderAPI_MakePolygon(gp_Pnt(-half, -half, z), gp_Pnt(half, -half, z),
                                      gp_Pnt(half, half, z), gp_Pnt(-half, half, z), true);
}

TopoDS_Shape lofted(const TopoDS_Wire &low, const TopoDS_Wire &middle, const TopoDS_Wire &high) {
    BRepOffsetAPI_ThruSections loft(true, false);
    for (const TopoDS_Wire &wire : {low, middle, high})
        if (!wire.IsNull()) loft.AddWire(wire);
    return loft.Shape();
}

TopoDS_Edge spline(const std::vector<gp_Pnt> &through) {
    TColgp_Array1OfPnt points(1, int(through.size()));
    for (int i = 1; i <= points.Length(); i++) points(i) = through[size_t(i - 1)];
    return BRepBuilderAPI_MakeEdge(GeomAPI_PointsToBSpline(points).Curve());
}

TopoDS_Edge line(const gp_Pnt &from, const gp_Pnt &to) {
    return BRepBuilderAPI_MakeEdge(from, to);
}

// A vase: a spline turned about z, closed by planes.
TopoDS_Shape vase() {
    gp_Pnt foot(0, 0, 0), rim(6, 0, 0), neck(5, 0, 30), top(0, 0, 30);
    BRepBuilderAPI_MakeWire wire;
    wire.Add(line(foot, rim));
    wire.Add(spline({rim, gp_Pnt(11, 0, 8), gp_Pnt(7, 0, 18), gp_Pnt(3, 0, 24), neck}));
    wire.Add(line(neck, top));
    wire.Add(line(top, foot));
    return BRepPrimAPI_MakeRevol(BRepBuilderAPI_MakeFace(wire.Wire()), gp::OZ()).Shape();
}

// A prism over a spline with a straight back.
TopoDS_Shape wave() {
    gp_Pnt a(0, 0, 0), b(40, 0, 0), c(40, 20, 0), d(0, 20, 0);
    BRepBuilderAPI_MakeWire wire;
    wire.Add(spline({a, gp_Pnt(10, 6, 0), gp_Pnt(20, -3, 0), gp_Pnt(30, 6, 0), b}));
    wire.Add(line(b, c));
    wire.Add(line(c, d));
    wire.Add(line(d, a));
    return BRepPrimAPI_MakePrism(BRepBuilderAPI_MakeFace(wire.Wire()), gp_Vec(0, 0, 12)).Shape();
}

// A pipe: straight, a quarter of a torus, straight.
TopoDS_Shape elbow() {
    TopoDS_Shape bend =
        BRepPrimAPI_MakeTorus(gp_Ax2(gp_Pnt(0, 0, 0), gp_Dir(0, -1, 0)), 20, 6, M_PI / 2).Shape();
    TopoDS_Shape up = BRepPrimAPI_MakeCylinder(gp_Ax2(gp_Pnt(20, 0, 0), gp_Dir(0, 0, -1)), 6, 15);
    return joined(bend, up);
}

// A frustum whose side is a face of the far half of its cone, where radii are negative.
TopoDS_Shape beyond_the_tip() {
    gp_Cone surface(gp_Ax3(gp_Pnt(0, 0, 30), gp_Dir(0, 0, 1)), 0.4, 0);
    double far = -30 / std::cos(0.4), near = -10 / std::cos(0.4);
    BRepBuilderAPI_Sewing sewing;
    sewing.Add(BRepBuilderAPI_MakeFace(surface, 0, 2 * M_PI, far, near));
    sewing.Add(BRepBuilderAPI_MakeFace(circle(0, -far * std::sin(0.4))));
    sewing.Add(BRepBuilderAPI_MakeFace(circle(20, -near * std::sin(0.4))));
    sewing.Perform();
    TopoDS_Solid solid = BRepBuilderAPI_MakeSolid(TopoDS::Shell(sewing.SewedShape()));
    BRepLib::OrientClosedSolid(solid);
    return solid;
}

TopoDS_Shape capsule() {
    return joined(cylinder(0, 0, 0, 8, 20), BRepPrimAPI_MakeSphere(gp_Pnt(0, 0, 20), 8).Shape());
}

TopoDS_Shape ball_and_bore() {
    return cut(BRepPrimAPI_MakeSphere(12).Shape(), cylinder(0, 0, -20, 5, 40));
}

TopoDS_Shape plate_with_countersinks() {
    TopoDS_Shape plate = rounded_top(box(50, 30, 8), 3, 8);
    for (double x : {12.0, 38.0}) {
        plate = cut(plate, cylinder(x, 15, -1, 3, 20));
        plate = cut(plate, moved(cone(3, 6, 3), x, 15, 5.001));
    }
    return plate;
}

TopoDS_Shape tray() {
    TopoDS_Shape block = rounded(box(40, 30, 16), 4, [](const gp_Pnt &p) {
        return std::fabs(p.Z() - 8) < 1e-6; // upright edges
    });
    TopoDS_Shape hollow =
        rounded(moved(box(32, 22, 20), 4, 4, 4), 3, [](const gp_Pnt &p) { return p.Z() < 23; });
    return cut(block, hollow);
}

TopoDS_Shape ellipsoid() {
    gp_GTrsf stretch;
    stretch.SetValue(1, 1, 2);
    stretch.SetValue(2, 2, 0.7);
    return BRepBuilderAPI_GTransform(BRepPrimAPI_MakeSphere(8).Shape(), stretch, true).Shape();
}

TopoDS_Shape torus() {
    return BRepPrimAPI_MakeTorus(15, 5).Shape();
}

struct Named {
    const char *name;
    TopoDS_Shape (*make)();
};

const Named shapes[] = {
    {"box with round edges", [] { return rounded(box(40, 30, 20), 4); }},
    {"box with a round top", [] { return rounded_top(box(40, 30, 20), 4, 20); }},
    {"tilted box with round edges", [] { return tilted(rounded(box(40, 30, 20), 4)); }},
    {"box with round edges, as splines", [] { return as_splines(rounded(box(40, 30, 20), 4)); }},
    {"box with chamfers", [] { return chamfered(box(40, 30, 20), 3); }},
    {"cylinder with a round top", [] { return rounded_top(cylinder(0, 0, 0, 10, 20), 2, 20); }},
    {"lying cylinder with round ends", [] { return lying(rounded(cylinder(0, 0, 0, 10, 20), 3)); }},
    {"tilted cylinder with a round top",
     [] { return tilted(rounded_top(cylinder(0, 0, 0, 10, 20), 2, 20)); }},
    {"cone", [] { return cone(10, 0, 20); }},
    {"cone on its tip", [] { return cone(0, 10, 20); }},
    {"frustum", [] { return cone(10, 5, 20); }},
    {"frustum beyond the tip", [] { return beyond_the_tip(); }},
    {"flat frustum", [] { return cone(20, 16, 2); }},
    {"lying frustum", [] { return lying(cone(10, 5, 20)); }},
    {"tilted cone", [] { return tilted(cone(10, 0, 20)); }},
    {"tilted frustum", [] { return tilted(cone(10, 6, 12)); }},
    {"sphere", [] { return BRepPrimAPI_MakeSphere(10).Shape(); }},
    {"half sphere", [] { return BRepPrimAPI_MakeSphere(10, 0, M_PI / 2).Shape(); }},
    {"sphere far away", [] { return moved(BRepPrimAPI_MakeSphere(10).Shape(), 900, -700, 500); }},
    {"capsule", [] { return capsule(); }},
    {"sphere with a bore", [] { return ball_and_bore(); }},
    {"tilted sphere with a bore", [] { return tilted(ball_and_bore()); }},
    {"ellipsoid", [] { return ellipsoid(); }},
    {"torus", [] { return torus(); }},
    {"lying torus", [] { return lying(torus()); }},
    {"tilted torus", [] { return tilted(torus()); }},
    {"thin torus", [] { return BRepPrimAPI_MakeTorus(20, 1).Shape(); }},
    {"half torus", [] { return BRepPrimAPI_MakeTorus(15, 5, M_PI).Shape(); }},
    {"elbow", [] { return elbow(); }},
    {"loft from a square to a circle",
     [] { return lofted(square(0, 10), TopoDS_Wire(), circle(20, 6)); }},
    {"loft with a waist", [] { return lofted(circle(0, 10), circle(12, 4), circle(20, 8)); }},
    {"cylinder as splines", [] { return as_splines(cylinder(0, 0, 0, 10, 20)); }},
    {"tilted cylinder as splines", [] { return tilted(as_splines(cylinder(0, 0, 0, 10, 20))); }},
    {"vase", [] { return vase(); }},
    {"tilted vase", [] { return tilted(vase()); }},
    {"wave", [] { return wave(); }},
    {"round box with a bore",
     [] { return cut(rounded(box(40, 30, 20), 4), cylinder(20, 15, -1, 6, 30)); }},
    {"round plate with countersinks", [] { return plate_with_countersinks(); }},
    {"tray", [] { return tray(); }},
    {"that frustum, before the tip", [] { return cone(30 * tan(0.4), 10 * tan(0.4), 20); }},
};

} // namespace

int round_solid_count(void) {
    return int(sizeof shapes / sizeof shapes[0]);
}

const char *round_solid_name(int index) {
    return shapes[index].name;
}

Solid *round_solid_new(int index) {
    Solid *solid = new Solid;
    solid->shape = shapes[index].make();
    return solid;
}

Solid *solid_turned(const Solid *solid, Vec3 axis, double angle) {
    gp_Trsf turn;
    turn.SetRotation(gp_Ax1(gp_Pnt(0, 0, 0), gp_Dir(axis.x, axis.y, axis.z)), angle);
    Solid *turned = new Solid;
    turned->shape = BRepBuilderAPI_Transform(solid->shape, turn, true).Shape();
    return turned;
}

bool kernel_lines(ViewLines lines[VIEW_COUNT], const Solid *solid, const LineOptions *options) {
    for (int view = 0; view < VIEW_COUNT; view++) lines[view] = ViewLines{};
    return cad::exact_lines(lines, solid->shape, *options);
}

int solid_mesh(Vec3 **corners, const Solid *solid, double deflection) {
    TopoDS_Shape copy = BRepBuilderAPI_Copy(solid->shape, true, false); // drawing meshes, too
    cad::mesh_shape(copy, deflection, 0.2);
    std::vector<cad::Triangle> triangles = cad::shape_triangles(copy);
    *corners = static_cast<Vec3 *>(std::malloc(3 * triangles.size() * sizeof(Vec3)));
    Vec3 *at = *corners;
    for (const cad::Triangle &triangle : triangles)
        for (const gp_XYZ &p : triangle.corner) *at++ = {p.X(), p.Y(), p.Z()};
    return int(triangles.size());
}
