/* The families of synthetic parts. Each is a function that draws its dimensions and builds the part
 * with the corner of its bounding box at the origin; `size` comes back so that the caller can move
 * it. */
#include <math.h>

#include "cad/language/code.h"
#include "data/synth/build.h"
#include "data/synth/synth.h"

static const double PI = 3.14159265358979323846;

typedef struct Size {
    double width, depth; /* x, y */
} Size;

/* Overall lengths. */
static double draw_long(Builder *b) {
    return draw_size(b, 40, 120);
}

static double draw_across(Builder *b, double width) {
    return draw_share(b, width, 0.4, 0.95);
}

/* Holes of a plate: none, one, two, four at the corners, or those and one in the middle. */
static void plate_holes(Builder *b, double w, double d) {
    double r = draw_share(b, fmin(w, d), 0.06, 0.11), m = r + draw_share(b, fmin(w, d), 0.06, 0.12);
    int pattern = draw_choice(b, 5);
    if (pattern == 1 || pattern == 4)
        build_circle(b, w / 2, d / 2, draw_share(b, fmin(w, d), 0.08, 0.2));
    if (pattern == 2) {
        build_circle(b, m, d / 2, r);
        build_circle(b, w - m, d / 2, r);
    }
    if (pattern >= 3) {
        build_circle(b, m, m, r);
        build_circle(b, w - m, m, r);
        build_circle(b, w - m, d - m, r);
        build_circle(b, m, d - m, r);
    }
}

static Size plate(Builder *b) {
    double w = draw_long(b), d = draw_across(b, w),
           h = draw_size(b, fmax(5, 0.06 * w), fmax(32, 0.35 * w));
    build_extrude(b, SIDE_TOP, 0, OP_NEW_BODY, h);
    if (draw_chance(b, 0.5))
        build_rounded_rectangle(b, 0, 0, w, d, draw_share(b, d, 0.08, 0.2));
    else
        build_rectangle(b, 0, 0, w, d);
    plate_holes(b, w, d);
    return (Size){w, d};
}

static Size slotted_plate(Builder *b) {
    double w = draw_long(b), d = draw_share(b, w, 0.5, 0.95),
           h = draw_size(b, fmax(5, 0.06 * w), fmax(30, 0.25 * w));
    bool along_y = draw_chance(b, 0.4), two = draw_chance(b, 0.5);
    double room = along_y ? d : w, other = along_y ? w : d;
    double r = draw_share(b, other, 0.06, two ? 0.1 : 0.14), length = draw_share(b, room, 0.3, 0.6);
    build_extrude(b, SIDE_TOP, 0, OP_NEW_BODY, h);
    build_rectangle(b, 0, 0, w, d);
    if (!two) {
        build_slot(b, w / 2, d / 2, length, r, along_y);
    } else {
        double apart = draw_share(b, other, 0.22, 0.28);
        for (int side = -1; side <= 1; side += 2)
            build_slot(b, along_y ? w / 2 + side * apart : w / 2,
                       along_y ? d / 2 : d / 2 + side * apart, length, r, along_y);
    }
    return (Size){w, d};
}

static Size flange(Builder *b) {
    double radius = draw_size(b, 22, 60),
           h = draw_size(b, fmax(5, 0.12 * radius), fmax(30, 0.4 * radius));
    double hub = draw_share(b, radius, 0.4, 0.6),
           bore = draw_chance(b, 0.75) ? draw_share(b, hub, 0.4, 0.75) : 0;
    double rise = draw_size(b, fmax(6, 0.2 * radius), fmax(32, 0.9 * radius));
    static const int counts[] = {0, 3, 4, 6, 8};
    int bolts = counts[draw_choice(b, 5)];
    double bolt = draw_share(b, radius, 0.07, 0.11), circle = tenth((radius + hub) / 2);
    build_extrude(b, SIDE_TOP, 0, OP_NEW_BODY, h);
    build_circle(b, radius, radius, radius);
    if (bore > 0) build_circle(b, radius, radius, bore);
    for (int i = 0; i < bolts; i++) {
        double angle = 2 * PI * i / bolts;
        build_circle(b, radius + tenth(circle * cos(angle)), radius + tenth(circle * sin(angle)),
                     bolt);
    }
    build_extrude(b, SIDE_TOP, h, OP_JOIN, rise);
    build_circle(b, radius, radius, hub);
    if (bore > 0) build_circle(b, radius, radius, bore);
    return (Size){2 * radius, 2 * radius};
}

