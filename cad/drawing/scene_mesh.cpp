// Triangulated faces of a scene, tied to the points of their edges.
#include "cad/drawing/scene_mesh.hpp"

#include <BRep_Builder.hxx>
#include <BRep_Tool.hxx>
#include <Poly_PolygonOnTriangulation.hxx>
#include <Poly_Triangulation.hxx>
#include <TopExp.hxx>
#include <TopExp_Explorer.hxx>
#include <TopoDS.hxx>
#include <TopoDS_Compound.hxx>
#include <TopoDS_Vertex.hxx>
#include <algorithm>

#include "cad/solid/mesh.hpp"

namespace cad {
namespace {

constexpr double MESH_TURN = 0.25;
// Of the tolerance: how far triangles may miss the surface away from edges. They only hide;
// contours are moved to where they truly are.
constexpr double INNER_DEFLECTION = 2;

// A side of a triangle, or a chord of an edge, between two points of the scene; low < high.
struct Side {
    int low, high;
    int owner;    // the triangle, or the edge
    int from, to; // triangle: nodes of the mesh; edge: the number of the chord, and the slot

    bool operator<(const Side &other) const {
        return low != other.low ? low < other.low : high < other.high;
    }
};

Side make_side(int a, int b, int owner, int from, int to) {
    return {std::min(a, b), std::max(a, b), owner, from, to};
}

class MeshBuilder {
  public:
    MeshBuilder(Scene *scene, SceneShapes *shapes, int face, double tolerance)
        : scene_(scene), shapes_(shapes), tolerance_(tolerance),
          surface_(TopoDS::Face(shapes->faces(face + 1)), Standard_False) {
        mesh_.face = face;
        mesh_.shape = TopoDS::Face(shapes->faces(face + 1));
        triangles_ = BRep_Tool::Triangulation(mesh_.shape, location_);
    }
    void build();

  private:
    void take_border_nodes(const TopoDS_Edge &edge);
    void take_inner_nodes();
    void find_slack();
    void add_triangle(int number);
    void pair_sides();
    int vertex_point(const TopoDS_Edge &edge, bool last);
    const gp_XYZ &position(int node) const {
        return scene_->points[size_t(mesh_.nodes[size_t(node)].point)];
    }

