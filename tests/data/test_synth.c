/* Synthetic parts: valid, varied, and the same for the same number. */
#include "cad/language/code.h"
#include "data/synth/synth.h"
#include "tests/support/test.h"

TEST(every_family_draws_programs_that_read_back) {
    for (int family = 0; family < synth_family_count(); family++)
        for (uint64_t index = 0; index < 300; index++)
            for (int convention = 0; convention < 2; convention++) {
                CadProgram program, again;
                Buf code = {0}, second = {0};
                ASSERT_OK(synth_part(&program, 1, index, family, (SynthConvention)convention));
                code_emit(&code, &program, CODE_PLAIN);
                ASSERT_OK(code_parse(&again, code.data, code.size, synth_families[family], NULL));
                code_emit(&second, &again, CODE_PLAIN);
                ASSERT_TEXT(buf_cstr(&code), buf_cstr(&second));
                buf_free(&code);
                buf_free(&second);
                program_free(&program);
                program_free(&again);
            }
}

static void widen_box(Vec3 *low, Vec3 *high, Vec3 p) {
    low->x = fmin(low->x, p.x), low->y = fmin(low->y, p.y), low->z = fmin(low->z, p.z);
    high->x = fmax(high->x, p.x), high->y = fmax(high->y, p.y), high->z = fmax(high->z, p.z);
}

/* The box of what is added, by the points of its sketches (circles by their radius); enough for
 * parts square to the axes. */
static void sketch_box(const CadProgram *program, Vec3 *low, Vec3 *high) {
    *low = vec3(1e9, 1e9, 1e9);
    *high = vec3(-1e9, -1e9, -1e9);
    for (int i = 0; i < program->count; i++) {
        const Extrude *e = &program->extrudes[i];
        if (e->op == OP_CUT) continue;
        for (int k = 0; k < e->loops[0].count; k++) {
            const Curve *c = &e->loops[0].curves[k];
            Vec2 points[4] = {c->start, c->end, c->mid, c->start};
            if (c->kind == CURVE_LINE) points[2] = c->start;
            if (c->kind == CURVE_CIRCLE)
                for (int q = 0; q < 4; q++)
                    points[q] = vec2(c->center.x + (q == 0) * c->radius - (q == 1) * c->radius,
                                     c->center.y + (q == 2) * c->radius - (q == 3) * c->radius);
            for (int q = 0; q < 4; q++) {
                Vec3 p = plane_point(&e->plane, points[q]), n = e->plane.normal;
                widen_box(low, high, p);
                widen_box(low, high,
                          vec3(p.x + n.x * e->extent_one, p.y + n.y * e->extent_one,
                               p.z + n.z * e->extent_one));
            }
        }
    }
}

static int distinct(double *values, int count) {
    int found = 0;
    for (int i = 0; i < count; i++) {
        int seen = 0;
        for (int j = 0; j < i && !seen; j++) seen = fabs(values[i] - values[j]) < 1e-6;
        found += !seen;
    }
    return found;
}

TEST(no_dimension_of_a_family_has_fewer_than_fifty_values) {
    enum { PARTS = 1500 };
    static double sizes[3][PARTS];
    for (int family = 0; family < synth_family_count(); family++) {
        for (int i = 0; i < PARTS; i++) {
            CadProgram program;
            Vec3 low, high;
            ASSERT_OK(synth_part(&program, 2, (uint64_t)i, family, SYNTH_CORNER));
            sketch_box(&program, &low, &high);
            ASSERT(fabs(low.x) < 1e-6 && fabs(low.y) < 1e-6 && fabs(low.z) < 1e-6,
                   "%s %d starts at %g %g %g", synth_families[family], i, low.x, low.y, low.z);
            sizes[0][i] = high.x, sizes[1][i] = high.y, sizes[2][i] = high.z;
            program_free(&program);
        }
        for (int axis = 0; axis < 3; axis++) {
            int values = distinct(sizes[axis], PARTS);
            printf("%s: %d values along %c\n", synth_families[family], values, 'x' + axis);
            ASSERT_INT(values, >=, 50);
        }
    }
}

TEST(centred_parts_are_the_same_parts_moved) {
    for (uint64_t index = 0; index < 200; index++) {
        CadProgram corner, centred;
        Vec3 low_a, high_a, low_b, high_b;
        ASSERT_OK(synth_part(&corner, 3, index, -1, SYNTH_CORNER));
        ASSERT_OK(synth_part(&centred, 3, index, -1, SYNTH_CENTRED));
        sketch_box(&corner, &low_a, &high_a);
        sketch_box(&centred, &low_b, &high_b);
        ASSERT_NEAR(low_b.x, -high_b.x, 1e-6);
        ASSERT_NEAR(low_b.y, -high_b.y, 1e-6);
        ASSERT_NEAR(high_b.x - low_b.x, high_a.x, 1e-6);
        ASSERT_NEAR(high_b.z, high_a.z, 1e-6);
        program_free(&corner);
        program_free(&centred);
    }
}

TEST(a_part_is_a_function_of_seed_and_index) {
    for (uint64_t index = 0; index < 50; index++) {
        CadProgram a, b, other;
        ASSERT_OK(synth_part(&a, 4, index, -1, SYNTH_CORNER));
        ASSERT_OK(synth_part(&b, 4, index, -1, SYNTH_CORNER));
        ASSERT_OK(synth_part(&other, 5, index, -1, SYNTH_CORNER));
        ASSERT_TRUE(program_hash(&a) == program_hash(&b));
        ASSERT_TRUE(program_hash(&a) != program_hash(&other));
        program_free(&a);
        program_free(&b);
        program_free(&other);
    }
}
