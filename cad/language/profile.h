/* How the loops of a profile lie to one another. */
#ifndef CADVLM_CAD_LANGUAGE_PROFILE_H
#define CADVLM_CAD_LANGUAGE_PROFILE_H

#include "cad/language/program.h"

/* True for the commonest profiles (a circle or a convex polygon, with round holes that keep clear
 * of it and of one another), which then need no check by the geometry kernel. False says nothing.
 */
bool profile_is_plain(const Extrude *extrude);

/* The area of the largest loop without the others. */
double profile_area(const Extrude *extrude);

/* A place where two loops meet, or one meets itself other than from curve to next curve. */
typedef struct Contact {
    int loops[2]; /* the same twice: itself */
    Vec2 at;
    bool crosses; /* from side to side; else they touch, in a corner or along a tangent */
} Contact;

/* Finds such a place, a crossing before any other; false where there is none. */
bool profile_contact(const Extrude *extrude, Contact *out);

#endif
