/* The strokes of each figure, on a grid ten high. */
#include "cad/drawing/lettering.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { GRID = 10, PIECES_MAX = 8 };
#define SPACING    2.0  /* between figures, of ten */
#define STROKE     0.11 /* of the height; ISO 3098 type B has a tenth */
#define ARC_CHORDS 24   /* a whole turn */

typedef enum PieceKind { END, MOVE, LINE, ARC } PieceKind;

/* MOVE and LINE: to (x, y). ARC: about (x, y) with radii (rx, ry), from an angle to another, in
 * degrees; joined to what is before it by a line, unless it opens the figure. */
typedef struct Piece {
    PieceKind kind;
    double x, y, rx, ry, from, to;
} Piece;

typedef struct Letter {
    const char *name; /* UTF-8 */
    double width;
    Piece pieces[PIECES_MAX];
} Letter;

static const Letter letters[] = {
    {"0", 6, {{ARC, 3, 7, 3, 3, 0, 180}, {ARC, 3, 3, 3, 3, 180, 360}, {LINE, .x = 6, .y = 7}}},
    {"1", 3, {{MOVE, .x = 0, .y = 7.3}, {LINE, .x = 2.6, .y = 10}, {LINE, .x = 2.6, .y = 0}}},
    {"2", 6, {{ARC, 3, 7, 3, 3, 165, -40}, {LINE, .x = 0, .y = 0}, {LINE, .x = 6, .y = 0}}},
    {"3", 6, {{ARC, 2.9, 7.55, 2.7, 2.45, 155, -90}, {ARC, 2.9, 2.55, 3.1, 2.55, 90, -155}}},
    {"4",
     6,
     {{MOVE, .x = 4.6, .y = 0},
      {LINE, .x = 4.6, .y = 10},
      {LINE, .x = 0, .y = 2.8},
      {LINE, .x = 6.4, .y = 2.8}}},
    {"5",
     6,
     {{MOVE, .x = 5.6, .y = 10},
      {LINE, .x = 0.9, .y = 10},
      {LINE, .x = 0.45, .y = 5.4},
      {ARC, 2.8, 3.2, 3.2, 3.2, 137, -148}}},
    {"6", 6, {{ARC, 5.6, 3.2, 5.6, 6.8, 98, 180}, {ARC, 3, 3, 3, 3, 180, 540}}},
    {"7", 6, {{MOVE, .x = 0, .y = 10}, {LINE, .x = 6, .y = 10}, {LINE, .x = 2, .y = 0}}},
    {"8", 6, {{ARC, 3, 7.6, 2.6, 2.4, -90, 270}, {ARC, 3, 2.6, 3, 2.6, 90, -270}}},
    {"9", 6, {{ARC, 0.4, 6.8, 5.6, 6.8, -82, 0}, {ARC, 3, 7, 3, 3, 0, 360}}},
    {".",
     1.4,
     {{MOVE, .x = 0.3, .y = 0},
      {LINE, .x = 1.1, .y = 0},
      {LINE, .x = 1.1, .y = 0.8},
      {LINE, .x = 0.3, .y = 0.8},
      {LINE, .x = 0.3, .y = 0}}},
    {"-", 4, {{MOVE, .x = 0, .y = 4.5}, {LINE, .x = 4, .y = 4.5}}},
    {"R",
     6,
     {{MOVE, .x = 0, .y = 0},
      {LINE, .x = 0, .y = 10},
      {ARC, 3.2, 7.5, 2.6, 2.5, 90, -90},
      {LINE, .x = 0, .y = 5},
      {MOVE, .x = 3, .y = 5},
      {LINE, .x = 6, .y = 0}}},
    {"⌀", 8, {{ARC, 4, 5, 3.6, 3.6, 0, 360}, {MOVE, .x = 1, .y = 0}, {LINE, .x = 7, .y = 10}}},
};

/* The letter at the start of `text`, and how many bytes it takes; NULL for one that is not there.
 */
static const Letter *letter_at(const char *text, size_t *bytes) {
    for (size_t i = 0; i < sizeof letters / sizeof letters[0]; i++) {
        *bytes = strlen(letters[i].name);
        if (strncmp(text, letters[i].name, *bytes) == 0) return &letters[i];
    }
    *bytes = 1;
    return NULL;
}

static void draw_arc(const LetterPen *pen, const Piece *arc, bool start, double x, double scale) {
    int chords = (int)ceil(fabs(arc->to - arc->from) / 360 * ARC_CHORDS);
    for (int i = 0; i <= chords; i++) {
        double angle = (arc->from + (arc->to - arc->from) * i / chords) * M_PI / 180;
        pen->point(pen->context, start && i == 0, x + scale * (arc->x + arc->rx * cos(angle)),
                   scale * (arc->y + arc->ry * sin(angle)));
    }
}

static void draw_letter(const LetterPen *pen, const Letter *letter, double x, double scale) {
    bool start = true;
    for (int i = 0; i < PIECES_MAX && letter->pieces[i].kind != END; i++) {
        const Piece *piece = &letter->pieces[i];
        if (piece->kind == ARC)
            draw_arc(pen, piece, start, x, scale);
        else
            pen->point(pen->context, piece->kind == MOVE, x + scale * piece->x, scale * piece->y);
        start = false;
    }
}

/* Walks along the text; with a NULL pen it only measures. */
static double walk(const LetterPen *pen, const char *text, double height) {
    double scale = height / GRID, x = 0;
    for (size_t bytes; *text; text += bytes) {
        const Letter *letter = letter_at(text, &bytes);
        if (!letter) continue;
        if (pen) draw_letter(pen, letter, x, scale);
        x += scale * (letter->width + SPACING);
    }
    return x > 0 ? x - scale * SPACING : 0;
}

void letter_draw(const LetterPen *pen, const char *text, double height) {
    walk(pen, text, height);
}

double letter_width(const char *text, double height) {
    return walk(NULL, text, height);
}

double letter_stroke(double height) {
    return STROKE * height;
}

void dimension_text(char out[DIMENSION_TEXT_SIZE], double length) {
    snprintf(out, DIMENSION_TEXT_SIZE, "%.2f", length);
    char *end = out + strlen(out);
    while (end[-1] == '0') *--end = 0;
    if (end[-1] == '.') *--end = 0;
    if (strcmp(out, "-0") == 0) snprintf(out, DIMENSION_TEXT_SIZE, "0");
}
