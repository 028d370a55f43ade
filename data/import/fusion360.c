/* Tells Fusion 360 designs from DeepCAD's. Files lose keys on their way through other programs, so
 * any one of many will do. */
#include "data/import/fusion360.h"

#include <string.h>

/* The first of `keys` (NULL-ended) that the object has. */
static const char *find_key(const Json *object, const char *const *keys) {
    for (; *keys; keys++)
        if (js_get(object, *keys)) return *keys;
    return NULL;
}

/* DeepCAD's points and vectors are numbers alone; here they say what they are. */
static const char *point_sign(const Json *point) {
    const char *type = js_text(js_get(point, "type"), NULL);
    bool typed = type && (strcmp(type, "Point3D") == 0 || strcmp(type, "Vector3D") == 0);
    return typed ? type : NULL;
}

static const char *curves_sign(const Json *profiles) {
    const char *id, *sign = NULL;
    JsonIter iter = js_iter(profiles);
    for (const Json *profile; !sign && (profile = js_next(&iter, &id));) {
        const Json *loops = js_get(profile, "loops");
        const Json *curves = js_get(js_at(loops, 0), "profile_curves"), *curve = js_at(curves, 0);
        sign = point_sign(js_get(curve, "start_point"));
        if (!sign) sign = point_sign(js_get(curve, "center_point"));
    }
    return sign;
}

static const char *sketch_sign(const Json *sketch) {
    static const char *const keys[] = {"points", "curves", "constraints", "dimensions", NULL};
    const Json *transform = js_get(sketch, "transform");
    const char *sign = find_key(sketch, keys);
    if (!sign) sign = point_sign(js_get(transform, "origin"));
    if (!sign) sign = point_sign(js_get(transform, "x_axis"));
    if (!sign && js_get(js_get(sketch, "reference_plane"), "type")) sign = "reference_plane";
    return sign ? sign : curves_sign(js_get(sketch, "profiles"));
}

static const char *extrude_sign(const Json *feature) {
    static const char *const keys[] = {"faces", "bodies", "extrude_bodies", "extrude_faces", NULL};
    static const char *const whole[] = {"is_full_length", NULL};
    const char *sign = find_key(feature, keys);
    if (!sign) sign = find_key(js_get(feature, "extent_one"), whole);
    return sign ? sign : find_key(js_get(feature, "extent_two"), whole);
}

static const char *file_sign(const Json *root) {
    static const char *const keys[] = {"timeline", NULL};
    static const char *const origins[] = {"parent_project", "component_name", "component_index",
                                          NULL};
    static const char *const measures[] = {"body_count", "face_count", "principal_axes",
                                           "center_of_mass", NULL};
    const char *sign = find_key(root, keys);
    if (!sign) sign = find_key(js_get(root, "metadata"), origins);
    return sign ? sign : find_key(js_get(root, "properties"), measures);
}

/* There is an item for each curve of a sketch. */
static const char *sequence_sign(const Json *sequence) {
    static const char *const keys[] = {"curve", "timeline", NULL};
    return find_key(js_at(sequence, 0), keys);
}

const char *fusion360_sign(const Json *root) {
    const char *id, *sign = file_sign(root);
    if (!sign) sign = sequence_sign(js_get(root, "sequence"));
    JsonIter iter = js_iter(js_get(root, "entities"));
    for (const Json *entity; !sign && (entity = js_next(&iter, &id));) {
        sign = sketch_sign(entity);
        if (!sign) sign = extrude_sign(entity);
    }
    return sign;
}
