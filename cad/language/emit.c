/* Programs to OpenECAD v2 code, in the layout of the authors' converter: the same blanks, the same
 * line breaks, the same order, so that what is written looks like what their models learnt. */
#include <math.h>

#include "cad/language/code.h"
#include "cad/language/number.h"
#include "core/hash.h"

#define ANGLE_NONE 1e-10 /* a smaller angle is not written */

static void emit_vec2(Buf *out, Vec2 v, CodeNumbers style) {
    numbers_text(out, (double[]){v.x, v.y}, 2, style);
}

static void emit_vec3(Buf *out, Vec3 v, CodeNumbers style) {
    numbers_text(out, (double[]){v.x, v.y, v.z}, 3, style);
}

static void emit_absolute_plane(Buf *out, const Plane *plane, int i, CodeNumbers style) {
    buf_format(out, "SketchPlane%d = add_sketchplane(\n\torigin= ", i);
    emit_vec3(out, plane->origin, style);
    buf_text(out, ", normal= ");
    emit_vec3(out, plane->normal, style);
    buf_text(out, ", x_axis= ");
    emit_vec3(out, plane->x_axis, style);
    buf_text(out, ")\n");
}

/* The authors write "name = " in these lines, but "name= " where a line is referred to, and
 * everywhere else. */
static void emit_plane(Buf *out, const Extrude *extrude, int i, CodeNumbers style) {
    static const char *const types[] = {[PLANE_SAME] = "sameplane",
                                        [PLANE_EXTENT_ONE] = "extent_one",
                                        [PLANE_EXTENT_TWO] = "extent_two",
                                        [PLANE_LINE] = "line"};
    const PlaneRef *ref = &extrude->ref;
    if (ref->kind == PLANE_ABSOLUTE) {
        emit_absolute_plane(out, &extrude->plane, i, style);
        return;
    }
    bool line = ref->kind == PLANE_LINE;
    const char *is = line ? "= " : " = ";
    buf_format(out, "SketchPlane%d = add_sketchplane_ref(\n\tExtrude%d, origin%s", i, ref->extrude,
               is);
    emit_vec2(out, ref->origin, style);
    buf_format(out, ", type%s\"%s\"", is, types[ref->kind]);
    if (line) buf_format(out, ", line= Line%d_%d_%d", ref->extrude, ref->loop, ref->curve);
    if (fabs(ref->angle) > (style == CODE_EXACT ? 0 : ANGLE_NONE)) {
        buf_format(out, ", angle%s", is);
        angle_text(out, ref->angle, style);
    }
    if (ref->reverse) buf_format(out, ", reverse%sTrue", is);
    buf_text(out, ")\n");
}

/* "Line0_0_1 = add_line(start= [0., 0.], end= [ 0. , 50.8])" */
static void emit_curve(Buf *out, const Curve *c, int i, int j, int k, CodeNumbers style) {
    switch (c->kind) {
    case CURVE_LINE:
    case CURVE_ARC:
        buf_format(out, "%s%d_%d_%d = %s(start= ", c->kind == CURVE_LINE ? "Line" : "Arc", i, j, k,
                   c->kind == CURVE_LINE ? "add_line" : "add_arc");
        emit_vec2(out, c->start, style);
        buf_text(out, ", end= ");
        emit_vec2(out, c->end, style);
        if (c->kind == CURVE_ARC) {
            buf_text(out, ", mid= ");
            emit_vec2(out, c->mid, style);
        }
        break;
    case CURVE_CIRCLE:
        buf_format(out, "Circle%d_%d_%d = add_circle(center= ", i, j, k);
        emit_vec2(out, c->center, style);
        buf_text(out, ", radius= ");
        number_text(out, c->radius, style);
        break;
    }
    buf_text(out, ")\n");
}

static void emit_extrude(Buf *out, const Extrude *extrude, int i, CodeNumbers style) {
    emit_plane(out, extrude, i, style);
    buf_format(out, "Loops%d = []\n", i);
    for (int j = 0; j < extrude->loop_count; j++) {
        const Loop *loop = &extrude->loops[j];
        buf_format(out, "Curves%d_%d = []\n", i, j);
        for (int k = 0; k < loop->count; k++) emit_curve(out, &loop->curves[k], i, j, k, style);
        buf_format(out, "Loop%d_%d = add_loop(Curves%d_%d)\n", i, j, i, j);
    }
    buf_format(out, "Profile%d = add_profile(Loops%d)\n", i, i);
    buf_format(out, "Sketch%d = add_sketch(sketch_plane= SketchPlane%d, profile= Profile%d)\n", i,
               i, i);
    buf_format(out, "Extrude%d = add_extrude(sketch= Sketch%d,\n\toperation= %d, type= %d, ", i, i,
               (int)extrude->op, (int)extrude->type);
    buf_text(out, "extent_one= ");
    number_text(out, extrude->extent_one, style);
    buf_text(out, ", extent_two= ");
    number_text(out, extrude->extent_two, style);
    buf_text(out, ")\n");
}

void code_emit(Buf *out, const CadProgram *program, CodeNumbers style) {
    for (int i = 0; i < program->count; i++) emit_extrude(out, &program->extrudes[i], i, style);
}

uint64_t program_hash(const CadProgram *program) {
    Buf text = {0};
    code_emit(&text, program, CODE_PLAIN);
    uint64_t hash = hash_bytes(buf_cstr(&text), text.size);
    buf_free(&text);
    return hash;
}
