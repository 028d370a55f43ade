/* Two drawings of one view, line against line; and whether a view's outline is closed. */
#ifndef CADVLM_TESTS_CAD_LINE_COMPARE_H
#define CADVLM_TESTS_CAD_LINE_COMPARE_H

#include "cad/drawing/hidden_lines.h"
#include "cad/language/vec.h"
#include "tests/support/test.h"

/* Lines as short straight pieces. */
typedef struct Piece {
    Vec2 from, to;
} Piece;

typedef struct Pieces {
    Piece *items;
    int count;
} Pieces;

static inline void pieces_add(Pieces *pieces, Vec2 from, Vec2 to) {
    pieces->items = realloc(pieces->items, (size_t)(pieces->count + 1) * sizeof *pieces->items);
    pieces->items[pieces->count++] = (Piece){from, to};
}

static inline void pieces_add_arc(Pieces *pieces, const Stroke *arc) {
    enum { PER_TURN = 720 };
    int count = 1 + (int)(arc->sweep * PER_TURN / (2 * M_PI));
    Vec2 before = {0};
    for (int i = 0; i <= count; i++) {
        double angle = arc->start + arc->sweep * i / count;
        Vec2 at = vec2(arc->center.x + arc->radius * cos(angle),
                       arc->center.y + arc->radius * sin(angle));
        if (i > 0) pieces_add(pieces, before, at);
        before = at;
    }
}

/* Of the strokes whose kinds are in the set `kinds` (bits 1 << StrokeKind). */
static inline Pieces pieces_of(const ViewLines *lines, unsigned kinds) {
    Pieces pieces = {0};
    for (int i = 0; i < lines->stroke_count; i++) {
        const Stroke *stroke = &lines->strokes[i];
        if (!(kinds & 1u << stroke->kind)) continue;
        if (stroke->shape == STROKE_SEGMENT) pieces_add(&pieces, stroke->from, stroke->to);
        if (stroke->shape == STROKE_ARC) pieces_add_arc(&pieces, stroke);
        for (int k = 0; stroke->shape == STROKE_PATH && k + 1 < stroke->count; k++)
            pieces_add(&pieces, lines->points[stroke->first + k],
                       lines->points[stroke->first + k + 1]);
    }
    return pieces;
}

static inline bool piece_is_near(const Piece *piece, Vec2 p, double distance) {
    Vec2 along = vec2_sub(piece->to, piece->from), off = vec2_sub(p, piece->from);
    double length2 = vec2_dot(along, along);
    double share = length2 > 0 ? vec2_dot(off, along) / length2 : 0;
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    Vec2 rest = vec2(off.x - share * along.x, off.y - share * along.y);
    return vec2_dot(rest, rest) <= distance * distance;
}

static inline double pieces_length(Pieces pieces) {
    double length = 0;
    for (int i = 0; i < pieces.count; i++)
        length += vec2_distance(pieces.items[i].from, pieces.items[i].to);
    return length;
}

/* The length of `lines` farther than `distance` from every one of `others`. */
static inline double length_away(Pieces lines, Pieces others, double distance) {
    double away = 0;
    for (int i = 0; i < lines.count; i++) {
        const Piece *piece = &lines.items[i];
        double length = vec2_distance(piece->from, piece->to);
        int steps = 1 + (int)(length / distance);
        for (int k = 0; k < steps; k++) {
            double share = (k + 0.5) / steps;
            Vec2 p = vec2(piece->from.x + share * (piece->to.x - piece->from.x),
                          piece->from.y + share * (piece->to.y - piece->from.y));
            bool found = false;
            for (int j = 0; j < others.count && !found; j++)
                found = piece_is_near(&others.items[j], p, distance);
            if (!found) away += length / steps;
        }
    }
    return away;
}

/* Lengths of a view's lines: all, and those that the other drawing has not (or has otherwise). */
typedef struct LineShares {
    double visible, hidden; /* of the reference */
    double missing;         /* visible there, not here */
    double dashed;          /* of these: hidden here */
    double extra;           /* visible here, not there */
    double hidden_missing;  /* hidden there, not drawn here at all */
    double hidden_extra;    /* hidden here, not drawn there at all */
} LineShares;

static inline LineShares compare_lines(const ViewLines *lines, const ViewLines *reference,
                                       double distance) {
    const unsigned visible = 1u << STROKE_VISIBLE, hidden = 1u << STROKE_HIDDEN;
    Pieces ours[3], theirs[3];
    unsigned kinds[3] = {visible, hidden, visible | hidden};
    for (int i = 0; i < 3; i++) {
        ours[i] = pieces_of(lines, kinds[i]);
        theirs[i] = pieces_of(reference, kinds[i]);
    }
    LineShares shares = {
        .visible = pieces_length(theirs[0]),
        .hidden = pieces_length(theirs[1]),
        .missing = length_away(theirs[0], ours[0], distance),
        .extra = length_away(ours[0], theirs[0], distance),
        .hidden_missing = length_away(theirs[1], ours[2], distance),
        .hidden_extra = length_away(ours[1], theirs[2], distance),
    };
    shares.dashed = shares.missing - length_away(theirs[0], ours[2], distance);
    for (int i = 0; i < 3; i++) {
        free(ours[i].items);
        free(theirs[i].items);
    }
    return shares;
}

#endif
