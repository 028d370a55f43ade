/* Numbers as text: as numpy prints them, as short as possible, or exactly. */
#ifndef CADVLM_CAD_LANGUAGE_NUMBER_H
#define CADVLM_CAD_LANGUAGE_NUMBER_H

#include "cad/language/code.h"

enum { NUMBER_TEXT_SIZE = 400 }; /* the longest double without an exponent, and a little more */

/* Rounds to `places` decimals as numpy's round does: to even, through a scaled integer. */
double number_round(double x, int places);

/* The fewest significant digits that read back to the same double, as "d.ddde±x" has them. Writes
 * the digits without a point into `digits` (18 bytes) and returns the decimal exponent of the
 * first. x must be finite and not zero; its sign is left out. */
int number_shortest(double x, char digits[18]);

/* One number. CODE_NUMPY: array2string of a scalar rounded to four decimals ("50.8", "0.");
 * CODE_PLAIN: at most four decimals, no trailing zeros, no minus zero ("50", "-0.7071");
 * CODE_EXACT: the shortest text that reads back to the same double. */
void number_text(Buf *out, double x, CodeNumbers style);

/* "[a, b, c]". CODE_NUMPY pads the elements to a common width and switches all of them to
 * scientific notation by numpy's rule (array2string with precision 8). */
void numbers_text(Buf *out, const double *x, int count, CodeNumbers style);

/* An angle: a fraction of np.pi where it is one of the common ones ("-np.pi/2"), else six decimals
 * as Python prints them ("0.523599", "-2.0"), or exactly. */
void angle_text(Buf *out, double angle, CodeNumbers style);

#endif
