// Finds bodies that overlap by the volumes that they share, and joins them.
#include "cad/solid/overlap.hpp"

#include <BRepAlgoAPI_Common.hxx>
#include <BRepAlgoAPI_Fuse.hxx>
#include <BRepTools.hxx>
#include <BRep_Builder.hxx>
#include <TopExp_Explorer.hxx>
#include <TopoDS_Compound.hxx>
#include <algorithm>
#include <cmath>
#include <vector>

#include "cad/solid/columns.hpp"
#include "cad/solid/mesh.hpp"
#include "cad/solid/shape_measure.hpp"

namespace {

constexpr double SHARED_MIN = 1e-6; // of the smaller body: less is the rounding of faces that touch
constexpr double LAW_SLACK = 1e-4;  // of both bodies
constexpr double TOUCHING = 1e-9;   // of the smaller body: rounding where columns only touch
constexpr double MESH_DEFLECTION = 1e-3, MESH_ANGLE = 0.3; // of a body's diagonal; radians
constexpr size_t PAIRS_MAX = 500;                          // a boolean each

struct Body {
    TopoDS_Shape shape;
    int number; // in the file, from 1
    double volume, low[3], high[3];
    std::vector<cad::Triangle> triangles; // once they are asked for

    Body(const TopoDS_Shape &solid, int n) : shape(solid), number(n) { measure(); }
    void measure() {
        volume = cad::shape_volume(shape);
        cad::shape_box(shape, low, high);
        triangles.clear();
    }
    const std::vector<cad::Triangle> &mesh() {
        if (!triangles.empty()) return triangles;
        double size = std::hypot(high[0] - low[0], high[1] - low[1], high[2] - low[2]);
        cad::mesh_shape(shape, MESH_DEFLECTION * size, MESH_ANGLE);
        triangles = cad::shape_triangles(shape);
        BRepTools::Clean(shape);
        return triangles;
    }
};

std::vector<Body> bodies_of(const TopoDS_Shape &shape) {
    std::vector<Body> bodies;
    for (TopExp_Explorer at(shape, TopAbs_SOLID); at.More(); at.Next())
        bodies.emplace_back(at.Current(), int(bodies.size()) + 1);
    return bodies;
}

bool boxes_overlap(const Body &a, const Body &b) {
    for (int k = 0; k < 3; k++)
        if (a.high[k] <= b.low[k] || b.high[k] <= a.low[k]) return false;
    return true;
}

// A look at their triangles, which is cheaper than a boolean: what only touches along planes is
// sorted out, what may overlap is not.
bool may_overlap(Body &a, Body &b) {
    if (!boxes_overlap(a, b)) return false;
    double low[2], high[2];
    for (int k = 0; k < 2; k++) {
        low[k] = std::max(a.low[k], b.low[k]);
        high[k] = std::min(a.high[k], b.high[k]);
    }
    double common = cad::common_by_columns(a.mesh(), b.mesh(), low, high);
    return common > TOUCHING * std::min(a.volume, b.volume);
}

// What the two have in common; 0 where the kernel's answer cannot be.
double shared_volume(const Body &a, const Body &b) {
    SolidNote ignored;
    double smaller = std::min(a.volume, b.volume);
    double shared = cad::guarded("intersecting", 0.0, &ignored, [&] {
        BRepAlgoAPI_Common common(a.shape, b.shape);
        return common.HasErrors() ? 0.0 : cad::shape_volume(common.Shape());
    });
    bool lawful = shared > SHARED_MIN * smaller && shared <= smaller * (1 + LAW_SLACK);
    return lawful ? shared : 0;
}

// Both as one; null where the law of volumes is broken.
TopoDS_Shape joined(const Body &a, const Body &b, double shared) {
    SolidNote ignored;
    return cad::guarded("joining", TopoDS_Shape(), &ignored, [&] {
        BRepAlgoAPI_Fuse fuse(a.shape, b.shape);
        TopoDS_Shape one = fuse.HasErrors() ? TopoDS_Shape() : cad::only_solids(fuse.Shape());
        if (one.IsNull()) return one;
        double expected = a.volume + b.volume - shared;
        double volume = cad::shape_volume(one), slack = LAW_SLACK * (a.volume + b.volume);
        return std::fabs(volume - expected) <= slack ? cad::unified(one, volume) : TopoDS_Shape();
    });
}

TopoDS_Shape together(const std::vector<Body> &bodies) {
    TopoDS_Compound compound;
    BRep_Builder builder;
    builder.MakeCompound(compound);
    for (const Body &body : bodies) builder.Add(compound, body.shape);
    return cad::only_solids(compound);
}

// Looks at each pair once; a body that grew by another is looked at again.
class Joining {
    std::vector<Body> bodies;
    size_t pairs = 0;
    SolidNote *note;

    void say(const Body &a, const Body &b, double shared, const char *then) {
        SolidNote more;
        cad::write_note(&more, "bodies %d and %d overlap by a volume of %g%s", a.number, b.number,
                        shared, then);
        if (!note->text[0] || *then) cad::add_note(note, more); // the first will do, and the last
    }

    // Joins the body with one of those after it; false when none of them overlaps it.
    bool join_one(size_t i, bool *failed) {
        for (size_t k = i + 1; k < bodies.size(); k++) {
            if (!may_overlap(bodies[i], bodies[k]) || ++pairs > PAIRS_MAX) continue;
            double shared = shared_volume(bodies[i], bodies[k]);
            if (shared == 0) continue;
            TopoDS_Shape one = joined(bodies[i], bodies[k], shared);
            *failed = one.IsNull();
            say(bodies[i], bodies[k], shared, *failed ? ", and the kernel cannot join them" : "");
            if (*failed) return false;
            bodies[i].shape = one;
            bodies[i].measure();
            bodies.erase(bodies.begin() + long(k));
            return true;
        }
        return false;
    }

  public:
    Joining(const TopoDS_Shape &shape, SolidNote *out) : bodies(bodies_of(shape)), note(out) {}

    bool join(TopoDS_Shape *shape) {
        bool failed = false;
        size_t before = bodies.size();
        for (size_t i = 0; i < bodies.size() && !failed; i++)
            while (join_one(i, &failed)) {
            }
        if (bodies.size() < before) {
            *shape = together(bodies);
            SolidNote more;
            cad::write_note(&more, "what overlaps counts once");
            cad::add_note(note, more);
        }
        if (pairs > PAIRS_MAX) {
            SolidNote more;
            cad::write_note(&more, "not all of %zu bodies were looked at for overlaps", before);
            cad::add_note(note, more);
        }
        return !failed;
    }
};

} // namespace

bool cad::join_overlapping(TopoDS_Shape *shape, SolidNote *note) {
    TopExp_Explorer at(*shape, TopAbs_SOLID);
    if (at.More()) at.Next();
    return !at.More() || Joining(*shape, note).join(shape);
}
