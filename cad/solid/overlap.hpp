// Bodies of one part that overlap.
#ifndef CADVLM_CAD_SOLID_OVERLAP_HPP
#define CADVLM_CAD_SOLID_OVERLAP_HPP

#include "cad/solid/shape.hpp"

namespace cad {

// Volumes and booleans take it that bodies keep clear of one another. Those that overlap become
// one, and the note says which they were. False where the kernel cannot join them; the note says
// that too.
bool join_overlapping(TopoDS_Shape *shape, SolidNote *note);

} // namespace cad

#endif
