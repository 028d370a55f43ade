// What the OpenCASCADE files of this module share.
#ifndef CADVLM_CAD_SOLID_SHAPE_HPP
#define CADVLM_CAD_SOLID_SHAPE_HPP

#include <math.h>
#include <stdarg.h>
#include <stdint.h>

#include <Standard_Failure.hxx>
#include <TopoDS_Shape.hxx>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <string>

// The C headers are C23; this is what they need to be read by a C++17 compiler.
#define _Noreturn [[noreturn]]
extern "C" {
#include "cad/solid/solid.h"
}
#undef _Noreturn

// What solid_check says.
struct SolidCheck {
    CadStatus status = CAD_EMPTY_SOLID;
    SolidFacts facts = {};
    SolidNote note = {""};
};

struct Solid {
    TopoDS_Shape shape; // a solid, or a compound of solids
    bool jittered = false;
    bool from_file = false; // not built here: its triangles are asked for a second opinion
    std::optional<SolidCheck> checked; // where someone had to know before
};

namespace cad {

__attribute__((format(printf, 2, 3))) inline void write_note(SolidNote *note, const char *format,
                                                             ...) {
    va_list args;
    va_start(args, format);
    std::vsnprintf(note->text, sizeof note->text, format, args);
    va_end(args);
}

// Another sentence beside those that a note has.
inline void add_note(SolidNote *note, const SolidNote &more) {
    std::string all = std::string(note->text) + (note->text[0] ? "; " : "") + more.text;
    write_note(note, "%s", all.c_str());
}

// Runs `body` and turns whatever the kernel throws into `failed` with a sentence: nothing may pass
// the border to C.
template <typename Result, typename Body>
Result guarded(const char *what, Result failed, SolidNote *note, Body body) {
    try {
        return body();
    } catch (const Standard_Failure &failure) {
        const char *text = failure.GetMessageString();
        write_note(note, "%s: the geometry kernel gave up: %s%s%.150s", what,
                   failure.DynamicType()->Name(), text && *text ? ": " : "", text ? text : "");
    } catch (const std::exception &failure) {
        write_note(note, "%s: the geometry kernel gave up: %.150s", what, failure.what());
    } catch (...) {
        write_note(note, "%s: the geometry kernel gave up", what);
    }
    return failed;
}

SolidCheck check_solid(const Solid &solid);

} // namespace cad

#endif
