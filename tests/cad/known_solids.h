/* Solids with other faces than planes and cylinders, whose volumes and areas are known by formula.
 */
#ifndef CADVLM_TESTS_CAD_KNOWN_SOLIDS_H
#define CADVLM_TESTS_CAD_KNOWN_SOLIDS_H

#include "cad/solid/solid.h"

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

/* What else than one solid a file may hold; of boxes 10 × 20 × 30 unless said. */
typedef enum Bodies {
    CLOSED_SHELL,
    INVERTED_SHELL,
    OPEN_SHELL,
    LOOSE_FACES,     /* with edges of their own */
    SOLID_AND_SHELL, /* and an open shell beside it */
    TWO_APART,
    TWO_TOUCHING,
    TWO_OVERLAPPING, /* by 5 in x */
    TWO_EQUAL,
    ONE_IN_ANOTHER, /* 5 × 5 × 5 inside 30 × 30 × 30 */
    PIN_IN_HOLE,    /* of radius 4, through a plate 20 × 20 × 10 and out by 5 on both sides */
    PIN_PRESSED_IN, /* its radius is 4.01 */
    SPHERES_OVERLAPPING, /* of radius 7, 5 apart */
    BODIES_COUNT
} Bodies;

Solid *bodies_new(Bodies bodies);

/* A sphere of radius 5 less boxes 2 × 2 from x = 3 outwards, and on the other side if there are
 * two; turned about a slanted axis. */
Solid *pocketed_sphere_new(int pockets, Vec3 axis, double turn);

#endif
