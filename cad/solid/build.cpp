// From a program to a solid: faces from loops, prisms from faces, and booleans that are not
// trusted.
//
// The booleans of the kernel return wrong solids in some hundredths of all chains without saying
// so, and the result often passes the kernel's own check. So each must obey a law that holds for
// any two bodies: what is joined is no smaller than either and no larger than both, and so on.
// Where it is broken, coincident faces are nearly always the cause, and a tool changed by a
// ten-thousandth of its size works. The first try lets booleans modify what goes into them, which
// takes a third less time; a chain that fails so is built again from its beginning without that.
#include <BRepAlgoAPI_Common.hxx>
#include <BRepAlgoAPI_Cut.hxx>
#include <BRepAlgoAPI_Fuse.hxx>
#include <BRepBndLib.hxx>
#include <BRepBuilderAPI_MakeEdge.hxx>
#include <BRepBuilderAPI_MakeFace.hxx>
#include <BRepBuilderAPI_MakeVertex.hxx>
#include <BRepBuilderAPI_MakeWire.hxx>
#include <BRepBuilderAPI_Transform.hxx>
#include <BRepCheck_Analyzer.hxx>
#include <BRepPrimAPI_MakePrism.hxx>
#include <BRep_Builder.hxx>
#include <Bnd_Box.hxx>
#include <GC_MakeArcOfCircle.hxx>
#include <ShapeFix_Face.hxx>
#include <TopExp_Explorer.hxx>
#include <TopTools_ListOfShape.hxx>
#include <TopoDS.hxx>
#include <TopoDS_Compound.hxx>
#include <TopoDS_Face.hxx>
#include <gp_Circ.hxx>
#include <gp_Pln.hxx>
#include <vector>

#include "cad/solid/shape.hpp"
#include "cad/solid/shape_measure.hpp"
extern "C" {
#include "cad/language/loop.h"
#include "cad/language/profile.h"
#include "cad/language/vec.h"
}

namespace {

constexpr double LAW_SLACK = 1e-4;  // of the volumes that go in
constexpr double JITTER = 1e-4;     // of the model's size
constexpr double AREA_SLACK = 1e-6; // of a profile's loops
constexpr double JOINT_GAP = 1e-5;  // the ends of its curves are up to so far apart
constexpr double ROUNDING = 2e-4;   // code has four decimals: what should meet may be so far apart

const char *const op_names[] = {"new body", "join", "cut", "intersection"};

// A failure that already has its sentence.
struct Refused {
    CadStatus status;
};

gp_Pnt to_pnt(Vec3 p) {
    return gp_Pnt(p.x, p.y, p.z);
}

gp_Dir to_dir(Vec3 v) {
    return gp_Dir(v.x, v.y, v.z);
}

// The sketch plane of an extrude, moved to where its prism starts.
struct Frame {
    Plane plane;
    gp_Ax3 axes;

