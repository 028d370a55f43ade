/* Designs of the Fusion 360 Gallery: JSON of nearly DeepCAD's form, which was derived from it. */
#ifndef CADVLM_DATA_IMPORT_FUSION360_H
#define CADVLM_DATA_IMPORT_FUSION360_H

#include "core/json.h"

/* The key that a Fusion 360 design has and a DeepCAD design has not; NULL where there is none. Read
 * as DeepCAD's, such a file would be wrong without a sign of it: its lengths are centimetres, not
 * metres, and its symmetric extents may be the whole. */
const char *fusion360_sign(const Json *root);

#endif
