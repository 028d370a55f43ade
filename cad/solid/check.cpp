// What is known of a solid: volume, area, box, counts, and whether it is sound.
#include <BRepBndLib.hxx>
#include <BRepCheck_Analyzer.hxx>
#include <BRepTools.hxx>
#include <BRep_Builder.hxx>
#include <BRep_Tool.hxx>
#include <Bnd_Box.hxx>
#include <TopExp.hxx>
#include <TopExp_Explorer.hxx>
#include <TopTools_IndexedMapOfShape.hxx>
#include <TopoDS.hxx>
#include <TopoDS_Compound.hxx>
#include <TopoDS_Edge.hxx>
#include <cmath>
#include <vector>

#include "cad/solid/mesh.hpp"
#include "cad/solid/shape.hpp"
#include "cad/solid/shape_measure.hpp"
#include "cad/solid/sphere_faces.hpp"

TopoDS_Shape cad::only_solids(const TopoDS_Shape &shape) {
    TopoDS_Compound compound;
    BRep_Builder builder;
    TopoDS_Shape only;
    int count = 0;
    builder.MakeCompound(compound);
    for (TopExp_Explorer at(shape, TopAbs_SOLID); at.More(); at.Next(), count++) {
        only = at.Current();
        builder.Add(compound, only);
    }
    return count == 0 ? TopoDS_Shape() : count == 1 ? only : TopoDS_Shape(compound);
}

bool cad::shape_box(const TopoDS_Shape &shape, double low[3], double high[3]) {
    Bnd_Box box;
    BRepBndLib::AddOptimal(shape, box, Standard_False, Standard_False);
    if (box.IsVoid() || box.IsOpen()) return false;
    box.SetGap(0);
    box.Get(low[0], low[1], low[2], high[0], high[1], high[2]);
    return true;
}

// Every edge of a sound solid bounds two faces, or one face twice (a seam). Edges that only lie in
// a face, where something touches it from outside, bound none; where the other side of such an edge
// is a border, the solid touches itself.
bool cad::is_manifold(const TopoDS_Shape &shape, int *bad_faces) {
    TopTools_IndexedMapOfShape edges;
    TopExp::MapShapes(shape, TopAbs_EDGE, edges);
    std::vector<int> borders(size_t(edges.Extent()) + 1, 0), inside = borders;
    for (TopExp_Explorer face(shape, TopAbs_FACE); face.More(); face.Next())
        for (TopExp_Explorer edge(face.Current(), TopAbs_EDGE); edge.More(); edge.Next()) {
            TopAbs_Orientation side = edge.Current().Orientation();
            bool border = side == TopAbs_FORWARD || side == TopAbs_REVERSED;
            (border ? borders : inside)[size_t(edges.FindIndex(edge.Current()))]++;
        }
    for (int i = 1; i <= edges.Extent(); i++) {
        if (BRep_Tool::Degenerated(TopoDS::Edge(edges(i)))) continue;
        int count = borders[size_t(i)];
        *bad_faces = count + inside[size_t(i)];
        if (count != 0 && *bad_faces != 2) return false;
    }
    return true;
}

