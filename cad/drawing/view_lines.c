/* Views and their lines in memory. */
#include <stdlib.h>

#include "cad/drawing/hidden_lines.h"

void view_axes(DrawView view, Vec3 *to_viewer, Vec3 *x_axis) {
    static const Vec3 toward[VIEW_COUNT] = {[VIEW_FRONT] = {0, -1, 0},
                                            [VIEW_TOP] = {0, 0, 1},
                                            [VIEW_RIGHT] = {1, 0, 0},
                                            [VIEW_ISO] = {1, -1, 1}};
    static const Vec3 right[VIEW_COUNT] = {[VIEW_FRONT] = {1, 0, 0},
                                           [VIEW_TOP] = {1, 0, 0},
                                           [VIEW_RIGHT] = {0, 1, 0},
                                           [VIEW_ISO] = {1, 1, 0}};
    *to_viewer = toward[view];
    *x_axis = right[view];
}

void view_lines_free(ViewLines *lines) {
    free(lines->strokes);
    free(lines->points);
    free(lines->marks);
    *lines = (ViewLines){0};
}
