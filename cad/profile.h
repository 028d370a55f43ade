/* Profiles whose loops certainly do not cross. */
#ifndef CADVLM_CAD_PROFILE_H
#define CADVLM_CAD_PROFILE_H

#include "cad/program.h"

/* True for the commonest profiles (a circle or a convex polygon, with round holes that keep clear
 * of it and of one another), which then need no check by the geometry kernel. False says nothing.
 */
bool profile_is_plain(const Extrude *extrude);

#endif
