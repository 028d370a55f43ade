/* Numbers as people read them. */
#include <math.h>

#include "report/report_internal.h"

double json_number(const Json *object, const char *key) {
    double value;
    return js_number(js_get(object, key), &value) ? value : (double)NAN;
}

void put_number(Buf *out, double value, int decimals, const char *unit) {
    if (!isfinite(value))
        buf_text(out, "–");
    else if (fabs(value) >= 1e15)
        buf_format(out, "%.3g%s", value, unit);
    else
        buf_format(out, "%.*f%s", decimals, value, unit);
}

void put_duration(Buf *out, double seconds) {
    if (!(seconds >= 0 && seconds < 1e9)) {
        buf_text(out, "–");
        return;
    }
    long s = lround(seconds);
    if (s >= 3600)
        buf_format(out, "%ld h %ld min", s / 3600, s / 60 % 60);
    else if (s >= 60)
        buf_format(out, "%ld min %ld s", s / 60, s % 60);
    else
        buf_format(out, "%.1f s", seconds);
}
