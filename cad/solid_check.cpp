// What is known of a solid: volume, area, box, counts, and whether it is sound.
#include <BRepBndLib.hxx>
#include <BRepCheck_Analyzer.hxx>
#include <BRep_Builder.hxx>
#include <BRep_Tool.hxx>
#include <Bnd_Box.hxx>
#include <TopExp.hxx>
#include <TopExp_Explorer.hxx>
#include <TopTools_IndexedMapOfShape.hxx>
#include <TopoDS.hxx>
#include <TopoDS_Compound.hxx>
#include <TopoDS_Edge.hxx>
#include <vector>

#include "cad/shape.hpp"
#include "cad/shape_measure.hpp"

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

int count_parts(const TopoDS_Shape &shape, TopAbs_ShapeEnum kind) {
    TopTools_IndexedMapOfShape parts;
    TopExp::MapShapes(shape, kind, parts);
    return parts.Extent();
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
    return CAD_OK;
}

} // namespace

CadStatus solid_check(const Solid *solid, SolidFacts *facts, SolidNote *note) {
    *facts = SolidFacts{};
    note->text[0] = 0;
    return cad::guarded("checking the solid", CAD_INVALID_SOLID, note,
                        [&] { return check(solid, facts, note); });
}
