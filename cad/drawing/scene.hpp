// A solid as hidden-line removal sees it: edges as chains of chords, faces as flat facets.
//
// Planar faces are facets as they stand, holes and all, bounded by the chains of their edges. A
// cylinder or cone is cut along generators into flat strips. Other surfaces are triangulated, and
// the chains of their edges are sides of the triangles. Chords of other circles lie on one grid of
// angles for each axis direction and radius, so that edges and strips meet at the same points.
#ifndef CADVLM_CAD_DRAWING_SCENE_HPP
#define CADVLM_CAD_DRAWING_SCENE_HPP

#include <TopoDS_Face.hxx>
#include <TopoDS_Shape.hxx>
#include <cmath>
#include <gp_Ax2.hxx>
#include <gp_XY.hxx>
#include <gp_XYZ.hxx>
#include <vector>

namespace cad {

struct SceneEdge {
    int first, count;  // points[first] … points[first + count - 1]
    int face[2];       // -1: none
    bool closed;       // the last point is the first one again
    bool smooth;       // the faces meet without a corner
    bool beside_round; // one of its faces is no plane
    bool circular;
    gp_XYZ center, axis; // circular: the circle; axis is a unit vector
    double radius;
    int border[2]; // borders[border[k]] … of its points in face[k]; -1: not known
};

// A face at a point of its edge, and along the chord that begins there.
struct SceneBorder {
    gp_XYZ normal; // of the surface, at the point; zero where there is none
    gp_XYZ beside; // of the facet beside the chord
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

// Boundary of a cylindrical or conical face in (angle, height), as chords; and the frame of the
// angle.
struct SceneChord {
    double angle[2], height[2];
    gp_XYZ point[2];
};

// point = origin + (radius + slope height) (cos x + sin y) + height axis; a cylinder has no slope.
struct SceneCone {
    int face;
    double radius, slope, widest, near_slack;
    gp_XYZ origin, axis, x, y;
    std::vector<SceneChord> chords;

    gp_XYZ radial(double angle) const { return x * std::cos(angle) + y * std::sin(angle); }
};

// A triangulated face. Its nodes are points of the scene: those on edges are the edges' own, and
// those at a vertex the first point that is there.
struct SceneMesh {
    struct Node {
        int point;
        gp_XY place;   // in the parameters of the surface
        gp_XYZ normal; // of the surface, outward; zero at poles and tips
    };
    // An inner side, between two triangles; nodes by their number in the mesh.
    struct Crease {
        int node[2], triangle[2];
    };
    int face;
    TopoDS_Face shape;
    std::vector<Node> nodes;
    std::vector<gp_XYZ> normals; // of each triangle, outward: the sum of its corners'
    std::vector<Crease> creases;
};

struct Scene {
    std::vector<gp_XYZ> points; // first those of the edges, in their order
    std::vector<SceneEdge> edges;
    std::vector<SceneBorder> borders;
    std::vector<SceneFacet> facets;
    std::vector<SceneSegment> segments;
    std::vector<SceneCone> cones;
    std::vector<SceneMesh> meshes;
    bool round = false; // not all faces are planes and cylinders
    double size;        // the diagonal of the box of all points
    double tolerance;   // how far chords and triangles may miss their curves and surfaces
};

Scene make_scene(const TopoDS_Shape &shape, double tolerance);

// The heights between which a cylindrical or conical face covers the generator at `angle`, as
// pairs. The face just before (side -1) or just behind (side +1) that angle counts.
struct HeightRange {
    double low, high;
    gp_XYZ low_point, high_point;
};
void cone_ranges(const SceneCone &cone, double angle, int side, std::vector<HeightRange> *out);

} // namespace cad

#endif
