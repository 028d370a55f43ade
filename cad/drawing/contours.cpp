// Contours of triangulated faces.
//
// A facet is seen or it is not, and a contour is every side of the triangles, and every chord of a
// smooth edge, between one that is and one that is not. Such sides form closed lines whatever the
// surfaces are, however they meet and however their numbers are rounded, so outlines have no gaps.
// They zigzag by as much as the triangles are large; so each node of them is then moved along its
// surface, or its edge, to where the normal is at right angles to the view.
#include "cad/drawing/contours.hpp"

#include <BRepAdaptor_Surface.hxx>
#include <BRep_Tool.hxx>
#include <Precision.hxx>
#include <ShapeAnalysis_Surface.hxx>
#include <algorithm>
#include <cmath>

#include "cad/drawing/edge_contours.hpp"
#include "cad/drawing/scene_mesh.hpp"

namespace cad {
namespace {

constexpr double FLAT = 1e-4; // cosine that an edge must change by where a contour crosses it
constexpr double LINK = 3;    // chords: how far apart loose ends may be
constexpr double FOLD = 0.01; // cosine beyond which a corner is on the other side
constexpr int NEWTON_STEPS = 6;
constexpr double AT_RIGHT_ANGLES = 1e-9; // cosine
constexpr double SAG = 0.5;      // of the tolerance: chords that miss the contour by less may stay
constexpr int DEPTH = 3;         // at most 7 points between two nodes
constexpr double SAME_WAY = 0.8; // cosine between normals of neighbours

const SceneEdge &edge_of_point(const Scene &scene, int point) {
    auto after = std::upper_bound(scene.edges.begin(), scene.edges.end(), point,
                                  [](int p, const SceneEdge &edge) { return p < edge.first; });
    return *std::prev(after);
}

class ContourFinder {
  public:
    ContourFinder(const Scene &scene, const SceneMesh &mesh, const gp_XYZ &toward)
        : scene_(scene), mesh_(mesh), toward_(toward), surface_(mesh.shape, Standard_False) {
        find_limits();
    }
    std::vector<Contour> find();

  private:
    // A crease of the contour as it is met at one of its ends.
    struct End {
        int point;
        int side;
        int node, far_node;
    };
    // A node of the contour where it truly lies: in space, and by how much it was moved in the
    // surface's parameters.
    struct Stop {
        gp_XYZ at;
        gp_XY by;
        bool left_out;
    };

    void find_limits();
    bool is_fold(const SceneMesh::Crease &crease, bool front) const;
    bool is_met(const SceneEdge &edge, int side, double number) const;
    void find_loose_ends();
    void join_loose_ends(std::vector<Contour> *contours);
    void collect();
    std::vector<End> follow(size_t end);
    Contour smooth(const std::vector<End> &line) const;
    bool inside(const gp_XY &place) const;
    bool find_contour(gp_XY *place, gp_XYZ *at, double reach) const;
    Stop stop_at(int node, bool end, double reach) const;
    gp_XY place_near(const gp_XYZ &point, gp_XY guess) const;
    void add_between(const gp_XYZ &from, gp_XY from_place, const gp_XYZ &to, gp_XY to_place,
                     int depth, Contour *contour) const;
    const gp_XYZ &position(int node) const {
        return scene_.points[size_t(mesh_.nodes[size_t(node)].point)];
    }

