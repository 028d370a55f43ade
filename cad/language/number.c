/* Numbers as text. The numpy style follows the behaviour of numpy 1.26 and 2: FloatingFormat with
 * floatmode "maxprec", precision 8, for arrays that were rounded to four decimals. It is checked
 * against numpy itself by a table made with tools/make_number_golden.py. */
#include "cad/language/number.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NUMPY_PRECISION = 8, /* most decimals of array2string */
    PLACES = 4,          /* that code is rounded to */
    ANGLE_PLACES = 6,
    ELEMENTS_MAX = 3
};

double number_round(double x, int places) {
    double scale = pow(10, places);
    double scaled = x * scale;
    return isfinite(scaled) ? rint(scaled) / scale : x;
}

int number_shortest(double x, char digits[18]) {
    char text[40];
    /* Any 15 digits come back; the fewest are those without their trailing zeros. Numbers near zero
     * have less than 15. */
    for (int precision = fabs(x) < DBL_MIN ? 0 : 14; precision <= 16; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, fabs(x));
        if (strtod(text, NULL) == fabs(x)) break;
    }
    char *exponent = strchr(text, 'e');
    int count = 0;
    for (char *c = text; c < exponent; c++)
        if (*c != '.') digits[count++] = *c;
    while (count > 1 && digits[count - 1] == '0') count--;
    digits[count] = 0;
    return atoi(exponent + 1);
}

/* `places` decimals without trailing zeros; numpy keeps the point ("50."), plain drops it. */
static void fixed(char out[NUMBER_TEXT_SIZE], double x, int places, bool keep_point) {
    int used = snprintf(out, NUMBER_TEXT_SIZE, "%.*f", places, x);
    while (out[used - 1] == '0') used--;
    if (out[used - 1] == '.' && !keep_point) used--;
    out[used] = 0;
}

/* The shortest digits, as Python's repr writes them: an exponent outside 1e-4 … 1e16. */
static void python_repr(char out[NUMBER_TEXT_SIZE], double x) {
    if (x == 0) {
        snprintf(out, NUMBER_TEXT_SIZE, "%s", signbit(x) ? "-0.0" : "0.0");
        return;
    }
    char digits[18];
    int exponent = number_shortest(x, digits), count = (int)strlen(digits);
    const char *sign = x < 0 ? "-" : "";
    if (exponent < -4 || exponent >= 16)
        snprintf(out, NUMBER_TEXT_SIZE, "%s%c%s%se%c%02d", sign, digits[0], count > 1 ? "." : "",
                 digits + 1, exponent < 0 ? '-' : '+', abs(exponent));
    else
        snprintf(out, NUMBER_TEXT_SIZE, "%s%.*f", sign,
                 count - 1 - exponent > 1 ? count - 1 - exponent : 1, fabs(x));
}

/* numpy's rule for the whole array: 1e8 or more, below 1e-4, or more than a factor 1000 apart. */
static bool is_scientific(const double *x, int count) {
    double largest = 0, smallest = INFINITY;
    for (int i = 0; i < count; i++) {
        if (x[i] == 0) continue;
        largest = fmax(largest, fabs(x[i]));
        smallest = fmin(smallest, fabs(x[i]));
    }
    if (largest == 0) return false;
    return largest >= 1e8 || smallest < 1e-4 || largest / smallest > 1000;
}

/* The decimals that x needs in scientific notation, at most NUMPY_PRECISION. */
static int scientific_decimals(double x) {
    char digits[18];
    if (x == 0) return 0;
    number_shortest(x, digits);
    if ((int)strlen(digits) <= 1 + NUMPY_PRECISION) return (int)strlen(digits) - 1;
    char rounded[40];
    snprintf(rounded, sizeof rounded, "%.*e", NUMPY_PRECISION, x);
    char *last = strchr(rounded, 'e') - 1;
    int decimals = NUMPY_PRECISION;
    for (; decimals > 0 && *last == '0'; last--) decimals--;
    return decimals;
}

/* "-1.25e+03": the point is always there, the exponent has two digits or more. */
static void scientific(char out[NUMBER_TEXT_SIZE], double x, int decimals) {
    int used = snprintf(out, NUMBER_TEXT_SIZE, "%.*e", decimals, x);
    if (decimals > 0) return;
    char *exponent = strchr(out, 'e');
    memmove(exponent + 1, exponent, (size_t)(out + used - exponent) + 1);
    *exponent = '.';
}

