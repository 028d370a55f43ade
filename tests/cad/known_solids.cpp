// Solids of known measures, made by the kernel's own ways.
#define _Noreturn [[noreturn]]
extern "C" {
#include "tests/cad/known_solids.h"
}
#undef _Noreturn

#include <BRepAlgoAPI_Cut.hxx>
#include <BRepBuilderAPI_GTransform.hxx>
#include <BRepBuilderAPI_MakeEdge.hxx>
#include <BRepBuilderAPI_MakeFace.hxx>
#include <BRepBuilderAPI_MakePolygon.hxx>
#include <BRepBuilderAPI_MakeWire.hxx>
#include <BRepBuilderAPI_NurbsConvert.hxx>
#include <BRepBuilderAPI_Transform.hxx>
#include <BRepFilletAPI_MakeFillet.hxx>
#include <BRepOffsetAPI_ThruSections.hxx>
#include <BRepPrimAPI_MakeBox.hxx>
#include <BRepPrimAPI_MakeCone.hxx>
#include <BRepPrimAPI_MakeCylinder.hxx>
#include <BRepPrimAPI_MakePrism.hxx>
#include <BRepPrimAPI_MakeRevol.hxx>
#include <BRepPrimAPI_MakeSphere.hxx>
#include <BRepPrimAPI_MakeTorus.hxx>
#include <BRep_Builder.hxx>
#include <Geom_BezierCurve.hxx>
#include <TColgp_Array1OfPnt.hxx>
#include <TopExp_Explorer.hxx>
#include <TopoDS.hxx>
#include <TopoDS_Compound.hxx>
#include <TopoDS_Shell.hxx>
#include <TopoDS_Wire.hxx>
#include <cmath>
#include <cstring>
#include <gp_Circ.hxx>
#include <gp_Elips.hxx>
#include <gp_GTrsf.hxx>
#include <initializer_list>

#include "cad/solid/shape.hpp"

