/* Single-stroke lettering for dimensions, after ISO 3098 type B: so that no system font is involved
 * and every machine draws the same picture. */
#ifndef CADVLM_CAD_DRAWING_LETTERING_H
#define CADVLM_CAD_DRAWING_LETTERING_H

#include <stdbool.h>

/* Where the strokes go: `start` begins a new stroke at (x, y), else it goes on to there. x runs
 * along the line of text from its left end, y up from the foot of the figures. */
typedef struct LetterPen {
    void (*point)(void *context, bool start, double x, double y);
    void *context;
} LetterPen;

/* Digits, '.', '-', 'R' and '⌀' (UTF-8); what is not there is left out. Heights and widths are in
 * the same unit, between the middles of the outermost strokes. */
void letter_draw(const LetterPen *pen, const char *text, double height);
double letter_width(const char *text, double height);

/* How thick a stroke ought to be for figures of that height. */
double letter_stroke(double height);

enum { DIMENSION_TEXT_SIZE = 32 };

/* A length as the shortest decimal of at most two places: 100, 72, 12.5. */
void dimension_text(char out[DIMENSION_TEXT_SIZE], double length);

#endif
