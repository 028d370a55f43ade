// Solids from STEP files.
//
// The kernel's reader is not trusted: of a sphere with a piece cut out of it, it may keep the
// piece, and say that all is well. So the corners of the file must lie within the box of what was
// read; where they do not, or where the solid is broken, the file is read in another way.
#include <BRepBuilderAPI_MakeSolid.hxx>
#include <BRepBuilderAPI_Sewing.hxx>
#include <BRepCheck_Analyzer.hxx>
#include <BRepLib.hxx>
#include <BRep_Builder.hxx>
#include <BRep_Tool.hxx>
#include <IFSelect_ReturnStatus.hxx>
#include <Interface_Static.hxx>
#include <STEPConstruct_UnitContext.hxx>
#include <STEPControl_Reader.hxx>
#include <ShapeFix_Shape.hxx>
#include <StepData_StepModel.hxx>
#include <StepGeom_CartesianPoint.hxx>
#include <StepGeom_GeomRepContextAndGlobUnitAssCtxAndGlobUncertaintyAssCtx.hxx>
#include <StepGeom_GeometricRepresentationContextAndGlobalUnitAssignedContext.hxx>
#include <StepRepr_GlobalUnitAssignedContext.hxx>
#include <StepRepr_ItemDefinedTransformation.hxx>
#include <StepRepr_MappedItem.hxx>
#include <StepShape_VertexPoint.hxx>
#include <TopExp_Explorer.hxx>
#include <TopoDS.hxx>
#include <TopoDS_Compound.hxx>
#include <TopoDS_Shell.hxx>
#include <TopoDS_Solid.hxx>
#include <algorithm>
#include <istream>
#include <streambuf>

#include "cad/solid/overlap.hpp"
#include "cad/solid/shape_measure.hpp"
#include "cad/solid/sphere_faces.hpp"

namespace {

constexpr double OUTSIDE = 1e-3;  // of the corners' box: a corner may lie so far out of the shape
constexpr double SEAM_GAP = 1e-5; // of the shape's box: faces that are no further apart are sewn

// The curves of edges as the file prefers them, or those in space alone, from which the kernel
// computes those in the parameters of faces itself.
enum CurveMode { AS_IN_FILE = 0, IN_SPACE = 3 };
constexpr CurveMode curve_modes[] = {AS_IN_FILE, IN_SPACE};

// Bytes in memory as a stream.
struct Bytes : std::streambuf {
    explicit Bytes(const Buf *file) { setg(file->data, file->data, file->data + file->size); }
};

struct Box {
    double low[3] = {1e300, 1e300, 1e300}, high[3] = {-1e300, -1e300, -1e300};

