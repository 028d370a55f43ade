// Contours of triangulated faces: where a surface turns away from the viewer.
#ifndef CADVLM_CAD_DRAWING_CONTOURS_HPP
#define CADVLM_CAD_DRAWING_CONTOURS_HPP

#include "cad/drawing/scene.hpp"

namespace cad {

// Points in space, and the face that they lie on.
struct Contour {
    std::vector<gp_XYZ> points;
    int face;
};

// The contours inside a mesh, for a viewer far away in that direction.
std::vector<Contour> mesh_contours(const Scene &scene, const SceneMesh &mesh, const gp_XYZ &toward);

// The stretches of a smooth edge that are contours: one of its faces is seen there and the other
// is not.
std::vector<Contour> edge_contours(const Scene &scene, const SceneEdge &edge, const gp_XYZ &toward);

} // namespace cad

#endif
