/* The functions of OpenECAD v2: add_line … add_extrude. */
#include <stdio.h>
#include <string.h>

#include "cad/language/interpret.h"
#include "cad/language/vec.h"

/* All lists of curves of all loops, and of loops of all profiles, hold no more than this. */
enum { INDICES_MAX = 4 * PROGRAM_CURVES_ALL_MAX };

static Err wrong_type(Run *run, const Call *call, int arg, const char *expected) {
    return code_fail(run->error, call->places[arg], false, "%s: %s must be %s, not %s",
                     call->builtin->name, call->builtin->parameters[arg], expected,
                     value_kind_name(call->args[arg].kind));
}

static bool given(const Call *call, int arg) {
    return call->args[arg].kind != VALUE_UNSET;
}

static Err read_number(Run *run, const Call *call, int arg, double *out) {
    if (call->args[arg].kind != VALUE_NUMBER) return wrong_type(run, call, arg, "a number");
    *out = call->args[arg].number;
    return OK;
}

/* A whole number from 0 to `most`; `meanings` explains them. */
static Err read_choice(Run *run, const Call *call, int arg, int most, const char *meanings,
                       int *out) {
    double number = 0;
    TRY(read_number(run, call, arg, &number));
    if (number < 0 || number > most || number != floor(number))
        return code_fail(run->error, call->places[arg], false, "%s: %s must be %s, not %g",
                         call->builtin->name, call->builtin->parameters[arg], meanings, number);
    *out = (int)number;
    return OK;
}

static Err read_numbers(Run *run, const Call *call, int arg, double *out, int count) {
    const Value *value = &call->args[arg];
    char expected[32];
    snprintf(expected, sizeof expected, "a list of %d numbers", count);
    if (value->kind != VALUE_LIST) return wrong_type(run, call, arg, expected);
    const Items *values = &((ListObject *)run->lists.items)[value->index].values;
    if (values->count != count)
        return code_fail(run->error, call->places[arg], false, "%s: %s must be %s, not of %d",
                         call->builtin->name, call->builtin->parameters[arg], expected,
                         values->count);
    for (int i = 0; i < count; i++) {
        const Value *element = &((Value *)values->items)[i];
        if (element->kind != VALUE_NUMBER)
            return code_fail(run->error, call->places[arg], false,
                             "%s: %s must be %s, but element %d is %s", call->builtin->name,
                             call->builtin->parameters[arg], expected, i,
                             value_kind_name(element->kind));
        out[i] = element->number;
    }
    return OK;
}

static Err read_vec2(Run *run, const Call *call, int arg, Vec2 *out) {
    double v[2] = {0};
    TRY(read_numbers(run, call, arg, v, 2));
    *out = vec2(v[0], v[1]);
    return OK;
}

static Err read_vec3(Run *run, const Call *call, int arg, Vec3 *out) {
    double v[3] = {0};
    TRY(read_numbers(run, call, arg, v, 3));
    *out = vec3(v[0], v[1], v[2]);
    return OK;
}

static Err read_object(Run *run, const Call *call, int arg, ValueKind kind, int *out) {
    if (call->args[arg].kind != kind) return wrong_type(run, call, arg, value_kind_name(kind));
    *out = call->args[arg].index;
    return OK;
}

static Value object(ValueKind kind, const Items *items) {
    return (Value){.kind = kind, .index = items->count - 1};
}

static Err new_curve(Run *run, Curve curve, Value *result) {
    *(CurveObject *)items_add(&run->curves, sizeof(CurveObject)) = (CurveObject){curve, -1, -1};
    *result = object(VALUE_CURVE, &run->curves);
    return OK;
}

static Err add_line(Run *run, const Call *call, Value *result) {
    Curve line = {.kind = CURVE_LINE};
    TRY(read_vec2(run, call, 0, &line.start));
    TRY(read_vec2(run, call, 1, &line.end));
    return new_curve(run, line, result);
}

static Err add_arc(Run *run, const Call *call, Value *result) {
    Curve arc = {.kind = CURVE_ARC};
    TRY(read_vec2(run, call, 0, &arc.start));
    TRY(read_vec2(run, call, 1, &arc.end));
    TRY(read_vec2(run, call, 2, &arc.mid));
    return new_curve(run, arc, result);
}

static Err add_circle(Run *run, const Call *call, Value *result) {
    Curve circle = {.kind = CURVE_CIRCLE};
    TRY(read_vec2(run, call, 0, &circle.center));
    TRY(read_number(run, call, 1, &circle.radius));
    circle.radius = fabs(circle.radius); /* the reference takes its size, whatever the sign */
    return new_curve(run, circle, result);
}