namespace {

constexpr double MESH_DEFLECTION = 1e-3; // of the box diagonal
constexpr double MESH_ANGLE = 0.3;
constexpr double MESH_ROUNDING = 1e-5; // of the volume: gaps within the tolerances of edges

int count_parts(const TopoDS_Shape &shape, TopAbs_ShapeEnum kind) {
    TopTools_IndexedMapOfShape parts;
    TopExp::MapShapes(shape, kind, parts);
    return parts.Extent();
}

struct MeshVolume {
    double volume;
    bool whole; // all faces have triangles
};

// By triangles that are taken off the shape again.
MeshVolume volume_by_mesh(const TopoDS_Shape &shape, double deflection, double angle) {
    BRepTools::Clean(shape);
    bool whole = cad::mesh_shape(shape, deflection, angle);
    double volume = cad::mesh_volume(cad::shape_triangles(shape));
    BRepTools::Clean(shape);
    return {volume, whole};
}

// Where a face does not end at its edges, the kernel's check may pass; but then its integrals,
// which know edges alone, and its triangles, which know the surface, say different things. Chords
// take no more from a volume than their distance from each curved face, in practice half of that.
CadStatus ask_mesh(const TopoDS_Shape &shape, const cad::Contents &contents, double diagonal,
                   SolidNote *note) {
    double deflection = MESH_DEFLECTION * diagonal;
    double slack = deflection * contents.curved_area + MESH_ROUNDING * contents.volume;
    MeshVolume mesh = {0, false};
    for (double finer : {1.0, 0.3}) {
        mesh = volume_by_mesh(shape, finer * deflection, finer * MESH_ANGLE);
        if (std::fabs(mesh.volume - contents.volume) <= slack) return CAD_OK;
    }
    if (!mesh.whole) {
        cad::write_note(note, "doubtful: the kernel cannot triangulate all of its faces");
        return CAD_OK;
    }
    cad::write_note(
        note,
        "its faces enclose %g by their edges and %g by their surfaces: one of them does "
        "not end at its edges",
        contents.volume, mesh.volume);
    return CAD_INVALID_SOLID;
}

// A second opinion on a solid that was not built here.
CadStatus look_closer(const TopoDS_Shape &shape, const cad::Contents &contents, double diagonal,
                      SolidNote *note) {
    if (cad::sphere_overlaps(shape)) {
        cad::write_note(note, "one of its faces goes round its sphere more than once");
        return CAD_INVALID_SOLID;
    }
    return ask_mesh(shape, contents, diagonal, note);
}

CadStatus check(const Solid &solid, SolidFacts *facts, SolidNote *note) {
    const TopoDS_Shape &shape = solid.shape;
    facts->jittered = solid.jittered;
    facts->solids = count_parts(shape, TopAbs_SOLID);
    facts->faces = count_parts(shape, TopAbs_FACE);
    double low[3], high[3];
    if (facts->solids == 0 || !cad::shape_box(shape, low, high)) {
        cad::write_note(note, "no solid in it");
        return CAD_EMPTY_SOLID;
    }
    facts->box_min = {low[0], low[1], low[2]};
    facts->box_max = {high[0], high[1], high[2]};
    cad::Contents contents = cad::shape_contents(shape);
    facts->volume = contents.volume;
    facts->area = contents.area;
    if (!(facts->volume > 0)) {
        cad::write_note(note, "the volume of the solid is %g", facts->volume);
        return CAD_INVALID_SOLID;
    }
    if (!BRepCheck_Analyzer(shape).IsValid()) {
        cad::write_note(note, "the kernel's check says that the solid is broken (faces that cross, "
                              "gaps, or wrong sides)");
        return CAD_INVALID_SOLID;
    }
    int bad_faces = 0;
    if (!cad::is_manifold(shape, &bad_faces)) {
        cad::write_note(note, "an edge has %d faces, where two belong", bad_faces);
        return CAD_NON_MANIFOLD;
    }
    double diagonal = std::hypot(high[0] - low[0], high[1] - low[1], high[2] - low[2]);
    return solid.from_file ? look_closer(shape, contents, diagonal, note) : CAD_OK;
}

} // namespace

SolidCheck cad::check_solid(const Solid &solid) {
    SolidCheck found;
    found.status = cad::guarded("checking the solid", CAD_INVALID_SOLID, &found.note,
                                [&] { return check(solid, &found.facts, &found.note); });
    return found;
}

CadStatus solid_check(const Solid *solid, SolidFacts *facts, SolidNote *note) {
    SolidCheck found = solid->checked ? *solid->checked : cad::check_solid(*solid);
    *facts = found.facts;
    *note = found.note;
    return found.status;
}