    Scene *scene_;
    SceneShapes *shapes_;
    double tolerance_, slack_ = 0;
    BRepAdaptor_Surface surface_;
    SceneMesh mesh_;
    TopLoc_Location location_;
    Handle(Poly_Triangulation) triangles_;
    std::vector<Side> chords_, sides_;
};

// The point of the scene at an end of an edge.
int MeshBuilder::vertex_point(const TopoDS_Edge &edge, bool last) {
    TopoDS_Vertex ends[2];
    TopExp::Vertices(TopoDS::Edge(edge.Oriented(TopAbs_FORWARD)), ends[0], ends[1]);
    const TopoDS_Vertex &vertex = ends[last ? 1 : 0];
    int number = vertex.IsNull() ? 0 : shapes_->vertices.FindIndex(vertex);
    return number > 0 ? shapes_->vertex_points[size_t(number - 1)] : -1;
}

// Ties the nodes on an edge to its points, and opens this face's side of its border.
void MeshBuilder::take_border_nodes(const TopoDS_Edge &edge) {
    Handle(Poly_PolygonOnTriangulation) line =
        BRep_Tool::PolygonOnTriangulation(edge, triangles_, location_);
    if (line.IsNull()) return;
    int number = shapes_->edges.FindIndex(edge) - 1;
    SceneEdge &chain = scene_->edges[size_t(number)];
    if (BRep_Tool::Degenerated(edge)) {
        for (int i = 1; i <= line->NbNodes(); i++)
            mesh_.nodes[size_t(line->Node(i) - 1)].point = vertex_point(edge, false);
        return;
    }
    if (line->NbNodes() != chain.count) return;
    int slot = chain.face[0] == mesh_.face && chain.border[0] < 0 ? 0 : 1;
    if (chain.face[slot] != mesh_.face || chain.border[slot] >= 0) return;
    chain.border[slot] = int(scene_->borders.size());
    for (int i = 0; i < chain.count; i++) {
        SceneMesh::Node &node = mesh_.nodes[size_t(line->Node(i + 1) - 1)];
        bool end = i == 0 || i == chain.count - 1;
        int at_vertex = end ? vertex_point(edge, i > 0) : -1;
        node.point = at_vertex >= 0 ? at_vertex : chain.first + i;
        scene_->borders.push_back({node.normal, gp_XYZ(0, 0, 0)});
        if (i == 0) continue;
        int before = mesh_.nodes[size_t(line->Node(i) - 1)].point;
        chords_.push_back(make_side(before, node.point, number, i - 1, slot));
    }
}

void MeshBuilder::take_inner_nodes() {
    for (int i = 0; i < triangles_->NbNodes(); i++) {
        SceneMesh::Node &node = mesh_.nodes[size_t(i)];
        if (node.point >= 0) continue;
        node.point = int(scene_->points.size());
        scene_->points.push_back(
            triangles_->Node(i + 1).Transformed(location_.Transformation()).XYZ());
    }
}

// Nothing is known of the surface's curvature: a round face is as wide as four radii, corner to
// corner.
void MeshBuilder::find_slack() {
    gp_XYZ low = position(0), high = low;
    for (size_t i = 1; i < mesh_.nodes.size(); i++)
        for (int c = 1; c <= 3; c++) {
            double value = position(int(i)).Coord(c);
            low.SetCoord(c, std::min(low.Coord(c), value));
            high.SetCoord(c, std::max(high.Coord(c), value));
        }
    slack_ = round_slack(0.25 * (high - low).Modulus(), tolerance_);
}

void MeshBuilder::add_triangle(int number) {
    int at[3];
    triangles_->Triangle(number).Get(at[0], at[1], at[2]);
    if (mesh_.shape.Orientation() == TopAbs_REVERSED) std::swap(at[1], at[2]);
    gp_XYZ normal(0, 0, 0);
    for (int &node : at) normal += mesh_.nodes[size_t(--node)].normal;
    const gp_XYZ &a = position(at[0]), &b = position(at[1]), &c = position(at[2]);
    for (int i = 0; i < 3; i++)
        if (mesh_.nodes[size_t(at[i])].point == mesh_.nodes[size_t(at[(i + 1) % 3])].point) return;
    gp_XYZ across = (b - a).Crossed(c - a);
    double area = across.Modulus();
    if (area > 0) {
        SceneFacet facet = {};
        facet.normal = across / area;
        facet.offset = facet.normal.Dot(a);
        facet.face = mesh_.face;
        facet.near_slack = slack_;
        facet.first = int(scene_->segments.size());
        facet.count = 3;
        scene_->facets.push_back(facet);
        scene_->segments.insert(scene_->segments.end(), {{a, b}, {b, c}, {c, a}});
        if (normal.SquareModulus() == 0) normal = facet.normal;
    }
    for (int i = 0; i < 3; i++) {
        int from = at[i], to = at[(i + 1) % 3];
        sides_.push_back(make_side(mesh_.nodes[size_t(from)].point, mesh_.nodes[size_t(to)].point,
                                   int(mesh_.normals.size()), from, to));
    }
    mesh_.normals.push_back(normal);
}

// Sides that lie on an edge tell what is beside it; others are shared by two triangles.
void MeshBuilder::pair_sides() {
    std::stable_sort(chords_.begin(), chords_.end());
    std::stable_sort(sides_.begin(), sides_.end());
    auto chord = chords_.begin();
    for (auto side = sides_.begin(); side != sides_.end();) {
        auto next = side;
        while (next != sides_.end() && !(*side < *next)) ++next;
        while (chord != chords_.end() && *chord < *side) ++chord;
        if (chord != chords_.end() && !(*side < *chord)) {
            for (; side != next && chord != chords_.end() && !(*side < *chord); ++side, ++chord) {
                int first = scene_->edges[size_t(chord->owner)].border[chord->to];
                scene_->borders[size_t(first + chord->from)].beside =
                    mesh_.normals[size_t(side->owner)];
            }
        } else if (next - side == 2) {
            mesh_.creases.push_back({{side->from, side->to}, {side->owner, side[1].owner}});
        }
        side = next;
    }
}

void MeshBuilder::build() {
    if (triangles_.IsNull() || !triangles_->HasUVNodes()) return;
    double side = mesh_.shape.Orientation() == TopAbs_REVERSED ? -1 : 1;
    for (int i = 1; i <= triangles_->NbNodes(); i++) {
        gp_XY place = triangles_->UVNode(i).XY();
        mesh_.nodes.push_back({-1, place, surface_normal(surface_, place) * side});
    }
    for (TopExp_Explorer at(mesh_.shape, TopAbs_EDGE); at.More(); at.Next())
        if (is_border(at.Current())) take_border_nodes(TopoDS::Edge(at.Current()));
    take_inner_nodes();
    find_slack();
    for (int i = 1; i <= triangles_->NbTriangles(); i++) add_triangle(i);
    pair_sides();
    scene_->meshes.push_back(std::move(mesh_));
}

} // namespace

void mesh_faces(const std::vector<TopoDS_Face> &faces, double tolerance) {
    if (faces.empty()) return;
    TopoDS_Compound all;
    BRep_Builder builder;
    builder.MakeCompound(all);
    for (const TopoDS_Face &face : faces) builder.Add(all, face);
    mesh_shape(all, tolerance, MESH_TURN, INNER_DEFLECTION * tolerance);
}

std::vector<double> meshed_params(const TopoDS_Edge &edge, const TopoDS_Face &face) {
    std::vector<double> params;
    TopLoc_Location location;
    Handle(Poly_Triangulation) triangles = BRep_Tool::Triangulation(face, location);
    if (triangles.IsNull()) return params;
    Handle(Poly_PolygonOnTriangulation) line =
        BRep_Tool::PolygonOnTriangulation(edge, triangles, location);
    if (line.IsNull() || !line->HasParameters()) return params;
    for (int i = 1; i <= line->NbNodes(); i++) params.push_back(line->Parameter(i));
    return params;
}

void add_mesh(Scene *scene, SceneShapes *shapes, int face, double tolerance) {
    MeshBuilder(scene, shapes, face, tolerance).build();
}

} // namespace cad