/* Copies the indices of a list of `kind` values to the end of run->indices. */
static Err collect(Run *run, const Call *call, ValueKind kind, int most, const char *hint,
                   IndexRun *out) {
    int list = -1;
    TRY(read_object(run, call, 0, VALUE_LIST, &list));
    const Items *values = &((ListObject *)run->lists.items)[list].values;
    const char *name = call->builtin->name;
    if (!values->count)
        return code_fail(run->error, call->places[0], false, "%s: the list is empty; %s", name,
                         hint);
    if (values->count > most || run->indices.count + values->count > INDICES_MAX)
        return code_fail(run->error, call->places[0], false,
                         "%s: a list of %d, after %d elements in other lists, is too many", name,
                         values->count, run->indices.count);
    *out = (IndexRun){run->indices.count, values->count};
    for (int i = 0; i < values->count; i++) {
        const Value *element = &((Value *)values->items)[i];
        if (element->kind != kind)
            return code_fail(run->error, call->places[0], false, "%s: element %d is %s, not %s",
                             name, i, value_kind_name(element->kind), value_kind_name(kind));
        *(int *)items_add(&run->indices, sizeof(int)) = element->index;
    }
    return OK;
}

static Box2 bounds_of(const Curve *curves, int count) {
    return loop_bounds(&(Loop){(Curve *)curves, count});
}

/* Puts the curves into their chain and makes them meet. The turned and moved curves are also what
 * their names mean from now on: a later reference to a line follows them. */
static Err add_loop(Run *run, const Call *call, Value *result) {
    LoopObject made = {0};
    TRY(collect(run, call, VALUE_CURVE, PROGRAM_CURVES_MAX,
                "curves are collected when their names begin with Line, Arc or Circle",
                &made.curves));
    int *indices = (int *)run->indices.items + made.curves.first;
    CurveObject *all = run->curves.items;
    Buf chain = {0};
    for (int k = 0; k < made.curves.count; k++)
        buf_append(&chain, &all[indices[k]].curve, sizeof(Curve));
    Curve *curves = (Curve *)chain.data;
    int count = loop_assemble(curves, made.curves.count, indices);
    for (int k = 0; k < count; k++) all[indices[k]] = (CurveObject){curves[k], run->loops.count, k};
    made.curves.count = count;
    made.bounds = bounds_of(curves, count);
    buf_free(&chain);
    if (!count)
        return code_fail(run->error, call->place, false, "add_loop: every line is shorter than %g",
                         CURVE_LENGTH_MIN);
    *(LoopObject *)items_add(&run->loops, sizeof made) = made;
    *result = object(VALUE_LOOP, &run->loops);
    return OK;
}

static Err add_profile(Run *run, const Call *call, Value *result) {
    ProfileObject made = {0};
    TRY(collect(run, call, VALUE_LOOP, PROGRAM_LOOPS_MAX,
                "loops are collected when their names begin with Loop", &made.loops));
    int count = made.loops.count, order[PROGRAM_LOOPS_MAX];
    int *indices = (int *)run->indices.items + made.loops.first;
    Box2 bounds[PROGRAM_LOOPS_MAX];
    for (int j = 0; j < count; j++) bounds[j] = ((LoopObject *)run->loops.items)[indices[j]].bounds;
    loops_sort(order, bounds, count);
    for (int j = 0; j < count; j++) order[j] = indices[order[j]];
    memcpy(indices, order, (size_t)count * sizeof *order);
    *(ProfileObject *)items_add(&run->profiles, sizeof made) = made;
    *result = object(VALUE_PROFILE, &run->profiles);
    return OK;
}

static Err refuse_v1(Run *run, const Call *call, int arg) {
    return code_fail(run->error, call->places[arg], false,
                     "%s: %s belongs to OpenECAD v1, whose normalised sketches are not understood "
                     "yet; v2 code has none",
                     call->builtin->name, call->builtin->parameters[arg]);
}

/* The sentence of a plane that cannot be, with its place. */
static Err plane_failed(Run *run, const Call *call) {
    char why[200];
    snprintf(why, sizeof why, "%s", err_message());
    return code_fail(run->error, call->place, false, "%s: %s", call->builtin->name, why);
}

