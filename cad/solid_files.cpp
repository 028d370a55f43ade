// Solids from STEP files, and to STEP and STL files.
#include <APIHeaderSection_MakeHeader.hxx>
#include <IFSelect_ReturnStatus.hxx>
#include <Message.hxx>
#include <Message_Messenger.hxx>
#include <Message_Printer.hxx>
#include <STEPControl_Reader.hxx>
#include <STEPControl_Writer.hxx>
#include <Standard_Version.hxx>
#include <StepBasic_Product.hxx>
#include <StepData_StepModel.hxx>
#include <TCollection_HAsciiString.hxx>
#include <cstring>
#include <vector>

#include "cad/mesh.hpp"
#include "cad/shape.hpp"
#include "cad/shape_measure.hpp"
#define _Noreturn [[noreturn]]
extern "C" {
#include <unistd.h>

#include "core/file.h"
}
#undef _Noreturn

namespace {

constexpr uint64_t STEP_BYTES_MAX = 256u << 20;
constexpr double STL_DEFLECTION = 1e-3; // of the box diagonal
constexpr double STL_ANGLE = 0.3;
// The files say this instead of when and where they were made.
constexpr char STEP_END[] = "END-ISO-10303-21;";
constexpr const char *STEP_TIME = "2000-01-01T00:00:00";

Handle(TCollection_HAsciiString) text(const char *characters) {
    return new TCollection_HAsciiString(characters);
}

CadStatus read_step(Solid *solid, const char *path, SolidNote *note) {
    STEPControl_Reader reader;
    if (reader.ReadFile(path) != IFSelect_RetDone) {
        cad::write_note(note, "%.160s is not a readable STEP file", path);
        return CAD_PARSE_FAIL;
    }
    reader.TransferRoots();
    solid->shape = cad::only_solids(reader.OneShape());
    if (solid->shape.IsNull()) {
        cad::write_note(note, "there is no solid in %.160s", path);
        return CAD_EMPTY_SOLID;
    }
    return CAD_OK;
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

Err step_failed(const char *path, const char *why) {
    FAIL(ERR_IO, "cannot write %s: %s", path, why);
}

// Into `temporary`; sentences name `path`.
Err write_step_file(const TopoDS_Shape &shape, const char *temporary, const char *path) {
    STEPControl_Writer writer;
    if (writer.Transfer(shape, STEPControl_AsIs) != IFSelect_RetDone)
        return step_failed(path, "the kernel cannot express the solid as STEP");
    set_header(writer.Model());
    if (writer.Write(temporary) != IFSelect_RetDone)
        return step_failed(path, "the disk refused it");
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

Err kernel_failed(const char *path, const SolidNote *note) {
    FAIL(ERR_IO, "cannot write %s: %s", path, note->text);
}

// A kernel error inside `body` as an Err.
template <typename Body> Err guarded_err(const char *what, const char *path, Body body) {
    SolidNote note = {""};
    bool threw = true;
    Err err = cad::guarded(what, ERR_IO, &note, [&] {
        Err result = body();
        threw = false;
        return result;
    });
    return threw ? kernel_failed(path, &note) : err;
}

} // namespace

CadStatus solid_read_step(Solid **out, const char *path, SolidNote *note) {
    *out = nullptr;
    note->text[0] = 0;
    uint64_t bytes = 0;
    if (file_size(path, &bytes) != OK || bytes > STEP_BYTES_MAX) {
        cad::write_note(note, "%.160s cannot be read or is larger than %d MiB", path,
                        int(STEP_BYTES_MAX >> 20));
        return CAD_PARSE_FAIL;
    }
    return cad::guarded("reading the STEP file", CAD_PARSE_FAIL, note, [&] {
        auto solid = std::make_unique<Solid>();
        CadStatus status = read_step(solid.get(), path, note);
        if (status == CAD_OK) *out = solid.release();
        return status;
    });
}

// The kernel does not say when the disk is full, so its file is read again, and only a whole one
// gets the name.
static Err publish_step(const char *temporary, const char *path) {
    Buf file = {};
    Err err = file_read(&file, temporary, STEP_BYTES_MAX);
    const size_t tail = sizeof STEP_END + 1; // with a line end
    if (err == OK && (file.size < tail || !strstr(file.data + file.size - tail, STEP_END)))
        err = step_failed(path, "the disk is full");
    if (err == OK) err = file_write(path, file.data, file.size);
    buf_free(&file);
    return err;
}

Err solid_write_step(const Solid *solid, const char *path) {
    char temporary[PATH_SIZE];
    TRY(path_format(temporary, "%s.kernel.%d", path, int(getpid())));
    Err err = guarded_err("writing STEP", path,
                          [&] { return write_step_file(solid->shape, temporary, path); });
    if (err == OK) err = publish_step(temporary, path);
    unlink(temporary);
    return err;
}

Err solid_write_stl(const Solid *solid, const char *path) {
    Buf bytes = {};
    Err err = guarded_err("writing STL", path, [&] {
        stl_bytes(&bytes, solid->shape);
        return OK;
    });
    if (err == OK) err = file_write(path, bytes.data, bytes.size);
    buf_free(&bytes);
    return err;
}

void solid_quiet(void) {
    Message::DefaultMessenger()->RemovePrinters(STANDARD_TYPE(Message_Printer));
}

const char *solid_kernel_version(void) {
    return OCC_VERSION_COMPLETE;
}
