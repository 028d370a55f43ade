// The common and the united volume of two meshes, by columns along z.
#ifndef CADVLM_CAD_SOLID_COLUMNS_HPP
#define CADVLM_CAD_SOLID_COLUMNS_HPP

#include <vector>

#include "cad/solid/mesh.hpp"

namespace cad {

// Intersection over union of the insides of two closed meshes: exact along each column, sampled by
// COLUMNS × COLUMNS columns across. NaN when both are empty.
double iou_by_columns(const std::vector<Triangle> &a, const std::vector<Triangle> &b);

// The volume that both have in common over a rectangle in x and y.
double common_by_columns(const std::vector<Triangle> &a, const std::vector<Triangle> &b,
                         const double low[2], const double high[2]);

} // namespace cad

#endif
