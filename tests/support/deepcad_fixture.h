/* DeepCAD files made by code, of the same form as the real ones. */
#ifndef CADVLM_TESTS_SUPPORT_DEEPCAD_FIXTURE_H
#define CADVLM_TESTS_SUPPORT_DEEPCAD_FIXTURE_H

#include <math.h>

#include "cad/language/vec.h"
#include "core/json.h"

static inline Json *point_json(double x, double y, double z) {
    Json *point = js_new_object();
    js_set_number(point, "x", x);
    js_set_number(point, "y", y);
    js_set_number(point, "z", z);
    return point;
}

static inline void add_line(Json *loop, double x0, double y0, double x1, double y1) {
    Json *line = js_new_object();
    js_set_text(line, "type", "Line3D");
    js_set(line, "start_point", point_json(x0, y0, 0));
    js_set(line, "end_point", point_json(x1, y1, 0));
    js_push(loop, line);
}

/* Counter-clockwise from `from` (radians) by `sweep`; the listed ends swapped when `swapped`. */
static inline void add_arc(Json *loop, double cx, double cy, double r, double from, double sweep,
                           bool swapped) {
    Json *arc = js_new_object();
    Json *a = point_json(cx + r * cos(from), cy + r * sin(from), 0);
    Json *b = point_json(cx + r * cos(from + sweep), cy + r * sin(from + sweep), 0);
    js_set_text(arc, "type", "Arc3D");
    js_set(arc, "start_point", swapped ? b : a);
    js_set(arc, "end_point", swapped ? a : b);
    js_set(arc, "center_point", point_json(cx, cy, 0));
    js_set_number(arc, "radius", r);
    js_set(arc, "normal", point_json(0, -1, 0));
    js_set_number(arc, "start_angle", 0);
    js_set_number(arc, "end_angle", sweep);
    js_set(arc, "reference_vector", point_json(cos(from), sin(from), 0));
    js_push(loop, arc);
}

static inline void add_circle(Json *loop, double cx, double cy, double r) {
    Json *circle = js_new_object();
    js_set_text(circle, "type", "Circle3D");
    js_set(circle, "center_point", point_json(cx, cy, 0));
    js_set_number(circle, "radius", r);
    js_set(circle, "normal", point_json(0, -1, 0));
    js_push(loop, circle);
}

/* A file without features, to be filled. */
static inline Json *empty_file(void) {
    Json *root = js_new_object(), *properties = js_new_object(), *box = js_new_object();
    js_set(box, "max_point", point_json(0.04, 0, 0.03));
    js_set(box, "min_point", point_json(-0.04, -0.02, 0));
    js_set(properties, "bounding_box", box);
    js_set(root, "entities", js_new_object());
    js_set(root, "properties", properties);
    js_set(root, "sequence", js_new_array());
    return root;
}

/* Building keeps pointers into the tree that reading would only lend. */
static inline Json *member(Json *object, const char *key) {
    return (Json *)js_get(object, key);
}

static inline void add_to_sequence(Json *root, const char *id, const char *type) {
    Json *item = js_new_object(), *sequence = member(root, "sequence");
    js_set_integer(item, "index", (int64_t)js_count(sequence));
    js_set_text(item, "type", type);
    js_set_text(item, "entity", id);
    js_push(sequence, item);
}

/* Returns the sketch's (empty) profiles. */
static inline Json *add_sketch(Json *root, const char *id, Vec3 origin, Vec3 x, Vec3 y, Vec3 z) {
    Json *sketch = js_new_object(), *transform = js_new_object();
    js_set(transform, "origin", point_json(origin.x, origin.y, origin.z));
    js_set(transform, "x_axis", point_json(x.x, x.y, x.z));
    js_set(transform, "y_axis", point_json(y.x, y.y, y.z));
    js_set(transform, "z_axis", point_json(z.x, z.y, z.z));
    js_set_text(sketch, "type", "Sketch");
    js_set_text(sketch, "name", id);
    js_set(sketch, "transform", transform);
    js_set(sketch, "profiles", js_new_object());
    js_set(sketch, "reference_plane", js_new_object());
    js_set(member(root, "entities"), id, sketch);
    add_to_sequence(root, id, "Sketch");
    return member(sketch, "profiles");
}

