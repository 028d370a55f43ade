/* Samples over the length limit, in words; see the header. */
#include "eval/overlong.h"

void overlong_add(OverlongCount *total, OverlongCount more) {
    total->samples += more.samples;
    total->overlong += more.overlong;
    if (more.longest > total->longest) total->longest = more.longest;
}

/* OVERLONG_ERROR leaves none to report. */
static const char *outcome(Overlong policy, bool training) {
    if (policy == OVERLONG_TRUNCATE)
        return "their programs are cut and have no end (training.overlong: truncate)";
    return training ? "others of their dataset take their places (training.overlong: drop)"
                    : "they are left out (training.overlong: drop)";
}

void overlong_text(Buf *out, OverlongCount count, const BatchesOptions *options, bool training) {
    buf_format(
        out, "%lld of %lld sample%s too long (up to %lld rows, training.max_length is %d); %s",
        (long long)count.overlong, (long long)count.samples, count.samples == 1 ? " is" : "s are",
        (long long)count.longest, options->max_length, outcome(options->overlong, training));
}