static Size bracket(Builder *b) {
    double w = draw_size(b, 36, 100), d = draw_share(b, w, 0.5, 1.0),
           t = draw_size(b, fmax(5, 0.08 * w), fmax(30, 0.16 * w));
    double wall = draw_size(b, fmax(5, 0.1 * d), fmax(30, 0.2 * d)),
           rise = draw_size(b, fmax(28, 0.4 * w), fmax(60, w));
    if (t > 0.22 * w) t = floor(0.22 * w);
    if (wall > 0.3 * d) wall = floor(0.3 * d);
    double r = draw_share(b, fmin(w, d), 0.06, 0.1), m = r + draw_share(b, w, 0.06, 0.12);
    bool round_top = draw_chance(b, 0.5), rib = draw_chance(b, 0.4);
    double free_depth = d - wall;

    build_extrude(b, SIDE_TOP, 0, OP_NEW_BODY, t);
    build_rectangle(b, 0, 0, w, d);
    if (draw_chance(b, 0.7) && free_depth > 4 * r) {
        build_circle(b, m, tenth(free_depth / 2), r);
        build_circle(b, w - m, tenth(free_depth / 2), r);
    }
    double eye = draw_share(b, w, 0.1, 0.16);
    build_extrude(b, SIDE_FRONT, d, OP_JOIN, wall);
    if (round_top) {
        double half = draw_share(b, w, 0.28, 0.4), centre = t + fmax(rise - half, half * 0.5);
        build_arch(b, w / 2, t, centre, half);
        if (draw_chance(b, 0.8)) build_circle(b, w / 2, centre, eye);
    } else {
        build_rectangle(b, 0, t, w, t + rise);
        if (draw_chance(b, 0.8)) build_circle(b, w / 2, t + tenth(rise * 0.6), eye);
    }
    if (rib) {
        double thick = draw_share(b, w, 0.08, 0.14), reach = tenth(free_depth * 0.7),
               up = tenth(rise * 0.35);
        double x = tenth((w - thick) / 2);
        build_extrude(b, SIDE_RIGHT, x, OP_JOIN, thick);
        build_polygon(
            b, (const Vec2[]){{free_depth - reach, t}, {free_depth, t}, {free_depth, t + up}}, 3);
    }
    return (Size){w, d};
}

static Size shaft(Builder *b) {
    int steps = 2 + draw_choice(b, 3);
    double length[4] = {0}, radius[4] = {0}, most = 0, at = 0;
    for (int i = 0; i < steps; i++) {
        length[i] = draw_size(b, 12, 120.0 / steps + 8);
        /* Neighbours differ, so that every step is seen. */
        do {
            radius[i] = draw_size(b, 6, 38);
        } while (i > 0 && fabs(radius[i] - radius[i - 1]) < 2);
        most = fmax(most, radius[i]);
    }
    double least = radius[0];
    for (int i = 1; i < steps; i++) least = fmin(least, radius[i]);
    for (int i = 0; i < steps; i++) {
        build_extrude(b, SIDE_RIGHT, at, i ? OP_JOIN : OP_NEW_BODY, length[i]);
        build_circle(b, most, most, radius[i]);
        at += length[i];
    }
    int bore = draw_choice(b, 3); /* none, through, or half-way from the right end */
    if (bore) {
        build_extrude(b, SIDE_RIGHT, at, OP_CUT,
                      bore == 1 ? -at : -tenth(draw_share(b, at, 0.25, 0.6)));
        build_circle(b, most, most, draw_share(b, least, 0.35, 0.65));
    }
    return (Size){at, 2 * most};
}

static Size grooved_block(Builder *b) {
    double w = draw_size(b, 36, 110), d = draw_share(b, w, 0.5, 1.0),
           h = draw_share(b, w, 0.3, 0.75);
    double groove = draw_share(b, w, 0.2, 0.4), deep = draw_share(b, h, 0.25, 0.55);
    build_extrude(b, SIDE_TOP, 0, OP_NEW_BODY, h);
    build_rectangle(b, 0, 0, w, d);
    double left = tenth((w - groove) / 2);
    int kind = draw_choice(b, 3); /* a groove in the middle, a step at the right, or both sides */
    build_extrude(b, SIDE_TOP, h, OP_CUT, -deep);
    if (kind == 0) {
        build_rectangle(b, left, 0, left + groove, d);
    } else {
        build_rectangle(b, w - groove, 0, w, d);
    }
    if (kind == 2) {
        build_extrude(b, SIDE_TOP, h, OP_CUT, -deep);
        build_rectangle(b, 0, 0, tenth(groove / 2), d);
    }
    if (draw_chance(b, 0.6)) {
        double r = draw_share(b, fmin(groove, d), 0.15, 0.3),
               x = kind == 0 ? w / 2 : tenth(w - groove / 2);
        build_extrude(b, SIDE_TOP, 0, OP_CUT, h - deep);
        build_circle(b, x, d / 2, r);
    }
    return (Size){w, d};
}

