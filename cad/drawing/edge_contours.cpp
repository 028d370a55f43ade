// Contours along smooth edges, and where contours cross edges.
#include "cad/drawing/edge_contours.hpp"

#include <algorithm>
#include <cmath>

namespace cad {
namespace {

constexpr double EDGE_ON = 1e-6; // cosine below which a facet is not seen
constexpr int SLIDE_MAX = 16;    // points between where a contour ends and where it should

// Whether a face is seen beside a chord of its edge.
bool seen_beside(const Scene &scene, const SceneEdge &edge, int side, int chord,
                 const gp_XYZ &toward) {
    return edge.border[side] >= 0 &&
           seen(scene.borders[size_t(edge.border[side] + chord)].beside, toward);
}

bool is_contour(const Scene &scene, const SceneEdge &edge, int chord, const gp_XYZ &toward) {
    return seen_beside(scene, edge, 0, chord, toward) != seen_beside(scene, edge, 1, chord, toward);
}

} // namespace

bool seen(const gp_XYZ &normal, const gp_XYZ &toward) {
    return normal.Dot(toward) > EDGE_ON;
}

int turn_at(const Scene &scene, const SceneEdge &edge, int side, int number, const gp_XYZ &toward) {
    return int(seen_beside(scene, edge, side, number, toward)) -
           int(seen_beside(scene, edge, side, number - 1, toward));
}

// Both faces of a smooth edge have the same normal, but one may have a pole there.
double cosine_at(const Scene &scene, const SceneEdge &edge, int side, int number,
                 const gp_XYZ &toward) {
    gp_XYZ normal = scene.borders[size_t(edge.border[side] + number)].normal;
    if (normal.SquareModulus() == 0 && edge.smooth && edge.border[1 - side] >= 0)
        normal = scene.borders[size_t(edge.border[1 - side] + number)].normal;
    return normal.Dot(toward);
}

double crossing(const Scene &scene, const SceneEdge &edge, int face, int number,
                const gp_XYZ &toward) {
    if (number == 0 || number == edge.count - 1) return number;
    int side = edge.smooth && edge.border[0] >= 0 ? 0 : edge.face[0] == face ? 0 : 1;
    if (edge.border[side] < 0) return number;
    int turn = turn_at(scene, edge, side, number, toward);
    if (turn == 0 && edge.smooth) turn = turn_at(scene, edge, 1 - side, number, toward);
    auto cosine = [&](int i) { return turn * cosine_at(scene, edge, side, i, toward); };
    if (turn == 0 || std::fabs(cosine(number)) <= EDGE_ON) return number;
    // It lies ahead where the cosine has not yet turned.
    int way = cosine(number) < 0 ? 1 : -1;
    for (int i = number; std::abs(i - number) < SLIDE_MAX; i += way) {
        int next = i + way;
        if (next < 0 || next >= edge.count) break;
        double a = cosine(i), b = cosine(next);
        if ((a < 0) != (b < 0)) return i + way * (a / (a - b));
    }
    return number;
}

gp_XYZ point_of_edge(const Scene &scene, const SceneEdge &edge, double number) {
    int before = std::min(int(number), edge.count - 2);
    double share = number - before;
    const gp_XYZ *points = &scene.points[size_t(edge.first + before)];
    return points[0] * (1 - share) + points[1] * share;
}

std::vector<Contour> edge_contours(const Scene &scene, const SceneEdge &edge,
                                   const gp_XYZ &toward) {
    std::vector<Contour> contours;
    if (edge.border[0] < 0 && edge.border[1] < 0) return contours;
    for (int from = 0, to; from + 1 < edge.count; from = to) {
        to = from + 1;
        if (!is_contour(scene, edge, from, toward)) continue;
        while (to + 1 < edge.count && is_contour(scene, edge, to, toward)) to++;
        double begin = crossing(scene, edge, edge.face[1], from, toward);
        double end = crossing(scene, edge, edge.face[1], to, toward);
        if (begin >= end) continue;
        Contour contour = {{}, edge.face[0]};
        contour.points.push_back(point_of_edge(scene, edge, begin));
        for (int i = int(begin) + 1; i < end; i++)
            contour.points.push_back(scene.points[size_t(edge.first + i)]);
        contour.points.push_back(point_of_edge(scene, edge, end));
        contours.push_back(contour);
    }
    return contours;
}

} // namespace cad
