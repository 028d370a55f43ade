/* Solids with other faces than planes and cylinders, whose volumes and areas are known by formula.
 */
#ifndef CADVLM_TESTS_KNOWN_SOLIDS_H
#define CADVLM_TESTS_KNOWN_SOLIDS_H

#include "cad/solid.h"

/* As it is made; mirrored; or turned about a slanted axis and carried far from the origin. */
typedef enum Place { AT_HOME, MIRRORED, FAR_AWAY, PLACE_COUNT } Place;

const char *place_name(Place place);

typedef struct KnownSolid {
    const char *name;
    double volume, area; /* NaN: no formula */
} KnownSolid;

int known_solid_count(void);
KnownSolid known_solid(int index);

/* Made anew by the geometry kernel; NULL when it cannot. */
Solid *known_solid_new(int index, Place place);

/* The same by name, moved along x. */
Solid *named_solid_new(const char *name, double move);

#endif