static Size pocket(Builder *b) {
    double w = draw_size(b, 40, 120), d = draw_share(b, w, 0.55, 1.0),
           h = draw_size(b, fmax(10, 0.15 * w), fmax(36, 0.45 * w));
    double rim_x = draw_share(b, w, 0.14, 0.24), rim_y = draw_share(b, d, 0.14, 0.24),
           floor_h = draw_share(b, h, 0.2, 0.5);
    double corner = draw_share(b, fmin(w - 2 * rim_x, d - 2 * rim_y), 0.1, 0.25);
    build_extrude(b, SIDE_TOP, 0, OP_NEW_BODY, h);
    build_rectangle(b, 0, 0, w, d);
    if (draw_chance(b, 0.4)) {
        double r = tenth(fmin(rim_x, rim_y) * 0.3), m = tenth(fmin(rim_x, rim_y) * 0.5);
        build_circle(b, m, m, r);
        build_circle(b, w - m, m, r);
        build_circle(b, w - m, d - m, r);
        build_circle(b, m, d - m, r);
    }
    build_extrude(b, SIDE_TOP, h, OP_CUT, -(h - floor_h));
    build_rounded_rectangle(b, rim_x, rim_y, w - rim_x, d - rim_y, corner);
    if (draw_chance(b, 0.4)) {
        double r = draw_share(b, fmin(w - 2 * rim_x, d - 2 * rim_y), 0.12, 0.25);
        if (draw_chance(b, 0.5)) {
            build_extrude(b, SIDE_TOP, floor_h, OP_JOIN, tenth((h - floor_h) * 0.6));
            build_circle(b, w / 2, d / 2, r);
        } else {
            build_extrude(b, SIDE_TOP, floor_h, OP_CUT, -floor_h);
            build_circle(b, w / 2, d / 2, r);
        }
    }
    return (Size){w, d};
}

static Size clevis(Builder *b) {
    double w = draw_size(b, 36, 90), ear = draw_size(b, 12, 38), d = 2 * ear,
           base = draw_size(b, fmax(6, 0.1 * w), fmax(31, 0.3 * w));
    double rise = draw_size(b, 0.6 * ear, fmax(26, 1.6 * ear)), gap = draw_share(b, w, 0.35, 0.55),
           eye = draw_share(b, ear, 0.3, 0.6);
    double left = tenth((w - gap) / 2);
    build_extrude(b, SIDE_TOP, 0, OP_NEW_BODY, base);
    build_rectangle(b, 0, 0, w, d);
    build_extrude(b, SIDE_RIGHT, 0, OP_JOIN, w);
    build_arch(b, ear, base, base + rise, ear);
    build_circle(b, ear, base + rise, eye);
    build_extrude(b, SIDE_RIGHT, left, OP_CUT, gap);
    build_rectangle(b, 0, base, d, base + rise + ear);
    return (Size){w, d};
}

static Size ribbed_plate(Builder *b) {
    double w = draw_long(b), d = draw_share(b, w, 0.4, 0.9),
           t = draw_size(b, fmax(5, 0.06 * w), fmax(30, 0.14 * w));
    if (t > 0.25 * w) t = floor(0.25 * w);
    int ribs = 1 + draw_choice(b, 3);
    double thick = draw_share(b, w, 0.07, 0.12), rise = draw_share(b, w, 0.12, 0.5);
    build_extrude(b, SIDE_TOP, 0, OP_NEW_BODY, t);
    build_rectangle(b, 0, 0, w, d);
    for (int i = 0; i < ribs; i++) {
        double x = tenth(w * (i + 1) / (ribs + 1) - thick / 2);
        build_extrude(b, SIDE_TOP, t, OP_JOIN, rise);
        build_rectangle(b, x, 0, x + thick, d);
    }
    return (Size){w, d};
}

