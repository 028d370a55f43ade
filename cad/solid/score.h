/* How near a solid comes to its reference. */
#ifndef CADVLM_CAD_SOLID_SCORE_H
#define CADVLM_CAD_SOLID_SCORE_H

#include "cad/solid/solid.h"

/* Fills all but reference_status; what cannot be computed stays NaN. `points` a surface are
 * sampled, always the same for the same solid. `sound`: both passed every check; booleans of broken
 * solids can hang and are not tried. Protocol: docs/cad.md. */
void score_solids(CadScore *score, const Solid *solid, const Solid *reference, int points,
                  bool sound);

#endif
