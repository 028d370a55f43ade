// Contours along the smooth edges of a scene.
#ifndef CADVLM_CAD_DRAWING_EDGE_CONTOURS_HPP
#define CADVLM_CAD_DRAWING_EDGE_CONTOURS_HPP

#include "cad/drawing/contours.hpp"

namespace cad {

// Whether something with this normal is seen.
bool seen(const gp_XYZ &normal, const gp_XYZ &toward);

// Whether a face of an edge comes into sight (+1) or vanishes (-1) at a point of it, from the chord
// before to the one behind.
int turn_at(const Scene &scene, const SceneEdge &edge, int side, int number, const gp_XYZ &toward);

// Of the surface's normal at a point of its edge, with the direction to the viewer.
double cosine_at(const Scene &scene, const SceneEdge &edge, int side, int number,
                 const gp_XYZ &toward);

// A contour of a face ends at a point of its edge; this is where it truly crosses the edge, in
// numbers of points: where the normal's cosine changes its sign in the same sense, if that is near.
// It is the same place for both faces of a smooth edge.
double crossing(const Scene &scene, const SceneEdge &edge, int face, int number,
                const gp_XYZ &toward);

gp_XYZ point_of_edge(const Scene &scene, const SceneEdge &edge, double number);

} // namespace cad

#endif
