// Faces that are neither planes nor cylinders, as triangles of a scene.
#ifndef CADVLM_CAD_DRAWING_SCENE_MESH_HPP
#define CADVLM_CAD_DRAWING_SCENE_MESH_HPP

#include <BRepAdaptor_Surface.hxx>
#include <TopTools_IndexedMapOfShape.hxx>
#include <TopoDS_Edge.hxx>

#include "cad/drawing/scene.hpp"

namespace cad {

// Edges that only lie in a face bound nothing and are not drawn.
inline bool is_border(const TopoDS_Shape &edge) {
    return edge.Orientation() == TopAbs_FORWARD || edge.Orientation() == TopAbs_REVERSED;
}

// Depth within which an edge of a round face counts as lying on it: chords sink into the surface by
// the tolerance, which is this deep where the surface is seen from the side.
inline double round_slack(double radius, double tolerance) {
    return 2 * std::sqrt(2 * radius * tolerance);
}

// du × dv of a surface, as a unit vector; zero at poles and tips.
inline gp_XYZ surface_normal(const BRepAdaptor_Surface &surface, const gp_XY &place) {
    gp_Pnt point;
    gp_Vec du, dv;
    surface.D1(place.X(), place.Y(), point, du, dv);
    gp_XYZ normal = du.XYZ().Crossed(dv.XYZ());
    double length = normal.Modulus();
    return length < 1e-12 ? gp_XYZ(0, 0, 0) : normal / length;
}

// Triangulates faces, all at once: neighbours then share the points of their edges.
void mesh_faces(const std::vector<TopoDS_Face> &faces, double tolerance);

// The parameters of the points of an edge in the triangulation of a face; empty where it has none.
std::vector<double> meshed_params(const TopoDS_Edge &edge, const TopoDS_Face &face);

// What else of a scene a mesh is tied to.
struct SceneShapes {
    TopTools_IndexedMapOfShape edges, faces, vertices;
    std::vector<int> vertex_points; // the point of each vertex; -1: none
};

// Adds the facets and the mesh of a triangulated face, and its side of the borders.
void add_mesh(Scene *scene, SceneShapes *shapes, int face, double tolerance);

} // namespace cad

#endif
