// How near a solid comes to its reference: distances between points on both surfaces, and the
// volume that both share.
#include "cad/solid/shape.hpp"

#include <BRepAlgoAPI_Common.hxx>
#include <BRepBuilderAPI_Transform.hxx>
#include <TopTools_ListOfShape.hxx>
#include <algorithm>
#include <gp_Trsf.hxx>
#include <limits>
#include <nanoflann.hpp>
#include <vector>

#include "cad/solid/columns.hpp"
#include "cad/solid/mesh.hpp"
#include "cad/solid/shape_measure.hpp"
#define _Noreturn [[noreturn]]
extern "C" {
#include "cad/solid/score.h"
#include "core/rng.h"
}
#undef _Noreturn

namespace {

constexpr double MESH_DEFLECTION = 1e-3; // of the box diagonal
constexpr double MESH_ANGLE = 0.3;
constexpr uint64_t POINTS_SEED = 20210520; // any; fixed, so that scores can be repeated
constexpr double FSCORE_REACH = 0.02;      // of the reference's largest extent
constexpr double LAW_SLACK = 1e-4;         // of both volumes
constexpr double MOVE = 1e-5;              // of the reference's extent: a second try at a boolean
constexpr double DOUBT = 0.2;              // IoU by boolean and by columns may differ by so much
constexpr double SAME_BOX = 1e-9;
constexpr double NONE = std::numeric_limits<double>::quiet_NaN();

struct Box {
    double low[3], high[3];

    double extent() const {
        return std::max({high[0] - low[0], high[1] - low[1], high[2] - low[2]});
    }
    gp_XYZ center() const {
        return gp_XYZ(low[0] + high[0], low[1] + high[1], low[2] + high[2]) * 0.5;
    }
};

// One of the two, with what is needed of it.
struct Side {
    TopoDS_Shape shape;
    double volume;
    Box box;
    std::vector<cad::Triangle> triangles;
    std::vector<double> points; // x, y, z, …
};

// Points on the surface, uniform by area.
std::vector<double> sample(const std::vector<cad::Triangle> &triangles, int count,
                           uint64_t stream) {
    std::vector<double> up_to; // areas of the triangles so far
    double area = 0;
    for (const cad::Triangle &t : triangles) {
        area += 0.5 * (t.corner[1] - t.corner[0]).CrossMagnitude(t.corner[2] - t.corner[0]);
        up_to.push_back(area);
    }
    std::vector<double> points;
    if (triangles.empty()) return points;
    Rng rng;
    rng_open(&rng, POINTS_SEED, RNG_POINTS, stream);
    for (int i = 0; i < count; i++) {
        double at = rng_uniform(&rng) * area, u = rng_uniform(&rng), v = rng_uniform(&rng);
        size_t which = size_t(std::upper_bound(up_to.begin(), up_to.end(), at) - up_to.begin());
        const cad::Triangle &t = triangles[std::min(which, triangles.size() - 1)];
        if (u + v > 1) u = 1 - u, v = 1 - v; // the other half of the parallelogram
        gp_XYZ p = t.corner[0] + (t.corner[1] - t.corner[0]) * u + (t.corner[2] - t.corner[0]) * v;
        for (int k = 1; k <= 3; k++) points.push_back(p.Coord(k));
    }
    return points;
}

bool look_at(const Solid *solid, int points, uint64_t stream, Side *out) {
    out->shape = solid->shape;
    if (!cad::shape_box(solid->shape, out->box.low, out->box.high)) return false;
    out->volume = cad::shape_volume(solid->shape);
    gp_XYZ diagonal(out->box.high[0] - out->box.low[0], out->box.high[1] - out->box.low[1],
                    out->box.high[2] - out->box.low[2]);
    cad::mesh_shape(solid->shape, MESH_DEFLECTION * diagonal.Modulus(), MESH_ANGLE);
    out->triangles = cad::shape_triangles(solid->shape);
    out->points = sample(out->triangles, points, stream);
    return !out->points.empty() && out->box.extent() > 0;
}

// ---- distances ----

struct Cloud {
    const std::vector<double> &points;

