// What is known of a solid: volume, area, box, counts, and whether it is sound.
#include <BRepAdaptor_Surface.hxx>
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

#include "cad/mesh.hpp"
#include "cad/shape.hpp"
#include "cad/shape_measure.hpp"
#include "cad/sphere_faces.hpp"

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

double curved_area(const TopoDS_Shape &shape) {
    double sum = 0;
    for (TopExp_Explorer at(shape, TopAbs_FACE); at.More(); at.Next()) {
        double volume, area;
        BRepAdaptor_Surface surface(TopoDS::Face(at.Current()), Standard_False);
        if (surface.GetType() == GeomAbs_Plane) continue;
        cad::shape_contents(at.Current(), &volume, &area);
        sum += area;
    }
    return sum;
}

// The volume by triangles, which are taken off the shape again; NaN where it cannot be had.
double volume_by_mesh(const TopoDS_Shape &shape, double deflection, double angle) {
    BRepTools::Clean(shape);
    bool whole = cad::mesh_shape(shape, deflection, angle);
    double volume = cad::mesh_volume(cad::shape_triangles(shape));
    BRepTools::Clean(shape);
    return whole ? volume : double(NAN);
}

CadStatus check(const Solid *solid, SolidFacts *facts, SolidNote *note) {
    const TopoDS_Shape &shape = solid->shape;
    facts->jittered = solid->jittered;
    facts->solids = count_parts(shape, TopAbs_SOLID);
    facts->faces = count_parts(shape, TopAbs_FACE);
    double low[3], high[3];
    if (facts->solids == 0 || !cad::shape_box(shape, low, high)) {
        cad::write_note(note, "there is no solid in it");
        return CAD_EMPTY_SOLID;
    }
    facts->box_min = {low[0], low[1], low[2]};
    facts->box_max = {high[0], high[1], high[2]};
    cad::shape_contents(shape, &facts->volume, &facts->area);
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
    if (!solid->doubtful) return CAD_OK;
    cad::Opinion opinion = cad::second_opinion(shape, facts->volume);
    cad::write_note(note, "%s", opinion.text);
    return opinion.contradicts ? CAD_INVALID_SOLID : CAD_OK;
}

} // namespace

// Where a face does not end at its edges, the kernel's check may pass; but then its integrals,
// which know edges alone, and its triangles, which know the surface, say different things. Chords
// take no more from a volume than their distance from each curved face, in practice half of that.
cad::Opinion cad::second_opinion(const TopoDS_Shape &shape, double volume) {
    Opinion opinion;
    if (sphere_overlaps(shape)) return {true, "one of its faces lies over itself"};
    double low[3], high[3], by_mesh = 0;
    if (!shape_box(shape, low, high)) return opinion;
    double deflection =
        MESH_DEFLECTION * std::hypot(high[0] - low[0], high[1] - low[1], high[2] - low[2]);
    double slack = deflection * curved_area(shape) + MESH_ROUNDING * volume;
    for (double finer : {1.0, 0.3}) {
        by_mesh = volume_by_mesh(shape, finer * deflection, finer * MESH_ANGLE);
        if (std::fabs(by_mesh - volume) <= slack) return opinion;
        if (std::isnan(by_mesh))
            return {false, "doubtful: the kernel cannot triangulate all of its faces"};
    }
    opinion.contradicts = true;
    std::snprintf(opinion.text, sizeof opinion.text,
                  "its faces enclose %g by their edges and %g by their surfaces: one of them does "
                  "not end at its edges",
                  volume, by_mesh);
    return opinion;
}

CadStatus solid_check(const Solid *solid, SolidFacts *facts, SolidNote *note) {
    *facts = SolidFacts{};
    note->text[0] = 0;
    return cad::guarded("checking the solid", CAD_INVALID_SOLID, note,
                        [&] { return check(solid, facts, note); });
}
