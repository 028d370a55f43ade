// Triangles of a solid, for STL files, scores and curved surfaces.
#ifndef CADVLM_CAD_SOLID_MESH_HPP
#define CADVLM_CAD_SOLID_MESH_HPP

#include <TopoDS_Face.hxx>
#include <TopoDS_Shape.hxx>
#include <gp_XYZ.hxx>
#include <vector>

namespace cad {

struct Triangle {
    gp_XYZ corner[3]; // counter-clockwise seen from outside
};

// Triangulates what has no triangles yet: chords off by at most `deflection`, or turning by `angle`
// (radians) at most. Inside faces triangles may be off by another deflection, if one is given.
// False where some faces could not be.
bool mesh_shape(const TopoDS_Shape &shape, double deflection, double angle,
                double inner_deflection = 0);

// Appends the triangles of a face, or of all faces; flat ones are left out.
void face_triangles(const TopoDS_Face &face, std::vector<Triangle> *out);
std::vector<Triangle> shape_triangles(const TopoDS_Shape &shape);

// What closed triangles enclose.
double mesh_volume(const std::vector<Triangle> &triangles);

} // namespace cad

#endif
