// A solid as hidden-line removal sees it: edges as chains of chords, faces as flat facets.
//
// Planar faces are facets as they stand, holes and all, bounded by the chains of their edges. A
// cylinder is cut along generators into flat strips. Other surfaces are triangulated. Chords of
// circles lie on one grid of angles for each axis direction and radius, so that edges and strips
// meet at the same points.
#ifndef CADVLM_CAD_SCENE_HPP
#define CADVLM_CAD_SCENE_HPP

#include <TopoDS_Shape.hxx>
#include <gp_Ax2.hxx>
#include <gp_XYZ.hxx>
#include <vector>

namespace cad {

struct SceneEdge {
    int first, count; // points[first] … points[first + count - 1]
    int face[2];      // -1: none
    bool closed;      // the last point is the first one again
    bool smooth;      // the faces meet without a corner
    bool circular;
    gp_XYZ center, axis; // circular: the circle; axis is a unit vector
    double radius;
};

struct SceneFacet {
    gp_XYZ normal; // out of the material
    double offset; // normal · p of its plane
    int face;
    double near_slack;      // depth within which its own face's edges are not hidden; < 0: never
    std::vector<int> edges; // the boundary: whole edges …
    int first, count;       // … and segments[first] …
};

struct SceneSegment {
    gp_XYZ from, to;
};

// Boundary of a cylindrical face in (angle, height), as chords; and the frame of the angle.
struct SceneChord {
    double angle[2], height[2];
    gp_XYZ point[2];
};

struct SceneCylinder {
    int face;
    double radius, near_slack;
    gp_XYZ origin, axis, x, y; // point = origin + radius (cos x + sin y) + height axis
    std::vector<SceneChord> chords;
};

// An inner edge of a triangulated surface, with the outward normals on its two sides.
struct SceneCrease {
    gp_XYZ from, to, normal[2];
    int face;
};

struct Scene {
    std::vector<gp_XYZ> points;
    std::vector<SceneEdge> edges;
    std::vector<SceneFacet> facets;
    std::vector<SceneSegment> segments;
    std::vector<SceneCylinder> cylinders;
    std::vector<SceneCrease> creases;
    double size; // the diagonal of the box of all points
};

Scene make_scene(const TopoDS_Shape &shape, double tolerance);

// The heights between which a cylindrical face covers the generator at `angle`, as pairs. The face
// just before (side -1) or just behind (side +1) that angle counts.
struct HeightRange {
    double low, high;
    gp_XYZ low_point, high_point;
};
void cylinder_ranges(const SceneCylinder &cylinder, double angle, int side,
                     std::vector<HeightRange> *out);

} // namespace cad

#endif