/* Returns the curves of a new loop of that profile; is_outer is true as in every real file. */
static inline Json *add_loop(Json *profiles, const char *profile_id) {
    Json *profile = member(profiles, profile_id);
    if (!profile) {
        profile = js_new_object();
        js_set(profile, "loops", js_new_array());
        js_set(profile, "properties", js_new_object());
        js_set(profiles, profile_id, profile);
    }
    Json *loop = js_new_object();
    js_set_bool(loop, "is_outer", true);
    js_set(loop, "profile_curves", js_new_array());
    js_push(member(profile, "loops"), loop);
    return member(loop, "profile_curves");
}

static inline Json *extent_json(double value) {
    Json *extent = js_new_object(), *distance = js_new_object(), *taper = js_new_object();
    js_set_number(distance, "value", value);
    js_set_number(taper, "value", 0);
    js_set(extent, "distance", distance);
    js_set(extent, "taper_angle", taper);
    js_set_text(extent, "type", "DistanceExtentDefinition");
    return extent;
}

/* Returns the feature's (empty) list of profiles. */
static inline Json *add_extrude(Json *root, const char *id, const char *operation, const char *type,
                                double one, double two) {
    Json *feature = js_new_object(), *start = js_new_object();
    js_set_text(start, "type", "ProfilePlaneStartDefinition");
    js_set_text(feature, "type", "ExtrudeFeature");
    js_set(feature, "start_extent", start);
    js_set_text(feature, "operation", operation);
    js_set_text(feature, "extent_type", type);
    js_set(feature, "extent_one", extent_json(one));
    js_set(feature, "extent_two", extent_json(two));
    js_set(feature, "profiles", js_new_array());
    js_set(member(root, "entities"), id, feature);
    add_to_sequence(root, id, "ExtrudeFeature");
    return member(feature, "profiles");
}

static inline void use_profile(Json *profiles, const char *sketch, const char *profile) {
    Json *reference = js_new_object();
    js_set_text(reference, "sketch", sketch);
    js_set_text(reference, "profile", profile);
    js_push(profiles, reference);
}

static const Vec3 right = {1, 0, 0}, up = {0, 0, 1}, front = {0, -1, 0};

#define NEW_BODY  "NewBodyFeatureOperation"
#define JOIN      "JoinFeatureOperation"
#define CUT       "CutFeatureOperation"
#define ONE_SIDE  "OneSideFeatureExtentType"
#define SYMMETRIC "SymmetricFeatureExtentType"
#define TWO_SIDES "TwoSidesFeatureExtentType"

/* A slotted plate 40 × 30 × 20 mm with a hole and a second body; on its end face a cut; on its
 * right side a boss. Curves are listed in either direction, as real files have them. */
static inline Json *part_file(void) {
    Json *root = empty_file();
    Json *profiles = add_sketch(root, "S0", vec3(0, 0, 0), right, up, front);
    Json *hole = add_loop(profiles, "P0");
    add_circle(hole, -0.02, 0.015, 0.00525);
    Json *outline = add_loop(profiles, "P0");
    add_line(outline, -0.04, 0, 0, 0);
    add_line(outline, 0, 0.03, 0, 0);
    add_arc(outline, -0.02, 0.03, 0.02, 0, M_PI, true);
    add_line(outline, -0.04, 0, -0.04, 0.03);
    add_circle(add_loop(profiles, "P1"), 0.02, 0.01, 0.004);
    Json *uses = add_extrude(root, "E0", NEW_BODY, ONE_SIDE, 0.02, 0);
    use_profile(uses, "S0", "P0");
    use_profile(uses, "S0", "P1");

    profiles = add_sketch(root, "S1", vec3(0, -0.02, 0), right, up, front);
    add_circle(add_loop(profiles, "P"), -0.02, 0.015, 0.01);
    use_profile(add_extrude(root, "E1", CUT, SYMMETRIC, -0.002, 0), "S1", "P");

    profiles = add_sketch(root, "S2", vec3(0, -0.01, 0.015), vec3(0, 1, 0), up, right);
    add_circle(add_loop(profiles, "P"), 0, 0, 0.003);
    use_profile(add_extrude(root, "E2", JOIN, TWO_SIDES, -0.005, 0.007), "S2", "P");

    add_sketch(root, "S3", vec3(0, 0, 0), right, up, front);
    return root;
}

#endif
