/* DeepCAD JSON to programs. */
#include "data/import/deepcad.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cad/language/loop.h"
#include "cad/language/vec.h"
#include "core/file.h"
#include "data/import/fusion360.h"

#define MILLIMETRES 1000.0 /* in a metre */

/* How far an arc may miss its listed ends, in mm and as a share of its radius: files that keep six
 * decimals of a metre, or of an angle, miss by a few 1e-3 mm, the dataset's by 1e-5. */
#define ARC_MISFIT       1e-2
#define ARC_MISFIT_SHARE 1e-4
#define WHOLE_TURN       (2 * M_PI + 1e-6)

enum {
    WHERE_SIZE = 256,
    SEQUENCE_MAX = 4096, /* features of a file; the largest of the dataset have some hundred */
    DROPPED_MAX = 64
};

typedef struct Import {
    const Json *entities;
    const char *name;
    CadProgram *program;
    DeepcadInfo *info;
} Import;

static void drop(Import *in, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void drop(Import *in, const char *format, ...) {
    DeepcadInfo *info = in->info;
    if (info->dropped_count == DROPPED_MAX) return;
    Buf text = {0};
    va_list args;
    va_start(args, format);
    buf_vformat(&text, format, args);
    va_end(args);
    info->dropped = realloc(info->dropped, (size_t)(info->dropped_count + 1) * sizeof(char *));
    CHECK(info->dropped, "out of memory: %d sentences", info->dropped_count + 1);
    info->dropped[info->dropped_count++] = text.data;
}

void deepcad_info_free(DeepcadInfo *info) {
    for (int i = 0; i < info->dropped_count; i++) free(info->dropped[i]);
    free(info->dropped);
    *info = (DeepcadInfo){0};
}

/* object[key] · scale. */
static Err read_number(double *out, const Json *object, const char *key, double scale,
                       const char *where) {
    TRY(js_need_number(out, object, key, where));
    *out *= scale;
    REQUIRE(isfinite(*out), ERR_INPUT, "%s: \"%s\" is too large", where, key);
    return OK;
}

static Err read_vec3(Vec3 *out, const Json *object, const char *key, double scale,
                     const char *where) {
    const Json *vector;
    TRY(js_need(&vector, object, key, JSON_KIND_OBJECT, where));
    char inside[WHERE_SIZE + 64];
    snprintf(inside, sizeof inside, "%s: %s", where, key);
    TRY(read_number(&out->x, vector, "x", scale, inside));
    TRY(read_number(&out->y, vector, "y", scale, inside));
    return read_number(&out->z, vector, "z", scale, inside);
}

/* A point of a sketch: its z is about zero and means nothing. */
static Err read_point(Vec2 *out, const Json *object, const char *key, const char *where) {
    Vec3 point = {0};
    TRY(read_vec3(&point, object, key, MILLIMETRES, where));
    *out = vec2(point.x, point.y);
    return OK;
}

/* An arc as the file describes it: on a circle, from one angle to another after `from`. */
typedef struct Turn {
    Vec2 center;
    Vec3 from;
    double radius, start_angle, end_angle;
} Turn;

static Err read_turn(Turn *out, const Json *json, const char *where) {
    TRY(read_point(&out->center, json, "center_point", where));
    TRY(read_number(&out->radius, json, "radius", MILLIMETRES, where));
    TRY(read_number(&out->start_angle, json, "start_angle", 1, where));
    TRY(read_number(&out->end_angle, json, "end_angle", 1, where));
    TRY(read_vec3(&out->from, json, "reference_vector", 1, where));
    double sweep = out->end_angle - out->start_angle;
    REQUIRE(fabs(sweep) <= WHOLE_TURN, ERR_INPUT, "%s: the arc turns by %g radians", where, sweep);
    return OK;
}

static Vec2 turn_at(const Turn *turn, double angle) {
    double c = cos(angle), s = sin(angle);
    return vec2(turn->center.x + turn->radius * (c * turn->from.x - s * turn->from.y),
                turn->center.y + turn->radius * (s * turn->from.x + c * turn->from.y));
}

/* The description and the listed ends say the same; which of the two is called the start says
 * nothing. */
static Err check_ends(const Turn *turn, Vec2 start, Vec2 end, const char *where) {
    Vec2 a = turn_at(turn, turn->start_angle), b = turn_at(turn, turn->end_angle);
    double along = fmax(vec2_distance(a, start), vec2_distance(b, end));
    double against = fmax(vec2_distance(a, end), vec2_distance(b, start));
    REQUIRE(fmin(along, against) <= ARC_MISFIT + ARC_MISFIT_SHARE * fabs(turn->radius), ERR_INPUT,
            "%s: the arc does not fit its ends: they are [%g, %g] and [%g, %g] mm, its centre, "
            "radius and angles give [%g, %g] and [%g, %g]",
            where, start.x, start.y, end.x, end.y, a.x, a.y, b.x, b.y);
    return OK;
}

/* An arc runs counter-clockwise from the reference vector by end_angle. `normal` is in space while
 * the points are not, and unused. An arc of a whole turn is a circle. */
static Err read_arc(Curve *out, const Json *json, const char *where) {
    Turn turn = {0};
    TRY(read_point(&out->start, json, "start_point", where));
    TRY(read_point(&out->end, json, "end_point", where));
    TRY(read_turn(&turn, json, where));
    TRY(check_ends(&turn, out->start, out->end, where));
    double sweep = turn.end_angle - turn.start_angle;
    if (fabs(sweep) > M_PI && vec2_distance(out->start, out->end) < CURVE_LENGTH_MIN) {
        *out = (Curve){.kind = CURVE_CIRCLE, .center = turn.center, .radius = fabs(turn.radius)};
        return OK;
    }
    out->kind = CURVE_ARC;
    out->mid = turn_at(&turn, (turn.start_angle + turn.end_angle) / 2);
    REQUIRE(vec2_finite(out->mid), ERR_INPUT, "%s: the numbers of the arc are too large", where);
    return OK;
}

static Err read_curve(Curve *out, const Json *json, const char *where) {
    const char *type;
    TRY(js_need_text(&type, json, "type", where));
    *out = (Curve){0};
    if (strcmp(type, "Line3D") == 0) {
        out->kind = CURVE_LINE;
        TRY(read_point(&out->start, json, "start_point", where));
        return read_point(&out->end, json, "end_point", where);
    }
    if (strcmp(type, "Arc3D") == 0) return read_arc(out, json, where);
    REQUIRE(strcmp(type, "Circle3D") == 0, ERR_INPUT,
            "%s: a curve of type \"%.40s\"; there are Line3D, Arc3D and Circle3D", where, type);
    out->kind = CURVE_CIRCLE;
    TRY(read_point(&out->center, json, "center_point", where));
    TRY(read_number(&out->radius, json, "radius", MILLIMETRES, where));
    out->radius = fabs(out->radius);
    return OK;
}

/* Puts the curves into a chain and turns each, so that every one starts where the one before ends.
 * The listed order is kept where it is a chain already. */
static Err chain(Curve *curves, int count, const char *where) {
    if (count >= 2 && !points_meet(curves[1].start, curves[0].end) &&
        !points_meet(curves[1].end, curves[0].end))
        curve_reverse(&curves[0]);
    for (int k = 1; k < count; k++) {
        Vec2 here = curves[k - 1].end;
        int next = k;
        while (next < count && !points_meet(curves[next].start, here) &&
               !points_meet(curves[next].end, here))
            next++;
        REQUIRE(next < count, ERR_INPUT,
                "%s: the loop is not closed: no curve continues from [%g, %g] mm", where, here.x,
                here.y);
        Curve found = curves[next];
        curves[next] = curves[k];
        curves[k] = found;
        if (vec2_distance(found.end, here) < vec2_distance(found.start, here))
            curve_reverse(&curves[k]);
    }
    REQUIRE(points_meet(curves[count - 1].end, curves[0].start), ERR_INPUT,
            "%s: the loop is not closed: it starts at [%g, %g] and ends at [%g, %g] mm", where,
            curves[0].start.x, curves[0].start.y, curves[count - 1].end.x, curves[count - 1].end.y);
    return OK;
}

/* The curves of a loop, in the order and direction of OpenECAD. */
static Err read_loop(Import *in, Buf *out, const Json *json, const char *where) {
    const Json *list;
    TRY(js_need(&list, json, "profile_curves", JSON_KIND_ARRAY, where));
    int count = (int)js_count(list);
    REQUIRE(count >= 1 && js_count(list) <= PROGRAM_CURVES_MAX, ERR_INPUT,
            "%s: %zu curves; a loop has 1 to %d", where, js_count(list), PROGRAM_CURVES_MAX);
    char inside[WHERE_SIZE];
    bool circle = false;
    for (int k = 0; k < count; k++) {
        Curve curve = {0};
        snprintf(inside, sizeof inside, "%.200s, curve %d", where, k);
        TRY(read_curve(&curve, js_at(list, (size_t)k), inside));
        buf_append(out, &curve, sizeof curve);
        circle |= curve.kind == CURVE_CIRCLE;
    }
    if (circle) {
        REQUIRE(count == 1, ERR_INPUT, "%s: a circle among %d curves; it is a loop by itself",
                where, count);
        return OK;
    }
    Curve *curves = (Curve *)out->data;
    TRY(chain(curves, count, where));
    int kept = loop_assemble(curves, count, NULL);
    REQUIRE(kept, ERR_INPUT, "%s: every curve is shorter than %g mm", where, CURVE_LENGTH_MIN);
    if (kept < count)
        drop(in, "%s: lines shorter than %g mm: %d", where, CURVE_LENGTH_MIN, count - kept);
    out->size = (size_t)kept * sizeof(Curve);
    return OK;
}

static Err add_loop(Import *in, Extrude *extrude, const Buf *curves, const char *where) {
    Loop *loop = extrude_add_loop(in->program, extrude);
    REQUIRE(loop, ERR_INPUT, "%s: more than %d loops", where, PROGRAM_LOOPS_MAX);
    for (size_t k = 0; k < curves->size / sizeof(Curve); k++) {
        Curve *curve = loop_add_curve(in->program, loop);
        REQUIRE(curve, ERR_INPUT, "%s: more than %d curves in the file's program", where,
                PROGRAM_CURVES_ALL_MAX);
        *curve = ((const Curve *)curves->data)[k];
    }
    return OK;
}

typedef struct ProfileLoops {
    Buf loops[PROGRAM_LOOPS_MAX];
    Box2 bounds[PROGRAM_LOOPS_MAX];
    int order[PROGRAM_LOOPS_MAX];
} ProfileLoops;

/* Reads one loop after the other, then adds them sorted by their lower left corner. is_outer is
 * true for every loop of every file, so it is not looked at. */
static Err read_profile(Import *in, Extrude *extrude, const Json *json, const char *where) {
    const Json *list;
    TRY(js_need(&list, json, "loops", JSON_KIND_ARRAY, where));
    size_t count = js_count(list);
    REQUIRE(count >= 1 && count <= PROGRAM_LOOPS_MAX, ERR_INPUT,
            "%s: %zu loops; a profile has 1 to %d", where, count, PROGRAM_LOOPS_MAX);
    ProfileLoops *p = calloc(1, sizeof *p);
    CHECK(p, "out of memory: loops of a profile");
    Err err = OK;
    for (size_t j = 0; j < count; j++) {
        char inside[WHERE_SIZE];
        snprintf(inside, sizeof inside, "%.200s, loop %zu", where, j);
        const Buf *loop = &p->loops[j];
        TRY_GOTO(err, read_loop(in, &p->loops[j], js_at(list, j), inside));
        p->bounds[j] = loop_bounds(&(Loop){(Curve *)loop->data, (int)(loop->size / sizeof(Curve))});
    }
    loops_sort(p->order, p->bounds, (int)count);
    for (size_t j = 0; j < count; j++)
        TRY_GOTO(err, add_loop(in, extrude, &p->loops[p->order[j]], where));
done:
    for (size_t j = 0; j < count; j++) buf_free(&p->loops[j]);
    free(p);
    return err;
}

static double signed_as(double zero, double sample) {
    return fabs(zero) < 1e-9 ? copysign(zero, sample) : zero;
}

/* Gives the zeros among the axes the signs that OpenECAD's converter leaves them with: it stores
 * the normal as polar angles and x as a turn about it, and prints "-0." where cos π/2 was not quite
 * zero. Models that learnt from its code expect that. Only signs of zeros change; its mistake with
 * normals of negative x is not followed. */
static void sign_zeros(Plane *plane) {
    Vec3 *n = &plane->normal, *x = &plane->x_axis;
    double theta = acos(n->z), phi = atan(n->y / (n->x + 1e-15));
    Vec3 normal = vec3(sin(theta) * cos(phi), sin(theta) * sin(phi), cos(theta));
    Vec3 zero_turn = vec3(cos(phi) * cos(theta), sin(phi) * cos(theta), -sin(theta));
    double turn = acos(fmax(-1, fmin(1, vec3_dot(*x, zero_turn))));
    if (vec3_dot(vec3_cross(zero_turn, *x), *n) < 0) turn = -turn;
    Vec3 x_axis = vec3_add(vec3_scale(zero_turn, cos(turn)),
                           vec3_scale(vec3_cross(normal, zero_turn), sin(turn)));
    *n = vec3(signed_as(n->x, normal.x), signed_as(n->y, normal.y), signed_as(n->z, normal.z));
    *x = vec3(signed_as(x->x, x_axis.x), signed_as(x->y, x_axis.y), signed_as(x->z, x_axis.z));
}

static Err read_plane(Plane *out, const Json *sketch, const char *where) {
    const Json *transform;
    Vec3 origin = {0}, x = {0}, y = {0}, z = {0};
    TRY(js_need(&transform, sketch, "transform", JSON_KIND_OBJECT, where));
    TRY(read_vec3(&origin, transform, "origin", MILLIMETRES, where));
    TRY(read_vec3(&x, transform, "x_axis", 1, where));
    TRY(read_vec3(&y, transform, "y_axis", 1, where));
    TRY(read_vec3(&z, transform, "z_axis", 1, where));
    Err err = plane_make(out, origin, z, x);
    if (err != OK) return err_prefix(err, "%s: ", where);
    REQUIRE(vec3_dot(plane_y_axis(out), y) > 0.99, ERR_INPUT,
            "%s: y_axis [%g, %g, %g] is not z_axis × x_axis", where, y.x, y.y, y.z);
    sign_zeros(out);
    return OK;
}

/* An entity of the file that must be there and of that type. */
static Err find_entity(const Json **out, const Import *in, const char *id, const char *type,
                       const char *where) {
    *out = js_get(in->entities, id);
    REQUIRE(*out, ERR_INPUT, "%s: entity \"%.40s\" is not in the file", where, id);
    const char *found;
    char inside[WHERE_SIZE + 64];
    snprintf(inside, sizeof inside, "%s: entity \"%.40s\"", where, id);
    TRY(js_need_text(&found, *out, "type", inside));
    REQUIRE(strcmp(found, type) == 0, ERR_INPUT, "%s: entity \"%.40s\" is of type %.40s, not %s",
            where, id, found, type);
    return OK;
}

/* The index of `text` among `names`. */
static Err read_choice(int *out, const Json *object, const char *key, const char *const *names,
                       int count, const char *where) {
    const char *text;
    TRY(js_need_text(&text, object, key, where));
    for (*out = 0; *out < count; ++*out)
        if (strcmp(text, names[*out]) == 0) return OK;
    FAIL(ERR_INPUT, "%s: \"%s\" is \"%.60s\", which is not understood", where, key, text);
}

/* object[key].value · scale. */
static Err read_parameter(double *out, const Json *object, const char *key, double scale,
                          const char *where) {
    const Json *parameter;
    char inside[WHERE_SIZE + 64];
    snprintf(inside, sizeof inside, "%s, %s", where, key);
    TRY(js_need(&parameter, object, key, JSON_KIND_OBJECT, where));
    return read_number(out, parameter, "value", scale, inside);
}

/* A distance in millimetres; tapered sides are refused. */
static Err read_extent(double *out, const Json *feature, const char *key, const char *where) {
    static const char *const types[] = {"DistanceExtentDefinition"};
    const Json *extent;
    int ignored;
    double taper = 0;
    char inside[WHERE_SIZE + 32];
    snprintf(inside, sizeof inside, "%s, %s", where, key);
    TRY(js_need(&extent, feature, key, JSON_KIND_OBJECT, where));
    TRY(read_choice(&ignored, extent, "type", types, 1, inside));
    TRY(read_parameter(out, extent, "distance", MILLIMETRES, inside));
    if (js_get(extent, "taper_angle"))
        TRY(read_parameter(&taper, extent, "taper_angle", 1, inside));
    REQUIRE(taper == 0, ERR_UNSUPPORTED, "%s: sides tapered by %g radians are not supported",
            inside, taper);
    return OK;
}

/* Every file of the dataset begins at the profile's plane. */
static Err check_start(const Json *feature, const char *where) {
    static const char *const starts[] = {"ProfilePlaneStartDefinition"};
    const Json *start;
    int ignored;
    char inside[WHERE_SIZE + 32];
    snprintf(inside, sizeof inside, "%s, start_extent", where);
    TRY(js_need(&start, feature, "start_extent", JSON_KIND_OBJECT, where));
    return read_choice(&ignored, start, "type", starts, 1, inside);
}

/* What all profiles of a feature have in common. Symmetric extents are already halved. */
static Err read_feature(Extrude *out, const Json *feature, const char *where) {
    static const char *const operations[] = {"NewBodyFeatureOperation", "JoinFeatureOperation",
                                             "CutFeatureOperation", "IntersectFeatureOperation"};
    static const char *const types[] = {"OneSideFeatureExtentType", "SymmetricFeatureExtentType",
                                        "TwoSidesFeatureExtentType"};
    int operation = 0, type = 0;
    *out = (Extrude){0};
    TRY(check_start(feature, where));
    TRY(read_choice(&operation, feature, "operation", operations, 4, where));
    TRY(read_choice(&type, feature, "extent_type", types, 3, where));
    TRY(read_extent(&out->extent_one, feature, "extent_one", where));
    if (type == EXTENT_TWO_SIDES) TRY(read_extent(&out->extent_two, feature, "extent_two", where));
    out->op = (BooleanOp)operation;
    out->type = (ExtentType)type;
    return OK;
}

/* One profile of a feature: an extrude of its own. */
static Err add_extrude(Import *in, const Extrude *feature, const Json *reference, bool first,
                       const char *where) {
    const char *sketch_id, *profile_id;
    const Json *sketch, *profiles, *profile;
    TRY(js_need_text(&sketch_id, reference, "sketch", where));
    TRY(js_need_text(&profile_id, reference, "profile", where));
    TRY(find_entity(&sketch, in, sketch_id, "Sketch", where));
    TRY(js_need(&profiles, sketch, "profiles", JSON_KIND_OBJECT, where));
    profile = js_get(profiles, profile_id);
    REQUIRE(profile, ERR_INPUT, "%s: sketch \"%.40s\" has no profile \"%.40s\"", where, sketch_id,
            profile_id);
    char inside[WHERE_SIZE];
    snprintf(inside, sizeof inside, "%.100s, sketch \"%.40s\", profile \"%.40s\"", where, sketch_id,
             profile_id);
    Extrude *extrude = program_add_extrude(in->program);
    REQUIRE(extrude, ERR_INPUT, "%s: more than %d extrusions", where, PROGRAM_EXTRUDES_MAX);
    *extrude = *feature;
    if (feature->op == OP_NEW_BODY && !first) extrude->op = OP_JOIN;
    TRY(read_plane(&extrude->plane, sketch, inside));
    TRY(read_profile(in, extrude, profile, inside));
    program_find_reference(in->program, in->program->count - 1);
    return OK;
}

static Err add_feature(Import *in, const char *id) {
    const Json *feature, *profiles;
    char where[WHERE_SIZE];
    snprintf(where, sizeof where, "%.80s: extrude \"%.40s\"", in->name, id);
    TRY(find_entity(&feature, in, id, "ExtrudeFeature", where));
    TRY(js_need(&profiles, feature, "profiles", JSON_KIND_ARRAY, where));
    Extrude common;
    TRY(read_feature(&common, feature, where));
    if (!js_count(profiles)) drop(in, "extrude \"%.40s\": it has no profiles", id);
    for (size_t p = 0; p < js_count(profiles); p++)
        TRY(add_extrude(in, &common, js_at(profiles, p), p == 0, where));
    return OK;
}

static bool has_type(const Json *item, const char *type) {
    const char *found = js_text(js_get(item, "type"), NULL);
    return found && strcmp(found, type) == 0;
}

/* Whether any extrude of the sequence names this sketch. */
static bool is_used(const Import *in, const Json *sequence, const char *sketch) {
    for (size_t i = 0; i < js_count(sequence); i++) {
        const Json *item = js_at(sequence, i);
        if (!has_type(item, "ExtrudeFeature")) continue;
        const char *id = js_text(js_get(item, "entity"), NULL);
        const Json *profiles = js_get(js_get(in->entities, id), "profiles");
        for (size_t p = 0; p < js_count(profiles); p++) {
            const char *used = js_text(js_get(js_at(profiles, p), "sketch"), NULL);
            if (used && strcmp(used, sketch) == 0) return true;
        }
    }
    return false;
}

/* Comes after the extrudes: those that were read name no more than PROGRAM_EXTRUDES_MAX profiles,
 * so the search stays short whatever the file holds. */
static void drop_unused_sketches(Import *in, const Json *sequence) {
    size_t count = js_count(sequence);
    for (size_t i = 0; i < count; i++) {
        const Json *item = js_at(sequence, i);
        const char *id = js_text(js_get(item, "entity"), NULL);
        if (!has_type(item, "Sketch") || is_used(in, sequence, id)) continue;
        drop(in, "sketch \"%.40s\": no extrude uses it%s", id,
             i + 1 == count ? "; it is the last of the sequence, so what followed it in the model "
                              "may be missing"
                            : "");
    }
}

static Err read_sequence(Import *in, const Json *sequence) {
    size_t count = js_count(sequence);
    REQUIRE(count <= SEQUENCE_MAX, ERR_INPUT, "%s: a sequence of %zu features; %d are the most",
            in->name, count, SEQUENCE_MAX);
    for (size_t i = 0; i < count; i++) {
        const char *type, *id;
        char where[WHERE_SIZE];
        snprintf(where, sizeof where, "%.100s: item %zu of the sequence", in->name, i);
        TRY(js_need_text(&type, js_at(sequence, i), "type", where));
        TRY(js_need_text(&id, js_at(sequence, i), "entity", where));
        if (strcmp(type, "ExtrudeFeature") == 0)
            TRY(add_feature(in, id));
        else if (strcmp(type, "Sketch") != 0)
            drop(in, "feature \"%.40s\": a %.40s is not understood", id, type);
    }
    REQUIRE(in->program->count, ERR_INPUT, "%s: no extrude, so no solid", in->name);
    drop_unused_sketches(in, sequence);
    return OK;
}

/* The bounding box is a check for others: a file without one is converted all the same. */
static Err read_box(Import *in, const Json *root) {
    const Json *box = js_get(js_get(root, "properties"), "bounding_box");
    if (!box) return OK;
    char where[WHERE_SIZE];
    snprintf(where, sizeof where, "%.100s: bounding_box", in->name);
    TRY(read_vec3(&in->info->box_min, box, "min_point", MILLIMETRES, where));
    TRY(read_vec3(&in->info->box_max, box, "max_point", MILLIMETRES, where));
    in->info->has_box = true;
    return OK;
}

static Err refuse_fusion360(const Json *root, const char *name) {
    const char *sign = fusion360_sign(root);
    REQUIRE(!sign, ERR_UNSUPPORTED,
            "%s is a Fusion 360 design, as its \"%s\" shows: lengths in centimetres and extents of "
            "their own, not DeepCAD's; such designs are not read yet",
            name, sign);
    return OK;
}

static Err import_all(Import *in, const Json *root) {
    const Json *sequence;
    TRY(refuse_fusion360(root, in->name));
    TRY(js_need(&in->entities, root, "entities", JSON_KIND_OBJECT, in->name));
    TRY(js_need(&sequence, root, "sequence", JSON_KIND_ARRAY, in->name));
    TRY(read_box(in, root));
    TRY(read_sequence(in, sequence));
    in->info->extrusions = in->program->count;
    return OK;
}

Err deepcad_parse(CadProgram *out, const Json *root, const char *name, DeepcadInfo *info) {
    DeepcadInfo own = {0};
    if (info) *info = (DeepcadInfo){0};
    *out = (CadProgram){0};
    Import in = {.name = name, .program = out, .info = info ? info : &own};
    Err err = import_all(&in, root);
    if (err != OK) program_free(out);
    deepcad_info_free(&own);
    return err;
}

Err deepcad_read(CadProgram *out, const char *path, DeepcadInfo *info) {
    Json *root = NULL;
    *out = (CadProgram){0};
    if (info) *info = (DeepcadInfo){0};
    TRY(js_read(&root, path, DEEPCAD_FILE_MAX));
    Err err = deepcad_parse(out, root, path_name(path), info);
    js_free(&root);
    return err;
}
