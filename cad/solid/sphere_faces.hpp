// Faces on spheres that a reader got wrong.
#ifndef CADVLM_CAD_SOLID_SPHERE_FACES_HPP
#define CADVLM_CAD_SOLID_SPHERE_FACES_HPP

#include <TopoDS_Shape.hxx>
#include <vector>

namespace cad {

// The shape with faces on spheres made anew from the edges that they share with others, each as
// what lies beyond those edges, seen from the middle of each ring of them: first one face at a
// time, then all of them. None where there is no such face.
std::vector<TopoDS_Shape> with_spheres_anew(const TopoDS_Shape &shape);

// Whether a face goes more than once around its sphere, and so lies over itself.
bool sphere_overlaps(const TopoDS_Shape &shape);

} // namespace cad

#endif
