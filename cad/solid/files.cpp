// Solids to the bytes of STEP and STL files; solid_read.cpp is the way back.
#include <APIHeaderSection_MakeHeader.hxx>
#include <IFSelect_ReturnStatus.hxx>
#include <Message.hxx>
#include <Message_Messenger.hxx>
#include <Message_Printer.hxx>
#include <STEPControl_Writer.hxx>
#include <Standard_Version.hxx>
#include <StepBasic_Product.hxx>
#include <StepData_Protocol.hxx>
#include <StepData_StepModel.hxx>
#include <StepData_StepWriter.hxx>
#include <TCollection_HAsciiString.hxx>
#include <XSControl_WorkSession.hxx>
#include <sstream>
#include <vector>

#include "cad/solid/mesh.hpp"
#include "cad/solid/shape.hpp"
#include "cad/solid/shape_measure.hpp"

namespace {

constexpr double STL_DEFLECTION = 1e-3; // of the box diagonal
constexpr double STL_ANGLE = 0.3;
// The files say this instead of when and where they were made.
constexpr const char *STEP_TIME = "2000-01-01T00:00:00";

Handle(TCollection_HAsciiString) text(const char *characters) {
    return new TCollection_HAsciiString(characters);
}

void set_header(const Handle(StepData_StepModel) & model) {
    APIHeaderSection_MakeHeader header(model);
    header.SetName(text("part"));
    header.SetTimeStamp(text(STEP_TIME));
    header.SetAuthorValue(1, text(""));
    header.SetOrganizationValue(1, text(""));
    header.SetOriginatingSystem(text("cadvlm"));
    header.SetAuthorisation(text(""));
    header.SetDescriptionValue(1, text("a part"));
    // The writer numbers its products through the life of the process.
    for (int i = 1; i <= model->NbEntities(); i++) {
        Handle(StepBasic_Product) product = Handle(StepBasic_Product)::DownCast(model->Entity(i));
        if (product.IsNull()) continue;
        product->SetId(text("part"));
        product->SetName(text("part"));
    }
}

Err step_failed(const char *why) {
    FAIL(ERR_UNSUPPORTED, "the solid cannot be written as STEP: %s", why);
}

// What STEPControl_Writer writes to a file, as bytes.
Err step_bytes(Buf *out, const TopoDS_Shape &shape) {
    STEPControl_Writer writer;
    if (writer.Transfer(shape, STEPControl_AsIs) != IFSelect_RetDone)
        return step_failed("the kernel cannot express it");
    Handle(StepData_StepModel) model = writer.Model();
    set_header(model);
    StepData_StepWriter file(model);
    file.SendModel(Handle(StepData_Protocol)::DownCast(writer.WS()->Protocol()));
    std::ostringstream stream;
    if (!file.Print(stream)) return step_failed("the kernel cannot print it");
    std::string text = stream.str();
    buf_append(out, text.data(), text.size());
    return OK;
}

void put_float(Buf *out, double value) {
    float number = float(value);
    buf_append(out, &number, sizeof number);
}

void put_triangle(Buf *out, const cad::Triangle &triangle) {
    gp_XYZ normal =
        (triangle.corner[1] - triangle.corner[0]).Crossed(triangle.corner[2] - triangle.corner[0]);
    normal.Normalize();
    const uint16_t attribute = 0;
    for (int i = 1; i <= 3; i++) put_float(out, normal.Coord(i));
    for (const gp_XYZ &corner : triangle.corner)
        for (int i = 1; i <= 3; i++) put_float(out, corner.Coord(i));
    buf_append(out, &attribute, sizeof attribute);
}

// Binary STL: 80 bytes of title, the number of triangles, then 50 bytes a triangle.
void stl_bytes(Buf *out, const TopoDS_Shape &shape) {
    double low[3], high[3];
    if (!cad::shape_box(shape, low, high)) return;
    double diagonal = gp_XYZ(high[0] - low[0], high[1] - low[1], high[2] - low[2]).Modulus();
    cad::mesh_shape(shape, STL_DEFLECTION * diagonal, STL_ANGLE);
    std::vector<cad::Triangle> triangles = cad::shape_triangles(shape);
    char title[80] = "cadvlm part, millimetres";
    uint32_t count = uint32_t(triangles.size());
    buf_append(out, title, sizeof title);
    buf_append(out, &count, sizeof count);
    for (const cad::Triangle &triangle : triangles) put_triangle(out, triangle);
}

// A kernel error inside `body` as an Err.
template <typename Body> Err guarded_err(const char *what, Body body) {
    SolidNote note = {""};
    bool threw = true;
    Err err = cad::guarded(what, ERR_UNSUPPORTED, &note, [&] {
        Err result = body();
        threw = false;
        return result;
    });
    if (threw) FAIL(ERR_UNSUPPORTED, "the solid cannot be written: %s", note.text);
    return err;
}

} // namespace

Err solid_to_step(Buf *out, const Solid *solid) {
    return guarded_err("writing STEP", [&] { return step_bytes(out, solid->shape); });
}

Err solid_to_stl(Buf *out, const Solid *solid) {
    return guarded_err("writing STL", [&] {
        stl_bytes(out, solid->shape);
        return OK;
    });
}

void solid_quiet(void) {
    Message::DefaultMessenger()->RemovePrinters(STANDARD_TYPE(Message_Printer));
}

const char *solid_kernel_version(void) {
    return OCC_VERSION_COMPLETE;
}
