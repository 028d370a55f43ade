// Sets of intervals on a line, as sorted lists.
#ifndef CADVLM_CAD_DRAWING_SPANS_HPP
#define CADVLM_CAD_DRAWING_SPANS_HPP

#include <algorithm>
#include <vector>

namespace cad {

struct Span {
    double from, to;
};
using Spans = std::vector<Span>;

// Sorts and joins what overlaps or lies at most `gap` apart.
inline void join_spans(Spans *spans, double gap) {
    std::sort(spans->begin(), spans->end(),
              [](const Span &a, const Span &b) { return a.from < b.from; });
    size_t kept = 0;
    for (const Span &span : *spans) {
        if (kept && span.from <= (*spans)[kept - 1].to + gap)
            (*spans)[kept - 1].to = std::max((*spans)[kept - 1].to, span.to);
        else
            (*spans)[kept++] = span;
    }
    spans->resize(kept);
}

// What two joined sets have in common.
inline Spans common_spans(const Spans &a, const Spans &b) {
    Spans out;
    for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
        double from = std::max(a[i].from, b[j].from), to = std::min(a[i].to, b[j].to);
        if (from < to) out.push_back({from, to});
        if (a[i].to < b[j].to)
            i++;
        else
            j++;
    }
    return out;
}

// What of `whole` a joined set leaves, without pieces of at most `least`.
inline void cut_spans(Span whole, const Spans &cut, double least, Spans *out) {
    double from = whole.from;
    for (const Span &span : cut) {
        if (span.from - from > least) out->push_back({from, std::min(span.from, whole.to)});
        from = std::max(from, span.to);
        if (from >= whole.to) return;
    }
    if (whole.to - from > least) out->push_back({from, whole.to});
}

inline void drop_short_spans(Spans *spans, double least) {
    spans->erase(std::remove_if(spans->begin(), spans->end(),
                                [&](const Span &s) { return s.to - s.from <= least; }),
                 spans->end());
}

} // namespace cad

#endif
