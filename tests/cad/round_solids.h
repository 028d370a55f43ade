/* Solids with round faces of every kind, and the kernel's own answer to which lines of a solid are
 * seen, for the tests of drawings. */
#ifndef CADVLM_TESTS_CAD_ROUND_SOLIDS_H
#define CADVLM_TESTS_CAD_ROUND_SOLIDS_H

#include "cad/drawing/hidden_lines.h"

int round_solid_count(void);
const char *round_solid_name(int index);

/* Made anew by the kernel. */
Solid *round_solid_new(int index);

/* The same turned about an axis through the origin, by radians. */
Solid *solid_turned(const Solid *solid, Vec3 axis, double angle);

/* The lines of the kernel's exact algorithm; false when it failed. */
bool kernel_lines(ViewLines lines[VIEW_COUNT], const Solid *solid, const LineOptions *options);

/* The corners of the triangles of a mesh, three a triangle; the caller frees. Returns how many. */
int solid_mesh(Vec3 **corners, const Solid *solid, double deflection);

#endif
