// Measures of shapes that building, checking and scoring share.
#ifndef CADVLM_CAD_SOLID_SHAPE_MEASURE_HPP
#define CADVLM_CAD_SOLID_SHAPE_MEASURE_HPP

#include <TopoDS_Shape.hxx>

namespace cad {

// Negative volume for a solid that is inside out.
struct Contents {
    double volume, area, curved_area; // the last of all faces that are not plane
};
Contents shape_contents(const TopoDS_Shape &shape);
double shape_volume(const TopoDS_Shape &shape);

// The one solid of a shape, or a compound of its solids; null when it has none.
TopoDS_Shape only_solids(const TopoDS_Shape &shape);

// The shape with faces and edges joined that lie on one surface or curve; as it was where there is
// nothing to join, or where joining would change its volume.
TopoDS_Shape unified(const TopoDS_Shape &shape, double volume);

// Whether every edge bounds two faces (or one twice: a seam); else how many the first bad one has.
bool is_manifold(const TopoDS_Shape &shape, int *bad_faces);

// The exact box; false for an empty shape.
bool shape_box(const TopoDS_Shape &shape, double low[3], double high[3]);

} // namespace cad

#endif