static int before_point(const char *text) {
    return (int)(strchr(text, '.') - text);
}

/* The length of the exponent after "e", with its sign. */
static int exponent_size(const char *text) {
    const char *e = strchr(text, 'e');
    return e ? (int)strlen(e + 1) : 0;
}

/* Positional numbers are padded to common widths left and right of the point; scientific ones have
 * the same number of decimals, exponents of the same length, and are padded on the left. */
static void numpy_array(Buf *out, const double *values, int count) {
    double x[ELEMENTS_MAX];
    char text[ELEMENTS_MAX][NUMBER_TEXT_SIZE];
    CHECK(count <= ELEMENTS_MAX, "%d elements", count);
    for (int i = 0; i < count; i++) x[i] = number_round(values[i], PLACES);
    bool exponents = is_scientific(x, count);
    int decimals = 0, left = 0, right = 0, exponent = 0;
    for (int i = 0; exponents && i < count; i++)
        decimals = (int)fmax(decimals, scientific_decimals(x[i]));
    for (int i = 0; i < count; i++) {
        if (exponents)
            scientific(text[i], x[i], decimals);
        else
            fixed(text[i], x[i], PLACES, true);
        left = (int)fmax(left, before_point(text[i]));
        right = (int)fmax(right, (int)strlen(text[i]) - before_point(text[i]));
        exponent = (int)fmax(exponent, exponent_size(text[i]));
    }
    for (int i = 0; i < count; i++) {
        char *e = strchr(text[i], 'e');
        int zeros = e ? exponent - exponent_size(text[i]) : 0;
        int pad_right = right - ((int)strlen(text[i]) - before_point(text[i])) - zeros;
        buf_format(out, "%s%*s", i ? ", " : "[", left - before_point(text[i]), "");
        if (e)
            buf_format(out, "%.*s%.*s%s", (int)(e + 2 - text[i]), text[i], zeros, "00", e + 2);
        else
            buf_format(out, "%s%*s", text[i], pad_right, "");
    }
    buf_text(out, "]");
}

void number_text(Buf *out, double x, CodeNumbers style) {
    char text[NUMBER_TEXT_SIZE];
    double rounded = number_round(x, PLACES);
    switch (style) {
    case CODE_NUMPY:
        if (is_scientific(&rounded, 1))
            scientific(text, rounded, scientific_decimals(rounded));
        else
            fixed(text, rounded, PLACES, true);
        break;
    case CODE_PLAIN: fixed(text, rounded == 0 ? 0 : rounded, PLACES, false); break;
    case CODE_EXACT: python_repr(text, x); break;
    }
    buf_text(out, text);
}

void numbers_text(Buf *out, const double *x, int count, CodeNumbers style) {
    if (style == CODE_NUMPY) {
        numpy_array(out, x, count);
        return;
    }
    for (int i = 0; i < count; i++) {
        buf_text(out, i ? ", " : "[");
        number_text(out, x[i], style);
    }
    buf_text(out, "]");
}

void angle_text(Buf *out, double angle, CodeNumbers style) {
    static const struct {
        double times, over;
        const char *text;
    } fractions[] = {{1, 1, "np.pi"},     {1, 2, "np.pi/2"},   {1, 3, "np.pi/3"},
                     {1, 4, "np.pi/4"},   {1, 6, "np.pi/6"},   {2, 1, "2*np.pi"},
                     {3, 2, "3*np.pi/2"}, {3, 4, "3*np.pi/4"}, {5, 6, "5*np.pi/6"},
                     {5, 3, "5*np.pi/3"}, {7, 6, "7*np.pi/6"}, {4, 3, "4*np.pi/3"}};
    double tolerance = style == CODE_EXACT ? 0 : 1e-10;
    for (size_t i = 0; i < sizeof fractions / sizeof *fractions; i++) {
        double value = fractions[i].times * M_PI / fractions[i].over;
        if (fabs(fabs(angle) - value) > tolerance) continue;
        buf_format(out, "%s%s", angle < 0 ? "-" : "", fractions[i].text);
        return;
    }
    char text[NUMBER_TEXT_SIZE];
    if (style == CODE_PLAIN)
        fixed(text, number_round(angle, ANGLE_PLACES), ANGLE_PLACES, false);
    else
        python_repr(text, style == CODE_EXACT ? angle : number_round(angle, ANGLE_PLACES));
    buf_text(out, text);
}