    size_t kdtree_get_point_count() const { return points.size() / 3; }
    double kdtree_get_pt(size_t i, size_t k) const { return points[3 * i + k]; }
    template <class B> bool kdtree_get_bbox(B &) const { return false; }
};
using Tree =
    nanoflann::KDTreeSingleIndexAdaptor<nanoflann::L2_Simple_Adaptor<double, Cloud>, Cloud, 3>;

// Squared distances from each point of `from` to the nearest of `to`, sorted.
std::vector<double> nearest(const std::vector<double> &from, const std::vector<double> &to) {
    Cloud cloud = {to};
    Tree tree(3, cloud, nanoflann::KDTreeSingleIndexAdaptorParams(16));
    tree.buildIndex();
    std::vector<double> out;
    for (size_t i = 0; i < from.size(); i += 3) {
        uint32_t index;
        double squared;
        tree.knnSearch(&from[i], 1, &index, &squared);
        out.push_back(squared);
    }
    std::sort(out.begin(), out.end());
    return out;
}

double mean(const std::vector<double> &values) {
    double sum = 0;
    for (double value : values) sum += value;
    return sum / double(values.size());
}

double share_below(const std::vector<double> &sorted, double limit) {
    return double(std::upper_bound(sorted.begin(), sorted.end(), limit) - sorted.begin()) /
           double(sorted.size());
}

double at_share(const std::vector<double> &sorted, double share) {
    return sorted[std::min(sorted.size() - 1, size_t(share * double(sorted.size())))];
}

void score_distances(CadScore *score, const Side &side, const Side &reference) {
    double scale = 1 / reference.box.extent(), squared = scale * scale;
    std::vector<double> there = nearest(side.points, reference.points);
    std::vector<double> back = nearest(reference.points, side.points);
    for (std::vector<double> *distances : {&there, &back})
        for (double &d : *distances) d *= squared;
    score->chamfer = mean(there) + mean(back);
    score->hausdorff = std::sqrt(std::max(there.back(), back.back()));
    score->hd95 = std::sqrt(std::max(at_share(there, 0.95), at_share(back, 0.95)));
    double precision = share_below(there, FSCORE_REACH * FSCORE_REACH);
    double recall = share_below(back, FSCORE_REACH * FSCORE_REACH);
    score->fscore = precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0;
}

void score_dimensions(CadScore *score, const Side &side, const Side &reference) {
    double sum = 0;
    for (int k = 0; k < 3; k++) {
        double expected = reference.box.high[k] - reference.box.low[k];
        double found = side.box.high[k] - side.box.low[k];
        sum += expected > 0 ? std::fabs(found - expected) / expected : 0;
    }
    score->dims_rel_error = sum / 3;
}

// ---- volumes ----

// By the boolean of the kernel; NaN where the result cannot be.
double iou_by_boolean(const TopoDS_Shape &a, double volume_a, const TopoDS_Shape &b,
                      double volume_b) {
    BRepAlgoAPI_Common common;
    TopTools_ListOfShape first, second;
    first.Append(a);
    second.Append(b);
    common.SetArguments(first);
    common.SetTools(second);
    common.SetRunParallel(Standard_False);
    common.SetNonDestructive(Standard_True);
    common.SetCheckInverted(Standard_False);
    common.SetToFillHistory(Standard_False);
    common.Build();
    if (common.HasErrors() || common.Shape().IsNull()) return NONE;
    double volume = cad::shape_volume(common.Shape());
    double slack = LAW_SLACK * (volume_a + volume_b);
    if (!(volume >= -slack && volume <= std::min(volume_a, volume_b) + slack)) return NONE;
    volume = std::clamp(volume, 0.0, std::min(volume_a, volume_b));
    return volume / (volume_a + volume_b - volume);
}

TopoDS_Shape transformed(const TopoDS_Shape &shape, const gp_Trsf &transform) {
    return BRepBuilderAPI_Transform(shape, transform, Standard_True).Shape();
}

// Booleans are tried twice, the second time with one body moved by a hair, and believed when the
// columns say roughly the same.
double iou(const TopoDS_Shape &shape, double volume, const std::vector<cad::Triangle> &triangles,
           const Side &reference, bool sound, bool *exact) {
    double columns = cad::iou_by_columns(triangles, reference.triangles);
    *exact = true;
    for (double move : {0.0, MOVE}) {
        if (!sound) break;
        SolidNote ignored;
        double found = cad::guarded("intersecting", NONE, &ignored, [&] {
            gp_Trsf hair;
            hair.SetTranslation(gp_Vec(1.1, 0.9, 1.3) * (move * reference.box.extent()));
            return iou_by_boolean(move > 0 ? transformed(shape, hair) : shape, volume,
                                  reference.shape, reference.volume);
        });
        if (std::fabs(found - columns) <= DOUBT) return found;
    }
    *exact = false;
    return columns;
}

// With both boxes centred on one another and scaled to one extent.
double aligned_iou(const Side &side, const Side &reference, bool sound) {
    double scale = reference.box.extent() / side.box.extent();
    gp_XYZ from = side.box.center(), to = reference.box.center();
    gp_Trsf transform;
    transform.SetScale(gp_Pnt(from), scale);
    gp_Trsf move;
    move.SetTranslation(gp_Vec(to - from));
    transform = move * transform;
    std::vector<cad::Triangle> triangles = side.triangles;
    for (cad::Triangle &triangle : triangles)
        for (gp_XYZ &corner : triangle.corner) transform.Transforms(corner);
    bool exact;
    return iou(transformed(side.shape, transform), side.volume * scale * scale * scale, triangles,
               reference, sound, &exact);
}

bool boxes_match(const Side &side, const Side &reference) {
    double slack = SAME_BOX * reference.box.extent();
    gp_XYZ off = side.box.center() - reference.box.center();
    return std::fabs(side.box.extent() - reference.box.extent()) <= slack && off.Modulus() <= slack;
}

} // namespace

void score_solids(CadScore *score, const Solid *solid, const Solid *reference, int points,
                  bool sound) {
    SolidNote ignored;
    cad::guarded("scoring", false, &ignored, [&] {
        Side a, b;
        if (!look_at(solid, points, 0, &a) || !look_at(reference, points, 1, &b)) return false;
        score_dimensions(score, a, b);
        score_distances(score, a, b);
        score->iou = iou(a.shape, a.volume, a.triangles, b, sound, &score->iou_exact);
        score->iou_aligned = boxes_match(a, b) ? score->iou : aligned_iou(a, b, sound);
        return true;
    });
}