namespace {

constexpr double PI = M_PI;

gp_Ax2 upright(double x = 0, double y = 0, double z = 0) {
    return gp_Ax2(gp_Pnt(x, y, z), gp_Dir(0, 0, 1));
}

TopoDS_Shape cylinder(double radius, double low, double high) {
    return BRepPrimAPI_MakeCylinder(upright(0, 0, low), radius, high - low).Shape();
}

TopoDS_Shape frustum(double low, double high, double height) {
    return BRepPrimAPI_MakeCone(low, high, height).Shape();
}

TopoDS_Shape cut(const TopoDS_Shape &body, const TopoDS_Shape &tool) {
    return BRepAlgoAPI_Cut(body, tool).Shape();
}

TopoDS_Shape as_splines(const TopoDS_Shape &shape) {
    return BRepBuilderAPI_NurbsConvert(shape, Standard_True).Shape();
}

TopoDS_Shape rounded(const TopoDS_Shape &shape, double radius) {
    BRepFilletAPI_MakeFillet fillet(shape);
    for (TopExp_Explorer edge(shape, TopAbs_EDGE); edge.More(); edge.Next())
        fillet.Add(radius, TopoDS::Edge(edge.Current()));
    return fillet.Shape();
}

TopoDS_Shape round_box() {
    return rounded(BRepPrimAPI_MakeBox(40, 30, 20).Shape(), 5);
}

TopoDS_Shape stretched(const TopoDS_Shape &shape, double x, double y, double z) {
    gp_GTrsf stretch;
    stretch.SetVectorialPart(gp_Mat(x, 0, 0, 0, y, 0, 0, 0, z));
    return BRepBuilderAPI_GTransform(shape, stretch, Standard_True).Shape();
}

TopoDS_Wire square(double z, double half) {
    return BRepBuilderAPI_MakePolygon(gp_Pnt(-half, -half, z), gp_Pnt(half, -half, z),
                                      gp_Pnt(half, half, z), gp_Pnt(-half, half, z), Standard_True);
}

TopoDS_Wire circle(double z, double radius) {
    return BRepBuilderAPI_MakeWire(BRepBuilderAPI_MakeEdge(gp_Circ(upright(0, 0, z), radius)));
}

TopoDS_Shape lofted(const TopoDS_Wire &low, const TopoDS_Wire &high, bool ruled) {
    BRepOffsetAPI_ThruSections loft(Standard_True, ruled);
    loft.AddWire(low);
    loft.AddWire(high);
    return loft.Shape();
}

// x² = z, turned about z up to z = 9: the curve has the poles (0, 0), (1.5, 0), (3, 9).
TopoDS_Shape paraboloid() {
    TColgp_Array1OfPnt poles(1, 3);
    poles(1) = gp_Pnt(0, 0, 0);
    poles(2) = gp_Pnt(1.5, 0, 0);
    poles(3) = gp_Pnt(3, 0, 9);
    BRepBuilderAPI_MakeWire wire;
    wire.Add(BRepBuilderAPI_MakeEdge(new Geom_BezierCurve(poles)));
    wire.Add(BRepBuilderAPI_MakeEdge(gp_Pnt(3, 0, 9), gp_Pnt(0, 0, 9)));
    wire.Add(BRepBuilderAPI_MakeEdge(gp_Pnt(0, 0, 9), gp_Pnt(0, 0, 0)));
    return BRepPrimAPI_MakeRevol(BRepBuilderAPI_MakeFace(wire.Wire()), gp::OZ()).Shape();
}

TopoDS_Shape elliptic_cylinder() {
    TopoDS_Wire rim =
        BRepBuilderAPI_MakeWire(BRepBuilderAPI_MakeEdge(gp_Elips(upright(), 8, 5))).Wire();
    return BRepPrimAPI_MakePrism(BRepBuilderAPI_MakeFace(rim), gp_Vec(0, 0, 6)).Shape();
}

// Without what lies beyond a plane.
TopoDS_Shape cut_beyond(const TopoDS_Shape &body, const gp_Pnt &on, const gp_Dir &away) {
    return cut(body, BRepPrimAPI_MakeCylinder(gp_Ax2(on, away), 50, 100).Shape());
}

// Half an ellipse turned about its long axis.
TopoDS_Shape spindle() {
    gp_Elips ellipse(gp_Ax2(gp_Pnt(0, 0, 0), gp_Dir(0, -1, 0), gp_Dir(0, 0, 1)), 12, 2);
    BRepBuilderAPI_MakeWire wire;
    wire.Add(BRepBuilderAPI_MakeEdge(ellipse, 0, PI));
    wire.Add(BRepBuilderAPI_MakeEdge(gp_Pnt(0, 0, -12), gp_Pnt(0, 0, 12)));
    return BRepPrimAPI_MakeRevol(BRepBuilderAPI_MakeFace(wire.Wire()), gp::OZ()).Shape();
}

// A block with half a ball and a conical hole taken out of it.
TopoDS_Shape block_with_pockets() {
    TopoDS_Shape block = BRepPrimAPI_MakeBox(40, 30, 20).Shape();
    block = cut(block, BRepPrimAPI_MakeSphere(gp_Pnt(25, 15, 20), 6).Shape());
    return cut(block, BRepPrimAPI_MakeCone(upright(8, 8, 0), 2, 4, 20).Shape());
}

double frustum_volume(double a, double b, double h) {
    return PI * h / 3 * (a * a + a * b + b * b);
}

double frustum_side(double a, double b, double h) {
    return PI * (a + b) * std::hypot(a - b, h);
}

// A cylinder of radius R and height h whose rims are rounded by r: by Pappus' rules for the quarter
// circles.
double barrel_volume(double R, double h, double r) {
    double inner = R - r, quarter = PI * r * r / 4, middle = inner + 4 * r / (3 * PI);
    return PI * inner * inner * h + PI * (R * R - inner * inner) * (h - 2 * r) +
           2 * 2 * PI * middle * quarter;
}

double barrel_area(double R, double h, double r) {
    double inner = R - r, middle = inner + 2 * r / PI;
    return 2 * PI * inner * inner + 2 * PI * R * (h - 2 * r) + 2 * 2 * PI * middle * (PI * r / 2);
}

// A box whose faces without the roundings are a × b, b × c and c × a.
double round_box_volume(double a, double b, double c, double r) {
    return a * b * c + 2 * r * (a * b + b * c + c * a) + PI * r * r * (a + b + c) +
           4 * PI / 3 * r * r * r;
}

double round_box_area(double a, double b, double c, double r) {
    return 2 * (a * b + b * c + c * a) + 2 * PI * r * (a + b + c) + 4 * PI * r * r;
}

struct Made {
    KnownSolid known;
    TopoDS_Shape (*make)();
};

const double ball_volume = 4 * PI / 3 * 343, ring = 2 * PI * PI * 10 * 9, none = NAN;
const double bored = 4 * PI / 3 * std::pow(49 - 9, 1.5); // a ball of 7 with a hole of 3 through it
const double bored_area = 4 * PI * (7 + 3) * std::sqrt(49. - 9); // 4π R √ and 4π r √
// The tip of a cone 10 wide at z = 0 and pointed at z = 20, beyond the plane z = 8 + x/2: a third
// of its height times its base, an ellipse. Seen from above that is r = 6 - x/4, a conic about its
// focus.
const double slant = 12. / 3 * PI * (6 / (1 - 1. / 16)) * (6 / std::sqrt(1 - 1. / 16));

const double thin = std::sqrt(1 - 1. / 36); // the eccentricity of an ellipse, 12 by 2

const Made solids[] = {
    {{"cone", frustum_volume(10, 0, 20), frustum_side(10, 0, 20) + 100 * PI},
     [] { return frustum(10, 0, 20); }},
    {{"cone on its tip", frustum_volume(10, 0, 20), frustum_side(10, 0, 20) + 100 * PI},
     [] { return frustum(0, 10, 20); }},
    {{"frustum", frustum_volume(10, 5, 20), frustum_side(10, 5, 20) + 125 * PI},
     [] { return frustum(10, 5, 20); }},
    {{"frustum with a bore", frustum_volume(10, 5, 20) - 9 * PI * 20,
      frustum_side(10, 5, 20) + (125 - 18 + 120) * PI},
     [] { return cut(frustum(10, 5, 20), cylinder(3, -5, 25)); }},
    {{"sphere", ball_volume, 196 * PI}, [] { return BRepPrimAPI_MakeSphere(7).Shape(); }},
    {{"half sphere", ball_volume / 2, 147 * PI},
     [] { return BRepPrimAPI_MakeSphere(7, 0, PI / 2).Shape(); }},
    {{"sphere with a bore", bored, bored_area},
     [] { return cut(BRepPrimAPI_MakeSphere(7).Shape(), cylinder(3, -10, 10)); }},
    {{"torus", ring, 4 * PI *PI * 30}, [] { return BRepPrimAPI_MakeTorus(10, 3).Shape(); }},
    {{"quarter torus", ring / 4, PI *PI * 30 + 18 * PI},
     [] { return BRepPrimAPI_MakeTorus(10, 3, PI / 2).Shape(); }},
    {{"round box", round_box_volume(30, 20, 10, 5), round_box_area(30, 20, 10, 5)}, round_box},
    {{"round box with a bore", round_box_volume(30, 20, 10, 5) - 16 * PI * 20,
      round_box_area(30, 20, 10, 5) - 32 * PI + 160 * PI},
     [] { return cut(round_box(), BRepPrimAPI_MakeCylinder(upright(20, 15, -5), 4, 40).Shape()); }},
    {{"barrel", barrel_volume(10, 20, 2), barrel_area(10, 20, 2)},
     [] { return rounded(cylinder(10, 0, 20), 2); }},
    {{"block with pockets", 24000 - 2 * PI / 3 * 216 - frustum_volume(2, 4, 20),
      5200 - 36 * PI + 72 * PI - 20 * PI + frustum_side(2, 4, 20)},
     block_with_pockets},
    {{"cylinder cut aslant", 1000 * PI, (100 + 200 + 100 * std::sqrt(1.25)) * PI},
     [] { return cut_beyond(cylinder(10, 0, 20), gp_Pnt(0, 0, 10), gp_Dir(-1, 0, 2)); }},
    {{"cone cut aslant", frustum_volume(10, 0, 20) - slant, none},
     [] { return cut_beyond(frustum(10, 0, 20), gp_Pnt(0, 0, 8), gp_Dir(-1, 0, 2)); }},
    {{"sphere cut aslant", ball_volume - PI * 25 * (21 - 5) / 3, 196 * PI - 70 * PI + 45 * PI},
     [] {
         gp_Dir away(1, 2, 3);
         return cut_beyond(BRepPrimAPI_MakeSphere(7).Shape(), gp_Pnt(2 * away.XYZ()), away);
     }},
    {{"cylinder as splines", 2000 * PI, 600 * PI}, [] { return as_splines(cylinder(10, 0, 20)); }},
    {{"sphere as splines", ball_volume, 196 * PI},
     [] { return as_splines(BRepPrimAPI_MakeSphere(7).Shape()); }},
    {{"torus as splines", ring, 4 * PI *PI * 30},
     [] { return as_splines(BRepPrimAPI_MakeTorus(10, 3).Shape()); }},
    {{"bored sphere as splines", bored, bored_area},
     [] { return as_splines(cut(BRepPrimAPI_MakeSphere(7).Shape(), cylinder(3, -10, 10))); }},
    {{"ellipsoid", 4 * PI / 3 * 10 * 5 * 15, none},
     [] { return stretched(BRepPrimAPI_MakeSphere(5).Shape(), 2, 1, 3); }},
    {{"loft of squares", 20. / 3 * (400 + 100 + 200), 500 + 2 * 30 * std::hypot(20, 5)},
     [] { return lofted(square(0, 10), square(20, 5), true); }},
    {{"loft of circles", frustum_volume(10, 5, 20), frustum_side(10, 5, 20) + 125 * PI},
     [] { return lofted(circle(0, 10), circle(20, 5), false); }},
    {{"paraboloid", PI * 81 / 2, PI / 6 * (std::pow(37, 1.5) - 1) + 9 * PI}, paraboloid},
    {{"elliptic cylinder", PI * 8 * 5 * 6,
      80 * PI + 6 * 4 * 8 * std::comp_ellint_2(std::sqrt(1 - 25. / 64))},
     elliptic_cylinder},
    {{"spindle", 4 * PI / 3 * 2 * 2 * 12,
      2 * PI * 4 * (1 + 6 / thin * std::asin(thin))}, // of an ellipsoid of revolution
     spindle},
};

gp_Trsf movement(Place place) {
    gp_Trsf turn, move;
    if (place == MIRRORED) turn.SetMirror(gp_Ax2(gp_Pnt(0, 0, 0), gp_Dir(1, 2, 3)));
    if (place != FAR_AWAY) return turn;
    turn.SetRotation(gp_Ax1(gp_Pnt(0, 0, 0), gp_Dir(1, 1, 1)), 0.7);
    move.SetTranslation(gp_Vec(9000, -7000, 8000));
    return move * turn;
}

// ---- bodies ----

TopoDS_Shape box(double x, double y, double z, double dx, double dy, double dz) {
    return BRepPrimAPI_MakeBox(gp_Pnt(x, y, z), dx, dy, dz).Shape();
}

TopoDS_Compound compound(std::initializer_list<TopoDS_Shape> shapes) {
    TopoDS_Compound all;
    BRep_Builder builder;
    builder.MakeCompound(all);
    for (const TopoDS_Shape &shape : shapes) builder.Add(all, shape);
    return all;
}

// `count` faces of a shape as a shell.
TopoDS_Shape shell_of(const TopoDS_Shape &shape, int count, bool inverted) {
    TopoDS_Shell shell;
    BRep_Builder builder;
    builder.MakeShell(shell);
    for (TopExp_Explorer at(shape, TopAbs_FACE); at.More() && count > 0; at.Next(), count--)
        builder.Add(shell, inverted ? at.Current().Reversed() : at.Current());
    return shell;
}

// The faces of equal boxes, one of each.
TopoDS_Shape loose_faces() {
    TopoDS_Compound all = compound({});
    for (int which = 0; which < 6; which++) {
        TopExp_Explorer at(box(0, 0, 0, 10, 20, 30), TopAbs_FACE);
        for (int i = 0; i < which; i++) at.Next();
        BRep_Builder().Add(all, at.Current());
    }
    return all;
}

TopoDS_Shape bodies_shape(Bodies bodies) {
    TopoDS_Shape brick = box(0, 0, 0, 10, 20, 30), plate = box(0, 0, 0, 20, 20, 10);
    auto pin = [](double radius) {
        return BRepPrimAPI_MakeCylinder(upright(10, 10, -5), radius, 20).Shape();
    };
    auto ball = [](double x) { return BRepPrimAPI_MakeSphere(gp_Pnt(x, 0, 0), 7).Shape(); };
    switch (bodies) {
    case CLOSED_SHELL: return shell_of(brick, 6, false);
    case INVERTED_SHELL: return shell_of(brick, 6, true);
    case OPEN_SHELL: return shell_of(brick, 5, false);
    case LOOSE_FACES: return loose_faces();
    case SOLID_AND_SHELL: return compound({brick, shell_of(box(20, 0, 0, 5, 5, 5), 5, false)});
    case TWO_APART: return compound({brick, box(20, 0, 0, 10, 20, 30)});
    case TWO_TOUCHING: return compound({brick, box(10, 0, 0, 10, 20, 30)});
    case TWO_OVERLAPPING: return compound({brick, box(5, 0, 0, 10, 20, 30)});
    case TWO_EQUAL: return compound({brick, box(0, 0, 0, 10, 20, 30)});
    case ONE_IN_ANOTHER: return compound({box(0, 0, 0, 30, 30, 30), box(9, 9, 9, 5, 5, 5)});
    case PIN_IN_HOLE: return compound({cut(plate, pin(4)), pin(4)});
    case PIN_PRESSED_IN: return compound({cut(plate, pin(4)), pin(4.01)});
    case SPHERES_OVERLAPPING: return compound({ball(0), ball(5)});
    case BODIES_COUNT: break;
    }
    return TopoDS_Shape();
}

TopoDS_Shape pocketed_sphere(int pockets) {
    TopoDS_Shape ball = cut(BRepPrimAPI_MakeSphere(5).Shape(), box(3, -1, -1, 5, 2, 2));
    return pockets > 1 ? cut(ball, box(-8, -1, -1, 5, 2, 2)) : ball;
}

// ---- making ----

Solid *made(const Made &solid, const gp_Trsf &movement) {
    SolidNote note;
    return cad::guarded(solid.known.name, static_cast<Solid *>(nullptr), &note, [&] {
        auto out = std::make_unique<Solid>();
        out->shape = BRepBuilderAPI_Transform(solid.make(), movement, Standard_True).Shape();
        return out.release();
    });
}

} // namespace