static Err add_sketchplane(Run *run, const Call *call, Value *result) {
    Vec3 origin = {0}, normal = {0}, x_axis = {0};
    PlaneObject made = {.ref.kind = PLANE_ABSOLUTE};
    TRY(read_vec3(run, call, 0, &origin));
    TRY(read_vec3(run, call, 1, &normal));
    TRY(read_vec3(run, call, 2, &x_axis));
    if (given(call, 3)) return refuse_v1(run, call, 3);
    if (plane_make(&made.plane, origin, normal, x_axis) != OK) return plane_failed(run, call);
    *(PlaneObject *)items_add(&run->planes, sizeof made) = made;
    *result = object(VALUE_PLANE, &run->planes);
    return OK;
}

/* Where `curve` stands in the sketch of an extrude; false when it does not. */
static bool find_curve(const Run *run, int extrude, int curve, PlaneRef *ref) {
    const CurveObject *wanted = &((CurveObject *)run->curves.items)[curve];
    int profile = ((int *)run->extrudes.items)[extrude];
    IndexRun loops = ((ProfileObject *)run->profiles.items)[profile].loops;
    for (int j = 0; j < loops.count; j++) {
        if (((int *)run->indices.items)[loops.first + j] != wanted->loop) continue;
        ref->loop = j;
        ref->curve = wanted->position;
        return true;
    }
    return false;
}

static Err read_plane_kind(Run *run, const Call *call, int arg, PlaneRefKind *out) {
    static const char *const names[] = {[PLANE_SAME] = "sameplane",
                                        [PLANE_EXTENT_ONE] = "extent_one",
                                        [PLANE_EXTENT_TWO] = "extent_two",
                                        [PLANE_LINE] = "line"};
    if (call->args[arg].kind != VALUE_TEXT) return wrong_type(run, call, arg, "a text");
    const char *text = names_text(&run->ast->names, call->args[arg].index);
    for (int kind = PLANE_SAME; kind <= PLANE_LINE; kind++) {
        if (strcmp(text, names[kind]) != 0) continue;
        *out = (PlaneRefKind)kind;
        return OK;
    }
    return code_fail(run->error, call->places[arg], false,
                     "%s: type is \"%.60s\"; there are \"sameplane\", \"extent_one\", "
                     "\"extent_two\" and \"line\"",
                     call->builtin->name, text);
}

static Err add_sketchplane_ref(Run *run, const Call *call, Value *result) {
    enum { EXTRUDE, ORIGIN, TYPE, LINE, REVERSE, ANGLE };
    PlaneObject made = {0};
    PlaneRef *ref = &made.ref;
    TRY(read_object(run, call, EXTRUDE, VALUE_EXTRUDE, &ref->extrude));
    TRY(read_vec2(run, call, ORIGIN, &ref->origin));
    TRY(read_plane_kind(run, call, TYPE, &ref->kind));
    if (given(call, ANGLE)) TRY(read_number(run, call, ANGLE, &ref->angle));
    const Value *reverse = &call->args[REVERSE];
    if (reverse->kind == VALUE_BOOL)
        ref->reverse = reverse->truth;
    else if (reverse->kind == VALUE_NUMBER)
        ref->reverse = reverse->number != 0;
    else if (given(call, REVERSE))
        return wrong_type(run, call, REVERSE, "True or False");

    const Curve *line = NULL;
    bool foreign = false;
    if (ref->kind == PLANE_LINE) {
        int curve = -1;
        if (!given(call, LINE))
            return code_fail(run->error, call->place, false,
                             "add_sketchplane_ref: type \"line\" needs a line");
        TRY(read_object(run, call, LINE, VALUE_CURVE, &curve));
        line = &((CurveObject *)run->curves.items)[curve].curve;
        if (line->kind != CURVE_LINE)
            return code_fail(run->error, call->places[LINE], false,
                             "add_sketchplane_ref: line must be made by add_line");
        foreign = !find_curve(run, ref->extrude, curve, ref);
    }
    const Extrude *base = &run->program->extrudes[ref->extrude];
    if (plane_from_ref(&made.plane, ref, base, line) != OK) return plane_failed(run, call);
    /* A line of another sketch is read in the frame of this extrude; such a plane has no name. */
    if (foreign) *ref = (PlaneRef){.kind = PLANE_ABSOLUTE};
    *(PlaneObject *)items_add(&run->planes, sizeof made) = made;
    *result = object(VALUE_PLANE, &run->planes);
    return OK;
}