static Size link(Builder *b) {
    double r = draw_size(b, 10, 36), length = draw_size(b, 2.2 * r, fmax(2.2 * r + 26, 4.5 * r)),
           h = draw_size(b, 6, 36);
    double eye = draw_share(b, r, 0.35, 0.65);
    if (h > r) h = floor(r);
    build_extrude(b, SIDE_TOP, 0, OP_NEW_BODY, h);
    build_slot(b, r + length / 2, r, length, r, false);
    build_circle(b, r, r, eye);
    build_circle(b, r + length, r, eye);
    if (draw_chance(b, 0.5)) {
        double rise = draw_size(b, 4, fmax(29, 0.8 * r)), boss = tenth((r + eye) / 2);
        bool both = draw_chance(b, 0.5);
        for (int i = 0; i < 1 + both; i++) {
            build_extrude(b, SIDE_TOP, h, OP_JOIN, rise);
            build_circle(b, r + i * length, r, boss);
            build_circle(b, r + i * length, r, eye);
        }
    }
    return (Size){2 * r + length, 2 * r};
}

static Size hexagon(Builder *b) {
    double side = draw_size(b, 18, 56), h = draw_size(b, 8, 60),
           bore = draw_share(b, side, 0.3, 0.6);
    double flat =
        tenth(side * sqrt(3.0)); /* across flats, along y; 2 · side across corners, along x */
    Vec2 corners[6] = {{tenth(side / 2), 0},        {tenth(side * 1.5), 0},
                       {2 * side, tenth(flat / 2)}, {tenth(side * 1.5), flat},
                       {tenth(side / 2), flat},     {0, tenth(flat / 2)}};
    build_extrude(b, SIDE_TOP, 0, OP_NEW_BODY, h);
    build_polygon(b, corners, 6);
    build_circle(b, side, tenth(flat / 2), bore);
    if (draw_chance(b, 0.5)) {
        build_extrude(b, SIDE_TOP, h, OP_JOIN, draw_size(b, 5, 31));
        build_circle(b, side, tenth(flat / 2), tenth(bore + (side * 0.82 - bore) * 0.6));
        build_circle(b, side, tenth(flat / 2), bore);
    }
    return (Size){2 * side, flat};
}

static Size boss_block(Builder *b) {
    double w = draw_size(b, 36, 110), d = draw_share(b, w, 0.6, 1.0),
           t = draw_size(b, fmax(6, 0.1 * w), fmax(31, 0.4 * w));
    double r = draw_share(b, d, 0.2, 0.38),
           rise = draw_size(b, fmax(6, 0.1 * w), fmax(31, 0.6 * w));
    build_extrude(b, SIDE_TOP, 0, OP_NEW_BODY, t);
    if (draw_chance(b, 0.5))
        build_rounded_rectangle(b, 0, 0, w, d, draw_share(b, d, 0.08, 0.2));
    else
        build_rectangle(b, 0, 0, w, d);
    double x = draw_chance(b, 0.6) ? w / 2 : tenth(w - d / 2);
    build_extrude(b, SIDE_TOP, t, OP_JOIN, rise);
    build_circle(b, x, d / 2, r);
    if (draw_chance(b, 0.7)) {
        bool through = draw_chance(b, 0.6);
        build_extrude(b, SIDE_TOP, t + rise, OP_CUT, through ? -(t + rise) : -tenth(rise * 0.7));
        build_circle(b, x, d / 2, draw_share(b, r, 0.35, 0.65));
    }
    return (Size){w, d};
}

static Size profile_bar(Builder *b) {
    double w = draw_size(b, 30, 80), h = draw_share(b, w, 0.6, 1.1), d = draw_size(b, 30, 120),
           t = draw_share(b, fmin(w, h), 0.14, 0.26);
    double middle = tenth((w - t) / 2);
    build_extrude(b, SIDE_FRONT, d, OP_NEW_BODY, d);
    switch (draw_choice(b, 4)) {
    case 0: /* L */
        build_polygon(b, (const Vec2[]){{0, 0}, {w, 0}, {w, t}, {t, t}, {t, h}, {0, h}}, 6);
        break;
    case 1: /* U */
        build_polygon(
            b,
            (const Vec2[]){{0, 0}, {w, 0}, {w, h}, {w - t, h}, {w - t, t}, {t, t}, {t, h}, {0, h}},
            8);
        break;
    case 2: /* T, upside down */
        build_polygon(b,
                      (const Vec2[]){{0, 0},
                                     {w, 0},
                                     {w, t},
                                     {middle + t, t},
                                     {middle + t, h},
                                     {middle, h},
                                     {middle, t},
                                     {0, t}},
                      8);
        break;
    default: /* Z */
        build_polygon(b,
                      (const Vec2[]){{0, 0},
                                     {middle + t, 0},
                                     {middle + t, h - t},
                                     {w, h - t},
                                     {w, h},
                                     {middle, h},
                                     {middle, t},
                                     {0, t}},
                      8);
    }
    return (Size){w, d};
}