    Frame(const Plane &sketch, double low) : plane(sketch) {
        plane.origin = vec3_add(plane.origin, vec3_scale(plane.normal, low));
        axes = gp_Ax3(to_pnt(plane.origin), to_dir(plane.normal), to_dir(plane.x_axis));
    }
    gp_Pnt at(Vec2 p) const { return to_pnt(plane_point(&plane, p)); }
};

TopoDS_Edge circle_edge(const Frame &frame, const Curve &curve) {
    gp_Ax2 axes(frame.at(curve.center), frame.axes.Direction(), frame.axes.XDirection());
    return BRepBuilderAPI_MakeEdge(gp_Circ(axes, curve.radius));
}

// Vertices are made once and shared by the curves that meet there, so every wire closes.
TopoDS_Wire loop_wire(const Frame &frame, const Loop &loop) {
    BRepBuilderAPI_MakeWire wire;
    if (loop.curves[0].kind == CURVE_CIRCLE) {
        wire.Add(circle_edge(frame, loop.curves[0]));
        return wire.Wire();
    }
    std::vector<TopoDS_Vertex> corners;
    for (int k = 0; k < loop.count; k++)
        corners.push_back(BRepBuilderAPI_MakeVertex(frame.at(loop.curves[k].start)));
    for (int k = 0; k < loop.count; k++) {
        const Curve &curve = loop.curves[k];
        int next = (k + 1) % loop.count;
        const TopoDS_Vertex &from = corners[size_t(k)], &to = corners[size_t(next)];
        if (curve.kind == CURVE_LINE) {
            wire.Add(BRepBuilderAPI_MakeEdge(from, to));
        } else {
            Handle(Geom_TrimmedCurve) arc =
                GC_MakeArcOfCircle(frame.at(curve.start), frame.at(curve.mid),
                                   frame.at(loop.curves[next].start))
                    .Value();
            wire.Add(BRepBuilderAPI_MakeEdge(arc, from, to));
        }
    }
    return wire.Wire();
}

// Whether a face has the area of its loops: what the kernel mends may lose a part of it.
bool fills_profile(const TopoDS_Shape &face, const Extrude &extrude) {
    double expected = profile_area(&extrude), slack = 0;
    for (int j = 0; j < extrude.loop_count; j++) {
        Box2 box = loop_bounds(&extrude.loops[j]);
        double around = 2 * (box.max.x - box.min.x + box.max.y - box.min.y);
        slack += AREA_SLACK * std::fabs(loop_area(&extrude.loops[j])) + JOINT_GAP * around;
    }
    return std::fabs(cad::shape_contents(face).area - expected) <= slack;
}

// Why a profile is no face.
void say_contact(const Extrude &extrude, int index, SolidNote *note) {
    Contact contact;
    if (!profile_contact(&extrude, &contact)) {
        cad::write_note(note, "Profile%d: the kernel makes no face of its loops", index);
        return;
    }
    int a = std::min(contact.loops[0], contact.loops[1]);
    int b = std::max(contact.loops[0], contact.loops[1]);
    const char *verb = contact.crosses ? "cross" : "touch";
    const char *advice = contact.crosses ? "" : "; areas that meet in a point need an extrude each";
    if (a == b)
        cad::write_note(note, "Profile%d: Loop%d_%d %ses itself at [%g, %g]%s", index, index, a,
                        verb, contact.at.x, contact.at.y, advice);
    else
        cad::write_note(note, "Profile%d: Loop%d_%d and Loop%d_%d %s at [%g, %g]", index, index, a,
                        index, b, verb, contact.at.x, contact.at.y);
}

// The face of a profile. The outer loop must run counter-clockwise about the normal, the others
// clockwise.
TopoDS_Face profile_face(const Extrude &extrude, int index, const Frame &frame, SolidNote *note) {
    int outer = extrude_outer_loop(&extrude);
    auto oriented = [&](int j, bool counter_clockwise) {
        TopoDS_Wire wire = loop_wire(frame, extrude.loops[j]);
        if ((loop_area(&extrude.loops[j]) > 0) != counter_clockwise) wire.Reverse();
        return wire;
    };
    BRepBuilderAPI_MakeFace maker(gp_Pln(frame.axes), oriented(outer, true), Standard_True);
    for (int j = 0; j < extrude.loop_count; j++)
        if (j != outer) maker.Add(oriented(j, false));
    TopoDS_Face face = maker.Face();
    if (profile_is_plain(&extrude)) return face;
    if (BRepCheck_Analyzer(face).IsValid() && fills_profile(face, extrude)) return face;
    ShapeFix_Face fix(face);
    fix.FixOrientation();
    fix.Perform();
    TopoDS_Shape fixed = fix.Face();
    if (fixed.ShapeType() == TopAbs_FACE && BRepCheck_Analyzer(fixed).IsValid() &&
        fills_profile(fixed, extrude))
        return TopoDS::Face(fixed);
    say_contact(extrude, index, note);
    throw Refused{CAD_EXEC_FAIL};
}

TopoDS_Shape extrude_prism(const Extrude &extrude, int index, SolidNote *note) {
    double low, high;
    extrude_span(&extrude, &low, &high);
    Frame frame(extrude.plane, low);
    TopoDS_Face face = profile_face(extrude, index, frame, note);
    gp_Vec sweep(to_dir(extrude.plane.normal));
    BRepPrimAPI_MakePrism prism(face, sweep * (high - low));
    return prism.Shape();
}

// How a tool is changed when the boolean with it failed.
enum class Change { NONE, GROWN, MOVED };

double box_size(const TopoDS_Shape &shape, gp_Pnt *center) {
    Bnd_Box box;
    BRepBndLib::Add(shape, box, Standard_False);
    if (box.IsVoid()) return 0;
    gp_Pnt low = box.CornerMin(), high = box.CornerMax();
    if (center) *center = gp_Pnt(0.5 * (low.XYZ() + high.XYZ()));
    return low.Distance(high);
}

// Growing comes first: a grown tool still cuts through where it ended on a face, and still touches
// what it was joined to, which a moved one may not.
TopoDS_Shape changed(const TopoDS_Shape &tool, Change change, double size) {
    gp_Trsf transform;
    gp_Pnt center;
    box_size(tool, &center);
    if (change == Change::GROWN)
        transform.SetScale(center, 1 + 2 * JITTER);
    else
        transform.SetTranslation(gp_Vec(1.1, 0.9, 1.3) * (JITTER * size));
    return BRepBuilderAPI_Transform(tool, transform, Standard_True).Shape();
}

// How booleans are done.
struct Way {
    bool careful = false; // body and tool stay as they were, so that another boolean can follow
    double gap = 0;       // what is no further apart than this is taken to meet
};

TopoDS_Shape boolean(BooleanOp op, const TopoDS_Shape &body, const TopoDS_Shape &tool,
                     const Way &way) {
    BRepAlgoAPI_Fuse fuse;
    BRepAlgoAPI_Cut cut;
    BRepAlgoAPI_Common common;
    BRepAlgoAPI_BooleanOperation *operation = &fuse;
    if (op == OP_CUT) operation = &cut;
    if (op == OP_INTERSECT) operation = &common;
    TopTools_ListOfShape bodies, tools;
    bodies.Append(body);
    tools.Append(tool);
    operation->SetArguments(bodies);
    operation->SetTools(tools);
    operation->SetRunParallel(Standard_False);
    operation->SetNonDestructive(way.careful);
    operation->SetFuzzyValue(way.gap);
    operation->SetCheckInverted(Standard_False);
    operation->SetToFillHistory(Standard_False);
    operation->Build();
    return operation->HasErrors() ? TopoDS_Shape() : operation->Shape();
}

// A body under construction.
struct Body {
    TopoDS_Shape shape; // null: nothing is left
    double volume = 0;
};

// What any two bodies obey: the volume of the result lies in this range.
void lawful_range(BooleanOp op, double body, double tool, double *low, double *high) {
    double slack = LAW_SLACK * (body + tool);
    *low = op == OP_CUT ? body - tool : op == OP_INTERSECT ? 0 : std::fmax(body, tool);
    *high = op == OP_CUT ? body : op == OP_INTERSECT ? std::fmin(body, tool) : body + tool;
    *low -= slack;
    *high += slack;
}

// Thrown when a quick chain of booleans broke the law: it is built again with care.
struct NeedsCare {};

Body combine(const Body &body, const TopoDS_Shape &tool, BooleanOp op, int index, const Way &way,
             bool *jittered, SolidNote *note) {
    double tool_volume = cad::shape_volume(tool), low, high, found = 0;
    lawful_range(op, body.volume, tool_volume, &low, &high);
    bool answered = false;
    for (Change change : {Change::NONE, Change::GROWN, Change::MOVED}) {
        TopoDS_Shape used = tool;
        if (change != Change::NONE) used = changed(tool, change, box_size(body.shape, nullptr));
        TopoDS_Shape result = boolean(op, body.shape, used, way);
        found = result.IsNull() ? double(NAN) : cad::shape_volume(result);
        answered |= !result.IsNull();
        if (found >= low && found <= high) {
            *jittered |= change != Change::NONE;
            return {cad::only_solids(result), found};
        }
        if (!way.careful) throw NeedsCare();
    }
    if (!answered) {
        cad::write_note(note, "Extrude%d: the kernel failed at the %s", index, op_names[op]);
        throw Refused{CAD_EXEC_FAIL};
    }
    cad::write_note(note,
                    "Extrude%d: the kernel's %s is broken: a volume of %g, where %g to %g is "
                    "possible",
                    index, op_names[op], found, low, high);
    throw Refused{CAD_INVALID_SOLID};
}

CadStatus build(Solid *solid, const CadProgram *program, const Way &way, SolidNote *note) {
    Body body;
    for (int i = 0; i < program->count; i++) {
        const Extrude &extrude = program->extrudes[i];
        TopoDS_Shape tool = extrude_prism(extrude, i, note);
        bool joins = extrude.op == OP_NEW_BODY || extrude.op == OP_JOIN;
        if (i == 0 || (body.shape.IsNull() && joins)) {
            body.shape = tool;
            body.volume = cad::shape_volume(tool);
        } else if (!body.shape.IsNull()) {
            body = combine(body, tool, extrude.op, i, way, &solid->jittered, note);
        }
    }
    if (body.shape.IsNull()) {
        cad::write_note(note, "nothing is left of the part after its last extrude");
        return CAD_EMPTY_SOLID;
    }
    solid->shape = program->count > 1 ? cad::unified(body.shape, body.volume) : body.shape;
    return CAD_OK;
}

// Closing a slit moves a face by no more than it is wide, and a tool that was changed by a hair has
// all its faces elsewhere by that much.
bool is_as_large(const Solid &closed, const cad::Contents &open) {
    double moved = ROUNDING;
    if (closed.jittered) moved += 2 * JITTER * box_size(closed.shape, nullptr);
    return std::fabs(cad::shape_volume(closed.shape) - open.volume) <= moved * open.area;
}

// Rounding leaves slits and slivers between what should meet, and edges where more than two faces
// come together. With rounding allowed for, such a part may be sound, and as large as its slits
// allow; else it stays as it is.
void close_slits(Solid *solid, const CadProgram *program) {
    int bad_faces;
    if (program->count == 1 || cad::is_manifold(solid->shape, &bad_faces)) return;
    if (!BRepCheck_Analyzer(solid->shape).IsValid()) return; // a worse fault, to be reported
    Solid closed;
    SolidNote unused;
    cad::Contents open = cad::shape_contents(solid->shape);
    bool sound = cad::guarded("closing slits", false, &unused, [&] {
        try {
            return build(&closed, program, {true, ROUNDING}, &unused) == CAD_OK &&
                   cad::is_manifold(closed.shape, &bad_faces) &&
                   BRepCheck_Analyzer(closed.shape).IsValid() && is_as_large(closed, open);
        } catch (const Refused &) {
            return false;
        }
    });
    if (!sound) return;
    *solid = closed;
    solid->jittered = true;
}

// The kernel makes a face of some loops that touch themselves, and a broken solid of the face: then
// the place says more than what is broken.
void blame_contact(const Solid &solid, const CadProgram *program, SolidNote *note) {
    for (int i = 0; i < program->count; i++) {
        const Extrude &extrude = program->extrudes[i];
        Contact contact;
        int bad_faces;
        if (profile_is_plain(&extrude) || !profile_contact(&extrude, &contact)) continue;
        if (cad::is_manifold(solid.shape, &bad_faces) && BRepCheck_Analyzer(solid.shape).IsValid())
            return;
        say_contact(extrude, i, note);
        throw Refused{CAD_EXEC_FAIL};
    }
}

} // namespace

CadStatus solid_build(Solid **out, const CadProgram *program, SolidNote *note) {
    *out = nullptr;
    note->text[0] = 0;
    return cad::guarded("building the solid", CAD_EXEC_FAIL, note, [&] {
        auto solid = std::make_unique<Solid>();
        CadStatus status;
        try {
            try {
                status = build(solid.get(), program, {}, note);
            } catch (const NeedsCare &) {
                status = build(solid.get(), program, {true, 0}, note);
            }
            if (status == CAD_OK) close_slits(solid.get(), program);
            if (status == CAD_OK) blame_contact(*solid, program, note);
        } catch (const Refused &refused) {
            return refused.status;
        }
        if (status == CAD_OK) *out = solid.release();
        return status;
    });
}

void solid_free(Solid **solid) {
    delete *solid;
    *solid = nullptr;
}