static Err add_sketch(Run *run, const Call *call, Value *result) {
    enum { PLANE, PROFILE, POSITION, SIZE };
    SketchObject made = {0};
    TRY(read_object(run, call, PLANE, VALUE_PLANE, &made.plane));
    TRY(read_object(run, call, PROFILE, VALUE_PROFILE, &made.profile));
    if (given(call, POSITION)) {
        Vec3 position = {0};
        TRY(read_vec3(run, call, POSITION, &position));
        if (vec3_length(position) != 0) return refuse_v1(run, call, POSITION);
    }
    if (given(call, SIZE)) {
        double size = 0;
        TRY(read_number(run, call, SIZE, &size));
        if (size != 0) return refuse_v1(run, call, SIZE);
    }
    *(SketchObject *)items_add(&run->sketches, sizeof made) = made;
    *result = object(VALUE_SKETCH, &run->sketches);
    return OK;
}

static Err too_large(Run *run, const Call *call) {
    return code_fail(run->error, call->place, false,
                     "add_extrude: the program grows beyond %d extrudes or %d curves",
                     PROGRAM_EXTRUDES_MAX, PROGRAM_CURVES_ALL_MAX);
}

static Err copy_profile(Run *run, const Call *call, int profile, Extrude *extrude) {
    const int *indices = run->indices.items;
    IndexRun loops = ((ProfileObject *)run->profiles.items)[profile].loops;
    for (int j = 0; j < loops.count; j++) {
        IndexRun members = ((LoopObject *)run->loops.items)[indices[loops.first + j]].curves;
        Loop *loop = extrude_add_loop(run->program, extrude);
        if (!loop) return too_large(run, call);
        for (int k = 0; k < members.count; k++) {
            Curve *curve = loop_add_curve(run->program, loop);
            if (!curve) return too_large(run, call);
            *curve = ((CurveObject *)run->curves.items)[indices[members.first + k]].curve;
        }
    }
    return OK;
}

static Err add_extrude(Run *run, const Call *call, Value *result) {
    enum { SKETCH, OPERATION, TYPE, EXTENT_ONE, EXTENT_TWO };
    int sketch_index = -1, operation = 0, type = 0;
    double one = 0, two = 0;
    TRY(read_object(run, call, SKETCH, VALUE_SKETCH, &sketch_index));
    TRY(read_choice(run, call, OPERATION, OP_INTERSECT,
                    "0 (new body), 1 (join), 2 (cut) or 3 (intersect)", &operation));
    TRY(read_choice(run, call, TYPE, EXTENT_TWO_SIDES,
                    "0 (one side), 1 (symmetric) or 2 (two sides)", &type));
    TRY(read_number(run, call, EXTENT_ONE, &one));
    TRY(read_number(run, call, EXTENT_TWO, &two));
    const SketchObject *sketch = &((SketchObject *)run->sketches.items)[sketch_index];
    const PlaneObject *plane = &((PlaneObject *)run->planes.items)[sketch->plane];
    Extrude *extrude = program_add_extrude(run->program);
    if (!extrude) return too_large(run, call);
    extrude->ref = plane->ref;
    extrude->plane = plane->plane;
    extrude->op = (BooleanOp)operation;
    extrude->type = (ExtentType)type;
    extrude->extent_one = one;
    extrude->extent_two = two;
    TRY(copy_profile(run, call, sketch->profile, extrude));
    *(int *)items_add(&run->extrudes, sizeof(int)) = sketch->profile;
    *result = object(VALUE_EXTRUDE, &run->extrudes);
    return OK;
}

static const Builtin builtins[] = {
    {"add_line", {"start", "end"}, 2, add_line},
    {"add_arc", {"start", "end", "mid"}, 3, add_arc},
    {"add_circle", {"center", "radius"}, 2, add_circle},
    {"add_loop", {"curves"}, 1, add_loop},
    {"add_profile", {"loops"}, 1, add_profile},
    {"add_sketchplane", {"origin", "normal", "x_axis", "y_axis"}, 3, add_sketchplane},
    {"add_sketchplane_ref",
     {"extrude", "origin", "type", "line", "reverse", "angle"},
     3,
     add_sketchplane_ref},
    {"add_sketch", {"sketch_plane", "profile", "sketch_position", "sketch_size"}, 2, add_sketch},
    {"add_extrude", {"sketch", "operation", "type", "extent_one", "extent_two"}, 5, add_extrude},
};

const Builtin *builtin_all(int *count) {
    *count = (int)(sizeof builtins / sizeof *builtins);
    return builtins;
}

const Builtin *builtin_find(const char *name) {
    for (size_t i = 0; i < sizeof builtins / sizeof *builtins; i++)
        if (strcmp(builtins[i].name, name) == 0) return &builtins[i];
    return NULL;
}
