/* Solids of the geometry kernel, behind plain C.
 *
 * Only the worker program links what stands behind this header: OpenCASCADE crashes and hangs, and
 * does so in a process of its own. Every function catches what the kernel throws. */
#ifndef CADVLM_CAD_SOLID_SOLID_H
#define CADVLM_CAD_SOLID_SOLID_H

#include "cad/language/program.h"
#include "cad/worker/worker.h"

typedef struct Solid Solid;

/* A sentence about what went wrong; "" when all is well. */
typedef struct SolidNote {
    char text[256];
} SolidNote;

/* What is known of a solid once it was looked at. */
typedef struct SolidFacts {
    double volume, area;
    Vec3 box_min, box_max; /* exact, not that of a mesh */
    int solids, faces;
    bool jittered;
} SolidFacts;

/* Builds the solid of a program that program_validate accepted. CAD_OK, CAD_EXEC_FAIL,
 * CAD_EMPTY_SOLID, or CAD_INVALID_SOLID when a boolean broke the volume law twice; without CAD_OK
 * there is no solid and `note` says why. */
CadStatus solid_build(Solid **solid, const CadProgram *program, SolidNote *note);

/* Reads the solids of a STEP file's bytes, in millimetres; `name` is what sentences call it. */
CadStatus solid_read_step(Solid **solid, const char *name, const Buf *file, SolidNote *note);

void solid_free(Solid **solid);

/* Measures and checks: CAD_OK, CAD_EMPTY_SOLID, CAD_INVALID_SOLID or CAD_NON_MANIFOLD. Facts are
 * filled as far as they could be measured. */
CadStatus solid_check(const Solid *solid, SolidFacts *facts, SolidNote *note);

/* The bytes of a file, appended. A STEP file's header names neither machine nor path nor time, so
 * the same solid gives the same bytes. */
Err solid_to_step(Buf *out, const Solid *solid);
Err solid_to_stl(Buf *out, const Solid *solid); /* binary */

/* Silences the kernel's own messages; once per process. */
void solid_quiet(void);

/* "7.6.3" */
const char *solid_kernel_version(void);

#endif
