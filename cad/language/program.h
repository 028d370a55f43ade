/* A CAD program: a chain of sketch-and-extrude steps, as OpenECAD and DeepCAD describe parts.
 *
 * This is what the parser makes of code, the importers make of files and the generator makes of
 * nothing; the emitter writes it as OpenECAD v2 code and the geometry kernel builds its solid.
 * Lengths are in the code's unit (millimetres in OpenECAD v2), angles in radians, sketches
 * right-handed: y = normal × x. */
#ifndef CADVLM_CAD_LANGUAGE_PROGRAM_H
#define CADVLM_CAD_LANGUAGE_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"

typedef struct Vec2 {
    double x, y;
} Vec2;

typedef struct Vec3 {
    double x, y, z;
} Vec3;

typedef enum CurveKind { CURVE_LINE, CURVE_ARC, CURVE_CIRCLE } CurveKind;

/* A curve of a sketch, in sketch coordinates. */
typedef struct Curve {
    CurveKind kind;
    Vec2 start, end; /* line, arc */
    Vec2 mid;        /* arc: a point on it between start and end */
    Vec2 center;     /* circle */
    double radius;   /* circle */
} Curve;

/* A closed loop: a chain of lines and arcs, each starting where the one before ends, or one circle.
 * loop_assemble (cad/language/loop.h) makes one of curves. */
typedef struct Loop {
    Curve *curves;
    int count;
} Loop;

/* A sketch plane in space; normal and x_axis are unit vectors at right angles. */
typedef struct Plane {
    Vec3 origin, normal, x_axis;
} Plane;

/* How the code states the plane: by itself, or from the plane of an earlier extrude
 * (add_sketchplane_ref). */
typedef enum PlaneRefKind {
    PLANE_ABSOLUTE,
    PLANE_SAME,       /* "sameplane": the sketch plane of that extrude */
    PLANE_EXTENT_ONE, /* its end face at +extent_one · normal */
    PLANE_EXTENT_TWO, /* its end face at -extent_two · normal */
    PLANE_LINE /* the side face swept by one of its lines: x along the line, y = that extrude's
                  normal */
} PlaneRefKind;

typedef struct PlaneRef {
    PlaneRefKind kind;
    int extrude;     /* which earlier extrude */
    int loop, curve; /* PLANE_LINE: which of its lines */
    Vec2 origin;     /* in the referenced frame */
    double angle;    /* turns x about the normal, first */
    bool reverse;    /* then flips the normal; x stays */
} PlaneRef;

typedef enum BooleanOp { OP_NEW_BODY, OP_JOIN, OP_CUT, OP_INTERSECT } BooleanOp;
typedef enum ExtentType {
    EXTENT_ONE_SIDE,  /* extent_one along the normal; negative: against it */
    EXTENT_SYMMETRIC, /* extent_one on both sides: 2 · extent_one in all */
    EXTENT_TWO_SIDES  /* extent_one along, extent_two against the normal */
} ExtentType;

typedef struct Extrude {
    PlaneRef ref;
    Plane plane; /* resolved: always valid, whatever ref.kind */
    Loop *loops; /* the outer loop is the one that encloses the others, wherever it stands */
    int loop_count;
    BooleanOp op;
    ExtentType type;
    double extent_one, extent_two;
} Extrude;

/* Owns all that it points to. An empty program is all zeros. */
typedef struct CadProgram {
    Extrude *extrudes;
    int count;
    int curve_count; /* of all loops together */
} CadProgram;

/* More than this is refused: model output and files are hostile. */
enum {
    PROGRAM_EXTRUDES_MAX = 256,
    PROGRAM_LOOPS_MAX = 512,       /* an extrude */
    PROGRAM_CURVES_MAX = 4096,     /* a loop */
    PROGRAM_CURVES_ALL_MAX = 65536 /* a program */
};

void program_free(CadProgram *program);

/* Growing a program: each returns the new last element, zeroed, inside the program's memory;
 * pointers to elements of the same array are invalid afterwards. NULL beyond the limits above. */
Extrude *program_add_extrude(CadProgram *program);
Loop *extrude_add_loop(CadProgram *program, Extrude *extrude);
Curve *loop_add_curve(CadProgram *program, Loop *loop);

/* A plane from vectors of any length that are roughly at right angles: both become unit vectors,
 * and x loses its part along the normal. Vectors that are so already keep their bits. An ERR_INPUT
 * sentence where one is zero or not finite, or where they are parallel (|n·x| ≥ 0.999). */
Err plane_make(Plane *out, Vec3 origin, Vec3 normal, Vec3 x_axis);

/* The plane that `ref` names, seen from the extrude it refers to; `line` is the line of a
 * PLANE_LINE (NULL for the rest). `ref` must not be PLANE_ABSOLUTE. */
Err plane_from_ref(Plane *out, const PlaneRef *ref, const Extrude *base, const Curve *line);

/* Fills extrude->plane from its ref and the extrudes before it (index: which extrude). An ERR_INPUT
 * sentence where the reference names something that is not there or not a line. */
Err program_resolve_plane(CadProgram *program, int index);

/* The other way: finds how the plane of extrude `index` follows from an earlier extrude, as
 * OpenECAD's converter looks for it, and sets its ref; PLANE_ABSOLUTE where none fits. */
void program_find_reference(CadProgram *program, int index);

/* The pre-validator: everything OpenCASCADE is known to crash or hang on is refused here, with a
 * sentence that names the extrude and the values. Rules: docs/cad.md. */
Err program_validate(const CadProgram *program);

/* A measure of how hard a part is: curves + 2 · extrudes (stored with each sample, for curricula).
 */
int program_complexity(const CadProgram *program);

/* What an extrude covers along its normal: low ≤ 0 ≤ high. Two sides may both lie on one side: then
 * the solid is still the union of the two prisms, which is this interval. */
void extrude_span(const Extrude *extrude, double *low, double *high);

/* Points of sketch and space. */
Vec3 plane_y_axis(const Plane *plane);
Vec3 plane_point(const Plane *plane, Vec2 p);

static inline Vec2 vec2(double x, double y) {
    return (Vec2){x, y};
}
static inline Vec3 vec3(double x, double y, double z) {
    return (Vec3){x, y, z};
}

#endif