int known_solid_count(void) {
    return int(sizeof solids / sizeof solids[0]);
}

KnownSolid known_solid(int index) {
    return solids[index].known;
}

const char *place_name(Place place) {
    const char *const names[PLACE_COUNT] = {"at home", "mirrored", "far away"};
    return names[place];
}

Solid *known_solid_new(int index, Place place) {
    return made(solids[index], movement(place));
}

Solid *named_solid_new(const char *name, double move) {
    gp_Trsf along;
    along.SetTranslation(gp_Vec(move, 0, 0));
    for (const Made &solid : solids)
        if (!std::strcmp(solid.known.name, name)) return made(solid, along);
    return nullptr;
}

Solid *bodies_new(Bodies bodies) {
    Solid *solid = new Solid;
    solid->shape = bodies_shape(bodies);
    return solid;
}

Solid *pocketed_sphere_new(int pockets, Vec3 axis, double turn) {
    gp_Trsf rotation;
    rotation.SetRotation(gp_Ax1(gp_Pnt(0, 0, 0), gp_Dir(axis.x, axis.y, axis.z)), turn);
    Solid *solid = new Solid;
    solid->shape =
        BRepBuilderAPI_Transform(pocketed_sphere(pockets), rotation, Standard_True).Shape();
    return solid;
}

// The kernel never gives back what its STEP sessions share; in workers nobody asks.
extern "C" const char *__lsan_default_suppressions(void);
extern "C" const char *__lsan_default_suppressions(void) {
    return "leak:libTK";
}