    bool empty() const { return low[0] > high[0]; }
    void add(const double p[3]) {
        for (int k = 0; k < 3; k++) {
            low[k] = std::min(low[k], p[k]);
            high[k] = std::max(high[k], p[k]);
        }
    }
    double size(int k) const { return high[k] - low[k]; }
    double diagonal() const { return std::hypot(size(0), size(1), size(2)); }
    bool holds(const Box &other, double slack) const {
        for (int k = 0; k < 3; k++)
            if (other.low[k] < low[k] - slack || other.high[k] > high[k] + slack) return false;
        return true;
    }
};

// What was made of a file.
struct Reading {
    Solid solid; // its shape is null where there is none
    int open_shells = 0;
    Box corners; // of the file's vertices; empty where they cannot be compared
};

// ---- solids ----

int count_free(const TopoDS_Shape &shape, TopAbs_ShapeEnum kind, TopAbs_ShapeEnum owner) {
    int count = 0;
    for (TopExp_Explorer at(shape, kind, owner); at.More(); at.Next()) count++;
    return count;
}

// A shell that closes is the boundary of a solid, even if the file does not say so.
TopoDS_Solid filled(const TopoDS_Shell &shell) {
    TopoDS_Solid solid = BRepBuilderAPI_MakeSolid(shell).Solid();
    BRepLib::OrientClosedSolid(solid);
    return solid;
}

TopoDS_Shape solids_of(const TopoDS_Shape &shape, int *open_shells) {
    TopoDS_Compound all;
    BRep_Builder builder;
    builder.MakeCompound(all);
    *open_shells = 0;
    for (TopExp_Explorer at(shape, TopAbs_SOLID); at.More(); at.Next())
        builder.Add(all, at.Current());
    for (TopExp_Explorer at(shape, TopAbs_SHELL, TopAbs_SOLID); at.More(); at.Next())
        if (BRep_Tool::IsClosed(at.Current()))
            builder.Add(all, filled(TopoDS::Shell(at.Current())));
        else
            ++*open_shells;
    *open_shells += count_free(shape, TopAbs_FACE, TopAbs_SHELL);
    return cad::only_solids(all);
}

// Faces without common edges may still enclose a solid.
TopoDS_Shape sewn(const TopoDS_Shape &shape) {
    Box box;
    if (!cad::shape_box(shape, box.low, box.high)) return shape;
    BRepBuilderAPI_Sewing sewing(SEAM_GAP * box.diagonal());
    sewing.Add(shape);
    sewing.Perform();
    return sewing.SewedShape();
}

// ---- the file's own corners ----

// Millimetres to one of the file's units; 0 when it has several or none.
double unit_of(const Handle(StepData_StepModel) & model) {
    using Context = StepGeom_GeometricRepresentationContextAndGlobalUnitAssignedContext;
    using Uncertain = StepGeom_GeomRepContextAndGlobUnitAssCtxAndGlobUncertaintyAssCtx;
    double unit = 0;
    for (int i = 1; i <= model->NbEntities(); i++) {
        Handle(StepRepr_GlobalUnitAssignedContext) units;
        if (Handle(Context) plain = Handle(Context)::DownCast(model->Value(i)); !plain.IsNull())
            units = plain->GlobalUnitAssignedContext();
        if (Handle(Uncertain) other = Handle(Uncertain)::DownCast(model->Value(i)); !other.IsNull())
            units = other->GlobalUnitAssignedContext();
        if (units.IsNull()) continue;
        STEPConstruct_UnitContext context;
        if (context.ComputeFactors(units) != 0) return 0;
        if (!context.LengthDone()) continue; /* of a drawing in a parameter plane, say */
        if (unit != 0 && unit != context.LengthFactor()) return 0;
        unit = context.LengthFactor();
    }
    return unit;
}

// The box of the corners of all faces, in millimetres; empty where parts are placed anew.
Box corners_of(const Handle(StepData_StepModel) & model) {
    Box box;
    double unit = unit_of(model);
    for (int i = 1; i <= model->NbEntities(); i++) {
        const Handle(Standard_Transient) &entity = model->Value(i);
        if (entity->IsKind(STANDARD_TYPE(StepRepr_ItemDefinedTransformation)) ||
            entity->IsKind(STANDARD_TYPE(StepRepr_MappedItem)))
            return Box();
        Handle(StepShape_VertexPoint) vertex = Handle(StepShape_VertexPoint)::DownCast(entity);
        if (vertex.IsNull() || unit == 0) continue;
        Handle(StepGeom_CartesianPoint) point =
            Handle(StepGeom_CartesianPoint)::DownCast(vertex->VertexGeometry());
        if (point.IsNull() || point->NbCoordinates() < 3) continue;
        double p[3];
        for (int k = 0; k < 3; k++) p[k] = unit * point->CoordinatesValue(k + 1);
        box.add(p);
    }
    return box;
}

// ---- reading ----

bool read_once(Reading *reading, const char *name, const Buf *file, CurveMode mode) {
    Interface_Static::SetIVal("read.surfacecurve.mode", mode);
    STEPControl_Reader reader;
    Bytes bytes(file);
    std::istream stream(&bytes);
    if (reader.ReadStream(name, stream) != IFSelect_RetDone) return false;
    reader.TransferRoots();
    TopoDS_Shape shape = reader.OneShape();
    reading->solid.from_file = true;
    reading->solid.shape = solids_of(shape, &reading->open_shells);
    if (reading->solid.shape.IsNull() && !shape.IsNull())
        reading->solid.shape = solids_of(sewn(shape), &reading->open_shells);
    reading->corners = corners_of(reader.StepModel());
    return true;
}

// Whether the solid reaches as far as the corners that the file has.
bool is_whole(const Reading &reading) {
    const SolidFacts &facts = reading.solid.checked->facts;
    const Vec3 &low = facts.box_min, &high = facts.box_max;
    Box box = {{low.x, low.y, low.z}, {high.x, high.y, high.z}};
    const Box &corners = reading.corners;
    return corners.empty() || box.holds(corners, OUTSIDE * corners.diagonal());
}

// Whole, sound and beyond doubt.
bool is_good(Reading *reading) {
    if (reading->solid.shape.IsNull()) return false;
    reading->solid.checked = cad::check_solid(reading->solid);
    const SolidCheck &checked = *reading->solid.checked;
    return checked.status == CAD_OK && !checked.note.text[0] && is_whole(*reading);
}

std::vector<TopoDS_Shape> mended(const TopoDS_Shape &shape) {
    SolidNote ignored;
    return cad::guarded("mending", std::vector<TopoDS_Shape>(), &ignored, [&] {
        std::vector<TopoDS_Shape> shapes = cad::with_spheres_anew(shape);
        ShapeFix_Shape fix(shape);
        fix.Perform();
        shapes.push_back(cad::only_solids(fix.Shape()));
        return shapes;
    });
}

// The first way that gives a good solid; else the first way's. False where it is no STEP file.
bool read_in_some_way(Reading *out, const char *name, const Buf *file) {
    for (CurveMode mode : curve_modes) {
        Reading reading;
        if (!read_once(&reading, name, file, mode)) return false;
        bool good = is_good(&reading);
        if (good || mode == AS_IN_FILE) *out = reading;
        if (good) return true;
    }
    if (out->solid.shape.IsNull()) return true;
    for (const TopoDS_Shape &shape : mended(out->solid.shape)) {
        Reading reading = *out;
        reading.solid.shape = cad::only_solids(shape);
        if (!is_good(&reading)) continue;
        *out = reading;
        break;
    }
    return true;
}

void say_doubts(const Reading &reading, SolidNote *note) {
    SolidNote doubt;
    if (!is_whole(reading)) {
        const Box &all = reading.corners;
        const Vec3 &low = reading.solid.checked->facts.box_min;
        const Vec3 &high = reading.solid.checked->facts.box_max;
        cad::write_note(&doubt,
                        "doubtful: the corners in the file span %g × %g × %g, what the kernel "
                        "reads of it only %g × %g × %g",
                        all.size(0), all.size(1), all.size(2), high.x - low.x, high.y - low.y,
                        high.z - low.z);
        cad::add_note(note, doubt);
    }
    if (reading.open_shells > 0) {
        cad::write_note(&doubt, "%d open surface%s left out", reading.open_shells,
                        reading.open_shells == 1 ? " is" : "s are");
        cad::add_note(note, doubt);
    }
}

void say_empty(const Reading &reading, const char *name, SolidNote *note) {
    int open = reading.open_shells;
    if (open)
        cad::write_note(note, "no solid in %.160s, only %d open surface%s", name, open,
                        open == 1 ? "" : "s");
    else
        cad::write_note(note, "no solid in %.160s", name);
}

CadStatus read_step(Solid *solid, const char *name, const Buf *file, SolidNote *note) {
    Reading reading;
    if (!read_in_some_way(&reading, name, file)) {
        cad::write_note(note, "%.160s is not a readable STEP file", name);
        return CAD_PARSE_FAIL;
    }
    if (reading.solid.shape.IsNull()) {
        say_empty(reading, name, note);
        return CAD_EMPTY_SOLID;
    }
    say_doubts(reading, note);
    *solid = reading.solid;
    if (!cad::join_overlapping(&solid->shape, note)) return CAD_INVALID_SOLID;
    if (!solid->shape.IsSame(reading.solid.shape)) solid->checked.reset();
    return CAD_OK;
}

} // namespace

CadStatus solid_read_step(Solid **out, const char *name, const Buf *file, SolidNote *note) {
    *out = nullptr;
    note->text[0] = 0;
    return cad::guarded("reading the STEP file", CAD_PARSE_FAIL, note, [&] {
        auto solid = std::make_unique<Solid>();
        CadStatus status = read_step(solid.get(), name, file, note);
        if (status == CAD_OK) *out = solid.release();
        return status;
    });
}
