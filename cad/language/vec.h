/* Arithmetic of points and vectors. */
#ifndef CADVLM_CAD_LANGUAGE_VEC_H
#define CADVLM_CAD_LANGUAGE_VEC_H

#include <math.h>

#include "cad/language/program.h"

static inline Vec2 vec2_sub(Vec2 a, Vec2 b) {
    return vec2(a.x - b.x, a.y - b.y);
}
static inline double vec2_dot(Vec2 a, Vec2 b) {
    return a.x * b.x + a.y * b.y;
}
/* The z of a × b: positive where b lies to the left of a. */
static inline double vec2_cross(Vec2 a, Vec2 b) {
    return a.x * b.y - a.y * b.x;
}
static inline double vec2_distance(Vec2 a, Vec2 b) {
    return hypot(a.x - b.x, a.y - b.y);
}
static inline bool vec2_finite(Vec2 a) {
    return isfinite(a.x) && isfinite(a.y);
}

static inline Vec3 vec3_add(Vec3 a, Vec3 b) {
    return vec3(a.x + b.x, a.y + b.y, a.z + b.z);
}
static inline Vec3 vec3_sub(Vec3 a, Vec3 b) {
    return vec3(a.x - b.x, a.y - b.y, a.z - b.z);
}
static inline Vec3 vec3_scale(Vec3 a, double s) {
    return vec3(a.x * s, a.y * s, a.z * s);
}
static inline double vec3_dot(Vec3 a, Vec3 b) {
    return a.x * b.x + a.y * b.y + a.z * b.z;
}
static inline Vec3 vec3_cross(Vec3 a, Vec3 b) {
    return vec3(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}
static inline double vec3_length(Vec3 a) {
    return sqrt(vec3_dot(a, a));
}
static inline bool vec3_finite(Vec3 a) {
    return isfinite(a.x) && isfinite(a.y) && isfinite(a.z);
}

#endif
