/* The run of a piece of code: its values, and the functions of OpenECAD that make them.
 *
 * Shared by interpret.c (statements and expressions) and builtins.c (add_line … add_extrude);
 * others use cad/language/code.h. Objects live in arrays of the run and are known by their index,
 * so that a list, a loop and a reference may hold the same line, as they do in Python. */
#ifndef CADVLM_CAD_LANGUAGE_INTERPRET_H
#define CADVLM_CAD_LANGUAGE_INTERPRET_H

#include "cad/language/loop.h"
#include "cad/language/parser.h"

typedef enum ValueKind {
    VALUE_UNSET, /* a name that nothing was assigned to */
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_NUMBER,
    VALUE_TEXT, /* index: name number */
    VALUE_LIST, /* index from here on: into the run's array of that kind */
    VALUE_CURVE,
    VALUE_LOOP,
    VALUE_PROFILE,
    VALUE_PLANE,
    VALUE_SKETCH,
    VALUE_EXTRUDE,
    VALUE_MODULE /* numpy */
} ValueKind;

typedef struct Value {
    ValueKind kind;
    union {
        double number;
        bool truth;
        int index;
    };
} Value;

/* A growable array of one of the kinds below. */
typedef struct Items {
    void *items;
    int count, capacity;
} Items;

typedef struct ListObject {
    Items values; /* Value */
} ListObject;

/* A curve as the code knows it: add_loop turns and snaps it, and notes where it stands. */
typedef struct CurveObject {
    Curve curve;
    int loop, position; /* in which loop it was put last; -1: in none */
} CurveObject;

/* A stretch of Run.indices. */
typedef struct IndexRun {
    int first, count;
} IndexRun;

typedef struct LoopObject {
    IndexRun curves;
    Box2 bounds;
} LoopObject;

typedef struct ProfileObject {
    IndexRun loops;
} ProfileObject;

typedef struct PlaneObject {
    PlaneRef ref;
    Plane plane;
} PlaneObject;

typedef struct SketchObject {
    int plane, profile;
} SketchObject;

typedef struct Run {
    const Ast *ast;
    CodeError *error;
    CadProgram *program;
    Value *variables;          /* [names] by name number */
    Items lists;               /* ListObject */
    Items curves;              /* Curve: as the code knows them; add_loop turns and snaps them */
    Items indices;             /* int: curves of loops, loops of profiles */
    Items loops;               /* IndexRun of curves */
    Items profiles;            /* IndexRun of loops */
    Items planes;              /* PlaneObject */
    Items sketches;            /* SketchObject */
    Items extrudes;            /* int: the profile of each of the program's extrudes */
    int curve_list, loop_list; /* the last Curves… and Loops… list; -1 before the first */
} Run;

enum { CALL_ARGUMENTS_MAX = 6 };

/* A call of a builtin with its arguments in the order of its parameters. */
typedef struct Call {
    const struct Builtin *builtin;
    Place place;
    Value args[CALL_ARGUMENTS_MAX]; /* VALUE_UNSET: not given */
    Place places[CALL_ARGUMENTS_MAX];
} Call;

typedef struct Builtin {
    const char *name;
    const char *parameters[CALL_ARGUMENTS_MAX]; /* NULL-ended when fewer */
    int required;                               /* the first so many must be given */
    Err (*call)(Run *run, const Call *call, Value *result);
} Builtin;

/* NULL when there is no such function. */
const Builtin *builtin_find(const char *name);
const Builtin *builtin_all(int *count);

const char *value_kind_name(ValueKind kind);

/* A zeroed new element of an array of `size`-byte elements; pointers into it are invalid
 * afterwards. */
void *items_add(Items *items, size_t size);

#endif