/* What is cut from stock: a block, a disc, or a round bar that lies along x. */
static Size stock(Builder *b) {
    int kind = draw_choice(b, 3);
    if (kind == 0) {
        double w = draw_long(b), d = draw_share(b, w, 0.3, 1), h = draw_share(b, w, 0.1, 1);
        build_extrude(b, SIDE_TOP, 0, OP_NEW_BODY, h);
        build_rectangle(b, 0, 0, w, d);
        return (Size){w, d};
    }
    double length = kind == 1 ? draw_size(b, 6, 80) : draw_long(b), r = draw_size(b, 12, 50);
    build_extrude(b, kind == 1 ? SIDE_TOP : SIDE_RIGHT, 0, OP_NEW_BODY, length);
    build_circle(b, r, r, r);
    return (Size){kind == 1 ? 2 * r : length, 2 * r};
}

static Size (*const draw_family[])(Builder *) = {
    plate,  slotted_plate, flange, bracket, shaft,      grooved_block, pocket,
    clevis, ribbed_plate,  link,   hexagon, boss_block, profile_bar,   stock};
const char *const synth_families[] = {"plate",        "slotted_plate", "flange",  "bracket",
                                      "shaft",        "grooved_block", "pocket",  "clevis",
                                      "ribbed_plate", "link",          "hexagon", "boss_block",
                                      "profile_bar",  "stock",         NULL};
enum { FAMILY_COUNT = sizeof draw_family / sizeof draw_family[0], TRIES = 50 };

int synth_family_count(void) {
    return FAMILY_COUNT;
}

/* Loops start and turn as the parser leaves them: through the text and back. */
static Err canonical(CadProgram *program) {
    Buf code = {0};
    code_emit(&code, program, CODE_PLAIN);
    program_free(program);
    Err err = code_parse(program, code.data, code.size, "synth", NULL);
    buf_free(&code);
    return err;
}

Err synth_part(CadProgram *program, uint64_t seed, uint64_t index, int family,
               SynthConvention convention) {
    CHECK(family < FAMILY_COUNT, "family %d", family);
    Rng rng;
    rng_open(&rng, seed, RNG_SYNTH, index);
    int drawn = family < 0 ? (int)rng_below(&rng, FAMILY_COUNT) : family;
    for (int attempt = 0; attempt < TRIES; attempt++) {
        *program = (CadProgram){0};
        Rng again = rng;
        Builder b = {.program = program, .rng = &rng};
        Size size = draw_family[drawn](&b);
        if (convention == SYNTH_CENTRED && !b.failed) {
            /* The same numbers once more, now moved to the middle. */
            program_free(program);
            *program = (CadProgram){0};
            b = (Builder){.program = program,
                          .rng = &again,
                          .offset_x = -size.width / 2,
                          .offset_y = -size.depth / 2};
            draw_family[drawn](&b);
        }
        if (!b.failed && canonical(program) == OK) {
            for (int i = 1; i < program->count; i++) program_find_reference(program, i);
            if (program_validate(program) == OK) return OK;
        }
        err_clear();
        program_free(program);
    }
    FAIL(ERR_INPUT, "family %s: no valid part in %d tries (seed %llu, index %llu)",
         synth_families[drawn], TRIES, (unsigned long long)seed, (unsigned long long)index);
}

DrawStyle synth_style(const DrawStyle *base, uint64_t seed, uint64_t index, double shift) {
    DrawStyle style = *base;
    Rng rng;
    rng_open(&rng, seed, RNG_STYLE, index);
    double weight = 0.8 + 0.5 * rng_uniform(&rng); /* all lines together, then each a little */
    style.visible_width *= weight * (0.9 + 0.2 * rng_uniform(&rng));
    style.hidden_width *= weight * (0.9 + 0.2 * rng_uniform(&rng));
    style.thin_width *= weight * (0.9 + 0.2 * rng_uniform(&rng));
    style.dash_on *= 0.85 + 0.3 * rng_uniform(&rng);
    style.dash_off *= 0.85 + 0.3 * rng_uniform(&rng);
    style.ink *= 0.7 + 0.3 * rng_uniform(&rng);
    style.shift_x += shift * (2 * rng_uniform(&rng) - 1);
    style.shift_y += shift * (2 * rng_uniform(&rng) - 1);
    return style;
}
