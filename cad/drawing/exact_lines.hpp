// The kernel's exact hidden-line algorithm, in a process of its own that can be stopped.
#ifndef CADVLM_CAD_DRAWING_EXACT_LINES_HPP
#define CADVLM_CAD_DRAWING_EXACT_LINES_HPP

#include "cad/drawing/strokes.hpp"

namespace cad {

// Replaces the strokes of every view in `options` by those of HLRBRep_Algo. False, and everything
// as it was, when that failed or took longer than options.exact_seconds for all views.
bool exact_lines(ViewLines lines[VIEW_COUNT], const TopoDS_Shape &shape,
                 const LineOptions &options);

} // namespace cad

#endif