    const Scene &scene_;
    const SceneMesh &mesh_;
    gp_XYZ toward_;
    BRepAdaptor_Surface surface_;
    gp_XY low_, high_;      // of the face, in the surface's parameters
    gp_XY turn_;            // once around a closed surface; 0: it is not closed
    std::vector<End> ends_; // by point
    std::vector<bool> used_;
    struct LooseEnd {
        gp_XYZ at;
        double reach;
    };
    std::vector<LooseEnd> loose_;
    int edge_points_ = 0;
};

void ContourFinder::find_limits() {
    low_ = gp_XY(1e300, 1e300);
    high_ = gp_XY(-1e300, -1e300);
    for (const SceneMesh::Node &node : mesh_.nodes)
        for (int i = 1; i <= 2; i++) {
            low_.SetCoord(i, std::min(low_.Coord(i), node.place.Coord(i)));
            high_.SetCoord(i, std::max(high_.Coord(i), node.place.Coord(i)));
        }
    for (int i = 1; i <= 2; i++) {
        bool periodic = i == 1 ? surface_.IsUPeriodic() : surface_.IsVPeriodic();
        bool closed = i == 1 ? surface_.IsUClosed() : surface_.IsVClosed();
        double turn = i == 1 ? surface_.LastUParameter() - surface_.FirstUParameter()
                             : surface_.LastVParameter() - surface_.FirstVParameter();
        turn_.SetCoord(i, closed ? turn : 0);
        // A face that goes all around has no end there.
        if (!periodic || high_.Coord(i) - low_.Coord(i) < turn * (1 - 1e-6)) continue;
        low_.SetCoord(i, -1e300);
        high_.SetCoord(i, 1e300);
    }
}

// Whether the surface turns away and back between two triangles that are both seen, or the other
// way round: then the normals at the crease are on the other side than theirs.
bool ContourFinder::is_fold(const SceneMesh::Crease &crease, bool front) const {
    for (int node : crease.node) {
        double cosine = mesh_.nodes[size_t(node)].normal.Dot(toward_);
        if ((front ? -cosine : cosine) < FOLD) return false;
    }
    return true;
}

void ContourFinder::collect() {
    std::vector<char> front;
    for (const gp_XYZ &normal : mesh_.normals) front.push_back(seen(normal, toward_));
    for (const SceneMesh::Crease &crease : mesh_.creases) {
        bool a_side = front[size_t(crease.triangle[0])], b_side = front[size_t(crease.triangle[1])];
        if (a_side == b_side && !is_fold(crease, a_side)) continue;
        int side = int(used_.size()), a = crease.node[0], b = crease.node[1];
        used_.push_back(false);
        ends_.push_back({mesh_.nodes[size_t(a)].point, side, a, b});
        ends_.push_back({mesh_.nodes[size_t(b)].point, side, b, a});
    }
    std::stable_sort(ends_.begin(), ends_.end(),
                     [](const End &a, const End &b) { return a.point < b.point; });
}

// The creases of a line from one of its ends on, as far as it goes without branching.
std::vector<ContourFinder::End> ContourFinder::follow(size_t end) {
    std::vector<End> line;
    for (const End *at = &ends_[end]; at;) {
        used_[size_t(at->side)] = true;
        line.push_back(*at);
        int point = mesh_.nodes[size_t(at->far_node)].point;
        auto next = std::lower_bound(ends_.begin(), ends_.end(), point,
                                     [](const End &e, int p) { return e.point < p; });
        at = nullptr;
        if (ends_.end() - next >= 2 && next[1].point == point &&
            (ends_.end() - next == 2 || next[2].point != point))
            for (const End *one : {&next[0], &next[1]})
                if (!used_[size_t(one->side)]) at = one;
    }
    return line;
}

// Moves a place of the surface, and its point, to the contour; false when there is none within
// reach. With f = (du × dv) · toward, the nearest place of the tangent plane where f = 0, again and
// again.
bool ContourFinder::find_contour(gp_XY *place, gp_XYZ *at, double reach) const {
    gp_XY here = *place;
    for (int i = 0; i < NEWTON_STEPS; i++) {
        gp_Pnt point;
        gp_Vec du, dv, duu, dvv, duv, view(toward_);
        surface_.D2(here.X(), here.Y(), point, du, dv, duu, dvv, duv);
        gp_Vec normal = du.Crossed(dv);
        double f = normal.Dot(view), size = normal.Magnitude();
        if (size < 1e-12 || (point.XYZ() - *at).Modulus() > reach) return false;
        if (std::fabs(f) <= AT_RIGHT_ANGLES * size) {
            if (!inside(here)) return false;
            *place = here;
            *at = point.XYZ();
            return true;
        }
        double fu = (duu.Crossed(dv) + du.Crossed(duv)).Dot(view);
        double fv = (duv.Crossed(dv) + du.Crossed(dvv)).Dot(view);
        double e = du.Dot(du), m = du.Dot(dv), g = dv.Dot(dv);
        double step_u = g * fu - m * fv, step_v = e * fv - m * fu;
        double slope = step_u * fu + step_v * fv;
        if (!(slope > 0)) return false;
        here -= gp_XY(step_u, step_v) * (f / slope);
    }
    return false;
}

bool ContourFinder::inside(const gp_XY &place) const {
    return place.X() >= low_.X() && place.X() <= high_.X() && place.Y() >= low_.Y() &&
           place.Y() <= high_.Y();
}

// Lines end where the contour crosses an edge. Where they only touch one, and at poles, there may
// be nothing to move the node to: then it is left out.
ContourFinder::Stop ContourFinder::stop_at(int node, bool end, double reach) const {
    const SceneMesh::Node &one = mesh_.nodes[size_t(node)];
    bool on_edge = one.point < edge_points_;
    if (on_edge && end) {
        const SceneEdge &edge = edge_of_point(scene_, one.point);
        int number = one.point - edge.first;
        double exact = crossing(scene_, edge, mesh_.face, number, toward_);
        gp_XYZ at = point_of_edge(scene_, edge, exact);
        return {at, exact == number ? gp_XY(0, 0) : place_near(at, one.place) - one.place, false};
    }
    gp_XY place = one.place;
    gp_XYZ at = position(node);
    bool found = find_contour(&place, &at, reach);
    return {at, place - one.place, on_edge && !found};
}

// The place of a point, in the turn of closed surfaces where `guess` is.
gp_XY ContourFinder::place_near(const gp_XYZ &point, gp_XY guess) const {
    ShapeAnalysis_Surface surface(BRep_Tool::Surface(mesh_.shape));
    gp_XY place = surface.ValueOfUV(point, Precision::Confusion()).XY();
    for (int i = 1; i <= 2; i++) {
        double turn = turn_.Coord(i), off = guess.Coord(i) - place.Coord(i);
        if (turn > 0) place.SetCoord(i, place.Coord(i) + turn * std::round(off / turn));
    }
    return place;
}

// Moved nodes may be farther apart than the triangles are large: points between them, so that
// chords keep to the tolerance as they are seen.
void ContourFinder::add_between(const gp_XYZ &from, gp_XY from_place, const gp_XYZ &to,
                                gp_XY to_place, int depth, Contour *contour) const {
    gp_XY place = (from_place + to_place) * 0.5;
    gp_XYZ middle = (from + to) * 0.5, at = middle;
    if (!find_contour(&place, &at, 0.5 * (to - from).Modulus())) return;
    if ((at - middle).Crossed(toward_).Modulus() <= SAG * scene_.tolerance) return;
    if (depth > 1) add_between(from, from_place, at, place, depth - 1, contour);
    contour->points.push_back(at);
    if (depth > 1) add_between(at, place, to, to_place, depth - 1, contour);
}

Contour ContourFinder::smooth(const std::vector<End> &line) const {
    int count = int(line.size());
    bool closed = line[0].point == mesh_.nodes[size_t(line.back().far_node)].point;
    auto length = [&](int i) {
        if (closed) i = (i + count) % count;
        if (i < 0 || i >= count) return 0.0;
        return (position(line[size_t(i)].far_node) - position(line[size_t(i)].node)).Modulus();
    };
    std::vector<Stop> stops;
    for (int i = 0; i <= count; i++) {
        int node = i ? line[size_t(i - 1)].far_node : line[0].node;
        bool end = !closed && (i == 0 || i == count);
        stops.push_back(stop_at(node, end, std::max(length(i - 1), length(i))));
    }
    if (closed) stops.back() = stops.front();
    Contour contour = {{stops[0].at}, mesh_.face};
    for (int i = 0, next; i < count; i = next) {
        next = i + 1;
        const gp_XYZ &from = stops[size_t(i)].at;
        while (next < count && stops[size_t(next)].left_out) next++;
        const gp_XYZ &to = stops[size_t(next)].at;
        const End &first = line[size_t(i)], &last = line[size_t(next - 1)];
        gp_XY from_place = mesh_.nodes[size_t(first.node)].place + stops[size_t(i)].by;
        gp_XY to_place = mesh_.nodes[size_t(last.far_node)].place + stops[size_t(next)].by;
        if (next == i + 1) {
            add_between(from, from_place, to, to_place, DEPTH, &contour);
        } else if (surface_normal(surface_, from_place).Dot(surface_normal(surface_, to_place)) >
                   SAME_WAY) {
            // Not its middle, where a pole may be.
            for (double share : {0.3, 0.7}) {
                gp_XYZ at = from * (1 - share) + to * share;
                gp_XY place = place_near(at, from_place);
                if (find_contour(&place, &at, 0.5 * (to - from).Modulus()))
                    contour.points.push_back(at);
            }
        } else {
            // A tip, through which the contour goes.
            for (int k = i + 1; k < next; k++) contour.points.push_back(stops[size_t(k)].at);
        }
        contour.points.push_back(to);
    }
    return contour;
}

// Whether a contour of the mesh ends where its surface crosses the view at this place of an edge.
bool ContourFinder::is_met(const SceneEdge &edge, int side, double number) const {
    for (int k = 1; k + 1 < edge.count; k++)
        if (turn_at(scene_, edge, side, k, toward_) != 0 &&
            std::fabs(crossing(scene_, edge, mesh_.face, k, toward_) - number) < 1e-6)
            return true;
    return false;
}

// Contours of neighbours go on in this face where they cross a smooth edge. Where they leave it
// again within a triangle nothing is known of them here: then the two crossings are joined.
void ContourFinder::find_loose_ends() {
    for (const SceneEdge &edge : scene_.edges)
        for (int side = 0; side < 2; side++) {
            if (!edge.smooth || edge.face[side] != mesh_.face || edge.face[1 - side] == mesh_.face)
                continue;
            for (int i = 0; edge.border[side] >= 0 && i + 1 < edge.count; i++) {
                double a = cosine_at(scene_, edge, side, i, toward_);
                double b = cosine_at(scene_, edge, side, i + 1, toward_);
                if ((a > 0) == (b > 0) || std::fabs(a - b) < FLAT) continue;
                double number = i + a / (a - b);
                if (is_met(edge, side, number)) continue;
                double reach = (scene_.points[size_t(edge.first + i + 1)] -
                                scene_.points[size_t(edge.first + i)])
                                   .Modulus();
                loose_.push_back({point_of_edge(scene_, edge, number), reach});
            }
        }
}

void ContourFinder::join_loose_ends(std::vector<Contour> *contours) {
    find_loose_ends();
    for (size_t i = 0; i < loose_.size(); i++) {
        size_t nearest = i;
        double distance = LINK * loose_[i].reach;
        for (size_t j = i + 1; j < loose_.size(); j++) {
            double apart = (loose_[j].at - loose_[i].at).Modulus();
            if (apart > distance) continue;
            distance = apart;
            nearest = j;
        }
        if (nearest == i) continue;
        contours->push_back({{loose_[i].at, loose_[nearest].at}, mesh_.face});
        loose_.erase(loose_.begin() + long(nearest));
    }
}

std::vector<Contour> ContourFinder::find() {
    std::vector<Contour> contours;
    const SceneEdge *last = scene_.edges.empty() ? nullptr : &scene_.edges.back();
    edge_points_ = last ? last->first + last->count : 0;
    collect();
    // First the lines that end or branch somewhere, then what is left: closed ones.
    for (size_t i = 0; i < ends_.size();) {
        size_t next = i;
        while (next < ends_.size() && ends_[next].point == ends_[i].point) next++;
        if (next - i != 2)
            for (size_t k = i; k < next; k++)
                if (!used_[size_t(ends_[k].side)]) contours.push_back(smooth(follow(k)));
        i = next;
    }
    // Points of edges come first: closed lines begin inside where they can.
    for (size_t i = ends_.size(); i-- > 0;)
        if (!used_[size_t(ends_[i].side)]) contours.push_back(smooth(follow(i)));
    join_loose_ends(&contours);
    return contours;
}

} // namespace

std::vector<Contour> mesh_contours(const Scene &scene, const SceneMesh &mesh,
                                   const gp_XYZ &toward) {
    return ContourFinder(scene, mesh, toward).find();
}

} // namespace cad
